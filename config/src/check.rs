//! From the file as written to the plan: everything that is there, and how it fits together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;

use crate::error::{Result, Text};
use crate::policy::Names;
use crate::raw::{self, Word};
use crate::source::absolute;
use crate::{ConfigError, Drill, Location, Name, Policy, SecretFrom, Source, Vault, size};

/// The checked plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the agent keeps its catalog, spool and socket.
    pub state: PathBuf,
    /// Bytes of memory that one backup or restore may take, about; `None` where it is not said.
    pub memory: Option<u64>,
    /// Bytes a second that may be written, to all locations together.
    pub upload_limit: Option<u64>,
    /// Bytes a second that may be read, from all locations together.
    pub download_limit: Option<u64>,
    /// Vaults by name.
    pub vaults: BTreeMap<Name, Vault>,
    /// Locations by name, each of exactly one vault.
    pub locations: BTreeMap<Name, Location>,
    /// Sources by name.
    pub sources: BTreeMap<Name, Source>,
    /// Policies by name.
    pub policies: BTreeMap<Name, Policy>,
    /// Drills by name.
    pub drills: BTreeMap<Name, Drill>,
    /// The web page, when wanted.
    pub web: Option<Web>,
    /// Who is told of changes.
    pub notify: Option<Notify>,
}

/// The web page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Web {
    /// A loopback address.
    pub listen: SocketAddr,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Started on every change of state, without a shell.
    pub command: Option<Vec<String>>,
    /// The URL of a dead-man's switch, which often is a secret in itself.
    pub ping: Option<SecretFrom>,
}

const VERSION: i64 = 1;
const STATE: &str = "/var/lib/holdfast";
/// With less than this not even one small pack is under way.
const MEMORY_MIN: u64 = 64 << 20;

impl Config {
    /// Reads a configuration; the first thing that is wrong is the error.
    pub fn parse(text: &str) -> std::result::Result<Self, ConfigError> {
        let source = Text(text);
        let raw: raw::Config = toml::from_str(text).map_err(|error| source.parser_error(&error))?;
        Self::check(source, &raw)
    }

    /// Reads the `[location.NAME]` tables of a file, which may be a whole configuration or
    /// these tables alone: places to look at, of no vault yet.
    pub fn parse_locations(text: &str) -> std::result::Result<BTreeMap<Name, Location>, ConfigError> {
        let source = Text(text);
        let raw: raw::Config = toml::from_str(text).map_err(|error| source.parser_error(&error))?;
        if raw.version.is_some() {
            check_version(source, raw.version.as_ref())?;
        }
        let locations = checked(source, "location", &raw.location, |name, raw| Location::check(source, name, raw))?;
        check_overlaps(source, &raw, &locations)?;
        Ok(locations)
    }

    /// The locations of a vault, with their names.
    pub fn locations_of<'a>(&'a self, vault: &'a Vault) -> impl Iterator<Item = (&'a Name, &'a Location)> {
        vault.locations.iter().filter_map(|name| self.locations.get_key_value(name))
    }

    fn check(text: Text<'_>, raw: &raw::Config) -> Result<Self> {
        check_version(text, raw.version.as_ref())?;
        let state = match &raw.state {
            None => PathBuf::from(STATE),
            Some(word) => absolute(text, "state", word)?,
        };
        let locations = checked(text, "location", &raw.location, |name, raw| Location::check(text, name, raw))?;
        check_overlaps(text, raw, &locations)?;
        let sources = checked(text, "source", &raw.source, |name, raw| Source::check(text, name, raw))?;
        let mut owners = owners(text, raw)?;
        let vaults = checked(text, "vault", &raw.vault, |name, raw| {
            let keys = match &raw.keys {
                None => state.join("keys").join(name.get_ref()),
                Some(word) => absolute(text, &format!("vault.{}.keys", name.get_ref()), word)?,
            };
            let own = owners.remove(name.get_ref().as_str()).unwrap_or_default();
            Vault::check(text, name, raw, keys, own, &locations)
        })?;
        let names = Names { vaults: vaults.keys().collect(), sources: sources.keys().collect() };
        let policies = checked(text, "policy", &raw.policy, |name, raw| Policy::check(text, name, raw, &names))?;
        let locations_of = |vault: &Name| vaults[vault].locations.clone();
        let drills =
            checked(text, "drill", &raw.drill, |name, raw| Drill::check(text, name, raw, &names, locations_of))?;
        Ok(Self {
            web: raw.web.as_ref().map(|web| check_web(text, web)).transpose()?,
            notify: raw.notify.as_ref().map(|notify| check_notify(text, notify)).transpose()?,
            memory: raw.memory.as_ref().map(|word| check_memory(text, word)).transpose()?,
            state,
            upload_limit: size::limit(text, "upload_limit", raw.upload_limit.as_ref())?,
            download_limit: size::limit(text, "download_limit", raw.download_limit.as_ref())?,
            locations,
            sources,
            policies,
            drills,
            vaults,
        })
    }
}

fn check_memory(text: Text<'_>, word: &Word) -> Result<u64> {
    match size::size(word.get_ref()) {
        Ok(bytes) if bytes >= MEMORY_MIN => Ok(bytes),
        Ok(_) => text.bad(&word.span(), "memory", "a backup needs at least 64MiB"),
        Err(what) => text.bad(&word.span(), "memory", what),
    }
}

