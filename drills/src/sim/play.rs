//! A scenario is played: acts of the machine under test, faults of the locations,
//! and after every step the oracles.
//!
//! What always holds: what the oracles call a failure no fault excuses. A fault
//! that would leave more domains lost or lying at once than the vault declares is
//! held back, unless the scenario says that it goes beyond.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use vault_format::{PackId, PointId, names};
use vault_ops::audit::AuditOptions;
use vault_ops::backup::{BackupReport, Standing};

use super::disks::{LocalDisk, sync_point};
use super::graves::{Graves, Opened};
use super::judge::{Fate, Judge, Pin, Reported, lose};
use super::ledger::{Domains, Plan, bad_domains, forgive, manifests, standing};
use super::machine::{Machine, Then, Trap, keys, new_vault};
use super::scenario::{Act, Audit, Backup, Catalog, Check, Crash, Restore, Scenario, Step, Weather, What};
use super::sites::{Counts, Site, Sites, Who};
use super::timeline::{Ended, Timeline};

mod ending;
mod house;

const MINUTE_US: u64 = 60_000_000;
const DAY_US: u64 = 24 * 60 * MINUTE_US;

/// What a play showed.
#[derive(Debug, Default)]
pub struct Played {
    /// What no fault excuses; none if all is well.
    pub failure: Option<String>,
    /// What happened, line by line.
    pub lines: Vec<String>,
    /// Faults injected.
    pub faults: Counts,
    /// Acts, and how they ended; points checked.
    pub sums: Counts,
}

/// Plays a scenario; the machine's files go into `folder`.
pub(super) fn play(scenario: &Scenario, folder: &Path) -> Played {
    let mut play = match Play::begin(scenario, folder) {
        Ok(play) => play,
        Err(why) => return Played { failure: Some(why), ..Played::default() },
    };
    let failure = play.all(scenario).err();
    let mut state = play.sites.state();
    Played {
        failure,
        lines: std::mem::take(&mut play.lines),
        faults: std::mem::take(&mut state.counts),
        sums: play.sums,
    }
}

#[expect(clippy::struct_excessive_bools, reason = "what a story has and what befell it, each by itself")]
struct Play<'a> {
    timeline: Arc<Timeline>,
    sites: Arc<Sites>,
    machine: Machine,
    janitor: Machine,
    plan: Plan,
    folder: &'a Path,
    empty: Vec<Site>,
    dice: ChaCha8Rng,
    content: Vec<u8>,
    tried: Vec<Arc<Vec<u8>>>,
    points: Vec<Reported>,
    /// How many points were reported before each run that ended without a report: it
    /// may have left one that stands.
    unreported: Vec<usize>,
    /// Points that were said to wait in the spool.
    spooled: BTreeMap<PointId, Arc<Vec<u8>>>,
    opened: Opened,
    /// Points were to be forgotten: what they needed may be gone.
    forgot: bool,
    /// The janitor has work in this story.
    has_janitor: bool,
    /// What the last garbage collection said, if it refused.
    gc_refuses: Option<String>,
    /// The domain with the clock that jumped: one at most.
    odd_clock: Option<usize>,
    beyond: bool,
    /// An old copy of the catalog comes back some time.
    keeps_copies: bool,
    /// More was lost at once than the vault declares.
    exceeded: bool,
    lines: Vec<String>,
    sums: Counts,
}

