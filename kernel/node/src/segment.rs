//! One file of the log: a header of 128 bytes, then records end to end.
//!
//! A segment is put in place whole (header written aside, synced, renamed), and the one before it is
//! synced first. So a torn write can only be in the last segment, behind its header; damage anywhere
//! else is damage.

use kernel_core::wal::{MAGIC as RECORD_MAGIC, WalRecord, record_length};
use kernel_core::{Fault, Hash, Lineage, crc32c};

use crate::error::Error;

/// First bytes of a segment.
pub(crate) const MAGIC: [u8; 8] = *b"HFKWALSG";
/// Version of the segment format.
pub(crate) const VERSION: u16 = 1;
/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 128;
/// Offset of the lineage.
pub(crate) const LINEAGE_AT: usize = 16;
/// Offset of the first sequence.
pub(crate) const FIRST_AT: usize = 32;
/// Offset of the chain hash before the first record.
pub(crate) const CHAIN_AT: usize = 48;
/// Offset of the CRC-32C of all before it.
pub(crate) const CRC_AT: usize = 124;

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) lineage: Lineage,
    /// Sequence of its first record.
    pub(crate) first: u64,
    /// Chain hash before its first record.
    pub(crate) chain: Hash,
}

/// Where the whole records of the last segment end, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// At the end of the file.
    Clean,
    /// A write that never completed: from `at` on, `bytes` bytes are to be cut.
    Torn { at: usize, bytes: usize },
}

pub(crate) fn file_name(first: u64) -> String {
    format!("wal-{first:016x}.seg")
}

pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".seg")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[LINEAGE_AT..FIRST_AT].copy_from_slice(self.lineage.as_bytes());
        bytes[FIRST_AT..FIRST_AT + 8].copy_from_slice(&self.first.to_le_bytes());
        bytes[CHAIN_AT..CHAIN_AT + 32].copy_from_slice(self.chain.as_bytes());
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header. `name` is the file, for the error.
    pub(crate) fn decode(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let damaged = |what: &str| Error::Corrupt {
            file: name.to_owned(),
            place: "its header".to_owned(),
            what: what.to_owned(),
        };
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(damaged("it is cut short"));
        };
        if bytes[..8] != MAGIC {
            return Err(damaged("it does not start as a log segment"));
        }
        if bytes[CRC_AT..] != crc32c(&bytes[..CRC_AT]).to_le_bytes() {
            return Err(damaged("its checksum does not match"));
        }
        let (version, header_bytes) = (word(bytes, 8), word(bytes, 10));
        if version != VERSION || usize::from(header_bytes) != HEADER_BYTES || bytes[12..16] != [0; 4] {
            let number = version.into();
            return Err(kernel_core::Error::Unsupported { what: "log segment version", number }.into());
        }
        let reserved = bytes[40..CHAIN_AT].iter().chain(&bytes[CHAIN_AT + 32..CRC_AT]);
        if reserved.clone().any(|byte| *byte != 0) {
            return Err(damaged("reserved bytes are not zero"));
        }
        Ok(SegmentHeader {
            lineage: Lineage::from_bytes(array(bytes, LINEAGE_AT)),
            first: u64::from_le_bytes(array(bytes, FIRST_AT)),
            chain: Hash::from_bytes(array(bytes, CHAIN_AT)),
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

/// N bytes at a constant offset inside a checked header.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Decides what bytes at `at`, where record `expected` should stand, are: the torn end of the log, or damage.
///
/// A torn write leaves nothing after it that was written later than a sync. So if any whole record
/// further on says that `expected` was synced when it was written, this is damage.
pub(crate) fn judge_tail(content: &[u8], at: usize, expected: u64, lineage: Lineage) -> Result<Tail, u64> {
    let mut from = at + 1;
    while let Some(offset) = find_magic(content, from) {
        if let Ok(record) = WalRecord::decode(&content[offset..]) {
            let header = record.header;
            if header.lineage == lineage && header.sequence > expected && header.synced >= expected {
                return Err(header.sequence);
            }
        }
        from = offset + 1;
    }
    Ok(Tail::Torn { at, bytes: content.len() - at })
}

fn find_magic(content: &[u8], from: usize) -> Option<usize> {
    let rest = content.get(from..)?;
    rest.windows(RECORD_MAGIC.len()).position(|window| window == RECORD_MAGIC).map(|at| from + at)
}

/// Can these bytes, the rest of the file, be the start of a record whose write did not complete?
/// Bytes with a good checksum were written completely; whatever is wrong with them is not a torn write.
pub(crate) fn may_be_torn(error: &kernel_core::Error) -> bool {
    match error {
        kernel_core::Error::Corrupt { fault, .. } => {
            matches!(fault, Fault::Magic | Fault::Truncated | Fault::TooLarge | Fault::Checksum)
        }
        kernel_core::Error::Unsupported { .. }
        | kernel_core::Error::NotFound { .. }
        | kernel_core::Error::Conflict { .. }
        | kernel_core::Error::Refused(_)
        | kernel_core::Error::Item { .. } => false,
    }
}

/// The record at the start of `bytes`. `None` at the end.
pub(crate) fn next_record(bytes: &[u8]) -> Option<Result<WalRecord<'_>, kernel_core::Error>> {
    if bytes.is_empty() {
        return None;
    }
    Some(record_length(bytes).and_then(|_| WalRecord::decode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_back_and_every_flip_is_seen() {
        let header =
            SegmentHeader { lineage: Lineage::from_bytes([7; 16]), first: 42, chain: Hash::from_bytes([9; 32]) };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes, "x").unwrap(), header);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&flipped, "x").is_err(), "bit {bit}");
        }
        assert!(SegmentHeader::decode(&bytes[..HEADER_BYTES - 1], "x").is_err());
    }

    /// Offsets of a byte table of FORMAT.md, checked to follow from the lengths.
    fn offsets(heading: &str) -> Vec<usize> {
        let page = include_str!("../../FORMAT.md");
        let rows = page.lines().skip_while(|line| !line.contains(heading)).skip(2);
        let mut found = vec![0];
        for row in rows.take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[1].parse(), Ok(found[found.len() - 1]), "{row}");
            found.push(found[found.len() - 1] + cells[2].parse::<usize>().unwrap());
        }
        found
    }

    #[test]
    fn byte_tables_of_the_page_are_the_constants() {
        let segment = [0, 8, 10, 12, LINEAGE_AT, FIRST_AT, FIRST_AT + 8, CHAIN_AT, CHAIN_AT + 32, CRC_AT, HEADER_BYTES];
        assert_eq!(offsets("| segment field |"), segment);
        let cursors = [0, 8, 10, 11, 12, 28, 36, 44, 52, 60, crate::cursors::FILE_BYTES];
        assert_eq!(offsets("| cursors field |"), cursors);
    }

    #[test]
    fn names_sort_as_their_sequences() {
        assert_eq!(first_of(&file_name(0x1234)), Some(0x1234));
        assert!(file_name(9) < file_name(16));
        assert_eq!(first_of("wal-1.seg"), None);
    }
}
