//! Bytes that must be refused, each in one named way. A negative is a sample and one splice, so that what is wrong with
//! it can be read off: so many bytes at an offset removed, others put in their place.

use std::ops::Range;

use minicbor::Decoder;
use vault_format::encode;

use crate::samples;
use crate::schema::{self, Schema, Shape};

/// Bytes that must be refused.
pub(crate) struct Negative {
    /// Decoder and what is wrong.
    pub(crate) name: String,
    /// Which decoder must refuse them.
    pub(crate) decoder: &'static str,
    /// The sample they are made from.
    pub(crate) base: &'static str,
    /// What is cut out of it.
    pub(crate) cut: Range<usize>,
    /// What is put there.
    pub(crate) insert: Vec<u8>,
    /// `FormatError::name()`.
    pub(crate) error: &'static str,
}

/// Every name of an error, as FORMAT.md lists them.
pub(crate) const ERRORS: [&str; 11] = [
    "truncated",
    "trailing",
    "magic",
    "version",
    "suite",
    "critical-flag",
    "reserved",
    "range",
    "unassigned",
    "not-canonical",
    "check",
];

impl Negative {
    /// The damaged bytes, made from the sample's.
    pub(crate) fn bytes(&self, base: &[u8]) -> Vec<u8> {
        let mut bytes = base.to_vec();
        bytes.splice(self.cut.clone(), self.insert.iter().copied());
        bytes
    }
}

/// Collects the negatives of one sample.
struct From {
    decoder: &'static str,
    base: &'static str,
    bytes: Vec<u8>,
    found: Vec<Negative>,
}

impl From {
    fn new(decoder: &'static str, base: &'static str) -> Self {
        Self { decoder, base, bytes: samples::bytes_of(base), found: Vec::new() }
    }

    fn splice(&mut self, error: &'static str, why: &str, cut: Range<usize>, insert: &[u8]) {
        let name = format!("{}: {why}", self.base);
        let (decoder, base, insert) = (self.decoder, self.base, insert.to_vec());
        self.found.push(Negative { name, decoder, base, cut, insert, error });
    }

    /// Overwrites bytes.
    fn set(&mut self, error: &'static str, why: &str, at: usize, with: &[u8]) {
        self.splice(error, why, at..at + with.len(), with);
    }

    /// First and last byte of each reserved run, one bit each.
    fn reserved(&mut self, runs: &[Range<usize>]) {
        for run in runs {
            for at in [run.start, run.end - 1] {
                assert_eq!(self.bytes[at], 0, "{}: byte {at} is not reserved", self.base);
                self.set("reserved", &format!("reserved byte {at}"), at, &[0x80]);
            }
        }
    }

    /// Lengths that no fixed layout has.
    fn lengths(&mut self) {
        let end = self.bytes.len();
        self.splice("truncated", "empty", 0..end, &[]);
        self.splice("truncated", "last byte missing", end - 1..end, &[]);
        self.splice("trailing", "one byte more", end..end, &[0]);
    }

    /// What opens every large object: magic, version, suite.
    fn opening(&mut self) {
        self.set("magic", "another kind of object", 0, b"HFOTHER1");
        self.set("version", "version 0", 8, &[0, 0]);
        self.set("version", "version 2", 8, &[2, 0]);
        self.set("version", "version 257", 8, &[1, 1]);
        self.set("suite", "suite 0", 10, &[0, 0]);
        self.set("suite", "suite 2", 10, &[2, 0]);
        self.set("suite", "suite 257", 10, &[1, 1]);
    }
}

