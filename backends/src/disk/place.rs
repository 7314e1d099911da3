//! Putting a directory or a single file in place so that a power cut leaves it whole or not there.

use std::io;
use std::path::Path;

use super::{Disk, SyncPoint};

/// Makes a directory and the missing ones above it, and syncs all of them, also those that were
/// there: some may have been made by a process that was killed before its sync.
pub fn make_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if let Err(error) = disk.metadata(path) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        let above = path.parent().ok_or(error)?;
        make_durably(disk, above)?;
        match disk.make_directory(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        return disk.sync_directory(above, SyncPoint::Made);
    }
    let device = disk.metadata(path)?.identity.device;
    for above in path.ancestors().skip(1) {
        if disk.metadata(above)?.identity.device != device {
            // The path below is a mount point, which we did not make.
            break;
        }
        match disk.sync_directory(above, SyncPoint::Root) {
            // Where we may not look we made nothing, and neither did we before.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Writes a new small file, with the directories above it. It never replaces one: that is
/// "already exists". Only one process may do this for one path at a time.
pub fn place_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_durably(disk, directory)?;
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = Path::new(&staged);
    let mut created = disk.create(staged);
    if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        // Left half written by a process that was killed.
        disk.remove(staged)?;
        created = disk.create(staged);
    }
    let mut file = created?;
    let written = file.append(bytes).and_then(|()| file.sync(SyncPoint::FileBytes));
    let placed = written.and_then(|()| disk.link(staged, path));
    let _ = disk.remove(staged);
    placed?;
    disk.sync_directory(directory, SyncPoint::FileName)
}
