//! What a location does for its callers while its server is slow, breaks half of the
//! time, or is full: bounded time, bounded requests, and an error that says what to do.
//! Whoever reads from several locations decides above this whom to wait for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use backends::{Credentials, Kind, Location, LocationSpec, Secret, Timeouts, classify, open};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use test_servers::{Chaos, ChaosProxy, SeaweedFs};

async fn through(proxy: &ChaosProxy, server: &SeaweedFs, timeouts: Timeouts) -> Location {
    let mut spec = LocationSpec::new(format!("s3://{}/prefix", server.bucket));
    spec.endpoint = Some(proxy.endpoint());
    spec.allow_http = true;
    spec.credentials = Credentials::Keys { id: server.access.clone(), secret: Secret::new(server.secret.clone()) };
    spec.timeouts = timeouts;
    open(spec).await.unwrap()
}

fn seconds(request: u64, total: u64) -> Timeouts {
    let (request, total) = (Duration::from_secs(request), Duration::from_secs(total));
    Timeouts { connect: Duration::from_secs(1), request, total, retries: 4 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_broken_and_full_servers_cost_what_was_said() {
    let server = SeaweedFs::start();
    let fair = ChaosProxy::start(&server.endpoint, 1);
    let location = through(&fair, &server, Timeouts::default()).await;
    location.store().put(&Path::from("there"), "bytes".into()).await.unwrap();
    // Each waits for its own proxy: together they take as long as the slowest.
    tokio::join!(slow(&server), broken(&server), full(&server));
}

/// Ten seconds an answer: who has the patience gets it, who has not is told in time, and a
/// create is never sent twice.
async fn slow(server: &SeaweedFs) {
    let proxy = ChaosProxy::start(&server.endpoint, 2);
    proxy.set(Chaos { delay: Duration::from_secs(10), ..Chaos::default() });
    let (patient, hasty) = (through(&proxy, server, Timeouts::default()), through(&proxy, server, seconds(1, 3)));
    let (patient, hasty) = tokio::join!(patient, hasty);
    let name = Path::from("there");
    let waits = async {
        let read = patient.store().get(&name).await.unwrap().bytes().await.unwrap();
        assert_eq!(read, "bytes");
    };
    let gives_up = async {
        let started = Instant::now();
        let error = hasty.store().get(&name).await.unwrap_err();
        assert_eq!(classify(&error), Kind::Unavailable, "{error}");
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        let before = proxy.requests();
        let error = hasty.store().put_opts(&Path::from("new"), "x".into(), PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(classify(&error), Kind::Unavailable | Kind::Exists), "{error}");
        assert_eq!(proxy.requests() - before, 1, "a create that timed out may have landed");
        let error = hasty.versions().unwrap().list("there", 10).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    };
    tokio::join!(waits, gives_up);
}

/// 500 half of the time: nearly everything succeeds at some try; what does not is
/// "unavailable", and nothing is ever "not found".
async fn broken(server: &SeaweedFs) {
    let proxy = ChaosProxy::start(&server.endpoint, 3);
    proxy.set(Chaos { broken_permille: 500, ..Chaos::default() });
    let location = through(&proxy, server, Timeouts::default()).await;
    let (mut done, mut failed) = (0, 0);
    let mut judge = |outcome: Result<(), Kind>| match outcome {
        Ok(()) => done += 1,
        Err(kind) => {
            assert_eq!(kind, Kind::Unavailable);
            failed += 1;
        }
    };
    for number in 0..12 {
        let name = Path::from(format!("broken/{number}"));
        let put = location.store().put(&name, "bytes".into()).await;
        judge(put.map(|_| ()).map_err(|error| classify(&error)));
        let read = location.store().get(&Path::from("there")).await;
        judge(read.map(|_| ()).map_err(|error| classify(&error)));
        let listed = location.versions().unwrap().list("there", 10).await;
        judge(listed.map(|_| ()).map_err(|error| error.kind()));
    }
    println!("{done} done, {failed} failed, {} requests of which {} broke", proxy.requests(), proxy.hurt());
    assert!(done > 26 && proxy.hurt() > 15, "{done} done, {failed} failed");
}

/// A full server says so at once: no try is wasted, and what stands there is read.
async fn full(server: &SeaweedFs) {
    let proxy = ChaosProxy::start(&server.endpoint, 4);
    proxy.set(Chaos { full: true, ..Chaos::default() });
    let location = through(&proxy, server, Timeouts::default()).await;
    let error = location.store().put(&Path::from("more"), "bytes".into()).await.unwrap_err();
    assert_eq!(classify(&error), Kind::Full, "{error}");
    assert_eq!(proxy.requests(), 1);
    let read = location.store().get(&Path::from("there")).await.unwrap().bytes().await.unwrap();
    assert_eq!(read, "bytes");
}
