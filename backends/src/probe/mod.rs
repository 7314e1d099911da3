//! Finding out what a location really does.
//!
//! What always holds: nothing is believed because it was answered. Every property is
//! observed: bytes are read back, races are run, versions are fetched and attacked. What
//! could not be shown is reported as absent. All objects are under `probe/<random>/` and
//! removed again as far as the credentials allow; what stays is named.
//!
//! The [`Grade`] is judged for a thief who holds the very credentials that were used, so
//! probe with the writer's: history that these can erase protects nobody.

mod checksums;
mod conditional;
mod history;
mod trial;

use std::time::{SystemTime, UNIX_EPOCH};

use object_store::{ObjectMeta, PutMode};
use rand_core::Rng;

pub use checksums::{Checked, Checksums};
pub use conditional::ConditionalPut;

use crate::{BackendError, CreateAs, Location};
use conditional::RACERS;
use trial::Trial;

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
    /// A listing shows it no more as soon as its deletion was acknowledged; `None` when
    /// these credentials cannot delete.
    pub lists_after_delete: Option<bool>,
    /// What it does with checksums that come with an upload.
    pub checksums: Checksums,
    /// A read after an overwrite gives the new bytes.
    pub overwrites_seen: bool,
    /// These credentials may delete objects.
    pub may_delete: bool,
    /// An overwritten and deleted object can still be read by its version.
    pub keeps_versions: bool,
    /// These credentials may erase such a version.
    pub may_erase_versions: bool,
    /// An object that asks for a lock is locked, shown by trying to delete it. (Objects
    /// that are locked unasked make the grade [`Grade::Locked`].)
    pub locks_on_request: bool,
    /// The location's clock minus ours, in seconds; `None` when it gave no time. Times are
    /// whole seconds, so one second means nothing.
    pub clock_skew_s: Option<i64>,
    /// What a thief of these credentials cannot undo.
    pub grade: Grade,
    /// Objects and versions of this probe that could not be removed.
    pub left_behind: Vec<String>,
}

impl Probe {
    /// The grade that counts when every object we write asks for a lock, or not.
    pub fn grade_when(&self, locking: bool) -> Grade {
        if locking && self.locks_on_request { Grade::Locked } else { self.grade }
    }

    /// How `PutMode::Create` should be done there.
    pub fn create_as(&self) -> CreateAs {
        match self.conditional {
            ConditionalPut::Honoured | ConditionalPut::Racy => CreateAs::Conditional,
            ConditionalPut::Ignored | ConditionalPut::Refused => CreateAs::HeadThenPut,
        }
    }
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
    let checksums = trial.checksums().await;
    let history = trial.attack(&object, &first, milliseconds(after)).await?;
    let lists_after_delete = if history.may_delete { Some(!trial.lists(&object.name).await?) } else { None };
    trial.clean_up(&history).await;

    let probe = Probe {
        conditional,
        racers: RACERS,
        winners,
        reads_back,
        ranges,
        lists_after_put,
        lists_after_delete,
        checksums,
        overwrites_seen,
        may_delete: history.may_delete,
        keeps_versions: history.versions.is_some(),
        may_erase_versions: history.may_erase_versions(),
        locks_on_request: history.versions.is_some_and(|kept| kept.locks_on_request),
        clock_skew_s: clock_skew(&meta, before, after),
        grade: history.grade(),
        left_behind: trial.left_behind,
    };
    location.set_create(probe.create_as());
    Ok(probe)
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

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Faults, Faulty, Kind, LocationSpec, open};
    use futures::TryStreamExt;
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
            lists_after_delete: Some(true),
            checksums: Checksums::NOT_ASKED,
            overwrites_seen: true,
            may_delete: true,
            keeps_versions: false,
            may_erase_versions: false,
            locks_on_request: false,
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
}
