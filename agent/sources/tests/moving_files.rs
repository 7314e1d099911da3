//! Files that vanish, change or fail while they are backed up cost themselves,
//! are named, and cost nothing else.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use agent_sources::directory::DirectorySource;
use agent_sources::tree::{TreeOptions, TreeReport, restore_tree};
use memory_vault::MemoryVault;
use vault_format::point::PointRoot;
use vault_ops::OpsError;
use vault_ops::source::Reading;

/// Backs `paths` up while `meanwhile` is called before each content is read.
fn read_while(paths: &[PathBuf], meanwhile: impl FnMut(u64) + Send + 'static) -> (MemoryVault, Reading) {
    let mut vault = MemoryVault::default();
    vault.before_read = Some(Box::new(meanwhile));
    let reading = vault.read(&mut DirectorySource::new("docs", paths, Vec::new()).unwrap()).unwrap();
    (vault, reading)
}

async fn restored(vault: &MemoryVault, reading: &Reading) -> (tempfile::TempDir, TreeReport) {
    let PointRoot::Tree(root) = &reading.root else { panic!("a tree") };
    let target = tempfile::tempdir().unwrap();
    let point = vault.point(reading.root.clone());
    let report = restore_tree(&point, root, target.path(), TreeOptions::default()).await.unwrap();
    (target, report)
}

