//! Memory that is kept out of swap: the pages of what opens everything (seeds, read
//! keys, passphrases). Off until a program asks for it; tests and the seeded world do
//! not.
//!
//! What always holds: where the system refuses, the program works as well as before
//! and can say so; a page stays locked until its process ends or gives it back, since
//! secrets share pages and locks of pages do not add up. What ciphers keep on the
//! stack, and keys as they are expanded while they sign or open, is not locked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Locks of one process, at most: each splits a mapping, and the system has a limit
/// for those too. A command needs about ten.
const LOCKS_MAX: usize = 1_000;

static WANTED: AtomicBool = AtomicBool::new(false);
static LOCKED: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// This process locks such memory from now on.
pub fn from_now_on() {
    WANTED.store(true, Ordering::Relaxed);
}

/// Locks of this process so far: those the system granted and those it refused.
pub fn count() -> (usize, usize) {
    (LOCKED.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed))
}

/// Whether the system lets this process lock a page; else why not.
pub fn trial() -> Result<(), String> {
    let page = [0_u8; 1];
    region::lock(page.as_ptr(), page.len()).map(drop).map_err(|error| error.to_string())
}

/// Keeps the pages of these bytes out of swap, if that was asked for and is permitted.
pub(crate) fn keep(bytes: &[u8]) {
    if bytes.is_empty() || !WANTED.load(Ordering::Relaxed) || LOCKED.load(Ordering::Relaxed) >= LOCKS_MAX {
        return;
    }
    match region::lock(bytes.as_ptr(), bytes.len()) {
        Ok(guard) => {
            LOCKED.fetch_add(1, Ordering::Relaxed);
            // Its drop would unlock the page under other secrets.
            std::mem::forget(guard);
        }
        Err(_) => {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// The kernel's own count of this process's locked memory, in KiB.
    fn locked_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    #[test]
    fn nothing_is_locked_until_it_is_asked_for_and_then_the_kernel_says_so() {
        let secret = Secret::from_array([7; 32]);
        keep(secret.expose_secret());
        assert_eq!((count(), locked_kib()), ((0, 0), 0));
        let permitted = trial().is_ok();
        from_now_on();
        keep(secret.expose_secret());
        let (locked, refused) = count();
        assert_eq!((locked > 0, refused > 0), (permitted, !permitted));
        assert_eq!(locked_kib() > 0, permitted);
    }
}
