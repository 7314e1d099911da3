//! The stored format, pinned three ways: by the objects of two backups from a
//! fixed seed, by a vault of version 1 kept as bytes, and by the number of fields of
//! every record.
//!
//! If `objects.txt` differs, either stored bytes have changed, and that is a new
//! format version (FORMAT.md, "Version history"), or randomness and time are asked
//! for in another order, which a reader cannot see. Only in the second case, and
//! only while the other two tests pass untouched, write it anew:
//! `BLESS=1 cargo nextest run -p holdfast-vault-ops --test golden_vault`.
//!
//! The vault under `testdata/golden/v1` is never written anew: `BLESS=1` makes it
//! only where there is none.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keys::card::{SplitPlan, split};
use keys::files::{ReadKey, VaultPublic, WriterKey};
use keys::hand::Hand;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use vault_codec::Compression;
use vault_ops::audit::{AuditOptions, Outcome};
use vault_ops::backup::BackupOptions;
use vault_ops::catalog::Catalog;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::points::PointList;
use vault_ops::restore::open_point;
use vault_ops::scan::{find_points, scan};
use vault_ops::vault::{Candidate, Expected, Vault};
use vault_ops::world::{Compute, World};
use world::{Bytes, Lab, Setup, folder, random_bytes, read_stream};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}

fn blessed() -> bool {
    std::env::var_os("BLESS").is_some()
}

#[tokio::test]
async fn the_objects_of_two_backups_are_those_of_version_1() {
    // Raw frames: another zstd may write other bytes.
    let setup = Setup { compression: Compression::Never, ..Setup::new((5, 9), 2, &[0, 0, 1, 1, 2, 2, 3, 3, 4]) };
    let mut lab = Lab::build(2026, setup).await;
    let mut bytes = random_bytes(2026, 700_000);
    lab.backup(&bytes).await.unwrap();
    bytes.extend(random_bytes(2027, 10_000));
    lab.backup(&bytes).await.unwrap();
    let mut found = String::new();
    for at in 0..lab.stores.len() {
        for name in lab.names(at).await {
            let object = lab.get(at, &name).await;
            writeln!(found, "p{} {name} {} {}", at + 1, object.len(), blake3::hash(&object)).unwrap();
        }
    }
    let pinned = testdata().join("objects.txt");
    if blessed() {
        std::fs::create_dir_all(testdata()).unwrap();
        std::fs::write(&pinned, &found).unwrap();
    }
    let pinned = std::fs::read_to_string(pinned).unwrap();
    let differ = found.lines().zip(pinned.lines()).find(|(found, pinned)| found != pinned);
    assert!(found == pinned, "{} objects; the first that differs: {differ:?}", found.lines().count());
}

/// What the golden vault was made from: text that compresses, bytes that do not.
fn golden_bytes(which: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in 0..2_000 * which {
        bytes.extend_from_slice(format!("{line} bottles of water on the shelf\n").as_bytes());
    }
    let mut noise = vec![0; 60_000];
    blake3::Hasher::new().update(b"golden").finalize_xof().fill(&mut noise);
    bytes.extend_from_slice(&noise);
    bytes
}

const NEED: u8 = 3;

/// Three of five locations are kept, the fewest that restore; two of them have
/// shards and a marker only.
async fn make_golden(root: &Path) {
    let mut lab = Lab::new(1, (3, 5), 2, &[0, 1, 2, 3, 4]).await;
    lab.backup(&golden_bytes(1)).await.unwrap();
    lab.backup(&golden_bytes(2)).await.unwrap();
    for at in [1, 3, 4] {
        for name in
            lab.names(at).await.into_iter().filter(|name| at == 1 || name.starts_with("shards/") || name == "location")
        {
            let path = root.join(format!("p{}", at + 1)).join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, lab.get(at, &name).await).unwrap();
        }
    }
    let keys = root.join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    keys::files::create(&keys.join("read.key"), &lab.keys.read).unwrap();
    keys::files::create(&keys.join("writer.key"), &lab.keys.writer).unwrap();
    keys::files::create(&keys.join("vault.pub"), &lab.keys.public).unwrap();
    let plan = SplitPlan {
        vault: lab.keys.public.vault,
        generation: lab.keys.master.generation,
        set: 1,
        need: NEED,
        total: 5,
    };
    for card in split(&lab.keys.master.seed, &plan, &mut world::rng(1)).unwrap() {
        keys::files::create_card(&keys.join(format!("card-{}.txt", card.number())), &card).unwrap();
    }
}

