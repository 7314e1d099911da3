//! Packs within reach of a reader: their tables of contents and their chunks, read
//! when they are wanted.
//!
//! What always holds: a chunk leaves here only after its bytes gave its keyed id
//! again, whichever pack it came from and whatever a hint said; of a pack no more is
//! read than what is wanted of it, until that is a quarter of it: then the rest is
//! likely to be wanted too, and one request is cheaper than many; what is kept in
//! memory is bounded in bytes; a pack that cannot be put together is asked for once and
//! not for every chunk. Of a lost one, what the shards that are left hold as plain leaves
//! is read all the same by who wants that.
//!
//! Several points share one shelf: what was read for one is there for the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keys::dedup::IdKey;
use keys::files::ReadKey;
use tokio::sync::{Mutex, OwnedMutexGuard};
use vault_codec::{BodyPart, FrameDecoder, OpenToc, PackKey};
use vault_format::manifest::PackRef;
use vault_format::suite::LEAF_BYTES;
use vault_format::tree::ChunkRef;
use vault_format::{ChunkId, PackId};

use crate::error::{OpsError, Result};
use crate::fetch::Fetcher;
use crate::restore::{damaged, decoder, of, open_table};
use crate::world::Compute;

/// Most bytes of packs kept in memory; one whole pack is kept in any case.
const KEPT_BYTES_MAX: usize = 128 << 20;
/// Tables of contents kept in memory. They are read again where more are needed.
const TABLES_KEPT: usize = 64;
/// Tables of contents read at once.
const TABLES_AT_ONCE: usize = 8;
/// Chunks that lie this far apart are still read in one range: a request costs more.
const GAP_BYTES_MAX: u64 = 4 * LEAF_BYTES as u64;
/// Parts in a row that what is left of a pack did not have, after which no more are asked for
/// while locations do not answer.
const MISSES_MAX: u32 = 4;
/// Longest range read at once.
const RANGE_BYTES_MAX: u64 = 8 << 20;

/// How a pack is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// Whole, at the first chunk: for who restores everything.
    Packs,
    /// Only the leaves that are wanted, until they are a quarter of the pack.
    Leaves,
}

/// Where a chunk may be, by a cache on this host. It is looked for there first.
pub type Hint = Box<dyn Fn(ChunkId) -> Option<PackId> + Send + Sync>;

/// What will be asked for next; worked out only when something has to be read.
pub(crate) type Ahead<'a> = &'a (dyn Fn() -> Vec<ChunkRef> + Sync);

/// See the head of this file.
pub struct Shelf {
    fetcher: Fetcher,
    keys: Arc<ReadKey>,
    compute: Compute,
    appetite: Appetite,
    hint: Option<Hint>,
    /// Leaves of packs that are lost are wanted, too.
    takes_left: AtomicBool,
    state: Mutex<State>,
    /// Whoever fetches from a pack does so alone: another may want the same of it.
    turns: std::sync::Mutex<BTreeMap<PackId, Arc<Mutex<()>>>>,
    decoders: std::sync::Mutex<Vec<FrameDecoder>>,
}

#[derive(Default)]
struct State {
    /// Of all packs whose table was read.
    chunks: BTreeMap<ChunkId, (PackId, u32)>,
    tables_read: BTreeSet<PackId>,
    /// The last used first.
    tables: VecDeque<(PackId, Arc<Table>)>,
    pieces: VecDeque<Piece>,
    /// Bytes of each pack that were read in pieces.
    eaten: BTreeMap<PackId, u64>,
    /// Packs that could not be put together, and why.
    broken: BTreeMap<PackId, Broken>,
    /// Of them, how often in a row what is left did not have what was wanted.
    misses: BTreeMap<PackId, u32>,
}

/// Why a pack cannot be put together.
#[derive(Clone)]
enum Broken {
    Lost(String),
    Unreachable(String),
    Other { what: String, why: String },
}

impl Broken {
    /// What it is worth remembering of an error: of stored bytes, and of nothing else.
    fn of(pack: PackId, error: &OpsError) -> Option<Self> {
        if !error.is_of_stored_bytes() {
            return None;
        }
        Some(if let OpsError::Lost { what } = error {
            Self::Lost(what.clone())
        } else if let OpsError::Unreachable { what } = error {
            Self::Unreachable(what.clone())
        } else if let OpsError::Corrupt { what, why } = error {
            Self::Other { what: what.clone(), why: why.clone() }
        } else {
            Self::Other { what: of(pack), why: error.to_string() }
        })
    }

    fn error(self) -> OpsError {
        match self {
            Self::Lost(what) => OpsError::Lost { what },
            Self::Unreachable(what) => OpsError::Unreachable { what },
            Self::Other { what, why } => OpsError::Corrupt { what, why },
        }
    }
}

