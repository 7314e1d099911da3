//! What of a point could not be read while it was restored, and when to give up.
//!
//! What always holds: what is named here was not written, and what stood there stayed as
//! it was; everything else goes on; where nothing comes any more the restore ends at once.

use std::collections::BTreeSet;

use vault_ops::{OpsError, Result};

/// Reasons one after the other, with nothing read between, after which nothing is
/// expected to come any more: a pack each, and each cost its waiting time.
const REASONS_MAX: usize = 8;

/// A file that is missing, or a directory whose content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Below the target.
    pub path: String,
    /// Whether it is a directory: it is there, and what the point holds in it is not.
    pub is_directory: bool,
    /// Whether something stands under its name that was there before, and was not shown to
    /// be it.
    pub stands: bool,
    /// Whether nobody is known to have it. Else locations that do not answer may.
    pub is_lost: bool,
    /// What happened, and what to do.
    pub why: String,
}

impl Unread {
    pub(super) fn new(path: String, is_directory: bool, error: &OpsError) -> Self {
        let is_lost = !matches!(error, OpsError::Unreachable { .. } | OpsError::Backend(_));
        Self { path, is_directory, stands: false, is_lost, why: error.to_string() }
    }
}

/// Tells one file's trouble from everybody's.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Reasons since something was read.
    reasons: BTreeSet<String>,
}

impl Patience {
    /// Something was read.
    pub(super) fn renew(&mut self) {
        if !self.reasons.is_empty() {
            self.reasons.clear();
        }
    }

    /// Whether to go on after this; the error itself if not.
    pub(super) fn bear(&mut self, error: OpsError) -> Result<OpsError> {
        if !error.is_of_stored_bytes() {
            return Err(error);
        }
        let is_away = matches!(error, OpsError::Unreachable { .. } | OpsError::Backend(_));
        if is_away && self.reasons.insert(error.to_string()) && self.reasons.len() > REASONS_MAX {
            return Err(error);
        }
        Ok(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(pack: usize) -> OpsError {
        OpsError::Unreachable { what: format!("pack {pack}") }
    }

    #[test]
    fn one_pack_is_borne_for_ever_and_all_of_them_are_not() {
        let mut patience = Patience::default();
        assert!((0..1000).all(|_| patience.bear(away(1)).is_ok()));
        assert!((0..1000).all(|pack| patience.bear(OpsError::Lost { what: pack.to_string() }).is_ok()));
        assert!((1..=REASONS_MAX).all(|pack| patience.bear(away(pack)).is_ok()));
        patience.renew();
        assert!((1..=REASONS_MAX).all(|pack| patience.bear(away(pack)).is_ok()));
        assert!(patience.bear(away(REASONS_MAX + 1)).is_err());
        assert!(Patience::default().bear(OpsError::Key { what: String::new() }).is_err());
    }
}
