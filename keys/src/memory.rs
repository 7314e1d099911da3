//! What a thread remembers of keys and signatures it checked before. Off unless a
//! thread asks for it, and only the seeded world does: it checks the same few
//! signatures millions of times.
//!
//! What always holds: remembered is only what was checked and found good, under the
//! hash of all that was checked: key, label, message and both signatures. So an
//! answer from memory is the answer a check would give, unless BLAKE3 collides.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use vault_format::Hash;
use vault_format::shard::Signatures;

use crate::signature::VerifyingKey;

/// More than a scenario needs; then everything is forgotten.
const ENTRIES_MAX: usize = 10_000;

#[derive(Default)]
struct Memory {
    keys: BTreeMap<Hash, VerifyingKey>,
    good: BTreeSet<Hash>,
}

thread_local! {
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// This thread remembers from now on.
pub fn remember() {
    MEMORY.with_borrow_mut(|memory| {
        memory.get_or_insert_default();
    });
}

fn is_on() -> bool {
    MEMORY.with_borrow(Option::is_some)
}

/// A key's parsed form; `parse` does it if it is not remembered.
pub(crate) fn key<E>(bytes: &[u8], parse: impl FnOnce() -> Result<VerifyingKey, E>) -> Result<VerifyingKey, E> {
    if !is_on() {
        return parse();
    }
    let name = Hash(*blake3::hash(bytes).as_bytes());
    if let Some(known) = MEMORY.with_borrow(|memory| memory.as_ref()?.keys.get(&name).cloned()) {
        return Ok(known);
    }
    let parsed = parse()?;
    MEMORY.with_borrow_mut(|memory| {
        if let Some(memory) = memory {
            memory.keys.insert(name, parsed.clone());
        }
    });
    Ok(parsed)
}

/// Whether `check` says that the signatures are good, or said so before.
pub(crate) fn verified<E>(
    key: &Hash,
    message: &[u8],
    signatures: &Signatures,
    check: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    if !is_on() {
        return check();
    }
    let mut all = blake3::Hasher::new();
    all.update(&key.0).update(&signatures.ed25519).update(&signatures.ml_dsa).update(message);
    let name = Hash(*all.finalize().as_bytes());
    if MEMORY.with_borrow(|memory| memory.as_ref().is_some_and(|memory| memory.good.contains(&name))) {
        return Ok(());
    }
    check()?;
    MEMORY.with_borrow_mut(|memory| {
        if let Some(memory) = memory {
            if memory.good.len() >= ENTRIES_MAX {
                memory.good.clear();
            }
            memory.good.insert(name);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::signature::SigningKey;

    #[test]
    fn what_is_remembered_is_only_what_was_good() {
        let key = SigningKey::random(&mut ChaCha20Rng::from_seed([8; 32]));
        let good = key.sign("label", b"message");
        let mut bad = good.clone();
        bad.ml_dsa[7] ^= 1;
        remember();
        for _ in 0..2 {
            let public = VerifyingKey::from_slice(key.verifying_key().as_bytes()).unwrap();
            assert!(public == *key.verifying_key());
            public.verify("label", b"message", &good).unwrap();
            public.verify("label", b"messagE", &good).unwrap_err();
            public.verify("labe", b"lmessage", &good).unwrap_err();
            public.verify("label", b"message", &bad).unwrap_err();
        }
    }
}
