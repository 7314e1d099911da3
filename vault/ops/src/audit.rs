//! Audit: random challenges against what each location should hold.
//!
//! What always holds: a challenge is a leaf chosen uniformly over the bytes a
//! location keeps (its own shards and those handed over to it), with the auditor's
//! own randomness; the copies of the small signed records are compared too, as
//! many as leaves are asked for; no key is needed; a budget bounds the sample, and
//! a verified wrong byte raises the location to a full scrub, whatever the budget.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use rand_core::Rng;
use vault_format::PackId;
use vault_format::layout::LocationState;
use vault_format::suite::LEAF_BYTES;

use crate::catalog::{AuditRow, Catalog, ReadRow, RecordFailure};
use crate::census::{self, Census};
use crate::challenge::{Answer, Challenge, Examiner, weigh_again};
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Trust};
use crate::location::Location;
use crate::progress::{Phase, Total};
use crate::records::{self, Odd};
use crate::step::Step;
use crate::vault::Vault;

pub use crate::challenge::{Finding, Outcome};

/// Challenges under way at once.
const AT_ONCE: usize = 8;
/// Challenges drawn at once, between two looks at the budget.
const BATCH: usize = 64;
/// Most bytes one challenge reads: a leaf, and the nodes of the largest class.
const CHALLENGE_BYTES: u64 = LEAF_BYTES as u64 + (16 << 10);
/// Challenges that find a loss of 1 % with 99 %.
pub const SAMPLES_DEFAULT: usize = 459;
/// Coverage and the age of what was not read are shown over this time.
pub const COVERAGE_DEFAULT: Duration = Duration::from_hours(90 * 24);

/// What to audit.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Leaves to challenge per location, at most.
    pub samples: usize,
    /// One location by name, or all.
    pub location: Option<String>,
    /// Read everything instead of a sample.
    pub full: bool,
}

/// What an audit may cost, over all its locations in equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// As many samples as were asked for.
    None,
    /// Bytes of leaves and their paths.
    Bytes(u64),
    /// Time.
    Time(Duration),
}

impl Budget {
    fn share(self, locations: usize) -> Self {
        let parts = locations.max(1) as u32;
        match self {
            Self::None => Self::None,
            Self::Bytes(bytes) => Self::Bytes(bytes / u64::from(parts)),
            Self::Time(time) => Self::Time(time / parts),
        }
    }
}

/// A record's copy that is wrong or missing, or that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFinding {
    /// Name of the location.
    pub location: String,
    /// The record's name there.
    pub name: String,
    /// `Contained` if the right bytes are known from another location; `Unknown` where a
    /// second record is signed for the same number.
    pub outcome: Outcome,
    /// What was seen.
    pub what: String,
}

/// One location's part of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocationAudit {
    /// Its name.
    pub name: String,
    /// Shards it keeps, or should.
    pub shards: usize,
    /// Leaves challenged, or all leaves read.
    pub samples: u64,
    /// Leaves it should hold.
    pub leaves: u64,
    /// Right answers.
    pub ok: u64,
    /// Wrong or missing.
    pub failed: u64,
    /// Not answered.
    pub offline: u64,
    /// Could not be judged.
    pub unknown: u64,
    /// Copies of records that were compared.
    pub records: u64,
    /// Of them wrong, or missing.
    pub records_failed: u64,
    /// Whether everything was read, by wish or after a wrong byte.
    pub full: bool,
    /// Bytes of shards that were read.
    pub bytes: u64,
    /// Leaves read and found right within [`COVERAGE_DEFAULT`], by any audit or scrub.
    pub covered: u64,
    /// When the shard was last read whole that waits longest; when it was first
    /// known, if it never was. `None` without shards.
    pub oldest_ms: Option<i64>,
}

impl LocationAudit {
    /// Probability that a loss of fraction `lost` of this location's leaves was
    /// found: 1 - (1 - f)^c.
    pub fn detection(&self, lost: f64) -> f64 {
        if self.offline + self.unknown == 0 && (self.full || self.samples >= self.leaves) {
            return 1.0;
        }
        1.0 - (1.0 - lost).powf((self.samples - self.offline - self.unknown) as f64)
    }

