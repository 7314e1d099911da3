//! What a simulated disk consists of: files and directories, each with two images, what processes
//! see and what is on the medium; and what a power cut makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rand_core::Rng;

use super::{EntryKind, Identity, Metadata, SyncPoint};

/// What a device writes at once: within a sector a torn write is old or new.
const SECTOR: usize = 512;
/// Directories are numbered from 1, files from here.
pub(super) const FIRST_FILE: u64 = 1 << 32;

pub(super) struct World {
    pub(super) device: u64,
    /// By number; never freed, a path of ours has few.
    pub(super) directories: Vec<Directory>,
    pub(super) files_made: u64,
    pub(super) now: SystemTime,
    pub(super) plugged: bool,
    pub(super) links: bool,
    pub(super) capacity: Option<u64>,
    pub(super) used: Arc<AtomicU64>,
    pub(super) errors: Option<(u16, Box<dyn Rng + Send>)>,
    /// Calls so far that would change the disk or its medium.
    pub(super) steps: u64,
    pub(super) stop_at: Option<u64>,
    /// Open files do not outlive the process.
    pub(super) processes: u64,
    pub(super) ignored: BTreeSet<SyncPoint>,
    pub(super) synced: BTreeMap<SyncPoint, u64>,
}

pub(super) type Names = BTreeMap<OsString, Node>;

#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) live: Names,
    pub(super) durable: Names,
    /// Changes since the last sync, in order; `None` is a removal.
    pub(super) pending: Vec<(OsString, Option<Node>)>,
    pub(super) modified: Option<SystemTime>,
}

#[derive(Clone)]
pub(super) enum Node {
    File(Arc<File>),
    Directory(usize),
}

/// Freed with its last name, durable name and open handle.
pub(super) struct File {
    pub(super) inode: u64,
    pub(super) content: Mutex<Content>,
    pub(super) used: Arc<AtomicU64>,
}

pub(super) struct Content {
    pub(super) live: Arc<Vec<u8>>,
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) modified: SystemTime,
    /// A sync of it failed: the system took its pages for written and will not write them again.
    pub(super) given_up: bool,
}

impl World {
    pub(super) fn new(device: u64) -> Self {
        Self {
            device,
            directories: vec![Directory::default()],
            files_made: 0,
            now: SystemTime::UNIX_EPOCH,
            plugged: true,
            links: true,
            capacity: None,
            used: Arc::default(),
            errors: None,
            steps: 0,
            stop_at: None,
            processes: 0,
            ignored: BTreeSet::new(),
            synced: BTreeMap::new(),
        }
    }

    pub(super) fn crash(&mut self, random: &mut dyn Rng) {
        for directory in self.directories.iter_mut().filter(|directory| !directory.pending.is_empty()) {
            let keep = Keep::choose(random);
            let mut names = directory.durable.clone();
            for (name, node) in std::mem::take(&mut directory.pending) {
                if !keep.this(random) {
                    continue;
                }
                match node {
                    Some(node) => names.insert(name, node),
                    None => names.remove(&name),
                };
            }
            directory.live.clone_from(&names);
            directory.durable = names;
        }
        let mut seen = BTreeSet::new();
        for file in self.directories.iter().flat_map(|directory| directory.live.values()).filter_map(Node::file) {
            if seen.insert(file.inode) {
                file.crash(random);
            }
        }
    }

    pub(super) fn restart(&mut self) {
        self.processes += 1;
        self.stop_at = None;
    }

    /// What every call goes through.
    pub(super) fn call(&mut self) -> io::Result<()> {
        if self.stop_at.is_some_and(|at| self.steps >= at) {
            return Err(io::Error::other("the machine stopped"));
        }
        if !self.plugged {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some((per_thousand, random)) = &mut self.errors
            && random.next_u64() % 1_000 < u64::from(*per_thousand)
        {
            return Err(io::Error::other("simulated input/output error"));
        }
        Ok(())
    }

    /// What every call that changes something goes through.
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        self.call()
    }

