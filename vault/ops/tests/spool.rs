//! Points that the locations do not take: kept on this host, said so, delivered by
//! itself. Whatever dies where, nothing that was kept is lost, and nothing is called
//! durable that is not.
//!
//! The short form takes turns where the long form, `HOLDFAST_CRASHES=2`, tries every
//! combination.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use vault_ops::OpsError;
use vault_ops::backup::{BackupReport, Standing};
use vault_ops::scan::{find_points, scan};
use vault_ops::spool::{Delivery, Limits, deliver};
use world::stores::{Trip, Tripwire};
use world::{Lab, folder, names_of, random_bytes, read_stream, scale};

const DOMAINS: usize = 4;

/// A vault that survives any one of four domains, beside a spool.
async fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3]).await;
    lab.spool = Some(Arc::new(InMemory::new()));
    vault_ops::spool::keep_records(&lab.open().await.unwrap()).await.unwrap();
    lab
}

async fn deliver_in(lab: &mut Lab) -> Delivery {
    let vault = lab.open().await.unwrap();
    deliver(&vault, &lab.writer(), &mut lab.catalog).await.unwrap()
}

async fn spooled(lab: &Lab) -> Vec<String> {
    let names = names_of(&**lab.spool.as_ref().unwrap()).await;
    names.into_iter().filter(|name| name.starts_with("shards/") || name.starts_with("manifests/")).collect()
}