impl<'a> Play<'a> {
    fn begin(scenario: &Scenario, folder: &'a Path) -> Result<Self, String> {
        let seed = scenario.seed.unsigned_abs();
        let timeline = Arc::new(Timeline::default());
        let empty = new_vault(&scenario.vault)?;
        let sites = Sites::new(Arc::clone(&timeline), empty.clone(), seed ^ 1);
        plug_disks(scenario, &sites)?;
        let machine = Machine::new(&timeline, folder, seed ^ 2);
        let janitor = Machine::of_the_janitor(&timeline, folder, seed ^ 4).map_err(|error| error.to_string())?;
        Ok(Self {
            janitor,
            machine: if scenario.spool { machine.with_spool(&timeline) } else { machine },
            plan: Plan::new(&scenario.vault, keys().public.vault),
            sites,
            timeline,
            folder,
            empty,
            dice: ChaCha8Rng::seed_from_u64(seed ^ 3),
            content: Vec::new(),
            tried: Vec::new(),
            points: Vec::new(),
            unreported: Vec::new(),
            spooled: BTreeMap::new(),
            opened: Opened::default(),
            forgot: false,
            has_janitor: scenario.steps.iter().any(|step| step.what.is_of_the_house()),
            gc_refuses: None,
            odd_clock: None,
            beyond: scenario.beyond,
            keeps_copies: scenario.steps.iter().any(|step| step.what.restores_catalog()),
            exceeded: false,
            lines: Vec::new(),
            sums: Counts::new(),
        })
    }

    fn all(&mut self, scenario: &Scenario) -> Result<(), String> {
        let goes_back = |step: &Step| matches!(step.what, What::Rollback(_) | What::Freeze(_));
        let remembers = scenario.steps.iter().any(goes_back);
        for (number, step) in scenario.steps.iter().enumerate() {
            self.timeline.pass_until(step.at_minutes * MINUTE_US);
            if remembers {
                let mut state = self.sites.state();
                for site in &mut state.sites {
                    site.history.push(site.objects.clone());
                }
            }
            let told = self.step(&step.what).map_err(|why| format!("step {}: {why}", number + 1))?;
            self.lines.push(format!("{:>3}. {:>6} min  {told}", number + 1, step.at_minutes));
            self.after_step().map_err(|why| format!("after step {}: {why}", number + 1))?;
        }
        self.ten_days().map_err(|why| format!("after the faults stopped: {why}"))
    }

    fn count(&mut self, what: &'static str) {
        *self.sums.entry(what).or_default() += 1;
    }

    fn site(&self, name: &str) -> Result<usize, String> {
        let state = self.sites.state();
        let found = state.sites.iter().position(|site| site.name == name);
        found.ok_or_else(|| format!("the scenario names a location \"{name}\" the vault does not have"))
    }

    fn step(&mut self, what: &What) -> Result<String, String> {
        match what {
            What::Backup(backup) => self.backup(backup),
            What::Repair(act) => self.repair(act),
            What::Deliver(act) => self.deliver(act),
            What::Audit(audit) => self.audit(audit),
            What::Restore(restore) => self.restore(restore),
            What::Check(check) => self.check(check),
            What::Weather(weather) => self.weather(weather),
            What::Down(at) => self.trouble("down", &at.location, |state, at| state.sites[at].down = true),
            What::Up(at) => self.relief("up", &at.location, |site| site.down = false),
            What::Full(at) => self.relief("full", &at.location, |site| site.full = true),
            What::Space(at) => self.relief("space", &at.location, |site| site.full = false),
            What::Wipe(at) => self.trouble("wipe", &at.location, super::sites::State::wipe),
            What::Rot(rot) => self.trouble("rot", &rot.location, |state, at| state.rot(at, rot)),
            What::Rollback(back) => self.trouble("rollback", &back.location, |state, at| {
                state.go_back(at, back.steps as usize, false);
            }),
            What::Freeze(back) => {
                self.trouble("freeze", &back.location, |state, at| state.go_back(at, back.steps as usize, true))
            }
            What::Thaw(at) => self.relief("thaw", &at.location, |site| site.shown = None),
            What::Spoil(at) => self.trouble("spoil", &at.location, |state, at| state.sites[at].spoils = true),
            What::Honest(at) => self.relief("honest", &at.location, |site| site.spoils = false),
            What::Forget(forget) => self.forget(forget),
            What::TrashRestore(pick) => self.bring_back(pick),
            What::TrashPurge(pick) => self.purge(pick),
            What::Pin(pick) => self.pin(pick, true),
            What::Unpin(pick) => self.pin(pick, false),
            What::Gc(gc) => self.gc(gc),
            What::Heartbeat(act) => self.heartbeat(act),
            What::Scrub(act) => self.scrub(act),
            What::SiteClock(jump) => self.site_clock(jump),
            What::Clock(jump) => {
                self.timeline.skew(i64::from(jump.days) * 86_400_000);
                self.sites.state().count_step("clock jump");
                Ok(format!("the clock jumps {} days", jump.days))
            }
            What::Catalog(catalog) => {
                self.catalog(Who::Writer, *catalog);
                Ok(format!("the catalog is {catalog:?}"))
            }
            What::Calm(_) => {
                self.calm();
                Ok("calm".to_owned())
            }
        }
    }

