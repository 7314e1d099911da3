//! Any bytes: never a panic, never an allocation beyond the input, and whatever is accepted is the one encoding.

use std::time::{Duration, Instant};

use minicbor::Encoder;
use proptest::prelude::*;
use vault_format::body::{
    ChunkKind, Codec, IndexEntry, Locator, Toc, TocEntry, decode_index, encode_index, toc_plain_bytes,
};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::journal::{JournalClass, JournalHeader};
use vault_format::marker::Marker;
use vault_format::shard::{H0, Header, KeySlot, Signatures, Trailer};
use vault_format::suite::{Class, Coding, Suite};
use vault_format::tree::{ChunkRef, Content, FANOUT};
use vault_format::{ChunkId, Hash, PackId, RecipientId, VaultId, WriterId, encode};

use crate::decoders::{self, Again, CHECKED, FIXED, RECORDS};
use crate::samples;
use crate::schema::{self, Shape, Tape};

/// A decoder either refuses or gives back exactly what it was given.
fn refuses_or_repeats(name: &str, again: Again, bytes: &[u8]) {
    if let Ok(found) = again(bytes) {
        assert!(found == bytes, "{name} accepted bytes that are not its own encoding: {}", samples::hex(bytes));
    }
}

/// The other values a byte is given: all of them for short samples and when `HOLDFAST_ALL_MUTATIONS` is set, each bit
/// flipped otherwise.
fn other_values(byte: u8, short: bool) -> Vec<u8> {
    if short { (1..=255).map(|by| byte ^ by).collect() } else { (0..8).map(|bit| byte ^ 1 << bit).collect() }
}

#[test]
fn every_single_byte_mutation_is_refused_or_is_another_value() {
    let all_values = std::env::var_os("HOLDFAST_ALL_MUTATIONS").is_some();
    let mut count = 0_u64;
    for sample in samples::all() {
        let Some(decoder) = sample.decoder else { continue };
        let again = decoders::named(decoder);
        let mut bytes = sample.bytes.clone();
        for at in 0..bytes.len() {
            let kept = bytes[at];
            for value in other_values(kept, all_values || sample.bytes.len() <= 1024) {
                bytes[at] = value;
                refuses_or_repeats(&sample.name, again, &bytes);
                count += 1;
            }
            bytes[at] = kept;
        }
        for end in 0..bytes.len() {
            refuses_or_repeats(&sample.name, again, &bytes[..end]);
        }
    }
    assert!(count > 200_000, "only {count} mutations were tried");
}

/// Bytes of address space this process ever had.
#[cfg(target_os = "linux")]
fn address_space_bytes_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about the process");
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).expect("Linux counts address space");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("VmPeak is a number") * 1024
}

/// Each list of each record claims 2^40 items on a few bytes of input, each table 2^32 - 1 entries: nothing is reserved
/// for them. Reserving even one such list would cost tens of terabytes of address space.
#[test]
#[cfg(target_os = "linux")]
fn a_declared_count_allocates_nothing() {
    let (before, started) = (address_space_bytes_max(), Instant::now());
    let program = schema::of_program();
    for (name, again) in RECORDS.iter().chain(CHECKED) {
        let Shape::Record(fields) = &program[*name] else { unreachable!("decoders of records") };
        for (at, (field, of)) in fields.iter().enumerate() {
            let mut e = Encoder::new(Vec::new());
            e.array(fields.len() as u64).expect("memory");
            let mut bytes = e.into_writer();
            for (_, of) in &fields[..at] {
                bytes.extend(schema::write(&program, of, &mut Tape(&[])).unwrap_or_else(|| vec![0xf6]));
            }
            let lists = of.contains("Vec<");
            let major: u8 = if lists { 0x80 } else { 0x40 };
            bytes.push(major | 0x1b);
            bytes.extend((1_u64 << 40).to_be_bytes());
            let found = again(&bytes);
            assert_eq!(found.map_err(|e| e.name()), Err("not-canonical"), "{name}.{field}");
        }
    }
    for (name, again) in FIXED {
        let mut bytes = samples::all().into_iter().find(|sample| sample.decoder == Some(*name)).expect("sampled").bytes;
        bytes.truncate(96);
        for at in 0..bytes.len().saturating_sub(4) {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].fill(0xff);
            refuses_or_repeats(name, *again, &bytes);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(20), "declared counts took time");
    let grown = address_space_bytes_max() - before;
    assert!(grown < 4 << 30, "declared counts took {grown} bytes of address space");
}

