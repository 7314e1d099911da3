//! A small world for the tests of this crate: in-memory locations that can be
//! switched off, a clock of its own, randomness from a seed.
#![allow(dead_code, reason = "a module of each test file, which uses its part")]

pub(crate) mod stores;
pub(crate) mod yard;

use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use backends::{BackendError, Grade, Kind};
use futures::TryStreamExt;
use keys::files::{KeyFile, ReadKey, WriterKey};
use keys::first::FirstKeys;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use vault_codec::Compression;
use vault_format::body::ChunkKind;
use vault_format::layout::Attachment;
use vault_format::point::{PointRoot, SourceKind, StreamRoot};
use vault_format::suite::Coding;
use vault_format::{Hash, LocationId, PackId};
use vault_ops::backup::{BackupOptions, BackupReport};
use vault_ops::catalog::Catalog;
use vault_ops::create::{self, NewLocation, Shape};
use vault_ops::fetch::{BadShard, Fetcher, Trust, list_shards};
use vault_ops::location::Location;
use vault_ops::points::PointList;
use vault_ops::restore::{OpenPoint, open_point};
use vault_ops::source::{PointReader, Reading, Sink, Source, read_to_vec};
use vault_ops::spool::{Limits, Spool};
use vault_ops::vault::{Candidate, Expected, Vault};
use vault_ops::world::{Clock, Compute, World};

pub(crate) struct TestClock(AtomicI64);

#[async_trait]
impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    async fn sleep(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }
}

pub(crate) fn world(seed: u64) -> World {
    world_at(seed, 1_800_000_000_000)
}

fn world_at(seed: u64, now_ms: i64) -> World {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    World::new(Arc::new(TestClock(AtomicI64::new(now_ms))), Compute::Inline, bytes)
}

/// A generator whose stream is the same for ever.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Below `bound`, which is not zero.
pub(crate) fn below(rng: &mut ChaCha20Rng, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}

/// `count` different numbers below `of`.
pub(crate) fn draw(rng: &mut ChaCha20Rng, of: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    for at in 0..count {
        let other = at + below(rng, of - at);
        all.swap(at, other);
    }
    all.truncate(count);
    all
}

/// How much longer than the short form: `name` in the environment, 1 without it.
pub(crate) fn scale(name: &str) -> usize {
    std::env::var(name).ok().map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

pub(crate) fn subsets(of: usize, size: usize) -> Vec<Vec<usize>> {
    (0_u32..1 << of)
        .filter(|bits| bits.count_ones() as usize == size)
        .map(|bits| (0..of).filter(|at| bits >> at & 1 == 1).collect())
        .collect()
}

pub(crate) fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut out = vec![0; count];
    rng(seed).fill_bytes(&mut out);
    out
}

/// A source of bytes given by the test.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Source for Bytes {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &'static str {
        "bytes"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let content = sink.write(ChunkKind::Data, &mut &self.0[..])?;
        Ok(stream_reading(content, &self.0))
    }
}

pub(crate) fn stream_reading(content: vault_format::tree::Content, bytes: &[u8]) -> Reading {
    let hash = keys::hash::labelled(vault_format::labels::STREAM, bytes);
    let root = PointRoot::Stream(StreamRoot { content, hash, name: "bytes".to_owned() });
    Reading { root, items: 1, changed: 1, unreadable: Vec::new() }
}

/// A reader that fails after some bytes.
pub(crate) struct Breaking(pub(crate) usize);

impl Read for Breaking {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("the disk went away"));
        }
        let count = self.0.min(out.len());
        self.0 -= count;
        out[..count].fill(7);
        Ok(count)
    }
}

/// What a lab's vault shall be.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) coding: (u8, u8),
    pub(crate) survive: u8,
    /// `domains[i]` is the domain of location i.
    pub(crate) domains: Vec<u8>,
    pub(crate) chunks: (u32, u32, u32),
    pub(crate) class_max: u8,
    pub(crate) compression: Compression,
    /// Locations that may be away.
    pub(crate) sometimes: Vec<usize>,
    /// Points are made pinned.
    pub(crate) pinned: bool,
}

