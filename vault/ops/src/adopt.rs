//! Adopting a vault: its locations and its seed are at hand, the host that wrote it is
//! gone.
//!
//! What always holds: everything read was verified under the root that follows from the
//! seed; nothing is written before enough domains answer; the new writer is listed
//! beside the old ones, never in their place, and signs in a chain of its own; each
//! record is written beside the older ones, and stands on a quorum before the next is
//! signed; what an interrupted run left is taken up by the next.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use keys::certificate::CertifiedKey;
use keys::files::{OperatorKey, ReadKey, WriterKey};
use keys::host::Admission;
use keys::kem::RecipientPublic;
use keys::seed::Generation;
use keys::signature::SigningKey;
use vault_format::body::IndexEntry;
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::layout::{LayoutNames, LayoutRecord, LayoutWriter};
use vault_format::manifest::{JanitorPart, ManifestKind, PackRef, ReaderPart, WriterPart};
use vault_format::marker::Marker;
use vault_format::sealed::{SealedBlob, SealedField};
use vault_format::tombstone::{Note, NoteKind};
use vault_format::vault::{KemRole, VaultRecord};
use vault_format::{Blob, Hash, LocationId, ScopeId, VaultId, WriterId, names};

use crate::backup::check_domains;
use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::commit;
use crate::create::writer_certificate;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Trust, list_shards};
use crate::heads::{Depth, SignedManifest, chain};
use crate::location::Location;
use crate::points::{remarks, unknown_writers};
use crate::progress::{Phase, Total};
use crate::restore::chunk_index;
use crate::vault::{Candidate, Vault};

/// Packs whose tables are read at once.
const TABLES_AT_ONCE: usize = 8;

/// The vaults that these locations show, by markers and vault records, none of them
/// verified; with the names of the locations that show each.
pub async fn vaults_at(candidates: &[Candidate]) -> BTreeMap<VaultId, BTreeSet<String>> {
    let mut vaults: BTreeMap<VaultId, BTreeSet<String>> = BTreeMap::new();
    for candidate in candidates {
        let Ok(store) = &candidate.store else { continue };
        let (id, name) = (LocationId::default(), candidate.name.clone());
        let store = std::sync::Arc::clone(store);
        let location = Location { id, name, domain: 0, blank: false, store, versions: None, names: None };
        let mut here = BTreeSet::new();
        if let Ok(Some(bytes)) = location.read(names::MARKER).await {
            here.extend(Marker::decode(&bytes).ok().map(|marker| marker.vault));
        }
        for listed in location.list(names::VAULT).await.unwrap_or_default() {
            let read = location.read(&listed.name).await;
            let envelope = read.ok().flatten().and_then(|bytes| Envelope::decode(&bytes).ok());
            here.extend(envelope.filter(|found| found.kind == RecordKind::Vault).map(|found| found.vault));
        }
        for vault in here {
            vaults.entry(vault).or_default().insert(candidate.name.clone());
        }
    }
    vaults
}

/// Names and addresses of the layout, as sealed to the reader.
pub fn layout_names(vault: &Vault, read: &ReadKey) -> Result<LayoutNames> {
    names_in(&vault.layout, vault.id, read)
}

/// Likewise of a layout that is not in force.
pub(crate) fn names_in(layout: &LayoutRecord, vault: VaultId, read: &ReadKey) -> Result<LayoutNames> {
    let plain = open(vault, read, SealedField::LayoutNames, &layout.names)
        .map_err(|why| OpsError::Key { what: format!("the names in the layout do not open: {why}") })?;
    vault_format::decode("layout names", &plain).map_err(|error| OpsError::format("the names in the layout", &error))
}

fn open(
    vault: VaultId,
    read: &ReadKey,
    field: SealedField,
    sealed: &SealedBlob,
) -> std::result::Result<Vec<u8>, String> {
    let keys = read.reader(&sealed.recipient).or_else(|| read.janitor(&sealed.recipient));
    let key = keys.ok_or("it is sealed to a key generation that is not at hand")?;
    let plain = keys::wrap::open_field(field, vault, key, sealed).map_err(|error| error.to_string())?;
    Ok(plain.expose_secret().to_vec())
}

/// What new keys must agree with, or why this vault cannot be adopted now.
pub async fn admission(vault: &Vault, generation: Generation, host: &str) -> Result<Admission> {
    check_domains(vault)?;
    for writer in vault.writer_ids() {
        let chain = chain(vault, writer, Depth::Head).await?;
        if !chain.confirmed {
            return Err(OpsError::Unreachable {
                what: remarks(&chain, writer).join("; ")
                    + ". Nothing was written: bring back the locations and run the same command again",
            });
        }
    }
    let scope = scope(vault.writers.values().map(AsRef::as_ref), host);
    let now_ms = vault.world.now_ms();
    admission_to(vault.id, &vault.record, &vault.operators()?, Admitting { generation, host, scope, now_ms })
}