#[test]
fn a_list_longer_than_the_fanout_is_refused() {
    let chunk = ChunkRef { id: ChunkId([1; 32]), bytes: 2 };
    let full = Content { bytes: 2 * FANOUT as u64, depth: 0, chunks: vec![chunk.clone(); FANOUT] };
    assert_eq!(full.check(), Ok(()));
    let over = Content { bytes: full.bytes + 2, depth: 0, chunks: vec![chunk; FANOUT + 1] };
    assert_eq!(over.check().map_err(|e| e.name()), Err("range"));
}

fn h0(t: &mut Tape<'_>) -> H0 {
    let k = 1 + t.below(23) as u8;
    let n = if k == 1 { 1 + t.below(24) as u8 } else { k + 1 + t.below(usize::from(24 - k)) as u8 };
    H0 {
        suite: Suite::One,
        flags: u32::from_le_bytes(t.array()) << 16,
        vault: VaultId(t.array()),
        writer: WriterId(t.array()),
        epoch: t.u64(),
        sequence: t.u64(),
        pack: PackId(t.array()),
        coding: Coding::new(k, n).expect("1 <= k < n <= 24"),
        class: Class::ALL[t.below(Class::ALL.len())],
        recipients: (0..=t.below(3)).map(|_| RecipientId(t.array())).collect(),
    }
}

fn slots(t: &mut Tape<'_>, count: usize) -> Vec<KeySlot> {
    (0..count).map(|_| KeySlot { enc: t.array(), wrapped: t.array() }).collect()
}

fn signatures(t: &mut Tape<'_>) -> Signatures {
    Signatures { ed25519: t.array(), ml_dsa: t.array() }
}

fn header(t: &mut Tape<'_>) -> Header {
    let h0 = h0(t);
    let n = h0.coding.total_shards();
    Header {
        slots: slots(t, h0.recipients.len()),
        commitment: t.array(),
        certificate: Hash(t.array()),
        roots: (0..n).map(|_| Hash(t.array())).collect(),
        signatures: signatures(t),
        index: t.below(usize::from(n)) as u8,
        h0,
    }
}

fn journal(t: &mut Tape<'_>) -> JournalHeader {
    let recipients: Vec<_> = (0..=t.below(3)).map(|_| RecipientId(t.array())).collect();
    JournalHeader {
        suite: Suite::One,
        flags: u32::from_le_bytes(t.array()) << 16,
        vault: VaultId(t.array()),
        writer: WriterId(t.array()),
        stream: vault_format::StreamId(t.array()),
        lineage: vault_format::LineageId(t.array()),
        ordinal: t.u64().max(1),
        previous: Hash(t.array()),
        class: JournalClass::from_number(t.below(4) as u8).expect("0 to 3 are assigned"),
        slots: slots(t, recipients.len()),
        recipients,
        commitment: t.array(),
        certificate: Hash(t.array()),
        body: Hash(t.array()),
        signatures: signatures(t),
    }
}

fn toc(t: &mut Tape<'_>) -> Toc {
    let entry = |t: &mut Tape<'_>| {
        let plain_bytes = (t.u64() % (64 << 20)) as u32;
        let codec = Codec::from_number(t.below(2) as u8).expect("0 and 1 are assigned");
        let coded_bytes = if codec == Codec::Raw { plain_bytes } else { t.u64() as u32 };
        let kind = ChunkKind::from_number(1 + t.below(4) as u8).expect("1 to 4 are assigned");
        TocEntry { id: ChunkId(t.array()), coded_bytes, plain_bytes, kind, codec }
    };
    Toc { entries: (0..t.below(6)).map(|_| entry(t)).collect() }
}

