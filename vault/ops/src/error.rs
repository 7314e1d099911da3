//! Why an operation did not do what was asked, by what the caller can do. Each
//! message says what happened, what it means for the user's data, and the next
//! step.

use backends::BackendError;
use thiserror::Error;
use vault_format::FormatError;

/// What went wrong.
#[derive(Debug, Error)]
pub enum OpsError {
    /// There is no vault where one was expected.
    #[error("no vault found: {what}")]
    NoVault {
        /// Where was looked, and what to do.
        what: String,
    },
    /// The vault is there and has no such point.
    #[error("{what}")]
    NoPoint {
        /// What was asked for, and how to list what there is.
        what: String,
    },
    /// Another process owns this writer's state.
    #[error("{what}")]
    Owned {
        /// Who, and what to do.
        what: String,
    },
    /// A key is missing, wrong, or not enough.
    #[error("{what}")]
    Key {
        /// Which key, and how to get it.
        what: String,
    },
    /// Not enough locations answer now. Nothing is known to be lost.
    #[error("{what}")]
    Unreachable {
        /// What was needed, who did not answer, what to do.
        what: String,
    },
    /// Nowhere is room for what was to be kept. Nothing that was kept is lost.
    #[error("{what}")]
    Full {
        /// What did not fit, what is safe, what to do.
        what: String,
    },
    /// Every location answered and the data are not there.
    #[error("{what}")]
    Lost {
        /// What is lost, and what can still be restored.
        what: String,
    },
    /// Stored bytes contradict their signatures or digests.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// Which object, where.
        what: String,
        /// What does not hold.
        why: String,
    },
    /// The request itself cannot be carried out.
    #[error("{what}")]
    Refused {
        /// Why, and what to do instead.
        what: String,
    },
    /// Reading the source failed.
    #[error("source {name}: {why}")]
    Source {
        /// The source.
        name: String,
        /// What happened.
        why: String,
    },
    /// The local catalog failed. It is a cache: deleting it loses nothing stored.
    #[error("the local catalog failed: {0}. {advice}", advice = of_catalog(.0))]
    Catalog(#[from] rusqlite::Error),
    /// A location failed in a way that concerns this operation.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Local file IO.
    #[error("{what}: {error}")]
    Io {
        /// What was done to which file.
        what: String,
        /// The system's answer.
        error: std::io::Error,
    },
}

/// What to do about a catalog that failed.
fn of_catalog(error: &rusqlite::Error) -> &'static str {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        "The disk of the state folder is full: make room there and run the same command again. Nothing that is stored was \
         lost"
    } else {
        "It is only a cache: delete it and run again; it is rebuilt from the vault"
    }
}

impl OpsError {
    /// Whether it speaks of stored bytes that cannot be had, or not as they were, and of
    /// nothing else: other bytes may well be whole. Not of keys, this host or the request.
    pub fn is_of_stored_bytes(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Unreachable { .. } | Self::Corrupt { .. } | Self::Backend(_) => true,
            Self::NoVault { .. }
            | Self::NoPoint { .. }
            | Self::Owned { .. }
            | Self::Key { .. }
            | Self::Full { .. }
            | Self::Refused { .. }
            | Self::Source { .. }
            | Self::Catalog(_)
            | Self::Io { .. } => false,
        }
    }

    /// Damage of a named object, as a decoder saw it.
    pub fn format(what: impl Into<String>, error: &FormatError) -> Self {
        Self::Corrupt { what: what.into(), why: error.to_string() }
    }

    /// Damage of a named object.
    pub fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into() }
    }
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, OpsError>;
