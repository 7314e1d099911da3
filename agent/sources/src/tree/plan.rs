//! What a restore would do: the same walk and the same decisions, and nothing changed.
//!
//! What always holds: what a restore removes stands in a plan before, by name; a plan
//! names things below the target only; what the selection leaves out is not removed, nor is
//! what stands where the point cannot be read.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use vault_format::tree::{Entry, EntryKind};
use vault_ops::{OpsError, Result};

use super::compare::standing;
use super::naming::is_incoming;
use super::standing::Decision;
use super::{Inexact, Overwrite, Start, Unread, Wishes, second, shown};
use crate::descent::{Descent, Identity, list_names, open_directory};
use crate::listing::stored_bytes;
use crate::metadata::kind_of;
use crate::point_tree::Step;
use crate::removal::{self, Below};
use crate::selection::Verdict;
use crate::target::{Target, io_error, room_at};

/// What would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files to write.
    pub files: u64,
    /// Directories to make.
    pub directories: u64,
    /// Links, pipes and devices to make, and further names of files.
    pub others: u64,
    /// Bytes of file data to write.
    pub bytes: u64,
    /// What is there already, as far as its inode says; its bytes are compared when it comes to that.
    pub already: u64,
    /// Bytes of file data among that.
    pub already_bytes: u64,
    /// What stands there and goes.
    pub replaced: Vec<PathBuf>,
    /// What stands there and stays, as was asked for.
    pub kept: u64,
    /// What stands in the way and stays.
    pub conflicts: Vec<Inexact>,
    /// What the point does not have: removed if asked for.
    pub surplus: Vec<Doomed>,
    /// Directories of the point that cannot be listed: nothing is known of what belongs there.
    pub unread: Vec<Unread>,
    /// The first thing that no interrupted run of this restore left.
    pub foreign: Option<Inexact>,
    /// Bytes the target has room for.
    pub room: u64,
}

/// Something in the target that the point does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Below the target.
    pub path: PathBuf,
    /// Names that go with it, itself included.
    pub names: u64,
    /// Bytes of files among them.
    pub bytes: u64,
}

/// A directory of the point on the way, and what of the target is there.
struct Level {
    verdict: Verdict,
    /// Whether the target has it.
    there: bool,
    /// Names in the target that the point did not come to yet.
    others: Vec<Vec<u8>>,
    device: u64,
}

struct Planner<'a> {
    start: &'a Start<'a>,
    wishes: &'a Wishes,
    descent: Option<Descent>,
    levels: Vec<Level>,
    plan: Plan,
}

pub(super) async fn take(start: &Start<'_>, target: Option<&Target>, to: &Path, wishes: &Wishes) -> Result<Plan> {
    let descent = target.map(|target| second(&target.directory)).transpose()?.map(Descent::new);
    let plan = Plan { room: room_at(to)?, ..Plan::default() };
    let mut planner = Planner { start, wishes, descent, levels: Vec::new(), plan };
    planner.enter(start.verdict(wishes), target.is_some(), Path::new(""))?;
    let mut walk = start.walk();
    while let Some(step) = walk.step().await? {
        let path = start.below(walk.path()).to_owned();
        match step {
            Step::Leave => planner.leave(&path)?,
            Step::Unread => planner.unread(path, walk.take_unread()),
            Step::Entry(entry) => {
                if !planner.entry(&entry, walk.path(), &path)? {
                    walk.skip();
                }
            }
        }
    }
    planner.end_level(Path::new(""))?;
    Ok(planner.plan)
}

