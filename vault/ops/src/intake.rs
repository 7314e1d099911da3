//! The source's side of a backup: bytes in, packs out, on the source's thread.
//!
//! What always holds: a chunk is looked up before it is compressed; a lookup
//! counts only if the pack it leads to is durable(d) by today's listing, or was placed
//! by this run; at most a few packs wait in memory, then the source waits; of chunks
//! only those of packs under way are remembered, the others stand in the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};

use keys::files::WriterKey;
use rand_chacha::ChaCha20Rng;
use tokio::sync::mpsc;
use vault_codec::{Chunk, ChunkSizes, Chunker, Compression, Frame, FrameEncoder, Pack, Packer};
use vault_format::body::ChunkKind;
use vault_format::suite::{Class, Coding};
use vault_format::tree::{ChunkList, ChunkRef, Content, FANOUT};
use vault_format::{ChunkId, PackId};

use crate::catalog::Lookup;
use crate::error::{OpsError, Result};
use crate::file_cache::KnownFiles;
use crate::file_rows::FileRows;
use crate::framing::Framing;
use crate::progress::CountedRead;
use crate::source::{Kept, Sink};
use crate::world::{Compute, World};

/// Chunks whose pack is remembered: those met again and again. The others are in the catalog.
const KNOWN_MAX: usize = 1 << 16;

/// Lets the source run ahead of the locations by a few packs, no more.
#[derive(Clone)]
pub(crate) struct Gate {
    state: Arc<(Mutex<GateState>, Condvar)>,
    most: usize,
}

#[derive(Default)]
struct GateState {
    inside: usize,
    closed: bool,
    /// Packs of this run that the catalog knows, and the intake not yet.
    noted: Vec<(PackId, Vec<ChunkId>)>,
}

impl Gate {
    /// A gate that blocks threads; on the caller's own thread it must not.
    pub(crate) fn new(compute: Compute, most: usize) -> Self {
        let most = match compute {
            Compute::Inline => usize::MAX,
            Compute::Threads => most,
        };
        Self { state: Arc::default(), most }
    }

    fn enter(&self) -> bool {
        let (mutex, wake) = &*self.state;
        let mut state = mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while state.inside >= self.most && !state.closed {
            state = wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.inside += 1;
        !state.closed
    }

    fn is_closed(&self) -> bool {
        self.state.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).closed
    }

    /// A pack went through: the catalog knows it, with these chunks.
    pub(crate) fn leave(&self, pack: PackId, chunks: Vec<ChunkId>) {
        let (mutex, wake) = &*self.state;
        let mut state = mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.inside -= 1;
        state.noted.push((pack, chunks));
        wake.notify_all();
    }

    fn noted(&self) -> Vec<(PackId, Vec<ChunkId>)> {
        std::mem::take(&mut self.state.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).noted)
    }

    /// Closes the gate when the run ends, also by being dropped, so that a source
    /// waiting on its thread never waits for ever.
    pub(crate) fn close_on_drop(&self) -> CloseOnDrop {
        CloseOnDrop(self.clone())
    }

    /// The run failed: whoever waits gets an error instead.
    pub(crate) fn close(&self) {
        let (mutex, wake) = &*self.state;
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner).closed = true;
        wake.notify_all();
    }
}

/// See [`Gate::close_on_drop`].
pub(crate) struct CloseOnDrop(Gate);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the intake needs of the vault.
pub(crate) struct IntakeSetup {
    pub(crate) keys: Arc<WriterKey>,
    pub(crate) world: World,
    pub(crate) lookup: Lookup,
    pub(crate) files: FileRows,
    pub(crate) usable: BTreeSet<PackId>,
    pub(crate) sizes: ChunkSizes,
    pub(crate) coding: Coding,
    pub(crate) class_max: Class,
    pub(crate) compression: Compression,
}

/// Where a chunk is that counts today.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resolved {
    /// Nowhere.
    Nowhere,
    /// Among what this run stores.
    InThisRun,
    /// In a pack of an earlier run.
    In(PackId),
}

