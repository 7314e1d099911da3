//! Rolling scrub: every shard of every location is read once in an interval.
//!
//! What always holds: the shard that waits longest comes first, whoever read it
//! last; a slice ends at any moment without losing what it learned, and the next
//! goes on from there; reading keeps under the bandwidth that was given, in the
//! world's own time. No key is needed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vault_format::PackId;
use vault_format::shard::ShardLayout;

use crate::catalog::{Catalog, ReadRow};
use crate::census::{self, Census};
use crate::challenge::{Answer, Examiner, Finding, Outcome, weigh_again};
use crate::error::Result;
use crate::fetch::{Fetcher, Trust};
use crate::location::Location;
use crate::vault::Vault;

/// Everything is read once in this time, if nothing else is said.
pub const INTERVAL_DEFAULT: Duration = Duration::from_hours(90 * 24);
/// A location that so often in a row does not answer is left alone for this slice.
const OFFLINE_MAX: u32 = 3;
/// One in so many more than its even part is read, so that the last shard of a round is
/// not late by the time lost to outages.
const AHEAD: u128 = 8;

/// How to read.
#[derive(Clone, Copy, Debug)]
pub struct ScrubOptions {
    /// Every shard is read once in this time.
    pub interval: Duration,
    /// What the first slice of all takes: the part of so much time.
    pub every: Duration,
    /// Bytes a second, at most.
    pub bandwidth: Option<u64>,
    /// Longest slice.
    pub time_max: Duration,
}

/// One location's part of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocationScrub {
    /// Its name.
    pub name: String,
    /// Shards it keeps, or should.
    pub shards: usize,
    /// Bytes they have.
    pub bytes: u64,
    /// Shards read in this slice.
    pub read: usize,
    /// Bytes read in this slice.
    pub read_bytes: u64,
    /// Shards that wait longer than the interval, after this slice.
    pub overdue: usize,
    /// Since when the shard waits that waits longest, after this slice.
    pub oldest_ms: Option<i64>,
    /// Time was up before what was due.
    pub more: bool,
}

/// What a slice did.
#[derive(Debug, Default)]
pub struct ScrubReport {
    /// Each location that answers.
    pub locations: Vec<LocationScrub>,
    /// What was not right, or could not be judged.
    pub findings: Vec<Finding>,
    /// Packs of which too few shards are shown anywhere.
    pub short: Vec<(PackId, usize)>,
    /// Locations that did not answer at all.
    pub silent: Vec<(String, String)>,
}

impl ScrubReport {
    /// The worst outcome.
    pub fn worst(&self) -> Outcome {
        let short = if self.short.is_empty() { Outcome::Ok } else { Outcome::Failed };
        let silent = if self.silent.is_empty() { Outcome::Ok } else { Outcome::Offline };
        self.findings.iter().map(|finding| finding.outcome).chain([short, silent]).max().unwrap_or(Outcome::Ok)
    }
}

/// A shard and since when it waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    since_ms: i64,
    pack: PackId,
    index: u8,
    bytes: u64,
}

/// Reads one slice: an even part of every location, and what is overdue, as far as
/// time allows.
pub async fn slice(vault: &Vault, catalog: &Catalog, options: &ScrubOptions) -> Result<ScrubReport> {
    let census = census::take(vault, catalog).await?;
    let fetcher = Fetcher::new(vault.world.clone(), census.holdings.clone(), Trust::Signed(vault.writers.clone()));
    let mut report = ScrubReport { silent: census.holdings.silent.clone(), ..ScrubReport::default() };
    let began_ms = vault.world.now_ms();
    let mut pace = Pace { began_ms, bytes: 0, parts: (0, vault.locations.len()), options: *options };
    for location in &vault.locations {
        pace.parts.0 += 1;
        if report.silent.iter().any(|(name, _)| *name == location.name) {
            continue;
        }
        let examiner =
            Examiner { vault, catalog, census: &census, fetcher: &fetcher, location, bytes: AtomicU64::new(0) };
        let line = scrub_location(&examiner, &mut pace, &mut report.findings).await?;
        report.locations.push(line);
    }
    let mut census = census;
    census.holdings.discount(&catalog.failures()?);
    census.look_older(vault).await;
    report.short = census.short(vault);
    weigh_again(&mut report.findings, &census, &report.short);
    Ok(report)
}

