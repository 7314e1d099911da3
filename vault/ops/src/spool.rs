//! The spool: points that the locations could not take yet, kept on this host.
//!
//! What always holds:
//! - It has the structure of a location and holds nothing but what a location
//!   would: sealed shards and signed records. No data key, no plaintext. So it is
//!   a pile of bare shards, which `restore --from` reads.
//! - A pack in it has its first k shards, which are enough to rebuild all n
//!   without a key; a manifest is put in only when every pack it needs is whole
//!   here or durable(d) at the locations, and before any location sees it.
//! - Nothing leaves before the manifest that needs it stands on its quorum.
//! - It is bounded, by its own size and by what the disk must keep free; what does
//!   not fit is refused whole, and what is in it stays.
//!
//! It is never counted as a location or a domain. One process works on it at a
//! time: the one that holds the writer's lease. See docs/decisions/0015-spool.md.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use backends::{BackendError, Kind};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use vault_codec::ShardSet;
use vault_format::shard::ShardLayout;
use vault_format::suite::Coding;
use vault_format::{LocationId, PackId, WriterId, names};

use crate::catalog::Catalog;
use crate::error::{OpsError, Result};
use crate::fetch::Holdings;
use crate::heads::Position;
use crate::location::{Created, Location};
use crate::records;
use crate::vault::Vault;

mod aside;
mod deliver;

pub(crate) use aside::is_awaited;
pub use aside::{ASIDE, AsidePlan, Stuck, plan_aside, set_aside, stuck};
pub use deliver::{Delivery, deliver};
pub(crate) use deliver::{clear_of_waiting, last_waiting};

/// Says how many bytes the spool's disk has left; `None` if it does not say.
pub type FreeSpace = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Keeps copies of the records without which the vault cannot be opened: with these
/// it opens when no location answers.
pub async fn keep_records(vault: &Vault) -> std::result::Result<(), Unkept> {
    let Some(spool) = &vault.spool else { return Ok(()) };
    let revocations = vault.revocation_bytes.iter();
    let revocations = revocations.map(|bytes| (names::revocation(keys::record::hash(bytes)), bytes.clone()));
    let marks = vault.marks.records().into_iter();
    for (name, bytes) in records::founding(vault).into_iter().chain(revocations).chain(marks) {
        spool.keep_record(&name, &bytes).await?;
    }
    Ok(())
}

/// Why something is not in the spool. As an error of a run it means that there is no
/// point; where the locations have it, it is only said.
#[derive(Debug)]
pub enum Unkept {
    /// There is no room, and why.
    NoRoom(String),
    /// Something else.
    Failed(OpsError),
}

impl std::fmt::Display for Unkept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRoom(why) => write!(f, "the spool on this host is full: {why}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl From<BackendError> for Unkept {
    fn from(error: BackendError) -> Self {
        if error.kind() == Kind::Full { Self::NoRoom(error.to_string()) } else { Self::Failed(error.into()) }
    }
}

impl From<Unkept> for OpsError {
    fn from(unkept: Unkept) -> Self {
        match unkept {
            Unkept::NoRoom(_) => Self::Full {
                what: format!(
                    "not durable: too few locations take this point, and {unkept}. No point was made of this run; what the \
                     spool holds is kept and delivered, and earlier points are untouched. Bring back a location and run: \
                     holdfast vault deliver, or give the spool more room"
                ),
            },
            Unkept::Failed(error) => error,
        }
    }
}

/// Since when the oldest point waits: a name in the catalog.
const SINCE: &str = "spool.since";

/// Since when the spool has held a point, if the catalog knows.
pub(crate) fn waiting_since(catalog: &Catalog) -> Result<Option<i64>> {
    let bytes = catalog.meta(SINCE)?;
    Ok(bytes.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?))))
}

/// Notes whether points wait.
fn note_waiting(catalog: &Catalog, waits: bool, now_ms: i64) -> Result<()> {
    match (waits, catalog.meta(SINCE)?) {
        (true, None) => catalog.set_meta(SINCE, &now_ms.to_le_bytes()),
        (false, Some(_)) => catalog.forget_meta(SINCE),
        (true, Some(_)) | (false, None) => Ok(()),
    }
}

/// How much a spool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of everything in it.
    pub bytes_max: u64,
    /// What it leaves free on its disk: the catalog and the host need room to work.
    pub free_min: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 10 << 30, free_min: 512 << 20 }
    }
}

/// The folder of what is not delivered. Clones are the same spool.
#[derive(Clone)]
pub struct Spool {
    location: Arc<Location>,
    limits: Limits,
    free: FreeSpace,
    /// Bytes in it, once they were counted.
    used: Arc<Mutex<Option<u64>>>,
}

/// What lies in a spool.
#[derive(Clone, Default)]
pub struct Contents {
    /// Shards, by pack.
    pub holdings: Holdings,
    /// Manifests: whose, and their places for now.
    pub manifests: BTreeSet<(WriterId, Position)>,
    /// Bytes of shards and manifests.
    pub bytes: u64,
}

impl Contents {
    /// Nothing to deliver.
    pub fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.holdings.packs.is_empty()
    }

    /// Manifests, as they are called.
    pub fn manifest_names(&self) -> impl Iterator<Item = String> {
        self.manifests.iter().map(|(writer, (epoch, sequence))| names::manifest(*writer, *epoch, *sequence))
    }

    /// Bytes of a pack's shards.
    pub fn shard_bytes(&self, pack: PackId) -> u64 {
        self.holdings.packs.get(&pack).into_iter().flatten().filter_map(|shard| shard.bytes).sum()
    }

    /// Whether enough of a pack is here to rebuild all of it.
    pub fn has_pack(&self, pack: PackId, coding: Coding) -> bool {
        let indices: BTreeSet<u8> = self.holdings.copies(pack).iter().map(|copy| copy.index).collect();
        indices.len() >= usize::from(coding.data_shards())
    }
}

