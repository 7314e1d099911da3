//! Points are sealed anew for the key of a rotation: they restore equal before, during
//! and after, killed anywhere the next run goes on, and once the old packs are gone
//! the old seed opens nothing.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use keys::files::{JanitorGeneration, MasterSeed, MigratorKey, OperatorKey, ReadKey, WriterKey};
use keys::rotation::Rotation;
use keys::seed::{Generation, Seed};
use vault_codec::{Compression, ParsedHeader};
use vault_format::RecipientId;
use vault_format::envelope::Envelope;
use vault_format::manifest::{Manifest, ManifestKind};
use vault_format::shard::HEADER_BYTES;
use vault_ops::catalog::Catalog;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::janitor::Janitor;
use vault_ops::points::{self, PointList};
use vault_ops::reencrypt::{self, Mover, Report};
use vault_ops::restore::open_point;
use vault_ops::vault::Vault;
use vault_ops::world::Compute;
use vault_ops::{issue, rotate};
use world::stores::{Trip, Tripwire};
use world::yard::{DAY_MS, Yard, loaded};
use world::{random_bytes, read_stream, rng, scale};

const SEED: u64 = 0x2ee4;

/// A yard whose seed was rotated after three points, and what belongs to the new one.
struct Scene {
    yard: Yard,
    new: MasterSeed,
    operator: OperatorKey,
    migrator: Arc<WriterKey>,
    catalog: Catalog,
    points: Vec<Vec<u8>>,
}

fn catalog() -> Catalog {
    Catalog::open(&tempfile::tempdir().unwrap().keep().join("migrator")).unwrap()
}

impl Scene {
    async fn new(seed: u64) -> Self {
        println!("seed {seed:#x}");
        let mut yard = Yard::new(seed).await;
        let one = random_bytes(seed, 180_000);
        let two = [&one[..90_000], &random_bytes(seed + 1, 60_000)].concat();
        let points = vec![one, two.clone(), [&two[..], &random_bytes(seed + 2, 30_000)].concat()];
        for point in &points[..2] {
            yard.backup(point).await;
        }
        let vault = yard.open().await;
        let keys = Arc::clone(&yard.lab.keys);
        let new = MasterSeed { vault: vault.id, generation: Generation(2), seed: Seed::random(&mut rng(seed + 3)) };
        let rotation = Rotation {
            vault: vault.id,
            old: &keys.master.seed,
            generation: keys.master.generation,
            new: &new.seed,
            record: &vault.record,
            record_hash: vault.record_hash,
            revocations: &vault.revocations,
            now_ms: yard.lab.world.now_ms(),
        };
        rotate::publish(&vault, &rotation.sign(&mut yard.lab.world.rng()).unwrap()).await.unwrap();
        let vault = yard.open().await;
        let mut janitor = Arc::into_inner(loaded(&keys.janitor)).unwrap();
        let of_new = JanitorGeneration { generation: new.generation, janitor: new.seed.janitor_key(new.generation) };
        janitor.follow(&vault.root, &vault.record, of_new).unwrap();
        yard.janitor = Janitor::Own(Arc::new(janitor));
        let mut operator = Arc::into_inner(loaded(&keys.operator)).unwrap();
        vault.follow_operator(&mut operator).unwrap();
        let said = keys::issue::Said {
            name: "migrator".to_owned(),
            serial: issue::next_serial(&vault),
            now_ms: vault.world.now_ms(),
        };
        let read = read_key(&new, &vault);
        let drawn =
            keys::issue::migrator(&mut rng(seed + 4), &operator, &vault.record, &read, keys.writer.scope, &said)
                .unwrap();
        issue::admit(&vault, &operator, &drawn.0.certificates[1]).await.unwrap();
        let migrator: MigratorKey = Arc::into_inner(loaded(&drawn)).unwrap();
        let mut scene = Self { yard, new, operator, migrator: Arc::new(migrator.0), catalog: catalog(), points };
        let newest = scene.points[2].clone();
        scene.backup(&newest).await;
        scene
    }

