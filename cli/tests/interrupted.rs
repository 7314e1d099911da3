//! A restore that is killed in the middle. (One that fails: `subsets.rs`.)
//!
//! What must hold: no file stands under its name that is not whole; the same command goes
//! on from there, says how much was there, and what it skips it compared.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use stage::{Numbers, Stage, assert_same_tree};

#[test]
fn after_a_kill_the_same_command_goes_on() {
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
    for entry in fs::read_dir(stage.path("out/tree")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with(".holdfast-incoming") {
            let same = fs::read(stage.path("out/tree").join(&name)).unwrap()
                == fs::read(stage.path("tree").join(&name)).unwrap();
            assert!(same, "{name} is not whole");
        }
    }
    // Bytes that went bad under an unchanged time, as after a power cut, are not taken for the file.
    let torn = stage.path("out/tree/100");
    let modified = fs::metadata(&torn).unwrap().modified().unwrap();
    fs::write(&torn, [0; 700]).unwrap();
    fs::File::options().write(true).open(&torn).unwrap().set_modified(modified).unwrap();
    let plan = stage.holdfast(&["--json", "vault", "restore", "--to", "out", "--dry-run"]).ends(0);
    assert!(plan.last()["already"].as_u64().unwrap() > 0, "{}", plan.shown());

    let resumed = stage.holdfast(&["--json", "vault", "restore", "--to", "out"]).ends(0);
    let last = resumed.last();
    assert!(last["already"].as_u64().unwrap() > 0, "{}", resumed.shown());
    assert_eq!(last["already"].as_u64().unwrap() + last["files"].as_u64().unwrap(), 4_000, "{}", resumed.shown());
    assert_eq!(last["replaced"], 1, "the torn one: {}", resumed.shown());
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));

    // What somebody else puts there is not touched, and said.
    fs::write(stage.path("out/tree/mine"), b"mine").unwrap();
    stage
        .holdfast(&["vault", "restore", "--to", "out"])
        .ends(2)
        .says("is not empty")
        .says("tree/mine")
        .says("nothing was written")
        .says("--overwrite");
    assert_eq!(fs::read(stage.path("out/tree/mine")).unwrap(), b"mine");
}
