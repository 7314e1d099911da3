//! Signed requests to S3 that the storage trait has no words for: versions, locks,
//! and uploads with a checksum of our choice.
//!
//! What always holds: a request is signed by the library's own [`AwsAuthorizer`] with the
//! credentials the store was opened with, so there is one signer and one place for
//! secrets. Answers keep their meaning as in [`crate::http`]; only a busy or broken
//! server is asked again. Of an answer's XML only the few elements named here are read,
//! and no more than a page of it.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse};
use object_store::path::Path;
use object_store::signer::{HeaderName, HeaderValue, Method, Signer};
use sha2::Digest;

use crate::versions::{Lock, LockMode, LockRule, Locking, Version, VersionId, VersionList, Versions};
use crate::{BackendError, Kind};

/// Tries after the first, for a server that is busy or does not answer.
const RETRIES: u32 = 3;
/// S3 gives at most so many versions in one answer.
const PAGE: usize = 1_000;

/// A bucket, asked directly.
#[derive(Debug)]
pub(crate) struct Bucket {
    s3: AmazonS3,
    client: HttpClient,
    region: String,
    /// The bucket's URL, without a slash at its end.
    url: String,
    /// Folder of the location in the bucket, empty or without a slash at its end.
    prefix: String,
}

/// A request: verb, name in the location (none for the bucket itself), query, headers, body.
struct Ask<'a> {
    method: Method,
    name: Option<&'a str>,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl<'a> Ask<'a> {
    fn of(method: Method, name: Option<&'a str>) -> Self {
        Self { method, name, query: Vec::new(), headers: Vec::new(), body: Bytes::new() }
    }

    fn version(mut self, version: Option<&VersionId>) -> Self {
        self.query.extend(version.map(|version| ("versionId", version.0.clone())));
        self
    }
}

