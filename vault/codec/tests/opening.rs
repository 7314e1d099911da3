//! Opening packs: the right key, the wrong key, altered headers, writers that
//! lie, and reads of ranges.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use keys::files::ReadKey;
use keys::{Generation, RecipientPrivate};
use vault_codec::{
    BodyPart, Buffers, Chunk, CodecError, Compression, FrameDecoder, FrameEncoder, Pack, Packer, ParsedHeader,
    SealContext, ShardSet, assemble, index_range, open_index, unlock, unlock_with,
};
use vault_format::ChunkId;
use vault_format::body::ChunkKind;
use vault_format::shard::H0_BYTES;
use vault_format::suite::Class;
use world::{World, admitted, coding, noise, rng, scale, sign};

fn body(set: &ShardSet) -> Vec<u8> {
    let objects: Vec<Vec<u8>> = set.objects().map(|object| object.to_vec()).collect();
    let header = set.verified_header();
    assemble(header, &admitted(header, &objects), &Buffers::new(0)).unwrap().to_vec()
}

fn chunks() -> Vec<Vec<u8>> {
    vec![noise(1, 50_000), b"to be or not to be ".repeat(4_000), Vec::new(), noise(2, 10)]
}

fn shards(world: &World, number: u64) -> ShardSet {
    let chunks = chunks();
    let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    world.shards(world.pack(coding(3, 5), Compression::default(), &chunks), number)
}

#[test]
fn ranged_reads_open_one_chunk_at_a_time() {
    let world = World::new(1);
    let set = shards(&world, 1);
    let (header, body) = (set.verified_header(), body(&set));
    let key = unlock(header, &world.reader).unwrap();
    let bytes = |range: &std::ops::Range<u64>| body[range.start as usize..range.end as usize].to_vec();
    let tail = bytes(&key.locators_range());
    let locators = BodyPart { offset: key.locators_range().start, bytes: &tail };
    let toc_range = key.toc_range(locators).unwrap();
    assert_eq!(key.toc(locators).err().unwrap().name(), "refused", "the section itself was not given");
    let with_toc = bytes(&(toc_range.start..body.len() as u64));
    let toc = key.toc(BodyPart { offset: toc_range.start, bytes: &with_toc }).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    for (frame, plain) in (0..).zip(chunks()) {
        let range = toc.frame_range(frame).unwrap();
        let (sealed, short) = (bytes(&range), bytes(&(range.start..range.end - 1)));
        let mut open = |bytes: &[u8], offset| {
            let part = BodyPart { offset, bytes };
            key.chunk(&toc, frame, part, &mut decoder, &world.dedup.id_key)
        };
        assert!(open(&sealed, range.start).unwrap() == plain);
        assert_eq!(open(&short, range.start).unwrap_err().name(), "refused");
        assert_eq!(open(&sealed, range.start + 1).unwrap_err().name(), "refused");
        assert_eq!(toc.find(&world.dedup.id_key.chunk_id(&plain)), Some(frame));
    }
    let nothing = BodyPart { offset: 0, bytes: &body };
    let beyond = key.chunk(&toc, 4, nothing, &mut decoder, &world.dedup.id_key).unwrap_err();
    assert_eq!(beyond.name(), "refused");
    assert_eq!(toc.point_record_frame(), None);
}

#[test]
fn frames_do_not_change_places() {
    let world = World::new(2);
    let plain = [noise(1, 5_000), noise(2, 5_000)];
    let set = world.shards(world.pack(coding(3, 5), Compression::Never, &[&plain[0], &plain[1]]), 2);
    let mut swapped = body(&set);
    swapped[..2 * 5_016].rotate_left(5_016);
    let open = unlock(set.verified_header(), &world.reader).unwrap().open(swapped.into()).unwrap();
    for frame in 0..2 {
        let error = open.chunk(&mut FrameDecoder::new().unwrap(), frame, &world.dedup.id_key).unwrap_err();
        assert_eq!(error.name(), "corrupt");
    }
}

