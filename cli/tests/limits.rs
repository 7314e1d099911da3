//! Runs and restores that may use so much of the line and no more.
//!
//! What must hold: however fast the places are, bytes go no faster than the flag or the
//! configuration says, for writing and for reading, for all places together and for one;
//! and everything comes back. That a limit is exact, and starves nobody, is tested with a
//! clock made by hand in backends/src/throttled.rs; here only "not before" is asserted,
//! which no slow machine can break.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::time::{Duration, Instant};

use stage::{Numbers, Place, Ran, Stage, assert_same_tree, files_below};

const PLACES: [&str; 3] = ["p1", "p2", "p3"];
/// Bytes a second.
const RATE: u64 = 400 << 10;

/// Sizes of what stands in these places.
fn sizes(stage: &Stage, places: &[&str]) -> Vec<u64> {
    let mut files = Vec::new();
    for place in places {
        files_below(&stage.path(place), &mut files);
    }
    files.iter().map(|path| fs::metadata(path).unwrap().len()).collect()
}

fn timed(stage: &Stage, arguments: &[&str]) -> (Ran, Duration) {
    let began = Instant::now();
    let ran = stage.holdfast(arguments);
    (ran, began.elapsed())
}

/// So many bytes take at least this: all but a second's worth, and the largest object.
fn not_before(bytes: u64, largest: u64) -> Duration {
    Duration::from_secs_f64(bytes.saturating_sub(RATE + largest) as f64 / RATE as f64)
}

/// Runs, and checks that what was written to these places took its time.
fn run_takes_its_time(stage: &Stage, arguments: &[&str], places: &[&str]) {
    let before: u64 = sizes(stage, places).iter().sum();
    let (ran, took) = timed(stage, arguments);
    ran.ends(0);
    let after = sizes(stage, places);
    let least = not_before(after.iter().sum::<u64>() - before, after.iter().copied().max().unwrap());
    println!("{arguments:?}: {took:?}, not before {least:?}");
    assert!(least > Duration::from_millis(300), "too little was written to see a limit");
    assert!(took >= least, "{took:?}, where the limit allows no less than {least:?}");
}

#[test]
fn bytes_go_no_faster_than_they_may() {
    let (stage, mut numbers) = (Stage::new(), Numbers(701));
    let places: Vec<Place> = PLACES.iter().map(|name| Place::folder(&stage, name, "disk")).collect();
    stage.configure(&places, 0);
    // Small shards, so that none is a large part of the whole.
    stage.change_config("survive_domains", "pack_leaves_max = 1\nsurvive_domains");
    stage.holdfast(&["vault", "init", "--i-have-no-key-copy"]);
    let mut change = |name: &str| {
        fs::create_dir_all(stage.path("tree").join(name)).unwrap();
        for number in 0..6 {
            fs::write(stage.path(&format!("tree/{name}/{number}")), numbers.bytes(100_000)).unwrap();
        }
    };
    change("one");
    run_takes_its_time(&stage, &["vault", "run", "tree", "--limit-upload", "400KiB/s"], &PLACES);

    change("two");
    stage.change_config("version = 1\n", "version = 1\nupload_limit = \"400KiB/s\"\n");
    run_takes_its_time(&stage, &["vault", "run", "tree"], &PLACES);
    stage.change_config("upload_limit = \"400KiB/s\"\n", "");

    change("three");
    change("four");
    stage.change_config("[location.p2]\n", "[location.p2]\nupload_limit = \"400KiB/s\"\n");
    run_takes_its_time(&stage, &["vault", "run", "tree"], &["p2"]);

    let from: Vec<&str> = ["--from"].into_iter().chain(PLACES).chain(["--read-key", "vault/keys/read.key"]).collect();
    for (to, more) in [("configured", &[][..]), ("by hand", &from)] {
        let restore = [&["vault", "restore", "--to", to, "--limit-download", "400KiB/s"], more].concat();
        let (ran, took) = timed(&stage, &restore);
        ran.ends(0);
        assert_same_tree(&stage.path("tree"), &stage.path(to).join("tree"));
        let least = not_before(2_400_000, 200_000);
        println!("restored {to}: {took:?}, not before {least:?}");
        assert!(took >= least, "{took:?}");
    }
    stage.holdfast(&["vault", "run", "tree", "--limit-upload", "400KiB"]).ends(2).says("a rate is written like 2MiB/s");
}
