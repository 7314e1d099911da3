//! What should stand where, and what the locations show: the common ground of
//! audit, repair and status.
//!
//! What always holds: what should exist is known from signed manifests, so no key
//! is needed (of an import without manifests, from the catalog); each location's part follows from the layout and the pack id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vault_format::manifest::PackRef;
use vault_format::shard::ShardLayout;
use vault_format::suite::Class;
use vault_format::{Hash, LocationId, PackId, WriterId};

use crate::belief::Belief;
use crate::catalog::{Catalog, PackState};
use crate::error::Result;
use crate::fetch::{Fetcher, Holding, Holdings, Trust};
use crate::heads::{Chain, Depth, chain};
use crate::listing;
use crate::marks::Marks;
use crate::placement::{Copy, Homes};
use crate::vault::Vault;

/// All committed packs that no tombstone says are gone, and everything shown by the locations.
pub struct Census {
    /// Header hash and writer of each committed or imported pack.
    pub packs: BTreeMap<PackId, (Hash, WriterId)>,
    /// Where shards are.
    pub holdings: Holdings,
    /// Each writer's chain.
    pub chains: BTreeMap<WriterId, Chain>,
    /// Classes of packs that no location told the size of.
    classes: BTreeMap<PackId, Class>,
    /// What tombstones and fences say.
    pub marks: Arc<Marks>,
    /// Packs that are whole only with older versions of their shards; see
    /// [`Census::look_older`].
    pub kept: BTreeSet<PackId>,
}

/// One location's part in the census.
#[derive(Clone, Debug, Default)]
pub struct AtLocation {
    /// What it should hold.
    pub expected: Vec<(PackId, u8)>,
    /// How many of these it shows in their right size.
    pub shown: usize,
    /// What it keeps; see [`Census::kept_at`].
    pub kept: Vec<(PackId, u8)>,
}

/// Placement's domain says nothing about where a copy is.
fn is_same(one: &Copy, other: &Copy) -> bool {
    (one.spot.location, one.index) == (other.spot.location, other.index)
}

/// A shard that is not at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which pack.
    pub pack: PackId,
    /// The copy that should be there.
    pub copy: Copy,
    /// Distinct indices of the pack that other copies show.
    pub others: usize,
}

/// Reads all manifests and lists all shards.
pub async fn take(vault: &Vault, catalog: &Catalog) -> Result<Census> {
    count(vault, catalog, false).await
}

/// The same, and of the sizes of shards a share ([`listing::glance`]): to be told, not
/// to be leant on.
pub async fn glance(vault: &Vault, catalog: &Catalog) -> Result<Census> {
    count(vault, catalog, true).await
}

async fn count(vault: &Vault, catalog: &Catalog, at_a_glance: bool) -> Result<Census> {
    let vault = &vault.reread().await;
    let writers = vault.writer_ids();
    let mut chains = BTreeMap::new();
    let mut packs = BTreeMap::new();
    for &writer in &writers {
        let chain = chain(vault, writer, Depth::Whole).await?;
        for manifest in chain.all() {
            for PackRef { pack, header } in &manifest.body.packs {
                packs.insert(*pack, (*header, writer));
            }
        }
        chains.insert(writer, chain);
    }
    for point in catalog.points()?.into_iter().filter(|point| !point.verified) {
        for pack in point.part.references {
            if let Some(row) = catalog.pack(pack)?.filter(|row| row.state == PackState::Imported) {
                packs.entry(pack).or_insert((row.header, point.writer));
            }
        }
    }
    packs.retain(|&pack, _| !vault.marks.is_swept(pack));
    // Only now: what a manifest names was there before it.
    let mut holdings =
        if at_a_glance { listing::glance(vault, &writers).await } else { listing::list_shards(vault, &writers).await };
    tell_writers_apart(vault, &mut packs, &mut holdings).await;
    let classes = recorded_classes(catalog, &packs, &holdings)?;
    Ok(Census { packs, holdings, chains, classes, marks: Arc::clone(&vault.marks), kept: BTreeSet::new() })
}

