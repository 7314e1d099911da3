//! Heartbeats: a writer that has nothing new says so, so that its silence means
//! something, and names the packs that wait for a manifest.
//!
//! What always holds: a heartbeat holds the next place in the chain like any
//! manifest; none is signed while a point waits in the spool, so that a writer never
//! has two manifests that are not committed. A point that cannot be delivered waits for
//! a person, not for this: it is signed again if it ever goes.

use std::time::Duration;

use keys::files::WriterKey;

use crate::backup::{check_domains, check_keys};
use crate::catalog::Catalog;
use crate::commit;
use crate::condemned;
use crate::error::Result;
use crate::heads::Position;
use crate::rebuild;
use crate::spool;
use crate::vault::Vault;

/// A writer that wrote nothing for so long sends one.
pub const IDLE: Duration = Duration::from_mins(15);

/// What became of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// A manifest younger than the idle time stands.
    NotDue,
    /// Points wait in the spool; they are the sign of life once they are delivered.
    Waits,
    /// It stands on its quorum.
    Sent {
        /// Its place.
        position: Position,
        /// Locations without it, and why.
        owed: Vec<(String, String)>,
    },
}

/// Whether a heartbeat is due: needs no location.
pub fn is_due(catalog: &Catalog, now_ms: i64, idle: Duration) -> Result<bool> {
    let idle_ms = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
    let last = commit::last_published(catalog)?;
    // A clock that was set back makes it due.
    Ok(last.is_none_or(|last| now_ms < last || now_ms - last >= idle_ms))
}

/// Sends a heartbeat if one is due. Whoever calls it holds the writer's lease.
pub async fn beat(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog, idle: Duration) -> Result<Beat> {
    if !is_due(catalog, vault.world.now_ms(), idle)? {
        return Ok(Beat::NotDue);
    }
    check_keys(vault, keys)?;
    check_domains(vault)?;
    if spool::is_awaited(vault, keys, catalog).await? {
        return Ok(Beat::Waits);
    }
    let placed = condemned::next_place(vault, keys, catalog).await?;
    let body = commit::heartbeat(vault, catalog, &placed.marks, &placed.next, placed.seen_epoch())?;
    let signed = commit::sign(vault, keys, &body)?;
    let owed = commit::publish_manifest(vault, catalog, &signed).await?;
    rebuild::remember_head(catalog, signed.position(), signed.hash)?;
    Ok(Beat::Sent { position: signed.position(), owed })
}
