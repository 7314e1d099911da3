//! The key files of this host in a rotation.
//!
//! What always holds: what cannot be put over is found out before anything is in force;
//! each file is put over the old one whole; the seeds take their names last, so that a run
//! that was killed goes on with the same seed.

use std::path::Path;

use keys::files::{self, JanitorGeneration, JanitorKey, MasterSeed, OperatorKey, ReadKey, VaultPublic, WriterKey};
use keys::first::KeyFolder;
use vault_ops::vault::Vault;

use crate::exit::{self, Failure};
use crate::passphrase::key_failure;
use crate::session::Session;

/// Before anything is in force: a file that cannot be put over would stop it half way.
pub(crate) fn can_be_replaced(folder: &KeyFolder) -> Result<(), Failure> {
    let files = [
        folder.writer_key(),
        folder.operator_key(),
        folder.janitor_key(),
        folder.read_key(),
        folder.public(),
        folder.master_seed(),
    ];
    files.iter().try_for_each(|path| files::place(path).map(drop).map_err(key_failure))?;
    [folder.master_seed(), folder.next_seed()].iter().try_for_each(|path| refuse_link(path))
}

/// The seeds take each other's names at the end. Behind a link, the name would go and the
/// seed would stay where it is, under no name that says which it is.
fn refuse_link(path: &Path) -> Result<(), Failure> {
    let Ok(to) = std::fs::read_link(path) else { return Ok(()) };
    let to = path.parent().unwrap_or(Path::new(".")).join(to);
    let (path, to) = (path.display(), to.display());
    Err(Failure::new(
        exit::KEY,
        format!(
            "{path} is a link to {to}: a rotation renames seeds, and would leave that one behind. Nothing was changed. Put \
             the file itself there: mv -f {to} {path}. Or, with its cards at hand (--card FILE..), remove the link and keep \
             the file where it is"
        ),
    ))
}

/// The key files of this host follow, each whole; the seeds last.
pub(crate) fn settle(session: &Session, folder: &KeyFolder, next: &MasterSeed, vault: &Vault) -> Result<(), Failure> {
    if folder.writer_key().exists() {
        let mut key: WriterKey = session.key(&folder.writer_key())?;
        if vault.follow(&mut key)? {
            session.replace_key(&folder.writer_key(), &key)?;
        }
    }
    if folder.operator_key().exists() {
        let mut key: OperatorKey = session.key(&folder.operator_key())?;
        if vault.follow_operator(&mut key)? {
            session.replace_key(&folder.operator_key(), &key)?;
        }
    }
    if folder.janitor_key().exists() {
        let mut key: JanitorKey = session.key(&folder.janitor_key())?;
        let new = JanitorGeneration { generation: next.generation, janitor: next.seed.janitor_key(next.generation) };
        if key.follow(&vault.root, &vault.record, new).map_err(key_failure)? {
            session.replace_key(&folder.janitor_key(), &key)?;
        }
    }
    if folder.read_key().exists() {
        let there: ReadKey = session.key(&folder.read_key())?;
        if there.root != vault.root {
            let mut key = ReadKey::from_seed(&next.seed, next.generation, next.vault);
            vault.complete(&mut key)?;
            session.replace_key(&folder.read_key(), &key)?;
        }
    }
    let public = VaultPublic { vault: vault.id, root: vault.root.clone() };
    files::replace(&folder.public(), &public, None).map_err(key_failure)?;
    if folder.master_seed().exists() {
        let old: MasterSeed = session.key(&folder.master_seed())?;
        if old.generation < next.generation {
            rename(&folder.master_seed(), &folder.former_seed(old.generation))?;
        }
    }
    match std::fs::remove_file(folder.next_record()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io_failure("removing", &folder.next_record(), &error));
        }
        Ok(()) | Err(_) => {}
    }
    // Last: as long as it is there, the next run goes on with this rotation.
    if folder.next_seed().exists() {
        rename(&folder.next_seed(), &folder.master_seed())?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    let renamed = std::fs::rename(from, to).and_then(|()| {
        let folder = to.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    });
    renamed.map_err(|error| io_failure("renaming", from, &error))
}

fn io_failure(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(exit::ERROR, format!("{what} {}: {error}", path.display()))
}
