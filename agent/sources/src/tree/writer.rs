//! One restore under way: directories first, then what is in them, attributes last.
//!
//! What always holds: the walk decides and makes directories, links and special files; the
//! makers make files and finish directories. Where anything stood before, each file is
//! waited for, so nothing is decided by what is not there yet.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use vault_format::tree::{ENTRY_CHANGED_DURING_READ, Entry, EntryKind};
use vault_ops::{OpsError, Result};

use self::hard_links::FirstName;
use super::compare::{Compared, compare, standing};
use super::lookahead::Lookahead;
use super::makers::{FileMaking, Makers, Making, Stopped, Which};
use super::naming::{INCOMING, anew, land};
use super::standing::{Decision, device_of};
use super::unread::{Patience, Unread};
use super::writeback::Writeback;
use super::{Inexact, Start, TreeReport, Wishes, shown};
use crate::descent::{Descent, Identity, open_beneath, open_directory};
use crate::listing::{content_of, stored_bytes};
use crate::metadata::{set_on, set_on_special, set_on_symlink};
use crate::owners::{Giving, Owner};
use crate::point_tree::Step;
use crate::removal;
use crate::selection::Verdict;
use crate::target::io_error;

mod hard_links;

/// The target before anything is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct AsIs {
    /// A restore made it, this one or one that was interrupted.
    pub(super) is_ours: bool,
    pub(super) is_empty: bool,
}

/// Writes everything wished, and gives the target back.
pub(super) async fn write(
    start: &Start<'_>,
    target: OwnedFd,
    as_is: AsIs,
    wishes: &Wishes,
) -> Result<(TreeReport, OwnedFd)> {
    let again = super::second(&target)?;
    let begun = |error| io_error("starting the threads that write files".to_owned(), error);
    let writeback =
        if wishes.options.sync { Some(Writeback::start(super::second(&target)?).map_err(begun)?) } else { None };
    let makers = Makers::start(&wishes.progress, writeback).map_err(begun)?;
    let top = Level {
        entry: start.directory.clone().map(Arc::new),
        verdict: start.verdict(wishes),
        made: true,
        fresh: as_is.is_empty,
        incoming: INCOMING.to_vec(),
        maker: makers.free(),
    };
    let mut writer = Writer {
        start,
        wishes,
        giving: Giving::new(wishes.owners, wishes.options.as_root),
        me: Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() },
        descent: Descent::new(target),
        path: PathBuf::new(),
        levels: vec![top],
        links: BTreeMap::new(),
        report: TreeReport::default(),
        patience: Patience::default(),
        makers,
    };
    let mut walk = Lookahead::new(start.walk(), start.tree);
    while let Some(ahead) = walk.next(writer.writes_all_here()).await? {
        start.below(&ahead.path).clone_into(&mut writer.path);
        match ahead.step {
            Step::Leave => writer.leave()?,
            Step::Unread => ahead.unread.map_or(Ok(()), |error| writer.unread(true, false, error))?,
            Step::Entry(entry) => {
                let is_dir = entry.kind == EntryKind::Directory;
                if !writer.put(Arc::new(entry), &ahead.path).await? && is_dir {
                    walk.skip().await?;
                }
            }
        }
    }
    writer.path = PathBuf::new();
    writer.finish(as_is.is_ours)?;
    Ok((writer.report, again))
}

struct Writer<'a> {
    start: &'a Start<'a>,
    wishes: &'a Wishes,
    giving: Giving,
    /// The user and group everything belongs to unless it is given away.
    me: Owner,
    descent: Descent,
    /// Where the walk is, below the target.
    path: PathBuf,
    levels: Vec<Level>,
    links: BTreeMap<u64, FirstName>,
    report: TreeReport,
    patience: Patience,
    makers: Makers,
}

/// A directory whose entries are being written; its own attributes come last.
struct Level {
    entry: Option<Arc<Entry>>,
    verdict: Verdict,
    /// Whether it is there yet: one that is only passed is made when something in it is.
    made: bool,
    /// Made by this run, or empty before: nothing stands in it but what this run put there.
    fresh: bool,
    /// What a file in it is called until it is whole.
    incoming: Vec<u8>,
    /// Who makes the files in it, and finishes it.
    maker: Which,
}

