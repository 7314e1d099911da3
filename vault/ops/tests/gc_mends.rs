//! Holes that garbage collection once had, each with the story that fell into it: a
//! restore from the trash that loses its race, many small steps past the guard, fences
//! that are moved for ever, an epoch that begins on something swept, a last reading
//! that saw too little, and what a revoked writer needs.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::BoxStream;
use keys::revocation::Position;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use vault_format::certificate::Fence;
use vault_format::envelope::RecordKind;
use vault_format::manifest::{Manifest, ManifestKind};
use vault_format::tombstone::{Tombstone, TombstoneAction};
use vault_format::{Hash, PackId, names};
use vault_ops::gc::{self, GcOptions};
use vault_ops::heads::{Depth, SignedManifest, chain};
use vault_ops::janitor::Janitor;
use vault_ops::points::{self, PointName};
use vault_ops::tombstones::{self, Draft};
use vault_ops::{OpsError, issue, trash};
use world::yard::{Yard, manifests, options};
use world::{names_of, random_bytes};

/// What somebody else does in the moment after a write: puts these, one turn at a time.
type Turns = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A store at which something happens once an object below a folder was written.
#[derive(Debug)]
struct Upon {
    inner: Arc<dyn ObjectStore>,
    folder: &'static str,
    /// Put at all of these, one for each write.
    turns: Turns,
    at: Vec<Arc<InMemory>>,
    /// Set by the write; lists of what the janitors say fail from then on.
    deaf: Option<Arc<AtomicBool>>,
}

