//! The tree of a point, looked at without restoring it.
//!
//! What always holds: the top listing has the recorded tree root, and every listing
//! below is checked like one that is restored, before anything of it is shown; a
//! listing is read when it is reached and never before; depth and number of entries
//! are bounded, so a forged tree ends.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use vault_format::point::{PointRoot, TreeRoot};
use vault_format::tree::{Content, Entry, EntryKind, Hole, Listing};
use vault_ops::source::{PointReader, tree_root};
use vault_ops::{OpsError, Result};

use crate::descent::DEPTH_MAX;
use crate::listing::{content_of, read_listing, read_listing_or_not};
use crate::owner_map::OwnerMap;
use crate::path_text::path_text;

/// Most entries one walk gives: a small forged tree can describe more than any disk holds.
const ENTRIES_MAX: u64 = 1 << 32;
/// Zeros written at once for a hole.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A point's tree.
#[derive(Clone, Copy)]
pub struct PointTree<'a> {
    point: &'a dyn PointReader,
    top: &'a Content,
}

/// What stands under a path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, never many")]
pub enum Found {
    /// The tree itself: what has no name and no attributes.
    Top,
    /// An entry of one of its directories.
    Entry(Entry),
}

impl<'a> PointTree<'a> {
    /// The tree of a point; refused for points that are none.
    pub fn of(point: &'a dyn PointReader) -> Result<Self> {
        match &point.record().root {
            PointRoot::Tree(root) => Self::at(point, root),
            PointRoot::Kernel(_) | PointRoot::Postgres(_) | PointRoot::Stream(_) => Err(OpsError::Refused {
                what: format!(
                    "the point of source {} is no tree of files: it can only be restored as a whole. For another point \
                     give its id, or --source NAME for the newest of a source",
                    point.record().source
                ),
            }),
        }
    }

    /// The tree at a root of a point.
    pub fn at(point: &'a dyn PointReader, root: &'a TreeRoot) -> Result<Self> {
        if tree_root(&root.content) != root.hash {
            return Err(OpsError::corrupt("the point's tree", "its top listing does not have the recorded tree root"));
        }
        Ok(Self { point, top: &root.content })
    }

    /// The listing of a directory of this tree, checked.
    pub async fn listing(&self, content: &Content, path: &Path) -> Result<Listing> {
        read_listing(self.point, content, &path_text(path)).await
    }

    /// The content of the top listing.
    pub fn top(&self) -> &'a Content {
        self.top
    }

    /// What stands under a path; only the listings on the way are read.
    pub async fn look(&self, path: &Path) -> Result<Found> {
        let path = plain(path)?;
        let mut found = Found::Top;
        let mut way = PathBuf::new();
        for name in &path {
            let content = match &found {
                Found::Top => self.top,
                Found::Entry(entry) if entry.kind == EntryKind::Directory => content_of(entry)?,
                Found::Entry(_) => return Err(absent(&path, &format!("{} is no directory", path_text(&way)))),
            };
            let mut listing = self.listing(content, &way).await?;
            let at = listing.entries.binary_search_by(|entry| entry.name.0.as_slice().cmp(name.as_bytes()));
            let Ok(at) = at else { return Err(absent(&path, &names_near(&listing, &way))) };
            way.push(name);
            found = Found::Entry(listing.entries.swap_remove(at));
        }
        Ok(found)
    }

    /// Everything below a directory of this tree that is called `path` there.
    pub async fn walk(self, content: &Content, path: PathBuf) -> Result<Walk<'a>> {
        let listing = self.listing(content, &path).await?;
        Ok(self.walk_entries(listing.entries, path))
    }

    /// These entries of the directory `path`, and everything below them.
    pub(crate) fn walk_entries(self, entries: Vec<Entry>, path: PathBuf) -> Walk<'a> {
        let entries = entries.into_iter();
        Walk {
            tree: self,
            path,
            above: Vec::new(),
            entries,
            next: None,
            named: false,
            left: ENTRIES_MAX,
            most: ENTRIES_MAX,
            goes_on: false,
            unread: None,
            owner_map: None,
        }
    }

    /// Says what will be read next.
    pub(crate) fn will_read(&self, contents: &mut dyn Iterator<Item = &Content>) {
        self.point.will_read(contents);
    }

    /// Whether these are the bytes of a content.
    pub(crate) async fn matches(&self, content: &Content, from: &mut (dyn std::io::Read + Send)) -> Result<bool> {
        self.point.matches(content, from).await
    }

    /// Writes the bytes of a content, each chunk checked before.
    pub(crate) async fn read(&self, content: &Content, to: &mut (dyn Write + Send)) -> Result<()> {
        self.point.read(content, to).await
    }

    /// Writes a file as it was, its holes as zeros. Each byte was checked before it is written.
    pub async fn write_file(&self, entry: &Entry, to: &mut (dyn Write + Send)) -> Result<()> {
        let mut whole = Filled { to, at: 0, holes: entry.holes.iter().peekable() };
        self.point.read(content_of(entry)?, &mut whole).await?;
        let failed = |error| OpsError::Io { what: "writing a file's bytes".to_owned(), error };
        whole.fill().map_err(failed)?;
        if whole.at != entry.size {
            return Err(OpsError::corrupt("a file of the point", "its bytes are not as many as recorded"));
        }
        whole.to.flush().map_err(failed)
    }
}

