//! A vault founded anew: its shards lie about under any names; its locations, its
//! layout and its host are gone. What points carry, with the seed, is enough.
//!
//! What always holds: the root follows from the seed, and every record taken over
//! verifies under it; the newest vault record found goes on, and the new one names the
//! operators before it; nothing is written where another vault, or this one under
//! another layout, stands; a run that was cut off is taken up with the same records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::certificate::{Authority, CertifiedKey};
use keys::files::ReadKey;
use keys::host::Admission;
use keys::revocation::Revocations;
use keys::rotation::InForce;
use keys::seed::Generation;
use keys::signature::VerifyingKey;
use vault_format::certificate::Role;
use vault_format::envelope::RecordKind;
use vault_format::layout::{LayoutNames, LayoutRecord, LayoutWriter};
use vault_format::marker::Marker;
use vault_format::suite::Coding;
use vault_format::vault::{KemRole, VaultRecord};
use vault_format::{Blob, Hash, LocationId, PackId, VaultId, names};

use crate::adopt::{self, Admitting};
use crate::catalog::{Catalog, PointRow};
use crate::create::{self, FirstKeys, NewLocation, Shape};
use crate::error::{OpsError, Result};
use crate::fetch::list_shards;
use crate::import::refuse_silent;
use crate::layouts::{self, Choice, Listed};
use crate::location::Location;
use crate::scan::{RecordFile, Scan, find_points};
use crate::step::Step;
use crate::vault::{Candidate, Vault, operators, read_folder};
use crate::world::World;
use crate::{revoked, rotate};

/// What is left of a vault without locations: what its points carry, and what records
/// lie between the shards.
pub struct Heritage {
    /// The vault.
    pub vault: VaultId,
    /// The newest vault record found.
    pub in_force: InForce,
    /// Points that could be opened.
    pub points: usize,
    /// Writers that count, by the hash of their certificates.
    pub writers: BTreeMap<Hash, Arc<CertifiedKey>>,
    /// Writers of a revoked operator that no layout found lists: what they wrote is not
    /// believed.
    pub doubted: BTreeSet<String>,
    operators: Vec<CertifiedKey>,
    revocations: Vec<Vec<u8>>,
    layout: Option<layouts::Signed>,
    /// Whether the layout stands on a location to be, put there by a run before.
    begun: bool,
}

/// Adds the records that stand on the locations to be, so that what a run before began
/// is gone on with. One that does not answer has nothing to say yet.
pub async fn add_standing(found: &mut Scan, vault: VaultId, candidates: &[Candidate]) {
    for candidate in candidates {
        let Ok(store) = &candidate.store else { continue };
        let (store, name, versions) = (Arc::clone(store), candidate.name.clone(), candidate.versions.clone());
        let location =
            Location { id: LocationId::default(), name, domain: 0, blank: false, store, versions, names: None };
        for (folder, kind) in [
            (names::VAULT, RecordKind::Vault),
            (names::LAYOUT, RecordKind::Layout),
            (names::CERTIFICATES, RecordKind::Certificate),
            (names::REVOCATIONS, RecordKind::Revocation),
        ] {
            let records = read_folder(&location, folder).await.unwrap_or_default();
            found.standing.extend(records.iter().map(|bytes| keys::record::hash(bytes)));
            let (folder, name) = (location.name.clone(), folder.to_owned());
            let file = |bytes| RecordFile { kind, bytes, folder: folder.clone(), name: name.clone() };
            found.records.entry(vault).or_default().extend(records.into_iter().map(file));
        }
    }
}

/// What a pile says of the key's vault. `None` if neither a vault record nor a point
/// that can be opened is in it. The read key learns the older generations.
pub async fn heritage(world: &World, found: &Scan, keys: &mut ReadKey) -> Result<Option<Heritage>> {
    refuse_silent(&found.silent)?;
    let (vault, root) = (keys.vault, keys.root.clone());
    crate::scan::complete(world, found, vault, keys).await?;
    let points = find_points(world, found, vault, keys).await.points;
    let of_points: BTreeSet<Vec<u8>> = points.iter().map(|point| point.found.record.vault_record.0.clone()).collect();
    let shown: BTreeSet<Vec<u8>> = of_points.into_iter().chain(records(found, vault, RecordKind::Vault)).collect();
    let in_force = keys::rotation::in_force(vault, &root, &shown);
    let Some(in_force) = in_force.map_err(|error| OpsError::Key { what: error.to_string() })? else { return Ok(None) };
    in_force.record.check().map_err(|error| OpsError::format("the vault record", &error))?;
    rotate::complete(keys, &in_force.root, &in_force.former, &in_force.record)?;
    let authority = Authority::new(vault, in_force.root.clone());
    let operators = operators(&authority, &in_force.record)?;
    let told: BTreeSet<Vec<u8>> = records(found, vault, RecordKind::Revocation).collect();
    let of_operators = revoked::of_operators(&authority, &operators, &told);
    let shown = layouts::Here {
        named: LocationId::default(),
        marked: None,
        layouts: records(found, vault, RecordKind::Layout).collect(),
    };
    let choice = layouts::of(&operators, &of_operators, &[shown]);
    let (layout, listed) = choice.map_or((None, None), |Choice { layout, listed, .. }| (Some(layout), Some(listed)));
    let mut heritage = Heritage {
        vault,
        begun: layout.as_ref().is_some_and(|layout| found.standing.contains(&layout.hash)),
        points: points.len(),
        writers: BTreeMap::new(),
        doubted: BTreeSet::new(),
        operators,
        revocations: Vec::new(),
        layout,
        in_force,
    };
    let roots = keys.authorities();
    let of_points = points.into_iter().map(|point| point.found.writer);
    for key in found.certified(vault, &roots).into_iter().map(|(key, _)| key).chain(of_points) {
        heritage.take(key, &of_operators, listed.as_ref());
    }
    let holders = heritage.writers.values();
    let (_, counted) = revoked::all(&authority, &heritage.operators, holders, &told);
    heritage.revocations = counted;
    Ok(Some(heritage))
}

