//! The part of the contract about versions and locks, for the locations that have them.
//!
//! What always holds: whatever implements [`Versions`] is put through this, S3 servers
//! and the store in memory alike. Writes under `contract/<random>/`; what locks hold
//! stays there until they end.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use rand_core::Rng;

use super::{Breach, Outcome, breach, expect, pattern};
use crate::versions::{LockMode, Version, Versions};
use crate::{BackendError, Kind, Location, classify};

/// What the location is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// These credentials may delete a version that is not locked.
    pub erases: bool,
    /// Objects can be locked.
    pub locks: bool,
}

/// Puts a location that keeps versions through the suite: the first breach, or none.
/// `now_ms` is the time as the location sees it.
pub async fn run_versions(
    location: &Location,
    keeping: Keeping,
    now_ms: i64,
    random: &mut (dyn Rng + Send),
) -> Outcome {
    let versions = location.versions().ok_or_else(|| breach("versions can be asked for", "there are none"))?;
    let root = format!("contract/{:016x}", random.next_u64());
    let suite = Suite { store: location.store(), versions, root };
    suite.every_write_is_a_version().await?;
    suite.prefixes_are_texts_and_bounds_hold().await?;
    if keeping.erases {
        suite.a_version_can_be_erased().await?;
    }
    if keeping.locks {
        suite.a_locked_version_stays(now_ms).await?;
    }
    Ok(())
}

struct Suite<'a> {
    store: &'a Arc<dyn ObjectStore>,
    versions: &'a Arc<dyn Versions>,
    root: String,
}

