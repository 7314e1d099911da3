//! What anyone can check and rebuild without a key.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use vault_codec::{
    CodecError, Compression, ParsedHeader, assemble, reconstruct, repair, verify_header, verify_shard_object,
};
use vault_format::Hash;
use vault_format::shard::{HEADER_BYTES, Header};
use vault_format::suite::{Class, Coding};
use world::{World, admitted, coding, noise, payload, sign};

const CODINGS: [(u8, u8); 5] = [(5, 9), (3, 5), (7, 15), (1, 3), (1, 1)];

fn stored(world: &World, coding: Coding, number: u64, bytes: usize) -> Vec<Vec<u8>> {
    let pack = world.pack(coding, Compression::Never, &[&noise(number, bytes)]);
    world.shards(pack, number).objects().map(|object| object.to_vec()).collect()
}

#[test]
fn what_is_bad_is_not_admitted_and_any_k_good_ones_are_enough() {
    let world = World::new(1);
    for (k, n) in CODINGS {
        let coding = coding(k, n);
        let objects = stored(&world, coding, 1, 30_000);
        let other = stored(&world, coding, 2, 30_000);
        let header = verify_header(&objects[0], world.lookup()).unwrap();
        let body = assemble(&header, &admitted(&header, &objects), &world.buffers).unwrap();
        // As many as may be lost are forged (shards of another pack), cut short,
        // empty, or under an index that does not exist; the good ones come last.
        let lost = usize::from(coding.parity_shards());
        for (at, object) in objects.iter().enumerate().take(lost) {
            let (index, payload) = match at % 4 {
                0 => (at as u8, payload(&other[at])),
                1 => (at as u8, &payload(object)[1..]),
                2 => (at as u8, &[][..]),
                _ => (n, payload(object)),
            };
            assert_eq!(header.admit(index, payload.to_vec().into()).unwrap_err().name(), "corrupt", "{k} of {n}");
        }
        let mut good = admitted(&header, &objects[lost..]);
        let repaired = repair(&header, &good, &world.buffers).unwrap();
        for (object, original) in repaired.objects().zip(&objects) {
            assert!(object.to_vec() == *original, "{k} of {n}, shard {}", object.index());
        }
        assert!(assemble(&header, &good, &world.buffers).unwrap() == body);
        // One more is too many.
        good.pop();
        let too_few = (usize::from(k) - 1, usize::from(k));
        for error in [
            repair(&header, &good, &world.buffers).err().unwrap(),
            assemble(&header, &good, &world.buffers).unwrap_err(),
        ] {
            assert!(matches!(error, CodecError::NotEnough { have, need, .. } if (have, need) == too_few), "{error}");
        }
    }
}

#[test]
fn a_shard_counts_once_and_under_its_own_header_only() {
    let world = World::new(2);
    let objects = stored(&world, coding(3, 5), 1, 30_000);
    let other = stored(&world, coding(3, 5), 2, 30_000);
    let header = verify_header(&objects[4], world.lookup()).unwrap();
    let other_header = verify_header(&other[0], world.lookup()).unwrap();
    let good = admitted(&header, &objects);
    let twice = [0, 0, 3].map(|at| good[at].clone());
    let error = assemble(&header, &twice, &world.buffers).unwrap_err();
    assert!(matches!(error, CodecError::NotEnough { have: 2, need: 3, .. }), "{error}");
    // Admitted it was, but as a shard of another pack.
    let mut mixed = good[..3].to_vec();
    mixed.extend(admitted(&other_header, &other[3..]));
    assert_eq!(assemble(&header, &mixed, &world.buffers).unwrap_err().name(), "refused");
    assert_eq!(repair(&header, &mixed, &world.buffers).err().unwrap().name(), "refused");
}

#[test]
fn a_renamed_shard_is_known_by_its_root() {
    let world = World::new(3);
    let objects = stored(&world, coding(5, 9), 1, 30_000);
    let header = ParsedHeader::parse(&objects[0]).unwrap();
    for (index, object) in objects.iter().enumerate() {
        assert_eq!(header.index_of(payload(object)), Some(index as u8));
    }
    assert_eq!(header.index_of(&noise(1, payload(&objects[0]).len())), None);
    assert_eq!(header.index_of(b""), None);
}