fn tape() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..700)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: ProptestConfig::default().cases * 8,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_record_reads_back(bytes in tape(), pick in any::<prop::sample::Index>()) {
        let program = schema::of_program();
        let records: Vec<_> = RECORDS.iter().chain(CHECKED).collect();
        let (name, again) = records[pick.index(records.len())];
        let record = schema::write(&program, name, &mut Tape(&bytes)).expect("a record is not null");
        let found = again(&record);
        if let Ok(found) = &found {
            prop_assert_eq!(found, &record);
        } else {
            // Only the numbers may be wrong, and only where numbers are checked.
            let refused = found.map_err(|e| e.name());
            prop_assert!(CHECKED.iter().any(|(checked, _)| checked == name), "{}: {:?}", name, refused);
            prop_assert!(matches!(refused, Err("range" | "unassigned" | "suite")), "{}: {:?}", name, refused);
        }
    }

    #[test]
    fn any_point_record_and_manifest_are_equal_after_reading(bytes in tape()) {
        let program = schema::of_program();
        let record = schema::write(&program, "PointRecord", &mut Tape(&bytes)).expect("not null");
        let point: vault_format::point::PointRecord = vault_format::decode("point record", &record).expect("canonical");
        prop_assert_eq!(&vault_format::decode::<vault_format::point::PointRecord>("", &encode(&point)), &Ok(point));
        let record = schema::write(&program, "Manifest", &mut Tape(&bytes)).expect("not null");
        let manifest: vault_format::manifest::Manifest = vault_format::decode("manifest", &record).expect("canonical");
        prop_assert_eq!(&vault_format::decode::<vault_format::manifest::Manifest>("", &encode(&manifest)), &Ok(manifest));
    }

    #[test]
    fn any_header_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        let t = &mut Tape(&bytes);
        let h0 = h0(t);
        prop_assert_eq!(H0::decode(&h0.encode()), Ok(h0));
        let header = header(t);
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        let journal = journal(t);
        prop_assert_eq!(JournalHeader::decode(&journal.encode()), Ok(journal));
    }

    #[test]
    fn any_small_object_reads_back(bytes in tape()) {
        let t = &mut Tape(&bytes);
        let hash = |bytes: &[u8]| Hash(*blake3::hash(bytes).as_bytes());
        let trailer = Trailer { object_bytes: t.u64(), header_hash: Hash(t.array()), index: t.u8() };
        prop_assert_eq!(Trailer::decode(&trailer.encode(hash), hash), Ok(trailer));
        let toc = toc(t);
        let room = toc_plain_bytes(toc.entries.len()) + t.below(100);
        prop_assert_eq!(Toc::decode(&toc.encode(room)), Ok(toc.clone()));
        let index: Vec<_> = toc.entries.iter()
            .map(|entry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind }).collect();
        prop_assert_eq!(decode_index(&encode_index(&index)), Ok(index));
        let body_bytes = 1 << 20;
        let offset = t.u64() % (body_bytes - 96 - 16);
        let locator = Locator { offset, bytes: 16 + t.u64() % (body_bytes - 96 - 16 - offset + 1), count: t.u64() as u32 };
        prop_assert_eq!(Locator::decode(&locator.encode(), body_bytes as usize), Ok(locator));
        let marker = Marker { vault: VaultId(t.array()), location: vault_format::LocationId(t.array()) };
        prop_assert_eq!(Marker::decode(&marker.encode()), Ok(marker));
        let envelope = Envelope {
            suite: Suite::One,
            kind: RecordKind::from_number(1 + t.below(8) as u8).expect("1 to 8 are assigned"),
            flags: u16::from(t.u8()) << 8,
            vault: VaultId(t.array()),
            signer: Hash(t.array()),
            body: t.bytes(200),
            signatures: signatures(t),
        };
        prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }

    #[test]
    fn any_bytes_are_refused_or_repeated(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (name, again) in decoders::all() {
            refuses_or_repeats(name, *again, &bytes);
        }
        let _ = Locator::decode(&bytes, bytes.len());
    }
}
