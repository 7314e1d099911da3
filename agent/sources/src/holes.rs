//! The holes of a sparse file, asked of the system and not found by reading.
//!
//! What always holds: holes are in order, not empty and do not touch; where the
//! system says nothing, there is none, and zeros are read like any bytes.

use std::fs::File;

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;
use vault_format::tree::Hole;

/// A file in more pieces is read on from there: one entry of a listing stays small.
const HOLES_MAX: usize = 4096;

/// Where the bytes of `size` end, and where the holes are. The file's own place is at
/// its start again.
pub(crate) fn find_holes(file: &File, stat: &Stat, size: u64) -> Vec<Hole> {
    // In blocks of 512 bytes, whatever the file system's are: nothing is left out here.
    if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) >= size {
        return Vec::new();
    }
    let holes = look(file, size).unwrap_or_default();
    // A file that cannot be put back to its start has no holes either.
    if seek(file, SeekFrom::Start(0)).is_ok() { holes } else { Vec::new() }
}

fn look(file: &File, size: u64) -> Result<Vec<Hole>, Errno> {
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size && holes.len() < HOLES_MAX {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error),
        };
        if data > at {
            holes.push(Hole { offset: at, bytes: data - at });
        }
        if data >= size {
            break;
        }
        at = seek(file, SeekFrom::Hole(data))?;
        if at <= data {
            return Err(Errno::INVAL);
        }
    }
    Ok(holes)
}
