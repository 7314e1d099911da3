//! SLIP-39: Shamir's secret sharing with words, as specified by SatoshiLabs
//! (slip-0039), written here against its official vectors.
//!
//! Why this scheme for cards: each share carries a checksum that finds three
//! wrong words, an identifier of its set and its own number; the shared secret
//! carries a digest. A forged, mixed or doubled set is therefore refused, never
//! turned into a wrong seed; and other people's tools recover without us.
//!
//! [`split`] deals one group; [`combine`] reads any number of groups.

pub(crate) mod checksum;
pub(crate) mod cipher;
pub(crate) mod field;
pub(crate) mod scheme;
pub(crate) mod share;
pub(crate) mod words;

pub(crate) use scheme::check_counts;

pub use cipher::{ITERATIONS, ROUNDS};
pub use scheme::{DIGEST_AT, DIGEST_BYTES, EXPONENT, SECRET_AT, SplitRequest, combine, split};
pub use share::{COUNT_MAX, Common, Share};

#[cfg(test)]
mod tests;
