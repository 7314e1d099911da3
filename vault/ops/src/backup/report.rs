//! What a backup says of itself: nothing that is not so.

use vault_format::point::Statistics;
use vault_format::{Hash, PointId};

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
    /// It survives what the vault declares; some shards or manifests are owed.
    Durable,
    /// It is on this host alone.
    Spooled,
}

impl BackupReport {
    /// How safe the point is.
    pub fn standing(&self) -> Standing {
        match (&self.spooled, self.debts.is_empty() && self.manifest_owed.is_empty()) {
            (Some(_), _) => Standing::Spooled,
            (None, true) => Standing::Full,
            (None, false) => Standing::Durable,
        }
    }

    /// Everything is where it belongs.
    pub fn is_full(&self) -> bool {
        self.standing() == Standing::Full
    }
}
