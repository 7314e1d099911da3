//! What should stand where, by the format's text alone, and what does: the oracles'
//! own account.
//!
//! What always holds: nothing here asks the program under test. Where shards belong
//! is worked out again from the words of the design (5.5, 5.7), what must exist is
//! read from the manifests the program wrote, and a shard is good only if its bytes
//! are those that were written under its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use vault_format::envelope::Envelope;
use vault_format::manifest::Manifest;
use vault_format::{LocationId, PackId, VaultId, labels, names};

use super::graves::Graves;
use super::scenario::Shape;
use super::sites::{Site, State, same};

/// A set of domains, one bit each.
pub(super) type Domains = u32;

/// The vault's shape as the oracles use it.
pub(super) struct Plan {
    /// k.
    pub(super) need: usize,
    /// d.
    pub(super) survive: u32,
    /// The domain of each site.
    pub(super) domain: Vec<usize>,
    /// Domains.
    pub(super) domains: usize,
    /// Sites of each domain in the order of their ids.
    members: Vec<Vec<usize>>,
    /// What each position in the ring of domains takes.
    windows: Vec<Vec<u8>>,
}

/// The part of a pack's shards that stands at home: index and site.
pub(super) type Homes = Vec<(u8, usize)>;

impl Plan {
    /// The shape of a scenario's vault.
    pub(super) fn new(shape: &Shape, vault: VaultId) -> Self {
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut domain = Vec::new();
        for site in &shape.locations {
            let next = numbers.len();
            domain.push(*numbers.entry(&site.domain).or_insert(next));
        }
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); numbers.len()];
        for (site, &domain) in domain.iter().enumerate() {
            members[domain].push(site);
        }
        for sites in &mut members {
            sites.sort_by_key(|&site| location_id(vault, &shape.locations[site].name));
        }
        let (need, total) = (usize::from(shape.data), usize::from(shape.total));
        let domains = numbers.len();
        let survive = u32::from(shape.survive_domains);
        let windows = windows(domains, need, total, survive);
        Self { need, survive, domain, domains, members, windows }
    }

    /// Where a pack's shards belong.
    pub(super) fn homes(&self, pack: PackId) -> Homes {
        let turn = usize::from(pack.0[0]) + (usize::from(pack.0[1]) << 8);
        let mut homes = Vec::new();
        for (position, window) in self.windows.iter().enumerate() {
            let members = &self.members[(position + turn) % self.domains];
            homes.extend(window.iter().enumerate().map(|(at, &index)| (index, members[(at + turn) % members.len()])));
        }
        homes
    }

    /// Every set of at most d domains that holds `of`.
    pub(super) fn losses(&self, of: Domains) -> impl Iterator<Item = Domains> {
        let survive = self.survive;
        (0..1 << self.domains).filter(move |set: &Domains| set & of == of && set.count_ones() <= survive)
    }
}

fn windows(domains: usize, need: usize, total: usize, survive: u32) -> Vec<Vec<u8>> {
    let start = |domain: usize| domain * total / domains;
    let of_length = |length: &dyn Fn(usize) -> usize| -> Vec<Vec<u8>> {
        let window = |domain| (0..length(domain)).map(|step| ((start(domain) + step) % total) as u8).collect();
        (0..domains).map(window).collect()
    };
    let dealt = of_length(&|domain| start(domain + 1) - start(domain));
    if keeps(&dealt, need, survive) {
        return dealt;
    }
    let longer = (total.div_ceil(domains)..=total).map(|length| of_length(&|_| length));
    longer.into_iter().find(|windows| keeps(windows, need, survive)).unwrap_or(dealt)
}

fn keeps(windows: &[Vec<u8>], need: usize, survive: u32) -> bool {
    (0_u32..1 << windows.len()).filter(|lost| lost.count_ones() <= survive).all(|lost| {
        let left = windows.iter().enumerate().filter(|(domain, _)| lost >> domain & 1 == 0);
        left.flat_map(|(_, window)| window).collect::<BTreeSet<_>>().len() >= need
    })
}

fn location_id(vault: VaultId, name: &str) -> LocationId {
    let hash = keys::hash::labelled(labels::LOCATION, &[&vault.0, name.as_bytes()].concat());
    let mut id = LocationId::default();
    id.0.copy_from_slice(&hash.0[..LocationId::BYTES]);
    id
}

/// The packs a manifest names, if these are a manifest's bytes.
pub(super) fn packs_of(manifest: &[u8]) -> Option<Vec<PackId>> {
    let body: Manifest = vault_format::decode("manifest", &Envelope::decode(manifest).ok()?.body).ok()?;
    Some(body.packs.into_iter().map(|pack| pack.pack).collect())
}

