//! A thief with the writer's credentials overwrites and deletes everything.
//!
//! What must hold: where the locations keep versions, every point restores from the
//! older ones, however much rubbish lies on top; nothing of it is silent: status and
//! audit say what happened, and a repair makes the newest right again. Where they keep
//! none it is lost, and said so.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;

use backends::{VersionedMemory, Versions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use vault_format::names;
use vault_ops::audit::AuditOptions;
use vault_ops::vault::{Candidate, Expected, Vault};
use vault_ops::{OpsError, audit, repair, status};
use world::{Lab, names_of, random_bytes};

/// The locations of a lab as versioned buckets.
struct Buckets {
    lab: Lab,
    stores: Vec<VersionedMemory>,
}

impl Buckets {
    async fn new(seed: u64) -> Self {
        let lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
        let mut stores = Vec::new();
        for (_, plain) in &lab.stores {
            let bucket = VersionedMemory::new(Arc::new(|| 1_800_000_000_000));
            for name in names_of(plain).await {
                let bytes = plain.get(&Path::from(name.as_str())).await.unwrap().bytes().await.unwrap();
                bucket.put(&Path::from(name), bytes.into()).await.unwrap();
            }
            stores.push(bucket.as_writer(true));
        }
        Self { lab, stores }
    }

    /// Opens the vault; without versions a reader sees what an old one would.
    async fn open(&self, versions: bool) -> vault_ops::Result<Vault> {
        let candidate = |((name, _), bucket): (&(String, _), &VersionedMemory)| Candidate {
            name: name.clone(),
            store: Ok(Arc::new(bucket.clone()) as Arc<dyn ObjectStore>),
            versions: versions.then(|| Arc::new(bucket.clone()) as Arc<dyn Versions>),
            names: None,
        };
        let public = &self.lab.keys.public;
        let expected = Expected { vault: Some(public.vault), root: public.root.clone() };
        let candidates = self.lab.stores.iter().zip(&self.stores).map(candidate).collect();
        Vault::open(self.lab.world.clone(), &expected, candidates).await
    }

    async fn backup(&mut self, bytes: &[u8]) {
        let vault = self.open(true).await.unwrap();
        assert!(self.lab.backup_in(&vault, bytes).await.unwrap().is_full());
    }

    /// Overwrites every second object with rubbish of its size, deletes the others.
    async fn rob(&self) {
        for (at, bucket) in self.stores.iter().enumerate() {
            for (number, name) in names_of(bucket).await.into_iter().enumerate() {
                let path = Path::from(name.as_str());
                let size = bucket.head(&path).await.unwrap().size;
                // More versions than a reader tries.
                let layers = if name.starts_with(names::MANIFESTS) { 30 } else { 2 };
                for layer in 0..layers {
                    let rubbish = random_bytes(number as u64 * 100 + layer, usize::try_from(size).unwrap());
                    bucket.put(&path, rubbish.into()).await.unwrap();
                }
                if (number + at) % 2 == 0 {
                    ObjectStoreExt::delete(bucket, &path).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn a_robbed_vault_on_versioned_buckets_restores_and_is_made_right_again() {
    let mut buckets = Buckets::new(61).await;
    let (first, second) = (random_bytes(61, 600_000), random_bytes(62, 400_000));
    buckets.backup(&first).await;
    buckets.backup(&second).await;
    buckets.rob().await;

    let vault = buckets.open(true).await.unwrap();
    assert!(vault.absent.is_empty() && vault.locations.iter().all(|location| !location.blank));
    let (newest, bad) = buckets.lab.restore_from(&vault, 0).await.unwrap();
    assert_eq!(newest, second);
    assert!(bad.iter().any(|bad| bad.why.contains("was used")), "{bad:?}");
    assert_eq!(buckets.lab.restore_from(&vault, 1).await.unwrap().0, first);

    // Nothing is silent, and nothing is called lost that is not.
    let full = AuditOptions { samples: 10, location: None, full: true };
    let report = audit::run(&vault, &buckets.lab.catalog, &full).await.unwrap();
    assert!(report.short.is_empty() && !report.findings.is_empty() && !report.records.is_empty());
    let look = status::look(&vault, &buckets.lab.catalog).await.unwrap();
    assert!(look.lost.is_empty(), "{:?}", look.lost);
    assert!(look.risks.iter().any(|risk| risk.contains("older versions")), "{:?}", look.risks);

    // The repair makes the newest right: then no versions are needed any more.
    let plan = repair::plan(&vault, &buckets.lab.catalog).await.unwrap();
    let done = repair::apply(&vault, &buckets.lab.catalog, &plan).await.unwrap();
    assert!(done.lost.is_empty() && done.failed.is_empty(), "{done:?}");
    let blind = buckets.open(false).await.unwrap();
    assert_eq!(buckets.lab.restore_from(&blind, 0).await.unwrap(), (second, Vec::new()));
    assert_eq!(buckets.lab.restore_from(&blind, 1).await.unwrap().0, first);
    let again = audit::run(&blind, &buckets.lab.catalog, &full).await.unwrap();
    assert_eq!(again.worst(), audit::Outcome::Ok, "{again:?}");
}

#[tokio::test]
async fn without_versions_the_same_robbery_is_a_loss_and_is_said() {
    let mut buckets = Buckets::new(63).await;
    buckets.backup(&random_bytes(63, 300_000)).await;
    let robbed = buckets.open(true).await.unwrap();
    buckets.rob().await;
    let error = buckets.open(false).await.err().unwrap();
    assert!(matches!(&error, OpsError::NoVault { .. } | OpsError::Lost { .. } | OpsError::Corrupt { .. }), "{error}");
    // Whoever had it open before finds the manifests gone: no point is offered.
    let mut plain = robbed.clone();
    plain.locations.iter_mut().for_each(|location| location.versions = None);
    let list = vault_ops::points::list(&plain, &buckets.lab.read_key()).await.unwrap();
    assert!(list.points.is_empty() && !list.remarks.is_empty(), "{:?}", list.remarks);
}

/// A newer head that a thief deletes everywhere is not forgotten.
#[tokio::test]
async fn a_deleted_newest_manifest_is_still_the_newest() {
    let mut buckets = Buckets::new(64).await;
    let (old, new) = (random_bytes(64, 200_000), random_bytes(65, 200_000));
    buckets.backup(&old).await;
    let before: Vec<String> = names_of(&buckets.stores[0]).await;
    buckets.backup(&new).await;
    let manifest = names_of(&buckets.stores[0]).await.into_iter();
    let mut manifest = manifest.filter(|name| name.starts_with(names::MANIFESTS) && !before.contains(name));
    let manifest = manifest.next().unwrap();
    for bucket in &buckets.stores {
        ObjectStoreExt::delete(bucket, &Path::from(manifest.as_str())).await.unwrap();
    }
    let vault = buckets.open(true).await.unwrap();
    assert_eq!(buckets.lab.restore_from(&vault, 0).await.unwrap().0, new);
    let list = vault_ops::points::list(&vault, &buckets.lab.read_key()).await.unwrap();
    assert!(list.remarks.iter().any(|remark| remark.contains("was deleted at")), "{:?}", list.remarks);
    let blind = buckets.open(false).await.unwrap();
    assert_eq!(buckets.lab.restore_from(&blind, 0).await.unwrap().0, old, "the test robs what it means to");
}
