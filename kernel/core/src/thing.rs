//! What a collection holds: records, nodes, edges, kinds, and the trash.
//!
//! Each has one canonical encoding, used in commands, in snapshots and under the state hash alike: what
//! is hashed is what is stored is what was sent.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::error::{Error, Fault, Rule};
use crate::fixed::Fixed;
use crate::hash::{Hash, VALUE};
use crate::id::{Id, Name};
use crate::limits::{DIMENSION_MAX, METADATA_BYTES_MAX, USER_KIND_MIN};
use crate::wire::{Put, Reader};

/// A vector with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Chosen by the client.
    pub id: Id,
    /// A number to filter by; the kernel gives it no meaning.
    pub tag: u64,
    /// Bytes the kernel does not look into.
    pub metadata: Box<[u8]>,
    /// Components.
    pub vector: Box<[Fixed]>,
}

/// A node of the graph, with or without a vector behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Chosen by the client.
    pub id: Id,
    /// What it stands for.
    pub kind: NodeKind,
    /// Q16.16.
    pub weight: Fixed,
    /// Milliseconds since 1970, given by the client.
    pub created_at: i64,
    /// The record it speaks about.
    pub record: Option<Id>,
    /// Bytes the kernel does not look into.
    pub metadata: Box<[u8]>,
}

/// A typed, directed edge between two nodes of the same collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Chosen by the client.
    pub id: Id,
    /// What it says.
    pub kind: EdgeKind,
    /// Q16.16.
    pub weight: Fixed,
    /// Milliseconds since 1970, given by the client.
    pub created_at: i64,
    /// Start node.
    pub from: Id,
    /// End node.
    pub to: Id,
    /// Bytes the kernel does not look into.
    pub metadata: Box<[u8]>,
}

/// Kinds of nodes. Numbers are stored; dead numbers stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// 0: a record.
    Record,
    /// 1: a concept.
    Concept,
    /// 2: an agent.
    Agent,
    /// 3: a user.
    User,
    /// 4: a tool.
    Tool,
    /// 5: a document.
    Document,
    /// 6: a chunk of a document.
    Chunk,
    /// 256 and up: defined in the collection.
    Other(u16),
}

/// Kinds of edges. Numbers are stored; dead numbers stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// 1
    Supports,
    /// 2
    Contradicts,
    /// 3
    Supersedes,
    /// 4
    DerivesFrom,
    /// 256 and up: defined in the collection.
    Other(u16),
}

/// Which things a user kind names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KindSpace {
    /// 0
    Node,
    /// 1
    Edge,
}

/// A kind defined by a user: a number and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Nodes or edges.
    pub space: KindSpace,
    /// At least [`USER_KIND_MIN`].
    pub number: u16,
    /// Unique within its space.
    pub name: Name,
}

/// The three types of things with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThingType {
    /// 1
    Record,
    /// 2
    Node,
    /// 3
    Edge,
}

/// A record, node or edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A record.
    Record(Record),
    /// A node.
    Node(Node),
    /// An edge.
    Edge(Edge),
}

/// Something deleted softly: its tombstone, with all of it inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Milliseconds since 1970, given by the client that deleted it.
    pub deleted_at: i64,
    /// What was deleted.
    pub thing: Thing,
}

/// Names one entry of the trash. The time is part of it: an id can be deleted more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThingRef {
    /// Its type.
    pub thing: ThingType,
    /// Its id.
    pub id: Id,
    /// When it was deleted.
    pub deleted_at: i64,
}

impl NodeKind {
    /// The stored number.
    pub const fn number(self) -> u16 {
        match self {
            NodeKind::Record => 0,
            NodeKind::Concept => 1,
            NodeKind::Agent => 2,
            NodeKind::User => 3,
            NodeKind::Tool => 4,
            NodeKind::Document => 5,
            NodeKind::Chunk => 6,
            NodeKind::Other(number) => number,
        }
    }

    /// The kind of a number; None for numbers that belong to this program and are not given out.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => NodeKind::Record,
            1 => NodeKind::Concept,
            2 => NodeKind::Agent,
            3 => NodeKind::User,
            4 => NodeKind::Tool,
            5 => NodeKind::Document,
            6 => NodeKind::Chunk,
            USER_KIND_MIN.. => NodeKind::Other(number),
            7..USER_KIND_MIN => return None,
        })
    }

    /// Name and kind of those that every collection knows.
    pub const BUILT_IN: [(&'static str, NodeKind); 7] = [
        ("record", NodeKind::Record),
        ("concept", NodeKind::Concept),
        ("agent", NodeKind::Agent),
        ("user", NodeKind::User),
        ("tool", NodeKind::Tool),
        ("document", NodeKind::Document),
        ("chunk", NodeKind::Chunk),
    ];
}

