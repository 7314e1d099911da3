//! A location as the operations use it: an object store with an id and a domain.
//!
//! What always holds: a first write is a create; "already exists" is never taken
//! as success by itself; what is written is durable when the store acknowledged
//! it (local folders sync file and directory).

use std::sync::Arc;

use backends::{BackendError, Kind, Named, Names, Sizes, Versions};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use vault_format::LocationId;

use crate::placement::Spot;

/// Objects of a location.
pub type Store = Arc<dyn ObjectStore>;

/// One bucket or folder.
#[derive(Clone)]
pub struct Location {
    /// Its id in the layout.
    pub id: LocationId,
    /// Its name in the configuration.
    pub name: String,
    /// Its failure domain's number.
    pub domain: u16,
    /// It answers and shows no marker: a new disk, or an empty mount point. It is
    /// read, and refilled by a repair; a backup writes nothing there.
    pub blank: bool,
    /// Objects, named relative to the location.
    pub store: Arc<dyn ObjectStore>,
    /// Their older versions, where the location can tell them.
    pub versions: Option<Arc<dyn Versions>>,
    /// Their names alone, where sizes cost.
    pub names: Option<Arc<dyn Names>>,
}

/// Most bytes of any object of ours: the largest record, and more than the largest
/// shard. A location that shows more is not believed.
const OBJECT_BYTES_MAX: u64 = 72 << 20;

/// What a first write found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object was written.
    New,
    /// There was one already; the caller compares it.
    Exists,
}

/// A name and size from a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name relative to the location.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// A name as a listing gave it, or as we make one. Names of ours need no escaping;
/// what others put beside them may, and must not be escaped twice.
fn path(name: &str) -> Path {
    Path::parse(name).unwrap_or_else(|_| Path::from(name))
}

impl Location {
    /// This location for placement.
    pub fn spot(&self) -> Spot {
        Spot { location: self.id, domain: self.domain }
    }

    fn fail(&self, did: &str, name: &str, error: &object_store::Error) -> BackendError {
        BackendError::from_store(format!("{did} {name} at {}", self.name), error)
    }

    /// Writes an object that is not there yet.
    pub async fn create(&self, name: &str, parts: Vec<Bytes>) -> Result<Created, BackendError> {
        let payload: PutPayload = parts.into_iter().collect();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path(name), payload, options).await {
            Ok(_) => Ok(Created::New),
            Err(error) if backends::classify(&error) == Kind::Exists => Ok(Created::Exists),
            Err(error) => Err(self.fail("writing", name, &error)),
        }
    }

    /// Replaces an object. Only repair does this, after a logged failed
    /// verification, and writes the bytes the header's roots demand.
    pub async fn overwrite(&self, name: &str, parts: Vec<Bytes>) -> Result<(), BackendError> {
        let payload: PutPayload = parts.into_iter().collect();
        self.store.put(&path(name), payload).await.map_err(|error| self.fail("writing", name, &error))?;
        Ok(())
    }

    /// Reads a whole object; `None` if the store says it is not there.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>, BackendError> {
        let got = match self.store.get(&path(name)).await {
            Ok(got) if got.meta.size > OBJECT_BYTES_MAX => {
                let why = format!("{} bytes; no object of a vault is so large", got.meta.size);
                return Err(BackendError::new(Kind::Corrupt, format!("reading {name} at {}", self.name), why));
            }
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        self.found(name, got)
    }

    /// Reads a range; `None` if the object is not there or ends before it.
    pub async fn read_range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Option<Bytes>, BackendError> {
        let want = range.end - range.start;
        if want == 0 {
            return Ok(Some(Bytes::new()));
        }
        let got = match self.store.get_range(&path(name), range).await {
            // A range that starts behind the end: the object is cut short.
            Err(error) if backends::classify(&error) == Kind::Corrupt => return Ok(None),
            got => got,
        };
        Ok(self.found(name, got)?.filter(|bytes| bytes.len() as u64 == want))
    }

    fn found(&self, name: &str, got: object_store::Result<Bytes>) -> Result<Option<Bytes>, BackendError> {
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if backends::classify(&error) == Kind::NotFound => Ok(None),
            Err(error) => Err(self.fail("reading", name, &error)),
        }
    }

    /// When an object was last written, by the location's own clock, milliseconds
    /// since 1970; `None` if it is not there.
    pub async fn modified_ms(&self, name: &str) -> Result<Option<i64>, BackendError> {
        match self.store.head(&Path::from(name)).await {
            Ok(meta) => Ok(Some(meta.last_modified.timestamp_millis())),
            Err(error) if backends::classify(&error) == Kind::NotFound => Ok(None),
            Err(error) => Err(self.fail("looking at", name, &error)),
        }
    }

    /// Deletes an object. One that is not there is as good as deleted. Only what a
    /// tombstone names is ever deleted, and only with admin credentials.
    pub async fn delete(&self, name: &str) -> Result<(), BackendError> {
        match self.store.delete(&Path::from(name)).await {
            Ok(()) => Ok(()),
            Err(error) if backends::classify(&error) == Kind::NotFound => Ok(()),
            Err(error) => Err(self.fail("deleting", name, &error)),
        }
    }

    /// Lists a folder in byte order of the names.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, BackendError> {
        let path = Path::from(folder);
        let prefix = (!folder.is_empty()).then_some(&path);
        let mut listed: Vec<Listed> = self
            .store
            .list(prefix)
            .map_ok(|meta| Listed { name: meta.location.to_string(), bytes: meta.size })
            .try_collect()
            .await
            .map_err(|error| self.fail("listing", folder, &error))?;
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Lists a folder in byte order of the names, with the sizes asked for at least. What it
    /// shows nobody may lean on: it is not synced.
    pub async fn glance(&self, folder: &str, sizes: Sizes) -> Result<Vec<Named>, BackendError> {
        let Some(names) = &self.names else {
            let listed = self.list(folder).await?.into_iter();
            return Ok(listed.map(|Listed { name, bytes }| Named { name, bytes: Some(bytes) }).collect());
        };
        names.names(folder, sizes).await
    }

    /// The first `most` names of a folder, in byte order.
    pub async fn list_first(&self, folder: &str, most: usize) -> Result<Vec<Listed>, BackendError> {
        let mut all = self.list(folder).await?;
        all.truncate(most);
        Ok(all)
    }
}
