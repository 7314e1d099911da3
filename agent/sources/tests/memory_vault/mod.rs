//! A vault in memory: chunks by their hash, cut every 64 KiB, with the real tree
//! root and nothing between. Hooks let a test change the world while a source reads.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use vault_format::body::ChunkKind;
use vault_format::point::{PointRecord, PointRoot, Statistics, TreeRoot};
use vault_format::tree::{ChunkRef, Content, Listing};
use vault_format::{Blob, ChunkId, Hash, VaultId, WriterId};
use vault_ops::file_cache::{KnownFiles, Row};
use vault_ops::source::{Kept, PointReader, Reading, Sink, Source, tree_root};
use vault_ops::{OpsError, Result};

const CHUNK_BYTES: usize = 64 << 10;

type OnRead = Box<dyn Fn(&[u8]) + Send + Sync>;
type Chunks = Arc<Mutex<BTreeMap<ChunkId, Vec<u8>>>>;

/// Stores what a source reads.
#[derive(Default)]
pub(crate) struct MemoryVault {
    chunks: Chunks,
    /// Called with the number of contents written so far, before each is read.
    pub(crate) before_read: Option<Box<dyn FnMut(u64) + Send>>,
    pub(crate) writes: u64,
    /// Rows of the file cache by their key, and those met by this reading.
    pub(crate) rows: BTreeMap<Hash, Vec<u8>>,
    pub(crate) rows_met: BTreeSet<Hash>,
    /// Chunks that do not count, as if their pack were condemned.
    pub(crate) condemned: Vec<ChunkId>,
    /// The clock; the file system's own is close to it if this is 0.
    pub(crate) now_ms: i64,
}

impl MemoryVault {
    /// Stores bytes as a content.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Content {
        let mut chunks = Vec::new();
        for piece in bytes.chunks(CHUNK_BYTES) {
            let id = ChunkId(*blake3::hash(piece).as_bytes());
            self.chunks.lock().unwrap().insert(id, piece.to_vec());
            chunks.push(ChunkRef { id, bytes: piece.len() as u32 });
        }
        Content { bytes: bytes.len() as u64, depth: 0, chunks }
    }

    /// Takes away the chunks with these bytes in them, until they are given back.
    pub(crate) fn lose(&self, bytes: &[u8]) -> BTreeMap<ChunkId, Vec<u8>> {
        let mut chunks = self.chunks.lock().unwrap();
        let holds = |chunk: &[u8]| chunk.windows(bytes.len()).any(|window| window == bytes);
        let lost: BTreeMap<_, _> = chunks.extract_if(.., |_, chunk| holds(chunk)).collect();
        assert!(!lost.is_empty(), "nothing holds these bytes");
        lost
    }

    /// Takes away the listing of a directory with exactly these names.
    pub(crate) fn lose_listing_of(&self, names: &[&str]) -> BTreeMap<ChunkId, Vec<u8>> {
        let is_it = |chunk: &[u8]| {
            let listing = vault_format::decode::<Listing>("listing", chunk);
            listing.is_ok_and(|listing| {
                listing.entries.iter().map(|entry| &entry.name.0[..]).eq(names.iter().map(|name| name.as_bytes()))
            })
        };
        let mut chunks = self.chunks.lock().unwrap();
        let lost: BTreeMap<_, _> = chunks.extract_if(.., |_, chunk| is_it(chunk)).collect();
        assert_eq!(lost.len(), 1, "there is one such listing");
        lost
    }

    pub(crate) fn give_back(&self, lost: BTreeMap<ChunkId, Vec<u8>>) {
        self.chunks.lock().unwrap().extend(lost);
    }

    /// Stores a listing exactly as given, right or wrong.
    pub(crate) fn put_listing(&mut self, listing: &Listing) -> Content {
        self.put(&vault_format::encode(listing))
    }

    /// A root over any content.
    pub(crate) fn root(&mut self, top: &Listing) -> TreeRoot {
        let content = self.put_listing(top);
        TreeRoot { hash: tree_root(&content), content }
    }

    /// Backs a source up.
    pub(crate) fn read(&mut self, source: &mut dyn Source) -> Result<Reading> {
        source.read(self)
    }

    /// The point of a root.
    pub(crate) fn point(&self, root: PointRoot) -> MemoryPoint {
        MemoryPoint { chunks: self.chunks.clone(), record: record(root), on_read: None }
    }
}

impl Sink for MemoryVault {
    fn write(&mut self, _: ChunkKind, from: &mut dyn Read) -> Result<Content> {
        if let Some(hook) = &mut self.before_read {
            hook(self.writes);
        }
        self.writes += 1;
        let mut bytes = Vec::new();
        let read = from.read_to_end(&mut bytes);
        read.map_err(|error| OpsError::Io { what: "reading a source".into(), error })?;
        Ok(self.put(&bytes))
    }

    fn keep(&mut self, kind: ChunkKind, from: &mut dyn Read) -> Result<Kept> {
        Ok(Kept { content: self.write(kind, from)?, below: Vec::new(), packs: Vec::new() })
    }

    fn reuse(&mut self, kept: &mut Kept) -> Result<bool> {
        let chunks = self.chunks.lock().unwrap();
        Ok(kept.chunks().all(|chunk| chunks.contains_key(&chunk) && !self.condemned.contains(&chunk)))
    }

    fn known_files(&mut self, source: &str, path: &[u8]) -> KnownFiles {
        let key = Hash(*blake3::hash(&[source.as_bytes(), &[0], path].concat()).as_bytes());
        self.rows_met.insert(key);
        KnownFiles::new(key, self.rows.get(&key).cloned(), self.now_ms())
    }

    fn remember_files(&mut self, known: KnownFiles) {
        let key = known.key();
        if let Row::Write(row) = known.into_row() {
            self.rows.insert(key, row);
        }
    }

    fn forget_vanished(&mut self) {
        let met = std::mem::take(&mut self.rows_met);
        self.rows.retain(|key, _| met.contains(key));
    }

    fn now_ms(&self) -> i64 {
        if self.now_ms == 0 { 1_700_000_000_000 } else { self.now_ms }
    }
}

/// Reads what was stored.
pub(crate) struct MemoryPoint {
    chunks: Chunks,
    record: PointRecord,
    /// Called with the bytes of each content that is read, before they are written out.
    pub(crate) on_read: Option<OnRead>,
}

#[async_trait::async_trait]
impl PointReader for MemoryPoint {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    async fn read(&self, content: &Content, to: &mut (dyn Write + Send)) -> Result<()> {
        for chunk in &content.chunks {
            let bytes = self.chunks.lock().unwrap().get(&chunk.id).cloned();
            let bytes = bytes.ok_or_else(|| OpsError::Lost { what: format!("chunk {}", chunk.id) })?;
            if let Some(hook) = &self.on_read {
                hook(&bytes);
            }
            to.write_all(&bytes).map_err(|error| OpsError::Io { what: "writing".into(), error })?;
        }
        Ok(())
    }
}

fn record(root: PointRoot) -> PointRecord {
    PointRecord {
        vault: VaultId::default(),
        writer: WriterId::default(),
        epoch: 1,
        sequence: 1,
        source: "test".into(),
        host: "test".into(),
        started_ms: 0,
        finished_ms: 0,
        root,
        packs: Vec::new(),
        packs_more: None,
        previous: None,
        certificates: Vec::new(),
        vault_record: Blob::default(),
        key_history: Vec::new(),
        tags: Vec::new(),
        statistics: Statistics { items: 0, changed: 0, unreadable: 0, plain_bytes: 0, new_bytes: 0, packed_bytes: 0 },
        successor_of: None,
    }
}
