//! A persistent Merkle trie: the map under everything the kernel stores.
//!
//! What always holds:
//! - The shape, and so the root hash, is a function of the set of (key, digest) pairs only: a subtree
//!   with no leaf is empty, with one leaf is that leaf, with more is an inner node split by the next key
//!   bit. Insertion order cannot show.
//! - Nodes are shared between versions. A clone is one pointer; a change copies one path. That is what
//!   makes rollback, consistent snapshots and reads during a sync free.
//! - Hashes are computed when the root is asked for, so a batch pays for each touched node once.
//!
//! Keys are BLAKE3 hashes, so depth is about log2(n) + 3 whatever ids clients choose. This is the sparse
//! Merkle tree with collapsed leaves of the literature (as used by Diem), with keyed BLAKE3.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::hash::{Hash, TREE_INNER, TREE_LEAF};

/// A leaf: where it stands, what it is worth, and what it holds.
#[derive(Clone)]
pub(crate) struct Leaf<V> {
    pub(crate) key: Hash,
    /// Hash of the canonical encoding of `value`.
    pub(crate) digest: Hash,
    pub(crate) value: V,
}

struct Inner<V> {
    /// None while a change below has not been hashed yet.
    hash: Option<Hash>,
    children: [Link<V>; 2],
}

enum Link<V> {
    Empty,
    Leaf(Arc<Leaf<V>>),
    Inner(Arc<Inner<V>>),
}

/// The map. `V` is cloned only when a shared leaf is changed in place.
pub(crate) struct Tree<V> {
    root: Link<V>,
    len: u64,
}

/// The way from the root to where a key stands or would stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// Hashes of the siblings, from the root down.
    pub(crate) siblings: Vec<Hash>,
    pub(crate) end: PathEnd,
}

/// What stands at the end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathEnd {
    /// Nothing: the key is absent.
    Empty,
    /// A leaf; the key is present if it is this one's, else absent.
    Leaf { key: Hash, digest: Hash },
}

pub(crate) fn leaf_hash(key: &Hash, digest: &Hash) -> Hash {
    TREE_LEAF.hash(&join(key, digest))
}

pub(crate) fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    TREE_INNER.hash(&join(left, right))
}

fn join(left: &Hash, right: &Hash) -> [u8; 64] {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left.as_bytes());
    both[32..].copy_from_slice(right.as_bytes());
    both
}

impl Path {
    /// The root of any tree in which this path leads to where `key` stands.
    /// None if the end cannot lie there: another leaf that does not share the bits walked.
    pub(crate) fn root(&self, key: &Hash) -> Option<Hash> {
        let mut hash = match &self.end {
            PathEnd::Empty => Hash::ZERO,
            PathEnd::Leaf { key: found, digest } => {
                if (0..self.siblings.len()).any(|bit| found.bit(bit) != key.bit(bit)) {
                    return None;
                }
                leaf_hash(found, digest)
            }
        };
        for (depth, sibling) in self.siblings.iter().enumerate().rev() {
            hash = if key.bit(depth) { inner_hash(sibling, &hash) } else { inner_hash(&hash, sibling) };
        }
        Some(hash)
    }

    /// The digest stored under `key`, if the path ends at it.
    pub(crate) fn digest_of(&self, key: &Hash) -> Option<Hash> {
        match &self.end {
            PathEnd::Leaf { key: found, digest } if found == key => Some(*digest),
            PathEnd::Leaf { .. } | PathEnd::Empty => None,
        }
    }
}

impl<V> Clone for Link<V> {
    fn clone(&self) -> Self {
        match self {
            Link::Empty => Link::Empty,
            Link::Leaf(leaf) => Link::Leaf(Arc::clone(leaf)),
            Link::Inner(inner) => Link::Inner(Arc::clone(inner)),
        }
    }
}

impl<V> Clone for Inner<V> {
    fn clone(&self) -> Self {
        Inner { hash: self.hash, children: self.children.clone() }
    }
}

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Self {
        Tree { root: self.root.clone(), len: self.len }
    }
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Tree { root: Link::Empty, len: 0 }
    }
}

impl<V> Tree<V> {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn leaf(&self, key: &Hash) -> Option<&Arc<Leaf<V>>> {
        let mut link = &self.root;
        for depth in 0.. {
            match link {
                Link::Empty => return None,
                Link::Leaf(leaf) => return (leaf.key == *key).then_some(leaf),
                Link::Inner(inner) => link = &inner.children[key.bit(depth) as usize],
            }
        }
        None
    }

    pub(crate) fn get(&self, key: &Hash) -> Option<&V> {
        self.leaf(key).map(|leaf| &leaf.value)
    }

    pub(crate) fn contains(&self, key: &Hash) -> bool {
        self.leaf(key).is_some()
    }

