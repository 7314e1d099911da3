//! A vault moves: locations are added, retired and replaced, and the process that
//! does it dies anywhere. Whatever was durable before survives the loss of any d
//! domains at every moment, and the command, given again, goes on.
//!
//! The short form dies at some operations; `HOLDFAST_CRASHES=2` dies at every one.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;

use backends::Grade;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use vault_format::layout::{Attachment, LocationState};
use vault_ops::OpsError;
use vault_ops::audit::{AuditOptions, Outcome};
use vault_ops::location::Location;
use vault_ops::rebalance::{self, Admin, RebalanceReport};
use vault_ops::relayout::{self, Change, Place};
use vault_ops::vault::{Vault, location_id};
use world::stores::{Trip, Tripwire};
use world::{Lab, random_bytes, scale};

fn places(lab: &Lab) -> Vec<Place> {
    let place = |(at, (name, _)): (usize, &(String, Arc<InMemory>))| Place {
        name: name.clone(),
        domain: format!("domain {}", lab.setup.domains[at]),
        url: format!("memory:///{name}"),
        endpoint: String::new(),
        region: String::new(),
        attached: Attachment::Always,
    };
    lab.stores.iter().enumerate().map(place).collect()
}

/// A new place in a domain of its own; nobody uses it yet.
fn build(lab: &mut Lab, domain: u8) -> String {
    let name = format!("p{}", lab.stores.len() + 1);
    lab.stores.push((name.clone(), Arc::new(InMemory::new())));
    lab.setup.domains.push(domain);
    name
}

fn admin(lab: &Lab, vault: &Vault) -> Admin {
    let id = |name: &str| location_id(vault.id, name);
    lab.stores.iter().map(|(name, store)| (id(name), Arc::clone(store) as Arc<dyn ObjectStore>)).collect()
}

/// What `holdfast vault location` does, over stores that may trip.
async fn change(
    lab: &Lab,
    wire: &Arc<Tripwire>,
    change: Change<'_>,
    new: Option<&str>,
) -> vault_ops::Result<RebalanceReport> {
    let open = async || lab.open_through(|_, store| wire.store(store)).await;
    let mut vault = open().await?;
    let newcomer = |vault: &Vault, layout: &_| -> Vec<Location> {
        let new = new.into_iter().map(|name| {
            let store = &lab.stores.iter().find(|(known, _)| known == name).unwrap().1;
            relayout::newcomer(vault, layout, name, wire.store(Arc::clone(store) as _))
        });
        new.filter(|new| vault.location(new.id).is_none()).collect()
    };
    if let Some((newer, bytes)) = vault.newer.clone() {
        relayout::publish(&vault, &lab.catalog, &newer, &bytes, &newcomer(&vault, &newer)).await?;
        vault = open().await?;
    }
    if let Some(next) = relayout::changed(&vault, &places(lab), change)? {
        let bytes = relayout::sign(&vault, "lab", &lab.keys.operator, &places(lab), next.clone())?;
        relayout::publish(&vault, &lab.catalog, &next, &bytes, &newcomer(&vault, &next)).await?;
        vault = open().await?;
        assert_eq!(vault.layout.epoch, next.epoch, "it counts at once");
    }
    let plan = rebalance::plan(&vault, &lab.catalog).await?;
    let wired: Admin = admin(lab, &vault).into_iter().map(|(id, store)| (id, wire.store(store))).collect();
    let done = rebalance::apply(&vault, &lab.catalog, &plan, &wired).await?;
    for id in rebalance::retired(&vault, done.settled) {
        let vault = open().await?;
        let name = vault.location_name(id);
        if let Some(next) = relayout::changed(&vault, &places(lab), Change::Retired { name: &name })? {
            let bytes = relayout::sign(&vault, "lab", &lab.keys.operator, &places(lab), next.clone())?;
            relayout::publish(&vault, &lab.catalog, &next, &bytes, &[]).await?;
        }
    }
    Ok(done)
}

/// The points restore with any one domain away; a full audit of all is clean.
async fn holds(lab: &mut Lab, points: &[&[u8]], place: &str) {
    for gone in 0..lab.stores.len() {
        lab.down = vec![gone];
        for (back, bytes) in points.iter().rev().enumerate() {
            let restored = lab.restore(back).await.unwrap_or_else(|error| panic!("{place}, without {gone}: {error}"));
            assert!(restored == *bytes, "{place}, without {gone}: point {back} back is another");
        }
    }
    lab.down.clear();
}

