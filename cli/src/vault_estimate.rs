//! `holdfast vault estimate`, and `vault run --dry-run`: what a run would read and store.

use std::sync::Arc;

use agent_daemon::assembly;
use serde_json::json;
use vault_ops::estimate::estimate;

use crate::exit::{self, Outcome};
use crate::output::bytes_text;
use crate::session::Session;
use crate::vault_run::{RunArguments, choose};

pub(crate) async fn run(session: &Session, arguments: &RunArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let sources = choose(&config, arguments).await?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let keys = session.writer_key(&opened.keys, &opened.vault)?;
    let mut worst = exit::OK;
    for source in sources {
        let label = source.name().to_owned();
        let shown = session.shows(&label);
        let (counted, _) = estimate(&opened.vault, Arc::clone(&keys), &opened.catalog, source).await;
        drop(shown);
        let counted = counted?;
        for gone in &counted.unreadable {
            session.output.warn(format!("{label}: {}: {}", gone.path, gone.why));
            worst = exit::WARNINGS;
        }
        session.output.say(format!(
            "{label}  {} items, {} new or changed, {} unreadable  {}: {} to read, {} of it new, before compression",
            counted.items,
            counted.changed,
            counted.unreadable.len(),
            bytes_text(counted.plain_bytes),
            bytes_text(counted.read_bytes),
            bytes_text(counted.new_bytes)
        ));
        session.output.event(
            "estimate",
            json!({
                "source": label, "items": counted.items, "changed": counted.changed,
                "unreadable": counted.unreadable.len(), "plain_bytes": counted.plain_bytes,
                "read_bytes": counted.read_bytes, "new_bytes": counted.new_bytes,
            }),
        );
    }
    session
        .output
        .say("nothing was stored. To back it up: holdfast vault run, with the same arguments and without --dry-run");
    session.output.summary(worst, json!({}));
    Ok(worst)
}
