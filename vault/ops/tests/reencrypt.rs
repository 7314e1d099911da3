//! Points are sealed anew for the key of a rotation: they restore equal before, during
//! and after, killed anywhere the next run goes on, and once the old packs are gone
//! the old seed opens nothing.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use keys::files::{JanitorGeneration, JanitorKey, MasterSeed, MigratorKey, OperatorKey, ReadKey, WriterKey};
use keys::rotation::Rotation;
use keys::seed::{Generation, Seed};
use vault_codec::{Compression, ParsedHeader};
use vault_format::RecipientId;
use vault_format::envelope::Envelope;
use vault_format::manifest::{Manifest, ManifestKind};
use vault_format::shard::HEADER_BYTES;
use vault_ops::catalog::{Catalog, PackState};
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::forget::{self, Rule};
use vault_ops::janitor::Janitor;
use vault_ops::points::{self, PointList};
use vault_ops::reencrypt::{self, Mover, Report};
use vault_ops::restore::open_point;
use vault_ops::retention::{Count, Keep};
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
    drawn: Arc<MigratorKey>,
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
        let first = MasterSeed {
            vault: yard.lab.keys.master.vault,
            generation: yard.lab.keys.master.generation,
            seed: Seed::from_array(*yard.lab.keys.master.seed.expose_secret()),
        };
        let new = rotated(&mut yard, &first, seed + 3).await;
        let (vault, keys) = (yard.open().await, Arc::clone(&yard.lab.keys));
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
        let drawn: Arc<MigratorKey> = loaded(&drawn);
        let migrator = Arc::new(Arc::into_inner(loaded(&*drawn)).unwrap().0);
        let mut scene = Self { yard, new, operator, drawn, migrator, catalog: catalog(), points };
        let newest = scene.points[2].clone();
        scene.backup(&newest).await;
        scene
    }

    /// Another rotation, which all but the writer's key file follow.
    async fn rotate(&mut self, draw: u64) {
        self.new = rotated(&mut self.yard, &self.new, draw).await;
        let vault = self.yard.open().await;
        vault.follow_operator(&mut self.operator).unwrap();
        let mut migrator = Arc::into_inner(loaded(&*self.drawn)).unwrap().0;
        vault.follow(&mut migrator).unwrap();
        self.migrator = Arc::new(migrator);
    }

    /// A backup by this host, whose key file is the old one.
    async fn backup(&mut self, bytes: &[u8]) -> vault_ops::backup::BackupReport {
        let vault = self.yard.open().await;
        let mut writer = Arc::into_inner(loaded(&self.yard.lab.keys.writer)).unwrap();
        vault.follow(&mut writer).unwrap();
        self.yard.lab.backup_as(&vault, Arc::new(writer), bytes).await.unwrap()
    }

    async fn reencrypt(&mut self, vault: &Vault) -> vault_ops::Result<Report> {
        self.reencrypt_telling(vault, true).await
    }

    /// On this host, or elsewhere.
    async fn reencrypt_telling(&mut self, vault: &Vault, here: bool) -> vault_ops::Result<Report> {
        let read = read_key(&self.new, vault);
        let plan = reencrypt::plan(vault, &read).await?;
        let mut mover = Mover {
            vault,
            read,
            migrator: Arc::clone(&self.migrator),
            janitor: &self.yard.janitor,
            catalog: &mut self.catalog,
            host: here.then_some(&mut self.yard.lab.catalog),
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

/// Brings the seed after `old` into force; the yard's janitor follows.
async fn rotated(yard: &mut Yard, old: &MasterSeed, draw: u64) -> MasterSeed {
    let vault = yard.open().await;
    let generation = Generation(old.generation.0 + 1);
    let new = MasterSeed { vault: vault.id, generation, seed: Seed::random(&mut rng(draw)) };
    let rotation = Rotation {
        vault: vault.id,
        old: &old.seed,
        generation: old.generation,
        new: &new.seed,
        record: &vault.record,
        record_hash: vault.record_hash,
        revocations: &vault.revocations,
        now_ms: yard.lab.world.now_ms(),
    };
    rotate::publish(&vault, &rotation.sign(&mut yard.lab.world.rng()).unwrap()).await.unwrap();
    let vault = yard.open().await;
    let Janitor::Own(janitor) = &yard.janitor else { panic!("a yard has a janitor of its own") };
    let mut janitor: JanitorKey = Arc::into_inner(loaded(&**janitor)).unwrap();
    let of_new = JanitorGeneration { generation, janitor: new.seed.janitor_key(generation) };
    janitor.follow(&vault.root, &vault.record, of_new).unwrap();
    yard.janitor = Janitor::Own(Arc::new(janitor));
    new
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
    scene.assert_host_knows(&list, "after a whole run").await;
    // Rules for the host reach its points under the migrator's name too.
    let rule = Rule {
        source: Some(list.points[0].part.source.clone()),
        writer: Some(scene.yard.lab.keys.writer.writer),
        keep: Keep { last: Count::Most(1), ..Keep::default() },
    };
    let (vault, yard) = (scene.yard.open().await, &scene.yard);
    let plan = forget::plan(&vault, &yard.catalog, &yard.janitor, &[rule], 1).await.unwrap();
    assert_eq!((plan.forget.len(), plan.keep.len()), (2, 1));
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
    let old = of(&scene.yard.lab.keys.master.seed, scene.yard.lab.keys.master.generation);
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

fn of(seed: &Seed, generation: Generation) -> BTreeSet<RecipientId> {
    [seed.reader_key(generation).id(), seed.janitor_key(generation).id()].into()
}

#[tokio::test]
async fn after_a_second_rotation_all_is_moved_again_and_neither_older_seed_opens_anything() {
    let mut scene = Scene::new(SEED + 20).await;
    let vault = scene.yard.open().await;
    assert_eq!(scene.reencrypt(&vault).await.unwrap().moved, 3);
    let first = of(&scene.yard.lab.keys.master.seed, scene.yard.lab.keys.master.generation);
    let second = of(&scene.new.seed, scene.new.generation);
    scene.rotate(SEED + 30).await;
    let vault = scene.yard.open().await;
    let plan = reencrypt::plan(&vault, &read_key(&scene.new, &vault)).await.unwrap();
    assert_eq!((plan.points.len(), plan.succeeded.len()), (3, 0), "what was moved is old again");
    let done = scene.reencrypt(&vault).await.unwrap();
    assert_eq!((done.moved, done.trashed), (3, 3), "{done:?}");
    assert!(done.body_bytes > 200_000, "nothing that was moved before is leaned on: {done:?}");
    let newest = scene.points[2].clone();
    for _ in 0..5 {
        scene.yard.days(9).await;
        scene.backup(&newest).await;
        scene.yard.gc().await.unwrap();
    }
    let left = scene.recipients().await;
    assert!(left.is_disjoint(&first), "the first seed still opens something");
    assert!(left.is_disjoint(&second), "the second seed still opens something");
    let (after, list) = scene.live().await;
    assert!(after == scene.points && list.remarks.is_empty(), "{:?}", list.remarks);
}

/// What another machine moved a host is told of with the read key alone.
#[tokio::test]
async fn a_host_that_was_told_later_leans_on_what_was_moved_elsewhere() {
    let mut scene = Scene::new(SEED + 40).await;
    let vault = scene.yard.open().await;
    scene.reencrypt_telling(&vault, false).await.unwrap();
    let vault = scene.yard.open().await;
    let read = read_key(&scene.new, &vault);
    let plan = reencrypt::plan(&vault, &read).await.unwrap();
    assert!(plan.is_empty());
    let (scope, host) = (scene.yard.lab.keys.writer.scope, &mut scene.yard.lab.catalog);
    assert!(reencrypt::teach(&vault, &read, scope, (&mut *host, &plan)).await.unwrap() > 0);
    assert_eq!(reencrypt::teach(&vault, &read, scope, (host, &plan)).await.unwrap(), 0, "once is enough");
    let (_, list) = scene.live().await;
    scene.assert_host_knows(&list, "told later").await;
    let newest = scene.points[2].clone();
    assert_eq!(scene.backup(&newest).await.statistics.new_bytes, 0);
    let vault = scene.yard.open().await;
    assert!(reencrypt::plan(&vault, &read).await.unwrap().is_empty(), "it leans on old packs");
}

/// Whoever stole a writer's key signs successors of all points: none of them counts, so
/// that the originals are moved before they are let go.
#[tokio::test]
async fn a_writer_makes_no_successors() {
    let mut scene = Scene::new(SEED + 120).await;
    let vault = scene.yard.open().await;
    let read = read_key(&scene.new, &vault);
    let plan = reencrypt::plan(&vault, &read).await.unwrap();
    let mut stolen = Arc::into_inner(loaded(&scene.yard.lab.keys.writer)).unwrap();
    vault.follow(&mut stolen).unwrap();
    let elsewhere = Yard::new(SEED + 121).await;
    let mut thief = Mover {
        vault: &vault,
        read,
        migrator: Arc::new(stolen),
        // The thief has no janitor here: nothing is put into the trash.
        janitor: &elsewhere.janitor,
        catalog: &mut catalog(),
        host: None,
        compression: Compression::default(),
        grace_ms: DAY_MS,
    };
    reencrypt::apply(&mut thief, &plan, |_| {}).await.unwrap_err();

    let vault = scene.yard.open().await;
    let plan = reencrypt::plan(&vault, &read_key(&scene.new, &vault)).await.unwrap();
    assert_eq!((plan.points.len(), plan.succeeded.len()), (3, 0), "{:?}", plan.remarks);
    assert_eq!(plan.remarks.iter().filter(|remark| remark.contains("no migrator made it")).count(), 3);
    assert_eq!(scene.reencrypt(&vault).await.unwrap().moved, 3);
    let (after, _) = scene.live().await;
    assert!(after == scene.points);
}

#[tokio::test]
async fn killed_anywhere_all_points_restore_and_the_next_run_goes_on() {
    let base = Scene::new(SEED + 50).await;
    base.pin_the_first().await;
    let wire = Tripwire::never();
    let mut counted = base.fork(1);
    let vault = counted.yard.open_through(|_, store| wire.store(store)).await;
    let first = wire.seen();
    counted.reencrypt(&vault).await.unwrap();
    let last = wire.seen();
    let step = if scale("HOLDFAST_CRASHES") > 1 { 5 } else { 41 };
    let mut ended = 0;
    let pinned_bytes = base.pinned().await;
    assert!(pinned_bytes == [base.points[0].clone()] && counted.pinned().await == pinned_bytes);
    for (turn, at) in (first..last).step_by(step).enumerate() {
        let trip = [Trip::Fails, Trip::DiesBefore, Trip::DiesAfter][turn % 3];
        let place = format!("{trip:?} at operation {at} of {last}");
        let mut crashed = base.fork(at as u64);
        let wire = Tripwire::new(at, trip);
        let tripped = crashed.yard.open_through(|_, store| wire.store(store)).await;
        let _ = wire.run(crashed.reencrypt(&tripped)).await;
        let (during, _) = crashed.live().await;
        assert!(during == base.points, "{place}");
        assert!(crashed.pinned().await == pinned_bytes, "{place}: the pin was lost on the way");
        if turn % 2 == 0 {
            crashed.catalog = catalog();
        }
        let vault = crashed.yard.open().await;
        crashed.reencrypt(&vault).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        let (after, shown) = crashed.live().await;
        assert!(after == base.points && shown.points.len() == 3, "{place}: {:?}", shown.remarks);
        assert!(crashed.pinned().await == pinned_bytes && shown.pinned.len() == 1, "{place}: {:?}", shown.pinned);
        crashed.assert_host_knows(&shown, &place).await;
        let vault = crashed.yard.open().await;
        let plan = reencrypt::plan(&vault, &read_key(&base.new, &vault)).await.unwrap();
        assert!(plan.is_empty(), "{place}: {plan:?}");
        ended += 1;
    }
    println!("killed {ended} times, in {} operations", last - first);
    assert!(ended > 5);
}

impl Scene {
    async fn pin_the_first(&self) {
        let (vault, yard) = (self.yard.open().await, &self.yard);
        let first = self.live().await.1.points[0].part.point;
        let name = vault_ops::points::PointName::parse(&first.to_string()).unwrap();
        vault_ops::pins::pin(&vault, &yard.catalog, &yard.janitor, &[name]).await.unwrap();
    }

    /// What the live pinned points hold, each once.
    async fn pinned(&self) -> Vec<Vec<u8>> {
        let vault = self.yard.open().await;
        let read = read_key(&self.new, &vault);
        let list = points::list(&vault, &read).await.unwrap();
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for point in list.points.iter().filter(|point| list.pinned.contains(&point.part.point)) {
            let holdings = list_shards(&vault, &vault.writer_ids()).await;
            let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
            let open =
                open_point(fetcher, Arc::clone(&read), Compute::Inline, point.pack, Some(point.record)).await.unwrap();
            let plain = read_stream(&open).await.unwrap();
            if !bytes.contains(&plain) {
                bytes.push(plain);
            }
        }
        bytes
    }

    /// The host's catalog has the successors and all packs they were moved into.
    async fn assert_host_knows(&self, list: &PointList, place: &str) {
        let host = &self.yard.lab.catalog;
        for point in &list.points {
            assert!(host.has_point(point.part.point).unwrap(), "{place}: the host knows nothing of a successor");
        }
        let vault = self.yard.open().await;
        let chain = vault_ops::heads::chain(&vault, self.migrator.writer, vault_ops::heads::Depth::Whole).await;
        for pack in chain.unwrap().all().iter().flat_map(|one| &one.body.packs) {
            let row = host.pack(pack.pack).unwrap();
            assert!(
                row.is_some_and(|row| row.state == PackState::Committed),
                "{place}: the host was not told of a pack"
            );
        }
    }

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
            drawn: Arc::clone(&self.drawn),
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
