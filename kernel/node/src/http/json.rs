//! The JSON shapes, and the one way from them to commands.
//!
//! Unknown fields are refused. Components and weights are read as f32 (see `fixed.rs`); `vector_q16` takes
//! and gives the exact 65,536ths. Metadata is text; bytes that are not UTF-8 travel as `metadata_hex`.

use kernel_core::{
    Collection, Edge, EdgeKind, Fixed, Hash, Id, KindSpace, Lineage, Name, Node as GraphNode, NodeKind, Record, Rule,
    Verified,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::answer::Refusal;
use crate::node::Written;

/// A thing that prints and parses as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text<T>(pub(super) T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An id, as text or as a number.
impl<'de> Deserialize<'de> for Text<Id> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(number) => Ok(Text(Id::from_u64(number))),
            Raw::Text(text) => Id::parse(&text).map(Text).map_err(serde::de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Text<Lineage> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Lineage::parse(&text).map(Text).map_err(|_| serde::de::Error::custom("a lineage is 32 hex digits"))
    }
}

/// The answer to every write.
#[derive(Debug, Serialize)]
pub(super) struct WrittenBody {
    sequence: u64,
    state_hash: Text<Hash>,
    changed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trash_id: Option<Text<Id>>,
}

impl From<Written> for WrittenBody {
    fn from(written: Written) -> Self {
        let Written { sequence, state_hash, changed } = written;
        WrittenBody { sequence, state_hash: Text(state_hash), changed, trash_id: None }
    }
}

impl WrittenBody {
    pub(super) fn with_trash_id(self, trash_id: Id) -> Self {
        WrittenBody { trash_id: Some(Text(trash_id)), ..self }
    }
}

/// Where a state stands.
#[derive(Debug, Serialize)]
pub(super) struct AtBody {
    pub(super) lineage: Text<Lineage>,
    pub(super) sequence: u64,
    pub(super) state_hash: Text<Hash>,
    pub(super) chain_hash: Text<Hash>,
}

impl From<Verified> for AtBody {
    fn from(at: Verified) -> Self {
        AtBody {
            lineage: Text(at.lineage),
            sequence: at.sequence,
            state_hash: Text(at.state_hash),
            chain_hash: Text(at.chain),
        }
    }
}

/// Metadata in either form.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct MetadataBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata_hex: Option<String>,
}

impl MetadataBody {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok("") => MetadataBody::default(),
            Ok(text) => MetadataBody { metadata: Some(text.to_owned()), metadata_hex: None },
            Err(_) => MetadataBody { metadata: None, metadata_hex: Some(hex(bytes)) },
        }
    }

    fn into_bytes(self) -> Result<Box<[u8]>, Refusal> {
        match (self.metadata, self.metadata_hex) {
            (None, None) => Ok(Box::default()),
            (Some(text), None) => Ok(text.into_bytes().into()),
            (None, Some(digits)) => unhex(&digits)
                .map(Vec::into)
                .ok_or_else(|| Refusal::bad_body("metadata_hex is not hex digits in pairs")),
            (Some(_), Some(_)) => Err(Refusal::bad_body("give metadata or metadata_hex, not both")),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16);
    pairs.iter().map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8)).collect()
}

pub(super) fn fixed(value: f32) -> Result<Fixed, Rule> {
    Fixed::from_f32(value)
}

/// Components as floats or exactly.
pub(super) fn vector(floats: Option<Vec<f32>>, exact: Option<Vec<i32>>) -> Result<Box<[Fixed]>, Refusal> {
    match (floats, exact) {
        (Some(floats), None) => {
            let vector: Result<_, Rule> = floats.into_iter().map(fixed).collect();
            Ok(vector.map_err(kernel_core::Error::from)?)
        }
        (None, Some(exact)) => Ok(exact.into_iter().map(Fixed::from_raw).collect()),
        (None, None) => Err(Refusal::bad_body("vector is missing")),
        (Some(_), Some(_)) => Err(Refusal::bad_body("give vector or vector_q16, not both")),
    }
}

/// A record to put.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordBody {
    id: Text<Id>,
    vector: Option<Vec<f32>>,
    vector_q16: Option<Vec<i32>>,
    #[serde(default)]
    tag: u64,
    metadata: Option<String>,
    metadata_hex: Option<String>,
}

impl RecordBody {
    pub(super) fn into_record(self) -> Result<Record, Refusal> {
        let metadata = MetadataBody { metadata: self.metadata, metadata_hex: self.metadata_hex };
        Ok(Record {
            id: self.id.0,
            tag: self.tag,
            metadata: metadata.into_bytes()?,
            vector: vector(self.vector, self.vector_q16)?,
        })
    }
}

/// A record as it stands.
#[derive(Debug, Serialize)]
pub(super) struct RecordAnswer {
    id: Text<Id>,
    tag: u64,
    vector: Vec<f64>,
    vector_q16: Vec<i32>,
    #[serde(flatten)]
    metadata: MetadataBody,
}

impl From<&Record> for RecordAnswer {
    fn from(record: &Record) -> Self {
        RecordAnswer {
            id: Text(record.id),
            tag: record.tag,
            vector: record.vector.iter().map(|component| component.to_f64()).collect(),
            vector_q16: record.vector.iter().map(|component| component.raw()).collect(),
            metadata: MetadataBody::of(&record.metadata),
        }
    }
}

