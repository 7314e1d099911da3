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

#![allow(clippy::unwrap_used, clippy::trivially_copy_pass_by_ref, reason = "test code")]

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

const QUORUM: usize = 2;

/// The rules of the protocol, each of which closes a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A writer reads the tombstones before it begins and before its manifest, and
    /// heeds them.
    Check,
    /// A pack goes only when every head saw the epoch of its tombstone.
    SeenEpoch,
    /// Manifests are looked through again before a sweep.
    SecondLook,
    /// A writer reads the fences once its manifest stands.
    FenceRecheck,
    /// A janitor looks behind its fence before it relies on it.
    LookBehind,
    /// A new epoch opens with a heartbeat.
    OpenEpoch,
    /// An epoch counts as seen, and as unique, only as its tombstones stand.
    Sound,
    /// Enough domains are read that one cannot hide a record.
    ReadQuorum,
}

/// A record on some of the domains: bit `d` says that domain `d` holds it.
type On = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tombstone {
    janitor: u8,
    epoch: u8,
    /// Packs condemned, a set of bits.
    packs: u8,
    on: On,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Manifest {
    writer: u8,
    epoch: u8,
    sequence: u8,
    references: u8,
    gc_epoch_seen: u8,
    reported: bool,
    on: On,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fence {
    writer: u8,
    epoch: u8,
    sequence: u8,
    on: On,
}

/// Where a writer stands in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WriterAt {
    Idle,
    /// It writes the heartbeat that opens an epoch.
    Opening,
    /// It read the marks: the epoch it saw, the packs it may not use.
    Began {
        seen: u8,
        condemned: u8,
    },
    /// It stored or chose its packs and checks them.
    Checked {
        seen: u8,
        references: u8,
    },
    /// It wrote its manifest; once that stands it reads the fences.
    Written {
        manifest: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Writer {
    at: WriterAt,
    epoch: u8,
    sequence: u8,
    runs: u8,
}

/// Where a janitor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum JanitorAt {
    Idle,
    /// It looked: what nothing references, and the epoch it will give.
    Looked {
        unreferenced: u8,
        epoch: u8,
    },
    /// Its tombstone stands, not yet found sound.
    Condemned {
        packs: u8,
        epoch: u8,
        sound: bool,
    },
    /// It fenced a silent writer, and must look behind.
    Fenced {
        packs: u8,
        epoch: u8,
        writer: u8,
    },
    /// It looked again: these go.
    Sweeping {
        packs: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    tombstones: Vec<Tombstone>,
    manifests: Vec<Manifest>,
    fences: Vec<Fence>,
    writers: Vec<Writer>,
    janitors: Vec<JanitorAt>,
    rounds: u8,
    /// Packs stored, and packs deleted.
    stored: u8,
    swept: u8,
    crashes: u8,
}

/// A janitor's step: where it stands after, and what it did.
type With<'a> = dyn Fn(JanitorAt, &dyn Fn(&mut State)) -> State + 'a;

/// What a world has.
#[derive(Clone, Copy, Debug)]
struct Setup {
    name: &'static str,
    writers: u8,
    janitors: u8,
    /// Runs of each writer.
    runs: u8,
    /// Rounds of all janitors together.
    rounds: u8,
    /// Packs that stand before, committed once and forgotten since: a set of bits.
    old: u8,
    /// Writers make new packs, too.
    fresh: bool,
    /// A domain that shows only what stood there at the beginning.
    lying: bool,
    fences: bool,
    crashes: u8,
    off: Option<Rule>,
}

impl Setup {
    fn on(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// Sets of domains a reading may get: all, as one of them may lie; without the
    /// rule any single one will do.
    fn readings(&self) -> Vec<On> {
        if self.on(Rule::ReadQuorum) { vec![0b111] } else { vec![0b001, 0b010, 0b100] }
    }

    /// What of a record a reading of these domains shows. The third domain lies: it
    /// shows nothing that was written since.
    fn shows(&self, on: On, reading: On) -> bool {
        let honest = if self.lying { 0b011 } else { 0b111 };
        on & reading & honest != 0
    }

    fn stands(on: On) -> bool {
        on.count_ones() as usize >= QUORUM
    }
}

impl State {
    fn first(setup: &Setup) -> Self {
        let manifests = (0..setup.writers)
            .map(|writer| Manifest {
                writer,
                epoch: 1,
                sequence: 1,
                references: 0,
                gc_epoch_seen: 0,
                reported: true,
                on: 0b111,
            })
            .collect();
        let writer = Writer { at: WriterAt::Idle, epoch: 1, sequence: 2, runs: 0 };
        Self {
            tombstones: Vec::new(),
            manifests,
            fences: Vec::new(),
            writers: vec![writer; setup.writers.into()],
            janitors: vec![JanitorAt::Idle; setup.janitors.into()],
            rounds: 0,
            stored: setup.old,
            swept: 0,
            crashes: 0,
        }
    }

    fn newest_epoch(&self, setup: &Setup, reading: On) -> u8 {
        let seen = self.tombstones.iter().filter(|mark| setup.shows(mark.on, reading));
        seen.map(|mark| mark.epoch).max().unwrap_or(0)
    }

    /// The epoch a writer may say it saw.
    fn seen_epoch(&self, setup: &Setup, reading: On) -> u8 {
        let standing = |mark: &&Tombstone| {
            let on = mark.on & reading;
            setup.shows(mark.on, reading) && (!setup.on(Rule::Sound) || Setup::stands(on))
        };
        self.tombstones.iter().filter(standing).map(|mark| mark.epoch).max().unwrap_or(0)
    }

    fn condemned(&self, setup: &Setup, reading: On) -> u8 {
        let seen = self.tombstones.iter().filter(|mark| setup.shows(mark.on, reading));
        seen.fold(0, |packs, mark| packs | mark.packs)
    }

    fn closed(&self, setup: &Setup, writer: u8, epoch: u8, reading: On) -> Option<u8> {
        let fences = self.fences.iter().filter(|fence| (fence.writer, fence.epoch) == (writer, epoch));
        fences.filter(|fence| setup.shows(fence.on, reading)).map(|fence| fence.sequence).max()
    }

    /// Whether a manifest counts: no fence in force stands before it.
    fn counts(&self, manifest: &Manifest) -> bool {
        let fences =
            self.fences.iter().filter(|fence| (fence.writer, fence.epoch) == (manifest.writer, manifest.epoch));
        let last = fences.filter(|fence| Setup::stands(fence.on)).map(|fence| fence.sequence).max();
        last.is_none_or(|last| manifest.sequence <= last)
    }

    fn seen_manifests<'a>(&'a self, setup: &'a Setup, reading: On) -> impl Iterator<Item = &'a Manifest> {
        self.manifests.iter().filter(move |manifest| setup.shows(manifest.on, reading) && self.counts(manifest))
    }

    fn head<'a>(&'a self, setup: &'a Setup, writer: u8, reading: On) -> Option<&'a Manifest> {
        let own = self.seen_manifests(setup, reading).filter(|manifest| manifest.writer == writer);
        own.max_by_key(|manifest| (manifest.epoch, manifest.sequence))
    }

    fn referenced(&self, setup: &Setup, reading: On) -> u8 {
        self.seen_manifests(setup, reading).fold(0, |packs, manifest| packs | manifest.references)
    }

    /// What must hold in every state.
    fn violation(&self, setup: &Setup) -> Option<&'static str> {
        let lost = |manifest: &&Manifest| manifest.references & self.swept != 0;
        if self.manifests.iter().filter(|manifest| manifest.reported).any(|manifest| lost(&manifest)) {
            return Some("a reported point lost a pack");
        }
        // Between a fence and the look behind it a reported point may not count for a
        // while; nobody may sweep meanwhile.
        let sweeping = self.janitors.iter().any(|janitor| matches!(janitor, JanitorAt::Sweeping { .. }));
        let hidden = self.manifests.iter().any(|manifest| manifest.reported && !self.counts(manifest));
        if sweeping && hidden {
            return Some("a janitor sweeps while a reported point does not count");
        }
        None
    }

    fn next(&self, setup: &Setup) -> Vec<Self> {
        let mut out = Vec::new();
        for reading in setup.readings() {
            for writer in 0..setup.writers {
                self.writer_steps(setup, writer, reading, &mut out);
            }
            for janitor in 0..setup.janitors {
                self.janitor_steps(setup, janitor, reading, &mut out);
            }
        }
        if self.crashes < setup.crashes {
            for at in 0..self.writers.len() {
                if self.writers[at].at != WriterAt::Idle {
                    let mut next = self.clone();
                    next.writers[at].at = WriterAt::Idle;
                    next.crashes += 1;
                    out.push(next);
                }
            }
            for at in 0..self.janitors.len() {
                if self.janitors[at] != JanitorAt::Idle {
                    let mut next = self.clone();
                    next.janitors[at] = JanitorAt::Idle;
                    next.crashes += 1;
                    out.push(next);
                }
            }
        }
        self.spread(&mut out);
        out
    }

    /// A record that is being written reaches one more domain, until it stands. Of
    /// the two honest domains it is all one which comes first.
    fn spread(&self, out: &mut Vec<Self>) {
        let further = |on: On| -> &'static [On] {
            match on {
                0 => &[0b001, 0b100],
                0b001 => &[0b011],
                0b100 => &[0b110],
                _ => &[],
            }
        };
        for at in 0..self.tombstones.len() {
            for &on in further(self.tombstones[at].on) {
                let mut next = self.clone();
                next.tombstones[at].on = on;
                out.push(next);
            }
        }
        for at in 0..self.manifests.len() {
            for &on in further(self.manifests[at].on) {
                let mut next = self.clone();
                next.manifests[at].on = on;
                out.push(next);
            }
        }
        for at in 0..self.fences.len() {
            for &on in further(self.fences[at].on) {
                let mut next = self.clone();
                next.fences[at].on = on;
                out.push(next);
            }
        }
    }

    fn writer_steps(&self, setup: &Setup, id: u8, reading: On, out: &mut Vec<Self>) {
        let writer = self.writers[usize::from(id)];
        let with = |change: &dyn Fn(&mut State, &mut Writer)| {
            let mut next = self.clone();
            let mut changed = writer;
            change(&mut next, &mut changed);
            next.writers[usize::from(id)] = changed;
            next
        };
        match writer.at {
            WriterAt::Idle if writer.runs < setup.runs => {
                // What a run that died left is completed first; of what it wrote and nobody
                // shows yet the next one is a rival.
                let place = |manifest: &&Manifest| {
                    (manifest.writer, manifest.epoch, manifest.sequence) == (id, writer.epoch, writer.sequence)
                };
                if let Some(left) = self.manifests.iter().filter(place).find(|left| setup.shows(left.on, reading)) {
                    if Setup::stands(left.on) {
                        out.push(with(&|_, writer| writer.sequence += 1));
                    }
                    return;
                }
                // A fence that it sees sends it into a new epoch.
                let closed = self.closed(setup, id, writer.epoch, reading).is_some_and(|last| writer.sequence > last);
                out.push(with(&|state, writer| {
                    if closed {
                        (writer.epoch, writer.sequence) = (writer.epoch + 1, 1);
                        if setup.on(Rule::OpenEpoch) {
                            writer.at = WriterAt::Opening;
                            return;
                        }
                    }
                    writer.at = WriterAt::Began {
                        seen: state.seen_epoch(setup, reading),
                        condemned: state.condemned(setup, reading),
                    };
                }));
            }
            WriterAt::Idle => {}
            WriterAt::Opening => {
                let own = self.manifests.iter().find(|manifest| {
                    (manifest.writer, manifest.epoch, manifest.sequence) == (id, writer.epoch, writer.sequence)
                });
                match own {
                    None => out.push(with(&|state, writer| {
                        let gc_epoch_seen = state.seen_epoch(setup, reading);
                        state.manifests.push(Manifest {
                            writer: id,
                            epoch: writer.epoch,
                            sequence: writer.sequence,
                            references: 0,
                            gc_epoch_seen,
                            reported: false,
                            on: 0,
                        });
                    })),
                    Some(own) if Setup::stands(own.on) => out.push(with(&|_, writer| {
                        writer.sequence += 1;
                        writer.at = WriterAt::Idle;
                    })),
                    Some(_) => {}
                }
            }
            WriterAt::Began { seen, condemned } => {
                // It names nothing (a heartbeat), one pack that stands, or a new one of its
                // own that no manifest knows while it sleeps.
                let own = if setup.fresh { 1 << (4 + id) } else { 0 };
                let usable = if setup.on(Rule::Check) { self.stored & !condemned } else { self.stored };
                let choices = (0..8).map(|pack| 1 << pack).filter(|pack| (usable | own) & pack != 0);
                for references in std::iter::once(0).chain(choices) {
                    let hit = setup.on(Rule::Check) && self.condemned(setup, reading) & references != 0;
                    out.push(with(&|state, writer| {
                        state.stored |= references;
                        writer.at = if hit { WriterAt::Idle } else { WriterAt::Checked { seen, references } };
                        writer.runs += u8::from(hit);
                    }));
                }
            }
            WriterAt::Checked { seen, references } => {
                out.push(with(&|state, writer| {
                    state.manifests.push(Manifest {
                        writer: id,
                        epoch: writer.epoch,
                        sequence: writer.sequence,
                        references,
                        gc_epoch_seen: seen,
                        reported: false,
                        on: 0,
                    });
                    writer.at = WriterAt::Written { manifest: state.manifests.len() as u8 - 1 };
                }));
            }
            WriterAt::Written { manifest } => {
                let own = usize::from(manifest);
                if !Setup::stands(self.manifests[own].on) {
                    return;
                }
                let closed = self.closed(setup, id, writer.epoch, reading).is_some_and(|last| writer.sequence > last);
                out.push(with(&|state, writer| {
                    let heeded = setup.on(Rule::FenceRecheck) && closed;
                    state.manifests[own].reported = !heeded;
                    writer.sequence += 1;
                    writer.runs += 1;
                    writer.at = WriterAt::Idle;
                }));
            }
        }
    }

    fn janitor_steps(&self, setup: &Setup, id: u8, reading: On, out: &mut Vec<Self>) {
        let with = |at: JanitorAt, change: &dyn Fn(&mut State)| {
            let mut next = self.clone();
            change(&mut next);
            next.janitors[usize::from(id)] = at;
            next
        };
        match self.janitors[usize::from(id)] {
            JanitorAt::Idle => {
                let unreferenced = self.stored & !self.swept & !self.referenced(setup, reading);
                let epoch = self.newest_epoch(setup, reading) + 1;
                if self.rounds < setup.rounds {
                    // What becomes unreferenced when is up to the owner: any part of it.
                    for packs in (1..=unreferenced).filter(|packs| packs & !unreferenced == 0) {
                        out.push(with(JanitorAt::Looked { unreferenced: packs, epoch }, &|state| state.rounds += 1));
                    }
                }
            }
            JanitorAt::Looked { unreferenced, epoch } => {
                let at = JanitorAt::Condemned { packs: unreferenced, epoch, sound: false };
                out.push(with(at, &|state| {
                    state.tombstones.push(Tombstone { janitor: id, epoch, packs: unreferenced, on: 0 });
                }));
            }
            JanitorAt::Condemned { packs, epoch, sound } => {
                let Some(own) = self.tombstones.iter().find(|mark| (mark.janitor, mark.epoch) == (id, epoch)) else {
                    return;
                };
                if !Setup::stands(own.on) {
                    return;
                }
                if !sound {
                    let others = self.tombstones.iter().filter(|mark| mark.janitor != id);
                    let unique = others.filter(|mark| setup.shows(mark.on, reading)).all(|mark| mark.epoch < epoch);
                    if unique || !setup.on(Rule::Sound) {
                        out.push(with(JanitorAt::Condemned { packs, epoch, sound: true }, &|_| {}));
                    }
                    return;
                }
                self.sweep_steps(setup, (packs, epoch), reading, &with, out);
            }
            JanitorAt::Fenced { packs, epoch, writer } => {
                self.behind_steps(setup, (packs, epoch, writer), reading, &with, out);
            }
            JanitorAt::Sweeping { packs } => {
                out.push(with(JanitorAt::Idle, &|state| state.swept |= packs));
            }
        }
    }

    fn sweep_steps(&self, setup: &Setup, (packs, epoch): (u8, u8), reading: On, with: &With<'_>, out: &mut Vec<Self>) {
        let mut waits = false;
        for writer in 0..setup.writers {
            let Some(head) = self.head(setup, writer, reading) else { continue };
            let fence = |fence: &&Fence| (fence.writer, fence.epoch) == (writer, head.epoch) && Setup::stands(fence.on);
            let fenced = self.fences.iter().any(|found| fence(&found));
            if !setup.on(Rule::SeenEpoch) || fenced || head.gc_epoch_seen >= epoch {
                continue;
            }
            waits = true;
            // It may have been silent for long at any time.
            let new = !self.fences.iter().any(|fence| (fence.writer, fence.epoch) == (writer, head.epoch));
            if setup.fences && new {
                let (at, sequence) = (head.epoch, head.sequence);
                out.push(with(JanitorAt::Fenced { packs, epoch, writer }, &|state| {
                    state.fences.push(Fence { writer, epoch: at, sequence, on: 0 });
                }));
            }
        }
        if waits {
            return;
        }
        let referenced = if setup.on(Rule::SecondLook) { self.referenced(setup, reading) } else { 0 };
        let gone = packs & !referenced;
        let at = if gone == 0 { JanitorAt::Idle } else { JanitorAt::Sweeping { packs: gone } };
        out.push(with(at, &|_| {}));
    }

    /// Its fence stands: what stands behind it moves the fence.
    fn behind_steps(
        &self,
        setup: &Setup,
        (packs, epoch, writer): (u8, u8, u8),
        reading: On,
        with: &With<'_>,
        out: &mut Vec<Self>,
    ) {
        let back = JanitorAt::Condemned { packs, epoch, sound: true };
        let own = self.fences.iter().filter(|fence| fence.writer == writer);
        let Some(newest) = own.max_by_key(|fence| (fence.epoch, fence.sequence)) else { return };
        if !Setup::stands(newest.on) {
            return;
        }
        let behind = self.manifests.iter().filter(|manifest| {
            (manifest.writer, manifest.epoch) == (writer, newest.epoch)
                && manifest.sequence > newest.sequence
                && setup.shows(manifest.on, reading)
        });
        match behind.map(|manifest| manifest.sequence).max().filter(|_| setup.on(Rule::LookBehind)) {
            None => out.push(with(back, &|_| {})),
            Some(sequence) => {
                let epoch_closed = newest.epoch;
                out.push(with(JanitorAt::Fenced { packs, epoch, writer }, &|state| {
                    state.fences.push(Fence { writer, epoch: epoch_closed, sequence, on: 0 });
                }));
            }
        }
    }
}

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
    ];
    if long {
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
