//! Rotation by the rules of FORMAT.md, section 5: which root counts, what the newest
//! seed opens, and what the keys of a host keep when they follow.

#![allow(clippy::unwrap_used, reason = "test code")]

mod first_record;

use first_record::first_record;
use keys::certificate::Authority;
use keys::files::{JanitorGeneration, MasterSeed, ReadKey};
use keys::first::FirstKeys;
use keys::issue::{self, Said};
use keys::revocation::{Position, Revocations};
use keys::rotation::{Rotated, Rotation, in_force};
use keys::{Generation, KeysError, Seed, SigningKey, VerifyingKey, record};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_format::Blob;
use vault_format::certificate::{Revocation, Role};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::vault::VaultRecord;

const NOW_MS: i64 = 5_000;

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

/// The first vault record of a vault with these keys, signed.
fn signed_first(keys: &FirstKeys) -> Vec<u8> {
    let root = keys.master.seed.root_key(Generation::FIRST);
    record::sign(RecordKind::Vault, keys.public.vault, &vault_format::encode(&first_record(keys)), &root)
}

/// Rotates from what is in force to a seed drawn from `draw`.
fn rotated(
    keys: &FirstKeys,
    old: &MasterSeed,
    shown: &[Vec<u8>],
    draw: u8,
    revoked: &Revocations,
) -> (MasterSeed, Rotated) {
    let now = in_force(old.vault, &keys.public.root, shown).unwrap().unwrap();
    let new = Seed::random(&mut rng(draw));
    let rotation = Rotation {
        vault: old.vault,
        old: &old.seed,
        generation: old.generation,
        new: &new,
        record: &now.record,
        record_hash: now.hash,
        revocations: revoked,
        now_ms: NOW_MS,
    };
    let done = rotation.sign(&mut rng(draw + 100)).unwrap();
    (MasterSeed { vault: old.vault, generation: Generation(old.generation.0 + 1), seed: new }, done)
}

fn drawn() -> (FirstKeys, Vec<Vec<u8>>) {
    let keys = FirstKeys::draw(&mut rng(1), "host", 1_000);
    let shown = vec![signed_first(&keys)];
    (keys, shown)
}

fn read(master: &MasterSeed) -> ReadKey {
    ReadKey::from_seed(&master.seed, master.generation, master.vault)
}

#[test]
fn two_rotations_are_followed_from_any_root_and_the_newest_seed_opens_all_before_it() {
    let (keys, mut shown) = drawn();
    let (second, done) = rotated(&keys, &keys.master, &shown, 2, &Revocations::new());
    shown.push(done.record.0);
    let (third, done) = rotated(&keys, &second, &shown, 3, &Revocations::new());
    shown.push(done.record.0);

    let root = |master: &MasterSeed| master.seed.root_key(master.generation).verifying_key().clone();
    let line = [&keys.master, &second, &third].map(root);
    for pinned in &line {
        // The newest record alone is enough, whatever root is pinned.
        for shown in [&shown[..], &shown[2..]] {
            let found = in_force(keys.public.vault, pinned, shown).unwrap().unwrap();
            assert_eq!((found.record.epoch, &found.root, &found.former[..]), (3, &line[2], &line[..2]));
        }
    }
    // What the first root signs after that is nothing any more.
    let found = in_force(keys.public.vault, &line[2], &shown[..2]).unwrap();
    assert!(found.is_none(), "an older root is not the pinned one");

    let record = in_force(keys.public.vault, &line[0], &shown).unwrap().unwrap().record;
    let mut newest = read(&third);
    assert_eq!(newest.learn(&record.key_history).unwrap(), 2);
    assert_eq!(newest.learn(&record.key_history).unwrap(), 0, "once is enough");
    let numbers: Vec<u32> = newest.generations.iter().map(|keys| keys.generation.0).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for (of, old) in newest.generations.iter().zip([&keys.read, &read(&second), &read(&third)]) {
        let scope = keys.writer.scope;
        let (mine, theirs) = (of.dedup.keys(scope), old.generations[0].dedup.keys(scope));
        assert_eq!(
            (of.reader.id(), of.janitor.id()),
            (old.generations[0].reader.id(), old.generations[0].janitor.id())
        );
        assert_eq!(mine.id_key.chunk_id(b"chunk"), theirs.id_key.chunk_id(b"chunk"));
    }
    // The other way nothing opens.
    assert_eq!(keys.read.generations.len(), 1);
    let mut oldest = read(&keys.master);
    assert_eq!(oldest.learn(&record.key_history).unwrap(), 0);
}

