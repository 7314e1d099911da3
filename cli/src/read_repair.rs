//! Read-repair: what a restore met on its way is mended after it.
//!
//! What always holds: only a vault of the configuration is written to, never
//! locations given by hand; the restore is done and told whatever comes of this.

use std::collections::BTreeSet;

use agent_daemon::assembly;
use vault_format::PackId;
use vault_ops::fetch::BadShard;
use vault_ops::repair::{self, RepairReport};
use vault_ops::vault::{StatePaths, Vault};

use crate::exit::Failure;
use crate::session::{Session, lease};

/// The configured vault a point was restored from.
pub(crate) struct Home {
    pub(crate) vault: Vault,
    pub(crate) state: StatePaths,
}

impl Home {
    /// Mends the packs that were read. Returns how many shards were written.
    pub(crate) async fn mend(&self, session: &Session, read: &BTreeSet<PackId>, bad: &[BadShard]) -> usize {
        let output = session.output;
        match self.try_mend(read, bad).await {
            Ok(done) => {
                let written = done.shards.len();
                if written > 0 {
                    output.say(format!("mended on the way: {written} shards written and read back"));
                }
                done.failed.iter().chain(&done.lost).for_each(|why| output.warn(format!("not mended: {why}")));
                written
            }
            Err(failure) => {
                if bad.iter().any(|bad| !bad.offline) {
                    let why = failure.text;
                    output.warn(format!(
                        "what was met on the way was not mended: {why}. Later: holdfast vault repair --plan"
                    ));
                }
                0
            }
        }
    }

    async fn try_mend(&self, read: &BTreeSet<PackId>, bad: &[BadShard]) -> Result<RepairReport, Failure> {
        let _lease = lease(&self.state, "vault restore")?;
        let catalog = assembly::open_catalog(&self.state)?;
        Ok(repair::read_repair(&self.vault, &catalog, read, bad).await?)
    }
}
