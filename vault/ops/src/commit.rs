//! Writing a manifest: the moment a point comes to be.
//!
//! What always holds: a manifest is written under its place in the chain with
//! create; it counts once it stands, read back, on a majority of the domains and
//! in at least d + 1 of them.

use std::collections::{BTreeMap, BTreeSet};

use keys::files::WriterKey;
use vault_format::envelope::RecordKind;
use vault_format::manifest::{JanitorPart, Manifest, ManifestKind, PackRef, ReaderPart, WriterPart};
use vault_format::point::PointRecord;
use vault_format::sealed::SealedField;
use vault_format::{Hash, PackId};

use crate::backup::absent_names;
use crate::catalog::{Catalog, PackState};
use crate::create::write_record;
use crate::error::{OpsError, Result};
use crate::heads::{self, SignedManifest};
use crate::location::Location;
use crate::marks::Marks;
use crate::placement::write_quorum;
use crate::rebuild::{self, Next};
use crate::records;
use crate::step::Step;
use crate::vault::Vault;
use crate::watch;

/// What a manifest is made from.
pub(crate) struct Commit<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) kind: ManifestKind,
    pub(crate) keys: &'a WriterKey,
    pub(crate) place: Next,
    pub(crate) record: &'a PointRecord,
    pub(crate) record_hash: Hash,
    pub(crate) point_pack: PackId,
    pub(crate) part: &'a WriterPart,
    pub(crate) packs: &'a [PackRef],
    /// Packs stored or spooled that wait for a later manifest.
    pub(crate) pending: Vec<PackId>,
    /// Newest garbage-collection epoch seen before the run.
    pub(crate) gc_epoch_seen: u64,
    /// Pinned from the beginning.
    pub(crate) pinned: bool,
}

/// Domains a manifest needs.
pub(crate) fn domains_needed(vault: &Vault) -> usize {
    let domains = vault.domains().len();
    write_quorum(domains).max(usize::from(vault.survive()) + 1).min(domains)
}

/// The body of a manifest of no point: its writer is there, has seen this much, and these packs wait for a point.
/// They count as referenced. One that was swept is gone: to name it would make a janitor
/// bring back what no location holds.
pub(crate) fn heartbeat(
    vault: &Vault,
    catalog: &Catalog,
    marks: &Marks,
    next: &Next,
    gc_epoch_seen: u64,
) -> Result<Manifest> {
    let mut waiting = catalog.packs(PackState::Stored)?;
    waiting.extend(catalog.packs(PackState::Spooled)?);
    let mut pending: Vec<PackId> =
        waiting.into_iter().map(|row| row.pack).filter(|pack| !marks.is_swept(*pack)).collect();
    pending.sort_unstable();
    Ok(Manifest {
        epoch: next.epoch,
        sequence: next.sequence,
        previous: next.previous,
        kind: ManifestKind::Heartbeat,
        vault_record: vault.record_hash,
        layout: vault.layout_hash,
        packs: Vec::new(),
        point_record: None,
        point_pack: None,
        janitor: None,
        reader: None,
        own: None,
        gc_epoch_seen,
        pending,
        journal: Vec::new(),
    })
}

/// Signs a manifest for its place, and reads back what was signed. A place behind a
/// fence is as good as any while it waits in the spool: it is signed again when it
/// is delivered.
pub(crate) fn sign(vault: &Vault, keys: &WriterKey, body: &Manifest) -> Result<SignedManifest> {
    let bytes = keys::record::sign(RecordKind::Manifest, vault.id, &vault_format::encode(body), &keys.signing);
    heads::verify(&vault.unfenced(), keys.writer, (body.epoch, body.sequence), bytes)
        .map_err(|why| OpsError::corrupt("the manifest just signed", why))
}

/// Writes a signed manifest to every location, once what it rests on stands on as
/// many domains as it must itself. Returns who is owed a copy, and why.
pub(crate) async fn publish_manifest(
    vault: &Vault,
    catalog: &Catalog,
    manifest: &SignedManifest,
) -> Result<Vec<(String, String)>> {
    let mut owed = BTreeMap::new();
    for (name, bytes) in records::founding(vault) {
        owed.extend(publish(vault, &name, &bytes, None).await?);
    }
    vault.world.reached(Step::CommitFoundingStands);
    rebuild::remember_signed(catalog, manifest.hash)?;
    owed.extend(publish(vault, &manifest.name(), &manifest.bytes, Some(Step::CommitManifestWritten)).await?);
    let owed: Vec<(String, String)> = owed.into_iter().collect();
    watch::took(vault, catalog, manifest, &owed)?;
    catalog.set_meta(PUBLISHED, &vault.world.now_ms().to_le_bytes())?;
    Ok(owed)
}

