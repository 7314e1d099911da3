//! AES-256-GCM under one key: the only cipher of suite 1.
//!
//! GCM is not key-committing and fails open under a repeated nonce. Both are the
//! callers' to prevent, and they do: a commitment is compared before anything is
//! opened, and every key is bound to the content it seals.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use vault_format::suite::TAG_BYTES;

use crate::error::{KeysError, Result};
use crate::secret::Secret;

/// A key ready for sealing and opening; its schedule is computed once.
pub struct EncKey {
    secret: Secret<32>,
    cipher: LessSafeKey,
}

impl EncKey {
    /// Takes 32 secret bytes.
    pub fn new(secret: Secret<32>) -> Self {
        let unbound = UnboundKey::new(&AES_256_GCM, secret.expose_secret()).expect("an AES-256 key has 32 bytes");
        Self { secret, cipher: LessSafeKey::new(unbound) }
    }

    /// The key's bytes.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.secret.expose_secret()
    }

    /// Seals the buffer and appends the tag.
    pub fn seal_in_place(&self, nonce: [u8; 12], aad: &[u8], buffer: &mut Vec<u8>) {
        let tag = self.seal_detached(nonce, aad, buffer);
        buffer.extend_from_slice(&tag);
    }

    /// Seals the buffer and returns the tag.
    pub fn seal_detached(&self, nonce: [u8; 12], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.cipher.seal_in_place_separate_tag(nonce, Aad::from(aad), buffer);
        let tag = sealed.expect("a buffer in memory is below the 64 GiB that GCM can seal");
        tag.as_ref().try_into().expect("a GCM tag has 16 bytes")
    }

    /// Opens `ciphertext | tag` in place; the plain bytes are the first of the
    /// returned count. On an error the buffer's content is worthless.
    pub fn open_in_place(&self, nonce: [u8; 12], aad: &[u8], buffer: &mut [u8]) -> Result<usize> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        match self.cipher.open_in_place(nonce, Aad::from(aad), buffer) {
            Ok(plain) => Ok(plain.len()),
            Err(_) => Err(KeysError::Unopened { what: "ciphertext" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_byte_is_refused() {
        let key = EncKey::new(Secret::from_array([3; 32]));
        let mut sealed = b"forty-two bytes".to_vec();
        key.seal_in_place([1; 12], b"aad", &mut sealed);
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(key.open_in_place([1; 12], b"aad", &mut bad).is_err());
        }
        assert!(key.open_in_place([2; 12], b"aad", &mut sealed.clone()).is_err());
        assert!(key.open_in_place([1; 12], b"aae", &mut sealed.clone()).is_err());
        assert!(key.open_in_place([1; 12], b"aad", &mut [0; 15]).is_err());
        let plain = key.open_in_place([1; 12], b"aad", &mut sealed).unwrap();
        assert_eq!(&sealed[..plain], b"forty-two bytes");
    }
}
