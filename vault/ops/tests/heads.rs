//! Chains that go back, stand still or split: found, and the location that shows it
//! named. Hosts that come back from an image, and two that write with one key.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use backends::{Faults, Faulty};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use vault_format::manifest::ManifestKind;
use vault_ops::heads::{self, Depth};
use vault_ops::heartbeat::{self, Beat};
use vault_ops::spool::deliver;
use vault_ops::status;
use vault_ops::watch::{FROZEN_MS, HeadFinding, Odd, SILENT_MS};
use world::{Lab, random_bytes};

const DOMAINS: usize = 4;

async fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3]).await;
    lab.spool = Some(Arc::new(InMemory::new()));
    lab
}

async fn look(lab: &Lab) -> Vec<HeadFinding> {
    status::look(&lab.open().await.unwrap(), &lab.catalog).await.unwrap().heads
}

fn culprits(findings: &[HeadFinding]) -> Vec<(Odd, Option<&str>)> {
    findings.iter().map(|finding| (finding.odd, finding.location.as_deref())).collect()
}

async fn manifests(lab: &Lab, at: usize) -> Vec<String> {
    lab.names(at).await.into_iter().filter(|name| name.starts_with("manifests/")).collect()
}

async fn repair(lab: &Lab) {
    let vault = lab.open().await.unwrap();
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
}

async fn all_points(lab: &Lab) -> Vec<Vec<u8>> {
    let vault = lab.open().await.unwrap();
    let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
    let mut restored = Vec::new();
    for back in (0..list.points.len()).rev() {
        restored.push(lab.restore_listed(&vault, &list, back).await.unwrap().0);
    }
    restored
}

#[tokio::test]
async fn a_location_that_goes_back_is_named_and_the_others_are_not() {
    let mut base = lab(1).await;
    for turn in 0..3 {
        base.backup(&random_bytes(turn, 40_000)).await.unwrap();
    }
    assert!(look(&base).await.is_empty());
    for culprit in 0..DOMAINS {
        for hidden in 1..=3 {
            let lab = base.fork(culprit as u64);
            // Names begin with the newest.
            for name in manifests(&lab, culprit).await.into_iter().take(hidden) {
                lab.delete(culprit, &name).await;
            }
            let name = format!("p{}", culprit + 1);
            for _ in 0..2 {
                let found = look(&lab).await;
                assert_eq!(culprits(&found), [(Odd::RolledBack, Some(name.as_str()))], "{hidden} hidden: {found:?}");
                assert!(found[0].what.contains(".3 before"), "{}", found[0].what);
            }
            let mut run = lab.fork(7);
            let report = run.backup(&random_bytes(9, 40_000)).await.unwrap();
            assert!(report.notes.iter().any(|note| note.starts_with(&name)), "a run says it too: {:?}", report.notes);
            repair(&lab).await;
            assert!(look(&lab).await.is_empty(), "a repair brings it up to date");
        }
    }
}

#[tokio::test]
async fn a_location_that_stands_still_while_others_go_on_is_named() {
    let base = lab(2).await;
    for culprit in 0..DOMAINS {
        let mut writer = base.fork(culprit as u64);
        writer.backup(&random_bytes(1, 40_000)).await.unwrap();
        // Another host watches, and is told the old state by one location.
        let mut watcher = writer.fork(50);
        assert!(look(&watcher).await.is_empty());
        let frozen: Arc<InMemory> = Arc::clone(&watcher.stores[culprit].1);
        writer.backup(&random_bytes(2, 40_000)).await.unwrap();
        watcher.stores.clone_from(&writer.stores);
        watcher.stores[culprit].1 = frozen;
        assert!(look(&watcher).await.is_empty(), "one write missed is no lie");
        watcher.world.clock.sleep(Duration::from_millis(FROZEN_MS as u64)).await;
        let name = format!("p{}", culprit + 1);
        let found = look(&watcher).await;
        assert_eq!(culprits(&found), [(Odd::Frozen, Some(name.as_str()))], "{found:?}");
        // Without what was not shown yet, a backup and a restore go on.
        assert_eq!(all_points(&watcher).await.len(), 2);
    }
}

