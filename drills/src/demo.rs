//! The demo: the whole story on one machine, told by running the real program.
//!
//! What always holds: every step is a command a person could type, run as its own
//! process; the state hash that counts is the one the live node answered to the
//! client that wrote, recorded before the disaster; any step that does not hold
//! ends the demo with an error.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel_client::core::{Command as KernelWrite, Existing, Metric, Name, Parameters};
use kernel_client::{Client, Endpoint};
use serde_json::{Value, json};

use crate::jargon::{Corpus, DIMENSION};

/// Entries written before the agent starts; the writer goes on with the rest.
const FIRST: usize = 1500;
/// Records per command.
const BATCH: usize = 50;
/// How long any wait may last.
const PATIENCE: Duration = Duration::from_secs(60);

/// State hashes by sequence, as the node answered them.
type Answers = Arc<Mutex<BTreeMap<u64, String>>>;

/// Plays the demo in `dir`, or in a temporary folder that is removed afterwards.
/// `say` gets each line; the value returned is the proof in numbers.
pub async fn run(program: &Path, dir: Option<PathBuf>, say: impl Fn(&str)) -> Result<Value> {
    let stage = Stage::new(program, dir)?;
    let started = Instant::now();
    let outcome = play(&stage, &say).await;
    if outcome.is_ok() && stage.temporary {
        fs::remove_dir_all(&stage.dir).with_context(|| format!("removing {}", stage.dir.display()))?;
    } else {
        say(&format!("what was made stands in {}", stage.dir.display()));
    }
    let mut proof = outcome?;
    proof["seconds"] = json!(started.elapsed().as_secs_f64());
    Ok(proof)
}

async fn play(stage: &Stage, say: &impl Fn(&str)) -> Result<Value> {
    let corpus = Arc::new(Corpus::load()?);
    say("1  A vault of nine folders, and a kernel node.");
    stage
        .holdfast(say, &["vault", "init", "--local", stage.path("vault").to_str().context("the path is not UTF-8")?])?;
    stage.append_source()?;
    let mut node = stage.start_node(say, "node").await?;
    let answers = Answers::default();
    fill(&node.client, &corpus, &answers).await?;
    say(&format!(
        "   {} records of {DIMENSION} dimensions with their texts (Jargon File 4.4.7), nodes and edges: sequence {}",
        FIRST,
        last(&answers)
    ));
    say("2  The key goes to five people; any three can bring it back. This host keeps no read key.");
    stage.holdfast(
        say,
        &["keys", "split", "--cards", "5", "--need", "3", "--cards-dir", &stage.text("cards"), "--remove-seed"],
    )?;
    say("3  The agent backs up while the writer goes on.");
    let (sequence, hash) = back_up_while_writing(stage, say, &mut node, &corpus, &answers).await?;
    say("5  Lost: the node's data, the agent's catalog, four of the nine folders.");
    let lost = stage.lose(say)?;
    say("6  Three of the five people bring their cards.");
    stage.holdfast(
        say,
        &[
            "keys",
            "recover",
            "--card",
            &stage.text("cards/card-set1-2.txt"),
            "--card",
            &stage.text("cards/card-set1-4.txt"),
            "--card",
            &stage.text("cards/card-set1-5.txt"),
            "--out",
            &stage.text("recovered.key"),
        ],
    )?;
    say("7  Restore from the five folders that are left: no configuration, no catalog.");
    stage.restore(say, &lost)?;
    let restored = stage.start_node(say, "restored").await?;
    let (found, now) = prove(&restored, &corpus, sequence, &hash, say).await?;
    drop(restored);
    say("9  New folders take the lost ones' place; a shard rots; an audit finds it; repair mends it.");
    let healed = stage.heal(say, &lost)?;
    say(&format!(
        "lost: a node, a catalog, a key, 4 of 9 folders, 1 rotten shard; proven: state hash {} at sequence {sequence} \
         equal bit for bit, {healed} shards rebuilt, audit clean, nothing lost",
        &hash[..16]
    ));
    Ok(
        json!({ "sequence": sequence, "state_hash": hash, "restored_hash": now, "search": found, "shards_rebuilt": healed }),
    )
}

