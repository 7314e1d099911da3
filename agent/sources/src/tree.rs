//! The tree writer: a tree of files out of a point, below one directory.
//!
//! What always holds:
//! - Nothing is written outside the target. Every name is checked to be a single
//!   component, every step is relative to an open directory, no symbolic link is
//!   followed, files and directories are created exclusively.
//! - By default the target is new or empty, or holds what an interrupted run of the same
//!   restore left, so nothing of the user's is touched; what else may be touched was asked for.
//! - A file has its name only when it is whole. What is skipped because it is there already
//!   was compared by content.
//! - A forged point cannot take more than it says: depth, entries and listings
//!   are bounded, and each file gets exactly its recorded size.
//! - What of the point cannot be read is named and left out, and the rest is written all the
//!   same; trouble with the target, the keys or this host ends the restore.
//! - Success means every name, byte and attribute is there, except what the
//!   report names.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use vault_format::point::TreeRoot;
use vault_format::tree::{Entry, EntryKind};
use vault_ops::progress::{Phase, Progress, Total};
use vault_ops::source::PointReader;
use vault_ops::{OpsError, Result};

mod compare;
mod lookahead;
mod makers;
mod naming;
mod plan;
mod standing;
mod unread;
mod verify;
mod writeback;
mod writer;

pub use plan::{Doomed, Plan};
pub use standing::Overwrite;
pub use unread::Unread;

pub use crate::owner_map::{OwnerLine, OwnerMap};
pub use crate::owners::OwnerRule;
use crate::path_text::path_text;
use crate::point_tree::{Found, PointTree, Walk};
use crate::selection::Selection;
use crate::target::{Target, io_error, open_target, room_at};
use crate::tree::writer::AsIs;

/// How a tree is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeOptions {
    /// Wait until everything is on the disk before success is reported.
    pub sync: bool,
    /// Set owners and create devices: only root can.
    pub as_root: bool,
    /// Most entries that are created: a small forged point can describe more
    /// files than any disk holds.
    pub entries_max: u64,
}

impl Default for TreeOptions {
    /// Synced, as root if the process is, up to 2^32 entries.
    fn default() -> Self {
        Self { sync: true, as_root: rustix::process::geteuid().is_root(), entries_max: 1 << 32 }
    }
}

/// What is restored, and what may happen to what is there.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// How it is written.
    pub options: TreeOptions,
    /// A directory or file of the point; empty for all of it.
    pub part: PathBuf,
    /// What of it.
    pub selection: Selection,
    /// What may be done to what stands in the target.
    pub overwrite: Overwrite,
    /// Paths below the target that are removed, as a [`Plan`] named them.
    pub remove: BTreeSet<PathBuf>,
    /// Who shall own it.
    pub owners: OwnerRule,
    /// Who gets what belonged to others; counts before the rule.
    pub owner_map: Arc<OwnerMap>,
    /// Read everything again afterwards and compare.
    pub verify: bool,
    /// Make holes of long runs of zeros that were none.
    pub sparse: bool,
    /// Do not begin if the target has too little room for all of it.
    pub check_room: bool,
    /// Where it counts what it does.
    pub progress: Progress,
}

impl Default for Wishes {
    /// Everything, into a new or empty directory that has room for it.
    fn default() -> Self {
        Self {
            options: TreeOptions::default(),
            part: PathBuf::new(),
            selection: Selection::all(),
            overwrite: Overwrite::default(),
            remove: BTreeSet::new(),
            owners: OwnerRule::default(),
            owner_map: Arc::default(),
            verify: false,
            sparse: false,
            check_room: true,
            progress: Progress::default(),
        }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Regular files, further names of a file not counted.
    pub files: u64,
    /// Directories, the target not counted.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Pipes and devices.
    pub special: u64,
    /// Bytes of file data written.
    pub bytes: u64,
    /// What was there already, compared and found the same. Not counted above.
    pub already: u64,
    /// Bytes of file data among that.
    pub already_bytes: u64,
    /// What stood there and was replaced. Counted above, too.
    pub replaced: u64,
    /// What stood there and was kept, as was asked for.
    pub kept: u64,
    /// Names that were removed.
    pub removed: u64,
    /// Files that were read again and compared; none if that was not asked for.
    pub verified: Option<u64>,
    /// What was read again and is not what the point holds.
    pub differs: Vec<Inexact>,
    /// Entries that belong to somebody else than the one who restored them:
    /// only root can give files away. Not repeated in `inexact`.
    pub other_owners: u64,
    /// What is not exactly as it was.
    pub inexact: Vec<Inexact>,
    /// What of the point could not be read: it is not there. Nothing of it is counted above.
    pub unread: Vec<Unread>,
}

/// Something that could not be restored exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inexact {
    /// Below the target.
    pub path: String,
    /// What is missing or differs.
    pub why: String,
}

/// Writes the tree at `root` below the directory `to`, which is created if it
/// does not exist and must be empty if it does.
///
/// A failure leaves the files that were whole by then, which may be all that somebody
/// needs, and not the one that was being written; run again it goes on from there.
pub async fn restore_tree(
    point: &dyn PointReader,
    root: &TreeRoot,
    to: &Path,
    options: TreeOptions,
) -> Result<TreeReport> {
    restore(point, root, to, &Wishes { options, ..Wishes::default() }).await
}

/// Says what [`restore`] would do, and changes nothing.
pub async fn plan(point: &dyn PointReader, root: &TreeRoot, to: &Path, wishes: &Wishes) -> Result<Plan> {
    let start = Start::of(PointTree::at(point, root)?, wishes).await?;
    let target = Target::look(to)?;
    plan::take(&start, target.as_ref(), to, wishes).await
}

