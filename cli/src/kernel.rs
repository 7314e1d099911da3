//! `holdfast kernel`: run a node, put, query, prove, look, snapshot, verify, restore.
//!
//! Arguments in, sentences out; what happens is in the kernel crates.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use futures::StreamExt;
use kernel_client::core::{
    ChainVerifier, Claim, Command, Existing, Fixed, Hash, Id, Lineage, Metric, Name, Parameters, Record, Space,
    ThingType, Verdict, Verified,
};
use kernel_client::{Client, Endpoint};
use kernel_node::{Acknowledge, Clock, Config, Directory, Listen, Node, Server, SyncMode, SystemClock, Token};

/// Exit code: damage was found.
const DAMAGED: u8 = 4;
/// Exit code: done with warnings.
const WARNED: u8 = 3;
const DEFAULT_ADDRESS: &str = "127.0.0.1:8466";

/// The kernel node and its client.
#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Run a node on a data directory until it is told to stop.
    Run(RunArgs),
    /// Put records: JSON lines, or a file of f32 vectors with a file of texts.
    Put(PutArgs),
    /// Find the nearest records.
    Query(QueryArgs),
    /// Print the state hash, or prove that a record is in the state or not.
    Proof(ProofArgs),
    /// Say how the node is.
    Status(NodeArgs),
    /// Make a snapshot, and download it with --out.
    Snapshot(SnapshotArgs),
    /// Verify a snapshot file and a log file by replaying them, without a node.
    Verify(FileArgs),
    /// Make a data directory from a snapshot file and a log file.
    Restore(RestoreArgs),
}

/// How to reach a node.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Address of the node.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    address: String,
    /// Unix socket of the node, instead of an address.
    #[arg(long, value_name = "PATH", conflicts_with = "address")]
    socket: Option<PathBuf>,
    /// File with the node's token.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Data directory; made if it is missing.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address to listen on; port 0 picks one.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    listen: SocketAddr,
    /// Unix socket to listen on as well.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// File with the token clients must show; made with a random one if it is missing.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// When a write is synced.
    #[arg(long, value_enum, default_value = "batch")]
    sync: SyncWord,
    /// When a write is acknowledged.
    #[arg(long, value_enum, default_value = "local")]
    ack: AckWord,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SyncWord {
    EveryWrite,
    Batch,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AckWord {
    Local,
    Vault,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MetricWord {
    L2,
    Cosine,
    Dot,
}

/// Arguments of `put`.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Collection; made if it is missing.
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// Metric of a collection that is made.
    #[arg(long, value_enum, default_value = "cosine")]
    metric: MetricWord,
    /// Replace records that are there.
    #[arg(long)]
    replace: bool,
    /// Records per request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// JSON lines {"id", "vector", "metadata"?, "tag"?}; `-` is stdin.
    #[arg(value_name = "FILE", required_unless_present = "vectors")]
    lines: Option<PathBuf>,
    /// Raw little-endian f32 vectors, one after the other.
    #[arg(long, value_name = "FILE", requires = "dimension", conflicts_with = "lines")]
    vectors: Option<PathBuf>,
    /// Texts of the vectors, one line each.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    texts: Option<PathBuf>,
    /// Components of each vector.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    dimension: Option<u32>,
    /// Id of the first vector; the others count up.
    #[arg(long, default_value_t = 0)]
    first_id: u64,
}

/// Arguments of `query`.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Collection.
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// Components, separated by commas.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, required_unless_present = "like")]
    vector: Vec<f32>,
    /// A record to compare with, instead of a vector.
    #[arg(long, value_name = "ID", conflicts_with = "vector")]
    like: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 10)]
    limit: u32,
    /// Only records with this tag.
    #[arg(long)]
    tag: Option<u64>,
}

/// Arguments of `proof`.
#[derive(Debug, Args)]
pub(crate) struct ProofArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Prove this record instead of printing the state.
    #[arg(long, num_args = 2, value_names = ["COLLECTION", "ID"])]
    record: Option<Vec<String>>,
    /// The state hash to hold the proof against, instead of the one the node names.
    #[arg(long, value_name = "HASH", requires = "record")]
    trusted: Option<String>,
}

/// Arguments of `snapshot`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Download it to this file, which must not exist.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A snapshot and the log after it.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Snapshot file.
    #[arg(long, value_name = "FILE")]
    snapshot: PathBuf,
    /// Log records after it, end to end.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    files: FileArgs,
    /// New data directory; must be empty or missing.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Runs a command.
