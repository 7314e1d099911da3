//! RS1024: a Reed-Solomon code over GF(1024) that finds any three wrong words.

/// Words of the checksum.
pub(crate) const CHECKSUM_WORDS: usize = 3;

const GENERATOR: [u32; 10] = [
    0x00E0_E040,
    0x01C1_C080,
    0x0383_8100,
    0x0707_0200,
    0x0E0E_0009,
    0x1C0C_2412,
    0x3808_6C24,
    0x3090_FC48,
    0x21B1_F890,
    0x03F3_F120,
];

/// The customization string: shares of the two kinds have different checksums.
pub(crate) fn customization(extendable: bool) -> &'static [u8] {
    if extendable { b"shamir_extendable" } else { b"shamir" }
}

/// Appends one value to the polynomial and reduces it.
fn step(state: u32, value: u16) -> u32 {
    let top = state >> 20;
    let shifted = ((state & 0xF_FFFF) << 10) ^ u32::from(value);
    GENERATOR.iter().enumerate().fold(shifted, |state, (bit, generator)| {
        // Branch-free: the words are secret.
        state ^ (generator & 0_u32.wrapping_sub((top >> bit) & 1))
    })
}

fn polymod(customization: &[u8], words: impl Iterator<Item = u16>) -> u32 {
    customization.iter().map(|&byte| u16::from(byte)).chain(words).fold(1, step)
}

/// The three words that make a share's checksum hold.
pub(crate) fn create(customization: &[u8], data: &[u16]) -> [u16; CHECKSUM_WORDS] {
    let state = polymod(customization, data.iter().copied().chain([0; CHECKSUM_WORDS])) ^ 1;
    [20, 10, 0].map(|shift| (state >> shift & 0x3FF) as u16)
}

/// Whether a whole share's checksum holds.
pub(crate) fn holds(customization: &[u8], words: &[u16]) -> bool {
    polymod(customization, words.iter().copied()) == 1
}

/// If exactly one position exists where another word would make the checksum
/// hold: that position, from 1. A hint for the eye; nothing is corrected, because
/// a share with two wrong words may be one word away from a wrong share.
pub(crate) fn likely_position(customization: &[u8], words: &[u16]) -> Option<usize> {
    let syndrome = polymod(customization, words.iter().copied()) ^ 1;
    // The code is linear: an error's effect is the sum of its bits' effects.
    let mends = |at: &usize| {
        let zeros = || std::iter::repeat_n(0, words.len() - 1 - at);
        let bits: [u32; 10] = std::array::from_fn(|bit| zeros().fold(step(0, 1 << bit), step));
        let effect =
            |error: u32| (0..10).fold(0, |sum, bit| sum ^ (bits[bit] & 0_u32.wrapping_sub((error >> bit) & 1)));
        (1..1024).any(|error| effect(error) == syndrome)
    };
    let mut positions = (0..words.len()).filter(mends);
    match (positions.next(), positions.next()) {
        (Some(at), None) => Some(at + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_two_and_three_wrong_words_are_found_and_one_is_located() {
        let mut words: Vec<u16> = (0..30).map(|i| i * 31 % 1024).collect();
        let checksum = create(b"shamir", &words);
        words.extend(checksum);
        assert!(holds(b"shamir", &words) && !holds(b"shamir_extendable", &words));
        for at in 0..words.len() {
            let mut bad = words.clone();
            bad[at] ^= 5;
            assert!(!holds(b"shamir", &bad));
            assert_eq!(likely_position(b"shamir", &bad), Some(at + 1));
            bad[(at + 3) % 33] ^= 9;
            assert!(!holds(b"shamir", &bad));
            bad[(at + 8) % 33] ^= 511;
            assert!(!holds(b"shamir", &bad));
        }
    }
}