fn records(found: &Scan, vault: VaultId, kind: RecordKind) -> impl Iterator<Item = Vec<u8>> {
    let records = found.records.get(&vault).map(Vec::as_slice).unwrap_or_default();
    records.iter().filter(move |file| file.kind == kind).map(|file| file.bytes.clone())
}

/// Who founds it anew, and what it is called.
pub struct Founding<'a> {
    /// The vault's name.
    pub name: String,
    /// d: domains that may be lost at once.
    pub survive_domains: u8,
    /// The root's key, and those of the host that founds it.
    pub keys: FirstKeys<'a>,
}

impl Heritage {
    /// Keeps a writer's key, if its operator may vouch for it.
    fn take(&mut self, key: CertifiedKey, of_operators: &Revocations, listed: Option<&Listed>) {
        let was_listed = |hash: &Hash, epoch| listed.is_some_and(|listed| listed.by(hash, epoch));
        if !revoked::vouches(&self.operators, of_operators, &key, was_listed) {
            self.doubted.insert(format!("{} ({})", key.subject().short(), key.name()));
            return;
        }
        if matches!(key.role(), Role::Writer | Role::Migrator) {
            self.writers.insert(key.certificate_hash(), Arc::new(key));
        }
    }

    /// The root in force.
    pub fn root(&self) -> &VerifyingKey {
        &self.in_force.root
    }

    /// k of n.
    pub fn coding(&self) -> Result<Coding> {
        self.in_force.record.coding().map_err(|error| OpsError::format("the vault record", &error))
    }

    /// d as the layout found declares it; one domain where none was found.
    pub fn survive_domains(&self) -> u8 {
        self.layout.as_ref().map_or(1, |layout| layout.record.survive_domains)
    }

    /// Names and addresses as a layout found tells them.
    pub fn names(&self, read: &ReadKey) -> Option<LayoutNames> {
        adopt::names_in(&self.layout.as_ref()?.record, self.vault, read).ok()
    }

    /// What the keys of a new host must agree with.
    pub fn admission(&self, generation: Generation, host: &str, now_ms: i64) -> Result<Admission> {
        let scope = adopt::scope(self.writers.values().map(AsRef::as_ref), host);
        let admitting = Admitting { generation, host, scope, now_ms };
        adopt::admission_to(self.vault, &self.in_force.record, &self.operators, admitting)
    }

    /// Writes the records the vault begins with again to each of these locations, which
    /// all must answer. Doing it again with the same keys completes it.
    pub async fn found(&self, world: &World, founding: &Founding<'_>, new: Vec<NewLocation>) -> Result<()> {
        let keys = &founding.keys;
        let locations = create::places(self.vault, &new);
        let record = &self.in_force.record;
        let shape = Shape {
            name: founding.name.clone(),
            coding: self.coding()?,
            survive_domains: founding.survive_domains,
            chunks: (record.chunk_min, record.chunk_average, record.chunk_max),
            class_max: record.class_max,
        };
        create::check_shape(&shape, &locations)?;
        for location in &locations {
            self.refuse_occupied(location).await?;
        }
        let (epoch, vault_record) = self.vault_record(world, keys);
        let hash = keys::record::hash(&vault_record);
        let planned = create::first_layout(world, &shape, keys, &new, &locations, hash, &mut world.rng());
        let (layout_epoch, layout) = self.layout(planned, keys)?;
        let mut objects: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        // Those of the writers found come home with their shards.
        for Blob(bytes) in &keys.writer.certificates {
            objects.insert(names::certificate(keys::record::hash(bytes)), bytes.clone());
        }
        for bytes in &self.revocations {
            objects.insert(names::revocation(keys::record::hash(bytes)), bytes.clone());
        }
        // In this order: a layout names the vault record it belongs to.
        let mut objects: Vec<(String, Vec<u8>)> = objects.into_iter().collect();
        objects.push((names::vault(record.epoch), self.in_force.bytes.clone()));
        objects.push((names::vault(epoch), vault_record));
        objects.push((names::layout(layout_epoch), layout));
        for location in &locations {
            create::write_first(self.vault, location, &objects).await?;
            world.reached(Step::CreateLocationWritten);
        }
        Ok(())
    }