/// The golden vault, its locations copied into memory.
struct Golden {
    root: PathBuf,
    world: World,
    stores: Vec<(String, Arc<InMemory>)>,
}

impl Golden {
    async fn load() -> Self {
        let root = testdata().join("v1");
        if blessed() && !root.exists() {
            make_golden(&root).await;
        }
        let mut stores = Vec::new();
        for name in ["p1", "p2", "p3", "p4", "p5"] {
            let store = Arc::new(InMemory::new());
            let folder = root.join(name);
            for (object, bytes) in files_under(&folder) {
                store.put(&object_store::path::Path::from(object), bytes.into()).await.unwrap();
            }
            stores.push((name.to_owned(), store));
        }
        Self { root, world: world::world(99), stores }
    }

    fn key<T: keys::files::KeyFile>(&self, name: &str) -> Arc<T> {
        Arc::new(keys::files::decode(&std::fs::read(self.root.join("keys").join(name)).unwrap()).unwrap())
    }

    /// Opens it with the locations that were kept, and the others empty or not.
    async fn open(&self, all: bool) -> Vault {
        let public: Arc<VaultPublic> = self.key("vault.pub");
        let kept = |name: &str| all || ["p2", "p4", "p5"].contains(&name);
        let stores = self.stores.iter().filter(|(name, _)| kept(name));
        let candidate = |(name, store): &(String, Arc<InMemory>)| Candidate {
            name: name.clone(),
            store: Ok(Arc::clone(store) as Arc<dyn ObjectStore>),
            versions: None,
            names: None,
        };
        let expected = Expected { vault: Some(public.vault), root: public.root.clone() };
        Vault::open(self.world.clone(), &expected, stores.map(candidate).collect()).await.unwrap()
    }

