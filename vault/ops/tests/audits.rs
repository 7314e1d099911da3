//! Audits and the rolling scrub from outside: what they cost, what they find, what
//! they remember, and that they cry no wolf.
//!
//! Long form: `HOLDFAST_AUDIT_CHALLENGES=1000000` asks so many challenges of healthy
//! data while one request in five fails.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use backends::{Faults, Faulty};
use vault_ops::audit::{self, AuditOptions, Budget, Outcome};
use vault_ops::catalog::Catalog;
use vault_ops::scrub::{self, ScrubOptions};
use world::{Lab, random_bytes, rng};

const DAY: Duration = Duration::from_hours(24);

fn samples(samples: usize) -> AuditOptions {
    AuditOptions { samples, location: None, full: false }
}

async fn shards_at(lab: &Lab, at: usize) -> Vec<String> {
    lab.names(at).await.into_iter().filter(|name| name.starts_with("shards/")).collect()
}

async fn flip(lab: &Lab, at: usize, name: &str, byte: usize) {
    let mut bytes = lab.get(at, name).await;
    bytes[byte] ^= 1;
    lab.put(at, name, bytes).await;
}

#[tokio::test]
async fn a_budget_of_bytes_is_kept_and_still_asks_something() {
    let mut lab = Lab::new(40, (5, 9), 0, &[0; 9]).await;
    lab.backup(&random_bytes(40, 4_000_000)).await.unwrap();
    let vault = lab.open().await.unwrap();
    for budget in [1_u64, 2 << 20, 5 << 20] {
        let audit = audit::run_within(&vault, &lab.catalog, &samples(usize::MAX), Budget::Bytes(budget)).await.unwrap();
        let bytes: u64 = audit.locations.iter().map(|line| line.bytes).sum();
        assert!(audit.locations.iter().all(|line| line.samples >= 1), "{budget}");
        assert!(bytes <= budget.max(9 * 90_000), "{bytes} of {budget}");
        assert!(budget < 1 << 20 || bytes >= budget / 2, "{bytes} of {budget}: it is used, too");
        assert_eq!(audit.worst(), Outcome::Ok);
    }
}

#[tokio::test]
async fn a_budget_of_time_is_kept() {
    let mut lab = Lab::new(41, (5, 9), 0, &[0; 9]).await;
    lab.backup(&random_bytes(41, 12_000_000)).await.unwrap();
    // The lab's clock goes on by a millisecond each time it is asked.
    let vault = lab.open().await.unwrap();
    let short = Budget::Time(Duration::from_millis(9));
    let audit = audit::run_within(&vault, &lab.catalog, &samples(usize::MAX), short).await.unwrap();
    let asked: u64 = audit.locations.iter().map(|line| line.samples).sum();
    assert!(audit.locations.iter().all(|line| line.samples > 0 && line.samples < line.leaves), "{asked}");
    let long = Budget::Time(Duration::from_hours(1));
    let audit = audit::run_within(&vault, &lab.catalog, &samples(usize::MAX), long).await.unwrap();
    assert!(audit.locations.iter().all(|line| line.samples == line.leaves), "an hour is enough for all");
    assert!(audit.locations.iter().all(|line| (line.detection(0.01) - 1.0).abs() < f64::EPSILON));
}

