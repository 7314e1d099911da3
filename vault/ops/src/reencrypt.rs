//! Re-encryption: points whose packs are sealed for an older key generation get
//! successors that are not.
//!
//! What always holds: a successor holds the same chunks under the same ids, so the
//! same roots restore to the same bytes; it stands durable, under a migrator's own
//! signatures, before its original is put into the trash, and from there the usual
//! rules let the old packs go; what a killed run stored is found again; the read key
//! is needed and kept in memory only. What cannot be moved is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::files::{ReadKey, WriterKey};
use vault_codec::{Buffers, Chunk, Compression, FrameDecoder, FrameEncoder, PACK_REF_BYTES, Packer, Tail};
use vault_format::body::{ChunkKind, IndexEntry};
use vault_format::manifest::{ManifestKind, PackRef, WriterPart};
use vault_format::point::PointRecord;
use vault_format::tombstone::{ManifestRef, TombstoneAction};
use vault_format::vault::KemRole;
use vault_format::{Blob, ChunkId, Hash, PackId, PointId, RecipientId, ScopeId, labels};

use crate::backup::{check_domains, check_keys, point_id};
use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::commit::{self, Commit};
use crate::condemned::{self, Halt};
use crate::create::writer_certificate;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Trust, list_shards};
use crate::heads::{Depth, chain};
use crate::janitor::Janitor;
use crate::look::Head;
use crate::packing::{Sealing, StoredPack, store_pack};
use crate::placement::survives;
use crate::points::{self, PointSummary, point_text};
use crate::rebuild::{self, Next};
use crate::restore::{chunk_index, find_record};
use crate::sweep;
use crate::tombstones::{self, Draft};
use crate::vault::Vault;

/// A point that stays readable with an old key as long as it is there.
#[derive(Clone, Debug)]
pub struct OldPoint {
    /// As its manifest shows it.
    pub summary: PointSummary,
    /// Its record.
    record: PointRecord,
    /// Its packs that are sealed for an older generation.
    pub old: Vec<PackRef>,
    /// The others it needs.
    kept: Vec<PackRef>,
    /// The scope its chunks are named in.
    pub scope: ScopeId,
}

/// What there is to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Points to be moved, oldest first.
    pub points: Vec<OldPoint>,
    /// Old packs they need, each once.
    pub packs: BTreeSet<PackId>,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Points that have a successor already: only the trash is owed.
    pub succeeded: Vec<PointSummary>,
    /// Points in the trash with old packs: they go when their grace is over.
    pub in_trash: usize,
    /// What could not be looked at, and why.
    pub remarks: Vec<String>,
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.succeeded.is_empty()
    }

    /// Scopes of the points to be moved: a migrator's certificate names one.
    pub fn scopes(&self) -> BTreeSet<ScopeId> {
        self.points.iter().map(|point| point.scope).collect()
    }
}

/// The recipient all packs shall be sealed for.
fn newest_reader(vault: &Vault) -> Result<RecipientId> {
    let readers = keys::rotation::recipients(&vault.record, KemRole::Reader);
    let readers = readers.map_err(|error| OpsError::corrupt("the vault record", error.to_string()))?;
    readers
        .last()
        .map(keys::RecipientPublic::id)
        .ok_or_else(|| OpsError::corrupt("the vault record", "it names no reader"))
}

fn fetcher(vault: &Vault, holdings: &crate::fetch::Holdings) -> Fetcher {
    Fetcher::new(vault.world.clone(), holdings.clone(), Trust::Signed(vault.writers.clone()))
}

/// Looks for points with old packs. Writes nothing.
pub async fn plan(vault: &Vault, keys: &ReadKey) -> Result<Plan> {
    let newest = newest_reader(vault)?;
    let list = points::list(vault, keys).await?;
    let holdings = list_shards(vault, &vault.writer_ids()).await;
    let fetcher = fetcher(vault, &holdings);
    let mut seen = Seen { fetcher, newest, packs: BTreeMap::new() };
    let mut plan = Plan { remarks: list.remarks, ..Plan::default() };
    let mut successors = BTreeSet::new();
    for summary in list.points {
        match seen.point(keys, &summary).await {
            Ok(point) => {
                successors.extend(point.record.successor_of);
                if !point.old.is_empty() {
                    plan.points.push(point);
                }
            }
            Err(error) => plan.remarks.push(format!("{}: {error}", point_text(summary.part.point))),
        }
    }
    for summary in &list.trash {
        plan.in_trash += usize::from(seen.point(keys, summary).await.is_ok_and(|point| !point.old.is_empty()));
    }
    let (done, open) = plan.points.into_iter().partition(|point| successors.contains(&point.summary.part.point));
    plan.points = open;
    plan.succeeded = Vec::from_iter::<Vec<OldPoint>>(done).into_iter().map(|point| point.summary).collect();
    plan.packs = plan.points.iter().flat_map(|point| &point.old).map(|pack| pack.pack).collect();
    plan.body_bytes = plan.packs.iter().filter_map(|pack| seen.packs.get(pack)).map(|pack| pack.body_bytes).sum();
    Ok(plan)
}

