//! Counting requests and bytes: what a provider bills, and what tests assert.
//!
//! What always holds: a request is counted when it is made, whatever comes of it; bytes
//! are counted when they were acknowledged (up) or handed over (down). One listing counts
//! as one, with the number of names it gave; S3 bills it per thousand.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one location; share it to read while it counts.
        #[derive(Debug, Default)]
        pub struct Meter { $($name: AtomicU64,)* }

        /// What a [`Meter`] showed at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        impl Meter {
            /// The counters now. Each is exact; together they are not one instant.
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Objects written, multipart uploads begun and their parts and completions.
    puts,
    /// Objects or ranges read.
    gets,
    /// Metadata asked for.
    heads,
    /// Listings begun.
    lists,
    /// Names they gave.
    listed,
    /// Objects deleted.
    deletes,
    /// Copies and renames.
    copies,
    /// Requests that gave an error, "not found" and "exists" included.
    failed,
    /// Bytes written and acknowledged.
    bytes_up,
    /// Bytes read.
    bytes_down,
}

impl Meter {
    fn tally<T>(&self, result: &Result<T>) {
        if result.is_err() {
            add(&self.failed, 1);
        }
    }

    fn tally_up<T>(&self, result: &Result<T>, bytes: u64) {
        self.tally(result);
        if result.is_ok() {
            add(&self.bytes_up, bytes);
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Counts what goes through it.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
}

impl Metered {
    /// Counts what is asked of `inner` in `meter`.
    pub fn new(inner: Arc<dyn ObjectStore>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    fn count_listing(&self, listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        add(&self.meter.lists, 1);
        let meter = Arc::clone(&self.meter);
        listing
            .inspect(move |item| match item {
                Ok(_) => add(&meter.listed, 1),
                Err(_) => add(&meter.failed, 1),
            })
            .boxed()
    }
}

impl std::fmt::Display for Metered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Metered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        add(&self.meter.puts, 1);
        let bytes = payload.content_length() as u64;
        let result = self.inner.put_opts(location, payload, opts).await;
        self.meter.tally_up(&result, bytes);
        result
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        add(&self.meter.puts, 1);
        let result = self.inner.put_multipart_opts(location, opts).await;
        self.meter.tally(&result);
        Ok(Box::new(MeteredUpload { upload: result?, meter: Arc::clone(&self.meter) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let kind = if head { &self.meter.heads } else { &self.meter.gets };
        add(kind, 1);
        let result = self.inner.get_opts(location, options).await;
        self.meter.tally(&result);
        let mut result = result?;
        result.payload = match result.payload {
            _ if head => return Ok(result),
            GetResultPayload::Stream(stream) => {
                let meter = Arc::clone(&self.meter);
                let counted = stream.inspect(move |piece| match piece {
                    Ok(piece) => add(&meter.bytes_down, piece.len() as u64),
                    Err(_) => add(&meter.failed, 1),
                });
                GetResultPayload::Stream(counted.boxed())
            }
            // An open file: what is read from it later is not seen, its length is.
            file @ GetResultPayload::File(..) => {
                add(&self.meter.bytes_down, result.range.end - result.range.start);
                file
            }
        };
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        add(&self.meter.gets, 1);
        let result = self.inner.get_ranges(location, ranges).await;
        self.meter.tally(&result);
        let pieces = result?;
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        add(&self.meter.bytes_down, bytes);
        Ok(pieces)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let meter = Arc::clone(&self.meter);
        self.inner
            .delete_stream(locations)
            .inspect(move |item| {
                add(&meter.deletes, 1);
                meter.tally(item);
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count_listing(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count_listing(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        add(&self.meter.lists, 1);
        let result = self.inner.list_with_delimiter(prefix).await;
        self.meter.tally(&result);
        let listed = result?;
        let names = listed.objects.len() + listed.common_prefixes.len();
        add(&self.meter.listed, names as u64);
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        add(&self.meter.copies, 1);
        let result = self.inner.copy_opts(from, to, options).await;
        self.meter.tally(&result);
        result
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        add(&self.meter.copies, 1);
        let result = self.inner.rename_opts(from, to, options).await;
        self.meter.tally(&result);
        result
    }
}

#[derive(Debug)]
struct MeteredUpload {
    upload: Box<dyn MultipartUpload>,
    meter: Arc<Meter>,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        add(&self.meter.puts, 1);
        let bytes = data.content_length() as u64;
        let part = self.upload.put_part(data);
        let meter = Arc::clone(&self.meter);
        Box::pin(async move {
            let result = part.await;
            meter.tally_up(&result, bytes);
            result
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        add(&self.meter.puts, 1);
        let result = self.upload.complete().await;
        self.meter.tally(&result);
        result
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn everything_is_counted_once() {
        let meter = Arc::new(Meter::default());
        let store = Metered::new(Arc::new(InMemory::new()), Arc::clone(&meter));
        let name = Path::from("a/b");
        store.put(&name, "12345".into()).await.unwrap();
        store.get(&name).await.unwrap().bytes().await.unwrap();
        store.get_range(&name, 1..3).await.unwrap();
        store.get_ranges(&name, &[0..1, 4..5]).await.unwrap();
        store.head(&name).await.unwrap();
        store.head(&Path::from("none")).await.unwrap_err();
        store.list(None).try_collect::<Vec<_>>().await.unwrap();
        let mut upload = store.put_multipart(&Path::from("c")).await.unwrap();
        upload.put_part("123".into()).await.unwrap();
        upload.complete().await.unwrap();
        store.copy(&name, &Path::from("d")).await.unwrap();
        store.delete(&name).await.unwrap();
        let expected = Counts {
            puts: 4,
            gets: 3,
            heads: 2,
            lists: 1,
            listed: 1,
            deletes: 1,
            copies: 1,
            failed: 1,
            bytes_up: 8,
            bytes_down: 5 + 2 + 2,
        };
        assert_eq!(meter.counts(), expected);
    }
}
