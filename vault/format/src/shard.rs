//! The shard object: `header (8 KiB) | payload | Merkle nodes | trailer`.
//!
//! What always holds: the header of all n shards of a pack is the same byte for
//! byte except the shard index, so a repair copies it; the signatures cover H0
//! and H1 and nothing else; every reserved byte is zero; the object's length
//! follows from H0 alone. See FORMAT.md, "Shard object".

use crate::FormatError;
use crate::bytes::{Put, Reader};
use crate::ids::{Hash, PackId, RecipientId, VaultId, WriterId};
use crate::suite::{
    Class, Coding, ED25519_BYTES, FORMAT_VERSION, LEAF_BYTES, ML_DSA_BYTES, RECIPIENTS_MAX, SHARDS_MAX,
    SIGNATURES_BYTES, Suite, check_flags,
};

/// First bytes of a shard object.
pub const SHARD_MAGIC: [u8; 8] = *b"HFSHARD1";
/// First bytes of its trailer.
pub const TRAILER_MAGIC: [u8; 8] = *b"HFTRAIL1";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 8192;
/// Bytes of H0: fixed before sealing.
pub const H0_BYTES: usize = 256;
/// Bytes of an X-Wing encapsulation (1088 ML-KEM-768 + 32 X25519).
pub const KEM_ENC_BYTES: usize = 1120;
/// Bytes of a wrapped data key: 32 and the tag.
pub const WRAPPED_KEY_BYTES: usize = 48;
/// Bytes of one key slot.
pub const KEY_SLOT_BYTES: usize = KEM_ENC_BYTES + WRAPPED_KEY_BYTES;
/// Offset of the key slots.
pub const SLOTS_AT: usize = H0_BYTES;
/// Offset of the key commitment.
pub const COMMITMENT_AT: usize = SLOTS_AT + RECIPIENTS_MAX * KEY_SLOT_BYTES;
/// Offset of the hash of the writer's certificate.
pub const CERTIFICATE_AT: usize = COMMITMENT_AT + 32;
/// Offset of the shard roots.
pub const ROOTS_AT: usize = CERTIFICATE_AT + 32;
/// Bytes that the signatures cover: H0 and H1, with 128 reserved bytes.
pub const SIGNED_BYTES: usize = ROOTS_AT + SHARDS_MAX as usize * 32 + 128;
/// Offset of the unsigned shard index, the last 16 bytes of the header.
pub const INDEX_AT: usize = HEADER_BYTES - 16;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 64;

/// What is decided before a pack is sealed. Every key derived for the pack is
/// bound to the hash of these bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct H0 {
    /// Algorithms.
    pub suite: Suite,
    /// Flags; see [`crate::suite::FLAGS_IGNORABLE`].
    pub flags: u32,
    /// The vault.
    pub vault: VaultId,
    /// The writer that sealed it.
    pub writer: WriterId,
    /// Hint: the epoch of the manifest that first commits the pack.
    pub epoch: u64,
    /// Hint: its sequence.
    pub sequence: u64,
    /// The pack.
    pub pack: PackId,
    /// k of n.
    pub coding: Coding,
    /// Leaves per shard.
    pub class: Class,
    /// Who can unwrap the data key: 1 to 3.
    pub recipients: Vec<RecipientId>,
}

impl H0 {
    /// The 256 stored bytes.
    pub fn encode(&self) -> [u8; H0_BYTES] {
        let mut out = Vec::with_capacity(H0_BYTES);
        out.put(&SHARD_MAGIC);
        out.put(&FORMAT_VERSION.to_le_bytes());
        out.put(&self.suite.number().to_le_bytes());
        out.put(&self.flags.to_le_bytes());
        out.put(&self.vault.0);
        out.put(&self.writer.0);
        out.put(&self.epoch.to_le_bytes());
        out.put(&self.sequence.to_le_bytes());
        out.put(&self.pack.0);
        out.put(&[self.coding.data_shards(), self.coding.total_shards(), self.coding.matrix() as u8, self.class as u8]);
        out.put(&(LEAF_BYTES as u32).to_le_bytes());
        out.put(&(self.class.leaves() as u32).to_le_bytes());
        out.put(&[self.recipients.len() as u8, 0, 0, 0]);
        for recipient in &self.recipients {
            out.put(&recipient.0);
        }
        out.resize(H0_BYTES, 0);
        out.try_into().expect("at most three recipients fit into H0")
    }

