//! `holdfast vault forget | trash | gc`: what lets points go. Each prints a plan and
//! acts only when told to.

use std::sync::Arc;

use agent_daemon::assembly::{self, Assembled};
use clap::{Args, Subcommand};
use config::Config;
use keys::files::{JanitorKey, OperatorKey, ReadKey};
use serde_json::json;
use vault_ops::forget::{self, ForgetPlan, NEWEST_DEFAULT, PointLine, Rule};
use vault_ops::gc::{self, GcOptions};
use vault_ops::janitor::Janitor;
use vault_ops::points::{PointName, point_text};
use vault_ops::retention::{Count, Keep, Span};
use vault_ops::trash;

use crate::exit::{self, Failure, Outcome};
use crate::output::{bytes_text, time_text};
use crate::session::{Session, lease};

/// `holdfast vault forget ..`
#[derive(Args, Debug)]
pub(crate) struct ForgetArguments {
    /// Points to forget, by the ids that `snapshots` prints. Without any, the rules decide.
    points: Vec<String>,
    /// Keep the newest N points of each source; -1 keeps all, here and below.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_last: Option<i64>,
    /// Keep the newest point of N hours.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_hourly: Option<i64>,
    /// Keep the newest point of N days.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_daily: Option<i64>,
    /// Keep the newest point of N weeks.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_weekly: Option<i64>,
    /// Keep the newest point of N months.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_monthly: Option<i64>,
    /// Keep the newest point of N years.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_yearly: Option<i64>,
    /// Keep all points so far back from the newest, as in 30d or 1y6m.
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<String>,
    /// Keep points with this tag; with all of several joined by commas.
    #[arg(long, value_name = "TAG[,TAG]")]
    keep_tag: Vec<String>,
    /// Go by the keep rules of this policy only [default without other rules: of all policies].
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Only say what would be done (the default).
    #[arg(long, conflicts_with = "apply")]
    plan: bool,
    /// Do it.
    #[arg(long)]
    apply: bool,
    /// The vault's name, where more than half of all points would go.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

/// `holdfast vault trash ..`
#[derive(Subcommand, Debug)]
pub(crate) enum TrashCommand {
    /// List what was forgotten and can be brought back.
    List,
    /// Bring a point back.
    Restore {
        /// Its id.
        point: String,
    },
    /// Let a point expire now.
    Purge {
        /// Its id.
        point: String,
        /// The vault's name.
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
}

/// `holdfast vault gc ..`
#[derive(Args, Debug)]
pub(crate) struct GcArguments {
    /// Only say what would be done (the default).
    #[arg(long, conflicts_with = "apply")]
    plan: bool,
    /// Do all that is due. Needs credentials that may delete.
    #[arg(long)]
    apply: bool,
    /// Also condemn stored packs no manifest knows. Not after an import on another host.
    #[arg(long)]
    orphans: bool,
    /// The vault's name, where more than half of the vault would go.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

/// The janitor's own key; else the operator's and the read key together.
fn janitor(opened: &Assembled) -> Result<Janitor, Failure> {
    let fail = |error: keys::KeysError| Failure::new(exit::KEY, error.to_string());
    let folder = &opened.keys;
    if folder.janitor_key().exists() {
        let key: JanitorKey = keys::files::load(&folder.janitor_key()).map_err(fail)?;
        return Ok(Janitor::Own(Arc::new(key)));
    }
    if !folder.operator_key().exists() || !folder.read_key().exists() {
        return Err(Failure::new(
            exit::KEY,
            "this takes the janitor's key (janitor.key), or the operator's and the read key together; they are not on \
             this host, as it should be on one that is backed up. Run it where they are",
        ));
    }
    let operator: OperatorKey = keys::files::load(&folder.operator_key()).map_err(fail)?;
    let read: ReadKey = keys::files::load(&folder.read_key()).map_err(fail)?;
    Ok(Janitor::Operator { operator: Arc::new(operator), read: Some(Arc::new(read)) })
}

fn is_confirmed(name: &str, given: Option<&String>) -> Result<bool, Failure> {
    match given {
        None => Ok(false),
        Some(given) if given == name => Ok(true),
        Some(given) => Err(Failure::new(
            exit::USAGE,
            format!("--confirm {given}: the vault's name is {name}; nothing was changed"),
        )),
    }
}

fn tell_point(session: &Session, what: &str, line: &PointLine) {
    let (id, time) = (point_text(line.point), time_text(line.time_ms));
    session.output.say(format!("{what:<8} {id:<10} {time:<22} {}  {}", line.source, line.tags.join(" ")));
    let fields =
        json!({ "action": what, "point": line.point.to_string(), "source": line.source, "time_ms": line.time_ms });
    session.output.event("point", fields);
}

pub(crate) async fn forget(session: &Session, arguments: &ForgetArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let confirmed = is_confirmed(&name, arguments.confirm.as_ref())?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault forget")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let janitor = janitor(&opened)?;
    let plan = plan_forget(&config, &name, &opened, &janitor, arguments).await?;
    let output = session.output;
    plan.remarks.iter().for_each(|remark| output.warn(remark));
    plan.keep.iter().for_each(|line| tell_point(session, "keep", line));
    plan.forget.iter().for_each(|line| tell_point(session, "forget", line));
    output.say(format!(
        "{} points kept ({} of them only because the newest always are), {} to the trash",
        plan.keep.len(),
        plan.protected,
        plan.forget.len()
    ));
    let mut counts = json!({ "keep": plan.keep.len(), "forget": plan.forget.len(), "applied": arguments.apply });
    if !arguments.apply {
        output.say("Nothing was changed. Do it with --apply");
        output.summary(exit::OK, counts);
        return Ok(exit::OK);
    }
    let grace = config.vaults.get(name.as_str()).map_or(forget::GRACE_MS_DEFAULT, |vault| {
        i64::try_from(vault.trash.as_millis()).unwrap_or(forget::GRACE_MS_DEFAULT)
    });
    let written = forget::apply(&opened.vault, &janitor, &plan, grace, confirmed).await?;
    let owed = written.map_or(0, |written| written.owed.len());
    counts["owed"] = owed.into();
    output.say("Bring one back with: holdfast vault trash restore ID. The space is freed later by: holdfast vault gc");
    let exit = if owed == 0 { exit::OK } else { exit::WARNINGS };
    output.summary(exit, counts);
    Ok(exit)
}

async fn plan_forget(
    config: &Config,
    name: &str,
    opened: &Assembled,
    janitor: &Janitor,
    arguments: &ForgetArguments,
) -> Result<ForgetPlan, Failure> {
    let (vault, catalog) = (&opened.vault, &opened.catalog);
    let given = given_rule(arguments)?;
    if !arguments.points.is_empty() {
        if given.is_some() || arguments.policy.is_some() {
            return Err(Failure::new(exit::USAGE, "name points, or give rules; not both. Nothing was changed"));
        }
        let names = arguments.points.iter().map(|point| PointName::parse(point)).collect::<Result<Vec<_>, _>>()?;
        return Ok(forget::plan_named(vault, catalog, janitor, &names).await?);
    }
    let rules = match given {
        Some(keep) => vec![Rule { source: None, writer: None, keep }],
        None => policy_rules(config, name, arguments.policy.as_deref())?,
    };
    Ok(forget::plan(vault, catalog, janitor, &rules, NEWEST_DEFAULT).await?)
}

/// The rule on the command line, if there is one.
fn given_rule(arguments: &ForgetArguments) -> Result<Option<Keep>, Failure> {
    let count = |given: Option<i64>| match given {
        None => Ok(Count::None),
        Some(-1) => Ok(Count::All),
        Some(count) => u32::try_from(count)
            .map(Count::Most)
            .map_err(|_| Failure::new(exit::USAGE, format!("{count} points cannot be kept; -1 keeps all"))),
    };
    let within = arguments.keep_within.as_ref().map(|text| {
        Span::parse(text).ok_or_else(|| {
            Failure::new(exit::USAGE, format!("--keep-within is written like 30d or 1y6m; {text:?} is not"))
        })
    });
    let keep = Keep {
        last: count(arguments.keep_last)?,
        hourly: count(arguments.keep_hourly)?,
        daily: count(arguments.keep_daily)?,
        weekly: count(arguments.keep_weekly)?,
        monthly: count(arguments.keep_monthly)?,
        yearly: count(arguments.keep_yearly)?,
        within: within.transpose()?,
        tags: arguments.keep_tag.iter().map(|set| set.split(',').map(str::to_owned).collect()).collect(),
        ..Keep::default()
    };
    Ok((!keep.is_empty()).then_some(keep))
}

/// The rules of the policies of this vault: of each source its own.
fn policy_rules(config: &Config, vault: &str, wanted: Option<&str>) -> Result<Vec<Rule>, Failure> {
    let count = |count: u32| if count == 0 { Count::None } else { Count::Most(count) };
    let policies = config.policies.iter().filter(|(_, policy)| policy.vault.as_str() == vault);
    let rules: Vec<Rule> = policies
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.as_str() == wanted))
        .filter_map(|(_, policy)| {
            let keep = policy.keep?;
            let keep = Keep {
                last: count(keep.last),
                hourly: count(keep.hourly),
                daily: count(keep.daily),
                weekly: count(keep.weekly),
                monthly: count(keep.monthly),
                yearly: count(keep.yearly),
                ..Keep::default()
            };
            Some(Rule { source: Some(policy.source.as_str().to_owned()), writer: None, keep })
        })
        .collect();
    if rules.is_empty() {
        let what = "no policy says what to keep, so nothing is forgotten. Say it, as in --keep-daily 14 --keep-weekly 8, \
                    or in the configuration: keep = { daily = 14 }";
        return Err(Failure::new(exit::USAGE, what));
    }
    Ok(rules)
}

pub(crate) async fn trash(session: &Session, command: &TrashCommand) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault trash")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let janitor = janitor(&opened)?;
    let (vault, catalog, output) = (&opened.vault, &opened.catalog, session.output);
    match command {
        TrashCommand::List => {
            let lines = trash::list(vault, catalog, &janitor).await?;
            for found in &lines {
                let until = match (found.gone, found.purged) {
                    (1.., _) => "gone".to_owned(),
                    (0, true) => "purged".to_owned(),
                    (0, false) => format!("until {}", time_text(found.expires_ms)),
                };
                tell_point(session, &until, &found.line);
            }
            output.summary(exit::OK, json!({ "points": lines.len() }));
        }
        TrashCommand::Restore { point } => {
            let back = trash::restore(vault, catalog, &janitor, &PointName::parse(point)?).await?;
            output.say(format!("{} is back", point_text(back.line.point)));
            output.summary(exit::OK, json!({ "point": back.line.point.to_string() }));
        }
        TrashCommand::Purge { point, confirm } => {
            is_confirmed(&name, Some(confirm))?;
            let (gone, _) = trash::purge(vault, catalog, &janitor, &PointName::parse(point)?).await?;
            output.say(format!(
                "{} expires now. The space is freed by: holdfast vault gc --apply, once every host has made a backup",
                point_text(gone.line.point)
            ));
            output.summary(exit::OK, json!({ "point": gone.line.point.to_string() }));
        }
    }
    Ok(exit::OK)
}

