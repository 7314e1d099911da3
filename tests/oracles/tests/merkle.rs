//! The tree of a shard against `rs_merkle` 1.5 with a hasher that separates leaves from nodes, and against SHA-256.

use oracles::noise;
use rs_merkle::{Hasher, MerkleTree};
use sha2::{Digest, Sha256};
use vault_codec::merkle::{Blake3, Tree, TreeHash, root_from};
use vault_format::Hash;

/// BLAKE3 with 0x00 before a leaf and 0x01 before a node, as FORMAT.md says.
#[derive(Clone)]
struct Separated;

impl Hasher for Separated {
    type Hash = [u8; 32];

    fn hash(leaf: &[u8]) -> [u8; 32] {
        *blake3::hash(&[&[0], leaf].concat()).as_bytes()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        right.map_or(*left, |right| *blake3::hash(&[&[1], &left[..], &right[..]].concat()).as_bytes())
    }
}

/// The same structure over SHA-256: RFC 9162's own hash.
#[derive(Clone)]
struct SeparatedSha;

impl Hasher for SeparatedSha {
    type Hash = [u8; 32];

    fn hash(leaf: &[u8]) -> [u8; 32] {
        Sha256::digest([&[0], leaf].concat()).into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        right.map_or(*left, |right| Sha256::digest([&[1], &left[..], &right[..]].concat()).into())
    }
}

enum OurSha {}

impl TreeHash for OurSha {
    fn leaf(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest([&[0], bytes].concat()).into())
    }

    fn node(left: &Hash, right: &Hash) -> Hash {
        Hash(Sha256::digest([&[1], &left.0[..], &right.0[..]].concat()).into())
    }
}

fn compare<Ours: TreeHash, Theirs: Hasher<Hash = [u8; 32]>>(leaves: usize) {
    let contents: Vec<Vec<u8>> = (0..leaves).map(|leaf| noise(leaf as u64 + 1, 100)).collect();
    let ours = Tree::over::<Ours>(contents.iter().map(|leaf| Ours::leaf(leaf)).collect());
    let hashes: Vec<[u8; 32]> = contents.iter().map(|leaf| Theirs::hash(leaf)).collect();
    let theirs = MerkleTree::<Theirs>::from_leaves(&hashes);
    let root = theirs.root().expect("there is a leaf");
    assert_eq!(ours.root().0, root, "{leaves} leaves");
    let nodes = ours.stored_nodes();
    for (leaf, hash) in hashes.iter().enumerate() {
        assert_eq!(root_from::<Ours>(Hash(*hash), leaf, leaves, &nodes), Some(Hash(root)), "leaf {leaf} of {leaves}");
        assert!(theirs.proof(&[leaf]).verify(root, &[leaf], &[*hash], leaves), "leaf {leaf} of {leaves}");
        let wrong = root_from::<Ours>(Hash([7; 32]), leaf, leaves, &nodes);
        assert_ne!(wrong, Some(Hash(root)), "another leaf passes at {leaf} of {leaves}");
    }
}

#[test]
fn roots_and_proofs_are_theirs_for_every_count_up_to_the_largest_class() {
    (1..=192).for_each(compare::<Blake3, Separated>);
}

#[test]
fn the_structure_is_the_same_over_sha_256() {
    (1..=40).for_each(compare::<OurSha, SeparatedSha>);
}
