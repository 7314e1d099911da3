//! `holdfast vault init --adopt`: nothing is left but locations, credentials and cards;
//! afterwards this host backs up into the vault it found.
//!
//! What always holds: the configuration is written last and never over another; key
//! files are never overwritten, so an interrupted run is taken up by the next; the seed
//! and the read key stay in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_daemon::assembly;
use backends::disk::{RealDisk, place_file};
use config::{AdoptedVault, Attached, Config, Encoding, Location, MissingLocation, Name};
use keys::files::{OperatorKey, ReadKey, SealWith, VaultPublic, WriterKey};
use keys::first::KeyFolder;
use keys::host::HostKeys;
use keys::seed::{Generation, Seed};
use keys::signature::VerifyingKey;
use serde_json::json;
use vault_format::layout::LayoutNames;
use vault_format::{LocationId, VaultId, WriterId};
use vault_ops::adopt::{self, Admitted, Filled};
use vault_ops::create::writer_certificate;
use vault_ops::vault::{Candidate, Expected, Vault};

use crate::arguments::{InitArguments, ReadKeyFrom};
use crate::cards;
use crate::exit::{self, Failure, Outcome};
use crate::given::given_locations;
use crate::session::{Session, complete, host_name, kept_read_key, lease};

/// The keys that were brought.
pub(crate) struct Brought {
    pub(crate) read: Arc<ReadKey>,
    /// With cards only: what admits a host.
    pub(crate) seed: Option<(Seed, Generation)>,
}

pub(crate) async fn run(session: &Session, arguments: &InitArguments) -> Outcome {
    let config_path = std::path::absolute(session.config_path()).map_err(|error| usage(error.to_string()))?;
    refuse_occupied(&config_path)?;
    let places = given_locations(&arguments.from, &arguments.reach)?;
    let mut brought = bring(session, &arguments.key, &places).await?;
    let mut vault = open(session, &brought, &places).await?;
    refuse_former_seed(&brought, &vault.root)?;
    complete(&mut brought.read, &vault)?;
    let names = adopt::layout_names(&vault, &brought.read)?;
    let name = choose_name(arguments, &names, &vaults_at(&places).await, vault.id)?;
    let dir = home(arguments, &config_path)?;
    let folder = KeyFolder(dir.join("keys"));
    let (found, missing, names) = match_locations(&vault, &places, names);
    let text = Config::render_adopted(&AdoptedVault {
        name: &name,
        state: &dir.join("state"),
        keys: folder.path(),
        encoding: Encoding { data: vault.coding.data_shards(), total: vault.coding.total_shards() },
        survive_domains: vault.survive(),
        locations: &found,
        missing: &missing,
    })
    .map_err(|error| usage(error.to_string()))?;
    let config = Config::parse(&text).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
    let state = assembly::state_paths(&config, name.as_str());
    let _lease = lease(&state, "vault init --adopt")?;
    let host = host_keys(session, &folder, &vault, &brought).await?;
    let admitted = match (&host, &brought.seed) {
        (Host::New(keys), Some((seed, generation))) => {
            adopt::admit(&mut vault, &seed.root_key(*generation), &keys.operator, &keys.writer, &names).await?
        }
        (Host::New(_) | Host::Known(_) | Host::Reader, _) => Admitted::default(),
    };
    let mut catalog = assembly::open_catalog(&state)?;
    // Opened again: the vault as everybody sees it from now on.
    let vault = open(session, &brought, &places).await?;
    let scope = host.writer().map(|writer| writer.scope);
    let filled = session.showing("init", adopt::fill(&vault, &brought.read, scope, &mut catalog)).await?;
    drop(catalog);
    write_new(&config_path, &text)?;
    Ok(report(session, &config_path, &name, &vault, &host, &admitted, &filled))
}

/// Where keys and state go.
pub(crate) fn home(arguments: &InitArguments, config: &Path) -> Result<PathBuf, Failure> {
    match &arguments.dir {
        Some(dir) => std::path::absolute(dir).map_err(|error| usage(error.to_string())),
        None => Ok(config.parent().unwrap_or(Path::new("/")).to_owned()),
    }
}

