//! A frame: a chunk as it will stand in a pack, compressed or raw.
//!
//! What always holds: the coded bytes were decoded again and compared with the
//! chunk before a [`Frame`] exists (restic's issues 4523 and 4677 tell why); a
//! decoder never writes more than the plain length its table of contents names,
//! whatever the coded bytes claim.

use vault_format::ChunkId;
use vault_format::body::{CHUNK_BYTES_MAX, Codec, INDEX_ENTRY_BYTES, TOC_ENTRY_BYTES, TocEntry};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::chunk::Chunk;
use crate::error::{CodecError, Result};

/// Below this a zstd frame's own header eats the gain.
const PLAIN_BYTES_MIN: usize = 64;
/// From this size on a chunk is tried in samples first.
const TRIAL_FROM_BYTES: usize = 64 * 1024;
/// Samples taken, and bytes of each.
const TRIAL_SAMPLES: usize = 4;
const TRIAL_SAMPLE_BYTES: usize = 4 * 1024;

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// zstd at this level, 1 to 19; raw where that does not help.
    Level(i32),
    /// Never: for sources known to be compressed or encrypted.
    Never,
}

impl Default for Compression {
    /// Level 1: level 3 gains a tenth and costs a third of the speed (0.23 and
    /// 0.16 GB/s on source text).
    fn default() -> Self {
        Self::Level(1)
    }
}

/// A coded chunk.
pub struct Frame {
    entry: TocEntry,
    coded: Vec<u8>,
}

impl Frame {
    /// What the table of contents will say of it.
    pub fn entry(&self) -> &TocEntry {
        &self.entry
    }

    /// The chunk's id.
    pub fn id(&self) -> ChunkId {
        self.entry.id
    }

    /// Bytes it costs in a pack: the sealed frame and its two entries.
    pub fn packed_bytes(&self) -> usize {
        self.entry.frame_bytes() + INDEX_ENTRY_BYTES + TOC_ENTRY_BYTES
    }

    pub(crate) fn coded(&self) -> &[u8] {
        &self.coded
    }
}

/// Compresses chunks; one per thread, its buffers are used again.
pub struct FrameEncoder {
    engine: Option<Compressor<'static>>,
    decoder: FrameDecoder,
    coded: Vec<u8>,
    decoded: Vec<u8>,
    miscoded: u64,
}

impl FrameEncoder {
    /// Prepares an encoder; refuses levels zstd does not have.
    pub fn new(compression: Compression) -> Result<Self> {
        let engine = match compression {
            Compression::Never => None,
            Compression::Level(level @ 1..=19) => {
                Some(Compressor::new(level).map_err(|error| CodecError::refused(format!("zstd: {error}")))?)
            }
            Compression::Level(level) => {
                return Err(CodecError::refused(format!("compression level {level} is not one of 1 to 19")));
            }
        };
        let decoder = FrameDecoder::new()?;
        Ok(Self { engine, decoder, coded: Vec::new(), decoded: Vec::new(), miscoded: 0 })
    }

    /// Codes a chunk.
    pub fn encode(&mut self, chunk: &Chunk<'_>) -> Result<Frame> {
        let plain = chunk.plain;
        if plain.len() > CHUNK_BYTES_MAX {
            let what = format!("a chunk of {} bytes is larger than the format's {CHUNK_BYTES_MAX}", plain.len());
            return Err(CodecError::refused(what));
        }
        let (codec, bytes) = match self.compress(plain) {
            Some(coded) => (Codec::Zstd, coded.to_vec()),
            None => (Codec::Raw, plain.to_vec()),
        };
        let entry = TocEntry {
            id: chunk.id,
            coded_bytes: bytes.len() as u32,
            plain_bytes: plain.len() as u32,
            kind: chunk.kind,
            codec,
        };
        Ok(Frame { entry, coded: bytes })
    }

    /// How many chunks zstd coded wrongly, so that they were stored raw. Anything
    /// but zero means a broken library or broken memory: say so.
    pub fn miscoded(&self) -> u64 {
        self.miscoded
    }

