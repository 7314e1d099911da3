//! The short form of fuzzing, on the stable toolchain: every seed and regression,
//! then mutations from a printed seed, under a bound on what is allocated.
//!
//! `HOLDFAST_FUZZ=20` makes it twenty times longer; `HOLDFAST_FUZZ_SEED` draws other
//! mutations; `HOLDFAST_FUZZ_ONLY=manifest` runs one target. Coverage-guided and long:
//! `sh tests/fuzz/run 600`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use fuzz_targets::{ALLOCATED_BYTES_MAX, Mutator, Target, seeds_of, targets};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs a case; says how many bytes were allocated in all.
fn run(target: Target, case: &[u8], what: &str) -> u64 {
    let region = Region::new(COUNTING);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(case)));
    let allocated = region.change().bytes_allocated as u64;
    let bound = ALLOCATED_BYTES_MAX + 8 * case.len() as u64;
    if outcome.is_err() || allocated > bound {
        let path = std::env::temp_dir().join(format!("holdfast-finding-{}", target.name));
        std::fs::write(&path, case).unwrap();
        panic!(
            "{} {what}: panic: {}, {allocated} bytes allocated; kept in {}",
            target.name,
            outcome.is_err(),
            path.display()
        );
    }
    allocated
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn every_decoder_takes_seeds_and_mutations() {
    let times = number_from_env("HOLDFAST_FUZZ", 1);
    let seed = number_from_env("HOLDFAST_FUZZ_SEED", 20_261_121);
    let only = std::env::var("HOLDFAST_FUZZ_ONLY").ok();
    println!("HOLDFAST_FUZZ_SEED={seed}");
    let (mut all, mut names) = (0, std::collections::BTreeSet::new());
    for target in targets().filter(|target| only.as_ref().is_none_or(|only| only == target.name)) {
        assert!(names.insert(target.name), "two targets are called {}", target.name);
        let (started, corpus) = (Instant::now(), seeds_of(target.name));
        assert!(!corpus.is_empty(), "{} has no seed", target.name);
        // What is set up once is not the decoder's.
        (target.run)(&corpus[0]);
        let mut most = 0;
        for (at, seed) in corpus.iter().enumerate() {
            most = most.max(run(target, seed, &format!("seed {at}")));
        }
        let mut mutator = Mutator::new(&corpus, seed);
        let cases = u64::from(target.cases) * times;
        for at in 0..cases {
            most = most.max(run(target, &mutator.case(), &format!("case {at} of seed {seed}")));
        }
        all += cases + corpus.len() as u64;
        println!(
            "{:<24} {:>4} seeds {cases:>8} cases {:>6.2} s, at most {most} bytes allocated",
            target.name,
            corpus.len(),
            started.elapsed().as_secs_f64()
        );
    }
    println!("{all} executions over {} targets", names.len());
}

/// A decoder that is wrong in each of the ways this test looks for is found: in a
/// process of its own, because the other test counts what is allocated in this one.
#[test]
fn wrong_decoders_are_found() {
    const ALONE: &str = "HOLDFAST_FUZZ_WRONG_DECODERS";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let ran = alone.env(ALONE, "1").args(["--exact", "wrong_decoders_are_found"]).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let wrong = |name, run| Target { name, run, cases: 1 };
    let hungry = wrong("hungry", |bytes| drop(std::hint::black_box(vec![bytes.len() as u8; 100 << 20])));
    let panics = wrong("panics", |bytes| assert!(bytes.len() > 100));
    for target in [hungry, panics] {
        assert!(catch_unwind(|| run(target, b"case", "on purpose")).is_err(), "{} was not found", target.name);
    }
    assert!(run(wrong("fine", |_| ()), b"case", "on purpose") < 1_000);
}
