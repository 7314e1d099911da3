//! Cards brought together to recover a seed, each named for what it is.
//!
//! What always holds: a card that is not counted never moves the counter and never
//! changes which cards may follow; with a vault record at hand a false card is refused
//! as soon as it is brought, and said to be old, foreign or never handed out; without
//! one only checksums and the digest speak, and [`Gathering::knows_cards`] says so. A
//! record may be older than a card: such cards are counted in a heap of their own, and
//! their seed is compared with the roots the records name. A record from a location is
//! the word of whoever signed it: a wrong one can only make the right cards be refused.

use std::collections::BTreeMap;

use vault_format::vault::{CardSet, KemRole, VaultRecord};
use vault_format::{Hash, VaultId};

use crate::card::{self, Card, Head};
use crate::error::{CardError, SetName};
use crate::hand::{Confirmation, Hand, Handout, Progress, Recovered};
use crate::seed::Generation;
use crate::signature::{KeyCheck, VerifyingKey};
use crate::slip39::Share;

/// What vault records say of the cards of one generation's seed.
#[derive(Clone, Debug)]
pub struct KnownCards {
    /// The vault.
    pub vault: VaultId,
    /// The generation.
    pub generation: Generation,
    /// Fingerprint of its root.
    pub root: Hash,
    /// Its sets, in the order they were handed out.
    pub sets: Vec<CardSet>,
}

impl KnownCards {
    /// What this record says of its own root's cards; `None` if its root key is none.
    pub fn of(vault: VaultId, record: &VaultRecord) -> Option<Self> {
        let root = VerifyingKey::from_slice(&record.root_public.0).ok()?.fingerprint();
        let newest = record.recipients.iter().filter(|key| key.role == KemRole::Reader).map(|key| key.generation).max();
        Some(Self { vault, generation: Generation(newest.unwrap_or(1)), root, sets: record.card_sets.clone() })
    }

    /// Likewise, and the roots before it without their cards: those stand in the
    /// records that these roots signed.
    pub fn line(vault: VaultId, record: &VaultRecord) -> Vec<Self> {
        let Some(newest) = Self::of(vault, record) else { return Vec::new() };
        let former = crate::rotation::line(record).into_iter().rev().zip((1..newest.generation.0).rev());
        let former: Vec<Self> = former
            .map(|(root, generation)| Self {
                vault,
                generation: Generation(generation),
                root: root.fingerprint(),
                sets: Vec::new(),
            })
            .collect();
        [newest].into_iter().chain(former).collect()
    }

    /// One entry for each root, with the sets of all that speak of it: a record that was
    /// overtaken still tells of cards that are in people's hands. Newest generation first.
    pub fn merged(known: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut by_root: BTreeMap<(VaultId, Hash), Self> = BTreeMap::new();
        for found in known {
            match by_root.get_mut(&(found.vault, found.root)) {
                None => drop(by_root.insert((found.vault, found.root), found)),
                Some(there) => {
                    let new: Vec<_> = found.sets.into_iter().filter(|set| !there.has(set)).collect();
                    there.sets.extend(new);
                    there.sets.sort_by_key(|set| set.number);
                }
            }
        }
        let mut merged: Vec<Self> = by_root.into_values().collect();
        merged.sort_by_key(|known| std::cmp::Reverse(known.generation));
        merged
    }

    fn has(&self, set: &CardSet) -> bool {
        self.sets.iter().any(|known| known.number == set.number && known.cards == set.cards)
    }

    /// Number of the newest set.
    pub fn newest_set(&self) -> Option<u32> {
        self.sets.iter().map(|set| set.number).max()
    }

    fn set_of(&self, share: &Share) -> Option<&CardSet> {
        self.sets.iter().find(|set| {
            let hash = card::hash(self.vault, set.number, set.cards.len() as u8, share);
            set.cards.get(usize::from(share.member_index)) == Some(&hash)
        })
    }

    /// Whether a head is of this vault, generation and root.
    fn is_of(&self, head: &Head) -> bool {
        head.vault == self.vault && head.generation == self.generation && head.check == KeyCheck::of(&self.root)
    }
}

/// The number a vault's next set takes: higher than that of any set these records know,
/// of whatever generation, so that no two sets are called alike.
pub fn next_set(known: &[KnownCards]) -> u32 {
    known.iter().filter_map(KnownCards::newest_set).max().unwrap_or(0) + 1
}

/// What is known of one card by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub number: u8,
    /// Cards of its set that are enough.
    pub need: u8,
    /// Its set, from its head or from the record that holds its hash.
    pub set: Option<u32>,
    /// Its generation, likewise.
    pub generation: Option<Generation>,
    /// Its vault, likewise.
    pub vault: Option<VaultId>,
    /// What a vault record says of it.
    pub standing: Standing,
}

