//! FORMAT.md against the program: every table is parsed and compared, and every sample is decoded by the tables alone.
//! A changed constant, field, number or label fails here, and so does a changed document: the last test alters each
//! cell in turn and insists on being noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use vault_format::envelope::{self, RecordKind};
use vault_format::journal::{self, JournalClass};
use vault_format::sealed::SealedField;
use vault_format::shard::{self, ShardLayout, Trailer};
use vault_format::suite::{self, Class, CodeMatrix, Suite};
use vault_format::{Hash, LineageId, PackId, StreamId, WriterId, body, labels, marker, names, tree, vault};

use crate::negatives::ERRORS;
use crate::samples::{self, Sample, hex};
use crate::schema::{self, Schema, Shape};

/// One table of the document.
struct Table {
    heading: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn has(&self, columns: &[&str]) -> bool {
        self.columns.len() >= columns.len() && self.columns.iter().zip(columns).all(|(found, wanted)| found == wanted)
    }
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

fn tables(text: &str) -> Vec<Table> {
    let mut found: Vec<Table> = Vec::new();
    let (mut heading, mut open) = (String::new(), false);
    for line in text.lines() {
        if line.starts_with('#') {
            line.trim_start_matches('#').trim().trim_matches('`').clone_into(&mut heading);
        }
        match (line.starts_with('|'), open) {
            (true, false) => found.push(Table { heading: heading.clone(), columns: cells(line), rows: Vec::new() }),
            (true, true) if line.starts_with("|---") => {}
            (true, true) => found.last_mut().expect("a table is open").rows.push(cells(line)),
            (false, _) => {}
        }
        open = line.starts_with('|');
    }
    found
}

/// What both sides are compared over; made once.
struct Program {
    schema: Schema,
    samples: Vec<Sample>,
}

/// Everything in which the document and the program differ.
fn differences(text: &str, program: &Program) -> Vec<String> {
    let tables = tables(text);
    let mut found = Vec::new();
    let mut pairs = |heading: &str, wanted: Vec<(String, String)>| {
        let table = tables.iter().find(|table| table.heading == heading);
        let rows: Vec<_> =
            table.iter().flat_map(|table| &table.rows).map(|row| (row[0].clone(), row[1].clone())).collect();
        if rows != wanted {
            found.push(format!("{heading}: document {rows:?}, program {wanted:?}"));
        }
    };
    pairs("Constants", constants().into_iter().map(|(name, value)| (name.into(), value.to_string())).collect());
    pairs("Magic bytes", magics());
    pairs("Hash labels", hash_labels());
    pairs("Signature labels", signature_labels());
    pairs("Labels of sealed fields", sealed_labels());
    let suites = (0..=u16::MAX).filter_map(|number| Suite::from_number(number).ok());
    pairs("Suites", suites.map(|suite| (suite.number().to_string(), format!("{suite:?}"))).collect());
    let matrices = [(CodeMatrix::Replicate, "Replicate"), (CodeMatrix::Vandermonde, "Vandermonde")];
    pairs("Code matrices", matrices.map(|(matrix, name)| ((matrix as u8).to_string(), name.into())).to_vec());
    pairs("3 Object names", object_names());
    found.extend(class_differences(&tables));
    found.extend(error_differences(&tables));
    found.extend(schema_differences(&tables, &program.schema));
    found.extend(layout_differences(&tables, &program.samples));
    found.extend(sample_differences(&tables, &program.samples));
    for sentence in sentences() {
        if !text.split_whitespace().collect::<Vec<_>>().join(" ").contains(&sentence) {
            found.push(format!("the document does not say: {sentence}"));
        }
    }
    found
}

fn constants() -> Vec<(&'static str, u64)> {
    vec![
        ("FORMAT_VERSION", suite::FORMAT_VERSION.into()),
        ("LEAF_BYTES", suite::LEAF_BYTES as u64),
        ("TAG_BYTES", suite::TAG_BYTES as u64),
        ("SHARDS_MAX", suite::SHARDS_MAX.into()),
        ("RECIPIENTS_MAX", suite::RECIPIENTS_MAX as u64),
        ("ED25519_BYTES", suite::ED25519_BYTES as u64),
        ("ML_DSA_BYTES", suite::ML_DSA_BYTES as u64),
        ("SIGNATURES_BYTES", suite::SIGNATURES_BYTES as u64),
        ("PUBLIC_KEYS_BYTES", vault::PUBLIC_KEYS_BYTES as u64),
        ("KEM_PUBLIC_BYTES", vault::KEM_PUBLIC_BYTES as u64),
        ("KEM_ENC_BYTES", shard::KEM_ENC_BYTES as u64),
        ("WRAPPED_KEY_BYTES", shard::WRAPPED_KEY_BYTES as u64),
        ("KEY_SLOT_BYTES", shard::KEY_SLOT_BYTES as u64),
        ("HEADER_BYTES", shard::HEADER_BYTES as u64),
        ("H0_BYTES", shard::H0_BYTES as u64),
        ("TRAILER_BYTES", shard::TRAILER_BYTES as u64),
        ("TOC_ENTRY_BYTES", body::TOC_ENTRY_BYTES as u64),
        ("INDEX_ENTRY_BYTES", body::INDEX_ENTRY_BYTES as u64),
        ("SECTION_HEAD_BYTES", body::SECTION_HEAD_BYTES as u64),
        ("LOCATOR_PLAIN_BYTES", body::LOCATOR_PLAIN_BYTES as u64),
        ("LOCATOR_BYTES", body::LOCATOR_BYTES as u64),
        ("LOCATORS_BYTES", body::LOCATORS_BYTES as u64),
        ("CHUNK_BYTES_MAX", body::CHUNK_BYTES_MAX as u64),
        ("FANOUT", tree::FANOUT as u64),
        ("DEPTH_MAX", tree::DEPTH_MAX.into()),
        ("ENTRY_CHANGED_DURING_READ", tree::ENTRY_CHANGED_DURING_READ.into()),
        ("ENVELOPE_HEAD_BYTES", envelope::ENVELOPE_HEAD_BYTES as u64),
        ("ENVELOPE_BODY_BYTES_MAX", envelope::ENVELOPE_BODY_BYTES_MAX as u64),
        ("JOURNAL_H0_BYTES", journal::JOURNAL_H0_BYTES as u64),
        ("MARKER_BYTES", marker::MARKER_BYTES as u64),
        ("FLAGS_IGNORABLE", suite::FLAGS_IGNORABLE.into()),
    ]
}

/// Constants that are offsets: the heading and field at which the document has them.
fn offsets() -> Vec<(&'static str, u64, &'static str, &'static str)> {
    vec![
        ("SLOTS_AT", shard::SLOTS_AT as u64, "Shard header", "slots"),
        ("COMMITMENT_AT", shard::COMMITMENT_AT as u64, "Shard header", "commitment"),
        ("CERTIFICATE_AT", shard::CERTIFICATE_AT as u64, "Shard header", "certificate"),
        ("ROOTS_AT", shard::ROOTS_AT as u64, "Shard header", "roots"),
        ("SIGNED_BYTES", shard::SIGNED_BYTES as u64, "Shard header", "ed25519"),
        ("INDEX_AT", shard::INDEX_AT as u64, "Shard header", "index"),
        ("CHECK_AT", Trailer::CHECK_AT as u64, "Shard trailer", "check"),
        ("JOURNAL_COMMITMENT_AT", journal::JOURNAL_COMMITMENT_AT as u64, "Journal header", "commitment"),
        ("JOURNAL_SIGNED_BYTES", journal::JOURNAL_SIGNED_BYTES as u64, "Journal header", "ed25519"),
    ]
}

/// Sentences with numbers that follow from constants.
fn sentences() -> Vec<String> {
    vec![
        format!("The signatures cover bytes 0 to {} (H0 and H1) under `SHARD_LABEL`.", shard::SIGNED_BYTES - 1),
        format!("The signatures cover bytes 0 to {} under `JOURNAL_LABEL`.", journal::JOURNAL_SIGNED_BYTES - 1),
        format!("| index locator | body - {} | {} |", body::LOCATORS_BYTES, body::LOCATOR_BYTES),
        format!("| table locator | body - {} | {} |", body::LOCATOR_BYTES, body::LOCATOR_BYTES),
        format!("`header ({}) | payload | Merkle nodes | trailer ({})`", shard::HEADER_BYTES, shard::TRAILER_BYTES),
        format!("`head ({}) | body | Ed25519 signature | ML-DSA-65 signature`", envelope::ENVELOPE_HEAD_BYTES),
        format!("1 <= k <= n <= {}; k = n only as 1 of 1", suite::SHARDS_MAX),
    ]
}

fn text_of(bytes: [u8; 8]) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn magics() -> Vec<(String, String)> {
    [
        ("SHARD_MAGIC", shard::SHARD_MAGIC),
        ("TRAILER_MAGIC", shard::TRAILER_MAGIC),
        ("ENVELOPE_MAGIC", envelope::ENVELOPE_MAGIC),
        ("JOURNAL_MAGIC", journal::JOURNAL_MAGIC),
        ("MARKER_MAGIC", marker::MARKER_MAGIC),
    ]
    .map(|(name, bytes)| (name.to_owned(), text_of(bytes)))
    .to_vec()
}

fn hash_labels() -> Vec<(String, String)> {
    [
        ("ENVELOPE", labels::ENVELOPE),
        ("HEADER", labels::HEADER),
        ("H0", labels::H0),
        ("TRAILER", labels::TRAILER),
        ("TREE_ROOT", labels::TREE_ROOT),
        ("POINT_RECORD", labels::POINT_RECORD),
        ("JOURNAL_BODY", labels::JOURNAL_BODY),
        ("JOURNAL_OBJECT", labels::JOURNAL_OBJECT),
        ("STREAM", labels::STREAM),
        ("STREAM_ID", labels::STREAM_ID),
        ("FINGERPRINT", labels::FINGERPRINT),
        ("LOCATION", labels::LOCATION),
        ("RECIPIENT", labels::RECIPIENT),
    ]
    .map(|(name, label)| (name.to_owned(), label.to_owned()))
    .to_vec()
}

fn signature_labels() -> Vec<(String, String)> {
    let objects = [("SHARD_LABEL", envelope::SHARD_LABEL), ("JOURNAL_LABEL", envelope::JOURNAL_LABEL)];
    let records = RecordKind::VARIANTS
        .iter()
        .map(|(number, name)| (*name, RecordKind::from_number(*number).expect("a variant has its number").label()));
    objects.into_iter().chain(records).map(|(name, label)| (name.to_owned(), label.to_owned())).collect()
}

fn sealed_labels() -> Vec<(String, String)> {
    [SealedField::ManifestJanitor, SealedField::ManifestReader, SealedField::LayoutNames, SealedField::KeyHistory]
        .map(|field| (format!("{field:?}"), field.label().to_owned()))
        .to_vec()
}

/// The names the program gives, with the ids written as the document writes them.
fn object_names() -> Vec<(String, String)> {
    let (writer, pack, stream, lineage) =
        (WriterId([0xa1; 16]), PackId([0xb2; 16]), StreamId([0xc3; 16]), LineageId([0xd4; 16]));
    let hash = Hash([0xe5; 32]);
    let counters = [("~epoch", 7_u64), ("~sequence", 8), ("~ordinal", 9)];
    let in_words = |name: String, who: &str| {
        let ids = [
            (
                format!("{}/{pack}.07", &pack.to_string()[..2]),
                "{first two digits of pack}/{pack}.{index, two decimal digits}".to_owned(),
            ),
            (writer.to_string(), format!("{{{who}}}")),
            (stream.to_string(), "{stream}".into()),
            (lineage.to_string(), "{lineage}".into()),
            (hash.to_string(), "{envelope hash}".into()),
        ];
        let name = ids.iter().fold(name, |name, (found, word)| name.replace(found, word));
        counters
            .iter()
            .fold(name, |name, (word, value)| name.replace(&format!("{:016x}", !value), &format!("{{{word}}}")))
    };
    [
        ("shard", in_words(names::shard(writer, pack, 7), "writer")),
        ("manifest", in_words(names::manifest(writer, 7, 8), "writer")),
        ("vault record", in_words(names::vault(7), "")),
        ("layout record", in_words(names::layout(7), "")),
        ("certificate", in_words(names::certificate(hash), "")),
        ("tombstone", in_words(names::tombstone(writer, 8), "janitor")),
        ("revocation or fence", in_words(names::revocation(hash), "")),
        ("note", in_words(names::note(hash), "")),
        ("journal object", in_words(names::journal(stream, lineage, 9), "")),
        ("location marker", names::MARKER.to_owned()),
    ]
    .map(|(object, name)| (object.to_owned(), name))
    .to_vec()
}

fn class_differences(tables: &[Table]) -> Vec<String> {
    let row = |class: Class| {
        let layout = ShardLayout::new(class);
        let numbers = [class.leaves(), class.shard_bytes(), layout.nodes_count(), layout.object_bytes() as usize];
        let mut row = vec![(class as u8).to_string(), format!("{class:?}")];
        row.extend(numbers.map(|number| number.to_string()));
        row
    };
    let wanted: Vec<_> = Class::ALL.into_iter().map(row).collect();
    let rows = tables.iter().find(|table| table.heading == "Classes").map(|table| &table.rows);
    let bodies: Vec<_> = tables
        .iter()
        .filter(|table| table.heading == "JournalClass" && table.has(&["number", "name", "sealed body bytes"]))
        .flat_map(|table| &table.rows)
        .map(|row| (row[0].parse().ok(), row[2].parse().ok()))
        .collect();
    let journal: Vec<_> = JournalClass::VARIANTS
        .iter()
        .map(|(number, _)| (Some(*number), JournalClass::from_number(*number).ok().map(JournalClass::body_bytes)))
        .collect();
    let mut found = Vec::new();
    if rows != Some(&wanted) {
        found.push(format!("Classes: program {wanted:?}"));
    }
    if bodies != journal {
        found.push(format!("JournalClass: document {bodies:?}, program {journal:?}"));
    }
    found
}

fn error_differences(tables: &[Table]) -> Vec<String> {
    let table = tables.iter().find(|table| table.heading == "16 What a reader must refuse");
    let names: Vec<&str> = table.iter().flat_map(|table| &table.rows).map(|row| row[0].as_str()).collect();
    if names == ERRORS { Vec::new() } else { vec![format!("errors: document {names:?}")] }
}

/// The records and enumerations as the document has them.
fn schema_of(tables: &[Table]) -> Schema {
    let mut schema = Schema::new();
    for table in tables {
        let heading = table.heading.clone();
        let number = |row: &[String]| row[0].parse::<u64>().unwrap_or(u64::MAX);
        if table.has(&["n", "field", "type"]) {
            let dense = table.rows.iter().enumerate().all(|(at, row)| number(row) == at as u64);
            let fields = table.rows.iter().map(|row| (row[1].clone(), row[2].clone())).collect();
            schema.insert(heading, Shape::Record(if dense { fields } else { Vec::new() }));
        } else if table.has(&["number", "name", "record"]) {
            let named = |row: &Vec<String>| (number(row), row[1].clone(), row[2].clone());
            schema.insert(heading, Shape::Choice(table.rows.iter().map(named).collect()));
        } else if table.has(&["number", "name"]) && !["Suites", "Code matrices", "Classes"].contains(&&*heading) {
            let named = |row: &Vec<String>| (number(row), row[1].clone());
            schema.insert(heading, Shape::Enumeration(table.rows.iter().map(named).collect()));
        }
    }
    schema
}

fn schema_differences(tables: &[Table], program: &Schema) -> Vec<String> {
    let document = schema_of(tables);
    let names: BTreeSet<_> = document.keys().chain(program.keys()).collect();
    names
        .into_iter()
        .filter(|name| document.get(*name) != program.get(*name))
        .map(|name| format!("{name}: document {:?}, program {:?}", document.get(name), program.get(name)))
        .collect()
}

/// A row of a byte table.
struct Part<'a> {
    at: usize,
    bytes: usize,
    field: &'a str,
}

