//! Trees drawn from a seed come back as they were. In the long form
//! (`HOLDFAST_TREES=2000 cargo test -p holdfast-agent-sources --test random_trees`)
//! the seeds go on from where the short form ends; a failure names its seed, and
//! `HOLDFAST_TREE_SEED=N` runs that one alone.
#![allow(clippy::unwrap_used)]

mod memory_vault;
mod torture;

use std::fs;
use std::time::{Duration, Instant};

use agent_sources::directory::DirectorySource;
use agent_sources::tree::{TreeOptions, restore_tree};
use memory_vault::MemoryVault;
use torture::{Dice, assert_same, grow_random, picture};
use vault_format::point::PointRoot;

const TREES: u64 = 30;

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
            grow_random(&mut dice, &top, 0, &mut files);
        }
        let before = picture(original.path());
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
        assert_same(&before, &picture(target.path()), &format!("seed {seed}"));
        entries += before.len();
        bytes += report.bytes;
    }
    let (read, write) = (reading.as_secs_f64(), writing.as_secs_f64());
    eprintln!("{entries} entries, {bytes} bytes: read in {read:.2} s, written in {write:.2} s");
}
