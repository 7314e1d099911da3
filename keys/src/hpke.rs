//! The key schedule of HPKE base mode (RFC 9180, section 5.1) over HKDF-SHA256,
//! for the shared secret of a KEM. Only the first message of a context is ever
//! sealed here, so its nonce is the base nonce.
//!
//! Why it is written out: the KEM must refuse a non-contributory X25519 half and
//! wipe its keys, and bulk and wrap share one AES; `hpke` of the registry gives
//! none of the three today. It is the oracle of the tests.

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha256;

use crate::secret::Secret;

const VERSION: &[u8] = b"HPKE-v1";
const MODE_BASE: u8 = 0;

/// The three registered numbers that name an HPKE suite.
#[derive(Clone, Copy)]
pub(crate) struct SuiteId {
    pub(crate) kem: u16,
    pub(crate) kdf: u16,
    pub(crate) aead: u16,
}

impl SuiteId {
    fn bytes(self) -> [u8; 10] {
        let mut out = *b"HPKE\0\0\0\0\0\0";
        out[4..6].copy_from_slice(&self.kem.to_be_bytes());
        out[6..8].copy_from_slice(&self.kdf.to_be_bytes());
        out[8..].copy_from_slice(&self.aead.to_be_bytes());
        out
    }
}

/// What one message is sealed with.
pub(crate) struct Context {
    pub(crate) key: Secret<32>,
    pub(crate) nonce: [u8; 12],
}

/// `KeySchedule` in base mode: no pre-shared key, an empty id.
pub(crate) fn schedule(suite: SuiteId, shared_secret: &[u8], info: &[u8]) -> Context {
    let suite_id = suite.bytes();
    let (id_hash, _) = extract(b"", &suite_id, b"psk_id_hash", b"");
    let (info_hash, _) = extract(b"", &suite_id, b"info_hash", info);
    let context = [&[MODE_BASE], &id_hash[..], &info_hash[..]].concat();
    let (_, secret) = extract(shared_secret, &suite_id, b"secret", b"");
    Context {
        key: Secret::fill(|out: &mut [u8; 32]| expand(&secret, &suite_id, b"key", &context, out)),
        nonce: {
            let mut nonce = [0; 12];
            expand(&secret, &suite_id, b"base_nonce", &context, &mut nonce);
            nonce
        },
    }
}

/// `LabeledExtract`.
fn extract(salt: &[u8], suite_id: &[u8], label: &[u8], ikm: &[u8]) -> ([u8; 32], Hkdf<Sha256>) {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    for part in [VERSION, suite_id, label, ikm] {
        extract.input_ikm(part);
    }
    let (key, hkdf) = extract.finalize();
    (key.into(), hkdf)
}

/// `LabeledExpand`; the concatenation is RFC 9180's, which fixes every length.
fn expand(secret: &Hkdf<Sha256>, suite_id: &[u8], label: &[u8], info: &[u8], out: &mut [u8]) {
    let length = u16::try_from(out.len()).expect("keys and nonces are short").to_be_bytes();
    let expanded = secret.expand_multi_info(&[&length, VERSION, suite_id, label, info], out);
    expanded.expect("keys and nonces are shorter than 255 digests");
}
