//! Forgetting: which points go into the trash, by the owner's word or by retention.
//!
//! What always holds: a plan comes first; forgetting deletes nothing, a tombstone
//! puts points into the trash and they stay restorable for the grace; retention
//! keeps the newest few of each source whatever its rules and whatever the clocks
//! say, and never all but none; what would forget more than half wants the owner's
//! confirmation.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::tombstone::TombstoneAction;
use vault_format::{PointId, WriterId};

use crate::catalog::Catalog;
use crate::error::{OpsError, Result};
use crate::janitor::Janitor;
use crate::look::{self, Known, Life, Look, Time};
use crate::points::PointName;
use crate::retention::{Claimed, Dated, Keep, honest_times, kept};
use crate::tombstones::{self, Draft, Written, manifest_ref};
use crate::vault::Vault;

/// Least time in the trash.
pub const GRACE_MS_MIN: i64 = 24 * 3_600_000;
/// Usual time in the trash.
pub const GRACE_MS_DEFAULT: i64 = 7 * GRACE_MS_MIN;
/// Points of each source that retention never forgets.
pub const NEWEST_DEFAULT: usize = 3;

/// Rules for one source, or for all that no other rule names.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The source; all when `None`.
    pub source: Option<String>,
    /// What is kept.
    pub keep: Keep,
}

/// A point as a plan shows it.
#[derive(Clone, Debug)]
pub struct PointLine {
    /// The point.
    pub point: PointId,
    /// Who made it.
    pub writer: WriterId,
    /// Its source.
    pub source: String,
    /// When, as far as it can be believed; milliseconds since 1970.
    pub time_ms: i64,
    /// Its tags.
    pub tags: Vec<String>,
    known: Known,
}

/// What would be forgotten.
#[derive(Clone, Debug, Default)]
pub struct ForgetPlan {
    /// Into the trash, oldest first.
    pub forget: Vec<PointLine>,
    /// Kept, oldest first.
    pub keep: Vec<PointLine>,
    /// Of the kept ones, those that only the protection of the newest keeps.
    pub protected: usize,
    /// Why the list may not be whole.
    pub remarks: Vec<String>,
}

/// All points a janitor can read, live and in the trash, in the order of their times.
pub(crate) fn lines(look: &Look, catalog: &Catalog, life: impl Fn(Life) -> bool) -> Result<Vec<PointLine>> {
    let now_ms = look.vault.world.now_ms();
    let mut chains: BTreeMap<WriterId, Vec<&Known>> = BTreeMap::new();
    for known in look.known.iter().filter(|known| known.part.is_some()) {
        chains.entry(known.manifest.writer).or_default().push(known);
    }
    let mut lines = Vec::new();
    for (writer, chain) in chains {
        let mut claims = Vec::new();
        for known in &chain {
            let claimed_ms = known.part.as_ref().map_or(0, |part| part.finished_ms);
            claims.push(Claimed { claimed_ms, first_seen_ms: catalog.first_sight(known.manifest.hash, now_ms)? });
        }
        for (known, time_ms) in chain.into_iter().zip(honest_times(&claims)) {
            let Some(part) = known.part.as_ref().filter(|_| life(known.life)) else { continue };
            lines.push(PointLine {
                point: part.point,
                writer,
                source: part.source.clone(),
                time_ms,
                tags: part.tags.clone(),
                known: known.clone(),
            });
        }
    }
    // Of points at one time the later in its chain is the newer.
    lines.sort_by_key(|line| (line.time_ms, line.known.manifest.position()));
    Ok(lines)
}

