//! The cipher between the secret and what is shared: a four-round Feistel network
//! whose round function is PBKDF2-HMAC-SHA256 under the passphrase. Every
//! passphrase opens to something, so a duress passphrase is possible; there is no
//! integrity here, the digest of the shares has that.

use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::share::Common;

/// Rounds of the Feistel network.
pub const ROUNDS: u8 = 4;
/// PBKDF2 iterations of all rounds at exponent 0.
pub const ITERATIONS: u32 = 10_000;

/// Master secret to what is shared.
pub(crate) fn encrypt(secret: &[u8], passphrase: &[u8], common: Common) -> Zeroizing<Vec<u8>> {
    feistel(secret, passphrase, common, 0..ROUNDS)
}

/// What is shared to the master secret.
pub(crate) fn decrypt(shared: &[u8], passphrase: &[u8], common: Common) -> Zeroizing<Vec<u8>> {
    feistel(shared, passphrase, common, (0..ROUNDS).rev())
}

fn feistel(input: &[u8], passphrase: &[u8], common: Common, rounds: impl Iterator<Item = u8>) -> Zeroizing<Vec<u8>> {
    let (left, right) = input.split_at(input.len() / 2);
    let (mut left, mut right) = (Zeroizing::new(left.to_vec()), Zeroizing::new(right.to_vec()));
    for round in rounds {
        let mut mixed = round_function(round, passphrase, common, &right);
        mixed.iter_mut().zip(left.iter()).for_each(|(mixed, left)| *mixed ^= left);
        left = std::mem::replace(&mut right, mixed);
    }
    Zeroizing::new([&right[..], &left[..]].concat())
}

fn round_function(round: u8, passphrase: &[u8], common: Common, half: &[u8]) -> Zeroizing<Vec<u8>> {
    let password = Zeroizing::new([&[round], passphrase].concat());
    let mut salt = Zeroizing::new(Vec::with_capacity(8 + half.len()));
    if !common.extendable {
        salt.extend_from_slice(b"shamir");
        salt.extend_from_slice(&common.identifier.to_be_bytes());
    }
    salt.extend_from_slice(half);
    let iterations = (ITERATIONS << common.exponent) / u32::from(ROUNDS);
    let mut out = Zeroizing::new(vec![0; half.len()]);
    pbkdf2_hmac::<Sha256>(&password, &salt, iterations, &mut out);
    out
}
