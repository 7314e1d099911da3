//! A running node: a handle that any number of tasks may hold.

use std::sync::{Arc, Mutex, OnceLock};

use kernel_core::{Claim, Command, Hash, Lineage, Proof, State, Verified};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{error, warn};

use crate::clock::Clock;
use crate::cursors::Cursors;
use crate::disk::Disk;
use crate::error::Error;
use crate::log::{Log, LogTail, Reader, lock};
use crate::recovery::{self, CLOSED_NAME, Recovered};
use crate::snapshots::{self, KEPT, Parent, SnapshotFile};
use crate::writer::{Job, Writer};

/// When a write is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Each write by itself.
    EveryWrite,
    /// All that wait, with one sync: the default. As safe, and faster when several clients write.
    Batch,
    /// Not at all: acknowledged writes can be lost by a crash of the machine. For bulk loads.
    None,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// When it is synced here.
    Local,
    /// When the vault's journal has it. Comes with the agent's journal tier.
    Vault,
}

/// What happens to the log as long as no agent has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unattached {
    /// It is kept, within its bound.
    Keep,
    /// It is released behind snapshots.
    ReleaseAtSnapshot,
}

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// When a write is synced.
    pub sync: SyncMode,
    /// When a write is acknowledged.
    pub acknowledge: Acknowledge,
    /// What happens to the log before the first agent.
    pub unattached: Unattached,
    /// A new segment is opened beyond this size.
    pub segment_bytes: u64,
    /// The log never grows far beyond this; see [`Cursors::chain_broken_at`].
    pub wal_bytes_max: u64,
    /// A snapshot is made after this much log.
    pub snapshot_every_bytes: u64,
    /// 16 random bytes: the lineage of a node made in an empty directory. Not used otherwise.
    pub fresh_lineage: Lineage,
}

impl Config {
    /// The defaults, with the randomness a new node would need.
    pub fn new(fresh_lineage: Lineage) -> Self {
        Config {
            sync: SyncMode::Batch,
            acknowledge: Acknowledge::Local,
            unattached: Unattached::Keep,
            segment_bytes: 64 << 20,
            wal_bytes_max: 8 << 30,
            snapshot_every_bytes: 512 << 20,
            fresh_lineage,
        }
    }
}

/// The part of the configuration the writer needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) sync: SyncMode,
    pub(crate) unattached: Unattached,
    pub(crate) wal_bytes_max: u64,
    pub(crate) snapshot_every_bytes: u64,
}

/// A version of the state that is durable, and so may be seen.
pub struct Published {
    /// The state.
    pub state: State,
    /// Its sequence, hashes and lineage.
    pub at: Verified,
}

/// The answer to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its sequence.
    pub sequence: u64,
    /// The state hash there.
    pub state_hash: Hash,
    /// Things changed.
    pub changed: u64,
}

/// A snapshot that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// File name.
    pub name: String,
    /// Sequence of the state.
    pub sequence: u64,
    /// Its hash.
    pub state_hash: Hash,
    /// Its lineage.
    pub lineage: Lineage,
    /// When it was made, milliseconds since 1970.
    pub wall_ms: i64,
    /// Length of the file.
    pub bytes: u64,
}

/// Writes waiting for the writer, in KiB, before clients have to wait too.
const QUEUE_KIB: u32 = 256 << 10;
const QUEUE_JOBS: usize = 4_096;

struct Shared {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    parent: Parent,
    recovered: Recovered,
    jobs: mpsc::Sender<Job>,
    queue: Semaphore,
    published: watch::Receiver<Arc<Published>>,
    log: Reader,
    cursors: Arc<Mutex<Cursors>>,
    failed: Arc<OnceLock<String>>,
    snapshots: Mutex<Vec<SnapshotFile>>,
    /// Held while a snapshot is made.
    making_snapshot: tokio::sync::Mutex<()>,
    sync: SyncMode,
}

/// A running node. Clones are the same node.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

fn stopped() -> Error {
    Error::Unavailable { what: "it is stopping".to_owned() }
}

