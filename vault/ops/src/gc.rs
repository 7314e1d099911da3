//! Garbage collection: condemn, wait, sweep.
//!
//! What always holds: nothing is deleted that a counted manifest references; a pack
//! is condemned by a tombstone first, and swept only when every writer that is not
//! fenced has published a manifest that saw it, its grace has passed by the
//! locations' clocks, and a fresh look finds no reference; the tombstone that says
//! it is gone stands on a quorum before the first shard goes, and at most n-k
//! shards go before another look. No lock, no conditional write, no single clock is
//! relied on. See docs/decisions/0014 for the argument, and tests/gc_model.rs for
//! the exhaustive one, with the same names.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::manifest::ManifestKind;
use vault_format::tombstone::{ManifestRef, TombstoneAction};
use vault_format::{PackId, names};

use crate::catalog::{Catalog, PackState};
use crate::census;
use crate::clocks;
use crate::commit;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Trust, list_shards};
use crate::janitor::Janitor;
use crate::look::{self, Head, Life, Look, Time};
use crate::marks::{Mark, Marks, SignedTombstone};
use crate::progress::Phase;
use crate::sweep;
use crate::tombstones::{self, Draft, manifest_ref};
use crate::vault::Vault;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How careful to be.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// A writer silent for so long is fenced, if anything waits for it.
    pub fence_after_ms: i64,
    /// How long a condemned pack stays, whoever has seen it. Its points had their own grace.
    pub pack_grace_ms: i64,
    /// Also condemn stored packs no manifest knows. Off by default: points imported on
    /// another host have no manifest, and this one would not know.
    pub orphans: bool,
    /// Also condemn what only manifests of revoked certificates need: its owner looked at
    /// them and wants nothing of it.
    pub revoked: bool,
    /// The owner confirmed that more than half of the vault goes.
    pub confirmed: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { fence_after_ms: 14 * DAY_MS, pack_grace_ms: DAY_MS, orphans: false, revoked: false, confirmed: false }
    }
}

/// Orphans stay so long after they were first seen, and after they were written.
const ORPHAN_MS: i64 = 7 * DAY_MS;
/// Heartbeats older than this that are no head may go.
const HEARTBEAT_MS: i64 = DAY_MS;

/// What a run would do now.
#[derive(Clone, Debug, Default)]
pub struct GcPlan {
    /// Packs nothing references: to be condemned.
    pub condemn: BTreeSet<PackId>,
    /// Of them those whose points were all purged: they need not wait for a grace.
    pub purged: BTreeSet<PackId>,
    /// Bytes of the shards of all that is condemned, anew or again, as listed.
    pub condemn_bytes: u64,
    /// Bytes of all shards of committed packs that nobody condemned before, as listed.
    pub total_bytes: u64,
    /// Condemned or swept packs that are referenced again.
    pub revive: BTreeSet<PackId>,
    /// Condemned packs that may go.
    pub sweep: BTreeSet<PackId>,
    /// Condemned packs that must wait, by why.
    pub waiting: BTreeMap<String, usize>,
    /// Condemned packs whose tombstone others may not have heeded: condemned again.
    pub again: BTreeSet<PackId>,
    /// Swept packs whose shards still stand somewhere.
    pub leftovers: BTreeSet<PackId>,
    /// Manifests that may go.
    pub manifests: Vec<ManifestRef>,
    /// Silent writers something waits for.
    pub fence: Vec<Head>,
    /// Whole manifests behind fences, to which the fences move first.
    pub unsettled: Vec<Head>,
    /// Why nothing is deleted now.
    pub stops: Vec<String>,
}

