//! `holdfast vault pin` and `unpin`: points that no rule lets go.

use agent_daemon::assembly;
use clap::Args;
use serde_json::json;
use vault_ops::pins;
use vault_ops::points::PointName;

use crate::exit::{self, Outcome};
use crate::janitor::{janitor, tell_point};
use crate::session::{Session, lease};

/// `holdfast vault pin ..` and `unpin ..`
#[derive(Args, Debug)]
pub(crate) struct PinArguments {
    /// Points, by the ids that `snapshots` prints; or latest, or latest~N.
    #[arg(required = true, value_name = "POINT")]
    points: Vec<String>,
}

pub(crate) async fn run(session: &Session, arguments: &PinArguments, pin: bool) -> Outcome {
    let names = arguments.points.iter().map(|point| PointName::parse(point)).collect::<Result<Vec<_>, _>>()?;
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), if pin { "vault pin" } else { "vault unpin" })?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let janitor = janitor(session, &opened)?;
    let (vault, catalog, output) = (&opened.vault, &opened.catalog, session.output);
    let report = if pin {
        pins::pin(vault, catalog, &janitor, &names).await?
    } else {
        pins::unpin(vault, catalog, &janitor, &names).await?
    };
    report.remarks.iter().for_each(|remark| output.warn(remark));
    let done = if pin { "pinned" } else { "unpinned" };
    for mut line in report.changed.iter().cloned() {
        line.pinned = pin;
        tell_point(session, done, &line, json!({ "changed": true }));
    }
    for line in &report.already {
        tell_point(session, done, line, json!({ "changed": false }));
    }
    if !report.already.is_empty() {
        output.say(format!("{} of them were {done} before", report.already.len()));
    }
    if !pin && !report.changed.is_empty() {
        output.say("The rules decide on them again: holdfast vault forget --plan");
    }
    let owed = report.written.as_ref().map_or(0, |written| written.owed.len());
    let exit = if owed == 0 { exit::OK } else { exit::WARNINGS };
    output.summary(exit, json!({ "changed": report.changed.len(), "already": report.already.len(), "owed": owed }));
    Ok(exit)
}
