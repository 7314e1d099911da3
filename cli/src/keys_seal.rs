//! `holdfast keys seal | unseal FILE`: a passphrase for a key file, another one, or none.

use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use backends::SecretSource;
use clap::Args;
use keys::files::{self, SealWith};
use serde_json::json;
use vault_ops::lease::Lease;

use crate::exit::{self, Failure, Outcome};
use crate::passphrase::key_failure;
use crate::session::{Session, lease};

/// `holdfast keys seal ..`
#[derive(Args, Debug)]
pub(crate) struct SealArguments {
    /// The key file.
    pub(crate) file: PathBuf,
    /// File with the new passphrase [default: that of the --passphrase options, for a file that is not sealed yet].
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_fd")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Open file descriptor to read the new passphrase from.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) new_passphrase_fd: Option<u32>,
}

/// The lease of the vault whose key folder the file lies in, if the configuration has one:
/// a rotation or an issue writes key files too.
fn lease_of(session: &Session, path: &Path, what: &str) -> Result<Option<Lease>, Failure> {
    let Ok(config) = session.config() else { return Ok(None) };
    let folder = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    let named = |keys: &Path| keys.canonicalize().ok().is_some_and(|keys| Some(keys) == folder);
    let Some((name, _)) = config.vaults.iter().find(|(_, vault)| named(&vault.keys)) else { return Ok(None) };
    lease(&assembly::state_paths(&config, name.as_str()), what).map(Some)
}

/// Seals a file, or changes the passphrase of one that is.
pub(crate) fn seal(session: &Session, arguments: SealArguments) -> Outcome {
    let path = arguments.file;
    let _lease = lease_of(session, &path, "keys seal")?;
    let sealed = files::is_sealed(&path).map_err(key_failure)?;
    let new = arguments.new_passphrase_file.map(SecretSource::File);
    let new = new.or(arguments.new_passphrase_fd.map(SecretSource::Descriptor));
    let old = if sealed { Some(session.passphrase_of(&path)?) } else { None };
    let new = session.passphrase_to_be(&path, new, !sealed)?;
    let seal = SealWith::new(&new, &mut session.world.rng());
    files::reseal(&path, old.as_ref(), Some(&seal)).map_err(key_failure)?;
    let what = if sealed { "has another passphrase" } else { "is sealed" };
    session.output.say(format!("{} {what}. Whoever loses the passphrase loses the file.", path.display()));
    if !sealed {
        session.output.warn(
            "what stood there unsealed may still be found in the disk's free blocks, in snapshots and in backups of it",
        );
    }
    done(session, &path, true);
    Ok(exit::OK)
}

/// Takes the passphrase away.
pub(crate) fn unseal(session: &Session, path: &Path) -> Outcome {
    let _lease = lease_of(session, path, "keys unseal")?;
    if !files::is_sealed(path).map_err(key_failure)? {
        return Err(Failure::new(exit::USAGE, format!("{} is not sealed; nothing was changed", path.display())));
    }
    let old = session.passphrase_of(path)?;
    files::reseal(path, Some(&old), None).map_err(key_failure)?;
    session.output.warn(format!("{} is not sealed any more: whoever can read it can use it", path.display()));
    done(session, path, false);
    Ok(exit::OK)
}

fn done(session: &Session, path: &Path, sealed: bool) {
    session.output.summary(exit::OK, json!({ "file": path.display().to_string(), "sealed": sealed }));
}
