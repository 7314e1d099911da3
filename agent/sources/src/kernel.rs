//! The source `kernel`: a node's state as a point.
//!
//! What always holds:
//! - A point is a snapshot and every log record after it up to a sequence S that
//!   was durable in the node, all of one lineage. Writes may go on meanwhile.
//! - Nothing is returned that was not replayed: the very bytes that went into the
//!   vault were decoded, and each record led to the state hash and chain hash that
//!   the next one names. What is wrong in the node never becomes a point.
//! - The node hears of S only when the point is durable. Only then may it release
//!   its log.

use bytes::Bytes;
use futures::StreamExt;
use kernel_client::core::{ChainVerifier, Lineage, State, Verified};
pub use kernel_client::{Client, Endpoint};
use kernel_client::{SnapshotInfo, WalStream};
use tokio::runtime::Handle;
use vault_format::body::ChunkKind;
use vault_format::point::{KernelRoot, PointRoot, SourceKind};
use vault_format::tree::Content;
use vault_format::{Hash, LineageId};
use vault_ops::source::{Reading, Sink, Source};
use vault_ops::{OpsError, Result};

use crate::checked::CheckedReader;
pub use crate::kernel_files::{KernelReport, LOG_FILE, SNAPSHOT_FILE, restore_kernel};

/// Log records since the newest snapshot above which a new one is made: what a
/// restore replays after loading it.
const LOG_RECORDS_MAX: u64 = 20_000;
/// Log bytes above which the next backup makes a snapshot: below it, sending the
/// records again with each point is cheaper than a new snapshot.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Log bytes asked for at once.
const LOG_PAGE_BYTES: u64 = 8 << 20;
/// A node replaces snapshots and releases log while it is read; more often than
/// this in a row it does not happen by chance.
const ATTEMPTS_MAX: u32 = 3;

/// A kernel node, read through its own interface.
pub struct KernelSource {
    name: String,
    client: Client,
    runtime: Handle,
    log_records_max: u64,
    log_bytes_seen: u64,
    /// Lineage and sequence of the newest point made through this source.
    last_point: Option<(LineageId, u64)>,
}

impl KernelSource {
    /// A source called `name`. Reading blocks on `runtime`, so it must happen on
    /// a thread that may block.
    pub fn new(name: impl Into<String>, client: Client, runtime: Handle) -> Self {
        let name = name.into();
        Self { name, client, runtime, log_records_max: LOG_RECORDS_MAX, log_bytes_seen: 0, last_point: None }
    }

    /// Makes a snapshot first when the log has more records than this since the
    /// newest one. Zero makes one for every point.
    #[must_use]
    pub fn with_log_records_max(mut self, records: u64) -> Self {
        self.log_records_max = records;
        self
    }
}

impl Source for KernelSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Kernel
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, sink: &mut dyn Sink) -> Result<Reading> {
        let mut attempt = 1;
        loop {
            // After a first failure only a new snapshot can help: the old one was
            // replaced, its log released, or it is damaged on the node's disk.
            match self.read_once(sink, attempt > 1) {
                Ok(reading) => return Ok(reading),
                Err(stop) if stop.can_retry() && attempt < ATTEMPTS_MAX => {
                    tracing::warn!(source = self.name, attempt, "reading again from a new snapshot: {}", stop.why());
                    attempt += 1;
                }
                Err(Stop::Sink(error)) => return Err(error),
                Err(stop) => return Err(self.failure(&stop.why())),
            }
        }
    }

    fn committed(&mut self, root: &PointRoot) -> Result<()> {
        let PointRoot::Kernel(root) = root else { return Ok(()) };
        self.last_point = Some((root.lineage, root.sequence));
        let lineage = Lineage::from_bytes(root.lineage.0);
        let moved = self.runtime.block_on(self.client.set_cursors(lineage, root.sequence, root.sequence));
        moved.map(drop).map_err(|error| {
            self.failure(&format!(
                "the point is stored, but the node could not be told, so it keeps its log until the next point: {error}"
            ))
        })
    }
}

impl KernelSource {
    fn failure(&self, why: &str) -> OpsError {
        OpsError::Source { name: self.name.clone(), why: why.to_owned() }
    }

    fn read_once(&mut self, sink: &mut dyn Sink, new_snapshot: bool) -> std::result::Result<Reading, Stop> {
        let info = self.choose_snapshot(new_snapshot)?;
        let (snapshot, replay) = self.read_snapshot(sink, &info)?;
        let (log, replay) = self.read_log(sink, &info, replay)?;
        let (state, verified) = replay.finish().map_err(Stop::Damaged)?;
        let root = KernelRoot {
            snapshot,
            log,
            lineage: LineageId(*verified.lineage.as_bytes()),
            snapshot_sequence: info.sequence,
            sequence: verified.sequence,
            state_hash: Hash(*verified.state_hash.as_bytes()),
            chain_hash: Hash(*verified.chain.as_bytes()),
        };
        let items = records_of(&state);
        let changed = self.changed_since_last_point(&verified).unwrap_or(items);
        Ok(Reading { root: PointRoot::Kernel(root), items, changed, unreadable: Vec::new() })
    }

    /// Commands since the last point, if this source made it.
    fn changed_since_last_point(&self, now: &Verified) -> Option<u64> {
        let (lineage, sequence) = self.last_point?;
        if lineage.0 == *now.lineage.as_bytes() { now.sequence.checked_sub(sequence) } else { None }
    }

