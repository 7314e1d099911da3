//! `holdfast vault deliver`: what waits in the spool goes to the locations. Every
//! `vault run` and the agent do the same by themselves. What cannot be delivered is moved
//! out of the way when a person says so.

use agent_daemon::assembly::{self, Assembled};
use keys::files::WriterKey;
use serde_json::json;
use vault_ops::points::point_text;
use vault_ops::spool::{self, Delivery};

use crate::exit::{self, Failure, Outcome};
use crate::output::bytes_text;
use crate::session::{Session, lease};

pub(crate) async fn run(session: &Session, set_aside: bool, apply: bool) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault deliver")?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let keys = session.writer_key(&opened.keys, &opened.vault)?;
    let mut done = session.showing("deliver", spool::deliver(&opened.vault, &keys, &mut opened.catalog)).await?;
    tell(session, &done);
    let mut moved = 0;
    if set_aside {
        moved = aside(session, &mut opened, &keys, &done, apply).await?;
        done.left -= moved.min(done.left);
    }
    let output = session.output;
    output.say(match done.left {
        0 => format!("{} points delivered; nothing waits in the spool", done.delivered.len()),
        points => format!(
            "not durable: {points} points, {}, wait in the spool of this host; delivered by itself",
            bytes_text(done.left_bytes)
        ),
    });
    let exit = match (done.left, done.debts.is_empty() && done.manifest_owed.is_empty() && moved == 0) {
        (0, true) => exit::OK,
        (0, false) => exit::WARNINGS,
        (_, _) => exit::UNREACHABLE,
    };
    output.summary(
        exit,
        json!({ "delivered": done.delivered.len(), "left": done.left, "left_bytes": done.left_bytes,
                "stuck": done.stuck.len(), "set_aside": moved, "debts": done.debts.len() }),
    );
    Ok(exit)
}

fn tell(session: &Session, done: &Delivery) {
    let output = session.output;
    for point in &done.delivered {
        output.say(format!("delivered {}", point_text(*point)));
        output.event("delivered", json!({ "point": point.to_string() }));
    }
    for stuck in &done.stuck {
        output.warn(format!("{} stays in the spool: {}", stuck.name(), stuck.why));
        let point = stuck.point.map(|point| point.to_string());
        output.event("stuck", json!({ "point": point, "manifests": stuck.manifests, "why": stuck.why }));
    }
    for (name, why) in &done.manifest_owed {
        output.warn(format!("the manifest is owed to {name}: {why}"));
    }
    if !done.debts.is_empty() {
        let owed = done.debts.len();
        output.warn(format!(
            "{owed} shards are not at home: they are healed by the next run, or: holdfast vault repair --apply"
        ));
    }
    done.why.iter().for_each(|why| output.warn(why));
}

/// Says what of the stuck would be moved, and moves it if told to. Returns how many
/// manifests went.
async fn aside(
    session: &Session,
    opened: &mut Assembled,
    keys: &WriterKey,
    done: &Delivery,
    apply: bool,
) -> Result<usize, Failure> {
    let output = session.output;
    if done.stuck.is_empty() {
        let why = if done.why.is_some() { ": nothing could be tried, so nothing is known to be stuck" } else { "" };
        output.say(format!("nothing to set aside{why}"));
        return Ok(0);
    }
    let plan = spool::plan_aside(&opened.vault, keys, &done.stuck).await?;
    let (from, to) = (opened.state.spool(), opened.state.spool().join(spool::ASIDE));
    for name in &plan.objects {
        output.say(format!("  {} -> {}", from.join(name).display(), to.join(name).display()));
        output.event("set_aside", json!({ "name": name, "to": to.join(name).display().to_string(), "applied": apply }));
    }
    let what =
        format!("{} objects, shards of {} packs, {}", plan.objects.len(), plan.packs.len(), bytes_text(plan.bytes));
    if !apply {
        output.say(format!("{what}. Nothing was changed. Move them with: holdfast vault deliver --set-aside --apply"));
        return Ok(0);
    }
    spool::set_aside(&opened.vault, &mut opened.catalog, &plan).await?;
    output.warn(format!(
        "moved to {0}: {what}. These points were never durable and nobody delivers them any more. Back up their sources \
         again; what their own shards hold can be restored with: holdfast vault restore --from {0}",
        to.display()
    ));
    Ok(plan.stuck.iter().map(|stuck| stuck.manifests.len()).sum())
}
