//! From the files of a data directory to a state whose every step was checked.
//!
//! The newest whole snapshot, then the log behind it. Each record must follow from the one before it
//! (chain), from this lineage, with the next sequence, and carry the state hash that the replay stands at.
//! Only the end of the last segment may be cut, and only if it can be a write that never completed.

use std::sync::Arc;

use kernel_core::wal::WalRecord;
use kernel_core::{Hash, Lineage, Replay, State, Verified};
use tracing::{info, warn};

use crate::cursors::Cursors;
use crate::disk::{self, Disk, LOCK_NAME};
use crate::error::Error;
use crate::log::SegmentInfo;
use crate::segment::{self, HEADER_BYTES, SegmentHeader, Tail};
use crate::snapshots::{self, Parent, SnapshotFile};

/// Mark of a clean stop: the sequence and chain hash the log must end with. Without it (after a crash)
/// rot in the last group cannot be told from a torn write; with it, it can.
pub(crate) const CLOSED_NAME: &str = "closed";

/// What an opened node found, for its log and for status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Sequence of the snapshot it started from.
    pub snapshot_sequence: u64,
    /// Log records replayed behind it.
    pub replayed: u64,
    /// Bytes of a torn write cut from the end of the log.
    pub torn_bytes: u64,
    /// True if the directory was empty and a new node was made.
    pub fresh: bool,
}

/// Everything recovery found.
pub(crate) struct Recovery {
    pub(crate) state: State,
    pub(crate) at: Verified,
    pub(crate) parent: Parent,
    /// The one it started from is the last.
    pub(crate) snapshots: Vec<SnapshotFile>,
    pub(crate) segments: Vec<SegmentInfo>,
    pub(crate) cursors: Cursors,
    pub(crate) report: Recovered,
}

fn is_ours(name: &str) -> bool {
    name == LOCK_NAME
        || name == CLOSED_NAME
        || name == crate::cursors::NAME
        || snapshots::sequence_of(name).is_some()
        || segment::first_of(name).is_some()
}

/// Opens a data directory, making a new node in an empty one.
pub(crate) fn recover(disk: &Arc<dyn Disk>, fresh_lineage: Lineage, now_ms: i64) -> Result<Recovery, Error> {
    let names = clean_names(disk.as_ref())?;
    let mut fresh = false;
    let loaded = match snapshots::load_newest(disk, &names)? {
        Some(loaded) => loaded,
        None if names.iter().all(|name| name == LOCK_NAME) => {
            fresh = true;
            make_fresh(disk, fresh_lineage, now_ms)?
        }
        None => {
            return Err(Error::BadDirectory {
                what: "it has a log but no snapshot; a node never starts empty on top of a log. Restore from the vault, or put the snapshot back".to_owned(),
            });
        }
    };
    let (header, state, snapshot) = loaded;
    let parent = Parent { lineage: header.parent_lineage, sequence: header.parent_sequence };
    let mut replay = Replay::from_snapshot(&header, state);
    let (mut segments, cut) = replay_segments(disk.as_ref(), &names, &mut replay)?;
    let cursors = Cursors::load(disk.as_ref(), &names, header.lineage)?;
    check_end(disk.as_ref(), &names, replay.at(), &cursors)?;
    // Only now: until everything else was found right, nothing is changed.
    let torn_bytes = cut.as_ref().map_or(0, |cut| cut.bytes as u64);
    if let (Some(cut), Some(last)) = (cut, segments.last_mut()) {
        last.bytes = cut.at as u64;
        cut.apply(disk.as_ref())?;
    }
    let (state, at) = replay.into_parts();
    let report = Recovered { snapshot_sequence: snapshot.sequence, replayed: at.records, torn_bytes, fresh };
    info!(sequence = at.sequence, state_hash = %at.state_hash, lineage = %at.lineage, ?report, "recovered");
    let mut snapshots = snapshots::older(disk.as_ref(), &names, snapshot.sequence);
    snapshots.push(snapshot);
    Ok(Recovery { state, at, parent, snapshots, segments, cursors, report })
}

