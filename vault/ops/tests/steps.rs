//! Every named step is reached by a story: a name that nobody reaches would be a
//! kill that is never tried.
//!
//! A step that is added is reached here by one more story, or by one of these.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use backends::Grade;
use keys::first::FirstKeys;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use vault_format::layout::Attachment;
use vault_format::vault::CardSet;
use vault_ops::audit::AuditOptions;
use vault_ops::gc::{self, GcOptions};
use vault_ops::janitor::Janitor;
use vault_ops::points::PointName;
use vault_ops::relayout::{self, Change, Place};
use vault_ops::spool::{self, Delivery};
use vault_ops::step::Step;
use vault_ops::vault::location_id;
use vault_ops::world::World;
use vault_ops::{forget, rebalance, trash};
use world::{Lab, Setup, folder, names_of, random_bytes};

/// What the stories came by.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<Step>>>);

impl Seen {
    fn world(&self, seed: u64) -> World {
        let steps = Arc::clone(&self.0);
        world::world(seed).observed_by(Arc::new(move |step| {
            steps.lock().unwrap().insert(step);
        }))
    }
}

/// A vault of four domains that survives any one, every step of it seen.
async fn lab(seen: &Seen) -> Lab {
    let world = seen.world(1);
    let keys = FirstKeys::draw(&mut world.rng(), "lab", world.now_ms());
    Lab::with_keys(world, keys, Setup::new((5, 9), 1, &[0, 1, 2, 3])).await
}

/// A point, a point while a location is away, and a catalog filled anew.
async fn backups(lab: &mut Lab) {
    lab.backup(&random_bytes(1, 300_000)).await.unwrap();
    lab.down = vec![1];
    lab.backup(&random_bytes(2, 300_000)).await.unwrap();
    lab.down.clear();
    lab.forget_catalog();
    lab.backup(&random_bytes(3, 300_000)).await.unwrap();
}

/// One shard rots, some and a manifest are gone; all is found and mended.
async fn rot_and_repair(lab: &Lab) {
    let names = lab.names(3).await;
    lab.delete(3, names.iter().find(|name| name.starts_with("manifests/")).unwrap()).await;
    let shards: Vec<String> = lab.names(0).await.into_iter().filter(|name| name.starts_with("shards/")).collect();
    let mut bytes = lab.get(0, &shards[0]).await;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    lab.put(0, &shards[0], bytes).await;
    let vault = lab.open().await.unwrap();
    let options = AuditOptions { samples: 1, location: None, full: true };
    vault_ops::audit::run(&vault, &lab.catalog, &options).await.unwrap();
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert!(plan.shards.len() > 1 && !plan.records.is_empty(), "{plan:?}");
    let done = vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty() && done.lost.is_empty(), "{done:?}");
}

/// A location's shards and manifests come back from copies of all, with a catalog that knows nothing.
async fn orphans(lab: &mut Lab) {
    let copies: Vec<_> = lab.stores.iter().map(|(name, store)| folder(name, &Arc::new(store.fork()))).collect();
    let gone = |name: &String| name.starts_with("shards/") || name.starts_with("manifests/");
    for name in lab.names(2).await.into_iter().filter(gone) {
        lab.delete(2, &name).await;
    }
    lab.forget_catalog();
    let vault = lab.open().await.unwrap();
    let plan = vault_ops::import::plan(&vault, Some(&lab.read_key()), &copies).await.unwrap();
    let done = vault_ops::import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty() && done.points == 3, "{done:?}");
}

async fn new_cards(lab: &Lab) {
    let vault = lab.open().await.unwrap();
    let root = lab.keys.master.seed.root_key(lab.keys.master.generation);
    let set = CardSet { number: 1, need: 2, cards: Vec::new(), created_ms: 0 };
    vault_ops::amend::add_card_set(&vault, &root, set).await.unwrap();
}

async fn deliver(lab: &mut Lab) -> Delivery {
    let vault = lab.open().await.unwrap();
    spool::deliver(&vault, &lab.writer(), &mut lab.catalog).await.unwrap()
}

/// A point waits and is delivered by a host that lost its catalog; another one can never be.
async fn waiting(lab: &mut Lab) {
    let store = Arc::new(InMemory::new());
    lab.spool = Some(Arc::clone(&store));
    spool::keep_records(&lab.open().await.unwrap()).await.unwrap();
    for (seed, delivered) in [(10, 1), (11, 0)] {
        lab.down = vec![0, 1, 2, 3];
        assert!(lab.backup(&random_bytes(seed, 100_000)).await.unwrap().spooled.is_some());
        lab.down.clear();
        if delivered == 0 {
            let name = names_of(&*store).await.into_iter().find(|name| name.starts_with("manifests/")).unwrap();
            store.put(&Path::from(name), vec![1].into()).await.unwrap();
        }
        lab.forget_catalog();
        assert_eq!(deliver(lab).await.delivered.len(), delivered);
    }
    let stuck = deliver(lab).await.stuck;
    let vault = lab.open().await.unwrap();
    let plan = spool::plan_aside(&vault, &lab.writer(), &stuck).await.unwrap();
    spool::set_aside(&vault, &mut lab.catalog, &plan).await.unwrap();
}

