//! Every single bit of a pack's header, flipped: all 65,536 of them, on the way of
//! an audit, which has no key, and on the way of a restore to plain text. Nothing is
//! drawn by lot, so a bit that nobody guards cannot hide.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use vault_codec::{Compression, FrameDecoder, ParsedHeader, assemble, unlock, verify_header, verify_shard_object};
use vault_format::shard::{COMMITMENT_AT, HEADER_BYTES, INDEX_AT, KEY_SLOT_BYTES, SLOTS_AT};
use world::{World, admitted, coding, noise};

const BITS: usize = HEADER_BYTES * 8;
const WORKERS: usize = 2;

/// Runs `check` for every bit on as many threads as there are cores in CI.
fn every_bit(check: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let check = &check;
            scope.spawn(move || (worker..BITS).step_by(WORKERS).for_each(check));
        }
    });
}

fn flipped(object: &[u8], bit: usize) -> Vec<u8> {
    let mut bad = object[..HEADER_BYTES].to_vec();
    bad[bit / 8] ^= 1 << (bit % 8);
    bad
}

#[test]
fn no_bit_passes_without_a_key() {
    let world = World::new(21);
    let set = world.shards(world.pack(coding(5, 9), Compression::default(), &[&noise(1, 9_000)]), 21);
    let object = set.objects().nth(3).unwrap().to_vec();
    assert!(verify_shard_object(&object, world.lookup()).is_ok());
    every_bit(|bit| {
        let bad = flipped(&object, bit);
        let place = format!("bit {} of byte {}", bit % 8, bit / 8);
        // The index is outside the signatures: the payload's root tells.
        if bit / 8 == INDEX_AT {
            let whole = [&bad[..], &object[HEADER_BYTES..]].concat();
            let error = verify_shard_object(&whole, world.lookup()).expect_err(&place);
            assert_eq!(error.name(), "corrupt", "{place}: {error}");
        } else {
            let error = verify_header(&bad, world.lookup()).expect_err(&place);
            assert!(["corrupt", "unsupported", "unknown-certificate"].contains(&error.name()), "{place}: {error}");
        }
    });
}

/// With the check of the signatures left out, to see what the keys alone refuse: all
/// of H0, the reader's slot and the commitment. What is left to the signatures opens to
/// the same bytes; other plain text never comes out.
#[test]
fn no_bit_leads_to_other_plain_text() {
    let mut world = World::new(22);
    world.recipients.push(world.other_reader.public().clone());
    let content = noise(1, 9_000);
    let set = world.shards(world.pack(coding(3, 5), Compression::default(), &[&content]), 22);
    let objects: Vec<Vec<u8>> = set.objects().map(|object| object.to_vec()).collect();
    let body: Bytes =
        assemble(set.verified_header(), &admitted(set.verified_header(), &objects), &world.buffers).unwrap();
    let read = |header: &[u8], reader| {
        let key = unlock(&ParsedHeader::parse(header).ok()?, reader).ok()?;
        let pack = key.open(body.clone()).ok()?;
        pack.chunk(&mut FrameDecoder::new().unwrap(), 0, &world.dedup.id_key).ok()
    };
    let slots = SLOTS_AT..COMMITMENT_AT;
    for (slot, reader) in [&world.reader, &world.other_reader].into_iter().enumerate() {
        assert!(read(&objects[0], reader).unwrap() == content);
        let own = SLOTS_AT + slot * KEY_SLOT_BYTES..SLOTS_AT + (slot + 1) * KEY_SLOT_BYTES;
        let (refused, opened) = (AtomicUsize::new(0), AtomicUsize::new(0));
        every_bit(|bit| {
            let byte = bit / 8;
            // The second reader differs from the first in the slots alone.
            if slot > 0 && !slots.contains(&byte) {
                return;
            }
            let bound = byte < SLOTS_AT || own.contains(&byte) || (COMMITMENT_AT..COMMITMENT_AT + 32).contains(&byte);
            // The first test has every bit of the rest; here one of each byte.
            if !bound && bit % 8 != byte % 8 {
                return;
            }
            let plain = read(&flipped(&objects[0], bit), reader);
            assert!(plain.as_ref().is_none_or(|plain| *plain == content), "bit {} of byte {byte}", bit % 8);
            assert!(!(bound && plain.is_some()), "bit {} of byte {byte} is bound to the key and was not", bit % 8);
            (if plain.is_some() { &opened } else { &refused }).fetch_add(1, Ordering::Relaxed);
        });
        println!("reader {slot}: {refused:?} refused by the keys alone, {opened:?} left to the signatures");
    }
}
