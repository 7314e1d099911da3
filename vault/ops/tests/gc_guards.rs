//! What garbage collection must not be misled by: clocks, junk, rivals of its own
//! tombstones, points with two manifests, rules of two policies, imported points.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use vault_format::envelope::RecordKind;
use vault_format::manifest::Manifest;
use vault_format::tombstone::TombstoneAction;
use vault_format::{PackId, WriterId, names};
use vault_ops::catalog::{PackState, PointRow};
use vault_ops::forget::{self, Rule};
use vault_ops::points::PointName;
use vault_ops::retention::{Count, Keep};
use vault_ops::tombstones::{self, Draft};
use vault_ops::{gc, trash};
use world::random_bytes;
use world::yard::{DAY_MS, Yard, manifests, options};

/// A store on a full disk: it takes no question to its clock.
#[derive(Debug)]
struct Full(Arc<dyn ObjectStore>);

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "full {}", self.0)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Full {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        if at.as_ref().starts_with("clock/") {
            return Err(object_store::Error::Generic { store: "full", source: "no space left".into() });
        }
        self.0.put_opts(at, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn one_clock_alone_shortens_no_grace() {
    let mut yard = Yard::new(40).await;
    let first = yard.backup(&random_bytes(1, 100_000)).await.point;
    yard.backup(&random_bytes(2, 100_000)).await;
    yard.forget(&[first]).await;
    yard.dates[0].0.fetch_add(4_000 * DAY_MS.unsigned_abs(), Ordering::SeqCst);
    let full = |at: usize, store| if at == 0 { store } else { Arc::new(Full(store)) as Arc<dyn ObjectStore> };
    let vault = yard.open_through(full).await;
    assert_eq!(gc::apply(&vault, &yard.catalog, &yard.janitor, &options()).await.unwrap().condemned, 0);
    yard.days(8).await;
    assert!(yard.gc().await.unwrap().condemned > 0, "with all clocks it goes on");
}

#[tokio::test]
async fn junk_under_names_of_manifests_stops_nothing() {
    let mut yard = Yard::new(41).await;
    let first = yard.backup(&random_bytes(1, 100_000)).await.point;
    yard.backup(&random_bytes(2, 100_000)).await;
    yard.forget(&[first]).await;
    yard.days(8).await;
    yard.lab.put(1, &names::manifest(yard.lab.keys.writer.writer, 9, 9), vec![1; 900]).await;
    yard.lab.put(1, &names::manifest(WriterId([9; 16]), 1, 1), vec![1; 900]).await;
    yard.lab.put(1, &names::tombstone(yard.janitor.id(), 77), vec![1; 900]).await;
    assert!(yard.gc().await.unwrap().condemned > 0);
    // On as many domains as a manifest stands on it may be what is left of one.
    for at in [0, 1] {
        yard.lab.put(at, &names::manifest(WriterId([9; 16]), 1, 1), vec![1; 900]).await;
    }
    assert!(yard.gc().await.is_err());
}

#[tokio::test]
async fn tombstones_that_two_runs_wrote_at_one_place_block_no_later_one() {
    let mut yard = Yard::new(42).await;
    yard.backup(&random_bytes(1, 50_000)).await;
    let name = names::tombstone(yard.janitor.id(), 1);
    let pack = |at: usize| PackId([u8::try_from(at).unwrap() + 1; 16]);
    let mut written = Vec::new();
    for at in 0..3 {
        let fork = yard.lab.fork(50 + at as u64);
        let vault = yard.janitor.enrol(&fork.open().await.unwrap()).await.unwrap();
        let draft = Draft {
            action: TombstoneAction::Sweep,
            manifests: Vec::new(),
            packs: vec![pack(at)],
            grace_ms: 0,
            reason: format!("run {at}"),
        };
        tombstones::write(&vault.reread().await, &yard.janitor, draft).await.unwrap();
        written.push(fork.get(at, &name).await);
    }
    for (at, bytes) in written.into_iter().enumerate() {
        yard.lab.put(at, &name, bytes).await;
    }
    // Before it enrolled nobody knew whose they are; what it reads then it knows.
    let vault = yard.janitor.enrol(&yard.open().await).await.unwrap().reread().await;
    assert_eq!((vault.marks.tombstones.len(), vault.marks.seen_epoch()), (3, 0));
    let plan = gc::plan(&vault, &yard.catalog, &yard.janitor, &options()).await.unwrap();
    assert!(plan.leftovers.is_empty(), "no quorum said that anything is gone: {:?}", plan.leftovers);
    let report = yard.gc().await.unwrap();
    assert!(report.swept == 3 && !report.failed.is_empty(), "said anew, on a quorum: {report:?}");
    let vault = yard.open().await;
    assert!(vault.marks.holes.is_empty(), "{:?}", vault.marks.holes);
    assert!((0..3).all(|at| vault.marks.is_swept(pack(at))));
    let newest = vault.marks.newest_of(yard.janitor.id()).unwrap();
    assert!(newest.body.sequence == 2 && vault.marks.stands(newest));
}

#[tokio::test]
async fn a_point_with_two_manifests_goes_and_comes_back_as_one() {
    let mut yard = Yard::new(43).await;
    let (one, two) = (random_bytes(1, 100_000), random_bytes(2, 100_000));
    yard.backup(&two).await;
    let point = yard.backup(&one).await.point;
    let vault = yard.open().await;
    let last = manifests(&vault, &yard.lab).await.pop().unwrap();
    let body = Manifest { sequence: 3, previous: last.hash, packs: Vec::new(), ..last.body.clone() };
    let signing = &yard.lab.keys.writer.signing;
    let again = keys::record::sign(RecordKind::Manifest, vault.id, &vault_format::encode(&body), signing);
    for at in 0..3 {
        yard.lab.put(at, &names::manifest(last.writer, 1, 3), again.clone()).await;
    }
    yard.forget(&[point]).await;
    let vault = yard.open().await;
    assert_eq!(vault.marks.manifests().count(), 2, "both are named");
    assert_eq!(trash::list(&vault, &yard.catalog, &yard.janitor).await.unwrap().len(), 1);
    let name = PointName::parse(&point.to_string()).unwrap();
    trash::restore(&vault, &yard.catalog, &yard.janitor, &name).await.unwrap();
    yard.restores(0, &one).await;
    assert_eq!(yard.open().await.marks.manifests().count(), 0);
    yard.forget(&[point]).await;
    trash::purge(&yard.open().await, &yard.catalog, &yard.janitor, &name).await.unwrap();
    assert!(yard.gc().await.unwrap().condemned > 0, "neither holds its packs");
}

#[tokio::test]
async fn two_rules_for_one_source_keep_what_either_keeps() {
    let mut yard = Yard::new(44).await;
    for seed in 0..5 {
        yard.backup(&random_bytes(seed, 20_000)).await;
    }
    let vault = yard.open().await;
    let last = |count, writer| Rule {
        source: Some("bytes".to_owned()),
        writer,
        keep: Keep { last: Count::Most(count), ..Keep::default() },
    };
    for (rules, kept) in [
        (vec![last(1, None), last(3, None)], 3),
        (vec![last(3, None), last(1, None)], 3),
        (vec![last(1, None), last(3, Some(WriterId([9; 16])))], 1),
        (vec![last(2, Some(yard.lab.keys.writer.writer))], 2),
        (vec![last(2, Some(WriterId([9; 16])))], 5),
    ] {
        let plan = forget::plan(&vault, &yard.catalog, &yard.janitor, &rules, 1).await.unwrap();
        assert_eq!(plan.keep.len(), kept, "{rules:?}");
    }
}

#[tokio::test]
async fn packs_of_imported_points_stay_whatever_the_catalog_calls_them() {
    let mut yard = Yard::new(45).await;
    let one = random_bytes(1, 100_000);
    let first = yard.backup(&one).await.point;
    yard.backup(&random_bytes(2, 100_000)).await;
    // The janitor's catalog has an imported point that no manifest vouches for, and knows
    // its packs from elsewhere.
    let row = yard.lab.catalog.points().unwrap().into_iter().find(|row| row.part.point == first).unwrap();
    for pack in &row.part.references {
        let known = yard.lab.catalog.pack(*pack).unwrap().unwrap();
        assert_eq!(known.state, PackState::Committed);
        yard.catalog.add_pack(known, &[]).unwrap();
    }
    let row = PointRow { verified: false, ..row };
    yard.catalog.commit_point(&row, &[]).unwrap();
    yard.forget(&[first]).await;
    yard.days(8).await;
    assert_eq!(yard.gc().await.unwrap().condemned, 0);
}
