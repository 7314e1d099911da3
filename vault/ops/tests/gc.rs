//! The trash and garbage collection from outside: what is forgotten comes back, what
//! is swept is gone everywhere, and nothing that counts is ever touched.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;

use keys::files::KeyFile;
use vault_format::tombstone::TombstoneAction;
use vault_ops::census;
use vault_ops::heads::{Depth, chain};
use vault_ops::janitor::Janitor;
use vault_ops::source::PointReader;
use vault_ops::tombstones::{self, Draft, manifest_ref};
use vault_ops::vault::Vault;
use world::{Lab, random_bytes};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A key as a program would load it.
fn loaded<T: KeyFile>(key: &T) -> Arc<T> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    keys::files::create(&path, key).unwrap();
    Arc::new(keys::files::load(&path).unwrap())
}

fn operator(lab: &Lab) -> Janitor {
    Janitor::Operator { operator: loaded(&lab.keys.operator), read: Some(lab.read_key()) }
}

async fn manifests(vault: &Vault, lab: &Lab) -> Vec<vault_ops::heads::SignedManifest> {
    let chain = chain(vault, lab.keys.writer.writer, Depth::Whole).await.unwrap();
    assert!(chain.gaps.is_empty() && chain.unreadable.is_empty(), "{:?} {:?}", chain.gaps, chain.unreadable);
    chain.manifests.into_values().collect()
}

fn draft(action: TombstoneAction) -> Draft {
    Draft { action, manifests: Vec::new(), packs: Vec::new(), grace_ms: 7 * DAY_MS, reason: "test".to_owned() }
}

#[tokio::test]
async fn marks_hide_points_and_packs_and_give_them_back() {
    let mut lab = Lab::new(1, (3, 5), 1, &[0, 1, 2]).await;
    lab.backup(&random_bytes(1, 300_000)).await.unwrap();
    lab.backup(&random_bytes(2, 300_000)).await.unwrap();
    let janitor = operator(&lab);
    let vault = lab.open().await.unwrap();
    let first = manifests(&vault, &lab).await.remove(0);
    let packs: Vec<_> = first.body.packs.iter().map(|pack| pack.pack).collect();

    let forget = Draft { manifests: vec![manifest_ref(&first)], ..draft(TombstoneAction::Trash) };
    let written = tombstones::write(&vault, &janitor, forget).await.unwrap();
    assert_eq!((written.gc_epoch, written.owed.len()), (1, 0));
    let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
    assert_eq!((list.points.len(), list.trash.len()), (1, 1));
    // What is in the trash is still there, whole.
    assert_eq!(
        lab.open_point(&vault, list.trash[0].pack, Some(list.trash[0].record)).await.unwrap().record().sequence,
        1
    );

    let vault = vault.reread().await;
    let sweep = Draft { packs: packs.clone(), manifests: vec![manifest_ref(&first)], ..draft(TombstoneAction::Sweep) };
    let written = tombstones::write(&vault, &janitor, sweep).await.unwrap();
    assert_eq!(written.gc_epoch, 2);
    let census = census::take(&vault, &lab.catalog).await.unwrap();
    assert!(packs.iter().all(|pack| !census.packs.contains_key(pack)));
    assert_eq!(census.packs.len(), census.holdings.packs.len() - packs.len());

    // Its manifest may go from every location without leaving a gap.
    let name = vault_format::names::manifest(first.writer, 1, 1);
    for at in 0..3 {
        lab.delete(at, &name).await;
    }
    let vault = lab.open().await.unwrap();
    assert_eq!(manifests(&vault, &lab).await.len(), 1);
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");

    // A location that was wiped of its tombstones gets them back from the others.
    for name in lab.names(1).await.into_iter().filter(|name| name.starts_with("tombstones/")) {
        lab.delete(1, &name).await;
    }
    let vault = lab.open().await.unwrap();
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert_eq!(plan.records.len(), 2);
    vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert!(vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap().is_empty());

    let vault = lab.open().await.unwrap();
    let restore = Draft { packs: packs.clone(), ..draft(TombstoneAction::Restore) };
    tombstones::write(&vault, &janitor, restore).await.unwrap();
    let vault = lab.open().await.unwrap();
    assert!(packs.iter().all(|pack| vault.marks.pack(*pack).is_none()));
}

#[tokio::test]
async fn a_missing_tombstone_and_a_silent_domain_stop_the_janitor_and_nobody_else() {
    let mut lab = Lab::new(2, (3, 5), 1, &[0, 1, 2]).await;
    lab.backup(&random_bytes(1, 100_000)).await.unwrap();
    let janitor = operator(&lab);
    for _ in 0..3 {
        let vault = lab.open().await.unwrap();
        tombstones::write(&vault, &janitor, draft(TombstoneAction::Trash)).await.unwrap();
    }
    lab.down = vec![2];
    let vault = lab.open().await.unwrap();
    assert!(tombstones::write(&vault, &janitor, draft(TombstoneAction::Trash)).await.is_err());
    lab.down.clear();
    let second = vault_format::names::tombstone(janitor.id(), 2);
    for at in 0..3 {
        lab.delete(at, &second).await;
    }
    let vault = lab.open().await.unwrap();
    assert_eq!(vault.marks.holes.len(), 1);
    assert_eq!(vault.marks.seen_epoch(), 0);
    let error = tombstones::write(&vault, &janitor, draft(TombstoneAction::Trash)).await.unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    lab.backup(&random_bytes(2, 100_000)).await.unwrap();
    assert_eq!(lab.restore(0).await.unwrap(), random_bytes(2, 100_000));
    // Junk under a tombstone's name of nobody we know is set aside.
    let junk = vault_format::names::tombstone(vault_format::WriterId([9; 16]), 1);
    lab.put(0, &junk, vec![1; 100]).await;
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.marks.quarantined.len(), vault.marks.holes.len()), (1, 1));
}
