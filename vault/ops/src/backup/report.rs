//! What a backup says of itself: nothing that is not so.

use std::collections::BTreeMap;

use vault_format::point::Statistics;
use vault_format::{Hash, LocationId, PointId};

use crate::attendance::Resting;
use crate::place::Debt;
use crate::placement::Tolerance;
use crate::source::Unreadable;

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The point.
    pub point: PointId,
    /// Tree root or state hash.
    pub root_hash: Hash,
    /// Kernel sequence or the like.
    pub position: u64,
    /// Place in the writer's chain.
    pub manifest: (u64, u64),
    /// Counts and bytes.
    pub statistics: Statistics,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Packs written by this run.
    pub packs_new: usize,
    /// Bytes of their shards at home, before any surplus copy.
    pub stored_bytes: u64,
    /// Packs of earlier runs the point needs.
    pub packs_reused: usize,
    /// What the point survives by the copies read back.
    pub tolerance: Tolerance,
    /// Shards and manifests not at home. Empty means `full`.
    pub debts: Vec<Debt>,
    /// Locations without the manifest, and why.
    pub manifest_owed: Vec<(String, String)>,
    /// Whether enough domains answered to be sure of the chain's head.
    pub head_confirmed: bool,
    /// Why the point is not durable and waits in the spool, if it does.
    pub spooled: Option<Spooled>,
    /// Locations that are away and may be: what is owed to them is no fault.
    pub resting: BTreeMap<LocationId, Resting>,
    /// Shards and records of earlier runs that this one brought home.
    pub healed: usize,
    /// Points of earlier runs that this one delivered from the spool.
    pub delivered: Vec<PointId>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// A point that is kept on this host until the locations take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Why.
    pub why: String,
    /// Points that wait, this one among them.
    pub points: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// How safe a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every shard is at home.
    Full,
    /// It survives what the vault declares; what is owed is owed to locations that may
    /// be away.
    Resting,
    /// It survives what the vault declares; some shards or manifests are owed.
    Durable,
    /// It is on this host alone.
    Spooled,
}

impl BackupReport {
    /// How safe the point is.
    pub fn standing(&self) -> Standing {
        let rests = |debt: &Debt| self.resting.contains_key(&debt.location);
        let rests_named = |name: &String| self.resting.values().any(|resting| resting.name == *name);
        if self.spooled.is_some() {
            Standing::Spooled
        } else if self.debts.is_empty() && self.manifest_owed.is_empty() {
            Standing::Full
        } else if self.debts.iter().all(rests) && self.manifest_owed.iter().all(|(name, _)| rests_named(name)) {
            Standing::Resting
        } else {
            Standing::Durable
        }
    }

    /// Everything is where it belongs.
    pub fn is_full(&self) -> bool {
        self.standing() == Standing::Full
    }
}