/// Whether these bytes were written under this name.
pub(super) fn is_right(state: &State, site: &Site, name: &str, bytes: &Bytes) -> bool {
    let written = state.written.get(name).is_some_and(|known| known.iter().any(|known| same(known, bytes)));
    written || site.stood.get(name).is_some_and(|stood| same(stood, bytes))
}

/// Domains that are lost or lie now.
pub(super) fn bad_domains(plan: &Plan, state: &State) -> Domains {
    let bad = state.sites.iter().zip(&plan.domain).filter(|(site, _)| !site.is_whole());
    bad.fold(0, |set, (_, &domain)| set | 1 << domain)
}

/// Good copies of each pack's shards: index and domain.
pub(super) struct Standing {
    /// By pack.
    pub(super) packs: BTreeMap<PackId, Vec<(u8, usize)>>,
}

/// What the locations that answer show, byte-checked.
pub(super) fn standing(plan: &Plan, state: &State) -> Standing {
    let mut packs: BTreeMap<PackId, Vec<(u8, usize)>> = BTreeMap::new();
    for (site, &domain) in state.sites.iter().zip(&plan.domain).filter(|(site, _)| !site.down) {
        for (name, object) in site.image() {
            let Some((_, pack, index)) = names::parse_shard(name) else { continue };
            if is_right(state, site, name, &object.bytes) {
                packs.entry(pack).or_default().push((index, domain));
            }
        }
    }
    Standing { packs }
}

impl Standing {
    /// Whether k distinct indices of a pack stand outside the lost domains.
    pub(super) fn keeps(&self, plan: &Plan, pack: PackId, lost: Domains) -> bool {
        let copies = self.packs.get(&pack).map(Vec::as_slice).unwrap_or_default();
        let outside = copies.iter().filter(|(_, domain)| lost >> domain & 1 == 0);
        outside.map(|(index, _)| index).collect::<BTreeSet<_>>().len() >= plan.need
    }
}

/// Manifests that stand anywhere and count: name and packs.
pub(super) fn manifests(state: &State, graves: &Graves) -> BTreeMap<Arc<str>, BTreeSet<PackId>> {
    let mut found: BTreeMap<Arc<str>, BTreeSet<PackId>> = BTreeMap::new();
    for site in &state.sites {
        for (name, object) in site.objects.iter().filter(|(name, _)| name.starts_with(names::MANIFESTS)) {
            if is_right(state, site, name, &object.bytes)
                && graves.counts(name, &object.bytes)
                && let Some(packs) = packs_of(&object.bytes)
            {
                found.entry(Arc::clone(name)).or_default().extend(packs);
            }
        }
    }
    found
}

/// What is not where it should be once all is healed: all n shards of every pack a
/// manifest names, and no tombstone, at home; of these packs, those that points need
/// whatever any tombstone says; all records on every location, byte for byte.
pub(super) fn not_full(plan: &Plan, state: &State, needed: &BTreeSet<PackId>) -> Vec<String> {
    let mut lacks = Vec::new();
    let graves = Graves::read(plan, state);
    let manifests = manifests(state, &graves);
    let named = manifests.values().flatten().filter(|pack| !graves.packs.contains(pack));
    let packs: BTreeSet<PackId> = named.chain(needed).copied().collect();
    let mut shards: Vec<BTreeMap<(PackId, u8), &str>> = vec![BTreeMap::new(); state.sites.len()];
    for (at, site) in state.sites.iter().enumerate() {
        for (name, object) in &site.objects {
            if let Some((_, pack, index)) = names::parse_shard(name)
                && is_right(state, site, name, &object.bytes)
            {
                shards[at].insert((pack, index), name);
            }
        }
    }
    for pack in packs {
        for (index, site) in plan.homes(pack) {
            if !shards[site].contains_key(&(pack, index)) {
                lacks.push(format!("shard {index} of pack {} at {}", pack.short(), state.sites[site].name));
            }
        }
    }
    let mut records: BTreeSet<&str> = manifests.keys().chain(&graves.names).map(AsRef::as_ref).collect();
    for site in &state.sites {
        records.extend(site.stood.keys().map(AsRef::as_ref).filter(|name| is_founding(name)));
    }
    for site in &state.sites {
        for name in &records {
            let right = site.objects.get(*name).is_some_and(|here| is_right(state, site, name, &here.bytes));
            if !right {
                lacks.push(format!("{name} at {}", site.name));
            }
        }
    }
    lacks
}

/// Where a location is asked for its time.
const CLOCK: &str = "clock/";