fn shard_h0() -> Vec<Negative> {
    let mut n = From::new("shard H0", "shard-h0");
    n.lengths();
    n.opening();
    n.set("critical-flag", "critical flag 0", 12, &[1]);
    n.set("critical-flag", "critical flag 15", 13, &[0x80]);
    n.set("range", "k = 0", 80, &[0]);
    n.set("range", "k = n", 80, &[9]);
    n.set("range", "k above n", 80, &[10]);
    n.set("range", "n = 25", 81, &[25]);
    n.set("range", "matrix of copies for k = 5", 82, &[1]);
    n.set("unassigned", "matrix 0", 82, &[0]);
    n.set("unassigned", "matrix 3", 82, &[3]);
    n.set("unassigned", "class 5", 83, &[5]);
    n.set("range", "leaves of 32 KiB", 84, &[0, 0x80, 0, 0]);
    n.set("range", "leaves of another class", 88, &[16, 0, 0, 0]);
    n.set("range", "no recipient", 92, &[0]);
    n.set("range", "four recipients", 92, &[4]);
    n.reserved(&[93..96, 128..144, 144..256]);
    let mut copies = From::new("shard H0", "shard-h0-copies");
    copies.set("range", "Vandermonde matrix for k = 1", 82, &[2]);
    n.found.extend(copies.found);
    n.found
}

fn shard_header() -> Vec<Negative> {
    let mut n = From::new("shard header", "shard-header");
    n.lengths();
    n.opening();
    n.set("critical-flag", "critical flag 7", 12, &[0x80]);
    n.reserved(&[93..96, 128..144, 144..256]);
    n.reserved(&[256 + 2 * 1168..3760, 3824 + 9 * 32..4592, 4592..4720, 8093..8176, 8177..8192]);
    n.set("range", "index = n", 8176, &[9]);
    n.set("range", "index 255", 8176, &[255]);
    n.set("reserved", "a root for a tenth shard though n is 9", 3824 + 9 * 32 + 8, &[1]);
    n.set("unassigned", "class 5", 83, &[5]);
    n.found
}

fn shard_trailer() -> Vec<Negative> {
    let mut n = From::new("shard trailer", "shard-trailer");
    n.lengths();
    n.set("magic", "another kind of object", 0, b"HFSHARD1");
    n.reserved(std::slice::from_ref(&(49..56)));
    n.set("check", "object_bytes changed", 8, &[0x41]);
    n.set("check", "header_hash changed", 16, &[0]);
    n.set("check", "index changed", 48, &[7]);
    n.set("check", "check changed", 63, &[0]);
    n.found
}

fn sections() -> Vec<Negative> {
    let mut n = From::new("table of contents", "table-of-contents");
    let end = n.bytes.len();
    n.splice("truncated", "empty", 0..end, &[]);
    n.splice("truncated", "half of an entry", 100..end, &[]);
    n.set("truncated", "more entries than bytes", 0, &[4]);
    n.set("truncated", "2^32 - 1 entries", 0, &[0xff; 4]);
    n.reserved(&[4..8, 50..52, 140..160]);
    n.set("range", "raw, but of two lengths", 40, &[4]);
    n.set("range", "a chunk of 64 MiB and a byte", 52 + 36, &[1, 0, 0, 4]);
    n.set("unassigned", "kind 0", 48, &[0]);
    n.set("unassigned", "kind 5", 48, &[5]);
    n.set("unassigned", "codec 2", 49, &[2]);
    let mut index = From::new("index section", "index-section");
    index.lengths();
    index.set("truncated", "2^32 - 1 entries", 0, &[0xff; 4]);
    index.set("trailing", "fewer entries than bytes", 0, &[2]);
    index.reserved(&[4..8, 45..48]);
    index.set("unassigned", "kind 0", 44, &[0]);
    let mut locator = From::new("locator", "locator");
    locator.lengths();
    locator.reserved(std::slice::from_ref(&(20..32)));
    locator.set("range", "begins after the body", 0, &[0, 0, 5]);
    locator.set("range", "overlaps the locators", 8, &[0, 0, 2]);
    locator.set("range", "no room for a tag", 8, &[15, 0]);
    locator.set("range", "offset and length overflow", 0, &[0xff; 16]);
    [n.found, index.found, locator.found].into_iter().flatten().collect()
}

