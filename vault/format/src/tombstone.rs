//! Tombstones and notes: signed marks that are kept for ever.

use crate::cbor::{numbered, record};
use crate::ids::{Blob, Hash, LineageId, PackId, StreamId, WriterId};

numbered! {
    /// What a tombstone does with what it names.
    TombstoneAction {
        /// Into the trash: nothing is deleted before `delete_after_ms`.
        1 Trash,
        /// Out of the trash again.
        2 Restore,
        /// Deleted, the grace period having passed.
        3 Sweep,
        /// Deleted at the owner's word before the grace period passed.
        4 Purge,
        /// Kept whatever the rules of retention say; manifests only.
        5 Pin,
        /// Not pinned any more, whoever pinned it.
        6 Unpin,
    }
}

record! {
    /// Body of a record of kind `Tombstone`, signed by a janitor or operator.
    Tombstone {
        /// Garbage-collection epoch it belongs to.
        0 gc_epoch: u64,
        /// Position in the janitor's chain.
        1 sequence: u64,
        /// Hash of the janitor's previous tombstone; zero for the first.
        2 previous: Hash,
        /// What it does.
        3 action: TombstoneAction,
        /// Manifests it names.
        4 manifests: Vec<ManifestRef>,
        /// Packs it names.
        5 packs: Vec<PackId>,
        /// Runs of journal objects it names.
        6 journals: Vec<JournalRange>,
        /// When, milliseconds since 1970.
        7 created_ms: i64,
        /// Nothing named is deleted before this, milliseconds since 1970.
        8 delete_after_ms: i64,
        /// Why, for people.
        9 reason: String,
    }
}

record! {
    /// A manifest by its place in its writer's chain.
    ManifestRef {
        /// The writer.
        0 writer: WriterId,
        /// Its epoch.
        1 epoch: u64,
        /// Its sequence.
        2 sequence: u64,
        /// Hash of its envelope.
        3 manifest: Hash,
    }
}

record! {
    /// Journal objects from one ordinal to another, both included.
    JournalRange {
        /// The stream.
        0 stream: StreamId,
        /// Its lineage.
        1 lineage: LineageId,
        /// First ordinal.
        2 first: u64,
        /// Last ordinal.
        3 last: u64,
    }
}

numbered! {
    /// What a note is about.
    NoteKind {
        /// Words of an operator.
        1 Operator,
        /// Summary of an audit.
        2 Audit,
        /// Hash and verdict of a drill's report.
        3 Drill,
        /// A vault was adopted from its shards.
        4 Adoption,
    }
}

record! {
    /// Body of a record of kind `Note`.
    Note {
        /// What it is about.
        0 kind: NoteKind,
        /// Hash of the signer's previous note; zero for the first.
        1 previous: Hash,
        /// When, milliseconds since 1970.
        2 created_ms: i64,
        /// For people.
        3 text: String,
        /// For programs; may be empty.
        4 data: Blob,
    }
}
