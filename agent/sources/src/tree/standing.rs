//! What becomes of something that stands where an entry of the point belongs.
//!
//! What always holds: a directory is never replaced by anything else, and nothing is taken for the
//! same before its bytes were compared; by default only what an interrupted run of
//! the same restore leaves is accepted at all.

use rustix::fs::Stat;
use vault_format::tree::{Entry, EntryKind};

use crate::metadata::{kind_of, size_of};

/// What may be done to what is in the target already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// The target is new or empty, or holds what an interrupted run of the same restore left.
    #[default]
    Refuse,
    /// What stands stays; what is missing is added.
    Never,
    /// A file is replaced by one that was modified later.
    IfNewer,
    /// Whatever differs is replaced.
    Always,
}

/// What to do at one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing stands there.
    Create,
    /// A directory on both sides.
    Enter,
    /// It looks the same: compare, and write it anew if it differs.
    Compare,
    /// It goes, and the entry takes its place.
    Replace,
    /// It stays, as was asked for.
    Keep,
    /// It stays, though that was not asked for.
    Conflict(&'static str),
    /// Somebody else put it there.
    Foreign(&'static str),
}

impl Overwrite {
    /// What to do with `entry` where `standing` is.
    pub(crate) fn decide(self, entry: &Entry, standing: Option<&Stat>) -> Decision {
        let Some(standing) = standing else { return Decision::Create };
        let is_dir = kind_of(standing) == Some(EntryKind::Directory);
        match (entry.kind == EntryKind::Directory, is_dir) {
            (true, true) => Decision::Enter,
            (false, true) => match self {
                Self::Refuse => Decision::Foreign("a directory stands in its place"),
                Self::Never | Self::IfNewer | Self::Always => Decision::Conflict(
                    "a directory stands in its place, and a directory is never replaced: move it away",
                ),
            },
            (_, false) => self.decide_file(entry, standing),
        }
    }

    fn decide_file(self, entry: &Entry, standing: &Stat) -> Decision {
        match self {
            Self::Refuse => match differs(entry, standing) {
                None => Decision::Compare,
                Some(why) => Decision::Foreign(why),
            },
            Self::Never => Decision::Keep,
            Self::IfNewer if (entry.mtime_s, entry.mtime_ns) <= (standing.st_mtime, standing.st_mtime_nsec as u32) => {
                Decision::Keep
            }
            Self::Always if differs(entry, standing).is_none() => Decision::Compare,
            Self::IfNewer | Self::Always => Decision::Replace,
        }
    }

    /// Whether directories that stood there get the recorded attributes.
    pub(crate) fn sets_directories(self) -> bool {
        match self {
            Self::Refuse | Self::Always => true,
            Self::Never | Self::IfNewer => false,
        }
    }
}

/// Why something cannot be the entry as a restore leaves it, as far as its inode says.
fn differs(entry: &Entry, standing: &Stat) -> Option<&'static str> {
    if kind_of(standing) != Some(entry.kind) {
        return Some("something else stands in its place");
    }
    match entry.kind {
        EntryKind::File if size_of(standing) != entry.size => Some("a file of another size stands in its place"),
        EntryKind::File if !same_time(entry, standing) => Some("a file of another time stands in its place"),
        EntryKind::CharDevice | EntryKind::BlockDevice if standing.st_rdev != device_of(entry) => {
            Some("another device stands in its place")
        }
        EntryKind::File
        | EntryKind::Directory
        | EntryKind::Symlink
        | EntryKind::Fifo
        | EntryKind::CharDevice
        | EntryKind::BlockDevice
        | EntryKind::Socket => None,
    }
}

/// A file system may keep whole seconds only.
fn same_time(entry: &Entry, standing: &Stat) -> bool {
    standing.st_mtime == entry.mtime_s
        && (standing.st_mtime_nsec as u32 == entry.mtime_ns || standing.st_mtime_nsec == 0)
}

/// The number of a device as the system has it.
pub(crate) fn device_of(entry: &Entry) -> u64 {
    rustix::fs::makedev((entry.device >> 32) as u32, entry.device as u32)
}
