//! Dealing shares and putting them together again.
//!
//! A secret shared among more than one is the polynomial's value at x = 255; its
//! digest, keyed by the random rest of the point, stands at x = 254. Shares are
//! the values at x = 0, 1, 2, .. A set that is altered, mixed or too small gives
//! another digest, except with probability 2^-32.

use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::cipher;
use super::field::{Point, interpolate};
use super::share::{COUNT_MAX, Common, Share, VALUE_BYTES_MIN};
use crate::error::{CardError, SetName};
use crate::secret::SecretBytes;

/// Where the polynomial takes the secret.
pub const SECRET_AT: u8 = 255;
/// Where it takes the digest and its key.
pub const DIGEST_AT: u8 = 254;
/// Bytes of the digest.
pub const DIGEST_BYTES: usize = 4;
/// Exponent of what is dealt: 20,000 rounds of PBKDF2 in all, as other tools choose. The seed is random, so
/// the exponent protects nothing of ours; it is there for passphrases.
pub const EXPONENT: u8 = 1;

/// What to deal.
pub struct SplitRequest<'a> {
    /// 16 bytes or more, an even number.
    pub secret: &'a [u8],
    /// Empty, or printable ASCII. Other tools ask for it.
    pub passphrase: &'a [u8],
    /// Shares that are enough.
    pub need: u8,
    /// Shares in all.
    pub total: u8,
}

/// Deals `total` shares of one group, any `need` of which give the secret.
///
/// Not extendable: shares of that kind are read by every tool, old and new.
pub fn split<R: CryptoRng + ?Sized>(request: &SplitRequest<'_>, rng: &mut R) -> Result<Vec<Share>, CardError> {
    let SplitRequest { secret, passphrase, need, total } = *request;
    let refuse = |reason| Err(CardError::Plan { need, total, reason });
    check_counts(need, total)?;
    if secret.len() < VALUE_BYTES_MIN || !secret.len().is_multiple_of(2) {
        return refuse("the secret must have 16 bytes or more, an even number");
    }
    let mut identifier = [0; 2];
    rng.fill_bytes(&mut identifier);
    let common = Common {
        identifier: u16::from_be_bytes(identifier) & 0x7FFF,
        extendable: false,
        exponent: EXPONENT,
        group_threshold: 1,
        group_count: 1,
    };
    let shared = cipher::encrypt(secret, passphrase, common);
    let values = deal(&shared, need, total, rng);
    Ok((0..total)
        .zip(values)
        .map(|(member_index, value)| Share {
            common,
            group_index: 0,
            member_index,
            member_threshold: need,
            value: SecretBytes::new(value.to_vec()),
        })
        .collect())
}

/// Whether so many cards can be dealt.
pub(crate) fn check_counts(need: u8, total: u8) -> Result<(), CardError> {
    let refuse = |reason| Err(CardError::Plan { need, total, reason });
    if need == 0 || need > total {
        return refuse("the number that is enough must be between 1 and the number in all");
    }
    if total > COUNT_MAX {
        return refuse("SLIP-39 deals 16 at most");
    }
    if need == 1 && total > 1 {
        return refuse("each card alone would be the whole key; deal a single card instead");
    }
    Ok(())
}

