//! Locations: one bucket or folder each, and what they fail together with.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use url::Url;

use crate::error::{Result, Text, means_a_secret};
use crate::raw::Word;
use crate::{raw, size, time};

/// A disk that is plugged in now and then is missed after this.
const DUE: Duration = Duration::from_hours(30 * 24);

/// One bucket or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// As written, without secrets: `file:///srv/backup`, `s3://bucket/prefix`.
    pub url: Url,
    /// What the URL's scheme says.
    pub scheme: Scheme,
    /// Where the API answers, when it is not the provider's own.
    pub endpoint: Option<Url>,
    /// Region to sign for.
    pub region: Option<String>,
    /// What fails together with it. One word for one thing: two spellings are two domains.
    pub domain: String,
    /// Where its credentials are.
    pub credentials: Option<SecretFrom>,
    /// Where credentials are that may delete: for the commands that remove what is
    /// surplus or swept, never for the agent.
    pub admin_credentials: Option<SecretFrom>,
    /// Whether it is expected to be there.
    pub attached: Attached,
    /// How long one that is there sometimes may stay away before that is a fault.
    pub due: Duration,
    /// Whether an `http://` endpoint is meant.
    pub allow_http: bool,
    /// How long every object is locked when it is written, where the bucket has object lock.
    pub lock: Option<Duration>,
    /// Bytes a second that may be written there.
    pub upload_limit: Option<u64>,
    /// Bytes a second that may be read there.
    pub download_limit: Option<u64>,
}

/// The kinds of location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A local folder, absolute.
    File(PathBuf),
    /// Any S3 API.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob.
    Azure,
}

/// Whether a location is expected to be reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Away is a fault.
    Always,
    /// A disk that is plugged in now and then: away is normal, and healed when it is back.
    Sometimes,
}

/// Where a secret is, never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// A file, absolute.
    File(PathBuf),
    /// A systemd credential by name.
    Credential(String),
    /// A program and its arguments, which prints it.
    Command(Vec<String>),
}

impl Location {
    pub(crate) fn check(text: Text<'_>, name: &Word, raw: &raw::Location) -> Result<Self> {
        let key = |key: &str| format!("location.{}.{key}", name.get_ref());
        let Some(word) = &raw.url else {
            let what = "it is missing; a location needs at least url and domain";
            return text.bad(&name.span(), key("url"), what);
        };
        let (url, scheme) = check_url(text, &key("url"), word)?;
        let domain = check_domain(text, name, raw.domain.as_ref())?;
        let secret = |field: &str, value: Option<&Spanned<toml::Value>>| {
            value.map(|value| SecretFrom::check(text, &key(field), value)).transpose()
        };
        let credentials = secret("credentials", raw.credentials.as_ref())?;
        let admin_credentials = secret("admin_credentials", raw.admin_credentials.as_ref())?;
        let endpoint = raw.endpoint.as_ref();
        let endpoint = endpoint.map(|word| check_endpoint(text, &key("endpoint"), word, raw.allow_http)).transpose()?;
        let attached = match raw.attached.as_ref().map(|word| (word, word.get_ref().as_str())) {
            None | Some((_, "always")) => Attached::Always,
            Some((_, "sometimes")) => Attached::Sometimes,
            Some((word, _)) => {
                let what = "it is \"always\" or \"sometimes\" (a disk that is not always plugged in)";
                return text.bad(&word.span(), key("attached"), what);
            }
        };
        let due = match (&raw.due, attached) {
            (None, _) => DUE,
            (Some(word), Attached::Always) => {
                let what =
                    "only a location with attached = \"sometimes\" has a time to be back; add that, or remove this";
                return text.bad(&word.span(), key("due"), what);
            }
            (Some(word), Attached::Sometimes) => match time::duration(word.get_ref()) {
                Ok(due) => due,
                Err(what) => return text.bad(&word.span(), key("due"), what),
            },
        };
        let location = Self {
            url,
            scheme,
            endpoint,
            region: raw.region.as_ref().map(|word| word.get_ref().clone()),
            domain,
            credentials,
            admin_credentials,
            attached,
            due,
            allow_http: raw.allow_http,
            lock: raw.lock.as_ref().map(|word| check_lock(text, &key("lock"), word)).transpose()?,
            upload_limit: size::limit(text, &key("upload_limit"), raw.upload_limit.as_ref())?,
            download_limit: size::limit(text, &key("download_limit"), raw.download_limit.as_ref())?,
        };
        location.check_together(text, name, raw)?;
        Ok(location)
    }

