//! A pack sealed by the vault, read by FORMAT.md with other people's crates alone: `reed-solomon-erasure` for the code,
//! the tree written out for the roots, `hpke` for the key slot, `hkdf` for the keys, `aes-gcm` for every sealed part,
//! `ed25519-dalek` and `ml-dsa` for the signatures. Offsets are written out here as the document has them.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use ed25519_dalek::Verifier as _;
use hkdf::Hkdf;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem as _, OpModeR};
use keys::{Generation, LocalSecret, Seed, SigningKey};
use oracles::noise;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use reed_solomon_erasure::galois_8::ReedSolomon;
use sha2::Sha256;
use vault_codec::{Buffers, Chunk, Compression, FrameEncoder, Packer, SealContext};
use vault_format::body::ChunkKind;
use vault_format::suite::{Class, Coding};
use vault_format::{Hash, ScopeId, VaultId, WriterId};

const SEED: [u8; 32] = [0x5e; 32];

/// What was put in and what came out.
struct Stored {
    chunks: Vec<Vec<u8>>,
    objects: Vec<Vec<u8>>,
    signer: SigningKey,
}

fn stored(k: u8, n: u8) -> Stored {
    let mut rng = ChaCha20Rng::from_seed([9; 32]);
    let seed = Seed::from_array(SEED);
    let (vault, writer) = (VaultId([1; 16]), WriterId([2; 16]));
    let dedup = seed.dedup_keys(Generation::FIRST, ScopeId([3; 16]));
    let reader = seed.reader_key(Generation::FIRST);
    let signer = SigningKey::random(&mut rng);
    let chunks = vec![noise(1, 70_000), b"holdfast ".repeat(9000), noise(2, 100), Vec::new(), noise(3, 1 << 20)];
    let mut encoder = FrameEncoder::new(Compression::default()).expect("level 1");
    let mut packer = Packer::new(Coding::new(k, n).expect("a coding"), Class::Leaves64);
    for plain in &chunks {
        let chunk = Chunk::new(&dedup.id_key, ChunkKind::Data, plain);
        let full = packer.add(encoder.encode(&chunk).expect("coded"), &mut rng).expect("added");
        assert!(full.is_none(), "the chunks fit one pack");
    }
    let buffers = Buffers::new(2);
    let index = seed.index_key(Generation::FIRST, writer);
    let local = LocalSecret::random(&mut rng);
    let recipients = [reader.public().clone()];
    let context =
        SealContext { vault, writer, epoch: 1, sequence: 7, recipients: &recipients, index: &index, local: &local };
    let mut packs = packer.finish();
    let pack = packs.pop().expect("one pack");
    assert!(packs.is_empty(), "the chunks fit one pack");
    let sealed = pack.seal(&context, &buffers, &mut rng).expect("sealed");
    let set = sealed.code(&signer, Hash([4; 32]), &buffers).expect("coded");
    Stored { chunks, objects: set.objects().map(|object| object.to_vec()).collect(), signer }
}

