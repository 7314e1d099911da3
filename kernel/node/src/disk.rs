//! The disk under a node: a flat directory of files, with syncing said out loud.
//!
//! Assumptions about the medium: a `sync` that returned keeps the bytes of that file; a `sync_names` that
//! returned keeps creations, renames and removals; anything not synced may survive a crash wholly, partly
//! or not at all, in any order. A failed sync is final for the process: what it covered is unknown.
//! The crash tests run the node on a disk that behaves exactly this badly.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A flat directory.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file, emptying one that exists.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Renames, replacing what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals so far survive a crash.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + 'static {
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads at an offset; fewer bytes only at the end of the file.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts to a length.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
    /// Makes the content so far survive a crash.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real directory, held by a lock for as long as this value lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Keeps the lock.
    _lock: File,
}

/// Name of the lock file: never data.
pub(crate) const LOCK_NAME: &str = "lock";

impl Directory {
    /// Opens a directory, making it (mode 0700) if it is missing, and locks it.
    pub fn lock(path: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let name = path.display().to_string();
        let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(Error::io("cannot create", &name))?;
        for made in missing {
            // A directory whose own name is lost in a crash takes all that was synced inside with it.
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(Error::io("cannot sync the parent of", &name))?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_NAME))
            .map_err(Error::io("cannot open the lock in", &name))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Directory { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { dir: name }),
            Err(error) => Err(Error::Io { what: "cannot lock", name, source: error.into() }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours; it shows up as a stranger and is left alone.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        Ok(Box::new(OpenFile { file, end: 0 }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        let end = file.metadata()?.len();
        Ok(Box::new(OpenFile { file, end }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// A real file and where the next append goes.
struct OpenFile {
    file: File,
    end: u64,
}

impl DiskFile for OpenFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match self.file.read_at(&mut into[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.end = bytes;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        // fdatasync: a changed length counts as data, times do not.
        self.file.sync_data()
    }
}

/// The whole of a file.
pub(crate) fn read_all(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, Error> {
    let file = disk.open(name).map_err(Error::io("cannot open", name))?;
    let bytes = file.bytes().map_err(Error::io("cannot read", name))?;
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    let read = file.read_at(0, &mut content).map_err(Error::io("cannot read", name))?;
    content.truncate(read);
    Ok(content)
}

/// Puts a small file in place so that a crash leaves the old one or the new one, whole.
pub(crate) fn replace(disk: &dyn Disk, name: &str, content: &[u8]) -> Result<(), Error> {
    let aside = format!("{name}.tmp");
    let mut file = disk.create(&aside).map_err(Error::io("cannot create", &aside))?;
    file.append(content).map_err(Error::io("cannot write", &aside))?;
    file.sync().map_err(Error::io("cannot sync", &aside))?;
    disk.rename(&aside, name).map_err(Error::io("cannot rename to", name))?;
    disk.sync_names().map_err(Error::io("cannot sync the directory of", name))
}
