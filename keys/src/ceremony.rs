//! A ceremony: a seed becomes cards in the hands of people.
//!
//! ```text
//! Planned -> Dealt -> Rehearsal -> Rehearsed -> the vault record's CardSet
//! (terms)   (every   (the seed    (a pack was
//!            card     from what    sealed and
//!            read     was read     opened)
//!            back)    back)
//! ```
//! What always holds: the card set that a vault record takes comes out of
//! [`Rehearsed`] alone, so nothing counts before every card was read back, all of
//! them together gave the seed, and what was sealed was opened with it; the seed is
//! rehearsed from what was *read back*, never from what was dealt. No clock, no
//! terminal, no disk: they are the caller's.
//!
//! Nothing can be committed that was not rehearsed:
//!
//! ```compile_fail,E0599
//! fn wrong(dealt: keys::ceremony::Dealt) -> vault_format::vault::CardSet {
//!     dealt.card_set(0)
//! }
//! ```

use rand_core::CryptoRng;
use vault_format::vault::CardSet;
use vault_format::{Hash, VaultId};

use crate::card::{self, Card, SplitPlan};
use crate::error::CardError;
use crate::hand::{Hand, Handout};
use crate::seed::{Generation, Seed};
use crate::signature::KeyCheck;
use crate::slip39::words;

pub mod entry;
pub mod gathering;
pub mod preflight;
pub mod transcript;

/// Most letters of a holder's name; a line of a transcript stays a line.
const HOLDER_LETTERS_MAX: usize = 60;

/// What a ceremony is to do.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The vault.
    pub vault: VaultId,
    /// Generation of the seed.
    pub generation: Generation,
    /// Number of the new set.
    pub set: u32,
    /// Cards that are enough.
    pub need: u8,
    /// Cards in all.
    pub total: u8,
    /// Holders by the order of their cards; empty names for unnamed ones.
    pub holders: Vec<String>,
}

impl Terms {
    /// Refuses what cannot be dealt, and names that are no line of text.
    pub fn planned(mut self) -> Result<Planned, CardError> {
        let (need, total) = (self.need, self.total);
        let refuse = |reason| Err(CardError::Plan { need, total, reason });
        if !self.holders.is_empty() && self.holders.len() != usize::from(total) {
            return refuse("there must be as many holders as cards");
        }
        self.holders.resize(total.into(), String::new());
        for (at, holder) in self.holders.iter().enumerate() {
            if holder.chars().count() > HOLDER_LETTERS_MAX || holder.chars().any(char::is_control) {
                return refuse("a holder's name is one line of at most 60 letters");
            }
            if !holder.is_empty() && self.holders[..at].contains(holder) {
                return refuse("two holders have the same name");
            }
        }
        let plan = SplitPlan { vault: self.vault, generation: self.generation, set: self.set, need, total };
        card::check(&plan)?;
        Ok(Planned { terms: self })
    }
}

/// Terms that can be kept.
pub struct Planned {
    terms: Terms,
}

impl Planned {
    /// What was agreed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Deals the cards. They exist in memory only.
    pub fn deal<R: CryptoRng + ?Sized>(self, seed: Seed, rng: &mut R) -> Result<Dealt, CardError> {
        let Terms { vault, generation, set, need, total, .. } = self.terms;
        let cards = card::split(&seed, &SplitPlan { vault, generation, set, need, total }, rng)?;
        let back = cards.iter().map(|_| None).collect();
        Ok(Dealt { terms: self.terms, root: seed.root_key(generation).fingerprint(), seed, cards, back })
    }
}

/// Why a card did not come back as it was dealt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadBackFault {
    /// It is no card at all.
    Unreadable(CardError),
    /// Another card of the set.
    Other {
        /// The card that was asked for.
        wanted: u8,
        /// The card that came.
        found: u8,
    },
    /// These words differ, by position from 1.
    Words(Vec<usize>),
    /// Words and number are right, the lines above them are not.
    Head,
}

impl std::fmt::Display for ReadBackFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::Other { wanted, found } => write!(f, "this is card {found}; card {wanted} was asked for"),
            Self::Words(positions) => {
                let list: Vec<String> = positions.iter().map(usize::to_string).collect();
                let (word, differ) = if list.len() == 1 { ("word", "differs") } else { ("words", "differ") };
                write!(f, "{word} {} {differ} from the card that was dealt", list.join(", "))
            }
            Self::Head => write!(f, "the lines above the words are not those of the card that was dealt"),
        }
    }
}

/// Cards on their way to their holders.
pub struct Dealt {
    terms: Terms,
    root: Hash,
    seed: Seed,
    cards: Vec<Card>,
    back: Vec<Option<Card>>,
}

