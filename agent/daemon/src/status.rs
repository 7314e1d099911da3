//! The status file: what the daemon last did and what it does next, for
//! `holdfast vault status` and for the daemon itself after a restart.
//!
//! What always holds: the file is replaced whole, so a reader never sees half of
//! one; it is a report, not a source of truth: losing it costs one run before
//! its time.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::schedule::History;

const SCHEMA: u32 = 1;

/// Why a status file could not be used.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The file system said no.
    #[error("{what}: {error}")]
    Io {
        /// What was done to which file.
        what: String,
        /// The system's answer.
        error: std::io::Error,
    },
    /// It is not one of ours, or of another version.
    #[error("{path} is no status file of this version ({why}); it is only a report: delete it")]
    Unknown {
        /// Which file.
        path: String,
        /// Why.
        why: String,
    },
}

/// The daemon and its policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this file.
    pub schema: u32,
    /// Process of the daemon.
    pub process: u32,
    /// When it was written, milliseconds since 1970.
    pub written_ms: i64,
    /// Whether the daemon runs, as far as this file knows.
    pub daemon: DaemonState,
    /// One line per policy.
    pub policies: Vec<PolicyStatus>,
    /// One line per chore: repair, scrub, audit of each vault.
    #[serde(default)]
    pub chores: Vec<ChoreStatus>,
    /// How each vault stood when a chore last looked.
    #[serde(default)]
    pub vaults: Vec<VaultGauges>,
}

/// What the daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonState {
    /// Runs policies when they are due.
    Running,
    /// Was asked to stop and waits for its runs.
    Stopping,
    /// Ended in order.
    Stopped,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Its name.
    pub policy: String,
    /// Where to.
    pub vault: String,
    /// What.
    pub source: String,
    /// Milliseconds between two runs; a point older than two of these is overdue.
    pub interval_ms: u64,
    /// What it does now.
    pub state: PolicyState,
    /// The last point, if there is one.
    pub last: Option<LastPoint>,
    /// When the newest run failed, if it did.
    pub failed_ms: Option<i64>,
    /// Failures since the last point.
    pub failures: u32,
    /// Why the newest run failed.
    pub error: Option<String>,
    /// When the next run is due.
    pub due_ms: i64,
}

/// A vault's chore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoreStatus {
    /// What it is: repair, scrub, audit.
    pub chore: String,
    /// Of which vault.
    pub vault: String,
    /// Milliseconds between two runs.
    pub interval_ms: u64,
    /// What it does now.
    pub state: PolicyState,
    /// When the last run that came to its end began.
    pub began_ms: Option<i64>,
    /// When the newest run failed, if it did.
    pub failed_ms: Option<i64>,
    /// Failures since the last one that did not.
    pub failures: u32,
    /// Why the newest run failed.
    pub error: Option<String>,
    /// When the next run is due.
    pub due_ms: i64,
}

/// How a vault stood when a chore last looked at all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultGauges {
    /// Its name.
    pub vault: String,
    /// When it was looked at.
    pub at_ms: i64,
    /// Domains that may be lost by what is shown.
    pub any_domains: u8,
    /// d, as declared.
    pub declared: u8,
    /// Committed packs.
    pub packs: u64,
    /// Of them those that too few shards are left of.
    pub lost: u64,
    /// Repairs that failed and wait to be tried again.
    pub retries: u64,
    /// Shards that are not where they belong.
    #[serde(default)]
    pub debts: u64,
    /// Packs this host's catalog knows: committed, stored, spooled.
    #[serde(default)]
    pub packs_by_state: [u64; 3],
    /// What waits on this host.
    #[serde(default)]
    pub spool: SpoolGauges,
    /// Whether the seed or the read key lies on this host.
    #[serde(default)]
    pub key_here: bool,
    /// What was forgotten and still takes room.
    #[serde(default)]
    pub trash: TrashGauges,
    /// Its locations.
    pub locations: Vec<LocationGauges>,
}

/// What waits in the spool of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolGauges {
    /// When it was looked at.
    pub at_ms: i64,
    /// Points that are not durable.
    pub points: u64,
    /// Of them those that cannot be delivered.
    pub stuck: u64,
    /// Bytes, also of points that are being made.
    pub bytes: u64,
    /// Since when the oldest waits, if one does and that is known.
    pub since_ms: Option<i64>,
}

