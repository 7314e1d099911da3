//! `holdfast vault audit`: challenges, and the history of those made before.

use std::collections::BTreeMap;

use agent_daemon::assembly;
use agent_daemon::upkeep::audit_budget;
use config::AuditBudget;
use serde_json::{Value, json};
use vault_format::LocationId;
use vault_ops::attendance;
use vault_ops::audit::{self, AuditOptions, AuditReport, Budget, LocationAudit, Outcome as Found, SAMPLES_DEFAULT};
use vault_ops::vault::Vault;

use crate::exit::{self, Failure, Outcome};
use crate::output::{ago_text, bytes_text, time_text};
use crate::session::Session;

/// Lines of history shown.
const HISTORY_LINES: u32 = 1_000;

/// What was asked for.
pub(crate) struct Wanted {
    pub(crate) samples: Option<usize>,
    pub(crate) budget: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) full: bool,
}

pub(crate) async fn run(session: &Session, wanted: Wanted) -> Outcome {
    let (config, name) = session.vault_name()?;
    let given = wanted.budget.as_deref().map(AuditBudget::parse).transpose();
    let given = given.map_err(|what| Failure::new(exit::USAGE, format!("--budget: {what}")))?;
    // Samples asked for by number are not cut by what the configuration allows the agent.
    let budget = match (given, wanted.samples) {
        (None, Some(_)) => Budget::None,
        (given, _) => audit_budget(given.or(config.vaults[name.as_str()].upkeep.audit_budget)),
    };
    let samples = match (wanted.samples, budget) {
        (Some(samples), _) => samples,
        (None, Budget::None) => SAMPLES_DEFAULT,
        (None, Budget::Bytes(_) | Budget::Time(_)) => usize::MAX,
    };
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    if wanted.location.is_none() {
        attendance::require_any(&opened.vault).await?;
    }
    let options = AuditOptions { samples, location: wanted.location, full: wanted.full };
    let shown = session.shows("audit");
    let report = audit::run_within(&opened.vault, &opened.catalog, &options, budget).await;
    drop(shown);
    let report = report?;
    Ok(tell(session, &opened.vault, &report))
}

fn tell(session: &Session, vault: &Vault, report: &AuditReport) -> u8 {
    let output = session.output;
    output.say(format!(
        "{:<12} {:>7} {:>9} {:>9} {:>7} {:>8} {:>9}   finds a loss of 1 % with",
        "location", "shards", "leaves", "read ok", "failed", "offline", "read"
    ));
    let now_ms = session.world.now_ms();
    report.locations.iter().for_each(|line| tell_location(session, line, now_ms));
    for finding in &report.records {
        output.warn(format!("{:?}: {} at {}: {}", finding.outcome, finding.name, finding.location, finding.what));
        output.event("finding", finding_json(&finding.location, &finding.name, finding.outcome, &finding.what));
    }
    for finding in &report.findings {
        let shard = format!("shard {} of pack {}", finding.index, finding.pack.short());
        output.warn(format!("{:?}: {shard} at {}: {}", finding.outcome, finding.location, finding.what));
        let mut event = finding_json(&finding.location, &shard, finding.outcome, &finding.what);
        event["pack"] = finding.pack.to_string().into();
        event["index"] = finding.index.into();
        output.event("finding", event);
    }
    for (pack, have) in &report.short {
        let need = vault.coding.data_shards();
        output.warn(format!("pack {} has only {have} shards left of {need}", pack.short()));
        output.event("short_pack", json!({ "pack": pack.to_string(), "shards": have, "need": need }));
    }
    report.silent.iter().for_each(|(name, why)| output.warn(format!("{name} does not answer: {why}")));
    let worst = report.worst();
    let exit = exit_of(worst);
    output.say(match worst {
        Found::Ok => format!("ok: {} packs, every challenge was answered rightly", report.packs),
        Found::Offline | Found::Unknown => "not everything could be judged; see above".to_owned(),
        Found::Contained => "damage found; the other shards are enough. Next: holdfast vault repair --apply".to_owned(),
        Found::Failed => {
            "damage beyond repair from these locations. Look for other copies of the shards and import them: \
             holdfast vault import-orphans DIR --apply"
                .to_owned()
        }
    });
    output.summary(
        exit,
        json!({ "packs": report.packs, "findings": report.findings.len() + report.records.len(),
                "short_packs": report.short.len(), "silent": report.silent.len(), "outcome": outcome_text(worst) }),
    );
    exit
}

