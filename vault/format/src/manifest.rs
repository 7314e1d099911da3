//! Manifests: the signed, chained record of what a writer committed.
//!
//! What always holds: within an epoch sequences are dense from 1 and each names
//! the hash of the one before; the first of an epoch names the last of the epoch
//! before it that the writer knew. What stands in the plain part is what the
//! stores see anyway: names of objects.

use crate::cbor::{numbered, record};
use crate::ids::{Blob, Hash, LineageId, PackId, PointId, StreamId};
use crate::point::{SourceKind, Statistics};
use crate::sealed::SealedBlob;

numbered! {
    /// Why a manifest was written.
    ManifestKind {
        /// It commits a point.
        1 Point,
        /// The writer lives and has nothing new.
        2 Heartbeat,
        /// It replaces the packs of an older point with re-encrypted ones.
        3 Successor,
    }
}

record! {
    /// Body of a record of kind `Manifest`, signed by a writer.
    Manifest {
        /// The writer's epoch; a restored image of a host opens a new one.
        0 epoch: u64,
        /// Position in the epoch, from 1.
        1 sequence: u64,
        /// Hash of the previous manifest's envelope; zero for a writer's first.
        2 previous: Hash,
        /// Why it was written.
        3 kind: ManifestKind,
        /// Hash of the vault record in force.
        4 vault_record: Hash,
        /// Hash of the layout record in force.
        5 layout: Hash,
        /// Packs first committed here.
        6 packs: Vec<PackRef>,
        /// Hash of the point record; none for a heartbeat.
        7 point_record: Option<Hash>,
        /// The pack whose last frame is the point record.
        8 point_pack: Option<PackId>,
        /// [`JanitorPart`].
        9 janitor: Option<SealedBlob>,
        /// [`ReaderPart`].
        10 reader: Option<SealedBlob>,
        /// [`WriterPart`] under the writer's own key: nonce (12 bytes), ciphertext, tag.
        11 own: Option<Blob>,
        /// Newest garbage-collection epoch the writer has seen.
        12 gc_epoch_seen: u64,
        /// Packs stored and not yet committed: they count as referenced.
        13 pending: Vec<PackId>,
        /// Where each stream's journal ended.
        14 journal: Vec<JournalTail>,
    }
}

record! {
    /// A pack and the hash of its common header.
    PackRef {
        /// The pack.
        0 pack: PackId,
        /// Hash of its header without the shard index.
        1 header: Hash,
    }
}

record! {
    /// The newest journal object of a stream.
    JournalTail {
        /// The stream.
        0 stream: StreamId,
        /// Its lineage.
        1 lineage: LineageId,
        /// Its ordinal.
        2 ordinal: u64,
        /// Hash of the object.
        3 hash: Hash,
    }
}

record! {
    /// What retention and garbage collection need.
    JanitorPart {
        /// The point.
        0 point: PointId,
        /// Every pack the point needs, new or reused.
        1 references: Vec<PackId>,
        /// Kind of source.
        2 source_kind: SourceKind,
        /// Name of the source.
        3 source: String,
        /// Start of the backup, milliseconds since 1970.
        4 started_ms: i64,
        /// End of the backup, milliseconds since 1970.
        5 finished_ms: i64,
        /// Given by the user.
        6 tags: Vec<String>,
        /// Protected from retention.
        7 pinned: bool,
    }
}

record! {
    /// What a list of points shows to the reader.
    ReaderPart {
        /// The point.
        0 point: PointId,
        /// Kind of source.
        1 source_kind: SourceKind,
        /// Name of the source.
        2 source: String,
        /// Name of the host.
        3 host: String,
        /// Start of the backup, milliseconds since 1970.
        4 started_ms: i64,
        /// End of the backup, milliseconds since 1970.
        5 finished_ms: i64,
        /// Given by the user.
        6 tags: Vec<String>,
        /// Tree root, state hash or stream hash.
        7 root_hash: Hash,
        /// Kernel sequence or the like; zero where there is none.
        8 position: u64,
        /// Counts and bytes.
        9 statistics: Statistics,
    }
}

record! {
    /// What the writer itself can show without a read key.
    WriterPart {
        /// The point.
        0 point: PointId,
        /// Kind of source.
        1 source_kind: SourceKind,
        /// Name of the source.
        2 source: String,
        /// End of the backup, milliseconds since 1970.
        3 finished_ms: i64,
        /// Kernel sequence or the like; zero where there is none.
        4 position: u64,
        /// Tree root, state hash or stream hash.
        5 root_hash: Hash,
        /// Every pack the point needs.
        6 references: Vec<PackId>,
        /// Counts and bytes.
        7 statistics: Statistics,
        /// Given by the user.
        8 tags: Vec<String>,
    }
}
