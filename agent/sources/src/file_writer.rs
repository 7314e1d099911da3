//! The bytes of one file on their way out of a vault.
//!
//! What always holds: never more than the recorded size is written, holes stay
//! holes, zeros that were written stay so unless asked otherwise, and [`FileWriter::finish`]
//! succeeds only when every byte came. Nothing is kept back: who gives many small parts
//! gathers them first.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use vault_format::tree::{Entry, Hole};

/// The unit in which file systems leave holes.
const BLOCK_BYTES: usize = 4 << 10;
/// Shorter runs of zeros are written: as holes they would only cut the file into pieces.
const ZEROS_BYTES_MIN: usize = 32 << 10;

/// Writes a file's stored bytes between its holes.
pub(crate) struct FileWriter {
    file: File,
    /// Where the next byte goes.
    at: u64,
    /// Where the last byte that was written ends.
    written_to: u64,
    size: u64,
    holes: std::iter::Peekable<std::vec::IntoIter<Hole>>,
    sparse: bool,
}

impl FileWriter {
    /// A writer of the checked `entry` into a new file; with `sparse`, long runs of zeros
    /// become holes, too.
    pub(crate) fn new(file: OwnedFd, entry: &Entry, sparse: bool) -> Self {
        Self {
            file: File::from(file),
            at: 0,
            written_to: 0,
            size: entry.size,
            holes: entry.holes.clone().into_iter().peekable(),
            sparse,
        }
    }

    /// Writes what comes next.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.skip_hole();
            let end = self.holes.peek().map_or(self.size, |hole| hole.offset);
            let room = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(bytes.len());
            if room == 0 {
                let message = format!("more than the recorded {} bytes came", self.size);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            self.write_run(&bytes[..room])?;
            bytes = &bytes[room..];
        }
        Ok(())
    }

    /// The file, complete; `InvalidData` when bytes are missing.
    pub(crate) fn finish(mut self) -> io::Result<File> {
        self.skip_hole();
        if self.at != self.size {
            let (size, at) = (self.size, self.at);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes are recorded, {at} came")));
        }
        // A hole at the end is there only once the length says so.
        if self.written_to < self.size {
            self.file.set_len(self.size)?;
        }
        Ok(self.file)
    }

    fn skip_hole(&mut self) {
        if let Some(hole) = self.holes.next_if(|hole| hole.offset == self.at) {
            self.at += hole.bytes;
        }
    }

    fn write_run(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.sparse {
            for run in runs(bytes, self.at) {
                self.write_at(&bytes[run.clone()], self.at + run.start as u64)?;
            }
        } else {
            self.write_at(bytes, self.at)?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        self.written_to = at + bytes.len() as u64;
        Ok(())
    }
}

/// What of a buffer that starts at `offset` is written: all but long runs of whole zero blocks.
fn runs(buffer: &[u8], offset: u64) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let first = (offset.next_multiple_of(BLOCK_BYTES as u64) - offset) as usize;
    let (mut start, mut at) = (0, first.min(buffer.len()));
    while at + BLOCK_BYTES <= buffer.len() {
        let blocks = buffer[at..].chunks_exact(BLOCK_BYTES);
        let zeros = blocks.take_while(|block| block.iter().all(|byte| *byte == 0)).count() * BLOCK_BYTES;
        if zeros >= ZEROS_BYTES_MIN {
            found.push(start..at);
            start = at + zeros;
        }
        at += zeros.max(BLOCK_BYTES);
    }
    found.push(start..buffer.len());
    found.retain(|run| !run.is_empty());
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use vault_format::Blob;
    use vault_format::tree::EntryKind;

    use super::*;

    pub(crate) fn entry(size: u64, holes: &[(u64, u64)]) -> Entry {
        Entry {
            name: Blob(b"file".to_vec()),
            kind: EntryKind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime_s: 0,
            mtime_ns: 0,
            size,
            content: None,
            target: None,
            xattrs: Vec::new(),
            device: 0,
            link_group: 0,
            holes: holes.iter().map(|&(offset, bytes)| Hole { offset, bytes }).collect(),
            flags: 0,
        }
    }

    fn written(entry: &Entry, bytes: &[u8]) -> io::Result<(Vec<u8>, u64)> {
        written_as(entry, bytes, false)
    }

    fn written_as(entry: &Entry, bytes: &[u8], sparse: bool) -> io::Result<(Vec<u8>, u64)> {
        let file = tempfile::NamedTempFile::new()?;
        let mut writer = FileWriter::new(file.reopen()?.into(), entry, sparse);
        writer.write(bytes)?;
        writer.finish()?;
        let mut read = Vec::new();
        file.reopen()?.read_to_end(&mut read)?;
        Ok((read, file.as_file().metadata()?.blocks() * 512))
    }

    #[test]
    fn holes_come_back_as_zeros_that_take_no_room() {
        let sparse = entry(3 << 20, &[(0, 1 << 20), ((1 << 20) + 3, (1 << 20) - 3), ((2 << 20) + 3, (1 << 20) - 3)]);
        let (read, taken) = written(&sparse, b"abcxyz").unwrap();
        let mut expected = vec![0; 3 << 20];
        expected[1 << 20..(1 << 20) + 3].copy_from_slice(b"abc");
        expected[2 << 20..(2 << 20) + 3].copy_from_slice(b"xyz");
        assert_eq!(read, expected);
        assert!(taken < 1 << 20, "{taken} bytes on disk");
        let (read, _) = written(&entry(4096, &[(0, 4096)]), b"").unwrap();
        assert_eq!(read, vec![0; 4096]);
    }

    #[test]
    fn long_runs_of_zeros_become_holes_where_asked_and_short_ones_stay() {
        let mut bytes = vec![7; 3 << 20];
        for (from, to) in [(0, 300 << 10), (1_000_001, 1_900_007), (2_100_000, 2_110_000), (3_000_000, 3 << 20)] {
            bytes[from..to].fill(0);
        }
        let (read, taken) = written_as(&entry(bytes.len() as u64, &[]), &bytes, true).unwrap();
        assert!(read == bytes);
        assert!(taken < 2 << 20, "{taken} bytes on disk");
        let (read, taken) = written(&entry(bytes.len() as u64, &[]), &bytes).unwrap();
        assert!(read == bytes && taken >= 3 << 20, "{taken} bytes on disk");
        let zeros = vec![0; 1 << 20];
        let (read, taken) = written_as(&entry(1 << 20, &[]), &zeros, true).unwrap();
        assert!(read == zeros && taken < 64 << 10, "{taken} bytes on disk");
    }

    #[test]
    fn too_few_and_too_many_bytes_are_errors() {
        assert_eq!(written(&entry(3, &[]), b"abc").unwrap().0, b"abc");
        for bytes in [&b"ab"[..], b"abcd"] {
            assert_eq!(written(&entry(3, &[]), bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert!(written(&entry(5, &[(3, 2)]), b"abcd").is_err());
    }
}