async fn is_clean(lab: &Lab, place: &str) {
    let vault = lab.open().await.unwrap();
    assert!(vault.newer.is_none(), "{place}");
    let plan = rebalance::plan(&vault, &lab.catalog).await.unwrap();
    assert!(plan.moves.is_empty() && plan.surplus.is_empty() && plan.weak == 0, "{place}: {plan:?}");
    let full = AuditOptions { samples: 1, location: None, full: true };
    let audit = vault_ops::audit::run(&vault, &lab.catalog, &full).await.unwrap();
    assert_eq!(audit.worst(), Outcome::Ok, "{place}: {:?} {:?}", audit.findings, audit.records);
}

async fn scene(seed: u64) -> (Lab, Vec<u8>) {
    let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3]).await;
    let bytes = random_bytes(seed, 90_000);
    lab.backup(&bytes).await.unwrap();
    (lab, bytes)
}

fn state(vault: &Vault, name: &str) -> Option<LocationState> {
    vault.state_of(location_id(vault.id, name))
}

#[tokio::test]
async fn a_location_is_added_and_filled_and_another_emptied() {
    let (mut lab, old) = scene(70).await;
    let new = build(&mut lab, 4);
    let wire = Tripwire::never();
    let done = change(&lab, &wire, Change::Add { name: &new, grade: Grade::Overwritable }, Some(&new)).await.unwrap();
    assert!(done.settled && !done.moved.shards.is_empty() && done.removed > 0 && done.kept.is_empty(), "{done:?}");
    is_clean(&lab, "added").await;
    let more = [&old[..], &random_bytes(71, 40_000)].concat();
    assert!(lab.backup(&more).await.unwrap().is_full());
    assert!(lab.names(4).await.iter().any(|name| name.starts_with("shards/")), "it is used");
    holds(&mut lab, &[&old, &more], "added").await;

    let done = change(&lab, &wire, Change::Retire { name: "p1" }, None).await.unwrap();
    assert!(done.settled, "{done:?}");
    let vault = lab.open().await.unwrap();
    assert_eq!(state(&vault, "p1"), Some(LocationState::Retired));
    assert!(lab.names(0).await.iter().all(|name| !name.starts_with("shards/")), "it is empty");
    is_clean(&lab, "retired").await;
    lab.stores.remove(0);
    lab.setup.domains.remove(0);
    let vault = lab.open().await.unwrap();
    assert!(vault.absent.is_empty(), "nobody misses it: {:?}", vault.absent);
    assert!(lab.backup(&more).await.unwrap().is_full());
    holds(&mut lab, &[&old, &more, &more], "retired and gone").await;
    let status = vault_ops::status::look(&lab.open().await.unwrap(), &lab.catalog).await.unwrap();
    assert!(status.risks.is_empty(), "{:?}", status.risks);
}

#[tokio::test]
async fn a_dead_location_is_replaced() {
    let (mut lab, old) = scene(72).await;
    let new = build(&mut lab, 1);
    lab.down = vec![1];
    let replace = Change::Replace { old: "p2", new: &new, grade: Grade::Overwritable };
    let done = change(&lab, &Tripwire::never(), replace, Some(&new)).await.unwrap();
    assert!(done.moved.failed.is_empty() && done.moved.lost.is_empty(), "{done:?}");
    lab.wipe(1).await;
    lab.down.clear();
    for gone in [0, 2, 3, 4] {
        lab.down = vec![1, gone];
        assert_eq!(lab.restore(0).await.unwrap(), old, "without the dead one and {gone}");
    }
}

#[tokio::test]
async fn what_would_break_the_promise_is_refused() {
    let mut lab = Lab::new(73, (3, 5), 1, &[0, 1]).await;
    lab.backup(&random_bytes(73, 30_000)).await.unwrap();
    let error = change(&lab, &Tripwire::never(), Change::Retire { name: "p2" }, None).await.unwrap_err();
    assert!(matches!(&error, OpsError::Refused { what } if what.contains("could not survive")), "{error}");
    let error = change(&lab, &Tripwire::never(), Change::Retire { name: "p9" }, None).await.unwrap_err();
    assert!(matches!(error, OpsError::Refused { .. }), "{error}");
    assert_eq!(lab.open().await.unwrap().layout.epoch, 1);
    let new = build(&mut lab, 2);
    lab.put(2, "location", b"another vault's".to_vec()).await;
    let add = Change::Add { name: &new, grade: Grade::Overwritable };
    let error = change(&lab, &Tripwire::never(), add, Some(&new)).await.unwrap_err();
    assert!(matches!(&error, OpsError::Refused { what } if what.contains("already holds")), "{error}");
}