/// Who is admitted, and how.
pub(crate) struct Admitting<'a> {
    pub(crate) generation: Generation,
    pub(crate) host: &'a str,
    pub(crate) scope: Option<ScopeId>,
    pub(crate) now_ms: i64,
}

/// What new keys must agree with, by the vault record alone.
pub(crate) fn admission_to(
    vault: VaultId,
    record: &VaultRecord,
    operators: &[CertifiedKey],
    admitting: Admitting<'_>,
) -> Result<Admission> {
    let Admitting { generation, host, scope, now_ms } = admitting;
    let key = |role| record.recipients.iter().filter(move |key| key.role == role);
    let public = |bytes: &Blob| {
        RecipientPublic::from_slice(&bytes.0)
            .map_err(|error| OpsError::corrupt("a key in the vault record", error.to_string()))
    };
    let readers = key(KemRole::Reader).map(|key| public(&key.public)).collect::<Result<Vec<_>>>()?;
    let janitor = key(KemRole::Janitor).next_back().map(|key| public(&key.public)).transpose()?;
    let (Some(janitor), false) = (janitor, readers.is_empty()) else {
        return Err(OpsError::corrupt("the vault record", "it names no reader or no janitor to seal to"));
    };
    Ok(Admission {
        vault,
        generation,
        readers,
        janitor,
        scope,
        serial: operators.iter().map(CertifiedKey::serial).max().unwrap_or_default() + 1,
        host: host.to_owned(),
        now_ms,
    })
}

/// The scope to go on in: that of the only writers there were, or of a writer of this
/// host's name. Other hosts' scopes are theirs.
pub(crate) fn scope<'a>(writers: impl Iterator<Item = &'a CertifiedKey> + Clone, host: &str) -> Option<ScopeId> {
    let scopes: BTreeSet<ScopeId> = writers.clone().filter_map(CertifiedKey::scope).collect();
    let mut same_name = writers.filter(|key| key.name() == host).filter_map(CertifiedKey::scope);
    if scopes.len() == 1 { scopes.first().copied() } else { same_name.next() }
}

/// What was written to admit the host.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Locations that lack a record, and why.
    pub owed: BTreeMap<String, String>,
}

/// Publishes the host's certificates, a vault record that names its operator, a layout
/// that lists its writer beside the others, and a note that says so. What stands
/// already is completed.
pub async fn admit(
    vault: &mut Vault,
    root: &SigningKey,
    operator: &OperatorKey,
    writer: &WriterKey,
    names: &LayoutNames,
) -> Result<Admitted> {
    let mut admitted = Admitted::default();
    for Blob(bytes) in &writer.certificates {
        put(vault, &mut admitted, &names::certificate(keys::record::hash(bytes)), bytes).await?;
    }
    if !vault.record.operators.contains(&operator.certificate) {
        let mut record = vault.record.clone();
        record.operators.push(operator.certificate.clone());
        (record.epoch, record.previous) = (vault.record.epoch + 1, vault.record_hash);
        record.created_ms = vault.world.now_ms();
        vault.record_bytes = keys::record::sign(RecordKind::Vault, vault.id, &vault_format::encode(&record), root);
        (vault.record_hash, vault.record) = (keys::record::hash(&vault.record_bytes), record);
    }
    put(vault, &mut admitted, &names::vault(vault.record.epoch), &vault.record_bytes).await?;
    let listed = LayoutWriter { writer: writer.writer, certificate: writer_certificate(writer) };
    if !vault.layout.writers.contains(&listed) {
        let layout = next_layout(vault, listed, names)?;
        let body = vault_format::encode(&layout);
        vault.layout_bytes = keys::record::sign(RecordKind::Layout, vault.id, &body, &operator.signing);
        (vault.layout_hash, vault.layout) = (keys::record::hash(&vault.layout_bytes), layout);
    }
    put(vault, &mut admitted, &names::layout(vault.layout.epoch), &vault.layout_bytes).await?;
    let note = Note {
        kind: NoteKind::Adoption,
        previous: Hash::default(),
        created_ms: vault.world.now_ms(),
        text: format!("adopted by writer {}; the writers before it stay listed", writer.writer),
        data: Blob(writer.writer.0.to_vec()),
    };
    let note = keys::record::sign(RecordKind::Note, vault.id, &vault_format::encode(&note), &operator.signing);
    put(vault, &mut admitted, &names::note(keys::record::hash(&note)), &note).await?;
    Ok(admitted)
}

async fn put(vault: &Vault, admitted: &mut Admitted, name: &str, bytes: &[u8]) -> Result<()> {
    admitted.owed.extend(commit::publish(vault, name, bytes, None).await?);
    Ok(())
}

