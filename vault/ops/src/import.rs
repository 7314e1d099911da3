//! Importing orphans: shards and records found in any folders, under any names,
//! brought home into a vault.
//!
//! What always holds: only what verifies under the vault's root is brought in;
//! the rest is quarantined by name with its reason and left where it is; every
//! object is accounted for; nothing that stands is overwritten; a point without a
//! manifest is marked "chain not verified" until one vouches for it again
//! (see `reissue.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::certificate::CertifiedKey;
use keys::files::ReadKey;
use vault_format::manifest::{Manifest, PackRef, WriterPart};
use vault_format::{Hash, PackId, PointId, VaultId, WriterId, names};

use crate::backup::point_id;
use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::create::write_record;
use crate::error::{OpsError, Result};
use crate::fetch::{Holding, list_shards};
use crate::heads::{self, Chain, Position};
use crate::location::Location;
use crate::orphans::{self, Account, FoundPack, GoodShard};
use crate::placement::home;
use crate::points::point_text;
use crate::progress::{Phase, Total};
use crate::records;
use crate::scan::{BarePoint, Quarantined, find_points, scan};
use crate::step::Step;
use crate::torn;
use crate::vault::Vault;

/// A point found in a pack.
pub struct OrphanPoint {
    /// The pack, and the record in it.
    pub bare: BarePoint,
    /// Whether a manifest names it: one found, or one the vault has.
    pub has_manifest: bool,
    /// Packs it needs of which too few shards are known.
    pub short: Vec<PackId>,
}

impl OrphanPoint {
    /// Its id.
    pub fn id(&self) -> PointId {
        point_id(self.bare.found.hash)
    }
}

/// What an import would do.
pub struct ImportPlan {
    /// Packs of this vault found.
    pub packs: Vec<FoundPack>,
    /// Shards to bring home.
    copies: Vec<GoodShard>,
    /// Records by name, and how many locations lack each.
    records: BTreeMap<String, (Vec<u8>, usize)>,
    /// Whose signatures count: writers the vault knows, and those found.
    writers: BTreeMap<Hash, Arc<CertifiedKey>>,
    /// Points found in packs (with a read key only), oldest first.
    pub points: Vec<OrphanPoint>,
    /// Highest place in its chain that anything found says of each writer.
    pub(crate) seen: BTreeMap<WriterId, Position>,
    /// Broken, unsigned or truncated objects.
    pub quarantined: Vec<Quarantined>,
    /// Verified records that are not brought home, and why.
    pub left: Vec<String>,
    /// Objects of other vaults, by vault: left alone.
    pub other_vaults: BTreeMap<VaultId, usize>,
    /// Every object, by class.
    pub account: Account,
}

impl ImportPlan {
    /// Shards to bring home.
    pub fn shards(&self) -> usize {
        self.copies.len()
    }

    /// Records that some location lacks.
    pub fn records(&self) -> usize {
        self.records.values().filter(|(_, lacking)| *lacking > 0).count()
    }

    /// Points no manifest vouches for, of which every pack can be rebuilt.
    pub fn unvouched(&self) -> impl Iterator<Item = &OrphanPoint> {
        self.points.iter().filter(|point| !point.has_manifest && point.short.is_empty())
    }
}

/// What an import did.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Shards written and checked.
    pub shards: usize,
    /// Records written, counted once per location.
    pub records: usize,
    /// Points added to the catalog.
    pub points: usize,
    /// What could not be done, and why.
    pub failed: Vec<String>,
}

/// Looks through the folders and plans. Reads every object of this vault whole.
pub async fn plan(vault: &Vault, keys: Option<&ReadKey>, folders: &[Arc<Location>]) -> Result<ImportPlan> {
    plan_with(vault, keys, folders, |_| {}).await
}

/// Likewise for a vault that is founded anew: what is left of a chain that is torn stays out.
/// Nobody will ever bring the rest, and a gap would stop garbage collection for good; the
/// points of it are vouched for instead.
pub async fn plan_anew(vault: &Vault, keys: &ReadKey, folders: &[Arc<Location>]) -> Result<ImportPlan> {
    plan_with(vault, Some(keys), folders, torn::leave).await
}

