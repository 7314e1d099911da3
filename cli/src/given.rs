//! Locations named on the command line, without a configuration: URLs, or folders
//! of this host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_daemon::assembly;
use backends::{BackendError, Credentials, Kind, LocationSpec, SecretSource};
use config::{Config, Name};
use vault_format::LocationId;
use vault_ops::location::Location;
use vault_ops::vault::Candidate;

use crate::arguments::Reach;
use crate::exit::{self, Failure};
use crate::session::Session;

/// How a location named by hand is opened. Credentials and endpoint are for URLs.
fn given_spec(text: &str, credentials: Option<&Path>, endpoint: Option<&str>) -> Result<LocationSpec, BackendError> {
    let mut spec = LocationSpec::new(&url_of(text)?);
    if !spec.url.starts_with("file://") {
        spec.endpoint = endpoint.map(str::to_owned);
        spec.allow_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        spec.credentials =
            credentials.map_or(Credentials::None, |path| Credentials::From(SecretSource::File(path.to_owned())));
    }
    Ok(spec)
}

/// A URL as it is, a folder as a file URL.
fn url_of(text: &str) -> Result<String, BackendError> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let config = |why: &str| BackendError::new(Kind::Config, format!("folder {text}"), why);
    // Absolute, and not canonical: a folder that is missing has its own answer.
    let path = std::path::absolute(text).map_err(|error| config(&error.to_string()))?;
    url::Url::from_directory_path(&path)
        .map(|url| url.as_str().trim_end_matches('/').to_owned())
        .map_err(|()| config("it cannot be written as a URL"))
}

/// Locations for `--adopt`: those of `--from`, named by their number, and those of the
/// file, by the names there.
pub(crate) fn given_locations(from: &[String], reach: &Reach) -> Result<BTreeMap<Name, config::Location>, Failure> {
    let mut text = String::new();
    for (at, given) in from.iter().enumerate() {
        let url = url_of(given).map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
        let quoted = |text: &str| serde_json::Value::String(text.to_owned()).to_string();
        let _ = writeln!(text, "[location.from-{}]\nurl = {}\ndomain = \"unknown\"", at + 1, quoted(&url));
        if url.starts_with("file://") {
            continue;
        }
        if let Some(endpoint) = &reach.endpoint {
            let _ = writeln!(text, "endpoint = {}\nallow_http = {}", quoted(endpoint), endpoint.starts_with("http://"));
        }
        if let Some(path) = &reach.credentials {
            let path = std::path::absolute(path).map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
            let _ = writeln!(text, "credentials = {{ file = {} }}", quoted(&path.display().to_string()));
        }
    }
    let usage = |error: config::ConfigError| Failure::new(exit::USAGE, format!("the locations in --from: {error}"));
    let mut all = Config::parse_locations(&text).map_err(usage)?;
    all.extend(locations_of_file(reach)?);
    if all.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            "say where the vault lies: --from URL|DIR.., or --locations FILE with [location.NAME] tables",
        ));
    }
    Ok(all)
}

/// The `[location.NAME]` tables of the file given, each with its own credentials.
pub(crate) fn locations_of_file(reach: &Reach) -> Result<BTreeMap<Name, config::Location>, Failure> {
    let Some(path) = &reach.locations else { return Ok(BTreeMap::new()) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(exit::USAGE, format!("reading {}: {error}", path.display())))?;
    Config::parse_locations(&text).map_err(|error| Failure::new(exit::USAGE, format!("{}: {error}", path.display())))
}

/// Locations given by hand, opened. One that cannot be is a named candidate, as with the
/// configured ones: the others may be enough.
pub(crate) async fn given_candidates(from: &[String], reach: &Reach) -> Result<Vec<Candidate>, Failure> {
    let of_file = locations_of_file(reach)?;
    let named = of_file.iter().map(|(name, location)| (name.to_string(), Ok(assembly::location_spec(location, false))));
    let given = from
        .iter()
        .map(|text| (text.clone(), given_spec(text, reach.credentials.as_deref(), reach.endpoint.as_deref())));
    let opened = given.chain(named).map(|(name, spec)| async move {
        let opened = match spec {
            Ok(spec) => backends::open(spec).await,
            Err(error) => Err(error),
        };
        assembly::candidate(name, opened)
    });
    Ok(futures::future::join_all(opened).await)
}

/// A folder of this host as a place to write shards to.
pub(crate) async fn one_folder(folder: &Path) -> Result<Location, Failure> {
    let failed = |error: BackendError| Failure::new(exit::ERROR, error.to_string());
    let spec = LocationSpec::new(url_of(&folder.display().to_string()).map_err(failed)?);
    let opened = backends::open(spec).await;
    let Candidate { name, store, versions, names } = assembly::candidate(folder.display().to_string(), opened);
    Ok(Location { id: folder_id(0), name, domain: 0, blank: false, store: store.map_err(failed)?, versions, names })
}

/// Folders or URLs that hold anything. All must answer: a plan over half of them
/// would look complete.
pub(crate) async fn open_folders(from: &[String], reach: &Reach) -> Result<Vec<Arc<Location>>, Failure> {
    let mut folders = Vec::new();
    for (at, candidate) in given_candidates(from, reach).await?.into_iter().enumerate() {
        let Candidate { name, store, versions, names } = candidate;
        let store = store.map_err(|error| Failure::new(exit::UNREACHABLE, error.to_string()))?;
        folders.push(Arc::new(Location {
            id: folder_id(at),
            name,
            domain: at as u16,
            blank: false,
            store,
            versions,
            names,
        }));
    }
    Ok(folders)
}

/// Files below local folders whose names no listing shows: not UTF-8, with
/// control characters, or like the
/// half-written files of a location (`name#1`). Whoever brings a pile must hear of them.
pub(crate) fn unlistable(from: &[String]) -> Vec<PathBuf> {
    let mut waiting: Vec<PathBuf> = from.iter().filter(|text| !text.contains("://")).map(PathBuf::from).collect();
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        // What cannot be read is said when the folder is listed.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, number)| number);
            let reserved = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let unspeakable = name.to_str().is_none_or(|name| name.chars().any(|letter| letter.is_ascii_control()));
            if unspeakable || (reserved && !is_folder) {
                found.push(entry.path());
            } else if is_folder {
                waiting.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Folders that opened, and those that did not with their reasons.
pub(crate) type Folders = (Vec<Arc<Location>>, Vec<(String, String)>);

/// Candidates as folders of anything; those that do not answer are said, and named
/// beside the others if any answers.
pub(crate) fn as_folders(session: &Session, candidates: Vec<Candidate>) -> Result<Folders, Failure> {
    let (mut folders, mut silent) = (Vec::new(), Vec::new());
    let mut last = None;
    for (at, candidate) in candidates.into_iter().enumerate() {
        match candidate.store {
            Ok(store) => {
                let (id, name, domain) = (folder_id(at), candidate.name, at as u16);
                folders.push(Arc::new(Location {
                    id,
                    name,
                    domain,
                    blank: false,
                    store,
                    versions: candidate.versions,
                    names: candidate.names,
                }));
            }
            Err(error) => {
                session.output.warn(error.to_string());
                silent.push((candidate.name, error.to_string()));
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if folders.is_empty() => Err(Failure::new(exit::UNREACHABLE, error.to_string())),
        Some(_) | None => Ok((folders, silent)),
    }
}

/// Folders of anything have no id of their own: their place in the list is one.
fn folder_id(at: usize) -> LocationId {
    let mut id = LocationId::default();
    id.0[..8].copy_from_slice(&(at as u64 + 1).to_le_bytes());
    id
}
