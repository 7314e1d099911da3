//! The vault record: what the root says. Highest epoch wins; each names the
//! hash of the one before; agents pin the root's fingerprint.

use crate::FormatError;
use crate::cbor::{numbered, record};
use crate::ids::{Blob, Hash, RecipientId};
use crate::sealed::SealedBlob;
use crate::suite::{Class, Coding, Suite};

record! {
    /// Body of a record of kind `Vault`, signed by the root.
    VaultRecord {
        /// 1 for the first; grows by one with each change.
        0 epoch: u64,
        /// Hash of the previous vault record's envelope; zero for the first.
        1 previous: Hash,
        /// Root public keys: Ed25519 (32 bytes), then ML-DSA-65 (1952 bytes).
        2 root_public: Blob,
        /// k: shards that are enough.
        3 data_shards: u8,
        /// n: shards in all.
        4 total_shards: u8,
        /// Smallest chunk, bytes.
        5 chunk_min: u32,
        /// Average chunk, bytes.
        6 chunk_average: u32,
        /// Largest chunk, bytes.
        7 chunk_max: u32,
        /// Largest pack class in use.
        8 class_max: u8,
        /// Lowest suite readers accept.
        9 floor_suite: u16,
        /// KEM public keys of all generations, newest last.
        10 recipients: Vec<KemKey>,
        /// Older generations' seeds, each sealed to the generation after it.
        11 key_history: Vec<KeyHistoryEntry>,
        /// Operator certificates (envelopes).
        12 operators: Vec<Blob>,
        /// Card sets handed out.
        13 card_sets: Vec<CardSet>,
        /// Former roots, oldest first: each signs the next one's public keys, the last `root_public`.
        14 predecessors: Vec<CrossSignature>,
        /// When it was made, milliseconds since 1970.
        15 created_ms: i64,
    }
}

numbered! {
    /// Whose KEM key it is.
    KemRole {
        /// Opens packs and the reader's parts.
        1 Reader,
        /// Opens the janitor's parts.
        2 Janitor,
    }
}

record! {
    /// A KEM public key of one generation.
    KemKey {
        /// From 1.
        0 generation: u32,
        /// Reader or janitor.
        1 role: KemRole,
        /// X-Wing public key, 1216 bytes.
        2 public: Blob,
    }
}

record! {
    /// The KEM seeds of a generation, sealed to the next.
    KeyHistoryEntry {
        /// The old generation.
        0 generation: u32,
        /// Reader or janitor.
        1 role: KemRole,
        /// Its recipient id, so that a reader finds it.
        2 recipient: RecipientId,
        /// The 32-byte KEM seed, the reader's with the dedup root behind it, sealed to a
        /// newer generation's reader key.
        3 seed: SealedBlob,
    }
}

record! {
    /// One splitting of the seed among people.
    CardSet {
        /// From 1, grows with each split.
        0 number: u32,
        /// Cards that are enough.
        1 need: u8,
        /// Hash of each card, in the order of their numbers.
        2 cards: Vec<Hash>,
        /// When, milliseconds since 1970.
        3 created_ms: i64,
    }
}

record! {
    /// What the former root says of the new one.
    CrossSignature {
        /// Former root public keys.
        0 root_public: Blob,
        /// Ed25519, then ML-DSA-65, over the `root_public` that follows it.
        1 signatures: Blob,
    }
}

impl VaultRecord {
    /// Checks the numbers no writer would produce.
    pub fn check(&self) -> Result<(), FormatError> {
        let what = "vault record";
        let range = |field, value: u64| Err(FormatError::Range { what, field, value });
        let coding = Coding::new(self.data_shards, self.total_shards)?;
        Class::from_number(self.class_max)?;
        Suite::from_number(self.floor_suite)?;
        let (min, average, max) = (self.chunk_min, self.chunk_average, self.chunk_max);
        if min < 64 || min >= average || average >= max || [min, average, max].iter().any(|size| size % 2 != 0) {
            return range("chunk_average", average.into());
        }
        // A chunk must fit the usual class with its overhead.
        if max as usize + crate::body::overhead_bytes(1) + 64 > Class::Leaves64.body_bytes(coding.data_shards()) {
            return range("chunk_max", max.into());
        }
        if self.root_public.0.len() != PUBLIC_KEYS_BYTES {
            return range("root_public", self.root_public.0.len() as u64);
        }
        if self.recipients.iter().any(|key| key.public.0.len() != KEM_PUBLIC_BYTES) {
            return range("recipients", self.recipients.len() as u64);
        }
        Ok(())
    }

    /// k of n.
    pub fn coding(&self) -> Result<Coding, FormatError> {
        Coding::new(self.data_shards, self.total_shards)
    }
}

/// Bytes of a pair of verifying keys: Ed25519, ML-DSA-65.
pub const PUBLIC_KEYS_BYTES: usize = 32 + 1952;
/// Bytes of an X-Wing public key.
pub const KEM_PUBLIC_BYTES: usize = 1216;
