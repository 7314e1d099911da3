//! `holdfast keys ..`: the plain flow. No secret is ever printed or taken from
//! the command line.

use std::path::PathBuf;

use agent_daemon::assembly;
use keys::files::SealWith;
use keys::first::{FirstKeys, KeyFolder};
use serde_json::json;

use crate::exit::{self, Failure, Outcome};
use crate::session::{Session, host_name};

/// The folder given, or the vault's.
pub(crate) fn folder(session: &Session, given: Option<PathBuf>) -> Result<KeyFolder, Failure> {
    match given {
        Some(folder) => Ok(KeyFolder(folder)),
        None => {
            let (config, name) = session.vault_name()?;
            Ok(assembly::key_folder(&config, &name)?)
        }
    }
}

pub(crate) fn init(session: &Session, keys_dir: Option<PathBuf>) -> Outcome {
    let folder = folder(session, keys_dir)?;
    let passphrase = session.passphrase_for_new("operator.key")?;
    let seal = passphrase.map(|passphrase| SealWith::new(passphrase, &mut session.world.rng()));
    FirstKeys::draw(&mut session.world.rng(), &host_name(), session.world.now_ms())
        .save_as(&folder, seal.as_ref())
        .map_err(|error| Failure::new(exit::KEY, error.to_string()))?;
    session.output.say(format!("New keys in {}:", folder.path().display()));
    session.output.say("  master.seed   opens and signs everything: deal it onto cards, then remove it");
    session.output.say("  read.key      restores: keep it off the hosts that are backed up");
    session.output.say(if seal.is_some() {
        "  operator.key  admits writers and locations; sealed with your passphrase"
    } else {
        "  operator.key  admits writers and locations; not sealed: holdfast keys seal FILE"
    });
    session.output.say("  janitor.key   forgets and frees space; it reads no backup: keep it where the janitor runs");
    session.output.say("  writer.key    what the agent needs; it cannot read what it wrote");
    session.output.say("  vault.pub     public: what audits and repairs need");
    session
        .output
        .say("Next:  holdfast vault init, then: holdfast keys split --cards 5 --need 3 --cards-dir DIR --remove-seed");
    session.output.summary(exit::OK, json!({ "folder": folder.path().display().to_string() }));
    Ok(exit::OK)
}
