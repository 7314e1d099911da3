//! What each location showed: the newest manifest of each writer, and when it was
//! last there.
//!
//! What always holds: a place remembered here was shown by that location once, or
//! read back from it; it never goes back. Losing the table costs the memory of what
//! was shown, nothing else.

use rusqlite::{OptionalExtension, params};
use vault_format::{LocationId, WriterId};

use super::Catalog;
use crate::error::Result;
use crate::heads::Position;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS heads_shown (
    location BLOB NOT NULL, writer BLOB NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, behind_ms INTEGER, PRIMARY KEY (location, writer)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads_newest (
    writer BLOB PRIMARY KEY, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attendance (
    location BLOB PRIMARY KEY, seen_ms INTEGER NOT NULL, listed_ms INTEGER
) STRICT, WITHOUT ROWID;
";

/// The newest manifest of a writer that a location showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShown {
    /// Its place.
    pub position: Position,
    /// When it was first seen there.
    pub at_ms: i64,
    /// Since when others have shown a newer one, if they do.
    pub behind_ms: Option<i64>,
}

impl Catalog {
    /// What a location showed of a writer.
    pub fn head_shown(&self, location: LocationId, writer: WriterId) -> Result<Option<HeadShown>> {
        let mut query = self.db.prepare_cached(
            "SELECT epoch, sequence, at_ms, behind_ms FROM heads_shown WHERE location = ?1 AND writer = ?2",
        )?;
        let row = query.query_row(params![&location.0[..], &writer.0[..]], |row| {
            let position = (row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned());
            Ok(HeadShown { position, at_ms: row.get(2)?, behind_ms: row.get(3)? })
        });
        Ok(row.optional()?)
    }

    /// Remembers what a location shows of a writer, or what was read back from it.
    /// An older place than the remembered one changes nothing.
    pub fn see_head(&self, location: LocationId, writer: WriterId, position: Position, now_ms: i64) -> Result<()> {
        self.db.execute(
            "INSERT INTO heads_shown (location, writer, epoch, sequence, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (location, writer) DO UPDATE SET
                 epoch = excluded.epoch, sequence = excluded.sequence, at_ms = excluded.at_ms, behind_ms = NULL
             WHERE (excluded.epoch, excluded.sequence) > (epoch, sequence)",
            params![&location.0[..], &writer.0[..], position.0.cast_signed(), position.1.cast_signed(), now_ms],
        )?;
        Ok(())
    }

    /// Remembers since when a location has been behind the others; `None`: it is not.
    pub fn see_behind(&self, location: LocationId, writer: WriterId, behind_ms: Option<i64>) -> Result<()> {
        self.db.execute(
            "INSERT INTO heads_shown (location, writer, epoch, sequence, at_ms, behind_ms) VALUES (?1, ?2, 0, 0, 0, ?3)
             ON CONFLICT (location, writer) DO UPDATE SET behind_ms = excluded.behind_ms",
            params![&location.0[..], &writer.0[..], behind_ms],
        )?;
        Ok(())
    }

    /// The newest manifest of a writer that any location showed, and when it was first
    /// seen.
    pub fn newest_head(&self, writer: WriterId) -> Result<Option<(Position, i64)>> {
        let row = self.db.query_row(
            "SELECT epoch, sequence, at_ms FROM heads_newest WHERE writer = ?1",
            [&writer.0[..]],
            |row| {
                let position = (row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned());
                Ok((position, row.get(2)?))
            },
        );
        Ok(row.optional()?)
    }

    /// Remembers a writer's newest manifest. An older one changes nothing.
    pub fn see_newest(&self, writer: WriterId, position: Position, now_ms: i64) -> Result<()> {
        self.db.execute(
            "INSERT INTO heads_newest (writer, epoch, sequence, at_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (writer) DO UPDATE SET
                 epoch = excluded.epoch, sequence = excluded.sequence, at_ms = excluded.at_ms
             WHERE (excluded.epoch, excluded.sequence) > (epoch, sequence)",
            params![&writer.0[..], position.0.cast_signed(), position.1.cast_signed(), now_ms],
        )?;
        Ok(())
    }

    /// A location answered.
    pub fn attended(&self, location: LocationId, now_ms: i64) -> Result<()> {
        self.db.execute(
            "INSERT INTO attendance (location, seen_ms) VALUES (?1, ?2)
             ON CONFLICT (location) DO UPDATE SET seen_ms = excluded.seen_ms",
            params![&location.0[..], now_ms],
        )?;
        Ok(())
    }

    /// All shards of a location were listed, and what it showed is remembered.
    pub fn listed(&self, location: LocationId, now_ms: i64) -> Result<()> {
        self.attended(location, now_ms)?;
        let update = "UPDATE attendance SET listed_ms = ?2 WHERE location = ?1";
        self.db.execute(update, params![&location.0[..], now_ms])?;
        Ok(())
    }

    /// When a location last answered, if it ever did.
    pub fn last_attended(&self, location: LocationId) -> Result<Option<i64>> {
        let query = "SELECT seen_ms FROM attendance WHERE location = ?1";
        Ok(self.db.query_row(query, [&location.0[..]], |row| row.get(0)).optional()?)
    }

    /// Whether what a location showed is remembered: else nothing is known of it.
    pub fn was_listed(&self, location: LocationId) -> Result<bool> {
        let query = "SELECT listed_ms IS NOT NULL FROM attendance WHERE location = ?1";
        Ok(self.db.query_row(query, [&location.0[..]], |row| row.get(0)).optional()?.unwrap_or(false))
    }
}
