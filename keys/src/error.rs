//! Why keys were refused. Variants tell callers what they can do: take another
//! key, get another card, repair a file's mode, distrust a record. No message
//! carries a secret; a mistyped word of a card is repeated to the person who
//! typed it.

use std::path::PathBuf;

use thiserror::Error;
use vault_format::certificate::Role;
use vault_format::envelope::RecordKind;
use vault_format::{FormatError, Hash, VaultId};

use crate::seed::Generation;
use crate::signature::KeyCheck;

/// What this crate's operations return.
pub type Result<T> = std::result::Result<T, KeysError>;

/// A refusal of this crate.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The authentication tag does not hold: another key, or altered bytes. The
    /// cipher cannot tell which.
    #[error("{what} does not open: it was sealed for another key, or its bytes were altered")]
    Unopened {
        /// What was sealed.
        what: &'static str,
    },
    /// Key material that no correct program produces.
    #[error("{what} is not a valid key")]
    InvalidKey {
        /// Which key.
        what: &'static str,
    },
    /// A signature does not hold.
    #[error("{what}: {fault}. It was altered, or another key signed it; it is not used")]
    Signature {
        /// What was signed.
        what: &'static str,
        /// Which of the two.
        fault: SignatureFault,
    },
    /// A record signed by another key than the one expected.
    #[error("{what} is signed by key {found}, expected {expected}")]
    Signer {
        /// What was signed.
        what: &'static str,
        /// Fingerprint wanted.
        expected: Hash,
        /// Fingerprint found.
        found: Hash,
    },
    /// A record of another vault.
    #[error("{what} belongs to vault {found}, not to {expected}")]
    Vault {
        /// What it is.
        what: &'static str,
        /// Vault wanted.
        expected: VaultId,
        /// Vault found.
        found: VaultId,
    },
    /// A record of another kind.
    #[error("a {found:?} record stands where a {expected:?} record belongs")]
    Kind {
        /// Kind wanted.
        expected: RecordKind,
        /// Kind found.
        found: RecordKind,
    },
    /// A role that may not do this.
    #[error("a certificate for {role:?} does not allow {action}")]
    Role {
        /// The role certified.
        role: Role,
        /// What was attempted.
        action: &'static str,
    },
    /// A certificate whose fields contradict each other or its signature.
    #[error("the certificate is not acceptable: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A root whose line does not lead to the one trusted, or that has a rival.
    #[error("the root key is not acceptable: {reason}")]
    Roots {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Stored bytes that do not decode.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A card, or a hand of cards.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A key file.
    #[error("key file {path}: {fault}", path = path.display())]
    KeyFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
}

/// Which of the two signatures does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignatureFault {
    /// Only Ed25519 fails.
    #[error("the Ed25519 signature does not verify")]
    Ed25519,
    /// Only ML-DSA-65 fails.
    #[error("the ML-DSA-65 signature does not verify")]
    MlDsa,
    /// Both fail.
    #[error("neither signature verifies")]
    Both,
}

/// What is wrong with a key file.
#[derive(Debug, Error)]
pub enum FileFault {
    /// Others on this machine can read or write it.
    #[error("others can access it (mode {mode:04o}). Run: chmod 600 {command_path}")]
    TooOpen {
        /// Its permission bits.
        mode: u32,
        /// Its path, quoted for a shell.
        command_path: String,
    },
    /// There is a file already; key files are never overwritten.
    #[error("it exists already and is not overwritten. Move it away first")]
    Exists,
    /// Nothing there.
    #[error("there is no such file")]
    Missing,
    /// A directory, a pipe or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// The first line differs.
    #[error("it is not a holdfast key file")]
    NotAKeyFile,
    /// A key file of another kind.
    #[error("it holds a {found}; a {wanted} is needed here")]
    Role {
        /// Role wanted.
        wanted: &'static str,
        /// Role found.
        found: String,
    },
    /// The end is missing.
    #[error("it is truncated. Take another copy of it")]
    Truncated,
    /// Its check value does not match.
    #[error("its content was altered (the check value does not match). Take another copy of it")]
    Altered,
    /// It is sealed and no passphrase was given.
    #[error(
        "it is sealed with a passphrase. Give it with --passphrase-file FILE, or one of the other --passphrase options"
    )]
    Sealed,
    /// The passphrase is another, or the numbers it is stretched with were altered.
    #[error("the passphrase does not open it")]
    WrongPassphrase,
    /// Numbers of Argon2id that no file of ours has.
    #[error(
        "its passphrase is to be stretched with {kib} KiB, {passes} passes and {lanes} lanes: that protects nothing, or          is meant to exhaust this host. Take another copy of it"
    )]
    Cost {
        /// Memory.
        kib: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// It has other names on the disk.
    #[error(
        "it has {names} names on the disk (hard links), and the others would keep what stands in it. Remove the others first"
    )]
    Names {
        /// How many.
        names: u64,
    },
    /// Somebody else wrote it meanwhile.
    #[error("it was changed by somebody else meanwhile; nothing was replaced. Run it again")]
    Changed,
    /// It is public: there is nothing to seal.
    #[error("it is public; nothing in it needs a passphrase")]
    Public,
    /// The check value holds, the content makes no sense.
    #[error("its content is not valid: {0}")]
    Content(&'static str),
    /// The operating system refused.
    #[error("{0}")]
    Io(std::io::Error),
}

