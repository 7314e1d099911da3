//! Points that the locations do not take: kept on this host, said so, delivered by
//! itself. Whatever dies where, nothing that was kept is lost, and nothing is called
//! durable that is not.

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
use world::{Lab, folder, names_of, random_bytes, read_stream};

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
    let found = scan(&[folder("spool", &spool)]).await.unwrap();
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
    assert_eq!(positions.into_iter().collect::<Vec<_>>(), [(1, 1), (2, 1), (2, 2)], "without a memory: a new epoch");
}
