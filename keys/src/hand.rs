//! A hand of cards: what was brought so far, and the seed once there is enough.
//!
//! What always holds: a bad card is named and never counted; a seed comes out
//! only if the digest inside the shares confirms it and, where a card or the
//! vault record tells the root, the seed's root is that one. With spare cards a
//! forged one is found and left out.

use vault_format::vault::CardSet;
use vault_format::{Hash, VaultId};
use zeroize::Zeroizing;

use crate::card::{self, Card, Head};
use crate::error::{CardError, SetName};
use crate::secret::Secret;
use crate::seed::{Generation, Seed};
use crate::signature::KeyCheck;
use crate::slip39::{self, Share, scheme};

/// What the vault record says of the set that is gathered.
#[derive(Clone, Debug)]
pub struct Handout {
    /// The vault.
    pub vault: VaultId,
    /// Generation of the seed that was dealt.
    pub generation: Generation,
    /// Fingerprint of that generation's root.
    pub root: Hash,
    /// The set with the hashes of its cards.
    pub set: CardSet,
}

/// How far a hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Good cards.
    pub have: u8,
    /// Cards that are enough.
    pub need: u8,
}

/// Cards of one set.
#[derive(Default)]
pub struct Hand {
    handout: Option<Handout>,
    head: Option<Head>,
    shares: Vec<Share>,
}

/// A recovered seed and what the cards said of it.
pub struct Recovered {
    /// The seed.
    pub seed: Seed,
    /// Its generation, unless only bare words were given and no vault record.
    pub generation: Option<Generation>,
    /// Its vault, likewise.
    pub vault: Option<VaultId>,
    /// Numbers of spare cards that do not belong to this seed: forged or damaged.
    pub unfit: Vec<u8>,
    /// What says that it is the right seed.
    pub confirmed: Confirmation,
}

/// What a recovered seed was compared with. Below `Root` the caller must still
/// compare the root it derives with one it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confirmation {
    /// The checksum of a single bare share: anyone can write one that fits.
    Checksum,
    /// The digest inside the shares, 32 bits: they belong together.
    Digest,
    /// The root printed on the cards, 24 bits, besides.
    Card,
    /// The root in the vault record, 256 bits.
    Root,
}

impl Hand {
    /// An empty hand; its first card decides the set.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty hand for a set the vault record knows: a false card is refused
    /// as soon as it is brought.
    pub fn for_handout(handout: Handout) -> Self {
        Self { handout: Some(handout), ..Self::default() }
    }

    /// How far it is; before the first card `need` is one.
    pub fn progress(&self) -> Progress {
        let need = self.shares.first().map_or(1, |share| share.member_threshold);
        Progress { have: self.shares.len() as u8, need }
    }

    /// Adds a card's text, or bare words.
    pub fn add_text(&mut self, text: &str) -> Result<Progress, CardError> {
        if Card::looks_like(text) { self.add(Card::parse(text)?) } else { self.add_words(Share::parse(text)?) }
    }

    /// Adds a card.
    pub fn add(&mut self, card: Card) -> Result<Progress, CardError> {
        let number = card.number();
        let (head, share) = card.into_parts();
        if let Some(Handout { vault, generation, root, set }) = &self.handout {
            let (total, check) = (set.cards.len() as u8, KeyCheck::of(root));
            check_head(number, &head, &Head { vault: *vault, generation: *generation, set: set.number, total, check })?;
        }
        if let Some(first) = &self.head {
            check_head(number, &head, first)?;
        }
        let progress = self.add_words(share)?;
        self.head.get_or_insert(head);
        Ok(progress)
    }

    /// Adds bare words.
    pub fn add_words(&mut self, share: Share) -> Result<Progress, CardError> {
        let number = share.member_index + 1;
        if share.common.group_count > 1 {
            return Err(CardError::Groups { groups: share.common.group_count });
        }
        if share.value.expose_secret().len() != Seed::BYTES {
            return Err(CardError::WordCount { found: share.indices().len() });
        }
        if let Some(first) = self.shares.first() {
            check_set(&share, first)?;
        }
        // Before the comparison with its twin: where the record speaks, it is this card that is false.
        if let Some(Handout { vault, set, .. }) = &self.handout {
            let hash = card::hash(*vault, set.number, set.cards.len() as u8, &share);
            if set.cards.get(usize::from(share.member_index)) != Some(&hash) {
                return Err(CardError::NotHandedOut { number });
            }
        }
        if let Some(twin) = self.shares.iter().find(|twin| twin.member_index == share.member_index) {
            let same = twin.value.expose_secret() == share.value.expose_secret();
            return Err(if same { CardError::Duplicate { number } } else { CardError::Conflict { number } });
        }
        self.shares.push(share);
        Ok(self.progress())
    }

