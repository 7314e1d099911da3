//! A command's output, or any reader, as one stream, and back into a file.
//!
//! What must hold: a command that fails, is killed or cannot be started makes no point
//! and the error has its code and its last words; complaints never block it; a forged
//! name or a wrong hash leaves nothing in the target.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::fs;
use std::io::{self, Cursor, Read};

use agent_sources::stream::{StreamSource, restore_stream, write_stream};
use memory_vault::MemoryVault;
use vault_format::Hash;
use vault_format::point::{PointRoot, StreamRoot};
use vault_ops::OpsError;
use vault_ops::source::{Source, StreamHash};

/// What `seq 1 last` prints.
fn count_to(last: u32) -> String {
    let lines: Vec<String> = (1..=last).map(|number| number.to_string()).collect();
    lines.join("\n") + "\n"
}

fn shell(script: &str) -> StreamSource {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    StreamSource::of_command("dump", "dump.sql", argv).unwrap()
}

fn stored(source: &mut StreamSource) -> (MemoryVault, StreamRoot) {
    let mut vault = MemoryVault::default();
    let reading = vault.read(source).unwrap();
    let PointRoot::Stream(root) = reading.root else { panic!("a stream") };
    (vault, root)
}

fn fails(mut source: StreamSource) -> String {
    match MemoryVault::default().read(&mut source) {
        Err(error @ OpsError::Source { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_command_prints_comes_back_as_a_file() {
    // Far more complaints than a pipe holds: nobody waits for nobody.
    let (vault, root) = stored(&mut shell("yes warning | head -c 300000 >&2; seq 1 100000"));
    let expected = count_to(100_000);
    let mut hash = StreamHash::default();
    hash.add(expected.as_bytes());
    assert_eq!((root.hash, root.content.bytes), (hash.finish(), expected.len() as u64));
    let target = tempfile::tempdir().unwrap();
    let point = vault.point(PointRoot::Stream(root.clone()));
    let bytes = restore_stream(&point, &root, &target.path().join("new")).await.unwrap();
    assert_eq!(bytes, expected.len() as u64);
    assert_eq!(fs::read_to_string(target.path().join("new/dump.sql")).unwrap(), expected);
    let mut out = Vec::new();
    write_stream(&point, &root, &mut out).await.unwrap();
    assert_eq!(out, expected.as_bytes());
    assert!(restore_stream(&point, &root, &target.path().join("new")).await.is_err(), "it is not empty any more");
}

#[test]
fn a_command_that_fails_makes_no_point_and_says_why() {
    let said = fails(shell("echo half; echo first >&2; echo 'no such table: \\033[2J' >&2; exit 3"));
    assert!(said.contains("code 3") && said.contains("no point") && said.contains("first | no such table"), "{said}");
    assert!(!said.contains('\u{1b}'), "nothing of it rules a terminal: {said:?}");
    let said = fails(shell("echo half; kill -9 $$"));
    assert!(said.contains("signal 9"), "{said}");
    let said = fails(StreamSource::of_command("dump", "dump", vec!["/no/such/program".to_owned()]).unwrap());
    assert!(said.contains("/no/such/program") && said.contains("could not be started"), "{said}");
    let said = fails(shell("seq 1 50 >&2; exit 1"));
    assert!(said.contains("46 | 47 | 48 | 49 | 50") && !said.contains("45"), "the last lines: {said}");
    assert!(StreamSource::of_command("dump", "dump", Vec::new()).is_err());
}

/// A command that leaves somebody behind who holds its complaints open is not waited for.
#[test]
fn what_a_command_leaves_behind_is_not_waited_for() {
    let said = fails(shell("echo last >&2; sleep 30 >/dev/null & exit 7"));
    assert!(said.contains("code 7") && said.contains("last"), "{said}");
}

#[test]
fn a_reader_that_fails_or_was_read_makes_no_point() {
    struct Breaks;
    impl Read for Breaks {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the pipe broke"))
        }
    }
    let broken = Cursor::new(b"half of it").chain(Breaks);
    let mut source = StreamSource::of_reader("stdin", "stdin", Box::new(broken)).unwrap();
    let error = MemoryVault::default().read(&mut source).unwrap_err().to_string();
    assert!(error.contains("the pipe broke"), "{error}");
    let again = MemoryVault::default().read(&mut source).unwrap_err().to_string();
    assert!(again.contains("cannot be read again"), "{again}");
    assert_eq!(source.name(), "stdin");
}

#[tokio::test]
async fn a_forged_name_or_hash_leaves_nothing() {
    let (vault, root) = stored(&mut shell("echo a line"));
    let point = vault.point(PointRoot::Stream(root.clone()));
    let around = tempfile::tempdir().unwrap();
    let target = around.path().join("target");
    for name in ["", ".", "..", "../outside", "/etc/outside", "a/b", "a\0b", &"n".repeat(256)] {
        let forged = StreamRoot { name: name.to_owned(), ..root.clone() };
        let refused = restore_stream(&point, &forged, &target).await;
        assert!(matches!(refused, Err(OpsError::Corrupt { .. })), "{name:?}: {refused:?}");
        assert!(StreamSource::of_command("dump", name, vec!["true".to_owned()]).is_err(), "{name:?}");
    }
    let forged = StreamRoot { hash: Hash([1; 32]), ..root };
    assert!(matches!(restore_stream(&point, &forged, &target).await, Err(OpsError::Corrupt { .. })));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
}
