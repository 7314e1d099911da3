//! One regular file of a walk: known unchanged, or read.
//!
//! What always holds: what is stored of a file is what it held between two looks at
//! it; if they differ, it is marked and named. A file is taken unread only if its
//! inode, size and times are those of the reading that stored it, and then everything
//! else of its entry is read anew.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;
use vault_format::body::ChunkKind;
use vault_format::tree::{ENTRY_CHANGED_DURING_READ, EntryKind};
use vault_ops::file_cache::{KnownFiles, Seen, SeenFile, Stamp};

use crate::descent::open_beneath;
use crate::directory::{Found, Stop, Walk};
use crate::file_bytes::{FileBytes, ReadFile, UNSIZED_BYTES_MAX};
use crate::holes::find_holes;
use crate::metadata::{entry_of, kind_of, read_xattrs, size_of};

type Opened = std::result::Result<OwnedFd, io::Error>;

/// What changes whenever the file does.
pub(crate) fn stamp_of(stat: &Stat) -> Stamp {
    Stamp {
        inode: stat.st_ino,
        size: size_of(stat),
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
    }
}

impl Walk<'_> {
    /// A file that `open` opens, as it was just looked at.
    pub(crate) fn file(
        &mut self,
        known: &mut KnownFiles,
        name: &[u8],
        path: &Path,
        stat: &Stat,
        open: impl Fn(&Self) -> Opened,
    ) -> std::result::Result<Found, Stop> {
        if let Some(found) = self.unchanged(known, name, stat, &open)? {
            return Ok(found);
        }
        let file = open(self)?;
        self.read_file(known, name, path, file)
    }

    fn unchanged(
        &mut self,
        known: &mut KnownFiles,
        name: &[u8],
        stat: &Stat,
        open: &impl Fn(&Self) -> Opened,
    ) -> std::result::Result<Option<Found>, Stop> {
        let seen = if self.force { None } else { known.seen(name, &stamp_of(stat)) };
        let Some(Seen { stamp, file: Some(mut file) }) = seen else { return Ok(None) };
        if !self.sink.reuse(&mut file.kept).map_err(Stop::Sink)? {
            return Ok(None);
        }
        let mut entry = entry_of(name, EntryKind::File, stat, &self.owners);
        if !file.bare {
            // It was opened before; what is wrong with it now is said where it is read.
            let opened = open(self).and_then(|opened| read_xattrs(opened.as_fd()));
            let Ok(xattrs) = opened else { return Ok(None) };
            entry.xattrs = xattrs;
        }
        entry.size = stamp.size;
        entry.holes.clone_from(&file.holes);
        entry.content = Some(file.kept.content.clone());
        known.note(name, &Seen { stamp, file: Some(file) });
        Ok(Some(Found::Entry(self.remember(entry, stat))))
    }

    /// Opens without waiting, should a pipe have taken the file's place, and
    /// without touching its access time where that is allowed.
    pub(crate) fn open_file(&self, here: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Opened {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        if self.me.is_root() || self.me.as_raw() == stat.st_uid {
            match open_beneath(here, name, flags | OFlags::NOATIME, Mode::empty()) {
                Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {}
                opened => return opened,
            }
        }
        open_beneath(here, name, flags, Mode::empty())
    }

    fn read_file(
        &mut self,
        known: &mut KnownFiles,
        name: &[u8],
        path: &Path,
        file: OwnedFd,
    ) -> std::result::Result<Found, Stop> {
        let before = rustix::fs::fstat(&file)?;
        if kind_of(&before) != Some(EntryKind::File) {
            return Err(Stop::Io(io::Error::other("it became something else than a file while it was read")));
        }
        let mut entry = entry_of(name, EntryKind::File, &before, &self.owners);
        self.add_xattrs(&mut entry, file.as_fd(), path);
        let file = File::from(file);
        let holes = find_holes(&file, &before, size_of(&before));
        let mut bytes = FileBytes::new(file, size_of(&before), holes);
        let kept = self.sink.keep(ChunkKind::Data, &mut bytes).map_err(Stop::Sink)?;
        let ReadFile { file, size, holes, failed } = bytes.finish();
        if let Some(error) = failed {
            return Err(Stop::Io(error));
        }
        if size_of(&before) == 0 && size >= UNSIZED_BYTES_MAX {
            return Err(Stop::Io(io::Error::other("it claims to be empty and does not end")));
        }
        let after = rustix::fs::fstat(&file)?;
        self.count_read();
        entry.size = size;
        entry.content = Some(kept.content.clone());
        entry.holes.clone_from(&holes);
        if has_changed(&before, &after) {
            entry.flags |= ENTRY_CHANGED_DURING_READ;
            let (first, last) = (size_of(&before), size_of(&after));
            let why = format!(
                "it changed while it was read ({first} bytes before, {last} after); the {} bytes read are stored, \
                 marked as changing",
                kept.content.bytes
            );
            self.report(path, &why);
        } else if size == size_of(&before) {
            let file = SeenFile { kept, holes, bare: entry.xattrs.is_empty() };
            known.note(name, &Seen { stamp: stamp_of(&before), file: Some(file) });
        }
        Ok(Found::Entry(self.remember(entry, &before)))
    }
}

fn has_changed(before: &Stat, after: &Stat) -> bool {
    let seen = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    seen(before) != seen(after)
}