impl Planner<'_> {
    /// Takes note of what the target has in the directory just entered.
    fn enter(&mut self, verdict: Verdict, there: bool, path: &Path) -> Result<()> {
        let mut level = Level { verdict, there, others: Vec::new(), device: 0 };
        if let (true, Some(descent)) = (there, &self.descent) {
            let failed = |error| io_error(format!("reading {}", shown(path)), error);
            let here = descent.here().map_err(failed)?;
            let (names, broken) = list_names(here);
            broken.map_or(Ok(()), |error| Err(failed(error)))?;
            level.others = names;
            level.device =
                rustix::fs::fstat(here).map(|stat| Identity::of(&stat).device).map_err(|error| failed(error.into()))?;
        }
        self.levels.push(level);
        Ok(())
    }

    /// Decides about an entry. True if it is a directory that is looked into.
    fn entry(&mut self, entry: &Entry, in_point: &Path, path: &Path) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let is_dir = entry.kind == EntryKind::Directory;
        let verdict = self.wishes.selection.verdict(in_point, is_dir, level.verdict);
        let at = level.others.binary_search(&entry.name.0);
        if let Ok(at) = at {
            level.others.remove(at);
        }
        let there = self.descent.as_ref().filter(|_| at.is_ok());
        let failed = |error| io_error(format!("looking at {}", shown(path)), error);
        let stat = there.map(|descent| standing(descent.here()?, &entry.name.0)).transpose().map_err(failed)?.flatten();
        if verdict == Verdict::Leave {
            if stat.is_some() {
                self.foreign(path, "this restore does not write it");
            }
            return Ok(false);
        }
        if entry.kind == EntryKind::Socket {
            return Ok(false);
        }
        let decision = self.wishes.overwrite.decide(entry, stat.as_ref());
        self.count(entry, decision, path, verdict == Verdict::Pass);
        match decision {
            Decision::Enter => {
                if let Some(descent) = &mut self.descent {
                    let opened = descent.here().and_then(|here| open_directory(here, &entry.name.0));
                    opened.and_then(|directory| descent.enter(directory)).map_err(failed)?;
                }
                self.enter(verdict, true, path)?;
                Ok(true)
            }
            Decision::Create | Decision::Replace if is_dir => {
                self.enter(verdict, false, path)?;
                Ok(true)
            }
            Decision::Create
            | Decision::Replace
            | Decision::Compare
            | Decision::Keep
            | Decision::Conflict(_)
            | Decision::Foreign(_) => Ok(false),
        }
    }

    fn count(&mut self, entry: &Entry, decision: Decision, path: &Path, is_passed: bool) {
        let bytes = if entry.kind == EntryKind::File { stored_bytes(entry) } else { 0 };
        match decision {
            Decision::Compare => {
                self.plan.already += 1;
                self.plan.already_bytes += bytes;
            }
            Decision::Enter => {}
            Decision::Keep => self.plan.kept += 1,
            Decision::Conflict(why) => self.plan.conflicts.push(Inexact { path: shown(path), why: why.to_owned() }),
            Decision::Foreign(why) => self.foreign(path, why),
            Decision::Create | Decision::Replace => {
                if decision == Decision::Replace {
                    self.plan.replaced.push(path.to_owned());
                }
                match entry.kind {
                    EntryKind::Directory => self.plan.directories += u64::from(!is_passed),
                    EntryKind::File => {
                        self.plan.files += 1;
                        self.plan.bytes += bytes;
                    }
                    EntryKind::Symlink
                    | EntryKind::Fifo
                    | EntryKind::CharDevice
                    | EntryKind::BlockDevice
                    | EntryKind::Socket => self.plan.others += 1,
                }
            }
        }
    }

    fn foreign(&mut self, path: &Path, why: &str) {
        if self.plan.foreign.is_none() {
            self.plan.foreign = Some(Inexact { path: shown(path), why: why.to_owned() });
        }
    }

    /// What stands in a directory that cannot be listed may be the point's: it is nobody's surplus.
    fn unread(&mut self, path: PathBuf, error: Option<OpsError>) {
        if let Some(level) = self.levels.last_mut() {
            level.others.clear();
        }
        self.plan.unread.extend(error.map(|error| Unread::new(shown(&path), true, &error)));
    }

    fn leave(&mut self, path: &Path) -> Result<()> {
        self.end_level(path)?;
        Ok(())
    }

    /// What is left of the names of a directory, the point does not have.
    fn end_level(&mut self, path: &Path) -> Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if !level.there {
            return Ok(());
        }
        for name in &level.others {
            let below = path.join(name_of(name));
            if is_incoming(name) {
                continue;
            }
            self.foreign(&below, "the point does not have it");
            if self.wishes.overwrite != Overwrite::Refuse {
                self.surplus(name, below, &level)?;
            }
        }
        if !self.levels.is_empty()
            && let Some(descent) = &mut self.descent
        {
            descent.leave();
        }
        Ok(())
    }

    fn surplus(&mut self, name: &[u8], path: PathBuf, level: &Level) -> Result<()> {
        let Some(descent) = &self.descent else { return Ok(()) };
        let failed = |error| io_error(format!("looking at {}", shown(&path)), error);
        let here = descent.here().map_err(failed)?;
        let Some(stat) = standing(here, name).map_err(failed)? else { return Ok(()) };
        let is_dir = kind_of(&stat) == Some(EntryKind::Directory);
        let in_point = self.start.in_point(&path);
        // What the patterns leave out is none of this restore's business.
        if self.wishes.selection.verdict(&in_point, is_dir, level.verdict) != Verdict::Take {
            return Ok(());
        }
        match removal::count(here.as_fd(), name, level.device) {
            Ok(Below { names, bytes }) => self.plan.surplus.push(Doomed { path, names, bytes }),
            Err(error) => {
                let why = format!("it stays, as not all of it can be removed: {error}");
                self.plan.conflicts.push(Inexact { path: shown(&path), why });
            }
        }
        Ok(())
    }
}

fn name_of(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}
