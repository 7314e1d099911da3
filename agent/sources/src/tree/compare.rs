//! Whether what stands in a target is what the point holds: by its bytes.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Advice, AtFlags, Mode, OFlags, Stat};
use vault_format::tree::{Entry, EntryKind};
use vault_ops::{OpsError, Result};

use super::standing::device_of;
use crate::descent::open_beneath;
use crate::listing::content_of;
use crate::metadata::{kind_of, size_of};
use crate::point_tree::PointTree;
use crate::stored_bytes::StoredBytes;

/// What a comparison found.
pub(crate) enum Compared {
    /// The same; of a file its open descriptor.
    Same(Option<OwnedFd>),
    /// Another thing, and why.
    Differs(&'static str),
}

/// What stands under a name, or none.
pub(crate) fn standing(here: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Compares what is no directory with an entry. With `from_disk` what the system
/// remembers of a file is put away first, as far as it lets us.
pub(crate) async fn compare(
    tree: PointTree<'_>,
    here: BorrowedFd<'_>,
    entry: &Entry,
    from_disk: bool,
) -> Result<io::Result<Compared>> {
    let stat = match standing(here, &entry.name.0) {
        Ok(Some(stat)) => stat,
        Ok(None) => return Ok(Ok(Compared::Differs("it is not there"))),
        Err(error) => return Ok(Err(error)),
    };
    if kind_of(&stat) != Some(entry.kind) {
        return Ok(Ok(Compared::Differs("something else stands there")));
    }
    let found = match entry.kind {
        EntryKind::File => return compare_file(tree, here, entry, &stat, from_disk).await,
        EntryKind::Symlink => match rustix::fs::readlinkat(here, &entry.name.0[..], Vec::new()) {
            Ok(target) if Some(target.as_bytes()) == entry.target.as_ref().map(|target| &target.0[..]) => {
                Compared::Same(None)
            }
            Ok(_) => Compared::Differs("it leads elsewhere"),
            Err(error) => return Ok(Err(error.into())),
        },
        EntryKind::CharDevice | EntryKind::BlockDevice if stat.st_rdev != device_of(entry) => {
            Compared::Differs("it is another device")
        }
        EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo | EntryKind::Socket | EntryKind::Directory => {
            Compared::Same(None)
        }
    };
    Ok(Ok(found))
}

async fn compare_file(
    tree: PointTree<'_>,
    here: BorrowedFd<'_>,
    entry: &Entry,
    stat: &Stat,
    from_disk: bool,
) -> Result<io::Result<Compared>> {
    if size_of(stat) != entry.size {
        return Ok(Ok(Compared::Differs("it has another size")));
    }
    // Without waiting, should a pipe have taken its place.
    let opened = open_beneath(here, &entry.name.0, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    let opened = opened.and_then(|file| Ok((file.try_clone()?, file)));
    let (file, kept) = match opened {
        Ok(both) => both,
        Err(error) => return Ok(Err(error)),
    };
    if from_disk {
        // Only pages that are on disk go; where even those stay the comparison is as good as the memory.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    }
    let mut bytes = match StoredBytes::new(File::from(file), entry) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    match tree.matches(content_of(entry)?, &mut bytes).await {
        Ok(same) if same && !bytes.filled => Ok(Ok(Compared::Same(Some(kept)))),
        Ok(_) => Ok(Ok(Compared::Differs("its bytes are others"))),
        Err(OpsError::Io { error, .. }) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}