impl Node {
    /// Recovers what is on the disk and starts the writer. Needs a tokio runtime for snapshots in the background.
    pub fn open(config: &Config, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        if config.acknowledge == Acknowledge::Vault {
            return Err(Error::Unsupported {
                setting: "ack = \"vault\"",
                what: "comes with the agent's journal tier; use ack = \"local\"",
            });
        }
        if config.sync == SyncMode::None {
            warn!("sync mode `none`: a crash of this machine can lose acknowledged writes");
        }
        let found = recovery::recover(&disk, config.fresh_lineage, clock.now_ms())?;
        // From here on the log may grow, so the mark of the last clean stop must go first.
        if disk.names().map_err(Error::io("cannot list", "the data directory"))?.iter().any(|name| name == CLOSED_NAME)
        {
            disk.remove(CLOSED_NAME).map_err(Error::io("cannot remove", CLOSED_NAME))?;
            disk.sync_names().map_err(Error::io("cannot sync", "the data directory"))?;
        }
        let log = Log::open(
            Arc::clone(&disk),
            found.at.lineage,
            found.segments,
            config.segment_bytes,
            found.at.sequence + 1,
            &found.at.chain,
        )?;
        let (published_in, published) =
            watch::channel(Arc::new(Published { state: found.state.clone(), at: found.at }));
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS);
        let (wants_snapshot, snapshot_requests) = mpsc::channel(1);
        let reader = Reader::new(Arc::clone(&disk), log.segments());
        let cursors = Arc::new(Mutex::new(found.cursors));
        let failed = Arc::new(OnceLock::new());
        let writer = Writer {
            disk: Arc::clone(&disk),
            clock: Arc::clone(&clock),
            limits: Limits {
                sync: config.sync,
                unattached: config.unattached,
                wal_bytes_max: config.wal_bytes_max,
                snapshot_every_bytes: config.snapshot_every_bytes,
            },
            log,
            state: found.state,
            synced: found.at.sequence,
            bytes_since_snapshot: 0,
            recovery_from: found.snapshots.first().map_or(0, |oldest| oldest.sequence),
            at: found.at,
            cursors: found.cursors,
            cursors_shown: Arc::clone(&cursors),
            published: published_in,
            wants_snapshot,
            failed: Arc::clone(&failed),
        };
        std::thread::Builder::new()
            .name("kernel-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(Error::io("cannot start", "the writer thread"))?;
        let shared = Shared {
            disk,
            clock,
            parent: found.parent,
            recovered: found.report,
            jobs,
            queue: Semaphore::new(QUEUE_KIB as usize),
            published,
            log: reader,
            cursors,
            failed,
            snapshots: Mutex::new(found.snapshots),
            making_snapshot: tokio::sync::Mutex::new(()),
            sync: config.sync,
        };
        let node = Node { shared: Arc::new(shared) };
        node.snapshot_when_asked(snapshot_requests);
        Ok(node)
    }

