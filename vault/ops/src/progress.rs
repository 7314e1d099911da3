//! How far an operation has come: counters that those who do the work bump and
//! somebody else looks at.
//!
//! What always holds: nothing waits for a look, and a look changes nothing; what was
//! counted was really read, compared or written; a total that is only a guess is marked
//! as one. No clock is here: who looks knows when.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use async_trait::async_trait;
use vault_format::point::PointRecord;
use vault_format::tree::Content;

use crate::error::Result;
use crate::source::PointReader;

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing that is counted.
    #[default]
    Waiting,
    /// Manifests, listings and tables of contents are read.
    Opening,
    /// The source is read, and what is new of it is stored.
    Reading,
    /// The point is signed and written.
    Committing,
    /// What stands in the target is looked at.
    Planning,
    /// Files are written, or compared where they are there.
    Writing,
    /// The target's file system is told to keep it all.
    Syncing,
    /// What was written is read again.
    Verifying,
    /// Shards are challenged.
    Auditing,
    /// Shards are rebuilt and brought home.
    Mending,
    /// Files of which nothing is known are looked at, or packs among them.
    Scanning,
    /// Shards that were found are brought home.
    Importing,
    /// What waits in the spool goes to the locations.
    Delivering,
    /// Packs are opened and what is in them is sealed anew.
    Sealing,
    /// Shards that nobody needs are deleted.
    Removing,
    /// Points are looked through.
    Searching,
    /// Retention locks are extended.
    Locking,
    /// The catalog is filled from packs.
    Learning,
}

impl Phase {
    const ALL: [Self; 18] = [
        Self::Waiting,
        Self::Opening,
        Self::Reading,
        Self::Committing,
        Self::Planning,
        Self::Writing,
        Self::Syncing,
        Self::Verifying,
        Self::Auditing,
        Self::Mending,
        Self::Scanning,
        Self::Importing,
        Self::Delivering,
        Self::Sealing,
        Self::Removing,
        Self::Searching,
        Self::Locking,
        Self::Learning,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Opening => "opening",
            Self::Reading => "reading",
            Self::Committing => "committing",
            Self::Planning => "planning",
            Self::Writing => "writing",
            Self::Syncing => "syncing",
            Self::Verifying => "verifying",
            Self::Auditing => "auditing",
            Self::Mending => "mending",
            Self::Scanning => "scanning",
            Self::Importing => "importing",
            Self::Delivering => "delivering",
            Self::Sealing => "sealing",
            Self::Removing => "removing",
            Self::Searching => "searching",
            Self::Locking => "locking",
            Self::Learning => "learning",
        }
    }
}

/// What there is to do in a phase, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Bytes; none if nobody knows.
    pub bytes: Option<u64>,
    /// Files, shards or whatever the phase counts; none if nobody knows.
    pub items: Option<u64>,
    /// It is what it was last time, not what it will be.
    pub is_guess: bool,
}

impl Total {
    /// So many files, shards or the like, of a number of bytes that nobody knows.
    pub fn of_items(items: usize) -> Self {
        Self { items: Some(items as u64), ..Self::default() }
    }

    /// So many bytes.
    pub fn of_bytes(bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..Self::default() }
    }
}

/// What the counters show at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of it done.
    pub bytes: u64,
    /// Files, shards or the like done.
    pub items: u64,
    /// What there is to do.
    pub total: Total,
    /// Rises with every phase that begins at nothing.
    pub round: u64,
}