/// Cuts, deduplicates, compresses and packs.
pub(crate) struct Intake {
    keys: Arc<WriterKey>,
    world: World,
    lookup: Lookup,
    usable: BTreeSet<PackId>,
    sizes: ChunkSizes,
    chunker: Option<Chunker>,
    framing: Framing,
    packer: Packer,
    rng: ChaCha20Rng,
    gate: Gate,
    out: mpsc::UnboundedSender<Pack>,
    /// Chunks of this run that the catalog does not know yet.
    fresh: BTreeSet<ChunkId>,
    /// Packs of this run that it knows.
    own: BTreeSet<PackId>,
    known: BTreeMap<ChunkId, PackId>,
    totals: IntakeTotals,
    files: FileRows,
    /// Chunks below the lists of the last content.
    below: Vec<ChunkId>,
}

/// What an intake counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntakeTotals {
    /// Packs of earlier runs that this point needs.
    pub(crate) reused: BTreeSet<PackId>,
    /// Plain bytes of data offered.
    pub(crate) plain_bytes: u64,
    /// Plain bytes of chunks that were not stored yet.
    pub(crate) new_bytes: u64,
}

impl Intake {
    pub(crate) fn new(setup: IntakeSetup, gate: Gate, out: mpsc::UnboundedSender<Pack>) -> Result<Self> {
        let codec = |error: vault_codec::CodecError| OpsError::Refused { what: error.to_string() };
        Ok(Self {
            sizes: setup.sizes,
            chunker: Some(Chunker::new(setup.sizes, &setup.keys.dedup.chunker_seed)),
            framing: Framing::new(setup.world.compute, setup.compression).map_err(codec)?,
            packer: Packer::new(setup.coding, setup.class_max),
            files: setup.files,
            below: Vec::new(),
            keys: setup.keys,
            lookup: setup.lookup,
            usable: setup.usable,
            rng: setup.world.rng(),
            world: setup.world,
            gate,
            out,
            fresh: BTreeSet::new(),
            own: BTreeSet::new(),
            known: BTreeMap::new(),
            totals: IntakeTotals::default(),
        })
    }

    /// Ends the intake; what the packer still holds goes into the tail.
    pub(crate) fn finish(mut self) -> Result<(Packer, FrameEncoder, IntakeTotals)> {
        let last = self.framing.finish()?;
        self.pack_all(last)?;
        self.files.write();
        Ok((self.packer, self.framing.into_encoder()?, self.totals))
    }

    fn resolve(&mut self, id: ChunkId) -> Result<Resolved> {
        if self.fresh.contains(&id) {
            return Ok(Resolved::InThisRun);
        }
        let pack = match self.known.get(&id) {
            Some(pack) => Some(*pack),
            None => self.lookup.chunk(id)?.filter(|pack| self.usable.contains(pack) || self.own.contains(pack)),
        };
        let Some(pack) = pack else { return Ok(Resolved::Nowhere) };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(id, pack);
        if self.own.contains(&pack) {
            return Ok(Resolved::InThisRun);
        }
        self.totals.reused.insert(pack);
        Ok(Resolved::In(pack))
    }

    fn take(&mut self, kind: ChunkKind, plain: &[u8]) -> Result<ChunkRef> {
        let keys = Arc::clone(&self.keys);
        let chunk = Chunk::new(&keys.dedup.id_key, kind, plain);
        let reference = ChunkRef { id: chunk.id, bytes: plain.len() as u32 };
        self.totals.plain_bytes += plain.len() as u64;
        if kind == ChunkKind::List {
            self.world.progress.add_bytes(plain.len() as u64);
        }
        if self.gate.is_closed() {
            return Err(stopped());
        }
        if self.resolve(chunk.id)? != Resolved::Nowhere {
            return Ok(reference);
        }
        let ready = self.framing.add(&chunk)?;
        self.fresh.insert(reference.id);
        self.totals.new_bytes += plain.len() as u64;
        self.pack_all(ready)?;
        Ok(reference)
    }

