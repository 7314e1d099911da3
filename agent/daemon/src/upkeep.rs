//! Chores: what keeps a vault whole between backups, as its configuration says.
//!
//! What always holds: no key is loaded but the vault's public file, no credentials
//! that may delete; nothing is deleted; what a chore found is on record before it
//! is said. Repairs are on unless the configuration says `repair = false`.

use std::fmt::Write as _;
use std::time::Duration;

use config::{AuditBudget, Config, Scheme, Upkeep};
use vault_ops::Result;
use vault_ops::audit::{self, AuditOptions, Budget, Outcome, SAMPLES_DEFAULT};
use vault_ops::catalog::Catalog;
use vault_ops::repair::{self, RepairPlan};
use vault_ops::retain;
use vault_ops::scrub::{self, ScrubOptions};
use vault_ops::status;
use vault_ops::vault::Vault;
use vault_ops::world::World;

use crate::assembly::{self, Assembled};
use crate::custody::Custody;
use crate::schedule::Jitter;
use crate::status::{LocationGauges, SpoolGauges, TrashGauges, VaultGauges};
use crate::{PolicyPlan, Tended, Work, delivery};

/// A round of the scrub is cut into so many slices,
const SCRUB_SLICES: u32 = 2_160;
/// none longer than this: backups wait for it.
const SLICE_TIME_MAX: Duration = Duration::from_mins(2);

/// Locks last a day at least, and are extended when half of one is left.
const LOCKS_INTERVAL: Duration = Duration::from_hours(12);
/// Requests about locks in one slice: a few minutes of one connection.
const LOCK_REQUESTS_MAX: u64 = 2_000;

/// The budget of an audit.
pub fn audit_budget(budget: Option<AuditBudget>) -> Budget {
    match budget {
        None => Budget::None,
        Some(AuditBudget::Bytes(bytes)) => Budget::Bytes(bytes),
        Some(AuditBudget::Time(time)) => Budget::Time(time),
    }
}

/// The chores of all vaults.
pub(crate) fn chores(config: &Config) -> Vec<PolicyPlan> {
    let of_vault = |(vault, plan): (&config::Name, &config::Vault)| {
        let upkeep = plan.upkeep;
        let mut chores = vec![
            (Work::Repair, upkeep.repair_interval),
            (Work::Scrub, scrub_every(&upkeep)),
            (Work::Audit, upkeep.audit_interval),
            (Work::Deliver, delivery::EVERY),
        ];
        if config.locations_of(plan).any(|(_, location)| location.scheme == Scheme::S3) {
            chores.push((Work::Locks, LOCKS_INTERVAL));
        }
        let vault = vault.as_str().to_owned();
        let plan_of = move |(work, interval): (Work, Duration)| PolicyPlan {
            name: work.name().to_owned(),
            vault: vault.clone(),
            source: String::new(),
            work,
            interval,
            jitter: Jitter::default(),
        };
        chores.into_iter().map(plan_of).collect::<Vec<_>>()
    };
    config.vaults.iter().flat_map(of_vault).collect()
}

/// Slices are small, so that a backup never waits long, and not smaller than they
/// need be: each begins with a listing.
fn scrub_every(upkeep: &Upkeep) -> Duration {
    (upkeep.scrub_interval / SCRUB_SLICES).max(Duration::from_secs(1))
}

async fn open(config: &Config, vault: &str, world: &World) -> Result<(Assembled, Upkeep)> {
    let upkeep = config.vaults.get(vault).map_or(Upkeep::DEFAULT, |vault| vault.upkeep);
    Ok((assembly::open_vault(config, vault, world.clone()).await?, upkeep))
}

/// Rebuilds what is missing or wrong, or only looks if repairs are off.
pub(crate) async fn repair(config: &Config, name: &str, world: &World) -> Result<Tended> {
    let (opened, upkeep) = open(config, name, world).await?;
    let (vault, catalog) = (&opened.vault, &opened.catalog);
    let mut line = String::new();
    if upkeep.repair {
        let plan = repair::plan(vault, catalog).await?;
        let due = repair::due(vault, catalog, plan)?;
        if !due.plan.is_empty() {
            line = mend(vault, catalog, &due.plan, due.waiting).await?;
        }
    }
    Ok(Tended { line, gauges: Some(gauges(&opened).await?), ..Tended::default() })
}

async fn mend(vault: &Vault, catalog: &Catalog, plan: &RepairPlan, waiting: usize) -> Result<String> {
    let done = repair::apply(vault, catalog, plan).await?;
    let mut line = format!("{} shards written and read back, {} records copied", done.shards.len(), done.records);
    if let Some(first) = done.failed.first() {
        let _ = write!(line, "; {} could not be done now, first: {first}", done.failed.len());
    }
    if let Some(first) = done.lost.first() {
        let _ = write!(line, "; {} PACKS LOST, first: {first}", done.lost.len());
    }
    if waiting > 0 {
        let _ = write!(line, "; {waiting} wait to be tried again");
    }
    Ok(line)
}