    /// Puts a leaf, replacing the one with the same key.
    pub(crate) fn insert(&mut self, key: Hash, digest: Hash, value: V) {
        let leaf = Arc::new(Leaf { key, digest, value });
        if !insert_at(&mut self.root, 0, leaf) {
            self.len += 1;
        }
    }

    /// Takes a leaf out. A missing key changes nothing, and copies nothing.
    pub(crate) fn remove(&mut self, key: &Hash) -> Option<Arc<Leaf<V>>> {
        if !self.contains(key) {
            return None;
        }
        self.len -= 1;
        remove_at(&mut self.root, 0, key)
    }

    /// The root hash, hashing what changed since it was last asked for.
    pub(crate) fn root(&mut self) -> Hash {
        rehash(&mut self.root)
    }

    /// The root hash without remembering it; immediate when nothing changed since [`Tree::root`].
    pub(crate) fn root_now(&self) -> Hash {
        hash_now(&self.root)
    }

    /// The way to `key`.
    pub(crate) fn path(&self, key: &Hash) -> Path {
        let mut siblings = Vec::new();
        let mut link = &self.root;
        loop {
            match link {
                Link::Empty => return Path { siblings, end: PathEnd::Empty },
                Link::Leaf(leaf) => {
                    return Path { siblings, end: PathEnd::Leaf { key: leaf.key, digest: leaf.digest } };
                }
                Link::Inner(inner) => {
                    let right = key.bit(siblings.len()) as usize;
                    siblings.push(hash_now(&inner.children[1 - right]));
                    link = &inner.children[right];
                }
            }
        }
    }

    /// All leaves, in the order of their keys.
    pub(crate) fn leaves(&self) -> Leaves<'_, V> {
        Leaves { stack: Vec::from([&self.root]) }
    }

    /// All values, in the order of their keys.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.leaves().map(|leaf| &leaf.value)
    }
}

impl<V: Clone> Tree<V> {
    /// Changes a value in place. The digest stays until [`Tree::set_digest`].
    pub(crate) fn get_mut(&mut self, key: &Hash) -> Option<&mut V> {
        self.leaf_mut(key).map(|leaf| &mut leaf.value)
    }

    pub(crate) fn set_digest(&mut self, key: &Hash, digest: Hash) {
        if let Some(leaf) = self.leaf_mut(key) {
            leaf.digest = digest;
        }
    }

    fn leaf_mut(&mut self, key: &Hash) -> Option<&mut Leaf<V>> {
        if !self.contains(key) {
            return None;
        }
        let mut link = &mut self.root;
        let mut depth = 0;
        loop {
            match link {
                Link::Empty => return None,
                Link::Leaf(leaf) => return Some(Arc::make_mut(leaf)),
                Link::Inner(inner) => {
                    let inner = Arc::make_mut(inner);
                    inner.hash = None;
                    link = &mut inner.children[key.bit(depth) as usize];
                    depth += 1;
                }
            }
        }
    }
}

/// True if a leaf with this key was replaced.
fn insert_at<V>(link: &mut Link<V>, depth: usize, leaf: Arc<Leaf<V>>) -> bool {
    match link {
        Link::Empty => {
            *link = Link::Leaf(leaf);
            false
        }
        Link::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            inner.hash = None;
            insert_at(&mut inner.children[leaf.key.bit(depth) as usize], depth + 1, leaf)
        }
        Link::Leaf(standing) if standing.key == leaf.key => {
            *standing = leaf;
            true
        }
        Link::Leaf(standing) => {
            *link = fork(Arc::clone(standing), leaf, depth);
            false
        }
    }
}

/// The subtree of exactly two leaves, which differ at some bit from `depth` on.
fn fork<V>(standing: Arc<Leaf<V>>, leaf: Arc<Leaf<V>>, depth: usize) -> Link<V> {
    let right = leaf.key.bit(depth);
    let children = if standing.key.bit(depth) == right {
        let below = fork(standing, leaf, depth + 1);
        if right { [Link::Empty, below] } else { [below, Link::Empty] }
    } else if right {
        [Link::Leaf(standing), Link::Leaf(leaf)]
    } else {
        [Link::Leaf(leaf), Link::Leaf(standing)]
    };
    Link::Inner(Arc::new(Inner { hash: None, children }))
}

/// Takes out a leaf that is there, and pulls a lone remaining leaf up.
fn remove_at<V>(link: &mut Link<V>, depth: usize, key: &Hash) -> Option<Arc<Leaf<V>>> {
    let Link::Inner(inner) = link else {
        return match core::mem::replace(link, Link::Empty) {
            Link::Leaf(leaf) => Some(leaf),
            Link::Empty | Link::Inner(_) => None,
        };
    };
    let inner = Arc::make_mut(inner);
    inner.hash = None;
    let removed = remove_at(&mut inner.children[key.bit(depth) as usize], depth + 1, key);
    let collapsed = match &inner.children {
        [Link::Empty, Link::Leaf(leaf)] | [Link::Leaf(leaf), Link::Empty] => Some(Link::Leaf(Arc::clone(leaf))),
        [Link::Empty, Link::Empty] => Some(Link::Empty),
        [_, _] => None,
    };
    if let Some(collapsed) = collapsed {
        *link = collapsed;
    }
    removed
}

