//! What happened in a ceremony, without a secret: to be printed, initialled by the
//! people who were there, and kept.
//!
//! What always holds: it names steps, times, holders, numbers and hashes of cards and
//! the key check, and no word of a card; the root signs every byte above the
//! signature, so that who holds the vault's public key can tell a true one. The
//! initials are ink: they are on the paper and under no signature.

use std::fmt::Write as _;

use thiserror::Error;
use vault_format::shard::Signatures;
use vault_format::{Hash, VaultId};

use crate::ceremony::Terms;
use crate::error::SignatureFault;
use crate::labels;
use crate::signature::{KeyCheck, SigningKey, VerifyingKey};

/// The first line.
pub const TITLE: &str = "holdfast ceremony transcript v1";
/// The line below which the signature stands.
const SIGNATURE: &str = "\nsignature of the root over everything above this line\n";
/// Bytes of a signature on one line.
const LINE_BYTES: usize = 48;
/// Where people sign.
const INITIALS: &str = "[        ]";
/// Longest transcript that is read.
pub const TRANSCRIPT_BYTES_MAX: u64 = 1 << 20;
const INFALLIBLE: &str = "writing into a string does not fail";

/// What is written down while a ceremony runs.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// `split` or `reshare`.
    pub kind: &'static str,
    /// Name of the host.
    pub host: String,
    /// What happened: time as text, number of the step, what.
    pub lines: Vec<(String, u8, String)>,
}

impl Transcript {
    /// Nothing has happened yet.
    pub fn new(kind: &'static str, host: &str) -> Self {
        Self { kind, host: one_line(host), lines: Vec::new() }
    }

    /// Adds a line.
    pub fn add(&mut self, time: &str, step: u8, what: &str) {
        self.lines.push((time.to_owned(), step, one_line(what)));
    }

    /// The text with the root's signature below it.
    pub fn signed(&self, terms: &Terms, cards: &[Hash], root: &SigningKey) -> String {
        let mut text = self.text(terms, cards, &root.fingerprint());
        let Signatures { ed25519, ml_dsa } = root.sign(labels::TRANSCRIPT, text.as_bytes());
        text.push_str(SIGNATURE);
        for line in [&ed25519[..], &ml_dsa[..]].concat().chunks(LINE_BYTES) {
            line.iter().try_for_each(|byte| write!(text, "{byte:02x}")).expect(INFALLIBLE);
            text.push('\n');
        }
        text
    }

    fn text(&self, terms: &Terms, cards: &[Hash], root: &Hash) -> String {
        let Terms { vault, generation, set, need, total, holders } = terms;
        let mut out = String::new();
        write!(
            out,
            "{TITLE}\n\nceremony: {}\nhost: {}\nvault: {vault}\ngeneration: {}\nset: {set}\ncards: {total}\nneed: {need}\n\
             key check: {}\nroot: {root}\n\n",
            self.kind,
            self.host,
            generation.0,
            KeyCheck::of(root),
        )
        .expect(INFALLIBLE);
        out.push_str("time                  step  what happened\n");
        for (time, step, what) in &self.lines {
            writeln!(out, "{time:<21} {step}/6   {what}").expect(INFALLIBLE);
        }
        out.push_str("\ncard  initials    holder, and the card's hash\n");
        for (at, (hash, holder)) in cards.iter().zip(holders).enumerate() {
            let holder = if holder.is_empty() { "(no name)" } else { holder.as_str() };
            writeln!(out, "{:>4}  {INITIALS}  {holder}\n                  {hash}", at + 1).expect(INFALLIBLE);
        }
        write!(out, "\nhost  {INITIALS}  who ran the ceremony\nseen  {INITIALS}  who watched\n").expect(INFALLIBLE);
        out
    }
}

/// What a true transcript says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The vault.
    pub vault: VaultId,
    /// The set.
    pub set: u32,
    /// Hashes of the cards, in their order.
    pub cards: Vec<String>,
}

/// Why a transcript is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TranscriptFault {
    /// It does not begin as one does.
    #[error("this is not a ceremony's transcript: its first line is not \"{TITLE}\"")]
    NotATranscript,
    /// The end is missing.
    #[error("its signature is missing or cut off. Take another copy of it")]
    NoSignature,
    /// A line is missing or makes no sense.
    #[error("its line \"{0}\" is missing or not readable")]
    Line(&'static str),
    /// Another key signed it, or it was altered.
    #[error("{0}: it was altered, or it is of another vault or generation than this public key. Do not believe it")]
    Signature(SignatureFault),
}

/// Verifies a transcript under the root's public key.
pub fn verify(text: &str, root: &VerifyingKey) -> Result<Verified, TranscriptFault> {
    if text.lines().next() != Some(TITLE) {
        return Err(TranscriptFault::NotATranscript);
    }
    let (above, below) = text.split_once(SIGNATURE).ok_or(TranscriptFault::NoSignature)?;
    let bytes: Option<Vec<u8>> = below.lines().map(unhex).collect::<Option<Vec<_>>>().map(|lines| lines.concat());
    let signatures = bytes.and_then(|bytes| Signatures::from_slice(&bytes)).ok_or(TranscriptFault::NoSignature)?;
    root.verify(labels::TRANSCRIPT, above.as_bytes(), &signatures).map_err(TranscriptFault::Signature)?;
    let field = |name: &'static str| {
        let value = above.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.ok_or(TranscriptFault::Line(name))
    };
    let vault = VaultId::from_hex(field("vault")?).ok_or(TranscriptFault::Line("vault"))?;
    let set = field("set")?.parse().map_err(|_| TranscriptFault::Line("set"))?;
    let is_hash = |line: &&str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let cards = above.lines().map(str::trim).filter(is_hash).map(str::to_owned).collect();
    Ok(Verified { vault, set, cards })
}

fn unhex(line: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; line.len() / 2];
    vault_format::ids::hex_into(line, &mut bytes)?;
    Some(bytes)
}

fn one_line(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}
