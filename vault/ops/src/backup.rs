//! A backup: `Source -> Chunk -> Frame -> Pack -> Sealed -> [Shard; n] ->
//! Receipt -> Manifest`.
//!
//! What always holds: the manifest is written only when every pack the point
//! needs, new or reused, is durable(d); the point is reported only when the
//! manifest stands on a quorum; a pack stored by a run that died is found again
//! and used. See DESIGN of the commit in docs and FORMAT.md, "Manifest".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keys::files::WriterKey;
use tokio::sync::mpsc;
pub use vault_codec::Compression;
use vault_codec::{Buffers, Chunk, ChunkSizes, FrameEncoder, PACK_REF_BYTES, Pack, Packer, Tail};
use vault_format::body::ChunkKind;
use vault_format::manifest::{PackRef, WriterPart};
use vault_format::point::{PointRecord, Statistics};
use vault_format::vault::KemRole;
use vault_format::{Blob, Hash, PackId, PointId, labels};

use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::commit::{self, Commit};
use crate::create::writer_certificate;
use crate::error::{OpsError, Result};
use crate::fetch::{Holdings, list_shards};
use crate::heads::{self, Depth};
use crate::intake::{Gate, Intake, IntakeSetup, IntakeTotals};
use crate::packing::{Sealing, Stored, StoredPack, store_pack};
use crate::place::Debt;
use crate::placement::{Copy, Tolerance, home, survives, tolerance};
use crate::rebuild;
use crate::source::{Reading, Source, Unreadable};
use crate::step::Step;
use crate::vault::Vault;

/// Packs being sealed, coded and placed at once.
const PACKS_IN_FLIGHT: usize = 2;

/// How to run a backup.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Name of this host.
    pub host: String,
    /// Tags for the point.
    pub tags: Vec<String>,
    /// How hard to compress.
    pub compression: Compression,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The point.
    pub point: PointId,
    /// Tree root or state hash.
    pub root_hash: Hash,
    /// Kernel sequence or the like.
    pub position: u64,
    /// Place in the writer's chain.
    pub manifest: (u64, u64),
    /// Counts and bytes.
    pub statistics: Statistics,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Packs written by this run.
    pub packs_new: usize,
    /// Bytes of their shards at home, before any surplus copy.
    pub stored_bytes: u64,
    /// Packs of earlier runs the point needs.
    pub packs_reused: usize,
    /// What the point survives by the copies read back.
    pub tolerance: Tolerance,
    /// Shards and manifests not at home. Empty means `full`.
    pub debts: Vec<Debt>,
    /// Locations without the manifest, and why.
    pub manifest_owed: Vec<(String, String)>,
    /// Whether enough domains answered to be sure of the chain's head.
    pub head_confirmed: bool,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl BackupReport {
    /// Everything is where it belongs.
    pub fn is_full(&self) -> bool {
        self.debts.is_empty() && self.manifest_owed.is_empty()
    }
}

/// Runs one backup. The source comes back with the report.
pub async fn run(
    vault: &Vault,
    keys: Arc<WriterKey>,
    catalog: &mut Catalog,
    mut source: Box<dyn Source>,
    options: &BackupOptions,
) -> (Result<BackupReport>, Box<dyn Source>) {
    let started = match Run::start(vault, keys, catalog, options).await {
        Ok(run) => run,
        Err(error) => return (Err(error), source),
    };
    let name = source.name().to_owned();
    let (outcome, back) = started.read_and_place(source).await;
    source = back;
    let report = match outcome {
        Ok((run, reading, packer, encoder, totals)) => run.finish(&name, reading, packer, encoder, totals).await,
        Err(error) => Err(error),
    };
    match report {
        Ok((mut report, root)) => {
            let told = vault.world.compute.run(move || {
                let told = source.committed(&root);
                (source, told)
            });
            let (source, told) = told.await;
            vault.world.reached(Step::BackupSourceTold);
            // The point is durable whatever its source says to that.
            if let Err(error) = told {
                report.notes.push(format!("the source was not told that its point is durable: {error}"));
            }
            (Ok(report), source)
        }
        Err(error) => (Err(error), source),
    }
}