/// What was forgotten and still takes room at the locations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashGauges {
    /// Points in the trash.
    pub points: u64,
    /// Packs that wait to be deleted.
    pub packs: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// How a location stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationGauges {
    /// Its name.
    pub location: String,
    /// Whether it answered.
    pub answers: bool,
    /// Shards it should hold.
    pub shards: u64,
    /// Of them those it does not show.
    pub missing: u64,
    /// Shards known to be wrong.
    pub bad: u64,
    /// Copies of signed records missing or wrong.
    pub records_bad: u64,
    /// Leaves asked for by the last audit.
    pub audit_samples: u64,
    /// Leaves it keeps.
    pub leaves: u64,
    /// Of them those read within the last 90 days.
    pub covered: u64,
    /// Since when the shard waits to be read that waits longest.
    pub oldest_unread_ms: Option<i64>,
    /// Objects put right there, ever.
    pub corrections: u64,
    /// Of them those that had been wrong, not missing.
    pub corrections_wrong: u64,
}

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyState {
    /// Waits until it is due.
    Waiting,
    /// Runs.
    Running,
    /// Failed, and waits to try again.
    Failing,
}

/// A point that a policy made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPoint {
    /// Its id.
    pub point: String,
    /// Kernel sequence or the like; zero for a tree.
    pub position: u64,
    /// When its run began: what the point shows is at least this new.
    pub began_ms: i64,
    /// When it was durable.
    pub durable_ms: i64,
    /// Whether everything is where it belongs.
    pub full: bool,
    /// Files that could not be read.
    pub unreadable: u64,
}

impl PolicyStatus {
    /// How much time would be lost if the source died now; none if there is no point.
    pub fn lag_ms(&self, now_ms: i64) -> Option<i64> {
        self.last.as_ref().map(|last| now_ms.saturating_sub(last.began_ms).max(0))
    }

    /// Whether the last point is older than two intervals, or there is none.
    pub fn is_overdue(&self, now_ms: i64) -> bool {
        let most = Duration::from_millis(self.interval_ms).saturating_mul(2).as_millis();
        self.lag_ms(now_ms).is_none_or(|lag| u128::from(lag.unsigned_abs()) > most)
    }

    pub(crate) fn history(&self) -> History {
        let began_ms = self.last.as_ref().map(|last| last.began_ms);
        History { began_ms, failed_ms: self.failed_ms, failures: self.failures }
    }
}

impl ChoreStatus {
    pub(crate) fn history(&self) -> History {
        History { began_ms: self.began_ms, failed_ms: self.failed_ms, failures: self.failures }
    }
}

impl Status {
    pub(crate) fn new(written_ms: i64, daemon: DaemonState, policies: Vec<PolicyStatus>) -> Self {
        Self {
            schema: SCHEMA,
            process: std::process::id(),
            written_ms,
            daemon,
            policies,
            chores: Vec::new(),
            vaults: Vec::new(),
        }
    }

    /// Reads a status file; none if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, StatusError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StatusError::Io { what: format!("reading {}", path.display()), error }),
        };
        let unknown = |why| StatusError::Unknown { path: path.display().to_string(), why };
        let status: Self = serde_json::from_slice(&bytes).map_err(|error| unknown(error.to_string()))?;
        if status.schema == SCHEMA { Ok(Some(status)) } else { Err(unknown(format!("version {}", status.schema))) }
    }

    /// Replaces the status file.
    pub fn write(&self, path: &Path) -> Result<(), StatusError> {
        let failed = |error| StatusError::Io { what: format!("writing {}", path.display()), error };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        replace_file(path, &text)
    }
}

/// Replaces a file whole: readers see the old one or the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StatusError> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| StatusError::Io { what: format!("writing {}", path.display()), error })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn policy(last: Option<LastPoint>) -> PolicyStatus {
        PolicyStatus {
            policy: "offsite".into(),
            vault: "home".into(),
            source: "docs".into(),
            interval_ms: 1000,
            state: PolicyState::Waiting,
            last,
            failed_ms: None,
            failures: 0,
            error: None,
            due_ms: 0,
        }
    }

    fn point(began_ms: i64) -> LastPoint {
        let point = "00".repeat(16);
        LastPoint { point, position: 7, began_ms, durable_ms: began_ms + 5, full: true, unreadable: 0 }
    }

    #[test]
    fn a_file_comes_back_and_a_strange_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        assert_eq!(Status::read(&path).unwrap(), None);
        let status = Status::new(5, DaemonState::Running, vec![policy(None), policy(Some(point(1)))]);
        status.write(&path).unwrap();
        status.write(&path).unwrap();
        assert_eq!(Status::read(&path).unwrap(), Some(status.clone()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        Status { schema: 2, ..status }.write(&path).unwrap();
        assert!(matches!(Status::read(&path), Err(StatusError::Unknown { .. })));
        fs::write(&path, b"{").unwrap();
        assert!(matches!(Status::read(&path), Err(StatusError::Unknown { .. })));
    }

    #[test]
    fn lag_counts_from_the_start_of_the_run() {
        let status = policy(Some(point(10_000)));
        assert_eq!(status.lag_ms(10_700), Some(700));
        assert_eq!(status.lag_ms(9_000), Some(0), "a clock set back makes no negative lag");
        assert!(!status.is_overdue(12_000) && status.is_overdue(12_001));
        assert!(policy(None).is_overdue(0), "no point at all is overdue");
    }
}
