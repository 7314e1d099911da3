//! `holdfast vault status | snapshots`: commands that look and change
//! nothing stored.

use agent_daemon::assembly;
use agent_daemon::custody::Custody;
use serde_json::json;
use vault_format::{Hash, PointId};
use vault_ops::catalog::{Catalog, PointRow};
use vault_ops::marks::Marks;
use vault_ops::points::{self, point_text};
use vault_ops::{attendance, status};

use crate::arguments::ReadKeyFrom;
use crate::exit::{self, Failure, Outcome};
use crate::output::{Output, ago_text, bytes_text, time_text};
use crate::session::{Session, complete, read_key};
use crate::vault_init::tolerance_text;

pub(crate) async fn status(session: &Session) -> Outcome {
    let (config, name) = session.vault_name()?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    // An empty catalog was lost: the points are in the vault, and the writer's key reads its own.
    if opened.catalog.points()?.is_empty()
        && let Ok(keys) = session.writer_key(&opened.keys, &opened.vault)
    {
        vault_ops::rebuild::catch_up(&opened.vault, &keys, &mut opened.catalog).await?;
    }
    let mut look = status::look(&opened.vault, &opened.catalog).await?;
    let output = session.output;
    let now = session.world.now_ms();
    let custody = Custody::of(&opened.keys, &opened.vault.record);
    look.risks.extend(custody.risks());
    look.risks.extend(agent_risks(&config, &name, now));
    look.risks.extend(overdue(&config, &name, &look.sources, now));
    let blank = opened.vault.locations.iter().filter(|location| location.blank);
    look.risks.extend(blank.map(|location| {
        format!("{} is empty: mount its disk, or refill a new one with: holdfast vault repair --apply", location.name)
    }));
    look.risks.extend(look.spool.iter().flat_map(spool_risks));
    let (verdict, exit) = match (look.lost.is_empty(), look.risks.is_empty()) {
        (false, _) => ("DATA LOST", exit::LOST),
        (true, true) => ("SAFE", exit::OK),
        (true, false) => ("AT RISK", exit::WARNINGS),
    };
    let declared = match look.declared {
        0 => "survive_domains = 0 asks for no more".to_owned(),
        more => format!("want {more}"),
    };
    output.say(format!("vault {name:<12} {verdict}   {}; {declared}", tolerance_text(look.tolerance)));
    output.say(look.hostile.text());
    for risk in &look.risks {
        output.say(format!("  ! {risk}"));
    }
    for (pack, have) in &look.lost {
        output.say(format!("  ! pack {} has {have} shards of {}", pack.short(), opened.vault.coding.data_shards()));
    }
    output.say(format!("{:<24} {:<14} {:>6}   last proven restore", "source", "last point", "points"));
    for line in &look.sources {
        output.say(format!(
            "{:<24} {:<14} {:>6}   not yet",
            line.source,
            ago_text(now, line.last_point_ms),
            line.points
        ));
    }
    output.say(format!(
        "{:<12} {:<12} {:>7} {:>8} {:>5} {:>9}   last audit",
        "location", "domain", "shards", "missing", "bad", "corrected"
    ));
    for line in &look.locations {
        let domain = config.locations.get(line.name.as_str()).map_or("unknown", |location| location.domain.as_str());
        let audited = match (&line.absent, line.audited_ms) {
            (Some(why), _) => format!("<- {why}"),
            (None, None) => "never".to_owned(),
            (None, Some(ms)) => ago_text(now, ms),
        };
        output.say(format!(
            "{:<12} {:<12} {:>7} {:>8} {:>5} {:>9}   {audited}",
            line.name,
            domain,
            line.shards,
            line.shards - line.shown,
            line.bad,
            line.corrections.0
        ));
        output.event(
            "location",
            json!({ "name": line.name, "domain": domain, "shards": line.shards, "shown": line.shown,
                    "sized": line.sized.0, "bad": line.bad, "owed": line.owed, "absent": line.absent, "records_bad": line.records_bad,
                    "corrections": line.corrections.0, "corrections_of_wrong_bytes": line.corrections.1,
                    "leaves": line.leaves, "leaves_read": line.covered, "oldest_unread_ms": line.oldest_unread_ms }),
        );
    }
    let (sized, all) = look.locations.iter().fold((0, 0), |sum, line| (sum.0 + line.sized.0, sum.1 + line.sized.1));
    if sized < all {
        output.say(format!(
            "sizes of {sized} of {all} shards were looked at, others each time; all of them: holdfast vault repair --plan"
        ));
    }
    for line in &look.sources {
        output.event(
            "source",
            json!({ "name": line.source, "last_point_ms": line.last_point_ms, "points": line.points }),
        );
    }
    if look.trash != vault_ops::gc::Trash::default() {
        let next = look.trash.next_ms.map_or(String::new(), |next| format!("; the first may go {}", time_text(next)));
        output.say(format!(
            "trash: {} points, {} packs to be deleted, {}{next}",
            look.trash.points,
            look.trash.packs,
            bytes_text(look.trash.bytes)
        ));
    }
    for resting in &look.resting {
        output.say(format!(
            "{} is away since {}, as it may be until {}",
            resting.name,
            time_text(resting.seen_ms),
            time_text(resting.until_ms)
        ));
        output.event(
            "resting",
            json!({ "name": resting.name, "seen_ms": resting.seen_ms, "until_ms": resting.until_ms }),
        );
    }
    for finding in &look.heads {
        output.event(
            "head",
            json!({ "odd": finding.odd.name(), "writer": finding.writer.to_string(), "location": finding.location,
                    "text": finding.what }),
        );
    }
    output.summary(
        exit,
        json!({ "vault": name, "verdict": verdict, "any_domains": look.tolerance.any_domains,
                "declared": look.declared, "packs": look.packs, "risks": look.risks, "lost": look.lost.len(),
                "trash": { "points": look.trash.points, "packs": look.trash.packs, "bytes": look.trash.bytes,
                           "next_ms": look.trash.next_ms },
                "hostile": { "locations": look.hostile.locations, "locked": look.hostile.locked,
                             "versioned": look.hostile.versioned, "enough": look.hostile.enough },
                "key": { "seed_here": custody.seed_here, "read_key_here": custody.read_key_here,
                         "sheets": custody.sheets, "card_sets": custody.card_sets, "said_none": custody.said_none },
                "debts": look.locations.iter().map(|line| line.owed).sum::<usize>(),
                "packs_by_state": { "committed": look.known.committed, "stored": look.known.stored,
                                    "spooled": look.known.spooled },
                "spool": look.spool.as_ref().map(|line| json!({
                    "points": line.points, "bytes": line.bytes, "since_ms": line.since_ms,
                    "oldest_age_seconds": line.since_ms.map(|since| (now - since).max(0) / 1000),
                    "stuck": line.stuck.iter().map(|stuck| json!({ "name": stuck.name(), "why": stuck.why }))
                        .collect::<Vec<_>>(),
                })) }),
    );
    Ok(exit)
}

