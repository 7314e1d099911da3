//! Finding out what a location really does.
//!
//! What always holds: nothing is believed because it was answered. Every property is
//! observed: bytes are read back, races are run, versions are fetched and attacked. What
//! could not be shown is reported as absent. All objects are under `probe/<random>/` and
//! removed again as far as the credentials allow; what stays is named.
//!
//! The [`Grade`] is judged for a thief who holds the very credentials that were used, so
//! probe with the writer's: history that these can erase protects nobody.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutPayload, PutResult};
use rand_core::Rng;

use crate::{BackendError, CreateAs, Kind, Location, classify};

/// What a location was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent observations, each with its name")]
pub struct Probe {
    /// How it treats a write that must not replace anything.
    pub conditional: ConditionalPut,
    /// Writers that raced for one new name.
    pub racers: u32,
    /// How many of them were told they had won; one is right.
    pub winners: u32,
    /// What was written is what is read.
    pub reads_back: bool,
    /// Ranges are exact, and cut short at the end of the object.
    pub ranges: bool,
    /// A listing shows an object as soon as its write was acknowledged.
    pub lists_after_put: bool,
    /// A read after an overwrite gives the new bytes.
    pub overwrites_seen: bool,
    /// These credentials may delete objects.
    pub may_delete: bool,
    /// An overwritten and deleted object can still be read by its version.
    pub keeps_versions: bool,
    /// These credentials may erase such a version.
    pub may_erase_versions: bool,
    /// The location's clock minus ours, in seconds; `None` when it gave no time. Times are
    /// whole seconds, so one second means nothing.
    pub clock_skew_s: Option<i64>,
    /// What a thief of these credentials cannot undo.
    pub grade: Grade,
    /// Objects and versions of this probe that could not be removed.
    pub left_behind: Vec<String>,
}

impl Probe {
    /// How `PutMode::Create` should be done there.
    pub fn create_as(&self) -> CreateAs {
        match self.conditional {
            ConditionalPut::Honoured | ConditionalPut::Racy => CreateAs::Conditional,
            ConditionalPut::Ignored | ConditionalPut::Refused => CreateAs::HeadThenPut,
        }
    }
}

/// How a location treats `If-None-Match: *`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionalPut {
    /// The second write is refused and the first stands; of a race one wins.
    Honoured,
    /// The second write is refused, but of a race several are told they won.
    Racy,
    /// The second write succeeds: the condition is not looked at.
    Ignored,
    /// The server does not take such a request.
    Refused,
}

/// What survives a hostile host that holds these credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing is promised: they can overwrite or delete for good.
    Overwritable,
    /// Overwritten and deleted objects can be fetched by version, and they cannot erase versions.
    Versioned,
    /// A retention lock in COMPLIANCE mode held when a version was to be erased.
    Locked,
}

/// One round of sixteen: servers that race gave up to eleven winners in nearly every round,
/// and SeaweedFS, which does not, needs five to nine seconds for one.
const RACERS: u32 = 16;
/// Over one leaf of 64 KiB, and no round number: a server that pads would show.
const OBJECT_BYTES: usize = 150_001;

/// Probes a location and makes its [`Location::create_as`] what was found. Fails when the
/// location cannot be written, read or listed at all.
pub async fn probe(
    location: &Location,
    random: &mut (dyn Rng + Send),
    now: &(dyn Fn() -> SystemTime + Sync),
) -> Result<Probe, BackendError> {
    let mut trial = Trial::new(location, random);
    // Whatever was assumed before: ask the server.
    location.set_create(CreateAs::Conditional);

    let object = trial.object("plain", 0);
    let before = now();
    let first = trial.put(&object.name, &object.bytes, PutMode::Overwrite).await?;
    let after = now();
    let meta = trial.head(&object.name).await?;
    let reads_back = trial.read(&object.name).await? == object.bytes;
    let ranges = trial.ranges_are_exact(&object).await?;
    let lists_after_put = trial.lists(&object.name).await?;

    let serial = trial.create_twice().await?;
    let winners = if serial == ConditionalPut::Refused { 0 } else { trial.race().await };
    let conditional = if serial == ConditionalPut::Honoured && winners > 1 { ConditionalPut::Racy } else { serial };

    let changed = trial.object("plain", 1);
    trial.put(&object.name, &changed.bytes, PutMode::Overwrite).await?;
    let overwrites_seen = trial.read(&object.name).await? == changed.bytes;
    let history = trial.attack(&object, &first).await?;
    trial.clean_up(&history).await;

    let probe = Probe {
        conditional,
        racers: RACERS,
        winners,
        reads_back,
        ranges,
        lists_after_put,
        overwrites_seen,
        may_delete: history.may_delete,
        keeps_versions: history.versions.is_some(),
        may_erase_versions: history.may_erase_versions(),
        clock_skew_s: clock_skew(&meta, before, after),
        grade: history.grade(),
        left_behind: trial.left_behind,
    };
    location.set_create(probe.create_as());
    Ok(probe)
}