fn other_objects() -> Vec<Negative> {
    let mut n = From::new("envelope", "envelope");
    n.lengths();
    n.opening();
    n.set("unassigned", "kind 0", 12, &[0, 0]);
    n.set("unassigned", "kind 9", 12, &[9, 0]);
    n.set("unassigned", "kind 257", 12, &[1, 1]);
    n.set("critical-flag", "critical flag 0", 14, &[1]);
    n.set("critical-flag", "critical flag 7", 14, &[0x80]);
    n.set("range", "a body of more than 64 MiB", 64, &[1, 0, 0, 4]);
    n.set("truncated", "a body of 64 MiB that is not there", 64, &[0, 0, 0, 4]);
    n.set("trailing", "a body of no bytes", 64, &[0, 0, 0, 0]);
    n.reserved(std::slice::from_ref(&(68..80)));
    let mut journal = From::new("journal header", "journal-header");
    journal.lengths();
    journal.opening();
    journal.set("critical-flag", "critical flag 8", 13, &[1]);
    journal.set("range", "ordinal 0", 80, &[0; 8]);
    journal.set("unassigned", "class 4", 120, &[4]);
    journal.set("range", "no recipient", 121, &[0]);
    journal.set("range", "four recipients", 121, &[4]);
    journal.reserved(&[122..128, 160..176, 176..256, 256 + 2 * 1168..3760, 3856..3984, 7357..8192]);
    let mut marker = From::new("marker", "marker");
    marker.lengths();
    marker.set("magic", "another kind of object", 0, b"HFPLACE2");
    [n.found, journal.found, marker.found].into_iter().flatten().collect()
}

/// One item in a record: its path, its type and where it lies.
struct Place {
    path: String,
    of: String,
    at: Range<usize>,
}

/// Every item of a record, into the first element of each list.
fn places(schema: &Schema, of: &str, path: &str, d: &mut Decoder<'_>, found: &mut Vec<Place>) {
    let inner = |outer: &str| of.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    let good = "a sample is good";
    if let Some(of) = inner("Option<") {
        if d.datatype().expect(good) == minicbor::data::Type::Null {
            return d.skip().expect(good);
        }
        return places(schema, of, path, d, found);
    }
    let start = d.position();
    let mut end = d.clone();
    end.skip().expect(good);
    found.push(Place { path: path.into(), of: of.into(), at: start..end.position() });
    if let Some(item) = inner("Vec<") {
        if d.array().expect(good).unwrap_or(0) > 0 {
            places(schema, item, &format!("{path}[0]"), d, found);
        }
    } else if let Some(Shape::Record(fields)) = schema.get(of) {
        let count = d.array().expect(good).unwrap_or(0) as usize;
        for (name, of) in fields.iter().take(count) {
            places(schema, of, &format!("{path}.{name}"), d, found);
        }
    }
    d.set_position(end.position());
}

/// Other bytes for an item of a type, none of which is a canonical item of that type.
fn wrong_items(schema: &Schema, of: &str, item: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut wrong = vec![("another type", vec![if of == "bool" { 0x00 } else { 0xf4 }])];
    let long_form = |value: u64, major: u8| [&[major | 0x1b][..], &value.to_be_bytes()].concat();
    let one_short = |bytes: u8| [&[0x58, bytes - 1][..], &vec![7; usize::from(bytes) - 1]].concat();
    match of {
        "u8" => wrong.push(("too large", vec![0x19, 0x01, 0x00])),
        "u16" => wrong.push(("too large", vec![0x1a, 0x00, 0x01, 0x00, 0x00])),
        "u32" => wrong.push(("too large", long_form(1 << 32, 0))),
        "u64" => wrong.push(("negative", vec![0x20])),
        "i64" => wrong.push(("too large", long_form(1 << 63, 0))),
        "String" => {
            wrong.push(("not UTF-8", vec![0x61, 0xff]));
            wrong.push(("indefinite", vec![0x7f, 0x61, b'a', 0xff]));
        }
        "Blob" => wrong.push(("indefinite", vec![0x5f, 0x41, 0x00, 0xff])),
        "Hash" | "ChunkId" => wrong.push(("31 bytes", one_short(32))),
        _ if of.ends_with("Id") => wrong.push(("15 bytes", one_short(16))),
        _ if of.starts_with("Vec<") => {
            wrong.push(("2^64 - 1 items", [long_form(u64::MAX, 0x80), item[1..].to_vec()].concat()));
        }
        _ => {}
    }
    match schema.get(of) {
        Some(Shape::Enumeration(variants)) => {
            wrong.push((
                "unassigned number",
                encode(&(variants.iter().map(|(number, _)| number).max().unwrap_or(&0) + 1)),
            ));
            wrong.push(("long form", long_form(u64::from(item[0]), 0)));
        }
        Some(Shape::Record(_)) => wrong.push(("indefinite array", [&[0x9f], &item[1..], &[0xff]].concat())),
        Some(Shape::Choice(_)) => wrong.push(("unassigned number", vec![0x82, 0x05, 0x81, 0x80])),
        None => {}
    }
    wrong
}

