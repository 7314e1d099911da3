//! Opening a location from its URL.
//!
//! What always holds: opening sends nothing over the network and makes nothing, except the
//! local folder when asked to; it fails only for what a person must change, or because a
//! local disk is not there. Names inside a [`Location`] are relative to its prefix.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::client::HttpConnector;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::signer::{HeaderMap, HeaderValue};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::create::{CreateAs, Creating, FirstWrite};
use crate::credentials::{self, Credentials};
use crate::disk::{Disk, RealDisk};
use crate::folder::Folder;
use crate::http::Connector;
use crate::names::Names;
use crate::s3::{Bucket, time_text};
use crate::uploads::Uploads;
use crate::versions::Versions;
use crate::{BackendError, Kind};

/// What is needed to open a location.
pub struct LocationSpec {
    /// `file:///absolute/folder`, `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`, or `memory:///` for tests.
    pub url: String,
    /// Where the API answers, for anything but AWS, Google and Azure themselves.
    pub endpoint: Option<String>,
    /// Region to sign for; `us-east-1` when not given.
    pub region: Option<String>,
    /// Whether `endpoint` may be `http://`: names and sizes then travel in the clear.
    pub allow_http: bool,
    /// Whether to make a local folder that is missing: when a location is added, never
    /// later, or an unmounted disk would become a folder on the root disk.
    pub create: bool,
    /// Locks every object that is written through this location until then, in milliseconds
    /// since 1970: S3 with object lock only.
    pub lock_until_ms: Option<i64>,
    /// Who we are there.
    pub credentials: Credentials,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl LocationSpec {
    /// The URL alone: no credentials, nothing created, default patience.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            region: None,
            allow_http: false,
            create: false,
            lock_until_ms: None,
            credentials: Credentials::None,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long a request may take. Retries are for 5xx, 429, broken connections, and timeouts
/// of requests that can be repeated; a create that timed out is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// One try, its body included.
    pub request: Duration,
    /// No new try begins after this.
    pub total: Duration,
    /// Tries after the first.
    pub retries: usize,
}

impl Default for Timeouts {
    /// The largest usual shard is 4 MiB (the optional class 12 MiB): 60 s allow for an
    /// uplink of 1.6 Mbit/s. A dead host is noticed after 5 s per try.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_mins(1),
            total: Duration::from_mins(2),
            retries: 4,
        }
    }
}

/// What is signed for where no region is given.
const REGION: &str = "us-east-1";

/// An open location. Clones are the same location.
#[derive(Clone, Debug)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    url: String,
    folder: Option<Folder>,
    creating: Arc<Creating>,
    versions: Option<Arc<dyn Versions>>,
    bucket: Option<Arc<Bucket>>,
}

