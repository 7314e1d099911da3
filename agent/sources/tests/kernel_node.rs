//! A real node is backed up while it is written to, and comes back with the
//! state hash it acknowledged. What is damaged on the way is refused.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use agent_sources::kernel::{KernelReport, KernelSource, LOG_FILE, SNAPSHOT_FILE, restore_kernel};
use kernel_client::core::{Command, Existing, Fixed, Id, Lineage, Metric, Name, Parameters, Record};
use kernel_client::{Client, Endpoint};
use kernel_node::{Clock, Config, Directory, Listen, Node, Server, SystemClock, Token};
use memory_vault::MemoryVault;
use tokio::runtime::Handle;
use vault_format::point::{KernelRoot, PointRoot};
use vault_format::{Hash, LineageId};
use vault_ops::source::{Reading, Source};
use vault_ops::{OpsError, Result};

const TOKEN: &str = "a-token-for-this-test";

struct Running {
    home: tempfile::TempDir,
    client: Client,
    node: Node,
}

impl Running {
    async fn start(config: Config) -> Self {
        let home = tempfile::tempdir().unwrap();
        let disk = Arc::new(Directory::lock(&home.path().join("data")).unwrap());
        let node = Node::open(&config, disk, Arc::new(SystemClock)).unwrap();
        let socket = home.path().join("kernel.sock");
        let listen = Listen { address: None, socket: Some(socket.clone()) };
        let token = Token::new(TOKEN).unwrap();
        let server = Server::bind(node.clone(), &listen, token, || SystemClock.now_ms()).await.unwrap();
        tokio::spawn(server.serve(std::future::pending()));
        let client = Client::new(&Endpoint::Unix(socket), TOKEN).unwrap();
        client.apply(&create()).await.unwrap();
        Self { home, client, node }
    }

    fn source(&self) -> KernelSource {
        KernelSource::new("memory", self.client.clone(), Handle::current())
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }
}

fn config() -> Config {
    Config::new(Lineage::from_bytes([1; 16]))
}

fn name() -> Name {
    Name::new("notes").unwrap()
}

fn create() -> Command {
    let (metric, parameters) = (Metric::L2, Parameters::default());
    Command::CreateCollection { name: name(), dimension: 4, metric, parameters, created_at: 0, metadata: [].into() }
}

fn put(numbers: std::ops::Range<u64>) -> Command {
    let record = |number: u64| {
        let vector = [number as i32, 1, -1, 7].map(|whole| Fixed::from_raw(whole << 8));
        let metadata = format!("note {number} {}", "x".repeat(100)).into_bytes().into();
        Record { id: Id::from_u64(number), tag: number, metadata, vector: vector.into() }
    };
    Command::PutRecords { collection: name(), existing: Existing::Replace, records: numbers.map(record).collect() }
}

