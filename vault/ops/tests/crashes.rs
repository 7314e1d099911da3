//! A backup that ends anywhere, and stores that lie. Whatever was durable before
//! still restores, the next run succeeds, with or without the catalog, and no
//! point is reported durable that does not restore after the loss of any d domains.
//!
//! The short form takes turns where the long form, `HOLDFAST_CRASHES=2`, tries every
//! combination; `HOLDFAST_STORMS=10` makes the weather ten times longer.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;

use backends::{Faults, Faulty};
use vault_format::shard::{HEADER_BYTES, INDEX_AT};
use vault_ops::OpsError;
use vault_ops::audit::{AuditOptions, Outcome};
use vault_ops::backup::BackupReport;
use vault_ops::place::{Overwrite, write_shard};
use world::stores::{Trip, Tripwire};
use world::{Lab, random_bytes, rng, scale, subsets};

const DOMAINS: usize = 4;
const SEED: u64 = 0xc4a5;

/// A vault that survives any one of four domains, with one point.
async fn scene(seed: u64) -> (Lab, Vec<u8>) {
    let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3]).await;
    let old = random_bytes(seed, 60_000);
    lab.backup(&old).await.unwrap();
    (lab, old)
}

/// A backup that meets the tripwire; `None` if it died there.
async fn meet(lab: &mut Lab, bytes: &[u8], wire: &Arc<Tripwire>) -> Option<vault_ops::Result<BackupReport>> {
    let vault = lab.open_through(|_, store| wire.store(store)).await.unwrap();
    wire.run(lab.backup_in(&vault, bytes)).await
}

/// With and without: both in the long form, in turn in the short one.
fn either(turn: usize) -> Vec<bool> {
    if scale("HOLDFAST_CRASHES") > 1 { vec![true, false] } else { vec![turn.is_multiple_of(2)] }
}

/// Opening the vault is only reading: operations are counted from there.
async fn opening(lab: &Lab) -> usize {
    let wire = Tripwire::never();
    lab.open_through(|_, store| wire.store(store)).await.unwrap();
    wire.seen()
}

/// All points, oldest first.
async fn all_points(lab: &Lab) -> Vec<Vec<u8>> {
    let vault = lab.open().await.unwrap();
    let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
    let mut restored = Vec::new();
    for back in (0..list.points.len()).rev() {
        restored.push(lab.restore_listed(&vault, &list, back).await.unwrap().0);
    }
    restored
}

/// The newest point restores with every set of `lost` locations away.
async fn newest_survives(lab: &mut Lab, lost: usize, bytes: &[u8], place: &str) {
    for gone in subsets(DOMAINS, lost) {
        lab.down.clone_from(&gone);
        let restored = lab.restore(0).await.unwrap_or_else(|error| panic!("{place}, then without {gone:?}: {error}"));
        assert!(restored == bytes, "{place}, then without {gone:?}: another point is the newest");
    }
    lab.down.clear();
}

/// Trips a backup at every operation; after each, runs it again from there.
async fn every_operation(trip: Trip) {
    let (base, old) = scene(SEED).await;
    let new = [&old[..30_000], &random_bytes(SEED + 1, 50_000)].concat();
    let first = opening(&base).await;
    let untripped = Tripwire::never();
    meet(&mut base.fork(1), &new, &untripped).await.unwrap().unwrap();
    let last = untripped.seen();
    assert!(last - first > 30, "{first} to {last}");
    let mut finished = 0;
    for at in first..last {
        let place = format!("seed {SEED:#x}, {trip:?} at operation {at} of {last}");
        let mut crashed = base.fork(1);
        let outcome = meet(&mut crashed, &new, &Tripwire::new(at, trip)).await;
        if let Some(Ok(_)) = outcome {
            finished += 1;
            newest_survives(&mut crashed, 1, &new, &place).await;
        }
        assert!(all_points(&crashed).await[0] == old, "{place}");
        for catalog_survives in either(at) {
            let place = format!("{place}, catalog survives: {catalog_survives}");
            let mut again = crashed.fork(2);
            if !catalog_survives {
                again.forget_catalog();
            }
            let report = again.backup(&new).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            // Packs that the dead run stored may still lack a shard: that is said, and mended.
            assert!(report.manifest_owed.is_empty(), "{place}: {:?}", report.manifest_owed);
            let only_reused =
                report.packs_reused > 0 && report.debts.iter().all(|debt| debt.why.contains("earlier run"));
            assert!(report.is_full() || only_reused, "{place}: {:?}", report.debts);
            let vault = again.open().await.unwrap();
            let plan = vault_ops::repair::plan(&vault, &again.catalog).await.unwrap();
            assert_eq!(plan.is_empty(), report.is_full(), "{place}: {plan:?}");
            let done = vault_ops::repair::apply(&vault, &again.catalog, &plan).await.unwrap();
            assert!(done.failed.is_empty() && done.lost.is_empty(), "{place}: {done:?}");
            let points = all_points(&again).await;
            assert!(points[0] == old && points[1..].iter().all(|point| *point == new), "{place}");
            assert!(points.len() >= 2, "{place}");
            let options = AuditOptions { samples: 1, location: None, full: true };
            let audit = vault_ops::audit::run(&vault, &again.catalog, &options).await.unwrap();
            assert_eq!(audit.worst(), Outcome::Ok, "{place}: {:?} {:?}", audit.findings, audit.records);
        }
    }
    println!("{trip:?}: {} operations, {finished} backups reported all the same", last - first);
    if trip != Trip::Fails {
        assert_eq!(finished, 0, "a process that died reports nothing");
    }
}

