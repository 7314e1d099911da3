//! The garbage-collection protocol, explored exhaustively: every interleaving of
//! writers, janitors and owners that a small world has, breadth first.
//!
//! Names are the code's: condemn, look, sweep, fence, `gc_epoch_seen`, pending, head.
//! The world: up to two writers and two janitors, packs, three domains of which one
//! may show an old list or nothing of a record. Steps are single reads of one domain
//! or single writes to one, so that whoever sleeps sleeps anywhere. What must hold:
//! a reported point keeps its packs; a swept pack is referenced by no manifest that
//! counts. Each rule of the protocol can be switched off, and then a violation must
//! be found: a model that finds none proves nothing.

#![allow(clippy::unwrap_used, clippy::trivially_copy_pass_by_ref, clippy::struct_excessive_bools, reason = "test code")]

mod model;

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use model::{Rule, Setup, State};

/// Explores; how many states, and the first violation with its length.
fn explore(setup: &Setup, most: usize) -> (usize, Option<(&'static str, usize)>) {
    let mut seen: HashSet<State> = HashSet::new();
    let mut queue: VecDeque<(State, usize)> = VecDeque::new();
    let first = State::first(setup);
    seen.insert(first.clone());
    queue.push_back((first, 0));
    while let Some((state, depth)) = queue.pop_front() {
        if let Some(violation) = state.violation(setup) {
            return (seen.len(), Some((violation, depth)));
        }
        for next in state.next(setup) {
            if seen.insert(next.clone()) {
                queue.push_back((next, depth + 1));
            }
        }
        assert!(seen.len() <= most, "{}: more than {most} states", setup.name);
    }
    (seen.len(), None)
}

fn worlds(long: bool) -> Vec<Setup> {
    let base = Setup {
        name: "one writer, one janitor, a liar, a crash",
        writers: 1,
        janitors: 1,
        runs: 2,
        rounds: 1,
        old: 0b01,
        fresh: true,
        lying: true,
        fences: false,
        partly: false,
        says: false,
        crashes: 1,
        off: None,
    };
    let mut worlds = vec![
        base,
        Setup { name: "a fence", fences: true, crashes: 0, ..base },
        Setup { name: "a fence, two rounds", runs: 1, rounds: 2, old: 0b11, fences: true, crashes: 0, ..base },
        Setup {
            name: "two janitors",
            janitors: 2,
            rounds: 2,
            old: 0b11,
            fresh: false,
            lying: false,
            crashes: 0,
            ..base
        },
        Setup {
            name: "two janitors, fences",
            janitors: 2,
            runs: 1,
            rounds: 2,
            fresh: false,
            lying: false,
            fences: true,
            partly: false,
            says: true,
            crashes: 0,
            ..base
        },
    ];
    if long {
        worlds.push(Setup {
            name: "a fence, a domain away",
            runs: 1,
            fresh: false,
            lying: false,
            fences: true,
            partly: true,
            says: true,
            crashes: 0,
            ..base
        });
        worlds.push(Setup { name: "two writers", writers: 2, runs: 1, ..base });
        worlds.push(Setup { name: "two writers, fences", writers: 2, runs: 1, fences: true, crashes: 0, ..base });
        worlds.push(Setup { name: "two janitors and a crash", janitors: 2, rounds: 2, old: 0b11, ..base });
        worlds.push(Setup { name: "a fence and a crash", fences: true, ..base });
        worlds.push(Setup {
            name: "a fence, two rounds, two runs",
            rounds: 2,
            old: 0b11,
            fences: true,
            crashes: 0,
            ..base
        });
    }
    worlds
}

#[test]
fn no_interleaving_loses_what_was_reported() {
    let long = std::env::var_os("HOLDFAST_GC_MODEL").is_some();
    let most = if long { 200_000_000 } else { 8_000_000 };
    for setup in worlds(long) {
        let began = Instant::now();
        let (states, violation) = explore(&setup, most);
        println!("{}: {states} states, {:.1} s", setup.name, began.elapsed().as_secs_f64());
        assert_eq!(violation, None, "{setup:?}");
    }
}

#[test]
fn without_any_of_its_rules_the_protocol_fails() {
    // The world in which each shows.
    let rules = [
        (Rule::Check, 0),
        (Rule::SeenEpoch, 0),
        (Rule::SecondLook, 0),
        (Rule::ReadQuorum, 0),
        (Rule::FenceRecheck, 1),
        (Rule::SweepRecheck, 4),
        (Rule::LookBehind, 1),
        (Rule::OpenEpoch, 2),
        (Rule::Sound, 3),
    ];
    let worlds = worlds(false);
    for (rule, world) in rules {
        let setup = Setup { off: Some(rule), ..worlds[world] };
        let (states, violation) = explore(&setup, 8_000_000);
        let Some((violation, depth)) = violation else {
            panic!("without {rule:?} nothing fails: the rule is idle or the model blind");
        };
        println!("without {rule:?}, {}: {violation} after {depth} steps, {states} states", setup.name);
    }
}
