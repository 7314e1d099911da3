//! What every location must do, as a suite that any of them can be put through.
//!
//! What always holds: the vault relies on nothing that is not checked here. A rule that is
//! broken is reported by name, so a new kind of server can be judged before anyone trusts
//! it. The suite writes under `contract/<random>/` and removes what it wrote.

mod versions;

pub use versions::{Keeping, run_versions};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use rand_core::Rng;

use crate::{Kind, Location, classify};

/// A rule that a location broke.
#[derive(Debug, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Breach {
    /// The rule, in words.
    pub rule: &'static str,
    /// What was seen instead.
    pub detail: String,
}

type Outcome = Result<(), Breach>;

/// Puts a location through the suite: the first breach, or none.
pub async fn run(location: &Location, random: &mut (dyn Rng + Send)) -> Outcome {
    let suite = Suite { location, root: Path::from(format!("contract/{:016x}", random.next_u64())) };
    suite.what_is_written_is_read().await?;
    suite.what_is_missing_is_not_found().await?;
    suite.create_does_not_replace().await?;
    suite.overwrite_replaces_whole().await?;
    suite.ranges_are_exact().await?;
    suite.large_objects_are_whole(random).await?;
    suite.names_are_kept_as_they_are().await?;
    suite.listings_are_complete_and_ordered().await?;
    suite.deleted_is_gone().await?;
    suite.clean_up().await
}

struct Suite<'a> {
    location: &'a Location,
    root: Path,
}