    /// A backup by this host, whose key file is the old one.
    async fn backup(&mut self, bytes: &[u8]) -> vault_ops::backup::BackupReport {
        let vault = self.yard.open().await;
        let mut writer = Arc::into_inner(loaded(&self.yard.lab.keys.writer)).unwrap();
        vault.follow(&mut writer).unwrap();
        self.yard.lab.backup_as(&vault, Arc::new(writer), bytes).await.unwrap()
    }

    async fn reencrypt(&mut self, vault: &Vault) -> vault_ops::Result<Report> {
        let read = read_key(&self.new, vault);
        let plan = reencrypt::plan(vault, &read).await?;
        let mut mover = Mover {
            vault,
            read,
            migrator: Arc::clone(&self.migrator),
            janitor: &self.yard.janitor,
            catalog: &mut self.catalog,
            host: Some(&mut self.yard.lab.catalog),
            compression: Compression::default(),
            grace_ms: 7 * DAY_MS,
        };
        reencrypt::apply(&mut mover, &plan, |_| {}).await
    }

    /// The live points, oldest first, each once however often it is there.
    async fn live(&self) -> (Vec<Vec<u8>>, PointList) {
        let vault = self.yard.open().await;
        let read = read_key(&self.new, &vault);
        let list = points::list(&vault, &read).await.unwrap();
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for point in &list.points {
            let holdings = list_shards(&vault, &vault.writer_ids()).await;
            let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
            let open =
                open_point(fetcher, Arc::clone(&read), Compute::Inline, point.pack, Some(point.record)).await.unwrap();
            let plain = read_stream(&open).await.unwrap();
            if !bytes.contains(&plain) {
                bytes.push(plain);
            }
        }
        (bytes, list)
    }

    /// Recipients of everything sealed that the locations hold: shards and manifests.
    async fn recipients(&self) -> BTreeSet<RecipientId> {
        let mut found = BTreeSet::new();
        for at in 0..3 {
            for name in self.yard.lab.names(at).await {
                let bytes = self.yard.lab.get(at, &name).await;
                if name.starts_with("shards/") {
                    found.extend(ParsedHeader::parse(&bytes[..HEADER_BYTES]).unwrap().h0().recipients.iter().copied());
                } else if name.starts_with("manifests/") {
                    let envelope = Envelope::decode(&bytes).unwrap();
                    let body: Manifest = vault_format::decode("manifest", &envelope.body).unwrap();
                    found.extend(body.reader.iter().chain(&body.janitor).map(|part| part.recipient));
                }
            }
        }
        found
    }
}

fn read_key(master: &MasterSeed, vault: &Vault) -> Arc<ReadKey> {
    let mut key = ReadKey::from_seed(&master.seed, master.generation, master.vault);
    vault.complete(&mut key).unwrap();
    Arc::new(key)
}

