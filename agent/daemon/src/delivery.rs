//! The chore that brings what waits in the spool to the locations, and sends the
//! heartbeat of a writer that has nothing new.
//!
//! What always holds: with nothing to do it asks no location; locations that do not
//! answer are no failure of the chore, it comes again.

use std::time::Duration;

use config::Config;
use vault_ops::heartbeat;
use vault_ops::points::point_text;
use vault_ops::world::World;
use vault_ops::{OpsError, Result, spool};

use crate::Tended;
use crate::assembly;

/// How often it looks whether there is anything to do: at local files only.
pub(crate) const EVERY: Duration = Duration::from_mins(1);

/// Delivers, then beats.
pub(crate) async fn deliver(config: &Config, name: &str, world: &World) -> Result<Tended> {
    let folder = assembly::key_folder(config, name)?;
    if !folder.writer_key().exists() || !has_work(config, name, world).await? {
        return Ok(Tended::default());
    }
    let keys = assembly::writer_key(&folder)?;
    let mut opened = assembly::open_vault(config, name, world.clone()).await?;
    let done = spool::deliver(&opened.vault, &keys, &mut opened.catalog).await?;
    let mut said = Vec::new();
    if !done.delivered.is_empty() {
        let points: Vec<String> = done.delivered.iter().map(|point| point_text(*point)).collect();
        said.push(format!("delivered {} from the spool", points.join(", ")));
    }
    if done.left == 0 {
        let beat = heartbeat::beat(&opened.vault, &keys, &mut opened.catalog, heartbeat::IDLE).await;
        match beat {
            Err(error) if !matches!(error, OpsError::Unreachable { .. } | OpsError::Backend(_)) => return Err(error),
            // Who does not answer now is asked again in a minute.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Tended { line: said.join("; "), mend: !done.debts.is_empty(), ..Tended::default() })
}

async fn has_work(config: &Config, name: &str, world: &World) -> Result<bool> {
    let catalog = assembly::open_catalog(&assembly::state_paths(config, name))?;
    let waiting = assembly::open_spool(config, name).await?.contents().await?;
    Ok(!waiting.is_empty() || heartbeat::is_due(&catalog, world.now_ms(), heartbeat::IDLE)?)
}
