//! What the locations show of shards: with all sizes, or at a glance.
//!
//! What always holds: every name that a location shows is seen, either way. At a glance the
//! sizes in local folders are looked at only for a share of the packs, drawn anew each time;
//! that share has one location looked at for each pack, so a pack's class is known
//! (docs/decisions/0033). Whoever reads, writes or deletes lists with all sizes.

use std::collections::BTreeSet;
use std::sync::Arc;

use backends::{BackendError, Named, Sizes};
use rand_core::Rng;
use vault_format::{PackId, WriterId, names};

use crate::fetch::{Holding, Holdings};
use crate::location::{Listed, Location};
use crate::vault::Vault;

/// A folder with no more shards of a writer has all its sizes looked at.
const SMALL: usize = 4096;

/// Lists every reachable location's shards of some writers.
pub async fn list_shards(vault: &Vault, writers: &BTreeSet<WriterId>) -> Holdings {
    list(vault, writers, None).await
}

/// The same, and sizes only where they are free, where there are few, or of a share.
pub async fn glance(vault: &Vault, writers: &BTreeSet<WriterId>) -> Holdings {
    let costly = vault.locations.iter().any(|location| location.names.is_some());
    let of = vault.locations.len().max(1) as u64;
    let share = costly.then(|| Share { of, turn: vault.world.rng().next_u64() % of });
    list(vault, writers, share).await
}

async fn list(vault: &Vault, writers: &BTreeSet<WriterId>, share: Option<Share>) -> Holdings {
    let mut holdings = Holdings::default();
    for gone in vault.absent.iter().filter(|gone| gone.unreachable) {
        holdings.silent.push((gone.name.clone(), gone.why.clone()));
    }
    for &writer in writers {
        let lists = vault.locations.iter().enumerate().map(|(at, location)| async move {
            let sizes = share.map(|share| share.sizes(at as u64));
            shards(vault, location, writer, sizes).await
        });
        for (listed, location) in futures::future::join_all(lists).await.into_iter().zip(&vault.locations) {
            let location = Arc::new(location.clone());
            let known = holdings.keepers.iter().any(|keeper| keeper.id == location.id);
            if location.versions.is_some() && !known {
                holdings.keepers.push(Arc::clone(&location));
            }
            match listed {
                Ok(listed) => listed.into_iter().for_each(|shard| holdings.put(&location, shard)),
                Err(error) => holdings.silent.push((location.name.clone(), error.to_string())),
            }
        }
    }
    holdings
}

/// An object in a folder of shards, and what its name says.
type Shard = (Named, Option<(WriterId, PackId, u8)>);

async fn shards(
    vault: &Vault,
    location: &Location,
    writer: WriterId,
    sizes: Option<Sizes>,
) -> Result<Vec<Shard>, BackendError> {
    let folder = names::shards_of(writer);
    let listed = match sizes {
        Some(sizes) => location.glance(&folder, sizes).await?,
        None => location.list(&folder).await?.into_iter().map(named).collect(),
    };
    Ok(vault.world.compute.run(move || listed.into_iter().map(parsed).collect()).await)
}

fn named(listed: Listed) -> Named {
    Named { name: listed.name, bytes: Some(listed.bytes) }
}

fn parsed(named: Named) -> Shard {
    let says = names::parse_shard(&named.name);
    (named, says)
}

impl Holdings {
    pub(crate) fn add(&mut self, location: &Arc<Location>, listed: Listed) {
        self.put(location, parsed(named(listed)));
    }

    fn put(&mut self, location: &Arc<Location>, (Named { name, bytes }, says): Shard) {
        let Some((writer, pack, index)) = says else {
            self.foreign.push((location.name.clone(), name));
            return;
        };
        let (location, writer) = (Arc::clone(location), Some(writer));
        let holding = Holding { index, location, name, writer, bytes, version: None };
        self.packs.entry(pack).or_default().push(holding);
    }
}

/// Whose sizes a glance looks at: of packs whose ids begin with the same byte those at one
/// location, which share a folder there. The byte and the turn say which.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Locations.
    of: u64,
    turn: u64,
}

impl Share {
    fn sizes(self, location: u64) -> Sizes {
        Sizes { all_up_to: SMALL, wanted: Arc::new(move |name| self.takes(location, name)) }
    }

    fn takes(self, location: u64, name: &str) -> bool {
        let folder = name.rsplit('/').nth(1).and_then(|folder| u64::from_str_radix(folder, 16).ok());
        // What is not named like a shard is no shard.
        folder.is_some_and(|first| (first + location + self.turn).is_multiple_of(self.of))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The classes of packs are known by it.
    #[test]
    fn each_turn_takes_each_pack_at_one_location_and_all_turns_take_all() {
        for of in [1, 3, 9, 12] {
            let mut taken: BTreeMap<(u8, u64), u64> = BTreeMap::new();
            for turn in 0..of {
                let share = Share { of, turn };
                for first in 0..=u8::MAX {
                    let name = names::shard(WriterId([7; 16]), PackId([first; 16]), 3);
                    let here: Vec<u64> = (0..of).filter(|&location| share.takes(location, &name)).collect();
                    assert_eq!(here.len(), 1, "turn {turn} of {of}, {name}");
                    *taken.entry((first, here[0])).or_default() += 1;
                }
            }
            assert_eq!(taken.len() as u64, 256 * of);
            assert!(taken.values().all(|&times| times == 1));
        }
    }
}
