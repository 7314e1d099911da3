//! Key files: one Rust type and one file per role, so that a host holds only what
//! its work needs. The agent loads a [`WriterKey`] and could not load a
//! [`ReadKey`] by mistake.
//!
//! What always holds: a secret file is created with mode 0600, is refused when
//! others can access it, and never overwrites anything; file and folder are
//! synced before `create` returns; what is loaded fits together (a writer's
//! certificates belong to its keys).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use rand_core::CryptoRng;
use vault_format::VaultId;

use crate::card::Card;
use crate::error::{FileFault, KeysError, Result};
use crate::key_file::{self, Body, FILE_BYTES_MAX, SealedBody, Title};
use crate::passphrase::{Cost, Passphrase, SALT_BYTES, Stretch};
use crate::secret::{SecretBytes, SecretText};

mod change;
mod place;
mod roles;

pub use change::{is_sealed, reseal};
pub use place::{place, replace_public};

pub use roles::{
    AuditorKey, JanitorGeneration, JanitorKey, MasterSeed, MigratorKey, OperatorKey, ReadGeneration, ReadKey,
    VaultPublic, WriterKey,
};

/// A key file's content. Implemented by the eight types of this module.
pub trait KeyFile: Encode<()> + for<'b> Decode<'b, ()> {
    /// What stands in the file's role line.
    const ROLE: &'static str;
    /// What stands in its note line.
    const NOTE: &'static str;
    /// Whether it is created for its owner alone and refused when others can
    /// access it.
    const SECRET: bool = true;

    /// The vault it belongs to.
    fn vault(&self) -> VaultId;

    /// Whether its parts belong together.
    fn check(&self) -> std::result::Result<(), &'static str> {
        Ok(())
    }
}

/// Makes the folder of key files, with those above it, for its owner alone, and
/// syncs it in all of them: a folder whose name is lost in a power cut takes every
/// key with it. One that is there stays as it is: each file guards itself.
pub fn create_folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path).and_then(|()| sync_way(path));
    made.map_err(|error| KeysError::KeyFile { path: path.to_owned(), fault: FileFault::Io(error) })
}

/// A passphrase that something new is sealed with.
pub struct SealWith<'a> {
    passphrase: &'a Passphrase,
    stretch: Stretch,
}

impl<'a> SealWith<'a> {
    /// Draws the salt.
    pub fn new<R: CryptoRng + ?Sized>(passphrase: &'a Passphrase, rng: &mut R) -> Self {
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        Self { passphrase, stretch: Stretch { cost: Cost::DEFAULT, salt } }
    }
}

/// Writes a new key file and syncs it with its folder. If anything fails after
/// the file was created it is removed again.
pub fn create<T: KeyFile>(path: &Path, key: &T) -> Result<()> {
    create_as(path, key, None)
}

/// The same, sealed with a passphrase if there is one.
pub fn create_as<T: KeyFile>(path: &Path, key: &T, seal: Option<&SealWith<'_>>) -> Result<()> {
    let text = text_of(key, seal).map_err(|fault| KeysError::KeyFile { path: path.to_owned(), fault })?;
    create_file(path, &text, if T::SECRET { 0o600 } else { 0o644 })
}

fn text_of<T: KeyFile>(key: &T, seal: Option<&SealWith<'_>>) -> std::result::Result<SecretText, FileFault> {
    key.check().map_err(FileFault::Content)?;
    let title = Title { role: T::ROLE, vault: key.vault(), note: T::NOTE };
    let body = encode_body(key);
    match seal {
        None => Ok(key_file::write(&title, &body)),
        Some(_) if !T::SECRET => Err(FileFault::Public),
        Some(seal) => Ok(key_file::write_sealed(&title, &body, seal.passphrase, &seal.stretch)),
    }
}

/// Puts a key file in the place of another of its role, sealed with a passphrase if
/// there is one: whoever is killed leaves one of the two, whole.
pub fn replace<T: KeyFile>(path: &Path, key: &T, seal: Option<&SealWith<'_>>) -> Result<()> {
    let fault = |fault| KeysError::KeyFile { path: path.to_owned(), fault };
    let text = text_of(key, seal).map_err(fault)?;
    place::replace(path, &text, if T::SECRET { 0o600 } else { 0o644 }, None)
}

/// Writes a card to a new file and syncs it with its folder.
pub fn create_card(path: &Path, card: &Card) -> Result<()> {
    create_file(path, &card.to_text(), 0o600)
}

/// Writes any secret text to a new file, for its owner alone, and syncs it with its folder.
pub fn create_text(path: &Path, text: &SecretText) -> Result<()> {
    create_file(path, text, 0o600)
}

fn create_file(path: &Path, text: &SecretText, mode: u32) -> Result<()> {
    let fault = |fault| KeysError::KeyFile { path: path.to_owned(), fault };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| {
        fault(if error.kind() == ErrorKind::AlreadyExists { FileFault::Exists } else { FileFault::Io(error) })
    })?;
    let written =
        file.write_all(text.expose_secret().as_bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
    written.map_err(|error| {
        // The first error is the one to report; a leftover is refused as truncated.
        let _ = std::fs::remove_file(path);
        fault(FileFault::Io(error))
    })
}

