//! What a shelf keeps in memory: parts of packs, and tables of contents.
//!
//! What always holds: bounded in bytes, but the newest of each kind stays whatever its
//! size; what was not used for longest goes first; no part lies within another of the
//! same pack, so of those that begin before a range the last is the one that may hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use vault_format::PackId;

/// A part of a pack's body in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) pack: PackId,
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Things with a size, by key; those that were not used for longest go.
pub(super) struct Kept<K, V> {
    most: usize,
    bytes: usize,
    next_age: u64,
    held: BTreeMap<K, Held<V>>,
    ages: BTreeMap<u64, K>,
}

struct Held<V> {
    value: V,
    bytes: usize,
    age: u64,
}

impl<K: Ord + Copy, V> Kept<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, bytes: 0, next_age: 0, held: BTreeMap::new(), ages: BTreeMap::new() }
    }

    /// A value, which is now the last that was used.
    pub(super) fn get(&mut self, key: K) -> Option<&V> {
        let age = self.age();
        let held = self.held.get_mut(&key)?;
        self.ages.remove(&std::mem::replace(&mut held.age, age));
        self.ages.insert(age, key);
        Some(&held.value)
    }

    pub(super) fn keep(&mut self, key: K, value: V, bytes: usize) {
        self.drop(key);
        let age = self.age();
        self.ages.insert(age, key);
        self.held.insert(key, Held { value, bytes, age });
        self.bytes += bytes;
        while self.bytes > self.most
            && self.held.len() > 1
            && let Some((_, oldest)) = self.ages.first_key_value()
        {
            self.drop(*oldest);
        }
    }

    fn drop(&mut self, key: K) {
        if let Some(held) = self.held.remove(&key) {
            self.ages.remove(&held.age);
            self.bytes -= held.bytes;
        }
    }

    fn age(&mut self) -> u64 {
        self.next_age += 1;
        self.next_age
    }
}

/// Parts of packs.
pub(super) type Pieces = Kept<(PackId, u64), Piece>;

impl Pieces {
    /// A part that holds this range of a pack.
    pub(super) fn holding(&mut self, pack: PackId, range: &Range<u64>) -> Option<Piece> {
        let before = self.held.range((pack, 0)..=(pack, range.start)).next_back();
        let key = before.filter(|(_, held)| held.value.end() >= range.end).map(|(&key, _)| key)?;
        self.get(key).cloned()
    }

    /// Keeps a part, instead of all that lie within it.
    pub(super) fn add(&mut self, piece: Piece) {
        let after = self.held.range((piece.pack, piece.offset)..=(piece.pack, piece.end()));
        let within: BTreeSet<(PackId, u64)> =
            after.filter(|(_, held)| held.value.end() <= piece.end()).map(|(&key, _)| key).collect();
        for key in within {
            self.drop(key);
        }
        let bytes = piece.bytes.len();
        self.keep((piece.pack, piece.offset), piece, bytes);
    }
}

/// Tables of contents.
pub(super) type Tables<T> = Kept<PackId, Arc<T>>;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PACK: PackId = PackId([7; 16]);

    fn piece(offset: u64, bytes: usize) -> Piece {
        Piece { pack: PACK, offset, bytes: Bytes::from(vec![0; bytes]) }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut kept: Kept<u8, &str> = Kept::new(10);
        kept.keep(1, "one", 4);
        kept.keep(2, "two", 4);
        assert_eq!(kept.get(1), Some(&"one"));
        kept.keep(3, "three", 4);
        assert_eq!([1, 2, 3].map(|key| kept.get(key).copied()), [Some("one"), None, Some("three")]);
        kept.keep(4, "large", 100);
        assert_eq!([1, 3, 4].map(|key| kept.get(key).copied()), [None, None, Some("large")], "the newest stays");
        kept.keep(4, "small", 1);
        assert_eq!(kept.bytes, 1, "instead of what had its key");
    }

    #[test]
    fn a_range_is_found_in_the_part_that_holds_all_of_it() {
        let mut pieces = Pieces::new(1 << 20);
        pieces.add(piece(10, 10));
        pieces.add(piece(15, 20));
        for (range, holder) in
            [(10..20, Some(10)), (15..35, Some(15)), (12..18, Some(10)), (9..12, None), (14..30, None)]
        {
            let found = pieces.holding(PACK, &range).map(|piece| piece.offset);
            assert_eq!(found, holder, "{range:?}");
        }
        pieces.add(piece(0, 100));
        assert_eq!((pieces.held.len(), pieces.bytes), (1, 100), "it holds what the others held");
        assert_eq!(pieces.holding(PackId([8; 16]), &(0..1)), None);
    }
}