impl GcPlan {
    /// Nothing to do, now or later.
    pub fn is_empty(&self) -> bool {
        let packs = [&self.condemn, &self.revive, &self.sweep, &self.again, &self.leftovers];
        packs.iter().all(|packs| packs.is_empty())
            && self.manifests.is_empty()
            && self.waiting.is_empty()
            && self.unsettled.is_empty()
    }
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct GcReport {
    /// Packs condemned.
    pub condemned: usize,
    /// Packs brought back.
    pub revived: usize,
    /// Packs swept.
    pub swept: usize,
    /// Objects deleted.
    pub deleted: usize,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Manifests swept.
    pub manifests: usize,
    /// Writers fenced.
    pub fenced: usize,
    /// Condemned packs that must wait, by why.
    pub waiting: BTreeMap<String, usize>,
    /// What could not be done, and why; a later run tries again.
    pub failed: Vec<String>,
}

/// Says what a run would do, by this host's clock. Writes nothing to any location.
pub async fn plan(vault: &Vault, catalog: &Catalog, janitor: &Janitor, options: &GcOptions) -> Result<GcPlan> {
    vault.world.progress.begin(Phase::Opening);
    let look = look::take(vault, catalog, janitor, &Time::Host).await?;
    decide(&look, catalog, options, &Time::Host).await
}

/// Does all that is due.
pub async fn apply(vault: &Vault, catalog: &Catalog, janitor: &Janitor, options: &GcOptions) -> Result<GcReport> {
    vault.world.progress.begin(Phase::Opening);
    let vault = &janitor.enrol(vault).await?.reread().await;
    tombstones::check(&vault.marks)?;
    let mut report = GcReport::default();
    finish_what_was_begun(vault, &mut report).await?;
    clocks::tidy(vault).await;
    let time = Time::Locations(clocks::ask(vault).await);
    let sweeping = sweep::Sweeping { vault, catalog, janitor, time: &time };
    // Fences are settled before stops are judged: what counts again may fill a gap.
    let mut look = sweep::settled_look(&sweeping, &mut report).await?;
    let mut plan = decide(&look, catalog, options, &time).await?;
    refuse_stops(&plan)?;
    if !plan.fence.is_empty() {
        report.fenced += sweep::fence_at(&look.vault, janitor, &plan.fence).await?;
        look = sweep::settled_look(&sweeping, &mut report).await?;
        plan = decide(&look, catalog, options, &time).await?;
        refuse_stops(&plan)?;
    }
    remember_sound(catalog, &look.vault)?;
    refuse_too_much(&plan, options)?;
    let reason = |text: &str| text.to_owned();
    if !plan.revive.is_empty() {
        report.revived = plan.revive.len();
        let packs = plan.revive.iter().copied().collect();
        let draft = Draft {
            action: TombstoneAction::Restore,
            manifests: Vec::new(),
            packs,
            grace_ms: 0,
            reason: reason("referenced again"),
        };
        tombstones::write(&look.vault.reread().await, janitor, draft).await?;
    }
    let fresh: Vec<PackId> = plan.condemn.union(&plan.again).copied().collect();
    for (packs, grace_ms) in [
        (fresh.iter().copied().filter(|pack| !plan.purged.contains(pack)).collect::<Vec<_>>(), options.pack_grace_ms),
        (fresh.iter().copied().filter(|pack| plan.purged.contains(pack)).collect::<Vec<_>>(), 0),
    ] {
        if packs.is_empty() {
            continue;
        }
        report.condemned += packs.len();
        let draft = Draft {
            action: TombstoneAction::Trash,
            manifests: Vec::new(),
            packs,
            grace_ms,
            reason: reason("unreferenced"),
        };
        let vault = look.vault.reread().await;
        tombstones::write(&vault, janitor, draft).await?;
        remember_sound(catalog, &vault.reread().await)?;
    }
    sweeping.sweep(&plan.sweep, &mut report).await?;
    sweeping.delete_packs(&plan.leftovers, &mut report).await?;
    sweeping.sweep_manifests(plan.manifests, &mut report).await?;
    report.waiting = plan.waiting;
    Ok(report)
}

/// Tombstones and fences that a run that died left short of some domain. Of two
/// tombstones for one place the one on more domains keeps it; the other says what it
/// says from where it stands. Where neither reaches its quorum any more that is told;
/// nothing is deleted by either.
async fn finish_what_was_begun(vault: &Vault, report: &mut GcReport) -> Result<()> {
    let everywhere = vault.domains().len();
    let records = vault.marks.records();
    let tombstones = vault.marks.tombstones.iter().map(|signed| (signed.name(), &signed.bytes, signed.domains.len()));
    let fences = vault.marks.fences.all().iter();
    let fences = fences.map(|fence| (names::revocation(fence.hash), &fence.bytes, fence.domains.len()));
    for (name, bytes, domains) in tombstones.chain(fences) {
        if domains >= everywhere || records.get(&name) != Some(bytes) {
            continue;
        }
        if let Err(error) = commit::publish(vault, &name, bytes, None).await {
            if !vault.marks.tombstones.iter().any(|one| one.name() == name && vault.marks.has_rivals(one)) {
                return Err(error);
            }
            report.failed.push(error.to_string());
        }
    }
    Ok(())
}

fn refuse_stops(plan: &GcPlan) -> Result<()> {
    match plan.stops.first() {
        None => Ok(()),
        Some(why) => Err(OpsError::Unreachable {
            what: format!(
                "{why}. Nothing was deleted, since something that is not seen may need it. Backups and restores go on; \
                 bring it back, then: holdfast vault gc --apply"
            ),
        }),
    }
}

fn refuse_too_much(plan: &GcPlan, options: &GcOptions) -> Result<()> {
    if options.confirmed || plan.condemn_bytes * 2 <= plan.total_bytes {
        return Ok(());
    }
    Err(OpsError::Refused {
        what: format!(
            "{} of {} bytes would be condemned, more than half of the vault; nothing was. If that is meant, type the \
             vault's name: holdfast vault gc --apply --confirm NAME",
            plan.condemn_bytes, plan.total_bytes
        ),
    })
}

/// Condemnations that stand while no later epoch does: whoever says later that it saw
/// theirs, read them too.
fn remember_sound(catalog: &Catalog, vault: &Vault) -> Result<()> {
    for signed in &vault.marks.tombstones {
        if signed.body.action == TombstoneAction::Trash && vault.marks.stands(signed) && is_newest(&vault.marks, signed)
        {
            catalog.remember_sound(signed.hash, vault.world.now_ms())?;
        }
    }
    Ok(())
}

/// Whether no other tombstone has this epoch or a later one.
fn is_newest(marks: &Marks, signed: &SignedTombstone) -> bool {
    marks.tombstones.iter().all(|other| other.hash == signed.hash || other.body.gc_epoch < signed.body.gc_epoch)
}

/// Whether a manifest that saw the epoch of a tombstone must have heeded it: all
/// that carries this epoch or a later one was written after it. Its own janitor
/// writes one after the other; of others it takes this janitor's memory.
fn is_sound(catalog: &Catalog, marks: &Marks, signed: &SignedTombstone) -> Result<bool> {
    let after = |other: &SignedTombstone| {
        other.hash == signed.hash
            || other.body.gc_epoch < signed.body.gc_epoch
            || (other.janitor == signed.janitor && other.body.sequence > signed.body.sequence)
    };
    Ok(marks.stands(signed) && (marks.tombstones.iter().all(after) || catalog.is_sound(signed.hash)?))
}

/// Whether a pack must stay: a manifest that counts needs it, or one that does not count
/// any more and its owner did not give up.
fn is_held(look: &Look, options: &GcOptions, pack: PackId) -> bool {
    look.referenced.contains(&pack) || (!options.revoked && look.held_by_revoked.contains(&pack))
}

async fn decide(look: &Look, catalog: &Catalog, options: &GcOptions, time: &Time) -> Result<GcPlan> {
    let marks = &look.vault.marks;
    let mut plan = GcPlan { stops: look.stops.clone(), ..GcPlan::default() };
    plan.unsettled.clone_from(&look.unsettled);
    let (swept, _) = marks.swept_on_quorum();
    for (pack, mark) in marks.packs() {
        if look.referenced.contains(&pack) {
            plan.revive.insert(pack);
            continue;
        }
        match mark {
            Mark::Swept if swept.contains(&pack) => drop(plan.leftovers.insert(pack)),
            // Who said so found it due; the word must stand on a quorum before the deed.
            Mark::Swept => drop(plan.sweep.insert(pack)),
            Mark::Trashed { by, .. } => decide_condemned(look, catalog, time, (pack, by), &mut plan).await?,
        }
    }
    let unmarked = |pack: &&PackId| !is_held(look, options, **pack) && marks.pack(**pack).is_none();
    let of_revoked = look.held_by_revoked.iter().filter(|_| options.revoked);
    plan.condemn = look.committed.keys().chain(of_revoked).filter(unmarked).copied().collect();
    add_listed(look, catalog, options, time, &mut plan).await?;
    plan.purged = purged(look, plan.condemn.union(&plan.again).copied().collect());
    add_manifests(look, time, &mut plan).await;
    if !plan.waiting.is_empty() {
        plan.fence = silent_writers(look, catalog, options, time).await?;
    }
    Ok(plan)
}

/// A condemned pack that nothing references: may it go, or what does it wait for?
async fn decide_condemned(
    look: &Look,
    catalog: &Catalog,
    time: &Time,
    (pack, by): (PackId, &[vault_format::Hash]),
    plan: &mut GcPlan,
) -> Result<()> {
    let marks = &look.vault.marks;
    let mut why = None;
    for signed in by.iter().filter_map(|hash| marks.tombstone(*hash)) {
        if !is_sound(catalog, marks, signed)? {
            continue;
        }
        why = blocked_by(look, signed);
        if why.is_none() {
            break;
        }
    }
    let sound = by.iter().filter_map(|hash| marks.tombstone(*hash));
    let any_sound =
        sound.map(|signed| is_sound(catalog, marks, signed)).collect::<Result<Vec<bool>>>()?.contains(&true);
    if !any_sound {
        plan.again.insert(pack);
        return Ok(());
    }
    if why.is_none() && !time.has_passed(&look.vault, by).await {
        why = Some("its grace has not passed by the locations' clocks".to_owned());
    }
    match why {
        None => drop(plan.sweep.insert(pack)),
        Some(why) => *plan.waiting.entry(why).or_default() += 1,
    }
    Ok(())
}

/// The first writer whose newest manifest has not seen a tombstone's epoch.
fn blocked_by(look: &Look, signed: &SignedTombstone) -> Option<String> {
    let blocks = |head: &&Head| !head.fenced && head.gc_epoch_seen < signed.body.gc_epoch;
    let head = look.heads.iter().find(blocks)?;
    Some(format!("writer {} has made no backup since that could have seen it condemned", head.writer.short()))
}

/// What the listings add: bytes, leftovers that are really there, orphans.
async fn add_listed(look: &Look, catalog: &Catalog, options: &GcOptions, time: &Time, plan: &mut GcPlan) -> Result<()> {
    let holdings = list_shards(&look.vault, &look.vault.writer_ids()).await;
    plan.leftovers.retain(|pack| holdings.packs.contains_key(pack));
    if options.orphans {
        let fetcher =
            Fetcher::new(look.vault.world.clone(), holdings.clone(), Trust::Signed(look.vault.writers.clone()));
        for (&pack, held) in &holdings.packs {
            let unknown = !look.committed.contains_key(&pack)
                && !is_held(look, options, pack)
                && look.vault.marks.pack(pack).is_none()
                && catalog.pack(pack)?.is_none_or(|row| row.state == PackState::Committed);
            if !unknown {
                continue;
            }
            let now_ms = look.vault.world.now_ms();
            let seen_long = now_ms.saturating_sub(catalog.orphan_sight(pack, now_ms)?) >= ORPHAN_MS;
            let Ok(header) = fetcher.header(pack).await else { continue };
            let hint = (header.h0().epoch, header.h0().sequence);
            let past = look.heads.iter().any(|head| head.writer == header.h0().writer && head.position > hint);
            let written_long = match (time, held.first()) {
                (Time::Locations(clocks), Some(shard)) => clocks.age_ms(&look.vault, &shard.name).await >= ORPHAN_MS,
                (Time::Host, Some(_)) => true,
                (_, None) => false,
            };
            if past && seen_long && written_long {
                plan.condemn.insert(pack);
            }
        }
    }
    let bytes = |pack: &PackId| -> u64 {
        let held = holdings.packs.get(pack);
        held.map_or(0, |held| held.iter().filter_map(|holding| holding.bytes).sum())
    };
    // Measured by what nobody condemned yet: many small steps are one large one.
    let fresh: BTreeSet<PackId> = plan.condemn.union(&plan.again).copied().collect();
    let unmarked = look.committed.keys().filter(|pack| look.vault.marks.pack(**pack).is_none()).copied();
    plan.condemn_bytes = fresh.iter().map(bytes).sum();
    plan.total_bytes = unmarked.collect::<BTreeSet<_>>().union(&fresh).map(bytes).sum();
    Ok(())
}

/// Packs that only purged points needed.
fn purged(look: &Look, packs: BTreeSet<PackId>) -> BTreeSet<PackId> {
    let mut by: BTreeMap<PackId, bool> = BTreeMap::new();
    for known in &look.known {
        let purged = known.life == Life::Expired { purged: true };
        for pack in known.part.iter().flat_map(|part| &part.references) {
            *by.entry(*pack).or_insert(true) &= purged;
        }
    }
    packs.into_iter().filter(|pack| by.get(pack) == Some(&true)).collect()
}

/// Manifests of expired points whose packs are all gone, and old heartbeats. Never a
/// writer's newest: whoever reads the chain begins with it.
async fn add_manifests(look: &Look, time: &Time, plan: &mut GcPlan) {
    for known in look.known.iter().filter(|known| !look.is_head(&known.manifest)) {
        let manifest = &known.manifest;
        let gone = manifest.body.packs.iter().all(|pack| look.vault.marks.is_swept(pack.pack));
        let due = match (known.life, manifest.body.kind) {
            (Life::Expired { .. }, _) => gone,
            (Life::Live, ManifestKind::Heartbeat) => {
                gone && time.manifest_age_ms(&look.vault, manifest.writer, manifest.position()).await > HEARTBEAT_MS
            }
            (Life::Live | Life::Trash, _) => false,
        };
        if due {
            plan.manifests.push(manifest_ref(manifest));
        }
    }
}

/// Writers that something waits for, and that were not heard of for long.
async fn silent_writers(look: &Look, catalog: &Catalog, options: &GcOptions, time: &Time) -> Result<Vec<Head>> {
    let mut oldest = u64::MAX;
    for (_, mark) in look.vault.marks.packs() {
        let Mark::Trashed { by, .. } = mark else { continue };
        for signed in by.iter().filter_map(|hash| look.vault.marks.tombstone(*hash)) {
            if is_sound(catalog, &look.vault.marks, signed)? {
                oldest = oldest.min(signed.body.gc_epoch);
            }
        }
    }
    let mut silent = Vec::new();
    for head in look.heads.iter().filter(|head| !head.fenced && head.gc_epoch_seen < oldest) {
        if time.manifest_age_ms(&look.vault, head.writer, head.position).await >= options.fence_after_ms {
            silent.push(head.clone());
        }
    }
    Ok(silent)
}

/// What the trash holds, as far as it shows without a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trash {
    /// Points in it.
    pub points: usize,
    /// Packs that wait to be swept.
    pub packs: usize,
    /// Bytes of shards that wait to be swept, or that points in the trash first committed.
    pub bytes: u64,
    /// When the first of it may go, by the clock of who put it there; milliseconds since 1970.
    pub next_ms: Option<i64>,
}