pub(crate) fn usage(text: impl Into<String>) -> Failure {
    Failure::new(exit::USAGE, text)
}

pub(crate) fn refuse_occupied(config: &Path) -> Result<(), Failure> {
    if !config.exists() {
        return Ok(());
    }
    Err(usage(format!(
        "a configuration stands at {} already; nothing was changed. Name a new file with --config, and the locations with \
         --locations {0}",
        config.display()
    )))
}

pub(crate) async fn bring(
    session: &Session,
    from: &ReadKeyFrom,
    places: &BTreeMap<Name, Location>,
) -> Result<Brought, Failure> {
    if from.cards.is_empty() {
        if from.read_key.is_none() {
            return Err(Failure::new(
                exit::KEY,
                "a vault is adopted with its key: bring the cards with --card FILE.. (or a read key with --read-key FILE; \
                 that is enough to restore, not to back up)",
            ));
        }
        return Ok(Brought { read: kept_read_key(session, from, None)?, seed: None });
    }
    let known = cards::claimed(session, &candidates(places).await).await;
    let brought = cards::brought(session, &from.cards, known)?;
    Ok(Brought { read: Arc::new(brought.read_key()), seed: Some((brought.seed, brought.generation)) })
}

/// A former root admits nobody any more.
pub(crate) fn refuse_former_seed(brought: &Brought, root: &VerifyingKey) -> Result<(), Failure> {
    if brought.seed.is_none() || brought.read.root == *root {
        return Ok(());
    }
    Err(Failure::new(
        exit::KEY,
        format!(
            "these cards are of a former key of this vault ({}); the one in force is {}. They restore what was sealed \
             before the rotation; to adopt the vault bring the newest cards",
            brought.read.root.check(),
            root.check()
        ),
    ))
}

pub(crate) async fn candidates(places: &BTreeMap<Name, Location>) -> Vec<Candidate> {
    let opened = places.iter().map(|(name, location)| async move {
        let opened = backends::open(assembly::location_spec(location, false)).await;
        assembly::candidate(name.as_str().to_owned(), opened)
    });
    futures::future::join_all(opened).await
}

pub(crate) async fn open(
    session: &Session,
    brought: &Brought,
    places: &BTreeMap<Name, Location>,
) -> Result<Vault, Failure> {
    let expected = Expected { vault: Some(brought.read.vault), root: brought.read.root.clone() };
    Ok(Vault::open(session.world.clone(), &expected, candidates(places).await).await?)
}

async fn vaults_at(places: &BTreeMap<Name, Location>) -> BTreeMap<VaultId, usize> {
    adopt::vaults_at(&candidates(places).await).await.into_iter().map(|(id, at)| (id, at.len())).collect()
}

/// The name in the new configuration. Where several vaults lie together, it must be
/// said, and be the one the cards' vault was given.
fn choose_name(
    arguments: &InitArguments,
    names: &LayoutNames,
    vaults: &BTreeMap<VaultId, usize>,
    id: VaultId,
) -> Result<Name, Failure> {
    if vaults.len() > 1 {
        let list: Vec<String> = vaults.iter().map(|(id, at)| format!("{} at {at} of them", id.short())).collect();
        if arguments.name.as_deref() != Some(names.vault.as_str()) {
            return Err(usage(format!(
                "these locations hold several vaults ({}). The key at hand is that of {}, which was named \"{}\". Nothing \
                 was written; to adopt that one say: --name {2}",
                list.join(", "),
                id.short(),
                names.vault
            )));
        }
    }
    Name::parse(arguments.name.as_deref().unwrap_or(&names.vault)).map_err(usage)
}

