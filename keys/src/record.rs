//! Signed records: putting a body into its envelope, and taking it out again
//! only after kind, vault, signer and both signatures were checked.

use minicbor::{Decode, Encode};
use vault_format::envelope::{ENVELOPE_BODY_BYTES_MAX, Envelope, RecordKind, envelope_message};
use vault_format::suite::Suite;
use vault_format::{FormatError, Hash, VaultId, labels};

use crate::error::{KeysError, Result};
use crate::hash::labelled;
use crate::signature::{SigningKey, VerifyingKey};

/// A record whose signatures were verified. There is no other way to make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRecord {
    kind: RecordKind,
    vault: VaultId,
    signer: Hash,
    hash: Hash,
    body: Vec<u8>,
}

impl VerifiedRecord {
    /// What it is.
    pub fn kind(&self) -> RecordKind {
        self.kind
    }

    /// The vault.
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// Fingerprint of the key that signed it.
    pub fn signer(&self) -> Hash {
        self.signer
    }

    /// Hash of the whole envelope: how other records name it.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The body's canonical CBOR.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as a record; `what` names it in errors.
    pub fn decode<T>(&self, what: &'static str) -> std::result::Result<T, FormatError>
    where
        T: Encode<()> + for<'b> Decode<'b, ()>,
    {
        vault_format::decode(what, &self.body)
    }
}

/// Signs a body; returns the stored bytes of its envelope.
///
/// # Panics
/// If the body is longer than any record may be; records are bounded where they
/// are built.
pub fn sign(kind: RecordKind, vault: VaultId, body: &[u8], signer: &SigningKey) -> Vec<u8> {
    assert!(body.len() <= ENVELOPE_BODY_BYTES_MAX, "a record body of {} bytes", body.len());
    let fingerprint = signer.fingerprint();
    let signatures = signer.sign(kind.label(), &envelope_message(kind, vault, fingerprint, body));
    Envelope { suite: Suite::One, kind, flags: 0, vault, signer: fingerprint, body: body.to_vec(), signatures }.encode()
}

/// Hash of an envelope's stored bytes.
pub fn hash(envelope: &[u8]) -> Hash {
    labelled(labels::ENVELOPE, envelope)
}

/// Reads an envelope and verifies that `signer` made it for this kind and vault.
pub fn verify(bytes: &[u8], kind: RecordKind, vault: VaultId, signer: &VerifyingKey) -> Result<VerifiedRecord> {
    let what = kind.label();
    let envelope = Envelope::decode(bytes)?;
    if envelope.kind != kind {
        return Err(KeysError::Kind { expected: kind, found: envelope.kind });
    }
    if envelope.vault != vault {
        return Err(KeysError::Vault { what, expected: vault, found: envelope.vault });
    }
    if envelope.signer != signer.fingerprint() {
        return Err(KeysError::Signer { what, expected: signer.fingerprint(), found: envelope.signer });
    }
    signer
        .verify(kind.label(), &envelope.message(), &envelope.signatures)
        .map_err(|fault| KeysError::Signature { what, fault })?;
    Ok(VerifiedRecord { kind, vault, signer: envelope.signer, hash: hash(bytes), body: envelope.body })
}

/// The fingerprint an envelope claims to be signed by, not yet verified: tells
/// which certificate to look for.
pub fn claimed_signer(bytes: &[u8]) -> Result<Hash> {
    Ok(Envelope::decode(bytes)?.signer)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::error::SignatureFault;

    const VAULT: VaultId = VaultId([3; 16]);

    #[test]
    fn every_flipped_byte_is_refused() {
        let key = SigningKey::random(&mut ChaCha20Rng::from_seed([1; 32]));
        let bytes = sign(RecordKind::Note, VAULT, b"a body", &key);
        let good = verify(&bytes, RecordKind::Note, VAULT, key.verifying_key()).unwrap();
        assert_eq!(good.body(), b"a body");
        assert_eq!(good.hash(), hash(&bytes));
        // Every byte of head and body, then a sample of the 3,373 signature bytes.
        let sample = (0..90).chain((90..bytes.len()).step_by(41)).chain([bytes.len() - 1]);
        for at in sample {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(verify(&bad, RecordKind::Note, VAULT, key.verifying_key()).is_err(), "byte {at}");
        }
        for length in (0..bytes.len()).step_by(97) {
            assert!(verify(&bytes[..length], RecordKind::Note, VAULT, key.verifying_key()).is_err());
        }
    }

    #[test]
    fn kind_vault_and_signer_must_be_those_expected() {
        let key = SigningKey::random(&mut ChaCha20Rng::from_seed([1; 32]));
        let other = SigningKey::random(&mut ChaCha20Rng::from_seed([2; 32]));
        let bytes = sign(RecordKind::Note, VAULT, b"a body", &key);
        let verify = |kind, vault, key: &SigningKey| verify(&bytes, kind, vault, key.verifying_key());
        assert!(matches!(verify(RecordKind::Fence, VAULT, &key), Err(KeysError::Kind { .. })));
        assert!(matches!(verify(RecordKind::Note, VaultId([4; 16]), &key), Err(KeysError::Vault { .. })));
        assert!(matches!(verify(RecordKind::Note, VAULT, &other), Err(KeysError::Signer { .. })));
    }

    #[test]
    fn a_body_signed_as_one_kind_is_no_other() {
        let key = SigningKey::random(&mut ChaCha20Rng::from_seed([1; 32]));
        let mut envelope = Envelope::decode(&sign(RecordKind::Note, VAULT, b"a body", &key)).unwrap();
        envelope.kind = RecordKind::Fence;
        let error = verify(&envelope.encode(), RecordKind::Fence, VAULT, key.verifying_key()).unwrap_err();
        assert!(matches!(error, KeysError::Signature { fault: SignatureFault::Both, .. }));
    }
}
