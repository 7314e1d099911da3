//! What there is to re-encrypt: points with old packs, and what follows which.
//!
//! What always holds: a point counts as moved only if a migrator's successor of the
//! very same state stands; whatever else claims to follow it is named and moves
//! nothing into the trash. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use keys::files::ReadKey;
use vault_format::certificate::Role;
use vault_format::manifest::{PackRef, WriterPart};
use vault_format::point::PointRecord;
use vault_format::tombstone::ManifestRef;
use vault_format::vault::KemRole;
use vault_format::{Hash, PackId, PointId, RecipientId, ScopeId, WriterId};

use crate::catalog::PointRow;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Holdings, Trust, list_shards};
use crate::points::{self, PointSummary, point_text};
use crate::restore::find_record;
use crate::vault::Vault;

/// A point that stays readable with an old key as long as it is there.
#[derive(Clone, Debug)]
pub struct OldPoint {
    /// As its manifest shows it.
    pub summary: PointSummary,
    /// Its record.
    pub(super) record: PointRecord,
    /// Its packs that are sealed for an older generation.
    pub old: Vec<PackRef>,
    /// The others it needs.
    pub(super) kept: Vec<PackRef>,
    /// The scope its chunks are named in.
    pub scope: ScopeId,
    /// Whether a migrator made it, by a certificate that counts for its place.
    by_migrator: bool,
}

impl OldPoint {
    /// Whether it stands for the other: made by a migrator, and of the same state.
    /// Any writer can sign a point that names another's.
    fn succeeds(&self, original: &Self) -> bool {
        let (new, old) = (&self.record, &original.record);
        self.by_migrator
            && new.successor_of == Some(original.summary.part.point)
            && (new.source == old.source && new.finished_ms == old.finished_ms && new.root == old.root)
            && self.scope == original.scope
    }

    /// What a catalog keeps of it.
    fn row(&self) -> PointRow {
        let (epoch, sequence) = self.summary.position;
        PointRow {
            writer: self.summary.writer,
            epoch,
            sequence,
            pack: self.summary.pack,
            part: part_of(&self.record, self.summary.part.point, self.summary.pack),
            verified: true,
        }
    }
}

/// What a point's writer keeps of it.
pub(super) fn part_of(record: &PointRecord, point: PointId, own: PackId) -> WriterPart {
    WriterPart {
        point,
        source_kind: record.root.kind(),
        source: record.source.clone(),
        finished_ms: record.finished_ms,
        position: record.root.position(),
        root_hash: record.root.hash(),
        references: record.packs.iter().map(|pack| pack.pack).chain([own]).collect(),
        statistics: record.statistics.clone(),
        tags: record.tags.clone(),
    }
}

/// A successor that stands, and what it follows.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The point it follows.
    pub(super) original: PointId,
    /// Itself.
    pub(super) row: PointRow,
    /// Hash of its manifest.
    pub(super) manifest: Hash,
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
    /// Live successors of points that are live or in the trash.
    pub(super) followers: Vec<Follower>,
    /// Writers of live points with old packs that a successor stands for or will: until
    /// their hosts know of the new packs, their next points lean on the old ones again.
    pub leaning: BTreeSet<WriterId>,
    /// Points in the trash with old packs: they go when their grace is over.
    pub in_trash: usize,
    /// Points that are pinned: their successors will be.
    pub pinned: BTreeSet<PointId>,
    /// What could not be looked at, and why.
    pub remarks: Vec<String>,
}

