//! Importing orphans: shards and records found in any folders, under any names,
//! brought home into a vault.
//!
//! What always holds: only what verifies under the vault's root is brought in;
//! the rest is quarantined by name with its reason and left where it is; nothing
//! that stands is overwritten; points without a manifest are marked "chain not
//! verified".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::certificate::{Authority, CertifiedKey};
use keys::files::ReadKey;
use keys::signature::VerifyingKey;
use vault_format::certificate::Role;
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::manifest::{Manifest, WriterPart};
use vault_format::suite::Class;
use vault_format::{Blob, Hash, PackId, WriterId, names};

use crate::backup::point_id;
use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::create::write_record;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Holding, Trust, list_shards};
use crate::heads;
use crate::location::Location;
use crate::placement::home;
use crate::scan::{BarePoint, Quarantined, Scan, find_points, scan};
use crate::step::Step;
use crate::vault::Vault;

/// A pack found among orphans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPack {
    /// The pack.
    pub pack: PackId,
    /// Its writer.
    pub writer: WriterId,
    /// Hash of its header.
    pub header: Hash,
    /// Its class.
    pub class: Class,
    /// Distinct indices found in the folders.
    pub found: usize,
    /// Distinct indices the vault's locations show already.
    pub at_home: usize,
    /// Indices needed.
    pub need: usize,
}

/// What an import would do.
pub struct ImportPlan {
    /// Packs of this vault found.
    pub packs: Vec<FoundPack>,
    /// Shards to bring home: pack, index, from, and the locations they belong to.
    copies: Vec<(Holding, PackId, WriterId)>,
    /// Records to bring home, by name.
    records: BTreeMap<String, Vec<u8>>,
    /// Whose signatures count: writers the vault knows, and those found.
    writers: BTreeMap<Hash, Arc<CertifiedKey>>,
    /// Points found in packs (with a read key only), by whether a manifest names them.
    pub points: Vec<(BarePoint, bool)>,
    /// Broken, unsigned or truncated objects.
    pub quarantined: Vec<Quarantined>,
    /// Shards of other vaults, by vault: left alone.
    pub other_vaults: BTreeMap<vault_format::VaultId, usize>,
    /// Files that are not ours, and files looked at.
    pub foreign: (usize, usize),
}

impl ImportPlan {
    /// Shards to bring home.
    pub fn shards(&self) -> usize {
        self.copies.len()
    }

