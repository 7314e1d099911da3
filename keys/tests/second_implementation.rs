//! The wrap against a second implementation: X-Wing and HPKE written out from
//! FORMAT.md over AWS-LC (ML-KEM-768, X25519, SHA-3, HMAC), where the program has
//! them from the RustCrypto crates; and AES-256-GCM, which the program has from
//! AWS-LC, against the crate `aes-gcm`. What one side seals the other opens, both
//! ways; and what one refuses the other does too.

#![allow(clippy::unwrap_used, reason = "test code")]

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::{digest, hmac};
use keys::kem::{SealedBox, open, seal};
use keys::{EncKey, RecipientPrivate, Secret};
use ml_kem::ml_kem_768;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use shake::{ExtendableOutput, Shake256, Update, XofReader};

const ML_KEM_PUBLIC: usize = 1184;
const ML_KEM_CIPHERTEXT: usize = 1088;
const CASES: u8 = 100;

fn noise(rng: &mut ChaCha20Rng, count: usize) -> Vec<u8> {
    let mut out = vec![0; count];
    rng.fill_bytes(&mut out);
    out
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat()).as_ref().to_vec()
}

/// Key and nonce of HPKE's first message (RFC 9180, 5.1), base mode.
fn schedule(shared: &[u8], info: &[u8]) -> (Vec<u8>, [u8; 12]) {
    const SUITE: &[u8] = b"HPKE-v1HPKE\x64\x7a\x00\x01\x00\x02";
    let extract = |salt: &[u8], label: &[u8], material: &[u8]| mac(salt, &[SUITE, label, material]);
    let context = [vec![0], extract(b"", b"psk_id_hash", b""), extract(b"", b"info_hash", info)].concat();
    let secret = extract(shared, b"secret", b"");
    let expand = |label: &[u8], count: u8| {
        let mut out = mac(&secret, &[&[0, count], SUITE, label, &context, &[1]]);
        out.truncate(count.into());
        out
    };
    (expand(b"key", 32), expand(b"base_nonce", 12).try_into().unwrap())
}

fn combine(ml_kem: &[u8], x25519: &[u8], ciphertext: &[u8], public: &[u8]) -> Vec<u8> {
    let all = [ml_kem, x25519, ciphertext, public, b"\\.//^\\"].concat();
    digest::digest(&digest::SHA3_256, &all).as_ref().to_vec()
}

fn agree(private: &PrivateKey, public: &[u8]) -> Option<Vec<u8>> {
    agreement::agree(private, UnparsedPublicKey::new(&X25519, public), (), |shared| Ok(shared.to_vec())).ok()
}

fn gcm_seal(key: &[u8], nonce: [u8; 12], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut text = plain.to_vec();
    let cipher = Aes256Gcm::new_from_slice(key).unwrap();
    let tag = cipher.encrypt_inout_detached(&nonce.into(), aad, text.as_mut_slice().into()).unwrap();
    text.extend_from_slice(&tag);
    text
}

fn gcm_open(key: &[u8], nonce: [u8; 12], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (text, tag) = sealed.split_at(sealed.len().checked_sub(16)?);
    let mut plain = text.to_vec();
    let cipher = Aes256Gcm::new_from_slice(key).unwrap();
    let tag = Tag::try_from(tag).unwrap();
    cipher.decrypt_inout_detached(&nonce.into(), aad, plain.as_mut_slice().into(), &tag).ok()?;
    Some(plain)
}

/// The other implementation's idea of a recipient.
struct Second {
    ml_kem: DecapsulationKey,
    x25519: PrivateKey,
}

impl Second {
    /// AWS-LC takes ML-KEM keys expanded, so expanding is the other crate's here; that
    /// public and private half belong together shows in every case below.
    #[expect(deprecated, reason = "AWS-LC takes expanded keys only")]
    fn new(seed: [u8; 32]) -> Self {
        let mut expanded = [0; 96];
        let mut shake = Shake256::default();
        shake.update(&seed);
        shake.finalize_xof().read(&mut expanded);
        let private = ml_kem_768::DecapsulationKey::from_seed(expanded[..64].try_into().unwrap());
        let expanded_key = ml_kem::ExpandedKeyEncoding::to_expanded_bytes(&private);
        Self {
            ml_kem: DecapsulationKey::new(&ML_KEM_768, &expanded_key).unwrap(),
            x25519: PrivateKey::from_private_key(&X25519, &expanded[64..]).unwrap(),
        }
    }

    fn ml_kem(&self, ciphertext: &[u8]) -> Vec<u8> {
        self.ml_kem.decapsulate(Ciphertext::from(ciphertext)).unwrap().as_ref().to_vec()
    }

    fn open(&self, info: &[u8], aad: &[u8], sealed: &SealedBox) -> Option<Vec<u8>> {
        let (ml_kem, x25519) = sealed.enc.split_at(ML_KEM_CIPHERTEXT);
        let public = self.x25519.compute_public_key().unwrap();
        let shared = combine(&self.ml_kem(ml_kem), &agree(&self.x25519, x25519)?, x25519, public.as_ref());
        let (key, nonce) = schedule(&shared, info);
        gcm_open(&key, nonce, aad, &sealed.ciphertext)
    }
}

