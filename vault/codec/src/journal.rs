//! Sealing and opening a journal object: a short run of a stream, one ciphertext,
//! signed, chained to the object before it.
//!
//! What always holds: the signature covers the hash of the sealed body, the
//! chain and the key slots; the key commitment is compared before the body is
//! opened; the padding is zero. The writer cannot open what it sealed.

use keys::hash::labelled;
use keys::wrap::{unwrap, wrap};
use keys::{CertifiedKey, Commitment, DataKey, LocalSecret, RecipientPrivate, RecipientPublic, Secret, SigningKey};
use rand_core::CryptoRng;
use vault_format::body::{NonceDomain, nonce};
use vault_format::envelope::JOURNAL_LABEL;
use vault_format::journal::{JournalBody, JournalClass, JournalHeader};
use vault_format::shard::{HEADER_BYTES, Signatures};
use vault_format::suite::{ED25519_BYTES, ML_DSA_BYTES, RECIPIENTS_MAX, Suite, TAG_BYTES};
use vault_format::{Hash, LineageId, RecipientId, StreamId, VaultId, WriterId, labels};

use crate::error::{CodecError, Result};

/// Bytes of the length before the plain body.
const LENGTH_BYTES: usize = 8;

/// Who seals what, where in the chain.
#[derive(Clone, Copy)]
pub struct JournalContext<'a> {
    /// The vault.
    pub vault: VaultId,
    /// The writer.
    pub writer: WriterId,
    /// The stream, by its keyed name.
    pub stream: StreamId,
    /// Its lineage.
    pub lineage: LineageId,
    /// Dense from 1.
    pub ordinal: u64,
    /// Hash of the object before; zero for the first.
    pub previous: Hash,
    /// Who shall be able to open it: 1 to 3.
    pub recipients: &'a [RecipientPublic],
    /// The writer's local secret.
    pub local: &'a LocalSecret,
    /// The writer's signing key.
    pub signer: &'a SigningKey,
    /// Hash of the writer's certificate envelope.
    pub certificate: Hash,
}

/// Hash of a whole object: how the next one and the manifests name it.
pub fn hash(object: &[u8]) -> Hash {
    labelled(labels::JOURNAL_OBJECT, object)
}