    /// Reads and checks 256 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = "shard header";
        let mut r = Reader::new(what, bytes);
        r.magic(SHARD_MAGIC)?;
        let version = r.u16()?;
        if version != FORMAT_VERSION {
            return Err(FormatError::Version { what, version });
        }
        let suite = Suite::from_number(r.u16()?)?;
        let flags = r.u32()?;
        check_flags(what, flags)?;
        let vault = VaultId(r.array()?);
        let writer = WriterId(r.array()?);
        let epoch = r.u64()?;
        let sequence = r.u64()?;
        let pack = PackId(r.array()?);
        let coding = Coding::new(r.u8()?, r.u8()?)?;
        coding.check_matrix(r.u8()?)?;
        let class = Class::from_number(r.u8()?)?;
        exactly(what, "leaf_bytes", r.u32()?.into(), LEAF_BYTES as u64)?;
        exactly(what, "leaves", r.u32()?.into(), class.leaves() as u64)?;
        let count = r.u8()?;
        if count == 0 || usize::from(count) > RECIPIENTS_MAX {
            return Err(FormatError::Range { what, field: "recipients", value: count.into() });
        }
        r.reserved(3)?;
        let recipients = (0..count).map(|_| Ok(RecipientId(r.array()?))).collect::<Result<Vec<_>, FormatError>>()?;
        r.reserved(H0_BYTES - 96 - usize::from(count) * RecipientId::BYTES)?;
        r.end()?;
        Ok(Self { suite, flags, vault, writer, epoch, sequence, pack, coding, class, recipients })
    }
}

fn exactly(what: &'static str, field: &'static str, value: u64, wanted: u64) -> Result<(), FormatError> {
    if value == wanted { Ok(()) } else { Err(FormatError::Range { what, field, value }) }
}

/// One recipient's wrapped copy of the data key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// X-Wing encapsulation.
    pub enc: [u8; KEM_ENC_BYTES],
    /// The data key under the HPKE context, with its tag.
    pub wrapped: [u8; WRAPPED_KEY_BYTES],
}

impl std::fmt::Debug for KeySlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySlot(..)")
    }
}

/// Both signatures over a labelled message.
#[derive(Clone, PartialEq, Eq)]
pub struct Signatures {
    /// Ed25519 (RFC 8032).
    pub ed25519: [u8; ED25519_BYTES],
    /// ML-DSA-65 (FIPS 204).
    pub ml_dsa: [u8; ML_DSA_BYTES],
}

impl Signatures {
    /// Reads Ed25519, then ML-DSA-65.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != SIGNATURES_BYTES {
            return None;
        }
        let (ed25519, ml_dsa) = bytes.split_at(ED25519_BYTES);
        Some(Self { ed25519: ed25519.try_into().ok()?, ml_dsa: ml_dsa.try_into().ok()? })
    }
}

impl std::fmt::Debug for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signatures(..)")
    }
}

/// The 8 KiB that open each shard object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Fixed before sealing.
    pub h0: H0,
    /// As many as H0 has recipients, in its order.
    pub slots: Vec<KeySlot>,
    /// Key commitment, compared before anything is decrypted.
    pub commitment: [u8; 32],
    /// Hash of the writer's certificate envelope.
    pub certificate: Hash,
    /// Merkle root of each shard's payload: n of them.
    pub roots: Vec<Hash>,
    /// Over H0 and H1.
    pub signatures: Signatures,
    /// Which shard this is. Outside the signatures: valid only if the payload's
    /// root equals `roots[index]`.
    pub index: u8,
}

impl Header {
    /// The bytes that are signed: H0 and H1.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put(&self.h0.encode());
        for slot in &self.slots {
            out.put(&slot.enc);
            out.put(&slot.wrapped);
        }
        out.resize(COMMITMENT_AT, 0);
        out.put(&self.commitment);
        out.put(&self.certificate.0);
        for root in &self.roots {
            out.put(&root.0);
        }
        out.resize(SIGNED_BYTES, 0);
        out
    }

    /// The 8 KiB as they are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.signed_bytes();
        out.put(&self.signatures.ed25519);
        out.put(&self.signatures.ml_dsa);
        out.resize(INDEX_AT, 0);
        out.put(&[self.index]);
        out.put_zero(15);
        out
    }

    /// Reads and checks 8 KiB. Signatures are not verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = "shard header";
        let mut r = Reader::new(what, bytes);
        let h0 = H0::decode(r.take(H0_BYTES)?)?;
        let mut slots = Vec::with_capacity(h0.recipients.len());
        for _ in &h0.recipients {
            slots.push(KeySlot { enc: r.array()?, wrapped: r.array()? });
        }
        r.reserved((RECIPIENTS_MAX - slots.len()) * KEY_SLOT_BYTES)?;
        let commitment = r.array()?;
        let certificate = Hash(r.array()?);
        let n = usize::from(h0.coding.total_shards());
        let roots = (0..n).map(|_| Ok(Hash(r.array()?))).collect::<Result<Vec<_>, FormatError>>()?;
        r.reserved(SIGNED_BYTES - ROOTS_AT - n * Hash::BYTES)?;
        let signatures = Signatures { ed25519: r.array()?, ml_dsa: r.array()? };
        r.reserved(INDEX_AT - SIGNED_BYTES - SIGNATURES_BYTES)?;
        let index = r.u8()?;
        r.reserved(15)?;
        r.end()?;
        if usize::from(index) >= n {
            return Err(FormatError::Range { what, field: "index", value: index.into() });
        }
        Ok(Self { h0, slots, commitment, certificate, roots, signatures, index })
    }
}