/// When this writer's newest manifest stood on its quorum: a name in the catalog.
const PUBLISHED: &str = "head.published";

/// When a manifest of this host last came to stand on its quorum, if the catalog knows.
pub(crate) fn last_published(catalog: &Catalog) -> Result<Option<i64>> {
    let bytes = catalog.meta(PUBLISHED)?;
    Ok(bytes.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?))))
}

/// Writes a record to every location that lacks it; an error if it misses its
/// quorum. Also completes a manifest that an earlier run could not. Returns who is
/// owed a copy, and why. `each` is reached with every location that has it.
pub(crate) async fn publish(
    vault: &Vault,
    name: &str,
    bytes: &[u8],
    each: Option<Step>,
) -> Result<Vec<(String, String)>> {
    let locations: Vec<&Location> = vault.writable().collect();
    let writes = locations.iter().map(|at| async move {
        write_record(at, name, bytes).await?;
        if let Some(step) = each {
            vault.world.reached(step);
        }
        Ok::<(), OpsError>(())
    });
    let outcomes = futures::future::join_all(writes).await;
    let (mut domains, mut owed) = (BTreeSet::new(), Vec::new());
    for (location, outcome) in locations.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => {
                domains.insert(location.domain);
            }
            Err(error) => owed.push((location.name.clone(), error.to_string())),
        }
    }
    let blank = vault.locations.iter().filter(|location| location.blank);
    owed.extend(blank.map(|location| (location.name.clone(), "it is empty: not mounted, or a new disk".to_owned())));
    owed.extend(vault.absent.iter().map(|gone| (gone.name.clone(), gone.why.clone())));
    let need = domains_needed(vault);
    if domains.len() >= need {
        return Ok(owed);
    }
    let whys: Vec<String> = owed.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Err(OpsError::Unreachable {
        what: format!(
            "not durable: the record {name} stands in {} of the {need} domains it needs ({}). The packs are stored. \
             Bring back {} and run the same command again",
            domains.len(),
            whys.join("; "),
            absent_names(vault)
        ),
    })
}

/// The body of a point's manifest.
pub(crate) fn manifest(commit: &Commit<'_>) -> Result<Manifest> {
    let (record, part, vault) = (commit.record, commit.part, commit.vault);
    let mut rng = vault.world.rng();
    let janitor = JanitorPart {
        point: part.point,
        references: part.references.clone(),
        source_kind: part.source_kind,
        source: record.source.clone(),
        started_ms: record.started_ms,
        finished_ms: record.finished_ms,
        tags: record.tags.clone(),
        pinned: commit.pinned,
    };
    let reader = ReaderPart {
        point: part.point,
        source_kind: part.source_kind,
        source: record.source.clone(),
        host: record.host.clone(),
        started_ms: record.started_ms,
        finished_ms: record.finished_ms,
        tags: record.tags.clone(),
        root_hash: part.root_hash,
        position: part.position,
        statistics: record.statistics.clone(),
    };
    let newest_reader = commit.keys.reader.last().ok_or_else(|| OpsError::Key {
        what: "the writer key file names no reader to seal to; issue a new writer key".to_owned(),
    })?;
    let mut seal = |field, key, plain: &[u8]| keys::wrap::seal_field(field, vault.id, key, plain, &mut rng);
    Ok(Manifest {
        epoch: commit.place.epoch,
        sequence: commit.place.sequence,
        previous: commit.place.previous,
        kind: commit.kind,
        vault_record: vault.record_hash,
        layout: vault.layout_hash,
        packs: commit.packs.to_vec(),
        point_record: Some(commit.record_hash),
        point_pack: Some(commit.point_pack),
        janitor: Some(seal(SealedField::ManifestJanitor, &commit.keys.janitor, &vault_format::encode(&janitor))),
        reader: Some(seal(SealedField::ManifestReader, newest_reader, &vault_format::encode(&reader))),
        own: Some(commit.keys.index.seal_own(vault.id, &vault_format::encode(part))),
        gc_epoch_seen: commit.gc_epoch_seen,
        pending: commit.pending.clone(),
        journal: Vec::new(),
    })
}
