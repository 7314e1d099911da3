//! Where a secret text comes from: one notion for passphrases, tokens and the
//! credentials of locations.
//!
//! What always holds: a secret comes from a file, an open descriptor, a systemd credential
//! or a command; never from the configuration, an argument or the environment. A file that
//! others can read is refused with the line to run. Mode and content are of the same open
//! file. No message quotes what was read.
//!
//! A group may read a file (`root:holdfast 0640` is how a service gets one; systemd shows
//! its credentials so, too); others may not, and a group may not write. Key files are
//! stricter, see the `keys` crate.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::{Zeroize, Zeroizing};

use crate::credentials::Secret;
use crate::{BackendError, Kind};

/// Where a secret is, never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that others may not read.
    File(PathBuf),
    /// A descriptor this process was started with. What is no regular file can be read once.
    Descriptor(u32),
    /// A systemd credential: file `name` in `dir` (the service's `$CREDENTIALS_DIRECTORY`,
    /// which the caller reads, because the environment is an argument here).
    Systemd {
        /// The folder systemd made for the service; none outside of one.
        dir: Option<PathBuf>,
        /// Name given with `LoadCredential=`.
        name: String,
    },
    /// A program and its arguments, which prints it; started without a shell.
    Command(Vec<String>),
}

/// A command that hangs must not hang the backup; asking a password manager takes less.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// More than any secret has.
const BYTES_MAX: u64 = 1 << 20;

impl SecretSource {
    /// How it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Descriptor(number) => format!("file descriptor {number}"),
            Self::Systemd { name, .. } => format!("systemd credential {name}"),
            Self::Command(argv) => format!("output of {}", argv.first().map_or("nothing", String::as_str)),
        }
    }

    /// Reads it.
    pub async fn read(&self) -> Result<Secret, BackendError> {
        match self {
            Self::File(path) => self.read_file(path, path),
            // Opening it anew takes no unsafe code; a closed one is not there.
            Self::Descriptor(number) => {
                let path = PathBuf::from(format!("/proc/self/fd/{number}"));
                let target = std::fs::read_link(&path).unwrap_or_else(|_| path.clone());
                self.read_file(&path, &target)
            }
            Self::Systemd { dir: Some(dir), name } => {
                let path = dir.join(name);
                self.read_file(&path, &path)
            }
            Self::Systemd { dir: None, .. } => {
                Err(self.failed("this process has no credentials from systemd ($CREDENTIALS_DIRECTORY is not set)"))
            }
            Self::Command(argv) => self.run(argv).await,
        }
    }

    fn failed(&self, why: impl Into<String>) -> BackendError {
        BackendError::new(Kind::Config, self.name(), why.into())
    }

    /// `shown` is what a person would change the mode of.
    fn read_file(&self, path: &Path, shown: &Path) -> Result<Secret, BackendError> {
        let failed = |error: std::io::Error| self.failed(error.to_string());
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(self.failed("it is a folder"));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_file() && mode & 0o027 != 0 {
            let path = quoted(shown);
            return Err(self.failed(format!("others can access it (mode {mode:04o}). Run: chmod o=,g-w {path}")));
        }
        // Reserved at once, so that growing leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().clamp(4096, BYTES_MAX) as usize + 1));
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        self.text(std::mem::take(&mut *bytes))
    }

    fn text(&self, bytes: Vec<u8>) -> Result<Secret, BackendError> {
        if bytes.len() as u64 > BYTES_MAX {
            return Err(self.failed("it is longer than 1 MiB: that is no secret"));
        }
        String::from_utf8(bytes).map(Secret::new).map_err(|error| {
            error.into_bytes().zeroize();
            self.failed("it is not text")
        })
    }

    async fn run(&self, argv: &[String]) -> Result<Secret, BackendError> {
        let (program, arguments) =
            argv.split_first().ok_or_else(|| self.failed("it is empty; give the program and its arguments"))?;
        let running = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(COMMAND_PATIENCE, running).await {
            Ok(output) => output.map_err(|error| self.failed(error.to_string()))?,
            Err(_) => return Err(self.failed(format!("no answer within {COMMAND_PATIENCE:?}"))),
        };
        let mut printed = Zeroizing::new(output.stdout);
        // Its standard output may hold half a secret: only the other stream is quoted.
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(self.failed(format!("{}: {}", output.status, said.trim())));
        }
        self.text(std::mem::take(&mut *printed))
    }
}

/// A path as a shell takes it. The same stands in `keys/src/files.rs`: neither crate may
/// import the other, and there is none below both.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=,:@%".contains(letter);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn file(mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a secret\n").unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[tokio::test]
    async fn every_source_gives_the_same_text() {
        let file = file(0o640);
        let path = file.path().to_owned();
        let dir = path.parent().map(Path::to_owned);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let open = File::open(&path).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"a secret\n").unwrap();
        drop(writer);
        for source in [
            SecretSource::File(path.clone()),
            SecretSource::Descriptor(u32::try_from(open.as_raw_fd()).unwrap()),
            SecretSource::Descriptor(u32::try_from(reader.as_raw_fd()).unwrap()),
            SecretSource::Systemd { dir, name },
            SecretSource::Command(vec!["cat".to_owned(), path.display().to_string()]),
        ] {
            assert_eq!(source.read().await.unwrap().expose_secret(), "a secret\n", "{source:?}");
        }
    }

    #[tokio::test]
    async fn what_others_can_access_is_refused_with_the_line_to_run() {
        for mode in [0o644, 0o604, 0o601, 0o602, 0o660, 0o620, 0o444] {
            let file = file(mode);
            let (path, dir) = (file.path().to_owned(), file.path().parent().map(Path::to_owned));
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let open = File::open(&path).unwrap();
            let descriptor = SecretSource::Descriptor(u32::try_from(open.as_raw_fd()).unwrap());
            for source in [SecretSource::File(path.clone()), SecretSource::Systemd { dir, name }, descriptor] {
                let said = source.read().await.err().unwrap().to_string();
                assert!(said.contains(&format!("chmod o=,g-w {}", path.display())), "{said}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_secret_is_refused_and_never_quoted() {
        let long = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(long.path(), vec![b'x'; BYTES_MAX as usize + 1]).unwrap();
        let binary = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(binary.path(), b"\xff\xfe").unwrap();
        let shell = |text: &str| SecretSource::Command(["sh", "-c", text].map(str::to_owned).to_vec());
        for (source, what) in [
            (SecretSource::File(long.path().to_owned()), "longer"),
            (SecretSource::File(binary.path().to_owned()), "not text"),
            (SecretSource::File("/".into()), "folder"),
            (SecretSource::File("/no/such/file".into()), "No such file"),
            (SecretSource::Descriptor(900), "No such file"),
            (SecretSource::Systemd { dir: None, name: "key".to_owned() }, "CREDENTIALS_DIRECTORY"),
            (SecretSource::Command(Vec::new()), "empty"),
            (shell("echo half-a-secret; echo locked >&2; exit 3"), "locked"),
        ] {
            let said = source.read().await.err().unwrap().to_string();
            assert!(said.contains(what) && !said.contains("half-a-secret"), "{said}");
        }
    }
}
