//! Passphrases, and what one seals: the body of a key file. FORMAT.md, "Key files".
//!
//! What always holds: the passphrase is stretched by Argon2id (RFC 9106) with numbers
//! that stand in the file, and numbers outside [`Cost`]'s bounds are refused before
//! any memory is taken; a commitment is compared before anything is opened, so a wrong
//! passphrase is told from altered bytes and no file opens under two passphrases (GCM
//! alone would allow that); the nonce follows from the plain bytes, so a clone that
//! repeats its salt repeats no nonce over other content; memory that held the
//! passphrase or what came of it is wiped.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use vault_format::suite::TAG_BYTES;
use zeroize::Zeroize;

use crate::aead::EncKey;
use crate::derive::Derivation;
use crate::error::FileFault;
use crate::labels;
use crate::secret::{Secret, SecretBytes};

/// Bytes of the salt.
pub const SALT_BYTES: usize = 16;
/// Most bytes of a passphrase.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;
/// Fewest characters of a passphrase that something new is sealed with. Argon2id makes
/// guesses dear, it does not make few of them many.
pub const PASSPHRASE_CHARS_MIN: usize = 12;
/// What stands before the ciphertext: commitment and nonce.
const FRONT_BYTES: usize = 32 + NONCE_BYTES;
const NONCE_BYTES: usize = 12;

/// One line of text that a person remembers or a file keeps.
pub struct Passphrase(SecretBytes);

impl Passphrase {
    /// Takes what was typed or read: one line, its line end is not part of it.
    pub fn new(bytes: SecretBytes) -> Result<Self, &'static str> {
        let text = bytes.expose_secret();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return Err("the passphrase is empty");
        }
        if text.len() > PASSPHRASE_BYTES_MAX {
            return Err("the passphrase is longer than 1024 bytes");
        }
        if text.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            return Err("the passphrase has more than one line; it is one, and nothing else");
        }
        let own = SecretBytes::new(text.to_vec());
        crate::locked::keep(own.expose_secret());
        Ok(Self(own))
    }

    /// Whether it is long enough to seal something new with.
    pub fn check_new(&self) -> Result<(), &'static str> {
        let chars = String::from_utf8_lossy(self.0.expose_secret()).chars().count();
        if chars < PASSPHRASE_CHARS_MIN {
            return Err("the passphrase is shorter than 12 characters; take five random words or more");
        }
        Ok(())
    }

    /// Whether both are the same, in constant time for those of one length.
    pub fn is_same(&self, other: &Self) -> bool {
        let (one, two) = (self.0.expose_secret(), other.0.expose_secret());
        aws_lc_rs::constant_time::verify_slices_are_equal(one, two).is_ok()
    }
}

/// What a guess costs: the numbers of Argon2id, as they stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes, computed one after the other here.
    pub lanes: u32,
}

impl Cost {
    /// The second choice of RFC 9106, section 4: what fits on any host that runs this.
    pub const DEFAULT: Self = Self { kib: 64 << 10, passes: 3, lanes: 4 };
    /// Below this no file of ours is, and a guess is cheap.
    pub const KIB_MIN: u32 = 8 << 10;
    /// A file must not take the memory of the host.
    pub const KIB_MAX: u32 = 1 << 20;
    /// Most passes.
    pub const PASSES_MAX: u32 = 16;
    /// Most lanes.
    pub const LANES_MAX: u32 = 16;
    /// Most KiB times passes: a file must not take the time of the host. About twenty
    /// times the default.
    pub const WORK_MAX: u64 = 4 << 20;

    /// Whether numbers from a file may be computed with.
    pub fn is_acceptable(self) -> bool {
        let Self { kib, passes, lanes } = self;
        (Self::KIB_MIN..=Self::KIB_MAX).contains(&kib)
            && (1..=Self::PASSES_MAX).contains(&passes)
            && (1..=Self::LANES_MAX).contains(&lanes)
            && u64::from(kib) * u64::from(passes) <= Self::WORK_MAX
    }
}