/// Classes as the catalog has them of packs that are shown and of which no size is known.
fn recorded_classes(
    catalog: &Catalog,
    packs: &BTreeMap<PackId, (Hash, WriterId)>,
    holdings: &Holdings,
) -> Result<BTreeMap<PackId, Class>> {
    let mut classes = BTreeMap::new();
    let unsized_packs = packs.keys().filter(|pack| {
        let held = holdings.packs.get(pack).map(Vec::as_slice).unwrap_or_default();
        !held.is_empty() && held.iter().all(|holding| holding.bytes.is_none())
    });
    for &pack in unsized_packs {
        let class = catalog.pack(pack)?.and_then(|row| Class::from_number(row.class).ok());
        classes.extend(class.map(|class| (pack, class)));
    }
    Ok(classes)
}

/// Whose each pack is, and only that writer's copies of it: a manifest may vouch for a
/// pack of another writer, and another writer's name may stand over a pack id. The
/// header that the manifest names decides.
async fn tell_writers_apart(vault: &Vault, packs: &mut BTreeMap<PackId, (Hash, WriterId)>, holdings: &mut Holdings) {
    for (&pack, (header, writer)) in packs {
        let held = holdings.packs.get(&pack).map(Vec::as_slice).unwrap_or_default();
        if held.iter().all(|holding| holding.may_be_of(*writer)) {
            continue;
        }
        let of_pack = holdings.packs.get(&pack).cloned().unwrap_or_default();
        let only = Holdings { packs: BTreeMap::from([(pack, of_pack)]), ..Holdings::default() };
        let fetcher = Fetcher::new(vault.world.clone(), only, Trust::Signed(vault.writers.clone()));
        fetcher.expect(&[PackRef { pack, header: *header }]);
        if let Ok(found) = fetcher.header(pack).await {
            *writer = found.h0().writer;
            keep_writer(holdings, pack, *writer);
        }
    }
}

/// Keeps of a pack only its own writer's shards.
fn keep_writer(holdings: &mut Holdings, pack: PackId, writer: WriterId) {
    let Some(held) = holdings.packs.get_mut(&pack) else { return };
    let (own, others): (Vec<Holding>, Vec<Holding>) =
        std::mem::take(held).into_iter().partition(|holding| holding.may_be_of(writer));
    *held = own;
    holdings.foreign.extend(others.into_iter().map(|holding| (holding.location.name.clone(), holding.name)));
}

impl Census {
    /// A pack's class by the sizes the locations show; `None` if nobody shows it, or if after
    /// a glance nobody knows.
    pub fn class(&self, pack: PackId) -> Option<Class> {
        let held = self.holdings.packs.get(&pack)?;
        let sizes = Class::ALL.map(|class| ShardLayout::new(class).object_bytes());
        let mut counts = [0_usize; Class::ALL.len()];
        for holding in held {
            if let Some(at) = sizes.iter().position(|bytes| Some(*bytes) == holding.bytes) {
                counts[at] += 1;
            }
        }
        let most = Class::ALL.into_iter().zip(counts).max_by_key(|(_, count)| *count);
        let shown = most.filter(|(_, count)| *count > 0).map(|(class, _)| class);
        shown.or_else(|| self.classes.get(&pack).copied())
    }

    /// Bytes of a shard of a pack; 0 if its class is not known.
    pub fn shard_bytes(&self, pack: PackId) -> u64 {
        self.class(pack).map_or(0, |class| ShardLayout::new(class).object_bytes())
    }

    /// What a location should hold: packs and indices.
    pub fn expected_at(&self, vault: &Vault, location: LocationId) -> Vec<(PackId, u8)> {
        self.at_each(vault).remove(&location).unwrap_or_default().expected
    }

    /// What a location keeps: what it should hold, and the copies of committed packs
    /// it shows that belong elsewhere (handed over, or not moved yet).
    pub fn kept_at(&self, vault: &Vault, location: LocationId) -> Vec<(PackId, u8)> {
        self.at_each(vault).remove(&location).unwrap_or_default().kept
    }

