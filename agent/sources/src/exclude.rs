//! What a directory source leaves out.
//!
//! What always holds: paths given as such are left out however the walk reaches
//! them, since the vault's own folders are among them, and a backup that reads
//! its own output never ends. Patterns are the user's wish and match names.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::Stat;
use vault_format::tree::EntryKind;
use vault_ops::{OpsError, Result};

use crate::descent::Identity;
use crate::metadata::kind_of;

/// Paths and patterns, as configured.
pub(crate) struct Exclude {
    paths: BTreeSet<PathBuf>,
    /// The last names of the paths: all others need no closer look.
    names: BTreeSet<OsString>,
    patterns: Gitignore,
}

impl Exclude {
    /// Leaves out these absolute paths.
    pub(crate) fn paths(paths: Vec<PathBuf>) -> Result<Self> {
        if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
            return Err(OpsError::Refused { what: format!("the excluded path {} is not absolute", path.display()) });
        }
        let paths: BTreeSet<PathBuf> = paths.into_iter().map(|path| path.components().collect()).collect();
        let names = paths.iter().filter_map(|path| path.file_name()).map(OsStr::to_owned).collect();
        Ok(Self { paths, names, patterns: Gitignore::empty() })
    }

    /// Leaves out what matches these patterns too. They are those of `.gitignore`
    /// in a file at `/`: `*.tmp` or `cache/` match at any depth, `/srv/old` there.
    pub(crate) fn set_patterns(&mut self, patterns: &[String]) -> Result<()> {
        let refused = |pattern: &str, why: &dyn std::fmt::Display| OpsError::Refused {
            what: format!("the exclude pattern {pattern:?} cannot be used: {why}"),
        };
        let mut builder = GitignoreBuilder::new("/");
        for pattern in patterns {
            if pattern.trim().is_empty() || pattern.starts_with('#') {
                return Err(refused(pattern, &"it would match nothing"));
            }
            builder.add_line(None, pattern).map_err(|error| refused(pattern, &error))?;
        }
        self.patterns = builder.build().map_err(|error| refused(&patterns.join(", "), &error))?;
        Ok(())
    }

    /// The path that leaves nothing of `top`, if one does.
    pub(crate) fn whole(&self, top: &Path) -> Option<&Path> {
        self.paths.iter().map(PathBuf::as_path).find(|path| top.starts_with(path))
    }

    /// Looks at what stands at the paths now.
    pub(crate) fn look(&self) -> Excluded<'_> {
        let found = self.paths.iter().filter_map(|path| rustix::fs::stat(path).ok()).filter(is_directory);
        Excluded { exclude: self, directories: found.map(|stat| Identity::of(&stat)).collect() }
    }
}

/// What is left out of one reading: paths, patterns, and the directories at the
/// paths by identity, should the walk reach them another way (through a bind
/// mount, or a named path with a link in it).
pub(crate) struct Excluded<'a> {
    exclude: &'a Exclude,
    directories: BTreeSet<Identity>,
}

impl Excluded<'_> {
    /// Whether something found by the walk is left out.
    pub(crate) fn covers(&self, path: &Path, stat: &Stat) -> bool {
        let patterns = &self.exclude.patterns;
        self.covers_path(path, stat) || !patterns.is_empty() && patterns.matched(path, is_directory(stat)).is_ignore()
    }

    /// Whether it is left out by its path. Patterns do not concern what was named itself.
    pub(crate) fn covers_path(&self, path: &Path, stat: &Stat) -> bool {
        let is_named = path.file_name().is_none_or(|name| self.exclude.names.contains(name));
        is_named && self.exclude.paths.contains(path)
            || is_directory(stat) && self.directories.contains(&Identity::of(stat))
    }
}

fn is_directory(stat: &Stat) -> bool {
    kind_of(stat) == Some(EntryKind::Directory)
}
