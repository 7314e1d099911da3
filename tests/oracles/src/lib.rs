//! Differential tests: what stands in the vault and in the keys against the crates the mission named, and against the
//! ones that other people would reach for. They are oracles, not dependencies: each was left out of the release for a
//! measured reason (docs/decisions 1 to 4), and each still knows the right answer for what is compared here.

/// Bytes that look random and are the same on every run.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(count).collect()
}
