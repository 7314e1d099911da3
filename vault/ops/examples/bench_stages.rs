//! Each stage of a backup alone, on one thread, over a real tree: benches/stages runs it.
//!
//!     bench_stages TREE FOLDER
//!
//! What always holds: every stage does for the whole tree what a first backup does of it
//! (chunks met twice are cut, named and looked up, not compressed or stored), so that the
//! seconds of the stages add up. Medians of three passes; seconds of the clock and of the
//! processor. `FOLDER` is where nine folders are made and removed. Prints a line of JSON
//! for each stage.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark may stop, and rounds")]

use std::collections::BTreeSet;
use std::fs::{File, read_dir};
use std::hint::black_box;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use backends::disk::RealDisk;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use keys::{DedupKeys, Generation, IndexKey, LocalSecret, RecipientPrivate, RecipientPublic, Secret, Seed, SigningKey};
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_codec::merkle::{Blake3, TreeHash};
use vault_codec::{
    Buffers, Chunk, ChunkSizes, Chunker, CodecError, Compression, ErasureCode, FrameDecoder, FrameEncoder, Pack,
    Packer, SealContext, ShardSet,
};
use vault_format::body::{ChunkKind, IndexEntry};
use vault_format::suite::{Class, Coding, LEAF_BYTES};
use vault_format::{ChunkId, Hash, PackId, ScopeId, VaultId, WriterId};
use vault_ops::catalog::{Catalog, Lookup, PackRow, PackState};

const PASSES: usize = 3;
/// As a backup has them under way.
const PACKS_AT_ONCE: usize = 2;

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(tree), Some(folder)) = (arguments.next(), arguments.next()) else { panic!("bench_stages TREE FOLDER") };
    let mut paths = Vec::new();
    walk(&tree, &mut paths);
    let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let plain_bytes = files.iter().map(Vec::len).sum();
    Bench { plain_bytes, keys: Keys::new(), folder }.all(&files, &paths);
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&entry.path(), into);
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
}

struct Keys {
    dedup: DedupKeys,
    index: IndexKey,
    local: LocalSecret,
    signer: SigningKey,
    reader: RecipientPrivate,
    recipients: Vec<RecipientPublic>,
}

impl Keys {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let seed = Seed::from_array([2; 32]);
        let reader = seed.reader_key(Generation::FIRST);
        Self {
            dedup: seed.dedup_keys(Generation::FIRST, ScopeId([3; 16])),
            index: seed.index_key(Generation::FIRST, WriterId([4; 16])),
            local: LocalSecret::random(&mut rng),
            signer: SigningKey::from_seeds(Secret::random(&mut rng), Secret::random(&mut rng)),
            recipients: vec![reader.public().clone()],
            reader,
        }
    }

    fn context(&self) -> SealContext<'_> {
        let (vault, writer) = (VaultId([5; 16]), WriterId([4; 16]));
        let (recipients, index, local) = (&self.recipients, &self.index, &self.local);
        SealContext { vault, writer, epoch: 1, sequence: 1, recipients, index, local }
    }
}

/// A chunk of the tree: which file, and where in it.
struct Cut {
    file: usize,
    range: std::ops::Range<usize>,
    id: ChunkId,
}

struct Bench {
    plain_bytes: usize,
    keys: Keys,
    folder: PathBuf,
}

impl Bench {
    /// Runs a stage in passes and prints the middle one.
    fn stage(&self, name: &str, mut pass: impl FnMut() -> Cost) {
        let mut costs: Vec<Cost> = (0..PASSES).map(|_| pass()).collect();
        costs.sort_by(|one, other| one.wall.total_cmp(&other.wall));
        let Cost { wall, cpu } = costs[PASSES / 2];
        let rate = self.plain_bytes as f64 / 1e6 / wall;
        println!("{{\"stage\": \"{name}\", \"wall_s\": {wall:.3}, \"cpu_s\": {cpu:.3}, \"mb_per_s\": {rate:.0}}}");
    }

