//! The stage every story plays on: a temporary folder, the real program as its
//! own process, and eyes of its own.
//!
//! What always holds:
//! - The program is judged from the outside, by exit code, output and files: no
//!   crate of ours is used to look at what it did.
//! - It sees nothing of this machine's user: its home is the stage.
//! - `HOLDFAST_TEST_PROGRAM` names another build of it, for long runs beside other work.
//! - A program that hangs is killed and fails the test; one that a test started
//!   never outlives it.
//! - The folder is removed, unless the test panicked: then it is kept and named.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each story uses its own part of the stage")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod layout;
mod numbers;
mod person;
mod process;
mod qr;
pub mod scene;
mod small_disk;
mod trees;
mod witness;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub use layout::Place;
pub use numbers::{Numbers, number_from_env};
pub use person::{Person, written_down};
pub use process::{Ran, Running};
pub use qr::scanned;
pub use small_disk::SmallDisk;
pub use trees::{assert_no_wrong_file, assert_same_tree, copy_exactly, write_tree};
pub use witness::{Witness, tree_digest};

/// A temporary folder and the program.
pub struct Stage {
    dir: TempDir,
}

impl Stage {
    /// A new, empty stage.
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("holdfast-story-").tempdir().unwrap() }
    }

    /// A stage with a vault of nine folders, `vault/p1` to `vault/p9`, in one domain.
    pub fn with_local_vault() -> Self {
        let stage = Self::new();
        stage.holdfast(&["vault", "init", "--local", "vault"]).ends(0);
        stage
    }

    /// A path on the stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path on the stage as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The configuration every command uses.
    pub fn config(&self) -> PathBuf {
        self.path("holdfast.toml")
    }

    /// Adds to the configuration, as a user would.
    pub fn append_config(&self, text: &str) {
        let old = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), old + text).unwrap();
    }

    /// Replaces a text of the configuration, which must be there.
    pub fn change_config(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(old), "{old} is not in the configuration");
        fs::write(self.config(), text.replacen(old, new, 1)).unwrap();
    }

    /// Deals the seed onto five cards of which three are needed, in `cards/`, and
    /// takes it and the read key off this host.
    pub fn deal_cards(&self) {
        self.holdfast(&["keys", "split", "--cards", "5", "--need", "3", "--cards-dir", "cards", "--remove-seed"])
            .ends(0);
        assert!(!self.path("vault/keys/read.key").exists() && !self.path("vault/keys/master.seed").exists());
    }

    /// Removes the catalog, as if the host's disk had been lost with it.
    pub fn lose_catalog(&self) {
        fs::remove_dir_all(self.path("vault/state")).unwrap();
    }

    /// Every shard file below a folder.
    pub fn shards_in(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.path(folder).join("shards"), &mut found);
        found.sort();
        found
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the stage is kept in {}", self.dir.path().display());
        }
    }
}

/// `--card FILE` for each of these cards.
pub fn cards(numbers: &[u32]) -> Vec<String> {
    numbers.iter().flat_map(|number| ["--card".to_owned(), format!("cards/card-set1-{number}.txt")]).collect()
}

/// Every file below a folder; none if there is no such folder.
pub fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// Flips one bit in the middle of a file.
pub fn rot(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}