/// Seals a run of a stream into one object.
pub fn seal<R>(context: &JournalContext<'_>, body: &JournalBody, rng: &mut R) -> Result<Vec<u8>>
where
    R: CryptoRng + ?Sized,
{
    if context.recipients.is_empty() || context.recipients.len() > RECIPIENTS_MAX {
        return Err(CodecError::refused("a journal object has 1 to 3 recipients"));
    }
    let plain = vault_format::encode(body);
    let class = JournalClass::for_plain(plain.len()).ok_or_else(|| {
        CodecError::refused(format!("a journal run of {} bytes does not fit an object: split it", plain.len()))
    })?;
    let mut padded = (plain.len() as u64).to_le_bytes().to_vec();
    padded.extend_from_slice(&plain);
    padded.resize(class.body_bytes() - TAG_BYTES, 0);
    let mut hasher = context.local.content_hasher();
    hasher.update(&padded);
    let data_key = DataKey::derive(&Secret::random(rng), context.local, hasher);
    let mut header = JournalHeader {
        suite: Suite::One,
        flags: 0,
        vault: context.vault,
        writer: context.writer,
        stream: context.stream,
        lineage: context.lineage,
        ordinal: context.ordinal,
        previous: context.previous,
        class,
        recipients: context.recipients.iter().map(RecipientPublic::id).collect(),
        slots: Vec::new(),
        commitment: [0; 32],
        certificate: context.certificate,
        body: Hash([0; 32]),
        signatures: Signatures { ed25519: [0; ED25519_BYTES], ml_dsa: [0; ML_DSA_BYTES] },
    };
    let h0 = header.h0_bytes();
    let h0_hash = labelled(labels::H0, &h0);
    let (key, commitment) = data_key.pack_keys(&h0_hash);
    let mut sealed = padded.clone();
    key.seal_in_place(nonce(NonceDomain::Frame, 0), &h0, &mut sealed);
    let mut opened = sealed.clone();
    let faithful =
        key.open_in_place(nonce(NonceDomain::Frame, 0), &h0, &mut opened).is_ok_and(|count| opened[..count] == padded);
    header.slots = context.recipients.iter().map(|to| wrap(&data_key, to, &h0_hash, rng)).collect();
    header.commitment = commitment.0;
    header.body = labelled(labels::JOURNAL_BODY, &sealed);
    let message = header.signed_bytes();
    header.signatures = context.signer.sign(JOURNAL_LABEL, &message);
    if !faithful || context.signer.verifying_key().verify(JOURNAL_LABEL, &message, &header.signatures).is_err() {
        let why = "it does not open, or its signature does not verify: this machine's memory or processor fails";
        return Err(CodecError::corrupt("the object just sealed", format!("stream {}", context.stream), why));
    }
    let mut object = header.encode();
    object.extend_from_slice(&sealed);
    Ok(object)
}

/// An object whose signatures and body hash hold.
#[derive(Clone, Debug)]
pub struct VerifiedJournal {
    header: JournalHeader,
    sealed: Vec<u8>,
    hash: Hash,
}

/// Reads and verifies an object.
pub fn verify<'k>(object: &[u8], lookup: impl FnOnce(&Hash) -> Option<&'k CertifiedKey>) -> Result<VerifiedJournal> {
    let what = "a journal object";
    let (head, sealed) = object.split_at(object.len().min(HEADER_BYTES));
    let header = JournalHeader::decode(head).map_err(|error| CodecError::format(what, "a stream", error))?;
    let at = format!("stream {}, ordinal {}", header.stream, header.ordinal);
    if sealed.len() != header.class.body_bytes() || labelled(labels::JOURNAL_BODY, sealed) != header.body {
        return Err(CodecError::corrupt(what, at, "its body is not the signed one"));
    }
    let certificate = header.certificate;
    let Some(key) = lookup(&certificate) else {
        return Err(CodecError::UnknownCertificate { at, certificate });
    };
    if key.certificate_hash() != certificate {
        return Err(CodecError::refused("the certificate given is not the one the journal object names"));
    }
    key.verify_journal(&header).map_err(|error| CodecError::corrupt(what, at, error))?;
    Ok(VerifiedJournal { header, sealed: sealed.to_vec(), hash: hash(object) })
}

impl VerifiedJournal {
    /// Its signed header.
    pub fn header(&self) -> &JournalHeader {
        &self.header
    }

    /// Its hash, which the next object names.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Opens the body with a read key.
    pub fn open(&self, key: &RecipientPrivate) -> Result<JournalBody> {
        let what = "a journal object";
        let at = || format!("stream {}, ordinal {}", self.header.stream, self.header.ordinal);
        let id = key.id();
        let Some(slot) = self.header.recipients.iter().position(|recipient| *recipient == id) else {
            let recipients: Vec<String> = self.header.recipients.iter().map(RecipientId::short).collect();
            return Err(CodecError::WrongKey { at: at(), recipients: recipients.join(", ") });
        };
        let h0 = self.header.h0_bytes();
        let h0_hash = labelled(labels::H0, &h0);
        let data_key = unwrap(&self.header.slots[slot], key, &h0_hash)
            .map_err(|error| CodecError::corrupt("a key slot", at(), error))?;
        let (key, commitment) = data_key.pack_keys(&h0_hash);
        if commitment != Commitment(self.header.commitment) {
            return Err(CodecError::corrupt("the key commitment", at(), "it is not that of the data key in the slot"));
        }
        let mut plain = self.sealed.clone();
        let count = key
            .open_in_place(nonce(NonceDomain::Frame, 0), &h0, &mut plain)
            .map_err(|error| CodecError::corrupt(what, at(), error))?;
        let body = unpad(&plain[..count]).ok_or_else(|| CodecError::corrupt(what, at(), "its padding is not zero"))?;
        vault_format::decode("journal body", body).map_err(|error| CodecError::format(what, at(), error))
    }
}

/// The body behind its length, if nothing but zeros follows.
fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.split_first_chunk::<LENGTH_BYTES>()?;
    let (body, padding) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    padding.iter().all(|&byte| byte == 0).then_some(body)
}