    fn bad(&self) -> Domains {
        bad_domains(&self.plan, &self.sites.state())
    }

    /// A fault that counts against what the vault declares to survive.
    fn trouble(
        &mut self,
        what: &str,
        location: &str,
        strike: impl FnOnce(&mut super::sites::State, usize),
    ) -> Result<String, String> {
        let at = self.site(location)?;
        if self.sites.state().sites[at].disk.is_some() && what != "down" {
            return Ok(format!("{what} {location}: held back, it is a disk of the machine"));
        }
        let with = self.bad() | 1 << self.plan.domain[at];
        if with.count_ones() > self.plan.survive && !self.beyond {
            self.count("faults held back");
            return Ok(format!("{what} {location}: held back, {} domains are in trouble", with.count_ones() - 1));
        }
        strike(&mut self.sites.state(), at);
        Ok(format!("{what} {location}"))
    }

    fn relief(&mut self, what: &str, location: &str, change: impl FnOnce(&mut Site)) -> Result<String, String> {
        let at = self.site(location)?;
        change(&mut self.sites.state().sites[at]);
        Ok(format!("{what} {location}"))
    }

    fn weather(&mut self, weather: &Weather) -> Result<String, String> {
        let only = weather.location.as_deref().map(|name| self.site(name)).transpose()?;
        for (at, site) in self.sites.state().sites.iter_mut().enumerate() {
            if only.is_none_or(|only| only == at) {
                site.weather = Weather { location: None, ..weather.clone() };
            }
        }
        Ok(format!("weather: {weather:?}"))
    }

    fn calm(&mut self) {
        for site in &mut self.sites.state().sites {
            site.weather = Weather::default();
            (site.down, site.full, site.spoils, site.shown) = (false, false, false, None);
        }
        self.timeline.set_right();
    }

    fn catalog(&mut self, whose: Who, catalog: Catalog) {
        let machine = self.machine_of(whose);
        match catalog {
            Catalog::Kept => {}
            Catalog::Lost => machine.lose_catalog(),
            Catalog::Old => machine.old_catalog(),
        }
    }

    fn machine_of(&mut self, who: Who) -> &mut Machine {
        match who {
            Who::Writer => &mut self.machine,
            Who::Janitor => &mut self.janitor,
        }
    }

    /// Runs an act of the writer's machine; `None` if it crashed.
    fn act<T>(
        &mut self,
        crash: Option<&Crash>,
        work: impl AsyncFnOnce(&mut Machine, &Arc<Sites>) -> vault_ops::Result<T>,
    ) -> Result<Option<vault_ops::Result<T>>, String> {
        self.act_of(Who::Writer, crash, async |machine, _, sites| work(machine, sites).await)
    }

