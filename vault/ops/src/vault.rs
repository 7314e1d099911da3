//! An opened vault: its locations, and what its signed records say.
//!
//! What always holds: the root's public key comes from outside (a pinned file,
//! or the cards) and everything else is verified under it; the highest verified
//! epoch wins, so one lying location can withhold, not forge; a location that
//! does not answer is remembered with its reason and never silently left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use backends::{BackendError, Names, Versions};
use keys::certificate::{Authority, CertifiedKey};
use keys::revocation::Revocations;
use keys::rotation::InForce;
use keys::signature::VerifyingKey;
use object_store::ObjectStore;
use vault_format::certificate::Role;
use vault_format::layout::{LayoutRecord, LocationState};
use vault_format::marker::Marker;
use vault_format::suite::{Class, Coding};
use vault_format::vault::VaultRecord;
use vault_format::{Blob, Hash, LocationId, VaultId, WriterId, labels, names};

use crate::error::{OpsError, Result};
use crate::layouts::{self, Choice, Listed, Signed};
use crate::location::Location;
use crate::marks::{self, Marks};
use crate::placement::{Spot, Tolerance, promise};
use crate::revoked;
use crate::spool::Spool;
use crate::world::World;

/// A location as the configuration names it, opened or not.
pub struct Candidate {
    /// Its name, for messages.
    pub name: String,
    /// The store, or why it could not be opened.
    pub store: std::result::Result<Arc<dyn ObjectStore>, BackendError>,
    /// Older versions of its objects, where it can tell them.
    pub versions: Option<Arc<dyn Versions>>,
    /// Names of its objects without their sizes, where sizes cost.
    pub names: Option<Arc<dyn Names>>,
}

/// A location that cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Its name in the configuration; the id's first digits if it has none here.
    pub name: String,
    /// Its place in the layout, if known.
    pub spot: Option<Spot>,
    /// Why, in the words of whoever refused.
    pub why: String,
    /// True if it did not answer (it may come back); false if it answered and
    /// does not belong here.
    pub unreachable: bool,
}

/// Why a folder without a marker does not take part.
pub const NOT_IN_LAYOUT: &str = "the vault's layout does not name it";

/// What is expected of a vault before it is opened.
pub struct Expected {
    /// The vault, if known.
    pub vault: Option<VaultId>,
    /// The root's public keys, pinned or derived from the cards.
    pub root: VerifyingKey,
}

/// A location's id: it follows from the vault and the name in the configuration,
/// so a wiped disk under its old name is still known.
pub fn location_id(vault: VaultId, name: &str) -> LocationId {
    let hash = keys::hash::labelled(labels::LOCATION, &[&vault.0, name.as_bytes()].concat());
    let mut id = LocationId::default();
    id.0.copy_from_slice(&hash.0[..LocationId::BYTES]);
    id
}

/// An opened vault.
#[derive(Clone)]
pub struct Vault {
    /// Its id.
    pub id: VaultId,
    /// Time, randomness, threads.
    pub world: World,
    /// The root in force: the one expected, or one its line leads to after rotations.
    pub root: VerifyingKey,
    /// The roots before it, oldest first.
    pub former: Vec<VerifyingKey>,
    /// The root's word.
    pub record: VaultRecord,
    /// Its envelope.
    pub record_bytes: Vec<u8>,
    /// Its envelope's hash.
    pub record_hash: Hash,
    /// The operator's word.
    pub layout: LayoutRecord,
    /// Its envelope.
    pub layout_bytes: Vec<u8>,
    /// Its envelope's hash.
    pub layout_hash: Hash,
    /// The layout before, if anybody shows it.
    pub previous: Option<LayoutRecord>,
    /// A newer layout that does not count yet, and its envelope.
    pub newer: Option<(LayoutRecord, Vec<u8>)>,
    /// k of n.
    pub coding: Coding,
    /// Locations that answer.
    pub locations: Vec<Location>,
    /// Locations that do not, or do not belong.
    pub absent: Vec<Absent>,
    /// Certified writers, by the hash of their certificate.
    pub writers: BTreeMap<Hash, Arc<CertifiedKey>>,
    /// Who may sign tombstones and fences: operators and certified janitors.
    pub janitors: Vec<Arc<CertifiedKey>>,
    /// Certificate envelopes seen, by hash.
    pub certificates: BTreeMap<Hash, Vec<u8>>,
    /// Signatures that no longer count.
    pub revocations: Arc<Revocations>,
    /// What tombstones and fences said when the vault was opened or last reread.
    pub marks: Arc<Marks>,
    /// Envelopes of the revocations that count.
    pub revocation_bytes: Vec<Vec<u8>>,
    /// Where points wait that the locations could not take.
    pub spool: Option<Spool>,
    /// How long locations that are there sometimes may stay away, in milliseconds, as
    /// the configuration says.
    pub due_ms: BTreeMap<LocationId, i64>,
}