/// Creates the collection and writes the first part of the corpus.
async fn fill(client: &Client, corpus: &Corpus, answers: &Answers) -> Result<()> {
    let collection = collection()?;
    let create = KernelWrite::CreateCollection {
        name: collection.clone(),
        dimension: DIMENSION as u32,
        metric: Metric::Cosine,
        parameters: Parameters::default(),
        created_at: 0,
        metadata: Box::default(),
    };
    write(client, answers, &create).await?;
    for entries in corpus.entries[..FIRST].chunks(BATCH) {
        let records = entries.iter().map(|entry| corpus.record(entry)).collect::<Result<_>>()?;
        let nodes = entries.iter().map(|entry| corpus.node(entry)).collect();
        let existing = Existing::Refuse;
        write(client, answers, &KernelWrite::PutRecords { collection: collection.clone(), existing, records }).await?;
        write(client, answers, &KernelWrite::PutNodes { collection: collection.clone(), existing, nodes }).await?;
    }
    let edges: Vec<_> = (0..corpus.references.len()).filter_map(|number| corpus.edge(number, FIRST as u64)).collect();
    for edges in edges.chunks(500) {
        let (collection, existing, edges) = (collection.clone(), Existing::Refuse, edges.to_vec());
        write(client, answers, &KernelWrite::PutEdges { collection, existing, edges }).await?;
    }
    Ok(())
}

fn collection() -> Result<Name> {
    Name::new("jargon").map_err(|error| anyhow::anyhow!("the collection's name: {error}"))
}

async fn write(client: &Client, answers: &Answers, command: &KernelWrite) -> Result<()> {
    let written = client.apply(command).await.context("writing to the node")?;
    lock(answers).insert(written.sequence, written.state_hash.to_string());
    Ok(())
}

fn lock(answers: &Answers) -> std::sync::MutexGuard<'_, BTreeMap<u64, String>> {
    answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn last(answers: &Answers) -> u64 {
    lock(answers).last_key_value().map_or(0, |(sequence, _)| *sequence)
}

/// Starts the agent, writes on, waits for a durable point, kills the node while
/// the writer is past it. Returns the point's sequence and the hash the live node
/// had answered there.
async fn back_up_while_writing(
    stage: &Stage,
    say: &impl Fn(&str),
    node: &mut Node,
    corpus: &Arc<Corpus>,
    answers: &Answers,
) -> Result<(u64, String)> {
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(keep_writing(
        stage.client(&node.address)?,
        Arc::clone(corpus),
        Arc::clone(answers),
        Arc::clone(&stop),
    ));
    let begun = last(answers);
    let agent = stage.start(&["agent"], "agent.log", say)?;
    let sequence = stage.wait_for_point(begun)?;
    let hash = lock(answers).get(&sequence).cloned();
    let hash = hash.with_context(|| format!("the point's sequence {sequence} was never answered to the writer"))?;
    say(&format!("   durable: sequence {sequence}, state hash {hash}"));
    let past = wait_past(answers, sequence)?;
    say(&format!("4  kill -9: the node dies at sequence {past} or later, while the writer writes."));
    node.process.kill()?;
    stop.store(true, Ordering::SeqCst);
    // The writer ends with an error when its node dies: that is the point.
    let _ = writer.await;
    agent.stop_gently()?;
    Ok((sequence, hash))
}

