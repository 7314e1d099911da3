//! The client against a real node, over TCP and over a unix socket: write, read, prove, ship, restore.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kernel_client::core::{
    ChainVerifier, Claim, Command, Existing, Fixed, Id, Lineage, Metric, Name, Parameters, Record, Space, ThingType,
    Verdict,
};
use kernel_client::{Client, Endpoint, Error, collect};
use kernel_node::{Clock, Config, Directory, Listen, Node, Server, SystemClock, Token};

const TOKEN: &str = "a-token-for-this-test";

struct Running {
    dir: tempfile::TempDir,
    tcp: Endpoint,
    unix: Endpoint,
    stop: tokio::sync::oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), kernel_node::Error>>,
}

async fn start(dir: tempfile::TempDir) -> Running {
    let disk = Arc::new(Directory::lock(&dir.path().join("data")).unwrap());
    let config = Config::new(Lineage::from_bytes([1; 16]));
    let node = Node::open(&config, disk, Arc::new(SystemClock)).unwrap();
    let socket = dir.path().join("kernel.sock");
    let listen = Listen { address: Some("127.0.0.1:0".parse().unwrap()), socket: Some(socket.clone()) };
    let token = Token::new(TOKEN).unwrap();
    let server = Server::bind(node, &listen, token, || SystemClock.now_ms()).await.unwrap();
    let tcp = Endpoint::Tcp(server.address().unwrap().to_string());
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let ended = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    Running { dir, tcp, unix: Endpoint::Unix(socket), stop, ended }
}

fn name() -> Name {
    Name::new("notes").unwrap()
}

fn create() -> Command {
    Command::CreateCollection {
        name: name(),
        dimension: 3,
        metric: Metric::L2,
        parameters: Parameters::default(),
        created_at: 0,
        metadata: [].into(),
    }
}

fn record(number: u64) -> Record {
    let vector = [number as i32, 1, -1].map(|whole| Fixed::from_raw(whole << 16));
    let metadata = format!("note {number}").into_bytes().into();
    Record { id: Id::from_u64(number), tag: number, metadata, vector: vector.into() }
}

