//! The first vault record of a vault with given keys: as much of one as the tests of keys
//! look at.

#![allow(unreachable_pub, reason = "several tests use it")]

use keys::RecipientPublic;
use keys::first::FirstKeys;
use vault_format::vault::{KemKey, KemRole, VaultRecord};
use vault_format::{Blob, Hash};

/// 3 of 5, one operator, no cards.
pub fn first_record(keys: &FirstKeys) -> VaultRecord {
    let kem = |role, public: &RecipientPublic| KemKey { generation: 1, role, public: Blob(public.as_bytes().to_vec()) };
    VaultRecord {
        epoch: 1,
        previous: Hash::default(),
        root_public: Blob(keys.public.root.as_bytes().to_vec()),
        data_shards: 3,
        total_shards: 5,
        chunk_min: 64,
        chunk_average: 128,
        chunk_max: 256,
        class_max: 3,
        floor_suite: 1,
        recipients: vec![kem(KemRole::Reader, &keys.writer.reader[0]), kem(KemRole::Janitor, &keys.writer.janitor)],
        key_history: Vec::new(),
        operators: vec![keys.operator.certificate.clone()],
        card_sets: Vec::new(),
        predecessors: Vec::new(),
        created_ms: 1,
    }
}
