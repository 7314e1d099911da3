//! What a directory source leaves out by rule: other file systems, marked
//! directories, caches, large files.
//!
//! What always holds: a rule never concerns what was named itself. Of a marked
//! directory, the directory and its mark are kept: a restore shows why it is empty.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags};
use vault_format::tree::EntryKind;
use vault_ops::{OpsError, Result};

use crate::descent::open_beneath;
use crate::metadata::kind_of;

const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// The first bytes of a tag; whatever follows is for people.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is left out below the paths named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What lies on another file system than the path named; the directory where it
    /// is mounted is kept, empty.
    pub one_file_system: bool,
    /// What lies beside a file of one of these names.
    pub if_present: Vec<OsString>,
    /// What lies beside a `CACHEDIR.TAG` with its signature.
    pub caches: bool,
    /// Files of more bytes.
    pub larger_than: Option<u64>,
}

impl Rules {
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |name: &&OsString| {
            let name = name.as_bytes();
            name.is_empty() || name == b"." || name == b".." || name.contains(&b'/')
        };
        match self.if_present.iter().find(wrong) {
            None => Ok(()),
            Some(name) => {
                Err(OpsError::Refused { what: format!("{} is not the name of a file in a directory", name.display()) })
            }
        }
    }

    /// The names that mark a directory among `names`, sorted; empty if none does.
    pub(crate) fn marks(&self, directory: BorrowedFd<'_>, names: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let has = |wanted: &[u8]| names.binary_search_by(|name| name.as_slice().cmp(wanted)).is_ok();
        let marked = self.if_present.iter().map(|name| name.as_bytes()).filter(|name| has(name));
        let tagged = self.caches && has(CACHE_TAG) && is_cache(directory);
        let mut marks: Vec<Vec<u8>> = marked.chain(tagged.then_some(CACHE_TAG)).map(<[u8]>::to_vec).collect();
        marks.sort();
        marks.dedup();
        marks
    }
}

/// Whether the tag is a file and begins as a tag does.
fn is_cache(directory: BorrowedFd<'_>) -> bool {
    let is_file = rustix::fs::statat(directory, CACHE_TAG, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| kind_of(&stat) == Some(EntryKind::File));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let Ok(file) = open_beneath(directory, CACHE_TAG, flags, Mode::empty()) else { return false };
    let mut begin = [0; CACHE_SIGNATURE.len()];
    is_file && rustix::io::pread(&file, &mut begin, 0).is_ok_and(|count| begin[..count] == *CACHE_SIGNATURE)
}
