//! A signature made for one purpose is none for another: every label that anything
//! is signed under, against every other one; and every kind of record presented as
//! every other kind.

#![allow(clippy::unwrap_used, reason = "test code")]

use keys::record;
use keys::{KeysError, SignatureFault, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_format::VaultId;
use vault_format::envelope::{Envelope, JOURNAL_LABEL, RecordKind, SHARD_LABEL};

/// Numbers of kinds are asked for one by one, so that a new kind is in here by itself.
fn kinds() -> Vec<RecordKind> {
    let all: Vec<RecordKind> = (0..=u8::MAX).filter_map(|number| RecordKind::from_number(number).ok()).collect();
    assert!(all.len() >= 8, "{} kinds", all.len());
    all
}

#[test]
fn no_label_stands_for_another() {
    let key = SigningKey::random(&mut ChaCha20Rng::from_seed([1; 32]));
    let mut labels: Vec<&str> = kinds().into_iter().map(RecordKind::label).collect();
    labels.extend([SHARD_LABEL, JOURNAL_LABEL, keys::labels::CROSS_SIGNATURE]);
    let mut refused = 0;
    for signed in &labels {
        let signatures = key.sign(signed, b"the same message");
        for asked in &labels {
            let verdict = key.verifying_key().verify(asked, b"the same message", &signatures);
            if signed == asked {
                assert_eq!(verdict, Ok(()));
            } else {
                assert_eq!(verdict, Err(SignatureFault::Both), "{signed} taken for {asked}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, labels.len() * (labels.len() - 1));
}

#[test]
fn no_kind_of_record_stands_for_another() {
    let key = SigningKey::random(&mut ChaCha20Rng::from_seed([2; 32]));
    let vault = VaultId([3; 16]);
    for signed in kinds() {
        let bytes = record::sign(signed, vault, b"a body", &key);
        assert!(record::verify(&bytes, signed, vault, key.verifying_key()).is_ok());
        for asked in kinds().into_iter().filter(|kind| *kind != signed) {
            let plain = record::verify(&bytes, asked, vault, key.verifying_key()).err();
            assert!(matches!(plain, Some(KeysError::Kind { .. })), "{signed:?} taken for {asked:?}");
            let mut relabelled = Envelope::decode(&bytes).unwrap();
            relabelled.kind = asked;
            let forged = record::verify(&relabelled.encode(), asked, vault, key.verifying_key()).err();
            let both = matches!(forged, Some(KeysError::Signature { fault: SignatureFault::Both, .. }));
            assert!(both, "{signed:?} relabelled as {asked:?}");
        }
    }
}
