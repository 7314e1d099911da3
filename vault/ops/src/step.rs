//! The named steps of the operations: places where being killed is interesting.
//!
//! What always holds: the list is closed, a name is unique and never means two
//! places of one operation; reaching a step changes nothing, unless an observer
//! that the program's own assembly installed ends the process there. Every step
//! is reached by a story of `tests/steps.rs`, and the real program is killed at
//! each of them by `cli/tests/kills_named.rs` and `kills_keeping.rs`.

use std::fmt;

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A place in an operation, named after the operation and what just happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Step {
            $($(#[$doc])* $variant,)*
        }

        impl Step {
            /// All steps, in the order of the code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name, as in `backup.pack-noted`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

// A step is added here with one line of doc, and called with `world.reached(..)`.
steps! {
    /// A new vault's records stand at one more location.
    CreateLocationWritten = "create.location-written",
    /// A new epoch of the vault record stands at one more location.
    AmendRecordWritten = "amend.record-written",

    /// The chain's head is known and the catalog is in step with it.
    BackupChainFollowed = "backup.chain-followed",
    /// A pack is sealed, opened again, compared and coded; nothing is written.
    BackupPackSealed = "backup.pack-sealed",
    /// A location acknowledged a shard; nothing was read back.
    PlaceShardWritten = "place.shard-written",
    /// A shard's random leaf was read back.
    PlaceShardReadBack = "place.shard-read-back",
    /// A shard stands away from home, its home owed.
    PlaceShardHandedOver = "place.shard-handed-over",
    /// A pack is durable(d); the catalog does not know.
    BackupPackPlaced = "backup.pack-placed",
    /// The catalog knows a stored pack.
    BackupPackNoted = "backup.pack-noted",
    /// Every pack of the point is stored; there is no manifest.
    BackupPointStored = "backup.point-stored",
    /// The records a manifest rests on stand on their quorum.
    CommitFoundingStands = "commit.founding-stands",
    /// One more location took the manifest.
    CommitManifestWritten = "commit.manifest-written",
    /// The manifest stands on its quorum: the point is, and nobody here knows.
    BackupBeforeRemember = "backup.before-remember",
    /// The catalog knows the point, not yet the head.
    BackupPointRemembered = "backup.point-remembered",
    /// The catalog knows the head; the point was not reported.
    BackupHeadRemembered = "backup.head-remembered",
    /// The source was told that its point is durable.
    BackupSourceTold = "backup.source-told",

    /// One more location took the manifest an earlier run left short of its quorum,
    /// or had it already.
    RebuildHeadWritten = "rebuild.head-written",
    /// The catalog learned a pack from the vault.
    RebuildPackLearned = "rebuild.pack-learned",
    /// The catalog learned a point from the vault.
    RebuildPointLearned = "rebuild.point-learned",

    /// An audit put a failed verification on record.
    AuditFailureRecorded = "audit.failure-recorded",
    /// An audit put a location's line into the history.
    AuditLineRecorded = "audit.line-recorded",

    /// A location has a record, or a marker, again.
    RepairRecordCopied = "repair.record-copied",
    /// All shards of a pack are rebuilt in memory.
    RepairShardRebuilt = "repair.shard-rebuilt",
    /// A wrong shard is about to be overwritten.
    RepairBeforeOverwrite = "repair.before-overwrite",
    /// A wrong shard was overwritten; nothing was read back.
    RepairAfterOverwrite = "repair.after-overwrite",
    /// A shard stands again, read back whole; its failure is still on record.
    RepairBeforeClear = "repair.before-clear",
    /// A shard stands again and its failure is forgotten.
    RepairShardDone = "repair.shard-done",

    /// A pack that the locations do not take is in the spool; the catalog does not know.
    SpoolPackKept = "spool.pack-kept",
    /// A manifest is in the spool; no location saw it.
    SpoolManifestKept = "spool.manifest-kept",
    /// A waiting point's pack is durable(d); the catalog does not know.
    DeliverPackPlaced = "deliver.pack-placed",
    /// A waiting point has a second manifest in the spool, for another place.
    DeliverSignedAgain = "deliver.signed-again",
    /// A waiting point's manifest stands on its quorum, and nobody here knows.
    DeliverManifestStands = "deliver.manifest-stands",
    /// The catalog knows a waiting point; it is still in the spool.
    DeliverPointRemembered = "deliver.point-remembered",
    /// A delivered point's manifests left the spool; its packs are still there.
    DeliverPointLeft = "deliver.point-left",
    /// One more object of a stuck point stands aside, and still where it was.
    AsideObjectCopied = "aside.object-copied",
    /// One more object of a stuck point is aside only.
    AsideObjectMoved = "aside.object-moved",

    /// One more location took a tombstone.
    TombstoneWritten = "tombstone.location-written",
    /// A tombstone stands on its quorum; nothing that it names was touched.
    TombstoneStands = "tombstone.stands",
    /// One more location took a fence.
    FenceWritten = "fence.location-written",
    /// The heartbeat that opens an epoch behind a fence stands, and nobody here knows.
    FenceEpochOpened = "fence.epoch-opened",
    /// One more shard of a swept pack is gone.
    SweepShardDeleted = "sweep.shard-deleted",
    /// So many shards of the swept packs are gone that each can still be rebuilt.
    SweepHalfDeleted = "sweep.half-deleted",
    /// One more copy of a swept manifest is gone.
    SweepManifestDeleted = "sweep.manifest-deleted",

    /// One more location took a new layout.
    LayoutLocationWritten = "layout.location-written",
    /// Every shard that moves is where it belongs, and still where it was.
    RebalanceMoved = "rebalance.moved",
    /// One more copy is gone from where it does not belong.
    RebalanceCopyRemoved = "rebalance.copy-removed",

    /// An orphan shard is home.
    ImportShardHome = "import.shard-home",
    /// An orphan record stands at one more location.
    ImportRecordWritten = "import.record-written",
    /// The catalog knows an orphan point.
    ImportPointRemembered = "import.point-remembered",
}

impl Step {
    /// The step of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|step| step.name() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<&str> = Step::ALL.iter().map(|step| step.name()).collect();
        assert_eq!(names.len(), Step::ALL.len());
        for &step in Step::ALL {
            assert_eq!(Step::named(step.name()), Some(step));
            let (operation, what) = step.name().split_once('.').unwrap();
            let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c == '-' || c.is_ascii_lowercase());
            assert!(plain(operation) && plain(what), "{step}");
        }
        assert_eq!(Step::named("backup"), None);
    }
}
