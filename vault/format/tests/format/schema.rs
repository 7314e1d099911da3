//! The shapes of CBOR records as data: from the program's own tables, or from FORMAT.md. With a shape a record is read
//! into JSON, and any record is written from a tape of bytes, both without the derived decoders under test.

use std::collections::BTreeMap;

use minicbor::{Decoder, Encoder};
use serde_json::{Map, Value, json};

use crate::samples::hex;

/// One named type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Fields in order: name and type.
    Record(Vec<(String, String)>),
    /// Numbers and names.
    Enumeration(Vec<(u64, String)>),
    /// Numbers, names and the record each carries.
    Choice(Vec<(u64, String, String)>),
}

/// All named types.
pub(crate) type Schema = BTreeMap<String, Shape>;

macro_rules! shapes {
    (records: $($record:path),*; enumerations: $($enumeration:path),*;) => {
        /// What the program declares.
        pub(crate) fn of_program() -> Schema {
            let mut schema = Schema::new();
            $( schema.insert(last(stringify!($record)), fields({ use $record as T; T::FIELDS })); )*
            $( schema.insert(last(stringify!($enumeration)), variants({ use $enumeration as T; T::VARIANTS })); )*
            schema.insert("PointRoot".into(), point_root());
            schema
        }
    };
}

shapes! {
    records:
        vault_format::certificate::Certificate, vault_format::certificate::Fence, vault_format::certificate::Revocation,
        vault_format::journal::JournalBody,
        vault_format::layout::LayoutLocation, vault_format::layout::LayoutNames, vault_format::layout::LayoutRecord,
        vault_format::layout::LayoutWriter, vault_format::layout::LocationName,
        vault_format::manifest::JanitorPart, vault_format::manifest::JournalTail, vault_format::manifest::Manifest,
        vault_format::manifest::PackRef, vault_format::manifest::ReaderPart, vault_format::manifest::WriterPart,
        vault_format::point::KernelRoot, vault_format::point::PointRecord, vault_format::point::PostgresRoot,
        vault_format::point::Statistics, vault_format::point::StreamRoot, vault_format::point::TreeRoot,
        vault_format::sealed::SealedBlob,
        vault_format::tombstone::JournalRange, vault_format::tombstone::ManifestRef, vault_format::tombstone::Note,
        vault_format::tombstone::Tombstone,
        vault_format::tree::ChunkList, vault_format::tree::ChunkRef, vault_format::tree::Content,
        vault_format::tree::Entry, vault_format::tree::Hole, vault_format::tree::Listing, vault_format::tree::Xattr,
        vault_format::vault::CardSet, vault_format::vault::CrossSignature, vault_format::vault::KemKey,
        vault_format::vault::KeyHistoryEntry, vault_format::vault::VaultRecord;
    enumerations:
        vault_format::body::ChunkKind, vault_format::body::Codec, vault_format::body::NonceDomain,
        vault_format::body::SectionPart, vault_format::certificate::Role, vault_format::envelope::RecordKind,
        vault_format::journal::JournalClass, vault_format::layout::Attachment, vault_format::layout::LocationGrade,
        vault_format::layout::LocationState, vault_format::manifest::ManifestKind, vault_format::point::SourceKind,
        vault_format::tombstone::NoteKind, vault_format::tombstone::TombstoneAction, vault_format::tree::EntryKind,
        vault_format::vault::KemRole;
}

/// The one enumeration that carries records; its kinds are those of the sources.
fn point_root() -> Shape {
    let records = ["KernelRoot", "TreeRoot", "PostgresRoot", "StreamRoot"];
    let named = |(number, record): (u64, &str)| (number, record.trim_end_matches("Root").into(), record.into());
    Shape::Choice((1..).zip(records).map(named).collect())
}

fn last(path: &str) -> String {
    path.rsplit("::").next().unwrap_or(path).trim().to_owned()
}

