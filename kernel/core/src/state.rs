//! The whole state, and the one way to change it.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::change::each;
use crate::collection::{Collection, Head, TrashedCollection};
use crate::command::Command;
use crate::error::{Error, Rule};
use crate::hash::{Hash, STATE};
use crate::id::{Id, Name};
use crate::thing::ThingType;
use crate::tree::Tree;
use crate::wire::Put;

/// Version of the state hash: first in what is hashed.
pub const STATE_VERSION: u32 = 1;

/// The kernel's state. A clone costs a few pointers and never changes with the original.
#[derive(Clone, Default)]
pub struct State {
    sequence: u64,
    collections: Tree<Collection>,
    trashed: Tree<TrashedCollection>,
    /// Keys whose digest in `collections` or `trashed` is older than what they hold.
    stale: BTreeSet<Hash>,
}

/// What a command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The sequence the state stands at now.
    pub sequence: u64,
    /// Things put, deleted, restored or purged.
    pub changed: u64,
}

pub(crate) fn state_hash(sequence: u64, collections: (Hash, u64), trashed: (Hash, u64)) -> Hash {
    let mut bytes = Vec::with_capacity(4 + 8 + 80 + 32);
    bytes.u32(STATE_VERSION);
    bytes.u64(sequence);
    for (root, count) in [collections, trashed] {
        bytes.raw(root.as_bytes());
        bytes.u64(count);
    }
    STATE.hash(&bytes)
}

fn no_collection(name: &Name) -> Error {
    Error::NotFound { what: "collection", id: name.to_string() }
}

impl State {
    /// The empty state at sequence 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commands led here.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Applies one command. A refused command changes nothing at all.
    pub fn apply(&mut self, command: Command) -> Result<Outcome, Error> {
        let before = self.clone();
        match self.change(command) {
            Ok(changed) => {
                self.sequence += 1;
                Ok(Outcome { sequence: self.sequence, changed })
            }
            Err(error) => {
                *self = before;
                Err(error)
            }
        }
    }

    /// The state hash, hashing what changed since it was last asked for.
    pub fn hash(&mut self) -> Hash {
        for key in core::mem::take(&mut self.stale) {
            // Both, not either: a name of 16 characters can be the bytes of a trash id.
            if let Some(digest) = self.collections.get_mut(&key).map(Collection::digest) {
                self.collections.set_digest(&key, digest);
            }
            if let Some(digest) = self.trashed.get_mut(&key).map(TrashedCollection::digest) {
                self.trashed.set_digest(&key, digest);
            }
        }
        self.collections.root();
        self.trashed.root();
        state_hash(self.sequence, self.collections_root(), self.trashed_root())
    }

    /// Did something change since the hash was last asked for?
    pub(crate) fn is_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Root and count of the tree of collections. Current once [`State::hash`] was asked for.
    pub(crate) fn collections_root(&self) -> (Hash, u64) {
        (self.collections.root_now(), self.collections.len())
    }

    pub(crate) fn trashed_root(&self) -> (Hash, u64) {
        (self.trashed.root_now(), self.trashed.len())
    }

    pub(crate) fn collections_tree(&self) -> &Tree<Collection> {
        &self.collections
    }

    /// A collection by name.
    pub fn collection(&self, name: &Name) -> Option<&Collection> {
        self.collections.get(&name.key())
    }

    /// All collections, by name.
    pub fn collections(&self) -> Vec<&Collection> {
        let mut all: Vec<_> = self.collections.values().collect();
        all.sort_by(|left, right| left.name().cmp(right.name()));
        all
    }

    /// All collections in the trash, by trash id.
    pub fn trashed_collections(&self) -> Vec<&TrashedCollection> {
        let mut all: Vec<_> = self.trashed.values().collect();
        all.sort_by_key(|trashed| trashed.trash_id);
        all
    }

    /// Sets the counter of a state that a snapshot brings.
    pub(crate) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    pub(crate) fn adopt_collection(&mut self, collection: Collection) {
        let key = collection.name().key();
        self.stale.insert(key);
        self.collections.insert(key, Hash::ZERO, collection);
    }

    pub(crate) fn adopt_trashed(&mut self, trashed: TrashedCollection) {
        let key = trashed.trash_id.key();
        self.stale.insert(key);
        self.trashed.insert(key, Hash::ZERO, trashed);
    }

