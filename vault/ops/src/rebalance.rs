//! Rebalance: after the layout changed, shards move to their new homes, and what
//! is left where it no longer belongs is removed.
//!
//! What always holds: a plan comes first; moving is repairing under the layout in
//! force, so it needs no key and goes on after any interruption; a copy that does
//! not belong where it is, is removed only after every copy of its index that does
//! was read back whole, while what was read back of the pack survives the declared
//! losses without it, and only with rights to delete that are given for it; otherwise it is kept and
//! said. See docs/decisions/0020.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use vault_format::layout::LocationState;
use vault_format::shard::ShardLayout;
use vault_format::{LocationId, PackId, names};

use crate::catalog::Catalog;
use crate::census::{self, Census};
use crate::challenge::{Answer, Examiner};
use crate::error::Result;
use crate::fetch::{Fetcher, Trust};
use crate::location::Store;
use crate::placement::{Copy, home, survives};
use crate::progress::{Phase, Total};
use crate::repair::{self, RepairPlan, RepairReport};
use crate::step::Step;
use crate::vault::Vault;

/// A copy that stands where it no longer belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Which pack.
    pub pack: PackId,
    /// Which copy.
    pub copy: Copy,
    /// Its name there.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What a rebalance would do.
#[derive(Debug, Default)]
pub struct RebalancePlan {
    /// Shards and records to write.
    pub moves: RepairPlan,
    /// Bytes of the shards to write.
    pub bytes: u64,
    /// Copies that will not belong where they are.
    pub surplus: Vec<Surplus>,
    /// Packs that do not survive the declared losses now.
    pub weak: usize,
}

/// What a rebalance did.
#[derive(Debug, Default)]
pub struct RebalanceReport {
    /// What was moved.
    pub moved: RepairReport,
    /// Copies removed from where they no longer belonged.
    pub removed: usize,
    /// Copies left there, and why, by location.
    pub kept: BTreeMap<LocationId, (usize, String)>,
    /// Every shard of every pack is shown at home.
    pub settled: bool,
}

/// Locations of which copies may be deleted, each with a store that may.
pub type Admin = BTreeMap<LocationId, Store>;

/// Plans under the layout of `vault`.
pub async fn plan(vault: &Vault, catalog: &Catalog) -> Result<RebalancePlan> {
    let census = census::take(vault, catalog).await?;
    let mut plan = RebalancePlan { moves: repair::plan(vault, catalog).await?, ..RebalancePlan::default() };
    let bytes = |pack| census.class(pack).map_or(0, |class| ShardLayout::new(class).object_bytes());
    plan.bytes = plan.moves.shards.iter().map(|task| bytes(task.pack)).sum();
    plan.surplus = surplus(vault, &census);
    let weak =
        |pack: &&PackId| !survives(&census.holdings.copies_believed(vault, **pack), vault.coding, vault.survive());
    plan.weak = census.packs.keys().filter(weak).count();
    Ok(plan)
}

/// Copies of committed packs shown where they do not belong.
fn surplus(vault: &Vault, census: &Census) -> Vec<Surplus> {
    let spots = vault.spots();
    let mut all = Vec::new();
    for (&pack, (_, writer)) in &census.packs {
        let homes = home(&spots, vault.coding, vault.survive(), pack);
        let bytes = census.class(pack).map_or(0, |class| ShardLayout::new(class).object_bytes());
        for copy in census.holdings.copies(pack).into_iter().filter(|copy| !homes.contains(copy)) {
            all.push(Surplus { pack, copy, name: names::shard(*writer, pack, copy.index), bytes });
        }
    }
    all
}

/// Moves what is not at home, then removes what is left elsewhere.
pub async fn apply(vault: &Vault, catalog: &Catalog, plan: &RebalancePlan, admin: &Admin) -> Result<RebalanceReport> {
    let mut report =
        RebalanceReport { moved: repair::apply(vault, catalog, &plan.moves).await?, ..RebalanceReport::default() };
    vault.world.reached(Step::RebalanceMoved);
    let mut census = census::take(vault, catalog).await?;
    // What failed a verification keeps nothing.
    census.holdings.discount(&catalog.failures()?);
    report.settled = census.holdings.silent.is_empty() && all_at_home(vault, &census);
    let fetcher = Fetcher::new(vault.world.clone(), census.holdings.clone(), Trust::Signed(vault.writers.clone()));
    let spot = |location: LocationId| vault.location(location).map(crate::location::Location::spot);
    let copy = |task: &repair::ShardTask| Some((task.pack, Copy { index: task.index, spot: spot(task.location)? }));
    // What was just written was read back whole.
    let written = report.moved.shards.iter().filter_map(copy).collect();
    let trim = Trim { vault, catalog, census: &census, fetcher: &fetcher, written, admin };
    let mut by_pack: BTreeMap<PackId, Vec<Surplus>> = BTreeMap::new();
    for surplus in surplus(vault, &census) {
        by_pack.entry(surplus.pack).or_default().push(surplus);
    }
    vault.world.progress.begin_of(Phase::Removing, Total::of_items(by_pack.values().map(Vec::len).sum()));
    for (pack, surplus) in by_pack {
        let count = surplus.len() as u64;
        trim.pack(pack, surplus, &mut report).await?;
        vault.world.progress.add_items(count);
    }
    Ok(report)
}

