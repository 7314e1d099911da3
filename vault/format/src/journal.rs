//! The journal object: a short run of a stream, sealed and replicated at once.
//!
//! `header (8 KiB) | sealed body`, the whole padded to one of four sizes. Its
//! ordinals are dense within a lineage and each names the hash of the one
//! before. The ranges of the stream it covers stand in the sealed body.

use crate::FormatError;
use crate::bytes::{Put, Reader};
use crate::cbor::{numbered, record};
use crate::ids::{Blob, Hash, LineageId, RecipientId, StreamId, VaultId, WriterId};
use crate::shard::{HEADER_BYTES, KEY_SLOT_BYTES, KeySlot, Signatures};
use crate::suite::{FORMAT_VERSION, RECIPIENTS_MAX, SIGNATURES_BYTES, Suite, TAG_BYTES, check_flags};

/// First bytes of a journal object.
pub const JOURNAL_MAGIC: [u8; 8] = *b"HFJRNAL1";
/// Bytes before the key slots.
pub const JOURNAL_H0_BYTES: usize = 256;
/// Offset of the key commitment.
pub const JOURNAL_COMMITMENT_AT: usize = JOURNAL_H0_BYTES + RECIPIENTS_MAX * KEY_SLOT_BYTES;
/// Bytes that the signatures cover, with 128 reserved bytes.
pub const JOURNAL_SIGNED_BYTES: usize = JOURNAL_COMMITMENT_AT + 3 * 32 + 128;

numbered! {
    /// Sealed body bytes of a journal object.
    JournalClass {
        /// 16 KiB.
        0 Kib16,
        /// 64 KiB.
        1 Kib64,
        /// 256 KiB.
        2 Kib256,
        /// 1 MiB.
        3 Mib1,
    }
}

impl JournalClass {
    /// Bytes of the sealed body, tag included.
    pub fn body_bytes(self) -> usize {
        match self {
            Self::Kib16 => 16 << 10,
            Self::Kib64 => 64 << 10,
            Self::Kib256 => 256 << 10,
            Self::Mib1 => 1 << 20,
        }
    }

    /// The smallest class for so many plain bytes; `None` if they must be split.
    pub fn for_plain(bytes: usize) -> Option<Self> {
        [Self::Kib16, Self::Kib64, Self::Kib256, Self::Mib1]
            .into_iter()
            .find(|class| bytes + 8 + TAG_BYTES <= class.body_bytes())
    }
}

/// The signed header of a journal object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// Algorithms.
    pub suite: Suite,
    /// Flags; none is assigned.
    pub flags: u32,
    /// The vault.
    pub vault: VaultId,
    /// The writer.
    pub writer: WriterId,
    /// The stream, by its keyed name.
    pub stream: StreamId,
    /// Its lineage.
    pub lineage: LineageId,
    /// Dense from 1 within the lineage.
    pub ordinal: u64,
    /// Hash of the previous object; zero for the first.
    pub previous: Hash,
    /// Size of the body.
    pub class: JournalClass,
    /// Who can unwrap the data key.
    pub recipients: Vec<RecipientId>,
    /// Their copies of it.
    pub slots: Vec<KeySlot>,
    /// Key commitment.
    pub commitment: [u8; 32],
    /// Hash of the writer's certificate.
    pub certificate: Hash,
    /// Hash of the sealed body.
    pub body: Hash,
    /// Over everything before them.
    pub signatures: Signatures,
}

impl JournalHeader {
    /// The first 256 bytes, which keys are bound to.
    pub fn h0_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put(&JOURNAL_MAGIC);
        out.put(&FORMAT_VERSION.to_le_bytes());
        out.put(&self.suite.number().to_le_bytes());
        out.put(&self.flags.to_le_bytes());
        out.put(&self.vault.0);
        out.put(&self.writer.0);
        out.put(&self.stream.0);
        out.put(&self.lineage.0);
        out.put(&self.ordinal.to_le_bytes());
        out.put(&self.previous.0);
        out.put(&[self.class as u8, self.recipients.len() as u8, 0, 0, 0, 0, 0, 0]);
        for recipient in &self.recipients {
            out.put(&recipient.0);
        }
        out.resize(JOURNAL_H0_BYTES, 0);
        out
    }

    /// What the signatures cover.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = self.h0_bytes();
        for slot in &self.slots {
            out.put(&slot.enc);
            out.put(&slot.wrapped);
        }
        out.resize(JOURNAL_COMMITMENT_AT, 0);
        out.put(&self.commitment);
        out.put(&self.certificate.0);
        out.put(&self.body.0);
        out.resize(JOURNAL_SIGNED_BYTES, 0);
        out
    }

    /// The 8 KiB as they are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.signed_bytes();
        out.put(&self.signatures.ed25519);
        out.put(&self.signatures.ml_dsa);
        out.resize(HEADER_BYTES, 0);
        out
    }

    /// Reads and checks 8 KiB. Signatures are not verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = "journal object";
        let mut r = Reader::new(what, bytes);
        r.magic(JOURNAL_MAGIC)?;
        let version = r.u16()?;
        if version != FORMAT_VERSION {
            return Err(FormatError::Version { what, version });
        }
        let suite = Suite::from_number(r.u16()?)?;
        let flags = r.u32()?;
        check_flags(what, flags)?;
        let vault = VaultId(r.array()?);
        let writer = WriterId(r.array()?);
        let stream = StreamId(r.array()?);
        let lineage = LineageId(r.array()?);
        let ordinal = r.u64()?;
        if ordinal == 0 {
            return Err(FormatError::Range { what, field: "ordinal", value: ordinal });
        }
        let previous = Hash(r.array()?);
        let class = JournalClass::from_number(r.u8()?)?;
        let count = usize::from(r.u8()?);
        if count == 0 || count > RECIPIENTS_MAX {
            return Err(FormatError::Range { what, field: "recipients", value: count as u64 });
        }
        r.reserved(6)?;
        let recipients = (0..count).map(|_| Ok(RecipientId(r.array()?))).collect::<Result<Vec<_>, FormatError>>()?;
        r.reserved(JOURNAL_H0_BYTES - 128 - count * RecipientId::BYTES)?;
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            slots.push(KeySlot { enc: r.array()?, wrapped: r.array()? });
        }
        r.reserved((RECIPIENTS_MAX - count) * KEY_SLOT_BYTES)?;
        let (commitment, certificate, body) = (r.array()?, Hash(r.array()?), Hash(r.array()?));
        r.reserved(128)?;
        let signatures = Signatures { ed25519: r.array()?, ml_dsa: r.array()? };
        r.reserved(HEADER_BYTES - JOURNAL_SIGNED_BYTES - SIGNATURES_BYTES)?;
        r.end()?;
        Ok(Self {
            suite,
            flags,
            vault,
            writer,
            stream,
            lineage,
            ordinal,
            previous,
            class,
            recipients,
            slots,
            commitment,
            certificate,
            body,
            signatures,
        })
    }
}

record! {
    /// Plain body of a journal object, before its zero padding; a u64 length
    /// stands before it.
    JournalBody {
        /// Name of the source.
        0 source: String,
        /// First position covered (kernel: sequence; Postgres: LSN).
        1 first: u64,
        /// Position after the last.
        2 last: u64,
        /// When it was cut, milliseconds since 1970.
        3 created_ms: i64,
        /// The log's own bytes.
        4 log: Blob,
    }
}
