//! Structure-aware mutations: what a disk, a network or a forger does to bytes that
//! have lengths, counts and nested parts in them.
//!
//! What always holds: the same seed and the same corpus give the same cases.

/// Lengths and counts that a decoder must not believe.
const HOSTILE: [u64; 14] = [
    0,
    1,
    0x17,
    0x18,
    0xff,
    0x100,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fff0,
    u64::MAX,
];

/// Most bytes a mutation grows a case to.
const CASE_BYTES_MAX: usize = 1 << 20;

/// Draws cases from a corpus.
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutator<'a> {
    /// A mutator; an empty corpus makes cases of noise.
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        Self { corpus, state: seed }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick(&mut self) -> Vec<u8> {
        let corpus = self.corpus;
        // The first are the target's own; the others are there to be spliced in.
        let near = if self.below(2) == 0 { 4 } else { usize::MAX };
        match corpus {
            [] => (0..self.below(200)).map(|_| self.next() as u8).collect(),
            corpus => corpus[self.below(corpus.len().min(near))].clone(),
        }
    }

    /// The next case: a seed with one to four mutations.
    pub fn case(&mut self) -> Vec<u8> {
        let mut case = self.pick();
        for _ in 0..=self.below(4) {
            self.mutate(&mut case);
            case.truncate(CASE_BYTES_MAX);
        }
        case
    }

    fn mutate(&mut self, case: &mut Vec<u8>) {
        let at = self.below(case.len());
        match self.below(12) {
            0 | 1 if !case.is_empty() => case[at] ^= 1 << self.below(8),
            2 if !case.is_empty() => case[at] = self.next() as u8,
            3 => case.truncate(at),
            4 => (0..=self.below(9)).for_each(|_| case.push(self.next() as u8)),
            5 => self.write_length(case, at),
            6 => self.write_cbor_head(case, at),
            7 => {
                let other = self.pick();
                let (from, to) = self.range(other.len());
                case.splice(at..at, other[from..to].iter().copied());
            }
            8 => {
                let (from, to) = self.range(case.len());
                case.drain(from..to);
            }
            9 => {
                let (from, to) = self.range(case.len());
                let part = case[from..to].to_vec();
                case.splice(at..at, part);
            }
            10 => {
                let (from, to) = self.range(case.len());
                let fill = if self.below(2) == 0 { 0 } else { 0xff };
                case[from..to].fill(fill);
            }
            _ => {
                let other = self.pick();
                let (from, to) = self.range(other.len().min(case.len()));
                case[from..to].copy_from_slice(&other[from..to]);
            }
        }
    }

    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let most = (length - from).min(if self.below(4) == 0 { usize::MAX } else { 64 });
        (from, from + self.below(most + 1))
    }

    /// A fixed-width integer, little-endian as here or big-endian as in CBOR.
    fn write_length(&mut self, case: &mut [u8], at: usize) {
        let width = [1, 2, 4, 8][self.below(4)];
        let near = (case.len() as u64).wrapping_add(self.below(5) as u64).wrapping_sub(2);
        let value = if self.below(4) == 0 { near } else { HOSTILE[self.below(HOSTILE.len())] };
        let Some(field) = case.get_mut(at..at + width) else { return };
        if self.below(2) == 0 {
            field.copy_from_slice(&value.to_le_bytes()[..width]);
        } else {
            field.copy_from_slice(&value.to_be_bytes()[8 - width..]);
        }
    }

    /// The head of a CBOR item with an argument of 0 to 8 bytes.
    fn write_cbor_head(&mut self, case: &mut Vec<u8>, at: usize) {
        let major = (self.below(8) as u8) << 5;
        let value = HOSTILE[self.below(HOSTILE.len())];
        let head: Vec<u8> = match self.below(6) {
            0 => vec![major | self.below(24) as u8],
            1 => vec![major | 0x18, value as u8],
            2 => [&[major | 0x19][..], &(value as u16).to_be_bytes()].concat(),
            3 => [&[major | 0x1a][..], &(value as u32).to_be_bytes()].concat(),
            4 => [&[major | 0x1b][..], &value.to_be_bytes()].concat(),
            _ => vec![major | 31],
        };
        let end = if self.below(2) == 0 { at } else { (at + head.len()).min(case.len()) };
        case.splice(at..end, head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_cases_and_they_differ_from_the_seeds() {
        let corpus = [vec![1; 40], b"another seed".to_vec()];
        let draw = |seed| {
            let mut mutator = Mutator::new(&corpus, seed);
            (0..1_000).map(|_| mutator.case()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let untouched = draw(7).iter().filter(|case| corpus.contains(case)).count();
        assert!(untouched < 200, "{untouched} of 1000 cases are seeds");
        assert!(Mutator::new(&[], 1).case().len() < CASE_BYTES_MAX);
    }
}