fn files(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join("docs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    dir
}

fn unreadable(reading: &Reading, below: &Path) -> Vec<String> {
    let short = |path: &str| path.strip_prefix(below.to_str().unwrap()).unwrap_or(path).to_owned();
    reading.unreadable.iter().map(|one| short(&one.path)).collect()
}

#[tokio::test]
async fn a_file_and_a_directory_that_vanish_are_named_and_the_rest_is_there() {
    let dir = files(&["a", "b", "c/inner", "d/x", "d/y", "e"]);
    let top = dir.path().join("docs");
    let gone = top.clone();
    let (vault, reading) = read_while(std::slice::from_ref(&top), move |count| match count {
        0 => {
            fs::remove_file(gone.join("b")).unwrap();
            fs::remove_dir_all(gone.join("c")).unwrap();
        }
        // While the first file of d is read, all of d goes.
        1 => fs::remove_dir_all(gone.join("d")).unwrap(),
        _ => {}
    });
    assert_eq!(unreadable(&reading, &top), ["/b", "/c", "/d/y"]);
    let (target, _) = restored(&vault, &reading).await;
    for name in ["a", "d/x", "e"] {
        assert_eq!(fs::read_to_string(target.path().join("docs").join(name)).unwrap(), name);
    }
    assert!(!target.path().join("docs/b").exists() && !target.path().join("docs/c").exists());
}

#[tokio::test]
async fn a_file_that_grows_shrinks_or_is_rewritten_is_stored_and_marked() {
    let dir = files(&["grows", "rewritten", "same", "shrinks"]);
    let top = dir.path().join("docs");
    fs::File::open(top.join("rewritten")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let at = top.clone();
    let (vault, reading) = read_while(std::slice::from_ref(&top), move |count| match count {
        0 => fs::OpenOptions::new().append(true).open(at.join("grows")).unwrap().write_all(b" and grows").unwrap(),
        1 => fs::write(at.join("rewritten"), b"other bit").unwrap(),
        3 => fs::write(at.join("shrinks"), b"shr").unwrap(),
        _ => {}
    });
    assert_eq!(unreadable(&reading, &top), ["/grows", "/rewritten", "/shrinks"]);
    assert!(reading.unreadable[0].why.contains("changed while it was read"), "{:?}", reading.unreadable);
    let (target, report) = restored(&vault, &reading).await;
    let read = |name: &str| fs::read_to_string(target.path().join("docs").join(name)).unwrap();
    assert_eq!(
        [read("grows"), read("same"), read("shrinks")],
        ["grows", "same", "shr"],
        "as much as was there at first"
    );
    let marked: Vec<&str> = report.inexact.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(marked, ["docs/grows", "docs/rewritten", "docs/shrinks"]);
}

/// Whatever a name held when another was read, each gets the bytes it has now.
#[tokio::test]
async fn a_name_that_gets_another_file_is_not_taken_for_the_old_one() {
    let dir = files(&["a", "c"]);
    let top = dir.path().join("docs");
    fs::hard_link(top.join("a"), top.join("b")).unwrap();
    let at = top.clone();
    let (vault, reading) = read_while(std::slice::from_ref(&top), move |count| {
        if count == 0 {
            fs::write(at.join("b"), "both names have changed").unwrap();
        }
    });
    assert_eq!(unreadable(&reading, &top), ["/a"]);
    let (target, _) = restored(&vault, &reading).await;
    let read = |name: &str| fs::read_to_string(target.path().join("docs").join(name)).unwrap();
    assert_eq!([read("b"), read("c")], ["both names have changed", "c"]);
}

#[tokio::test]
async fn a_file_that_fails_to_read_costs_only_itself() {
    let dir = files(&["a"]);
    let top = dir.path().join("docs");
    // The system answers EIO for this process's memory at address 0.
    let (vault, reading) = read_while(&[top.clone(), "/proc/self/mem".into(), "/no/such/path".into()], |_| {});
    assert_eq!(unreadable(&reading, &top), ["/no/such/path", "/proc/self/mem"]);
    let (target, _) = restored(&vault, &reading).await;
    assert_eq!(fs::read_to_string(target.path().join("docs/a")).unwrap(), "a");
    assert!(!target.path().join("mem").exists(), "no empty file stands for what could not be read");
}

/// The status of a process that ends between the opening and the reading.
#[tokio::test]
#[allow(clippy::zombie_processes, reason = "it is waited for while its status is read")]
async fn a_file_that_becomes_unreadable_after_it_was_opened_costs_only_itself() {
    let dir = files(&["a"]);
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let (status, top) = (PathBuf::from(format!("/proc/{}/status", child.id())), dir.path().join("docs"));
    let (vault, reading) = read_while(&[status.clone(), top.clone()], move |count| {
        if count == 0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    });
    assert_eq!(unreadable(&reading, &top), [status.to_str().unwrap()]);
    let (target, _) = restored(&vault, &reading).await;
    assert_eq!(fs::read_to_string(target.path().join("docs/a")).unwrap(), "a");
    assert!(!target.path().join("status").exists());
}

/// Truncated below where it is being read, in the middle of its holes.
#[tokio::test]
async fn a_sparse_file_that_shrinks_is_what_was_there() {
    let dir = files(&["a"]);
    let top = dir.path().join("docs");
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[7; 4096], 1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[8; 4096], 2 << 20).unwrap();
    let (vault, reading) = read_while(std::slice::from_ref(&top), move |count| {
        if count == 1 {
            sparse.set_len((1 << 20) + 10).unwrap();
        }
    });
    assert_eq!(unreadable(&reading, &top), ["/sparse"]);
    let (target, report) = restored(&vault, &reading).await;
    let bytes = fs::read(target.path().join("docs/sparse")).unwrap();
    assert!(bytes.len() > 1 << 20 && bytes[1 << 20..(1 << 20) + 10] == [7; 10], "{} bytes", bytes.len());
    assert!(bytes[..1 << 20].iter().all(|byte| *byte == 0));
    assert_eq!(report.inexact.len(), 1, "it is marked");
}

#[tokio::test]
async fn a_file_that_hides_its_size_is_read_all_the_same() {
    let expected = fs::read("/proc/version").unwrap();
    assert!(!expected.is_empty());
    let (vault, reading) = read_while(&["/proc/version".into()], |_| {});
    assert_eq!(reading.unreadable, []);
    let (target, _) = restored(&vault, &reading).await;
    assert_eq!(fs::read(target.path().join("version")).unwrap(), expected);
}

#[test]
fn when_nothing_can_be_read_there_is_no_point() {
    let mut source = DirectorySource::new("docs", &["/no/such/path".into()], Vec::new()).unwrap();
    let error = MemoryVault::default().read(&mut source).unwrap_err();
    assert!(matches!(error, OpsError::Source { .. }) && error.to_string().contains("/no/such/path"), "{error}");
}

#[tokio::test]
async fn patterns_leave_out_what_they_match_below_the_paths_named() {
    let dir =
        files(&["a.tmp", "a.txt", "cache/x", "deep/cache/y", "deep/b.tmp", "deep/keep.tmp", "deep/cache.txt", "old/z"]);
    let top = dir.path().join("docs");
    let old = format!("{}/old", top.display());
    let patterns = ["*.tmp", "!keep.tmp", "cache/", &old].map(str::to_owned);
    let source = || DirectorySource::new("docs", std::slice::from_ref(&top), Vec::new()).unwrap();
    let mut vault = MemoryVault::default();
    let reading = vault.read(&mut source().with_patterns(&patterns).unwrap()).unwrap();
    let (target, _) = restored(&vault, &reading).await;
    let is_there = |name: &str| target.path().join("docs").join(name).exists();
    assert!(["a.txt", "deep/keep.tmp", "deep/cache.txt"].into_iter().all(is_there));
    assert!(!["a.tmp", "cache", "deep/cache", "deep/b.tmp", "old"].into_iter().any(is_there));
    for wrong in ["", "# words", "a[z-a]"] {
        assert!(matches!(source().with_patterns(&[wrong.to_owned()]), Err(OpsError::Refused { .. })), "{wrong:?}");
    }
    let mut named = source().with_patterns(&["docs".to_owned()]).unwrap();
    assert!(MemoryVault::default().read(&mut named).unwrap().items > 0, "what is named is wanted");
}

#[tokio::test]
async fn the_vaults_own_folders_are_left_out_however_they_are_reached() {
    let dir = files(&["keep/a", "state/catalog", "vault/shards/0", "keep/state/not excluded"]);
    let top = dir.path().join("docs");
    let alias = dir.path().join("alias");
    std::os::unix::fs::symlink(&top, &alias).unwrap();
    let excludes = vec![top.join("state"), top.join("vault/")];
    for named in [&top, &alias] {
        let mut vault = MemoryVault::default();
        let mut source = DirectorySource::new("docs", std::slice::from_ref(named), excludes.clone()).unwrap();
        let reading = vault.read(&mut source).unwrap();
        let (target, _) = restored(&vault, &reading).await;
        let below = target.path().join(named.file_name().unwrap());
        assert!(below.join("keep/a").exists() && below.join("keep/state/not excluded").exists());
        assert!(!below.join("state").exists() && !below.join("vault").exists(), "{}", named.display());
    }
    assert!(DirectorySource::new("docs", &[top.join("state")], excludes).is_err(), "nothing would be left");
}