    async fn restore(&self, vault: &Vault, keys: &Arc<ReadKey>, list: &PointList) -> Vec<Vec<u8>> {
        let mut restored = Vec::new();
        for point in &list.points {
            let holdings = list_shards(vault, &vault.writer_ids()).await;
            let fetcher = Fetcher::new(self.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
            let open = open_point(fetcher, Arc::clone(keys), Compute::Inline, point.pack, Some(point.record)).await;
            restored.push(read_stream(&open.unwrap()).await.unwrap());
        }
        restored
    }
}

/// Names relative to a folder, with the bytes.
fn files_under(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_vault_of_version_1_is_restored_with_the_read_key() {
    let golden = Golden::load().await;
    let vault = golden.open(false).await;
    let keys: Arc<ReadKey> = golden.key("read.key");
    let list = vault_ops::points::list(&vault, &keys).await.unwrap();
    assert!(golden.restore(&vault, &keys, &list).await == [golden_bytes(1), golden_bytes(2)]);
    assert_eq!(list.points[1].part.source, "bytes");
    assert_eq!((list.points[0].position, list.points[1].position), ((1, 1), (1, 2)));
}

#[tokio::test]
async fn a_vault_of_version_1_is_restored_with_any_three_of_its_five_cards_from_bare_shards() {
    let golden = Golden::load().await;
    let folders: Vec<_> = golden.stores.iter().map(|(name, store)| folder(name, store)).collect();
    let found = scan(&vault_ops::progress::Progress::default(), &folders).await.unwrap();
    assert!(found.quarantined.is_empty(), "{:?}", found.quarantined);
    for chosen in world::subsets(5, NEED.into()).into_iter().step_by(3) {
        let mut hand = Hand::new();
        for &card in &chosen {
            let text = std::fs::read_to_string(golden.root.join(format!("keys/card-{}.txt", card + 1))).unwrap();
            hand.add_text(&text).unwrap();
        }
        let recovered = hand.recover().unwrap();
        let vault = recovered.vault.unwrap();
        let keys = Arc::new(ReadKey::from_seed(&recovered.seed, recovered.generation.unwrap(), vault));
        let bare = find_points(&golden.world, &found, vault, &keys).await;
        assert!(bare.unusable.is_empty(), "{:?}", bare.unusable);
        let mut restored = Vec::new();
        for point in &bare.points {
            let fetcher =
                Fetcher::new(golden.world.clone(), bare.holdings.clone(), Trust::Signed(bare.writers.clone()));
            let open = open_point(fetcher, Arc::clone(&keys), Compute::Inline, point.pack, None).await.unwrap();
            restored.push(read_stream(&open).await.unwrap());
        }
        assert!(restored == [golden_bytes(1), golden_bytes(2)], "cards {chosen:?}");
    }
}

/// The chain of an old vault goes on: its lost locations are refilled and the next
/// backup builds on what stands.
#[tokio::test]
async fn a_vault_of_version_1_is_repaired_and_written_on() {
    let golden = Golden::load().await;
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(&dir.path().join("catalog")).unwrap();
    let vault = golden.open(true).await;
    let plan = vault_ops::repair::plan(&vault, &catalog).await.unwrap();
    let done = vault_ops::repair::apply(&vault, &catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty() && done.lost.is_empty() && done.shards.len() >= 4, "{done:?}");
    let vault = golden.open(true).await;
    let options = AuditOptions { samples: 1, location: None, full: true };
    let report = vault_ops::audit::run(&vault, &catalog, &options).await.unwrap();
    assert_eq!(report.worst(), Outcome::Ok, "{:?} {:?}", report.findings, report.records);

    let writer: Arc<WriterKey> = golden.key("writer.key");
    let options = BackupOptions {
        host: "later".to_owned(),
        tags: Vec::new(),
        pinned: false,
        compression: Compression::default(),
    };
    let bytes = [golden_bytes(2), random_bytes(3, 10_000)].concat();
    let source = Box::new(Bytes(bytes.clone()));
    let report = vault_ops::backup::run(&vault, writer, &mut catalog, source, &options).await.0.unwrap();
    assert_eq!(report.manifest, (2, 2), "a host without a memory opens a new epoch, by a heartbeat");
    assert!(report.statistics.new_bytes < 100_000, "what stood was used: {:?}", report.statistics);
    let keys: Arc<ReadKey> = golden.key("read.key");
    let list = vault_ops::points::list(&vault, &keys).await.unwrap();
    assert!(list.remarks.is_empty(), "{:?}", list.remarks);
    assert!(golden.restore(&vault, &keys, &list).await == [golden_bytes(1), golden_bytes(2), bytes]);
}

macro_rules! pinned {
    ($($record:path => $fields:literal,)*) => {
        [$( (stringify!($record), { use $record as T; T::FIELDS.len() }, $fields) ),*]
    };
}

/// What later versions need comes as a new record, never as a field of an old one.
#[test]
fn no_record_has_gained_or_lost_a_field() {
    let records = pinned! {
        vault_format::certificate::Certificate => 10,
        vault_format::certificate::Fence => 6,
        vault_format::certificate::Revocation => 6,
        vault_format::journal::JournalBody => 5,
        vault_format::layout::LayoutLocation => 5,
        vault_format::layout::LayoutNames => 2,
        vault_format::layout::LayoutRecord => 8,
        vault_format::layout::LayoutWriter => 2,
        vault_format::layout::LocationName => 6,
        vault_format::manifest::JanitorPart => 8,
        vault_format::manifest::JournalTail => 4,
        vault_format::manifest::Manifest => 15,
        vault_format::manifest::PackRef => 2,
        vault_format::manifest::ReaderPart => 10,
        vault_format::manifest::WriterPart => 9,
        vault_format::point::KernelRoot => 7,
        vault_format::point::PointRecord => 18,
        vault_format::point::PostgresRoot => 9,
        vault_format::point::Statistics => 6,
        vault_format::point::StreamRoot => 3,
        vault_format::point::TreeRoot => 2,
        vault_format::sealed::SealedBlob => 3,
        vault_format::tombstone::JournalRange => 4,
        vault_format::tombstone::ManifestRef => 4,
        vault_format::tombstone::Note => 5,
        vault_format::tombstone::Tombstone => 10,
        vault_format::tree::ChunkList => 1,
        vault_format::tree::ChunkRef => 2,
        vault_format::tree::Content => 3,
        vault_format::tree::Entry => 17,
        vault_format::tree::Hole => 2,
        vault_format::tree::Listing => 1,
        vault_format::tree::Xattr => 2,
        vault_format::vault::CardSet => 4,
        vault_format::vault::CrossSignature => 2,
        vault_format::vault::KemKey => 3,
        vault_format::vault::KeyHistoryEntry => 4,
        vault_format::vault::VaultRecord => 16,
    };
    for (record, found, pinned) in records {
        assert_eq!(found, pinned, "{record}");
    }
    assert_eq!(records.len(), 38);
}
