//! A restore that is killed, or fails in the middle.
//!
//! What must hold: what a failed restore leaves are whole files and nothing else; the
//! same command says what is in its way and what to do, and does it right once that is
//! done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::path::PathBuf;
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
    // older one's packs the rest.
    write_tree(&stage.path("tree"), 300_000, &mut Numbers(91));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let old: Vec<PathBuf> = (1..=9).flat_map(|place| stage.shards_in(&format!("vault/p{place}"))).collect();
    fs::write(stage.path("tree/a first file"), Numbers(92).bytes(3_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let mut half = 0;
    for (one, two) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        // Four shards of the old packs are left: the last one that holds bytes as they are,
        // where a pack says where its index is, and each two of the others of these, which
        // may have the index, and some file or other.
        let good = [format!("{one:02x}"), format!("{two:02x}"), "04".to_owned(), "05".to_owned()];
        let is_good = |shard: &&PathBuf| good.iter().any(|index| shard.extension().unwrap() == index.as_str());
        let (_, bad): (Vec<_>, Vec<_>) = old.iter().partition(is_good);
        for shard in &bad {
            rot(shard);
        }
        let failed = stage.holdfast(&["vault", "restore", "--to", "out"]).ends(5);
        let (mut left, out) = (Vec::new(), stage.path("out/tree"));
        files_below(&out, &mut left);
        for file in &left {
            let original = stage.path("tree").join(file.strip_prefix(&out).unwrap());
            assert!(fs::read(file).unwrap() == fs::read(original).unwrap(), "{} is not whole", file.display());
        }
        for shard in &bad {
            rot(shard);
        }
        if !left.is_empty() {
            half += 1;
            failed.says("is not complete").says("rm -r out").says("before you run the same command again");
            // Its shards are back, and what it left still is in the way.
            stage.holdfast(&["vault", "restore", "--to", "out"]).ends(2).says("rm -r out");
        }
        let _ = fs::remove_dir_all(stage.path("out"));
    }
    println!("{half} of 6 restores had begun to write");
    assert!(half > 0, "none had begun to write");
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}
