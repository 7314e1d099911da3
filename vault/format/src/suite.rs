//! What one number stands for: suites, code matrices, pack classes, flags.
//! All are closed; an unassigned number is refused, a retired one stays.

use crate::FormatError;

/// The version of every structure in this crate.
pub const FORMAT_VERSION: u16 = 1;
/// Bytes of one leaf: the unit of reading, hashing and challenging.
pub const LEAF_BYTES: usize = 64 * 1024;
/// Bytes of an AES-256-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Most shards a pack may have: what the 8 KiB header has room for.
pub const SHARDS_MAX: u8 = 24;
/// Most recipients of one pack.
pub const RECIPIENTS_MAX: usize = 3;
/// Bytes of an Ed25519 signature.
pub const ED25519_BYTES: usize = 64;
/// Bytes of an ML-DSA-65 signature (FIPS 204).
pub const ML_DSA_BYTES: usize = 3309;
/// Bytes of both signatures, Ed25519 first.
pub const SIGNATURES_BYTES: usize = ED25519_BYTES + ML_DSA_BYTES;

/// A complete set of algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Suite {
    /// X-Wing (0x647A) in HPKE base mode, HKDF-SHA256, AES-256-GCM; BLAKE3;
    /// Ed25519 and ML-DSA-65; FastCDC 2020; zstd.
    One = 1,
}

impl Suite {
    /// Reads a suite number.
    pub fn from_number(number: u16) -> Result<Self, FormatError> {
        match number {
            1 => Ok(Self::One),
            suite => Err(FormatError::Suite { suite }),
        }
    }

    /// The stored number.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// How parity is computed from data shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CodeMatrix {
    /// k = 1: every shard is the body.
    Replicate = 1,
    /// Systematic Reed-Solomon over GF(2^8), polynomial 0x11D, the Vandermonde
    /// matrix made systematic by its own top square (Backblaze, klauspost).
    Vandermonde = 2,
}

impl CodeMatrix {
    /// The only matrix that fits `k`: one layout has one encoding.
    pub fn for_data_shards(k: u8) -> Self {
        if k == 1 { Self::Replicate } else { Self::Vandermonde }
    }

    fn from_number(number: u8) -> Result<Self, FormatError> {
        match number {
            1 => Ok(Self::Replicate),
            2 => Ok(Self::Vandermonde),
            value => Err(FormatError::Unassigned { what: "code matrix", value: value.into() }),
        }
    }
}

/// Size class of a pack: leaves per shard. Stored sizes take only these values,
/// so that an object's length says nothing about what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// 64 KiB per shard.
    Leaves1 = 0,
    /// 256 KiB per shard.
    Leaves4 = 1,
    /// 1 MiB per shard.
    Leaves16 = 2,
    /// 4 MiB per shard: the usual pack, 20 MiB of body at k = 5.
    Leaves64 = 3,
    /// 12 MiB per shard; only where the configuration asks for it.
    Leaves192 = 4,
}

impl Class {
    /// All classes, small to large.
    pub const ALL: [Self; 5] = [Self::Leaves1, Self::Leaves4, Self::Leaves16, Self::Leaves64, Self::Leaves192];

    /// Leaves of 64 KiB per shard.
    pub fn leaves(self) -> usize {
        match self {
            Self::Leaves1 => 1,
            Self::Leaves4 => 4,
            Self::Leaves16 => 16,
            Self::Leaves64 => 64,
            Self::Leaves192 => 192,
        }
    }

    /// Payload bytes of one shard.
    pub fn shard_bytes(self) -> usize {
        self.leaves() * LEAF_BYTES
    }

    /// Body bytes of a pack with `k` data shards.
    pub fn body_bytes(self, k: u8) -> usize {
        self.shard_bytes() * usize::from(k)
    }

    /// Reads a class number.
    pub fn from_number(number: u8) -> Result<Self, FormatError> {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(FormatError::Unassigned { what: "class", value: number.into() })
    }
}

/// How a pack is coded: `k` of `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    k: u8,
    n: u8,
}

impl Coding {
    /// Checks 1 <= k <= n <= 24; k = n would survive nothing and is refused
    /// except for 1 of 1.
    pub fn new(k: u8, n: u8) -> Result<Self, FormatError> {
        let range = |field, value: u8| FormatError::Range { what: "coding", field, value: value.into() };
        if k == 0 {
            return Err(range("k", k));
        }
        if n > SHARDS_MAX || n < k || (n == k && n != 1) {
            return Err(range("n", n));
        }
        Ok(Self { k, n })
    }

    /// Shards that are enough.
    pub fn data_shards(self) -> u8 {
        self.k
    }

    /// Shards in all.
    pub fn total_shards(self) -> u8 {
        self.n
    }

    /// Shards that may be lost.
    pub fn parity_shards(self) -> u8 {
        self.n - self.k
    }

    /// The matrix that belongs to this coding.
    pub fn matrix(self) -> CodeMatrix {
        CodeMatrix::for_data_shards(self.k)
    }

    pub(crate) fn check_matrix(self, number: u8) -> Result<(), FormatError> {
        if CodeMatrix::from_number(number)? == self.matrix() {
            Ok(())
        } else {
            Err(FormatError::Range { what: "coding", field: "matrix", value: number.into() })
        }
    }
}

/// Flag bits any reader may ignore; the others must be understood. Version 1
/// assigns none.
pub const FLAGS_IGNORABLE: u32 = 0xffff_0000;

pub(crate) fn check_flags(what: &'static str, flags: u32) -> Result<(), FormatError> {
    if flags & !FLAGS_IGNORABLE == 0 { Ok(()) } else { Err(FormatError::CriticalFlag { what, flags }) }
}
