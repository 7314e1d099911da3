//! Where the n shards of a pack belong: pure functions over the layout.
//!
//! What always holds: home positions follow from the layout and the pack id
//! alone, so writers, auditors and repairers agree without asking each other;
//! durable(d) means that for every set of at most d domains at least k distinct
//! indices stand outside it. Failure domains are counted, not shards.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::suite::Coding;
use vault_format::{LocationId, PackId};

/// A failure domain's number in the layout.
pub type Domain = u16;

/// A location as placement sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The location.
    pub location: LocationId,
    /// What it fails together with.
    pub domain: Domain,
}

/// A copy of a shard: which index stands where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copy {
    /// Shard index.
    pub index: u8,
    /// Where.
    pub spot: Spot,
}

/// Home positions of one pack. Each index stands at least once; where few
/// domains could not otherwise survive `survive` losses, neighbours overlap and
/// some indices stand twice.
pub fn home(spots: &[Spot], coding: Coding, survive: u8, pack: PackId) -> Vec<Copy> {
    Homes::new(spots, coding, survive).of(pack)
}

/// Home positions of many packs: what does not depend on the pack is worked out once.
#[derive(Clone, Debug)]
pub struct Homes {
    domains: Vec<Vec<Spot>>,
    /// Which indices each domain takes, before a pack turns them around.
    windows: Vec<Vec<u8>>,
}

impl Homes {
    /// For packs coded by `coding` over `spots`, to survive the loss of `survive` domains.
    pub fn new(spots: &[Spot], coding: Coding, survive: u8) -> Self {
        let domains = by_domain(spots);
        let windows = if domains.is_empty() { Vec::new() } else { windows(domains.len(), coding, survive) };
        Self { domains, windows }
    }

    /// Those of one pack; see [`home`].
    pub fn of(&self, pack: PackId) -> Vec<Copy> {
        let rotation = usize::from(u16::from_le_bytes([pack.0[0], pack.0[1]]));
        let mut copies = Vec::with_capacity(self.windows.iter().map(Vec::len).sum());
        for (position, window) in self.windows.iter().enumerate() {
            let members = &self.domains[(position + rotation) % self.domains.len()];
            for (turn, &index) in window.iter().enumerate() {
                copies.push(Copy { index, spot: members[(turn + rotation) % members.len()] });
            }
        }
        copies.sort_unstable();
        copies
    }
}

fn by_domain(spots: &[Spot]) -> Vec<Vec<Spot>> {
    let mut domains: BTreeMap<Domain, Vec<Spot>> = BTreeMap::new();
    for spot in spots {
        domains.entry(spot.domain).or_default().push(*spot);
    }
    let mut domains: Vec<_> = domains.into_values().collect();
    for members in &mut domains {
        members.sort_unstable();
    }
    domains
}

/// Which indices each of `domains` domains takes: an even deal without overlap
/// if that survives, else windows just long enough.
fn windows(domains: usize, coding: Coding, survive: u8) -> Vec<Vec<u8>> {
    let n = usize::from(coding.total_shards());
    let start = |domain: usize| domain * n / domains;
    let window = |domain: usize, length: usize| -> Vec<u8> {
        (0..length).map(|step| ((start(domain) + step) % n) as u8).collect()
    };
    let dealt: Vec<_> = (0..domains).map(|domain| window(domain, start(domain + 1) - start(domain))).collect();
    if windows_survive(&dealt, coding, survive) {
        return dealt;
    }
    for length in n.div_ceil(domains)..=n {
        let overlapping: Vec<_> = (0..domains).map(|domain| window(domain, length)).collect();
        if windows_survive(&overlapping, coding, survive) {
            return overlapping;
        }
    }
    dealt
}

fn windows_survive(windows: &[Vec<u8>], coding: Coding, survive: u8) -> bool {
    let copies: Vec<Copy> = windows
        .iter()
        .enumerate()
        .flat_map(|(domain, window)| {
            let spot = Spot { location: LocationId::default(), domain: domain as Domain };
            window.iter().map(move |&index| Copy { index, spot })
        })
        .collect();
    survives(&copies, coding, survive)
}

