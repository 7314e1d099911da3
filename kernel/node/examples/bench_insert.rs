//! What the node does per second, on this machine, with every acknowledgement synced.
//!
//! `cargo run --release -p holdfast-kernel-node --example bench_insert [DIR]`. DIR must not exist; it decides
//! which disk is measured. Vectors are seeded noise: speed does not depend on what they mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel_node::core::{Command, Existing, Fixed, Id, Lineage, Metric, Name, Parameters, Record};
use kernel_node::{Clock, Config, Directory, Listen, Node, Server, SystemClock, Token};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const DIMENSION: usize = 384;
const TOKEN: &str = "bench-token-0123456789";

/// splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn vector(&mut self) -> Box<[Fixed]> {
        (0..DIMENSION).map(|_| Fixed::from_raw((self.next() % 65_536) as i32 - 32_768)).collect()
    }
}

fn name() -> Name {
    Name::new("bench").expect("the name is legal")
}

fn batch(noise: &mut Noise, first: u64, count: u64) -> Command {
    let record = |number| Record { id: Id::from_u64(number), tag: 0, metadata: Box::default(), vector: noise.vector() };
    Command::PutRecords {
        collection: name(),
        existing: Existing::Refuse,
        records: (first..first + count).map(record).collect(),
    }
}

fn open(dir: &Path) -> Result<Node, Failure> {
    let disk = Arc::new(Directory::lock(dir)?);
    Ok(Node::open(&Config::new(Lineage::from_bytes([1; 16])), disk, Arc::new(SystemClock))?)
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn report(what: &str, count: u64, took: Duration) {
    println!("{what:<52} {:>10.0} /s   ({count} in {took:.2?})", count as f64 / took.as_secs_f64());
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what:<52} p50 {:.2?}   p99 {:.2?}", at(50), at(99));
}

/// Writes batches from several clients at once, each waiting for its acknowledgement.
async fn in_process(node: &Node, clients: u64, batches: u64, size: u64, first: u64) -> Result<Duration, Failure> {
    let mut work = Vec::new();
    for client in 0..clients {
        let mut noise = Noise(client + first);
        let start = first + client * batches * size;
        work.push((0..batches).map(|number| batch(&mut noise, start + number * size, size)).collect::<Vec<_>>());
    }
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for commands in work {
        let node = node.clone();
        tasks.spawn(async move {
            for command in commands {
                node.write(command).await?;
            }
            Ok::<_, kernel_node::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}

async fn over_http(base: &str, json: bool, clients: u64, batches: u64, first: u64) -> Result<Duration, Failure> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut bodies = Vec::new();
    for number in 0..clients * batches {
        let command = batch(&mut Noise(number + first), first + number * 100, 100);
        bodies.push(if json { as_json(&command) } else { command.encode()? });
    }
    let path = if json { "/v1/collections/bench/records:batch" } else { "/v1/commands" };
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for share in bodies.chunks(batches as usize).map(<[Vec<u8>]>::to_vec) {
        let (client, url) = (client.clone(), format!("{base}{path}"));
        tasks.spawn(async move {
            for body in share {
                client.post(&url).bearer_auth(TOKEN).body(body).send().await?.error_for_status()?;
            }
            Ok::<_, reqwest::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}

fn as_json(command: &Command) -> Vec<u8> {
    let Command::PutRecords { records, .. } = command else { return Vec::new() };
    let record = |record: &Record| {
        let vector: Vec<f64> = record.vector.iter().map(|component| component.to_f64()).collect();
        serde_json::json!({ "id": record.id.to_string(), "vector": vector })
    };
    serde_json::json!({ "records": records.iter().map(record).collect::<Vec<_>>() }).to_string().into_bytes()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let dir = std::env::args().nth(1).map_or_else(|| PathBuf::from("bench-data"), PathBuf::from);
    if dir.exists() {
        return Err(format!("{} exists already", dir.display()).into());
    }
    let node = open(&dir)?;
    let create = Command::CreateCollection {
        name: name(),
        dimension: DIMENSION as u32,
        metric: Metric::Cosine,
        parameters: Parameters::default(),
        created_at: 0,
        metadata: Box::default(),
    };
    node.write(create).await?;
    println!("{DIMENSION} dimensions, every acknowledgement synced, data in {}", dir.display());

    report("batches of 100, 1 client, in process", 10_000, in_process(&node, 1, 100, 100, 0).await?);
    search(&node)?;
    report("batches of 100, 4 clients, in process", 40_000, in_process(&node, 4, 100, 100, 100_000).await?);
    report("single inserts, 1 client, in process", 1_000, in_process(&node, 1, 1_000, 1, 200_000).await?);
    report("single inserts, 8 clients, in process", 8_000, in_process(&node, 8, 1_000, 1, 300_000).await?);

    let listen = Listen { address: Some("127.0.0.1:0".parse()?), socket: None };
    let server = Server::bind(node.clone(), &listen, Token::new(TOKEN)?, || SystemClock.now_ms()).await?;
    let base = format!("http://{}", server.address().ok_or("no address")?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    for (json, clients, first) in [(false, 1, 400_000), (false, 4, 500_000), (true, 1, 600_000), (true, 4, 700_000)] {
        let took = over_http(&base, json, clients, 50, first).await?;
        let what = if json { "JSON" } else { "command bytes" };
        report(&format!("batches of 100, {clients} client(s), HTTP, {what}"), clients * 5_000, took);
    }

    let at = node.published().at;
    hash_cost(&node);
    let start = Instant::now();
    let snapshot = node.snapshot().await?;
    println!("snapshot of {} records: {:.2?}, {} bytes, read back", records(&node), start.elapsed(), snapshot.bytes);
    in_process(&node, 1, 100, 100, 800_000).await?;
    let expected = node.published().at;
    let _ = stop.send(());
    serving.await??;
    drop(node);
    // The writer thread lets go of the directory's lock as it ends.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    let node = open(&dir)?;
    let found = node.recovered();
    println!(
        "restart: {:.2?} for {} records ({} log records replayed, every state hash checked)",
        start.elapsed(),
        records(&node),
        found.replayed
    );
    if node.published().at.state_hash != expected.state_hash || expected.sequence < at.sequence {
        return Err("the restarted node has another state hash".into());
    }
    Ok(())
}

fn records(node: &Node) -> u64 {
    node.published().state.collections().iter().map(|collection| collection.counts().records).sum()
}

fn search(node: &Node) -> Result<(), Failure> {
    let published = node.published();
    let collection = published.state.collection(&name()).ok_or("the collection is there")?;
    let mut noise = Noise(99);
    let mut times = Vec::new();
    for _ in 0..300 {
        let query = noise.vector();
        let start = Instant::now();
        collection.search(&query, 10, None)?;
        times.push(start.elapsed());
    }
    percentiles(&format!("exact search, {} rows", collection.counts().records), times);
    Ok(())
}

/// One record's insert with and without asking for the hash.
fn hash_cost(node: &Node) {
    let mut state = node.published().state.clone();
    let mut noise = Noise(7);
    let mut times = Vec::new();
    for number in 0..300 {
        if state.apply(batch(&mut noise, 10_000_000 + number, 1)).is_err() {
            return;
        }
        let start = Instant::now();
        state.hash();
        times.push(start.elapsed());
    }
    percentiles(&format!("state hash after 1 insert into {} records", records(node)), times);
}