fn deal<R: CryptoRng + ?Sized>(secret: &[u8], need: u8, total: u8, rng: &mut R) -> Vec<Zeroizing<Vec<u8>>> {
    if need == 1 {
        return vec![Zeroizing::new(secret.to_vec()); usize::from(total)];
    }
    let mut draw = |count: usize| {
        let mut bytes = Zeroizing::new(vec![0; count]);
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let mut values: Vec<_> = (0..need - 2).map(|_| draw(secret.len())).collect();
    let filler = draw(secret.len() - DIGEST_BYTES);
    let digest = Zeroizing::new([&digest(&filler, secret)[..], &filler].concat());
    let mut points: Vec<_> = (0..).zip(&values).map(|(x, y)| Point { x, y }).collect();
    points.push(Point { x: DIGEST_AT, y: &digest });
    points.push(Point { x: SECRET_AT, y: secret });
    let computed: Vec<_> = (need - 2..total).map(|x| interpolate(&points, x)).collect();
    values.extend(computed);
    values
}

fn digest(key: &[u8], secret: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(secret);
    *mac.finalize().into_bytes().first_chunk().expect("4 of 32 bytes")
}

/// The value at 255, if the digest at 254 confirms it.
fn join(points: &[Point<'_>]) -> Result<Zeroizing<Vec<u8>>, CardError> {
    if let [only] = points {
        return Ok(Zeroizing::new(only.y.to_vec()));
    }
    let secret = interpolate(points, SECRET_AT);
    let confirmed = interpolate(points, DIGEST_AT);
    let (found, filler) = confirmed.split_at(DIGEST_BYTES);
    if aws_lc_rs::constant_time::verify_slices_are_equal(found, &digest(filler, &secret)).is_err() {
        return Err(CardError::Digest { spare: false });
    }
    Ok(secret)
}

/// Puts a secret together from exactly as many shares as are needed, of one
/// group or several.
pub fn combine(shares: &[&Share], passphrase: &[u8]) -> Result<SecretBytes, CardError> {
    let encrypted = combine_shared(shares)?;
    let first = shares.first().ok_or(CardError::NotEnough { have: 0, need: 1 })?;
    let mut secret = cipher::decrypt(&encrypted, passphrase, first.common);
    Ok(SecretBytes::new(std::mem::take(&mut *secret)))
}

/// The same without the decryption, which is slow: tells whether shares fit.
pub(crate) fn combine_shared(shares: &[&Share]) -> Result<Zeroizing<Vec<u8>>, CardError> {
    let first = shares.first().ok_or(CardError::NotEnough { have: 0, need: 1 })?;
    let common = first.common;
    for share in shares {
        if share.common != common {
            return Err(CardError::WrongSet {
                number: share.member_index + 1,
                found: SetName::Identifier(share.common.identifier),
                wanted: SetName::Identifier(common.identifier),
            });
        }
        if share.value.expose_secret().len() != first.value.expose_secret().len() {
            return Err(CardError::Malformed { reason: "its length differs from the others'" });
        }
    }
    let mut groups: Vec<u8> = shares.iter().map(|share| share.group_index).collect();
    groups.sort_unstable();
    groups.dedup();
    let have = groups.len() as u8;
    if have < common.group_threshold {
        return Err(CardError::NotEnough { have, need: common.group_threshold });
    }
    if have > common.group_threshold {
        return Err(CardError::Malformed { reason: "there are shares of more groups than are needed" });
    }
    let values = groups.iter().map(|&group| join_group(shares, group)).collect::<Result<Vec<_>, _>>()?;
    let points: Vec<_> = groups.iter().zip(&values).map(|(&x, y)| Point { x, y }).collect();
    join(&points)
}

/// Whether `other` lies on the polynomial through `chosen`, which were enough.
pub(crate) fn fits(chosen: &[&Share], other: &Share) -> bool {
    let points: Vec<_> =
        chosen.iter().map(|share| Point { x: share.member_index, y: share.value.expose_secret() }).collect();
    let expected = match &points[..] {
        [only] => Zeroizing::new(only.y.to_vec()),
        _ => interpolate(&points, other.member_index),
    };
    aws_lc_rs::constant_time::verify_slices_are_equal(&expected, other.value.expose_secret()).is_ok()
}

fn join_group(shares: &[&Share], group: u8) -> Result<Zeroizing<Vec<u8>>, CardError> {
    let members: Vec<_> = shares.iter().filter(|share| share.group_index == group).collect();
    let need = members[0].member_threshold;
    for (position, member) in members.iter().enumerate() {
        if member.member_threshold != need {
            return Err(CardError::Malformed { reason: "its threshold differs from the others'" });
        }
        let number = member.member_index + 1;
        if let Some(twin) = members[..position].iter().find(|twin| twin.member_index == member.member_index) {
            let same = twin.value.expose_secret() == member.value.expose_secret();
            return Err(if same { CardError::Duplicate { number } } else { CardError::Conflict { number } });
        }
    }
    let have = members.len() as u8;
    if have < need {
        return Err(CardError::NotEnough { have, need });
    }
    if have > need {
        return Err(CardError::Malformed { reason: "there are more shares than are needed" });
    }
    let points: Vec<_> =
        members.iter().map(|share| Point { x: share.member_index, y: share.value.expose_secret() }).collect();
    join(&points)
}