    /// Share of its leaves that were read lately.
    pub fn coverage(&self) -> f64 {
        if self.leaves == 0 { 1.0 } else { self.covered as f64 / self.leaves as f64 }
    }
}

/// What an audit found.
#[derive(Debug, Default)]
pub struct AuditReport {
    /// Each location.
    pub locations: Vec<LocationAudit>,
    /// Shards that are wrong.
    pub findings: Vec<Finding>,
    /// Copies of records that are wrong.
    pub records: Vec<RecordFinding>,
    /// Packs of which too few shards are shown anywhere.
    pub short: Vec<(PackId, usize)>,
    /// Locations that did not answer at all.
    pub silent: Vec<(String, String)>,
    /// Packs that should exist.
    pub packs: usize,
}

impl AuditReport {
    /// The worst outcome.
    pub fn worst(&self) -> Outcome {
        let short = if self.short.is_empty() { Outcome::Ok } else { Outcome::Failed };
        let offline = if self.silent.is_empty() { Outcome::Ok } else { Outcome::Offline };
        let shards = self.findings.iter().map(|finding| finding.outcome);
        let records = self.records.iter().map(|finding| finding.outcome);
        shards.chain(records).chain([short, offline]).max().unwrap_or(Outcome::Ok)
    }

    /// One finding per shard: the worst; a full scrub repeats what the sample saw.
    pub(crate) fn add(&mut self, finding: Finding) {
        let Finding { pack, index, outcome, .. } = finding;
        let same =
            |other: &&mut Finding| (other.pack, other.index, &other.location) == (pack, index, &finding.location);
        match self.findings.iter_mut().find(same) {
            Some(known) if known.outcome >= outcome => {}
            Some(known) => *known = finding,
            None => self.findings.push(finding),
        }
    }
}

/// Runs an audit and records it.
pub async fn run(vault: &Vault, catalog: &Catalog, options: &AuditOptions) -> Result<AuditReport> {
    run_within(vault, catalog, options, Budget::None).await
}

/// Runs an audit within a budget and records it.
pub async fn run_within(
    vault: &Vault,
    catalog: &Catalog,
    options: &AuditOptions,
    budget: Budget,
) -> Result<AuditReport> {
    vault.world.progress.begin(Phase::Opening);
    let mut census = census::take(vault, catalog).await?;
    let chosen: Vec<&Location> = vault
        .locations
        .iter()
        .filter(|location| options.location.as_ref().is_none_or(|name| *name == location.name))
        .collect();
    if let (Some(name), true) = (&options.location, chosen.is_empty()) {
        if let Some(gone) = vault.absent.iter().find(|gone| gone.name == *name) {
            let why = &gone.why;
            return Err(OpsError::Unreachable {
                what: format!(
                    "{name} does not answer: {why}. That says nothing about its bytes; bring it back and ask again"
                ),
            });
        }
        return Err(OpsError::Refused {
            what: format!("the vault has no location named \"{name}\"; list them: holdfast vault location list"),
        });
    }
    let fetcher = Fetcher::new(vault.world.clone(), census.holdings.clone(), Trust::Signed(vault.writers.clone()));
    let mut report = AuditReport {
        records: lost_records(vault, &census),
        silent: census.holdings.silent.clone(),
        packs: census.packs.len(),
        ..AuditReport::default()
    };
    let records: Vec<_> = records::in_force(vault, &census).into_iter().collect();
    let asked = |&location: &&Location| Shards::of(&census, vault, location).asked(options);
    let items = matches!(budget, Budget::None).then(|| chosen.iter().map(asked).sum());
    vault.world.progress.begin_of(Phase::Auditing, Total { items, ..Total::default() });
    let budget = budget.share(chosen.len());
    for location in chosen {
        let bytes = AtomicU64::new(0);
        let examiner = Examiner { vault, catalog, census: &census, fetcher: &fetcher, location, bytes };
        let mut auditor = Auditor { examiner, records: &records, budget, report: &mut report };
        let line = auditor.location(options).await?;
        catalog.add_audit(AuditRow {
            at_ms: vault.world.now_ms(),
            location: location.id,
            samples: line.samples,
            ok: line.ok,
            failed: line.failed,
            offline: line.offline,
            full: line.full,
        })?;
        vault.world.reached(Step::AuditLineRecorded);
        report.locations.push(line);
    }
    // Only now is it known how many shards of a pack are wrong at once.
    census.holdings.discount(&catalog.failures()?);
    census.look_older(vault).await;
    report.short = census.short(vault);
    weigh_again(&mut report.findings, &census, &report.short);
    Ok(report)
}

