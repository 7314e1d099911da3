//! Piles: shard objects under names that say nothing, of several vaults, some cut
//! short, some damaged, some twice, between other people's files. What is thrown in is
//! counted here, by this test alone; the import must come to the same numbers, and
//! what it says can be restored is restored.
//!
//! Short form: 24 random piles. `HOLDFAST_PILES=N` plays more; `HOLDFAST_PILE_SEED=S`
//! starts at a seed that a failure printed.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use vault_format::tombstone::TombstoneAction;
use vault_format::{LocationId, PackId, VaultId, names};
use vault_ops::audit::{AuditOptions, Outcome};
use vault_ops::heads::{self, Depth};
use vault_ops::import::{self, ImportPlan};
use vault_ops::janitor::Janitor;
use vault_ops::location::Location;
use vault_ops::tombstones::{self, Draft};
use vault_ops::{OpsError, points, reissue};
use world::yard::loaded;
use world::{Lab, below, folder, random_bytes, read_stream, rng};

const K: usize = 3;
const N: usize = 5;

async fn lab(seed: u64, bytes: usize) -> (Lab, Vec<Vec<u8>>) {
    let mut lab = Lab::new(seed, (K as u8, N as u8), 0, &[0; 5]).await;
    let mut content = random_bytes(seed, bytes);
    lab.backup(&content).await.unwrap();
    let older = content.clone();
    content.extend(random_bytes(seed + 1, bytes / 4));
    lab.backup(&content).await.unwrap();
    (lab, vec![older, content])
}

/// Every shard and every other object of a vault, by name.
async fn objects(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for at in 0..lab.stores.len() {
        for name in lab.names(at).await {
            let bytes = lab.get(at, &name).await;
            all.insert(name, bytes);
        }
    }
    all
}

/// Takes everything but what says which vault this is.
async fn empty(lab: &mut Lab) {
    for at in 0..lab.stores.len() {
        for name in lab.names(at).await {
            if name.starts_with(names::SHARDS) || name.starts_with(names::MANIFESTS) {
                lab.delete(at, &name).await;
            }
        }
    }
    lab.forget_catalog();
}

/// What was thrown into a pile.
#[derive(Default, Debug)]
struct Truth {
    thrown: usize,
    shards: BTreeSet<String>,
    records: BTreeSet<String>,
    duplicates: usize,
    other_vaults: usize,
    markers: usize,
    foreign: usize,
    /// Of ours once, and no more: never counted as good.
    spoilt: usize,
}

struct Pile {
    stores: Vec<(String, Arc<InMemory>)>,
    rng: ChaCha20Rng,
    truth: Truth,
}

impl Pile {
    fn new(seed: u64, folders: usize) -> Self {
        let stores = (0..folders).map(|at| (format!("folder {at}"), Arc::new(InMemory::new()))).collect();
        Self { stores, rng: rng(seed), truth: Truth::default() }
    }

    fn locations(&self) -> Vec<Arc<Location>> {
        self.stores.iter().map(|(name, store)| folder(name, store)).collect()
    }

    async fn put(&mut self, bytes: &[u8]) {
        let at = below(&mut self.rng, self.stores.len());
        let number = self.truth.thrown;
        let name = match self.rng.next_u32() % 5 {
            0 => format!("{:016x}{number}", self.rng.next_u64()),
            1 => format!("photos {number}/{:x}/IMG {}.jpg", self.rng.next_u32(), self.rng.next_u32()),
            2 => format!("100%25 {number} [copy] {{2}}#1"),
            3 => format!("{}{number}", "long name ".repeat(90)),
            _ => format!("shards/{:032x}/00/{number}.00", self.rng.next_u64()),
        };
        self.stores[at].1.put(&Path::from(name.as_str()), bytes.to_vec().into()).await.unwrap();
        self.truth.thrown += 1;
    }

    async fn shard(&mut self, name: &str, bytes: &[u8]) {
        self.put(bytes).await;
        if !self.truth.shards.insert(name.to_owned()) {
            self.truth.duplicates += 1;
        }
    }

    async fn record(&mut self, name: &str, bytes: &[u8]) {
        self.put(bytes).await;
        if !self.truth.records.insert(name.to_owned()) {
            self.truth.duplicates += 1;
        }
    }

    async fn spoilt(&mut self, bytes: &[u8]) {
        self.put(bytes).await;
        self.truth.spoilt += 1;
    }

