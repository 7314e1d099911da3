//! The suite's hash under a label: BLAKE3 in its key-derivation mode, with the
//! label as context and the bytes as material. The mode separates labels inside
//! the hash, so no framing is needed.

use vault_format::Hash;

/// Hash of `bytes` under `label`.
pub fn labelled(label: &'static str, bytes: &[u8]) -> Hash {
    let mut hasher = labelled_hasher(label);
    hasher.update(bytes);
    Hash(*hasher.finalize().as_bytes())
}

/// The same for bytes that come in pieces.
pub fn labelled_hasher(label: &'static str) -> blake3::Hasher {
    blake3::Hasher::new_derive_key(label)
}

/// The first 16 bytes of a labelled hash: how ids are made from contents.
pub(crate) fn short(label: &'static str, bytes: &[u8]) -> [u8; 16] {
    first_half(labelled(label, bytes).0)
}

pub(crate) fn first_half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}