#[tokio::test]
async fn stores_that_fail_from_any_operation_on_leave_a_vault_that_goes_on() {
    every_operation(Trip::Fails).await;
}

#[tokio::test]
async fn a_process_that_dies_before_any_operation_leaves_a_vault_that_goes_on() {
    every_operation(Trip::DiesBefore).await;
}

#[tokio::test]
async fn a_process_that_dies_after_any_operation_leaves_a_vault_that_goes_on() {
    every_operation(Trip::DiesAfter).await;
}

/// The location that saw the end of a dead run is away when the next one runs: it
/// comes back with a manifest for a place in the chain that was filled without it.
#[tokio::test]
async fn what_only_an_absent_location_knows_of_a_dead_run_takes_nothing_back() {
    let (base, old) = scene(SEED + 10).await;
    let (dead, new, newer) = (random_bytes(1, 40_000), random_bytes(2, 40_000), random_bytes(3, 40_000));
    let first = opening(&base).await;
    let untripped = Tripwire::never();
    meet(&mut base.fork(1), &dead, &untripped).await.unwrap().unwrap();
    let last = untripped.seen();
    // The manifest is written at the end.
    for at in (first.max(last - 8)..last).rev() {
        let mut crashed = base.fork(1);
        assert!(meet(&mut crashed, &dead, &Tripwire::new(at, Trip::DiesAfter)).await.is_none());
        for away in 0..DOMAINS {
            for catalog_survives in [true, false] {
                let place =
                    format!("died after operation {at} of {last}, p{} away, catalog {catalog_survives}", away + 1);
                let mut lab = crashed.fork(3);
                lab.down = vec![away];
                if !catalog_survives {
                    lab.forget_catalog();
                }
                let report = lab.backup(&new).await.unwrap_or_else(|error| panic!("{place}: {error}"));
                assert!(!report.is_full(), "{place}");
                newest_survives(&mut lab, 1, &new, &place).await;
                assert!(all_points(&lab).await[0] == old, "{place}");
                // And with everybody back, with or without a memory of it.
                for remembered in either(at / 2 + away) {
                    let mut lab = lab.fork(4);
                    if !remembered {
                        lab.forget_catalog();
                    }
                    lab.backup(&newer).await.unwrap_or_else(|error| panic!("{place}, next run: {error}"));
                    newest_survives(&mut lab, 1, &newer, &place).await;
                    let points = all_points(&lab).await;
                    assert!(points[0] == old && points.contains(&new), "{place}: a reported point is gone");
                }
            }
        }
    }
}

