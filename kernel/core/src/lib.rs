//! The kernel core: a deterministic vector and graph store as a state machine.
//!
//! What always holds:
//! - No IO, no clock, no randomness, no float in state or search. The same commands give the same
//!   state hash on every architecture.
//! - [`State::apply`] either changes the state by exactly one command, or refuses and changes nothing.
//! - The state hash covers everything a client could ever observe; it does not depend on the order in
//!   which commands led there (only the sequence, a counter, says how many there were).
//! - Every decoder is bounded before it allocates, and what it accepts encodes to the same bytes.
//!
//! The bytes are specified in `kernel/FORMAT.md`; a test compares that page with the constants here.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod chain;
mod change;
mod collection;
mod command;
mod crc32c;
mod error;
mod fixed;
mod hash;
mod id;
mod index;
pub mod limits;
mod proof;
mod search;
pub mod snapshot;
mod state;
mod thing;
mod tree;
pub mod wal;
mod wire;

pub use chain::{ChainVerifier, Replay, Verified, verify_chain};
pub use collection::{Collection, Counts, Metric, Parameters, TrashedCollection};
pub use command::{Command, DeleteMode, Deletion, Existing, Links};
pub use crc32c::crc32c;
pub use error::{Error, Fault, Rule};
pub use fixed::Fixed;
pub use hash::{Hash, LABELS};
pub use id::{Id, Lineage, Name};
pub use proof::{Claim, Proof, Space, StateOpening, Verdict};
pub use search::{Hit, Score};
pub use state::{Outcome, STATE_VERSION, State};
pub use thing::{Edge, EdgeKind, Kind, KindSpace, Node, NodeKind, Record, Thing, ThingRef, ThingType, Trashed};
