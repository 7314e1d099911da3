//! What is remembered of the files of one directory, so that what did not change
//! is not read again. See docs/decisions/0028.
//!
//! What always holds: a row is a hint. It counts only for a file with the very same
//! inode, size and times; the sink then still asks whether every chunk counts today.
//! A row that is lost, rotten or another directory's is no row. Nothing that was
//! touched within [`RACY_MS`] of the scan is noted: a later change could leave the
//! same times behind.
//!
//! A row: version (1 byte), the packs that hold what follows, then for each name the
//! first 8 bytes of its keyed hash, the length of what follows, and the file; last 16
//! bytes of a keyed hash over all before. The key is the directory's own hash, so no row fits another directory,
//! and nobody without the scope's id key can read a name or make a row.

use std::collections::BTreeMap;

use vault_format::tree::{ChunkRef, Content, FANOUT, Hole};
use vault_format::{ChunkId, Hash, PackId};

use crate::source::Kept;

/// Times closer to the scan than this count as changed: file systems keep times as
/// coarse as two seconds.
pub const RACY_MS: i64 = 2_000;
const VERSION: u8 = 2;
const NAME_BYTES: usize = 8;
const CHECK_BYTES: usize = 16;
/// A row that would be larger leaves files out, and they are read again.
const ROW_BYTES_MAX: usize = 256 << 20;
const HAS_FILE: u8 = 1;
const IS_BARE: u8 = 2;

/// What changes whenever a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its number in its file system.
    pub inode: u64,
    /// Bytes, holes included.
    pub size: u64,
    /// When its bytes changed: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// When anything of it changed.
    pub ctime: (i64, u32),
}

impl Stamp {
    /// Whether a change after a scan could leave this stamp behind. The system sets the
    /// change time at every change, by its own clock, and lets nobody choose it: one that
    /// lies far enough before the scan is not given again. Any program chooses the other:
    /// it counts only near the scan, for file systems that make change times up. One far in
    /// the future is not given by the next write either.
    fn is_racy(&self, scan_ms: i64) -> bool {
        let ms = |(seconds, nanoseconds): (i64, u32)| {
            seconds.saturating_mul(1000).saturating_add(i64::from(nanoseconds / 1_000_000))
        };
        let (from, to) = (scan_ms.saturating_sub(RACY_MS), scan_ms.saturating_add(RACY_MS));
        let mtime_ms = ms(self.mtime);
        ms(self.ctime) > from || (mtime_ms > from && mtime_ms <= to)
    }
}

/// What was stored of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As it was before it was read.
    pub stamp: Stamp,
    /// Of a regular file, its bytes.
    pub file: Option<SeenFile>,
}

/// What was stored of a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFile {
    /// Its bytes without holes.
    pub kept: Kept,
    /// Its holes.
    pub holes: Vec<Hole>,
    /// It had no extended attributes; those it has are read each time.
    pub bare: bool,
}

/// Name hashes and where their files begin in a row, sorted.
type Index = Vec<(u64, u32)>;

/// What is known of the names in one directory, and what this reading says of them.
pub struct KnownFiles {
    key: Hash,
    scan_ms: i64,
    old: Vec<u8>,
    /// The packs its files name by their places here.
    old_packs: Vec<PackId>,
    index: Index,
    new: Vec<u8>,
    new_packs: BTreeMap<PackId, u64>,
}

/// What becomes of a directory's row.
#[derive(Debug, PartialEq, Eq)]
pub enum Row {
    /// It stays; `true` if there is one.
    Same(bool),
    /// It is written.
    Write(Vec<u8>),
}

impl KnownFiles {
    /// What a row says of the directory whose keyed hash is `key`, scanned at
    /// `scan_ms`.
    pub fn new(key: Hash, row: Option<Vec<u8>>, scan_ms: i64) -> Self {
        let mut known = Self {
            key,
            scan_ms,
            old: row.unwrap_or_default(),
            old_packs: Vec::new(),
            index: Vec::new(),
            new: Vec::new(),
            new_packs: BTreeMap::new(),
        };
        match known.read_index() {
            Some((packs, index)) => (known.old_packs, known.index) = (packs, index),
            None => known.old.clear(),
        }
        known
    }