impl EdgeKind {
    /// The stored number.
    pub const fn number(self) -> u16 {
        match self {
            EdgeKind::Supports => 1,
            EdgeKind::Contradicts => 2,
            EdgeKind::Supersedes => 3,
            EdgeKind::DerivesFrom => 4,
            EdgeKind::Other(number) => number,
        }
    }

    /// The kind of a number; None for numbers that belong to this program and are not given out.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => EdgeKind::Supports,
            2 => EdgeKind::Contradicts,
            3 => EdgeKind::Supersedes,
            4 => EdgeKind::DerivesFrom,
            USER_KIND_MIN.. => EdgeKind::Other(number),
            0 | 5..USER_KIND_MIN => return None,
        })
    }

    /// Name and kind of those that every collection knows.
    pub const BUILT_IN: [(&'static str, EdgeKind); 4] = [
        ("supports", EdgeKind::Supports),
        ("contradicts", EdgeKind::Contradicts),
        ("supersedes", EdgeKind::Supersedes),
        ("derives_from", EdgeKind::DerivesFrom),
    ];
}

impl KindSpace {
    /// The stored number.
    pub const fn number(self) -> u8 {
        match self {
            KindSpace::Node => 0,
            KindSpace::Edge => 1,
        }
    }

    /// Does this program give `name` a meaning of its own?
    pub(crate) fn is_built_in(self, name: &str) -> bool {
        match self {
            KindSpace::Node => NodeKind::BUILT_IN.iter().any(|(own, _)| *own == name),
            KindSpace::Edge => EdgeKind::BUILT_IN.iter().any(|(own, _)| *own == name),
        }
    }
}

impl ThingType {
    /// The stored number.
    pub const fn number(self) -> u8 {
        match self {
            ThingType::Record => 1,
            ThingType::Node => 2,
            ThingType::Edge => 3,
        }
    }

    /// The noun, for messages.
    pub const fn noun(self) -> &'static str {
        match self {
            ThingType::Record => "record",
            ThingType::Node => "node",
            ThingType::Edge => "edge",
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let at = reader.at();
        match reader.u8()? {
            1 => Ok(ThingType::Record),
            2 => Ok(ThingType::Node),
            3 => Ok(ThingType::Edge),
            _ => Err(Error::corrupt(Fault::UnknownNumber, at)),
        }
    }
}

/// A value with a canonical encoding. `BYTES_MIN` is the shortest one, to bound counts before allocating.
pub(crate) trait Encoded: Sized {
    const BYTES_MIN: usize;
    fn encode(&self, into: &mut Vec<u8>);
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error>;

    fn digest(&self) -> Hash {
        let mut bytes = Vec::with_capacity(256);
        self.encode(&mut bytes);
        VALUE.hash(&bytes)
    }
}

impl Encoded for Record {
    const BYTES_MIN: usize = 16 + 8 + 4 + 4;

    fn encode(&self, into: &mut Vec<u8>) {
        into.reserve(Self::BYTES_MIN + self.metadata.len() + self.vector.len() * 4);
        into.raw(self.id.as_bytes());
        into.u64(self.tag);
        into.sized(&self.metadata);
        into.u32(self.vector.len() as u32);
        into.extend(self.vector.iter().flat_map(|component| component.raw().to_le_bytes()));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let id = Id::from_bytes(reader.array()?);
        let tag = reader.u64()?;
        let metadata = reader.sized(METADATA_BYTES_MAX)?.into();
        let dimension = reader.count(DIMENSION_MAX, 4)?;
        let (components, _) = reader.take(dimension * 4)?.as_chunks::<4>();
        let vector = components.iter().map(|bytes| Fixed::from_raw(i32::from_le_bytes(*bytes))).collect();
        Ok(Record { id, tag, metadata, vector })
    }
}

impl Encoded for Node {
    const BYTES_MIN: usize = 16 + 2 + 1 + 1 + 4 + 8 + 16 + 4;

    fn encode(&self, into: &mut Vec<u8>) {
        into.raw(self.id.as_bytes());
        into.u16(self.kind.number());
        into.u8(self.record.is_some().into());
        into.zeros(1);
        into.i32(self.weight.raw());
        into.i64(self.created_at);
        into.raw(self.record.unwrap_or(Id::ZERO).as_bytes());
        into.sized(&self.metadata);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let id = Id::from_bytes(reader.array()?);
        let at = reader.at();
        let kind = NodeKind::from_number(reader.u16()?).ok_or(Error::corrupt(Fault::UnknownNumber, at))?;
        let at = reader.at();
        let has_record = reader.u8()?;
        if has_record > 1 {
            return Err(Error::corrupt(Fault::UnknownNumber, at));
        }
        reader.reserved(1)?;
        let weight = Fixed::from_raw(reader.i32()?);
        let created_at = reader.i64()?;
        let record = if has_record == 1 {
            Some(Id::from_bytes(reader.array()?))
        } else {
            reader.reserved(16)?;
            None
        };
        let metadata = reader.sized(METADATA_BYTES_MAX)?.into();
        Ok(Node { id, kind, weight, created_at, record, metadata })
    }
}