/// What one location holds of the small signed records.
struct Found {
    name: String,
    marker: Option<Marker>,
    store: Arc<dyn ObjectStore>,
    versions: Option<Arc<dyn Versions>>,
    names: Option<Arc<dyn Names>>,
    vault_records: Vec<Vec<u8>>,
    layouts: Vec<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
    revocations: Vec<Vec<u8>>,
}

impl Vault {
    /// Reads the signed records from every candidate and opens the vault.
    pub async fn open(world: World, expected: &Expected, candidates: Vec<Candidate>) -> Result<Self> {
        Self::open_beside(world, expected, candidates, None).await
    }

    /// Likewise, beside a spool: one more place to read signed records from, so that
    /// the vault opens when no location answers.
    pub async fn open_beside(
        world: World,
        expected: &Expected,
        candidates: Vec<Candidate>,
        spool: Option<Spool>,
    ) -> Result<Self> {
        let (mut found, mut absent) = look(candidates).await;
        let answered = found.len();
        if let Some(spool) = &spool {
            let folder = spool.as_folder();
            found.extend(look_at(Location::clone(&folder)).await.ok());
        }
        if answered == 0 && found.iter().all(|kept| kept.vault_records.is_empty()) {
            let reasons: Vec<_> = absent.iter().map(|gone| format!("{}: {}", gone.name, gone.why)).collect();
            return Err(OpsError::Unreachable {
                what: format!(
                    "no location answers ({}). Nothing is known to be lost; check the disks, network and credentials",
                    reasons.join("; ")
                ),
            });
        }
        let id = vault_id(expected, &found)?;
        let InForce { root, former, record, hash: record_hash, bytes: record_bytes } =
            newest_vault_record(id, &expected.root, &found)?;
        let authority = Authority::new(id, root.clone());
        record.check().map_err(|error| OpsError::format("the vault record", &error))?;
        let coding = record.coding().map_err(|error| OpsError::format("the vault record", &error))?;
        let operators = operators(&authority, &record)?;
        let told: BTreeSet<Vec<u8>> = distinct(&found, |here| &here.revocations).into_iter().cloned().collect();
        let of_operators = revoked::of_operators(&authority, &operators, &told);
        let Choice { layout, previous, newer, listed } = choose_layout(id, &operators, &of_operators, &found)?;
        let Signed { record: layout, hash: layout_hash, bytes: layout_bytes } = layout;
        let newer = newer.map(|newer| (newer.record, newer.bytes));
        let Certified { writers, janitors, certificates } =
            certified(&authority, &operators, (&of_operators, &listed), &record, &found);
        let holders = writers.values().chain(&janitors);
        let (revocations, revocation_bytes) = revoked::all(&authority, &operators, holders, &told);
        found.truncate(answered);
        let ours = certificates.values().chain([&layout_bytes]).map(Vec::as_slice).collect();
        let newer_layout = newer.as_ref().map(|(newer, _)| newer);
        let locations = place_locations(id, &layout, newer_layout, &ours, found, &mut absent);
        name_the_missing(id, &layout, &locations, &mut absent);
        let opened = Self {
            id,
            world,
            root,
            former,
            record,
            record_bytes,
            record_hash,
            layout,
            layout_bytes,
            layout_hash,
            previous,
            newer,
            coding,
            locations,
            absent,
            writers,
            janitors,
            certificates,
            revocations: Arc::new(revocations),
            revocation_bytes,
            marks: Arc::default(),
            spool,
            due_ms: BTreeMap::new(),
        };
        Ok(opened.reread().await)
    }

    /// The same vault with what tombstones and fences say now.
    #[must_use]
    pub async fn reread(&self) -> Self {
        Self { marks: Arc::new(marks::read(self).await), ..self.clone() }
    }

    /// The same vault, knowing one more signer of tombstones.
    #[must_use]
    pub fn with_janitor(&self, key: CertifiedKey, certificate: Vec<u8>) -> Self {
        let mut vault = self.clone();
        vault.certificates.insert(key.certificate_hash(), certificate);
        vault.janitors.push(Arc::new(key));
        vault
    }

    /// d: how many domains the vault promises to survive.
    pub fn survive(&self) -> u8 {
        self.layout.survive_domains
    }