/// Whether the layout can hold what it declares: enough domains for `survive`.
pub fn can_survive(spots: &[Spot], coding: Coding, survive: u8) -> bool {
    let domains = by_domain(spots).len();
    domains > usize::from(survive) && windows_survive(&windows(domains, coding, survive), coding, survive)
}

/// Whether k distinct indices stand outside every set of at most `lost` domains.
pub fn survives(copies: &[Copy], coding: Coding, lost: u8) -> bool {
    // A bit for each index: backups ask this of every pack they may lean on.
    let mut shown: BTreeMap<Domain, [u64; 4]> = BTreeMap::new();
    for copy in copies {
        let indices = shown.entry(copy.spot.domain).or_default();
        indices[usize::from(copy.index / 64)] |= 1 << (copy.index % 64);
    }
    let domains: Vec<Domain> = shown.keys().copied().collect();
    let lost = usize::from(lost).min(domains.len());
    // With fewer of them gone no less is left.
    every_loss(&domains, lost, &mut Vec::new(), &mut |gone| {
        gone.len() < lost || {
            let mut left = [0; 4];
            for (_, indices) in shown.iter().filter(|(domain, _)| !gone.contains(domain)) {
                left.iter_mut().zip(indices).for_each(|(left, indices): (&mut u64, _)| *left |= indices);
            }
            left.iter().map(|bits| bits.count_ones()).sum::<u32>() >= u32::from(coding.data_shards())
        }
    })
}

/// Calls `holds` for every subset of `domains` with at most `most` members.
fn every_loss(
    domains: &[Domain],
    most: usize,
    chosen: &mut Vec<Domain>,
    holds: &mut impl FnMut(&[Domain]) -> bool,
) -> bool {
    if !holds(chosen) {
        return false;
    }
    if most == 0 {
        return true;
    }
    for (at, &domain) in domains.iter().enumerate() {
        chosen.push(domain);
        let fine = every_loss(&domains[at + 1..], most - 1, chosen, holds);
        chosen.pop();
        if !fine {
            return false;
        }
    }
    true
}

/// How many domains may be lost at once, and how many larger sets of them: what
/// `status` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Any so many domains.
    pub any_domains: u8,
    /// Of the sets one larger, so many are survived.
    pub larger_survived: usize,
    /// And there are so many.
    pub larger_total: usize,
}

/// Where the shards of many packs stand, told apart only by which domain shows which
/// index: of these there are few.
#[derive(Clone, Debug, Default)]
pub struct Patterns(BTreeSet<Vec<(Domain, u8)>>);

impl Patterns {
    /// One more pack.
    pub fn add(&mut self, copies: &[Copy]) {
        let mut pattern: Vec<(Domain, u8)> = copies.iter().map(|copy| (copy.spot.domain, copy.index)).collect();
        pattern.sort_unstable();
        pattern.dedup();
        self.0.insert(pattern);
    }

    /// What all of them survive together: a set of domains counts as survived only if no
    /// pack is lost with it. `None` of no pack at all. `spots` are all locations, so that
    /// domains holding nothing count as losses too.
    pub fn tolerance(&self, spots: &[Spot], coding: Coding) -> Option<Tolerance> {
        let domains: BTreeSet<Domain> = spots.iter().map(|spot| spot.domain).collect();
        let domains: Vec<Domain> = domains.into_iter().collect();
        let survived = |gone: &[Domain]| self.0.iter().all(|pattern| outlives(pattern, gone, coding));
        let any_survived =
            |lost: usize| every_loss(&domains, lost, &mut Vec::new(), &mut |gone| gone.len() < lost || survived(gone));
        let any = (0..domains.len()).take_while(|any| any_survived(any + 1)).count();
        let (mut larger, mut total) = (0, 0);
        every_loss(&domains, any + 1, &mut Vec::new(), &mut |gone| {
            if gone.len() == any + 1 {
                total += 1;
                larger += usize::from(survived(gone));
            }
            true
        });
        let any_domains = u8::try_from(any).unwrap_or(u8::MAX);
        (!self.0.is_empty()).then_some(Tolerance { any_domains, larger_survived: larger, larger_total: total })
    }
}