/// Lists the directory, removing what an interrupted write left aside. Strangers are refused.
fn clean_names(disk: &dyn Disk) -> Result<Vec<String>, Error> {
    let mut names = disk.names().map_err(Error::io("cannot list", "the data directory"))?;
    names.sort();
    for name in &names {
        let aside = name.strip_suffix(".tmp").is_some_and(is_ours);
        if aside {
            disk.remove(name).map_err(Error::io("cannot remove", name))?;
        } else if !is_ours(name) {
            return Err(Error::BadDirectory {
                what: format!("it holds {name}, which no kernel node wrote; use an empty directory"),
            });
        }
    }
    names.retain(|name| is_ours(name));
    Ok(names)
}

fn make_fresh(
    disk: &Arc<dyn Disk>,
    lineage: Lineage,
    now_ms: i64,
) -> Result<(kernel_core::snapshot::Header, State, SnapshotFile), Error> {
    let mut state = State::new();
    let state_hash = state.hash();
    let chain = kernel_core::wal::chain_start(lineage, 0, &state_hash, &Hash::ZERO);
    let at = Verified { lineage, sequence: 0, state_hash, chain, records: 0 };
    let parent = Parent { lineage: Lineage::NONE, sequence: 0 };
    let header = snapshots::header(&at, parent, now_ms);
    let file = snapshots::write(disk.as_ref(), &header, &state)?;
    Ok((header, state, file))
}

/// A torn write to cut from the end of the last segment.
struct Cut {
    name: String,
    at: usize,
    bytes: usize,
}

impl Cut {
    fn apply(&self, disk: &dyn Disk) -> Result<(), Error> {
        warn!(segment = self.name, bytes = self.bytes, "cut a write that never completed from the end of the log");
        let mut file = disk.open(&self.name).map_err(Error::io("cannot open", &self.name))?;
        file.truncate(self.at as u64).map_err(Error::io("cannot cut", &self.name))?;
        file.sync().map_err(Error::io("cannot sync", &self.name))
    }
}

/// Replays all segments that reach behind the snapshot.
fn replay_segments(
    disk: &dyn Disk,
    names: &[String],
    replay: &mut Replay,
) -> Result<(Vec<SegmentInfo>, Option<Cut>), Error> {
    let firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    let mut segments = Vec::new();
    let mut cut = None;
    for (index, first) in firsts.iter().enumerate() {
        let next_first = firsts.get(index + 1).copied();
        let name = segment::file_name(*first);
        if next_first.is_some_and(|next| next <= replay.at().sequence + 1) {
            // Wholly at or below the snapshot: kept for the agent, not needed here.
            let file = disk.open(&name).map_err(Error::io("cannot open", &name))?;
            let bytes = file.bytes().map_err(Error::io("cannot read", &name))?;
            segments.push(SegmentInfo { first: *first, bytes });
            continue;
        }
        if *first > replay.at().sequence + 1 {
            let missing = replay.at().sequence + 1;
            return Err(Error::damaged_at(&name, missing, "the log segment that holds it is missing"));
        }
        let content = disk::read_all(disk, &name)?;
        let tail = replay_segment(&content, &name, *first, next_first.is_none(), replay)?;
        segments.push(SegmentInfo { first: *first, bytes: content.len() as u64 });
        if let Tail::Torn { at, bytes } = tail {
            cut = Some(Cut { name: name.clone(), at, bytes });
        }
        if let Some(next) = next_first
            && next != replay.at().sequence + 1
        {
            return Err(Error::damaged_at(
                &name,
                replay.at().sequence + 1,
                "records are missing before the next segment",
            ));
        }
    }
    Ok((segments, cut))
}

