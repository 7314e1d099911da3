use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::gathering::{Gathering, KnownCards, NotCounted, Standing, Why, identify, next_set};
use super::transcript::{self, Transcript, TranscriptFault};
use super::*;
use crate::error::SignatureFault;
use crate::hand::{Confirmation, Progress};
use crate::slip39::words;

const VAULT: VaultId = VaultId([0x3c; 16]);

fn rng(number: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([number; 32])
}

fn seed() -> Seed {
    Seed::from_array([9; 32])
}

fn terms(set: u32, need: u8, total: u8) -> Terms {
    Terms { vault: VAULT, generation: Generation(1), set, need, total, holders: Vec::new() }
}

fn dealt(set: u32, need: u8, total: u8) -> Dealt {
    terms(set, need, total).planned().unwrap().deal(seed(), &mut rng(set as u8)).unwrap()
}

fn text(dealt: &Dealt, number: u8) -> String {
    dealt.cards()[usize::from(number - 1)].to_text().expose_secret().to_owned()
}

fn bare(dealt: &Dealt, number: u8) -> String {
    let indices = dealt.cards()[usize::from(number - 1)].indices();
    indices.iter().map(|&index| words::word(index)).collect::<Vec<_>>().join(" ")
}

/// The words of a card with other ones at these positions.
fn with_wrong(dealt: &Dealt, number: u8, positions: &[usize]) -> String {
    let mut indices = dealt.cards()[usize::from(number - 1)].indices().to_vec();
    for position in positions {
        indices[position - 1] ^= 3;
    }
    indices.into_iter().map(words::word).collect::<Vec<_>>().join(" ")
}

fn committed(dealt: Dealt) -> CardSet {
    let mut dealt = dealt;
    for number in 1..=dealt.terms().total {
        let text = text(&dealt, number);
        dealt.read_back(number, &text).unwrap();
    }
    let hash = Hash([1; 32]);
    dealt.rehearse().unwrap().opened(&hash, &hash).unwrap().card_set(77)
}

fn known(sets: &[CardSet]) -> KnownCards {
    let root = seed().root_key(Generation(1)).fingerprint();
    KnownCards { vault: VAULT, generation: Generation(1), root, sets: sets.to_vec() }
}

#[test]
fn a_ceremony_ends_only_when_every_card_came_back() {
    for (need, total) in [(1, 1), (2, 3), (3, 5), (16, 16)] {
        for left_out in 0..=total {
            let mut dealt = dealt(4, need, total);
            for number in (1..=total).filter(|number| *number != left_out) {
                let text = if number % 2 == 0 { bare(&dealt, number) } else { text(&dealt, number) };
                dealt.read_back(number, &text).unwrap();
            }
            if left_out > 0 {
                assert_eq!(dealt.missing(), [left_out]);
                let error = dealt.rehearse().err().expect("a card is missing");
                assert_eq!(error, CardError::NotEnough { have: total - 1, need: total });
                continue;
            }
            let rehearsal = dealt.rehearse().unwrap();
            assert_eq!(rehearsal.seed().expose_secret(), seed().expose_secret());
            let set = rehearsal.opened(&Hash([7; 32]), &Hash([7; 32])).unwrap().card_set(5);
            assert_eq!((set.number, set.need, set.cards.len(), set.created_ms), (4, need, usize::from(total), 5));
        }
    }
}

#[test]
fn what_was_sealed_must_have_been_opened() {
    let mut dealt = dealt(1, 1, 1);
    let text = text(&dealt, 1);
    dealt.read_back(1, &text).unwrap();
    let refused = dealt.rehearse().unwrap().opened(&Hash([7; 32]), &Hash([8; 32]));
    assert!(matches!(refused.err(), Some(CardError::WrongKey { .. })));
}

