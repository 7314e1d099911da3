//! Finding shards and records among any files, under any names.
//!
//! What always holds: a file is what its bytes say, not its name; what carries
//! our magic and does not decode is quarantined by name with its reason, never
//! skipped silently; every file is counted in exactly one class; nothing found
//! counts before its signatures lead to the root.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::certificate::{Authority, CertifiedKey};
use keys::files::ReadKey;
use vault_codec::ParsedHeader;
use vault_format::envelope::{ENVELOPE_MAGIC, Envelope, RecordKind};
use vault_format::journal::JOURNAL_MAGIC;
use vault_format::marker::MARKER_MAGIC;
use vault_format::shard::{HEADER_BYTES, SHARD_MAGIC};
use vault_format::{Blob, Hash, PackId, VaultId, names};

use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Holding, Holdings, Trust};
use crate::location::{Listed, Location};
use crate::progress::{Phase, Progress, Total};
use crate::restore::{FoundRecord, find_record};
use crate::rotate;
use crate::world::World;

/// Something with our magic that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Folder it lies in.
    pub folder: String,
    /// Its name there.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A signed record found as a file, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFile {
    /// What it says it is.
    pub kind: RecordKind,
    /// Its envelope.
    pub bytes: Vec<u8>,
    /// Folder it lies in.
    pub folder: String,
    /// Its name there.
    pub name: String,
}

/// What a scan found.
#[derive(Default)]
pub struct Scan {
    /// Shards by vault, then by pack.
    pub vaults: BTreeMap<VaultId, Holdings>,
    /// Packs whose shards do not agree on the header: one holding for each.
    rivals: BTreeMap<(VaultId, PackId), BTreeMap<Hash, Holding>>,
    /// Signed records by vault.
    pub records: BTreeMap<VaultId, Vec<RecordFile>>,
    /// Hashes of records that were not in the pile, and stand where the vault shall lie.
    pub(crate) standing: BTreeSet<Hash>,
    /// Broken or truncated objects of ours.
    pub quarantined: Vec<Quarantined>,
    /// Folders that could not be listed, and why.
    pub silent: Vec<(String, String)>,
    /// Location markers: unsigned hints, of no use without their place.
    pub markers: usize,
    /// Files that are not ours.
    pub foreign: usize,
    /// Files looked at.
    pub files: usize,
}

/// Looks at every object of every folder.
pub async fn scan(progress: &Progress, folders: &[Arc<Location>]) -> Result<Scan> {
    progress.begin(Phase::Scanning);
    let mut scan = Scan::default();
    for folder in folders {
        let listed = match folder.list("").await {
            Ok(listed) => listed,
            Err(error) => {
                // A dying disk is the usual case here: the other folders may be enough.
                scan.silent.push((folder.name.clone(), error.to_string()));
                continue;
            }
        };
        for listed in listed {
            scan.files += 1;
            progress.add_items(1);
            let want = listed.bytes.min(HEADER_BYTES as u64);
            let start = match folder.read_range(&listed.name, 0..want).await {
                Ok(Some(start)) => start,
                Ok(None) => {
                    scan.quarantine(folder, &listed, "it vanished, or became shorter, while it was read");
                    continue;
                }
                Err(error) => {
                    scan.quarantine(folder, &listed, error.to_string());
                    continue;
                }
            };
            if start.starts_with(&SHARD_MAGIC) {
                scan.add_shard(folder, &listed, &start);
            } else if start.starts_with(&ENVELOPE_MAGIC) {
                scan.add_record(folder, &listed).await;
            } else if start.starts_with(&JOURNAL_MAGIC) {
                scan.quarantine(
                    folder,
                    &listed,
                    "a journal object: this version imports none; keep it for a newer one",
                );
            } else if start.starts_with(&MARKER_MAGIC) {
                scan.markers += 1;
            } else {
                scan.foreign += 1;
            }
        }
    }
    Ok(scan)
}

impl Scan {
    fn quarantine(&mut self, folder: &Location, listed: &Listed, why: impl Into<String>) {
        let (folder, name) = (folder.name.clone(), listed.name.clone());
        self.quarantined.push(Quarantined { folder, name, why: why.into() });
    }

    fn add_shard(&mut self, folder: &Arc<Location>, listed: &Listed, start: &[u8]) {
        let header = match ParsedHeader::parse(start) {
            Ok(header) => header,
            Err(error) => return self.quarantine(folder, listed, error.to_string()),
        };
        let wanted = header.layout().object_bytes();
        if listed.bytes != wanted {
            return self.quarantine(folder, listed, format!("{} bytes where its header says {wanted}", listed.bytes));
        }
        let holding = Holding {
            index: header.index(),
            location: Arc::clone(folder),
            name: listed.name.clone(),
            writer: names::parse_shard(&listed.name).map(|(writer, ..)| writer),
            bytes: Some(listed.bytes),
            version: None,
        };
        let (vault, pack) = (header.h0().vault, header.pack());
        let rivals = self.rivals.entry((vault, pack)).or_default();
        rivals.entry(header.hash()).or_insert_with(|| holding.clone());
        self.vaults.entry(vault).or_default().packs.entry(pack).or_default().push(holding);
    }