    /// The next moment: no two changes bear the same time.
    pub(super) fn tick(&mut self) -> SystemTime {
        let now = self.now;
        self.now += Duration::from_nanos(1);
        now
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut found = Node::Directory(0);
        for part in path.components() {
            let name = match part {
                Component::RootDir => continue,
                Component::Normal(name) => name,
                Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            };
            let Node::Directory(number) = found else { return Err(io::ErrorKind::NotADirectory.into()) };
            let node = self.directories[number].live.get(name);
            found = node.cloned().ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(found)
    }

    pub(super) fn directory(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::Directory(number) => Ok(number),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<File>> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory that holds a path, and the name in it.
    pub(super) fn place(&self, path: &Path) -> io::Result<(usize, OsString)> {
        let (above, name) = (path.parent(), path.file_name());
        let (Some(above), Some(name)) = (above, name) else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok((self.directory(above)?, name.to_owned()))
    }

    pub(super) fn change(&mut self, directory: usize, name: OsString, node: Option<Node>) {
        let modified = self.tick();
        let directory = &mut self.directories[directory];
        match &node {
            Some(node) => directory.live.insert(name.clone(), node.clone()),
            None => directory.live.remove(&name),
        };
        directory.pending.push((name, node));
        directory.modified = Some(modified);
    }

    pub(super) fn is_free(&self, directory: usize, name: &OsString) -> io::Result<()> {
        let taken = self.directories[directory].live.contains_key(name);
        if taken { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    /// How much of this many bytes still fits.
    pub(super) fn fits(&self, bytes: usize) -> usize {
        let free = self.capacity.map(|capacity| capacity.saturating_sub(self.used.load(Ordering::SeqCst)));
        free.map_or(bytes, |free| bytes.min(usize::try_from(free).unwrap_or(usize::MAX)))
    }

    /// Counts a sync; whether it is to be done.
    pub(super) fn sync(&mut self, what_for: SyncPoint) -> bool {
        *self.synced.entry(what_for).or_default() += 1;
        !self.ignored.contains(&what_for)
    }

    pub(super) fn metadata(&self, node: &Node) -> Metadata {
        let (kind, inode, bytes, modified) = match node {
            Node::Directory(number) => {
                let modified = self.directories[*number].modified;
                (EntryKind::Directory, *number as u64 + 1, 0, modified.unwrap_or(SystemTime::UNIX_EPOCH))
            }
            Node::File(file) => {
                let content = file.content();
                (EntryKind::File, file.inode, content.live.len() as u64, content.modified)
            }
        };
        Metadata { kind, bytes, modified, identity: Identity { device: self.device, inode } }
    }
}

impl Node {
    pub(super) fn file(&self) -> Option<&Arc<File>> {
        match self {
            Self::File(file) => Some(file),
            Self::Directory(_) => None,
        }
    }
}

impl File {
    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn crash(&self, random: &mut dyn Rng) {
        let mut content = self.content();
        content.given_up = false;
        if Arc::ptr_eq(&content.live, &content.durable) {
            return;
        }
        let before = content.live.len() as u64;
        let left = match Keep::choose(random) {
            Keep::All => Arc::clone(&content.live),
            Keep::Nothing => Arc::clone(&content.durable),
            keep @ Keep::Some => Arc::new(torn(&content.durable, &content.live, keep, random)),
        };
        self.used.fetch_sub(before, Ordering::SeqCst);
        self.used.fetch_add(left.len() as u64, Ordering::SeqCst);
        content.live = Arc::clone(&left);
        content.durable = left;
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let bytes = self.content().live.len() as u64;
        self.used.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// How much of what was not synced survives, of one file or directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    All,
    Some,
}

impl Keep {
    pub(super) fn choose(random: &mut dyn Rng) -> Self {
        match random.next_u64() % 4 {
            0 => Self::Nothing,
            1 => Self::All,
            _ => Self::Some,
        }
    }

    pub(super) fn this(self, random: &mut dyn Rng) -> bool {
        self == Self::All || (self == Self::Some && random.next_u64().is_multiple_of(2))
    }
}

/// Sectors of both images, and zeros, under one of the lengths in between.
fn torn(durable: &[u8], live: &[u8], keep: Keep, random: &mut dyn Rng) -> Vec<u8> {
    let (short, long) = (durable.len().min(live.len()), durable.len().max(live.len()));
    let span = (long - short) as u64 + 1;
    let length = short + usize::try_from(random.next_u64() % span).unwrap_or(0);
    let mut mixed = vec![0; length];
    for start in (0..length).step_by(SECTOR) {
        let from = if keep.this(random) { live } else { durable };
        let end = (start + SECTOR).min(length).min(from.len());
        if let Some(part) = from.get(start..end) {
            mixed[start..end].copy_from_slice(part);
        }
    }
    mixed
}
