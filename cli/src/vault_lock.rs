//! `holdfast vault lock extend`: retention locks of everything live, extended before
//! they end. The agent does the same once a day.

use agent_daemon::assembly;
use serde_json::json;
use vault_ops::retain;

use crate::exit::{self, Outcome};
use crate::session::{Session, lease};

pub(crate) async fn extend(session: &Session, apply: bool, most: u64) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = if apply { Some(lease(&assembly::state_paths(&config, &name), "vault lock extend")?) } else { None };
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let output = session.output;
    let wanted = assembly::wanted_locks(&config, &name);
    let plan = retain::plan(&opened.vault, &opened.catalog, &wanted).await?;
    for (location, days) in &plan.locking {
        output.say(format!("{location}: locks for {days} days; everything live keeps at least half of that"));
    }
    if plan.locking.is_empty() {
        output.say("no location locks anything: set `lock` for a bucket with object lock");
    }
    plan.silent.iter().for_each(|(location, why)| output.warn(format!("nothing is planned for {location}: {why}")));
    output.say(format!("{} of {} live objects are to be looked at", plan.tasks.len(), plan.live));
    let silent = if plan.silent.is_empty() { exit::OK } else { exit::WARNINGS };
    if !apply {
        if !plan.tasks.is_empty() {
            output.say("Nothing was changed. Do it with: holdfast vault lock extend --apply");
        }
        output.summary(silent, json!({ "due": plan.tasks.len(), "live": plan.live }));
        return Ok(silent);
    }
    let done = session.showing("lock", retain::apply(&opened.vault, &opened.catalog, &plan, most)).await?;
    done.failed.iter().for_each(|why| output.warn(why));
    output.say(format!(
        "{} objects looked at, {} locks extended, {} left for the next time; {} requests",
        done.looked, done.extended, done.left, done.requests
    ));
    let exit = if done.failed.is_empty() && done.left == 0 { silent } else { exit::WARNINGS };
    output.summary(
        exit,
        json!({ "looked": done.looked, "extended": done.extended, "left": done.left, "requests": done.requests,
                "failed": done.failed.len() }),
    );
    Ok(exit)
}
