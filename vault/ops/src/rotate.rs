//! A rotation brought into force, and keys that follow one.
//!
//! What always holds: the certificates and revocations of the new root stand on a
//! quorum before its vault record is written anywhere; the rotation counts once that
//! stands on a quorum; until then the old generation is whole, and one that shows
//! itself early is completed by whoever writes next; a key follows only where the
//! vault's line of roots leads from its own root.

use std::collections::BTreeMap;

use keys::certificate::Authority;
use keys::files::{OperatorKey, ReadKey, WriterKey};
use keys::rotation::Rotated;
use keys::signature::{SigningKey, VerifyingKey};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::vault::VaultRecord;
use vault_format::{Blob, names};

use crate::amend;
use crate::backup::check_domains;
use crate::commit;
use crate::error::{OpsError, Result};
use crate::step::Step;
use crate::vault::Vault;

/// Writes a rotation to the locations. Doing it again completes it. Returns who is
/// owed a record, and why.
pub async fn publish(vault: &Vault, rotated: &Rotated) -> Result<BTreeMap<String, String>> {
    check_domains(vault)?;
    let mut owed = BTreeMap::new();
    for Blob(bytes) in &rotated.certificates {
        owed.extend(commit::publish(vault, &names::certificate(keys::record::hash(bytes)), bytes, None).await?);
    }
    for Blob(bytes) in &rotated.revocations {
        owed.extend(commit::publish(vault, &names::revocation(keys::record::hash(bytes)), bytes, None).await?);
    }
    let name = names::vault(record_of(rotated)?.epoch);
    owed.extend(commit::publish(vault, &name, &rotated.record.0, Some(Step::AmendRecordWritten)).await?);
    Ok(owed)
}

/// The same rotation under a number that is free, where another vault record has taken its
/// own: written by somebody who did not see what was written of it. Signed again by the new
/// root; `None` if nothing stands in the way.
pub async fn raised(vault: &Vault, rotated: &Rotated, new_root: &SigningKey) -> Result<Option<Rotated>> {
    let record = record_of(rotated)?;
    let epoch = amend::free_epoch(vault, record.epoch, Some(&rotated.record.0)).await;
    if epoch == record.epoch {
        return Ok(None);
    }
    resigned(vault, rotated, new_root, |record| {
        record.epoch = epoch;
        // Beside it, if it counts already.
        record.previous = vault.record_hash;
        record.created_ms = vault.world.now_ms();
    })
    .map(Some)
}

/// A rotation whose record says something else, signed by the new root.
pub fn resigned(
    vault: &Vault,
    rotated: &Rotated,
    new_root: &SigningKey,
    change: impl FnOnce(&mut VaultRecord),
) -> Result<Rotated> {
    let mut record = record_of(rotated)?;
    change(&mut record);
    let bytes = keys::record::sign(RecordKind::Vault, vault.id, &vault_format::encode(&record), new_root);
    Ok(Rotated { record: Blob(bytes), ..rotated.clone() })
}

/// The vault record a rotation brings.
pub fn record_of(rotated: &Rotated) -> Result<VaultRecord> {
    let malformed = |error| OpsError::format("the vault record of the rotation", &error);
    let envelope = Envelope::decode(&rotated.record.0).map_err(malformed)?;
    vault_format::decode("vault record", &envelope.body).map_err(malformed)
}

impl Vault {
    /// Every root that may have signed what this vault shows: the one in force first.
    pub fn authorities(&self) -> Vec<Authority> {
        authorities(&Authority::new(self.id, self.root.clone()), &self.former, &self.record)
    }

    /// Completes a read key with what this vault's history says. An older key stays
    /// one: it reads what was sealed up to its generation.
    pub fn complete(&self, keys: &mut ReadKey) -> Result<()> {
        complete(keys, &self.root, &self.former, &self.record)
    }

    /// A writer key as it must be now: sealing to the newest generation, certified
    /// under the root in force. Its file stays as it is.
    pub fn follow(&self, keys: &mut WriterKey) -> Result<bool> {
        self.check_line(&keys.root, "the writer key file")?;
        keys.follow(&self.root, &self.record).map_err(|error| OpsError::Key { what: error.to_string() })
    }

    /// Likewise an operator's.
    pub fn follow_operator(&self, keys: &mut OperatorKey) -> Result<bool> {
        self.check_line(&keys.root, "the operator key file")?;
        keys.follow(&self.root, &self.record).map_err(|error| OpsError::Key { what: error.to_string() })
    }

    fn check_line(&self, root: &VerifyingKey, what: &str) -> Result<()> {
        if *root == self.root || self.former.contains(root) {
            return Ok(());
        }
        Err(OpsError::Key {
            what: format!(
                "{what} trusts a root key ({}) that this vault's ({}) does not come from; nothing was written. Use this \
                 vault's key files",
                root.check(),
                self.root.check()
            ),
        })
    }
}

/// Gives a read key the older generations, and the roots whose signatures it meets.
pub fn complete(keys: &mut ReadKey, root: &VerifyingKey, former: &[VerifyingKey], record: &VaultRecord) -> Result<()> {
    keys.learn(&record.key_history).map_err(|error| OpsError::Key {
        what: format!("{error}. What was sealed before the rotation cannot be opened with this key alone"),
    })?;
    keys.line = authorities(&Authority::new(keys.vault, root.clone()), former, record);
    Ok(())
}

/// The root in force, then those before it with the operators that it still names.
fn authorities(in_force: &Authority, former: &[VerifyingKey], record: &VaultRecord) -> Vec<Authority> {
    let former = former.iter().map(|root| in_force.former(root.clone(), record));
    [in_force.clone()].into_iter().chain(former).collect()
}
