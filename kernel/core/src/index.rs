//! Who refers to whom: from an owner (a node or a record) to the ids that point at it.
//!
//! Derived from nodes and edges, so outside the state hash and outside snapshots; it exists to find
//! what a delete would leave dangling without a scan.

use alloc::vec::Vec;

use crate::hash::Hash;
use crate::id::Id;
use crate::tree::Tree;

#[derive(Clone, Default)]
pub(crate) struct Index {
    owners: Tree<Tree<Id>>,
}

impl Index {
    pub(crate) fn add(&mut self, owner: Id, from: Id) {
        let key = owner.key();
        if !self.owners.contains(&key) {
            self.owners.insert(key, Hash::ZERO, Tree::default());
        }
        if let Some(referrers) = self.owners.get_mut(&key) {
            referrers.insert(from.key(), Hash::ZERO, from);
        }
    }

    pub(crate) fn remove(&mut self, owner: Id, from: Id) {
        let key = owner.key();
        let Some(referrers) = self.owners.get_mut(&key) else { return };
        referrers.remove(&from.key());
        if referrers.is_empty() {
            self.owners.remove(&key);
        }
    }

    pub(crate) fn has(&self, owner: Id) -> bool {
        self.owners.contains(&owner.key())
    }

    /// In ascending order of ids.
    pub(crate) fn of(&self, owner: Id) -> Vec<Id> {
        let mut ids: Vec<Id> =
            self.owners.get(&owner.key()).map(|referrers| referrers.values().copied().collect()).unwrap_or_default();
        ids.sort_unstable();
        ids
    }
}