pub(crate) async fn run(command: KernelCommand) -> Result<ExitCode> {
    match command {
        KernelCommand::Run(args) => serve(args).await,
        KernelCommand::Put(args) => put(args).await,
        KernelCommand::Query(args) => query(args).await,
        KernelCommand::Proof(args) => proof(args).await,
        KernelCommand::Status(args) => status(&args).await,
        KernelCommand::Snapshot(args) => snapshot(args).await,
        KernelCommand::Verify(args) => Ok(verify(&args)),
        KernelCommand::Restore(args) => restore(&args),
    }
}

impl NodeArgs {
    fn client(&self) -> Result<Client> {
        let endpoint = match &self.socket {
            Some(path) => Endpoint::Unix(path.clone()),
            None => Endpoint::Tcp(self.address.clone()),
        };
        Ok(Client::new(&endpoint, &Client::read_token(&self.token_file)?)?)
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no randomness")?;
    Ok(bytes)
}

fn random_lineage() -> Result<Lineage> {
    Ok(Lineage::from_bytes(random()?))
}

/// Makes the token file if it is missing, for its owner only.
fn ensure_token(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let digits = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            writeln!(file, "{digits}")?;
            file.sync_all()?;
            println!("made a token in {}", path.display());
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make the token file {}", path.display())),
    }
}

async fn serve(args: RunArgs) -> Result<ExitCode> {
    ensure_token(&args.token_file)?;
    let token = Token::read(&args.token_file)?;
    let mut config = Config::new(random_lineage()?);
    config.sync = match args.sync {
        SyncWord::EveryWrite => SyncMode::EveryWrite,
        SyncWord::Batch => SyncMode::Batch,
        SyncWord::None => SyncMode::None,
    };
    config.acknowledge = match args.ack {
        AckWord::Local => Acknowledge::Local,
        AckWord::Vault => Acknowledge::Vault,
    };
    let disk = Arc::new(Directory::lock(&args.data)?);
    let node = Node::open(&config, disk, Arc::new(SystemClock))?;
    let (found, at) = (node.recovered(), node.published().at);
    println!("lineage    {}", at.lineage);
    println!("sequence   {} ({} replayed on snapshot {})", at.sequence, found.replayed, found.snapshot_sequence);
    println!("state hash {}", at.state_hash);
    if found.torn_bytes > 0 {
        println!("cut {} bytes of a write that never completed, and so was never acknowledged", found.torn_bytes);
    }
    let listen = Listen { address: Some(args.listen), socket: args.socket };
    let server = Server::bind(node.clone(), &listen, token, || SystemClock.now_ms()).await?;
    if let Some(address) = server.address() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    server.serve(stop).await?;
    println!("stopped at sequence {}", node.published().at.sequence);
    Ok(ExitCode::SUCCESS)
}

/// Where the records of `put` come from.
enum Records {
    Lines(Box<dyn BufRead>),
    Raw { vectors: Box<dyn Read>, texts: Option<Box<dyn BufRead>>, dimension: usize, next_id: u64 },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: serde_json::Value,
    vector: Vec<f32>,
    #[serde(default)]
    metadata: String,
    #[serde(default)]
    tag: u64,
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn components(floats: impl IntoIterator<Item = f32>) -> Result<Box<[Fixed]>> {
    floats.into_iter().map(|float| Ok(Fixed::from_f32(float).map_err(kernel_client::core::Error::from)?)).collect()
}

impl Records {
    fn of(args: &PutArgs) -> Result<Self> {
        if let (Some(path), Some(dimension)) = (&args.vectors, args.dimension) {
            let texts = match &args.texts {
                Some(path) => Some(Box::new(BufReader::new(open(path)?)) as Box<dyn BufRead>),
                None => None,
            };
            let vectors = Box::new(BufReader::new(open(path)?));
            return Ok(Records::Raw { vectors, texts, dimension: dimension as usize, next_id: args.first_id });
        }
        match args.lines.as_deref() {
            Some(path) if path != Path::new("-") => Ok(Records::Lines(Box::new(BufReader::new(open(path)?)))),
            Some(_) | None => Ok(Records::Lines(Box::new(BufReader::new(std::io::stdin())))),
        }
    }