async fn plan_with(
    vault: &Vault,
    keys: Option<&ReadKey>,
    folders: &[Arc<Location>],
    leave: impl FnOnce(&mut orphans::Records),
) -> Result<ImportPlan> {
    if keys.is_some_and(|keys| keys.vault != vault.id) {
        return Err(OpsError::Key { what: "the read key belongs to another vault; nothing was imported".to_owned() });
    }
    let mut found = scan(&vault.world.progress, folders).await?;
    refuse_silent(&found.silent)?;
    let points = match keys {
        Some(keys) => find_points(&vault.world, &found, vault.id, keys).await.points,
        None => Vec::new(),
    };
    // From here on the vault knows the writers that were found, too.
    let (vault, of_points) = orphans::with_writers(vault, &found, &points);
    let (points, doubted): (Vec<_>, Vec<_>) =
        points.into_iter().partition(|point| vault.writers.contains_key(&point.found.writer.certificate_hash()));
    let home = list_shards(&vault, &vault.writer_ids()).await;
    let held = found.vaults.remove(&vault.id).unwrap_or_default();
    let mut quarantined = std::mem::take(&mut found.quarantined);
    let shards = orphans::weigh(&vault, &held, &home, &mut quarantined).await;
    let files = found.records.remove(&vault.id).unwrap_or_default();
    let mut sorted = orphans::verify_records(&vault, &files, &mut quarantined);
    leave(&mut sorted);
    let chains = whole_chains(&vault).await?;
    leave_rivals(&chains, &mut sorted);
    let doubted: Vec<String> = doubted.iter().map(not_believed).collect();
    let account = Account {
        looked_at: found.files,
        shards: shards.good.len(),
        records: sorted.good.len() + sorted.left.len(),
        duplicates: shards.duplicates + sorted.duplicates,
        other_vaults: found.vaults.values().flat_map(|held| held.packs.values()).map(Vec::len).sum::<usize>()
            + found.records.values().map(Vec::len).sum::<usize>(),
        quarantined: quarantined.len(),
        markers: found.markers,
        foreign: found.foreign,
    };
    let mut other_vaults: BTreeMap<VaultId, usize> = BTreeMap::new();
    for (id, held) in &found.vaults {
        *other_vaults.entry(*id).or_default() += held.packs.values().map(Vec::len).sum::<usize>();
    }
    for (id, files) in &found.records {
        *other_vaults.entry(*id).or_default() += files.len();
    }
    let mut seen = shards.seen;
    for point in &points {
        let record = &point.found.record;
        let place = seen.entry(record.writer).or_default();
        *place = (*place).max((record.epoch, record.sequence));
    }
    let named = points_with_manifests(&chains, &sorted.good);
    let points = points.into_iter().map(|bare| OrphanPoint {
        has_manifest: named.contains(&bare.pack),
        short: short(&vault, &shards.packs, &home, &bare),
        bare,
    });
    sorted.good.extend(of_points);
    Ok(ImportPlan {
        copies: shards
            .good
            .into_iter()
            .filter(|good| !home.indices_of(good.writer, good.pack).contains(&good.index))
            .collect(),
        points: points.collect(),
        packs: shards.packs,
        records: lacking(&vault, sorted.good).await,
        writers: vault.writers,
        seen,
        quarantined,
        left: sorted.left.into_iter().chain(doubted).collect(),
        other_vaults,
        account,
    })
}

fn not_believed(point: &BarePoint) -> String {
    format!(
        "point {} of {}: its writer was certified by an operator whose key was revoked, and no layout lists it",
        point_text(point_id(point.found.hash)),
        point.found.record.source
    )
}

/// A plan over half of the folders would look complete.
pub(crate) fn refuse_silent(silent: &[(String, String)]) -> Result<()> {
    if silent.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = silent.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Err(OpsError::Unreachable {
        what: format!(
            "not every folder could be listed ({}); nothing was imported. Leave it out, or mend it and run the same \
             command again",
            why.join("; ")
        ),
    })
}

async fn whole_chains(vault: &Vault) -> Result<BTreeMap<WriterId, Chain>> {
    let mut chains = BTreeMap::new();
    for writer in vault.writer_ids() {
        chains.insert(writer, heads::chain(vault, writer, heads::Depth::Whole).await?);
    }
    Ok(chains)
}