/// Plans by rules: each source by its own, else by the rule for all; a source no
/// rule names is left alone.
pub async fn plan(
    vault: &Vault,
    catalog: &Catalog,
    janitor: &Janitor,
    rules: &[Rule],
    newest: usize,
) -> Result<ForgetPlan> {
    if rules.iter().any(|rule| rule.keep.is_empty()) {
        return Err(OpsError::Refused {
            what: "a rule that keeps nothing would forget everything; nothing was changed. Say what to keep, as in \
                   --keep-daily 14 --keep-weekly 8, or name the points to forget"
                .to_owned(),
        });
    }
    let look = look::take(vault, catalog, janitor, &Time::Host).await?;
    let mut plan = ForgetPlan { remarks: look.stops.clone(), ..ForgetPlan::default() };
    let mut sources: BTreeMap<(WriterId, String), Vec<PointLine>> = BTreeMap::new();
    for line in lines(&look, catalog, |life| life == Life::Live)? {
        sources.entry((line.writer, line.source.clone())).or_default().push(line);
    }
    for ((_, source), lines) in sources {
        let own = rules.iter().find(|rule| rule.source.as_ref() == Some(&source));
        let Some(rule) = own.or_else(|| rules.iter().find(|rule| rule.source.is_none())) else {
            plan.keep.extend(lines);
            continue;
        };
        let (stay, protected) = stays(&lines, &rule.keep, newest);
        plan.protected += protected;
        for (at, line) in lines.into_iter().enumerate() {
            if stay.contains(&at) { &mut plan.keep } else { &mut plan.forget }.push(line);
        }
    }
    plan.forget.sort_by_key(|line| line.time_ms);
    plan.keep.sort_by_key(|line| line.time_ms);
    Ok(plan)
}

/// What the rules keep of one source's points; the newest of its chain are added,
/// whatever times they claim. At least one always stays.
fn stays(lines: &[PointLine], keep: &Keep, newest: usize) -> (BTreeSet<usize>, usize) {
    let dated: Vec<Dated> = lines
        .iter()
        .map(|line| Dated {
            time_ms: line.time_ms,
            tags: line.tags.clone(),
            pinned: line.known.part.as_ref().is_some_and(|part| part.pinned),
        })
        .collect();
    let mut stay = kept(&dated, keep);
    let by_rules = stay.len();
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(lines[at].known.manifest.position()));
    stay.extend(order.into_iter().take(newest.max(1)));
    let protected = stay.len() - by_rules;
    (stay, protected)
}

/// Plans to forget points by name.
pub async fn plan_named(
    vault: &Vault,
    catalog: &Catalog,
    janitor: &Janitor,
    names: &[PointName],
) -> Result<ForgetPlan> {
    let look = look::take(vault, catalog, janitor, &Time::Host).await?;
    let mut plan = ForgetPlan { remarks: look.stops.clone(), ..ForgetPlan::default() };
    let lines = lines(&look, catalog, |life| life == Life::Live)?;
    let ids: Vec<PointId> = lines.iter().map(|line| line.point).collect();
    let chosen: BTreeSet<usize> = names.iter().map(|name| name.pick(&ids)).collect::<Result<_>>()?;
    for (at, line) in lines.into_iter().enumerate() {
        if chosen.contains(&at) { &mut plan.forget } else { &mut plan.keep }.push(line);
    }
    Ok(plan)
}

/// Puts the planned points into the trash. `confirmed` if the owner typed the
/// vault's name: needed where more than half of all points would go.
pub async fn apply(
    vault: &Vault,
    janitor: &Janitor,
    plan: &ForgetPlan,
    grace_ms: i64,
    confirmed: bool,
) -> Result<Option<Written>> {
    if plan.forget.is_empty() {
        return Ok(None);
    }
    if !confirmed && plan.forget.len() > plan.keep.len() {
        return Err(OpsError::Refused {
            what: format!(
                "{} of {} points would be forgotten, more than half; nothing was. If that is meant, type the vault's \
                 name: --confirm NAME",
                plan.forget.len(),
                plan.forget.len() + plan.keep.len()
            ),
        });
    }
    let vault = janitor.enrol(vault).await?.reread().await;
    let draft = Draft {
        action: TombstoneAction::Trash,
        manifests: plan.forget.iter().map(|line| manifest_ref(&line.known.manifest)).collect(),
        packs: Vec::new(),
        grace_ms: grace_ms.max(GRACE_MS_MIN),
        reason: "forgotten".to_owned(),
    };
    tombstones::write(&vault, janitor, draft).await.map(Some)
}

impl PointLine {
    /// Its manifest and what the janitor reads of it.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }
}
