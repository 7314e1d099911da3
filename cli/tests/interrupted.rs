//! A restore that is killed in the middle. (One that fails: `subsets.rs`.)
//!
//! What must hold: the same command says what is in its way and what to do, and does
//! it right once that is done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use stage::{Numbers, Stage, assert_same_tree};

#[test]
fn after_a_kill_the_same_command_says_what_to_remove() {
    let stage = Stage::with_local_vault();
    let mut numbers = Numbers(90);
    fs::create_dir(stage.path("tree")).unwrap();
    for file in 0..4_000 {
        fs::write(stage.path("tree").join(format!("{file}")), numbers.bytes(700)).unwrap();
    }
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let mut killed = false;
    for _ in 0..20 {
        let running = stage.start(&["vault", "restore", "--to", "out"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !stage.path("out/tree/100").exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        killed = running.kill();
        if killed {
            break;
        }
        fs::remove_dir_all(stage.path("out")).unwrap();
    }
    assert!(killed, "it was always faster");
    stage
        .holdfast(&["vault", "restore", "--to", "out"])
        .ends(2)
        .says("is not empty")
        .says("rm -r out")
        .says("same command again");
    fs::remove_dir_all(stage.path("out")).unwrap();
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}
