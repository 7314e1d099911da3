//! The daemon's jobs and what to do next: all of its state, and no IO. A job is a
//! policy's backup, or a chore: what keeps a vault whole.
//!
//! What always holds:
//! - Two jobs on one vault never overlap: they share one writer, whose chain of
//!   manifests has one next place, and one catalog.
//! - A failed run changes nothing but the time of the next attempt.
//! - Once it was asked to stop, nothing new is started.

use std::time::Duration;

use crate::schedule::{History, Jitter, due_ms};
use crate::status::{ChoreStatus, DaemonState, LastPoint, PolicyState, PolicyStatus, SpoolGauges, Status, VaultGauges};

/// Longest sleep. Timers stand still while a machine sleeps and do not follow a
/// clock that is set, so the time is looked at again this often.
const WAKE_MS_MAX: i64 = 30_000;

/// A chore that found something to mend, or did not come to its end, is followed
/// up after this time.
const SOON_MS: i64 = 60_000;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Makes a point of a policy's source.
    Backup,
    /// Rebuilds what is missing or wrong.
    Repair,
    /// Reads the next slice of everything.
    Scrub,
    /// Challenges the locations.
    Audit,
    /// Extends retention locks.
    Locks,
    /// Brings what waits in the spool to the locations, and shows that the writer lives.
    Deliver,
}

impl Work {
    /// As people and the status file call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Repair => "repair",
            Self::Scrub => "scrub",
            Self::Audit => "audit",
            Self::Locks => "locks",
            Self::Deliver => "deliver",
        }
    }
}

/// A job, ready to run: a policy's, or a vault's chore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPlan {
    /// Its name.
    pub name: String,
    /// Where to; one job at a time.
    pub vault: String,
    /// What is backed up; empty for a chore.
    pub source: String,
    /// What it does.
    pub work: Work,
    /// From the start of one run to the start of the next.
    pub interval: Duration,
    /// Where in the spread of all hosts it stands.
    pub jitter: Jitter,
}

/// What a run made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The point, as people write it.
    pub point: String,
    /// Kernel sequence or the like.
    pub position: u64,
    /// Whether everything is where it belongs.
    pub full: bool,
    /// Why the point is not durable and waits in the spool, if it does.
    pub spooled: Option<String>,
    /// Files that could not be read.
    pub unreadable: u64,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// What a chore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// For people; nothing is said if it is empty.
    pub line: String,
    /// Damage that a repair should look at.
    pub mend: bool,
    /// It did not come to its end: it goes on soon.
    pub again: bool,
    /// How the vault stands, if it was looked at.
    pub gauges: Option<VaultGauges>,
    /// What waits in the spool, if that was looked at.
    pub spool: Option<SpoolGauges>,
}

/// What a job did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A policy's point.
    Made(Made),
    /// A chore.
    Tended(Box<Tended>),
}

impl From<Tended> for Done {
    fn from(tended: Tended) -> Self {
        Self::Tended(Box::new(tended))
    }
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Time passed.
    Woke,
    /// A run ended, with its point or the reason why there is none.
    Ended { policy: usize, result: Result<Done, String> },
    /// Somebody wants the daemon to stop.
    StopAsked,
}

/// What to do about it, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Say a line to people.
    Say(String),
    /// Start a policy's run.
    Start(usize),
    /// Ask the runs under way to end.
    AskRunsToEnd,
    /// Write the status file.
    Publish,
    /// End the daemon.
    Quit,
}

struct Job {
    plan: PolicyPlan,
    history: History,
    last: Option<LastPoint>,
    error: Option<String>,
    running_since_ms: Option<i64>,
    /// It shall run by then, whatever its interval.
    soon_ms: Option<i64>,
}

impl Job {
    fn due_ms(&self, now_ms: i64) -> i64 {
        let due_ms = due_ms(self.plan.interval, self.plan.jitter, &self.history, now_ms);
        // After a failure the wait is for its retry.
        let soon_ms = self.soon_ms.filter(|_| self.history.failed_ms.is_none());
        // A time that a clock set back has put far away is not waited for.
        soon_ms.map_or(due_ms, |soon_ms| due_ms.min(soon_ms.min(now_ms.saturating_add(SOON_MS))))
    }

    /// A run ended well.
    fn succeeded(&mut self, began_ms: i64) {
        self.history = History { began_ms: Some(began_ms), failed_ms: None, failures: 0 };
        self.error = None;
        self.soon_ms = None;
    }
}