/// What no location shows: lost if all of them answered.
fn lost_records(vault: &Vault, census: &Census) -> Vec<RecordFinding> {
    let all_answered = census.holdings.silent.is_empty();
    let judge = |lost: records::Lost| RecordFinding {
        location: "every location that answers".to_owned(),
        name: lost.name,
        outcome: if all_answered && !lost.offline { Outcome::Failed } else { Outcome::Unknown },
        what: lost.why,
    };
    records::lost(vault, census).into_iter().map(judge).collect()
}

struct Auditor<'a> {
    examiner: Examiner<'a>,
    records: &'a Vec<(String, Vec<u8>)>,
    budget: Budget,
    report: &'a mut AuditReport,
}

/// A location's shards with their leaves.
struct Shards {
    list: Vec<(PackId, u8, u64)>,
    /// Sum of the leaves up to each shard.
    ends: Vec<u64>,
}

impl Shards {
    fn of(census: &Census, vault: &Vault, location: &Location) -> Self {
        let kept = census.kept_at(vault, location.id);
        let list: Vec<_> = kept.into_iter().map(|(pack, index)| (pack, index, census.leaves(pack))).collect();
        let mut sum = 0_u64;
        let ends = list.iter().map(|(.., leaves)| {
            sum += leaves;
            sum
        });
        Self { ends: ends.collect(), list }
    }

    fn leaves(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Leaves that an audit without a budget looks at.
    fn asked(&self, options: &AuditOptions) -> u64 {
        if options.full { self.leaves() } else { self.leaves().min(options.samples as u64) }
    }

    /// The leaf of that number, counted through all shards.
    fn challenge(&self, at: u64) -> Challenge {
        let shard = self.ends.partition_point(|&end| end <= at);
        let (pack, index, leaves) = self.list[shard];
        Challenge { pack, index, leaf: (leaves - (self.ends[shard] - at)) as usize }
    }
}

impl Auditor<'_> {
    async fn location(&mut self, options: &AuditOptions) -> Result<LocationAudit> {
        let (vault, location) = (self.examiner.vault, self.examiner.location);
        let shards = Shards::of(self.examiner.census, vault, location);
        let mut line = LocationAudit {
            name: location.name.clone(),
            shards: shards.list.len(),
            leaves: shards.leaves(),
            ..LocationAudit::default()
        };
        let expected: Vec<_> = shards.list.iter().map(|&(pack, index, _)| (pack, index)).collect();
        self.examiner.catalog.expect_reads(location.id, &expected, vault.world.now_ms())?;
        let mut full = options.full;
        if !full {
            let wrong_shard = self.sample(&shards, options.samples, &mut line).await?;
            let wrong_record = self.compare_records(options.samples, &mut line).await?;
            full = wrong_shard || wrong_record;
        }
        if full {
            let name = line.name.clone();
            line = LocationAudit { name, shards: line.shards, leaves: line.leaves, full, ..LocationAudit::default() };
            self.scrub(&shards, &mut line).await?;
            self.compare_records(usize::MAX, &mut line).await?;
        }
        line.bytes = self.examiner.bytes.load(Ordering::Relaxed);
        self.look_back(&shards, &mut line)?;
        Ok(line)
    }

