//! A backup: `Source -> Chunk -> Frame -> Pack -> Sealed -> [Shard; n] ->
//! Receipt -> Manifest`.
//!
//! What always holds: the manifest is written only when every pack the point
//! needs, new or reused, is durable(d); the point is reported durable only when the
//! manifest stands on a quorum, else it waits in the spool and is reported so; a pack
//! stored by a run that died is found again and used. See DESIGN of the commit in docs and FORMAT.md, "Manifest".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::files::WriterKey;
use tokio::sync::mpsc;
pub use vault_codec::Compression;
use vault_codec::{Buffers, Chunk, ChunkSizes, FrameEncoder, PACK_REF_BYTES, Pack, Packer, Tail};
use vault_format::body::ChunkKind;
use vault_format::manifest::{ManifestKind, PackRef, WriterPart};
use vault_format::point::{PointRecord, PointRoot, Statistics};
use vault_format::{Blob, Hash, PackId, PointId, WriterId, labels};

use crate::attendance;
use crate::budget::WriteRoom;
use crate::catalog::{Catalog, Lookup, PackRow, PackState, PointRow};
use crate::commit::{self, Commit};
use crate::condemned::{self, Halt, Watch};
use crate::create::writer_certificate;
use crate::error::{OpsError, Result};
use crate::fetch::{Holdings, list_shards};
use crate::file_rows::FileRows;
use crate::heads::{self, Depth, SignedManifest};
use crate::heal;
use crate::intake::{Gate, Intake, IntakeSetup, IntakeTotals};
use crate::packing::{Detour, Sealing, Stored, store_pack};
use crate::place::Debt;
use crate::placement::{Copy, Patterns, home, survives};
use crate::progress::Phase;
use crate::rebuild::{self, Next};
use crate::source::{Reading, Source};
use crate::spool::{self, Contents};
use crate::step::Step;
use crate::vault::Vault;
use crate::watch::{self, Close};

mod placing;
mod publish;
mod report;
mod start;

use publish::End;
pub use report::{BackupReport, Spooled, Standing};
use start::next_place;
pub(crate) use start::{absent_names, check_domains, check_keys, total_like_before};

/// How to run a backup.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Name of this host.
    pub host: String,
    /// Tags for the point.
    pub tags: Vec<String>,
    /// Whether no rule shall let the point go until it is unpinned.
    pub pinned: bool,
    /// How hard to compress.
    pub compression: Compression,
}

