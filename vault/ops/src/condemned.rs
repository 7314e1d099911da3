//! The writer's side of garbage collection: what it must not lean on, and what it
//! may say it has seen.
//!
//! What always holds: a run reads the marks once before it begins and again before
//! its manifest; no pack of the manifest is marked in either; the epoch it says it
//! has seen is that of the first reading, so that whatever stood by then was heeded
//! by the second; a run whose epoch was closed meanwhile, or one of whose packs was
//! swept before its manifest stood, reports nothing; what follows a closed epoch
//! opens with a heartbeat that stands before anything is read, and builds on what
//! counts. See docs/decisions/0014, where each of these closes a hole.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys::files::WriterKey;
use vault_format::PackId;

use crate::catalog::Catalog;
use crate::commit;
use crate::error::{OpsError, Result};
use crate::heads::{self, Chain, Depth, SignedManifest};
use crate::marks::Marks;
use crate::rebuild::{self, Next, remember_head};
use crate::step::Step;
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
/// goes. `vault` is the one the chain was followed in: it heeds fences.
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

/// A writer's place, and what it was found by.
pub(crate) struct Placed {
    /// What tombstones said just before.
    pub(crate) marks: Arc<Marks>,
    /// Its chain as far as it counts.
    pub(crate) chain: Chain,
    /// Where its next manifest goes.
    pub(crate) next: Next,
}

impl Placed {
    /// The newest epoch a manifest that leans on nothing may say was seen: never less
    /// than the one before it said.
    pub(crate) fn seen_epoch(&self) -> u64 {
        head_seen(&self.chain).max(self.marks.seen_epoch())
    }
}

/// Finds where a writer's next manifest goes. Fences are read first and heeded by
/// all that follows: it builds on the newest manifest that counts.
pub(crate) async fn next_place(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog) -> Result<Placed> {
    let own = vault.reread().await.heeding();
    let chain = heads::chain(&own, keys.writer, Depth::Head).await?;
    let next = rebuild::follow_head(&own, keys, catalog, &chain).await?;
    let next = follow_fences(&own, keys, catalog, &chain, next).await?;
    Ok(Placed { marks: own.marks, chain, next })
}

/// Where a writer goes on whose epoch was closed, or who is in a new one for another
/// reason (its catalog is older than its chain): in a new one, which it opens. A janitor
/// waits for, and closes, the newest epoch that it sees: it must see this one before
/// anything leans on what may be condemned.
async fn follow_fences(
    vault: &Vault,
    keys: &WriterKey,
    catalog: &Catalog,
    chain: &Chain,
    mut next: Next,
) -> Result<Next> {
    let fences = &vault.marks.fences;
    let left = chain.head().map_or(next.epoch, |head| head.body.epoch);
    if next.epoch <= left && !fences.names(keys.writer, left) && !fences.warn(keys.writer, next.position()) {
        return Ok(next);
    }
    let closed = fences.newest_closed(keys.writer).unwrap_or_default();
    if next.epoch <= closed {
        (next.epoch, next.sequence) = (closed + 1, 1);
    }
    open_epoch(vault, keys, catalog, &next, head_seen(chain).max(vault.marks.seen_epoch())).await
}

/// Reads fences and tombstones once a manifest stands. Behind a fence it counts for
/// nobody. A sweep writes its tombstone first and looks at manifests then, a writer
/// the other way round: one of the two sees the other. A reading that could miss
/// what stands on a quorum is no answer.
pub(crate) async fn check_standing(
    vault: &Vault,
    manifest: &SignedManifest,
    needed: &[PackId],
) -> std::result::Result<(), Halt> {
    let marks = vault.reread().await.marks;
    if !marks.covered {
        let silent: Vec<&str> = marks.silent.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Halt::Error(OpsError::Unreachable {
            what: format!(
                "the point's manifest stands, and too few domains answer to know whether garbage collection closed \
                 this host's chain before it; it is not reported. Bring back {} and run the same command again",
                silent.join(", ")
            ),
        }));
    }
    if marks.fences.warn(manifest.writer, manifest.position()) {
        return Err(Halt::Hit(Hit::Fenced));
    }
    // Its owner may have let it go since: then nothing of it is missed.
    if marks.manifest(manifest.writer, manifest.position(), manifest.hash).is_some() {
        return Ok(());
    }
    let swept: BTreeSet<PackId> = needed.iter().filter(|pack| marks.is_swept(**pack)).copied().collect();
    if swept.is_empty() { Ok(()) } else { Err(Halt::Hit(Hit::Packs(swept))) }
}

/// The first manifest of a new epoch is a heartbeat: a janitor that sees it waits
/// for this writer again, and one that does not is read by all that follows.
async fn open_epoch(vault: &Vault, keys: &WriterKey, catalog: &Catalog, next: &Next, seen: u64) -> Result<Next> {
    let body = commit::heartbeat(vault, catalog, &vault.marks, next, seen)?;
    let signed = commit::sign(vault, keys, &body)?;
    commit::publish_manifest(vault, catalog, &signed).await?;
    vault.world.reached(Step::FenceEpochOpened);
    remember_head(catalog, signed.position(), signed.hash)?;
    Ok(Next::after(signed.position(), signed.hash))
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
