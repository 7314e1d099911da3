//! The users and groups this host knows, from its own files.
//!
//! What always holds: of a number the first name counts, as `ls` shows it; of a name the
//! first number, as the system takes it; a line that is broken names nobody. Names that
//! only a directory service knows are left out.

use std::collections::BTreeMap;

use vault_format::Blob;

/// One of the files that both have the name first and the number third.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accounts {
    Users,
    Groups,
}

impl Accounts {
    /// Names by number. A missing file names nobody.
    pub(crate) fn names(self) -> BTreeMap<u32, Blob> {
        names(&self.text())
    }

    /// Numbers by name. A missing file knows nobody.
    pub(crate) fn numbers(self) -> BTreeMap<Blob, u32> {
        numbers(&self.text())
    }

    /// Where they stand.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/passwd",
            Self::Groups => "/etc/group",
        }
    }

    fn text(self) -> Vec<u8> {
        std::fs::read(self.file()).unwrap_or_default()
    }
}

fn names(text: &[u8]) -> BTreeMap<u32, Blob> {
    let mut names = BTreeMap::new();
    for (name, number) in lines(text) {
        names.entry(number).or_insert(name);
    }
    names
}

fn numbers(text: &[u8]) -> BTreeMap<Blob, u32> {
    let mut numbers = BTreeMap::new();
    for (name, number) in lines(text) {
        numbers.entry(name).or_insert(number);
    }
    numbers
}

fn lines(text: &[u8]) -> impl Iterator<Item = (Blob, u32)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((Blob(name.to_vec()), std::str::from_utf8(number).ok()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"root:x:0:0::/root:/bin/sh\ntoor:x:0:\nbroken\n:x:x:\nann:x:1000:100\nann:x:1001:";

    #[test]
    fn of_a_number_the_first_name_counts() {
        let expected = [(0, "root"), (1000, "ann"), (1001, "ann")].map(|(number, name)| (number, Blob(name.into())));
        assert_eq!(names(TEXT), BTreeMap::from(expected));
    }

    #[test]
    fn of_a_name_the_first_number_counts() {
        let expected = [("ann", 1000), ("root", 0), ("toor", 0)].map(|(name, number)| (Blob(name.into()), number));
        assert_eq!(numbers(TEXT), BTreeMap::from(expected));
    }
}