fn check_version(text: Text<'_>, version: Option<&Spanned<i64>>) -> Result<()> {
    match version {
        Some(version) if *version.get_ref() == VERSION => Ok(()),
        Some(version) => {
            let what = format!("this holdfast reads version {VERSION}; a newer file needs a newer holdfast");
            text.bad(&version.span(), "version", what)
        }
        None => text.bad(&(0..0), "version", format!("it is missing; begin the file with: version = {VERSION}")),
    }
}

/// Checks each table of one kind under its checked name.
fn checked<R, T>(
    text: Text<'_>,
    noun: &str,
    tables: &BTreeMap<Word, R>,
    mut check: impl FnMut(&Word, &R) -> Result<T>,
) -> Result<BTreeMap<Name, T>> {
    let mut plan = BTreeMap::new();
    for (word, table) in tables {
        let name = match Name::parse(word.get_ref()) {
            Ok(name) => name,
            Err(what) => return text.bad(&word.span(), format!("[{noun}.NAME]"), what),
        };
        plan.insert(name, check(word, table)?);
    }
    Ok(plan)
}

/// Two locations that hold the same objects would count one shard twice.
fn check_overlaps(text: Text<'_>, raw: &raw::Config, locations: &BTreeMap<Name, Location>) -> Result<()> {
    for (name, location) in locations {
        let others = locations.range::<str, _>((std::ops::Bound::Unbounded, std::ops::Bound::Excluded(name.as_str())));
        for (other, earlier) in others {
            if location.overlaps(earlier) {
                let url = raw.location.iter().find(|(word, _)| word.get_ref() == name.as_str());
                let span = url.and_then(|(_, raw)| Some(raw.url.as_ref()?.span())).unwrap_or(0..0);
                let what = format!(
                    "it is the same place as location.{other}, or inside it; one disk that fails would count twice"
                );
                return text.bad(&span, format!("location.{name}.url"), what);
            }
        }
    }
    Ok(())
}

/// Which vault each location belongs to: said by the location, or by the vault's list, or
/// the only vault there is.
fn owners(text: Text<'_>, raw: &raw::Config) -> Result<BTreeMap<String, Vec<Name>>> {
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    for (vault, table) in &raw.vault {
        for word in table.locations.iter().flatten() {
            let key = format!("vault.{}.locations", vault.get_ref());
            if !raw.location.keys().any(|name| name.get_ref() == word.get_ref()) {
                let what = format!("there is no location {:?}; add a [location.{}]", word.get_ref(), word.get_ref());
                return text.bad(&word.span(), key, what);
            }
            if let Some(other) = owner.insert(word.get_ref(), vault.get_ref()) {
                let what = format!(
                    "location {:?} is listed already by vault {other:?}; one location belongs to one vault",
                    word.get_ref()
                );
                return text.bad(&word.span(), key, what);
            }
        }
    }
    let only = if raw.vault.len() == 1 { raw.vault.keys().next() } else { None };
    let mut owners: BTreeMap<String, Vec<Name>> = BTreeMap::new();
    for (name, table) in &raw.location {
        let key = format!("location.{}.vault", name.get_ref());
        let listed = owner.get(name.get_ref().as_str()).copied();
        let vault = match (&table.vault, listed) {
            (Some(word), Some(other)) if word.get_ref() != other => {
                return text.bad(
                    &word.span(),
                    key,
                    format!("vault {other:?} lists this location; one of the two is wrong"),
                );
            }
            (Some(word), _) if !raw.vault.keys().any(|vault| vault.get_ref() == word.get_ref()) => {
                return text.bad(
                    &word.span(),
                    key,
                    format!("there is no vault {:?}; add a [vault.{}]", word.get_ref(), word.get_ref()),
                );
            }
            (Some(word), _) => word.get_ref(),
            (None, Some(listed)) => listed,
            // A vault that lists some of its locations has not listed this one.
            (None, None) => match only {
                Some(only) if raw.vault[only].locations.is_none() => only.get_ref(),
                Some(only) => {
                    let what = format!("it is in no vault; add it to vault.{}.locations", only.get_ref());
                    return text.bad(&name.span(), key, what);
                }
                None if raw.vault.is_empty() => {
                    return text.bad(&name.span(), key, "there is no vault; add a [vault.NAME]");
                }
                None => {
                    return text.bad(&name.span(), key, "there are several vaults; say which with vault = \"NAME\"");
                }
            },
        };
        let name = match Name::parse(name.get_ref()) {
            Ok(name) => name,
            Err(what) => return text.bad(&name.span(), key, what),
        };
        owners.entry(vault.to_owned()).or_default().push(name);
    }
    Ok(owners)
}

fn check_web(text: Text<'_>, raw: &raw::Web) -> Result<Web> {
    let span = raw.listen.span();
    match raw.listen.get_ref().parse::<SocketAddr>() {
        Ok(listen) if listen.ip().is_loopback() => Ok(Web { listen }),
        Ok(_) => text.bad(
            &span,
            "web.listen",
            "only loopback addresses: anything else needs TLS and a password; put a reverse proxy in front",
        ),
        Err(_) => text.bad(&span, "web.listen", "it is an address and a port, as in \"127.0.0.1:8467\""),
    }
}

fn check_notify(text: Text<'_>, raw: &raw::Notify) -> Result<Notify> {
    let command = match &raw.command {
        Some(argv) if argv.get_ref().first().is_none_or(String::is_empty) => {
            return text.bad(
                &argv.span(),
                "notify.command",
                "name the program and its arguments: command = [\"program\"]",
            );
        }
        other => other.as_ref().map(|argv| argv.get_ref().clone()),
    };
    let ping = raw.ping.as_ref().map(|value| SecretFrom::check(text, "notify.ping", value));
    Ok(Notify { command, ping: ping.transpose()? })
}