#[tokio::test]
async fn a_location_that_shows_another_manifest_for_a_place_is_named() {
    let mut base = lab(3).await;
    base.backup(&random_bytes(1, 40_000)).await.unwrap();
    let mut clone = base.fork(77);
    base.backup(&random_bytes(2, 40_000)).await.unwrap();
    clone.backup(&random_bytes(3, 40_000)).await.unwrap();
    let name = manifests(&base, 0).await.remove(0);
    let other = clone.get(0, &name).await;
    assert!(other != base.get(0, &name).await, "two signed manifests for one place");
    for culprit in 0..DOMAINS {
        let lab = base.fork(culprit as u64);
        lab.put(culprit, &name, other.clone()).await;
        let found = look(&lab).await;
        let place = format!("p{}", culprit + 1);
        assert_eq!(culprits(&found), [(Odd::Forked, Some(place.as_str()))], "{found:?}");
    }
}

#[tokio::test]
async fn a_host_from_an_old_image_opens_a_new_epoch_behind_what_was_written_since() {
    let mut now = lab(4).await;
    let (first, second, third) = (random_bytes(1, 60_000), random_bytes(2, 60_000), random_bytes(3, 60_000));
    now.backup(&first).await.unwrap();
    let mut image = now.fork(5);
    now.backup(&second).await.unwrap();
    image.stores.clone_from(&now.stores);
    let report = image.backup(&third).await.unwrap();
    assert_eq!(report.manifest.0, 2, "{:?}", report.manifest);
    assert_eq!(all_points(&image).await, [first.clone(), second.clone(), third.clone()]);
    let again = image.backup(&second).await.unwrap();
    assert_eq!((again.manifest.0, again.statistics.new_bytes), (2, 0), "it knows what it did not write");
    // The host that was thought dead goes on, too.
    let back = now.backup(&third).await.unwrap();
    assert_eq!((back.manifest.0, back.statistics.new_bytes), (3, 0));
    let vault = now.open().await.unwrap();
    let list = vault_ops::points::list(&vault, &now.read_key()).await.unwrap();
    assert!(list.remarks.is_empty() && list.points.len() == 5, "{:?}", list.remarks);
}

/// Two images of one host, at the same time, over stores that make them meet anywhere.
#[tokio::test]
async fn two_clones_that_write_at_once_both_end_with_their_points() {
    for seed in 0..12 {
        let mut base = lab(100 + seed).await;
        let old = random_bytes(1, 30_000);
        base.backup(&old).await.unwrap();
        let (mut one, mut two) = (base.fork(seed * 2 + 1), base.fork(seed * 2 + 2));
        two.stores.clone_from(&one.stores);
        let slow = |lab: &Lab, seed: u64| -> Vec<Faulty> {
            let stores = lab.stores.iter().zip(0..);
            stores
                .map(|((_, store), at)| {
                    let inner = Arc::clone(store) as Arc<dyn ObjectStore>;
                    let faulty = Faulty::new(inner, Box::new(world::rng(seed * 10 + at)));
                    faulty.set(Faults { slow: 700, ..Faults::default() });
                    faulty
                })
                .collect()
        };
        let (first, second) = (random_bytes(seed + 200, 30_000), random_bytes(seed + 300, 30_000));
        let run = async |lab: &mut Lab, bytes: &[u8], seed: u64| {
            let stores = slow(lab, seed);
            let wrap = |at: usize, store| stores.get(at).map_or(store, |slow| Arc::new(slow.clone()) as _);
            let vault = lab.open_through(wrap).await.unwrap();
            lab.backup_in(&vault, bytes).await
        };
        let (a, b) = futures::future::join(run(&mut one, &first, seed), run(&mut two, &second, seed + 50)).await;
        let place = format!("seed {seed}");
        for (report, lab) in [(a, &mut one), (b, &mut two)] {
            let report = report.unwrap_or_else(|error| panic!("{place}: {error}"));
            if report.spooled.is_some() {
                let vault = lab.open().await.unwrap();
                let delivery = deliver(&vault, &lab.writer(), &mut lab.catalog).await.unwrap();
                assert_eq!(delivery.left, 0, "{place}: {delivery:?}");
            }
        }
        let points = all_points(&one).await;
        assert!(points.len() == 3 && points.contains(&first) && points.contains(&second), "{place}: {}", points.len());
        for gone in 0..DOMAINS {
            one.down = vec![gone];
            let points = all_points(&one).await;
            assert!(points.contains(&old) && points.contains(&first) && points.contains(&second), "{place}, {gone}");
        }
        one.down.clear();
        for lab in [&mut one, &mut two] {
            lab.backup(&old).await.unwrap_or_else(|error| panic!("{place}, next run: {error}"));
        }
        assert_eq!(all_points(&one).await.len(), 5, "{place}");
    }
}

