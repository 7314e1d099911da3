//! One file out of a large point: it costs what it is, not what the point is; and what comes
//! out is right whatever hints, locations and forged contents say.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::{Arc, Mutex};

use backends::{Counts, Meter, Metered};
use object_store::ObjectStore;
use rand_core::Rng;
use vault_format::body::ChunkKind;
use vault_format::point::SourceKind;
use vault_format::tree::{ChunkList, ChunkRef, Content};
use vault_format::{ChunkId, PackId};
use vault_ops::OpsError;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::restore::OpenPoint;
use vault_ops::shelf::{Appetite, Hint, Shelf};
use vault_ops::source::{PointReader, Reading, Sink, Source, read_to_vec};
use world::{Lab, random_bytes, stream_reading};

const FILES: usize = 40;
const FILE_BYTES: usize = 300_000;

/// Many contents in one point, and a list of chunks that says wrong things.
struct Files {
    written: Arc<Mutex<Vec<Content>>>,
}

fn file(number: usize) -> Vec<u8> {
    random_bytes(1_000 + number as u64, FILE_BYTES)
}

impl Source for Files {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &'static str {
        "files"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let mut written = Vec::new();
        for number in 0..FILES {
            written.push(sink.write(ChunkKind::Data, &mut &file(number)[..])?);
        }
        // Lists that no writer makes, as content of their own.
        let chunk = written[0].chunks[0].clone();
        let empty = ChunkRef { id: chunk.id, bytes: 0 };
        for list in [vec![empty; 100], vec![chunk.clone(), chunk]] {
            let list = vault_format::encode(&ChunkList { chunks: list });
            let stored = sink.write(ChunkKind::List, &mut &list[..])?;
            written.push(Content { depth: 1, ..stored });
        }
        let first = written[0].clone();
        *self.written.lock().unwrap() = written;
        Ok(stream_reading(first, &file(0)))
    }
}

struct Scene {
    lab: Lab,
    meters: Vec<Arc<Meter>>,
    contents: Vec<Content>,
}

impl Scene {
    async fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
        let written = Arc::default();
        let vault = lab.open().await.unwrap();
        let source = Files { written: Arc::clone(&written) };
        lab.backup_source(&vault, Box::new(source)).await.unwrap();
        let contents = written.lock().unwrap().clone();
        let meters = (0..5).map(|_| Arc::default()).collect();
        Self { lab, meters, contents }
    }

    fn counts(&self) -> Counts {
        self.meters.iter().map(|meter| meter.counts()).fold(Counts::default(), |sum, one| Counts {
            gets: sum.gets + one.gets,
            bytes_down: sum.bytes_down + one.bytes_down,
            ..sum
        })
    }

    async fn open(&self, appetite: Appetite, hint: Option<Hint>) -> OpenPoint {
        let metered =
            |at: usize, store| -> Arc<dyn ObjectStore> { Arc::new(Metered::new(store, Arc::clone(&self.meters[at]))) };
        let vault = self.lab.open_through(metered).await.unwrap();
        let list = vault_ops::points::list(&vault, &self.lab.read_key()).await.unwrap();
        let chosen = list.points.last().unwrap();
        let holdings = list_shards(&vault, &vault.writer_ids()).await;
        let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
        let packs = Shelf::new(fetcher, self.lab.read_key(), vault.world.compute, appetite);
        let packs = match hint {
            Some(hint) => packs.with_hint(hint),
            None => packs,
        };
        Arc::new(packs).open(chosen.pack, Some(chosen.record)).await.unwrap()
    }

    async fn read(&self, point: &OpenPoint, number: usize) -> Vec<u8> {
        read_to_vec(point, &self.contents[number], 1 << 30).await.unwrap()
    }

    /// Bytes that reading these files takes from the moment the point is open.
    async fn cost(&self, appetite: Appetite, numbers: std::ops::Range<usize>, hint: Option<Hint>) -> Counts {
        let point = self.open(appetite, hint).await;
        let before = self.counts();
        for number in numbers {
            assert!(self.read(&point, number).await == file(number), "file {number}");
        }
        let after = self.counts();
        Counts { gets: after.gets - before.gets, bytes_down: after.bytes_down - before.bytes_down, ..before }
    }

    fn where_it_is(&self) -> Hint {
        let catalog = Mutex::new(vault_ops::catalog::Catalog::open(&self.lab.catalog_file).unwrap());
        Box::new(move |id| catalog.lock().unwrap().chunk(id).unwrap())
    }
}

