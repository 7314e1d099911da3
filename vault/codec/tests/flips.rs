//! One wrong byte anywhere in what is stored. Each is detected; and for each
//! region it is known who detects it and what a restore loses by it: nothing, or
//! one shard that counts as lost.
//!
//! Short form: about 2,600 flips. `HOLDFAST_TEST_SCALE=20` makes it twenty times
//! longer.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::ops::Range;

use rand_chacha::rand_core::Rng;
use vault_codec::{
    BodyPart, Compression, FrameDecoder, ParsedHeader, assemble, open_index, repair, unlock, verify_shard_object,
};
use vault_format::body::{LOCATOR_BYTES, LOCATORS_BYTES};
use vault_format::shard::{
    CERTIFICATE_AT, COMMITMENT_AT, HEADER_BYTES, INDEX_AT, ROOTS_AT, SIGNED_BYTES, SLOTS_AT, ShardLayout,
};
use vault_format::suite::{Class, SIGNATURES_BYTES};
use world::{World, admitted, coding, noise, payload, remake, rng, scale};

/// What a flipped byte of a stored object means to a reader who has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The header cannot be used; another shard's can, and the payload is good.
    HeaderElsewhere,
    /// The payload is good under the header itself.
    Harmless,
    /// The payload is good, but not under the index it claims.
    KnownByRoot,
    /// The shard is lost.
    Erasure,
}

#[test]
fn every_flip_in_a_stored_object_is_detected() {
    let world = World::new(5);
    let set = world.shards(world.pack(coding(5, 9), Compression::default(), &[&noise(1, 900_000)]), 5);
    assert_eq!(set.class(), Class::Leaves4);
    let layout = ShardLayout::new(set.class());
    let usize_range = |range: Range<u64>| range.start as usize..range.end as usize;
    let regions = [
        ("H0", 0..SLOTS_AT, 256, Meaning::HeaderElsewhere),
        ("key slots", SLOTS_AT..COMMITMENT_AT, 200, Meaning::HeaderElsewhere),
        ("commitment", COMMITMENT_AT..CERTIFICATE_AT, 32, Meaning::HeaderElsewhere),
        ("certificate", CERTIFICATE_AT..ROOTS_AT, 32, Meaning::HeaderElsewhere),
        ("roots, signed reserve", ROOTS_AT..SIGNED_BYTES, 200, Meaning::HeaderElsewhere),
        ("signatures", SIGNED_BYTES..SIGNED_BYTES + SIGNATURES_BYTES, 200, Meaning::HeaderElsewhere),
        ("reserve", SIGNED_BYTES + SIGNATURES_BYTES..INDEX_AT, 100, Meaning::HeaderElsewhere),
        ("index", INDEX_AT..INDEX_AT + 1, 60, Meaning::KnownByRoot),
        ("reserve after index", INDEX_AT + 1..HEADER_BYTES, 30, Meaning::HeaderElsewhere),
        ("payload", usize_range(layout.payload()), 500, Meaning::Erasure),
        ("Merkle nodes", usize_range(layout.nodes()), 250, Meaning::Harmless),
        ("trailer", usize_range(layout.trailer()), 150, Meaning::Harmless),
    ];
    assert_eq!(regions[0].1.start, 0);
    assert!(regions.windows(2).all(|pair| pair[0].1.end == pair[1].1.start), "no byte is left out");
    assert_eq!(regions[11].1.end as u64, layout.object_bytes());
    let objects: Vec<Vec<u8>> = set.objects().map(|object| object.to_vec()).collect();
    let mut rng = rng(17);
    let mut flips = 0;
    for (region, range, count, meaning) in regions {
        for _ in 0..count * scale() {
            let at = range.start + rng.next_u32() as usize % range.len();
            let index = rng.next_u32() as usize % objects.len();
            let mut bad = objects[index].clone();
            bad[at] ^= 1 + (rng.next_u32() % 255) as u8;
            let place = format!("{region}, byte {at} of shard {index}, now {:#04x}", bad[at]);
            let error = verify_shard_object(&bad, world.lookup()).expect_err(&place);
            assert!(["corrupt", "unsupported", "unknown-certificate"].contains(&error.name()), "{place}: {error}");
            assert_eq!(meaning_of(set.verified_header(), &bad, index as u8), meaning, "{place}");
            flips += 1;
        }
    }
    assert!(flips >= 2_000, "{flips} flips");
}

fn meaning_of(good: &ParsedHeader, bad: &[u8], index: u8) -> Meaning {
    let shard = &bad[HEADER_BYTES..HEADER_BYTES + good.h0().class.shard_bytes()];
    let found = good.index_of(shard);
    if found.is_none() {
        assert!(good.check_payload(index, shard).is_err());
        return Meaning::Erasure;
    }
    assert_eq!(found, Some(index));
    let reserve = bad[INDEX_AT + 1..HEADER_BYTES].iter().any(|&byte| byte != 0);
    if !good.same_pack(bad) || reserve {
        Meaning::HeaderElsewhere
    } else if bad[INDEX_AT] != index {
        assert!(good.check_payload(bad[INDEX_AT], shard).is_err());
        Meaning::KnownByRoot
    } else {
        Meaning::Harmless
    }
}

