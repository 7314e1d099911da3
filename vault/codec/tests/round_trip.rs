//! From bytes to shard objects and back, at the sizes a vault really has, with as
//! many shards lost as the coding allows.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rand_chacha::rand_core::Rng;
use vault_codec::{
    BodyPart, Chunk, ChunkSizes, Chunker, CodecError, Compression, FrameDecoder, FrameEncoder, Pack, Packer,
    ParsedHeader, ShardSet, assemble, open_index, unlock, verify_shard_object,
};
use vault_format::ChunkId;
use vault_format::body::ChunkKind;
use vault_format::suite::{Class, Coding};
use world::{World, admitted, coding, noise, rng, scale};

/// A run of a source: what was cut, and the packs it fills.
struct Run {
    chunks: Vec<(ChunkId, Vec<u8>)>,
    packs: Vec<Pack>,
}

fn run(world: &World, coding: Coding, content: &[u8], number: u64, record: Option<&[u8]>) -> Run {
    let sizes = ChunkSizes::new(128 << 10, 512 << 10, 2 << 20).unwrap();
    let mut chunker = Chunker::new(sizes, &world.dedup.chunker_seed);
    let mut encoder = FrameEncoder::new(Compression::default()).unwrap();
    let mut packer = Packer::new(coding, Class::Leaves64);
    let mut rng = rng(number);
    let (mut chunks, mut packs) = (Vec::new(), Vec::new());
    let mut sink = |plain: &[u8]| -> Result<(), CodecError> {
        let chunk = Chunk::new(&world.dedup.id_key, ChunkKind::Data, plain);
        chunks.push((chunk.id, plain.to_vec()));
        packs.extend(packer.add(encoder.encode(&chunk)?, &mut rng)?);
        Ok(())
    };
    chunker.push(content, &mut sink).unwrap();
    chunker.finish(&mut sink).unwrap();
    match record {
        None => packs.extend(packer.finish()),
        Some(plain) => {
            let chunk = Chunk::new(&world.dedup.id_key, ChunkKind::PointRecord, plain);
            let tail = packer.finish_for_point(plain.len());
            packs.extend(tail.packs);
            packs.push(tail.last.close(encoder.encode(&chunk).unwrap()).unwrap());
            chunks.push((chunk.id, plain.to_vec()));
        }
    }
    assert_eq!(encoder.miscoded(), 0);
    Run { chunks, packs }
}

/// Stores all n objects, loses n - k of them, spoils what a reader must not
/// trust, and reads everything back.
fn survivors_give_everything(world: &World, set: &ShardSet, losses: u64) -> Vec<(ChunkId, Vec<u8>)> {
    let mut objects: Vec<Vec<u8>> = set.objects().map(|object| object.to_vec()).collect();
    for (index, object) in objects.iter().enumerate() {
        let found = verify_shard_object(object, world.lookup()).unwrap();
        assert_eq!((usize::from(found.index), found.header.hash()), (index, set.header_hash()));
    }
    let mut rng = rng(losses);
    for _ in 0..set.coding().parity_shards() {
        let at = rng.next_u32() as usize % objects.len();
        objects.swap_remove(at);
    }
    let header = ParsedHeader::parse(&objects[0]).unwrap();
    let good = admitted(&header, &objects);
    assert_eq!(good.len(), objects.len());
    let body = assemble(&header, &good, &world.buffers).unwrap();
    let index = open_index(&header, &world.index, BodyPart { offset: 0, bytes: &body }).unwrap();
    let open = unlock(&header, &world.reader).unwrap().open(body).unwrap();
    assert_eq!(index.len(), open.toc().entries.len());
    let mut frames = FrameDecoder::new().unwrap();
    index
        .iter()
        .map(|entry| {
            let frame = open.find(&entry.id).unwrap();
            (entry.id, open.chunk(&mut frames, frame, &world.dedup.id_key).unwrap())
        })
        .collect()
}

/// Half noise, half words, so that packs hold raw and compressed frames.
fn content(number: u64, bytes: usize) -> Vec<u8> {
    let mut out = noise(number, bytes / 2);
    let words = noise(number + 1, 64);
    while out.len() < bytes {
        out.extend_from_slice(&words[..=(out.len() * 7) % 61]);
    }
    out.truncate(bytes);
    out
}

fn comes_back(k: u8, n: u8, number: u64, bytes: usize, record: Option<&[u8]>) {
    let world = World::new(number);
    let run = run(&world, coding(k, n), &content(number, bytes), number, record);
    let mut found = Vec::new();
    let mut packs = run.packs.into_iter().peekable();
    while let Some(pack) = packs.next() {
        let last = packs.peek().is_none();
        let set = world.shards(pack, number);
        let chunks = survivors_give_everything(&world, &set, number);
        if let (true, Some(record)) = (last, record) {
            assert_eq!(chunks.last().unwrap().1, record, "the record is the last frame of the last pack");
        }
        found.extend(chunks);
    }
    let mut expected = run.chunks;
    found.sort();
    expected.sort();
    assert!(found == expected, "{k} of {n}, number {number}, {bytes} bytes");
}

#[test]
fn every_coding_round_trips() {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(4 * scale() as u32));
    let inputs = (any::<u64>(), 0_usize..7_000_000, proptest::option::of(1_usize..30_000));
    runner
        .run(&inputs, |(number, bytes, record)| {
            let number = number >> 1;
            let record = record.map(|bytes| noise(number, bytes));
            for (k, n) in [(5, 9), (3, 5), (7, 15), (1, 3)] {
                comes_back(k, n, number, bytes, record.as_deref());
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_run_of_several_full_packs_round_trips() {
    comes_back(5, 9, 11, 96 << 20, Some(&noise(1, 20_000)));
}

#[test]
fn empty_content_makes_no_pack_and_a_point_of_nothing_one() {
    let world = World::new(1);
    assert!(run(&world, coding(5, 9), b"", 1, None).packs.is_empty());
    let run = run(&world, coding(5, 9), b"", 1, Some(b"a record"));
    assert_eq!(run.packs.len(), 1);
    assert_eq!(run.packs[0].class(), Class::Leaves1);
    comes_back(5, 9, 3, 0, Some(b"a record"));
}
