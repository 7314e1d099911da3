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
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use minicbor::{Decode, Encode};
use vault_format::VaultId;

use crate::card::Card;
use crate::error::{FileFault, KeysError, Result};
use crate::key_file::{self, FILE_BYTES_MAX, Title};
use crate::secret::{SecretBytes, SecretText};

mod roles;

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

/// Writes a new key file and syncs it with its folder. If anything fails after
/// the file was created it is removed again.
pub fn create<T: KeyFile>(path: &Path, key: &T) -> Result<()> {
    let fault = |fault| KeysError::KeyFile { path: path.to_owned(), fault };
    key.check().map_err(|reason| fault(FileFault::Content(reason)))?;
    let title = Title { role: T::ROLE, vault: key.vault(), note: T::NOTE };
    let text = key_file::write(&title, &encode_body(key));
    create_file(path, &text, if T::SECRET { 0o600 } else { 0o644 })
}

/// Puts a key file in the place of another of its role: beside it first, synced, then
/// over it by its name, so that whoever is killed leaves one of the two, whole.
pub fn replace<T: KeyFile>(path: &Path, key: &T) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let fault = |error| KeysError::KeyFile { path: path.to_owned(), fault: FileFault::Io(error) };
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fault(error)),
        // What a killed run left half written.
        Ok(()) | Err(_) => {}
    }
    create(&beside, key)?;
    std::fs::rename(&beside, path).and_then(|()| sync_folder(path)).map_err(fault)
}

/// Likewise bytes that are not secret, under a name of the key folder.
pub fn replace_public(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let written = std::fs::write(&beside, bytes)
        .and_then(|()| File::open(&beside)?.sync_all())
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|error| KeysError::KeyFile { path: path.to_owned(), fault: FileFault::Io(error) })
}

/// Writes a card to a new file and syncs it with its folder.
pub fn create_card(path: &Path, card: &Card) -> Result<()> {
    create_file(path, &card.to_text(), 0o600)
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

/// Loads a key file and checks it.
pub fn load<T: KeyFile>(path: &Path) -> Result<T> {
    read_file(path, T::SECRET)
        .and_then(|bytes| decode(bytes.expose_secret()))
        .map_err(|fault| KeysError::KeyFile { path: path.to_owned(), fault })
}

/// Reads the bytes of a key file that came another way than from a path.
pub fn decode<T: KeyFile>(bytes: &[u8]) -> std::result::Result<T, FileFault> {
    let (vault, body) = key_file::read(T::ROLE, bytes)?;
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

/// A path as a shell takes it.
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
