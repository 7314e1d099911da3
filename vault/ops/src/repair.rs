//! Repair, the plan: what is missing or wrong, and what of it is to be tried now.
//! Carrying it out is `mending.rs`. No key is needed.
//!
//! What always holds: what should be where comes from signed manifests and the
//! layout; an object is to be overwritten only if a failed verification of it is
//! on record; what failed lately waits, twice as long each time, and is counted; a
//! second record that is signed for the number of one in force is told and kept.

use std::collections::BTreeSet;

use vault_format::layout::LocationState;
use vault_format::{LocationId, PackId, names};

use crate::catalog::Catalog;
use crate::census::{self, Census};
use crate::error::Result;
use crate::location::Location;
use crate::records;
use crate::vault::Vault;

pub use crate::mending::{apply, read_repair};

/// First wait after a failed repair; doubled with each further one.
const RETRY_MS_FIRST: i64 = 60_000;
/// Longest wait: an outage that ends is noticed by then.
const RETRY_MS_MAX: i64 = 6 * 3_600_000;

/// Why a shard is to be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is not at home.
    Missing,
    /// It failed a verification.
    Wrong(String),
}

/// A shard to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardTask {
    /// Which pack.
    pub pack: PackId,
    /// Which index.
    pub index: u8,
    /// Where.
    pub location: LocationId,
    /// The object's name there.
    pub name: String,
    /// Why.
    pub cause: Cause,
}

/// A copy of a signed record, or a marker, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTask {
    /// Where.
    pub location: LocationId,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Why.
    pub cause: Cause,
}

/// What a repair would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Shards to write, by pack.
    pub shards: Vec<ShardTask>,
    /// Records to copy.
    pub records: Vec<RecordTask>,
    /// Locations that do not answer: nothing is planned for them.
    pub silent: Vec<(String, String)>,
    /// Second records of a number, at a location, and what that means. They are kept.
    pub seconds: Vec<(String, String)>,
}

impl RepairPlan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty() && self.records.is_empty()
    }
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// Shards written and read back.
    pub shards: Vec<ShardTask>,
    /// Records copied.
    pub records: usize,
    /// What could not be done, and why.
    pub failed: Vec<String>,
    /// Packs that fewer than k good shards are left of.
    pub lost: Vec<String>,
}

/// Plans a repair from the manifests, the listings and the failures on record.
pub async fn plan(vault: &Vault, catalog: &Catalog) -> Result<RepairPlan> {
    let census = census::take(vault, catalog).await?;
    let task = |pack, index, location, cause| {
        let (_, writer) = census.packs.get(&pack)?;
        Some(ShardTask { pack, index, location, name: names::shard(*writer, pack, index), cause })
    };
    let mut shards: Vec<ShardTask> = Vec::new();
    for missing in census.missing(vault) {
        let cause = census.cut_short(&missing).map_or(Cause::Missing, Cause::Wrong);
        shards.extend(task(missing.pack, missing.copy.index, missing.copy.spot.location, cause));
    }
    for failure in catalog.failures()? {
        let Some(location) = vault.location(failure.location) else { continue };
        if census.shows(location.id, failure.pack, failure.index) {
            shards.extend(task(failure.pack, failure.index, location.id, Cause::Wrong(failure.what)));
            continue;
        }
        // What is gone from home is planned as missing already; a copy that belonged
        // elsewhere is missed by nobody, unless its location only does not answer.
        let at_home = shards
            .iter()
            .any(|task| (task.pack, task.index, task.location) == (failure.pack, failure.index, location.id));
        let answered = !census.holdings.silent.iter().any(|(name, _)| *name == location.name);
        if answered && !at_home && census.packs.contains_key(&failure.pack) {
            catalog.clear_failure(location.id, failure.pack, failure.index)?;
        }
    }
    shards.sort_by_key(|task| (task.pack, task.index, task.location));
    let mut plan = RepairPlan { shards, silent: census.holdings.silent.clone(), ..RepairPlan::default() };
    record_tasks(vault, catalog, &census, &mut plan).await?;
    forget_done(vault, catalog, &plan)?;
    Ok(plan)
}

