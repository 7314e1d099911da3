//! The end of a ceremony: its transcript, and what becomes of the seed's files.
//!
//! What always holds: the cards are committed when this begins, and nothing here takes
//! that back; a seed that stays on the host is named, whichever it is; what is removed is
//! the file, not a link to it.

use std::path::{Path, PathBuf};

use keys::ceremony::Rehearsed;
use keys::ceremony::transcript::Transcript;
use keys::first::KeyFolder;

use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure};
use crate::session::Session;

/// The transcript, signed by the root.
pub(crate) fn write_transcript(
    session: &Session,
    path: &Path,
    transcript: &Transcript,
    rehearsed: &Rehearsed,
) -> Result<(), Failure> {
    let terms = rehearsed.terms();
    let root = rehearsed.seed().root_key(terms.generation);
    let text = transcript.signed(terms, &rehearsed.card_set(0).cards, &root);
    let absolute = std::path::absolute(path);
    let placed = absolute
        .and_then(|path| backends::disk::place_file(&backends::disk::RealDisk, &path, text.as_bytes()))
        .map_err(|error| {
            let path = path.display();
            Failure::new(
                exit::ERROR,
                format!("the cards count, and the transcript could not be written to {path}: {error}"),
            )
        });
    placed?;
    session.output.say(format!("transcript  {}: print it and have it initialled; it holds no secret", path.display()));
    Ok(())
}

/// What becomes of the seed file, and of seeds a rotation left.
pub(crate) fn end_with_the_seed(
    session: &Session,
    folder: &KeyFolder,
    terminal: Option<Terminal>,
    remove_seed: bool,
) -> Result<(), Failure> {
    let output = session.output;
    let mut here: Vec<PathBuf> = folder.seeds_here();
    here.extend(Some(folder.read_key()).filter(|path| path.exists()));
    if here.is_empty() {
        return Ok(());
    }
    let list = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let agreed = match terminal.filter(|_| !remove_seed) {
        Some(terminal) => {
            terminal.say(format!("On this host: {}", list(&here)));
            // Nobody there to answer is no: the cards count already.
            terminal.agrees("Remove the seed and the read key from this host now? Type yes: ").unwrap_or_default()
        }
        None => false,
    };
    let is_in_force = |path: &PathBuf| *path == folder.master_seed() || *path == folder.read_key();
    // An option removes what it names; a person saw the list. What a rotation has begun is not dealt yet.
    let (gone, left): (Vec<PathBuf>, Vec<PathBuf>) = here
        .into_iter()
        .partition(|path| *path != folder.next_seed() && (agreed || (remove_seed && is_in_force(path))));
    for path in &gone {
        remove(path)?;
    }
    if left.is_empty() {
        output.say("The seed and the read key were removed from this host: it can write and no longer read.");
    } else if gone.is_empty() {
        output.warn(format!(
            "the seed is still on this host. Once the cards are with their holders, remove {}",
            list(&left)
        ));
    } else {
        output.warn(format!(
            "the seed in force and the read key were removed from this host. Still here, and they open what was sealed \
             before the rotation: {}. The new cards open that, too: remove them",
            list(&left)
        ));
    }
    Ok(())
}

/// The file, and first the one behind it if it is a link: else the key would stay on the
/// host under a name that nobody is told.
fn remove(path: &Path) -> Result<(), Failure> {
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    if is_link && path.exists() {
        let behind = keys::files::place(path).map_err(|error| {
            Failure::new(exit::ERROR, format!("{error}. The cards are good; remove the seed by hand"))
        })?;
        remove(&behind)?;
    }
    let removed = std::fs::remove_file(path);
    if removed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    removed.map_err(|error| {
        Failure::new(
            exit::ERROR,
            format!("removing {}: {error}. The cards are good; remove the file by hand", path.display()),
        )
    })
}
