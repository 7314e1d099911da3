//! A vault whose locations have clocks of their own, and a janitor on another machine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use keys::files::KeyFile;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use vault_format::PointId;
use vault_ops::backup::BackupReport;
use vault_ops::catalog::Catalog;
use vault_ops::forget;
use vault_ops::gc::{self, GcOptions, GcReport};
use vault_ops::heads::{Depth, SignedManifest, chain};
use vault_ops::janitor::Janitor;
use vault_ops::points::PointName;
use vault_ops::vault::Vault;

use super::Lab;

pub(crate) const DAY_MS: i64 = 24 * 3600 * 1000;

/// A key as a program would load it.
pub(crate) fn loaded<T: KeyFile>(key: &T) -> Arc<T> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    keys::files::create(&path, key).unwrap();
    Arc::new(keys::files::load(&path).unwrap())
}

/// A store of a location with a clock of its own: what is written is dated by it.
#[derive(Debug)]
pub(crate) struct Dated {
    inner: Arc<dyn ObjectStore>,
    /// Ahead of the real clock, which dates the inner store, milliseconds.
    ahead_ms: Arc<AtomicU64>,
    written: Arc<Mutex<BTreeMap<Path, u64>>>,
}

impl std::fmt::Display for Dated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dated {}", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Dated {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        let put = self.inner.put_opts(at, payload, opts).await?;
        self.written.lock().unwrap().insert(at.clone(), self.ahead_ms.load(Ordering::SeqCst));
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
        let mut got = self.inner.get_opts(at, options).await?;
        let ahead = self.written.lock().unwrap().get(at).copied().unwrap_or(0);
        got.meta.last_modified += Duration::from_millis(ahead);
        Ok(got)
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// When each location's objects were written, by its clock.
pub(crate) type Dates = Vec<Date>;

/// The clock of one location: how far ahead it is, and by how much each object was
/// dated ahead.
pub(crate) type Date = (Arc<AtomicU64>, Arc<Mutex<BTreeMap<Path, u64>>>);

/// A lab whose locations have clocks, and a janitor on another machine: it has its
/// key, the vault's public key and a catalog of its own.
pub(crate) struct Yard {
    pub(crate) lab: Lab,
    pub(crate) dates: Dates,
    pub(crate) janitor: Janitor,
    pub(crate) catalog: Catalog,
    _dir: tempfile::TempDir,
}

impl Yard {
    pub(crate) async fn new(seed: u64) -> Self {
        let lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2]).await;
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("janitor")).unwrap();
        let janitor = Janitor::Own(loaded(&lab.keys.janitor));
        let dates = (0..3).map(|_| Default::default()).collect();
        Self { lab, dates, janitor, catalog, _dir: dir }
    }

    pub(crate) async fn open(&self) -> Vault {
        self.open_through(|_, store| store).await
    }

    pub(crate) async fn open_through(
        &self,
        wrap: impl Fn(usize, Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> Vault {
        let dated = |at: usize, inner| {
            // The spool, which has no clock of its own, comes after the locations.
            let Some((ahead_ms, written)) = self.dates.get(at).cloned() else { return wrap(at, inner) };
            wrap(at, Arc::new(Dated { inner, ahead_ms, written }) as Arc<dyn ObjectStore>)
        };
        self.lab.open_through(dated).await.unwrap()
    }

    pub(crate) async fn backup(&mut self, bytes: &[u8]) -> BackupReport {
        let vault = self.open().await;
        self.lab.backup_in(&vault, bytes).await.unwrap()
    }

    pub(crate) async fn days(&self, days: u64) {
        for (ahead, _) in &self.dates {
            ahead.fetch_add(days * DAY_MS.unsigned_abs(), Ordering::SeqCst);
        }
        self.lab.world.clock.sleep(Duration::from_millis(days * DAY_MS.unsigned_abs())).await;
    }

    pub(crate) async fn forget(&self, ids: &[PointId]) {
        let vault = self.open().await;
        let names: Vec<_> = ids.iter().map(|id| PointName::parse(&id.to_string()).unwrap()).collect();
        let plan = forget::plan_named(&vault, &self.catalog, &self.janitor, &names).await.unwrap();
        assert_eq!(plan.forget.len(), ids.len());
        forget::apply(&vault, &self.janitor, &plan, 7 * DAY_MS, true).await.unwrap().unwrap();
    }

    pub(crate) async fn gc(&self) -> vault_ops::Result<GcReport> {
        let vault = self.open().await;
        gc::apply(&vault, &self.catalog, &self.janitor, &options()).await
    }

    pub(crate) async fn restores(&self, back: usize, bytes: &[u8]) {
        let vault = self.open().await;
        assert!(self.lab.restore_from(&vault, back).await.unwrap().0 == bytes, "point latest~{back}");
    }

    pub(crate) async fn shards(&self) -> usize {
        let mut count = 0;
        for at in 0..3 {
            count += self.lab.names(at).await.iter().filter(|name| name.starts_with("shards/")).count();
        }
        count
    }
}

pub(crate) fn options() -> GcOptions {
    GcOptions { confirmed: true, ..GcOptions::default() }
}

/// Everything a vault shows is where it belongs.
pub(crate) async fn assert_full(yard: &Yard) {
    let vault = yard.open().await;
    let plan = vault_ops::repair::plan(&vault, &yard.lab.catalog).await.unwrap();
    let named: Vec<_> = plan.records.iter().map(|task| &task.name).collect();
    assert!(plan.is_empty(), "{:?} {named:?}", plan.shards);
}

impl Yard {
    pub(crate) async fn handle(&self) -> (Vault, Janitor, Catalog, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("second")).unwrap();
        (self.open().await, self.janitor.clone(), catalog, dir)
    }
}

pub(crate) fn copy_dates(dates: &Dates) -> Dates {
    let copy = |(ahead, written): &Date| {
        (Arc::new(AtomicU64::new(ahead.load(Ordering::SeqCst))), Arc::new(Mutex::new(written.lock().unwrap().clone())))
    };
    dates.iter().map(copy).collect()
}

impl Yard {
    /// The same janitor, its memory lost, over another world.
    pub(crate) fn with(&self, lab: Lab, dates: Dates) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("janitor")).unwrap();
        Self { lab, dates, janitor: self.janitor.clone(), catalog, _dir: dir }
    }
}

/// The writer's manifests that count, oldest first; the chain has no gap.
pub(crate) async fn manifests(vault: &Vault, lab: &Lab) -> Vec<SignedManifest> {
    let chain = chain(vault, lab.keys.writer.writer, Depth::Whole).await.unwrap();
    assert!(chain.gaps.is_empty() && chain.unreadable.is_empty(), "{:?} {:?}", chain.gaps, chain.unreadable);
    chain.manifests.into_values().collect()
}
