//! The agent: runs policies when they are due, and says how it stands.
//!
//! What always holds: one run at a time per writer; a failure is said, shown in
//! the status file, and tried again; a stop leaves nothing half-done that counts.

pub mod assembly;
pub mod custody;
pub mod metrics;
pub mod places;
pub mod schedule;
pub mod service;
pub mod status;
pub mod traffic;
pub mod upkeep;

mod agenda;
mod daemon;
mod delivery;
mod stop;

pub use agenda::{Done, Made, PolicyPlan, Tended, Work};
pub use daemon::{Daemon, Runner};
pub use stop::{Stop, signals};