/// A path below the top, without `/` in front.
fn plain(path: &Path) -> Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(OpsError::Refused {
                    what: format!("{} is no path of a point: write it without `..`", path_text(path)),
                });
            }
        }
    }
    Ok(plain)
}

fn absent(path: &Path, why: &str) -> OpsError {
    OpsError::Refused { what: format!("the point holds no {}: {why}", path_text(path)) }
}

/// What a person may have meant.
fn names_near(listing: &Listing, way: &Path) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = listing
        .entries
        .iter()
        .take(SHOWN)
        .map(|entry| path_text(Path::new(OsStr::from_bytes(&entry.name.0))))
        .collect();
    let more = if listing.entries.len() > SHOWN { ", .." } else { "" };
    let there = if way.as_os_str().is_empty() { "its top".to_owned() } else { path_text(way) };
    format!("{there} has {}{more}", if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
}

/// A walk through a tree, names in byte order, a directory before what is in it.
pub struct Walk<'a> {
    tree: PointTree<'a>,
    path: PathBuf,
    above: Vec<std::vec::IntoIter<Entry>>,
    entries: std::vec::IntoIter<Entry>,
    /// A directory that was given and will be entered.
    next: Option<Content>,
    /// Whether the last component of the path is that of the entry given last.
    named: bool,
    left: u64,
    most: u64,
    goes_on: bool,
    /// Why the directory given last cannot be listed.
    unread: Option<OpsError>,
    /// Who gets what belonged to others.
    owner_map: Option<Arc<OwnerMap>>,
}

/// What a walk comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, never many")]
pub enum Step {
    /// An entry; a directory is entered by the step after it, unless it is skipped.
    Entry(Entry),
    /// The end of a directory that was entered; the path is the directory's.
    Leave,
    /// The directory given last was entered and cannot be listed; its end comes next.
    /// Only for a walk that goes on.
    Unread,
}

impl Walk<'_> {
    /// The next entry; a directory is entered by the call after it.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            match self.step().await? {
                Some(Step::Entry(entry)) => return Ok(Some(entry)),
                Some(Step::Leave | Step::Unread) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next step.
    pub async fn step(&mut self) -> Result<Option<Step>> {
        if let Some(content) = self.next.take() {
            if self.above.len() >= DEPTH_MAX {
                let why = format!("directories lie more than {DEPTH_MAX} deep");
                return Err(OpsError::corrupt("the point's tree", why));
            }
            let found = read_listing_or_not(self.tree.point, &content, &path_text(&self.path)).await?;
            let (entries, unread) = match found {
                Ok(listing) => (listing.entries, None),
                Err(error) if self.goes_on && error.is_of_stored_bytes() => (Vec::new(), Some(error)),
                Err(error) => return Err(error),
            };
            self.above.push(std::mem::replace(&mut self.entries, entries.into_iter()));
            if let Some(error) = unread {
                self.named = false;
                self.unread = Some(error);
                return Ok(Some(Step::Unread));
            }
        } else if self.named {
            self.path.pop();
        }
        self.named = false;
        if let Some(mut entry) = self.entries.next() {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                let most = self.most;
                OpsError::corrupt("the point's tree", format!("it describes more than {most} files"))
            })?;
            self.path.push(OsStr::from_bytes(&entry.name.0));
            self.named = true;
            if entry.kind == EntryKind::Directory {
                self.next = Some(content_of(&entry)?.clone());
            }
            if let Some(owner_map) = &self.owner_map {
                owner_map.apply(&mut entry);
            }
            return Ok(Some(Step::Entry(entry)));
        }
        let Some(above) = self.above.pop() else { return Ok(None) };
        self.entries = above;
        self.named = true;
        Ok(Some(Step::Leave))
    }

    /// The same walk, ended as damage after so many entries.
    #[must_use]
    pub(crate) fn at_most(self, most: u64) -> Self {
        Self { left: most, most, ..self }
    }

    /// The same walk, going on past directories that cannot be listed.
    #[must_use]
    pub(crate) fn going_on(self) -> Self {
        Self { goes_on: true, ..self }
    }

    /// The same walk, giving entries with the owners they are restored with.
    #[must_use]
    pub(crate) fn with_owners(self, owner_map: Arc<OwnerMap>) -> Self {
        Self { owner_map: Some(owner_map), ..self }
    }

    /// Why the directory of the last [`Step::Unread`] cannot be listed.
    pub(crate) fn take_unread(&mut self) -> Option<OpsError> {
        self.unread.take()
    }

    /// Where the entry given last stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does not enter the directory given last.
    pub fn skip(&mut self) {
        self.next = None;
    }
}

/// Puts zeros where the holes are.
struct Filled<'a> {
    to: &'a mut (dyn Write + Send),
    at: u64,
    holes: std::iter::Peekable<std::slice::Iter<'a, Hole>>,
}

impl Filled<'_> {
    fn fill(&mut self) -> std::io::Result<()> {
        while let Some(hole) = self.holes.next_if(|hole| hole.offset == self.at) {
            let mut left = hole.bytes;
            while left > 0 {
                let count = left.min(ZEROS.len() as u64);
                self.to.write_all(&ZEROS[..count as usize])?;
                left -= count;
            }
            self.at += hole.bytes;
        }
        Ok(())
    }
}

impl Write for Filled<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.fill()?;
        let until = self.holes.peek().map_or(u64::MAX, |hole| hole.offset - self.at);
        let count = usize::try_from(until).unwrap_or(usize::MAX).min(buffer.len());
        self.to.write_all(&buffer[..count])?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