/// A pack's key and contents.
struct Table {
    key: PackKey,
    toc: OpenToc,
    body_bytes: u64,
}

/// A part of a pack's body in memory.
#[derive(Clone)]
struct Piece {
    pack: PackId,
    offset: u64,
    bytes: Bytes,
}

impl Piece {
    fn holds(&self, pack: PackId, range: &Range<u64>) -> bool {
        self.pack == pack && self.offset <= range.start && range.end <= self.offset + self.bytes.len() as u64
    }
}

impl Shelf {
    /// An empty shelf.
    pub fn new(fetcher: Fetcher, keys: Arc<ReadKey>, compute: Compute, appetite: Appetite) -> Self {
        Self {
            fetcher,
            keys,
            compute,
            appetite,
            hint: None,
            takes_left: AtomicBool::new(false),
            state: Mutex::default(),
            turns: std::sync::Mutex::default(),
            decoders: std::sync::Mutex::default(),
        }
    }

    /// Looks for chunks where the hint says, before it reads tables in turn. A wrong hint
    /// costs time and nothing else.
    #[must_use]
    pub fn with_hint(self, hint: Hint) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// What reads the packs.
    pub fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    pub(crate) fn compute(&self) -> Compute {
        self.compute
    }

    /// From now on a chunk is also read from a pack that is lost, if its leaves are left.
    pub(crate) fn take_what_is_left(&self) {
        self.takes_left.store(true, Ordering::Relaxed);
    }