impl Suite<'_> {
    async fn what_is_written_is_read(&self) -> Outcome {
        const RULE: &str = "what is written is read, its size and name are told";
        for (name, size) in [("empty", 0), ("one", 1), ("leaf", 65_536), ("odd", 100_003)] {
            let name = self.name(name);
            let bytes = pattern(size);
            self.put(RULE, &name, &bytes).await?;
            let meta = self.location.store().head(&name).await;
            let meta = meta.map_err(|e| breach(RULE, format!("head {name}: {e}")))?;
            let told = (&meta.location, meta.size);
            expect(RULE, told == (&name, size as u64), || format!("head {name}: {meta:?}"))?;
            let read = self.read(RULE, &name).await?;
            expect(RULE, read == bytes, || format!("{name}: {} bytes came back", read.len()))?;
        }
        Ok(())
    }

    async fn what_is_missing_is_not_found(&self) -> Outcome {
        const RULE: &str = "what is missing is \"not found\", by get, head and range";
        let name = self.name("missing/object");
        let store = self.location.store();
        let kinds = [
            store.get(&name).await.map(|_| ()).map_err(|e| classify(&e)),
            store.head(&name).await.map(|_| ()).map_err(|e| classify(&e)),
            store.get_range(&name, 0..1).await.map(|_| ()).map_err(|e| classify(&e)),
        ];
        let not_found = kinds.iter().all(|kind| *kind == Err(Kind::NotFound));
        expect(RULE, not_found, || format!("{kinds:?}"))
    }

    async fn create_does_not_replace(&self) -> Outcome {
        const RULE: &str = "create of a taken name is \"exists\" and changes nothing";
        let name = self.name("created");
        let (first, second) = (pattern(1_000), pattern(2_000));
        let store = self.location.store();
        for (bytes, expected) in [(&first, Ok(())), (&second, Err(Kind::Exists))] {
            let payload = PutPayload::from_bytes(bytes.clone());
            let result = store.put_opts(&name, payload, PutMode::Create.into()).await;
            let result = result.map(|_| ()).map_err(|e| classify(&e));
            expect(RULE, result == expected, || format!("{result:?}, not {expected:?}"))?;
        }
        let read = self.read(RULE, &name).await?;
        expect(RULE, read == first, || format!("{} bytes stand there", read.len()))
    }

    async fn overwrite_replaces_whole(&self) -> Outcome {
        const RULE: &str = "overwrite replaces the whole object";
        let name = self.name("overwritten");
        for size in [70_000, 10, 0, 5_000] {
            let bytes = pattern(size);
            self.put(RULE, &name, &bytes).await?;
            let read = self.read(RULE, &name).await?;
            expect(RULE, read == bytes, || format!("{} bytes, not {size}", read.len()))?;
        }
        Ok(())
    }

    async fn ranges_are_exact(&self) -> Outcome {
        const RULE: &str = "ranges are exact, cut at the end, and behind it \"corrupt\"";
        let name = self.name("ranged");
        let bytes = pattern(200_000);
        self.put(RULE, &name, &bytes).await?;
        let store = self.location.store();
        let ranges = [0..1, 65_536..131_072, 199_999..200_000, 190_000..300_000];
        for range in ranges.clone() {
            let read = store.get_range(&name, range.clone()).await;
            let read = read.map_err(|e| breach(RULE, format!("{range:?}: {e}")))?;
            let end = range.end.min(200_000);
            let expected = &bytes[to_usize(range.start)..to_usize(end)];
            expect(RULE, read == expected, || format!("{range:?}: {} bytes", read.len()))?;
        }
        let behind = store.get_range(&name, 200_000..200_001).await;
        let behind = behind.map(|_| ()).map_err(|e| classify(&e));
        expect(RULE, behind == Err(Kind::Corrupt), || format!("behind the end: {behind:?}"))?;
        let several = store.get_ranges(&name, &ranges[..3]).await;
        let several = several.map_err(|e| breach(RULE, format!("several: {e}")))?;
        let exact =
            several.iter().zip(&ranges).all(|(read, range)| *read == bytes[to_usize(range.start)..to_usize(range.end)]);
        expect(RULE, exact && several.len() == 3, || "several ranges at once".to_owned())
    }

    /// The size of the largest usual shard with its header, tree and trailer, and random,
    /// so that no server can compress it away.
    async fn large_objects_are_whole(&self, random: &mut (dyn Rng + Send)) -> Outcome {
        const RULE: &str = "an object of the largest usual shard's size is whole";
        let name = self.name("large");
        let mut bytes = vec![0; 4 * 1024 * 1024 + 12_345];
        random.fill_bytes(&mut bytes);
        let bytes = Bytes::from(bytes);
        self.put(RULE, &name, &bytes).await?;
        let read = self.read(RULE, &name).await?;
        expect(RULE, read == bytes, || format!("{} bytes came back", read.len()))
    }

    async fn names_are_kept_as_they_are(&self) -> Outcome {
        const RULE: &str = "names of our characters and lengths are kept";
        let long = "f".repeat(200);
        let deep = ["d"; 12].join("/");
        for name in ["0-9.a_z", "UPPER", "a.b-c_d", &long, &deep] {
            let name = self.name(&format!("names/{name}"));
            self.put(RULE, &name, &pattern(3)).await?;
            self.read(RULE, &name).await?;
            let found = self.list(RULE, &self.root.clone().join("names"), None).await?;
            expect(RULE, found.contains(&name), || format!("{name} is not listed"))?;
        }
        Ok(())
    }

    /// Order is promised within one folder only: a server that walks folders (SeaweedFS)
    /// puts `a/1` before `a-b`, one that sorts whole names after it.
    async fn listings_are_complete_and_ordered(&self) -> Outcome {
        const RULE: &str = "listings are complete; in one folder in order of bytes, after an offset";
        let root = self.root.clone().join("listed");
        let mut names: Vec<Path> = ["a-b", "a.b", "a/1", "a/10", "a/2", "a0", "b/c/d", "z"]
            .into_iter()
            .map(|name| self.name(&format!("listed/{name}")))
            .collect();
        let mut flat: Vec<Path> =
            (0..60_u64).map(|i| self.name(&format!("listed/many/{:08x}.{i}", i * 0x0135_79bd % 0xffff_fffb))).collect();
        names.extend_from_slice(&flat);
        for name in &names {
            self.put(RULE, name, &pattern(1)).await?;
        }
        let mut listed = self.list(RULE, &root, None).await?;
        listed.sort_unstable();
        names.sort_unstable();
        flat.sort_unstable();
        expect(RULE, listed == names, || format!("{listed:?}"))?;

        let many = root.clone().join("many");
        let listed = self.list(RULE, &many, None).await?;
        expect(RULE, listed == flat, || format!("{listed:?}"))?;
        for offset in [0, 41, 59] {
            let after = self.list(RULE, &many, Some(&flat[offset])).await?;
            let expected = &flat[offset + 1..];
            expect(RULE, after == expected, || format!("after {}: {after:?}", flat[offset]))?;
        }
        // An offset need not exist: it is a place in the order.
        let between = many.join("8");
        let after = self.list(RULE, &root.clone().join("many"), Some(&between)).await?;
        let expected = flat.iter().filter(|name| **name > between);
        expect(RULE, after.iter().eq(expected), || format!("after {between}: {after:?}"))?;
        // A prefix is a folder: "a" is not the beginning of "a-b".
        let below = self.list(RULE, &self.name("listed/a"), None).await?;
        expect(RULE, below.len() == 3, || format!("below a: {below:?}"))?;
        let nothing = self.list(RULE, &self.name("nothing-here"), None).await?;
        expect(RULE, nothing.is_empty(), || format!("{nothing:?}"))?;
        let level = self.location.store().list_with_delimiter(Some(&root)).await;
        let level = level.map_err(|e| breach(RULE, format!("one level: {e}")))?;
        let counts = (level.objects.len(), level.common_prefixes.len());
        expect(RULE, counts == (4, 3), || format!("one level: {level:?}"))
    }

    async fn deleted_is_gone(&self) -> Outcome {
        const RULE: &str = "what is deleted is gone, and deleting it again is no failure";
        let name = self.name("deleted");
        self.put(RULE, &name, &pattern(10)).await?;
        let store = self.location.store();
        store.delete(&name).await.map_err(|e| breach(RULE, format!("delete: {e}")))?;
        let read = store.get(&name).await.map(|_| ()).map_err(|e| classify(&e));
        expect(RULE, read == Err(Kind::NotFound), || format!("read: {read:?}"))?;
        let again = store.delete(&name).await.map_err(|e| classify(&e));
        let gone = matches!(again, Ok(()) | Err(Kind::NotFound));
        expect(RULE, gone, || format!("again: {again:?}"))
    }

    async fn clean_up(&self) -> Outcome {
        const RULE: &str = "everything can be deleted";
        let names = self.list(RULE, &self.root, None).await?;
        let names = futures::stream::iter(names.into_iter().map(Ok)).boxed();
        let deleted = self.location.store().delete_stream(names);
        let deleted: Vec<Path> = deleted.try_collect().await.map_err(|e| breach(RULE, e.to_string()))?;
        let left = self.list(RULE, &self.root, None).await?;
        expect(RULE, left.is_empty() && !deleted.is_empty(), || format!("{left:?}"))
    }

    fn name(&self, name: &str) -> Path {
        name.split('/').fold(self.root.clone(), Path::join)
    }

    async fn put(&self, rule: &'static str, name: &Path, bytes: &Bytes) -> Outcome {
        let payload = PutPayload::from_bytes(bytes.clone());
        let result = self.location.store().put(name, payload).await;
        result.map(|_| ()).map_err(|e| breach(rule, format!("put {name}: {e}")))
    }

    async fn read(&self, rule: &'static str, name: &Path) -> Result<Bytes, Breach> {
        let failed = |e: object_store::Error| breach(rule, format!("get {name}: {e}"));
        let result = self.location.store().get(name).await.map_err(failed)?;
        result.bytes().await.map_err(failed)
    }

    async fn list(&self, rule: &'static str, prefix: &Path, offset: Option<&Path>) -> Result<Vec<Path>, Breach> {
        let store = self.location.store();
        let listed = match offset {
            None => store.list(Some(prefix)),
            Some(offset) => store.list_with_offset(Some(prefix), offset),
        };
        listed
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|e| breach(rule, format!("list {prefix}: {e}")))
    }
}

