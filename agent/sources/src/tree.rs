//! The tree writer: a tree of files out of a point, below one directory.
//!
//! What always holds:
//! - Nothing is written outside the target. Every name is checked to be a single
//!   component, every step is relative to an open directory, no symbolic link is
//!   followed, files and directories are created exclusively.
//! - The target is new or empty, so nothing of the user's is touched.
//! - A forged point cannot take more than it says: depth, entries and listings
//!   are bounded, and each file gets exactly its recorded size.
//! - Success means every name, byte and attribute is there, except what the
//!   report names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use vault_format::point::TreeRoot;
use vault_format::tree::{Content, ENTRY_CHANGED_DURING_READ, Entry, EntryKind, Listing};
use vault_ops::source::{PointReader, tree_root};
use vault_ops::{OpsError, Result};

use crate::descent::{DEPTH_MAX, Descent, open_beneath, open_directory};
use crate::file_writer::FileWriter;
use crate::listing::{read_listing, stored_bytes};
use crate::metadata::{set_on, set_on_special, set_on_symlink};
use crate::path_text::path_text;
use crate::target::{io_error, open_target};

/// How a tree is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeOptions {
    /// Wait until everything is on the disk before success is reported.
    pub sync: bool,
    /// Set owners and create devices: only root can.
    pub as_root: bool,
    /// Most entries that are created: a small forged point can describe more
    /// files than any disk holds.
    pub entries_max: u64,
}

impl Default for TreeOptions {
    /// Synced, as root if the process is, up to 2^32 entries.
    fn default() -> Self {
        Self { sync: true, as_root: rustix::process::geteuid().is_root(), entries_max: 1 << 32 }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Regular files, further names of a file not counted.
    pub files: u64,
    /// Directories, the target not counted.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Pipes and devices.
    pub special: u64,
    /// Bytes of file data written.
    pub bytes: u64,
    /// Entries that belong to somebody else than the one who restored them:
    /// only root can give files away. Not repeated in `inexact`.
    pub other_owners: u64,
    /// What is not exactly as it was.
    pub inexact: Vec<Inexact>,
}

/// Something that could not be restored exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inexact {
    /// Below the target.
    pub path: String,
    /// What is missing or differs.
    pub why: String,
}

/// Writes the tree at `root` below the directory `to`, which is created if it
/// does not exist and must be empty if it does.
///
/// A failure leaves the files that were whole by then, which may be all that somebody
/// needs, and not the one that was being written.
pub async fn restore_tree(
    point: &dyn PointReader,
    root: &TreeRoot,
    to: &Path,
    options: TreeOptions,
) -> Result<TreeReport> {
    if tree_root(&root.content) != root.hash {
        return Err(OpsError::corrupt("the point's tree", "its top listing does not have the recorded tree root"));
    }
    let top = read_listing(point, &root.content, "").await?;
    let target = open_target(to)?;
    let mut writer = Writer {
        point,
        options,
        me: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        descent: Descent::new(target),
        path: PathBuf::new(),
        links: BTreeMap::new(),
        entries_left: options.entries_max,
        report: TreeReport::default(),
    };
    writer.write_all(top).await?;
    if options.sync {
        // One call for the whole file system is much faster than one per file,
        // and reports every write error since the target was opened.
        let synced = rustix::fs::syncfs(writer.descent.top());
        synced.map_err(|error| io_error(format!("syncing {}", to.display()), error))?;
    }
    Ok(writer.report)
}

/// One restore under way.
struct Writer<'a> {
    point: &'a dyn PointReader,
    options: TreeOptions,
    /// The user and group everything belongs to unless it is given away.
    me: (u32, u32),
    descent: Descent,
    /// Where the walk is, below the target.
    path: PathBuf,
    links: BTreeMap<u64, FirstName>,
    entries_left: u64,
    report: TreeReport,
}

/// Where a file with several names stands under its first.
struct FirstName {
    path: PathBuf,
    entry: Entry,
}

/// A directory whose entries are being written; its own attributes come last.
struct Frame {
    directory: Entry,
    entries: std::vec::IntoIter<Entry>,
}

