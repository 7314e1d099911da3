//! What locations claim before any key is at hand: vault records under the roots they
//! name themselves.
//!
//! What always holds: nothing here is believed. A record is checked against the key
//! inside it, so it is whole; whether that key is the vault's, the cards decide once
//! they gave a seed. Until then a claim may name a bad card and nothing more.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::certificate::Authority;
use keys::signature::VerifyingKey;
use vault_format::envelope::Envelope;
use vault_format::vault::VaultRecord;
use vault_format::{LocationId, VaultId, names};

use crate::location::Location;
use crate::vault::Candidate;

/// The newest record of a vault under one root.
pub struct Claim {
    /// The vault it says it is of.
    pub vault: VaultId,
    /// The root it names, which signed it.
    pub root: VerifyingKey,
    /// The record.
    pub record: VaultRecord,
}

/// The newest whole vault record of each vault and root that these locations show, and
/// those that did not answer, with their reasons.
pub async fn claims(candidates: &[Candidate]) -> (Vec<Claim>, Vec<(String, String)>) {
    let mut newest: BTreeMap<(VaultId, Vec<u8>), Claim> = BTreeMap::new();
    let mut silent = Vec::new();
    for candidate in candidates {
        let store = match &candidate.store {
            Ok(store) => Arc::clone(store),
            Err(error) => {
                silent.push((candidate.name.clone(), error.to_string()));
                continue;
            }
        };
        let (id, name) = (LocationId::default(), candidate.name.clone());
        let location = Location { id, name, domain: 0, blank: false, store, versions: candidate.versions.clone() };
        let listed = match location.list(names::VAULT).await {
            Ok(listed) => listed,
            Err(error) => {
                silent.push((candidate.name.clone(), error.to_string()));
                continue;
            }
        };
        for listed in listed {
            let Ok(Some(bytes)) = location.read(&listed.name).await else { continue };
            let Some(claim) = whole(&bytes) else { continue };
            let key = (claim.vault, claim.record.root_public.0.clone());
            if newest.get(&key).is_none_or(|best| best.record.epoch < claim.record.epoch) {
                newest.insert(key, claim);
            }
        }
    }
    (newest.into_values().collect(), silent)
}

fn whole(bytes: &[u8]) -> Option<Claim> {
    let envelope = Envelope::decode(bytes).ok()?;
    let claimed: VaultRecord = vault_format::decode("vault record", &envelope.body).ok()?;
    let root = VerifyingKey::from_slice(&claimed.root_public.0).ok()?;
    let verified = Authority::new(envelope.vault, root.clone()).vault_record(bytes).ok()?;
    let record = verified.decode::<VaultRecord>("vault record").ok()?;
    Some(Claim { vault: envelope.vault, root, record })
}
