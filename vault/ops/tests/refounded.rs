//! Nothing is left of a vault but shards under names that say nothing, and its seed: it is
//! founded anew on other locations. What was thrown into the pile is drawn here; every
//! point of which enough is left restores from the new vault, the rest is named, and the
//! vault lives on.
//!
//! Short form: 6 random piles. `HOLDFAST_FOUNDINGS=N` plays more, from seed 500 on.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backends::Grade;
use keys::certificate::{Request, issue};
use keys::files::ReadKey;
use keys::host::HostKeys;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rand_core::Rng;
use vault_format::certificate::{Revocation, Role};
use vault_format::envelope::RecordKind;
use vault_format::layout::Attachment;
use vault_format::vault::KemRole;
use vault_format::{Blob, PackId, PointId, WriterId, names};
use vault_ops::audit::{AuditOptions, Outcome};
use vault_ops::catalog::Catalog;
use vault_ops::create::{FirstKeys, NewLocation};
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::gc::{self, GcOptions};
use vault_ops::import::{self, ImportPlan};
use vault_ops::janitor::Janitor;
use vault_ops::location::Location;
use vault_ops::refound::{self, Founding, Heritage, newest_key};
use vault_ops::restore::open_point;
use vault_ops::scan::{Scan, scan};
use vault_ops::vault::{Candidate, Expected, Vault};
use vault_ops::world::Compute;
use vault_ops::{OpsError, adopt, points, reissue, repair};
use world::yard::loaded;
use world::{Lab, below, folder, random_bytes, read_stream, rng, scale};

const K: usize = 3;

async fn lab(seed: u64) -> (Lab, Vec<Vec<u8>>) {
    let mut lab = Lab::new(seed, (K as u8, 5), 1, &[0, 1, 2, 3, 4]).await;
    let older = random_bytes(seed, 250_000);
    lab.backup(&older).await.unwrap();
    let newer = [older.clone(), random_bytes(seed + 1, 90_000)].concat();
    lab.backup(&newer).await.unwrap();
    (lab, vec![older, newer])
}

/// Folders of anything, as somebody finds them.
struct Pile {
    stores: Vec<(String, Arc<InMemory>)>,
    thrown: u32,
}

impl Pile {
    fn new() -> Self {
        let stores = (0..2).map(|at| (format!("pile {at}"), Arc::new(InMemory::new()))).collect();
        Self { stores, thrown: 0 }
    }

    async fn put(&mut self, bytes: &[u8]) {
        self.thrown += 1;
        let (_, store) = &self.stores[self.thrown as usize % 2];
        let name = format!("{:08x}", self.thrown.wrapping_mul(0x9e37_79b9));
        store.put(&Path::from(name), bytes.to_vec().into()).await.unwrap();
    }

    /// Every shard of a lab.
    async fn all_shards(&mut self, lab: &Lab) {
        for at in 0..lab.stores.len() {
            for name in lab.names(at).await.into_iter().filter(|name| name.starts_with(names::SHARDS)) {
                self.put(&lab.get(at, &name).await).await;
            }
        }
    }

    fn locations(&self) -> Vec<Arc<Location>> {
        self.stores.iter().map(|(name, store)| folder(name, store)).collect()
    }

    async fn scan(&self) -> Scan {
        scan(&vault_ops::progress::Progress::default(), &self.locations()).await.unwrap()
    }
}

/// Where a vault is founded anew.
struct Ground {
    stores: Vec<(String, Arc<InMemory>)>,
}

impl Ground {
    fn new() -> Self {
        Self { stores: (0..4).map(|at| (format!("new{at}"), Arc::new(InMemory::new()))).collect() }
    }

    fn new_locations(&self) -> Vec<NewLocation> {
        let place = |(name, store): &(String, Arc<InMemory>)| NewLocation {
            name: name.clone(),
            domain: format!("domain of {name}"),
            url: format!("memory:///{name}"),
            endpoint: String::new(),
            region: String::new(),
            attached: Attachment::Always,
            grade: Grade::Overwritable,
            store: Arc::clone(store) as Arc<dyn ObjectStore>,
        };
        self.stores.iter().map(place).collect()
    }