#[test]
fn a_root_without_its_predecessors_word_or_with_a_rival_is_not_believed() {
    let (keys, shown) = drawn();
    let vault = keys.public.vault;
    let (_, good) = rotated(&keys, &keys.master, &shown, 2, &Revocations::new());
    let (_, rival) = rotated(&keys, &keys.master, &shown, 3, &Revocations::new());
    let both = [shown[0].clone(), good.record.0.clone(), rival.record.0.clone()];
    assert!(matches!(in_force(vault, &keys.public.root, &both), Err(KeysError::Roots { .. })));

    // Who pins the new root already is not disturbed by the rival.
    let body = |bytes: &[u8]| vault_format::decode::<VaultRecord>("r", &Envelope::decode(bytes).unwrap().body).unwrap();
    let new_root = VerifyingKey::from_slice(&body(&good.record.0).root_public.0).unwrap();
    assert_eq!(in_force(vault, &new_root, &both).unwrap().unwrap().hash, record::hash(&good.record.0));

    // A stranger's record, and one whose cross signature covers another key.
    let stranger = SigningKey::random(&mut rng(9));
    let mut forged = body(&good.record.0);
    forged.root_public = Blob(stranger.verifying_key().as_bytes().to_vec());
    let forged = record::sign(RecordKind::Vault, vault, &vault_format::encode(&forged), &stranger);
    let mut flipped = body(&good.record.0);
    flipped.predecessors[0].signatures.0[100] ^= 1;
    let root = Seed::random(&mut rng(2)).root_key(Generation(2));
    let flipped = record::sign(RecordKind::Vault, vault, &vault_format::encode(&flipped), &root);
    for bad in [forged, flipped] {
        let found = in_force(vault, &keys.public.root, &[shown[0].clone(), bad]).unwrap().unwrap();
        assert_eq!(found.record.epoch, 1, "what is not vouched for does not count");
    }
}

#[test]
fn what_the_former_root_signs_after_the_rotation_does_not_count() {
    let (keys, mut shown) = drawn();
    let (_, done) = rotated(&keys, &keys.master, &shown, 2, &Revocations::new());
    let mut late: VaultRecord = vault_format::decode("r", &Envelope::decode(&shown[0]).unwrap().body).unwrap();
    late.epoch = 77;
    let root = keys.master.seed.root_key(Generation::FIRST);
    shown.push(record::sign(RecordKind::Vault, keys.public.vault, &vault_format::encode(&late), &root));
    shown.push(done.record.0);
    let found = in_force(keys.public.vault, &keys.public.root, &shown).unwrap().unwrap();
    assert_eq!((found.record.epoch, found.record.predecessors.len()), (2, 1), "not the higher epoch of the old root");
    let found = in_force(keys.public.vault, &keys.public.root, &shown[..2]).unwrap().unwrap();
    assert_eq!(found.record.epoch, 77, "where the rotation is not shown the old root is all there is");
}

