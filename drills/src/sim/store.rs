//! One simulated location as the program sees it: an object store.
//!
//! What always holds: each request takes true time on its way there and back, so
//! that requests under way at once are carried out, and answered, in an order drawn
//! from the seed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::sites::{Fate, Landing, Object, ReadFault, Sites, Who, flipped};
use super::timeline::START_MS;

/// How often who sleeps looks whether it is awake.
const NAP_US: u64 = 1_200_000_000;

/// A handle on one location.
#[derive(Clone)]
pub(super) struct SimStore {
    sites: Arc<Sites>,
    at: usize,
    who: Who,
}

impl SimStore {
    /// The location of that number.
    pub(super) fn open(sites: &Arc<Sites>, at: usize) -> Arc<dyn ObjectStore> {
        Self::open_as(Who::Writer, sites, at)
    }

    /// Likewise, from another machine.
    pub(super) fn open_as(who: Who, sites: &Arc<Sites>, at: usize) -> Arc<dyn ObjectStore> {
        Arc::new(Self { sites: Arc::clone(sites), at, who })
    }

    /// On the way there; the number tells the answer which request it belongs to.
    async fn there(&self) -> Result<u64> {
        let delay = self.sites.send(self.at, self.who);
        let number = self.sites.number(self.who);
        self.travel(delay).await;
        match self.sites.arrive(self.at) {
            Fate::Answered => Ok(number),
            Fate::Lost => {
                self.back(number).await;
                Err(failed(io::ErrorKind::ConnectionReset, "the connection broke"))
            }
            Fate::Down => {
                self.back(number).await;
                Err(failed(io::ErrorKind::ConnectionRefused, "nobody answers"))
            }
        }
    }

    async fn back(&self, number: u64) {
        let delay = self.sites.answer(self.at, number);
        self.travel(delay).await;
    }

    async fn travel(&self, us: u64) {
        if self.sites.timeline.is_crashed() {
            // Nobody is left to wait.
            return std::future::pending().await;
        }
        self.sites.timeline.wait(us).await;
        while self.sites.is_asleep(self.who) {
            self.sites.timeline.wait(NAP_US).await;
        }
    }

    fn meta(location: Path, object: &Object) -> ObjectMeta {
        meta(location, object.bytes.len() as u64, object.dated_us)
    }
}

fn meta(location: Path, size: u64, dated_us: i64) -> ObjectMeta {
    let since = Duration::from_micros((START_MS * 1000).saturating_add(dated_us).max(0).unsigned_abs());
    ObjectMeta { location, last_modified: (UNIX_EPOCH + since).into(), size, e_tag: None, version: None }
}

fn failed(kind: io::ErrorKind, why: &str) -> Error {
    Error::Generic { store: "simulated", source: Box::new(io::Error::new(kind, why.to_owned())) }
}

fn not_found(location: &Path) -> Error {
    Error::NotFound { path: location.to_string(), source: "no such object".into() }
}

fn acknowledged() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: object_store::Extensions::default() }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated location {}", self.at)
    }
}

/// A write on its way: if the machine crashes meanwhile, it may still arrive.
struct UnderWay<'a> {
    store: &'a SimStore,
    name: &'a Arc<str>,
    bytes: &'a Bytes,
    arrived: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.arrived && self.store.sites.timeline.is_crashed() {
            self.store.sites.orphaned(self.store.at, self.name, self.bytes);
        }
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let bytes = Bytes::from(payload);
        let name: Arc<str> = location.as_ref().into();
        let create = opts.mode == PutMode::Create;
        if self.sites.timeline.is_crashed() {
            return std::future::pending().await;
        }
        let mut under_way = UnderWay { store: self, name: &name, bytes: &bytes, arrived: false };
        let sent = self.there().await;
        under_way.arrived = true;
        let number = sent?;
        let landing = self.sites.put(self.at, &name, &bytes, create, number);
        self.back(number).await;
        match landing {
            Landing::Stored => Ok(acknowledged()),
            Landing::Exists => {
                Err(Error::AlreadyExists { path: location.to_string(), source: "it is there already".into() })
            }
            Landing::Full => Err(failed(io::ErrorKind::StorageFull, "no space left")),
            Landing::Failed => Err(failed(io::ErrorKind::Other, "input/output error")),
            Landing::TimedOut => Err(failed(io::ErrorKind::TimedOut, "no answer in time")),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotSupported { source: format!("{location}: objects of a vault are put whole").into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let number = self.there().await?;
        let got = self.sites.get(self.at, location.as_ref());
        self.back(number).await;
        let (object, fault) = got.ok_or_else(|| not_found(location))?;
        let size = object.bytes.len() as u64;
        let range = match &options.range {
            None => 0..size,
            Some(range) => range.as_range(size).map_err(|error| {
                let source = Box::new(error);
                Error::Generic { store: "simulated", source }
            })?,
        };
        let meta = Self::meta(location.clone(), &object);
        let bytes = object.bytes.slice(range.start as usize..range.end as usize);
        let bytes = match fault {
            ReadFault::None => bytes,
            ReadFault::Short(draw) => bytes.slice(..draw as usize % bytes.len().max(1)),
            ReadFault::Wrong(draw) => flipped(&bytes, draw),
        };
        let payload = if options.head { Bytes::new() } else { bytes };
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::once(async move { Ok(payload) }).boxed()),
            meta,
            range,
            attributes: object_store::Attributes::default(),
            extensions: object_store::Extensions::default(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .and_then(move |location| {
                let this = this.clone();
                async move {
                    let number = this.there().await?;
                    let heard = this.sites.delete(this.at, location.as_ref());
                    this.back(number).await;
                    if heard { Ok(location) } else { Err(failed(io::ErrorKind::TimedOut, "no answer in time")) }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let listed = async move {
            let number = this.there().await?;
            let listed = this.sites.list(this.at, &prefix);
            this.back(number).await;
            let items = listed.into_iter().map(|(name, size, written)| Ok(meta(Path::from(&*name), size, written)));
            Ok::<_, Error>(stream::iter(items))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let all: Vec<ObjectMeta> = self.list(prefix).try_collect().await?;
        let start = prefix.map_or(0, |prefix| prefix.as_ref().len() + 1);
        let (mut objects, mut folders) = (Vec::new(), std::collections::BTreeSet::new());
        for meta in all {
            match meta.location.as_ref()[start..].split_once('/') {
                Some((folder, _)) => {
                    folders.insert(Path::from(format!("{}{folder}", &meta.location.as_ref()[..start])));
                }
                None => objects.push(meta),
            }
        }
        Ok(ListResult {
            common_prefixes: folders.into_iter().collect(),
            objects,
            extensions: object_store::Extensions::default(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, _: CopyOptions) -> Result<()> {
        let number = self.there().await?;
        let got = self.sites.get(self.at, from.as_ref());
        if let Some((object, _)) = &got {
            let name: Arc<str> = to.as_ref().into();
            self.sites.put(self.at, &name, &object.bytes, false, number);
        }
        self.back(number).await;
        got.map(|_| ()).ok_or_else(|| not_found(from))
    }
}
