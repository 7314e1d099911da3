//! Uploads to S3: with a checksum, and with a retention lock where one is asked for.
//!
//! What always holds: where a lock is asked for, every object written carries it, in
//! compliance mode until the time the location was opened with, or the write fails;
//! everything else goes past. The lock stands in headers that are signed with every
//! request of a client, so there is one client for writes and another for the rest. Its
//! time is fixed when the location is opened: a daemon opens it anew for each run.
//!
//! A bucket that locks every object refuses uploads without a checksum; older versions of
//! Backblaze B2 refuse them with one. So the checksum is sent until the server says that
//! it does not know the header, and that is remembered.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::error::refuses_checksums;

/// A store whose writes are checked, and locked if that is asked for.
#[derive(Debug)]
pub(crate) struct Uploads {
    checked: Arc<dyn ObjectStore>,
    plain: Arc<dyn ObjectStore>,
    locks: bool,
    checksums_refused: AtomicBool,
}

impl Uploads {
    /// Writes through `checked`, which sends checksums and, where `locks` says so, the
    /// headers of a lock; everything else through `plain`.
    pub(crate) fn new(checked: Arc<dyn ObjectStore>, plain: Arc<dyn ObjectStore>, locks: bool) -> Self {
        Self { checked, plain, locks, checksums_refused: AtomicBool::new(false) }
    }

    /// A write by another way would silently be without a lock.
    fn refuse_where_locked(&self, way: &str) -> Result<()> {
        if self.locks {
            return Err(Error::NotSupported { source: format!("{way} would not be locked here").into() });
        }
        Ok(())
    }
}

impl std::fmt::Display for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.plain.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Uploads {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if self.locks {
            return self.checked.put_opts(location, payload, opts).await;
        }
        if self.checksums_refused.load(Ordering::Relaxed) {
            return self.plain.put_opts(location, payload, opts).await;
        }
        // The payload is a list of counted references: the clone copies no bytes.
        match self.checked.put_opts(location, payload.clone(), opts.clone()).await {
            Err(error) if refuses_checksums(&error) => {
                tracing::info!(store = %self.plain, "no checksums are known here, uploads go without from now on");
                self.checksums_refused.store(true, Ordering::Relaxed);
                self.plain.put_opts(location, payload, opts).await
            }
            result => result,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.refuse_where_locked("an upload in parts")?;
        self.plain.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.plain.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.plain.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.plain.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.plain.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.plain.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.plain.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.refuse_where_locked("a copy")?;
        self.plain.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.refuse_where_locked("a renamed object")?;
        self.plain.rename_opts(from, to, options).await
    }
}