/// Bytes to write and the name to write them to.
struct Object {
    name: Path,
    bytes: Bytes,
}

/// What an attack with these credentials left of an object.
struct History {
    may_delete: bool,
    /// `None` where nothing of an overwritten object can be read any more.
    versions: Option<Versions>,
}

#[derive(Clone, Copy)]
struct Versions {
    may_erase: bool,
    locked: bool,
}

impl History {
    fn grade(&self) -> Grade {
        match self.versions {
            None | Some(Versions { may_erase: true, .. }) => Grade::Overwritable,
            Some(Versions { locked: true, .. }) => Grade::Locked,
            Some(Versions { locked: false, .. }) => Grade::Versioned,
        }
    }

    fn may_erase_versions(&self) -> bool {
        self.versions.is_some_and(|versions| versions.may_erase)
    }
}

struct Trial<'a> {
    location: &'a Location,
    folder: Path,
    noise: Bytes,
    /// Every object and version written, to be removed in the end.
    written: Vec<(Path, Option<String>)>,
    left_behind: Vec<String>,
}

impl<'a> Trial<'a> {
    fn new(location: &'a Location, random: &mut (dyn Rng + Send)) -> Self {
        let id = random.next_u64();
        // Twice the size: two objects of one probe share no offset.
        let mut noise = vec![0; 2 * OBJECT_BYTES];
        random.fill_bytes(&mut noise);
        Self {
            location,
            folder: Path::from(format!("probe/{id:016x}")),
            noise: Bytes::from(noise),
            written: Vec::new(),
            left_behind: Vec::new(),
        }
    }

    fn object(&self, name: &str, variant: usize) -> Object {
        let start = variant * OBJECT_BYTES;
        Object { name: self.folder.clone().join(name), bytes: self.noise.slice(start..start + OBJECT_BYTES) }
    }

    async fn put(&mut self, name: &Path, bytes: &Bytes, mode: PutMode) -> Result<PutResult, BackendError> {
        let payload = PutPayload::from_bytes(bytes.clone());
        let result = self.location.store().put_opts(name, payload, mode.into()).await;
        let result = result.map_err(|error| self.error("put", name, &error))?;
        self.written.push((name.clone(), real_version(&result)));
        Ok(result)
    }

    async fn head(&self, name: &Path) -> Result<ObjectMeta, BackendError> {
        let result = self.location.store().head(name).await;
        result.map_err(|error| self.error("head", name, &error))
    }

    async fn read(&self, name: &Path) -> Result<Bytes, BackendError> {
        self.read_version(name, None).await.map_err(|error| self.error("get", name, &error))
    }

    async fn read_version(&self, name: &Path, version: Option<&str>) -> object_store::Result<Bytes> {
        let options = GetOptions::new().with_version(version);
        let result = self.location.store().get_opts(name, options).await?;
        result.bytes().await
    }

