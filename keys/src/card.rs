//! Cards: the seed's shares as people hold them, on paper or in a file.
//!
//! What always holds: the words alone are a SLIP-39 share that any tool reads;
//! the lines above them say which vault, set and number it is, and must agree
//! with the words; a card's hash stands in the vault record, so that a false card
//! is named even before there are enough.
//!
//! ```text
//! holdfast card
//!
//! vault: 01234567 89abcdef 01234567 89abcdef
//! generation: 1
//! set: 2
//! card: 3 of 5
//! need: 3
//! key check: 7C-A1-90
//!
//!  1 academic    2 acid        3 acne        4 acquire
//! ```
//! Reading forgives case, spacing, missing word numbers and words cut to four
//! letters. Lines that begin with `#` are for people.

use std::fmt::Write as _;

use rand_core::CryptoRng;
use vault_format::{Hash, VaultId};
use zeroize::Zeroizing;

use crate::error::CardError;
use crate::hash::labelled;
use crate::labels;
use crate::secret::SecretText;
use crate::seed::{Generation, Seed};
use crate::signature::KeyCheck;
use crate::slip39::{self, Share, SplitRequest, words};

/// The first line.
pub const TITLE: &str = "holdfast card";
/// Words of a card: 256 bits, head and checksum.
pub const WORDS: usize = 33;
/// Bytes of a card that are hashed.
pub const CANONICAL_BYTES: usize = 24 + 2 * WORDS;
const COLUMNS: usize = 4;
/// The longest word and two blanks more: what stands behind a word, less its length.
const GAP: &str = "          ";

/// How a seed is dealt.
#[derive(Clone, Copy, Debug)]
pub struct SplitPlan {
    /// The vault.
    pub vault: VaultId,
    /// The seed's generation.
    pub generation: Generation,
    /// Number of the set: one more than the vault's newest.
    pub set: u32,
    /// Cards that are enough.
    pub need: u8,
    /// Cards in all.
    pub total: u8,
}

/// What stands above a card's words, besides its number and threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The vault.
    pub vault: VaultId,
    /// The seed's generation.
    pub generation: Generation,
    /// Number of the set.
    pub set: u32,
    /// Cards in all.
    pub total: u8,
    /// First bytes of the root's fingerprint.
    pub check: KeyCheck,
}

/// One card.
pub struct Card {
    head: Head,
    share: Share,
}

/// Whether a plan can be dealt, before there is a seed to deal.
pub(crate) fn check(plan: &SplitPlan) -> Result<(), CardError> {
    slip39::check_counts(plan.need, plan.total)
}

/// Deals a seed onto cards. No passphrase: the holders are the protection.
pub fn split<R: CryptoRng + ?Sized>(seed: &Seed, plan: &SplitPlan, rng: &mut R) -> Result<Vec<Card>, CardError> {
    let SplitPlan { vault, generation, set, need, total } = *plan;
    let check = seed.root_key(generation).verifying_key().check();
    let head = Head { vault, generation, set, total, check };
    let request = SplitRequest { secret: seed.expose_secret(), passphrase: b"", need, total };
    let shares = slip39::split(&request, rng)?;
    Ok(shares.into_iter().map(|share| Card { head, share }).collect())
}

impl Card {
    /// What stands above the words.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its number, from 1.
    pub fn number(&self) -> u8 {
        self.share.member_index + 1
    }

    /// Cards that are enough.
    pub fn need(&self) -> u8 {
        self.share.member_threshold
    }

    pub(crate) fn into_parts(self) -> (Head, Share) {
        (self.head, self.share)
    }

    /// What the vault record holds of this card.
    pub fn hash(&self) -> Hash {
        hash(self.head.vault, self.head.set, self.head.total, &self.share)
    }

    /// The card as text, ready to print.
    pub fn to_text(&self) -> SecretText {
        let Head { vault, generation, set, total, check } = &self.head;
        let vault = vault.to_string();
        let vault: Vec<_> = vault.as_bytes().chunks(8).map(String::from_utf8_lossy).collect();
        // Larger than any card, so that it never grows and leaves a copy behind.
        let mut text = String::with_capacity(4096);
        let (number, need) = (self.number(), self.need());
        write!(
            text,
            "{TITLE}\n\nvault: {}\ngeneration: {}\nset: {set}\ncard: {number} of {total}\nneed: {need}\n\
             key check: {check}\n",
            vault.join(" "),
            generation.0,
        )
        .expect("writing into a string does not fail");
        let mut previous = 0;
        for (at, &index) in self.share.indices().iter().enumerate() {
            // Columns without blanks at the end of a line.
            let gap = if at % COLUMNS == 0 { "\n" } else { &GAP[previous..] };
            previous = words::word(index).len();
            write!(text, "{gap}{:>2} {}", at + 1, words::word(index)).expect("writing into a string does not fail");
        }
        text.push_str(match need {
            1 => "\n\n# This card alone is the key: whoever holds it can read every backup of the vault.\n",
            _ => "\n\n# Cards of one set together are the key. Keep this one apart from the others.\n",
        });
        text.push_str("# The words are a SLIP-39 share without passphrase; other SLIP-39 tools read them too.\n");
        SecretText::new(text)
    }