impl Bucket {
    pub(crate) async fn new(
        s3: AmazonS3,
        client: HttpClient,
        region: &str,
        prefix: &Path,
    ) -> Result<Self, BackendError> {
        // The library knows how the bucket is addressed; one of its URLs tells us.
        const VALID: Duration = Duration::from_mins(1);
        let any = s3.signed_url(Method::GET, &Path::from("x"), VALID).await;
        let any = any.map_err(|error| BackendError::from_store("the bucket's URL", &error))?;
        let url = any.as_str().split('?').next().unwrap_or_default();
        let url = url.strip_suffix("/x").unwrap_or(url).to_owned();
        Ok(Self { s3, client, region: region.to_owned(), url, prefix: prefix.to_string() })
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// The name in the location of a key in the bucket.
    fn name_of(&self, key: &str) -> Option<String> {
        if self.prefix.is_empty() {
            return Some(key.to_owned());
        }
        key.strip_prefix(&self.prefix)?.strip_prefix('/').map(str::to_owned)
    }

    /// Asks, again if the server is busy; what is final comes back at once.
    async fn ask(&self, ask: &Ask<'_>) -> Result<HttpResponse, BackendError> {
        let mut wait = Duration::from_millis(100);
        let mut tries = 0;
        loop {
            match self.ask_once(ask).await {
                Err(error) if error.kind() == Kind::Unavailable && tries < RETRIES => {
                    tries += 1;
                    tokio::time::sleep(wait).await;
                    wait *= 4;
                }
                result => return result,
            }
        }
    }

    async fn ask_once(&self, ask: &Ask<'_>) -> Result<HttpResponse, BackendError> {
        let what = format!("{} {}", ask.method, ask.name.unwrap_or("the bucket"));
        let failed = |error: object_store::Error| BackendError::from_store(what.clone(), &error);
        let request = self.signed(ask).await.map_err(failed)?;
        let answer = self.client.execute(request).await;
        let answer =
            answer.map_err(|error| failed(object_store::Error::Generic { store: "S3", source: Box::new(error) }))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let kind = match answer.status().as_u16() {
            404 => Kind::NotFound,
            409 | 412 => Kind::Exists,
            _ => Kind::Unavailable,
        };
        Err(BackendError::new(kind, what, format!("the server answered {}", answer.status())))
    }

    async fn signed(&self, ask: &Ask<'_>) -> object_store::Result<HttpRequest> {
        let mut url = self.url.clone();
        if let Some(name) = ask.name {
            url.push('/');
            url.push_str(&encoded(&self.key(name), true));
        } else if !url[url.find("://").map_or(0, |at| at + 3)..].contains('/') {
            url.push('/');
        }
        let query: Vec<String> =
            ask.query.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect();
        if !query.is_empty() {
            url = format!("{url}?{}", query.join("&"));
        }
        let odd = |what: &str| object_store::Error::Generic { store: "S3", source: what.to_owned().into() };
        let mut request = HttpRequest::new(HttpRequestBody::from(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = url.parse().map_err(|_| odd("the request's URL is not a URL"))?;
        for (name, value) in &ask.headers {
            let value = HeaderValue::from_str(value).map_err(|_| odd("a header cannot be written"))?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let credential = self.s3.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        Ok(request)
    }

    async fn text(&self, ask: &Ask<'_>) -> Result<String, BackendError> {
        let answer = self.ask(ask).await?;
        let bytes = answer.into_body().bytes().await;
        let bytes = bytes.map_err(|error| broken(&self.url, &error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// One page of versions; where the next begins, if there is one.
    async fn page(
        &self,
        prefix: &str,
        from: Option<&(String, String)>,
        into: &mut Vec<Version>,
    ) -> Result<Option<(String, String)>, BackendError> {
        let mut ask = Ask::of(Method::GET, None);
        ask.query = vec![("versions", String::new()), ("prefix", prefix.to_owned()), ("max-keys", PAGE.to_string())];
        if let Some((key, version)) = from {
            ask.query.push(("key-marker", key.clone()));
            ask.query.push(("version-id-marker", version.clone()));
        }
        let text = self.text(&ask).await?;
        into.extend(versions_in(&text, |key| self.name_of(key)));
        if element(&text, "IsTruncated") != Some("true") {
            return Ok(None);
        }
        let next = |name| element(&text, name).map(unescaped).unwrap_or_default();
        Ok(Some((next("NextKeyMarker"), next("NextVersionIdMarker"))))
    }
}

/// The versions an answer lists, of names that are ours.
pub(crate) fn versions_in(text: &str, name_of: impl Fn(&str) -> Option<String>) -> Vec<Version> {
    let mut into = Vec::new();
    for (marker, body) in version_elements(text) {
        let field = |name: &str| element(body, name).map(unescaped);
        let Some(name) = field("Key").and_then(|key| name_of(&key)) else { continue };
        into.push(Version {
            name,
            id: VersionId(field("VersionId").unwrap_or_default()),
            newest: field("IsLatest").is_some_and(|word| word == "true"),
            marker,
            bytes: field("Size").and_then(|size| size.parse().ok()).unwrap_or(0),
            modified_ms: field("LastModified").and_then(|time| time_ms(&time)).unwrap_or(0),
        });
    }
    into
}

#[async_trait]
impl Versions for Bucket {
    async fn list(&self, prefix: &str, most: usize) -> Result<VersionList, BackendError> {
        let prefix = self.key(prefix);
        let mut list = VersionList { versions: Vec::new(), complete: true };
        let mut from: Option<(String, String)> = None;
        loop {
            let next = self.page(&prefix, from.as_ref(), &mut list.versions).await?;
            // A server that gives the same page for ever must not keep us for ever.
            if next.is_none() || next == from {
                break;
            }
            if list.versions.len() >= most {
                list.complete = false;
                break;
            }
            from = next;
        }
        // Some servers list all marks of deletion after all versions.
        list.versions
            .sort_by(|a, b| a.name.cmp(&b.name).then(b.newest.cmp(&a.newest)).then(b.modified_ms.cmp(&a.modified_ms)));
        if list.versions.len() > most {
            list.versions.truncate(most);
            list.complete = false;
        }
        Ok(list)
    }

    async fn get(&self, name: &str, version: &VersionId, range: Option<Range<u64>>) -> Result<Bytes, BackendError> {
        let mut ask = Ask::of(Method::GET, Some(name)).version(Some(version));
        if let Some(range) = &range {
            ask.headers.push(("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1))));
        }
        let answer = self.ask(&ask).await?;
        let bytes = answer.into_body().bytes().await.map_err(|error| broken(name, &error))?;
        Ok(bytes)
    }

    async fn delete(&self, name: &str, version: &VersionId) -> Result<(), BackendError> {
        self.ask(&Ask::of(Method::DELETE, Some(name)).version(Some(version))).await.map(|_| ())
    }

    async fn lock(&self, name: &str, version: Option<&VersionId>) -> Result<Option<Lock>, BackendError> {
        let answer = self.ask(&Ask::of(Method::HEAD, Some(name)).version(version)).await?;
        let header = |name| answer.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let mode = header("x-amz-object-lock-mode").and_then(mode_of);
        let until_ms = header("x-amz-object-lock-retain-until-date").and_then(time_ms);
        Ok(mode.zip(until_ms).map(|(mode, until_ms)| Lock { mode, until_ms }))
    }

    async fn extend_lock(&self, name: &str, version: Option<&VersionId>, until_ms: i64) -> Result<(), BackendError> {
        let there = self.lock(name, version).await?;
        if there.is_some_and(|lock| lock.mode == LockMode::Compliance && lock.until_ms >= until_ms) {
            return Ok(());
        }
        let mut ask = Ask::of(Method::PUT, Some(name)).version(version);
        ask.query.push(("retention", String::new()));
        let body = format!(
            "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{}</RetainUntilDate></Retention>",
            time_text(until_ms)
        );
        ask.body = Bytes::from(body);
        // The request must carry a checksum; every server knows this one.
        ask.headers.push(md5_header(&ask.body));
        self.ask(&ask).await.map(|_| ())
    }

    async fn locking(&self) -> Result<Locking, BackendError> {
        let mut ask = Ask::of(Method::GET, None);
        ask.query.push(("object-lock", String::new()));
        let text = match self.text(&ask).await {
            Ok(text) => text,
            // "There is no such configuration" and "there are no locks here" are one answer.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Config) => return Ok(Locking::None),
            Err(error) => return Err(error),
        };
        let mode = element(&text, "Mode").and_then(mode_of);
        let number = |name| element(&text, name).and_then(|days| days.trim().parse::<u32>().ok());
        let days = number("Days").or_else(|| number("Years").map(|years| years.saturating_mul(365)));
        let enabled = element(&text, "ObjectLockEnabled").is_some_and(|word| word.trim() == "Enabled");
        Ok(match mode.zip(days) {
            Some((mode, days)) => Locking::Always(LockRule { mode, days }),
            None if enabled => Locking::OnRequest,
            None => Locking::None,
        })
    }
}

/// Uploads an object with one checksum header, as given; its version, if it has one.
pub(crate) async fn put_with_checksum(
    bucket: &Bucket,
    name: &str,
    bytes: &Bytes,
    header: (&'static str, String),
) -> Result<Option<String>, BackendError> {
    let mut ask = Ask::of(Method::PUT, Some(name));
    ask.headers.push(header);
    ask.body = bytes.clone();
    let answer = bucket.ask(&ask).await?;
    let version = answer.headers().get("x-amz-version-id");
    Ok(version.and_then(|version: &HeaderValue| version.to_str().ok()).map(str::to_owned))
}

/// SHA-256 of an object as S3 takes it with an upload.
pub(crate) fn sha256_header(bytes: &[u8]) -> (&'static str, String) {
    ("x-amz-checksum-sha256", BASE64_STANDARD.encode(sha2::Sha256::digest(bytes)))
}

/// CRC-32C of an object as S3 takes it with an upload.
pub(crate) fn crc32c_header(bytes: &[u8]) -> (&'static str, String) {
    ("x-amz-checksum-crc32c", BASE64_STANDARD.encode(crc32c::crc32c(bytes).to_be_bytes()))
}

/// MD5 of an object, the oldest of S3's checksums: against accidents only.
pub(crate) fn md5_header(bytes: &[u8]) -> (&'static str, String) {
    ("content-md5", BASE64_STANDARD.encode(md5::Md5::digest(bytes)))
}

fn broken(what: &str, error: &(dyn std::error::Error + 'static)) -> BackendError {
    BackendError::new(Kind::Unavailable, format!("reading the answer about {what}"), error.to_string())
}

fn mode_of(word: &str) -> Option<LockMode> {
    match word.trim() {
        "COMPLIANCE" => Some(LockMode::Compliance),
        "GOVERNANCE" => Some(LockMode::Governance),
        _ => None,
    }
}

fn time_ms(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

/// Whole seconds, rounded up: a lock never ends before it should.
pub(crate) fn time_text(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp(ms.saturating_add(999).div_euclid(1_000), 0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Percent-encoding as S3 signs it.
fn encoded(text: &str, keep_slash: bool) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/');
        if plain {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The text of the first element of that name, without attributes.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let open = format!("<{name}>");
    let start = text.find(&open)? + open.len();
    let end = start + text[start..].find(&format!("</{name}>"))?;
    Some(&text[start..end])
}

/// The elements of a list of versions in their order: whether each is a mark of a
/// deletion, and its body.
fn version_elements(text: &str) -> Vec<(bool, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let at = |name| rest.find(name).unwrap_or(usize::MAX);
        let (version, marker) = (at("<Version>"), at("<DeleteMarker>"));
        if version == marker {
            return found;
        }
        let is_marker = marker < version;
        let name = if is_marker { "DeleteMarker" } else { "Version" };
        let start = version.min(marker) + name.len() + 2;
        let Some(length) = rest[start..].find(&format!("</{name}>")) else { return found };
        found.push((is_marker, &rest[start..start + length]));
        // From behind the element: a stray end before it must not list it twice.
        rest = &rest[start + length..];
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_versions_is_read_in_its_order() {
        let text = "<ListVersionsResult><IsTruncated>false</IsTruncated>\
                    <DeleteMarker><Key>p/a</Key><VersionId>3</VersionId><IsLatest>true</IsLatest></DeleteMarker>\
                    <Version><Key>p/a&amp;b</Key><VersionId>2</VersionId><Size>7</Size></Version>\
                    <Version><Key>half";
        let found = version_elements(text);
        assert_eq!(found.len(), 2);
        assert!(found[0].0 && !found[1].0);
        assert_eq!(element(found[1].1, "Key").map(unescaped).as_deref(), Some("p/a&b"));
        assert!(version_elements("").is_empty());
        assert_eq!(version_elements("</Version></Version><Version>a</Version>").len(), 1);
    }

    #[test]
    fn times_and_names_are_written_as_s3_wants_them() {
        assert_eq!(time_text(1_000), "1970-01-01T00:00:01Z");
        assert_eq!(time_text(1_001), "1970-01-01T00:00:02Z");
        assert_eq!(time_ms("2026-11-21T10:00:00.000Z"), Some(1_795_255_200_000));
        assert_eq!(encoded("a b/ü.~", true), "a%20b/%C3%BC.~");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(md5_header(b"").1, "1B2M2Y8AsgTpgAmY7PhCfg==");
        assert_eq!(crc32c_header(b"123456789").1, "4waSgw==");
        assert_eq!(sha256_header(b"").1, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
