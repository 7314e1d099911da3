//! `holdfast vault repair`: prints a plan and acts only with `--apply`.

use agent_daemon::assembly;
use serde_json::json;
use vault_ops::{attendance, repair};

use crate::exit::{self, Outcome};
use crate::session::{Session, lease};

pub(crate) async fn repair(session: &Session, apply: bool) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = if apply { Some(lease(&assembly::state_paths(&config, &name), "vault repair")?) } else { None };
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let vault = &opened.vault;
    attendance::require_any(vault).await?;
    let output = session.output;
    let plan = repair::plan(vault, &opened.catalog).await?;
    for task in &plan.shards {
        let why = match &task.cause {
            repair::Cause::Missing => "missing".to_owned(),
            repair::Cause::Wrong(why) => format!("wrong: {why}"),
        };
        output.say(format!(
            "shard {} of pack {} at {}: {why}",
            task.index,
            task.pack.short(),
            vault.location_name(task.location)
        ));
    }
    output.say(format!("{} shards to write, {} records to copy", plan.shards.len(), plan.records.len()));
    plan.silent.iter().for_each(|(name, why)| output.warn(format!("nothing is planned for {name}: {why}")));
    plan.seconds.iter().for_each(|(name, what)| output.warn(format!("{name}: {what}")));
    let all_told = plan.silent.is_empty() && plan.seconds.is_empty();
    if !apply {
        if !plan.is_empty() {
            output.say("Nothing was changed. Do it with: holdfast vault repair --apply");
        }
        let exit = match (plan.is_empty(), all_told) {
            (false, _) => exit::DAMAGE,
            (true, false) => exit::WARNINGS,
            (true, true) => exit::OK,
        };
        output.summary(exit, json!({ "planned_shards": plan.shards.len(), "planned_records": plan.records.len() }));
        return Ok(exit);
    }
    let shown = session.shows("repair");
    let done = repair::apply(vault, &opened.catalog, &plan).await;
    drop(shown);
    let done = done?;
    done.failed.iter().chain(&done.lost).for_each(|why| output.warn(why));
    output.say(format!("{} shards written and read back, {} records copied", done.shards.len(), done.records));
    let exit = match (done.lost.is_empty(), done.failed.is_empty() && all_told) {
        (false, _) => exit::LOST,
        (true, false) => exit::WARNINGS,
        (true, true) => exit::OK,
    };
    output.summary(
        exit,
        json!({ "shards": done.shards.len(), "records": done.records, "failed": done.failed.len(), "lost": done.lost.len() }),
    );
    Ok(exit)
}
