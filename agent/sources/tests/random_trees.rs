//! Trees drawn from a seed come back as they were. In the long form
//! (`HOLDFAST_TREES=2000 cargo test -p holdfast-agent-sources --test random_trees`)
//! the seeds go on from where the short form ends; a failure names its seed, and
//! `HOLDFAST_TREE_SEED=N` runs that one alone.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use agent_sources::directory::DirectorySource;
use agent_sources::tree::{TreeOptions, restore_tree};
use memory_vault::MemoryVault;
use vault_format::point::PointRoot;

const TREES: u64 = 30;

/// Numbers from a seed.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Any name a file can have.
    fn name(&mut self) -> OsString {
        let length = if self.below(20) == 0 { 255 } else { 1 + self.below(12) };
        let mut name = self.bytes(length);
        for byte in &mut name {
            if matches!(byte, 0 | b'/' | b'.') {
                *byte = b'_';
            }
        }
        OsString::from_vec(name)
    }
}

/// Grows a tree and returns its files.
fn grow(dice: &mut Dice, top: &Path, depth: u64, files: &mut Vec<PathBuf>) {
    for _ in 0..dice.below(8) {
        let path = top.join(dice.name());
        // A name drawn twice is taken once.
        let _ = match dice.below(6) {
            0 if depth < 6 => fs::create_dir(&path).map(|()| grow(dice, &path, depth + 1, files)),
            1 => symlink(dice.name(), &path),
            2 if !files.is_empty() => {
                let first = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
                fs::hard_link(first, &path)
            }
            _ => {
                let size = if dice.below(4) == 0 { dice.below(300_000) } else { dice.below(2_000) };
                fs::write(&path, dice.bytes(size)).map(|()| files.push(path.clone()))
            }
        };
        if !path.is_symlink() && path.exists() {
            let mode = dice.below(0o1000) as u32 | if path.is_dir() { 0o700 } else { 0 };
            let file = fs::File::open(&path).unwrap();
            let nanoseconds = Duration::from_nanos(dice.below(4_000_000_000_000_000_000));
            file.set_modified(SystemTime::UNIX_EPOCH + nanoseconds).unwrap();
            file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// What can be told of each path, by the standard library alone.
fn picture(top: &Path, at: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let short = path.strip_prefix(top).unwrap().to_path_buf();
        let stat = fs::symlink_metadata(&path).unwrap();
        let content = if stat.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_vec().escape_ascii().to_string()
        } else if stat.is_file() {
            blake3::hash(&fs::read(&path).unwrap()).to_string()
        } else {
            picture(top, &path, found);
            String::new()
        };
        // Of a file the number of its names; that of a directory is the file system's affair.
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        found.insert(short, format!("{:o} {links} {}.{} {content}", stat.mode(), stat.mtime(), stat.mtime_nsec()));
    }
}

fn whole_picture(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    picture(top, top, &mut found);
    found
}

#[tokio::test]
async fn every_tree_comes_back() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("HOLDFAST_TREE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOLDFAST_TREES").unwrap_or(TREES),
    };
    let (mut entries, mut bytes, mut reading, mut writing) = (0, 0, Duration::ZERO, Duration::ZERO);
    for seed in seeds {
        let original = tempfile::tempdir().unwrap();
        let top = original.path().join("tree");
        fs::create_dir(&top).unwrap();
        let mut dice = Dice::new(seed);
        let mut files = Vec::new();
        for _ in 0..4 {
            grow(&mut dice, &top, 0, &mut files);
        }
        let before = whole_picture(original.path());
        let mut vault = MemoryVault::default();
        let mut source = DirectorySource::new("tree", std::slice::from_ref(&top), Vec::new()).unwrap();
        let started = Instant::now();
        let read = vault.read(&mut source).unwrap();
        reading += started.elapsed();
        assert_eq!(read.unreadable, [], "seed {seed}");
        let PointRoot::Tree(root) = &read.root else { panic!("a tree") };
        let target = tempfile::tempdir().unwrap();
        let point = vault.point(read.root.clone());
        let started = Instant::now();
        let options = TreeOptions { sync: false, ..TreeOptions::default() };
        let report = restore_tree(&point, root, target.path(), options).await.unwrap();
        writing += started.elapsed();
        assert_eq!(report.inexact, [], "seed {seed}");
        assert_eq!(whole_picture(target.path()), before, "seed {seed}");
        entries += before.len();
        bytes += report.bytes;
    }
    let (read, write) = (reading.as_secs_f64(), writing.as_secs_f64());
    eprintln!("{entries} entries, {bytes} bytes: read in {read:.2} s, written in {write:.2} s");
}