async fn scrub_location(
    examiner: &Examiner<'_>,
    pace: &mut Pace,
    findings: &mut Vec<Finding>,
) -> Result<LocationScrub> {
    let (vault, location) = (examiner.vault, examiner.location);
    let mut waiting = waiting(examiner.census, examiner.catalog, vault, location)?;
    let bytes = waiting.iter().map(|shard| shard.bytes).sum();
    let mut line =
        LocationScrub { name: location.name.clone(), shards: waiting.len(), bytes, ..LocationScrub::default() };
    let debt = Debt::of(examiner.catalog, location, pace, bytes)?;
    let (quota, late_ms) = (debt.bytes, pace.late_ms());
    let mut offline = 0;
    for shard in &mut waiting {
        let enough = line.read_bytes >= quota && shard.since_ms > late_ms;
        line.more = !enough && offline < OFFLINE_MAX;
        if !line.more || pace.is_over(vault.world.now_ms()) {
            break;
        }
        line.more = false;
        let before = examiner.bytes.load(Ordering::Relaxed);
        let answer = examiner.read_whole(shard.pack, shard.index).await?;
        let came = examiner.bytes.load(Ordering::Relaxed) - before;
        match &answer {
            Answer::Offline(_) => offline += 1,
            Answer::Right => {
                offline = 0;
                shard.since_ms = vault.world.now_ms();
                line.read += 1;
            }
            Answer::Wrong(_) | Answer::Gone | Answer::Unknown(_) => offline = 0,
        }
        // What came wrong was read too, but waits on: repair reads it back.
        line.read_bytes += came.max(1);
        findings.extend(examiner.judge(shard.pack, shard.index, answer)?);
        pace.wait(vault, came).await;
    }
    debt.pay(examiner.catalog, location, line.read_bytes)?;
    line.overdue = waiting.iter().filter(|shard| shard.since_ms <= late_ms).count();
    line.oldest_ms = waiting.iter().map(|shard| shard.since_ms).min();
    Ok(line)
}

/// A location's shards, the one that waits longest first.
fn waiting(census: &Census, catalog: &Catalog, vault: &Vault, location: &Location) -> Result<Vec<Waiting>> {
    let kept = census.kept_at(vault, location.id);
    catalog.expect_reads(location.id, &kept, vault.world.now_ms())?;
    let reads = catalog.reads(location.id)?;
    let mut waiting: Vec<Waiting> = kept
        .into_iter()
        .map(|(pack, index)| Waiting {
            // Never read counts as before all that was.
            since_ms: reads.get(&(pack, index)).map_or(0, ReadRow::since_ms),
            pack,
            index,
            bytes: census.class(pack).map_or(0, |class| ShardLayout::new(class).object_bytes()),
        })
        .collect();
    waiting.sort_unstable();
    Ok(waiting)
}

/// How many bytes of a location are due: an even part for the time since the last
/// slice, and what that one left. Kept in the catalog.
struct Debt {
    bytes: u64,
    now_ms: i64,
}

impl Debt {
    fn key(location: &Location) -> String {
        format!("scrub of {}", location.id)
    }

    fn of(catalog: &Catalog, location: &Location, pace: &Pace, bytes: u64) -> Result<Self> {
        let now_ms = pace.began_ms;
        let first = || (now_ms.saturating_sub(millis(pace.options.every)), 0);
        let (then_ms, owed) =
            catalog.meta(&Self::key(location))?.and_then(|kept| Self::decode(&kept)).unwrap_or_else(first);
        // A clock that was set back owes nothing, and one that was set ahead not more than everything.
        let interval_ms = millis(pace.options.interval).max(1);
        let passed_ms = now_ms.saturating_sub(then_ms).clamp(0, interval_ms);
        let part = u128::from(bytes) * u128::from(passed_ms.unsigned_abs()) / u128::from(interval_ms.unsigned_abs());
        let part = u64::try_from(part + part / AHEAD).unwrap_or(u64::MAX);
        Ok(Self { bytes: owed.saturating_add(part).min(bytes), now_ms })
    }

    fn pay(self, catalog: &Catalog, location: &Location, read: u64) -> Result<()> {
        let left = self.bytes.saturating_sub(read);
        catalog.set_meta(&Self::key(location), &[self.now_ms.to_le_bytes(), left.to_le_bytes()].concat())
    }

    fn decode(kept: &[u8]) -> Option<(i64, u64)> {
        let (now_ms, left) = kept.split_at_checked(8)?;
        Some((i64::from_le_bytes(now_ms.try_into().ok()?), u64::from_le_bytes(left.try_into().ok()?)))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// How long, and how fast.
struct Pace {
    began_ms: i64,
    bytes: u64,
    /// The location it is at, and how many there are: each has its part of the time.
    parts: (usize, usize),
    options: ScrubOptions,
}

impl Pace {
    /// What waits since then or longer is overdue.
    fn late_ms(&self) -> i64 {
        self.began_ms.saturating_sub(millis(self.options.interval))
    }

    fn is_over(&self, now_ms: i64) -> bool {
        let spent_ms = u128::from(now_ms.saturating_sub(self.began_ms).max(0).unsigned_abs());
        spent_ms * self.parts.1 as u128 >= self.options.time_max.as_millis() * self.parts.0 as u128
    }

    /// Waits until what was read so far was not too fast.
    async fn wait(&mut self, vault: &Vault, bytes: u64) {
        self.bytes += bytes;
        let Some(bandwidth) = self.options.bandwidth.filter(|bandwidth| *bandwidth > 0) else { return };
        let due_ms = u128::from(self.bytes) * 1000 / u128::from(bandwidth);
        let spent_ms = u128::from(vault.world.now_ms().saturating_sub(self.began_ms).max(0).unsigned_abs());
        if due_ms > spent_ms {
            let wait_ms = u64::try_from(due_ms - spent_ms).unwrap_or(u64::MAX);
            vault.world.clock.sleep(Duration::from_millis(wait_ms)).await;
        }
    }
}
