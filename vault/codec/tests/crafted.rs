//! A writer with good keys and bad intentions seals a body by hand: everything
//! authenticates, and the structure lies. A reader refuses each lie, allocates
//! nothing for it, and never panics.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use keys::hash::labelled;
use keys::wrap::wrap;
use keys::{DataKey, EncKey, Secret};
use vault_codec::{
    BodyPart, CodecError, Compression, FrameDecoder, ParsedHeader, ShardSet, index_range, open_index, unlock,
};
use vault_format::body::{
    ChunkKind, Codec, IndexEntry, LOCATOR_BYTES, LOCATORS_BYTES, Locator, NonceDomain, SectionPart, Toc, TocEntry,
    encode_index, index_plain_bytes, nonce, section_associated_data,
};
use vault_format::labels;
use vault_format::shard::Header;
use vault_format::suite::TAG_BYTES;
use world::{World, coding, noise, remake, rng};

/// What will be sealed, before it is sealed.
struct Plan {
    entries: Vec<TocEntry>,
    coded: Vec<Vec<u8>>,
    toc: Vec<u8>,
    toc_locator: Locator,
    index: Vec<u8>,
    index_locator: Locator,
    exchange_locators: bool,
}

impl Plan {
    fn honest(world: &World, chunks: &[(Codec, &[u8], &[u8])], body_bytes: usize) -> Self {
        let entry = |(codec, plain, coded): &(Codec, &[u8], &[u8])| TocEntry {
            id: world.dedup.id_key.chunk_id(plain),
            coded_bytes: coded.len() as u32,
            plain_bytes: plain.len() as u32,
            kind: ChunkKind::Data,
            codec: *codec,
        };
        let toc = Toc { entries: chunks.iter().map(entry).collect() };
        let (count, offset) = (chunks.len() as u32, toc.frames_bytes());
        let index_bytes = (index_plain_bytes(chunks.len()) + TAG_BYTES) as u64;
        let toc_offset = offset + index_bytes;
        let toc_bytes = (body_bytes - LOCATORS_BYTES) as u64 - toc_offset;
        let named = |entry: &TocEntry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind };
        Self {
            coded: chunks.iter().map(|(_, _, coded)| coded.to_vec()).collect(),
            toc: toc.encode(toc_bytes as usize - TAG_BYTES),
            toc_locator: Locator { offset: toc_offset, bytes: toc_bytes, count },
            index: encode_index(&toc.entries.iter().map(named).collect::<Vec<_>>()),
            index_locator: Locator { offset, bytes: index_bytes, count },
            entries: toc.entries,
            exchange_locators: false,
        }
    }

    /// Seals everything where the locators say, or at the end if they lie beyond.
    fn seal(&self, world: &World, set: &ShardSet) -> (ParsedHeader, Vec<u8>) {
        let honest = set.verified_header();
        let (h0, mut rng) = (honest.h0(), rng(3));
        let h0_hash = labelled(labels::H0, &h0.encode());
        let data_key = DataKey::derive(&Secret::random(&mut rng), &world.local, world.local.content_hasher());
        let (key, commitment) = data_key.pack_keys(&h0_hash);
        let index_key = world.index.section_key(&h0_hash, &commitment);
        let mut body = vec![0; h0.class.body_bytes(h0.coding.data_shards())];
        let mut put = |key: &EncKey, nonce, aad: &[u8], plain: &[u8], at: u64| {
            let mut sealed = plain.to_vec();
            key.seal_in_place(nonce, aad, &mut sealed);
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(body.len() - sealed.len());
            body[at..at + sealed.len()].copy_from_slice(&sealed);
        };
        let part = |part| section_associated_data(h0.pack, part);
        let mut at = 0;
        for (frame, (entry, coded)) in (0_u32..).zip(self.entries.iter().zip(&self.coded)) {
            let aad = entry.associated_data(h0.pack, frame);
            put(&key, nonce(NonceDomain::Frame, frame.into()), &aad, coded, at);
            at += (coded.len() + TAG_BYTES) as u64;
        }
        let section = nonce(NonceDomain::Section, 0);
        put(&index_key, section, &part(SectionPart::Index), &self.index, self.index_locator.offset);
        put(&key, section, &part(SectionPart::Toc), &self.toc, self.toc_locator.offset);
        let (locator, end) = (nonce(NonceDomain::Locator, 0), (LOCATORS_BYTES, LOCATOR_BYTES));
        let bytes = h0.class.body_bytes(h0.coding.data_shards());
        let (mut first, mut second) = ((bytes - end.0) as u64, (bytes - end.1) as u64);
        if self.exchange_locators {
            (first, second) = (second, first);
        }
        put(&index_key, locator, &part(SectionPart::IndexLocator), &self.index_locator.encode(), first);
        put(&key, locator, &part(SectionPart::TocLocator), &self.toc_locator.encode(), second);
        let slots = vec![wrap(&data_key, &world.recipients[0], &h0_hash, &mut rng)];
        let header = Header { slots, commitment: commitment.0, ..honest.header().clone() };
        let (header, _) = remake(world, &ParsedHeader::parse(&header.encode()).unwrap(), &body);
        (header, body)
    }
}

/// Opens everything there is; the first refusal ends it.
fn read(world: &World, header: &ParsedHeader, body: &[u8]) -> Result<Vec<Vec<u8>>, CodecError> {
    let open = unlock(header, &world.reader)?.open(body.to_vec().into())?;
    let mut decoder = FrameDecoder::new()?;
    (0..open.toc().entries.len() as u32).map(|frame| open.chunk(&mut decoder, frame, &world.dedup.id_key)).collect()
}