fn labelled(label: &str, bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(label, bytes)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

/// `derive` of FORMAT.md, section 8.
fn derive(salt: &str, parts: &[&[u8]], purpose: &str, context: &[&[u8]], out: &mut [u8]) {
    let material: Vec<u8> = parts.iter().flat_map(|part| frame(part)).collect();
    let mut info = frame(purpose.as_bytes());
    for part in context {
        info.extend(frame(part));
    }
    info.extend((out.len() as u16).to_le_bytes());
    Hkdf::<Sha256>::new(Some(salt.as_bytes()), &material).expand(&info, out).expect("short");
}

fn open(key: &[u8], domain: u8, counter: u64, data: &[u8], sealed: &[u8]) -> Vec<u8> {
    let nonce = [&[domain, 0, 0, 0][..], &counter.to_le_bytes()].concat();
    let (text, tag) = sealed.split_at(sealed.len() - 16);
    let mut plain = text.to_vec();
    let nonce = Nonce::try_from(nonce.as_slice()).expect("12 bytes");
    let tag = Tag::try_from(tag).expect("16 bytes");
    let cipher = Aes256Gcm::new_from_slice(key).expect("32 bytes");
    cipher.decrypt_inout_detached(&nonce, data, plain.as_mut_slice().into(), &tag).expect("the tag verifies");
    plain
}

fn leaves_root(payload: &[u8]) -> [u8; 32] {
    let mut level: Vec<[u8; 32]> =
        payload.chunks(65_536).map(|leaf| *blake3::hash(&[&[0], leaf].concat()).as_bytes()).collect();
    while level.len() > 1 {
        let above = |pair: &[[u8; 32]]| match pair {
            [left, right] => *blake3::hash(&[&[1], &left[..], &right[..]].concat()).as_bytes(),
            _ => pair[0],
        };
        level = level.chunks(2).map(above).collect();
    }
    level[0]
}

/// Both signatures over H0 and H1, with the label framed before them.
fn check_signatures(header: &[u8], signer: &SigningKey) {
    let message = [&frame(b"holdfast shard header 1")[..], &header[..4720]].concat();
    let public = signer.verifying_key().as_bytes();
    let ed25519 = ed25519_dalek::VerifyingKey::from_bytes(public[..32].try_into().expect("32 bytes")).expect("a point");
    let signature = ed25519_dalek::Signature::from_bytes(header[4720..4784].try_into().expect("64 bytes"));
    ed25519.verify(&message, &signature).expect("Ed25519 verifies");
    let encoded = ml_dsa::EncodedVerifyingKey::<ml_dsa::MlDsa65>::try_from(&public[32..]).expect("1952 bytes");
    let ml_dsa = ml_dsa::VerifyingKey::<ml_dsa::MlDsa65>::decode(&encoded);
    let encoded = ml_dsa::EncodedSignature::<ml_dsa::MlDsa65>::try_from(&header[4784..8093]).expect("3309 bytes");
    let signature = ml_dsa::Signature::<ml_dsa::MlDsa65>::decode(&encoded).expect("a signature");
    assert!(ml_dsa.verify_with_context(&message, b"", &signature), "ML-DSA-65 verifies");
}

/// The data key in the slot at 256, by HPKE.
fn unwrap(header: &[u8], h0: &[u8; 32]) -> Vec<u8> {
    let mut kem_seed = [0; 32];
    // keys/FORMAT.md: the reader's KEM seed of generation 1.
    kem_seed.copy_from_slice(Seed::from_array(SEED).reader_key(Generation::FIRST).seed().expose_secret());
    let private = <XWing as hpke::Kem>::PrivateKey::from_bytes(&kem_seed).expect("32 bytes");
    assert_eq!(
        labelled("holdfast recipient id 1", &hpke::Serializable::to_bytes(&XWing::sk_to_pk(&private)))[..16],
        header[96..112],
        "the recipient id in H0"
    );
    let enc = <XWing as hpke::Kem>::EncappedKey::from_bytes(&header[256..256 + 1120]).expect("1120 bytes");
    let info = [frame(b"holdfast wrap 1"), frame(h0)].concat();
    hpke::single_shot_open::<hpke::aead::AesGcm256, hpke::kdf::HkdfSha256, XWing>(
        &OpModeR::Base,
        &private,
        &enc,
        &info,
        &header[256 + 1120..256 + 1168],
        b"",
    )
    .expect("the slot opens")
}

/// Reads the chunks of a body by the document.
fn chunks_of(body: &[u8], header: &[u8], body_key: &[u8]) -> Vec<Vec<u8>> {
    let pack = &header[64..80];
    let section = |part: u8| [b"holdfast sect. 1", pack, &[part, 0, 0, 0]].concat();
    let locator = open(body_key, 2, 0, &section(4), &body[body.len() - 48..]);
    let (at, bytes, count) = (number(&locator[..8]), number(&locator[8..16]), number(&locator[16..20]));
    assert_eq!(at + bytes, body.len() - 96, "the table ends where the locators begin");
    let toc = open(body_key, 1, 0, &section(2), &body[at..at + bytes]);
    assert_eq!(number(&toc[..4]), count);
    assert!(toc[8 + 44 * count..].iter().all(|&byte| byte == 0), "the padding is zero");
    let mut start = 0;
    let mut chunks = Vec::new();
    for (index, entry) in toc[8..8 + 44 * count].chunks(44).enumerate() {
        let (coded_bytes, plain_bytes) = (number(&entry[32..36]), number(&entry[36..40]));
        let data =
            [b"holdfast frame 1", pack, &(index as u32).to_le_bytes(), &entry[..32], &entry[36..40], &entry[40..44]]
                .concat();
        let coded = open(body_key, 0, index as u64, &data, &body[start..start + coded_bytes + 16]);
        start += coded_bytes + 16;
        let plain =
            if entry[41] == 0 { coded } else { zstd::bulk::decompress(&coded, plain_bytes).expect("a zstd frame") };
        assert_eq!(plain.len(), plain_bytes);
        let id_key = Seed::from_array(SEED).dedup_keys(Generation::FIRST, ScopeId([3; 16])).id_key;
        assert_eq!(blake3::keyed_hash(id_key.expose_secret(), &plain).as_bytes()[..], entry[..32], "chunk id");
        chunks.push(plain);
    }
    assert_eq!(start + 8 + 40 * count + 16, at, "the index section lies between frames and table");
    chunks
}

fn read_back(k: usize, n: usize, lost: &[usize]) {
    let stored = stored(k as u8, n as u8);
    let header = &stored.objects[0][..8192];
    assert_eq!(&header[..12], b"HFSHARD1\x01\x00\x01\x00");
    assert_eq!((header[80], header[81]), (k as u8, n as u8));
    check_signatures(header, &stored.signer);
    let payload_bytes = number(&header[88..92]) * 65_536;
    let mut payloads = Vec::new();
    for (index, object) in stored.objects.iter().enumerate() {
        assert_eq!(object[..8176], header[..8176], "one header for all shards");
        assert_eq!(usize::from(object[8176]), index);
        let payload = &object[8192..8192 + payload_bytes];
        assert_eq!(leaves_root(payload)[..], header[3824 + 32 * index..][..32], "root {index}");
        let trailer = &object[object.len() - 64..];
        assert_eq!(&trailer[..8], b"HFTRAIL1");
        assert_eq!(number(&trailer[8..16]), object.len());
        assert_eq!(trailer[16..48], labelled("holdfast header hash 1", &header[..8176]));
        assert_eq!(trailer[56..], labelled("holdfast trailer check 1", &trailer[..56])[..8]);
        payloads.push((!lost.contains(&index)).then(|| payload.to_vec()));
    }
    if k > 1 {
        ReedSolomon::new(k, n - k).expect("a code").reconstruct(&mut payloads).expect("k are enough");
    }
    let body: Vec<u8> = payloads.into_iter().flatten().take(k).flatten().collect();
    let h0 = labelled("holdfast h0 hash 1", &header[..256]);
    let data_key = unwrap(header, &h0);
    let mut both = [0; 64];
    derive("holdfast pack keys 1", &[&data_key], "seal and commit", &[&h0], &mut both);
    assert_eq!(both[32..], header[3760..3792], "the commitment");
    let mut found = chunks_of(&body, header, &both[..32]);
    check_index(&body, header, &h0, &found);
    // The writer may order the chunks as it likes.
    let mut put_in = stored.chunks;
    found.sort();
    put_in.sort();
    assert!(found == put_in, "the pack holds what was put in");
}

/// The index section, under the key that the writer derives for this pack.
fn check_index(body: &[u8], header: &[u8], h0: &[u8; 32], chunks: &[Vec<u8>]) {
    let index_key = minicbor::to_vec(Seed::from_array(SEED).index_key(Generation::FIRST, WriterId([2; 16])));
    let index_key = &index_key.expect("memory")[2..];
    assert_eq!(index_key.len(), 32, "a key file holds the bytes behind a CBOR head of two");
    let mut key = [0; 32];
    derive("holdfast index key 1", &[index_key], "index section", &[h0, &header[3760..3792]], &mut key);
    let section = |part: u8| [b"holdfast sect. 1", &header[64..80], &[part, 0, 0, 0]].concat();
    let locator = open(&key, 2, 0, &section(3), &body[body.len() - 96..body.len() - 48]);
    let (at, bytes) = (number(&locator[..8]), number(&locator[8..16]));
    let index = open(&key, 1, 0, &section(1), &body[at..at + bytes]);
    assert_eq!((number(&index[..4]), index.len()), (chunks.len(), 8 + 40 * chunks.len()));
    for (entry, chunk) in index[8..].chunks(40).zip(chunks) {
        assert_eq!((number(&entry[32..36]), entry[36]), (chunk.len(), 1), "length and kind of a chunk");
    }
}

#[test]
fn a_pack_of_5_of_9_is_read_by_the_document_after_four_losses() {
    read_back(5, 9, &[0, 2, 3, 8]);
}

#[test]
fn a_pack_of_3_of_5_is_read_by_the_document_after_two_losses() {
    read_back(3, 5, &[1, 4]);
}

#[test]
fn a_replicated_pack_is_read_by_the_document_after_the_loss_of_all_but_one() {
    read_back(1, 3, &[0, 2]);
}
