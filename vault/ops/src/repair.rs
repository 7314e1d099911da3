//! Repair: rebuild what is missing or wrong from any k good shards, without a key.
//!
//! What always holds: a plan comes first and can be printed; all n shards are
//! rebuilt and every root must equal the signed header's before one byte is
//! written; an object is overwritten only if a failed verification of it is on
//! record, and only with the bytes the signature demands; the result is read back
//! whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use vault_codec::{Buffers, Candidate, ShardSet};
use vault_format::{LocationId, PackId, names};

use crate::catalog::Catalog;
use crate::census::{self, Census};
use crate::create::write_record;
use crate::error::Result;
use crate::fetch::{Fetcher, Trust};
use crate::location::Location;
use crate::place::{Overwrite, write_shard};
use crate::records;
use crate::step::Step;
use crate::vault::Vault;

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
    let mut shards: Vec<ShardTask> = census
        .missing(vault)
        .into_iter()
        .map(|missing| ShardTask {
            pack: missing.pack,
            index: missing.copy.index,
            location: missing.copy.spot.location,
            cause: census.cut_short(&missing).map_or(Cause::Missing, Cause::Wrong),
        })
        .collect();
    for failure in catalog.failures()? {
        let known = census.packs.contains_key(&failure.pack) && vault.location(failure.location).is_some();
        // What is gone is planned as missing already.
        if known && census.shows(failure.location, failure.pack, failure.index) {
            shards.push(ShardTask {
                pack: failure.pack,
                index: failure.index,
                location: failure.location,
                cause: Cause::Wrong(failure.what),
            });
        }
    }
    shards.sort_by_key(|task| (task.pack, task.index, task.location));
    let mut plan = RepairPlan { shards, records: Vec::new(), silent: census.holdings.silent.clone() };
    record_tasks(vault, catalog, &census, &mut plan).await?;
    Ok(plan)
}

/// Every signed record belongs on every location.
async fn record_tasks(vault: &Vault, catalog: &Catalog, census: &Census, plan: &mut RepairPlan) -> Result<()> {
    let wanted = records::in_force(vault, census);
    let failures = catalog.record_failures()?;
    for location in &vault.locations {
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

/// Carries out a plan. Keyless.
pub async fn apply(vault: &Vault, catalog: &Catalog, plan: &RepairPlan) -> Result<RepairReport> {
    let mut report = RepairReport::default();
    for task in &plan.records {
        let Some(location) = vault.location(task.location) else { continue };
        match copy_record(location, task).await {
            Ok(()) => {
                catalog.clear_record_failure(location.id, &task.name)?;
                report.records += 1;
                vault.world.reached(Step::RepairRecordCopied);
            }
            Err(error) => report.failed.push(format!("{} at {}: {error}", task.name, location.name)),
        }
    }
    let mut by_pack: BTreeMap<PackId, Vec<&ShardTask>> = BTreeMap::new();
    for task in &plan.shards {
        by_pack.entry(task.pack).or_default().push(task);
    }
    let census = census::take(vault, catalog).await?;
    for (pack, tasks) in by_pack {
        match rebuild_pack(vault, &census, pack, &tasks).await {
            Ok(set) => {
                vault.world.reached(Step::RepairShardRebuilt);
                write_tasks(vault, catalog, &set, &tasks, &mut report).await?;
            }
            Err(crate::OpsError::Lost { what }) => report.lost.push(what),
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    Ok(report)
}

async fn copy_record(location: &Location, task: &RecordTask) -> Result<()> {
    if matches!(task.cause, Cause::Wrong(_)) {
        location.overwrite(&task.name, vec![Bytes::copy_from_slice(&task.bytes)]).await?;
    }
    // Creates what is missing; what stands there must now be right.
    write_record(location, &task.name, &task.bytes).await
}

/// All n shards of a pack, from k good ones that are not themselves to be written.
async fn rebuild_pack(vault: &Vault, census: &Census, pack: PackId, tasks: &[&ShardTask]) -> Result<ShardSet> {
    let mut holdings = census.holdings.clone();
    if let Some(held) = holdings.packs.get_mut(&pack) {
        held.retain(|holding| {
            !tasks.iter().any(|task| (task.location, task.index) == (holding.location.id, holding.index))
        });
    }
    let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
    let header = fetcher.signed_header(pack).await?;
    if census.packs.get(&pack).is_none_or(|(hash, _)| *hash != header.hash()) {
        return Err(crate::OpsError::corrupt(
            format!("pack {}", pack.short()),
            "the header shown is not the one the manifest signed",
        ));
    }
    let good = fetcher.good_shards(&header).await?;
    let rebuilt = vault
        .world
        .compute
        .run(move || {
            let candidates: Vec<_> = good.iter().map(|(&index, payload)| Candidate { index, payload }).collect();
            vault_codec::repair(&header, &candidates, &Buffers::new(2))
        })
        .await;
    Ok(rebuilt.map_err(|error| crate::OpsError::corrupt(format!("pack {}", pack.short()), error.to_string()))?.shards)
}

async fn write_tasks(
    vault: &Vault,
    catalog: &Catalog,
    set: &ShardSet,
    tasks: &[&ShardTask],
    report: &mut RepairReport,
) -> Result<()> {
    for task in tasks {
        let Some(location) = vault.location(task.location) else { continue };
        let overwrite = match task.cause {
            Cause::Missing => Overwrite::Never,
            Cause::Wrong(_) => Overwrite::FailedVerification,
        };
        let written = match write_shard(vault, location, set, task.index, overwrite).await {
            Ok(()) => read_whole(location, set, task.index).await,
            Err(why) => Err(why),
        };
        match written {
            Ok(()) => {
                vault.world.reached(Step::RepairBeforeClear);
                catalog.clear_failure(task.location, task.pack, task.index)?;
                vault.world.reached(Step::RepairShardDone);
                report.shards.push((*task).clone());
            }
            Err(why) => report.failed.push(format!(
                "shard {} of pack {} at {}: {why}",
                task.index,
                task.pack.short(),
                location.name
            )),
        }
    }
    Ok(())
}

async fn read_whole(location: &Location, set: &ShardSet, index: u8) -> std::result::Result<(), String> {
    let name = names::shard(set.writer(), set.pack(), index);
    let bytes = location.read(&name).await.map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("it was acknowledged and is not there")?;
    let found = set.verified_header().check_object(&bytes).map_err(|error| error.to_string())?;
    if found == index { Ok(()) } else { Err(format!("it reads back as shard {found}")) }
}
