use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_format::certificate::Revocation;

use super::*;
use crate::revocation::{Position, Revocations};

const VAULT: VaultId = VaultId([6; 16]);

struct House {
    root: SigningKey,
    operator: SigningKey,
    writer: SigningKey,
    authority: Authority,
}

fn key(byte: u8) -> SigningKey {
    SigningKey::random(&mut ChaCha20Rng::from_seed([byte; 32]))
}

fn house() -> House {
    let root = key(1);
    let authority = Authority::new(VAULT, root.verifying_key().clone());
    House { root, operator: key(2), writer: key(3), authority }
}

fn request(role: Role, key: &SigningKey) -> Request {
    Request {
        role,
        subject: WriterId([role as u8; 16]),
        public: key.verifying_key().clone(),
        kem_public: None,
        serial: 5,
        not_before_ms: 1_000,
        not_after_ms: 2_000,
        scope: (role == Role::Writer).then_some(ScopeId([8; 16])),
        name: "host".to_owned(),
    }
}

impl House {
    fn operator_certificate(&self) -> Vec<u8> {
        issue(&self.root, VAULT, request(Role::Operator, &self.operator)).unwrap()
    }

    fn writer_certificate(&self) -> Vec<u8> {
        issue(&self.operator, VAULT, request(Role::Writer, &self.writer)).unwrap()
    }

    fn chain(&self) -> Vec<Blob> {
        vec![Blob(self.operator_certificate()), Blob(self.writer_certificate())]
    }
}

#[test]
fn a_chain_gives_the_writers_key_and_what_it_may_sign() {
    let house = house();
    let writer = house.authority.chain(&house.chain()).unwrap();
    assert_eq!((writer.role(), writer.subject()), (Role::Writer, WriterId([2; 16])));
    assert_eq!(writer.public(), house.writer.verifying_key());
    let manifest = record::sign(RecordKind::Manifest, VAULT, b"m", &house.writer);
    assert_eq!(writer.verify(&manifest, RecordKind::Manifest).unwrap().body(), b"m");
    for kind in [RecordKind::Layout, RecordKind::Tombstone, RecordKind::Certificate, RecordKind::Vault] {
        let bytes = record::sign(kind, VAULT, b"m", &house.writer);
        assert!(matches!(writer.verify(&bytes, kind), Err(KeysError::Role { .. })), "{kind:?}");
    }
    assert!(!writer.is_expired(1_500) && writer.is_expired(2_001) && writer.is_expired(999));
}

#[test]
fn the_wrong_issuer_is_refused() {
    let house = house();
    let operator = house.authority.operator(&house.operator_certificate()).unwrap();
    // The root certifies operators only, operators certify no operator.
    let by_root = issue(&house.root, VAULT, request(Role::Writer, &house.writer)).unwrap();
    assert!(matches!(house.authority.operator(&by_root), Err(KeysError::Role { .. })));
    assert!(matches!(house.authority.holder(&operator, &by_root), Err(KeysError::Signer { .. })));
    let second = issue(&house.operator, VAULT, request(Role::Operator, &key(9))).unwrap();
    assert!(matches!(house.authority.holder(&operator, &second), Err(KeysError::Role { .. })));
    // A writer certifies nobody.
    let writer = house.authority.chain(&house.chain()).unwrap();
    let third = issue(&house.writer, VAULT, request(Role::Writer, &key(9))).unwrap();
    assert!(matches!(house.authority.holder(&writer, &third), Err(KeysError::Role { .. })));
    // Another vault's root.
    let stranger = Authority::new(VAULT, key(4).verifying_key().clone());
    assert!(matches!(stranger.operator(&house.operator_certificate()), Err(KeysError::Signer { .. })));
    let elsewhere = Authority::new(VaultId([7; 16]), house.root.verifying_key().clone());
    assert!(matches!(elsewhere.operator(&house.operator_certificate()), Err(KeysError::Vault { .. })));
}