/// Whoever holds the old seed can certify an operator today, and a writer under it.
#[test]
fn a_former_root_vouches_only_for_operators_that_the_record_in_force_names() {
    let (keys, mut shown) = drawn();
    let vault = keys.public.vault;
    let (second, done) = rotated(&keys, &keys.master, &shown, 2, &Revocations::new());
    shown.push(done.record.0);
    let now = in_force(vault, &keys.public.root, &shown).unwrap().unwrap();
    assert_eq!(now.root, *second.seed.root_key(second.generation).verifying_key());

    let said = Said { name: "made up".to_owned(), serial: 9, now_ms: NOW_MS };
    let forged = issue::operator(&mut rng(5), vault, (&keys.master.seed, keys.master.generation), &said).unwrap();
    let alone = Authority::new(vault, keys.public.root.clone());
    assert!(alone.operator(&forged.certificate.0).is_ok(), "while it is in force its root may");
    let former = Authority::new(vault, now.root.clone()).former(keys.public.root.clone(), &now.record);
    assert!(matches!(former.operator(&forged.certificate.0), Err(KeysError::Certificate { .. })));
    assert!(former.chain(&keys.writer.certificates).is_ok(), "what was certified before the rotation stays good");
}

#[test]
fn the_keys_of_a_host_follow_and_keep_what_they_sign_with() {
    let (mut keys, mut shown) = drawn();
    let operator = keys.operator.certified().unwrap();
    let mut revoked = Revocations::new();
    let body = Revocation {
        certificate: operator.certificate_hash(),
        subject: operator.subject(),
        epoch: 4,
        sequence: 9,
        reason: String::new(),
        created_ms: 1,
    };
    let root = keys.master.seed.root_key(Generation::FIRST);
    let bytes = record::sign(RecordKind::Revocation, keys.public.vault, &vault_format::encode(&body), &root);
    revoked.add(&keys.public.authority(), None, &operator, &bytes).unwrap();

    let (second, done) = rotated(&keys, &keys.master, &shown, 2, &revoked);
    shown.push(done.record.0);
    let now = in_force(keys.public.vault, &keys.public.root, &shown).unwrap().unwrap();
    let (before, chunk) = (keys.writer.certified().unwrap(), keys.writer.dedup.id_key.chunk_id(b"x"));
    assert!(keys.writer.follow(&now.root, &now.record).unwrap());
    assert!(!keys.writer.follow(&now.root, &now.record).unwrap(), "once is enough");
    let after = keys.writer.certified().unwrap();
    assert_eq!(before.certificate_hash(), after.certificate_hash(), "what it signed stays good");
    assert_eq!(keys.writer.dedup.id_key.chunk_id(b"x"), chunk);
    assert_eq!(keys.writer.reader.last().unwrap().id(), second.seed.reader_key(Generation(2)).public().id());
    assert_eq!(keys.writer.janitor.id(), second.seed.janitor_key(Generation(2)).public().id());

    assert!(keys.operator.follow(&now.root, &now.record).unwrap());
    let renewed = keys.operator.certified().unwrap();
    let janitor = JanitorGeneration { generation: Generation(2), janitor: second.seed.janitor_key(Generation(2)) };
    assert!(keys.janitor.follow(&now.root, &now.record, janitor).unwrap());
    assert_eq!(keys.janitor.certified().unwrap().role(), Role::Janitor);

    // The operator that was revoked is, under its new certificate too.
    let mut again = Revocations::new();
    let authority = Authority::new(keys.public.vault, now.root.clone());
    again.add(&authority, None, &renewed, &done.revocations[0].0).unwrap();
    assert_eq!(again.last_good(&renewed.certificate_hash()), Some(Position { epoch: 4, sequence: 9 }));
}

#[test]
fn another_seed_than_the_one_in_force_rotates_nothing() {
    let (keys, shown) = drawn();
    let now = in_force(keys.public.vault, &keys.public.root, &shown).unwrap().unwrap();
    let (wrong, new) = (Seed::random(&mut rng(7)), Seed::random(&mut rng(8)));
    let rotation = Rotation {
        vault: keys.public.vault,
        old: &wrong,
        generation: Generation::FIRST,
        new: &new,
        record: &now.record,
        record_hash: now.hash,
        revocations: &Revocations::new(),
        now_ms: NOW_MS,
    };
    assert!(matches!(rotation.sign(&mut rng(9)), Err(KeysError::Roots { .. })));
}
