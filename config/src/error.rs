//! What is wrong with a configuration, where, and what to do.
//!
//! What always holds: a message names the line and the key, and never quotes a value that
//! may be a secret.

use std::ops::Range;

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or a value of the wrong type.
    #[error("line {line}: {key}: {what}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// The section it stands in.
        key: String,
        /// What the parser says.
        what: String,
    },
    /// A key that does not exist.
    #[error("line {line}: {key}: there is no such key; {hint}")]
    UnknownKey {
        /// Counted from 1.
        line: usize,
        /// Section and key.
        key: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// A secret where none may stand.
    #[error(
        "line {line}: {key}: secrets do not belong in this file; put it elsewhere and say where: {key_to_use} = {{ file = \"/path\" }}, or {{ credential = \"systemd name\" }}, or {{ command = [\"program\", \"argument\"] }}"
    )]
    SecretInside {
        /// Counted from 1.
        line: usize,
        /// Section and key; never the value.
        key: String,
        /// The key that takes a reference to the secret instead.
        key_to_use: String,
    },
    /// A value that does not fit, by itself or with the rest of the file.
    #[error("line {line}: {key}: {what}")]
    BadValue {
        /// Counted from 1.
        line: usize,
        /// Section and key.
        key: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A new configuration cannot be written for what was asked.
    #[error("{what}")]
    Unwritable {
        /// What is wrong and what to do.
        what: String,
    },
}

impl ConfigError {
    /// The line of the file, where there is one.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. }
            | Self::UnknownKey { line, .. }
            | Self::SecretInside { line, .. }
            | Self::BadValue { line, .. } => Some(*line),
            Self::Unwritable { .. } => None,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, ConfigError>;

/// The text being checked, to turn places into lines.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl Text<'_> {
    pub(crate) fn bad<T>(self, span: &Range<usize>, key: impl Into<String>, what: impl Into<String>) -> Result<T> {
        Err(ConfigError::BadValue { line: self.line(span), key: key.into(), what: what.into() })
    }

    pub(crate) fn secret<T>(self, span: &Range<usize>, key: &str, key_to_use: &str) -> Result<T> {
        Err(ConfigError::SecretInside { line: self.line(span), key: key.to_owned(), key_to_use: key_to_use.to_owned() })
    }

    pub(crate) fn unknown<T>(self, span: &Range<usize>, key: &str, known: &[&str]) -> Result<T> {
        Err(ConfigError::UnknownKey {
            line: self.line(span),
            key: key.to_owned(),
            hint: hint(key.rsplit('.').next().unwrap_or(key), known),
        })
    }

    fn line(self, span: &Range<usize>) -> usize {
        let before = self.0.get(..span.start).unwrap_or(self.0);
        1 + before.matches('\n').count()
    }

    /// Turns the parser's error into ours. It has a place and a sentence; the names in the
    /// sentence stand in backticks.
    pub(crate) fn parser_error(self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let section = section_of(self.0, span.start);
        let message = error.message().lines().next().unwrap_or_default();
        let mut quoted = message.split('`').skip(1).step_by(2);
        if message.starts_with("unknown field") {
            let field = quoted.next().unwrap_or_default();
            let known: Vec<&str> = quoted.collect();
            let key = joined(&section, field);
            return if means_a_secret(field) {
                ConfigError::SecretInside { line: self.line(&span), key, key_to_use: "credentials".to_owned() }
            } else {
                ConfigError::UnknownKey { line: self.line(&span), key, hint: hint(field, &known) }
            };
        }
        ConfigError::Syntax {
            line: self.line(&span),
            key: if section.is_empty() { "the file".to_owned() } else { section },
            what: for_people(message),
        }
    }
}

/// The parser's sentence without the texts it quotes, because one may be a secret in a
/// wrong place, and without the names of our types.
fn for_people(message: &str) -> String {
    let pieces: Vec<&str> = message.split('"').collect();
    let message = match pieces.as_slice() {
        [before, .., after] if message.starts_with("invalid") => format!("{before}\"...\"{after}"),
        _ => message.to_owned(),
    };
    match message.split_once(", expected ") {
        Some((found, "i64" | "u32")) => format!("{found}, expected a whole number"),
        Some((found, expected)) if expected.starts_with("struct ") => {
            format!("{found}, expected a table of keys and values")
        }
        _ => message,
    }
}

fn joined(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The name of the last `[section]` header above a place.
fn section_of(text: &str, place: usize) -> String {
    let above = text.get(..place).unwrap_or(text);
    let header = above.lines().rev().find_map(|line| {
        let (header, _) = line.trim().strip_prefix('[')?.split_once(']')?;
        Some(header.trim().to_owned())
    });
    header.unwrap_or_default()
}

/// Names under which people paste secrets, by the words in them.
pub(crate) fn means_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    [
        "secret",
        "password",
        "passwd",
        "passphrase",
        "token",
        "access_key",
        "accesskey",
        "key_id",
        "keyid",
        "account_key",
        "application_key",
        "applicationkey",
        "api_key",
        "sas",
        "private_key",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// The nearest known name when it is near enough to be a slip, else all of them.
fn hint(unknown: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|name| distance(unknown, name));
    match nearest {
        Some(name) if distance(unknown, name) <= 1 + name.len() / 4 => {
            format!("did you mean `{name}`?")
        }
        _ if known.is_empty() => "remove it".to_owned(),
        _ => format!("there are {}", known.join(", ")),
    }
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("domain", "domain", 0), ("domian", "domain", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_slip_gets_one_name_and_a_guess_gets_all() {
        assert_eq!(hint("domian", &["url", "domain"]), "did you mean `domain`?");
        assert_eq!(hint("colour", &["url", "domain"]), "there are url, domain");
    }

    #[test]
    fn names_that_mean_secrets() {
        for key in ["secret_access_key", "AWS_ACCESS_KEY_ID", "password", "keyID", "sas-token"] {
            assert!(means_a_secret(key), "{key}");
        }
        for key in ["keys", "domain", "url", "keep"] {
            assert!(!means_a_secret(key), "{key}");
        }
    }
}
