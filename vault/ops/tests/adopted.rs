//! The host that wrote a vault is gone; its locations and its seed are there. A new one
//! is admitted: it signs in a chain of its own, leans on what the old one stored, and
//! the old one's points stay. With two writers a pack id alone says no more whose a
//! shard is.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::host::HostKeys;
use vault_format::names;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::restore::open_point;
use vault_ops::vault::Vault;
use vault_ops::world::Compute;
use vault_ops::{OpsError, adopt, points, repair};
use world::{Lab, random_bytes, read_stream, rng};

async fn lab(seed: u64) -> (Lab, Vec<Vec<u8>>) {
    let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
    let older = random_bytes(seed, 300_000);
    lab.backup(&older).await.unwrap();
    let newer = [older.clone(), random_bytes(seed + 1, 60_000)].concat();
    lab.backup(&newer).await.unwrap();
    lab.forget_catalog();
    (lab, vec![older, newer])
}

/// Admits a new host; the vault as it is seen afterwards.
async fn admit(lab: &Lab, seed: u64) -> (HostKeys, Vault) {
    let (master, mut vault) = (&lab.keys.master, lab.open().await.unwrap());
    let admission = adopt::admission(&vault, master.generation, "new").await.unwrap();
    let host = HostKeys::draw(&mut rng(seed), &master.seed, admission).unwrap();
    let names = adopt::layout_names(&vault, &lab.read_key()).unwrap();
    assert_eq!(names.vault, "lab");
    let root = master.seed.root_key(master.generation);
    let admitted = adopt::admit(&mut vault, &root, &host.operator, &host.writer, &names).await.unwrap();
    assert!(admitted.owed.is_empty(), "{:?}", admitted.owed);
    // A second time, as after a crash: what stands is completed, nothing is signed anew but the note.
    adopt::admit(&mut vault, &root, &host.operator, &host.writer, &names).await.unwrap();
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.record.epoch, vault.layout.epoch), (2, 2));
    assert_eq!((vault.record.operators.len(), vault.layout.writers.len(), vault.writers.len()), (2, 2, 2));
    (host, vault)
}

#[tokio::test]
async fn a_new_host_leans_on_what_the_old_one_stored_and_both_stay() {
    let (mut lab, points) = lab(1).await;
    let (host, vault) = admit(&lab, 2).await;
    let scope = Some(host.writer.scope);
    let filled = adopt::fill(&vault, &lab.read_key(), scope, &mut lab.catalog).await.unwrap();
    assert!(filled.points == 2 && filled.packs > 0 && filled.remarks.is_empty(), "{filled:?}");
    let writer = Arc::new(host.writer);
    let report = lab.backup_as(&vault, Arc::clone(&writer), &points[1]).await.unwrap();
    assert_eq!((report.statistics.new_bytes, report.manifest), (0, (1, 1)), "nothing is stored twice");
    assert!(report.packs_reused > 0 && report.is_full(), "{report:?}");
    let vault = lab.open().await.unwrap();
    let list = points::list(&vault, &lab.read_key()).await.unwrap();
    assert_eq!((list.points.len(), list.remarks.len()), (3, 0), "{:?}", list.remarks);
    assert!(lab.restore(0).await.unwrap() == points[1] && lab.restore(2).await.unwrap() == points[0]);
    // Audits and repairs, which hold no key, know whose each pack is.
    assert!(repair::plan(&vault, &lab.catalog).await.unwrap().is_empty());

    // The old writer's certificate is lost, with all its points: the new point lists the headers.
    let newest = list.points.iter().find(|point| point.writer == writer.writer).unwrap();
    let only: BTreeMap<_, _> =
        vault.writers.clone().into_iter().filter(|(_, key)| key.subject() == writer.writer).collect();
    let holdings = list_shards(&vault, &vault.writer_ids()).await;
    let fetcher = Fetcher::new(lab.world.clone(), holdings, Trust::Signed(only));
    let open = open_point(fetcher, lab.read_key(), Compute::Inline, newest.pack, Some(newest.record)).await.unwrap();
    assert!(read_stream(&open).await.unwrap() == points[1]);
}

#[tokio::test]
async fn a_copy_under_another_writers_name_is_no_copy() {
    let (lab, points) = lab(10).await;
    let (host, vault) = admit(&lab, 11).await;
    // Somebody names a shard of the old writer as if it were the new one's.
    let name = lab.names(0).await.into_iter().find(|name| name.starts_with(names::SHARDS)).unwrap();
    let (_, pack, index) = names::parse_shard(&name).unwrap();
    let bytes = lab.get(0, &name).await;
    lab.delete(0, &name).await;
    lab.put(0, &names::shard(host.writer.writer, pack, index), bytes).await;
    let plan = repair::plan(&vault, &lab.catalog).await.unwrap();
    let planned: Vec<_> = plan.shards.iter().map(|task| (task.pack, task.index)).collect();
    assert_eq!(planned, [(pack, index)], "it is missed where it belongs");
    let done = repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty() && done.lost.is_empty(), "{done:?}");
    assert!(lab.names(0).await.contains(&name) && repair::plan(&vault, &lab.catalog).await.unwrap().is_empty());
    assert!(lab.restore(0).await.unwrap() == points[1]);
}

#[tokio::test]
async fn with_too_few_domains_nothing_is_written() {
    let (mut lab, _) = lab(20).await;
    lab.down = vec![1, 2, 3];
    let vault = lab.open().await.unwrap();
    let error = adopt::admission(&vault, lab.keys.master.generation, "new").await.err().unwrap();
    assert!(matches!(error, OpsError::Unreachable { .. }), "{error}");
}