    async fn ranges_are_exact(&self, object: &Object) -> Result<bool, BackendError> {
        let size = OBJECT_BYTES as u64;
        for range in [0..1, 65_536..131_072, size - 1..size, size - 10..size + 10] {
            let read = self.location.store().get_range(&object.name, range.clone()).await;
            let read = read.map_err(|error| self.error("get range", &object.name, &error))?;
            let end = usize::try_from(range.end.min(size)).expect("below the object's size");
            let start = usize::try_from(range.start).expect("below the object's size");
            if read != object.bytes[start..end] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn lists(&self, name: &Path) -> Result<bool, BackendError> {
        let listed = self.location.store().list(Some(&self.folder));
        let listed: Vec<ObjectMeta> =
            listed.try_collect().await.map_err(|error| self.error("list", &self.folder, &error))?;
        Ok(listed.iter().any(|found| found.location == *name))
    }

    /// Creates one name twice, one after the other.
    async fn create_twice(&mut self) -> Result<ConditionalPut, BackendError> {
        let (first, second) = (self.object("serial", 0), self.object("serial", 1));
        match self.put(&first.name, &first.bytes, PutMode::Create).await {
            Ok(_) => {}
            // Some servers answer 400 where others answer 501.
            Err(error) if error.kind() == Kind::Config => return Ok(ConditionalPut::Refused),
            Err(error) => return Err(error),
        }
        if self.location.create_as() == CreateAs::HeadThenPut {
            return Ok(ConditionalPut::Refused);
        }
        match self.put(&second.name, &second.bytes, PutMode::Create).await {
            Ok(_) => Ok(ConditionalPut::Ignored),
            // Refused with a good face, but replaced all the same: that is not honoured.
            Err(error) if error.kind() == Kind::Exists => {
                let stands = self.read(&first.name).await? == first.bytes;
                Ok(if stands { ConditionalPut::Honoured } else { ConditionalPut::Ignored })
            }
            Err(error) => Err(error),
        }
    }

    /// Lets writers race for a new name; how many were told they won. A writer that was
    /// turned away for another reason (overload) has not won.
    async fn race(&mut self) -> u32 {
        let name = self.folder.clone().join("race");
        let writers = (0..RACERS).map(|writer| {
            let start = writer as usize * 1_000;
            let payload = PutPayload::from_bytes(self.noise.slice(start..start + 1_000));
            let (name, store) = (name.clone(), self.location.store());
            async move { store.put_opts(&name, payload, PutMode::Create.into()).await }
        });
        let results = join_all(writers).await;
        let winners = results.iter().flatten();
        let winners: Vec<_> = winners.map(|won| (name.clone(), real_version(won))).collect();
        let count = u32::try_from(winners.len()).unwrap_or(RACERS);
        self.written.extend(winners);
        count
    }

    /// Overwritten already; now deletes the object, then erases its first version.
    async fn attack(&mut self, object: &Object, first: &PutResult) -> Result<History, BackendError> {
        let may_delete = match self.location.store().delete(&object.name).await {
            Ok(()) => self.is_gone(&object.name).await,
            Err(error) if classify(&error) == Kind::NotFound => true,
            Err(_) => false,
        };
        let mut history = History { may_delete, versions: None };
        let (Some(version), Some(s3)) = (real_version(first), self.location.versions()) else {
            return Ok(history);
        };
        if !self.still_there(object, &version).await {
            return Ok(history);
        }
        let locked = s3.is_locked(&object.name, &version).await?;
        let may_erase = match s3.delete(&object.name, &version).await {
            Ok(()) => !self.still_there(object, &version).await,
            // Only a refusal shows that it is protected; a failure shows nothing.
            Err(error) => error.kind() != Kind::Denied,
        };
        history.versions = Some(Versions { may_erase, locked });
        Ok(history)
    }

    async fn is_gone(&self, name: &Path) -> bool {
        let found = self.location.store().head(name).await;
        found.is_err_and(|error| classify(&error) == Kind::NotFound)
    }

    async fn still_there(&self, object: &Object, version: &str) -> bool {
        let read = self.read_version(&object.name, Some(version)).await;
        read.is_ok_and(|bytes| bytes == object.bytes)
    }

    async fn clean_up(&mut self, history: &History) {
        for (name, version) in std::mem::take(&mut self.written) {
            let left = if let (Some(version), Some(s3)) = (&version, self.location.versions()) {
                !history.may_erase_versions() || s3.delete(&name, version).await.is_err()
            } else {
                // What is gone already counts as removed.
                let deleted = self.location.store().delete(&name).await;
                deleted.is_err_and(|error| classify(&error) != Kind::NotFound)
            };
            if left {
                let version = version.map(|v| format!(" (version {v})")).unwrap_or_default();
                self.left_behind.push(format!("{name}{version}"));
            }
        }
    }

    fn error(&self, verb: &str, name: &Path, error: &object_store::Error) -> BackendError {
        BackendError::from_store(format!("{}: {verb} {name}", self.location.url()), error)
    }
}

/// A bucket whose versioning was suspended calls every version "null" and keeps none.
fn real_version(result: &PutResult) -> Option<String> {
    result.version.clone().filter(|version| version != "null")
}

/// The object's time against the middle of the write that made it.
fn clock_skew(meta: &ObjectMeta, before: SystemTime, after: SystemTime) -> Option<i64> {
    let there = meta.last_modified.timestamp();
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    };
    let here = i64::midpoint(seconds(before)?, seconds(after)?);
    // Stores without a time say 1970.
    (there > 0).then_some(there - here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Faults, Faulty, LocationSpec, open};
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;
    use std::sync::Arc;
    use std::time::Duration;

    fn random() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(6)
    }

