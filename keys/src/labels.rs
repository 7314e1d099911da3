//! Every label of this crate, in one place: a key derived, a hash made or a
//! message signed for one purpose means nothing for another. FORMAT.md lists
//! them; a test compares. Labels of hashes over stored bytes are
//! `vault_format::labels`.

/// Salt under which a master seed is extracted.
pub const SEED: &str = "holdfast seed 1";
/// Purpose: X-Wing seed of the reader.
pub const READER_KEM: &str = "reader kem";
/// Purpose: X-Wing seed of the janitor.
pub const JANITOR_KEM: &str = "janitor kem";
/// Purpose: Ed25519 seed of the root.
pub const ROOT_ED25519: &str = "root ed25519";
/// Purpose: ML-DSA-65 seed of the root.
pub const ROOT_ML_DSA: &str = "root ml-dsa-65";
/// Purpose: what the keys of all dedup scopes derive from; part of a read key.
pub const DEDUP_ROOT: &str = "dedup root";
/// Salt under which a dedup root is extracted.
pub const DEDUP: &str = "holdfast dedup root 1";
/// Purpose: key of chunk ids, per scope.
pub const CHUNK_ID: &str = "dedup id key";
/// Purpose: seed of the chunker, per scope.
pub const CHUNKER: &str = "chunker seed";
/// Purpose: a writer's index key.
pub const INDEX: &str = "writer index key";

/// Salt under which a scope's id key is extracted.
pub const ID_KEY: &str = "holdfast id key 1";
/// Purpose: key of path hashes in the local catalog.
pub const PATH_HASH: &str = "path hash key";

/// Salt under which a writer's index key is extracted.
pub const INDEX_KEY: &str = "holdfast index key 1";
/// Purpose: key of a pack's index section.
pub const INDEX_SECTION: &str = "index section";
/// Purpose: key of stream names.
pub const STREAM_NAME: &str = "stream name key";
/// Purpose: key of what a writer seals to itself.
pub const OWN_PART: &str = "own part key";
/// Purpose: key of the nonces of what a writer seals to itself.
pub const OWN_NONCE: &str = "own part nonce key";
/// Associated data of what a writer seals to itself.
pub const OWN_DATA: &str = "holdfast own part 1";

/// Salt under which a writer-local secret is extracted.
pub const LOCAL_SECRET: &str = "holdfast local secret 1";
/// Purpose: key of the hash over a pack's plain content.
pub const CONTENT: &str = "content hash key";
/// Salt under which a pack's data key is extracted.
pub const DATA_KEY: &str = "holdfast data key 1";
/// Purpose: the data key itself.
pub const DATA: &str = "data key";
/// Salt under which a pack's keys are extracted from its data key.
pub const PACK_KEYS: &str = "holdfast pack keys 1";
/// Purpose: encryption key and commitment.
pub const SEAL_AND_COMMIT: &str = "seal and commit";

/// First part of the HPKE `info` of a wrapped data key.
pub const WRAP: &str = "holdfast wrap 1";
/// Signature label: what a former root says of the new one.
pub const CROSS_SIGNATURE: &str = "holdfast cross signature 1";
/// Hash of a card.
pub const CARD: &str = "holdfast card hash 1";
/// Check value of a key file.
pub const KEY_FILE: &str = "holdfast key file check 1";
/// Signature label: the root over a ceremony's transcript.
pub const TRANSCRIPT: &str = "holdfast ceremony transcript 1";
/// Salt under which a stretched passphrase is extracted.
pub const SEALED_FILE: &str = "holdfast sealed key file 1";
/// Purpose: encryption key, nonce key and commitment of a sealed key file.
pub const SEALED_KEYS: &str = "seal, nonce and commit";

/// All of them with the constants' names, for the comparison with FORMAT.md.
pub const ALL: &[(&str, &str)] = &[
    ("SEED", SEED),
    ("READER_KEM", READER_KEM),
    ("JANITOR_KEM", JANITOR_KEM),
    ("ROOT_ED25519", ROOT_ED25519),
    ("ROOT_ML_DSA", ROOT_ML_DSA),
    ("DEDUP_ROOT", DEDUP_ROOT),
    ("DEDUP", DEDUP),
    ("CHUNK_ID", CHUNK_ID),
    ("CHUNKER", CHUNKER),
    ("INDEX", INDEX),
    ("ID_KEY", ID_KEY),
    ("PATH_HASH", PATH_HASH),
    ("INDEX_KEY", INDEX_KEY),
    ("INDEX_SECTION", INDEX_SECTION),
    ("STREAM_NAME", STREAM_NAME),
    ("OWN_PART", OWN_PART),
    ("OWN_NONCE", OWN_NONCE),
    ("OWN_DATA", OWN_DATA),
    ("LOCAL_SECRET", LOCAL_SECRET),
    ("CONTENT", CONTENT),
    ("DATA_KEY", DATA_KEY),
    ("DATA", DATA),
    ("PACK_KEYS", PACK_KEYS),
    ("SEAL_AND_COMMIT", SEAL_AND_COMMIT),
    ("WRAP", WRAP),
    ("CROSS_SIGNATURE", CROSS_SIGNATURE),
    ("CARD", CARD),
    ("KEY_FILE", KEY_FILE),
    ("TRANSCRIPT", TRANSCRIPT),
    ("SEALED_FILE", SEALED_FILE),
    ("SEALED_KEYS", SEALED_KEYS),
];
