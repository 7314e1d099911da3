//! A collection: vectors of one dimension and metric, with their graph and their trash.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Error, Fault, Rule};
use crate::hash::{COLLECTION, Hash, TRASHED_COLLECTION, VALUE};
use crate::id::{Id, Name};
use crate::index::Index;
use crate::limits::{DIMENSION_MAX, METADATA_BYTES_MAX};
use crate::search::Norm;
use crate::thing::{Edge, Kind, KindSpace, Node, Record, ThingRef, Trashed, check_metadata};
use crate::tree::Tree;
use crate::wire::{Put, Reader};

/// How nearness is measured. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// 0: squared Euclidean distance, smaller is nearer.
    L2,
    /// 1: cosine similarity, larger is nearer.
    Cosine,
    /// 2: dot product, larger is nearer.
    Dot,
}

/// Parameters of a collection: part of the state, though the structures they shape are derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Links per node of the approximate index.
    pub index_links: u16,
    /// Candidates looked at when it is built.
    pub index_build_width: u16,
    /// Candidates looked at when it is searched.
    pub index_search_width: u16,
    /// How long the owner of the trash means to keep things; purging is a command of its own.
    pub trash_grace_ms: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            index_links: 16,
            index_build_width: 200,
            index_search_width: 64,
            trash_grace_ms: 24 * 60 * 60 * 1_000,
        }
    }
}

/// What a collection is, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) name: Name,
    pub(crate) dimension: u32,
    pub(crate) metric: Metric,
    pub(crate) parameters: Parameters,
    /// Milliseconds since 1970, given by the client.
    pub(crate) created_at: i64,
    pub(crate) metadata: Box<[u8]>,
}

/// A record with what search precomputes from it.
#[derive(Clone)]
pub(crate) struct StoredRecord {
    pub(crate) record: Record,
    pub(crate) norm: Norm,
}

/// A collection. Cloning it costs a few pointers.
#[derive(Clone)]
pub struct Collection {
    pub(crate) head: Arc<Head>,
    /// Kept, because a head may hold a megabyte and every command hashes its collection.
    head_hash: Hash,
    pub(crate) records: Tree<StoredRecord>,
    pub(crate) nodes: Tree<Node>,
    pub(crate) edges: Tree<Edge>,
    pub(crate) kinds: Tree<Kind>,
    pub(crate) trash: Tree<Trashed>,
    /// Record -> nodes that speak about it. Derived.
    pub(crate) nodes_of_record: Index,
    /// Node -> edges that start or end at it. Derived.
    pub(crate) edges_of_node: Index,
}

/// A collection in the trash, whole.
#[derive(Clone)]
pub struct TrashedCollection {
    pub(crate) trash_id: Id,
    pub(crate) deleted_at: i64,
    pub(crate) collection: Collection,
}

/// How much a collection holds. The counts are part of the state hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Nodes.
    pub nodes: u64,
    /// Edges.
    pub edges: u64,
    /// User kinds.
    pub kinds: u64,
    /// Entries of the trash.
    pub trash: u64,
}

impl Metric {
    /// The stored number.
    pub const fn number(self) -> u8 {
        match self {
            Metric::L2 => 0,
            Metric::Cosine => 1,
            Metric::Dot => 2,
        }
    }

    /// The metric of a stored number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Metric::L2),
            1 => Some(Metric::Cosine),
            2 => Some(Metric::Dot),
            _ => None,
        }
    }

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
        }
    }
}

impl Parameters {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.u16(self.index_links);
        into.u16(self.index_build_width);
        into.u16(self.index_search_width);
        into.zeros(2);
        into.u64(self.trash_grace_ms);
        into.zeros(16);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let index_links = reader.u16()?;
        let index_build_width = reader.u16()?;
        let index_search_width = reader.u16()?;
        reader.reserved(2)?;
        let trash_grace_ms = reader.u64()?;
        reader.reserved(16)?;
        Ok(Parameters { index_links, index_build_width, index_search_width, trash_grace_ms })
    }
}

impl Head {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.dimension == 0 || self.dimension > DIMENSION_MAX {
            return Err(Rule::DimensionRange.into());
        }
        Ok(check_metadata(&self.metadata)?)
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        self.name.encode(into);
        into.u32(self.dimension);
        into.u8(self.metric.number());
        into.zeros(3);
        self.parameters.encode(into);
        into.i64(self.created_at);
        into.sized(&self.metadata);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let name = Name::decode(reader)?;
        let at = reader.at();
        let dimension = reader.u32()?;
        if dimension == 0 || dimension > DIMENSION_MAX {
            return Err(Error::corrupt(Fault::TooLarge, at));
        }
        let at = reader.at();
        let metric = Metric::from_number(reader.u8()?).ok_or(Error::corrupt(Fault::UnknownNumber, at))?;
        reader.reserved(3)?;
        Ok(Head {
            name,
            dimension,
            metric,
            parameters: Parameters::decode(reader)?,
            created_at: reader.i64()?,
            metadata: reader.sized(METADATA_BYTES_MAX)?.into(),
        })
    }
}

