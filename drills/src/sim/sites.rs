//! The simulated locations: what stands on each, what they do to requests, and
//! the ledger of what the program under test did to them.
//!
//! What always holds: every request is counted and takes true time; what a fault
//! does is drawn from the scenario's seed; what was truly stored and never deleted
//! by the program is remembered beside what stands there now, so that the oracles
//! know the damage without asking the program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::channel::oneshot;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::disks::{LocalDisk, Written};
use super::scenario::{Rot, RotKind, Weather};
use super::timeline::Timeline;

/// More requests than any honest scenario makes: the program goes in circles.
const REQUESTS_MAX: u64 = 400_000;
/// A usual answer takes up to so long.
const USUAL_US: u64 = 200_000;
/// A late write lands within so long.
const LATE_US: u64 = 3_600_000_000;

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// True time of its writing.
    pub(super) written_us: u64,
    /// The time of its writing by the location's own clock.
    pub(super) dated_us: i64,
}

/// What stands on a location.
pub(super) type Image = BTreeMap<Arc<str>, Object>;

/// A location.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four faults that come and go by themselves")]
pub(super) struct Site {
    /// Its name.
    pub(super) name: String,
    /// Its domain's name.
    pub(super) domain: String,
    /// What stands there.
    pub(super) objects: Image,
    /// What was truly stored there and not deleted by the program.
    pub(super) stood: BTreeMap<Arc<str>, Bytes>,
    /// Shards of it that are not there any more, and that nothing needed by then.
    pub(super) forgiven: BTreeMap<Arc<str>, Bytes>,
    /// What it shows instead of what stands there.
    pub(super) shown: Option<Image>,
    /// What it was, step by step; kept only where a scenario goes back.
    pub(super) history: Vec<Image>,
    /// How often requests go wrong.
    pub(super) weather: Weather,
    /// It does not answer.
    pub(super) down: bool,
    /// It takes nothing more.
    pub(super) full: bool,
    /// It keeps writes with a wrong byte.
    pub(super) spoils: bool,
    /// It honours the condition of a conditional write.
    pub(super) conditional: bool,
    /// It is a folder on a disk of the machine.
    pub(super) disk: Option<LocalDisk>,
    /// What its own clock is wrong by.
    pub(super) clock_us: i64,
    /// Writes under way: when they land.
    pub(super) late: Vec<(u64, Arc<str>, Bytes)>,
}

impl Site {
    /// Whether what it shows now is all that it took.
    pub(super) fn is_whole(&self) -> bool {
        !self.down
            && !self.spoils
            && self.shown.is_none()
            && self
                .stood
                .iter()
                .all(|(name, bytes)| self.objects.get(name).is_some_and(|here| same(&here.bytes, bytes)))
    }

    /// What it shows.
    pub(super) fn image(&self) -> &Image {
        self.shown.as_ref().unwrap_or(&self.objects)
    }
}

/// Whether two objects are the same byte for byte.
pub(super) fn same(a: &Bytes, b: &Bytes) -> bool {
    (a.as_ptr() == b.as_ptr() && a.len() == b.len()) || a == b
}

/// How often what happened.
pub type Counts = BTreeMap<&'static str, u64>;

/// All locations of one world.
pub(super) struct Sites {
    pub(super) timeline: Arc<Timeline>,
    state: Mutex<State>,
}

/// See [`Sites::state`].
pub(super) struct State {
    /// The locations, in the scenario's order.
    pub(super) sites: Vec<Site>,
    /// Each content the program wrote under a name.
    pub(super) written: BTreeMap<Arc<str>, Vec<Bytes>>,
    /// What the program did that no story excuses.
    pub(super) misdeeds: BTreeSet<String>,
    /// Faults that took place.
    pub(super) counts: Counts,
    requests: u64,
    act_requests: u64,
    /// Whose requests are the act's.
    acting: Who,
    trip: Option<(u64, bool)>,
    /// The writer's machine falls asleep at this request of its act; who waits for that.
    sleeps_at: Option<(u64, oneshot::Sender<()>)>,
    asleep: bool,
    rng: ChaCha8Rng,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Who {
    /// The machine with the source and the writer's key.
    #[default]
    Writer,
    /// Another one, with the janitor's.
    Janitor,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is carried out and answered.
    Answered,
    /// The connection breaks.
    Lost,
    /// The location does not answer.
    Down,
}

/// What becomes of a write that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// It stands, and the caller knows.
    Stored,
    /// There was one already.
    Exists,
    /// No space.
    Full,
    /// The disk failed.
    Failed,
    /// The caller hears nothing in time.
    TimedOut,
}

