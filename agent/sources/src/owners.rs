//! Whom restored files belong to.
//!
//! What always holds: only a privileged restore gives files away; set-id bits are kept
//! only where the owner is the one meant.

use std::collections::BTreeMap;

use rustix::fs::{Gid, Stat, Uid};
use vault_format::Blob;
use vault_format::tree::Entry;

use crate::accounts::Accounts;

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

/// A rule with the names of this host.
pub(crate) struct Giving {
    rule: OwnerRule,
    as_root: bool,
    users: BTreeMap<Blob, u32>,
    groups: BTreeMap<Blob, u32>,
}

impl Giving {
    pub(crate) fn new(rule: OwnerRule, as_root: bool) -> Self {
        let numbers = |accounts: Accounts| match rule {
            OwnerRule::Names => accounts.numbers(),
            OwnerRule::Numbers | OwnerRule::Nobody => BTreeMap::new(),
        };
        Self { rule, as_root, users: numbers(Accounts::Users), groups: numbers(Accounts::Groups) }
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