fn all_down(lab: &mut Lab) {
    lab.down = (0..DOMAINS).collect();
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

/// Any one location may go.
async fn durable(lab: &mut Lab, points: &[&Vec<u8>]) {
    for gone in 0..DOMAINS {
        lab.down = vec![gone];
        let found = all_points(lab).await;
        assert!(found.iter().eq(points.iter().copied()), "without p{}: {} points", gone + 1, found.len());
    }
    lab.down.clear();
}

fn is_spooled(report: &BackupReport, points: usize) {
    let spooled = report.spooled.as_ref().expect("it is not durable and must not look so");
    assert_eq!((report.standing(), spooled.points), (Standing::Spooled, points), "{spooled:?}");
    assert!(spooled.bytes > 0 && !report.is_full());
}

#[tokio::test]
async fn with_no_location_reachable_points_wait_in_the_spool_and_are_delivered_in_order() {
    let mut lab = lab(1).await;
    let (first, second, third) = (random_bytes(1, 80_000), random_bytes(2, 90_000), random_bytes(3, 70_000));
    lab.backup(&first).await.unwrap();
    assert!(spooled(&lab).await.is_empty(), "what is durable leaves nothing here");
    all_down(&mut lab);
    is_spooled(&lab.backup(&second).await.unwrap(), 1);
    is_spooled(&lab.backup(&third).await.unwrap(), 2);
    // Nothing answers: that is no empty list of points.
    let vault = lab.open().await.unwrap();
    let error = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap_err();
    assert!(matches!(&error, OpsError::Unreachable { what } if what.contains("2 points wait in the spool")), "{error}");
    // One by one they come back: with too few nothing is called delivered.
    for up in 1..=2 {
        lab.down = (up..DOMAINS).collect();
        let delivery = deliver_in(&mut lab).await;
        assert!(delivery.delivered.is_empty() && delivery.left == 2 && delivery.why.is_some(), "{delivery:?}");
    }
    lab.down = vec![3];
    let delivery = deliver_in(&mut lab).await;
    assert_eq!((delivery.delivered.len(), delivery.left), (2, 0), "{delivery:?}");
    assert!(spooled(&lab).await.is_empty());
    lab.down.clear();
    durable(&mut lab, &[&first, &second, &third]).await;
    let again = deliver_in(&mut lab).await;
    assert!(again.delivered.is_empty() && again.why.is_none(), "{again:?}");
    let next = lab.backup(&third).await.unwrap();
    assert_eq!(next.statistics.new_bytes, 0, "what was delivered is known");
}

#[tokio::test]
async fn what_waits_is_used_again_and_what_stands_away_is_not_spooled() {
    let mut lab = lab(2).await;
    let old = random_bytes(4, 300_000);
    lab.backup(&old).await.unwrap();
    all_down(&mut lab);
    let more = [&old[..], &random_bytes(5, 100_000)].concat();
    let report = lab.backup(&more).await.unwrap();
    is_spooled(&report, 1);
    assert!(report.statistics.new_bytes < 200_000, "{:?}", report.statistics);
    let again = lab.backup(&more).await.unwrap();
    is_spooled(&again, 2);
    assert_eq!(again.statistics.new_bytes, 0, "the spool's packs count");
    lab.down.clear();
    let next = lab.backup(&old).await.unwrap();
    assert_eq!((next.delivered.len(), next.standing()), (2, Standing::Full));
    durable(&mut lab, &[&old, &more, &more, &old]).await;
}

#[tokio::test]
async fn the_spool_is_a_pile_of_bare_shards_without_a_key_or_a_readable_byte() {
    let mut lab = lab(3).await;
    all_down(&mut lab);
    let text = b"every word of this is known to the one who looks for it. ".repeat(4_000);
    is_spooled(&lab.backup(&text).await.unwrap(), 1);
    let spool = Arc::clone(lab.spool.as_ref().unwrap());
    for name in names_of(&*spool).await {
        let bytes = spool.get(&Path::from(name.as_str())).await.unwrap().bytes().await.unwrap();
        for piece in [&text[..16], &text[20..40]] {
            assert!(!bytes.windows(piece.len()).any(|window| window == piece), "{name} is readable");
        }
    }
    let found = scan(&vault_ops::progress::Progress::default(), &[folder("spool", &spool)]).await.unwrap();
    let read = lab.read_key();
    let bare = find_points(&lab.world, &found, read.vault, &read).await;
    assert_eq!(bare.points.len(), 1);
    let trust = vault_ops::fetch::Trust::Signed(bare.writers.clone());
    let fetcher = vault_ops::fetch::Fetcher::new(lab.world.clone(), bare.holdings.clone(), trust);
    let compute = lab.world.compute;
    let point = vault_ops::restore::open_point(fetcher, read, compute, bare.points[0].pack, None).await.unwrap();
    assert!(read_stream(&point).await.unwrap() == text);
}

#[tokio::test]
async fn locations_that_go_in_the_middle_leave_the_point_in_the_spool() {
    let mut lab = lab(4).await;
    let old = random_bytes(6, 50_000);
    lab.backup(&old).await.unwrap();
    let new = random_bytes(7, 900_000);
    let stores: Vec<backends::Faulty> = lab
        .stores
        .iter()
        .map(|(_, store)| backends::Faulty::new(Arc::clone(store) as Arc<dyn ObjectStore>, Box::new(world::rng(9))))
        .collect();
    let faulty = stores.clone();
    let vault = lab
        .open_through(move |at, store| faulty.get(at).map_or(store, |faulty| Arc::new(faulty.clone()) as _))
        .await
        .unwrap();
    stores[1].set(backends::Faults { put_error: 1000, ..backends::Faults::default() });
    stores[2].set(backends::Faults { put_error: 1000, ..backends::Faults::default() });
    let report = lab.backup_in(&vault, &new).await.unwrap();
    is_spooled(&report, 1);
    assert!(all_points(&lab).await == [old.clone()], "nothing is listed that is not durable");
    let delivery = deliver_in(&mut lab).await;
    assert_eq!(delivery.delivered, [report.point], "{delivery:?}");
    durable(&mut lab, &[&old, &new]).await;
}

#[tokio::test]
async fn a_spool_that_is_full_takes_no_half_point_and_keeps_what_it_has() {
    let mut lab = lab(5).await;
    all_down(&mut lab);
    let kept = random_bytes(8, 60_000);
    is_spooled(&lab.backup(&kept).await.unwrap(), 1);
    let before = spooled(&lab).await;
    lab.limits = Limits { bytes_max: 3 << 20, free_min: 0 };
    let error = lab.backup(&random_bytes(9, 9_000_000)).await.unwrap_err();
    assert!(
        matches!(&error, OpsError::Full { what } if what.contains("spool_max") && what.contains("deliver")),
        "{error}"
    );
    assert_eq!(spooled(&lab).await, before);
    lab.down.clear();
    let delivery = deliver_in(&mut lab).await;
    assert_eq!(delivery.delivered.len(), 1, "{delivery:?}");
    durable(&mut lab, &[&kept]).await;
    // What did not fit is no longer known as stored, either.
    let big = random_bytes(9, 9_000_000);
    assert_eq!(lab.backup(&big).await.unwrap().standing(), Standing::Full);
    assert!(lab.restore(0).await.unwrap() == big);
}

#[tokio::test]
async fn a_host_that_lost_its_catalog_delivers_what_it_kept() {
    let mut lab = lab(6).await;
    let (old, new) = (random_bytes(10, 50_000), random_bytes(11, 50_000));
    lab.backup(&old).await.unwrap();
    all_down(&mut lab);
    is_spooled(&lab.backup(&new).await.unwrap(), 1);
    lab.forget_catalog();
    let newer = random_bytes(12, 50_000);
    is_spooled(&lab.backup(&newer).await.unwrap(), 2);
    lab.down.clear();
    let delivery = deliver_in(&mut lab).await;
    assert_eq!((delivery.delivered.len(), delivery.left), (2, 0), "{delivery:?}");
    durable(&mut lab, &[&old, &new, &newer]).await;
    let positions: BTreeSet<_> = lab.catalog.points().unwrap().iter().map(|row| (row.epoch, row.sequence)).collect();
    let expected = [(1, 1), (2, 2), (2, 3)];
    assert_eq!(
        positions.into_iter().collect::<Vec<_>>(),
        expected,
        "without a memory: a new epoch, opened by a heartbeat"
    );
}

#[tokio::test]
async fn a_disk_that_is_full_stops_intake_and_delivers_what_it_has() {
    let mut lab = lab(7).await;
    all_down(&mut lab);
    let kept = random_bytes(13, 60_000);
    is_spooled(&lab.backup(&kept).await.unwrap(), 1);
    let before = spooled(&lab).await;
    let disk =
        backends::Faulty::new(Arc::clone(lab.spool.as_ref().unwrap()) as Arc<dyn ObjectStore>, Box::new(world::rng(1)));
    disk.set_full(true);
    let full = disk.clone();
    let vault = lab.open_through(|at, store| if at == DOMAINS { Arc::new(full.clone()) } else { store }).await.unwrap();
    let error = lab.backup_in(&vault, &random_bytes(14, 60_000)).await.unwrap_err();
    assert!(matches!(&error, OpsError::Full { what } if what.contains("no space left")), "{error}");
    assert_eq!(spooled(&lab).await, before);
    lab.down.clear();
    let vault = lab.open_through(|at, store| if at == DOMAINS { Arc::new(full.clone()) } else { store }).await.unwrap();
    // With the locations there, a full disk here is said and stops nothing.
    let new = random_bytes(15, 60_000);
    let report = lab.backup_in(&vault, &new).await.unwrap();
    assert_eq!((report.delivered.len(), report.standing()), (1, Standing::Full), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("no space left")), "{:?}", report.notes);
    durable(&mut lab, &[&kept, &new]).await;
}