/// The part of an encoded header that is the same for all n shards; its hash is
/// the pack's header hash in manifests and point records.
pub fn common_header(encoded: &[u8]) -> Option<&[u8]> {
    encoded.get(..INDEX_AT)
}

/// Where things lie in a shard object of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    class: Class,
}

impl ShardLayout {
    /// The layout of a class.
    pub fn new(class: Class) -> Self {
        Self { class }
    }

    /// Byte range of a leaf.
    pub fn leaf(self, leaf: usize) -> std::ops::Range<u64> {
        debug_assert!(leaf < self.class.leaves());
        let start = (HEADER_BYTES + leaf * LEAF_BYTES) as u64;
        start..start + LEAF_BYTES as u64
    }

    /// Byte range of the payload.
    pub fn payload(self) -> std::ops::Range<u64> {
        HEADER_BYTES as u64..(HEADER_BYTES + self.class.shard_bytes()) as u64
    }

    /// Hashes stored in the Merkle section: every level below the root, leaves
    /// first; none for a single leaf, whose hash is the root.
    pub fn nodes_count(self) -> usize {
        let mut level = self.class.leaves();
        let mut count = 0;
        while level > 1 {
            count += level;
            level = level.div_ceil(2);
        }
        count
    }

    /// Byte range of the Merkle section.
    pub fn nodes(self) -> std::ops::Range<u64> {
        let start = self.payload().end;
        start..start + (self.nodes_count() * Hash::BYTES) as u64
    }

    /// Byte range of the trailer.
    pub fn trailer(self) -> std::ops::Range<u64> {
        let start = self.nodes().end;
        start..start + TRAILER_BYTES as u64
    }

    /// Length of the whole object.
    pub fn object_bytes(self) -> u64 {
        self.trailer().end
    }
}

/// The last 64 bytes: a truncated or overlong object is known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Length of the whole object.
    pub object_bytes: u64,
    /// Hash of the common header.
    pub header_hash: Hash,
    /// Which shard this is, as in the header.
    pub index: u8,
}

impl Trailer {
    /// Offset of the 8 check bytes: the first of the hash over what precedes.
    pub const CHECK_AT: usize = TRAILER_BYTES - 8;

    /// The 56 bytes that the check value covers.
    pub fn checked_bytes(&self) -> [u8; Self::CHECK_AT] {
        let mut out = Vec::with_capacity(TRAILER_BYTES);
        out.put(&TRAILER_MAGIC);
        out.put(&self.object_bytes.to_le_bytes());
        out.put(&self.header_hash.0);
        out.put(&[self.index]);
        out.put_zero(7);
        out.try_into().expect("the trailer's fields add up to 56 bytes")
    }

    /// Reads a trailer; `hash` is the suite's hash.
    pub fn decode(bytes: &[u8], hash: impl Fn(&[u8]) -> Hash) -> Result<Self, FormatError> {
        let what = "shard trailer";
        let mut r = Reader::new(what, bytes);
        r.magic(TRAILER_MAGIC)?;
        let object_bytes = r.u64()?;
        let header_hash = Hash(r.array()?);
        let index = r.u8()?;
        r.reserved(7)?;
        let check: [u8; 8] = r.array()?;
        r.end()?;
        if hash(&bytes[..Self::CHECK_AT]).0[..8] != check {
            return Err(FormatError::Check { what });
        }
        Ok(Self { object_bytes, header_hash, index })
    }

    /// The 64 stored bytes; `hash` is the suite's hash.
    pub fn encode(&self, hash: impl Fn(&[u8]) -> Hash) -> [u8; TRAILER_BYTES] {
        let body = self.checked_bytes();
        let mut out = [0; TRAILER_BYTES];
        out[..Self::CHECK_AT].copy_from_slice(&body);
        out[Self::CHECK_AT..].copy_from_slice(&hash(&body).0[..8]);
        out
    }
}
