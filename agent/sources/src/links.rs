//! Files that have more than one name.
//!
//! What always holds: two entries get the same group only if they are the same
//! file in the same state, so a restore that makes one file of them loses
//! nothing. Groups count from 1 in the order of the walk: equal trees get equal
//! numbers.

use std::collections::BTreeMap;

use rustix::fs::Stat;
use vault_format::Blob;
use vault_format::tree::Entry;

use crate::descent::Identity;

/// The files with more than one name that were met so far.
#[derive(Default)]
pub(crate) struct Links {
    files: BTreeMap<Identity, FirstName>,
    groups: u64,
}

/// A file as it was when it was read under the first of its names.
struct FirstName {
    stamp: Stamp,
    entry: Entry,
}

/// Changes whenever a file or its metadata do, in seconds and nanoseconds.
#[derive(PartialEq, Eq)]
struct Stamp {
    content: (i64, u64),
    metadata: (i64, u64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self { content: (stat.st_mtime, stat.st_mtime_nsec), metadata: (stat.st_ctime, stat.st_ctime_nsec) }
    }
}

impl Links {
    /// The entry for a further name of a file that was read before. One that was
    /// touched since, or a new file with the number of one that is gone, is
    /// another file.
    pub(crate) fn other_name(&self, name: &[u8], stat: &Stat) -> Option<Entry> {
        let first = self.files.get(&Identity::of(stat)).filter(|first| first.stamp == Stamp::of(stat))?;
        Some(Entry { name: Blob(name.to_vec()), ..first.entry.clone() })
    }

    /// Gives the entry a group if its file, as it was before it was read, has
    /// other names.
    pub(crate) fn remember(&mut self, entry: &mut Entry, stat: &Stat) {
        if stat.st_nlink > 1 {
            self.groups += 1;
            entry.link_group = self.groups;
            let first = FirstName { stamp: Stamp::of(stat), entry: entry.clone() };
            self.files.insert(Identity::of(stat), first);
        }
    }
}
