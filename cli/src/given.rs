//! Locations named on the command line, without a configuration: URLs, or folders
//! of this host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backends::{BackendError, Credentials, Kind, LocationSpec};
use vault_format::LocationId;
use vault_ops::location::Location;
use vault_ops::vault::Candidate;

use crate::exit::{self, Failure};
use crate::session::Session;

/// How a location named by hand is opened. Credentials and endpoint are for URLs.
pub(crate) fn given_spec(
    text: &str,
    credentials: Option<&Path>,
    endpoint: Option<&str>,
) -> Result<LocationSpec, BackendError> {
    let mut spec = LocationSpec::new(&url_of(text)?);
    if !spec.url.starts_with("file://") {
        spec.endpoint = endpoint.map(str::to_owned);
        spec.allow_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        spec.credentials = credentials.map_or(Credentials::None, |path| Credentials::File(PathBuf::from(path)));
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

/// Folders or URLs that hold anything. All must answer: a plan over half of them
/// would look complete.
pub(crate) async fn open_folders(from: &[String]) -> Result<Vec<Arc<Location>>, Failure> {
    let mut folders = Vec::new();
    for (at, text) in from.iter().enumerate() {
        let opened = match given_spec(text, None, None) {
            Ok(spec) => backends::open(spec).await,
            Err(error) => Err(error),
        };
        let opened = opened.map_err(|error| Failure::new(exit::UNREACHABLE, error.to_string()))?;
        folders.push(Arc::new(Location {
            id: folder_id(at),
            name: text.clone(),
            domain: at as u16,
            blank: false,
            store: Arc::clone(opened.store()),
            versions: opened.versions().cloned(),
        }));
    }
    Ok(folders)
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
