//! The locations of a configuration as a layout describes them.
//!
//! What always holds: stores that may delete are opened here for the commands that
//! remove what is surplus, and by nothing the agent runs.

use std::sync::Arc;

use config::{Attached, Config, Scheme};
use vault_format::layout::Attachment;
use vault_ops::rebalance::Admin;
use vault_ops::relayout::Place;
use vault_ops::vault::Vault;

/// All locations of a vault in the configuration.
pub fn of(config: &Config, vault: &str) -> Vec<Place> {
    let names = config.vaults.get(vault).map(|vault| vault.locations.clone()).unwrap_or_default();
    let described = names.iter().filter_map(|name| {
        let location = config.locations.get(name)?;
        Some(Place {
            name: name.as_str().to_owned(),
            domain: location.domain.clone(),
            url: location.url.to_string(),
            endpoint: location.endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
            region: location.region.clone().unwrap_or_default(),
            attached: match location.attached {
                Attached::Always => Attachment::Always,
                Attached::Sometimes => Attachment::Sometimes,
            },
        })
    });
    described.collect()
}

/// Stores that may delete. A folder needs no more rights than the user has who runs
/// the command; a bucket needs credentials of its own for it.
#[allow(clippy::unused_async, reason = "credentials of buckets are opened here")]
pub async fn admin(config: &Config, vault: &str, opened: &Vault) -> Admin {
    let mut admin = Admin::new();
    for location in &opened.locations {
        let Some(known) = config.locations.get(location.name.as_str()) else { continue };
        let of_vault = config
            .vaults
            .get(vault)
            .is_some_and(|vault| vault.locations.iter().any(|name| name.as_str() == location.name));
        if of_vault && matches!(known.scheme, Scheme::File(_)) {
            admin.insert(location.id, Arc::clone(&location.store));
        }
    }
    admin
}
