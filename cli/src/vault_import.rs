//! `holdfast vault import-orphans`: shards and records found anywhere are brought
//! home. Prints a plan and acts only with `--apply`.

use agent_daemon::assembly::{self, Assembled};
use config::Config;
use serde_json::json;
use vault_ops::import::{self, ImportPlan};
use vault_ops::points::point_text;
use vault_ops::reissue;

use crate::arguments::{Reach, ReadKeyFrom};
use crate::exit::{self, Failure, Outcome};
use crate::given::{open_folders, unlistable};
use crate::session::{Session, complete, lease, read_key};

pub(crate) async fn run(session: &Session, from: &[String], reach: &Reach, apply: bool, key: &ReadKeyFrom) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault import-orphans")?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let folders = open_folders(from, reach).await?;
    let keys = match read_key(session, key, &opened).await {
        Ok(mut keys) => {
            complete(&mut keys, &opened.vault)?;
            Some(keys)
        }
        Err(failure) if key.read_key.is_some() || !key.cards.is_empty() => return Err(failure),
        Err(_) => None,
    };
    let plan = session.showing("import", import::plan(&opened.vault, keys.as_deref(), &folders)).await?;
    tell(session, &plan, keys.is_some());
    let unseen = unlistable(from);
    for path in &unseen {
        session.output.warn(format!("not looked at, its name cannot be listed; give it another: {}", path.display()));
    }
    if !apply {
        session.output.say("Nothing was changed. Do it with --apply");
        session.output.summary(exit::OK, summary(&plan));
        return Ok(exit::OK);
    }
    let done = session.showing("import", import::apply(&opened.vault, &mut opened.catalog, &plan)).await?;
    done.failed.iter().for_each(|why| session.output.warn(why));
    let vouched = vouch(session, &config, &name, opened, &plan).await?;
    let output = session.output;
    output.say(format!("{} shards, {} records, {} points imported", done.shards, done.records, done.points));
    let clean = done.failed.is_empty() && plan.quarantined.is_empty() && plan.left.is_empty() && unseen.is_empty();
    let clean = clean && vouched.clean;
    let exit = if clean { exit::OK } else { exit::WARNINGS };
    let mut line = summary(&plan);
    line["shards"] = json!(done.shards);
    line["records"] = json!(done.records);
    line["points"] = json!(done.points);
    line["vouched"] = json!(vouched.points);
    line["failed"] = json!(done.failed.len());
    output.summary(exit, line);
    Ok(exit)
}

/// How vouching for points without a manifest went.
struct Vouched {
    points: usize,
    clean: bool,
}

/// Points without a manifest get one from this host's writer.
async fn vouch(
    session: &Session,
    config: &Config,
    name: &str,
    before: Assembled,
    plan: &ImportPlan,
) -> Result<Vouched, Failure> {
    let output = session.output;
    let waiting = plan.unvouched().count();
    if waiting == 0 {
        return Ok(Vouched { points: 0, clean: true });
    }
    let folder = before.keys.clone();
    drop(before);
    if !folder.writer_key().exists() {
        output.warn(format!(
            "{waiting} points have no manifest, and this host has no writer key to make one: only the local catalog knows \
             them, and garbage collection on another host may take their packs. Import on a host that backs up"
        ));
        return Ok(Vouched { points: 0, clean: false });
    }
    // Opened again: certificates that came home count now.
    let mut opened = assembly::open_vault(config, name, session.world.clone()).await?;
    let keys = session.writer_key(&folder, &opened.vault)?;
    let done = reissue::run(&opened.vault, &keys, &mut opened.catalog, plan).await?;
    for point in &done.points {
        output.say(format!(
            "point {} of {}: vouched for by manifest {}.{} of this host",
            point_text(point.part.point),
            point.part.source,
            point.epoch,
            point.sequence
        ));
    }
    for (name, why) in &done.owed {
        output.warn(format!("a manifest is owed to {name}: {why}. It is healed by: holdfast vault repair --apply"));
    }
    Ok(Vouched { points: done.points.len(), clean: done.owed.is_empty() })
}

pub(crate) fn tell(session: &Session, plan: &ImportPlan, with_key: bool) {
    let (output, account) = (session.output, &plan.account);
    output.say(format!(
        "{} objects looked at: {} shards, {} records, {} copies of those, {} of other vaults, {} quarantined, {} \
         markers, {} not ours",
        account.looked_at,
        account.shards,
        account.records,
        account.duplicates,
        account.other_vaults,
        account.quarantined,
        account.markers,
        account.foreign
    ));
    for pack in &plan.packs {
        output.say(format!(
            "pack {}: {} shards here, {} at home, {} needed: {}",
            pack.pack.short(),
            pack.found,
            pack.at_home,
            pack.need,
            if pack.is_enough() { "enough" } else { "TOO FEW" }
        ));
        output.event(
            "pack",
            json!({ "pack": pack.pack.to_string(), "writer": pack.writer.to_string(), "found": pack.found,
                    "at_home": pack.at_home, "total": pack.total, "needed": pack.need, "enough": pack.is_enough() }),
        );
    }
    for point in &plan.points {
        let record = &point.bare.found.record;
        let short: Vec<String> = point.short.iter().map(vault_format::PackId::short).collect();
        let state = match (short.is_empty(), point.has_manifest) {
            (false, _) => format!("  INCOMPLETE: too few shards of {}", short.join(", ")),
            (true, false) => "  (chain not verified)".to_owned(),
            (true, true) => String::new(),
        };
        output.say(format!("point {} of {}{state}", point_text(point.id()), record.source));
        output.event(
            "orphan_point",
            json!({ "point": point.id().to_string(), "source": record.source, "has_manifest": point.has_manifest,
                    "short": point.short.iter().map(ToString::to_string).collect::<Vec<_>>() }),
        );
    }
    if !with_key {
        output.warn(
            "without the read key points cannot be found in packs; shards and manifests are imported all the same",
        );
    }
    for (vault, objects) in &plan.other_vaults {
        output.warn(format!("{objects} objects belong to another vault ({}); they are left alone", vault.short()));
    }
    for bad in &plan.quarantined {
        output.warn(format!("quarantined, left where it is: {}/{}: {}", bad.folder, bad.name, bad.why));
        output.event("quarantined", json!({ "folder": bad.folder, "name": bad.name, "why": bad.why }));
    }
    plan.left.iter().for_each(|what| output.warn(format!("left where it is: {what}")));
    output.say(format!("{} shards and {} records to bring home", plan.shards(), plan.records()));
}

pub(crate) fn summary(plan: &ImportPlan) -> serde_json::Value {
    let account = &plan.account;
    json!({
        "packs": plan.packs.len(), "points_found": plan.points.len(), "quarantined": account.quarantined,
        "looked_at": account.looked_at, "shards_found": account.shards, "records_found": account.records,
        "duplicates": account.duplicates, "other_vaults": account.other_vaults, "markers": account.markers,
        "foreign": account.foreign,
    })
}