    /// Damage of any kind at any place.
    async fn damaged(&mut self, bytes: &[u8]) {
        let mut bad = bytes.to_vec();
        match self.rng.next_u32() % 4 {
            0 => bad.truncate(1 + below(&mut self.rng, bytes.len() - 1)),
            1 => bad.extend_from_slice(&[0; 7]),
            2 => {
                let at = below(&mut self.rng, bad.len());
                bad[at] ^= 1 << (self.rng.next_u32() % 8);
            }
            _ => {
                let (at, most) = (below(&mut self.rng, bad.len()), 1 + below(&mut self.rng, 9_000));
                let end = (at + most).min(bad.len());
                let before = bad.clone();
                self.rng.fill_bytes(&mut bad[at..end]);
                if bad == before {
                    bad[at] ^= 1;
                }
            }
        }
        self.spoilt(&bad).await;
    }

    async fn litter(&mut self) {
        for foreign in [Vec::new(), b"HFSHARD".to_vec(), b"<html>".to_vec(), random_bytes(self.rng.next_u64(), 9_000)] {
            self.put(&foreign).await;
            self.truth.foreign += 1;
        }
        self.put(&vault_format::marker::Marker { vault: VaultId::default(), location: LocationId::default() }.encode())
            .await;
        self.truth.markers += 1;
        for cut in [&b"HFSHARD1 is how my novel begins"[..], b"HFRECRD1 and so does its sequel", b"HFJRNAL1"] {
            self.spoilt(cut).await;
        }
    }