/// Five domains, any two may be lost. A dead run's manifest stands on two of them;
/// they are away when the next run reports its point from the other three. Of those
/// two are lost then, and the dead manifest stands on more domains than the true one.
#[tokio::test]
async fn a_dead_runs_manifest_on_more_domains_hides_no_reported_point() {
    let mut base = Lab::new(SEED + 15, (1, 5), 2, &[0, 1, 2, 3, 4]).await;
    let (old, dead, new) = (random_bytes(1, 40_000), random_bytes(2, 40_000), random_bytes(3, 40_000));
    base.backup(&old).await.unwrap();
    let untripped = Tripwire::never();
    meet(&mut base.fork(1), &dead, &untripped).await.unwrap().unwrap();
    let (mut found, mut went_on) = (0, 0);
    for at in untripped.seen() - 20..untripped.seen() {
        let mut lab = base.fork(1);
        assert!(meet(&mut lab, &dead, &Tripwire::new(at, Trip::DiesAfter)).await.is_none());
        let mut holders = Vec::new();
        for at in 0..lab.stores.len() {
            let manifests = lab.names(at).await.into_iter().filter(|name| name.starts_with("manifests/")).count();
            holders.extend((manifests == 2).then_some(at));
        }
        if holders.len() != 2 {
            continue;
        }
        found += 1;
        lab.down.clone_from(&holders);
        lab.backup(&new).await.unwrap();
        for gone in subsets(5, 2) {
            lab.down.clone_from(&gone);
            assert!(lab.restore(0).await.unwrap() == new, "without {gone:?}");
            // The next run builds on what it remembers to have reported, or waits for it.
            let mut lab = lab.fork(2);
            let next = lab.backup(&dead).await;
            assert!(matches!(next, Ok(_) | Err(OpsError::Unreachable { .. })), "without {gone:?}: {next:?}");
            went_on += usize::from(next.is_ok());
            lab.down.clear();
            let points = all_points(&lab).await;
            assert!(points[0] == old && points.contains(&new), "after {gone:?}");
        }
    }
    assert!(found > 0, "no operation leaves the manifest on two locations");
    assert!(went_on > 0);
}

/// Weather that a backup may or may not get through.
fn storm(turn: u64) -> Faults {
    let mild = Faults {
        put_error: 60,
        put_landed: 60,
        put_vanishes: 60,
        get_error: 30,
        get_wrong: 30,
        get_short: 30,
        ..Faults::default()
    };
    match turn % 4 {
        0 => mild,
        1 => Faults { put_vanishes: 250, ..Faults::default() },
        2 => Faults { get_wrong: 120, get_short: 40, ..Faults::default() },
        _ => Faults { put_landed: 250, list_stale: 100, ..Faults::default() },
    }
}

fn set_all(stores: &[Faulty], faults: Faults) {
    for store in stores {
        store.set(faults);
    }
}

#[tokio::test]
async fn no_weather_makes_a_point_durable_that_is_not() {
    let (base, old) = scene(SEED + 20).await;
    let (mut reported, mut degraded, mut refused, mut lied) = (0, 0, 0, 0);
    for turn in 0..24 * scale("HOLDFAST_STORMS") as u64 {
        let mut lab = base.fork(100 + turn);
        let stores: Vec<Faulty> = lab
            .stores
            .iter()
            .zip(0..)
            .map(|((_, store), at)| Faulty::new(Arc::clone(store) as _, Box::new(rng(turn * 100 + at))))
            .collect();
        // A run that reported nothing may have left its point all the same.
        let (mut points, mut tried) = (vec![old.clone()], vec![old.clone()]);
        for run in 0..3 {
            let place = format!("seed {:#x}, storm {turn}, run {run}", SEED + 20);
            let bytes = random_bytes(turn * 10 + run, 30_000);
            tried.push(bytes.clone());
            set_all(&stores, storm(turn));
            let outcome = match lab.open_through(|at, _| Arc::new(stores[at].clone())).await {
                Ok(vault) => {
                    let outcome = lab.backup_in(&vault, &bytes).await;
                    // Reading in this weather: an error or the truth.
                    if let Ok((restored, _)) = lab.restore_from(&vault, 0).await {
                        assert!(tried.contains(&restored), "a wrong restore: {place}");
                    }
                    outcome
                }
                Err(error) => Err(error),
            };
            set_all(&stores, Faults::default());
            match outcome {
                Ok(report) => {
                    reported += 1;
                    degraded += usize::from(!report.is_full());
                    newest_survives(&mut lab, 1, &bytes, &place).await;
                    points.push(bytes);
                }
                Err(_) => refused += 1,
            }
            let restored = all_points(&lab).await;
            for point in &points {
                assert!(restored.contains(point), "{place}: a reported point is gone");
            }
            if turn % 2 == 1 && run == 1 {
                lab.forget_catalog();
            }
        }
        lied += stores.iter().map(|store| store.injected().put_vanishes + store.injected().get_wrong).sum::<u64>();
        let bytes = random_bytes(turn, 20_000);
        lab.backup(&bytes).await.unwrap_or_else(|error| panic!("storm {turn}, after it: {error}"));
        newest_survives(&mut lab, 1, &bytes, &format!("after storm {turn}")).await;
    }
    println!("{reported} reported, {degraded} of them with debts, {refused} refused, {lied} lies");
    assert!(reported > 15 && degraded > 8 && refused > 5 && lied > 100, "the weather was too fair, or too foul");
}

