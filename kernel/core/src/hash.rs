//! Domain-separated BLAKE3.
//!
//! Every use has its own 32-byte key (a readable label, zero-padded), so a hash made for one purpose
//! can never be presented for another: a leaf is not an inner node, a section checksum is not a chain
//! link. A key costs nothing, a prefix byte would push the 64 bytes of an inner node into a second block.

use core::fmt;

use crate::error::{Error, Fault};

/// 32 bytes of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash([u8; 32]);

/// What a hash is for. The labels are in FORMAT.md; changing one changes every hash.
#[derive(Clone, Copy)]
pub(crate) struct Domain([u8; 32]);

impl Domain {
    const fn new(label: &str) -> Self {
        let bytes = label.as_bytes();
        assert!(bytes.len() <= 32, "a label fits the key");
        let mut key = [0; 32];
        let mut at = 0;
        while at < bytes.len() {
            key[at] = bytes[at];
            at += 1;
        }
        Domain(key)
    }

    pub(crate) fn hash(&self, bytes: &[u8]) -> Hash {
        Hash(*blake3::keyed_hash(&self.0, bytes).as_bytes())
    }

    pub(crate) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }
}

/// What hashes are for, and the label that keeps each apart, as FORMAT.md lists them.
pub const LABELS: [(&str, &str); 10] = [
    ("tree key", "holdfast kernel 1 tree key"),
    ("tree leaf", "holdfast kernel 1 tree leaf"),
    ("tree inner node", "holdfast kernel 1 tree inner"),
    ("value", "holdfast kernel 1 value"),
    ("collection", "holdfast kernel 1 collection"),
    ("trashed collection", "holdfast kernel 1 trashed coll."),
    ("state", "holdfast kernel 1 state"),
    ("WAL chain", "holdfast kernel 1 wal chain"),
    ("lineage", "holdfast kernel 1 lineage"),
    ("snapshot", "holdfast kernel 1 snapshot"),
];

pub(crate) const TREE_KEY: Domain = Domain::new(LABELS[0].1);
pub(crate) const TREE_LEAF: Domain = Domain::new(LABELS[1].1);
pub(crate) const TREE_INNER: Domain = Domain::new(LABELS[2].1);
pub(crate) const VALUE: Domain = Domain::new(LABELS[3].1);
pub(crate) const COLLECTION: Domain = Domain::new(LABELS[4].1);
pub(crate) const TRASHED_COLLECTION: Domain = Domain::new(LABELS[5].1);
pub(crate) const STATE: Domain = Domain::new(LABELS[6].1);
pub(crate) const CHAIN: Domain = Domain::new(LABELS[7].1);
pub(crate) const LINEAGE: Domain = Domain::new(LABELS[8].1);
pub(crate) const SNAPSHOT: Domain = Domain::new(LABELS[9].1);

impl Hash {
    /// The hash of an empty tree, and "none" where a hash is optional.
    pub const ZERO: Hash = Hash([0; 32]);

    /// Wraps 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Hash(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_hasher(hasher: &blake3::Hasher) -> Self {
        Hash(*hasher.finalize().as_bytes())
    }

    /// Bit `index` counted from the most significant bit of the first byte.
    pub(crate) fn bit(&self, index: usize) -> bool {
        self.0[index / 8] >> (7 - index % 8) & 1 == 1
    }

    /// Reads 64 hex digits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 32];
        parse_hex(text, &mut bytes).ok_or(Error::Corrupt { fault: Fault::Text, at: 0 })?;
        Ok(Hash(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Fills `into` from exactly twice as many hex digits.
pub(crate) fn parse_hex(text: &str, into: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != into.len() * 2 {
        return None;
    }
    for (byte, pair) in into.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_differ() {
        let distinct: std::collections::BTreeSet<_> = LABELS.iter().map(|(_, label)| label).collect();
        assert_eq!(distinct.len(), LABELS.len());
    }

    #[test]
    fn hex_reads_back() {
        let hash = VALUE.hash(b"x");
        assert_eq!(Hash::parse(&std::format!("{hash}")), Ok(hash));
        assert!(Hash::parse("00").is_err());
    }
}
