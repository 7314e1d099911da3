//! Trees of files: odd ones to back up, and a comparison that shares no code with
//! the program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::Numbers;

/// What a name stands for, but for a file's bytes.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    /// Type and permissions.
    mode: u32,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of a file.
    bytes: u64,
    /// Of a symbolic link.
    target: Option<PathBuf>,
    /// The first name of the same file.
    same_as: Option<PathBuf>,
}

/// Everything below a folder, and the folder itself, by relative path.
fn walk(root: &Path) -> BTreeMap<PathBuf, Item> {
    let mut items = BTreeMap::new();
    let mut seen: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(&relative);
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if meta.is_dir() {
            let mut names: Vec<PathBuf> =
                fs::read_dir(&path).unwrap().map(|entry| relative.join(entry.unwrap().file_name())).collect();
            names.sort_by(|left, right| right.cmp(left));
            waiting.extend(names);
        }
        let same_as = (meta.is_file() && meta.nlink() > 1)
            .then(|| seen.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.clone()).clone());
        let item = Item {
            mode: meta.mode(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            bytes: if meta.is_file() { meta.len() } else { 0 },
            target: meta.is_symlink().then(|| fs::read_link(&path).unwrap()),
            same_as,
        };
        items.insert(relative, item);
    }
    items
}

/// Fails unless both folders hold the same names, bytes, links, modes and times.
#[track_caller]
pub fn assert_same_tree(left: &Path, right: &Path) {
    let (old, new) = (walk(left), walk(right));
    for (path, item) in &old {
        assert_eq!(Some(item), new.get(path), "{} in {} and {}", path.display(), left.display(), right.display());
        if item.mode & 0o170_000 == 0o100_000 {
            let same = fs::read(left.join(path)).unwrap() == fs::read(right.join(path)).unwrap();
            assert!(same, "{} has other bytes in {}", path.display(), right.display());
        }
    }
    let more: Vec<_> = new.keys().filter(|path| !old.contains_key(*path)).collect();
    assert!(more.is_empty(), "{} holds more: {more:?}", right.display());
}

/// Whatever files a restore left are whole and those of the tree; returns their names.
pub fn assert_no_wrong_file(tree: &Path, out: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    super::files_below(out, &mut found);
    found.retain(|file| file.is_file());
    let below = |file: &PathBuf| file.strip_prefix(out).unwrap().to_owned();
    let names: Vec<PathBuf> = found.iter().map(below).collect();
    for name in &names {
        let same = fs::read(out.join(name)).unwrap() == fs::read(tree.join(name)).unwrap();
        assert!(same, "{} has wrong bytes in {}", name.display(), out.display());
    }
    names
}

/// Copies a tree with all its attributes, by the system's own tool.
pub fn copy_exactly(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Writes a tree of real files (this crate's own sources) and of odd ones.
/// `random_bytes` is the size of the largest.
pub fn write_tree(root: &Path, random_bytes: usize, numbers: &mut Numbers) {
    fs::create_dir_all(root.join("empty folder")).unwrap();
    copy_exactly(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &root.join("sources"));
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("random"), numbers.bytes(random_bytes)).unwrap();
    fs::write(root.join("zeros"), vec![0; 1 << 20]).unwrap();
    fs::write(root.join("a name\nwith \"quotes\" and spaces"), b"x").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"caf\xe9 is no UTF-8")), b"latin one").unwrap();
    fs::write(root.join("n".repeat(255)), b"as long as a name can be").unwrap();
    fs::hard_link(root.join("random"), root.join("sources/the same random")).unwrap();
    symlink("sources/main.rs", root.join("link")).unwrap();
    symlink("../nowhere", root.join("dangling link")).unwrap();
    let deep = (0..40).fold(root.to_owned(), |path, level| path.join(format!("level-{level}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"deep").unwrap();
    fs::write(root.join("program"), b"#!/bin/sh\n").unwrap();
    fs::write(root.join("secret"), b"for me only").unwrap();
    for (name, mode) in [("program", 0o755), ("secret", 0o600), ("empty folder", 0o750)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let old = SystemTime::UNIX_EPOCH + Duration::new(923_456_789, 123_456_789);
    File::options().write(true).open(root.join("program")).unwrap().set_modified(old).unwrap();
    File::open(root.join("empty folder")).unwrap().set_modified(old).unwrap();
}