impl Sites {
    /// Locations that hold these images, with all dice from `seed`.
    pub(super) fn new(timeline: Arc<Timeline>, sites: Vec<Site>, seed: u64) -> Arc<Self> {
        let state = State {
            sites,
            written: BTreeMap::new(),
            misdeeds: BTreeSet::new(),
            counts: Counts::new(),
            requests: 0,
            act_requests: 0,
            acting: Who::Writer,
            trip: None,
            sleeps_at: None,
            asleep: false,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        Arc::new(Self { timeline, state: Mutex::new(state) })
    }

    /// Everything, to look at or to change.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same locations in another world: what is done there is not seen here.
    pub(super) fn fork(&self) -> Arc<Self> {
        let mut state = self.state();
        let seed = state.rng.next_u64();
        let mut sites = state.sites.clone();
        for site in &mut sites {
            site.disk = None;
        }
        Self::new(Arc::clone(&self.timeline), sites, seed)
    }

    /// Starts to count an act's requests; at the given one the machine crashes.
    pub(super) fn begin_act(&self, who: Who, trip: Option<(u64, bool)>) {
        let mut state = self.state();
        state.act_requests = 0;
        (state.acting, state.trip) = (who, trip);
        (state.sleeps_at, state.asleep) = (None, false);
    }

    /// The writer's machine will fall asleep at this request. Who waits is told.
    pub(super) fn sleep_at(&self, request: u64) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.state().sleeps_at = Some((request, tell));
        told
    }

    /// It falls asleep now.
    pub(super) fn fall_asleep(&self) {
        self.state().fall_asleep();
    }

    /// It wakes up, or will not fall asleep any more.
    pub(super) fn wake(&self) {
        let mut state = self.state();
        (state.sleeps_at, state.asleep) = (None, false);
    }

    /// Whether who asks is asleep.
    pub(super) fn is_asleep(&self, who: Who) -> bool {
        who == Who::Writer && self.state().asleep
    }

    /// A request begins: how long it takes to arrive. The machine may crash before.
    pub(super) fn send(&self, site: usize, who: Who) -> u64 {
        let mut state = self.state();
        state.requests += 1;
        let counts = state.acting == who;
        state.act_requests += u64::from(counts);
        if state.requests > REQUESTS_MAX {
            state.misdeeds.insert(format!("more than {REQUESTS_MAX} requests: it goes in circles"));
            self.timeline.crash();
        }
        if counts && state.trip == Some((state.act_requests, false)) {
            state.count("crash before a request");
            self.timeline.crash();
        }
        let number = state.act_requests;
        if who == Who::Writer && state.sleeps_at.as_ref().is_some_and(|(at, _)| number >= *at) {
            state.fall_asleep();
        }
        state.delay(site)
    }

    /// Its answer is on the way. The machine may crash before it comes.
    pub(super) fn answer(&self, site: usize, number: u64) -> u64 {
        let mut state = self.state();
        if state.trip == Some((number, true)) {
            state.count("crash before an answer");
            self.timeline.crash();
        }
        state.delay(site)
    }

    /// The number of the request that was just sent; none of an act's is zero.
    pub(super) fn number(&self, who: Who) -> u64 {
        let state = self.state();
        if state.acting == who { state.act_requests } else { 0 }
    }

