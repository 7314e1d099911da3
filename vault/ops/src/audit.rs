//! Audit: random challenges against what each location should hold.
//!
//! What always holds: a challenge is a leaf chosen uniformly over the bytes a
//! location should hold, with the auditor's own randomness; it is read with its
//! Merkle path and checked to the signed root of the pack that was asked for; the
//! copies of the small signed records are compared too, as many as leaves are
//! asked for; no key is needed; a verified wrong byte raises the location to a
//! full scrub.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use rand_core::Rng;
use vault_codec::VerifiedHeader;
use vault_format::shard::HEADER_BYTES;
use vault_format::{PackId, names};

use crate::catalog::{AuditRow, Catalog, Failure, RecordFailure};
use crate::census::{self, Census};
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Trust};
use crate::location::Location;
use crate::records::{self, Odd};
use crate::step::Step;
use crate::vault::Vault;

/// Challenges under way at once.
const AT_ONCE: usize = 8;
/// Challenges that find a loss of 1 % with 99 %.
pub const SAMPLES_DEFAULT: usize = 459;

/// What to audit.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Leaves to challenge per location.
    pub samples: usize,
    /// One location by name, or all.
    pub location: Option<String>,
    /// Read everything instead of a sample.
    pub full: bool,
}

/// How a challenge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The right bytes came.
    Ok,
    /// The location did not answer: says nothing about the bytes.
    Offline,
    /// The auditor could not judge: no verified header of the pack is at hand.
    Unknown,
    /// Wrong or missing here, and at least k other shards of the pack are shown.
    Contained,
    /// Wrong or missing here, and fewer than k others are shown.
    Failed,
}

/// A shard that is wrong or missing, or that could not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the location.
    pub location: String,
    /// Which pack.
    pub pack: PackId,
    /// Which index.
    pub index: u8,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen.
    pub what: String,
}

/// A record's copy that is wrong or missing, or that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFinding {
    /// Name of the location.
    pub location: String,
    /// The record's name there.
    pub name: String,
    /// `Contained` if the right bytes are known from another location.
    pub outcome: Outcome,
    /// What was seen.
    pub what: String,
}

/// One location's part of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocationAudit {
    /// Its name.
    pub name: String,
    /// Shards it should hold.
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

    /// Damage to a pack that too few good shards are left of is not contained.
    fn name_the_short(&mut self, short: Vec<(PackId, usize)>) {
        for finding in &mut self.findings {
            if finding.outcome == Outcome::Contained && short.iter().any(|(pack, _)| *pack == finding.pack) {
                finding.outcome = Outcome::Failed;
            }
        }
        self.short = short;
    }
}

