//! Configurations that are accepted, and configurations that are refused with the exact
//! text a person reads: `testdata/bad/NAME.toml` and `NAME.txt`.
//!
//! After a deliberate change of the texts: `BLESS=1 cargo test -p holdfast-config`, then
//! read the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use config::{
    Attached, Compression, Config, Encoding, Keep, KernelAt, Scenario, Schedule, Scheme, SecretFrom, SourceKind, Span,
};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().unwrap() == "toml").collect();
    files.sort();
    files
}

#[test]
fn good_files_are_accepted() {
    let files = files("good");
    assert!(files.len() >= 5);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        Config::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

#[test]
fn bad_files_are_refused_with_their_text() {
    let files = files("bad");
    assert!(files.len() >= 40, "{}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let error = match Config::parse(&text) {
            Err(error) => format!("{error}\n"),
            Ok(_) => "accepted\n".to_owned(),
        };
        // What stands behind this word in a file is the secret of the story.
        for secret in text.split('"').filter(|value| value.contains("VERYSECRET")) {
            assert!(!error.contains(secret), "{}: {error}", file.display());
        }
        let expected = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &error).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != error {
            wrong.push(format!("{}: {error}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The sample of the documentation, and what becomes of each of its lines.
#[test]
fn the_sample_means_what_it_says() {
    let config = Config::parse(include_str!("../testdata/good/sample.toml")).unwrap();
    let vault = &config.vaults["home"];
    assert_eq!(vault.encoding, Encoding { data: 5, total: 9 });
    assert_eq!((vault.survive_domains, vault.pack_leaves_max), (1, 64));
    assert_eq!(vault.trash, Duration::from_hours(7 * 24));
    assert_eq!(vault.keys, Path::new("/var/lib/holdfast/keys/home"));
    let names: Vec<&str> = config.locations_of(vault).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b2", "nas", "usb"]);

    let nas = &config.locations["nas"];
    assert_eq!(nas.scheme, Scheme::File("/srv/nas/holdfast".into()));
    assert_eq!((nas.domain.as_str(), nas.attached), ("house", Attached::Always));
    let b2 = &config.locations["b2"];
    assert_eq!(b2.scheme, Scheme::S3);
    assert_eq!(b2.credentials, Some(SecretFrom::File("/etc/holdfast/b2".into())));
    assert_eq!(config.locations["usb"].attached, Attached::Sometimes);

    let memory = &config.sources["memory"];
    assert_eq!((memory.rpo, memory.rto), (Some(Duration::from_secs(1)), Some(Duration::from_mins(5))));
    let socket = KernelAt::Socket("/run/holdfast/kernel.sock".into());
    assert_eq!(memory.kind, SourceKind::Kernel { at: socket, token: None });

    let policy = &config.policies["offsite"];
    assert_eq!((policy.vault.as_str(), policy.source.as_str()), ("home", "docs"));
    assert_eq!(policy.schedule, Schedule::Daily);
    let keep = Keep {
        daily: 14,
        weekly: 8,
        monthly: 12,
        within: Some(Span { hours: 48, ..Span::default() }),
        within_yearly: Some(Span { years: 10, ..Span::default() }),
        tags: vec![vec!["release".to_owned(), "signed".to_owned()]],
        ..Keep::default()
    };
    assert_eq!(policy.keep, Some(keep));
    let admin = SecretFrom::Command(["pass", "show", "b2-admin"].map(str::to_owned).to_vec());
    assert_eq!(config.locations["b2"].admin_credentials, Some(admin));
    let often = config.policies["memory"].schedule;
    assert_eq!(often.interval(), Duration::from_secs(30));

    let drill = &config.drills["monthly-loss"];
    assert_eq!((drill.scenario, drill.drop[0].as_str()), (Scenario::LocationLoss, "b2"));
    assert_eq!(config.web.unwrap().listen.port(), 8467);
}

/// Limits of all and of one location, in bytes a second.
#[test]
fn limits_are_bytes_a_second_and_compression_is_per_source() {
    let config = Config::parse(include_str!("../testdata/good/limits.toml")).unwrap();
    assert_eq!((config.upload_limit, config.download_limit), (Some(20 << 20), Some(3 << 29)));
    let (a, b) = (&config.locations["a"], &config.locations["b"]);
    assert_eq!((a.upload_limit, a.download_limit), (None, None));
    assert_eq!((b.upload_limit, b.download_limit), (Some(500_000), Some(8 << 20)));
    assert_eq!(config.sources["pictures"].compression, Some(Compression::Off));
    assert_eq!(config.sources["years"].compression, Some(Compression::MAX));
}

proptest! {
    /// Whatever is done to a file, the answer is a plan or an error with a line, no panic.
    #[test]
    fn a_mangled_file_is_a_plan_or_an_error(
        start in 0..1_300_usize,
        length in 0..40_usize,
        instead in prop_oneof!["[a-z0-9=\"{}\\[\\].\n -]{0,20}", "\\PC{0,8}"],
    ) {
        let sample = include_str!("../testdata/good/sample.toml");
        let start = start.min(sample.len());
        let end = (start + length).min(sample.len());
        let text = format!("{}{instead}{}", &sample[..start], &sample[end..]);
        if let Err(error) = Config::parse(&text) {
            let line = error.line().unwrap();
            prop_assert!((1..=text.lines().count() + 1).contains(&line), "{error}");
        }
    }
}
