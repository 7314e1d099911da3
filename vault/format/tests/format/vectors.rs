//! The checked-in vectors are the samples, byte for byte: the stored format cannot change by accident.
//!
//! After a wanted change (a new record, never a new field) write them again with
//! `HOLDFAST_WRITE_VECTORS=1 cargo test -p holdfast-vault-format --test format`, and read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::decoders;
use crate::negatives::{self, ERRORS};
use crate::samples::{self, hex};

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Compares a file with what it must hold, or writes it if asked.
fn pinned(name: &str, wanted: &str) {
    let path = testdata().join(name);
    if std::env::var_os("HOLDFAST_WRITE_VECTORS").is_some() {
        fs::write(&path, wanted).expect("testdata can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let line = found.lines().zip(wanted.lines()).position(|(found, wanted)| found != wanted);
    assert!(found == wanted, "{name} differs from the program, first at line {line:?}: stored bytes changed");
}

/// One JSON value per line, so that a change shows as its line.
fn lines(values: &[Value]) -> String {
    let body: Vec<String> = values.iter().map(Value::to_string).collect();
    format!("[\n{}\n]\n", body.join(",\n"))
}

fn hex_file(bytes: &[u8]) -> String {
    bytes.chunks(48).map(|line| hex(line) + "\n").collect()
}

#[test]
fn the_checked_in_bytes_are_the_programs() {
    let mut index = Vec::new();
    for sample in samples::all() {
        let file = format!("{}.hex", sample.name);
        pinned(&file, &hex_file(&sample.bytes));
        index.push(json!({
            "name": sample.name, "file": file, "decoder": sample.decoder, "described_under": sample.heading,
            "bytes": sample.bytes.len(), "fields": sample.fields,
        }));
    }
    pinned("positive.json", &lines(&index));
    let known: BTreeSet<_> = samples::all().iter().map(|sample| sample.name.clone()).collect();
    for entry in fs::read_dir(testdata()).expect("testdata is there") {
        let name = entry.expect("testdata can be listed").file_name().into_string().expect("a plain name");
        let Some(stem) = name.strip_suffix(".hex") else { continue };
        assert!(known.contains(stem), "{name} belongs to no sample");
    }
}

#[test]
fn the_checked_in_negatives_are_the_programs() {
    let all: Vec<Value> = negatives::all()
        .iter()
        .map(|n| {
            json!({
                "name": n.name, "decoder": n.decoder, "base": n.base, "at": n.cut.start, "remove": n.cut.len(),
                "insert": hex(&n.insert), "error": n.error,
            })
        })
        .collect();
    pinned("negative.json", &lines(&all));
}

#[test]
fn every_sample_reads_back_to_the_same_bytes() {
    for sample in samples::all() {
        let Some(decoder) = sample.decoder else { continue };
        let again = decoders::named(decoder)(&sample.bytes);
        assert_eq!(again.as_deref(), Ok(&sample.bytes[..]), "{}", sample.name);
    }
}

#[test]
fn every_negative_fails_in_its_named_way() {
    let bases: BTreeMap<_, _> = samples::all().into_iter().map(|sample| (sample.name, sample.bytes)).collect();
    let mut names = BTreeSet::new();
    for negative in negatives::all() {
        let bytes = negative.bytes(&bases[negative.base]);
        let found = decoders::named(negative.decoder)(&bytes);
        let name = found.as_ref().map_or_else(vault_format::FormatError::name, |_| "accepted");
        assert_eq!(name, negative.error, "{}: {found:?}", negative.name);
        assert!(names.insert(negative.name.clone()), "{} stands twice", negative.name);
    }
}

#[test]
fn negatives_reach_every_decoder_and_every_error() {
    let all = negatives::all();
    for (decoder, _) in decoders::all() {
        assert!(all.iter().any(|negative| negative.decoder == *decoder), "no negative for {decoder}");
    }
    for error in ERRORS {
        assert!(all.iter().any(|negative| negative.error == error), "no negative gives {error}");
    }
    // What each fixed layout can get wrong, it does.
    let expected: &[(&str, &[&str])] = &[
        (
            "shard H0",
            &["truncated", "trailing", "magic", "version", "suite", "critical-flag", "reserved", "range", "unassigned"],
        ),
        (
            "shard header",
            &["truncated", "trailing", "magic", "version", "suite", "critical-flag", "reserved", "range", "unassigned"],
        ),
        ("shard trailer", &["truncated", "trailing", "magic", "reserved", "check"]),
        ("table of contents", &["truncated", "reserved", "range", "unassigned"]),
        ("index section", &["truncated", "trailing", "reserved", "unassigned"]),
        ("locator", &["truncated", "trailing", "reserved", "range"]),
        (
            "envelope",
            &["truncated", "trailing", "magic", "version", "suite", "critical-flag", "reserved", "range", "unassigned"],
        ),
        (
            "journal header",
            &["truncated", "trailing", "magic", "version", "suite", "critical-flag", "reserved", "range", "unassigned"],
        ),
        ("marker", &["truncated", "trailing", "magic"]),
        ("VaultRecord", &["not-canonical", "range", "unassigned", "suite"]),
        ("Content", &["not-canonical", "range"]),
        ("Listing", &["not-canonical", "range"]),
    ];
    for (decoder, errors) in expected {
        let found: BTreeSet<_> = all.iter().filter(|n| n.decoder == *decoder).map(|n| n.error).collect();
        assert_eq!(found, errors.iter().copied().collect(), "{decoder}");
    }
}
