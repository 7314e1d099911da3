//! Whole objects of the golden vault: shards, packs, sealed parts. What a signature,
//! a Merkle root or an AEAD tag covers is accepted only unaltered.

use std::sync::OnceLock;

use bytes::Bytes;
use keys::certificate::{Authority, CertifiedKey};
use keys::files::ReadKey;
use vault_codec::{BodyPart, FrameDecoder, ParsedHeader, VerifiedHeader, open_index, unlock_with};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::manifest::Manifest;
use vault_format::sealed::SealedField;
use vault_format::shard::HEADER_BYTES;
use vault_format::{Blob, Hash};

use crate::seeds::{golden, golden_key, golden_shards};
use crate::{Target, target};

/// Objects and what opens them.
pub(crate) const TARGETS: &[Target] = &[
    target("shard-object", shard_object, 1_500),
    target("signed-record", signed_record, 400),
    target("certificate-chain", certificate_chain, 400),
    target("pack-body", pack_body, 1_500),
    target("writers-index", writers_index, 2_000),
    target("sealed-part", sealed_part, 1_000),
    target("journal-object", journal_object, 4_000),
];

struct Vault {
    authority: Authority,
    operator: CertifiedKey,
    writer: CertifiedKey,
    chain: Vec<Blob>,
    reader: ReadKey,
    headers: Vec<VerifiedHeader>,
    shards: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
}

fn vault() -> &'static Vault {
    static VAULT: OnceLock<Vault> = OnceLock::new();
    VAULT.get_or_init(|| {
        let reader: ReadKey = golden_key("read.key");
        let authority = Authority::new(reader.vault, reader.root.clone());
        let certificates = golden("p2/certificates");
        let operator = certificates.iter().find_map(|bytes| authority.operator(bytes).ok()).unwrap();
        let holder = |bytes: &Vec<u8>| Some((authority.holder(&operator, bytes).ok()?, bytes.clone()));
        let (writer, last) = certificates.iter().find_map(holder).unwrap();
        let first = certificates.iter().find(|bytes| authority.operator(bytes).is_ok()).unwrap();
        let chain = vec![Blob(first.clone()), Blob(last)];
        let shards = golden_shards();
        let mut headers = Vec::new();
        for shard in &shards {
            headers.push(vault_codec::verify_header(shard, |_| Some(&writer)).unwrap());
        }
        let records =
            ["p2/certificates", "p2/layout", "p2/manifests", "p2/vault"].into_iter().flat_map(golden).collect();
        Vault { authority, operator, writer, chain, reader, headers, shards, records }
    })
}

/// An object under a header that is already trusted is one of the originals, or refused.
fn shard_object(bytes: &[u8]) {
    let vault = vault();
    for header in &vault.headers {
        if header.check_object(bytes).is_ok() {
            assert!(vault.shards.iter().any(|shard| shard == bytes), "an altered shard was accepted");
        }
    }
    // And one that brings its own header.
    if vault_codec::verify_shard_object(bytes, |_| Some(&vault.writer)).is_ok() {
        assert!(vault.shards.iter().any(|shard| shard == bytes), "a forged shard was accepted");
    }
    if let Ok(header) = ParsedHeader::parse(bytes) {
        let index = header.header().index;
        assert!(bytes[..HEADER_BYTES] == header.encoded_for(index)[..], "a header was encoded otherwise");
    }
}

fn signed_record(bytes: &[u8]) {
    let vault = vault();
    let accepted = vault.authority.vault_record(bytes).is_ok()
        || vault.authority.operator(bytes).is_ok()
        || vault.authority.holder(&vault.operator, bytes).is_ok()
        || vault.operator.verify(bytes, RecordKind::Layout).is_ok()
        || vault.writer.verify(bytes, RecordKind::Manifest).is_ok();
    if accepted {
        assert!(vault.records.iter().any(|record| record == bytes), "a forged record was accepted");
    }
}

/// Two certificates, the first as long as its first two bytes say.
fn certificate_chain(bytes: &[u8]) {
    let vault = vault();
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (first, second) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let chain = [Blob(first.to_vec()), Blob(second.to_vec())];
    if vault.authority.chain(&chain).is_ok() {
        assert!(chain[..] == vault.chain[..], "a forged chain was accepted");
    }
}

/// What [`certificate_chain`] starts from.
pub(crate) fn chain_seed() -> Vec<u8> {
    let [first, second] = &vault().chain[..] else { return Vec::new() };
    [&(first.0.len() as u16).to_le_bytes()[..], &first.0, &second.0].concat()
}

/// A body as decoded from k data shards: these here are of k = 1 tiers or altered, so
/// every part must be refused by its tag, never by a panic.
fn pack_body(bytes: &[u8]) {
    let vault = vault();
    let Ok(header) = ParsedHeader::parse(bytes) else { return };
    let Ok(key) = unlock_with(&header, &vault.reader) else { return };
    let part = BodyPart { offset: 0, bytes };
    let _ = key.toc_range(part);
    let _ = key.toc(part);
    let Ok(pack) = key.open(Bytes::copy_from_slice(bytes)) else { return };
    let mut decoder = FrameDecoder::new().unwrap();
    let keys = vault.reader.generations[0].dedup.keys(vault.writer.scope().unwrap());
    for frame in 0..pack.toc().entries.len() as u32 {
        let _ = pack.chunk(&mut decoder, frame, &keys.id_key);
    }
}

fn writers_index(bytes: &[u8]) {
    let writer: &keys::files::WriterKey = {
        static WRITER: OnceLock<keys::files::WriterKey> = OnceLock::new();
        WRITER.get_or_init(|| golden_key("writer.key"))
    };
    for header in vault().headers.iter().take(1) {
        let part = BodyPart { offset: 0, bytes };
        let _ = vault_codec::index_range(header, &writer.index, part);
        let _ = open_index(header, &writer.index, part);
    }
    let _ = writer.index.open_own(writer.vault, &Blob(bytes.to_vec()));
}

/// A manifest's sealed parts, as a reader opens them.
fn sealed_part(bytes: &[u8]) {
    let vault = vault();
    let Ok(envelope) = Envelope::decode(bytes) else { return };
    let Ok(manifest) = vault_format::decode::<Manifest>("manifest", &envelope.body) else { return };
    let originals: Vec<&Vec<u8>> = vault.records.iter().collect();
    for (field, blob) in
        [(SealedField::ManifestReader, &manifest.reader), (SealedField::ManifestJanitor, &manifest.janitor)]
    {
        let (Some(blob), Some(keys)) = (blob, vault.reader.generations.first()) else { continue };
        let key = if field == SealedField::ManifestReader { &keys.reader } else { &keys.janitor };
        if keys::wrap::open_field(field, vault.reader.vault, key, blob).is_ok() {
            let within =
                |record: &&Vec<u8>| record.windows(blob.ciphertext.0.len().max(1)).any(|at| at == blob.ciphertext.0);
            assert!(originals.iter().any(within), "an altered ciphertext was opened");
        }
    }
}

fn journal_object(bytes: &[u8]) {
    let refused = vault_codec::journal::verify(bytes, |_: &Hash| Some(&vault().writer)).is_err();
    assert!(refused, "a journal object that nobody signed was accepted");
}
