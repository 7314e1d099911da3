//! What is left after a hostile host: somebody with the writer's credentials who
//! overwrites and deletes all they reach.
//!
//! What always holds: only grades count that were proven when the location was added
//! (see `backends::probe`): locked ones keep everything, versioned ones keep older
//! versions, the others nothing. Enough is left when those that keep hold k distinct
//! indices of every pack; homes differ from pack to pack, so this is judged for every
//! turn of the placement.

use std::collections::BTreeSet;

use vault_format::layout::{LocationGrade, LocationState};
use vault_format::{LocationId, PackId};

use crate::placement::home;
use crate::vault::Vault;

/// How the locations would survive a hostile host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hostile {
    /// Locations that take shards.
    pub locations: usize,
    /// Of them those where locks held.
    pub locked: usize,
    /// Of them those that keep versions these credentials cannot erase.
    pub versioned: usize,
    /// Whether what those two keep is enough to restore every pack.
    pub enough: bool,
}

/// Packs whose placement is looked at. It depends on the pack id alone, and in few ways.
const TURNS: u8 = 64;

/// Judges by the layout's recorded grades.
pub fn hostile(vault: &Vault) -> Hostile {
    let active: Vec<_> = vault.layout.locations.iter().filter(|placed| placed.state == LocationState::Active).collect();
    let with = |grade| active.iter().filter(|placed| placed.grade == grade).count();
    let keepers: BTreeSet<LocationId> = active
        .iter()
        .filter(|placed| matches!(placed.grade, LocationGrade::Locked | LocationGrade::Versioned))
        .map(|placed| placed.location)
        .collect();
    let spots = vault.spots();
    let enough = (0..TURNS).all(|turn| {
        let mut pack = PackId::default();
        pack.0.fill(turn.wrapping_mul(37));
        let homes = home(&spots, vault.coding, vault.survive(), pack);
        let kept = homes.iter().filter(|copy| keepers.contains(&copy.spot.location));
        let indices: BTreeSet<u8> = kept.map(|copy| copy.index).collect();
        indices.len() >= usize::from(vault.coding.data_shards())
    });
    Hostile {
        locations: active.len(),
        locked: with(LocationGrade::Locked),
        versioned: with(LocationGrade::Versioned),
        enough,
    }
}

impl Hostile {
    /// As `vault status` says it.
    pub fn text(&self) -> String {
        let Self { locations, locked, versioned, enough } = *self;
        let survive = locked + versioned;
        if survive == 0 {
            return format!(
                "a thief of this host's credentials: none of {locations} locations survives it; a bucket with versions \
                 or object lock would, with credentials that cannot delete versions"
            );
        }
        let verdict = if enough { "enough to restore every point" } else { "NOT enough to restore" };
        format!(
            "a thief of this host's credentials: {survive} of {locations} locations survive it ({locked} locked, \
             {versioned} versioned): {verdict}"
        )
    }
}
