//! Content-defined chunks: FastCDC (Xia et al. 2020), normalisation level 1,
//! seeded per dedup scope, ids keyed per dedup scope.
//!
//! What always holds: the cuts depend on nothing but the content, the sizes and
//! the seed; how the bytes arrive does not matter. A chunk but the last is at
//! least `min`; every chunk is at most `max`, which is where constant runs are
//! cut. Sizes are even: the scan tests bytes in pairs, and odd sizes would move
//! the boundaries. Seeding does not hide boundaries from someone who sees chunk
//! sizes (eprint 2025/532, 2025/558); sizes are visible nowhere, see `seal`.

use std::borrow::Cow;
use std::io::{self, Read};

use fastcdc::v2020::{self, Normalization};
use keys::{ChunkerSeed, IdKey};
use vault_format::ChunkId;
use vault_format::body::{CHUNK_BYTES_MAX, ChunkKind};
use vault_format::vault::VaultRecord;

use crate::error::{CodecError, Result};

/// A piece of content with its name.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    /// Keyed hash of `plain`.
    pub id: ChunkId,
    /// What it holds.
    pub kind: ChunkKind,
    /// The bytes.
    pub plain: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Names a piece: BLAKE3, keyed with the scope's id key.
    pub fn new(key: &IdKey, kind: ChunkKind, plain: &'a [u8]) -> Self {
        Self { id: key.chunk_id(plain), kind, plain }
    }
}

/// Smallest, average and largest chunk, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    min: u32,
    average: u32,
    max: u32,
}

impl ChunkSizes {
    /// Checks the sizes against what FastCDC is defined for.
    pub fn new(min: u32, average: u32, max: u32) -> Result<Self> {
        let even = [min, average, max].iter().all(|size| size % 2 == 0);
        let ordered = min < average && average < max;
        let within = (v2020::MINIMUM_MIN..=v2020::MINIMUM_MAX).contains(&(min as usize))
            && (v2020::AVERAGE_MIN..=v2020::AVERAGE_MAX).contains(&(average as usize))
            && (v2020::MAXIMUM_MIN..=v2020::MAXIMUM_MAX.min(CHUNK_BYTES_MAX)).contains(&(max as usize));
        if even && ordered && within {
            Ok(Self { min, average, max })
        } else {
            Err(CodecError::refused(format!(
                "chunk sizes {min}/{average}/{max} cannot be used: they must be even and rising, \
                 with min 64 B to 1 MiB, average 256 B to 4 MiB, max 1 KiB to 16 MiB"
            )))
        }
    }

    /// The sizes a vault has agreed on.
    pub fn of(record: &VaultRecord) -> Result<Self> {
        Self::new(record.chunk_min, record.chunk_average, record.chunk_max)
    }

    /// Smallest chunk in bytes, but for the last of a content.
    pub fn min(self) -> usize {
        self.min as usize
    }

    /// Average chunk in bytes.
    pub fn average(self) -> usize {
        self.average as usize
    }

    /// Largest chunk in bytes.
    pub fn max(self) -> usize {
        self.max as usize
    }
}

/// Finds the next cut in a window.
struct Cutter {
    sizes: ChunkSizes,
    mask_strict: u64,
    mask_loose: u64,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

impl Cutter {
    fn new(sizes: ChunkSizes, seed: u64) -> Self {
        let (mask_strict, mask_loose) = v2020::select_masks(sizes.average(), Normalization::Level1);
        let (gear, gear_shifted) = v2020::get_gear_with_seed(seed);
        Self { sizes, mask_strict, mask_loose, gear, gear_shifted }
    }

    /// Length of the first chunk of `window`, which holds `max` bytes or all
    /// that is left.
    fn cut(&self, window: &[u8]) -> usize {
        let (min, average, max) = (self.sizes.min(), self.sizes.average(), self.sizes.max());
        let (strict, loose) = (self.mask_strict, self.mask_loose);
        let (_, length) = v2020::cut_gear(
            window,
            min,
            average,
            max,
            strict,
            loose,
            strict << 1,
            loose << 1,
            &self.gear,
            &self.gear_shifted,
        );
        length
    }
}

/// Cuts a content that arrives in pieces. Holds at most twice the largest
/// chunk, in a buffer it uses again for the next content.
///
/// The sink gets each chunk as it is found; if it fails, the content is given up
/// and the chunker is ready for the next one.
pub struct Chunker {
    cutter: Cutter,
    held: Vec<u8>,
    held_bytes: usize,
}

impl Chunker {
    /// A chunker for a vault's sizes and a dedup scope's seed.
    pub fn new(sizes: ChunkSizes, seed: &ChunkerSeed) -> Self {
        Self::seeded(sizes, seed.expose_secret())
    }

