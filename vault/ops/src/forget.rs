//! Forgetting: which points go into the trash, by the owner's word or by retention.
//!
//! What always holds: a plan comes first; forgetting deletes nothing, a tombstone
//! puts points into the trash and they stay restorable for the grace; retention
//! keeps the newest few of each source whatever its rules and whatever the clocks
//! say, and never all but none; what is pinned is kept, and refused by name; what would forget more than half wants the owner's
//! confirmation.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::certificate::Role;
use vault_format::manifest::JanitorPart;
use vault_format::tombstone::{ManifestRef, TombstoneAction};
use vault_format::{PointId, WriterId};

use crate::catalog::Catalog;
use crate::error::{OpsError, Result};
use crate::heads::Position;
use crate::janitor::Janitor;
use crate::look::{self, Known, Life, Look, Time};
use crate::pins::refuse_pinned;
use crate::points::PointName;
use crate::retention::{Claimed, Dated, Keep, agreeing, honest_times, kept};
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
    /// The source; all that no other rule names when `None`.
    pub source: Option<String>,
    /// Whose source; any writer's when `None`.
    pub writer: Option<WriterId>,
    /// What is kept.
    pub keep: Keep,
}

impl Rule {
    fn names(&self, writer: WriterId, source: &str) -> bool {
        self.source.as_deref() == Some(source) && self.writer.is_none_or(|own| own == writer)
    }
}

/// A point as a plan shows it, whoever vouches for it.
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
    /// Kept whatever the rules say.
    pub pinned: bool,
    /// Its writer's own time, if it agrees with those of most others.
    agreed_ms: Option<i64>,
    /// Its manifests: more than one where a run was repeated, or an import vouched for it.
    known: Vec<Known>,
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
        let agree = agreeing(&claims);
        for ((at, known), time_ms) in chain.into_iter().enumerate().zip(honest_times(&claims)) {
            let Some(part) = known.part.as_ref().filter(|_| life(known.life)) else { continue };
            lines.push(PointLine {
                agreed_ms: agree[at].then_some(claims[at].claimed_ms),
                point: part.point,
                writer,
                source: part.source.clone(),
                time_ms,
                tags: part.tags.clone(),
                pinned: look.pinned.contains(&part.point),
                known: vec![known.clone()],
            });
        }
    }
    let mut lines = by_point(lines);
    // Of points at one time the later in its chain is the newer.
    lines.sort_by_key(|line| (line.time_ms, line.newest()));
    Ok(lines)
}

/// One line for each point: what is done to a point is done to all its manifests. The
/// earliest says when it was made, and by whom.
fn by_point(mut lines: Vec<PointLine>) -> Vec<PointLine> {
    lines.sort_by_key(|line| (line.point, line.time_ms, line.newest()));
    let mut points: Vec<PointLine> = Vec::new();
    for line in lines {
        match points.last_mut().filter(|last| last.point == line.point) {
            Some(last) => last.known.extend(line.known),
            None => points.push(line),
        }
    }
    points
}

/// Plans by rules: of each source what any rule that names it keeps, else what a rule
/// for all keeps; a source no rule names is left alone.
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
        sources.entry((maker(&look, &line), line.source.clone())).or_default().push(line);
    }
    for ((writer, source), lines) in sources {
        let mut own: Vec<&Keep> =
            rules.iter().filter(|rule| rule.names(writer, &source)).map(|rule| &rule.keep).collect();
        if own.is_empty() {
            let for_all = |rule: &&Rule| rule.source.is_none() && rule.writer.is_none_or(|own| own == writer);
            own.extend(rules.iter().filter(for_all).map(|rule| &rule.keep));
        }
        if own.is_empty() {
            plan.keep.extend(lines);
            continue;
        }
        let (stay, protected) = stays(&lines, &own, newest);
        plan.protected += protected;
        for (at, line) in lines.into_iter().enumerate() {
            if stay.contains(&at) { &mut plan.keep } else { &mut plan.forget }.push(line);
        }
    }
    plan.forget.sort_by_key(|line| line.time_ms);
    plan.keep.sort_by_key(|line| line.time_ms);
    Ok(plan)
}

