//! Cards, words and key files: what people and disks bring to the keys.

use keys::card::Card;
use keys::ceremony::entry::Entry;
use keys::ceremony::gathering::identify;
use keys::files::{
    AuditorKey, JanitorKey, KeyFile, MasterSeed, MigratorKey, OperatorKey, ReadKey, VaultPublic, WriterKey, decode_any,
};
use keys::hand::Hand;
use keys::slip39::Share;
use keys::{RecipientPrivate, Secret, wrap};
use vault_format::Hash;
use vault_format::shard::{KEM_ENC_BYTES, KeySlot};

use crate::seeds::slot_vector;
use crate::{Target, same, target};

/// Cards, words, key files.
pub(crate) const TARGETS: &[Target] = &[
    target("card", card, 4_000),
    target("card-words", card_words, 10_000),
    target("card-typed", card_typed, 10_000),
    target("hand", hand, 400),
    target("key-slot", key_slot, 2_000),
    target("key-master-seed", key_file::<MasterSeed>, 4_000),
    target("key-read", key_file::<ReadKey>, 1_000),
    target("key-operator", key_file::<OperatorKey>, 500),
    target("key-writer", key_file::<WriterKey>, 500),
    target("key-janitor", key_file::<JanitorKey>, 500),
    target("key-migrator", key_file::<MigratorKey>, 500),
    target("key-auditor", key_file::<AuditorKey>, 500),
    target("key-public", key_file::<VaultPublic>, 2_000),
];

fn card(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Card::looks_like(text);
    if let Ok(card) = Card::parse(text) {
        // People add blank lines and comments; what the text says stays.
        let written = card.to_text();
        let again = Card::parse(written.expose_secret()).unwrap_or_else(|error| panic!("{error}"));
        assert!(again.hash() == card.hash() && again.number() == card.number());
        same(written.expose_secret().as_bytes(), again.to_text().expose_secret().as_bytes());
    }
}

fn card_words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Share::parse(text);
}

/// A card as somebody types it; what is finished is a card or words that read.
fn card_typed(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut entry = Entry::new();
    for line in text.lines() {
        let _ = entry.line(line);
        assert!(entry.have() <= keys::card::WORDS);
        if let Some(Ok(finished)) = entry.finished() {
            let found = identify(finished.expose_secret(), &[]).unwrap_or_else(|error| panic!("{error}"));
            assert!(found.number >= 1 && found.need >= 1);
        }
    }
}

/// Two cards in one hand, and what they give.
fn hand(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut hand = Hand::new();
    for part in text.split('\u{c}') {
        let _ = hand.add_text(part);
    }
    let _ = hand.recover();
}

/// A slot opens for its recipient as it was made, and in no other form.
fn key_slot(bytes: &[u8]) {
    let Some((enc, wrapped)) = bytes.split_first_chunk::<KEM_ENC_BYTES>() else { return };
    let Ok(wrapped) = wrapped.try_into() else { return };
    let made = slot_vector("slot.json");
    let recipient = RecipientPrivate::from_seed(Secret::from_array(made.kem_seed));
    if wrap::unwrap(&KeySlot { enc: *enc, wrapped }, &recipient, &Hash(made.h0)).is_ok() {
        assert!(bytes == made.slot, "an altered key slot was opened");
    }
}

/// As it is, and with a check value that a mutation cannot miss. What is sealed is not
/// opened: that takes as long as it is meant to.
fn key_file<T: KeyFile>(bytes: &[u8]) {
    let named = std::path::Path::new("key");
    let _ = decode_any::<T>(named, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(at) = text.rfind("check: ") else { return };
    let hash = keys::hash::labelled(keys::labels::KEY_FILE, &bytes[..at]);
    let digits: String = hash.0[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let _ = decode_any::<T>(named, format!("{}check: {digits}\n", &text[..at]).as_bytes());
}
