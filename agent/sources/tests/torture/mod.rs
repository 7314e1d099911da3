//! Trees of everything a file system takes, and a picture of a tree to compare: by
//! plain calls to the system, sharing no code with source or restore.
//!
//! What always holds: a picture names everything a person could tell of a tree, holes
//! included; a tree drawn from a seed is the same tree again.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its own part, and panics to fail")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, SeekFrom, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

/// What a person could tell about a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: FileType,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub device: u64,
    pub bytes: Option<Bytes>,
    pub target: Option<Vec<u8>>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path in order that is the same file.
    pub same_as: PathBuf,
}

/// The bytes of a file: its size, and each run of data with its place.
#[derive(PartialEq, Eq)]
pub struct Bytes {
    pub size: u64,
    pub runs: Vec<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let runs: Vec<(u64, usize)> = self.runs.iter().map(|(at, bytes)| (*at, bytes.len())).collect();
        write!(to, "{} bytes, data at {runs:?}", self.size)
    }
}

impl Bytes {
    /// All of a small file.
    pub fn whole(&self) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(self.size).unwrap()];
        for (at, bytes) in &self.runs {
            let at = usize::try_from(*at).unwrap();
            all[at..at + bytes.len()].copy_from_slice(bytes);
        }
        all
    }
}

pub type Picture = BTreeMap<PathBuf, Seen>;

/// Walks by descriptors, so that paths longer than the system takes are seen too.
pub fn picture(top: &Path) -> Picture {
    let mut found = Picture::new();
    let mut inodes = BTreeMap::new();
    let directory = rustix::fs::open(top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    look(directory.as_fd(), Path::new(""), &mut found, &mut inodes);
    found
}

/// Fails with the first path that differs.
#[track_caller]
pub fn assert_same(before: &Picture, after: &Picture, what: &str) {
    for (path, seen) in before {
        let other = after.get(path);
        assert!(Some(seen) == other, "{what}: {}: {seen:?}\nbecame {other:?}", path.display());
    }
    let more: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(more.is_empty(), "{what}: there is more: {more:?}");
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
                let file = File::from(open(OFlags::RDONLY));
                seen.bytes = Some(bytes_of(&file));
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

fn bytes_of(file: &File) -> Bytes {
    let size = file.metadata().unwrap().len();
    let (mut runs, mut at) = (Vec::new(), 0);
    while at < size {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => break,
            Err(error) => panic!("looking for data: {error}"),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(begin)).unwrap();
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        file.read_exact_at(&mut bytes, begin).unwrap();
        runs.push((begin, bytes));
        at = end;
    }
    Bytes { size, runs }
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

pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Numbers from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Marsaglia's xorshift64*.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8).collect()
    }

    /// Any name a file can have.
    pub fn name(&mut self) -> Vec<u8> {
        let length = if self.below(20) == 0 { 255 } else { 1 + self.below(12) };
        let mut name = self.bytes(length);
        for byte in &mut name {
            if matches!(byte, 0 | b'/' | b'.') {
                *byte = b'_';
            }
        }
        name
    }
}

/// One of everything, and what of it this host cannot make is said.
pub fn grow_tree(top: &Path) {
    let mut dice = Dice::new(1);
    fs::create_dir_all(top.join("a/empty")).unwrap();
    fs::write(top.join("a/nothing"), b"").unwrap();
    fs::write(top.join("a/one"), b"1").unwrap();
    fs::write(top.join("a/large"), dice.bytes(5_000_000)).unwrap();
    fs::write(top.join("a/exact"), dice.bytes(64 << 10)).unwrap();
    for odd in [&b"caf\xe9"[..], b"new\nline", b" space ", b"-rf", b"\x01\x02", "großes Ω".as_bytes(), &[b'n'; 255]] {
        fs::write(top.join(OsStr::from_bytes(odd)), odd).unwrap();
    }
    symlink("a/one", top.join("link")).unwrap();
    symlink("/nowhere/at all", top.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), top.join("a/odd link")).unwrap();
    symlink("a", top.join("directory link")).unwrap();
    symlink("looping", top.join("looping")).unwrap();
    symlink("../a", top.join("a/up and down")).unwrap();
    symlink(OsStr::from_bytes(&[b'x'; 4095]), top.join("long link")).unwrap();
    fs::hard_link(top.join("a/one"), top.join("a/one again")).unwrap();
    fs::hard_link(top.join("a/one"), top.join("zz one more")).unwrap();
    fs::hard_link(top.join("dangling"), top.join("dangling again")).unwrap();
    rustix::fs::mkfifoat(CWD, top.join("pipe"), Mode::from_raw_mode(0o640)).unwrap();
    fs::hard_link(top.join("pipe"), top.join("pipe again")).unwrap();
    grow_sparse(top);
    for (name, mode) in
        [("a/large", 0o400), ("a/nothing", 0o4755), ("a/exact", 0o000), ("a/empty", 0o1777), ("a/one", 0o2711)]
    {
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    grow_deep(top, 160);
    set_xattrs(top, &mut dice);
    if rustix::process::geteuid().is_root() {
        let (user, group) = (Some(Uid::from_raw(1234)), Some(Gid::from_raw(4321)));
        for name in ["a/large", "dangling", "pipe", "a/empty"] {
            rustix::fs::chownat(CWD, top.join(name), user, group, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        let (null, disk) = (rustix::fs::makedev(1, 3), rustix::fs::makedev(259, 70_000));
        for (name, kind, device) in [("null", FileType::CharacterDevice, null), ("disk", FileType::BlockDevice, disk)] {
            rustix::fs::mknodat(CWD, top.join(name), kind, Mode::from_raw_mode(0o620), device).unwrap();
        }
    } else {
        eprintln!("note: only root makes devices and gives files away, they are not tested");
    }
    // Before 1970, far ahead, and times to the nanosecond.
    for (name, seconds, nanoseconds) in [
        ("a/one", 1, 999_999_999),
        ("link", 2_000_000_000, 5),
        ("a/exact", -86_400, 1),
        ("sparse/both ends", -1, 999_999_999),
        ("a", 12_345, 678),
        ("pipe", 7, 8),
    ] {
        set_mtime(&top.join(name), seconds, nanoseconds);
    }
    fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o555)).unwrap();
}

