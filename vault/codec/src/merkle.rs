//! The Merkle tree over a shard's leaves: the structure of RFC 9162, section
//! 2.1, a leaf hashed as `H(0x00 || leaf)` and a node as `H(0x01 || left || right)`.
//!
//! What always holds: a node without a sibling moves up unchanged (it is never
//! doubled, so no two leaf counts give one root); leaf count and leaf size come
//! from the signed header, never from the tree. Generic over the hash, because
//! the suite names it and because SHA-256 lets the structure be checked against
//! the published vectors.

use vault_format::Hash;

/// The hash of leaves and nodes.
pub trait TreeHash {
    /// Hash of one leaf.
    fn leaf(bytes: &[u8]) -> Hash;

    /// Hash of a node.
    fn node(left: &Hash, right: &Hash) -> Hash;
}

/// Suite 1: BLAKE3.
pub enum Blake3 {}

impl TreeHash for Blake3 {
    fn leaf(bytes: &[u8]) -> Hash {
        Hash(*blake3::Hasher::new().update(&[0]).update(bytes).finalize().as_bytes())
    }

    fn node(left: &Hash, right: &Hash) -> Hash {
        Hash(*blake3::Hasher::new().update(&[1]).update(&left.0).update(&right.0).finalize().as_bytes())
    }
}

/// All levels of a tree, leaves first, root last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Builds the levels above the leaves' hashes.
    ///
    /// # Panics
    /// Without a leaf; a shard has at least one.
    pub fn over<H: TreeHash>(leaves: Vec<Hash>) -> Self {
        assert!(!leaves.is_empty(), "a shard has at least one leaf");
        let mut levels = vec![leaves];
        while let [.., top] = levels.as_slice()
            && top.len() > 1
        {
            let above = top.chunks(2).map(|pair| if let [l, r] = pair { H::node(l, r) } else { pair[0] }).collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.levels[self.levels.len() - 1][0]
    }

    /// The leaves' hashes.
    pub fn leaves(&self) -> &[Hash] {
        &self.levels[0]
    }

    /// The Merkle section of a shard object: every level below the root, leaves
    /// first; empty for a single leaf.
    pub fn stored_nodes(&self) -> Vec<u8> {
        let below = &self.levels[..self.levels.len() - 1];
        below.iter().flatten().flat_map(|hash| hash.0).collect()
    }
}

/// Climbs from one leaf's hash to the root with the siblings found in a Merkle
/// section; `None` if the section has another length than the leaf count
/// implies, or the leaf does not exist.
///
/// Only the siblings on the path are used; whatever else stands in the section
/// cannot make a wrong leaf good.
pub fn root_from<H: TreeHash>(leaf_hash: Hash, leaf: usize, leaves: usize, nodes: &[u8]) -> Option<Hash> {
    if leaf >= leaves {
        return None;
    }
    let (mut hash, mut at, mut width, mut rest) = (leaf_hash, leaf, leaves, nodes);
    while width > 1 {
        let (level, above) = rest.split_at_checked(width * Hash::BYTES)?;
        let sibling = at ^ 1;
        if sibling < width {
            let sibling = Hash::from_slice(&level[sibling * Hash::BYTES..(sibling + 1) * Hash::BYTES])?;
            hash = if at.is_multiple_of(2) { H::node(&hash, &sibling) } else { H::node(&sibling, &hash) };
        }
        (at, width, rest) = (at / 2, width.div_ceil(2), above);
    }
    rest.is_empty().then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};
    use vault_format::shard::ShardLayout;
    use vault_format::suite::Class;

    use super::*;

    enum Sha {}

    impl TreeHash for Sha {
        fn leaf(bytes: &[u8]) -> Hash {
            Hash(Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
        }

        fn node(left: &Hash, right: &Hash) -> Hash {
            Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
        }
    }

    /// MTH as RFC 9162 defines it: split at the largest power of two below n.
    fn defined<H: TreeHash>(leaves: &[Hash]) -> Hash {
        if let [one] = leaves {
            return *one;
        }
        let half = leaves.len().next_power_of_two() / 2;
        H::node(&defined::<H>(&leaves[..half]), &defined::<H>(&leaves[half..]))
    }

    /// The test data of the certificate-transparency project: eight leaves and
    /// the root after each.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn published_roots_under_sha_256() {
        let leaves: Vec<Hash> = LEAVES.iter().map(|leaf| Sha::leaf(&unhex(leaf))).collect();
        for (count, root) in (1..).zip(ROOTS) {
            assert_eq!(Tree::over::<Sha>(leaves[..count].to_vec()).root().to_string(), root, "{count} leaves");
        }
    }

    #[test]
    fn blake3_leaves_and_nodes_carry_their_prefix() {
        let plain = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
        let (left, right) = (plain(b"\0left"), plain(b"\0right"));
        let tree = Tree::over::<Blake3>(vec![Blake3::leaf(b"left"), Blake3::leaf(b"right")]);
        assert_eq!(tree.leaves(), [Hash(left), Hash(right)]);
        assert_eq!(tree.root().0, plain(&[&[1][..], &left, &right].concat()));
    }

    #[test]
    fn stored_nodes_are_as_many_as_the_layout_says() {
        for class in Class::ALL {
            let tree = Tree::over::<Blake3>(vec![Hash([7; 32]); class.leaves()]);
            assert_eq!(tree.stored_nodes().len(), ShardLayout::new(class).nodes_count() * Hash::BYTES);
        }
    }

    proptest! {
        #[test]
        fn root_is_as_defined_and_every_leaf_climbs_to_it(count in 1_usize..70, salt in any::<u8>()) {
            let leaves: Vec<Hash> = (0..count).map(|at| Blake3::leaf(&[salt, at as u8])).collect();
            let tree = Tree::over::<Blake3>(leaves.clone());
            let nodes = tree.stored_nodes();
            prop_assert_eq!(tree.root(), defined::<Blake3>(&leaves));
            for (at, leaf) in leaves.iter().enumerate() {
                let climb = |hash, at, nodes: &[u8]| root_from::<Blake3>(hash, at, count, nodes);
                prop_assert_eq!(climb(*leaf, at, &nodes), Some(tree.root()));
                prop_assert_ne!(climb(Hash([1; 32]), at, &nodes), Some(tree.root()));
                prop_assert_eq!(climb(*leaf, count, &nodes), None);
                if count > 1 {
                    prop_assert_ne!(climb(*leaf, (at + 1) % count, &nodes), Some(tree.root()));
                    prop_assert_eq!(climb(*leaf, at, &nodes[1..]), None);
                }
            }
        }
    }
}
