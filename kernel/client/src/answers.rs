//! What a node answers, typed.

use kernel_core::{Hash, Id, Lineage};
use serde::{Deserialize, Deserializer};

/// Is the node well?
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// `ok`, or `read-only` after a failure of its disk.
    pub status: String,
    /// Its version.
    pub version: String,
}

/// The answer to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Written {
    /// Its sequence.
    pub sequence: u64,
    /// The state hash there.
    #[serde(deserialize_with = "hash")]
    pub state_hash: Hash,
    /// Things changed.
    pub changed: u64,
}

/// Where a node's state stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StateProof {
    /// Its line of sequences.
    #[serde(deserialize_with = "lineage")]
    pub lineage: Lineage,
    /// The newest durable sequence.
    pub sequence: u64,
    /// The state hash there.
    #[serde(deserialize_with = "hash")]
    pub state_hash: Hash,
    /// The log's chain hash there.
    #[serde(deserialize_with = "hash")]
    pub chain_hash: Hash,
    /// Why it does not accept writes any more, if so.
    #[serde(default)]
    pub failure: Option<String>,
    /// Not 0: log up to this sequence was released before the agent had folded it.
    pub chain_broken_at: u64,
    /// Its collections, by name.
    pub collections: Vec<CollectionInfo>,
}

/// A collection in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CollectionInfo {
    /// Its name.
    pub name: String,
    /// Components of a vector.
    pub dimension: u32,
    /// `l2`, `cosine` or `dot`.
    pub metric: String,
    /// Records in it.
    pub records: u64,
    /// Nodes in it.
    pub nodes: u64,
    /// Edges in it.
    pub edges: u64,
    /// Entries of its trash.
    pub trash: u64,
    /// Its hash, as it stands in the tree of collections.
    #[serde(deserialize_with = "hash")]
    pub hash: Hash,
}

/// One answer of a search.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Found {
    /// The record.
    #[serde(deserialize_with = "id")]
    pub id: Id,
    /// Its tag.
    pub tag: u64,
    /// Squared distance, similarity or product.
    pub score: f64,
    /// Its metadata as text.
    #[serde(default)]
    pub metadata: String,
}

#[derive(Deserialize)]
pub(crate) struct SearchAnswer {
    pub(crate) hits: Vec<Found>,
}

#[derive(Deserialize)]
pub(crate) struct ProofAnswer {
    #[serde(deserialize_with = "hash")]
    pub(crate) state_hash: Hash,
    #[serde(rename = "proof_hex", deserialize_with = "hex")]
    pub(crate) proof: Vec<u8>,
}

/// A snapshot that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SnapshotInfo {
    /// File name on the node.
    pub name: String,
    /// Sequence of the state.
    pub sequence: u64,
    /// Its hash.
    #[serde(deserialize_with = "hash")]
    pub state_hash: Hash,
    /// Its lineage.
    #[serde(deserialize_with = "lineage")]
    pub lineage: Lineage,
    /// When it was made, milliseconds since 1970.
    pub made_at: i64,
    /// Length.
    pub bytes: u64,
}

/// How far the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Cursors {
    /// The line of sequences they speak of.
    #[serde(deserialize_with = "lineage")]
    pub lineage: Lineage,
    /// Has an agent ever reported?
    pub attached: bool,
    /// Acknowledged by the vault's journal.
    pub durable_seq: u64,
    /// In a committed pack.
    pub folded_seq: u64,
    /// Not 0: log up to this sequence was released before it was folded; take a new snapshot.
    pub chain_broken_at: u64,
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
    Hash::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn lineage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lineage, D::Error> {
    Lineage::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
    Id::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let digits = String::deserialize(deserializer)?;
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| (byte as char).to_digit(16);
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8)).collect();
    bytes.filter(|_| rest.is_empty()).ok_or_else(|| serde::de::Error::custom("not hex digits in pairs"))
}
