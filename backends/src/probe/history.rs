//! What a thief with these credentials could undo: versions, and locks that hold when we
//! try to delete.
//!
//! What always holds: a lock is believed when a delete was refused and the bytes were
//! read afterwards, not because a header speaks of one.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutResult};

use super::Grade;
use super::trial::{Object, Trial, real_version};
use crate::versions::{LockMode, Locking, VersionId};
use crate::{BackendError, Kind, classify};

/// What an attack with these credentials left of an object.
pub(super) struct History {
    pub(super) may_delete: bool,
    /// `None` where nothing of an overwritten object can be read any more.
    pub(super) versions: Option<Kept>,
}

#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub(super) may_erase: bool,
    /// Every new object is locked by the location's own rule.
    pub(super) locked: bool,
    /// An object that asks to be locked is.
    pub(super) locks_on_request: bool,
}

/// How long an object of a probe is locked that asks for it.
const LOCK_MS: i64 = 60_000;

impl History {
    pub(super) fn grade(&self) -> Grade {
        match self.versions {
            None | Some(Kept { may_erase: true, .. }) => Grade::Overwritable,
            Some(Kept { may_erase: false, locked: true, .. }) => Grade::Locked,
            Some(Kept { may_erase: false, locked: false, .. }) => Grade::Versioned,
        }
    }

    pub(super) fn may_erase_versions(&self) -> bool {
        self.versions.is_some_and(|kept| kept.may_erase)
    }
}

impl Trial<'_> {
    /// Overwritten already; now deletes the object, then erases its first version.
    pub(super) async fn attack(
        &mut self,
        object: &Object,
        first: &PutResult,
        now_ms: i64,
    ) -> Result<History, BackendError> {
        let may_delete = match self.location.store().delete(&object.name).await {
            Ok(()) => self.is_gone(&object.name).await,
            Err(error) if classify(&error) == Kind::NotFound => true,
            Err(_) => false,
        };
        let mut history = History { may_delete, versions: None };
        let (Some(version), Some(versions)) = (real_version(first), self.location.versions()) else {
            return Ok(history);
        };
        if !self.still_there(object, &version).await {
            return Ok(history);
        }
        let id = VersionId(version.clone());
        let lock = versions.lock(object.name.as_ref(), Some(&id)).await?;
        let locked = lock.is_some_and(|lock| lock.mode == LockMode::Compliance);
        let may_erase = self.erases(object, &id).await;
        let locks_on_request = !locked && self.lock_holds(may_erase, now_ms).await;
        history.versions = Some(Kept { may_erase, locked: locked && !may_erase, locks_on_request });
        Ok(history)
    }

    /// Tries to delete a version for good. Only a refusal shows that it is protected; a
    /// failure shows nothing.
    async fn erases(&self, object: &Object, version: &VersionId) -> bool {
        let Some(versions) = self.location.versions() else { return true };
        match versions.delete(object.name.as_ref(), version).await {
            Ok(()) => !self.still_there(object, &version.0).await,
            Err(error) => error.kind() != Kind::Denied,
        }
    }

    /// Locks an object for a minute and tries to delete it with the same credentials.
    /// Where these could erase nothing anyway, a refusal shows nothing: then the location
    /// must at least say that it locks what asks for it.
    async fn lock_holds(&mut self, may_erase: bool, now_ms: i64) -> bool {
        let object = self.object("lock", 0);
        let Ok(put) = self.put(&object.name, &object.bytes, PutMode::Overwrite).await else { return false };
        let (Some(version), Some(versions)) = (real_version(&put), self.location.versions()) else { return false };
        let says_so = matches!(versions.locking().await, Ok(Locking::OnRequest | Locking::Always(_)));
        if !may_erase && !says_so {
            return false;
        }
        let id = VersionId(version);
        let until_ms = now_ms + LOCK_MS;
        if versions.extend_lock(object.name.as_ref(), Some(&id), until_ms).await.is_err() {
            return false;
        }
        let lock = versions.lock(object.name.as_ref(), Some(&id)).await;
        let shown = lock.is_ok_and(|lock| lock.is_some_and(|lock| lock.mode == LockMode::Compliance));
        shown && !self.erases(&object, &id).await && self.still_there(&object, &id.0).await
    }

    async fn is_gone(&self, name: &Path) -> bool {
        let found = self.location.store().head(name).await;
        found.is_err_and(|error| classify(&error) == Kind::NotFound)
    }

    async fn still_there(&self, object: &Object, version: &str) -> bool {
        let read = self.read_version(&object.name, Some(version)).await;
        read.is_ok_and(|bytes| bytes == object.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grade_is_what_a_thief_cannot_undo() {
        let grade = |versions| History { may_delete: true, versions }.grade();
        let kept = |may_erase, locked| Some(Kept { may_erase, locked, locks_on_request: true });
        assert_eq!(grade(None), Grade::Overwritable);
        assert_eq!(grade(kept(true, false)), Grade::Overwritable);
        // A lock that did not hold is none, whatever the header says.
        assert_eq!(grade(kept(true, true)), Grade::Overwritable);
        assert_eq!(grade(kept(false, false)), Grade::Versioned);
        assert_eq!(grade(kept(false, true)), Grade::Locked);
        assert!(Grade::Locked > Grade::Versioned && Grade::Versioned > Grade::Overwritable);
    }
}
