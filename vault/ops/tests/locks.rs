//! Retention locks over months: what is live never comes without one, however little is
//! done at a time; what is not live is let go.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backends::{Kind, LockMode, LockRule, Locking, VersionedMemory, Versions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use vault_ops::retain;
use vault_ops::vault::{Candidate, Expected, Vault};
use world::{Lab, names_of, random_bytes};

const DAY_MS: i64 = 86_400_000;

struct Locked {
    lab: Lab,
    stores: Vec<VersionedMemory>,
}

impl Locked {
    /// Five buckets that lock every object for thirty days.
    async fn new(seed: u64) -> Self {
        let lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
        let mut stores = Vec::new();
        for (_, plain) in &lab.stores {
            let clock = Arc::clone(&lab.world.clock);
            let bucket = VersionedMemory::new(Arc::new(move || clock.now_ms()));
            bucket.set_locking(Locking::Always(LockRule { mode: LockMode::Compliance, days: 30 }));
            for name in names_of(plain).await {
                let bytes = plain.get(&Path::from(name.as_str())).await.unwrap().bytes().await.unwrap();
                bucket.put(&Path::from(name), bytes.into()).await.unwrap();
            }
            stores.push(bucket);
        }
        Self { lab, stores }
    }

    async fn open(&self) -> Vault {
        let candidate = |((name, _), bucket): (&(String, _), &VersionedMemory)| Candidate {
            name: name.clone(),
            store: Ok(Arc::new(bucket.clone()) as Arc<dyn ObjectStore>),
            versions: Some(Arc::new(bucket.clone()) as Arc<dyn Versions>),
            names: None,
        };
        let public = &self.lab.keys.public;
        let expected = Expected { vault: Some(public.vault), root: public.root.clone() };
        let candidates = self.lab.stores.iter().zip(&self.stores).map(candidate).collect();
        Vault::open(self.lab.world.clone(), &expected, candidates).await.unwrap()
    }

    /// Shortest lock of any object, in days from now.
    async fn shortest(&self, but: &str) -> i64 {
        let now = self.lab.world.now_ms();
        let mut shortest = i64::MAX;
        for bucket in &self.stores {
            for name in names_of(bucket).await.into_iter().filter(|name| name != but) {
                let lock = bucket.lock(&name, None).await.unwrap();
                shortest = shortest.min(lock.map_or(0, |lock| (lock.until_ms - now) / DAY_MS));
            }
        }
        shortest
    }

    /// One round of upkeep in slices of so many requests; how many slices it took.
    async fn round(&self, most: u64) -> usize {
        for slices in 1..1_000 {
            let vault = self.open().await;
            let plan = retain::plan(&vault, &self.lab.catalog, &BTreeMap::new()).await.unwrap();
            assert_eq!(plan.locking.len(), 5, "{plan:?}");
            let done = retain::apply(&vault, &self.lab.catalog, &plan, most).await.unwrap();
            assert!(done.failed.is_empty() && done.requests < most + 8, "{done:?}");
            if done.left == 0 {
                return slices;
            }
        }
        panic!("a round never ends");
    }
}

#[tokio::test]
async fn what_is_live_stays_locked_for_months_and_the_rest_is_let_go() {
    let mut locked = Locked::new(71).await;
    let bytes = random_bytes(71, 400_000);
    let vault = locked.open().await;
    locked.lab.backup_in(&vault, &bytes).await.unwrap();
    let orphan = Path::from("shards/nobody/knows/this");
    locked.stores[0].put(&orphan, "x".into()).await.unwrap();

    for day in 0..90 {
        assert!(locked.shortest(orphan.as_ref()).await >= 13, "day {day}");
        locked.lab.world.clock.sleep(Duration::from_hours(24)).await;
        let slices = locked.round(40).await;
        assert!(day != 0 || slices > 1, "the bound is never met: {slices}");
    }
    // Nobody deletes what is live, not even with every right; the orphan's lock has ended.
    for bucket in &locked.stores {
        for name in names_of(bucket).await {
            for version in Versions::list(bucket, &name, 10).await.unwrap().versions {
                let deleted = Versions::delete(bucket, &name, &version.id).await.map_err(|error| error.kind());
                let expected = if name == orphan.as_ref() { Ok(()) } else { Err(Kind::Denied) };
                assert_eq!(deleted, expected, "{name}");
            }
        }
    }
    let vault = locked.open().await;
    assert_eq!(locked.lab.restore_from(&vault, 0).await.unwrap().0, bytes);
}

/// Whoever overwrites an object cannot outwait the lock of what was there before.
#[tokio::test]
async fn the_version_under_a_thiefs_stays_locked_too() {
    let mut locked = Locked::new(72).await;
    let bytes = random_bytes(72, 200_000);
    let vault = locked.open().await;
    locked.lab.backup_in(&vault, &bytes).await.unwrap();
    for bucket in &locked.stores {
        for name in names_of(bucket).await {
            let size = bucket.head(&Path::from(name.as_str())).await.unwrap().size;
            let rubbish = random_bytes(size, usize::try_from(size).unwrap());
            bucket.put(&Path::from(name), rubbish.into()).await.unwrap();
        }
    }
    for _ in 0..9 {
        locked.lab.world.clock.sleep(Duration::from_hours(10 * 24)).await;
        locked.round(10_000).await;
    }
    for bucket in &locked.stores {
        for version in Versions::list(bucket, "", 10_000).await.unwrap().versions {
            // The thief tries: what it wrote last may go, what was there first may not.
            let _ = Versions::delete(bucket, &version.name, &version.id).await;
        }
    }
    let vault = locked.open().await;
    assert_eq!(locked.lab.restore_from(&vault, 0).await.unwrap().0, bytes);
}