    async fn add_record(&mut self, folder: &Arc<Location>, listed: &Listed) {
        let bytes = match folder.read(&listed.name).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.quarantine(folder, listed, "it vanished while it was read"),
            Err(error) => return self.quarantine(folder, listed, error.to_string()),
        };
        match Envelope::decode(&bytes) {
            Ok(envelope) => {
                let (folder, name) = (folder.name.clone(), listed.name.clone());
                let file = RecordFile { kind: envelope.kind, bytes: bytes.to_vec(), folder, name };
                self.records.entry(envelope.vault).or_default().push(file);
            }
            Err(error) => self.quarantine(folder, listed, error.to_string()),
        }
    }

    /// Holders certified under any of these by the certificates that were found as files,
    /// with the envelopes of their chains.
    pub fn certified(&self, vault: VaultId, roots: &[Authority]) -> Vec<(CertifiedKey, Vec<Blob>)> {
        let records = self.records.get(&vault).map(Vec::as_slice).unwrap_or_default();
        let certificates =
            || records.iter().filter(|file| file.kind == RecordKind::Certificate).map(|file| &file.bytes);
        let mut operators: Vec<(&Authority, CertifiedKey, &Vec<u8>)> = Vec::new();
        for bytes in certificates() {
            operators.extend(roots.iter().find_map(|root| Some((root, root.operator(bytes).ok()?, bytes))));
        }
        let chain = |bytes: &Vec<u8>| {
            operators.iter().find_map(|(authority, operator, above)| {
                let key = authority.holder(operator, bytes).ok()?;
                Some((key, vec![Blob((*above).clone()), Blob(bytes.clone())]))
            })
        };
        certificates().filter_map(chain).collect()
    }

    /// A pack's shards once for each different header they show, with a shard that
    /// shows it first. Nearly always there is one.
    fn views(&self, vault: VaultId, pack: PackId) -> Vec<Holdings> {
        let held = self.vaults.get(&vault).and_then(|holdings| holdings.packs.get(&pack));
        let rivals = self.rivals.get(&(vault, pack));
        let (Some(held), Some(rivals)) = (held, rivals) else { return Vec::new() };
        let view = |first: &Holding| {
            let all = [first].into_iter().chain(held).cloned().collect();
            Holdings { packs: BTreeMap::from([(pack, all)]), ..Holdings::default() }
        };
        rivals.values().map(view).collect()
    }
}

/// A point found in a pack among bare shards.
pub struct BarePoint {
    /// The pack with its record.
    pub pack: PackId,
    /// The record.
    pub found: FoundRecord,
}

/// What bare shards of one vault amount to.
pub struct BareVault {
    /// Where the shards are.
    pub holdings: Holdings,
    /// Writers whose certificates were found, in files or in point records.
    pub writers: BTreeMap<Hash, Arc<CertifiedKey>>,
    /// Points, oldest first.
    pub points: Vec<BarePoint>,
    /// Packs that could not be opened, and why.
    pub unusable: Vec<(PackId, String)>,
}

/// Finds the points of a vault among bare shards: no index, no catalog, no
/// manifest, no configuration.
pub async fn find_points(world: &World, scan: &Scan, vault: VaultId, keys: &ReadKey) -> BareVault {
    let holdings = scan.vaults.get(&vault).cloned().unwrap_or_default();
    let certified = scan.certified(vault, &keys.authorities());
    let mut writers: BTreeMap<Hash, Arc<CertifiedKey>> =
        certified.into_iter().map(|(key, _)| (key.certificate_hash(), Arc::new(key))).collect();
    let (mut points, mut unusable) = (Vec::new(), Vec::new());
    world.progress.begin_of(Phase::Scanning, Total::of_items(holdings.packs.len()));
    for &pack in holdings.packs.keys() {
        world.progress.add_items(1);
        match find_in(world, scan.views(vault, pack), keys, pack).await {
            Ok(Some(found)) => points.push(BarePoint { pack, found }),
            Ok(None) => {}
            Err(error) => unusable.push((pack, error.to_string())),
        }
    }
    points.sort_by_key(|point| (point.found.record.finished_ms, point.found.record.epoch, point.found.record.sequence));
    for point in &points {
        // The chain was verified under the root when the record was found.
        let roots = keys.authorities();
        let chain = roots.iter().find_map(|root| root.chain(&point.found.record.certificates).ok());
        if let Some(key) = chain {
            writers.insert(key.certificate_hash(), Arc::new(key));
        }
    }
    BareVault { holdings, writers, points, unusable }
}

/// Completes a read key from what lies among bare shards: the vault records found as
/// files or, without any that counts, those that the points carry which it opens.
pub async fn complete(world: &World, scan: &Scan, vault: VaultId, keys: &mut ReadKey) -> Result<()> {
    let files = scan.records.get(&vault).map(Vec::as_slice).unwrap_or_default();
    let files = files.iter().filter(|file| file.kind == RecordKind::Vault).map(|file| &file.bytes);
    let refused = |error: keys::KeysError| OpsError::Key { what: error.to_string() };
    let mut newest = keys::rotation::in_force(vault, &keys.root, files).map_err(refused)?;
    if newest.is_none() {
        let points = find_points(world, scan, vault, keys).await.points;
        let carried = points.iter().map(|point| &point.found.record.vault_record.0);
        newest = keys::rotation::in_force(vault, &keys.root, carried).map_err(refused)?;
    }
    newest.map_or(Ok(()), |newest| rotate::complete(keys, &newest.root, &newest.former, &newest.record))
}

/// Looks for a pack's point record under each header its shards show. No header is
/// trusted yet: a damaged or forged one must not hide the good one.
async fn find_in(world: &World, views: Vec<Holdings>, keys: &ReadKey, pack: PackId) -> Result<Option<FoundRecord>> {
    let mut why = None;
    for holdings in views {
        let fetcher = Fetcher::new(world.clone(), holdings, Trust::NotYet);
        match find_record(&fetcher, keys, pack).await {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => why = why.or(Some(error)),
        }
    }
    why.map_or(Ok(None), Err)
}