    async fn temporary() -> (tempfile::TempDir, Location) {
        let dir = tempfile::tempdir().unwrap();
        let url = url::Url::from_directory_path(dir.path()).unwrap();
        let location = open(LocationSpec::new(url)).await.unwrap();
        (dir, location)
    }

    #[tokio::test]
    async fn a_folder_does_everything_but_keep_versions() {
        let (dir, location) = temporary().await;
        let found = probe(&location, &mut random(), &SystemTime::now).await.unwrap();
        let expected = Probe {
            conditional: ConditionalPut::Honoured,
            racers: 16,
            winners: 1,
            reads_back: true,
            ranges: true,
            lists_after_put: true,
            overwrites_seen: true,
            may_delete: true,
            keeps_versions: false,
            may_erase_versions: false,
            clock_skew_s: found.clock_skew_s,
            grade: Grade::Overwritable,
            left_behind: Vec::new(),
        };
        assert_eq!(found, expected);
        assert!(found.clock_skew_s.unwrap().abs() <= 2, "{found:?}");
        let left = location.store().list(None);
        assert!(left.try_collect::<Vec<_>>().await.unwrap().is_empty());
        drop(dir);
    }

    #[tokio::test]
    async fn a_clock_that_is_wrong_is_seen() {
        let (_dir, location) = temporary().await;
        let ahead = || SystemTime::now() + Duration::from_hours(1);
        let found = probe(&location, &mut random(), &ahead).await.unwrap();
        let skew = found.clock_skew_s.unwrap();
        assert!((-3_602..=-3_598).contains(&skew), "{skew}");
    }

    #[tokio::test]
    async fn lies_are_found() {
        let lying = async |faults: Faults| {
            let location = open(LocationSpec::new("memory:///")).await.unwrap();
            let mut store = None;
            let location = location.wrapped(|inner| {
                let faulty = Faulty::new(inner, Box::new(random()));
                faulty.set(faults);
                store = Some(faulty.clone());
                Arc::new(faulty)
            });
            let found = probe(&location, &mut random(), &SystemTime::now).await;
            (found, store.unwrap().injected())
        };
        let (wrong, _) = lying(Faults { get_wrong: 1_000, ..Faults::default() }).await;
        let wrong = wrong.unwrap();
        assert!(!wrong.reads_back && !wrong.ranges && !wrong.overwrites_seen);
        let (stale, _) = lying(Faults { list_stale: 1_000, ..Faults::default() }).await;
        assert!(!stale.unwrap().lists_after_put);
        let (undeletable, _) = lying(Faults { delete_error: 1_000, ..Faults::default() }).await;
        let undeletable = undeletable.unwrap();
        assert!(!undeletable.may_delete);
        assert!(!undeletable.left_behind.is_empty());
        let (vanishing, _) = lying(Faults { put_vanishes: 1_000, ..Faults::default() }).await;
        assert_eq!(vanishing.unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn the_grade_is_what_a_thief_cannot_undo() {
        let grade = |versions| History { may_delete: true, versions }.grade();
        let versions = |may_erase, locked| Some(Versions { may_erase, locked });
        assert_eq!(grade(None), Grade::Overwritable);
        assert_eq!(grade(versions(true, false)), Grade::Overwritable);
        // A lock that did not hold is none, whatever the header says.
        assert_eq!(grade(versions(true, true)), Grade::Overwritable);
        assert_eq!(grade(versions(false, false)), Grade::Versioned);
        assert_eq!(grade(versions(false, true)), Grade::Locked);
        assert!(Grade::Locked > Grade::Versioned && Grade::Versioned > Grade::Overwritable);
    }
}
