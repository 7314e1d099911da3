//! Snapshot files: written aside, synced, renamed, the directory synced, then read back.

use std::sync::Arc;

use kernel_core::snapshot::{Decoder, Encoder, HEADER_BYTES, Header};
use kernel_core::{Hash, Lineage, State, Verified};
use tracing::{error, info};

use crate::disk::Disk;
use crate::error::Error;

const PIECE_BYTES: usize = 1 << 20;

/// How many snapshots are kept: the second is what recovery falls back to if the newest is damaged.
pub(crate) const KEPT: usize = 2;

/// One snapshot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) name: String,
    pub(crate) sequence: u64,
    pub(crate) state_hash: Hash,
    pub(crate) lineage: Lineage,
    pub(crate) wall_ms: i64,
    pub(crate) bytes: u64,
}

pub(crate) fn file_name(sequence: u64) -> String {
    format!("snap-{sequence:016x}.hfs")
}

pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("snap-")?.strip_suffix(".hfs")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Where a lineage came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) lineage: Lineage,
    pub(crate) sequence: u64,
}

pub(crate) fn header(at: &Verified, parent: Parent, wall_ms: i64) -> Header {
    Header {
        lineage: at.lineage,
        parent_lineage: parent.lineage,
        parent_sequence: parent.sequence,
        sequence: at.sequence,
        wall_ms,
        state_hash: at.state_hash,
        chain: at.chain,
    }
}

/// Writes a snapshot and reads it back.
pub(crate) fn write(disk: &dyn Disk, header: &Header, state: &State) -> Result<SnapshotFile, Error> {
    let name = file_name(header.sequence);
    let aside = format!("{name}.tmp");
    let mut file = disk.create(&aside).map_err(Error::io("cannot create", &aside))?;
    let mut written = blake3::Hasher::new();
    let mut bytes = 0;
    for piece in Encoder::new(header, state) {
        file.append(&piece).map_err(Error::io("cannot write", &aside))?;
        written.update(&piece);
        bytes += piece.len() as u64;
    }
    file.sync().map_err(Error::io("cannot sync", &aside))?;
    drop(file);
    disk.rename(&aside, &name).map_err(Error::io("cannot rename to", &name))?;
    disk.sync_names().map_err(Error::io("cannot sync the directory of", &name))?;
    let mut read = blake3::Hasher::new();
    for_each_piece(disk, &name, |piece| {
        read.update(piece);
        Ok(())
    })?;
    if read.finalize() != written.finalize() {
        return Err(Error::Corrupt {
            file: name,
            place: "the read-back after writing".to_owned(),
            what: "the disk does not return what was written".to_owned(),
        });
    }
    info!(name, sequence = header.sequence, bytes, state_hash = %header.state_hash, "snapshot written");
    Ok(describe(&name, header, bytes))
}

/// Runs over a file in pieces; returns its length.
pub(crate) fn for_each_piece(
    disk: &dyn Disk,
    name: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let file = disk.open(name).map_err(Error::io("cannot open", name))?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(at, &mut buffer).map_err(Error::io("cannot read", name))?;
        if read == 0 {
            return Ok(at);
        }
        take(&buffer[..read])?;
        at += read as u64;
    }
}

fn load(disk: &dyn Disk, name: &str) -> Result<(Header, State, u64), Error> {
    let mut decoder = Decoder::new();
    let bytes = for_each_piece(disk, name, |piece| Ok(decoder.push(piece)?))?;
    let (header, state) = decoder.finish()?;
    Ok((header, state, bytes))
}

/// The snapshots before `sequence` whose header is whole, oldest first. What they hold is checked when it
/// is needed.
pub(crate) fn older(disk: &dyn Disk, names: &[String], sequence: u64) -> Vec<SnapshotFile> {
    let mut listed: Vec<SnapshotFile> = names
        .iter()
        .filter(|name| sequence_of(name).is_some_and(|found| found < sequence))
        .filter_map(|name| {
            let file = disk.open(name).ok()?;
            let mut bytes = [0; HEADER_BYTES];
            file.read_at(0, &mut bytes).ok()?;
            Some(describe(name, &Header::decode(&bytes).ok()?, file.bytes().ok()?))
        })
        .collect();
    listed.sort_by_key(|file| file.sequence);
    listed
}

fn describe(name: &str, header: &Header, bytes: u64) -> SnapshotFile {
    SnapshotFile {
        name: name.to_owned(),
        sequence: header.sequence,
        state_hash: header.state_hash,
        lineage: header.lineage,
        wall_ms: header.wall_ms,
        bytes,
    }
}

/// The newest snapshot that is whole, and the files of all that are at least there. A damaged one is
/// reported and passed over: the log is kept from the second newest on, so nothing is lost by it.
pub(crate) fn load_newest(
    disk: &Arc<dyn Disk>,
    names: &[String],
) -> Result<Option<(Header, State, SnapshotFile)>, Error> {
    let mut listed: Vec<&String> = names.iter().filter(|name| sequence_of(name).is_some()).collect();
    listed.sort();
    let mut last_error = None;
    for name in listed.into_iter().rev() {
        match load(disk.as_ref(), name) {
            Ok((header, state, bytes)) => {
                if sequence_of(name) != Some(header.sequence) {
                    return Err(Error::BadDirectory {
                        what: format!("{name} holds sequence {}: it was renamed", header.sequence),
                    });
                }
                let file = describe(name, &header, bytes);
                return Ok(Some((header, state, file)));
            }
            Err(Error::Kernel(what @ kernel_core::Error::Unsupported { .. })) => return Err(what.into()),
            Err(Error::Kernel(what)) => {
                error!(name, %what, "snapshot is damaged; trying the one before it and the log");
                let (file, place) = (name.clone(), "its content".to_owned());
                last_error = Some(Error::Corrupt { file, place, what: what.to_string() });
            }
            Err(error) => return Err(error),
        }
    }
    last_error.map_or(Ok(None), Err)
}
