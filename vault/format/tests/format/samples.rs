//! One marked value of every kind of object: each field has bytes of its own, so that two fields changing places is
//! seen. Keys and signatures are patterns, not cryptography; valid ones stand in the vectors of the crates above.

use serde_json::Value;
use vault_format::{Blob, Hash};

use crate::{objects, records};

/// A value with its bytes.
pub(crate) struct Sample {
    /// Name of its file.
    pub(crate) name: String,
    /// Its decoder; none for bytes that are made and never read.
    pub(crate) decoder: Option<&'static str>,
    /// Where FORMAT.md describes it: a heading with a byte table, or a record.
    pub(crate) heading: &'static str,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// What a reader must find in them.
    pub(crate) fields: Value,
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Bytes that differ for each mark and place.
pub(crate) fn marked<const N: usize>(mark: u8) -> [u8; N] {
    std::array::from_fn(|at| mark.wrapping_add((at * 7 + (at >> 8) * 3) as u8))
}

pub(crate) fn blob(mark: u8, bytes: usize) -> Blob {
    Blob((0..bytes).map(|at| mark.wrapping_add((at * 7 + (at >> 8) * 3) as u8)).collect())
}

pub(crate) fn hash(mark: u8) -> Hash {
    Hash(marked(mark))
}

/// One marked value of every kind.
pub(crate) fn all() -> Vec<Sample> {
    objects::all().into_iter().chain(records::all()).collect()
}

/// The bytes of a sample.
pub(crate) fn bytes_of(name: &str) -> Vec<u8> {
    all().into_iter().find(|sample| sample.name == name).unwrap_or_else(|| panic!("no sample is called {name}")).bytes
}
