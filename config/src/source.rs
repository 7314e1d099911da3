//! Sources: what is backed up.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use url::Url;

use crate::error::{Result, Text};
use crate::raw::Word;
use crate::{Compression, SecretFrom, raw, size, time};

/// Something to back up, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// How hard it is compressed; none for the default.
    pub compression: Option<Compression>,
    /// How much of the newest data may be lost, as time.
    pub rpo: Option<Duration>,
    /// How long a restore may take.
    pub rto: Option<Duration>,
}

/// The kinds of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Folders and files.
    Directory {
        /// Absolute.
        paths: Vec<PathBuf>,
        /// Patterns of what is left out.
        exclude: Vec<String>,
        /// What else is left out.
        rules: DirectoryRules,
    },
    /// A kernel node.
    Kernel {
        /// Where it answers.
        at: KernelAt,
        /// Its bearer token.
        token: Option<SecretFrom>,
    },
    /// A Postgres server.
    Postgres {
        /// Connection URL without a password.
        url: Url,
        /// The password, when it needs one.
        password: Option<SecretFrom>,
    },
    /// What a program prints.
    Command {
        /// Program and arguments; started without a shell.
        argv: Vec<String>,
    },
}

/// What is left out of a directory source by rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryRules {
    /// Only the file system of each path itself is read.
    pub one_file_system: bool,
    /// File names that keep what lies beside them out.
    pub if_present: Vec<String>,
    /// Whether a `CACHEDIR.TAG` with its signature does so.
    pub caches: bool,
    /// Files of more bytes are left out.
    pub larger_than: Option<u64>,
}

/// Where a kernel node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelAt {
    /// Over HTTP.
    Url(Url),
    /// Over a Unix socket, absolute.
    Socket(PathBuf),
}

const DIRECTORY_KEYS: &[&str] =
    &["paths", "exclude", "exclude_if_present", "exclude_caches", "exclude_larger_than", "one_file_system"];

impl Source {
    pub(crate) fn check(text: Text<'_>, name: &Word, raw: &raw::Source) -> Result<Self> {
        let key = |key: &str| format!("source.{}.{key}", name.get_ref());
        let (kind, allowed): (_, &[&str]) = match raw.kind.as_ref().map(|word| word.get_ref().as_str()) {
            Some("directory") => (directory(text, name, raw)?, DIRECTORY_KEYS),
            Some("kernel") => (kernel(text, name, raw)?, &["url", "socket", "token"]),
            Some("postgres") => (postgres(text, name, raw)?, &["url", "password"]),
            Some("command") => (command(text, name, raw)?, &["command"]),
            other => {
                let span = raw.kind.as_ref().map_or(name.span(), Spanned::span);
                let seen = if other.is_some() { "there is no such kind" } else { "it is missing" };
                let what = format!("{seen}; a source is a directory, kernel, postgres or command");
                return text.bad(&span, key("kind"), what);
            }
        };
        if let Some((field, span)) = raw.present().find(|(field, _)| !allowed.contains(field)) {
            let what = format!("this kind of source has no such key; it has {}", allowed.join(", "));
            return text.bad(&span, key(field), what);
        }
        let objective = |word: Option<&Word>, field: &str| match word {
            None => Ok(None),
            Some(word) => match time::duration(word.get_ref()) {
                Ok(duration) => Ok(Some(duration)),
                Err(what) => text.bad(&word.span(), key(field), what),
            },
        };
        Ok(Self {
            kind,
            compression: Compression::check(text, &key("compression"), raw.compression.as_ref())?,
            rpo: objective(raw.rpo.as_ref(), "rpo")?,
            rto: objective(raw.rto.as_ref(), "rto")?,
        })
    }
}

impl raw::Source {
    /// The keys that are given and belong to one kind or another.
    fn present(&self) -> impl Iterator<Item = (&'static str, std::ops::Range<usize>)> {
        [
            ("paths", self.paths.as_ref().map(Spanned::span)),
            ("exclude", self.exclude.as_ref().map(Spanned::span)),
            ("exclude_if_present", self.exclude_if_present.as_ref().map(Spanned::span)),
            ("exclude_caches", self.exclude_caches.as_ref().map(Spanned::span)),
            ("exclude_larger_than", self.exclude_larger_than.as_ref().map(Spanned::span)),
            ("one_file_system", self.one_file_system.as_ref().map(Spanned::span)),
            ("url", self.url.as_ref().map(Spanned::span)),
            ("socket", self.socket.as_ref().map(Spanned::span)),
            ("token", self.token.as_ref().map(Spanned::span)),
            ("password", self.password.as_ref().map(Spanned::span)),
            ("command", self.command.as_ref().map(Spanned::span)),
        ]
        .into_iter()
        .filter_map(|(field, span)| Some((field, span?)))
    }
}