#[test]
fn other_keys_open_nothing_and_every_recipient_does() {
    let mut world = World::new(3);
    let set = shards(&world, 3);
    let header = set.verified_header();
    assert_eq!(unlock(header, &world.other_reader).err().unwrap().name(), "wrong-key");
    let read_key = ReadKey::from_seed(&world.seed, Generation::FIRST, world.vault);
    let open = unlock_with(header, &read_key).unwrap().open(body(&set).into()).unwrap();
    assert_eq!(open.toc().entries.len(), 4);
    let strangers = ReadKey::from_seed(&World::new(4).seed, Generation::FIRST, world.vault);
    assert_eq!(unlock_with(header, &strangers).err().unwrap().name(), "wrong-key");
    // Another scope's id key: what opens is not accepted under it.
    let other = World::new(4).dedup.id_key;
    let error = open.chunk(&mut FrameDecoder::new().unwrap(), 0, &other).unwrap_err();
    assert_eq!(error.name(), "corrupt");
    assert!(open_index(header, &World::new(4).index, BodyPart { offset: 0, bytes: &body(&set) }).is_err());
    // Two recipients, each with a slot.
    world.recipients.push(world.other_reader.public().clone());
    let set = shards(&world, 3);
    for key in [&world.reader, &world.other_reader] {
        assert!(unlock(set.verified_header(), key).unwrap().open(body(&set).into()).is_ok());
    }
    // Slots exchanged under a valid signature open nothing.
    let mut exchanged = set.verified_header().header().clone();
    exchanged.slots.swap(0, 1);
    let exchanged = sign(&world, exchanged);
    assert_eq!(unlock(&exchanged, &world.reader).err().unwrap().name(), "corrupt");
}

#[test]
fn a_pack_has_one_to_three_different_recipients() {
    let world = World::new(4);
    let public = |key: &RecipientPrivate| key.public().clone();
    let (one, other) = (public(&world.reader), public(&world.other_reader));
    let third = public(&World::new(5).reader);
    let fourth = public(&World::new(6).reader);
    let seal = |recipients: &[keys::RecipientPublic]| {
        let pack = world.pack(coding(3, 5), Compression::Never, &[b"content"]);
        pack.seal(&SealContext { recipients, ..world.context() }, &world.buffers, &mut rng(1))
            .map(|sealed| sealed.pack())
    };
    assert!(seal(&[one.clone(), other.clone(), third.clone()]).is_ok());
    for recipients in [vec![], vec![one.clone(), one.clone()], vec![one, other, third, fourth]] {
        assert_eq!(seal(&recipients).unwrap_err().name(), "refused");
    }
}

/// Every bit of H0 is bound: by the signature for those who can verify it, and by
/// HPKE and the commitment for a reader of bare shards who cannot yet. Short form
/// every seventh bit; `HOLDFAST_TEST_SCALE=7` tries all 2,048.
#[test]
fn a_flipped_bit_in_h0_is_refused_even_with_a_new_signature() {
    let world = World::new(5);
    let set = shards(&world, 5);
    let encoded = set.verified_header().encoded_for(0);
    let (mut parsed, mut tried) = (0, 0);
    for bit in (0..H0_BYTES * 8).step_by(7_usize.div_ceil(scale().min(7))) {
        tried += 1;
        let mut bad = encoded.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let Ok(header) = ParsedHeader::parse(&bad) else { continue };
        parsed += 1;
        assert!(header.clone().verify(world.lookup()).is_err(), "bit {bit}: the signature");
        let signed = sign(&world, header.header().clone());
        match unlock(&signed, &world.reader) {
            Err(CodecError::Corrupt { .. } | CodecError::WrongKey { .. }) => {}
            Err(error) => panic!("bit {bit}: {error}"),
            Ok(_) => panic!("bit {bit}: the data key opened under another H0"),
        }
    }
    assert!(tried >= 290 && parsed >= 80, "{tried} tried, {parsed} decoded");
}

#[test]
fn every_other_header_byte_that_keys_depend_on_is_bound() {
    let world = World::new(6);
    let set = shards(&world, 6);
    let header = set.verified_header().header();
    for at in [0, 600, 1_119] {
        let mut bad = header.clone();
        bad.slots[0].enc[at] ^= 1;
        assert_eq!(unlock(&sign(&world, bad), &world.reader).err().unwrap().name(), "corrupt");
    }
    for at in [0, 31, 32, 47] {
        let mut bad = header.clone();
        bad.slots[0].wrapped[at] ^= 1;
        assert_eq!(unlock(&sign(&world, bad), &world.reader).err().unwrap().name(), "corrupt");
    }
    let mut bad = header.clone();
    bad.commitment[9] ^= 1;
    let bad = sign(&world, bad);
    let error = unlock(&bad, &world.reader).err().unwrap().to_string();
    assert!(error.contains("the key commitment") && error.contains("nothing was decrypted"), "{error}");
    assert!(open_index(&bad, &world.index, BodyPart { offset: 0, bytes: &body(&set) }).is_err());
}

