//! What did not change is not read again, and nothing else is taken unread.
//!
//! What must hold: a second reading of an unchanged tree reads no file and has the
//! same root; every change that leaves a trace in inode, size, mtime or ctime is
//! read; a chunk that does not count today, a rotten row and `force` cost a read and
//! never a wrong tree; directories that are gone leave no row.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_sources::directory::DirectorySource;
use agent_sources::tree::{TreeOptions, restore_tree};
use memory_vault::MemoryVault;
use rustix::fs::XattrFlags;
use vault_format::point::PointRoot;
use vault_ops::source::Reading;

const FILES: [&str; 6] = ["a", "b", "c/d", "c/e", "f/g/h", "named"];

struct Place {
    dir: tempfile::TempDir,
    vault: MemoryVault,
}

impl Place {
    /// A tree that was read once; the clock says that this is an hour ago.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in FILES {
            let path = dir.path().join("docs").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("this is {name}")).unwrap();
        }
        fs::rename(dir.path().join("docs/named"), dir.path().join("named")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("docs/link")).unwrap();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_hours(1);
        let mut vault = MemoryVault::default();
        vault.now_ms = now_ms.as_millis() as i64;
        Self { dir, vault }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("docs").join(name)
    }

    fn source(&self) -> DirectorySource {
        let paths = [self.dir.path().join("docs"), self.dir.path().join("named")];
        DirectorySource::new("docs", &paths, Vec::new()).unwrap()
    }

    /// A reading, and how many contents it wrote: directories always, files when read.
    fn read(&mut self, force: bool) -> (Reading, u64) {
        let before = self.vault.writes;
        let mut source = self.source().with_force(force);
        let reading = self.vault.read(&mut source).unwrap();
        (reading, self.vault.writes - before)
    }

    async fn restored(&self, reading: &Reading) -> tempfile::TempDir {
        let PointRoot::Tree(root) = &reading.root else { panic!("a tree") };
        let target = tempfile::tempdir().unwrap();
        let point = self.vault.point(reading.root.clone());
        restore_tree(&point, root, target.path(), TreeOptions { sync: false, ..TreeOptions::default() }).await.unwrap();
        target
    }
}

/// docs, c, f, f/g and the top.
const LISTINGS: u64 = 5;
/// All but f have names that are no directories, and a row.
const ROWS: u64 = 4;
/// Files and the link.
const ITEMS: u64 = 6 + 1;

#[tokio::test]
async fn an_unchanged_tree_is_not_read_again() {
    let mut place = Place::new();
    let (first, written) = place.read(false);
    assert_eq!((written, first.changed), (LISTINGS + 6, ITEMS));
    let (second, written) = place.read(false);
    assert_eq!((written, second.changed), (LISTINGS, 0), "no file is read");
    assert_eq!((second.root.hash(), second.items), (first.root.hash(), first.items));
    let target = place.restored(&second).await;
    for name in ["a", "c/d", "f/g/h"] {
        assert_eq!(fs::read_to_string(target.path().join("docs").join(name)).unwrap(), format!("this is {name}"));
    }
    let (forced, written) = place.read(true);
    assert_eq!((written, forced.root.hash()), (LISTINGS + 6, first.root.hash()));
}

#[tokio::test]
async fn every_change_of_a_file_is_read_and_nothing_else() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 7] = [
        ("written", |path| fs::write(path, "that was a").unwrap()),
        ("the same size and time", |path| {
            let time = fs::metadata(path).unwrap().modified().unwrap();
            let text = fs::read_to_string(path).unwrap().to_uppercase();
            fs::write(path, text).unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }),
        ("another file of the same name, size and time", |path| {
            let other = path.with_extension("new");
            let time = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(&other, fs::read_to_string(path).unwrap().to_uppercase()).unwrap();
            fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
            fs::rename(&other, path).unwrap();
        }),
        ("its time", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_nanos(1)).unwrap();
        }),
        ("its mode", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap()),
        ("truncated", |path| drop(fs::File::create(path).unwrap())),
        ("an attribute", |path| {
            if rustix::fs::setxattr(path, "user.note", b"new", XattrFlags::empty()).is_err() {
                fs::write(path, "no attributes here").unwrap();
            }
        }),
    ];
    let mut place = Place::new();
    let (mut last, _) = place.read(false);
    for (what, change) in changes {
        change(&place.at("a"));
        let (reading, written) = place.read(false);
        assert_eq!(written, LISTINGS + 1, "{what}: one file is read");
        assert_ne!(reading.root.hash(), last.root.hash(), "{what}");
        let target = place.restored(&reading).await;
        let read = |path: &Path| fs::read(path).unwrap();
        assert_eq!(read(&target.path().join("docs/a")), read(&place.at("a")), "{what}");
        let (forced, _) = place.read(true);
        assert_eq!(forced.root.hash(), reading.root.hash(), "{what}: as if all had been read");
        last = reading;
    }
}