#[tokio::test]
async fn what_was_condemned_while_a_point_waited_is_not_leaned_on() {
    use vault_format::tombstone::{Tombstone, TombstoneAction};
    let mut lab = lab(8).await;
    let old = random_bytes(16, 50_000);
    lab.backup(&old).await.unwrap();
    all_down(&mut lab);
    let waiting = lab.backup(&old).await.unwrap();
    is_spooled(&waiting, 1);
    lab.down.clear();
    let reference = lab.catalog.points().unwrap()[0].part.references[0];
    let operator = &lab.keys.operator;
    let tombstone = Tombstone {
        gc_epoch: 1,
        sequence: 1,
        previous: vault_format::Hash::default(),
        action: TombstoneAction::Trash,
        manifests: Vec::new(),
        packs: vec![reference],
        journals: Vec::new(),
        created_ms: 0,
        delete_after_ms: 86_400_000,
        reason: String::new(),
    };
    let bytes = keys::record::sign(
        vault_format::envelope::RecordKind::Tombstone,
        lab.keys.public.vault,
        &vault_format::encode(&tombstone),
        &operator.signing,
    );
    let vault = lab.open().await.unwrap();
    let janitor = vault.janitors.iter().find(|key| key.role() == vault_format::certificate::Role::Operator).unwrap();
    let name = vault_format::names::tombstone(janitor.subject(), 1);
    for at in 0..DOMAINS {
        lab.put(at, &name, bytes.clone()).await;
    }
    let delivery = deliver_in(&mut lab).await;
    assert_eq!((delivery.delivered.len(), delivery.left), (0, 1), "{delivery:?}");
    assert!(delivery.stuck[0].why.contains("condemned"), "{:?}", delivery.stuck);
    assert_eq!(delivery.stuck[0].point, Some(waiting.point));
}