impl Writer<'_> {
    async fn write_all(&mut self, top: Listing) -> Result<()> {
        let mut frames: Vec<Frame> = Vec::new();
        let mut entries = top.entries.into_iter();
        loop {
            if let Some(entry) = entries.next() {
                self.path.push(OsStr::from_bytes(&entry.name.0));
                self.take_entry()?;
                if entry.kind == EntryKind::Directory {
                    let listing = self.create_directory(&entry).await?;
                    let above = std::mem::replace(&mut entries, listing.entries.into_iter());
                    frames.push(Frame { directory: entry, entries: above });
                    continue;
                }
                self.create(&entry).await?;
            } else {
                let Some(frame) = frames.pop() else { return Ok(()) };
                self.finish_directory(&frame.directory)?;
                entries = frame.entries;
            }
            self.path.pop();
        }
    }

    fn take_entry(&mut self) -> Result<()> {
        self.entries_left = self.entries_left.checked_sub(1).ok_or_else(|| {
            let most = self.options.entries_max;
            OpsError::corrupt("the point's tree", format!("it describes more than {most} files"))
        })?;
        Ok(())
    }

    async fn create_directory(&mut self, entry: &Entry) -> Result<Listing> {
        if self.descent.depth() >= DEPTH_MAX {
            let why = format!("directories lie more than {DEPTH_MAX} deep");
            return Err(OpsError::corrupt("the point's tree", why));
        }
        let content = content_of(entry)?;
        let listing = read_listing(self.point, content, &path_text(&self.path)).await?;
        // Nobody else may enter before the attributes are set.
        let name = entry.name.0.as_slice();
        let here = self.descent.here();
        let created = here.and_then(|here| {
            rustix::fs::mkdirat(here, name, Mode::RWXU)?;
            open_directory(here, name)
        });
        let entered = created.and_then(|directory| self.descent.enter(directory));
        entered.map_err(|error| self.failed("creating", error))?;
        self.report.directories += 1;
        Ok(listing)
    }

    fn finish_directory(&mut self, entry: &Entry) -> Result<()> {
        let set = self.descent.here().map(|here| set_on(here, entry, self.options.as_root));
        let failed = set.map_err(|error| self.failed("finishing", error))?;
        self.descent.leave();
        self.count_owner(entry);
        self.inexact_all(&failed);
        Ok(())
    }

    async fn create(&mut self, entry: &Entry) -> Result<()> {
        if entry.link_group != 0 && self.link(entry)? {
            return Ok(());
        }
        match entry.kind {
            EntryKind::File => self.create_file(entry).await?,
            EntryKind::Symlink => self.create_symlink(entry)?,
            EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice => {
                if !self.create_special(entry)? {
                    return Ok(());
                }
            }
            EntryKind::Socket => {
                self.inexact("it is a socket: the program that listens on it creates it again");
                return Ok(());
            }
            EntryKind::Directory => unreachable!("directories are entered by the walk"),
        }
        self.count_owner(entry);
        if entry.link_group != 0 {
            self.links.insert(entry.link_group, FirstName { path: self.path.clone(), entry: entry.clone() });
        }
        Ok(())
    }

    async fn create_file(&mut self, entry: &Entry) -> Result<()> {
        let content = content_of(entry)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let opened =
            self.descent.here().and_then(|here| open_beneath(here, &entry.name.0, flags, Mode::RUSR | Mode::WUSR));
        let file = opened.map_err(|error| self.failed("creating", error))?;
        let mut writer = FileWriter::new(file, entry);
        let written = match self.point.read(content, &mut writer).await {
            Ok(()) => writer.finish().map_err(|error| self.failed("writing", error)),
            Err(error) => Err(writer.failed().map_or(error, |own| self.failed("writing", own))),
        };
        let file: File = written.inspect_err(|_| self.take_back(entry))?;
        let failed = set_on(file.as_fd(), entry, self.options.as_root);
        self.inexact_all(&failed);
        if entry.flags & ENTRY_CHANGED_DURING_READ != 0 {
            self.inexact("it was being changed while it was backed up: its bytes may be a mixture");
        }
        self.report.files += 1;
        self.report.bytes += stored_bytes(entry);
        Ok(())
    }

    /// Half a file under its whole name would be taken for the file.
    fn take_back(&self, entry: &Entry) {
        let removed = self.descent.here().and_then(|here| {
            rustix::fs::unlinkat(here, &entry.name.0[..], AtFlags::empty())?;
            Ok(())
        });
        // The restore failed and says so; that this fails too changes nothing of it.
        drop(removed);
    }

    fn create_symlink(&mut self, entry: &Entry) -> Result<()> {
        let name = entry.name.0.as_slice();
        let target = entry.target.as_ref().map_or(&[][..], |target| &target.0);
        let here = self.descent.here().map_err(|error| self.failed("creating", error))?;
        rustix::fs::symlinkat(target, here, name).map_err(|error| self.failed("creating", error))?;
        let failed = set_on_symlink(here, entry, self.options.as_root);
        self.inexact_all(&failed);
        self.report.symlinks += 1;
        Ok(())
    }

    /// Creates a pipe or a device; false if this user may not.
    fn create_special(&mut self, entry: &Entry) -> Result<bool> {
        let (kind, what) = match entry.kind {
            EntryKind::CharDevice => (FileType::CharacterDevice, "a character device"),
            EntryKind::BlockDevice => (FileType::BlockDevice, "a block device"),
            EntryKind::Fifo | EntryKind::File | EntryKind::Directory | EntryKind::Symlink | EntryKind::Socket => {
                (FileType::Fifo, "a pipe")
            }
        };
        if kind != FileType::Fifo && !self.options.as_root {
            self.inexact(&format!("it is {what}, which only root can create"));
            return Ok(false);
        }
        let device = rustix::fs::makedev((entry.device >> 32) as u32, entry.device as u32);
        let here = self.descent.here().map_err(|error| self.failed("creating", error))?;
        let made = rustix::fs::mknodat(here, &entry.name.0[..], kind, Mode::RUSR | Mode::WUSR, device);
        if let Err(error) = made {
            self.inexact(&format!("{what} could not be created: {error}"));
            return Ok(false);
        }
        let failed = set_on_special(here, entry, self.options.as_root);
        self.inexact_all(&failed);
        self.report.special += 1;
        Ok(true)
    }

    /// Gives an existing file a further name. False if this is the group's first
    /// name, or if linking is impossible here and the file must be written again.
    fn link(&mut self, entry: &Entry) -> Result<bool> {
        let Some(first) = self.links.get(&entry.link_group) else { return Ok(false) };
        if (Entry { name: entry.name.clone(), ..first.entry.clone() }) != *entry {
            let why = format!("two names of one file differ: {} and {}", path_text(&first.path), path_text(&self.path));
            return Err(OpsError::corrupt("the point's tree", why));
        }
        match self.link_to(&first.path, &entry.name.0) {
            Ok(()) => {
                self.report.hard_links += 1;
                Ok(true)
            }
            Err(error) => {
                let first = path_text(&first.path);
                self.inexact(&format!("it is a file of its own, not another name of {first}: {error}"));
                Ok(false)
            }
        }
    }

    fn link_to(&self, first: &Path, name: &[u8]) -> io::Result<()> {
        let here = self.descent.here()?;
        let first_name = first.file_name().unwrap_or_default();
        if first.parent() == self.path.parent() {
            return Ok(rustix::fs::linkat(here, first_name, here, name, AtFlags::empty())?);
        }
        let mut parent: Option<OwnedFd> = None;
        for component in first.parent().into_iter().flat_map(Path::components) {
            let from = parent.as_ref().map_or(self.descent.top(), AsFd::as_fd);
            parent = Some(open_directory(from, component.as_os_str().as_bytes())?);
        }
        let from = parent.as_ref().map_or(self.descent.top(), AsFd::as_fd);
        Ok(rustix::fs::linkat(from, first_name, here, name, AtFlags::empty())?)
    }

    fn count_owner(&mut self, entry: &Entry) {
        if !self.options.as_root && (entry.uid, entry.gid) != self.me {
            self.report.other_owners += 1;
        }
    }

    fn inexact(&mut self, why: &str) {
        self.report.inexact.push(Inexact { path: path_text(&self.path), why: why.to_owned() });
    }

    fn inexact_all(&mut self, failed: &[String]) {
        for why in failed {
            self.inexact(why);
        }
    }

    fn failed(&self, doing: &str, error: impl Into<io::Error>) -> OpsError {
        let (path, files) = (path_text(&self.path), self.report.files);
        io_error(format!("{doing} {path} (the restore is not complete: {files} files were written before)"), error)
    }
}

fn content_of(entry: &Entry) -> Result<&Content> {
    entry.content.as_ref().ok_or_else(|| OpsError::corrupt("the point's tree", "an entry lost its content"))
}
