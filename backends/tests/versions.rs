//! Versions and locks: of a real S3 server, and of the store in memory that plays one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use backends::contract::{self, Keeping};
use backends::{
    Credentials, Kind, Location, LocationSpec, LockMode, LockRule, Locking, Secret, VersionId, VersionedMemory,
    Versions, classify, open,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use test_servers::{Chaos, ChaosProxy, SeaweedFs};

async fn bucket(server: &SeaweedFs, bucket: &str) -> Location {
    open(spec(server, bucket)).await.unwrap()
}

fn spec(server: &SeaweedFs, bucket: &str) -> LocationSpec {
    let mut spec = LocationSpec::new(format!("s3://{bucket}/some/prefix"));
    spec.endpoint = Some(server.endpoint.clone());
    spec.allow_http = true;
    spec.credentials = Credentials::Keys { id: server.access.clone(), secret: Secret::new(server.secret.clone()) };
    spec
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs_keeps_the_contract_of_versions_and_locks() {
    let server = SeaweedFs::start();
    let random = &mut ChaCha8Rng::seed_from_u64(7);
    server.make_versioned_bucket("versioned");
    let versioned = bucket(&server, "versioned").await;
    contract::run_versions(&versioned, Keeping { erases: true, locks: false }, now_ms(), random).await.unwrap();
    assert_eq!(versioned.versions().unwrap().locking().await.unwrap(), Locking::None);

    server.make_locked_bucket("locked", 3);
    let locked = bucket(&server, "locked").await;
    let rule = LockRule { mode: LockMode::Compliance, days: 3 };
    assert_eq!(locked.versions().unwrap().locking().await.unwrap(), Locking::Always(rule));

    server.make_lockable_bucket("lockable");
    let lockable = bucket(&server, "lockable").await;
    contract::run_versions(&lockable, Keeping { erases: true, locks: true }, now_ms(), random).await.unwrap();
    assert_eq!(lockable.versions().unwrap().locking().await.unwrap(), Locking::OnRequest);

    writes_ask_for_their_lock(&server).await;
    checksums_are_sent_until_refused(&server).await;
}

/// Opened with a lock, every write carries it: create and overwrite, and not even our own
/// credentials delete it. Without one the same bucket locks nothing.
async fn writes_ask_for_their_lock(server: &SeaweedFs) {
    let until_ms = now_ms() + 120_000;
    let mut asking = spec(server, "lockable");
    asking.lock_until_ms = Some(until_ms);
    let locking = open(asking).await.unwrap();
    let versions = locking.versions().unwrap();
    for mode in [PutMode::Create, PutMode::Overwrite] {
        let put = locking.store().put_opts(&Path::from("shard"), "bytes".into(), mode.into()).await.unwrap();
        let id = VersionId(put.version.unwrap());
        let lock = versions.lock("shard", Some(&id)).await.unwrap().unwrap();
        assert_eq!(lock.mode, LockMode::Compliance);
        assert!((until_ms..until_ms + 1_000).contains(&lock.until_ms), "{lock:?} for {until_ms}");
        assert_eq!(versions.delete("shard", &id).await.unwrap_err().kind(), Kind::Denied);
    }
    let read = locking.store().get(&Path::from("shard")).await.unwrap().bytes().await.unwrap();
    assert_eq!(read, "bytes");
    let bare = bucket(server, "lockable").await;
    bare.store().put(&Path::from("bare"), "bytes".into()).await.unwrap();
    assert_eq!(bare.versions().unwrap().lock("bare", None).await.unwrap(), None);

    // A bucket without object lock refuses such a write: nothing is stored unlocked by mistake.
    let mut asking = spec(server, &server.bucket);
    asking.lock_until_ms = Some(until_ms);
    let plain = open(asking).await.unwrap();
    let put = plain.store().put(&Path::from("shard"), "bytes".into()).await;
    assert_eq!(put.map(|_| ()).map_err(|error| classify(&error)), Err(Kind::Config));
}

/// A server that does not know the checksum's header gets uploads without it, and only
/// the first is tried twice.
async fn checksums_are_sent_until_refused(server: &SeaweedFs) {
    let proxy = ChaosProxy::start(&server.endpoint, 3);
    proxy.set(Chaos { no_checksums: true, ..Chaos::default() });
    let mut through = spec(server, &server.bucket);
    through.endpoint = Some(proxy.endpoint());
    let location = open(through).await.unwrap();
    for name in ["first", "second"] {
        location.store().put(&Path::from(name), "bytes".into()).await.unwrap();
    }
    assert_eq!((proxy.requests(), proxy.hurt()), (3, 1));
}

const NOW: i64 = 1_800_000_000_000;

async fn remembered(memory: &VersionedMemory) -> Location {
    let (store, versions) = (Arc::new(memory.clone()), Arc::new(memory.clone()));
    let location = open(LocationSpec::new("memory:///")).await.unwrap();
    location.wrapped(|_| store).with_versions(versions)
}

/// The rule that a store in memory breaks; empty if none.
async fn breached(seed: u64, memory: &VersionedMemory, keeping: Keeping) -> String {
    let location = remembered(memory).await;
    let outcome = contract::run_versions(&location, keeping, NOW, &mut ChaCha8Rng::seed_from_u64(seed)).await;
    outcome.err().map(|breach| breach.rule.to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn memory_with_versions_keeps_both_contracts() {
    let memory = VersionedMemory::new(Arc::new(|| NOW));
    contract::run(&remembered(&memory).await, &mut ChaCha8Rng::seed_from_u64(4)).await.unwrap();
    assert_eq!(breached(1, &memory, Keeping { erases: true, locks: true }).await, "");
    let writer = memory.as_writer(true);
    assert_eq!(breached(2, &writer, Keeping { erases: false, locks: true }).await, "");
    let erases = breached(3, &writer, Keeping { erases: true, locks: false }).await;
    assert!(erases.starts_with("an erased version"), "{erases}");
}

#[tokio::test]
async fn a_lock_in_memory_ends_with_its_time() {
    let now = Arc::new(AtomicI64::new(NOW));
    let clock = Arc::clone(&now);
    let memory = VersionedMemory::new(Arc::new(move || clock.load(Ordering::SeqCst)));
    memory.set_locking(Locking::Always(LockRule { mode: LockMode::Compliance, days: 1 }));
    let name = Path::from("a");
    let id = VersionId(memory.put(&name, "x".into()).await.unwrap().version.unwrap());
    assert_eq!(Versions::delete(&memory, "a", &id).await.unwrap_err().kind(), Kind::Denied);
    now.store(NOW + 86_400_001, Ordering::SeqCst);
    Versions::delete(&memory, "a", &id).await.unwrap();
    let read = ObjectStoreExt::get(&memory, &name).await.map(|_| ()).map_err(|e| classify(&e));
    assert_eq!(read, Err(Kind::NotFound));
}