    /// A folder takes no keys, and a bucket does not work without.
    fn check_together(&self, text: Text<'_>, name: &Word, raw: &raw::Location) -> Result<()> {
        let key = |key: &str| format!("location.{}.{key}", name.get_ref());
        if let (Some(word), false) = (&raw.lock, matches!(self.scheme, Scheme::S3)) {
            return text.bad(&word.span(), key("lock"), "only S3 buckets have object lock; remove it");
        }
        if !matches!(self.scheme, Scheme::File(_)) {
            if self.credentials.is_none() {
                let what = "a bucket needs them: credentials = { file = \"/path\" }, or { credential = \"systemd name\" }, or { command = [\"program\"] }";
                return text.bad(&name.span(), key("credentials"), what);
            }
            return Ok(());
        }
        let extra = [("endpoint", &raw.endpoint), ("region", &raw.region)]
            .into_iter()
            .find_map(|(field, word)| Some((field, word.as_ref()?.span())));
        let credentials = [("credentials", &raw.credentials), ("admin_credentials", &raw.admin_credentials)]
            .into_iter()
            .find_map(|(field, value)| Some((field, value.as_ref()?.span())));
        match extra.or(credentials) {
            Some((field, span)) => text.bad(&span, key(field), "a local folder has none; remove it"),
            None => Ok(()),
        }
    }

    /// Whether the two hold, or could hold, the same objects.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let place = |l: &Self| (l.url.scheme().to_owned(), l.url.host_str().map(str::to_owned), l.endpoint.clone());
        let segments = |l: &Self| -> Vec<String> {
            let segments = l.url.path().split('/').filter(|s| !s.is_empty());
            segments.map(str::to_owned).collect()
        };
        let (ours, theirs) = (segments(self), segments(other));
        place(self) == place(other) && (ours.starts_with(&theirs) || theirs.starts_with(&ours))
    }
}

impl SecretFrom {
    /// The value is never quoted: whoever writes it in the wrong form may have written the
    /// secret itself.
    pub(crate) fn check(text: Text<'_>, key: &str, value: &Spanned<toml::Value>) -> Result<Self> {
        let span = value.span();
        let field = key.rsplit('.').next().unwrap_or(key);
        let toml::Value::Table(table) = value.get_ref() else {
            return text.secret(&span, key, field);
        };
        for name in table.keys() {
            if ["file", "credential", "command"].contains(&name.as_str()) {
                continue;
            }
            if means_a_secret(name) {
                return text.secret(&span, &format!("{key}.{name}"), field);
            }
            return text.unknown(&span, &format!("{key}.{name}"), &["file", "credential", "command"]);
        }
        let one_of = "it is one of { file = \"/path\" }, { credential = \"systemd name\" }, { command = [\"program\", \"argument\"] }";
        let mut entries = table.iter();
        match (entries.next(), entries.next()) {
            (Some((name, value)), None) => match (name.as_str(), value) {
                ("file", toml::Value::String(path)) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
                ("file", _) => {
                    text.bad(&span, format!("{key}.file"), "it is an absolute path, as in \"/etc/holdfast/b2\"")
                }
                // A name, not a path: systemd puts it into a folder of its own choice.
                ("credential", toml::Value::String(name)) if !name.is_empty() && !name.contains('/') => {
                    Ok(Self::Credential(name.clone()))
                }
                ("command", toml::Value::Array(_)) => match argv(value) {
                    Some(argv) => Ok(Self::Command(argv)),
                    None => text.bad(&span, key, "the command is a list of texts: the program, then its arguments"),
                },
                _ => text.bad(&span, key, one_of),
            },
            _ => text.bad(&span, key, one_of),
        }
    }
}

