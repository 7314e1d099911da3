//! `holdfast vault deliver`: what waits in the spool goes to the locations. Every
//! `vault run` and the agent do the same by themselves.

use agent_daemon::assembly;
use serde_json::json;
use vault_ops::points::point_text;
use vault_ops::spool;

use crate::exit::{self, Outcome};
use crate::output::bytes_text;
use crate::session::{Session, lease};

pub(crate) async fn run(session: &Session) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault deliver")?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let keys = assembly::writer_key(&opened.keys)?;
    let done = spool::deliver(&opened.vault, &keys, &mut opened.catalog).await?;
    let output = session.output;
    for point in &done.delivered {
        output.say(format!("delivered {}", point_text(*point)));
        output.event("delivered", json!({ "point": point.to_string() }));
    }
    for stuck in &done.stuck {
        output.warn(format!("{} stays in the spool: {}", point_text(stuck.point), stuck.why));
        output.event("stuck", json!({ "point": stuck.point.to_string(), "why": stuck.why }));
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
    let left = (done.left, bytes_text(done.left_bytes));
    output.say(match left {
        (0, _) => format!("{} points delivered; nothing waits in the spool", done.delivered.len()),
        (points, bytes) => {
            format!("not durable: {points} points, {bytes}, wait in the spool of this host; delivered by itself")
        }
    });
    let exit = match (done.left, done.debts.is_empty() && done.manifest_owed.is_empty()) {
        (0, true) => exit::OK,
        (0, false) => exit::WARNINGS,
        (_, _) => exit::UNREACHABLE,
    };
    output.summary(
        exit,
        json!({ "delivered": done.delivered.len(), "left": done.left, "left_bytes": done.left_bytes,
                "stuck": done.stuck.len(), "debts": done.debts.len() }),
    );
    Ok(exit)
}
