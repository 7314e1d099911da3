//! The file as it is written: every table and key there is, nothing checked but types.
//!
//! What always holds: every table refuses unknown keys, and whatever can be wrong later
//! carries its place in the text.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A text with its place.
pub(crate) type Word = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) version: Option<Spanned<i64>>,
    pub(crate) state: Option<Word>,
    pub(crate) memory: Option<Word>,
    pub(crate) upload_limit: Option<Word>,
    pub(crate) download_limit: Option<Word>,
    #[serde(default)]
    pub(crate) vault: BTreeMap<Word, Vault>,
    #[serde(default)]
    pub(crate) location: BTreeMap<Word, Location>,
    #[serde(default)]
    pub(crate) source: BTreeMap<Word, Source>,
    #[serde(default)]
    pub(crate) policy: BTreeMap<Word, Policy>,
    #[serde(default)]
    pub(crate) drill: BTreeMap<Word, Drill>,
    pub(crate) web: Option<Web>,
    pub(crate) notify: Option<Notify>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vault {
    pub(crate) encoding: Option<Spanned<Encoding>>,
    pub(crate) survive_domains: Option<Spanned<i64>>,
    pub(crate) keys: Option<Word>,
    pub(crate) passphrase: Option<Spanned<toml::Value>>,
    pub(crate) pack_leaves_max: Option<Spanned<i64>>,
    pub(crate) trash: Option<Word>,
    pub(crate) audit_budget: Option<Word>,
    pub(crate) audit_interval: Option<Word>,
    pub(crate) scrub_interval: Option<Word>,
    pub(crate) scrub_bandwidth: Option<Word>,
    pub(crate) repair: Option<bool>,
    pub(crate) repair_interval: Option<Word>,
    pub(crate) spool_max: Option<Word>,
    pub(crate) locations: Option<Vec<Word>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encoding {
    pub(crate) data: i64,
    pub(crate) total: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Location {
    pub(crate) url: Option<Word>,
    pub(crate) endpoint: Option<Word>,
    pub(crate) region: Option<Word>,
    pub(crate) domain: Option<Word>,
    /// Any value, because the one that is not a table may be a secret and is not quoted.
    pub(crate) credentials: Option<Spanned<toml::Value>>,
    pub(crate) admin_credentials: Option<Spanned<toml::Value>>,
    pub(crate) attached: Option<Word>,
    pub(crate) due: Option<Word>,
    pub(crate) lock: Option<Word>,
    pub(crate) upload_limit: Option<Word>,
    pub(crate) download_limit: Option<Word>,
    pub(crate) vault: Option<Word>,
    #[serde(default)]
    pub(crate) allow_http: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) kind: Option<Word>,
    pub(crate) paths: Option<Spanned<Vec<Word>>>,
    pub(crate) exclude: Option<Spanned<Vec<String>>>,
    pub(crate) exclude_if_present: Option<Spanned<Vec<Word>>>,
    pub(crate) exclude_caches: Option<Spanned<bool>>,
    pub(crate) exclude_larger_than: Option<Word>,
    pub(crate) one_file_system: Option<Spanned<bool>>,
    pub(crate) url: Option<Word>,
    pub(crate) socket: Option<Word>,
    pub(crate) token: Option<Spanned<toml::Value>>,
    pub(crate) password: Option<Spanned<toml::Value>>,
    pub(crate) command: Option<Spanned<Vec<String>>>,
    pub(crate) compression: Option<Word>,
    pub(crate) rpo: Option<Word>,
    pub(crate) rto: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) vault: Option<Word>,
    pub(crate) source: Option<Word>,
    pub(crate) schedule: Option<Word>,
    pub(crate) keep: Option<Spanned<Keep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keep {
    #[serde(default)]
    pub(crate) last: u32,
    #[serde(default)]
    pub(crate) hourly: u32,
    #[serde(default)]
    pub(crate) daily: u32,
    #[serde(default)]
    pub(crate) weekly: u32,
    #[serde(default)]
    pub(crate) monthly: u32,
    #[serde(default)]
    pub(crate) yearly: u32,
    pub(crate) within: Option<Word>,
    pub(crate) within_hourly: Option<Word>,
    pub(crate) within_daily: Option<Word>,
    pub(crate) within_weekly: Option<Word>,
    pub(crate) within_monthly: Option<Word>,
    pub(crate) within_yearly: Option<Word>,
    #[serde(default)]
    pub(crate) tags: Vec<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drill {
    pub(crate) scenario: Option<Word>,
    #[serde(default)]
    pub(crate) drop: Vec<Word>,
    pub(crate) vault: Option<Word>,
    pub(crate) schedule: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Web {
    pub(crate) listen: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notify {
    pub(crate) command: Option<Spanned<Vec<String>>>,
    pub(crate) ping: Option<Spanned<toml::Value>>,
}
