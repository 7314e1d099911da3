use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{SeedableRng, TryCryptoRng, TryRng};

use super::*;

/// Official vectors: X-Wing, HKDF-SHA256, ChaCha20-Poly1305 (origin in `testdata/README.md`).
const VECTORS: &str = include_str!("../../testdata/hpke-xwing.json");

/// Gives out fixed bytes, so that an encapsulation can be repeated.
struct Tape(Vec<u8>);

impl TryRng for Tape {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> std::result::Result<u32, Self::Error> {
        unreachable!("only bytes are drawn")
    }

    fn try_next_u64(&mut self) -> std::result::Result<u64, Self::Error> {
        unreachable!("only bytes are drawn")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> std::result::Result<(), Self::Error> {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Tape {}

fn unhex(value: &serde_json::Value) -> Vec<u8> {
    let text = value.as_str().expect("hex text");
    let mut out = vec![0; text.len() / 2];
    vault_format::ids::hex_into(text, &mut out).expect("hex digits");
    out
}

fn private(byte: u8) -> RecipientPrivate {
    RecipientPrivate::from_seed(Secret::from_array([byte; 32]))
}

fn rng(byte: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([byte; 32])
}

#[test]
fn official_vectors_of_x_wing_and_the_schedule() {
    let cases: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let recipient = RecipientPrivate::from_seed(Secret::from_slice(&unhex(&case["skRm"])).unwrap());
        assert_eq!(recipient.public().as_bytes()[..], unhex(&case["pkRm"]));
        let (enc, shared) = recipient.public().key.encapsulate_with_rng(&mut Tape(unhex(&case["ikmE"])));
        assert_eq!(enc.0[..], unhex(&case["enc"]));
        assert_eq!(shared[..], unhex(&case["shared_secret"]));
        assert_eq!(expand(recipient.seed()).try_decapsulate(&enc).unwrap(), shared);

        // The second case's schedule is another KDF's; its KEM is ours.
        if case["kdf_id"] != 1 {
            continue;
        }
        let suite = SuiteId { kem: 0x647A, kdf: 0x0001, aead: 0x0003 };
        let context = schedule(suite, &shared, &unhex(&case["info"]));
        assert_eq!(context.key.expose_secret()[..], unhex(&case["key"]));
        assert_eq!(context.nonce[..], unhex(&case["base_nonce"]));
        let first = &case["encryptions"][0];
        assert_eq!(unhex(&first["nonce"]), context.nonce);
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::CHACHA20_POLY1305, context.key.expose_secret());
        let mut buffer = unhex(&first["pt"]);
        aws_lc_rs::aead::LessSafeKey::new(key.unwrap())
            .seal_in_place_append_tag(
                aws_lc_rs::aead::Nonce::assume_unique_for_key(context.nonce),
                aws_lc_rs::aead::Aad::from(unhex(&first["aad"])),
                &mut buffer,
            )
            .unwrap();
        assert_eq!(buffer, unhex(&first["ct"]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Both directions against the registry's HPKE, in the suite that is stored.
    #[test]
    fn agrees_with_the_oracle(seed: [u8; 32], noise: [u8; 32], info: Vec<u8>, aad: Vec<u8>, plain: Vec<u8>) {
        let ours = RecipientPrivate::from_seed(Secret::from_array(seed));
        let theirs = <XWing as hpke::Kem>::PrivateKey::from_bytes(&seed).unwrap();
        let public = XWing::sk_to_pk(&theirs);
        prop_assert_eq!(&public.to_bytes()[..], &ours.public().as_bytes()[..]);

        let sealed = seal(ours.public(), &info, &aad, &plain, &mut ChaCha20Rng::from_seed(noise));
        let enc = <XWing as hpke::Kem>::EncappedKey::from_bytes(&sealed.enc).unwrap();
        let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base, &theirs, &enc, &info, &sealed.ciphertext, &aad,
        );
        prop_assert_eq!(opened.unwrap(), plain.clone());

        let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
            &OpModeS::Base, &public, &info, &plain, &aad, &mut ChaCha20Rng::from_seed(noise),
        ).unwrap();
        let theirs = SealedBox { enc: enc.to_bytes().as_slice().try_into().unwrap(), ciphertext };
        prop_assert!(theirs == sealed, "the same randomness gives the same box");
        let opened = open(&ours, &info, &aad, &theirs).unwrap();
        prop_assert_eq!(opened.expose_secret(), &plain[..]);
    }
}

#[test]
fn a_wrong_key_never_opens() {
    let sealed = seal(private(1).public(), b"info", b"aad", b"data key", &mut rng(1));
    for byte in 2..=255 {
        assert!(open(&private(byte), b"info", b"aad", &sealed).is_err());
    }
    assert!(open(&private(1), b"inf0", b"aad", &sealed).is_err());
    assert!(open(&private(1), b"info", b"aae", &sealed).is_err());
}

#[test]
fn a_flipped_byte_at_any_position_is_refused() {
    let recipient = private(1);
    let sealed = seal(recipient.public(), b"info", b"aad", &[7; 32], &mut rng(2));
    for at in 0..sealed.enc.len() {
        let mut bad = sealed.clone();
        bad.enc[at] ^= 1 << (at % 8);
        assert!(open(&recipient, b"info", b"aad", &bad).is_err(), "enc byte {at}");
    }
    for at in 0..sealed.ciphertext.len() {
        let mut bad = sealed.clone();
        bad.ciphertext[at] ^= 1 << (at % 8);
        assert!(open(&recipient, b"info", b"aad", &bad).is_err(), "ciphertext byte {at}");
        bad.ciphertext.truncate(at);
        assert!(open(&recipient, b"info", b"aad", &bad).is_err(), "ciphertext of {at} bytes");
    }
    assert_eq!(open(&recipient, b"info", b"aad", &sealed).unwrap().expose_secret(), [7; 32]);
}

/// The points of low order on Curve25519 and its twist, in their canonical form
/// (orders 1, 2, 4, 8).
fn low_order_points() -> Vec<[u8; 32]> {
    let p_minus_1 = {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xec;
        bytes[31] = 0x7f;
        bytes
    };
    let mut one = [0; 32];
    one[0] = 1;
    let of_order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let mut points = vec![[0; 32], one, p_minus_1];
    for text in of_order_8 {
        let mut bytes = [0; 32];
        vault_format::ids::hex_into(text, &mut bytes).unwrap();
        points.push(bytes);
    }
    points
}

#[test]
fn low_order_points_are_refused_on_both_sides() {
    let recipient = private(1);
    for point in low_order_points() {
        let mut public = *recipient.public().as_bytes();
        public[ML_KEM_PUBLIC_BYTES..].copy_from_slice(&point);
        assert!(RecipientPublic::from_slice(&public).is_err());

        // The tag alone would refuse this box; the decapsulation must already.
        let mut sealed = seal(recipient.public(), b"", b"", b"x", &mut rng(3));
        sealed.enc[KEM_ENC_BYTES - 32..].copy_from_slice(&point);
        assert!(expand(recipient.seed()).try_decapsulate(&Ciphertext::from(sealed.enc)).is_err());
        assert!(open(&recipient, b"", b"", &sealed).is_err());
    }
}

#[test]
fn public_keys_of_other_lengths_or_unreduced_are_refused() {
    let good = *private(1).public().as_bytes();
    assert!(RecipientPublic::from_slice(&good[..1215]).is_err());
    assert!(RecipientPublic::from_slice(&[&good[..], &[0]].concat()).is_err());
    let mut unreduced = good;
    unreduced[..3].fill(0xff);
    assert!(RecipientPublic::from_slice(&unreduced).is_err());
    assert_eq!(RecipientPublic::from_slice(&good).unwrap(), *private(1).public());
}
