//! Orphans sorted: what each object of a pile is worth to one vault.
//!
//! What always holds: every object is in exactly one class, so the classes add up
//! to the objects looked at; a shard counts only after all its bytes were checked
//! to a header that a certified writer signed, a record only after its signatures;
//! whatever else claims to be of this vault is quarantined by name with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use keys::certificate::{Authority, CertifiedKey};
use vault_format::certificate::{Certificate, Role};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::layout::LayoutRecord;
use vault_format::manifest::Manifest;
use vault_format::suite::Class;
use vault_format::tombstone::Tombstone;
use vault_format::vault::VaultRecord;
use vault_format::{Blob, Hash, PackId, WriterId, names};

use crate::fetch::{Holding, Holdings};
use crate::heads::{self, Position};
use crate::revoked;
use crate::scan::{BarePoint, Quarantined, RecordFile, Scan};
use crate::vault::Vault;

/// Objects read and checked at once.
const AT_ONCE: usize = 4;

/// How many objects of a pile are in each class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Objects looked at.
    pub looked_at: usize,
    /// Whole, signed shards of this vault, each once.
    pub shards: usize,
    /// Verified records of this vault, each once.
    pub records: usize,
    /// More copies of either.
    pub duplicates: usize,
    /// Shards and records that say they are of other vaults: left alone.
    pub other_vaults: usize,
    /// Broken, cut short, unsigned, or not readable: each named with its reason.
    pub quarantined: usize,
    /// Location markers: unsigned, of no use away from their place.
    pub markers: usize,
    /// Not ours.
    pub foreign: usize,
}

impl Account {
    /// Sum of the classes: always the objects looked at.
    pub fn accounted(&self) -> usize {
        self.shards
            + self.records
            + self.duplicates
            + self.other_vaults
            + self.quarantined
            + self.markers
            + self.foreign
    }
}

impl Holding {
    /// The writer its name says, if it has a name of ours.
    pub fn named_writer(&self) -> Option<WriterId> {
        self.writer
    }

    /// Whether its name says this writer, or none.
    pub(crate) fn may_be_of(&self, writer: WriterId) -> bool {
        self.named_writer().is_none_or(|named| named == writer)
    }
}

impl Holdings {
    /// Distinct indices of a writer's pack, by the names that are shown. Sizes no class
    /// has do not count.
    pub fn indices_of(&self, writer: WriterId, pack: PackId) -> BTreeSet<u8> {
        let held = self.packs.get(&pack).map(Vec::as_slice).unwrap_or_default();
        held.iter()
            .filter(|holding| !holding.is_cut() && holding.named_writer() == Some(writer))
            .map(|holding| holding.index)
            .collect()
    }
}

/// A pack found among orphans: one for each header a certified writer signed.
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
    /// Good shards found in the folders, each index once.
    pub found: usize,
    /// Distinct indices the vault's locations show already.
    pub at_home: usize,
    /// Both together, each index once.
    pub total: usize,
    /// Indices needed.
    pub need: usize,
}

impl FoundPack {
    /// Whether it can be rebuilt.
    pub fn is_enough(&self) -> bool {
        self.total >= self.need
    }
}

/// A whole, signed shard.
#[derive(Clone)]
pub(crate) struct GoodShard {
    pub(crate) holding: Holding,
    pub(crate) writer: WriterId,
    pub(crate) pack: PackId,
    pub(crate) index: u8,
    header: Hash,
    class: Class,
    need: usize,
    hint: Position,
}

/// The shards of a pile, weighed.
#[derive(Default)]
pub(crate) struct Shards {
    /// Each index of each header once.
    pub(crate) good: Vec<GoodShard>,
    pub(crate) packs: Vec<FoundPack>,
    pub(crate) duplicates: usize,
    /// Highest place in its chain that a header of each writer hints at.
    pub(crate) seen: BTreeMap<WriterId, Position>,
}

/// Reads every shard object whole and keeps what a certified writer signed.
pub(crate) async fn weigh(
    vault: &Vault,
    held: &Holdings,
    home: &Holdings,
    quarantined: &mut Vec<Quarantined>,
) -> Shards {
    let all = held.packs.iter().flat_map(|(&pack, held)| held.iter().map(move |holding| (pack, holding.clone())));
    let mut checked = futures::stream::iter(all)
        .map(|(pack, holding)| async move { (check(vault, pack, &holding).await, holding) })
        .buffered(AT_ONCE);
    let mut shards = Shards::default();
    let mut indices: BTreeMap<(PackId, WriterId, Hash), BTreeSet<u8>> = BTreeMap::new();
    while let Some((checked, holding)) = checked.next().await {
        match checked {
            Ok(good) if indices.entry((good.pack, good.writer, good.header)).or_default().insert(good.index) => {
                let seen = shards.seen.entry(good.writer).or_default();
                *seen = (*seen).max(good.hint);
                shards.good.push(good);
            }
            Ok(_) => shards.duplicates += 1,
            Err(why) => {
                let (folder, name) = (holding.location.name.clone(), holding.name);
                quarantined.push(Quarantined { folder, name, why });
            }
        }
    }
    for ((pack, writer, header), found) in indices {
        let Some(first) = shards.good.iter().find(|good| (good.pack, good.header) == (pack, header)) else { continue };
        let at_home = home.indices_of(writer, pack);
        shards.packs.push(FoundPack {
            pack,
            writer,
            header,
            class: first.class,
            found: found.len(),
            at_home: at_home.len(),
            total: found.union(&at_home).count(),
            need: first.need,
        });
    }
    shards
}

