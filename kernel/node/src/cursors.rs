//! How far the agent has carried the log away.
//!
//! `durable_seq`: acknowledged by the vault's journal. `folded_seq`: in a committed pack. The log is
//! released behind `folded_seq` only. The file is replaced whole; if it is damaged the node does not
//! start, because guessing could release what the vault does not have.

use kernel_core::{Lineage, crc32c};

use crate::disk::{self, Disk};
use crate::error::Error;
use crate::segment::array;

/// Name of the file.
pub(crate) const NAME: &str = "cursors";
/// First bytes of the file.
pub(crate) const MAGIC: [u8; 8] = *b"HFKCURS\0";
/// Version of the file.
pub(crate) const VERSION: u16 = 1;
/// Its length.
pub(crate) const FILE_BYTES: usize = 64;

/// The agent's two cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursors {
    /// Has an agent ever reported? Until then the log is kept (or released by snapshots, by configuration).
    pub attached: bool,
    /// Highest sequence acknowledged by the vault's journal.
    pub durable_seq: u64,
    /// Highest sequence in a committed pack.
    pub folded_seq: u64,
    /// Not 0: the log had to be released past `folded_seq` at its bound; records up to this sequence are
    /// not in the vault as log. Cleared when the agent has folded beyond it, through a new snapshot.
    pub chain_broken_at: u64,
}

impl Cursors {
    /// No agent yet.
    pub(crate) const NONE: Cursors = Cursors { attached: false, durable_seq: 0, folded_seq: 0, chain_broken_at: 0 };

    fn encode(&self, lineage: Lineage) -> [u8; FILE_BYTES] {
        let mut bytes = [0; FILE_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.attached.into();
        bytes[12..28].copy_from_slice(lineage.as_bytes());
        bytes[28..36].copy_from_slice(&self.durable_seq.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.folded_seq.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.chain_broken_at.to_le_bytes());
        let crc = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Lineage, Self)> {
        let bytes = bytes.first_chunk::<FILE_BYTES>().filter(|_| bytes.len() == FILE_BYTES)?;
        let sound = bytes[..8] == MAGIC
            && bytes[8..10] == VERSION.to_le_bytes()
            && bytes[60..] == crc32c(&bytes[..60]).to_le_bytes()
            && bytes[10] <= 1
            && bytes[11] == 0
            && bytes[52..60] == [0; 8];
        sound.then(|| {
            let cursors = Cursors {
                attached: bytes[10] == 1,
                durable_seq: u64::from_le_bytes(array(bytes, 28)),
                folded_seq: u64::from_le_bytes(array(bytes, 36)),
                chain_broken_at: u64::from_le_bytes(array(bytes, 44)),
            };
            (Lineage::from_bytes(array(bytes, 12)), cursors)
        })
    }

    /// Reads the file, if there is one.
    pub(crate) fn load(disk: &dyn Disk, names: &[String], lineage: Lineage) -> Result<Self, Error> {
        if !names.iter().any(|name| name == NAME) {
            return Ok(Cursors::NONE);
        }
        match Cursors::decode(&disk::read_all(disk, NAME)?) {
            Some((written_in, cursors)) if written_in == lineage => Ok(cursors),
            Some(_) => Err(Error::BadDirectory {
                what: "the file `cursors` belongs to another lineage: files of two nodes are mixed".to_owned(),
            }),
            None => Err(Error::Corrupt {
                file: NAME.to_owned(),
                place: "its checksum".to_owned(),
                what: "the agent's cursors cannot be trusted; remove the file and the agent will report again"
                    .to_owned(),
            }),
        }
    }

    pub(crate) fn store(&self, disk: &dyn Disk, lineage: Lineage) -> Result<(), Error> {
        disk::replace(disk, NAME, &self.encode(lineage))
    }

    /// The cursors after the agent's next report. They only move forward, and never past `published`.
    pub(crate) fn advanced(&self, durable_seq: u64, folded_seq: u64, published: u64) -> Result<Self, Error> {
        let refuse = |what: String| Err(Error::Conflict { what });
        if durable_seq < self.durable_seq || folded_seq < self.folded_seq {
            return refuse(format!(
                "cursors only move forward: durable {} and folded {} were reported before",
                self.durable_seq, self.folded_seq
            ));
        }
        if durable_seq > published || folded_seq > durable_seq {
            return refuse(format!(
                "cursors must keep folded ({folded_seq}) <= durable ({durable_seq}) <= the node's sequence ({published})"
            ));
        }
        let chain_broken_at = if folded_seq >= self.chain_broken_at { 0 } else { self.chain_broken_at };
        Ok(Cursors { attached: true, durable_seq, folded_seq, chain_broken_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_is_seen() {
        let cursors = Cursors { attached: true, durable_seq: 9, folded_seq: 7, chain_broken_at: 3 };
        let lineage = Lineage::from_bytes([5; 16]);
        let bytes = cursors.encode(lineage);
        assert_eq!(Cursors::decode(&bytes), Some((lineage, cursors)));
        for bit in 0..FILE_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Cursors::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn they_only_move_forward() {
        let cursors = Cursors::NONE.advanced(5, 3, 10).unwrap();
        assert!(cursors.advanced(4, 3, 10).is_err());
        assert!(cursors.advanced(11, 3, 10).is_err());
        assert!(cursors.advanced(6, 7, 10).is_err());
        let broken = Cursors { chain_broken_at: 8, ..cursors };
        assert_eq!(broken.advanced(9, 7, 10).unwrap().chain_broken_at, 8);
        assert_eq!(broken.advanced(9, 8, 10).unwrap().chain_broken_at, 0);
    }
}