impl std::fmt::Display for Upon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with something upon {}", self.inner, self.folder)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Upon {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        let put = self.inner.put_opts(at, payload, opts).await?;
        if at.as_ref().starts_with(self.folder) {
            if let Some(deaf) = &self.deaf {
                deaf.store(true, Ordering::SeqCst);
            }
            let turn = self.turns.lock().unwrap().pop();
            if let Some((name, bytes)) = turn {
                for store in &self.at {
                    store.put(&Path::from(name.as_str()), bytes.clone().into()).await.unwrap();
                }
            }
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let deaf = self.deaf.as_ref().is_some_and(|deaf| deaf.load(Ordering::SeqCst));
        if deaf && prefix.is_some_and(|prefix| prefix.as_ref().starts_with(names::TOMBSTONES)) {
            let gone = object_store::Error::Generic { store: "upon", source: "it went away".into() };
            return futures::stream::once(async { Err(gone) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A yard of which the first location lets `turns` happen upon writes below `folder`.
async fn opened_upon(yard: &Yard, folder: &'static str, turns: &Turns) -> vault_ops::vault::Vault {
    let all: Vec<Arc<InMemory>> = yard.lab.stores.iter().map(|(_, store)| Arc::clone(store)).collect();
    let wrap = |at: usize, inner| -> Arc<dyn ObjectStore> {
        if at > 0 {
            return inner;
        }
        Arc::new(Upon { inner, folder, turns: Arc::clone(turns), at: all.clone(), deaf: None })
    };
    yard.open_through(wrap).await
}

fn listed(points: &points::PointList) -> BTreeSet<vault_format::PointId> {
    points.points.iter().map(|point| point.part.point).collect()
}

/// A sweep that another janitor began stands the moment after the restore's tombstone
/// does, and counts after it: the restore must give way and take its word back, or a point
/// whose packs go would be listed.
#[tokio::test]
async fn a_restore_that_loses_to_a_sweep_takes_its_word_back() {
    let mut yard = Yard::new(60).await;
    let first = yard.backup(&random_bytes(1, 120_000)).await.point;
    yard.backup(&random_bytes(2, 120_000)).await;
    yard.forget(&[first]).await;
    let vault = yard.open().await;
    let row = yard.lab.catalog.points().unwrap().into_iter().find(|row| row.part.point == first).unwrap();
    let body = Tombstone {
        gc_epoch: vault.marks.newest_epoch() + 5,
        sequence: 1,
        previous: Hash::default(),
        action: TombstoneAction::Sweep,
        manifests: Vec::new(),
        packs: row.part.references.clone(),
        journals: Vec::new(),
        created_ms: yard.lab.world.now_ms(),
        delete_after_ms: 0,
        reason: "another janitor's".to_owned(),
    };
    let operator = &yard.lab.keys.operator;
    let sweep = keys::record::sign(RecordKind::Tombstone, vault.id, &vault_format::encode(&body), &operator.signing);
    let turns: Turns = Arc::new(Mutex::new(vec![(names::tombstone(operator.subject, 1), sweep)]));
    let raced = opened_upon(&yard, names::TOMBSTONES, &turns).await;
    let name = PointName::parse(&first.to_string()).unwrap();
    let error = trash::restore(&raced, &yard.catalog, &yard.janitor, &name).await.unwrap_err();
    assert!(turns.lock().unwrap().is_empty(), "the race was run");
    assert!(matches!(&error, OpsError::Lost { .. }), "{error}");
    let list = points::list(&yard.open().await, &yard.lab.read_key()).await.unwrap();
    assert!(!listed(&list).contains(&first), "a point whose packs go is no point");
    // Without the sweep the same restore brings it back.
    let mut calm = Yard::new(60).await;
    let first = calm.backup(&random_bytes(1, 120_000)).await.point;
    calm.backup(&random_bytes(2, 120_000)).await;
    calm.forget(&[first]).await;
    let name = PointName::parse(&first.to_string()).unwrap();
    trash::restore(&calm.open().await, &calm.catalog, &calm.janitor, &name).await.unwrap();
    assert!(listed(&points::list(&calm.open().await, &calm.lab.read_key()).await.unwrap()).contains(&first));
}

/// Half of the vault at once is asked about. What was condemned before is no part of the
/// whole any more: else a first small step would make room for a large one.
#[tokio::test]
async fn small_steps_do_not_hide_a_large_one() {
    let mut yard = Yard::new(61).await;
    let mut points = Vec::new();
    for seed in 1..=4 {
        points.push(yard.backup(&random_bytes(seed, 100_000)).await.point);
    }
    let careful = GcOptions::default();
    yard.forget(&points[..1]).await;
    yard.days(8).await;
    let report = gc::apply(&yard.open().await, &yard.catalog, &yard.janitor, &careful).await.unwrap();
    assert!(report.condemned > 0, "a quarter: {report:?}");
    yard.forget(&points[1..3]).await;
    yard.days(8).await;
    let before: Vec<PackId> = yard.open().await.marks.packs().map(|(pack, _)| pack).collect();
    let error = gc::apply(&yard.open().await, &yard.catalog, &yard.janitor, &careful).await.unwrap_err();
    assert!(matches!(&error, OpsError::Refused { .. }) && error.to_string().contains("half"), "{error}");
    let after: Vec<PackId> = yard.open().await.marks.packs().map(|(pack, _)| pack).collect();
    assert_eq!(before, after, "two of the three that were left: nothing was condemned");
    let report = gc::apply(&yard.open().await, &yard.catalog, &yard.janitor, &options()).await.unwrap();
    assert!(report.condemned > 0, "its owner said so");
}

/// A heartbeat behind `before`, signed by the yard's writer.
fn heartbeat(yard: &Yard, before: &SignedManifest, (epoch, sequence): (u64, u64), previous: Hash) -> (String, Vec<u8>) {
    let body = Manifest {
        epoch,
        sequence,
        previous,
        kind: ManifestKind::Heartbeat,
        packs: Vec::new(),
        point_record: None,
        point_pack: None,
        janitor: None,
        reader: None,
        own: None,
        pending: Vec::new(),
        journal: Vec::new(),
        ..before.body.clone()
    };
    let vault = yard.lab.keys.public.vault;
    let signing = &yard.lab.keys.writer.signing;
    let bytes = keys::record::sign(RecordKind::Manifest, vault, &vault_format::encode(&body), signing);
    (names::manifest(before.writer, epoch, sequence), bytes)
}

/// A writer that sees none of the fences goes on behind each of them as fast as they are
/// moved: the janitor gives up for now, and deletes nothing.
#[tokio::test]
async fn fences_are_not_moved_for_ever() {
    let mut yard = Yard::new(62).await;
    yard.backup(&random_bytes(1, 60_000)).await;
    let first = yard.backup(&random_bytes(2, 60_000)).await.point;
    let last = manifests(&yard.open().await, &yard.lab).await.pop().unwrap();
    // What it writes behind the fence: 1.3 stands already, the others come one by one.
    let (mut beats, mut previous) = (Vec::new(), last.hash);
    for sequence in 3..=20 {
        let (name, bytes) = heartbeat(&yard, &last, (1, sequence), previous);
        previous = keys::record::hash(&bytes);
        beats.push((name, bytes));
    }
    beats.reverse();
    let (name, bytes) = beats.pop().unwrap();
    let fence = Fence {
        writer: last.writer,
        epoch: 1,
        sequence: 2,
        manifest: last.hash,
        gc_epoch: 0,
        created_ms: yard.lab.world.now_ms(),
    };
    let operator = &yard.lab.keys.operator.signing;
    let vault = yard.lab.keys.public.vault;
    let fence = keys::record::sign(RecordKind::Fence, vault, &vault_format::encode(&fence), operator);
    for at in 0..3 {
        yard.lab.put(at, &name, bytes.clone()).await;
        yard.lab.put(at, &names::revocation(keys::record::hash(&fence)), fence.clone()).await;
    }
    yard.forget(&[first]).await;
    yard.days(8).await;
    let turns: Turns = Arc::new(Mutex::new(beats));
    let (before, all) = (yard.shards().await, turns.lock().unwrap().len());
    let raced = opened_upon(&yard, names::REVOCATIONS, &turns).await;
    let error = gc::apply(&raced, &yard.catalog, &yard.janitor, &options()).await.unwrap_err();
    assert!(error.to_string().contains("behind its fence"), "{error}");
    let left = turns.lock().unwrap().len();
    assert!(left > 0 && all - left >= 2, "it tried some times, and stopped: {left} of {all} turns are left");
    assert_eq!(yard.shards().await, before);
    assert!(yard.open().await.marks.packs().next().is_none(), "nothing was condemned by what it saw");
    // The writer rests: then all that it wrote counts again.
    turns.lock().unwrap().clear();
    assert!(yard.gc().await.unwrap().failed.is_empty());
}

/// The first manifest of an epoch names the last its writer knew, however old: that one
/// may be swept by now. It is no gap, and collection goes on.
#[tokio::test]
async fn an_epoch_may_begin_on_a_manifest_that_was_swept() {
    let mut yard = Yard::new(63).await;
    let first = yard.backup(&random_bytes(1, 60_000)).await.point;
    yard.backup(&random_bytes(2, 60_000)).await;
    let known = manifests(&yard.open().await, &yard.lab).await;
    // A host set back to an image in which 1.1 was the newest opens epoch 2 on it.
    let (name, bytes) = heartbeat(&yard, &known[1], (2, 1), known[0].hash);
    for at in 0..3 {
        yard.lab.put(at, &name, bytes.clone()).await;
    }
    let draft = Draft {
        action: TombstoneAction::Sweep,
        manifests: vec![tombstones::manifest_ref(&known[0])],
        packs: Vec::new(),
        grace_ms: 0,
        reason: "test".to_owned(),
    };
    let enrolled = yard.janitor.enrol(&yard.open().await).await.unwrap().reread().await;
    tombstones::write(&enrolled, &yard.janitor, draft).await.unwrap();
    let gone = names::manifest(known[0].writer, 1, 1);
    for at in 0..3 {
        yard.lab.delete(at, &gone).await;
    }
    let read = chain(&yard.open().await, known[0].writer, Depth::Whole).await.unwrap();
    assert_eq!(read.manifests.keys().copied().collect::<Vec<_>>(), [(1, 2), (2, 1)]);
    assert!(read.gaps.is_empty(), "{:?}", read.gaps);
    let plan = gc::plan(&enrolled, &yard.catalog, &yard.janitor, &options()).await.unwrap();
    assert!(plan.stops.is_empty(), "{:?}", plan.stops);
    let list = points::list(&yard.open().await, &yard.lab.read_key()).await.unwrap();
    assert!(!listed(&list).contains(&first) && list.remarks.is_empty(), "{:?}", list.remarks);
    // One that names what nobody ever swept or showed is a gap.
    let (name, bytes) = heartbeat(&yard, &known[1], (3, 1), Hash([7; Hash::BYTES]));
    for at in 0..3 {
        yard.lab.put(at, &name, bytes.clone()).await;
    }
    let read = chain(&yard.open().await, known[0].writer, Depth::Whole).await.unwrap();
    assert_eq!(read.gaps, [(3, 1)]);
}

/// The manifest stands, and then two of three places fall silent: the writer cannot know
/// whether its chain was closed before, and reports nothing.
#[tokio::test]
async fn a_last_reading_of_too_few_domains_reports_nothing() {
    for (silent, reports) in [(2, false), (1, true)] {
        let mut yard = Yard::new(64).await;
        let deaf: Arc<AtomicBool> = Arc::default();
        let wrap = |at: usize, inner| -> Arc<dyn ObjectStore> {
            if at >= silent {
                return inner;
            }
            let (turns, deaf) = (Turns::default(), Some(Arc::clone(&deaf)));
            Arc::new(Upon { inner, folder: names::MANIFESTS, turns, at: Vec::new(), deaf })
        };
        let vault = yard.open_through(wrap).await;
        let outcome = yard.lab.backup_in(&vault, &random_bytes(1, 60_000)).await;
        assert!(deaf.load(Ordering::SeqCst), "they fell silent");
        let remembered = yard.lab.catalog.points().unwrap().len();
        if reports {
            outcome.unwrap();
            assert_eq!(remembered, 1, "one of three hides nothing that stands on two");
            continue;
        }
        let error = outcome.unwrap_err();
        assert!(matches!(&error, OpsError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("too few domains answer"), "{error}");
        assert_eq!(remembered, 0);
        // They are back, and the same command makes a point of it.
        let report = yard.backup(&random_bytes(1, 60_000)).await;
        assert_eq!(report.statistics.new_bytes, 0, "what was stored is found again");
        yard.restores(0, &random_bytes(1, 60_000)).await;
    }
}

/// What a revoked key signed counts for nobody and stops nothing, yet what it needs stays:
/// a revocation says who is not believed, not what may be deleted.
#[tokio::test]
async fn packs_that_a_revoked_manifest_needs_stay_and_nothing_waits_for_it() {
    let mut yard = Yard::new(65).await;
    let (one, two, four) = (random_bytes(1, 90_000), random_bytes(2, 90_000), random_bytes(4, 90_000));
    let first = yard.backup(&one).await.point;
    let other = yard.backup(&two).await.point;
    yard.backup(&four).await;
    // The thief's: a point of the same bytes as the first, in the same packs.
    assert_eq!(yard.backup(&one).await.statistics.new_bytes, 0);
    let needed: BTreeSet<PackId> = {
        let known = manifests(&yard.open().await, &yard.lab).await;
        let part = yard.janitor.part(yard.lab.keys.public.vault, &known[3].body).unwrap().unwrap();
        part.references.into_iter().collect()
    };
    let whom = (yard.lab.keys.writer.certified().unwrap().certificate_hash(), yard.lab.keys.writer.writer);
    let until = Position { epoch: 1, sequence: 3 };
    issue::revoke(&yard.open().await, &yard.lab.keys.operator.signing, whom, until, "stolen").await.unwrap();
    let list = points::list(&yard.open().await, &yard.lab.read_key()).await.unwrap();
    assert_eq!(list.points.len(), 3, "the thief's point counts for nobody");
    yard.forget(&[first, other]).await;
    yard.days(8).await;
    let all = GcOptions { orphans: true, ..options() };
    let report = gc::apply(&yard.open().await, &yard.catalog, &yard.janitor, &all).await.unwrap();
    let condemned: BTreeSet<PackId> = yard.open().await.marks.packs().map(|(pack, _)| pack).collect();
    assert!(report.condemned > 0 && !condemned.is_empty(), "nothing waits for it: {report:?}");
    assert!(condemned.is_disjoint(&needed), "what it needs stays");
    // Its owner looked, and wants nothing of it: it goes as everything goes, and no later run
    // brings it back.
    let all = GcOptions { revoked: true, ..options() };
    gc::apply(&yard.open().await, &yard.catalog, &yard.janitor, &all).await.unwrap();
    let marks = yard.open().await.marks;
    assert!(needed.iter().all(|pack| marks.is_condemned(*pack)));
    yard.days(20).await;
    let report = yard.gc().await.unwrap();
    assert!(report.fenced == 1 && report.swept > 0 && report.revived == 0, "{report:?}");
    let stored = names_of(&yard.lab.stores[0].1).await;
    assert!(stored.iter().filter_map(|name| names::parse_shard(name)).all(|(_, pack, _)| !needed.contains(&pack)));
    yard.restores(0, &four).await;
}

/// A janitor's key is stolen, then revoked. The thief dates tombstones back: behind its last
/// good place with an old epoch, and at places that the true ones hold. None counts.
#[tokio::test]
async fn a_revoked_janitors_tombstones_count_up_to_its_last_good_place() {
    let mut yard = Yard::new(66).await;
    let first = yard.backup(&random_bytes(1, 60_000)).await.point;
    let second = yard.backup(&random_bytes(2, 60_000)).await.point;
    let third = yard.backup(&random_bytes(3, 60_000)).await.point;
    yard.forget(&[first]).await;
    yard.forget(&[second]).await;
    let Janitor::Own(janitor) = &yard.janitor else { panic!("a yard has a janitor of its own") };
    let vault = yard.janitor.enrol(&yard.open().await).await.unwrap().reread().await;
    let good = vault.marks.newest_of(janitor.subject).unwrap().clone();
    let known = manifests(&vault, &yard.lab).await;
    let forged = |gc_epoch, sequence, previous| {
        let body = Tombstone {
            gc_epoch,
            sequence,
            previous,
            manifests: vec![tombstones::manifest_ref(&known[2])],
            ..good.body.clone()
        };
        let body = vault_format::encode(&body);
        keys::record::sign(RecordKind::Tombstone, yard.lab.keys.public.vault, &body, &janitor.signing)
    };
    let before = vault.marks.tombstones.iter().find(|signed| signed.body.sequence == 1).unwrap().hash;
    let behind = forged(1, 3, good.hash);
    let rival = forged(2, 2, before);
    for at in 0..3 {
        yard.lab.put(at, &names::tombstone(janitor.subject, 3), behind.clone()).await;
    }
    yard.lab.put(1, &names::tombstone(janitor.subject, 2), rival).await;
    let live = |vault| {
        let read = yard.lab.read_key();
        async move { listed(&points::list(&vault, &read).await.unwrap()) }
    };
    assert!(!live(yard.open().await).await.contains(&third), "until it is revoked it counts");
    let whom = (janitor.certified().unwrap().certificate_hash(), janitor.subject);
    let last = Position { epoch: good.body.gc_epoch, sequence: good.body.sequence };
    issue::revoke(&vault, &yard.lab.keys.operator.signing, whom, last, "stolen").await.unwrap();
    let vault = yard.open().await;
    assert_eq!(live(vault.clone()).await, BTreeSet::from([third]), "what was good stays, and nothing else counts");
    assert!(vault.marks.holes.is_empty(), "{:?}", vault.marks.holes);
    assert_eq!(vault.marks.quarantined.len(), 2, "the forged place, and the rival: {:?}", vault.marks.quarantined);
}
