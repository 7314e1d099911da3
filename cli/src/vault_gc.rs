//! `holdfast vault gc`: frees what nothing needs any more. Prints a plan and acts
//! only when told to.

use agent_daemon::assembly::{self, Assembled};
use clap::Args;
use serde_json::json;
use vault_ops::gc::{self, GcOptions, GcPlan};
use vault_ops::janitor::Janitor;

use crate::exit::{self, Failure, Outcome};
use crate::janitor::{is_confirmed, janitor};
use crate::output::bytes_text;
use crate::session::{Session, lease};

/// `holdfast vault gc ..`
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
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
    /// Also condemn what only points of revoked keys need. Look at them first: it is not kept for them any more.
    #[arg(long)]
    revoked: bool,
    /// The vault's name, where more than half of the vault would go.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

pub(crate) async fn run(session: &Session, arguments: &GcArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let confirmed = is_confirmed(&name, arguments.confirm.as_ref())?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault gc")?;
    let opened = assembly::open_vault_as_admin(&config, &name, session.world.clone()).await?;
    let janitor = janitor(session, &opened)?;
    let options =
        GcOptions { orphans: arguments.orphans, revoked: arguments.revoked, confirmed, ..GcOptions::default() };
    if !arguments.apply {
        let plan = session.showing("gc", gc::plan(&opened.vault, &opened.catalog, &janitor, &options)).await?;
        return Ok(tell_plan(session, &opened, &plan));
    }
    apply(session, &opened, &janitor, &options).await
}

fn tell_plan(session: &Session, opened: &Assembled, plan: &GcPlan) -> u8 {
    let output = session.output;
    plan.stops.iter().for_each(|why| output.warn(why));
    let condemn = plan.condemn.len() + plan.again.len();
    output.say(format!(
        "{condemn} packs ({}) to condemn, {} to sweep, {} referenced again, {} manifests to remove",
        bytes_text(plan.condemn_bytes),
        plan.sweep.len(),
        plan.revive.len(),
        plan.manifests.len()
    ));
    if !plan.leftovers.is_empty() {
        output.say(format!("{} packs already swept still have shards somewhere: to delete", plan.leftovers.len()));
    }
    plan.fence.iter().for_each(|head| {
        output.say(format!(
            "writer {} to be fenced at {}.{}: it was silent for long, and something waits for it",
            head.writer.short(),
            head.position.0,
            head.position.1
        ));
    });
    plan.waiting.iter().for_each(|(why, packs)| output.say(format!("{packs} packs wait: {why}")));
    if plan.condemn_bytes * 2 > plan.total_bytes {
        output.warn(format!("that is more than half of the vault: it will take --confirm {}", opened.name));
    }
    output.say("Nothing was changed. Do it with: holdfast vault gc --apply");
    let exit = if plan.stops.is_empty() { exit::OK } else { exit::WARNINGS };
    output.summary(
        exit,
        json!({ "condemn": condemn, "condemn_bytes": plan.condemn_bytes, "total_bytes": plan.total_bytes,
                "sweep": plan.sweep.len(), "revive": plan.revive.len(), "manifests": plan.manifests.len(),
                "leftovers": plan.leftovers.len(), "fence": plan.fence.len(), "waiting": plan.waiting,
                "stops": plan.stops }),
    );
    exit
}

/// Does what is due and says it.
pub(crate) async fn apply(
    session: &Session,
    opened: &Assembled,
    janitor: &Janitor,
    options: &GcOptions,
) -> Result<u8, Failure> {
    let output = session.output;
    let done = session.showing("gc", gc::apply(&opened.vault, &opened.catalog, janitor, options)).await?;
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
    output.summary(
        exit,
        json!({ "condemned": done.condemned, "swept": done.swept, "revived": done.revived,
                "manifests": done.manifests, "fenced": done.fenced, "deleted": done.deleted,
                "deleted_bytes": done.deleted_bytes, "waiting": done.waiting, "failed": done.failed }),
    );
    Ok(exit)
}