/// A record damaged item by item, and as a whole.
fn record(schema: &Schema, of: &'static str, base: &'static str) -> From {
    let mut n = From::new(of, base);
    let bytes = n.bytes.clone();
    let end = bytes.len();
    let mut found = Vec::new();
    places(schema, of, of, &mut Decoder::new(&bytes), &mut found);
    for place in &found {
        for (why, insert) in wrong_items(schema, &place.of, &bytes[place.at.clone()]) {
            n.splice("not-canonical", &format!("{} {why}", place.path), place.at.clone(), &insert);
        }
    }
    n.splice("not-canonical", "empty", 0..end, &[]);
    n.splice("not-canonical", "last byte missing", end - 1..end, &[]);
    n.splice("not-canonical", "one byte more", end..end, &[0]);
    n.splice("not-canonical", "a field too few", 0..1, &[bytes[0] - 1]);
    n.splice("not-canonical", "a field too many that is not there", 0..1, &[bytes[0] + 1]);
    n.splice("not-canonical", "array length in long form", 0..1, &[0x98, bytes[0] & 0x1f]);
    n.splice("not-canonical", "a map", 0..1, &[0xa0 | (bytes[0] & 0x1f)]);
    n.splice("not-canonical", "a tag before it", 0..0, &[0xc1]);
    n
}

/// A record with one more field than version 1 has: all bytes are good but the new field.
fn grown(of: &'static str, base: &'static str) -> Vec<Negative> {
    let mut n = From::new(of, base);
    let insert = [&[n.bytes[0] + 1], &n.bytes[1..], &[0x00]].concat();
    let all = 0..n.bytes.len();
    n.splice("not-canonical", "a field of a later version", all, &insert);
    n.found
}

fn records() -> Vec<Negative> {
    let schema = schema::of_program();
    let mut found = Vec::new();
    for (of, base) in [
        ("LayoutRecord", "layout-record"),
        ("LayoutNames", "layout-names"),
        ("Certificate", "certificate"),
        ("Revocation", "revocation"),
        ("Fence", "fence"),
        ("Manifest", "manifest"),
        ("JanitorPart", "janitor-part"),
        ("ReaderPart", "reader-part"),
        ("WriterPart", "writer-part"),
        ("Tombstone", "tombstone"),
        ("Note", "note"),
        ("PointRecord", "point-record-tree"),
        ("ChunkList", "chunk-list"),
        ("JournalBody", "journal-body"),
        ("SealedBlob", "sealed-blob"),
        ("VaultRecord", "vault-record"),
        ("Content", "content"),
        ("Listing", "listing"),
    ] {
        found.extend(record(&schema, of, base).found);
        found.extend(grown(of, base));
    }
    let mut point = From::new("PointRecord", "point-record-stream");
    let with_null = [&[point.bytes[0] + 1], &point.bytes[1..], &[0xf6]].concat();
    let all = 0..point.bytes.len();
    point.splice("not-canonical", "a null at the end that must be left out", all, &with_null);
    found.extend(point.found);
    found.extend(numbers(&schema));
    found
}

