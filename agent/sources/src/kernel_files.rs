//! A kernel's point as two files that a node can be restored from.
//!
//! What always holds: the log's file gets its name last, and only when snapshot
//! and log were replayed on their way and led to the recorded lineage, sequence,
//! state hash and chain hash, and both are on the disk. A directory with the log
//! in it is whole; anything else is not.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kernel_client::core::{ChainVerifier, Verified};
use rustix::fs::{AtFlags, Mode, OFlags};
use vault_format::point::KernelRoot;
use vault_format::tree::Content;
use vault_format::{Hash, LineageId};
use vault_ops::source::PointReader;
use vault_ops::{OpsError, Result};

use crate::checked::CheckedWriter;
use crate::descent::open_beneath;
use crate::target::{io_error, open_empty};

/// The snapshot, as the node wrote it.
pub const SNAPSHOT_FILE: &str = "snapshot.hfs";
/// The log records after it, end to end.
pub const LOG_FILE: &str = "wal.hfw";
/// Names until everything is verified.
const UNVERIFIED: &str = ".unverified";

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelReport {
    /// The lineage that was backed up. The restored node opens a new one.
    pub lineage: LineageId,
    /// Sequence of the last command.
    pub sequence: u64,
    /// State hash there, found by replay.
    pub state_hash: Hash,
    /// Chain hash there.
    pub chain_hash: Hash,
    /// Log records replayed.
    pub records: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
}

/// Writes [`SNAPSHOT_FILE`] and [`LOG_FILE`] into `to`, which must be new or
/// empty, and proves by replay that they are the recorded state. On failure
/// nothing with these names is left.
pub async fn restore_kernel(point: &dyn PointReader, root: &KernelRoot, to: &Path) -> Result<KernelReport> {
    for (what, content) in [("snapshot", &root.snapshot), ("log", &root.log)] {
        content.check().map_err(|error| OpsError::format(format!("the point's kernel {what}"), &error))?;
    }
    let files = Files { target: open_empty(to)? };
    let written = files.write(point, root).await;
    if written.is_err() {
        files.discard();
    }
    let verified = written?;
    files.publish().map_err(|error| io_error(format!("finishing the files in {}", to.display()), error))?;
    Ok(KernelReport {
        lineage: root.lineage,
        sequence: verified.sequence,
        state_hash: root.state_hash,
        chain_hash: root.chain_hash,
        records: verified.records,
        snapshot_bytes: root.snapshot.bytes,
        log_bytes: root.log.bytes,
    })
}

/// The two files being written.
struct Files {
    target: OwnedFd,
}

impl Files {
    async fn write(&self, point: &dyn PointReader, root: &KernelRoot) -> Result<Verified> {
        let mut replay = ChainVerifier::new();
        self.copy(point, &root.snapshot, SNAPSHOT_FILE, |piece| replay.push_snapshot(piece)).await?;
        let mut replay = replay.end_snapshot().map_err(|error| damaged(SNAPSHOT_FILE, &error))?;
        self.copy(point, &root.log, LOG_FILE, |piece| replay.push_log(piece)).await?;
        let (_, verified) = replay.finish().map_err(|error| damaged(LOG_FILE, &error))?;
        compare(root, &verified)?;
        Ok(verified)
    }

    /// Writes one content to its file under its first name, checked and synced.
    async fn copy<C>(&self, point: &dyn PointReader, content: &Content, name: &str, check: C) -> Result<()>
    where
        C: FnMut(&[u8]) -> std::result::Result<(), kernel_client::core::Error> + Send,
    {
        let unverified = format!("{name}{UNVERIFIED}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let doing = |error| io_error(format!("writing {unverified}"), error);
        let file = open_beneath(self.target.as_fd(), unverified.as_bytes(), flags, Mode::RUSR | Mode::WUSR);
        let mut writer = CheckedWriter::new(BufWriter::new(File::from(file.map_err(doing)?)), check);
        let read = point.read(content, &mut writer).await;
        let (mut file, failed) = writer.finish();
        if let Some(error) = failed {
            return Err(damaged(name, &error));
        }
        read?;
        file.flush().map_err(doing)?;
        let file = file.into_inner().map_err(|error| doing(error.into_error()))?;
        let bytes = file.metadata().map_err(doing)?.len();
        if bytes != content.bytes {
            let why = format!("{} bytes are recorded, {bytes} came", content.bytes);
            return Err(OpsError::corrupt(format!("the point's {name}"), why));
        }
        file.sync_all().map_err(doing)
    }

    /// Gives the files their names: the log's last.
    fn publish(&self) -> std::io::Result<()> {
        for name in [SNAPSHOT_FILE, LOG_FILE] {
            rustix::fs::renameat(&self.target, format!("{name}{UNVERIFIED}"), &self.target, name)?;
            rustix::fs::fsync(&self.target)?;
        }
        Ok(())
    }

    /// Removes what was not verified; what is not there needs no removing.
    fn discard(&self) {
        for name in [SNAPSHOT_FILE, LOG_FILE] {
            let _ = rustix::fs::unlinkat(&self.target, format!("{name}{UNVERIFIED}"), AtFlags::empty());
        }
    }
}

fn damaged(name: &str, error: &kernel_client::core::Error) -> OpsError {
    OpsError::corrupt(format!("the point's {name}"), format!("it does not replay: {error}"))
}

/// The replay led where the point record says.
fn compare(root: &KernelRoot, verified: &Verified) -> Result<()> {
    let snapshot_sequence = verified.sequence - verified.records;
    let differs = if *verified.lineage.as_bytes() != root.lineage.0 {
        Some("another lineage".to_owned())
    } else if snapshot_sequence != root.snapshot_sequence || verified.sequence != root.sequence {
        let (from, to) = (root.snapshot_sequence, root.sequence);
        let found = verified.sequence;
        Some(format!("sequences {snapshot_sequence} to {found} where {from} to {to} are recorded"))
    } else if *verified.state_hash.as_bytes() != root.state_hash.0 {
        Some(format!("state hash {} where {} is recorded", verified.state_hash, root.state_hash))
    } else if *verified.chain.as_bytes() != root.chain_hash.0 {
        Some(format!("chain hash {} where {} is recorded", verified.chain, root.chain_hash))
    } else {
        None
    };
    differs.map_or(Ok(()), |why| Err(OpsError::corrupt("the point's kernel state", format!("replay gives {why}"))))
}
