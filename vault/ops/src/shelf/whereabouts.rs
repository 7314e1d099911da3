//! Where chunks stand, by the tables of contents that were read.
//!
//! What always holds: 16 bytes say where a chunk is, so a point of millions of chunks can
//! be restored in bounded memory; they are told apart by the first eight bytes of their
//! ids, and whoever shares them with another, or stands in two packs, is kept by its whole
//! id. What is found here is looked up in the pack's table before it is believed.

use std::collections::BTreeMap;

use vault_format::{ChunkId, PackId};

/// A pack's number here, and the frame in it.
type Place = (u32, u32);

#[derive(Default)]
pub(super) struct Whereabouts {
    packs: Vec<PackId>,
    places: BTreeMap<u64, Place>,
    rivals: BTreeMap<ChunkId, Place>,
}

impl Whereabouts {
    /// Notes the chunks of a pack, in the order of its frames.
    pub(super) fn add(&mut self, pack: PackId, chunks: impl Iterator<Item = ChunkId>) {
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        for (frame, id) in (0..).zip(chunks) {
            match self.places.entry(short(id)) {
                std::collections::btree_map::Entry::Vacant(free) => {
                    free.insert((number, frame));
                }
                std::collections::btree_map::Entry::Occupied(_) => {
                    self.rivals.insert(id, (number, frame));
                }
            }
        }
    }

    /// Where a chunk stands, if anywhere.
    pub(super) fn find(&self, id: ChunkId) -> Option<(PackId, u32)> {
        let &(number, frame) = self.rivals.get(&id).or_else(|| self.places.get(&short(id)))?;
        Some((*self.packs.get(number as usize)?, frame))
    }
}

fn short(id: ChunkId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_with_the_same_beginning_are_told_apart() {
        let id = |last: u8| {
            let mut id = ChunkId([3; 32]);
            id.0[31] = last;
            id
        };
        let mut whereabouts = Whereabouts::default();
        let (one, two) = (PackId([1; 16]), PackId([2; 16]));
        whereabouts.add(one, [id(1), id(2)].into_iter());
        whereabouts.add(two, [id(3), id(1)].into_iter());
        assert_eq!(whereabouts.find(id(2)), Some((one, 1)));
        assert_eq!(whereabouts.find(id(3)), Some((two, 0)));
        assert_eq!(whereabouts.find(id(1)), Some((two, 1)), "either is right");
        assert_eq!(whereabouts.find(ChunkId([4; 32])), None);
        // Nobody told it apart yet: the table will.
        assert_eq!(whereabouts.find(id(9)), Some((one, 0)));
    }
}