/// Runs an audit and records it.
pub async fn run(vault: &Vault, catalog: &Catalog, options: &AuditOptions) -> Result<AuditReport> {
    let mut census = census::take(vault, catalog).await?;
    let chosen: Vec<&Location> = vault
        .locations
        .iter()
        .filter(|location| options.location.as_ref().is_none_or(|name| *name == location.name))
        .collect();
    if let (Some(name), true) = (&options.location, chosen.is_empty()) {
        return Err(OpsError::Refused {
            what: format!("no location named \"{name}\" answers; `holdfast vault status` lists them"),
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
    for location in chosen {
        let mut auditor = Auditor {
            vault,
            catalog,
            census: &census,
            records: &records,
            fetcher: &fetcher,
            location,
            report: &mut report,
        };
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
    report.name_the_short(census.short(vault));
    Ok(report)
}

/// What no location shows: lost if all of them answered.
fn lost_records(vault: &Vault, census: &Census) -> Vec<RecordFinding> {
    let all_answered = census.holdings.silent.is_empty();
    let outcome = if all_answered { Outcome::Failed } else { Outcome::Unknown };
    let lost = records::lost(vault, census).into_iter();
    lost.map(|(name, what)| RecordFinding { location: "every location that answers".to_owned(), name, outcome, what })
        .collect()
}

struct Auditor<'a> {
    vault: &'a Vault,
    catalog: &'a Catalog,
    census: &'a Census,
    records: &'a Vec<(String, Vec<u8>)>,
    fetcher: &'a Fetcher,
    location: &'a Location,
    report: &'a mut AuditReport,
}

/// A leaf to be asked for. The leaf after the last stands for header and trailer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Challenge {
    pack: PackId,
    index: u8,
    leaf: usize,
}

enum Answer {
    Right(u64),
    Wrong(String),
    Gone,
    Offline(String),
    Unknown(String),
}

impl Auditor<'_> {
    async fn location(&mut self, options: &AuditOptions) -> Result<LocationAudit> {
        let expected = self.census.expected_at(self.vault, self.location.id);
        let mut line =
            LocationAudit { name: self.location.name.clone(), shards: expected.len(), ..LocationAudit::default() };
        let shards: Vec<(PackId, u8, usize)> = expected
            .iter()
            .map(|&(pack, index)| (pack, index, self.census.class(pack).map_or(1, |class| class.leaves() + 1)))
            .collect();
        line.leaves = shards.iter().map(|(.., leaves)| *leaves as u64).sum();
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
        Ok(line)
    }

    /// Compares at most `most` copies of records. True if one is wrong.
    async fn compare_records(&mut self, most: usize, line: &mut LocationAudit) -> Result<bool> {
        let mut wanted = self.records.clone();
        wanted.push(records::marker(self.vault, self.location.id));
        let (compared, odd) = match records::compare(self.vault, self.location, wanted, most).await {
            Ok(found) => found,
            Err(error) => (0, vec![("records".to_owned(), Odd::Offline(error.to_string()))]),
        };
        line.records = compared;
        line.records_failed = 0;
        let mut wrong = false;
        for (name, odd) in odd {
            let (outcome, what) = match odd {
                Odd::Offline(why) => (Outcome::Offline, why),
                Odd::Missing => (Outcome::Contained, "the record is not there".to_owned()),
                Odd::Wrong(why) => {
                    wrong = true;
                    self.catalog.add_record_failure(&RecordFailure {
                        location: self.location.id,
                        name: name.clone(),
                        seen_ms: self.vault.world.now_ms(),
                        what: why.clone(),
                    })?;
                    self.vault.world.reached(Step::AuditFailureRecorded);
                    (Outcome::Contained, why)
                }
            };
            line.records_failed += u64::from(outcome == Outcome::Contained);
            let finding = RecordFinding { location: self.location.name.clone(), name, outcome, what };
            // A full scrub repeats what the sample saw.
            if !self.report.records.contains(&finding) {
                self.report.records.push(finding);
            }
        }
        Ok(wrong)
    }

    /// Challenges random leaves. True if a wrong byte came back.
    async fn sample(&mut self, shards: &[(PackId, u8, usize)], most: usize, line: &mut LocationAudit) -> Result<bool> {
        let challenges = self.choose(shards, most);
        let this = &*self;
        let answers: Vec<(Challenge, Answer)> = futures::stream::iter(challenges)
            .map(|challenge| async move { (challenge, this.ask(challenge).await) })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let mut wrong_byte = false;
        for (challenge, answer) in answers {
            line.samples += 1;
            wrong_byte |= matches!(answer, Answer::Wrong(_));
            self.judge(challenge.pack, challenge.index, answer, line)?;
        }
        Ok(wrong_byte)
    }

    fn choose(&self, shards: &[(PackId, u8, usize)], most: usize) -> Vec<Challenge> {
        let total: u64 = shards.iter().map(|(.., leaves)| *leaves as u64).sum();
        if total <= most as u64 {
            return shards
                .iter()
                .flat_map(|&(pack, index, leaves)| (0..leaves).map(move |leaf| Challenge { pack, index, leaf }))
                .collect();
        }
        let mut rng = self.vault.world.rng();
        let mut ends = Vec::with_capacity(shards.len());
        let mut sum = 0_u64;
        for (.., leaves) in shards {
            sum += *leaves as u64;
            ends.push(sum);
        }
        let mut chosen = BTreeSet::new();
        while chosen.len() < most {
            // The remainder's bias is below 2^-40 for any vault that fits this planet.
            let at = rng.next_u64() % total;
            let shard = ends.partition_point(|&end| end <= at);
            let (pack, index, leaves) = shards[shard];
            let leaf = leaves - (ends[shard] - at) as usize;
            chosen.insert(Challenge { pack, index, leaf });
        }
        chosen.into_iter().collect()
    }

    async fn ask(&self, challenge: Challenge) -> Answer {
        let header = match self.header(challenge.pack).await {
            Ok(header) => header,
            Err(why) => return Answer::Unknown(why),
        };
        let name = names::shard(header.h0().writer, challenge.pack, challenge.index);
        let layout = header.layout();
        let ends = challenge.leaf >= header.h0().class.leaves();
        let (first, second) = if ends {
            (0..HEADER_BYTES as u64, layout.trailer())
        } else {
            (layout.leaf(challenge.leaf), layout.nodes())
        };
        let read =
            futures::future::join(self.location.read_range(&name, first), self.location.read_range(&name, second));
        let (first, second) = match read.await {
            (Ok(Some(first)), Ok(Some(second))) => (first, second),
            (Ok(None), _) | (_, Ok(None)) => return Answer::Gone,
            (Err(error), _) | (_, Err(error)) => return Answer::Offline(error.to_string()),
        };
        let checked = if ends {
            header.check_ends(&first, &second).and_then(|index| same_index(index, challenge.index))
        } else {
            header.check_leaf(challenge.index, challenge.leaf, &first, &second)
        };
        match checked {
            Ok(()) => Answer::Right(1),
            Err(error) => Answer::Wrong(error.to_string()),
        }
    }

    async fn header(&self, pack: PackId) -> std::result::Result<VerifiedHeader, String> {
        let header = self.fetcher.signed_header(pack).await.map_err(|error| error.to_string())?;
        match self.census.packs.get(&pack) {
            Some((hash, _)) if *hash == header.hash() => Ok(header),
            _ => Err("the header shown is not the one the manifest signed".to_owned()),
        }
    }

    /// Reads every shard of the location whole.
    async fn scrub(&mut self, shards: &[(PackId, u8, usize)], line: &mut LocationAudit) -> Result<()> {
        for &(pack, index, leaves) in shards {
            let answer = self.read_whole(pack, index, leaves as u64).await;
            line.samples += leaves as u64;
            self.judge(pack, index, answer, line)?;
        }
        Ok(())
    }

    async fn read_whole(&self, pack: PackId, index: u8, leaves: u64) -> Answer {
        let header = match self.header(pack).await {
            Ok(header) => header,
            Err(why) => return Answer::Unknown(why),
        };
        let name = names::shard(header.h0().writer, pack, index);
        let bytes: Bytes = match self.location.read(&name).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Answer::Gone,
            Err(error) => return Answer::Offline(error.to_string()),
        };
        let checked = self
            .vault
            .world
            .compute
            .run(move || header.check_object(&bytes).and_then(|found| same_index(found, index)))
            .await;
        match checked {
            Ok(()) => Answer::Right(leaves),
            Err(error) => Answer::Wrong(error.to_string()),
        }
    }

    fn judge(&mut self, pack: PackId, index: u8, answer: Answer, line: &mut LocationAudit) -> Result<()> {
        let (outcome, what) = match answer {
            Answer::Right(leaves) => {
                line.ok += leaves;
                return Ok(());
            }
            Answer::Offline(why) => {
                line.offline += 1;
                (Outcome::Offline, why)
            }
            Answer::Unknown(why) => {
                line.unknown += 1;
                (Outcome::Unknown, why)
            }
            Answer::Gone => {
                line.failed += 1;
                (self.weigh(pack, index), "the shard is not there".to_owned())
            }
            Answer::Wrong(why) => {
                line.failed += 1;
                self.catalog.add_failure(&Failure {
                    location: self.location.id,
                    pack,
                    index,
                    seen_ms: self.vault.world.now_ms(),
                    what: why.clone(),
                })?;
                self.vault.world.reached(Step::AuditFailureRecorded);
                (self.weigh(pack, index), why)
            }
        };
        let same =
            |other: &&mut Finding| (other.pack, other.index, &other.location) == (pack, index, &self.location.name);
        // One finding per shard: the worst; a full scrub repeats what the sample saw.
        match self.report.findings.iter_mut().find(same) {
            Some(known) if known.outcome >= outcome => {}
            Some(known) => (known.outcome, known.what) = (outcome, what),
            None => {
                let location = self.location.name.clone();
                self.report.findings.push(Finding { location, pack, index, outcome, what });
            }
        }
        Ok(())
    }

    fn weigh(&self, pack: PackId, index: u8) -> Outcome {
        let others: BTreeSet<u8> = self
            .census
            .holdings
            .copies_believed(self.vault, pack)
            .iter()
            .filter(|copy| (copy.spot.location, copy.index) != (self.location.id, index))
            .map(|copy| copy.index)
            .collect();
        if others.len() >= usize::from(self.vault.coding.data_shards()) { Outcome::Contained } else { Outcome::Failed }
    }
}

fn same_index(found: u8, wanted: u8) -> vault_codec::Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(vault_codec::CodecError::Corrupt {
        what: "shard",
        at: format!("index {wanted}"),
        why: format!("shard {found} stands under its name"),
    })
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
