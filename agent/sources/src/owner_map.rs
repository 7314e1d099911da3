//! Other owners: who shall have what belonged to whom, for those who move between machines.
//!
//! What always holds: every owner the table gives to is known before anything is written; it changes
//! entries where they come out of the point, so that a plan, a restore and a comparison go by
//! the same; nobody is given to two; a name counts before a number.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use vault_format::Blob;
use vault_format::tree::{Entry, Xattr};
use vault_ops::{OpsError, Result};

use crate::accounts::Accounts;
use crate::owners::OwnerRule;

/// A line of the table as it is typed: `FROM=TO`, each a name or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerLine {
    from: Account,
    to: Account,
}

/// A user or a group. What is all digits is a number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Account {
    Number(u32),
    Name(String),
}

impl FromStr for OwnerLine {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (from, to) = text.split_once('=').ok_or("write it as FROM=TO, each a name or a number")?;
        Ok(Self { from: account(from)?, to: account(to)? })
    }
}

fn account(text: &str) -> std::result::Result<Account, String> {
    if text.is_empty() {
        return Err("write it as FROM=TO, each a name or a number".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Account::Name(text.to_owned()));
    }
    // The largest number means "leave it" to the system's calls.
    let number = text.parse().ok().filter(|&number| number != u32::MAX);
    number.map(Account::Number).ok_or_else(|| format!("{text} is no number that the system gives to anybody"))
}

impl std::fmt::Display for Account {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(to, "{number}"),
            Self::Name(name) => write!(to, "{name}"),
        }
    }
}

/// Who gets what belonged to whom.
#[derive(Debug, Default)]
pub struct OwnerMap {
    users: Table,
    groups: Table,
}

/// The lines for users, or for groups.
#[derive(Debug, Default)]
struct Table {
    names: BTreeMap<Blob, Heir>,
    numbers: BTreeMap<u32, Heir>,
}

#[derive(Debug)]
struct Heir {
    number: u32,
    /// Whether anything was met that belonged to whom the line names.
    is_met: AtomicBool,
}

impl OwnerMap {
    /// A table for a restore under `rule`. Refused where nothing is given away: without root's
    /// rights, or under [`OwnerRule::Nobody`]; where this host does not know a name; where two
    /// lines are for one.
    pub fn new(rule: OwnerRule, as_root: bool, users: &[OwnerLine], groups: &[OwnerLine]) -> Result<Self> {
        if users.is_empty() && groups.is_empty() {
            return Ok(Self::default());
        }
        if rule == OwnerRule::Nobody {
            return refused(
                "--owner nobody gives no file away, so --map-user and --map-group can change nothing. Nothing was \
                 written. Leave out one or the other"
                    .to_owned(),
            );
        }
        if !as_root {
            return refused(
                "only root can give files away, so --map-user and --map-group can change nothing. Nothing was written. \
                 Run it as root, or leave them out: all that is restored belongs to you then"
                    .to_owned(),
            );
        }
        Ok(Self {
            users: Table::of(users, &Kind { option: "--map-user", what: "user", accounts: Accounts::Users })?,
            groups: Table::of(groups, &Kind { option: "--map-group", what: "group", accounts: Accounts::Groups })?,
        })
    }

    /// Changes whom an entry belongs to, also in its access lists, as far as the table says so.
    pub(crate) fn apply(&self, entry: &mut Entry) {
        if let Some(number) = self.users.find(entry.user.as_ref(), entry.uid) {
            (entry.uid, entry.user) = (number, None);
        }
        if let Some(number) = self.groups.find(entry.group.as_ref(), entry.gid) {
            (entry.gid, entry.group) = (number, None);
        }
        if !self.users.numbers.is_empty() || !self.groups.numbers.is_empty() {
            entry.xattrs.iter_mut().for_each(|xattr| self.apply_to_acl(xattr));
        }
    }

    /// Lines that nothing was met for, as `--map-user FROM`.
    pub fn unmet(&self) -> Vec<String> {
        let of = |option: &str, table: &Table| -> Vec<String> {
            let names = table.names.iter().map(|(name, heir)| (String::from_utf8_lossy(&name.0).into_owned(), heir));
            let numbers = table.numbers.iter().map(|(number, heir)| (number.to_string(), heir));
            let unmet = names.chain(numbers).filter(|(_, heir)| !heir.is_met.load(Ordering::Relaxed));
            unmet.map(|(from, _)| format!("{option} {from}")).collect()
        };
        [of("--map-user", &self.users), of("--map-group", &self.groups)].concat()
    }