    /// Runs an act of one machine, which may use the other; `None` if it crashed.
    fn act_of<T>(
        &mut self,
        who: Who,
        crash: Option<&Crash>,
        work: impl AsyncFnOnce(&mut Machine, &mut Machine, &Arc<Sites>) -> vault_ops::Result<T>,
    ) -> Result<Option<vault_ops::Result<T>>, String> {
        let at_request = crash.filter(|crash| crash.request > 0);
        self.sites.begin_act(who, at_request.map(|crash| (u64::from(crash.request), crash.after)));
        let at_step = crash.and_then(|crash| Some((crash.step.clone()?, crash.passes)));
        let keeps_copies = self.keeps_copies;
        let machine = self.machine_of(who);
        machine.set_trap(at_step.map(|(step, passes)| Trap { step, passes, then: Then::Dies }));
        if keeps_copies {
            machine.copy_catalog();
        }
        let (machine, other) = match who {
            Who::Writer => (&mut self.machine, &mut self.janitor),
            Who::Janitor => (&mut self.janitor, &mut self.machine),
        };
        let ended = self.timeline.run(work(machine, other, &self.sites));
        self.sites.begin_act(who, None);
        self.machine_of(who).set_trap(None);
        match ended {
            Ended::Done(done) => Ok(Some(done)),
            Ended::Crashed => {
                self.count("crashes");
                self.machine_of(who).forget_open_catalog();
                if who == Who::Writer {
                    self.sites.crash_disks()?;
                }
                self.catalog(who, crash.map_or(Catalog::Kept, |crash| crash.catalog));
                Ok(None)
            }
            Ended::Stuck => Err("it waits for something that never happens".to_owned()),
        }
    }

    fn backup(&mut self, backup: &Backup) -> Result<String, String> {
        if let Some(at) = self.tried.len().checked_sub(backup.again as usize).filter(|_| backup.again > 0) {
            self.content.clone_from(&self.tried[at]);
        }
        self.change_content(backup.bytes as usize, usize::from(backup.changed));
        let content = Arc::new(self.content.clone());
        self.tried.push(Arc::clone(&content));
        let bytes = content.to_vec();
        let mut told = Vec::new();
        let done = match &backup.meanwhile {
            None => self.act(backup.crash.as_ref(), async |machine, sites| machine.backup(sites, bytes).await)?,
            Some(meanwhile) => self.slept_through(backup.crash.as_ref(), meanwhile, bytes, &mut told)?,
        };
        self.lines.append(&mut told);
        if !matches!(done, Some(Ok(_))) {
            self.unreported.push(self.points.len());
        }
        Ok(match done {
            None => "backup: crashed".to_owned(),
            Some(Err(error)) => {
                self.count("backups refused");
                format!("backup: {error}")
            }
            Some(Ok(report)) => {
                self.delivered(&report.delivered, report.manifest)?;
                if report.standing() == Standing::Spooled {
                    self.spooled.insert(report.point, content);
                    self.count("points spooled");
                } else {
                    self.reported(report.point, report.manifest, content, !report.is_full())?;
                    self.count("points reported");
                }
                describe(&report)
            }
        })
    }

    /// Points that were spooled stand at the locations now, before this place.
    fn delivered(&mut self, points: &[PointId], position: (u64, u64)) -> Result<(), String> {
        for id in points {
            if let Some(bytes) = self.spooled.remove(id) {
                self.reported(*id, position, bytes, true)?;
                self.count("points delivered");
            }
        }
        Ok(())
    }

    /// The ledger takes note of a point that was said to be durable.
    fn reported(&mut self, id: PointId, position: (u64, u64), bytes: Arc<Vec<u8>>, owes: bool) -> Result<(), String> {
        let needs = self.opened.needs(&self.sites.state(), id);
        let needs = needs.ok_or_else(|| format!("point {id} was reported, and no manifest of it was ever written"))?;
        self.points.push(Reported { id, position, bytes, owes, needs, fate: Fate::Live, pin: Pin::default() });
        Ok(())
    }

    fn deliver(&mut self, act: &Act) -> Result<String, String> {
        let done = self.act(act.crash.as_ref(), async |machine, sites| machine.deliver(sites).await)?;
        Ok(match done {
            None => "deliver: crashed".to_owned(),
            Some(Err(error)) => format!("deliver: {error}"),
            Some(Ok(delivery)) => {
                // Its place is not told; what was reported before it is checked by its own.
                self.delivered(&delivery.delivered, (0, 0))?;
                if delivery.left == 0 {
                    // A run that died may have delivered what it could not tell of.
                    let rest: Vec<PointId> = self.spooled.keys().copied().collect();
                    self.delivered(&rest, (0, 0))?;
                }
                self.stuck(&delivery);
                let points: Vec<_> =
                    delivery.delivered.iter().map(|&point| vault_ops::points::point_text(point)).collect();
                format!(
                    "deliver: {points:?} delivered, {} left, stuck {:?}, {:?}",
                    delivery.left, delivery.stuck, delivery.why
                )
            }
        })
    }

