//! The configuration: TOML as a person wrote it, checked into a plan that cannot be wrong
//! in itself.
//!
//! What always holds:
//! - **Strict.** An unknown key is an error with the nearest name, never ignored: a typo in
//!   `survive_domains` must not quietly mean the default.
//! - **Checked as a whole.** A [`Config`] names only vaults, locations and sources that
//!   exist, and every vault's encoding fits its domains. What needs the outside world
//!   (does the folder exist, do two folders share a device) is checked by who opens it.
//! - **No secrets.** Not as keys, not in URLs; messages never quote a value that may be one.
//! - **Data only.** Text in, plan out: no file, environment or network is touched here.
//!
//! [`raw`] mirrors the file; every other module is a part of the plan.

mod adopted;
mod check;
mod compression;
mod error;
mod local;
mod location;
mod name;
mod policy;
mod raw;
mod size;
mod source;
mod span;
mod time;
mod upkeep;
mod vault;

pub use adopted::{AdoptedVault, MissingLocation};
pub use check::{Config, Notify, Web};
pub use compression::Compression;
pub use error::ConfigError;
pub use local::LocalVault;
pub use location::{Attached, Location, Scheme, SecretFrom};
pub use name::Name;
pub use policy::{Drill, Keep, Policy, Scenario, tag_set};
pub use size::{rate, size};
pub use source::{DirectoryRules, KernelAt, Source, SourceKind};
pub use span::Span;
pub use time::Schedule;
pub use upkeep::{AuditBudget, Upkeep};
pub use vault::{Encoding, Vault};