    /// The vault record found, if it names this operator already; or the next one.
    fn vault_record(&self, world: &World, keys: &FirstKeys<'_>) -> (u64, Vec<u8>) {
        let found = &self.in_force;
        if found.record.operators.contains(&keys.operator.certificate) {
            return (found.record.epoch, found.bytes.clone());
        }
        let mut record: VaultRecord = found.record.clone();
        record.operators.push(keys.operator.certificate.clone());
        (record.epoch, record.previous) = (found.record.epoch + 1, found.hash);
        record.created_ms = world.now_ms();
        let bytes = keys::record::sign(RecordKind::Vault, self.vault, &vault_format::encode(&record), keys.root);
        (record.epoch, bytes)
    }

    /// The layout a run before signed, if it says the same; or one above the newest found.
    fn layout(&self, mut planned: LayoutRecord, keys: &FirstKeys<'_>) -> Result<(u64, Vec<u8>)> {
        let own = planned.writers.clone();
        planned.writers = self
            .layout
            .iter()
            .flat_map(|found| found.record.writers.iter().cloned())
            .chain(self.writers.iter().map(|(&certificate, key)| LayoutWriter { writer: key.subject(), certificate }))
            .chain(own.iter().cloned())
            .collect();
        let mut seen = BTreeSet::new();
        planned.writers.retain(|listed| seen.insert(listed.certificate));
        if let Some(found) = &self.layout {
            let at = |layout: &LayoutRecord| -> BTreeMap<LocationId, u16> {
                layout.locations.iter().map(|placed| (placed.location, placed.domain)).collect()
            };
            let same = at(&found.record) == at(&planned) && found.record.survive_domains == planned.survive_domains;
            if self.begun && same && own.iter().all(|writer| found.record.writers.contains(writer)) {
                return Ok((found.record.epoch, found.bytes.clone()));
            }
            if self.begun {
                return Err(other_layout());
            }
            // Above it, and not its successor: nobody believes that the places of before, which
            // are gone, still hold what they held.
            planned.epoch = found.record.epoch + 1;
        }
        let body = vault_format::encode(&planned);
        let bytes = keys::record::sign(RecordKind::Layout, self.vault, &body, &keys.operator.signing);
        Ok((planned.epoch, bytes))
    }

    async fn refuse_occupied(&self, location: &Location) -> Result<()> {
        let right = Marker { vault: self.vault, location: location.id }.encode();
        let theirs = location.read(names::MARKER).await?.is_some_and(|bytes| bytes[..] != right[..]);
        let mut foreign = false;
        for bytes in read_folder(location, names::VAULT).await? {
            foreign |= Authority::new(self.vault, self.root().clone()).vault_record(&bytes).is_err();
        }
        if !theirs && !foreign {
            return Ok(());
        }
        Err(OpsError::Refused {
            what: format!(
                "{} already holds another vault, or another location of this one; nothing was written. Choose an empty \
                 place for the vault; folders to look for shards in are named with --scan",
                location.name
            ),
        })
    }
}

/// Points the catalog knows of which some pack has too few shards at the vault's locations:
/// each with how many such packs.
pub async fn lost(vault: &Vault, catalog: &Catalog) -> Result<Vec<(PointRow, usize)>> {
    let home = list_shards(vault, &vault.writer_ids()).await;
    let need = usize::from(vault.coding.data_shards());
    let is_short = |pack: &PackId| {
        let indices: BTreeSet<u8> = home.copies(*pack).iter().map(|copy| copy.index).collect();
        indices.len() < need
    };
    let rows = catalog.points()?.into_iter();
    let lost = rows.map(|row| (row.part.references.iter().filter(|pack| is_short(pack)).count(), row));
    Ok(lost.filter(|(short, _)| *short > 0).map(|(short, row)| (row, short)).collect())
}

/// The newest public key of a role, as the vault record says.
pub fn newest_key(record: &VaultRecord, role: KemRole) -> Result<keys::kem::RecipientPublic> {
    let newest = record.recipients.iter().rfind(|key| key.role == role);
    let newest = newest.ok_or_else(|| OpsError::corrupt("the vault record", "it names no key to seal to"))?;
    keys::kem::RecipientPublic::from_slice(&newest.public.0)
        .map_err(|error| OpsError::corrupt("a key in the vault record", error.to_string()))
}

fn other_layout() -> OpsError {
    OpsError::Refused {
        what:
            "these locations hold records of this vault already, of another layout or by other keys of a host. Nothing \
               was written. Adopt them without --scan, then bring the shards home with: holdfast vault import-orphans; \
               or choose empty places"
                .to_owned(),
    }
}