/// What is known of packs by their headers.
struct Seen {
    fetcher: Fetcher,
    newest: RecipientId,
    packs: BTreeMap<PackId, SeenPack>,
}

#[derive(Clone, Copy)]
struct SeenPack {
    header: Hash,
    is_old: bool,
    body_bytes: u64,
}

impl Seen {
    async fn pack(&mut self, pack: PackId) -> Result<SeenPack> {
        if let Some(seen) = self.packs.get(&pack) {
            return Ok(*seen);
        }
        let header = self.fetcher.header(pack).await?;
        let seen = SeenPack {
            header: header.hash(),
            is_old: !header.h0().recipients.contains(&self.newest),
            body_bytes: header.h0().class.body_bytes(header.coding().data_shards()) as u64,
        };
        self.packs.insert(pack, seen);
        Ok(seen)
    }

    async fn point(&mut self, keys: &ReadKey, summary: &PointSummary) -> Result<OldPoint> {
        let found = find_record(&self.fetcher, keys, summary.pack).await?;
        let found = found.filter(|found| found.hash == summary.record).ok_or_else(|| {
            OpsError::corrupt(format!("pack {}", summary.pack.short()), "it holds another point record than was signed")
        })?;
        let scope = found
            .writer
            .scope()
            .ok_or_else(|| OpsError::Refused { what: "its writer's certificate names no dedup scope".to_owned() })?;
        let own = PackRef { pack: summary.pack, header: found.header };
        let (mut old, mut kept) = (Vec::new(), Vec::new());
        for pack in found.record.packs.iter().cloned().chain([own]) {
            let seen = self.pack(pack.pack).await?;
            if seen.header != pack.header {
                return Err(OpsError::corrupt(format!("pack {}", pack.pack.short()), "its header is another one's"));
            }
            if seen.is_old { &mut old } else { &mut kept }.push(pack);
        }
        // A pack that only holds the point's own record moves with it.
        Ok(OldPoint { summary: summary.clone(), record: found.record, old, kept, scope })
    }
}

/// How far a run is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The point that was moved.
    pub point: PointId,
    /// Its successor.
    pub successor: PointId,
    /// Points moved by this run.
    pub moved: usize,
    /// Points still to be moved.
    pub left: usize,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Points moved.
    pub moved: usize,
    /// Packs stored.
    pub packs: usize,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Originals put into the trash.
    pub trashed: usize,
    /// Points of other scopes, for which another migrator is needed.
    pub other_scopes: usize,
    /// Locations that lack a record, and why.
    pub owed: BTreeMap<String, String>,
}

/// Who moves, and where it is remembered.
pub struct Mover<'a> {
    /// The vault, its migrator certified.
    pub vault: &'a Vault,
    /// Opens what is moved.
    pub read: Arc<ReadKey>,
    /// Signs and seals.
    pub migrator: Arc<WriterKey>,
    /// Puts originals into the trash, and closes the migrator's epoch at the end.
    pub janitor: &'a Janitor,
    /// The migrator's own catalog: nobody else's chain is followed in it.
    pub catalog: &'a mut Catalog,
    /// The catalog of a writer of this scope on this host, so that it leans on the new
    /// packs from now on.
    pub host: Option<&'a mut Catalog>,
    /// How hard to compress.
    pub compression: Compression,
    /// How long originals stay in the trash.
    pub grace_ms: i64,
}

/// Where the chunks of the scope stand that were moved.
#[derive(Default)]
struct Moved {
    chunks: BTreeMap<ChunkId, PackId>,
    packs: BTreeMap<PackId, Hash>,
    /// Named by a manifest of the migrator.
    committed: BTreeSet<PackId>,
}

impl Moved {
    fn learn(&mut self, pack: &PackRef, index: &[IndexEntry]) {
        self.packs.insert(pack.pack, pack.header);
        let chunks = index.iter().filter(|entry| entry.kind != ChunkKind::PointRecord);
        self.chunks.extend(chunks.map(|entry| (entry.id, pack.pack)));
    }
}

