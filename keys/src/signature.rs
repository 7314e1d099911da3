//! Signatures: Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204) over the same bytes.
//! Both must verify. Ed25519 stands if lattices fall, ML-DSA if curves do; the
//! ML-DSA implementation is young, so it never stands alone.
//!
//! What always holds: the signed bytes begin with the framed label of what is
//! signed, so a signature made for one purpose is none for another; Ed25519 is
//! verified strictly (no second encodings, no keys of low order); signing is
//! deterministic, so that a repeated run gives the same record and a test can
//! pin it. Whoever can make this signer glitch has the host already.

use std::fmt;

use ed25519_dalek::Signer as _;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use ml_dsa::{B32, EncodedSignature, EncodedVerifyingKey, MlDsa65, Signature as MlDsaSignature};
use rand_core::CryptoRng;
use vault_format::shard::Signatures;
use vault_format::vault::PUBLIC_KEYS_BYTES;
use vault_format::{Hash, labels};

use crate::derive::frames;
use crate::error::{KeysError, Result, SignatureFault};
use crate::hash::labelled;
use crate::memory;
use crate::secret::Secret;

/// Bytes of an Ed25519 public key, which stands before ML-DSA-65's.
const ED25519_PUBLIC_BYTES: usize = 32;

/// A pair of signing keys, kept with its public half.
pub struct SigningKey {
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa: Box<ml_dsa::SigningKey<MlDsa65>>,
    public: VerifyingKey,
}

impl SigningKey {
    /// Draws a new pair.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::from_seeds(Secret::random(rng), Secret::random(rng))
    }

    /// The pair of two 32-byte seeds.
    #[expect(clippy::needless_pass_by_value, reason = "the seeds are consumed so that they are wiped")]
    pub fn from_seeds(ed25519: Secret<32>, ml_dsa: Secret<32>) -> Self {
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(ed25519.expose_secret());
        let seed: &B32 = ml_dsa.expose_secret().into();
        let ml_dsa = Box::new(ml_dsa::SigningKey::<MlDsa65>::from_seed(seed));
        let mut bytes = Vec::with_capacity(PUBLIC_KEYS_BYTES);
        bytes.extend_from_slice(ed25519.verifying_key().as_bytes());
        bytes.extend_from_slice(&ml_dsa.expanded_key().verifying_key().encode());
        let public = VerifyingKey::from_slice(&bytes).expect("a signing key has a valid public key");
        Self { ed25519, ml_dsa, public }
    }

    /// The public pair.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// The public pair's fingerprint.
    pub fn fingerprint(&self) -> Hash {
        self.public.fingerprint
    }

    /// Signs `message` for the purpose `label` names.
    pub fn sign(&self, label: &str, message: &[u8]) -> Signatures {
        let message = framed(label, message);
        let ml_dsa = self.ml_dsa.expanded_key().sign_deterministic(&message, b"");
        let ml_dsa = ml_dsa.expect("an empty context is never too long").encode();
        Signatures { ed25519: self.ed25519.sign(&message).to_bytes(), ml_dsa: ml_dsa.0 }
    }
}

/// Stored as the two seeds, Ed25519 first.
impl<C> Encode<C> for SigningKey {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> std::result::Result<(), encode::Error<W::Error>> {
        e.array(2)?.bytes(self.ed25519.as_bytes())?.bytes(self.ml_dsa.as_seed())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for SigningKey {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> std::result::Result<Self, decode::Error> {
        let at = d.position();
        if d.array()? != Some(2) {
            return Err(decode::Error::message("signing key: two seeds").at(at));
        }
        Ok(Self::from_seeds(Secret::decode(d, ctx)?, Secret::decode(d, ctx)?))
    }
}

/// A checked pair of verifying keys.
#[derive(Clone)]
pub struct VerifyingKey {
    bytes: Box<[u8; PUBLIC_KEYS_BYTES]>,
    ed25519: ed25519_dalek::VerifyingKey,
    ml_dsa: Box<ml_dsa::VerifyingKey<MlDsa65>>,
    fingerprint: Hash,
}

impl VerifyingKey {
    /// Reads 1984 bytes: Ed25519's key (on the curve, not of low order), then
    /// ML-DSA-65's.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        let invalid = || KeysError::InvalidKey { what: "the pair of verifying keys" };
        let bytes: [u8; PUBLIC_KEYS_BYTES] = bytes.try_into().map_err(|_| invalid())?;
        memory::key(&bytes, || Self::checked(&bytes))
    }

