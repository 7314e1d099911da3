//! The demo is the program's own proof, so it is run as anybody would run it; and
//! a proof that cannot fail is none, so a vault with too much damage must not
//! restore.
//!
//! What must hold: exit 0 within two minutes, equal hashes printed, nothing left
//! behind; with five of nine shards of a pack rotten a restore fails, and leaves
//! nothing that looks like a node's data.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::time::{Duration, Instant};

use stage::{Stage, rot};

#[test]
fn it_tells_the_whole_story() {
    let stage = Stage::new();
    fs::create_dir(stage.path("tmp")).unwrap();
    let started = Instant::now();
    let demo = stage.holdfast_in(&["demo"], &[("TMPDIR", &stage.text("tmp"))]).ends(0);
    assert!(started.elapsed() < Duration::from_secs(120), "it took {:?}", started.elapsed());
    let demo = demo.says("equal, bit for bit").says("kill -9").says("one bit flipped");
    let hashes: Vec<&str> = demo.out.lines().filter_map(|line| line.split("state hash ").nth(1)).collect();
    let (durable, restored) = (hashes[0], hashes[hashes.len() - 2]);
    assert_eq!(durable, restored, "{}", demo.shown());
    let last = demo.out.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("lost: ") && last.contains("proven: ") && last.ends_with("nothing lost"),
        "{}",
        demo.shown()
    );
    assert_eq!(fs::read_dir(stage.path("tmp")).unwrap().count(), 0, "it removes its stage");

    fs::create_dir(stage.path("occupied")).unwrap();
    fs::write(stage.path("occupied/mine"), b"mine").unwrap();
    stage.holdfast(&["--json", "demo", "--dir", "occupied"]).ends(1).says("not empty").last();
    assert_eq!(fs::read_dir(stage.path("occupied")).unwrap().count(), 1);
}

#[test]
fn a_node_with_too_much_damage_is_not_restored() {
    let stage = Stage::with_local_vault();
    let mut node =
        stage.start(&["--json", "kernel", "run", "--data", "node", "--token-file", "token", "--listen", "127.0.0.1:0"]);
    node.wait_for("\"listening\"");
    let said = node.said();
    let address = said.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let at = ["--address", &address, "--token-file", "token"].map(str::to_owned);
    let lines: String = (0..200)
        .map(|id| format!("{{\"id\":{id},\"vector\":[{id}.5,1,0.25],\"metadata\":\"record {id}\"}}\n"))
        .collect();
    fs::write(stage.path("records.jsonl"), lines).unwrap();
    let put = ["--json", "kernel", "put", "--collection", "facts", "records.jsonl"];
    let hash = stage.holdfast_with(&put, &at).ends(0).last()["state_hash"].as_str().unwrap().to_owned();
    stage.append_config(&format!(
        "\n[source.memory]\nkind = \"kernel\"\nurl = \"http://{address}\"\ntoken = {{ file = \"{}\" }}\n",
        stage.text("token")
    ));
    stage.holdfast(&["vault", "run", "memory"]).ends(0).says(&hash);
    node.ask_to_stop();
    node.end().ends(0);

    stage.holdfast(&["vault", "restore", "--to", "good"]).ends(0).says(&hash);
    stage.holdfast_with(&["kernel", "status"], &at).ends(15);

    // Four rotten shards of each pack are an erasure each; the restore says so.
    for number in 1..=4 {
        stage.shards_in(&format!("vault/p{number}")).iter().for_each(|shard| rot(shard));
    }
    stage.holdfast(&["vault", "restore", "--to", "better"]).ends(3).says(&hash).says("done without shard");
    // The restore mended what it met, the repair the rest. Five at once are one too many.
    stage.holdfast(&["vault", "audit", "--full"]);
    stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
    for number in 1..=5 {
        stage.shards_in(&format!("vault/p{number}")).iter().for_each(|shard| rot(shard));
    }
    let names = |stage: &Stage| {
        let entries = fs::read_dir(stage.path("")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names(&stage);
    stage.holdfast(&["vault", "restore", "--to", "worse"]).ends(5).says("is lost");
    assert_eq!(names(&stage), before, "a failed restore leaves nothing that looks like data");
    stage.holdfast(&["vault", "audit", "--full"]).ends(5);
}