/// Replays one segment. Records at or below the snapshot are checked against the chain only.
fn replay_segment(content: &[u8], name: &str, first: u64, is_last: bool, replay: &mut Replay) -> Result<Tail, Error> {
    let header = SegmentHeader::decode(content, name)?;
    if header.lineage != replay.at().lineage || header.first != first {
        return Err(Error::BadDirectory {
            what: format!("{name} belongs to another lineage or was renamed: files of two nodes are mixed"),
        });
    }
    let mut chain = header.chain;
    let mut sequence = first;
    let mut at = HEADER_BYTES;
    check_join(name, sequence, &chain, replay.at())?;
    while let Some(next) = segment::next_record(&content[at..]) {
        let record = match next {
            Ok(record) => record,
            Err(error) if is_last && segment::may_be_torn(&error) => {
                check_reach(name, sequence, replay.at())?;
                return segment::judge_tail(content, at, sequence, header.lineage).map_err(|later| {
                    let what = format!("{error}; record {later} behind it is whole, so this is no torn write");
                    Error::damaged_at(name, sequence, what)
                });
            }
            Err(error @ kernel_core::Error::Unsupported { .. }) => return Err(error.into()),
            Err(error) => return Err(Error::damaged_at(name, sequence, error.to_string())),
        };
        push(name, &record, sequence, &chain, replay)?;
        chain = record.chain;
        at += record.bytes.len();
        sequence += 1;
        check_join(name, sequence, &chain, replay.at())?;
    }
    if is_last {
        check_reach(name, sequence, replay.at())?;
    }
    Ok(Tail::Clean)
}

/// A snapshot is only made of what the log holds synced: a log that ends before it has lost records.
fn check_reach(name: &str, next: u64, at: &Verified) -> Result<(), Error> {
    if next <= at.sequence {
        return Err(Error::damaged_at(
            name,
            next,
            format!("the log ends there, but there is a snapshot of {}", at.sequence),
        ));
    }
    Ok(())
}

fn push(name: &str, record: &WalRecord<'_>, sequence: u64, chain: &Hash, replay: &mut Replay) -> Result<(), Error> {
    if record.header.sequence != sequence || !record.follows(chain) {
        return Err(Error::damaged_at(name, sequence, "the record there does not follow from the one before it"));
    }
    if sequence <= replay.at().sequence {
        return Ok(());
    }
    replay.push(record).map_err(|error| match error {
        kernel_core::Error::Unsupported { .. } => error.into(),
        kernel_core::Error::Corrupt { .. }
        | kernel_core::Error::NotFound { .. }
        | kernel_core::Error::Conflict { .. }
        | kernel_core::Error::Refused(_)
        | kernel_core::Error::Item { .. } => Error::damaged_at(name, sequence, error.to_string()),
    })
}

/// Where log and snapshot meet, their chain hashes must be one.
fn check_join(name: &str, next: u64, chain: &Hash, at: &Verified) -> Result<(), Error> {
    if next == at.sequence + 1 && *chain != at.chain {
        return Err(Error::damaged_at(name, at.sequence, "log and snapshot do not belong together there"));
    }
    Ok(())
}

/// What others know about the end of the log: the mark of a clean stop, and the agent.
fn check_end(disk: &dyn Disk, names: &[String], at: &Verified, cursors: &Cursors) -> Result<(), Error> {
    if cursors.durable_seq > at.sequence {
        let what = format!(
            "the log ends there, but the vault has acknowledged {}; restore from the vault",
            cursors.durable_seq
        );
        return Err(Error::damaged_at("the log", at.sequence, what));
    }
    if names.iter().any(|name| name == CLOSED_NAME) {
        let mark = disk::read_all(disk, CLOSED_NAME)?;
        if mark != closed_mark(at) {
            let what = "the node was stopped cleanly, but its log does not end where it did then";
            return Err(Error::damaged_at("the log", at.sequence, what));
        }
    }
    Ok(())
}

/// Content of the mark: 8 bytes magic, sequence, chain hash.
pub(crate) fn closed_mark(at: &Verified) -> Vec<u8> {
    let mut mark = b"HFKCLOSE".to_vec();
    mark.extend_from_slice(&at.sequence.to_le_bytes());
    mark.extend_from_slice(at.chain.as_bytes());
    mark
}