#[tokio::test]
async fn one_file_costs_less_than_the_point() {
    let scene = Scene::new(71).await;
    let whole = scene.cost(Appetite::Packs, 0..FILES, None).await;
    let all_in_pieces = scene.cost(Appetite::Leaves, 0..FILES, None).await;
    let one = scene.cost(Appetite::Leaves, 17..18, None).await;
    let hinted = scene.cost(Appetite::Leaves, 17..18, Some(scene.where_it_is())).await;
    println!("whole {whole:?}\nall in pieces {all_in_pieces:?}\none {one:?}\nwith the catalog {hinted:?}");
    assert!(whole.bytes_down > (FILES * FILE_BYTES) as u64);
    // This point is one tail: its pack is filled by size, so a file's chunks lie scattered.
    assert!(one.bytes_down < whole.bytes_down / 5, "{one:?} of {whole:?}");
    assert!(hinted.bytes_down <= one.bytes_down && hinted.gets <= one.gets, "{hinted:?}, without {one:?}");
    assert!(all_in_pieces.bytes_down < whole.bytes_down * 3 / 2, "{all_in_pieces:?} of {whole:?}");
}

#[tokio::test]
async fn wrong_hints_and_bad_shards_change_nothing_but_the_cost() {
    let mut scene = Scene::new(72).await;
    let nowhere: Hint = Box::new(|id: ChunkId| PackId::from_slice(&id.0[..PackId::BYTES]));
    scene.cost(Appetite::Leaves, 3..9, Some(nowhere)).await;
    let known = scene.where_it_is();
    let elsewhere: Hint = Box::new(move |_| known(ChunkId([7; 32])));
    scene.cost(Appetite::Leaves, 3..9, Some(elsewhere)).await;
    // Every shard of one location rots in places; another location is away.
    let mut rng = world::rng(72);
    for name in scene.lab.names(1).await.into_iter().filter(|name| name.starts_with("shards/")) {
        let mut bytes = scene.lab.get(1, &name).await;
        for _ in 0..20 {
            let at = rng.next_u64() as usize % bytes.len();
            bytes[at] ^= 1;
        }
        scene.lab.put(1, &name, bytes).await;
    }
    scene.cost(Appetite::Leaves, 0..FILES, None).await;
    scene.lab.down.push(3);
    scene.cost(Appetite::Leaves, 0..FILES, None).await;
}

#[tokio::test]
async fn bytes_are_compared_without_fetching_them() {
    let scene = Scene::new(73).await;
    let point = scene.open(Appetite::Leaves, None).await;
    let before = scene.counts();
    let content = &scene.contents[5];
    assert!(point.matches(content, &mut &file(5)[..]).await.unwrap());
    let mut other = file(5);
    other[FILE_BYTES - 1] ^= 1;
    let (short, long) = (file(5)[..FILE_BYTES - 1].to_vec(), [file(5), vec![0]].concat());
    for wrong in [other, short, long, Vec::new()] {
        assert!(!point.matches(content, &mut &wrong[..]).await.unwrap());
    }
    assert_eq!(scene.counts().bytes_down, before.bytes_down);
}

#[tokio::test]
async fn contents_that_lie_are_refused() {
    let scene = Scene::new(74).await;
    let point = scene.open(Appetite::Leaves, None).await;
    let good = scene.contents[0].clone();
    let first = good.chunks[0].clone();
    let (empty_chunks, doubled) = (scene.contents[FILES].clone(), scene.contents[FILES + 1].clone());
    let lying = |bytes, depth, chunks: Vec<ChunkRef>| Content { bytes, depth, chunks };
    let cases = [
        ("without bytes", lying(0, 0, vec![ChunkRef { bytes: 0, ..first.clone() }])),
        ("without bytes", Content { bytes: 0, ..empty_chunks }),
        ("longer than it says", Content { bytes: u64::from(first.bytes), ..doubled.clone() }),
        ("shorter than it says", Content { bytes: u64::from(first.bytes) * 3, ..doubled }),
        ("range", lying(u64::MAX, 0, good.chunks.clone())),
        ("range", lying(good.bytes, 4, good.chunks.clone())),
        (
            "not as listed",
            lying(u64::from(first.bytes) + 1, 0, vec![ChunkRef { bytes: first.bytes + 1, ..first.clone() }]),
        ),
        ("list", lying(good.bytes, 1, good.chunks.clone())),
        ("no pack", lying(5, 0, vec![ChunkRef { id: ChunkId([9; 32]), bytes: 5 }])),
    ];
    for (expected, content) in cases {
        let mut out = Vec::new();
        let error = point.read(&content, &mut out).await.unwrap_err();
        assert!(matches!(error, OpsError::Corrupt { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(expected) || expected == "range", "{text} does not say {expected}");
        assert!(out.len() as u64 <= content.bytes.min(good.bytes), "no more than it says is written");
    }
}
