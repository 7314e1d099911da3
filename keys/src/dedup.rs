//! What names and cuts chunks: shared by the writers of one dedup scope and by
//! nobody else. Whoever holds these keys can test whether a scope stores a given
//! chunk, so they stay on the scope's hosts.

use vault_format::{ChunkId, Hash, ScopeId};

use crate::derive::Derivation;
use crate::labels;
use crate::secret::Secret;

/// What the dedup keys of every scope of a generation derive from. Part of a read
/// key, because a restore checks each chunk against its id.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct DedupRoot(#[n(0)] Secret<32>);

impl DedupRoot {
    pub(crate) fn new(secret: Secret<32>) -> Self {
        Self(secret.kept())
    }

    /// The secret, for the key history.
    pub(crate) fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// The keys of one scope.
    pub fn keys(&self, scope: ScopeId) -> DedupKeys {
        let root = Derivation::extract(labels::DEDUP, &[self.0.expose_secret()]);
        DedupKeys {
            id_key: IdKey::new(root.expand(labels::CHUNK_ID, &[&scope.0])),
            chunker_seed: ChunkerSeed::new(root.expand(labels::CHUNKER, &[&scope.0])),
        }
    }
}

/// The key under which chunk ids are made.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct IdKey(#[n(0)] Secret<32>);

impl IdKey {
    pub(crate) fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// Id of a chunk: keyed BLAKE3 over its plain bytes.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(self.0.expose_secret(), plain).as_bytes())
    }

    /// Name of a path in the local catalog, under a key of its own. It is not
    /// stored in the vault.
    pub fn path_hash(&self, path: &[u8]) -> Hash {
        self.path_key().hash(path)
    }

    /// The key of [`Self::path_hash`], for many paths.
    pub fn path_key(&self) -> PathKey {
        PathKey(Derivation::extract(labels::ID_KEY, &[self.0.expose_secret()]).expand(labels::PATH_HASH, &[]))
    }

    /// The key's bytes.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }
}

/// The key under which the local catalog names paths.
pub struct PathKey(Secret<32>);

impl PathKey {
    /// Name of a path in the local catalog.
    pub fn hash(&self, path: &[u8]) -> Hash {
        Hash(*blake3::keyed_hash(self.0.expose_secret(), path).as_bytes())
    }
}

/// The seed of the chunker's gear table.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct ChunkerSeed(#[n(0)] Secret<8>);

impl ChunkerSeed {
    pub(crate) fn new(secret: Secret<8>) -> Self {
        Self(secret)
    }

    /// As a number: the eight bytes, little-endian.
    pub fn expose_secret(&self) -> u64 {
        u64::from_le_bytes(*self.0.expose_secret())
    }
}

/// Both.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct DedupKeys {
    /// Names chunks.
    #[n(0)]
    pub id_key: IdKey,
    /// Places their boundaries.
    #[n(1)]
    pub chunker_seed: ChunkerSeed,
}