/// Shared counters; a clone counts into the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    phase: AtomicU8,
    round: AtomicU64,
    bytes: AtomicU64,
    items: AtomicU64,
    /// `u64::MAX` where nobody knows.
    bytes_total: AtomicU64,
    items_total: AtomicU64,
    is_guess: AtomicBool,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Waiting as u8),
            round: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            items: AtomicU64::new(0),
            bytes_total: AtomicU64::new(u64::MAX),
            items_total: AtomicU64::new(u64::MAX),
            is_guess: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// A phase begins, at nothing done and nothing known.
    pub fn begin(&self, phase: Phase) {
        self.begin_of(phase, Total::default());
    }

    /// A phase begins of which it is known, or guessed, what there is to do.
    pub fn begin_of(&self, phase: Phase, total: Total) {
        let counters = &self.0;
        counters.bytes.store(0, Ordering::Relaxed);
        counters.items.store(0, Ordering::Relaxed);
        counters.bytes_total.store(total.bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
        counters.items_total.store(total.items.unwrap_or(u64::MAX), Ordering::Relaxed);
        counters.is_guess.store(total.is_guess, Ordering::Relaxed);
        counters.round.fetch_add(1, Ordering::Relaxed);
        self.enter(phase);
    }

    /// Another phase of the same work: what was counted stays.
    pub fn enter(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// So many more bytes are done.
    pub fn add_bytes(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many more files, shards or the like are done.
    pub fn add_items(&self, items: u64) {
        self.0.items.fetch_add(items, Ordering::Relaxed);
    }

    /// The counters now. Each is exact; together they are not one instant.
    pub fn seen(&self) -> Seen {
        let counters = &self.0;
        let known = |total: &AtomicU64| Some(total.load(Ordering::Relaxed)).filter(|&total| total != u64::MAX);
        let phase = usize::from(counters.phase.load(Ordering::Relaxed));
        Seen {
            phase: Phase::ALL.get(phase).copied().unwrap_or_default(),
            bytes: counters.bytes.load(Ordering::Relaxed),
            items: counters.items.load(Ordering::Relaxed),
            total: Total {
                bytes: known(&counters.bytes_total),
                items: known(&counters.items_total),
                is_guess: counters.is_guess.load(Ordering::Relaxed),
            },
            round: counters.round.load(Ordering::Relaxed),
        }
    }

    /// Counts the bytes that `to` takes.
    pub fn counting<'a>(&'a self, to: &'a mut (dyn Write + Send)) -> Counting<'a> {
        Counting { to, progress: self }
    }
}

/// See [`Progress::counting`].
pub struct Counting<'a> {
    to: &'a mut (dyn Write + Send),
    progress: &'a Progress,
}

impl Write for Counting<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.to.write(buffer)?;
        self.progress.add_bytes(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Counts the bytes that come out of `from`.
pub(crate) struct CountedRead<'a> {
    pub(crate) from: &'a mut dyn Read,
    pub(crate) progress: Progress,
}

impl Read for CountedRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.progress.add_bytes(count as u64);
        Ok(count)
    }
}

/// A point that counts what is read of it, for who restores it as one stream.
pub struct CountedPoint<'a> {
    /// The point.
    pub point: &'a dyn PointReader,
    /// Where it is counted.
    pub progress: &'a Progress,
}

#[async_trait]
impl PointReader for CountedPoint<'_> {
    fn record(&self) -> &PointRecord {
        self.point.record()
    }

    fn will_read(&self, contents: &mut dyn Iterator<Item = &Content>) {
        self.point.will_read(contents);
    }

    async fn read(&self, content: &Content, to: &mut (dyn Write + Send)) -> Result<()> {
        self.point.read(content, &mut self.progress.counting(to)).await
    }

    async fn matches(&self, content: &Content, from: &mut (dyn Read + Send)) -> Result<bool> {
        self.point.matches(content, from).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_seen_as_what_it_is() {
        let progress = Progress::default();
        assert_eq!(progress.seen(), Seen::default());
        for (number, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, number, "the list is in the order of the numbers");
            progress.enter(phase);
            assert_eq!(progress.seen().phase, phase);
        }
    }

    #[test]
    fn a_phase_that_begins_forgets_and_one_that_is_entered_goes_on() {
        let progress = Progress::default();
        let total = Total { bytes: Some(10), items: None, is_guess: true };
        progress.begin_of(Phase::Reading, total);
        let mut to = Vec::new();
        progress.counting(&mut to).write_all(b"abcd").unwrap();
        progress.clone().add_items(2);
        progress.enter(Phase::Committing);
        let seen = progress.seen();
        assert_eq!(seen, Seen { phase: Phase::Committing, bytes: 4, items: 2, total, round: 1 });
        progress.begin(Phase::Auditing);
        assert_eq!(progress.seen(), Seen { phase: Phase::Auditing, round: 2, ..Seen::default() });
    }

    /// What a writer refuses was not done.
    #[test]
    fn bytes_that_were_not_taken_are_not_counted() {
        let progress = Progress::default();
        let mut small = [0; 3];
        let mut room = &mut small[..];
        progress.counting(&mut room).write_all(b"abcd").unwrap_err();
        assert_eq!(progress.seen().bytes, 3);
    }
}
