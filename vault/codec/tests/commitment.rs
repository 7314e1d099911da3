//! AES-GCM does not commit to its key: a ciphertext can be made that opens under
//! two keys, to two contents (Dodis, Grubbs, Ristenpart, Woodage 2018; Len,
//! Grubbs, Ristenpart 2021). A bad writer could so give two readers two backups
//! under one signature. The header's commitment allows one data key only, and it
//! is compared before anything is decrypted. This file makes such a ciphertext.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};
use keys::hash::labelled;
use keys::wrap::wrap;
use keys::{DataKey, EncKey, Secret};
use vault_codec::{Compression, ParsedHeader, unlock};
use vault_format::body::{ChunkKind, Codec, NonceDomain, TocEntry, nonce};
use vault_format::shard::Header;
use vault_format::{ChunkId, labels};
use world::{World, coding, noise, rng, sign};

/// A product in GCM's field (SP 800-38D, 6.3); the first bit is the highest.
fn multiply(a: u128, b: u128) -> u128 {
    let (mut product, mut shifted) = (0, b);
    for bit in (0..128).rev() {
        if a >> bit & 1 == 1 {
            product ^= shifted;
        }
        let carry = shifted & 1;
        shifted = (shifted >> 1) ^ (carry * (0xe1 << 120));
    }
    product
}

fn power(base: u128, exponent: u128) -> u128 {
    const ONE: u128 = 1 << 127;
    (0..128).rev().fold(ONE, |value, bit| {
        let square = multiply(value, value);
        if exponent >> bit & 1 == 1 { multiply(square, base) } else { square }
    })
}

fn blocks(bytes: &[u8]) -> Vec<u128> {
    let block = |chunk: &[u8]| {
        let mut padded = [0; 16];
        padded[..chunk.len()].copy_from_slice(chunk);
        u128::from_be_bytes(padded)
    };
    bytes.chunks(16).map(block).collect()
}

/// What GCM computes under one key, opened up.
struct Gcm {
    hash_key: u128,
    mask: u128,
}

impl Gcm {
    fn new(key: &EncKey, nonce: [u8; 12]) -> Self {
        let cipher = EncryptingKey::ecb(UnboundCipherKey::new(&AES_256, key.expose_secret()).unwrap()).unwrap();
        let encrypt = |block: u128| {
            let mut bytes = block.to_be_bytes();
            cipher.encrypt(&mut bytes).unwrap();
            u128::from_be_bytes(bytes)
        };
        let mut counter = [0; 16];
        counter[..12].copy_from_slice(&nonce);
        Self { hash_key: encrypt(0), mask: encrypt(u128::from_be_bytes(counter) | 1) }
    }

    fn tag(&self, input: &[u128]) -> u128 {
        input.iter().fold(0, |sum, block| multiply(sum ^ block, self.hash_key)) ^ self.mask
    }
}

/// A ciphertext with a tag that both keys accept: one block is solved for.
fn opens_under_both(keys: [&EncKey; 2], nonce: [u8; 12], aad: &[u8], bytes: usize) -> Vec<u8> {
    assert_eq!((bytes % 16, aad.len() % 16), (0, 12));
    let gcms = keys.map(|key| Gcm::new(key, nonce));
    let cipher_at = aad.len().div_ceil(16);
    let mut input = [blocks(aad), blocks(&noise(77, bytes))].concat();
    input.push(((aad.len() as u128 * 8) << 64) | (bytes as u128 * 8));
    input[cipher_at] = 0;
    let weight = (input.len() - cipher_at) as u128;
    let difference = gcms[0].tag(&input) ^ gcms[1].tag(&input);
    let factor = power(gcms[0].hash_key, weight) ^ power(gcms[1].hash_key, weight);
    input[cipher_at] = multiply(difference, power(factor, u128::MAX - 1));
    let tag = gcms[0].tag(&input);
    assert_eq!(tag, gcms[1].tag(&input));
    let text = &input[cipher_at..input.len() - 1];
    text.iter().chain([&tag]).flat_map(|block| block.to_be_bytes()).collect()
}

#[test]
fn a_ciphertext_for_two_keys_is_refused_by_the_commitment() {
    let mut world = World::new(1);
    world.recipients.push(world.other_reader.public().clone());
    let set = world.shards(world.pack(coding(3, 5), Compression::Never, &[b"content"]), 1);
    let honest = set.verified_header().header();
    let mut rng = rng(2);
    let h0_hash = labelled(labels::H0, &honest.h0.encode());
    let data_keys =
        [(); 2].map(|()| DataKey::derive(&Secret::random(&mut rng), &world.local, world.local.content_hasher()));
    let [(one, commitment), (other, other_commitment)] = [0, 1].map(|at| data_keys[at].pack_keys(&h0_hash));

    // GCM itself is content with both keys.
    let entry =
        TocEntry { id: ChunkId([1; 32]), coded_bytes: 640, plain_bytes: 640, kind: ChunkKind::Data, codec: Codec::Raw };
    let (nonce, aad) = (nonce(NonceDomain::Frame, 0), entry.associated_data(honest.h0.pack, 0));
    let crafted = opens_under_both([&one, &other], nonce, &aad, 640);
    let open = |key: &EncKey| {
        let mut text = crafted.clone();
        let count = key.open_in_place(nonce, &aad, &mut text).expect("GCM accepts it under either key");
        text.truncate(count);
        text
    };
    assert_ne!(open(&one), open(&other), "two readers would see two contents");

    // One slot with each key, validly wrapped and signed: only the committed one
    // is handed out.
    let slots = [0, 1].map(|at| wrap(&data_keys[at], &world.recipients[at], &h0_hash, &mut rng)).to_vec();
    let readers = [&world.reader, &world.other_reader];
    for (committed, commitment) in [commitment, other_commitment].into_iter().enumerate() {
        let header: ParsedHeader =
            sign(&world, Header { slots: slots.clone(), commitment: commitment.0, ..honest.clone() });
        let header = header.verify(world.lookup()).unwrap();
        assert!(unlock(&header, readers[committed]).is_ok());
        let error = unlock(&header, readers[1 - committed]).err().unwrap().to_string();
        assert!(error.contains("the key commitment") && error.contains("nothing was decrypted"), "{error}");
    }
}
