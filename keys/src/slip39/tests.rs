use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::error::CardError;
use crate::secret::SecretBytes;

/// Official vectors (origin in `testdata/README.md`): description, mnemonics,
/// secret in hex or empty where they must fail. Passphrase TREZOR.
const VECTORS: &str = include_str!("../../testdata/slip39.json");

fn combine_words(mnemonics: &[&str]) -> Result<SecretBytes, CardError> {
    let shares = mnemonics.iter().map(|words| Share::parse(words)).collect::<Result<Vec<_>, _>>()?;
    combine(&shares.iter().collect::<Vec<_>>(), b"TREZOR")
}

#[test]
fn official_vectors() {
    let cases: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for case in cases.as_array().unwrap() {
        let name = case[0].as_str().unwrap();
        let mnemonics: Vec<_> = case[1].as_array().unwrap().iter().map(|words| words.as_str().unwrap()).collect();
        let wanted = case[2].as_str().unwrap();
        let found = combine_words(&mnemonics);
        if wanted.is_empty() {
            assert!(found.is_err(), "{name}");
            invalid += 1;
        } else {
            let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut secret = vec![0; wanted.len() / 2];
            vault_format::ids::hex_into(wanted, &mut secret).unwrap();
            assert_eq!(found.expose_secret(), secret, "{name}");
            valid += 1;
        }
        for words in &mnemonics {
            if let Ok(share) = Share::parse(words) {
                assert_eq!(share.to_words().expose_secret(), *words, "{name}: words survive");
            }
        }
    }
    assert_eq!((valid, invalid), (15, 30));
}

#[test]
fn official_failures_are_named_by_their_culprit() {
    let cases: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let error = |number: usize| {
        let mnemonics: Vec<_> =
            cases[number - 1][1].as_array().unwrap().iter().map(|words| words.as_str().unwrap()).collect();
        combine_words(&mnemonics).err().unwrap()
    };
    assert!(matches!(error(21), CardError::Checksum { .. }));
    assert_eq!(error(22), CardError::Malformed { reason: "its leading bits are not zero" });
    assert_eq!(error(24), CardError::NotEnough { have: 1, need: 2 });
    for number in [25, 26, 27, 28] {
        assert!(matches!(error(number), CardError::WrongSet { .. }), "case {number}");
    }
    assert!(matches!(error(29), CardError::Malformed { .. }));
    assert!(matches!(error(30), CardError::Duplicate { .. } | CardError::Conflict { .. }));
    assert!(matches!(error(31), CardError::Malformed { .. }));
    assert_eq!(error(32), CardError::Digest { spare: false });
    assert_eq!(error(33), CardError::NotEnough { have: 1, need: 2 });
    assert!(matches!(error(39), CardError::WordCount { found: 19 }));
    assert!(matches!(error(40), CardError::WordCount { .. }));
}

fn deal(secret: &[u8], need: u8, total: u8, rng: u8) -> Vec<Share> {
    let request = SplitRequest { secret, passphrase: b"", need, total };
    split(&request, &mut ChaCha20Rng::from_seed([rng; 32])).unwrap()
}

fn subsets(total: u32) -> impl Iterator<Item = u32> {
    0..1 << total
}

#[test]
fn every_three_of_five_open_and_every_two_do_not() {
    let secret: Vec<u8> = (0..32).collect();
    let shares = deal(&secret, 3, 5, 1);
    let mut opened = 0;
    for subset in subsets(5) {
        let chosen: Vec<_> = (0..5).filter(|i| subset >> i & 1 == 1).map(|i| &shares[i]).collect();
        match chosen.len() {
            3 => {
                assert_eq!(combine(&chosen, b"").unwrap().expose_secret(), secret);
                opened += 1;
            }
            have @ ..3 => {
                let need = if have == 0 { 1 } else { 3 };
                assert_eq!(combine(&chosen, b"").err(), Some(CardError::NotEnough { have: have as u8, need }));
            }
            _ => assert!(matches!(combine(&chosen, b""), Err(CardError::Malformed { .. }))),
        }
    }
    assert_eq!(opened, 10);
}

/// Two shares whose threshold was lowered by a forger (checksum made to fit)
/// meet the digest.
#[test]
fn a_lowered_threshold_meets_the_digest() {
    let secret: Vec<u8> = (0..32).collect();
    let mut shares = deal(&secret, 3, 5, 2);
    for share in &mut shares {
        share.member_threshold = 2;
    }
    for a in 0..5 {
        for b in 0..a {
            assert_eq!(combine(&[&shares[a], &shares[b]], b"").err(), Some(CardError::Digest { spare: false }));
        }
    }
}

#[test]
fn one_share_too_few_says_nothing_about_the_secret() {
    // With k-1 shares every secret remains possible: for any other secret there is
    // a last share that completes them. Shown for k = 2 on one byte position.
    let shares = deal(&[7; 32], 2, 3, 3);
    let known = shares[0].value.expose_secret();
    let mut seen = std::collections::BTreeSet::new();
    for guess in 0..=255 {
        let points = [field::Point { x: 0, y: &known[..1] }, field::Point { x: 255, y: &[guess] }];
        seen.insert(field::interpolate(&points, 1)[0]);
    }
    assert_eq!(seen.len(), 256);
}

#[test]
fn passphrases_and_other_lengths_survive() {
    for (length, words) in [(16, 20), (32, 33), (64, 59)] {
        let secret: Vec<u8> = (0..length).collect();
        let request = SplitRequest { secret: &secret, passphrase: b"correct horse", need: 2, total: 2 };
        let shares = split(&request, &mut ChaCha20Rng::from_seed([4; 32])).unwrap();
        assert_eq!(shares[0].to_words().expose_secret().split(' ').count(), words);
        let both = [&shares[0], &shares[1]];
        assert_eq!(combine(&both, b"correct horse").unwrap().expose_secret(), secret);
        assert_ne!(combine(&both, b"").unwrap().expose_secret(), secret);
    }
}

#[test]
fn splits_that_make_no_sense_are_refused() {
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    for (need, total, bytes) in [(0, 5, 32), (6, 5, 32), (1, 2, 32), (3, 17, 32), (2, 3, 14), (2, 3, 33)] {
        let request = SplitRequest { secret: &vec![1; bytes], passphrase: b"", need, total };
        assert!(matches!(split(&request, &mut rng), Err(CardError::Plan { .. })), "{need} of {total}, {bytes} bytes");
    }
}
