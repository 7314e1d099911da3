//! Sealing to a public key: HPKE base mode (RFC 9180) with X-Wing (0x647A:
//! ML-KEM-768 and X25519 in one), HKDF-SHA256 (0x0001), AES-256-GCM (0x0002).
//!
//! What always holds: a secret is safe while either half of X-Wing is; a
//! recipient is its 32-byte seed, expanded only while it opens; X25519 points of
//! low order are refused on both sides. A wrong key never fails in ML-KEM, which
//! answers with another secret: only the tag of the AEAD tells.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use rand_core::CryptoRng;
use vault_format::shard::KEM_ENC_BYTES;
use vault_format::vault::KEM_PUBLIC_BYTES;
use vault_format::{RecipientId, labels};
use x_wing::{
    Ciphertext, DecapsulationKeyRejectNonContrib, Decapsulator, Encapsulate, EncapsulationKey, KeyExport, KeyInit,
    TryDecapsulate, TryKeyInit,
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

use crate::aead::EncKey;
use crate::error::{KeysError, Result};
use crate::hash::short;
use crate::hpke::{SuiteId, schedule};
use crate::secret::{Secret, SecretBytes};

/// HPKE's number of X-Wing.
pub const KEM_ID: u16 = 0x647A;
/// HPKE's number of HKDF-SHA256.
pub const KDF_ID: u16 = 0x0001;
/// HPKE's number of AES-256-GCM.
pub const AEAD_ID: u16 = 0x0002;
/// All of suite 1.
const HPKE_SUITE: SuiteId = SuiteId { kem: KEM_ID, kdf: KDF_ID, aead: AEAD_ID };
/// Bytes of the ML-KEM-768 public key, which stands before X25519's.
const ML_KEM_PUBLIC_BYTES: usize = KEM_PUBLIC_BYTES - 32;

/// A checked X-Wing public key and its id.
#[derive(Clone)]
pub struct RecipientPublic {
    bytes: Box<[u8; KEM_PUBLIC_BYTES]>,
    key: Box<EncapsulationKey>,
    id: RecipientId,
}

impl RecipientPublic {
    /// Reads 1216 bytes: ML-KEM-768's key (its coefficients must be reduced),
    /// then X25519's (it must not be of low order).
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        let invalid = KeysError::InvalidKey { what: "the recipient's public key" };
        let Ok(bytes) = <[u8; KEM_PUBLIC_BYTES]>::try_from(bytes) else { return Err(invalid) };
        let x25519: [u8; 32] = bytes[ML_KEM_PUBLIC_BYTES..].try_into().expect("the last 32 bytes");
        // Low order is a property of the point: any scalar shows it.
        let probe = StaticSecret::from([0x55; 32]).diffie_hellman(&PublicKey::from(x25519));
        if !probe.was_contributory() {
            return Err(invalid);
        }
        let Ok(key) = EncapsulationKey::new_from_slice(&bytes) else { return Err(invalid) };
        Ok(Self { bytes: Box::new(bytes), key: Box::new(key), id: RecipientId(short(labels::RECIPIENT, &bytes)) })
    }

    /// The key as it is stored.
    pub fn as_bytes(&self) -> &[u8; KEM_PUBLIC_BYTES] {
        &self.bytes
    }

    /// The first 16 bytes of the labelled hash of the key.
    pub fn id(&self) -> RecipientId {
        self.id
    }
}

impl PartialEq for RecipientPublic {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for RecipientPublic {}

impl std::fmt::Debug for RecipientPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecipientPublic({})", self.id)
    }
}

impl<C> Encode<C> for RecipientPublic {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> std::result::Result<(), encode::Error<W::Error>> {
        e.bytes(&*self.bytes)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RecipientPublic {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> std::result::Result<Self, decode::Error> {
        let at = d.position();
        Self::from_slice(d.bytes()?).map_err(|_| decode::Error::message("recipient public key").at(at))
    }
}

/// A recipient's 32-byte seed with the public key it gives.
pub struct RecipientPrivate {
    seed: Secret<32>,
    public: RecipientPublic,
}

impl RecipientPrivate {
    /// Computes the public key of a seed.
    pub fn from_seed(seed: Secret<32>) -> Self {
        let key = expand(&seed);
        let public = RecipientPublic::from_slice(&key.encapsulation_key().to_bytes());
        let public = public.expect("a clamped scalar times the base point is not of low order");
        Self { seed: seed.kept(), public }
    }

    /// The public half.
    pub fn public(&self) -> &RecipientPublic {
        &self.public
    }

    /// The public half's id.
    pub fn id(&self) -> RecipientId {
        self.public.id
    }

    /// The seed.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }
}

impl<C> Encode<C> for RecipientPrivate {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> std::result::Result<(), encode::Error<W::Error>> {
        self.seed.encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for RecipientPrivate {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> std::result::Result<Self, decode::Error> {
        Secret::decode(d, ctx).map(Self::from_seed)
    }
}

/// Bytes that one recipient can open.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBox {
    /// X-Wing encapsulation: ML-KEM-768 (1088 bytes), then X25519 (32).
    pub enc: [u8; KEM_ENC_BYTES],
    /// AES-256-GCM ciphertext and tag.
    pub ciphertext: Vec<u8>,
}

/// Seals one message to one recipient under a fresh encapsulation.
pub fn seal<R: CryptoRng + ?Sized>(
    recipient: &RecipientPublic,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut R,
) -> SealedBox {
    let (enc, mut shared) = recipient.key.encapsulate_with_rng(rng);
    let context = schedule(HPKE_SUITE, &shared, info);
    shared.zeroize();
    let mut ciphertext = Vec::with_capacity(plaintext.len() + vault_format::suite::TAG_BYTES);
    ciphertext.extend_from_slice(plaintext);
    EncKey::new(context.key).seal_in_place(context.nonce, aad, &mut ciphertext);
    SealedBox { enc: enc.0, ciphertext }
}

/// Opens what [`seal`] sealed under the same `info` and `aad`.
pub fn open(recipient: &RecipientPrivate, info: &[u8], aad: &[u8], sealed: &SealedBox) -> Result<SecretBytes> {
    let unopened = KeysError::Unopened { what: "the sealed box" };
    let Ok(mut shared) = expand(&recipient.seed).try_decapsulate(&Ciphertext::from(sealed.enc)) else {
        return Err(unopened);
    };
    let context = schedule(HPKE_SUITE, &shared, info);
    shared.zeroize();
    let mut plain = sealed.ciphertext.clone();
    let length = EncKey::new(context.key).open_in_place(context.nonce, aad, &mut plain).map_err(|_| unopened)?;
    plain.truncate(length);
    Ok(SecretBytes::new(plain))
}

fn expand(seed: &Secret<32>) -> DecapsulationKeyRejectNonContrib {
    DecapsulationKeyRejectNonContrib::new(seed.expose_secret().into())
}

#[cfg(test)]
mod tests;