/// A write that seemed to fail and landed all the same waits no more, and neither
/// does what is not wanted any more.
fn forget_done(vault: &Vault, catalog: &Catalog, plan: &RepairPlan) -> Result<()> {
    let shards = plan.shards.iter().map(|task| (task.location, task.name.as_str()));
    let records = plan.records.iter().map(|task| (task.location, task.name.as_str()));
    let wanted: BTreeSet<(LocationId, &str)> = shards.chain(records).collect();
    for retry in catalog.retries()? {
        let answers = vault
            .location(retry.location)
            .is_some_and(|location| !plan.silent.iter().any(|(name, _)| *name == location.name));
        if answers && !wanted.contains(&(retry.location, retry.name.as_str())) {
            catalog.forget_retry(retry.location, &retry.name)?;
        }
    }
    Ok(())
}

/// Every signed record belongs on every location.
async fn record_tasks(vault: &Vault, catalog: &Catalog, census: &Census, plan: &mut RepairPlan) -> Result<()> {
    let wanted = records::in_force(vault, census);
    let seconds = records::seconds(vault).await;
    for (at, name, text) in &seconds {
        // Not damage, whatever was thought of it before.
        catalog.clear_record_failure(*at, name)?;
        plan.seconds.push((vault.location_name(*at), text.clone()));
    }
    let failures = catalog.record_failures()?;
    // A retired location is owed nothing.
    let in_use = |location: &&Location| vault.state_of(location.id) != Some(LocationState::Retired);
    for location in vault.locations.iter().filter(in_use) {
        let shown = match records::shown(location).await {
            Ok(shown) => shown,
            Err(error) => {
                plan.silent.push((location.name.clone(), error.to_string()));
                continue;
            }
        };
        let with_marker = wanted.clone().into_iter().chain([records::marker(vault, location.id)]);
        for (name, bytes) in with_marker {
            let failed = failures.iter().find(|failed| (failed.location, &failed.name) == (location.id, &name));
            let cause = match (shown.contains_key(&name), failed) {
                (false, _) => Cause::Missing,
                (true, Some(failed)) => Cause::Wrong(failed.what.clone()),
                (true, None) => continue,
            };
            plan.records.push(RecordTask { location: location.id, name, bytes, cause });
        }
    }
    Ok(())
}

/// What of a plan is to be tried now.
#[derive(Debug, Default)]
pub struct Due {
    /// This.
    pub plan: RepairPlan,
    /// So many objects wait, because they failed lately.
    pub waiting: usize,
}

/// Leaves out what failed lately.
pub fn due(vault: &Vault, catalog: &Catalog, plan: RepairPlan) -> Result<Due> {
    let now_ms = vault.world.now_ms();
    let retries = catalog.retries()?.into_iter();
    let waits = retries.filter(|retry| now_ms < retry.last_ms.saturating_add(wait_ms(retry.tries)));
    // A failure in the future was written before the clock was set back.
    let waits = waits.filter(|retry| retry.last_ms <= now_ms);
    let waits: BTreeSet<(LocationId, String)> = waits.map(|retry| (retry.location, retry.name)).collect();
    let before = plan.shards.len() + plan.records.len();
    let RepairPlan { mut shards, mut records, silent, seconds } = plan;
    shards.retain(|task| !waits.contains(&(task.location, task.name.clone())));
    records.retain(|task| !waits.contains(&(task.location, task.name.clone())));
    let waiting = before - shards.len() - records.len();
    Ok(Due { plan: RepairPlan { shards, records, silent, seconds }, waiting })
}

fn wait_ms(tries: u32) -> i64 {
    (RETRY_MS_FIRST << tries.saturating_sub(1).min(16)).min(RETRY_MS_MAX)
}