struct Run<'a> {
    vault: &'a Vault,
    catalog: &'a mut Catalog,
    options: &'a BackupOptions,
    sealing: Arc<Sealing>,
    previous: Hash,
    head_confirmed: bool,
    holdings: Holdings,
    /// What locations that do not answer now showed when they last did.
    away: BTreeMap<PackId, Vec<Copy>>,
    started_ms: i64,
    stored: BTreeMap<PackId, Stored>,
}

type ReadOutcome<'a> = Result<(Run<'a>, Reading, Packer, FrameEncoder, IntakeTotals)>;

impl<'a> Run<'a> {
    async fn start(
        vault: &'a Vault,
        keys: Arc<WriterKey>,
        catalog: &'a mut Catalog,
        options: &'a BackupOptions,
    ) -> Result<Self> {
        check_keys(vault, &keys)?;
        check_domains(vault)?;
        let chain = heads::chain(vault, keys.writer, Depth::Head).await?;
        let next = rebuild::follow_head(vault, &keys, catalog, &chain).await?;
        vault.world.reached(Step::BackupChainFollowed);
        let mut holdings = list_shards(vault, &BTreeSet::from([keys.writer])).await;
        let away = rebuild::remember_shown(vault, catalog, &holdings)?;
        holdings.discount(&catalog.failures()?);
        let sealing = Sealing {
            vault: vault.id,
            epoch: next.epoch,
            sequence: next.sequence,
            certificate: writer_certificate(&keys),
            buffers: Buffers::new(PACKS_IN_FLIGHT + 2),
            keys,
        };
        Ok(Self {
            started_ms: vault.world.now_ms(),
            vault,
            catalog,
            options,
            sealing: Arc::new(sealing),
            previous: next.previous,
            head_confirmed: chain.confirmed,
            holdings,
            away,
            stored: BTreeMap::new(),
        })
    }

