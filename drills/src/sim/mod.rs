//! The seeded world: the production code of backup, commit, repair, audit and restore
//! over simulated locations, local state and clock.
//!
//! What always holds: a seed decides everything, so a failure is repeated by its
//! seed; the oracles stand outside the code they judge. See
//! docs/decisions/0018-seeded-world.md.

mod disks;
mod draw;
mod graves;
mod janitor;
mod judge;
mod ledger;
mod machine;
mod play;
mod runner;
pub mod scenario;
mod sites;
mod store;
mod timeline;

pub use draw::scenario as scenario_of;
pub use play::Played;
pub use runner::{Failure, Options, Totals, run, run_scenario};
pub use sites::Counts;