#[tokio::test]
async fn once_the_old_packs_are_gone_the_old_seed_opens_nothing() {
    let mut scene = Scene::new(SEED).await;
    let (before, _) = scene.live().await;
    assert!(before == scene.points);
    let vault = scene.yard.open().await;
    let plan = reencrypt::plan(&vault, &read_key(&scene.new, &vault)).await.unwrap();
    assert_eq!((plan.points.len(), plan.succeeded.len(), plan.in_trash), (3, 0, 0), "the newest leans on old packs");
    assert!(plan.body_bytes > 0 && plan.remarks.is_empty(), "{:?}", plan.remarks);
    let done = scene.reencrypt(&vault).await.unwrap();
    assert_eq!((done.moved, done.trashed, done.other_scopes), (3, 3, 0), "{done:?}");

    let (after, list) = scene.live().await;
    assert!(after == scene.points, "the same bytes in the same order");
    assert_eq!((list.points.len(), list.trash.len()), (3, 3), "{:?}", list.remarks);
    assert!(list.remarks.is_empty(), "{:?}", list.remarks);
    assert!(list.points.iter().all(|point| point.writer == scene.migrator.writer));
    // Again there is nothing to do.
    let vault = scene.yard.open().await;
    let plan = reencrypt::plan(&vault, &read_key(&scene.new, &vault)).await.unwrap();
    assert!(plan.is_empty() && plan.in_trash == 3, "{plan:?}");

    // This host leans on the new packs: nothing is stored again, nothing old is needed.
    let newest = scene.points[2].clone();
    let report = scene.backup(&newest).await;
    assert_eq!(report.statistics.new_bytes, 0, "{report:?}");
    let vault = scene.yard.open().await;
    let plan = reencrypt::plan(&vault, &read_key(&scene.new, &vault)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");

    // In its grace nothing goes; then by the usual rules.
    scene.yard.gc().await.unwrap();
    let old: BTreeSet<RecipientId> = {
        let (seed, generation) = (&scene.yard.lab.keys.master.seed, scene.yard.lab.keys.master.generation);
        [seed.reader_key(generation).id(), seed.janitor_key(generation).id()].into()
    };
    assert!(!scene.recipients().await.is_disjoint(&old), "what is in the trash is still there");
    for _ in 0..4 {
        scene.yard.days(9).await;
        scene.backup(&newest).await;
        let done = scene.yard.gc().await.unwrap();
        println!("{done:?}");
    }
    assert!(scene.recipients().await.is_disjoint(&old), "the old seed still opens something");
    let (after, list) = scene.live().await;
    assert!(after == scene.points && list.remarks.is_empty(), "{:?}", list.remarks);
}

#[tokio::test]
async fn killed_anywhere_all_points_restore_and_the_next_run_goes_on() {
    let base = Scene::new(SEED + 50).await;
    let wire = Tripwire::never();
    let mut counted = base.fork(1);
    let vault = counted.yard.open_through(|_, store| wire.store(store)).await;
    let first = wire.seen();
    counted.reencrypt(&vault).await.unwrap();
    let last = wire.seen();
    let step = if scale("HOLDFAST_CRASHES") > 1 { 7 } else { 61 };
    let mut ended = 0;
    for (turn, at) in (first..last).step_by(step).enumerate() {
        let trip = [Trip::Fails, Trip::DiesBefore, Trip::DiesAfter][turn % 3];
        let place = format!("{trip:?} at operation {at} of {last}");
        let mut crashed = base.fork(at as u64);
        let wire = Tripwire::new(at, trip);
        let tripped = crashed.yard.open_through(|_, store| wire.store(store)).await;
        let _ = wire.run(crashed.reencrypt(&tripped)).await;
        let (during, _) = crashed.live().await;
        assert!(during == base.points, "{place}");
        if turn % 2 == 0 {
            crashed.catalog = catalog();
        }
        let vault = crashed.yard.open().await;
        crashed.reencrypt(&vault).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        let (after, shown) = crashed.live().await;
        assert!(after == base.points && shown.points.len() == 3, "{place}: {:?}", shown.remarks);
        let vault = crashed.yard.open().await;
        let plan = reencrypt::plan(&vault, &read_key(&base.new, &vault)).await.unwrap();
        assert!(plan.is_empty(), "{place}: {plan:?}");
        ended += 1;
    }
    println!("killed {ended} times, in {} operations", last - first);
    assert!(ended > 5);
}

impl Scene {
    fn fork(&self, seed: u64) -> Self {
        let dates = world::yard::copy_dates(&self.yard.dates);
        Self {
            yard: self.yard.with(self.yard.lab.fork(seed), dates),
            new: MasterSeed {
                vault: self.new.vault,
                generation: self.new.generation,
                seed: Seed::from_array(*self.new.seed.expose_secret()),
            },
            operator: Arc::into_inner(loaded(&self.operator)).unwrap(),
            migrator: Arc::clone(&self.migrator),
            catalog: catalog(),
            points: self.points.clone(),
        }
    }
}

/// A migrator signs successors and heartbeats; a point of its own counts for nobody.
#[tokio::test]
async fn a_migrator_makes_no_points() {
    let mut scene = Scene::new(SEED + 90).await;
    let vault = scene.yard.open().await;
    let migrator = Arc::clone(&scene.migrator);
    scene.yard.lab.forget_catalog();
    let refused = scene.yard.lab.backup_as(&vault, migrator, &random_bytes(1, 10_000)).await.unwrap_err();
    assert!(refused.to_string().contains("no successor"), "{refused}");
    let chain = vault_ops::heads::chain(&vault, scene.migrator.writer, vault_ops::heads::Depth::Whole).await.unwrap();
    assert!(chain.all().iter().all(|one| one.body.kind != ManifestKind::Point));
}