/// Points are forgotten and swept; then the writer is silent for too long.
async fn janitor(lab: &mut Lab) {
    let file = tempfile::tempdir().unwrap();
    keys::files::create(&file.path().join("key"), &lab.keys.janitor).unwrap();
    let janitor = Janitor::Own(Arc::new(keys::files::load(&file.path().join("key")).unwrap()));
    let options = GcOptions { confirmed: true, ..GcOptions::default() };
    for fence_after_ms in [options.fence_after_ms, 0] {
        let point = lab.backup(&random_bytes(20 + u64::from(fence_after_ms == 0), 200_000)).await.unwrap().point;
        lab.backup(&random_bytes(30, 100_000)).await.unwrap();
        let vault = lab.open().await.unwrap();
        let name = PointName::parse(&point.to_string()).unwrap();
        let plan = forget::plan_named(&vault, &lab.catalog, &janitor, std::slice::from_ref(&name)).await.unwrap();
        forget::apply(&vault, &janitor, &plan, 0, true).await.unwrap();
        trash::purge(&lab.open().await.unwrap(), &lab.catalog, &janitor, &name).await.unwrap();
        let gc = async |lab: &Lab| {
            let options = GcOptions { fence_after_ms, ..options.clone() };
            gc::apply(&lab.open().await.unwrap(), &lab.catalog, &janitor, &options).await.unwrap()
        };
        assert!(gc(lab).await.condemned > 0);
        if fence_after_ms > 0 {
            lab.backup(&random_bytes(30, 100_000)).await.unwrap();
        }
        let swept = gc(lab).await;
        assert!(swept.swept > 0 && swept.fenced == usize::from(fence_after_ms == 0), "{swept:?}");
        lab.backup(&random_bytes(30, 100_000)).await.unwrap();
        assert!(gc(lab).await.manifests > 0);
    }
}

/// A location comes in, and shards move to it.
async fn movement(lab: &mut Lab) {
    lab.stores.push(("p5".to_owned(), Arc::new(InMemory::new())));
    lab.setup.domains.push(4);
    let place = |(name, domain): (&String, &u8)| Place {
        name: name.clone(),
        domain: format!("domain {domain}"),
        url: format!("memory:///{name}"),
        endpoint: String::new(),
        region: String::new(),
        attached: Attachment::Always,
    };
    let places: Vec<Place> = lab.stores.iter().map(|(name, _)| name).zip(&lab.setup.domains).map(place).collect();
    let vault = lab.open().await.unwrap();
    let add = Change::Add { name: "p5", grade: Grade::Overwritable };
    let next = relayout::changed(&vault, &places, add).unwrap().unwrap();
    let bytes = relayout::sign(&vault, "lab", &lab.keys.operator, &places, next.clone()).unwrap();
    let new = relayout::newcomer(&vault, &next, "p5", Arc::clone(&lab.stores[4].1) as _);
    relayout::publish(&vault, &lab.catalog, &next, &bytes, &[new]).await.unwrap();
    let vault = lab.open().await.unwrap();
    let id = |name: &String| location_id(vault.id, name);
    let admin = lab.stores.iter().map(|(name, store)| (id(name), Arc::clone(store) as _)).collect();
    let plan = rebalance::plan(&vault, &lab.catalog).await.unwrap();
    let done = rebalance::apply(&vault, &lab.catalog, &plan, &admin).await.unwrap();
    assert!(done.settled && done.removed > 0, "{done:?}");
}

#[tokio::test]
async fn every_step_is_reached() {
    let seen = Seen::default();
    let mut lab = lab(&seen).await;
    backups(&mut lab).await;
    rot_and_repair(&lab).await;
    orphans(&mut lab).await;
    new_cards(&lab).await;
    waiting(&mut lab).await;
    janitor(&mut lab).await;
    movement(&mut lab).await;
    let seen = seen.0.lock().unwrap();
    let missed: Vec<&str> = Step::ALL.iter().filter(|step| !seen.contains(step)).map(|step| step.name()).collect();
    assert!(missed.is_empty(), "no story reaches {missed:?}");
}