/// What all packs survive together when each stands where it belongs.
pub fn promise(spots: &[Spot], coding: Coding, survive: u8) -> Tolerance {
    let mut patterns = Patterns::default();
    let homes = Homes::new(spots, coding, survive);
    // Its id turns a pack's shards around: these are all the turns.
    for turn in 0..=u8::MAX {
        patterns.add(&homes.of(PackId([turn; 16])));
    }
    patterns.tolerance(spots, coding).unwrap_or_default()
}

/// Whether k distinct indices of a pack stand outside these domains.
fn outlives(pattern: &[(Domain, u8)], gone: &[Domain], coding: Coding) -> bool {
    let left: BTreeSet<u8> =
        pattern.iter().filter(|(domain, _)| !gone.contains(domain)).map(|(_, index)| *index).collect();
    left.len() >= usize::from(coding.data_shards())
}

/// Where a shard goes whose home does not answer: the reachable location that
/// leaves the pack most durable, fewest copies first.
pub fn handoff(reachable: &[Spot], held: &[Copy], coding: Coding, index: u8) -> Option<Spot> {
    let domains: BTreeSet<Domain> = reachable.iter().map(|spot| spot.domain).collect();
    reachable
        .iter()
        .filter(|spot| !held.iter().any(|copy| copy.spot == **spot && copy.index == index))
        .max_by_key(|spot| {
            let mut with = held.to_vec();
            with.push(Copy { index, spot: **spot });
            let lost = (0..=domains.len() as u8).take_while(|&lost| survives(&with, coding, lost)).count();
            let in_domain = held.iter().filter(|copy| copy.spot.domain == spot.domain).count();
            let at_location = held.iter().filter(|copy| copy.spot == **spot).count();
            (lost, std::cmp::Reverse(in_domain), std::cmp::Reverse(at_location), std::cmp::Reverse(**spot))
        })
        .copied()
}

/// Domains a manifest must stand in to be committed: a majority.
pub fn write_quorum(domains: usize) -> usize {
    domains / 2 + 1
}

