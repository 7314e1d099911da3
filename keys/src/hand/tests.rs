use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

mod forgeries;

use super::*;
use crate::card::SplitPlan;
use crate::secret::SecretBytes;
use crate::slip39::Common;

const VAULT: VaultId = VaultId([0x3c; 16]);
const SEED: [u8; 32] = [9; 32];

fn plan(set: u32, need: u8, total: u8) -> SplitPlan {
    SplitPlan { vault: VAULT, generation: Generation(1), set, need, total }
}

fn deal(seed: [u8; 32], plan: &SplitPlan) -> Vec<Card> {
    let mut rng = ChaCha20Rng::from_seed([plan.set as u8; 32]);
    card::split(&Seed::from_array(seed), plan, &mut rng).unwrap()
}

/// The texts of a 3-of-5 set.
fn texts(set: u32) -> Vec<String> {
    deal(SEED, &plan(set, 3, 5)).iter().map(|card| card.to_text().expose_secret().to_owned()).collect()
}

fn words(text: &str) -> String {
    Card::parse(text).unwrap().into_parts().1.to_words().expose_secret().to_owned()
}

fn handout(set: u32) -> Handout {
    let cards = deal(SEED, &plan(set, 3, 5)).iter().map(Card::hash).collect();
    Handout {
        vault: VAULT,
        generation: Generation(1),
        root: Seed::from_array(SEED).root_key(Generation(1)).fingerprint(),
        set: CardSet { number: set, need: 3, cards, created_ms: 0 },
    }
}

/// Gathers all texts that are accepted and recovers.
fn recover(hand: Hand, texts: &[&str]) -> Result<Recovered, CardError> {
    let mut hand = hand;
    texts.iter().try_for_each(|text| hand.add_text(text).map(drop))?;
    hand.recover()
}

#[test]
fn every_three_of_five_recover_and_every_fewer_do_not() {
    let texts = texts(1);
    let mut recovered = 0;
    for subset in 0_u32..32 {
        let chosen: Vec<_> = (0..5).filter(|at| subset >> at & 1 == 1).map(|at| texts[at].as_str()).collect();
        let result = recover(Hand::new(), &chosen);
        if chosen.len() < 3 {
            let need = if chosen.is_empty() { 1 } else { 3 };
            assert_eq!(result.err(), Some(CardError::NotEnough { have: chosen.len() as u8, need }));
            continue;
        }
        let result = result.unwrap();
        assert_eq!(result.seed.expose_secret(), &SEED);
        assert_eq!((result.generation, result.vault), (Some(Generation(1)), Some(VAULT)));
        assert_eq!((result.confirmed, result.unfit.len()), (Confirmation::Card, 0));
        recovered += 1;
    }
    assert_eq!(recovered, 10 + 5 + 1);
}

#[test]
fn bare_words_are_enough_and_say_what_they_prove() {
    let bare: Vec<_> = texts(1).iter().map(|text| words(text)).collect();
    let bare: Vec<_> = bare.iter().map(String::as_str).collect();
    let result = recover(Hand::new(), &bare[..3]).unwrap();
    assert_eq!((result.seed.expose_secret(), result.confirmed), (&SEED, Confirmation::Digest));
    assert_eq!((result.generation, result.vault), (None, None));
    // With the vault record they prove as much as cards do.
    let result = recover(Hand::for_handout(handout(1)), &bare[2..]).unwrap();
    assert_eq!((result.seed.expose_secret(), result.confirmed), (&SEED, Confirmation::Root));
}

#[test]
fn a_recovery_sheet_is_one_card() {
    let sheet = deal(SEED, &plan(1, 1, 1));
    let text = sheet[0].to_text();
    let result = recover(Hand::new(), &[text.expose_secret()]).unwrap();
    assert_eq!((result.seed.expose_secret(), result.confirmed), (&SEED, Confirmation::Card));
    let result = recover(Hand::new(), &[&words(text.expose_secret())]).unwrap();
    assert_eq!((result.seed.expose_secret(), result.confirmed), (&SEED, Confirmation::Checksum));
}

