//! Where packs are believed to stand, worked out once for many packs.
//!
//! What always holds: unreachable is not lost. What stands at home on a location that
//! does not answer counts as present, and a location that is being emptied and is away
//! still has what it had.

use std::collections::BTreeSet;

use vault_format::PackId;
use vault_format::layout::{LayoutRecord, LocationState};

use crate::fetch::Holdings;
use crate::location::Location;
use crate::placement::{Copy, Homes, Spot};
use crate::vault::Vault;

/// What the locations show, and what those that do not answer are believed to have.
pub(crate) struct Belief<'a> {
    holdings: &'a Holdings,
    /// Locations that answer.
    reachable: BTreeSet<Spot>,
    /// Locations that take shards.
    active: Vec<Spot>,
    /// Homes in the layout in force, if one of its locations does not answer.
    homes: Option<Homes>,
    /// Homes before the change under way, if a location that is being emptied does not answer.
    before: Option<Homes>,
}

impl<'a> Belief<'a> {
    pub(crate) fn new(holdings: &'a Holdings, vault: &Vault) -> Self {
        let answered = |location: &&Location| !holdings.silent.iter().any(|(name, _)| *name == location.name);
        let reachable: BTreeSet<Spot> = vault.locations.iter().filter(answered).map(Location::spot).collect();
        let active = vault.spots();
        let before = match &vault.previous {
            Some(previous) => spots_of(previous),
            None => vault.holding_spots(),
        };
        let homes_of = |spots: &[Spot]| Homes::new(spots, vault.coding, vault.survive());
        let is_silent = |spot: &Spot| !reachable.contains(spot);
        let homes = active.iter().any(is_silent).then(|| homes_of(&active));
        let leaving = |spot: &Spot| is_silent(spot) && !active.contains(spot);
        let before = before.iter().any(leaving).then(|| homes_of(&before));
        Self { holdings, reachable, active, homes, before }
    }

    /// Copies of a pack, shown or believed.
    pub(crate) fn copies(&self, pack: PackId) -> Vec<Copy> {
        let mut copies = self.holdings.copies(pack);
        let silent = |copy: &Copy| !self.reachable.contains(&copy.spot);
        copies.extend(self.homes.iter().flat_map(|homes| homes.of(pack)).filter(silent));
        let leaving = |copy: &Copy| silent(copy) && !self.active.contains(&copy.spot);
        copies.extend(self.before.iter().flat_map(|homes| homes.of(pack)).filter(leaving));
        copies.sort_unstable();
        copies.dedup();
        copies
    }
}

/// Locations of a layout that take shards.
fn spots_of(layout: &LayoutRecord) -> Vec<Spot> {
    let active = layout.locations.iter().filter(|placed| placed.state == LocationState::Active);
    active.map(|placed| Spot { location: placed.location, domain: placed.domain }).collect()
}
