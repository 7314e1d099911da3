//! A challenge: asking a location for a leaf, or a whole shard, and judging what comes.
//!
//! What always holds: what comes is checked to the signed root of the pack that
//! was asked for, in the place that was asked for, without a key; a location that
//! does not answer says nothing about its bytes; what nobody can judge is said to
//! be unknown. See docs/decisions/0010.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use vault_codec::VerifiedHeader;
use vault_format::shard::HEADER_BYTES;
use vault_format::{PackId, names};

use crate::catalog::{Catalog, Failure};
use crate::census::Census;
use crate::error::Result;
use crate::fetch::Fetcher;
use crate::location::Location;
use crate::step::Step;
use crate::vault::Vault;

/// How a challenge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The right bytes came.
    Ok,
    /// The location did not answer: says nothing about the bytes.
    Offline,
    /// The auditor could not judge: no verified header of the pack is at hand.
    Unknown,
    /// Wrong or missing here, and at least k other shards of the pack are shown, or older
    /// versions make it whole.
    Contained,
    /// Wrong or missing here, and fewer than k others are there in any version.
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

/// The last word on damage, when all of it is known: of a pack that too few good shards
/// are left of it is not contained; of one that older versions make whole it is.
pub(crate) fn weigh_again(findings: &mut [Finding], census: &Census, short: &[(PackId, usize)]) {
    for finding in findings {
        match finding.outcome {
            Outcome::Contained if short.iter().any(|(pack, _)| *pack == finding.pack) => {
                finding.outcome = Outcome::Failed;
            }
            Outcome::Failed if census.kept.contains(&finding.pack) => finding.outcome = Outcome::Contained,
            Outcome::Ok | Outcome::Offline | Outcome::Unknown | Outcome::Contained | Outcome::Failed => {}
        }
    }
}

/// A leaf to be asked for. The leaf after the last stands for header and trailer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Challenge {
    pub(crate) pack: PackId,
    pub(crate) index: u8,
    pub(crate) leaf: usize,
}

/// What came.
pub(crate) enum Answer {
    /// The right bytes.
    Right,
    /// Wrong bytes.
    Wrong(String),
    /// The location says that nothing stands there.
    Gone,
    /// No answer.
    Offline(String),
    /// Nobody shows a header to judge by.
    Unknown(String),
}

/// Examines one location.
pub(crate) struct Examiner<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) catalog: &'a Catalog,
    pub(crate) census: &'a Census,
    pub(crate) fetcher: &'a Fetcher,
    pub(crate) location: &'a Location,
    /// Bytes of shards that came.
    pub(crate) bytes: AtomicU64,
}

impl Examiner<'_> {
    fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.vault.world.progress.add_bytes(bytes);
    }

    /// Asks for a leaf with its Merkle path.
    pub(crate) async fn ask(&self, challenge: Challenge) -> Answer {
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
        self.count((first.len() + second.len()) as u64);
        let checked = if ends {
            header.check_ends(&first, &second).and_then(|index| same_index(index, challenge.index))
        } else {
            header.check_leaf(challenge.index, challenge.leaf, &first, &second)
        };
        match checked {
            Ok(()) => Answer::Right,
            Err(error) => Answer::Wrong(error.to_string()),
        }
    }

    /// Asks for a whole shard. What is right is remembered as read.
    pub(crate) async fn read_whole(&self, pack: PackId, index: u8) -> Result<Answer> {
        let header = match self.header(pack).await {
            Ok(header) => header,
            Err(why) => return Ok(Answer::Unknown(why)),
        };
        let name = names::shard(header.h0().writer, pack, index);
        let bytes: Bytes = match self.location.read(&name).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Answer::Gone),
            Err(error) if error.kind() == backends::Kind::Corrupt => return Ok(Answer::Wrong(error.to_string())),
            Err(error) => return Ok(Answer::Offline(error.to_string())),
        };
        self.count(bytes.len() as u64);
        let checked = self
            .vault
            .world
            .compute
            .run(move || header.check_object(&bytes).and_then(|found| same_index(found, index)))
            .await;
        Ok(match checked {
            Ok(()) => {
                self.catalog.add_whole_read(self.location.id, pack, index, self.vault.world.now_ms())?;
                Answer::Right
            }
            Err(error) => Answer::Wrong(error.to_string()),
        })
    }

    async fn header(&self, pack: PackId) -> std::result::Result<VerifiedHeader, String> {
        let header = self.fetcher.signed_header(pack).await.map_err(|error| error.to_string())?;
        match self.census.packs.get(&pack) {
            Some((hash, _)) if *hash == header.hash() => Ok(header),
            _ => Err("the header shown is not the one the manifest signed".to_owned()),
        }
    }

    /// What an answer means; `None` if it was right. Wrong bytes are put on record:
    /// repair overwrites only what stands there.
    pub(crate) fn judge(&self, pack: PackId, index: u8, answer: Answer) -> Result<Option<Finding>> {
        let (outcome, what) = match answer {
            Answer::Right => return Ok(None),
            Answer::Offline(why) => (Outcome::Offline, why),
            Answer::Unknown(why) => (Outcome::Unknown, why),
            Answer::Gone => (self.weigh(pack, index), "the shard is not there".to_owned()),
            Answer::Wrong(why) => {
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
        Ok(Some(Finding { location: self.location.name.clone(), pack, index, outcome, what }))
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
