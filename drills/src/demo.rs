//! The demo: the whole story on one machine, told by running the real program.
//!
//! What always holds: every step is a command a person could type, run as its own
//! process; the state hash that counts is the one the live node answered to the
//! client that wrote, recorded before the disaster; any step that does not hold
//! ends the demo with an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel_client::Client;
use kernel_client::core::{Command as KernelWrite, Existing, Metric, Name, Parameters};
use serde_json::{Value, json};

use crate::jargon::{Corpus, DIMENSION};
use crate::stage::{Node, PATIENCE, Stage};

/// Entries written before the agent starts; the writer goes on with the rest.
const FIRST: usize = 1500;
/// Records per command.
const BATCH: usize = 50;
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
