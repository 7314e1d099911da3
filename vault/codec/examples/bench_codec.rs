//! Speed of the codec's stages on incompressible data, in MB/s (10^6 bytes) of
//! plain input; best of three passes.
//!
//!     cargo run --release -p holdfast-vault-codec --example bench_codec [MiB] [threads]

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark may stop, and rounds")]

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use keys::{DedupKeys, Generation, IndexKey, LocalSecret, RecipientPublic, Secret, Seed, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use vault_codec::merkle::{Blake3, TreeHash};
use vault_codec::{
    Buffers, Chunk, ChunkSizes, Chunker, CodecError, Compression, ErasureCode, Frame, FrameEncoder, Pack, Packer,
    SealContext, repair,
};
use vault_format::body::ChunkKind;
use vault_format::suite::{Class, Coding, LEAF_BYTES};
use vault_format::{Hash, ScopeId, VaultId, WriterId};

struct Keys {
    dedup: DedupKeys,
    index: IndexKey,
    local: LocalSecret,
    signer: SigningKey,
    recipients: Vec<RecipientPublic>,
}

impl Keys {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let seed = Seed::from_array([2; 32]);
        Self {
            dedup: seed.dedup_keys(Generation::FIRST, ScopeId([3; 16])),
            index: seed.index_key(Generation::FIRST, WriterId([4; 16])),
            local: LocalSecret::random(&mut rng),
            signer: SigningKey::from_seeds(Secret::random(&mut rng), Secret::random(&mut rng)),
            recipients: vec![seed.reader_key(Generation::FIRST).public().clone()],
        }
    }

    fn context(&self) -> SealContext<'_> {
        let (vault, writer) = (VaultId([5; 16]), WriterId([4; 16]));
        let (recipients, index, local) = (&self.recipients, &self.index, &self.local);
        SealContext { vault, writer, epoch: 1, sequence: 1, recipients, index, local }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let bytes = arguments.next().unwrap_or(512) << 20;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.next().unwrap_or(cores);
    let mut data = vec![0; bytes];
    ChaCha20Rng::from_seed([7; 32]).fill_bytes(&mut data);
    let (keys, coding) = (Keys::new(), Coding::new(5, 9).unwrap());
    println!("{} MiB of noise, 5 of 9, {threads} threads where it says so", bytes >> 20);

    stages(&keys, coding, &data);
    for threads in [1, threads] {
        seal_and_code(&keys, coding, &data, threads);
    }
    for threads in [1, threads] {
        everything(&keys, coding, &data, threads);
    }
}

