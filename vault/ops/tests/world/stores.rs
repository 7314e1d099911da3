//! A store that counts its operations with others of its kind, and from a chosen
//! one on fails, or never answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

/// What becomes of the chosen operation, and of all after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trip {
    /// They fail and do nothing.
    Fails,
    /// The process dies before the request leaves.
    DiesBefore,
    /// The process dies after the request was carried out, before its answer.
    DiesAfter,
}

/// Shared by all stores of a vault.
pub(crate) struct Tripwire {
    seen: AtomicUsize,
    at: usize,
    trip: Trip,
    died: Notify,
}

impl Tripwire {
    /// Trips at the operation of that number, counted from 0.
    pub(crate) fn new(at: usize, trip: Trip) -> Arc<Self> {
        Arc::new(Self { seen: AtomicUsize::new(0), at, trip, died: Notify::new() })
    }

    /// Counts only.
    pub(crate) fn never() -> Arc<Self> {
        Self::new(usize::MAX, Trip::Fails)
    }

    /// Operations seen.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    pub(crate) fn store(self: &Arc<Self>, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Wired { inner, wire: Arc::clone(self) })
    }

    /// Runs `work` until it ends or the process dies: then it is dropped, as a
    /// cancelled task is, and `None` comes back.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.died.notified() => None,
            done = work => Some(done),
        }
    }

    async fn step<T>(&self, act: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        if number < self.at {
            return act.await;
        }
        match self.trip {
            Trip::Fails => {
                let source = Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                return Err(Error::Generic { store: "wired", source });
            }
            Trip::DiesAfter if number == self.at => drop(act.await),
            Trip::DiesBefore | Trip::DiesAfter => {}
        }
        self.died.notify_one();
        std::future::pending().await
    }
}

#[derive(Clone)]
struct Wired {
    inner: Arc<dyn ObjectStore>,
    wire: Arc<Tripwire>,
}

impl std::fmt::Debug for Wired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Wired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "wired {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Wired {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.wire.step(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.wire.step(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.wire.step(self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let inner = self.inner.delete_stream(locations);
        let wire = Arc::clone(&self.wire);
        stream::once(async move { wire.step(std::future::ready(Ok(inner))).await }).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let inner = self.inner.list(prefix);
        let wire = Arc::clone(&self.wire);
        stream::once(async move { wire.step(std::future::ready(Ok(inner))).await }).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.wire.step(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.wire.step(self.inner.copy_opts(from, to, options)).await
    }
}
