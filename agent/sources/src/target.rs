//! The directory a restore writes into: new, or empty.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use vault_ops::{OpsError, Result};

use crate::descent::list_names;

/// Creates the directory if there is none and refuses one with anything in it.
pub(crate) fn open_target(to: &Path) -> Result<OwnedFd> {
    let made = std::fs::create_dir_all(to).and_then(|()| sync_way(to));
    made.map_err(|error| io_error(format!("creating {}", to.display()), error))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(to, flags, Mode::empty());
    let target = opened.map_err(|error| io_error(format!("opening {}", to.display()), error))?;
    let (names, broken) = list_names(target.as_fd());
    if let Some(error) = broken {
        return Err(io_error(format!("reading {}", to.display()), error));
    }
    if !names.is_empty() {
        return Err(OpsError::Refused {
            what: format!(
                "{0} is not empty, and a restore never touches what is there. Nothing was written. Give a new directory; \
                 if an earlier restore was interrupted there, remove what it left (rm -r {0}) and run the same command \
                 again",
                to.display()
            ),
        });
    }
    Ok(target)
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

pub(crate) fn io_error(what: String, error: impl Into<io::Error>) -> OpsError {
    OpsError::Io { what, error: error.into() }
}
