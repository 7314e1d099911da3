//! A crash at every single step of the disk: whatever was acknowledged is there afterwards, with the hash it
//! had; nothing else is but what was in flight; and the node goes on.
#![allow(clippy::unwrap_used)]

mod sim;

use std::collections::BTreeMap;

use kernel_node::core::Hash;
use kernel_node::{Config, Error, Node, SyncMode, Written};
use sim::SimDisk;

/// Hash of every sequence in a run without crashes.
type Truth = BTreeMap<u64, Hash>;

/// Writes, snapshots, cursors, a stop and a second start; remembers what was acknowledged.
async fn story(disk: &SimDisk, config: &Config, acknowledged: &mut Vec<(u64, Hash)>) -> Result<(), Error> {
    let node = sim::open(disk, config)?;
    let mut keep = |written: Written| acknowledged.push((written.sequence, written.state_hash));
    keep(node.write(sim::create()).await?);
    for number in 0..6 {
        keep(node.write(sim::put(number * 10..number * 10 + 1 + number % 3)).await?);
    }
    // Several at once: a group.
    let (one, two, three) =
        tokio::join!(node.write(sim::put(100..101)), node.write(sim::put(110..112)), node.write(sim::put(120..121)));
    keep(one?);
    keep(two?);
    keep(three?);
    node.snapshot().await?;
    for number in 20..26 {
        keep(node.write(sim::put(number * 10..number * 10 + 3)).await?);
    }
    node.set_cursors(sim::LINEAGE, 12, 9).await?;
    node.snapshot().await?;
    keep(node.write(sim::put(300..303)).await?);
    node.snapshot().await?;
    node.set_cursors(sim::LINEAGE, 16, 16).await?;
    node.stop().await?;
    let node = sim::open(disk, config)?;
    keep(node.write(sim::put(400..404)).await?);
    Ok(())
}

async fn truth(config: &Config) -> (Truth, u64) {
    let disk = SimDisk::new();
    let mut acknowledged = Vec::new();
    story(&disk, config, &mut acknowledged).await.unwrap();
    let mut truth: Truth = acknowledged.into_iter().collect();
    truth.insert(0, sim::open(&SimDisk::new(), config).unwrap().published().at.state_hash);
    (truth, disk.steps())
}

/// The group of three may be logged in any order; only the hashes around it are fixed.
fn check(node: &Node, truth: &Truth, acknowledged: &[(u64, Hash)], context: &str) {
    let at = node.published().at;
    let last = acknowledged.last().map_or(0, |(sequence, _)| *sequence);
    assert!(at.sequence >= last, "{context}: acknowledged {last}, recovered {}", at.sequence);
    assert!(at.sequence <= last + 3, "{context}: {} came from nowhere after {last}", at.sequence);
    let said = acknowledged.iter().find(|(sequence, _)| *sequence == at.sequence).map(|(_, hash)| hash);
    let in_group = (8..=9).contains(&at.sequence);
    if let Some(hash) = said {
        assert_eq!(*hash, at.state_hash, "{context}");
    } else if !in_group {
        assert_eq!(truth.get(&at.sequence), Some(&at.state_hash), "{context}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_the_disk() {
    let config = sim::config();
    let (truth, steps) = truth(&config).await;
    assert!(steps > 80, "the story is long enough to mean something: {steps}");
    let seeds: u64 = std::env::var("HOLDFAST_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for step in 1..=steps {
        for seed in 0..seeds {
            let context = format!("crash at step {step}, seed {seed}");
            let disk = SimDisk::new();
            disk.crash_after(step, seed * 1_000 + step);
            let mut acknowledged = Vec::new();
            let ended = story(&disk, &config, &mut acknowledged).await;
            let Some(left) = disk.left() else {
                ended.unwrap_or_else(|error| panic!("{context}: {error}"));
                continue;
            };
            recover_twice(&left, &config, &truth, &acknowledged, &context, seed).await;
        }
    }
}

/// Recovery itself crashes too, then runs to the end.
async fn recover_twice(
    left: &sim::Image,
    config: &Config,
    truth: &Truth,
    acknowledged: &[(u64, Hash)],
    context: &str,
    seed: u64,
) {
    let disk = SimDisk::holding(left);
    disk.crash_after(1 + seed % 4, seed);
    let left = match sim::open(&disk, config) {
        Ok(node) => {
            check(&node, truth, acknowledged, context);
            disk.image()
        }
        Err(error) => disk.left().unwrap_or_else(|| panic!("{context}: recovery failed without a crash: {error}")),
    };
    let node = sim::open(&SimDisk::holding(&left), config)
        .unwrap_or_else(|error| panic!("{context}: {error}\n{:?}", left.keys().collect::<Vec<_>>()));
    check(&node, truth, acknowledged, context);
    let at = node.published().at;
    let next = if at.sequence == 0 { sim::create() } else { sim::put(900..901) };
    assert_eq!(node.write(next).await.unwrap().sequence, at.sequence + 1, "{context}: it goes on");
    // What is left of the log is one chain up to the end.
    let oldest = node.snapshots().first().unwrap().sequence;
    let tail = node.log_after(Some(sim::LINEAGE), oldest, usize::MAX).unwrap();
    assert_eq!(tail.last, Some(at.sequence + 1), "{context}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sync_a_crash_loses_only_the_end() {
    let config = Config { sync: SyncMode::None, ..sim::config() };
    let (truth, steps) = truth(&config).await;
    let mut lost = 0;
    for step in 1..=steps {
        let disk = SimDisk::new();
        disk.crash_after(step, step);
        let mut acknowledged = Vec::new();
        let _ = story(&disk, &config, &mut acknowledged).await;
        let Some(left) = disk.left() else { continue };
        match sim::open(&SimDisk::holding(&left), &config) {
            Ok(node) => {
                let at = node.published().at;
                let known = acknowledged.iter().map(|(sequence, hash)| (*sequence, *hash)).collect::<Truth>();
                let expected = known.get(&at.sequence).or_else(|| truth.get(&at.sequence));
                assert!((8..=9).contains(&at.sequence) || expected == Some(&at.state_hash), "step {step}");
                lost += acknowledged.last().map_or(0, |(last, _)| last.saturating_sub(at.sequence));
            }
            // The agent had reported more than this disk kept: that is said, not papered over.
            Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "step {step}: {error}"),
        }
    }
    assert!(lost > 0, "if nothing is ever lost without syncing, the simulated disk is too kind");
}

/// A sync that fails is final: nothing later is acknowledged or shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let disk = SimDisk::new();
    let node = sim::open(&disk, &sim::config()).unwrap();
    let first = node.write(sim::create()).await.unwrap();
    disk.crash_after(2, 1);
    assert!(matches!(node.write(sim::put(0..1)).await, Err(Error::Unavailable { .. })));
    assert!(matches!(node.write(sim::put(1..2)).await, Err(Error::Unavailable { .. })));
    assert_eq!(node.published().at.sequence, first.sequence, "what was not acknowledged is not visible");
    assert!(node.failure().is_some());
    assert!(node.snapshot().await.is_err() || node.published().at.sequence == 1);
}
