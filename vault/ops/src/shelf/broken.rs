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
        if !error.is_of_stored_bytes() {
            return None;
        }
        Some(if let OpsError::Lost { what } = error {
            Self::Lost(what.clone())
        } else if let OpsError::Unreachable { what } = error {
            Self::Unreachable(what.clone())
        } else if let OpsError::Corrupt { what, why } = error {
            Self::Other { what: what.clone(), why: why.clone() }
        } else {
            Self::Other { what: of(pack), why: error.to_string() }
        })
    }

    pub(super) fn error(self) -> OpsError {
        match self {
            Self::Lost(what) => OpsError::Lost { what },
            Self::Unreachable(what) => OpsError::Unreachable { what },
            Self::Other { what, why } => OpsError::Corrupt { what, why },
        }
    }
}
