//! FORMAT.md against the code, golden files against the code, and vectors that must fail in one named way.
//!
//! `HOLDFAST_WRITE_VECTORS=1 cargo test -p holdfast-kernel-core --test format` writes the files anew. A change of
//! stored bytes changes them, and belongs into FORMAT.md's history in the same commit.
#![allow(clippy::unwrap_used)]

mod world;

use std::fmt::Write;
use std::path::PathBuf;

use kernel_core::snapshot::{self, Section};
use kernel_core::{
    Command, DeleteMode, Deletion, Edge, EdgeKind, Error, Existing, Fault, Fixed, Hash, Id, Kind, KindSpace, LABELS,
    Links, Metric, Node, NodeKind, Parameters, Record, STATE_VERSION, State, ThingRef, ThingType, limits, verify_chain,
    wal,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn format_md() -> String {
    std::fs::read_to_string(folder().join("FORMAT.md")).unwrap()
}

/// Rows of the table whose heading holds `heading`, as cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = format_md();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim_matches(['|', '`', ' ']).to_owned()).collect()
    };
    let lines = text.lines().skip_while(|line| !(line.starts_with('|') && line.contains(heading))).skip(2);
    let rows: Vec<_> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "FORMAT.md has no table {heading}");
    rows
}

fn pairs(heading: &str) -> Vec<(String, String)> {
    table(heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

#[test]
fn the_page_lists_what_the_code_has() {
    let owned = |left: String, right: &str| (left, right.to_owned());
    let labels: Vec<_> = LABELS.iter().map(|(purpose, label)| owned((*purpose).to_owned(), label)).collect();
    assert_eq!(pairs("| use | label |"), labels);
    let commands: Vec<_> = Command::NAMES.iter().map(|(number, name)| owned(number.to_string(), name)).collect();
    assert_eq!(pairs("| number | command |"), commands);
    let nodes: Vec<_> = NodeKind::BUILT_IN.iter().map(|(name, kind)| owned(kind.number().to_string(), name)).collect();
    assert_eq!(pairs("| node kind |"), nodes);
    let edges: Vec<_> = EdgeKind::BUILT_IN.iter().map(|(name, kind)| owned(kind.number().to_string(), name)).collect();
    assert_eq!(pairs("| edge kind |"), edges);
    for (number, name) in pairs("| section | name |") {
        let section = Section::from_number(number.parse().unwrap()).unwrap();
        assert_eq!((format!("{section:?}"), section.number().to_string()), (name, number));
    }
    let known = (0..=u16::MAX).filter(|number| Section::from_number(*number).is_ok()).count();
    assert_eq!(known, pairs("| section | name |").len());
    let limits: Vec<(String, String)> = [
        ("DIMENSION_MAX", u64::from(limits::DIMENSION_MAX)),
        ("METADATA_BYTES_MAX", limits::METADATA_BYTES_MAX.into()),
        ("NAME_BYTES_MAX", limits::NAME_BYTES_MAX.into()),
        ("ITEMS_MAX", limits::ITEMS_MAX.into()),
        ("BATCH_COMMANDS_MAX", limits::BATCH_COMMANDS_MAX.into()),
        ("COMMAND_BYTES_MAX", limits::COMMAND_BYTES_MAX.into()),
        ("USER_KIND_MIN", limits::USER_KIND_MIN.into()),
        ("USER_KINDS_MAX", limits::USER_KINDS_MAX),
        ("SECTION_BYTES_MAX", limits::SECTION_BYTES_MAX.into()),
    ]
    .map(|(name, value)| owned(name.to_owned(), &value.to_string()))
    .into();
    assert_eq!(pairs("| limit | value |"), limits);
    let page = format_md();
    for fault in FAULTS {
        assert!(page.contains(&format!("`{}`", fault.name())), "{} is not listed", fault.name());
    }
}

const FAULTS: [Fault; 15] = [
    Fault::Magic,
    Fault::Truncated,
    Fault::TooLarge,
    Fault::TrailingBytes,
    Fault::Reserved,
    Fault::UnknownNumber,
    Fault::Text,
    Fault::Checksum,
    Fault::Order,
    Fault::Misplaced,
    Fault::StateHash,
    Fault::ChainHash,
    Fault::Sequence,
    Fault::Lineage,
    Fault::Replay,
];

/// Offsets of a byte table, checked to follow from the lengths.
fn offsets(heading: &str) -> Vec<usize> {
    let mut next = 0;
    let mut offsets = Vec::new();
    for row in table(heading) {
        let offset: usize = row[0].parse().unwrap();
        assert_eq!(offset, next, "{heading}: a gap before {row:?}");
        offsets.push(offset);
        next = offset + row[1].parse::<usize>().unwrap_or(0);
    }
    offsets.push(next);
    offsets
}

#[test]
fn byte_tables_are_the_constants() {
    use snapshot as s;
    let record = [
        0,
        wal::LENGTH_AT,
        wal::CRC_AT,
        wal::VERSION_AT,
        wal::VERSION_AT + 2,
        wal::LINEAGE_AT,
        wal::SEQUENCE_AT,
        wal::SYNCED_AT,
        wal::WALL_TIME_AT,
        wal::STATE_BEFORE_AT,
        wal::CHAIN_AT,
        wal::HEADER_BYTES,
        wal::HEADER_BYTES,
    ];
    assert_eq!(offsets("| offset | bytes | field |"), record);
    let header = [
        0,
        s::VERSION_AT,
        s::VERSION_AT + 2,
        s::VERSION_AT + 4,
        s::KIND_AT,
        s::KIND_AT + 1,
        s::LINEAGE_AT,
        s::PARENT_LINEAGE_AT,
        s::PARENT_SEQUENCE_AT,
        s::SEQUENCE_AT,
        s::WALL_TIME_AT,
        s::STATE_HASH_AT,
        s::CHAIN_AT,
        s::BASE_SEQUENCE_AT,
        s::BASE_HASH_AT,
        s::INDEX_SEQUENCE_AT,
        s::INDEX_HASH_AT,
        s::STATE_VERSION_AT,
        s::STATE_VERSION_AT + 4,
        s::CHECKSUM_AT,
        s::HEADER_BYTES,
    ];
    assert_eq!(offsets("| offset | bytes | snapshot field |"), header);
    assert_eq!((wal::VERSION, s::VERSION, STATE_VERSION), (1, 1, 1), "a new version has its own row in the history");
}

/// One of every command, with every kind of thing.
fn every_command() -> Vec<(&'static str, Command)> {
    let name = || world::name("notes");
    let id = Id::from_u64;
    let record = |number: u64, tag| Record {
        id: id(number),
        tag,
        metadata: b"text".to_vec().into(),
        vector: [1 << 16, -(1 << 15), number as i32].map(Fixed::from_raw).into(),
    };
    let node = |number: u64, kind, record| Node {
        id: id(number),
        kind,
        weight: Fixed::ONE,
        created_at: 1_700_000_000_000,
        record,
        metadata: Box::default(),
    };
    let edge = |number: u64, kind, from, to| Edge {
        id: id(number),
        kind,
        weight: Fixed::from_raw(-3),
        created_at: 1_700_000_000_001,
        from: id(from),
        to: id(to),
        metadata: b"why".to_vec().into(),
    };
    let deletion =
        |mode, links, number| Deletion { collection: name(), mode, links, deleted_at: 99, ids: vec![id(number)] };
    let trashed = |thing, number| ThingRef { thing, id: id(number), deleted_at: 99 };
    let (refuse, replace) = (Existing::Refuse, Existing::Replace);
    let create = |text: &str, metric| Command::CreateCollection {
        name: world::name(text),
        dimension: 3,
        metric,
        parameters: Parameters::default(),
        created_at: 1_700_000_000_000,
        metadata: b"about".to_vec().into(),
    };
    let kind = |space, number, text| Kind { space, number, name: world::name(text) };
    vec![
        ("create", create("notes", Metric::Cosine)),
        ("create-l2", create("other", Metric::L2)),
        ("define-kind", Command::DefineKind { collection: name(), kind: kind(KindSpace::Edge, 256, "cites") }),
        ("define-node-kind", Command::DefineKind { collection: name(), kind: kind(KindSpace::Node, 300, "place") }),
        (
            "put-records",
            Command::PutRecords {
                collection: name(),
                existing: refuse,
                records: (1..=4).map(|number| record(number, 0)).collect(),
            },
        ),
        (
            "replace-record",
            Command::PutRecords { collection: name(), existing: replace, records: vec![record(2, u64::MAX)] },
        ),
        (
            "put-nodes",
            Command::PutNodes {
                collection: name(),
                existing: refuse,
                nodes: vec![
                    node(10, NodeKind::Document, Some(id(1))),
                    node(11, NodeKind::Other(300), None),
                    node(12, NodeKind::Concept, Some(id(2))),
                ],
            },
        ),
        (
            "put-edges",
            Command::PutEdges {
                collection: name(),
                existing: refuse,
                edges: vec![
                    edge(20, EdgeKind::Supports, 10, 11),
                    edge(21, EdgeKind::Other(256), 11, 12),
                    edge(22, EdgeKind::DerivesFrom, 12, 12),
                ],
            },
        ),
        ("delete-edge", Command::DeleteEdges(deletion(DeleteMode::Soft, Links::Refuse, 20))),
        ("delete-node", Command::DeleteNodes(deletion(DeleteMode::Soft, Links::Cascade, 12))),
        ("delete-record", Command::DeleteRecords(deletion(DeleteMode::Hard, Links::Refuse, 4))),
        ("delete-record-soft", Command::DeleteRecords(deletion(DeleteMode::Soft, Links::Refuse, 3))),
        ("restore-things", Command::RestoreThings { collection: name(), things: vec![trashed(ThingType::Edge, 20)] }),
        ("purge-things", Command::PurgeThings { collection: name(), things: vec![trashed(ThingType::Edge, 22)] }),
        ("purge-before", Command::PurgeBefore { collection: name(), deleted_before: 50, limit: 10 }),
        (
            "set-parameters",
            Command::SetParameters {
                collection: name(),
                parameters: Parameters { index_links: 32, ..Parameters::default() },
            },
        ),
        (
            "trash-collection",
            Command::TrashCollection { name: world::name("other"), trash_id: id(77), deleted_at: 100 },
        ),
        ("restore-collection", Command::RestoreCollection { trash_id: id(77), name: world::name("again") }),
        (
            "batch",
            Command::Batch(vec![
                Command::TrashCollection { name: world::name("again"), trash_id: id(78), deleted_at: 101 },
                create("third", Metric::Dot),
            ]),
        ),
        ("trash-another", Command::TrashCollection { name: world::name("third"), trash_id: id(79), deleted_at: 102 }),
        ("purge-collection", Command::PurgeCollection { trash_id: id(79) }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// Compares a file of the test data with what the code makes, or writes it when asked to.
fn pin(name: &str, content: &[u8]) {
    let path = folder().join("testdata").join(name);
    if std::env::var_os("HOLDFAST_WRITE_VECTORS").is_some() {
        std::fs::write(&path, content).unwrap();
    }
    let pinned = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(pinned == content, "{name} is not what the code makes now: the stored format has changed");
}

#[test]
fn golden_files_are_pinned() {
    let commands = every_command();
    let numbers: std::collections::BTreeSet<u16> = commands.iter().map(|(_, command)| command.number()).collect();
    assert_eq!(numbers.len(), Command::NAMES.len(), "one of every command");
    let mut lines = String::from(
        "# name, then the encoded command. Applied in this order from the empty state, each is accepted.\n",
    );
    for (name, command) in &commands {
        writeln!(lines, "{name} {}", hex(&command.encode().unwrap())).unwrap();
    }
    pin("commands.txt", lines.as_bytes());

    let all: Vec<Command> = commands.into_iter().map(|(_, command)| command).collect();
    let mut state = State::new();
    let empty = world::snapshot(&mut state);
    let (log, at) = world::log_of(&mut state, &all);
    assert_eq!(at.records as usize, all.len(), "each is accepted");
    let full = world::snapshot(&mut state);
    pin("empty.hfs", &empty);
    pin("golden.hfs", &full);
    pin("golden.wal", &log);
    let expected = format!(
        "# What a reader of the golden files must find.\nlineage {}\nempty-state-hash {}\nsequence {}\nstate-hash {}\nchain-hash {}\n",
        at.lineage,
        State::new().hash(),
        at.sequence,
        at.state_hash,
        at.chain
    );
    pin("golden.txt", expected.as_bytes());
    assert_eq!(verify_chain(&empty, &log), Ok(at));
    assert_eq!(snapshot::decode(&full).unwrap().0.state_hash, at.state_hash);
}

/// Makes a damaged object that is otherwise right: checksums are set again unless they are the point.
struct Vectors {
    lines: String,
}

impl Vectors {
    fn add(&mut self, object: &str, name: &str, expected: &str, bytes: &[u8]) {
        let found = judge(object, bytes);
        assert_eq!(found, expected, "{object} {name}");
        writeln!(self.lines, "{object} {name} {expected} {}", hex(bytes)).unwrap();
    }

    /// Changes bytes of an object at an offset.
    fn patch(&mut self, object: &str, name: &str, expected: &str, bytes: &[u8], at: usize, with: &[u8]) {
        let mut patched = bytes.to_vec();
        patched[at..at + with.len()].copy_from_slice(with);
        match object {
            "record" => reseal_record(&mut patched),
            "snapshot" => reseal_snapshot(&mut patched),
            _ => {}
        }
        self.add(object, name, expected, &patched);
    }
}

/// How the code refuses these bytes.
fn judge(object: &str, bytes: &[u8]) -> String {
    let result = match object {
        "command" => Command::decode(bytes).map(drop),
        "record" => wal::WalRecord::decode(bytes).map(drop),
        "snapshot" => snapshot::decode(bytes).map(drop),
        "log" => {
            let mut state = State::new();
            verify_chain(&world::snapshot(&mut state), bytes).map(drop)
        }
        other => panic!("{other}"),
    };
    match result {
        Ok(()) => "accepted".to_owned(),
        Err(Error::Corrupt { fault, .. }) => fault.name().to_owned(),
        Err(Error::Unsupported { .. }) => "unsupported".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

fn reseal_record(record: &mut [u8]) {
    let crc = kernel_core::crc32c(&record[wal::VERSION_AT..]);
    record[wal::CRC_AT..wal::VERSION_AT].copy_from_slice(&crc.to_le_bytes());
}

fn snapshot_hash(bytes: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let label = LABELS.iter().find(|(purpose, _)| *purpose == "snapshot").unwrap().1;
    key[..label.len()].copy_from_slice(label.as_bytes());
    *blake3::keyed_hash(&key, bytes).as_bytes()
}

/// Sets the header's checksum and those of all sections that can be walked.
fn reseal_snapshot(bytes: &mut [u8]) {
    let header = snapshot_hash(&bytes[..snapshot::CHECKSUM_AT]);
    bytes[snapshot::CHECKSUM_AT..snapshot::HEADER_BYTES].copy_from_slice(&header);
    let mut at = snapshot::HEADER_BYTES;
    while at + 8 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = at + 8 + length;
        if end + 32 > bytes.len() {
            return;
        }
        let checksum = snapshot_hash(&bytes[at..end]);
        bytes[end..end + 32].copy_from_slice(&checksum);
        at = end + 32;
    }
}

/// Start and end of the sections of a snapshot.
fn sections(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = snapshot::HEADER_BYTES;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        found.push(at..at + 8 + length + 32);
        at += 8 + length + 32;
    }
    found
}

fn snapshot_vectors(vectors: &mut Vectors) {
    let commands: Vec<Command> = every_command().into_iter().take(5).map(|(_, command)| command).collect();
    let mut state = world::state_after(&commands);
    let good = world::snapshot(&mut state);
    vectors.add("snapshot", "good", "accepted", &good);
    let mut patch = |name, expected, at: usize, with: &[u8]| vectors.patch("snapshot", name, expected, &good, at, with);
    patch("other-magic", "magic", 0, b"X");
    patch("version-2", "unsupported", snapshot::VERSION_AT, &[2]);
    patch("header-length", "unsupported", snapshot::VERSION_AT + 2, &[0x41]);
    patch("critical-flag", "unsupported", snapshot::VERSION_AT + 4, &[1]);
    patch("incremental", "unsupported", snapshot::KIND_AT, &[snapshot::KIND_INCREMENTAL]);
    patch("reserved-not-zero", "reserved", snapshot::KIND_AT + 1, &[1]);
    patch("base-in-a-full-one", "reserved", snapshot::BASE_SEQUENCE_AT, &[1]);
    patch("state-version-2", "unsupported", snapshot::STATE_VERSION_AT, &[2]);
    patch("other-state-hash", "state-hash", snapshot::STATE_HASH_AT, &[0; 32]);
    patch("other-sequence", "state-hash", snapshot::SEQUENCE_AT, &[9]);
    let parts = sections(&good);
    let first = parts[0].start;
    patch("unknown-section", "unsupported", first, &[200]);
    patch("critical-section-flag", "unsupported", first + 2, &[2]);
    patch("section-too-large", "too-large", first + 4, &[0xFF; 4]);
    let last = parts.last().unwrap().start;
    patch("end-counts", "misplaced", last + 8, &[9]);
    patch("unknown-metric", "unknown-number", first + 8 + 2 + 5 + 4, &[3]);
    patch("dimension-zero", "too-large", first + 8 + 2 + 5, &[0; 4]);
    patch("name-not-legal", "text", first + 8 + 2, b"/");

    let mut rotten = good.clone();
    rotten[first + 8] ^= 1;
    vectors.add("snapshot", "section-checksum", "checksum", &rotten);
    let mut rotten = good.clone();
    rotten[snapshot::SEQUENCE_AT] ^= 1;
    vectors.add("snapshot", "header-checksum", "checksum", &rotten);
    vectors.add("snapshot", "cut", "truncated", &good[..good.len() - 1]);
    vectors.add("snapshot", "cut-header", "truncated", &good[..100]);
    vectors.add("snapshot", "longer", "trailing-bytes", &[&good[..], b"\0"].concat());
    let no_collection = [&good[..first], &good[parts[1].clone()], &good[last..]].concat();
    vectors.add("snapshot", "things-without-collection", "misplaced", &no_collection);
    let swapped = [
        &good[..first],
        &good[parts[0].clone()],
        &good[parts[2].clone()],
        &good[parts[1].clone()],
        &good[parts[3].start..],
    ]
    .concat();
    vectors.add("snapshot", "sections-out-of-order", "misplaced", &swapped);
    let twice = [&good[..parts[1].end], &good[parts[1].start..]].concat();
    vectors.add("snapshot", "items-twice", "order", &twice);
    let missing = [&good[..parts[2].start], &good[parts[2].end..]].concat();
    vectors.add("snapshot", "a-section-is-missing", "misplaced", &missing);
}

fn command_vectors(vectors: &mut Vectors) {
    for (name, command) in every_command() {
        vectors.add("command", name, "accepted", &command.encode().unwrap());
    }
    let all = every_command();
    let bytes = |name: &str| all.iter().find(|(found, _)| *found == name).unwrap().1.encode().unwrap();
    let edges = bytes("put-edges");
    let mut patch =
        |name, expected, of: &[u8], at: usize, with: &[u8]| vectors.patch("command", name, expected, of, at, with);
    patch("unknown-command", "unsupported", &edges, 0, &[17]);
    patch("command-zero", "unsupported", &edges, 0, &[0]);
    patch("command-reserved", "reserved", &edges, 2, &[1]);
    patch("name-not-utf8", "text", &edges, 6, &[0xFF]);
    patch("name-empty", "text", &edges, 4, &[0]);
    patch("name-too-long", "too-large", &edges, 4, &[129, 0]);
    patch("existing-two", "unknown-number", &edges, 11, &[2]);
    patch("put-reserved", "reserved", &edges, 12, &[1]);
    patch("list-empty", "truncated", &edges, 15, &[0]);
    patch("list-too-large", "too-large", &edges, 15, &[1, 0, 1, 0]);
    patch("list-longer-than-bytes", "truncated", &edges, 15, &[0xFF]);
    patch("edge-kind-unknown", "unknown-number", &edges, 19 + 16, &[5]);
    patch("edge-reserved", "reserved", &edges, 19 + 18, &[1]);
    patch("metadata-too-large", "too-large", &edges, 19 + 64, &[1, 0, 0x10, 0]);
    let nodes = bytes("put-nodes");
    patch("node-kind-unknown", "unknown-number", &nodes, 19 + 16, &[7]);
    patch("node-has-record-two", "unknown-number", &nodes, 19 + 18, &[2]);
    patch("node-reserved", "reserved", &nodes, 19 + 19, &[1]);
    patch("node-without-record-names-one", "reserved", &nodes, 19 + 18, &[0]);
    let records = bytes("put-records");
    patch("dimension-too-large", "too-large", &records, 19 + 16 + 8 + 4 + 4, &[0, 0, 1, 0]);
    let delete = bytes("delete-edge");
    patch("delete-mode", "unknown-number", &delete, 11, &[2]);
    patch("delete-links", "unknown-number", &delete, 12, &[2]);
    let batch = bytes("batch");
    patch("batch-in-batch", "misplaced", &batch, 8, &[16]);
    patch("batch-empty", "truncated", &batch, 4, &[0]);
    let restore = bytes("restore-things");
    patch("thing-type", "unknown-number", &restore, 15, &[4]);
    patch("parameters-reserved", "reserved", &bytes("set-parameters"), 4 + 7 + 6, &[1]);
    vectors.add("command", "cut", "truncated", &edges[..edges.len() - 1]);
    vectors.add("command", "longer", "trailing-bytes", &[&edges[..], b"\0"].concat());
    vectors.add("command", "nothing", "truncated", &[]);
}

fn log_vectors(vectors: &mut Vectors) {
    let commands: Vec<Command> = every_command().into_iter().take(3).map(|(_, command)| command).collect();
    let (log, _) = world::log_of(&mut State::new(), &commands);
    let first = wal::record_length(&log).unwrap();
    let second = first + wal::record_length(&log[first..]).unwrap();
    vectors.add("log", "good", "accepted", &log);
    vectors.add("log", "empty", "accepted", &[]);
    vectors.add("log", "first-missing", "sequence", &log[first..]);
    vectors.add("log", "second-missing", "sequence", &[&log[..first], &log[second..]].concat());
    vectors.add("log", "second-twice", "sequence", &[&log[..second], &log[first..second]].concat());
    vectors.add("log", "cut", "truncated", &log[..log.len() - 1]);
    let mut rotten = log.clone();
    rotten[first + wal::HEADER_BYTES] ^= 1;
    vectors.add("log", "rot", "checksum", &rotten);
    let mut other = log[..first].to_vec();
    other[wal::LINEAGE_AT] ^= 1;
    reseal_record(&mut other);
    vectors.add("log", "other-lineage", "lineage", &other);
    let mut other = log[..first].to_vec();
    other[wal::WALL_TIME_AT] ^= 1;
    reseal_record(&mut other);
    vectors.add("log", "rewritten", "chain-hash", &other);

    let good = wal::WalRecord::decode(&log).unwrap();
    let start = world::header(&mut State::new()).chain;
    let with = |header: &wal::RecordHeader, payload: &[u8]| {
        let mut record = Vec::new();
        wal::append_record(&mut record, header, &start, payload);
        record
    };
    let other_state = wal::RecordHeader { state_before: Hash::ZERO, ..good.header };
    vectors.add("log", "other-state-before", "state-hash", &with(&other_state, good.payload));
    let refused = commands[2].encode().unwrap();
    vectors.add("log", "command-the-state-refuses", "replay", &with(&good.header, &refused));
    vectors.add("log", "payload-unknown", "unsupported", &with(&good.header, &[99, 0, 0, 0]));
    vectors.add("log", "payload-cut", "truncated", &with(&good.header, &good.payload[..9]));

    let record = &log[..first];
    let mut patch = |name, expected, at: usize, with: &[u8]| vectors.patch("record", name, expected, record, at, with);
    patch("other-magic", "magic", 0, b"X");
    patch("length-short", "truncated", wal::LENGTH_AT, &[119, 0, 0, 0]);
    patch("length-huge", "too-large", wal::LENGTH_AT, &[0xFF; 4]);
    patch("version-2", "unsupported", wal::VERSION_AT, &[2]);
    patch("critical-flag", "unsupported", wal::VERSION_AT + 2, &[1]);
    let mut rotten = record.to_vec();
    rotten[wal::SEQUENCE_AT] ^= 1;
    vectors.add("record", "rot", "checksum", &rotten);
    vectors.add("record", "cut", "truncated", &record[..record.len() - 1]);
}

#[test]
fn vectors_fail_in_their_named_way() {
    let lines = "# object, name, what a reader must say, bytes. `log` is a log after empty.hfs; `record` a single log record.\n";
    let mut vectors = Vectors { lines: lines.to_owned() };
    command_vectors(&mut vectors);
    log_vectors(&mut vectors);
    snapshot_vectors(&mut vectors);
    pin("vectors.txt", vectors.lines.as_bytes());

    // And from the file alone, as a reader of another kind would.
    let text = std::fs::read_to_string(folder().join("testdata/vectors.txt")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.splitn(4, ' ');
        let (object, name, expected) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        assert_eq!(judge(object, &unhex(words.next().unwrap_or_default())), expected, "{object} {name}");
        seen.insert(expected.to_owned());
    }
    for fault in FAULTS {
        assert!(seen.contains(fault.name()), "no vector fails with {}", fault.name());
    }
}