#[test]
fn contradictory_requests_are_not_issued() {
    let house = house();
    let mut late = request(Role::Writer, &house.writer);
    late.not_after_ms = 0;
    assert!(matches!(issue(&house.operator, VAULT, late), Err(KeysError::Certificate { .. })));
    let mut scopeless = request(Role::Writer, &house.writer);
    scopeless.scope = None;
    assert!(matches!(issue(&house.operator, VAULT, scopeless), Err(KeysError::Certificate { .. })));
    let itself = issue(&house.root, VAULT, request(Role::Operator, &house.root)).unwrap();
    assert!(matches!(house.authority.operator(&itself), Err(KeysError::Certificate { .. })));
    assert!(house.authority.chain(&house.chain()[..1]).is_err());
}

#[test]
fn a_certificate_naming_another_issuer_is_refused() {
    let house = house();
    let bytes = house.operator_certificate();
    let envelope = vault_format::envelope::Envelope::decode(&bytes).unwrap();
    let mut body: Certificate = vault_format::decode("certificate", &envelope.body).unwrap();
    body.issuer = Hash([1; 32]);
    let forged = record::sign(RecordKind::Certificate, VAULT, &encode(&body), &house.root);
    assert!(matches!(house.authority.operator(&forged), Err(KeysError::Certificate { .. })));
}

fn revocation(subject: &CertifiedKey, epoch: u64, sequence: u64, signer: &SigningKey) -> Vec<u8> {
    let body = Revocation {
        certificate: subject.certificate_hash(),
        subject: subject.subject(),
        epoch,
        sequence,
        reason: "stolen".to_owned(),
        created_ms: 3,
    };
    record::sign(RecordKind::Revocation, VAULT, &encode(&body), signer)
}

#[test]
fn revocation_cuts_at_the_last_good_position() {
    let house = house();
    let operator = house.authority.operator(&house.operator_certificate()).unwrap();
    let writer = house.authority.chain(&house.chain()).unwrap();
    let hash = writer.certificate_hash();
    let at = |epoch, sequence| Position { epoch, sequence };
    let mut known = Revocations::new();
    assert!(known.permits(&hash, at(9, 9)) && !known.is_revoked(&hash));
    let late = revocation(&writer, 2, 7, &house.operator);
    known.add(&house.authority, Some(&operator), &writer, &late).unwrap();
    assert!(known.permits(&hash, at(2, 7)) && known.permits(&hash, at(1, 100)));
    assert!(!known.permits(&hash, at(2, 8)) && !known.permits(&hash, at(3, 1)));
    // An earlier position by the root wins; a later one changes nothing.
    let early = revocation(&writer, 2, 3, &house.root);
    known.add(&house.authority, None, &writer, &early).unwrap();
    known.add(&house.authority, Some(&operator), &writer, &late).unwrap();
    assert!(known.permits(&hash, at(2, 3)) && !known.permits(&hash, at(2, 4)));
}

#[test]
fn only_the_root_revokes_operators_and_writers_revoke_nobody() {
    let house = house();
    let operator = house.authority.operator(&house.operator_certificate()).unwrap();
    let writer = house.authority.chain(&house.chain()).unwrap();
    let mut known = Revocations::new();
    let by_itself = revocation(&operator, 0, 0, &house.operator);
    assert!(known.add(&house.authority, Some(&operator), &operator, &by_itself).is_err());
    assert!(known.add(&house.authority, None, &operator, &by_itself).is_err());
    let by_writer = revocation(&writer, 0, 0, &house.writer);
    assert!(known.add(&house.authority, Some(&writer), &writer, &by_writer).is_err());
    let of_other = revocation(&operator, 0, 0, &house.root);
    assert!(known.add(&house.authority, None, &writer, &of_other).is_err());
    // The writer's certificate has serial 5.
    known.add(&house.authority, None, &operator, &revocation(&operator, 1, 5, &house.root)).unwrap();
    assert!(known.permits_certificate(&operator, &writer));
    known.add(&house.authority, None, &operator, &revocation(&operator, 1, 4, &house.root)).unwrap();
    assert!(!known.permits_certificate(&operator, &writer));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_chain_is_never_accepted(which in 0_usize..2, at: prop::sample::Index, flip in 1_u8..) {
        let house = house();
        let mut chain = house.chain();
        let length = chain[which].0.len();
        chain[which].0[at.index(length)] ^= flip;
        prop_assert!(house.authority.chain(&chain).is_err());
    }
}