    /// Puts the seed together. With more cards than needed every choice of enough
    /// cards is tried, so that a forged one does not stand in the way. If several
    /// seeds come out the root decides; without one to compare with none is given.
    pub fn recover(&self) -> Result<Recovered, CardError> {
        let Progress { have, need } = self.progress();
        if have < need {
            return Err(CardError::NotEnough { have, need });
        }
        let spare = have > need;
        let mut error = CardError::Digest { spare };
        let mut candidate: Option<Recovered> = None;
        let mut tried: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        // At most 16 cards: 65,536 masks, of which 12,870 at most are tried.
        for mask in (0_u32..1 << have).filter(|mask| mask.count_ones() == u32::from(need)) {
            let (chosen, rest): (Vec<_>, Vec<_>) =
                self.shares.iter().enumerate().partition(|(at, _)| mask >> at & 1 == 1);
            let chosen: Vec<_> = chosen.into_iter().map(|(_, share)| share).collect();
            let shared = match scheme::combine_shared(&chosen) {
                Ok(shared) if tried.contains(&shared) => continue,
                Ok(shared) => shared,
                Err(CardError::Digest { .. }) => continue,
                Err(error) => return Err(error),
            };
            tried.push(shared);
            match self.open(&chosen) {
                Err(wrong) => error = wrong,
                Ok((seed, confirmed)) => {
                    let unfit = rest.iter().filter(|(_, share)| !scheme::fits(&chosen, share));
                    let unfit = unfit.map(|(_, share)| share.member_index + 1).collect();
                    let (generation, vault) = (self.generation(), self.vault());
                    let recovered = Recovered { seed, generation, vault, unfit, confirmed };
                    if confirmed >= Confirmation::Card {
                        return Ok(recovered);
                    }
                    if candidate.replace(recovered).is_some() {
                        return Err(CardError::Digest { spare });
                    }
                }
            }
        }
        candidate.ok_or(error)
    }

    /// Decrypts shares that fit together and compares the root.
    fn open(&self, chosen: &[&Share]) -> Result<(Seed, Confirmation), CardError> {
        let secret = slip39::combine(chosen, b"")?;
        let secret = Secret::from_slice(secret.expose_secret());
        let seed = Seed::from_secret(secret.ok_or(CardError::Malformed { reason: "it holds no seed of 32 bytes" })?);
        let Some(generation) = self.generation() else {
            let digest = chosen.len() > 1;
            return Ok((seed, if digest { Confirmation::Digest } else { Confirmation::Checksum }));
        };
        let root = seed.root_key(generation).fingerprint();
        let found = KeyCheck::of(&root);
        let wanted = match (&self.handout, &self.head) {
            (Some(handout), _) if handout.root == root => return Ok((seed, Confirmation::Root)),
            (None, Some(head)) if head.check == found => return Ok((seed, Confirmation::Card)),
            (Some(handout), _) => KeyCheck::of(&handout.root),
            (None, head) => head.map_or(found, |head| head.check),
        };
        Err(CardError::WrongKey { wanted, found })
    }

    fn generation(&self) -> Option<Generation> {
        self.head.map(|head| head.generation).or(self.handout.as_ref().map(|handout| handout.generation))
    }

    fn vault(&self) -> Option<VaultId> {
        self.head.map(|head| head.vault).or(self.handout.as_ref().map(|handout| handout.vault))
    }
}

fn check_head(number: u8, found: &Head, wanted: &Head) -> Result<(), CardError> {
    if found.vault != wanted.vault {
        return Err(CardError::WrongVault { number, found: found.vault, wanted: wanted.vault });
    }
    let name = |head: &Head| SetName::Numbered(head.set, head.generation);
    if name(found) != name(wanted) {
        return Err(CardError::WrongSet { number, found: name(found), wanted: name(wanted) });
    }
    if found.total != wanted.total {
        return Err(CardError::Contradiction { number, line: "card" });
    }
    if found.check != wanted.check {
        return Err(CardError::Contradiction { number, line: "key check" });
    }
    Ok(())
}

fn check_set(share: &Share, first: &Share) -> Result<(), CardError> {
    if share.common != first.common || share.member_threshold != first.member_threshold {
        return Err(CardError::WrongSet {
            number: share.member_index + 1,
            found: SetName::Identifier(share.common.identifier),
            wanted: SetName::Identifier(first.common.identifier),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
