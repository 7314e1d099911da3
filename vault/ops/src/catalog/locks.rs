//! What is known of retention locks: until when each object was seen to be locked.
//!
//! What always holds: a row says until when a lock was seen to hold, never more;
//! losing all of it costs a question per object.

use std::collections::BTreeMap;

use rusqlite::params;
use vault_format::LocationId;

use super::Catalog;
use crate::error::Result;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS locks (
    location BLOB NOT NULL, name TEXT NOT NULL, until_ms INTEGER NOT NULL, PRIMARY KEY (location, name)
) STRICT, WITHOUT ROWID;
";

impl Catalog {
    /// Until when each object of a location is known to be locked.
    pub fn locks(&self, location: LocationId) -> Result<BTreeMap<String, i64>> {
        let mut rows = self.db.prepare("SELECT name, until_ms FROM locks WHERE location = ?1")?;
        let rows = rows.query_map(params![location.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// An object was seen to be locked until then.
    pub fn set_lock(&self, location: LocationId, name: &str, until_ms: i64) -> Result<()> {
        self.db.execute(
            "INSERT OR REPLACE INTO locks (location, name, until_ms) VALUES (?1, ?2, ?3)",
            params![location.0, name, until_ms],
        )?;
        Ok(())
    }
}