/// The line `argon2id` of a sealed key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// What a guess costs.
    pub cost: Cost,
    /// Drawn for each sealing.
    pub salt: [u8; SALT_BYTES],
}

/// Encryption key, nonce key and commitment of one sealed body.
struct BodyKeys {
    seal: EncKey,
    nonce: Secret<32>,
    commitment: Secret<32>,
}

impl BodyKeys {
    /// Acceptable numbers only.
    fn of(passphrase: &Passphrase, stretch: &Stretch) -> Self {
        let Cost { kib, passes, lanes } = stretch.cost;
        let params = Params::new(kib, passes, lanes, Some(32)).expect("numbers within the bounds are Argon2's too");
        let mut memory = vec![Block::default(); params.block_count()];
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let stretched: Secret<32> = Secret::fill(|out| {
            argon
                .hash_password_into_with_memory(passphrase.0.expose_secret(), &stretch.salt, out, &mut memory)
                .expect("lengths and memory are as Argon2 wants them");
        });
        memory.zeroize();
        let derivation = Derivation::extract(labels::SEALED_FILE, &[stretched.expose_secret()]);
        let all: Secret<96> = derivation.expand(labels::SEALED_KEYS, &[]);
        let part =
            |at: usize| Secret::fill(|out: &mut [u8; 32]| out.copy_from_slice(&all.expose_secret()[at..at + 32]));
        Self { seal: EncKey::new(part(0)), nonce: part(32), commitment: part(64) }
    }
}

/// Bytes of a body of so many bytes once it is sealed.
pub(crate) const fn sealed_length(plain: usize) -> usize {
    FRONT_BYTES + plain + TAG_BYTES
}

/// Seals a body. `head` is every byte of the file before it.
pub(crate) fn seal(passphrase: &Passphrase, stretch: &Stretch, head: &[u8], body: &SecretBytes) -> SecretBytes {
    let keys = BodyKeys::of(passphrase, stretch);
    let mut hash = blake3::Hasher::new_keyed(keys.nonce.expose_secret());
    hash.update(body.expose_secret());
    let nonce: [u8; NONCE_BYTES] = hash.finalize().as_bytes()[..NONCE_BYTES].try_into().expect("12 of 32 bytes");
    hash.zeroize();
    let mut sealed = Vec::with_capacity(sealed_length(body.expose_secret().len()));
    sealed.extend_from_slice(keys.commitment.expose_secret());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(body.expose_secret());
    let tag = keys.seal.seal_detached(nonce, head, &mut sealed[FRONT_BYTES..]);
    sealed.extend_from_slice(&tag);
    SecretBytes::new(sealed)
}

/// Opens a body. Numbers out of bounds were refused by whoever read the head.
pub(crate) fn open(
    passphrase: &Passphrase,
    stretch: &Stretch,
    head: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, FileFault> {
    if sealed.len() < sealed_length(0) {
        return Err(FileFault::Content("its sealed body is too short"));
    }
    let (front, rest) = sealed.split_at(FRONT_BYTES);
    let (commitment, nonce) = front.split_at(32);
    let keys = BodyKeys::of(passphrase, stretch);
    let commitment = Secret::from_slice(commitment).expect("32 bytes were split off");
    if !keys.commitment.is_same(&commitment) {
        return Err(FileFault::WrongPassphrase);
    }
    let nonce = nonce.try_into().expect("12 bytes were split off");
    let mut body = rest.to_vec();
    let opened = keys.seal.open_in_place(nonce, head, &mut body);
    // Whatever is in it now is wiped when it is dropped.
    let length = opened.map_err(|_| FileFault::Content("its lines or its sealed body were altered"))?;
    body[length..].zeroize();
    body.truncate(length);
    Ok(SecretBytes::new(body))
}

#[cfg(test)]
mod tests;
