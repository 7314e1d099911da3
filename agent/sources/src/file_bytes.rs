//! The bytes of one file on their way into a sink.
//!
//! What always holds: a failing file never fails the sink. The error is kept
//! here and the sink sees the end of the file, so that one bad sector costs one
//! file and not the backup.

use std::fs::File;
use std::io::{self, Read};

/// Files that claim no bytes and yield some (in `/proc`, `/sys`) are read up to
/// here; none that is worth keeping is larger.
pub(crate) const UNSIZED_BYTES_MAX: u64 = 16 << 20;

/// Reads at most the size that was seen when the file was opened: a file that
/// grows as fast as it is read would never end.
pub(crate) struct FileBytes {
    file: File,
    left: u64,
    failed: Option<io::Error>,
}

impl FileBytes {
    /// Takes an open file and its size.
    pub(crate) fn new(file: File, size: u64) -> Self {
        Self { file, left: if size == 0 { UNSIZED_BYTES_MAX } else { size }, failed: None }
    }

    /// The file again, and why reading it ended early, if it did.
    pub(crate) fn finish(self) -> (File, Option<io::Error>) {
        (self.file, self.failed)
    }
}

impl Read for FileBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 || self.failed.is_some() {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..wanted]) {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(error);
                Ok(0)
            }
        }
    }
}
