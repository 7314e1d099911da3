//! The rules of the house as data: which crate may use which, which crates are pure, how long a file may be. The tests
//! of this crate compare them with the workspace, so a rule is changed here or not at all.

/// A crate and the crates of ours it may name as a normal or build dependency. Edges that are not listed are forbidden;
/// cargo itself refuses circles.
pub struct Member {
    /// Package name without the `holdfast-` before it.
    pub name: &'static str,
    /// What it may use.
    pub may_use: &'static [&'static str],
}

const fn member(name: &'static str, may_use: &'static [&'static str]) -> Member {
    Member { name, may_use }
}

/// Everything but the command line.
const ALL_BUT_CLI: &[&str] = &[
    "kernel-core",
    "kernel-node",
    "kernel-client",
    "vault-format",
    "vault-codec",
    "vault-ops",
    "keys",
    "backends",
    "config",
    "agent-sources",
    "agent-daemon",
];

/// Everything.
const ALL: &[&str] = &[
    "kernel-core",
    "kernel-node",
    "kernel-client",
    "vault-format",
    "vault-codec",
    "vault-ops",
    "keys",
    "backends",
    "config",
    "agent-sources",
    "agent-daemon",
    "drills",
];

/// The table of allowed edges, in the order of the arrows.
pub const MEMBERS: &[Member] = &[
    member("kernel-core", &[]),
    member("vault-format", &[]),
    member("backends", &[]),
    member("config", &[]),
    member("kernel-node", &["kernel-core"]),
    member("kernel-client", &["kernel-core"]),
    member("keys", &["vault-format"]),
    member("vault-codec", &["vault-format", "keys"]),
    member("vault-ops", &["vault-format", "vault-codec", "keys", "backends"]),
    member("agent-sources", &["vault-ops", "vault-format", "kernel-client"]),
    // It starts `holdfast drill` as a child process, which alone may hold a read key.
    member("agent-daemon", &["agent-sources", "vault-ops", "vault-format", "keys", "backends", "config"]),
    member("drills", ALL_BUT_CLI),
    member("holdfast", ALL),
    // Test crates: part of no release.
    member("house", &[]),
    member("test-servers", &[]),
    member("fuzz-targets", ALL_BUT_CLI),
];

/// Crates that are only ever a dev-dependency.
pub const TEST_ONLY: &[&str] = &["house", "test-servers", "fuzz-targets"];

/// Crates that take clock, randomness and disk as parameters and do no IO: folder and package.
pub const PURE: &[(&str, &str)] =
    &[("kernel/core", "kernel-core"), ("vault/format", "vault-format"), ("vault/codec", "vault-codec")];

/// Dependencies that would bring a runtime, a store, the network or the system's randomness into a pure crate.
pub const IMPURE_DEPENDENCIES: &[&str] = &[
    "async-std",
    "axum",
    "chrono",
    "getrandom",
    "jiff",
    "object_store",
    "rand",
    "reqwest",
    "rusqlite",
    "rustix",
    "smol",
    "tempfile",
    "time",
    "tokio",
];

/// What the code of a pure crate may not name: the clock, the disk, the network, the environment, and maps whose order
/// differs from run to run.
pub const IMPURE_WORDS: &[&str] = &[
    "SystemTime",
    "Instant",
    "HashMap",
    "HashSet",
    "RandomState",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "thread_rng",
    "getrandom",
];

/// Most lines of a source file that are not its tests.
pub const SOURCE_LINES_MAX: usize = 600;

/// Files that may be longer, with the reason. Empty, and meant to stay so.
pub const LONG_FILES: &[(&str, &str)] = &[];
