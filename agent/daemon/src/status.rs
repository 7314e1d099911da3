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

impl Status {
    pub(crate) fn new(written_ms: i64, daemon: DaemonState, policies: Vec<PolicyStatus>) -> Self {
        Self { schema: SCHEMA, process: std::process::id(), written_ms, daemon, policies }
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
        let beside = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::from);
        let written = text.and_then(|text| {
            let mut file = File::create(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, path)
        });
        written.map_err(|error| StatusError::Io { what: format!("writing {}", path.display()), error })
    }
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