/// A writer that turned bad, or one whose memory failed before it hashed: the
/// roots and signatures fit the altered body, so no audit can see it.
#[test]
fn every_flip_in_a_sealed_body_with_fitting_hashes_is_detected_by_whoever_reads_it() {
    let world = World::new(6);
    let chunks = [noise(1, 90_000), b"words and words ".repeat(9_000), noise(2, 70_000), vec![7; 100]];
    let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let set = world.shards(world.pack(coding(5, 9), Compression::default(), &chunks), 6);
    let header = set.verified_header().clone();
    let objects: Vec<Vec<u8>> = set.objects().map(|object| object.to_vec()).collect();
    let body = assemble(&header, &admitted(&header, &objects), &world.buffers).unwrap().to_vec();
    let key = unlock(&header, &world.reader).unwrap();
    let toc_range = key.toc_range(BodyPart { offset: 0, bytes: &body }).unwrap();
    let open = key.open(body.clone().into()).unwrap();
    let frames_end = open.toc().frames_bytes() as usize;
    let locators = body.len() - LOCATORS_BYTES;
    let regions = [
        ("frames", 0..frames_end, 200, true, false),
        ("index section", frames_end..toc_range.start as usize, 100, false, true),
        ("table of contents", toc_range.start as usize..locators, 200, true, false),
        ("writer's locator", locators..locators + LOCATOR_BYTES, 60, false, true),
        ("reader's locator", locators + LOCATOR_BYTES..body.len(), 60, true, false),
    ];
    assert!(regions.windows(2).all(|pair| pair[0].1.end == pair[1].1.start), "no byte is left out");
    let mut rng = rng(18);
    for (region, range, count, reader_sees, writer_sees) in regions {
        for _ in 0..count * scale() {
            let at = range.start + rng.next_u32() as usize % range.len();
            let mut bad = body.clone();
            bad[at] ^= 1 + (rng.next_u32() % 255) as u8;
            let (forged, shards) = remake(&world, &header, &bad);
            let place = format!("{region}, byte {at}");
            let forged = forged.verify(world.lookup()).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!((0..9).all(|index| forged.check_payload(index, &shards[usize::from(index)]).is_ok()), "{place}");
            assert_eq!(reader_refuses(&world, &forged, &bad, chunks.len()), reader_sees, "{place}");
            let index = open_index(&forged, &world.index, BodyPart { offset: 0, bytes: &bad });
            assert_eq!(index.is_err(), writer_sees, "{place}");
        }
    }
}

fn reader_refuses(world: &World, header: &ParsedHeader, body: &[u8], chunks: usize) -> bool {
    let Ok(open) = unlock(header, &world.reader).unwrap().open(body.to_vec().into()) else {
        return true;
    };
    assert_eq!(open.toc().entries.len(), chunks);
    let mut decoder = FrameDecoder::new().unwrap();
    let bad = (0..chunks as u32).filter(|&frame| open.chunk(&mut decoder, frame, &world.dedup.id_key).is_err()).count();
    assert!(bad <= 1, "one byte damages one chunk");
    bad == 1
}

/// Damage in up to n - k shards is repaired to the very same bytes.
#[test]
fn what_was_flipped_is_repaired() {
    let world = World::new(7);
    let set = world.shards(world.pack(coding(5, 9), Compression::default(), &[&noise(3, 200_000)]), 7);
    let objects: Vec<Vec<u8>> = set.objects().map(|object| object.to_vec()).collect();
    let mut rng = rng(19);
    for _ in 0..20 * scale() {
        let mut bad = objects.clone();
        let mut spoiled = Vec::new();
        for _ in 0..4 {
            let index = rng.next_u32() as usize % 9;
            let at = HEADER_BYTES + rng.next_u32() as usize % payload(&bad[index]).len();
            bad[index][at] ^= 0x20;
            spoiled.push(index);
        }
        spoiled.sort_unstable();
        let good = admitted(set.verified_header(), &bad);
        // Two flips may hit one byte of one shard and cancel out.
        let same: Vec<usize> = (0..9).filter(|&index| bad[index] == objects[index]).collect();
        let indices: Vec<usize> = good.iter().map(|shard| shard.index().into()).collect();
        assert_eq!(indices, same, "spoiled {spoiled:?}");
        let repaired = repair(set.verified_header(), &good, &world.buffers).unwrap();
        for (object, original) in repaired.objects().zip(&objects) {
            assert!(object.to_vec() == *original, "shard {}", object.index());
        }
    }
}