    async fn turn(&self, pack: PackId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(turns.entry(pack).or_default())
        };
        turn.lock_owned().await
    }

    pub(crate) fn keys(&self) -> &ReadKey {
        &self.keys
    }

    /// Reads the tables of contents of these packs, those it does not know yet.
    pub(crate) async fn read_tables(&self, packs: &[PackRef]) -> Result<()> {
        let missing: Vec<PackRef> = {
            let state = self.state.lock().await;
            packs.iter().filter(|one| !state.tables_read.contains(&one.pack)).cloned().collect()
        };
        let mut tables = futures::stream::iter(missing)
            .map(|reference| async move {
                let header = self.fetcher.header(reference.pack).await?;
                if header.hash() != reference.header {
                    let why = "its header is not the one the point record names";
                    return Err(OpsError::corrupt(of(reference.pack), why));
                }
                Ok((reference.pack, self.read_table(reference.pack).await?))
            })
            .buffer_unordered(TABLES_AT_ONCE);
        while let Some((pack, table)) = tables.try_next().await? {
            let mut state = self.state.lock().await;
            let entries = table.toc.toc().entries.iter().zip(0..);
            state.chunks.extend(entries.map(|(entry, frame)| (entry.id, (pack, frame))));
            state.tables_read.insert(pack);
            state.keep_table(pack, table);
        }
        Ok(())
    }

    async fn read_table(&self, pack: PackId) -> Result<Arc<Table>> {
        let header = self.fetcher.header(pack).await?;
        let (key, toc) = open_table(&self.fetcher, &self.keys, &header).await?;
        Ok(Arc::new(Table { body_bytes: key.locators_range().end, key, toc }))
    }

    /// A chunk of a point with these packs, checked under one of these keys. `ahead` is
    /// what will be asked for next.
    pub(crate) async fn chunk(
        &self,
        packs: &[PackRef],
        id_keys: &[IdKey],
        id: ChunkId,
        ahead: Ahead<'_>,
    ) -> Result<Vec<u8>> {
        let (pack, frame) = self.locate(packs, id).await?;
        let table = self.table(pack).await?;
        let wanted = table.toc.frame_range(frame).ok_or_else(|| OpsError::corrupt(of(pack), "its table is short"))?;
        let piece = self.piece(&table, pack, wanted, ahead).await?;
        let idle = self.decoders().pop();
        let mut decoder = idle.map_or_else(|| decoder(pack), Ok)?;
        let part = BodyPart { offset: piece.offset, bytes: &piece.bytes };
        let mut found = Err(OpsError::Key { what: "the key at hand cannot check chunk ids of this writer".to_owned() });
        // One key per generation; nearly always there is one.
        for id_key in id_keys {
            found =
                table.key.chunk(&table.toc, frame, part, &mut decoder, id_key).map_err(|error| damaged(pack, &error));
            if found.is_ok() {
                break;
            }
        }
        self.decoders().push(decoder);
        found
    }

    fn decoders(&self) -> std::sync::MutexGuard<'_, Vec<FrameDecoder>> {
        self.decoders.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads tables until the chunk is found: first where the hint says, then that of the
    /// point's own record, where the last listings are, then the others.
    async fn locate(&self, packs: &[PackRef], id: ChunkId) -> Result<(PackId, u32)> {
        if let Some(found) = self.state.lock().await.chunks.get(&id) {
            return Ok(*found);
        }
        let hinted = self.hint.as_ref().and_then(|hint| hint(id));
        let mut broken = None;
        let mut waiting: Vec<PackRef> = {
            let state = self.state.lock().await;
            let mut waiting: Vec<PackRef> =
                packs.iter().filter(|one| !state.tables_read.contains(&one.pack)).cloned().collect();
            // What was tried for another chunk is not tried again for each.
            waiting.retain(|one| match state.broken.get(&one.pack) {
                Some(why) => {
                    broken = broken.take().or_else(|| Some(why.clone().error()));
                    false
                }
                None => true,
            });
            waiting
        };
        waiting.sort_by_key(|one| Some(one.pack) != hinted);
        let mut at_once = 1;
        while !waiting.is_empty() {
            let later = waiting.split_off(at_once.min(waiting.len()));
            // A pack that is gone costs what stands in it; this chunk may stand in another.
            match self.read_tables(&waiting).await {
                Ok(()) => {}
                Err(error) if waiting.len() == 1 => {
                    self.note_broken(waiting[0].pack, &error).await;
                    broken = broken.or(Some(error));
                }
                Err(_) => {
                    for one in &waiting {
                        if let Err(error) = self.read_tables(std::slice::from_ref(one)).await {
                            self.note_broken(one.pack, &error).await;
                            broken = broken.or(Some(error));
                        }
                    }
                }
            }
            if let Some(found) = self.state.lock().await.chunks.get(&id) {
                return Ok(*found);
            }
            waiting = later;
            at_once = TABLES_AT_ONCE;
        }
        let why = "no pack the point record names holds it";
        Err(broken.unwrap_or_else(|| OpsError::corrupt(format!("chunk {}", id.short()), why)))
    }

    async fn note_broken(&self, pack: PackId, error: &OpsError) {
        if let Some(broken) = Broken::of(pack, error) {
            self.state.lock().await.broken.insert(pack, broken);
        }
    }

    async fn table(&self, pack: PackId) -> Result<Arc<Table>> {
        if let Some(table) = self.state.lock().await.table(pack) {
            return Ok(table);
        }
        let table = match self.appetite {
            Appetite::Leaves => self.read_table(pack).await?,
            Appetite::Packs => match self.table_of_body(pack).await {
                Err(error @ OpsError::Lost { .. }) if self.takes_left.load(Ordering::Relaxed) => {
                    self.read_table(pack).await.map_err(|_| error)?
                }
                Err(error) => return Err(error),
                Ok(table) => table,
            },
        };
        self.state.lock().await.keep_table(pack, Arc::clone(&table));
        Ok(table)
    }

    /// The table out of the whole body, which is wanted anyway.
    async fn table_of_body(&self, pack: PackId) -> Result<Arc<Table>> {
        let header = self.fetcher.header(pack).await?;
        let body_bytes = header.h0().class.body_bytes(header.coding().data_shards()) as u64;
        let _turn = self.turn(pack).await;
        let kept = self.state.lock().await.piece(pack, &(0..body_bytes));
        let bytes = match kept {
            Some(piece) => piece.bytes,
            None => {
                let bytes = self.fetcher.body(pack).await?.1;
                self.state.lock().await.keep(Piece { pack, offset: 0, bytes: bytes.clone() });
                bytes
            }
        };
        let keys = Arc::clone(&self.keys);
        let opened = self.compute.run(move || {
            let key = vault_codec::unlock_with(&header, &keys)?;
            let toc = key.toc(BodyPart { offset: 0, bytes: &bytes })?;
            Ok(Table { key, toc, body_bytes })
        });
        Ok(Arc::new(opened.await.map_err(|error| damaged(pack, &error))?))
    }

    /// A part of the body that holds `wanted`.
    async fn piece(&self, table: &Table, pack: PackId, wanted: Range<u64>, ahead: Ahead<'_>) -> Result<Piece> {
        if let Some(piece) = self.state.lock().await.piece(pack, &wanted) {
            return Ok(piece);
        }
        let _turn = self.turn(pack).await;
        let range = {
            let mut state = self.state.lock().await;
            if let Some(piece) = state.piece(pack, &wanted) {
                return Ok(piece);
            }
            if let Some(broken) = state.broken.get(&pack).cloned() {
                drop(state);
                return self.left_of(pack, aligned(wanted, table.body_bytes), broken).await;
            }
            let (range, wanted_bytes) = state.merged(table, pack, wanted.clone(), &ahead());
            let eaten = state.eaten.entry(pack).or_default();
            *eaten += range.end - range.start;
            let hungry = self.appetite == Appetite::Packs || (*eaten).max(wanted_bytes) * 4 > table.body_bytes;
            if hungry { 0..table.body_bytes } else { range }
        };
        let read = if range.end - range.start == table.body_bytes {
            self.fetcher.body(pack).await.map(|(_, body)| body)
        } else {
            self.fetcher.body_range(pack, range.clone()).await
        };
        let bytes = match (read, aligned(wanted, table.body_bytes)) {
            (Ok(bytes), _) => bytes,
            (Err(error), least) => {
                let Some(broken) = Broken::of(pack, &error) else { return Err(error) };
                self.state.lock().await.broken.insert(pack, broken.clone());
                return self.left_of(pack, least, broken).await;
            }
        };
        let piece = Piece { pack, offset: range.start, bytes };
        self.state.lock().await.keep(piece.clone());
        Ok(piece)
    }

    /// Leaves of a pack that cannot be put together: those that a shard that is left shows.
    /// Where locations do not answer, each try costs its waiting time.
    async fn left_of(&self, pack: PackId, range: Range<u64>, broken: Broken) -> Result<Piece> {
        let is_slow = matches!(broken, Broken::Unreachable(_));
        let wants = match self.appetite {
            Appetite::Leaves => true,
            Appetite::Packs => !is_slow && self.takes_left.load(Ordering::Relaxed),
        };
        if !wants {
            return Err(broken.error());
        }
        if is_slow && self.state.lock().await.misses.get(&pack).is_some_and(|misses| *misses >= MISSES_MAX) {
            return Err(broken.error());
        }
        if let Some(bytes) = self.fetcher.leaves_left(pack, range.clone()).await? {
            self.state.lock().await.misses.remove(&pack);
            return Ok(Piece { pack, offset: range.start, bytes });
        }
        *self.state.lock().await.misses.entry(pack).or_default() += 1;
        Err(broken.error())
    }
}

