//! A restore that is killed, or fails in the middle.
//!
//! What must hold: what a failed restore leaves are whole files and nothing else; the
//! same command says what is in its way and what to do, and does it right once that is
//! done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use stage::{Numbers, Stage, assert_same_tree, files_below, rot, write_tree};

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

#[test]
fn a_restore_that_fails_leaves_whole_files_and_says_so() {
    let stage = Stage::with_local_vault();
    // Two points: the newer one's own pack holds the new file and the listings, the
    // older one's the rest. Of that too little is left, but its last data shard, where
    // it says what lies in it.
    write_tree(&stage.path("tree"), 300_000, &mut Numbers(91));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let old = (1..=9).flat_map(|place| stage.shards_in(&format!("vault/p{place}")));
    let bad = ["00", "01", "02", "03", "08"];
    let old: Vec<_> = old.filter(|shard| bad.iter().any(|index| shard.extension().unwrap() == *index)).collect();
    fs::write(stage.path("tree/a first file"), Numbers(92).bytes(3_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    old.iter().for_each(|shard| rot(shard));
    let failed = stage.holdfast(&["vault", "restore", "--to", "out"]).ends(5);
    failed.says("is not complete").says("rm -r out").says("before you run the same command again");
    let (mut left, out) = (Vec::new(), stage.path("out/tree"));
    files_below(&out, &mut left);
    assert!(!left.is_empty(), "the file of the new pack comes first");
    for file in left {
        let original = stage.path("tree").join(file.strip_prefix(&out).unwrap());
        assert!(fs::read(&file).unwrap() == fs::read(original).unwrap(), "{} is not whole", file.display());
    }
    // A point that is whole restores elsewhere; this one does again once its shards are back.
    old.iter().for_each(|shard| rot(shard));
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(2);
    fs::remove_dir_all(stage.path("out")).unwrap();
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}
