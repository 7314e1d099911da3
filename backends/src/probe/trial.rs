//! What every part of a probe works with: objects under one folder, written, read and
//! in the end removed.
//!
//! What always holds: everything written is remembered, and what cannot be removed is
//! named.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutPayload, PutResult};
use rand_core::Rng;

use super::history::History;
use crate::{BackendError, Kind, Location, classify};

/// Over one leaf of 64 KiB, and no round number: a server that pads would show.
const OBJECT_BYTES: usize = 150_001;
/// A probe writes fewer versions.
const VERSIONS_MAX: usize = 1_000;

/// Bytes to write and the name to write them to.
pub(super) struct Object {
    pub(super) name: Path,
    pub(super) bytes: Bytes,
}

pub(super) struct Trial<'a> {
    pub(super) location: &'a Location,
    pub(super) folder: Path,
    pub(super) noise: Bytes,
    /// Every object and version written, to be removed in the end.
    written: Vec<(Path, Option<String>)>,
    pub(super) left_behind: Vec<String>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(location: &'a Location, random: &mut (dyn Rng + Send)) -> Self {
        let id = random.next_u64();
        // Twice the size: two objects of one probe share no offset.
        let mut noise = vec![0; 2 * OBJECT_BYTES];
        random.fill_bytes(&mut noise);
        Self {
            location,
            folder: Path::from(format!("probe/{id:016x}")),
            noise: Bytes::from(noise),
            written: Vec::new(),
            left_behind: Vec::new(),
        }
    }

    pub(super) fn object(&self, name: &str, variant: usize) -> Object {
        let start = variant * OBJECT_BYTES;
        Object { name: self.folder.clone().join(name), bytes: self.noise.slice(start..start + OBJECT_BYTES) }
    }

    pub(super) async fn put(&mut self, name: &Path, bytes: &Bytes, mode: PutMode) -> Result<PutResult, BackendError> {
        let payload = PutPayload::from_bytes(bytes.clone());
        let result = self.location.store().put_opts(name, payload, mode.into()).await;
        let result = result.map_err(|error| self.error("put", name, &error))?;
        self.remember(name, real_version(&result));
        Ok(result)
    }

    /// To be removed in the end.
    pub(super) fn remember(&mut self, name: &Path, version: Option<String>) {
        self.written.push((name.clone(), version));
    }

    pub(super) async fn head(&self, name: &Path) -> Result<ObjectMeta, BackendError> {
        let result = self.location.store().head(name).await;
        result.map_err(|error| self.error("head", name, &error))
    }

    pub(super) async fn read(&self, name: &Path) -> Result<Bytes, BackendError> {
        self.read_version(name, None).await.map_err(|error| self.error("get", name, &error))
    }

    pub(super) async fn read_version(&self, name: &Path, version: Option<&str>) -> object_store::Result<Bytes> {
        let options = GetOptions::new().with_version(version);
        let result = self.location.store().get_opts(name, options).await?;
        result.bytes().await
    }

    pub(super) async fn ranges_are_exact(&self, object: &Object) -> Result<bool, BackendError> {
        let size = OBJECT_BYTES as u64;
        for range in [0..1, 65_536..131_072, size - 1..size, size - 10..size + 10] {
            let read = self.location.store().get_range(&object.name, range.clone()).await;
            let read = read.map_err(|error| self.error("get range", &object.name, &error))?;
            let end = usize::try_from(range.end.min(size)).expect("below the object's size");
            let start = usize::try_from(range.start).expect("below the object's size");
            if read != object.bytes[start..end] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn lists(&self, name: &Path) -> Result<bool, BackendError> {
        let listed = self.location.store().list(Some(&self.folder));
        let listed: Vec<ObjectMeta> =
            listed.try_collect().await.map_err(|error| self.error("list", &self.folder, &error))?;
        Ok(listed.iter().any(|found| found.location == *name))
    }

    /// Removes what was written; where versions are kept, every version of it. What locks
    /// or rights forbid is named.
    pub(super) async fn clean_up(&mut self, history: &History) {
        let written = std::mem::take(&mut self.written);
        let kept = history.versions.is_some();
        if let (true, Some(versions)) = (kept, self.location.versions()) {
            let all = versions.list(&format!("{}/", self.folder), VERSIONS_MAX).await;
            for version in all.map(|list| list.versions).unwrap_or_default() {
                let erased = history.may_erase_versions() && versions.delete(&version.name, &version.id).await.is_ok();
                if !erased && !version.marker {
                    self.left_behind.push(format!("{} (version {})", version.name, version.id));
                }
            }
            return;
        }
        for (name, version) in written {
            // What is gone already counts as removed.
            let deleted = self.location.store().delete(&name).await;
            if deleted.is_err_and(|error| classify(&error) != Kind::NotFound) {
                let version = version.map(|v| format!(" (version {v})")).unwrap_or_default();
                self.left_behind.push(format!("{name}{version}"));
            }
        }
    }

    pub(super) fn error(&self, verb: &str, name: &Path, error: &object_store::Error) -> BackendError {
        BackendError::from_store(format!("{}: {verb} {name}", self.location.url()), error)
    }
}

/// A bucket whose versioning was suspended calls every version "null" and keeps none.
pub(super) fn real_version(result: &PutResult) -> Option<String> {
    result.version.clone().filter(|version| version != "null")
}
