//! Repair, the deed: packs are rebuilt one after another from any k good shards,
//! and what was missing or wrong is written. No key is needed.
//!
//! What always holds: all n shards of a pack are rebuilt and every root must equal
//! the signed header's before one byte is written; an object is overwritten only if
//! a failed verification of it is on record, and only with the bytes the signature
//! demands, and never where another record stands that is signed for the same name; the result is read back whole; what was put right is logged, and what
//! could not be is counted. One pack is in memory at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use vault_codec::{Buffers, GoodShard, ShardSet};
use vault_format::{LocationId, PackId, names};

use crate::catalog::{Catalog, Correction, Failure};
use crate::census::{self, Census};
use crate::create::write_record;
use crate::error::{OpsError, Result};
use crate::fetch::{BadShard, Fetcher, Holdings, Trust};
use crate::location::Location;
use crate::place::{Overwrite, Unwritten, write_shard};
use crate::progress::{Phase, Total};
use crate::records;
use crate::repair::{self, Cause, RecordTask, RepairPlan, RepairReport, ShardTask};
use crate::step::Step;
use crate::vault::Vault;

/// Attempts at one object before it is left for the next repair.
const ATTEMPTS: u32 = 3;
/// Wait after the first attempt; doubled after each further one.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// A location at which so many objects in a row failed is left for the next repair.
const FAILURES_MAX: u32 = 3;

/// Carries out a plan. Keyless.
pub async fn apply(vault: &Vault, catalog: &Catalog, plan: &RepairPlan) -> Result<RepairReport> {
    vault.world.progress.begin_of(Phase::Mending, Total::of_items(plan.records.len() + plan.shards.len()));
    let mut mending = Mending { vault, catalog, in_a_row: BTreeMap::new(), report: RepairReport::default() };
    for task in &plan.records {
        mending.record(task).await?;
        vault.world.progress.add_items(1);
    }
    let mut by_pack: BTreeMap<PackId, Vec<&ShardTask>> = BTreeMap::new();
    for task in &plan.shards {
        by_pack.entry(task.pack).or_default().push(task);
    }
    if by_pack.is_empty() {
        return Ok(mending.report);
    }
    let census = census::take(vault, catalog).await?;
    for (pack, tasks) in by_pack {
        mending.pack(&census, pack, &tasks).await?;
        vault.world.progress.add_items(tasks.len() as u64);
    }
    Ok(mending.report)
}

/// Mends what a restore met on its way: shards that were bad, or that are missing at
/// home, of the packs it read. Bad ones go on record first.
pub async fn read_repair(
    vault: &Vault,
    catalog: &Catalog,
    read: &BTreeSet<PackId>,
    bad: &[BadShard],
) -> Result<RepairReport> {
    let census = census::take(vault, catalog).await?;
    for bad in bad.iter().filter(|bad| !bad.offline) {
        // Only what stands there can be wrong.
        if census.shows(bad.location_id, bad.pack, bad.index) {
            catalog.add_failure(&Failure {
                location: bad.location_id,
                pack: bad.pack,
                index: bad.index,
                seen_ms: vault.world.now_ms(),
                what: bad.why.clone(),
            })?;
        }
    }
    let missing = census.missing(vault).iter().any(|missing| read.contains(&missing.pack));
    if !missing && bad.iter().all(|bad| bad.offline) {
        return Ok(RepairReport::default());
    }
    drop(census);
    let mut plan = repair::plan(vault, catalog).await?;
    plan.shards.retain(|task| read.contains(&task.pack));
    plan.records.clear();
    apply(vault, catalog, &plan).await
}

struct Mending<'a> {
    vault: &'a Vault,
    catalog: &'a Catalog,
    /// Objects that failed in a row at each location.
    in_a_row: BTreeMap<LocationId, u32>,
    report: RepairReport,
}

impl<'a> Mending<'a> {
    async fn record(&mut self, task: &RecordTask) -> Result<()> {
        let (vault, catalog) = (self.vault, self.catalog);
        let Some(location) = self.ready(task.location) else { return Ok(()) };
        let mut done = Ok(());
        for attempt in 0..ATTEMPTS {
            wait(vault, attempt).await;
            done = copy_record(vault, location, task).await.map_err(|error| error.to_string());
            if done.is_ok() {
                break;
            }
        }
        match done {
            Ok(()) => {
                catalog.clear_record_failure(location.id, &task.name)?;
                self.corrected(location.id, &task.name, &task.cause)?;
                self.report.records += 1;
                vault.world.reached(Step::RepairRecordCopied);
            }
            Err(why) => self.failed(location, &task.name, &why)?,
        }
        Ok(())
    }

