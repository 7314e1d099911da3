//! The configured limits on bandwidth, in force: one for all that this process sends and
//! fetches, one for each location.
//!
//! What always holds: what is opened through here counts into the same limits, however
//! often and by however many runs at once it is opened; where no limit is wanted, nothing
//! stands between the operations and the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use backends::Rates;
use config::Config;
use vault_ops::vault::Candidate;
use vault_ops::world::World;

/// Puts the candidates of a configuration behind its limits, which come into force.
pub fn behind_limits(config: &Config, world: &World, candidates: Vec<Candidate>) -> Vec<Candidate> {
    world.traffic.limit(Rates { upload: config.upload_limit, download: config.download_limit });
    let own = |location: &config::Location| Rates { upload: location.upload_limit, download: location.download_limit };
    let rates = config.locations.iter().map(|(name, location)| (name.as_str(), own(location))).collect();
    throttled(world, &rates, candidates)
}

/// Puts candidates of no configuration behind the limit of all.
pub fn behind_limit_of_all(world: &World, candidates: Vec<Candidate>) -> Vec<Candidate> {
    throttled(world, &BTreeMap::new(), candidates)
}

fn throttled(world: &World, rates: &BTreeMap<&str, Rates>, candidates: Vec<Candidate>) -> Vec<Candidate> {
    let all = world.traffic.limits();
    let throttle = |Candidate { name, store, versions, names }: Candidate| {
        let own = rates.get(name.as_str()).copied().unwrap_or_default();
        let is_limited = all != Rates::default() || own != Rates::default();
        let store =
            store.map(|store| if is_limited { world.traffic.throttle(&name, own, Arc::clone(&store)) } else { store });
        Candidate { name, store, versions, names }
    };
    candidates.into_iter().map(throttle).collect()
}