#[test]
fn an_audit_checks_any_leaf_with_its_path() {
    let world = World::new(4);
    for (bytes, class) in [(200_000, Class::Leaves1), (1_000_000, Class::Leaves4), (4_000_000, Class::Leaves16)] {
        let objects = stored(&world, coding(5, 9), 1, bytes);
        let header = verify_header(&objects[0], world.lookup()).unwrap();
        assert_eq!(header.h0().class, class);
        let layout = header.layout();
        let part =
            |object: &[u8], range: std::ops::Range<u64>| object[range.start as usize..range.end as usize].to_vec();
        for (index, object) in objects.iter().enumerate() {
            let (index, nodes) = (index as u8, part(object, layout.nodes()));
            for leaf in 0..class.leaves() {
                let bytes = part(object, layout.leaf(leaf));
                header.check_leaf(index, leaf, &bytes, &nodes).unwrap();
                let mut bad = bytes.clone();
                bad[leaf] ^= 1;
                assert!(header.check_leaf(index, leaf, &bad, &nodes).is_err());
                assert!(header.check_leaf(index, leaf, &bytes[1..], &nodes).is_err());
                assert!(header.check_leaf((index + 1) % 9, leaf, &bytes, &nodes).is_err());
                assert!(header.check_leaf(index, leaf + 1, &bytes, &nodes).is_err());
                assert!(header.check_leaf(9, leaf, &bytes, &nodes).is_err());
                assert!(header.check_leaf(index, leaf, &bytes, &[&nodes[..], &[0; 32]].concat()).is_err());
            }
            let trailer = part(object, layout.trailer());
            assert_eq!(header.check_ends(&object[..HEADER_BYTES], &trailer).unwrap(), index);
            let other = part(&objects[usize::from(index + 1) % 9], layout.trailer());
            assert!(header.check_ends(&object[..HEADER_BYTES], &other).is_err());
            assert!(header.check_ends(&object[1..HEADER_BYTES], &trailer).is_err());
            let mut reserved = object[..HEADER_BYTES].to_vec();
            reserved[HEADER_BYTES - 1] = 1;
            assert!(header.check_ends(&reserved, &trailer).is_err());
            assert!(header.check_ends(&object[..HEADER_BYTES], &trailer[1..]).is_err());
            assert!(header.check_ends(&object[..HEADER_BYTES], &[&trailer[..], &[0]].concat()).is_err());
        }
    }
}

#[test]
fn damage_names_the_leaf() {
    let world = World::new(5);
    let mut object = stored(&world, coding(5, 9), 1, 1_000_000).remove(2);
    object[HEADER_BYTES + 3 * 65_536 + 9] ^= 1;
    let error = verify_shard_object(&object, world.lookup()).unwrap_err().to_string();
    assert!(error.contains("shard 2 of pack") && error.contains("are not the signed ones: 3"), "{error}");
}

#[test]
fn truncated_and_overlong_objects_are_refused() {
    let world = World::new(6);
    let object = stored(&world, coding(3, 5), 1, 500_000).remove(1);
    let cuts =
        [0, 1, 255, 256, 4_000, 8_191, 8_192, 8_193, 70_000, object.len() - 65, object.len() - 64, object.len() - 1];
    for cut in cuts {
        assert_eq!(verify_shard_object(&object[..cut], world.lookup()).unwrap_err().name(), "corrupt", "{cut}");
    }
    assert!(verify_shard_object(&[&object[..], &[0]].concat(), world.lookup()).is_err());
    assert!(verify_shard_object(&object, world.lookup()).is_ok());
}

#[test]
fn only_the_writers_own_certificate_counts() {
    let world = World::new(7);
    let object = stored(&world, coding(3, 5), 1, 10_000).remove(0);
    let error = verify_header(&object, |_| None).unwrap_err();
    assert!(
        matches!(error, CodecError::UnknownCertificate { certificate, .. } if certificate == world.certified.certificate_hash())
    );
    // A lookup that answers with another certificate is not believed.
    assert_eq!(verify_header(&object, |_| Some(&world.stranger)).unwrap_err().name(), "refused");
    // Another writer of the same vault signs a header that names this writer.
    let header = ParsedHeader::parse(&object).unwrap();
    let forged = Header { certificate: world.stranger.certificate_hash(), ..header.header().clone() };
    assert_eq!(sign(&world, forged).verify(world.lookup()).unwrap_err().name(), "corrupt");
    // Signed by the right key, but of a vault it is not certified for.
    let mut elsewhere = header.header().clone();
    elsewhere.h0.vault.0[0] ^= 1;
    assert_eq!(sign(&world, elsewhere).verify(world.lookup()).unwrap_err().name(), "corrupt");
}

/// A writer that signs a root which is not that of the code: k good shards exist,
/// but the repair must not store what nobody signed.
#[test]
fn a_repair_ends_with_the_signed_roots_or_not_at_all() {
    let world = World::new(8);
    let objects = stored(&world, coding(3, 5), 1, 100_000);
    let mut header = ParsedHeader::parse(&objects[0]).unwrap().header().clone();
    header.roots[4] = Hash([7; 32]);
    let header = sign(&world, header).verify(world.lookup()).unwrap();
    let good = admitted(&header, &objects[..3]);
    let error = repair(&header, &good, &world.buffers).err().unwrap().to_string();
    assert!(error.contains("the code of a pack") && error.contains("shard 4"), "{error}");
    // The body itself is still there for a restore.
    assert!(assemble(&header, &good, &world.buffers).is_ok());
}

#[test]
fn objects_are_named_by_writer_pack_and_index() {
    let world = World::new(9);
    let set = world.shards(world.pack(coding(5, 9), Compression::Never, &[b"content"]), 1);
    for (index, object) in set.objects().enumerate() {
        let named = vault_format::names::parse_shard(object.name()).unwrap();
        assert_eq!(named, (world.writer, set.pack(), index as u8));
        assert_eq!(object.object_bytes() as u64, set.verified_header().layout().object_bytes());
        assert_eq!(object.object_bytes(), object.to_vec().len());
    }
    assert_eq!(set.pack_ref().header, set.header_hash());
}

#[test]
fn shards_alone_satisfy_the_code() {
    let world = World::new(10);
    let objects = stored(&world, coding(5, 9), 1, 300_000);
    let left: Vec<Option<&[u8]>> =
        objects.iter().enumerate().map(|(at, object)| (at >= 4).then(|| payload(object))).collect();
    for (index, shard) in reconstruct(coding(5, 9), &left).unwrap() {
        assert!(shard == payload(&objects[index]));
    }
}