pub(crate) fn exit_of(worst: Found) -> u8 {
    match worst {
        Found::Ok => exit::OK,
        Found::Offline | Found::Unknown => exit::WARNINGS,
        Found::Contained => exit::DAMAGE,
        Found::Failed => exit::LOST,
    }
}

fn outcome_text(outcome: Found) -> &'static str {
    match outcome {
        Found::Ok => "ok",
        Found::Offline => "offline",
        Found::Unknown => "unknown",
        Found::Contained => "contained",
        Found::Failed => "failed",
    }
}

fn finding_json(location: &str, name: &str, outcome: Found, what: &str) -> Value {
    json!({ "location": location, "name": name, "outcome": outcome_text(outcome), "what": what })
}

fn tell_location(session: &Session, line: &LocationAudit, now_ms: i64) {
    let output = session.output;
    let found = 100.0 * line.detection(0.01);
    output.say(format!(
        "{:<12} {:>7} {:>9} {:>9} {:>7} {:>8} {:>9}   {found:.1} %{}",
        line.name,
        line.shards,
        line.leaves,
        line.ok,
        line.failed,
        line.offline,
        bytes_text(line.bytes),
        if line.full { "  (everything read)" } else { "" }
    ));
    if let Some(oldest) = line.oldest_ms {
        output.say(format!(
            "{:<12} {:.1} % of its leaves read within 90 days; its oldest unread shard was last read, or first known, {}",
            "",
            100.0 * line.coverage(),
            ago_text(now_ms, oldest)
        ));
    }
    output.event(
        "location",
        json!({ "name": line.name, "shards": line.shards, "leaves": line.leaves, "samples": line.samples,
                "ok": line.ok, "failed": line.failed, "offline": line.offline, "unknown": line.unknown,
                "records": line.records, "records_failed": line.records_failed, "bytes": line.bytes,
                "full": line.full, "detection_1_percent": line.detection(0.01), "coverage": line.coverage(),
                "oldest_unread_ms": line.oldest_ms }),
    );
}

/// Shows the audits made so far. Needs no location.
pub(crate) async fn history(session: &Session, location: Option<&str>) -> Outcome {
    let (config, name) = session.vault_name()?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let output = session.output;
    let mut names: BTreeMap<LocationId, String> = BTreeMap::new();
    for placed in &opened.vault.layout.locations {
        names.insert(placed.location, opened.vault.location_name(placed.location));
    }
    let name_of = |id: LocationId| names.get(&id).cloned().unwrap_or_else(|| id.short());
    output.say(format!(
        "{:<22} {:<12} {:>9} {:>9} {:>7} {:>8}",
        "time", "location", "asked", "read ok", "failed", "offline"
    ));
    let mut shown = 0;
    for row in opened.catalog.audits(HISTORY_LINES)? {
        let at = name_of(row.location);
        if location.is_some_and(|wanted| wanted != at) {
            continue;
        }
        shown += 1;
        output.say(format!(
            "{:<22} {at:<12} {:>9} {:>9} {:>7} {:>8}{}",
            time_text(row.at_ms),
            row.samples,
            row.ok,
            row.failed,
            row.offline,
            if row.full { "   (everything read)" } else { "" }
        ));
        output.event(
            "audit",
            json!({ "at_ms": row.at_ms, "location": at, "samples": row.samples, "ok": row.ok, "failed": row.failed,
                    "offline": row.offline, "full": row.full }),
        );
    }
    output.summary(exit::OK, json!({ "audits": shown }));
    Ok(exit::OK)
}
