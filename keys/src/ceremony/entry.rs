//! A card as it is typed: line by line, with mistakes.
//!
//! What always holds: a wrong word is named by its position and everything before it
//! is kept, so that nobody types 33 words twice; `7 acid` mends word 7; a card that
//! was pasted whole, with its lines above the words, is taken as it is. What was
//! typed is wiped.

use zeroize::Zeroizing;

use crate::card::{Card, TITLE, WORDS};
use crate::error::CardError;
use crate::secret::SecretText;
use crate::slip39::{Share, words};

/// Larger than the lines above any card's words.
const HEAD_BYTES: usize = 2048;

/// Words of one card on their way in.
pub struct Entry {
    head: String,
    indices: Zeroizing<Vec<u16>>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { head: String::new(), indices: Zeroizing::new(Vec::with_capacity(WORDS)) }
    }
}

impl Entry {
    /// Nothing typed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Words so far.
    pub fn have(&self) -> usize {
        self.indices.len()
    }

    /// Takes a line. Words before a wrong one count; the wrong one and what follows do not.
    pub fn line(&mut self, line: &str) -> Result<(), CardError> {
        let line = line.trim();
        if line.starts_with('#') {
            return Ok(());
        }
        if self.is_head(line) {
            if self.head.len() + line.len() < HEAD_BYTES {
                self.head.push_str(line);
                self.head.push('\n');
            }
            return Ok(());
        }
        // The position that a number before the word asks for.
        let mut at = None;
        for token in line.split_whitespace() {
            let next = self.indices.len() + 1;
            if let Some(number) = words::number(token) {
                if number == 0 || number > next || number > WORDS {
                    return Err(CardError::WordNumber { position: next, found: number });
                }
                at = Some(number);
                continue;
            }
            let position = at.take().unwrap_or(next);
            if position > WORDS {
                return Err(CardError::WordCount { found: position });
            }
            let index = words::find(position, token)?;
            if position == next {
                self.indices.push(index);
            } else {
                self.indices[position - 1] = index;
            }
        }
        Ok(())
    }

    /// The title and `name: value`; a numbered word (`7: acid`) is none.
    fn is_head(&self, line: &str) -> bool {
        let is_title = line.split_whitespace().map(str::to_ascii_lowercase).eq(TITLE.split(' '));
        let is_field =
            !self.head.is_empty() && line.contains(':') && line.starts_with(|c: char| c.is_ascii_alphabetic());
        is_title || is_field
    }

    /// The card, once there are all words and the checksum over them holds: text that
    /// [`crate::hand::Hand::add_text`] reads.
    pub fn finished(&self) -> Option<Result<SecretText, CardError>> {
        if self.indices.len() < WORDS {
            return None;
        }
        let share = match Share::from_indices(&self.indices) {
            Ok(share) => share,
            Err(error) => return Some(Err(error)),
        };
        let words = share.to_words();
        let mut text = String::with_capacity(self.head.len() + words.expose_secret().len());
        text.push_str(&self.head);
        text.push_str(words.expose_secret());
        let text = SecretText::new(text);
        if !self.head.is_empty()
            && let Err(error) = Card::parse(text.expose_secret())
        {
            return Some(Err(error));
        }
        Some(Ok(text))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use vault_format::VaultId;

    use super::*;
    use crate::card::{SplitPlan, split};
    use crate::seed::{Generation, Seed};

    fn card() -> Card {
        let plan = SplitPlan { vault: VaultId([0x3c; 16]), generation: Generation(1), set: 2, need: 3, total: 5 };
        split(&Seed::from_array([9; 32]), &plan, &mut ChaCha20Rng::from_seed([1; 32])).unwrap().remove(1)
    }

    fn words_of(card: &Card) -> Vec<&'static str> {
        card.indices().iter().map(|&index| words::word(index)).collect()
    }

    #[test]
    fn lines_of_four_letters_make_a_card() {
        let card = card();
        let mut entry = Entry::new();
        for line in words_of(&card).chunks(5) {
            assert!(entry.finished().is_none());
            let line: Vec<String> = line.iter().map(|word| word[..4].to_uppercase()).collect();
            entry.line(&line.join("  ")).unwrap();
        }
        let words = entry.finished().unwrap().unwrap();
        assert_eq!(card.with_words(words.expose_secret()).unwrap().hash(), card.hash());
    }

    #[test]
    fn a_wrong_word_keeps_what_stood_before_it() {
        let words = words_of(&card());
        let mut entry = Entry::new();
        let line = format!("{} {} xylophone {}", words[0], words[1], words[3]);
        assert!(matches!(entry.line(&line), Err(CardError::UnknownWord { position: 3, .. })));
        assert_eq!(entry.have(), 2);
        entry.line(&words[2..].join(" ")).unwrap();
        assert!(entry.finished().unwrap().is_ok());
        assert_eq!(entry.line("acid"), Err(CardError::WordCount { found: 34 }));
    }

    #[test]
    fn a_word_is_mended_by_its_number() {
        let words = words_of(&card());
        let wrong = if words[6] == "acid" { "acne" } else { "acid" };
        let mut typed = words.clone();
        typed[6] = wrong;
        let mut entry = Entry::new();
        entry.line(&typed.join(" ")).unwrap();
        assert_eq!(entry.finished().unwrap().err(), Some(CardError::Checksum { likely: Some(7) }));
        assert!(matches!(entry.line("7 nosuchword"), Err(CardError::UnknownWord { position: 7, .. })));
        entry.line(&format!("7 {}", words[6])).unwrap();
        assert!(entry.finished().unwrap().is_ok());
        assert_eq!(entry.line("35 acid"), Err(CardError::WordNumber { position: 34, found: 35 }));
    }

    #[test]
    fn a_card_pasted_whole_is_taken_with_its_head() {
        let card = card();
        let mut entry = Entry::new();
        for line in card.to_text().expose_secret().lines() {
            entry.line(line).unwrap();
        }
        let text = entry.finished().unwrap().unwrap();
        assert_eq!(Card::parse(text.expose_secret()).unwrap().head(), card.head());
        // A number that is left out is seen at once.
        assert_eq!(Entry::new().line("1 acid 3 acid"), Err(CardError::WordNumber { position: 2, found: 3 }));
    }
}
