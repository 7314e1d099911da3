//! `holdfast drill`: rehearsed disasters. So far the seeded world.

use std::path::PathBuf;
use std::time::Instant;

use drills::sim::scenario::Scenario;
use drills::sim::{Failure as Failed, Options, Totals};
use serde_json::json;

use crate::exit::{self, Failure, Outcome};
use crate::output::Output;

/// What to simulate.
#[derive(clap::Args, Debug)]
pub(crate) struct SimArguments {
    /// Seeds to play.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed [default: drawn].
    #[arg(long, value_name = "SEED", conflicts_with = "seed")]
    from: Option<u64>,
    /// One seed only; with -v its story.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A scenario file instead of seeds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "seed"])]
    scenario: Option<PathBuf>,
    /// Threads [default: one per processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// Play all seeds even if some fail.
    #[arg(long)]
    keep_going: bool,
    /// Write the first failing scenario here.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// Plays seeds, or one scenario.
pub(crate) fn sim(output: Output, verbose: bool, arguments: SimArguments) -> Outcome {
    let totals = match (&arguments.scenario, arguments.seed) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(exit::USAGE, format!("{}: {error}", path.display())))?;
            let scenario = Scenario::parse(&text)
                .map_err(|error| Failure::new(exit::USAGE, format!("{}: {error}", path.display())))?;
            one(output, verbose, scenario)?
        }
        (None, Some(seed)) => one(output, verbose, drills::sim::scenario_of(seed))?,
        (None, None) => many(output, &arguments)?,
    };
    report(output, &totals);
    if let Some(first) = totals.failures.first() {
        tell(output, first, verbose);
        if let Some(path) = &arguments.save {
            std::fs::write(path, first.scenario.to_toml())
                .map_err(|error| Failure::new(exit::ERROR, format!("{}: {error}", path.display())))?;
            output.say(format!("the scenario is written to {}", path.display()));
        }
    }
    let code = if totals.failures.is_empty() { exit::OK } else { exit::LOST };
    let failed: Vec<i64> = totals.failures.iter().map(|failure| failure.scenario.seed).collect();
    output.summary(
        code,
        json!({
            "seeds": totals.seeds, "failed": failed, "seconds": totals.took.as_secs_f64(),
            "seeds_per_second": totals.rate(), "faults": totals.faults, "sums": totals.sums, "commit": commit(),
        }),
    );
    Ok(code)
}

fn one(output: Output, verbose: bool, scenario: Scenario) -> Result<Totals, Failure> {
    if verbose {
        output.say(scenario.to_toml());
    }
    let started = Instant::now();
    let played = drills::sim::run_scenario(&scenario)?;
    if verbose && played.failure.is_none() {
        played.lines.iter().for_each(|line| output.say(line));
    }
    Ok(Totals::of_one(scenario, played, started.elapsed()))
}

fn many(output: Output, arguments: &SimArguments) -> Result<Totals, Failure> {
    let from = match arguments.from {
        Some(from) => from,
        None => {
            let mut seed = [0; 8];
            getrandom::fill(&mut seed)
                .map_err(|error| Failure::new(exit::ERROR, format!("drawing a seed: {error}")))?;
            // Room for the seeds after it, and no sign: a scenario file keeps it as a whole number.
            u64::from_le_bytes(seed) >> 20
        }
    };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    output.say(format!("{} seeds from {from}, {jobs} at once, commit {}", arguments.seeds, commit()));
    let options = Options { from, seeds: arguments.seeds, jobs, stop_at_first: !arguments.keep_going };
    let started = Instant::now();
    let totals = drills::sim::run(&options, |played| {
        if played % 10_000 == 0 {
            let rate = played as f64 / started.elapsed().as_secs_f64();
            output.say(format!("{played} seeds, {rate:.1} a second"));
        }
    })?;
    Ok(totals)
}

fn report(output: Output, totals: &Totals) {
    let list = |counts: &std::collections::BTreeMap<&'static str, u64>| -> String {
        counts.iter().map(|(what, count)| format!("  {count:>10}  {what}\n")).collect()
    };
    output.say(format!("faults\n{}acts and checks\n{}", list(&totals.faults), list(&totals.sums)));
    output.say(format!(
        "{} seeds, {} failed, {:.1} s, {:.1} seeds a second",
        totals.seeds,
        totals.failures.len(),
        totals.took.as_secs_f64(),
        totals.rate()
    ));
}

fn tell(output: Output, failed: &Failed, verbose: bool) {
    let seed = failed.scenario.seed;
    output.warn(format!(
        "seed {seed} failed at commit {}: {}\n{}\nreplay: holdfast drill sim --seed {seed} -v{}",
        commit(),
        failed.why,
        failed.lines.join("\n"),
        if verbose { "" } else { "; keep it: add --save drills/scenarios/kept/NAME.toml" }
    ));
}

/// The commit this was built from, if whoever built or runs it says so.
fn commit() -> String {
    std::env::var("HOLDFAST_COMMIT")
        .ok()
        .or(option_env!("HOLDFAST_COMMIT").map(str::to_owned))
        .unwrap_or("unknown".into())
}
