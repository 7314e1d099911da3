//! k-of-n over GF(2^8), polynomial 0x11D, with the systematic Vandermonde matrix
//! of Backblaze's and klauspost's libraries; k = 1 is plain replication.
//!
//! What always holds: any k different shards give all others; the bytes are the
//! same on every machine. The engine is young and picks its instructions at run
//! time, and a wrong parity would be signed as if it were right; so each
//! [`ErasureCode`] first computes a known block with the engine's plain kernel
//! too and uses that one if they differ. What was reconstructed is compared with
//! the signed roots anyway.

use rusty_erasure::{Coder, RecoverError, compat};
use vault_format::suite::{CodeMatrix, Coding};

use crate::error::{CodecError, Result};

/// Bytes of each shard coded at once: n blocks of it stay in a core's own cache.
/// Measured at 5 of 9 on 4 MiB shards (`examples/bench_codec.rs`): 14 GB/s with 8,
/// 32 or 64 KiB, 10 to 14 GB/s with whole shards.
const BLOCK_BYTES: usize = 32 * 1024;

/// The arithmetic of one coding.
pub struct ErasureCode {
    coding: Coding,
    /// `None` where every shard is the body.
    engine: Option<Coder>,
}

impl ErasureCode {
    /// Prepares the matrix and checks the engine against its plain kernel.
    pub fn new(coding: Coding) -> Self {
        let (k, parity) = (usize::from(coding.data_shards()), usize::from(coding.parity_shards()));
        let engine = match coding.matrix() {
            CodeMatrix::Replicate => None,
            CodeMatrix::Vandermonde => {
                let matrix = compat::reed_solomon_erasure_matrix(k, parity).expect("1 < k < n <= 24 was checked");
                let plain = Coder::new(matrix.clone()).expect("the matrix has parity rows");
                let fast = rusty_erasure::coder(matrix).expect("the matrix has parity rows");
                Some(if agree(&plain, &fast) { fast } else { plain })
            }
        };
        Self { coding, engine }
    }

    /// Computes all parity shards from all data shards, of one length each. With
    /// k = 1 the "parity" shards are copies.
    ///
    /// # Panics
    /// If counts or lengths differ; they come from one layout.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        let Some(engine) = &self.engine else {
            for copy in parity.iter_mut() {
                copy.copy_from_slice(data[0]);
            }
            return;
        };
        let bytes = data[0].len();
        for start in (0..bytes).step_by(BLOCK_BYTES) {
            let range = start..bytes.min(start + BLOCK_BYTES);
            let from: Vec<&[u8]> = data.iter().map(|shard| &shard[range.clone()]).collect();
            let mut to: Vec<&mut [u8]> = parity.iter_mut().map(|shard| &mut shard[range.clone()]).collect();
            engine.encode(&from, &mut to).expect("counts and lengths are those of the layout");
        }
    }

    /// Rebuilds the shards named in `wanted` into `out` from any k of `shards`,
    /// which lists all n in order.
    ///
    /// # Panics
    /// If lengths differ or `wanted` names no shard of this coding.
    pub fn rebuild(&self, shards: &[Option<&[u8]>], wanted: &[usize], out: &mut [&mut [u8]]) -> Result<()> {
        let have = shards.iter().flatten().count();
        let need = usize::from(self.coding.data_shards());
        let too_few = || CodecError::refused(format!("{need} shards are needed to rebuild others, {have} were given"));
        if have < need {
            return Err(too_few());
        }
        let Some(engine) = &self.engine else {
            let whole = shards.iter().flatten().next().ok_or_else(too_few)?;
            for copy in out.iter_mut() {
                copy.copy_from_slice(whole);
            }
            return Ok(());
        };
        let present: Vec<bool> = shards.iter().map(Option::is_some).collect();
        let plan = engine.decode_plan(&present, wanted).map_err(|error| refusal(&error))?;
        let bytes = out.first().map_or(0, |shard| shard.len());
        for start in (0..bytes).step_by(BLOCK_BYTES) {
            let range = start..bytes.min(start + BLOCK_BYTES);
            let from: Vec<Option<&[u8]>> =
                shards.iter().map(|shard| shard.map(|shard| &shard[range.clone()])).collect();
            let mut to: Vec<&mut [u8]> = out.iter_mut().map(|shard| &mut shard[range.clone()]).collect();
            engine.recover_with(&plan, &from, &mut to).map_err(|error| refusal(&error))?;
        }
        Ok(())
    }
}

