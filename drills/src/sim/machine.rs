//! The machine under test: the production code with its keys and its catalog, over
//! simulated locations and time.
//!
//! What always holds: every act opens the vault anew, as a run of the program
//! does; keys and empty vaults are drawn once per process, from fixed seeds, so
//! that the order in which seeds run changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backends::Grade;
use keys::files::{ReadKey, VaultPublic, WriterKey};
use keys::first::FirstKeys;
use object_store::ObjectStore;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_format::body::ChunkKind;
use vault_format::layout::Attachment;
use vault_format::point::{PointRoot, SourceKind, StreamRoot};
use vault_format::suite::Coding;
use vault_ops::Result;
use vault_ops::audit::{AuditOptions, AuditReport};
use vault_ops::backup::{BackupOptions, BackupReport, Compression};
use vault_ops::catalog::Catalog;
use vault_ops::create::{self, NewLocation};
use vault_ops::heartbeat::{self, Beat};
use vault_ops::repair::{RepairPlan, RepairReport};
use vault_ops::scrub::{self, ScrubOptions, ScrubReport};
use vault_ops::source::{Reading, Sink, Source};
use vault_ops::spool::{Delivery, Limits, Spool};
use vault_ops::status::Status;
use vault_ops::vault::{Candidate, Expected, Vault};
use vault_ops::world::{Compute, Observer, World};

use super::scenario::{self, Shape};
use super::sites::{Site, Sites, Who};
use super::store::SimStore;
use super::timeline::{Ended, Sight, Timeline};

/// Chunks are small, so that small contents have many.
const CHUNKS: (u32, u32, u32) = (4 << 10, 16 << 10, 48 << 10);
const SOURCE: &str = "simulated";
const DAY: Duration = Duration::from_hours(24);
/// Short, so that a slice has something to read.
const SCRUB_INTERVAL: Duration = Duration::from_hours(5 * 24);

/// The keys of the simulated vault, and its first writer's.
pub(super) struct Keys {
    /// The writer's.
    pub(super) writer: Arc<WriterKey>,
    /// The reader's.
    pub(super) read: Arc<ReadKey>,
    /// What anybody may know.
    pub(super) public: VaultPublic,
    /// The operator's: it signs what the janitor does.
    pub(super) operator: Arc<keys::files::OperatorKey>,
    master: keys::files::MasterSeed,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut rng = ChaCha20Rng::seed_from_u64(0x51a1);
    let FirstKeys { master, read, operator, writer, public, .. } =
        FirstKeys::draw(&mut rng, SOURCE, super::timeline::START_MS);
    Keys { writer: Arc::new(writer), read: Arc::new(read), public, operator: Arc::new(operator), master }
});

/// The keys of every simulated vault.
pub(super) fn keys() -> &'static Keys {
    &KEYS
}

static EMPTY_VAULTS: Mutex<BTreeMap<String, Vec<Site>>> = Mutex::new(BTreeMap::new());

/// Locations with a new vault of this shape and no point.
pub(super) fn new_vault(shape: &Shape) -> std::result::Result<Vec<Site>, String> {
    let key = format!("{shape:?}");
    let known = || EMPTY_VAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sites) = known().get(&key) {
        return Ok(sites.clone());
    }
    let timeline = Arc::new(Timeline::default());
    let blank = |site: &scenario::Site| Site {
        name: site.name.clone(),
        domain: site.domain.clone(),
        conditional: site.conditional,
        ..Site::default()
    };
    let sites = Sites::new(Arc::clone(&timeline), shape.locations.iter().map(blank).collect(), 0);
    let world = world(&timeline, 0);
    let made = timeline.run(make(&world, shape, &sites));
    let Ended::Done(Ok(())) = made else { return Err(format!("the vault could not be made: {made:?}")) };
    let made = sites.state().sites.clone();
    known().insert(key, made.clone());
    Ok(made)
}

async fn make(world: &World, shape: &Shape, sites: &Arc<Sites>) -> std::result::Result<(), String> {
    let all = keys();
    let generation = all.read.generations.last().ok_or("the read key has no generation")?;
    let root = all.master.seed.root_key(all.master.generation);
    let first = create::FirstKeys {
        vault: all.public.vault,
        root: &root,
        reader: generation.reader.public(),
        janitor: generation.janitor.public(),
        operator: &all.operator,
        writer: &all.writer,
    };
    let new = shape.locations.iter().enumerate().map(|(at, site)| NewLocation {
        name: site.name.clone(),
        domain: site.domain.clone(),
        url: format!("memory:///{}", site.name),
        endpoint: String::new(),
        region: String::new(),
        attached: Attachment::Always,
        grade: Grade::Overwritable,
        store: SimStore::open(sites, at),
    });
    let shape = create::Shape {
        name: SOURCE.to_owned(),
        coding: Coding::new(shape.data, shape.total).map_err(|error| error.to_string())?,
        survive_domains: shape.survive_domains,
        chunks: CHUNKS,
        class_max: shape.class_max,
    };
    create::create(world, &shape, &first, new.collect()).await.map_err(|error| error.to_string())
}

