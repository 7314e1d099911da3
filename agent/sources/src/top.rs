//! A path that the user named, and its name in the listing of the top.
//!
//! What always holds: names in the top listing differ, and which name a path
//! gets depends only on the paths named together, not on their order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use vault_ops::{OpsError, Result};

/// A path and its name in the top listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Top {
    pub(crate) name: Vec<u8>,
    pub(crate) path: PathBuf,
}

/// Gives each path its last component as its name. Paths that would get the
/// same name get the whole path instead, with `_` for `/`.
pub(crate) fn name_tops(paths: &[PathBuf]) -> Result<Vec<Top>> {
    let paths: BTreeSet<PathBuf> = paths.iter().map(|path| plain_path(path)).collect::<Result<_>>()?;
    if paths.is_empty() {
        return Err(OpsError::Refused { what: "a directory source needs at least one path".into() });
    }
    let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for path in &paths {
        *seen.entry(last_component(path)).or_default() += 1;
    }
    let mut taken = BTreeSet::new();
    let mut tops = Vec::new();
    for path in paths {
        let last = last_component(&path);
        let wanted = if seen[&last] == 1 { last } else { whole_path(&path) };
        tops.push(Top { name: free_name(&wanted, &mut taken), path });
    }
    Ok(tops)
}

/// Absolute, without `.`, `..` and doubled slashes.
fn plain_path(path: &Path) -> Result<PathBuf> {
    let refused = |why| OpsError::Refused { what: format!("cannot back up {}: {why}", path.display()) };
    if !path.is_absolute() {
        return Err(refused("give an absolute path, so that it means the same wherever the agent runs"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refused("give the path without `..`"));
    }
    Ok(path.components().collect())
}

fn last_component(path: &Path) -> Vec<u8> {
    path.file_name().unwrap_or(OsStr::new("root")).as_bytes().to_vec()
}

fn whole_path(path: &Path) -> Vec<u8> {
    let trimmed = path.as_os_str().as_bytes().strip_prefix(b"/").unwrap_or_default();
    let joined: Vec<u8> = trimmed.iter().map(|byte| if *byte == b'/' { b'_' } else { *byte }).collect();
    if joined.is_empty() { b"root".to_vec() } else { joined }
}

/// `/a/b_c` and `/a_b/c` still collide: the later one in order gets a number.
fn free_name(wanted: &[u8], taken: &mut BTreeSet<Vec<u8>>) -> Vec<u8> {
    let mut name = wanted.to_vec();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = [wanted, format!("~{number}").as_bytes()].concat();
        number += 1;
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(paths: &[&str]) -> Vec<String> {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        name_tops(&paths).unwrap().into_iter().map(|top| String::from_utf8(top.name).unwrap()).collect()
    }

    #[test]
    fn a_path_is_called_by_its_last_component() {
        assert_eq!(names(&["/home/ann/docs/", "/etc", "/etc/."]), ["etc", "docs"]);
        assert_eq!(names(&["/"]), ["root"]);
    }

    #[test]
    fn clashes_are_told_apart_whatever_the_order() {
        assert_eq!(names(&["/a/docs", "/b/docs", "/etc"]), ["a_docs", "b_docs", "etc"]);
        assert_eq!(names(&["/b/docs", "/etc", "/a/docs"]), ["a_docs", "b_docs", "etc"]);
        assert_eq!(names(&["/x/a_b/c", "/x/a/b_c", "/c", "/b_c"]), ["b_c", "c", "x_a_b_c", "x_a_b_c~2"]);
        assert_eq!(names(&["/", "/root"]), ["root", "root~2"]);
    }

    #[test]
    fn relative_paths_are_refused() {
        for path in ["docs", "/a/../b", ""] {
            assert!(matches!(name_tops(&[path.into()]), Err(OpsError::Refused { .. })), "{path:?}");
        }
        assert!(matches!(name_tops(&[]), Err(OpsError::Refused { .. })));
    }
}
