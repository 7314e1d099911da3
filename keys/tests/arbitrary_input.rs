//! Whatever is read from outside is refused or reads back as it was written;
//! nothing panics.

use keys::card::Card;
use keys::files::{self, MasterSeed, ReadKey, VaultPublic, WriterKey};
use keys::hand::Hand;
use keys::slip39::Share;
use keys::{KeyCheck, RecipientPublic, VerifyingKey};
use proptest::prelude::*;
use vault_format::envelope::RecordKind;
use vault_format::{Blob, VaultId};

const CARD: &str = include_str!("../testdata/vectors/card-1.txt");
const SEED_FILE: &str = include_str!("../testdata/vectors/master.seed");
const WORD_LIST: &str = include_str!("../src/slip39/wordlist.txt");

fn words() -> impl Strategy<Value = String> {
    let list: Vec<_> = WORD_LIST.lines().collect();
    prop::collection::vec(prop::sample::select(list), 0..64).prop_map(|words| words.join(" "))
}

/// A text with one piece of it replaced.
fn edited(text: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof!["[ -~]{0,12}", "\\PC{0,4}", Just("\n".to_owned()), Just(String::new())];
    (any::<prop::sample::Index>(), 0_usize..40, piece).prop_map(move |(at, length, piece)| {
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        format!("{}{piece}{}", &text[..start], &text[end..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn words_are_refused_or_survive(text in prop_oneof![words(), "\\PC{0,200}"]) {
        if let Ok(share) = Share::parse(&text) {
            let back = share.to_words();
            prop_assert_eq!(back.expose_secret(), text);
        }
    }

    #[test]
    fn an_edited_card_is_refused_or_the_same_words(text in edited(CARD)) {
        let original = Card::parse(CARD).expect("the vector is a card");
        if let Ok(card) = Card::parse(&text) {
            let again = Card::parse(card.to_text().expose_secret()).expect("its own text");
            prop_assert_eq!(again.hash(), card.hash());
            // An edit may change the set or the total; the hash tells. With the same
            // head the words must be the same.
            if card.head() == original.head() {
                prop_assert_eq!(card.hash(), original.hash());
            }
        }
    }

    #[test]
    fn an_edited_key_file_is_refused_unless_it_is_the_same(text in edited(SEED_FILE)) {
        if files::decode::<MasterSeed>(text.as_bytes()).is_ok() {
            prop_assert_eq!(text, SEED_FILE);
        }
    }

    #[test]
    fn noise_is_refused(bytes: Vec<u8>, text in "\\PC{0,300}") {
        prop_assert!(files::decode::<ReadKey>(&bytes).is_err());
        prop_assert!(files::decode::<WriterKey>(text.as_bytes()).is_err());
        prop_assert!(files::decode::<VaultPublic>(&[b"holdfast key file v1\n", &bytes[..]].concat()).is_err());
        prop_assert!(Card::parse(&text).is_err());
        prop_assert!(Hand::new().add_text(&text).is_err());
        prop_assert!(VerifyingKey::from_slice(&bytes).is_err());
        prop_assert!(RecipientPublic::from_slice(&bytes).is_err());
        prop_assert!(keys::record::claimed_signer(&bytes).is_err());
        let _ = KeyCheck::parse(&text);
    }

    #[test]
    fn public_keys_of_the_right_length_do_not_panic(
        pair in prop::collection::vec(any::<u8>(), 1984),
        recipient in prop::collection::vec(any::<u8>(), 1216),
    ) {
        if let Ok(key) = VerifyingKey::from_slice(&pair) {
            prop_assert_eq!(&key.as_bytes()[..], &pair[..]);
            let authority = keys::Authority::new(VaultId([1; 16]), key.clone());
            prop_assert!(authority.chain(&[Blob(pair.clone()), Blob(recipient.clone())]).is_err());
            prop_assert!(keys::record::verify(&pair, RecordKind::Note, VaultId([1; 16]), &key).is_err());
        }
        if let Ok(key) = RecipientPublic::from_slice(&recipient) {
            prop_assert_eq!(&key.as_bytes()[..], &recipient[..]);
        }
    }
}
