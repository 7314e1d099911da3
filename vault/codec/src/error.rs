//! Why the codec did not do what was asked, by what the caller can do.

use thiserror::Error;
use vault_format::{FormatError, Hash, PackId};

/// What went wrong.
#[derive(Debug, Error)]
pub enum CodecError {
    /// Stored bytes contradict their signatures, digests or tags. Take another
    /// copy; if there is none, repair from other shards.
    #[error("{what} of {at} is damaged: {why}")]
    Corrupt {
        /// Which part.
        what: &'static str,
        /// Of which object.
        at: String,
        /// What does not hold.
        why: String,
    },
    /// The key given is not one this pack was sealed for.
    #[error("{at} is sealed for other keys than the one given (it names {recipients}): use the vault's read key")]
    WrongKey {
        /// Which object.
        at: String,
        /// The recipients it names.
        recipients: String,
    },
    /// The certificate that signed is not known here: fetch it and try again.
    #[error("{at} was signed under certificate {certificate}, which is not known here")]
    UnknownCertificate {
        /// Which object.
        at: String,
        /// Hash of the certificate's envelope.
        certificate: Hash,
    },
    /// Too few good shards. Find more, or the pack is lost.
    #[error("pack {pack} needs {need} good shards of its own and has {have}")]
    NotEnough {
        /// The pack.
        pack: PackId,
        /// Different good shards.
        have: usize,
        /// Shards that are enough.
        need: usize,
    },
    /// The request itself cannot be carried out; nothing was done.
    #[error("{what}")]
    Refused {
        /// Why, and what to do instead.
        what: String,
    },
    /// Written by a newer holdfast.
    #[error(transparent)]
    Unsupported(FormatError),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, CodecError>;

impl CodecError {
    #[allow(clippy::needless_pass_by_value, reason = "callers hand over what they just formatted")]
    pub(crate) fn corrupt(what: &'static str, at: impl ToString, why: impl ToString) -> Self {
        Self::Corrupt { what, at: at.to_string(), why: why.to_string() }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into() }
    }

    /// A decoder's refusal, with the object it happened in.
    pub(crate) fn format(what: &'static str, at: impl ToString, error: FormatError) -> Self {
        match error {
            FormatError::Version { .. } | FormatError::Suite { .. } | FormatError::CriticalFlag { .. } => {
                Self::Unsupported(error)
            }
            FormatError::Truncated { .. }
            | FormatError::Trailing { .. }
            | FormatError::Magic { .. }
            | FormatError::Reserved { .. }
            | FormatError::Range { .. }
            | FormatError::Unassigned { .. }
            | FormatError::NotCanonical { .. }
            | FormatError::Check { .. } => Self::corrupt(what, at, error),
        }
    }

    /// The stable name tests use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "corrupt",
            Self::WrongKey { .. } => "wrong-key",
            Self::UnknownCertificate { .. } => "unknown-certificate",
            Self::NotEnough { .. } => "not-enough",
            Self::Refused { .. } => "refused",
            Self::Unsupported(_) => "unsupported",
        }
    }
}