/// The locations that answered, under the names the layout gives them and where they
/// are now; those it names that were not given; and the names to seal into a new layout.
fn match_locations(
    vault: &Vault,
    places: &BTreeMap<Name, Location>,
    mut names: LayoutNames,
) -> (Vec<(Name, Location)>, Vec<MissingLocation>, LayoutNames) {
    let here: BTreeMap<LocationId, &str> = vault.locations.iter().map(|at| (at.id, at.name.as_str())).collect();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for named in &mut names.locations {
        let place = here.get(&named.location).and_then(|given| places.get(*given));
        let parsed = Name::parse(&named.name);
        match (place, parsed) {
            (Some(place), Ok(name)) => {
                let mut location = place.clone();
                location.domain.clone_from(&named.domain);
                if location.region.is_none() && !matches!(location.scheme, config::Scheme::File(_)) {
                    location.region = Some(named.region.clone()).filter(|region| !region.is_empty());
                }
                let sometimes = vault.layout.locations.iter().any(|placed| {
                    placed.location == named.location && placed.attached == vault_format::layout::Attachment::Sometimes
                });
                location.attached = if sometimes { Attached::Sometimes } else { Attached::Always };
                named.url = location.url.to_string();
                named.endpoint = location.endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
                named.region = location.region.clone().unwrap_or_default();
                found.push((name, location));
            }
            (Some(_), Err(_)) | (None, _) => missing.push(MissingLocation {
                name: named.name.clone(),
                url: named.url.clone(),
                endpoint: named.endpoint.clone(),
                domain: named.domain.clone(),
            }),
        }
    }
    (found, missing, names)
}

/// What this host is in the vault.
enum Host {
    /// It gets an identity of its own.
    New(Box<HostKeys>),
    /// Its writer key was kept, and the layout lists it.
    Known(Box<WriterKey>),
    /// Without cards and without a writer key it restores, audits and repairs.
    Reader,
}

impl Host {
    fn writer(&self) -> Option<&WriterKey> {
        match self {
            Self::New(keys) => Some(&keys.writer),
            Self::Known(writer) => Some(writer),
            Self::Reader => None,
        }
    }
}

/// Key files that are there count; new ones are written before the vault hears of them.
async fn host_keys(session: &Session, folder: &KeyFolder, vault: &Vault, brought: &Brought) -> Result<Host, Failure> {
    public_file(folder, &brought.read)?;
    if folder.writer_key().exists() {
        let writer: WriterKey = session.key(&folder.writer_key())?;
        if writer.vault != vault.id {
            return Err(other_keys(folder));
        }
        let certificate = writer_certificate(&writer);
        if vault.layout.writers.iter().any(|listed| listed.certificate == certificate) {
            return Ok(Host::Known(Box::new(writer)));
        }
        if !folder.operator_key().exists() || brought.seed.is_none() {
            return Err(Failure::new(
                exit::KEY,
                format!(
                    "{} is not listed in the vault's layout: an earlier adoption did not end. Bring the cards and run it \
                     again, or move the key files away",
                    folder.writer_key().display()
                ),
            ));
        }
        let operator: OperatorKey = session.key(&folder.operator_key())?;
        return Ok(Host::New(Box::new(HostKeys { operator, writer })));
    }
    let Some((seed, generation)) = &brought.seed else { return Ok(Host::Reader) };
    let admission = adopt::admission(vault, *generation, &host_name()).await?;
    let drawn = HostKeys::draw(&mut session.world.rng(), seed, admission).map_err(key)?;
    save_new(session, folder, &drawn)?;
    Ok(Host::New(Box::new(drawn)))
}

fn key(error: keys::KeysError) -> Failure {
    Failure::new(exit::KEY, error.to_string())
}

/// The vault's public file, which must be this vault's if it is there.
pub(crate) fn public_file(folder: &KeyFolder, read: &ReadKey) -> Result<(), Failure> {
    keys::files::create_folder(folder.path()).map_err(key)?;
    let public = VaultPublic { vault: read.vault, root: read.root.clone() };
    match keys::files::load::<VaultPublic>(&folder.public()) {
        Ok(there) if there.vault == public.vault && there.root == public.root => Ok(()),
        Ok(_) => Err(other_keys(folder)),
        Err(_) if !folder.public().exists() => keys::files::create(&folder.public(), &public).map_err(key),
        Err(error) => Err(key(error)),
    }
}

