//! Where a location's credentials come from, and the text they are written in.
//!
//! What always holds: the text is the same wherever it comes from ([`SecretSource`]):
//! lines of `name = value`, where blank lines, `#` comments and a `[section]` header are
//! skipped, so a profile of `~/.aws/credentials` can be used as it is.
//!
//! | name (an `aws_` in front is allowed) | for |
//! |---|---|
//! | `access_key_id`, `secret_access_key`, `session_token` (optional) | S3 |
//! | `account`, `access_key` | Azure |
//! | (the whole text is a service account's JSON) | Google |

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::secret_source::SecretSource;
use crate::{BackendError, Kind};

/// A secret text: wiped when dropped, not printable, not comparable. The storage library
/// keeps its own copy of the part it needs for as long as the location is open.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a secret text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself; look for this name to find every use.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

/// Where the credentials of a location come from.
#[derive(Default)]
pub enum Credentials {
    /// None: local folders.
    #[default]
    None,
    /// A text that is read when the location is opened.
    From(SecretSource),
    /// Given directly, for tests.
    Keys {
        /// Access key id (S3) or account (Azure).
        id: String,
        /// Secret access key (S3) or access key (Azure).
        secret: Secret,
    },
}

impl Credentials {
    /// Reads them. `None` for [`Credentials::None`].
    pub(crate) async fn read(&self) -> Result<Option<Read>, BackendError> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::From(source) => Read::parse(&source.read().await?, &source.name()),
            Self::Keys { id, secret } => Read::from_keys(id, secret),
        }))
    }
}

/// Credentials that were read, not yet understood: which names are needed depends on the store.
pub(crate) struct Read {
    /// For messages.
    from: String,
    values: BTreeMap<String, Secret>,
    #[cfg_attr(not(feature = "google"), allow(dead_code, reason = "only Google reads it whole"))]
    pub(crate) text: Secret,
}

impl Read {
    fn parse(text: &Secret, from: &str) -> Self {
        let mut values = BTreeMap::new();
        for line in text.expose_secret().lines() {
            let line = line.trim();
            if line.starts_with('#') || line.starts_with('[') {
                continue;
            }
            if let Some((name, value)) = line.split_once('=') {
                let name = name.trim().to_ascii_lowercase();
                let name = name.strip_prefix("aws_").unwrap_or(&name).to_owned();
                values.insert(name, Secret::new(value.trim().to_owned()));
            }
        }
        Self { from: from.to_owned(), values, text: Secret::new(text.expose_secret().to_owned()) }
    }

    fn from_keys(id: &str, secret: &Secret) -> Self {
        let value = || Secret::new(secret.expose_secret().to_owned());
        let mut values = BTreeMap::new();
        for name in ["access_key_id", "account"] {
            values.insert(name.to_owned(), Secret::new(id.to_owned()));
        }
        for name in ["secret_access_key", "access_key"] {
            values.insert(name.to_owned(), value());
        }
        Self { from: "the given keys".to_owned(), values, text: value() }
    }

    /// The value of a name that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<&str, BackendError> {
        self.get(name).ok_or_else(|| {
            let why = format!("there is no line `{name} = ...` in it; it holds lines of `name = value`");
            BackendError::new(Kind::Config, &self.from, why)
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(Secret::expose_secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# B2\n[default]\naws_access_key_id = AK\n\nSecret_Access_Key=a=b/c+d==\n";

    #[tokio::test]
    async fn names_and_values_are_read_and_never_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TEXT).unwrap();
        let credentials = Credentials::From(SecretSource::File(file.path().to_owned()));
        let read = credentials.read().await.unwrap().unwrap();
        assert_eq!(read.need("access_key_id").unwrap(), "AK");
        // The secret itself contains '='.
        assert_eq!(read.need("secret_access_key").unwrap(), "a=b/c+d==");
        assert!(read.get("session_token").is_none());
        let error = read.need("account").err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(!error.to_string().contains("a=b/c"), "{error}");
    }
}
