//! One record of the write-ahead log, and the chain that binds it to all before it.
//!
//! The CRC finds a torn or rotten record without hashing; the chain hash makes "these records, in this
//! order, from this start" one value that cannot be faked; the state hash before the record makes a
//! replay that has gone wrong stop at the first record instead of at the end.

use alloc::vec::Vec;

use crate::crc32c::crc32c;
use crate::error::{Error, Fault};
use crate::hash::{CHAIN, Hash, LINEAGE};
use crate::id::Lineage;
use crate::limits::COMMAND_BYTES_MAX;
use crate::wire::{Put, Reader};

/// First bytes of a record. Lets a scan look for records after damage.
pub const MAGIC: [u8; 4] = *b"HFWR";
/// Version of the record format.
pub const VERSION: u16 = 1;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 120;
/// Offset of the length.
pub const LENGTH_AT: usize = 4;
/// Offset of the CRC-32C, which covers everything after itself.
pub const CRC_AT: usize = 8;
/// Offset of the version: the CRC covers from here on.
pub const VERSION_AT: usize = 12;
/// Offset of the lineage.
pub const LINEAGE_AT: usize = 16;
/// Offset of the sequence.
pub const SEQUENCE_AT: usize = 32;
/// Offset of the synced sequence.
pub const SYNCED_AT: usize = 40;
/// Offset of the wall time.
pub const WALL_TIME_AT: usize = 48;
/// Offset of the state hash before the record.
pub const STATE_BEFORE_AT: usize = 56;
/// Offset of the chain hash.
pub const CHAIN_AT: usize = 88;
/// Bytes of the longest record.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + COMMAND_BYTES_MAX as usize;

/// What a record says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Which line of sequences it belongs to.
    pub lineage: Lineage,
    /// Its number, dense from 1.
    pub sequence: u64,
    /// The sequence known to be on disk when this record was written. Damage at or below the synced
    /// sequence of any later record cannot be a torn write, so it is never cut away as one.
    pub synced: u64,
    /// When it was written, milliseconds since 1970. For people; never part of the state.
    pub wall_ms: i64,
    /// State hash before the record was applied.
    pub state_before: Hash,
}

/// A record as read from bytes whose CRC is right.
#[derive(Debug, Clone, Copy)]
pub struct WalRecord<'a> {
    /// What it says about itself.
    pub header: RecordHeader,
    /// Chain hash up to and including this record.
    pub chain: Hash,
    /// One encoded command.
    pub payload: &'a [u8],
    /// The whole record.
    pub bytes: &'a [u8],
}

/// Where the chain of a lineage starts: bound to what it continues from.
pub fn chain_start(lineage: Lineage, sequence: u64, state: &Hash, parent_chain: &Hash) -> Hash {
    let mut bytes = Vec::with_capacity(16 + 8 + 64);
    bytes.raw(lineage.as_bytes());
    bytes.u64(sequence);
    bytes.raw(state.as_bytes());
    bytes.raw(parent_chain.as_bytes());
    LINEAGE.hash(&bytes)
}

/// BLAKE3(previous chain hash, record): the record without its magic, CRC and the chain hash itself.
fn chain_hash(previous: &Hash, record: &[u8]) -> Hash {
    let mut hasher = CHAIN.hasher();
    hasher.update(previous.as_bytes());
    hasher.update(&record[LENGTH_AT..CRC_AT]);
    hasher.update(&record[VERSION_AT..CHAIN_AT]);
    hasher.update(&record[HEADER_BYTES..]);
    Hash::from_hasher(&hasher)
}

/// Appends one record to `into` and returns the chain hash it ends with.
/// The payload comes from [`crate::Command::encode`], which keeps to the limit.
pub fn append_record(into: &mut Vec<u8>, header: &RecordHeader, previous: &Hash, payload: &[u8]) -> Hash {
    assert!(payload.len() <= COMMAND_BYTES_MAX as usize, "a payload is one encoded command");
    let start = into.len();
    into.reserve(HEADER_BYTES + payload.len());
    into.raw(&MAGIC);
    into.u32((HEADER_BYTES + payload.len()) as u32);
    into.u32(0);
    into.u16(VERSION);
    into.zeros(2);
    into.raw(header.lineage.as_bytes());
    into.u64(header.sequence);
    into.u64(header.synced);
    into.i64(header.wall_ms);
    into.raw(header.state_before.as_bytes());
    into.zeros(32);
    into.raw(payload);
    let record = &mut into[start..];
    let chain = chain_hash(previous, record);
    record[CHAIN_AT..HEADER_BYTES].copy_from_slice(chain.as_bytes());
    let crc = crc32c(&record[VERSION_AT..]);
    record[CRC_AT..VERSION_AT].copy_from_slice(&crc.to_le_bytes());
    chain
}

/// Length of the record that starts here. [`Fault::Truncated`] when its first eight bytes are not all there.
pub fn record_length(bytes: &[u8]) -> Result<usize, Error> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != MAGIC {
        return Err(Error::corrupt(Fault::Magic, 0));
    }
    let length = reader.u32()? as usize;
    if length < HEADER_BYTES {
        return Err(Error::corrupt(Fault::Truncated, LENGTH_AT));
    }
    if length > RECORD_BYTES_MAX {
        return Err(Error::corrupt(Fault::TooLarge, LENGTH_AT));
    }
    Ok(length)
}

impl<'a> WalRecord<'a> {
    /// Reads the record at the start of `bytes`; more may follow it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let length = record_length(bytes)?;
        if length > bytes.len() {
            return Err(Error::corrupt(Fault::Truncated, bytes.len()));
        }
        let bytes = &bytes[..length];
        let mut reader = Reader::new(bytes);
        reader.take(CRC_AT)?;
        if reader.u32()? != crc32c(&bytes[VERSION_AT..]) {
            return Err(Error::corrupt(Fault::Checksum, CRC_AT));
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(Error::Unsupported { what: "WAL record version", number: version.into() });
        }
        let flags = reader.u16()?;
        if flags != 0 {
            return Err(Error::Unsupported { what: "WAL record flags", number: flags.into() });
        }
        let header = RecordHeader {
            lineage: Lineage::from_bytes(reader.array()?),
            sequence: reader.u64()?,
            synced: reader.u64()?,
            wall_ms: reader.i64()?,
            state_before: Hash::from_bytes(reader.array()?),
        };
        let chain = Hash::from_bytes(reader.array()?);
        Ok(WalRecord { header, chain, payload: &bytes[HEADER_BYTES..], bytes })
    }

    /// Does the record follow from `previous`?
    pub fn follows(&self, previous: &Hash) -> bool {
        chain_hash(previous, self.bytes) == self.chain
    }
}