    fn snapshot_when_asked(&self, mut requests: mpsc::Receiver<()>) {
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            while requests.recv().await.is_some() {
                let Some(shared) = shared.upgrade() else { return };
                if let Err(error) = (Node { shared }).snapshot().await {
                    error!(%error, "the scheduled snapshot failed; the log is kept until one succeeds");
                }
            }
        });
    }

    /// What recovery found at start.
    pub fn recovered(&self) -> Recovered {
        self.shared.recovered
    }

    /// Why the node does not accept writes any more, if so. Reads go on.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failed.get().map(String::as_str)
    }

    /// When writes are synced.
    pub fn sync_mode(&self) -> SyncMode {
        self.shared.sync
    }

    /// The lineage this one branched from and the sequence where, if the node was ever restored.
    pub fn parent(&self) -> Option<(Lineage, u64)> {
        let Parent { lineage, sequence } = self.shared.parent;
        (lineage != Lineage::NONE).then_some((lineage, sequence))
    }

    /// The newest durable version.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.shared.published.borrow())
    }

    /// Waits until there is a version beyond `sequence`.
    pub async fn published_after(&self, sequence: u64) -> Result<Arc<Published>, Error> {
        let mut published = self.shared.published.clone();
        let newer = published.wait_for(|version| version.at.sequence > sequence).await.map_err(|_| stopped())?;
        Ok(Arc::clone(&newer))
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.shared.jobs.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Applies a command; answers once it is durable.
    pub async fn write(&self, command: Command) -> Result<Written, Error> {
        let payload = command.encode()?;
        self.write_encoded(command, payload).await
    }

    /// Applies a command given as its canonical bytes.
    pub async fn write_bytes(&self, payload: Vec<u8>) -> Result<Written, Error> {
        let command = Command::decode(&payload)?;
        self.write_encoded(command, payload).await
    }

    async fn write_encoded(&self, command: Command, payload: Vec<u8>) -> Result<Written, Error> {
        let kib = (payload.len() as u32).div_ceil(1_024);
        let _room = self.shared.queue.acquire_many(kib).await.map_err(|_| stopped())?;
        self.ask(|reply| Job::Write { command, payload, reply }).await
    }

    /// Proves a claim against the newest durable version.
    pub fn prove(&self, claim: Claim) -> (Proof, Verified) {
        let published = self.published();
        (published.state.prove(claim), published.at)
    }

    /// Makes a snapshot of the newest durable version, or names the one that is there already.
    pub async fn snapshot(&self) -> Result<SnapshotInfo, Error> {
        let _one_at_a_time = self.shared.making_snapshot.lock().await;
        let published = self.published();
        let newest = lock(&self.shared.snapshots).last().cloned();
        if let Some(newest) = newest.filter(|newest| newest.sequence == published.at.sequence) {
            return Ok(newest.into());
        }
        self.ask(|reply| Job::Flush { reply }).await?;
        let header = snapshots::header(&published.at, self.shared.parent, self.shared.clock.now_ms());
        let shared = Arc::clone(&self.shared);
        let written = tokio::task::spawn_blocking(move || {
            let file = snapshots::write(shared.disk.as_ref(), &header, &published.state)?;
            let recovery_from = shared.keep_newest(file.clone())?;
            Ok::<_, Error>((file, recovery_from))
        });
        let (file, recovery_from) = written.await.map_err(|_| stopped())??;
        let sequence = file.sequence;
        self.shared.jobs.send(Job::Snapshotted { sequence, recovery_from }).await.map_err(|_| stopped())?;
        Ok(file.into())
    }

    /// The snapshots that can be downloaded, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        lock(&self.shared.snapshots).iter().cloned().map(SnapshotInfo::from).collect()
    }

    /// Opens a snapshot for reading. It stays readable even if it is replaced meanwhile.
    pub fn open_snapshot(&self, sequence: u64) -> Result<(SnapshotInfo, Box<dyn crate::disk::DiskFile>), Error> {
        let info = self.snapshots().into_iter().find(|info| info.sequence == sequence).ok_or_else(|| Error::Gone {
            what: format!("there is no snapshot of sequence {sequence}; make a new one"),
        })?;
        let file = self.shared.disk.open(&info.name).map_err(Error::io("cannot open", &info.name))?;
        Ok((info, file))
    }

    /// The log after a sequence, up to the newest durable record.
    pub fn log_after(&self, lineage: Option<Lineage>, after: u64, bytes_max: usize) -> Result<LogTail, Error> {
        let at = self.published().at;
        if let Some(lineage) = lineage
            && lineage != at.lineage
        {
            return Err(Error::Conflict {
                what: format!(
                    "this node's lineage is {}, not {lineage}: it was restored; start from a new snapshot",
                    at.lineage
                ),
            });
        }
        if after > at.sequence {
            return Err(Error::Conflict {
                what: format!(
                    "sequence {after} does not exist in lineage {}; the newest is {}",
                    at.lineage, at.sequence
                ),
            });
        }
        self.shared.log.read_after(after, at.sequence, bytes_max)
    }

    /// The agent's cursors.
    pub fn cursors(&self) -> Cursors {
        *lock(&self.shared.cursors)
    }

    /// Takes the agent's report.
    pub async fn set_cursors(&self, lineage: Lineage, durable_seq: u64, folded_seq: u64) -> Result<Cursors, Error> {
        let own = self.published().at.lineage;
        if lineage != own {
            return Err(Error::Conflict { what: format!("this node's lineage is {own}, not {lineage}") });
        }
        self.ask(|reply| Job::SetCursors { durable_seq, folded_seq, reply }).await
    }

    /// Syncs, leaves the mark of a clean stop and ends the writer. Later writes are refused.
    pub async fn stop(&self) -> Result<(), Error> {
        let _no_snapshot = self.shared.making_snapshot.lock().await;
        self.ask(|reply| Job::Stop { reply }).await
    }
}

impl Shared {
    /// Removes snapshots that are not needed any more; returns the oldest sequence recovery may start from.
    /// Their names are gone for good before the log behind them is: a snapshot that reappears after a
    /// crash must find its log.
    fn keep_newest(&self, file: SnapshotFile) -> Result<u64, Error> {
        let due: Vec<SnapshotFile> = {
            let mut listed = lock(&self.snapshots);
            listed.push(file);
            let surplus = listed.len().saturating_sub(KEPT);
            listed.drain(..surplus).collect()
        };
        for oldest in &due {
            self.disk.remove(&oldest.name).map_err(Error::io("cannot remove", &oldest.name))?;
        }
        if !due.is_empty() {
            self.disk.sync_names().map_err(Error::io("cannot sync", "the data directory"))?;
        }
        Ok(lock(&self.snapshots).first().map_or(0, |oldest| oldest.sequence))
    }
}

impl From<SnapshotFile> for SnapshotInfo {
    fn from(file: SnapshotFile) -> Self {
        let SnapshotFile { name, sequence, state_hash, lineage, wall_ms, bytes } = file;
        SnapshotInfo { name, sequence, state_hash, lineage, wall_ms, bytes }
    }
}
