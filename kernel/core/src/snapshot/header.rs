//! The first 320 bytes of a snapshot.

use alloc::vec::Vec;

use crate::error::{Error, Fault};
use crate::hash::{Hash, SNAPSHOT};
use crate::id::Lineage;
use crate::state::STATE_VERSION;
use crate::wire::{Put, Reader};

/// First bytes of a snapshot.
pub const MAGIC: [u8; 8] = *b"HFKSNAP\0";
/// Version of the snapshot format.
pub const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 320;
/// A snapshot that needs no other.
pub const KIND_FULL: u8 = 0;
/// A snapshot that holds what changed since its base. Reserved: version 1 readers refuse it.
pub const KIND_INCREMENTAL: u8 = 1;
/// Offset of the version.
pub const VERSION_AT: usize = 8;
/// Offset of the kind.
pub const KIND_AT: usize = 16;
/// Offset of the lineage.
pub const LINEAGE_AT: usize = 24;
/// Offset of the parent lineage.
pub const PARENT_LINEAGE_AT: usize = 40;
/// Offset of the sequence at which the lineage opened.
pub const PARENT_SEQUENCE_AT: usize = 56;
/// Offset of the sequence.
pub const SEQUENCE_AT: usize = 64;
/// Offset of the wall time.
pub const WALL_TIME_AT: usize = 72;
/// Offset of the state hash.
pub const STATE_HASH_AT: usize = 80;
/// Offset of the chain hash.
pub const CHAIN_AT: usize = 112;
/// Offset of the base's sequence (incremental snapshots).
pub const BASE_SEQUENCE_AT: usize = 144;
/// Offset of the base's state hash (incremental snapshots).
pub const BASE_HASH_AT: usize = 152;
/// Offset of the sequence up to which derived indexes were built.
pub const INDEX_SEQUENCE_AT: usize = 184;
/// Offset of the digest of the derived indexes.
pub const INDEX_HASH_AT: usize = 192;
/// Offset of the version of the state hash.
pub const STATE_VERSION_AT: usize = 224;
/// Offset of the header's checksum.
pub const CHECKSUM_AT: usize = 288;

/// What a snapshot says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which line of sequences it belongs to.
    pub lineage: Lineage,
    /// The lineage this one branched from; [`Lineage::NONE`] for a node that was never restored.
    pub parent_lineage: Lineage,
    /// The sequence at which it branched; 0 for a node that was never restored.
    pub parent_sequence: u64,
    /// The sequence of the state.
    pub sequence: u64,
    /// When it was made, milliseconds since 1970. For people.
    pub wall_ms: i64,
    /// Hash of the state inside.
    pub state_hash: Hash,
    /// Chain hash of the log at this sequence: the next record follows from it.
    pub chain: Hash,
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut into = Vec::with_capacity(HEADER_BYTES);
        into.raw(&MAGIC);
        into.u16(VERSION);
        into.u16(HEADER_BYTES as u16);
        into.u32(0);
        into.u8(KIND_FULL);
        into.zeros(7);
        into.raw(self.lineage.as_bytes());
        into.raw(self.parent_lineage.as_bytes());
        into.u64(self.parent_sequence);
        into.u64(self.sequence);
        into.i64(self.wall_ms);
        into.raw(self.state_hash.as_bytes());
        into.raw(self.chain.as_bytes());
        into.zeros(STATE_VERSION_AT - BASE_SEQUENCE_AT);
        into.u32(STATE_VERSION);
        into.zeros(CHECKSUM_AT - STATE_VERSION_AT - 4);
        let checksum = SNAPSHOT.hash(&into);
        into.raw(checksum.as_bytes());
        into
    }

    /// Reads a header from exactly [`HEADER_BYTES`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(Error::corrupt(Fault::Magic, 0));
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(Error::Unsupported { what: "snapshot version", number: version.into() });
        }
        if bytes.len() < HEADER_BYTES {
            return Err(Error::corrupt(Fault::Truncated, bytes.len()));
        }
        if bytes.len() > HEADER_BYTES {
            return Err(Error::corrupt(Fault::TrailingBytes, HEADER_BYTES));
        }
        if SNAPSHOT.hash(&bytes[..CHECKSUM_AT]).as_bytes()[..] != bytes[CHECKSUM_AT..HEADER_BYTES] {
            return Err(Error::corrupt(Fault::Checksum, CHECKSUM_AT));
        }
        let header_bytes = reader.u16()?;
        if usize::from(header_bytes) != HEADER_BYTES {
            return Err(Error::Unsupported { what: "snapshot header length", number: header_bytes.into() });
        }
        let flags = reader.u32()?;
        if flags != 0 {
            return Err(Error::Unsupported { what: "snapshot flags", number: flags.into() });
        }
        let kind = reader.u8()?;
        if kind != KIND_FULL {
            return Err(Error::Unsupported { what: "snapshot kind", number: kind.into() });
        }
        reader.reserved(7)?;
        let header = Header {
            lineage: Lineage::from_bytes(reader.array()?),
            parent_lineage: Lineage::from_bytes(reader.array()?),
            parent_sequence: reader.u64()?,
            sequence: reader.u64()?,
            wall_ms: reader.i64()?,
            state_hash: Hash::from_bytes(reader.array()?),
            chain: Hash::from_bytes(reader.array()?),
        };
        reader.reserved(STATE_VERSION_AT - BASE_SEQUENCE_AT)?;
        let state_version = reader.u32()?;
        if state_version != STATE_VERSION {
            return Err(Error::Unsupported { what: "state hash version", number: state_version.into() });
        }
        reader.reserved(CHECKSUM_AT - STATE_VERSION_AT - 4)?;
        Ok(header)
    }
}
