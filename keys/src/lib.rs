//! Keys of a vault: where they come from, what they seal and sign, how they are
//! handed to people. Specified to the byte in `../FORMAT.md`.
//!
//! What always holds: every secret is a type that is wiped when dropped and can
//! neither be printed nor cloned; randomness is an argument; a signature counts
//! only if both of its halves verify; a card set yields a seed only after its
//! checksums, its digest and, where known, the root's fingerprint agreed. The
//! only IO is in [`files`] and [`first`].

pub mod aead;
pub mod card;
pub mod ceremony;
pub mod certificate;
pub mod data_key;
pub mod dedup;
mod derive;
mod error;
pub mod files;
pub mod first;
pub mod hand;
pub mod hash;
pub mod host;
mod hpke;
pub mod index_key;
pub mod issue;
pub mod kem;
pub mod key_file;
pub mod labels;
pub mod locked;
pub mod memory;
pub mod page;
pub mod passphrase;
pub mod record;
pub mod revocation;
pub mod rotation;
pub mod secret;
pub mod seed;
pub mod signature;
pub mod slip39;
pub mod wrap;

pub use aead::EncKey;
pub use certificate::{Authority, CertifiedKey};
pub use data_key::{Commitment, ContentHasher, DataKey, LocalSecret};
pub use dedup::{ChunkerSeed, DedupKeys, DedupRoot, IdKey, PathKey};
pub use error::{CardError, FileFault, KeysError, Result, SignatureFault};
pub use index_key::IndexKey;
pub use kem::{RecipientPrivate, RecipientPublic};
pub use passphrase::Passphrase;
pub use record::VerifiedRecord;
pub use revocation::Revocations;
pub use secret::{Secret, SecretBytes, SecretText};
pub use seed::{Generation, Seed};
pub use signature::{KeyCheck, SigningKey, VerifyingKey};
