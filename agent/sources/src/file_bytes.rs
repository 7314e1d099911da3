//! The bytes of one file on their way into a sink, without its holes.
//!
//! What always holds: a failing file never fails the sink. The error is kept
//! here and the sink sees the end of the file, so that one bad sector costs one
//! file and not the backup. A hole is skipped, never read: a tebibyte of it costs
//! nothing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use vault_format::tree::Hole;

/// Files that claim no bytes and yield some (in `/proc`, `/sys`) are read up to
/// here; none that is worth keeping is larger.
pub(crate) const UNSIZED_BYTES_MAX: u64 = 16 << 20;

/// Reads at most the size that was seen when the file was opened: a file that
/// grows as fast as it is read would never end.
pub(crate) struct FileBytes {
    file: File,
    holes: Vec<Hole>,
    /// Holes that were passed.
    passed: usize,
    at: u64,
    end: u64,
    failed: Option<io::Error>,
}

/// A file that was read.
pub(crate) struct ReadFile {
    pub(crate) file: File,
    /// Bytes up to where it ended, holes included.
    pub(crate) size: u64,
    /// The holes before that.
    pub(crate) holes: Vec<Hole>,
    /// Why reading it ended early, if it did.
    pub(crate) failed: Option<io::Error>,
}

impl FileBytes {
    /// Takes an open file at its start, its size and its holes.
    pub(crate) fn new(file: File, size: u64, holes: Vec<Hole>) -> Self {
        let end = if size == 0 { UNSIZED_BYTES_MAX } else { size };
        Self { file, holes, passed: 0, at: 0, end, failed: None }
    }

    /// What was read.
    pub(crate) fn finish(mut self) -> ReadFile {
        self.holes.truncate(self.passed);
        ReadFile { file: self.file, size: self.at, holes: self.holes, failed: self.failed }
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(hole) = self.holes.get(self.passed).filter(|hole| hole.offset == self.at) {
            self.at += hole.bytes;
            self.passed += 1;
            if self.at < self.end {
                self.file.seek(SeekFrom::Start(self.at))?;
            }
        }
        let end = self.holes.get(self.passed).map_or(self.end, |hole| hole.offset);
        let wanted = buffer.len().min(usize::try_from(end - self.at).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..wanted])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Read for FileBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.failed.is_some() {
            return Ok(0);
        }
        match self.read_on(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.failed = Some(error);
                Ok(0)
            }
            read => read,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8], size: u64, holes: &[(u64, u64)]) -> (Vec<u8>, u64, usize) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let holes = holes.iter().map(|&(offset, bytes)| Hole { offset, bytes }).collect();
        let mut reading = FileBytes::new(file, size, holes);
        let mut found = Vec::new();
        reading.read_to_end(&mut found).unwrap();
        let done = reading.finish();
        assert!(done.failed.is_none());
        (found, done.size, done.holes.len())
    }

    #[test]
    fn what_is_read_is_all_but_the_holes() {
        assert_eq!(read(b"abcdef", 6, &[]), (b"abcdef".to_vec(), 6, 0));
        assert_eq!(read(b"..cd..", 6, &[(0, 2), (4, 2)]), (b"cd".to_vec(), 6, 2));
        assert_eq!(read(b"ab..ef", 6, &[(2, 2)]), (b"abef".to_vec(), 6, 1));
        assert_eq!(read(b"", 1 << 40, &[(0, 1 << 40)]), (Vec::new(), 1 << 40, 1));
    }

    /// Readable memory of this process that nothing follows: its file gives some bytes,
    /// and then an error, as a disk with a bad sector does.
    fn before_a_bad_sector(readable: u64) -> File {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let bounds = |line: &str| -> Option<(u64, u64, bool)> {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let parse = |text| u64::from_str_radix(text, 16).ok();
            Some((parse(start)?, parse(end)?, rest.starts_with("rw")))
        };
        let maps: Vec<_> = maps.lines().filter_map(bounds).collect();
        let is_last = |(one, next): (&(u64, u64, bool), &(u64, u64, bool))| (one.2 && one.1 < next.0).then_some(one.1);
        let end = maps.iter().zip(&maps[1..]).find_map(is_last).unwrap();
        let mut memory = File::open("/proc/self/mem").unwrap();
        memory.seek(SeekFrom::Start(end - readable)).unwrap();
        memory
    }

    #[test]
    fn a_file_that_fails_in_the_middle_ends_there_for_the_sink_and_keeps_its_error() {
        let mut reading = FileBytes::new(before_a_bad_sector(3_000), 1 << 20, Vec::new());
        let mut found = Vec::new();
        assert_eq!(reading.read_to_end(&mut found).unwrap(), 3_000);
        assert_eq!(reading.read(&mut [0; 10]).unwrap(), 0, "it is asked no more");
        let done = reading.finish();
        assert_eq!(done.size, 3_000);
        assert_eq!(done.failed.unwrap().raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    }

    #[test]
    fn a_file_that_ended_early_or_grew_gives_what_was_there() {
        assert_eq!(read(b"ab", 6, &[]), (b"ab".to_vec(), 2, 0));
        assert_eq!(read(b"a", 6, &[(2, 2)]), (b"a".to_vec(), 1, 0));
        assert_eq!(read(b"abcdef", 3, &[]), (b"abc".to_vec(), 3, 0));
        assert_eq!(read(b"what the system hides", 0, &[]), (b"what the system hides".to_vec(), 21, 0));
    }
}