    /// The request arrives.
    pub(super) fn arrive(&self, at: usize) -> Fate {
        let now_us = self.timeline.now_us();
        let mut state = self.state();
        state.land_late(at, now_us);
        if state.sites[at].down {
            state.count("down");
            return Fate::Down;
        }
        let lost = state.sites[at].weather.lost;
        if state.hits(lost, "lost") { Fate::Lost } else { Fate::Answered }
    }

    /// A write arrives.
    pub(super) fn put(&self, at: usize, name: &Arc<str>, bytes: &Bytes, create: bool, number: u64) -> Landing {
        let now_us = self.timeline.now_us();
        let mut state = self.state();
        state.note_written(name, bytes);
        // The disks are in the writer's machine: another one's crash does not stop them.
        if state.trip == Some((number, true)) && state.acting == Who::Writer {
            state.interrupt(at);
        }
        let weather = state.sites[at].weather.clone();
        if state.sites[at].full {
            state.count("full");
            return Landing::Full;
        }
        if state.hits(weather.vanishes, "acknowledged, not stored") {
            return Landing::Stored;
        }
        let remote = state.sites[at].disk.is_none();
        if remote && state.sites[at].conditional && state.hits(weather.timeout_late, "timed out, landed late") {
            state.land_later(at, name, bytes, now_us);
            return Landing::TimedOut;
        }
        let mut landing = state.store(at, name, bytes, create, now_us);
        if landing == Landing::Stored && state.hits(weather.twice, "arrived twice") {
            landing = state.store(at, name, bytes, create, now_us);
        }
        if state.hits(weather.timeout_landed, "timed out, landed") { Landing::TimedOut } else { landing }
    }

    /// A write was under way when the machine crashed: it may still arrive.
    pub(super) fn orphaned(&self, at: usize, name: &Arc<str>, bytes: &Bytes) {
        let now_us = self.timeline.now_us();
        let mut state = self.state();
        state.note_written(name, bytes);
        let site = &state.sites[at];
        if site.conditional && site.disk.is_none() && !site.down && !site.full && state.rng.next_u32().is_multiple_of(2)
        {
            state.count("landed after its sender died");
            state.land_later(at, name, bytes, now_us);
        }
    }

    /// Everything that is still under way lands now.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        for at in 0..state.sites.len() {
            state.land_late(at, u64::MAX);
        }
    }

    /// A delete arrives. True if the caller hears of it.
    pub(super) fn delete(&self, at: usize, name: &str) -> bool {
        let mut state = self.state();
        let weather = state.sites[at].weather.clone();
        if state.hits(weather.vanishes, "acknowledged, not deleted") {
            return true;
        }
        let site = &mut state.sites[at];
        if let Some(disk) = &site.disk {
            disk.delete(name);
        }
        site.objects.remove(name);
        site.stood.remove(name);
        site.forgiven.remove(name);
        !state.hits(weather.timeout_landed, "timed out, deleted")
    }

    /// The machine crashed, and its disks with it.
    pub(super) fn crash_disks(&self) -> Result<(), String> {
        let now_us = self.timeline.now_us();
        let mut state = self.state();
        let state = &mut *state;
        for site in &mut state.sites {
            let Some(disk) = &mut site.disk else { continue };
            disk.crash(&mut state.rng)?;
            *state.counts.entry("disk crashed with its machine").or_default() += 1;
            let files: BTreeMap<Arc<str>, Bytes> = disk.files().into_iter().collect();
            let lost = site.stood.iter().find(|(name, bytes)| files.get(*name).is_none_or(|here| here != *bytes));
            if let Some((name, _)) = lost {
                state.misdeeds.insert(format!("{name} at {} was acknowledged, and a crash took it", site.name));
            }
            let now = (now_us, now_us.cast_signed() + site.clock_us);
            let written =
                |name: &Arc<str>| site.objects.get(name).map_or(now, |object| (object.written_us, object.dated_us));
            let objects = files.into_iter().map(|(name, bytes)| {
                // The same allocation where it is the same object: comparing is cheap then.
                let bytes = site.stood.get(&name).filter(|stood| **stood == bytes).cloned().unwrap_or(bytes);
                let (written_us, dated_us) = written(&name);
                (name, Object { bytes, written_us, dated_us })
            });
            site.objects = objects.collect();
        }
        Ok(())
    }

    /// A read arrives: the object, as the location shows it today.
    pub(super) fn get(&self, at: usize, name: &str) -> Option<(Object, ReadFault)> {
        let mut state = self.state();
        let weather = state.sites[at].weather.clone();
        let object = state.sites[at].image().get(name).cloned()?;
        if state.hits(weather.unseen, "not seen") {
            return None;
        }
        if state.hits(weather.other, "another object's bytes") {
            let other = state.any_object(at);
            return Some((other.unwrap_or(object), ReadFault::None));
        }
        if state.hits(weather.short, "read ended early") {
            let draw = state.rng.next_u64();
            return Some((object, ReadFault::Short(draw)));
        }
        if state.hits(weather.wrong, "wrong byte read") {
            let draw = state.rng.next_u64();
            return Some((object, ReadFault::Wrong(draw)));
        }
        Some((object, ReadFault::None))
    }

    /// A listing arrives: names, sizes, times.
    pub(super) fn list(&self, at: usize, prefix: &str) -> Vec<(Arc<str>, u64, i64)> {
        let now_us = self.timeline.now_us();
        let mut state = self.state();
        let hides = state.sites[at].weather.stale;
        let unseen_us = if state.hits(hides, "stale list") { state.rng.next_u64() % LATE_US } else { 0 };
        let here = state.sites[at].image().iter();
        here.filter(|(name, object)| {
            name.starts_with(prefix) && (unseen_us == 0 || object.written_us + unseen_us < now_us)
        })
        .map(|(name, object)| (Arc::clone(name), object.bytes.len() as u64, object.dated_us))
        .collect()
    }
}