impl Dealt {
    /// What was agreed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The cards, to be handed out.
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// First bytes of the root's fingerprint.
    pub fn check(&self) -> KeyCheck {
        KeyCheck::of(&self.root)
    }

    /// The seed that is dealt.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Takes what a holder read back: the card's text or its words alone. What differs
    /// is named by position; a card counts once it is right, and stays so.
    pub fn read_back(&mut self, number: u8, text: &str) -> Result<(), ReadBackFault> {
        let at = usize::from(number - 1);
        let dealt = &self.cards[at];
        let back = match parse(text, dealt) {
            Ok(back) => back,
            Err(error) => {
                let written = words::read(words::tokens(text)).map_err(ReadBackFault::Unreadable)?;
                let right = dealt.indices();
                if written.len() != right.len() {
                    return Err(ReadBackFault::Unreadable(error));
                }
                let differ =
                    (0..right.len()).filter(|&at| written[at] != right[at]).map(|at| at + 1).collect::<Vec<_>>();
                return Err(if differ.is_empty() {
                    ReadBackFault::Unreadable(error)
                } else {
                    ReadBackFault::Words(differ)
                });
            }
        };
        if back.hash() == dealt.hash() {
            if back.head() != dealt.head() {
                return Err(ReadBackFault::Head);
            }
            self.back[at] = Some(back);
            return Ok(());
        }
        let found = back.number();
        if found != number && self.cards.iter().any(|card| card.hash() == back.hash()) {
            return Err(ReadBackFault::Other { wanted: number, found });
        }
        let (written, right) = (back.indices(), dealt.indices());
        if written.len() != right.len() {
            return Err(ReadBackFault::Unreadable(CardError::WordCount { found: written.len() }));
        }
        Err(ReadBackFault::Words((0..right.len()).filter(|&at| written[at] != right[at]).map(|at| at + 1).collect()))
    }

    /// Numbers of the cards that were not read back yet.
    pub fn missing(&self) -> Vec<u8> {
        let missing = self.back.iter().enumerate().filter(|(_, back)| back.is_none());
        missing.map(|(at, _)| at as u8 + 1).collect()
    }

    /// Puts the seed together from the cards that were read back. All of them must lie
    /// on one polynomial: then every choice of enough cards gives the seed, not only
    /// those that were tried.
    pub fn rehearse(self) -> Result<Rehearsal, CardError> {
        let Self { terms, root, seed, cards, back } = self;
        let total = terms.total;
        let hashes: Vec<Hash> = cards.iter().map(Card::hash).collect();
        let set = CardSet { number: terms.set, need: terms.need, cards: hashes, created_ms: 0 };
        let handout = Handout { vault: terms.vault, generation: terms.generation, root, set: set.clone() };
        let mut hand = Hand::for_handout(handout);
        let mut have = 0;
        for card in back.into_iter().flatten() {
            hand.add(card)?;
            have += 1;
        }
        if have < total {
            return Err(CardError::NotEnough { have, need: total });
        }
        let recovered = hand.recover()?;
        if !recovered.unfit.is_empty() || recovered.seed.expose_secret() != seed.expose_secret() {
            return Err(CardError::Digest { spare: true });
        }
        Ok(Rehearsal { terms, root, set, seed: recovered.seed })
    }
}

fn parse(text: &str, dealt: &Card) -> Result<Card, CardError> {
    if Card::looks_like(text) { Card::parse(text) } else { dealt.with_words(text) }
}

/// The seed as the cards gave it back. What is left is to open something with it.
pub struct Rehearsal {
    terms: Terms,
    root: Hash,
    set: CardSet,
    seed: Seed,
}

impl Rehearsal {
    /// The seed that was put together.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// What was agreed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Takes the hashes of what was sealed and of what came out when it was opened with
    /// a key from [`Rehearsal::seed`].
    pub fn opened(self, sealed: &Hash, opened: &Hash) -> Result<Rehearsed, CardError> {
        if sealed != opened {
            return Err(CardError::WrongKey { wanted: KeyCheck::of(sealed), found: KeyCheck::of(opened) });
        }
        let Self { terms, root, set, seed } = self;
        Ok(Rehearsed { terms, root, set, seed })
    }
}

/// A ceremony that may be committed.
pub struct Rehearsed {
    terms: Terms,
    root: Hash,
    set: CardSet,
    seed: Seed,
}

impl Rehearsed {
    /// What the vault record takes.
    pub fn card_set(&self, now_ms: i64) -> CardSet {
        CardSet { created_ms: now_ms, ..self.set.clone() }
    }

    /// The seed, to sign with.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// What was agreed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Fingerprint of the root.
    pub fn root(&self) -> Hash {
        self.root
    }
}

#[cfg(test)]
mod tests;
