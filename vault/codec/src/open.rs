//! Opening a pack: slot, commitment, locator, table of contents, chunk by chunk.
//!
//! What always holds: the key commitment is compared before anything is
//! decrypted (AES-GCM would accept a ciphertext made to open under two keys); a
//! chunk is handed out only after its id was computed again from its plain
//! bytes (the point record excepted, which names the scope that needs: who reads
//! it compares then); no length is believed before its tag was checked. Everything works on
//! parts of a body, so that a reader can fetch ranges.
//!
//! A pack may be opened under a header whose signature is not verified yet: from
//! bare shards there is no other way to reach the certificates in the point
//! record. Whoever does that accepts nothing before [`ParsedHeader::verify`].

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use keys::files::ReadKey;
use keys::hash::labelled;
use keys::wrap::unwrap;
use keys::{Commitment, EncKey, IdKey, IndexKey, RecipientPrivate};
use vault_format::body::{
    ChunkKind, IndexEntry, LOCATOR_BYTES, LOCATORS_BYTES, Locator, NonceDomain, SectionPart, Toc, decode_index,
    index_plain_bytes, nonce, section_associated_data,
};
use vault_format::shard::H0;
use vault_format::suite::TAG_BYTES;
use vault_format::{ChunkId, PackId, labels};

use crate::error::{CodecError, Result};
use crate::frame::FrameDecoder;
use crate::verify::ParsedHeader;

/// A part of a body and where it starts.
#[derive(Clone, Copy)]
pub struct BodyPart<'a> {
    /// Offset in the body.
    pub offset: u64,
    /// The bytes from there on.
    pub bytes: &'a [u8],
}

impl<'a> BodyPart<'a> {
    /// The bytes of a range of the body, if this part has them all.
    pub fn get(&self, range: &Range<u64>) -> Option<&'a [u8]> {
        let start = usize::try_from(range.start.checked_sub(self.offset)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.offset)?).ok()?;
        self.bytes.get(start..end)
    }
}

/// Opens the slot that belongs to a key and compares the commitment.
pub fn unlock(header: &ParsedHeader, key: &RecipientPrivate) -> Result<PackKey> {
    let h0 = header.h0();
    let id = key.id();
    let Some(slot) = h0.recipients.iter().position(|recipient| *recipient == id) else {
        return Err(wrong_key(h0));
    };
    let h0_hash = labelled(labels::H0, &h0.encode());
    let data_key = unwrap(&header.header().slots[slot], key, &h0_hash)
        .map_err(|error| CodecError::corrupt("a key slot", at(h0.pack), error))?;
    let (key, commitment) = data_key.pack_keys(&h0_hash);
    if commitment != Commitment(header.header().commitment) {
        let why = "the data key in the slot is not the one the header commits to; nothing was decrypted";
        return Err(CodecError::corrupt("the key commitment", at(h0.pack), why));
    }
    Ok(PackKey::new(key, h0))
}

/// The same with whichever generation of a read key fits.
pub fn unlock_with(header: &ParsedHeader, key: &ReadKey) -> Result<PackKey> {
    let fitting = header.h0().recipients.iter().find_map(|recipient| key.reader(recipient));
    unlock(header, fitting.ok_or_else(|| wrong_key(header.h0()))?)
}

fn wrong_key(h0: &H0) -> CodecError {
    let recipients: Vec<String> = h0.recipients.iter().map(vault_format::RecipientId::short).collect();
    CodecError::WrongKey { at: at(h0.pack), recipients: recipients.join(", ") }
}

fn at(pack: PackId) -> String {
    format!("pack {pack}")
}

/// The key of one pack, its commitment compared.
pub struct PackKey {
    key: EncKey,
    pack: PackId,
    body_bytes: usize,
}

impl PackKey {
    pub(crate) fn new(key: EncKey, h0: &H0) -> Self {
        Self { key, pack: h0.pack, body_bytes: body_bytes(h0) }
    }

    /// Where the locators lie, at the end of the body.
    pub fn locators_range(&self) -> Range<u64> {
        locators_range(self.body_bytes)
    }

    /// Where the table of contents lies; `part` must hold the locators.
    pub fn toc_range(&self, part: BodyPart<'_>) -> Result<Range<u64>> {
        let found = self.toc_locator(part)?;
        Ok(found.offset..found.offset + found.bytes)
    }

    /// The table of contents; `part` must hold it and the locators.
    pub fn toc(&self, part: BodyPart<'_>) -> Result<OpenToc> {
        let what = "the table of contents";
        let found = self.toc_locator(part)?;
        let range = found.offset..found.offset + found.bytes;
        let plain = open_section(&self.key, self.pack, SectionPart::Toc, what, part, &range)?;
        let toc = Toc::decode(&plain).map_err(|error| CodecError::format(what, at(self.pack), error))?;
        let index_bytes = (index_plain_bytes(toc.entries.len()) + TAG_BYTES) as u64;
        if toc.entries.len() != found.count as usize || toc.frames_bytes() + index_bytes != found.offset {
            return Err(CodecError::corrupt(what, at(self.pack), "it does not describe the body it stands in"));
        }
        Ok(OpenToc::new(toc))
    }