    /// What all audits and scrubs together have read.
    fn look_back(&self, shards: &Shards, line: &mut LocationAudit) -> Result<()> {
        let (catalog, location) = (self.examiner.catalog, self.examiner.location.id);
        let window_ms = i64::try_from(COVERAGE_DEFAULT.as_millis()).unwrap_or(i64::MAX);
        let since_ms = self.examiner.vault.world.now_ms().saturating_sub(window_ms);
        let (whole, single) = (catalog.reads(location)?, catalog.leaves_read(location, since_ms)?);
        for &(pack, index, leaves) in &shards.list {
            let read = whole.get(&(pack, index));
            let recently = read.and_then(|read| read.whole_ms).is_some_and(|at_ms| at_ms >= since_ms);
            let some = || single.get(&(pack, index)).copied().unwrap_or(0).min(leaves);
            line.covered += if recently { leaves } else { some() };
            let since = read.map(ReadRow::since_ms);
            line.oldest_ms = [line.oldest_ms, since].into_iter().flatten().min();
        }
        Ok(())
    }

    /// Compares at most `most` copies of records. True if one is wrong.
    async fn compare_records(&mut self, most: usize, line: &mut LocationAudit) -> Result<bool> {
        // A retired location is owed nothing.
        if self.examiner.vault.state_of(self.examiner.location.id) == Some(LocationState::Retired) {
            return Ok(false);
        }
        let mut wanted = self.records.clone();
        wanted.push(records::marker(self.examiner.vault, self.examiner.location.id));
        let (compared, odd) = match records::compare(self.examiner.vault, self.examiner.location, wanted, most).await {
            Ok(found) => found,
            Err(error) => (0, vec![("records".to_owned(), Odd::Offline(error.to_string()))]),
        };
        line.records = compared;
        line.records_failed = 0;
        let mut wrong = false;
        for (name, odd) in odd {
            let (outcome, what) = match odd {
                Odd::Offline(why) => (Outcome::Offline, why),
                Odd::Second(why) => (Outcome::Unknown, why),
                Odd::Missing => (Outcome::Contained, "the record is not there".to_owned()),
                Odd::Wrong(why) => {
                    wrong = true;
                    self.examiner.catalog.add_record_failure(&RecordFailure {
                        location: self.examiner.location.id,
                        name: name.clone(),
                        seen_ms: self.examiner.vault.world.now_ms(),
                        what: why.clone(),
                    })?;
                    self.examiner.vault.world.reached(Step::AuditFailureRecorded);
                    (Outcome::Contained, why)
                }
            };
            line.records_failed += u64::from(outcome == Outcome::Contained);
            let finding = RecordFinding { location: self.examiner.location.name.clone(), name, outcome, what };
            // A full scrub repeats what the sample saw.
            if !self.report.records.contains(&finding) {
                self.report.records.push(finding);
            }
        }
        Ok(wrong)
    }

    /// Challenges random leaves within the budget. True if a wrong byte came back.
    async fn sample(&mut self, shards: &Shards, most: usize, line: &mut LocationAudit) -> Result<bool> {
        let clock = &self.examiner.vault.world.clock;
        let began_ms = clock.now_ms();
        let mut chosen = BTreeSet::new();
        let mut wrong_byte = false;
        loop {
            let left = (most as u64).min(shards.leaves()) - chosen.len() as u64;
            let paid = match self.budget {
                Budget::None => left,
                Budget::Bytes(bytes) => {
                    bytes.saturating_sub(self.examiner.bytes.load(Ordering::Relaxed)) / CHALLENGE_BYTES
                }
                Budget::Time(time) => {
                    let spent_ms = clock.now_ms().saturating_sub(began_ms).max(0).unsigned_abs();
                    if u128::from(spent_ms) < time.as_millis() { left } else { 0 }
                }
            };
            // However small the budget: an audit that asks nothing would find nothing wrong.
            let paid = if chosen.is_empty() { paid.max(1) } else { paid };
            let batch = self.draw(shards.leaves(), left.min(paid).min(BATCH as u64) as usize, &mut chosen);
            if batch.is_empty() {
                return Ok(wrong_byte);
            }
            wrong_byte |= self.ask_all(shards, batch, line).await?;
        }
    }

