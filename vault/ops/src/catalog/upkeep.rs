//! What upkeep remembers: when each shard was last read, what was put right and
//! how often a repair failed.
//!
//! What always holds: a row says that something was seen to be right, never that
//! it is; losing all of it costs reads, and the counts of what was corrected.

use std::collections::BTreeMap;

use rusqlite::params;
use vault_format::{LocationId, PackId};

use super::{AuditRow, Catalog, read_id};
use crate::error::Result;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS reads (
    location BLOB NOT NULL, pack BLOB NOT NULL, shard INTEGER NOT NULL, first_ms INTEGER NOT NULL, whole_ms INTEGER,
    PRIMARY KEY (location, pack, shard)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leaf_reads (
    location BLOB NOT NULL, pack BLOB NOT NULL, shard INTEGER NOT NULL, leaf INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (location, pack, shard, leaf)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retries (
    location BLOB NOT NULL, name TEXT NOT NULL, tries INTEGER NOT NULL, last_ms INTEGER NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (location, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS corrections (
    at_ms INTEGER NOT NULL, location BLOB NOT NULL, name TEXT NOT NULL, wrong INTEGER NOT NULL, what TEXT NOT NULL
) STRICT;
";

/// When a shard that belongs to a location was read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRow {
    /// When it was first known to belong there.
    pub first_ms: i64,
    /// When all of it was last read and found right.
    pub whole_ms: Option<i64>,
}

impl ReadRow {
    /// The age of what is not read counts from here.
    pub fn since_ms(&self) -> i64 {
        self.whole_ms.unwrap_or(self.first_ms)
    }
}

/// A write that a repair could not do, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Where.
    pub location: LocationId,
    /// The object's name there.
    pub name: String,
    /// Failures in a row.
    pub tries: u32,
    /// The last one.
    pub last_ms: i64,
    /// Why.
    pub why: String,
}

/// An object that was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// When.
    pub at_ms: i64,
    /// Where.
    pub location: LocationId,
    /// The object's name there.
    pub name: String,
    /// True if wrong bytes stood there; false if nothing did.
    pub wrong: bool,
    /// What was seen before.
    pub what: String,
}

impl Catalog {
    /// When the shards of a location were read.
    pub fn reads(&self, location: LocationId) -> Result<BTreeMap<(PackId, u8), ReadRow>> {
        let mut query =
            self.db.prepare_cached("SELECT pack, shard, first_ms, whole_ms FROM reads WHERE location = ?1")?;
        let rows = query.query_map([&location.0[..]], |row| {
            let times = ReadRow { first_ms: row.get(2)?, whole_ms: row.get(3)? };
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, times))
        })?;
        rows.map(|row| {
            let (pack, index, times) = row?;
            Ok(((read_id(&pack, PackId::from_slice)?, index), times))
        })
        .collect()
    }

    /// Makes the shards of a location known as its own from now on, and forgets
    /// those that are not.
    pub fn expect_reads(&self, location: LocationId, expected: &[(PackId, u8)], now_ms: i64) -> Result<()> {
        let known = self.reads(location)?;
        let tx = self.db.unchecked_transaction()?;
        {
            let mut insert = tx.prepare_cached(
                "INSERT OR IGNORE INTO reads (location, pack, shard, first_ms) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (pack, index) in expected.iter().filter(|shard| !known.contains_key(shard)) {
                insert.execute(params![&location.0[..], &pack.0[..], index, now_ms])?;
            }
            let expected: std::collections::BTreeSet<&(PackId, u8)> = expected.iter().collect();
            for (pack, index) in known.keys().filter(|shard| !expected.contains(shard)) {
                for table in ["reads", "leaf_reads"] {
                    tx.execute(
                        &format!("DELETE FROM {table} WHERE location = ?1 AND pack = ?2 AND shard = ?3"),
                        params![&location.0[..], &pack.0[..], index],
                    )?;
                }
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// A whole shard was read and is right.
    pub fn add_whole_read(&self, location: LocationId, pack: PackId, index: u8, at_ms: i64) -> Result<()> {
        let shard = params![&location.0[..], &pack.0[..], index, at_ms];
        self.db.execute(
            "INSERT INTO reads (location, pack, shard, first_ms, whole_ms) VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT DO UPDATE SET whole_ms = ?4",
            shard,
        )?;
        self.db.execute("DELETE FROM leaf_reads WHERE location = ?1 AND pack = ?2 AND shard = ?3", &shard[..3])?;
        Ok(())
    }

    /// Single leaves were read and are right.
    pub fn add_leaf_reads(&self, location: LocationId, leaves: &[(PackId, u8, usize)], at_ms: i64) -> Result<()> {
        let tx = self.db.unchecked_transaction()?;
        {
            let mut insert = tx.prepare_cached(
                "INSERT OR REPLACE INTO leaf_reads (location, pack, shard, leaf, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for (pack, index, leaf) in leaves {
                insert.execute(params![&location.0[..], &pack.0[..], index, (*leaf as u64).cast_signed(), at_ms])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// How many leaves of each shard of a location were read one by one since then.
    /// What is older is forgotten.
    pub fn leaves_read(&self, location: LocationId, since_ms: i64) -> Result<BTreeMap<(PackId, u8), u64>> {
        self.db
            .execute("DELETE FROM leaf_reads WHERE location = ?1 AND at_ms < ?2", params![&location.0[..], since_ms])?;
        let mut query = self
            .db
            .prepare_cached("SELECT pack, shard, count(*) FROM leaf_reads WHERE location = ?1 GROUP BY pack, shard")?;
        let rows = query
            .query_map([&location.0[..]], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get::<_, i64>(2)?)))?;
        rows.map(|row| {
            let (pack, index, leaves) = row?;
            Ok(((read_id(&pack, PackId::from_slice)?, index), leaves.unsigned_abs()))
        })
        .collect()
    }

    /// The audit history, newest first, at most so many lines.
    pub fn audits(&self, most: u32) -> Result<Vec<AuditRow>> {
        let mut query = self.db.prepare(
            "SELECT at_ms, location, samples, ok, failed, offline, full FROM audits ORDER BY at_ms DESC, rowid DESC \
             LIMIT ?1",
        )?;
        let rows = query.query_map([most], |row| {
            let count = |at| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(at)?.unsigned_abs());
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, [count(2)?, count(3)?, count(4)?, count(5)?], row.get(6)?))
        })?;
        rows.map(|row| {
            let (at_ms, location, [samples, ok, failed, offline], full) = row?;
            let location = read_id(&location, LocationId::from_slice)?;
            Ok(AuditRow { at_ms, location, samples, ok, failed, offline, full })
        })
        .collect()
    }

    /// Counts a repair that failed. Returns how many did in a row.
    pub fn add_retry(&self, location: LocationId, name: &str, now_ms: i64, why: &str) -> Result<u32> {
        Ok(self.db.query_row(
            "INSERT INTO retries (location, name, tries, last_ms, why) VALUES (?1, ?2, 1, ?3, ?4)
             ON CONFLICT DO UPDATE SET tries = tries + 1, last_ms = ?3, why = ?4 RETURNING tries",
            params![&location.0[..], name, now_ms, why],
            |row| row.get(0),
        )?)
    }

    /// Repairs that failed and were not done since.
    pub fn retries(&self) -> Result<Vec<Retry>> {
        let mut query = self.db.prepare("SELECT location, name, tries, last_ms, why FROM retries ORDER BY name")?;
        let rows = query
            .query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
        rows.map(|row| {
            let (location, name, tries, last_ms, why) = row?;
            Ok(Retry { location: read_id(&location, LocationId::from_slice)?, name, tries, last_ms, why })
        })
        .collect()
    }

    /// Logs what was put right; its failures count no more.
    pub fn add_correction(&self, correction: &Correction) -> Result<()> {
        let Correction { at_ms, location, name, wrong, what } = correction;
        self.db.execute(
            "INSERT INTO corrections (at_ms, location, name, wrong, what) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![at_ms, &location.0[..], name, wrong, what],
        )?;
        self.forget_retry(*location, name)
    }

    /// What was to be repaired is right, or is not wanted any more.
    pub fn forget_retry(&self, location: LocationId, name: &str) -> Result<()> {
        self.db.execute("DELETE FROM retries WHERE location = ?1 AND name = ?2", params![&location.0[..], name])?;
        Ok(())
    }

    /// All corrections, newest first, at most so many.
    pub fn corrections(&self, most: u32) -> Result<Vec<Correction>> {
        let mut query = self.db.prepare(
            "SELECT at_ms, location, name, wrong, what FROM corrections ORDER BY at_ms DESC, rowid DESC LIMIT ?1",
        )?;
        let rows = query.query_map([most], |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        rows.map(|row| {
            let (at_ms, location, name, wrong, what) = row?;
            Ok(Correction { at_ms, location: read_id(&location, LocationId::from_slice)?, name, wrong, what })
        })
        .collect()
    }

    /// Corrections at a location since then: all, and those of wrong bytes.
    pub fn corrected(&self, location: LocationId, since_ms: i64) -> Result<(u64, u64)> {
        let counts: (i64, i64) = self.db.query_row(
            "SELECT count(*), coalesce(sum(wrong), 0) FROM corrections WHERE location = ?1 AND at_ms >= ?2",
            params![&location.0[..], since_ms],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok((counts.0.unsigned_abs(), counts.1.unsigned_abs()))
    }
}
