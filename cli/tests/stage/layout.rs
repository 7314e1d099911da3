//! Vaults over several places, written as a user writes them.

use std::fmt::Write;
use std::fs;

use super::{Ran, Stage};

/// Lets folders of one disk stand for several domains: see docs/reliability.md.
const ONE_DEVICE: [(&str, &str); 1] = [("HOLDFAST_TEST_ONE_DEVICE", "1")];

/// One location of a configuration.
pub struct Place {
    /// Its name.
    pub name: String,
    /// What fails together.
    pub domain: String,
    /// Where.
    pub url: String,
    /// More lines of its section.
    pub more: String,
}

impl Place {
    /// A folder on the stage.
    pub fn folder(stage: &Stage, name: &str, domain: &str) -> Self {
        let url = format!("file://{}", stage.text(name));
        Self { name: name.to_owned(), domain: domain.to_owned(), url, more: String::new() }
    }

    /// A bucket of a server on the loopback address, its credentials in a file.
    pub fn bucket(stage: &Stage, name: &str, domain: &str, at: &str, endpoint: &str, keys: (&str, &str)) -> Self {
        let file = stage.path(&format!("{name}.credentials"));
        fs::write(&file, format!("access_key_id = {}\nsecret_access_key = {}\n", keys.0, keys.1)).unwrap();
        rustix::fs::chmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let more = format!(
            "endpoint = \"{endpoint}\"\nallow_http = true\nregion = \"us-east-1\"\ncredentials = {{ file = \"{}\" }}\n",
            file.display()
        );
        Self { name: name.to_owned(), domain: domain.to_owned(), url: format!("s3://{at}"), more }
    }
}

impl Stage {
    /// Writes a configuration of 5-of-9 over these places and makes the vault.
    pub fn init_over(&self, places: &[Place], survive_domains: u8) -> Ran {
        self.configure(places, survive_domains);
        self.holdfast_in(&["vault", "init"], &ONE_DEVICE)
    }

    /// A second machine: its own state and keys (`NAME-state`, `NAME-keys` with the vault's
    /// public file alone), the same locations. For [`Stage::on_host`].
    pub fn other_host(&self, name: &str) {
        fs::create_dir(self.path(&format!("{name}-keys"))).unwrap();
        fs::copy(self.path("vault/keys/vault.pub"), self.path(&format!("{name}-keys/vault.pub"))).unwrap();
        let text = fs::read_to_string(self.config()).unwrap();
        let text = text
            .replace(&self.text("vault/state"), &self.text(&format!("{name}-state")))
            .replace(&self.text("vault/keys"), &self.text(&format!("{name}-keys")));
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    /// Runs the program on a machine made by [`Stage::other_host`].
    pub fn on_host(&self, name: &str, words: &[&str]) -> Ran {
        let config = format!("{name}.toml");
        self.holdfast(&[&["--config", config.as_str()], words].concat())
    }

    /// Adds a policy to the configuration: the folder `tree` every second, as `docs`.
    pub fn back_up_tree_every_second(&self) {
        self.append_config(&format!(
            "\n[source.docs]\nkind = \"directory\"\npaths = [\"{}\"]\n\n\
             [policy.docs]\nsource = \"docs\"\nschedule = \"every 1s\"\n",
            self.text("tree")
        ));
    }

    /// Writes a configuration of 5-of-9 over these places.
    pub fn configure(&self, places: &[Place], survive_domains: u8) {
        let mut text = format!(
            "version = 1\nstate = \"{0}/state\"\n\n[vault.home]\nencoding = {{ data = 5, total = 9 }}\n\
             survive_domains = {survive_domains}\nkeys = \"{0}/keys\"\n",
            self.text("vault")
        );
        for Place { name, domain, url, more } in places {
            write!(text, "\n[location.{name}]\nurl = \"{url}\"\ndomain = \"{domain}\"\n{more}").unwrap();
        }
        fs::write(self.config(), text).unwrap();
    }
}