    async fn pack(&mut self, census: &Census, pack: PackId, tasks: &[&ShardTask]) -> Result<()> {
        let wanted: Vec<&ShardTask> =
            tasks.iter().copied().filter(|task| self.ready(task.location).is_some()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        match self.rebuild(census, pack, &wanted).await {
            Ok(set) => {
                self.vault.world.reached(Step::RepairShardRebuilt);
                for task in wanted {
                    self.shard(&set, task).await?;
                }
            }
            Err(OpsError::Lost { what }) => {
                self.note_failed(&wanted, &what)?;
                self.report.lost.push(what);
            }
            Err(error @ OpsError::Catalog(_)) => return Err(error),
            Err(error) => {
                self.note_failed(&wanted, &error.to_string())?;
                self.report.failed.push(error.to_string());
            }
        }
        Ok(())
    }

    /// All n shards of a pack, from k good ones.
    async fn rebuild(&self, census: &Census, pack: PackId, tasks: &[&ShardTask]) -> Result<ShardSet> {
        let vault = self.vault;
        let mut held = census.holdings.packs.get(&pack).cloned().unwrap_or_default();
        // What is to be written comes last: it is checked like all others, and may be
        // wrong in a place that does not matter here.
        let doubtful =
            |location: LocationId, index: u8| tasks.iter().any(|task| (task.location, task.index) == (location, index));
        held.sort_by_key(|holding| doubtful(holding.location.id, holding.index));
        let certain = held.iter().filter(|holding| !doubtful(holding.location.id, holding.index));
        let enough = certain.map(|holding| holding.index).collect::<BTreeSet<u8>>().len()
            >= usize::from(vault.coding.data_shards());
        let certain: Vec<_> = held.iter().filter(|one| !doubtful(one.location.id, one.index)).cloned().collect();
        let tries = if enough { vec![certain, held] } else { vec![held] };
        let mut good = Err(OpsError::corrupt(format!("pack {}", pack.short()), "nothing of it was tried"));
        for held in tries {
            let (silent, keepers) = (census.holdings.silent.clone(), census.holdings.keepers.clone());
            let holdings = Holdings { packs: [(pack, held)].into(), silent, keepers, ..Holdings::default() };
            let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
            good = self.good_shards(census, &fetcher, pack).await;
            self.note_bad(census, &fetcher)?;
            // Those that nobody doubted may be wrong all the same, and an older version
            // of a doubtful one may be right.
            if !matches!(good, Err(OpsError::Lost { .. })) {
                break;
            }
        }
        let (header, good) = good?;
        let rebuilt = vault
            .world
            .compute
            .run(move || {
                let good: Vec<GoodShard> = good.into_values().collect();
                vault_codec::repair(&header, &good, &Buffers::new(2))
            })
            .await;
        rebuilt.map_err(|error| OpsError::corrupt(format!("pack {}", pack.short()), error.to_string()))
    }

    async fn good_shards(
        &self,
        census: &Census,
        fetcher: &Fetcher,
        pack: PackId,
    ) -> Result<(vault_codec::VerifiedHeader, BTreeMap<u8, GoodShard>)> {
        let header = fetcher.signed_header(pack).await?;
        if census.packs.get(&pack).is_none_or(|(hash, _)| *hash != header.hash()) {
            return Err(OpsError::corrupt(
                format!("pack {}", pack.short()),
                "the header shown is not the one the manifest signed",
            ));
        }
        let good = fetcher.good_shards(&header).await?;
        Ok((header, good))
    }

    /// Shards that turned out wrong while others were rebuilt: the next plan has them.
    fn note_bad(&self, census: &Census, fetcher: &Fetcher) -> Result<()> {
        for bad in fetcher.bad().into_iter().filter(|bad| !bad.offline) {
            if census.shows(bad.location_id, bad.pack, bad.index) {
                let seen_ms = self.vault.world.now_ms();
                let (location, pack, index, what) = (bad.location_id, bad.pack, bad.index, bad.why);
                self.catalog.add_failure(&Failure { location, pack, index, seen_ms, what })?;
            }
        }
        Ok(())
    }

    async fn shard(&mut self, set: &ShardSet, task: &ShardTask) -> Result<()> {
        let (vault, catalog) = (self.vault, self.catalog);
        let Some(location) = self.ready(task.location) else { return Ok(()) };
        let overwrite = match task.cause {
            Cause::Missing => Overwrite::Never,
            Cause::Wrong(_) => Overwrite::FailedVerification,
        };
        let mut written = Ok(());
        for attempt in 0..ATTEMPTS {
            wait(vault, attempt).await;
            written = match write_shard(vault, location, set, task.index, overwrite).await {
                Ok(()) => read_whole(location, set, task.index).await.map_err(Unwritten::why),
                Err(unwritten) => Err(unwritten.why()),
            };
            if written.is_ok() {
                break;
            }
        }
        match written {
            Ok(()) => {
                vault.world.reached(Step::RepairBeforeClear);
                catalog.clear_failure(task.location, task.pack, task.index)?;
                catalog.add_whole_read(task.location, task.pack, task.index, vault.world.now_ms())?;
                self.corrected(location.id, &task.name, &task.cause)?;
                vault.world.reached(Step::RepairShardDone);
                self.report.shards.push(task.clone());
            }
            Err(why) => {
                // Not listed and yet there, and wrong: on record, it may be overwritten.
                if let (Cause::Missing, Err(Unwritten::Wrong(what))) =
                    (&task.cause, read_whole(location, set, task.index).await)
                {
                    let (pack, index, seen_ms) = (task.pack, task.index, vault.world.now_ms());
                    catalog.add_failure(&Failure { location: location.id, pack, index, seen_ms, what })?;
                }
                let what = format!("shard {} of pack {}", task.index, task.pack.short());
                self.failed_as(location, &what, &task.name, &why)?;
            }
        }
        Ok(())
    }

    /// A location that answers and did not just fail again and again.
    fn ready(&self, id: LocationId) -> Option<&'a Location> {
        let tired = self.in_a_row.get(&id).is_some_and(|failures| *failures >= FAILURES_MAX);
        self.vault.location(id).filter(|_| !tired)
    }