fn rehash<V>(link: &mut Link<V>) -> Hash {
    match link {
        Link::Empty => Hash::ZERO,
        Link::Leaf(leaf) => leaf_hash(&leaf.key, &leaf.digest),
        Link::Inner(inner) => {
            if let Some(hash) = inner.hash {
                return hash;
            }
            let inner = Arc::make_mut(inner);
            let [left, right] = &mut inner.children;
            let hash = inner_hash(&rehash(left), &rehash(right));
            inner.hash = Some(hash);
            hash
        }
    }
}

fn hash_now<V>(link: &Link<V>) -> Hash {
    match link {
        Link::Empty => Hash::ZERO,
        Link::Leaf(leaf) => leaf_hash(&leaf.key, &leaf.digest),
        Link::Inner(inner) => {
            let [left, right] = &inner.children;
            inner.hash.unwrap_or_else(|| inner_hash(&hash_now(left), &hash_now(right)))
        }
    }
}

/// Iterator over the leaves of a tree.
pub(crate) struct Leaves<'a, V> {
    stack: Vec<&'a Link<V>>,
}

impl<'a, V> Iterator for Leaves<'a, V> {
    type Item = &'a Arc<Leaf<V>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.stack.pop()? {
                Link::Empty => {}
                Link::Leaf(leaf) => return Some(leaf),
                Link::Inner(inner) => {
                    let [left, right] = &inner.children;
                    self.stack.push(right);
                    self.stack.push(left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{TREE_KEY, VALUE};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(number: u8) -> Hash {
        TREE_KEY.hash(&[number])
    }

    fn digest(value: u8) -> Hash {
        VALUE.hash(&[value])
    }

    /// The root by its definition: recursion over the sorted set, no tree.
    fn model_root(pairs: &[(Hash, Hash)], depth: usize) -> Hash {
        match pairs {
            [] => Hash::ZERO,
            [(key, digest)] => leaf_hash(key, digest),
            _ => {
                let split = pairs.partition_point(|(key, _)| !key.bit(depth));
                inner_hash(&model_root(&pairs[..split], depth + 1), &model_root(&pairs[split..], depth + 1))
            }
        }
    }

    proptest! {
        #[test]
        fn root_is_the_definition_whatever_the_history(changes in prop::collection::vec((any::<u8>(), any::<Option<u8>>(), any::<bool>()), 0..300)) {
            let mut tree = Tree::default();
            let mut model = BTreeMap::new();
            for (number, value, ask) in changes {
                let before = tree.clone();
                let (len, root) = (before.len(), before.root_now());
                if let Some(value) = value {
                    tree.insert(key(number), digest(value), value);
                    model.insert(key(number), digest(value));
                } else {
                    prop_assert_eq!(tree.remove(&key(number)).is_some(), model.remove(&key(number)).is_some());
                }
                if ask {
                    tree.root();
                }
                prop_assert_eq!((before.len(), before.root_now()), (len, root), "an older version never changes");
            }
            let pairs: std::vec::Vec<_> = model.into_iter().collect();
            prop_assert_eq!(tree.root_now(), model_root(&pairs, 0));
            prop_assert_eq!(tree.root(), model_root(&pairs, 0));
            prop_assert_eq!(tree.len(), pairs.len() as u64);
            let listed: std::vec::Vec<_> = tree.leaves().map(|leaf| (leaf.key, leaf.digest)).collect();
            prop_assert_eq!(listed, pairs);
        }

        #[test]
        fn paths_lead_to_the_root_and_only_there(numbers in prop::collection::btree_set(any::<u8>(), 0..60), asked in any::<u8>()) {
            let mut tree = Tree::default();
            for number in &numbers {
                tree.insert(key(*number), digest(*number), ());
            }
            let root = tree.root();
            let path = tree.path(&key(asked));
            prop_assert_eq!(path.root(&key(asked)), Some(root));
            prop_assert_eq!(path.digest_of(&key(asked)), numbers.contains(&asked).then(|| digest(asked)));
            let mut forged = path.clone();
            forged.end = PathEnd::Leaf { key: key(asked), digest: digest(asked.wrapping_add(1)) };
            prop_assert_ne!(forged.root(&key(asked)), Some(root));
            for cut in 0..path.siblings.len() {
                let mut forged = path.clone();
                forged.siblings.truncate(cut);
                prop_assert_ne!(forged.root(&key(asked)), Some(root));
                let mut forged = path.clone();
                forged.siblings[cut] = digest(0);
                prop_assert_ne!(forged.root(&key(asked)), Some(root));
            }
        }
    }
}