/// Files that change places within one directory, with everything equal but inode and name.
#[tokio::test]
async fn names_that_are_swapped_are_told_apart() {
    let mut place = Place::new();
    fs::write(place.at("b"), "this is B").unwrap();
    fs::write(place.at("a"), "this is A").unwrap();
    for name in ["a", "b"] {
        let file = fs::File::options().write(true).open(place.at(name)).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
    }
    place.read(false);
    fs::rename(place.at("a"), place.at("x")).unwrap();
    fs::rename(place.at("b"), place.at("a")).unwrap();
    fs::rename(place.at("x"), place.at("b")).unwrap();
    let (reading, _) = place.read(false);
    let target = place.restored(&reading).await;
    assert_eq!(fs::read_to_string(target.path().join("docs/a")).unwrap(), "this is B");
    assert_eq!(fs::read_to_string(target.path().join("docs/b")).unwrap(), "this is A");
}

#[test]
fn a_chunk_that_does_not_count_today_is_read_again() {
    let mut place = Place::new();
    let (first, _) = place.read(false);
    let bytes = fs::read(place.at("a")).unwrap();
    place.vault.condemned = vec![vault_format::ChunkId(*blake3::hash(&bytes).as_bytes())];
    let (second, written) = place.read(false);
    assert_eq!((written, second.changed), (LISTINGS + 1, 1));
    assert_eq!(second.root.hash(), first.root.hash());
}

#[test]
fn what_was_just_written_is_read_again() {
    let mut place = Place::new();
    place.vault.now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let (_, first) = place.read(false);
    let (_, second) = place.read(false);
    assert_eq!((first, second), (LISTINGS + 6, LISTINGS + 6), "within two seconds nothing is believed");
}

#[test]
fn a_lost_or_rotten_row_costs_a_read_and_gone_directories_leave_none() {
    let mut place = Place::new();
    let (first, _) = place.read(false);
    assert_eq!(place.vault.rows.len() as u64, ROWS);
    for row in place.vault.rows.values_mut() {
        let middle = row.len() / 2;
        row[middle] ^= 1;
    }
    let (second, written) = place.read(false);
    assert_eq!((written, second.root.hash()), (LISTINGS + 6, first.root.hash()));
    fs::remove_dir_all(place.at("f")).unwrap();
    place.read(false);
    assert_eq!(place.vault.rows.len() as u64, ROWS - 1);
    place.vault.rows.clear();
    let (_, written) = place.read(false);
    assert_eq!(written, LISTINGS - 2 + 5);
}

/// Attributes are no part of the cache: they are read where there are some.
#[tokio::test]
async fn a_file_with_attributes_keeps_them_unread() {
    let mut place = Place::new();
    if rustix::fs::setxattr(place.at("a"), "user.note", b"kept", XattrFlags::empty()).is_err() {
        eprintln!("note: this file system takes no extended attributes, they are not tested");
        return;
    }
    let (first, _) = place.read(false);
    let (second, written) = place.read(false);
    assert_eq!((written, second.root.hash()), (LISTINGS, first.root.hash()));
    let target = place.restored(&second).await;
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(target.path().join("docs/a"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
}

/// A time of modification in the far future is what somebody chose, and changes are seen all
/// the same: by the change time, which nobody chooses.
#[tokio::test]
async fn a_file_from_the_future_is_read_once_and_again_when_it_changes() {
    let mut place = Place::new();
    let future = UNIX_EPOCH + Duration::from_hours(24 * 365 * 130);
    let date = |path: PathBuf| fs::File::options().write(true).open(path).unwrap().set_modified(future).unwrap();
    date(place.at("a"));
    let (first, _) = place.read(false);
    let (second, written) = place.read(false);
    assert_eq!((written, second.root.hash()), (LISTINGS, first.root.hash()), "it is not read again");
    // Other bytes, as many as before, and the same time.
    let text = fs::read_to_string(place.at("a")).unwrap().to_uppercase();
    fs::write(place.at("a"), &text).unwrap();
    date(place.at("a"));
    let (third, written) = place.read(false);
    assert_eq!(written, LISTINGS + 1);
    let target = place.restored(&third).await;
    assert_eq!(fs::read_to_string(target.path().join("docs/a")).unwrap(), text);
}
