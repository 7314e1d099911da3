//! Fences from outside: a host that was taken for dead comes back and loses nothing,
//! whatever it was doing; and a janitor that died over its fence hides nothing.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keys::SigningKey;
use keys::revocation::Position;
use object_store::memory::InMemory;
use vault_format::body::ChunkKind;
use vault_format::certificate::Fence;
use vault_format::envelope::RecordKind;
use vault_format::manifest::ManifestKind;
use vault_format::point::SourceKind;
use vault_format::{Hash, names};
use vault_ops::backup::Standing;
use vault_ops::heads::{Depth, SignedManifest, chain};
use vault_ops::heartbeat::{self, Beat};
use vault_ops::janitor::Janitor;
use vault_ops::source::{Reading, Sink, Source};
use vault_ops::{gc, issue};
use world::random_bytes;
use world::yard::{DAY_MS, Yard, assert_full, manifests, options};

/// Two points, of which the first is condemned: the writer is waited for.
async fn waiting(seed: u64) -> (Yard, Vec<u8>) {
    let mut yard = Yard::new(seed).await;
    let two = random_bytes(2, 150_000);
    let first = yard.backup(&random_bytes(1, 150_000)).await.point;
    yard.backup(&two).await;
    yard.forget(&[first]).await;
    yard.days(8).await;
    assert!(yard.gc().await.unwrap().condemned > 0);
    yard.days(2).await;
    assert_eq!(yard.gc().await.unwrap().swept, 0);
    (yard, two)
}

/// A fence behind a manifest, put where it is asked for by a janitor that died then.
async fn fence(yard: &Yard, last: &SignedManifest, locations: &[usize]) {
    let (epoch, sequence) = last.position();
    let body = Fence {
        writer: last.writer,
        epoch,
        sequence,
        manifest: last.hash,
        gc_epoch: 0,
        created_ms: yard.lab.world.now_ms(),
    };
    put_fence(yard, &body, &yard.lab.keys.operator.signing, locations).await;
}

async fn put_fence(yard: &Yard, body: &Fence, by: &SigningKey, locations: &[usize]) {
    let (vault, body) = (yard.lab.keys.public.vault, vault_format::encode(body));
    let bytes = keys::record::sign(RecordKind::Fence, vault, &body, by);
    for &at in locations {
        yard.lab.put(at, &names::revocation(keys::record::hash(&bytes)), bytes.clone()).await;
    }
}

#[tokio::test]
async fn a_host_with_a_spool_that_was_taken_for_dead_delivers_under_a_new_epoch() {
    let (mut yard, two) = waiting(20).await;
    yard.lab.spool = Some(Arc::new(InMemory::new()));
    vault_ops::spool::keep_records(&yard.open().await).await.unwrap();
    let (three, four) = (random_bytes(3, 90_000), random_bytes(4, 90_000));
    yard.lab.down = vec![0, 1, 2];
    for bytes in [&three, &four] {
        assert_eq!(yard.backup(bytes).await.standing(), Standing::Spooled);
    }
    yard.lab.down.clear();
    yard.days(15).await;
    let report = yard.gc().await.unwrap();
    assert!(report.fenced == 1 && report.swept > 0, "{report:?}");
    // Its next heartbeat says that points wait; the delivery brings them.
    let vault = yard.open().await;
    let writer = yard.lab.writer();
    let beat = heartbeat::beat(&vault, &writer, &mut yard.lab.catalog, Duration::ZERO).await.unwrap();
    assert_eq!(beat, Beat::Waits);
    let delivery = vault_ops::spool::deliver(&vault, &writer, &mut yard.lab.catalog).await.unwrap();
    assert_eq!((delivery.delivered.len(), delivery.left), (2, 0), "{delivery:?}");
    let report = yard.backup(&four).await;
    assert_eq!(report.manifest, (2, 4), "a heartbeat and two points opened the epoch");
    yard.restores(2, &three).await;
    yard.restores(3, &two).await;
    assert!(yard.gc().await.unwrap().failed.is_empty());
    assert_full(&yard).await;
}

/// A source that does something else while it is first read.
struct During<F> {
    bytes: Vec<u8>,
    meanwhile: Option<F>,
}

impl<F: FnOnce() + Send + 'static> Source for During<F> {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &'static str {
        "bytes"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let content = sink.write(ChunkKind::Data, &mut &self.bytes[..])?;
        if let Some(meanwhile) = self.meanwhile.take() {
            // On a thread of its own: this one is inside a runtime.
            std::thread::spawn(meanwhile).join().unwrap();
        }
        Ok(world::stream_reading(content, &self.bytes))
    }
}

