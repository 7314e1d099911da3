//! A folder location on a disk that loses what was not synced, at every step: what was acknowledged
//! is there and whole, what was not is absent or whole, and each sync call is shown to be needed.
//!
//! A story is random from a seed: objects are created, replaced, deleted, listed and read by two
//! processes; at some step the machine stops, by a kill (what was written is still seen) or a power
//! cut (what was not synced may be gone); then the next round begins on what is left. The first stop
//! is tried at every single step. What may be there is known from the answers alone (`truth.rs`).
//!
//! `HOLDFAST_FOLDER_CRASHES` is how many seeds (CI runs 400); `HOLDFAST_FOLDER_CRASH_SEED` begins
//! elsewhere.
#![allow(clippy::unwrap_used, reason = "a test may panic: that is how it fails")]

mod truth;

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::disk::{SimulatedDisk, SyncPoint, place_file};
use backends::{Kind, Location, classify, folder_on};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use truth::{Broken, Truth};

const ROOT: &str = "/disk/vaults/home";
/// On several levels, so that ways differ and some are shared.
const NAMES: [&str; 7] = ["a", "w/x", "w/y", "w/deep/z", "w/deep/er/z", "v/1", "v/2"];
/// Folders that somebody may remove by hand.
const FOLDERS: [&str; 3] = ["w", "w/deep", "v"];
/// Seeds that found something once. 920: a write failed between the sync of its directory and that of
/// the way, and a listing took the directory for settled.
const KEPT: [u64; 1] = [920];
const ROUNDS: usize = 4;
const ACTS: u64 = 8;

struct Story {
    disk: SimulatedDisk,
    random: ChaCha8Rng,
    truth: Truth,
    /// Two processes; none before the location was made.
    processes: [Option<Location>; 2],
    made: bool,
    /// Calls fail now and then.
    rough: bool,
    /// Somebody removed a folder by hand in this round; only this process goes on.
    erased: Option<usize>,
    puts: u64,
}

