//! A tree of everything awkward goes through a source and the tree writer, and
//! an independent walk finds both sides equal.
#![allow(clippy::unwrap_used)]

mod memory_vault;
mod torture;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agent_sources::directory::DirectorySource;
use agent_sources::tree::{TreeOptions, TreeReport, restore_tree};
use memory_vault::MemoryVault;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Uid};
use torture::{assert_same, grow_socket, grow_tree, picture, set_mtime};
use vault_format::point::{PointRoot, TreeRoot};

struct RoundTrip {
    root: TreeRoot,
    report: TreeReport,
    restored: tempfile::TempDir,
}

async fn round_trip(vault: &mut MemoryVault, paths: &[PathBuf], options: TreeOptions) -> RoundTrip {
    let mut source = DirectorySource::new("docs", paths, Vec::new()).unwrap();
    let reading = vault.read(&mut source).unwrap();
    assert_eq!(reading.unreadable, []);
    let PointRoot::Tree(root) = reading.root.clone() else { panic!("a tree") };
    let restored = tempfile::tempdir().unwrap();
    let point = vault.point(reading.root);
    let report = restore_tree(&point, &root, &restored.path().join("new/target"), options).await.unwrap();
    RoundTrip { root, report, restored }
}

#[tokio::test]
async fn everything_awkward_comes_back() {
    let original = tempfile::tempdir().unwrap();
    let top = original.path().join("docs");
    fs::create_dir(&top).unwrap();
    grow_tree(&top);
    let before = picture(original.path());
    let trip = round_trip(&mut MemoryVault::default(), &[top], TreeOptions::default()).await;
    assert_same(&before, &picture(&trip.restored.path().join("new/target")), "the torture tree");
    let hole = trip.restored.path().join("new/target/docs/sparse/only a hole").metadata().unwrap();
    assert_eq!((hole.len(), hole.blocks()), (1 << 40, 0), "a hole takes no room");
    assert_eq!(trip.report.inexact, []);
    let count = |kind| before.values().filter(|seen| seen.kind == kind).count() as u64;
    let names = trip.report.files + trip.report.hard_links + trip.report.symlinks;
    assert_eq!(names, count(FileType::RegularFile) + count(FileType::Symlink) + 1, "and the second name of the pipe");
    assert_eq!(trip.report.hard_links, 4);
    assert_eq!(trip.report.directories, count(FileType::Directory));
    assert!(count(FileType::Directory) > 160);
}

#[tokio::test]
async fn a_socket_is_stored_and_named_where_it_is_not_restored() {
    let original = tempfile::tempdir().unwrap();
    let top = original.path().join("docs");
    fs::create_dir(&top).unwrap();
    grow_socket(&top);
    let trip = round_trip(&mut MemoryVault::default(), &[top], TreeOptions::default()).await;
    let inexact: Vec<&str> = trip.report.inexact.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(inexact, ["docs/socket"]);
    assert!(!trip.restored.path().join("new/target/docs/socket").exists());
}

#[tokio::test]
async fn equal_trees_have_equal_roots_and_any_difference_shows() {
    let original = tempfile::tempdir().unwrap();
    let top = original.path().join("docs");
    fs::create_dir(&top).unwrap();
    grow_tree(&top);
    let mut vault = MemoryVault::default();
    let root = |vault: &mut MemoryVault| {
        let mut source = DirectorySource::new("docs", std::slice::from_ref(&top), Vec::new()).unwrap();
        vault.read(&mut source).unwrap().root.hash()
    };
    let first = root(&mut vault);
    assert_eq!(root(&mut vault), first);
    set_mtime(&top.join("a/one"), 1, 999_999_998);
    assert_ne!(root(&mut vault), first, "a nanosecond");
}

#[tokio::test]
async fn several_paths_and_single_files_get_their_own_names() {
    let original = tempfile::tempdir().unwrap();
    let at = |name: &str| original.path().join(name);
    for side in ["left/docs", "right/docs", "elsewhere"] {
        fs::create_dir_all(at(side)).unwrap();
        fs::write(at(side).join("file"), side).unwrap();
    }
    symlink(at("elsewhere"), at("named link")).unwrap();
    let paths = [at("left/docs"), at("right/docs"), at("named link"), at("elsewhere/file")];
    let trip = round_trip(&mut MemoryVault::default(), &paths, TreeOptions::default()).await;
    let target = trip.restored.path().join("new/target");
    let mut names: Vec<OsString> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let prefix = original.path().to_str().unwrap().trim_start_matches('/').replace('/', "_");
    let clashing = |side: &str| OsString::from(format!("{prefix}_{side}_docs"));
    let mut expected = vec![clashing("left"), clashing("right"), "file".into(), "named link".into()];
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(fs::read(target.join(clashing("right")).join("file")).unwrap(), b"right/docs");
    assert_eq!(fs::read(target.join("named link/file")).unwrap(), b"elsewhere", "a named link is followed");
}

/// A file named by itself and met again inside a tree is one file, and other
/// files with several names are not mistaken for it.
#[tokio::test]
async fn files_with_several_names_are_kept_apart_across_the_paths_named() {
    let original = tempfile::tempdir().unwrap();
    let at = |name: &str| original.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    for pair in ["one", "two", "zero"] {
        fs::write(at("tree").join(pair), pair).unwrap();
        fs::hard_link(at("tree").join(pair), at("tree").join(format!("{pair} again"))).unwrap();
    }
    let paths = [at("tree/one"), at("tree"), at("tree/zero")];
    let trip = round_trip(&mut MemoryVault::default(), &paths, TreeOptions::default()).await;
    let seen = picture(&trip.restored.path().join("new/target"));
    let same = |left: &str, right: &str| seen[Path::new(left)].same_as == seen[Path::new(right)].same_as;
    assert!(same("one", "tree/one") && same("tree/one", "tree/one again"));
    assert!(same("tree/two", "tree/two again") && same("zero", "tree/zero again"));
    assert!(!same("tree/one", "tree/two") && !same("tree/two", "zero"));
    assert_eq!(seen[Path::new("tree/two again")].bytes.as_ref().unwrap().whole(), b"two");
}

#[tokio::test]
async fn without_root_owners_and_devices_are_reported_and_set_id_bits_dropped() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("note: only root can prepare foreign owners; the default options were tested as this user");
        return;
    }
    let original = tempfile::tempdir().unwrap();
    let top = original.path().join("docs");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("program"), b"#!").unwrap();
    rustix::fs::chownat(CWD, top.join("program"), Some(Uid::from_raw(1234)), None, AtFlags::empty()).unwrap();
    fs::set_permissions(top.join("program"), fs::Permissions::from_mode(0o4755)).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, top.join("null"), FileType::CharacterDevice, Mode::RUSR, null).unwrap();
    let options = TreeOptions { as_root: false, ..TreeOptions::default() };
    let trip = round_trip(&mut MemoryVault::default(), &[top], options).await;
    let after = picture(&trip.restored.path().join("new/target"));
    assert_eq!(after[Path::new("docs/program")].mode & 0o7777, 0o755);
    assert!(!after.contains_key(Path::new("docs/null")));
    let inexact: Vec<&str> = trip.report.inexact.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(inexact, ["docs/null", "docs/program"]);
    assert_eq!(trip.report.other_owners, 1);
    assert_eq!(trip.root.content.depth, 0);
}