    fn corrected(&mut self, location: LocationId, name: &str, cause: &Cause) -> Result<()> {
        self.in_a_row.remove(&location);
        let (wrong, what) = match cause {
            Cause::Missing => (false, "missing".to_owned()),
            Cause::Wrong(why) => (true, why.clone()),
        };
        let at_ms = self.vault.world.now_ms();
        self.catalog.add_correction(&Correction { at_ms, location, name: name.to_owned(), wrong, what })
    }

    fn failed(&mut self, location: &Location, name: &str, why: &str) -> Result<()> {
        self.failed_as(location, name, name, why)
    }

    fn failed_as(&mut self, location: &Location, what: &str, name: &str, why: &str) -> Result<()> {
        let tries = self.catalog.add_retry(location.id, name, self.vault.world.now_ms(), why)?;
        let in_a_row = self.in_a_row.entry(location.id).or_default();
        *in_a_row += 1;
        let rest = if *in_a_row == FAILURES_MAX { "; the rest there waits for the next repair" } else { "" };
        self.report.failed.push(format!("{what} at {}: {why} (repair {tries} that failed){rest}", location.name));
        Ok(())
    }

    fn note_failed(&self, tasks: &[&ShardTask], why: &str) -> Result<()> {
        for task in tasks {
            self.catalog.add_retry(task.location, &task.name, self.vault.world.now_ms(), why)?;
        }
        Ok(())
    }
}

async fn wait(vault: &Vault, attempt: u32) {
    if attempt > 0 {
        vault.world.clock.sleep(WAIT_FIRST * 2_u32.pow(attempt - 1)).await;
    }
}

async fn copy_record(vault: &Vault, location: &Location, task: &RecordTask) -> Result<()> {
    if matches!(task.cause, Cause::Wrong(_)) {
        // What was found wrong may have been replaced since, by what is signed as well.
        let there = location.read(&task.name).await?;
        if there.is_some_and(|there| there != task.bytes && records::is_rival(vault, &task.name, &there)) {
            let what = format!("{} holds another record that is signed for this name; it is kept", location.name);
            return Err(OpsError::Refused { what });
        }
        location.overwrite(&task.name, vec![Bytes::copy_from_slice(&task.bytes)]).await?;
    }
    // Creates what is missing; what stands there must now be right.
    write_record(location, &task.name, &task.bytes).await
}

async fn read_whole(location: &Location, set: &ShardSet, index: u8) -> std::result::Result<(), Unwritten> {
    let name = names::shard(set.writer(), set.pack(), index);
    let bytes = location.read(&name).await.map_err(|error| Unwritten::Away(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| Unwritten::Away("it was acknowledged and is not there".to_owned()))?;
    match set.verified_header().check_object(&bytes) {
        Ok(found) if found == index => Ok(()),
        Ok(found) => Err(Unwritten::Wrong(format!("it reads back as shard {found}"))),
        Err(error) => Err(Unwritten::Wrong(error.to_string())),
    }
}
