//! `holdfast kernel`: run a node, put, query, prove, look, snapshot, verify, restore.
//!
//! Arguments in, sentences out; what happens is in the kernel crates.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use futures::StreamExt;
use kernel_client::core::{ChainVerifier, Claim, Hash, Id, Lineage, Name, Space, ThingType, Verdict, Verified};
use kernel_client::{Client, Endpoint};
use kernel_node::{Acknowledge, Clock, Config, Directory, Listen, Node, Server, SyncMode, SystemClock, Token};
use serde_json::json;

use crate::exit;
use crate::kernel_put::{self, PutArgs};
use crate::output::Output;

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
pub(crate) async fn run(output: Output, command: KernelCommand) -> Result<u8> {
    match command {
        KernelCommand::Run(args) => serve(output, args).await,
        KernelCommand::Put(args) => kernel_put::put(output, args).await,
        KernelCommand::Query(args) => query(output, args).await,
        KernelCommand::Proof(args) => proof(output, args).await,
        KernelCommand::Status(args) => status(output, &args).await,
        KernelCommand::Snapshot(args) => snapshot(output, args).await,
        KernelCommand::Verify(args) => Ok(verify(output, &args)),
        KernelCommand::Restore(args) => restore(output, &args),
    }
}

impl NodeArgs {
    pub(crate) fn client(&self) -> Result<Client> {
        let endpoint = match &self.socket {
            Some(path) => Endpoint::Unix(path.clone()),
            None => Endpoint::Tcp(self.address.clone()),
        };
        Ok(Client::new(&endpoint, &Client::read_token(&self.token_file)?)?)
    }
}

pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
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
fn ensure_token(output: Output, path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let digits = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            writeln!(file, "{digits}")?;
            file.sync_all()?;
            sync_name(path)?;
            output.say(format!("made a token in {}", path.display()));
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make the token file {}", path.display())),
    }
}

/// Makes the name of a new file survive a power cut.
fn sync_name(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot sync the folder of {}", path.display()))
}

