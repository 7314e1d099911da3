//! A tree of everything awkward goes through a source and the tree writer, and
//! an independent walk finds both sides equal.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agent_sources::directory::DirectorySource;
use agent_sources::tree::{TreeOptions, TreeReport, restore_tree};
use memory_vault::MemoryVault;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use vault_format::point::{PointRoot, TreeRoot};

/// What a person could tell about a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    device: u64,
    bytes: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path in order that is the same file.
    same_as: PathBuf,
}

type Picture = BTreeMap<PathBuf, Seen>;

/// Walks by descriptors, so that paths longer than the system takes are seen too.
fn picture(top: &Path) -> Picture {
    let mut found = Picture::new();
    let mut inodes = BTreeMap::new();
    let directory = rustix::fs::open(top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    look(directory.as_fd(), Path::new(""), &mut found, &mut inodes);
    found
}

fn look(here: BorrowedFd<'_>, path: &Path, found: &mut Picture, inodes: &mut BTreeMap<(u64, u64), PathBuf>) {
    let mut buffer = vec![MaybeUninit::uninit(); 8192];
    let mut listing = RawDir::new(here, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        names.push(entry.unwrap().file_name().to_bytes().to_vec());
    }
    names.retain(|name| name != b"." && name != b"..");
    names.sort();
    for name in names {
        let path = path.join(OsStr::from_bytes(&name));
        let stat = rustix::fs::statat(here, &name[..], AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let open = |flags| rustix::fs::openat(here, &name[..], flags | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        let mut seen = Seen {
            kind,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            device: stat.st_rdev,
            bytes: None,
            target: None,
            xattrs: BTreeMap::new(),
            same_as: inodes.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.clone()).clone(),
        };
        match kind {
            FileType::RegularFile => {
                let mut file = fs::File::from(open(OFlags::RDONLY));
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                seen.bytes = Some(bytes);
                seen.xattrs = xattrs(file.as_fd());
            }
            FileType::Directory => {
                let directory = open(OFlags::RDONLY | OFlags::DIRECTORY);
                seen.xattrs = xattrs(directory.as_fd());
                look(directory.as_fd(), &path, found, inodes);
            }
            FileType::Symlink => {
                seen.target = Some(rustix::fs::readlinkat(here, &name[..], Vec::new()).unwrap().into_bytes());
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {}
        }
        found.insert(path, seen);
    }
}

fn xattrs(file: BorrowedFd<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::flistxattr(file, &mut names[..]).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::fgetxattr(file, name, &mut value[..]).unwrap();
        found.insert(name.to_vec(), value[..length].to_vec());
    }
    found
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Bytes that no compressor or deduplication makes equal.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn grow_tree(top: &Path) {
    fs::create_dir_all(top.join("a/empty")).unwrap();
    fs::write(top.join("a/nothing"), b"").unwrap();
    fs::write(top.join("a/one"), b"1").unwrap();
    fs::write(top.join("a/large"), noise(1, 5_000_000)).unwrap();
    fs::write(top.join("a/exact"), noise(2, 64 << 10)).unwrap();
    for odd in [&b"caf\xe9"[..], b"new\nline", b" space ", b"-rf", b"\x01\x02", "großes Ω".as_bytes(), &[b'n'; 255]] {
        fs::write(top.join(OsStr::from_bytes(odd)), odd).unwrap();
    }
    symlink("a/one", top.join("link")).unwrap();
    symlink("/nowhere/at all", top.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), top.join("a/odd link")).unwrap();
    symlink("a", top.join("directory link")).unwrap();
    fs::hard_link(top.join("a/one"), top.join("a/one again")).unwrap();
    fs::hard_link(top.join("a/one"), top.join("zz one more")).unwrap();
    fs::hard_link(top.join("dangling"), top.join("dangling again")).unwrap();
    rustix::fs::mkfifoat(CWD, top.join("pipe"), Mode::from_raw_mode(0o640)).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    for (name, mode) in [("a/large", 0o400), ("a/nothing", 0o4755), ("a/exact", 0o000), ("a/empty", 0o1777)] {
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    grow_deep(top, 160);
    set_xattrs(top);
    if rustix::process::geteuid().is_root() {
        let (user, group) = (Some(Uid::from_raw(1234)), Some(Gid::from_raw(4321)));
        for name in ["a/one", "dangling", "pipe", "a/empty"] {
            rustix::fs::chownat(CWD, top.join(name), user, group, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, top.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o620), null)
            .unwrap();
    }
    // Before 1970, far ahead, and times to the nanosecond.
    for (name, seconds, nanoseconds) in [
        ("a/one", 1, 999_999_999),
        ("link", 2_000_000_000, 5),
        ("a/exact", -86_400, 1),
        ("a", 12_345, 678),
        ("pipe", 7, 8),
    ] {
        set_mtime(&top.join(name), seconds, nanoseconds);
    }
    fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o555)).unwrap();
}

/// Directories whose path is longer than any call takes: 160 x 31 bytes.
fn grow_deep(top: &Path, levels: usize) {
    let mut here: OwnedFd = rustix::fs::open(top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..levels {
        let name = format!("deep-{level:025}");
        rustix::fs::mkdirat(&here, &name, Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, &name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE;
    rustix::fs::openat(&here, "at the bottom", flags, Mode::RUSR).unwrap();
}

fn set_xattrs(top: &Path) {
    let set =
        |name: &str, key: &str, value: &[u8]| rustix::fs::lsetxattr(top.join(name), key, value, XattrFlags::empty());
    if set("a", "user.on.a.directory", b"yes").is_err() {
        eprintln!("note: this file system takes no extended attributes, they are not tested");
        return;
    }
    set("a/one", "user.empty", b"").unwrap();
    set("a/one", "user.binary", &noise(3, 1000)).unwrap();
}

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
    let after = picture(&trip.restored.path().join("new/target"));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (path, seen) in &before {
        assert!(seen == &after[path], "{}: {seen:?}\nbecame {:?}", path.display(), after[path]);
    }
    assert_eq!(trip.report.inexact, []);
    let count = |kind| before.values().filter(|seen| seen.kind == kind).count() as u64;
    let names = trip.report.files + trip.report.hard_links + trip.report.symlinks;
    assert_eq!(names, count(FileType::RegularFile) + count(FileType::Symlink));
    assert_eq!(trip.report.hard_links, 3);
    assert_eq!(trip.report.directories, count(FileType::Directory));
    assert!(count(FileType::Directory) > 160);
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
    assert_eq!(seen[Path::new("tree/two again")].bytes.as_deref(), Some(&b"two"[..]));
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