async fn check(vault: &Vault, pack: PackId, holding: &Holding) -> std::result::Result<GoodShard, String> {
    let bytes = holding.location.read(&holding.name).await.map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("it vanished while it was read")?;
    let (writers, revocations) = (vault.writers.clone(), Arc::clone(&vault.revocations));
    let checked = move || {
        let lookup = |hash: &Hash| writers.get(hash).map(AsRef::as_ref);
        let verified = vault_codec::verify_shard_object(&bytes, lookup).map_err(|error| error.to_string())?;
        let h0 = verified.header.h0();
        let signed_at = keys::revocation::Position { epoch: h0.epoch, sequence: h0.sequence };
        if !revocations.permits(&verified.header.header().certificate, signed_at) {
            return Err("its writer's certificate was revoked before it was signed".to_owned());
        }
        Ok((verified.header, verified.index))
    };
    let (header, index) = vault.world.compute.run(checked).await?;
    if header.pack() != pack || index != holding.index {
        return Err("it changed while it was read".to_owned());
    }
    let h0 = header.h0();
    Ok(GoodShard {
        holding: holding.clone(),
        writer: h0.writer,
        pack,
        index,
        header: header.hash(),
        class: h0.class,
        need: usize::from(header.coding().data_shards()),
        hint: (h0.epoch, h0.sequence),
    })
}

/// The records of a pile that verify, by the name each belongs under.
#[derive(Default)]
pub(crate) struct Records {
    /// Names and bytes.
    pub(crate) good: BTreeMap<String, Vec<u8>>,
    pub(crate) duplicates: usize,
    /// Verified, and not brought home: newer vault records and layouts than those in
    /// force, and second manifests for a place that is taken.
    pub(crate) left: Vec<String>,
}

/// Everybody a record may be signed by: the roots of the vault's line, their operators,
/// those whom they certified; known to the vault, or found.
struct Signers {
    roots: Vec<Authority>,
    operators: Vec<CertifiedKey>,
    holders: Vec<CertifiedKey>,
}

impl Signers {
    fn of(vault: &Vault, found: &[RecordFile]) -> Self {
        let roots = vault.authorities();
        let files = found.iter().filter(|file| file.kind == RecordKind::Certificate).map(|file| &file.bytes);
        let known = vault.record.operators.iter().map(|Blob(bytes)| bytes).chain(vault.certificates.values());
        let certificates: BTreeSet<&Vec<u8>> = files.chain(known).collect();
        let operators: Vec<CertifiedKey> =
            certificates.iter().filter_map(|bytes| roots.iter().find_map(|root| root.operator(bytes).ok())).collect();
        let issued =
            |bytes: &Vec<u8>, root: &Authority| operators.iter().find_map(|operator| root.holder(operator, bytes).ok());
        let holder = |bytes: &&Vec<u8>| roots.iter().find_map(|root| issued(bytes, root));
        let holders = certificates.iter().filter_map(holder).collect();
        Self { roots, operators, holders }
    }

    /// Whether somebody whose role allows it signed these bytes; who.
    fn verified(&self, file: &RecordFile) -> std::result::Result<Option<&CertifiedKey>, String> {
        let all = self.operators.iter().chain(&self.holders);
        let by_root = match file.kind {
            RecordKind::Vault => self.roots.iter().any(|root| root.vault_record(&file.bytes).is_ok()),
            RecordKind::Revocation => self.roots.iter().any(|root| root.revocation(&file.bytes).is_ok()),
            RecordKind::Certificate => self.roots.iter().any(|root| root.operator(&file.bytes).is_ok()),
            RecordKind::Layout
            | RecordKind::Manifest
            | RecordKind::Tombstone
            | RecordKind::Fence
            | RecordKind::Note => false,
        };
        if by_root {
            return Ok(None);
        }
        if file.kind == RecordKind::Certificate {
            let certified =
                |operator: &&CertifiedKey| self.roots.iter().any(|root| root.holder(operator, &file.bytes).is_ok());
            let issuer = self.operators.iter().find(certified);
            return issuer.map(Some).ok_or_else(|| "no operator of this vault's root issued it".to_owned());
        }
        let mut why = "nobody certified under this vault's root signed it".to_owned();
        for key in all {
            match key.verify(&file.bytes, file.kind) {
                Ok(_) => return Ok(Some(key)),
                Err(error) if key.public().fingerprint() == claimed(&file.bytes) => why = error.to_string(),
                Err(_) => {}
            }
        }
        Err(why)
    }
}

fn claimed(bytes: &[u8]) -> Hash {
    keys::record::claimed_signer(bytes).unwrap_or_default()
}