/// All jobs, and how the vaults stood when a chore last looked.
pub(crate) struct Agenda {
    jobs: Vec<Job>,
    vaults: Vec<VaultGauges>,
    stopping: bool,
}

impl Agenda {
    /// Jobs, with what an earlier daemon left about them.
    pub(crate) fn new(plans: Vec<PolicyPlan>, former: Option<&Status>) -> Self {
        let jobs = plans.into_iter().map(|plan| match plan.work {
            Work::Backup => policy_job(plan, former),
            Work::Repair | Work::Scrub | Work::Audit | Work::Locks | Work::Deliver => chore_job(plan, former),
        });
        let jobs: Vec<Job> = jobs.collect();
        let mut vaults = former.map(|status| status.vaults.clone()).unwrap_or_default();
        vaults.retain(|gauges| jobs.iter().any(|job| job.plan.vault == gauges.vault));
        Self { jobs, vaults, stopping: false }
    }

    /// A job by its number.
    pub(crate) fn plan(&self, policy: usize) -> &PolicyPlan {
        &self.jobs[policy].plan
    }

    /// How long nothing happens by itself.
    pub(crate) fn sleep(&self, now_ms: i64) -> Duration {
        let waiting = self.jobs.iter().filter(|job| !self.is_busy(&job.plan.vault));
        let next = waiting.map(|job| job.due_ms(now_ms).saturating_sub(now_ms)).min();
        let sleep_ms = next.filter(|_| !self.stopping).unwrap_or(WAKE_MS_MAX).clamp(0, WAKE_MS_MAX);
        Duration::from_millis(sleep_ms.unsigned_abs())
    }

