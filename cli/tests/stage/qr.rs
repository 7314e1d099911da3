//! What a telephone reads from a printed page: the QR code of its picture (ISO/IEC 18004),
//! for clean pictures of the sizes that a card's text takes.
//!
//! What always holds: nothing is mended: a module that is wrong gives a wrong text or a
//! panic, as error correction would hide what the program draws.

/// The text of the code on a page.
#[track_caller]
pub fn scanned(page: &str) -> String {
    let grid = Grid::of(page);
    let blocks = Blocks::of(grid.version());
    let bytes = blocks.data(&grid.codewords());
    text_of(Bits { bytes, at: 0 })
}

/// Dark modules, without the quiet zone.
struct Grid(Vec<Vec<bool>>);

impl Grid {
    /// From the one path of a page: `M x y h run v1 h-run z` for each run of dark modules.
    fn of(page: &str) -> Self {
        const QUIET: usize = 4;
        let path = page.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
        let before = page.split("<path d=\"").next().unwrap();
        let view = before.rsplit("viewBox=\"0 0 ").next().unwrap();
        let wide: usize = view.split([' ', '"']).next().unwrap().parse().unwrap();
        let mut dark = vec![vec![false; wide]; wide];
        for run in path.split_terminator('z') {
            let numbers: Vec<usize> = run
                .split(|letter: char| !letter.is_ascii_digit())
                .filter(|part| !part.is_empty())
                .map(|part| part.parse().unwrap())
                .collect();
            let [x, y, length, 1, back] = numbers[..] else { panic!("{run}") };
            assert_eq!(length, back, "{run}");
            dark[y][x..x + length].fill(true);
        }
        let quiet = |line: &[bool]| line.iter().all(|dark| !dark);
        assert!(dark[..QUIET].iter().chain(&dark[wide - QUIET..]).all(|row| quiet(row)), "the quiet zone");
        assert!(dark.iter().all(|row| quiet(&row[..QUIET]) && quiet(&row[wide - QUIET..])), "the quiet zone");
        Self(dark[QUIET..wide - QUIET].iter().map(|row| row[QUIET..wide - QUIET].to_vec()).collect())
    }

    fn size(&self) -> usize {
        self.0.len()
    }

    fn version(&self) -> usize {
        assert_eq!(self.size() % 4, 1);
        (self.size() - 17) / 4
    }

    /// The mask, from the format bits around the upper left finder; the level must be M.
    fn mask(&self) -> usize {
        let places = [(8, 0), (8, 1), (8, 2), (8, 3), (8, 4)];
        let bits = places.iter().fold(0, |bits, &(y, x)| bits << 1 | usize::from(self.0[y][x]));
        // The five data bits under the fixed pattern 101010000010010.
        let bits = bits ^ 0b10101;
        assert_eq!(bits >> 3, 0, "level M");
        bits & 7
    }

    /// Finders, timing, alignment, format and version: no data there.
    fn is_fixed(&self, x: usize, y: usize) -> bool {
        let (size, version) = (self.size(), self.version());
        let finder = (y < 9 && (x < 9 || x >= size - 8)) || (x < 9 && y >= size - 8);
        let at_version = version >= 7 && ((x < 6 && y >= size - 11) || (y < 6 && x >= size - 11));
        let centres = alignment(version);
        let corner = |x: usize, y: usize| {
            let (low, high) = (centres[0], *centres.last().unwrap());
            [(low, low), (low, high), (high, low)].contains(&(x, y))
        };
        let aligned = centres
            .iter()
            .any(|&cy| centres.iter().any(|&cx| x.abs_diff(cx) <= 2 && y.abs_diff(cy) <= 2 && !corner(cx, cy)));
        finder || at_version || aligned || x == 6 || y == 6
    }

