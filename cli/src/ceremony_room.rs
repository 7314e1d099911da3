//! Where a ceremony is held: what this host has of the vault, and the seed that is dealt.
//!
//! What always holds: a seed that is not the vault's is never dealt.

use agent_daemon::assembly;
use config::Config;
use keys::ceremony::gathering::KnownCards;
use keys::files::{MasterSeed, VaultPublic};
use keys::first::KeyFolder;
use keys::signature::KeyCheck;
use keys::{Generation, Seed};
use vault_format::vault::CardSet;
use vault_format::{Hash, VaultId};
use vault_ops::claims::cards_of;
use vault_ops::lease::Lease;
use vault_ops::vault::{StatePaths, Vault};

use crate::cards::{self, Brought};
use crate::ceremony::Deal;
use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure};
use crate::session::{Session, lease};

/// Where it is held: what this host has of the vault.
pub(crate) struct Room {
    pub(crate) folder: KeyFolder,
    pub(crate) config: Option<(Config, String)>,
    pub(crate) vault: Option<Vault>,
    /// Newest generation first.
    pub(crate) known: Vec<KnownCards>,
    pub(crate) terminal: Option<Terminal>,
    /// No other command changes the vault record from this host meanwhile.
    _lease: Option<Lease>,
}

impl Room {
    pub(crate) async fn enter(session: &Session, deal: &Deal) -> Result<Self, Failure> {
        let terminal = Terminal::at_hand(session.output).filter(|_| deal.cards_dir.is_none());
        if let Some(folder) = &deal.keys_dir {
            let folder = KeyFolder(folder.clone());
            return Ok(Self { folder, config: None, vault: None, known: Vec::new(), terminal, _lease: None });
        }
        let (config, name) = session.vault_name()?;
        let folder = assembly::key_folder(&config, &name)?;
        let lease = lease(&assembly::state_paths(&config, &name), &format!("keys {}", deal.kind))?;
        let vault = match assembly::open_vault(&config, &name, session.world.clone()).await {
            Ok(opened) => Some(opened.vault),
            Err(vault_ops::OpsError::NoVault { .. }) => None,
            // Without its public key a vault cannot be opened, and there is no seed to deal either.
            Err(error) => return Err(error.into()),
        };
        let known = match &vault {
            Some(vault) => cards_of(vault).await,
            None => Vec::new(),
        };
        Ok(Self { folder, config: Some((config, name)), vault, known, terminal, _lease: Some(lease) })
    }

    pub(crate) fn state(&self) -> Option<StatePaths> {
        self.config.as_ref().map(|(config, name)| assembly::state_paths(config, name))
    }

    /// Fingerprint of the root that the seed must have.
    fn root(&self) -> Option<Hash> {
        let public = || keys::files::load::<VaultPublic>(&self.folder.public()).ok();
        let in_force = self.vault.as_ref().map(|vault| vault.root.fingerprint());
        in_force.or_else(|| public().map(|public| public.root.fingerprint()))
    }

    /// Sets of the seed in force.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &CardSet> {
        self.known.iter().filter(|known| Some(known.root) == self.root()).flat_map(|known| &known.sets)
    }
}

/// The seed, and where it came from.
pub(crate) struct Origin {
    pub(crate) seed: Seed,
    pub(crate) generation: Generation,
    pub(crate) vault: VaultId,
    pub(crate) from: String,
}

/// The seed from its file, or from a quorum of cards where it is gone.
pub(crate) fn origin(session: &Session, deal: &Deal, room: &Room) -> Result<Origin, Failure> {
    let file = room.folder.master_seed();
    if deal.from.is_empty() && (file.exists() || room.terminal.is_none()) {
        let master: MasterSeed = session.key(&file).map_err(|error| {
            Failure::new(
                exit::KEY,
                format!(
                    "{}. A seed that was dealt and removed is only on its cards: bring enough of them with --card FILE..",
                    error.text
                ),
            )
        })?;
        let MasterSeed { vault, generation, seed } = master;
        return checked(room, Origin { seed, generation, vault, from: file.display().to_string() });
    }
    if deal.from.is_empty() {
        session.output.say("The seed is not on this host: bring enough cards of a set that was dealt before.");
    }
    let Brought { seed, generation, vault } = cards::brought(session, &deal.from, room.known.clone())?;
    checked(room, Origin { seed, generation, vault, from: "cards".to_owned() })
}

/// A seed of another vault or an older generation must not be dealt here.
fn checked(room: &Room, origin: Origin) -> Result<Origin, Failure> {
    let found = origin.seed.root_key(origin.generation).fingerprint();
    match room.root() {
        Some(wanted) if wanted != found => Err(Failure::new(
            exit::KEY,
            format!(
                "this seed has the key check {}, the vault's is {}: it is another vault's, or older than the newest rotation. \
                 Nothing was changed",
                KeyCheck::of(&found),
                KeyCheck::of(&wanted)
            ),
        )),
        Some(_) | None => Ok(origin),
    }
}
