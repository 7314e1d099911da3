//! The stored format: every decoder of `vault/format`, and the names of objects.

use vault_format::body::{self, Locator, Toc};
use vault_format::certificate::{Certificate, Fence, Revocation};
use vault_format::envelope::Envelope;
use vault_format::journal::{JournalBody, JournalHeader};
use vault_format::layout::{LayoutNames, LayoutRecord};
use vault_format::manifest::{JanitorPart, Manifest, ReaderPart, WriterPart};
use vault_format::marker::Marker;
use vault_format::point::PointRecord;
use vault_format::sealed::SealedBlob;
use vault_format::shard::{H0, Header, Trailer};
use vault_format::tombstone::{Note, Tombstone};
use vault_format::tree::{ChunkList, Content, Listing};
use vault_format::vault::VaultRecord;
use vault_format::{Hash, decode, encode, labels, names};

use crate::{Target, same, target};

const CHEAP: u32 = 100_000;

macro_rules! record {
    ($name:literal, $of:ty) => {
        target(
            $name,
            |bytes| {
                if let Ok(found) = decode::<$of>($name, bytes) {
                    same(bytes, &encode(&found));
                }
            },
            CHEAP,
        )
    };
    ($name:literal, $of:ty, checked) => {
        target(
            $name,
            |bytes| {
                if let Ok(found) = decode::<$of>($name, bytes) {
                    // Its own rules are a decision, not a panic.
                    let _ = found.check();
                    same(bytes, &encode(&found));
                }
            },
            CHEAP,
        )
    };
}

macro_rules! fixed {
    ($name:literal, $of:ty) => {
        target(
            $name,
            |bytes| {
                if let Ok(found) = <$of>::decode(bytes) {
                    same(bytes, &found.encode()[..]);
                }
            },
            CHEAP,
        )
    };
}

/// The decoders of vault/format.
pub(crate) const TARGETS: &[Target] = &[
    fixed!("shard-h0", H0),
    fixed!("shard-header", Header),
    fixed!("envelope", Envelope),
    fixed!("journal-header", JournalHeader),
    fixed!("marker", Marker),
    target("shard-trailer", trailer, CHEAP),
    target("table-of-contents", table_of_contents, CHEAP),
    target("index-section", index_section, CHEAP),
    target("locator", locator, CHEAP),
    target("object-names", object_names, CHEAP),
    record!("layout-record", LayoutRecord),
    record!("layout-names", LayoutNames),
    record!("certificate", Certificate),
    record!("revocation", Revocation),
    record!("fence", Fence),
    record!("manifest", Manifest),
    record!("janitor-part", JanitorPart),
    record!("reader-part", ReaderPart),
    record!("writer-part", WriterPart),
    record!("tombstone", Tombstone),
    record!("note", Note),
    record!("point-record", PointRecord),
    record!("chunk-list", ChunkList),
    record!("journal-body", JournalBody),
    record!("sealed-blob", SealedBlob),
    record!("vault-record", VaultRecord, checked),
    record!("content", Content, checked),
    record!("listing", Listing, checked),
];

/// With the right check value, and with one that a mutation cannot miss.
fn trailer(bytes: &[u8]) {
    let hash = |bytes: &[u8]| Hash(blake3::derive_key(labels::TRAILER, bytes));
    if let Ok(found) = Trailer::decode(bytes, hash) {
        same(bytes, &found.encode(hash));
    }
    let mut fixed = bytes.to_vec();
    if fixed.len() >= Trailer::CHECK_AT + 8 {
        let check = hash(&fixed[..Trailer::CHECK_AT]);
        fixed[Trailer::CHECK_AT..Trailer::CHECK_AT + 8].copy_from_slice(&check.0[..8]);
        if let Ok(found) = Trailer::decode(&fixed, hash) {
            same(&fixed, &found.encode(hash));
        }
    }
}

fn table_of_contents(bytes: &[u8]) {
    if let Ok(found) = Toc::decode(bytes) {
        same(bytes, &found.encode(bytes.len()));
        let frames: u64 = found.offsets().map(|(_, entry)| entry.frame_bytes() as u64).sum();
        assert_eq!(frames, found.frames_bytes());
    }
}

fn index_section(bytes: &[u8]) {
    if let Ok(found) = body::decode_index(bytes) {
        same(bytes, &body::encode_index(&found));
    }
}

fn locator(bytes: &[u8]) {
    for body_bytes in [0, 1 << 16, 5 << 16, 60 << 20] {
        if let Ok(found) = Locator::decode(bytes, body_bytes) {
            same(bytes, &found.encode());
            assert!(found.offset + found.bytes <= body_bytes as u64);
        }
    }
}

fn object_names(bytes: &[u8]) {
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    if let Some((writer, pack, index)) = names::parse_shard(name) {
        same(bytes, names::shard(writer, pack, index).as_bytes());
    }
    if let Some((writer, epoch, sequence)) = names::parse_manifest(name) {
        same(bytes, names::manifest(writer, epoch, sequence).as_bytes());
    }
}