    fn next(&mut self) -> Result<Option<Record>> {
        match self {
            Records::Lines(lines) => next_line(lines.as_mut()),
            Records::Raw { vectors, texts, dimension, next_id } => {
                let Some(vector) = next_vector(vectors.as_mut(), *dimension)? else { return Ok(None) };
                let mut text = String::new();
                if let Some(texts) = texts {
                    texts.read_line(&mut text)?;
                }
                let metadata = text.trim_end_matches('\n').as_bytes().into();
                let id = Id::from_u64(*next_id);
                *next_id += 1;
                Ok(Some(Record { id, tag: 0, metadata, vector }))
            }
        }
    }
}

fn next_line(lines: &mut dyn BufRead) -> Result<Option<Record>> {
    let mut text = String::new();
    while text.trim().is_empty() {
        text.clear();
        if lines.read_line(&mut text)? == 0 {
            return Ok(None);
        }
    }
    let line: Line = serde_json::from_str(&text)?;
    let id = match line.id.as_str() {
        Some(text) => Id::parse(text)?,
        None => Id::parse(&line.id.to_string())?,
    };
    Ok(Some(Record {
        id,
        tag: line.tag,
        metadata: line.metadata.into_bytes().into(),
        vector: components(line.vector)?,
    }))
}

fn next_vector(vectors: &mut dyn Read, dimension: usize) -> Result<Option<Box<[Fixed]>>> {
    let mut bytes = vec![0; dimension * 4];
    let mut filled = 0;
    while filled < bytes.len() {
        match vectors.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => bail!("the vectors end inside one: is --dimension right?"),
            count => filled += count,
        }
    }
    let (words, _) = bytes.as_chunks::<4>();
    Ok(Some(components(words.iter().map(|word| f32::from_le_bytes(*word)))?))
}

