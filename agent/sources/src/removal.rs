//! Removing what a restored tree does not have.
//!
//! What always holds: everything is reached by one name relative to an open directory,
//! never through a symbolic link, and never onto another file system: a link is removed,
//! not what it leads to; what is mounted below stays.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::descent::{Descent, list_names, open_directory};

/// What stands below a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Below {
    /// Names, itself included.
    pub(crate) names: u64,
    /// Bytes of files.
    pub(crate) bytes: u64,
}

/// Counts what [`remove`] would remove.
pub(crate) fn count(here: BorrowedFd<'_>, name: &[u8], device: u64) -> io::Result<Below> {
    visit(here, name, device, false)
}

/// Removes what stands under a name of an open directory, and everything below.
pub(crate) fn remove(here: BorrowedFd<'_>, name: &[u8], device: u64) -> io::Result<Below> {
    visit(here, name, device, true)
}

fn visit(here: BorrowedFd<'_>, name: &[u8], device: u64, removes: bool) -> io::Result<Below> {
    let mut below = Below::default();
    if !take(here, name, device, removes, &mut below)? {
        return Ok(below);
    }
    let top = open_directory(here, name)?;
    let mut levels = vec![(name.to_vec(), names_in(top.as_fd())?)];
    let mut descent = Descent::new(top);
    while let Some((_, names)) = levels.last_mut() {
        if let Some(next) = names.next() {
            let at = descent.here()?;
            if take(at, &next, device, removes, &mut below)? {
                let directory = open_directory(at, &next)?;
                let names = names_in(directory.as_fd())?;
                descent.enter(directory)?;
                levels.push((next, names));
            }
            continue;
        }
        let Some((done, _)) = levels.pop() else { break };
        if levels.is_empty() {
            if removes {
                rustix::fs::unlinkat(here, &done[..], AtFlags::REMOVEDIR)?;
            }
        } else {
            descent.leave();
            if removes {
                rustix::fs::unlinkat(descent.here()?, &done[..], AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(below)
}

/// Counts one name, and removes it if it is no directory. True for a directory.
fn take(here: BorrowedFd<'_>, name: &[u8], device: u64, removes: bool, below: &mut Below) -> io::Result<bool> {
    let stat = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_dev != device {
        return Err(Errno::XDEV.into());
    }
    below.names += 1;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(true);
    }
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        below.bytes += u64::try_from(stat.st_size).unwrap_or(0);
    }
    if removes {
        rustix::fs::unlinkat(here, name, AtFlags::empty())?;
    }
    Ok(false)
}

fn names_in(directory: BorrowedFd<'_>) -> io::Result<std::vec::IntoIter<Vec<u8>>> {
    let (names, broken) = list_names(directory);
    broken.map_or(Ok(names.into_iter()), Err)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn links_go_and_what_they_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("outside/deep")).unwrap();
        fs::write(at("outside/deep/precious"), b"stays").unwrap();
        fs::create_dir_all(at("target/old/below")).unwrap();
        fs::write(at("target/old/below/file"), b"goes").unwrap();
        fs::write(at("target/mine"), b"stays").unwrap();
        symlink(at("outside"), at("target/old/link")).unwrap();
        symlink(at("outside/deep/precious"), at("target/old/below/link")).unwrap();
        let target = rustix::fs::open(at("target"), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let device = fs::metadata(at("target")).unwrap().dev();
        let counted = count(target.as_fd(), b"old", device).unwrap();
        assert_eq!(counted, Below { names: 5, bytes: 4 });
        assert!(remove(target.as_fd(), b"old", device + 1).is_err(), "on another file system nothing goes");
        assert!(at("target/old/below/file").exists());
        assert_eq!(remove(target.as_fd(), b"old", device).unwrap(), counted);
        assert!(!at("target/old").exists());
        assert_eq!(fs::read(at("target/mine")).unwrap(), b"stays");
        assert_eq!(fs::read(at("outside/deep/precious")).unwrap(), b"stays");
    }
}
