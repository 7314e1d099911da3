//! Retention: the locks of everything live are extended before they end.
//!
//! What always holds: what is live follows from signed manifests, so no key is needed,
//! and what is condemned is not extended: its lock ends and it can be deleted. A lock is
//! only ever made longer. When less than half of the location's lock is left, it is
//! extended to all of it; so everything live keeps at least half, as long as this runs
//! that often. Both the newest and the oldest version of an object are locked: which of
//! them is right is for those to say who read them, and whoever overwrote one must not
//! outwait the lock of the other. The number of requests is bounded; what is left over
//! comes first next time.

use std::collections::{BTreeMap, BTreeSet};

use backends::{BackendError, LockMode, Locking, Version, Versions};
use vault_format::{LocationId, names};

use crate::catalog::Catalog;
use crate::census;
use crate::error::Result;
use crate::location::Location;
use crate::progress::{Phase, Total};
use crate::records;
use crate::vault::Vault;

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Versions of one object that are looked at; more are rubbish of one hand.
const LISTED_MAX: usize = 10_000;

/// An object whose lock is to be looked at, and extended if it ends soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainTask {
    /// Where.
    pub location: LocationId,
    /// Its name.
    pub name: String,
    /// Until when it shall be locked.
    pub until_ms: i64,
    /// A lock that lasts so long is left as it is.
    pub enough_ms: i64,
}

/// What would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainPlan {
    /// Objects, those that are known to end first in front, unknown ones before them.
    pub tasks: Vec<RetainTask>,
    /// Live objects on locations that lock.
    pub live: usize,
    /// Locations that lock: name and lock in days.
    pub locking: Vec<(String, i64)>,
    /// Locations that did not say, and why.
    pub silent: Vec<(String, String)>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainReport {
    /// Objects looked at.
    pub looked: usize,
    /// Versions whose lock was extended.
    pub extended: usize,
    /// Requests made, as far as they are known here.
    pub requests: u64,
    /// Due, and left for the next time.
    pub left: usize,
    /// What could not be done, and why.
    pub failed: Vec<String>,
}

/// Plans for locations that lock every object by themselves, and for those named in
/// `wanted` with a lock in milliseconds.
pub async fn plan(vault: &Vault, catalog: &Catalog, wanted: &BTreeMap<String, i64>) -> Result<RetainPlan> {
    let mut plan = RetainPlan::default();
    let mut locking = Vec::new();
    for location in vault.locations.iter().filter(|location| !location.blank) {
        match lock_ms(location, wanted).await {
            Ok(Some(lock_ms)) => {
                plan.locking.push((location.name.clone(), lock_ms / DAY_MS));
                locking.push((location, lock_ms));
            }
            Ok(None) => {}
            Err(error) => plan.silent.push((location.name.clone(), error.to_string())),
        }
    }
    if locking.is_empty() {
        return Ok(plan);
    }
    let census = census::take(vault, catalog).await?;
    let records: BTreeSet<String> = records::in_force(vault, &census).into_keys().collect();
    let now = vault.world.now_ms();
    let mut due: Vec<(i64, RetainTask)> = Vec::new();
    for (location, lock_ms) in locking {
        let known = catalog.locks(location.id)?;
        let shards = census.expected_at(vault, location.id).into_iter().filter_map(|(pack, index)| {
            let (_, writer) = census.packs.get(&pack)?;
            census.shows(location.id, pack, index).then(|| names::shard(*writer, pack, index))
        });
        let live = shards.chain(records.iter().cloned()).chain([names::MARKER.to_owned()]);
        for name in live {
            plan.live += 1;
            let until = known.get(&name).copied().unwrap_or(0);
            let enough_ms = now.saturating_add(lock_ms / 2);
            if until < enough_ms {
                let until_ms = now.saturating_add(lock_ms);
                due.push((until, RetainTask { location: location.id, name, until_ms, enough_ms }));
            }
        }
    }
    due.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    plan.tasks = due.into_iter().map(|(_, task)| task).collect();
    Ok(plan)
}

/// A location's lock: as wanted, or the rule it applies to every object by itself.
async fn lock_ms(
    location: &Location,
    wanted: &BTreeMap<String, i64>,
) -> std::result::Result<Option<i64>, BackendError> {
    let Some(versions) = &location.versions else { return Ok(None) };
    if let Some(lock_ms) = wanted.get(&location.name) {
        return Ok(Some(*lock_ms));
    }
    Ok(match versions.locking().await? {
        Locking::Always(rule) if rule.mode == LockMode::Compliance => Some(i64::from(rule.days) * DAY_MS),
        Locking::Always(_) | Locking::OnRequest | Locking::None => None,
    })
}

/// Carries out a plan with about `most` requests.
pub async fn apply(vault: &Vault, catalog: &Catalog, plan: &RetainPlan, most: u64) -> Result<RetainReport> {
    let mut report = RetainReport::default();
    vault.world.progress.begin_of(Phase::Locking, Total::of_items(plan.tasks.len()));
    for (at, task) in plan.tasks.iter().enumerate() {
        if report.requests >= most {
            report.left = plan.tasks.len() - at;
            break;
        }
        let Some(location) = vault.location(task.location) else { continue };
        let Some(versions) = &location.versions else { continue };
        report.looked += 1;
        vault.world.progress.add_items(1);
        match extend(versions.as_ref(), task, &mut report).await {
            Ok(until_ms) => catalog.set_lock(location.id, &task.name, until_ms)?,
            Err(error) => report.failed.push(format!("{} at {}: {error}", task.name, location.name)),
        }
    }
    Ok(report)
}

/// Locks the newest and the oldest version; until when both are locked now.
async fn extend(
    versions: &dyn Versions,
    task: &RetainTask,
    report: &mut RetainReport,
) -> std::result::Result<i64, BackendError> {
    report.requests += 1;
    let list = versions.list(&task.name, LISTED_MAX).await?.versions;
    let of_object: Vec<&Version> = list.iter().filter(|version| version.name == task.name && !version.marker).collect();
    let (Some(newest), Some(oldest)) = (of_object.first(), of_object.last()) else {
        let why = "no version of it is kept";
        return Err(BackendError::new(backends::Kind::NotFound, task.name.clone(), why));
    };
    let mut locked_ms = i64::MAX;
    for version in if newest.id == oldest.id { vec![newest] } else { vec![newest, oldest] } {
        report.requests += 1;
        let lock = versions.lock(&task.name, Some(&version.id)).await?;
        let lasts = lock.filter(|lock| lock.mode == LockMode::Compliance).map_or(0, |lock| lock.until_ms);
        if lasts >= task.enough_ms {
            locked_ms = locked_ms.min(lasts);
            continue;
        }
        // It looks once more and then writes.
        report.requests += 2;
        versions.extend_lock(&task.name, Some(&version.id), task.until_ms).await?;
        report.extended += 1;
        locked_ms = locked_ms.min(task.until_ms);
    }
    Ok(locked_ms)
}