/// A manifest for a place that another one holds at home stays out: both cannot
/// stand under one name, and its point is in its pack.
fn leave_rivals(chains: &BTreeMap<WriterId, Chain>, sorted: &mut orphans::Records) {
    let rivals: Vec<String> = sorted
        .good
        .iter()
        .filter(|(name, bytes)| {
            let Some((writer, epoch, sequence)) = names::parse_manifest(name) else { return false };
            let Some(chain) = chains.get(&writer) else { return false };
            let taken = chain.manifests.get(&(epoch, sequence));
            taken.is_some_and(|there| there.bytes != **bytes)
                && !chain.rivals.iter().any(|rival| rival.bytes == **bytes)
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in rivals {
        sorted.good.remove(&name);
        sorted
            .left
            .push(format!("{name}: another manifest holds this place at home; its point is taken from its pack"));
    }
}

/// Packs with a point record that a manifest names: one found, or one the vault
/// has.
fn points_with_manifests(chains: &BTreeMap<WriterId, Chain>, found: &BTreeMap<String, Vec<u8>>) -> BTreeSet<PackId> {
    let of_home = chains.values().flat_map(Chain::all).filter_map(|manifest| manifest.body.point_pack);
    let of_found = found.iter().filter(|(name, _)| names::parse_manifest(name).is_some());
    of_home
        .chain(of_found.filter_map(|(_, bytes)| orphans::body::<Manifest>("manifest", bytes).ok()?.point_pack))
        .collect()
}

/// Packs of a point of which fewer than k whole shards are known, here and at home.
/// Its own is among them: damaged shards may have been enough to read the record.
fn short(vault: &Vault, packs: &[FoundPack], home: &crate::fetch::Holdings, bare: &BarePoint) -> Vec<PackId> {
    let need = usize::from(vault.coding.data_shards());
    let shown = |pack: PackId| home.copies(pack).iter().map(|copy| copy.index).collect::<BTreeSet<u8>>().len();
    let own = PackRef { pack: bare.pack, header: bare.found.header };
    let all = bare.found.record.packs.iter().chain([&own]);
    all.filter(|wanted| match packs.iter().find(|found| (found.pack, found.header) == (wanted.pack, wanted.header)) {
        Some(found) => !found.is_enough(),
        None => shown(wanted.pack) < need,
    })
    .map(|wanted| wanted.pack)
    .collect()
}

/// How many locations lack each record. One that cannot be listed is asked when the
/// record is written.
async fn lacking(vault: &Vault, wanted: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, (Vec<u8>, usize)> {
    let mut shown = Vec::new();
    for location in &vault.locations {
        shown.push(records::shown(location).await.ok());
    }
    let lack =
        |name: &String| shown.iter().filter(|shown| shown.as_ref().is_none_or(|s| !s.contains_key(name))).count();
    wanted.into_iter().map(|(name, bytes)| (name.clone(), (bytes, lack(&name)))).collect()
}

/// Brings home what the plan found.
pub async fn apply(vault: &Vault, catalog: &mut Catalog, plan: &ImportPlan) -> Result<ImportReport> {
    let mut report = ImportReport::default();
    vault.world.progress.begin_of(Phase::Importing, Total::of_items(plan.copies.len()));
    for good in &plan.copies {
        vault.world.progress.add_items(1);
        vault.world.progress.add_bytes(good.holding.bytes.unwrap_or_default());
        match bring_home(vault, &plan.writers, &good.holding, good.pack, good.writer).await {
            Ok(()) => {
                report.shards += 1;
                vault.world.reached(Step::ImportShardHome);
            }
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    for (name, (bytes, _)) in plan.records.iter().filter(|(_, (_, lacking))| *lacking > 0) {
        for location in &vault.locations {
            match write_record(location, name, bytes).await {
                Ok(()) => {
                    report.records += 1;
                    vault.world.reached(Step::ImportRecordWritten);
                }
                Err(error) => report.failed.push(error.to_string()),
            }
        }
    }
    for point in &plan.points {
        let row = point_row(&point.bare, point.has_manifest);
        if !point.has_manifest {
            remember_packs(catalog, plan, &row)?;
        }
        if !catalog.has_point(row.part.point)? {
            catalog.commit_point(&row, &[])?;
            report.points += 1;
            vault.world.reached(Step::ImportPointRemembered);
        }
    }
    Ok(report)
}

/// Without a manifest only the catalog says that these packs should exist.
fn remember_packs(catalog: &mut Catalog, plan: &ImportPlan, row: &PointRow) -> Result<()> {
    for found in plan.packs.iter().filter(|found| row.part.references.contains(&found.pack)) {
        if catalog.pack(found.pack)?.is_none() {
            let state = PackState::Imported;
            catalog
                .add_pack(PackRow { pack: found.pack, header: found.header, class: found.class as u8, state }, &[])?;
        }
    }
    Ok(())
}

async fn bring_home(
    vault: &Vault,
    writers: &BTreeMap<Hash, Arc<CertifiedKey>>,
    holding: &Holding,
    pack: PackId,
    writer: WriterId,
) -> Result<()> {
    let bytes = holding.location.read(&holding.name).await?.ok_or_else(|| {
        OpsError::corrupt(format!("{} in {}", holding.name, holding.location.name), "it vanished during the import")
    })?;
    let verified =
        vault_codec::verify_shard_object(&bytes, |hash| writers.get(hash).map(AsRef::as_ref)).map_err(|error| {
            OpsError::corrupt(format!("{} in {}", holding.name, holding.location.name), error.to_string())
        })?;
    let name = names::shard(writer, pack, verified.index);
    let homes = home(&vault.spots(), vault.coding, vault.survive(), pack);
    for copy in homes.into_iter().filter(|copy| copy.index == verified.index) {
        let location = vault.location(copy.spot.location).ok_or_else(|| OpsError::Unreachable {
            what: format!(
                "the home of shard {} of pack {}, {}, does not answer: the shard stays in {}. Keep it and import again",
                verified.index,
                pack.short(),
                vault.location_name(copy.spot.location),
                holding.location.name
            ),
        })?;
        write_record(location, &name, &bytes).await?;
    }
    Ok(())
}

pub(crate) fn point_row(point: &BarePoint, in_manifest: bool) -> PointRow {
    let record = &point.found.record;
    PointRow {
        writer: record.writer,
        epoch: record.epoch,
        sequence: record.sequence,
        pack: point.pack,
        part: WriterPart {
            point: point_id(point.found.hash),
            source_kind: record.root.kind(),
            source: record.source.clone(),
            finished_ms: record.finished_ms,
            position: record.root.position(),
            root_hash: record.root.hash(),
            references: record.packs.iter().map(|pack| pack.pack).chain([point.pack]).collect(),
            statistics: record.statistics.clone(),
            tags: record.tags.clone(),
        },
        verified: in_manifest,
    }
}
