//! What a janitor remembers in its catalog: when it first saw a thing, and which
//! condemnations it found sound.
//!
//! What always holds: a first sight is never moved; losing them delays what is
//! deleted and costs nothing else.

use rusqlite::params;
use vault_format::{Hash, PackId, PointId, WriterId};

use crate::catalog::Catalog;
use crate::error::Result;

/// What kinds of things are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
enum Sight {
    Manifest = 1,
    Orphan = 2,
    Sound = 3,
}

impl Catalog {
    /// When a manifest was seen first: now, if never before.
    pub fn first_sight(&self, manifest: Hash, now_ms: i64) -> Result<i64> {
        self.sight(Sight::Manifest, &manifest.0, now_ms)
    }

    /// When a pack that no manifest knows was seen first.
    pub fn orphan_sight(&self, pack: PackId, now_ms: i64) -> Result<i64> {
        self.sight(Sight::Orphan, &pack.0, now_ms)
    }

    /// Remembers that no tombstone of a later epoch stood when this one did.
    pub fn remember_sound(&self, tombstone: Hash, now_ms: i64) -> Result<()> {
        self.sight(Sight::Sound, &tombstone.0, now_ms).map(drop)
    }

    /// Whether a condemnation was found sound.
    pub fn is_sound(&self, tombstone: Hash) -> Result<bool> {
        let count: i64 = self.db.query_row(
            "SELECT count(*) FROM first_sights WHERE kind = ?1 AND id = ?2",
            params![Sight::Sound as i64, &tombstone.0[..]],
            |row| row.get(0),
        )?;
        Ok(count > 0)
    }

    fn sight(&self, kind: Sight, id: &[u8], now_ms: i64) -> Result<i64> {
        self.db.execute(
            "INSERT OR IGNORE INTO first_sights (kind, id, seen_ms) VALUES (?1, ?2, ?3)",
            params![kind as i64, id, now_ms],
        )?;
        Ok(self.db.query_row(
            "SELECT seen_ms FROM first_sights WHERE kind = ?1 AND id = ?2",
            params![kind as i64, id],
            |row| row.get(0),
        )?)
    }

    /// Forgets a point whose manifest was swept.
    pub fn drop_point(&self, point: PointId, writer: WriterId) -> Result<()> {
        self.db.execute("DELETE FROM points WHERE point = ?1 AND writer = ?2", params![&point.0[..], &writer.0[..]])?;
        Ok(())
    }
}
