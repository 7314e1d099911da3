//! Samples of the records.

use vault_format::certificate::{Certificate, Fence, Revocation, Role};
use vault_format::journal::JournalBody;
use vault_format::layout::{
    Attachment, LayoutLocation, LayoutNames, LayoutRecord, LayoutWriter, LocationGrade, LocationName, LocationState,
};
use vault_format::manifest::{JanitorPart, JournalTail, Manifest, ManifestKind, PackRef, ReaderPart, WriterPart};
use vault_format::point::{
    KernelRoot, PointRecord, PointRoot, PostgresRoot, SourceKind, Statistics, StreamRoot, TreeRoot,
};
use vault_format::sealed::SealedBlob;
use vault_format::tombstone::{JournalRange, ManifestRef, Note, NoteKind, Tombstone, TombstoneAction};
use vault_format::tree::{ChunkList, ChunkRef, Content, Entry, EntryKind, Hole, Listing, Xattr};
use vault_format::vault::{CardSet, CrossSignature, KemKey, KemRole, KeyHistoryEntry, VaultRecord};
use vault_format::{
    Blob, ChunkId, LineageId, LocationId, PackId, PointId, RecipientId, ScopeId, StreamId, VaultId, WriterId, encode,
};

use crate::samples::{Sample, blob, hash, marked};
use crate::schema;

/// All of them.
pub(crate) fn all() -> Vec<Sample> {
    let program = schema::of_program();
    let record = |name: &str, of: &'static str, bytes: Vec<u8>| {
        let fields = schema::read_all(&program, of, &bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
        Sample { name: name.into(), decoder: Some(of), heading: of, bytes, fields }
    };
    let deep = Content { bytes: 2_000_000_000, depth: 2, chunks: content(0x02).chunks };
    vec![
        record("vault-record", "VaultRecord", encode(&vault_record())),
        record("layout-record", "LayoutRecord", encode(&layout_record())),
        record("layout-names", "LayoutNames", encode(&layout_names())),
        record("certificate", "Certificate", encode(&certificate())),
        record("revocation", "Revocation", encode(&revocation())),
        record("fence", "Fence", encode(&fence())),
        record("manifest", "Manifest", encode(&manifest())),
        record("manifest-heartbeat", "Manifest", encode(&heartbeat())),
        record("janitor-part", "JanitorPart", encode(&janitor_part())),
        record("reader-part", "ReaderPart", encode(&reader_part())),
        record("writer-part", "WriterPart", encode(&writer_part())),
        record("tombstone", "Tombstone", encode(&tombstone())),
        record("tombstone-pin", "Tombstone", encode(&pin(TombstoneAction::Pin))),
        record("tombstone-unpin", "Tombstone", encode(&pin(TombstoneAction::Unpin))),
        record("note", "Note", encode(&note())),
        record("point-record-kernel", "PointRecord", encode(&kernel_point())),
        record("point-record-tree", "PointRecord", encode(&tree_point())),
        record("point-record-postgres", "PointRecord", encode(&postgres_point())),
        record("point-record-stream", "PointRecord", encode(&stream_point())),
        record("content", "Content", encode(&content(0x01))),
        record("content-deep", "Content", encode(&deep)),
        record("content-empty", "Content", encode(&Content::empty())),
        record("chunk-list", "ChunkList", encode(&ChunkList { chunks: content(0x01).chunks })),
        record("listing", "Listing", encode(&listing())),
        record("journal-body", "JournalBody", encode(&journal_body())),
        record("sealed-blob", "SealedBlob", encode(&sealed(0x28))),
    ]
}

fn sealed(mark: u8) -> SealedBlob {
    SealedBlob { recipient: RecipientId(marked(mark)), enc: blob(mark + 1, 1120), ciphertext: blob(mark + 2, 48) }
}

fn statistics() -> Statistics {
    Statistics { items: 5, changed: 4, unreadable: 3, plain_bytes: 300_000, new_bytes: 200_000, packed_bytes: 327_680 }
}

fn content(mark: u8) -> Content {
    let chunk = |at: u8, bytes| ChunkRef { id: ChunkId(marked(mark + at)), bytes };
    Content { bytes: 70_000, depth: 0, chunks: vec![chunk(0, 65_536), chunk(1, 4_464)] }
}

fn packs(mark: u8) -> Vec<PackRef> {
    (0..2).map(|at| PackRef { pack: PackId(marked(mark + at)), header: hash(mark + 8 + at) }).collect()
}

fn pack_ids(mark: u8) -> Vec<PackId> {
    (0..2).map(|at| PackId(marked(mark + at))).collect()
}

fn tags() -> Vec<String> {
    vec!["weekly".into(), "Bücher".into()]
}

/// Also the body of the envelope's sample.
pub(crate) fn fence() -> Fence {
    Fence {
        writer: WriterId(marked(0x20)),
        epoch: 2,
        sequence: 77,
        manifest: hash(0x85),
        gc_epoch: 9,
        created_ms: 1_763_700_000_006,
    }
}