    fn change_content(&mut self, bytes: usize, of_thousand: usize) {
        let grown = self.content.len()..bytes;
        self.content.resize(bytes, 0);
        if !grown.is_empty() {
            self.dice.fill_bytes(&mut self.content[grown]);
        }
        let count = bytes * of_thousand / 1000;
        if count > 0 {
            let start = self.dice.next_u64() as usize % (bytes - count + 1);
            let changed = &mut self.content[start..start + count];
            self.dice.fill_bytes(changed);
            // Some of it compresses.
            let plain = changed.len() / 3;
            changed[..plain].fill(b'x');
        }
    }

    fn repair(&mut self, act: &Act) -> Result<String, String> {
        let done = self.act(act.crash.as_ref(), async |machine, sites| machine.repair(sites).await)?;
        self.count("repairs");
        Ok(match done {
            None => "repair: crashed".to_owned(),
            Some(Err(error)) => format!("repair: {error}"),
            Some(Ok((plan, report))) => format!(
                "repair: {} shards and {} records planned, {} and {} written, failed {:?}, lost {:?}",
                plan.shards.len(),
                plan.records.len(),
                report.shards.len(),
                report.records,
                report.failed,
                report.lost
            ),
        })
    }

    fn audit(&mut self, audit: &Audit) -> Result<String, String> {
        let options = AuditOptions { samples: audit.samples as usize, location: None, full: audit.full };
        let done = self.act(audit.crash.as_ref(), async |machine, sites| machine.audit(sites, &options).await)?;
        self.count("audits");
        Ok(match done {
            None => "audit: crashed".to_owned(),
            Some(Err(error)) => format!("audit: {error}"),
            Some(Ok(report)) => format!("audit: {:?}, {} findings", report.worst(), report.findings.len()),
        })
    }

    /// A restore in the weather as it is: an error, or the truth.
    fn restore(&mut self, restore: &Restore) -> Result<String, String> {
        let Some(at) = self.points.len().checked_sub(restore.back as usize + 1) else {
            return Ok("restore: there is no such point".to_owned());
        };
        let point = self.points[at].clone();
        let seed = self.dice.next_u64();
        let failed = self.judge().none_is_wrong(&self.sites, &[point], seed)?;
        self.count("restores in the weather");
        Ok(format!("restore: {}", if failed == 0 { "equal" } else { "an error" }))
    }

