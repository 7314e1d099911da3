//! Fences: epochs of silent writers that are closed, so that nobody waits for them.
//!
//! What always holds: a fence counts against a manifest only when it stands on a
//! write quorum of domains, so that all readers agree; a writer heeds any it sees;
//! of several in force for one epoch the one that lets most through counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vault_format::certificate::Fence;
use vault_format::{Hash, WriterId};

use crate::heads::Position;
use crate::vault::Vault;

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

    /// The same fences as a writer heeds them: in an epoch that none in force closes the
    /// first one seen does.
    pub(crate) fn heeded(&self) -> Self {
        let mut heeded = self.clone();
        for fence in &self.all {
            let at = (fence.body.writer, fence.body.epoch);
            if !self.closed.contains_key(&at) {
                let last = heeded.closed.entry(at).or_insert(fence.body.sequence);
                *last = (*last).min(fence.body.sequence);
            }
        }
        heeded
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

    /// Whether any fence seen, in force or not, stops a writer at this place. Only one
    /// in force lets it through behind another: one that is still being written may
    /// never stand, and a janitor that does not see it goes by the other.
    pub fn warn(&self, writer: WriterId, (epoch, sequence): Position) -> bool {
        if self.closed.get(&(writer, epoch)).is_some_and(|last| sequence <= *last) {
            return false;
        }
        let named = self.all.iter().filter(|fence| (fence.body.writer, fence.body.epoch) == (writer, epoch));
        named.into_iter().any(|fence| sequence > fence.body.sequence)
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

impl Vault {
    /// The same vault as a writer sees its own chain: a fence counts as soon as one
    /// location shows it.
    #[must_use]
    pub(crate) fn heeding(&self) -> Self {
        Self { marks: Arc::new(self.marks.heeding()), ..self.clone() }
    }

    /// The same vault as if no fence stood: for what is looked at behind one.
    #[must_use]
    pub(crate) fn unfenced(&self) -> Self {
        Self { marks: Arc::new(self.marks.without_fences()), ..self.clone() }
    }
}