/// Opens a location. See the module for what this does not do.
pub async fn open(spec: LocationSpec) -> Result<Location, BackendError> {
    let url = Url::parse(&spec.url).map_err(|error| refuse(&spec.url, error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Without the URL: it holds a secret.
        let why = "credentials do not belong in a URL; give them as `credentials`";
        return Err(BackendError::new(Kind::Config, "location", why));
    }
    match url.scheme() {
        other if spec.lock_until_ms.is_some() && other != "s3" => {
            Err(refuse(url.as_str(), "only S3 buckets have object lock; remove `lock`"))
        }
        "file" => open_folder(&url, spec.create),
        "memory" => Ok(Location::new(Arc::new(InMemory::new()), &url)),
        "s3" => open_s3(&url, &spec).await,
        "gs" => open_google(&url, &spec).await,
        "az" => open_azure(&url, &spec).await,
        other => {
            let why = format!("no such kind of location: {other}://; there are file:///, s3://, gs:// and az://");
            Err(refuse(url.as_str(), why))
        }
    }
}

/// Opens a folder on a disk that is not the machine's: for the seeded world and crash tests.
/// `create` makes it durably, as [`LocationSpec::create`] does.
pub fn folder_on(disk: Arc<dyn Disk>, path: &FilePath, create: bool) -> Result<Location, BackendError> {
    let url = Url::from_directory_path(path)
        .map_err(|()| refuse(&path.display().to_string(), "the path of a folder is absolute"))?;
    Ok(Location::of_folder(Folder::open(disk, path, create)?, &url))
}

impl Location {
    fn of_folder(folder: Folder, url: &Url) -> Self {
        let mut location = Self::new(Arc::new(folder.clone()), url);
        location.folder = Some(folder);
        location
    }

    fn new(store: Arc<dyn ObjectStore>, url: &Url) -> Self {
        let creating = Arc::new(Creating::default());
        Self {
            store: Arc::new(FirstWrite::new(store, Arc::clone(&creating))),
            url: url.as_str().trim_end_matches('/').to_owned(),
            folder: None,
            creating,
            versions: None,
            bucket: None,
        }
    }

    /// The store; names are relative to the location's prefix.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The URL it was opened with, which holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder, when it is a local one.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_ref().map(Folder::path)
    }

    /// The device number under a local folder: locations on one device fail together and
    /// may not claim different domains.
    pub fn device(&self) -> Option<u64> {
        self.folder.as_ref().map(Folder::device)
    }

    /// One listing of at most one page: whether the location answers now, exists, and
    /// lets these credentials in.
    pub async fn reachable(&self) -> Result<(), BackendError> {
        // A name that sorts after all of ours keeps the answer short.
        let after = Path::from("~");
        match self.store.list_with_offset(None, &after).next().await {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(BackendError::from_store(&self.url, &error)),
        }
    }

    /// Gives back the space of what killed writers left half written in a local folder
    /// before `before` (a day ago is safe); how many files. Other locations have none.
    pub async fn sweep_leftovers(&self, before: SystemTime) -> Result<u64, BackendError> {
        match &self.folder {
            None => Ok(0),
            Some(folder) => {
                let swept = folder.sweep_leftovers(before).await;
                swept.map_err(|error| BackendError::from_store(&self.url, &error))
            }
        }
    }

    /// Fixes how `PutMode::Create` is done here, after a probe.
    pub fn set_create(&self, how: CreateAs) {
        self.creating.set(how);
    }

    /// How `PutMode::Create` is done here.
    pub fn create_as(&self) -> CreateAs {
        self.creating.get()
    }

    /// The same location behind one more decorator.
    #[must_use]
    pub fn wrapped(&self, decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        Self { store: decorate(Arc::clone(&self.store)), ..self.clone() }
    }

    /// The same location with versions told by others: for stores made in memory.
    #[must_use]
    pub fn with_versions(&self, versions: Arc<dyn Versions>) -> Self {
        Self { versions: Some(versions), ..self.clone() }
    }

    /// Versions and locks, where the kind of store has them: S3. That it really keeps
    /// any is for the probe to find out.
    pub fn versions(&self) -> Option<&Arc<dyn Versions>> {
        self.versions.as_ref()
    }

    /// Names without sizes, where sizes cost: local folders.
    pub fn names(&self) -> Option<Arc<dyn Names>> {
        self.folder.clone().map(|folder| Arc::new(folder) as Arc<dyn Names>)
    }

    /// Requests that neither trait has words for, where the location is S3.
    pub(crate) fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_deref()
    }
}

fn refuse(url: &str, why: impl Into<String>) -> BackendError {
    BackendError::new(Kind::Config, format!("location {url}"), why)
}

fn open_folder(url: &Url, create: bool) -> Result<Location, BackendError> {
    let path =
        url.to_file_path().map_err(|()| refuse(url.as_str(), "a local folder is written file:///absolute/path"))?;
    let folder = Folder::open(Arc::new(RealDisk), &path, create)?;
    Ok(Location::of_folder(folder, url))
}