#[tokio::test]
async fn an_idle_writer_sends_a_heartbeat_that_is_no_point() {
    let mut lab = lab(6).await;
    let bytes = random_bytes(1, 50_000);
    lab.backup(&bytes).await.unwrap();
    let beat = async |lab: &mut Lab| {
        let vault = lab.open().await.unwrap();
        heartbeat::beat(&vault, &lab.writer(), &mut lab.catalog, heartbeat::IDLE).await.unwrap()
    };
    assert_eq!(beat(&mut lab).await, Beat::NotDue);
    lab.world.clock.sleep(heartbeat::IDLE).await;
    assert_eq!(beat(&mut lab).await, Beat::Sent { position: (1, 2), owed: Vec::new() });
    assert_eq!(beat(&mut lab).await, Beat::NotDue);
    let vault = lab.open().await.unwrap();
    let chain = heads::chain(&vault, lab.writer().writer, Depth::Whole).await.unwrap();
    assert_eq!(chain.head().unwrap().body.kind, ManifestKind::Heartbeat);
    assert!(chain.gaps.is_empty() && chain.confirmed);
    let look = status::look(&vault, &lab.catalog).await.unwrap();
    assert!(look.risks.is_empty() && look.packs > 0, "{:?}", look.risks);
    let report = lab.backup(&bytes).await.unwrap();
    assert_eq!((report.manifest, report.statistics.new_bytes), ((1, 3), 0));
    assert_eq!(all_points(&lab).await, [bytes.clone(), bytes.clone()]);
    lab.forget_catalog();
    let report = lab.backup(&bytes).await.unwrap();
    assert_eq!((report.manifest.0, report.statistics.new_bytes), (2, 0));
    let vault = lab.open().await.unwrap();
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
}

#[tokio::test]
async fn no_heartbeat_is_signed_while_a_point_waits_and_waiting_packs_are_named() {
    let mut lab = lab(7).await;
    lab.backup(&random_bytes(1, 50_000)).await.unwrap();
    lab.down = (0..DOMAINS).collect();
    lab.backup(&random_bytes(2, 50_000)).await.unwrap();
    lab.world.clock.sleep(heartbeat::IDLE).await;
    lab.down.clear();
    let vault = lab.open().await.unwrap();
    let beat = heartbeat::beat(&vault, &lab.writer(), &mut lab.catalog, heartbeat::IDLE).await.unwrap();
    assert_eq!(beat, Beat::Waits);
}

#[tokio::test]
async fn a_writer_that_used_to_beat_is_missed() {
    let mut lab = lab(8).await;
    lab.backup(&random_bytes(1, 50_000)).await.unwrap();
    let silent = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    assert!(look(&lab).await.is_empty());
    lab.world.clock.sleep(silent(SILENT_MS)).await;
    assert!(look(&lab).await.is_empty(), "who runs by hand is not expected");
    let vault = lab.open().await.unwrap();
    heartbeat::beat(&vault, &lab.writer(), &mut lab.catalog, heartbeat::IDLE).await.unwrap();
    assert!(look(&lab).await.is_empty());
    lab.world.clock.sleep(silent(SILENT_MS)).await;
    assert_eq!(culprits(&look(&lab).await), [(Odd::Silent, None)]);
}
