//! The one thread that owns the state: decide -> append -> sync -> publish -> acknowledge.
//!
//! It takes whatever waits in the queue as one group, applies and appends each command, syncs once,
//! then publishes the new version and answers everybody, refusals included (a refusal can tell of
//! a write that is not durable yet). After a failed append or sync nothing is published or acknowledged
//! any more: what is on disk is unknown until the next start reads it.

use std::sync::{Arc, Mutex, OnceLock};

use kernel_core::wal::{RecordHeader, append_record};
use kernel_core::{Command, State, Verified};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use crate::clock::Clock;
use crate::cursors::Cursors;
use crate::disk::Disk;
use crate::error::Error;
use crate::log::{Log, lock};
use crate::node::{Limits, Published, SyncMode, Unattached, Written};
use crate::recovery::{CLOSED_NAME, closed_mark};

/// A group is synced at the latest when it has this many bytes: about 10 ms of a slow disk.
const GROUP_BYTES_MAX: usize = 8 << 20;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the writer is asked to do.
pub(crate) enum Job {
    Write {
        command: Command,
        payload: Vec<u8>,
        reply: Reply<Written>,
    },
    SetCursors {
        durable_seq: u64,
        folded_seq: u64,
        reply: Reply<Cursors>,
    },
    /// Makes all that is published survive a crash. At once, except in sync mode `none`.
    Flush {
        reply: Reply<()>,
    },
    /// A snapshot was written: recovery needs the log from `recovery_from` on, no longer what is before.
    Snapshotted {
        sequence: u64,
        recovery_from: u64,
    },
    Stop {
        reply: Reply<()>,
    },
}

/// State and log of the writer.
pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) state: State,
    pub(crate) at: Verified,
    pub(crate) cursors: Cursors,
    /// What others see of them.
    pub(crate) cursors_shown: Arc<Mutex<Cursors>>,
    /// Highest sequence known to be synced.
    pub(crate) synced: u64,
    /// Log before this sequence is not needed to recover.
    pub(crate) recovery_from: u64,
    /// Bytes appended since the last snapshot.
    pub(crate) bytes_since_snapshot: u64,
    pub(crate) published: watch::Sender<Arc<Published>>,
    /// Holds one request: a second would ask for the same.
    pub(crate) wants_snapshot: mpsc::Sender<()>,
    /// Why nothing can be written any more. Set once.
    pub(crate) failed: Arc<OnceLock<String>>,
}

/// Commands of one sync, and the answers that wait for it.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    answers: Vec<(Reply<Written>, Result<Written, Error>)>,
}

impl Writer {
    /// Runs until it is told to stop or nobody can ask any more.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut next = jobs.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Write { command, payload, reply } => {
                    let mut group = Group::default();
                    self.decide(command, &payload, reply, &mut group);
                    while self.limits.sync != SyncMode::EveryWrite && group.bytes.len() < GROUP_BYTES_MAX {
                        match jobs.try_recv() {
                            Ok(Job::Write { command, payload, reply }) => {
                                self.decide(command, &payload, reply, &mut group);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
                Job::SetCursors { durable_seq, folded_seq, reply } => {
                    let _ = reply.send(self.set_cursors(durable_seq, folded_seq));
                }
                Job::Flush { reply } => {
                    let _ = reply.send(self.flush());
                }
                Job::Snapshotted { sequence, recovery_from } => self.snapshotted(sequence, recovery_from),
                Job::Stop { reply } => {
                    let _ = reply.send(self.close());
                    return;
                }
            }
            if next.is_none() {
                next = jobs.blocking_recv();
            }
        }
        if let Err(error) = self.close() {
            error!(%error, "the log could not be closed cleanly; the next start checks it");
        }
    }

    fn unavailable(&self) -> Option<Error> {
        self.failed.get().map(|what| Error::Unavailable { what: what.clone() })
    }

    /// Applies one command to the state nobody sees yet, and frames its record.
    fn decide(&mut self, command: Command, payload: &[u8], reply: Reply<Written>, group: &mut Group) {
        if let Some(error) = self.unavailable() {
            group.answers.push((reply, Err(error)));
            return;
        }
        let outcome = match self.state.apply(command) {
            Ok(outcome) => outcome,
            Err(error) => {
                group.answers.push((reply, Err(error.into())));
                return;
            }
        };
        let header = RecordHeader {
            lineage: self.at.lineage,
            sequence: outcome.sequence,
            synced: self.synced,
            wall_ms: self.clock.now_ms(),
            state_before: self.at.state_hash,
        };
        self.at.chain = append_record(&mut group.bytes, &header, &self.at.chain, payload);
        self.at.sequence = outcome.sequence;
        self.at.state_hash = self.state.hash();
        let written = Written { sequence: outcome.sequence, state_hash: self.at.state_hash, changed: outcome.changed };
        group.answers.push((reply, Ok(written)));
    }

