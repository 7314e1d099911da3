//! Names of vaults, locations, sources, policies and drills.
//!
//! What always holds: a name can stand in a path, a metric's label, a command line and a
//! confirmation typed by hand, without quoting anywhere.

use std::borrow::Borrow;
use std::fmt;

/// 1 to 63 characters of `a-z 0-9 _ -`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

const NAME_CHARS_MAX: usize = 63;

impl Name {
    /// Checks a name; the error says what a name may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let rest = |c: char| first(c) || c == '_' || c == '-';
        let fits = text.len() <= NAME_CHARS_MAX && text.starts_with(first) && text.chars().all(rest);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a name has 1 to {NAME_CHARS_MAX} characters of a-z 0-9 _ - and begins with a letter or digit; {text:?} does not"
            ))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["home", "b2", "7", "offsite-2_a", &"x".repeat(63)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "Home", "a b", "a/b", "a.b", "é", &"x".repeat(64)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }
}
