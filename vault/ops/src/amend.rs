//! A new epoch of the vault record: what only the root may change.
//!
//! What always holds: the new record names the hash of the one before; it is
//! written beside it, never over it; it counts once it stands on a majority of
//! the domains, and who is owed a copy then is said.

use std::collections::BTreeSet;

use keys::signature::SigningKey;
use vault_format::envelope::RecordKind;
use vault_format::vault::{CardSet, VaultRecord};
use vault_format::{Blob, names};

use crate::create::write_record;
use crate::error::{OpsError, Result};
use crate::issue::Owed;
use crate::placement::write_quorum;
use crate::step::Step;
use crate::vault::Vault;

/// Adds the hashes of a new set of cards, so that a false card can be named. Returns who
/// is owed a copy of the record, and why.
pub async fn add_card_set(vault: &Vault, root: &SigningKey, set: CardSet) -> Result<Owed> {
    let mut record = vault.record.clone();
    record.card_sets.push(set);
    publish(vault, root, record).await
}

/// Names one more operator; returns the same.
pub async fn add_operator(vault: &Vault, root: &SigningKey, certificate: Blob) -> Result<Owed> {
    let mut record = vault.record.clone();
    record.operators.push(certificate);
    publish(vault, root, record).await
}

async fn publish(vault: &Vault, root: &SigningKey, mut record: VaultRecord) -> Result<Owed> {
    record.epoch = vault.record.epoch + 1;
    record.previous = vault.record_hash;
    record.created_ms = vault.world.now_ms();
    let bytes = keys::record::sign(RecordKind::Vault, vault.id, &vault_format::encode(&record), root);
    let name = names::vault(record.epoch);
    let mut domains = BTreeSet::new();
    let mut owed = Owed::new();
    for location in &vault.locations {
        match write_record(location, &name, &bytes).await {
            Ok(()) => {
                vault.world.reached(Step::AmendRecordWritten);
                domains.insert(location.domain);
            }
            Err(error) => drop(owed.insert(location.name.clone(), error.to_string())),
        }
    }
    let need = write_quorum(vault.domains().len());
    if domains.len() >= need {
        return Ok(owed);
    }
    let failed: Vec<String> = owed.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Err(OpsError::Unreachable {
        what: format!(
            "the new vault record stands in {} domains and needs {need} ({}). It may already count; bring back the \
             locations and run the same command again",
            domains.len(),
            failed.join("; ")
        ),
    })
}
