//! Points in the spool that cannot be delivered, and setting them aside.
//!
//! What always holds: what is stuck is named until it is delivered or set aside; it
//! keeps nobody from going on. What is set aside is moved, not deleted: below `aside/`
//! in the spool's own folder under the names it had, each object read back there
//! before it goes from where it was; the manifests go last, so that dying in the
//! middle costs a repetition. What another waiting point needs does not move.

use std::collections::BTreeSet;

use keys::files::WriterKey;
use vault_format::{PackId, PointId, names};

use super::deliver::queue;
use super::{Contents, Spool, Unkept, note_waiting};
use crate::catalog::{Catalog, PackState};
use crate::error::{OpsError, Result};
use crate::step::Step;
use crate::vault::Vault;

/// Where it is moved to, in the spool's folder.
pub const ASIDE: &str = "aside";

/// What could not be delivered when it was last tried: a name in the catalog.
const STUCK: &str = "spool.stuck";

/// A point that cannot be delivered as things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The point; none if its manifest cannot be read or believed.
    pub point: Option<PointId>,
    /// Its manifests, as they are called in the spool.
    pub manifests: Vec<String>,
    /// Why, and what to do.
    pub why: String,
}

impl Stuck {
    /// What people call it.
    pub fn name(&self) -> String {
        match self.point {
            Some(point) => crate::points::point_text(point),
            None => self.manifests.join(", "),
        }
    }
}

/// What could not be delivered when it was last tried.
pub fn stuck(catalog: &Catalog) -> Result<Vec<Stuck>> {
    let bytes = catalog.meta(STUCK)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let line = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        let (point, manifests, why) = (fields.next()?, fields.next()?, fields.next()?);
        let manifests = manifests.split(',').map(str::to_owned).collect();
        Some(Stuck { point: point_of(point), manifests, why: why.to_owned() })
    };
    Ok(text.lines().filter_map(line).collect())
}

fn point_of(hex: &str) -> Option<PointId> {
    let digit = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(digit).collect();
    PointId::from_slice(&bytes?)
}

/// Takes note of what is stuck, and forgets what is not any more. A delivery that did
/// not come to its end says nothing of those that it did not try.
pub(super) fn note(catalog: &Catalog, found: &[Stuck], complete: bool, left: &Contents) -> Result<()> {
    let mut all = found.to_vec();
    if !complete {
        let known = |old: &Stuck| found.iter().any(|new| new.manifests.iter().any(|name| old.manifests.contains(name)));
        all.extend(stuck(catalog)?.into_iter().filter(|old| !known(old)));
    }
    let left: BTreeSet<String> = left.manifest_names().collect();
    all.retain(|one| one.manifests.iter().any(|name| left.contains(name)));
    if all.is_empty() {
        return catalog.forget_meta(STUCK);
    }
    let line = |one: &Stuck| {
        let point = one.point.map(|point| point.to_string()).unwrap_or_default();
        format!("{point}\t{}\t{}\n", one.manifests.join(","), one.why.replace(['\n', '\t'], " "))
    };
    catalog.set_meta(STUCK, all.iter().map(line).collect::<String>().as_bytes())
}

/// Whether a point of this writer waits that may be delivered one day by itself: what
/// is stuck is nothing to wait for.
pub(crate) async fn is_awaited(vault: &Vault, keys: &WriterKey, catalog: &Catalog) -> Result<bool> {
    let Some(spool) = &vault.spool else { return Ok(false) };
    let stuck: BTreeSet<String> = stuck(catalog)?.into_iter().flat_map(|one| one.manifests).collect();
    let contents = spool.contents().await?;
    let own = contents.manifests.iter().filter(|(writer, _)| *writer == keys.writer);
    let mut own = own.map(|(writer, (epoch, sequence))| names::manifest(*writer, *epoch, *sequence));
    Ok(own.any(|name| !stuck.contains(&name)))
}

/// What would be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsidePlan {
    /// Whose.
    pub stuck: Vec<Stuck>,
    /// Packs of which the spool has shards.
    pub packs: BTreeSet<PackId>,
    /// Every object by its name in the spool, manifests last.
    pub objects: Vec<String>,
    /// Bytes of the shards.
    pub bytes: u64,
}

/// Plans to set aside what a delivery just called stuck. Changes nothing.
pub async fn plan_aside(vault: &Vault, keys: &WriterKey, stuck: &[Stuck]) -> Result<AsidePlan> {
    let (Some(spool), false) = (&vault.spool, stuck.is_empty()) else { return Ok(AsidePlan::default()) };
    let contents = spool.contents().await?;
    let (waiting, _) = queue(vault, keys, spool, &contents).await?;
    let is_stuck = |point: &PointId| stuck.iter().any(|one| one.point == Some(*point));
    let (theirs, others): (Vec<_>, Vec<_>) = waiting.iter().partition(|waiting| is_stuck(&waiting.part.point));
    let references = |of: &[&super::deliver::Waiting]| -> BTreeSet<PackId> {
        of.iter().flat_map(|waiting| waiting.part.references.iter().copied()).collect()
    };
    let (theirs, others) = (references(&theirs), references(&others));
    // Nobody can tell which packs a manifest needs that cannot be believed: all that nobody else does.
    let unknown = stuck.iter().any(|one| one.point.is_none());
    let moves = |pack: &PackId| !others.contains(pack) && (unknown || theirs.contains(pack));
    let mut plan = AsidePlan { stuck: stuck.to_vec(), ..AsidePlan::default() };
    for (&pack, held) in contents.holdings.packs.iter().filter(|(pack, _)| moves(pack)) {
        plan.packs.insert(pack);
        plan.bytes += held.iter().filter_map(|one| one.bytes).sum::<u64>();
        plan.objects.extend(held.iter().map(|one| one.name.clone()));
    }
    let there: BTreeSet<String> = contents.manifest_names().collect();
    plan.objects.extend(stuck.iter().flat_map(|one| &one.manifests).filter(|name| there.contains(*name)).cloned());
    Ok(plan)
}

/// Moves what was planned. Whoever calls it holds the writer's lease.
pub async fn set_aside(vault: &Vault, catalog: &mut Catalog, plan: &AsidePlan) -> Result<()> {
    let Some(spool) = &vault.spool else { return Ok(()) };
    // First, so that no backup leans on what is about to leave.
    for &pack in &plan.packs {
        if catalog.pack(pack)?.is_some_and(|row| row.state == PackState::Spooled) {
            catalog.drop_pack(pack)?;
        }
    }
    for name in &plan.objects {
        move_aside(vault, spool, name).await?;
    }
    let left = spool.contents().await?;
    note(catalog, &[], false, &left)?;
    note_waiting(catalog, !left.manifests.is_empty(), vault.world.now_ms())
}

async fn move_aside(vault: &Vault, spool: &Spool, name: &str) -> Result<()> {
    let Some(bytes) = spool.read(name).await? else { return Ok(()) };
    let to = format!("{ASIDE}/{name}");
    // An earlier one of the same name is kept: a place in a chain can be signed for twice.
    if let Some(there) = spool.read(&to).await?
        && there != bytes
    {
        let what = format!("{to} in the spool");
        return Err(OpsError::corrupt(what, "another object of that name was set aside before; move it away first"));
    }
    spool.store(&to, vec![bytes.clone()], &bytes).await.map_err(Unkept::from)?;
    vault.world.reached(Step::AsideObjectCopied);
    spool.remove(&[name.to_owned()]).await?;
    vault.world.reached(Step::AsideObjectMoved);
    Ok(())
}
