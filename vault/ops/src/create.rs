//! Making a new vault: the first vault record, layout, certificates, markers.
//!
//! What always holds: nothing is written before every location answered and
//! turned out empty of another vault; the vault exists once its records stand on
//! every location; a run that was killed before that is taken up where it ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use backends::Grade;
use bytes::Bytes;
use keys::signature::SigningKey;
use object_store::ObjectStore;
use vault_format::envelope::RecordKind;
use vault_format::layout::{
    Attachment, LayoutLocation, LayoutNames, LayoutRecord, LayoutWriter, LocationGrade, LocationName, LocationState,
};
use vault_format::marker::Marker;
use vault_format::sealed::SealedField;
use vault_format::suite::Coding;
use vault_format::vault::{KemKey, KemRole, VaultRecord};
use vault_format::{Blob, Hash, VaultId, names};

use crate::error::{OpsError, Result};
use crate::location::{Created, Location};
use crate::placement::{Spot, can_survive};
use crate::step::Step;
use crate::unfinished;
use crate::vault::location_id;
use crate::world::World;

/// A location of the vault to be made.
pub struct NewLocation {
    /// Its name in the configuration.
    pub name: String,
    /// Its failure domain.
    pub domain: String,
    /// Its address, without credentials.
    pub url: String,
    /// Endpoint and region of an S3-compatible store, or empty.
    pub endpoint: String,
    /// Region, or empty.
    pub region: String,
    /// Whether it may be away for long.
    pub attached: Attachment,
    /// The probed grade.
    pub grade: Grade,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
}

/// What the vault shall be.
pub struct Shape {
    /// Its name, typed back for destructive operations.
    pub name: String,
    /// k of n.
    pub coding: Coding,
    /// d: domains that may be lost at once.
    pub survive_domains: u8,
    /// Smallest, average and largest chunk.
    pub chunks: (u32, u32, u32),
    /// Number of the largest pack class.
    pub class_max: u8,
}

/// The usual chunk sizes: see docs/decisions on chunk sizes.
pub const CHUNKS_DEFAULT: (u32, u32, u32) = (64 << 10, 256 << 10, 1 << 20);

/// The keys a new vault starts with.
pub struct FirstKeys<'a> {
    /// The vault.
    pub vault: VaultId,
    /// Signs the vault record.
    pub root: &'a SigningKey,
    /// The reader's KEM key.
    pub reader: &'a keys::kem::RecipientPublic,
    /// The janitor's KEM key.
    pub janitor: &'a keys::kem::RecipientPublic,
    /// Signs the layout.
    pub operator: &'a keys::files::OperatorKey,
    /// The first writer, with its certificates.
    pub writer: &'a keys::files::WriterKey,
}

/// Makes the vault.
pub async fn create(world: &World, shape: &Shape, keys: &FirstKeys<'_>, new: Vec<NewLocation>) -> Result<()> {
    let mut rng = world.rng();
    let locations = places(keys.vault, &new);
    check_shape(shape, &locations)?;
    let unfinished = unfinished::look(keys, &locations).await?;
    let planned = first_vault_record(world, shape, keys);
    let vault_record = match unfinished.vault_record(&planned)? {
        Some(stands) => stands,
        None => keys::record::sign(RecordKind::Vault, keys.vault, &vault_format::encode(&planned), keys.root),
    };
    let hash = keys::record::hash(&vault_record);
    let planned = first_layout(world, shape, keys, &new, &locations, hash, &mut rng);
    let operator = &keys.operator.signing;
    let layout = match unfinished.layout(&planned)? {
        Some(stands) => stands,
        None => keys::record::sign(RecordKind::Layout, keys.vault, &vault_format::encode(&planned), operator),
    };
    let mut objects: Vec<(String, Vec<u8>)> = keys
        .writer
        .certificates
        .iter()
        .map(|Blob(bytes)| (names::certificate(keys::record::hash(bytes)), bytes.clone()))
        .collect();
    // In this order: a layout names the vault record it belongs to.
    objects.push((names::vault(1), vault_record));
    objects.push((names::layout(1), layout));
    for location in &locations {
        write_first(keys.vault, location, &objects).await?;
        world.reached(Step::CreateLocationWritten);
    }
    Ok(())
}

/// The locations of a vault to be made, with the ids and domain numbers they get.
pub(crate) fn places(vault: VaultId, new: &[NewLocation]) -> Vec<Location> {
    let domains = number_domains(new);
    let place = |new: &NewLocation| Location {
        id: location_id(vault, &new.name),
        name: new.name.clone(),
        domain: domains[&new.domain],
        blank: false,
        store: Arc::clone(&new.store),
        versions: None,
        names: None,
    };
    new.iter().map(place).collect()
}

fn number_domains(new: &[NewLocation]) -> BTreeMap<String, u16> {
    let mut domains = BTreeMap::new();
    for location in new {
        let next = domains.len() as u16;
        domains.entry(location.domain.clone()).or_insert(next);
    }
    domains
}