/// Reads the next slice of everything.
pub(crate) async fn scrub(config: &Config, name: &str, world: &World) -> Result<Tended> {
    let (opened, upkeep) = open(config, name, world).await?;
    let options = ScrubOptions {
        interval: upkeep.scrub_interval,
        every: scrub_every(&upkeep),
        bandwidth: upkeep.scrub_bandwidth,
        time_max: SLICE_TIME_MAX,
    };
    let slice = scrub::slice(&opened.vault, &opened.catalog, &options).await?;
    let again = slice.locations.iter().any(|line| line.more);
    let wrong = slice.findings.iter().filter(|finding| finding.outcome >= Outcome::Contained).count();
    let line = found_line(slice.worst(), wrong, slice.short.len());
    Ok(Tended { mend: slice.worst() >= Outcome::Contained, line, again, ..Tended::default() })
}

/// Extends the retention locks that end soonest, in slices.
pub(crate) async fn locks(config: &Config, name: &str, world: &World) -> Result<Tended> {
    let (opened, _) = open(config, name, world).await?;
    let plan = retain::plan(&opened.vault, &opened.catalog, &assembly::wanted_locks(config, name)).await?;
    let done = retain::apply(&opened.vault, &opened.catalog, &plan, LOCK_REQUESTS_MAX).await?;
    let mut line = String::new();
    if let Some(first) = done.failed.first() {
        let _ = write!(line, "{} locks could not be extended, first: {first}", done.failed.len());
    }
    Ok(Tended { line, again: done.left > 0, ..Tended::default() })
}

/// Challenges every location.
pub(crate) async fn audit(config: &Config, name: &str, world: &World) -> Result<Tended> {
    let (opened, upkeep) = open(config, name, world).await?;
    let budget = audit_budget(upkeep.audit_budget);
    let samples = if budget == Budget::None { SAMPLES_DEFAULT } else { usize::MAX };
    let options = AuditOptions { samples, location: None, full: false };
    let report = audit::run_within(&opened.vault, &opened.catalog, &options, budget).await?;
    let bad = |outcome: Outcome| outcome >= Outcome::Contained;
    let wrong = report.findings.iter().filter(|finding| bad(finding.outcome)).count()
        + report.records.iter().filter(|finding| bad(finding.outcome)).count();
    let line = found_line(report.worst(), wrong, report.short.len());
    Ok(Tended { mend: bad(report.worst()), line, ..Tended::default() })
}

fn found_line(worst: Outcome, wrong: usize, short: usize) -> String {
    match worst {
        Outcome::Ok | Outcome::Offline | Outcome::Unknown => String::new(),
        Outcome::Contained => format!("DAMAGE: {wrong} objects wrong or missing; the others are enough to mend them"),
        Outcome::Failed => format!(
            "DATA LOST: {wrong} objects wrong or missing, {short} packs have too few shards left. Look: holdfast vault audit"
        ),
    }
}

/// What waits, as the metrics say it.
pub(crate) fn spool_gauges(line: Option<&status::SpoolLine>, at_ms: i64) -> SpoolGauges {
    let empty = SpoolGauges { at_ms, ..SpoolGauges::default() };
    line.map_or(empty, |line| SpoolGauges {
        points: line.points as u64,
        stuck: line.stuck.len() as u64,
        bytes: line.bytes,
        since_ms: line.since_ms,
        ..empty
    })
}

/// How the vault stands.
async fn gauges(opened: &Assembled) -> Result<VaultGauges> {
    let Assembled { name, vault, catalog, keys, .. } = opened;
    let look = status::look(vault, catalog).await?;
    let locations = look.locations.iter().map(|line| LocationGauges {
        location: line.name.clone(),
        answers: line.absent.is_none(),
        shards: line.shards as u64,
        missing: if line.absent.is_some() { 0 } else { (line.shards - line.shown) as u64 },
        bad: line.bad as u64,
        records_bad: line.records_bad as u64,
        audit_samples: line.audit_samples,
        leaves: line.leaves,
        covered: line.covered,
        oldest_unread_ms: line.oldest_unread_ms,
        corrections: line.corrections.0,
        corrections_wrong: line.corrections.1,
    });
    Ok(VaultGauges {
        vault: name.clone(),
        at_ms: vault.world.now_ms(),
        any_domains: look.tolerance.any_domains,
        declared: look.declared,
        packs: look.packs as u64,
        lost: look.lost.len() as u64,
        retries: catalog.retries()?.len() as u64,
        debts: look.locations.iter().map(|line| line.owed as u64).sum(),
        packs_by_state: [look.known.committed, look.known.stored, look.known.spooled].map(|packs| packs as u64),
        spool: spool_gauges(look.spool.as_ref(), vault.world.now_ms()),
        trash: TrashGauges {
            points: look.trash.points as u64,
            packs: look.trash.packs as u64,
            bytes: look.trash.bytes,
        },
        key_here: Custody::of(keys, &vault.record).key_here(),
        locations: locations.collect(),
    })
}
