//! Real S3 servers, directly and through a network that fails.
//!
//! SeaweedFS honours `If-None-Match` and keeps versions and locks; the JuiceFS gateway
//! (MinIO's code) ignores the condition; a proxy in front answers as Backblaze B2 does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant, SystemTime};

use backends::{
    Checked, Checksums, ConditionalPut, CreateAs, Credentials, Grade, Kind, Location, LocationSpec, Probe, Secret,
    Timeouts, classify, contract, open, probe,
};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use test_servers::{Chaos, ChaosProxy, JuiceFs, SeaweedFs};

fn random() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(2026)
}

fn spec(url: &str, endpoint: &str, access: &str, secret: &str) -> LocationSpec {
    let mut spec = LocationSpec::new(url);
    spec.endpoint = Some(endpoint.to_owned());
    spec.allow_http = true;
    spec.credentials = Credentials::Keys { id: access.to_owned(), secret: Secret::new(secret.to_owned()) };
    spec
}

/// A location in a bucket of SeaweedFS, reached through `endpoint`.
async fn seaweed(server: &SeaweedFs, bucket: &str, endpoint: &str, timeouts: Timeouts) -> Location {
    let url = format!("s3://{bucket}/some/prefix");
    let mut spec = spec(&url, endpoint, &server.access, &server.secret);
    spec.timeouts = timeouts;
    open(spec).await.unwrap()
}

async fn probed(location: &Location) -> Probe {
    let found = probe(location, &mut random(), &SystemTime::now).await.unwrap();
    println!("{}: {found:?}", location.url());
    assert!(found.reads_back && found.ranges && found.lists_after_put && found.overwrites_seen);
    assert!(found.clock_skew_s.unwrap().abs() <= 2);
    found
}

