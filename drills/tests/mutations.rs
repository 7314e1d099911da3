//! The seeded world notices when a local folder does not sync: each kind of sync that
//! its stories come by is left out, on the simulated disk, and some seed fails. Every
//! kind by itself is left out in `backends/tests/folder_crashes.rs`; what needs a
//! changed source (the read-back of a shard) is done by `tests/mutations`.

#![allow(clippy::unwrap_used, reason = "test code")]

use drills::sim::scenario::{Scenario, What};
use drills::sim::{run_scenario, scenario_of};

/// Stories on the machine's own disks, in which it crashes.
fn stories() -> impl Iterator<Item = Scenario> {
    let crashes = |scenario: &Scenario| {
        scenario.steps.iter().any(|step| matches!(&step.what, What::Backup(backup) if backup.crash.is_some()))
    };
    (0..).map(scenario_of).filter(move |scenario| crashes(scenario) && !scenario.beyond).map(|mut scenario| {
        for location in &mut scenario.vault.locations {
            location.disk = true;
        }
        scenario
    })
}

#[test]
fn a_sync_left_out_is_noticed() {
    for sync in ["bytes", "created", "way"] {
        let found = stories().take(60).find_map(|mut scenario| {
            scenario.without_sync = Some(sync.to_owned());
            Some((scenario.seed, run_scenario(&scenario).unwrap().failure?))
        });
        let (seed, why) = found.unwrap_or_else(|| panic!("60 stories without the sync of {sync} find nothing"));
        println!("without the sync of {sync}: seed {seed}: {why}");
        assert!(why.contains("a crash took it"), "{sync}: {why}");
    }
    // With all of them, the same stories hold.
    for scenario in stories().take(8) {
        let outcome = run_scenario(&scenario).unwrap();
        assert!(outcome.failure.is_none(), "seed {}: {:?}", scenario.seed, outcome.failure);
    }
}