    fn checked(bytes: &[u8; PUBLIC_KEYS_BYTES]) -> Result<Self> {
        let invalid = || KeysError::InvalidKey { what: "the pair of verifying keys" };
        let (ed25519, ml_dsa) = bytes.split_first_chunk::<ED25519_PUBLIC_BYTES>().expect("1984 bytes have a first 32");
        let ed25519 = ed25519_dalek::VerifyingKey::from_bytes(ed25519).map_err(|_| invalid())?;
        if ed25519.is_weak() {
            return Err(invalid());
        }
        let ml_dsa = EncodedVerifyingKey::<MlDsa65>::try_from(ml_dsa).map_err(|_| invalid())?;
        let ml_dsa = Box::new(ml_dsa::VerifyingKey::decode(&ml_dsa));
        let fingerprint = labelled(labels::FINGERPRINT, bytes);
        Ok(Self { bytes: Box::new(*bytes), ed25519, ml_dsa, fingerprint })
    }

    /// The pair as it is stored.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEYS_BYTES] {
        &self.bytes
    }

    /// Labelled hash of the pair: how signers are named.
    pub fn fingerprint(&self) -> Hash {
        self.fingerprint
    }

    /// What people compare.
    pub fn check(&self) -> KeyCheck {
        KeyCheck::of(&self.fingerprint)
    }

    /// Verifies both signatures over `message` for the purpose `label` names.
    /// Both are always computed.
    pub fn verify(
        &self,
        label: &str,
        message: &[u8],
        signatures: &Signatures,
    ) -> std::result::Result<(), SignatureFault> {
        let message = framed(label, message);
        memory::verified(&self.fingerprint, &message, signatures, || self.check_both(&message, signatures))
    }

    fn check_both(&self, message: &[u8], signatures: &Signatures) -> std::result::Result<(), SignatureFault> {
        let ed25519 = ed25519_dalek::Signature::from_bytes(&signatures.ed25519);
        let ed25519 = self.ed25519.verify_strict(message, &ed25519).is_ok();
        let ml_dsa = MlDsaSignature::<MlDsa65>::decode(&EncodedSignature::<MlDsa65>::from(signatures.ml_dsa))
            .is_some_and(|signature| self.ml_dsa.verify_with_context(message, b"", &signature));
        match (ed25519, ml_dsa) {
            (true, true) => Ok(()),
            (false, true) => Err(SignatureFault::Ed25519),
            (true, false) => Err(SignatureFault::MlDsa),
            (false, false) => Err(SignatureFault::Both),
        }
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.fingerprint)
    }
}

impl<C> Encode<C> for VerifyingKey {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> std::result::Result<(), encode::Error<W::Error>> {
        e.bytes(&*self.bytes)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for VerifyingKey {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> std::result::Result<Self, decode::Error> {
        let at = d.position();
        Self::from_slice(d.bytes()?).map_err(|_| decode::Error::message("verifying keys").at(at))
    }
}

/// The signed bytes: the framed label, then the message.
fn framed(label: &str, message: &[u8]) -> Vec<u8> {
    let mut out = frames(&[label.as_bytes()]);
    out.reserve_exact(message.len());
    out.extend_from_slice(message);
    out
}

/// The first three bytes of a fingerprint, for people: `7C-A1-90`. It tells
/// vaults and generations apart; it does not stop a forger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCheck(pub [u8; 3]);

impl KeyCheck {
    /// The check of a fingerprint.
    pub fn of(fingerprint: &Hash) -> Self {
        Self(*fingerprint.0.first_chunk().expect("3 of 32 bytes"))
    }

