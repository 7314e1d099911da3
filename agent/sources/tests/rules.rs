//! What rules leave out: other file systems, marked directories, caches, large files.
//!
//! What must hold: a marked directory and its mark are kept and nothing else of it; what
//! was named itself is wanted, whatever marks it; a tag without its signature is a file
//! like any other; what the host cannot prepare is said.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent_sources::Rules;
use agent_sources::directory::DirectorySource;
use agent_sources::tree::{TreeOptions, restore_tree};
use memory_vault::MemoryVault;
use vault_format::point::PointRoot;
use vault_ops::OpsError;

const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";

fn files(names: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in names {
        let path = dir.path().join("docs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn below(top: &Path, at: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.strip_prefix(top).unwrap().to_path_buf());
        if path.is_dir() {
            below(top, &path, found);
        }
    }
}

/// The paths that come back, below the one that was named.
async fn restored(top: &Path, rules: Rules) -> BTreeSet<PathBuf> {
    let mut vault = MemoryVault::default();
    let paths = [top.to_path_buf()];
    let mut source = DirectorySource::new("docs", &paths, Vec::new()).unwrap().with_rules(rules).unwrap();
    let reading = vault.read(&mut source).unwrap();
    assert_eq!(reading.unreadable, []);
    let PointRoot::Tree(root) = &reading.root else { panic!("a tree") };
    let target = tempfile::tempdir().unwrap();
    let point = vault.point(reading.root.clone());
    restore_tree(&point, root, target.path(), TreeOptions { sync: false, ..TreeOptions::default() }).await.unwrap();
    let (top, mut found) = (target.path().join(top.file_name().unwrap()), BTreeSet::new());
    below(&top, &top, &mut found);
    found
}

fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

#[tokio::test]
async fn a_mark_leaves_out_what_lies_beside_it() {
    let dir = files(&[
        ("a/.nobackup", ""),
        ("a/b/c", "x"),
        ("a/d", "x"),
        ("e/f", "x"),
        ("e/not.nobackup", ""),
        (".nosync", ""),
    ]);
    let top = dir.path().join("docs");
    let rules = Rules { if_present: vec![".nobackup".into(), ".nosync".into()], ..Rules::default() };
    let expected = paths(&[".nosync", "a", "a/.nobackup", "e", "e/f", "e/not.nobackup"]);
    assert_eq!(restored(&top, rules).await, expected, "what is named is wanted, though it is marked");
    assert_eq!(restored(&top, Rules::default()).await.len(), 9, "without the rule all of it is there");
}

#[tokio::test]
async fn a_cache_is_known_by_the_signature_of_its_tag() {
    let signed = format!("{SIGNATURE}\n# made by a test\n");
    let dir = files(&[
        ("cache/CACHEDIR.TAG", signed.as_str()),
        ("cache/x/y", "x"),
        ("short/CACHEDIR.TAG", &SIGNATURE[..42]),
        ("short/x", "x"),
        ("other/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc56"),
        ("other/x", "x"),
        ("folder/CACHEDIR.TAG/x", "x"),
    ]);
    let top = dir.path().join("docs");
    fs::create_dir(top.join("linked")).unwrap();
    std::os::unix::fs::symlink("../cache/CACHEDIR.TAG", top.join("linked/CACHEDIR.TAG")).unwrap();
    fs::write(top.join("linked/x"), "x").unwrap();
    let found = restored(&top, Rules { caches: true, ..Rules::default() }).await;
    let is_there = |name: &str| found.contains(Path::new(name));
    assert!(is_there("cache/CACHEDIR.TAG") && !is_there("cache/x"), "{found:?}");
    for kept in ["short/x", "other/x", "folder/CACHEDIR.TAG/x", "linked/x"] {
        assert!(is_there(kept), "{kept}: {found:?}");
    }
}

#[tokio::test]
async fn larger_files_are_left_out_and_nothing_else() {
    let dir = files(&[("a/ten", "0123456789"), ("a/eleven", "01234567890"), ("nothing", "")]);
    let top = dir.path().join("docs");
    std::os::unix::fs::symlink("x".repeat(300), top.join("long link")).unwrap();
    let found = restored(&top, Rules { larger_than: Some(10), ..Rules::default() }).await;
    assert_eq!(found, paths(&["a", "a/ten", "nothing"]).into_iter().chain(["long link".into()]).collect());
}

#[tokio::test]
async fn another_file_system_is_an_empty_directory() {
    let dir = files(&[("here", "x"), ("there/hidden", "x")]);
    let top = dir.path().join("docs");
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(top.join("there")).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !mount(&["-t", "tmpfs", "tmpfs"]) {
        eprintln!("note: this user may not mount, one file system only is not tested");
        return;
    }
    fs::write(top.join("there/on the other"), "x").unwrap();
    let (one, all, named) = (
        restored(&top, Rules { one_file_system: true, ..Rules::default() }).await,
        restored(&top, Rules::default()).await,
        restored(&top.join("there"), Rules { one_file_system: true, ..Rules::default() }).await,
    );
    let unmounted = Command::new("umount").arg(top.join("there")).status().unwrap().success();
    assert!(unmounted);
    assert_eq!(one, paths(&["here", "there"]));
    assert_eq!(all, paths(&["here", "there", "there/on the other"]));
    assert_eq!(named, paths(&["on the other"]), "its own file system is the one of the path named");
}

#[test]
fn a_mark_that_is_no_name_is_refused() {
    for wrong in ["", ".", "..", "a/b"] {
        let source = DirectorySource::new("docs", &["/".into()], Vec::new()).unwrap();
        let rules = Rules { if_present: vec![wrong.into()], ..Rules::default() };
        assert!(matches!(source.with_rules(rules), Err(OpsError::Refused { .. })), "{wrong:?}");
    }
}
