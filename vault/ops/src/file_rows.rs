//! The file cache of one run: rows out of the catalog, and back in large steps.
//!
//! What always holds: trouble with the cache never fails a backup. It costs a
//! re-read and is logged.

use std::collections::BTreeSet;

use keys::PathKey;
use vault_format::Hash;

use crate::catalog::{Catalog, RowId};
use crate::error::Result;
use crate::file_cache::{KnownFiles, Row};

/// Bytes of rows that wait in memory: few transactions, and little to read again
/// after a kill.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The rows of one source, over a connection of their own.
pub(crate) struct FileRows {
    catalog: Catalog,
    key: PathKey,
    source: RowId,
    there: BTreeSet<RowId>,
    waiting: Vec<(RowId, Vec<u8>)>,
    waiting_bytes: usize,
}

impl FileRows {
    /// Rows in the catalog that `catalog` is open on.
    pub(crate) fn of(catalog: &Catalog, key: PathKey) -> Result<Self> {
        let catalog = catalog.second()?;
        Ok(Self {
            catalog,
            key,
            source: RowId::default(),
            there: BTreeSet::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
        })
    }

    /// What is known of the directory of `source` at `path`.
    pub(crate) fn open(&mut self, source: &str, path: &[u8], now_ms: i64) -> KnownFiles {
        self.source = first_half(self.key.hash(source.as_bytes()));
        let key = self.key.hash(&[source.as_bytes(), &[0], path].concat());
        let row = self.catalog.files(&self.source, &first_half(key)).unwrap_or_else(|error| {
            tracing::warn!(%error, "a row of the file cache could not be read; its files are read again");
            None
        });
        KnownFiles::new(key, row, now_ms)
    }

    /// Takes a directory's row to be written.
    pub(crate) fn close(&mut self, known: KnownFiles) {
        let id = first_half(known.key());
        match known.into_row() {
            Row::Same(false) => return,
            Row::Same(true) => {}
            Row::Write(row) => {
                self.waiting_bytes += row.len();
                self.waiting.push((id, row));
            }
        }
        self.there.insert(id);
        if self.waiting_bytes > WAITING_BYTES_MAX {
            self.write();
        }
    }

    /// Writes what waits.
    pub(crate) fn write(&mut self) {
        if !self.waiting.is_empty()
            && let Err(error) = self.catalog.set_files(&self.source, &self.waiting)
        {
            tracing::warn!(%error, "the file cache could not be written; its files are read again next time");
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// The whole source was read: rows of directories that are gone go.
    pub(crate) fn end(&mut self) {
        self.write();
        if let Err(error) = self.catalog.keep_files(&self.source, &self.there) {
            tracing::warn!(%error, "rows of directories that are gone stay in the file cache");
        }
    }
}

fn first_half(hash: Hash) -> RowId {
    let mut half = RowId::default();
    half.copy_from_slice(&hash.0[..16]);
    half
}