async fn open_s3(url: &Url, spec: &LocationSpec) -> Result<Location, BackendError> {
    let bucket = bucket_of(url)?;
    let keys = need_credentials(url, &spec.credentials).await?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(spec.region.as_deref().unwrap_or(REGION))
        .with_access_key_id(keys.need("access_key_id")?)
        .with_secret_access_key(keys.need("secret_access_key")?)
        .with_client_options(client_options(url, spec)?)
        .with_retry(retry(&spec.timeouts))
        // The bulk request hides a refused delete inside a success.
        .with_disable_bulk_delete(true)
        .with_http_connector(Connector);
    if let Some(token) = keys.get("session_token") {
        builder = builder.with_token(token);
    }
    builder = match &spec.endpoint {
        // Path style: the one form that every compatible server knows.
        Some(endpoint) => builder.with_endpoint(endpoint),
        // AWS's certificate covers one label, so a bucket with a dot needs path style.
        None => builder.with_virtual_hosted_style_request(!bucket.contains('.')),
    };
    let writes = client_options(url, spec)?.with_default_headers(lock_headers(spec.lock_until_ms));
    let writes = builder.clone().with_client_options(writes).with_checksum_algorithm(Checksum::SHA256).build();
    let writes = writes.map_err(|error| from_build(url, &error))?;
    let s3 = builder.build().map_err(|error| from_build(url, &error))?;
    let prefix = prefix_of(url)?;
    let client = Connector.connect(&client_options(url, spec)?).map_err(|error| from_build(url, &error))?;
    let region = spec.region.as_deref().unwrap_or(REGION);
    let direct = Arc::new(Bucket::new(s3.clone(), client, region, &prefix).await?);
    let uploads = Uploads::new(Arc::new(writes), Arc::new(s3), spec.lock_until_ms.is_some());
    let mut location = Location::new(Arc::new(PrefixStore::new(uploads, prefix)), url);
    location.versions = Some(Arc::clone(&direct) as Arc<dyn Versions>);
    location.bucket = Some(direct);
    Ok(location)
}

/// The lock that every write asks for.
fn lock_headers(until_ms: Option<i64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(until_ms) = until_ms else { return headers };
    headers.insert("x-amz-object-lock-mode", HeaderValue::from_static("COMPLIANCE"));
    // A time is written in digits and letters: it always is a header's value.
    if let Ok(until) = HeaderValue::from_str(&time_text(until_ms)) {
        headers.insert("x-amz-object-lock-retain-until-date", until);
    }
    headers
}

#[cfg(feature = "google")]
async fn open_google(url: &Url, spec: &LocationSpec) -> Result<Location, BackendError> {
    let keys = need_credentials(url, &spec.credentials).await?;
    let mut builder = object_store::gcp::GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket_of(url)?)
        .with_service_account_key(keys.text.expose_secret())
        .with_client_options(client_options(url, spec)?)
        .with_retry(retry(&spec.timeouts))
        .with_http_connector(Connector);
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let google = builder.build().map_err(|error| from_build(url, &error))?;
    let store = PrefixStore::new(google, prefix_of(url)?);
    Ok(Location::new(Arc::new(store), url))
}

#[cfg(feature = "azure")]
async fn open_azure(url: &Url, spec: &LocationSpec) -> Result<Location, BackendError> {
    let keys = need_credentials(url, &spec.credentials).await?;
    let mut builder = object_store::azure::MicrosoftAzureBuilder::new()
        .with_container_name(bucket_of(url)?)
        .with_account(keys.need("account")?)
        .with_access_key(keys.need("access_key")?)
        .with_client_options(client_options(url, spec)?)
        .with_retry(retry(&spec.timeouts))
        .with_http_connector(Connector);
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let azure = builder.build().map_err(|error| from_build(url, &error))?;
    let store = PrefixStore::new(azure, prefix_of(url)?);
    Ok(Location::new(Arc::new(store), url))
}

#[cfg(not(feature = "google"))]
#[allow(clippy::unused_async, reason = "the same signature with and without the feature")]
async fn open_google(url: &Url, _: &LocationSpec) -> Result<Location, BackendError> {
    Err(without_feature(url, "google"))
}

#[cfg(not(feature = "azure"))]
#[allow(clippy::unused_async, reason = "the same signature with and without the feature")]
async fn open_azure(url: &Url, _: &LocationSpec) -> Result<Location, BackendError> {
    Err(without_feature(url, "azure"))
}