    fn commit(&mut self, group: Group) {
        if !group.bytes.is_empty()
            && let Err(error) = self.make_durable(&group.bytes)
        {
            self.fail(&error);
        }
        if let Some(what) = self.failed.get() {
            for (reply, _) in group.answers {
                let _ = reply.send(Err(Error::Unavailable { what: what.clone() }));
            }
            return;
        }
        self.publish();
        for (reply, answer) in group.answers {
            // A client that went away does not undo its write.
            let _ = reply.send(answer);
        }
        if self.bytes_since_snapshot >= self.limits.snapshot_every_bytes {
            self.bytes_since_snapshot = 0;
            let _ = self.wants_snapshot.try_send(());
        }
    }

    fn make_durable(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.log.append(bytes)?;
        self.bytes_since_snapshot += bytes.len() as u64;
        if self.limits.sync != SyncMode::None {
            self.log.sync()?;
            self.synced = self.at.sequence;
        }
        // Behind the group, so that the record that opens the next segment follows from here.
        self.log.rotate_if_full(self.at.sequence + 1, &self.at.chain)?;
        self.keep_within_bound()
    }

    fn publish(&self) {
        let state = self.state.clone();
        self.published.send_replace(Arc::new(Published { state, at: self.at }));
    }

    fn fail(&mut self, error: &Error) {
        let what =
            format!("{error}. What was not acknowledged may or may not be on disk; restart the node to find out");
        error!(%error, "the node stops accepting writes");
        let _ = self.failed.set(what);
    }

    fn flush(&mut self) -> Result<(), Error> {
        if let Some(error) = self.unavailable() {
            return Err(error);
        }
        if self.synced < self.at.sequence {
            self.log.sync()?;
            self.synced = self.at.sequence;
        }
        Ok(())
    }

    fn set_cursors(&mut self, durable_seq: u64, folded_seq: u64) -> Result<Cursors, Error> {
        let cursors = self.cursors.advanced(durable_seq, folded_seq, self.at.sequence)?;
        self.keep_cursors(cursors)?;
        self.release()?;
        Ok(cursors)
    }

    fn keep_cursors(&mut self, cursors: Cursors) -> Result<(), Error> {
        cursors.store(self.disk.as_ref(), self.at.lineage)?;
        self.cursors = cursors;
        *lock(&self.cursors_shown) = cursors;
        Ok(())
    }

    fn snapshotted(&mut self, sequence: u64, recovery_from: u64) {
        self.recovery_from = recovery_from;
        if sequence == self.at.sequence {
            self.bytes_since_snapshot = 0;
        }
        if let Err(error) = self.release() {
            warn!(%error, "log segments could not be released; they are tried again with the next snapshot");
        }
    }

    /// Releases what neither recovery nor the agent needs.
    fn release(&mut self) -> Result<(), Error> {
        let wanted_by_agent = match (self.cursors.attached, self.limits.unattached) {
            (true, _) => self.cursors.folded_seq,
            (false, Unattached::Keep) => 0,
            (false, Unattached::ReleaseAtSnapshot) => u64::MAX,
        };
        self.log.release(wanted_by_agent.min(self.recovery_from))
    }

    /// Past its bound the log goes, and says so: a full disk would stop the node instead.
    fn keep_within_bound(&mut self) -> Result<(), Error> {
        if self.log.bytes() <= self.limits.wal_bytes_max {
            return Ok(());
        }
        let gone = self.recovery_from;
        if gone <= self.cursors.chain_broken_at.max(self.cursors.folded_seq) {
            // Recovery itself needs it all: only a snapshot can help.
            let _ = self.wants_snapshot.try_send(());
            return Ok(());
        }
        let cursors = Cursors { chain_broken_at: gone, ..self.cursors };
        self.keep_cursors(cursors)?;
        self.log.release(gone)?;
        error!(
            folded_seq = self.cursors.folded_seq,
            chain_broken_at = gone,
            wal_bytes_max = self.limits.wal_bytes_max,
            "THE CHAIN IS BROKEN: log that the vault does not have was released at its bound; the agent must take a new snapshot"
        );
        Ok(())
    }

    /// Leaves the mark of a clean stop.
    fn close(&mut self) -> Result<(), Error> {
        self.flush()?;
        crate::disk::replace(self.disk.as_ref(), CLOSED_NAME, &closed_mark(&self.at))
    }
}