pub(crate) async fn gc(session: &Session, arguments: &GcArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let confirmed = is_confirmed(&name, arguments.confirm.as_ref())?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault gc")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let janitor = janitor(&opened)?;
    let options = GcOptions { orphans: arguments.orphans, confirmed, ..GcOptions::default() };
    let (vault, catalog, output) = (&opened.vault, &opened.catalog, session.output);
    if !arguments.apply {
        let plan = gc::plan(vault, catalog, &janitor, &options).await?;
        plan.stops.iter().for_each(|why| output.warn(why));
        output.say(format!(
            "{} packs ({}) to condemn, {} to sweep, {} referenced again, {} manifests to remove",
            plan.condemn.len() + plan.again.len(),
            bytes_text(plan.condemn_bytes),
            plan.sweep.len(),
            plan.revive.len(),
            plan.manifests.len()
        ));
        plan.waiting.iter().for_each(|(why, packs)| output.say(format!("{packs} packs wait: {why}")));
        output.say("Nothing was changed. Do it with: holdfast vault gc --apply");
        let exit = if plan.stops.is_empty() { exit::OK } else { exit::WARNINGS };
        let fields = json!({ "condemn": plan.condemn.len() + plan.again.len(), "condemn_bytes": plan.condemn_bytes,
                             "sweep": plan.sweep.len(), "revive": plan.revive.len(), "stops": plan.stops });
        output.summary(exit, fields);
        return Ok(exit);
    }
    let done = gc::apply(vault, catalog, &janitor, &options).await?;
    done.failed.iter().for_each(|why| output.warn(why));
    done.waiting.iter().for_each(|(why, packs)| output.say(format!("{packs} packs wait: {why}")));
    output.say(format!(
        "{} packs condemned, {} swept, {} brought back, {} manifests removed; {} objects deleted ({})",
        done.condemned,
        done.swept,
        done.revived,
        done.manifests,
        done.deleted,
        bytes_text(done.deleted_bytes)
    ));
    let exit = if done.failed.is_empty() { exit::OK } else { exit::WARNINGS };
    let fields = json!({ "condemned": done.condemned, "swept": done.swept, "revived": done.revived,
                         "fenced": done.fenced, "deleted": done.deleted, "deleted_bytes": done.deleted_bytes,
                         "failed": done.failed.len() });
    output.summary(exit, fields);
    Ok(exit)
}