/// Moves what the plan names. Doing it again goes on where it ended.
pub async fn apply(mover: &mut Mover<'_>, plan: &Plan, mut tell: impl FnMut(Progress)) -> Result<Report> {
    check_keys(mover.vault, &mover.migrator)?;
    check_domains(mover.vault)?;
    let mut report = Report::default();
    let scope = mover.migrator.scope;
    let (mine, others): (Vec<&OldPoint>, Vec<&OldPoint>) = plan.points.iter().partition(|point| point.scope == scope);
    report.other_scopes = others.len();
    let mut originals = plan.succeeded.clone();
    if !mine.is_empty() {
        let mut place = condemned::next_place(mover.vault, &mover.migrator, mover.catalog).await?;
        let mut known = mover.found_again(&place.marks).await?;
        for (at, point) in mine.iter().enumerate() {
            let seen = place.seen_epoch();
            let (successor, next) = mover.move_point(point, place.next, seen, &mut known, &mut report).await?;
            place.next = next;
            originals.push(point.summary.clone());
            report.moved += 1;
            tell(Progress {
                point: point.summary.part.point,
                successor,
                moved: report.moved,
                left: mine.len() - at - 1,
            });
        }
    }
    mover.let_go(&originals, &mut report).await?;
    mover.close().await?;
    Ok(report)
}

