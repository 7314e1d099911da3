//! Files with several names: written once, linked after.
//!
//! What always holds: a further name is given only to the file this run wrote or found the
//! same under its first; where that cannot be done the file is written again, and named.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Stat};
use vault_format::tree::Entry;
use vault_ops::{OpsError, Result};

use super::Writer;
use crate::descent::{Identity, open_directory};
use crate::tree::makers::Which;
use crate::tree::naming::{anew, land};
use crate::tree::shown;
use crate::tree::standing::Decision;

/// Where a file with several names stands under its first.
pub(super) struct FirstName {
    path: PathBuf,
    entry: Arc<Entry>,
    /// None of a file in a directory of this run: nobody else's name can be another of it.
    identity: Option<Identity>,
    /// Who may still be at it.
    maker: Which,
}

impl Writer<'_> {
    pub(super) fn remember(&mut self, entry: &Arc<Entry>) {
        if entry.link_group == 0 {
            return;
        }
        let fresh = self.levels.last().is_some_and(|level| level.fresh);
        let stat = self.standing(&entry.name.0, fresh).ok().flatten();
        let first = self.first_name(entry, stat.as_ref().map(Identity::of));
        self.links.extend(first.map(|first| (entry.link_group, first)));
    }

    pub(super) fn first_name(&self, entry: &Arc<Entry>, identity: Option<Identity>) -> Option<FirstName> {
        let maker = self.levels.last()?.maker;
        Some(FirstName { path: self.path.clone(), entry: Arc::clone(entry), identity, maker })
    }

    /// Gives an existing file a further name. False if this is the group's first
    /// name, or if linking is impossible here and the file must be written again.
    pub(super) fn link(&mut self, entry: &Entry, stat: Option<&Stat>) -> Result<bool> {
        let Some(first) = self.links.get(&entry.link_group) else { return Ok(false) };
        if (Entry { name: entry.name.clone(), ..Entry::clone(&first.entry) }) != *entry {
            let why = format!("two names of one file differ: {} and {}", shown(&first.path), shown(&self.path));
            return Err(OpsError::corrupt("the point's tree", why));
        }
        if stat.is_some() && stat.map(Identity::of) == first.identity {
            self.report.already += 1;
            return Ok(true);
        }
        match self.wishes.overwrite.decide(entry, stat) {
            Decision::Create | Decision::Replace | Decision::Compare => {}
            // Said by who writes it.
            Decision::Keep | Decision::Conflict(_) | Decision::Foreign(_) | Decision::Enter => return Ok(false),
        }
        self.makers.settle(first.maker).map_err(|stopped| self.stopped(stopped))?;
        match self.link_to(&first.path, entry, stat.is_some()) {
            Ok(()) => {
                self.report.hard_links += 1;
                self.report.replaced += u64::from(stat.is_some());
                Ok(true)
            }
            Err(error) => {
                let first = shown(&first.path);
                self.inexact(&format!("it is a file of its own, not another name of {first}: {error}"));
                Ok(false)
            }
        }
    }

    fn link_to(&self, first: &Path, entry: &Entry, replaces: bool) -> io::Result<()> {
        let here = self.descent.here()?;
        let slot = self.slot(entry, replaces);
        let first_name = first.file_name().unwrap_or_default();
        let is_beside = first.parent() == self.path.parent();
        let parent = if is_beside { None } else { self.way_to(first)? };
        let from = match &parent {
            Some(parent) => parent.as_fd(),
            None if is_beside => here,
            None => self.descent.top(),
        };
        anew(here, slot, replaces, || rustix::fs::linkat(from, first_name, here, slot, AtFlags::empty()))?;
        if replaces { land(here, slot, &entry.name.0, true) } else { Ok(()) }
    }

    /// The directory that a path below the target is in; none for the target itself.
    fn way_to(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let mut parent: Option<OwnedFd> = None;
        for component in path.parent().into_iter().flat_map(Path::components) {
            let from = parent.as_ref().map_or(self.descent.top(), AsFd::as_fd);
            parent = Some(open_directory(from, component.as_os_str().as_bytes())?);
        }
        Ok(parent)
    }
}
