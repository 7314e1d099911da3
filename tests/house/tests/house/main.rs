//! The rules of the house against the workspace as it is.

mod edges;
mod purity;
mod readme;
mod security;
mod sources;
mod texts;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the workspace.
fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is two folders below the top").to_owned()
}

/// Text of a file of the workspace.
fn text(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Tracked files, and new ones that are not ignored: what a commit would hold.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(top())
        .output()
        .expect("git is needed to know which files belong to the project");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("names of the project are UTF-8");
    let files: Vec<String> =
        names.split_terminator('\0').filter(|name| top().join(name).is_file()).map(str::to_owned).collect();
    assert!(files.len() > 50, "only {} files were listed", files.len());
    files
}

/// Rust files of the project; the oracles' own workspace included.
fn rust_files() -> Vec<String> {
    let is_rust = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "rs");
    files().into_iter().filter(is_rust).collect()
}