impl Mover<'_> {
    /// What this migrator stored before: by its manifests, and by a run that died.
    async fn found_again(&self, marks: &crate::marks::Marks) -> Result<Moved> {
        let (vault, id) = (self.vault, self.migrator.writer);
        let mut moved = Moved::default();
        let whole = chain(vault, id, Depth::Whole).await?;
        moved.committed = whole.all().into_iter().flat_map(|one| &one.body.packs).map(|pack| pack.pack).collect();
        let holdings = list_shards(vault, &[id].into()).await;
        let fetcher = fetcher(vault, &holdings);
        for &pack in holdings.packs.keys() {
            let durable = survives(&holdings.copies(pack), vault.coding, vault.survive());
            if !durable || marks.is_condemned(pack) {
                continue;
            }
            // What cannot be read now is stored again.
            let Ok(header) = fetcher.signed_header(pack).await else { continue };
            let reference = PackRef { pack, header: header.hash() };
            if let Ok((_, index)) = chunk_index(&fetcher, &self.read, &reference).await {
                moved.learn(&reference, &index);
            }
        }
        Ok(moved)
    }

    /// Moves one point: its chunks that were not moved yet, then its record.
    async fn move_point(
        &mut self,
        point: &OldPoint,
        place: Next,
        gc_epoch_seen: u64,
        moved: &mut Moved,
        report: &mut Report,
    ) -> Result<(PointId, Next)> {
        let vault = self.vault;
        let sealing = Arc::new(Sealing {
            keys: Arc::clone(&self.migrator),
            vault: vault.id,
            epoch: place.epoch,
            sequence: place.sequence,
            certificate: writer_certificate(&self.migrator),
            buffers: Buffers::new(2),
            detour: None,
        });
        let mut encoder = FrameEncoder::new(self.compression).map_err(refused)?;
        let mut packer = Packer::new(vault.coding, vault.class_max());
        let holdings = list_shards(vault, &vault.writer_ids()).await;
        let from = fetcher(vault, &holdings);
        from.expect(&point.old);
        let mut needed: BTreeSet<ChunkId> = BTreeSet::new();
        let mut waiting: BTreeSet<ChunkId> = BTreeSet::new();
        for old in &point.old {
            let (header, body) = from.body(old.pack).await?;
            let damaged = |error: vault_codec::CodecError| OpsError::corrupt(at(old.pack), error.to_string());
            let open = vault_codec::unlock_with(&header, &self.read).and_then(|key| key.open(body)).map_err(damaged)?;
            let mut decoder = FrameDecoder::new().map_err(damaged)?;
            for (frame, entry) in open.toc().entries.iter().enumerate() {
                if entry.kind == ChunkKind::PointRecord || !needed.insert(entry.id) {
                    continue;
                }
                if moved.chunks.contains_key(&entry.id) || !waiting.insert(entry.id) {
                    continue;
                }
                let (plain, key) = self.chunk(&open, &mut decoder, frame as u32, point.scope, old.pack)?;
                let frame = encoder.encode(&Chunk::new(&key, entry.kind, &plain)).map_err(refused)?;
                if let Some(pack) = packer.add(frame, &mut vault.world.rng()).map_err(refused)? {
                    let done = store_pack(vault, Arc::clone(&sealing), pack).await?;
                    self.note(done, moved, report)?;
                }
            }
        }
        let mut record = self.successor(point, place);
        let bound = vault_format::encode(&record).len()
            + (point.old.len() + TAIL_PACKS_MAX + moved.packs.len()) * PACK_REF_BYTES
            + RECORD_SLACK_BYTES;
        let Tail { packs, last } = packer.finish_for_point(bound);
        // Those chunks that close the point stand in its last pack.
        let in_last: BTreeSet<ChunkId> = last.chunk_ids().collect();
        for pack in packs {
            let done = store_pack(vault, Arc::clone(&sealing), pack).await?;
            self.note(done, moved, report)?;
        }
        let homes: BTreeSet<PackId> = needed
            .difference(&in_last)
            .map(|id| moved.chunks.get(id).copied().ok_or_else(|| lost(*id)))
            .collect::<Result<_>>()?;
        record.packs = homes.iter().map(|&pack| PackRef { pack, header: moved.packs[&pack] }).collect();
        record.packs.extend(point.kept.iter().cloned());
        record.packs.sort_by_key(|pack| pack.pack);
        let bytes = vault_format::encode(&record);
        let hash = keys::hash::labelled(labels::POINT_RECORD, &bytes);
        let chunk = Chunk::new(&self.migrator.dedup.id_key, ChunkKind::PointRecord, &bytes);
        let frame = encoder.encode(&chunk).map_err(refused)?;
        let done = store_pack(vault, Arc::clone(&sealing), last.close(frame).map_err(refused)?).await?;
        let own = done.stored.reference.clone();
        self.note(done, moved, report)?;
        let next = self.commit(&record, (hash, &own), (place, gc_epoch_seen), moved, report).await?;
        Ok((point_id(hash), next))
    }

    /// A chunk, checked to its id, and the key its id was made with.
    fn chunk(
        &self,
        open: &vault_codec::OpenPack,
        decoder: &mut FrameDecoder,
        frame: u32,
        scope: ScopeId,
        pack: PackId,
    ) -> Result<(Vec<u8>, keys::IdKey)> {
        let mut why = "the read key holds no generation".to_owned();
        for key in self.read.id_keys(scope) {
            match open.chunk(decoder, frame, &key) {
                Ok(plain) => return Ok((plain, key)),
                Err(error) => why = error.to_string(),
            }
        }
        Err(OpsError::corrupt(at(pack), why))
    }

    fn note(&mut self, done: StoredPack, moved: &mut Moved, report: &mut Report) -> Result<()> {
        report.packs += 1;
        report.body_bytes += done.stored.body_bytes;
        moved.learn(&done.stored.reference, &done.index);
        let row = PackRow {
            pack: done.stored.reference.pack,
            header: done.stored.reference.header,
            class: done.class,
            state: PackState::Stored,
        };
        self.catalog.add_pack(row, &done.index)
    }

    /// The record of the point that follows: the same state, by this migrator.
    fn successor(&self, point: &OldPoint, place: Next) -> PointRecord {
        PointRecord {
            writer: self.migrator.writer,
            epoch: place.epoch,
            sequence: place.sequence,
            packs: Vec::new(),
            previous: None,
            certificates: self.migrator.certificates.clone(),
            vault_record: Blob(self.vault.record_bytes.clone()),
            key_history: self.vault.record.key_history.clone(),
            successor_of: Some(point.summary.part.point),
            ..point.record.clone()
        }
    }

    async fn commit(
        &mut self,
        record: &PointRecord,
        (hash, own): (Hash, &PackRef),
        (place, gc_epoch_seen): (Next, u64),
        moved: &mut Moved,
        report: &mut Report,
    ) -> Result<Next> {
        let part = WriterPart {
            point: point_id(hash),
            source_kind: record.root.kind(),
            source: record.source.clone(),
            finished_ms: record.finished_ms,
            position: record.root.position(),
            root_hash: record.root.hash(),
            references: record.packs.iter().chain([own]).map(|pack| pack.pack).collect(),
            statistics: record.statistics.clone(),
            tags: record.tags.clone(),
        };
        let is_first = |pack: &&PackRef| moved.packs.contains_key(&pack.pack) && !moved.committed.contains(&pack.pack);
        let packs: Vec<PackRef> = record.packs.iter().chain([own]).filter(is_first).cloned().collect();
        let body = commit::manifest(&Commit {
            vault: self.vault,
            kind: ManifestKind::Successor,
            keys: &self.migrator,
            place,
            record,
            record_hash: hash,
            point_pack: own.pack,
            part: &part,
            packs: &packs,
            pending: Vec::new(),
            gc_epoch_seen,
        })?;
        let condemned = self.vault.reread().await.marks;
        if part.references.iter().any(|pack| condemned.is_condemned(*pack)) {
            return Err(condemned::given_up());
        }
        let manifest = commit::sign(self.vault, &self.migrator, &body)?;
        report.owed.extend(commit::publish_manifest(self.vault, self.catalog, &manifest).await?);
        match condemned::check_standing(self.vault, &manifest, &part.references).await {
            Ok(()) => {}
            Err(Halt::Error(error)) => return Err(error),
            Err(Halt::Hit(_)) => return Err(condemned::given_up()),
        }
        let (epoch, sequence) = manifest.position();
        let row = PointRow { writer: self.migrator.writer, epoch, sequence, pack: own.pack, part, verified: true };
        let committed: Vec<PackId> = packs.iter().map(|pack| pack.pack).collect();
        self.catalog.commit_point(&row, &committed)?;
        rebuild::remember_head(self.catalog, manifest.position(), manifest.hash)?;
        moved.committed.extend(&committed);
        self.teach_host(&packs).await?;
        Ok(Next::after(manifest.position(), manifest.hash))
    }

    /// From now on the writer of this host leans on the new packs: what it goes on
    /// needing would otherwise keep the old ones for ever.
    async fn teach_host(&mut self, packs: &[PackRef]) -> Result<()> {
        let Some(host) = &mut self.host else { return Ok(()) };
        let holdings = list_shards(self.vault, &[self.migrator.writer].into()).await;
        let fetcher = fetcher(self.vault, &holdings);
        for pack in packs {
            let (class, index) = chunk_index(&fetcher, &self.read, pack).await?;
            let row = PackRow { pack: pack.pack, header: pack.header, class, state: PackState::Committed };
            host.add_pack(row, &index)?;
        }
        Ok(())
    }

    /// Originals whose successors stand go into the trash.
    async fn let_go(&self, originals: &[PointSummary], report: &mut Report) -> Result<()> {
        if originals.is_empty() {
            return Ok(());
        }
        let vault = self.janitor.enrol(self.vault).await?.reread().await;
        let live = |point: &&PointSummary| vault.marks.manifest(point.writer, point.position, point.manifest).is_none();
        let named = |point: &PointSummary| ManifestRef {
            writer: point.writer,
            epoch: point.position.0,
            sequence: point.position.1,
            manifest: point.manifest,
        };
        let manifests: Vec<ManifestRef> = originals.iter().filter(live).map(named).collect();
        if manifests.is_empty() {
            return Ok(());
        }
        report.trashed = manifests.len();
        let draft = Draft {
            action: TombstoneAction::Trash,
            manifests,
            packs: Vec::new(),
            grace_ms: self.grace_ms,
            reason: "sealed anew for a newer key".to_owned(),
        };
        let written = tombstones::write(&vault, self.janitor, draft).await?;
        report.owed.extend(written.owed);
        Ok(())
    }

    /// Closes the migrator's epoch: garbage collection need not wait for one that writes
    /// nothing more. The next run opens another.
    async fn close(&self) -> Result<()> {
        let vault = self.janitor.enrol(self.vault).await?.reread().await;
        let chain = chain(&vault, self.migrator.writer, Depth::Head).await?;
        let Some(head) = chain.head() else { return Ok(()) };
        let fenced = vault.marks.fences.closes(self.migrator.writer, head.body.epoch);
        let head = Head {
            writer: self.migrator.writer,
            position: head.position(),
            hash: head.hash,
            gc_epoch_seen: head.body.gc_epoch_seen,
            fenced,
        };
        if !fenced {
            sweep::fence_at(&vault, self.janitor, &[head]).await?;
        }
        Ok(())
    }
}

/// More packs than any tail is cut into.
const TAIL_PACKS_MAX: usize = 64;
/// Room in the last pack for what an estimate of its record leaves out.
const RECORD_SLACK_BYTES: usize = 64;

fn at(pack: PackId) -> String {
    format!("pack {}", pack.short())
}

fn lost(id: ChunkId) -> OpsError {
    OpsError::corrupt(format!("chunk {}", id.short()), "it was sealed anew and is in no pack that was stored")
}

fn refused(error: vault_codec::CodecError) -> OpsError {
    OpsError::Refused { what: error.to_string() }
}
