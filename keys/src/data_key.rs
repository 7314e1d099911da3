//! The keys of one pack. Every pack has its own data key, made from fresh
//! randomness, a secret of the writer and a keyed hash of the plain content.
//!
//! Why three inputs: a cloned virtual machine repeats its randomness, and with it
//! would repeat key and nonce over other content; the content hash makes that
//! another key. The local secret keeps the hash from confirming guesses.
//!
//! `K_enc || K_com` are bound to the hash of H0. GCM does not commit to its key,
//! so readers compare `K_com` before they open anything.

use rand_core::CryptoRng;
use vault_format::Hash;
use zeroize::Zeroize;

use crate::aead::EncKey;
use crate::derive::Derivation;
use crate::labels;
use crate::secret::Secret;

/// A writer's own secret: drawn once, in its key file, never derived from the
/// seed and never sent anywhere.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct LocalSecret(#[n(0)] Secret<32>);

impl LocalSecret {
    /// Draws a new one.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// Starts the hash over a pack's plain content.
    pub fn content_hasher(&self) -> ContentHasher {
        let key = Derivation::extract(labels::LOCAL_SECRET, &[self.0.expose_secret()]).expand(labels::CONTENT, &[]);
        ContentHasher(blake3::Hasher::new_keyed(key.expose_secret()))
    }
}

/// The keyed hash over the plain pieces of a pack, in order.
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Adds one piece; its length is hashed before it, so pieces do not blend.
    pub fn update(&mut self, plain: &[u8]) {
        self.0.update(&(plain.len() as u64).to_le_bytes());
        self.0.update(plain);
    }

    fn finish(self) -> Secret<32> {
        Secret::from_array(*self.0.finalize().as_bytes())
    }
}

impl Drop for ContentHasher {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The data key of one pack or journal object: what is wrapped for recipients.
pub struct DataKey(pub(crate) Secret<32>);

impl DataKey {
    /// Makes the key of one pack from 32 fresh random bytes, the writer's local
    /// secret and the hash of everything the key will seal.
    pub fn derive(random: &Secret<32>, local: &LocalSecret, content: ContentHasher) -> Self {
        let content = content.finish();
        let parts: [&[u8]; 3] = [random.expose_secret(), local.0.expose_secret(), content.expose_secret()];
        Self(Derivation::extract(labels::DATA_KEY, &parts).expand(labels::DATA, &[]))
    }

    /// The key the body is sealed under and its commitment, for the header whose
    /// H0 hashes to `h0`.
    pub fn pack_keys(&self, h0: &Hash) -> (EncKey, Commitment) {
        let derivation = Derivation::extract(labels::PACK_KEYS, &[self.0.expose_secret()]);
        let both: Secret<64> = derivation.expand(labels::SEAL_AND_COMMIT, &[&h0.0]);
        let (seal, commit) = both.expose_secret().split_at(32);
        let key = Secret::fill(|out: &mut [u8; 32]| out.copy_from_slice(seal));
        (EncKey::new(key), Commitment(commit.try_into().expect("half of 64 bytes")))
    }
}

/// Stands in the header: the one data key this pack can be opened with.
#[derive(Clone, Copy, Debug)]
pub struct Commitment(pub [u8; 32]);

impl PartialEq for Commitment {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Commitment {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(random: u8, local: u8, pieces: &[&[u8]]) -> Secret<32> {
        let local = LocalSecret(Secret::from_array([local; 32]));
        let mut content = local.content_hasher();
        for piece in pieces {
            content.update(piece);
        }
        DataKey::derive(&Secret::from_array([random; 32]), &local, content).0
    }

    #[test]
    fn a_clone_with_the_same_randomness_gets_another_key_for_other_content() {
        let base = key(1, 1, &[b"content"]);
        assert!(base.is_same(&key(1, 1, &[b"content"])));
        assert!(!base.is_same(&key(1, 1, &[b"kontent"])));
        assert!(!base.is_same(&key(1, 2, &[b"content"])));
        assert!(!base.is_same(&key(2, 1, &[b"content"])));
        assert!(!key(1, 1, &[b"ab", b"c"]).is_same(&key(1, 1, &[b"a", b"bc"])));
    }

    #[test]
    fn pack_keys_belong_to_one_header() {
        let data = DataKey(Secret::from_array([8; 32]));
        let (key, commitment) = data.pack_keys(&Hash([1; 32]));
        let (other_key, other) = data.pack_keys(&Hash([2; 32]));
        assert_ne!(commitment, other);
        assert_ne!(key.expose_secret(), other_key.expose_secret());
        assert_ne!(key.expose_secret(), &commitment.0);
    }
}