    /// The numbers of the import against those of this test.
    fn compare(&self, plan: &ImportPlan, seed: u64) {
        let (truth, account) = (&self.truth, &plan.account);
        assert_eq!(account.looked_at, truth.thrown, "seed {seed}");
        assert_eq!(account.accounted(), truth.thrown, "seed {seed}: {account:?}");
        assert_eq!(account.shards, truth.shards.len(), "seed {seed}: {account:?}");
        assert_eq!(account.records, truth.records.len(), "seed {seed}: {account:?}");
        assert_eq!(account.duplicates, truth.duplicates, "seed {seed}");
        assert_eq!(account.quarantined, plan.quarantined.len(), "seed {seed}");
        assert!(plan.quarantined.iter().all(|bad| !bad.why.is_empty() && !bad.name.is_empty()));
        // Damage may hit the magic (not ours any more), the vault id (another's), or turn a marker.
        let elsewhere = account.foreign + account.markers + account.other_vaults + account.quarantined;
        assert_eq!(elsewhere, truth.foreign + truth.markers + truth.other_vaults + truth.spoilt, "seed {seed}");
        assert!(account.foreign >= truth.foreign && account.other_vaults >= truth.other_vaults);
        let mut of_pack: BTreeMap<PackId, usize> = BTreeMap::new();
        for name in &truth.shards {
            *of_pack.entry(names::parse_shard(name).unwrap().1).or_default() += 1;
        }
        let found: BTreeMap<PackId, usize> = plan.packs.iter().map(|pack| (pack.pack, pack.found)).collect();
        assert_eq!(found, of_pack, "seed {seed}: shards per pack");
        assert!(plan.packs.iter().all(|pack| pack.need == K && pack.is_enough() == (pack.total >= K)));
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[tokio::test]
async fn random_piles_are_accounted_for_and_what_is_whole_restores() {
    let ((one, points), (other, _)) = (lab(1, 150_000).await, lab(2, 60_000).await);
    let (ours, theirs) = (objects(&one).await, objects(&other).await);
    let first = from_env("HOLDFAST_PILE_SEED", 1_000);
    for seed in first..first + from_env("HOLDFAST_PILES", 24) {
        let mut pile = Pile::new(seed, 3);
        // From hardly anything lost to hardly anything left.
        let lost = pile.rng.next_u32() % 60;
        let with_manifests = pile.rng.next_u32().is_multiple_of(2);
        pile.litter().await;
        for (name, bytes) in &ours {
            let is_shard = name.starts_with(names::SHARDS);
            let wanted = is_shard || (with_manifests && name.starts_with(names::MANIFESTS));
            if !wanted {
                continue;
            }
            if pile.rng.next_u32() % 100 < lost {
                if pile.rng.next_u32().is_multiple_of(2) {
                    pile.damaged(bytes).await;
                }
                continue;
            }
            for _ in 0..=usize::from(pile.rng.next_u32().is_multiple_of(8)) {
                if is_shard { pile.shard(name, bytes).await } else { pile.record(name, bytes).await }
            }
        }
        for (_, bytes) in theirs.iter().filter(|(name, _)| *name != names::MARKER) {
            pile.put(bytes).await;
            pile.truth.other_vaults += 1;
        }
        let mut lab = one.fork(seed);
        empty(&mut lab).await;
        import_and_restore(&mut lab, &pile, &points, seed).await;
    }
}

/// Imports the pile and restores exactly the points whose packs are all whole.
async fn import_and_restore(lab: &mut Lab, pile: &Pile, points: &[Vec<u8>], seed: u64) {
    let vault = lab.open().await.unwrap();
    let plan = import::plan(&vault, Some(&lab.read_key()), &pile.locations()).await.unwrap();
    pile.compare(&plan, seed);
    let whole: BTreeSet<PackId> = plan.packs.iter().filter(|pack| pack.total >= K).map(|pack| pack.pack).collect();
    for point in &plan.points {
        let packs = point.bare.found.record.packs.iter().map(|pack| pack.pack).chain([point.bare.pack]);
        let all_whole = packs.into_iter().all(|pack| whole.contains(&pack));
        assert_eq!(point.short.is_empty(), all_whole, "seed {seed}");
    }
    let done = import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty(), "seed {seed}: {:?}", done.failed);
    assert_eq!(done.shards, plan.account.shards, "seed {seed}");
    let (vault, writer) = (lab.open().await.unwrap(), lab.writer());
    reissue::run(&vault, &writer, &mut lab.catalog, &plan).await.unwrap();
    // Known to every host, by manifests alone, and restored.
    let listed = match points::list(&vault, &lab.read_key()).await {
        Ok(list) => list.points,
        Err(error) => panic!("seed {seed}: {error}"),
    };
    for point in plan.points.iter().filter(|point| point.short.is_empty()) {
        let there: Vec<_> = listed.iter().filter(|listed| listed.part.point == point.id()).collect();
        assert_eq!(there.len(), 1, "seed {seed}: each whole point is listed, once");
        let open = lab.open_point(&vault, there[0].pack, Some(there[0].record)).await.unwrap();
        let bytes = read_stream(&open).await.unwrap();
        assert!(points.contains(&bytes), "seed {seed}");
    }
}

/// What garbage collection condemned may be half gone: nothing new leans on it, and the
/// other points are vouched for all the same.
#[tokio::test]
async fn a_point_that_leans_on_a_condemned_pack_is_not_vouched_for() {
    let (mut lab, _) = lab(40, 200_000).await;
    let all = objects(&lab).await;
    let mut pile = Pile::new(41, 2);
    for (name, bytes) in all.iter().filter(|(name, _)| name.starts_with(names::SHARDS)) {
        pile.shard(name, bytes).await;
    }
    empty(&mut lab).await;
    let vault = lab.open().await.unwrap();
    let plan = import::plan(&vault, Some(&lab.read_key()), &pile.locations()).await.unwrap();
    import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    let (bad, good): (Vec<_>, Vec<_>) = plan.unvouched().partition(|point| point.bare.found.record.sequence == 2);
    let draft = Draft {
        action: TombstoneAction::Trash,
        manifests: Vec::new(),
        packs: vec![bad[0].bare.pack],
        grace_ms: 0,
        reason: "test".to_owned(),
    };
    let janitor = Janitor::Operator { operator: loaded(&lab.keys.operator), read: Some(lab.read_key()) };
    tombstones::write(&lab.open().await.unwrap(), &janitor, draft).await.unwrap();
    let (vault, writer) = (lab.open().await.unwrap(), lab.writer());
    let error = reissue::run(&vault, &writer, &mut lab.catalog, &plan).await.unwrap_err();
    assert!(error.to_string().contains("marked by garbage collection"), "{error}");
    let listed = points::list(&vault, &lab.read_key()).await.unwrap().points;
    let listed: Vec<_> = listed.into_iter().map(|point| point.part.point).collect();
    assert_eq!(listed, good.iter().map(|point| point.id()).collect::<Vec<_>>());
}

/// Nothing but shards: the points get manifests in a new epoch, every host sees them,
/// and manifests that turn up years later find their places free.
#[tokio::test]
async fn points_without_manifests_are_vouched_for_under_a_new_epoch() {
    let (mut lab, points) = lab(30, 200_000).await;
    let all = objects(&lab).await;
    let mut pile = Pile::new(31, 2);
    for (name, bytes) in all.iter().filter(|(name, _)| name.starts_with(names::SHARDS)) {
        pile.shard(name, bytes).await;
    }
    empty(&mut lab).await;
    let vault = lab.open().await.unwrap();
    let plan = import::plan(&vault, Some(&lab.read_key()), &pile.locations()).await.unwrap();
    assert_eq!(plan.unvouched().count(), 2);
    import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    let (vault, writer) = (lab.open().await.unwrap(), lab.writer());
    let done = reissue::run(&vault, &writer, &mut lab.catalog, &plan).await.unwrap();
    let places: Vec<_> = done.points.iter().map(|row| (row.epoch, row.sequence)).collect();
    assert_eq!(places, [(2, 1), (2, 2)], "behind everything that was ever signed");
    // Another host, which has only the locations.
    lab.forget_catalog();
    let vault = lab.open().await.unwrap();
    assert!([lab.restore(1).await.unwrap(), lab.restore(0).await.unwrap()] == points[..]);
    let options = AuditOptions { samples: 10, location: None, full: true };
    let report = vault_ops::audit::run(&vault, &lab.catalog, &options).await.unwrap();
    assert_eq!((report.worst(), report.packs), (Outcome::Ok, plan.packs.len()), "{:?}", report.findings);
    // A second import has nothing to vouch for; the next backup goes on and stores nothing twice.
    let again = import::plan(&vault, Some(&lab.read_key()), &pile.locations()).await.unwrap();
    assert_eq!((again.unvouched().count(), again.shards()), (0, 0));
    let report = lab.backup(&points[1]).await.unwrap();
    assert_eq!(
        (report.manifest, report.statistics.new_bytes),
        ((3, 2), 0),
        "this host forgot its head: an epoch of its own, opened by a heartbeat"
    );

    // The old manifests are found after all.
    let mut later = Pile::new(32, 1);
    for (name, bytes) in all.iter().filter(|(name, _)| name.starts_with(names::MANIFESTS)) {
        later.record(name, bytes).await;
    }
    let vault = lab.open().await.unwrap();
    let plan = import::plan(&vault, Some(&lab.read_key()), &later.locations()).await.unwrap();
    assert_eq!((plan.records(), plan.left.len()), (2, 0));
    let done = import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty(), "{:?}", done.failed);
    let chain = heads::chain(&vault, writer.writer, Depth::Whole).await.unwrap();
    assert!(chain.rivals.is_empty() && chain.gaps.is_empty(), "{:?} {:?}", chain.rivals, chain.gaps);
    assert_eq!(chain.manifests.keys().copied().collect::<Vec<_>>(), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]);
    let list = points::list(&vault, &lab.read_key()).await.unwrap();
    assert_eq!((list.points.len(), list.remarks.len()), (3, 0), "each point once: {:?}", list.remarks);
}