/// Verifies the records found and names them.
pub(crate) fn verify_records(vault: &Vault, found: &[RecordFile], quarantined: &mut Vec<Quarantined>) -> Records {
    let signers = Signers::of(vault, found);
    let mut records = Records::default();
    for file in found {
        let named = signers.verified(file).and_then(|signer| name_of(vault, signer, file));
        match named {
            Err(why) => {
                let (folder, name) = (file.folder.clone(), file.name.clone());
                quarantined.push(Quarantined { folder, name, why });
            }
            Ok(Named::Home(name)) => match records.good.get(&name) {
                Some(there) if *there == file.bytes => records.duplicates += 1,
                Some(_) => records.left.push(format!(
                    "{}/{}: a second manifest for the place of another one found; its point is taken from its pack",
                    file.folder, file.name
                )),
                None => {
                    records.good.insert(name, file.bytes.clone());
                }
            },
            Ok(Named::Newer(what)) => records.left.push(format!("{}/{}: {what}", file.folder, file.name)),
        }
    }
    records
}

enum Named {
    /// It belongs under this name.
    Home(String),
    /// It would change the vault; an import does not.
    Newer(String),
}

pub(crate) fn body<T>(what: &'static str, bytes: &[u8]) -> std::result::Result<T, String>
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>,
{
    let envelope = Envelope::decode(bytes).map_err(|error| error.to_string())?;
    vault_format::decode(what, &envelope.body).map_err(|error| error.to_string())
}

fn name_of(vault: &Vault, signer: Option<&CertifiedKey>, file: &RecordFile) -> std::result::Result<Named, String> {
    let newer = |what: &str, epoch: u64, ours: u64| {
        Named::Newer(format!(
            "a {what} of epoch {epoch}, newer than the one in force ({ours}): it would change the vault and was left. If \
             it is right, the locations at hand are an old copy: put back those it came from"
        ))
    };
    let hash = keys::record::hash(&file.bytes);
    Ok(match file.kind {
        RecordKind::Vault => {
            let (epoch, ours) = (body::<VaultRecord>("vault record", &file.bytes)?.epoch, vault.record.epoch);
            if epoch > ours { newer("vault record", epoch, ours) } else { Named::Home(names::vault(epoch)) }
        }
        RecordKind::Layout => {
            let (epoch, ours) = (body::<LayoutRecord>("layout record", &file.bytes)?.epoch, vault.layout.epoch);
            if epoch > ours { newer("layout record", epoch, ours) } else { Named::Home(names::layout(epoch)) }
        }
        RecordKind::Certificate => {
            body::<Certificate>("certificate", &file.bytes)?;
            Named::Home(names::certificate(hash))
        }
        RecordKind::Manifest => {
            let manifest: Manifest = body("manifest", &file.bytes)?;
            let (writer, position) =
                (signer.map(CertifiedKey::subject).unwrap_or_default(), (manifest.epoch, manifest.sequence));
            heads::verify(vault, writer, position, file.bytes.clone())?;
            Named::Home(names::manifest(writer, manifest.epoch, manifest.sequence))
        }
        RecordKind::Tombstone => {
            let tombstone: Tombstone = body("tombstone", &file.bytes)?;
            let janitor = signer.map(CertifiedKey::subject).unwrap_or_default();
            Named::Home(names::tombstone(janitor, tombstone.sequence))
        }
        RecordKind::Revocation | RecordKind::Fence => Named::Home(names::revocation(hash)),
        RecordKind::Note => Named::Home(names::note(hash)),
    })
}

/// The vault with the writers found, as files or in point records, and the
/// certificates of the latter by name.
pub(crate) fn with_writers(vault: &Vault, found: &Scan, points: &[BarePoint]) -> (Vault, BTreeMap<String, Vec<u8>>) {
    let (mut vault, mut records) = (vault.clone(), BTreeMap::new());
    let roots = vault.authorities();
    let mut chains = found.certified(vault.id, &roots);
    let of_points = points.iter().map(|point| point.found.record.certificates.clone());
    let verified = |chain: Vec<Blob>| Some((roots.iter().find_map(|root| root.chain(&chain).ok())?, chain));
    chains.extend(of_points.filter_map(verified));
    let operators = vault.operators().unwrap_or_default();
    let listed: BTreeSet<Hash> = vault.layout.writers.iter().map(|writer| writer.certificate).collect();
    // Whom the vault counts already, it counted by every layout it shows.
    let known: BTreeSet<Hash> = vault.writers.keys().copied().chain(listed).collect();
    let revocations = Arc::clone(&vault.revocations);
    for (key, chain) in chains {
        if !revoked::vouches(&operators, &revocations, &key, |hash, _| known.contains(hash)) {
            continue;
        }
        for Blob(bytes) in chain {
            let hash = keys::record::hash(&bytes);
            vault.certificates.insert(hash, bytes.clone());
            records.insert(names::certificate(hash), bytes);
        }
        if matches!(key.role(), Role::Writer | Role::Migrator) {
            vault.writers.insert(key.certificate_hash(), Arc::new(key));
        }
    }
    (vault, records)
}