    /// Runs the source on its thread and places what it yields.
    async fn read_and_place(mut self, mut source: Box<dyn Source>) -> (ReadOutcome<'a>, Box<dyn Source>) {
        let gate = Gate::new(self.vault.world.compute);
        let _closes = gate.close_on_drop();
        let (out, packs) = mpsc::unbounded_channel();
        let intake = match self.intake(gate.clone(), out) {
            Ok(intake) => intake,
            Err(error) => return (Err(error), source),
        };
        let reading = self.vault.world.compute.run(move || {
            let mut intake = intake;
            let reading = source.read(&mut intake);
            (source, reading, intake.into_parts())
        });
        let ((source, reading, (packer, encoder, totals)), placed) =
            futures::future::join(reading, self.place_all(packs, &gate)).await;
        // The cause of a stop is what placing says, not the source's echo of it.
        let outcome = match (placed, reading) {
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(reading)) => Ok((self, reading, packer, encoder, totals)),
        };
        (outcome, source)
    }

    fn intake(&self, gate: Gate, out: mpsc::UnboundedSender<Pack>) -> Result<Intake> {
        let sizes = ChunkSizes::of(&self.vault.record)
            .map_err(|error| OpsError::corrupt("the vault record", error.to_string()))?;
        let setup = IntakeSetup {
            keys: Arc::clone(&self.sealing.keys),
            clock: Arc::clone(&self.vault.world.clock),
            catalog: self.catalog.second()?,
            usable: self.usable()?,
            sizes,
            coding: self.vault.coding,
            class_max: self.vault.class_max(),
            compression: self.options.compression,
            rng: self.vault.world.rng(),
        };
        Intake::new(setup, gate, out)
    }

    /// Packs a new point may lean on: known here, durable(d) by today's listing, and
    /// readable from the locations that answer. A location that is away is believed
    /// to keep the shards it showed here when it last answered, but while the source is here nothing needs to rest on
    /// belief alone.
    fn usable(&self) -> Result<BTreeSet<PackId>> {
        let mut rows = self.catalog.packs(PackState::Committed)?;
        rows.extend(self.catalog.packs(PackState::Stored)?);
        Ok(rows.into_iter().map(|row| row.pack).filter(|&pack| self.is_usable(pack)).collect())
    }

    fn is_usable(&self, pack: PackId) -> bool {
        let shown: BTreeSet<u8> = self.holdings.copies(pack).iter().map(|copy| copy.index).collect();
        shown.len() >= usize::from(self.vault.coding.data_shards())
            && survives(&self.believed(pack), self.vault.coding, self.vault.survive())
    }

    fn believed(&self, pack: PackId) -> Vec<Copy> {
        match self.stored.get(&pack) {
            Some(stored) => stored.copies.clone(),
            None => {
                let away = self.away.get(&pack).cloned().unwrap_or_default();
                self.holdings.copies(pack).into_iter().chain(away).collect()
            }
        }
    }

    /// Copies that were read back, or that a location shows today.
    fn shown(&self, pack: PackId) -> Vec<Copy> {
        self.stored.get(&pack).map_or_else(|| self.holdings.copies(pack), |stored| stored.copies.clone())
    }

    /// What is owed: by this run, and of the packs it reuses.
    fn debts(&self, totals: &IntakeTotals) -> Vec<Debt> {
        let reused = totals.reused.iter().filter(|pack| !self.stored.contains_key(pack)).flat_map(|&pack| {
            let shown = self.shown(pack);
            let home = home(&self.vault.spots(), self.vault.coding, self.vault.survive(), pack);
            home.into_iter().filter(move |copy| !shown.contains(copy)).map(move |copy| Debt {
                pack,
                index: copy.index,
                location: copy.spot.location,
                why: "an earlier run's shard is not shown there".to_owned(),
                kept_by: None,
            })
        });
        self.stored.values().flat_map(|stored| stored.debts.clone()).chain(reused).collect()
    }

    async fn place_all(&mut self, mut packs: mpsc::UnboundedReceiver<Pack>, gate: &Gate) -> Result<()> {
        let mut work = FuturesUnordered::new();
        let mut open = true;
        loop {
            tokio::select! {
                pack = packs.recv(), if open && work.len() < PACKS_IN_FLIGHT => match pack {
                    Some(pack) => work.push(store_pack(self.vault, Arc::clone(&self.sealing), pack)),
                    None => open = false,
                },
                Some(outcome) = work.next() => {
                    let noted = match outcome {
                        Ok(done) => Self::note(self.vault, self.catalog, &mut self.stored, done),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = noted {
                        gate.close();
                        return Err(error);
                    }
                    gate.leave();
                }
                else => return Ok(()),
            }
        }
    }

    fn note(
        vault: &Vault,
        catalog: &mut Catalog,
        stored: &mut BTreeMap<PackId, Stored>,
        done: StoredPack,
    ) -> Result<()> {
        let row = PackRow {
            pack: done.stored.reference.pack,
            header: done.stored.reference.header,
            class: done.class,
            state: PackState::Stored,
        };
        catalog.add_pack(row, &done.index)?;
        let copies: Vec<_> = done.stored.copies.iter().map(|copy| (copy.spot.location, copy.index)).collect();
        catalog.add_shown(row.pack, &copies)?;
        stored.insert(row.pack, done.stored);
        vault.world.reached(Step::BackupPackNoted);
        Ok(())
    }

    /// Cuts the tail, writes the point record into the last pack, commits.
    async fn finish(
        mut self,
        source: &str,
        reading: Reading,
        packer: Packer,
        mut encoder: FrameEncoder,
        totals: IntakeTotals,
    ) -> Result<(BackupReport, vault_format::point::PointRoot)> {
        let mut record = self.record(source, &reading, &totals)?;
        let bound = vault_format::encode(&record).len() + TAIL_PACKS_MAX * PACK_REF_BYTES + 64;
        let Tail { packs, last } = packer.finish_for_point(bound);
        for pack in packs {
            let done = store_pack(self.vault, Arc::clone(&self.sealing), pack).await?;
            Self::note(self.vault, self.catalog, &mut self.stored, done)?;
        }
        record.packs = self.references(&totals)?;
        record.statistics.packed_bytes = self.stored.values().map(|stored| stored.body_bytes).sum();
        let record_bytes = vault_format::encode(&record);
        let record_hash = keys::hash::labelled(labels::POINT_RECORD, &record_bytes);
        let chunk = Chunk::new(&self.sealing.keys.dedup.id_key, ChunkKind::PointRecord, &record_bytes);
        let frame = encoder.encode(&chunk).map_err(refused)?;
        let done = store_pack(self.vault, Arc::clone(&self.sealing), last.close(frame).map_err(refused)?).await?;
        let point_pack = done.stored.reference.clone();
        Self::note(self.vault, self.catalog, &mut self.stored, done)?;
        self.vault.world.reached(Step::BackupPointStored);
        self.commit(reading, record, record_hash, point_pack, &totals).await
    }

    fn record(&self, source: &str, reading: &Reading, totals: &IntakeTotals) -> Result<PointRecord> {
        let previous = self
            .catalog
            .points()?
            .into_iter()
            .rfind(|point| point.part.source == source && point.writer == self.sealing.keys.writer);
        Ok(PointRecord {
            vault: self.vault.id,
            writer: self.sealing.keys.writer,
            epoch: self.sealing.epoch,
            sequence: self.sealing.sequence,
            source: source.to_owned(),
            host: self.options.host.clone(),
            started_ms: self.started_ms,
            finished_ms: self.vault.world.now_ms(),
            root: reading.root.clone(),
            packs: self.references(totals)?,
            packs_more: None,
            previous: previous.map(|point| point.part.point),
            certificates: self.sealing.keys.certificates.clone(),
            vault_record: Blob(self.vault.record_bytes.clone()),
            key_history: self.vault.record.key_history.clone(),
            tags: self.options.tags.clone(),
            statistics: Statistics {
                items: reading.items,
                changed: reading.changed,
                unreadable: reading.unreadable.len() as u64,
                plain_bytes: totals.plain_bytes,
                new_bytes: totals.new_bytes,
                packed_bytes: 0,
            },
            successor_of: None,
        })
    }

    /// All packs the point needs so far: new ones, and reused ones by the catalog.
    fn references(&self, totals: &IntakeTotals) -> Result<Vec<PackRef>> {
        let mut all: BTreeMap<PackId, Hash> =
            self.stored.values().map(|stored| (stored.reference.pack, stored.reference.header)).collect();
        for &pack in &totals.reused {
            let row = self.catalog.pack(pack)?.ok_or_else(|| {
                OpsError::corrupt("the local catalog", "a chunk leads to a pack it does not know; delete the catalog")
            })?;
            all.insert(pack, row.header);
        }
        Ok(all.into_iter().map(|(pack, header)| PackRef { pack, header }).collect())
    }

    async fn commit(
        self,
        reading: Reading,
        record: PointRecord,
        record_hash: Hash,
        point_pack: PackRef,
        totals: &IntakeTotals,
    ) -> Result<(BackupReport, vault_format::point::PointRoot)> {
        let part = WriterPart {
            point: point_id(record_hash),
            source_kind: record.root.kind(),
            source: record.source.clone(),
            finished_ms: record.finished_ms,
            position: record.root.position(),
            root_hash: record.root.hash(),
            references: record.packs.iter().map(|pack| pack.pack).chain([point_pack.pack]).collect(),
            statistics: record.statistics.clone(),
            tags: record.tags.clone(),
        };
        let packs = self.first_committed(&part)?;
        let commit = Commit {
            vault: self.vault,
            keys: &self.sealing.keys,
            epoch: self.sealing.epoch,
            sequence: self.sealing.sequence,
            previous: self.previous,
            record: &record,
            record_hash,
            point_pack: point_pack.pack,
            part: &part,
            packs: &packs,
        };
        let manifest = commit::write(&commit).await?;
        self.vault.world.reached(Step::BackupBeforeRemember);
        let row = PointRow {
            writer: self.sealing.keys.writer,
            epoch: self.sealing.epoch,
            sequence: self.sealing.sequence,
            pack: point_pack.pack,
            part,
            verified: true,
        };
        let committed: Vec<PackId> = packs.iter().map(|pack| pack.pack).collect();
        self.catalog.commit_point(&row, &committed)?;
        self.vault.world.reached(Step::BackupPointRemembered);
        rebuild::remember_head(self.catalog, self.sealing.epoch, self.sealing.sequence, manifest.hash)?;
        self.vault.world.reached(Step::BackupHeadRemembered);
        let report = self.report(reading, &record, &row, totals, manifest);
        Ok((report, record.root))
    }

    /// New packs, and packs an interrupted run left stored and this point uses.
    fn first_committed(&self, part: &WriterPart) -> Result<Vec<PackRef>> {
        let stored = self.catalog.packs(PackState::Stored)?;
        let wanted: BTreeSet<&PackId> = part.references.iter().collect();
        Ok(stored
            .into_iter()
            .filter(|row| wanted.contains(&row.pack))
            .map(|row| PackRef { pack: row.pack, header: row.header })
            .collect())
    }

    fn report(
        &self,
        reading: Reading,
        record: &PointRecord,
        row: &PointRow,
        totals: &IntakeTotals,
        manifest: commit::Written,
    ) -> BackupReport {
        let spots = self.vault.spots();
        let weakest = row
            .part
            .references
            .iter()
            .map(|&pack| tolerance(&spots, &self.shown(pack), self.vault.coding))
            .min_by_key(|tolerance| (tolerance.any_domains, tolerance.larger_survived));
        BackupReport {
            point: row.part.point,
            root_hash: row.part.root_hash,
            position: row.part.position,
            manifest: (row.epoch, row.sequence),
            statistics: record.statistics.clone(),
            unreadable: reading.unreadable,
            packs_new: self.stored.len(),
            stored_bytes: self.stored.values().map(|stored| stored.body_bytes).sum::<u64>()
                * u64::from(self.vault.coding.total_shards())
                / u64::from(self.vault.coding.data_shards()),
            packs_reused: totals.reused.len(),
            tolerance: weakest.unwrap_or(Tolerance { any_domains: 0, larger_survived: 0, larger_total: 0 }),
            debts: self.debts(totals),
            manifest_owed: manifest.owed,
            head_confirmed: self.head_confirmed,
            notes: Vec::new(),
        }
    }
}

