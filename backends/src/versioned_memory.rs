//! A store in memory that keeps versions and locks: for tests and for the seeded world.
//!
//! What always holds: it does what a versioned bucket does. An overwrite adds a version,
//! a delete adds a mark; versions go only by [`Versions::delete`], which needs the right
//! to it and no lock that still holds. Handles with and without that right are of one
//! store, so a test plays the writer, the janitor and the thief. The clock is given; no
//! randomness.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::versions::{Lock, LockMode, Locking, Version, VersionId, VersionList, Versions};
use crate::{BackendError, Kind};

/// Milliseconds since 1970.
pub type ClockMs = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A versioned, lockable store.
#[derive(Clone)]
pub struct VersionedMemory {
    newest: Arc<InMemory>,
    history: Arc<Mutex<History>>,
    clock: ClockMs,
    rights: Rights,
}

/// What a handle may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Delete objects, which leaves a mark.
    pub delete: bool,
    /// Delete versions for good, where no lock holds.
    pub erase: bool,
}

#[derive(Clone, Default)]
struct History {
    objects: BTreeMap<String, Vec<Entry>>,
    next: u64,
    locking: Locking,
}

#[derive(Clone)]
struct Entry {
    id: u64,
    bytes: Option<Bytes>,
    modified_ms: i64,
    lock: Option<Lock>,
}

const DAY_MS: i64 = 86_400_000;

impl VersionedMemory {
    /// An empty store; this handle may do everything.
    pub fn new(clock: ClockMs) -> Self {
        let rights = Rights { delete: true, erase: true };
        let history = History { locking: Locking::OnRequest, ..History::default() };
        Self { newest: Arc::default(), history: Arc::new(Mutex::new(history)), clock, rights }
    }

    /// The same store with other rights.
    #[must_use]
    pub fn with_rights(&self, rights: Rights) -> Self {
        Self { rights, ..self.clone() }
    }

    /// The same store as a writer sees it: nothing can be erased, and deleting is
    /// allowed or not.
    #[must_use]
    pub fn as_writer(&self, delete: bool) -> Self {
        self.with_rights(Rights { delete, erase: false })
    }

    /// What is done about locks from now on; at first every request for one is granted.
    pub fn set_locking(&self, locking: Locking) {
        self.history().locking = locking;
    }

    /// A copy of everything, independent from here on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            newest: Arc::new(self.newest.fork()),
            history: Arc::new(Mutex::new(self.history().clone())),
            clock: Arc::clone(&self.clock),
            rights: self.rights,
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, name: &Path, bytes: Option<Bytes>) -> String {
        let now = (self.clock)();
        let mut history = self.history();
        history.next += 1;
        let id = history.next;
        let lock = match history.locking {
            Locking::Always(rule) if bytes.is_some() => {
                Some(Lock { mode: rule.mode, until_ms: now + i64::from(rule.days) * DAY_MS })
            }
            Locking::Always(_) | Locking::OnRequest | Locking::None => None,
        };
        let entry = Entry { id, bytes, modified_ms: now, lock };
        history.objects.entry(name.to_string()).or_default().push(entry);
        id.to_string()
    }

    fn entry(&self, name: &str, version: Option<&VersionId>) -> std::result::Result<Entry, BackendError> {
        let history = self.history();
        let entries = history.objects.get(name).map(Vec::as_slice).unwrap_or_default();
        let found = match version {
            None => entries.last(),
            Some(id) => entries.iter().find(|entry| entry.id.to_string() == id.0),
        };
        let none = || BackendError::new(Kind::NotFound, format!("a version of {name}"), "no such version");
        found.filter(|entry| entry.bytes.is_some()).cloned().ok_or_else(none)
    }
}

fn time_of(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn version_result(name: &Path, entry: Entry, options: &GetOptions) -> GetResult {
    let bytes = entry.bytes.unwrap_or_default();
    let size = bytes.len() as u64;
    let range = match &options.range {
        None => 0..size,
        Some(GetRange::Bounded(range)) => range.start.min(size)..range.end.min(size),
        Some(GetRange::Offset(from)) => (*from).min(size)..size,
        Some(GetRange::Suffix(last)) => size.saturating_sub(*last)..size,
    };
    let meta = ObjectMeta {
        location: name.clone(),
        last_modified: time_of(entry.modified_ms),
        size,
        e_tag: None,
        version: Some(entry.id.to_string()),
    };
    let piece = bytes.slice(place(range.start)..place(range.end));
    let payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(piece) }).boxed());
    GetResult { payload, meta, range, attributes: Attributes::default(), extensions: options.extensions.clone() }
}

fn denied(name: &Path) -> Error {
    Error::PermissionDenied { path: name.to_string(), source: "this handle may not delete".into() }
}