    fn pack_all(&mut self, frames: Vec<Frame>) -> Result<()> {
        for frame in frames {
            if let Some(pack) = self.packer.add(frame, &mut self.rng).map_err(damaged)? {
                self.send(pack)?;
            }
        }
        Ok(())
    }

    /// Chunks that can be looked up need not be remembered.
    fn settle(&mut self) {
        for (pack, chunks) in self.gate.noted() {
            self.lookup.renew();
            for id in &chunks {
                self.fresh.remove(id);
            }
            self.own.insert(pack);
        }
    }

    fn send(&mut self, pack: Pack) -> Result<()> {
        let open = self.gate.enter();
        self.settle();
        if open && self.out.send(pack).is_ok() {
            return Ok(());
        }
        Err(stopped())
    }

    /// Folds a long list of chunks into lists of at most `fanout`, and lists of lists.
    fn fold(&mut self, bytes: u64, mut chunks: Vec<ChunkRef>, fanout: usize) -> Result<Content> {
        let mut depth = 0;
        self.below.clear();
        while chunks.len() > fanout {
            self.below.extend(chunks.iter().map(|chunk| chunk.id));
            let mut above = Vec::with_capacity(chunks.len().div_ceil(fanout));
            for part in chunks.chunks(fanout) {
                let list = vault_format::encode(&ChunkList { chunks: part.to_vec() });
                above.push(self.take(ChunkKind::List, &list)?);
            }
            chunks = above;
            depth += 1;
        }
        Ok(Content { bytes, depth, chunks })
    }
}

/// What the source hears; the cause is reported by whoever stopped the run.
fn stopped() -> OpsError {
    OpsError::Refused { what: "the backup was stopped".to_owned() }
}

fn damaged(error: vault_codec::CodecError) -> OpsError {
    OpsError::corrupt("a chunk just encoded", error.to_string())
}

/// Tells a reader's error from the intake's own.
enum Stop {
    Read(std::io::Error),
    Intake(OpsError),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

impl Sink for Intake {
    fn write(&mut self, kind: ChunkKind, from: &mut dyn Read) -> Result<Content> {
        let mut chunker = self
            .chunker
            .take()
            .ok_or_else(|| OpsError::Refused { what: "a source wrote two contents at once".to_owned() })?;
        let mut chunks = Vec::new();
        // What is read counts when it is read: a chunk may be long in coming.
        let mut from = CountedRead { from, progress: self.world.progress.clone() };
        let read = chunker.read(&mut from, &mut |plain: &[u8]| {
            chunks.push(self.take(kind, plain).map_err(Stop::Intake)?);
            Ok(())
        });
        match read {
            Ok(bytes) => {
                self.chunker = Some(chunker);
                self.fold(bytes, chunks, FANOUT)
            }
            Err(stop) => {
                // What was cut before the error is stored and harmless; the chunker starts anew.
                self.chunker = Some(Chunker::new(self.sizes, &self.keys.dedup.chunker_seed));
                Err(match stop {
                    Stop::Read(error) => OpsError::Io { what: "reading the source".to_owned(), error },
                    Stop::Intake(error) => error,
                })
            }
        }
    }

    fn keep(&mut self, kind: ChunkKind, from: &mut dyn Read) -> Result<Kept> {
        let content = self.write(kind, from)?;
        Ok(Kept { content, below: std::mem::take(&mut self.below), packs: Vec::new() })
    }

    fn reuse(&mut self, kept: &mut Kept) -> Result<bool> {
        // The packs that were noted hold all of it: if they count today, so does it.
        if !kept.packs.is_empty() && kept.packs.iter().all(|pack| self.usable.contains(pack)) {
            self.totals.reused.extend(&kept.packs);
        } else {
            let (mut packs, mut all_known) = (BTreeSet::new(), true);
            for id in kept.chunks() {
                match self.resolve(id)? {
                    Resolved::Nowhere => return Ok(false),
                    Resolved::InThisRun => all_known = false,
                    Resolved::In(pack) => {
                        packs.insert(pack);
                    }
                }
            }
            kept.packs = if all_known { packs.into_iter().collect() } else { Vec::new() };
        }
        self.totals.plain_bytes += kept.content.bytes;
        self.world.progress.add_bytes(kept.content.bytes);
        Ok(true)
    }

