//! Torn chains: manifests of a writer, or tombstones of a janitor, of which some are
//! missing among those found.
//!
//! What always holds: a chain is taken whole from its first record on, or not at all; what
//! is left out is named.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::manifest::Manifest;
use vault_format::tombstone::Tombstone;
use vault_format::{Hash, WriterId, names};

use crate::heads::Position;
use crate::orphans::{self, Records};

/// A record's place in its chain, its name, its hash, and the hash it builds on.
struct Link {
    at: Position,
    name: String,
    hash: Hash,
    previous: Hash,
}

/// Takes records of torn chains out of what comes home.
pub(crate) fn leave(records: &mut Records) {
    let mut writers: BTreeMap<WriterId, Vec<Link>> = BTreeMap::new();
    let mut janitors: BTreeMap<WriterId, Vec<Link>> = BTreeMap::new();
    for (name, bytes) in &records.good {
        let link = |at, previous| Link { at, name: name.clone(), hash: keys::record::hash(bytes), previous };
        if let Some((writer, epoch, sequence)) = names::parse_manifest(name)
            && let Ok(body) = orphans::body::<Manifest>("manifest", bytes)
        {
            writers.entry(writer).or_default().push(link((epoch, sequence), body.previous));
        } else if let Some((janitor, sequence)) = names::parse_tombstone(name)
            && let Ok(body) = orphans::body::<Tombstone>("tombstone", bytes)
        {
            janitors.entry(janitor).or_default().push(link((1, sequence), body.previous));
        }
    }
    let manifests = "of a chain of manifests with a gap: its points are vouched for by this host";
    let tombstones = "of a chain of tombstones with a gap: what it forgot may be back";
    for (chains, why) in [(writers, manifests), (janitors, tombstones)] {
        for mut links in chains.into_values() {
            links.sort_by_key(|link| link.at);
            if !is_whole(&links) {
                for link in links {
                    records.good.remove(&link.name);
                    records.left.push(format!("{}: {why}", link.name));
                }
            }
        }
    }
}

/// Whether each record follows the one before it, the first of an epoch any earlier one.
fn is_whole(links: &[Link]) -> bool {
    let mut earlier = BTreeSet::from([Hash::default()]);
    let (mut before, mut previous) = ((1, 0), Hash::default());
    for link in links {
        let next = link.at == (before.0, before.1 + 1) && link.previous == previous;
        let opens = link.at.0 > before.0 && link.at.1 == 1 && earlier.contains(&link.previous);
        if !next && !opens {
            return false;
        }
        (before, previous) = (link.at, link.hash);
        earlier.insert(link.hash);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(at: Position, hash: u8, previous: u8) -> Link {
        Link { at, name: String::new(), hash: Hash([hash; 32]), previous: Hash([previous; 32]) }
    }

    #[test]
    fn a_chain_is_whole_from_its_first_record_on() {
        let (one, two, three) = (|| link((1, 1), 1, 0), || link((1, 2), 2, 1), || link((1, 3), 3, 2));
        assert!(is_whole(&[]) && is_whole(&[one(), two(), three()]));
        assert!(!is_whole(&[two(), three()]) && !is_whole(&[one(), three()]));
        assert!(!is_whole(&[one(), link((1, 2), 2, 9)]));
        let opens = |previous| link((2, 1), 4, previous);
        assert!(is_whole(&[one(), two(), opens(1)]) && is_whole(&[one(), opens(0)]) && is_whole(&[opens(0)]));
        assert!(!is_whole(&[one(), opens(2)]), "what it builds on is missing");
        assert!(!is_whole(&[one(), link((2, 2), 4, 1)]));
    }
}