#[test]
fn words_that_differ_are_named_by_position() {
    let mut dealt = dealt(1, 3, 5);
    for positions in [vec![1], vec![7], vec![33], vec![3, 8, 21]] {
        let wrong = with_wrong(&dealt, 2, &positions);
        assert_eq!(dealt.read_back(2, &wrong), Err(ReadBackFault::Words(positions)));
    }
    let other = bare(&dealt, 3);
    assert_eq!(dealt.read_back(2, &other), Err(ReadBackFault::Other { wanted: 2, found: 3 }));
    let short = bare(&dealt, 2).rsplit_once(' ').unwrap().0.to_owned();
    assert!(matches!(dealt.read_back(2, &short), Err(ReadBackFault::Unreadable(CardError::WordCount { found: 32 }))));
    let head = text(&dealt, 2).replace("set: 1", "set: 8");
    assert!(dealt.read_back(2, &head).is_err());
    let generation = text(&dealt, 2).replace("generation: 1", "generation: 2");
    assert_eq!(dealt.read_back(2, &generation), Err(ReadBackFault::Head));
    assert_eq!(dealt.missing(), [1, 2, 3, 4, 5]);
}

#[test]
fn terms_that_cannot_be_kept_are_refused() {
    let refused = |terms: Terms| terms.planned().err().expect("refused");
    for (need, total) in [(0, 3), (4, 3), (1, 3), (2, 17)] {
        assert!(matches!(refused(terms(1, need, total)), CardError::Plan { .. }));
    }
    let named =
        |holders: &[&str]| Terms { holders: holders.iter().map(ToString::to_string).collect(), ..terms(1, 2, 2) };
    assert!(named(&["Anna", "Ben"]).planned().is_ok());
    for holders in [&["Anna"][..], &["Anna", "Anna"], &["Anna", "B\nen"], &["Anna", &"x".repeat(61)]] {
        refused(named(holders));
    }
}

#[test]
fn with_the_record_each_false_card_is_named_and_the_counter_stands() {
    let (old, new) = (dealt(1, 3, 5), dealt(2, 3, 5));
    let stranger = {
        let terms = Terms { vault: VaultId([9; 16]), ..terms(2, 3, 5) };
        terms.planned().unwrap().deal(Seed::from_array([1; 32]), &mut rng(9)).unwrap()
    };
    let never = terms(2, 3, 5).planned().unwrap().deal(seed(), &mut rng(99)).unwrap();
    let (cards, old_cards): (Vec<_>, Vec<_>) = (1..=5).map(|number| (bare(&new, number), text(&old, number))).unzip();
    let foreign = text(&stranger, 4);
    let forged = bare(&never, 4);
    let wrong = with_wrong(&new, 4, &[7]);
    let mut gathering = Gathering::new(vec![known(&[committed(old), committed(new)])]);
    assert!(gathering.knows_cards());
    let progress = |have, need| Progress { have, need };
    assert_eq!(gathering.add(&cards[1]).unwrap().progress, progress(1, 3));
    let refused: Vec<NotCounted> = [&cards[1], &old_cards[4], &foreign, &forged, &wrong]
        .into_iter()
        .map(|card| gathering.add(card).expect_err("not counted"))
        .collect();
    assert_eq!(gathering.progress(), progress(1, 3));
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(said[0], "#2 again: same card, not counted");
    assert_eq!(said[1], "#5 set 1: old set, not counted");
    assert!(said[2].contains("another vault (09090909"), "{}", said[2]);
    assert_eq!(refused[3].why, Why::NotHandedOut);
    assert!(said[4].contains("word 7"), "{}", said[4]);
    gathering.add(&cards[3]).unwrap();
    assert_eq!(gathering.add(&cards[0]).unwrap().progress, progress(3, 3));
    let recovered = gathering.recover().unwrap();
    assert_eq!((recovered.confirmed, recovered.vault), (Confirmation::Root, Some(VAULT)));
    assert_eq!(recovered.seed.expose_secret(), seed().expose_secret());
}

