//! Changing how a key file is sealed.
//!
//! What always holds: the file is opened and understood before anything is written;
//! the new file stands whole under the old name or not at all, and never over another that
//! came there meanwhile; only the seal changes.
//! What stood on the disk unsealed may still be found in its free blocks.

use std::path::Path;

use super::{
    AuditorKey, JanitorKey, KeyFile, Loaded, MasterSeed, MigratorKey, OperatorKey, ReadKey, SealWith, VaultPublic,
    WriterKey, decode_any, place, read_file, text_of,
};
use crate::error::{FileFault, KeysError, Result};
use crate::key_file;
use crate::passphrase::Passphrase;

/// Whether a key file of any role is sealed. Its content is not looked at.
pub fn is_sealed(path: &Path) -> Result<bool> {
    let fault = |fault| KeysError::KeyFile { path: path.to_owned(), fault };
    let bytes = read_file(path, false).map_err(fault)?;
    if key_file::role(bytes.expose_secret()).is_none() {
        return Err(fault(FileFault::NotAKeyFile));
    }
    let seal = bytes.expose_secret().split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"seal: "));
    Ok(seal.is_some_and(|seal| seal != b"none"))
}

/// Opens a key file of any role, with `old` if it is sealed, and writes it again under
/// `new`, or unsealed.
pub fn reseal(path: &Path, old: Option<&Passphrase>, new: Option<&SealWith<'_>>) -> Result<()> {
    let fault = |fault| KeysError::KeyFile { path: path.to_owned(), fault };
    // Refuses what cannot be put over.
    place::place(path)?;
    let bytes = read_file(path, true).map_err(fault)?;
    let bytes = bytes.expose_secret();
    match key_file::role(bytes) {
        Some(MasterSeed::ROLE) => again::<MasterSeed>(path, bytes, old, new),
        Some(ReadKey::ROLE) => again::<ReadKey>(path, bytes, old, new),
        Some(OperatorKey::ROLE) => again::<OperatorKey>(path, bytes, old, new),
        Some(WriterKey::ROLE) => again::<WriterKey>(path, bytes, old, new),
        Some(JanitorKey::ROLE) => again::<JanitorKey>(path, bytes, old, new),
        Some(AuditorKey::ROLE) => again::<AuditorKey>(path, bytes, old, new),
        Some(MigratorKey::ROLE) => again::<MigratorKey>(path, bytes, old, new),
        Some(VaultPublic::ROLE) => Err(fault(FileFault::Public)),
        Some(_) => Err(fault(FileFault::Content("this program does not know its role. Use a newer holdfast"))),
        None => Err(fault(FileFault::NotAKeyFile)),
    }
}

fn again<T: KeyFile>(path: &Path, bytes: &[u8], old: Option<&Passphrase>, new: Option<&SealWith<'_>>) -> Result<()> {
    let fault = |fault| KeysError::KeyFile { path: path.to_owned(), fault };
    let key: T = match (decode_any(path, bytes).map_err(fault)?, old) {
        (Loaded::Open(key), _) => key,
        (Loaded::Sealed(file), Some(old)) => file.open(old)?,
        (Loaded::Sealed(_), None) => return Err(fault(FileFault::Sealed)),
    };
    let text = text_of(&key, new).map_err(fault)?;
    place::replace(path, &text, 0o600, Some(bytes))
}