    fn known_files(&mut self, source: &str, path: &[u8]) -> KnownFiles {
        self.files.open(source, path, self.world.now_ms())
    }

    fn remember_files(&mut self, known: KnownFiles) {
        self.files.close(known);
    }

    fn forget_vanished(&mut self) {
        self.files.end();
    }

    fn now_ms(&self) -> i64 {
        self.world.now_ms()
    }

    fn passed(&mut self, items: u64) {
        self.world.progress.add_items(items);
    }
}

#[cfg(test)]
mod tests {
    use keys::first::FirstKeys;
    use rand_core::{Rng, SeedableRng};
    use vault_format::Hash;
    use vault_format::body::IndexEntry;

    use super::*;
    use crate::catalog::{Catalog, PackRow, PackState};
    use crate::world::Clock;

    struct NoClock;

    #[async_trait::async_trait]
    impl Clock for NoClock {
        fn now_ms(&self) -> i64 {
            0
        }

        async fn sleep(&self, _: std::time::Duration) {}
    }

    type Packs<'a> = &'a [PackId];

    fn intake(dir: &std::path::Path) -> Intake {
        intake_with(dir, &[])
    }

    fn intake_with(dir: &std::path::Path, usable: &[PackId]) -> Intake {
        intake_of(dir, usable, Gate::new(Compute::Inline, 2), mpsc::unbounded_channel().0)
    }

    fn intake_of(dir: &std::path::Path, usable: &[PackId], gate: Gate, out: mpsc::UnboundedSender<Pack>) -> Intake {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let keys = Arc::new(FirstKeys::draw(&mut rng, "host", 1).writer);
        let catalog = Catalog::open(&dir.join("catalog")).unwrap();
        let setup = IntakeSetup {
            files: FileRows::of(&catalog, keys.dedup.id_key.path_key()).unwrap(),
            keys,
            world: World::new(Arc::new(NoClock), Compute::Inline, [1; 32]),
            lookup: Lookup::of(&catalog).unwrap(),
            usable: usable.iter().copied().collect(),
            sizes: ChunkSizes::new(64, 256, 1024).unwrap(),
            coding: Coding::new(3, 5).unwrap(),
            class_max: Class::Leaves64,
            compression: Compression::Never,
        };
        Intake::new(setup, gate, out).unwrap()
    }

    fn chunks(count: u32) -> Vec<ChunkRef> {
        (0..count).map(|at| ChunkRef { id: ChunkId(*blake3::hash(&at.to_le_bytes()).as_bytes()), bytes: 1 }).collect()
    }

