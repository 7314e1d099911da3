//! From bytes to nine shards and back: cut, compress, pack, seal, code, verify,
//! repair, open. Bytes to bytes; no IO, no threads, no clock; randomness is an
//! argument.
//!
//! What always holds: a stage consumes the one before it, so the wrong order
//! cannot be written ([`Chunk`] -> [`Frame`] -> [`Pack`] -> [`Sealed`] ->
//! [`ShardSet`]); whatever was encoded is decoded and compared before the next
//! stage gets it; nothing is decrypted before the key commitment was compared;
//! a forged or damaged shard is an erasure, never an input.
//!
//! Forwards:
//!
//! ```
//! use keys::{IndexKey, SigningKey};
//! use vault_codec::{Buffers, Pack, Result, SealContext, ShardSet};
//! use vault_format::Hash;
//!
//! fn forwards<R: rand_core::CryptoRng>(
//!     pack: Pack, context: &SealContext<'_>, signer: &SigningKey, certificate: Hash, rng: &mut R,
//! ) -> Result<ShardSet> {
//!     let buffers = Buffers::new(2);
//!     pack.seal(context, &buffers, rng)?.code(signer, certificate, &buffers)
//! }
//! ```
//!
//! A pack cannot be coded before it is sealed:
//!
//! ```compile_fail,E0599
//! use keys::SigningKey;
//! use vault_codec::{Buffers, Pack, Result, ShardSet};
//! use vault_format::Hash;
//!
//! fn wrong(pack: Pack, signer: &SigningKey, certificate: Hash) -> Result<ShardSet> {
//!     pack.code(signer, certificate, &Buffers::new(2))
//! }
//! ```
//!
//! Nor can shards be rebuilt under a header nobody verified:
//!
//! ```compile_fail,E0308
//! use vault_codec::{Buffers, GoodShard, ParsedHeader, Result, ShardSet, repair};
//!
//! fn wrong(header: &ParsedHeader, shards: &[GoodShard]) -> Result<ShardSet> {
//!     repair(header, shards, &Buffers::new(2))
//! }
//! ```

mod buffers;
mod chunk;
mod erasure;
mod error;
mod frame;
pub mod journal;
pub mod merkle;
mod open;
mod pack;
mod seal;
mod shards;
mod verify;

pub use buffers::Buffers;
pub use chunk::{Chunk, ChunkSizes, Chunker};
pub use erasure::{ErasureCode, reconstruct};
pub use error::{CodecError, Result};
pub use frame::{Compression, Frame, FrameDecoder, FrameEncoder};
pub use open::{BodyPart, OpenPack, OpenToc, PackKey, index_range, open_index, unlock, unlock_with};
pub use pack::{LastPack, PACK_REF_BYTES, Pack, Packer, PlannedPack, Tail, plan_tail};
pub use seal::{SealContext, Sealed};
pub use shards::{ShardObject, ShardSet};
pub use verify::{
    GoodShard, ParsedHeader, VerifiedHeader, VerifiedShard, assemble, repair, verify_header, verify_shard_object,
};