fn vault_record() -> VaultRecord {
    let key = |generation, role, mark| KemKey { generation, role, public: blob(mark, 1216) };
    VaultRecord {
        epoch: 2,
        previous: hash(0x11),
        root_public: blob(0x12, 1984),
        data_shards: 5,
        total_shards: 9,
        chunk_min: 65_536,
        chunk_average: 262_144,
        chunk_max: 1_048_576,
        class_max: 3,
        floor_suite: 1,
        recipients: vec![key(1, KemRole::Reader, 0x13), key(1, KemRole::Janitor, 0x14)],
        key_history: vec![history()],
        operators: vec![blob(0x15, 40)],
        card_sets: vec![CardSet {
            number: 3,
            need: 2,
            cards: vec![hash(0x16), hash(0x17)],
            created_ms: 1_763_700_000_001,
        }],
        predecessors: vec![CrossSignature { root_public: blob(0x18, 64), signatures: blob(0x19, 64) }],
        created_ms: 1_763_700_000_002,
    }
}

fn history() -> KeyHistoryEntry {
    KeyHistoryEntry { generation: 1, role: KemRole::Reader, recipient: RecipientId(marked(0x1a)), seed: sealed(0x1b) }
}

fn layout_record() -> LayoutRecord {
    let location = |mark, domain, state, grade, attached| LayoutLocation {
        location: LocationId(marked(mark)),
        domain,
        state,
        grade,
        attached,
    };
    LayoutRecord {
        epoch: 4,
        previous: hash(0x51),
        vault_record: hash(0x52),
        survive_domains: 1,
        locations: vec![
            location(0x53, 1, LocationState::Active, LocationGrade::Locked, Attachment::Always),
            location(0x54, 0x1234, LocationState::Retiring, LocationGrade::Versioned, Attachment::Sometimes),
        ],
        writers: vec![LayoutWriter { writer: WriterId(marked(0x20)), certificate: hash(0x81) }],
        names: sealed(0x55),
        created_ms: 1_763_700_000_003,
    }
}

fn layout_names() -> LayoutNames {
    LayoutNames {
        vault: "home".into(),
        locations: vec![LocationName {
            location: LocationId(marked(0x53)),
            name: "nas".into(),
            url: "s3://bucket/holdfast".into(),
            endpoint: "https://s3.example".into(),
            region: "eu-1".into(),
            domain: "house".into(),
        }],
    }
}

fn certificate() -> Certificate {
    Certificate {
        role: Role::Writer,
        subject: WriterId(marked(0x20)),
        public_keys: blob(0x23, 1984),
        kem_public: Some(blob(0x24, 1216)),
        issuer: hash(0x25),
        serial: 7,
        not_before_ms: -1,
        not_after_ms: 1_863_700_000_000,
        scope: Some(ScopeId(marked(0x26))),
        name: "laptop".into(),
    }
}

fn revocation() -> Revocation {
    Revocation {
        certificate: hash(0x81),
        subject: WriterId(marked(0x20)),
        epoch: 1,
        sequence: 41,
        reason: "stolen".into(),
        created_ms: 1_763_700_000_005,
    }
}

fn manifest() -> Manifest {
    Manifest {
        epoch: 2,
        sequence: 78,
        previous: hash(0xc0),
        kind: ManifestKind::Point,
        vault_record: hash(0xc1),
        layout: hash(0xc2),
        packs: packs(0xc3),
        point_record: Some(hash(0xc5)),
        point_pack: Some(PackId(marked(0xc6))),
        janitor: Some(sealed(0xc7)),
        reader: Some(sealed(0xca)),
        own: Some(blob(0xcd, 60)),
        gc_epoch_seen: 8,
        pending: pack_ids(0xce),
        journal: vec![JournalTail {
            stream: StreamId(marked(0x21)),
            lineage: LineageId(marked(0x22)),
            ordinal: 1000,
            hash: hash(0xd0),
        }],
    }
}

fn heartbeat() -> Manifest {
    Manifest {
        kind: ManifestKind::Heartbeat,
        packs: Vec::new(),
        point_record: None,
        point_pack: None,
        janitor: None,
        reader: None,
        own: None,
        pending: Vec::new(),
        journal: Vec::new(),
        ..manifest()
    }
}

fn janitor_part() -> JanitorPart {
    JanitorPart {
        point: PointId(marked(0xd1)),
        references: pack_ids(0xd2),
        source_kind: SourceKind::Postgres,
        source: "orders".into(),
        started_ms: 1_763_700_000_007,
        finished_ms: 1_763_700_000_008,
        tags: tags(),
        pinned: true,
    }
}

fn reader_part() -> ReaderPart {
    ReaderPart {
        point: PointId(marked(0xd1)),
        source_kind: SourceKind::Kernel,
        source: "memory".into(),
        host: "atlas".into(),
        started_ms: 1_763_700_000_007,
        finished_ms: 1_763_700_000_008,
        tags: tags(),
        root_hash: hash(0xd4),
        position: 4711,
        statistics: statistics(),
    }
}

