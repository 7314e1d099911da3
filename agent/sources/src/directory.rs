//! The source `directory`: trees of files as a point.
//!
//! What always holds:
//! - Symbolic links inside the trees are stored, never followed. A path that the
//!   user named is followed, for it says what is wanted.
//! - Entries are read in the order of their names, depth first, and a directory
//!   is written as content of its own once everything below it is: equal trees
//!   are equal bytes, and memory holds one listing per level.
//! - What cannot be read is named in the reading and left out; it never fails
//!   the rest. A listing names only what is stored.
//! - A file is not read again if the file cache knows it unchanged and every chunk
//!   of it counts today (`regular.rs`).
//! - The tree root is over the listing of the top: one entry per path named, so
//!   that a restore into DIR gives `DIR/<name>/...`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::Uid;
use vault_format::Blob;
use vault_format::body::ChunkKind;
use vault_format::point::{PointRoot, SourceKind, TreeRoot};
use vault_format::tree::{Content, Entry, EntryKind, Listing};
use vault_ops::file_cache::{KnownFiles, Seen};
use vault_ops::source::{Reading, Sink, Source, Unreadable, tree_root};
use vault_ops::{OpsError, Result};

use crate::descent::{DEPTH_MAX, Descent, list_names, open_directory};
use crate::exclude::{Exclude, Excluded};
use crate::links::Links;
use crate::listing::LISTING_BYTES_MAX;
use crate::metadata::{Owners, entry_of, kind_of, read_xattrs, size_of};
use crate::path_text::path_text;
use crate::regular::stamp_of;
use crate::rules::Rules;
use crate::top::{Top, name_tops};

/// Trees of files on this host.
pub struct DirectorySource {
    name: String,
    tops: Vec<Top>,
    exclude: Exclude,
    rules: Rules,
    force: bool,
}

impl DirectorySource {
    /// A source called `name` of the trees (or single files) at `paths`, without
    /// what lies at `excludes`: the vault's own state and local locations must be
    /// among them when they are inside. All are absolute; a relative path, a path
    /// with `..`, or an exclude that leaves nothing of a path is refused.
    pub fn new(name: impl Into<String>, paths: &[PathBuf], excludes: Vec<PathBuf>) -> Result<Self> {
        let tops = name_tops(paths)?;
        let exclude = Exclude::paths(excludes)?;
        for Top { path, .. } in &tops {
            if let Some(whole) = exclude.whole(path) {
                let (path, whole) = (path.display(), whole.display());
                return Err(OpsError::Refused {
                    what: format!("cannot back up {path}: it lies inside {whole}, which is excluded"),
                });
            }
        }
        Ok(Self { name: name.into(), tops, exclude, rules: Rules::default(), force: false })
    }

    /// Leaves out what matches `patterns` too, below the paths named. They are
    /// written as in a `.gitignore` file at `/`; one that is no pattern is refused.
    pub fn with_patterns(mut self, patterns: &[String]) -> Result<Self> {
        self.exclude.set_patterns(patterns)?;
        Ok(self)
    }

    /// Leaves out what these rules say too.
    pub fn with_rules(mut self, rules: Rules) -> Result<Self> {
        rules.check()?;
        self.rules = rules;
        Ok(self)
    }

    /// Reads every file, whatever the file cache says.
    #[must_use]
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}

impl Source for DirectorySource {
    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, sink: &mut dyn Sink) -> Result<Reading> {
        let mut walk = Walk {
            known: sink.known_files(&self.name, b""),
            sink,
            source: &self.name,
            force: self.force,
            excluded: self.exclude.look(),
            rules: &self.rules,
            device: 0,
            owners: Owners::of_this_host(),
            me: rustix::process::geteuid(),
            links: Links::default(),
            items: 0,
            changed: 0,
            unreadable: Vec::new(),
        };
        let mut entries = Vec::new();
        for top in &self.tops {
            entries.extend(walk.read_top(top)?);
        }
        if entries.is_empty() {
            let why: Vec<String> = walk.unreadable.iter().map(|one| format!("{}: {}", one.path, one.why)).collect();
            return Err(OpsError::Source {
                name: self.name.clone(),
                why: format!("nothing could be read, so no point was made ({})", why.join("; ")),
            });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        let content = walk.sink.write(ChunkKind::Tree, &mut encode_listing(entries).as_slice())?;
        let root = PointRoot::Tree(TreeRoot { hash: tree_root(&content), content });
        let Walk { sink, known, items, changed, unreadable, .. } = walk;
        sink.remember_files(known);
        sink.forget_vanished();
        Ok(Reading { root, items, changed, unreadable })
    }
}

/// One pass over all trees.
pub(crate) struct Walk<'a> {
    pub(crate) sink: &'a mut dyn Sink,
    source: &'a str,
    pub(crate) force: bool,
    excluded: Excluded<'a>,
    rules: &'a Rules,
    /// File system of the path named.
    device: u64,
    pub(crate) owners: Owners,
    pub(crate) me: Uid,
    links: Links,
    /// The files that were named themselves.
    known: KnownFiles,
    items: u64,
    changed: u64,
    unreadable: Vec<Unreadable>,
}

