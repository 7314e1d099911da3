//! From the checked configuration to an opened vault and its sources: where the
//! plan meets real clocks, disks and networks.
//!
//! What always holds: a location that cannot be opened becomes a named candidate
//! with its reason, never a gap; the agent's side loads the writer key and the
//! public file, never a read key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_sources::Rules;
use agent_sources::directory::DirectorySource;
use agent_sources::kernel::{Client, Endpoint, KernelSource};
use agent_sources::stream::StreamSource;
use async_trait::async_trait;
use backends::{BackendError, Credentials, Kind, LocationSpec, SecretSource};
use config::{Attached, Config, KernelAt, Scheme, SecretFrom, SourceKind};
use keys::files::{Loaded, VaultPublic, WriterKey};
use keys::first::KeyFolder;
use keys::{Passphrase, SecretBytes};
use vault_ops::backup::Compression;
use vault_ops::catalog::Catalog;
use vault_ops::source::Source;
use vault_ops::spool::{Limits, Spool};
use vault_ops::vault::{Candidate, Expected, StatePaths, Vault, location_id};
use vault_ops::world::{Clock, Compute, World};
use vault_ops::{OpsError, Result};

use crate::traffic;

/// The machine's clock.
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The real world: system clock, threads, and a generator seeded by the caller
/// from the operating system.
pub fn system_world(seed: [u8; 32]) -> World {
    World::new(Arc::new(SystemClock), Compute::Threads, seed)
}

/// A vault of the configuration, opened.
pub struct Assembled {
    /// Its name.
    pub name: String,
    /// The vault.
    pub vault: Vault,
    /// Its local catalog.
    pub catalog: Catalog,
    /// Where its state lies.
    pub state: StatePaths,
    /// Where its keys lie.
    pub keys: KeyFolder,
}

/// Picks the vault to work with: by name, or the only one.
pub fn vault_name(config: &Config, wanted: Option<&str>) -> Result<String> {
    let names: Vec<&str> = config.vaults.keys().map(config::Name::as_str).collect();
    match (wanted, names.as_slice()) {
        (Some(wanted), _) if names.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(OpsError::NoVault {
            what: format!("the configuration has no vault \"{wanted}\"; it has: {}", names.join(", ")),
        }),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err(OpsError::NoVault {
            what: "the configuration names no vault. Make one: holdfast vault init --local DIR".to_owned(),
        }),
        (None, _) => Err(OpsError::Refused { what: format!("say which vault: --vault {}", names.join("|")) }),
    }
}

/// Folders on one device fail together, whatever the configuration claims.
pub fn refuse_shared_devices(config: &Config, vault: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let names = config.vaults.get(vault).map(|vault| vault.locations.clone()).unwrap_or_default();
    let mut seen: Vec<(u64, config::Name, &str)> = Vec::new();
    for name in names {
        let Some(location) = config.locations.get(&name) else { continue };
        let Scheme::File(path) = &location.scheme else { continue };
        // A folder that is not there yet is made by `vault init` and looked at then.
        let Ok(meta) = std::fs::metadata(path) else { continue };
        let clash = seen.iter().find(|(device, _, domain)| *device == meta.dev() && *domain != location.domain);
        if let Some((_, other, _)) = clash {
            return Err(OpsError::Refused {
                what: format!(
                    "{other} and {name} lie on one device and claim different domains: they fail together. Give them the \
                     same domain, or move one to another disk"
                ),
            });
        }
        seen.push((meta.dev(), name, &location.domain));
    }
    Ok(())
}

/// A vault's key folder.
pub fn key_folder(config: &Config, vault: &str) -> Result<KeyFolder> {
    let vault = config.vaults.get(vault).ok_or_else(|| OpsError::NoVault { what: format!("no vault \"{vault}\"") })?;
    Ok(KeyFolder(vault.keys.clone()))
}

/// A vault's state folder.
pub fn state_paths(config: &Config, vault: &str) -> StatePaths {
    StatePaths { folder: config.state.join(vault) }
}

/// How a location of the configuration is opened.
pub fn location_spec(location: &config::Location, create: bool) -> LocationSpec {
    let mut spec = LocationSpec::new(location.url.as_str());
    spec.endpoint = location.endpoint.as_ref().map(ToString::to_string);
    spec.region.clone_from(&location.region);
    spec.allow_http = location.allow_http;
    spec.create = create;
    spec.lock_until_ms = lock_ms(location).map(|ms| SystemClock.now_ms().saturating_add(ms));
    spec.credentials = location.credentials.as_ref().map_or(Credentials::None, credentials);
    spec
}