fn fields(table: &[(u8, &str, &str)]) -> Shape {
    assert!(table.iter().enumerate().all(|(at, field)| at == usize::from(field.0)), "positions are dense: {table:?}");
    Shape::Record(table.iter().map(|(_, name, of)| ((*name).to_owned(), of.replace(' ', ""))).collect())
}

fn variants(table: &[(u8, &str)]) -> Shape {
    Shape::Enumeration(table.iter().map(|(number, name)| (u64::from(*number), (*name).to_owned())).collect())
}

fn inner<'a>(of: &'a str, outer: &str) -> Option<&'a str> {
    of.strip_prefix(outer)?.strip_prefix('<')?.strip_suffix('>')
}

fn id_bytes(of: &str) -> Option<usize> {
    match of {
        "Hash" | "ChunkId" => Some(32),
        "VaultId" | "WriterId" | "PackId" | "PointId" | "LocationId" | "RecipientId" | "StreamId" | "LineageId"
        | "ScopeId" => Some(16),
        _ => None,
    }
}

fn unsigned_max(of: &str) -> Option<u64> {
    match of {
        "u8" => Some(u8::MAX.into()),
        "u16" => Some(u16::MAX.into()),
        "u32" => Some(u32::MAX.into()),
        "u64" => Some(u64::MAX),
        _ => None,
    }
}

/// Reads one value of a type; what does not fit is an error in words.
pub(crate) fn read(schema: &Schema, of: &str, d: &mut Decoder<'_>) -> Result<Value, String> {
    let wrong = |e: minicbor::decode::Error| format!("{of}: {e}");
    if let Some(of) = inner(of, "Option") {
        if d.datatype().map_err(wrong)? == minicbor::data::Type::Null {
            d.null().map_err(wrong)?;
            return Ok(Value::Null);
        }
        return read(schema, of, d);
    }
    if let Some(item) = inner(of, "Vec") {
        let count = d.array().map_err(wrong)?.ok_or("indefinite array")?;
        return (0..count).map(|_| read(schema, item, d)).collect();
    }
    if let Some(bytes) = id_bytes(of) {
        let found = d.bytes().map_err(wrong)?;
        return if found.len() == bytes { Ok(json!(hex(found))) } else { Err(format!("{of} of {}", found.len())) };
    }
    if let Some(max) = unsigned_max(of) {
        let found = d.u64().map_err(wrong)?;
        return if found <= max { Ok(json!(found)) } else { Err(format!("{of}: {found}")) };
    }
    match of {
        "i64" => return Ok(json!(d.i64().map_err(wrong)?)),
        "bool" => return Ok(json!(d.bool().map_err(wrong)?)),
        "String" => return Ok(json!(d.str().map_err(wrong)?)),
        "Blob" => return Ok(json!(hex(d.bytes().map_err(wrong)?))),
        _ => {}
    }
    match schema.get(of).ok_or_else(|| format!("type {of} is not described"))? {
        Shape::Enumeration(variants) => {
            let found = d.u64().map_err(wrong)?;
            let known = variants.iter().any(|(number, _)| *number == found);
            if known { Ok(json!(found)) } else { Err(format!("{of}: {found}")) }
        }
        Shape::Choice(variants) => {
            if d.array().map_err(wrong)? != Some(2) {
                return Err(format!("{of} is not an array of two"));
            }
            let found = d.u64().map_err(wrong)?;
            let (_, name, record) =
                variants.iter().find(|(number, ..)| *number == found).ok_or_else(|| format!("{of}: {found}"))?;
            if d.array().map_err(wrong)? != Some(1) {
                return Err(format!("{of}::{name} is not in an array of one"));
            }
            Ok(json!({ name: read(schema, record, d)? }))
        }
        Shape::Record(fields) => {
            let count = d.array().map_err(wrong)?.ok_or("indefinite array")?;
            let mut out = Map::new();
            for (at, (name, of)) in (0..).zip(fields) {
                let missing = at >= count && inner(of, "Option").is_some();
                out.insert(name.clone(), if missing { Value::Null } else { read(schema, of, d)? });
            }
            if count > fields.len() as u64 { Err(format!("{of} has {count} fields")) } else { Ok(Value::Object(out)) }
        }
    }
}