/// What a vault record says of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Handed out, in the newest set.
    Current,
    /// Handed out, in an older set: it still counts among its own.
    Superseded,
    /// Of a key before the newest rotation: with its own it opens what was sealed until then.
    Former,
    /// No set at hand holds it, and it may be newer than the records.
    Unlisted,
    /// The record of its vault and generation knows its set or a newer one, and not this card.
    NotHandedOut,
    /// The records at hand are of other vaults.
    Elsewhere,
    /// There is no record at hand, or it names no card.
    Unknown,
}

/// Reads one card and says what it is. Checksum and words are checked first.
pub fn identify(text: &str, known: &[KnownCards]) -> Result<Identity, CardError> {
    look(text, known).map(|(identity, _)| identity)
}

/// Likewise, with the handout of the record that holds the card's hash: of several
/// records of one vault some may be forged, and those do not hold it.
fn look(text: &str, known: &[KnownCards]) -> Result<(Identity, Option<Handout>), CardError> {
    let (head, share) = if Card::looks_like(text) {
        let (head, share) = Card::parse(text)?.into_parts();
        (Some(head), share)
    } else {
        (None, Share::parse(text)?)
    };
    let holding = || known.iter().filter_map(|known| Some((known, known.set_of(&share)?)));
    let found = match &head {
        None => holding().min_by_key(|(known, _)| known.generation),
        Some(head) => holding().find(|(known, _)| known.is_of(head)).or_else(|| {
            // A newer root's record that lists an older seed's card says nothing of its root.
            let may_be = |known: &KnownCards| known.vault == head.vault && known.generation <= head.generation;
            holding().filter(|(known, _)| may_be(known)).max_by_key(|(known, _)| known.generation)
        }),
    };
    if let (Some((known, set)), Some(head)) = (found, &head) {
        agree(share.member_index + 1, head, known, set)?;
    }
    let generation = found.map(|(known, _)| known.generation).or(head.map(|head| head.generation));
    let vault = found.map(|(known, _)| known.vault).or(head.map(|head| head.vault));
    let of_vault = || known.iter().filter(|known| vault.is_none_or(|vault| vault == known.vault));
    let newest = of_vault().map(|known| known.generation).max();
    let standing = match (found, &head) {
        (Some(_), _) if generation < newest => Standing::Former,
        (Some((known, set)), _) if known.newest_set() == Some(set.number) => Standing::Current,
        (Some(_), _) => Standing::Superseded,
        (None, Some(head)) => unheld(head, known),
        (None, None) if known.iter().all(|known| known.sets.is_empty()) => Standing::Unknown,
        (None, None) => Standing::Unlisted,
    };
    let handout = found.map(|(known, set)| Handout {
        vault: known.vault,
        generation: known.generation,
        root: known.root,
        set: set.clone(),
    });
    let set = found.map(|(_, set)| set.number).or(head.map(|head| head.set));
    let identity =
        Identity { number: share.member_index + 1, need: share.member_threshold, set, generation, vault, standing };
    Ok((identity, handout))
}

/// A card whose hash a record holds says the same above its words as the record.
fn agree(number: u8, head: &Head, known: &KnownCards, set: &CardSet) -> Result<(), CardError> {
    let differs = |line| Err(CardError::Contradiction { number, line });
    if head.set != set.number {
        return differs("set");
    }
    if usize::from(head.total) != set.cards.len() {
        return differs("card");
    }
    if head.generation != known.generation {
        return differs("generation");
    }
    if head.check == KeyCheck::of(&known.root) { Ok(()) } else { differs("key check") }
}

/// What is to be thought of a whole card that no record holds.
fn unheld(head: &Head, known: &[KnownCards]) -> Standing {
    let ours = || known.iter().filter(|known| known.vault == head.vault);
    let Some(newest) = ours().map(|known| known.generation).max() else {
        return if known.iter().all(|known| known.sets.is_empty()) { Standing::Unknown } else { Standing::Elsewhere };
    };
    let sets = || ours().filter(|known| known.generation == head.generation).filter_map(KnownCards::newest_set);
    match sets().max() {
        Some(newest_set) if head.set <= newest_set => Standing::NotHandedOut,
        _ if head.generation < newest => Standing::Former,
        _ if ours().all(|known| known.sets.is_empty()) => Standing::Unknown,
        _ => Standing::Unlisted,
    }
}