/// Record, sample, error, path of the item, what is wrong, what stands there instead.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str, Vec<u8>);

/// Canonical records whose numbers no valid writer produces.
fn numbers(schema: &Schema) -> Vec<Negative> {
    let unsigned = |value: u64| encode(&value);
    let bytes = |value: &[u8]| encode(&vault_format::Blob(value.to_vec()));
    let cases: Vec<Case> = vec![
        ("VaultRecord", "vault-record", "range", ".data_shards", "k = 0", unsigned(0)),
        ("VaultRecord", "vault-record", "range", ".data_shards", "k = n", unsigned(9)),
        ("VaultRecord", "vault-record", "range", ".total_shards", "n = 25", unsigned(25)),
        ("VaultRecord", "vault-record", "unassigned", ".class_max", "class 5", unsigned(5)),
        ("VaultRecord", "vault-record", "suite", ".floor_suite", "suite 2", unsigned(2)),
        ("VaultRecord", "vault-record", "range", ".chunk_min", "smaller than 64", unsigned(62)),
        ("VaultRecord", "vault-record", "range", ".chunk_min", "odd", unsigned(65_535)),
        ("VaultRecord", "vault-record", "range", ".chunk_min", "as large as the average", unsigned(262_144)),
        ("VaultRecord", "vault-record", "range", ".chunk_average", "as large as the largest", unsigned(1_048_576)),
        (
            "VaultRecord",
            "vault-record",
            "range",
            ".chunk_max",
            "a chunk that fits no usual pack",
            unsigned(5 * 4_194_304),
        ),
        ("VaultRecord", "vault-record", "range", ".root_public", "no public keys", bytes(&[])),
        ("VaultRecord", "vault-record", "range", ".recipients[0].public", "a short public key", bytes(&[1; 1215])),
        ("Tombstone", "tombstone-pin", "not-canonical", ".action", "an action of a later version", unsigned(7)),
        ("Tombstone", "tombstone-pin", "not-canonical", ".action", "no action", unsigned(0)),
        ("Content", "content", "range", ".depth", "depth 4", unsigned(4)),
        ("Content", "content", "range", ".bytes", "chunks do not add up", unsigned(70_001)),
        ("Content", "content-empty", "range", ".bytes", "bytes without chunks", unsigned(1)),
        ("Listing", "listing", "range", ".entries[0].name", "empty name", bytes(b"")),
        ("Listing", "listing", "range", ".entries[0].name", "the directory itself", bytes(b".")),
        ("Listing", "listing", "range", ".entries[0].name", "the directory above", bytes(b"..")),
        ("Listing", "listing", "range", ".entries[0].name", "a path", bytes(b"a/b")),
        ("Listing", "listing", "range", ".entries[0].name", "a zero byte", bytes(b"a\0")),
        ("Listing", "listing", "range", ".entries[0].name", "names out of order", bytes(b"m")),
        ("Listing", "listing", "range", ".entries[0].name", "a name twice", bytes(b"latest")),
        ("Listing", "listing", "range", ".entries[0].content.depth", "depth 4", unsigned(4)),
    ];
    let mut found = Vec::new();
    for (of, base, error, path, why, insert) in cases {
        let mut n = From::new(of, base);
        let mut all = Vec::new();
        places(schema, of, "", &mut Decoder::new(&n.bytes), &mut all);
        let place = all.iter().find(|place| place.path == path).unwrap_or_else(|| panic!("{of} has no {path}"));
        n.splice(error, &format!("{path} {why}"), place.at.clone(), &insert);
        found.extend(n.found);
    }
    found
}

/// Every negative vector.
pub(crate) fn all() -> Vec<Negative> {
    [shard_h0(), shard_header(), shard_trailer(), sections(), other_objects(), records()]
        .into_iter()
        .flatten()
        .collect()
}
