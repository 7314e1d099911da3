//! Older versions of objects: what is read where the newest was overwritten or
//! deleted by somebody who holds a writer's credentials.
//!
//! What always holds: an older version counts only if it passes the very check that
//! the newest failed; nothing here decides what is right. Names of a vault are
//! written once, so after the newest the *oldest* version is tried first: nobody
//! could have put it there afterwards, and a thousand pieces of rubbish on top of it
//! hide nothing. How many are tried and listed is bounded. A location that cannot
//! tell of versions, or does not answer about them, has none: that is no failure of
//! the ordinary reading.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use backends::{BackendError, Version};
use bytes::Bytes;

use crate::location::{Listed, Location};

/// Versions of one object that are tried, the newest not counted.
pub const TRIED_MAX: usize = 8;
/// Versions listed under one prefix. A thief who writes more hides nothing: lists go
/// by name, and within a name all pages are read to its oldest.
const LISTED_MAX: usize = 50_000;
/// No record is larger; a larger version is rubbish and not worth reading.
const RECORD_BYTES_MAX: u64 = 8 << 20;

impl Location {
    /// Versions that are not the newest of their object, of all names that begin with
    /// `prefix`: by name, in the order in which they are worth trying. Names whose newest
    /// version is a mark of deletion are among them.
    pub async fn older(&self, prefix: &str) -> Result<BTreeMap<String, Vec<Version>>, BackendError> {
        let Some(versions) = &self.versions else { return Ok(BTreeMap::new()) };
        let list = versions.list(prefix, LISTED_MAX).await?;
        let mut older: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for version in list.versions.into_iter().rev().filter(|version| !version.marker && !version.newest) {
            older.entry(version.name.clone()).or_default().push(version);
        }
        Ok(older)
    }

    /// Reads an older version, or a range of it.
    pub async fn read_older(&self, version: &Version, range: Option<Range<u64>>) -> Result<Bytes, BackendError> {
        let none = || BackendError::new(backends::Kind::NotFound, version.name.clone(), "no versions are kept here");
        let versions = self.versions.as_ref().ok_or_else(none)?;
        versions.get(&version.name, &version.id, range).await
    }

    /// Lists a folder as [`Location::list`] does, and adds what the location still keeps
    /// and does not show: objects whose newest version is a mark of deletion. What is
    /// added is told apart by the second list, of names.
    pub async fn list_kept(&self, folder: &str) -> Result<(Vec<Listed>, BTreeSet<String>), BackendError> {
        let mut listed = self.list(folder).await?;
        let older = self.older(&format!("{folder}/")).await.unwrap_or_default();
        let shown: BTreeSet<String> = listed.iter().map(|object| object.name.clone()).collect();
        let mut hidden = BTreeSet::new();
        for (name, versions) in older {
            if let (false, Some(first)) = (shown.contains(&name), versions.first()) {
                listed.push(Listed { name: name.clone(), bytes: first.bytes });
                hidden.insert(name);
            }
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok((listed, hidden))
    }

    /// Reads a small object that must be right: the newest version if it is, else an older
    /// one that is, else what the newest read gave.
    pub async fn read_right(
        &self,
        name: &str,
        is_right: impl Fn(&Bytes) -> bool,
    ) -> Result<Option<Bytes>, BackendError> {
        let newest = self.read(name).await;
        if self.versions.is_none() || matches!(&newest, Ok(Some(bytes)) if is_right(bytes)) {
            return newest;
        }
        let older = self.older(name).await.unwrap_or_default().remove(name).unwrap_or_default();
        for version in older.iter().filter(|version| version.bytes <= RECORD_BYTES_MAX).take(TRIED_MAX) {
            match self.read_older(version, None).await {
                Ok(bytes) if is_right(&bytes) => return Ok(Some(bytes)),
                Ok(_) | Err(_) => {}
            }
        }
        newest
    }

    /// Older versions of all small objects in a folder: candidates beside what the
    /// folder shows, for a reader that checks them all.
    pub async fn older_records(&self, folder: &str) -> Vec<Bytes> {
        let mut found = Vec::new();
        for versions in self.older(&format!("{folder}/")).await.unwrap_or_default().into_values() {
            for version in versions.iter().filter(|version| version.bytes <= RECORD_BYTES_MAX).take(TRIED_MAX) {
                found.extend(self.read_older(version, None).await.ok());
            }
        }
        found
    }
}
