//! What is done with a vault: backup, commit, restore, audit, repair, import.
//! Each plans first, then acts.
//!
//! What always holds: nothing is reported durable before it is; a restore checks
//! every byte from the Merkle root to the whole; audit and repair need no key.

mod belief;
mod budget;
mod challenge;
mod commit;
mod condemned;
mod error;
mod framing;
mod intake;
mod layouts;
mod mending;
mod packing;
mod read_ahead;
mod records;
mod revoked;
mod unfinished;

pub mod adopt;
pub mod amend;
pub mod attendance;
pub mod audit;
pub mod backup;
pub mod canary;
pub mod catalog;
pub mod census;
pub mod claims;
pub mod clocks;
pub mod create;
pub mod estimate;
pub mod fences;
pub mod fetch;
pub mod file_cache;
mod file_rows;
pub mod forget;
pub mod gc;
pub mod heads;
pub mod heal;
pub mod heartbeat;
pub mod hostile;
pub mod import;
pub mod issue;
pub mod janitor;
pub mod lease;
pub mod listing;
pub mod location;
pub mod look;
pub mod marks;
pub mod older;
pub mod orphans;
pub mod pins;
pub mod place;
pub mod placement;
pub mod points;
pub mod progress;
pub mod rebalance;
pub mod rebuild;
pub mod reencrypt;
pub mod refound;
pub mod reissue;
pub mod relayout;
pub mod repair;
pub mod restore;
pub mod retain;
pub mod retention;
pub mod rotate;
pub mod scan;
pub mod scrub;
pub mod shelf;
mod sights;
pub mod source;
pub mod spool;
pub mod status;
pub mod step;
pub mod surplus;
mod sweep;
pub mod tombstones;
mod torn;
pub mod trash;
pub mod vault;
pub mod watch;
pub mod world;

pub use error::{OpsError, Result};