/// Whose point it is: of a migrator's successor the writer of the point it follows, as
/// far as that can be told without opening either. Who cannot be told is the migrator
/// itself, whose points no rule for a writer names.
fn maker(look: &Look, line: &PointLine) -> WriterId {
    let vault = &look.vault;
    let is_migrator = |writer: WriterId| vault.writer(writer).is_some_and(|key| key.role() == Role::Migrator);
    if !is_migrator(line.writer) {
        return line.writer;
    }
    let times: BTreeSet<i64> = line.known.iter().filter_map(|known| Some(known.part.as_ref()?.finished_ms)).collect();
    let is_original = |known: &&Known| {
        let same = |part: &JanitorPart| part.source == line.source && times.contains(&part.finished_ms);
        !is_migrator(known.manifest.writer) && known.part.as_ref().is_some_and(same)
    };
    let originals: BTreeSet<WriterId> =
        look.known.iter().filter(is_original).map(|known| known.manifest.writer).collect();
    // Once the originals are gone: where one writer has the scope, it was that one.
    let scope = vault.writer(line.writer).and_then(|key| key.scope());
    let of_scope = vault.writers.values().filter(|key| key.role() == Role::Writer && key.scope() == scope);
    let of_scope: BTreeSet<WriterId> = of_scope.map(|key| key.subject()).collect();
    let only = |found: BTreeSet<WriterId>| found.first().copied().filter(|_| found.len() == 1);
    only(originals).or_else(|| only(of_scope)).unwrap_or(line.writer)
}

/// What the rules keep of one source's points, each rule by itself: by the times that
/// are believed, and of those whose own times agree by these. The newest of its chain
/// are added, whatever times they claim: of each chain, where a migrator's successors
/// stand beside what their host made since. At least one always stays.
fn stays(lines: &[PointLine], rules: &[&Keep], newest: usize) -> (BTreeSet<usize>, usize) {
    let dated = |line: &PointLine, time_ms| Dated { time_ms, tags: line.tags.clone(), pinned: line.pinned };
    let believed: Vec<Dated> = lines.iter().map(|line| dated(line, line.time_ms)).collect();
    let agree = lines.iter().enumerate().filter_map(|(at, line)| Some((at, dated(line, line.agreed_ms?))));
    let (places, agreed): (Vec<usize>, Vec<Dated>) = agree.unzip();
    let mut stay = BTreeSet::new();
    for keep in rules {
        stay.extend(kept(&believed, keep));
        stay.extend(kept(&agreed, keep).into_iter().map(|at| places[at]));
    }
    let by_rules = stay.len();
    let mut chains: BTreeMap<WriterId, Vec<usize>> = BTreeMap::new();
    lines.iter().enumerate().for_each(|(at, line)| chains.entry(line.writer).or_default().push(at));
    for mut order in chains.into_values() {
        order.sort_by_key(|&at| std::cmp::Reverse(lines[at].newest()));
        stay.extend(order.into_iter().take(newest.max(1)));
    }
    let protected = stay.len() - by_rules;
    (stay, protected)
}

/// Plans to forget points by name. What is pinned is refused.
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
    refuse_pinned(&plan.forget, &look.vault.marks)?;
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
    // Who pinned one of them meanwhile is heeded.
    refuse_pinned(&plan.forget, &vault.marks)?;
    let draft = Draft {
        action: TombstoneAction::Trash,
        manifests: plan.forget.iter().flat_map(PointLine::manifests).collect(),
        packs: Vec::new(),
        grace_ms: grace_ms.max(GRACE_MS_MIN),
        reason: "forgotten".to_owned(),
    };
    tombstones::write(&vault, janitor, draft).await.map(Some)
}

impl PointLine {
    /// Its manifests and what the janitor reads of them.
    pub(crate) fn known(&self) -> &[Known] {
        &self.known
    }

    /// All its manifests, as a tombstone names them.
    pub(crate) fn manifests(&self) -> Vec<ManifestRef> {
        self.known.iter().map(|known| manifest_ref(&known.manifest)).collect()
    }

    /// The place of its newest manifest.
    fn newest(&self) -> Option<Position> {
        self.known.iter().map(|known| known.manifest.position()).max()
    }
}