    /// The card as text without columns, for a QR code: the same lines, the words in one.
    pub fn to_short_text(&self) -> SecretText {
        let long = self.to_text();
        let mut text = String::with_capacity(long.expose_secret().len());
        for line in long.expose_secret().lines().filter(|line| is_content(line) && !is_numbered(line)) {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(self.share.to_words().expose_secret());
        SecretText::new(text)
    }

    /// The card that these words are, if they stand below this one's head.
    pub(crate) fn with_words(&self, text: &str) -> Result<Self, CardError> {
        Ok(Self { head: self.head, share: Share::parse(text)? })
    }

    /// The numbers of its words in the list.
    pub(crate) fn indices(&self) -> Zeroizing<Vec<u16>> {
        self.share.indices()
    }

    /// Whether a text begins as a card does; other texts may be bare words.
    pub fn looks_like(text: &str) -> bool {
        text.lines().find(|line| is_content(line)).is_some_and(is_title)
    }

    /// Reads a card's text.
    pub fn parse(text: &str) -> Result<Self, CardError> {
        let mut lines = text.lines().filter(|line| is_content(line));
        if !lines.next().is_some_and(is_title) {
            return Err(CardError::NotACard);
        }
        let mut fields = Fields::default();
        let mut tokens = Zeroizing::new(String::with_capacity(text.len() + 1));
        for line in lines {
            match line.split_once(':') {
                Some((name, value)) if line.trim_start().starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    fields.set(name, value)?;
                }
                _ => {
                    tokens.push_str(line);
                    tokens.push(' ');
                }
            }
        }
        let (head, number, need) = fields.finish()?;
        let share = Share::parse(&tokens)?;
        if share.common.group_count > 1 {
            return Err(CardError::Groups { groups: share.common.group_count });
        }
        if share.value.expose_secret().len() != Seed::BYTES {
            return Err(CardError::WordCount { found: share.indices().len() });
        }
        if share.member_index + 1 != number {
            return Err(CardError::Contradiction { number, line: "card" });
        }
        if share.member_threshold != need {
            return Err(CardError::Contradiction { number, line: "need" });
        }
        Ok(Self { head, share })
    }
}

/// Hash of a card over its canonical bytes, which bare words have too once the
/// vault record told the set.
pub(crate) fn hash(vault: VaultId, set: u32, total: u8, share: &Share) -> Hash {
    let indices = share.indices();
    let mut bytes = Zeroizing::new(Vec::with_capacity(CANONICAL_BYTES));
    bytes.extend_from_slice(&vault.0);
    bytes.extend_from_slice(&set.to_le_bytes());
    bytes.extend_from_slice(&[share.member_index + 1, total, share.member_threshold, indices.len() as u8]);
    for index in indices.iter() {
        bytes.extend_from_slice(&index.to_le_bytes());
    }
    labelled(labels::CARD, &bytes)
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

fn is_numbered(line: &str) -> bool {
    line.trim_start().starts_with(|letter: char| letter.is_ascii_digit())
}

fn is_title(line: &str) -> bool {
    line.split_whitespace().map(str::to_ascii_lowercase).eq(TITLE.split(' '))
}

/// The lines above the words, as they come in.
#[derive(Default)]
struct Fields {
    vault: Option<VaultId>,
    generation: Option<u32>,
    set: Option<u32>,
    card: Option<(u8, u8)>,
    need: Option<u8>,
    check: Option<KeyCheck>,
}

impl Fields {
    fn set(&mut self, name: &str, value: &str) -> Result<(), CardError> {
        let name = name.split_whitespace().map(str::to_ascii_lowercase).collect::<Vec<_>>().join(" ");
        let value = value.trim();
        let solid: String = value.split_whitespace().collect::<String>().to_ascii_lowercase();
        let known = match name.as_str() {
            "vault" => put(&mut self.vault, VaultId::from_hex(&solid)),
            "generation" => put(&mut self.generation, solid.parse().ok().filter(|&number: &u32| number > 0)),
            "set" => put(&mut self.set, solid.parse().ok()),
            "card" => put(&mut self.card, parse_of(value)),
            "need" => put(&mut self.need, solid.parse().ok()),
            "key check" => put(&mut self.check, KeyCheck::parse(&solid)),
            _ => Err("not known"),
        };
        known.map_err(|problem| CardError::Head { line: name.chars().take(24).collect(), problem })
    }

    fn finish(self) -> Result<(Head, u8, u8), CardError> {
        let (number, total) = required("card", self.card)?;
        let need = required("need", self.need)?;
        if number == 0 || number > total || need == 0 || need > total {
            return Err(CardError::Head { line: "card".to_owned(), problem: "out of range" });
        }
        let head = Head {
            vault: required("vault", self.vault)?,
            generation: Generation(required("generation", self.generation)?),
            set: required("set", self.set)?,
            total,
            check: required("key check", self.check)?,
        };
        Ok((head, number, need))
    }
}

fn put<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), &'static str> {
    let value = value.ok_or("not readable")?;
    if slot.replace(value).is_some() { Err("there twice") } else { Ok(()) }
}

