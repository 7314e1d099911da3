//! The configuration of a vault that was found: `vault init --adopt` writes what the
//! locations and their signed records say.

use std::fmt::Write as _;
use std::path::Path;

use crate::local::quoted;
use crate::{Attached, Config, ConfigError, Encoding, Location, Name, SecretFrom};

/// A vault found on its locations.
#[derive(Clone, Copy, Debug)]
pub struct AdoptedVault<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Where its state lies, absolute.
    pub state: &'a Path,
    /// Where its keys lie, absolute.
    pub keys: &'a Path,
    /// As the vault record says.
    pub encoding: Encoding,
    /// As the layout says.
    pub survive_domains: u8,
    /// The locations that answered, by the names in the layout.
    pub locations: &'a [(Name, Location)],
    /// Locations of the layout that were not given: name, URL, endpoint, domain.
    pub missing: &'a [MissingLocation],
}

/// A location the layout names and nobody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLocation {
    /// Its name.
    pub name: String,
    /// Its URL when the layout was made.
    pub url: String,
    /// Its endpoint, or empty.
    pub endpoint: String,
    /// What fails together with it.
    pub domain: String,
}

impl Config {
    /// Writes a configuration that [`Config::parse`] reads. Locations that were not given
    /// stand in it as comments: their credentials are not known.
    ///
    /// If the locations given cannot keep what the layout declares, the highest number of
    /// domains they can keep is written; the layout's own goes on to count.
    pub fn render_adopted(vault: &AdoptedVault<'_>) -> Result<String, ConfigError> {
        let mut last = None;
        for survive in (0..=vault.survive_domains).rev() {
            let text = render(vault, survive)?;
            match Self::parse(&text) {
                Ok(_) => return Ok(text),
                Err(error) => last = last.or(Some(error)),
            }
        }
        let what = "there is nothing to write".to_owned();
        Err(last.unwrap_or(ConfigError::Unwritable { what }))
    }
}

fn render(vault: &AdoptedVault<'_>, survive: u8) -> Result<String, ConfigError> {
    let AdoptedVault { name, encoding: Encoding { data, total }, .. } = vault;
    let (state, keys) = (quoted(vault.state)?, quoted(vault.keys)?);
    let mut text = format!(
        "# holdfast: written by `holdfast vault init --adopt`, yours to edit.
# Check it with: holdfast config check
version = 1
state = {state}  # catalog and spool; losing it loses no backup

[vault.{name}]
encoding = {{ data = {data}, total = {total} }}  # any {data} of {total} shards rebuild everything
survive_domains = {survive}
keys = {keys}
"
    );
    for (name, location) in vault.locations {
        write_location(&mut text, name, location)?;
    }
    for missing in vault.missing {
        let line = |key: &str, value: &str| {
            if value.is_empty() { String::new() } else { format!("# {key} = {}\n", text_value(value)) }
        };
        let _ = write!(
            text,
            "\n# The layout names this location, and it was not given. Complete it and take the # away:\n\
             # [location.{}]\n{}{}{}# credentials = {{ file = \"/etc/holdfast/{0}\" }}\n",
            missing.name.replace(['\n', '\r'], " "),
            line("url", &missing.url),
            line("endpoint", &missing.endpoint),
            line("domain", &missing.domain)
        );
    }
    text.push_str(
        "\n# What is backed up, and when:\n# [source.docs]\n# kind = \"directory\"\n# paths = [\"/home/you/documents\"]\n",
    );
    Ok(text)
}

fn text_value(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string().replace('\n', " ")
}

fn write_location(text: &mut String, name: &Name, location: &Location) -> Result<(), ConfigError> {
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} = {}", toml::Value::String(value.to_owned()));
    };
    line(&format!("\n[location.{name}]\nurl"), location.url.as_str());
    line("domain", &location.domain);
    if let Some(endpoint) = &location.endpoint {
        line("endpoint", endpoint.as_str());
    }
    if let Some(region) = &location.region {
        line("region", region);
    }
    if location.attached == Attached::Sometimes {
        line("attached", "sometimes");
    }
    if location.allow_http {
        text.push_str("allow_http = true\n");
    }
    for (key, from) in [("credentials", &location.credentials), ("admin_credentials", &location.admin_credentials)] {
        if let Some(from) = from {
            let _ = writeln!(text, "{key} = {}", secret_from(from)?);
        }
    }
    Ok(())
}

fn secret_from(from: &SecretFrom) -> Result<String, ConfigError> {
    Ok(match from {
        SecretFrom::File(path) => format!("{{ file = {} }}", quoted(path)?),
        SecretFrom::Credential(name) => format!("{{ credential = {} }}", toml::Value::String(name.clone())),
        SecretFrom::Command(argv) => {
            let words = argv.iter().map(|word| toml::Value::String(word.clone())).collect();
            format!("{{ command = {} }}", toml::Value::Array(words))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = r#"
version = 1
[location.nas]
url = "file:///srv/na%20s/holdfast"
domain = "the \"house\""
attached = "sometimes"
[location.b2]
url = "s3://bucket/deep/prefix"
endpoint = "http://127.0.0.1:9000"
region = "us-east-1"
domain = "b2"
allow_http = true
credentials = { file = "/etc/hold fast/b2" }
[location.own]
url = "s3://other"
domain = "own"
credentials = { command = ["pass", "show", "b 2"] }
admin_credentials = { credential = "b2-admin" }
[location.unit]
url = "s3://third"
domain = "unit"
credentials = { credential = "b2" }
"#;

    #[test]
    fn what_is_written_is_read_back() {
        let given: Vec<_> = Config::parse_locations(GIVEN).unwrap().into_iter().collect();
        assert_eq!(given.len(), 4);
        let missing = [MissingLocation {
            name: "far\n[vault.x]".to_owned(),
            url: "s3://far\n\"".to_owned(),
            endpoint: String::new(),
            domain: "far".to_owned(),
        }];
        let name = Name::parse("home").unwrap();
        let vault = AdoptedVault {
            name: &name,
            state: Path::new("/var/lib/x"),
            keys: Path::new("/etc/holdfast/keys"),
            encoding: Encoding::DEFAULT,
            survive_domains: 1,
            locations: &given,
            missing: &missing,
        };
        let text = Config::render_adopted(&vault).unwrap();
        let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config.locations.into_iter().collect::<Vec<_>>(), given);
        assert_eq!(config.vaults["home"].survive_domains, 1);
        assert!(text.contains("# [location.far [vault.x]]"), "{text}");
        // Two places of five: what they cannot keep is not declared, so that the file can be used.
        let few = AdoptedVault { locations: &given[..2], survive_domains: 2, ..vault };
        let text = Config::render_adopted(&few).unwrap();
        assert_eq!(Config::parse(&text).unwrap().vaults["home"].survive_domains, 0);
        assert!(Config::render_adopted(&AdoptedVault { locations: &[], ..vault }).is_err());
    }
}
