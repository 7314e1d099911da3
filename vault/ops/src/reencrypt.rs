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
use vault_format::body::ChunkKind;
use vault_format::manifest::{ManifestKind, PackRef};
use vault_format::point::PointRecord;
use vault_format::tombstone::ManifestRef;
use vault_format::{Blob, ChunkId, Hash, PackId, PointId, ScopeId, labels};

use crate::backup::{check_domains, check_keys, point_id};
use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::commit::{self, Commit};
use crate::condemned::{self, Halt};
use crate::create::writer_certificate;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, list_shards};
use crate::heads::{Depth, chain};
use crate::janitor::Janitor;
use crate::look::Head;
use crate::packing::{Sealing, StoredPack, store_pack};
use crate::progress::{Phase, Total};
use crate::rebuild::{self, Next};
use crate::sweep;
use crate::vault::Vault;

mod letting_go;
mod moved;
mod plan;

use moved::Moved;
pub use moved::teach;
pub use plan::{Follower, OldPoint, Plan, plan};
use plan::{fetcher, part_of};

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

/// Moves what the plan names. Doing it again goes on where it ended.
pub async fn apply(mover: &mut Mover<'_>, plan: &Plan, mut tell: impl FnMut(Progress)) -> Result<Report> {
    mover.vault.world.progress.begin(Phase::Opening);
    check_keys(mover.vault, &mover.migrator)?;
    check_domains(mover.vault)?;
    let mut report = Report::default();
    let scope = mover.migrator.scope;
    let (mine, others): (Vec<&OldPoint>, Vec<&OldPoint>) = plan.points.iter().partition(|point| point.scope == scope);
    report.other_scopes = others.len();
    let mut originals = plan.succeeded.clone();
    let mut followers: Vec<(PointId, ManifestRef)> =
        plan.followers.iter().map(|follower| (follower.original, follower.named())).collect();
    let mut place = None;
    if !mine.is_empty() {
        place = Some(condemned::next_place(mover.vault, &mover.migrator, mover.catalog).await?);
    }
    let marks = match &place {
        Some(place) => Arc::clone(&place.marks),
        None => mover.vault.reread().await.marks,
    };
    mover.complete(plan, &mut report).await?;
    let mut done_before = mover.found_again(&marks).await?;
    mover.tell_before(&mut done_before, plan)?;
    if let Some(mut place) = place {
        let holdings = list_shards(mover.vault, &mover.vault.writer_ids()).await;
        let from = fetcher(mover.vault, &holdings);
        let packs = mine.iter().map(|point| point.old.len()).sum();
        mover.vault.world.progress.begin_of(Phase::Sealing, Total::of_items(packs));
        for (at, point) in mine.iter().enumerate() {
            let here = (place.next, place.seen_epoch());
            let (successor, next) = mover.move_point(&from, point, here, &mut done_before, &mut report).await?;
            let Next { epoch, sequence, .. } = here.0;
            let successor_ref = ManifestRef { writer: mover.migrator.writer, epoch, sequence, manifest: next.previous };
            followers.push((point.summary.part.point, successor_ref));
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
    mover.let_go(&originals, &followers, plan, &mut report).await?;
    mover.close().await?;
    Ok(report)
}

impl Mover<'_> {
    /// Moves one point: its chunks that were not moved yet, then its record.
    async fn move_point(
        &mut self,
        from: &Fetcher,
        point: &OldPoint,
        (place, gc_epoch_seen): (Next, u64),
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
        from.expect(&point.old);
        let mut needed: BTreeSet<ChunkId> = BTreeSet::new();
        let mut waiting: BTreeSet<ChunkId> = BTreeSet::new();
        for old in &point.old {
            let (header, body) = from.body(old.pack).await?;
            vault.world.progress.add_items(1);
            vault.world.progress.add_bytes(body.len() as u64);
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
        let row = PackRow {
            pack: done.stored.reference.pack,
            header: done.stored.reference.header,
            class: done.class,
            state: PackState::Stored,
        };
        self.catalog.add_pack(row, &done.index)?;
        moved.learn(row, done.index);
        Ok(())
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
        let part = part_of(record, point_id(hash), own.pack);
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
            pinned: false,
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
        moved.tell(self.host.as_deref_mut())?;
        if let (Some(host), Some(original)) = (&mut self.host, record.successor_of)
            && host.has_point(original)?
        {
            host.commit_point(&row, &[])?;
        }
        Ok(Next::after(manifest.position(), manifest.hash))
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