#[tokio::test]
async fn what_was_read_is_remembered_and_forgotten_in_time() {
    let mut lab = Lab::new(42, (5, 9), 0, &[0; 9]).await;
    lab.backup(&random_bytes(42, 4_000_000)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let mut covered = 0;
    for round in 0..3 {
        let audit = audit::run(&vault, &lab.catalog, &samples(5)).await.unwrap();
        let line = &audit.locations[0];
        assert!(line.covered > covered || line.covered == line.leaves, "round {round}: {line:?}");
        assert!(line.covered <= line.leaves && line.covered <= 5 * (round + 1));
        covered = line.covered;
    }
    let full = AuditOptions { samples: 0, location: Some("p1".to_owned()), full: true };
    let before_ms = vault.world.now_ms();
    let audit = audit::run(&vault, &lab.catalog, &full).await.unwrap();
    assert_eq!(audit.locations[0].covered, audit.locations[0].leaves);
    assert!(audit.locations[0].oldest_ms.unwrap() >= before_ms);
    assert_eq!(lab.catalog.audits(100).unwrap().len(), 9 * 3 + 1);
    assert!(lab.catalog.audits(100).unwrap()[0].full, "the newest is first");
    vault.world.clock.sleep(91 * DAY).await;
    let audit = audit::run(&vault, &lab.catalog, &samples(1)).await.unwrap();
    assert!(audit.locations[0].covered <= 1, "what was read 91 days ago counts no more");
}

fn scrubbing(interval: Duration, every: Duration) -> ScrubOptions {
    ScrubOptions { interval, every, bandwidth: None, time_max: Duration::from_hours(10) }
}

#[tokio::test]
async fn a_rolling_scrub_reads_everything_once_in_its_interval_and_finds_rot() {
    let mut lab = Lab::new(43, (5, 9), 1, &[0, 1, 2, 3]).await;
    lab.backup(&random_bytes(43, 3_000_000)).await.unwrap();
    let names = shards_at(&lab, 2).await;
    let rotten = names.last().unwrap().clone();
    flip(&lab, 2, &rotten, 30_000).await;
    let options = scrubbing(30 * DAY, 3 * DAY);
    let (mut read, mut found, mut most) = (0, 0, 0);
    let file = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&file.path().join("c")).unwrap();
    drop(catalog);
    for _ in 0..10 {
        // Each slice is another process: what was read is on disk.
        let catalog = Catalog::open(&file.path().join("c")).unwrap();
        let vault = lab.open().await.unwrap();
        let slice = scrub::slice(&vault, &catalog, &options).await.unwrap();
        let now: usize = slice.locations.iter().map(|line| line.read).sum();
        (read, most) = (read + now, most.max(now));
        found += slice.findings.iter().filter(|finding| finding.outcome == Outcome::Contained).count();
        vault.world.clock.sleep(3 * DAY).await;
    }
    let catalog = Catalog::open(&file.path().join("c")).unwrap();
    let vault = lab.open().await.unwrap();
    let all: usize = (0..4).map(|at| vault.locations[at].id).map(|id| catalog.reads(id).unwrap().len()).sum();
    let oldest = |at: usize| catalog.reads(vault.locations[at].id).unwrap().into_values().map(|row| row.whole_ms).min();
    assert!(found >= 1, "the flipped byte is found");
    assert_eq!(catalog.failures().unwrap().len(), 1);
    assert!((0..4).filter(|at| *at != 2).all(|at| oldest(at).unwrap().is_some()), "every shard was read");
    assert!(read < 2 * all, "{read} reads of {all}: not over and over");
    assert!(most < all / 2, "{most} of {all} in one slice: evenly");
    let slice = scrub::slice(&vault, &catalog, &options).await.unwrap();
    assert!(slice.locations.iter().enumerate().all(|(at, line)| at == 2 || line.overdue == 0), "{slice:?}");
}