    fn judge(&self) -> Judge<'_> {
        Judge { timeline: &self.timeline, folder: self.folder }
    }

    /// The ledger after every step: what was reported can be lost by no d domains.
    fn after_step(&mut self) -> Result<(), String> {
        let mut state = self.sites.state();
        forgive(&self.plan, &mut state);
        if let Some(misdeed) = state.misdeeds.first() {
            return Err(misdeed.clone());
        }
        let bad = bad_domains(&self.plan, &state);
        self.exceeded |= bad.count_ones() > self.plan.survive;
        if self.exceeded {
            return Ok(());
        }
        let Some(newest) = self.points.iter().map(|point| point.position).max() else { return Ok(()) };
        let standing = standing(&self.plan, &state);
        let graves = Graves::read(&self.plan, &state);
        let mut needed = self.needed();
        if let Some(pack) = needed.intersection(&graves.packs).next() {
            return Err(format!("pack {} of a reported point is said to be gone", pack.short()));
        }
        if !self.forgot {
            // Nothing may go then, whoever needs it.
            needed.extend(packs_up_to(&manifests(&state, &graves), newest));
        }
        for lost in self.plan.losses(bad) {
            if let Some(pack) = needed.iter().find(|&&pack| !standing.keeps(&self.plan, pack, lost)) {
                return Err(format!(
                    "pack {} of a reported point does not survive the loss of {} domains ({lost:b}, {bad:b} bad already; \
                     it stands as {:?})",
                    pack.short(),
                    lost.count_ones(),
                    standing.packs.get(pack)
                ));
            }
        }
        Ok(())
    }

    /// The oracles look at everything, with domains lost up to the declared number.
    fn check(&mut self, check: &Check) -> Result<String, String> {
        self.count("checks");
        let mut lost = self.bad();
        if check.lose.is_empty() {
            self.lose_more(&mut lost);
        } else {
            let state = self.sites.state();
            for (site, domain) in state.sites.iter().zip(&self.plan.domain) {
                lost |= u32::from(check.lose.contains(&site.domain)) << domain;
            }
        }
        self.look(lost)?;
        Ok(format!("check: {} points, domains {lost:b} lost", self.points.len()))
    }

    /// Packs of points that must restore.
    fn needed(&self) -> BTreeSet<PackId> {
        let now_us = self.timeline.now_us();
        let points = self.points.iter().filter(|point| point.must_restore(now_us));
        points.flat_map(|point| point.needs.iter().copied()).collect()
    }

    fn lose_more(&mut self, lost: &mut Domains) {
        for _ in 0..self.plan.domains * 2 {
            let more = *lost | 1 << (self.dice.next_u64() % self.plan.domains as u64);
            if more.count_ones() <= self.plan.survive {
                *lost = more;
            }
        }
    }

    fn look(&mut self, lost: Domains) -> Result<(), String> {
        let within = !self.exceeded && lost.count_ones() <= self.plan.survive;
        let bad = self.bad();
        let fork = lose(&self.sites, &self.plan, lost & !bad, &self.empty, &mut self.dice);
        let (seed, points) = (self.dice.next_u64(), self.points.clone());
        *self.sums.entry("points checked").or_default() += points.len() as u64;
        if !within {
            self.judge().none_is_wrong(&fork, &points, seed)?;
            return Ok(());
        }
        self.judge().all_restore(&fork, &points, seed).map_err(|why| format!("domains {lost:b} lost: {why}"))?;
        if self.dice.next_u32().is_multiple_of(8) {
            self.count("checks from bare shards");
            let judged = self.judge().bare_shards_suffice(&fork, &points, seed);
            judged.map_err(|why| format!("domains {lost:b} lost: {why}"))?;
        }
        Ok(())
    }
}

/// Locations that are folders get their disks, with what stands there already.
fn plug_disks(scenario: &Scenario, sites: &Sites) -> Result<(), String> {
    let without = match &scenario.without_sync {
        None => None,
        Some(name) => Some(sync_point(name).ok_or_else(|| format!("no sync is called \"{name}\""))?),
    };
    let mut state = sites.state();
    for (number, site) in
        state.sites.iter_mut().enumerate().filter(|(number, _)| scenario.vault.locations[*number].disk)
    {
        // What stands there already was synced before the world began.
        let disk = LocalDisk::new(number as u64, &site.objects, without)?;
        site.disk = Some(disk);
    }
    Ok(())
}

fn packs_up_to(manifests: &BTreeMap<Arc<str>, BTreeSet<PackId>>, newest: (u64, u64)) -> BTreeSet<PackId> {
    let reached =
        |name: &str| names::parse_manifest(name).is_some_and(|(_, epoch, sequence)| (epoch, sequence) <= newest);
    manifests.iter().filter(|(name, _)| reached(name)).flat_map(|(_, packs)| packs.iter().copied()).collect()
}

fn describe(report: &BackupReport) -> String {
    let text = vault_ops::points::point_text;
    format!(
        "backup: point {} {:?}, manifest {}.{}, {} packs new, {} reused, {} debts, manifest owed to {}, delivered {:?}{}",
        text(report.point),
        report.standing(),
        report.manifest.0,
        report.manifest.1,
        report.packs_new,
        report.packs_reused,
        report.debts.len(),
        report.manifest_owed.len(),
        report.delivered.iter().map(|&point| text(point)).collect::<Vec<_>>(),
        report.spooled.as_ref().map(|spooled| format!(", {}", spooled.why)).unwrap_or_default()
    )
}