/// A card that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its number.
    pub number: u8,
    /// Its set, if known.
    pub set: Option<u32>,
    /// What a vault record says of it.
    pub standing: Standing,
    /// How far the gathering is now.
    pub progress: Progress,
}

impl Counted {
    /// What people should know of a card that counts; empty for one of a known set of
    /// the newest key.
    pub fn remark(&self) -> &'static str {
        match self.standing {
            Standing::Former => "  (of a former key: it opens what was sealed before the rotation)",
            Standing::Unlisted => {
                "  (in no set of the records at hand: they may be older than the card. The cards together decide)"
            }
            Standing::Elsewhere => "  (the records at hand are of another vault)",
            Standing::Current | Standing::Superseded | Standing::NotHandedOut | Standing::Unknown => "",
        }
    }
}

/// A card that was not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCounted {
    /// Its number, if it could be read.
    pub number: Option<u8>,
    /// Its set, if known.
    pub set: Option<u32>,
    /// Why.
    pub why: Why,
}

/// Why a card was not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The same card again.
    Again,
    /// Of an older set than the one that is gathered.
    OldSet,
    /// Of a newer set.
    NewerSet,
    /// Of a key before the one that is gathered.
    FormerKey(Generation),
    /// Of a key after the one that is gathered.
    NewerKey(Generation),
    /// Of another vault.
    Foreign(VaultId),
    /// The vault record knows sets, and it is in none.
    NotHandedOut,
    /// Anything else, in the card's own terms.
    Card(CardError),
}

impl std::fmt::Display for NotCounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(number) = self.number {
            write!(f, "#{number} ")?;
        }
        let set = self.set.map(|set| format!("set {set}: ")).unwrap_or_default();
        match &self.why {
            Why::Again => write!(f, "again: same card, not counted"),
            Why::OldSet => write!(f, "{set}old set, not counted"),
            Why::NewerSet => write!(f, "{set}newer set, not counted with the cards of the older one"),
            Why::FormerKey(generation) => write!(
                f,
                "{set}of the former key (generation {}), not counted with cards of a newer one: alone such cards open \
                 what was sealed before the rotation",
                generation.0
            ),
            Why::NewerKey(generation) => write!(
                f,
                "{set}of a newer key (generation {}), not counted with cards of a former one: begin with the new cards, \
                 they open everything",
                generation.0
            ),
            Why::Foreign(vault) => write!(f, "belongs to another vault ({}), not counted", vault.short()),
            Why::NotHandedOut => {
                write!(f, "{set}not a card that was handed out: forged, altered or of another vault, not counted")
            }
            Why::Card(error) => write!(f, "not counted: {error}"),
        }
    }
}

/// Cards of one set.
#[derive(Default)]
struct Heap {
    hand: Hand,
    /// Of the cards counted so far, where known.
    vault: Option<VaultId>,
    generation: Option<Generation>,
    set: Option<u32>,
}

impl Heap {
    fn is_full(&self) -> bool {
        let Progress { have, need } = self.hand.progress();
        have > 0 && have >= need
    }

    /// Why a card cannot be of this heap, as far as the records and its head tell.
    fn refuses(&self, card: &Identity) -> Option<Why> {
        let differ =
            |ours: Option<u32>, found: Option<u32>| Some((ours?, found?)).filter(|(ours, found)| ours != found);
        if let (Some(ours), Some(found)) = (self.vault, card.vault)
            && ours != found
        {
            return Some(Why::Foreign(found));
        }
        let number = |generation: Option<Generation>| generation.map(|generation| generation.0);
        if let Some((ours, found)) = differ(number(self.generation), number(card.generation)) {
            let found_at = Generation(found);
            return Some(if found < ours { Why::FormerKey(found_at) } else { Why::NewerKey(found_at) });
        }
        let (ours, found) = differ(self.set, card.set)?;
        Some(if found < ours { Why::OldSet } else { Why::NewerSet })
    }
}

/// Cards of one set, and the records they are judged by.
#[derive(Default)]
pub struct Gathering {
    known: Vec<KnownCards>,
    /// Cards whose hashes a record holds, of one set.
    held: Heap,
    /// Cards that no record at hand holds, of one set.
    other: Heap,
    /// Whether the last card that counted was of `held`.
    last_held: bool,
}

impl Gathering {
    /// Without or with vault records at hand.
    pub fn new(known: Vec<KnownCards>) -> Self {
        Self { known, ..Self::default() }
    }

    /// Whether a record is at hand that names cards.
    pub fn knows_cards(&self) -> bool {
        self.known.iter().any(|known| !known.sets.is_empty())
    }