    /// Takes in what happened and says what to do.
    pub(crate) fn apply(&mut self, event: Event, now_ms: i64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Woke => {}
            Event::Ended { policy, result } => actions.extend(self.end(policy, result, now_ms)),
            Event::StopAsked if self.stopping => {
                actions.push(Action::Say("asked again: stopping at once; what runs begins anew next time".into()));
                actions.push(Action::Quit);
                return actions;
            }
            Event::StopAsked => {
                self.stopping = true;
                actions.extend([Action::AskRunsToEnd, Action::Publish]);
            }
        }
        if self.stopping {
            let idle = self.jobs.iter().all(|job| job.running_since_ms.is_none());
            actions.extend(idle.then_some(Action::Quit));
        } else {
            actions.extend(self.start_due(now_ms));
        }
        actions
    }

    fn is_busy(&self, vault: &str) -> bool {
        self.jobs.iter().any(|job| job.running_since_ms.is_some() && job.plan.vault == vault)
    }

    /// Starts what is due, the longest overdue of each vault first.
    fn start_due(&mut self, now_ms: i64) -> Vec<Action> {
        let mut due: Vec<(bool, i64, usize)> = self
            .jobs
            .iter()
            .enumerate()
            .map(|(number, job)| (job.history != History::default(), job.due_ms(now_ms), number))
            .collect();
        due.retain(|(_, due_ms, _)| *due_ms <= now_ms);
        // What never ran has waited longest: else it would wait for ever behind a busy policy.
        due.sort_unstable();
        let mut actions = Vec::new();
        for (.., number) in due {
            if !self.is_busy(&self.jobs[number].plan.vault) {
                self.jobs[number].running_since_ms = Some(now_ms);
                actions.push(Action::Start(number));
            }
        }
        if !actions.is_empty() {
            actions.push(Action::Publish);
        }
        actions
    }

    fn end(&mut self, policy: usize, result: Result<Done, String>, now_ms: i64) -> Vec<Action> {
        let stopping = self.stopping;
        let job = &mut self.jobs[policy];
        let began_ms = job.running_since_ms.take().unwrap_or(now_ms);
        let PolicyPlan { name, source, vault, work, .. } = job.plan.clone();
        let what =
            if work == Work::Backup { format!("{name}: {source} -> {vault}") } else { format!("{name}: {vault}") };
        let (line, mend) = match result {
            Ok(Done::Made(Made { point, spooled: Some(why), .. })) => {
                // It is kept, and reading the source again would not make it safer.
                job.succeeded(began_ms);
                let line = format!("{what}: {point} is NOT DURABLE: kept in the spool of this host. {why}");
                job.error = Some(line.clone());
                (line, false)
            }
            Ok(Done::Made(made)) => {
                let mend = !made.full;
                let line = made_line(&what, &made, now_ms.saturating_sub(began_ms));
                let Made { point, position, full, unreadable, .. } = made;
                job.succeeded(began_ms);
                job.last = Some(LastPoint { point, position, began_ms, durable_ms: now_ms, full, unreadable });
                (line, mend)
            }
            Ok(Done::Tended(tended)) => {
                job.succeeded(began_ms);
                job.soon_ms = tended.again.then(|| now_ms.saturating_add(SOON_MS));
                self.remember(tended.gauges);
                self.remember_spool(&vault, tended.spool);
                (if tended.line.is_empty() { String::new() } else { format!("{what}: {}", tended.line) }, tended.mend)
            }
            Err(why) if stopping => (format!("{what}: ended unfinished, as asked: {why}"), false),
            Err(why) => {
                job.history.failures = job.history.failures.saturating_add(1);
                job.history.failed_ms = Some(now_ms);
                let (failures, wait_s) = (job.history.failures, job.due_ms(now_ms).saturating_sub(now_ms) / 1000);
                let missed = if work == Work::Backup { "NO POINT was made" } else { "NOT DONE" };
                let line = format!("{what}: {missed} (failure {failures} in a row): {why}. Next try in {wait_s} s");
                job.error = Some(why);
                (line, false)
            }
        };
        if mend {
            self.repair_soon(&vault, now_ms);
        }
        let say = (!line.is_empty()).then_some(Action::Say(line));
        say.into_iter().chain([Action::Publish]).collect()
    }

    /// What was found wrong, or is owed, does not wait for the hour.
    fn repair_soon(&mut self, vault: &str, now_ms: i64) {
        for job in &mut self.jobs {
            if job.plan.work == Work::Repair && job.plan.vault == vault && job.soon_ms.is_none() {
                job.soon_ms = Some(now_ms.saturating_add(SOON_MS));
            }
        }
    }

    fn remember(&mut self, gauges: Option<VaultGauges>) {
        let Some(gauges) = gauges else { return };
        self.vaults.retain(|known| known.vault != gauges.vault);
        self.vaults.push(gauges);
        self.vaults.sort_by(|a, b| a.vault.cmp(&b.vault));
    }

    /// What waits is looked at every minute, all the rest of a vault more rarely.
    fn remember_spool(&mut self, vault: &str, spool: Option<SpoolGauges>) {
        let Some(spool) = spool else { return };
        match self.vaults.iter_mut().find(|known| known.vault == vault) {
            Some(known) => known.spool = spool,
            None => self.remember(Some(VaultGauges { vault: vault.to_owned(), spool, ..VaultGauges::default() })),
        }
    }

    /// The status file's content.
    pub(crate) fn status(&self, now_ms: i64, stopped: bool) -> Status {
        let daemon = match (stopped, self.stopping) {
            (true, _) => DaemonState::Stopped,
            (false, true) => DaemonState::Stopping,
            (false, false) => DaemonState::Running,
        };
        let interval_ms = |job: &Job| u64::try_from(job.plan.interval.as_millis()).unwrap_or(u64::MAX);
        let state = |job: &Job| match (job.running_since_ms, job.history.failed_ms) {
            (Some(_), _) => PolicyState::Running,
            (None, Some(_)) => PolicyState::Failing,
            (None, None) => PolicyState::Waiting,
        };
        let (backups, chores): (Vec<&Job>, Vec<&Job>) = self.jobs.iter().partition(|job| job.plan.work == Work::Backup);
        let policies = backups.into_iter().map(|job| PolicyStatus {
            policy: job.plan.name.clone(),
            vault: job.plan.vault.clone(),
            source: job.plan.source.clone(),
            interval_ms: interval_ms(job),
            state: state(job),
            last: job.last.clone(),
            failed_ms: job.history.failed_ms,
            failures: job.history.failures,
            error: job.error.clone(),
            due_ms: job.due_ms(now_ms),
        });
        let chores = chores.into_iter().map(|job| ChoreStatus {
            chore: job.plan.name.clone(),
            vault: job.plan.vault.clone(),
            interval_ms: interval_ms(job),
            state: state(job),
            began_ms: job.history.began_ms,
            failed_ms: job.history.failed_ms,
            failures: job.history.failures,
            error: job.error.clone(),
            due_ms: job.due_ms(now_ms),
        });
        let chores = chores.collect();
        Status { chores, vaults: self.vaults.clone(), ..Status::new(now_ms, daemon, policies.collect()) }
    }
}