impl Setup {
    pub(crate) fn new(coding: (u8, u8), survive: u8, domains: &[u8]) -> Self {
        let chunks = (4 << 10, 16 << 10, 48 << 10);
        let (compression, sometimes) = (Compression::default(), Vec::new());
        Self { coding, survive, domains: domains.to_vec(), chunks, class_max: 3, compression, sometimes, pinned: false }
    }
}

/// A vault in memory with all its keys.
pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) keys: Arc<FirstKeys>,
    pub(crate) setup: Setup,
    pub(crate) stores: Vec<(String, Arc<InMemory>)>,
    pub(crate) down: Vec<usize>,
    /// The spool of this host, where a test wants one.
    pub(crate) spool: Option<Arc<InMemory>>,
    pub(crate) limits: Limits,
    pub(crate) catalog: Catalog,
    pub(crate) catalog_file: PathBuf,
    files: Arc<Files>,
}

/// What a lab has on disk; shared by its forks.
struct Files {
    dir: tempfile::TempDir,
    catalogs: AtomicUsize,
    writer: OnceLock<Arc<WriterKey>>,
    read: OnceLock<Arc<ReadKey>>,
}

impl Files {
    fn new_catalog(&self) -> PathBuf {
        self.dir.path().join(format!("catalog-{}", self.catalogs.fetch_add(1, Ordering::SeqCst)))
    }

    /// A key as a program would load it: from its file.
    fn key<T: KeyFile>(&self, key: &T, name: &str) -> Arc<T> {
        let path = self.dir.path().join(name);
        keys::files::create(&path, key).unwrap();
        Arc::new(keys::files::load(&path).unwrap())
    }
}

impl Lab {
    pub(crate) async fn new(seed: u64, coding: (u8, u8), survive: u8, domains: &[u8]) -> Self {
        Self::build(seed, Setup::new(coding, survive, domains)).await
    }

    pub(crate) async fn build(seed: u64, setup: Setup) -> Self {
        let world = world(seed);
        let keys = FirstKeys::draw(&mut world.rng(), "lab", world.now_ms());
        Self::with_keys(world, keys, setup).await
    }

    pub(crate) async fn with_keys(world: World, keys: FirstKeys, setup: Setup) -> Self {
        let stores: Vec<_> =
            (0..setup.domains.len()).map(|at| (format!("p{}", at + 1), Arc::new(InMemory::new()))).collect();
        let new = stores
            .iter()
            .zip(&setup.domains)
            .zip(0..)
            .map(|(((name, store), domain), at)| NewLocation {
                name: name.clone(),
                domain: format!("domain {domain}"),
                url: format!("memory:///{name}"),
                endpoint: String::new(),
                region: String::new(),
                attached: if setup.sometimes.contains(&at) { Attachment::Sometimes } else { Attachment::Always },
                grade: Grade::Overwritable,
                store: Arc::clone(store) as Arc<dyn ObjectStore>,
            })
            .collect();
        let shape = Shape {
            name: "lab".to_owned(),
            coding: Coding::new(setup.coding.0, setup.coding.1).unwrap(),
            survive_domains: setup.survive,
            chunks: setup.chunks,
            class_max: setup.class_max,
        };
        let generation = keys.read.generations.last().unwrap();
        let root = keys.master.seed.root_key(keys.master.generation);
        let first = create::FirstKeys {
            vault: keys.master.vault,
            root: &root,
            reader: generation.reader.public(),
            janitor: generation.janitor.public(),
            operator: &keys.operator,
            writer: &keys.writer,
        };
        create::create(&world, &shape, &first, new).await.unwrap();
        let files = Files {
            dir: tempfile::tempdir().unwrap(),
            catalogs: AtomicUsize::new(0),
            writer: OnceLock::new(),
            read: OnceLock::new(),
        };
        let catalog_file = files.new_catalog();
        Self {
            world,
            keys: Arc::new(keys),
            setup,
            stores,
            down: Vec::new(),
            spool: None,
            limits: Limits::default(),
            catalog: Catalog::open(&catalog_file).unwrap(),
            catalog_file,
            files: Arc::new(files),
        }
    }

