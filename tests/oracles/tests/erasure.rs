//! Parity and reconstruction against `reed-solomon-erasure` 6, whose code is that of Backblaze's and klauspost's
//! libraries: the stored bytes belong to that code and not to our engine.

use oracles::noise;
use reed_solomon_erasure::galois_8::ReedSolomon;
use vault_codec::{ErasureCode, reconstruct};
use vault_format::suite::Coding;

fn coding(k: usize, n: usize) -> Coding {
    Coding::new(k as u8, n as u8).expect("1 < k < n <= 24")
}

fn data(k: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..k).map(|shard| noise(1 + shard as u64, bytes)).collect()
}

fn ours(k: usize, n: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0; data[0].len()]; n - k];
    let from: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut to: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    ErasureCode::new(coding(k, n)).encode(&from, &mut to);
    data.iter().cloned().chain(parity).collect()
}

fn theirs(k: usize, n: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut shards = data.to_vec();
    shards.resize(n, vec![0; data[0].len()]);
    ReedSolomon::new(k, n - k).expect("a code").encode(&mut shards).expect("shards of one length");
    shards
}

#[test]
fn parity_is_theirs_byte_for_byte() {
    for (k, n) in [(5, 9), (3, 5), (7, 15)] {
        // Lengths around the engine's vectors and around its block.
        for bytes in [1, 31, 64, 4096, 65_536, 32 * 1024 + 33] {
            let data = data(k, bytes);
            assert!(ours(k, n, &data) == theirs(k, n, &data), "{k} of {n}, {bytes} bytes");
        }
    }
}

#[test]
fn parity_is_theirs_for_every_coding_the_format_knows() {
    let mut codings = 0;
    for n in 3..=24 {
        for k in 2..n {
            let data = data(k, 97);
            assert!(ours(k, n, &data) == theirs(k, n, &data), "{k} of {n}");
            codings += 1;
        }
    }
    assert_eq!(codings, 253);
}

/// Each of the 126 ways to keep five of nine: both rebuild the same nine from what the other coded.
#[test]
fn every_survivor_set_of_5_of_9_rebuilds_alike() {
    let (k, n) = (5, 9);
    let data = data(k, 1027);
    let whole = theirs(k, n, &data);
    let mut sets = 0;
    for kept in (0_u32..1 << n).filter(|kept| kept.count_ones() as usize == k) {
        let survives = |index: usize| kept >> index & 1 == 1;
        let mut from_ours: Vec<Option<Vec<u8>>> =
            ours(k, n, &data).into_iter().enumerate().map(|(at, shard)| survives(at).then_some(shard)).collect();
        ReedSolomon::new(k, n - k).expect("a code").reconstruct(&mut from_ours).expect("five are enough");
        assert!(from_ours.iter().flatten().eq(whole.iter()), "theirs from ours, kept {kept:09b}");
        let from_theirs: Vec<Option<&[u8]>> =
            whole.iter().enumerate().map(|(at, shard)| survives(at).then_some(shard.as_slice())).collect();
        for (index, shard) in reconstruct(coding(k, n), &from_theirs).expect("five are enough") {
            assert!(!survives(index) && shard == whole[index], "ours from theirs, kept {kept:09b}, shard {index}");
        }
        sets += 1;
    }
    assert_eq!(sets, 126);
}