impl Encoded for Edge {
    const BYTES_MIN: usize = 16 + 2 + 2 + 4 + 8 + 16 + 16 + 4;

    fn encode(&self, into: &mut Vec<u8>) {
        into.raw(self.id.as_bytes());
        into.u16(self.kind.number());
        into.zeros(2);
        into.i32(self.weight.raw());
        into.i64(self.created_at);
        into.raw(self.from.as_bytes());
        into.raw(self.to.as_bytes());
        into.sized(&self.metadata);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let id = Id::from_bytes(reader.array()?);
        let at = reader.at();
        let kind = EdgeKind::from_number(reader.u16()?).ok_or(Error::corrupt(Fault::UnknownNumber, at))?;
        reader.reserved(2)?;
        Ok(Edge {
            id,
            kind,
            weight: Fixed::from_raw(reader.i32()?),
            created_at: reader.i64()?,
            from: Id::from_bytes(reader.array()?),
            to: Id::from_bytes(reader.array()?),
            metadata: reader.sized(METADATA_BYTES_MAX)?.into(),
        })
    }
}

impl Encoded for Kind {
    const BYTES_MIN: usize = 1 + 1 + 2 + 2;

    fn encode(&self, into: &mut Vec<u8>) {
        into.u8(self.space.number());
        into.zeros(1);
        into.u16(self.number);
        self.name.encode(into);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let at = reader.at();
        let space = match reader.u8()? {
            0 => KindSpace::Node,
            1 => KindSpace::Edge,
            _ => return Err(Error::corrupt(Fault::UnknownNumber, at)),
        };
        reader.reserved(1)?;
        Ok(Kind { space, number: reader.u16()?, name: Name::decode(reader)? })
    }
}

impl Encoded for Trashed {
    const BYTES_MIN: usize = 1 + 3 + 8 + Record::BYTES_MIN;

    fn encode(&self, into: &mut Vec<u8>) {
        into.u8(self.thing.thing_type().number());
        into.zeros(3);
        into.i64(self.deleted_at);
        match &self.thing {
            Thing::Record(record) => record.encode(into),
            Thing::Node(node) => node.encode(into),
            Thing::Edge(edge) => edge.encode(into),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let thing_type = ThingType::decode(reader)?;
        reader.reserved(3)?;
        let deleted_at = reader.i64()?;
        let thing = match thing_type {
            ThingType::Record => Thing::Record(Record::decode(reader)?),
            ThingType::Node => Thing::Node(Node::decode(reader)?),
            ThingType::Edge => Thing::Edge(Edge::decode(reader)?),
        };
        Ok(Trashed { deleted_at, thing })
    }
}

impl Encoded for ThingRef {
    const BYTES_MIN: usize = 1 + 3 + 16 + 8;

    fn encode(&self, into: &mut Vec<u8>) {
        into.u8(self.thing.number());
        into.zeros(3);
        into.raw(self.id.as_bytes());
        into.i64(self.deleted_at);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let thing = ThingType::decode(reader)?;
        reader.reserved(3)?;
        Ok(ThingRef { thing, id: Id::from_bytes(reader.array()?), deleted_at: reader.i64()? })
    }
}

impl Encoded for Id {
    const BYTES_MIN: usize = 16;

    fn encode(&self, into: &mut Vec<u8>) {
        into.raw(self.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Id::from_bytes(reader.array()?))
    }
}

impl Thing {
    /// Its type.
    pub fn thing_type(&self) -> ThingType {
        match self {
            Thing::Record(_) => ThingType::Record,
            Thing::Node(_) => ThingType::Node,
            Thing::Edge(_) => ThingType::Edge,
        }
    }

    /// Its id.
    pub fn id(&self) -> Id {
        match self {
            Thing::Record(record) => record.id,
            Thing::Node(node) => node.id,
            Thing::Edge(edge) => edge.id,
        }
    }
}

impl Trashed {
    /// The name of this entry.
    pub fn reference(&self) -> ThingRef {
        ThingRef { thing: self.thing.thing_type(), id: self.thing.id(), deleted_at: self.deleted_at }
    }
}

impl Kind {
    pub(crate) fn key(space: KindSpace, number: u16) -> Hash {
        let [low, high] = number.to_le_bytes();
        crate::hash::TREE_KEY.hash(&[space.number(), 0, low, high])
    }
}

impl ThingRef {
    pub(crate) fn key(&self) -> Hash {
        let mut bytes = Vec::with_capacity(Self::BYTES_MIN);
        self.encode(&mut bytes);
        crate::hash::TREE_KEY.hash(&bytes)
    }
}

/// Metadata within its limit?
pub(crate) fn check_metadata(metadata: &[u8]) -> Result<(), Rule> {
    let max = METADATA_BYTES_MAX;
    if metadata.len() > max as usize {
        return Err(Rule::TooLarge { what: "metadata", max: max.into() });
    }
    Ok(())
}
