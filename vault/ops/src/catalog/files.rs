//! The file cache: one row for each directory of a source, under keyed hashes.
//!
//! What always holds: rows say nothing to who has not the scope's id key but how
//! many directories there are and how large; losing all of them costs a re-read.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};

use super::{Catalog, read_id};
use crate::error::Result;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS files (
    source BLOB NOT NULL, directory BLOB NOT NULL, row BLOB NOT NULL, PRIMARY KEY (source, directory)
) STRICT;
";

/// A source or directory, by the first half of its keyed hash.
pub(crate) type RowId = [u8; 16];

impl Catalog {
    /// The row of a directory.
    pub(crate) fn files(&self, source: &RowId, directory: &RowId) -> Result<Option<Vec<u8>>> {
        let mut query = self.db.prepare_cached("SELECT row FROM files WHERE source = ?1 AND directory = ?2")?;
        Ok(query.query_row(params![source, directory], |row| row.get(0)).optional()?)
    }

    /// Writes rows of a source's directories in one transaction.
    pub(crate) fn set_files(&mut self, source: &RowId, rows: &[(RowId, Vec<u8>)]) -> Result<()> {
        let tx = self.db.transaction()?;
        {
            let mut insert = tx.prepare_cached(
                "INSERT INTO files (source, directory, row) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET row = excluded.row",
            )?;
            for (directory, row) in rows {
                insert.execute(params![source, directory, row])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// Drops the rows of directories of a source that are not among `there`.
    pub(crate) fn keep_files(&mut self, source: &RowId, there: &BTreeSet<RowId>) -> Result<usize> {
        let gone = {
            let mut query = self.db.prepare_cached("SELECT directory FROM files WHERE source = ?1")?;
            let rows = query.query_map(params![source], |row| row.get::<_, Vec<u8>>(0))?;
            let mut gone = Vec::new();
            for row in rows {
                let id = read_id(&row?, |bytes| RowId::try_from(bytes).ok())?;
                gone.extend((!there.contains(&id)).then_some(id));
            }
            gone
        };
        if gone.is_empty() {
            return Ok(0);
        }
        let tx = self.db.transaction()?;
        {
            let mut delete = tx.prepare_cached("DELETE FROM files WHERE source = ?1 AND directory = ?2")?;
            for directory in &gone {
                delete.execute(params![source, directory])?;
            }
        }
        tx.commit()?;
        Ok(gone.len())
    }
}