#[cfg(not(all(feature = "google", feature = "azure")))]
fn without_feature(url: &Url, feature: &str) -> BackendError {
    let why =
        format!("this holdfast was built without {feature}; build it with: cargo build --release --features {feature}");
    refuse(url.as_str(), why)
}

fn bucket_of(url: &Url) -> Result<&str, BackendError> {
    url.host_str()
        .filter(|bucket| !bucket.is_empty())
        .ok_or_else(|| refuse(url.as_str(), format!("the bucket is missing; write {}://bucket/prefix", url.scheme())))
}

fn prefix_of(url: &Url) -> Result<Path, BackendError> {
    Path::from_url_path(url.path()).map_err(|error| refuse(url.as_str(), error.to_string()))
}

async fn need_credentials(url: &Url, credentials: &Credentials) -> Result<credentials::Read, BackendError> {
    let read = credentials.read().await?;
    read.ok_or_else(|| refuse(url.as_str(), "it needs credentials; give `credentials = { file = \"...\" }`"))
}

fn client_options(url: &Url, spec: &LocationSpec) -> Result<ClientOptions, BackendError> {
    let plain = spec.endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
    if plain && !spec.allow_http {
        let why =
            "its endpoint is http://, which sends names and sizes in the clear; use https:// or set allow_http = true";
        return Err(refuse(url.as_str(), why));
    }
    Ok(ClientOptions::new()
        .with_allow_http(spec.allow_http)
        .with_connect_timeout(spec.timeouts.connect)
        .with_timeout(spec.timeouts.request))
}

fn retry(timeouts: &Timeouts) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: timeouts.retries,
        retry_timeout: timeouts.total,
    }
}

fn from_build(url: &Url, error: &object_store::Error) -> BackendError {
    refuse(url.as_str(), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn keys() -> Credentials {
        Credentials::Keys { id: "id".to_owned(), secret: Secret::new("secret".to_owned()) }
    }

    async fn refusal(url: &str, change: impl FnOnce(&mut LocationSpec)) -> (Kind, String) {
        let mut spec = LocationSpec::new(url);
        change(&mut spec);
        let error = open(spec).await.unwrap_err();
        (error.kind(), error.to_string())
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_what_to_do() {
        for (url, says) in [
            ("ftp://host/x", "there are file:///, s3://, gs:// and az://"),
            ("not a url", "relative URL"),
            ("s3:///prefix", "the bucket is missing; write s3://bucket/prefix"),
            ("s3://bucket/prefix", "it needs credentials"),
            ("file://host/x", "file:///absolute/path"),
            ("s3://key:verysecret@bucket/x", "do not belong in a URL"),
        ] {
            let (kind, text) = refusal(url, |_| {}).await;
            assert_eq!(kind, Kind::Config, "{text}");
            assert!(text.contains(says), "{url}: {text}");
            assert!(!text.contains("verysecret"), "{text}");
        }
        let (kind, text) = refusal("s3://b/p", |spec| {
            spec.credentials = keys();
            spec.endpoint = Some("http://127.0.0.1:1".to_owned());
        })
        .await;
        assert_eq!(kind, Kind::Config);
        assert!(text.contains("allow_http"), "{text}");
    }

    #[cfg(not(feature = "google"))]
    #[tokio::test]
    async fn a_store_that_was_not_built_in_names_the_feature() {
        let (kind, text) = refusal("gs://b/p", |_| {}).await;
        assert_eq!(kind, Kind::Config);
        assert!(text.contains("--features google"), "{text}");
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_unavailable_within_the_given_patience() {
        let mut spec = LocationSpec::new("s3://bucket/p");
        spec.credentials = keys();
        // Nothing listens on port 1 of the loopback address.
        spec.endpoint = Some("http://127.0.0.1:1".to_owned());
        spec.allow_http = true;
        spec.timeouts = Timeouts {
            connect: Duration::from_millis(200),
            request: Duration::from_millis(500),
            total: Duration::from_secs(2),
            retries: 2,
        };
        let started = std::time::Instant::now();
        let error = open(spec).await.unwrap().reachable().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}
