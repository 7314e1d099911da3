//! A blob sealed to one public key inside a record: HPKE base mode, single shot.

use crate::cbor::record;
use crate::ids::{Blob, RecipientId};

record! {
    /// Bytes only one recipient can open. The HPKE `info` names the record kind,
    /// the field and the vault, so a blob cannot be moved to another place.
    SealedBlob {
        /// Which public key.
        0 recipient: RecipientId,
        /// X-Wing encapsulation, 1120 bytes.
        1 enc: Blob,
        /// AES-256-GCM ciphertext and tag.
        2 ciphertext: Blob,
    }
}

/// What a sealed blob holds; part of its HPKE `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedField {
    /// [`crate::manifest::JanitorPart`] of a manifest.
    ManifestJanitor,
    /// [`crate::manifest::ReaderPart`] of a manifest.
    ManifestReader,
    /// [`crate::layout::LayoutNames`] of a layout record.
    LayoutNames,
    /// An older generation's KEM seed in the key history.
    KeyHistory,
}

impl SealedField {
    /// The label that stands in the HPKE `info`, before the vault id.
    pub fn label(self) -> &'static str {
        match self {
            Self::ManifestJanitor => "holdfast sealed 1 manifest janitor",
            Self::ManifestReader => "holdfast sealed 1 manifest reader",
            Self::LayoutNames => "holdfast sealed 1 layout names",
            Self::KeyHistory => "holdfast sealed 1 key history",
        }
    }
}
