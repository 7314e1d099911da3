//! What changed between two points, against a model made from the plain trees; and what
//! is found in many points, against walks through each.
//!
//! `HOLDFAST_DIFF_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_sources::difference::{Change, Pair};
use agent_sources::directory::DirectorySource;
use agent_sources::point_tree::PointTree;
use agent_sources::search::Search;
use agent_sources::selection::Glob;
use memory_vault::{MemoryPoint, MemoryVault};

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the model knows of a name: kind, bytes or target, and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    kind: u32,
    bytes: Vec<u8>,
    attributes: (u32, i64, i64),
}

fn model(top: &Path) -> BTreeMap<PathBuf, Plain> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::from("t")];
    while let Some(path) = waiting.pop() {
        let whole = top.join(&path);
        let meta = fs::symlink_metadata(&whole).unwrap();
        let mut bytes = Vec::new();
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&whole).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        } else if meta.is_symlink() {
            bytes = fs::read_link(&whole).unwrap().into_os_string().into_encoded_bytes();
        } else {
            bytes = fs::read(&whole).unwrap();
        }
        let attributes = (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec());
        found.insert(path, Plain { kind: meta.mode() & 0o170_000, bytes, attributes });
    }
    found
}

fn expected(old: &BTreeMap<PathBuf, Plain>, new: &BTreeMap<PathBuf, Plain>) -> BTreeMap<PathBuf, Change> {
    let mut changes = BTreeMap::new();
    for path in old.keys().chain(new.keys()) {
        let change = match (old.get(path), new.get(path)) {
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Removed,
            (Some(old), Some(new)) if (old.kind, &old.bytes) != (new.kind, &new.bytes) => Change::Content,
            (Some(old), Some(new)) if old.attributes != new.attributes => Change::Metadata,
            _ => continue,
        };
        changes.insert(path.clone(), change);
    }
    changes
}

fn any_path(top: &Path, numbers: &mut Numbers, directories: bool) -> Option<PathBuf> {
    let all: Vec<PathBuf> = model(top)
        .into_iter()
        .filter(|(path, plain)| path.components().count() > 1 && (plain.kind == 0o040_000) == directories)
        .map(|(path, _)| top.join(path))
        .collect();
    (!all.is_empty()).then(|| all[numbers.below(all.len() as u64) as usize].clone())
}

/// Changes something, or adds or removes.
fn mutate(top: &Path, numbers: &mut Numbers) {
    let directory = any_path(top, numbers, true).unwrap_or_else(|| top.join("t"));
    let new = directory.join(format!("n{}", numbers.below(6)));
    match numbers.below(8) {
        0..=2 => {
            if !new.exists() && !new.is_symlink() {
                fs::write(&new, vec![numbers.below(3) as u8; numbers.below(200_000) as usize]).unwrap();
            }
        }
        3 => drop(fs::create_dir(&new)),
        4 => drop(symlink("somewhere", &new)),
        5 => {
            if let Some(file) = any_path(top, numbers, false) {
                fs::remove_file(file).unwrap();
            }
        }
        6 => {
            if let Some(file) = any_path(top, numbers, false).filter(|file| !file.is_symlink()) {
                fs::set_permissions(file, fs::Permissions::from_mode(0o600 + numbers.below(64) as u32)).unwrap();
            }
        }
        _ => {
            if numbers.below(4) == 0 {
                fs::remove_dir_all(directory).unwrap();
                drop(fs::create_dir(top.join("t")));
            }
        }
    }
}

fn point(vault: &mut MemoryVault, top: &Path) -> MemoryPoint {
    let mut source = DirectorySource::new("t", &[top.join("t")], Vec::new()).unwrap();
    let reading = vault.read(&mut source).unwrap();
    assert_eq!(reading.unreadable, []);
    vault.point(reading.root)
}

async fn changes(old: &MemoryPoint, new: &MemoryPoint, named_alike: bool) -> BTreeMap<PathBuf, Change> {
    let pair = Pair { old: PointTree::of(old).unwrap(), new: PointTree::of(new).unwrap(), named_alike };
    let mut told = Vec::new();
    let mut tell = |changed: agent_sources::difference::Changed| told.push((changed.path, changed.change));
    pair.compare(Path::new(""), Path::new(""), &mut tell).await.unwrap();
    let count = told.len();
    let told: BTreeMap<PathBuf, Change> = told.into_iter().collect();
    assert_eq!(told.len(), count, "nothing is told twice");
    told
}

#[tokio::test]
async fn changes_are_those_of_the_plain_trees() {
    let rounds = std::env::var("HOLDFAST_DIFF_ROUNDS").map_or(12, |text| text.parse().unwrap());
    for seed in 1..=rounds {
        println!("seed {seed}");
        let mut numbers = Numbers(seed * 0x9e37_79b9);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("t/a/b")).unwrap();
        let mut vault = MemoryVault::default();
        let mut history = Vec::new();
        for _ in 0..4 {
            for _ in 0..numbers.below(25) {
                mutate(dir.path(), &mut numbers);
            }
            history.push((model(dir.path()), point(&mut vault, dir.path())));
        }
        for (old_model, old) in &history {
            for (new_model, new) in &history {
                let wanted = expected(old_model, new_model);
                assert_eq!(changes(old, new, true).await, wanted, "seed {seed}");
                assert_eq!(changes(old, new, false).await, wanted, "seed {seed}, by reading the bytes");
            }
        }
        let mut search = Search::new(Glob::new("n[0-3]").unwrap());
        for (plain, point) in &history {
            let found = search.through(PointTree::of(point).unwrap()).await.unwrap();
            let found: BTreeSet<PathBuf> = found.iter().map(|hit| hit.path.clone()).collect();
            let is_meant = |path: &&PathBuf| ["n0", "n1", "n2", "n3"].iter().any(|name| path.ends_with(name));
            assert_eq!(found, plain.keys().filter(is_meant).cloned().collect(), "seed {seed}");
        }
    }
}

#[tokio::test]
async fn what_did_not_change_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..40 {
        fs::create_dir_all(dir.path().join(format!("t/{number}"))).unwrap();
        fs::write(dir.path().join(format!("t/{number}/file")), format!("{number}")).unwrap();
    }
    let mut vault = MemoryVault::default();
    let mut old = point(&mut vault, dir.path());
    fs::write(dir.path().join("t/7/more"), "x").unwrap();
    let mut new = point(&mut vault, dir.path());
    let reads = Arc::new(AtomicU64::new(0));
    for point in [&mut old, &mut new] {
        let reads = Arc::clone(&reads);
        point.on_read = Some(Box::new(move |_| {
            reads.fetch_add(1, Ordering::SeqCst);
        }));
    }
    let told = changes(&old, &new, true).await;
    assert_eq!(told[Path::new("t/7/more")], Change::Added);
    // On each side: the top, `t` and `t/7`.
    assert_eq!(reads.swap(0, Ordering::SeqCst), 6);
    let mut search = Search::new(Glob::new("file").unwrap());
    search.through(PointTree::of(&old).unwrap()).await.unwrap();
    assert_eq!(reads.swap(0, Ordering::SeqCst), 42);
    search.through(PointTree::of(&new).unwrap()).await.unwrap();
    assert_eq!(reads.swap(0, Ordering::SeqCst), 3, "what both points share is looked through once");
    PointTree::of(&new).unwrap().look(Path::new("t/9/file")).await.unwrap();
    assert_eq!(reads.swap(0, Ordering::SeqCst), 3, "only the listings on the way");
}