/// What waits on this host, and what of it waits in vain.
fn spool_risks(line: &status::SpoolLine) -> Vec<String> {
    let since = line.since_ms.map_or(String::new(), |since| format!(" since {}", time_text(since)));
    let mut risks = vec![format!(
        "{} points ({}) wait in the spool of this host{since}: they are not durable and die with it. Bring back the \
         locations; they are delivered by themselves, or with: holdfast vault deliver",
        line.points,
        bytes_text(line.bytes)
    )];
    risks.extend(line.stuck.iter().map(|stuck| {
        format!(
            "{} in the spool cannot be delivered: {}. Move it out of the way with: holdfast vault deliver --set-aside",
            stuck.name(),
            stuck.why
        )
    }));
    risks
}

/// Sources without a point, or whose newest is older than two intervals.
fn overdue(config: &config::Config, vault: &str, sources: &[status::SourceLine], now_ms: i64) -> Vec<String> {
    let of_vault = config.policies.values().filter(|policy| policy.vault.as_str() == vault);
    let mut risks: Vec<String> = of_vault
        .filter_map(|policy| {
            let source = policy.source.as_str();
            let Some(line) = sources.iter().find(|line| line.source == source) else {
                return Some(format!("source {source} has no point yet: holdfast vault run {source}"));
            };
            let most = 2 * policy.schedule.interval().as_millis();
            let late = u128::from((now_ms - line.last_point_ms).unsigned_abs()) > most;
            late.then(|| {
                format!(
                    "the newest point of {source} is {} old: is the agent running?",
                    ago_text(now_ms, line.last_point_ms).trim_end_matches(" ago")
                )
            })
        })
        .collect();
    if sources.is_empty() && risks.is_empty() {
        risks.push("nothing is backed up yet: holdfast vault run PATH".to_owned());
    }
    risks
}

/// What the agent's own status file says went wrong.
fn agent_risks(config: &config::Config, vault: &str, now_ms: i64) -> Vec<String> {
    let status = match agent_daemon::status::Status::read(&agent_daemon::service::status_path(config)) {
        Ok(Some(status)) => status,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![error.to_string()],
    };
    let of_vault = status.policies.iter().filter(|policy| policy.vault == vault);
    of_vault
        .filter_map(|policy| match &policy.error {
            Some(error) => Some(format!("policy {} failed {} times: {error}", policy.policy, policy.failures)),
            None if policy.is_overdue(now_ms) => {
                Some(format!("policy {} is overdue: is the agent running?", policy.policy))
            }
            None => None,
        })
        .collect()
}

