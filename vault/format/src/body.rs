//! The pack body: `frames | index section | table of contents | locators`.
//!
//! Every byte of the body is ciphertext or a tag: the table of contents is
//! padded with zeros before it is sealed so that the body fills its class
//! exactly, and nothing outside tells where a chunk ends. See FORMAT.md, "Pack
//! body".

use crate::FormatError;
use crate::bytes::{Put, Reader};
use crate::cbor::numbered;
use crate::ids::{ChunkId, PackId};
use crate::suite::TAG_BYTES;

/// Bytes of one entry of the table of contents.
pub const TOC_ENTRY_BYTES: usize = 44;
/// Bytes of one entry of the index section.
pub const INDEX_ENTRY_BYTES: usize = 40;
/// Bytes of the count that opens either section.
pub const SECTION_HEAD_BYTES: usize = 8;
/// Plain bytes of one locator.
pub const LOCATOR_PLAIN_BYTES: usize = 32;
/// Sealed bytes of one locator.
pub const LOCATOR_BYTES: usize = LOCATOR_PLAIN_BYTES + TAG_BYTES;
/// Bytes at the end of every body: the writer's locator, then the reader's.
pub const LOCATORS_BYTES: usize = 2 * LOCATOR_BYTES;
/// Most plain bytes of a chunk, whatever the vault record says.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024 * 1024;

numbered! {
    /// What a chunk holds. A hint for readers; the id is what is checked.
    ChunkKind {
        /// Bytes of a file, a snapshot or any other content.
        1 Data,
        /// Bytes of a directory listing.
        2 Tree,
        /// A list of chunks: one level of a long content.
        3 List,
        /// A point record: the last frame of a point's last pack.
        4 PointRecord,
    }
}

numbered! {
    /// How a frame's plain bytes were made from the chunk.
    Codec {
        /// As they are.
        0 Raw,
        /// One zstd frame.
        1 Zstd,
    }
}

numbered! {
    /// What a nonce is used for. The nonce is this number, three zero bytes and
    /// the counter, little-endian.
    NonceDomain {
        /// A chunk; the counter is its frame index.
        0 Frame,
        /// The table of contents, or the index section under its own key.
        1 Section,
        /// A locator.
        2 Locator,
    }
}

/// The 12-byte AES-GCM nonce of a part of the body.
pub fn nonce(domain: NonceDomain, counter: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[0] = domain as u8;
    out[4..].copy_from_slice(&counter.to_le_bytes());
    out
}

/// A chunk as it stands in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TocEntry {
    /// Keyed hash of the plain chunk.
    pub id: ChunkId,
    /// Sealed bytes without the tag: what the codec produced.
    pub coded_bytes: u32,
    /// Plain bytes of the chunk.
    pub plain_bytes: u32,
    /// What it holds.
    pub kind: ChunkKind,
    /// How it was coded.
    pub codec: Codec,
}

impl TocEntry {
    /// Bytes the frame takes in the body.
    pub fn frame_bytes(&self) -> usize {
        self.coded_bytes as usize + TAG_BYTES
    }

    /// Associated data that bind a frame to its pack, place, id, length and codec.
    pub fn associated_data(&self, pack: PackId, frame: u32) -> [u8; 76] {
        let mut out = Vec::with_capacity(76);
        out.put(b"holdfast frame 1");
        out.put(&pack.0);
        out.put(&frame.to_le_bytes());
        out.put(&self.id.0);
        out.put(&self.plain_bytes.to_le_bytes());
        out.put(&[self.kind as u8, self.codec as u8, 0, 0]);
        out.try_into().expect("the fields add up to 76 bytes")
    }
}

/// The table of contents with its frames' offsets, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toc {
    /// Frames in the order they stand, back to back from offset 0.
    pub entries: Vec<TocEntry>,
}

impl Toc {
    /// Plain bytes, padded with zeros to `plain_bytes`.
    ///
    /// # Panics
    /// If `plain_bytes` is too small; the pack's capacity was checked before.
    pub fn encode(&self, plain_bytes: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain_bytes);
        out.put(&(self.entries.len() as u32).to_le_bytes());
        out.put_zero(4);
        for entry in &self.entries {
            out.put(&entry.id.0);
            out.put(&entry.coded_bytes.to_le_bytes());
            out.put(&entry.plain_bytes.to_le_bytes());
            out.put(&[entry.kind as u8, entry.codec as u8, 0, 0]);
        }
        assert!(out.len() <= plain_bytes, "the table of contents was planned too small");
        out.resize(plain_bytes, 0);
        out
    }

    /// Reads a table; everything after the entries must be zero.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = "table of contents";
        let mut r = Reader::new(what, bytes);
        let count = r.u32()?;
        r.reserved(4)?;
        check_count(what, count, bytes.len(), TOC_ENTRY_BYTES)?;
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let entry = TocEntry {
                id: ChunkId(r.array()?),
                coded_bytes: r.u32()?,
                plain_bytes: r.u32()?,
                kind: ChunkKind::from_number(r.u8()?)?,
                codec: Codec::from_number(r.u8()?)?,
            };
            r.reserved(2)?;
            if entry.plain_bytes as usize > CHUNK_BYTES_MAX {
                return Err(FormatError::Range { what, field: "plain_bytes", value: entry.plain_bytes.into() });
            }
            if entry.codec == Codec::Raw && entry.coded_bytes != entry.plain_bytes {
                return Err(FormatError::Range { what, field: "coded_bytes", value: entry.coded_bytes.into() });
            }
            entries.push(entry);
        }
        r.reserved(bytes.len() - SECTION_HEAD_BYTES - entries.len() * TOC_ENTRY_BYTES)?;
        Ok(Self { entries })
    }

    /// Offsets of the frames in the body.
    pub fn offsets(&self) -> impl Iterator<Item = (u64, &TocEntry)> {
        self.entries.iter().scan(0_u64, |at, entry| {
            let start = *at;
            *at += entry.frame_bytes() as u64;
            Some((start, entry))
        })
    }

    /// Bytes all frames take.
    pub fn frames_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.frame_bytes() as u64).sum()
    }
}