async fn serve(output: Output, args: RunArgs) -> Result<u8> {
    ensure_token(output, &args.token_file)?;
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
    output.say(format!("lineage    {}", at.lineage));
    output.say(format!(
        "sequence   {} ({} replayed on snapshot {})",
        at.sequence, found.replayed, found.snapshot_sequence
    ));
    output.say(format!("state hash {}", at.state_hash));
    if found.torn_bytes > 0 {
        output.say(format!(
            "cut {} bytes of a write that never completed, and so was never acknowledged",
            found.torn_bytes
        ));
    }
    let listen = Listen { address: Some(args.listen), socket: args.socket };
    let server = Server::bind(node.clone(), &listen, token, || SystemClock.now_ms()).await?;
    if let Some(address) = server.address() {
        output.say(format!("listening on {address}"));
        output.event(
            "listening",
            json!({ "address": address.to_string(), "sequence": at.sequence, "state_hash": at.state_hash.to_string() }),
        );
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
    let sequence = node.published().at.sequence;
    output.say(format!("stopped at sequence {sequence}"));
    output.summary(exit::OK, json!({ "sequence": sequence }));
    Ok(exit::OK)
}

async fn query(output: Output, args: QueryArgs) -> Result<u8> {
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
    let found = client.search(&collection, &vector, args.limit, args.tag).await?;
    for hit in &found {
        output.say(format!("{:<12.6} {:<32} {}", hit.score, hit.id.to_string(), hit.metadata));
        output.event("hit", json!({ "score": hit.score, "id": hit.id.to_string(), "metadata": hit.metadata }));
    }
    output.summary(exit::OK, json!({ "hits": found.len() }));
    Ok(exit::OK)
}

async fn proof(output: Output, args: ProofArgs) -> Result<u8> {
    let client = args.node.client()?;
    let Some([collection, id]) = args.record.as_deref() else {
        return print_state(output, &client).await;
    };
    let claim = Claim { collection: Name::new(collection)?, space: Space::Living(ThingType::Record, Id::parse(id)?) };
    let (proof, named) = client.prove(&claim).await?;
    let trusted = match &args.trusted {
        None => named,
        Some(text) => Hash::parse(text).context("--trusted is 64 hex digits")?,
    };
    let sequence = proof.sequence();
    let (verdict, line, code) = match proof.verify(&trusted) {
        Ok(Verdict::Present(_)) => {
            ("present", format!("PROVEN: record {id} is in {collection} at sequence {sequence}"), exit::OK)
        }
        Ok(Verdict::Absent | Verdict::NoCollection) => {
            ("absent", format!("PROVEN: record {id} is not in {collection} at sequence {sequence}"), exit::OK)
        }
        Err(_) => ("not proven", format!("NOT PROVEN: the proof does not lead to state hash {trusted}"), exit::DAMAGE),
    };
    output.say(line);
    if code == exit::OK {
        output.say(format!("state hash {trusted}"));
    }
    output.summary(code, json!({ "verdict": verdict, "sequence": sequence, "state_hash": trusted.to_string() }));
    Ok(code)
}

async fn print_state(output: Output, client: &Client) -> Result<u8> {
    let state = client.state().await?;
    output.say(format!("lineage    {}", state.lineage));
    output.say(format!("sequence   {}", state.sequence));
    output.say(format!("state hash {}", state.state_hash));
    output.say(format!("chain hash {}", state.chain_hash));
    for found in &state.collections {
        let (records, nodes, edges) = (found.records, found.nodes, found.edges);
        output.say(format!("  {} {} ({records} records, {nodes} nodes, {edges} edges)", found.hash, found.name));
    }
    output.summary(
        exit::OK,
        json!({ "lineage": state.lineage.to_string(), "sequence": state.sequence,
                "state_hash": state.state_hash.to_string(), "chain_hash": state.chain_hash.to_string() }),
    );
    Ok(exit::OK)
}

async fn status(output: Output, args: &NodeArgs) -> Result<u8> {
    let client = args.client()?;
    let (health, state, cursors) = (client.health().await?, client.state().await?, client.cursors().await?);
    output.say(format!("kernel {}   {}", health.version, if health.status == "ok" { "OK" } else { "READ-ONLY" }));
    output.say(format!("sequence {}   state hash {}", state.sequence, state.state_hash));
    for found in &state.collections {
        output.say(format!(
            "  {:<20} {:>5} x {:<6} {:>9} records {:>9} nodes {:>9} edges {:>7} in trash",
            found.name, found.dimension, found.metric, found.records, found.nodes, found.edges, found.trash
        ));
    }
    for snapshot in client.snapshots().await? {
        output.say(format!("  snapshot {} ({} bytes)", snapshot.sequence, snapshot.bytes));
    }
    if cursors.attached {
        output.say(format!("vault: log durable up to {}, folded up to {}", cursors.durable_seq, cursors.folded_seq));
    } else {
        output.say("vault: no agent has reported yet");
    }
    let mut code = exit::OK;
    if cursors.chain_broken_at > 0 {
        output.say(format!(
            "THE CHAIN IS BROKEN at {}: the vault needs a new snapshot: holdfast vault run",
            cursors.chain_broken_at
        ));
        code = exit::WARNINGS;
    }
    if let Some(failure) = &state.failure {
        output.say(format!("NO WRITES: {failure}"));
        code = exit::DAMAGE;
    }
    output.summary(
        code,
        json!({ "version": health.version, "writable": health.status == "ok", "sequence": state.sequence,
                "state_hash": state.state_hash.to_string(), "durable_seq": cursors.durable_seq,
                "folded_seq": cursors.folded_seq, "chain_broken_at": cursors.chain_broken_at, "failure": state.failure }),
    );
    Ok(code)
}

async fn snapshot(output: Output, args: SnapshotArgs) -> Result<u8> {
    let client = args.node.client()?;
    let made = client.make_snapshot().await?;
    output.say(format!("snapshot of sequence {}, {} bytes, state hash {}", made.sequence, made.bytes, made.state_hash));
    let summary = json!({ "sequence": made.sequence, "bytes": made.bytes, "state_hash": made.state_hash.to_string() });
    let Some(path) = args.out else {
        output.summary(exit::OK, summary);
        return Ok(exit::OK);
    };
    let mut file = File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut stream = client.snapshot(made.sequence).await?;
    while let Some(piece) = stream.next().await {
        file.write_all(&piece?)?;
    }
    file.sync_all()?;
    sync_name(&path)?;
    output.say(format!(
        "written to {}; check it: holdfast kernel verify --snapshot {}",
        path.display(),
        path.display()
    ));
    output.summary(exit::OK, summary);
    Ok(exit::OK)
}

fn verify(output: Output, args: &FileArgs) -> u8 {
    match replay(args) {
        Ok(verified) => {
            output
                .say(format!("VERIFIED   sequence {} ({} log records replayed)", verified.sequence, verified.records));
            output.say(format!("lineage    {}", verified.lineage));
            output.say(format!("state hash {}", verified.state_hash));
            output.summary(
                exit::OK,
                json!({ "sequence": verified.sequence, "records": verified.records,
                        "lineage": verified.lineage.to_string(), "state_hash": verified.state_hash.to_string() }),
            );
            exit::OK
        }
        Err(error) => {
            output.say(format!("NOT VERIFIED: {error:#}"));
            output.summary(exit::DAMAGE, json!({ "why": format!("{error:#}") }));
            exit::DAMAGE
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

fn restore(output: Output, args: &RestoreArgs) -> Result<u8> {
    let snapshot = open(&args.files.snapshot)?;
    let log: Box<dyn Read> = match &args.files.log {
        Some(path) => Box::new(open(path)?),
        None => Box::new(std::io::empty()),
    };
    let restored = kernel_node::restore_from(&args.data, snapshot, log, random_lineage()?, SystemClock.now_ms())?;
    output.say(format!("restored sequence {} into {}", restored.sequence, args.data.display()));
    output.say(format!("state hash {}", restored.state_hash));
    output.say(format!("lineage    {} (from {})", restored.lineage, restored.parent_lineage));
    output.summary(
        exit::OK,
        json!({ "sequence": restored.sequence, "state_hash": restored.state_hash.to_string(),
                "lineage": restored.lineage.to_string(), "parent_lineage": restored.parent_lineage.to_string() }),
    );
    Ok(exit::OK)
}