fn quick() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(1),
        request: Duration::from_secs(2),
        total: Duration::from_secs(5),
        retries: 2,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs_honours_conditions_keeps_versions_and_locks() {
    let server = SeaweedFs::start();
    let direct = |bucket: &'static str| seaweed(&server, bucket, &server.endpoint, Timeouts::default());

    let plain = seaweed(&server, &server.bucket, &server.endpoint, Timeouts::default()).await;
    plain.reachable().await.unwrap();
    contract::run(&plain, &mut random()).await.unwrap();
    let found = probed(&plain).await;
    assert_eq!(found.conditional, ConditionalPut::Honoured);
    assert_eq!((found.racers, found.winners), (16, 1));
    assert_eq!(found.grade, Grade::Overwritable);
    assert!(found.may_delete && !found.keeps_versions && !found.locks_on_request);
    assert_eq!(found.lists_after_delete, Some(true));
    let all = Checked::Honoured;
    assert_eq!(found.checksums, Checksums { md5: all, crc32c: all, sha256: all });
    assert_eq!(found.left_behind, [""; 0]);

    server.make_versioned_bucket("versioned");
    let found = probed(&direct("versioned").await).await;
    // Versions are kept, but these credentials may erase them: that protects nobody.
    assert!(found.keeps_versions && found.may_erase_versions);
    assert_eq!(found.grade, Grade::Overwritable);

    // The same bucket with credentials that may not delete.
    let proxy = ChaosProxy::start(&server.endpoint, 1);
    proxy.set(Chaos { denied_method: Some("DELETE"), ..Chaos::default() });
    let writer = seaweed(&server, "versioned", &proxy.endpoint(), Timeouts::default()).await;
    let found = probed(&writer).await;
    assert!(found.keeps_versions && !found.may_delete && !found.may_erase_versions);
    // It refuses to delete anything, and a lock on a bucket without locks proves nothing.
    assert!(!found.locks_on_request);
    assert_eq!(found.grade, Grade::Versioned);
    assert!(!found.left_behind.is_empty());

    // Objects that ask for a lock get one, which not even these credentials undo.
    server.make_lockable_bucket("lockable");
    let found = probed(&direct("lockable").await).await;
    assert!(found.keeps_versions && found.may_erase_versions && found.locks_on_request);
    assert_eq!((found.grade, found.grade_when(true)), (Grade::Overwritable, Grade::Locked));
    assert_eq!(found.left_behind.len(), 1, "{:?}", found.left_behind);

    server.make_locked_bucket("locked", 1);
    let locked = direct("locked").await;
    let found = probed(&locked).await;
    assert!(found.keeps_versions && !found.may_erase_versions);
    assert_eq!(found.grade, Grade::Locked);
    assert!(!found.left_behind.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn juicefs_ignores_conditions_and_head_comes_first_after_the_probe() {
    let server = JuiceFs::start();
    let url = format!("s3://{}/prefix", server.bucket);
    let spec = spec(&url, &server.endpoint, &server.access, &server.secret);
    let location = open(spec).await.unwrap();

    // Unprobed, it breaks the contract by replacing what stands there.
    let mut random = random();
    let breach = contract::run(&location, &mut random).await.unwrap_err();
    assert!(breach.rule.starts_with("create of a taken name"), "{breach}");

    let found = probed(&location).await;
    assert_eq!(found.conditional, ConditionalPut::Ignored);
    assert_eq!((found.racers, found.winners), (16, 16));
    assert_eq!(found.grade, Grade::Overwritable);
    assert_eq!((found.checksums.md5, found.checksums.crc32c), (Checked::Honoured, Checked::Ignored));
    assert!(!found.keeps_versions && !found.locks_on_request);
    assert_eq!(location.create_as(), CreateAs::HeadThenPut);
    contract::run(&location, &mut random).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_network_gives_the_errors_a_caller_can_act_on() {
    let server = SeaweedFs::start();
    let proxy = ChaosProxy::start(&server.endpoint, 5);
    let location = seaweed(&server, &server.bucket, &proxy.endpoint(), quick()).await;
    let store = location.store();
    let name = Path::from("a/b");
    store.put(&name, "first".into()).await.unwrap();

    wrong_names_and_keys(&server).await;

    // As Backblaze B2: 501 to If-None-Match, at once and not after ten tries.
    proxy.set(Chaos { no_conditional_put: true, ..Chaos::default() });
    let before = proxy.requests();
    let exists = store.put_opts(&name, "second".into(), PutMode::Create.into()).await;
    assert_eq!(classify(&exists.unwrap_err()), Kind::Exists);
    assert_eq!(location.create_as(), CreateAs::HeadThenPut);
    // The refused create and the HEAD.
    assert_eq!(proxy.requests() - before, 2);
    assert_eq!(probed(&location).await.conditional, ConditionalPut::Refused);
    location.set_create(CreateAs::Conditional);

    // A create whose answer is lost has landed: "unavailable" first, "exists" after.
    proxy.set(Chaos { swallow_answers: true, only_method: Some("PUT"), ..Chaos::default() });
    let lost = Path::from("a/lost");
    let result = store.put_opts(&lost, "landed".into(), PutMode::Create.into()).await;
    assert!(matches!(classify(&result.unwrap_err()), Kind::Unavailable | Kind::Exists));
    proxy.set(Chaos::default());
    let again = store.put_opts(&lost, "landed".into(), PutMode::Create.into()).await;
    assert_eq!(classify(&again.unwrap_err()), Kind::Exists);
    assert_eq!(store.get(&lost).await.unwrap().bytes().await.unwrap(), "landed");

    // Some requests fail: the retries hide it.
    proxy.set(Chaos { unavailable_permille: 200, ..Chaos::default() });
    let before = proxy.hurt();
    for i in 0..30 {
        let result = store.put(&Path::from(format!("a/{i}")), "x".into()).await;
        if let Err(error) = result {
            assert_eq!(classify(&error), Kind::Unavailable, "{error}");
        }
    }
    assert!(proxy.hurt() > before);

    // An answer that ends early is an error or the whole object, never a part of it.
    let big = Path::from("a/big");
    proxy.set(Chaos::default());
    store.put(&big, vec![5; 300_000].into()).await.unwrap();
    proxy.set(Chaos { cut_after: Some(100_000), only_method: Some("GET"), ..Chaos::default() });
    let cut = match store.get(&big).await {
        Ok(result) => result.bytes().await,
        Err(error) => Err(error),
    };
    assert_eq!(classify(&cut.unwrap_err()), Kind::Unavailable);

    // A server that never answers costs what Timeouts says, not three minutes.
    proxy.set(Chaos { stall: true, ..Chaos::default() });
    let started = Instant::now();
    let stalled = store.get(&name).await.unwrap_err();
    assert_eq!(classify(&stalled), Kind::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    proxy.set(Chaos { down: true, ..Chaos::default() });
    assert_eq!(location.reachable().await.unwrap_err().kind(), Kind::Unavailable);
    proxy.set(Chaos::default());
    location.reachable().await.unwrap();

    // The provider shuts down for good.
    server.kill();
    assert_eq!(classify(&store.get(&name).await.unwrap_err()), Kind::Unavailable);
}

/// A missing bucket and wrong keys are for a person to mend, and are never "not found".
async fn wrong_names_and_keys(server: &SeaweedFs) {
    let no_bucket = seaweed(server, "no-such-bucket", &server.endpoint, quick()).await;
    let error = no_bucket.reachable().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    let error = no_bucket.store().get(&Path::from("a")).await.unwrap_err();
    assert_eq!(classify(&error), Kind::Config, "{error}");

    let url = format!("s3://{}/p", server.bucket);
    let wrong = spec(&url, &server.endpoint, &server.access, "not-the-secret");
    let wrong = open(wrong).await.unwrap();
    let error = wrong.reachable().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(!error.to_string().contains("not-the-secret"), "{error}");
}