    fn seeded(sizes: ChunkSizes, seed: u64) -> Self {
        Self { cutter: Cutter::new(sizes, seed), held: Vec::new(), held_bytes: 0 }
    }

    /// Takes the next bytes of the content.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let max = self.cutter.sizes.max();
        // As long as nothing is held, chunks are cut where the bytes lie.
        while self.held_bytes == 0 && bytes.len() >= max {
            let length = self.cutter.cut(&bytes[..max]);
            sink(&bytes[..length])?;
            bytes = &bytes[length..];
        }
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.held_bytes += count;
            bytes = &bytes[count..];
            self.cut_held(max, sink)?;
        }
        Ok(())
    }

    /// Cuts what is left: the content ends here.
    pub fn finish<E>(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.cut_held(1, sink)
    }

    /// Cuts everything a reader yields as one content; says how many bytes.
    pub fn read<E: From<io::Error>>(
        &mut self,
        from: &mut (impl Read + ?Sized),
        sink: &mut impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<u64, E> {
        let max = self.cutter.sizes.max();
        let mut total = 0;
        loop {
            match from.read(self.room()) {
                Ok(0) => break,
                Ok(count) => {
                    self.held_bytes += count;
                    total += count as u64;
                    self.cut_held(max, sink)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.held_bytes = 0;
                    return Err(error.into());
                }
            }
        }
        self.finish(sink)?;
        Ok(total)
    }

    /// The free part of the buffer; never empty, because less than one largest
    /// chunk is held between calls.
    fn room(&mut self) -> &mut [u8] {
        let capacity = 2 * self.cutter.sizes.max();
        self.held.resize(capacity, 0);
        &mut self.held[self.held_bytes..]
    }

    /// Cuts while at least `window` bytes are held, then closes the gap.
    fn cut_held<E>(
        &mut self,
        window: usize,
        sink: &mut impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut at = 0;
        while self.held_bytes - at >= window {
            let length = self.cutter.cut(&self.held[at..self.held_bytes]);
            if let Err(error) = sink(&self.held[at..at + length]) {
                self.held_bytes = 0;
                return Err(error);
            }
            at += length;
        }
        self.held.copy_within(at..self.held_bytes, 0);
        self.held_bytes -= at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn sizes() -> ChunkSizes {
        ChunkSizes::new(256, 1024, 4096).unwrap()
    }

    /// BLAKE3's output stream over a number: the same bytes in any language.
    fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    /// The cuts of a whole buffer, by the crate's own iterator.
    fn whole(bytes: &[u8], sizes: ChunkSizes, seed: u64) -> Vec<usize> {
        let (min, average, max) = (sizes.min(), sizes.average(), sizes.max());
        v2020::FastCDC::with_level_and_seed(bytes, min, average, max, Normalization::Level1, seed)
            .map(|chunk| chunk.length)
            .collect()
    }

    /// The cuts of the same bytes, pushed in pieces of the given lengths.
    fn pushed(bytes: &[u8], sizes: ChunkSizes, seed: u64, pieces: &[usize]) -> Vec<usize> {
        let mut chunker = Chunker::seeded(sizes, seed);
        let (mut cuts, mut joined, mut rest) = (Vec::new(), Vec::new(), bytes);
        let mut sink = |chunk: &[u8]| -> std::result::Result<(), Infallible> {
            cuts.push(chunk.len());
            joined.extend_from_slice(chunk);
            Ok(())
        };
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            chunker.push(now, &mut sink).unwrap();
            rest = later;
        }
        chunker.finish(&mut sink).unwrap();
        assert!(joined == bytes, "chunks joined are the content");
        cuts
    }

    /// A reader that yields short and uneven reads.
    struct Uneven<'a>(&'a [u8], usize);

    impl Read for Uneven<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 7 % 5003 + 1;
            if self.1.is_multiple_of(11) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.1.min(out.len()).min(self.0.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn streamed_cuts_are_those_of_the_whole_buffer(
            seed in any::<u64>(),
            length in 0_usize..60_000,
            zeros in 0_usize..12_000,
            pieces in proptest::collection::vec(1_usize..9_000, 1..8),
        ) {
            let mut bytes = random_bytes(seed, length);
            let start = length / 3;
            let end = (start + zeros).min(length);
            bytes[start..end].fill(0);
            let expected = whole(&bytes, sizes(), seed);
            prop_assert_eq!(&pushed(&bytes, sizes(), seed, &pieces), &expected);
            let mut cuts = Vec::new();
            let count = Chunker::seeded(sizes(), seed)
                .read::<io::Error>(&mut Uneven(&bytes, 1 + seed as usize % 97), &mut |chunk| {
                    cuts.push(chunk.len());
                    Ok(())
                })
                .unwrap();
            prop_assert_eq!(cuts, expected);
            prop_assert_eq!(count, length as u64);
        }
    }

    /// `testdata/cuts.txt`: lines of `min average max seed data-seed bytes: cuts`.
    /// The file pins the cut points: a new version of the chunker that moved them
    /// would silently store everything again.
    #[test]
    fn golden_cuts() {
        let text = include_str!("../testdata/cuts.txt");
        assert!(text.lines().count() > 5, "the vectors are there");
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (head, cuts) = line.split_once(':').unwrap();
            let head: Vec<u64> = head.split_whitespace().map(|word| word.parse().unwrap()).collect();
            let cuts: Vec<usize> = cuts.split_whitespace().map(|word| word.parse().unwrap()).collect();
            let sizes = ChunkSizes::new(head[0] as u32, head[1] as u32, head[2] as u32).unwrap();
            let bytes = random_bytes(head[4], head[5] as usize);
            assert_eq!(pushed(&bytes, sizes, head[3], &[65_536]), cuts, "{line}");
        }
    }

    #[test]
    fn constant_runs_are_cut_at_max_and_the_seed_moves_cuts() {
        assert_eq!(pushed(&vec![0; 10_000], sizes(), 7, &[999]), [4096, 4096, 1808]);
        assert_eq!(pushed(&[], sizes(), 7, &[999]), [0_usize; 0]);
        let bytes = random_bytes(5, 100_000);
        assert_ne!(pushed(&bytes, sizes(), 1, &[999]), pushed(&bytes, sizes(), 2, &[999]));
    }

    #[test]
    fn sizes_outside_the_definition_are_refused() {
        for (min, average, max) in
            [(255, 1024, 4096), (256, 1023, 4096), (1024, 1024, 4096), (32, 256, 1024), (64, 128, 1024), (64, 256, 512)]
        {
            assert!(ChunkSizes::new(min, average, max).is_err(), "{min} {average} {max}");
        }
        assert!(ChunkSizes::new(1 << 20, 4 << 20, 16 << 20).is_ok());
        assert!(ChunkSizes::new(1 << 20, 4 << 20, (16 << 20) + 2).is_err());
    }

    #[test]
    fn a_failing_sink_or_reader_leaves_a_usable_chunker() {
        let bytes = random_bytes(9, 20_000);
        let mut chunker = Chunker::seeded(sizes(), 3);
        assert_eq!(chunker.push(&bytes[..5_000], &mut |_| Err("full")), Err("full"));
        chunker.push::<&str>(&bytes[..100], &mut |_| Ok(())).unwrap();
        assert_eq!(chunker.finish(&mut |_| Err("full")), Err("full"));
        let mut broken = bytes[..100].chain(Broken);
        assert!(chunker.read::<io::Error>(&mut broken, &mut |_| Ok(())).is_err());
        let mut cuts = Vec::new();
        chunker
            .read::<io::Error>(&mut bytes.as_slice(), &mut |chunk| {
                cuts.push(chunk.len());
                Ok(())
            })
            .unwrap();
        assert_eq!(cuts, whole(&bytes, sizes(), 3));
    }
}
