//! Locations: where shards stand. Opening one from its URL, knowing what it can do,
//! and wrapping it so that every kind of store keeps one contract.
//!
//! The storage trait is [`object_store::ObjectStore`]; nothing here invents another. What
//! this crate adds, because the library leaves it to the server or to the caller:
//!
//! - **Durability** of local folders: file and every directory on the way are synced
//!   before a write is acknowledged, and a folder whose disk was unplugged answers
//!   "unavailable" instead of filling the root disk ([`folder`]).
//! - **Order**: within one folder of names every location lists in order of bytes, local
//!   folders too. Across folders servers differ (SeaweedFS walks them), so do not rely on it.
//! - **Create** means create, also where the server ignores or refuses `If-None-Match`
//!   ([`CreateAs`]). It narrows a race, it does not close it: correctness never depends
//!   on it, because "already exists" counts only when the stored root matches.
//! - **Errors by what the caller can do** ([`Kind`]), with the server's own code and words.
//! - **Bounded patience** ([`Timeouts`]): a dead endpoint costs seconds, and 501 is an
//!   answer, not a reason to try nine times more.
//! - **Knowledge, not trust**: [`probe()`] finds out what a location really does. A 200
//!   proves nothing.
//!
//! - **Versions and locks** ([`Versions`]): what the storage trait cannot ask, where there
//!   are any.
//! - **Names without sizes** ([`Names`]), where sizes cost.
//!
//! This crate knows nothing of vaults: names and bytes go in and come out.

mod create;
pub mod credentials;
pub mod disk;
mod error;
mod faulty;
mod folder;
mod http;
mod location;
mod metered;
mod names;
mod probe;
mod s3;
mod secret_source;
mod throttled;
mod uploads;
mod versioned_memory;
mod versions;

#[cfg(any(test, feature = "contract"))]
pub mod contract;

pub use create::CreateAs;
pub use credentials::{Credentials, Secret};
pub use error::{BackendError, Kind, classify};
pub use faulty::{Faults, Faulty, Injected, Pause};
pub use location::{Location, LocationSpec, Timeouts, folder_on, open};
pub use metered::{Counts, Meter, Metered};
pub use names::{Named, Names, Sizes, Wanted};
pub use probe::{Checked, Checksums, ConditionalPut, Grade, Probe, probe};
pub use secret_source::SecretSource;
pub use throttled::{Bucket, Rates, Ticks, Traffic};
pub use versioned_memory::{ClockMs, Rights, VersionedMemory};
pub use versions::{Lock, LockMode, LockRule, Locking, Version, VersionId, VersionList, Versions};

/// What an error answer of a store says, as people are shown it. For fuzzing.
#[doc(hidden)]
pub fn error_answer(status: u16, body: &[u8]) -> String {
    http::Answer::parse(status, body).to_string()
}

/// The versions a store's answer lists. For fuzzing.
#[doc(hidden)]
pub fn version_list(text: &str) -> Vec<Version> {
    s3::versions_in(text, |key| Some(key.to_owned()))
}

/// At most so many requests at once; the rest wait.
///
/// A permit is held until a stream (a listing, a download) was read to its end or
/// dropped: do not start requests from inside a listing with all permits taken by
/// listings, collect the names first.
pub use object_store::limit::LimitStore as Limited;
