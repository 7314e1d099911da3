//! Finding names in many trees.
//!
//! What always holds: a directory that several points share is read once; what is found
//! is what a walk through each tree finds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use vault_format::Hash;
use vault_format::tree::{Entry, EntryKind};
use vault_ops::Result;
use vault_ops::source::tree_root;

use crate::listing::content_of;
use crate::point_tree::{PointTree, Step};
use crate::selection::Glob;

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Below the tree's top.
    pub path: PathBuf,
    /// What stands there.
    pub entry: Entry,
}

/// A search through one tree after the other.
pub struct Search {
    glob: Glob,
    /// What was found below a directory, by where it stands and what its listing is.
    known: BTreeMap<(PathBuf, Hash), Arc<Vec<Hit>>>,
    /// Listings that were read.
    pub directories_read: u64,
}

impl Search {
    /// A search for what matches.
    pub fn new(glob: Glob) -> Self {
        Self { glob, known: BTreeMap::new(), directories_read: 0 }
    }

    /// Everything in a tree that matches, in the order of a walk.
    pub async fn through(&mut self, tree: PointTree<'_>) -> Result<Arc<Vec<Hit>>> {
        let top = (PathBuf::new(), tree_root(tree.top()));
        if let Some(known) = self.known.get(&top) {
            return Ok(Arc::clone(known));
        }
        let mut walk = tree.walk(tree.top(), PathBuf::new()).await?;
        self.directories_read += 1;
        let mut open = vec![(top, Vec::new())];
        while let Some(step) = walk.step().await? {
            match step {
                Step::Leave => self.close(&mut open),
                // This walk ends where it cannot list.
                Step::Unread => {}
                Step::Entry(entry) => {
                    let path = walk.path().to_owned();
                    let is_dir = entry.kind == EntryKind::Directory;
                    let mut hits = Vec::new();
                    if self.glob.matches(&path, is_dir) {
                        hits.push(Hit { path: path.clone(), entry: entry.clone() });
                    }
                    let key = if is_dir { Some((path, tree_root(content_of(&entry)?))) } else { None };
                    let known = key.as_ref().and_then(|key| self.known.get(key));
                    if let Some(known) = known {
                        hits.extend(known.iter().cloned());
                        walk.skip();
                    }
                    let is_known = known.is_some();
                    if let Some((_, found)) = open.last_mut() {
                        found.extend(hits);
                    }
                    if let Some(key) = key.filter(|_| !is_known) {
                        self.directories_read += 1;
                        open.push((key, Vec::new()));
                    }
                }
            }
        }
        while open.len() > 1 {
            self.close(&mut open);
        }
        let (top, found) = open.pop().unwrap_or_default();
        let found = Arc::new(found);
        self.known.insert(top, Arc::clone(&found));
        Ok(found)
    }

    /// What was found in a directory was found in the one above it, too.
    fn close(&mut self, open: &mut Vec<((PathBuf, Hash), Vec<Hit>)>) {
        let Some((key, found)) = open.pop() else { return };
        if let Some((_, above)) = open.last_mut() {
            above.extend(found.iter().cloned());
        }
        self.known.insert(key, Arc::new(found));
    }
}
