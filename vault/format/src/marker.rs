//! The location marker: a small unsigned object at the top of each location that
//! says which location of which vault it is. A hint only: a location's id follows
//! from its name (label `LOCATION`); the marker lets a reader without a
//! configuration find its place in the layout, and tells a swapped disk.

use crate::FormatError;
use crate::bytes::{Put, Reader};
use crate::ids::{LocationId, VaultId};

/// First bytes of a marker.
pub const MARKER_MAGIC: [u8; 8] = *b"HFPLACE1";
/// Bytes of a marker.
pub const MARKER_BYTES: usize = 40;

/// Which location this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The vault.
    pub vault: VaultId,
    /// The location.
    pub location: LocationId,
}

impl Marker {
    /// The 40 stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MARKER_BYTES);
        out.put(&MARKER_MAGIC);
        out.put(&self.vault.0);
        out.put(&self.location.0);
        out
    }

    /// Reads a marker.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut r = Reader::new("location marker", bytes);
        r.magic(MARKER_MAGIC)?;
        let found = Self { vault: VaultId(r.array()?), location: LocationId(r.array()?) };
        r.end()?;
        Ok(found)
    }
}
