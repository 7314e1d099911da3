//! Fences: epochs of silent writers that are closed, so that nobody waits for them.
//!
//! What always holds: a fence counts against a manifest only when it stands on a
//! write quorum of domains, so that all readers agree; a writer heeds any it sees;
//! of several for one epoch the one that lets most through counts.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::certificate::Fence;
use vault_format::{Hash, WriterId};

use crate::heads::Position;

/// A verified fence.
#[derive(Clone, Debug)]
pub struct SignedFence {
    /// Hash of its envelope.
    pub hash: Hash,
    /// Its envelope.
    pub bytes: Vec<u8>,
    /// Its body.
    pub body: Fence,
    /// Domains that show it.
    pub domains: BTreeSet<u16>,
}

/// All fences known.
#[derive(Clone, Debug, Default)]
pub struct Fences {
    all: Vec<SignedFence>,
    /// The last sequence that counts in a closed epoch.
    closed: BTreeMap<(WriterId, u64), u64>,
}

impl Fences {
    /// Of these, those on at least `quorum` domains are in force.
    pub fn new(all: Vec<SignedFence>, quorum: usize) -> Self {
        let mut closed: BTreeMap<(WriterId, u64), u64> = BTreeMap::new();
        for fence in all.iter().filter(|fence| fence.domains.len() >= quorum) {
            let last = closed.entry((fence.body.writer, fence.body.epoch)).or_insert(fence.body.sequence);
            *last = (*last).max(fence.body.sequence);
        }
        Self { all, closed }
    }

    /// The same fences, each in force as soon as it is seen anywhere: a writer heeds any.
    pub(crate) fn heeded(&self) -> Self {
        Self::new(self.all.clone(), 1)
    }

    /// All that verified, in force or not.
    pub fn all(&self) -> &[SignedFence] {
        &self.all
    }

    /// Whether a manifest of this place counts.
    pub fn permit(&self, writer: WriterId, (epoch, sequence): Position) -> bool {
        self.closed.get(&(writer, epoch)).is_none_or(|last| sequence <= *last)
    }

    /// Whether this epoch of a writer is closed by a fence in force.
    pub fn closes(&self, writer: WriterId, epoch: u64) -> bool {
        self.closed.contains_key(&(writer, epoch))
    }

    /// Whether any fence seen, in force or not, stops a writer at this place.
    pub fn warn(&self, writer: WriterId, (epoch, sequence): Position) -> bool {
        let named = self.all.iter().filter(|fence| (fence.body.writer, fence.body.epoch) == (writer, epoch));
        named.map(|fence| fence.body.sequence).max().is_some_and(|last| sequence > last)
    }

    /// Whether any fence seen, in force or not, names this epoch of a writer.
    pub fn names(&self, writer: WriterId, epoch: u64) -> bool {
        self.all.iter().any(|fence| (fence.body.writer, fence.body.epoch) == (writer, epoch))
    }

    /// The highest epoch of a writer that any fence seen closes.
    pub fn newest_closed(&self, writer: WriterId) -> Option<u64> {
        self.all.iter().filter(|fence| fence.body.writer == writer).map(|fence| fence.body.epoch).max()
    }
}
