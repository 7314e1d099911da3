//! Cards brought together to recover a seed, each named for what it is.
//!
//! What always holds: a card that is not counted never moves the counter and never
//! changes which cards may follow; with a vault record at hand a false card is refused
//! as soon as it is brought, and said to be old, foreign or never handed out; without
//! one only checksums and the digest speak, and [`Gathering::knows_cards`] says so. A
//! record from a location is the word of whoever signed it: the seed that comes out is
//! compared with its root, and a wrong record can only make the right cards be refused.

use vault_format::vault::{CardSet, KemRole, VaultRecord};
use vault_format::{Hash, VaultId};

use crate::card::{self, Card};
use crate::error::{CardError, SetName};
use crate::hand::{Hand, Handout, Progress, Recovered};
use crate::seed::Generation;
use crate::signature::VerifyingKey;
use crate::slip39::Share;

/// What a vault record says of its cards.
#[derive(Clone, Debug)]
pub struct KnownCards {
    /// The vault.
    pub vault: VaultId,
    /// The newest generation: the record's root is of it.
    pub generation: Generation,
    /// Fingerprint of the root.
    pub root: Hash,
    /// Sets, in the order they were handed out.
    pub sets: Vec<CardSet>,
}

impl KnownCards {
    /// What this record says; `None` if its root key is none.
    pub fn of(vault: VaultId, record: &VaultRecord) -> Option<Self> {
        let root = VerifyingKey::from_slice(&record.root_public.0).ok()?.fingerprint();
        let newest = record.recipients.iter().filter(|key| key.role == KemRole::Reader).map(|key| key.generation).max();
        Some(Self { vault, generation: Generation(newest.unwrap_or(1)), root, sets: record.card_sets.clone() })
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
    /// The record of its vault knows sets, and this card is in none of them.
    NotHandedOut,
    /// The records at hand are of other vaults, or of a newer generation.
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
    let of_vault = |known: &&KnownCards| head.is_none_or(|head| head.vault == known.vault);
    let found = known.iter().filter(of_vault).find_map(|known| Some((known, known.set_of(&share)?)));
    let standing = match (&found, &head) {
        (Some((known, set)), _) if known.newest_set() == Some(set.number) => Standing::Current,
        (Some(_), _) => Standing::Superseded,
        (None, _) if known.iter().all(|known| known.sets.is_empty()) => Standing::Unknown,
        (None, Some(head)) => {
            let same = |known: &&KnownCards| known.vault == head.vault && known.generation == head.generation;
            if known.iter().any(|known| same(&known)) { Standing::NotHandedOut } else { Standing::Elsewhere }
        }
        (None, None) => Standing::NotHandedOut,
    };
    let handout = found.map(|(known, set)| Handout {
        vault: known.vault,
        generation: known.generation,
        root: known.root,
        set: set.clone(),
    });
    let identity = Identity {
        number: share.member_index + 1,
        need: share.member_threshold,
        set: found.map(|(_, set)| set.number).or(head.map(|head| head.set)),
        vault: found.map(|(known, _)| known.vault).or(head.map(|head| head.vault)),
        standing,
    };
    Ok((identity, handout))
}

/// A card that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its number.
    pub number: u8,
    /// Its set, if known.
    pub set: Option<u32>,
    /// How far the gathering is now.
    pub progress: Progress,
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
            Why::Foreign(vault) => write!(f, "belongs to another vault ({}), not counted", vault.short()),
            Why::NotHandedOut => {
                write!(f, "{set}not a card that was handed out: forged, altered or of another vault, not counted")
            }
            Why::Card(error) => write!(f, "not counted: {error}"),
        }
    }
}

/// Cards of one set, and the records they are judged by.
#[derive(Default)]
pub struct Gathering {
    known: Vec<KnownCards>,
    hand: Hand,
    /// Vault and set of the cards counted so far, where known.
    vault: Option<VaultId>,
    set: Option<u32>,
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

    /// Number of the newest set of the vault that is gathered.
    pub fn newest_set(&self) -> Option<u32> {
        self.known.iter().find(|known| Some(known.vault) == self.vault)?.newest_set()
    }

    /// Number of the set that is gathered.
    pub fn set(&self) -> Option<u32> {
        self.set
    }

    /// How far it is; before the first card `need` is one.
    pub fn progress(&self) -> Progress {
        self.hand.progress()
    }

    /// Counts a card, or says why not.
    pub fn add(&mut self, text: &str) -> Result<Counted, NotCounted> {
        let unread = |error| NotCounted { number: None, set: None, why: Why::Card(error) };
        let (identity, handout) = look(text, &self.known).map_err(unread)?;
        let Identity { number, set, vault, .. } = identity;
        let refuse = |why| Err(NotCounted { number: Some(number), set, why });
        if self.progress().have > 0 {
            if let (Some(ours), Some(found)) = (self.vault, vault)
                && ours != found
            {
                return refuse(Why::Foreign(found));
            }
            if let (Some(ours), Some(found)) = (self.set, set)
                && ours != found
                && self.vault == vault
            {
                return refuse(if found < ours { Why::OldSet } else { Why::NewerSet });
            }
        }
        if identity.standing == Standing::NotHandedOut {
            return refuse(Why::NotHandedOut);
        }
        let first = self.progress().have == 0;
        if first && let Some(handout) = handout {
            self.hand = Hand::for_handout(handout);
        }
        match self.hand.add_text(text) {
            Ok(progress) => {
                self.vault = self.vault.or(vault);
                self.set = self.set.or(set);
                Ok(Counted { number, set, progress })
            }
            Err(error) => {
                if first {
                    self.hand = Hand::new();
                }
                refuse(why(error))
            }
        }
    }

    /// Puts the seed together.
    pub fn recover(&self) -> Result<Recovered, CardError> {
        self.hand.recover()
    }
}

/// What the hand said, in the terms of somebody who brings cards.
fn why(error: CardError) -> Why {
    if let CardError::WrongSet { found: SetName::Numbered(found, old), wanted: SetName::Numbered(ours, new), .. } =
        error
    {
        return if (old, found) < (new, ours) { Why::OldSet } else { Why::NewerSet };
    }
    if let CardError::WrongVault { found, .. } = error {
        return Why::Foreign(found);
    }
    if matches!(error, CardError::Duplicate { .. }) {
        return Why::Again;
    }
    if matches!(error, CardError::NotHandedOut { .. }) { Why::NotHandedOut } else { Why::Card(error) }
}