    fn all(&self, files: &[Vec<u8>], paths: &[PathBuf]) {
        println!("{{\"files\": {}, \"plain_bytes\": {}}}", files.len(), self.plain_bytes);
        let mut buffer = vec![0; 1 << 20];
        self.stage("read", || {
            timed(|| {
                for path in paths {
                    let mut file = File::open(path).unwrap();
                    while black_box(file.read(&mut buffer).unwrap()) > 0 {}
                }
            })
        });
        self.stage("chunk", || timed(|| drop(black_box(self.cut(files)))));
        let mut cuts = self.cut(files);
        self.stage("id hash", || {
            timed(|| {
                for cut in &mut cuts {
                    cut.id = self.keys.dedup.id_key.chunk_id(&files[cut.file][cut.range.clone()]);
                }
            })
        });
        let mut met = BTreeSet::new();
        let unique: Vec<&Cut> = cuts.iter().filter(|cut| met.insert(cut.id)).collect();
        self.lookup(&cuts, &unique);
        let mut encoder = FrameEncoder::new(Compression::default()).unwrap();
        self.stage("compress", || {
            timed(|| {
                for cut in &unique {
                    drop(black_box(encoder.encode(&chunk_of(files, cut)).unwrap()));
                }
            })
        });
        let buffers = Buffers::new(PACKS_AT_ONCE + 2);
        self.stage("seal, opened and compared", || {
            let packs = packs(files, &unique);
            let mut rng = ChaCha20Rng::from_seed([8; 32]);
            timed(|| {
                for pack in packs {
                    drop(black_box(pack.seal(&self.keys.context(), &buffers, &mut rng).unwrap()));
                }
            })
        });
        self.stage("code, hashed and signed", || {
            let mut rng = ChaCha20Rng::from_seed([8; 32]);
            let seal = |pack: Pack| pack.seal(&self.keys.context(), &buffers, &mut rng).unwrap();
            let sealed: Vec<_> = packs(files, &unique).into_iter().map(seal).collect();
            timed(|| {
                for sealed in sealed {
                    drop(black_box(sealed.code(&self.keys.signer, Hash([9; 32]), &buffers).unwrap()));
                }
            })
        });
        let sets = self.sets(files, &unique, &buffers);
        self.within(&sets);
        self.place(&sets);
    }

    fn cut(&self, files: &[Vec<u8>]) -> Vec<Cut> {
        let sizes = ChunkSizes::new(64 << 10, 256 << 10, 1 << 20).unwrap();
        let mut chunker = Chunker::new(sizes, &self.keys.dedup.chunker_seed);
        let mut cuts = Vec::new();
        for (file, bytes) in files.iter().enumerate() {
            let mut start = 0;
            let mut sink = |plain: &[u8]| -> Result<(), CodecError> {
                cuts.push(Cut { file, range: start..start + plain.len(), id: ChunkId::default() });
                start += plain.len();
                Ok(())
            };
            chunker.push(bytes, &mut sink).unwrap();
            chunker.finish(&mut sink).unwrap();
        }
        cuts
    }

    fn lookup(&self, cuts: &[Cut], unique: &[&Cut]) {
        let dir = tempfile::tempdir_in(self.folder.parent().unwrap()).unwrap();
        let mut catalog = Catalog::open(&dir.path().join("catalog")).unwrap();
        let row = PackRow { pack: PackId([1; 16]), header: Hash::default(), class: 1, state: PackState::Committed };
        let entry = |cut: &&Cut| IndexEntry { id: cut.id, plain_bytes: 1, kind: ChunkKind::Data };
        let index: Vec<IndexEntry> = unique.iter().map(entry).collect();
        catalog.add_pack(row, &index).unwrap();
        self.stage("dedup lookup", || {
            let mut lookup = Lookup::of(&catalog).unwrap();
            timed(|| {
                for cut in cuts {
                    black_box(lookup.chunk(cut.id).unwrap());
                }
            })
        });
    }

    fn sets(&self, files: &[Vec<u8>], unique: &[&Cut], buffers: &Buffers) -> Vec<ShardSet> {
        let mut rng = ChaCha20Rng::from_seed([8; 32]);
        let mut one = |pack: Pack| {
            let sealed = pack.seal(&self.keys.context(), buffers, &mut rng).unwrap();
            sealed.code(&self.keys.signer, Hash([9; 32]), buffers).unwrap()
        };
        packs(files, unique).into_iter().map(&mut one).collect()
    }