    /// The compressed form, if it is smaller and decodes to the same bytes.
    fn compress(&mut self, plain: &[u8]) -> Option<&[u8]> {
        let engine = self.engine.as_mut()?;
        if plain.len() < PLAIN_BYTES_MIN {
            return None;
        }
        // A buffer one byte short of the plain length: what does not fit does not help.
        self.coded.resize(plain.len().max(zstd_safe::compress_bound(TRIAL_SAMPLES * TRIAL_SAMPLE_BYTES)), 0);
        self.decoded.resize(plain.len().max(TRIAL_SAMPLES * TRIAL_SAMPLE_BYTES), 0);
        if plain.len() >= TRIAL_FROM_BYTES {
            let sample = &mut self.decoded[..TRIAL_SAMPLES * TRIAL_SAMPLE_BYTES];
            let stride = plain.len() / TRIAL_SAMPLES;
            for (at, piece) in sample.chunks_exact_mut(TRIAL_SAMPLE_BYTES).enumerate() {
                piece.copy_from_slice(&plain[at * stride..at * stride + TRIAL_SAMPLE_BYTES]);
            }
            // Less than a sixty-fourth gained on the samples: not worth the whole.
            let count = engine.compress_to_buffer(sample, self.coded.as_mut_slice()).ok()?;
            if count > sample.len() - sample.len() / 64 {
                return None;
            }
        }
        let count = engine.compress_to_buffer(plain, &mut self.coded[..plain.len() - 1]).ok()?;
        let coded = &self.coded[..count];
        let good =
            self.decoder.decode_into(coded, &mut self.decoded[..plain.len()]) && self.decoded[..plain.len()] == *plain;
        if !good {
            self.miscoded += 1;
            return None;
        }
        Some(coded)
    }
}

/// Decompresses frames; one per thread.
pub struct FrameDecoder {
    engine: Decompressor<'static>,
}

impl FrameDecoder {
    /// Prepares a decoder.
    pub fn new() -> Result<Self> {
        let engine = Decompressor::new().map_err(|error| CodecError::refused(format!("zstd: {error}")))?;
        Ok(Self { engine })
    }

    /// The plain bytes of a coded chunk; the id is not checked here. Allocates what
    /// the entry says, which [`vault_format::body::Toc::decode`] has bounded.
    pub(crate) fn decode(&mut self, at: &str, entry: &TocEntry, coded: Vec<u8>) -> Result<Vec<u8>> {
        let what = "a compressed chunk";
        let plain_bytes = entry.plain_bytes as usize;
        let fail = |why: &str| Err(CodecError::corrupt(what, at, why));
        match entry.codec {
            Codec::Raw if coded.len() == plain_bytes => Ok(coded),
            Codec::Raw => fail("its length is not the one in the table of contents"),
            Codec::Zstd => {
                let mut plain = vec![0; plain_bytes];
                if self.decode_into(&coded, &mut plain) {
                    Ok(plain)
                } else {
                    fail("it is not one zstd frame that unpacks to the length in the table of contents")
                }
            }
        }
    }

    /// Whether `coded` is one zstd frame that unpacks to exactly `plain.len()` bytes.
    fn decode_into(&mut self, coded: &[u8], plain: &mut [u8]) -> bool {
        zstd_safe::find_frame_compressed_size(coded).is_ok_and(|bytes| bytes == coded.len())
            && self.engine.decompress_to_buffer(coded, plain).is_ok_and(|count| count == plain.len())
    }
}

#[cfg(test)]
mod tests {
    use keys::{Generation, Seed};
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use vault_format::ScopeId;
    use vault_format::body::ChunkKind;

    use super::*;

    fn encode(compression: Compression, plain: &[u8]) -> Frame {
        let keys = Seed::from_array([1; 32]).dedup_keys(Generation::FIRST, ScopeId([2; 16]));
        let chunk = Chunk::new(&keys.id_key, ChunkKind::Data, plain);
        FrameEncoder::new(compression).unwrap().encode(&chunk).unwrap()
    }