fn one() -> f32 {
    1.0
}

/// A node to put.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeBody {
    id: Text<Id>,
    kind: String,
    record: Option<Text<Id>>,
    #[serde(default = "one")]
    weight: f32,
    created_at: Option<i64>,
    metadata: Option<String>,
    metadata_hex: Option<String>,
}

impl NodeBody {
    pub(super) fn into_node(self, collection: &Collection, now_ms: i64) -> Result<GraphNode, Refusal> {
        let own = NodeKind::BUILT_IN.iter().find(|(name, _)| *name == self.kind);
        let kind = match own {
            Some((_, kind)) => *kind,
            None => NodeKind::Other(user_kind(collection, KindSpace::Node, &self.kind)?),
        };
        let metadata = MetadataBody { metadata: self.metadata, metadata_hex: self.metadata_hex };
        Ok(GraphNode {
            id: self.id.0,
            kind,
            weight: fixed(self.weight).map_err(kernel_core::Error::from)?,
            created_at: self.created_at.unwrap_or(now_ms),
            record: self.record.map(|record| record.0),
            metadata: metadata.into_bytes()?,
        })
    }
}

/// An edge to put.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EdgeBody {
    id: Text<Id>,
    kind: String,
    from: Text<Id>,
    to: Text<Id>,
    #[serde(default = "one")]
    weight: f32,
    created_at: Option<i64>,
    metadata: Option<String>,
    metadata_hex: Option<String>,
}

impl EdgeBody {
    pub(super) fn into_edge(self, collection: &Collection, now_ms: i64) -> Result<Edge, Refusal> {
        let own = EdgeKind::BUILT_IN.iter().find(|(name, _)| *name == self.kind);
        let kind = match own {
            Some((_, kind)) => *kind,
            None => EdgeKind::Other(user_kind(collection, KindSpace::Edge, &self.kind)?),
        };
        let metadata = MetadataBody { metadata: self.metadata, metadata_hex: self.metadata_hex };
        Ok(Edge {
            id: self.id.0,
            kind,
            weight: fixed(self.weight).map_err(kernel_core::Error::from)?,
            created_at: self.created_at.unwrap_or(now_ms),
            from: self.from.0,
            to: self.to.0,
            metadata: metadata.into_bytes()?,
        })
    }
}

/// The number of a user kind, by its name.
fn user_kind(collection: &Collection, space: KindSpace, name: &str) -> Result<u16, Refusal> {
    let found = collection.kinds().find(|kind| kind.space == space && kind.name.as_str() == name);
    found.map(|kind| kind.number).ok_or_else(|| {
        let own: Vec<&str> = match space {
            KindSpace::Node => NodeKind::BUILT_IN.iter().map(|(name, _)| *name).collect(),
            KindSpace::Edge => EdgeKind::BUILT_IN.iter().map(|(name, _)| *name).collect(),
        };
        Refusal::bad_body(format!(
            "kind {name:?} is not one of {} and not defined here: POST /v1/collections/{}/kinds",
            own.join(", "),
            collection.name()
        ))
    })
}

fn kind_name(collection: &Collection, space: KindSpace, number: u16) -> String {
    collection.kind(space, number).map_or_else(|| number.to_string(), |kind| kind.name.to_string())
}

/// A node as it stands.
#[derive(Debug, Serialize)]
pub(super) struct NodeAnswer {
    id: Text<Id>,
    kind: String,
    weight: f64,
    created_at: i64,
    record: Option<Text<Id>>,
    #[serde(flatten)]
    metadata: MetadataBody,
}

impl NodeAnswer {
    pub(super) fn of(node: &GraphNode, collection: &Collection) -> Self {
        let own = NodeKind::BUILT_IN.iter().find(|(_, kind)| *kind == node.kind);
        NodeAnswer {
            id: Text(node.id),
            kind: own.map_or_else(
                || kind_name(collection, KindSpace::Node, node.kind.number()),
                |(name, _)| (*name).to_owned(),
            ),
            weight: node.weight.to_f64(),
            created_at: node.created_at,
            record: node.record.map(Text),
            metadata: MetadataBody::of(&node.metadata),
        }
    }
}

/// An edge as it stands.
#[derive(Debug, Serialize)]
pub(super) struct EdgeAnswer {
    id: Text<Id>,
    kind: String,
    from: Text<Id>,
    to: Text<Id>,
    weight: f64,
    created_at: i64,
    #[serde(flatten)]
    metadata: MetadataBody,
}

impl EdgeAnswer {
    pub(super) fn of(edge: &Edge, collection: &Collection) -> Self {
        let own = EdgeKind::BUILT_IN.iter().find(|(_, kind)| *kind == edge.kind);
        EdgeAnswer {
            id: Text(edge.id),
            kind: own.map_or_else(
                || kind_name(collection, KindSpace::Edge, edge.kind.number()),
                |(name, _)| (*name).to_owned(),
            ),
            from: Text(edge.from),
            to: Text(edge.to),
            weight: edge.weight.to_f64(),
            created_at: edge.created_at,
            metadata: MetadataBody::of(&edge.metadata),
        }
    }
}

pub(super) fn name(text: &str) -> Result<Name, Refusal> {
    Ok(Name::new(text)?)
}

pub(super) fn id(text: &str) -> Result<Id, Refusal> {
    Ok(Id::parse(text)?)
}
