//! The power fails in the middle of a backup, again and again: `kill -9` of the
//! program at random moments, sometimes with the catalog gone as well, then the
//! same command once more.
//!
//! What must hold: the rerun ends well (no lock is left behind) and restores
//! equal; every point that was reported before the kill restores before the rerun
//! and after it; what the killed runs left does no harm to an audit.
//!
//! `HOLDFAST_KILLS=1000` is the long form; `HOLDFAST_KILL_SEED` repeats one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use stage::{Numbers, Place, Stage, assert_same_tree, copy_exactly, number_from_env, write_tree};
use test_servers::SeaweedFs;

/// What the killed runs have to do.
struct Plan {
    seed: u64,
    kills: u64,
    files: u64,
    file_bytes: usize,
}

/// Gives half of the files new bytes, so that there is always something to store.
fn change(tree: &Path, plan: &Plan, numbers: &mut Numbers) {
    for _ in 0..plan.files / 2 {
        let name = format!("data-{}", numbers.below(plan.files));
        fs::write(tree.join(name), numbers.bytes(plan.file_bytes)).unwrap();
    }
}

fn points(stage: &Stage) -> u64 {
    stage.holdfast(&["--json", "vault", "snapshots"]).ends(0).events("point").len() as u64
}

fn restore(stage: &Stage, expected: &str) {
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
    assert_same_tree(&stage.path(expected), &stage.path("out/tree"));
    fs::remove_dir_all(stage.path("out")).unwrap();
}

/// Kills runs at random moments of their usual time, each followed by a rerun.
/// At least a quarter must have hit a run under way, or nothing was tried.
fn kill_and_rerun(stage: &Stage, plan: &Plan) {
    println!("HOLDFAST_KILL_SEED={}", plan.seed);
    let numbers = &mut Numbers(plan.seed);
    let tree = stage.path("tree");
    write_tree(&tree, 200_000, numbers);
    for number in 0..plan.files {
        fs::write(tree.join(format!("data-{number}")), numbers.bytes(plan.file_bytes)).unwrap();
    }
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let mut usual = Duration::from_millis(300);
    let mut hit = 0;
    for kill in 0..plan.kills {
        let _ = fs::remove_dir_all(stage.path("before"));
        copy_exactly(&tree, &stage.path("before"));
        change(&tree, plan, numbers);
        let known = points(stage);
        let delay = usual.mul_f64(numbers.below(1000) as f64 / 1000.0);
        let run = stage.start(&["vault", "run", "tree"]);
        thread::sleep(delay);
        let was_running = run.kill();
        hit += u64::from(was_running);
        let no_catalog = kill % 3 == 2;
        println!("kill {kill} after {delay:?} of about {usual:?}, running: {was_running}, catalog lost: {no_catalog}");
        if no_catalog {
            stage.lose_catalog();
        }
        // The killed run may have come as far as its point; else the one before is the newest.
        restore(stage, if points(stage) == known { "before" } else { "tree" });
        let started = Instant::now();
        stage.holdfast(&["vault", "run", "tree"]).ends(0).says("full");
        usual = usual / 2 + started.elapsed() / 2;
        restore(stage, "tree");
    }
    assert!(hit * 4 >= plan.kills, "only {hit} of {} kills hit a run under way", plan.kills);
    let listed = points(stage);
    assert!((1 + plan.kills..=1 + 2 * plan.kills).contains(&listed), "{listed} points");
    for back in 1..4 {
        stage.holdfast(&["vault", "restore", &format!("latest~{back}"), "--to", "out"]).ends(0);
        fs::remove_dir_all(stage.path("out")).unwrap();
    }
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
}

fn seed() -> u64 {
    number_from_env("HOLDFAST_KILL_SEED", 20_261_121)
}

#[test]
fn kill_9_of_a_run_into_folders() {
    let stage = Stage::with_local_vault();
    let kills = number_from_env("HOLDFAST_KILLS", 12);
    kill_and_rerun(&stage, &Plan { seed: seed(), kills, files: 24, file_bytes: 1_700_000 });
}

#[test]
fn kill_9_of_a_run_into_a_bucket() {
    let server = SeaweedFs::start();
    let stage = Stage::new();
    let keys = (server.access.as_str(), server.secret.as_str());
    let places: Vec<Place> = (1..=5)
        .map(|number| {
            let (name, at) = (format!("b{number}"), format!("{}/place-{number}", server.bucket));
            Place::bucket(&stage, &name, "weed", &at, &server.endpoint, keys)
        })
        .collect();
    stage.init_over(&places, 0).ends(0);
    let kills = number_from_env("HOLDFAST_KILLS", 12) / 4;
    kill_and_rerun(&stage, &Plan { seed: seed() + 1, kills, files: 6, file_bytes: 1_000_000 });
}

#[test]
fn kill_9_of_the_agent() {
    let stage = Stage::with_local_vault();
    let numbers = &mut Numbers(seed() + 2);
    let plan = Plan { seed: 0, kills: number_from_env("HOLDFAST_KILLS", 12) / 4, files: 8, file_bytes: 1_500_000 };
    write_tree(&stage.path("tree"), 200_000, numbers);
    stage.append_config(&format!(
        "\n[source.docs]\nkind = \"directory\"\npaths = [\"{}\"]\n[policy.docs]\nsource = \"docs\"\nschedule = \"every 1s\"\n",
        stage.text("tree")
    ));
    for _ in 0..plan.kills {
        change(&stage.path("tree"), &plan, numbers);
        let mut agent = stage.start(&["agent"]);
        agent.wait_for("agent: 1 policies");
        thread::sleep(Duration::from_millis(numbers.below(400)));
        assert!(agent.kill());
        let mut agent = stage.start(&["agent"]);
        agent.wait_for("docs -> demo: ok");
        agent.ask_to_stop();
        agent.end().ends(0);
        restore(&stage, "tree");
    }
    stage.holdfast(&["vault", "audit"]).ends(0);
}