    /// What each location should hold, shows of it, and keeps: one look at each pack,
    /// whatever the number of locations.
    pub fn at_each(&self, vault: &Vault) -> BTreeMap<LocationId, AtLocation> {
        let homes = Homes::new(&vault.spots(), vault.coding, vault.survive());
        let mut each: BTreeMap<LocationId, AtLocation> = BTreeMap::new();
        for &pack in self.packs.keys() {
            let (home, shown) = (homes.of(pack), self.holdings.copies(pack));
            for copy in &home {
                let here = each.entry(copy.spot.location).or_default();
                here.expected.push((pack, copy.index));
                here.kept.push((pack, copy.index));
                here.shown += usize::from(shown.iter().any(|other| is_same(other, copy)));
            }
            for copy in shown.iter().filter(|copy| !home.iter().any(|other| is_same(other, copy))) {
                each.entry(copy.spot.location).or_default().kept.push((pack, copy.index));
            }
        }
        // Packs come in order, the copies of one pack do not.
        for here in each.values_mut() {
            here.expected.sort_unstable();
            here.kept.sort_unstable();
            here.kept.dedup();
        }
        each
    }

    /// Leaves of a shard of this pack, header and trailer counted as one.
    pub fn leaves(&self, pack: PackId) -> u64 {
        self.class(pack).map_or(1, |class| class.leaves() as u64 + 1)
    }

    /// Whether a location shows an index of a pack in its right size.
    pub fn shows(&self, location: LocationId, pack: PackId, index: u8) -> bool {
        self.holdings.copies(pack).iter().any(|copy| copy.spot.location == location && copy.index == index)
    }

    /// Copies that should be at home on a reachable location and are not.
    pub fn missing(&self, vault: &Vault) -> Vec<Missing> {
        let reachable: BTreeSet<_> = vault.reachable().into_iter().collect();
        let homes = Homes::new(&vault.spots(), vault.coding, vault.survive());
        let mut missing = Vec::new();
        for &pack in self.packs.keys() {
            let shown = self.holdings.copies(pack);
            let others: BTreeSet<u8> = shown.iter().map(|copy| copy.index).collect();
            for copy in homes.of(pack) {
                if reachable.contains(&copy.spot) && !shown.contains(&copy) {
                    missing.push(Missing { pack, copy, others: others.len() });
                }
            }
        }
        missing
    }

    /// Why a missing copy is wrong rather than absent: an object of another size
    /// stands under its name.
    pub fn cut_short(&self, missing: &Missing) -> Option<String> {
        let held = self.holdings.packs.get(&missing.pack)?;
        let there = held
            .iter()
            .find(|holding| holding.location.id == missing.copy.spot.location && holding.index == missing.copy.index)?;
        there.cut_text()
    }

    /// Of the packs that too few shards are shown of, finds those that older versions make
    /// whole: these are read and checked, not believed.
    pub async fn look_older(&mut self, vault: &Vault) {
        if self.holdings.keepers.is_empty() {
            return;
        }
        let trust = Trust::Signed(vault.writers.clone());
        let fetcher = Fetcher::new(vault.world.clone(), self.holdings.clone(), trust);
        for (pack, _) in self.short(vault) {
            let Ok(header) = fetcher.header(pack).await else { continue };
            if fetcher.good_shards(&header).await.is_ok() {
                self.kept.insert(pack);
            }
        }
    }

    /// Packs with fewer than k distinct indices shown or believed, and no older versions
    /// that were found to be good.
    pub fn short(&self, vault: &Vault) -> Vec<(PackId, usize)> {
        let belief = Belief::new(&self.holdings, vault);
        self.packs
            .keys()
            .filter(|&pack| !self.kept.contains(pack))
            .filter_map(|&pack| {
                let copies = belief.copies(pack);
                let indices: BTreeSet<u8> = copies.iter().map(|copy| copy.index).collect();
                (indices.len() < usize::from(vault.coding.data_shards())).then_some((pack, indices.len()))
            })
            .collect()
    }
}
