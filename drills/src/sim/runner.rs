//! Many seeds on some threads, and what came of them.
//!
//! What always holds: which thread plays a seed changes nothing about it; a panic
//! is a failure of its seed like any other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::draw;
use super::machine::scratch;
use super::play::{Played, play};
use super::scenario::Scenario;
use super::sites::Counts;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
    /// Stop at the first failure.
    pub stop_at_first: bool,
}

/// A seed or scenario that failed.
#[derive(Debug)]
pub struct Failure {
    /// The scenario.
    pub scenario: Scenario,
    /// What the oracles say.
    pub why: String,
    /// What happened until then.
    pub lines: Vec<String>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Totals {
    /// Seeds played.
    pub seeds: u64,
    /// Faults injected, by kind.
    pub faults: Counts,
    /// Acts and checks, by kind.
    pub sums: Counts,
    /// Failures, by seed.
    pub failures: Vec<Failure>,
    /// How long it took.
    pub took: Duration,
}

impl Totals {
    fn add(&mut self, scenario: Scenario, played: Played) {
        self.seeds += 1;
        for (what, count) in played.faults {
            *self.faults.entry(what).or_default() += count;
        }
        for (what, count) in played.sums {
            *self.sums.entry(what).or_default() += count;
        }
        if let Some(why) = played.failure {
            self.failures.push(Failure { scenario, why, lines: played.lines });
        }
    }

    /// Of one scenario.
    pub fn of_one(scenario: Scenario, played: Played, took: Duration) -> Self {
        let mut totals = Self { took, ..Self::default() };
        totals.add(scenario, played);
        totals
    }

    /// Seeds per second.
    pub fn rate(&self) -> f64 {
        self.seeds as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }
}

/// Plays one scenario.
pub fn run_scenario(scenario: &Scenario) -> Result<Played> {
    let folder = scratch().context("making a folder for the simulated machine")?;
    Ok(caught(scenario, folder.path()))
}

fn caught(scenario: &Scenario, folder: &Path) -> Played {
    catch_unwind(AssertUnwindSafe(|| play(scenario, folder))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Played { failure: Some(format!("panic: {}", text.unwrap_or("no text"))), ..Played::default() }
    })
}

/// Plays seeds. `progress` hears of the number played so far.
pub fn run(options: &Options, progress: impl Fn(u64) + Sync) -> Result<Totals> {
    let started = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let totals = Mutex::new(Totals::default());
    let work = || -> Result<()> {
        keys::memory::remember();
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= options.seeds || stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            let scenario = draw::scenario(options.from.wrapping_add(number));
            let played = run_scenario(&scenario)?;
            if played.failure.is_some() && options.stop_at_first {
                stop.store(true, Ordering::SeqCst);
            }
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.add(scenario, played);
            progress(totals.seeds);
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..options.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the simulation panicked"))??;
        }
        Ok(())
    })?;
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.failures.sort_by_key(|failure| failure.scenario.seed);
    totals.took = started.elapsed();
    Ok(totals)
}
