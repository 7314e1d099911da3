//! Samples of the fixed layouts: shard, body, envelope, journal object, marker.

use serde_json::{Value, json};
use vault_format::body::{
    self, ChunkKind, Codec, IndexEntry, Locator, NonceDomain, SectionPart, Toc, TocEntry, section_associated_data,
};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::journal::{JournalClass, JournalHeader};
use vault_format::marker::Marker;
use vault_format::shard::{H0, Header, KeySlot, ShardLayout, Signatures, Trailer};
use vault_format::suite::{Class, Coding, Suite};
use vault_format::{ChunkId, LineageId, LocationId, PackId, RecipientId, StreamId, VaultId, WriterId, encode};

use crate::decoders::trailer_hash;
use crate::records::fence;
use crate::samples::{Sample, hash, hex, marked};

/// All of them.
pub(crate) fn all() -> Vec<Sample> {
    [shard_samples(), body_samples(), object_samples()].into_iter().flatten().collect()
}

fn signatures() -> Signatures {
    Signatures { ed25519: marked(0xed), ml_dsa: marked(0x5d) }
}

fn slots(count: u8) -> Vec<KeySlot> {
    (0..count).map(|at| KeySlot { enc: marked(0x60 + at), wrapped: marked(0x70 + at) }).collect()
}

fn recipients(count: u8) -> Vec<RecipientId> {
    (0..count).map(|at| RecipientId(marked(0x40 + at))).collect()
}

fn h0(k: u8, n: u8, class: Class, recipient_count: u8, flags: u32) -> H0 {
    H0 {
        suite: Suite::One,
        flags,
        vault: VaultId(marked(0x10)),
        writer: WriterId(marked(0x20)),
        epoch: 0x0102_0304_0506_0708,
        sequence: 0x1112_1314_1516_1718,
        pack: PackId(marked(0x30)),
        coding: Coding::new(k, n).expect("a coding of the tests"),
        class,
        recipients: recipients(recipient_count),
    }
}

fn h0_fields(h0: &H0) -> Value {
    let ids: Vec<u8> = h0.recipients.iter().flat_map(|id| id.0).chain([0; 48]).take(48).collect();
    json!({
        "magic": "HFSHARD1", "version": 1, "suite": 1, "flags": h0.flags, "vault": h0.vault.to_string(),
        "writer": h0.writer.to_string(), "epoch": h0.epoch, "sequence": h0.sequence, "pack": h0.pack.to_string(),
        "k": h0.coding.data_shards(), "n": h0.coding.total_shards(), "matrix": h0.coding.matrix() as u8,
        "class": h0.class as u8, "leaf_bytes": 65536, "leaves": h0.class.leaves(), "recipients": h0.recipients.len(),
        "recipient_ids": hex(&ids),
    })
}

fn slots_hex(slots: &[KeySlot]) -> String {
    let mut all: Vec<u8> = slots.iter().flat_map(|slot| slot.enc.iter().chain(&slot.wrapped).copied()).collect();
    all.resize(3 * 1168, 0);
    hex(&all)
}

fn header(h0: H0, index: u8) -> Header {
    let roots = (0..h0.coding.total_shards()).map(|at| hash(0x90 + at)).collect();
    let slots = slots(h0.recipients.len() as u8);
    let (commitment, certificate) = (marked(0x80), hash(0x81));
    Header { h0, slots, commitment, certificate, roots, signatures: signatures(), index }
}

fn header_fields(header: &Header) -> Value {
    let roots: Vec<u8> = header.roots.iter().flat_map(|root| root.0).chain([0; 768]).take(768).collect();
    json!({
        "h0": hex(&header.h0.encode()), "slots": slots_hex(&header.slots), "commitment": hex(&header.commitment),
        "certificate": header.certificate.to_string(), "roots": hex(&roots),
        "ed25519": hex(&header.signatures.ed25519), "ml_dsa": hex(&header.signatures.ml_dsa), "index": header.index,
    })
}

