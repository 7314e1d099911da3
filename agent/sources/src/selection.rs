//! Which part of a point is meant: patterns of what to take and what to leave out.
//!
//! What always holds: patterns are those of `.gitignore`, as on the side of the backup, in a
//! file at the top of the point; what is left out is left out with everything below it;
//! without a pattern of what to take everything is meant.

use std::path::{Component, Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use vault_ops::{OpsError, Result};

/// Patterns, checked.
#[derive(Clone, Debug)]
pub struct Selection {
    include: Gitignore,
    exclude: Gitignore,
    /// What each pattern to take says literally from the top on; empty for those that match at any depth.
    literal: Vec<PathBuf>,
}

/// What a selection says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is meant, and so is what is below.
    Take,
    /// A directory that is not meant itself; something below may be.
    Pass,
    /// Neither it nor anything below.
    Leave,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self { include: Gitignore::empty(), exclude: Gitignore::empty(), literal: Vec::new() }
    }

    /// Takes what matches one of `include` (everything, if there is none) and none of `exclude`.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let literal = include.iter().map(|pattern| literal_of(pattern)).collect();
        Ok(Self { include: patterns(include)?, exclude: patterns(exclude)?, literal })
    }

    /// Whether everything is meant.
    pub fn is_all(&self) -> bool {
        self.literal.is_empty() && self.exclude.is_empty()
    }

    /// What is said of a path below the point's top, if `above` was said of the directory it is in.
    pub(crate) fn verdict(&self, path: &Path, is_dir: bool, above: Verdict) -> Verdict {
        let matches = |patterns: &Gitignore| !patterns.is_empty() && patterns.matched(rooted(path), is_dir).is_ignore();
        if above == Verdict::Leave || matches(&self.exclude) {
            return Verdict::Leave;
        }
        if above == Verdict::Take || self.literal.is_empty() || matches(&self.include) {
            return Verdict::Take;
        }
        let near = |literal: &PathBuf| literal.starts_with(path) || path.starts_with(literal);
        if is_dir && self.literal.iter().any(near) { Verdict::Pass } else { Verdict::Leave }
    }

    /// What is said of a directory that is reached directly: as if it had been walked to.
    pub(crate) fn verdict_of_way(&self, path: &Path) -> Verdict {
        let start = if self.literal.is_empty() { Verdict::Take } else { Verdict::Pass };
        let mut way = PathBuf::new();
        path.components().fold(start, |above, component| {
            way.push(component);
            self.verdict(&way, true, above)
        })
    }
}

fn rooted(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn patterns(patterns: &[String]) -> Result<Gitignore> {
    let refused = |pattern: &str, why: &dyn std::fmt::Display| OpsError::Refused {
        what: format!("the pattern {pattern:?} cannot be used: {why}"),
    };
    let mut builder = GitignoreBuilder::new("/");
    for pattern in patterns {
        if pattern.trim().is_empty() || pattern.starts_with('#') || pattern.starts_with('!') {
            return Err(refused(pattern, &"it would match nothing"));
        }
        builder.add_line(None, pattern).map_err(|error| refused(pattern, &error))?;
    }
    builder.build().map_err(|error| refused(&patterns.join(", "), &error))
}

/// The components of a pattern up to the first that is no plain name. A pattern without a
/// `/` but at its end matches at any depth, and says nothing.
fn literal_of(pattern: &str) -> PathBuf {
    let mut literal = PathBuf::new();
    if !pattern.trim_end_matches('/').contains('/') {
        return literal;
    }
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(name) if name.to_str().is_some_and(|name| !name.contains(['*', '?', '[', '\\'])) => {
                literal.push(name);
            }
            Component::RootDir => {}
            Component::Normal(_) | Component::CurDir | Component::ParentDir | Component::Prefix(_) => break,
        }
    }
    literal
}

/// One pattern to look for, anywhere in a point.
pub struct Glob(Gitignore);

impl Glob {
    /// A pattern as in a `.gitignore` at the top of the point.
    pub fn new(pattern: &str) -> Result<Self> {
        patterns(std::slice::from_ref(&pattern.to_owned())).map(Self)
    }

    /// Whether a path below the point's top is meant.
    pub fn matches(&self, path: &Path, is_dir: bool) -> bool {
        self.0.matched(rooted(path), is_dir).is_ignore()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(include: &[&str], exclude: &[&str], path: &str, is_dir: bool) -> Verdict {
        let owned = |patterns: &[&str]| patterns.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&owned(include), &owned(exclude)).unwrap();
        let path = Path::new(path);
        let above = selection.verdict_of_way(path.parent().unwrap());
        selection.verdict(path, is_dir, above)
    }

    #[test]
    fn what_is_meant() {
        use Verdict::{Leave, Pass, Take};
        assert_eq!(said(&[], &[], "docs/a", false), Take);
        assert_eq!(said(&[], &["*.tmp"], "docs/a.tmp", false), Leave);
        assert_eq!(said(&[], &["cache/"], "docs/cache/deep/x", false), Leave, "with everything below");
        assert_eq!(said(&["/docs/a"], &[], "docs", true), Pass);
        assert_eq!(said(&["/docs/a"], &[], "docs/a", true), Take);
        assert_eq!(said(&["/docs/a"], &[], "docs/a/b/c", false), Take);
        assert_eq!(said(&["/docs/a"], &[], "docs/b", true), Leave, "nothing below can match");
        assert_eq!(said(&["/docs/*/x"], &[], "docs/b", true), Pass);
        assert_eq!(said(&["*.rs"], &[], "docs/b/c", true), Pass);
        assert_eq!(said(&["*.rs"], &[], "docs/b/c.rs", false), Take);
        assert_eq!(said(&["*.rs"], &[], "docs/b/c.txt", false), Leave);
        assert_eq!(said(&["/docs"], &["/docs/b"], "docs/b/c", false), Leave);
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        for pattern in ["", " ", "# x", "!x"] {
            assert!(Selection::new(&[pattern.to_owned()], &[]).is_err(), "{pattern:?}");
            assert!(Glob::new(pattern).is_err(), "{pattern:?}");
        }
    }
}
