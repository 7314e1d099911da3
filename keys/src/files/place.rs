//! A file put in the place of another.
//!
//! What always holds: the new file is whole and synced under a name of ours before it
//! takes the old one's; whoever is killed leaves one of the two; what a link points to is
//! what is replaced, so that no second name keeps what was to go; no file of anybody else
//! is touched.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{create_file, read_file, sync_folder};
use crate::error::{FileFault, KeysError, Result};
use crate::secret::SecretText;

fn fault(path: &Path, fault: FileFault) -> KeysError {
    KeysError::KeyFile { path: path.to_owned(), fault }
}

/// The file itself behind a path that may be a link; the path where nothing is there
/// yet. A file of several names is refused: the others would keep what stands in it.
pub fn place(path: &Path) -> Result<PathBuf> {
    let found = path.canonicalize().and_then(|place| Ok((place.metadata()?.nlink(), place)));
    match found {
        Ok((1, place)) => Ok(place),
        Ok((names, _)) => Err(fault(path, FileFault::Names { names })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(fault(path, FileFault::Io(error))),
    }
}

/// Beside it first, synced, then over it by its name; if `was` is said, only while the
/// file has these bytes.
pub(super) fn replace(path: &Path, text: &SecretText, mode: u32, was: Option<&[u8]>) -> Result<()> {
    let to = place(path)?;
    let beside = beside(&to);
    sweep(&to);
    create_file(&beside, text, mode)?;
    let is_as_it_was = match was {
        None => Ok(()),
        Some(was) => match read_file(&to, true) {
            Ok(now) if now.expose_secret() == was => Ok(()),
            Ok(_) => Err(FileFault::Changed),
            Err(why) => Err(why),
        },
    };
    let placed = is_as_it_was.and_then(|()| std::fs::rename(&beside, &to).map_err(FileFault::Io));
    placed.and_then(|()| sync_folder(&to).map_err(FileFault::Io)).map_err(|why| {
        // The first error is the one to report; the next run removes a leftover.
        let _ = std::fs::remove_file(&beside);
        fault(path, why)
    })
}

/// Likewise bytes that are not secret, under a name of the key folder.
pub fn replace_public(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = beside(path);
    sweep(path);
    let written = std::fs::write(&beside, bytes)
        .and_then(|()| File::open(&beside)?.sync_all())
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|error| fault(path, FileFault::Io(error)))
}

/// `.NAME.PROCESS.new` in the same folder.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

/// What killed runs left half written. Whatever cannot be removed is in nobody's way.
fn sweep(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_ours = |found: &str| {
        let number = found.strip_prefix(&format!(".{name}.")).and_then(|rest| rest.strip_suffix(".new"));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_ours(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
