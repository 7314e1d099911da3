//! Sealing a pack: the body every byte of which is ciphertext or a tag.
//!
//! What always holds: the data key is made from fresh randomness, a secret of the
//! writer and a hash of everything the key will seal, so a cloned machine cannot
//! repeat a key and nonce over other content; keys are bound to the hash of H0;
//! the table of contents is padded before it is sealed, so chunk sizes and counts
//! are visible nowhere; what was sealed has been opened again and compared when
//! [`Pack::seal`] returns. (The key slots are the exception: only a reader can
//! open them. A drill does.) The data key does not outlive the call.

use bytes::Bytes;
use keys::hash::labelled;
use keys::wrap::wrap;
use keys::{Commitment, DataKey, EncKey, IndexKey, LocalSecret, RecipientPublic, Secret};
use rand_core::CryptoRng;
use vault_format::body::{
    IndexEntry, LOCATOR_BYTES, LOCATOR_PLAIN_BYTES, LOCATORS_BYTES, Locator, NonceDomain, SectionPart, Toc, TocEntry,
    encode_index, index_plain_bytes, nonce, section_associated_data, toc_plain_bytes,
};
use vault_format::shard::{H0, KeySlot};
use vault_format::suite::{Class, RECIPIENTS_MAX, Suite, TAG_BYTES};
use vault_format::{PackId, VaultId, WriterId, labels};

use crate::buffers::Buffers;
use crate::error::{CodecError, Result};
use crate::frame::Frame;
use crate::open::{BodyPart, IndexReader, PackKey};
use crate::pack::Pack;

/// Separates the derivation of a pack's id from that of its keys.
const PACK_ID_LABEL: &str = "holdfast pack id 1";

/// Who seals for whom.
#[derive(Clone, Copy)]
pub struct SealContext<'a> {
    /// The vault.
    pub vault: VaultId,
    /// The writer.
    pub writer: WriterId,
    /// Epoch of the manifest that will commit the pack; a hint.
    pub epoch: u64,
    /// Its sequence; a hint.
    pub sequence: u64,
    /// Who shall be able to open it: 1 to 3.
    pub recipients: &'a [RecipientPublic],
    /// The writer's index key.
    pub index: &'a IndexKey,
    /// The writer's local secret.
    pub local: &'a LocalSecret,
}

/// A pack nobody on this host can read any more.
pub struct Sealed {
    pub(crate) h0: H0,
    pub(crate) slots: Vec<KeySlot>,
    pub(crate) commitment: Commitment,
    pub(crate) body: Bytes,
    entries: Vec<TocEntry>,
}

impl Sealed {
    /// The pack's id.
    pub fn pack(&self) -> PackId {
        self.h0.pack
    }

    /// What was fixed before sealing.
    pub fn h0(&self) -> &H0 {
        &self.h0
    }

    /// Leaves per shard.
    pub fn class(&self) -> Class {
        self.h0.class
    }

    /// The frames it holds, for the writer's catalog.
    pub fn entries(&self) -> &[TocEntry] {
        &self.entries
    }
}

