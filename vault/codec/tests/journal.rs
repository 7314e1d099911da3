//! Journal objects: sealed, chained, opened, tampered with.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use rand_chacha::rand_core::Rng;
use vault_codec::CodecError;
use vault_codec::journal::{self, JournalContext};
use vault_format::envelope::JOURNAL_LABEL;
use vault_format::journal::{JournalBody, JournalHeader};
use vault_format::shard::HEADER_BYTES;
use vault_format::{Blob, Hash, LineageId, labels};
use world::{World, noise, rng, scale};

fn context(world: &World) -> JournalContext<'_> {
    JournalContext {
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
    }
}

fn run(bytes: usize) -> JournalBody {
    JournalBody { source: "memory".to_owned(), first: 1, last: 9, created_ms: 1, log: Blob(noise(1, bytes)) }
}

#[test]
fn runs_of_all_sizes_come_back_and_chain() {
    let world = World::new(1);
    let mut rng = rng(1);
    let mut previous = Hash([0; 32]);
    for (ordinal, (bytes, size)) in (1..).zip([(0, 16), (16_000, 16), (16_400, 64), (100_000, 256), (1_000_000, 1024)])
    {
        let context = JournalContext { ordinal, previous, ..context(&world) };
        let object = journal::seal(&context, &run(bytes), &mut rng).unwrap();
        assert_eq!(object.len(), HEADER_BYTES + size * 1024);
        let verified = journal::verify(&object, world.lookup()).unwrap();
        assert_eq!((verified.header().ordinal, verified.header().previous), (ordinal, previous));
        assert_eq!(verified.hash(), journal::hash(&object));
        assert_eq!(verified.open(&world.reader).unwrap(), run(bytes));
        assert_eq!(verified.open(&world.other_reader).unwrap_err().name(), "wrong-key");
        previous = verified.hash();
    }
    assert_eq!(journal::seal(&context(&world), &run(1 << 20), &mut rng).unwrap_err().name(), "refused");
    let nobody = JournalContext { recipients: &[], ..context(&world) };
    assert_eq!(journal::seal(&nobody, &run(1), &mut rng).unwrap_err().name(), "refused");
}

#[test]
fn every_flip_is_detected_without_a_key() {
    let world = World::new(2);
    let object = journal::seal(&context(&world), &run(9_000), &mut rng(2)).unwrap();
    let mut rng = rng(3);
    let places: Vec<usize> = (0..300 * scale()).map(|_| rng.next_u32() as usize % object.len()).collect();
    for at in places.into_iter().chain([0, 255, 256, HEADER_BYTES - 1, HEADER_BYTES, object.len() - 1]) {
        let mut bad = object.clone();
        bad[at] ^= 1 + (rng.next_u32() % 255) as u8;
        let error = journal::verify(&bad, world.lookup()).expect_err(&format!("byte {at}"));
        assert!(["corrupt", "unsupported", "unknown-certificate"].contains(&error.name()), "byte {at}: {error}");
    }
    for cut in [0, 100, HEADER_BYTES, object.len() - 1] {
        assert!(journal::verify(&object[..cut], world.lookup()).is_err(), "{cut} bytes");
    }
    assert!(matches!(journal::verify(&object, |_| None), Err(CodecError::UnknownCertificate { .. })));
    assert!(journal::verify(&object, |_| Some(&world.stranger)).is_err());
}

/// A writer whose hashes fit an altered body or header: the reader refuses.
#[test]
fn a_resigned_forgery_does_not_open() {
    let world = World::new(3);
    let object = journal::seal(&context(&world), &run(9_000), &mut rng(2)).unwrap();
    let forge = |change: &dyn Fn(&mut JournalHeader, &mut Vec<u8>)| {
        let mut header = JournalHeader::decode(&object[..HEADER_BYTES]).unwrap();
        let mut sealed = object[HEADER_BYTES..].to_vec();
        change(&mut header, &mut sealed);
        header.body = keys::hash::labelled(labels::JOURNAL_BODY, &sealed);
        header.signatures = world.signer.sign(JOURNAL_LABEL, &header.signed_bytes());
        let verified = journal::verify(&[header.encode(), sealed].concat(), world.lookup()).unwrap();
        verified.open(&world.reader)
    };
    assert!(forge(&|_, _| ()).is_ok());
    assert_eq!(forge(&|_, sealed| sealed[77] ^= 1).unwrap_err().name(), "corrupt");
    assert_eq!(forge(&|header, _| header.ordinal = 2).unwrap_err().name(), "corrupt");
    assert_eq!(forge(&|header, _| header.previous.0[3] ^= 1).unwrap_err().name(), "corrupt");
    assert_eq!(forge(&|header, _| header.commitment[0] ^= 1).unwrap_err().name(), "corrupt");
    assert_eq!(forge(&|header, _| header.slots[0].wrapped[5] ^= 1).unwrap_err().name(), "corrupt");
}
