//! The passphrase of sealed key files: where it comes from, and key files opened with it.
//!
//! What always holds: a passphrase is never an argument or in the environment; it is read
//! at most once from where it is; without a terminal nobody is asked, the error names the
//! options instead. What a person typed wrong may be typed again.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_daemon::assembly;
use backends::SecretSource;
use clap::Args;
use keys::files::{KeyFile, Loaded, OperatorKey, SealWith, SealedFile, WriterKey};
use keys::first::KeyFolder;
use keys::{FileFault, KeysError, Passphrase, SecretBytes};
use vault_ops::vault::Vault;

use crate::exit::{self, Failure};
use crate::session::Session;

/// Where the passphrase of sealed key files is.
#[derive(Args, Debug, Clone, Default)]
#[group(multiple = false)]
#[allow(clippy::struct_field_names, reason = "each is named as its option")]
pub(crate) struct PassphraseFrom {
    /// File with the passphrase of sealed key files.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Sealed key files")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Open file descriptor to read it from.
    #[arg(long, global = true, value_name = "NUMBER", help_heading = "Sealed key files")]
    pub(crate) passphrase_fd: Option<u32>,
    /// Command that prints it, for sh.
    #[arg(long, global = true, value_name = "COMMAND", help_heading = "Sealed key files")]
    pub(crate) passphrase_command: Option<String>,
    /// systemd credential of this unit.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Sealed key files")]
    pub(crate) passphrase_credential: Option<String>,
}

impl PassphraseFrom {
    fn source(&self) -> Option<SecretSource> {
        let file = self.passphrase_file.clone().map(SecretSource::File);
        let command = |text: &String| SecretSource::Command(["sh", "-c", text].map(str::to_owned).to_vec());
        file.or(self.passphrase_fd.map(SecretSource::Descriptor))
            .or(self.passphrase_command.as_ref().map(command))
            .or(self.passphrase_credential.as_deref().map(assembly::systemd_credential))
    }
}

/// How often a person may type it.
const TRIES: usize = 3;

impl Session {
    /// Loads a key file, asking for its passphrase if it is sealed.
    pub(crate) fn key<T: KeyFile>(&self, path: &Path) -> Result<T, Failure> {
        match keys::files::load_any(path).map_err(key_failure)? {
            Loaded::Open(key) => Ok(key),
            Loaded::Sealed(file) => self.open_sealed(path, &file),
        }
    }

    /// The writer key of an opened vault as it must be now: after a rotation it follows
    /// in memory, and the file stays as it is.
    pub(crate) fn writer_key(&self, folder: &KeyFolder, vault: &Vault) -> Result<Arc<WriterKey>, Failure> {
        let mut key: WriterKey = self.key(&folder.writer_key())?;
        vault.follow(&mut key)?;
        Ok(Arc::new(key))
    }

    /// Likewise the operator key.
    pub(crate) fn operator_key(&self, folder: &KeyFolder, vault: &Vault) -> Result<OperatorKey, Failure> {
        let mut key: OperatorKey = self.key(&folder.operator_key())?;
        vault.follow_operator(&mut key)?;
        Ok(key)
    }

    /// Puts a key that was opened here in the place of its file, sealed as that is.
    pub(crate) fn replace_key<T: KeyFile>(&self, path: &Path, key: &T) -> Result<(), Failure> {
        self.sealed_as::<T>(path, |seal| keys::files::replace(path, key, seal))
    }

    /// Writes a new key file, sealed as another of its role is, if that is there.
    pub(crate) fn create_key_as<T: KeyFile>(&self, path: &Path, key: &T, other: &Path) -> Result<(), Failure> {
        if !other.exists() {
            return keys::files::create(path, key).map_err(key_failure);
        }
        self.sealed_as::<T>(other, |seal| keys::files::create_as(path, key, seal))
    }