/// p1 never had its shards, p2 lost them: belief in p1 must not make a point of
/// what p3 and p4 alone hold.
#[tokio::test]
async fn shards_that_an_absent_location_never_had_do_not_count() {
    let mut lab = Lab::new(SEED + 30, (5, 9), 1, &[0, 1, 2, 3]).await;
    let bytes = random_bytes(7, 400_000);
    for absent in 0..DOMAINS {
        let mut lab = lab.fork(absent as u64);
        lab.down = vec![absent];
        lab.backup(&bytes).await.unwrap();
        for lost in (0..DOMAINS).filter(|lost| *lost != absent) {
            let mut lab = lab.fork(10 + lost as u64);
            for name in lab.names(lost).await.into_iter().filter(|name| name.starts_with("shards/")) {
                lab.delete(lost, &name).await;
            }
            if lab.backup(&bytes).await.is_ok() {
                let place = format!("p{} never had it, p{} lost it", absent + 1, lost + 1);
                newest_survives(&mut lab, 1, &bytes, &place).await;
            }
        }
    }
    lab.down = vec![0, 1];
    lab.backup(&bytes).await.unwrap_err();
}

#[tokio::test]
async fn a_location_that_fails_while_it_is_repaired_does_not_stop_the_others() {
    let (lab, old) = scene(SEED + 40).await;
    for at in [0, 1] {
        for name in lab.names(at).await.into_iter().filter(|name| name.starts_with("manifests/")) {
            lab.delete(at, &name).await;
        }
    }
    let silent = Faulty::new(Arc::clone(&lab.stores[0].1) as _, Box::new(rng(1)));
    let wrapped = silent.clone();
    let vault = lab.open_through(|at, store| if at == 0 { Arc::new(wrapped.clone()) } else { store }).await.unwrap();
    silent.set_down(true);
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert!(plan.silent.iter().any(|(name, _)| name == "p1"), "{:?}", plan.silent);
    let done = vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert_eq!(done.records, 1, "p2 has its manifest again: {done:?}");
    silent.set_down(false);
    assert!(lab.restore(0).await.unwrap() == old);
}

#[tokio::test]
async fn what_exists_already_counts_only_if_it_is_right_and_is_never_overwritten() {
    let (lab, _) = scene(SEED + 50).await;
    let vault = lab.open().await.unwrap();
    let mut objects = Vec::new();
    for at in 0..DOMAINS {
        for name in lab.names(at).await.into_iter().filter(|name| name.starts_with("shards/")) {
            objects.push((at, lab.get(at, &name).await, name));
        }
    }
    let header = vault_codec::verify_header(&objects[0].1, |hash| vault.writers.get(hash).map(AsRef::as_ref)).unwrap();
    let payload = |bytes: &[u8]| header.layout().payload().map(|at| bytes[at as usize]).collect::<Vec<u8>>();
    let good = objects.iter().map(|(_, bytes, _)| header.admit(bytes[INDEX_AT], payload(bytes).into()).unwrap());
    let set = vault_codec::repair(&header, &good.collect::<Vec<_>>(), &vault_codec::Buffers::new(2)).unwrap();
    for (at, good, name) in &objects {
        let location = &vault.locations[*at];
        let write = || write_shard(&vault, location, &set, good[INDEX_AT], Overwrite::Never);
        write().await.unwrap();
        let mut bad = good.clone();
        bad[HEADER_BYTES + 9] ^= 1;
        for wrong in [bad, Vec::new(), good[..good.len() - 1].to_vec(), objects[usize::from(*at == 0)].1.clone()] {
            lab.put(*at, name, wrong.clone()).await;
            let error = write().await.unwrap_err();
            assert!(error.clone().why().contains("under this name"), "{error:?}");
            assert!(lab.get(*at, name).await == wrong, "nothing was overwritten");
        }
        write_shard(&vault, location, &set, good[INDEX_AT], Overwrite::FailedVerification).await.unwrap();
        assert!(lab.get(*at, name).await == *good);
    }
}
