//! The corpus of the demo: real texts with real embeddings and cross references,
//! compiled into the program so that the demo runs from the binary alone. Origin
//! and licence: `data/README.md`.

use anyhow::{Context, Result, ensure};
use kernel_client::core::{Edge, EdgeKind, Fixed, Id, Node, NodeKind, Record};
use serde::Deserialize;

const ENTRIES: &str = include_str!("../data/jargon/entries.jsonl");
const EDGES: &str = include_str!("../data/jargon/edges.csv");
const VECTORS: &[u8] = include_bytes!("../data/jargon/vectors_384.f32");

/// Components of each vector.
pub const DIMENSION: usize = 384;

/// One entry.
#[derive(Debug, Deserialize)]
pub struct Entry {
    /// Row number.
    pub id: u64,
    /// The headword.
    pub term: String,
    /// The definition.
    pub text: String,
}

/// The whole corpus.
pub struct Corpus {
    /// In order of their ids.
    pub entries: Vec<Entry>,
    /// Cross references by id.
    pub references: Vec<(u64, u64)>,
}

impl Corpus {
    /// Reads what is compiled in.
    pub fn load() -> Result<Self> {
        let entries: Vec<Entry> =
            ENTRIES.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("the corpus's entries")?;
        ensure!(
            VECTORS.len() == entries.len() * DIMENSION * 4,
            "the corpus has another number of vectors than entries"
        );
        let reference = |line: &str| {
            let (from, to) = line.split_once(',')?;
            Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
        };
        let references = EDGES
            .lines()
            .skip(1) // the column names
            .map(|line| reference(line).with_context(|| format!("the corpus's edge \"{line}\"")))
            .collect::<Result<_>>()?;
        Ok(Self { entries, references })
    }

    /// An entry's vector.
    pub fn vector(&self, id: u64) -> Vec<f32> {
        let start = id as usize * DIMENSION * 4;
        VECTORS[start..start + DIMENSION * 4]
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect()
    }

    /// An entry as a record: its vector, its text as metadata.
    pub fn record(&self, entry: &Entry) -> Result<Record> {
        let vector = self.vector(entry.id).into_iter().map(Fixed::from_f32).collect::<Result<_, _>>();
        let vector = vector.map_err(|rule| anyhow::anyhow!("entry {}: {rule}", entry.id))?;
        let metadata = format!("{}: {}", entry.term, entry.text).into_bytes().into_boxed_slice();
        Ok(Record { id: Id::from_u64(entry.id), tag: 0, metadata, vector })
    }

    /// An entry as a node of the graph.
    pub fn node(&self, entry: &Entry) -> Node {
        Node {
            id: Id::from_u64(entry.id),
            kind: NodeKind::Document,
            weight: Fixed::from_raw(1 << 16),
            created_at: 0,
            record: Some(Id::from_u64(entry.id)),
            metadata: Box::default(),
        }
    }

    /// A cross reference as an edge, if both ends are below `limit`.
    pub fn edge(&self, number: usize, limit: u64) -> Option<Edge> {
        let (from, to) = self.references[number];
        (from < limit && to < limit && from != to).then(|| Edge {
            id: Id::from_u64(number as u64),
            kind: EdgeKind::Supports,
            weight: Fixed::from_raw(1 << 16),
            created_at: 0,
            from: Id::from_u64(from),
            to: Id::from_u64(to),
            metadata: Box::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_whole_and_its_vectors_have_unit_length() {
        let corpus = Corpus::load().unwrap();
        assert_eq!((corpus.entries.len(), corpus.references.len()), (2265, 5055));
        for entry in &corpus.entries {
            let length: f32 = corpus.vector(entry.id).iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-3, "{}: {length}", entry.term);
        }
    }
}