#[test]
fn an_old_set_still_opens_and_without_a_record_only_checksum_and_digest_speak() {
    let (old, new) = (dealt(1, 2, 3), dealt(2, 2, 3));
    let words: Vec<String> = (1..=3).map(|number| bare(&old, number)).collect();
    let newer = bare(&new, 3);
    let known = known(&[committed(old), committed(new)]);
    assert_eq!(identify(&words[0], std::slice::from_ref(&known)).unwrap().standing, Standing::Superseded);
    assert_eq!(identify(&newer, std::slice::from_ref(&known)).unwrap().standing, Standing::Current);
    assert_eq!(identify(&newer, &[]).unwrap().standing, Standing::Unknown);
    let mut gathering = Gathering::new(vec![known]);
    gathering.add(&words[0]).unwrap();
    assert_eq!(gathering.add(&newer).unwrap_err().why, Why::NewerSet);
    gathering.add(&words[2]).unwrap();
    assert_eq!((gathering.set(), gathering.newest_set()), (Some(1), Some(2)));
    assert_eq!(gathering.recover().unwrap().confirmed, Confirmation::Root);

    let mut alone = Gathering::new(Vec::new());
    assert!(!alone.knows_cards());
    alone.add(&words[0]).unwrap();
    alone.add(&words[1]).unwrap();
    let recovered = alone.recover().unwrap();
    assert_eq!((recovered.confirmed, recovered.vault), (Confirmation::Digest, None));
}

#[test]
fn a_forged_record_beside_the_true_one_stops_nobody() {
    let dealt = dealt(1, 2, 3);
    let words: Vec<String> = (1..=3).map(|number| bare(&dealt, number)).collect();
    let truth = known(&[committed(dealt)]);
    let mut forged = truth.clone();
    forged.root = Hash([6; 32]);
    forged.sets[0].cards = vec![Hash([5; 32]); 3];
    for records in [vec![forged.clone(), truth.clone()], vec![truth, forged]] {
        let mut gathering = Gathering::new(records);
        gathering.add(&words[2]).unwrap();
        gathering.add(&words[1]).unwrap();
        assert_eq!(gathering.recover().unwrap().confirmed, Confirmation::Root);
    }
}

#[test]
fn every_three_of_five_recover_and_every_two_do_not() {
    let dealt = dealt(1, 3, 5);
    let words: Vec<String> = (1..=5).map(|number| bare(&dealt, number)).collect();
    let record = known(&[committed(dealt)]);
    let mut full = 0;
    for mask in 0_u32..32 {
        let mut gathering = Gathering::new(vec![record.clone()]);
        for at in (0..5).filter(|at| mask >> at & 1 == 1) {
            gathering.add(&words[at]).unwrap();
        }
        match mask.count_ones() {
            0..3 => assert!(matches!(gathering.recover().err(), Some(CardError::NotEnough { .. })), "{mask:05b}"),
            _ => {
                full += 1;
                assert_eq!(gathering.recover().unwrap().seed.expose_secret(), seed().expose_secret(), "{mask:05b}");
            }
        }
    }
    assert_eq!(full, 10 + 5 + 1);
}

#[test]
fn a_transcript_holds_no_word_and_an_altered_byte_is_seen() {
    let dealt = dealt(3, 2, 3);
    let terms = Terms { holders: vec!["Anna".to_owned(), String::new(), "Ben".to_owned()], ..dealt.terms().clone() };
    let mut transcript = Transcript::new("split", "host\nname");
    transcript.add("2026-11-21 10:00:00Z", 1, "two warnings:\nnone heeded");
    let root = seed().root_key(Generation(1));
    let cards: Vec<Hash> = dealt.cards().iter().map(Card::hash).collect();
    let signed = transcript.signed(&terms, &cards, &root);
    let said = transcript::verify(&signed, root.verifying_key()).unwrap();
    assert_eq!((said.vault, said.set, said.cards.len()), (VAULT, 3, 3));
    assert_eq!(said.cards[2], cards[2].to_string());
    assert!(signed.contains("Anna") && signed.contains("two warnings:none heeded") && signed.contains("initials"));
    let lower = signed.to_lowercase();
    let said: Vec<&str> = lower.split_whitespace().collect();
    let mut runs = 0;
    for number in 1..=3 {
        let bare = bare(&dealt, number);
        let words: Vec<&str> = bare.split(' ').collect();
        runs += words.windows(2).filter(|pair| said.windows(2).any(|text| text == *pair)).count();
    }
    assert_eq!(runs, 0, "two words of a card stand side by side in a transcript");
    // A verification each: every seventh byte is enough to meet every line.
    for at in (0..signed.len()).step_by(7) {
        let mut bytes = signed.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        assert!(transcript::verify(&text, root.verifying_key()).is_err(), "byte {at}");
    }
    let stranger = Seed::from_array([1; 32]).root_key(Generation(1));
    let refused = transcript::verify(&signed, stranger.verifying_key());
    assert!(matches!(refused, Err(TranscriptFault::Signature(SignatureFault::Both))));
    assert_eq!(transcript::verify("holdfast card\n", root.verifying_key()), Err(TranscriptFault::NotATranscript));
}

