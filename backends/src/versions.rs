//! What the storage trait cannot ask: the versions of an object, and their locks.
//!
//! What always holds: nothing here is part of a write or of an ordinary read. Where a
//! location keeps versions, they are what is left after somebody with our own
//! credentials overwrote or deleted everything; where it does not, there is no
//! [`Versions`] at all, or one that shows only what stands there.
//!
//! Within one name the newest comes first. Names of a vault are written once, so the
//! *oldest* version is the one nobody could have put there afterwards: a reader that
//! finds the newest wrong tries the oldest next (see `vault_ops::location`).
//!
//! Two real implementations: S3 by signed requests ([`crate::open`]), and a store in
//! memory for tests and for the seeded world ([`crate::VersionedMemory`]). Both are put
//! through `contract::run_versions`.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::BackendError;

/// A store's own name for a version of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionId(pub String);

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of an object, or the mark of its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's name, relative to the location.
    pub name: String,
    /// Which version.
    pub id: VersionId,
    /// Whether it is what an ordinary read sees.
    pub newest: bool,
    /// It says that the object was deleted, and has no bytes.
    pub marker: bool,
    /// Its size.
    pub bytes: u64,
    /// The store's time of it, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// Versions of the names asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionList {
    /// In byte order of the names, within a name the newest first.
    pub versions: Vec<Version>,
    /// Whether these are all; a bound was reached otherwise.
    pub complete: bool,
}

/// A retention lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Whether anybody can lift it.
    pub mode: LockMode,
    /// Until when, in milliseconds since 1970.
    pub until_ms: i64,
}

/// How strong a retention lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody can lift or shorten it.
    Compliance,
    /// A special right lifts it, which a thief may hold: it protects nobody.
    Governance,
}

/// What a location does about locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// It has none.
    #[default]
    None,
    /// It locks what asks for it.
    OnRequest,
    /// It locks every new object.
    Always(LockRule),
}

/// How every new object is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRule {
    /// How strong.
    pub mode: LockMode,
    /// For how many days.
    pub days: u32,
}

/// Versions of objects, and their locks.
#[async_trait]
pub trait Versions: fmt::Debug + Send + Sync {
    /// Versions of all names that begin with this text (not only a folder), at most
    /// `most`.
    async fn list(&self, prefix: &str, most: usize) -> Result<VersionList, BackendError>;

    /// Reads a version, or a range of it.
    async fn get(&self, name: &str, version: &VersionId, range: Option<Range<u64>>) -> Result<Bytes, BackendError>;

    /// Deletes a version for good. `Denied` where rights or a lock forbid it.
    async fn delete(&self, name: &str, version: &VersionId) -> Result<(), BackendError>;

    /// The lock on a version, on the newest if none is named; `None` if there is none.
    async fn lock(&self, name: &str, version: Option<&VersionId>) -> Result<Option<Lock>, BackendError>;

    /// Locks a version (the newest if none is named) in compliance mode until then. A
    /// lock that lasts longer already stays as it is.
    async fn extend_lock(&self, name: &str, version: Option<&VersionId>, until_ms: i64) -> Result<(), BackendError>;

    /// What the location says it does about locks. The probe finds out whether it is so.
    async fn locking(&self) -> Result<Locking, BackendError>;
}