/// What the writer can read back without a read key: which chunks a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Keyed hash of the plain chunk.
    pub id: ChunkId,
    /// Plain bytes of the chunk.
    pub plain_bytes: u32,
    /// What it holds.
    pub kind: ChunkKind,
}

/// Encodes the index section's plain bytes.
pub fn encode_index(entries: &[IndexEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(index_plain_bytes(entries.len()));
    out.put(&(entries.len() as u32).to_le_bytes());
    out.put_zero(4);
    for entry in entries {
        out.put(&entry.id.0);
        out.put(&entry.plain_bytes.to_le_bytes());
        out.put(&[entry.kind as u8, 0, 0, 0]);
    }
    out
}

/// Reads the index section's plain bytes.
pub fn decode_index(bytes: &[u8]) -> Result<Vec<IndexEntry>, FormatError> {
    let what = "index section";
    let mut r = Reader::new(what, bytes);
    let count = r.u32()?;
    r.reserved(4)?;
    check_count(what, count, bytes.len(), INDEX_ENTRY_BYTES)?;
    let mut entries = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let entry =
            IndexEntry { id: ChunkId(r.array()?), plain_bytes: r.u32()?, kind: ChunkKind::from_number(r.u8()?)? };
        r.reserved(3)?;
        entries.push(entry);
    }
    r.end()?;
    Ok(entries)
}

/// Plain bytes of an index section of `count` chunks.
pub fn index_plain_bytes(count: usize) -> usize {
    SECTION_HEAD_BYTES + count * INDEX_ENTRY_BYTES
}

/// Smallest plain bytes of a table of contents of `count` chunks.
pub fn toc_plain_bytes(count: usize) -> usize {
    SECTION_HEAD_BYTES + count * TOC_ENTRY_BYTES
}

/// Bytes a body needs besides its frames, for `count` of them.
pub fn overhead_bytes(count: usize) -> usize {
    index_plain_bytes(count) + toc_plain_bytes(count) + 2 * TAG_BYTES + LOCATORS_BYTES
}

fn check_count(what: &'static str, count: u32, bytes: usize, entry: usize) -> Result<(), FormatError> {
    let need = (count as usize).saturating_mul(entry).saturating_add(SECTION_HEAD_BYTES);
    if need <= bytes { Ok(()) } else { Err(FormatError::Truncated { what, have: bytes, need }) }
}

/// Where a section lies in the body. There are two, each sealed for one reader:
/// the index section's under the writer's index key, the table of contents'
/// under the pack's data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Offset of the sealed section.
    pub offset: u64,
    /// Its sealed bytes, tag included.
    pub bytes: u64,
    /// Entries in it.
    pub count: u32,
}

impl Locator {
    /// The 32 plain bytes.
    pub fn encode(&self) -> [u8; LOCATOR_PLAIN_BYTES] {
        let mut out = Vec::with_capacity(LOCATOR_PLAIN_BYTES);
        out.put(&self.offset.to_le_bytes());
        out.put(&self.bytes.to_le_bytes());
        out.put(&self.count.to_le_bytes());
        out.put_zero(12);
        out.try_into().expect("the fields add up to 32 bytes")
    }

    /// Reads a locator; the section must lie inside a body of `body_bytes`.
    pub fn decode(bytes: &[u8], body_bytes: usize) -> Result<Self, FormatError> {
        let what = "locator";
        let mut r = Reader::new(what, bytes);
        let found = Self { offset: r.u64()?, bytes: r.u64()?, count: r.u32()? };
        r.reserved(12)?;
        r.end()?;
        let end = found.offset.checked_add(found.bytes);
        if end.is_none_or(|end| end > body_bytes.saturating_sub(LOCATORS_BYTES) as u64)
            || found.bytes < TAG_BYTES as u64
        {
            return Err(FormatError::Range { what, field: "bytes", value: found.bytes });
        }
        Ok(found)
    }
}

/// Associated data of a section or locator: which pack, which part.
pub fn section_associated_data(pack: PackId, part: SectionPart) -> [u8; 36] {
    let mut out = Vec::with_capacity(36);
    out.put(b"holdfast sect. 1");
    out.put(&pack.0);
    out.put(&[part as u8, 0, 0, 0]);
    out.try_into().expect("the fields add up to 36 bytes")
}

numbered! {
    /// The sealed parts of a body that are not chunks.
    SectionPart {
        /// The index section.
        1 Index,
        /// The table of contents.
        2 Toc,
        /// The locator of the index section.
        3 IndexLocator,
        /// The locator of the table of contents.
        4 TocLocator,
    }
}