fn world(timeline: &Arc<Timeline>, seed: u64) -> World {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    World::new(Arc::new(Sight(Arc::clone(timeline))), Compute::Inline, bytes)
}

fn observer(timeline: &Arc<Timeline>, traps: &Traps) -> Observer {
    let (timeline, traps) = (Arc::clone(timeline), Arc::clone(traps));
    Arc::new(move |step| {
        let mut set = traps.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = set.iter().position(|trap| trap.step == step.name()) else { return };
        if set[at].passes > 0 {
            set[at].passes -= 1;
            return;
        }
        let trap = set.remove(at);
        drop(set);
        match trap.then {
            Then::Dies => timeline.kill(),
            Then::Sleeps(sites) => sites.fall_asleep(),
        }
    })
}

/// The machine.
pub(super) struct Machine {
    world: World,
    folder: PathBuf,
    catalogs: u32,
    catalog: Option<Catalog>,
    spool: Option<Arc<dyn ObjectStore>>,
    traps: Traps,
    who: Who,
}

type Traps = Arc<Mutex<Vec<Trap>>>;

/// A named step at which something befalls the machine, and how often it is passed
/// before.
pub(super) struct Trap {
    /// Its name.
    pub(super) step: String,
    /// Passes left.
    pub(super) passes: u32,
    /// What befalls it.
    pub(super) then: Then,
}

/// What befalls a machine at a step.
pub(super) enum Then {
    /// It is killed at this very line.
    Dies,
    /// It falls asleep: its next request waits.
    Sleeps(Arc<Sites>),
}

impl Machine {
    /// A machine with an empty catalog, which keeps its files in `folder`.
    pub(super) fn new(timeline: &Arc<Timeline>, folder: &Path, seed: u64) -> Self {
        let traps = Traps::default();
        let world = world(timeline, seed).observed_by(observer(timeline, &traps));
        Self { world, folder: folder.to_owned(), catalogs: 0, catalog: None, spool: None, traps, who: Who::Writer }
    }