fn all_at_home(vault: &Vault, census: &Census) -> bool {
    let spots = vault.spots();
    census.packs.keys().all(|&pack| {
        let shown = census.holdings.copies(pack);
        home(&spots, vault.coding, vault.survive(), pack).iter().all(|copy| shown.contains(copy))
    })
}

struct Trim<'a> {
    vault: &'a Vault,
    catalog: &'a Catalog,
    census: &'a Census,
    fetcher: &'a Fetcher,
    written: BTreeSet<(PackId, Copy)>,
    admin: &'a Admin,
}

impl Trim<'_> {
    /// Removes a pack's surplus copies, one after another, if what stands at home is
    /// enough without any of them.
    async fn pack(&self, pack: PackId, surplus: Vec<Surplus>, report: &mut RebalanceReport) -> Result<()> {
        let (vault, admin) = (self.vault, self.admin);
        let mut keep = |surplus: &Surplus, why: &str| {
            report.kept.entry(surplus.copy.spot.location).or_insert((0, why.to_owned())).0 += 1;
        };
        let (able, unable): (Vec<Surplus>, Vec<Surplus>) =
            surplus.into_iter().partition(|surplus| admin.contains_key(&surplus.copy.spot.location));
        for surplus in &unable {
            keep(surplus, "no rights to delete are given for it (admin_credentials)");
        }
        if able.is_empty() {
            return Ok(());
        }
        let homes = home(&vault.spots(), vault.coding, vault.survive(), pack);
        let mut good: Vec<Copy> = Vec::new();
        for &copy in &homes {
            if self.written.contains(&(pack, copy)) || self.reads_back(pack, copy).await? {
                good.push(copy);
            }
        }
        let enough = survives(&good, vault.coding, vault.survive());
        for surplus in able {
            let mut at_home = homes.iter().filter(|copy| copy.index == surplus.copy.index);
            if !enough || !at_home.all(|copy| good.contains(copy)) {
                keep(&surplus, "not every copy at home is shown and reads back");
                continue;
            }
            let location = surplus.copy.spot.location;
            let Some(store) = admin.get(&location) else { continue };
            match store.delete(&Path::from(surplus.name.as_str())).await {
                Ok(()) => {
                    report.removed += 1;
                    vault.world.reached(Step::RebalanceCopyRemoved);
                    self.catalog.clear_failure(location, pack, surplus.copy.index)?;
                }
                Err(error) => keep(&surplus, &format!("deleting was refused: {error}")),
            }
        }
        Ok(())
    }

    /// Whether a copy is shown and right, read whole just now.
    async fn reads_back(&self, pack: PackId, copy: Copy) -> Result<bool> {
        let Some(location) = self.vault.location(copy.spot.location) else { return Ok(false) };
        if !self.census.shows(location.id, pack, copy.index) {
            return Ok(false);
        }
        let (vault, catalog, census, fetcher) = (self.vault, self.catalog, self.census, self.fetcher);
        let examiner = Examiner { vault, catalog, census, fetcher, location, bytes: AtomicU64::new(0) };
        let answer = examiner.read_whole(pack, copy.index).await?;
        let right = matches!(answer, Answer::Right);
        examiner.judge(pack, copy.index, answer)?;
        Ok(right)
    }
}

/// Retiring locations that hold nothing which is not elsewhere too: they can be
/// called retired. `settled` is what the last rebalance said.
pub fn retired(vault: &Vault, settled: bool) -> Vec<LocationId> {
    let retiring = vault.layout.locations.iter().filter(|placed| placed.state == LocationState::Retiring);
    retiring.filter(|_| settled).map(|placed| placed.location).collect()
}