impl Story {
    fn new(seed: u64, ignored: Option<SyncPoint>) -> Self {
        let disk = SimulatedDisk::new(seed);
        if let Some(point) = ignored {
            disk.ignore(point);
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        disk.set_links(!random.next_u64().is_multiple_of(4));
        let rough = random.next_u64().is_multiple_of(4);
        if rough {
            disk.set_errors(20, Box::new(ChaCha8Rng::seed_from_u64(seed ^ 0xe440)));
        }
        Self {
            disk,
            random,
            truth: Truth::default(),
            processes: [None, None],
            made: false,
            rough,
            erased: None,
            puts: 0,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.random.next_u64() % sides
    }

    /// The steps of the first round if it was not stopped.
    async fn run(&mut self, first_stop: Option<u64>) -> Result<u64, Broken> {
        let mut steps = 0;
        for round in 0..ROUNDS {
            let stop = match (round, first_stop) {
                (0, stop) => stop,
                (_, _) => Some(1 + self.roll(60)),
            };
            let before = self.disk.steps();
            if let Some(stop) = stop {
                self.disk.stop_after(stop);
            }
            for _ in 0..ACTS {
                self.act().await?;
            }
            if round == 0 {
                steps = self.disk.steps() - before;
            }
            self.stop().await?;
        }
        self.end().await?;
        Ok(steps)
    }

    async fn act(&mut self) -> Result<(), Broken> {
        let which = self.erased.unwrap_or(self.roll(2) as usize);
        let Some(location) = self.process(which)? else { return Ok(()) };
        let name = NAMES[self.roll(NAMES.len() as u64) as usize];
        match self.roll(16) {
            0..=5 => self.put(&location, name, PutMode::Create).await,
            6..=9 => self.put(&location, name, PutMode::Overwrite).await,
            10 | 11 => self.delete(&location, name).await,
            12 => self.list(&location, Some("w")).await,
            13 => self.list(&location, None).await,
            14 => self.read(&location, name).await.map(drop),
            _ => {
                self.erase(which);
                Ok(())
            }
        }
    }

    /// A process that has the location open; none if it cannot be opened now.
    fn process(&mut self, which: usize) -> Result<Option<Location>, Broken> {
        if self.processes[which].is_none() {
            match folder_on(Arc::new(self.disk.clone()), FilePath::new(ROOT), !self.made) {
                Ok(location) => {
                    self.made = true;
                    self.processes[which] = Some(location);
                }
                Err(error) if self.made && !self.rough && error.to_string().contains("does not exist") => {
                    return Err(Broken(format!("the location was made, and {error}")));
                }
                Err(_) => {}
            }
        }
        Ok(self.processes[which].clone())
    }

    async fn put(&mut self, location: &Location, name: &str, mode: PutMode) -> Result<(), Broken> {
        self.puts += 1;
        // No two are equal, and most are several sectors long.
        let bytes = self.roll(2_500) as usize;
        let mut content = format!("{name} {} ", self.puts).into_bytes();
        content.resize(content.len() + bytes, (self.puts % 16 * 2 + 1) as u8);
        let payload: PutPayload = content.chunks(1_000).map(bytes::Bytes::copy_from_slice).collect();
        let result = location.store().put_opts(&Path::from(name), payload, mode.clone().into()).await;
        match result.map_err(|error| classify(&error)) {
            Ok(_) => self.truth.was_put(name, content, mode == PutMode::Create),
            Err(Kind::Exists) => {
                assert_eq!(mode, PutMode::Create);
                // The caller compares what stands there before it counts.
                match read(location, name).await {
                    Ok(there) => self.truth.exists(name, there),
                    Err(_) => Ok(()),
                }
            }
            Err(_) => {
                self.truth.may_have_been_put(name, content);
                Ok(())
            }
        }
    }

    async fn delete(&mut self, location: &Location, name: &str) -> Result<(), Broken> {
        match location.store().delete(&Path::from(name)).await.map_err(|error| classify(&error)) {
            Ok(()) => self.truth.was_deleted(name),
            Err(Kind::NotFound) => self.truth.seen(name, None),
            Err(_) => {
                self.truth.may_have_been_deleted(name);
                Ok(())
            }
        }
    }

    /// Whether it could be read.
    async fn read(&mut self, location: &Location, name: &str) -> Result<bool, Broken> {
        match read(location, name).await {
            Ok(there) => self.truth.seen(name, there).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    async fn list(&mut self, location: &Location, folder: Option<&str>) -> Result<(), Broken> {
        let prefix = folder.map(Path::from);
        let listed = location.store().list(prefix.as_ref());
        let Ok(listed) = listed.map_ok(|o| (o.location.to_string(), o.size)).try_collect::<Vec<_>>().await else {
            return Ok(());
        };
        if !listed.is_sorted() || listed.iter().any(|(name, _)| !NAMES.contains(&name.as_str())) {
            return Err(Broken(format!("a listing shows {listed:?}")));
        }
        for name in NAMES.into_iter().filter(|name| folder.is_none_or(|folder| name.starts_with(folder))) {
            let shown = listed.iter().find(|(listed, _)| listed == name);
            // A listing says yes although a sync failed: restores from a dying disk need it.
            self.truth.listed(name, shown.map(|(_, bytes)| *bytes), !self.rough)?;
        }
        Ok(())
    }

    /// Somebody removes a folder by hand. That one process has synced it, and another one fails
    /// while it makes it again, is more trouble at once than is promised to survive.
    fn erase(&mut self, which: usize) {
        let folder = FOLDERS[self.roll(FOLDERS.len() as u64) as usize];
        if self.disk.erase(&FilePath::new(ROOT).join(folder)).is_ok() {
            let below = format!("{folder}/");
            NAMES.iter().filter(|name| name.starts_with(&below)).for_each(|name| self.truth.was_erased(name));
            self.erased = Some(which);
        }
        self.processes[1 - which] = None;
    }

    /// Ends a round: what is there afterwards is what may be there.
    async fn stop(&mut self) -> Result<(), Broken> {
        if self.erased.take().is_some() {
            self.processes = [None, None];
        }
        if self.roll(2) == 0 {
            // One process dies and the other one goes on.
            self.disk.kill();
            let dead = self.roll(2) as usize;
            self.processes[dead] = None;
            let Some(location) = self.process(1 - dead)? else { return Ok(()) };
            // Reads alone, most times: a listing syncs what the process that was killed did not.
            for name in NAMES {
                self.read(&location, name).await?;
            }
            return if self.roll(4) == 0 { self.list(&location, None).await } else { Ok(()) };
        }
        self.disk.crash(&mut self.random);
        self.processes = [None, None];
        if !self.made {
            return Ok(());
        }
        self.truth.power_failed();
        let Some(location) = self.process(0)? else { return Ok(()) };
        let mut all = true;
        for name in NAMES {
            all &= self.read(&location, name).await?;
        }
        if all {
            self.truth.all_seen();
        }
        self.list(&location, None).await
    }

    /// A last power cut without other trouble; then nothing is left but objects.
    async fn end(&mut self) -> Result<(), Broken> {
        self.disk.set_errors(0, Box::new(self.random.clone()));
        self.rough = false;
        self.disk.crash(&mut self.random);
        self.processes = [None, None];
        let Some(location) = self.process(0)? else { return Ok(()) };
        self.truth.power_failed();
        for name in NAMES {
            self.read(&location, name).await?;
        }
        self.list(&location, None).await?;
        location.sweep_leftovers(SystemTime::now() + Duration::from_hours(24)).await.unwrap();
        let files = self.disk.files();
        let stray = files.keys().find(|path| {
            let name = path.strip_prefix(ROOT).unwrap().to_str().unwrap();
            !NAMES.contains(&name)
        });
        stray.map_or(Ok(()), |path| Err(Broken(format!("{} is left over", path.display()))))
    }
}

/// The content, or that there is none; an error says nothing.
async fn read(location: &Location, name: &str) -> Result<Option<Vec<u8>>, Kind> {
    let got = async { location.store().get(&Path::from(name)).await?.bytes().await };
    match got.await.map_err(|error| classify(&error)) {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(Kind::NotFound) => Ok(None),
        Err(other) => Err(other),
    }
}

/// One seed's story without a first stop and with one at every step: how many were told.
async fn every_step(seed: u64, ignored: Option<SyncPoint>) -> Result<u64, Broken> {
    let at = |stop: Option<u64>| move |Broken(what)| Broken(format!("seed {seed}, first stop {stop:?}: {what}"));
    let steps = Story::new(seed, ignored).run(None).await.map_err(at(None))?;
    for stop in 1..=steps {
        Story::new(seed, ignored).run(Some(stop)).await.map_err(at(Some(stop)))?;
    }
    Ok(steps + 1)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_at_every_step() {
    let first = number("HOLDFAST_FOLDER_CRASH_SEED", 1);
    let seeds = number("HOLDFAST_FOLDER_CRASHES", 400);
    let mut stories = 0;
    for seed in KEPT.into_iter().chain(first..first + seeds) {
        stories += every_step(seed, None).await.unwrap_or_else(|Broken(what)| panic!("{what}"));
    }
    println!("{seeds} seeds from {first}, {stories} stories of {ROUNDS} crashes each");
}

const FILE: &str = "/etc/holdfast/config.toml";
const FILE_BYTES: [u8; 3_000] = [7; 3_000];

/// A single file put in place is there afterwards, and never half: a crash at every step, a second
/// try, a power cut.
fn place_at_every_step(seed: u64, ignored: Option<SyncPoint>) -> Result<(), Broken> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for stop in 1.. {
        let disk = SimulatedDisk::new(1);
        if let Some(point) = ignored {
            disk.ignore(point);
        }
        disk.stop_after(stop);
        let path = FilePath::new(FILE);
        let finished = place_file(&disk, path, &FILE_BYTES).is_ok();
        let killed = random.next_u64().is_multiple_of(2);
        if killed {
            disk.kill();
        } else {
            disk.crash(&mut random);
        }
        let mut acknowledged = finished;
        if !finished {
            match place_file(&disk, path, &FILE_BYTES) {
                Ok(()) => acknowledged = true,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists),
            }
        }
        disk.crash(&mut random);
        match disk.files().get(path) {
            Some(bytes) if *bytes != FILE_BYTES => return Err(Broken(format!("half a file, stop {stop}"))),
            None if acknowledged => return Err(Broken(format!("the file is gone, stop {stop}"))),
            _ => {}
        }
        if finished {
            break;
        }
    }
    Ok(())
}

#[test]
fn a_single_file_is_there_or_not_and_never_half() {
    for seed in 1..=2_000 {
        place_at_every_step(seed, None).unwrap_or_else(|Broken(what)| panic!("seed {seed}: {what}"));
    }
}

/// Without any one kind of sync the same stories find a loss: none is superfluous, each is guarded.
#[tokio::test]
async fn each_sync_is_needed() {
    const SEEDS: u64 = 200;
    for point in SyncPoint::ALL {
        let mut found = None;
        for seed in 1..=SEEDS {
            let story = every_step(seed, Some(point)).await.map(drop);
            let file = place_at_every_step(seed, Some(point));
            let expected = if matches!(point, SyncPoint::FileBytes | SyncPoint::FileName) { file } else { story };
            if let Err(Broken(what)) = expected {
                found = Some(what);
                break;
            }
        }
        let found = found.unwrap_or_else(|| panic!("{SEEDS} seeds do without {point:?}"));
        println!("without {point:?}: {found}");
    }
}

/// A kind of sync stands for one call: so removing any call is one of the mutations above.
#[test]
fn each_sync_call_has_a_kind_of_its_own() {
    let source = [
        include_str!("../src/folder.rs"),
        include_str!("../src/folder/files.rs"),
        include_str!("../src/disk/place.rs"),
    ]
    .concat();
    for point in SyncPoint::ALL {
        let name = format!("SyncPoint::{point:?}");
        let uses = source.matches(&name).count();
        assert_eq!(uses, 1, "{name} is used {uses} times");
    }
    // Directly, or through the one function that remembers what it synced.
    let calls = ["disk.sync_directory(", "file.sync(", "self.sync_names("].map(|call| source.matches(call).count());
    assert_eq!(calls, [5, 2, 2], "a sync call was added or removed");
}