    /// Hands on what a key file is sealed with: its passphrase, which was checked, if it has one.
    fn sealed_as<T: KeyFile>(
        &self,
        path: &Path,
        write: impl FnOnce(Option<&SealWith<'_>>) -> Result<(), KeysError>,
    ) -> Result<(), Failure> {
        let Loaded::Sealed(file) = keys::files::load_any::<T>(path).map_err(key_failure)? else {
            return write(None).map_err(key_failure);
        };
        let asked;
        let passphrase = match self.passphrase.get().filter(|known| file.open(known).is_ok()) {
            Some(known) => known,
            None => {
                asked = self.passphrase_of(path)?;
                file.open(&asked).map_err(key_failure)?;
                &asked
            }
        };
        let seal = SealWith::new(passphrase, &mut self.world.rng());
        write(Some(&seal)).map_err(key_failure)
    }

    fn open_sealed<T: KeyFile>(&self, path: &Path, file: &SealedFile<T>) -> Result<T, Failure> {
        let source = self.passphrase_source();
        if let Some(known) = self.passphrase.get() {
            match file.open(known) {
                // Another file may have another one, where a person can say so.
                Err(error) if source.is_none() && is_wrong(&error) => {}
                opened => return opened.map_err(key_failure),
            }
        } else if let Some(source) = source {
            let passphrase = read(&source)?;
            let key = file.open(&passphrase).map_err(key_failure)?;
            // Only this thread sets it.
            let _ = self.passphrase.set(passphrase);
            return Ok(key);
        }
        if !can_ask() {
            return Err(key_failure(KeysError::KeyFile { path: path.to_owned(), fault: FileFault::Sealed }));
        }
        for left in (0..TRIES).rev() {
            let Some(passphrase) = ask(&format!("passphrase of {}: ", path.display()))? else { break };
            match file.open(&passphrase) {
                Ok(key) => {
                    let _ = self.passphrase.set(passphrase);
                    return Ok(key);
                }
                Err(error) if left > 0 && is_wrong(&error) => self.output.warn("that does not open it"),
                Err(error) => return Err(key_failure(error)),
            }
        }
        Err(Failure::new(exit::KEY, format!("key file {}: no passphrase was given", path.display())))
    }

    /// The options', else the configuration's.
    fn passphrase_source(&self) -> Option<SecretSource> {
        self.global.passphrase.source().or_else(|| {
            let (config, name) = self.vault_name().ok()?;
            config.vaults.get(name.as_str())?.passphrase.as_ref().map(assembly::secret_source)
        })
    }

    /// The passphrase a new operator key is sealed with: that of the options or the
    /// configuration; else a person is asked, who may want none.
    pub(crate) fn passphrase_for_new(&self, what: &str) -> Result<Option<&Passphrase>, Failure> {
        if let Some(known) = self.passphrase.get() {
            return Ok(Some(known));
        }
        let passphrase = match self.passphrase_source() {
            Some(source) => Some(checked_new(read(&source)?)?),
            None if can_ask() && !self.output.is_json() => {
                ask_new(self, &format!("passphrase for {what} (12 characters or more; empty: leave it unsealed): "))?
            }
            None => None,
        };
        Ok(passphrase.map(|passphrase| self.passphrase.get_or_init(|| passphrase)))
    }

    /// The passphrase that opens `path` now, and was asked for if need be.
    pub(crate) fn passphrase_of(&self, path: &Path) -> Result<Passphrase, Failure> {
        match self.passphrase_source() {
            Some(source) => read(&source),
            None if can_ask() => ask(&format!("passphrase of {}: ", path.display()))?
                .ok_or_else(|| Failure::new(exit::KEY, "no passphrase was given; nothing was changed")),
            None => Err(key_failure(KeysError::KeyFile { path: path.to_owned(), fault: FileFault::Sealed })),
        }
    }

    /// The passphrase that `path` shall have: from these options, else from the usual
    /// place if `usual`, else a person's.
    pub(crate) fn passphrase_to_be(
        &self,
        path: &Path,
        new: Option<SecretSource>,
        usual: bool,
    ) -> Result<Passphrase, Failure> {
        match new.or_else(|| self.passphrase_source().filter(|_| usual)) {
            Some(source) => checked_new(read(&source)?),
            None if can_ask() => ask_new(self, &format!("new passphrase for {}: ", path.display()))?
                .ok_or_else(|| Failure::new(exit::KEY, "no passphrase was given; nothing was changed")),
            None => Err(Failure::new(
                exit::USAGE,
                "there is no terminal to type the new passphrase: name the file it is in; see holdfast keys seal --help",
            )),
        }
    }
}

pub(crate) fn key_failure(error: KeysError) -> Failure {
    Failure::new(exit::KEY, error.to_string())
}

fn is_wrong(error: &KeysError) -> bool {
    matches!(error, KeysError::KeyFile { fault: FileFault::WrongPassphrase, .. })
}

fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

fn read(source: &SecretSource) -> Result<Passphrase, Failure> {
    let reading = assembly::passphrase(source);
    Ok(tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(reading))?)
}

fn checked_new(passphrase: Passphrase) -> Result<Passphrase, Failure> {
    passphrase.check_new().map_err(|why| Failure::new(exit::USAGE, format!("{why}; nothing was sealed")))?;
    Ok(passphrase)
}

/// What is typed, not shown; none for an empty line.
fn ask(prompt: &str) -> Result<Option<Passphrase>, Failure> {
    let typed = rpassword::prompt_password(prompt).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
    if typed.is_empty() {
        return Ok(None);
    }
    let typed = Passphrase::new(SecretBytes::new(typed.into_bytes()));
    typed.map(Some).map_err(|why| Failure::new(exit::USAGE, why))
}

/// Typed twice.
fn ask_new(session: &Session, prompt: &str) -> Result<Option<Passphrase>, Failure> {
    for _ in 0..TRIES {
        let Some(first) = ask(prompt)? else { return Ok(None) };
        if let Err(why) = first.check_new() {
            session.output.warn(why);
            continue;
        }
        match ask("the same again: ")? {
            Some(second) if second.is_same(&first) => return Ok(Some(first)),
            Some(_) | None => session.output.warn("the two differ"),
        }
    }
    Err(Failure::new(exit::USAGE, "no passphrase was chosen; nothing was written"))
}