async fn put(args: PutArgs) -> Result<ExitCode> {
    let client = args.node.client()?;
    let collection = Name::new(&args.collection)?;
    let existing = if args.replace { Existing::Replace } else { Existing::Refuse };
    let batch = usize::from(args.batch);
    let mut source = Records::of(&args)?;
    let mut known = client.state().await?.collections.iter().any(|found| found.name == args.collection);
    let (mut total, mut last) = (0, None);
    loop {
        let mut records = Vec::with_capacity(batch);
        while records.len() < batch
            && let Some(record) = source.next().with_context(|| format!("record {}", total + records.len() + 1))?
        {
            records.push(record);
        }
        let Some(first) = records.first() else { break };
        if !known {
            client.apply(&create(&collection, first.vector.len(), args.metric)).await?;
            known = true;
        }
        let end = total + records.len();
        let command = Command::PutRecords { collection: collection.clone(), existing, records };
        let refused = || format!("records {} to {end} were not put; {total} before them were", total + 1);
        last = Some(client.apply(&command).await.with_context(refused)?);
        total = end;
    }
    match last {
        None => println!("nothing to put"),
        Some(written) => {
            println!("put {total} records; sequence {}, state hash {}", written.sequence, written.state_hash);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(name: &Name, dimension: usize, metric: MetricWord) -> Command {
    Command::CreateCollection {
        name: name.clone(),
        dimension: u32::try_from(dimension).unwrap_or(u32::MAX),
        metric: match metric {
            MetricWord::L2 => Metric::L2,
            MetricWord::Cosine => Metric::Cosine,
            MetricWord::Dot => Metric::Dot,
        },
        parameters: Parameters::default(),
        created_at: SystemClock.now_ms(),
        metadata: Box::default(),
    }
}

async fn query(args: QueryArgs) -> Result<ExitCode> {
    let client = args.node.client()?;
    let collection = Name::new(&args.collection)?;
    let vector = match &args.like {
        None => args.vector.clone(),
        Some(id) => {
            let record = client.record(&collection, Id::parse(id)?).await?;
            let record = record.with_context(|| format!("no record {id} in {collection}"))?;
            record.vector.iter().map(|component| component.to_f64() as f32).collect()
        }
    };
    for found in client.search(&collection, &vector, args.limit, args.tag).await? {
        println!("{:<12.6} {:<32} {}", found.score, found.id.to_string(), found.metadata);
    }
    Ok(ExitCode::SUCCESS)
}

async fn proof(args: ProofArgs) -> Result<ExitCode> {
    let client = args.node.client()?;
    let Some([collection, id]) = args.record.as_deref() else {
        return print_state(&client).await;
    };
    let claim = Claim { collection: Name::new(collection)?, space: Space::Living(ThingType::Record, Id::parse(id)?) };
    let (proof, named) = client.prove(&claim).await?;
    let trusted = match &args.trusted {
        None => named,
        Some(text) => Hash::parse(text).context("--trusted is 64 hex digits")?,
    };
    match proof.verify(&trusted) {
        Ok(Verdict::Present(_)) => println!("PROVEN: record {id} is in {collection} at sequence {}", proof.sequence()),
        Ok(Verdict::Absent | Verdict::NoCollection) => {
            println!("PROVEN: record {id} is not in {collection} at sequence {}", proof.sequence());
        }
        Err(_) => {
            println!("NOT PROVEN: the proof does not lead to state hash {trusted}");
            return Ok(ExitCode::from(DAMAGED));
        }
    }
    println!("state hash {trusted}");
    Ok(ExitCode::SUCCESS)
}

async fn print_state(client: &Client) -> Result<ExitCode> {
    let state = client.state().await?;
    println!("lineage    {}", state.lineage);
    println!("sequence   {}", state.sequence);
    println!("state hash {}", state.state_hash);
    println!("chain hash {}", state.chain_hash);
    for found in &state.collections {
        let (records, nodes, edges) = (found.records, found.nodes, found.edges);
        println!("  {} {} ({records} records, {nodes} nodes, {edges} edges)", found.hash, found.name);
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(args: &NodeArgs) -> Result<ExitCode> {
    let client = args.client()?;
    let (health, state, cursors) = (client.health().await?, client.state().await?, client.cursors().await?);
    println!("kernel {}   {}", health.version, if health.status == "ok" { "OK" } else { "READ-ONLY" });
    println!("sequence {}   state hash {}", state.sequence, state.state_hash);
    for found in &state.collections {
        println!(
            "  {:<20} {:>5} x {:<6} {:>9} records {:>9} nodes {:>9} edges {:>7} in trash",
            found.name, found.dimension, found.metric, found.records, found.nodes, found.edges, found.trash
        );
    }
    for snapshot in client.snapshots().await? {
        println!("  snapshot {} ({} bytes)", snapshot.sequence, snapshot.bytes);
    }
    if cursors.attached {
        println!("vault: log durable up to {}, folded up to {}", cursors.durable_seq, cursors.folded_seq);
    } else {
        println!("vault: no agent has reported yet");
    }
    let mut code = ExitCode::SUCCESS;
    if cursors.chain_broken_at > 0 {
        println!(
            "THE CHAIN IS BROKEN at {}: the vault needs a new snapshot: holdfast vault run",
            cursors.chain_broken_at
        );
        code = ExitCode::from(WARNED);
    }
    if let Some(failure) = &state.failure {
        println!("NO WRITES: {failure}");
        code = ExitCode::from(DAMAGED);
    }
    Ok(code)
}

async fn snapshot(args: SnapshotArgs) -> Result<ExitCode> {
    let client = args.node.client()?;
    let made = client.make_snapshot().await?;
    println!("snapshot of sequence {}, {} bytes, state hash {}", made.sequence, made.bytes, made.state_hash);
    let Some(path) = args.out else { return Ok(ExitCode::SUCCESS) };
    let mut file = File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut stream = client.snapshot(made.sequence).await?;
    while let Some(piece) = stream.next().await {
        file.write_all(&piece?)?;
    }
    file.sync_all()?;
    println!("written to {}; check it: holdfast kernel verify --snapshot {}", path.display(), path.display());
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &FileArgs) -> ExitCode {
    match replay(args) {
        Ok(verified) => {
            println!("VERIFIED   sequence {} ({} log records replayed)", verified.sequence, verified.records);
            println!("lineage    {}", verified.lineage);
            println!("state hash {}", verified.state_hash);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("NOT VERIFIED: {error:#}");
            ExitCode::from(DAMAGED)
        }
    }
}

fn replay(args: &FileArgs) -> Result<Verified> {
    let mut verifier = ChainVerifier::new();
    each_piece(&args.snapshot, |piece| verifier.push_snapshot(piece)).context("the snapshot")?;
    let mut verifier = verifier.end_snapshot().context("the snapshot")?;
    if let Some(log) = &args.log {
        each_piece(log, |piece| verifier.push_log(piece)).context("the log")?;
    }
    Ok(verifier.finish().context("the log")?.1)
}

fn each_piece(path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), kernel_client::core::Error>) -> Result<()> {
    let mut file = open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => take(&buffer[..count])?,
        }
    }
}

fn restore(args: &RestoreArgs) -> Result<ExitCode> {
    let snapshot = open(&args.files.snapshot)?;
    let log: Box<dyn Read> = match &args.files.log {
        Some(path) => Box::new(open(path)?),
        None => Box::new(std::io::empty()),
    };
    let restored = kernel_node::restore_from(&args.data, snapshot, log, random_lineage()?, SystemClock.now_ms())?;
    println!("restored sequence {} into {}", restored.sequence, args.data.display());
    println!("state hash {}", restored.state_hash);
    println!("lineage    {} (from {})", restored.lineage, restored.parent_lineage);
    Ok(ExitCode::SUCCESS)
}
