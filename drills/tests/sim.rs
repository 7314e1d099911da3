//! The seeded world: fresh seeds, and every scenario that was kept.
//!
//! `HOLDFAST_SIM_SEEDS` says how many seeds, `HOLDFAST_SIM_FROM` with which to begin,
//! `HOLDFAST_SIM_JOBS` on how many threads. The first seed follows from the hour, so
//! that each run of CI sees others; it is printed.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use drills::sim::scenario::Scenario;
use drills::sim::{Failure, Options, run, run_scenario};

const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn story(failure: &Failure) -> String {
    let seed = failure.scenario.seed;
    format!(
        "seed {seed}: {}\n{}\nreplay: holdfast drill sim --seed {seed} -v\n\n{}",
        failure.why,
        failure.lines.join("\n"),
        failure.scenario.to_toml()
    )
}

#[test]
fn fresh_seeds_find_nothing() {
    let hours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600;
    let from = number("HOLDFAST_SIM_FROM").unwrap_or(hours * 1_000_000);
    let seeds = number("HOLDFAST_SIM_SEEDS").unwrap_or(SEEDS);
    let jobs = number("HOLDFAST_SIM_JOBS").map_or_else(
        || std::thread::available_parallelism().map_or(2, Into::into),
        |jobs| usize::try_from(jobs).unwrap(),
    );
    let totals = run(&Options { from, seeds, jobs, stop_at_first: false }, |_| {}).unwrap();
    println!("{} seeds from {from}: {:.1} a second", totals.seeds, totals.rate());
    println!("faults: {:#?}\nacts and checks: {:#?}", totals.faults, totals.sums);
    let failed: Vec<(i64, &str)> =
        totals.failures.iter().map(|failure| (failure.scenario.seed, failure.why.as_str())).collect();
    if let Some(folder) = std::env::var_os("HOLDFAST_SIM_KEEP") {
        for failure in &totals.failures {
            let name = format!("seed-{}.toml", failure.scenario.seed);
            std::fs::write(Path::new(&folder).join(name), failure.scenario.to_toml()).unwrap();
        }
    }
    if let Some(first) = totals.failures.first() {
        panic!("{} of {} seeds fail: {failed:#?}. The first:\n{}", failed.len(), totals.seeds, story(first));
    }
    assert_eq!(totals.seeds, seeds);
    // The world must not be kinder than it says.
    if seeds >= SEEDS {
        for fault in ["acknowledged, not stored", "wrong byte read", "another object's bytes", "stale list", "wiped"] {
            assert!(totals.faults.contains_key(fault), "{fault} never happened");
        }
    }
}

#[test]
fn kept_scenarios_stay_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut played = 0;
    for folder in [folder.clone(), folder.join("kept")] {
        let Ok(files) = std::fs::read_dir(&folder) else { continue };
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let outcome = run_scenario(&scenario).unwrap();
            let why = outcome.failure.unwrap_or_default();
            assert!(!outcome.sums.contains_key("a person was asked about a disk"), "{}", path.display());
            assert!(why.is_empty(), "{}: {why}\n{}", path.display(), outcome.lines.join("\n"));
            played += 1;
        }
    }
    println!("{played} scenarios");
}

/// `HOLDFAST_SIM_FILE` plays one scenario file and tells its story.
#[test]
fn one_file_is_told() {
    let Some(path) = std::env::var_os("HOLDFAST_SIM_FILE") else { return };
    let outcome = run_scenario(&Scenario::parse(&std::fs::read_to_string(path).unwrap()).unwrap()).unwrap();
    println!("{}\n{:?}", outcome.lines.join("\n"), outcome.failure);
    assert!(outcome.failure.is_none());
}

/// What is drawn from a seed is written out and read back the same, and plays the same.
#[test]
fn a_scenario_is_its_file() {
    for seed in 0..20 {
        let scenario = drills::sim::scenario_of(seed);
        let text = scenario.to_toml();
        assert_eq!(Scenario::parse(&text).unwrap(), scenario, "{text}");
    }
    for seed in 7..12 {
        let scenario = drills::sim::scenario_of(seed);
        let (first, second) = (run_scenario(&scenario).unwrap(), run_scenario(&scenario).unwrap());
        assert_eq!(first.lines, second.lines);
        assert_eq!((first.faults, first.sums), (second.faults, second.sums));
        assert!(Scenario::parse(&scenario.to_toml().replace("version = ", "vision = ")).is_err());
    }
}