impl fmt::Debug for VersionedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} with {:?}", self.rights)
    }
}

impl fmt::Display for VersionedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("versioned memory")
    }
}

#[async_trait]
impl ObjectStore for VersionedMemory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        let mut result = self.newest.put_opts(location, payload, opts).await?;
        result.version = Some(self.record(location, Some(bytes)));
        Ok(result)
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotSupported { source: "uploads in parts are not kept as versions here".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(version) = options.version.clone() else {
            return self.newest.get_opts(location, options).await;
        };
        let entry = self.entry(location.as_ref(), Some(&VersionId(version)));
        let missing = |error| Error::NotFound { path: location.to_string(), source: Box::new(error) };
        Ok(version_result(location, entry.map_err(missing)?, &options))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    if !this.rights.delete {
                        return Err(denied(&location));
                    }
                    this.newest.delete(&location).await?;
                    this.record(&location, None);
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.newest.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.newest.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.newest.copy_opts(from, to, options).await?;
        let bytes = self.newest.get(to).await?.bytes().await?;
        self.record(to, Some(bytes));
        Ok(())
    }
}

#[async_trait]
impl Versions for VersionedMemory {
    async fn list(&self, prefix: &str, most: usize) -> std::result::Result<VersionList, BackendError> {
        let history = self.history();
        let mut versions = Vec::new();
        for (name, entries) in history.objects.range(prefix.to_owned()..) {
            if !name.starts_with(prefix) {
                break;
            }
            versions.extend(entries.iter().rev().enumerate().map(|(at, entry)| Version {
                name: name.clone(),
                id: VersionId(entry.id.to_string()),
                newest: at == 0,
                marker: entry.bytes.is_none(),
                bytes: entry.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
                modified_ms: entry.modified_ms,
            }));
        }
        let complete = versions.len() <= most;
        versions.truncate(most);
        Ok(VersionList { versions, complete })
    }

    async fn get(
        &self,
        name: &str,
        version: &VersionId,
        range: Option<Range<u64>>,
    ) -> std::result::Result<Bytes, BackendError> {
        let bytes = self.entry(name, Some(version))?.bytes.unwrap_or_default();
        let Some(range) = range else { return Ok(bytes) };
        let size = bytes.len() as u64;
        if range.start >= size {
            return Err(BackendError::new(Kind::Corrupt, format!("a range of {name}"), "it begins behind the end"));
        }
        Ok(bytes.slice(place(range.start)..place(range.end.min(size))))
    }

    async fn delete(&self, name: &str, version: &VersionId) -> std::result::Result<(), BackendError> {
        let now = (self.clock)();
        let denied = |why: &str| Err(BackendError::new(Kind::Denied, format!("deleting a version of {name}"), why));
        if !self.rights.erase {
            return denied("this handle may not");
        }
        let newest = {
            let mut history = self.history();
            let Some(entries) = history.objects.get_mut(name) else { return Ok(()) };
            let Some(at) = entries.iter().position(|entry| entry.id.to_string() == version.0) else { return Ok(()) };
            if entries[at].lock.is_some_and(|lock| lock.mode == LockMode::Compliance && lock.until_ms > now) {
                return denied("it is locked");
            }
            entries.remove(at);
            entries.last().cloned()
        };
        let path = Path::from(name);
        let failed = |error: object_store::Error| BackendError::from_store(format!("deleting {name}"), &error);
        match newest.and_then(|entry| entry.bytes) {
            Some(bytes) => self.newest.put(&path, bytes.into()).await.map(|_| ()).map_err(failed),
            None => match self.newest.delete(&path).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(error)),
            },
        }
    }

    async fn lock(&self, name: &str, version: Option<&VersionId>) -> std::result::Result<Option<Lock>, BackendError> {
        Ok(self.entry(name, version)?.lock)
    }

    async fn extend_lock(
        &self,
        name: &str,
        version: Option<&VersionId>,
        until_ms: i64,
    ) -> std::result::Result<(), BackendError> {
        let id = self.entry(name, version)?.id;
        let mut history = self.history();
        if history.locking == Locking::None {
            return Err(BackendError::new(Kind::Config, format!("locking {name}"), "there are no locks here"));
        }
        let entries = history.objects.get_mut(name).map(Vec::as_mut_slice).unwrap_or_default();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.id == id) {
            let until_ms = entry.lock.map_or(until_ms, |lock| lock.until_ms.max(until_ms));
            entry.lock = Some(Lock { mode: LockMode::Compliance, until_ms });
        }
        Ok(())
    }

    async fn locking(&self) -> std::result::Result<Locking, BackendError> {
        Ok(self.history().locking)
    }
}
