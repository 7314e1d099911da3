//! A new epoch of the vault record: what only the root may change.
//!
//! What always holds: the new record names the hash of the one before; it is
//! written beside it, never over it; it counts once it stands on a majority of
//! the domains, and who is owed a copy then is said; a record that could not be opened
//! again is not written.

use std::collections::BTreeSet;

use keys::certificate::Authority;
use keys::signature::SigningKey;
use vault_format::envelope::RecordKind;
use vault_format::vault::{CardSet, VaultRecord};
use vault_format::{Blob, names};

use crate::commit;
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

/// Names one more operator, whose certificate stands at the locations first. One that the root in force did not certify is refused: a
/// record that names it opens nowhere. Returns the same.
pub async fn add_operator(vault: &Vault, root: &SigningKey, certificate: Blob) -> Result<Owed> {
    let authority = Authority::new(vault.id, vault.root.clone());
    let operator = authority.operator(&certificate.0).map_err(|error| OpsError::Key {
        what: format!(
            "the root key in force (key check {}) did not certify this operator: {error}. Nothing was written: a vault \
             record that names it could not be opened. Make a new key, in another file",
            vault.root.check()
        ),
    })?;
    let name = names::certificate(operator.certificate_hash());
    let mut owed: Owed = commit::publish(vault, &name, &certificate.0, None).await?.into_iter().collect();
    let mut record = vault.record.clone();
    record.operators.push(certificate);
    owed.extend(publish(vault, root, record).await?);
    Ok(owed)
}

async fn publish(vault: &Vault, root: &SigningKey, mut record: VaultRecord) -> Result<Owed> {
    record.epoch = free_epoch(vault, vault.record.epoch + 1, None).await;
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

/// The first epoch from this one on whose name no reachable location holds for another
/// vault record of this line. Two hosts, or a rotation that was interrupted, may have
/// claimed one number while they did not see each other's locations; neither record is
/// written over, so whoever writes next takes the number after both.
pub async fn free_epoch(vault: &Vault, from: u64, own: Option<&[u8]>) -> u64 {
    let mut epoch = from;
    while is_taken(vault, epoch, own).await {
        epoch += 1;
    }
    epoch
}

/// Only what a root of the line signed takes a number: rubbish is a location's fault, and
/// a repair's business.
async fn is_taken(vault: &Vault, epoch: u64, own: Option<&[u8]>) -> bool {
    let name = names::vault(epoch);
    let reads = vault.locations.iter().map(|location| location.read(&name));
    let found = futures::future::join_all(reads).await;
    let authorities = vault.authorities();
    found.into_iter().filter_map(|read| read.ok().flatten()).any(|bytes| {
        own != Some(&bytes[..]) && authorities.iter().any(|authority| authority.vault_record(&bytes).is_ok())
    })
}