/// A rotation later: generation 2 deals set 3, and its record lists its own cards alone.
struct Rotated {
    old: Vec<String>,
    old_bare: Vec<String>,
    new: Vec<String>,
    new_bare: Vec<String>,
    /// Newest first.
    known: Vec<KnownCards>,
}

fn second_seed() -> Seed {
    Seed::from_array([77; 32])
}

fn rotated() -> Rotated {
    let old = dealt(1, 2, 3);
    let terms = Terms { generation: Generation(2), ..terms(3, 2, 3) };
    let new = terms.planned().unwrap().deal(second_seed(), &mut rng(31)).unwrap();
    let texts = |dealt: &Dealt| (1..=3).map(|number| text(dealt, number)).collect::<Vec<_>>();
    let bares = |dealt: &Dealt| (1..=3).map(|number| bare(dealt, number)).collect::<Vec<_>>();
    let root = second_seed().root_key(Generation(2)).fingerprint();
    let (old_texts, old_bare, new_texts, new_bare) = (texts(&old), bares(&old), texts(&new), bares(&new));
    let newest = KnownCards { vault: VAULT, generation: Generation(2), root, sets: vec![committed(new)] };
    let known = KnownCards::merged([known(&[committed(old)]), newest]);
    Rotated { old: old_texts, old_bare, new: new_texts, new_bare, known }
}

fn gathered(known: &[KnownCards], cards: &[&String]) -> crate::hand::Recovered {
    let mut gathering = Gathering::new(known.to_vec());
    for card in cards {
        gathering.add(card).unwrap();
    }
    gathering.recover().unwrap()
}