impl State {
    fn table(&mut self, pack: PackId) -> Option<Arc<Table>> {
        let at = self.tables.iter().position(|(id, _)| *id == pack)?;
        let hit = self.tables.remove(at)?;
        let table = Arc::clone(&hit.1);
        self.tables.push_front(hit);
        Some(table)
    }

    fn keep_table(&mut self, pack: PackId, table: Arc<Table>) {
        self.tables.push_front((pack, table));
        self.tables.truncate(TABLES_KEPT);
    }

    fn piece(&mut self, pack: PackId, range: &Range<u64>) -> Option<Piece> {
        let at = self.pieces.iter().position(|piece| piece.holds(pack, range))?;
        let hit = self.pieces.remove(at)?;
        self.pieces.push_front(hit.clone());
        Some(hit)
    }

    fn keep(&mut self, piece: Piece) {
        let within = piece.offset..piece.offset + piece.bytes.len() as u64;
        self.pieces.retain(|old| {
            old.pack != piece.pack || old.offset < within.start || old.offset + old.bytes.len() as u64 > within.end
        });
        self.pieces.push_front(piece);
        let mut left = KEPT_BYTES_MAX;
        let mut kept = 0;
        for piece in &self.pieces {
            match left.checked_sub(piece.bytes.len()) {
                Some(less) => left = less,
                None if kept > 0 => break,
                None => left = 0,
            }
            kept += 1;
        }
        self.pieces.truncate(kept);
    }

    /// The leaves of `wanted` and of what follows near it in the same pack; and how many
    /// bytes of the pack are known to be wanted.
    fn merged(&self, table: &Table, pack: PackId, wanted: Range<u64>, ahead: &[ChunkRef]) -> (Range<u64>, u64) {
        let mut range = aligned(wanted.clone(), table.body_bytes);
        let mut wanted_bytes = wanted.end - wanted.start;
        for chunk in ahead {
            let Some((_, frame)) = self.chunks.get(&chunk.id).filter(|(at, _)| *at == pack) else { continue };
            let Some(next) = table.toc.frame_range(*frame) else { continue };
            wanted_bytes += next.end - next.start;
            let next = aligned(next, table.body_bytes);
            let near = next.start >= range.start && next.start <= range.end + GAP_BYTES_MAX;
            if near && next.end - range.start <= RANGE_BYTES_MAX {
                range.end = range.end.max(next.end);
            }
        }
        (range, wanted_bytes)
    }
}

/// To whole leaves: less is never sent.
fn aligned(range: Range<u64>, body_bytes: u64) -> Range<u64> {
    let leaf = LEAF_BYTES as u64;
    range.start / leaf * leaf..range.end.next_multiple_of(leaf).min(body_bytes)
}