fn is_founding(name: &str) -> bool {
    name == names::MARKER || [names::VAULT, names::LAYOUT, names::CERTIFICATES].iter().any(|of| name.starts_with(of))
}

/// Forgets of what was stored, and is not there any more, what nobody needs: shards
/// no manifest names or a tombstone buries, copies kept for a home that has its own
/// again, manifests that are gone or do not count, questions to its clock, and
/// records that stand there as another one wrote them. A shard is missed again when a
/// manifest comes to name its pack.
pub(super) fn forgive(plan: &Plan, state: &mut State) {
    if state.sites.iter().all(|site| site.is_whole() && site.forgiven.is_empty()) {
        return;
    }
    let graves = Graves::read(plan, state);
    let mut named: BTreeSet<PackId> = manifests(state, &graves).into_values().flatten().collect();
    named.retain(|pack| !graves.packs.contains(pack));
    for site in &mut state.sites {
        let (missed, forgiven) = std::mem::take(&mut site.forgiven)
            .into_iter()
            .partition(|(name, _)| names::parse_shard(name).is_some_and(|(_, pack, _)| named.contains(&pack)));
        site.forgiven = forgiven;
        site.stood.extend::<BTreeMap<_, _>>(missed);
    }
    let mut needless: Vec<(usize, Arc<str>)> = Vec::new();
    for (at, site) in state.sites.iter().enumerate() {
        let here = |name: &Arc<str>| site.objects.get(name).map(|object| &object.bytes);
        let missed = site.stood.iter().filter(|(name, bytes)| !here(name).is_some_and(|here| same(here, bytes)));
        for (name, stood) in missed {
            let forgiven = match names::parse_shard(name) {
                None if name.starts_with(CLOCK) => true,
                None if names::parse_manifest(name).is_some() && !graves.counts(name, stood) => true,
                Some((_, pack, index)) => {
                    !named.contains(&pack) || is_home_elsewhere(plan, state, at, name, pack, index)
                }
                None => here(name).is_some_and(|here| {
                    state.written.get(name).is_some_and(|known| known.iter().any(|known| same(known, here)))
                }),
            };
            if forgiven {
                needless.push((at, Arc::clone(name)));
            }
        }
    }
    for (at, name) in needless {
        let site = &mut state.sites[at];
        let missed = site.stood.remove(&name);
        if names::parse_shard(&name).is_some_and(|(_, pack, _)| !named.contains(&pack)) {
            site.forgiven.extend(missed.map(|bytes| (name, bytes)));
        }
    }
}

fn is_home_elsewhere(plan: &Plan, state: &State, at: usize, name: &str, pack: PackId, index: u8) -> bool {
    let homes: Vec<usize> = plan.homes(pack).into_iter().filter(|home| home.0 == index).map(|home| home.1).collect();
    let good = |&site: &usize| {
        let site = &state.sites[site];
        site.objects.get(name).is_some_and(|here| is_right(state, site, name, &here.bytes))
    };
    !homes.contains(&at) && homes.iter().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario;
    use vault_ops::placement::{Spot, home};

    /// Two ways to one place.
    #[test]
    fn homes_are_where_the_program_says() {
        let vault = VaultId([9; 16]);
        for (need, total, domains, survive) in [(3, 5, 4, 1), (5, 9, 2, 1), (5, 9, 5, 2), (1, 3, 3, 2), (7, 15, 6, 2)] {
            let site = |at: usize| scenario::Site {
                name: format!("p{at}"),
                domain: format!("d{}", at % domains),
                conditional: true,
                disk: false,
            };
            let shape = Shape {
                data: need,
                total,
                survive_domains: survive,
                class_max: 0,
                locations: (0..domains + 2).map(site).collect(),
            };
            let plan = Plan::new(&shape, vault);
            let spots: Vec<Spot> = (0..domains + 2)
                .map(|at| Spot { location: location_id(vault, &format!("p{at}")), domain: (at % domains) as u16 })
                .collect();
            let coding = vault_format::suite::Coding::new(need, total).unwrap();
            for seed in 0..=255_u8 {
                let pack = PackId([seed, seed.wrapping_mul(7), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                let mut theirs: Vec<(u8, LocationId)> = home(&spots, coding, survive, pack)
                    .into_iter()
                    .map(|copy| (copy.index, copy.spot.location))
                    .collect();
                let mut ours: Vec<(u8, LocationId)> =
                    plan.homes(pack).into_iter().map(|(index, site)| (index, spots[site].location)).collect();
                theirs.sort_unstable();
                ours.sort_unstable();
                assert_eq!(ours, theirs);
            }
        }
    }
}
