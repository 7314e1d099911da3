//! Reading and writing fixed-width little-endian bytes.
//!
//! The reader never allocates by a count it has not compared with the bytes that are left, so a
//! hostile length costs nothing.

use alloc::vec::Vec;

use crate::error::{Error, Fault};

/// A cursor over encoded bytes. Offsets in errors count from the start of the given slice.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn fail<T>(&self, fault: Fault) -> Result<T, Error> {
        Err(Error::corrupt(fault, self.at))
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        if count > self.left() {
            return self.fail(Fault::Truncated);
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Error> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// `count` bytes that must be zero.
    pub(crate) fn reserved(&mut self, count: usize) -> Result<(), Error> {
        let at = self.at;
        if self.take(count)?.iter().any(|byte| *byte != 0) {
            return Err(Error::corrupt(Fault::Reserved, at));
        }
        Ok(())
    }

    /// A u32 length within `max`, then that many bytes.
    pub(crate) fn sized(&mut self, max: u32) -> Result<&'a [u8], Error> {
        let at = self.at;
        let length = self.u32()?;
        if length > max {
            return Err(Error::corrupt(Fault::TooLarge, at));
        }
        self.take(length as usize)
    }

    /// A u32 count within `max` of items that take at least `item_bytes` each.
    pub(crate) fn count(&mut self, max: u32, item_bytes: usize) -> Result<usize, Error> {
        let at = self.at;
        let count = self.u32()?;
        if count > max {
            return Err(Error::corrupt(Fault::TooLarge, at));
        }
        if (count as usize).saturating_mul(item_bytes) > self.left() {
            return Err(Error::corrupt(Fault::Truncated, at));
        }
        Ok(count as usize)
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.left() > 0 {
            return self.fail(Fault::TrailingBytes);
        }
        Ok(())
    }
}

/// Appending counterparts of [`Reader`].
pub(crate) trait Put {
    fn raw(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }
    fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }
    fn i32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }
    fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }
    fn zeros(&mut self, count: usize) {
        for _ in 0..count {
            self.u8(0);
        }
    }
    fn sized(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.raw(bytes);
    }
}

impl Put for Vec<u8> {
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
