//! `holdfast vault repair | import-orphans`: commands that bring shards back.
//! Both print a plan and act only with `--apply`.

use agent_daemon::assembly;
use serde_json::json;
use vault_ops::points::point_text;
use vault_ops::{import, repair};

use crate::arguments::ReadKeyFrom;
use crate::exit::{self, Outcome};
use crate::given::open_folders;
use crate::session::{Session, lease, read_key};

pub(crate) async fn repair(session: &Session, apply: bool) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = if apply { Some(lease(&assembly::state_paths(&config, &name), "vault repair")?) } else { None };
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let vault = &opened.vault;
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
    if !apply {
        if !plan.is_empty() {
            output.say("Nothing was changed. Do it with: holdfast vault repair --apply");
        }
        let exit = match (plan.is_empty(), plan.silent.is_empty()) {
            (false, _) => exit::DAMAGE,
            (true, false) => exit::WARNINGS,
            (true, true) => exit::OK,
        };
        output.summary(exit, json!({ "planned_shards": plan.shards.len(), "planned_records": plan.records.len() }));
        return Ok(exit);
    }
    let done = repair::apply(vault, &opened.catalog, &plan).await?;
    done.failed.iter().chain(&done.lost).for_each(|why| output.warn(why));
    output.say(format!("{} shards written and read back, {} records copied", done.shards.len(), done.records));
    let exit = match (done.lost.is_empty(), done.failed.is_empty() && plan.silent.is_empty()) {
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

pub(crate) async fn import_orphans(session: &Session, from: &[String], apply: bool, key: &ReadKeyFrom) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault import-orphans")?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let folders = open_folders(from).await?;
    let keys = match read_key(key, Some(&opened.keys)) {
        Ok(keys) => Some(keys),
        Err(failure) if key.read_key.is_some() || !key.cards.is_empty() => return Err(failure),
        Err(_) => None,
    };
    let output = session.output;
    let plan = import::plan(&opened.vault, keys.as_deref(), &folders).await?;
    output.say(format!("{} files looked at, {} not ours", plan.foreign.1, plan.foreign.0));
    for pack in &plan.packs {
        let verdict = if pack.found.max(pack.at_home) >= pack.need { "enough" } else { "TOO FEW" };
        output.say(format!(
            "pack {}: {} shards here, {} at home, {} needed: {verdict}",
            pack.pack.short(),
            pack.found,
            pack.at_home,
            pack.need
        ));
    }
    for (point, in_manifest) in &plan.points {
        let record = &point.found.record;
        output.say(format!(
            "point {} of {}{}",
            point_text(vault_ops::backup::point_id(point.found.hash)),
            record.source,
            if *in_manifest { "" } else { "  (chain not verified)" }
        ));
    }
    if keys.is_none() {
        output.warn(
            "without the read key points cannot be found in packs; shards and manifests are imported all the same",
        );
    }
    for (vault, packs) in &plan.other_vaults {
        output.warn(format!("{packs} packs belong to another vault ({}); they are left alone", vault.short()));
    }
    for bad in &plan.quarantined {
        output.warn(format!("quarantined, left where it is: {}/{}: {}", bad.folder, bad.name, bad.why));
    }
    output.say(format!("{} shards and {} records to bring home", plan.shards(), plan.records()));
    if !apply {
        output.say("Nothing was changed. Do it with --apply");
        output.summary(
            exit::OK,
            json!({ "packs": plan.packs.len(), "points": plan.points.len(), "quarantined": plan.quarantined.len() }),
        );
        return Ok(exit::OK);
    }
    let done = import::apply(&opened.vault, &mut opened.catalog, &plan).await?;
    done.failed.iter().for_each(|why| output.warn(why));
    output.say(format!("{} shards, {} records, {} points imported", done.shards, done.records, done.points));
    let exit = if done.failed.is_empty() && plan.quarantined.is_empty() { exit::OK } else { exit::WARNINGS };
    output.summary(
        exit,
        json!({ "shards": done.shards, "records": done.records, "points": done.points, "failed": done.failed.len() }),
    );
    Ok(exit)
}