#[test]
fn each_culprit_is_named_and_not_counted() {
    let (first, second) = (texts(1), texts(2));
    let mut hand = Hand::new();
    hand.add_text(&first[0]).unwrap();
    assert_eq!(hand.add_text(&first[0]), Err(CardError::Duplicate { number: 1 }));
    let sets = |set| SetName::Numbered(set, Generation(1));
    let wrong = CardError::WrongSet { number: 2, found: sets(2), wanted: sets(1) };
    assert_eq!(hand.add_text(&second[1]), Err(wrong));
    // The same with a doctored head: the words' identifier tells.
    let doctored = second[1].replace("set: 2", "set: 1");
    assert!(matches!(hand.add_text(&doctored), Err(CardError::WrongSet { number: 2, .. })));
    let elsewhere = first[1].replace("vault: 3c", "vault: 3d");
    assert!(matches!(hand.add_text(&elsewhere), Err(CardError::WrongVault { number: 2, .. })));
    let misprinted = first[1].replace("of 5", "of 6");
    assert_eq!(hand.add_text(&misprinted), Err(CardError::Contradiction { number: 2, line: "card" }));
    assert_eq!(hand.progress(), Progress { have: 1, need: 3 });
    hand.add_text(&words(&first[1])).unwrap();
    assert_eq!(hand.recover().err(), Some(CardError::NotEnough { have: 2, need: 3 }));
    assert_eq!(hand.add_text(&first[4]), Ok(Progress { have: 3, need: 3 }));
    assert_eq!(hand.recover().unwrap().seed.expose_secret(), &SEED);
}

/// The card with one byte of its value changed and a checksum that fits.
fn forged(text: &str, change: impl FnOnce(&mut Share, &mut Vec<u8>)) -> String {
    let (head, mut share) = Card::parse(text).unwrap().into_parts();
    let mut value = share.value.expose_secret().to_vec();
    change(&mut share, &mut value);
    share.value = SecretBytes::new(value);
    let words = share.to_words();
    format!(
        "holdfast card\nvault: {}\ngeneration: {}\nset: {}\ncard: {} of {}\nneed: {}\nkey check: {}\n{}\n",
        head.vault,
        head.generation.0,
        head.set,
        share.member_index + 1,
        head.total,
        share.member_threshold,
        head.check,
        words.expose_secret(),
    )
}

#[test]
fn a_forged_card_is_refused_by_the_record_and_found_among_spare_ones() {
    let texts = texts(1);
    let bad = forged(&texts[1], |_, value| value[7] ^= 1);
    let mut known = Hand::for_handout(handout(1));
    known.add_text(&texts[0]).unwrap();
    assert_eq!(known.add_text(&bad), Err(CardError::NotHandedOut { number: 2 }));
    known.add_text(&texts[1]).unwrap();

    let mut unknown = Hand::new();
    unknown.add_text(&texts[0]).unwrap();
    unknown.add_text(&bad).unwrap();
    assert_eq!(unknown.add_text(&texts[1]), Err(CardError::Conflict { number: 2 }));
    unknown.add_text(&texts[2]).unwrap();
    assert_eq!(unknown.recover().err(), Some(CardError::Digest { spare: false }));
    // A fourth card lets the forged one be left out, by name.
    unknown.add_text(&texts[3]).unwrap();
    let result = unknown.recover().unwrap();
    assert_eq!((result.seed.expose_secret(), result.unfit), (&SEED, vec![2]));
}

#[test]
fn another_seeds_cards_with_this_vaults_heads_meet_the_root() {
    let other = deal([1; 32], &plan(1, 3, 5));
    let check = Seed::from_array(SEED).root_key(Generation(1)).verifying_key().check();
    let mut hand = Hand::new();
    for card in &other[..3] {
        let text = card.to_text().expose_secret().to_owned();
        let text = text.replace(&card.head().check.to_string(), &check.to_string());
        hand.add_text(&text).unwrap();
    }
    let found = other[0].head().check;
    assert_eq!(hand.recover().err(), Some(CardError::WrongKey { wanted: check, found }));
    let mut known = Hand::for_handout(handout(1));
    assert_eq!(known.add_text(&words(other[4].to_text().expose_secret())), Err(CardError::NotHandedOut { number: 5 }));
}

/// Two seeds come out of one hand: two cards of an older set of two, relabelled
/// alike, beside two true ones.
#[test]
fn where_two_seeds_fit_the_root_decides() {
    let pairs = |set: u32| -> Vec<String> {
        let dealt = deal(SEED, &plan(set, 2, 5));
        dealt.iter().map(|card| card.to_text().expose_secret().to_owned()).collect()
    };
    let (older, newer) = (pairs(1), pairs(2));
    let common = Card::parse(&newer[0]).unwrap().into_parts().1.common;
    let relabel = |text: &String| forged(text, |share, _| share.common = common).replace("set: 1", "set: 2");
    let mixed = [relabel(&older[0]), relabel(&older[1]), newer[2].clone(), newer[3].clone()];

    let mut cards = Hand::new();
    for text in &mixed {
        cards.add_text(text).unwrap();
    }
    let result = cards.recover().unwrap();
    assert_eq!((result.seed.expose_secret(), result.unfit), (&SEED, vec![1, 2]));

    let mut bare = Hand::new();
    for text in &mixed {
        bare.add_text(&words(text)).unwrap();
    }
    assert_eq!(bare.recover().err(), Some(CardError::Digest { spare: true }));
}
