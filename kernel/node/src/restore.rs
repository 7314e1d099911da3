//! A data directory from a snapshot and a log that came out of a backup.
//!
//! Everything is verified by replay before a byte is written. The restored node opens a new lineage, so
//! that no sequence of it can be mistaken for one of the node that was lost and may yet turn up; its
//! state hash at the restored sequence is the old node's, bit for bit.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use kernel_core::wal::chain_start;
use kernel_core::{ChainVerifier, Hash, Lineage, Verified};

use crate::disk::{Directory, Disk, LOCK_NAME};
use crate::error::Error;
use crate::snapshots::{self, Parent};

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The sequence it stands at.
    pub sequence: u64,
    /// The state hash there.
    pub state_hash: Hash,
    /// Its new lineage.
    pub lineage: Lineage,
    /// The lineage it came from.
    pub parent_lineage: Lineage,
}

/// Restores into a directory, which must be empty or missing.
pub fn restore_from(
    dir: &Path,
    snapshot: impl Read,
    log: impl Read,
    new_lineage: Lineage,
    wall_ms: i64,
) -> Result<Restored, Error> {
    let disk: Arc<dyn Disk> = Arc::new(Directory::lock(dir)?);
    restore_onto(disk.as_ref(), snapshot, log, new_lineage, wall_ms)
}

/// Restores onto any disk.
pub fn restore_onto(
    disk: &dyn Disk,
    snapshot: impl Read,
    log: impl Read,
    new_lineage: Lineage,
    wall_ms: i64,
) -> Result<Restored, Error> {
    let names = disk.names().map_err(Error::io("cannot list", "the target directory"))?;
    if let Some(name) = names.iter().find(|name| *name != LOCK_NAME && name.strip_suffix(".tmp").is_none()) {
        return Err(Error::BadDirectory { what: format!("it is not empty (it holds {name}); restore into a new one") });
    }
    let mut verifier = ChainVerifier::new();
    each_piece(snapshot, "the snapshot", |piece| verifier.push_snapshot(piece))?;
    let mut verifier = verifier.end_snapshot()?;
    each_piece(log, "the log", |piece| verifier.push_log(piece))?;
    let (state, old) = verifier.finish()?;
    let chain = chain_start(new_lineage, old.sequence, &old.state_hash, &old.chain);
    let at = Verified { lineage: new_lineage, chain, ..old };
    let parent = Parent { lineage: old.lineage, sequence: old.sequence };
    snapshots::write(disk, &snapshots::header(&at, parent, wall_ms), &state)?;
    Ok(Restored { sequence: at.sequence, state_hash: at.state_hash, lineage: new_lineage, parent_lineage: old.lineage })
}

fn each_piece(
    mut from: impl Read,
    name: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), kernel_core::Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Io { what: "cannot read", name: name.to_owned(), source }),
        }
    }
}