    /// The janitor's machine.
    pub(super) fn of_the_janitor(timeline: &Arc<Timeline>, folder: &Path, seed: u64) -> std::io::Result<Self> {
        let folder = folder.join("janitor");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { who: Who::Janitor, ..Self::new(timeline, &folder, seed) })
    }

    /// Likewise with a spool on a disk of its own, which crashes leave alone.
    #[must_use]
    pub(super) fn with_spool(self, timeline: &Arc<Timeline>) -> Self {
        let site = Site { name: "spool".to_owned(), conditional: true, ..Site::default() };
        let sites = Sites::new(Arc::clone(timeline), vec![site], 0);
        Self { spool: Some(SimStore::open(&sites, 0)), ..self }
    }

    /// What befalls the next act; nothing else does.
    pub(super) fn set_trap(&self, trap: Option<Trap>) {
        *self.traps.lock().unwrap_or_else(PoisonError::into_inner) = trap.into_iter().collect();
    }

    /// And this.
    pub(super) fn add_trap(&self, trap: Trap) {
        self.traps.lock().unwrap_or_else(PoisonError::into_inner).push(trap);
    }

    fn catalog_path(&self) -> PathBuf {
        self.folder.join(format!("catalog-{}", self.catalogs))
    }

    /// The catalog; opened if it is not.
    pub(super) fn catalog(&mut self) -> Result<Catalog> {
        self.catalog.take().map_or_else(|| Catalog::open(&self.catalog_path()), Ok)
    }

    /// The catalog stays open.
    pub(super) fn keep_open(&mut self, catalog: Catalog) {
        self.catalog = Some(catalog);
    }

    /// Keeps a copy of the catalog as it is: the file and its log.
    pub(super) fn copy_catalog(&self) {
        // No file yet is a copy of nothing: what comes back then is a new catalog.
        for ending in ["", "-wal"] {
            let to = self.folder.join(format!("old{ending}"));
            if std::fs::copy(format!("{}{ending}", self.catalog_path().display()), &to).is_err() {
                let _ = std::fs::remove_file(to);
            }
        }
    }

    /// The process that had it open died.
    pub(super) fn forget_open_catalog(&mut self) {
        self.catalog = None;
    }

    /// The catalog is lost.
    pub(super) fn lose_catalog(&mut self) {
        self.catalog = None;
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", self.catalog_path().display()));
        }
        self.catalogs += 1;
    }

    /// The kept copy comes back.
    pub(super) fn old_catalog(&mut self) {
        self.lose_catalog();
        for ending in ["", "-wal"] {
            let to = format!("{}{ending}", self.catalog_path().display());
            let _ = std::fs::copy(self.folder.join(format!("old{ending}")), to);
        }
    }

    /// Opens the vault.
    pub(super) async fn open(&self, sites: &Arc<Sites>) -> Result<Vault> {
        let names: Vec<String> = sites.state().sites.iter().map(|site| site.name.clone()).collect();
        let candidate = |(at, name): (usize, String)| Candidate {
            name,
            store: Ok(SimStore::open_as(self.who, sites, at)),
            versions: None,
            names: None,
        };
        let public = &keys().public;
        let expected = Expected { vault: Some(public.vault), root: public.root.clone() };
        let candidates = names.into_iter().enumerate().map(candidate).collect();
        let spool =
            self.spool.as_ref().map(|store| Spool::new(Arc::clone(store), Limits::default(), Arc::new(|| None)));
        Vault::open_beside(self.world.clone(), &expected, candidates, spool).await
    }

    /// Delivers what waits in the spool.
    pub(super) async fn deliver(&mut self, sites: &Arc<Sites>) -> Result<Delivery> {
        let mut catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let delivery = vault_ops::spool::deliver(&vault, &keys().writer, &mut catalog).await;
        self.catalog = Some(catalog);
        delivery
    }

    /// Backs up.
    pub(super) async fn backup(&mut self, sites: &Arc<Sites>, content: Vec<u8>) -> Result<BackupReport> {
        let mut catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let options = BackupOptions {
            host: SOURCE.to_owned(),
            tags: Vec::new(),
            pinned: false,
            compression: Compression::default(),
        };
        let source = Box::new(Content(content));
        let writer = Arc::clone(&keys().writer);
        let done = vault_ops::backup::run(&vault, writer, &mut catalog, source, &options).await.0;
        self.catalog = Some(catalog);
        done
    }

    /// Plans a repair and carries it out.
    pub(super) async fn repair(&mut self, sites: &Arc<Sites>) -> Result<(RepairPlan, RepairReport)> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let plan = vault_ops::repair::plan(&vault, &catalog).await?;
        let report = vault_ops::repair::apply(&vault, &catalog, &plan).await?;
        self.catalog = Some(catalog);
        Ok((plan, report))
    }

    /// Says that the writer is alive, if that is due.
    pub(super) async fn heartbeat(&mut self, sites: &Arc<Sites>) -> Result<Beat> {
        let mut catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let beat = heartbeat::beat(&vault, &keys().writer, &mut catalog, heartbeat::IDLE).await;
        self.catalog = Some(catalog);
        beat
    }

    /// Reads a slice of every location.
    pub(super) async fn scrub(&mut self, sites: &Arc<Sites>) -> Result<ScrubReport> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let options = ScrubOptions { interval: SCRUB_INTERVAL, every: DAY, bandwidth: Some(4 << 20), time_max: DAY };
        let report = scrub::slice(&vault, &catalog, &options).await;
        self.catalog = Some(catalog);
        report
    }

    /// Audits.
    pub(super) async fn audit(&mut self, sites: &Arc<Sites>, options: &AuditOptions) -> Result<AuditReport> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let report = vault_ops::audit::run(&vault, &catalog, options).await;
        self.catalog = Some(catalog);
        report
    }

    /// Looks at the vault as `status` does.
    pub(super) async fn status(&mut self, sites: &Arc<Sites>) -> Result<Status> {
        let catalog = self.catalog()?;
        let vault = self.open(sites).await?;
        let status = vault_ops::status::look(&vault, &catalog).await;
        self.catalog = Some(catalog);
        status
    }

    /// Randomness of the machine.
    pub(super) fn world(&self) -> &World {
        &self.world
    }
}

/// A folder on the machine that forgets with the process: in memory where there is one.
pub(super) fn scratch() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return Ok(dir);
    }
    tempfile::tempdir()
}

struct Content(Vec<u8>);

#[async_trait]
impl Source for Content {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &str {
        SOURCE
    }

    fn read(&mut self, sink: &mut dyn Sink) -> Result<Reading> {
        let content = sink.write(ChunkKind::Data, &mut &self.0[..])?;
        let hash = keys::hash::labelled(vault_format::labels::STREAM, &self.0);
        let root = PointRoot::Stream(StreamRoot { content, hash, name: SOURCE.to_owned() });
        Ok(Reading { root, items: 1, changed: 1, unreadable: Vec::new() })
    }
}
