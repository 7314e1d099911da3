//! Exit codes: what a script can rely on. See the table in the README.

use vault_ops::OpsError;

/// All went well.
pub(crate) const OK: u8 = 0;
/// An error none of the other codes names.
pub(crate) const ERROR: u8 = 1;
/// Wrong usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// Done, with warnings: unreadable files, debts to heal, at risk.
pub(crate) const WARNINGS: u8 = 3;
/// Damage found; it can be repaired.
pub(crate) const DAMAGE: u8 = 4;
/// Data lost; it cannot be recovered from what is there.
pub(crate) const LOST: u8 = 5;
/// No vault.
pub(crate) const NO_VAULT: u8 = 10;
/// Owned by another process.
pub(crate) const OWNED: u8 = 11;
/// A key is missing or wrong.
pub(crate) const KEY: u8 = 12;
/// Not enough cards.
pub(crate) const CARDS: u8 = 13;
/// Not durable, or not enough locations answer now.
pub(crate) const UNREACHABLE: u8 = 14;
/// The agent or node does not answer.
pub(crate) const NOT_RUNNING: u8 = 15;

/// A failure with the code it ends the program with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(exit: u8, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        let exit = match &error {
            OpsError::NoVault { .. } | OpsError::NoPoint { .. } => NO_VAULT,
            OpsError::Backend(error) if error.kind().retryable() => UNREACHABLE,
            OpsError::Owned { .. } => OWNED,
            OpsError::Key { .. } => KEY,
            OpsError::Unreachable { .. } | OpsError::Full { .. } => UNREACHABLE,
            OpsError::Lost { .. } => LOST,
            OpsError::Refused { .. } => USAGE,
            OpsError::Corrupt { .. }
            | OpsError::Source { .. }
            | OpsError::Catalog(_)
            | OpsError::Backend(_)
            | OpsError::Io { .. } => ERROR,
        };
        Self { exit, text: error.to_string() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: ERROR, text: format!("{error:#}") }
    }
}

/// What a command returns: its exit code, or why it failed.
pub(crate) type Outcome = Result<u8, Failure>;