fn policy_job(plan: PolicyPlan, former: Option<&Status>) -> Job {
    let same = |status: &&PolicyStatus| {
        (&status.policy, &status.vault, &status.source) == (&plan.name, &plan.vault, &plan.source)
    };
    let known = former.and_then(|status| status.policies.iter().find(same));
    Job {
        history: known.map(PolicyStatus::history).unwrap_or_default(),
        last: known.and_then(|status| status.last.clone()),
        error: known.and_then(|status| status.error.clone()),
        running_since_ms: None,
        soon_ms: None,
        plan,
    }
}

fn chore_job(plan: PolicyPlan, former: Option<&Status>) -> Job {
    let same = |status: &&ChoreStatus| (&status.chore, &status.vault) == (&plan.name, &plan.vault);
    let known = former.and_then(|status| status.chores.iter().find(same));
    Job {
        history: known.map(ChoreStatus::history).unwrap_or_default(),
        last: None,
        error: known.and_then(|status| status.error.clone()),
        running_since_ms: None,
        soon_ms: None,
        plan,
    }
}

fn made_line(what: &str, made: &Made, took_ms: i64) -> String {
    let Made { point, full, unreadable, notes, .. } = made;
    let seconds = took_ms.max(0) / 1000;
    let place = if *full { "full" } else { "durable, with debts" };
    let notes = notes.iter().map(|note| format!(". {note}")).collect::<String>();
    format!("{what}: ok {point}, {place}, {unreadable} unreadable, {seconds} s{notes}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn plan(name: &str, vault: &str) -> PolicyPlan {
        let (name, vault, source) = (name.to_owned(), vault.to_owned(), format!("source of {name}"));
        let (work, interval) = (Work::Backup, Duration::from_hours(1));
        PolicyPlan { name, vault, source, work, interval, jitter: Jitter::default() }
    }

    fn chore(work: Work, vault: &str) -> PolicyPlan {
        PolicyPlan { name: work.name().to_owned(), source: String::new(), work, ..plan("", vault) }
    }

    fn made() -> Done {
        let (point, notes) = ("p-1".into(), Vec::new());
        Done::Made(Made { point, position: 9, full: true, spooled: None, unreadable: 0, notes })
    }

    fn tended(mend: bool, again: bool) -> Done {
        Done::Tended(Box::new(Tended { mend, again, ..Tended::default() }))
    }

    #[test]
    fn what_waits_is_told_beside_an_older_look_at_the_vault() {
        let mut agenda = Agenda::new(vec![chore(Work::Deliver, "home"), chore(Work::Repair, "home")], None);
        agenda.apply(Event::Woke, NOW);
        let spool = Some(SpoolGauges { at_ms: 5, points: 2, ..SpoolGauges::default() });
        let end = |tended| Ok(Done::Tended(Box::new(tended)));
        let waits = |points| Some(SpoolGauges { at_ms: 5, points, ..SpoolGauges::default() });
        agenda.apply(Event::Ended { policy: 0, result: end(Tended { spool, ..Tended::default() }) }, NOW + 1);
        assert_eq!(agenda.status(NOW + 1, false).vaults[0].spool.points, 2);
        let vault = VaultGauges { vault: "home".into(), packs: 7, at_ms: 4, ..VaultGauges::default() };
        agenda.apply(Event::Ended { policy: 1, result: end(Tended { gauges: Some(vault), ..Tended::default() }) }, NOW);
        agenda.apply(Event::Ended { policy: 0, result: end(Tended { spool: waits(1), ..Tended::default() }) }, NOW);
        let vaults = agenda.status(NOW + 1, false).vaults;
        assert_eq!((vaults.len(), vaults[0].packs, vaults[0].spool.points), (1, 7, 1));
    }

    fn started(actions: &[Action]) -> Vec<usize> {
        actions
            .iter()
            .filter_map(|action| if let Action::Start(policy) = action { Some(*policy) } else { None })
            .collect()
    }

    #[test]
    fn one_vault_runs_one_policy_at_a_time_and_vaults_do_not_wait_for_each_other() {
        let mut agenda = Agenda::new(vec![plan("a", "home"), plan("b", "home"), plan("c", "nas")], None);
        assert_eq!(started(&agenda.apply(Event::Woke, NOW)), [0, 2]);
        assert_eq!(started(&agenda.apply(Event::Woke, NOW + 1)), [0; 0]);
        assert_eq!(agenda.sleep(NOW + 1), Duration::from_secs(30), "b waits for a, not for time");
        assert_eq!(started(&agenda.apply(Event::Ended { policy: 0, result: Ok(made()) }, NOW + 2)), [1]);
        assert_eq!(started(&agenda.apply(Event::Ended { policy: 1, result: Ok(made()) }, NOW + 3)), [0; 0]);
        assert_eq!(started(&agenda.apply(Event::Woke, NOW + HOUR)), [0], "an hour after it began");
    }

    #[test]
    fn chores_share_the_vault_with_its_policies_and_what_they_find_is_mended_soon() {
        let jobs = vec![plan("a", "home"), chore(Work::Repair, "home"), chore(Work::Scrub, "home")];
        let mut agenda = Agenda::new(jobs.clone(), None);
        let end = |agenda: &mut Agenda, policy, done, now| {
            started(&agenda.apply(Event::Ended { policy, result: Ok(done) }, now))
        };
        assert_eq!(started(&agenda.apply(Event::Woke, NOW)), [0], "one at a time, the backup first");
        assert_eq!(end(&mut agenda, 0, made(), NOW + 1), [1]);
        assert_eq!(end(&mut agenda, 1, tended(false, false), NOW + 2), [2]);
        assert_eq!(end(&mut agenda, 2, tended(true, false), NOW + 3), [0; 0], "found rot, which waits a minute");
        assert_eq!(started(&agenda.apply(Event::Woke, NOW + 3 + SOON_MS)), [1]);
        let left = agenda.status(NOW + 4 + SOON_MS, false);
        assert_eq!((left.policies.len(), left.chores.len()), (1, 2));
        assert_eq!(left.chores[0].state, PolicyState::Running);
        let mut again = Agenda::new(jobs, Some(&left));
        assert_eq!(started(&again.apply(Event::Woke, NOW + 5 + SOON_MS)), [0; 0], "a restart starts no chore anew");
        agenda.apply(Event::Ended { policy: 1, result: Err("no network".into()) }, NOW + 70_000);
        assert_eq!(agenda.status(NOW + 70_000, false).chores[0].due_ms, NOW + 100_000, "a chore is tried again too");
    }

    #[test]
    fn a_busy_policy_starves_no_chore() {
        let mut policy = plan("a", "home");
        policy.interval = Duration::from_secs(1);
        let mut agenda = Agenda::new(vec![policy, chore(Work::Audit, "home")], None);
        assert_eq!(started(&agenda.apply(Event::Woke, NOW)), [0]);
        let next = agenda.apply(Event::Ended { policy: 0, result: Ok(made()) }, NOW + 10_000);
        assert_eq!(started(&next), [1], "the policy is overdue again, and the chore never ran");
    }

    #[test]
    fn a_chore_cut_short_goes_on_soon_and_owed_shards_are_healed_soon() {
        let mut agenda = Agenda::new(vec![chore(Work::Scrub, "home"), chore(Work::Repair, "home")], None);
        agenda.apply(Event::Woke, NOW);
        agenda.apply(Event::Ended { policy: 0, result: Ok(tended(false, true)) }, NOW + 1);
        agenda.apply(Event::Ended { policy: 1, result: Ok(tended(false, false)) }, NOW + 2);
        assert_eq!(started(&agenda.apply(Event::Woke, NOW + 1 + SOON_MS)), [0]);
        let mut agenda = Agenda::new(vec![plan("a", "home"), chore(Work::Repair, "home")], None);
        agenda.apply(Event::Woke, NOW);
        let Done::Made(made) = made() else { panic!() };
        let owed = Done::Made(Made { full: false, ..made });
        assert_eq!(started(&agenda.apply(Event::Ended { policy: 0, result: Ok(owed) }, NOW + 1)), [1]);
    }

    #[test]
    fn a_failure_waits_lets_others_run_and_stays_visible() {
        let mut agenda = Agenda::new(vec![plan("a", "home"), plan("b", "home")], None);
        agenda.apply(Event::Woke, NOW);
        let actions = agenda.apply(Event::Ended { policy: 0, result: Err("no network".into()) }, NOW + 10);
        assert!(matches!(&actions[0], Action::Say(line) if line.contains("NO POINT") && line.contains("no network")));
        assert_eq!(started(&actions), [1]);
        agenda.apply(Event::Ended { policy: 1, result: Ok(made()) }, NOW + 20);
        let status = agenda.status(NOW + 20, false);
        assert_eq!(status.policies[0].state, PolicyState::Failing);
        assert_eq!(status.policies[0].error.as_deref(), Some("no network"));
        assert_eq!(status.policies[0].due_ms, NOW + 10 + 30_000);
        assert_eq!(agenda.sleep(NOW + 20), Duration::from_millis(29_990));
        assert_eq!(started(&agenda.apply(Event::Woke, NOW + 10 + 30_000)), [0]);
        agenda.apply(Event::Ended { policy: 0, result: Ok(made()) }, NOW + 40_000);
        let status = agenda.status(NOW + 40_000, false);
        assert_eq!((status.policies[0].failures, &status.policies[0].error), (0, &None));
    }

    #[test]
    fn a_restart_goes_on_where_the_last_daemon_was() {
        let mut agenda = Agenda::new(vec![plan("a", "home"), plan("b", "home")], None);
        agenda.apply(Event::Woke, NOW);
        agenda.apply(Event::Ended { policy: 0, result: Ok(made()) }, NOW + 10);
        let left = agenda.status(NOW + 10, false);
        let mut renamed = plan("b", "home");
        renamed.source = "another".into();
        let mut agenda = Agenda::new(vec![renamed, plan("a", "home")], Some(&left));
        assert_eq!(started(&agenda.apply(Event::Woke, NOW + 1000)), [0], "a is not due, the changed b is new");
        let status = agenda.status(NOW + 1000, false);
        assert_eq!(status.policies[1].last.as_ref().unwrap().point, "p-1");
    }

    #[test]
    fn a_spooled_point_is_said_not_to_be_durable_and_is_not_made_again_at_once() {
        let mut agenda = Agenda::new(vec![plan("a", "home")], None);
        agenda.apply(Event::Woke, NOW);
        let Done::Made(made) = made() else { panic!("a point") };
        let spooled = Done::Made(Made { full: false, spooled: Some("all away".into()), ..made });
        let actions = agenda.apply(Event::Ended { policy: 0, result: Ok(spooled) }, NOW + 10);
        assert!(matches!(&actions[0], Action::Say(line) if line.contains("NOT DURABLE") && line.contains("all away")));
        let status = agenda.status(NOW + 10, false);
        assert!(status.policies[0].last.is_none(), "it is no point yet");
        assert!(status.policies[0].error.as_ref().is_some_and(|error| error.contains("NOT DURABLE")));
        assert!(status.policies[0].due_ms >= NOW + HOUR, "the next is made when it is due");
    }

    #[test]
    fn stopping_waits_for_runs_starts_nothing_and_counts_no_failure() {
        let mut agenda = Agenda::new(vec![plan("a", "home"), plan("b", "home")], None);
        agenda.apply(Event::Woke, NOW);
        assert_eq!(agenda.apply(Event::StopAsked, NOW + 1), [Action::AskRunsToEnd, Action::Publish]);
        assert_eq!(started(&agenda.apply(Event::Woke, NOW + HOUR)), [0; 0]);
        let actions = agenda.apply(Event::Ended { policy: 0, result: Err("stopped".into()) }, NOW + HOUR);
        assert_eq!(actions.last(), Some(&Action::Quit));
        assert_eq!(agenda.status(NOW, true).policies[0].failures, 0);
    }

    #[test]
    fn stopping_when_idle_or_twice_ends_at_once() {
        let mut agenda = Agenda::new(Vec::new(), None);
        assert_eq!(agenda.apply(Event::StopAsked, NOW).last(), Some(&Action::Quit));
        let mut agenda = Agenda::new(vec![plan("a", "home")], None);
        agenda.apply(Event::Woke, NOW);
        assert_ne!(agenda.apply(Event::StopAsked, NOW).last(), Some(&Action::Quit));
        assert_eq!(agenda.apply(Event::StopAsked, NOW).last(), Some(&Action::Quit));
    }
}