/// New key files of a host; none is overwritten.
pub(crate) fn save_new(session: &Session, folder: &KeyFolder, drawn: &HostKeys) -> Result<(), Failure> {
    if folder.operator_key().exists() {
        return Err(other_keys(folder));
    }
    let passphrase = session.passphrase_for_new("operator.key")?;
    let seal = passphrase.map(|passphrase| SealWith::new(passphrase, &mut session.world.rng()));
    keys::files::create_as(&folder.operator_key(), &drawn.operator, seal.as_ref()).map_err(key)?;
    keys::files::create(&folder.writer_key(), &drawn.writer).map_err(key)
}

pub(crate) fn other_keys(folder: &KeyFolder) -> Failure {
    Failure::new(
        exit::KEY,
        format!(
            "{} holds other key files already; nothing was overwritten. Choose another folder with --dir",
            folder.path().display()
        ),
    )
}

/// A new file, with the folders above it, on the disk before this returns, or no file.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let written = std::path::absolute(path).and_then(|path| place_file(&RealDisk, &path, text.as_bytes()));
    written.map_err(|error| Failure::new(exit::ERROR, format!("writing {}: {error}", path.display())))
}

fn report(
    session: &Session,
    config_path: &Path,
    name: &Name,
    vault: &Vault,
    host: &Host,
    admitted: &Admitted,
    filled: &Filled,
) -> u8 {
    let output = session.output;
    output.say(format!(
        "Adopted vault \"{name}\" ({} of {} shards) on {} locations: {} points of {} writers.",
        vault.coding.data_shards(),
        vault.coding.total_shards(),
        vault.locations.len(),
        filled.points,
        filled.by_writer.len()
    ));
    output.say(format!("Configuration: {}", config_path.display()));
    let own: Option<WriterId> = host.writer().map(|writer| writer.writer);
    for (writer, points) in &filled.by_writer {
        let whose = if Some(*writer) == own { "this host" } else { "stays listed" };
        output.say(format!("writer {}: {points} points ({whose})", writer.short()));
    }
    match host {
        Host::New(keys) => {
            output.say(format!(
                "This host writes as {}; it leans on {} packs that are stored already.",
                keys.writer.writer.short(),
                filled.packs
            ));
            output.warn(
                "the keys of the host before still count. If it was stolen and not only lost, do not let it reach the \
                 locations: change their credentials",
            );
        }
        Host::Known(writer) => output.say(format!("This host goes on as writer {}.", writer.writer.short())),
        Host::Reader => output.warn(
            "a read key admits no writer: this host restores, audits and repairs, and does not back up. Bring the cards \
             for that: move the new configuration away and run this again with --card FILE..",
        ),
    }
    // What belongs to another vault is owed nothing.
    let foreign = |name: &String| vault.absent.iter().any(|gone| gone.name == *name && !gone.unreachable);
    for (location, why) in admitted.owed.iter().filter(|(name, _)| !foreign(name)) {
        output
            .warn(format!("records are owed to {location}: {why}. They are healed by: holdfast vault repair --apply"));
    }
    filled.remarks.iter().for_each(|remark| output.warn(remark));
    for gone in &vault.absent {
        output.warn(format!("{} does not take part: {}", gone.name, gone.why));
    }
    output.say("Next:  holdfast vault status, then: holdfast vault run PATH");
    let clean = admitted.owed.is_empty() && filled.remarks.is_empty() && vault.absent.is_empty();
    let exit = if clean && own.is_some() { exit::OK } else { exit::WARNINGS };
    output.summary(
        exit,
        json!({ "vault": name.as_str(), "vault_id": vault.id.to_string(), "points": filled.points,
                "writers": filled.by_writer.len(), "packs": filled.packs, "writer": own.map(|id| id.to_string()) }),
    );
    exit
}
