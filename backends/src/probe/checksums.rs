//! Whether checksums that come with an upload are looked at.
//!
//! What always holds: a checksum counts as honoured only when a wrong one was refused,
//! nothing of the upload stands afterwards, and a right one was taken. Some servers take
//! every one; one answered 400 and kept the bad object all the same.

use object_store::path::Path;

use super::trial::Trial;
use crate::s3::{self, crc32c_header, md5_header, sha256_header};

/// What a location does with one kind of checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A wrong one is refused and nothing is stored; a right one is taken.
    Honoured,
    /// A wrong one is taken: it is not looked at.
    Ignored,
    /// A wrong one is refused, and what came with it stands there all the same.
    KeepsBad,
    /// Even a right one is refused: the server does not know the header.
    Refused,
    /// Not asked: only S3 has such headers.
    NotAsked,
}

/// What a location does with checksums of uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// `Content-MD5`, the oldest: against accidents only.
    pub md5: Checked,
    /// `x-amz-checksum-crc32c`.
    pub crc32c: Checked,
    /// `x-amz-checksum-sha256`, which uploads to locked buckets carry.
    pub sha256: Checked,
}

impl Checksums {
    /// Nothing was asked.
    pub const NOT_ASKED: Self = Self { md5: Checked::NotAsked, crc32c: Checked::NotAsked, sha256: Checked::NotAsked };
}

type Header = fn(&[u8]) -> (&'static str, String);

impl Trial<'_> {
    pub(super) async fn checksums(&mut self) -> Checksums {
        if self.location.bucket().is_none() {
            return Checksums::NOT_ASKED;
        }
        Checksums {
            md5: self.checksum("md5", md5_header).await,
            crc32c: self.checksum("crc32c", crc32c_header).await,
            sha256: self.checksum("sha256", sha256_header).await,
        }
    }

    async fn checksum(&mut self, kind: &str, header: Header) -> Checked {
        let (right, wrong) = (self.object(&format!("{kind}-right"), 0), self.object(&format!("{kind}-wrong"), 1));
        if !self.put_with(&right.name, &right.bytes, header(&right.bytes)).await {
            return Checked::Refused;
        }
        let taken = self.put_with(&wrong.name, &wrong.bytes, header(&right.bytes)).await;
        // Whatever was answered: is anything there?
        let stored = self.read(&wrong.name).await.is_ok();
        match (taken, stored) {
            (true, _) => Checked::Ignored,
            (false, true) => Checked::KeepsBad,
            (false, false) => Checked::Honoured,
        }
    }

    async fn put_with(&mut self, name: &Path, bytes: &bytes::Bytes, header: (&'static str, String)) -> bool {
        let Some(bucket) = self.location.bucket() else { return false };
        let put = s3::put_with_checksum(bucket, name.as_ref(), bytes, header).await;
        // Also a refused one may stand there.
        self.remember(name, put.as_ref().ok().cloned().flatten());
        put.is_ok()
    }
}
