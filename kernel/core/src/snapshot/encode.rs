//! State -> snapshot, a section at a time.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Header, Section};
use crate::collection::{Collection, StoredRecord};
use crate::hash::{Hash, SNAPSHOT};
use crate::state::State;
use crate::thing::{Edge, Encoded, Kind, Node, Record, ThingRef, Trashed};
use crate::tree::{Leaf, Tree};
use crate::wire::Put;

/// A section ends after an item whose tree key starts with a zero byte (one in 256, whatever stands
/// around it), once it holds this much, ...
const SECTION_BYTES_WANTED: usize = 64 << 10;
/// ... or at this size at the latest.
const SECTION_BYTES_FULL: usize = 1 << 20;

/// Sorted leaves of one tree and how far they were written.
struct Cursor<V> {
    leaves: Vec<Arc<Leaf<V>>>,
    next: usize,
}

enum Part {
    Head(Section, Vec<u8>),
    Kinds(Cursor<Kind>),
    Records(Cursor<StoredRecord>),
    Nodes(Cursor<Node>),
    Edges(Cursor<Edge>),
    Trash(Cursor<Trashed>),
    End,
}

/// Writes a snapshot as an iterator of byte pieces of at most a section each, so that a large state
/// never stands in memory twice.
pub struct Encoder {
    header: Option<Vec<u8>>,
    state: State,
    state_hash: Hash,
    /// Collections not opened yet, by what comes first.
    collections: VecDeque<(Option<Vec<u8>>, Collection)>,
    parts: VecDeque<Part>,
    sections: u64,
    done: bool,
}

fn sorted<V, K: Ord>(tree: &Tree<V>, key: impl Fn(&V) -> K) -> Cursor<V> {
    let mut leaves: Vec<_> = tree.leaves().cloned().collect();
    leaves.sort_by_key(|leaf| key(&leaf.value));
    Cursor { leaves, next: 0 }
}

/// The order of the trash: by type, id and time.
pub(super) fn trash_order(entry: &Trashed) -> ThingRef {
    entry.reference()
}

impl Encoder {
    /// `state` must be the one whose hash and sequence the header carries.
    pub fn new(header: &Header, state: &State) -> Self {
        assert_eq!(header.sequence, state.sequence(), "a header describes its state");
        let mut collections = VecDeque::new();
        for collection in state.collections() {
            collections.push_back((None, collection.clone()));
        }
        for trashed in state.trashed_collections() {
            let mut opening = Vec::new();
            opening.raw(trashed.trash_id().as_bytes());
            opening.i64(trashed.deleted_at());
            collections.push_back((Some(opening), trashed.collection().clone()));
        }
        Encoder {
            header: Some(header.encode()),
            state: state.clone(),
            state_hash: header.state_hash,
            collections,
            parts: VecDeque::new(),
            sections: 0,
            done: false,
        }
    }

    fn open_next_collection(&mut self) {
        let Some((trashed, collection)) = self.collections.pop_front() else {
            self.parts.push_back(Part::End);
            return;
        };
        let (section, mut opening) = match trashed {
            None => (Section::Collection, Vec::new()),
            Some(opening) => (Section::TrashedCollection, opening),
        };
        opening.extend(collection.head_bytes());
        self.parts.extend([
            Part::Head(section, opening),
            Part::Kinds(sorted(&collection.kinds, |kind| (kind.space, kind.number))),
            Part::Records(sorted(&collection.records, |stored| stored.record.id)),
            Part::Nodes(sorted(&collection.nodes, |node| node.id)),
            Part::Edges(sorted(&collection.edges, |edge| edge.id)),
            Part::Trash(sorted(&collection.trash, trash_order)),
        ]);
    }

    fn section(&mut self, section: Section, payload: &[u8]) -> Vec<u8> {
        self.sections += 1;
        frame(section.number(), 0, payload)
    }

    fn end(&mut self) -> Vec<u8> {
        self.done = true;
        let mut payload = Vec::new();
        payload.u64(self.sections);
        payload.u64(self.state.collections_root().1);
        payload.u64(self.state.trashed_root().1);
        payload.raw(self.state_hash.as_bytes());
        self.section(Section::End, &payload)
    }
}

/// A section with its checksum.
pub(super) fn frame(tag: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 40);
    bytes.u16(tag);
    bytes.u16(flags);
    bytes.sized(payload);
    let checksum = SNAPSHOT.hash(&bytes);
    bytes.raw(checksum.as_bytes());
    bytes
}

impl<V> Cursor<V> {
    /// The payload of the next section; empty when all is written.
    fn fill<T: Encoded>(&mut self, item: impl Fn(&V) -> &T) -> Vec<u8> {
        let mut payload = Vec::new();
        while let Some(leaf) = self.leaves.get(self.next) {
            item(&leaf.value).encode(&mut payload);
            self.next += 1;
            let boundary = leaf.key.as_bytes()[0] == 0;
            if payload.len() >= SECTION_BYTES_FULL || boundary && payload.len() >= SECTION_BYTES_WANTED {
                break;
            }
        }
        payload
    }
}

impl Iterator for Encoder {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(header) = self.header.take() {
            return Some(header);
        }
        while !self.done {
            let Some(mut part) = self.parts.pop_front() else {
                self.open_next_collection();
                continue;
            };
            let (section, payload) = match &mut part {
                Part::Head(section, payload) => {
                    let (section, payload) = (*section, core::mem::take(payload));
                    return Some(self.section(section, &payload));
                }
                Part::End => return Some(self.end()),
                Part::Kinds(cursor) => (Section::Kinds, cursor.fill(|kind| kind)),
                Part::Records(cursor) => {
                    (Section::Records, cursor.fill(|stored: &StoredRecord| -> &Record { &stored.record }))
                }
                Part::Nodes(cursor) => (Section::Nodes, cursor.fill(|node| node)),
                Part::Edges(cursor) => (Section::Edges, cursor.fill(|edge| edge)),
                Part::Trash(cursor) => (Section::Trash, cursor.fill(|entry| entry)),
            };
            if payload.is_empty() {
                continue;
            }
            self.parts.push_front(part);
            return Some(self.section(section, &payload));
        }
        None
    }
}