/// Reads a whole record: nothing may follow it.
pub(crate) fn read_all(schema: &Schema, of: &str, bytes: &[u8]) -> Result<Value, String> {
    let mut d = Decoder::new(bytes);
    let value = read(schema, of, &mut d)?;
    if d.position() == bytes.len() { Ok(value) } else { Err(format!("{of}: bytes left over")) }
}

/// A source of choices: bytes, then zeros for ever. Shrinking the bytes shrinks what is made of them.
pub(crate) struct Tape<'a>(pub(crate) &'a [u8]);

impl Tape<'_> {
    pub(crate) fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number of any magnitude.
    pub(crate) fn u64(&mut self) -> u64 {
        let width = self.u8() % 65;
        let number = (0..8).fold(0, |number, _| number << 8 | u64::from(self.u8()));
        number.checked_shr(u32::from(width)).unwrap_or(0)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.u8()) % limit
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u8())
    }

    pub(crate) fn bytes(&mut self, limit: usize) -> Vec<u8> {
        (0..self.below(limit)).map(|_| self.u8()).collect()
    }
}

/// Writes the canonical bytes of some value of a type; `None` is a null.
pub(crate) fn write(schema: &Schema, of: &str, tape: &mut Tape<'_>) -> Option<Vec<u8>> {
    let mut e = Encoder::new(Vec::new());
    if let Some(of) = inner(of, "Option") {
        return if tape.u8().is_multiple_of(2) { None } else { write(schema, of, tape) };
    }
    let fine = "writing into memory does not fail";
    if let Some(item) = inner(of, "Vec") {
        let count = tape.below(4);
        e.array(count as u64).expect(fine);
        let mut out = e.into_writer();
        for _ in 0..count {
            out.extend(write(schema, item, tape).unwrap_or_else(|| vec![0xf6]));
        }
        return Some(out);
    }
    if let Some(max) = unsigned_max(of) {
        e.u64(tape.u64() & max).expect(fine);
        return Some(e.into_writer());
    }
    match (of, id_bytes(of)) {
        (_, Some(32)) => drop(e.bytes(&tape.array::<32>()).expect(fine)),
        (_, Some(_)) => drop(e.bytes(&tape.array::<16>()).expect(fine)),
        ("i64", _) => drop(e.i64(tape.u64().cast_signed()).expect(fine)),
        ("bool", _) => drop(e.bool(tape.u8() % 2 == 1).expect(fine)),
        ("String", _) => {
            let text: String = tape.bytes(12).into_iter().map(char::from).collect();
            e.str(&text).expect(fine);
        }
        ("Blob", _) => drop(e.bytes(&tape.bytes(40)).expect(fine)),
        _ => return Some(write_named(schema, of, tape)),
    }
    Some(e.into_writer())
}

fn write_named(schema: &Schema, of: &str, tape: &mut Tape<'_>) -> Vec<u8> {
    let fine = "writing into memory does not fail";
    let mut e = Encoder::new(Vec::new());
    match &schema[of] {
        Shape::Enumeration(variants) => drop(e.u64(variants[tape.below(variants.len())].0).expect(fine)),
        Shape::Choice(variants) => {
            let (number, _, record) = &variants[tape.below(variants.len())];
            e.array(2).expect(fine).u64(*number).expect(fine).array(1).expect(fine);
            let mut out = e.into_writer();
            out.extend(write_named(schema, record, tape));
            return out;
        }
        Shape::Record(fields) => {
            let mut items: Vec<_> = fields.iter().map(|(_, of)| write(schema, of, tape)).collect();
            items.truncate(items.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
            e.array(items.len() as u64).expect(fine);
            let mut out = e.into_writer();
            for item in items {
                out.extend(item.unwrap_or_else(|| vec![0xf6]));
            }
            return out;
        }
    }
    e.into_writer()
}