#[tokio::test]
async fn wrong_objects_under_the_names_of_what_waits_are_put_right() {
    let mut lab = lab(9).await;
    all_down(&mut lab);
    let bytes = random_bytes(18, 120_000);
    is_spooled(&lab.backup(&bytes).await.unwrap(), 1);
    lab.down.clear();
    // The spool has the first shards of each pack; half of the domains show others there.
    for name in spooled(&lab).await.into_iter().filter(|name| name.starts_with("shards/")) {
        let pack = name.rsplit_once('.').unwrap().0;
        for (at, index) in [0, 1].into_iter().flat_map(|at| (0..5).map(move |index| (at, index))) {
            lab.put(at, &format!("{pack}.{index:02x}"), vec![7; 1_000]).await;
        }
    }
    let delivery = deliver_in(&mut lab).await;
    assert_eq!((delivery.delivered.len(), delivery.left), (1, 0), "{delivery:?}");
    durable(&mut lab, &[&bytes]).await;
}

/// Where a point waits, and where it is delivered, died or failed at any operation.
enum Part {
    Spooling,
    Delivering,
}

/// Trips at every operation; afterwards everything is delivered, with or without the
/// catalog, and every point that was reported, in whatever way, restores.
async fn every_operation(part: Part, trip: Trip, seed: u64) {
    let mut base = lab(seed).await;
    let (old, new) = (random_bytes(seed, 40_000), random_bytes(seed + 1, 60_000));
    base.backup(&old).await.unwrap();
    all_down(&mut base);
    if matches!(part, Part::Delivering) {
        base.backup(&new).await.unwrap();
        base.down.clear();
    }
    let meet = async |lab: &mut Lab, wire: &Arc<Tripwire>| {
        let vault = lab.open_through(|_, store| wire.store(store)).await.unwrap();
        let before = wire.seen();
        let writer = lab.writer();
        let done = match part {
            Part::Spooling => wire.run(lab.backup_in(&vault, &new)).await.map(|report| report.is_ok()),
            Part::Delivering => {
                let done = wire.run(deliver(&vault, &writer, &mut lab.catalog)).await;
                done.map(|done| done.is_ok_and(|done| done.delivered.len() == 1))
            }
        };
        (before, done)
    };
    let untripped = Tripwire::never();
    let (first, done) = meet(&mut base.fork(1), &untripped).await;
    assert_eq!(done, Some(true));
    let last = untripped.seen();
    assert!(last - first > 15, "{first} to {last}");
    let long = scale("HOLDFAST_CRASHES") > 1;
    // The short form takes every third, from another one for each way to die.
    let turn = if long { 1 } else { 3 };
    let from = if long { first } else { first + trip as usize };
    for at in (from..last).step_by(turn).chain(last - 4..last) {
        for catalog_survives in if long { vec![true, false] } else { vec![at.is_multiple_of(2)] } {
            let place = format!("seed {seed}, {trip:?} at operation {at} of {last}, catalog {catalog_survives}");
            let mut lab = base.fork(1);
            let (_, done) = meet(&mut lab, &Tripwire::new(at, trip)).await;
            assert!(trip == Trip::Fails || done.is_none(), "{place}: a process that died reports nothing");
            if !catalog_survives {
                lab.forget_catalog();
            }
            let reported = done == Some(true) || matches!(part, Part::Delivering);
            let delivery = deliver_in(&mut lab).await;
            assert!(delivery.stuck.is_empty(), "{place}: {delivery:?}");
            lab.down.clear();
            let delivery = deliver_in(&mut lab).await;
            assert!(delivery.left == 0 && delivery.why.is_none(), "{place}: {delivery:?}");
            let points = all_points(&lab).await;
            assert!(points[0] == old, "{place}");
            assert!(!reported || points[1..] == [new.clone()], "{place}: {} points", points.len());
            let again = lab.backup(&new).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(again.spooled.is_none(), "{place}: {:?}", again.spooled);
            assert!(spooled(&lab).await.is_empty(), "{place}: {:?}", spooled(&lab).await);
            let points: Vec<Vec<u8>> = all_points(&lab).await;
            durable(&mut lab, &points.iter().collect::<Vec<_>>()).await;
            assert!(points.last() == Some(&new), "{place}");
        }
    }
    println!("{trip:?}: {} operations", last - first);
}

#[tokio::test]
async fn spooling_may_die_before_or_after_any_operation() {
    every_operation(Part::Spooling, Trip::DiesBefore, 20).await;
    every_operation(Part::Spooling, Trip::DiesAfter, 22).await;
    every_operation(Part::Spooling, Trip::Fails, 24).await;
}

#[tokio::test]
async fn delivering_may_die_before_or_after_any_operation() {
    every_operation(Part::Delivering, Trip::DiesBefore, 30).await;
    every_operation(Part::Delivering, Trip::DiesAfter, 32).await;
    every_operation(Part::Delivering, Trip::Fails, 34).await;
}
