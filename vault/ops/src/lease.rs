//! The lease on a writer's local state: one process at a time. The lock is the
//! kernel's, so a killed holder leaves nothing stale.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{OpsError, Result};

/// Held while a process writes for a writer; dropped, it is free again.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

impl Lease {
    /// Takes the lease, or says who holds it.
    pub fn take(path: &Path, holder: &str) -> Result<Self> {
        let io = |error| OpsError::Io { what: format!("opening the lease {}", path.display()), error };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut who = String::new();
                // Who it is only decorates the message.
                let _ = file.read_to_string(&mut who);
                return Err(OpsError::Owned {
                    what: format!(
                        "another process works with this vault's state ({}). Nothing was changed; wait for it, or stop \
                         it and run the same command again",
                        who.trim()
                    ),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{holder}")).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let first = Lease::take(&path, "agent 17").unwrap();
        let error = Lease::take(&path, "run 18").unwrap_err();
        assert!(matches!(&error, OpsError::Owned { what } if what.contains("agent 17")), "{error}");
        drop(first);
        Lease::take(&path, "run 18").unwrap();
    }
}
