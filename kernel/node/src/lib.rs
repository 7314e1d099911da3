//! The kernel node: durability and HTTP around the core.
//!
//! What always holds:
//! - A write is acknowledged, and visible to readers, only after its record is in the log and the log
//!   is synced (unless sync mode `none` was chosen, which says so at every start).
//! - One thread owns the state. Readers see published versions, which never change under them.
//! - What cannot be read back as it was written stops the node with the sequence named. A damaged log
//!   is never opened as an empty one, and nothing is skipped.
//! - Disk, clock and the randomness of a new lineage are parameters, so the crash tests run this code.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
mod cursors;
mod disk;
mod error;
pub mod http;
mod log;
mod node;
mod recovery;
mod restore;
mod segment;
mod snapshots;
mod writer;

pub use clock::{Clock, SystemClock};
pub use cursors::Cursors;
pub use disk::{Directory, Disk, DiskFile};
pub use error::Error;
pub use http::{Listen, Server, Token};
pub use kernel_core as core;
pub use log::LogTail;
pub use node::{Acknowledge, Config, Node, Published, SnapshotInfo, SyncMode, Unattached, Written};
pub use recovery::Recovered;
pub use restore::{Restored, restore_from, restore_onto};