/// Runs one backup. The source comes back with the report. What was condemned while
/// it ran is read again from the source.
pub async fn run(
    vault: &Vault,
    keys: Arc<WriterKey>,
    catalog: &mut Catalog,
    mut source: Box<dyn Source>,
    options: &BackupOptions,
) -> (Result<BackupReport>, Box<dyn Source>) {
    let (mut barred, mut vault) = (BTreeSet::new(), vault.clone());
    let mut report = Err(condemned::given_up());
    for _ in 0..condemned::ATTEMPTS_MAX {
        let halt;
        (halt, source) = attempt(&vault, Arc::clone(&keys), catalog, source, options, &barred).await;
        match halt {
            Ok(done) => report = Ok(done),
            Err(Halt::Error(error)) => report = Err(error),
            Err(Halt::Hit(hit)) => {
                barred.extend(hit.packs());
                // What closed its epoch must be known before it follows its chain again.
                vault = vault.reread().await;
                continue;
            }
        }
        break;
    }
    match report {
        Ok((mut report, root)) => {
            if report.standing() == Standing::Spooled {
                return (Ok(report), source);
            }
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

type Finished = std::result::Result<(BackupReport, PointRoot), Halt>;

async fn attempt(
    vault: &Vault,
    keys: Arc<WriterKey>,
    catalog: &mut Catalog,
    source: Box<dyn Source>,
    options: &BackupOptions,
    barred: &BTreeSet<PackId>,
) -> (Finished, Box<dyn Source>) {
    vault.world.progress.begin(Phase::Opening);
    let started = match Run::start(vault, keys, catalog, options, barred).await {
        Ok(run) => run,
        Err(error) => return (Err(error.into()), source),
    };
    let sealing = Arc::clone(&started.sealing);
    let name = source.name().to_owned();
    let (outcome, source) = started.read_and_place(source).await;
    let mut finished = match outcome {
        Ok((run, reading, packer, encoder, totals)) => run.finish(&name, reading, packer, encoder, totals).await,
        Err(error) => Err(error.into()),
    };
    if let (Err(Halt::Error(OpsError::Full { .. })), Some(detour)) = (&finished, &sealing.detour)
        && let Err(error) = take_back(detour, catalog).await
    {
        finished = Err(error.into());
    }
    (finished, source)
}

/// A point that does not fit leaves no half of it behind.
async fn take_back(detour: &Detour, catalog: &mut Catalog) -> Result<()> {
    detour.take_back().await?;
    detour.packs().into_iter().try_for_each(|pack| catalog.drop_pack(pack))
}

struct Run<'a> {
    vault: &'a Vault,
    catalog: &'a mut Catalog,
    options: &'a BackupOptions,
    room: WriteRoom,
    sealing: Arc<Sealing>,
    watch: Watch,
    place: Next,
    head_confirmed: bool,
    holdings: Holdings,
    /// What waits in the spool.
    waiting: Contents,
    delivered: Vec<PointId>,
    healed: usize,
    notes: Vec<String>,
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
        barred: &BTreeSet<PackId>,
    ) -> Result<Self> {
        check_keys(vault, &keys)?;
        let mut notes = Vec::new();
        if let Err(error) = spool::keep_records(vault).await {
            notes.push(format!("without locations this vault cannot be opened, its records were not kept: {error}"));
        }
        let delivery = spool::deliver(vault, &keys, catalog).await?;
        notes.extend(delivery.stuck.iter().map(|stuck| {
            format!(
                "{} stays in the spool: {}. Set it aside with: holdfast vault deliver --set-aside",
                stuck.name(),
                stuck.why.trim_end_matches('.')
            )
        }));
        let healed = match heal::heal(vault, catalog).await {
            Ok(done) => done.map_or(0, |done| done.shards.len() + done.records),
            Err(error) => {
                notes.push(format!("what earlier runs owe was not brought home: {error}"));
                0
            }
        };
        let own = vault.reread().await.heeding();
        let chain = heads::chain(&own, keys.writer, Depth::Head).await?;
        let (place, too_few) = next_place(&own, &keys, catalog, &chain).await?;
        let may_open = too_few.is_none() && spool::last_waiting(vault, &keys).await?.is_none();
        let (watch, place) = condemned::begin(&own, &keys, catalog, &chain, place, (barred, may_open)).await?;
        let chains = BTreeMap::from([(keys.writer, chain)]);
        let odd = watch::look(vault, catalog, &chains, Close::Listings).await?;
        notes.extend(odd.into_iter().map(|finding| finding.what));
        vault.world.reached(Step::BackupChainFollowed);
        let mut holdings = list_shards(vault, &scope_writers(vault, &keys)).await;
        let away = rebuild::remember_shown(vault, catalog, &holdings)?;
        holdings.discount(&catalog.failures()?);
        let head = chains[&keys.writer].head().map(SignedManifest::position);
        rebuild::find_unnoted(vault, &keys, catalog, &mut holdings, head).await?;
        let waiting = match &vault.spool {
            Some(spool) => spool.contents().await?,
            None => Contents::default(),
        };
        let room = WriteRoom::of(vault.world.memory, vault.coding, vault.class_max(), vault.world.compute.threads());
        let sealing = Sealing {
            vault: vault.id,
            epoch: place.epoch,
            sequence: place.sequence,
            certificate: writer_certificate(&keys),
            buffers: Buffers::new(room.in_flight + 2),
            detour: vault.spool.clone().map(|spool| Detour::new(spool, too_few)),
            keys,
        };
        Ok(Self {
            started_ms: vault.world.now_ms(),
            vault,
            catalog,
            options,
            room,
            sealing: Arc::new(sealing),
            watch,
            place,
            head_confirmed: chains.values().all(|chain| chain.confirmed),
            holdings,
            waiting,
            delivered: delivery.delivered,
            healed,
            notes,
            away,
            stored: BTreeMap::new(),
        })
    }

    /// Runs the source on its thread and places what it yields.
    async fn read_and_place(mut self, mut source: Box<dyn Source>) -> (ReadOutcome<'a>, Box<dyn Source>) {
        let gate = Gate::new(self.vault.world.compute, self.room.in_flight + self.room.waiting);
        let _closes = gate.close_on_drop();
        self.vault.world.progress.begin_of(Phase::Reading, total_like_before(self.catalog, source.name()));
        let (out, packs) = mpsc::unbounded_channel();
        let intake = match self.intake(gate.clone(), out) {
            Ok(intake) => intake,
            Err(error) => return (Err(error), source),
        };
        let reading = self.vault.world.compute.run(move || {
            let mut intake = intake;
            let read = source.read(&mut intake);
            let read = read.and_then(|reading| Ok((reading, intake.finish()?)));
            (source, read)
        });
        let ((source, read), placed) = futures::future::join(reading, self.place_all(packs, &gate)).await;
        // The cause of a stop is what placing says, not the source's echo of it.
        let outcome = match (placed, read) {
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok((reading, (packer, encoder, totals)))) => Ok((self, reading, packer, encoder, totals)),
        };
        (outcome, source)
    }

    fn intake(&self, gate: Gate, out: mpsc::UnboundedSender<Pack>) -> Result<Intake> {
        let sizes = ChunkSizes::of(&self.vault.record)
            .map_err(|error| OpsError::corrupt("the vault record", error.to_string()))?;
        let setup = IntakeSetup {
            keys: Arc::clone(&self.sealing.keys),
            world: self.vault.world.clone(),
            lookup: Lookup::of(self.catalog)?,
            files: FileRows::of(self.catalog, self.sealing.keys.dedup.id_key.path_key())?,
            usable: self.usable()?,
            sizes,
            coding: self.vault.coding,
            class_max: self.room.class,
            compression: self.options.compression,
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
        rows.extend(self.catalog.packs(PackState::Spooled)?);
        Ok(rows.into_iter().map(|row| row.pack).filter(|&pack| self.is_usable(pack)).collect())
    }

    fn is_usable(&self, pack: PackId) -> bool {
        if !self.watch.allows(pack) {
            return false;
        }
        if self.waiting.has_pack(pack, self.vault.coding) {
            return true;
        }
        let shown: BTreeSet<u8> = self.holdings.copies(pack).iter().map(|copy| copy.index).collect();
        // With too few locations there is nothing but belief; delivery looks again.
        (shown.len() >= usize::from(self.vault.coding.data_shards()) || self.why_spooled().is_some())
            && survives(&self.believed(pack), self.vault.coding, self.vault.survive())
    }

    fn why_spooled(&self) -> Option<String> {
        self.sealing.detour.as_ref().and_then(Detour::why)
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
                wrong: false,
            })
        });
        // What is in the spool owes everything, and says it once.
        let stored = self.stored.values().filter(|stored| !stored.spooled);
        stored.flat_map(|stored| stored.debts.clone()).chain(reused).collect()
    }

    /// Cuts the tail, writes the point record into the last pack, commits.
    async fn finish(
        mut self,
        source: &str,
        reading: Reading,
        packer: Packer,
        mut encoder: FrameEncoder,
        totals: IntakeTotals,
    ) -> Finished {
        self.vault.world.progress.enter(Phase::Committing);
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
            epoch: self.place.epoch,
            sequence: self.place.sequence,
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
        mut self,
        reading: Reading,
        record: PointRecord,
        record_hash: Hash,
        point_pack: PackRef,
        totals: &IntakeTotals,
    ) -> Finished {
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
        let (packs, pending) = self.first_committed(&part)?;
        let gc_epoch_seen = self.watch.check(self.vault, &part.references).await.map_err(Halt::Hit)?;
        let commit = Commit {
            vault: self.vault,
            kind: ManifestKind::Point,
            keys: &self.sealing.keys,
            place: self.place,
            record: &record,
            record_hash,
            point_pack: point_pack.pack,
            part: &part,
            packs: &packs,
            pending,
            gc_epoch_seen,
            pinned: self.options.pinned,
        };
        let manifest = commit::sign(self.vault, &self.sealing.keys, &commit::manifest(&commit)?)?;
        let row = PointRow {
            writer: self.sealing.keys.writer,
            epoch: self.place.epoch,
            sequence: self.place.sequence,
            pack: point_pack.pack,
            part,
            verified: true,
        };
        let end = self.publish(&row, &manifest).await?;
        let mut report = self.report(reading, &record, &row, totals, end);
        report.resting = attendance::resting(self.vault, self.catalog)?;
        let named = |name: &String| self.vault.location_named(name);
        let owed = report.manifest_owed.iter().filter_map(|(name, _)| named(name));
        heal::owe(self.catalog, report.debts.iter().map(|debt| debt.location).chain(owed))?;
        Ok((report, record.root))
    }

    /// New packs, and packs an interrupted run left stored or spooled and this point
    /// uses; then those that go on waiting.
    fn first_committed(&self, part: &WriterPart) -> Result<(Vec<PackRef>, Vec<PackId>)> {
        let mut rows = self.catalog.packs(PackState::Stored)?;
        rows.extend(self.catalog.packs(PackState::Spooled)?);
        rows.sort_by_key(|row| row.pack);
        let wanted: BTreeSet<&PackId> = part.references.iter().collect();
        let (used, waiting): (Vec<PackRow>, Vec<PackRow>) =
            rows.into_iter().partition(|row| wanted.contains(&row.pack));
        let used = used.into_iter().map(|row| PackRef { pack: row.pack, header: row.header });
        Ok((used.collect(), waiting.into_iter().map(|row| row.pack).collect()))
    }

    fn report(
        &self,
        reading: Reading,
        record: &PointRecord,
        row: &PointRow,
        totals: &IntakeTotals,
        end: End,
    ) -> BackupReport {
        let spots = self.vault.spots();
        let mut patterns = Patterns::default();
        row.part.references.iter().for_each(|&pack| patterns.add(&self.shown(pack)));
        let tolerance = patterns.tolerance(&spots, self.vault.coding);
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
            tolerance: tolerance.unwrap_or_default(),
            debts: self.debts(totals).into_iter().chain(end.debts).collect(),
            manifest_owed: end.owed,
            head_confirmed: self.head_confirmed,
            spooled: end.spooled,
            resting: BTreeMap::new(),
            healed: self.healed,
            delivered: self.delivered.clone(),
            notes: self.notes.clone(),
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

/// This writer and those it shares a dedup scope with: after an adoption the catalog
/// leads to packs of the writer before.
fn scope_writers(vault: &Vault, keys: &WriterKey) -> BTreeSet<WriterId> {
    let sharing = vault.writers.values().filter(|key| key.scope() == Some(keys.scope));
    sharing.map(|key| key.subject()).chain([keys.writer]).collect()
}
