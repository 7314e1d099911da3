//! The first configuration: `vault init --local DIR`, everything in folders under one folder.

use std::fmt::Write as _;
use std::path::Path;

use url::Url;

use crate::{Config, ConfigError, Encoding, Name};

/// A vault in folders `p1` to `pN` under one folder, with its state and keys beside them.
#[derive(Clone, Copy, Debug)]
pub struct LocalVault<'a> {
    /// The vault's name.
    pub name: &'a Name,
    /// The folder, absolute.
    pub root: &'a Path,
    /// How packs are coded; one folder for each shard.
    pub encoding: Encoding,
}

impl Config {
    /// Writes a commented configuration that [`Config::parse`] reads. It declares that no
    /// domain may be lost, because folders on one disk are one domain.
    pub fn render_local(local: &LocalVault<'_>) -> Result<String, ConfigError> {
        let LocalVault { name, root, encoding } = local;
        let Encoding { data, total } = *encoding;
        let state = quoted(&root.join("state"))?;
        let keys = quoted(&root.join("keys"))?;
        let mut text = format!(
            "# holdfast: written by `holdfast vault init --local`, yours to edit.
# Check it with: holdfast config check
version = 1
state = {state}  # catalog and spool; losing it loses no backup

[vault.{name}]
encoding = {{ data = {data}, total = {total} }}  # any {data} of {total} shards rebuild everything
# All folders below are one domain: one disk failure loses everything. Add locations
# elsewhere (a NAS, a bucket), each with a domain of its own, then set this to 1.
survive_domains = 0
keys = {keys}
"
        );
        for number in 1..=total {
            let url = folder_url(&root.join(format!("p{number}")))?;
            let _ = write!(text, "\n[location.p{number}]\nurl = {}\ndomain = \"local\"\n", toml::Value::String(url));
        }
        text.push_str(
            r#"
# A location elsewhere looks like this:
# [location.b2]
# url = "s3://my-bucket/holdfast"
# endpoint = "https://s3.us-west-000.backblazeb2.com"
# domain = "backblaze"
# credentials = { file = "/etc/holdfast/b2" }  # lines: access_key_id = .., secret_access_key = ..

# What is backed up, and when:
# [source.docs]
# kind = "directory"
# paths = ["/home/you/documents"]
# [policy.docs]
# source = "docs"
# schedule = "daily"
# keep = { daily = 14, weekly = 8, monthly = 12 }
"#,
        );
        Ok(text)
    }
}

pub(crate) fn quoted(path: &Path) -> Result<String, ConfigError> {
    match path.to_str() {
        Some(text) if path.is_absolute() => Ok(toml::Value::String(text.to_owned()).to_string()),
        Some(_) => Err(unwritable(path, "is not absolute")),
        None => Err(unwritable(path, "is not UTF-8, so it cannot stand in a configuration")),
    }
}

fn folder_url(path: &Path) -> Result<String, ConfigError> {
    Url::from_file_path(path).map(String::from).map_err(|()| unwritable(path, "is not absolute"))
}

fn unwritable(path: &Path, why: &str) -> ConfigError {
    let what = format!("the folder {} {why}; choose another", path.display());
    ConfigError::Unwritable { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scheme;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    proptest! {
        /// Whatever the folder is called, what is written is read back as the same folder.
        #[test]
        fn what_is_written_is_read_back(
            segments in proptest::collection::vec("[^/\u{0}]{1,12}", 1..4),
            encoding in prop_oneof![Just((5, 9)), Just((3, 5)), Just((7, 15)), Just((1, 2))],
        ) {
            prop_assume!(segments.iter().all(|s| s != "." && s != ".."));
            let root = Path::new("/").join(segments.join("/"));
            let name = Name::parse("demo").unwrap();
            let encoding = Encoding::new(encoding.0, encoding.1).unwrap();
            let local = LocalVault { name: &name, root: &root, encoding };
            let text = Config::render_local(&local).unwrap();
            let config = Config::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            prop_assert_eq!(&config.state, &root.join("state"));
            let vault = &config.vaults["demo"];
            prop_assert_eq!(vault.encoding, encoding);
            prop_assert_eq!(vault.survive_domains, 0);
            prop_assert_eq!(&vault.keys, &root.join("keys"));
            prop_assert_eq!(vault.locations.len(), encoding.total as usize);
            for (name, location) in config.locations_of(vault) {
                prop_assert_eq!(&location.scheme, &Scheme::File(root.join(name.as_str())));
            }
        }
    }

    #[test]
    fn what_cannot_be_written_says_why() {
        let name = Name::parse("demo").unwrap();
        let not_utf8 = std::ffi::OsStr::from_bytes(b"/srv/\xff");
        for root in [Path::new("relative"), Path::new(not_utf8)] {
            let local = LocalVault { name: &name, root, encoding: Encoding::DEFAULT };
            let error = Config::render_local(&local).unwrap_err();
            assert!(error.to_string().contains("choose another"), "{error}");
        }
    }
}