    /// One chunk; `part` must hold its frame.
    pub fn chunk(
        &self,
        toc: &OpenToc,
        frame: u32,
        part: BodyPart<'_>,
        decoder: &mut FrameDecoder,
        id_key: &IdKey,
    ) -> Result<Vec<u8>> {
        let (id, plain) = self.unnamed(toc, frame, part, decoder)?;
        if id_key.chunk_id(&plain) != id {
            let why = format!("its content is not that of chunk {id}");
            return Err(CodecError::corrupt("a chunk", format!("frame {frame} of pack {}", self.pack), why));
        }
        Ok(plain)
    }

    /// The point record and the id it should have, not yet compared: the record
    /// itself names the scope whose key that needs. Refused for other frames.
    /// `part` must hold the frame.
    pub fn chunk_unnamed(
        &self,
        toc: &OpenToc,
        frame: u32,
        part: BodyPart<'_>,
        decoder: &mut FrameDecoder,
    ) -> Result<(ChunkId, Vec<u8>)> {
        if toc.point_record_frame() != Some(frame) {
            return Err(CodecError::refused(format!("frame {frame} of pack {} is no point record", self.pack)));
        }
        self.unnamed(toc, frame, part, decoder)
    }

    /// One chunk and the id it should have.
    fn unnamed(
        &self,
        toc: &OpenToc,
        frame: u32,
        part: BodyPart<'_>,
        decoder: &mut FrameDecoder,
    ) -> Result<(ChunkId, Vec<u8>)> {
        let (Some(range), Some(entry)) = (toc.frame_range(frame), toc.toc.entries.get(frame as usize)) else {
            return Err(CodecError::refused(format!("pack {} has no frame {frame}", self.pack)));
        };
        let mut coded = part.get(&range).ok_or_else(|| missing(self.pack, &range))?.to_vec();
        let place = format!("frame {frame} of pack {}", self.pack);
        let opened = self.key.open_in_place(
            nonce(NonceDomain::Frame, frame.into()),
            &entry.associated_data(self.pack, frame),
            &mut coded,
        );
        coded.truncate(opened.map_err(|error| CodecError::corrupt("a sealed chunk", &place, error))?);
        Ok((entry.id, decoder.decode(&place, entry, coded)?))
    }

    /// Opens a whole body.
    pub fn open(self, body: Bytes) -> Result<OpenPack> {
        let toc = self.toc(BodyPart { offset: 0, bytes: &body })?;
        Ok(OpenPack { key: self, toc, body })
    }

    fn toc_locator(&self, part: BodyPart<'_>) -> Result<Locator> {
        let place = SectionPlace { key: &self.key, pack: self.pack, body_bytes: self.body_bytes };
        let found = place.locator(SectionPart::TocLocator, 1, part)?;
        if found.offset + found.bytes != self.locators_range().start {
            return Err(CodecError::corrupt("a locator", at(self.pack), "it leaves a gap in the body"));
        }
        Ok(found)
    }
}

/// A table of contents with the places of its frames.
pub struct OpenToc {
    toc: Toc,
    offsets: Vec<u64>,
    by_id: BTreeMap<ChunkId, u32>,
}

impl OpenToc {
    fn new(toc: Toc) -> Self {
        let offsets = toc.offsets().map(|(offset, _)| offset).collect();
        let by_id = toc.entries.iter().zip(0..).map(|(entry, frame)| (entry.id, frame)).collect();
        Self { toc, offsets, by_id }
    }

    /// The entries.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The frame of a chunk.
    pub fn find(&self, id: &ChunkId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The sealed bytes of a frame.
    pub fn frame_range(&self, frame: u32) -> Option<Range<u64>> {
        let start = *self.offsets.get(frame as usize)?;
        Some(start..start + self.toc.entries[frame as usize].frame_bytes() as u64)
    }

    /// The frame of the point record: the last one, if it is one.
    pub fn point_record_frame(&self) -> Option<u32> {
        let last = self.toc.entries.last()?;
        (last.kind == ChunkKind::PointRecord).then(|| self.toc.entries.len() as u32 - 1)
    }
}

/// A whole body with its key.
pub struct OpenPack {
    key: PackKey,
    toc: OpenToc,
    body: Bytes,
}

impl OpenPack {
    /// The entries.
    pub fn toc(&self) -> &Toc {
        &self.toc.toc
    }

    /// The frame of a chunk.
    pub fn find(&self, id: &ChunkId) -> Option<u32> {
        self.toc.find(id)
    }