/// The byte tables; a table whose parts do not follow each other is a difference.
fn byte_tables(tables: &[Table], found: &mut Vec<String>) -> BTreeMap<String, Vec<(usize, usize, String)>> {
    let mut layouts = BTreeMap::new();
    for table in tables.iter().filter(|table| table.has(&["offset", "bytes", "field", "meaning"])) {
        let mut end = 0;
        let mut parts = Vec::new();
        for row in &table.rows {
            let (at, bytes) = (row[0].parse().unwrap_or(usize::MAX), row[1].parse().unwrap_or(0));
            if at != end || bytes == 0 {
                found.push(format!("{}: {} does not begin at {end}", table.heading, row[2]));
                return layouts;
            }
            end = at + bytes;
            parts.push((at, bytes, row[2].clone()));
        }
        layouts.insert(table.heading.clone(), parts);
    }
    layouts
}

fn layout_differences(tables: &[Table], samples: &[Sample]) -> Vec<String> {
    let mut found = Vec::new();
    let layouts = byte_tables(tables, &mut found);
    for (name, value, heading, field) in offsets() {
        let at = layouts.get(heading).and_then(|parts| parts.iter().find(|part| part.2 == field)).map(|part| part.0);
        if at != Some(value as usize) {
            found.push(format!("{name} = {value}, but {heading} has {field} at {at:?}"));
        }
    }
    let described: BTreeSet<_> = layouts.keys().map(String::as_str).collect();
    let shown: BTreeSet<_> = samples.iter().map(|sample| sample.heading).collect();
    found.extend(described.difference(&shown).map(|heading| format!("{heading}: no sample stands for this table")));
    for sample in samples {
        let Some(parts) = layouts.get(sample.heading) else { continue };
        let end = parts.last().map_or(0, |(at, bytes, _)| at + bytes);
        let open = ["Section head", "Envelope head"].contains(&sample.heading);
        if end > sample.bytes.len() || (!open && end != sample.bytes.len()) {
            found.push(format!("{}: the table has {end} bytes, the sample {}", sample.heading, sample.bytes.len()));
            continue;
        }
        let mut fields: BTreeSet<&str> =
            sample.fields.as_object().expect("fields").keys().map(String::as_str).collect();
        for (at, bytes, field) in parts {
            fields.remove(field.as_str());
            let part = Part { at: *at, bytes: *bytes, field };
            if let Some(why) = part_difference(&part, sample) {
                found.push(format!("{}: {} at {at}: {why}", sample.name, field));
            }
        }
        found.extend(fields.iter().map(|field| format!("{}: the table has no {field}", sample.heading)));
    }
    found
}

