//! The system's own file systems.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Disk, DiskFile, Entry, EntryKind, Identity, Metadata, SyncPoint};

/// The machine's file systems, by `std::fs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn blocks(&self) -> bool {
        true
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        convert(&fs::metadata(path)?)
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let convert = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok(Entry { name: entry.file_name(), kind: kind_of(entry.file_type()?) })
        };
        fs::read_dir(directory)?.map(convert).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_directory(&self, directory: &Path, _what_for: SyncPoint) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn metadata(&self) -> io::Result<Metadata> {
        convert(&self.0.metadata()?)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match self.0.read_at(&mut into[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self, _what_for: SyncPoint) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn convert(metadata: &fs::Metadata) -> io::Result<Metadata> {
    Ok(Metadata {
        kind: kind_of(metadata.file_type()),
        bytes: metadata.len(),
        modified: metadata.modified()?,
        identity: Identity { device: metadata.dev(), inode: metadata.ino() },
    })
}

fn kind_of(kind: FileType) -> EntryKind {
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Directory
    } else if kind.is_symlink() {
        EntryKind::Link
    } else {
        EntryKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sync leaves no trace that a program could see, but a device that cannot be synced says no.
    #[test]
    fn a_sync_reaches_the_system() {
        let device = Path::new("/dev/null");
        let mut file = RealDisk.open(device).unwrap();
        assert_eq!(file.sync(SyncPoint::Bytes).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let directory = RealDisk.sync_directory(device, SyncPoint::Way);
        assert_eq!(directory.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
