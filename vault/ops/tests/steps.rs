//! Every named step is reached by a story: a name that nobody reaches would be a
//! kill that is never tried.
//!
//! A step that is added is reached here by one more story, or by one of these.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use keys::first::FirstKeys;
use vault_format::vault::CardSet;
use vault_ops::audit::AuditOptions;
use vault_ops::step::Step;
use vault_ops::world::World;
use world::{Lab, Setup, folder, random_bytes};

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

#[tokio::test]
async fn every_step_is_reached() {
    let seen = Seen::default();
    let mut lab = lab(&seen).await;
    backups(&mut lab).await;
    rot_and_repair(&lab).await;
    orphans(&mut lab).await;
    new_cards(&lab).await;
    let seen = seen.0.lock().unwrap();
    let missed: Vec<&str> = Step::ALL.iter().filter(|step| !seen.contains(step)).map(|step| step.name()).collect();
    assert!(missed.is_empty(), "no story reaches {missed:?}");
}