fn expect(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(breach(rule, detail())) }
}

fn breach(rule: &'static str, detail: impl Into<String>) -> Breach {
    Breach { rule, detail: detail.into() }
}

/// Bytes of which no two equal stretches are near each other.
fn pattern(size: usize) -> Bytes {
    (0..size).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).expect("offsets here are small")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Faults, Faulty, LocationSpec, Meter, Metered, open};
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;
    use std::sync::Arc;

    fn random() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(9)
    }

    async fn memory() -> Location {
        open(LocationSpec::new("memory:///")).await.unwrap()
    }

    #[tokio::test]
    async fn folders_and_memory_keep_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let url = url::Url::from_directory_path(dir.path()).unwrap();
        let folder = open(LocationSpec::new(url)).await.unwrap();
        run(&folder, &mut random()).await.unwrap();
        run(&memory().await, &mut random()).await.unwrap();
        for links in [true, false] {
            let disk = crate::disk::SimulatedDisk::new(1);
            disk.set_links(links);
            let folder = crate::folder_on(Arc::new(disk), std::path::Path::new("/disk/vault"), true).unwrap();
            run(&folder, &mut random()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn decorators_keep_the_contract() {
        let location = memory().await.wrapped(|store| {
            let faulty = Faulty::new(store, Box::new(random()));
            let metered = Metered::new(Arc::new(faulty), Arc::new(Meter::default()));
            Arc::new(crate::Limited::new(metered, 2))
        });
        run(&location, &mut random()).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_lies_breaks_a_rule_by_name() {
        let suite = async |faults: Faults| {
            let location = memory().await.wrapped(|store| {
                let faulty = Faulty::new(store, Box::new(random()));
                faulty.set(faults);
                Arc::new(faulty)
            });
            run(&location, &mut random()).await.unwrap_err().rule
        };
        let wrong = Faults { get_wrong: 1_000, ..Faults::default() };
        assert!(suite(wrong).await.starts_with("what is written is read"));
        let stale = Faults { list_stale: 1_000, ..Faults::default() };
        assert!(suite(stale).await.starts_with("names of our characters"));
        let stuck = Faults { delete_error: 1_000, ..Faults::default() };
        assert!(suite(stuck).await.starts_with("what is deleted is gone"));
    }
}
