//! Bytes of a kernel node that are checked while they pass.
//!
//! What always holds: a piece is checked before it goes on, and the first error
//! is kept here while the other side sees the end of the bytes. So neither a
//! sink nor a file ever decides what a damaged log means.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};

/// Reads pieces that come from `next`, each checked by `check`.
pub(crate) struct CheckedReader<N, C, E> {
    next: N,
    check: C,
    piece: Bytes,
    failed: Option<E>,
    /// Bytes that passed.
    pub(crate) bytes: u64,
}

impl<N, C, E> CheckedReader<N, C, E>
where
    N: FnMut() -> Result<Option<Bytes>, E>,
    C: FnMut(&[u8]) -> Result<(), E>,
{
    pub(crate) fn new(next: N, check: C) -> Self {
        Self { next, check, piece: Bytes::new(), failed: None, bytes: 0 }
    }

    /// The bytes that passed, if all did.
    pub(crate) fn finish(self) -> Result<u64, E> {
        self.failed.map_or(Ok(self.bytes), Err)
    }

    fn refill(&mut self) -> Result<(), E> {
        while self.piece.is_empty() {
            let Some(piece) = (self.next)()? else { return Ok(()) };
            (self.check)(&piece)?;
            self.bytes += piece.len() as u64;
            self.piece = piece;
        }
        Ok(())
    }
}

impl<N, C, E> Read for CheckedReader<N, C, E>
where
    N: FnMut() -> Result<Option<Bytes>, E>,
    C: FnMut(&[u8]) -> Result<(), E>,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.is_none()
            && let Err(error) = self.refill()
        {
            self.failed = Some(error);
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Writes on to `to` what passed `check`.
pub(crate) struct CheckedWriter<W, C, E> {
    to: W,
    check: C,
    failed: Option<E>,
}

impl<W: Write, C, E> CheckedWriter<W, C, E>
where
    C: FnMut(&[u8]) -> Result<(), E>,
{
    pub(crate) fn new(to: W, check: C) -> Self {
        Self { to, check, failed: None }
    }

    /// Why a piece did not pass, and where the others went.
    pub(crate) fn finish(self) -> (W, Option<E>) {
        (self.to, self.failed)
    }
}

impl<W: Write, C, E> Write for CheckedWriter<W, C, E>
where
    C: FnMut(&[u8]) -> Result<(), E>,
{
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Err(error) = (self.check)(buffer) {
            self.failed = Some(error);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the bytes did not pass their check"));
        }
        self.to.write_all(buffer)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
