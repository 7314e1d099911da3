//! The bytes holdfast stores, version 1. Specified in `../FORMAT.md`.
//!
//! What always holds: no IO, no clock, no randomness, no cryptography here; a
//! decoder is bounded by its input before it allocates; decoding then encoding
//! gives the same bytes; unknown versions, suites and critical flags are refused.

mod bytes;
mod cbor;
mod error;

pub mod body;
pub mod certificate;
pub mod envelope;
pub mod ids;
pub mod journal;
pub mod layout;
pub mod manifest;
pub mod marker;
pub mod names;
pub mod point;
pub mod sealed;
pub mod shard;
pub mod suite;
pub mod tombstone;
pub mod tree;
pub mod vault;

pub use cbor::{decode, encode};
pub use error::FormatError;
pub use ids::{
    Blob, ChunkId, Hash, LineageId, LocationId, PackId, PointId, RecipientId, ScopeId, StreamId, VaultId, WriterId,
};

/// The labels under which the suite's hash is used on stored bytes: each use has
/// its own, so that a hash made for one purpose means nothing for another.
pub mod labels {
    /// Hash of an envelope: how records name each other.
    pub const ENVELOPE: &str = "holdfast envelope hash 1";
    /// Hash of a pack's common header.
    pub const HEADER: &str = "holdfast header hash 1";
    /// Hash of H0, to which keys are bound.
    pub const H0: &str = "holdfast h0 hash 1";
    /// Check value of a shard's trailer.
    pub const TRAILER: &str = "holdfast trailer check 1";
    /// Tree root over the CBOR of the top content.
    pub const TREE_ROOT: &str = "holdfast tree root 1";
    /// Hash of a point record; its first 16 bytes are the point's id.
    pub const POINT_RECORD: &str = "holdfast point record 1";
    /// Hash of a journal object's sealed body.
    pub const JOURNAL_BODY: &str = "holdfast journal body 1";
    /// Hash of a whole journal object.
    pub const JOURNAL_OBJECT: &str = "holdfast journal hash 1";
    /// Hash of a stream's bytes.
    pub const STREAM: &str = "holdfast stream hash 1";
    /// Keyed name of a stream.
    pub const STREAM_ID: &str = "holdfast stream id 1";
    /// Fingerprint of a pair of verifying keys.
    pub const FINGERPRINT: &str = "holdfast key fingerprint 1";
    /// Id of a location: the vault id, then its name in the configuration; the
    /// first 16 bytes.
    pub const LOCATION: &str = "holdfast location id 1";
    /// Id of a KEM public key.
    pub const RECIPIENT: &str = "holdfast recipient id 1";
}