    /// Every location of the layout that takes shards, reachable or not.
    pub fn spots(&self) -> Vec<Spot> {
        self.layout
            .locations
            .iter()
            .filter(|location| location.state == LocationState::Active)
            .map(|location| Spot { location: location.location, domain: location.domain })
            .collect()
    }

    /// Every location that holds shards, or is to: those being emptied too.
    pub fn holding_spots(&self) -> Vec<Spot> {
        self.layout
            .locations
            .iter()
            .filter(|location| location.state != LocationState::Retired)
            .map(|location| Spot { location: location.location, domain: location.domain })
            .collect()
    }

    /// What a location is used for; `None` if the layout in force does not name it.
    pub fn state_of(&self, id: LocationId) -> Option<LocationState> {
        self.layout.locations.iter().find(|placed| placed.location == id).map(|placed| placed.state)
    }

    /// Domains of the layout.
    pub fn domains(&self) -> BTreeSet<u16> {
        self.spots().iter().map(|spot| spot.domain).collect()
    }

    /// Reachable locations for placement.
    pub fn reachable(&self) -> Vec<Spot> {
        self.locations.iter().map(Location::spot).collect()
    }

    /// Locations a backup writes to: they answer and are known to be themselves.
    pub fn writable(&self) -> impl Iterator<Item = &Location> {
        let active = |id| {
            let placed = self.layout.locations.iter().find(|placed| placed.location == id);
            placed.is_some_and(|placed| placed.state == LocationState::Active)
        };
        self.locations.iter().filter(move |location| !location.blank && active(location.id))
    }

    /// A reachable location.
    pub fn location(&self, id: LocationId) -> Option<&Location> {
        self.locations.iter().find(|location| location.id == id)
    }

    /// A name for a location, reachable or not.
    pub fn location_name(&self, id: LocationId) -> String {
        let absent = || self.absent.iter().find(|gone| gone.spot.is_some_and(|spot| spot.location == id));
        self.location(id)
            .map(|location| location.name.clone())
            .or_else(|| absent().map(|gone| gone.name.clone()))
            .unwrap_or_else(|| id.short())
    }

    /// A location of the layout by its name, reachable or not.
    pub fn location_named(&self, name: &str) -> Option<LocationId> {
        let here = self.locations.iter().find(|location| location.name == name).map(|location| location.id);
        let absent = || self.absent.iter().find(|gone| gone.name == name)?.spot.map(|spot| spot.location);
        here.or_else(absent)
    }

    /// What the declared layout survives when every shard is at home.
    pub fn promise(&self) -> Tolerance {
        promise(&self.spots(), self.coding, self.survive())
    }

    /// Largest class the packer may use.
    pub fn class_max(&self) -> Class {
        Class::from_number(self.record.class_max).unwrap_or(Class::Leaves64)
    }

    /// The certificate of a writer by its id.
    pub fn writer(&self, writer: WriterId) -> Option<&Arc<CertifiedKey>> {
        self.writers.values().find(|key| key.subject() == writer)
    }

    /// Writers of the layout whose certificate no location shows: what they wrote
    /// cannot be verified, so it is not seen.
    pub fn unknown_writers(&self) -> Vec<(WriterId, Hash)> {
        let listed = self.layout.writers.iter().map(|listed| (listed.writer, listed.certificate));
        listed.filter(|(_, certificate)| !self.writers.contains_key(certificate)).collect()
    }

    /// The operators the root names.
    pub fn operators(&self) -> Result<Vec<CertifiedKey>> {
        operators(&Authority::new(self.id, self.root.clone()), &self.record)
    }

    /// Writers known by certificate.
    pub fn writer_ids(&self) -> BTreeSet<WriterId> {
        self.writers.values().map(|key| key.subject()).collect()
    }
}

async fn look(candidates: Vec<Candidate>) -> (Vec<Found>, Vec<Absent>) {
    let looks = candidates.into_iter().map(|candidate| async move {
        let name = candidate.name.clone();
        let found = match candidate.store {
            Ok(store) => {
                let (id, versions, names) = (LocationId::default(), candidate.versions, candidate.names);
                look_at(Location { id, name: candidate.name, domain: 0, blank: false, store, versions, names }).await
            }
            Err(error) => Err(error),
        };
        found.map_err(|error| Absent { name, spot: None, why: error.to_string(), unreachable: true })
    });
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for outcome in futures::future::join_all(looks).await {
        match outcome {
            Ok(here) => found.push(here),
            Err(gone) => absent.push(gone),
        }
    }
    (found, absent)
}

