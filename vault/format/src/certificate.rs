//! Certificates, revocations, fences: who may sign what, and until where.

use crate::cbor::{numbered, record};
use crate::ids::{Blob, Hash, ScopeId, WriterId};

numbered! {
    /// What a certified key may sign.
    Role {
        /// Certificates and layouts. Signed by the root.
        1 Operator,
        /// Packs, manifests, journal objects.
        2 Writer,
        /// Audit notes.
        3 Auditor,
        /// Tombstones and fences.
        4 Janitor,
        /// Successor manifests made by a re-encryption.
        5 Migrator,
    }
}

record! {
    /// Body of a record of kind `Certificate`.
    Certificate {
        /// What it allows.
        0 role: Role,
        /// The subject: a writer id, or 16 bytes that name another role's holder.
        1 subject: WriterId,
        /// Ed25519 (32 bytes), then ML-DSA-65 (1952 bytes).
        2 public_keys: Blob,
        /// The subject's X-Wing public key, if it has one.
        3 kem_public: Option<Blob>,
        /// Fingerprint of the issuer's public keys.
        4 issuer: Hash,
        /// Grows with each certificate of this issuer.
        5 serial: u64,
        /// Valid from, milliseconds since 1970.
        6 not_before_ms: i64,
        /// After this readers warn; backups go on.
        7 not_after_ms: i64,
        /// A writer's dedup scope.
        8 scope: Option<ScopeId>,
        /// For people.
        9 name: String,
    }
}

record! {
    /// Body of a record of kind `Revocation`: what the subject signed after the
    /// last good position does not count.
    Revocation {
        /// Hash of the certificate's envelope.
        0 certificate: Hash,
        /// Its subject.
        1 subject: WriterId,
        /// Last good epoch.
        2 epoch: u64,
        /// Last good sequence in it.
        3 sequence: u64,
        /// Why, for people.
        4 reason: String,
        /// When, milliseconds since 1970.
        5 created_ms: i64,
    }
}

record! {
    /// Body of a record of kind `Fence`: a silent writer's epoch is closed, so
    /// that garbage collection need not wait for it.
    Fence {
        /// The writer.
        0 writer: WriterId,
        /// The epoch that is closed.
        1 epoch: u64,
        /// Its last manifest that counts.
        2 sequence: u64,
        /// Hash of that manifest's envelope.
        3 manifest: Hash,
        /// Garbage-collection epoch from which it holds.
        4 gc_epoch: u64,
        /// When, milliseconds since 1970.
        5 created_ms: i64,
    }
}