/// With the read key: every point of every writer. Without: what this host's
/// catalog knows of its own.
/// `holdfast vault snapshots ..`
#[derive(clap::Args, Debug)]
pub(crate) struct SnapshotsArguments {
    /// Only points of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only points with this tag; with all of several joined by commas.
    #[arg(long, value_name = "TAG,..")]
    tag: Vec<String>,
    #[command(flatten)]
    key: ReadKeyFrom,
}

/// A line of the list, from what the reader or this writer may see of a point.
struct Line<'a> {
    point: PointId,
    finished_ms: i64,
    source: &'a str,
    tags: &'a [String],
    items: u64,
    position: u64,
    root_hash: Hash,
    pinned: bool,
}

/// The line of a part, the reader's or the writer's.
macro_rules! line_of {
    ($part:expr, $pinned:expr) => {
        Line {
            point: $part.point,
            finished_ms: $part.finished_ms,
            source: &$part.source,
            tags: &$part.tags,
            items: $part.statistics.items,
            position: $part.position,
            root_hash: $part.root_hash,
            pinned: $pinned,
        }
    };
}

impl Line<'_> {
    /// Whether it is of the source and has all tags of one of the sets asked for.
    fn is_asked_for(&self, source: Option<&str>, tags: &[Vec<String>]) -> bool {
        let has = |set: &Vec<String>| set.iter().all(|tag| self.tags.contains(tag));
        source.is_none_or(|source| self.source == source) && (tags.is_empty() || tags.iter().any(has))
    }

    fn show(&self, output: Output, remark: &str) {
        let tags = if self.tags.is_empty() { String::new() } else { format!("  [{}]", self.tags.join(", ")) };
        let pinned = if self.pinned { "  (pinned)" } else { "" };
        output.say(format!(
            "{:<10} {:<22} {:<20} {:>8} {:>10}  {}{tags}{pinned}{remark}",
            point_text(self.point),
            time_text(self.finished_ms),
            self.source,
            self.items,
            self.position,
            self.root_hash.short()
        ));
        output.event(
            "point",
            json!({ "point": self.point.to_string(), "time_ms": self.finished_ms, "source": self.source,
                    "items": self.items, "position": self.position, "root_hash": self.root_hash.to_string(),
                    "tags": self.tags, "pinned": self.pinned }),
        );
    }
}

/// Without the read key: the janitor's last word, else what this host said when it made it.
fn is_pinned(marks: &Marks, catalog: &Catalog, point: &PointRow) -> Result<bool, Failure> {
    match marks.pins.last_word_at(point.writer, (point.epoch, point.sequence)) {
        Some(pinned) => Ok(pinned),
        None => Ok(catalog.is_made_pinned(point.part.point)?),
    }
}

pub(crate) async fn snapshots(session: &Session, arguments: &SnapshotsArguments) -> Outcome {
    let SnapshotsArguments { source, tag, key: from } = arguments;
    let tags = tag.iter().map(|set| config::tag_set(set)).collect::<Result<Vec<_>, _>>();
    let tags = tags.map_err(|why| Failure::new(exit::USAGE, why))?;
    let asked = |line: &Line<'_>| line.is_asked_for(source.as_deref(), &tags);
    let (config, name) = session.vault_name()?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    attendance::require_any(&opened.vault).await?;
    let output = session.output;
    output.say(format!("{:<10} {:<22} {:<20} {:>8} {:>10}  hash", "point", "time", "source", "items", "sequence"));
    let mut count = 0;
    match read_key(session, from, &opened).await {
        Ok(mut key) => {
            complete(&mut key, &opened.vault)?;
            let list = points::list(&opened.vault, &key).await?;
            for point in &list.points {
                let line = line_of!(point.part, list.pinned.contains(&point.part.point));
                if asked(&line) {
                    line.show(output, "");
                    count += 1;
                }
            }
            list.remarks.iter().for_each(|remark| output.warn(remark));
        }
        Err(failure) if from.read_key.is_some() || !from.cards.is_empty() => return Err(failure),
        Err(_) => {
            let keys = session.writer_key(&opened.keys, &opened.vault)?;
            vault_ops::rebuild::catch_up(&opened.vault, &keys, &mut opened.catalog).await?;
            let marks = &opened.vault.reread().await.marks;
            let mut points = opened.catalog.points()?;
            points.retain(|point| !marks.is_place_marked(point.writer, (point.epoch, point.sequence)));
            for point in &points {
                let line = line_of!(point.part, is_pinned(marks, &opened.catalog, point)?);
                if asked(&line) {
                    line.show(output, if point.verified { "" } else { "  (imported, chain not verified)" });
                    count += 1;
                }
            }
            output.say("(this host's own points; those of other hosts need the read key)");
        }
    }
    output.summary(exit::OK, json!({ "points": count }));
    Ok(exit::OK)
}
