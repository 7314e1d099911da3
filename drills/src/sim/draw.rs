//! A seed expands to a scenario.
//!
//! What always holds: the same seed gives the same scenario; faults come in
//! clusters and the story ends in a calm, after which the vault has ten days.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use vault_ops::step::Step;

use super::scenario::{
    Act, At, Audit, Back, Backup, Calm, Catalog, Check, Crash, Forget, Gc, Jump, Meanwhile, Pick, Restore, Rot,
    RotKind, Scenario, Shape, Site, SiteClock, Step as StoryStep, VERSION, Weather, What,
};

/// Whether seeds draw points that wait in the spool.
const SPOOL_IS_DRAWN: bool = true;
/// One story of so many has a janitor: these take longer.
const HOUSE_ONE_IN: u64 = 4;
const DAY_MINUTES: u64 = 24 * 60;
/// Where it matters that a backup sleeps.
const SLEEPS_AT: [Step; 5] = [
    Step::BackupChainFollowed,
    Step::BackupPackNoted,
    Step::BackupPointStored,
    Step::CommitFoundingStands,
    Step::CommitManifestWritten,
];

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let vault = dice.shape();
    let beyond = dice.one_in(12);
    let house = dice.one_in(HOUSE_ONE_IN);
    let (names, leaf_bytes) = (names(&vault), leaf_bytes(&vault));
    let mut story = Story { at_minutes: 0, steps: Vec::new(), names, leaf_bytes, house };
    let first = dice.backup(&story, false);
    story.add(&mut dice, What::Backup(first));
    for _ in 0..dice.between(5, 13) {
        if house && dice.one_in(2) {
            dice.chore(&mut story);
        } else {
            dice.chapter(&mut story);
        }
    }
    let spool = dice.one_in(2) && SPOOL_IS_DRAWN;
    let seed = (seed & i64::MAX.unsigned_abs()).cast_signed();
    Scenario {
        version: VERSION,
        name: format!("seed {seed}"),
        seed,
        beyond,
        spool,
        without_sync: None,
        vault,
        steps: story.steps,
    }
}

fn names(shape: &Shape) -> Vec<String> {
    shape.locations.iter().map(|site| site.name.clone()).collect()
}

/// What fits into the smallest pack.
fn leaf_bytes(shape: &Shape) -> u64 {
    u64::from(shape.data) * (64 << 10)
}

struct Story {
    at_minutes: u64,
    steps: Vec<StoryStep>,
    names: Vec<String>,
    leaf_bytes: u64,
    /// It has a janitor.
    house: bool,
}

