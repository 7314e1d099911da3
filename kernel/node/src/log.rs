//! The write-ahead log: segments in order, the last one open for appending.
//!
//! Only the writer appends and releases. Readers (WAL shipping) open segments on their own and stop
//! at the published sequence, so they never see a record before it is durable.

use std::sync::{Arc, Mutex, PoisonError};

use kernel_core::wal::{SEQUENCE_AT, WalRecord, record_length};
use kernel_core::{Hash, Lineage};
use tracing::info;

use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::segment::{self, HEADER_BYTES, SegmentHeader};

/// A segment on disk. It ends where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) first: u64,
    pub(crate) bytes: u64,
}

/// The segments, shared with readers.
pub(crate) type Segments = Arc<Mutex<Vec<SegmentInfo>>>;

/// The log, as the writer has it.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    lineage: Lineage,
    segments: Segments,
    active: Box<dyn DiskFile>,
    active_bytes: u64,
    segment_bytes: u64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The guarded lists are replaced whole; a panic elsewhere cannot leave them half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Opens for appending behind the last of `segments`, or in a first one.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        lineage: Lineage,
        mut segments: Vec<SegmentInfo>,
        segment_bytes: u64,
        next: u64,
        chain: &Hash,
    ) -> Result<Self, Error> {
        if segments.is_empty() {
            segments.push(create(disk.as_ref(), &SegmentHeader { lineage, first: next, chain: *chain })?);
        }
        let last = segments.last().cloned().expect("a segment was just pushed if there was none");
        let name = segment::file_name(last.first);
        let active = disk.open(&name).map_err(Error::io("cannot open", &name))?;
        Ok(Log {
            disk,
            lineage,
            segments: Arc::new(Mutex::new(segments)),
            active,
            active_bytes: last.bytes,
            segment_bytes,
        })
    }

    pub(crate) fn segments(&self) -> Segments {
        Arc::clone(&self.segments)
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.segments).iter().map(|segment| segment.bytes).sum()
    }

    /// Opens a new segment if the active one is full. Called between groups, so that a group is never
    /// split, and only after what stands in the active one was synced.
    pub(crate) fn rotate_if_full(&mut self, next: u64, chain: &Hash) -> Result<(), Error> {
        if self.active_bytes < self.segment_bytes {
            return Ok(());
        }
        self.sync()?;
        let header = SegmentHeader { lineage: self.lineage, first: next, chain: *chain };
        let info = create(self.disk.as_ref(), &header)?;
        let name = segment::file_name(next);
        self.active = self.disk.open(&name).map_err(Error::io("cannot open", &name))?;
        self.active_bytes = info.bytes;
        lock(&self.segments).push(info);
        Ok(())
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.active.append(bytes).map_err(Error::io("cannot append to", "the log"))?;
        self.active_bytes += bytes.len() as u64;
        if let Some(last) = lock(&self.segments).last_mut() {
            last.bytes = self.active_bytes;
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.active.sync().map_err(Error::io("cannot sync", "the log"))
    }

    /// Removes segments that hold nothing after `sequence`, oldest first. Never the active one.
    pub(crate) fn release(&mut self, sequence: u64) -> Result<(), Error> {
        let due: Vec<SegmentInfo> = {
            let segments = lock(&self.segments);
            let whole = segments.windows(2).take_while(|pair| pair[1].first <= sequence + 1);
            whole.map(|pair| pair[0].clone()).collect()
        };
        for released in due {
            let name = segment::file_name(released.first);
            // Readers must not find it any more when it goes.
            lock(&self.segments).retain(|segment| segment.first != released.first);
            self.disk.remove(&name).map_err(Error::io("cannot remove", &name))?;
            info!(segment = name, bytes = released.bytes, "log segment released");
        }
        self.disk.sync_names().map_err(Error::io("cannot sync", "the data directory"))
    }
}

/// Puts an empty segment in place.
fn create(disk: &dyn Disk, header: &SegmentHeader) -> Result<SegmentInfo, Error> {
    crate::disk::replace(disk, &segment::file_name(header.first), &header.encode())?;
    Ok(SegmentInfo { first: header.first, bytes: HEADER_BYTES as u64 })
}

/// A piece of the log: whole records, end to end, as framed on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTail {
    /// Sequence of the first record, if there is one.
    pub first: Option<u64>,
    /// Sequence of the last.
    pub last: Option<u64>,
    /// The records.
    pub bytes: Vec<u8>,
}

/// Reads the log for shipping.
///
/// It remembers where its last answers ended: an agent asks for what follows them, many times a second,
/// and should not have a segment walked from its start each time.
pub(crate) struct Reader {
    disk: Arc<dyn Disk>,
    segments: Segments,
    places: Mutex<Vec<Place>>,
}