    /// So many leaves, by number, that were not chosen yet.
    fn draw(&self, leaves: u64, count: usize, chosen: &mut BTreeSet<u64>) -> Vec<u64> {
        let mut rng = self.examiner.vault.world.rng();
        let rest = leaves - chosen.len() as u64;
        let mut batch = Vec::with_capacity(count);
        // Few are left: trying would hit those chosen already again and again.
        let mut few: Vec<u64> = if (rest as usize) < 4 * count {
            (0..leaves).filter(|at| !chosen.contains(at)).collect()
        } else {
            Vec::new()
        };
        while batch.len() < count {
            // The remainder's bias is below 2^-40 for any vault that fits this planet.
            let at = match few.len() as u64 {
                0 => rng.next_u64() % leaves,
                more => few.swap_remove((rng.next_u64() % more) as usize),
            };
            if chosen.insert(at) {
                batch.push(at);
            }
        }
        batch
    }

    async fn ask_all(&mut self, shards: &Shards, batch: Vec<u64>, line: &mut LocationAudit) -> Result<bool> {
        let examiner = &self.examiner;
        let answers: Vec<(Challenge, Answer)> = futures::stream::iter(batch)
            .map(|at| {
                let challenge = shards.challenge(at);
                async move { (challenge, examiner.ask(challenge).await) }
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let mut wrong_byte = false;
        let mut right = Vec::new();
        for (challenge, answer) in answers {
            line.samples += 1;
            wrong_byte |= matches!(answer, Answer::Wrong(_));
            if matches!(answer, Answer::Right) {
                right.push((challenge.pack, challenge.index, challenge.leaf));
            }
            self.judge(challenge.pack, challenge.index, answer, 1, line)?;
        }
        let (catalog, now_ms) = (self.examiner.catalog, self.examiner.vault.world.now_ms());
        catalog.add_leaf_reads(self.examiner.location.id, &right, now_ms)?;
        Ok(wrong_byte)
    }

    /// Reads every shard of the location whole.
    async fn scrub(&mut self, shards: &Shards, line: &mut LocationAudit) -> Result<()> {
        for &(pack, index, leaves) in &shards.list {
            let answer = self.examiner.read_whole(pack, index).await?;
            line.samples += leaves;
            self.judge(pack, index, answer, leaves, line)?;
        }
        Ok(())
    }

    fn judge(&mut self, pack: PackId, index: u8, answer: Answer, leaves: u64, line: &mut LocationAudit) -> Result<()> {
        self.examiner.vault.world.progress.add_items(leaves);
        let Some(finding) = self.examiner.judge(pack, index, answer)? else {
            line.ok += leaves;
            return Ok(());
        };
        match finding.outcome {
            Outcome::Ok => {}
            Outcome::Offline => line.offline += 1,
            Outcome::Unknown => line.unknown += 1,
            Outcome::Contained | Outcome::Failed => line.failed += 1,
        }
        self.report.add(finding);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_detection_agree_with_the_published_figure() {
        let of_many = LocationAudit { leaves: 1 << 20, ..LocationAudit::default() };
        let audit = LocationAudit { samples: SAMPLES_DEFAULT as u64, ..of_many.clone() };
        assert!((0.99..0.991).contains(&audit.detection(0.01)), "{}", audit.detection(0.01));
        let fewer = LocationAudit { samples: SAMPLES_DEFAULT as u64 - 1, ..of_many };
        assert!(fewer.detection(0.01) < 0.99);
        let all = LocationAudit { samples: 10, leaves: 10, ..LocationAudit::default() };
        assert!((all.detection(0.01) - 1.0).abs() < f64::EPSILON);
    }
}