    /// Nothing known, and nothing to be remembered.
    pub fn none() -> Self {
        Self::new(Hash([0; 32]), None, i64::MIN)
    }

    /// The directory's keyed hash.
    pub fn key(&self) -> Hash {
        self.key
    }

    /// What was stored under `name`, if it has not changed since.
    pub fn seen(&self, name: &[u8], stamp: &Stamp) -> Option<Seen> {
        let wanted = self.name_hash(name);
        let at = self.index.binary_search_by_key(&wanted, |(hash, _)| *hash).ok()?;
        let seen = read_seen(&mut Reader(self.old.get(self.index[at].1 as usize..)?), &self.old_packs)?;
        (seen.stamp == *stamp).then_some(seen)
    }

    /// Notes what stands under `name` now, for the next reading.
    pub fn note(&mut self, name: &[u8], seen: &Seen) {
        if seen.stamp.is_racy(self.scan_ms) {
            return;
        }
        let mut bytes = Vec::new();
        write_seen(&mut bytes, seen, &mut self.new_packs);
        if self.new.len() + bytes.len() < ROW_BYTES_MAX {
            self.new.extend_from_slice(&self.name_hash(name).to_le_bytes());
            push(&mut self.new, bytes.len() as u64);
            self.new.extend_from_slice(&bytes);
        }
    }

    /// Ends the reading of this directory.
    pub fn into_row(mut self) -> Row {
        if self.new.is_empty() && self.old.is_empty() {
            return Row::Same(false);
        }
        let mut packs: Vec<(u64, PackId)> = self.new_packs.iter().map(|(pack, place)| (*place, *pack)).collect();
        packs.sort_unstable();
        let mut row = vec![VERSION];
        push(&mut row, packs.len() as u64);
        for (_, pack) in packs {
            row.extend_from_slice(&pack.0);
        }
        row.append(&mut self.new);
        let check = self.check(&row);
        row.extend_from_slice(&check);
        if row == self.old { Row::Same(true) } else { Row::Write(row) }
    }

    fn name_hash(&self, name: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        // No row begins with this byte: the two uses of the key are apart.
        hasher.update(&[0]).update(name);
        let mut first = [0; NAME_BYTES];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..NAME_BYTES]);
        u64::from_le_bytes(first)
    }

    fn check(&self, body: &[u8]) -> [u8; CHECK_BYTES] {
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&blake3::keyed_hash(&self.key.0, body).as_bytes()[..CHECK_BYTES]);
        check
    }

    fn read_index(&self) -> Option<(Vec<PackId>, Index)> {
        let end = self.old.len().checked_sub(CHECK_BYTES)?;
        let (body, check) = self.old.split_at(end);
        if self.check(body) != check || *body.first()? != VERSION {
            return None;
        }
        let mut reader = Reader(&body[1..]);
        let (mut packs, mut index) = (Vec::new(), Vec::new());
        for _ in 0..reader.number()? {
            packs.push(PackId::from_slice(reader.take(PackId::BYTES)?)?);
        }
        while !reader.0.is_empty() {
            let hash = u64::from_le_bytes(reader.take(NAME_BYTES)?.try_into().ok()?);
            let length = usize::try_from(reader.number()?).ok()?;
            index.push((hash, u32::try_from(end - reader.0.len()).ok()?));
            reader.take(length)?;
        }
        index.sort_unstable();
        Some((packs, index))
    }
}

