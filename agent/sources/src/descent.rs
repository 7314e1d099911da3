//! The open directories between a top and the place a walk has reached.
//!
//! What always holds:
//! - A directory is opened by one name relative to its parent's descriptor and
//!   never through a symbolic link, so nothing that happens to the path above
//!   moves the walk elsewhere.
//! - At most [`OPEN_MAX`] + 1 descriptors are open here, however deep the tree is; who takes
//!   one along ([`Descent::here_shared`]) bounds how many. A level that was closed is found
//!   again through `..` and must be the directory it was; if it was moved meanwhile, it is
//!   lost, never mistaken.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

/// Deepest directory that is backed up or restored. Twice this many bytes are
/// `PATH_MAX`: no program could name anything deeper.
pub(crate) const DEPTH_MAX: usize = 2048;
/// Levels below the top that stay open. Far below the usual limit of 1024
/// descriptors, and trees are rarely deeper.
const OPEN_MAX: usize = 64;

/// Bytes of directory entries asked of the system at once, as the C library does.
const DIRECTORY_BUFFER_BYTES: usize = 32 << 10;

/// Which directory it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Identity {
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

struct Level {
    directory: Option<Arc<OwnedFd>>,
    identity: Identity,
}

/// The chain of directories; the last is where the walk is.
pub(crate) struct Descent {
    top: Arc<OwnedFd>,
    levels: Vec<Level>,
}

impl Descent {
    /// Starts at an open directory.
    pub(crate) fn new(top: OwnedFd) -> Self {
        Self { top: Arc::new(top), levels: Vec::new() }
    }

    /// Directories below the top.
    pub(crate) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The directory at the top.
    pub(crate) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// The present directory; an error if it was moved while it was closed.
    pub(crate) fn here(&self) -> io::Result<BorrowedFd<'_>> {
        self.present().map(AsFd::as_fd)
    }

    /// The same for who works in it while the walk goes on.
    pub(crate) fn here_shared(&self) -> io::Result<Arc<OwnedFd>> {
        self.present().cloned()
    }

    fn present(&self) -> io::Result<&Arc<OwnedFd>> {
        match self.levels.last() {
            None => Ok(&self.top),
            Some(level) => level.directory.as_ref().ok_or(Errno::STALE.into()),
        }
    }

    /// Goes down into a directory opened from [`Self::here`].
    pub(crate) fn enter(&mut self, directory: OwnedFd) -> io::Result<()> {
        let identity = Identity::of(&rustix::fs::fstat(&directory)?);
        if self.levels.len() > OPEN_MAX
            && let Some(parent) = self.levels.last_mut()
        {
            parent.directory = None;
        }
        self.levels.push(Level { directory: Some(Arc::new(directory)), identity });
        Ok(())
    }

    /// Goes up again. If the parent cannot be found, [`Self::here`] says so.
    pub(crate) fn leave(&mut self) {
        let left = self.levels.pop();
        let (Some(left), Some(parent)) = (left, self.levels.last_mut()) else { return };
        if parent.directory.is_none() {
            parent.directory =
                left.directory.and_then(|child| reopen_parent(&child, parent.identity).ok().map(Arc::new));
        }
    }
}

fn reopen_parent(child: &OwnedFd, expected: Identity) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(child, "..", flags, Mode::empty())?;
    if Identity::of(&rustix::fs::fstat(&parent)?) == expected { Ok(parent) } else { Err(Errno::STALE.into()) }
}

/// Opens one name in a directory, never through a symbolic link.
///
/// `openat2` lets the kernel itself refuse to leave the directory. Kernels
/// before 5.6 do not know it and some sandboxes forbid it; then `O_NOFOLLOW`
/// gives the same for a single name, and names with `/` never get here.
pub(crate) fn open_beneath(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    assert!(!name.contains(&b'/') && name != b"..", "a name of one component");
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(directory, name, flags, mode, resolve) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(rustix::fs::openat(directory, name, flags, mode)?),
        opened => Ok(opened?),
    }
}

/// Opens one name in a directory, which must be a directory itself.
pub(crate) fn open_directory(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_beneath(directory, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// All names in a directory, sorted, and the error that ended the list early.
pub(crate) fn list_names(directory: BorrowedFd<'_>) -> (Vec<Vec<u8>>, Option<io::Error>) {
    let mut buffer = vec![MaybeUninit::uninit(); DIRECTORY_BUFFER_BYTES];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    let mut broken = None;
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => names.push(entry.file_name().to_bytes().to_vec()),
            Err(error) => {
                broken = Some(error.into());
                break;
            }
        }
    }
    names.retain(|name| name != b"." && name != b"..");
    names.sort_unstable();
    // A rename meanwhile can make the system list one name twice.
    names.dedup();
    (names, broken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open_top(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn descend(walk: &mut Descent, levels: usize) {
        for _ in 0..levels {
            rustix::fs::mkdirat(walk.here().unwrap(), "d", Mode::RWXU).unwrap();
            let next = open_directory(walk.here().unwrap(), b"d").unwrap();
            walk.enter(next).unwrap();
        }
    }

    fn open_descriptors(walk: &Descent) -> usize {
        walk.levels.iter().filter(|level| level.directory.is_some()).count()
    }

    #[test]
    fn a_deep_walk_keeps_few_descriptors_and_finds_its_way_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut walk = Descent::new(open_top(dir.path()));
        descend(&mut walk, 300);
        assert_eq!(open_descriptors(&walk), OPEN_MAX + 1);
        while walk.depth() > 0 {
            let expected = walk.levels.last().unwrap().identity;
            assert_eq!(Identity::of(&rustix::fs::fstat(walk.here().unwrap()).unwrap()), expected);
            walk.leave();
        }
        assert!(walk.here().is_ok());
    }

    #[test]
    fn a_moved_directory_is_lost_and_never_mistaken() {
        let dir = tempfile::tempdir().unwrap();
        let mut walk = Descent::new(open_top(dir.path()));
        descend(&mut walk, OPEN_MAX + 3);
        let deepest = dir.path().join("d/".repeat(OPEN_MAX + 3));
        std::fs::rename(&deepest, dir.path().join("moved")).unwrap();
        walk.leave();
        assert_eq!(walk.here().unwrap_err().raw_os_error(), Some(Errno::STALE.raw_os_error()));
        walk.leave();
        assert!(walk.here().is_err(), "nor can its parent be found through it");
        walk.leave();
        assert!(walk.here().is_ok(), "a level that stayed open goes on");
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let top = open_top(dir.path());
        assert!(open_directory(top.as_fd(), b"link").is_err());
        assert!(open_beneath(top.as_fd(), b"link", OFlags::RDONLY, Mode::empty()).is_err());
    }
}