    fn collection_mut(&mut self, name: &Name) -> Result<&mut Collection, Error> {
        let key = name.key();
        self.stale.insert(key);
        self.collections.get_mut(&key).ok_or_else(|| no_collection(name))
    }

    fn change(&mut self, command: Command) -> Result<u64, Error> {
        match command {
            Command::CreateCollection { name, dimension, metric, parameters, created_at, metadata } => {
                self.create(Head { name, dimension, metric, parameters, created_at, metadata })
            }
            Command::TrashCollection { name, trash_id, deleted_at } => self.trash(&name, trash_id, deleted_at),
            Command::RestoreCollection { trash_id, name } => self.restore(trash_id, name),
            Command::PurgeCollection { trash_id } => {
                self.trashed.remove(&trash_id.key()).ok_or_else(|| no_trashed(trash_id)).map(|_| 1)
            }
            Command::SetParameters { collection, parameters } => {
                self.collection_mut(&collection)?.set_parameters(parameters);
                Ok(1)
            }
            Command::DefineKind { collection, kind } => self.collection_mut(&collection)?.define_kind(kind),
            Command::PutRecords { collection, existing, records } => {
                let collection = self.collection_mut(&collection)?;
                each(records, |record| collection.put_record(record, existing))
            }
            Command::PutNodes { collection, existing, nodes } => {
                let collection = self.collection_mut(&collection)?;
                each(nodes, |node| collection.put_node(node, existing))
            }
            Command::PutEdges { collection, existing, edges } => {
                let collection = self.collection_mut(&collection)?;
                each(edges, |edge| collection.put_edge(edge, existing))
            }
            Command::DeleteRecords(deletion) => {
                self.collection_mut(&deletion.collection)?.delete(ThingType::Record, &deletion)
            }
            Command::DeleteNodes(deletion) => {
                self.collection_mut(&deletion.collection)?.delete(ThingType::Node, &deletion)
            }
            Command::DeleteEdges(deletion) => {
                self.collection_mut(&deletion.collection)?.delete(ThingType::Edge, &deletion)
            }
            Command::RestoreThings { collection, things } => self.collection_mut(&collection)?.restore_things(&things),
            Command::PurgeThings { collection, things } => self.collection_mut(&collection)?.purge_things(&things),
            Command::PurgeBefore { collection, deleted_before, limit } => {
                Ok(self.collection_mut(&collection)?.purge_before(deleted_before, limit))
            }
            Command::Batch(commands) => each(commands, |command| {
                if matches!(command, Command::Batch(_)) {
                    return Err(Rule::NestedBatch.into());
                }
                // `each` refuses what changes nothing, but a purge may find nothing due: count the command.
                self.change(command).map(|changed| changed.max(1))
            }),
        }
    }

    fn create(&mut self, head: Head) -> Result<u64, Error> {
        head.check()?;
        self.check_free(&head.name)?;
        self.adopt_collection(Collection::new(head));
        Ok(1)
    }

    fn trash(&mut self, name: &Name, trash_id: Id, deleted_at: i64) -> Result<u64, Error> {
        if self.trashed.contains(&trash_id.key()) {
            return Err(Error::Conflict {
                what: "trashed collection",
                id: trash_id.to_string(),
                why: "exists already",
            });
        }
        let leaf = self.collections.remove(&name.key()).ok_or_else(|| no_collection(name))?;
        self.adopt_trashed(TrashedCollection { trash_id, deleted_at, collection: leaf.value.clone() });
        Ok(1)
    }

    fn restore(&mut self, trash_id: Id, name: Name) -> Result<u64, Error> {
        self.check_free(&name)?;
        let leaf = self.trashed.remove(&trash_id.key()).ok_or_else(|| no_trashed(trash_id))?;
        let mut collection = leaf.value.collection.clone();
        collection.change_head(|head| head.name = name);
        self.adopt_collection(collection);
        Ok(1)
    }

    fn check_free(&self, name: &Name) -> Result<(), Error> {
        if self.collections.contains(&name.key()) {
            return Err(Error::Conflict { what: "collection", id: name.to_string(), why: "exists already" });
        }
        Ok(())
    }
}

fn no_trashed(trash_id: Id) -> Error {
    Error::NotFound { what: "trashed collection", id: trash_id.to_string() }
}