impl Follower {
    /// Its manifest, as a tombstone names it.
    pub(super) fn named(&self) -> ManifestRef {
        let PointRow { writer, epoch, sequence, .. } = self.row;
        ManifestRef { writer, epoch, sequence, manifest: self.manifest }
    }
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
pub(super) fn newest_reader(vault: &Vault) -> Result<RecipientId> {
    let readers = keys::rotation::recipients(&vault.record, KemRole::Reader);
    let readers = readers.map_err(|error| OpsError::corrupt("the vault record", error.to_string()))?;
    readers
        .last()
        .map(keys::RecipientPublic::id)
        .ok_or_else(|| OpsError::corrupt("the vault record", "it names no reader"))
}

pub(super) fn fetcher(vault: &Vault, holdings: &Holdings) -> Fetcher {
    Fetcher::new(vault.world.clone(), holdings.clone(), Trust::Signed(vault.writers.clone()))
}

/// Looks for points with old packs. Writes nothing.
pub async fn plan(vault: &Vault, keys: &ReadKey) -> Result<Plan> {
    let newest = newest_reader(vault)?;
    let list = points::list(vault, keys).await?;
    let holdings = list_shards(vault, &vault.writer_ids()).await;
    let fetcher = fetcher(vault, &holdings);
    let mut seen = Seen { vault, fetcher, newest, packs: BTreeMap::new() };
    let mut plan = Plan { remarks: list.remarks, pinned: list.pinned, ..Plan::default() };
    let mut live = Vec::new();
    for summary in list.points {
        match seen.point(keys, &summary).await {
            Ok(point) => live.push(point),
            Err(error) => plan.remarks.push(format!("{}: {error}", point_text(summary.part.point))),
        }
    }
    let mut trash = Vec::new();
    for summary in &list.trash {
        trash.extend(seen.point(keys, summary).await);
    }
    plan.in_trash = trash.iter().filter(|point| !point.old.is_empty()).count();
    plan.sort(live, &trash);
    plan.leaning.retain(|writer| vault.writer(*writer).is_none_or(|key| key.role() != Role::Migrator));
    plan.packs = plan.points.iter().flat_map(|point| &point.old).map(|pack| pack.pack).collect();
    plan.body_bytes = plan.packs.iter().filter_map(|pack| seen.packs.get(pack)).map(|pack| pack.body_bytes).sum();
    Ok(plan)
}

impl Plan {
    /// Sorts live points, oldest first, into those to be moved and those that were.
    fn sort(&mut self, live: Vec<OldPoint>, trash: &[OldPoint]) {
        let all = trash.iter().chain(&live);
        let by_id: BTreeMap<PointId, &OldPoint> = all.map(|point| (point.summary.part.point, point)).collect();
        let mut moved = BTreeSet::new();
        for point in &live {
            let Some(original) = point.record.successor_of else { continue };
            match by_id.get(&original) {
                Some(old) if point.succeeds(old) => {
                    moved.insert(original);
                    self.followers.push(Follower { original, row: point.row(), manifest: point.summary.manifest });
                }
                Some(_) => self.remarks.push(format!(
                    "{} of writer {} says that it follows {}, and no migrator made it of the same state: it does not \
                     stand for it. If nobody meant that, the writer's key is in wrong hands: holdfast keys revoke",
                    point_text(point.summary.part.point),
                    point.record.writer.short(),
                    point_text(original)
                )),
                None => {}
            }
        }
        let old: Vec<OldPoint> = live.into_iter().filter(|point| !point.old.is_empty()).collect();
        self.leaning = old.iter().map(|point| point.record.writer).collect();
        let (done, open) = old.into_iter().partition(|point| moved.contains(&point.summary.part.point));
        self.points = open;
        self.succeeded = Vec::from_iter::<Vec<OldPoint>>(done).into_iter().map(|point| point.summary).collect();
    }
}

/// What is known of packs by their headers.
struct Seen<'a> {
    vault: &'a Vault,
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

impl Seen<'_> {
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
        let at = keys::revocation::Position { epoch: found.record.epoch, sequence: found.record.sequence };
        let by_migrator = found.writer.role() == Role::Migrator
            && self.vault.revocations.permits(&found.writer.certificate_hash(), at);
        Ok(OldPoint { summary: summary.clone(), record: found.record, old, kept, scope, by_migrator })
    }
}
