//! A first backup is killed, again and again: at each named step between a pack sealed
//! and a point committed, and at random moments; then the same command runs to its end.
//!
//! What must hold: the last run's tree root is that of a run nobody disturbed; every
//! pack that a killed run stored, so that a restore could read it, is part of the point:
//! none is stored twice.
//!
//! `HOLDFAST_RESUMES=50` is the long form; the seed is printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use stage::{Numbers, Place, Ran, Stage, number_from_env};
use vault_ops::step::Step;

const FILES: usize = 60;
const FILE_BYTES: usize = 120_000;

fn scene(numbers: &mut Numbers) -> Stage {
    let stage = Stage::new();
    let places: Vec<Place> = (1..=9).map(|at| Place::folder(&stage, &format!("p{at}"), "disk")).collect();
    stage.configure(&places, 0);
    // Small packs, so that there are many.
    stage.change_config("survive_domains", "pack_leaves_max = 1\nsurvive_domains");
    let made = stage.holdfast(&["vault", "init", "--i-have-no-key-copy"]);
    assert!(made.code == 0 || made.code == 3, "{}", made.shown());
    for number in 0..FILES {
        let path = stage.path(&format!("tree/d{}/f{number}", number % 7));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, numbers.bytes(FILE_BYTES)).unwrap();
    }
    stage
}

/// Packs of which enough shards stand to be read.
fn packs_stored(stage: &Stage) -> usize {
    let mut shards: BTreeMap<String, usize> = BTreeMap::new();
    for place in 1..=9 {
        for path in stage.shards_in(&format!("p{place}")) {
            let name = path.strip_prefix(stage.path(&format!("p{place}"))).unwrap();
            // What a killed writer left half written has another name.
            if let Some((_, pack, _)) = vault_format::names::parse_shard(name.to_str().unwrap()) {
                *shards.entry(pack.to_string()).or_default() += 1;
            }
        }
    }
    shards.values().filter(|count| **count >= 5).count()
}

/// Ends the run and compares it with one that nobody disturbed.
fn ends_well(stage: &Stage, what: &str) {
    let ran = stage.holdfast(&["--json", "vault", "run", "tree"]);
    assert!(ran.code == 0 || ran.code == 3, "{what}: {}", ran.shown());
    let point = last_point(&ran);
    let used = point["packs_new"].as_u64().unwrap() + point["packs_reused"].as_u64().unwrap();
    println!("{what}: {used} packs, {} of them of runs that were killed", point["packs_reused"]);
    assert_eq!(packs_stored(stage) as u64, used, "{what}: a pack was stored and is not used: {}", ran.shown());
    let whole = last_point(&stage.holdfast(&["--json", "vault", "run", "tree", "--force"]).ends(0));
    assert_eq!((&whole["root_hash"], &whole["new_bytes"]), (&point["root_hash"], &0.into()), "{what}");
}

fn last_point(ran: &Ran) -> serde_json::Value {
    ran.events("point").pop().unwrap_or_else(|| panic!("no point: {}", ran.shown()))
}

#[test]
fn a_run_that_is_killed_at_a_named_step_wastes_nothing() {
    let mut numbers = Numbers(7);
    for step in [Step::BackupPackPlaced, Step::BackupPackNoted, Step::BackupPackSealed] {
        let stage = scene(&mut numbers);
        // The step comes once for each pack: later ones by their number.
        for at in ["1", "2", "5"] {
            let ran = stage.start_killed(&["vault", "run", "tree"], &[], &format!("{}:{at}", step.name()));
            assert_eq!(ran.code, -9, "{}", ran.shown());
        }
        ends_well(&stage, step.name());
    }
}

#[test]
fn a_run_that_is_killed_at_any_moment_wastes_nothing() {
    let rounds = number_from_env("HOLDFAST_RESUMES", 2);
    let seed = number_from_env("HOLDFAST_RESUME_SEED", 11);
    println!("HOLDFAST_RESUME_SEED={seed}");
    let mut numbers = Numbers(seed);
    for round in 0..rounds {
        let stage = scene(&mut numbers);
        let mut kills = 0;
        for _ in 0..4 {
            let running = stage.start(&["vault", "run", "tree"]);
            let deadline = Instant::now() + Duration::from_secs(60);
            let wanted = packs_stored(&stage) + numbers.below(6) as usize;
            while packs_stored(&stage) < wanted && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(numbers.below(40)));
            kills += usize::from(running.kill());
        }
        ends_well(&stage, &format!("round {round}, {kills} kills"));
    }
}
