//! Packs made from fixed keys, a fixed generator and raw frames: the BLAKE3 of
//! every object is pinned. If this fails, stored bytes have changed: that is a
//! new format version, not a new pin. (Compressed frames are left out: another
//! zstd may write other bytes; that old ones still read is a test of its own.)

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::fmt::Write;

use vault_codec::Compression;
use vault_codec::journal::{self, JournalContext};
use vault_format::journal::JournalBody;
use vault_format::{Blob, Hash, LineageId};
use world::{World, coding, noise, rng};

#[test]
fn stored_bytes_are_those_of_version_1() {
    let mut world = World::new(2026);
    let mut found = String::new();
    for (k, n, recipients, bytes) in [(5, 9, 1, 40_000), (3, 5, 2, 400_000), (7, 15, 1, 40_000), (1, 3, 1, 900_000)] {
        world.recipients.truncate(1);
        if recipients == 2 {
            world.recipients.push(world.other_reader.public().clone());
        }
        let chunks = [noise(1, bytes), b"words ".repeat(1_000), Vec::new(), noise(2, 300)];
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let set = world.shards(world.pack(coding(k, n), Compression::Never, &chunks), u64::from(n));
        writeln!(found, "{k} of {n}, pack {}, header {}", set.pack(), set.header_hash()).unwrap();
        for object in set.objects() {
            writeln!(found, "{:02} {} {}", object.index(), object.object_bytes(), blake3::hash(&object.to_vec()))
                .unwrap();
        }
    }
    let context = JournalContext {
        vault: world.vault,
        writer: world.writer,
        stream: world.index.stream_id("memory"),
        lineage: LineageId([5; 16]),
        ordinal: 1,
        previous: Hash([0; 32]),
        recipients: &world.recipients,
        local: &world.local,
        signer: &world.signer,
        certificate: world.certified.certificate_hash(),
    };
    let body = JournalBody { source: "memory".to_owned(), first: 1, last: 2, created_ms: 3, log: Blob(noise(3, 99)) };
    let object = journal::seal(&context, &body, &mut rng(7)).unwrap();
    writeln!(found, "journal {} {}", object.len(), blake3::hash(&object)).unwrap();
    assert!(found == include_str!("../testdata/golden_packs.txt"), "found:\n{found}");
}
