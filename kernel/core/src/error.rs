//! What can go wrong, by what the caller can do about it.

use alloc::{boxed::Box, string::String};
use core::fmt;

/// The one error of the kernel core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The command or question names something that is not there.
    NotFound {
        /// The noun: "collection", "record", ..
        what: &'static str,
        /// Its name or id.
        id: String,
    },
    /// The command collides with what is there; the state is unchanged.
    Conflict {
        /// The noun.
        what: &'static str,
        /// Its name or id.
        id: String,
        /// What stands in the way.
        why: &'static str,
    },
    /// The command breaks a rule whatever the state is; the caller must change it.
    Refused(Rule),
    /// One item of a command or batch was refused, and so all of it: nothing was changed.
    Item {
        /// Position in the command, from 0.
        index: u32,
        /// Why.
        error: Box<Error>,
    },
    /// Stored bytes are not what was written.
    Corrupt {
        /// The named way in which they are wrong.
        fault: Fault,
        /// Byte offset in the object, or the sequence for faults of a chain.
        at: u64,
    },
    /// Bytes of a newer or unknown kind: not damage, but this program must not guess.
    Unsupported {
        /// What carries the number.
        what: &'static str,
        /// The number.
        number: u64,
    },
}

/// Rules a command can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A name is empty, too long or has characters outside `A-Z a-z 0-9 _ . -`, or starts with a dot.
    Name,
    /// An id is not 32 hex digits (with or without UUID dashes) and not a decimal u64.
    Id,
    /// A vector has another dimension than its collection.
    Dimension {
        /// The collection's.
        expected: u32,
        /// The vector's.
        got: u32,
    },
    /// A collection's dimension is 0 or above the limit.
    DimensionRange,
    /// A component is NaN or infinite.
    NotFinite,
    /// Cosine has no answer for a vector of zeros.
    ZeroVector,
    /// A kind number is neither ours nor defined in this collection.
    UnknownKind(u16),
    /// A kind number below [`crate::limits::USER_KIND_MIN`] cannot be defined by a user.
    KindReserved(u16),
    /// A list, text or metadata is over its limit.
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// A list that must not be empty is empty.
    Empty(&'static str),
    /// A batch within a batch.
    NestedBatch,
}

/// Named ways in which stored bytes can be wrong. Negative test vectors carry these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The object does not start with its magic.
    Magic,
    /// The bytes end before the object does.
    Truncated,
    /// A length or count is over its bound.
    TooLarge,
    /// Bytes follow the end of the object.
    TrailingBytes,
    /// A reserved byte or unknown flag is not zero.
    Reserved,
    /// A closed enum carries a number it does not have.
    UnknownNumber,
    /// A text is not UTF-8 or not a legal name.
    Text,
    /// A checksum does not match.
    Checksum,
    /// Items are not in canonical order, or appear twice.
    Order,
    /// A section stands where it must not.
    Misplaced,
    /// The rebuilt state does not have the recorded hash.
    StateHash,
    /// A record does not follow from the one before it: its chain hash differs.
    ChainHash,
    /// A record's sequence is not the one that must come next.
    Sequence,
    /// A record belongs to another lineage.
    Lineage,
    /// A logged command was refused when replayed.
    Replay,
}

impl Fault {
    /// The fault's stable name, as test vectors and logs spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Magic => "magic",
            Fault::Truncated => "truncated",
            Fault::TooLarge => "too-large",
            Fault::TrailingBytes => "trailing-bytes",
            Fault::Reserved => "reserved",
            Fault::UnknownNumber => "unknown-number",
            Fault::Text => "text",
            Fault::Checksum => "checksum",
            Fault::Order => "order",
            Fault::Misplaced => "misplaced",
            Fault::StateHash => "state-hash",
            Fault::ChainHash => "chain-hash",
            Fault::Sequence => "sequence",
            Fault::Lineage => "lineage",
            Fault::Replay => "replay",
        }
    }
}

impl Error {
    pub(crate) fn corrupt(fault: Fault, at: usize) -> Self {
        Error::Corrupt { fault, at: at as u64 }
    }

    pub(crate) fn at_item(self, index: usize) -> Self {
        Error::Item { index: index as u32, error: Box::new(self) }
    }
}

impl From<Rule> for Error {
    fn from(rule: Rule) -> Self {
        Error::Refused(rule)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Name => {
                f.write_str("a name is 1 to 128 of the characters A-Z a-z 0-9 _ . - and does not start with a dot")
            }
            Rule::Id => f.write_str("an id is 32 hex digits, a UUID, or a decimal number below 2^64"),
            Rule::Dimension { expected, got } => {
                write!(f, "the collection has {expected} dimensions, the vector {got}")
            }
            Rule::DimensionRange => write!(f, "a dimension is 1 to {}", crate::limits::DIMENSION_MAX),
            Rule::NotFinite => f.write_str("a number is NaN or infinite"),
            Rule::ZeroVector => f.write_str("a vector of zeros has no direction, and the metric is cosine"),
            Rule::UnknownKind(number) => write!(f, "kind {number} is not defined in this collection"),
            Rule::KindReserved(number) => {
                write!(f, "kind numbers below {} are reserved, {number} is one", crate::limits::USER_KIND_MIN)
            }
            Rule::TooLarge { what, max } => write!(f, "{what} is over the limit of {max}"),
            Rule::Empty(what) => write!(f, "{what} is empty"),
            Rule::NestedBatch => f.write_str("a batch cannot hold a batch"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound { what, id } => write!(f, "no {what} {id}"),
            Error::Conflict { what, id, why } => write!(f, "{what} {id} {why}"),
            Error::Refused(rule) => write!(f, "{rule}"),
            Error::Item { index, error } => write!(f, "item {index}: {error}"),
            Error::Corrupt { fault, at } => write!(f, "stored bytes are damaged ({} at {at})", fault.name()),
            Error::Unsupported { what, number } => {
                write!(f, "{what} {number} is unknown to this version; a newer holdfast may read it")
            }
        }
    }
}

impl core::error::Error for Error {}
