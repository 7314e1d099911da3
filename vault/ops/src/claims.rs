//! What locations claim before any key is at hand: vault records under the roots they
//! name themselves.
//!
//! What always holds: nothing here is believed. A record is checked against the key
//! inside it, so it is whole; whether that key is the vault's, the cards decide once
//! they gave a seed. Until then a claim may name a bad card and nothing more.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys::ceremony::gathering::KnownCards;
use keys::certificate::Authority;
use keys::signature::VerifyingKey;
use vault_format::envelope::Envelope;
use vault_format::vault::VaultRecord;
use vault_format::{LocationId, VaultId, names};

use crate::location::Location;
use crate::vault::{Candidate, Vault};

/// A whole vault record.
struct Claim {
    /// The vault it says it is of.
    vault: VaultId,
    /// The root it names, which signed it.
    root: VerifyingKey,
    /// The record.
    record: VaultRecord,
}

/// What all whole vault records that these locations show say of cards, newest
/// generation first, and the locations that did not answer, with their reasons.
///
/// All records, not the newest alone: one that another overtook, or that an interrupted
/// command left, still tells of cards that may be in people's hands.
pub async fn claims(candidates: &[Candidate]) -> (Vec<KnownCards>, Vec<(String, String)>) {
    let (mut known, mut silent) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for candidate in candidates {
        let store = match &candidate.store {
            Ok(store) => Arc::clone(store),
            Err(error) => {
                silent.push((candidate.name.clone(), error.to_string()));
                continue;
            }
        };
        let (id, name) = (LocationId::default(), candidate.name.clone());
        let location =
            Location { id, name, domain: 0, blank: false, store, versions: candidate.versions.clone(), names: None };
        match records(&location, &mut seen).await {
            Ok(found) => known.extend(found.iter().flat_map(|claim| KnownCards::line(claim.vault, &claim.record))),
            Err(error) => silent.push((candidate.name.clone(), error.to_string())),
        }
    }
    (KnownCards::merged(known), silent)
}

/// What the records of an open vault's roots say of cards, newest generation first: of
/// the one in force and of all that its locations still hold.
pub async fn cards_of(vault: &Vault) -> Vec<KnownCards> {
    let mut known = KnownCards::line(vault.id, &vault.record);
    let mut seen = BTreeSet::new();
    for location in &vault.locations {
        // One that does not answer was named when the vault was opened.
        let Ok(found) = records(location, &mut seen).await else { continue };
        let is_ours = |claim: &&Claim| {
            claim.vault == vault.id && (claim.root == vault.root || vault.former.contains(&claim.root))
        };
        known.extend(found.iter().filter(is_ours).filter_map(|claim| KnownCards::of(claim.vault, &claim.record)));
    }
    KnownCards::merged(known)
}

/// The whole vault records of a location that were not seen before.
async fn records(
    location: &Location,
    seen: &mut BTreeSet<vault_format::Hash>,
) -> Result<Vec<Claim>, backends::BackendError> {
    let mut found = Vec::new();
    for listed in location.list(names::VAULT).await? {
        let Ok(Some(bytes)) = location.read(&listed.name).await else { continue };
        if seen.insert(keys::record::hash(&bytes)) {
            found.extend(whole(&bytes));
        }
    }
    Ok(found)
}

fn whole(bytes: &[u8]) -> Option<Claim> {
    let envelope = Envelope::decode(bytes).ok()?;
    let claimed: VaultRecord = vault_format::decode("vault record", &envelope.body).ok()?;
    let root = VerifyingKey::from_slice(&claimed.root_public.0).ok()?;
    let verified = Authority::new(envelope.vault, root.clone()).vault_record(bytes).ok()?;
    let record = verified.decode::<VaultRecord>("vault record").ok()?;
    Some(Claim { vault: envelope.vault, root, record })
}
