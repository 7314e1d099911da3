//! The daemon under a simulated clock: days pass in milliseconds.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_daemon::schedule::Jitter;
use agent_daemon::status::{DaemonState, PolicyState, Status};
use agent_daemon::{Daemon, Done, Made, PolicyPlan, Runner, Stop, Work, signals};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;
use vault_ops::world::Clock;
use vault_ops::{OpsError, Result};

const START: i64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_hours(1);

/// Tokio's paused time, and a wall clock that can be set.
struct SimulatedClock {
    started: Instant,
    set_by_ms: AtomicI64,
}

impl SimulatedClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), set_by_ms: AtomicI64::new(START) })
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now_ms(&self) -> i64 {
        self.set_by_ms.load(Ordering::SeqCst) + i64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// What a run does.
#[derive(Clone, Copy)]
enum Behaviour {
    Works,
    Fails,
    /// Ends only when asked.
    EndsWhenAsked,
    /// Never ends.
    Hangs,
}

struct Script {
    clock: Arc<SimulatedClock>,
    behaviour: Mutex<Behaviour>,
    /// Policies and start times, milliseconds after the start.
    runs: Mutex<Vec<(String, i64)>>,
    running: Mutex<Vec<String>>,
}

#[async_trait]
impl Runner for Script {
    async fn run(&self, policy: &PolicyPlan, stop: Stop) -> Result<Done> {
        self.runs.lock().unwrap().push((policy.name.clone(), self.clock.now_ms() - START));
        assert!(!self.running.lock().unwrap().contains(&policy.vault), "two runs of one writer");
        self.running.lock().unwrap().push(policy.vault.clone());
        let behaviour = *self.behaviour.lock().unwrap();
        match behaviour {
            Behaviour::Works | Behaviour::Fails => tokio::time::sleep(Duration::from_mins(10)).await,
            Behaviour::EndsWhenAsked => stop.asked().await,
            Behaviour::Hangs => std::future::pending().await,
        }
        self.running.lock().unwrap().retain(|vault| *vault != policy.vault);
        match behaviour {
            Behaviour::Works => {
                let (point, notes) = ("p-1".into(), Vec::new());
                Ok(Done::Made(Made { point, position: 3, full: true, spooled: None, unreadable: 0, notes }))
            }
            Behaviour::Fails | Behaviour::EndsWhenAsked | Behaviour::Hangs => {
                Err(OpsError::Unreachable { what: "no network".into() })
            }
        }
    }
}

fn plan(name: &str, vault: &str, interval: Duration) -> PolicyPlan {
    let (name, vault) = (name.to_owned(), vault.to_owned());
    PolicyPlan { source: name.clone(), name, vault, work: Work::Backup, interval, jitter: Jitter::default() }
}

/// A simulated host.
struct Host {
    dir: tempfile::TempDir,
    clock: Arc<SimulatedClock>,
    script: Arc<Script>,
    lines: Arc<Mutex<Vec<String>>>,
}

/// A daemon on it.
struct Running {
    stop: mpsc::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn ask_to_stop(&self) {
        self.stop.send(()).await.unwrap();
    }
}

impl Host {
    fn new(behaviour: Behaviour) -> Self {
        let clock = SimulatedClock::new();
        let script = Script {
            clock: clock.clone(),
            behaviour: Mutex::new(behaviour),
            runs: Mutex::default(),
            running: Mutex::default(),
        };
        Self { dir: tempfile::tempdir().unwrap(), clock, script: Arc::new(script), lines: Arc::default() }
    }

    fn start(&self, policies: Vec<PolicyPlan>) -> Running {
        let (stop, told) = mpsc::channel(4);
        let daemon = Daemon {
            policies,
            runner: self.script.clone(),
            clock: self.clock.clone(),
            status: self.status_path(),
            metrics: self.dir.path().join("metrics.prom"),
        };
        let lines = self.lines.clone();
        let ended = daemon.run(told, move |line: &str| lines.lock().unwrap().push(line.to_owned()));
        Running { stop, ended: tokio::spawn(ended) }
    }

    fn status(&self) -> Status {
        Status::read(&self.status_path()).unwrap().unwrap()
    }

    fn status_path(&self) -> PathBuf {
        self.dir.path().join("status.json")
    }

    fn minutes_of(&self, policy: &str) -> Vec<i64> {
        let runs = self.script.runs.lock().unwrap();
        runs.iter().filter(|(name, _)| name == policy).map(|(_, ms)| ms / 60_000).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn policies_run_on_time_and_one_at_a_time_per_vault() {
    let host = Host::new(Behaviour::Works);
    let _running = host.start(vec![plan("a", "home", HOUR), plan("b", "home", HOUR * 2), plan("c", "nas", HOUR)]);
    tokio::time::sleep(HOUR * 4 + Duration::from_mins(30)).await;
    assert_eq!(host.minutes_of("a"), [0, 60, 120, 180, 240]);
    assert_eq!(host.minutes_of("b"), [10, 130, 250], "after a, whose run takes ten minutes");
    assert_eq!(host.minutes_of("c"), [0, 60, 120, 180, 240]);
    let status = host.status();
    assert_eq!(status.daemon, DaemonState::Running);
    let last = status.policies[0].last.as_ref().unwrap();
    assert_eq!((last.point.as_str(), last.position, last.full), ("p-1", 3, true));
    let minutes = |minutes: i64| START + minutes * 60_000;
    assert_eq!((last.began_ms, last.durable_ms, status.policies[0].due_ms), (minutes(240), minutes(250), minutes(300)));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_catches_up_within_half_a_minute() {
    let host = Host::new(Behaviour::Works);
    let _running = host.start(vec![plan("a", "home", HOUR)]);
    tokio::time::sleep(Duration::from_mins(20)).await;
    host.clock.set_by_ms.fetch_add(50 * 3_600_000, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(host.minutes_of("a"), [0, 50 * 60 + 20]);
    tokio::time::sleep(Duration::from_mins(20)).await;
    host.clock.set_by_ms.fetch_sub(500 * 3_600_000, Ordering::SeqCst);
    tokio::time::sleep(HOUR * 2).await;
    assert_eq!(host.minutes_of("a").len(), 4, "a clock set back: {:?}", host.minutes_of("a"));
}

#[tokio::test(start_paused = true)]
async fn failures_are_said_shown_and_tried_again() {
    let host = Host::new(Behaviour::Fails);
    let _running = host.start(vec![plan("a", "home", HOUR * 24)]);
    tokio::time::sleep(Duration::from_mins(15)).await;
    let status = &host.status().policies[0];
    assert_eq!((status.state, status.error.as_deref(), status.failures), (PolicyState::Running, Some("no network"), 1));
    let line = host.lines.lock().unwrap()[0].clone();
    assert!(line.contains("NO POINT") && line.contains("no network"), "{line}");
    *host.script.behaviour.lock().unwrap() = Behaviour::Works;
    tokio::time::sleep(HOUR).await;
    assert_eq!(host.minutes_of("a"), [0, 10, 21], "ten minutes a run, then 30 s and 60 s");
    let status = &host.status().policies[0];
    assert_eq!((status.state, &status.error, status.failures), (PolicyState::Waiting, &None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_runs_end_and_leaves_a_status() {
    let host = Host::new(Behaviour::EndsWhenAsked);
    let running = host.start(vec![plan("a", "home", HOUR)]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    running.ask_to_stop().await;
    running.ended.await.unwrap();
    let status = host.status();
    assert_eq!((status.daemon, status.policies[0].failures), (DaemonState::Stopped, 0));
    assert!(host.lines.lock().unwrap()[0].contains("ended unfinished, as asked"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_end_is_left_behind() {
    let host = Host::new(Behaviour::Hangs);
    let running = host.start(vec![plan("a", "home", HOUR)]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    running.ask_to_stop().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(host.status().daemon, DaemonState::Stopping);
    let asked = Instant::now();
    running.ended.await.unwrap();
    assert!(asked.elapsed() < Duration::from_mins(2), "patience ends");
}

#[tokio::test(start_paused = true)]
async fn asking_twice_ends_it_at_once() {
    let host = Host::new(Behaviour::Hangs);
    let running = host.start(vec![plan("a", "home", HOUR)]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let asked = Instant::now();
    running.ask_to_stop().await;
    running.ask_to_stop().await;
    running.ended.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_new_daemon_goes_on_from_the_status() {
    let host = Host::new(Behaviour::Works);
    let first = host.start(vec![plan("a", "home", HOUR)]);
    tokio::time::sleep(Duration::from_mins(30)).await;
    first.ask_to_stop().await;
    first.ended.await.unwrap();
    let _second = host.start(vec![plan("a", "home", HOUR)]);
    tokio::time::sleep(HOUR).await;
    assert_eq!(host.minutes_of("a"), [0, 60], "not at once, but when due");
}

#[tokio::test(start_paused = true)]
async fn a_broken_status_is_said_and_costs_one_early_run() {
    let host = Host::new(Behaviour::Works);
    std::fs::write(host.status_path(), b"rubbish").unwrap();
    let _running = host.start(vec![plan("a", "home", HOUR)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(host.lines.lock().unwrap()[0].contains("delete it"), "{:?}", host.lines);
    assert_eq!(host.minutes_of("a"), [0]);
}

#[tokio::test]
async fn sigterm_and_sigint_are_heard() {
    let mut heard = signals().unwrap();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
        assert_eq!(heard.recv().await, Some(()));
    }
}
