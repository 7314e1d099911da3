//! What changed between two trees.
//!
//! What always holds: a directory with the same listing on both sides is the same with
//! everything below it, and is not read; a file counts as changed only if its bytes are others,
//! and as the same only if they are not: where the chunks' names cannot tell, the bytes are read.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use vault_format::tree::{Content, Entry, EntryKind};
use vault_ops::{OpsError, Result};

use crate::descent::DEPTH_MAX;
use crate::listing::content_of;
use crate::point_tree::{Found, PointTree};

/// How something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only the newer tree has it.
    Added,
    /// Only the older tree has it.
    Removed,
    /// Its bytes, its link target, its device number or its very kind.
    Content,
    /// Only its attributes.
    Metadata,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Below the trees' tops.
    pub path: PathBuf,
    /// How.
    pub change: Change,
    /// As it was, and as it is now.
    pub entry: (Option<Entry>, Option<Entry>),
}

impl Changed {
    /// Which attributes differ, by name.
    pub fn attributes(&self) -> Vec<&'static str> {
        match &self.entry {
            (Some(old), Some(new)) => attributes(old, new),
            _ => Vec::new(),
        }
    }
}

/// The older and the newer tree.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The older.
    pub old: PointTree<'a>,
    /// The newer.
    pub new: PointTree<'a>,
    /// Whether equal bytes have equal chunk ids in both.
    pub named_alike: bool,
}

/// One name on both sides.
type Both = (Option<Entry>, Option<Entry>);

/// A directory whose names are being compared.
struct Frame {
    path: PathBuf,
    pairs: std::vec::IntoIter<Both>,
}

impl Pair<'_> {
    /// Compares what stands under these paths, and tells `tell` of everything that changed, in the order of a walk.
    pub async fn compare(&self, old: &Path, new: &Path, tell: &mut (dyn FnMut(Changed) + Send)) -> Result<()> {
        let found = (self.old.look(old).await?, self.new.look(new).await?);
        let directories = match &found {
            (Found::Entry(old), Found::Entry(new)) if !(is_directory(old) && is_directory(new)) => {
                let mut unused = Vec::new();
                let pair = (Some(old.clone()), Some(new.clone()));
                return self.one(PathBuf::new(), pair, &mut unused, tell).await;
            }
            (old, new) => (content_at(self.old, old)?, content_at(self.new, new)?),
        };
        let mut frames = Vec::new();
        self.enter(Some(directories.0), Some(directories.1), PathBuf::new(), &mut frames).await?;
        while let Some(frame) = frames.last_mut() {
            let Some(pair) = frame.pairs.next() else {
                frames.pop();
                continue;
            };
            let name = pair.0.as_ref().or(pair.1.as_ref()).map_or(&[][..], |entry| &entry.name.0);
            let path = frame.path.join(OsStr::from_bytes(name));
            self.one(path, pair, &mut frames, tell).await?;
        }
        Ok(())
    }

    /// Compares one name; directories that differ are entered.
    async fn one(
        &self,
        path: PathBuf,
        pair: Both,
        frames: &mut Vec<Frame>,
        tell: &mut (dyn FnMut(Changed) + Send),
    ) -> Result<()> {
        let change = match &pair {
            (Some(old), Some(new)) => self.change(old, new).await?,
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
        };
        let below = |entry: &Option<Entry>| -> Result<Option<Content>> {
            entry.as_ref().filter(|entry| is_directory(entry)).map(|entry| content_of(entry).cloned()).transpose()
        };
        let contents = (below(&pair.0)?, below(&pair.1)?);
        if let Some(change) = change {
            tell(Changed { path: path.clone(), change, entry: pair });
        }
        if contents.0 == contents.1 {
            return Ok(());
        }
        self.enter(contents.0.as_ref(), contents.1.as_ref(), path, frames).await
    }

    async fn enter(
        &self,
        old: Option<&Content>,
        new: Option<&Content>,
        path: PathBuf,
        frames: &mut Vec<Frame>,
    ) -> Result<()> {
        if old == new {
            return Ok(());
        }
        if frames.len() > DEPTH_MAX {
            let why = format!("directories lie more than {DEPTH_MAX} deep");
            return Err(OpsError::corrupt("the point's tree", why));
        }
        let old = match old {
            Some(content) => self.old.listing(content, &path).await?.entries,
            None => Vec::new(),
        };
        let new = match new {
            Some(content) => self.new.listing(content, &path).await?.entries,
            None => Vec::new(),
        };
        frames.push(Frame { path, pairs: merged(old, new).into_iter() });
        Ok(())
    }

    async fn change(&self, old: &Entry, new: &Entry) -> Result<Option<Change>> {
        let same = old.kind == new.kind
            && old.target == new.target
            && old.device == new.device
            && (old.kind != EntryKind::File || self.same_bytes(old, new).await?);
        Ok(match (same, attributes(old, new).is_empty()) {
            (false, _) => Some(Change::Content),
            (true, false) => Some(Change::Metadata),
            (true, true) => None,
        })
    }

    /// Whether a file of each has the same bytes. They are read only where the names of their chunks cannot tell.
    pub async fn same_bytes(&self, old: &Entry, new: &Entry) -> Result<bool> {
        if old.size != new.size {
            return Ok(false);
        }
        let same_holes = old.holes == new.holes;
        if self.named_alike && same_holes {
            return Ok(old.content == new.content);
        }
        let mut hashes = (Hashed::default(), Hashed::default());
        self.old.write_file(old, &mut hashes.0).await?;
        self.new.write_file(new, &mut hashes.1).await?;
        Ok(hashes.0.0.finalize() == hashes.1.0.finalize())
    }
}

fn content_at<'a>(tree: PointTree<'a>, found: &'a Found) -> Result<&'a Content> {
    match found {
        Found::Top => Ok(tree.top()),
        Found::Entry(entry) if is_directory(entry) => content_of(entry),
        Found::Entry(_) => Err(OpsError::Refused {
            what: "a directory and something else cannot be compared; name two directories or two files".to_owned(),
        }),
    }
}

fn is_directory(entry: &Entry) -> bool {
    entry.kind == EntryKind::Directory
}

/// Both listings are sorted by name.
fn merged(old: Vec<Entry>, new: Vec<Entry>) -> Vec<Both> {
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.name.cmp(&right.name),
        };
        pairs.push(match order {
            Ordering::Less => (old.next(), None),
            Ordering::Equal => (old.next(), new.next()),
            Ordering::Greater => (None, new.next()),
        });
    }
}

fn attributes(old: &Entry, new: &Entry) -> Vec<&'static str> {
    let compared = [
        ("mode", old.mode == new.mode),
        ("owner", (old.uid, old.gid, &old.user, &old.group) == (new.uid, new.gid, &new.user, &new.group)),
        ("time", (old.mtime_s, old.mtime_ns) == (new.mtime_s, new.mtime_ns)),
        ("attributes", old.xattrs == new.xattrs),
    ];
    compared.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

/// Hashes what is written to it.
#[derive(Default)]
struct Hashed(blake3::Hasher);

impl Write for Hashed {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.update(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