#[tokio::test]
async fn a_manifest_that_is_left_keeps_its_place() {
    let (mut lab, points) = lab(40, 100_000).await;
    let all = objects(&lab).await;
    let mut pile = Pile::new(41, 2);
    for (name, bytes) in all.iter().filter(|(name, _)| name.starts_with(names::SHARDS)) {
        pile.shard(name, bytes).await;
    }
    // The first manifest is lost, the second is at home.
    for at in 0..lab.stores.len() {
        lab.delete(at, &names::manifest(lab.keys.writer.writer, 1, 1)).await;
    }
    let vault = lab.open().await.unwrap();
    let plan = import::plan(&vault, Some(&lab.read_key()), &pile.locations()).await.unwrap();
    assert_eq!(plan.points.iter().map(|point| point.has_manifest).collect::<Vec<_>>(), [false, true]);
    import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    let done = reissue::run(&vault, &lab.writer(), &mut lab.catalog, &plan).await.unwrap();
    assert_eq!((done.points[0].epoch, done.points[0].sequence), (1, 3), "the chain is known to its end: it goes on");
    let list = points::list(&vault, &lab.read_key()).await.unwrap();
    assert_eq!(list.points.len(), 2);
    let restored = [lab.restore(1).await.unwrap(), lab.restore(0).await.unwrap()];
    assert!(points.iter().all(|bytes| restored.contains(bytes)));
}

#[tokio::test]
async fn the_key_of_another_vault_and_a_folder_that_is_gone_are_refused() {
    let ((lab, _), (other, _)) = (self::lab(50, 20_000).await, self::lab(51, 20_000).await);
    let vault = lab.open().await.unwrap();
    let pile = Pile::new(52, 1);
    let error = import::plan(&vault, Some(&other.read_key()), &pile.locations()).await.err().unwrap();
    assert!(matches!(error, OpsError::Key { .. }), "{error}");
    let dead = world::stores::Tripwire::new(0, world::stores::Trip::Fails);
    let mut gone = (*pile.locations()[0]).clone();
    gone.store = dead.store(Arc::clone(&pile.stores[0].1) as Arc<dyn ObjectStore>);
    let error = import::plan(&vault, None, &[Arc::new(gone)]).await.err().unwrap();
    assert!(matches!(error, OpsError::Unreachable { .. }), "half a pile is no plan: {error}");
}