    /// A copy of the whole world at the same time, with other randomness from here on.
    pub(crate) fn fork(&self, seed: u64) -> Self {
        let catalog_file = self.files.new_catalog();
        let copy = rusqlite::Connection::open(&self.catalog_file).unwrap();
        copy.execute("VACUUM INTO ?1", [catalog_file.to_str().unwrap()]).unwrap();
        Self {
            world: world_at(seed, self.world.now_ms()),
            keys: Arc::clone(&self.keys),
            setup: self.setup.clone(),
            stores: self.stores.iter().map(|(name, store)| (name.clone(), Arc::new(store.fork()))).collect(),
            down: self.down.clone(),
            spool: self.spool.as_ref().map(|spool| Arc::new(spool.fork())),
            limits: self.limits,
            catalog: Catalog::open(&catalog_file).unwrap(),
            catalog_file,
            files: Arc::clone(&self.files),
        }
    }

    pub(crate) fn forget_catalog(&mut self) {
        self.catalog_file = self.files.new_catalog();
        self.catalog = Catalog::open(&self.catalog_file).unwrap();
    }

    pub(crate) async fn open(&self) -> vault_ops::Result<Vault> {
        self.open_through(|_, store| store).await
    }

    /// All locations, as a program would open them.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let store = |store: &Arc<InMemory>| Ok(Arc::clone(store) as Arc<dyn ObjectStore>);
        let all = self.stores.iter();
        all.map(|(name, at)| Candidate { name: name.clone(), store: store(at), versions: None, names: None }).collect()
    }

    /// Opens the vault with each location's store wrapped.
    pub(crate) async fn open_through(
        &self,
        wrap: impl Fn(usize, Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> vault_ops::Result<Vault> {
        let candidate = |(at, (name, store)): (usize, &(String, Arc<InMemory>))| Candidate {
            name: name.clone(),
            store: if self.down.contains(&at) {
                Err(BackendError::new(Kind::Unavailable, name.clone(), "switched off by the test"))
            } else {
                Ok(wrap(at, Arc::clone(store) as Arc<dyn ObjectStore>))
            },
            versions: None,
            names: None,
        };
        let expected = Expected { vault: Some(self.keys.public.vault), root: self.keys.public.root.clone() };
        let candidates = self.stores.iter().enumerate().map(candidate).collect();
        // The spool is wrapped as the store behind the last location.
        let spool = self.spool.as_ref().map(|store| {
            let store = wrap(self.stores.len(), Arc::clone(store) as Arc<dyn ObjectStore>);
            Spool::new(store, self.limits, Arc::new(|| None))
        });
        Vault::open_beside(self.world.clone(), &expected, candidates, spool).await
    }

    pub(crate) async fn backup(&mut self, bytes: &[u8]) -> vault_ops::Result<BackupReport> {
        let vault = self.open().await?;
        self.backup_in(&vault, bytes).await
    }

    pub(crate) async fn backup_in(&mut self, vault: &Vault, bytes: &[u8]) -> vault_ops::Result<BackupReport> {
        self.backup_source(vault, Box::new(Bytes(bytes.to_vec()))).await
    }

    pub(crate) async fn backup_source(
        &mut self,
        vault: &Vault,
        source: Box<dyn Source>,
    ) -> vault_ops::Result<BackupReport> {
        let options = BackupOptions {
            host: "lab".to_owned(),
            tags: Vec::new(),
            pinned: self.setup.pinned,
            compression: self.setup.compression,
        };
        let writer = self.writer();
        vault_ops::backup::run(vault, writer, &mut self.catalog, source, &options).await.0
    }

    /// A backup by another host of the vault.
    pub(crate) async fn backup_as(
        &mut self,
        vault: &Vault,
        writer: Arc<WriterKey>,
        bytes: &[u8],
    ) -> vault_ops::Result<BackupReport> {
        let options = BackupOptions {
            host: "new".to_owned(),
            tags: Vec::new(),
            pinned: self.setup.pinned,
            compression: self.setup.compression,
        };
        let source = Box::new(Bytes(bytes.to_vec()));
        vault_ops::backup::run(vault, writer, &mut self.catalog, source, &options).await.0
    }

    pub(crate) fn writer(&self) -> Arc<WriterKey> {
        Arc::clone(self.files.writer.get_or_init(|| self.files.key(&self.keys.writer, "writer.key")))
    }

    pub(crate) fn read_key(&self) -> Arc<ReadKey> {
        Arc::clone(self.files.read.get_or_init(|| self.files.key(&self.keys.read, "read.key")))
    }

    /// Restores the newest point, or so many before it.
    pub(crate) async fn restore(&self, back: usize) -> vault_ops::Result<Vec<u8>> {
        let vault = self.open().await?;
        Ok(self.restore_from(&vault, back).await?.0)
    }

    /// The point's bytes, and the shards the restore did without.
    pub(crate) async fn restore_from(&self, vault: &Vault, back: usize) -> vault_ops::Result<(Vec<u8>, Vec<BadShard>)> {
        let list = vault_ops::points::list(vault, &self.read_key()).await?;
        self.restore_listed(vault, &list, back).await
    }

    pub(crate) async fn restore_listed(
        &self,
        vault: &Vault,
        list: &PointList,
        back: usize,
    ) -> vault_ops::Result<(Vec<u8>, Vec<BadShard>)> {
        let ids: Vec<_> = list.points.iter().map(|point| point.part.point).collect();
        let chosen = &list.points[vault_ops::points::PointName::Latest(back).pick(&ids)?];
        let point = self.open_point(vault, chosen.pack, Some(chosen.record)).await?;
        Ok((read_stream(&point).await?, point.bad_shards()))
    }

    pub(crate) async fn open_point(
        &self,
        vault: &Vault,
        pack: PackId,
        signed: Option<Hash>,
    ) -> vault_ops::Result<OpenPoint> {
        let holdings = list_shards(vault, &vault.writer_ids()).await;
        let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
        open_point(fetcher, self.read_key(), vault.world.compute, pack, signed).await
    }

    /// Names of all objects of a location.
    pub(crate) async fn names(&self, location: usize) -> Vec<String> {
        names_of(&self.stores[location].1).await
    }

    pub(crate) async fn get(&self, location: usize, name: &str) -> Vec<u8> {
        self.stores[location].1.get(&Path::from(name)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    pub(crate) async fn put(&self, location: usize, name: &str, bytes: Vec<u8>) {
        self.stores[location].1.put(&Path::from(name), bytes.into()).await.unwrap();
    }

    pub(crate) async fn delete(&self, location: usize, name: &str) {
        self.stores[location].1.delete(&Path::from(name)).await.unwrap();
    }

    pub(crate) async fn wipe(&self, location: usize) {
        for name in self.names(location).await {
            self.delete(location, &name).await;
        }
    }
}

pub(crate) async fn names_of(store: &dyn ObjectStore) -> Vec<String> {
    let mut names: Vec<String> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

/// A folder that belongs to no vault, as a scan sees it.
pub(crate) fn folder(name: &str, store: &Arc<InMemory>) -> Arc<Location> {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Arc::new(Location {
        id: LocationId::default(),
        name: name.to_owned(),
        domain: 0,
        blank: false,
        store,
        versions: None,
        names: None,
    })
}

pub(crate) async fn read_stream(point: &OpenPoint) -> vault_ops::Result<Vec<u8>> {
    let PointRoot::Stream(root) = point.record().root.clone() else { panic!("the lab backs up streams") };
    let bytes = read_to_vec(point, &root.content, 1 << 30).await?;
    assert_eq!(keys::hash::labelled(vault_format::labels::STREAM, &bytes), root.hash);
    Ok(bytes)
}