    fn candidates(&self) -> Vec<Candidate> {
        let store = |store: &Arc<InMemory>| Ok(Arc::clone(store) as Arc<dyn ObjectStore>);
        self.stores
            .iter()
            .map(|(name, at)| Candidate { name: name.clone(), store: store(at), versions: None, names: None })
            .collect()
    }

    async fn open(&self, lab: &Lab) -> Vault {
        let expected = Expected { vault: Some(lab.keys.public.vault), root: lab.keys.public.root.clone() };
        Vault::open(lab.world.clone(), &expected, self.candidates()).await.unwrap()
    }

    async fn names(&self) -> usize {
        let mut count = 0;
        for (name, store) in &self.stores {
            count += folder(name, store).list("").await.unwrap().len();
        }
        count
    }
}

/// What the cards give, and nothing else.
fn from_cards(lab: &Lab) -> ReadKey {
    ReadKey::from_seed(&lab.keys.master.seed, lab.keys.master.generation, lab.keys.master.vault)
}

async fn heritage(lab: &Lab, pile: &Pile, ground: &Ground) -> Option<Heritage> {
    let mut found = pile.scan().await;
    refound::add_standing(&mut found, lab.keys.public.vault, &ground.candidates()).await;
    refound::heritage(&lab.world, &found, &mut from_cards(lab)).await.unwrap()
}

async fn found(lab: &Lab, heritage: &Heritage, host: &HostKeys, ground: &Ground) -> vault_ops::Result<()> {
    let master = &lab.keys.master;
    let record = &heritage.in_force.record;
    let keys = FirstKeys {
        vault: master.vault,
        root: &master.seed.root_key(master.generation),
        reader: &newest_key(record, KemRole::Reader).unwrap(),
        janitor: &newest_key(record, KemRole::Janitor).unwrap(),
        operator: &host.operator,
        writer: &host.writer,
    };
    let founding = Founding { name: "again".to_owned(), survive_domains: heritage.survive_domains(), keys };
    heritage.found(&lab.world, &founding, ground.new_locations()).await
}

fn host(lab: &Lab, heritage: &Heritage, seed: u64) -> HostKeys {
    let master = &lab.keys.master;
    let admission = heritage.admission(master.generation, "new", lab.world.now_ms()).unwrap();
    HostKeys::draw(&mut rng(seed), &master.seed, admission).unwrap()
}

/// The vault anew, everything in it that the pile holds.
async fn founded(lab: &mut Lab, pile: &Pile, ground: &Ground, seed: u64) -> (Vault, HostKeys, ImportPlan) {
    let heritage = heritage(lab, pile, ground).await.unwrap();
    let host = host(lab, &heritage, seed);
    found(lab, &heritage, &host, ground).await.unwrap();
    lab.forget_catalog();
    let vault = ground.open(lab).await;
    let mut keys = from_cards(lab);
    vault.complete(&mut keys).unwrap();
    let plan = import::plan_anew(&vault, &keys, &pile.locations()).await.unwrap();
    let done = import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty(), "seed {seed}: {:?}", done.failed);
    let vault = ground.open(lab).await;
    reissue::run(&vault, &host.writer, &mut lab.catalog, &plan).await.unwrap();
    mend(&vault, &lab.catalog).await;
    adopt::fill(&vault, &keys, Some(host.writer.scope), &mut lab.catalog).await.unwrap();
    (vault, host, plan)
}

async fn mend(vault: &Vault, catalog: &Catalog) {
    let plan = repair::plan(vault, catalog).await.unwrap();
    repair::apply(vault, catalog, &plan).await.unwrap();
}