fn fixed(name: &str, decoder: Option<&'static str>, heading: &'static str, bytes: &[u8], fields: Value) -> Sample {
    Sample { name: name.into(), decoder, heading, bytes: bytes.to_vec(), fields }
}

fn shard_samples() -> Vec<Sample> {
    let usual = header(h0(5, 9, Class::Leaves64, 2, 0), 8);
    let wide = header(h0(7, 15, Class::Leaves192, 3, 0x8001_0000), 0);
    let copies = h0(1, 3, Class::Leaves1, 1, 0);
    let slot = &usual.slots[0];
    let trailer =
        Trailer { object_bytes: ShardLayout::new(Class::Leaves64).object_bytes(), header_hash: hash(0xa0), index: 8 };
    let trailer_bytes = trailer.encode(trailer_hash);
    vec![
        fixed("shard-h0", Some("shard H0"), "Shard H0", &usual.h0.encode(), h0_fields(&usual.h0)),
        fixed("shard-h0-copies", Some("shard H0"), "Shard H0", &copies.encode(), h0_fields(&copies)),
        fixed("shard-header", Some("shard header"), "Shard header", &usual.encode(), header_fields(&usual)),
        fixed("shard-header-7-of-15", Some("shard header"), "Shard header", &wide.encode(), header_fields(&wide)),
        fixed(
            "key-slot",
            None,
            "Key slot",
            &[&slot.enc[..], &slot.wrapped].concat(),
            json!({ "enc": hex(&slot.enc), "wrapped": hex(&slot.wrapped) }),
        ),
        fixed(
            "shard-trailer",
            Some("shard trailer"),
            "Shard trailer",
            &trailer_bytes,
            json!({
                "magic": "HFTRAIL1", "object_bytes": trailer.object_bytes,
                "header_hash": trailer.header_hash.to_string(), "index": trailer.index,
                "check": hex(&trailer_bytes[56..]),
            }),
        ),
    ]
}

fn body_samples() -> Vec<Sample> {
    let entry = |mark, coded_bytes, plain_bytes, kind, codec| TocEntry {
        id: ChunkId(marked(mark)),
        coded_bytes,
        plain_bytes,
        kind,
        codec,
    };
    let toc = Toc {
        entries: vec![
            entry(0xb0, 0x0001_0203, 0x0001_0203, ChunkKind::Data, Codec::Raw),
            entry(0xb1, 0x0000_1011, 0x0002_2021, ChunkKind::Tree, Codec::Zstd),
            entry(0xb2, 700, 900, ChunkKind::PointRecord, Codec::Zstd),
        ],
    };
    let toc_bytes = toc.encode(body::toc_plain_bytes(3) + 20);
    let index: Vec<IndexEntry> = toc
        .entries
        .iter()
        .map(|entry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind })
        .collect();
    let index_bytes = body::encode_index(&index);
    let first = &toc.entries[0];
    let locator = Locator { offset: 0x0003_0102, bytes: 0x0000_1314, count: 0x2122 };
    let pack = PackId(marked(0x30));
    let entry_fields = json!({
        "id": first.id.to_string(), "coded_bytes": first.coded_bytes, "plain_bytes": first.plain_bytes,
        "kind": 1, "codec": 0,
    });
    let index_fields = json!({ "id": first.id.to_string(), "plain_bytes": first.plain_bytes, "kind": 1 });
    vec![
        fixed("table-of-contents", Some("table of contents"), "Section head", &toc_bytes, json!({ "count": 3 })),
        fixed("table-entry", None, "Table entry", &toc_bytes[8..52], entry_fields),
        fixed("index-section", Some("index section"), "Section head", &index_bytes, json!({ "count": 3 })),
        fixed("index-entry", None, "Index entry", &index_bytes[8..48], index_fields),
        fixed(
            "locator",
            Some("locator"),
            "Locator",
            &locator.encode(),
            json!({ "offset": locator.offset, "bytes": locator.bytes, "count": locator.count }),
        ),
        fixed(
            "nonce",
            None,
            "Nonce",
            &body::nonce(NonceDomain::Locator, 0x0102_0304_0506_0708),
            json!({ "domain": 2, "counter": 0x0102_0304_0506_0708_u64 }),
        ),
        fixed(
            "frame-associated-data",
            None,
            "Associated data of a frame",
            &toc.entries[1].associated_data(pack, 0x0a0b_0c0d),
            json!({
                "label": "holdfast frame 1", "pack": pack.to_string(), "frame": 0x0a0b_0c0d,
                "id": toc.entries[1].id.to_string(), "plain_bytes": toc.entries[1].plain_bytes, "kind": 2, "codec": 1,
            }),
        ),
        fixed(
            "section-associated-data",
            None,
            "Associated data of a section",
            &section_associated_data(pack, SectionPart::TocLocator),
            json!({ "label": "holdfast sect. 1", "pack": pack.to_string(), "part": 4 }),
        ),
    ]
}