/// Domains that must answer for a head to be confirmed, one of them lying:
/// W + R > N + 1.
pub fn read_quorum(domains: usize) -> usize {
    (domains + 2 - write_quorum(domains)).min(domains)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots(per_domain: &[usize]) -> Vec<Spot> {
        let mut out = Vec::new();
        for (domain, &count) in per_domain.iter().enumerate() {
            for _ in 0..count {
                let mut id = [0; 16];
                id[0] = out.len() as u8;
                out.push(Spot { location: LocationId(id), domain: domain as Domain });
            }
        }
        out
    }

    fn five_of_nine() -> Coding {
        Coding::new(5, 9).unwrap()
    }

    fn tolerance(spots: &[Spot], packs: &[&[Copy]]) -> Tolerance {
        let mut patterns = Patterns::default();
        for copies in packs {
            patterns.add(copies);
        }
        patterns.tolerance(spots, five_of_nine()).unwrap()
    }

    #[test]
    fn a_set_of_domains_is_spared_only_if_no_pack_needs_it() {
        let spots = spots(&[1; 4]);
        let packs: Vec<_> = (0..=255_u8).map(|pack| home(&spots, five_of_nine(), 1, PackId([pack; 16]))).collect();
        let one = tolerance(&spots, &[&packs[0]]);
        assert_eq!((one.any_domains, one.larger_survived, one.larger_total), (1, 3, 6), "3, 2, 2, 2");
        // Each pack has its three shards elsewhere: together they spare no pair.
        let all: Vec<&[Copy]> = packs.iter().map(Vec::as_slice).collect();
        let all = tolerance(&spots, &all);
        assert_eq!((all.any_domains, all.larger_survived, all.larger_total), (1, 0, 6));
        assert!(Patterns::default().tolerance(&spots, five_of_nine()).is_none());
    }

    #[test]
    fn the_layouts_of_the_design_survive_what_it_says() {
        for (domains, any) in [(vec![1; 4], 1), (vec![1; 5], 2), (vec![1; 9], 4), (vec![1; 3], 1), (vec![9], 0)] {
            let spots = spots(&domains);
            let copies = home(&spots, five_of_nine(), 0, PackId([7; 16]));
            assert_eq!(copies.len(), 9);
            assert_eq!(tolerance(&spots, &[&copies]).any_domains, any, "{domains:?}");
        }
    }

    #[test]
    fn two_domains_overlap_to_survive_one() {
        let spots = spots(&[1, 1]);
        let copies = home(&spots, five_of_nine(), 1, PackId([0; 16]));
        let of = |domain| -> Vec<u8> {
            copies.iter().filter(|copy| copy.spot.domain == domain).map(|copy| copy.index).collect()
        };
        assert_eq!((of(0), of(1)), (vec![0, 1, 2, 3, 4], vec![4, 5, 6, 7, 8]));
        assert!(can_survive(&spots, five_of_nine(), 1));
        assert!(!can_survive(&spots, five_of_nine(), 2));
    }

    #[test]
    fn every_layout_keeps_what_it_declares_whatever_the_pack() {
        for domains in 1..=9_usize {
            for (k, n) in [(5, 9), (3, 5), (7, 15), (1, 3)] {
                let coding = Coding::new(k, n).unwrap();
                let spots = spots(&vec![2; domains]);
                for survive in 0..domains as u8 {
                    if !can_survive(&spots, coding, survive) {
                        continue;
                    }
                    for pack in 0..12_u8 {
                        let copies = home(&spots, coding, survive, PackId([pack; 16]));
                        assert!(survives(&copies, coding, survive));
                        let indices: BTreeSet<u8> = copies.iter().map(|copy| copy.index).collect();
                        assert_eq!(indices.len(), usize::from(n), "each index stands somewhere");
                    }
                }
            }
        }
    }

    #[test]
    fn packs_spread_evenly_over_locations() {
        let spots = spots(&[1, 1, 1, 1]);
        let mut load: BTreeMap<LocationId, usize> = BTreeMap::new();
        for pack in 0..=255_u8 {
            for copy in home(&spots, five_of_nine(), 1, PackId([pack, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])) {
                *load.entry(copy.spot.location).or_default() += 1;
            }
        }
        assert!(load.values().all(|&shards| shards == 256 * 9 / 4), "{load:?}");
    }

    #[test]
    fn a_handoff_prefers_what_keeps_the_pack_durable() {
        let spots = spots(&[1, 1, 1, 1]);
        let copies = home(&spots, five_of_nine(), 1, PackId([0; 16]));
        let down = copies[0].spot;
        let mut held: Vec<Copy> = copies.iter().copied().filter(|copy| copy.spot != down).collect();
        let reachable: Vec<Spot> = spots.iter().copied().filter(|spot| *spot != down).collect();
        for copy in copies.iter().filter(|copy| copy.spot == down) {
            let spot = handoff(&reachable, &held, five_of_nine(), copy.index).unwrap();
            held.push(Copy { index: copy.index, spot });
        }
        assert!(survives(&held, five_of_nine(), 1), "still durable(1) on three domains");
    }

    #[test]
    fn quorums_catch_one_liar() {
        let pairs: Vec<_> = (1..=6).map(|domains| (write_quorum(domains), read_quorum(domains))).collect();
        assert_eq!(pairs, [(1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4)]);
    }
}
