//! Healing: what a run could not bring home is brought there by the next one that
//! finds its location again.
//!
//! What always holds: only what is missing is written, as any repair writes it, and
//! never to a location that does not show its marker; the handed-over copies stay
//! until [`crate::surplus`] is told to remove them.

use std::collections::BTreeSet;

use vault_format::LocationId;

use crate::catalog::{Catalog, Failure};
use crate::error::Result;
use crate::place::Debt;
use crate::repair::{self, Cause, RepairReport};
use crate::vault::Vault;

/// Locations that something is owed to: a name in the catalog.
const OWED: &str = "debts.owed";

/// Locations that something is owed to.
pub fn owed(catalog: &Catalog) -> Result<BTreeSet<LocationId>> {
    let bytes = catalog.meta(OWED)?.unwrap_or_default();
    Ok(bytes.chunks_exact(LocationId::BYTES).filter_map(LocationId::from_slice).collect())
}

/// Remembers that something is owed to these, too.
pub(crate) fn owe(catalog: &Catalog, locations: impl IntoIterator<Item = LocationId>) -> Result<()> {
    let mut all = owed(catalog)?;
    let before = all.len();
    all.extend(locations);
    if all.len() == before { Ok(()) } else { remember(catalog, &all) }
}

/// Puts on record what was read and found wrong as it was written: no later run takes
/// its listing for a shard, and a repair may write over it.
pub(crate) fn note_wrong(vault: &Vault, catalog: &Catalog, debts: &[Debt]) -> Result<()> {
    debts.iter().filter(|debt| debt.wrong).try_for_each(|debt| {
        catalog.add_failure(&Failure {
            location: debt.location,
            pack: debt.pack,
            index: debt.index,
            seen_ms: vault.world.now_ms(),
            what: debt.why.clone(),
        })
    })
}

fn remember(catalog: &Catalog, owed: &BTreeSet<LocationId>) -> Result<()> {
    let bytes: Vec<u8> = owed.iter().flat_map(|location| location.0).collect();
    catalog.set_meta(OWED, &bytes)
}

/// Brings home what is owed to locations that are there again. `None` if nothing is.
pub async fn heal(vault: &Vault, catalog: &Catalog) -> Result<Option<RepairReport>> {
    let mut owed = owed(catalog)?;
    let here: BTreeSet<LocationId> =
        vault.writable().map(|location| location.id).filter(|location| owed.contains(location)).collect();
    if here.is_empty() {
        return Ok(None);
    }
    let mut plan = repair::plan(vault, catalog).await?;
    plan.shards.retain(|task| here.contains(&task.location) && task.cause == Cause::Missing);
    plan.records.retain(|task| here.contains(&task.location) && task.cause == Cause::Missing);
    let done = repair::apply(vault, catalog, &plan).await?;
    if done.failed.is_empty() && done.lost.is_empty() {
        owed.retain(|location| !here.contains(location));
        remember(catalog, &owed)?;
    }
    Ok(Some(done))
}