async fn look_at(location: Location) -> std::result::Result<Found, BackendError> {
    let marker = location.read_right(names::MARKER, |bytes| Marker::decode(bytes).is_ok()).await?;
    let marker = marker.and_then(|bytes| Marker::decode(&bytes).ok());
    Ok(Found {
        marker,
        vault_records: read_folder(&location, names::VAULT).await?,
        layouts: read_folder(&location, names::LAYOUT).await?,
        certificates: read_folder(&location, names::CERTIFICATES).await?,
        revocations: read_folder(&location, names::REVOCATIONS).await?,
        name: location.name,
        store: location.store,
        versions: location.versions,
        names: location.names,
    })
}

/// Every version of every record in a folder of a location.
pub(crate) async fn read_folder(location: &Location, folder: &str) -> std::result::Result<Vec<Vec<u8>>, BackendError> {
    let mut out = Vec::new();
    for listed in location.list(folder).await? {
        if let Some(bytes) = location.read(&listed.name).await? {
            out.push(bytes.to_vec());
        }
    }
    // Which of them count is for the signatures to say.
    out.extend(location.older_records(folder).await.iter().map(|bytes| bytes.to_vec()));
    Ok(out)
}

fn vault_id(expected: &Expected, found: &[Found]) -> Result<VaultId> {
    if let Some(id) = expected.vault {
        return Ok(id);
    }
    let ids: BTreeSet<VaultId> = found
        .iter()
        .flat_map(|here| here.vault_records.iter())
        .filter_map(|bytes| vault_format::envelope::Envelope::decode(bytes).ok())
        .filter(|envelope| envelope.signer == expected.root.fingerprint())
        .map(|envelope| envelope.vault)
        .collect();
    let mut ids = ids.into_iter();
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(OpsError::NoVault {
            what: "the locations that answer hold no vault record of this key. If they hold bare shards, restore \
                   with --from DIR.. and the cards, or import them with: holdfast vault import-orphans"
                .to_owned(),
        }),
        (Some(_), Some(_)) => Err(OpsError::Refused {
            what: "these locations hold several vaults of this key; name one vault's locations only".to_owned(),
        }),
    }
}

/// Every location holds a copy of the same few records: each is verified once.
fn distinct(found: &[Found], records: impl Fn(&Found) -> &Vec<Vec<u8>>) -> BTreeSet<&Vec<u8>> {
    found.iter().flat_map(records).collect()
}

fn newest_vault_record(id: VaultId, root: &VerifyingKey, found: &[Found]) -> Result<InForce> {
    let newest = keys::rotation::in_force(id, root, distinct(found, |here| &here.vault_records));
    newest.map_err(|error| OpsError::Key { what: error.to_string() })?.ok_or_else(|| OpsError::NoVault {
        what: "no location that answers holds a vault record signed by this root key. Check that the locations and \
               the key belong to the same vault"
            .to_owned(),
    })
}

pub(crate) fn operators(authority: &Authority, record: &VaultRecord) -> Result<Vec<CertifiedKey>> {
    record
        .operators
        .iter()
        .map(|bytes| {
            authority
                .operator(&bytes.0)
                .map_err(|error| OpsError::corrupt("an operator certificate in the vault record", error.to_string()))
        })
        .collect()
}

fn choose_layout(id: VaultId, operators: &[CertifiedKey], revoked: &Revocations, found: &[Found]) -> Result<Choice> {
    let here = |here: &'_ Found| layouts::Here {
        named: location_id(id, &here.name),
        marked: here.marker.filter(|marker| marker.vault == id).map(|marker| marker.location),
        layouts: here.layouts.clone(),
    };
    layouts::of(operators, revoked, &found.iter().map(here).collect::<Vec<_>>())
        .ok_or_else(|| OpsError::corrupt("the layout record", "no location holds one signed by an operator"))
}

struct Certified {
    writers: BTreeMap<Hash, Arc<CertifiedKey>>,
    janitors: Vec<Arc<CertifiedKey>>,
    certificates: BTreeMap<Hash, Vec<u8>>,
}

fn certified(
    authority: &Authority,
    operators: &[CertifiedKey],
    (revoked, listed): (&Revocations, &Listed),
    record: &VaultRecord,
    found: &[Found],
) -> Certified {
    let (mut writers, mut certificates) = (BTreeMap::new(), BTreeMap::new());
    let mut janitors: Vec<_> = operators.iter().cloned().map(Arc::new).collect();
    for Blob(bytes) in &record.operators {
        certificates.insert(keys::record::hash(bytes), bytes.clone());
    }
    for bytes in distinct(found, |here| &here.certificates) {
        for operator in operators {
            let Ok(key) = authority.holder(operator, bytes) else { continue };
            let last = revoked.last_good(&operator.certificate_hash());
            // Its holder chooses the serials, so that these alone tell nothing.
            let was_listed = last.is_none_or(|last| listed.by(&key.certificate_hash(), last.epoch));
            let is_writer = matches!(key.role(), Role::Writer | Role::Migrator);
            if !revoked.permits_certificate(operator, &key) || (is_writer && !was_listed) {
                break;
            }
            certificates.insert(key.certificate_hash(), bytes.clone());
            match key.role() {
                Role::Writer | Role::Migrator => drop(writers.insert(key.certificate_hash(), Arc::new(key))),
                Role::Janitor => janitors.push(Arc::new(key)),
                Role::Operator | Role::Auditor => {}
            }
            break;
        }
    }
    Certified { writers, janitors, certificates }
}

