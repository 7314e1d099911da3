//! How what is restored gets its name: last, when it is whole.
//!
//! What always holds: nothing is written over by a name it did not have when it was looked at; what
//! stands under the name for unfinished things is ours, and goes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::compare::standing;
use crate::descent::open_beneath;

/// What a file is called until it is whole.
pub(super) const INCOMING: &[u8] = b".holdfast-incoming";

/// Whether a restore that was interrupted may have left a file of this name.
pub(super) fn is_incoming(name: &[u8]) -> bool {
    name.strip_prefix(INCOMING).is_some_and(|rest| rest.iter().all(|byte| *byte == b'~'))
}

/// A new file under a name that only an interrupted run can have left something under.
pub(super) fn create_anew(here: BorrowedFd<'_>, name: &[u8], mode: Mode) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let create = || open_beneath(here, name, flags, mode);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            rustix::fs::unlinkat(here, name, AtFlags::empty())?;
            create()
        }
        created => created,
    }
}

/// Makes something under a name; if that is the incoming one, what an interrupted run left there goes.
pub(super) fn anew(
    here: BorrowedFd<'_>,
    slot: &[u8],
    is_incoming: bool,
    make: impl Fn() -> rustix::io::Result<()>,
) -> io::Result<()> {
    match make() {
        Err(Errno::EXIST) if is_incoming => {
            rustix::fs::unlinkat(here, slot, AtFlags::empty())?;
            Ok(make()?)
        }
        done => Ok(done?),
    }
}

/// Gives what is whole its name. What appeared there meanwhile is not overwritten.
pub(super) fn land(here: BorrowedFd<'_>, slot: &[u8], name: &[u8], replaces: bool) -> io::Result<()> {
    if replaces {
        return Ok(rustix::fs::renameat(here, slot, here, name)?);
    }
    match rustix::fs::renameat_with(here, slot, here, name, RenameFlags::NOREPLACE) {
        // Not every file system knows this; then what stands there was looked at just before.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match standing(here, name)? {
            None => Ok(rustix::fs::renameat(here, slot, here, name)?),
            Some(_) => Err(Errno::EXIST.into()),
        },
        renamed => Ok(renamed?),
    }
}