/// Reads a field where the document has it and compares it with what the sample was made from.
fn part_difference(part: &Part<'_>, sample: &Sample) -> Option<String> {
    let bytes = &sample.bytes[part.at..part.at + part.bytes];
    if part.field == "reserved" {
        return bytes.iter().any(|&byte| byte != 0).then(|| "is not zero".into());
    }
    let found = match (part.field, &sample.fields[part.field]) {
        (_, Value::Number(_)) if part.bytes <= 8 => {
            Value::from(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
        }
        ("magic" | "label", _) => Value::from(String::from_utf8_lossy(bytes)),
        _ => Value::from(hex(bytes)),
    };
    (found != sample.fields[part.field]).then(|| format!("found {found}, made from {}", sample.fields[part.field]))
}

/// Decodes each record by the document's tables alone.
fn sample_differences(tables: &[Table], samples: &[Sample]) -> Vec<String> {
    let document = schema_of(tables);
    let records =
        samples.iter().filter(|sample| !sample.heading.contains(' ') && document.contains_key(sample.heading));
    records
        .filter_map(|sample| match schema::read_all(&document, sample.heading, &sample.bytes) {
            Ok(found) if found == sample.fields => None,
            Ok(found) => Some(format!("{}: read by the document: {found}", sample.name)),
            Err(why) => Some(format!("{}: cannot be read by the document: {why}", sample.name)),
        })
        .collect()
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../FORMAT.md");
    fs::read_to_string(path).expect("vault/FORMAT.md is there")
}

fn program() -> Program {
    Program { schema: schema::of_program(), samples: samples::all() }
}

#[test]
fn the_document_is_the_program() {
    let found = differences(&document(), &program());
    assert!(found.is_empty(), "FORMAT.md and the program differ:\n{}", found.join("\n"));
}

/// What the crate's sources declare, so that nothing can be added beside the tables of this test.
#[test]
fn nothing_declared_in_the_sources_is_left_out() {
    let (mut declared, document) = (BTreeSet::new(), document());
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("sources") {
        let text = fs::read_to_string(file.expect("sources can be listed").path()).expect("sources are text");
        for label in text.split('"').skip(1).step_by(2).filter(|literal| literal.starts_with("holdfast ")) {
            assert!(document.contains(&format!("`{label}`")), "FORMAT.md does not know the label {label:?}");
        }
        let mut in_declaration = false;
        for line in text.lines().map(str::trim) {
            if let Some((name, of)) = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": ")) {
                let kinds = ["usize =", "u8 =", "u16 =", "u32 =", "[u8; 8] = *b", "&str = \"holdfast"];
                if kinds.iter().any(|kind| of.starts_with(kind)) && !of.contains('$') {
                    declared.insert(name.to_owned());
                }
            }
            in_declaration |= line.starts_with("record! {") || line.starts_with("numbered! {");
            if in_declaration && line.ends_with('{') && !line.contains('!') && !line.starts_with('/') {
                declared.insert(line.trim_end_matches('{').trim().to_owned());
                in_declaration = false;
            }
        }
    }
    let mut known: BTreeSet<String> = schema::of_program().into_keys().collect();
    known.extend(constants().into_iter().map(|(name, _)| name.to_owned()));
    known.extend(offsets().into_iter().map(|(name, ..)| name.to_owned()));
    known.extend(magics().into_iter().chain(hash_labels()).chain(signature_labels()).map(|(name, _)| name));
    let missing: Vec<_> = declared.difference(&known).collect();
    assert!(missing.is_empty(), "declared, but not compared with FORMAT.md: {missing:?}");
    assert!(declared.len() > 100, "the sources were not read: {}", declared.len());
}

