//! Proofs that something is, or is not, in the state with a given hash.
//!
//! A proof opens the state hash to the tree of collections, that tree to one collection, the collection
//! to one of its trees, and that tree to the place where the thing stands or would stand. The verifier
//! needs the proof and the state hash, nothing else; it rebuilds every hash from what it is told.

use alloc::vec::Vec;

use crate::collection::{Head, Roots, collection_digest, head_hash};
use crate::error::{Error, Fault};
use crate::hash::{Hash, VALUE};
use crate::id::{Id, Name};
use crate::limits::{METADATA_BYTES_MAX, SECTION_BYTES_MAX};
use crate::state::{State, state_hash};
use crate::thing::{Encoded, Thing, ThingRef, ThingType, Trashed};
use crate::tree::{Path, PathEnd, Tree};
use crate::wire::{Put, Reader};

const PROOF_VERSION: u16 = 1;
/// A key has this many bits, so no honest path is longer.
const PATH_MAX: u16 = 256;

/// Which tree of a collection, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The living record, node or edge with this id.
    Living(ThingType, Id),
    /// An entry of the trash.
    Trash(ThingRef),
}

/// What a proof is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// In which collection.
    pub collection: Name,
    /// What.
    pub space: Space,
}

/// What a proof shows, once it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The thing is in the state, and this is it.
    Present(Thing),
    /// The collection is, the thing is not.
    Absent,
    /// The collection is not in the state.
    NoCollection,
}

/// The parts of a state hash beside the root of the collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateOpening {
    /// The state's sequence.
    pub sequence: u64,
    /// How many collections there are.
    pub collections: u64,
    /// Root of the tree of trashed collections.
    pub trashed_root: Hash,
    /// How many of those there are.
    pub trashed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CollectionOpening {
    head: Vec<u8>,
    roots: Roots,
    path: Path,
    /// The encoding of the thing, if it is there.
    value: Option<Vec<u8>>,
}

/// A proof for one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    claim: Claim,
    state: StateOpening,
    path: Path,
    collection: Option<CollectionOpening>,
}

impl Space {
    fn key(&self) -> Hash {
        match self {
            Space::Living(_, id) => id.key(),
            Space::Trash(reference) => reference.key(),
        }
    }

    /// Position of the tree among the sub-roots of a collection.
    fn root_index(&self) -> usize {
        match self {
            Space::Living(ThingType::Record, _) => 0,
            Space::Living(ThingType::Node, _) => 1,
            Space::Living(ThingType::Edge, _) => 2,
            Space::Trash(_) => 4,
        }
    }

    fn decode_value(&self, bytes: &[u8]) -> Result<Thing, Error> {
        let mut reader = Reader::new(bytes);
        let thing = match self {
            Space::Living(ThingType::Record, _) => Thing::Record(Encoded::decode(&mut reader)?),
            Space::Living(ThingType::Node, _) => Thing::Node(Encoded::decode(&mut reader)?),
            Space::Living(ThingType::Edge, _) => Thing::Edge(Encoded::decode(&mut reader)?),
            Space::Trash(_) => Trashed::decode(&mut reader)?.thing,
        };
        reader.finish()?;
        Ok(thing)
    }
}

fn encoded(value: Option<&impl Encoded>) -> Option<Vec<u8>> {
    value.map(|value| {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        bytes
    })
}

impl State {
    /// Proves that a thing is in this state, or that it is not. Cheap once [`State::hash`] was asked for.
    pub fn prove(&self, claim: Claim) -> Proof {
        if self.is_stale() {
            let mut fresh = self.clone();
            fresh.hash();
            return fresh.prove(claim);
        }
        let collections = self.collections_tree();
        let (trashed_root, trashed) = self.trashed_root();
        let state = StateOpening { sequence: self.sequence(), collections: collections.len(), trashed_root, trashed };
        let key = claim.collection.key();
        let collection = collections.get(&key).map(|collection| {
            let (path, value) = match claim.space {
                Space::Living(ThingType::Record, id) => {
                    (collection.records.path(&id.key()), encoded(collection.record(id)))
                }
                Space::Living(ThingType::Node, id) => open(&collection.nodes, &id.key()),
                Space::Living(ThingType::Edge, id) => open(&collection.edges, &id.key()),
                Space::Trash(reference) => open(&collection.trash, &reference.key()),
            };
            CollectionOpening { head: collection.head_bytes(), roots: collection.roots(), path, value }
        });
        Proof { claim, state, path: collections.path(&key), collection }
    }
}

fn open<V: Encoded>(tree: &Tree<V>, key: &Hash) -> (Path, Option<Vec<u8>>) {
    (tree.path(key), encoded(tree.get(key)))
}

/// The proof does not lead to the state hash it is held against.
const FORGED: Error = Error::Corrupt { fault: Fault::StateHash, at: 0 };

impl Proof {
    /// What the proof is about.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The sequence of the state it was made from; covered by the state hash.
    pub fn sequence(&self) -> u64 {
        self.state.sequence
    }

    /// Checks the proof against a state hash the caller trusts.
    pub fn verify(&self, trusted: &Hash) -> Result<Verdict, Error> {
        let key = self.claim.collection.key();
        let root = self.path.root(&key).ok_or(FORGED)?;
        let opening = &self.state;
        let hash = state_hash(opening.sequence, (root, opening.collections), (opening.trashed_root, opening.trashed));
        if hash != *trusted {
            return Err(FORGED);
        }
        match (self.path.digest_of(&key), &self.collection) {
            (None, None) => Ok(Verdict::NoCollection),
            (Some(digest), Some(collection)) => self.verify_thing(&digest, collection),
            (Some(_), None) | (None, Some(_)) => Err(FORGED),
        }
    }