    /// Reads what [`fmt::Display`] writes, in either case, with or without dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|letter| *letter != '-').collect();
        let mut check = [0; 3];
        vault_format::ids::hex_into(&digits, &mut check)?;
        Some(Self(check))
    }
}

impl fmt::Display for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:02X}-{b:02X}-{c:02X}")
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::random(&mut ChaCha20Rng::from_seed([byte; 32]))
    }

    #[test]
    fn both_halves_are_needed_and_named() {
        let (one, two) = (key(1), key(2));
        let good = one.sign("label", b"message");
        let other = two.sign("label", b"message");
        let public = one.verifying_key();
        assert_eq!(public.verify("label", b"message", &good), Ok(()));
        let forged = Signatures { ed25519: other.ed25519, ml_dsa: good.ml_dsa };
        assert_eq!(public.verify("label", b"message", &forged), Err(SignatureFault::Ed25519));
        let forged = Signatures { ed25519: good.ed25519, ml_dsa: other.ml_dsa };
        assert_eq!(public.verify("label", b"message", &forged), Err(SignatureFault::MlDsa));
        assert_eq!(public.verify("label", b"message", &other), Err(SignatureFault::Both));
    }

    #[test]
    fn a_signature_is_bound_to_label_and_message() {
        let key = key(1);
        let good = key.sign("label", b"message");
        for (label, message) in [("labe", &b"lmessage"[..]), ("label", b"messagE"), ("Label", b"message")] {
            assert_eq!(key.verifying_key().verify(label, message, &good), Err(SignatureFault::Both));
        }
    }

    #[test]
    fn any_flipped_byte_is_refused() {
        let key = key(3);
        let good = key.sign("label", b"message");
        let public = key.verifying_key();
        for at in 0..good.ed25519.len() {
            let mut bad = good.clone();
            bad.ed25519[at] ^= 0x20;
            assert_eq!(public.verify("label", b"message", &bad), Err(SignatureFault::Ed25519));
        }
        for at in (0..good.ml_dsa.len()).step_by(7).chain([good.ml_dsa.len() - 1]) {
            let mut bad = good.clone();
            bad.ml_dsa[at] ^= 0x20;
            assert_eq!(public.verify("label", b"message", &bad), Err(SignatureFault::MlDsa), "byte {at}");
        }
    }

    #[test]
    fn signing_is_deterministic_and_keys_survive_storage() {
        let key = key(4);
        let stored = minicbor::to_vec(&key).unwrap();
        let back: SigningKey = minicbor::decode(&stored).unwrap();
        assert_eq!(back.fingerprint(), key.fingerprint());
        assert!(back.sign("l", b"m") == key.sign("l", b"m"));
        let public = VerifyingKey::from_slice(key.verifying_key().as_bytes()).unwrap();
        assert_eq!(&public, key.verifying_key());
    }

    #[test]
    fn weak_or_misshapen_public_keys_are_refused() {
        let mut bytes = key(5).verifying_key().as_bytes().to_vec();
        assert!(VerifyingKey::from_slice(&bytes[1..]).is_err());
        // The neutral element verifies signatures nobody made.
        bytes[..32].fill(0);
        bytes[0] = 1;
        assert!(VerifyingKey::from_slice(&bytes).is_err());
        // Not on the curve.
        bytes[0] = 2;
        assert!(VerifyingKey::from_slice(&bytes).is_err());
    }

    #[test]
    fn checks_read_back() {
        let check = KeyCheck([0x7c, 0xa1, 0x90]);
        assert_eq!(check.to_string(), "7C-A1-90");
        assert_eq!(KeyCheck::parse("7c-a1-90"), Some(check));
        assert_eq!(KeyCheck::parse("7CA190"), Some(check));
        assert_eq!(KeyCheck::parse("7C-A1"), None);
    }
}