/// Columns whose cells are words for people.
const PROSE: [&str; 15] = [
    "meaning",
    "over",
    "covers",
    "holds",
    "algorithms",
    "may sign",
    "signed by",
    "opens",
    "when",
    "CBOR",
    "change",
    "since",
    "object name",
    "sealed under",
    "part",
];

/// Headings whose tables describe what other tables already fix.
const OVERVIEWS: [&str; 4] = ["1 Conventions", "4 Shard object", "7 Pack body", "17 Version history"];

#[test]
fn any_changed_cell_of_the_document_is_noticed() {
    let (text, program) = (document(), program());
    let lines: Vec<&str> = text.lines().collect();
    let (mut heading, mut columns, mut tried) = ("", Vec::new(), 0);
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
        if !line.starts_with('|') || line.starts_with("|---") || OVERVIEWS.contains(&heading) {
            continue;
        }
        if !lines[at - 1].starts_with('|') {
            columns = cells(line);
            continue;
        }
        for (column, cell) in cells(line).iter().enumerate() {
            if PROSE.contains(&columns[column].as_str()) {
                continue;
            }
            let changed = cell.parse::<u64>().map_or_else(|_| format!("{cell}x"), |number| (number + 1).to_string());
            let mut row = cells(line);
            row[column] = changed;
            let mut altered = lines.clone();
            let row = format!("| {} |", row.join(" | "));
            altered[at] = &row;
            let noticed = differences(&altered.join("\n"), &program);
            assert!(!noticed.is_empty(), "a changed cell passes: {heading}: {row}");
            tried += 1;
        }
    }
    assert!(tried > 900, "only {tried} cells were tried");
}
