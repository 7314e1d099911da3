//! The local catalog: SQLite, and only a cache.
//!
//! What always holds: everything here can be rebuilt from the vault; a pack is
//! `committed` only after its manifest stood on a quorum; a chunk leads to a pack
//! that was stored durable(d) when its row was written. Losing the file costs a
//! re-read, never an upload of what is stored.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use vault_format::body::IndexEntry;
use vault_format::manifest::WriterPart;
use vault_format::{ChunkId, Hash, LocationId, PackId, PointId, WriterId};

use crate::error::{OpsError, Result};

mod files;
mod heads;
mod locks;
mod lookup;
mod shown;
mod upkeep;

pub(crate) use files::RowId;
pub use heads::HeadShown;
pub use lookup::Lookup;
pub use upkeep::{Correction, ReadRow, Retry};

const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS packs (
    pack BLOB PRIMARY KEY, header BLOB NOT NULL, class INTEGER NOT NULL, state INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    id BLOB PRIMARY KEY, pack BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS points (
    point BLOB PRIMARY KEY, writer BLOB NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    pack BLOB NOT NULL, part BLOB NOT NULL, verified INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    location BLOB NOT NULL, pack BLOB NOT NULL, shard INTEGER NOT NULL, seen_ms INTEGER NOT NULL, what TEXT NOT NULL,
    PRIMARY KEY (location, pack, shard)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shown (
    location BLOB NOT NULL, pack BLOB NOT NULL, shard INTEGER NOT NULL, PRIMARY KEY (location, pack, shard)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS record_failures (
    location BLOB NOT NULL, name TEXT NOT NULL, seen_ms INTEGER NOT NULL, what TEXT NOT NULL,
    PRIMARY KEY (location, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audits (
    at_ms INTEGER NOT NULL, location BLOB NOT NULL, samples INTEGER NOT NULL, ok INTEGER NOT NULL,
    failed INTEGER NOT NULL, offline INTEGER NOT NULL, full INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS first_sights (
    kind INTEGER NOT NULL, id BLOB NOT NULL, seen_ms INTEGER NOT NULL, PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
";

/// What the catalog knows of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum PackState {
    /// On its locations, durable(d), its manifest not yet written.
    Stored = 1,
    /// Its manifest stands on a quorum.
    Committed = 2,
    /// Brought home by an import, and only a point record names it: kept and
    /// audited, but no new point leans on it.
    Imported = 3,
    /// In the spool of this host; what stands at the locations is not durable(d).
    Spooled = 4,
}

/// A pack's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub pack: PackId,
    /// Hash of its common header.
    pub header: Hash,
    /// Its class number.
    pub class: u8,
    /// Where it stands in the commit.
    pub state: PackState,
}

/// A point's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointRow {
    /// Who made it.
    pub writer: WriterId,
    /// Epoch of its manifest.
    pub epoch: u64,
    /// Sequence of its manifest.
    pub sequence: u64,
    /// The pack that holds its point record.
    pub pack: PackId,
    /// Label, times, counts, references.
    pub part: WriterPart,
    /// False if it was imported without its chain.
    pub verified: bool,
}

/// A shard that failed a verification, until it is repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub location: LocationId,
    /// Which pack.
    pub pack: PackId,
    /// Which index.
    pub index: u8,
    /// When it was seen.
    pub seen_ms: i64,
    /// What was wrong.
    pub what: String,
}

/// A copy of a record that was not the signed one, until it is repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFailure {
    /// Where.
    pub location: LocationId,
    /// Its name there.
    pub name: String,
    /// When it was seen.
    pub seen_ms: i64,
    /// What was wrong.
    pub what: String,
}

/// One location's line of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// When.
    pub at_ms: i64,
    /// Where.
    pub location: LocationId,
    /// Leaves challenged.
    pub samples: u64,
    /// Answered right.
    pub ok: u64,
    /// Answered wrong or not there.
    pub failed: u64,
    /// Not answered.
    pub offline: u64,
    /// Whether everything was read.
    pub full: bool,
}

/// The catalog file.
pub struct Catalog {
    path: PathBuf,
    pub(crate) db: Connection,
}

impl Catalog {
    /// Opens or creates the catalog. A file of another version, or one that is
    /// not a database, is refused with the advice to delete it.
    pub fn open(path: &Path) -> Result<Self> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != 0 && version != SCHEMA_VERSION {
            return Err(OpsError::Refused {
                what: format!(
                    "the catalog {} has version {version}, this program uses {SCHEMA_VERSION}. It is only a cache: \
                     delete it and run again",
                    path.display()
                ),
            });
        }
        db.execute_batch(SCHEMA)?;
        db.execute_batch(upkeep::SCHEMA)?;
        db.execute_batch(locks::SCHEMA)?;
        db.execute_batch(heads::SCHEMA)?;
        db.execute_batch(files::SCHEMA)?;
        db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        Ok(Self { path: path.to_owned(), db })
    }

    /// A second handle on the same file, for the reading thread of a backup.
    pub fn second(&self) -> Result<Self> {
        Self::open(&self.path)
    }

    /// Reads a small value.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.db.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()?)
    }

    /// Writes a small value.
    pub fn set_meta(&self, name: &str, value: &[u8]) -> Result<()> {
        self.db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", params![name, value])?;
        Ok(())
    }

    /// Notes that this host made a point pinned: its manifest says so to the janitor only.
    pub fn note_made_pinned(&self, point: PointId) -> Result<()> {
        self.set_meta(&format!("pinned.{point}"), &[1])
    }

    /// Whether this host made a point pinned, as far as this catalog knows.
    pub fn is_made_pinned(&self, point: PointId) -> Result<bool> {
        Ok(self.meta(&format!("pinned.{point}"))?.is_some())
    }

    /// Forgets a small value.
    pub fn forget_meta(&self, name: &str) -> Result<()> {
        self.db.execute("DELETE FROM meta WHERE name = ?1", [name])?;
        Ok(())
    }

    /// The pack that holds a chunk, if one does.
    pub fn chunk(&self, id: ChunkId) -> Result<Option<PackId>> {
        let mut query = self.db.prepare_cached("SELECT pack FROM chunks WHERE id = ?1")?;
        let found: Option<Vec<u8>> = query.query_row([&id.0[..]], |row| row.get(0)).optional()?;
        found.map(|bytes| read_id(&bytes, PackId::from_slice)).transpose()
    }

    /// Records a pack with its chunks in one transaction.
    pub fn add_pack(&mut self, row: PackRow, index: &[IndexEntry]) -> Result<()> {
        let tx = self.db.transaction()?;
        tx.execute(
            "INSERT OR REPLACE INTO packs (pack, header, class, state) VALUES (?1, ?2, ?3, ?4)",
            params![&row.pack.0[..], &row.header.0[..], row.class, row.state as i64],
        )?;
        {
            let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO chunks (id, pack) VALUES (?1, ?2)")?;
            for entry in index {
                insert.execute(params![&entry.id.0[..], &row.pack.0[..]])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// A pack's row.
    pub fn pack(&self, pack: PackId) -> Result<Option<PackRow>> {
        let mut query = self.db.prepare_cached("SELECT header, class, state FROM packs WHERE pack = ?1")?;
        let found = query.query_row([&pack.0[..]], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?)));
        found.optional()?.map(|(header, class, state)| pack_row(pack, &header, class, state)).transpose()
    }

    /// All packs in a state.
    pub fn packs(&self, wanted: PackState) -> Result<Vec<PackRow>> {
        let mut query =
            self.db.prepare("SELECT pack, header, class, state FROM packs WHERE state = ?1 ORDER BY pack")?;
        let rows = query.query_map([wanted as i64], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?, row.get(3)?))
        })?;
        rows.map(|row| {
            let (pack, header, class, state) = row?;
            pack_row(read_id(&pack, PackId::from_slice)?, &header, class, state)
        })
        .collect()
    }

    /// Every pack it has a row of, whatever its state.
    pub fn pack_ids(&self) -> Result<BTreeSet<PackId>> {
        let mut query = self.db.prepare("SELECT pack FROM packs")?;
        let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        rows.map(|row| read_id(&row?, PackId::from_slice)).collect()
    }

    /// A pack went on in the commit.
    pub fn set_pack_state(&self, pack: PackId, state: PackState) -> Result<()> {
        self.db.execute("UPDATE packs SET state = ?2 WHERE pack = ?1", params![&pack.0[..], state as i64])?;
        Ok(())
    }

    /// Forgets a pack and its chunks: it turned out not to be there.
    pub fn drop_pack(&mut self, pack: PackId) -> Result<()> {
        let tx = self.db.transaction()?;
        tx.execute("DELETE FROM chunks WHERE pack = ?1", [&pack.0[..]])?;
        tx.execute("DELETE FROM packs WHERE pack = ?1", [&pack.0[..]])?;
        tx.commit()?;
        Ok(())
    }

    /// Records a point whose manifest stands on a quorum, and its packs as committed.
    pub fn commit_point(&mut self, row: &PointRow, packs: &[PackId]) -> Result<()> {
        let tx = self.db.transaction()?;
        tx.execute(
            "INSERT OR REPLACE INTO points (point, writer, epoch, sequence, pack, part, verified)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                &row.part.point.0[..],
                &row.writer.0[..],
                row.epoch.cast_signed(),
                row.sequence.cast_signed(),
                &row.pack.0[..],
                vault_format::encode(&row.part),
                row.verified
            ],
        )?;
        for pack in packs {
            tx.execute(
                "UPDATE packs SET state = ?2 WHERE pack = ?1",
                params![&pack.0[..], PackState::Committed as i64],
            )?;
        }
        tx.commit()?;
        Ok(())
    }

    /// All points, oldest first.
    pub fn points(&self) -> Result<Vec<PointRow>> {
        let mut query = self.db.prepare("SELECT writer, epoch, sequence, pack, part, verified FROM points")?;
        let rows = query.query_map([], |row| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, Vec<u8>>(3)?,
                row.get::<_, Vec<u8>>(4)?,
                row.get::<_, bool>(5)?,
            ))
        })?;
        let mut points = Vec::new();
        for row in rows {
            let (writer, epoch, sequence, pack, part, verified) = row?;
            points.push(PointRow {
                writer: read_id(&writer, WriterId::from_slice)?,
                epoch: epoch.cast_unsigned(),
                sequence: sequence.cast_unsigned(),
                pack: read_id(&pack, PackId::from_slice)?,
                part: vault_format::decode("catalog point", &part)
                    .map_err(|error| OpsError::format("a point in the catalog", &error))?,
                verified,
            });
        }
        points.sort_by_key(|point| (point.part.finished_ms, point.epoch, point.sequence));
        Ok(points)
    }

    /// Whether a point is known.
    pub fn has_point(&self, point: PointId) -> Result<bool> {
        Ok(self.db.query_row("SELECT 1 FROM points WHERE point = ?1", [&point.0[..]], |_| Ok(())).optional()?.is_some())
    }

    /// Logs a failed verification. Repair overwrites only what stands here.
    pub fn add_failure(&self, failure: &Failure) -> Result<()> {
        self.db.execute(
            "INSERT OR REPLACE INTO failures (location, pack, shard, seen_ms, what) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![&failure.location.0[..], &failure.pack.0[..], failure.index, failure.seen_ms, failure.what],
        )?;
        Ok(())
    }

    /// Shards known to be bad.
    pub fn failures(&self) -> Result<Vec<Failure>> {
        let mut query = self
            .db
            .prepare("SELECT location, pack, shard, seen_ms, what FROM failures ORDER BY pack, shard, location")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        rows.map(|row| {
            let (location, pack, index, seen_ms, what) = row?;
            Ok(Failure {
                location: read_id(&location, LocationId::from_slice)?,
                pack: read_id(&pack, PackId::from_slice)?,
                index,
                seen_ms,
                what,
            })
        })
        .collect()
    }

    /// A shard was written anew and read back.
    pub fn clear_failure(&self, location: LocationId, pack: PackId, index: u8) -> Result<()> {
        self.db.execute(
            "DELETE FROM failures WHERE location = ?1 AND pack = ?2 AND shard = ?3",
            params![&location.0[..], &pack.0[..], index],
        )?;
        Ok(())
    }

    /// Logs a wrong copy of a record. Repair overwrites only what stands here.
    pub fn add_record_failure(&self, failure: &RecordFailure) -> Result<()> {
        self.db.execute(
            "INSERT OR REPLACE INTO record_failures (location, name, seen_ms, what) VALUES (?1, ?2, ?3, ?4)",
            params![&failure.location.0[..], failure.name, failure.seen_ms, failure.what],
        )?;
        Ok(())
    }

    /// Copies of records known to be wrong.
    pub fn record_failures(&self) -> Result<Vec<RecordFailure>> {
        let mut query =
            self.db.prepare("SELECT location, name, seen_ms, what FROM record_failures ORDER BY name, location")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        rows.map(|row| {
            let (location, name, seen_ms, what) = row?;
            Ok(RecordFailure { location: read_id(&location, LocationId::from_slice)?, name, seen_ms, what })
        })
        .collect()
    }

    /// A record was written anew and read back.
    pub fn clear_record_failure(&self, location: LocationId, name: &str) -> Result<()> {
        self.db
            .execute("DELETE FROM record_failures WHERE location = ?1 AND name = ?2", params![&location.0[..], name])?;
        Ok(())
    }

    /// Adds a line to the audit history.
    pub fn add_audit(&self, row: AuditRow) -> Result<()> {
        self.db.execute(
            "INSERT INTO audits (at_ms, location, samples, ok, failed, offline, full) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                row.at_ms,
                &row.location.0[..],
                row.samples.cast_signed(),
                row.ok.cast_signed(),
                row.failed.cast_signed(),
                row.offline.cast_signed(),
                row.full
            ],
        )?;
        Ok(())
    }

    /// When a location last answered an audit rightly, if ever.
    pub fn last_audit(&self, location: LocationId) -> Result<Option<i64>> {
        Ok(self.db.query_row(
            "SELECT max(at_ms) FROM audits WHERE location = ?1 AND ok > 0",
            [&location.0[..]],
            |row| row.get(0),
        )?)
    }
}

fn read_id<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
    read(bytes).ok_or_else(|| OpsError::corrupt("the local catalog", "an id has the wrong length; delete the catalog"))
}

fn pack_row(pack: PackId, header: &[u8], class: u8, state: i64) -> Result<PackRow> {
    let state = match state {
        1 => PackState::Stored,
        2 => PackState::Committed,
        3 => PackState::Imported,
        4 => PackState::Spooled,
        _ => return Err(OpsError::corrupt("the local catalog", "a pack's state is unknown; delete the catalog")),
    };
    Ok(PackRow { pack, header: read_id(header, Hash::from_slice)?, class, state })
}
