//! The chore that brings what waits in the spool to the locations, and sends the
//! heartbeat of a writer that has nothing new.
//!
//! What always holds: with nothing to do it asks no location; locations that do not
//! answer are no failure of the chore, it comes again.

use std::time::Duration;

use config::Config;
use keys::files::WriterKey;
use vault_ops::catalog::Catalog;
use vault_ops::heartbeat;
use vault_ops::points::point_text;
use vault_ops::vault::Vault;
use vault_ops::world::World;
use vault_ops::{OpsError, Result, spool, status};

use crate::Tended;
use crate::assembly;
use crate::upkeep::spool_gauges;

/// How often it looks whether there is anything to do: at local files only.
pub(crate) const EVERY: Duration = Duration::from_mins(1);

/// Delivers, then beats.
pub(crate) async fn deliver(config: &Config, name: &str, world: &World) -> Result<Tended> {
    let folder = assembly::key_folder(config, name)?;
    if !folder.writer_key().exists() {
        return Ok(Tended::default());
    }
    let mut catalog = assembly::open_catalog(&assembly::state_paths(config, name))?;
    let spool = assembly::open_spool(config, name).await?;
    let due = heartbeat::is_due(&catalog, world.now_ms(), heartbeat::IDLE)?;
    let mut tended = Tended::default();
    if due || !spool.contents().await?.is_empty() {
        let opened = assembly::open_vault(config, name, world.clone()).await?;
        let keys = assembly::writer_key_of(config, name, &opened.vault).await?;
        catalog = opened.catalog;
        tended = deliver_to(&opened.vault, &keys, &mut catalog).await?;
    }
    let line = status::spool_line(&spool, &catalog).await?;
    Ok(Tended { spool: Some(spool_gauges(line.as_ref(), world.now_ms())), ..tended })
}

async fn deliver_to(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog) -> Result<Tended> {
    let done = spool::deliver(vault, keys, catalog).await?;
    let mut said = Vec::new();
    if !done.delivered.is_empty() {
        let points: Vec<String> = done.delivered.iter().map(|point| point_text(*point)).collect();
        said.push(format!("delivered {} from the spool", points.join(", ")));
    }
    // It sends none itself while a point waits that may still go.
    let beat = heartbeat::beat(vault, keys, catalog, heartbeat::IDLE).await;
    match beat {
        Err(error) if !matches!(error, OpsError::Unreachable { .. } | OpsError::Backend(_)) => return Err(error),
        // Who does not answer now is asked again in a minute.
        Ok(_) | Err(_) => {}
    }
    Ok(Tended { line: said.join("; "), mend: !done.debts.is_empty(), ..Tended::default() })
}