#[tokio::test]
async fn a_run_that_slept_past_its_fence_builds_on_what_counts() {
    let (mut yard, two) = waiting(21).await;
    let three = random_bytes(3, 90_000);
    let (vault, janitor, catalog, dir) = yard.handle().await;
    let (dates, world) = (yard.dates.clone(), yard.lab.world.clone());
    let meanwhile = move || {
        let _dir = dir;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (ahead, _) in &dates {
                ahead.fetch_add(15 * DAY_MS.unsigned_abs(), Ordering::SeqCst);
            }
            world.clock.sleep(Duration::from_millis(15 * DAY_MS.unsigned_abs())).await;
            let report = gc::apply(&vault, &catalog, &janitor, &options()).await.unwrap();
            assert!(report.fenced == 1 && report.swept > 0, "{report:?}");
        });
    };
    let vault = yard.open().await;
    let source = Box::new(During { bytes: three.clone(), meanwhile: Some(meanwhile) });
    let report = yard.lab.backup_source(&vault, source).await.unwrap();
    assert_eq!(report.manifest, (2, 2), "the fence closed epoch 1 under its first manifest");
    let vault = yard.open().await;
    let known = manifests(&vault, &yard.lab).await;
    let opening = known.iter().find(|manifest| manifest.position() == (2, 1)).unwrap();
    assert_eq!(opening.body.kind, ManifestKind::Heartbeat);
    let last = known.iter().rfind(|manifest| manifest.body.epoch == 1).unwrap();
    assert_eq!((last.position(), opening.body.previous), ((1, 2), last.hash), "it builds on what counts");
    yard.restores(0, &three).await;
    // What stands behind the fence lost nothing: it counts again, and nothing is stuck.
    assert!(yard.gc().await.unwrap().failed.is_empty());
    yard.restores(0, &three).await;
    yard.restores(2, &two).await;
    assert_full(&yard).await;
}

#[tokio::test]
async fn what_a_janitor_fenced_before_it_died_counts_again_though_its_writer_went_on() {
    for locations in [&[0, 1, 2][..], &[1]] {
        let (mut yard, two) = waiting(22).await;
        let before = manifests(&yard.open().await, &yard.lab).await.pop().unwrap();
        let three = random_bytes(3, 120_000);
        assert_eq!(yard.backup(&three).await.manifest, (1, 3));
        fence(&yard, &before, locations).await;
        // The host itself was never dead: it reported 1.3, and goes on.
        let four = random_bytes(4, 60_000);
        assert_eq!(yard.backup(&four).await.manifest, (2, 2));
        let plan = gc::plan(&yard.open().await, &yard.catalog, &yard.janitor, &options()).await.unwrap();
        let in_force = locations.len() > 1;
        assert_eq!((plan.unsettled.len(), plan.stops.len()), (usize::from(in_force), usize::from(in_force)));
        let report = yard.gc().await.unwrap();
        assert!(report.fenced >= usize::from(in_force), "{report:?}");
        yard.gc().await.unwrap();
        let vault = yard.open().await;
        let known = chain(&vault, before.writer, Depth::Whole).await.unwrap();
        assert!(known.fenced.is_empty() && known.gaps.is_empty(), "{:?} {:?}", known.fenced, known.gaps);
        yard.restores(0, &four).await;
        yard.restores(1, &three).await;
        yard.restores(2, &two).await;
        assert_full(&yard).await;
    }
}

#[tokio::test]
async fn a_heartbeat_says_no_less_of_what_was_seen() {
    let (mut yard, _) = waiting(23).await;
    yard.backup(&random_bytes(3, 1000)).await;
    let seen = |known: Vec<SignedManifest>| known.last().unwrap().body.gc_epoch_seen;
    let before = seen(manifests(&yard.open().await, &yard.lab).await);
    assert!(before > 0);
    // With a location away it cannot know what was said since.
    yard.lab.down = vec![2];
    let (vault, writer) = (yard.open().await, yard.lab.writer());
    let beat = heartbeat::beat(&vault, &writer, &mut yard.lab.catalog, Duration::ZERO).await.unwrap();
    assert!(matches!(beat, Beat::Sent { .. }));
    yard.lab.down.clear();
    assert_eq!(seen(manifests(&yard.open().await, &yard.lab).await), before);
}

/// A janitor's key was stolen: the thief closes a writer's whole chain, and dates that
/// back to before the revocation. Once the key is revoked every point is there again.
#[tokio::test]
async fn a_revoked_janitors_fence_hides_no_point() {
    let mut yard = Yard::new(24).await;
    let (one, two) = (random_bytes(1, 60_000), random_bytes(2, 60_000));
    yard.backup(&one).await;
    yard.backup(&two).await;
    let vault = yard.janitor.enrol(&yard.open().await).await.unwrap();
    let Janitor::Own(janitor) = &yard.janitor else { panic!("a yard has a janitor of its own") };
    let writer = yard.lab.keys.writer.writer;
    let body = Fence { writer, epoch: 1, sequence: 0, manifest: Hash::default(), gc_epoch: 0, created_ms: 0 };
    put_fence(&yard, &body, &janitor.signing, &[0, 1, 2]).await;
    let listed = |vault| {
        let read = yard.lab.read_key();
        async move { vault_ops::points::list(&vault, &read).await.unwrap().points.len() }
    };
    assert_eq!(listed(yard.open().await).await, 0, "until it is revoked it counts");

    let whom = (janitor.certified().unwrap().certificate_hash(), janitor.subject);
    let last = Position { epoch: 5, sequence: 5 };
    issue::revoke(&vault, &yard.lab.keys.operator.signing, whom, last, "stolen").await.unwrap();
    assert_eq!(listed(yard.open().await).await, 2);
    yard.restores(0, &two).await;
    yard.restores(1, &one).await;
}