#[test]
fn after_a_rotation_old_cards_open_the_old_key_and_new_cards_the_new_one() {
    let Rotated { old, old_bare, new, new_bare, known } = rotated();
    assert_eq!(known.iter().map(|known| known.generation.0).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(next_set(&known), 4);
    // With the old record at hand, and with the new one alone, which names the old root and none of its cards.
    let mut alone = known.clone();
    alone[1].sets.clear();
    for records in [&known, &alone] {
        for cards in [[&old[0], &old[2]], [&old_bare[1], &old_bare[0]]] {
            assert!(matches!(identify(cards[0], records).unwrap().standing, Standing::Former | Standing::Unlisted));
            let recovered = gathered(records, &cards);
            assert_eq!((recovered.generation, recovered.confirmed), (Some(Generation(1)), Confirmation::Root));
            assert!(recovered.seed.expose_secret() == seed().expose_secret());
        }
        for cards in [[&new[0], &new[2]], [&new_bare[1], &new_bare[0]]] {
            assert_eq!(identify(cards[0], records).unwrap().standing, Standing::Current);
            let recovered = gathered(records, &cards);
            assert_eq!((recovered.generation, recovered.confirmed), (Some(Generation(2)), Confirmation::Root));
            assert!(recovered.seed.expose_secret() == second_seed().expose_secret());
        }
        let mut mixed = Gathering::new(records.clone());
        mixed.add(&new[0]).unwrap();
        assert_eq!(mixed.add(&old[1]).unwrap_err().why, Why::FormerKey(Generation(1)));
        assert_eq!(mixed.add(&new[1]).unwrap().progress, Progress { have: 2, need: 2 });
        assert_eq!(mixed.recover().unwrap().generation, Some(Generation(2)));
    }
    // The cards that came first do not decide what the others are worth.
    let mut mixed = Gathering::new(alone);
    mixed.add(&old[0]).unwrap();
    mixed.add(&new[0]).unwrap();
    assert_eq!(mixed.add(&new[1]).unwrap().progress, Progress { have: 2, need: 2 });
    assert_eq!(mixed.recover().unwrap().generation, Some(Generation(2)));
    // A former card that was altered is still named where the old record is at hand.
    let forged = text(&terms(1, 2, 3).planned().unwrap().deal(seed(), &mut rng(88)).unwrap(), 1);
    assert_eq!(identify(&forged, &known).unwrap().standing, Standing::NotHandedOut);
}

#[test]
fn a_record_that_is_older_than_the_cards_makes_none_of_them_forged() {
    let (old, new) = (dealt(1, 2, 3), dealt(2, 2, 3));
    let cards = [text(&new, 1), text(&new, 3)];
    let words = [bare(&new, 1), bare(&new, 3)];
    let old_card = bare(&old, 2);
    let stale = known(&[committed(old)]);
    let mut gathering = Gathering::new(vec![stale.clone()]);
    for cards in [&cards, &words] {
        assert_eq!(identify(&cards[0], std::slice::from_ref(&stale)).unwrap().standing, Standing::Unlisted);
        let recovered = gathered(std::slice::from_ref(&stale), &[&cards[0], &cards[1]]);
        assert_eq!((recovered.confirmed, recovered.vault), (Confirmation::Root, Some(VAULT)));
    }
    // A card the record knows does not throw away what was counted before it.
    gathering.add(&cards[0]).unwrap();
    gathering.add(&cards[1]).unwrap();
    assert_eq!(gathering.add(&old_card).unwrap().standing, Standing::Current);
    assert_eq!(gathering.recover().unwrap().confirmed, Confirmation::Root);
    // A whole set that somebody made up gives a key that no root agrees with.
    let forger = terms(9, 2, 3).planned().unwrap().deal(Seed::from_array([3; 32]), &mut rng(3)).unwrap();
    let mut gathering = Gathering::new(vec![stale]);
    gathering.add(&text(&forger, 1)).unwrap();
    gathering.add(&text(&forger, 2)).unwrap();
    assert!(matches!(gathering.recover().err(), Some(CardError::WrongKey { .. })));
}

#[test]
fn records_of_one_root_are_read_together() {
    let (one, other) = (dealt(1, 2, 3), dealt(2, 2, 3));
    let (first, second) = (text(&one, 1), text(&other, 1));
    // Two ceremonies that did not know of each other; one record overtook the other.
    let known = KnownCards::merged([known(&[committed(one)]), known(&[committed(other)])]);
    assert_eq!((known.len(), next_set(&known)), (1, 3));
    assert_eq!(identify(&first, &known).unwrap().standing, Standing::Superseded);
    assert_eq!(identify(&second, &known).unwrap().standing, Standing::Current);
}

#[test]
fn lines_that_differ_from_the_record_are_named_by_whoever_checks_one_card() {
    let dealt = dealt(2, 2, 3);
    let card = text(&dealt, 2);
    let known = [known(&[committed(dealt)])];
    assert_eq!(identify(&card, &known).unwrap().standing, Standing::Current);
    let check = seed().root_key(Generation(1)).verifying_key().check().to_string();
    let changed = [
        ("set: 2", "set: 1", "set"),
        ("card: 2 of 3", "card: 2 of 4", "card"),
        ("generation: 1", "generation: 2", "generation"),
        (check.as_str(), "00-11-22", "key check"),
    ];
    for (from, to, line) in changed {
        assert!(card.contains(from));
        let refused = identify(&card.replacen(from, to, 1), &known).unwrap_err();
        assert_eq!(refused, CardError::Contradiction { number: 2, line });
    }
}