/// What becomes of the bytes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// Nothing.
    None,
    /// It ends early, somewhere.
    Short(u64),
    /// One byte is wrong, somewhere.
    Wrong(u64),
}

impl State {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Counts a fault that a step brought about.
    pub(super) fn count_step(&mut self, what: &'static str) {
        self.count(what);
    }

    fn fall_asleep(&mut self) {
        let Some((_, tell)) = self.sleeps_at.take() else { return };
        self.asleep = true;
        self.count("fell asleep");
        // Nobody waits any more where the janitor's part is over.
        let _ = tell.send(());
    }

    fn hits(&mut self, of_thousand: u16, what: &'static str) -> bool {
        let hit = of_thousand > 0 && self.rng.next_u32() % 1000 < u32::from(of_thousand);
        if hit {
            self.count(what);
        }
        hit
    }

    fn delay(&mut self, at: usize) -> u64 {
        let slow = u64::from(self.sites[at].weather.slow_seconds) * 1_000_000;
        1 + self.rng.next_u64() % if slow == 0 { USUAL_US } else { slow }
    }

    fn note_written(&mut self, name: &Arc<str>, bytes: &Bytes) {
        let known = self.written.entry(Arc::clone(name)).or_default();
        if known.iter().any(|known| same(known, bytes)) {
            return;
        }
        known.push(bytes.clone());
        if known.len() > 1 && name.starts_with("shards/") {
            self.misdeeds.insert(format!("two different objects were written under {name}"));
        }
    }

    fn store(&mut self, at: usize, name: &Arc<str>, bytes: &Bytes, create: bool, now_us: u64) -> Landing {
        let site = &mut self.sites[at];
        if create && site.conditional && site.objects.contains_key(name) {
            return Landing::Exists;
        }
        let mut kept = bytes.clone();
        if site.spoils {
            kept = flipped(bytes, self.rng.next_u64());
            *self.counts.entry("spoiled while stored").or_default() += 1;
        }
        let site = &mut self.sites[at];
        match site.disk.as_ref().map(|disk| disk.put(name, bytes, create)) {
            Some(Written::Exists) => return Landing::Exists,
            Some(Written::Failed) => return Landing::Failed,
            Some(Written::Stored) | None => {}
        }
        let dated_us = now_us.cast_signed() + site.clock_us;
        site.objects.insert(Arc::clone(name), Object { bytes: kept, written_us: now_us, dated_us });
        site.stood.insert(Arc::clone(name), bytes.clone());
        site.forgiven.remove(name);
        Landing::Stored
    }

