//! The disk under a local folder: what a store of files needs, with syncing said out loud.
//!
//! Assumptions about the medium, and nothing else is assumed:
//! - A file sync that returned keeps the bytes of that file; a directory sync that returned keeps
//!   the entries of that directory, and not the entry of the directory in the one above.
//! - A rename replaces its target in one step: afterwards the name means the old file or the new
//!   one. Whether the old name survives a power cut beside the new one is open.
//! - Anything not synced may survive a power cut wholly, partly or not at all: sector by sector
//!   within a file, entry by entry within a directory; of several changes to one name a later one
//!   never gives way to an earlier one that was dropped in between.
//! - A process that is killed loses nothing it wrote; the next process sees it, synced or not.
//! - A failed file sync is final: nobody may sync that file again and believe the answer. A failed
//!   directory sync may be repeated (file systems with a journal stop accepting writes then).
//!
//! [`SimulatedDisk`] behaves exactly this badly. Each sync names what it is for ([`SyncPoint`]), so
//! that a test can leave out one of them and show that the loss is found.

mod medium;
mod place;
mod real;
mod simulated;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use place::{make_durably, place_file};
pub use real::RealDisk;
pub use simulated::SimulatedDisk;

/// A file system, by absolute paths.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Whether calls may wait for a device: then they are kept off the threads that run everyone's tasks.
    fn blocks(&self) -> bool;
    /// The path without links; an error if nothing is there.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// What stands at a path, links followed.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// What a directory holds, in no order.
    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>>;
    /// Makes an empty file; an error if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file (or, without an error, a directory) for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file a second name; an error if that name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes one directory; the one above must exist.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory survive a power cut.
    fn sync_directory(&self, directory: &Path, what_for: SyncPoint) -> io::Result<()>;
}

/// An open file. It stays readable when its name is gone.
pub trait DiskFile: Send + Sync + 'static {
    /// What it is now.
    fn metadata(&self) -> io::Result<Metadata>;
    /// Reads at an offset; fewer bytes only at the end of the file.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content so far survive a power cut.
    fn sync(&mut self, what_for: SyncPoint) -> io::Result<()>;
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: EntryKind,
    /// Length of a file.
    pub bytes: u64,
    /// When its content, or the entries of a directory, last changed.
    pub modified: SystemTime,
    /// Which one it is.
    pub identity: Identity,
}

/// The same file or directory under any name has the same identity, as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// The file or directory in it.
    pub inode: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its last part.
    pub name: OsString,
    /// What it is, links not followed.
    pub kind: EntryKind,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, to anything or nothing.
    Link,
    /// A device, a pipe, a socket.
    Other,
}

/// What a sync is for: one for each call of a sync in the code above a [`Disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncPoint {
    /// The bytes of an object, before it gets its name.
    Bytes,
    /// The name of an object that was created.
    Created,
    /// The name of an object that was replaced.
    Replaced,
    /// The name of an object that was there already: whoever published it may have been killed
    /// before its sync.
    Found,
    /// A directory between the root and the object, in the one above it.
    Way,
    /// The names that a listing shows and this process has not synced: they are counted as stored.
    Listed,
    /// The root of a location, the directory of a file, or a directory above it, made just now.
    Made,
    /// One that was there already, and the directories above it: whoever made them may have been
    /// killed before its sync.
    Root,
    /// The bytes of a single file that is put in place.
    FileBytes,
    /// Its name.
    FileName,
}

impl SyncPoint {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Bytes,
        Self::Created,
        Self::Replaced,
        Self::Found,
        Self::Way,
        Self::Listed,
        Self::Made,
        Self::Root,
        Self::FileBytes,
        Self::FileName,
    ];
}