/// Writes what is wished of the tree at `root` below the directory `to`.
pub async fn restore(point: &dyn PointReader, root: &TreeRoot, to: &Path, wishes: &Wishes) -> Result<TreeReport> {
    wishes.progress.begin(Phase::Planning);
    let mut start = Start::of(PointTree::at(point, root)?, wishes).await?;
    let standing = Target::look(to)?;
    let occupied = standing.as_ref().is_some_and(|target| !target.is_empty);
    let whole = wishes.part.as_os_str().is_empty() && wishes.selection.is_all() && !occupied;
    let plan = if whole { None } else { Some(plan::take(&start, standing.as_ref(), to, wishes).await?) };
    if occupied && wishes.overwrite == Overwrite::Refuse {
        refuse_foreign(plan.as_ref(), to)?;
    }
    let needed = plan.as_ref().map_or(point.record().statistics.plain_bytes, |plan| plan.bytes);
    if wishes.check_room {
        refuse_too_large(needed, to)?;
    }
    start.counts_listings = whole;
    let bytes = Some(needed + plan.as_ref().map_or(0, |plan| plan.already_bytes));
    wishes.progress.begin_of(Phase::Writing, Total { bytes, ..Total::default() });
    wishes.progress.add_bytes(if whole { root.content.bytes } else { 0 });
    let (target, is_new) = open_target(to)?;
    // What an interrupted run made is as good as new.
    let is_ours = is_new || occupied && wishes.overwrite == Overwrite::Refuse;
    let as_is = AsIs { is_ours, is_empty: !occupied };
    let (mut report, target) = writer::write(&start, target, as_is, wishes).await?;
    if wishes.options.sync {
        wishes.progress.enter(Phase::Syncing);
        // One call for the whole file system is much faster than one per file,
        // and reports every write error since the target was opened.
        let synced = rustix::fs::syncfs(target.as_fd());
        synced.map_err(|error| io_error(format!("syncing {}", to.display()), error))?;
    }
    if wishes.verify {
        wishes.progress.begin_of(Phase::Verifying, Total { bytes, ..Total::default() });
        verify::run(&start, target, wishes, &mut report).await?;
    }
    Ok(report)
}

fn refuse_foreign(plan: Option<&Plan>, to: &Path) -> Result<()> {
    let Some(foreign) = plan.and_then(|plan| plan.foreign.as_ref()) else { return Ok(()) };
    Err(OpsError::Refused {
        what: format!(
            "{} is not empty, and not what an interrupted run of this restore leaves ({}: {}); nothing was written. \
             Give a new directory, or say with --overwrite never, if-newer or always what may be done to what is there",
            to.display(),
            foreign.path,
            foreign.why
        ),
    })
}

fn refuse_too_large(needed: u64, to: &Path) -> Result<()> {
    let room = room_at(to)?;
    if needed <= room {
        return Ok(());
    }
    Err(OpsError::Refused {
        what: format!(
            "{} needs up to {needed} bytes and has {room} bytes of room. Nothing was written. Make room, restore a part \
             (--include, or POINT:PATH), or, if much of it is zeros, say --sparse and --no-room-check",
            to.display()
        ),
    })
}

/// Where a restore begins: what goes into the target itself.
pub(crate) struct Start<'a> {
    pub(crate) tree: PointTree<'a>,
    /// The entries that go into the target.
    entries: Vec<Entry>,
    /// Where they stand in the point.
    base: PathBuf,
    /// The directory of the point that the target becomes; none for its top, or a single file.
    pub(crate) directory: Option<Entry>,
    /// The total that is counted to has the listings in it.
    pub(crate) counts_listings: bool,
    most: u64,
    owner_map: Arc<OwnerMap>,
}

impl<'a> Start<'a> {
    async fn of(tree: PointTree<'a>, wishes: &Wishes) -> Result<Self> {
        let base: PathBuf = wishes.part.components().collect();
        let (entries, base, directory) = match tree.look(&base).await? {
            Found::Top => (tree.listing(tree.top(), &base).await?.entries, base, None),
            Found::Entry(mut entry) if entry.kind == EntryKind::Directory => {
                wishes.owner_map.apply(&mut entry);
                (tree.listing(crate::listing::content_of(&entry)?, &base).await?.entries, base, Some(entry))
            }
            Found::Entry(entry) => (vec![entry], base.parent().map(Path::to_owned).unwrap_or_default(), None),
        };
        let owner_map = Arc::clone(&wishes.owner_map);
        let most = wishes.options.entries_max;
        Ok(Self { tree, entries, base, directory, counts_listings: false, most, owner_map })
    }

    pub(crate) fn walk(&self) -> Walk<'a> {
        let walk = self.tree.walk_entries(self.entries.clone(), self.base.clone());
        walk.at_most(self.most).going_on().with_owners(Arc::clone(&self.owner_map))
    }

    /// The path below the target of a path in the point.
    pub(crate) fn below<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.base).unwrap_or(path)
    }

    /// The path in the point of a path below the target.
    pub(crate) fn in_point(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// What the selection says of the directory that the target is.
    pub(crate) fn verdict(&self, wishes: &Wishes) -> crate::selection::Verdict {
        wishes.selection.verdict_of_way(&self.base)
    }
}

/// A name below the target, for people.
pub(crate) fn shown(path: &Path) -> String {
    path_text(path)
}

/// Another descriptor of an open directory, with a place of its own in its list of names.
pub(crate) fn second(directory: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, ".", flags, Mode::empty());
    opened.map_err(|error| io_error("opening the target again".to_owned(), error))
}