fn directory(text: Text<'_>, name: &Word, raw: &raw::Source) -> Result<SourceKind> {
    let key = format!("source.{}.paths", name.get_ref());
    let words: &[Word] = raw.paths.as_ref().map_or(&[], |paths| paths.get_ref());
    if words.is_empty() {
        let span = raw.paths.as_ref().map_or(name.span(), Spanned::span);
        return text.bad(&span, key, "name at least one folder: paths = [\"/home/you/documents\"]");
    }
    let paths = words.iter().map(|word| absolute(text, &key, word));
    Ok(SourceKind::Directory {
        paths: paths.collect::<Result<_>>()?,
        exclude: raw.exclude.as_ref().map(|list| list.get_ref().clone()).unwrap_or_default(),
        rules: directory_rules(text, name, raw)?,
    })
}

fn directory_rules(text: Text<'_>, name: &Word, raw: &raw::Source) -> Result<DirectoryRules> {
    let key = |key: &str| format!("source.{}.{key}", name.get_ref());
    let mut rules = DirectoryRules {
        one_file_system: raw.one_file_system.as_ref().is_some_and(|word| *word.get_ref()),
        caches: raw.exclude_caches.as_ref().is_some_and(|word| *word.get_ref()),
        ..DirectoryRules::default()
    };
    for word in raw.exclude_if_present.iter().flat_map(Spanned::get_ref) {
        let mark = word.get_ref();
        if matches!(mark.as_str(), "" | "." | "..") || mark.contains('/') {
            let what = "it is the name of a file beside what is left out: exclude_if_present = [\".nobackup\"]";
            return text.bad(&word.span(), key("exclude_if_present"), what);
        }
        rules.if_present.push(mark.clone());
    }
    if let Some(word) = &raw.exclude_larger_than {
        match size::size(word.get_ref()) {
            Ok(bytes) => rules.larger_than = Some(bytes),
            Err(what) => return text.bad(&word.span(), key("exclude_larger_than"), what),
        }
    }
    Ok(rules)
}

fn kernel(text: Text<'_>, name: &Word, raw: &raw::Source) -> Result<SourceKind> {
    let key = |key: &str| format!("source.{}.{key}", name.get_ref());
    let at = match (&raw.url, &raw.socket) {
        (Some(word), None) => KernelAt::Url(web_url(text, &key("url"), word, &["http", "https"])?),
        (None, Some(word)) => KernelAt::Socket(absolute(text, &key("socket"), word)?),
        _ => {
            let what = "a kernel has either url = \"http://127.0.0.1:8466\" or socket = \"/run/holdfast/kernel.sock\"";
            return text.bad(&name.span(), key("url"), what);
        }
    };
    let token = raw.token.as_ref();
    let token = token.map(|value| SecretFrom::check(text, &key("token"), value));
    Ok(SourceKind::Kernel { at, token: token.transpose()? })
}

fn postgres(text: Text<'_>, name: &Word, raw: &raw::Source) -> Result<SourceKind> {
    let key = |key: &str| format!("source.{}.{key}", name.get_ref());
    let Some(word) = &raw.url else {
        let what = "it is missing; as in url = \"postgresql://backup@127.0.0.1/postgres\", without a password";
        return text.bad(&name.span(), key("url"), what);
    };
    let url = web_url(text, &key("url"), word, &["postgresql", "postgres"])?;
    let password = raw.password.as_ref();
    let password = password.map(|value| SecretFrom::check(text, &key("password"), value));
    Ok(SourceKind::Postgres { url, password: password.transpose()? })
}

fn command(text: Text<'_>, name: &Word, raw: &raw::Source) -> Result<SourceKind> {
    let key = format!("source.{}.command", name.get_ref());
    match &raw.command {
        Some(argv) if argv.get_ref().first().is_some_and(|program| !program.is_empty()) => {
            Ok(SourceKind::Command { argv: argv.get_ref().clone() })
        }
        other => {
            let span = other.as_ref().map_or(name.span(), Spanned::span);
            text.bad(&span, key, "name the program and its arguments: command = [\"pg_dumpall\"]")
        }
    }
}

/// A path that means the same whoever starts us and from where.
pub(crate) fn absolute(text: Text<'_>, key: &str, word: &Word) -> Result<PathBuf> {
    let path = PathBuf::from(word.get_ref());
    if path.is_absolute() {
        return Ok(path);
    }
    text.bad(&word.span(), key, "it is not absolute; write the whole path (~ is not expanded here)")
}

fn web_url(text: Text<'_>, key: &str, word: &Word, schemes: &[&str]) -> Result<Url> {
    let span = word.span();
    let Ok(url) = Url::parse(word.get_ref()) else {
        return text.bad(&span, key, format!("it is not a URL; it begins with {}://", schemes[0]));
    };
    if url.password().is_some() || url.query().is_some_and(|query| query.contains("password")) {
        let instead = if schemes[0] == "http" { "token" } else { "password" };
        return text.secret(&span, key, instead);
    }
    if schemes.contains(&url.scheme()) {
        return Ok(url);
    }
    text.bad(&span, key, format!("it begins with {}://", schemes[0]))
}