/// A directory whose entries are being read.
pub(crate) struct Frame {
    entry: Entry,
    names: std::vec::IntoIter<Vec<u8>>,
    listed: Vec<Entry>,
    known: KnownFiles,
}

/// What stands under a name.
#[allow(clippy::large_enum_variant, reason = "it lives for one step of the walk, and most are entries")]
pub(crate) enum Found {
    /// Left out: excluded, or reported.
    Nothing,
    Entry(Entry),
    Directory(OwnedFd, Box<Frame>),
}

impl Walk<'_> {
    fn read_top(&mut self, top: &Top) -> Result<Option<Entry>> {
        match self.find_top(top) {
            Ok(Found::Nothing) => Ok(None),
            Ok(Found::Entry(entry)) => Ok(Some(entry)),
            Ok(Found::Directory(directory, frame)) => self.read_tree(top, directory, *frame),
            Err(Stop::Io(error)) => {
                self.report(&top.path, &error);
                Ok(None)
            }
            Err(Stop::Sink(error)) => Err(error),
        }
    }

    /// The one place where a symbolic link is followed.
    fn find_top(&mut self, top: &Top) -> std::result::Result<Found, Stop> {
        let stat = rustix::fs::stat(&top.path)?;
        if self.excluded.covers_path(&top.path, &stat) {
            return Err(Stop::Io(io::Error::other("it is excluded")));
        }
        self.device = stat.st_dev;
        if let Some(entry) = self.other_name(&top.name, &stat) {
            return Ok(Found::Entry(entry));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match kind_of(&stat) {
            Some(EntryKind::Directory) => {
                let directory = rustix::fs::open(&top.path, flags | OFlags::DIRECTORY, Mode::empty())?;
                Ok(self.open_frame(&top.name, &top.path, directory, true)?)
            }
            Some(EntryKind::File) => {
                // Out and in again: a file that was named is known like those of a directory.
                let mut known = std::mem::replace(&mut self.known, KnownFiles::none());
                let open = |_: &Self| Ok(rustix::fs::open(&top.path, flags, Mode::empty())?);
                let found = self.file(&mut known, &top.name, &top.path, &stat, open);
                self.known = known;
                found
            }
            Some(
                kind @ (EntryKind::Symlink
                | EntryKind::Fifo
                | EntryKind::CharDevice
                | EntryKind::BlockDevice
                | EntryKind::Socket),
            ) => {
                self.count_item();
                self.changed += 1;
                Ok(Found::Entry(entry_of(&top.name, kind, &stat, &self.owners)))
            }
            None => Err(Stop::Io(io::Error::other("it is of a kind that cannot be stored"))),
        }
    }

    /// Reads everything below an open directory.
    fn read_tree(&mut self, top: &Top, directory: OwnedFd, frame: Frame) -> Result<Option<Entry>> {
        let mut path = top.path.clone();
        let mut descent = Descent::new(directory);
        let mut above: Vec<Frame> = Vec::new();
        let mut frame = frame;
        loop {
            if let Some(name) = frame.names.next() {
                path.push(std::ffi::OsStr::from_bytes(&name));
                match self.find(&descent, &mut frame.known, &name, &path)? {
                    Found::Directory(child, below) => match descent.enter(child) {
                        Ok(()) => {
                            above.push(std::mem::replace(&mut frame, *below));
                            continue;
                        }
                        Err(error) => self.report(&path, &error),
                    },
                    Found::Entry(entry) => frame.listed.push(entry),
                    Found::Nothing => {}
                }
                path.pop();
            } else {
                let done = self.store_directory(frame, &path)?;
                let Some(parent) = above.pop() else { return Ok(done) };
                frame = parent;
                frame.listed.extend(done);
                descent.leave();
                path.pop();
            }
        }
    }

    /// What stands under `name`; what went wrong with it is reported.
    fn find(&mut self, descent: &Descent, known: &mut KnownFiles, name: &[u8], path: &Path) -> Result<Found> {
        match self.find_in(descent, known, name, path) {
            Ok(found) => Ok(found),
            Err(Stop::Io(error)) => {
                self.report(path, &error);
                Ok(Found::Nothing)
            }
            Err(Stop::Sink(error)) => Err(error),
        }
    }

    fn find_in(
        &mut self,
        descent: &Descent,
        known: &mut KnownFiles,
        name: &[u8],
        path: &Path,
    ) -> std::result::Result<Found, Stop> {
        let here = descent.here()?;
        let stat = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if self.excluded.covers(path, &stat) || self.is_left_out(&stat) {
            return Ok(Found::Nothing);
        }
        if let Some(entry) = self.other_name(name, &stat) {
            return Ok(Found::Entry(entry));
        }
        match kind_of(&stat) {
            Some(EntryKind::Directory) if descent.depth() >= DEPTH_MAX => {
                Err(Stop::Io(io::Error::other(format!("it lies deeper than {DEPTH_MAX} directories"))))
            }
            Some(EntryKind::Directory) => Ok(self.open_frame(name, path, open_directory(here, name)?, false)?),
            Some(EntryKind::File) => {
                let open = |walk: &Self| walk.open_file(here, name, &stat);
                self.file(known, name, path, &stat, open)
            }
            Some(EntryKind::Symlink) => {
                self.count_change(known, name, &stat);
                let target = rustix::fs::readlinkat(here, name, Vec::new())?.into_bytes();
                let mut entry = entry_of(name, EntryKind::Symlink, &stat, &self.owners);
                entry.size = target.len() as u64;
                entry.target = Some(Blob(target));
                Ok(Found::Entry(self.remember(entry, &stat)))
            }
            Some(kind @ (EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Socket)) => {
                self.count_change(known, name, &stat);
                let entry = entry_of(name, kind, &stat, &self.owners);
                Ok(Found::Entry(self.remember(entry, &stat)))
            }
            None => Err(Stop::Io(io::Error::other("it is of a kind that cannot be stored"))),
        }
    }

    /// Lists an open directory. A listing that breaks off is reported, and what
    /// it gave is kept.
    fn open_frame(&mut self, name: &[u8], path: &Path, directory: OwnedFd, is_top: bool) -> io::Result<Found> {
        let stat = rustix::fs::fstat(&directory)?;
        let mut entry = entry_of(name, EntryKind::Directory, &stat, &self.owners);
        self.add_xattrs(&mut entry, directory.as_fd(), path);
        let (mut names, broken) = list_names(directory.as_fd());
        if let Some(error) = broken {
            if names.is_empty() {
                return Err(error);
            }
            self.report(path, &format!("its list of files broke off: {error}"));
        }
        if !is_top {
            let kept = self.rules.marks(directory.as_fd(), &names);
            if self.is_elsewhere(&stat) {
                names.clear();
            } else if !kept.is_empty() {
                names = kept;
            }
        }
        let known = self.sink.known_files(self.source, path.as_os_str().as_bytes());
        let frame = Frame { entry, names: names.into_iter(), listed: Vec::new(), known };
        Ok(Found::Directory(directory, Box::new(frame)))
    }

    fn store_directory(&mut self, frame: Frame, path: &Path) -> Result<Option<Entry>> {
        let mut entry = frame.entry;
        self.sink.remember_files(frame.known);
        let bytes = encode_listing(frame.listed);
        if bytes.len() as u64 > LISTING_BYTES_MAX {
            self.report(path, &"it has more files than one directory can hold in a vault");
            return Ok(None);
        }
        let content: Content = self.sink.write(ChunkKind::Tree, &mut bytes.as_slice())?;
        entry.content = Some(content);
        Ok(Some(entry))
    }

    fn is_elsewhere(&self, stat: &Stat) -> bool {
        self.rules.one_file_system && stat.st_dev != self.device
    }

    /// Whether a rule leaves it out. A directory on another file system is kept, empty.
    fn is_left_out(&self, stat: &Stat) -> bool {
        let is_file = kind_of(stat) == Some(EntryKind::File);
        let is_directory = kind_of(stat) == Some(EntryKind::Directory);
        is_file && self.rules.larger_than.is_some_and(|most| size_of(stat) > most)
            || !is_directory && self.is_elsewhere(stat)
    }

    /// Counts what has no bytes to be read, if it changed.
    fn count_change(&mut self, known: &mut KnownFiles, name: &[u8], stat: &Stat) {
        let stamp = stamp_of(stat);
        self.changed += u64::from(known.seen(name, &stamp).is_none());
        known.note(name, &Seen { stamp, file: None });
    }

    /// Counts a file that was read.
    pub(crate) fn count_read(&mut self) {
        self.changed += 1;
    }

    pub(crate) fn add_xattrs(&mut self, entry: &mut Entry, file: BorrowedFd<'_>, path: &Path) {
        match read_xattrs(file) {
            Ok(xattrs) => entry.xattrs = xattrs,
            Err(error) => self.report(path, &format!("its extended attributes could not be read: {error}")),
        }
    }

    fn other_name(&mut self, name: &[u8], stat: &Stat) -> Option<Entry> {
        let entry = self.links.other_name(name, stat)?;
        self.count_item();
        Some(entry)
    }

    /// Counts an entry, and knows its file again under other names.
    pub(crate) fn remember(&mut self, mut entry: Entry, stat: &Stat) -> Entry {
        self.count_item();
        self.links.remember(&mut entry, stat);
        entry
    }

    fn count_item(&mut self) {
        self.items += 1;
        self.sink.passed(1);
    }

    pub(crate) fn report(&mut self, path: &Path, why: &dyn std::fmt::Display) {
        self.unreadable.push(Unreadable { path: path_text(path), why: why.to_string() });
    }
}

/// Why a file was not read: its own failure costs the file, the sink's the point.
pub(crate) enum Stop {
    Io(io::Error),
    Sink(OpsError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

fn encode_listing(entries: Vec<Entry>) -> Vec<u8> {
    vault_format::encode(&Listing { entries })
}