/// Counts the trash from a census. Keyless.
pub fn trash_bytes(census: &census::Census) -> Trash {
    let marks = &census.marks;
    let mut trash = Trash::default();
    let mut packs = BTreeSet::new();
    let mut note = |by: &[vault_format::Hash]| {
        let until = by.iter().filter_map(|hash| marks.tombstone(*hash)).map(|signed| signed.body.delete_after_ms).max();
        trash.next_ms = trash.next_ms.into_iter().chain(until).min();
    };
    for ((writer, position, hash), mark) in marks.manifests() {
        let Mark::Trashed { by, .. } = mark else { continue };
        // What is pinned waits for ever.
        if marks.pins.last_word([(writer, position, hash)]) != Some(true) {
            note(by);
        }
        trash.points += 1;
        let chain = census.chains.get(&writer);
        let manifest = chain.and_then(|chain| chain.all().into_iter().find(|manifest| manifest.hash == hash));
        let first = manifest.filter(|manifest| manifest.position() == position);
        packs.extend(first.iter().flat_map(|manifest| manifest.body.packs.iter().map(|pack| pack.pack)));
    }
    for (pack, mark) in marks.packs() {
        let Mark::Trashed { by, .. } = mark else { continue };
        note(by);
        trash.packs += 1;
        packs.insert(pack);
    }
    let bytes = |pack: &PackId| -> u64 {
        let held = census.holdings.packs.get(pack).map(Vec::as_slice).unwrap_or_default();
        held.iter().map(|holding| holding.bytes.unwrap_or_else(|| census.shard_bytes(*pack))).sum()
    };
    trash.bytes = packs.iter().map(bytes).sum();
    trash
}
