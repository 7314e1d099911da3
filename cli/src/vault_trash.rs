//! `holdfast vault trash`: what was forgotten, until it expires.

use agent_daemon::assembly;
use clap::Subcommand;
use serde_json::json;
use vault_ops::points::{PointName, point_text};
use vault_ops::trash;

use crate::exit::{self, Outcome};
use crate::janitor::{is_confirmed, janitor, tell_point};
use crate::output::time_text;
use crate::session::{Session, lease};

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

pub(crate) async fn run(session: &Session, command: &TrashCommand) -> Outcome {
    let (config, name) = session.vault_name()?;
    if let TrashCommand::Purge { confirm, .. } = command {
        is_confirmed(&name, Some(confirm))?;
    }
    let _lease = lease(&assembly::state_paths(&config, &name), "vault trash")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let janitor = janitor(session, &opened)?;
    let (vault, catalog, output) = (&opened.vault, &opened.catalog, session.output);
    match command {
        TrashCommand::List => {
            let lines = trash::list(vault, catalog, &janitor).await?;
            for found in &lines {
                let state = match (found.gone, found.purged) {
                    (1.., _) => "gone",
                    (0, true) => "purged",
                    (0, false) => "trash",
                };
                tell_point(
                    session,
                    state,
                    &found.line,
                    json!({ "expires_ms": found.expires_ms, "purged": found.purged, "packs_gone": found.gone }),
                );
                match (state, found.line.pinned) {
                    (_, true) => output.say("         as long as it is pinned"),
                    ("trash", false) => output.say(format!("         until {}", time_text(found.expires_ms))),
                    (_, false) => {}
                }
            }
            output.say(format!("{} points in the trash", lines.len()));
            output.summary(exit::OK, json!({ "points": lines.len() }));
        }
        TrashCommand::Restore { point } => {
            let back = trash::restore(vault, catalog, &janitor, &PointName::parse(point)?).await?;
            output.say(format!("{} is back", point_text(back.line.point)));
            output.summary(exit::OK, json!({ "point": back.line.point.to_string() }));
        }
        TrashCommand::Purge { point, .. } => {
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