/// Behind the record `sequence` stands byte `at` of a segment.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    sequence: u64,
    at: u64,
}

/// Places remembered: one per agent that ships, and there are few.
const PLACES_MAX: usize = 8;

/// What one request wants.
struct Wanted {
    after: u64,
    durable: u64,
    bytes_max: usize,
}

impl Reader {
    pub(crate) fn new(disk: Arc<dyn Disk>, segments: Segments) -> Self {
        Reader { disk, segments, places: Mutex::default() }
    }

    /// Reads the records after `after` up to `durable`: at least one, then as many as fit `bytes_max`.
    pub(crate) fn read_after(&self, after: u64, durable: u64, bytes_max: usize) -> Result<LogTail, Error> {
        let mut tail = LogTail::default();
        if after >= durable {
            return Ok(tail);
        }
        let listed = lock(&self.segments).clone();
        let start = listed.partition_point(|segment| segment.first <= after + 1);
        if start == 0 {
            let oldest = listed.first().map_or(durable, |segment| segment.first);
            let missing = after + 1;
            return Err(Error::Gone {
                what: format!(
                    "the log before sequence {oldest} was released, {missing} was asked for: the chain is broken there; take a new snapshot"
                ),
            });
        }
        let wanted = Wanted { after, durable, bytes_max };
        for segment in &listed[start - 1..] {
            if !self.read_segment(segment.first, &wanted, &mut tail)? {
                break;
            }
        }
        Ok(tail)
    }

    /// Adds records of one segment; true if the next segment should be read too.
    fn read_segment(&self, first: u64, wanted: &Wanted, tail: &mut LogTail) -> Result<bool, Error> {
        let name = segment::file_name(first);
        let file = self.disk.open(&name).map_err(|_| Error::Gone {
            what: format!("log segment {name} was released while it was read; take a new snapshot"),
        })?;
        let mut at = self.place(first, wanted.after);
        loop {
            let Some((length, sequence)) = peek(file.as_ref(), at, &name)? else { return Ok(true) };
            if sequence > wanted.durable {
                return Ok(false);
            }
            if sequence > wanted.after {
                let expected = tail.last.unwrap_or(wanted.after) + 1;
                if sequence != expected {
                    return Err(Error::damaged_at(&name, expected, "records are missing there"));
                }
                if tail.last.is_some() && tail.bytes.len() + length > wanted.bytes_max {
                    return Ok(false);
                }
                read_record(file.as_ref(), at, length, &name, &mut tail.bytes)?;
                tail.first.get_or_insert(sequence);
                tail.last = Some(sequence);
                self.remember(Place { segment: first, sequence, at: at + length as u64 }, wanted.after);
            }
            at += length as u64;
            if sequence == wanted.durable {
                return Ok(false);
            }
        }
    }

    /// Where to begin in a segment to find the record behind `after`.
    fn place(&self, segment: u64, after: u64) -> u64 {
        let places = lock(&self.places);
        let known = places.iter().find(|place| place.segment == segment && place.sequence == after);
        known.map_or(HEADER_BYTES as u64, |place| place.at)
    }

    /// Replaces the place this request began or went on from.
    fn remember(&self, place: Place, after: u64) {
        let mut places = lock(&self.places);
        places.retain(|known| !(after..=place.sequence).contains(&known.sequence));
        if places.len() == PLACES_MAX {
            places.remove(0);
        }
        places.push(place);
    }
}

/// Length and sequence of the record at `at`; None at the end of the file.
fn peek(file: &dyn DiskFile, at: u64, name: &str) -> Result<Option<(usize, u64)>, Error> {
    let mut start = [0; SEQUENCE_AT + 8];
    let read = file.read_at(at, &mut start).map_err(Error::io("cannot read", name))?;
    if read == 0 {
        return Ok(None);
    }
    if read < start.len() {
        return Err(damaged(name, at, "a record is cut short"));
    }
    let length = record_length(&start).map_err(|error| damaged(name, at, &error.to_string()))?;
    Ok(Some((length, u64::from_le_bytes(segment::array(&start, SEQUENCE_AT)))))
}

/// Appends one record to `into`, checked.
fn read_record(file: &dyn DiskFile, at: u64, length: usize, name: &str, into: &mut Vec<u8>) -> Result<(), Error> {
    let start = into.len();
    into.resize(start + length, 0);
    let read = file.read_at(at, &mut into[start..]).map_err(Error::io("cannot read", name))?;
    WalRecord::decode(&into[start..start + read]).map_err(|error| damaged(name, at, &error.to_string()))?;
    Ok(())
}

fn damaged(name: &str, at: u64, what: &str) -> Error {
    Error::Corrupt { file: name.to_owned(), place: format!("byte {at}"), what: what.to_owned() }
}
