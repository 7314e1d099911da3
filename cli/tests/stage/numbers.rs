//! Random numbers with a seed that can be printed: SplitMix64 (Steele, Lea,
//! Flood 2014). Not for keys.

/// A sequence of numbers that follows from its seed.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = count.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }

    /// `count` different numbers of `1..=most`, in order.
    pub fn choose(&mut self, count: usize, most: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (1..=most).collect();
        while all.len() > count {
            let at = self.below(all.len() as u64) as usize;
            all.remove(at);
        }
        all
    }
}

/// A number from the environment, for the long form of a test.
pub fn number_from_env(name: &str, short: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => short,
    }
}
