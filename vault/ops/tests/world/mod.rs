//! A small world for the tests of this crate: in-memory locations that can be
//! switched off, a clock that stands still, randomness from a printed seed.
#![allow(dead_code)]

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backends::{BackendError, Grade, Kind};
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
use vault_ops::backup::{BackupOptions, BackupReport};
use vault_ops::catalog::Catalog;
use vault_ops::create::{self, NewLocation, Shape};
use vault_ops::source::{Reading, Sink, Source};
use vault_ops::vault::{Candidate, Expected, Vault};
use vault_ops::world::{Clock, Compute, World};

pub struct TestClock(AtomicI64);

#[async_trait]
impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    async fn sleep(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }
}

pub fn world(seed: u64) -> World {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    World::new(Arc::new(TestClock(AtomicI64::new(1_800_000_000_000))), Compute::Inline, bytes)
}

/// A source of bytes given by the test.
pub struct Bytes(pub Vec<u8>);

impl Source for Bytes {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &str {
        "bytes"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let content = sink.write(ChunkKind::Data, &mut &self.0[..])?;
        let hash = keys::hash::labelled(vault_format::labels::STREAM, &self.0);
        let root = PointRoot::Stream(StreamRoot { content, hash, name: "bytes".to_owned() });
        Ok(Reading { root, items: 1, changed: 1, unreadable: Vec::new() })
    }
}

/// A reader that fails after some bytes.
pub struct Breaking(pub usize);

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

pub fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut out = vec![0; count];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut out);
    out
}

/// A vault in memory with all its keys.
pub struct Lab {
    pub world: World,
    pub keys: Arc<FirstKeys>,
    pub stores: Vec<(String, Arc<InMemory>)>,
    pub down: Vec<usize>,
    pub catalog: Catalog,
    pub dir: tempfile::TempDir,
    pub catalogs: usize,
}

impl Lab {
    /// `domains[i]` is the domain of location i.
    pub async fn new(seed: u64, coding: (u8, u8), survive: u8, domains: &[u8]) -> Self {
        let world = world(seed);
        let keys = FirstKeys::draw(&mut world.rng(), "lab", world.now_ms());
        let stores: Vec<_> =
            (0..domains.len()).map(|at| (format!("p{}", at + 1), Arc::new(InMemory::new()))).collect();
        let new = stores
            .iter()
            .zip(domains)
            .map(|((name, store), domain)| NewLocation {
                name: name.clone(),
                domain: format!("domain {domain}"),
                url: format!("memory:///{name}"),
                endpoint: String::new(),
                region: String::new(),
                attached: Attachment::Always,
                grade: Grade::Overwritable,
                store: Arc::clone(store) as Arc<dyn ObjectStore>,
            })
            .collect();
        let shape = Shape {
            name: "lab".to_owned(),
            coding: Coding::new(coding.0, coding.1).unwrap(),
            survive_domains: survive,
            chunks: (4 << 10, 16 << 10, 48 << 10),
            class_max: 3,
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
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog-0")).unwrap();
        Self { world, keys: Arc::new(keys), stores, down: Vec::new(), catalog, dir, catalogs: 1 }
    }

    pub fn candidates(&self) -> Vec<Candidate> {
        self.stores
            .iter()
            .enumerate()
            .map(|(at, (name, store))| Candidate {
                name: name.clone(),
                store: if self.down.contains(&at) {
                    Err(BackendError::new(Kind::Unavailable, name.clone(), "switched off by the test"))
                } else {
                    Ok(Arc::clone(store) as Arc<dyn ObjectStore>)
                },
            })
            .collect()
    }

    pub async fn open(&self) -> vault_ops::Result<Vault> {
        let expected = Expected { vault: Some(self.keys.public.vault), root: self.keys.public.root.clone() };
        Vault::open(self.world.clone(), &expected, self.candidates()).await
    }

    pub async fn backup(&mut self, bytes: &[u8]) -> vault_ops::Result<BackupReport> {
        let vault = self.open().await?;
        let options = BackupOptions { host: "lab".to_owned(), tags: Vec::new(), compression: Compression::default() };
        let (_, writer) = (&vault, self.writer());
        vault_ops::backup::run(&vault, writer, &mut self.catalog, Box::new(Bytes(bytes.to_vec())), &options).await.0
    }

    /// The writer key as the agent would load it: from its file.
    pub fn writer(&self) -> Arc<keys::files::WriterKey> {
        Arc::new(self.through_file(&self.keys.writer, "writer.key"))
    }

    /// The read key as a restore would load it: from its file.
    pub fn read_key(&self) -> Arc<keys::files::ReadKey> {
        Arc::new(self.through_file(&self.keys.read, "read.key"))
    }

    fn through_file<T: keys::files::KeyFile>(&self, key: &T, name: &str) -> T {
        let path = self.dir.path().join(name);
        if !path.exists() {
            keys::files::create(&path, key).unwrap();
        }
        keys::files::load(&path).unwrap()
    }

    pub async fn restore(&self, back: usize) -> vault_ops::Result<Vec<u8>> {
        let vault = self.open().await?;
        let keys = self.read_key();
        let list = vault_ops::points::list(&vault, &keys).await?;
        let ids: Vec<_> = list.points.iter().map(|point| point.part.point).collect();
        let chosen = &list.points[vault_ops::points::PointName::Latest(back).pick(&ids)?];
        let holdings = vault_ops::fetch::list_shards(&vault, &vault.writer_ids()).await;
        let trust = vault_ops::fetch::Trust::Signed(vault.writers.clone());
        let fetcher = vault_ops::fetch::Fetcher::new(vault.world.clone(), holdings, trust);
        let point =
            vault_ops::restore::open_point(fetcher, keys, vault.world.compute, chosen.pack, Some(chosen.record)).await?;
        read_stream(&point).await
    }

    pub fn forget_catalog(&mut self) {
        self.catalog = Catalog::open(&self.dir.path().join(format!("catalog-{}", self.catalogs))).unwrap();
        self.catalogs += 1;
    }

    /// Names of all objects of a location.
    pub async fn names(&self, location: usize) -> Vec<String> {
        use futures::TryStreamExt;
        let mut names: Vec<String> =
            self.stores[location].1.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        names.sort();
        names
    }

    pub async fn get(&self, location: usize, name: &str) -> Vec<u8> {
        self.stores[location].1.get(&Path::from(name)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    pub async fn put(&self, location: usize, name: &str, bytes: Vec<u8>) {
        self.stores[location].1.put(&Path::from(name), bytes.into()).await.unwrap();
    }

    pub async fn delete(&self, location: usize, name: &str) {
        self.stores[location].1.delete(&Path::from(name)).await.unwrap();
    }

    pub async fn wipe(&self, location: usize) {
        for name in self.names(location).await {
            self.delete(location, &name).await;
        }
    }
}

pub async fn read_stream(point: &vault_ops::restore::OpenPoint) -> vault_ops::Result<Vec<u8>> {
    use vault_ops::source::{PointReader, read_to_vec};
    let PointRoot::Stream(root) = point.record().root.clone() else { panic!("the lab backs up streams") };
    let bytes = read_to_vec(point, &root.content, 1 << 30).await?;
    assert_eq!(keys::hash::labelled(vault_format::labels::STREAM, &bytes), root.hash);
    Ok(bytes)
}
