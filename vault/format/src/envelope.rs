//! The envelope around every signed record that is replicated in full.
//!
//! `head (80 bytes) | body | Ed25519 signature | ML-DSA-65 signature`. Both
//! signatures cover head and body under the label of the record's kind, so a
//! body signed as one kind never verifies as another. An envelope is immutable;
//! its hash over all bytes is how other records name it.

use crate::FormatError;
use crate::bytes::{Put, Reader};
use crate::cbor::numbered;
use crate::ids::{Hash, VaultId};
use crate::shard::Signatures;
use crate::suite::{FORMAT_VERSION, SIGNATURES_BYTES, Suite, check_flags};

/// First bytes of an envelope.
pub const ENVELOPE_MAGIC: [u8; 8] = *b"HFRECRD1";
/// Bytes before the body.
pub const ENVELOPE_HEAD_BYTES: usize = 80;
/// Most bytes of a body.
pub const ENVELOPE_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

numbered! {
    /// What a signed record is. The number is in the head and in the label.
    RecordKind {
        /// The root's vault record.
        1 Vault,
        /// The operator's layout record.
        2 Layout,
        /// A certificate.
        3 Certificate,
        /// A writer's manifest or heartbeat.
        4 Manifest,
        /// A janitor's tombstone.
        5 Tombstone,
        /// An operator's revocation.
        6 Revocation,
        /// An operator's or janitor's fence.
        7 Fence,
        /// A note.
        8 Note,
    }
}

impl RecordKind {
    /// The signature context of this kind.
    pub fn label(self) -> &'static str {
        match self {
            Self::Vault => "holdfast record 1 vault",
            Self::Layout => "holdfast record 1 layout",
            Self::Certificate => "holdfast record 1 certificate",
            Self::Manifest => "holdfast record 1 manifest",
            Self::Tombstone => "holdfast record 1 tombstone",
            Self::Revocation => "holdfast record 1 revocation",
            Self::Fence => "holdfast record 1 fence",
            Self::Note => "holdfast record 1 note",
        }
    }
}

/// The signature context of a shard header.
pub const SHARD_LABEL: &str = "holdfast shard header 1";
/// The signature context of a journal object.
pub const JOURNAL_LABEL: &str = "holdfast journal object 1";

/// A signed record, its body not yet interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Algorithms.
    pub suite: Suite,
    /// What the body is.
    pub kind: RecordKind,
    /// Flags; none is assigned.
    pub flags: u16,
    /// The vault.
    pub vault: VaultId,
    /// Fingerprint of the signer's public keys.
    pub signer: Hash,
    /// The record in canonical CBOR.
    pub body: Vec<u8>,
    /// Over head and body.
    pub signatures: Signatures,
}

/// The head and body: what is signed.
pub fn envelope_message(kind: RecordKind, vault: VaultId, signer: Hash, body: &[u8]) -> Vec<u8> {
    message(Suite::One, kind, 0, vault, signer, body)
}

fn message(suite: Suite, kind: RecordKind, flags: u16, vault: VaultId, signer: Hash, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE_HEAD_BYTES + body.len() + SIGNATURES_BYTES);
    out.put(&ENVELOPE_MAGIC);
    out.put(&FORMAT_VERSION.to_le_bytes());
    out.put(&suite.number().to_le_bytes());
    out.put(&u16::from(kind as u8).to_le_bytes());
    out.put(&flags.to_le_bytes());
    out.put(&vault.0);
    out.put(&signer.0);
    out.put(&(body.len() as u32).to_le_bytes());
    out.put_zero(12);
    out.put(body);
    out
}

impl Envelope {
    /// Head and body: what the signatures cover.
    pub fn message(&self) -> Vec<u8> {
        message(self.suite, self.kind, self.flags, self.vault, self.signer, &self.body)
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.message();
        out.put(&self.signatures.ed25519);
        out.put(&self.signatures.ml_dsa);
        out
    }

    /// Reads an envelope. Signatures are not verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = "record";
        let mut r = Reader::new(what, bytes);
        r.magic(ENVELOPE_MAGIC)?;
        let version = r.u16()?;
        if version != FORMAT_VERSION {
            return Err(FormatError::Version { what, version });
        }
        let suite = Suite::from_number(r.u16()?)?;
        let number = r.u16()?;
        let unassigned = FormatError::Unassigned { what: "record kind", value: number.into() };
        let kind = RecordKind::from_number(u8::try_from(number).map_err(|_| unassigned)?)?;
        let flags = r.u16()?;
        check_flags(what, u32::from(flags & 0x00ff) | u32::from(flags >> 8) << 16)?;
        let vault = VaultId(r.array()?);
        let signer = Hash(r.array()?);
        let body_bytes = r.u32()? as usize;
        if body_bytes > ENVELOPE_BODY_BYTES_MAX {
            return Err(FormatError::Range { what, field: "body_bytes", value: body_bytes as u64 });
        }
        r.reserved(12)?;
        let body = r.take(body_bytes)?.to_vec();
        let signatures = Signatures { ed25519: r.array()?, ml_dsa: r.array()? };
        r.end()?;
        Ok(Self { suite, kind, flags, vault, signer, body, signatures })
    }
}