fn second_seal(public: &[u8], info: &[u8], aad: &[u8], plain: &[u8], rng: &mut ChaCha20Rng) -> SealedBox {
    let (ml_kem, x25519) = public.split_at(ML_KEM_PUBLIC);
    let (ciphertext, shared) = EncapsulationKey::new(&ML_KEM_768, ml_kem).unwrap().encapsulate().unwrap();
    let ephemeral = PrivateKey::from_private_key(&X25519, &noise(rng, 32)).unwrap();
    let sent = ephemeral.compute_public_key().unwrap();
    let shared = combine(shared.as_ref(), &agree(&ephemeral, x25519).unwrap(), sent.as_ref(), x25519);
    let (key, nonce) = schedule(&shared, info);
    let enc = [ciphertext.as_ref(), sent.as_ref()].concat().try_into().unwrap();
    SealedBox { enc, ciphertext: gcm_seal(&key, nonce, aad, plain) }
}

#[test]
fn x_wing_and_hpke_both_ways() {
    for case in 0..CASES {
        let mut rng = ChaCha20Rng::from_seed([case; 32]);
        let seed: [u8; 32] = noise(&mut rng, 32).try_into().unwrap();
        let (ours, theirs) = (RecipientPrivate::from_seed(Secret::from_array(seed)), Second::new(seed));
        let (info, aad, plain) = (noise(&mut rng, 54), noise(&mut rng, case.into()), noise(&mut rng, 32));

        let sealed = seal(ours.public(), &info, &aad, &plain, &mut rng);
        assert_eq!(theirs.open(&info, &aad, &sealed).unwrap(), plain, "case {case}: sealed here, opened there");
        let sealed = second_seal(ours.public().as_bytes(), &info, &aad, &plain, &mut rng);
        let opened = open(&ours, &info, &aad, &sealed).unwrap();
        assert_eq!(opened.expose_secret(), plain, "case {case}: sealed there, opened here");

        for at in [usize::from(case) * 11 % 1120, 1100] {
            let mut bad = sealed.clone();
            bad.enc[at] ^= 1 << (case % 8);
            assert!(open(&ours, &info, &aad, &bad).is_err() && theirs.open(&info, &aad, &bad).is_none(), "{at}");
        }
        let mut point = sealed.clone();
        point.enc[ML_KEM_CIPHERTEXT..].fill(0);
        assert!(open(&ours, &info, &aad, &point).is_err() && theirs.open(&info, &aad, &point).is_none());
    }
}

/// What a wrong ciphertext gives is part of the standard: a secret of its own.
#[test]
#[expect(deprecated, reason = "AWS-LC gives and takes expanded keys only")]
fn ml_kem_agrees_on_good_and_on_wrong_ciphertexts() {
    use ml_kem::Decapsulate;
    for case in 0..CASES {
        let private = DecapsulationKey::generate(&ML_KEM_768).unwrap();
        let public = private.encapsulation_key().unwrap();
        let expanded = private.key_bytes().unwrap();
        let ours = ml_kem_768::DecapsulationKey::from_expanded(&expanded.as_ref().try_into().unwrap()).unwrap();
        let our_public =
            ml_kem_768::EncapsulationKey::new(&public.key_bytes().unwrap().as_ref().try_into().unwrap()).unwrap();
        assert_eq!(ours.encapsulation_key(), &our_public);

        let (ciphertext, shared) = public.encapsulate().unwrap();
        assert_eq!(ours.decapsulate(&ciphertext.as_ref().try_into().unwrap())[..], *shared.as_ref());
        let (ciphertext, shared) = our_public.encapsulate_deterministic(&[case; 32].into());
        let decapsulate = |bytes: &[u8]| private.decapsulate(Ciphertext::from(bytes)).unwrap();
        assert_eq!(*decapsulate(&ciphertext).as_ref(), shared[..]);

        let mut wrong = ciphertext;
        wrong[usize::from(case) * 10] ^= 1 << (case % 8);
        let rejected = ours.decapsulate(&wrong);
        assert_ne!(rejected, shared);
        assert_eq!(*decapsulate(&wrong).as_ref(), rejected[..], "case {case}: implicit rejection");
    }
}

#[test]
fn aes_gcm_both_ways() {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    for plain_bytes in (0..70).chain([255, 4096, 65_519, 65_536, (1 << 20) + 3]) {
        for aad_bytes in [0, 1, 16, 36, 76, 256] {
            let secret: [u8; 32] = noise(&mut rng, 32).try_into().unwrap();
            let nonce: [u8; 12] = noise(&mut rng, 12).try_into().unwrap();
            let (aad, plain) = (noise(&mut rng, aad_bytes), noise(&mut rng, plain_bytes));
            let key = EncKey::new(Secret::from_array(secret));
            let mut ours = plain.clone();
            key.seal_in_place(nonce, &aad, &mut ours);
            let theirs = gcm_seal(&secret, nonce, &aad, &plain);
            assert!(ours == theirs, "{plain_bytes} bytes, {aad_bytes} beside them");
            assert!(gcm_open(&secret, nonce, &aad, &ours).unwrap() == plain);
            let mut opened = theirs.clone();
            let count = key.open_in_place(nonce, &aad, &mut opened).unwrap();
            assert!(opened[..count] == plain);
            let mut bad = theirs;
            let at = rng.next_u32() as usize % bad.len();
            bad[at] ^= 1 << (at % 8);
            assert!(gcm_open(&secret, nonce, &aad, &bad).is_none(), "byte {at}");
            assert!(key.open_in_place(nonce, &aad, &mut bad).is_err(), "byte {at}");
        }
    }
}