/// Syncs every folder above, also those that were there: who made them may have
/// been killed before its sync.
fn sync_way(path: &Path) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let device = path.metadata()?.dev();
    for above in path.ancestors().skip(1) {
        if above.metadata()?.dev() != device {
            break;
        }
        match File::open(above).and_then(|folder| folder.sync_all()) {
            // Where we may not look we made nothing.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A key file that was read.
pub enum Loaded<T> {
    /// It was not sealed.
    Open(T),
    /// It takes a passphrase.
    Sealed(SealedFile<T>),
}

/// A sealed key file in memory.
pub struct SealedFile<T> {
    path: PathBuf,
    vault: VaultId,
    body: SealedBody,
    role: PhantomData<fn() -> T>,
}

impl<T: KeyFile> SealedFile<T> {
    /// Opens and checks it. A wrong passphrase is [`FileFault::WrongPassphrase`].
    pub fn open(&self, passphrase: &Passphrase) -> Result<T> {
        let opened = self.body.open(passphrase).and_then(|body| decode_body(self.vault, &body));
        opened.map_err(|fault| KeysError::KeyFile { path: self.path.clone(), fault })
    }
}

/// Loads a key file that is not sealed, and checks it.
pub fn load<T: KeyFile>(path: &Path) -> Result<T> {
    match load_any(path)? {
        Loaded::Open(key) => Ok(key),
        Loaded::Sealed(file) => Err(KeysError::KeyFile { path: file.path, fault: FileFault::Sealed }),
    }
}

/// Loads a key file; one that is sealed is for the caller to open.
pub fn load_any<T: KeyFile>(path: &Path) -> Result<Loaded<T>> {
    let fault = |fault| KeysError::KeyFile { path: path.to_owned(), fault };
    let bytes = read_file(path, T::SECRET).map_err(fault)?;
    decode_any(path, bytes.expose_secret()).map_err(fault)
}

/// Reads the bytes of a key file that came another way than from a path; `named` is
/// what errors of a sealed one call it.
pub fn decode_any<T: KeyFile>(named: &Path, bytes: &[u8]) -> std::result::Result<Loaded<T>, FileFault> {
    match key_file::read(T::ROLE, bytes)? {
        (vault, Body::Plain(body)) => decode_body(vault, &body).map(Loaded::Open),
        (_, Body::Sealed(_)) if !T::SECRET => Err(FileFault::Public),
        (vault, Body::Sealed(body)) => {
            Ok(Loaded::Sealed(SealedFile { path: named.to_owned(), vault, body, role: PhantomData }))
        }
    }
}

/// The same for a key file that is not sealed.
pub fn decode<T: KeyFile>(bytes: &[u8]) -> std::result::Result<T, FileFault> {
    match decode_any(Path::new(""), bytes)? {
        Loaded::Open(key) => Ok(key),
        Loaded::Sealed(_) => Err(FileFault::Sealed),
    }
}

fn decode_body<T: KeyFile>(vault: VaultId, body: &SecretBytes) -> std::result::Result<T, FileFault> {
    let malformed = FileFault::Content("its body is not that of its role");
    let Ok(key) = minicbor::decode::<T>(body.expose_secret()) else { return Err(malformed) };
    if encode_body(&key).expose_secret() != body.expose_secret() {
        return Err(FileFault::Content("its body is not in its canonical encoding"));
    }
    if key.vault() != vault {
        return Err(FileFault::Content("its vault line does not agree with its body"));
    }
    key.check().map_err(FileFault::Content)?;
    Ok(key)
}

/// Mode and kind are checked on the open file, so nothing can be exchanged in
/// between.
fn read_file(path: &Path, is_secret: bool) -> std::result::Result<SecretBytes, FileFault> {
    let missing = |error: std::io::Error| {
        if error.kind() == ErrorKind::NotFound { FileFault::Missing } else { FileFault::Io(error) }
    };
    let file = File::open(path).map_err(missing)?;
    let metadata = file.metadata().map_err(FileFault::Io)?;
    if !metadata.is_file() {
        return Err(FileFault::NotAFile);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if is_secret && mode & 0o077 != 0 {
        return Err(FileFault::TooOpen { mode, command_path: quoted(path) });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(FileFault::NotAKeyFile);
    }
    // One byte more than it has, so that the buffer never grows.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    let read = file.take(metadata.len()).read_to_end(&mut bytes);
    let bytes = SecretBytes::new(bytes);
    read.map_err(FileFault::Io)?;
    Ok(bytes)
}

/// A path as a shell takes it. The same stands in `backends/src/secret_source.rs`: neither
/// crate may import the other, and there is none below both.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=,:@%".contains(letter);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The body's CBOR, written into a buffer of its exact length.
fn encode_body<T: KeyFile>(key: &T) -> SecretBytes {
    let mut count = Count(0);
    minicbor::encode(key, &mut count).expect("counting does not fail");
    let mut body = Vec::with_capacity(count.0);
    minicbor::encode(key, &mut body).expect("encoding into memory does not fail");
    SecretBytes::new(body)
}

struct Count(usize);

impl minicbor::encode::Write for Count {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> std::result::Result<(), Self::Error> {
        self.0 += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
