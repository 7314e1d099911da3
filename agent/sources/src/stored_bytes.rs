//! The bytes of a restored file that its content describes: all but its holes.
//!
//! What always holds: a hole that reads as anything but zeros makes the file differ.

use std::fs::File;
use std::io::{self, Read, Seek};

use vault_format::tree::{Entry, Hole};

/// Most bytes of a hole read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Reads a file without the recorded holes, which it looks at too.
pub(crate) struct StoredBytes<'a> {
    file: File,
    at: u64,
    holes: std::iter::Peekable<std::slice::Iter<'a, Hole>>,
    /// A hole is none.
    pub(crate) filled: bool,
}

impl<'a> StoredBytes<'a> {
    pub(crate) fn new(mut file: File, entry: &'a Entry) -> io::Result<Self> {
        file.rewind()?;
        Ok(Self { file, at: 0, holes: entry.holes.iter().peekable(), filled: false })
    }

    /// Looks at what stands in a hole that begins here.
    fn pass_holes(&mut self) -> io::Result<()> {
        while let Some(hole) = self.holes.next_if(|hole| hole.offset == self.at) {
            let mut piece = vec![0; PIECE_BYTES];
            let mut left = hole.bytes;
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
                self.file.read_exact(&mut piece[..wanted])?;
                self.filled |= piece[..wanted].iter().any(|byte| *byte != 0);
                left -= wanted as u64;
            }
            self.at += hole.bytes;
        }
        Ok(())
    }
}

impl Read for StoredBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pass_holes()?;
        let until = self.holes.peek().map_or(u64::MAX, |hole| hole.offset - self.at);
        let wanted = usize::try_from(until).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..wanted])?;
        self.at += count as u64;
        Ok(count)
    }
}