/// What is wrong with a card or a hand of cards. Card numbers are those printed
/// on the cards, from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CardError {
    /// The text does not begin as a card does.
    #[error("this is not a holdfast card: its first line is not \"holdfast card\"")]
    NotACard,
    /// A line of the card's head is missing, twice there, or unreadable.
    #[error("the card's line \"{line}\" is {problem}")]
    Head {
        /// Which line.
        line: String,
        /// Missing, repeated, unknown, not readable.
        problem: &'static str,
    },
    /// Head and words contradict each other.
    #[error("card {number}: its line \"{line}\" does not agree with its words")]
    Contradiction {
        /// The card, as its head says.
        number: u8,
        /// Which line.
        line: &'static str,
    },
    /// A word that is not in the list.
    #[error("word {position}, \"{word}\", is not in the word list{}", suggest(*.suggestion))]
    UnknownWord {
        /// Its position, from 1.
        position: usize,
        /// What was written.
        word: String,
        /// A word of the list that looks like it.
        suggestion: Option<&'static str>,
    },
    /// A number that is not its word's position: a word was left out or doubled.
    #[error("word {position} is numbered {found}: a word before it is missing or doubled")]
    WordNumber {
        /// Its position, from 1.
        position: usize,
        /// The number written.
        found: usize,
    },
    /// Too few or too many words.
    #[error("there are {found} words; a card has 33 (20 for a secret of 128 bits)")]
    WordCount {
        /// Words found.
        found: usize,
    },
    /// The checksum over the words fails: at least one is wrong.
    #[error("the words' checksum fails: a word is wrong or two are swapped{}", look_at(*.likely))]
    Checksum {
        /// The position where one other word would mend it, if there is just one.
        likely: Option<usize>,
    },
    /// The checksum holds, the fields make no sense.
    #[error("the words are not a valid share: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// Part of a scheme with several groups, which holdfast does not deal.
    #[error("these words belong to a scheme with {groups} groups; holdfast deals cards of one group")]
    Groups {
        /// Groups in the scheme.
        groups: u8,
    },
    /// A card of another vault.
    #[error("card {number} belongs to vault {found}, not to {wanted}")]
    WrongVault {
        /// The card.
        number: u8,
        /// Vault on the card.
        found: VaultId,
        /// Vault of the hand.
        wanted: VaultId,
    },
    /// A card of another set: an older split, or another vault's.
    #[error("card {number} belongs to another set ({found}, wanted {wanted}) and is not counted")]
    WrongSet {
        /// The card.
        number: u8,
        /// Its set.
        found: SetName,
        /// The hand's set.
        wanted: SetName,
    },
    /// The same card again.
    #[error("card {number} again: the same card, not counted")]
    Duplicate {
        /// The card.
        number: u8,
    },
    /// The same number with other words: at least one of them is forged or damaged.
    #[error("card {number} was given twice with different words: one of the two is wrong")]
    Conflict {
        /// The card.
        number: u8,
    },
    /// The vault record knows another card under this number.
    #[error("card {number} is not the card that was handed out under this number; it is not counted")]
    NotHandedOut {
        /// The card.
        number: u8,
    },
    /// More are needed.
    #[error("{have} of {need} cards: {} more needed", need.saturating_sub(*have))]
    NotEnough {
        /// Good cards so far.
        have: u8,
        /// Cards that are enough.
        need: u8,
    },
    /// Enough cards, but they do not belong together: at least one was altered.
    #[error("the cards do not fit together: at least one was altered{}", another_card(*.spare))]
    Digest {
        /// Whether more cards were given than are needed, all combinations failing.
        spare: bool,
    },
    /// The cards gave a seed, but not this vault's.
    #[error("the cards give a key with check {found}, this vault's is {wanted}: at least one card was altered")]
    WrongKey {
        /// Check wanted.
        wanted: KeyCheck,
        /// Check found.
        found: KeyCheck,
    },
    /// A split that cannot be made.
    #[error("{need} of {total} cards cannot be dealt: {reason}")]
    Plan {
        /// Cards that should be enough.
        need: u8,
        /// Cards in all.
        total: u8,
        /// Why not.
        reason: &'static str,
    },
}

/// How a set is called in messages: by its number, or by its SLIP-39 identifier
/// when bare words were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetName {
    /// Number and generation, as printed on the cards.
    Numbered(u32, Generation),
    /// The identifier inside the words.
    Identifier(u16),
}

impl std::fmt::Display for SetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numbered(set, generation) => write!(f, "set {set} of generation {}", generation.0),
            Self::Identifier(identifier) => write!(f, "identifier {identifier}"),
        }
    }
}

fn suggest(suggestion: Option<&'static str>) -> String {
    suggestion.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default()
}

fn look_at(likely: Option<usize>) -> String {
    likely.map(|position| format!(". If it is only one, it is word {position}")).unwrap_or_default()
}

fn another_card(spare: bool) -> &'static str {
    if spare { ", and no choice among them fits. Bring another card" } else { ". Bring another card" }
}
