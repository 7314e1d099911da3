//! Secret bytes: wiped when dropped, never printed, never cloned, reached only
//! through `expose_secret`, so that every use can be found by its name.
//!
//! The bytes live on the heap: moving the owner moves a pointer and leaves no
//! copy behind. What the ciphers of other crates keep on the stack while they
//! work is beyond this type's reach.
//!
//! ```compile_fail,E0599
//! let secret = keys::Secret::from_array([7; 32]);
//! let copy = secret.clone();
//! ```
//! ```compile_fail,E0277
//! let secret = keys::Secret::from_array([7; 32]);
//! println!("{secret:?}");
//! ```
//! ```compile_fail,E0277
//! let text = keys::SecretText::new("academic acid".to_owned());
//! println!("{text}");
//! ```

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret of fixed length.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Lets `write` fill the bytes in place; they start as zeros.
    pub fn fill(write: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        write(&mut secret.0);
        secret
    }

    /// Takes the bytes and wipes the argument. A copy the caller kept stays.
    pub fn from_array(mut bytes: [u8; N]) -> Self {
        let secret = Self::fill(|out| out.copy_from_slice(&bytes));
        bytes.zeroize();
        secret
    }

    /// Copies exactly `N` bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == N).then(|| Self::fill(|out| out.copy_from_slice(bytes)))
    }

    /// Draws a new secret.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::fill(|out| rng.fill_bytes(out))
    }

    /// The same secret, its page out of swap where that is permitted: for what lasts.
    pub(crate) fn kept(self) -> Self {
        crate::locked::keep(&*self.0);
        self
    }

    /// The bytes.
    pub fn expose_secret(&self) -> &[u8; N] {
        &self.0
    }

    /// Compares in constant time.
    pub fn is_same(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }
}

impl<C, const N: usize> Encode<C> for Secret<N> {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&*self.0)?.ok()
    }
}

impl<'b, C, const N: usize> Decode<'b, C> for Secret<N> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let at = d.position();
        let secret = Self::from_slice(d.bytes()?).ok_or_else(|| decode::Error::message("secret length").at(at))?;
        // What is decoded came out of a key file and lasts.
        Ok(secret.kept())
    }
}

/// Secret bytes of any length.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes; earlier copies, such as those a growing vector left
    /// behind, are the caller's.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// Hands the bytes out, for content that is private but no key.
    pub fn into_plain(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Secret text: the words of a card.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_exact_and_comparison_sees_every_byte() {
        assert!(Secret::<4>::from_slice(&[0; 3]).is_none());
        let secret = Secret::from_array([1, 2, 3, 4]);
        for at in 0..4 {
            let mut other = *secret.expose_secret();
            other[at] ^= 0x80;
            assert!(!secret.is_same(&Secret::from_array(other)));
        }
        assert!(secret.is_same(&Secret::from_array([1, 2, 3, 4])));
    }

    #[test]
    fn secrets_wipe_themselves() {
        fn wipes<T: ZeroizeOnDrop>() {}
        wipes::<Secret<32>>();
        wipes::<SecretBytes>();
        wipes::<SecretText>();
        let mut secret = Secret::from_array([9; 32]);
        secret.zeroize();
        assert_eq!(secret.expose_secret(), &[0; 32]);
    }
}
