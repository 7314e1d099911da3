//! A disk in memory that behaves as badly as the assumptions of this module allow.
//!
//! What always holds: with the same calls and the same random numbers the same things happen.
//! Every file and directory has two images, what processes see and what is on the medium; a sync
//! copies the first to the second, and [`SimulatedDisk::crash`] goes back to the second and as much
//! of what was not synced as the random numbers say. Clones are the same disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rand_core::Rng;

use super::medium::{Content, Directory, FIRST_FILE, File, Node, World};
use super::{Disk, DiskFile, Entry, EntryKind, Metadata, SyncPoint};

/// A disk in memory.
#[derive(Clone)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
}

impl SimulatedDisk {
    /// An empty disk with this device number, at the beginning of 1970.
    pub fn new(device: u64) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(device))) }
    }

    /// The power fails: what was synced is there, and of the rest what the random numbers say:
    /// nothing, everything, or any part. Open files are gone; the disk works again.
    pub fn crash(&self, random: &mut dyn Rng) {
        let mut world = self.world();
        world.crash(random);
        world.restart();
    }

    /// The process is killed: everything it wrote is seen by the next one, nothing more is on the
    /// medium. Open files are gone; the disk works again.
    pub fn kill(&self) {
        self.world().restart();
    }

    /// From that many changes on (1: the very next) every call fails, as if nobody were there to
    /// make it, until [`SimulatedDisk::crash`] or [`SimulatedDisk::kill`].
    pub fn stop_after(&self, steps: u64) {
        let mut world = self.world();
        world.stop_at = Some(world.steps + steps);
    }

    /// Changes and syncs so far.
    pub fn steps(&self) -> u64 {
        self.world().steps
    }

    /// The time that files changed from now on will bear.
    pub fn set_now(&self, now: SystemTime) {
        self.world().now = now;
    }

    /// How many bytes fit, all files together; `None` is without end.
    pub fn set_full(&self, capacity: Option<u64>) {
        self.world().capacity = capacity;
    }

    /// How many calls of a thousand fail with an input/output error, by whose random numbers. A
    /// file whose sync failed will never be on the medium, whatever later syncs of it say.
    pub fn set_errors(&self, per_thousand: u16, random: Box<dyn Rng + Send>) {
        self.world().errors = (per_thousand > 0).then_some((per_thousand, random));
    }

    /// An unplugged disk has no paths.
    pub fn set_plugged(&self, plugged: bool) {
        self.world().plugged = plugged;
    }

    /// Whether files can have two names; on FAT they cannot.
    pub fn set_links(&self, links: bool) {
        self.world().links = links;
    }

    /// From now on syncs for this purpose say yes and do nothing: what a program without them would
    /// do. For tests that show that a sync is needed.
    pub fn ignore(&self, what_for: SyncPoint) {
        self.world().ignored.insert(what_for);
    }

    /// How many syncs there were for this purpose, ignored ones too.
    pub fn synced(&self, what_for: SyncPoint) -> u64 {
        self.world().synced.get(&what_for).copied().unwrap_or(0)
    }

    /// Somebody else removes a directory with all it holds, durably.
    pub fn erase(&self, directory: &Path) -> io::Result<()> {
        let mut world = self.world();
        let (above, name) = world.place(directory)?;
        let above = &mut world.directories[above];
        above.pending.retain(|(changed, _)| *changed != name);
        above.live.remove(&name);
        above.durable.remove(&name);
        Ok(())
    }

    /// All files as processes see them.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let world = self.world();
        let mut files = BTreeMap::new();
        let mut open = vec![(0, PathBuf::from("/"))];
        while let Some((number, path)) = open.pop() {
            for (name, node) in &world.directories[number].live {
                match node {
                    Node::Directory(number) => open.push((*number, path.join(name))),
                    Node::File(file) => drop(files.insert(path.join(name), file.content().live.to_vec())),
                }
            }
        }
        files
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic in a test is that test's failure; the state is whole between calls.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimulatedDisk {
    fn blocks(&self) -> bool {
        false
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.metadata(path)?;
        Ok(path.to_owned())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let mut world = self.world();
        world.call()?;
        Ok(world.metadata(&world.find(path)?))
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut world = self.world();
        world.call()?;
        let number = world.directory(directory)?;
        let entry = |(name, node): (&OsString, &Node)| {
            let kind = if node.file().is_some() { EntryKind::File } else { EntryKind::Directory };
            Entry { name: name.clone(), kind }
        };
        Ok(world.directories[number].live.iter().map(entry).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.step()?;
        let (directory, name) = world.place(path)?;
        world.is_free(directory, &name)?;
        if world.fits(1) == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = FIRST_FILE + world.files_made;
        world.files_made += 1;
        let nothing = Arc::new(Vec::new());
        let modified = world.tick();
        let content = Content { live: Arc::clone(&nothing), durable: nothing, modified, given_up: false };
        let file = Arc::new(File { inode, content: Mutex::new(content), used: Arc::clone(&world.used) });
        world.change(directory, name, Some(Node::File(Arc::clone(&file))));
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, process: world.processes }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.call()?;
        let file = world.file(path)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, process: world.processes }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        if !world.links {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let file = world.file(from)?;
        let (directory, name) = world.place(to)?;
        world.is_free(directory, &name)?;
        world.change(directory, name, Some(Node::File(file)));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        let file = world.file(from)?;
        let (old_directory, old_name) = world.place(from)?;
        let (directory, name) = world.place(to)?;
        if matches!(world.directories[directory].live.get(&name), Some(Node::Directory(_))) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        world.change(directory, name, Some(Node::File(file)));
        world.change(old_directory, old_name, None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        world.file(path)?;
        let (directory, name) = world.place(path)?;
        world.change(directory, name, None);
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        let (above, name) = world.place(path)?;
        world.is_free(above, &name)?;
        let number = world.directories.len();
        let modified = Some(world.tick());
        world.directories.push(Directory { modified, ..Directory::default() });
        world.change(above, name, Some(Node::Directory(number)));
        Ok(())
    }

    fn sync_directory(&self, directory: &Path, what_for: SyncPoint) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        let number = world.directory(directory)?;
        if world.sync(what_for) {
            let directory = &mut world.directories[number];
            // Change by change: a listing of the whole for every object would take a world of objects a day.
            for (name, node) in std::mem::take(&mut directory.pending) {
                match node {
                    Some(node) => directory.durable.insert(name, node),
                    None => directory.durable.remove(&name),
                };
            }
        }
        Ok(())
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: Arc<File>,
    process: u64,
}

