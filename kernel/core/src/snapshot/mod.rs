//! A snapshot: the whole state as one stream of bytes.
//!
//! A fixed header, then sections, each with its own checksum, then an end section. Nothing in a section
//! says where it stands, and sections are cut where the content says so, so two snapshots of nearly the
//! same state are nearly the same bytes: what a deduplicating backup wants.
//! A snapshot is accepted only if the state rebuilt from it has the state hash it carries.

mod decode;
mod encode;
mod header;

pub use decode::Decoder;
pub use encode::Encoder;
pub use header::{
    BASE_HASH_AT, BASE_SEQUENCE_AT, CHAIN_AT, CHECKSUM_AT, HEADER_BYTES, Header, INDEX_HASH_AT, INDEX_SEQUENCE_AT,
    KIND_AT, KIND_FULL, KIND_INCREMENTAL, LINEAGE_AT, MAGIC, PARENT_LINEAGE_AT, PARENT_SEQUENCE_AT, SEQUENCE_AT,
    STATE_HASH_AT, STATE_VERSION_AT, VERSION, VERSION_AT, WALL_TIME_AT,
};

use crate::error::Error;

/// Bytes before the payload of a section: tag, flags, length.
pub const SECTION_HEADER_BYTES: usize = 8;
/// Bytes of the checksum after the payload.
pub const SECTION_CHECKSUM_BYTES: usize = 32;
/// Flag of a section that a reader may skip when it does not know its tag. All others are critical.
pub const SECTION_SKIPPABLE: u16 = 1;

/// What a section holds. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// 1: opens a living collection. Tags 2 to 6 belong to the collection opened last.
    Collection,
    /// 2: its user kinds.
    Kinds,
    /// 3: its records.
    Records,
    /// 4: its nodes.
    Nodes,
    /// 5: its edges.
    Edges,
    /// 6: its trash.
    Trash,
    /// 7: opens a collection of the trash.
    TrashedCollection,
    /// 8: derived index of the collection opened last (not written yet; always skippable).
    Index,
    /// 9: things gone since the base of an incremental snapshot (not written yet).
    Removed,
    /// 255: the end.
    End,
}

impl Section {
    /// The stored number.
    pub const fn number(self) -> u16 {
        match self {
            Section::Collection => 1,
            Section::Kinds => 2,
            Section::Records => 3,
            Section::Nodes => 4,
            Section::Edges => 5,
            Section::Trash => 6,
            Section::TrashedCollection => 7,
            Section::Index => 8,
            Section::Removed => 9,
            Section::End => 255,
        }
    }

    /// The section of a stored number.
    pub fn from_number(number: u16) -> Result<Self, Error> {
        Ok(match number {
            1 => Section::Collection,
            2 => Section::Kinds,
            3 => Section::Records,
            4 => Section::Nodes,
            5 => Section::Edges,
            6 => Section::Trash,
            7 => Section::TrashedCollection,
            8 => Section::Index,
            9 => Section::Removed,
            255 => Section::End,
            _ => return Err(Error::Unsupported { what: "snapshot section", number: number.into() }),
        })
    }
}

/// Decodes a whole snapshot in memory.
pub fn decode(bytes: &[u8]) -> Result<(Header, crate::State), Error> {
    let mut decoder = Decoder::new();
    decoder.push(bytes)?;
    decoder.finish()
}
