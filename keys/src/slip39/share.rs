//! One share and its words.
//!
//! ```text
//! bits  15          1           4         4            4                4
//!       identifier  extendable  exponent  group index  group threshold  group count
//!       4             4                 8 x bytes, led by zero bits    30
//!       member index  member threshold  value                          checksum
//! ```
//! Thresholds and counts are stored less one. All in words of ten bits.

use zeroize::Zeroizing;

use super::checksum::{self, CHECKSUM_WORDS};
use super::words::{self, WORD_BITS};
use crate::error::CardError;
use crate::secret::{SecretBytes, SecretText};

/// Words before the value.
const HEAD_WORDS: usize = 4;
/// Fewest words: a value of 128 bits.
const WORDS_MIN: usize = 20;
/// Fewest bytes of a shared secret.
pub(crate) const VALUE_BYTES_MIN: usize = 16;
/// Most shares of a group, and groups of a scheme.
pub const COUNT_MAX: u8 = 16;

/// What all shares of a scheme agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// 15 random bits that name the set.
    pub identifier: u16,
    /// Whether the identifier is left out of the encryption.
    pub extendable: bool,
    /// PBKDF2 takes 10,000 x 2^exponent rounds in all.
    pub exponent: u8,
    /// Groups that are enough.
    pub group_threshold: u8,
    /// Groups in the scheme.
    pub group_count: u8,
}

/// One share of a secret.
pub struct Share {
    /// What it has in common with the others.
    pub common: Common,
    /// Its group.
    pub group_index: u8,
    /// Its number in the group, from 0.
    pub member_index: u8,
    /// Shares of the group that are enough.
    pub member_threshold: u8,
    /// Its point of the polynomial.
    pub value: SecretBytes,
}

impl Share {
    /// Reads a share's words, whole or by four letters, with or without numbers.
    pub fn parse(text: &str) -> Result<Self, CardError> {
        Self::from_indices(&words::read(text.split_whitespace())?)
    }

    pub(crate) fn from_indices(words: &[u16]) -> Result<Self, CardError> {
        let value_words = words.len().checked_sub(HEAD_WORDS + CHECKSUM_WORDS);
        let padding = value_words.map_or(usize::MAX, |count| count * WORD_BITS % 16);
        if words.len() < WORDS_MIN || padding > 8 {
            return Err(CardError::WordCount { found: words.len() });
        }
        let extendable = words[1] >> 4 & 1 == 1;
        let customization = checksum::customization(extendable);
        if !checksum::holds(customization, words) {
            return Err(CardError::Checksum { likely: checksum::likely_position(customization, words) });
        }
        let nibbles = u32::from(words[2]) << WORD_BITS | u32::from(words[3]);
        let nibble = |place: u32| (nibbles >> (16 - 4 * place) & 0xF) as u8;
        let common = Common {
            identifier: words[0] << 5 | words[1] >> 5,
            extendable,
            exponent: (words[1] & 0xF) as u8,
            group_threshold: nibble(1) + 1,
            group_count: nibble(2) + 1,
        };
        if common.group_threshold > common.group_count {
            return Err(CardError::Malformed { reason: "it wants more groups than there are" });
        }
        let value = unpack(&words[HEAD_WORDS..words.len() - CHECKSUM_WORDS], padding)?;
        Ok(Self {
            common,
            group_index: nibble(0),
            member_index: nibble(3),
            member_threshold: nibble(4) + 1,
            value: SecretBytes::new(value),
        })
    }

    /// The ten-bit numbers of its words.
    pub(crate) fn indices(&self) -> Zeroizing<Vec<u16>> {
        let Common { identifier, extendable, exponent, group_threshold, group_count } = self.common;
        let nibbles = [self.group_index, group_threshold - 1, group_count - 1, self.member_index];
        let last = u32::from(self.member_threshold - 1);
        let nibbles = nibbles.iter().fold(0, |sum, &nibble| sum << 4 | u32::from(nibble)) << 4 | last;
        let value = self.value.expose_secret();
        let value_words = (value.len() * 8).div_ceil(WORD_BITS);

        let mut out = Zeroizing::new(Vec::with_capacity(HEAD_WORDS + value_words + CHECKSUM_WORDS));
        out.push(identifier >> 5);
        out.push((identifier & 0x1F) << 5 | u16::from(extendable) << 4 | u16::from(exponent));
        out.push((nibbles >> WORD_BITS) as u16);
        out.push((nibbles & 0x3FF) as u16);
        pack(value, value_words, &mut out);
        let checksum = checksum::create(checksum::customization(extendable), &out);
        out.extend(checksum);
        out
    }

    /// Its words, separated by spaces.
    pub fn to_words(&self) -> SecretText {
        let indices = self.indices();
        // Eight letters and a space each, so that the text never grows.
        let mut text = String::with_capacity(indices.len() * 9);
        for (position, &index) in indices.iter().enumerate() {
            if position > 0 {
                text.push(' ');
            }
            text.push_str(words::word(index));
        }
        SecretText::new(text)
    }
}

/// Appends bytes as ten-bit words, zero bits in front.
fn pack(bytes: &[u8], words: usize, out: &mut Vec<u16>) {
    let mut bits = words * WORD_BITS - bytes.len() * 8;
    let mut state = 0_u32;
    for &byte in bytes {
        state = state << 8 | u32::from(byte);
        bits += 8;
        while bits >= WORD_BITS {
            bits -= WORD_BITS;
            out.push((state >> bits & 0x3FF) as u16);
        }
        state &= (1 << bits) - 1;
    }
}

/// Reads ten-bit words behind `padding` zero bits as bytes.
fn unpack(words: &[u16], padding: usize) -> Result<Vec<u8>, CardError> {
    let mut out = Vec::with_capacity(words.len() * WORD_BITS / 8);
    if u32::from(words[0]) >> (WORD_BITS - padding) != 0 {
        return Err(CardError::Malformed { reason: "its leading bits are not zero" });
    }
    let mut bits = 0;
    let mut state = 0_u32;
    for (position, &word) in words.iter().enumerate() {
        state = state << WORD_BITS | u32::from(word);
        bits += if position == 0 { WORD_BITS - padding } else { WORD_BITS };
        while bits >= 8 {
            bits -= 8;
            out.push((state >> bits) as u8);
        }
        state &= (1 << bits) - 1;
    }
    Ok(out)
}