    /// Access lists hold numbers and no names. Their bytes are those of `acl(5)` on Linux: a
    /// version, then 8 bytes for each line: tag, permissions, number.
    fn apply_to_acl(&self, xattr: &mut Xattr) {
        const VERSION: [u8; 4] = 2_u32.to_le_bytes();
        const USER: [u8; 2] = 0x02_u16.to_le_bytes();
        const GROUP: [u8; 2] = 0x08_u16.to_le_bytes();
        if !matches!(&xattr.name.0[..], b"system.posix_acl_access" | b"system.posix_acl_default") {
            return;
        }
        let Some(lines) = xattr.value.0.strip_prefix(&VERSION).map(<[u8]>::len) else { return };
        let start = xattr.value.0.len() - lines;
        let (lines, _) = xattr.value.0[start..].as_chunks_mut::<8>();
        for line in lines {
            let [tag_0, tag_1, _, _, id @ ..] = line;
            let table = match [*tag_0, *tag_1] {
                USER => &self.users,
                GROUP => &self.groups,
                _ => continue,
            };
            if let Some(number) = table.find(None, u32::from_le_bytes(*id)) {
                *id = number.to_le_bytes();
            }
        }
    }
}

/// What lines are about, for people.
struct Kind {
    option: &'static str,
    what: &'static str,
    accounts: Accounts,
}

impl Table {
    fn of(lines: &[OwnerLine], kind: &Kind) -> Result<Self> {
        let Kind { option, what, accounts } = kind;
        let (known, file) = (accounts.numbers(), accounts.file());
        let mut table = Self::default();
        for OwnerLine { from, to } in lines {
            let number = match to {
                Account::Number(number) => *number,
                Account::Name(name) => match known.get(&Blob(name.clone().into_bytes())) {
                    Some(number) => *number,
                    None => {
                        return refused(format!(
                            "{option} {from}={to}: this host knows no {what} {to} ({file}). Nothing was written. Make \
                             that {what} first, or give its number: {option} {from}=NUMBER"
                        ));
                    }
                },
            };
            let heir = Heir { number, is_met: AtomicBool::new(false) };
            let before = match from {
                Account::Number(from) => table.numbers.insert(*from, heir),
                Account::Name(from) => table.names.insert(Blob(from.clone().into_bytes()), heir),
            };
            if before.is_some_and(|before| before.number != number) {
                return refused(format!(
                    "{option} gives what belonged to {what} {from} to two. Nothing was written. Say once who gets it"
                ));
            }
        }
        Ok(table)
    }

    fn find(&self, name: Option<&Blob>, number: u32) -> Option<u32> {
        let heir = name.and_then(|name| self.names.get(name)).or_else(|| self.numbers.get(&number))?;
        heir.is_met.store(true, Ordering::Relaxed);
        Some(heir.number)
    }
}

fn refused<T>(what: String) -> Result<T> {
    Err(OpsError::Refused { what })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_meant_and_nonsense_is_none() {
        let line = |from, to| Ok(OwnerLine { from, to });
        assert_eq!("ann=7".parse(), line(Account::Name("ann".to_owned()), Account::Number(7)));
        assert_eq!("0=u7".parse(), line(Account::Number(0), Account::Name("u7".to_owned())));
        for text in ["", "ann", "=", "ann=", "=7", "ann=4294967295", "4294967296=1"] {
            assert!(text.parse::<OwnerLine>().is_err(), "{text}");
        }
    }

    /// Written down by hand from what `setfacl -m u:1000:rw,g:1000:r` leaves.
    #[test]
    fn access_lists_are_given_to_the_same() {
        let acl = |user: u8, group: u8| {
            let user = [2, 0, 6, 0, user, 0, 0, 0];
            let group = [8, 0, 4, 0, group, 0, 0, 0];
            let none = |tag| [tag, 0, 7, 0, 255, 255, 255, 255];
            let lines = [none(1), user, none(4), group, none(16), none(32)].concat();
            [&[2, 0, 0, 0][..], &lines].concat()
        };
        let lines = |text: &str| vec![text.parse().unwrap()];
        let map = OwnerMap::new(OwnerRule::Numbers, true, &lines("100=7"), &lines("100=8")).unwrap();
        let xattr = |name: &str, value| Xattr { name: Blob(name.into()), value: Blob(value) };
        for (name, after) in [("system.posix_acl_access", acl(7, 8)), ("user.posix_acl_access", acl(100, 100))] {
            let mut xattr = xattr(name, acl(100, 100));
            map.apply_to_acl(&mut xattr);
            assert_eq!(xattr.value.0, after, "{name}");
        }
        for broken in [vec![], vec![2, 0, 0], vec![3, 0, 0, 0, 2, 0, 6, 0, 100, 0, 0, 0], vec![2, 0, 0, 0, 2, 0, 6]] {
            let mut xattr = xattr("system.posix_acl_default", broken.clone());
            map.apply_to_acl(&mut xattr);
            assert_eq!(xattr.value.0, broken);
        }
    }
}
