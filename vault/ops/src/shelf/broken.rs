//! Packs that cannot be put together.
//!
//! What always holds: only what was found in stored bytes, or in who holds them, is
//! remembered of an error; so no pack is given up because a disk here was full.

use vault_format::PackId;

use crate::error::OpsError;
use crate::restore::of;

/// Why a pack cannot be put together.
#[derive(Clone)]
pub(super) enum Broken {
    Lost(String),
    Unreachable(String),
    Other { what: String, why: String },
}

impl Broken {
    /// What it is worth remembering of an error: of stored bytes, and of nothing else.
    pub(super) fn of(pack: PackId, error: &OpsError) -> Option<Self> {
        match error {
            OpsError::Lost { what } => Some(Self::Lost(what.clone())),
            OpsError::Unreachable { what } => Some(Self::Unreachable(what.clone())),
            OpsError::Corrupt { what, why } => Some(Self::Other { what: what.clone(), why: why.clone() }),
            error => error.is_of_stored_bytes().then(|| Self::Other { what: of(pack), why: error.to_string() }),
        }
    }

    pub(super) fn error(self) -> OpsError {
        match self {
            Self::Lost(what) => OpsError::Lost { what },
            Self::Unreachable(what) => OpsError::Unreachable { what },
            Self::Other { what, why } => OpsError::Corrupt { what, why },
        }
    }
}
