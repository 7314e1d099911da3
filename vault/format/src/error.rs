//! Why stored bytes were refused. One variant is one named way to fail: the
//! negative vectors in `testdata/` name the variant they must produce.

use thiserror::Error;

/// A decoder's refusal. Nothing is ever half-accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Fewer bytes than the layout needs.
    #[error("{what} is truncated: {have} of {need} bytes")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// Bytes given.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// More bytes than the layout allows.
    #[error("{what} has {extra} bytes too many")]
    Trailing {
        /// The structure being read.
        what: &'static str,
        /// Bytes left over.
        extra: usize,
    },
    /// The first bytes are not those of this structure.
    #[error("this is not a {what}: the magic bytes differ")]
    Magic {
        /// The structure expected.
        what: &'static str,
    },
    /// A version this program does not know.
    #[error("{what} has format version {version}; this program reads version 1. Use a newer holdfast")]
    Version {
        /// The structure being read.
        what: &'static str,
        /// The version found.
        version: u16,
    },
    /// A suite of algorithms this program does not know.
    #[error("suite {suite} is unknown to this program. Use a newer holdfast")]
    Suite {
        /// The suite number found.
        suite: u16,
    },
    /// A flag that must be understood and is not.
    #[error("{what} carries critical flags {flags:#x} this program does not know. Use a newer holdfast")]
    CriticalFlag {
        /// The structure being read.
        what: &'static str,
        /// All flag bits found.
        flags: u32,
    },
    /// A reserved byte is not zero.
    #[error("{what}: a reserved byte at offset {at} is not zero")]
    Reserved {
        /// The structure being read.
        what: &'static str,
        /// Offset within it.
        at: usize,
    },
    /// A number that no valid writer produces.
    #[error("{what}: {field} = {value} is outside its range")]
    Range {
        /// The structure being read.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An unknown number of a closed enumeration.
    #[error("{what}: number {value} is not assigned")]
    Unassigned {
        /// The enumeration.
        what: &'static str,
        /// The number found.
        value: u64,
    },
    /// Valid CBOR, but not the one encoding of its value (or not CBOR at all).
    #[error("{what} is not in its canonical encoding")]
    NotCanonical {
        /// The structure being read.
        what: &'static str,
    },
    /// A self-check inside the structure does not hold.
    #[error("{what}: its check value does not match")]
    Check {
        /// The structure being read.
        what: &'static str,
    },
}

impl FormatError {
    /// The stable name used by the negative vectors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Trailing { .. } => "trailing",
            Self::Magic { .. } => "magic",
            Self::Version { .. } => "version",
            Self::Suite { .. } => "suite",
            Self::CriticalFlag { .. } => "critical-flag",
            Self::Reserved { .. } => "reserved",
            Self::Range { .. } => "range",
            Self::Unassigned { .. } => "unassigned",
            Self::NotCanonical { .. } => "not-canonical",
            Self::Check { .. } => "check",
        }
    }
}