impl Suite<'_> {
    async fn every_write_is_a_version(&self) -> Outcome {
        const RULE: &str = "overwritten and deleted objects are read by version, the newest first";
        let name = self.name("kept");
        let sizes = [1_000, 70_000, 5];
        for size in sizes {
            self.put(RULE, &name, size).await?;
        }
        self.delete(RULE, &name).await?;
        let found = self.list(RULE, &name).await?;
        let shown: Vec<(bool, bool, u64)> = found.iter().map(|v| (v.newest, v.marker, v.bytes)).collect();
        let expected = [(true, true, 0), (false, false, 5), (false, false, 70_000), (false, false, 1_000)];
        expect(RULE, shown == expected, || format!("{found:?}"))?;
        for (version, size) in found[1..].iter().zip(sizes.iter().rev()) {
            let read = self.get(RULE, version, None).await?;
            expect(RULE, read == pattern(*size), || format!("{size}: {} bytes came back", read.len()))?;
        }
        let range = 65_530..65_540;
        let read = self.get(RULE, &found[2], Some(range.clone())).await?;
        expect(RULE, read == pattern(70_000)[65_530..65_540], || format!("{range:?}: {} bytes", read.len()))?;
        let gone = self.store.get(&Path::from(name)).await.map(|_| ()).map_err(|e| classify(&e));
        expect(RULE, gone == Err(Kind::NotFound), || format!("an ordinary read gives {gone:?}"))
    }

    async fn prefixes_are_texts_and_bounds_hold(&self) -> Outcome {
        const RULE: &str = "versions are listed by the beginning of the name, at most so many, in order";
        for name in ["p/b.01", "p/b.02", "p/bc", "p/a"] {
            self.put(RULE, &self.name(name), 10).await?;
            self.put(RULE, &self.name(name), 11).await?;
        }
        let found = self.list(RULE, &self.name("p/b.")).await?;
        let names: Vec<(&str, u64)> = found.iter().map(|v| (&v.name[self.root.len() + 1..], v.bytes)).collect();
        let expected = [("p/b.01", 11), ("p/b.01", 10), ("p/b.02", 11), ("p/b.02", 10)];
        expect(RULE, names == expected, || format!("{names:?}"))?;
        let bounded = self.versions.list(&self.name("p/"), 3).await.map_err(|e| failed(RULE, &e))?;
        expect(RULE, bounded.versions.len() == 3 && !bounded.complete, || format!("{bounded:?}"))?;
        let none = self.list(RULE, &self.name("nothing-here")).await?;
        expect(RULE, none.is_empty(), || format!("{none:?}"))
    }

    async fn a_version_can_be_erased(&self) -> Outcome {
        const RULE: &str = "an erased version is gone, the others stay";
        let name = self.name("erased");
        self.put(RULE, &name, 100).await?;
        self.put(RULE, &name, 200).await?;
        let found = self.list(RULE, &name).await?;
        self.versions.delete(&name, &found[1].id).await.map_err(|e| failed(RULE, &e))?;
        let left = self.list(RULE, &name).await?;
        expect(RULE, left == found[..1], || format!("{left:?}"))?;
        let read = self.versions.get(&name, &found[1].id, None).await.map(|_| ()).map_err(|e| e.kind());
        expect(RULE, read == Err(Kind::NotFound), || format!("the erased one gives {read:?}"))?;
        // Erasing a mark of deletion brings the object back: what a thief hid is shown again.
        self.delete(RULE, &name).await?;
        let hidden = self.list(RULE, &name).await?;
        self.versions.delete(&name, &hidden[0].id).await.map_err(|e| failed(RULE, &e))?;
        let read = self.store.get(&Path::from(name.as_str())).await.map(|_| ()).map_err(|e| classify(&e));
        expect(RULE, read == Ok(()), || format!("after the mark is gone: {read:?}"))
    }

    async fn a_locked_version_stays(&self, now_ms: i64) -> Outcome {
        const RULE: &str = "a locked version cannot be erased, and its lock only grows";
        let name = self.name("locked");
        self.put(RULE, &name, 300).await?;
        let locked = self.list(RULE, &name).await?.remove(0);
        let until_ms = now_ms + 90_000;
        self.extend(RULE, &locked, until_ms).await?;
        self.extend(RULE, &locked, until_ms - 30_000).await?;
        let lock = self.versions.lock(&name, Some(&locked.id)).await.map_err(|e| failed(RULE, &e))?;
        // Stores write whole seconds.
        let holds =
            lock.is_some_and(|lock| lock.mode == LockMode::Compliance && lock.until_ms.abs_diff(until_ms) < 1_000);
        expect(RULE, holds, || format!("{lock:?}, not until {until_ms}"))?;
        let erased = self.versions.delete(&name, &locked.id).await.map_err(|e| e.kind());
        expect(RULE, erased == Err(Kind::Denied), || format!("erasing it: {erased:?}"))?;
        self.put(RULE, &name, 5).await?;
        self.delete(RULE, &name).await?;
        let read = self.get(RULE, &locked, None).await?;
        expect(RULE, read == pattern(300), || format!("{} bytes came back", read.len()))
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    async fn put(&self, rule: &'static str, name: &str, size: usize) -> Outcome {
        let payload = PutPayload::from_bytes(pattern(size));
        let result = self.store.put(&Path::from(name), payload).await;
        result.map(|_| ()).map_err(|e| breach(rule, format!("put {name}: {e}")))
    }

    async fn delete(&self, rule: &'static str, name: &str) -> Outcome {
        let result = self.store.delete(&Path::from(name)).await;
        result.map_err(|e| breach(rule, format!("delete {name}: {e}")))
    }

    async fn list(&self, rule: &'static str, prefix: &str) -> Result<Vec<Version>, Breach> {
        let list = self.versions.list(prefix, 1_000).await.map_err(|e| failed(rule, &e))?;
        expect(rule, list.complete, || format!("{prefix}: not complete"))?;
        Ok(list.versions)
    }

    async fn get(&self, rule: &'static str, version: &Version, range: Option<Range<u64>>) -> Result<Bytes, Breach> {
        self.versions.get(&version.name, &version.id, range).await.map_err(|e| failed(rule, &e))
    }

    async fn extend(&self, rule: &'static str, version: &Version, until_ms: i64) -> Outcome {
        let result = self.versions.extend_lock(&version.name, Some(&version.id), until_ms).await;
        result.map_err(|e| failed(rule, &e))
    }
}

fn failed(rule: &'static str, error: &BackendError) -> Breach {
    breach(rule, error.to_string())
}