/// Gives each location that answered its place in the layout.
fn place_locations(
    vault: VaultId,
    layout: &LayoutRecord,
    newer: Option<&LayoutRecord>,
    records: &BTreeSet<&[u8]>,
    found: Vec<Found>,
    absent: &mut Vec<Absent>,
) -> Vec<Location> {
    let mut locations: Vec<Location> = Vec::new();
    // Locations of a layout that does not count yet are read, not written to.
    let all: Vec<_> = layout.locations.iter().chain(newer.iter().flat_map(|newer| &newer.locations)).collect();
    let in_layout = |id: LocationId| all.iter().copied().find(|location| location.location == id);
    // Names of the configuration first: a lying store cannot take another's place by
    // showing its marker. Then, for readers without a configuration, markers.
    let (named, unnamed): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|here| in_layout(location_id(vault, &here.name)).is_some());
    for mut here in named.into_iter().chain(unnamed) {
        let by_name = location_id(vault, &here.name);
        if here.layouts.iter().chain(&here.certificates).any(|bytes| records.contains(&bytes.as_slice())) {
            // Signed records of ours stand there, so the disk is ours. A marker that names no place of
            // the layout is a damaged one, and as good as none: repair writes it anew.
            here.marker = here.marker.filter(|marker| marker.vault == vault && in_layout(marker.location).is_some());
        }
        let marked = here.marker.filter(|marker| marker.vault == vault).map(|marker| marker.location);
        let foreign = here.marker.is_some() && marked.is_none();
        let id = if in_layout(by_name).is_some() { Some(by_name) } else { marked };
        let why = match id.and_then(in_layout) {
            Some(_) if foreign => "it carries the marker of another vault: is the wrong disk there?",
            Some(placed) if marked.is_some_and(|marked| marked != placed.location) => {
                "it carries the marker of another location of this vault: were two disks swapped?"
            }
            Some(placed) if locations.iter().any(|location| location.id == placed.location) => {
                "another location carries the same marker: one of the two is a copy of the other"
            }
            Some(placed) => {
                locations.push(Location {
                    id: placed.location,
                    name: here.name,
                    domain: placed.domain,
                    blank: marked.is_none(),
                    store: here.store,
                    versions: here.versions,
                    names: here.names,
                });
                continue;
            }
            None if here.marker.is_some() => "it belongs to another vault or layout",
            None => NOT_IN_LAYOUT,
        };
        absent.push(Absent { name: here.name, spot: None, why: why.to_owned(), unreachable: false });
    }
    locations.sort_by_key(|location| all.iter().position(|placed| placed.location == location.id));
    locations
}

/// Completes the list of absent locations from the layout: each location of the
/// layout is either there or named as missing.
fn name_the_missing(vault: VaultId, layout: &LayoutRecord, locations: &[Location], absent: &mut Vec<Absent>) {
    for placed in layout.locations.iter().filter(|placed| placed.state != LocationState::Retired) {
        if locations.iter().any(|location| location.id == placed.location) {
            continue;
        }
        let spot = Some(Spot { location: placed.location, domain: placed.domain });
        match absent.iter_mut().find(|gone| location_id(vault, &gone.name) == placed.location) {
            // A wrong disk in its place says nothing about the right one.
            Some(gone) => (gone.spot, gone.unreachable) = (spot, true),
            None => absent.push(Absent {
                name: format!("location {}", placed.location.short()),
                spot,
                why: "it was not given".to_owned(),
                unreachable: true,
            }),
        }
    }
}

/// Where a vault's local state lies.
#[derive(Clone, Debug)]
pub struct StatePaths {
    /// The folder; created when missing.
    pub folder: PathBuf,
}

impl StatePaths {
    /// The catalog file.
    pub fn catalog(&self) -> PathBuf {
        self.folder.join("catalog.sqlite")
    }

    /// The spool's folder.
    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// The lease: one process at a time writes for a writer.
    pub fn lease(&self) -> PathBuf {
        self.folder.join("lease")
    }
}