    fn verify_thing(&self, digest: &Hash, collection: &CollectionOpening) -> Result<Verdict, Error> {
        if collection_digest(&head_hash(&collection.head), &collection.roots) != *digest {
            return Err(FORGED);
        }
        let key = self.claim.space.key();
        let (root, _) = collection.roots.0[self.claim.space.root_index()];
        if collection.path.root(&key) != Some(root) {
            return Err(FORGED);
        }
        match (collection.path.digest_of(&key), &collection.value) {
            (None, None) => Ok(Verdict::Absent),
            (Some(digest), Some(value)) if VALUE.hash(value) == digest => {
                Ok(Verdict::Present(self.claim.space.decode_value(value)?))
            }
            (Some(_), _) | (None, Some(_)) => Err(FORGED),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut into = Vec::new();
        into.u16(PROOF_VERSION);
        match self.claim.space {
            Space::Living(thing, id) => {
                into.u8(thing.number());
                into.zeros(1);
                into.raw(id.as_bytes());
            }
            Space::Trash(reference) => {
                into.u8(4);
                into.zeros(1);
                reference.encode(&mut into);
            }
        }
        self.claim.collection.encode(&mut into);
        into.u64(self.state.sequence);
        into.u64(self.state.collections);
        into.raw(self.state.trashed_root.as_bytes());
        into.u64(self.state.trashed);
        encode_path(&mut into, &self.path);
        into.u8(self.collection.is_some().into());
        if let Some(collection) = &self.collection {
            into.sized(&collection.head);
            for (root, count) in collection.roots.0 {
                into.raw(root.as_bytes());
                into.u64(count);
            }
            encode_path(&mut into, &collection.path);
            into.u8(collection.value.is_some().into());
            if let Some(value) = &collection.value {
                into.sized(value);
            }
        }
        into
    }

    /// Reads a proof; nothing in it is trusted until [`Proof::verify`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let version = reader.u16()?;
        if version != PROOF_VERSION {
            return Err(Error::Unsupported { what: "proof version", number: version.into() });
        }
        let space = decode_space(&mut reader)?;
        let claim = Claim { collection: Name::decode(&mut reader)?, space };
        let state = StateOpening {
            sequence: reader.u64()?,
            collections: reader.u64()?,
            trashed_root: Hash::from_bytes(reader.array()?),
            trashed: reader.u64()?,
        };
        let path = decode_path(&mut reader)?;
        let collection = if flag(&mut reader)? { Some(decode_collection(&mut reader)?) } else { None };
        reader.finish()?;
        Ok(Proof { claim, state, path, collection })
    }
}

fn decode_space(reader: &mut Reader<'_>) -> Result<Space, Error> {
    let at = reader.at();
    let number = reader.u8()?;
    reader.reserved(1)?;
    let living = match number {
        1 => ThingType::Record,
        2 => ThingType::Node,
        3 => ThingType::Edge,
        4 => return Ok(Space::Trash(ThingRef::decode(reader)?)),
        _ => return Err(Error::corrupt(Fault::UnknownNumber, at)),
    };
    Ok(Space::Living(living, Id::decode(reader)?))
}

fn decode_collection(reader: &mut Reader<'_>) -> Result<CollectionOpening, Error> {
    let head = reader.sized(METADATA_BYTES_MAX + 1_024)?;
    let mut check = Reader::new(head);
    Head::decode(&mut check)?;
    check.finish()?;
    let mut roots = [(Hash::ZERO, 0); 5];
    for root in &mut roots {
        *root = (Hash::from_bytes(reader.array()?), reader.u64()?);
    }
    let path = decode_path(reader)?;
    let value = if flag(reader)? { Some(reader.sized(SECTION_BYTES_MAX)?.to_vec()) } else { None };
    Ok(CollectionOpening { head: head.to_vec(), roots: Roots(roots), path, value })
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, Error> {
    let at = reader.at();
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::corrupt(Fault::UnknownNumber, at)),
    }
}

fn encode_path(into: &mut Vec<u8>, path: &Path) {
    into.u16(path.siblings.len() as u16);
    for sibling in &path.siblings {
        into.raw(sibling.as_bytes());
    }
    match &path.end {
        PathEnd::Empty => into.u8(0),
        PathEnd::Leaf { key, digest } => {
            into.u8(1);
            into.raw(key.as_bytes());
            into.raw(digest.as_bytes());
        }
    }
}

fn decode_path(reader: &mut Reader<'_>) -> Result<Path, Error> {
    let at = reader.at();
    let count = reader.u16()?;
    if count > PATH_MAX {
        return Err(Error::corrupt(Fault::TooLarge, at));
    }
    let (siblings, _) = reader.take(usize::from(count) * 32)?.as_chunks::<32>();
    let siblings = siblings.iter().map(|bytes| Hash::from_bytes(*bytes)).collect();
    let end = if flag(reader)? {
        PathEnd::Leaf { key: Hash::from_bytes(reader.array()?), digest: Hash::from_bytes(reader.array()?) }
    } else {
        PathEnd::Empty
    };
    Ok(Path { siblings, end })
}
