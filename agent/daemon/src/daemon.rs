//! The daemon: one select loop around one [`Agenda`].
//!
//! What always holds: all decisions are the agenda's, all state is in it; this
//! file only waits, runs and writes. A status or metrics file that cannot be
//! written is said, and stops no backup.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use vault_ops::OpsError;
use vault_ops::world::Clock;

use crate::agenda::{Action, Agenda, Done, Event, PolicyPlan};
use crate::metrics;
use crate::status::Status;
use crate::stop::{AskStop, Stop};

/// How long runs may take to end once asked. Below systemd's default of 90 s,
/// so that it is this daemon that ends them and not a kill.
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// Makes a point of a policy, or does a chore.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs once. When `stop` is asked for, it should end soon, with an error if
    /// there is no point.
    async fn run(&self, job: &PolicyPlan, stop: Stop) -> Result<Done, OpsError>;
}

/// Everything the daemon needs.
pub struct Daemon {
    /// What to run when: policies and chores.
    pub policies: Vec<PolicyPlan>,
    /// What runs it.
    pub runner: Arc<dyn Runner>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Where the status file is.
    pub status: PathBuf,
    /// Where the metrics file is.
    pub metrics: PathBuf,
}

impl Daemon {
    /// Runs until a message comes through `stop`; a second one ends it at once.
    /// Each line for people goes to `say`.
    pub async fn run(self, mut stop: mpsc::Receiver<()>, say: impl Fn(&str)) {
        let Self { policies, runner, clock, status, metrics: metrics_path } = self;
        let former = Status::read(&status).unwrap_or_else(|error| {
            say(&format!("{error}. Every policy runs once now"));
            None
        });
        let mut agenda = Agenda::new(policies, former.as_ref());
        let publish = |agenda: &Agenda, stopped| {
            let shown = agenda.status(clock.now_ms(), stopped);
            let written = shown.write(&status);
            written.unwrap_or_else(|error| say(&format!("{error}. Backups go on, `vault status` shows old times")));
            let written = metrics::write(&metrics_path, &metrics::render(&shown));
            written.unwrap_or_else(|error| say(&format!("{error}. Backups go on, the metrics are old")));
        };
        let ask = AskStop::new();
        let mut running = FuturesUnordered::new();
        let mut patience: BoxFuture<'_, ()> = Box::pin(std::future::pending());
        let mut event = Event::Woke;
        loop {
            for action in agenda.apply(event, clock.now_ms()) {
                match action {
                    Action::Say(line) => say(&line),
                    Action::Publish => publish(&agenda, false),
                    Action::Start(policy) => {
                        running.push(run_one(&runner, policy, agenda.plan(policy).clone(), ask.handle()));
                    }
                    Action::AskRunsToEnd => {
                        ask.ask();
                        patience = clock.sleep(STOP_PATIENCE).boxed();
                    }
                    Action::Quit => {
                        publish(&agenda, true);
                        return;
                    }
                }
            }
            event = tokio::select! {
                Some((policy, result)) = running.next(), if !running.is_empty() => Event::Ended { policy, result },
                Some(()) = stop.recv() => Event::StopAsked,
                () = &mut patience => Event::StopAsked,
                () = clock.sleep(agenda.sleep(clock.now_ms())) => Event::Woke,
            };
        }
    }
}

async fn run_one(
    runner: &Arc<dyn Runner>,
    policy: usize,
    plan: PolicyPlan,
    stop: Stop,
) -> (usize, Result<Done, String>) {
    (policy, runner.run(&plan, stop).await.map_err(|error| error.to_string()))
}
