//! Where a location's credentials come from, and the text they are written in.
//!
//! What always holds: secrets come from a file, from systemd or from a command, never from
//! the configuration, an argument or the environment. The text is the same in all three:
//! lines of `name = value`, where blank lines, `#` comments and a `[section]` header are
//! skipped, so a profile of `~/.aws/credentials` can be used as it is.
//!
//! | name (an `aws_` in front is allowed) | for |
//! |---|---|
//! | `access_key_id`, `secret_access_key`, `session_token` (optional) | S3 |
//! | `account`, `access_key` | Azure |
//! | (the whole text is a service account's JSON) | Google |

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

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
    /// A file that others may not read.
    File(PathBuf),
    /// A systemd credential: file `name` in `dir` (the service's `$CREDENTIALS_DIRECTORY`,
    /// which the caller reads, because the environment is an argument here).
    Systemd {
        /// The folder systemd made for the service.
        dir: PathBuf,
        /// Name given with `LoadCredential=`.
        name: String,
    },
    /// A program and its arguments, which prints them; started without a shell.
    Command(Vec<String>),
    /// Given directly, for tests.
    Keys {
        /// Access key id (S3) or account (Azure).
        id: String,
        /// Secret access key (S3) or access key (Azure).
        secret: Secret,
    },
}

/// A command that hangs must not hang the backup; asking a password manager takes less.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);

impl Credentials {
    /// Reads them. `None` for [`Credentials::None`].
    pub(crate) async fn read(&self) -> Result<Option<Read>, BackendError> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::File(path) => Read::parse(&read_file(path)?, &path.display().to_string()),
            Self::Systemd { dir, name } => {
                let path = dir.join(name);
                Read::parse(&read_file(&path)?, &format!("systemd credential {name}"))
            }
            Self::Command(argv) => Read::parse(&run(argv).await?, &format!("output of {}", argv[0])),
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

fn read_file(path: &Path) -> Result<Secret, BackendError> {
    let what = || format!("credentials {}", path.display());
    let failed = |error: std::io::Error| BackendError::new(Kind::Config, what(), error.to_string());
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o007 != 0 {
        let why = format!("everyone on this machine may read it; run: chmod o= {}", path.display());
        return Err(BackendError::new(Kind::Config, what(), why));
    }
    std::fs::read_to_string(path).map(Secret::new).map_err(failed)
}

async fn run(argv: &[String]) -> Result<Secret, BackendError> {
    let what = format!("credentials command {argv:?}");
    let failed = |why: String| BackendError::new(Kind::Config, what.clone(), why);
    let (program, arguments) =
        argv.split_first().ok_or_else(|| failed("it is empty; give the program and its arguments".to_owned()))?;
    let running = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(COMMAND_PATIENCE, running).await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {COMMAND_PATIENCE:?}"))),
    };
    // Its standard output may hold half a secret: only the other stream is quoted.
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim())));
    }
    String::from_utf8(output.stdout).map(Secret::new).map_err(|_| failed("its output is not text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# B2\n[default]\naws_access_key_id = AK\n\nSecret_Access_Key=a=b/c+d==\n";

    #[tokio::test]
    async fn a_file_a_systemd_credential_and_a_command_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b2");
        std::fs::write(&path, TEXT).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let argv = ["cat", path.to_str().unwrap()].map(str::to_owned).to_vec();
        for credentials in [
            Credentials::File(path.clone()),
            Credentials::Systemd { dir: dir.path().to_owned(), name: "b2".to_owned() },
            Credentials::Command(argv),
        ] {
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

    #[tokio::test]
    async fn a_file_everyone_may_read_is_refused_and_says_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TEXT).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let credentials = Credentials::File(file.path().to_owned());
        let error = credentials.read().await.err().unwrap();
        assert!(error.to_string().contains("chmod o="), "{error}");
    }

    #[tokio::test]
    async fn a_failing_command_is_quoted_without_its_output() {
        let argv = ["sh", "-c", "echo half-a-secret; echo locked >&2; exit 3"];
        let credentials = Credentials::Command(argv.map(str::to_owned).to_vec());
        let error = credentials.read().await.err().unwrap().to_string();
        assert!(error.contains("locked"), "{error}");
        // The argument list is the operator's own; what the program printed is not shown.
        assert_eq!(error.matches("half-a-secret").count(), 1, "{error}");
    }
}
