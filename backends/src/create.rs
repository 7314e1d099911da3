//! `PutMode::Create` on stores that do not know it.
//!
//! What always holds: a create of a name that is visibly taken answers "already exists"
//! and changes nothing, on every store. Where the server honours `If-None-Match: *` it
//! decides; elsewhere a HEAD comes first. Between HEAD and PUT another writer can still
//! get in: the caller compares what stands there in the end, on every store alike, because
//! a conditional create that timed out may have landed too.
//!
//! A server that answers 501 to the condition (Backblaze B2) is remembered as such by its
//! first answer. A server that ignores it (JuiceFS, older MinIO, Garage) answers 200 like
//! any other: only [`crate::probe()`] finds out, and then [`crate::Location::set_create`].

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::error::is_unimplemented;

/// How a location creates an object that must not be there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateAs {
    /// The server decides (`If-None-Match: *`, a hard link, a generation match).
    Conditional,
    /// HEAD, then PUT: for servers that ignore or refuse the condition.
    HeadThenPut,
}

/// The switch, shared between the store and its [`crate::Location`].
#[derive(Debug, Default)]
pub(crate) struct Creating {
    head_first: AtomicBool,
}

impl Creating {
    pub(crate) fn set(&self, how: CreateAs) {
        let head_first = how == CreateAs::HeadThenPut;
        self.head_first.store(head_first, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> CreateAs {
        if self.head_first.load(Ordering::Relaxed) { CreateAs::HeadThenPut } else { CreateAs::Conditional }
    }
}

#[derive(Debug)]
pub(crate) struct FirstWrite {
    inner: Arc<dyn ObjectStore>,
    creating: Arc<Creating>,
}

impl FirstWrite {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, creating: Arc<Creating>) -> Self {
        Self { inner, creating }
    }

    async fn head_then_put(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        match self.inner.head(location).await {
            Ok(_) => Err(Error::AlreadyExists {
                path: location.to_string(),
                source: "found by HEAD before the write".into(),
            }),
            Err(Error::NotFound { .. }) => {
                opts.mode = PutMode::Overwrite;
                self.inner.put_opts(location, payload, opts).await
            }
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Display for FirstWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FirstWrite {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if opts.mode != PutMode::Create {
            return self.inner.put_opts(location, payload, opts).await;
        }
        if self.creating.get() == CreateAs::HeadThenPut {
            return self.head_then_put(location, payload, opts).await;
        }
        // The payload is a list of counted references: the clone copies no bytes.
        let first = self.inner.put_opts(location, payload.clone(), opts.clone());
        match first.await {
            Err(error) if is_unimplemented(&error) => {
                tracing::info!(store = %self.inner, "no conditional writes here, HEAD comes first from now on");
                self.creating.set(CreateAs::HeadThenPut);
                self.head_then_put(location, payload, opts).await
            }
            result => result,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