impl SimulatedFile {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.disk.world();
        if world.processes == self.process { Ok(world) } else { Err(io::Error::other("opened before the crash")) }
    }
}

impl DiskFile for SimulatedFile {
    fn metadata(&self) -> io::Result<Metadata> {
        let mut world = self.world()?;
        world.call()?;
        Ok(world.metadata(&Node::File(Arc::clone(&self.file))))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.world()?.call()?;
        let content = self.file.content();
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(content.live.len());
        let count = into.len().min(content.live.len() - start);
        into[..count].copy_from_slice(&content.live[start..start + count]);
        Ok(count)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world()?;
        let step = world.step();
        let wanted = match step {
            Ok(()) => bytes.len(),
            // Nobody is there any more.
            Err(_) if world.stop_at.is_some_and(|at| world.steps > at) => 0,
            // Stopped in the middle of the write.
            Err(_) => bytes.len() / 2,
        };
        let fits = world.fits(wanted);
        let mut content = self.file.content();
        if fits > 0 {
            Arc::make_mut(&mut content.live).extend_from_slice(&bytes[..fits]);
            content.modified = world.tick();
            world.used.fetch_add(fits as u64, Ordering::SeqCst);
        }
        step?;
        if fits < wanted { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, what_for: SyncPoint) -> io::Result<()> {
        let mut world = self.world()?;
        let step = world.step();
        let mut content = self.file.content();
        if step.is_err() {
            content.given_up = true;
            return step;
        }
        if world.sync(what_for) && !content.given_up {
            content.durable = Arc::clone(&content.live);
        }
        Ok(())
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.world();
        let used = world.used.load(Ordering::SeqCst);
        f.debug_struct("SimulatedDisk").field("device", &world.device).field("used", &used).finish_non_exhaustive()
    }
}
