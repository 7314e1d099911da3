//! What the agent backs up: sources for `vault_ops`, and the writers that bring
//! a restored point back to where programs can use it.
//!
//! What always holds: a source sees neither keys nor locations, only a
//! [`vault_ops::source::Sink`]; a writer creates things only below the directory
//! it was given, and its report names whatever is not exactly as it was.
//! Errors are those of `vault_ops`, so that a caller maps them once.

mod accounts;
mod checked;
mod descent;
mod exclude;
mod file_bytes;
mod file_writer;
mod holes;
mod kernel_files;
mod links;
mod listing;
mod metadata;
mod owner_map;
mod owners;
mod regular;
mod removal;
mod rules;
mod stored_bytes;
mod target;
mod top;

pub mod difference;
pub mod directory;
pub mod kernel;
pub mod path_text;
pub mod point_tree;
pub mod search;
pub mod selection;
pub mod stream;
pub mod tree;

pub use rules::Rules;
