//! The arithmetic of SLIP-39 against `blahaj`.
//!
//! Two translations lie between them. blahaj's field has the polynomial 0x11D, SLIP-39's 0x11B: all fields of 256
//! elements are one up to renaming, and interpolation does not see names. blahaj gives a polynomial's value at 0,
//! SLIP-39 keeps the secret at 255 and the digest at 254: adding is exclusive or, so the shares moved to x ^ 255 lie on a
//! polynomial of the same degree whose value at 0 is the one at 255.

use blahaj::{Share as TheirShare, Sharks};
use hmac::{Hmac, KeyInit, Mac};
use keys::slip39::{Share, SplitRequest, combine, split};
use oracles::noise;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::Sha256;

/// The product in blahaj's field, from its definition.
fn multiply(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0, |product: u8, bit| {
        let doubled = product << 1 ^ if product & 0x80 == 0 { 0 } else { 0x1d };
        doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
    })
}

/// Each element of SLIP-39's field under its name in blahaj's: its generator x goes to an element that solves
/// x^8 + x^4 + x^3 + x + 1 = 0 there.
fn names() -> [u8; 256] {
    let power = |of: u8, exponent: usize| (0..exponent).fold(1, |value, _| multiply(value, of));
    let solves = |of: &u8| [8, 4, 3, 1, 0].iter().fold(0, |sum, &exponent| sum ^ power(*of, exponent)) == 0;
    let root = (2..=255).find(solves).expect("the polynomial splits in every field of 256 elements");
    std::array::from_fn(|element| {
        (0..8).filter(|bit| element >> bit & 1 == 1).fold(0, |sum, bit| sum ^ power(root, bit))
    })
}

/// The value at `x` of the polynomial through the shares, by blahaj.
fn value_at(x: u8, need: u8, shares: &[&Share]) -> Vec<u8> {
    let names = names();
    let renamed = |element: u8| names[usize::from(element)];
    let moved: Vec<TheirShare> = shares
        .iter()
        .map(|share| {
            let point = std::iter::once(share.member_index ^ x).chain(share.value.expose_secret().iter().copied());
            TheirShare::try_from(point.map(renamed).collect::<Vec<u8>>().as_slice()).expect("a share")
        })
        .collect();
    let found = Sharks(need).recover(&moved).expect("enough shares");
    let back = |name: &u8| (0..=255).find(|&element| renamed(element) == *name).expect("every element has a name");
    found.iter().map(back).collect()
}

#[test]
fn blahaj_finds_the_secret_and_its_digest_on_our_shares() {
    for (need, total) in [(2, 3), (3, 5), (5, 9), (16, 16)] {
        let secret = noise(u64::from(need), 32);
        let mut rng = ChaCha20Rng::from_seed([need; 32]);
        let request = SplitRequest { secret: &secret, passphrase: b"", need, total };
        let shares = split(&request, &mut rng).expect("a plan SLIP-39 allows");
        let first: Vec<&Share> = shares.iter().take(need.into()).collect();
        let last: Vec<&Share> = shares.iter().rev().take(need.into()).collect();
        let hidden = value_at(255, need, &first);
        assert_eq!(hidden, value_at(255, need, &last), "any {need} of {total} give one secret");
        // The digest share: four bytes of HMAC-SHA256 over the hidden secret, keyed by the random rest.
        let digest = value_at(254, need, &last);
        let mut mac = Hmac::<Sha256>::new_from_slice(&digest[4..]).expect("any key length");
        mac.update(&hidden);
        assert_eq!(mac.finalize().into_bytes()[..4], digest[..4], "the digest of {need} of {total}");
        let found = combine(&first, b"").expect("our own shares");
        assert_eq!(found.expose_secret(), &secret[..]);
    }
}

/// Why blahaj is not the scheme itself: a share too few is another secret, and nothing says so.
#[test]
fn one_share_too_few_is_silent_there_and_refused_here() {
    let secret = noise(7, 32);
    let request = SplitRequest { secret: &secret, passphrase: b"", need: 3, total: 5 };
    let shares = split(&request, &mut ChaCha20Rng::from_seed([1; 32])).expect("3 of 5");
    let right = value_at(255, 3, &shares.iter().take(3).collect::<Vec<_>>());
    let wrong = value_at(255, 2, &shares.iter().take(2).collect::<Vec<_>>());
    assert_ne!(right, wrong);
    assert!(combine(&shares.iter().take(2).collect::<Vec<_>>(), b"").is_err());
}