impl Spool {
    /// A spool over a local store, which must have what it acknowledged on the medium.
    pub fn new(store: Arc<dyn ObjectStore>, limits: Limits, free: FreeSpace) -> Self {
        let location = Location {
            id: LocationId::default(),
            name: "spool".to_owned(),
            domain: u16::MAX,
            blank: false,
            store,
            versions: None,
            names: None,
        };
        Self { location: Arc::new(location), limits, free, used: Arc::default() }
    }

    /// The store, for reading: as one more folder of bare shards.
    pub fn as_folder(&self) -> Arc<Location> {
        Arc::clone(&self.location)
    }

    /// Lists it.
    pub async fn contents(&self) -> Result<Contents> {
        let mut contents = Contents::default();
        for object in self.location.list(names::SHARDS).await? {
            contents.bytes += object.bytes;
            contents.holdings.add(&self.location, object);
        }
        for object in self.location.list(names::MANIFESTS).await? {
            contents.bytes += object.bytes;
            if let Some((writer, epoch, sequence)) = names::parse_manifest(&object.name) {
                contents.manifests.insert((writer, (epoch, sequence)));
            }
        }
        Ok(contents)
    }

    /// Keeps the first k shards of a pack. On an error nothing of it stays.
    pub(crate) async fn add_pack(&self, set: &ShardSet) -> Result<()> {
        let data_shards = set.coding().data_shards();
        let bytes = ShardLayout::new(set.class()).object_bytes() * u64::from(data_shards);
        self.make_room(bytes).await?;
        let mut written = Vec::new();
        for index in 0..data_shards {
            let object = set.object(index);
            written.push(object.name().to_owned());
            let stored = self.store(object.name(), object.parts().to_vec(), &object.to_vec()).await;
            if let Err(error) = stored {
                self.remove(&written).await?;
                return Err(Unkept::from(error).into());
            }
        }
        self.count(bytes);
        Ok(())
    }

    /// Keeps a manifest.
    pub(crate) async fn add_manifest(&self, name: &str, bytes: &[u8]) -> std::result::Result<(), Unkept> {
        self.make_room(bytes.len() as u64).await?;
        self.store(name, vec![Bytes::copy_from_slice(bytes)], bytes).await?;
        self.count(bytes.len() as u64);
        Ok(())
    }

    /// Keeps a copy of a record without which the vault cannot be opened.
    pub(crate) async fn keep_record(&self, name: &str, bytes: &[u8]) -> std::result::Result<(), Unkept> {
        if self.location.read(name).await?.is_some_and(|there| there == bytes) {
            return Ok(());
        }
        self.make_room(bytes.len() as u64).await?;
        // Nobody but this host writes here: what stands there with other bytes is older, or torn.
        self.location.overwrite(name, vec![Bytes::copy_from_slice(bytes)]).await?;
        Ok(())
    }

    /// Reads an object.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.location.read(name).await?)
    }

    /// Takes objects out. What is gone already is no error.
    pub(crate) async fn remove(&self, names: &[String]) -> Result<()> {
        for name in names {
            match self.location.store.delete(&Path::from(name.as_str())).await {
                Ok(()) => {}
                Err(error) if backends::classify(&error) == Kind::NotFound => {}
                Err(error) => return Err(BackendError::from_store(format!("removing {name}"), &error).into()),
            }
        }
        *lock(&self.used) = None;
        Ok(())
    }

    /// Takes packs out, all that is here of them.
    pub(crate) async fn remove_packs(&self, packs: &BTreeSet<PackId>) -> Result<()> {
        let contents = self.contents().await?;
        let of_packs = contents.holdings.packs.iter().filter(|(pack, _)| packs.contains(pack));
        let names: Vec<String> = of_packs.flat_map(|(_, held)| held.iter().map(|one| one.name.clone())).collect();
        self.remove(&names).await
    }

    /// Writes an object and reads it back. One that is there already must be the same.
    async fn store(&self, name: &str, parts: Vec<Bytes>, whole: &[u8]) -> std::result::Result<(), BackendError> {
        let created = self.location.create(name, parts.clone()).await?;
        if self.location.read(name).await?.is_some_and(|there| there == whole) {
            return Ok(());
        }
        if created == Created::Exists {
            // Torn by a crash of the machine: nobody else writes here, and what is written follows from the name.
            self.location.overwrite(name, parts).await?;
            if self.location.read(name).await?.is_some_and(|there| there == whole) {
                return Ok(());
            }
        }
        let why = "what was written does not read back: this host's disk fails";
        Err(BackendError::new(Kind::Corrupt, format!("writing {name} into the spool"), why))
    }

    async fn make_room(&self, need: u64) -> std::result::Result<(), Unkept> {
        let known = *lock(&self.used);
        let used = match known {
            Some(used) => used,
            None => self.contents().await.map_err(Unkept::Failed)?.bytes,
        };
        *lock(&self.used) = Some(used);
        if used + need > self.limits.bytes_max {
            let most = mebibytes(self.limits.bytes_max);
            return Err(Unkept::NoRoom(format!("it holds {} and may hold {most} (spool_max)", mebibytes(used))));
        }
        if let Some(free) = (self.free)()
            && free < need + self.limits.free_min
        {
            let keep = mebibytes(self.limits.free_min);
            return Err(Unkept::NoRoom(format!("its disk has {} left, of which {keep} stay free", mebibytes(free))));
        }
        Ok(())
    }

    fn count(&self, bytes: u64) {
        let mut used = lock(&self.used);
        *used = used.map(|used| used + bytes);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