fn next_layout(vault: &Vault, listed: LayoutWriter, names: &LayoutNames) -> Result<LayoutRecord> {
    let newest = vault.record.recipients.iter().rfind(|key| key.role == KemRole::Reader);
    let newest = newest.ok_or_else(|| OpsError::corrupt("the vault record", "it names no reader to seal to"))?;
    let reader = RecipientPublic::from_slice(&newest.public.0)
        .map_err(|error| OpsError::corrupt("a key in the vault record", error.to_string()))?;
    let mut layout = vault.layout.clone();
    (layout.epoch, layout.previous, layout.vault_record) =
        (vault.layout.epoch + 1, vault.layout_hash, vault.record_hash);
    layout.writers.push(listed);
    layout.created_ms = vault.world.now_ms();
    let plain = vault_format::encode(names);
    layout.names = keys::wrap::seal_field(SealedField::LayoutNames, vault.id, &reader, &plain, &mut vault.world.rng());
    Ok(layout)
}

/// What the catalog was filled with.
#[derive(Debug, Default)]
pub struct Filled {
    /// Points of all writers.
    pub points: usize,
    /// Of them by each writer.
    pub by_writer: BTreeMap<WriterId, usize>,
    /// Packs a new point may lean on.
    pub packs: usize,
    /// What a person should know.
    pub remarks: Vec<String>,
}

/// Fills a new catalog with the points of all writers and, of those that share the
/// scope, with the chunks of their packs.
pub async fn fill(vault: &Vault, read: &ReadKey, scope: Option<ScopeId>, catalog: &mut Catalog) -> Result<Filled> {
    let mut filled = Filled { remarks: unknown_writers(vault), ..Filled::default() };
    let mut rows = Vec::new();
    let mut packs: BTreeMap<vault_format::PackId, PackRef> = BTreeMap::new();
    for writer in vault.writer_ids() {
        let shares = vault.writers.values().any(|key| key.subject() == writer && key.scope() == scope);
        let chain = chain(vault, writer, Depth::Whole).await?;
        filled.remarks.extend(remarks(&chain, writer));
        for manifest in chain.all() {
            if shares {
                packs.extend(manifest.body.packs.iter().map(|pack| (pack.pack, pack.clone())));
            }
            match point(vault, read, manifest) {
                Ok(row) => rows.extend(row),
                Err(why) => filled.remarks.push(format!(
                    "manifest {}.{} of writer {}: {why}",
                    manifest.body.epoch,
                    manifest.body.sequence,
                    writer.short()
                )),
            }
        }
    }
    let holdings = list_shards(vault, &vault.writer_ids()).await;
    let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
    vault.world.progress.begin_of(Phase::Learning, Total::of_items(packs.len()));
    let mut tables = futures::stream::iter(packs.into_values())
        .map(|pack| async { (chunk_index(&fetcher, read, &pack).await, pack) })
        .buffered(TABLES_AT_ONCE);
    while let Some((table, pack)) = tables.next().await {
        vault.world.progress.add_items(1);
        // A pack that cannot be read now is only not used for deduplication.
        let Ok((class, chunks)) = table else { continue };
        learn(catalog, &pack, class, &chunks)?;
        filled.packs += 1;
    }
    for row in rows {
        if !catalog.has_point(row.part.point)? {
            catalog.commit_point(&row, &[])?;
            filled.points += 1;
            *filled.by_writer.entry(row.writer).or_default() += 1;
        }
    }
    Ok(filled)
}

fn learn(catalog: &mut Catalog, pack: &PackRef, class: u8, chunks: &[IndexEntry]) -> Result<()> {
    catalog.add_pack(PackRow { pack: pack.pack, header: pack.header, class, state: PackState::Committed }, chunks)
}

/// A point as the catalog keeps it, from the parts its manifest holds for reader and
/// janitor.
fn point(vault: &Vault, read: &ReadKey, manifest: &SignedManifest) -> std::result::Result<Option<PointRow>, String> {
    let body = &manifest.body;
    let (ManifestKind::Point | ManifestKind::Successor, Some(pack), Some(reader), Some(janitor)) =
        (body.kind, body.point_pack, &body.reader, &body.janitor)
    else {
        return Ok(None);
    };
    let reader = open(vault.id, read, SealedField::ManifestReader, reader)?;
    let reader: ReaderPart = vault_format::decode("reader's part", &reader).map_err(|error| error.to_string())?;
    let janitor = open(vault.id, read, SealedField::ManifestJanitor, janitor)?;
    let janitor: JanitorPart = vault_format::decode("janitor's part", &janitor).map_err(|error| error.to_string())?;
    let part = WriterPart {
        point: reader.point,
        source_kind: reader.source_kind,
        source: reader.source,
        finished_ms: reader.finished_ms,
        position: reader.position,
        root_hash: reader.root_hash,
        references: janitor.references,
        statistics: reader.statistics,
        tags: reader.tags,
    };
    let (epoch, sequence) = manifest.position();
    Ok(Some(PointRow { writer: manifest.writer, epoch, sequence, pack, part, verified: true }))
}