fn argv(value: &toml::Value) -> Option<Vec<String>> {
    let texts = value.as_array()?.iter().map(|item| Some(item.as_str()?.to_owned()));
    let argv: Vec<String> = texts.collect::<Option<_>>()?;
    (!argv.is_empty() && !argv[0].is_empty()).then_some(argv)
}

fn check_url(text: Text<'_>, key: &str, word: &Word) -> Result<(Url, Scheme)> {
    const SCHEMES: &str =
        "a location is file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";
    let span = word.span();
    let Ok(url) = Url::parse(word.get_ref()) else {
        return text.bad(&span, key, format!("it is not a URL; {SCHEMES}"));
    };
    // Before anything quotes it: it may hold a secret.
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return text.secret(&span, key, "credentials");
    }
    let scheme = match url.scheme() {
        "file" => match url.to_file_path() {
            Ok(path) if path.parent().is_some() => Scheme::File(path),
            Ok(_) => return text.bad(&span, key, "it is the root of the file system; give it a folder of its own"),
            Err(()) => return text.bad(&span, key, "a local folder is written file:///absolute/path"),
        },
        "s3" => Scheme::S3,
        "gs" => Scheme::Google,
        "az" => Scheme::Azure,
        other => return text.bad(&span, key, format!("there is no {other}:// here; {SCHEMES}")),
    };
    if !matches!(scheme, Scheme::File(_)) && url.host_str().is_none_or(str::is_empty) {
        let what = format!("the bucket is missing; {SCHEMES}");
        return text.bad(&span, key, what);
    }
    Ok((url, scheme))
}

fn check_lock(text: Text<'_>, key: &str, word: &Word) -> Result<Duration> {
    const DAYS_MAX: u64 = 3_650;
    let lock = match time::duration(word.get_ref()) {
        Ok(lock) => lock,
        Err(what) => return text.bad(&word.span(), key, what),
    };
    if lock < Duration::from_hours(24) || lock > Duration::from_hours(24 * DAYS_MAX) {
        let what =
            format!("it is at least 1 day and at most {DAYS_MAX}: nobody can delete what is locked, not even you");
        return text.bad(&word.span(), key, what);
    }
    Ok(lock)
}

fn check_endpoint(text: Text<'_>, key: &str, word: &Word, allow_http: bool) -> Result<Url> {
    let span = word.span();
    let Ok(url) = Url::parse(word.get_ref()) else {
        return text.bad(&span, key, "it is not a URL; write https://host");
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return text.secret(&span, key, "credentials");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http => Ok(url),
        "http" => text.bad(
            &span,
            key,
            "http:// sends names and sizes in the clear; use https://, or set allow_http = true if that is meant",
        ),
        _ => text.bad(&span, key, "an endpoint begins with https://"),
    }
}

fn check_domain(text: Text<'_>, name: &Word, word: Option<&Word>) -> Result<String> {
    const DOMAIN_CHARS_MAX: usize = 64;
    let key = format!("location.{}.domain", name.get_ref());
    let Some(word) = word else {
        let what = "it is missing; name what fails together with this location, as in \"house\" or the provider's name";
        return text.bad(&name.span(), key, what);
    };
    let domain = word.get_ref();
    let fits = !domain.trim().is_empty()
        && domain.trim() == domain
        && domain.chars().count() <= DOMAIN_CHARS_MAX
        && !domain.chars().any(char::is_control);
    if fits {
        Ok(domain.clone())
    } else {
        let what = format!("it is a name of 1 to {DOMAIN_CHARS_MAX} characters without space around it");
        text.bad(&word.span(), key, what)
    }
}