    /// Records to bring home.
    pub fn records(&self) -> usize {
        self.records.len()
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

/// Looks through the folders and plans.
pub async fn plan(vault: &Vault, keys: Option<&ReadKey>, folders: &[Arc<Location>]) -> Result<ImportPlan> {
    let mut found = scan(folders).await?;
    let mut points = Vec::new();
    if let Some(keys) = keys {
        points = find_points(&vault.world, &found, vault.id, keys).await.points;
    }
    // From here on the vault knows the writers that were found, too.
    let (vault, mut records) = with_certificates(vault, &found, &points)?;
    records.extend(manifests(&vault, &found));
    let (packs, copies) = shards(&vault, &mut found).await;
    let named = points_with_manifests(&vault, &records).await?;
    Ok(ImportPlan {
        packs,
        copies,
        points: points.into_iter().map(|point| (named.contains(&point.pack), point)).map(|(a, b)| (b, a)).collect(),
        records,
        writers: vault.writers,
        quarantined: found.quarantined,
        other_vaults: found.vaults.iter().map(|(id, held)| (*id, held.packs.len())).collect(),
        foreign: (found.foreign, found.files),
    })
}

/// The vault with the writers found, as files or in point records, and their
/// certificates by name.
fn with_certificates(vault: &Vault, found: &Scan, points: &[BarePoint]) -> Result<(Vault, BTreeMap<String, Vec<u8>>)> {
    let (mut vault, mut records) = (vault.clone(), BTreeMap::new());
    let root = VerifyingKey::from_slice(&vault.record.root_public.0)
        .map_err(|error| OpsError::corrupt("the vault record", error.to_string()))?;
    let mut chains = found.certified(vault.id, &root);
    let authority = Authority::new(vault.id, root);
    let of_points = points.iter().map(|point| point.found.record.certificates.clone());
    chains.extend(of_points.filter_map(|chain| Some((authority.chain(&chain).ok()?, chain))));
    for (key, chain) in chains {
        for Blob(bytes) in chain {
            records.insert(names::certificate(keys::record::hash(&bytes)), bytes);
        }
        if matches!(key.role(), Role::Writer | Role::Migrator) {
            vault.writers.insert(key.certificate_hash(), Arc::new(key));
        }
    }
    Ok((vault, records))
}

/// Packs found, and shards of them that the vault lacks. What no known writer
/// signed is quarantined.
async fn shards(vault: &Vault, found: &mut Scan) -> (Vec<FoundPack>, Vec<(Holding, PackId, WriterId)>) {
    let holdings = found.vaults.remove(&vault.id).unwrap_or_default();
    let fetcher = Fetcher::new(vault.world.clone(), holdings.clone(), Trust::Signed(vault.writers.clone()));
    let home_holdings = list_shards(vault, &vault.writer_ids()).await;
    let (mut packs, mut copies) = (Vec::new(), Vec::new());
    for (&pack, held) in &holdings.packs {
        let header = match fetcher.header(pack).await {
            Ok(header) => header,
            Err(error) => {
                found.quarantined.extend(held.iter().map(|holding| Quarantined {
                    folder: holding.location.name.clone(),
                    name: holding.name.clone(),
                    why: error.to_string(),
                }));
                continue;
            }
        };
        let at_home: BTreeSet<u8> = home_holdings.copies(pack).iter().map(|copy| copy.index).collect();
        let indices: BTreeSet<u8> = held.iter().map(|holding| holding.index).collect();
        packs.push(FoundPack {
            pack,
            writer: header.h0().writer,
            header: header.hash(),
            class: header.h0().class,
            found: indices.len(),
            at_home: at_home.len(),
            need: usize::from(header.coding().data_shards()),
        });
        for &index in indices.difference(&at_home) {
            let of_index = held.iter().filter(|holding| holding.index == index);
            copies.extend(of_index.map(|holding| (holding.clone(), pack, header.h0().writer)));
        }
    }
    (packs, copies)
}

/// Manifests of certified writers among the records found.
fn manifests(vault: &Vault, found: &Scan) -> BTreeMap<String, Vec<u8>> {
    let records = found.records.get(&vault.id).map(Vec::as_slice).unwrap_or_default();
    let mut out = BTreeMap::new();
    for (_, bytes) in records.iter().filter(|(kind, _)| *kind == RecordKind::Manifest) {
        let Some(body) = manifest_body(bytes) else { continue };
        for writer in vault.writer_ids() {
            let position = (body.epoch, body.sequence);
            if heads::verify(vault, writer, position, bytes.clone()).is_ok() {
                out.insert(names::manifest(writer, body.epoch, body.sequence), bytes.clone());
            }
        }
    }
    out
}

/// Packs with a point record that a manifest names: one found, or one the vault
/// has.
async fn points_with_manifests(vault: &Vault, found: &BTreeMap<String, Vec<u8>>) -> Result<BTreeSet<PackId>> {
    let mut named: BTreeSet<PackId> = found.values().filter_map(|bytes| point_pack(bytes)).collect();
    for writer in vault.writer_ids() {
        let chain = heads::chain(vault, writer, heads::Depth::Whole).await?;
        named.extend(chain.all().into_iter().filter_map(|manifest| manifest.body.point_pack));
    }
    Ok(named)
}

fn manifest_body(bytes: &[u8]) -> Option<Manifest> {
    vault_format::decode("manifest", &Envelope::decode(bytes).ok()?.body).ok()
}

fn point_pack(bytes: &[u8]) -> Option<PackId> {
    manifest_body(bytes)?.point_pack
}

/// Brings home what the plan found.
pub async fn apply(vault: &Vault, catalog: &mut Catalog, plan: &ImportPlan) -> Result<ImportReport> {
    let mut report = ImportReport::default();
    for (holding, pack, writer) in &plan.copies {
        match bring_home(vault, &plan.writers, holding, *pack, *writer).await {
            Ok(()) => {
                report.shards += 1;
                vault.world.reached(Step::ImportShardHome);
            }
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    for (name, bytes) in &plan.records {
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
    for (point, in_manifest) in &plan.points {
        let row = point_row(point, *in_manifest);
        if !in_manifest {
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

fn point_row(point: &BarePoint, in_manifest: bool) -> PointRow {
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