fn put(numbers: std::ops::Range<u64>) -> Command {
    Command::PutRecords { collection: name(), existing: Existing::Refuse, records: numbers.map(record).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_do_everything() {
    let running = start(tempfile::tempdir().unwrap()).await;
    for endpoint in [&running.tcp, &running.unix] {
        assert_eq!(Client::new(endpoint, "wrong-token-entirely").unwrap().health().await.unwrap().status, "ok");
        let denied = Client::new(endpoint, "wrong-token-entirely").unwrap().state().await;
        assert!(matches!(denied, Err(Error::Denied { .. })), "{denied:?}");
    }
    let client = Client::new(&running.unix, TOKEN).unwrap();
    assert_eq!(client.apply(&create()).await.unwrap().sequence, 1);
    assert!(matches!(client.apply(&create()).await, Err(Error::Conflict { .. })));
    assert_eq!(client.apply(&put(0..50)).await.unwrap().changed, 50);
    let snapshot = client.make_snapshot().await.unwrap();
    assert_eq!(snapshot, client.make_snapshot().await.unwrap(), "nothing changed, so it is the same one");
    let client = Client::new(&running.tcp, TOKEN).unwrap();
    for number in 50..60 {
        client.apply(&put(number..number + 1)).await.unwrap();
    }
    let missing = Command::PutRecords {
        collection: Name::new("other").unwrap(),
        existing: Existing::Refuse,
        records: vec![record(1)],
    };
    assert!(matches!(client.apply(&missing).await, Err(Error::NotFound { .. })));

    let found = client.search(&name(), &[7.2, 1.0, -1.0], 2, None).await.unwrap();
    assert_eq!(found.iter().map(|found| found.metadata.as_str()).collect::<Vec<_>>(), ["note 7", "note 8"]);

    let state = client.state().await.unwrap();
    assert_eq!((state.sequence, state.collections[0].records), (12, 60));
    for (number, present) in [(3, true), (60, false)] {
        let claim = Claim { collection: name(), space: Space::Living(ThingType::Record, Id::from_u64(number)) };
        let (proof, _) = client.prove(&claim).await.unwrap();
        let verdict = proof.verify(&state.state_hash).unwrap();
        assert_eq!(matches!(verdict, Verdict::Present(_)), present);
        assert_eq!(client.record(&name(), Id::from_u64(number)).await.unwrap().is_some(), present);
    }

    let (snapshot_bytes, log) = ship(&client, &state.lineage, snapshot.sequence).await;
    let mut verifier = ChainVerifier::new();
    verifier.push_snapshot(&snapshot_bytes).unwrap();
    let mut verifier = verifier.end_snapshot().unwrap();
    verifier.push_log(&log).unwrap();
    let (_, end) = verifier.finish().unwrap();
    assert_eq!((end.sequence, end.state_hash), (state.sequence, state.state_hash));
    assert_eq!(end.chain, state.chain_hash);

    let other = Lineage::from_bytes([9; 16]);
    assert!(matches!(client.wal(other, 0, 1, 0).await, Err(Error::Conflict { .. })));
    assert!(matches!(client.wal(state.lineage, 99, 1, 0).await, Err(Error::Conflict { .. })));
    let cursors = client.set_cursors(state.lineage, 12, 10).await.unwrap();
    assert_eq!((cursors.attached, cursors.folded_seq), (true, 10));
    assert!(matches!(client.set_cursors(state.lineage, 11, 10).await, Err(Error::Conflict { .. })));

    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
    assert!(matches!(client.state().await, Err(Error::Unreachable { .. })));

    let target = running.dir.path().join("restored");
    let lineage = Lineage::from_bytes([2; 16]);
    let restored = kernel_node::restore_from(&target, &snapshot_bytes[..], &log[..], lineage, 5).unwrap();
    assert_eq!((restored.sequence, restored.state_hash), (state.sequence, state.state_hash));
    let again = kernel_node::restore_from(&target, &snapshot_bytes[..], &log[..], lineage, 5);
    assert!(matches!(again, Err(kernel_node::Error::BadDirectory { .. })));
    let disk = Arc::new(Directory::lock(&target).unwrap());
    let node = Node::open(&Config::new(lineage), disk, Arc::new(SystemClock)).unwrap();
    assert_eq!(node.published().at.state_hash, state.state_hash);
    assert_eq!(node.parent(), Some((state.lineage, state.sequence)));
    assert_eq!(node.write(put(60..61)).await.unwrap().sequence, 13);
}

/// The snapshot, and the log after it in many small pieces.
async fn ship(client: &Client, lineage: &Lineage, sequence: u64) -> (Vec<u8>, Vec<u8>) {
    let snapshot = collect(client.snapshot(sequence).await.unwrap(), 1 << 20).await.unwrap();
    let (mut log, mut after) = (Vec::new(), sequence);
    loop {
        let piece = client.wal(*lineage, after, 500, 0).await.unwrap();
        let Some(last) = piece.last else { return (snapshot, log) };
        assert_eq!(piece.first, Some(after + 1));
        log.extend(collect(piece, 1 << 20).await.unwrap());
        after = last;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_wakes_with_the_next_write() {
    let running = start(tempfile::tempdir().unwrap()).await;
    let client = Client::new(&running.tcp, TOKEN).unwrap();
    let lineage = client.state().await.unwrap().lineage;
    let waiting = client.clone();
    let poll = tokio::spawn(async move { waiting.wal(lineage, 0, 1, 20_000).await.unwrap().last });
    client.apply(&create()).await.unwrap();
    assert_eq!(poll.await.unwrap(), Some(1));
    assert_eq!(client.wal(lineage, 1, 1, 1).await.unwrap().last, None);
    let second = Directory::lock(&running.dir.path().join("data"));
    assert!(matches!(second, Err(kernel_node::Error::Locked { .. })));
}
