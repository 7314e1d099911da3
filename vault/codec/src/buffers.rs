//! A pool of body-sized buffers.
//!
//! A pack's body and parity are 36 MiB at 5 of 9; touching fresh pages for them
//! costs more than encrypting them (a copy into fresh memory runs at about
//! 0.6 GB/s, AES-256-GCM at more than 4). A buffer comes back to the pool when
//! the last piece of it is dropped, which may be in the middle of an upload on
//! another thread. Whoever takes one overwrites every byte of it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers to use again. A clone shares the pool.
#[derive(Clone)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    keep: usize,
}

impl Buffers {
    /// A pool that keeps at most `keep` buffers while nobody uses them. Two
    /// serve one pack at a time: its body and its parity.
    pub fn new(keep: usize) -> Self {
        Self { free: Arc::default(), keep }
    }

    /// A buffer of exactly `bytes`, its content unspecified.
    pub(crate) fn take(&self, bytes: usize) -> Buffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = (0..free.len()).filter(|&at| free[at].capacity() >= bytes).min_by_key(|&at| free[at].capacity());
        let mut found = fitting.map(|at| free.swap_remove(at)).unwrap_or_default();
        drop(free);
        found.resize(bytes, 0);
        Buffer { bytes: found, home: self.clone() }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(bytes);
        }
    }
}

/// A buffer on loan.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffer {
    /// Ends writing; the pieces share it.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_with_its_last_piece_and_the_pool_is_bounded() {
        let pool = Buffers::new(1);
        let pieces = pool.take(1000).freeze();
        let (one, other) = (pieces.slice(..10), pieces.slice(500..));
        let address = pieces.as_ptr();
        drop((pieces, one));
        assert!(pool.free.lock().unwrap().is_empty(), "a piece is still out");
        drop(other);
        let again = pool.take(900);
        assert_eq!((again.as_ptr(), again.len()), (address, 900), "the same memory");
        drop((again, pool.take(5)));
        assert_eq!(pool.free.lock().unwrap().len(), 1);
    }
}
