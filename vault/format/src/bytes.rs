//! Reading and writing fixed little-endian layouts. A [`Reader`] never reads
//! past its slice and checks that reserved bytes are zero.

use crate::FormatError;

pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, at: 0 }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let rest = &self.bytes[self.at..];
        if rest.len() < count {
            let need = self.at.saturating_add(count);
            return Err(FormatError::Truncated { what: self.what, have: self.bytes.len(), need });
        }
        self.at += count;
        Ok(&rest[..count])
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn magic(&mut self, magic: [u8; 8]) -> Result<(), FormatError> {
        if self.array::<8>()? == magic { Ok(()) } else { Err(FormatError::Magic { what: self.what }) }
    }

    pub(crate) fn reserved(&mut self, count: usize) -> Result<(), FormatError> {
        let start = self.at;
        match self.take(count)?.iter().position(|&byte| byte != 0) {
            None => Ok(()),
            Some(offset) => Err(FormatError::Reserved { what: self.what, at: start + offset }),
        }
    }

    pub(crate) fn end(&self) -> Result<(), FormatError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            extra => Err(FormatError::Trailing { what: self.what, extra }),
        }
    }
}

/// Appends fixed fields to a buffer.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);
    fn put_zero(&mut self, count: usize);
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_zero(&mut self, count: usize) {
        self.resize(self.len() + count, 0);
    }
}