    /// Upwards and downwards in pairs of columns, from the right.
    fn codewords(&self) -> Vec<u8> {
        let (size, mask) = (self.size(), self.mask());
        let mut bits = Vec::new();
        let mut right = size - 1;
        let mut up = true;
        loop {
            for step in 0..size {
                let y = if up { size - 1 - step } else { step };
                for x in [right, right - 1] {
                    if !self.is_fixed(x, y) {
                        bits.push(self.0[y][x] != masked(mask, x, y));
                    }
                }
            }
            up = !up;
            match right {
                1 => break,
                // The timing column belongs to no pair.
                8 => right = 5,
                _ => right -= 2,
            }
        }
        bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
    }
}

fn masked(mask: usize, x: usize, y: usize) -> bool {
    let zero = match mask {
        0 => (x + y) % 2,
        1 => y % 2,
        2 => x % 3,
        3 => (x + y) % 3,
        4 => (y / 2 + x / 3) % 2,
        5 => x * y % 2 + x * y % 3,
        6 => (x * y % 2 + x * y % 3) % 2,
        _ => ((x + y) % 2 + x * y % 3) % 2,
    };
    zero == 0
}

/// Centres of the alignment patterns, for the sizes that a card's text takes.
fn alignment(version: usize) -> &'static [usize] {
    match version {
        10 => &[6, 28, 50],
        11 => &[6, 30, 54],
        12 => &[6, 32, 58],
        13 => &[6, 34, 62],
        14 => &[6, 26, 46, 66],
        15 => &[6, 26, 48, 70],
        16 => &[6, 26, 50, 74],
        17 => &[6, 30, 54, 78],
        18 => &[6, 30, 56, 82],
        other => panic!("no card's text takes version {other}"),
    }
}

/// Blocks of level M: how many short ones, their data bytes, how many with one byte more,
/// and the correction bytes of each.
struct Blocks {
    short: usize,
    bytes: usize,
    long: usize,
    correction: usize,
}

impl Blocks {
    fn of(version: usize) -> Self {
        let (correction, short, bytes, long) = match version {
            10 => (26, 4, 43, 1),
            11 => (30, 1, 50, 4),
            12 => (22, 6, 36, 2),
            13 => (22, 8, 37, 1),
            14 => (24, 4, 40, 5),
            15 => (24, 5, 41, 5),
            16 => (28, 7, 45, 3),
            17 => (28, 10, 46, 1),
            18 => (26, 9, 43, 4),
            other => panic!("no card's text takes version {other}"),
        };
        Self { short, bytes, long, correction }
    }

    /// The data bytes in their order: they stand interleaved, one of each block in turn.
    fn data(&self, codewords: &[u8]) -> Vec<u8> {
        let count = self.short + self.long;
        let total = self.short * self.bytes + self.long * (self.bytes + 1);
        assert_eq!(codewords.len(), total + count * self.correction, "codewords of the size");
        let mut blocks = vec![Vec::new(); count];
        for (at, &byte) in codewords[..total].iter().enumerate() {
            let block = if at < count * self.bytes { at % count } else { self.short + at - count * self.bytes };
            blocks[block].push(byte);
        }
        blocks.concat()
    }
}

struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, _| {
            let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
            self.at += 1;
            value << 1 | usize::from(bit)
        })
    }
}

/// Segments of digits, of capitals and of bytes; counts have the width of versions 10 to 26.
fn text_of(mut bits: Bits) -> String {
    const CAPITALS: &[u8; 45] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
    let mut text = Vec::new();
    loop {
        match bits.take(4) {
            0 => return String::from_utf8(text).unwrap(),
            1 => {
                let mut left = bits.take(12);
                while left > 0 {
                    let digits = left.min(3);
                    let number = bits.take([0, 4, 7, 10][digits]);
                    text.extend(format!("{number:0digits$}").bytes());
                    left -= digits;
                }
            }
            2 => {
                let count = bits.take(11);
                for _ in 0..count / 2 {
                    let pair = bits.take(11);
                    text.extend([CAPITALS[pair / 45], CAPITALS[pair % 45]]);
                }
                if count % 2 == 1 {
                    text.push(CAPITALS[bits.take(6)]);
                }
            }
            4 => {
                let count = bits.take(16);
                text.extend((0..count).map(|_| bits.take(8) as u8));
            }
            other => panic!("no segment of mode {other} is expected"),
        }
    }
}