    #[test]
    fn of_chunks_only_those_under_way_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(&dir.path().join("catalog")).unwrap();
        let gate = Gate::new(Compute::Inline, 2);
        let (out, mut packs) = mpsc::unbounded_channel();
        let mut intake = intake_of(dir.path(), &[], gate.clone(), out);
        let file = |number: u8| {
            let mut bytes = vec![0; 600_000];
            ChaCha20Rng::seed_from_u64(number.into()).fill_bytes(&mut bytes);
            bytes
        };
        let (mut noted, mut remembered) = (0, Vec::new());
        for number in 0..60 {
            intake.write(ChunkKind::Data, &mut &file(number)[..]).unwrap();
            while let Ok(pack) = packs.try_recv() {
                noted += 1;
                let id = PackId([noted; 16]);
                let row = PackRow { pack: id, header: Hash([noted; 32]), class: 3, state: PackState::Stored };
                let entries: Vec<_> = pack
                    .entries()
                    .map(|entry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind })
                    .collect();
                catalog.add_pack(row, &entries).unwrap();
                gate.leave(id, entries.iter().map(|entry| entry.id).collect());
            }
            remembered.push(intake.fresh.len());
        }
        assert!(noted >= 2, "{noted} packs");
        assert!(remembered.last() < remembered.iter().max(), "{remembered:?}");
        // All of it is known, wherever that stands; and none of it is called another run's.
        let new = intake.totals.new_bytes;
        for number in 0..60 {
            intake.write(ChunkKind::Data, &mut &file(number)[..]).unwrap();
        }
        assert_eq!((intake.totals.new_bytes, intake.totals.reused.len()), (new, 0));
    }

    #[test]
    fn lists_are_folded_only_as_deep_as_they_must_be() {
        let dir = tempfile::tempdir().unwrap();
        // Chunks, fanout; depth, entries at the top, lists made.
        let cases = [
            (0, 3, (0, 0, 0)),
            (3, 3, (0, 3, 0)),
            (4, 3, (1, 2, 2)),
            (9, 3, (1, 3, 3)),
            (10, 3, (2, 2, 6)),
            (27, 3, (2, 3, 12)),
            (28, 3, (3, 2, 10 + 4 + 2)),
            (4_096, FANOUT, (0, 4_096, 0)),
            (4_097, FANOUT, (1, 2, 2)),
            (20_000, FANOUT, (1, 5, 5)),
        ];
        for (count, fanout, (depth, entries, lists)) in cases {
            let mut intake = intake(dir.path());
            let content = intake.fold(count.into(), chunks(count), fanout).unwrap();
            let found = (content.depth, content.chunks.len(), intake.fresh.len());
            assert_eq!(found, (depth, entries, lists), "{count} chunks");
            assert_eq!(content.bytes, u64::from(count));
            // What nobody without the read key finds again: all chunks, and the lists below the top.
            let below = if depth == 0 { 0 } else { count as usize + lists - entries };
            assert_eq!(intake.below.len(), below, "{count} chunks");
            content.check().unwrap();
            // The same chunks give the same content and no new lists.
            assert_eq!(intake.fold(count.into(), chunks(count), fanout).unwrap(), content);
            assert_eq!(intake.fresh.len(), lists);
        }
    }
    #[test]
    fn a_content_is_reused_by_its_packs_only_while_they_count() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (PackId([1; 16]), PackId([2; 16]));
        let add = |pack: PackId| {
            let row = PackRow { pack, header: Hash([9; 32]), class: 1, state: PackState::Committed };
            let entry = |chunk: &ChunkRef| IndexEntry { id: chunk.id, plain_bytes: 1, kind: ChunkKind::Data };
            let index: Vec<IndexEntry> = chunks(2).iter().map(entry).collect();
            Catalog::open(&dir.path().join("catalog")).unwrap().add_pack(row, &index).unwrap();
        };
        let kept = |chunk_count: u32, packs: &[PackId]| Kept {
            content: Content { bytes: u64::from(chunk_count), depth: 0, chunks: chunks(chunk_count) },
            below: Vec::new(),
            packs: packs.to_vec(),
        };
        add(old);
        // Usable packs, the chunks and the packs noted of a file; reused, the packs noted then, and leaned on.
        let cases: [(Packs<'_>, u32, Packs<'_>, bool, Packs<'_>); 6] = [
            (&[old], 2, &[], true, &[old]),
            (&[old], 2, &[old], true, &[old]),
            (&[], 2, &[old], false, &[]),
            (&[new], 2, &[old], false, &[]),
            (&[old], 3, &[new], false, &[]),
            (&[old], 2, &[old, new], true, &[old]),
        ];
        for (usable, count, noted, reused, packs) in cases {
            let mut intake = intake_with(dir.path(), usable);
            let mut file = kept(count, noted);
            assert_eq!(intake.reuse(&mut file).unwrap(), reused, "{usable:?} {noted:?}");
            if reused {
                assert_eq!(file.packs, packs);
                assert_eq!(intake.totals.reused.iter().copied().collect::<Vec<_>>(), packs);
            }
        }
        // Stored anew elsewhere, as a re-encryption does: what was noted is no longer asked.
        add(new);
        let mut file = kept(2, &[old]);
        assert!(intake_with(dir.path(), &[new]).reuse(&mut file).unwrap());
        assert_eq!(file.packs, [new]);
    }
}
