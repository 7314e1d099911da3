//! HKDF-SHA256 (RFC 5869) with framed inputs: each part stands behind its
//! length, so no two lists of parts give the same bytes. FORMAT.md, "Derivation".

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha256;

use crate::secret::Secret;

/// `frame(x)`: the length in two bytes, little-endian, then the bytes.
pub(crate) fn frames(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 2).sum());
    for part in parts {
        out.extend_from_slice(&frame_length(part));
        out.extend_from_slice(part);
    }
    out
}

fn frame_length(part: &[u8]) -> [u8; 2] {
    u16::try_from(part.len()).expect("labels, ids and hashes are short").to_le_bytes()
}

/// A secret that other secrets are derived from.
pub(crate) struct Derivation(Hkdf<Sha256>);

impl Derivation {
    /// Extracts: the salt is the use's label, the material the framed parts.
    pub(crate) fn extract(salt: &str, parts: &[&[u8]]) -> Self {
        let mut extract = HkdfExtract::<Sha256>::new(Some(salt.as_bytes()));
        for part in parts {
            extract.input_ikm(&frame_length(part));
            extract.input_ikm(part);
        }
        Self(extract.finalize().1)
    }

    /// Expands to the `N` bytes of one purpose: `info` is the framed purpose and
    /// context, then the length in two bytes.
    pub(crate) fn expand<const N: usize>(&self, purpose: &str, context: &[&[u8]]) -> Secret<N> {
        let mut info = frames(&[purpose.as_bytes()]);
        info.extend_from_slice(&frames(context));
        info.extend_from_slice(&u16::try_from(N).expect("derived secrets are short").to_le_bytes());
        Secret::fill(|out| self.0.expand(&info, out).expect("derived secrets are shorter than 255 digests"))
    }
}

#[cfg(test)]
mod tests;
