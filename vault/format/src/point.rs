//! The point record: the sealed copy of what a manifest says, enough to rebuild
//! the point when nothing but bare shards is left.

use crate::cbor::{numbered, record};
use crate::ids::{Blob, Hash, LineageId, PointId, VaultId, WriterId};
use crate::manifest::PackRef;
use crate::tree::Content;
use crate::vault::KeyHistoryEntry;

numbered! {
    /// What is backed up.
    SourceKind {
        /// A kernel node.
        1 Kernel,
        /// Directory trees.
        2 Directory,
        /// A Postgres cluster.
        3 Postgres,
        /// A command's output.
        4 Command,
    }
}

record! {
    /// The last frame of a point's last pack.
    PointRecord {
        /// The vault.
        0 vault: VaultId,
        /// The writer.
        1 writer: WriterId,
        /// Epoch of the manifest that commits it.
        2 epoch: u64,
        /// Its sequence.
        3 sequence: u64,
        /// Name of the source.
        4 source: String,
        /// Name of the host.
        5 host: String,
        /// Start of the backup, milliseconds since 1970.
        6 started_ms: i64,
        /// End of the backup, milliseconds since 1970.
        7 finished_ms: i64,
        /// The state itself.
        8 root: PointRoot,
        /// All other packs it needs, with the hashes of their headers.
        9 packs: Vec<PackRef>,
        /// More packs as content holding a CBOR array of [`PackRef`]; version 1
        /// writers leave it out, readers follow it.
        10 packs_more: Option<Content>,
        /// The previous point of this source by this writer.
        11 previous: Option<PointId>,
        /// Certificate envelopes: operator, then writer.
        12 certificates: Vec<Blob>,
        /// The vault record's envelope, which names root key, coding and chunk sizes.
        13 vault_record: Blob,
        /// Key history as in the vault record, so that it outlives it.
        14 key_history: Vec<KeyHistoryEntry>,
        /// Given by the user.
        15 tags: Vec<String>,
        /// Counts and bytes.
        16 statistics: Statistics,
        /// The point this one replaces, after a re-encryption.
        17 successor_of: Option<PointId>,
    }
}

/// The state of a source, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum PointRoot {
    /// A kernel node's state.
    #[n(1)]
    Kernel(#[n(0)] KernelRoot),
    /// A tree of files.
    #[n(2)]
    Tree(#[n(0)] TreeRoot),
    /// A Postgres cluster.
    #[n(3)]
    Postgres(#[n(0)] PostgresRoot),
    /// One stream of bytes.
    #[n(4)]
    Stream(#[n(0)] StreamRoot),
}

impl PointRoot {
    /// What a restore must reproduce.
    pub fn hash(&self) -> Hash {
        match self {
            Self::Kernel(root) => root.state_hash,
            Self::Tree(root) => root.hash,
            Self::Postgres(root) => root.hash,
            Self::Stream(root) => root.hash,
        }
    }

    /// Kernel sequence, Postgres LSN, or zero.
    pub fn position(&self) -> u64 {
        match self {
            Self::Kernel(root) => root.sequence,
            Self::Postgres(root) => root.end_lsn,
            Self::Tree(_) | Self::Stream(_) => 0,
        }
    }

    /// The kind of source it came from.
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Kernel(_) => SourceKind::Kernel,
            Self::Tree(_) => SourceKind::Directory,
            Self::Postgres(_) => SourceKind::Postgres,
            Self::Stream(_) => SourceKind::Command,
        }
    }
}

record! {
    /// A snapshot and the log records since, in one.
    KernelRoot {
        /// The snapshot file.
        0 snapshot: Content,
        /// Log records after the snapshot, as framed in the log.
        1 log: Content,
        /// Lineage of the sequence numbers.
        2 lineage: LineageId,
        /// Sequence the snapshot holds.
        3 snapshot_sequence: u64,
        /// Sequence after the last log record.
        4 sequence: u64,
        /// State hash at `sequence`.
        5 state_hash: Hash,
        /// Chain hash of the log at `sequence`.
        6 chain_hash: Hash,
    }
}

record! {
    /// A directory listing.
    TreeRoot {
        /// The listing of the top: one entry per path given.
        0 content: Content,
        /// Tree root: hash over the label and the CBOR of `content`.
        1 hash: Hash,
    }
}

record! {
    /// A physical copy of a cluster and the log to replay.
    PostgresRoot {
        /// The data directory's listing.
        0 files: Content,
        /// The backup manifest of the server.
        1 server_manifest: Content,
        /// Log from `start_lsn` to `end_lsn`.
        2 log: Content,
        /// Tree root of `files`.
        3 hash: Hash,
        /// System identifier.
        4 system: u64,
        /// Timeline.
        5 timeline: u32,
        /// Major version.
        6 version: u32,
        /// Where replay starts.
        7 start_lsn: u64,
        /// Where the point is consistent.
        8 end_lsn: u64,
    }
}

record! {
    /// Bytes of a command or of standard input.
    StreamRoot {
        /// The bytes.
        0 content: Content,
        /// Hash over all of them.
        1 hash: Hash,
        /// A file name for them.
        2 name: String,
    }
}

record! {
    /// Counts and bytes of a backup.
    Statistics {
        /// Files, or kernel records.
        0 items: u64,
        /// Of them new or changed.
        1 changed: u64,
        /// Could not be read; each was named in the run's output.
        2 unreadable: u64,
        /// Plain bytes of the point.
        3 plain_bytes: u64,
        /// Plain bytes not stored before.
        4 new_bytes: u64,
        /// Body bytes of the new packs, before coding.
        5 packed_bytes: u64,
    }
}
