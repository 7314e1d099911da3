//! The writer's side of garbage collection: what it must not lean on, and what it
//! may say it has seen.
//!
//! What always holds: a run reads the marks once before it begins and again before
//! its manifest; no pack of the manifest is marked in either; the epoch it says it
//! has seen is that of the first reading, so that whatever stood by then was heeded
//! by the second; a run whose epoch was closed meanwhile reports nothing; a new
//! epoch opens with a heartbeat that stands before anything of it is read. See
//! docs/decisions/0014, where each of these closes a hole.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys::files::WriterKey;
use vault_format::envelope::RecordKind;
use vault_format::manifest::{Manifest, ManifestKind};
use vault_format::{PackId, names};

use crate::catalog::{Catalog, PackState};
use crate::commit;
use crate::error::{OpsError, Result};
use crate::heads::{Chain, SignedManifest};
use crate::marks::Marks;
use crate::rebuild::{Next, remember_head};
use crate::vault::Vault;

/// Times a run is repeated from the source before it gives up.
pub(crate) const ATTEMPTS_MAX: usize = 3;

/// What a run knows of condemned packs.
pub(crate) struct Watch {
    /// The reading before the run.
    first: Arc<Marks>,
    /// What the chain's newest manifest says was seen.
    head_seen: u64,
    /// Packs that earlier attempts of this run met.
    barred: BTreeSet<PackId>,
}

/// Why a run must be repeated.
pub(crate) enum Hit {
    /// These packs were condemned while it ran.
    Packs(BTreeSet<PackId>),
    /// Its epoch was closed: this host was taken for dead.
    Fenced,
}

/// Why an attempt made no point.
pub(crate) enum Halt {
    /// For good.
    Error(OpsError),
    /// It may be repeated.
    Hit(Hit),
}

impl From<OpsError> for Halt {
    fn from(error: OpsError) -> Self {
        Self::Error(error)
    }
}

impl Hit {
    /// Packs the next attempt must do without.
    pub(crate) fn packs(self) -> BTreeSet<PackId> {
        match self {
            Self::Packs(packs) => packs,
            Self::Fenced => BTreeSet::new(),
        }
    }
}

/// Begins a run: reads the marks, forgets what was swept, follows fences into a new
/// epoch if the locations can take its first manifest. Returns where the manifest
/// goes.
pub(crate) async fn begin(
    vault: &Vault,
    keys: &WriterKey,
    catalog: &mut Catalog,
    chain: &Chain,
    next: Next,
    (barred, may_open): (&BTreeSet<PackId>, bool),
) -> Result<(Watch, Next)> {
    let next = if may_open { follow_fences(vault, keys, catalog, chain, next).await? } else { next };
    let first = vault.reread().await.marks;
    forget_swept(catalog, &first)?;
    let head_seen = head_seen(chain);
    Ok((Watch { first, head_seen, barred: barred.clone() }, next))
}

fn head_seen(chain: &Chain) -> u64 {
    chain.head().map_or(0, |head| head.body.gc_epoch_seen)
}

/// Where a writer goes on whose epoch was closed: in a new one, which it opens.
pub(crate) async fn follow_fences(
    vault: &Vault,
    keys: &WriterKey,
    catalog: &Catalog,
    chain: &Chain,
    mut next: Next,
) -> Result<Next> {
    let marks = vault.reread().await.marks;
    if !marks.fences.warn(keys.writer, next.position()) {
        return Ok(next);
    }
    let closed = marks.fences.newest_closed(keys.writer).unwrap_or(next.epoch);
    (next.epoch, next.sequence) = (next.epoch.max(closed) + 1, 1);
    open_epoch(vault, keys, catalog, &next, head_seen(chain).max(marks.seen_epoch())).await
}

/// Reads the fences once a manifest stands: if its epoch was closed before it, it
/// counts for nobody.
pub(crate) async fn check_fences(vault: &Vault, manifest: &SignedManifest) -> std::result::Result<(), Hit> {
    let fences = &vault.reread().await.marks.fences;
    if fences.warn(manifest.writer, manifest.position()) { Err(Hit::Fenced) } else { Ok(()) }
}

/// The first manifest of a new epoch is a heartbeat: a janitor that sees it waits
/// for this writer again, and one that does not is read by all that follows.
async fn open_epoch(vault: &Vault, keys: &WriterKey, catalog: &Catalog, next: &Next, seen: u64) -> Result<Next> {
    let mut pending = catalog.packs(PackState::Stored)?;
    pending.extend(catalog.packs(PackState::Spooled)?);
    let pending = pending.into_iter().map(|row| row.pack).collect();
    let body = Manifest {
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
        gc_epoch_seen: seen,
        pending,
        journal: Vec::new(),
    };
    let bytes = keys::record::sign(RecordKind::Manifest, vault.id, &vault_format::encode(&body), &keys.signing);
    commit::publish(vault, &names::manifest(keys.writer, next.epoch, next.sequence), &bytes, None).await?;
    let hash = keys::record::hash(&bytes);
    remember_head(catalog, next.position(), hash)?;
    Ok(Next::after(next.position(), hash))
}

/// Packs and points that are gone lead nowhere any more.
fn forget_swept(catalog: &mut Catalog, marks: &Marks) -> Result<()> {
    let swept: Vec<PackId> = marks.packs().filter(|(pack, _)| marks.is_swept(*pack)).map(|(pack, _)| pack).collect();
    for pack in swept {
        if catalog.pack(pack)?.is_some() {
            catalog.drop_pack(pack)?;
        }
    }
    for point in catalog.points()? {
        if marks.is_place_swept(point.writer, (point.epoch, point.sequence)) {
            catalog.drop_point(point.part.point, point.writer)?;
        }
    }
    Ok(())
}

impl Watch {
    /// Whether the reading shows less than this writer's own newest manifest saw: a
    /// location hides tombstones, so nothing of before may be leaned on.
    pub(crate) fn is_behind(&self) -> bool {
        self.first.newest_epoch() < self.head_seen
    }

    /// Whether a new point may lean on a pack of an earlier run.
    pub(crate) fn allows(&self, pack: PackId) -> bool {
        !self.is_behind() && !self.first.is_condemned(pack) && !self.barred.contains(&pack)
    }

    /// Reads the marks again, before the manifest is written. Returns the epoch the
    /// manifest may say was seen, or why the run must be repeated.
    pub(crate) async fn check(&self, vault: &Vault, needed: &[PackId]) -> std::result::Result<u64, Hit> {
        let again = vault.reread().await.marks;
        let condemned = |pack: &&PackId| again.is_condemned(**pack) || self.first.is_condemned(**pack);
        let hits: BTreeSet<PackId> = needed.iter().filter(condemned).copied().collect();
        if !hits.is_empty() {
            return Err(Hit::Packs(hits));
        }
        let seen = if again.confirmed && again.holes.is_empty() { self.first.seen_epoch() } else { 0 };
        Ok(seen.max(self.head_seen))
    }
}

/// What a run says that was repeated too often.
pub(crate) fn given_up() -> OpsError {
    OpsError::Unreachable {
        what: format!(
            "packs this backup needs were condemned by the garbage collection {ATTEMPTS_MAX} times while it ran; \
             nothing was reported durable and nothing that was is lost. Run the same command again"
        ),
    }
}
