//! Journal objects: sealed, chained, opened, tampered with.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use keys::hash::labelled;
use keys::wrap::wrap;
use keys::{DataKey, Secret};
use rand_chacha::rand_core::Rng;
use vault_codec::CodecError;
use vault_codec::journal::{self, JournalContext};
use vault_format::body::{NonceDomain, nonce};
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
        header.body = labelled(labels::JOURNAL_BODY, &sealed);
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

/// A writer that seals a body by hand: its length and padding are checked after
/// everything authenticated.
#[test]
fn a_body_with_something_behind_its_end_is_refused() {
    let world = World::new(4);
    let object = journal::seal(&context(&world), &run(100), &mut rng(2)).unwrap();
    let body = vault_format::encode(&run(100));
    let craft = |length: u64, last: u8| {
        let mut header = JournalHeader::decode(&object[..HEADER_BYTES]).unwrap();
        let mut plain = [&length.to_le_bytes()[..], &body].concat();
        plain.resize(header.class.body_bytes() - 16, 0);
        *plain.last_mut().unwrap() = last;
        let data_key = DataKey::derive(&Secret::random(&mut rng(5)), &world.local, world.local.content_hasher());
        let h0 = header.h0_bytes();
        let h0_hash = labelled(labels::H0, &h0);
        let (key, commitment) = data_key.pack_keys(&h0_hash);
        key.seal_in_place(nonce(NonceDomain::Frame, 0), &h0, &mut plain);
        header.slots = vec![wrap(&data_key, &world.recipients[0], &h0_hash, &mut rng(6))];
        header.commitment = commitment.0;
        header.body = labelled(labels::JOURNAL_BODY, &plain);
        header.signatures = world.signer.sign(JOURNAL_LABEL, &header.signed_bytes());
        journal::verify(&[header.encode(), plain].concat(), world.lookup()).unwrap().open(&world.reader)
    };
    let length = body.len() as u64;
    assert_eq!(craft(length, 0).unwrap(), run(100));
    for (length, last) in [(length, 1), (length - 1, 0), (length + 1, 0), (0, 0), (u64::MAX, 0), (16 * 1024 - 23, 0)] {
        assert_eq!(craft(length, last).unwrap_err().name(), "corrupt", "{length} {last}");
    }
}
