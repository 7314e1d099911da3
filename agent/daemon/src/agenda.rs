//! The daemon's policies and what to do next: all of its state, and no IO.
//!
//! What always holds:
//! - Two runs into one vault never overlap: they share one writer, whose chain of
//!   manifests has one next place.
//! - A failed run changes nothing but the time of the next attempt.
//! - Once it was asked to stop, nothing new is started.

use std::time::Duration;

use crate::schedule::{History, Jitter, due_ms};
use crate::status::{DaemonState, LastPoint, PolicyState, PolicyStatus, Status};

/// Longest sleep. Timers stand still while a machine sleeps and do not follow a
/// clock that is set, so the time is looked at again this often.
const WAKE_MS_MAX: i64 = 30_000;

/// A policy, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPlan {
    /// Its name.
    pub name: String,
    /// Where to; its writer runs one policy at a time.
    pub vault: String,
    /// What.
    pub source: String,
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
    /// Files that could not be read.
    pub unreadable: u64,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Time passed.
    Woke,
    /// A run ended, with its point or the reason why there is none.
    Ended { policy: usize, result: Result<Made, String> },
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
}

impl Job {
    fn due_ms(&self, now_ms: i64) -> i64 {
        due_ms(self.plan.interval, self.plan.jitter, &self.history, now_ms)
    }
}

/// All policies.
pub(crate) struct Agenda {
    jobs: Vec<Job>,
    stopping: bool,
}

impl Agenda {
    /// Policies, with what an earlier daemon left about them.
    pub(crate) fn new(plans: Vec<PolicyPlan>, former: Option<&Status>) -> Self {
        let known = |plan: &PolicyPlan| {
            let same = |status: &&PolicyStatus| {
                (&status.policy, &status.vault, &status.source) == (&plan.name, &plan.vault, &plan.source)
            };
            former.and_then(|status| status.policies.iter().find(same))
        };
        let jobs = plans.into_iter().map(|plan| {
            let known = known(&plan);
            Job {
                history: known.map(PolicyStatus::history).unwrap_or_default(),
                last: known.and_then(|status| status.last.clone()),
                error: known.and_then(|status| status.error.clone()),
                running_since_ms: None,
                plan,
            }
        });
        Self { jobs: jobs.collect(), stopping: false }
    }

    /// A policy by its number.
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
        let mut due: Vec<(i64, usize)> =
            self.jobs.iter().enumerate().map(|(number, job)| (job.due_ms(now_ms), number)).collect();
        due.retain(|(due_ms, _)| *due_ms <= now_ms);
        due.sort_unstable();
        let mut actions = Vec::new();
        for (_, number) in due {
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

    fn end(&mut self, policy: usize, result: Result<Made, String>, now_ms: i64) -> [Action; 2] {
        let job = &mut self.jobs[policy];
        let began_ms = job.running_since_ms.take().unwrap_or(now_ms);
        let PolicyPlan { name, source, vault, .. } = &job.plan;
        let line = match result {
            Ok(Made { point, position, full, unreadable, notes }) => {
                let seconds = now_ms.saturating_sub(began_ms).max(0) / 1000;
                let place = if full { "full" } else { "durable, with debts" };
                let notes = notes.iter().map(|note| format!(". {note}")).collect::<String>();
                let line = format!(
                    "{name}: {source} -> {vault}: ok {point}, {place}, {unreadable} unreadable, {seconds} s{notes}"
                );
                job.history = History { began_ms: Some(began_ms), failed_ms: None, failures: 0 };
                job.last = Some(LastPoint { point, position, began_ms, durable_ms: now_ms, full, unreadable });
                job.error = None;
                line
            }
            Err(why) if self.stopping => format!("{name}: {source} -> {vault}: ended unfinished, as asked: {why}"),
            Err(why) => {
                job.history.failures = job.history.failures.saturating_add(1);
                job.history.failed_ms = Some(now_ms);
                let (failures, wait_s) = (job.history.failures, job.due_ms(now_ms).saturating_sub(now_ms) / 1000);
                let line = format!(
                    "{name}: {source} -> {vault}: NO POINT was made (failure {failures} in a row): {why}. Next try in \
                     {wait_s} s"
                );
                job.error = Some(why);
                line
            }
        };
        [Action::Say(line), Action::Publish]
    }

    /// The status file's content.
    pub(crate) fn status(&self, now_ms: i64, stopped: bool) -> Status {
        let daemon = match (stopped, self.stopping) {
            (true, _) => DaemonState::Stopped,
            (false, true) => DaemonState::Stopping,
            (false, false) => DaemonState::Running,
        };
        let policies = self.jobs.iter().map(|job| PolicyStatus {
            policy: job.plan.name.clone(),
            vault: job.plan.vault.clone(),
            source: job.plan.source.clone(),
            interval_ms: u64::try_from(job.plan.interval.as_millis()).unwrap_or(u64::MAX),
            state: match (job.running_since_ms, job.history.failed_ms) {
                (Some(_), _) => PolicyState::Running,
                (None, Some(_)) => PolicyState::Failing,
                (None, None) => PolicyState::Waiting,
            },
            last: job.last.clone(),
            failed_ms: job.history.failed_ms,
            failures: job.history.failures,
            error: job.error.clone(),
            due_ms: job.due_ms(now_ms),
        });
        Status::new(now_ms, daemon, policies.collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn plan(name: &str, vault: &str) -> PolicyPlan {
        let (name, vault, source) = (name.to_owned(), vault.to_owned(), format!("source of {name}"));
        PolicyPlan { name, vault, source, interval: Duration::from_hours(1), jitter: Jitter::default() }
    }

    fn made() -> Made {
        Made { point: "p-1".into(), position: 9, full: true, unreadable: 0, notes: Vec::new() }
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