/// The points of a vault by manifests alone, restored.
async fn restored(lab: &Lab, vault: &Vault) -> BTreeMap<PointId, Vec<u8>> {
    let keys = Arc::new(from_cards(lab));
    let mut all = BTreeMap::new();
    for point in points::list(vault, &keys).await.unwrap().points {
        let holdings = list_shards(vault, &vault.writer_ids()).await;
        let fetcher = Fetcher::new(lab.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
        let open = open_point(fetcher, Arc::clone(&keys), Compute::Inline, point.pack, Some(point.record)).await;
        let Ok(open) = open else { continue };
        // Its record may be whole, and a pack with its bytes not.
        if let Ok(bytes) = read_stream(&open).await {
            all.insert(point.part.point, bytes);
        }
    }
    all
}

async fn audit(vault: &Vault, catalog: &Catalog) -> vault_ops::audit::AuditReport {
    let options = AuditOptions { samples: 10, location: None, full: true };
    vault_ops::audit::run(vault, catalog, &options).await.unwrap()
}

/// Two vaults mixed, shards lost, damaged and cut short; with manifests, with some, with none.
#[tokio::test]
async fn what_is_left_of_random_piles_lives_on() {
    let ((one, contents), (other, _)) = (lab(1).await, lab(2).await);
    for seed in 500..500 + 6 * scale("HOLDFAST_FOUNDINGS") as u64 {
        let (mut pile, mut drawn) = (Pile::new(), rng(seed));
        let lost = drawn.next_u32() % 40;
        let manifests = [0, 50, 100][seed as usize % 3];
        let mut left: BTreeMap<PackId, BTreeSet<u8>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for at in 0..5 {
            for name in one.names(at).await {
                let bytes = one.get(at, &name).await;
                let shard = names::parse_shard(&name);
                let wanted = if name.starts_with(names::MANIFESTS) { manifests } else { 100 - lost };
                let is_record = shard.is_none() && !name.starts_with(names::MANIFESTS);
                if is_record || !seen.insert(name) {
                    continue;
                }
                match shard {
                    Some((_, pack, index)) if drawn.next_u32() % 100 < wanted => {
                        left.entry(pack).or_default().insert(index);
                        pile.put(&bytes).await;
                    }
                    Some(_) => {
                        let cut = below(&mut drawn, bytes.len());
                        pile.put(&bytes[..cut]).await;
                        let mut bad = bytes.clone();
                        let bit = below(&mut drawn, bad.len());
                        bad[bit] ^= 1;
                        pile.put(&bad).await;
                    }
                    None if drawn.next_u32() % 100 < wanted => pile.put(&bytes).await,
                    None => {}
                }
            }
        }
        pile.all_shards(&other).await;
        let mut lab = one.fork(seed);
        let ground = Ground::new();
        let Some(_) = heritage(&lab, &pile, &ground).await else {
            assert!(left.values().filter(|left| left.len() >= K).count() < left.len(), "seed {seed}: all was there");
            continue;
        };
        let (vault, host, plan) = founded(&mut lab, &pile, &ground, seed).await;
        assert_eq!((vault.layout.writers.len(), vault.record.epoch), (2, 2), "seed {seed}");
        // Per pack, by this test's own count.
        for pack in &plan.packs {
            assert_eq!(pack.found, left[&pack.pack].len(), "seed {seed}");
            assert_eq!(pack.is_enough(), left[&pack.pack].len() >= K, "seed {seed}");
        }
        let there = restored(&lab, &vault).await;
        for point in &plan.points {
            let mut packs = point.bare.found.record.packs.iter().map(|pack| pack.pack).chain([point.bare.pack]);
            let whole = packs.all(|pack| left.get(&pack).is_some_and(|left| left.len() >= K));
            assert_eq!(point.short.is_empty(), whole, "seed {seed}");
            assert_eq!(there.contains_key(&point.id()), whole, "seed {seed}: whole points, and no others");
            assert!(there.get(&point.id()).is_none_or(|bytes| contents.contains(bytes)), "seed {seed}");
        }
        // Also of points that only a manifest tells of.
        let lost: BTreeSet<PointId> =
            refound::lost(&vault, &lab.catalog).await.unwrap().iter().map(|(row, _)| row.part.point).collect();
        for row in lab.catalog.points().unwrap() {
            let whole = row.part.references.iter().all(|pack| left.get(pack).is_some_and(|left| left.len() >= K));
            assert_eq!(lost.contains(&row.part.point), !whole, "seed {seed}");
        }
        if plan.points.len() == 2 && plan.points.iter().all(|point| point.short.is_empty()) {
            let report = audit(&vault, &lab.catalog).await;
            assert_eq!(report.worst(), Outcome::Ok, "seed {seed}: {:?} {:?}", report.findings, report.records);
        }
        // Nothing that is missing stops garbage collection for good.
        let janitor = Janitor::Own(loaded(&lab.keys.janitor));
        let gc = gc::plan(&vault, &lab.catalog, &janitor, &GcOptions::default()).await.unwrap();
        assert!(gc.stops.is_empty(), "seed {seed}: {:?}", gc.stops);
        lives_on(&mut lab, &ground, host, seed).await;
    }
}

async fn lives_on(lab: &mut Lab, ground: &Ground, host: HostKeys, seed: u64) {
    let (vault, more) = (ground.open(lab).await, random_bytes(seed, 80_000));
    let before = restored(lab, &vault).await.len();
    let report = lab.backup_as(&vault, Arc::new(host.writer), &more).await.unwrap();
    assert!(report.is_full(), "seed {seed}");
    let there = restored(lab, &ground.open(lab).await).await;
    assert!(there.len() == before + 1 && there.values().any(|bytes| *bytes == more), "seed {seed}");
}

/// Nothing is stored twice, and a run cut off at any location is gone on with.
#[tokio::test]
async fn a_founding_that_was_cut_off_is_gone_on_with() {
    let (mut lab, contents) = lab(20).await;
    let mut pile = Pile::new();
    pile.all_shards(&lab).await;
    let ground = Ground::new();
    let first = heritage(&lab, &pile, &ground).await.unwrap();
    assert_eq!((first.points, first.survive_domains(), first.writers.len()), (2, 1, 1));
    let keys = host(&lab, &first, 21);
    found(&lab, &first, &keys, &ground).await.unwrap();
    let vault = ground.open(&lab).await;
    // The first place stands, the second is half written, the others are empty.
    for (at, (name, store)) in ground.stores.iter().enumerate().skip(1) {
        for listed in folder(name, store).list("").await.unwrap() {
            if at > 1 || listed.name.starts_with(names::LAYOUT) {
                store.delete(&Path::from(listed.name.as_str())).await.unwrap();
            }
        }
    }
    let again = heritage(&lab, &pile, &ground).await.unwrap();
    found(&lab, &again, &keys, &ground).await.unwrap();
    let gone_on = ground.open(&lab).await;
    assert_eq!((gone_on.record_hash, gone_on.layout_hash), (vault.record_hash, vault.layout_hash), "the same records");
    assert!(gone_on.locations.iter().all(|location| !location.blank));
    // Other keys of a host: refused, and nothing is written.
    let (count, other) = (ground.names().await, host(&lab, &again, 22));
    let error = found(&lab, &again, &other, &ground).await.unwrap_err();
    assert!(matches!(error, OpsError::Refused { .. }), "{error}");
    assert_eq!(ground.names().await, count);

    let mut keys_read = from_cards(&lab);
    lab.forget_catalog();
    gone_on.complete(&mut keys_read).unwrap();
    let plan = import::plan_anew(&gone_on, &keys_read, &pile.locations()).await.unwrap();
    import::apply(&gone_on, &mut lab.catalog, &plan).await.unwrap();
    reissue::run(&ground.open(&lab).await, &keys.writer, &mut lab.catalog, &plan).await.unwrap();
    let vault = ground.open(&lab).await;
    mend(&vault, &lab.catalog).await;
    adopt::fill(&vault, &keys_read, Some(keys.writer.scope), &mut lab.catalog).await.unwrap();
    let report = lab.backup_as(&vault, Arc::new(keys.writer), &contents[1]).await.unwrap();
    assert_eq!(report.statistics.new_bytes, 0, "what the shards hold is not stored again");
}

/// A place that holds another vault is never founded over.
#[tokio::test]
async fn another_vault_is_never_founded_over() {
    let ((lab, _), (other, _)) = (lab(30).await, lab(31).await);
    let mut pile = Pile::new();
    pile.all_shards(&lab).await;
    let mut ground = Ground::new();
    ground.stores[2].1 = Arc::clone(&other.stores[0].1);
    let before = ground.names().await;
    let heritage = heritage(&lab, &pile, &ground).await.unwrap();
    let error = found(&lab, &heritage, &host(&lab, &heritage, 32), &ground).await.unwrap_err();
    assert!(error.to_string().contains("another vault"), "{error}");
    assert_eq!(ground.names().await, before, "nothing was written anywhere");
}

/// Somebody else's shards alone, or too few: there is nothing to inherit.
#[tokio::test]
async fn from_nothing_nothing_is_founded() {
    let ((lab, _), (other, _)) = (lab(40).await, lab(41).await);
    let mut pile = Pile::new();
    pile.all_shards(&other).await;
    for at in 0..K - 1 {
        for name in lab.names(at).await.into_iter().filter(|name| name.starts_with(names::SHARDS)) {
            pile.put(&lab.get(at, &name).await).await;
        }
    }
    assert!(heritage(&lab, &pile, &Ground::new()).await.is_none());
}

/// A thief has the operator's key and certifies a writer; the root revoked the operator.
/// The revocation lies in the pile, no layout does: the thief's word is not believed, and
/// the revocation stands in the new vault.
#[tokio::test]
async fn a_writer_of_a_revoked_operator_is_not_believed() {
    let (mut lab, _) = lab(50).await;
    let (vault, master) = (lab.open().await.unwrap(), &lab.keys.master);
    let operator = lab.keys.operator.certified().unwrap();
    let thief =
        HostKeys::draw(&mut rng(51), &master.seed, adopt::admission(&vault, master.generation, "thief").await.unwrap())
            .unwrap();
    let request = Request {
        role: Role::Writer,
        subject: WriterId([9; 16]),
        public: thief.writer.signing.verifying_key().clone(),
        kem_public: None,
        serial: 1,
        not_before_ms: 1,
        not_after_ms: i64::MAX,
        scope: Some(lab.keys.writer.scope),
        name: "thief".to_owned(),
    };
    let certificate = issue(&lab.keys.operator.signing, vault.id, request).unwrap();
    let body = Revocation {
        certificate: operator.certificate_hash(),
        subject: operator.subject(),
        epoch: 1,
        sequence: 1,
        reason: "stolen".to_owned(),
        created_ms: lab.world.now_ms(),
    };
    let root = master.seed.root_key(master.generation);
    let revocation = keys::record::sign(RecordKind::Revocation, vault.id, &vault_format::encode(&body), &root);
    let mut pile = Pile::new();
    pile.all_shards(&lab).await;
    for bytes in [&certificate, &revocation] {
        pile.put(bytes).await;
    }
    for Blob(bytes) in &lab.keys.writer.certificates {
        pile.put(bytes).await;
    }
    let ground = Ground::new();
    let found = heritage(&lab, &pile, &ground).await.unwrap();
    assert!(
        found.writers.is_empty() && found.doubted.len() == 2,
        "without a layout nobody can tell: {:?}",
        found.doubted
    );
    // The layout of before tells the true writer.
    pile.put(&vault.layout_bytes).await;
    let found = heritage(&lab, &pile, &ground).await.unwrap();
    assert_eq!((found.writers.len(), found.doubted.len()), (1, 1), "{:?}", found.doubted);
    let (vault, _, plan) = founded(&mut lab, &pile, &ground, 52).await;
    assert!(vault.writers.values().all(|writer| writer.name() != "thief"));
    assert_eq!((vault.revocation_bytes.len(), plan.points.len()), (1, 2));
    assert!(vault.layout.epoch == 2 && vault.previous.is_none(), "nothing is believed of the places of before");
    assert_eq!(restored(&lab, &vault).await.len(), 2);
}
