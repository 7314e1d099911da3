//! `holdfast vault reencrypt`: points of an older key are sealed anew for the newest.
//! Prints a plan and acts only when told to.
//!
//! What always holds: the read key is kept in memory; a run that was killed is taken
//! up by the next; a scope whose points are not moved is named.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use agent_daemon::assembly::{self, Assembled};
use clap::Args;
use keys::files::{ReadKey, WriterKey};
use serde_json::json;
use vault_codec::Compression;
use vault_format::ScopeId;
use vault_ops::catalog::Catalog;
use vault_ops::forget::GRACE_MS_DEFAULT;
use vault_ops::points::point_text;
use vault_ops::progress::Phase;
use vault_ops::reencrypt::{self, Mover, Plan, Report};

use crate::arguments::ReadKeyFrom;
use crate::exit::{self, Failure, Outcome};
use crate::janitor::janitor;
use crate::keys_issue::{migrator_of, scopes_text};
use crate::output::bytes_text;
use crate::session::{Session, complete, lease, read_key};

/// `holdfast vault reencrypt ..`
#[derive(Args, Debug)]
pub(crate) struct ReencryptArguments {
    /// Only say what would be done (the default).
    #[arg(long, conflicts_with = "apply")]
    plan: bool,
    /// Do it. Goes on where a killed run ended.
    #[arg(long)]
    apply: bool,
    /// Move at most so many points in this run, the oldest first.
    #[arg(long, value_name = "N")]
    most: Option<usize>,
    /// The migrator's key file [default: one in the key folder, made at the first run].
    #[arg(long, value_name = "FILE")]
    migrator: Option<PathBuf>,
    #[command(flatten)]
    key: ReadKeyFrom,
}

pub(crate) async fn run(session: &Session, arguments: &ReencryptArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault reencrypt")?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let mut read = read_key(session, &arguments.key, &opened).await?;
    complete(&mut read, &opened.vault)?;
    refuse_former_key(&read, &opened)?;
    session.world.progress.begin(Phase::Opening);
    let plan = session.showing("reencrypt", reencrypt::plan(&opened.vault, &read)).await?;
    tell_plan(session, &plan);
    if arguments.apply {
        teach(session, &mut opened, &read, &plan).await?;
    }
    if !arguments.apply || plan.is_empty() {
        let line = if plan.is_empty() { "Nothing to do." } else { "Nothing was changed. Do it with --apply" };
        session.output.say(line);
        let exit = if plan.remarks.is_empty() { exit::OK } else { exit::WARNINGS };
        session.output.summary(exit, summary(&plan, &Report::default(), false));
        return Ok(exit);
    }
    let mut scopes = plan.scopes();
    if scopes.is_empty() {
        // Only the trash is owed: any migrator of the vault's does.
        let own: WriterKey = session.key(&opened.keys.writer_key())?;
        scopes.insert(own.scope);
    }
    if arguments.migrator.is_some() && scopes.len() > 1 {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "the points lie in several chunk scopes ({}) and one migrator seals for one; leave --migrator out, and \
                 each gets its own",
                scopes_text(&plan)
            ),
        ));
    }
    let leaning = leaning(session, &opened, &plan);
    drop(opened);
    let mut done = Report::default();
    let mut left = arguments.most.unwrap_or(usize::MAX);
    for scope in scopes {
        let moved = scope_of(session, arguments, &read, scope, left).await?;
        left = left.saturating_sub(moved.moved);
        done.moved += moved.moved;
        done.packs += moved.packs;
        done.body_bytes += moved.body_bytes;
        done.trashed += moved.trashed;
        done.owed.extend(moved.owed);
    }
    Ok(tell_done(session, &plan, &done, &leaning))
}

/// This host leans on what was moved before, here or elsewhere: that needs no migrator.
async fn teach(session: &Session, opened: &mut Assembled, read: &Arc<ReadKey>, plan: &Plan) -> Result<(), Failure> {
    let own: Option<WriterKey> = session.key(&opened.keys.writer_key()).ok();
    let Some(own) = own else { return Ok(()) };
    let told = reencrypt::teach(&opened.vault, read, own.scope, (&mut opened.catalog, plan)).await?;
    if told > 0 {
        session.output.say(format!("{told} new packs of earlier runs are known to this host now."));
    }
    Ok(())
}

/// Writers of other hosts whose points lean on old packs, for people: only this host is
/// told of the new ones.
fn leaning(session: &Session, opened: &Assembled, plan: &Plan) -> Vec<String> {
    let own: Option<WriterKey> = session.key(&opened.keys.writer_key()).ok();
    let others = plan.leaning.iter().filter(|writer| own.as_ref().is_none_or(|own| own.writer != **writer));
    let name = |writer| opened.vault.writer(writer).map_or_else(String::new, |key| format!(" \"{}\"", key.name()));
    others.map(|&writer| format!("{}{}", writer.short(), name(writer))).collect()
}