/// The same with the credentials that may delete, where the location has some.
pub fn admin_spec(location: &config::Location) -> LocationSpec {
    let mut spec = location_spec(location, false);
    if let Some(admin) = &location.admin_credentials {
        spec.credentials = credentials(admin);
    }
    spec
}

fn credentials(from: &SecretFrom) -> Credentials {
    Credentials::From(secret_source(from))
}

/// Where a secret that the configuration names is read.
pub fn secret_source(from: &SecretFrom) -> SecretSource {
    match from {
        SecretFrom::File(path) => SecretSource::File(path.clone()),
        SecretFrom::Command(argv) => SecretSource::Command(argv.clone()),
        SecretFrom::Credential(name) => systemd_credential(name),
    }
}

/// A credential of the unit this process runs in.
pub fn systemd_credential(name: &str) -> SecretSource {
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    SecretSource::Systemd { dir, name: name.to_owned() }
}

/// How long the configuration wants each of a vault's locations to lock, in milliseconds.
pub fn wanted_locks(config: &Config, vault: &str) -> std::collections::BTreeMap<String, i64> {
    let locations = config.vaults.get(vault).into_iter().flat_map(|vault| config.locations_of(vault));
    locations.filter_map(|(name, location)| Some((name.as_str().to_owned(), lock_ms(location)?))).collect()
}

fn lock_ms(location: &config::Location) -> Option<i64> {
    location.lock.map(|lock| i64::try_from(lock.as_millis()).unwrap_or(i64::MAX))
}

/// Opens all locations of a vault; those that fail stay as named candidates.
pub async fn candidates(config: &Config, vault: &str) -> Vec<Candidate> {
    candidates_by(config, vault, |location| location_spec(location, false)).await
}

async fn candidates_by(
    config: &Config,
    vault: &str,
    spec: impl Fn(&config::Location) -> LocationSpec + Copy,
) -> Vec<Candidate> {
    let names = config.vaults.get(vault).map(|vault| vault.locations.clone()).unwrap_or_default();
    let opened = names.into_iter().map(|name| async move {
        let opened = match config.locations.get(&name) {
            Some(location) => backends::open(spec(location)).await,
            None => Err(BackendError::new(Kind::Config, format!("location {name}"), "it is not in the configuration")),
        };
        candidate(name.as_str().to_owned(), opened)
    });
    futures::future::join_all(opened).await
}

/// A location for a vault to be opened from: opened, or why not.
pub fn candidate(name: String, opened: std::result::Result<backends::Location, BackendError>) -> Candidate {
    let versions = opened.as_ref().ok().and_then(|location| location.versions().cloned());
    let names = opened.as_ref().ok().and_then(backends::Location::names);
    Candidate { name, store: opened.map(|location| Arc::clone(location.store())), versions, names }
}

/// A vault that was made here and that nobody shows any more is lost, or out of reach as
/// long as one of its locations does not answer: that is for the locations to say.
pub async fn what_is_gone(config: &Config, vault: &str, error: OpsError) -> OpsError {
    let OpsError::NoVault { what } = error else { return error };
    let mut silent = Vec::new();
    for (name, location) in config.vaults.get(vault).into_iter().flat_map(|vault| config.locations_of(vault)) {
        let answers = match backends::open(location_spec(location, false)).await {
            Ok(opened) => opened.reachable().await,
            Err(error) => Err(error),
        };
        silent.extend(answers.is_err().then(|| name.to_string()));
    }
    if silent.is_empty() {
        let what = format!(
            "{what}. Every location of {vault} answered, and none shows its records in any version: what stood there \
             was deleted or overwritten, and is lost there. If its shards exist elsewhere: holdfast vault restore \
             --from DIR.. with the read key or the cards"
        );
        return OpsError::Lost { what };
    }
    let what = format!("{what}. Nothing is known to be lost: bring back {} and run it again", silent.join(", "));
    OpsError::Unreachable { what }
}

/// Opens a vault of the configuration with public keys only.
pub async fn open_vault(config: &Config, name: &str, world: World) -> Result<Assembled> {
    open_vault_of(config, name, world, candidates(config, name).await).await
}

