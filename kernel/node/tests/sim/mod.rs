//! A disk as bad as the assumptions in `disk.rs` allow: what is not synced survives a crash wholly, partly
//! or not at all, sector by sector and name by name, as a seed decides.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use kernel_node::core::{Command, Existing, Fixed, Id, Lineage, Metric, Name, Parameters, Record};
use kernel_node::{Clock, Config, Disk, DiskFile, Node};

const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    live: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Name changes since the last sync of names.
    pending_names: Vec<(String, Option<usize>)>,
    steps: u64,
    /// The step that does not happen any more, and the seed of what is left.
    crash_at: Option<(u64, u64)>,
    left: Option<Image>,
}

/// Files as a crash, or a clean look, leaves them.
pub type Image = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Default)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

/// splitmix64: small, seeded, good enough to choose sectors.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % sides as u64) as usize
    }
}

impl World {
    /// Counts a step; from the crash on, nothing happens any more.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        if let Some((at, seed)) = self.crash_at
            && self.steps >= at
        {
            if self.left.is_none() {
                self.left = Some(self.after_crash(seed));
            }
            return Err(io::Error::other("the machine crashed"));
        }
        Ok(())
    }

    fn after_crash(&self, seed: u64) -> Image {
        let mut dice = Dice(seed);
        let mut names = self.durable_names.clone();
        for (name, inode) in &self.pending_names {
            if dice.roll(2) == 0 {
                continue;
            }
            match inode {
                Some(inode) => names.insert(name.clone(), *inode),
                None => names.remove(name),
            };
        }
        names.into_iter().map(|(name, inode)| (name, self.inodes[inode].after_crash(&mut dice))).collect()
    }
}

impl Inode {
    fn after_crash(&self, dice: &mut Dice) -> Vec<u8> {
        if self.live == self.durable {
            return self.durable.clone();
        }
        // Everything, nothing, or a mixture of sectors under one of the possible lengths.
        match dice.roll(4) {
            0 => return self.live.clone(),
            1 => return self.durable.clone(),
            _ => {}
        }
        let (short, long) = (self.live.len().min(self.durable.len()), self.live.len().max(self.durable.len()));
        let length = short + dice.roll(long - short + 1);
        let mut mixed = vec![0; length];
        for start in (0..length).step_by(SECTOR) {
            let end = (start + SECTOR).min(length);
            let from = if dice.roll(2) == 0 { &self.live } else { &self.durable };
            let available = from.get(start..end.min(from.len())).unwrap_or_default();
            mixed[start..start + available.len()].copy_from_slice(available);
        }
        mixed
    }
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk holding these files, all durable.
    pub fn holding(image: &Image) -> Self {
        let disk = Self::new();
        let mut world = disk.world();
        for (name, content) in image {
            let inode = world.inodes.len();
            world.inodes.push(Inode { durable: content.clone(), live: content.clone() });
            world.names.insert(name.clone(), inode);
            world.durable_names.insert(name.clone(), inode);
        }
        drop(world);
        disk
    }

    /// Crashes at this many steps from now.
    pub fn crash_after(&self, steps: u64, seed: u64) {
        let mut world = self.world();
        world.crash_at = Some((world.steps + steps, seed));
    }

    /// What the crash left; None if it was not reached.
    pub fn left(&self) -> Option<Image> {
        self.world().left.clone()
    }

    /// The files as a process sees them now.
    pub fn image(&self) -> Image {
        let world = self.world();
        world.names.iter().map(|(name, inode)| (name.clone(), world.inodes[*inode].live.clone())).collect()
    }

    pub fn steps(&self) -> u64 {
        self.world().steps
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

struct SimFile {
    world: Arc<Mutex<World>>,
    inode: usize,
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.world().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.step()?;
        let inode = world.inodes.len();
        world.inodes.push(Inode::default());
        world.names.insert(name.to_owned(), inode);
        world.pending_names.push((name.to_owned(), Some(inode)));
        Ok(Box::new(SimFile { world: Arc::clone(&self.world), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.world().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { world: Arc::clone(&self.world), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        let inode = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), inode);
        world.pending_names.push((to.to_owned(), Some(inode)));
        world.pending_names.push((from.to_owned(), None));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        world.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        world.pending_names.push((name.to_owned(), None));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        world.durable_names = world.names.clone();
        world.pending_names.clear();
        Ok(())
    }
}

impl SimFile {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.world().inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let world = self.world();
        let live = &world.inodes[self.inode].live;
        let start = (at as usize).min(live.len());
        let count = into.len().min(live.len() - start);
        into[..count].copy_from_slice(&live[start..start + count]);
        Ok(count)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world();
        // A crash within the write: some of it may have reached the disk.
        world.inodes[self.inode].live.extend_from_slice(bytes);
        world.step()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let mut world = self.world();
        world.inodes[self.inode].live.truncate(bytes as usize);
        world.step()
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        let inode = &mut world.inodes[self.inode];
        inode.durable = inode.live.clone();
        Ok(())
    }
}

/// A clock that stands still.
pub struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000
    }
}

pub const LINEAGE: Lineage = Lineage::from_bytes([7; 16]);

pub fn config() -> Config {
    Config { segment_bytes: 2_000, ..Config::new(LINEAGE) }
}

pub fn open(disk: &SimDisk, config: &Config) -> Result<Node, kernel_node::Error> {
    Node::open(config, Arc::new(disk.clone()), Arc::new(Noon))
}

pub fn name() -> Name {
    Name::new("notes").unwrap()
}

pub fn create() -> Command {
    Command::CreateCollection {
        name: name(),
        dimension: 4,
        metric: Metric::L2,
        parameters: Parameters::default(),
        created_at: 0,
        metadata: Box::default(),
    }
}

pub fn record(number: u64) -> Record {
    let vector = [number as i32, 1, 2, 3].map(Fixed::from_raw).into();
    Record { id: Id::from_u64(number), tag: 0, metadata: vec![number as u8; number as usize % 90].into(), vector }
}

pub fn put(numbers: std::ops::Range<u64>) -> Command {
    Command::PutRecords { collection: name(), existing: Existing::Refuse, records: numbers.map(record).collect() }
}
