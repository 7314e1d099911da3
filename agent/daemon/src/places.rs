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

use crate::assembly;

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
/// the command; a bucket is opened anew with its `admin_credentials`, if it has some.
pub async fn admin(config: &Config, vault: &str, opened: &Vault) -> Admin {
    let mut admin = Admin::new();
    for location in &opened.locations {
        let Some(known) = config.locations.get(location.name.as_str()) else { continue };
        let of_vault = config
            .vaults
            .get(vault)
            .is_some_and(|vault| vault.locations.iter().any(|name| name.as_str() == location.name));
        if !of_vault {
            continue;
        }
        if matches!(known.scheme, Scheme::File(_)) {
            admin.insert(location.id, Arc::clone(&location.store));
        } else if known.admin_credentials.is_some()
            && let Ok(own) = backends::open(assembly::admin_spec(known)).await
        {
            admin.insert(location.id, Arc::clone(own.store()));
        }
    }
    admin
}