/// Seven bits a byte, the low ones first.
fn push(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Numbers around zero are short, on both sides.
fn push_signed(to: &mut Vec<u8>, number: i64) {
    push(to, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn write_seen(to: &mut Vec<u8>, seen: &Seen, packs: &mut BTreeMap<PackId, u64>) {
    let Seen { stamp, file } = seen;
    let bare = file.as_ref().is_some_and(|file| file.bare);
    to.push(if file.is_some() { HAS_FILE } else { 0 } | if bare { IS_BARE } else { 0 });
    push(to, stamp.inode);
    push(to, stamp.size);
    for (seconds, nanoseconds) in [stamp.mtime, stamp.ctime] {
        push_signed(to, seconds);
        push(to, nanoseconds.into());
    }
    let Some(SeenFile { kept, holes, .. }) = file else { return };
    push(to, holes.len() as u64);
    for hole in holes {
        push(to, hole.offset);
        push(to, hole.bytes);
    }
    push(to, kept.content.bytes);
    to.push(kept.content.depth);
    push(to, kept.content.chunks.len() as u64);
    for chunk in &kept.content.chunks {
        to.extend_from_slice(&chunk.id.0);
        push(to, chunk.bytes.into());
    }
    push(to, kept.below.len() as u64);
    for id in &kept.below {
        to.extend_from_slice(&id.0);
    }
    push(to, kept.packs.len() as u64);
    for pack in &kept.packs {
        let next = packs.len() as u64;
        push(to, *packs.entry(*pack).or_insert(next));
    }
}

fn read_seen(from: &mut Reader<'_>, packs: &[PackId]) -> Option<Seen> {
    let flags = from.byte()?;
    let stamp = Stamp {
        inode: from.number()?,
        size: from.number()?,
        mtime: (from.signed()?, u32::try_from(from.number()?).ok()?),
        ctime: (from.signed()?, u32::try_from(from.number()?).ok()?),
    };
    if flags & HAS_FILE == 0 {
        return Some(Seen { stamp, file: None });
    }
    let mut holes = Vec::new();
    for _ in 0..from.number()? {
        holes.push(Hole { offset: from.number()?, bytes: from.number()? });
    }
    let (bytes, depth, count) = (from.number()?, from.byte()?, from.number()?);
    let mut chunks = Vec::new();
    for _ in 0..count.min(FANOUT as u64) {
        let id = ChunkId::from_slice(from.take(32)?)?;
        chunks.push(ChunkRef { id, bytes: u32::try_from(from.number()?).ok()? });
    }
    let content = Content { bytes, depth, chunks };
    content.check().ok()?;
    let mut below = Vec::new();
    for _ in 0..from.number()? {
        below.push(ChunkId::from_slice(from.take(32)?)?);
    }
    let mut held_by = Vec::new();
    for _ in 0..from.number()? {
        held_by.push(*packs.get(usize::try_from(from.number()?).ok()?)?);
    }
    let kept = Kept { content, below, packs: held_by };
    let file = SeenFile { kept, holes, bare: flags & IS_BARE != 0 };
    Some(Seen { stamp, file: Some(file) })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN_MS: i64 = 1_700_000_000_000;

    fn stamp(inode: u64) -> Stamp {
        Stamp { inode, size: 7, mtime: (-86_400, 999_999_999), ctime: (SCAN_MS / 1000 - 3, 5) }
    }

    fn file(inode: u64, depth: u8) -> Seen {
        let id = |at: u64| ChunkId(*blake3::hash(&(inode + at).to_le_bytes()).as_bytes());
        let content = Content { bytes: 3, depth, chunks: vec![ChunkRef { id: id(0), bytes: 3 }] };
        let below = (0..u64::from(depth)).map(|at| id(at + 1)).collect();
        let holes = vec![Hole { offset: 3, bytes: 4 }; (inode % 2) as usize];
        let packs = (0..inode % 3).map(|at| PackId([(inode + at) as u8; 16])).collect();
        let kept = Kept { content, below, packs };
        Seen { stamp: stamp(inode), file: Some(SeenFile { kept, holes, bare: inode.is_multiple_of(3) }) }
    }

    fn row(key: Hash, files: &[(&str, Seen)]) -> Vec<u8> {
        let mut known = KnownFiles::new(key, None, SCAN_MS);
        for (name, seen) in files {
            known.note(name.as_bytes(), seen);
        }
        match known.into_row() {
            Row::Write(row) => row,
            Row::Same(_) => panic!("a first row is written"),
        }
    }

    #[test]
    fn what_was_noted_is_known_again_by_name_and_stamp() {
        let key = Hash([7; 32]);
        let link = Seen { stamp: stamp(9), file: None };
        let files = [("b", file(1, 0)), ("a", file(2, 3)), ("link", link), ("zero", file(u64::MAX - 3, 0))];
        let written = row(key, &files);
        let mut known = KnownFiles::new(key, Some(written.clone()), SCAN_MS);
        for (name, seen) in &files {
            assert_eq!(known.seen(name.as_bytes(), &seen.stamp).as_ref(), Some(seen), "{name}");
            known.note(name.as_bytes(), seen);
        }
        assert_eq!(known.into_row(), Row::Same(true), "an equal row is not written again");
        let known = KnownFiles::new(key, Some(written), SCAN_MS);
        assert_eq!(known.seen(b"c", &stamp(1)), None);
        let changes: [fn(&mut Stamp); 6] = [
            |stamp| stamp.inode += 1,
            |stamp| stamp.size += 1,
            |stamp| stamp.mtime.0 += 1,
            |stamp| stamp.mtime.1 -= 1,
            |stamp| stamp.ctime.0 += 1,
            |stamp| stamp.ctime.1 += 1,
        ];
        for change in changes {
            let mut other = stamp(1);
            change(&mut other);
            assert_eq!(known.seen(b"b", &other), None, "{other:?}");
        }
    }

    #[test]
    fn a_row_with_any_bit_wrong_or_of_another_directory_is_no_row() {
        let key = Hash([7; 32]);
        let written = row(key, &[("a", file(1, 0)), ("b", file(2, 1))]);
        let knows = |key, row: &[u8]| KnownFiles::new(key, Some(row.to_vec()), SCAN_MS).seen(b"a", &stamp(1)).is_some();
        assert!(knows(key, &written));
        for bit in 0..written.len() * 8 {
            let mut rotten = written.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(!knows(key, &rotten), "bit {bit}");
        }
        for length in 0..written.len() {
            assert!(!knows(key, &written[..length]), "{length} bytes");
        }
        assert!(!knows(Hash([8; 32]), &written));
    }

    #[test]
    fn what_was_touched_within_two_seconds_of_the_scan_is_not_noted() {
        for (ctime_s, is_noted) in [(-3, true), (-2, true), (-1, false), (0, false), (1, false)] {
            let mut known = KnownFiles::new(Hash([1; 32]), None, SCAN_MS);
            let mut seen = file(1, 0);
            seen.stamp.ctime = (SCAN_MS / 1000 + ctime_s, 0);
            known.note(b"a", &seen);
            assert_eq!(known.into_row() != Row::Same(false), is_noted, "{ctime_s} s");
        }
    }

    #[test]
    fn a_time_that_programs_choose_counts_only_near_the_scan() {
        for (mtime_s, is_noted) in
            [(i64::MIN, true), (-3, true), (-1, false), (0, false), (2, false), (3, true), (i64::MAX, true)]
        {
            let mut known = KnownFiles::new(Hash([1; 32]), None, SCAN_MS);
            let mut seen = file(1, 0);
            seen.stamp.mtime = ((SCAN_MS / 1000).saturating_add(mtime_s), 0);
            known.note(b"a", &seen);
            assert_eq!(known.into_row() != Row::Same(false), is_noted, "{mtime_s} s");
        }
        let mut none = KnownFiles::none();
        none.note(b"a", &file(1, 0));
        assert_eq!(none.into_row(), Row::Same(false), "where nothing is to be remembered nothing is");
    }

    #[test]
    fn numbers_of_every_length_come_back() {
        for bits in 0..64 {
            for number in [1_u64 << bits, (1_u64 << bits) - 1, u64::MAX >> bits] {
                let mut bytes = Vec::new();
                push(&mut bytes, number);
                push_signed(&mut bytes, number.cast_signed());
                let mut reader = Reader(&bytes);
                assert_eq!((reader.number(), reader.signed()), (Some(number), Some(number.cast_signed())));
            }
        }
    }
}
