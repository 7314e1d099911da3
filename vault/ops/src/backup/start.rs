//! Before a run reads its source: whose key, which place in the chain, and whether
//! the locations can take a point at all.

use std::collections::BTreeSet;

use keys::files::WriterKey;
use vault_format::vault::KemRole;

use crate::catalog::Catalog;
use crate::commit;
use crate::create::writer_certificate;
use crate::error::{OpsError, Result};
use crate::heads::Chain;
use crate::progress::Total;
use crate::rebuild::{self, Next};
use crate::spool;
use crate::vault::Vault;

/// The place of the run's manifest, for the spool only for now; and why the locations
/// cannot take it, if they cannot.
pub(super) async fn next_place(
    vault: &Vault,
    keys: &WriterKey,
    catalog: &mut Catalog,
    chain: &Chain,
) -> Result<(Next, Option<String>)> {
    let followed = match check_domains(vault) {
        Ok(()) => rebuild::follow_head(vault, keys, catalog, chain).await,
        Err(error) => Err(error),
    };
    let (place, too_few) = match followed {
        Ok(next) => (next, None),
        Err(error @ OpsError::Unreachable { .. }) if vault.spool.is_some() => {
            let remembered = rebuild::remembered_head(catalog)?;
            (remembered.map_or(Next::FIRST, |(position, hash)| Next::after(position, hash)), Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let waiting = spool::last_waiting(vault, keys).await?;
    let place = waiting.map_or(place, |last| Next::after(last.position(), last.hash));
    let place = match &vault.spool {
        Some(spool) => spool::clear_of_waiting(spool, keys.writer, place).await?,
        None => place,
    };
    Ok((place, too_few))
}

/// What the last point of the same source held: the best guess of what this run will
/// read.
pub(crate) fn total_like_before(catalog: &Catalog, source: &str) -> Total {
    let points = catalog.points().unwrap_or_default();
    let last = points.into_iter().rfind(|point| point.part.source == source).map(|point| point.part.statistics);
    let last = last.as_ref();
    Total { bytes: last.map(|last| last.plain_bytes), items: last.map(|last| last.items), is_guess: true }
}

/// The writer's key must be of this vault and certified in it, and must seal to
/// its newest reader: what it writes would otherwise be readable by nobody.
pub(crate) fn check_keys(vault: &Vault, keys: &WriterKey) -> Result<()> {
    let certificate = writer_certificate(keys);
    let newest = vault.record.recipients.iter().rfind(|key| key.role == KemRole::Reader);
    let seals_to = keys.reader.last().map(|key| key.as_bytes().to_vec());
    let why = if keys.vault != vault.id {
        "it belongs to another vault"
    } else if !vault.writers.contains_key(&certificate) {
        "no location shows its certificate under this vault's root"
    } else if vault.revocations.is_revoked(&certificate) {
        "its certificate was revoked"
    } else if newest.map(|key| key.public.0.clone()) != seals_to {
        "it seals to another reader key than the vault's newest"
    } else {
        return Ok(());
    };
    Err(OpsError::Key {
        what: format!(
            "the writer key file does not fit this vault: {why}. Nothing was written; use this vault's writer key"
        ),
    })
}

/// Enough domains must answer for a manifest's quorum, or nothing can commit.
pub(crate) fn check_domains(vault: &Vault) -> Result<()> {
    let answering: BTreeSet<u16> = vault.writable().map(|location| location.domain).collect();
    let need = commit::domains_needed(vault);
    if answering.len() >= need {
        return Ok(());
    }
    Err(OpsError::Unreachable {
        what: format!(
            "only {} of {} domains answer and a point needs {need} to be durable; nothing was written to them. Bring \
             back {} and run the same command again",
            answering.len(),
            vault.domains().len(),
            absent_names(vault)
        ),
    })
}

pub(crate) fn absent_names(vault: &Vault) -> String {
    let names: Vec<&str> = vault.absent.iter().map(|gone| gone.name.as_str()).collect();
    if names.is_empty() { "the missing locations".to_owned() } else { names.join(", ") }
}