/// Reads on a blocking thread, as the vault does.
async fn read(mut vault: MemoryVault, mut source: KernelSource) -> (MemoryVault, KernelSource, Result<Reading>) {
    let work = move || {
        let reading = vault.read(&mut source);
        (vault, source, reading)
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn kernel_root(reading: &Reading) -> KernelRoot {
    let PointRoot::Kernel(root) = &reading.root else { panic!("a kernel root") };
    root.clone()
}

async fn restore(vault: &MemoryVault, root: &KernelRoot, to: &Path) -> Result<KernelReport> {
    restore_kernel(&vault.point(PointRoot::Kernel(root.clone())), root, to).await
}

/// Opens a node from the restored files and returns its sequence and state hash.
fn restored_node(files: &Path, data: &Path) -> (u64, [u8; 32]) {
    let open = |name: &str| fs::File::open(files.join(name)).unwrap();
    let lineage = Lineage::from_bytes([9; 16]);
    let restored = kernel_node::restore_from(data, open(SNAPSHOT_FILE), open(LOG_FILE), lineage, 0).unwrap();
    let disk = Arc::new(Directory::lock(data).unwrap());
    let node = Node::open(&Config::new(lineage), disk, Arc::new(SystemClock)).unwrap();
    assert_eq!(node.published().at.state_hash, restored.state_hash);
    (node.published().at.sequence, *node.published().at.state_hash.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_back_as_it_acknowledged_while_writes_went_on() {
    let running = Running::start(config()).await;
    running.client.apply(&put(0..500)).await.unwrap();
    running.client.make_snapshot().await.unwrap();

    // A client that never stops and remembers what was acknowledged.
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (client, acknowledged, stop) = (running.client.clone(), acknowledged.clone(), stop.clone());
        async move {
            for number in (0..500).cycle() {
                let written = client.apply(&put(number..number + 1)).await.unwrap();
                acknowledged.lock().unwrap().insert(written.sequence, *written.state_hash.as_bytes());
                if stop.load(Ordering::SeqCst) {
                    return written.sequence;
                }
            }
            unreachable!()
        }
    });
    let mut vault = MemoryVault::default();
    vault.before_read = Some(Box::new(|_| std::thread::sleep(std::time::Duration::from_millis(150))));
    let (vault, mut source, reading) = read(vault, running.source()).await;
    let reading = reading.unwrap();
    let root = kernel_root(&reading);
    while acknowledged.lock().unwrap().last_key_value().is_none_or(|(newest, _)| *newest < root.sequence + 10) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let last = writer.await.unwrap();
    assert!(
        root.sequence > root.snapshot_sequence && last > root.sequence,
        "writes before and after S = {}",
        root.sequence
    );
    assert_eq!(root.state_hash.0, acknowledged.lock().unwrap()[&root.sequence], "the hash the writer was told at S");
    assert_eq!(reading.items, 500);

    let committed = PointRoot::Kernel(root.clone());
    tokio::task::spawn_blocking(move || source.committed(&committed).unwrap()).await.unwrap();
    let cursors = running.client.cursors().await.unwrap();
    assert_eq!((cursors.attached, cursors.durable_seq, cursors.folded_seq), (true, root.sequence, root.sequence));

    fs::remove_dir_all(running.data()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let files = target.path().join("files");
    let report = restore(&vault, &root, &files).await.unwrap();
    assert_eq!((report.sequence, report.state_hash), (root.sequence, root.state_hash));
    let node = restored_node(&files, &target.path().join("node"));
    assert_eq!(node, (root.sequence, acknowledged.lock().unwrap()[&root.sequence]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_makes_a_new_snapshot_first() {
    let running = Running::start(config()).await;
    running.client.make_snapshot().await.unwrap();
    for number in 0..10 {
        running.client.apply(&put(number..number + 1)).await.unwrap();
    }
    let (_, source, reading) = read(MemoryVault::default(), running.source().with_log_records_max(10)).await;
    let root = kernel_root(&reading.unwrap());
    assert_eq!((root.snapshot_sequence, root.sequence), (1, 11), "ten records are not too many");
    let (_, _, reading) = read(MemoryVault::default(), source.with_log_records_max(9)).await;
    let root = kernel_root(&reading.unwrap());
    assert_eq!((root.snapshot_sequence, root.sequence, root.log.bytes), (11, 11, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_never_written_to_is_a_point_too() {
    let running = Running::start(config()).await;
    let (vault, _, reading) = read(MemoryVault::default(), running.source()).await;
    let reading = reading.unwrap();
    let target = tempfile::tempdir().unwrap();
    let report = restore(&vault, &kernel_root(&reading), target.path()).await.unwrap();
    assert_eq!((reading.items, report.sequence), (0, 1));
}

/// The node releases log at its bound while its snapshot is being read: the
/// chain from that snapshot is broken, and the next one is taken instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_released_under_the_reader_is_read_again_from_a_new_snapshot() {
    let bounds = Config { segment_bytes: 4 << 10, wal_bytes_max: 32 << 10, ..config() };
    let running = Running::start(bounds).await;
    let snapshot = running.client.make_snapshot().await.unwrap();
    let (client, runtime) = (running.client.clone(), Handle::current());
    let mut vault = MemoryVault::default();
    vault.before_read = Some(Box::new(move |count| {
        if count == 0 {
            for number in 0..600 {
                runtime.block_on(client.apply(&put(number..number + 1))).unwrap();
                if number % 100 == 0 {
                    runtime.block_on(client.make_snapshot()).unwrap();
                }
            }
        }
    }));
    let (vault, _, reading) = read(vault, running.source()).await;
    let root = kernel_root(&reading.unwrap());
    assert!(root.snapshot_sequence > snapshot.sequence, "another snapshot");
    assert_eq!(root.sequence, 601);
    let target = tempfile::tempdir().unwrap();
    assert_eq!(restore(&vault, &root, target.path()).await.unwrap().sequence, 601);
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_rotten_on_the_nodes_disk_never_becomes_a_point() {
    let running = Running::start(config()).await;
    running.client.apply(&put(0..100)).await.unwrap();
    let snapshot = running.client.make_snapshot().await.unwrap();
    damage(&running.data().join(&snapshot.name));
    let (_, source, reading) = read(MemoryVault::default(), running.source()).await;
    let error = reading.unwrap_err();
    assert!(matches!(error, OpsError::Source { .. }) && error.to_string().contains("does not replay"), "{error}");
    // The node's memory is still good: once anything is written, a new snapshot can stand in.
    running.client.apply(&put(100..101)).await.unwrap();
    let (_, _, reading) = read(MemoryVault::default(), source).await;
    let root = kernel_root(&reading.unwrap());
    assert_eq!(root.sequence, 3);
    assert_eq!(&root.state_hash.0, running.node.published().at.state_hash.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_a_clear_error() {
    let running = Running::start(config()).await;
    let nowhere = Client::new(&Endpoint::Unix(running.home.path().join("no.sock")), TOKEN).unwrap();
    let source = KernelSource::new("memory", nowhere, Handle::current());
    let (_, _, reading) = read(MemoryVault::default(), source).await;
    let error = reading.unwrap_err().to_string();
    assert!(error.contains("source memory") && error.contains("cannot be reached"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_does_not_replay_to_its_root_is_refused_and_leaves_nothing() {
    let running = Running::start(config()).await;
    running.client.make_snapshot().await.unwrap();
    for number in 0..5 {
        running.client.apply(&put(number..number + 1)).await.unwrap();
    }
    let (mut vault, _, reading) = read(MemoryVault::default(), running.source()).await;
    let root = kernel_root(&reading.unwrap());
    let mut log = Vec::new();
    vault_ops::source::PointReader::read(&vault.point(PointRoot::Kernel(root.clone())), &root.log, &mut log)
        .await
        .unwrap();
    let cut = vault.put(&log[..log.len() - 1]);
    let at = log.len() / 2;
    log[at] ^= 1;
    let flipped = vault.put(&log);
    let cases = [
        KernelRoot { state_hash: Hash([1; 32]), ..root.clone() },
        KernelRoot { chain_hash: Hash([1; 32]), ..root.clone() },
        KernelRoot { lineage: LineageId([2; 16]), ..root.clone() },
        KernelRoot { sequence: root.sequence + 1, ..root.clone() },
        KernelRoot { snapshot_sequence: 0, ..root.clone() },
        KernelRoot { log: vault_format::tree::Content::empty(), ..root.clone() },
        KernelRoot { snapshot: root.log.clone(), ..root.clone() },
        KernelRoot { log: cut, ..root.clone() },
        KernelRoot { log: flipped, ..root.clone() },
    ];
    let target = tempfile::tempdir().unwrap();
    for (number, wrong) in cases.iter().enumerate() {
        let result = restore(&vault, wrong, target.path()).await;
        assert!(matches!(result, Err(OpsError::Corrupt { .. })), "case {number}: {result:?}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "case {number}");
    }
    restore(&vault, &root, target.path()).await.unwrap();
    let again = restore(&vault, &root, target.path()).await;
    assert!(matches!(again, Err(OpsError::Refused { .. })), "{again:?}");
}