    /// The machine is about to crash: a write to its own disk does not come to its end.
    fn interrupt(&mut self, at: usize) {
        if self.rng.next_u32().is_multiple_of(2)
            && let Some(disk) = &self.sites[at].disk
        {
            disk.stop_soon(&mut self.rng);
            self.count("crash in the middle of a write");
        }
    }

    fn land_later(&mut self, at: usize, name: &Arc<str>, bytes: &Bytes, now_us: u64) {
        let due = now_us + self.rng.next_u64() % LATE_US;
        self.sites[at].late.push((due, Arc::clone(name), bytes.clone()));
    }

    fn land_late(&mut self, at: usize, now_us: u64) {
        let mut late = std::mem::take(&mut self.sites[at].late);
        late.retain(|(due, name, bytes)| {
            let lands = *due <= now_us;
            if lands {
                self.store(at, name, bytes, true, *due);
            }
            !lands
        });
        self.sites[at].late = late;
    }

    fn any_object(&mut self, at: usize) -> Option<Object> {
        let image = self.sites[at].image();
        if image.is_empty() {
            return None;
        }
        let number = (self.rng.next_u64() % image.len() as u64) as usize;
        self.sites[at].image().values().nth(number).cloned()
    }

    /// The location loses everything.
    pub(super) fn wipe(&mut self, at: usize) {
        self.sites[at].objects.clear();
        self.count("wiped");
    }

    /// The location goes back to what it was; `keep` shows it only.
    pub(super) fn go_back(&mut self, at: usize, steps: usize, keep: bool) {
        let site = &mut self.sites[at];
        let Some(number) = site.history.len().checked_sub(steps.max(1)) else { return };
        let image = site.history[number].clone();
        if keep {
            site.shown = Some(image);
            self.count("frozen");
        } else {
            site.objects = image;
            self.count("rolled back");
        }
    }

    /// Some objects of a location rot.
    pub(super) fn rot(&mut self, at: usize, rot: &Rot) {
        let (of_thousand, kind) = (rot.objects, rot.kind);
        let begins = |name: &&Arc<str>| name.starts_with(&rot.only);
        let names: Vec<Arc<str>> = self.sites[at].objects.keys().filter(begins).cloned().collect();
        if names.is_empty() {
            return;
        }
        let most = (names.len() * usize::from(of_thousand) / 1000).max(1);
        for _ in 0..most {
            let name = &names[(self.rng.next_u64() % names.len() as u64) as usize];
            let draw = self.rng.next_u64();
            let other = self.any_object(at);
            let Some(object) = self.sites[at].objects.get_mut(name) else { continue };
            match kind {
                RotKind::Flip => object.bytes = flipped(&object.bytes, draw),
                RotKind::Truncate => object.bytes.truncate((draw % object.bytes.len().max(1) as u64) as usize),
                RotKind::Swap => object.bytes = other.map_or_else(Bytes::new, |other| other.bytes),
                RotKind::Lose => {
                    self.sites[at].objects.remove(name);
                }
            }
            self.count(match kind {
                RotKind::Flip => "rot: bit flipped",
                RotKind::Truncate => "rot: truncated",
                RotKind::Swap => "rot: another object's bytes",
                RotKind::Lose => "rot: object lost",
            });
        }
    }
}

/// The same bytes with one bit turned.
pub(super) fn flipped(bytes: &Bytes, draw: u64) -> Bytes {
    let mut wrong = bytes.to_vec();
    if !wrong.is_empty() {
        let at = (draw >> 3) as usize % wrong.len();
        wrong[at] ^= 1 << (draw & 7);
    }
    wrong.into()
}
