//! Wrapping a data key for a recipient, and sealing one field of a record. Both
//! are HPKE with an `info` that names the place, so nothing sealed for one place
//! opens in another.

use rand_core::CryptoRng;
use vault_format::sealed::{SealedBlob, SealedField};
use vault_format::shard::{KEM_ENC_BYTES, KeySlot};
use vault_format::{Blob, Hash, VaultId};

use crate::data_key::DataKey;
use crate::derive::frames;
use crate::error::{KeysError, Result};
use crate::kem::{self, RecipientPrivate, RecipientPublic, SealedBox};
use crate::labels;
use crate::secret::{Secret, SecretBytes};

/// Wraps a data key for one recipient of the object whose H0 hashes to `h0`.
pub fn wrap<R: CryptoRng + ?Sized>(data: &DataKey, to: &RecipientPublic, h0: &Hash, rng: &mut R) -> KeySlot {
    let sealed = kem::seal(to, &wrap_info(h0), b"", data.0.expose_secret(), rng);
    let wrapped = sealed.ciphertext.try_into();
    KeySlot { enc: sealed.enc, wrapped: wrapped.expect("a sealed data key is 32 bytes and a tag") }
}

/// Opens a key slot of the object whose H0 hashes to `h0`.
pub fn unwrap(slot: &KeySlot, recipient: &RecipientPrivate, h0: &Hash) -> Result<DataKey> {
    let what = "the wrapped data key";
    let sealed = SealedBox { enc: slot.enc, ciphertext: slot.wrapped.to_vec() };
    let plain = kem::open(recipient, &wrap_info(h0), b"", &sealed).map_err(|_| KeysError::Unopened { what })?;
    let secret = Secret::from_slice(plain.expose_secret()).ok_or(KeysError::InvalidKey { what })?;
    Ok(DataKey(secret))
}

/// Seals one field of a record to a recipient.
pub fn seal_field<R: CryptoRng + ?Sized>(
    field: SealedField,
    vault: VaultId,
    to: &RecipientPublic,
    plain: &[u8],
    rng: &mut R,
) -> SealedBlob {
    let sealed = kem::seal(to, &field_info(field, vault), b"", plain, rng);
    SealedBlob { recipient: to.id(), enc: Blob(sealed.enc.to_vec()), ciphertext: Blob(sealed.ciphertext) }
}

/// Opens what [`seal_field`] sealed.
pub fn open_field(
    field: SealedField,
    vault: VaultId,
    recipient: &RecipientPrivate,
    blob: &SealedBlob,
) -> Result<SecretBytes> {
    let what = field.label();
    let unopened = |_| KeysError::Unopened { what };
    if blob.recipient != recipient.id() {
        return Err(KeysError::Unopened { what });
    }
    let enc: [u8; KEM_ENC_BYTES] = blob.enc.0.as_slice().try_into().map_err(|_| KeysError::Unopened { what })?;
    let sealed = SealedBox { enc, ciphertext: blob.ciphertext.0.clone() };
    kem::open(recipient, &field_info(field, vault), b"", &sealed).map_err(unopened)
}

fn wrap_info(h0: &Hash) -> Vec<u8> {
    frames(&[labels::WRAP.as_bytes(), &h0.0])
}

fn field_info(field: SealedField, vault: VaultId) -> Vec<u8> {
    frames(&[field.label().as_bytes(), &vault.0])
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::data_key::LocalSecret;

    const VAULT: VaultId = VaultId([7; 16]);

    fn recipient(byte: u8) -> RecipientPrivate {
        RecipientPrivate::from_seed(Secret::from_array([byte; 32]))
    }

    #[test]
    fn a_slot_opens_for_its_recipient_and_header_only() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let local = LocalSecret::random(&mut rng);
        let data = DataKey::derive(&Secret::random(&mut rng), &local, local.content_hasher());
        let h0 = Hash([3; 32]);
        let slot = wrap(&data, recipient(1).public(), &h0, &mut rng);
        assert!(unwrap(&slot, &recipient(1), &h0).unwrap().0.is_same(&data.0));
        assert!(unwrap(&slot, &recipient(2), &h0).is_err());
        assert!(unwrap(&slot, &recipient(1), &Hash([4; 32])).is_err());
    }

    #[test]
    fn a_field_cannot_be_moved() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let blob = seal_field(SealedField::ManifestReader, VAULT, recipient(1).public(), b"names", &mut rng);
        let open = |field, vault, key| open_field(field, vault, &recipient(key), &blob);
        assert_eq!(open(SealedField::ManifestReader, VAULT, 1).unwrap().expose_secret(), b"names");
        assert!(open(SealedField::ManifestJanitor, VAULT, 1).is_err());
        assert!(open(SealedField::ManifestReader, VaultId([8; 16]), 1).is_err());
        assert!(open(SealedField::ManifestReader, VAULT, 2).is_err());
        let mut renamed = blob.clone();
        renamed.recipient = recipient(2).id();
        assert!(open_field(SealedField::ManifestReader, VAULT, &recipient(2), &renamed).is_err());
        let mut short = blob.clone();
        short.enc.0.pop();
        assert!(open_field(SealedField::ManifestReader, VAULT, &recipient(1), &short).is_err());
    }
}