pub(crate) fn check_shape(shape: &Shape, locations: &[Location]) -> Result<()> {
    let spots: Vec<Spot> = locations.iter().map(Location::spot).collect();
    if spots.is_empty() {
        return Err(OpsError::Refused { what: "a vault needs at least one location".to_owned() });
    }
    if can_survive(&spots, shape.coding, shape.survive_domains) {
        return Ok(());
    }
    let domains: std::collections::BTreeSet<u16> = spots.iter().map(|spot| spot.domain).collect();
    Err(OpsError::Refused {
        what: format!(
            "{} of {} shards over {} domain(s) cannot survive the loss of any {}. Add locations in other domains, or \
             lower survive_domains",
            shape.coding.data_shards(),
            shape.coding.total_shards(),
            domains.len(),
            shape.survive_domains
        ),
    })
}

fn first_vault_record(world: &World, shape: &Shape, keys: &FirstKeys<'_>) -> VaultRecord {
    let kem =
        |role, key: &keys::kem::RecipientPublic| KemKey { generation: 1, role, public: Blob(key.as_bytes().to_vec()) };
    VaultRecord {
        epoch: 1,
        previous: Hash::default(),
        root_public: Blob(keys.root.verifying_key().as_bytes().to_vec()),
        data_shards: shape.coding.data_shards(),
        total_shards: shape.coding.total_shards(),
        chunk_min: shape.chunks.0,
        chunk_average: shape.chunks.1,
        chunk_max: shape.chunks.2,
        class_max: shape.class_max,
        floor_suite: 1,
        recipients: vec![kem(KemRole::Reader, keys.reader), kem(KemRole::Janitor, keys.janitor)],
        key_history: Vec::new(),
        operators: vec![keys.operator.certificate.clone()],
        card_sets: Vec::new(),
        predecessors: Vec::new(),
        created_ms: world.now_ms(),
    }
}

pub(crate) fn first_layout(
    world: &World,
    shape: &Shape,
    keys: &FirstKeys<'_>,
    new: &[NewLocation],
    locations: &[Location],
    vault_record: Hash,
    rng: &mut rand_chacha::ChaCha20Rng,
) -> LayoutRecord {
    let names = LayoutNames {
        vault: shape.name.clone(),
        locations: new
            .iter()
            .zip(locations)
            .map(|(new, location)| LocationName {
                location: location.id,
                name: new.name.clone(),
                url: new.url.clone(),
                endpoint: new.endpoint.clone(),
                region: new.region.clone(),
                domain: new.domain.clone(),
            })
            .collect(),
    };
    LayoutRecord {
        epoch: 1,
        previous: Hash::default(),
        vault_record,
        survive_domains: shape.survive_domains,
        locations: new
            .iter()
            .zip(locations)
            .map(|(new, location)| LayoutLocation {
                location: location.id,
                domain: location.domain,
                state: LocationState::Active,
                grade: stored_grade(new.grade),
                attached: new.attached,
            })
            .collect(),
        writers: vec![LayoutWriter { writer: keys.writer.writer, certificate: writer_certificate(keys.writer) }],
        names: keys::wrap::seal_field(
            SealedField::LayoutNames,
            keys.vault,
            keys.reader,
            &vault_format::encode(&names),
            rng,
        ),
        created_ms: world.now_ms(),
    }
}

pub(crate) fn stored_grade(grade: Grade) -> LocationGrade {
    match grade {
        Grade::Locked => LocationGrade::Locked,
        Grade::Versioned => LocationGrade::Versioned,
        Grade::Overwritable => LocationGrade::Overwritable,
    }
}

/// The hash of a writer's own certificate, the last of its chain.
pub fn writer_certificate(writer: &keys::files::WriterKey) -> Hash {
    writer.certificates.last().map(|Blob(bytes)| keys::record::hash(bytes)).unwrap_or_default()
}

pub(crate) async fn write_first(vault: VaultId, location: &Location, objects: &[(String, Vec<u8>)]) -> Result<()> {
    let marker = Marker { vault, location: location.id };
    write_record(location, names::MARKER, &marker.encode()).await?;
    for (name, bytes) in objects {
        write_record(location, name, bytes).await?;
    }
    Ok(())
}

/// Writes a small immutable object and reads it back; one that is already there
/// must have the same bytes. Looks first: some stores ignore the condition of a
/// conditional write, and a record is never overwritten.
pub async fn write_record(location: &Location, name: &str, bytes: &[u8]) -> Result<()> {
    let at = || format!("{name} at {}", location.name);
    let other = || OpsError::corrupt(at(), "other bytes stand under this name; nothing was overwritten");
    match location.read(name).await? {
        Some(there) if there == bytes => return Ok(()),
        Some(_) => return Err(other()),
        None => {}
    }
    let created = location.create(name, vec![Bytes::copy_from_slice(bytes)]).await?;
    match location.read(name).await? {
        Some(back) if back == bytes => Ok(()),
        _ if created == Created::Exists => Err(other()),
        _ => Err(OpsError::corrupt(at(), "what was written does not read back")),
    }
}