#[tokio::test]
async fn without_rights_to_delete_copies_are_kept_and_said() {
    let (mut lab, old) = scene(74).await;
    let new = build(&mut lab, 4);
    change(&lab, &Tripwire::never(), Change::Add { name: &new, grade: Grade::Overwritable }, Some(&new)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let next = relayout::changed(&vault, &places(&lab), Change::Retire { name: "p3" }).unwrap().unwrap();
    let bytes = relayout::sign(&vault, "lab", &lab.keys.operator, &places(&lab), next.clone()).unwrap();
    relayout::publish(&vault, &lab.catalog, &next, &bytes, &[]).await.unwrap();
    let vault = lab.open().await.unwrap();
    let plan = rebalance::plan(&vault, &lab.catalog).await.unwrap();
    let held = lab.names(2).await.len();
    let done = rebalance::apply(&vault, &lab.catalog, &plan, &Admin::new()).await.unwrap();
    let kept: usize = done.kept.values().map(|(copies, _)| copies).sum();
    assert!(done.settled && done.removed == 0 && kept == plan.surplus.len() && kept > 0, "{done:?}");
    assert!(done.kept.values().all(|(_, why)| why.contains("rights to delete")), "{:?}", done.kept);
    assert!(lab.names(2).await.len() >= held, "nothing was deleted");
    // A rotten copy at home keeps the one that is not at home, whoever may delete.
    let pack = plan.moves.shards.first().unwrap();
    let at = lab.stores.iter().position(|(name, _)| location_id(vault.id, name) == pack.location).unwrap();
    let mut rotten = lab.get(at, &pack.name).await;
    rotten[9_000] ^= 1;
    lab.put(at, &pack.name, rotten).await;
    let plan = rebalance::plan(&vault, &lab.catalog).await.unwrap();
    let surplus_of = |pack, index| plan.surplus.iter().filter(|s| (s.pack, s.copy.index) == (pack, index)).count();
    let waits = surplus_of(pack.pack, pack.index);
    let done = rebalance::apply(&vault, &lab.catalog, &plan, &admin(&lab, &vault)).await.unwrap();
    let kept: usize = done.kept.values().map(|(copies, _)| copies).sum();
    assert!(waits > 0 && kept >= waits, "{:?}", done.kept);
    assert!(done.removed + kept == plan.surplus.len(), "{done:?}");
    holds(&mut lab, &[&old], "kept").await;
}

#[tokio::test]
async fn backups_go_on_while_shards_move() {
    let (mut lab, old) = scene(75).await;
    let new = build(&mut lab, 4);
    let vault = lab.open().await.unwrap();
    let add = Change::Add { name: &new, grade: Grade::Overwritable };
    let next = relayout::changed(&vault, &places(&lab), add).unwrap().unwrap();
    let bytes = relayout::sign(&vault, "lab", &lab.keys.operator, &places(&lab), next.clone()).unwrap();
    let newcomer = relayout::newcomer(&vault, &next, &new, Arc::clone(&lab.stores[4].1) as _);
    relayout::publish(&vault, &lab.catalog, &next, &bytes, &[newcomer]).await.unwrap();
    // The layout counts, no shard has moved.
    let more = [&old[..], &random_bytes(76, 50_000)].concat();
    let report = lab.backup(&more).await.unwrap();
    assert!(report.packs_reused > 0 && !report.is_full(), "what is not at its new home is owed, and said");
    holds(&mut lab, &[&old, &more], "between").await;
    change(&lab, &Tripwire::never(), add, Some(&new)).await.unwrap();
    assert!(lab.backup(&more).await.unwrap().is_full());
    is_clean(&lab, "after").await;
}

/// Dies at operations of a change; the promise holds at once, a backup works, and
/// the change given again comes to its end.
async fn every_operation(trip: Trip, seed: u64) {
    let (mut base, old) = scene(seed).await;
    let new = build(&mut base, 4);
    let replace = Change::Replace { old: "p2", new: &new, grade: Grade::Overwritable };
    let whole = Tripwire::never();
    change(&base.fork(1), &whole, replace, Some(&new)).await.unwrap();
    let last = whole.seen();
    let step = if scale("HOLDFAST_CRASHES") > 1 { 1 } else { 29 };
    let mut died = 0;
    for at in (0..last).skip(trip as usize).step_by(step) {
        let place = format!("seed {seed}, {trip:?} at operation {at} of {last}");
        let mut lab = base.fork(1);
        let wire = Tripwire::new(at, trip);
        let outcome = wire.run(change(&lab, &wire, replace, Some(&new))).await;
        died += usize::from(!matches!(outcome, Some(Ok(_))));
        holds(&mut lab, &[&old], &place).await;
        let more = [&old[..], &random_bytes(seed + 1, 20_000)].concat();
        lab.backup(&more).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut again = lab.fork(2);
        let done = change(&again, &Tripwire::never(), replace, Some(&new)).await;
        let done = done.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(done.settled, "{place}: {done:?}");
        // What the first left as surplus may need its failures looked at: a second is idle.
        is_clean(&again, &place).await;
        let vault = again.open().await.unwrap();
        assert_eq!(state(&vault, "p2"), Some(LocationState::Retired), "{place}");
        holds(&mut again, &[&old, &more], &place).await;
    }
    println!("{trip:?}: {last} operations, tried every {step}th, {died} ended the change");
    assert!(died * 2 > last / step, "most of them did");
}

#[tokio::test]
async fn a_change_whose_stores_fail_goes_on() {
    every_operation(Trip::Fails, 80).await;
}

#[tokio::test]
async fn a_change_that_dies_before_an_operation_goes_on() {
    every_operation(Trip::DiesBefore, 82).await;
}

#[tokio::test]
async fn a_change_that_dies_after_an_operation_goes_on() {
    every_operation(Trip::DiesAfter, 84).await;
}

/// A repair of a wiped location and of rot dies anywhere and goes on.
#[tokio::test]
async fn a_repair_that_dies_anywhere_goes_on() {
    let (base, old) = scene(86).await;
    let broken = |lab: Lab| async move {
        lab.wipe(1).await;
        let name = lab.names(2).await.into_iter().find(|name| name.starts_with("shards/")).unwrap();
        let mut bytes = lab.get(2, &name).await;
        bytes[10_000] ^= 1;
        lab.put(2, &name, bytes).await;
        let vault = lab.open().await.unwrap();
        let full = AuditOptions { samples: 1, location: Some("p3".to_owned()), full: true };
        vault_ops::audit::run(&vault, &lab.catalog, &full).await.unwrap();
        lab
    };
    let mend = async |lab: &Lab, wire: &Arc<Tripwire>| {
        let vault = lab.open_through(|_, store| wire.store(store)).await?;
        let plan = vault_ops::repair::plan(&vault, &lab.catalog).await?;
        vault_ops::repair::apply(&vault, &lab.catalog, &plan).await
    };
    let base = broken(base).await;
    let whole = Tripwire::never();
    let done = mend(&base.fork(1), &whole).await.unwrap();
    assert!(done.failed.is_empty() && !done.shards.is_empty());
    let step = if scale("HOLDFAST_CRASHES") > 1 { 1 } else { 11 };
    for (turn, at) in (0..whole.seen()).step_by(step).enumerate() {
        let trip = [Trip::Fails, Trip::DiesBefore, Trip::DiesAfter][turn % 3];
        let place = format!("{trip:?} at operation {at} of {}", whole.seen());
        let lab = base.fork(1);
        let wire = Tripwire::new(at, trip);
        let _ = wire.run(mend(&lab, &wire)).await;
        assert_eq!(lab.restore(0).await.unwrap(), old, "{place}");
        let done = mend(&lab, &Tripwire::never()).await.unwrap();
        assert!(done.failed.is_empty() && done.lost.is_empty(), "{place}: {done:?}");
        is_clean(&lab, &place).await;
        assert!(lab.catalog.retries().unwrap().is_empty(), "{place}: what is mended waits no more");
    }
}

#[tokio::test]
async fn a_repair_that_fails_waits_twice_as_long_each_time_and_is_counted() {
    let (lab, _) = scene(87).await;
    lab.wipe(3).await;
    let sick = |at, store: Arc<dyn ObjectStore>| -> Arc<dyn ObjectStore> {
        if at != 3 {
            return store;
        }
        let storm = backends::Faulty::new(store, Box::new(world::rng(1)));
        storm.set_full(true);
        Arc::new(storm)
    };
    let vault = lab.open_through(sick).await.unwrap();
    let catalog = &lab.catalog;
    let mut waits = Vec::new();
    for tries in 1..=4_u32 {
        let plan = vault_ops::repair::plan(&vault, catalog).await.unwrap();
        let done = vault_ops::repair::apply(&vault, catalog, &plan).await.unwrap();
        assert!(done.shards.is_empty() && !done.failed.is_empty());
        assert!(done.failed.len() <= 4, "a location that fails again and again is left alone: {:?}", done.failed);
        let retries = catalog.retries().unwrap();
        assert!(retries.iter().all(|retry| retry.tries == tries), "{retries:?}");
        let began = retries.iter().map(|retry| retry.last_ms).min().unwrap();
        let failed: Vec<_> = retries.iter().map(|retry| retry.name.clone()).collect();
        loop {
            let plan = vault_ops::repair::plan(&vault, catalog).await.unwrap();
            let due = vault_ops::repair::due(&vault, catalog, plan).unwrap();
            if due.plan.records.iter().any(|task| failed.contains(&task.name)) {
                break;
            }
            vault.world.clock.sleep(std::time::Duration::from_secs(5)).await;
        }
        waits.push((vault.world.now_ms() - began) / 60_000);
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    let vault = lab.open().await.unwrap();
    let plan = vault_ops::repair::plan(&vault, catalog).await.unwrap();
    let done = vault_ops::repair::apply(&vault, catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty());
    assert!(catalog.retries().unwrap().is_empty());
    let at = vault.locations[3].id;
    let corrected = catalog.corrected(at, 0).unwrap();
    assert_eq!(corrected.0 as usize, done.shards.len() + done.records, "every correction is logged");
}

/// Without this, a restore would leave what it met.
#[tokio::test]
async fn what_a_restore_meets_is_mended_after_it() {
    let mut lab = Lab::new(88, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
    let old = random_bytes(88, 90_000);
    lab.backup(&old).await.unwrap();
    let shards = async |lab: &Lab, at| -> Vec<String> {
        lab.names(at).await.into_iter().filter(|name| name.starts_with("shards/")).collect()
    };
    // A location that holds a first data shard, which a restore asks for.
    let mut rotten = 0;
    for at in [4, 3, 1, 0] {
        if shards(&lab, at).await.iter().any(|name| name.ends_with(".00")) {
            rotten = at;
        }
    }
    let mut broken = Vec::new();
    for name in shards(&lab, rotten).await {
        let good = lab.get(rotten, &name).await;
        let mut bad = good.clone();
        bad[8_192 + 5] ^= 1;
        lab.put(rotten, &name, bad).await;
        broken.push((name, good));
    }
    let gone = shards(&lab, 2).await;
    for name in &gone {
        lab.delete(2, name).await;
    }
    let vault = lab.open().await.unwrap();
    let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
    let point = lab.open_point(&vault, list.points[0].pack, Some(list.points[0].record)).await.unwrap();
    assert_eq!(world::read_stream(&point).await.unwrap(), old);
    let (read, bad) = (point.packs_read(), point.bad_shards());
    assert!(!bad.is_empty());
    let done = vault_ops::repair::read_repair(&vault, &lab.catalog, &read, &bad).await.unwrap();
    assert!(done.failed.is_empty() && done.lost.is_empty(), "{done:?}");
    assert_eq!(shards(&lab, 2).await, gone, "what was missing is there again");
    let met: Vec<_> = bad.iter().map(|bad| format!("{}.{:02}", bad.pack, bad.index)).collect();
    for (name, good) in broken.iter().filter(|(name, _)| met.iter().any(|met| name.ends_with(met))) {
        assert_eq!(lab.get(rotten, name).await, *good, "{name}");
    }
    let idle = vault_ops::repair::read_repair(&vault, &lab.catalog, &read, &[]).await.unwrap();
    assert!(idle.shards.is_empty());
}
