//! A writer's index key: what it can read back of its own packs and manifests
//! without a read key. Whoever steals it can confirm guesses about this writer's
//! past chunks and see the names of its points; no content.

use vault_format::{Blob, Hash, StreamId, VaultId};

use crate::aead::EncKey;
use crate::data_key::Commitment;
use crate::derive::Derivation;
use crate::error::{KeysError, Result};
use crate::hash::first_half;
use crate::labels;
use crate::secret::{Secret, SecretBytes};

const NONCE_BYTES: usize = 12;

/// The index key of one writer.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct IndexKey(#[n(0)] Secret<32>);

impl IndexKey {
    pub(crate) fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The key of a pack's index section and its locator.
    ///
    /// Bound to the commitment besides H0: the commitment follows the content, so
    /// that a clone which repeats an H0 does not seal another index under the
    /// same key and nonce.
    pub fn section_key(&self, h0: &Hash, commitment: &Commitment) -> EncKey {
        EncKey::new(self.derivation().expand(labels::INDEX_SECTION, &[&h0.0, &commitment.0]))
    }

    /// The name of a stream: tells nothing of the source it comes from.
    pub fn stream_id(&self, source: &str) -> StreamId {
        let key: Secret<32> = self.derivation().expand(labels::STREAM_NAME, &[]);
        let mut hasher = blake3::Hasher::new_keyed(key.expose_secret());
        hasher.update(vault_format::labels::STREAM_ID.as_bytes());
        hasher.update(source.as_bytes());
        StreamId(first_half(*hasher.finalize().as_bytes()))
    }

    /// Seals what only this writer reads: nonce, ciphertext, tag. The nonce is a
    /// keyed hash of the plain bytes, so equal bytes look equal and nothing else
    /// can repeat one.
    pub fn seal_own(&self, vault: VaultId, plain: &[u8]) -> Blob {
        let nonce = self.own_nonce(vault, plain);
        let mut sealed = plain.to_vec();
        self.own_key(vault).seal_in_place(nonce, labels::OWN_DATA.as_bytes(), &mut sealed);
        Blob([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Self::seal_own`] sealed.
    pub fn open_own(&self, vault: VaultId, sealed: &Blob) -> Result<SecretBytes> {
        let what = "the writer's own part of a manifest";
        let (nonce, rest) = sealed.0.split_first_chunk::<NONCE_BYTES>().ok_or(KeysError::Unopened { what })?;
        let mut plain = rest.to_vec();
        let opened = self.own_key(vault).open_in_place(*nonce, labels::OWN_DATA.as_bytes(), &mut plain);
        plain.truncate(opened.map_err(|_| KeysError::Unopened { what })?);
        Ok(SecretBytes::new(plain))
    }

    fn own_key(&self, vault: VaultId) -> EncKey {
        EncKey::new(self.derivation().expand(labels::OWN_PART, &[&vault.0]))
    }

    fn own_nonce(&self, vault: VaultId, plain: &[u8]) -> [u8; NONCE_BYTES] {
        let key: Secret<32> = self.derivation().expand(labels::OWN_NONCE, &[&vault.0]);
        let hash = blake3::keyed_hash(key.expose_secret(), plain);
        *hash.as_bytes().first_chunk().expect("12 of 32 bytes")
    }

    fn derivation(&self) -> Derivation {
        Derivation::extract(labels::INDEX_KEY, &[self.0.expose_secret()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([4; 16]);

    fn key(byte: u8) -> IndexKey {
        IndexKey::new(Secret::from_array([byte; 32]))
    }

    #[test]
    fn own_parts_open_for_this_writer_and_vault_only() {
        let sealed = key(1).seal_own(VAULT, b"names");
        assert_eq!(key(1).open_own(VAULT, &sealed).unwrap().expose_secret(), b"names");
        assert!(key(2).open_own(VAULT, &sealed).is_err());
        assert!(key(1).open_own(VaultId([5; 16]), &sealed).is_err());
        for at in 0..sealed.0.len() {
            let mut bad = sealed.clone();
            bad.0[at] ^= 0x40;
            assert!(key(1).open_own(VAULT, &bad).is_err());
            assert!(key(1).open_own(VAULT, &Blob(sealed.0[..at].to_vec())).is_err());
        }
        assert_ne!(sealed.0[..12], key(1).seal_own(VAULT, b"nameS").0[..12]);
    }

    #[test]
    fn section_keys_follow_header_and_content() {
        let (h0, commitment) = (Hash([1; 32]), Commitment([2; 32]));
        let base = *key(1).section_key(&h0, &commitment).expose_secret();
        assert_ne!(&base, key(1).section_key(&Hash([9; 32]), &commitment).expose_secret());
        assert_ne!(&base, key(1).section_key(&h0, &Commitment([9; 32])).expose_secret());
        assert_ne!(&base, key(2).section_key(&h0, &commitment).expose_secret());
    }

    #[test]
    fn stream_names_differ_by_source_and_writer() {
        assert_eq!(key(1).stream_id("memory"), key(1).stream_id("memory"));
        assert_ne!(key(1).stream_id("memory"), key(1).stream_id("docs"));
        assert_ne!(key(1).stream_id("memory"), key(2).stream_id("memory"));
    }
}
