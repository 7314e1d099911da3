//! The walk of a restore, some steps ahead of who writes.
//!
//! What always holds: steps come in the order of the walk; what the files among them hold is
//! asked for while others are written; a failure of the walk comes after the steps before
//! it; a directory that is not entered takes its steps with it; a bounded number of steps and of
//! chunk names is held.

use std::collections::VecDeque;
use std::path::PathBuf;

use vault_format::tree::{Entry, EntryKind};
use vault_ops::{OpsError, Result};

use crate::point_tree::{PointTree, Step, Walk};

/// Most steps that are held, and most names of chunks in them.
const STEPS_MAX: usize = 256;
const CHUNKS_MAX: usize = 4096;
/// What is wanted is said again after so many steps.
const SAID_EVERY: usize = 32;

/// A step with its place.
pub(super) struct Ahead {
    pub(super) step: Step,
    /// In the point.
    pub(super) path: PathBuf,
    /// Why a listing could not be read.
    pub(super) unread: Option<OpsError>,
}

impl Ahead {
    fn entry(&self) -> Option<&Entry> {
        match &self.step {
            Step::Entry(entry) => Some(entry),
            Step::Leave | Step::Unread => None,
        }
    }

    fn chunks(&self) -> usize {
        self.entry().and_then(|entry| entry.content.as_ref()).map_or(0, |content| content.chunks.len())
    }
}

/// See the head of this file.
pub(super) struct Lookahead<'a> {
    walk: Walk<'a>,
    tree: PointTree<'a>,
    steps: VecDeque<Ahead>,
    chunks: usize,
    /// Steps until what is wanted is said again.
    left: usize,
    failed: Option<OpsError>,
    ended: bool,
}

impl<'a> Lookahead<'a> {
    pub(super) fn new(walk: Walk<'a>, tree: PointTree<'a>) -> Self {
        Self { walk, tree, steps: VecDeque::new(), chunks: 0, left: 0, failed: None, ended: false }
    }

    /// The next step. With `wants`, what files hold is asked for ahead.
    pub(super) async fn next(&mut self, wants: bool) -> Result<Option<Ahead>> {
        if wants {
            if self.left == 0 {
                self.fill().await;
                self.left = SAID_EVERY;
            }
            self.left -= 1;
        }
        if let Some(first) = self.steps.pop_front() {
            self.chunks -= first.chunks();
            return Ok(Some(first));
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.pull().await,
        }
    }

    /// Does not enter the directory given last.
    pub(super) async fn skip(&mut self) -> Result<()> {
        if self.steps.is_empty() {
            self.walk.skip();
            return Ok(());
        }
        let mut depth = 1;
        while depth > 0
            && let Some(dropped) = self.next(false).await?
        {
            match &dropped.step {
                Step::Entry(entry) => depth += usize::from(entry.kind == EntryKind::Directory),
                Step::Leave => depth -= 1,
                Step::Unread => {}
            }
        }
        Ok(())
    }

    async fn pull(&mut self) -> Result<Option<Ahead>> {
        if self.ended {
            return Ok(None);
        }
        let Some(step) = self.walk.step().await? else {
            self.ended = true;
            return Ok(None);
        };
        let unread = if matches!(step, Step::Unread) { self.walk.take_unread() } else { None };
        Ok(Some(Ahead { step, path: self.walk.path().to_owned(), unread }))
    }

    async fn fill(&mut self) {
        while self.steps.len() < STEPS_MAX && self.chunks < CHUNKS_MAX && self.failed.is_none() {
            match self.pull().await {
                Ok(Some(ahead)) => {
                    self.chunks += ahead.chunks();
                    self.steps.push_back(ahead);
                }
                Ok(None) => break,
                Err(error) => self.failed = Some(error),
            }
        }
        let files = self.steps.iter().filter_map(Ahead::entry).filter(|entry| entry.kind == EntryKind::File);
        self.tree.will_read(&mut files.filter_map(|entry| entry.content.as_ref()));
    }
}