/// The same with the credentials that may delete: for those who remove what is swept,
/// and for nothing the agent runs.
pub async fn open_vault_as_admin(config: &Config, name: &str, world: World) -> Result<Assembled> {
    open_vault_of(config, name, world, candidates_by(config, name, admin_spec).await).await
}

async fn open_vault_of(config: &Config, name: &str, world: World, candidates: Vec<Candidate>) -> Result<Assembled> {
    let keys = key_folder(config, name)?;
    let public: VaultPublic = load_key(&keys.public())?;
    let expected = Expected { vault: Some(public.vault), root: public.root };
    let state = state_paths(config, name);
    let catalog = open_catalog(&state)?;
    let spool = open_spool(config, name).await?;
    let world = match config.memory {
        Some(bytes) => world.with_memory(usize::try_from(bytes).unwrap_or(usize::MAX)),
        None => world,
    };
    let candidates = traffic::behind_limits(config, &world, candidates);
    let mut vault = match Vault::open_beside(world, &expected, candidates, Some(spool)).await {
        Ok(vault) => vault,
        Err(error) => return Err(what_is_gone(config, name, error).await),
    };
    let due = |at: &config::Name| {
        let due = config.locations.get(at).filter(|location| location.attached == Attached::Sometimes)?.due;
        Some((location_id(vault.id, at.as_str()), i64::try_from(due.as_millis()).unwrap_or(i64::MAX)))
    };
    vault.due_ms = config.vaults.get(name).into_iter().flat_map(|plan| &plan.locations).filter_map(due).collect();
    Ok(Assembled { name: name.to_owned(), vault, catalog, state, keys })
}