/// A writer that names a chunk by another chunk's id, or with another length.
#[test]
fn a_chunk_is_what_its_id_says() {
    let world = World::new(7);
    let lie = Chunk { id: ChunkId([9; 32]), kind: ChunkKind::Data, plain: b"not the chunk you asked for" };
    let mut packer = Packer::new(coding(3, 5), Class::Leaves64);
    let frame = FrameEncoder::new(Compression::default()).unwrap().encode(&lie).unwrap();
    packer.add(frame, &mut rng(1)).unwrap();
    let set = world.shards(packer.finish().remove(0), 7);
    let open = unlock(set.verified_header(), &world.reader).unwrap().open(body(&set).into()).unwrap();
    let frame = open.find(&ChunkId([9; 32])).unwrap();
    let error = open.chunk(&mut FrameDecoder::new().unwrap(), frame, &world.dedup.id_key).unwrap_err();
    assert!(error.to_string().contains("its content is not that of chunk"), "{error}");
}

#[test]
fn only_a_point_record_is_read_before_its_scope_is_known() {
    let world = World::new(11);
    let mut encoder = FrameEncoder::new(Compression::default()).unwrap();
    let mut frame = |kind, plain| encoder.encode(&Chunk::new(&world.dedup.id_key, kind, plain)).unwrap();
    let mut packer = Packer::new(coding(3, 5), Class::Leaves64);
    packer.add(frame(ChunkKind::Data, b"data"), &mut rng(1)).unwrap();
    let pack = packer.finish_for_point(100).last.close(frame(ChunkKind::PointRecord, b"the record")).unwrap();
    let set = world.shards(pack, 11);
    let body = body(&set);
    let part = BodyPart { offset: 0, bytes: &body };
    let key = unlock(set.verified_header(), &world.reader).unwrap();
    let toc = key.toc(part).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    assert_eq!(toc.point_record_frame(), Some(1));
    let (id, plain) = key.chunk_unnamed(&toc, 1, part, &mut decoder).unwrap();
    assert_eq!((id, plain.as_slice()), (world.dedup.id_key.chunk_id(b"the record"), &b"the record"[..]));
    assert_eq!(key.chunk_unnamed(&toc, 0, part, &mut decoder).unwrap_err().name(), "refused");
    // The writer reads its index from the range it names.
    let range = index_range(set.verified_header(), &world.index, part).unwrap();
    let end = BodyPart { offset: range.start, bytes: &body[range.start as usize..] };
    assert_eq!(open_index(set.verified_header(), &world.index, end).unwrap().len(), 2);
}

#[test]
fn a_body_of_another_pack_or_length_is_refused() {
    let world = World::new(8);
    let (set, other) = (shards(&world, 8), shards(&world, 9));
    assert_ne!(set.pack(), other.pack());
    let open = |body: Vec<u8>| unlock(set.verified_header(), &world.reader).unwrap().open(body.into());
    assert_eq!(open(body(&other)).err().unwrap().name(), "corrupt");
    let mut short = body(&set);
    short.pop();
    assert_eq!(open(short).err().unwrap().name(), "refused");
    assert_eq!(open(Vec::new()).err().unwrap().name(), "refused");
}

/// A virtual machine that was copied repeats its randomness.
#[test]
fn a_cloned_machine_repeats_neither_key_nor_name() {
    let world = World::new(9);
    let pack = |plain: &[u8]| -> Pack { world.pack(coding(3, 5), Compression::Never, &[plain]) };
    let (one, again, other) =
        (world.shards(pack(b"content"), 1), world.shards(pack(b"content"), 1), world.shards(pack(b"kontent"), 1));
    assert!(body(&one) == body(&again), "the same content is the same pack");
    assert_ne!(one.pack(), other.pack());
    assert_ne!(one.verified_header().header().commitment, other.verified_header().header().commitment);
    // Nothing of the padding repeats either: another key stream throughout.
    let same = body(&one).iter().zip(&body(&other)).filter(|(a, b)| a == b).count();
    assert!(same < body(&one).len() / 200, "{same} equal bytes");
}

#[test]
fn lengths_of_chunks_are_visible_nowhere() {
    let world = World::new(10);
    let few = world.shards(world.pack(coding(5, 9), Compression::Never, &[&noise(1, 290_000)]), 1);
    let many: Vec<Vec<u8>> = (0..400).map(|at| noise(at, 100)).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let many = world.shards(world.pack(coding(5, 9), Compression::Never, &many), 1);
    let lengths = |set: &ShardSet| set.objects().map(|object| object.object_bytes()).collect::<Vec<_>>();
    assert_eq!(lengths(&few), lengths(&many));
    let zeros = body(&many).windows(16).filter(|window| window.iter().all(|&byte| byte == 0)).count();
    assert_eq!(zeros, 0, "no padding is left in clear");
}