#[tokio::test]
async fn a_scrub_keeps_under_its_bandwidth_and_its_time() {
    let mut lab = Lab::new(44, (5, 9), 0, &[0; 9]).await;
    lab.backup(&random_bytes(44, 3_000_000)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let options = ScrubOptions { bandwidth: Some(100_000), ..scrubbing(DAY, DAY) };
    let began = vault.world.now_ms();
    let slice = scrub::slice(&vault, &lab.catalog, &options).await.unwrap();
    let bytes: u64 = slice.locations.iter().map(|line| line.read_bytes).sum();
    let seconds = (vault.world.now_ms() - began) as f64 / 1000.0;
    assert!(bytes > 3_000_000, "{bytes}");
    assert!(bytes as f64 / seconds <= 100_100.0, "{bytes} bytes in {seconds} s");
    assert!(bytes as f64 / seconds > 90_000.0, "{bytes} bytes in {seconds} s: and not much slower");
    let brief = ScrubOptions { time_max: Duration::from_secs(9), ..options };
    let began = vault.world.now_ms();
    let slice = scrub::slice(&vault, &lab.catalog, &brief).await.unwrap();
    assert!(slice.locations.iter().all(|line| line.read > 0), "every location has its part: {slice:?}");
    assert!((vault.world.now_ms() - began) < 9_000 + 9 * 5_000);
}

#[tokio::test]
async fn copies_kept_for_others_are_audited_too() {
    let mut lab = Lab::new(45, (5, 9), 1, &[0, 1, 2, 3]).await;
    lab.down = vec![3];
    let bytes = random_bytes(45, 600_000);
    let report = lab.backup(&bytes).await.unwrap();
    let kept = report.debts.iter().find(|debt| debt.kept_by.is_some()).unwrap().clone();
    lab.down.clear();
    let vault = lab.open().await.unwrap();
    let at = vault.locations.iter().position(|location| Some(location.id) == kept.kept_by).unwrap();
    let name = format!("/{}.{:02}", kept.pack, kept.index);
    let name = shards_at(&lab, at).await.into_iter().find(|shard| shard.ends_with(&name)).unwrap();
    let good = lab.get(at, &name).await;
    flip(&lab, at, &name, 20_000).await;
    let audit = audit::run(&vault, &lab.catalog, &samples(10_000)).await.unwrap();
    let bad = audit.findings.iter().find(|finding| (finding.pack, finding.index) == (kept.pack, kept.index));
    assert!(audit.findings.iter().any(|finding| finding.location == vault.locations[at].name), "{bad:?}");
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert_eq!(lab.get(at, &name).await, good);
}

#[tokio::test]
async fn the_five_outcomes() {
    let mut lab = Lab::new(46, (5, 9), 4, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
    lab.backup(&random_bytes(46, 500_000)).await.unwrap();
    let worst = async |lab: &Lab| {
        let vault = lab.open().await.unwrap();
        audit::run(&vault, &lab.fork(1).catalog, &samples(10_000)).await.unwrap().worst()
    };
    assert_eq!(worst(&lab).await, Outcome::Ok);
    lab.down = vec![7];
    assert_eq!(worst(&lab).await, Outcome::Offline);
    lab.down.clear();
    let pack = shards_at(&lab, 0).await[0].clone();
    let pack = pack[..pack.len() - 3].to_owned();
    let of_pack = async |lab: &Lab| {
        let mut all = Vec::new();
        for at in 0..9 {
            all.extend(
                shards_at(lab, at).await.into_iter().filter(|name| name.starts_with(&pack)).map(|name| (at, name)),
            );
        }
        all
    };
    let shards = of_pack(&lab).await;
    flip(&lab, shards[0].0, &shards[0].1, 40_000).await;
    assert_eq!(worst(&lab).await, Outcome::Contained);
    // Nobody shows a header of the pack any more, and one location is away: unknown at best.
    for (at, name) in &shards {
        flip(&lab, *at, name, 100).await;
    }
    lab.down = vec![shards[8].0];
    let vault = lab.open().await.unwrap();
    let audit = audit::run(&vault, &lab.fork(1).catalog, &samples(10_000)).await.unwrap();
    assert!(audit.findings.iter().any(|finding| finding.outcome == Outcome::Unknown), "{:?}", audit.findings);
    lab.down.clear();
    for (at, name) in &shards {
        lab.delete(*at, name).await;
    }
    assert_eq!(worst(&lab).await, Outcome::Failed);
    let vault = lab.open().await.unwrap();
    let look = vault_ops::status::look(&vault, &lab.catalog).await.unwrap();
    assert_eq!(look.lost.len(), 1, "a pack missing everywhere is found without any key");
}

/// One request in five times out. That says nothing about the bytes.
#[tokio::test]
async fn timeouts_are_no_damage() {
    const SEED: u64 = 0x20_0000;
    let wanted: u64 = std::env::var("HOLDFAST_AUDIT_CHALLENGES").map_or(20_000, |text| text.parse().unwrap());
    let mut lab = Lab::new(47, (5, 9), 1, &[0, 1, 2, 3]).await;
    for point in 0..3 {
        lab.backup(&random_bytes(47 + point, 900_000)).await.unwrap();
    }
    let (mut asked, mut offline, mut unknown, mut runs) = (0_u64, 0_u64, 0_u64, 0_u64);
    while asked < wanted {
        let storms: Vec<Faulty> = lab
            .stores
            .iter()
            .enumerate()
            .map(|(at, (_, store))| Faulty::new(Arc::clone(store) as _, Box::new(rng(SEED + runs * 16 + at as u64))))
            .collect();
        let vault = lab.open_through(|at, _| Arc::new(storms[at].clone())).await.unwrap();
        for storm in &storms {
            storm.set(Faults { get_error: 200, slow: 50, ..Faults::default() });
        }
        let audit = audit::run(&vault, &lab.catalog, &samples(459)).await.unwrap();
        assert!(
            audit.worst() <= Outcome::Unknown,
            "seed {SEED:#x}, run {runs}: {:?} {:?} {:?}",
            audit.findings,
            audit.records,
            audit.short
        );
        for line in &audit.locations {
            asked += line.samples + line.records;
            offline += line.offline;
            unknown += line.unknown;
        }
        runs += 1;
    }
    println!(
        "{asked} challenges in {runs} audits, {offline} offline, {unknown} unknown, no false alarm (seed {SEED:#x})"
    );
    assert!(offline > asked / 10, "the weather was bad: {offline} of {asked}");
    assert!(lab.catalog.failures().unwrap().is_empty() && lab.catalog.record_failures().unwrap().is_empty());
}