    /// The frame of the point record, if this is a point's last pack.
    pub fn point_record_frame(&self) -> Option<u32> {
        self.toc.point_record_frame()
    }

    /// The plain bytes of a frame, checked against its id.
    pub fn chunk(&self, decoder: &mut FrameDecoder, frame: u32, id_key: &IdKey) -> Result<Vec<u8>> {
        self.key.chunk(&self.toc, frame, BodyPart { offset: 0, bytes: &self.body }, decoder, id_key)
    }
}

/// Reads the index section with the writer's own key; no read key is needed.
/// `part` must hold [`index_range`].
pub fn open_index(header: &ParsedHeader, key: &IndexKey, part: BodyPart<'_>) -> Result<Vec<IndexEntry>> {
    IndexReader::of(header, key).entries(part)
}

/// What [`open_index`] needs of a body: from the index section to the end.
/// `part` must hold the locators.
pub fn index_range(header: &ParsedHeader, key: &IndexKey, part: BodyPart<'_>) -> Result<Range<u64>> {
    let reader = IndexReader::of(header, key);
    Ok(reader.locator(part)?.offset..reader.body_bytes as u64)
}

/// The index section of one pack with its key.
pub(crate) struct IndexReader {
    key: EncKey,
    pack: PackId,
    body_bytes: usize,
}

impl IndexReader {
    pub(crate) fn new(key: EncKey, h0: &H0) -> Self {
        Self { key, pack: h0.pack, body_bytes: body_bytes(h0) }
    }

    fn of(header: &ParsedHeader, key: &IndexKey) -> Self {
        let h0 = header.h0();
        let h0_hash = labelled(labels::H0, &h0.encode());
        Self::new(key.section_key(&h0_hash, &Commitment(header.header().commitment)), h0)
    }

    fn locator(&self, part: BodyPart<'_>) -> Result<Locator> {
        let place = SectionPlace { key: &self.key, pack: self.pack, body_bytes: self.body_bytes };
        place.locator(SectionPart::IndexLocator, 0, part)
    }

    pub(crate) fn entries(&self, part: BodyPart<'_>) -> Result<Vec<IndexEntry>> {
        let what = "the index section";
        let found = self.locator(part)?;
        let range = found.offset..found.offset + found.bytes;
        let plain = open_section(&self.key, self.pack, SectionPart::Index, what, part, &range)?;
        let entries = decode_index(&plain).map_err(|error| CodecError::format(what, at(self.pack), error))?;
        if entries.len() != found.count as usize {
            return Err(CodecError::corrupt(what, at(self.pack), "it has another length than its locator says"));
        }
        Ok(entries)
    }
}

/// The part of a body that one key's sections lie in.
struct SectionPlace<'a> {
    key: &'a EncKey,
    pack: PackId,
    body_bytes: usize,
}

impl SectionPlace<'_> {
    /// The writer's locator is the first of the two, the reader's the second.
    fn locator(&self, which: SectionPart, number: u64, part: BodyPart<'_>) -> Result<Locator> {
        let what = "a locator";
        let start = locators_range(self.body_bytes).start + number * LOCATOR_BYTES as u64;
        let range = start..start + LOCATOR_BYTES as u64;
        let sealed = part.get(&range).ok_or_else(|| missing(self.pack, &range))?;
        let plain = open_part(self.key, NonceDomain::Locator, self.pack, which, sealed)
            .map_err(|error| CodecError::corrupt(what, at(self.pack), error))?;
        Locator::decode(&plain, self.body_bytes).map_err(|error| CodecError::format(what, at(self.pack), error))
    }
}

fn open_section(
    key: &EncKey,
    pack: PackId,
    which: SectionPart,
    what: &'static str,
    part: BodyPart<'_>,
    range: &Range<u64>,
) -> Result<Vec<u8>> {
    let sealed = part.get(range).ok_or_else(|| missing(pack, range))?;
    open_part(key, NonceDomain::Section, pack, which, sealed)
        .map_err(|error| CodecError::corrupt(what, at(pack), error))
}

fn open_part(
    key: &EncKey,
    domain: NonceDomain,
    pack: PackId,
    which: SectionPart,
    sealed: &[u8],
) -> std::result::Result<Vec<u8>, keys::KeysError> {
    let mut plain = sealed.to_vec();
    let count = key.open_in_place(nonce(domain, 0), &section_associated_data(pack, which), &mut plain)?;
    plain.truncate(count);
    Ok(plain)
}

fn missing(pack: PackId, range: &Range<u64>) -> CodecError {
    CodecError::refused(format!("bytes {} to {} of pack {pack} were not given", range.start, range.end))
}

fn locators_range(body_bytes: usize) -> Range<u64> {
    (body_bytes - LOCATORS_BYTES) as u64..body_bytes as u64
}

fn body_bytes(h0: &H0) -> usize {
    h0.class.body_bytes(h0.coding.data_shards())
}
