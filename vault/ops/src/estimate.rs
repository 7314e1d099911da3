//! What a backup would read and store, without storing anything.
//!
//! What always holds: nothing is written, to no location and not to the catalog. A
//! pack counts as there if the catalog says so; a backup asks the locations.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use keys::files::WriterKey;
use vault_codec::{Chunk, ChunkSizes, Chunker};
use vault_format::body::ChunkKind;
use vault_format::tree::{ChunkList, ChunkRef, Content, FANOUT};
use vault_format::{ChunkId, PackId};

use crate::backup::total_like_before;
use crate::catalog::{Catalog, PackState};
use crate::error::{OpsError, Result};
use crate::file_cache::KnownFiles;
use crate::file_rows::FileRows;
use crate::progress::{CountedRead, Phase};
use crate::source::{Kept, Sink, Source, Unreadable};
use crate::vault::Vault;
use crate::world::World;

/// What a run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Files, or records.
    pub items: u64,
    /// Of them new or changed.
    pub changed: u64,
    /// What could not be read, by name.
    pub unreadable: Vec<Unreadable>,
    /// Plain bytes of the point.
    pub plain_bytes: u64,
    /// Of them read from the source; the file cache knows the others.
    pub read_bytes: u64,
    /// Of them not stored yet, before compression.
    pub new_bytes: u64,
}

/// Reads a source as a backup would and counts. The source comes back with it.
pub async fn estimate(
    vault: &Vault,
    keys: Arc<WriterKey>,
    catalog: &Catalog,
    mut source: Box<dyn Source>,
) -> (Result<Estimate>, Box<dyn Source>) {
    vault.world.progress.begin_of(Phase::Reading, total_like_before(catalog, source.name()));
    let counter = match Counter::new(vault, keys, catalog) {
        Ok(counter) => counter,
        Err(error) => return (Err(error), source),
    };
    vault
        .world
        .compute
        .run(move || {
            let mut sink = counter;
            let read = source.read(&mut sink);
            let estimated = read.map(|reading| Estimate {
                items: reading.items,
                changed: reading.changed,
                unreadable: reading.unreadable,
                ..sink.counts
            });
            (estimated, source)
        })
        .await
}

/// A sink that counts.
struct Counter {
    keys: Arc<WriterKey>,
    world: World,
    catalog: Catalog,
    there: BTreeSet<PackId>,
    sizes: ChunkSizes,
    fresh: BTreeSet<ChunkId>,
    files: FileRows,
    counts: Estimate,
}

impl Counter {
    fn new(vault: &Vault, keys: Arc<WriterKey>, catalog: &Catalog) -> Result<Self> {
        let sizes =
            ChunkSizes::of(&vault.record).map_err(|error| OpsError::corrupt("the vault record", error.to_string()))?;
        let mut there = BTreeSet::new();
        for state in [PackState::Stored, PackState::Committed, PackState::Spooled] {
            there.extend(catalog.packs(state)?.into_iter().map(|row| row.pack));
        }
        Ok(Self {
            files: FileRows::of(catalog, keys.dedup.id_key.path_key())?,
            keys,
            world: vault.world.clone(),
            catalog: catalog.second()?,
            there,
            sizes,
            fresh: BTreeSet::new(),
            counts: Estimate::default(),
        })
    }

    fn has(&self, id: ChunkId) -> Result<bool> {
        Ok(self.fresh.contains(&id) || self.catalog.chunk(id)?.is_some_and(|pack| self.there.contains(&pack)))
    }

    fn count(&mut self, kind: ChunkKind, plain: &[u8]) -> Result<ChunkRef> {
        let id = Chunk::new(&self.keys.dedup.id_key, kind, plain).id;
        self.counts.plain_bytes += plain.len() as u64;
        if kind == ChunkKind::List {
            self.world.progress.add_bytes(plain.len() as u64);
        }
        if kind == ChunkKind::Data {
            self.counts.read_bytes += plain.len() as u64;
        }
        if !self.has(id)? {
            self.fresh.insert(id);
            self.counts.new_bytes += plain.len() as u64;
        }
        Ok(ChunkRef { id, bytes: plain.len() as u32 })
    }
}

enum Stop {
    Read(std::io::Error),
    Count(OpsError),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

impl Sink for Counter {
    fn write(&mut self, kind: ChunkKind, from: &mut dyn Read) -> Result<Content> {
        let mut chunker = Chunker::new(self.sizes, &self.keys.dedup.chunker_seed);
        let mut chunks = Vec::new();
        // What is read counts when it is read: a chunk may be long in coming.
        let mut from = CountedRead { from, progress: self.world.progress.clone() };
        let read = chunker.read(&mut from, &mut |plain: &[u8]| {
            chunks.push(self.count(kind, plain).map_err(Stop::Count)?);
            Ok(())
        });
        let bytes = read.map_err(|stop| match stop {
            Stop::Read(error) => OpsError::Io { what: "reading the source".to_owned(), error },
            Stop::Count(error) => error,
        })?;
        let mut depth = 0;
        while chunks.len() > FANOUT {
            let lists: Vec<Vec<u8>> =
                chunks.chunks(FANOUT).map(|part| vault_format::encode(&ChunkList { chunks: part.to_vec() })).collect();
            chunks = lists.iter().map(|list| self.count(ChunkKind::List, list)).collect::<Result<_>>()?;
            depth += 1;
        }
        Ok(Content { bytes, depth, chunks })
    }

    fn keep(&mut self, kind: ChunkKind, from: &mut dyn Read) -> Result<Kept> {
        Ok(Kept { content: self.write(kind, from)?, below: Vec::new(), packs: Vec::new() })
    }

    fn reuse(&mut self, kept: &mut Kept) -> Result<bool> {
        if kept.packs.is_empty() || !kept.packs.iter().all(|pack| self.there.contains(pack)) {
            for id in kept.chunks() {
                if !self.has(id)? {
                    return Ok(false);
                }
            }
        }
        self.counts.plain_bytes += kept.content.bytes;
        self.world.progress.add_bytes(kept.content.bytes);
        Ok(true)
    }

    fn known_files(&mut self, source: &str, path: &[u8]) -> KnownFiles {
        self.files.open(source, path, self.world.now_ms())
    }

    /// What is only counted is not remembered: no pack has it.
    fn remember_files(&mut self, _: KnownFiles) {}

    fn forget_vanished(&mut self) {}

    fn now_ms(&self) -> i64 {
        self.world.now_ms()
    }

    fn passed(&mut self, items: u64) {
        self.world.progress.add_items(items);
    }
}