/// No write into the spool takes so long: what is older was left by a writer that died.
const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// Opens a vault's spool, making its folder: a local folder, so that what it
/// acknowledged is on the disk. What killed writers left half written goes.
pub async fn open_spool(config: &Config, name: &str) -> Result<Spool> {
    let path = state_paths(config, name).spool();
    let what = || format!("the spool {}", path.display());
    let url = url::Url::from_directory_path(&path)
        .map_err(|()| OpsError::Refused { what: format!("{}: the state folder must be an absolute path", what()) })?;
    let mut spec = LocationSpec::new(url.as_str().trim_end_matches('/'));
    spec.create = true;
    let folder = backends::open(spec).await?;
    if let Some(before) = SystemTime::now().checked_sub(LEFTOVER_AGE) {
        // A user who only looks may not: the next writer does it.
        let _ = folder.sweep_leftovers(before).await;
    }
    let store = Arc::clone(folder.store());
    let bytes_max = config.vaults.get(name).map_or(Limits::default().bytes_max, |vault| vault.spool_max);
    let free = move || rustix::fs::statvfs(&path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    Ok(Spool::new(store, Limits { bytes_max, ..Limits::default() }, Arc::new(free)))
}

/// Opens a vault's catalog, making its folder.
pub fn open_catalog(state: &StatePaths) -> Result<Catalog> {
    std::fs::create_dir_all(&state.folder)
        .map_err(|error| OpsError::Io { what: format!("making {}", state.folder.display()), error })?;
    Catalog::open(&state.catalog())
}

/// Loads a key file.
pub fn load_key<T: keys::files::KeyFile>(path: &std::path::Path) -> Result<T> {
    keys::files::load(path).map_err(|error| OpsError::Key { what: error.to_string() })
}

/// Loads the writer key of a vault that is not sealed.
pub fn writer_key(keys: &KeyFolder) -> Result<Arc<WriterKey>> {
    Ok(Arc::new(load_key(&keys.writer_key())?))
}

/// Loads the writer key of a vault where nobody can be asked: one that is sealed is
/// opened with the passphrase the configuration names. After a rotation it follows in
/// memory, and the file stays as it is.
pub async fn writer_key_of(config: &Config, name: &str, vault: &Vault) -> Result<Arc<WriterKey>> {
    let mut key = writer_key_file(config, name).await?;
    vault.follow(&mut key)?;
    Ok(Arc::new(key))
}

/// The same as it stands in the file.
pub async fn writer_key_file(config: &Config, vault: &str) -> Result<WriterKey> {
    let path = key_folder(config, vault)?.writer_key();
    let fault = |error: keys::KeysError| OpsError::Key { what: error.to_string() };
    let sealed = match keys::files::load_any::<WriterKey>(&path).map_err(fault)? {
        Loaded::Open(key) => return Ok(key),
        Loaded::Sealed(sealed) => sealed,
    };
    let Some(from) = config.vaults.get(vault).and_then(|vault| vault.passphrase.as_ref()) else {
        let what = format!(
            "key file {}: it is sealed, and nobody can be asked here. Say where its passphrase is: \
             passphrase = {{ credential = \"NAME\" }} in [vault.{vault}], or unseal it: holdfast keys unseal FILE",
            path.display()
        );
        return Err(OpsError::Key { what });
    };
    sealed.open(&passphrase(&secret_source(from)).await?).map_err(fault)
}

/// Reads a passphrase from where it is.
pub async fn passphrase(source: &SecretSource) -> Result<Passphrase> {
    let text = source.read().await.map_err(|error| OpsError::Key { what: error.to_string() })?;
    let bytes = SecretBytes::new(text.expose_secret().as_bytes().to_vec());
    Passphrase::new(bytes).map_err(|why| OpsError::Key { what: format!("{}: {why}", source.name()) })
}

/// How hard a source is compressed: as was said, or else as the configuration says.
pub fn compression(config: &Config, source: &str, said: Option<config::Compression>) -> Compression {
    match said.or_else(|| config.sources.get(source)?.compression) {
        None => Compression::default(),
        Some(config::Compression::Off) => Compression::Never,
        Some(config::Compression::Level(level)) => Compression::Level(level),
    }
}

/// Makes a source of the configuration. With `force` it reads every file, whatever
/// the file cache says.
pub async fn source(config: &Config, name: &str, force: bool) -> Result<Box<dyn Source>> {
    let source = config.sources.get(name).ok_or_else(|| OpsError::Refused {
        what: format!(
            "the configuration has no source \"{name}\"; it has: {}",
            config.sources.keys().map(config::Name::as_str).collect::<Vec<_>>().join(", ")
        ),
    })?;
    match &source.kind {
        SourceKind::Directory { paths, exclude, rules } => {
            let source = DirectorySource::new(name, paths, own_folders(config))?.with_patterns(exclude)?;
            let rules = Rules {
                one_file_system: rules.one_file_system,
                if_present: rules.if_present.iter().map(Into::into).collect(),
                caches: rules.caches,
                larger_than: rules.larger_than,
            };
            Ok(Box::new(source.with_rules(rules)?.with_force(force)))
        }
        SourceKind::Command { argv } => Ok(Box::new(StreamSource::of_command(name, name, argv.clone())?)),
        SourceKind::Kernel { at, token } => Ok(Box::new(kernel_source(name, at, token.as_ref()).await?)),
        SourceKind::Postgres { .. } => Err(OpsError::Refused {
            what: format!(
                "source {name}: this version backs up kernel, directory and command sources; postgres sources come later"
            ),
        }),
    }
}

/// Folders of holdfast itself, which no directory source reads.
pub fn own_folders(config: &Config) -> Vec<PathBuf> {
    let mut own = vec![config.state.clone()];
    own.extend(config.vaults.values().map(|vault| vault.keys.clone()));
    own.extend(config.locations.values().filter_map(|location| match &location.scheme {
        Scheme::File(path) => Some(path.clone()),
        Scheme::S3 | Scheme::Google | Scheme::Azure => None,
    }));
    own
}

async fn kernel_source(name: &str, at: &KernelAt, token: Option<&SecretFrom>) -> Result<KernelSource> {
    let endpoint = match at {
        KernelAt::Url(url) => Endpoint::Tcp(url.to_string()),
        KernelAt::Socket(path) => Endpoint::Unix(path.clone()),
    };
    let failed = |why: String| OpsError::Source { name: name.to_owned(), why };
    let token = match token {
        Some(from) => secret_source(from).read().await.map_err(|error| failed(error.to_string()))?,
        None => return Err(failed("the node needs its token: token = { file = \"..\" }".to_owned())),
    };
    let client = Client::new(&endpoint, token.expose_secret().trim_end()).map_err(|error| failed(error.to_string()))?;
    Ok(KernelSource::new(name, client, tokio::runtime::Handle::current()))
}