impl Story {
    fn add(&mut self, dice: &mut Dice, what: What) {
        self.at_minutes += match dice.below(3) {
            0 => dice.below(5),
            1 => dice.below(180),
            _ => dice.below(3 * 24 * 60),
        };
        self.steps.push(StoryStep { at_minutes: self.at_minutes, what });
    }
}

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn shape(&mut self) -> Shape {
        let (data, total) = match self.below(20) {
            0..8 => (3, 5),
            8..13 => (1, 3),
            13..18 => (5, 9),
            _ => (7, 15),
        };
        let domains = self.between(if total == 3 { 2 } else { 3 }, 6);
        let survive_domains = if domains >= 4 && self.one_in(3) { 2 } else { 1 };
        let disks = self.one_in(3);
        let mut locations = Vec::new();
        for domain in 0..domains {
            let members = if locations.len() < 7 && self.one_in(4) { 2 } else { 1 };
            for _ in 0..members {
                let name = format!("p{}", locations.len() + 1);
                locations.push(Site {
                    name,
                    domain: format!("domain {domain}"),
                    conditional: !self.one_in(3),
                    disk: disks && self.one_in(2),
                });
            }
        }
        let class_max = u8::from(self.one_in(8));
        Shape { data, total, survive_domains, class_max, locations }
    }

    fn location(&mut self, story: &Story) -> String {
        story.names[self.below(story.names.len() as u64) as usize].clone()
    }

    fn catalog(&mut self) -> Catalog {
        match self.below(4) {
            0 => Catalog::Lost,
            1 => Catalog::Old,
            _ => Catalog::Kept,
        }
    }

    fn crash(&mut self) -> Crash {
        // Opening the vault is reading; writing begins after it.
        let request = if self.one_in(4) { self.between(1, 60) } else { self.between(60, 400) };
        let step = Step::ALL[self.below(Step::ALL.len() as u64) as usize];
        let step = self.one_in(3).then(|| step.name().to_owned());
        let request = if step.is_some() { 0 } else { request as u32 };
        let passes = if step.is_some() && self.one_in(2) { self.below(8) as u32 } else { 0 };
        Crash { request, step, passes, after: self.one_in(2), catalog: self.catalog() }
    }

    fn backup(&mut self, story: &Story, may_crash: bool) -> Backup {
        let bytes = match self.below(8) {
            0 => self.below(2_000),
            7 => self.between(story.leaf_bytes, story.leaf_bytes * 2),
            _ => self.between(1_000, story.leaf_bytes),
        };
        let changed = match self.below(5) {
            0 => 0,
            4 => 1000,
            _ => self.between(1, 500) as u16,
        };
        let crash = (may_crash && self.one_in(3)).then(|| self.crash());
        let again = if story.house && self.one_in(3) { self.between(1, 4) as u32 } else { 0 };
        Backup { bytes: bytes as u32, changed, again, meanwhile: None, crash }
    }

    /// What only a story with a janitor has.
    fn chore(&mut self, story: &mut Story) {
        let crash = self.one_in(4).then(|| self.crash());
        match self.below(14) {
            0..2 => {
                let forget = self.forget(crash);
                story.add(self, What::Forget(forget));
            }
            2 => {
                let back = self.below(2) as u32;
                story.add(self, What::TrashRestore(Pick { back, crash }));
            }
            3 => {
                let back = self.below(2) as u32;
                story.add(self, What::TrashPurge(Pick { back, crash }));
            }
            4..6 => {
                let orphans = self.one_in(4);
                story.add(self, What::Gc(Gc { orphans, crash }));
            }
            12 => {
                let back = self.below(4) as u32;
                story.add(self, What::Pin(Pick { back, crash }));
            }
            13 => {
                let back = self.below(2) as u32;
                story.add(self, What::Unpin(Pick { back, crash }));
            }
            6 => story.add(self, What::Heartbeat(Act { crash })),
            7 => story.add(self, What::Scrub(Act { crash })),
            8 => {
                let location = self.location(story);
                let days = self.below(4000) as i32 - 2000;
                story.add(self, What::SiteClock(SiteClock { location, days }));
            }
            _ => self.collect(story),
        }
    }

    fn forget(&mut self, crash: Option<Crash>) -> Forget {
        let keep_daily = if self.one_in(4) { self.between(1, 3) as u32 } else { 0 };
        let oldest = if keep_daily == 0 { self.between(1, 2) as u32 } else { 0 };
        Forget { oldest, keep_daily, days: self.between(1, 3) as u32, crash }
    }

    /// A point is forgotten, its time passes, its packs are condemned, seen to be so
    /// and swept; a backup may sleep through the last of it.
    fn collect(&mut self, story: &mut Story) {
        // A pin among what the rules and names choose from, for a while or for good.
        let pins = self.one_in(3);
        if pins {
            let back = self.below(4) as u32;
            story.add(self, What::Pin(Pick { back, crash: None }));
        }
        let forget = self.forget(None);
        let days = u64::from(forget.days);
        story.add(self, What::Forget(forget));
        story.at_minutes += days * DAY_MINUTES;
        let crash = self.one_in(6).then(|| self.crash());
        story.add(self, What::Gc(Gc { orphans: false, crash }));
        if self.one_in(2) {
            story.add(self, What::Heartbeat(Act::default()));
        } else {
            let backup = self.backup(story, true);
            story.add(self, What::Backup(backup));
        }
        if self.one_in(2) {
            story.at_minutes += DAY_MINUTES;
        }
        if self.one_in(2) {
            let orphans = self.one_in(4);
            story.add(self, What::Gc(Gc { orphans, crash: None }));
            if pins && self.one_in(2) {
                story.add(self, What::Unpin(Pick::default()));
            }
            return;
        }
        let hours = if self.one_in(4) { self.between(14 * 24, 20 * 24) } else { self.between(1, 60) };
        let step = SLEEPS_AT[self.below(SLEEPS_AT.len() as u64) as usize];
        let step = (!self.one_in(3)).then(|| step.name().to_owned());
        let request = if step.is_some() { 0 } else { self.between(60, 140) as u32 };
        let gcs = self.between(1, 3) as u32;
        let meanwhile = Meanwhile { request, step, hours: hours as u32, gcs };
        let again = self.between(0, 4) as u32;
        let backup = self.backup(story, true);
        let backup = Backup { again, meanwhile: Some(meanwhile), changed: backup.changed.min(100), ..backup };
        story.add(self, What::Backup(backup));
    }

    /// One or a few steps that belong together.
    fn chapter(&mut self, story: &mut Story) {
        match self.below(20) {
            0..6 => {
                let backup = self.backup(story, true);
                story.add(self, What::Backup(backup));
            }
            6..8 => {
                let crash = self.one_in(4).then(|| self.crash());
                story.add(self, What::Repair(Act { crash }));
            }
            8 if self.one_in(2) => {
                let crash = self.one_in(3).then(|| self.crash());
                story.add(self, What::Deliver(Act { crash }));
            }
            8 => {
                let (samples, full) = (self.between(1, 20) as u32, self.one_in(2));
                story.add(self, What::Audit(Audit { samples, full, crash: None }));
            }
            9 => {
                let back = self.below(4) as u32;
                story.add(self, What::Restore(Restore { back }));
            }
            10 => story.add(self, What::Check(Check::default())),
            11..14 => {
                let weather = self.weather(story);
                story.add(self, What::Weather(weather));
            }
            14 => {
                let days = if self.one_in(2) { self.below(40 * 365) as i32 } else { -(self.below(20 * 365) as i32) };
                story.add(self, What::Clock(Jump { days }));
            }
            15 => {
                let catalog = self.catalog();
                story.add(self, What::Catalog(catalog));
            }
            16 => story.add(self, What::Calm(Calm {})),
            _ => self.trouble(story),
        }
    }

    /// A location is in trouble, something is done meanwhile, and it may pass.
    fn trouble(&mut self, story: &mut Story) {
        let location = self.location(story);
        let at = At { location: location.clone() };
        let back = |dice: &mut Self| Back { location: location.clone(), steps: dice.between(1, 5) as u32 };
        let (begins, ends) = match self.below(10) {
            0..2 => (What::Down(at.clone()), Some(What::Up(at))),
            2 => (What::Full(at.clone()), Some(What::Space(at))),
            3 => (What::Wipe(at), None),
            4..7 => {
                let kinds = [RotKind::Flip, RotKind::Truncate, RotKind::Lose, RotKind::Swap];
                let kind = kinds[self.below(4) as usize];
                (
                    What::Rot(Rot {
                        location: location.clone(),
                        objects: self.between(1, 1000) as u16,
                        kind,
                        only: String::new(),
                    }),
                    None,
                )
            }
            7 => (What::Rollback(back(self)), None),
            8 => (What::Freeze(back(self)), Some(What::Thaw(at))),
            _ => (What::Spoil(at.clone()), Some(What::Honest(at))),
        };
        story.add(self, begins);
        for _ in 0..self.between(1, 2) {
            if self.one_in(4) {
                story.add(self, What::Repair(Act::default()));
            } else {
                let backup = self.backup(story, true);
                story.add(self, What::Backup(backup));
            }
        }
        if let Some(ends) = ends {
            story.add(self, ends);
        }
    }

    fn weather(&mut self, story: &Story) -> Weather {
        let location = self.one_in(2).then(|| self.location(story));
        let strength = [10, 50, 200][self.below(3) as usize];
        let mut weather = Weather { location, ..Weather::default() };
        let kinds: [&mut u16; 10] = [
            &mut weather.lost,
            &mut weather.timeout_landed,
            &mut weather.timeout_late,
            &mut weather.twice,
            &mut weather.vanishes,
            &mut weather.wrong,
            &mut weather.other,
            &mut weather.short,
            &mut weather.unseen,
            &mut weather.stale,
        ];
        for rate in kinds {
            if self.one_in(3) {
                *rate = self.below(strength) as u16;
            }
        }
        if self.one_in(6) {
            weather.slow_seconds = self.between(1, 30) as u16;
        }
        weather
    }
}
