//! A disk that is plugged in now and then: no alarm while it may be away, honest about
//! what does not stand there, healed when it comes. And debts of any kind: brought home
//! by the next run, the copies of others removed only after the home was read back.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use vault_ops::attendance::DUE_MS;
use vault_ops::backup::Standing;
use vault_ops::status::{self, Status};
use vault_ops::{heal, surplus};
use world::{Lab, Setup, random_bytes};

const DOMAINS: usize = 4;

/// The fourth location is a disk in a drawer.
async fn lab(seed: u64) -> Lab {
    let mut setup = Setup::new((3, 5), 1, &[0, 1, 2, 3]);
    setup.sometimes = vec![3];
    Lab::build(seed, setup).await
}

async fn look(lab: &Lab) -> Status {
    status::look(&lab.open().await.unwrap(), &lab.catalog).await.unwrap()
}

async fn shards(lab: &Lab, at: usize) -> usize {
    lab.names(at).await.into_iter().filter(|name| name.starts_with("shards/")).count()
}

#[tokio::test]
async fn a_disk_in_a_drawer_is_no_alarm_before_its_time_and_is_healed_when_it_comes() {
    let mut lab = lab(1).await;
    let bytes = random_bytes(1, 200_000);
    assert_eq!(lab.backup(&bytes).await.unwrap().standing(), Standing::Full);
    let before = shards(&lab, 3).await;
    lab.down = vec![3];
    let more = random_bytes(2, 200_000);
    let report = lab.backup(&more).await.unwrap();
    assert_eq!(report.standing(), Standing::Resting, "{:?} {:?}", report.debts, report.manifest_owed);
    assert!(!report.is_full() && !report.debts.is_empty(), "what is owed is owed");
    assert!(report.debts.iter().all(|debt| debt.kept_by.is_some()));
    let found = look(&lab).await;
    assert!(found.risks.is_empty(), "{:?}", found.risks);
    assert_eq!(found.resting.len(), 1);
    assert!(found.tolerance.any_domains >= 1, "the others keep it: {:?}", found.tolerance);
    // What it never had does not count: without the copies that were handed over it shows.
    let honest = lab.fork(5);
    for debt in &report.debts {
        let by = debt.kept_by.unwrap();
        let vault = honest.open().await.unwrap();
        let at = (0..DOMAINS).find(|at| vault.location_named(&format!("p{}", at + 1)) == Some(by)).unwrap();
        let name = vault_format::names::shard(lab.writer().writer, debt.pack, debt.index);
        honest.delete(at, &name).await;
    }
    assert_eq!(look(&honest).await.tolerance.any_domains, 0, "the drawer was never given its part");
    lab.world.clock.sleep(Duration::from_millis(DUE_MS.unsigned_abs())).await;
    let late = look(&lab).await;
    assert!(late.resting.is_empty() && late.risks.iter().any(|risk| risk.starts_with("p4 does not take part")));
    assert_eq!(lab.backup(&more).await.unwrap().standing(), Standing::Durable);
    // It comes back: the next run brings it what it is owed.
    lab.down.clear();
    let report = lab.backup(&more).await.unwrap();
    assert!(report.healed > 0 && report.standing() == Standing::Full, "{report:?}");
    assert!(shards(&lab, 3).await > before);
    assert!(heal::owed(&lab.catalog).unwrap().is_empty());
    let found = look(&lab).await;
    assert!(found.risks.is_empty() && found.resting.is_empty(), "{:?}", found.risks);
    for gone in 0..DOMAINS {
        lab.down = vec![gone];
        assert!(lab.restore(0).await.unwrap() == more, "without p{}", gone + 1);
    }
}

#[tokio::test]
async fn another_location_that_is_away_is_an_alarm_as_before() {
    let mut lab = lab(2).await;
    lab.backup(&random_bytes(1, 100_000)).await.unwrap();
    lab.down = vec![2];
    let report = lab.backup(&random_bytes(2, 100_000)).await.unwrap();
    assert_eq!(report.standing(), Standing::Durable);
    assert!(look(&lab).await.risks.iter().any(|risk| risk.starts_with("p3 does not take part")));
}

#[tokio::test]
async fn an_empty_mount_point_is_not_healed() {
    let mut lab = lab(3).await;
    lab.backup(&random_bytes(1, 100_000)).await.unwrap();
    lab.down = vec![3];
    lab.backup(&random_bytes(2, 100_000)).await.unwrap();
    lab.down.clear();
    lab.wipe(3).await;
    let report = lab.backup(&random_bytes(3, 100_000)).await.unwrap();
    assert_eq!((report.healed, lab.names(3).await.len()), (0, 0), "nothing is written where no marker stands");
}

#[tokio::test]
async fn handed_over_copies_go_only_after_their_home_was_read_back() {
    let mut lab = lab(4).await;
    lab.down = vec![1];
    let bytes = random_bytes(1, 200_000);
    let report = lab.backup(&bytes).await.unwrap();
    let handed_over = report.debts.iter().filter(|debt| debt.kept_by.is_some()).count();
    assert!(handed_over > 0);
    let plan = async |lab: &Lab| surplus::plan(&lab.open().await.unwrap(), &lab.catalog).await.unwrap();
    assert!(plan(&lab).await.is_empty(), "their home is away");
    lab.down.clear();
    assert!(plan(&lab).await.is_empty(), "their home has nothing yet");
    let vault = lab.open().await.unwrap();
    assert!(heal::heal(&vault, &lab.catalog).await.unwrap().unwrap().failed.is_empty());
    let found = plan(&lab).await;
    assert_eq!(found.len(), handed_over, "{found:?}");
    let admin = |lab: &Lab, but: Option<usize>| -> BTreeMap<_, _> {
        let stores = lab.stores.iter().enumerate().filter(|(at, _)| Some(*at) != but);
        let id = |name: &str| vault.location_named(name).unwrap();
        stores.map(|(_, (name, store))| (id(name), Arc::clone(store) as Arc<dyn ObjectStore>)).collect()
    };
    // A home that does not read back keeps the copy, and so does a location without rights.
    let spoilt = lab.fork(9);
    let name = vault_format::names::shard(lab.writer().writer, found[0].pack, found[0].index);
    let mut bad = spoilt.get(1, &name).await;
    bad[20_000] ^= 1;
    spoilt.put(1, &name, bad).await;
    let here = spoilt.open().await.unwrap();
    let done = surplus::apply(&here, &spoilt.catalog, &found, &admin(&spoilt, None)).await.unwrap();
    assert_eq!((done.removed.len(), done.kept.len()), (handed_over - 1, 1), "{done:?}");
    assert!(done.kept[0].0 == found[0] && done.kept[0].1.contains("at home is wrong"), "{:?}", done.kept);
    let none = surplus::apply(&vault, &lab.catalog, &found, &BTreeMap::new()).await.unwrap();
    assert!(none.removed.is_empty() && none.kept.iter().all(|(_, why)| why.contains("admin credentials")));
    let done = surplus::apply(&vault, &lab.catalog, &found, &admin(&lab, None)).await.unwrap();
    assert_eq!(done.removed.len(), handed_over, "{:?}", done.kept);
    assert!(plan(&lab).await.is_empty());
    for gone in 0..DOMAINS {
        lab.down = vec![gone];
        assert!(lab.restore(0).await.unwrap() == bytes, "without p{}", gone + 1);
    }
}
