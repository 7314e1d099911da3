//! What a story forgets, brings back and collects, and what the ledger makes of it.
//!
//! What always holds: a point is only let go when the command that forgot it came to
//! its end and its time in the trash is over in true time; of a command that failed
//! or died the ledger believes neither that it worked nor that it did not.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join;
use vault_format::{PackId, PointId};
use vault_ops::backup::BackupReport;
use vault_ops::forget::NEWEST_DEFAULT;
use vault_ops::gc::GcReport;
use vault_ops::heartbeat::Beat;
use vault_ops::points::point_text;
use vault_ops::spool::Delivery;

use super::{DAY_US, MINUTE_US, Play};
use crate::sim::graves::{Graves, pending};
use crate::sim::janitor::Chosen;
use crate::sim::judge::{Fate, Pin};
use crate::sim::ledger::{is_right, packs_of};
use crate::sim::machine::{Then, Trap};
use crate::sim::scenario::{Act, Backup, Crash, Forget, Gc, Meanwhile, Pick, SiteClock};
use crate::sim::sites::Who;

const DAY_MS: i64 = 86_400_000;

impl Play<'_> {
    pub(super) fn forget(&mut self, forget: &Forget) -> Result<String, String> {
        let live: Vec<PointId> =
            self.points.iter().filter(|point| point.fate == Fate::Live).map(|point| point.id).collect();
        let chosen = match forget.keep_daily {
            0 => Chosen::Named(live.iter().copied().take(forget.oldest as usize).collect()),
            days => Chosen::Daily(days),
        };
        let begun_us = self.timeline.now_us();
        let (grace_ms, mut planned) = (i64::from(forget.days) * DAY_MS, Vec::new());
        self.forgot = true;
        let done = self.act_of(Who::Janitor, forget.crash.as_ref(), async |janitor, _, sites| {
            janitor.forget(sites, &chosen, grace_ms, &mut planned).await
        })?;
        let pinned = self.points.iter().find(|point| point.pin.sure && planned.contains(&point.id));
        if let Some(point) = pinned {
            return Err(format!("{} would be forgotten, and is pinned", point_text(point.id)));
        }
        if let Chosen::Daily(_) = chosen
            && let Some(point) = self.surely_newest().into_iter().find(|id| planned.contains(id))
        {
            return Err(format!("retention would forget {}, one of the newest", point_text(point)));
        }
        let sure = matches!(done, Some(Ok(_)));
        let until_us = begun_us + u64::from(forget.days.max(1)) * DAY_US;
        for point in self.points.iter_mut().filter(|point| planned.contains(&point.id)) {
            point.fate = match point.fate {
                // Forgotten twice, for who knows whether it was: the later time counts, if at all.
                Fate::Forgotten { until_us: before, sure: was } => {
                    Fate::Forgotten { until_us: before.max(until_us), sure: sure || was }
                }
                Fate::Live => Fate::Forgotten { until_us, sure },
            };
        }
        *self.sums.entry("points forgotten").or_default() += if sure { planned.len() as u64 } else { 0 };
        let points: Vec<_> = planned.iter().copied().map(point_text).collect();
        Ok(match done {
            None => format!("forget {points:?}: crashed"),
            Some(Err(error)) => format!("forget {points:?}: {error}"),
            Some(Ok(any)) => format!("forget {points:?} for {} days: {any}", forget.days),
        })
    }

    /// Of more points than always stay, those that are among the newest whatever the
    /// runs left that could not report.
    fn surely_newest(&self) -> Vec<PointId> {
        let live: Vec<usize> = (0..self.points.len()).filter(|&at| self.points[at].fate == Fate::Live).collect();
        let newest = live.iter().rev().enumerate().filter(|(newer, at)| {
            let silent = self.unreported.iter().filter(|&&before| before > **at).count();
            live.len() > NEWEST_DEFAULT && newer + silent < NEWEST_DEFAULT
        });
        newest.map(|(_, &at)| self.points[at].id).collect()
    }

    /// A point of the trash, by when it was forgotten.
    fn picked(&self, pick: &Pick) -> Option<usize> {
        let trash: Vec<usize> = (0..self.points.len()).filter(|&at| self.points[at].is_forgotten()).collect();
        trash.iter().rev().nth(pick.back as usize).copied()
    }

    pub(super) fn bring_back(&mut self, pick: &Pick) -> Result<String, String> {
        let Some(at) = self.picked(pick) else { return Ok("trash restore: there is nothing".to_owned()) };
        let id = self.points[at].id;
        let began_us = self.timeline.now_us();
        let done = self
            .act_of(Who::Janitor, pick.crash.as_ref(), async |janitor, _, sites| janitor.bring_back(sites, id).await)?;
        let name = point_text(id);
        let Fate::Forgotten { until_us, .. } = self.points[at].fate else { return Ok(String::new()) };
        self.points[at].fate = match done {
            Some(Ok(())) => Fate::Live,
            Some(Err(_)) | None => Fate::Forgotten { until_us, sure: false },
        };
        Ok(match done {
            None => format!("trash restore {name}: crashed"),
            Some(Ok(())) => {
                self.count("points brought back");
                format!("trash restore {name}")
            }
            Some(Err(vault_ops::OpsError::Lost { what })) if began_us < until_us && !self.exceeded => {
                return Err(format!("trash restore {name}, within its grace: {what}"));
            }
            Some(Err(error)) => format!("trash restore {name}: {error}"),
        })
    }

    pub(super) fn purge(&mut self, pick: &Pick) -> Result<String, String> {
        let Some(at) = self.picked(pick) else { return Ok("trash purge: there is nothing".to_owned()) };
        let id = self.points[at].id;
        let done =
            self.act_of(Who::Janitor, pick.crash.as_ref(), async |janitor, _, sites| janitor.purge(sites, id).await)?;
        // It may go at once; if the command failed, it may as well wait for its time.
        self.points[at].fate = Fate::Forgotten { until_us: 0, sure: matches!(done, Some(Ok(()))) };
        self.count("points purged");
        Ok(match done {
            None => format!("trash purge {}: crashed", point_text(id)),
            Some(Ok(())) => format!("trash purge {}", point_text(id)),
            Some(Err(error)) => format!("trash purge {}: {error}", point_text(id)),
        })
    }

    /// The owner pins a point that is not surely in the trash, or unpins one that may be pinned.
    pub(super) fn pin(&mut self, pick: &Pick, pinned: bool) -> Result<String, String> {
        let fits = |at: &usize| {
            let point = &self.points[*at];
            if pinned { !point.is_forgotten() } else { point.pin.sure || point.pin.odd }
        };
        let fitting: Vec<usize> = (0..self.points.len()).filter(fits).collect();
        let word = if pinned { "pin" } else { "unpin" };
        let Some(&at) = fitting.iter().rev().nth(pick.back as usize) else {
            return Ok(format!("{word}: there is nothing"));
        };
        let id = self.points[at].id;
        let done = self.act_of(Who::Janitor, pick.crash.as_ref(), async |janitor, _, sites| {
            janitor.pin(sites, id, pinned).await
        })?;
        let before = self.points[at].pin;
        self.points[at].pin = match &done {
            Some(Ok(())) => Pin { sure: pinned, odd: before.odd },
            // Pinned it stays pinned; not to be unpinned once an unpin may have been heard.
            Some(Err(_)) | None => Pin { sure: before.sure && pinned, odd: true },
        };
        Ok(match done {
            None => format!("{word} {}: crashed", point_text(id)),
            Some(Ok(())) => {
                self.count(if pinned { "points pinned" } else { "points unpinned" });
                format!("{word} {}", point_text(id))
            }
            Some(Err(error)) => format!("{word} {}: {error}", point_text(id)),
        })
    }

    pub(super) fn gc(&mut self, gc: &Gc) -> Result<String, String> {
        let orphans = gc.orphans;
        let done =
            self.act_of(Who::Janitor, gc.crash.as_ref(), async |janitor, _, sites| janitor.gc(sites, orphans).await)?;
        self.count("garbage collections");
        Ok(match done {
            None => "gc: crashed".to_owned(),
            Some(done) => self.collected(&done),
        })
    }

    fn collected(&mut self, done: &vault_ops::Result<GcReport>) -> String {
        self.gc_refuses = done.as_ref().err().map(|error| format!("a garbage collection: {error}"));
        match done {
            Err(error) => {
                self.count("garbage collections refused");
                format!("gc: {error}")
            }
            Ok(report) => {
                for (what, count) in [
                    ("packs condemned", report.condemned),
                    ("packs swept", report.swept),
                    ("packs brought back by the janitor", report.revived),
                    ("writers fenced", report.fenced),
                    ("manifests swept", report.manifests),
                ] {
                    *self.sums.entry(what).or_default() += count as u64;
                }
                format!("gc: {report:?}")
            }
        }
    }

    pub(super) fn heartbeat(&mut self, act: &Act) -> Result<String, String> {
        let done = self.act(act.crash.as_ref(), async |machine, sites| machine.heartbeat(sites).await)?;
        Ok(match done {
            None => "heartbeat: crashed".to_owned(),
            Some(Err(error)) => format!("heartbeat: {error}"),
            Some(Ok(beat)) => {
                self.count("heartbeats");
                format!("heartbeat: {beat:?}")
            }
        })
    }

    pub(super) fn scrub(&mut self, act: &Act) -> Result<String, String> {
        let done = self.act(act.crash.as_ref(), async |machine, sites| machine.scrub(sites).await)?;
        Ok(match done {
            None => "scrub: crashed".to_owned(),
            Some(Err(error)) => format!("scrub: {error}"),
            Some(Ok(report)) => {
                self.count("slices scrubbed");
                let read: usize = report.locations.iter().map(|line| line.read).sum();
                format!("scrub: {:?}, {read} shards read, {} findings", report.worst(), report.findings.len())
            }
        })
    }

    /// A clock that jumps is one domain's in a story, and two others are right: no more
    /// is promised.
    pub(super) fn site_clock(&mut self, jump: &SiteClock) -> Result<String, String> {
        let at = self.site(&jump.location)?;
        let domain = self.plan.domain[at];
        if self.plan.domains < 3 || self.odd_clock.is_some_and(|odd| odd != domain) {
            self.count("faults held back");
            return Ok(format!("clock of {}: held back", jump.location));
        }
        self.odd_clock = Some(domain);
        let mut state = self.sites.state();
        state.sites[at].clock_us += i64::from(jump.days) * DAY_MS * 1000;
        state.count_step("a location's clock jumped");
        Ok(format!("the clock of {} jumps {} days", jump.location, jump.days))
    }

    /// A backup whose machine sleeps while the janitor works.
    pub(super) fn slept_through(
        &mut self,
        crash: Option<&Crash>,
        meanwhile: &Meanwhile,
        bytes: Vec<u8>,
        told: &mut Vec<String>,
    ) -> Result<Option<vault_ops::Result<BackupReport>>, String> {
        let gcs = u64::from(meanwhile.gcs.max(1));
        let (request, step) = match &meanwhile.step {
            None => (u64::from(meanwhile.request), None),
            Some(step) => (u64::MAX, Some(step.clone())),
        };
        let nap_us = u64::from(meanwhile.hours) * 60 * MINUTE_US / gcs;
        let mut collected = Vec::new();
        let done = self.act_of(Who::Writer, crash, async |machine, janitor, sites| {
            let falls_asleep = sites.sleep_at(request);
            if let Some(step) = step {
                machine.add_trap(Trap { step, passes: 0, then: Then::Sleeps(Arc::clone(sites)) });
            }
            let backup = async {
                let done = machine.backup(sites, bytes).await;
                sites.wake();
                done
            };
            let works = async {
                if falls_asleep.await.is_ok() {
                    for _ in 0..gcs {
                        sites.timeline.wait(nap_us).await;
                        collected.push(janitor.gc(sites, false).await);
                    }
                    sites.wake();
                }
            };
            join(backup, works).await.0
        })?;
        if !collected.is_empty() {
            self.count("backups that slept through a garbage collection");
        }
        for done in &collected {
            told.push(format!("     while it sleeps: {}", self.collected(done)));
        }
        Ok(done)
    }

    /// A point that waits in the spool was never said to be durable; where it leaned on
    /// packs that were forgotten meanwhile, and its owner is told so, it is not missed.
    pub(super) fn stuck(&mut self, delivery: &Delivery) {
        for stuck in delivery.stuck.iter().filter(|_| self.forgot) {
            if stuck.point.is_some_and(|point| self.spooled.remove(&point).is_some()) {
                *self.sums.entry("spooled points whose ground was forgotten").or_default() += 1;
            }
        }
    }

    /// A day of a vault that is kept in order: a sign of life, and garbage collection.
    pub(super) fn keep_house(&mut self) -> Result<(String, String), String> {
        let done = self.act(None, async |machine, sites| machine.heartbeat(sites).await)?;
        let beat = match done {
            Some(Ok(beat @ Beat::Sent { .. })) => format!("{beat:?}"),
            Some(Ok(_)) => self.backup(&Backup { bytes: self.content.len() as u32, ..Backup::default() })?,
            Some(Err(error)) => format!("heartbeat: {error}"),
            None => "heartbeat: crashed".to_owned(),
        };
        Ok((beat, self.gc(&Gc::default())?))
    }

    /// What was surely forgotten, need not be kept any more at that time, is needed by
    /// nothing else and still takes space.
    pub(super) fn unfreed(&mut self, by_us: u64) -> Vec<String> {
        let over: BTreeSet<PointId> =
            self.points.iter().filter(|point| point.is_over(by_us)).map(|point| point.id).collect();
        if over.is_empty() {
            return Vec::new();
        }
        let state = self.sites.state();
        let graves = Graves::read(&self.plan, &state);
        let (mut kept, mut named) = (BTreeSet::<PackId>::new(), BTreeSet::<PackId>::new());
        let mut newest = None;
        for site in &state.sites {
            for (name, object) in site.objects.iter().filter(|(name, _)| name.starts_with("manifests/")) {
                if !is_right(&state, site, name, &object.bytes) || !graves.counts(name, &object.bytes) {
                    continue;
                }
                named.extend(packs_of(&object.bytes).unwrap_or_default());
                let place = vault_format::names::parse_manifest(name);
                newest = newest.max(place.map(|(_, epoch, sequence)| ((epoch, sequence), object.bytes.clone())));
                if let Some((point, needs)) = self.opened.of(&state, &object.bytes)
                    && !over.contains(point)
                {
                    kept.extend(needs);
                }
            }
        }
        kept.extend(newest.iter().flat_map(|(_, bytes)| pending(bytes)));
        for (name, contents) in &state.written {
            let gone = contents.iter().filter(|bytes| graves.is_gone(name, bytes));
            named.extend(gone.flat_map(|bytes| packs_of(bytes).unwrap_or_default()));
        }
        let points = self.points.iter().filter(|point| over.contains(&point.id));
        // What no manifest ever named as stored is not known to be anybody's.
        let free: BTreeSet<PackId> = points
            .flat_map(|point| point.needs.iter().copied())
            .filter(|pack| !kept.contains(pack) && named.contains(pack))
            .collect();
        let mut left = BTreeSet::new();
        for site in &state.sites {
            for name in site.objects.keys().filter(|name| name.starts_with("shards/")) {
                if let Some((_, pack, _)) = vault_format::names::parse_shard(name)
                    && free.contains(&pack)
                {
                    left.insert(format!("the space of {name} at {}, which was forgotten,", site.name));
                }
            }
        }
        left.into_iter().collect()
    }
}
