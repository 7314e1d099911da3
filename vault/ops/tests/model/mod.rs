//! The garbage-collection protocol as states and steps, with the code's names: see
//! `gc_model.rs`, which explores them.

mod setup;

use setup::On;
pub(crate) use setup::{Rule, Setup};

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
    janitor: u8,
    writer: u8,
    epoch: u8,
    sequence: u8,
    on: On,
}

/// A tombstone that says that packs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sweep {
    packs: u8,
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
    /// It looked again: these go, and it says so.
    Sweeping {
        packs: u8,
    },
    /// It wrote that they go; once that stands it looks again and deletes.
    Said {
        sweep: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    tombstones: Vec<Tombstone>,
    manifests: Vec<Manifest>,
    fences: Vec<Fence>,
    sweeps: Vec<Sweep>,
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

impl State {
    pub(crate) fn first(setup: &Setup) -> Self {
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
            sweeps: Vec::new(),
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

    /// The epoch a writer may say it saw: of a reading that is not confirmed, none.
    fn seen_epoch(&self, setup: &Setup, reading: On) -> u8 {
        if setup.on(Rule::ReadQuorum) && reading != 0b111 {
            return 0;
        }
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

    /// Whether any fence that a writer sees stops it at this place: only one in force
    /// lets it through behind another.
    fn warns(&self, setup: &Setup, (writer, epoch, sequence): (u8, u8, u8), reading: On) -> bool {
        let own = |fence: &&Fence| (fence.writer, fence.epoch) == (writer, epoch) && setup.shows(fence.on, reading);
        let (mut stops, mut lets) = (false, false);
        for fence in self.fences.iter().filter(own) {
            stops |= sequence > fence.sequence;
            lets |= sequence <= fence.sequence && Setup::stands(fence.on & reading);
        }
        stops && !lets
    }

    /// Packs that somebody said are gone.
    fn said(&self, setup: &Setup, reading: On) -> u8 {
        let shown = self.sweeps.iter().filter(|sweep| setup.shows(sweep.on, reading));
        shown.fold(0, |packs, sweep| packs | sweep.packs)
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
    pub(crate) fn violation(&self, setup: &Setup) -> Option<&'static str> {
        let lost = |manifest: &&Manifest| manifest.references & self.swept != 0;
        if self.manifests.iter().filter(|manifest| manifest.reported).any(|manifest| lost(&manifest)) {
            return Some("a reported point lost a pack");
        }
        // Between a fence and the look behind it a reported point may not count for a
        // while; nobody may sweep meanwhile. Of two janitors one may fence while the other
        // sweeps what it looked for before: only what is lost counts.
        let sweeping =
            setup.janitors == 1 && self.janitors.iter().any(|janitor| matches!(janitor, JanitorAt::Sweeping { .. }));
        let hidden = self.manifests.iter().any(|manifest| manifest.reported && !self.counts(manifest));
        if sweeping && hidden {
            return Some("a janitor sweeps while a reported point does not count");
        }
        None
    }

    pub(crate) fn next(&self, setup: &Setup) -> Vec<Self> {
        let mut out = Vec::new();
        for reading in setup.writer_readings() {
            for writer in 0..setup.writers {
                self.writer_steps(setup, writer, reading, &mut out);
            }
        }
        for reading in setup.readings() {
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
        for at in 0..self.sweeps.len() {
            for &on in further(self.sweeps[at].on) {
                let mut next = self.clone();
                next.sweeps[at].on = on;
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
        let head_seen = self.head(setup, id, reading).map_or(0, |head| head.gc_epoch_seen);
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
                let closed = self.warns(setup, (id, writer.epoch, writer.sequence), reading);
                out.push(with(&|state, writer| {
                    if closed {
                        (writer.epoch, writer.sequence) = (writer.epoch + 1, 1);
                        if setup.on(Rule::OpenEpoch) {
                            writer.at = WriterAt::Opening;
                            return;
                        }
                    }
                    // A reading that shows less than its head saw hides something.
                    let behind = setup.on(Rule::Check) && state.newest_epoch(setup, reading) < head_seen;
                    writer.at = WriterAt::Began {
                        seen: state.seen_epoch(setup, reading).max(head_seen),
                        condemned: if behind { u8::MAX } else { state.condemned(setup, reading) },
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
                        let gc_epoch_seen = state.seen_epoch(setup, reading).max(head_seen);
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
                let closed = self.warns(setup, (id, writer.epoch, writer.sequence), reading);
                let gone = setup.says && self.said(setup, reading) & self.manifests[own].references != 0;
                out.push(with(&|state, writer| {
                    let heeded = (setup.on(Rule::FenceRecheck) && closed) || (setup.on(Rule::SweepRecheck) && gone);
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
                self.sweep_steps(setup, (id, packs, epoch), reading, &with, out);
            }
            JanitorAt::Sweeping { packs } if !setup.says => {
                out.push(with(JanitorAt::Idle, &|state| state.swept |= packs));
            }
            JanitorAt::Sweeping { packs } => {
                let at = JanitorAt::Said { sweep: self.sweeps.len() as u8 };
                out.push(with(at, &|state| state.sweeps.push(Sweep { packs, on: 0 })));
            }
            JanitorAt::Said { sweep } => {
                let Sweep { packs, on } = self.sweeps[usize::from(sweep)];
                if !Setup::stands(on) {
                    return;
                }
                let looks = setup.on(Rule::SecondLook);
                if looks && setup.on(Rule::LookBehind) && self.unsettled(setup, reading).next().is_some() {
                    return;
                }
                let gone = packs & !if looks { self.referenced(setup, reading) } else { 0 };
                out.push(with(JanitorAt::Idle, &|state| state.swept |= gone));
            }
        }
    }

    /// What this reading shows behind any fence and that lost nothing.
    fn unsettled<'a>(&'a self, setup: &'a Setup, reading: On) -> impl Iterator<Item = &'a Manifest> {
        let said = if setup.says { self.said(setup, reading) } else { self.swept };
        self.manifests.iter().filter(move |manifest| {
            setup.shows(manifest.on, reading) && !self.counts(manifest) && manifest.references & said == 0
        })
    }

    /// What this reading shows behind any fence and that lost nothing is unsettled: the
    /// fence moves to it, and until it counts nothing is swept. Whether it is so.
    fn settle_steps(
        &self,
        setup: &Setup,
        (janitor, packs, epoch): (u8, u8, u8),
        reading: On,
        with: &With<'_>,
        out: &mut Vec<Self>,
    ) -> bool {
        let mut unsettled = false;
        for &Manifest { writer, epoch: closed, sequence, .. } in self.unsettled(setup, reading) {
            unsettled = true;
            let moved = Fence { janitor, writer, epoch: closed, sequence, on: 0 };
            let same = |fence: &&Fence| (fence.writer, fence.epoch, fence.sequence) == (writer, closed, sequence);
            if !self.fences.iter().any(|fence| same(&fence)) {
                out.push(with(JanitorAt::Condemned { packs, epoch, sound: true }, &|state| state.fences.push(moved)));
            }
        }
        unsettled
    }

    fn sweep_steps(
        &self,
        setup: &Setup,
        (id, packs, epoch): (u8, u8, u8),
        reading: On,
        with: &With<'_>,
        out: &mut Vec<Self>,
    ) {
        // A fence of its own stands before it looks, and so does one it finds half written.
        let half = |fence: &Fence| fence.janitor == id || setup.shows(fence.on, reading);
        if self.fences.iter().any(|fence| !Setup::stands(fence.on) && half(fence)) {
            return;
        }
        if setup.on(Rule::LookBehind) && self.settle_steps(setup, (id, packs, epoch), reading, with, out) {
            return;
        }
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
                out.push(with(JanitorAt::Condemned { packs, epoch, sound: true }, &|state| {
                    state.fences.push(Fence { janitor: id, writer, epoch: at, sequence, on: 0 });
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
}
