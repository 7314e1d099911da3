//! What every command starts from: the configuration, the world, the keys.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use agent_daemon::assembly::{self, Assembled};
use backends::Rates;
use config::Config;
use keys::Passphrase;
use keys::files::ReadKey;
use keys::first::KeyFolder;
use vault_ops::claims::cards_of;
use vault_ops::lease::Lease;
use vault_ops::vault::{StatePaths, Vault};
use vault_ops::world::World;

use crate::arguments::{Global, ReadKeyFrom};
use crate::cards;
use crate::death;
use crate::exit::{self, Failure};
use crate::output::Output;
use crate::progress::Shown;
use crate::traffic::LimitArguments;

/// One run of the program.
pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) output: Output,
    pub(crate) world: World,
    /// Of sealed key files, once it was asked for.
    pub(crate) passphrase: OnceLock<Passphrase>,
    /// Limits on bandwidth that were typed.
    limits: OnceLock<Rates>,
}

impl Session {
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Failure::new(exit::ERROR, format!("the operating system gives no randomness: {error}")))?;
        let output = Output::new(global.json, global.quiet);
        let world = death::at_a_named_step(assembly::system_world(seed))?;
        Ok(Self { global, output, world, passphrase: OnceLock::new(), limits: OnceLock::new() })
    }

    /// Shows how far what is under way has come, as long as what is returned lives.
    pub(crate) fn shows(&self, label: &str) -> Shown {
        Shown::begin(self.output, self.global.progress, &self.world.progress, label)
    }

    /// Does something and shows how far it has come.
    pub(crate) async fn showing<T>(&self, label: &str, work: impl Future<Output = T>) -> T {
        let _shown = self.shows(label);
        work.await
    }

    /// Where the configuration is, or would be.
    pub(crate) fn config_path(&self) -> PathBuf {
        if let Some(path) = &self.global.config {
            return path.clone();
        }
        if let Some(path) = std::env::var_os("HOLDFAST_CONFIG") {
            return PathBuf::from(path);
        }
        let base = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
        base.unwrap_or_else(|| PathBuf::from("/etc")).join("holdfast/config.toml")
    }

    /// Reads and checks the configuration.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let path = self.config_path();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Failure::new(exit::USAGE, format!("reading {}: {error}", path.display()));
            }
            let path = path.display();
            Failure::new(
                exit::NO_VAULT,
                format!(
                    "there is no configuration at {path}. Make a vault with: holdfast vault init --local DIR, or name a \
                     file with --config"
                ),
            )
        })?;
        let mut config =
            Config::parse(&text).map_err(|error| Failure::new(exit::USAGE, format!("{}: {error}", path.display())))?;
        if let Some(typed) = self.limits.get() {
            config.upload_limit = typed.upload.or(config.upload_limit);
            config.download_limit = typed.download.or(config.download_limit);
        }
        Ok(config)
    }

    /// Limits typed count instead of the configuration's, and where there is none.
    pub(crate) fn limit_traffic(&self, typed: LimitArguments) {
        self.world.traffic.limit(typed.rates());
        // Typed once in a run of the program.
        let _ = self.limits.set(typed.rates());
    }

    /// The configuration and the name of the vault meant.
    pub(crate) fn vault_name(&self) -> Result<(Config, String), Failure> {
        let config = self.config()?;
        let name = assembly::vault_name(&config, self.global.vault.as_deref())?;
        Ok((config, name))
    }
}

/// Takes the lease on a vault's local state.
pub(crate) fn lease(state: &StatePaths, what: &str) -> Result<Lease, Failure> {
    std::fs::create_dir_all(&state.folder)
        .map_err(|error| Failure::new(exit::ERROR, format!("making {}: {error}", state.folder.display())))?;
    Ok(Lease::take(&state.lease(), &format!("holdfast {what}, process {}", std::process::id()))?)
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The read key of an open vault: from cards, which its records judge, from a file, or
/// from the vault's own folder.
pub(crate) async fn read_key(
    session: &Session,
    from: &ReadKeyFrom,
    opened: &Assembled,
) -> Result<Arc<ReadKey>, Failure> {
    if from.cards.is_empty() {
        return kept_read_key(session, from, Some(&opened.keys));
    }
    let brought = cards::brought(session, &from.cards, cards_of(&opened.vault).await)?;
    Ok(Arc::new(brought.read_key()))
}

/// A read key from a file, or from the vault's own folder.
pub(crate) fn kept_read_key(
    session: &Session,
    from: &ReadKeyFrom,
    folder: Option<&KeyFolder>,
) -> Result<Arc<ReadKey>, Failure> {
    let path = match (&from.read_key, folder) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) if folder.read_key().exists() => folder.read_key(),
        (None, _) => {
            return Err(Failure::new(
                exit::KEY,
                "there is no read key on this host, as it should be once the seed is on cards. Bring it with \
                 --read-key FILE, or the cards with --card FILE.. (or first: holdfast keys recover)",
            ));
        }
    };
    session.key(&path).map(Arc::new)
}

/// Gives a read key what the vault's key history holds: after a rotation the newest
/// opens everything before it.
pub(crate) fn complete(keys: &mut Arc<ReadKey>, vault: &Vault) -> Result<(), Failure> {
    match Arc::get_mut(keys) {
        Some(keys) => Ok(vault.complete(keys)?),
        None => Err(Failure::new(exit::ERROR, "the read key is in use already; report this")),
    }
}