    /// What the two stages above are made of, and what a restore does of it.
    fn within(&self, sets: &[ShardSet]) {
        let coding = coding();
        let payloads: Vec<Vec<Bytes>> =
            sets.iter().map(|set| set.objects().map(|object| object.parts()[1].clone()).collect()).collect();
        self.stage("(erasure code alone)", || {
            let code = ErasureCode::new(coding);
            timed(|| {
                for shards in &payloads {
                    let data: Vec<&[u8]> = shards[..5].iter().map(|shard| &shard[..]).collect();
                    let mut parity = vec![0; 4 * data[0].len()];
                    let mut out: Vec<&mut [u8]> = parity.chunks_exact_mut(data[0].len()).collect();
                    code.encode(&data, &mut out);
                    black_box(&out);
                }
            })
        });
        self.stage("(leaf hash alone)", || {
            timed(|| {
                for leaf in payloads.iter().flatten().flat_map(|shard| shard.chunks(LEAF_BYTES)) {
                    black_box(Blake3::leaf(leaf));
                }
            })
        });
        self.stage("(sign alone)", || {
            timed(|| {
                for set in sets {
                    black_box(self.keys.signer.sign("bench", &set.header_hash().0));
                }
            })
        });
        self.stage("(open and check, as a restore does)", || {
            let mut decoder = FrameDecoder::new().unwrap();
            timed(|| {
                for (set, shards) in sets.iter().zip(&payloads) {
                    let body = Bytes::from(shards[..5].concat());
                    let header = set.verified_header();
                    let pack = vault_codec::unlock(header, &self.keys.reader).unwrap().open(body).unwrap();
                    for frame in 0..pack.toc().entries.len() as u32 {
                        drop(black_box(pack.chunk(&mut decoder, frame, &self.keys.dedup.id_key).unwrap()));
                    }
                }
            })
        });
    }

    /// Writes and syncs every shard, nine folders at once, and reads a leaf of each back.
    fn place(&self, sets: &[ShardSet]) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        self.stage("place in nine folders, synced", || {
            let _ = std::fs::remove_dir_all(&self.folder);
            let stores: Vec<Arc<dyn ObjectStore>> = (0..9)
                .map(|at| backends::folder_on(Arc::new(RealDisk), &self.folder.join(format!("p{at}")), true).unwrap())
                .map(|location| Arc::clone(location.store()))
                .collect();
            let cost = timed(|| {
                runtime.block_on(async {
                    let packs = stream::iter(sets).map(|set| async {
                        let writes = set.objects().zip(&stores).map(|(object, store)| async move {
                            let name = Name::from(object.name());
                            let payload: PutPayload = object.parts().into_iter().collect();
                            store.put_opts(&name, payload, PutMode::Create.into()).await.unwrap();
                            store.get_range(&name, 8192..8192 + LEAF_BYTES as u64).await.unwrap();
                        });
                        futures::future::join_all(writes).await;
                    });
                    packs.buffer_unordered(PACKS_AT_ONCE).for_each(|()| async {}).await;
                });
            });
            let _ = std::fs::remove_dir_all(&self.folder);
            cost
        });
    }
}

fn coding() -> Coding {
    Coding::new(5, 9).unwrap()
}

fn chunk_of<'a>(files: &'a [Vec<u8>], cut: &Cut) -> Chunk<'a> {
    Chunk { id: cut.id, kind: ChunkKind::Data, plain: &files[cut.file][cut.range.clone()] }
}

fn packs(files: &[Vec<u8>], unique: &[&Cut]) -> Vec<Pack> {
    let mut rng = ChaCha20Rng::from_seed([6; 32]);
    let (mut encoder, mut packer) =
        (FrameEncoder::new(Compression::default()).unwrap(), Packer::new(coding(), Class::Leaves64));
    let mut packs = Vec::new();
    for cut in unique {
        packs.extend(packer.add(encoder.encode(&chunk_of(files, cut)).unwrap(), &mut rng).unwrap());
    }
    packs.extend(packer.finish());
    packs
}

#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn timed(work: impl FnOnce()) -> Cost {
    let (start, before) = (Instant::now(), cpu_s());
    work();
    Cost { wall: start.elapsed().as_secs_f64(), cpu: cpu_s() - before }
}

/// Processor time of this process so far, in ticks of 10 ms.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
