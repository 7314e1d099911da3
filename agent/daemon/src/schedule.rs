//! When a policy runs next.
//!
//! What always holds:
//! - It is a function of the history and the present time, asked again at every
//!   wake: nothing is scheduled ahead, so a clock that jumps or a machine that
//!   sleeps cannot leave a plan behind that no longer fits.
//! - However many runs were missed, one makes up for them.
//! - A time in the future is never trusted: it was written before the clock was
//!   set back, and waiting for it could mean no backup for as long as that was.

use std::time::Duration;

/// First wait after a failure; doubled with each further one.
const RETRY_MS_FIRST: i64 = 30_000;
/// Longest wait after a failure: an outage that ends is noticed by then.
const RETRY_MS_MAX: i64 = 30 * 60_000;
/// Clocks are nudged by this much without having been set.
const CLOCK_SLACK_MS: i64 = 5_000;
/// Hosts spread over a tenth of the interval,
const SPREAD_PART: i64 = 10;
/// but no more than this.
const SPREAD_MS_MAX: i64 = 10 * 60_000;

/// What is known of a policy's runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When the last run that made a point began, milliseconds since 1970.
    pub began_ms: Option<i64>,
    /// When the newest run failed; none once one succeeds.
    pub failed_ms: Option<i64>,
    /// Failures since the last success.
    pub failures: u32,
}

/// Where in the spread a host stands: parts of 65,536. The same for each run, so
/// that the distance between two runs is the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter(pub u16);

impl Jitter {
    fn delay_ms(self, interval_ms: i64) -> i64 {
        (interval_ms / SPREAD_PART).min(SPREAD_MS_MAX) * i64::from(self.0) / (1 << 16)
    }
}

/// When the next run is due, milliseconds since 1970; `now_ms` or earlier means at once.
pub fn due_ms(interval: Duration, jitter: Jitter, history: &History, now_ms: i64) -> i64 {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
    let (since, wait) = match (history.failed_ms, history.began_ms) {
        (Some(failed), _) => (failed, retry_ms(history.failures).min(interval_ms)),
        (None, Some(began)) => (began, interval_ms.saturating_add(jitter.delay_ms(interval_ms))),
        (None, None) => return now_ms,
    };
    if since.saturating_sub(now_ms) > CLOCK_SLACK_MS { now_ms } else { since.saturating_add(wait) }
}

fn retry_ms(failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(16);
    (RETRY_MS_FIRST << doublings).min(RETRY_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_800_000_000_000;

    fn hourly(history: &History, now_ms: i64) -> i64 {
        due_ms(Duration::from_hours(1), Jitter::default(), history, now_ms)
    }

    /// A machine with one policy: its clock, what it remembers, what it did.
    struct Machine {
        now: i64,
        history: History,
        runs: Vec<i64>,
    }

    impl Machine {
        fn new() -> Self {
            Self { now: NOW, history: History::default(), runs: Vec::new() }
        }

        /// Lets time pass second by second, running whenever due.
        fn live(&mut self, milliseconds: i64, works: bool) {
            let end = self.now + milliseconds;
            while self.now < end {
                if hourly(&self.history, self.now) <= self.now {
                    self.runs.push(self.now);
                    self.history = if works {
                        History { began_ms: Some(self.now), failed_ms: None, failures: 0 }
                    } else {
                        History { failed_ms: Some(self.now), failures: self.history.failures + 1, ..self.history }
                    };
                }
                self.now += 1000;
            }
        }
    }

    #[test]
    fn it_runs_at_once_and_then_each_interval() {
        let mut machine = Machine::new();
        machine.live(5 * HOUR, true);
        assert_eq!(machine.runs, [NOW, NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * HOUR, NOW + 4 * HOUR]);
    }

    #[test]
    fn after_sleep_one_run_makes_up_for_all_missed() {
        let mut machine = Machine::new();
        machine.live(HOUR / 2, true);
        machine.now += 50 * HOUR;
        machine.live(2 * HOUR, true);
        let woke = NOW + 50 * HOUR + HOUR / 2;
        assert_eq!(machine.runs, [NOW, woke, woke + HOUR]);
    }

    #[test]
    fn a_clock_set_back_costs_no_backup() {
        let mut machine = Machine::new();
        machine.live(HOUR / 2, true);
        machine.now -= 1000 * HOUR;
        let back = machine.now;
        machine.live(3 * HOUR, true);
        assert_eq!(machine.runs, [NOW, back, back + HOUR, back + 2 * HOUR]);
    }

    #[test]
    fn a_clock_that_was_wrong_in_the_future_costs_no_backup() {
        let mut machine = Machine::new();
        machine.now += 100_000 * HOUR;
        machine.live(1000, true);
        machine.now = NOW;
        machine.live(2 * HOUR, true);
        assert_eq!(machine.runs[1..], [NOW, NOW + HOUR]);
    }

    #[test]
    fn a_nudged_clock_makes_no_extra_run() {
        let history = History { began_ms: Some(NOW), ..History::default() };
        assert_eq!(hourly(&history, NOW - 2_000), NOW + HOUR);
    }

    #[test]
    fn failures_are_retried_ever_more_slowly_but_never_more_slowly_than_the_schedule() {
        let mut machine = Machine::new();
        machine.live(4 * HOUR, false);
        let waits: Vec<i64> = machine.runs.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
        assert_eq!(waits[..8], [30, 60, 120, 240, 480, 960, 1800, 1800]);
        let minutely = due_ms(Duration::from_mins(1), Jitter::default(), &machine.history, machine.now);
        assert!(minutely <= machine.now + 60_000);
        machine.live(HOUR, true);
        assert_eq!(machine.history.failures, 0);
    }

    #[test]
    fn a_failure_after_the_clock_was_set_back_is_retried() {
        let history = History { began_ms: None, failed_ms: Some(NOW + 5 * HOUR), failures: 3 };
        assert_eq!(hourly(&history, NOW), NOW);
    }

    #[test]
    fn jitter_moves_a_run_by_at_most_a_tenth() {
        let history = History { began_ms: Some(NOW), ..History::default() };
        let due = |interval, part| due_ms(interval, Jitter(part), &history, NOW) - NOW;
        assert_eq!(due(Duration::from_hours(1), 0), HOUR);
        assert_eq!(due(Duration::from_hours(1), 1 << 15), HOUR + HOUR / 20);
        assert!(due(Duration::from_hours(1), u16::MAX) < HOUR + HOUR / 10);
        assert!(due(Duration::from_hours(1000), u16::MAX) < 1000 * HOUR + SPREAD_MS_MAX);
        assert!(due(Duration::MAX, u16::MAX) > 0, "no overflow");
    }
}