fn read_index(world: &World, header: &ParsedHeader, body: &[u8]) -> Result<Vec<IndexEntry>, CodecError> {
    let part = BodyPart { offset: 0, bytes: body };
    index_range(header, &world.index, part)?;
    open_index(header, &world.index, part)
}

type Lie = (&'static str, fn(&mut Plan));

#[test]
fn a_structure_that_lies_is_refused() {
    let world = World::new(1);
    let set = world.shards(world.pack(coding(3, 5), Compression::Never, &[b"content"]), 1);
    let body_bytes = set.class().body_bytes(3);
    let (one, other) = (noise(1, 3_000), noise(2, 2_000));
    let honest = || Plan::honest(&world, &[(Codec::Raw, &one, &one), (Codec::Raw, &other, &other)], body_bytes);
    let (header, body) = honest().seal(&world, &set);
    let header = header.verify(world.lookup()).unwrap();
    assert_eq!(read(&world, &header, &body).unwrap(), [one.clone(), other.clone()]);
    assert_eq!(read_index(&world, &header, &body).unwrap().len(), 2);

    let toc_lies: [Lie; 12] = [
        ("a locator that counts one more", |plan| plan.toc_locator.count += 1),
        ("a locator beyond the body", |plan| plan.toc_locator.offset = u64::MAX - 5),
        ("a locator longer than the body", |plan| plan.toc_locator.bytes += 1),
        ("a section shorter than its tag", |plan| plan.toc_locator.bytes = 15),
        ("a gap before the locators", |plan| {
            plan.toc_locator.bytes -= 100;
            plan.toc.truncate(plan.toc.len() - 100);
        }),
        ("a gap before the table", |plan| {
            plan.toc_locator.offset += 100;
            plan.toc_locator.bytes -= 100;
            plan.toc.truncate(plan.toc.len() - 100);
        }),
        ("padding that is not zero", |plan| *plan.toc.last_mut().unwrap() = 1),
        ("a count that cannot fit", |plan| plan.toc[..4].copy_from_slice(&u32::MAX.to_le_bytes())),
        ("a frame longer than the body", |plan| {
            plan.toc[8 + 32..8 + 40].copy_from_slice(&[255, 255, 255, 3, 255, 255, 255, 3]);
        }),
        ("a kind that is not assigned", |plan| plan.toc[8 + 40] = 9),
        ("a chunk of more than 64 MiB", |plan| plan.toc[8 + 36..8 + 40].copy_from_slice(&(1_u32 << 27).to_le_bytes())),
        ("locators in each other's place", |plan| plan.exchange_locators = true),
    ];
    for (lie, tell) in toc_lies {
        let mut plan = honest();
        tell(&mut plan);
        let (header, body) = plan.seal(&world, &set);
        assert_eq!(read(&world, &header, &body).expect_err(lie).name(), "corrupt", "{lie}");
    }

    let index_lies: [Lie; 5] = [
        ("a locator that counts one more", |plan| plan.index_locator.count += 1),
        ("a locator beyond the body", |plan| plan.index_locator.offset = u64::MAX - 5),
        ("a section with something behind it", |plan| {
            plan.index.push(0);
            plan.index_locator.bytes += 1;
            plan.index_locator.offset -= 1;
        }),
        ("a count that cannot fit", |plan| plan.index[..4].copy_from_slice(&u32::MAX.to_le_bytes())),
        ("locators in each other's place", |plan| plan.exchange_locators = true),
    ];
    for (lie, tell) in index_lies {
        let mut plan = honest();
        tell(&mut plan);
        let (header, body) = plan.seal(&world, &set);
        assert_eq!(read_index(&world, &header, &body).expect_err(lie).name(), "corrupt", "{lie}");
    }
}

#[test]
fn a_frame_that_unpacks_to_something_else_is_refused() {
    let world = World::new(2);
    let set = world.shards(world.pack(coding(3, 5), Compression::Never, &[b"content"]), 1);
    let body_bytes = set.class().body_bytes(3);
    let plain = b"one chunk of words ".repeat(200);
    let packed = zstd::bulk::compress(&plain, 3).unwrap();
    let read_one = |codec, plain: &[u8], coded: &[u8]| {
        let (header, body) = Plan::honest(&world, &[(codec, plain, coded)], body_bytes).seal(&world, &set);
        read(&world, &header, &body)
    };
    assert_eq!(read_one(Codec::Zstd, &plain, &packed).unwrap()[0], plain);
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let two = [&packed[..], &packed[..]].concat();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &packed[..]].concat();
    let cases: [(&str, &[u8], &[u8]); 7] = [
        ("a bomb", &plain, &bomb),
        ("no zstd frame", &plain, b"these are not the bytes of zstd"),
        ("nothing at all", &plain, b""),
        ("a frame cut short", &plain, &packed[..packed.len() - 1]),
        ("two frames", &plain.repeat(2), &two),
        ("a skippable frame before it", &plain, &skippable),
        ("one byte more than it gives", &[&plain[..], b" "].concat(), &packed),
    ];
    for (lie, plain, coded) in cases {
        assert_eq!(read_one(Codec::Zstd, plain, coded).expect_err(lie).name(), "corrupt", "{lie}");
    }
}