    /// Number of the newest set of the key that is gathered.
    pub fn newest_set(&self) -> Option<u32> {
        let heap = self.heap();
        let is_its = |known: &&KnownCards| Some(known.vault) == heap.vault && Some(known.generation) == heap.generation;
        self.known.iter().filter(is_its).filter_map(KnownCards::newest_set).max()
    }

    /// Number of the set that is gathered.
    pub fn set(&self) -> Option<u32> {
        self.heap().set
    }

    /// How far it is; before the first card `need` is one.
    pub fn progress(&self) -> Progress {
        self.heap().hand.progress()
    }

    /// The heap that is full, else the one the last card went to.
    fn heap(&self) -> &Heap {
        match (self.held.is_full(), self.other.is_full()) {
            (true, _) => &self.held,
            (false, false) if self.last_held => &self.held,
            (false, true | false) => &self.other,
        }
    }

    /// Counts a card, or says why not.
    pub fn add(&mut self, text: &str) -> Result<Counted, NotCounted> {
        let unread = |error| NotCounted { number: None, set: None, why: Why::Card(error) };
        let (identity, handout) = look(text, &self.known).map_err(unread)?;
        let Identity { number, set, standing, .. } = identity;
        let refuse = |why| Err(NotCounted { number: Some(number), set, why });
        // Beside cards that a record vouches for, others are theirs or false.
        let beside_held = self.held.hand.progress().have > 0;
        if beside_held && let Some(why) = self.held.refuses(&identity) {
            return refuse(why);
        }
        if standing == Standing::NotHandedOut || (beside_held && handout.is_none()) {
            return refuse(Why::NotHandedOut);
        }
        let is_held = handout.is_some();
        let heap = if is_held { &mut self.held } else { &mut self.other };
        let first = heap.hand.progress().have == 0;
        if !first && let Some(why) = heap.refuses(&identity) {
            return refuse(why);
        }
        if first && let Some(handout) = handout {
            heap.hand = Hand::for_handout(handout);
        }
        match heap.hand.add_text(text) {
            Ok(progress) => {
                heap.vault = heap.vault.or(identity.vault);
                heap.generation = heap.generation.or(identity.generation);
                heap.set = heap.set.or(set);
                self.last_held = is_held;
                Ok(Counted { number, set, standing, progress })
            }
            Err(error) => {
                if first {
                    heap.hand = Hand::new();
                }
                refuse(why(error))
            }
        }
    }

    /// Puts the seed together. One whose cards no record holds must have a root that the
    /// records name, unless they are all older than it or of other vaults.
    pub fn recover(&self) -> Result<Recovered, CardError> {
        if !self.other.is_full() {
            return self.heap().hand.recover();
        }
        if self.held.is_full()
            && let Ok(recovered) = self.held.hand.recover()
        {
            return Ok(recovered);
        }
        let mut recovered = self.other.hand.recover()?;
        let is_its = |known: &&KnownCards| {
            recovered.vault.is_none_or(|vault| vault == known.vault)
                && recovered.generation.is_none_or(|generation| generation == known.generation)
        };
        let mut wrong = None;
        for known in self.known.iter().filter(is_its) {
            let found = recovered.seed.root_key(known.generation).fingerprint();
            if found == known.root {
                (recovered.vault, recovered.generation) = (Some(known.vault), Some(known.generation));
                recovered.confirmed = Confirmation::Root;
                return Ok(recovered);
            }
            wrong = Some(CardError::WrongKey { wanted: KeyCheck::of(&known.root), found: KeyCheck::of(&found) });
        }
        match wrong {
            // Bare words may be of another vault, or of a newer key than the records.
            Some(wrong) if recovered.generation.is_some() => Err(wrong),
            Some(_) | None => Ok(recovered),
        }
    }
}

/// What the hand said, in the terms of somebody who brings cards.
fn why(error: CardError) -> Why {
    if let CardError::WrongSet { found: SetName::Numbered(found, old), wanted: SetName::Numbered(ours, new), .. } =
        error
    {
        return match old.cmp(&new) {
            std::cmp::Ordering::Less => Why::FormerKey(old),
            std::cmp::Ordering::Greater => Why::NewerKey(old),
            std::cmp::Ordering::Equal if found < ours => Why::OldSet,
            std::cmp::Ordering::Equal => Why::NewerSet,
        };
    }
    if let CardError::WrongVault { found, .. } = error {
        return Why::Foreign(found);
    }
    if matches!(error, CardError::Duplicate { .. }) {
        return Why::Again;
    }
    if matches!(error, CardError::NotHandedOut { .. }) { Why::NotHandedOut } else { Why::Card(error) }
}
