//! Whom restored files belong to.
//!
//! What always holds: only a privileged restore gives files away; set-id bits are kept
//! only where the owner is the one meant.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::fs::{Gid, Stat, Uid};
use vault_format::Blob;
use vault_format::tree::Entry;

/// Who shall own what is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerRule {
    /// Whoever has the recorded numbers: right for a disk that replaces another.
    #[default]
    Numbers,
    /// Whoever has the recorded names on this host; the numbers where it knows no such name.
    Names,
    /// Whoever restores.
    Nobody,
}

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// As the system's calls take it.
    pub(crate) fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    /// The one something belongs to.
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { uid: stat.st_uid, gid: stat.st_gid }
    }

    /// The one recorded, by number.
    pub(crate) fn recorded(entry: &Entry) -> Self {
        Self { uid: entry.uid, gid: entry.gid }
    }
}

/// The numbers that this host's file of users or of groups has for names. A missing file
/// knows nobody.
pub(crate) fn numbers_by_name(path: &Path) -> BTreeMap<Blob, u32> {
    parse_numbers(&std::fs::read(path).unwrap_or_default())
}

/// Both files have the name first and the number third. A number may have several names.
fn parse_numbers(text: &[u8]) -> BTreeMap<Blob, u32> {
    let mut numbers = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else { continue };
        if let Some(number) = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()) {
            // The first line of a name is the one that counts for the system.
            numbers.entry(Blob(name.to_vec())).or_insert(number);
        }
    }
    numbers
}

/// A rule with the names of this host.
pub(crate) struct Giving {
    rule: OwnerRule,
    as_root: bool,
    users: BTreeMap<Blob, u32>,
    groups: BTreeMap<Blob, u32>,
}

impl Giving {
    pub(crate) fn new(rule: OwnerRule, as_root: bool) -> Self {
        let numbers = |path: &str| match rule {
            OwnerRule::Names => numbers_by_name(Path::new(path)),
            OwnerRule::Numbers | OwnerRule::Nobody => BTreeMap::new(),
        };
        Self { rule, as_root, users: numbers("/etc/passwd"), groups: numbers("/etc/group") }
    }

    /// Whom an entry is given to, if it is given away.
    pub(crate) fn owner(&self, entry: &Entry) -> Option<Owner> {
        let known =
            |names: &BTreeMap<Blob, u32>, name: &Option<Blob>| name.as_ref().and_then(|name| names.get(name)).copied();
        if !self.as_root {
            return None;
        }
        match self.rule {
            OwnerRule::Nobody => None,
            OwnerRule::Numbers => Some(Owner::recorded(entry)),
            OwnerRule::Names => Some(Owner {
                uid: known(&self.users, &entry.user).unwrap_or(entry.uid),
                gid: known(&self.groups, &entry.group).unwrap_or(entry.gid),
            }),
        }
    }

    /// Whether it is a loss that the entry now belongs to `me`.
    pub(crate) fn loses_owner(&self, entry: &Entry, me: Owner) -> bool {
        self.rule != OwnerRule::Nobody && !self.as_root && Owner::recorded(entry) != me
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_number_is_known_and_broken_lines_name_nobody() {
        let numbers = parse_numbers(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:\nbroken\n:x:x:\nann:x:1000:\nann:x:1001:");
        let expected = [("ann", 1000), ("root", 0), ("toor", 0)].map(|(name, number)| (Blob(name.into()), number));
        assert_eq!(numbers, BTreeMap::from(expected));
    }
}