/// A socket: stored, and restored as nothing. It is there after its listener is gone.
pub fn grow_socket(top: &Path) {
    drop(UnixListener::bind(top.join("socket")).unwrap());
}

/// Holes at the begin, in the middle and at the end, and nothing but a hole, as large as
/// a disk.
fn grow_sparse(top: &Path) {
    fs::create_dir(top.join("sparse")).unwrap();
    let make = |name: &str, size: u64, data: &[(u64, &[u8])]| {
        let file = File::create(top.join("sparse").join(name)).unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in data {
            file.write_all_at(bytes, *at).unwrap();
        }
    };
    make("only a hole", 1 << 40, &[]);
    make("both ends", 1 << 20, &[(0, b"begin"), ((1 << 20) - 3, b"end")]);
    make("middle", 3 << 20, &[(1 << 20, &vec![7; 100_000])]);
    make("odd size", (1 << 20) + 1, &[(123_456, b"somewhere")]);
    make("zeros that are there", 200_000, &[(0, &vec![0; 200_000])]);
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

/// A POSIX ACL as the system keeps it: version 2, then tag, permissions and id of each
/// entry. One user more than the mode has, and the mask that goes with it.
pub fn acl(user: u32) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, user), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn set_xattrs(top: &Path, dice: &mut Dice) {
    let set =
        |name: &str, key: &str, value: &[u8]| rustix::fs::lsetxattr(top.join(name), key, value, XattrFlags::empty());
    if set("a", "user.on.a.directory", b"yes").is_err() {
        eprintln!("note: this file system takes no extended attributes, they are not tested");
        return;
    }
    set("a/one", "user.empty", b"").unwrap();
    set("a/one", "user.binary", &dice.bytes(1000)).unwrap();
    let acls =
        set("a/exact", "system.posix_acl_access", &acl(5)).and_then(|()| set("a", "system.posix_acl_default", &acl(7)));
    if acls.is_err() {
        eprintln!("note: this file system takes no ACLs, they are not tested");
    }
}

/// A tree from dice; its files are added to `files`.
pub fn grow_random(dice: &mut Dice, top: &Path, depth: u64, files: &mut Vec<PathBuf>) {
    for _ in 0..dice.below(8) {
        let path = top.join(OsStr::from_bytes(&dice.name()));
        // A name drawn twice is taken once.
        let _ = match dice.below(8) {
            0 if depth < 6 => fs::create_dir(&path).map(|()| grow_random(dice, &path, depth + 1, files)),
            1 => symlink(OsStr::from_bytes(&dice.name()), &path),
            2 if !files.is_empty() => {
                let first = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
                fs::hard_link(first, &path)
            }
            3 => rustix::fs::mkfifoat(CWD, &path, Mode::RWXU).map_err(Into::into),
            4 => File::create_new(&path).and_then(|file| {
                file.set_len(dice.below(3_000_000))?;
                for _ in 0..dice.below(4) {
                    let length = 1 + dice.below(9_000);
                    file.write_all_at(&dice.bytes(length), dice.below(3_000_000))?;
                }
                files.push(path.clone());
                Ok(())
            }),
            _ => {
                let size = if dice.below(4) == 0 { dice.below(300_000) } else { dice.below(2_000) };
                fs::write(&path, dice.bytes(size)).map(|()| files.push(path.clone()))
            }
        };
        if fs::symlink_metadata(&path).is_ok_and(|stat| stat.is_file() || stat.is_dir()) {
            if dice.below(6) == 0 {
                // Where the file system takes it.
                let _ = rustix::fs::setxattr(&path, "user.dice", &dice.bytes(40), XattrFlags::empty());
            }
            let mode = dice.below(0o10000) as u32 | if path.is_dir() { 0o700 } else { 0 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        if fs::symlink_metadata(&path).is_ok() {
            set_mtime(
                &path,
                dice.below(6_000_000_000).cast_signed() - 2_000_000_000,
                dice.below(999_999_999).cast_signed(),
            );
        }
    }
}

/// All of a file, read as anybody would.
pub fn read_all(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
