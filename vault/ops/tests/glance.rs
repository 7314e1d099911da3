//! Status looks at the names of all shards and, where sizes cost, at the sizes of a share.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;

use async_trait::async_trait;
use backends::{BackendError, Named, Names, Sizes};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use vault_ops::repair::{self, Cause};
use vault_ops::status::{self, Status};
use vault_ops::vault::Vault;
use vault_ops::{audit, census};
use world::{Lab, random_bytes};

/// A store where a size costs: only those asked for by name are told, few or not.
#[derive(Debug)]
struct Costly(Arc<InMemory>);

#[async_trait]
impl Names for Costly {
    async fn names(&self, folder: &str, sizes: Sizes) -> Result<Vec<Named>, BackendError> {
        let listed: Vec<_> = self.0.list(Some(&Path::from(folder))).try_collect().await.unwrap();
        let mut named: Vec<Named> = listed
            .into_iter()
            .map(|meta| {
                let name = meta.location.to_string();
                Named { bytes: (sizes.wanted)(&name).then_some(meta.size), name }
            })
            .collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(named)
    }
}

async fn open(lab: &Lab) -> Vault {
    let mut vault = lab.open().await.unwrap();
    for location in &mut vault.locations {
        let (_, store) = lab.stores.iter().find(|(name, _)| *name == location.name).unwrap();
        location.names = Some(Arc::new(Costly(Arc::clone(store))));
    }
    vault
}

async fn look(lab: &Lab) -> Status {
    status::look(&open(lab).await, &lab.catalog).await.unwrap()
}

async fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed, (5, 9), 4, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
    for backup in 0..4 {
        lab.backup(&random_bytes(seed + backup, 300_000)).await.unwrap();
    }
    lab
}

async fn a_shard(lab: &Lab, location: usize) -> String {
    lab.names(location).await.into_iter().find(|name| name.starts_with("shards/")).unwrap()
}

#[tokio::test]
async fn a_share_tells_what_all_sizes_would() {
    let lab = lab(0x61a0).await;
    let vault = open(&lab).await;
    let all = census::take(&vault, &lab.catalog).await.unwrap();
    let share = census::glance(&vault, &lab.catalog).await.unwrap();
    assert!(all.packs.len() > 3);
    for &pack in all.packs.keys() {
        assert_eq!(share.holdings.copies(pack), all.holdings.copies(pack));
        assert_eq!(share.class(pack), all.class(pack), "one location told the size");
        let told = share.holdings.packs[&pack].iter().filter(|holding| holding.bytes.is_some());
        assert_eq!(told.count(), 1);
    }
    let (plain, costly) = (
        status::look(&lab.open().await.unwrap(), &lab.catalog).await.unwrap(),
        status::look(&vault, &lab.catalog).await.unwrap(),
    );
    let packs = all.packs.len();
    for (plain, costly) in plain.locations.iter().zip(&costly.locations) {
        assert_eq!((plain.shards, plain.shown, plain.leaves), (costly.shards, costly.shown, costly.leaves));
        assert_eq!(plain.sized, (packs, packs));
    }
    let sized = costly.locations.iter().fold((0, 0), |sum, line| (sum.0 + line.sized.0, sum.1 + line.sized.1));
    assert_eq!(sized, (packs, packs * 9));
    assert_eq!(plain.risks, costly.risks);
    assert_eq!(plain.tolerance, costly.tolerance);
}

#[tokio::test]
async fn a_missing_name_is_told_at_once() {
    let lab = lab(0x61a1).await;
    let name = a_shard(&lab, 3).await;
    lab.delete(3, &name).await;
    for _ in 0..3 {
        let status = look(&lab).await;
        let line = &status.locations[3];
        assert_eq!((line.shards - line.shown, line.bad), (1, 0), "{line:?}");
        assert!(status.risks.iter().any(|risk| risk.contains("lacks 1 shards")), "{:?}", status.risks);
    }
}

/// Found by one look in nine. Then it stays told until it is mended.
#[tokio::test]
async fn a_shard_cut_short_is_found_in_its_turn_and_not_forgotten() {
    let lab = lab(0x61a2).await;
    let name = a_shard(&lab, 5).await;
    let bytes = lab.get(5, &name).await;
    lab.put(5, &name, bytes[..1000].to_vec()).await;
    let mut looks = 0;
    while look(&lab).await.locations[5].bad == 0 {
        looks += 1;
        assert!(looks < 300, "nobody ever looks at that size");
    }
    assert!(looks > 0, "this seed begins with another share: else the test shows less");
    for _ in 0..20 {
        let status = look(&lab).await;
        assert_eq!(status.locations[5].bad, 1);
        assert!(status.risks.iter().any(|risk| risk.contains("holds 1 wrong shards")), "{:?}", status.risks);
        assert_eq!(status.tolerance.any_domains, 3, "it counts for nothing");
    }
    let vault = open(&lab).await;
    let plan = repair::plan(&vault, &lab.catalog).await.unwrap();
    assert_eq!(plan.shards.len(), 1);
    assert!(matches!(&plan.shards[0].cause, Cause::Wrong(why) if why.contains("1000 bytes")), "{:?}", plan.shards);
    repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert_eq!(lab.get(5, &name).await, bytes);
    for _ in 0..20 {
        let status = look(&lab).await;
        assert_eq!((status.locations[5].bad, status.tolerance.any_domains), (0, 4));
    }
}

/// Who leans on sizes asks for all, whatever status looks at.
#[tokio::test]
async fn a_shard_cut_short_is_seen_at_once_by_backup_audit_and_repair() {
    let mut lab = lab(0x61a3).await;
    let name = a_shard(&lab, 5).await;
    let bytes = lab.get(5, &name).await;
    lab.put(5, &name, bytes[..1000].to_vec()).await;
    let vault = open(&lab).await;
    assert_eq!(repair::plan(&vault, &lab.catalog).await.unwrap().shards.len(), 1);
    let found =
        audit::run(&vault, &lab.fork(1).catalog, &audit::AuditOptions { samples: 50, location: None, full: true })
            .await
            .unwrap();
    assert!(found.findings.iter().any(|finding| finding.outcome != audit::Outcome::Ok), "{:?}", found.findings);
    lab.backup_in(&vault, b"more").await.unwrap();
    let shown = lab.catalog.shown(vault.locations[5].id).unwrap();
    let (_, pack, index) = vault_format::names::parse_shard(&name).unwrap();
    assert!(!shown.contains(&(pack, index)));
}