fn object_samples() -> Vec<Sample> {
    let envelope = Envelope {
        suite: Suite::One,
        kind: RecordKind::Fence,
        flags: 0x0100,
        vault: VaultId(marked(0x10)),
        signer: hash(0x82),
        body: encode(&fence()),
        signatures: signatures(),
    };
    let journal = JournalHeader {
        suite: Suite::One,
        flags: 0,
        vault: VaultId(marked(0x10)),
        writer: WriterId(marked(0x20)),
        stream: StreamId(marked(0x21)),
        lineage: LineageId(marked(0x22)),
        ordinal: 0x0102_0304_0506_0708,
        previous: hash(0x83),
        class: JournalClass::Kib256,
        recipients: recipients(2),
        slots: slots(2),
        commitment: marked(0x80),
        certificate: hash(0x81),
        body: hash(0x84),
        signatures: signatures(),
    };
    let journal_bytes = journal.encode();
    let marker = Marker { vault: VaultId(marked(0x10)), location: LocationId(marked(0x50)) };
    vec![
        fixed(
            "envelope",
            Some("envelope"),
            "Envelope head",
            &envelope.encode(),
            json!({
                "magic": "HFRECRD1", "version": 1, "suite": 1, "kind": 7, "flags": 0x0100,
                "vault": envelope.vault.to_string(), "signer": envelope.signer.to_string(),
                "body_bytes": envelope.body.len(),
            }),
        ),
        fixed(
            "journal-h0",
            None,
            "Journal H0",
            &journal.h0_bytes(),
            json!({
                "magic": "HFJRNAL1", "version": 1, "suite": 1, "flags": 0, "vault": journal.vault.to_string(),
                "writer": journal.writer.to_string(), "stream": journal.stream.to_string(),
                "lineage": journal.lineage.to_string(), "ordinal": journal.ordinal,
                "previous": journal.previous.to_string(), "class": 2, "recipients": 2,
                "recipient_ids": hex(&journal_bytes[128..176]),
            }),
        ),
        fixed(
            "journal-header",
            Some("journal header"),
            "Journal header",
            &journal_bytes,
            json!({
                "h0": hex(&journal.h0_bytes()), "slots": slots_hex(&journal.slots),
                "commitment": hex(&journal.commitment), "certificate": journal.certificate.to_string(),
                "body": journal.body.to_string(), "ed25519": hex(&journal.signatures.ed25519),
                "ml_dsa": hex(&journal.signatures.ml_dsa),
            }),
        ),
        fixed(
            "marker",
            Some("marker"),
            "Marker",
            &marker.encode(),
            json!({
                "magic": "HFPLACE1", "vault": marker.vault.to_string(), "location": marker.location.to_string(),
            }),
        ),
    ]
}
