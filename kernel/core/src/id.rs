//! Names of things: ids, lineages, collection names.

use alloc::string::{String, ToString};
use core::fmt;

use crate::error::{Error, Fault, Rule};
use crate::hash::{Hash, TREE_KEY, parse_hex, write_hex};
use crate::limits::NAME_BYTES_MAX;
use crate::wire::{Put, Reader};

/// 16 bytes chosen by the client. Numbers are zero-extended big-endian, so that the order of ids is the
/// order of numbers, and of time-ordered UUIDs too: snapshots list by id, and neighbours stay neighbours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 16]);

impl Id {
    /// No id: the absent record of a node.
    pub const ZERO: Id = Id([0; 16]);

    /// Wraps 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Id(bytes)
    }

    /// Zero-extends a number.
    pub const fn from_u64(number: u64) -> Self {
        Id((number as u128).to_be_bytes())
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Where this id stands in a tree. Hashed, so that nobody can choose ids that make a tree deep.
    pub(crate) fn key(&self) -> Hash {
        TREE_KEY.hash(&self.0)
    }

    /// Reads 32 hex digits, a UUID, or a decimal u64.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 16];
        let read = match text.len() {
            32 => parse_hex(text, &mut bytes),
            36 if [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-') => {
                parse_hex(&text.replace('-', ""), &mut bytes)
            }
            1..=20 if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                return text.parse().map(Id::from_u64).map_err(|_| Rule::Id.into());
            }
            _ => None,
        };
        read.map(|()| Id(bytes)).ok_or(Rule::Id.into())
    }
}

impl fmt::Display for Id {
    /// Small numbers as they were given, everything else as 32 hex digits; [`Id::parse`] reads both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        if number <= u128::from(u64::MAX) { write!(f, "{number}") } else { write_hex(f, &self.0) }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One unbroken line of sequences. A restore to the past opens a new one, so a sequence together with
/// its lineage never means two things. It is not part of the state: a restored state hashes as it did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage([u8; 16]);

impl Lineage {
    /// "No lineage": the parent of a node that was never restored.
    pub const NONE: Lineage = Lineage([0; 16]);

    /// Wraps 16 bytes, which the caller draws at random.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Lineage(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 32 hex digits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 16];
        parse_hex(text, &mut bytes).ok_or(Error::Corrupt { fault: Fault::Text, at: 0 })?;
        Ok(Lineage(bytes))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// The checked name of a collection or a user kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(String);

impl Name {
    /// Checks a name: it goes into URLs and file names, so it has no surprises.
    pub fn new(text: &str) -> Result<Self, Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let sized = !text.is_empty() && text.len() <= NAME_BYTES_MAX as usize;
        if !sized || text.starts_with('.') || !text.bytes().all(legal) {
            return Err(Rule::Name.into());
        }
        Ok(Name(text.to_string()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn key(&self) -> Hash {
        TREE_KEY.hash(self.0.as_bytes())
    }

    pub(crate) fn encode(&self, into: &mut impl Put) {
        into.u16(self.0.len() as u16);
        into.raw(self.0.as_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let at = reader.at();
        let length = reader.u16()?;
        if length > NAME_BYTES_MAX {
            return Err(Error::corrupt(Fault::TooLarge, at));
        }
        let text = core::str::from_utf8(reader.take(length as usize)?).ok();
        text.and_then(|text| Name::new(text).ok()).ok_or(Error::corrupt(Fault::Text, at))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_printed() {
        for text in ["0", "7", "18446744073709551615", "00000000000000010000000000000000"] {
            assert_eq!(Id::parse(text).unwrap().to_string(), text);
        }
        let uuid = Id::parse("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
        assert_eq!(uuid, Id::parse("01890a5dac96774bbcceb302099a8057").unwrap());
        for bad in ["", "x", "-1", "18446744073709551616", "0x10", "01890a5d_ac96_774b_bcce_b302099a8057"] {
            assert_eq!(Id::parse(bad), Err(Error::Refused(Rule::Id)), "{bad}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(Name::new("notes-2026.v1_x").is_ok());
        for bad in ["", ".hidden", "..", "a/b", "a b", "naïve", &"n".repeat(129)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
