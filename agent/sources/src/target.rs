//! The directory a restore writes into, and the room there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use vault_ops::{OpsError, Result};

use crate::descent::list_names;

/// A target that is there already.
pub(crate) struct Target {
    pub(crate) directory: OwnedFd,
    pub(crate) is_empty: bool,
}

impl Target {
    /// The directory, if there is one; creates nothing.
    pub(crate) fn look(to: &Path) -> Result<Option<Self>> {
        let directory = match open(to) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(|error| io_error(format!("opening {}", to.display()), error))?,
        };
        let (names, broken) = list_names(directory.as_fd());
        match broken {
            Some(error) => Err(io_error(format!("reading {}", to.display()), error)),
            None => Ok(Some(Self { directory, is_empty: names.is_empty() })),
        }
    }
}

fn open(to: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the directory; true if it had to be made.
pub(crate) fn open_target(to: &Path) -> Result<(OwnedFd, bool)> {
    let is_new = std::fs::symlink_metadata(to).is_err();
    let made = std::fs::create_dir_all(to).and_then(|()| sync_way(to));
    made.map_err(|error| io_error(format!("creating {}", to.display()), error))?;
    let opened = open(to).map_err(|error| io_error(format!("opening {}", to.display()), error))?;
    Ok((opened, is_new))
}

/// Creates the directory if there is none and refuses one with anything in it.
pub(crate) fn open_empty(to: &Path) -> Result<OwnedFd> {
    if Target::look(to)?.is_some_and(|target| !target.is_empty) {
        return Err(OpsError::Refused {
            what: format!(
                "{0} is not empty; nothing was written. Give a new directory; if an earlier restore was interrupted there, \
                 remove what it left (rm -r {0}) and run the same command again",
                to.display()
            ),
        });
    }
    Ok(open_target(to)?.0)
}

/// Bytes that this user may still write at a path that need not exist yet.
pub(crate) fn room_at(to: &Path) -> Result<u64> {
    let absolute = std::path::absolute(to).map_err(|error| io_error(format!("looking at {}", to.display()), error))?;
    for above in absolute.ancestors() {
        match rustix::fs::statvfs(above) {
            Ok(space) => return Ok(space.f_bavail.saturating_mul(space.f_frsize)),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(io_error(format!("asking for the room at {}", above.display()), error)),
        }
    }
    Ok(u64::MAX)
}

/// Syncs every directory above: a restore whose own name is lost in a power cut was none.
fn sync_way(to: &Path) -> io::Result<()> {
    let to = to.canonicalize()?;
    let device = to.metadata()?.dev();
    for above in to.ancestors().skip(1) {
        if above.metadata()?.dev() != device {
            break;
        }
        match File::open(above).and_then(|directory| directory.sync_all()) {
            // Where we may not look we made nothing.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// What failed while something was restored; of a full disk with what to do about it.
pub(crate) fn io_error(what: String, error: impl Into<io::Error>) -> OpsError {
    let error = error.into();
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let what = if is_full {
        format!("{what}: its disk is full, make room there and run the same command again")
    } else {
        what
    };
    OpsError::Io { what, error }
}