fn required<T>(line: &str, value: Option<T>) -> Result<T, CardError> {
    value.ok_or_else(|| CardError::Head { line: line.to_owned(), problem: "missing" })
}

/// Reads `3 of 5`.
fn parse_of(text: &str) -> Option<(u8, u8)> {
    let parts: Vec<_> = text.split_whitespace().collect();
    match parts[..] {
        [number, of, total] if of.eq_ignore_ascii_case("of") => Some((number.parse().ok()?, total.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn cards() -> Vec<Card> {
        let plan = SplitPlan { vault: VaultId([0x3c; 16]), generation: Generation(1), set: 2, need: 3, total: 5 };
        split(&Seed::from_array([9; 32]), &plan, &mut ChaCha20Rng::from_seed([1; 32])).unwrap()
    }

    #[test]
    fn a_card_reads_back_and_keeps_its_hash() {
        for card in cards() {
            let text = card.to_text();
            let back = Card::parse(text.expose_secret()).unwrap();
            assert_eq!((back.head(), back.number(), back.need()), (card.head(), card.number(), card.need()));
            assert_eq!(back.hash(), card.hash());
            assert!(text.expose_secret().len() < 4096);
        }
        let cards = cards();
        assert_ne!(cards[0].hash(), cards[1].hash());
    }

    #[test]
    fn reading_forgives_what_people_do() {
        let card = &cards()[2];
        let text = card.to_text();
        let text = text.expose_secret();
        let upper = text.to_uppercase();
        let spaced = text.replace(' ', "   ").replace('\n', "\r\n\r\n");
        let numberless: String = text
            .lines()
            .map(|line| {
                let words = line.starts_with([' ', '1', '2', '3']);
                let kept = line.split(' ').filter(|token| !words || token.parse::<u8>().is_err());
                kept.collect::<Vec<_>>().join(" ") + "\n"
            })
            .collect();
        let four: String = numberless
            .lines()
            .map(|line| {
                let cut = |word: &str| word.chars().take(4).collect::<String>();
                let words = !line.contains(':') && !line.starts_with(['#', 'h']);
                let kept = line.split_whitespace().map(|word| if words { cut(word) } else { word.to_owned() });
                kept.collect::<Vec<_>>().join(" ") + "\n"
            })
            .collect();
        for variant in [upper, spaced, numberless, four] {
            let back = Card::parse(&variant).unwrap_or_else(|error| panic!("{error}\n{variant}"));
            assert_eq!(back.hash(), card.hash());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let card = &cards()[2];
        let text = card.to_text();
        let text = text.expose_secret();
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Card::parse(&text.replacen(from, to, 1)).err().expect("refused")
        };
        let head = |line: &str, problem| CardError::Head { line: line.to_owned(), problem };
        assert_eq!(error("holdfast card", "holdfast"), CardError::NotACard);
        assert_eq!(error("set: 2\n", ""), head("set", "missing"));
        assert_eq!(error("set: 2\n", "set: two\n"), head("set", "not readable"));
        assert_eq!(error("set: 2\n", "set: 2\nset: 2\n"), head("set", "there twice"));
        assert_eq!(error("set: 2\n", "set: 2\ncolour: red\n"), head("colour", "not known"));
        assert_eq!(error("card: 3 of 5", "card: 6 of 5"), head("card", "out of range"));
        assert_eq!(error("card: 3 of 5", "card: 4 of 5"), CardError::Contradiction { number: 4, line: "card" });
        assert_eq!(error("need: 3", "need: 2"), CardError::Contradiction { number: 3, line: "need" });
        let indices = card.share.indices();
        let (old, new) = (words::word(indices[6]), words::word(indices[6] ^ 1));
        assert_eq!(error(old, new), CardError::Checksum { likely: Some(7) });
        assert!(matches!(error(old, "xylophon"), CardError::UnknownWord { position: 7, .. }));
        assert!(matches!(error(old, ""), CardError::WordNumber { position: 7, found: 8 }));
    }
}
