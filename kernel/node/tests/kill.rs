//! kill -9 of a real process, at random moments, while clients write over HTTP: everything acknowledged is
//! there afterwards, and the state hash is the one that was said for that sequence.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kernel_node::core::Lineage;
use kernel_node::{Clock, Config, Directory, Listen, Node, Server, SystemClock, Token};
use serde_json::{Value, json};

const TOKEN: &str = "kill-test-token-0123";
const DATA: &str = "HOLDFAST_KILL_TEST_DATA";

/// Not a test by itself: the process that gets killed. Without its variable it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Ok(data) = std::env::var(DATA) else { return };
    let data = Path::new(&data);
    let disk = Arc::new(Directory::lock(&data.join("node")).unwrap());
    // Small segments, so that kills meet rotation and snapshots too.
    let config =
        Config { segment_bytes: 20_000, snapshot_every_bytes: 60_000, ..Config::new(Lineage::from_bytes([1; 16])) };
    let node = Node::open(&config, disk, Arc::new(SystemClock)).unwrap();
    let listen = Listen { address: Some("127.0.0.1:0".parse().unwrap()), socket: None };
    let server = Server::bind(node, &listen, Token::new(TOKEN).unwrap(), || SystemClock.now_ms()).await.unwrap();
    std::fs::write(data.join("address.new"), server.address().unwrap().to_string()).unwrap();
    std::fs::rename(data.join("address.new"), data.join("address")).unwrap();
    server.serve(std::future::pending()).await.unwrap();
}

struct Victim {
    process: Child,
    base: String,
}

#[expect(clippy::zombie_processes, reason = "Victim::kill waits; a panic ends the test process anyway")]
fn start(data: &Path) -> Victim {
    let _ = std::fs::remove_file(data.join("address"));
    let process = Command::new(std::env::current_exe().unwrap())
        .args(["victim", "--exact", "--nocapture"])
        .env(DATA, data)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now();
    loop {
        if let Ok(address) = std::fs::read_to_string(data.join("address")) {
            return Victim { process, base: format!("http://{address}") };
        }
        assert!(patience.elapsed() < Duration::from_mins(1), "the node does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Victim {
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What was acknowledged: record ids, and the state hash of each sequence.
#[derive(Default)]
struct Acknowledged {
    records: Vec<u64>,
    hashes: BTreeMap<u64, String>,
}

/// Writes single records and batches until the node dies.
async fn write_until_death(http: reqwest::Client, base: String, first: u64, shared: Arc<Mutex<Acknowledged>>) {
    for number in 0.. {
        let ids: Vec<u64> = (0..=number % 3).map(|offset| first + number * 3 + offset).collect();
        let record = |id: &u64| json!({ "id": id, "vector": [0.5, (*id % 1_000) as u16], "metadata": "a".repeat(50) });
        let records: Vec<Value> = ids.iter().map(record).collect();
        let url = format!("{base}/v1/collections/c/records:batch");
        let sent = http.post(url).bearer_auth(TOKEN).json(&json!({ "records": records })).send().await;
        let Ok(response) = sent else { return };
        let status = response.status();
        let Ok(answer) = response.json::<Value>().await else { return };
        assert_eq!(status, 200, "{answer}");
        let mut acknowledged = shared.lock().unwrap();
        acknowledged.records.extend(ids);
        acknowledged
            .hashes
            .insert(answer["sequence"].as_u64().unwrap(), answer["state_hash"].as_str().unwrap().to_owned());
    }
}

async fn get(http: &reqwest::Client, url: String) -> (u16, Value) {
    let response = http.get(url).bearer_auth(TOKEN).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn check(http: &reqwest::Client, base: &str, acknowledged: &Acknowledged) {
    let (_, state) = get(http, format!("{base}/v1/proof/state")).await;
    let sequence = state["sequence"].as_u64().unwrap();
    let last = acknowledged.hashes.keys().next_back().copied().unwrap_or(0);
    assert!(sequence >= last, "acknowledged {last}, recovered {sequence}");
    if let Some(hash) = acknowledged.hashes.get(&sequence) {
        assert_eq!(state["state_hash"].as_str(), Some(hash.as_str()));
    }
    for id in &acknowledged.records {
        let (status, answer) = get(http, format!("{base}/v1/proof/record/c/{id}")).await;
        assert_eq!((status, &answer["present"]), (200, &Value::Bool(true)), "record {id} was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_loses_nothing() {
    let rounds: u64 = std::env::var("HOLDFAST_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let dir = tempfile::tempdir().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let shared = Arc::new(Mutex::new(Acknowledged::default()));
    for round in 0..rounds {
        let victim = start(dir.path());
        if round == 0 {
            let body = json!({ "name": "c", "dimension": 2, "metric": "cosine" });
            let url = format!("{}/v1/collections", victim.base);
            assert_eq!(http.post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap().status(), 200);
        }
        let known = std::mem::take(&mut *shared.lock().unwrap());
        check(&http, &victim.base, &known).await;
        *shared.lock().unwrap() = known;
        let writers: Vec<_> = (0..4)
            .map(|client| {
                let first = round * 10_000_000 + client * 1_000_000;
                tokio::spawn(write_until_death(http.clone(), victim.base.clone(), first, Arc::clone(&shared)))
            })
            .collect();
        // Moments spread over the round without a random source: each round kills elsewhere.
        tokio::time::sleep(Duration::from_millis(40 + round * 37 % 160)).await;
        victim.kill();
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let victim = start(dir.path());
    let known = std::mem::take(&mut *shared.lock().unwrap());
    assert!(known.records.len() > 50, "something was written: {}", known.records.len());
    check(&http, &victim.base, &known).await;
    victim.kill();
}