fn writer_part() -> WriterPart {
    WriterPart {
        point: PointId(marked(0xd1)),
        source_kind: SourceKind::Command,
        source: "dump".into(),
        finished_ms: 1_763_700_000_008,
        position: 4711,
        root_hash: hash(0xd4),
        references: pack_ids(0xd2),
        statistics: statistics(),
        tags: tags(),
    }
}

fn tombstone() -> Tombstone {
    Tombstone {
        gc_epoch: 9,
        sequence: 12,
        previous: hash(0xd5),
        action: TombstoneAction::Sweep,
        manifests: vec![ManifestRef { writer: WriterId(marked(0x20)), epoch: 2, sequence: 70, manifest: hash(0xd6) }],
        packs: pack_ids(0xd7),
        journals: vec![JournalRange {
            stream: StreamId(marked(0x21)),
            lineage: LineageId(marked(0x22)),
            first: 3,
            last: 900,
        }],
        created_ms: 1_763_700_000_009,
        delete_after_ms: 1_764_300_000_010,
        reason: "retention".into(),
    }
}

fn pin(action: TombstoneAction) -> Tombstone {
    let words =
        Tombstone { action, packs: Vec::new(), journals: Vec::new(), reason: "by its owner".into(), ..tombstone() };
    Tombstone { delete_after_ms: words.created_ms, ..words }
}

fn note() -> Note {
    Note {
        kind: NoteKind::Drill,
        previous: hash(0xd9),
        created_ms: 1_763_700_000_011,
        text: "VERIFIED".into(),
        data: blob(0xda, 5),
    }
}

fn point_record(root: PointRoot) -> PointRecord {
    PointRecord {
        vault: VaultId(marked(0x10)),
        writer: WriterId(marked(0x20)),
        epoch: 2,
        sequence: 78,
        source: "memory".into(),
        host: "atlas".into(),
        started_ms: 1_763_700_000_007,
        finished_ms: 1_763_700_000_008,
        root,
        packs: packs(0xe0),
        packs_more: None,
        previous: None,
        certificates: vec![blob(0xe4, 30), blob(0xe5, 31)],
        vault_record: blob(0xe6, 32),
        key_history: vec![history()],
        tags: tags(),
        statistics: statistics(),
        successor_of: None,
    }
}

fn kernel_point() -> PointRecord {
    point_record(PointRoot::Kernel(KernelRoot {
        snapshot: content(0xe7),
        log: content(0xe9),
        lineage: LineageId(marked(0x22)),
        snapshot_sequence: 4000,
        sequence: 4711,
        state_hash: hash(0xeb),
        chain_hash: hash(0xec),
    }))
}

fn tree_point() -> PointRecord {
    PointRecord {
        packs_more: Some(content(0xee)),
        previous: Some(PointId(marked(0xf0))),
        successor_of: Some(PointId(marked(0xf1))),
        ..point_record(PointRoot::Tree(TreeRoot { content: content(0xf2), hash: hash(0xf4) }))
    }
}

fn postgres_point() -> PointRecord {
    point_record(PointRoot::Postgres(PostgresRoot {
        files: content(0xf5),
        server_manifest: Content::empty(),
        log: content(0xf7),
        hash: hash(0xf9),
        system: 0x6001_0203_0405_0607,
        timeline: 3,
        version: 17,
        start_lsn: 0x1_0000_0028,
        end_lsn: 0x1_0000_0100,
    }))
}

fn stream_point() -> PointRecord {
    let root = StreamRoot { content: content(0xfa), hash: hash(0xfc), name: "dump.sql".into() };
    point_record(PointRoot::Stream(root))
}

fn listing() -> Listing {
    let file = Entry {
        name: Blob(b"caf\xe9".to_vec()),
        kind: EntryKind::File,
        mode: 0o4755,
        uid: 1000,
        gid: 1001,
        user: Some(Blob(b"ann".to_vec())),
        group: None,
        mtime_s: -2,
        mtime_ns: 999_999_999,
        size: 1_070_000,
        content: Some(content(0x01)),
        target: None,
        xattrs: vec![Xattr { name: Blob(b"user.note".to_vec()), value: blob(3, 4) }],
        device: 0,
        link_group: 6,
        holes: vec![Hole { offset: 4096, bytes: 1_000_000 }],
        flags: 1,
    };
    let link = Entry {
        name: Blob(b"latest".to_vec()),
        kind: EntryKind::Symlink,
        mode: 0o777,
        size: 4,
        content: None,
        target: Some(Blob(b"caf\xe9".to_vec())),
        xattrs: Vec::new(),
        holes: Vec::new(),
        flags: 0,
        link_group: 0,
        ..file.clone()
    };
    let device = Entry {
        name: Blob(b"null".to_vec()),
        kind: EntryKind::CharDevice,
        target: None,
        device: 1 << 32 | 3,
        ..link.clone()
    };
    Listing { entries: vec![file, link, device] }
}

fn journal_body() -> JournalBody {
    JournalBody { source: "memory".into(), first: 4711, last: 4720, created_ms: 1_763_700_000_012, log: blob(0x27, 50) }
}