/// The five sub-roots of a collection, each with its count, in the order they are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roots(pub(crate) [(Hash, u64); 5]);

pub(crate) fn head_hash(head: &[u8]) -> Hash {
    VALUE.hash(head)
}

pub(crate) fn collection_digest(head_hash: &Hash, roots: &Roots) -> Hash {
    let mut bytes = Vec::with_capacity(32 + 5 * 40);
    bytes.raw(head_hash.as_bytes());
    for (root, count) in roots.0 {
        bytes.raw(root.as_bytes());
        bytes.u64(count);
    }
    COLLECTION.hash(&bytes)
}

impl Collection {
    pub(crate) fn new(head: Head) -> Self {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        Collection {
            head: Arc::new(head),
            head_hash: head_hash(&bytes),
            records: Tree::default(),
            nodes: Tree::default(),
            edges: Tree::default(),
            kinds: Tree::default(),
            trash: Tree::default(),
            nodes_of_record: Index::default(),
            edges_of_node: Index::default(),
        }
    }

    pub(crate) fn change_head(&mut self, change: impl FnOnce(&mut Head)) {
        change(Arc::make_mut(&mut self.head));
        self.head_hash = head_hash(&self.head_bytes());
    }

    /// Brings every sub-root up to date and hashes them.
    pub(crate) fn digest(&mut self) -> Hash {
        self.records.root();
        self.nodes.root();
        self.edges.root();
        self.kinds.root();
        self.trash.root();
        collection_digest(&self.head_hash, &self.roots())
    }

    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.head.encode(&mut bytes);
        bytes
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots([
            (self.records.root_now(), self.records.len()),
            (self.nodes.root_now(), self.nodes.len()),
            (self.edges.root_now(), self.edges.len()),
            (self.kinds.root_now(), self.kinds.len()),
            (self.trash.root_now(), self.trash.len()),
        ])
    }

    /// Its hash as it stands in the tree of collections.
    pub fn hash(&self) -> Hash {
        collection_digest(&self.head_hash, &self.roots())
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.head.name
    }

    /// Components of each vector.
    pub fn dimension(&self) -> u32 {
        self.head.dimension
    }

    /// How nearness is measured.
    pub fn metric(&self) -> Metric {
        self.head.metric
    }

    /// Its parameters.
    pub fn parameters(&self) -> Parameters {
        self.head.parameters
    }

    /// When the client says it was created, milliseconds since 1970.
    pub fn created_at(&self) -> i64 {
        self.head.created_at
    }

    /// Its metadata.
    pub fn metadata(&self) -> &[u8] {
        &self.head.metadata
    }

    /// How much it holds.
    pub fn counts(&self) -> Counts {
        Counts {
            records: self.records.len(),
            nodes: self.nodes.len(),
            edges: self.edges.len(),
            kinds: self.kinds.len(),
            trash: self.trash.len(),
        }
    }

    /// A record.
    pub fn record(&self, id: Id) -> Option<&Record> {
        self.records.get(&id.key()).map(|stored| &stored.record)
    }

    /// A node.
    pub fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(&id.key())
    }

    /// An edge.
    pub fn edge(&self, id: Id) -> Option<&Edge> {
        self.edges.get(&id.key())
    }

    /// An entry of the trash.
    pub fn trashed(&self, reference: &ThingRef) -> Option<&Trashed> {
        self.trash.get(&reference.key())
    }

    /// All entries of the trash, in no order that means anything.
    pub fn trash(&self) -> impl Iterator<Item = &Trashed> {
        self.trash.values()
    }

    /// All records, in no order that means anything.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values().map(|stored| &stored.record)
    }

    /// Ids of the edges that start or end at a node, ascending.
    pub fn edges_of(&self, node: Id) -> Vec<Id> {
        self.edges_of_node.of(node)
    }

    /// Ids of the nodes that speak about a record, ascending.
    pub fn nodes_of(&self, record: Id) -> Vec<Id> {
        self.nodes_of_record.of(record)
    }

    /// The user kind of a number.
    pub fn kind(&self, space: KindSpace, number: u16) -> Option<&Kind> {
        self.kinds.get(&Kind::key(space, number))
    }

    /// All user kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values()
    }
}

impl TrashedCollection {
    pub(crate) fn digest(&mut self) -> Hash {
        trashed_digest(self.trash_id, self.deleted_at, &self.collection.digest())
    }

    /// The id it was put into the trash under.
    pub fn trash_id(&self) -> Id {
        self.trash_id
    }

    /// When, in milliseconds since 1970, by the client's word.
    pub fn deleted_at(&self) -> i64 {
        self.deleted_at
    }

    /// What was deleted.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }
}

pub(crate) fn trashed_digest(trash_id: Id, deleted_at: i64, collection: &Hash) -> Hash {
    let mut bytes = Vec::with_capacity(16 + 8 + 32);
    bytes.raw(trash_id.as_bytes());
    bytes.i64(deleted_at);
    bytes.raw(collection.as_bytes());
    TRASHED_COLLECTION.hash(&bytes)
}