fn refusal(error: &RecoverError) -> CodecError {
    CodecError::refused(format!("the erasure engine refused to rebuild: {error}"))
}

/// All shards that are missing from `shards`, by index.
pub fn reconstruct(coding: Coding, shards: &[Option<&[u8]>]) -> Result<Vec<(usize, Vec<u8>)>> {
    let bytes = shards.iter().flatten().next().map_or(0, |shard| shard.len());
    let missing: Vec<usize> = (0..shards.len()).filter(|&index| shards[index].is_none()).collect();
    let mut found: Vec<Vec<u8>> = missing.iter().map(|_| vec![0; bytes]).collect();
    let mut out: Vec<&mut [u8]> = found.iter_mut().map(Vec::as_mut_slice).collect();
    ErasureCode::new(coding).rebuild(shards, &missing, &mut out)?;
    Ok(missing.into_iter().zip(found).collect())
}

/// Whether two kernels compute the same parity of a known block that holds every
/// byte value and has an odd length, so that whole vectors and the rest of one
/// are both tried.
fn agree(one: &Coder, other: &Coder) -> bool {
    let data: Vec<Vec<u8>> =
        (0..one.k()).map(|shard| (0..547_usize).map(|at| (at * (2 * shard + 1) + shard) as u8).collect()).collect();
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let parity = |coder: &Coder| {
        let mut parity = vec![vec![0; 547]; coder.p()];
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        coder.encode(&data, &mut out).ok().map(|()| parity)
    };
    parity(one).is_some_and(|found| parity(other) == Some(found))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// The code written from its definition: schoolbook field arithmetic, the
    /// Vandermonde matrix `row^column`, made systematic by its own top square.
    mod reference {
        pub(super) fn multiply(a: u8, b: u8) -> u8 {
            let (mut product, mut a, mut b) = (0, u16::from(a), b);
            while b != 0 {
                if b & 1 != 0 {
                    product ^= a;
                }
                a <<= 1;
                if a & 0x100 != 0 {
                    a ^= 0x11d;
                }
                b >>= 1;
            }
            product as u8
        }

        pub(super) fn inverse(a: u8) -> u8 {
            (1..=255).find(|&b| multiply(a, b) == 1).expect("only zero has no inverse")
        }

        pub(super) type Matrix = Vec<Vec<u8>>;

        pub(super) fn product(left: &Matrix, right: &Matrix) -> Matrix {
            let cell = |row: &[u8], column: usize| {
                row.iter().zip(right).fold(0, |sum, (&a, line)| sum ^ multiply(a, line[column]))
            };
            left.iter().map(|row| (0..right[0].len()).map(|column| cell(row, column)).collect()).collect()
        }

        /// Gauss-Jordan; panics for a singular matrix.
        pub(super) fn invert(matrix: &Matrix) -> Matrix {
            let size = matrix.len();
            let mut work: Matrix = matrix
                .iter()
                .enumerate()
                .map(|(at, row)| row.iter().copied().chain((0..size).map(|column| u8::from(column == at))).collect())
                .collect();
            for column in 0..size {
                let pivot = (column..size).find(|&row| work[row][column] != 0).expect("singular");
                work.swap(column, pivot);
                let scale = inverse(work[column][column]);
                work[column].iter_mut().for_each(|cell| *cell = multiply(*cell, scale));
                let pivot_row = work[column].clone();
                for (at, row) in work.iter_mut().enumerate().filter(|(at, _)| *at != column) {
                    debug_assert_ne!(at, column);
                    let factor = row[column];
                    row.iter_mut().zip(&pivot_row).for_each(|(cell, &above)| *cell ^= multiply(factor, above));
                }
            }
            work.into_iter().map(|row| row[size..].to_vec()).collect()
        }

        pub(super) fn encoding(k: usize, n: usize) -> Matrix {
            let power = |row: usize, exponent| (0..exponent).fold(1, |value, _| multiply(value, row as u8));
            let vandermonde: Matrix = (0..n).map(|row| (0..k).map(|column| power(row, column)).collect()).collect();
            product(&vandermonde, &invert(&vandermonde[..k].to_vec()))
        }

        /// All n shards of k data shards.
        pub(super) fn shards(k: usize, n: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
            product(&encoding(k, n), &data.to_vec())
        }
    }

    fn data(k: usize, bytes: usize) -> Vec<Vec<u8>> {
        let mut rng = ChaCha20Rng::seed_from_u64(k as u64);
        (0..k)
            .map(|_| {
                let mut shard = vec![0; bytes];
                rng.fill_bytes(&mut shard);
                shard
            })
            .collect()
    }

    fn encoded(coding: Coding, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut parity = vec![vec![0; data[0].len()]; coding.parity_shards().into()];
        let from: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut to: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        ErasureCode::new(coding).encode(&from, &mut to);
        data.iter().cloned().chain(parity).collect()
    }

    /// Tries every way to lose `lost` of n shards; says how many there were.
    fn every_loss(k: u8, n: u8, lost: u32, bytes: usize) -> usize {
        let coding = Coding::new(k, n).unwrap();
        let shards = encoded(coding, &data(k.into(), bytes));
        let masks = (0_u32..1 << n).filter(|mask| mask.count_ones() == lost);
        let mut tried = 0;
        for mask in masks {
            let left: Vec<Option<&[u8]>> =
                (0..).zip(&shards).map(|(at, shard)| (mask >> at & 1 == 0).then_some(shard.as_slice())).collect();
            let found = reconstruct(coding, &left).unwrap();
            assert_eq!(found.len(), lost as usize);
            for (index, shard) in found {
                assert!(shard == shards[index], "{k} of {n}, loss {mask:b}, shard {index}");
            }
            tried += 1;
        }
        tried
    }

    #[test]
    fn all_126_losses_of_four_of_5_of_9() {
        assert_eq!(every_loss(5, 9, 4, 203), 126);
    }

    #[test]
    fn all_losses_of_3_of_5() {
        assert_eq!((every_loss(3, 5, 2, 203), every_loss(3, 5, 1, 203)), (10, 5));
    }

    #[test]
    fn all_6435_losses_of_eight_of_7_of_15() {
        assert_eq!(every_loss(7, 15, 8, 67), 6435);
    }

    #[test]
    fn all_losses_of_replication() {
        assert_eq!((every_loss(1, 3, 2, 100), every_loss(1, 2, 1, 100), every_loss(1, 1, 0, 100)), (3, 2, 1));
    }

    #[test]
    fn parity_is_that_of_the_definition_for_every_coding() {
        for n in 2_u8..=24 {
            for k in 2..n {
                let coding = Coding::new(k, n).unwrap();
                let data = data(k.into(), 37);
                assert!(encoded(coding, &data) == reference::shards(k.into(), n.into(), &data), "{k} of {n}");
            }
        }
    }

    #[test]
    fn blocks_join_without_a_seam() {
        let coding = Coding::new(5, 9).unwrap();
        let data = data(5, 2 * BLOCK_BYTES + 777);
        let shards = encoded(coding, &data);
        assert!(shards == reference::shards(5, 9, &data));
        let left: Vec<Option<&[u8]>> =
            (0..).zip(&shards).map(|(at, shard)| (at % 2 == 0).then_some(shard.as_slice())).collect();
        for (index, shard) in reconstruct(coding, &left).unwrap() {
            assert!(shard == shards[index], "shard {index}");
        }
    }

    /// Against the definition, and the first parity row as a number to look at.
    #[test]
    fn the_matrix_of_5_of_9_is_pinned() {
        let rows = reference::encoding(5, 9);
        let coding = Coding::new(5, 9).unwrap();
        let unit: Vec<Vec<u8>> = (0..5).map(|at| (0..5).map(|column| u8::from(at == column)).collect()).collect();
        let columns = encoded(coding, &unit);
        assert_eq!(columns, rows);
        assert_eq!(rows[5], [7, 7, 6, 6, 1], "first parity row");
    }

    #[test]
    fn fewer_than_k_are_refused() {
        let coding = Coding::new(3, 5).unwrap();
        let shard = [1_u8; 10];
        let error = reconstruct(coding, &[Some(&shard), None, None, Some(&shard), None]).unwrap_err();
        assert!(error.to_string().contains("3 shards are needed to rebuild others, 2 were given"), "{error}");
        assert!(reconstruct(Coding::new(1, 3).unwrap(), &[None, None, None]).is_err());
    }
}