impl Pack {
    /// Seals the pack, opens it and compares.
    pub fn seal<R>(self, context: &SealContext<'_>, buffers: &Buffers, rng: &mut R) -> Result<Sealed>
    where
        R: CryptoRng + ?Sized,
    {
        check_recipients(context.recipients)?;
        let toc = Toc { entries: self.entries().copied().collect() };
        let data_key = data_key(&self, &toc, context.local, rng);
        let h0 = H0 {
            suite: Suite::One,
            flags: 0,
            vault: context.vault,
            writer: context.writer,
            epoch: context.epoch,
            sequence: context.sequence,
            pack: pack_id(&data_key),
            coding: self.coding(),
            class: self.class(),
            recipients: context.recipients.iter().map(RecipientPublic::id).collect(),
        };
        let h0_hash = labelled(labels::H0, &h0.encode());
        let (key, commitment) = data_key.pack_keys(&h0_hash);
        let index_key = context.index.section_key(&h0_hash, &commitment);
        let slots = context.recipients.iter().map(|to| wrap(&data_key, to, &h0_hash, rng)).collect();
        drop(data_key);

        let layout = BodyLayout::of(&toc, self.body_bytes());
        let mut body = buffers.take(self.body_bytes());
        seal_frames(&key, h0.pack, self.frames(), &mut body)?;
        seal_sections(&key, &index_key, h0.pack, &toc, &layout, &mut body);
        verify_sections(key, index_key, &h0, &toc, &layout, &body)?;
        Ok(Sealed { h0, slots, commitment, body: body.freeze(), entries: toc.entries })
    }
}

fn check_recipients(recipients: &[RecipientPublic]) -> Result<()> {
    let mut ids: Vec<_> = recipients.iter().map(RecipientPublic::id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != recipients.len() || ids.is_empty() || ids.len() > RECIPIENTS_MAX {
        let count = recipients.len();
        return Err(CodecError::refused(format!("a pack has 1 to 3 different recipients, {count} were given")));
    }
    Ok(())
}

/// The key of this pack: over everything it will seal, as it will be sealed.
fn data_key<R: CryptoRng + ?Sized>(pack: &Pack, toc: &Toc, local: &LocalSecret, rng: &mut R) -> DataKey {
    let random = Secret::random(rng);
    let mut content = local.content_hasher();
    content.update(&toc.encode(toc_plain_bytes(toc.entries.len())));
    for frame in pack.frames() {
        content.update(frame.coded());
    }
    DataKey::derive(&random, local, content)
}

/// A name nobody can predict and no other content can get, a cloned machine's
/// included: what the data key commits to for a header that does not exist.
fn pack_id(data_key: &DataKey) -> PackId {
    let (_, commitment) = data_key.pack_keys(&labelled(PACK_ID_LABEL, b""));
    PackId::from_slice(&commitment.0[..PackId::BYTES]).expect("16 of 32 bytes")
}

/// Where the parts of a body lie.
struct BodyLayout {
    index: Locator,
    toc: Locator,
    locators_at: usize,
}

impl BodyLayout {
    fn of(toc: &Toc, body_bytes: usize) -> Self {
        let count = toc.entries.len();
        let index_at = toc.frames_bytes();
        let index_bytes = (index_plain_bytes(count) + TAG_BYTES) as u64;
        let toc_at = index_at + index_bytes;
        let locators_at = body_bytes - LOCATORS_BYTES;
        Self {
            index: Locator { offset: index_at, bytes: index_bytes, count: count as u32 },
            toc: Locator { offset: toc_at, bytes: locators_at as u64 - toc_at, count: count as u32 },
            locators_at,
        }
    }
}

/// Seals each frame into its place, opens a copy of it and compares.
fn seal_frames(key: &EncKey, pack: PackId, frames: &[Frame], body: &mut [u8]) -> Result<()> {
    let mut opened = Vec::new();
    let mut at = 0;
    for (number, frame) in (0_u32..).zip(frames) {
        let (coded, entry) = (frame.coded(), frame.entry());
        let (place, aad) = (&mut body[at..at + entry.frame_bytes()], entry.associated_data(pack, number));
        let nonce = nonce(NonceDomain::Frame, number.into());
        seal_part(key, nonce, &aad, coded, place);
        opened.clear();
        opened.extend_from_slice(place);
        let good = key.open_in_place(nonce, &aad, &mut opened).is_ok_and(|count| opened[..count] == *coded);
        if !good {
            return Err(unfaithful(pack));
        }
        at += place.len();
    }
    Ok(())
}

/// Index section, table of contents and both locators.
fn seal_sections(key: &EncKey, index_key: &EncKey, pack: PackId, toc: &Toc, layout: &BodyLayout, body: &mut [u8]) {
    let range = |found: &Locator| found.offset as usize..(found.offset + found.bytes) as usize;
    let index: Vec<IndexEntry> = toc
        .entries
        .iter()
        .map(|entry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind })
        .collect();
    let section = nonce(NonceDomain::Section, 0);
    let aad = |part| section_associated_data(pack, part);
    seal_part(index_key, section, &aad(SectionPart::Index), &encode_index(&index), &mut body[range(&layout.index)]);
    let plain = toc.encode(layout.toc.bytes as usize - TAG_BYTES);
    seal_part(key, section, &aad(SectionPart::Toc), &plain, &mut body[range(&layout.toc)]);
    let (index_place, toc_place) = body[layout.locators_at..].split_at_mut(LOCATOR_BYTES);
    let locator = nonce(NonceDomain::Locator, 0);
    seal_part(index_key, locator, &aad(SectionPart::IndexLocator), &layout.index.encode(), index_place);
    seal_part(key, locator, &aad(SectionPart::TocLocator), &layout.toc.encode(), toc_place);
    const { assert!(LOCATOR_PLAIN_BYTES + TAG_BYTES == LOCATOR_BYTES) };
}

/// Seals `plain` into `place`, tag last.
fn seal_part(key: &EncKey, nonce: [u8; 12], aad: &[u8], plain: &[u8], place: &mut [u8]) {
    let (text, tag) = place.split_at_mut(plain.len());
    text.copy_from_slice(plain);
    tag.copy_from_slice(&key.seal_detached(nonce, aad, text));
}

/// Reads the sections back as a reader and as the writer would.
fn verify_sections(key: EncKey, index_key: EncKey, h0: &H0, toc: &Toc, layout: &BodyLayout, body: &[u8]) -> Result<()> {
    let part = BodyPart { offset: 0, bytes: body };
    let reader = PackKey::new(key, h0);
    let range = reader.toc_range(part)?;
    let found = reader.toc(part)?;
    let index = IndexReader::new(index_key, h0).entries(part)?;
    let same = index.len() == toc.entries.len()
        && toc.entries.iter().zip(&index).all(|(entry, index)| {
            (entry.id, entry.plain_bytes, entry.kind) == (index.id, index.plain_bytes, index.kind)
        });
    let decoded = H0::decode(&h0.encode());
    if found.toc() == toc && same && range.start == layout.toc.offset && decoded.as_ref() == Ok(h0) {
        Ok(())
    } else {
        Err(unfaithful(h0.pack))
    }
}

/// What was sealed does not open to what it was made from.
fn unfaithful(pack: PackId) -> CodecError {
    CodecError::corrupt(
        "the body just sealed",
        format!("pack {pack}"),
        "it does not open to what was put in: this machine's memory or processor fails. Nothing of it was stored",
    )
}