/// With an older key not all points can be opened, and none of the newest.
fn refuse_former_key(read: &ReadKey, opened: &Assembled) -> Result<(), Failure> {
    if read.root == opened.vault.root {
        return Ok(());
    }
    Err(Failure::new(
        exit::KEY,
        format!(
            "this read key is of a former generation (key check {}); the one in force is {}. Bring the newest read key or \
             cards",
            read.root.check(),
            opened.vault.root.check()
        ),
    ))
}

/// Moves the points of one scope.
async fn scope_of(
    session: &Session,
    arguments: &ReencryptArguments,
    read: &Arc<ReadKey>,
    scope: ScopeId,
    most: usize,
) -> Result<Report, Failure> {
    let (config, name) = session.vault_name()?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let file = arguments
        .migrator
        .clone()
        .unwrap_or_else(|| opened.keys.path().join(format!("migrator-{}.key", scope.short())));
    let migrator = migrator_of(session, &opened, read, scope, &file).await?;
    // Opened again: the migrator is among the writers now.
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let mut plan = reencrypt::plan(&opened.vault, read).await?;
    plan.points.retain(|point| point.scope == scope);
    plan.points.truncate(most);
    let janitor = janitor(session, &opened)?;
    let state = assembly::state_paths(&config, &name);
    let mut catalog = Catalog::open(&state.folder.join(format!("migrator-{}.sqlite", migrator.writer.short())))?;
    let own: Option<WriterKey> = session.key(&opened.keys.writer_key()).ok();
    let leans = own.is_some_and(|own| own.scope == scope);
    let mut mover = Mover {
        vault: &opened.vault,
        read: Arc::clone(read),
        migrator: Arc::new(migrator),
        janitor: &janitor,
        catalog: &mut catalog,
        host: leans.then_some(&mut opened.catalog),
        compression: Compression::default(),
        grace_ms: GRACE_MS_DEFAULT,
    };
    let output = session.output;
    let done = reencrypt::apply(&mut mover, &plan, |step| {
        output.say(format!("{} -> {}   {} left", point_text(step.point), point_text(step.successor), step.left));
        output.event(
            "moved",
            json!({ "point": step.point.to_string(), "successor": step.successor.to_string(), "moved": step.moved,
                    "left": step.left }),
        );
    });
    Ok(session.showing("reencrypt", done).await?)
}

fn tell_plan(session: &Session, plan: &Plan) {
    let output = session.output;
    plan.remarks.iter().for_each(|remark| output.warn(remark));
    output.say(format!(
        "{} points are sealed for an older key, in {} packs ({}); {} have a successor and go to the trash; {} more lie in the \
         trash",
        plan.points.len(),
        plan.packs.len(),
        bytes_text(plan.body_bytes),
        plan.succeeded.len(),
        plan.in_trash
    ));
}

fn tell_done(session: &Session, plan: &Plan, done: &Report, leaning: &[String]) -> u8 {
    let output = session.output;
    let left = plan.points.len().saturating_sub(done.moved);
    let owed: BTreeMap<_, _> = done.owed.iter().collect();
    for (location, why) in &owed {
        output.warn(format!("a record is owed to {location}: {why}. It is healed by: holdfast vault repair --apply"));
    }
    output.say(format!(
        "{} points moved into {} new packs ({}), {left} left; {} originals are in the trash and restorable until they \
         expire",
        done.moved,
        done.packs,
        bytes_text(done.body_bytes),
        done.trashed
    ));
    output.say(
        "The old key opens the old packs until they are gone: after their time in the trash, and once every host has backed \
         up: holdfast vault gc --apply",
    );
    if !leaning.is_empty() {
        output.warn(format!(
            "other hosts do not know the new packs, so that each new point of theirs leans on the old ones and keeps \
             them: writer {}. On each of these hosts that still backs up run, with the read key: holdfast vault reencrypt \
             --apply",
            leaning.join(", writer ")
        ));
    }
    let exit = if owed.is_empty() && plan.remarks.is_empty() { exit::OK } else { exit::WARNINGS };
    let mut fields = summary(plan, done, true);
    fields["leaning"] = json!(leaning);
    output.summary(exit, fields);
    exit
}

fn summary(plan: &Plan, done: &Report, applied: bool) -> serde_json::Value {
    json!({ "points": plan.points.len(), "packs": plan.packs.len(), "body_bytes": plan.body_bytes,
            "succeeded": plan.succeeded.len(), "in_trash": plan.in_trash, "moved": done.moved,
            "new_packs": done.packs, "new_bytes": done.body_bytes, "trashed": done.trashed, "applied": applied })
}
