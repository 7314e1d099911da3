//! Every decoder of the crate behind one signature: decode, check, encode again.

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
use vault_format::{FormatError, Hash, decode, encode, labels};

/// Decodes, runs the record's own checks, and encodes again.
pub(crate) type Again = fn(&[u8]) -> Result<Vec<u8>, FormatError>;

/// Body bytes that the locator vectors stand in: 5 shards of class 0.
pub(crate) const LOCATOR_BODY_BYTES: usize = 5 * 65536;

/// The check of a trailer.
pub(crate) fn trailer_hash(bytes: &[u8]) -> Hash {
    Hash(blake3::derive_key(labels::TRAILER, bytes))
}

macro_rules! record_decoders {
    ($($of:ident),*) => { &[$( (stringify!($of), |bytes| decode::<$of>(stringify!($of), bytes).map(|found| encode(&found))) ),*] };
}

/// Every decoder of fixed bytes, by the name the vectors use.
pub(crate) const FIXED: &[(&str, Again)] = &[
    ("shard H0", |bytes| H0::decode(bytes).map(|found| found.encode().to_vec())),
    ("shard header", |bytes| Header::decode(bytes).map(|found| found.encode())),
    ("shard trailer", |bytes| Trailer::decode(bytes, trailer_hash).map(|found| found.encode(trailer_hash).to_vec())),
    ("table of contents", |bytes| Toc::decode(bytes).map(|found| found.encode(bytes.len()))),
    ("index section", |bytes| body::decode_index(bytes).map(|found| body::encode_index(&found))),
    ("locator", |bytes| Locator::decode(bytes, LOCATOR_BODY_BYTES).map(|found| found.encode().to_vec())),
    ("envelope", |bytes| Envelope::decode(bytes).map(|found| found.encode())),
    ("journal header", |bytes| JournalHeader::decode(bytes).map(|found| found.encode())),
    ("marker", |bytes| Marker::decode(bytes).map(|found| found.encode())),
];

/// Every record that stands on its own in a body, a sealed part or a chunk.
pub(crate) const RECORDS: &[(&str, Again)] = record_decoders![
    LayoutRecord,
    LayoutNames,
    Certificate,
    Revocation,
    Fence,
    Manifest,
    JanitorPart,
    ReaderPart,
    WriterPart,
    Tombstone,
    Note,
    PointRecord,
    ChunkList,
    JournalBody,
    SealedBlob
];

/// Records with checks beyond their encoding.
pub(crate) const CHECKED: &[(&str, Again)] = &[
    ("VaultRecord", |bytes| {
        let found: VaultRecord = decode("vault record", bytes)?;
        found.check()?;
        Ok(encode(&found))
    }),
    ("Content", |bytes| {
        let found: Content = decode("content", bytes)?;
        found.check()?;
        Ok(encode(&found))
    }),
    ("Listing", |bytes| {
        let found: Listing = decode("directory listing", bytes)?;
        found.check()?;
        Ok(encode(&found))
    }),
];

/// All decoders.
pub(crate) fn all() -> impl Iterator<Item = &'static (&'static str, Again)> {
    FIXED.iter().chain(RECORDS).chain(CHECKED)
}

/// The decoder of a name.
pub(crate) fn named(name: &str) -> Again {
    all().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no decoder is called {name}")).1
}
