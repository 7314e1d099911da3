//! The master seed: 32 random bytes from which everything that must be
//! recoverable is derived. Losing it loses the vault; whoever has it has all.
//!
//! What always holds: equal seed, generation and subject give equal keys, on
//! every machine and in every version (FORMAT.md, "Derivation"; vectors in
//! `testdata/derivation.json`, made without this program).

use rand_core::CryptoRng;
use vault_format::{ScopeId, WriterId};

use crate::dedup::{DedupKeys, DedupRoot};
use crate::derive::Derivation;
use crate::index_key::IndexKey;
use crate::kem::RecipientPrivate;
use crate::labels;
use crate::secret::Secret;
use crate::signature::SigningKey;

/// A generation of the keys, from 1. Each rotation draws a new seed and counts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Generation(#[n(0)] pub u32);

impl Generation {
    /// The first.
    pub const FIRST: Self = Self(1);
}

/// The master seed of one generation of a vault.
pub struct Seed(Secret<32>);

impl Seed {
    /// Bytes of a seed.
    pub const BYTES: usize = 32;

    /// Draws a new seed.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng).kept())
    }

    /// Takes a seed that was recovered.
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret.kept())
    }

    /// Takes 32 bytes and wipes the argument.
    pub fn from_array(bytes: [u8; 32]) -> Self {
        Self(Secret::from_array(bytes).kept())
    }

    /// The bytes.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// The key that opens packs and the reader's parts of records.
    pub fn reader_key(&self, generation: Generation) -> RecipientPrivate {
        RecipientPrivate::from_seed(self.derive(labels::READER_KEM, generation, &[]))
    }

    /// The key that opens the janitor's parts of manifests.
    pub fn janitor_key(&self, generation: Generation) -> RecipientPrivate {
        RecipientPrivate::from_seed(self.derive(labels::JANITOR_KEM, generation, &[]))
    }

    /// The root's signing keys.
    pub fn root_key(&self, generation: Generation) -> SigningKey {
        SigningKey::from_seeds(
            self.derive(labels::ROOT_ED25519, generation, &[]),
            self.derive(labels::ROOT_ML_DSA, generation, &[]),
        )
    }

    /// What the writers of a scope cut and name chunks with.
    pub fn dedup_keys(&self, generation: Generation, scope: ScopeId) -> DedupKeys {
        self.dedup_root(generation).keys(scope)
    }

    /// What the keys of all scopes derive from: a reader checks chunk ids with it.
    pub fn dedup_root(&self, generation: Generation) -> DedupRoot {
        DedupRoot::new(self.derive(labels::DEDUP_ROOT, generation, &[]))
    }

    /// What a writer seals its own index with.
    pub fn index_key(&self, generation: Generation, writer: WriterId) -> IndexKey {
        IndexKey::new(self.derive(labels::INDEX, generation, &writer.0))
    }

    fn derive<const N: usize>(&self, purpose: &str, generation: Generation, subject: &[u8]) -> Secret<N> {
        let derivation = Derivation::extract(labels::SEED, &[self.0.expose_secret()]);
        derivation.expand(purpose, &[&generation.0.to_le_bytes(), subject])
    }
}

impl<C> minicbor::Encode<C> for Seed {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.0.encode(e, ctx)
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Seed {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        Secret::decode(d, ctx).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_generations_and_subjects_give_unrelated_keys() {
        let seed = Seed::from_array([5; 32]);
        let other = Generation(2);
        assert_ne!(seed.reader_key(Generation::FIRST).id(), seed.janitor_key(Generation::FIRST).id());
        assert_ne!(seed.reader_key(Generation::FIRST).id(), seed.reader_key(other).id());
        assert_eq!(seed.reader_key(other).id(), Seed::from_array([5; 32]).reader_key(other).id());
        let (a, b) = (ScopeId([1; 16]), ScopeId([2; 16]));
        let chunk = |scope| seed.dedup_keys(Generation::FIRST, scope).id_key.chunk_id(b"chunk");
        assert_ne!(chunk(a), chunk(b));
        assert_ne!(seed.root_key(Generation::FIRST).fingerprint(), seed.root_key(other).fingerprint());
    }
}