fn report(stage: &str, bytes: usize, mut pass: impl FnMut() -> f64) {
    let best = (0..3).map(|_| pass()).fold(f64::MAX, f64::min);
    println!("{stage:44} {:8.0} MB/s", bytes as f64 / 1e6 / best);
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn sizes() -> ChunkSizes {
    ChunkSizes::new(256 << 10, 1 << 20, 4 << 20).unwrap()
}

/// Each stage alone, on one thread.
fn stages(keys: &Keys, coding: Coding, data: &[u8]) {
    let mut chunker = Chunker::new(sizes(), &keys.dedup.chunker_seed);
    let mut sink = |chunk: &[u8]| -> Result<(), CodecError> {
        black_box(chunk.len());
        Ok(())
    };
    report("chunk", data.len(), || {
        timed(|| {
            chunker.push(data, &mut sink).unwrap();
            chunker.finish(&mut sink).unwrap();
        })
    });
    report("hash: chunk ids", data.len(), || {
        timed(|| {
            for piece in data.chunks(1 << 20) {
                black_box(keys.dedup.id_key.chunk_id(piece));
            }
        })
    });
    report("hash: 64 KiB leaves", data.len(), || {
        timed(|| {
            for leaf in data.chunks(LEAF_BYTES) {
                black_box(Blake3::leaf(leaf));
            }
        })
    });
    let mut encoder = FrameEncoder::new(Compression::default()).unwrap();
    report("compress (trial, stays raw)", data.len(), || {
        timed(|| {
            for piece in data.chunks(1 << 20) {
                let chunk = Chunk { id: vault_format::ChunkId([0; 32]), kind: ChunkKind::Data, plain: piece };
                black_box(encoder.encode(&chunk).unwrap());
            }
        })
    });
    let code = ErasureCode::new(coding);
    let shard_bytes = Class::Leaves64.shard_bytes();
    let mut parity = vec![0; 4 * shard_bytes];
    let mut out: Vec<&mut [u8]> = parity.chunks_exact_mut(shard_bytes).collect();
    let body = shard_bytes * 5;
    report("erasure code alone", data.len() / body * body, || {
        timed(|| {
            for body in data.chunks_exact(body) {
                let shards: Vec<&[u8]> = body.chunks_exact(shard_bytes).collect();
                code.encode(&shards, &mut out);
            }
        })
    });
    let buffers = Buffers::new(4);
    let mut sealed = Vec::new();
    report("seal (with opening and comparing)", data.len(), || {
        let packs = packs(keys, coding, data);
        sealed.clear();
        timed(|| {
            for pack in packs {
                let mut rng = ChaCha20Rng::from_seed([8; 32]);
                drop(black_box(pack.seal(&keys.context(), &buffers, &mut rng).unwrap()));
            }
        })
    });
    report("code (parity, leaves, signature)", data.len(), || {
        let mut rng = ChaCha20Rng::from_seed([8; 32]);
        let seal = |pack: Pack| pack.seal(&keys.context(), &buffers, &mut rng).unwrap();
        sealed = packs(keys, coding, data).into_iter().map(seal).collect();
        let sealed = std::mem::take(&mut sealed);
        timed(|| {
            for sealed in sealed {
                drop(black_box(sealed.code(&keys.signer, Hash([9; 32]), &buffers).unwrap()));
            }
        })
    });
    let mut rng = ChaCha20Rng::from_seed([8; 32]);
    let first = packs(keys, coding, &data[..data.len().min(18 << 20)]).remove(0);
    let used = first.body_bytes() - first.padding_bytes();
    let set = first.seal(&keys.context(), &buffers, &mut rng).unwrap();
    let set = set.code(&keys.signer, Hash([9; 32]), &buffers).unwrap();
    let payloads: Vec<_> = set.objects().map(|object| object.parts()[1].clone()).collect();
    report("repair, four data shards lost (of body)", used, || {
        timed(|| {
            let header = set.verified_header();
            let left = (4..9).map(|index| header.admit(index, payloads[usize::from(index)].clone()).unwrap());
            drop(black_box(repair(header, &left.collect::<Vec<_>>(), &buffers).unwrap()));
        })
    });
}

fn frames(keys: &Keys, data: &[u8]) -> Vec<Frame> {
    let mut encoder = FrameEncoder::new(Compression::default()).unwrap();
    let mut frames = Vec::new();
    let mut sink = |plain: &[u8]| {
        frames.push(encoder.encode(&Chunk::new(&keys.dedup.id_key, ChunkKind::Data, plain))?);
        Ok::<(), CodecError>(())
    };
    let mut chunker = Chunker::new(sizes(), &keys.dedup.chunker_seed);
    chunker.push(data, &mut sink).unwrap();
    chunker.finish(&mut sink).unwrap();
    frames
}

fn packs(keys: &Keys, coding: Coding, data: &[u8]) -> Vec<Pack> {
    let mut rng = ChaCha20Rng::from_seed([6; 32]);
    let mut packer = Packer::new(coding, Class::Leaves64);
    let mut packs = Vec::new();
    for frame in frames(keys, data) {
        packs.extend(packer.add(frame, &mut rng).unwrap());
    }
    packs.extend(packer.finish());
    packs
}

/// From frames to all n objects, verified; packs are shared out over threads.
fn seal_and_code(keys: &Keys, coding: Coding, data: &[u8], threads: usize) {
    let buffers = Buffers::new(2 * threads);
    report(&format!("seal and code, {threads} threads"), data.len(), || {
        let packs = Mutex::new(packs(keys, coding, data));
        timed(|| {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (packs, buffers) = (&packs, &buffers);
                    scope.spawn(move || {
                        let mut rng = ChaCha20Rng::from_seed([thread as u8; 32]);
                        loop {
                            let Some(pack) = packs.lock().unwrap().pop() else { break };
                            code_one(keys, pack, buffers, &mut rng);
                        }
                    });
                }
            });
        })
    });
}

fn code_one(keys: &Keys, pack: Pack, buffers: &Buffers, rng: &mut ChaCha20Rng) {
    let sealed = pack.seal(&keys.context(), buffers, rng).unwrap();
    let set = sealed.code(&keys.signer, Hash([9; 32]), buffers).unwrap();
    set.objects().for_each(|object| drop(black_box(object.parts())));
}

/// From bytes to objects: cut, named, tried, packed, sealed, coded.
fn everything(keys: &Keys, coding: Coding, data: &[u8], threads: usize) {
    let buffers = Buffers::new(2 * threads);
    report(&format!("everything, {threads} threads"), data.len(), || {
        timed(|| {
            std::thread::scope(|scope| {
                for (thread, part) in data.chunks(data.len().div_ceil(threads)).enumerate() {
                    let buffers = &buffers;
                    scope.spawn(move || run(keys, coding, part, buffers, thread));
                }
            });
        })
    });
}

/// One run, each pack sealed as it fills.
fn run(keys: &Keys, coding: Coding, data: &[u8], buffers: &Buffers, thread: usize) {
    let mut rng = ChaCha20Rng::from_seed([thread as u8; 32]);
    let mut encoder = FrameEncoder::new(Compression::default()).unwrap();
    let mut packer = Packer::new(coding, Class::Leaves64);
    let mut sink = |plain: &[u8]| {
        let frame = encoder.encode(&Chunk::new(&keys.dedup.id_key, ChunkKind::Data, plain))?;
        if let Some(pack) = packer.add(frame, &mut rng)? {
            code_one(keys, pack, buffers, &mut rng);
        }
        Ok::<(), CodecError>(())
    };
    let mut chunker = Chunker::new(sizes(), &keys.dedup.chunker_seed);
    chunker.push(data, &mut sink).unwrap();
    chunker.finish(&mut sink).unwrap();
    packer.finish().into_iter().for_each(|pack| code_one(keys, pack, buffers, &mut rng));
}
