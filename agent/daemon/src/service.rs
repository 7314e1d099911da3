//! The agent as a service: the configuration's policies, and the chores of its
//! vaults, until the process is asked to stop.
//!
//! What always holds: the lease of every vault is held as long as
//! the service runs; each run opens the vault anew, so a location that came back
//! is used and one that went is named; no read key is ever loaded.

use std::sync::Arc;

use async_trait::async_trait;
use config::Config;
use thiserror::Error;
use tokio::runtime::Handle;
use vault_ops::OpsError;
use vault_ops::backup::{self, BackupOptions, Standing};
use vault_ops::lease::Lease;
use vault_ops::points::point_text;
use vault_ops::world::World;

use crate::assembly;
use crate::daemon::{Daemon, Runner};
use crate::schedule::Jitter;
use crate::stop::{Stop, signals};
use crate::{Done, Made, PolicyPlan, Work, delivery, upkeep};

/// Why the service did not run.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// A vault, key or lease is not to be had.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// Nothing to do.
    #[error("{0}")]
    Nothing(String),
}

/// Where the agent says how it stands.
pub fn status_path(config: &Config) -> std::path::PathBuf {
    config.state.join("agent.json")
}

/// Where the agent's metrics are.
pub fn metrics_path(config: &Config) -> std::path::PathBuf {
    config.state.join("metrics.prom")
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: &Config, world: &World, host: &str, say: impl Fn(&str)) -> Result<(), ServiceError> {
    if config.vaults.is_empty() {
        return Err(ServiceError::Nothing(
            "the configuration has no [vault.NAME]: the agent would do nothing. Make one: holdfast vault init"
                .to_owned(),
        ));
    }
    let _leases = take_leases(config)?;
    let stop = signals().map_err(|error| OpsError::Io { what: "catching signals".to_owned(), error })?;
    let mut jobs = plans(config).await?;
    jobs.extend(upkeep::chores(config));
    let daemon = Daemon {
        policies: jobs,
        runner: Arc::new(Jobs { config: config.clone(), world: world.clone(), host: host.to_owned() }),
        clock: Arc::clone(&world.clock),
        status: status_path(config),
        metrics: metrics_path(config),
    };
    say(&format!("agent: {} policies; stop with SIGTERM", config.policies.len()));
    if config.policies.is_empty() {
        say("agent: no [policy.NAME]: nothing is backed up here, the vaults are only kept whole");
    }
    daemon.run(stop, say).await;
    Ok(())
}

fn take_leases(config: &Config) -> Result<Vec<Lease>, OpsError> {
    config
        .vaults
        .keys()
        .map(|vault| {
            let state = assembly::state_paths(config, vault.as_str());
            std::fs::create_dir_all(&state.folder)
                .map_err(|error| OpsError::Io { what: format!("making {}", state.folder.display()), error })?;
            Lease::take(&state.lease(), &format!("holdfast agent, process {}", std::process::id()))
        })
        .collect()
}

/// The policies. A missing key or an impossible source is said now, not when the
/// first run is due.
async fn plans(config: &Config) -> Result<Vec<PolicyPlan>, OpsError> {
    let mut plans = Vec::new();
    for (name, policy) in &config.policies {
        let writer = assembly::writer_key_file(config, policy.vault.as_str()).await?.writer;
        assembly::source(config, policy.source.as_str(), false).await?;
        plans.push(PolicyPlan {
            name: name.as_str().to_owned(),
            vault: policy.vault.as_str().to_owned(),
            source: policy.source.as_str().to_owned(),
            work: Work::Backup,
            interval: policy.schedule.interval(),
            // Writer ids are random: they spread hosts that do not know of each other.
            jitter: Jitter(u16::from_le_bytes([writer.0[0], writer.0[1]])),
        });
    }
    Ok(plans)
}

/// The real runner: one backup of the policy's source, or one chore.
#[derive(Clone)]
struct Jobs {
    config: Config,
    world: World,
    host: String,
}

#[async_trait]
impl Runner for Jobs {
    async fn run(&self, job: &PolicyPlan, stop: Stop) -> Result<Done, OpsError> {
        let (jobs, job, handle) = (self.clone(), job.clone(), Handle::current());
        let name = if job.work == Work::Backup { job.source.clone() } else { job.name.clone() };
        // On a thread of its own: the loop never waits for what a run computes, and a
        // panic is a failed run and not the end of the agent.
        let run = move || {
            handle.block_on(async {
                tokio::select! {
                    done = jobs.work(&job) => done,
                    // Dropping the run is safe at any point: what was stored is found again.
                    () = stop.asked() => {
                        Err(OpsError::Refused { what: "the agent was asked to stop; nothing half-done counts".to_owned() })
                    }
                }
            })
        };
        let crashed = |error| OpsError::Source { name, why: format!("its run crashed, which is a bug: {error}") };
        tokio::task::spawn_blocking(run).await.map_err(crashed)?
    }
}

impl Jobs {
    async fn work(&self, job: &PolicyPlan) -> Result<Done, OpsError> {
        match job.work {
            Work::Backup => self.back_up(job).await.map(Done::Made),
            Work::Repair => upkeep::repair(&self.config, &job.vault, &self.world).await.map(Done::from),
            Work::Scrub => upkeep::scrub(&self.config, &job.vault, &self.world).await.map(Done::from),
            Work::Locks => upkeep::locks(&self.config, &job.vault, &self.world).await.map(Done::from),
            Work::Audit => upkeep::audit(&self.config, &job.vault, &self.world).await.map(Done::from),
            Work::Deliver => delivery::deliver(&self.config, &job.vault, &self.world).await.map(Done::from),
        }
    }

    async fn back_up(&self, policy: &PolicyPlan) -> Result<Made, OpsError> {
        let mut opened = assembly::open_vault(&self.config, &policy.vault, self.world.clone()).await?;
        let keys = assembly::writer_key_of(&self.config, &policy.vault, &opened.vault).await?;
        let source = assembly::source(&self.config, &policy.source, false).await?;
        let compression = assembly::compression(&self.config, &policy.source, None);
        let options = BackupOptions { host: self.host.clone(), tags: Vec::new(), pinned: false, compression };
        let run = backup::run(&opened.vault, keys, &mut opened.catalog, source, &options);
        let (report, _) = Box::pin(run).await;
        let report = report?;
        Ok(Made {
            point: point_text(report.point),
            position: report.position,
            full: matches!(report.standing(), Standing::Full | Standing::Resting),
            spooled: report.spooled.map(|spooled| spooled.why),
            unreadable: report.unreadable.len() as u64,
            notes: report.notes,
        })
    }
}