    fn decode(entry: &TocEntry, coded: &[u8]) -> Result<Vec<u8>> {
        FrameDecoder::new().unwrap().decode("test", entry, coded.to_vec())
    }

    fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut out);
        out
    }

    #[test]
    fn text_shrinks_and_noise_stays_raw() {
        let text = b"a backup nobody restored is a rumour. ".repeat(5_000);
        let frame = encode(Compression::default(), &text);
        assert_eq!(frame.entry.codec, Codec::Zstd);
        assert!(frame.coded.len() < text.len() / 100);
        assert_eq!(decode(frame.entry(), frame.coded()).unwrap(), text);
        for count in [0, 1, 63, 64, 5_000, 300_000] {
            let noise = random_bytes(7, count);
            let frame = encode(Compression::Level(19), &noise);
            assert_eq!((frame.entry.codec, frame.coded.len()), (Codec::Raw, count));
            assert_eq!(decode(frame.entry(), frame.coded()).unwrap(), noise);
        }
        assert_eq!(encode(Compression::Never, &text).entry.codec, Codec::Raw);
    }

    #[test]
    fn levels_zstd_does_not_have_are_refused() {
        for level in [-1, 0, 20, 22] {
            assert!(FrameEncoder::new(Compression::Level(level)).is_err());
        }
    }

    /// A few bytes that unpack to 32 MiB, also where the frame does not say so:
    /// nothing is written beyond the length in the table of contents.
    #[test]
    fn bombs_are_refused() {
        let zeros = vec![0; 32 << 20];
        let bomb = zstd::bulk::compress(&zeros, 1).unwrap();
        assert!(bomb.len() < 4_000);
        let mut entry = *encode(Compression::default(), &[0; 4_000]).entry();
        entry.coded_bytes = bomb.len() as u32;
        assert_eq!(decode(&entry, &bomb).unwrap_err().name(), "corrupt");
        let mut silent = Compressor::new(1).unwrap();
        silent.include_contentsize(false).unwrap();
        assert_eq!(decode(&entry, &silent.compress(&zeros).unwrap()).unwrap_err().name(), "corrupt");
        assert_eq!(decode(&entry, &silent.compress(&[0; 4_000]).unwrap()).unwrap(), [0; 4_000]);
        entry.plain_bytes = 4_001;
        assert_eq!(decode(&entry, &silent.compress(&[0; 4_000]).unwrap()).unwrap_err().name(), "corrupt");
    }

    #[test]
    fn two_frames_or_trailing_bytes_are_not_one_frame() {
        let half = vec![b'x'; 2_000];
        let frame = encode(Compression::default(), &half);
        let two = [frame.coded(), frame.coded()].concat();
        let entry = TocEntry { plain_bytes: 4_000, coded_bytes: two.len() as u32, ..*frame.entry() };
        assert!(decode(&entry, &two).is_err());
        assert!(decode(frame.entry(), &[frame.coded(), &[0]].concat()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_chunk_comes_back(
            seed in any::<u64>(), noise in 0_usize..150_000, repeats in 0_usize..40, level in 1..=5_i32,
        ) {
            let mut plain = random_bytes(seed, noise);
            (0..repeats).for_each(|_| plain.extend_from_slice(b"the same words again and again, "));
            let frame = encode(Compression::Level(level), &plain);
            prop_assert!(frame.coded.len() <= plain.len());
            prop_assert_eq!(frame.packed_bytes(), frame.coded.len() + 16 + 84);
            prop_assert!(decode(frame.entry(), frame.coded()).unwrap() == plain);
            if frame.entry.codec == Codec::Zstd {
                let mut bad = frame.coded().to_vec();
                bad.pop();
                prop_assert!(decode(frame.entry(), &bad).is_err());
            }
        }
    }
}