impl Writer<'_> {
    /// Writes an entry, if it is meant. True for a directory that is entered.
    async fn put(&mut self, entry: Arc<Entry>, in_point: &Path) -> Result<bool> {
        let is_dir = entry.kind == EntryKind::Directory;
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        // Names come in order, so every later one with this beginning is met too.
        if entry.name.0 == level.incoming {
            level.incoming.push(b'~');
        }
        let verdict = self.wishes.selection.verdict(in_point, is_dir, level.verdict);
        match verdict {
            Verdict::Leave => Ok(false),
            Verdict::Pass => {
                self.push(entry, verdict, false, false);
                Ok(true)
            }
            Verdict::Take => {
                self.make_passed()?;
                if is_dir && self.start.counts_listings {
                    self.wishes.progress.add_bytes(entry.content.as_ref().map_or(0, |listing| listing.bytes));
                }
                if is_dir { self.enter(entry) } else { self.write_entry(&entry).await.map(|()| false) }
            }
        }
    }

    /// Whether every file of the present directory is written: none is left out, none
    /// stands there.
    fn writes_all_here(&self) -> bool {
        self.wishes.selection.is_all() && self.levels.last().is_some_and(|level| level.fresh)
    }

    fn push(&mut self, entry: Arc<Entry>, verdict: Verdict, made: bool, fresh: bool) {
        let (incoming, maker) = (INCOMING.to_vec(), self.makers.free());
        self.levels.push(Level { entry: Some(entry), verdict, made, fresh, incoming, maker });
    }

    /// Makes the directories that were only passed until now.
    fn make_passed(&mut self) -> Result<()> {
        let whole = self.path.clone();
        for at in 0..self.levels.len() {
            if self.levels[at].made {
                continue;
            }
            let Some(entry) = self.levels[at].entry.clone() else { continue };
            self.path = whole.components().take(at).collect();
            let fresh_above = self.levels[at - 1].fresh;
            match self.open_or_make(&entry, fresh_above)? {
                Some(fresh) => {
                    self.levels[at].made = true;
                    self.levels[at].fresh = fresh;
                }
                None => {
                    let why = "something else stands where a directory above it belongs";
                    let path = shown(&whole);
                    return Err(OpsError::Refused {
                        what: format!("{path} cannot be restored: {why} ({}). Move that away", shown(&self.path)),
                    });
                }
            }
        }
        self.path = whole;
        Ok(())
    }

    fn enter(&mut self, entry: Arc<Entry>) -> Result<bool> {
        let fresh_above = self.levels.last().is_some_and(|level| level.fresh);
        match self.open_or_make(&entry, fresh_above)? {
            Some(fresh) => {
                self.push(entry, Verdict::Take, true, fresh);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Opens or makes a directory and goes there. None if what stands there stays.
    fn open_or_make(&mut self, entry: &Entry, fresh_above: bool) -> Result<Option<bool>> {
        let name = entry.name.0.as_slice();
        let stat = self.standing(name, fresh_above)?;
        let decision = self.wishes.overwrite.decide(entry, stat.as_ref());
        let fresh = match decision {
            Decision::Enter => {
                self.let_in(name, stat.as_ref());
                false
            }
            Decision::Create => true,
            Decision::Replace => {
                let removed =
                    self.descent.here().and_then(|here| Ok(rustix::fs::unlinkat(here, name, AtFlags::empty())?));
                removed.map_err(|error| self.failed("replacing", error))?;
                self.report.replaced += 1;
                true
            }
            Decision::Keep => {
                self.report.kept += 1;
                return Ok(None);
            }
            Decision::Compare => return Err(self.in_the_way("something else stands in its place")),
            Decision::Conflict(why) => {
                self.inexact(why);
                return Ok(None);
            }
            Decision::Foreign(why) => return Err(self.in_the_way(why)),
        };
        let here = self.descent.here();
        let opened = here.and_then(|here| {
            if fresh {
                // Nobody else may enter before the attributes are set.
                rustix::fs::mkdirat(here, name, Mode::RWXU)?;
            }
            open_directory(here, name)
        });
        let entered = opened.and_then(|directory| self.descent.enter(directory));
        entered.map_err(|error| self.failed("creating", error))?;
        self.report.directories += u64::from(fresh);
        Ok(Some(fresh))
    }

    /// A directory of ours that we may not write to gets its recorded mode last, and lets us in until then.
    fn let_in(&self, name: &[u8], stat: Option<&Stat>) {
        let Some(stat) = stat else { return };
        let sets = self.wishes.overwrite.sets_directories();
        if !sets || self.wishes.options.as_root || stat.st_uid != self.me.uid || stat.st_mode & 0o700 == 0o700 {
            return;
        }
        // Where this fails, what is written next says why.
        let _ = self.descent.here().and_then(|here| {
            let directory = open_beneath(here, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            Ok(rustix::fs::fchmod(directory, Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700))?)
        });
    }

    fn leave(&mut self) -> Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let (Some(entry), true) = (level.entry, level.made) else { return Ok(()) };
        if !level.fresh {
            self.remove_surplus();
        }
        if level.fresh || self.wishes.overwrite.sets_directories() && level.verdict == Verdict::Take {
            self.count_owner(&entry);
            let what = self.making(&entry).map_err(|error| self.failed("finishing", error))?;
            // Its mode may keep us from finding the way up.
            self.descent.leave();
            return self.makers.directory(level.maker, what).map_err(|stopped| self.stopped(stopped));
        }
        self.descent.leave();
        Ok(())
    }

    /// What a maker needs of an entry; of a directory, of the present one.
    fn making(&self, entry: &Arc<Entry>) -> io::Result<Making> {
        let (directory, owner) = (self.descent.here_shared()?, self.giving.owner(entry));
        Ok(Making { directory, path: self.path.clone(), entry: Arc::clone(entry), owner })
    }

    /// Waits for the makers. The target itself gets attributes only if it is a directory of
    /// the point and was made for it.
    fn finish(&mut self, is_ours: bool) -> Result<()> {
        let inexact = self.makers.finish().map_err(|stopped| self.stopped(stopped))?;
        self.report.inexact.extend(inexact);
        self.remove_surplus();
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if let Some(entry) = level.entry.filter(|_| is_ours) {
            let owner = self.giving.owner(&entry);
            let set = self.descent.here().map(|here| set_on(here, &entry, owner));
            let failed = set.map_err(|error| self.failed("finishing", error))?;
            self.inexact_all(&failed);
        }
        self.report.inexact.sort_by(|left, right| Path::new(&left.path).cmp(Path::new(&right.path)));
        Ok(())
    }

    /// Removes what the plan named in the present directory, and nothing else.
    fn remove_surplus(&mut self) {
        let here = self.path.clone();
        let below: Vec<PathBuf> = self
            .wishes
            .remove
            .range(here.clone()..)
            .take_while(|path| path.starts_with(&here))
            .filter(|path| path.parent() == Some(&here))
            .cloned()
            .collect();
        for path in below {
            let Some(name) = path.file_name() else { continue };
            let removed = self.descent.here().and_then(|directory| {
                let device = Identity::of(&rustix::fs::fstat(directory)?).device;
                removal::remove(directory, name.as_bytes(), device)
            });
            match removed {
                Ok(below) => self.report.removed += below.names,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let why = format!("it could not be removed: {error}");
                    self.report.inexact.push(Inexact { path: shown(&path), why });
                }
            }
        }
    }

    /// What stands under a name. In a directory of this run nothing can.
    fn standing(&self, name: &[u8], fresh: bool) -> Result<Option<Stat>> {
        if fresh {
            return Ok(None);
        }
        let found = self.descent.here().and_then(|here| standing(here, name));
        found.map_err(|error| self.failed("looking at", error))
    }

    async fn write_entry(&mut self, entry: &Arc<Entry>) -> Result<()> {
        if entry.kind == EntryKind::Socket {
            self.inexact("it is a socket: the program that listens on it creates it again");
            return Ok(());
        }
        let fresh = self.levels.last().is_some_and(|level| level.fresh);
        let stat = self.standing(&entry.name.0, fresh)?;
        if entry.link_group != 0 && self.link(entry, stat.as_ref())? {
            return Ok(());
        }
        let replaces = match self.wishes.overwrite.decide(entry, stat.as_ref()) {
            Decision::Create => false,
            Decision::Replace => true,
            Decision::Compare => {
                if self.is_there_already(entry, stat.as_ref()).await? {
                    return Ok(());
                }
                true
            }
            Decision::Keep => {
                self.report.kept += 1;
                return Ok(());
            }
            Decision::Conflict(why) => {
                self.inexact(why);
                return Ok(());
            }
            Decision::Foreign(why) => return Err(self.in_the_way(why)),
            Decision::Enter => return Err(self.in_the_way("a directory stands in its place")),
        };
        let made = match entry.kind {
            EntryKind::File => self.create_file(entry, replaces).await?,
            EntryKind::Symlink => self.create_symlink(entry, replaces)?,
            EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice => self.create_special(entry, replaces)?,
            EntryKind::Directory | EntryKind::Socket => false,
        };
        if made {
            self.report.replaced += u64::from(replaces);
            self.count_owner(entry);
            self.remember(entry);
        }
        Ok(())
    }

    /// Compares what looks the same; if it is, only its attributes are set again.
    async fn is_there_already(&mut self, entry: &Arc<Entry>, stat: Option<&Stat>) -> Result<bool> {
        let here = self.descent.here().map_err(|error| self.failed("comparing", error))?;
        let compared = match compare(self.start.tree, here, entry, false).await {
            Err(error) => return self.unread(false, true, error).map(|()| true),
            Ok(compared) => compared,
        };
        match compared.map_err(|error| self.failed("comparing", error))? {
            Compared::Differs(_) if entry.kind == EntryKind::File => Ok(false),
            Compared::Differs(why) if self.wishes.overwrite == super::Overwrite::Refuse => Err(self.in_the_way(why)),
            Compared::Differs(_) => Ok(false),
            Compared::Same(file) => {
                let owner = self.giving.owner(entry);
                let failed = match (&file, entry.kind) {
                    (Some(file), _) => set_on(file.as_fd(), entry, owner),
                    (None, EntryKind::Symlink) => set_on_symlink(here, &entry.name.0, entry, owner),
                    (None, _) => set_on_special(here, &entry.name.0, entry, owner),
                };
                self.inexact_all(&failed);
                self.report.already += 1;
                if entry.kind == EntryKind::File {
                    self.wishes.progress.add_items(1);
                    self.wishes.progress.add_bytes(stored_bytes(entry));
                    self.report.already_bytes += stored_bytes(entry);
                }
                self.count_owner(entry);
                if entry.link_group != 0 {
                    let first = self.first_name(entry, stat.map(Identity::of));
                    self.links.extend(first.map(|first| (entry.link_group, first)));
                }
                Ok(true)
            }
        }
    }

    fn incoming(&self) -> &[u8] {
        self.levels.last().map_or(INCOMING, |level| level.incoming.as_slice())
    }

    /// The name something is made under: its own if nothing stands there.
    fn slot<'a>(&'a self, entry: &'a Entry, replaces: bool) -> &'a [u8] {
        if replaces { self.incoming() } else { &entry.name.0 }
    }

    async fn create_file(&mut self, entry: &Arc<Entry>, replaces: bool) -> Result<bool> {
        let content = content_of(entry)?;
        let Some(level) = self.levels.last() else { return Ok(false) };
        let (fresh, maker, incoming) = (level.fresh, level.maker, level.incoming.clone());
        // What this run made only this user can enter yet; the target was others' to make.
        let alone = fresh && self.levels.len() > 1;
        let what = self.making(entry).map_err(|error| self.failed("creating", error))?;
        let making = FileMaking { what, incoming, replaces, alone, sparse: self.wishes.sparse };
        let mut bytes = self.makers.file(maker, making);
        let read = self.start.tree.read(content, &mut self.wishes.progress.counting(&mut bytes)).await;
        let ordered = match &read {
            Ok(()) => bytes.whole(),
            Err(_) => bytes.gone(),
        };
        let settled = ordered.and_then(|()| if fresh { Ok(()) } else { self.makers.settle(maker) });
        settled.map_err(|stopped| self.stopped(stopped))?;
        if let Err(error) = read {
            return self.unread(false, replaces, error).map(|()| false);
        }
        self.patience.renew();
        if entry.flags & ENTRY_CHANGED_DURING_READ != 0 {
            self.inexact("it was being changed while it was backed up: its bytes may be a mixture");
        }
        self.report.files += 1;
        self.report.bytes += stored_bytes(entry);
        Ok(true)
    }

    /// Names what cannot be read, and goes on unless nothing comes any more. What stands
    /// there stays.
    fn unread(&mut self, is_directory: bool, stands: bool, error: OpsError) -> Result<()> {
        let error = self.patience.bear(error)?;
        let mut unread = Unread::new(shown(&self.path), is_directory, &error);
        unread.stands = stands;
        self.report.unread.push(unread);
        Ok(())
    }

    fn create_symlink(&mut self, entry: &Entry, replaces: bool) -> Result<bool> {
        let target = entry.target.as_ref().map_or(&[][..], |target| &target.0);
        let slot = self.slot(entry, replaces).to_vec();
        let here = self.descent.here().map_err(|error| self.failed("creating", error))?;
        let made = anew(here, &slot, replaces, || rustix::fs::symlinkat(target, here, &slot[..]));
        made.map_err(|error| self.failed("creating", error))?;
        let failed = set_on_symlink(here, &slot, entry, self.giving.owner(entry));
        if replaces {
            land(here, &slot, &entry.name.0, true).map_err(|error| self.failed("replacing", error))?;
        }
        self.inexact_all(&failed);
        self.report.symlinks += 1;
        Ok(true)
    }

    /// Creates a pipe or a device; false if this user may not.
    fn create_special(&mut self, entry: &Entry, replaces: bool) -> Result<bool> {
        let (kind, what) = match entry.kind {
            EntryKind::CharDevice => (FileType::CharacterDevice, "a character device"),
            EntryKind::BlockDevice => (FileType::BlockDevice, "a block device"),
            EntryKind::Fifo | EntryKind::File | EntryKind::Directory | EntryKind::Symlink | EntryKind::Socket => {
                (FileType::Fifo, "a pipe")
            }
        };
        if kind != FileType::Fifo && !self.wishes.options.as_root {
            self.inexact(&format!("it is {what}, which only root can create"));
            return Ok(false);
        }
        let slot = self.slot(entry, replaces).to_vec();
        let here = self.descent.here().map_err(|error| self.failed("creating", error))?;
        let mode = Mode::RUSR | Mode::WUSR;
        let created =
            anew(here, &slot, replaces, || rustix::fs::mknodat(here, &slot[..], kind, mode, device_of(entry)));
        if let Err(error) = created {
            self.inexact(&format!("{what} could not be created: {error}"));
            return Ok(false);
        }
        let failed = set_on_special(here, &slot, entry, self.giving.owner(entry));
        if replaces {
            land(here, &slot, &entry.name.0, true).map_err(|error| self.failed("replacing", error))?;
        }
        self.inexact_all(&failed);
        self.report.special += 1;
        Ok(true)
    }

    fn count_owner(&mut self, entry: &Entry) {
        self.report.other_owners += u64::from(self.giving.loses_owner(entry, self.me));
    }

    fn inexact(&mut self, why: &str) {
        self.report.inexact.push(Inexact { path: shown(&self.path), why: why.to_owned() });
    }

    fn inexact_all(&mut self, failed: &[String]) {
        for why in failed {
            self.inexact(why);
        }
    }

    fn in_the_way(&self, why: &str) -> OpsError {
        OpsError::Refused {
            what: format!(
                "{}: {why}; it came there while this restore was under way, or was changed since an earlier one. It was \
                 not touched. Move it away and run the same command again, or say what may be done to it with --overwrite",
                shown(&self.path)
            ),
        }
    }

    /// Why the makers make nothing more.
    fn stopped(&self, _: Stopped) -> OpsError {
        match self.makers.take_failure() {
            Some(failure) => self.failed_at(&failure.path, failure.doing, failure.error),
            None => self.failed("writing", io::Error::other("the threads that write files have ended")),
        }
    }

    fn failed(&self, doing: &str, error: impl Into<io::Error>) -> OpsError {
        self.failed_at(&self.path, doing, error)
    }

    fn failed_at(&self, path: &Path, doing: &str, error: impl Into<io::Error>) -> OpsError {
        let (path, files) = (shown(path), self.makers.files() + self.report.already);
        io_error(
            format!(
                "{doing} {path} (the restore is not complete: {files} files were written before; the same command goes on \
                 from there)"
            ),
            error,
        )
    }
}