/// Writes the rest of the corpus, then renews records, until told to stop.
async fn keep_writing(client: Client, corpus: Arc<Corpus>, answers: Answers, stop: Arc<AtomicBool>) -> Result<()> {
    let collection = collection()?;
    for entry in corpus.entries[FIRST..].iter().chain(corpus.entries.iter().cycle()) {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let records = vec![corpus.record(entry)?];
        let existing = Existing::Replace;
        write(&client, &answers, &KernelWrite::PutRecords { collection: collection.clone(), existing, records })
            .await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn wait_past(answers: &Answers, sequence: u64) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let newest = last(answers);
        if newest > sequence {
            return Ok(newest);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the writer did not get past sequence {sequence}")
}

/// Asks the restored node for its state and compares it with what the live node
/// answered; looks a word up, because a hash is not yet a use.
async fn prove(
    node: &Node,
    corpus: &Corpus,
    sequence: u64,
    hash: &str,
    say: &impl Fn(&str),
) -> Result<(String, String)> {
    let state = node.client.state().await.context("asking the restored node for its state")?;
    let now = state.state_hash.to_string();
    say("8  The restored node answers:");
    say(&format!("   sequence {}, state hash {now}", state.sequence));
    ensure!(state.sequence == sequence, "the restored node stands at {}, not at {sequence}", state.sequence);
    ensure!(now == hash, "the restored hash {now} is not the recorded {hash}");
    say("   equal, bit for bit");
    let kludge = corpus.entries.iter().find(|entry| entry.term == "kluge").context("the corpus has the word kluge")?;
    let hits = node.client.search(&collection()?, &corpus.vector(kludge.id), 4, None).await?;
    let terms: Vec<&str> = hits.iter().map(|hit| hit.metadata.split(':').next().unwrap_or_default()).collect();
    say(&format!("   nearest to \"{}\": {}", kludge.term, terms.join(", ")));
    ensure!(terms.first() == Some(&"kluge"), "the nearest entry to a word must be itself");
    Ok((terms.join(", "), now))
}

/// The folder the demo plays in, and the program it runs.
struct Stage {
    program: PathBuf,
    dir: PathBuf,
    temporary: bool,
}

struct Node {
    process: Process,
    client: Client,
    address: String,
}

impl Stage {
    fn new(program: &Path, dir: Option<PathBuf>) -> Result<Self> {
        let temporary = dir.is_none();
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("holdfast-demo-{}", std::process::id())));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        ensure!(
            fs::read_dir(&dir)?.next().is_none(),
            "{} is not empty; nothing was changed. Name a new folder with --dir",
            dir.display()
        );
        let dir = fs::canonicalize(&dir)?;
        Ok(Self { program: program.to_owned(), dir, temporary })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.path("holdfast.toml")).args(arguments);
        command
    }

    /// Runs a command to its end, showing it and what it prints.
    fn holdfast(&self, say: &impl Fn(&str), arguments: &[&str]) -> Result<()> {
        let (code, output) = self.try_holdfast(say, arguments)?;
        ensure!(code == 0, "holdfast {} ended with {code}:\n{output}", arguments.join(" "));
        Ok(())
    }

    fn try_holdfast(&self, say: &impl Fn(&str), arguments: &[&str]) -> Result<(i32, String)> {
        say(&format!("   $ holdfast {}", arguments.join(" ").replace(&self.text(""), "")));
        let output = self.command(arguments).stdin(Stdio::null()).output().context("starting holdfast")?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for line in text.lines() {
            say(&format!("     {}", line.replace(&self.text(""), "")));
        }
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Starts a command that stays, its output in a file.
    fn start(&self, arguments: &[&str], log: &str, say: &impl Fn(&str)) -> Result<Process> {
        say(&format!("   $ holdfast {} &", arguments.join(" ").replace(&self.text(""), "")));
        let out = fs::File::create(self.path(log))?;
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .context("starting holdfast")?;
        Ok(Process { child, log: self.path(log) })
    }

    /// The demo's node and a schedule of seconds, added to the configuration as a
    /// user would add them.
    fn append_source(&self) -> Result<()> {
        let mut token = [0_u8; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut token)?;
        let text: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path("node.token"))?;
        file.write_all(text.as_bytes())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        fs::write(self.path("port"), port.to_string())?;
        let source = format!(
            "\n[source.memory]\nkind = \"kernel\"\nurl = \"http://127.0.0.1:{port}\"\ntoken = {{ file = \"{}\" }}\n\n\
             [policy.memory]\nsource = \"memory\"\nschedule = \"every 1s\"\n",
            self.text("node.token")
        );
        let mut config = fs::OpenOptions::new().append(true).open(self.path("holdfast.toml"))?;
        config.write_all(source.as_bytes())?;
        Ok(())
    }

    async fn start_node(&self, say: &impl Fn(&str), folder: &str) -> Result<Node> {
        let address = format!("127.0.0.1:{}", fs::read_to_string(self.path("port"))?);
        let arguments = [
            "kernel",
            "run",
            "--data",
            &self.text(folder),
            "--listen",
            &address,
            "--token-file",
            &self.text("node.token"),
        ];
        let mut process = self.start(&arguments, &format!("{folder}.log"), say)?;
        let client = self.client(&address)?;
        let deadline = Instant::now() + PATIENCE;
        while client.health().await.is_err() {
            if Instant::now() > deadline || process.child.try_wait()?.is_some() {
                bail!("the node does not answer: {}", fs::read_to_string(&process.log)?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Node { process, client, address })
    }

    fn client(&self, address: &str) -> Result<Client> {
        let token = Client::read_token(&self.path("node.token"))?;
        Ok(Client::new(&Endpoint::Tcp(format!("http://{address}")), &token)?)
    }

    /// Waits until a point past `begun` is listed, and returns its sequence.
    fn wait_for_point(&self, begun: u64) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let output = self.command(&["--json", "vault", "snapshots"]).stdin(Stdio::null()).output()?;
            let newest = String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|event| event["type"] == "point")
                .filter_map(|event| event["position"].as_u64())
                .max();
            match newest {
                Some(sequence) if sequence > begun => return Ok(sequence),
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
        bail!("no point became durable: {}", fs::read_to_string(self.path("agent.log")).unwrap_or_default())
    }

    /// Deletes the node's data, the catalog, and four of the nine folders.
    fn lose(&self, say: &impl Fn(&str)) -> Result<Vec<String>> {
        let lost: Vec<String> = ["p2", "p3", "p6", "p9"].into_iter().map(|name| format!("vault/{name}")).collect();
        let rest = ["node".to_owned(), "vault/state".to_owned()];
        for folder in rest.iter().chain(&lost) {
            fs::remove_dir_all(self.path(folder)).with_context(|| format!("removing {folder}"))?;
            say(&format!("   $ rm -r {folder}"));
        }
        Ok(lost)
    }

    fn restore(&self, say: &impl Fn(&str), lost: &[String]) -> Result<()> {
        let left: Vec<String> = (1..=9)
            .map(|number| format!("vault/p{number}"))
            .filter(|folder| !lost.contains(folder))
            .map(|folder| self.text(&folder))
            .collect();
        let (key, to) = (self.text("recovered.key"), self.text("restored"));
        let mut arguments =
            vec!["vault", "restore", "latest", "--source", "memory", "--read-key", &key, "--to", &to, "--from"];
        arguments.extend(left.iter().map(String::as_str));
        let (code, output) = self.try_holdfast(say, &arguments)?;
        // 3: done, with warnings that four folders are gone.
        ensure!(code == 0 || code == 3, "the restore ended with {code}:\n{output}");
        Ok(())
    }

    /// Rebuilds the lost folders, then plays one rotten byte.
    fn heal(&self, say: &impl Fn(&str), lost: &[String]) -> Result<u64> {
        for folder in lost {
            fs::create_dir(self.path(folder))?;
        }
        let rebuilt = self.repair(say)?;
        let (shard, at) = self.rot()?;
        say(&format!("   one bit flipped at byte {at} of {}", shard.display().to_string().replace(&self.text(""), "")));
        let (code, output) = self.try_holdfast(say, &["vault", "audit"])?;
        ensure!(code == 4, "the audit must find the damage (exit 4), and ended with {code}:\n{output}");
        let mended = self.repair(say)?;
        ensure!(mended == 1, "one shard was rotten, {mended} were written");
        self.holdfast(say, &["vault", "audit"])?;
        Ok(rebuilt + mended)
    }

    fn repair(&self, say: &impl Fn(&str)) -> Result<u64> {
        say("   $ holdfast vault repair --apply");
        let output = self.command(&["--json", "vault", "repair", "--apply"]).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let summary = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
        let shards = summary["shards"].as_u64();
        let problems = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "repair ended with {:?}: {problems}", output.status.code());
        let shards = shards.context("repair printed no summary")?;
        say(&format!("     {shards} shards and {} records written and read back", summary["records"]));
        Ok(shards)
    }

    /// Flips one bit in the middle of the first shard of p1.
    fn rot(&self) -> Result<(PathBuf, u64)> {
        let shard = first_file(&self.path("vault/p1/shards"))?.context("p1 holds no shard")?;
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&shard)?;
        let at = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&[byte[0] ^ 1])?;
        Ok((shard, at))
    }
}

fn first_file(folder: &Path) -> Result<Option<PathBuf>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_file() {
            return Ok(Some(entry));
        }
        if let Some(found) = first_file(&entry)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A child that does not outlive the demo.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// SIGKILL.
    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for a graceful end.
    fn stop_gently(mut self) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("a process id")?;
        let id = rustix::process::Pid::from_raw(id).context("a process id")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the agent ended with {status}: {}", fs::read_to_string(&self.log)?);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the agent did not stop: {}", fs::read_to_string(&self.log)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
