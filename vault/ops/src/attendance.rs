//! Locations that are there sometimes: a disk in a drawer, a host that is visited.
//!
//! What always holds: such a location may be away until its due time, counted from
//! when it last answered, and that alone is no alarm; what is owed to it is owed, and
//! nothing counts as standing there that it never showed.

use std::collections::BTreeMap;

use vault_format::LocationId;
use vault_format::layout::Attachment;

use crate::catalog::Catalog;
use crate::error::{OpsError, Result};
use crate::vault::Vault;

/// How long one may stay away if nobody says otherwise: 30 days.
pub const DUE_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// A location that is away and may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Its name.
    pub name: String,
    /// When it last answered; when the layout was made, if it never did.
    pub seen_ms: i64,
    /// From then on it is missed.
    pub until_ms: i64,
}

/// Locations that are away and may be.
pub fn resting(vault: &Vault, catalog: &Catalog) -> Result<BTreeMap<LocationId, Resting>> {
    let now_ms = vault.world.now_ms();
    let mut resting = BTreeMap::new();
    for gone in &vault.absent {
        let Some(spot) = gone.spot else { continue };
        let placed = vault.layout.locations.iter().find(|placed| placed.location == spot.location);
        if placed.is_none_or(|placed| placed.attached == Attachment::Always) {
            continue;
        }
        // A clock that was set back makes nothing rest for longer.
        let seen_ms = catalog.last_attended(spot.location)?.unwrap_or(vault.layout.created_ms).min(now_ms);
        let until_ms = seen_ms + vault.due_ms.get(&spot.location).copied().unwrap_or(DUE_MS);
        if now_ms < until_ms {
            resting.insert(spot.location, Resting { name: gone.name.clone(), seen_ms, until_ms });
        }
    }
    Ok(resting)
}

/// An error if no location answers at all: what stands there cannot be told then, and
/// nothing must look as if nothing stood there.
pub async fn require_any(vault: &Vault) -> Result<()> {
    if !vault.locations.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = vault.absent.iter().map(|gone| format!("{}: {}", gone.name, gone.why)).collect();
    let waits = match &vault.spool {
        Some(spool) => spool.contents().await?.manifests.len(),
        None => 0,
    };
    let waits = match waits {
        0 => String::new(),
        points => format!(
            " {points} points wait in the spool of this host, not durable; they are delivered by themselves, or with: \
             holdfast vault deliver"
        ),
    };
    Err(OpsError::Unreachable {
        what: format!(
            "no location answers ({}), so what stands there cannot be told. Nothing is known to be lost: bring back a \
             location and run the same command again.{waits}",
            reasons.join("; ")
        ),
    })
}

/// Remembers who answers.
pub(crate) fn attend(vault: &Vault, catalog: &Catalog) -> Result<()> {
    let now_ms = vault.world.now_ms();
    let here = vault.locations.iter().filter(|location| !location.blank);
    here.into_iter().try_for_each(|location| catalog.attended(location.id, now_ms))
}