    /// The newest snapshot of the node's present lineage, or a new one.
    fn choose_snapshot(&mut self, new_snapshot: bool) -> std::result::Result<SnapshotInfo, Stop> {
        self.runtime.block_on(async {
            if !new_snapshot && self.log_bytes_seen <= LOG_BYTES_MAX {
                let state = self.client.state().await?;
                let known = self.client.snapshots().await?;
                let ours = known.into_iter().filter(|snapshot| snapshot.lineage == state.lineage);
                let newest = ours.max_by_key(|snapshot| snapshot.sequence);
                let close =
                    |snapshot: &SnapshotInfo| state.sequence.saturating_sub(snapshot.sequence) <= self.log_records_max;
                if let Some(snapshot) = newest.filter(close) {
                    return Ok(snapshot);
                }
            }
            Ok(self.client.make_snapshot().await?)
        })
    }

    fn read_snapshot(
        &self,
        sink: &mut dyn Sink,
        info: &SnapshotInfo,
    ) -> std::result::Result<(Content, ChainVerifier), Stop> {
        let mut stream = self.runtime.block_on(self.client.snapshot(info.sequence))?;
        let mut replay = ChainVerifier::new();
        let next = || Ok(self.runtime.block_on(stream.next()).transpose()?);
        let mut bytes = CheckedReader::new(next, |piece: &[u8]| replay.push_snapshot(piece).map_err(Stop::Damaged));
        let content = sink.write(ChunkKind::Data, &mut bytes).map_err(Stop::Sink)?;
        expect_all(bytes.finish()?, &content)?;
        Ok((content, replay.end_snapshot().map_err(Stop::Damaged)?))
    }

    /// The log up to what is durable now. A node that writes faster than it is
    /// read would otherwise never end.
    fn read_log(
        &mut self,
        sink: &mut dyn Sink,
        info: &SnapshotInfo,
        mut replay: ChainVerifier,
    ) -> std::result::Result<(Content, ChainVerifier), Stop> {
        let now = self.runtime.block_on(self.client.state())?;
        if now.lineage != info.lineage {
            return Err(Stop::Moved("the node began a new lineage while it was read".into()));
        }
        let mut pages = LogPages {
            client: &self.client,
            runtime: &self.runtime,
            lineage: info.lineage,
            after: info.sequence,
            until: now.sequence,
            page: None,
        };
        let next = || pages.next();
        let mut bytes = CheckedReader::new(next, |piece: &[u8]| replay.push_log(piece).map_err(Stop::Damaged));
        let content = sink.write(ChunkKind::Data, &mut bytes).map_err(Stop::Sink)?;
        let passed = bytes.finish()?;
        expect_all(passed, &content)?;
        self.log_bytes_seen = passed;
        Ok((content, replay))
    }
}

/// The log, page by page, from `after` until at least `until`.
struct LogPages<'a> {
    client: &'a Client,
    runtime: &'a Handle,
    lineage: Lineage,
    after: u64,
    until: u64,
    page: Option<WalStream>,
}

impl LogPages<'_> {
    fn next(&mut self) -> std::result::Result<Option<Bytes>, Stop> {
        self.runtime.block_on(async {
            loop {
                if let Some(page) = &mut self.page {
                    if let Some(piece) = page.next().await {
                        return Ok(Some(piece?));
                    }
                    self.page = None;
                }
                if self.after >= self.until {
                    return Ok(None);
                }
                let page = self.client.wal(self.lineage, self.after, LOG_PAGE_BYTES, 0).await?;
                let Some(last) = page.last else {
                    let (after, until) = (self.after, self.until);
                    return Err(Stop::Moved(format!("its log ends at {after} where {until} was durable")));
                };
                self.after = last;
                self.page = Some(page);
            }
        })
    }
}

/// Why a reading was not completed.
enum Stop {
    /// The node moved on while it was read.
    Moved(String),
    /// The bytes do not replay to their own hashes.
    Damaged(kernel_client::core::Error),
    Node(kernel_client::Error),
    Sink(OpsError),
}

impl Stop {
    fn can_retry(&self) -> bool {
        match self {
            Self::Moved(_) | Self::Damaged(_) => true,
            Self::Node(error) => {
                use kernel_client::Error::{Conflict, Gone, NotFound};
                matches!(error, Gone { .. } | NotFound { .. } | Conflict { .. })
            }
            Self::Sink(_) => false,
        }
    }

    fn why(&self) -> String {
        match self {
            Self::Moved(why) => format!("{why}. No point was made; run it again"),
            Self::Damaged(error) => format!(
                "what the node gave does not replay to its own hashes ({error}). No point was made and earlier points \
                 stand; check the node's disk and start it again"
            ),
            Self::Node(error) => format!("{error}. No point was made"),
            Self::Sink(error) => error.to_string(),
        }
    }
}

impl From<kernel_client::Error> for Stop {
    fn from(error: kernel_client::Error) -> Self {
        Self::Node(error)
    }
}

/// The sink stored what was checked, no more and no less.
fn expect_all(passed: u64, content: &Content) -> std::result::Result<(), Stop> {
    if passed == content.bytes {
        return Ok(());
    }
    let why = format!("{passed} bytes were read and {} stored", content.bytes);
    Err(Stop::Sink(OpsError::corrupt("a content that was just written", why)))
}

fn records_of(state: &State) -> u64 {
    state.collections().iter().map(|collection| collection.counts().records).sum()
}