/// More packs than any tail is cut into.
const TAIL_PACKS_MAX: usize = 64;

fn refused(error: vault_codec::CodecError) -> OpsError {
    OpsError::Refused { what: error.to_string() }
}

/// The id of a point, from the hash of its record.
pub fn point_id(record_hash: Hash) -> PointId {
    let mut id = PointId::default();
    id.0.copy_from_slice(&record_hash.0[..16]);
    id
}

/// The writer's key must be of this vault and certified in it, and must seal to
/// its newest reader: what it writes would otherwise be readable by nobody.
fn check_keys(vault: &Vault, keys: &WriterKey) -> Result<()> {
    let certificate = writer_certificate(keys);
    let newest = vault.record.recipients.iter().rfind(|key| key.role == KemRole::Reader);
    let seals_to = keys.reader.last().map(|key| key.as_bytes().to_vec());
    let why = if keys.vault != vault.id {
        "it belongs to another vault"
    } else if !vault.writers.contains_key(&certificate) {
        "no location shows its certificate under this vault's root"
    } else if vault.revocations.is_revoked(&certificate) {
        "its certificate was revoked"
    } else if newest.map(|key| key.public.0.clone()) != seals_to {
        "it seals to another reader key than the vault's newest"
    } else {
        return Ok(());
    };
    Err(OpsError::Key {
        what: format!(
            "the writer key file does not fit this vault: {why}. Nothing was written; use this vault's writer key"
        ),
    })
}

/// Enough domains must answer for a manifest's quorum, or nothing can commit.
fn check_domains(vault: &Vault) -> Result<()> {
    let answering: BTreeSet<u16> = vault.writable().map(|location| location.domain).collect();
    let need = commit::domains_needed(vault);
    if answering.len() >= need {
        return Ok(());
    }
    Err(OpsError::Unreachable {
        what: format!(
            "only {} of {} domains answer and a point needs {need} to be durable; nothing was written. Bring back {} \
             and run the same command again",
            answering.len(),
            vault.domains().len(),
            absent_names(vault)
        ),
    })
}

pub(crate) fn absent_names(vault: &Vault) -> String {
    let names: Vec<&str> = vault.absent.iter().map(|gone| gone.name.as_str()).collect();
    if names.is_empty() { "the missing locations".to_owned() } else { names.join(", ") }
}
