//! Finding and reading shards: from a vault's locations or from any folders.
//!
//! What always holds: a byte is used only after it was checked up to a signed
//! root; a shard that is missing, short or wrong is an erasure and is named; k
//! good ones are enough, whoever holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use backends::{BackendError, Kind, Version};
use bytes::Bytes;
use keys::certificate::CertifiedKey;
use vault_codec::{Buffers, GoodShard, ParsedHeader, ShardSet, VerifiedHeader};
use vault_format::manifest::PackRef;
use vault_format::shard::{HEADER_BYTES, ShardLayout};
use vault_format::suite::Class;
use vault_format::{Hash, LocationId, PackId, WriterId, names};

use crate::belief::Belief;
use crate::catalog::{Catalog, Failure};
use crate::error::{OpsError, Result};
use crate::location::Location;
use crate::older::TRIED_MAX;
use crate::placement::Copy;
use crate::vault::Vault;
use crate::world::World;

mod leaves;
mod race;

pub use crate::listing::list_shards;

use race::{Contender, Latencies, Portion};

/// One copy of a shard that somebody shows.
#[derive(Clone)]
pub struct Holding {
    /// The index its name or header says.
    pub index: u8,
    /// Where.
    pub location: Arc<Location>,
    /// Its name there.
    pub name: String,
    /// The writer its name says, if it has a name of ours.
    pub writer: Option<WriterId>,
    /// Its size as listed; `None` if only names were looked at ([`crate::listing::glance`]).
    pub bytes: Option<u64>,
    /// Which version it is; `None` for what an ordinary read sees.
    pub version: Option<Box<Version>>,
}

impl Holding {
    /// Its size was looked at, and no shard has it.
    pub(crate) fn is_cut(&self) -> bool {
        let has_it = |class: Class, bytes| ShardLayout::new(class).object_bytes() == bytes;
        self.bytes.is_some_and(|bytes| !Class::ALL.into_iter().any(|class| has_it(class, bytes)))
    }

    /// Why its size says that it is wrong.
    pub(crate) fn cut_text(&self) -> Option<String> {
        self.bytes.map(|bytes| format!("{bytes} bytes stand under its name, which no shard has"))
    }

    /// Reads a range of it; `None` if it is not there or ends before it.
    async fn read(&self, range: Range<u64>) -> std::result::Result<Option<Bytes>, BackendError> {
        match &self.version {
            None => self.location.read_range(&self.name, range).await,
            Some(version) => {
                let want = range.end - range.start;
                let read = self.location.read_older(version, Some(range)).await?;
                Ok(Some(read).filter(|bytes| bytes.len() as u64 == want))
            }
        }
    }
}

impl Contender for Holding {
    fn index(&self) -> u8 {
        self.index
    }

    fn location(&self) -> LocationId {
        self.location.id
    }
}

/// A shard that turned out not to be what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadShard {
    /// Which pack.
    pub pack: PackId,
    /// Which index.
    pub index: u8,
    /// Name of the location.
    pub location: String,
    /// Id of the location.
    pub location_id: vault_format::LocationId,
    /// What is wrong.
    pub why: String,
    /// It was not wrong: its location did not answer.
    pub offline: bool,
}

/// Everything known about where shards are.
#[derive(Clone, Default)]
pub struct Holdings {
    /// Copies of each pack's shards.
    pub packs: BTreeMap<PackId, Vec<Holding>>,
    /// Locations that could not be listed, and why.
    pub silent: Vec<(String, String)>,
    /// Objects in shard folders whose names are not ours.
    pub foreign: Vec<(String, String)>,
    /// Locations that may keep older versions, asked when what is shown is not enough.
    pub keepers: Vec<Arc<Location>>,
}

impl Holdings {
    /// Copies of a pack as placement sees them. Sizes no class has do not count; one that was
    /// not looked at does.
    pub fn copies(&self, pack: PackId) -> Vec<Copy> {
        let held = self.packs.get(&pack).map(Vec::as_slice).unwrap_or_default();
        let mut copies: Vec<Copy> = held
            .iter()
            .filter(|holding| !holding.is_cut())
            .map(|holding| Copy { index: holding.index, spot: holding.location.spot() })
            .collect();
        copies.sort_unstable();
        copies.dedup();
        copies
    }

    /// Takes out copies that failed a verification and were not mended yet.
    pub fn discount(&mut self, failures: &[Failure]) {
        for failure in failures {
            if let Some(held) = self.packs.get_mut(&failure.pack) {
                held.retain(|holding| (holding.location.id, holding.index) != (failure.location, failure.index));
            }
        }
    }

    /// Copies of a pack, counting as present what stands at home on a location
    /// that does not answer now: unreachable is not lost.
    pub fn copies_believed(&self, vault: &Vault, pack: PackId) -> Vec<Copy> {
        Belief::new(self, vault).copies(pack)
    }
}

/// Older versions of a pack's shards that some locations keep, in the size of a shard:
/// by location and name, of each object in the order in which they are worth trying.
/// What a location does not tell is not there.
pub async fn older_shards(keepers: &[Arc<Location>], writers: &BTreeSet<WriterId>, pack: PackId) -> Vec<Holding> {
    let sizes: BTreeSet<u64> = Class::ALL.iter().map(|&class| ShardLayout::new(class).object_bytes()).collect();
    let mut found = Vec::new();
    for &writer in writers {
        let first = names::shard(writer, pack, 0);
        // What all indices have in common.
        let prefix = first.strip_suffix("00").unwrap_or(&first);
        let lists = futures::future::join_all(keepers.iter().map(|keeper| keeper.older(prefix))).await;
        for (keeper, older) in keepers.iter().zip(lists) {
            for (name, versions) in older.unwrap_or_default() {
                let Some((writer, _, index)) = names::parse_shard(&name) else { continue };
                let fit = versions.into_iter().filter(|version| sizes.contains(&version.bytes)).take(TRIED_MAX);
                found.extend(fit.map(|version| Holding {
                    index,
                    location: Arc::clone(keeper),
                    name: name.clone(),
                    writer: Some(writer),
                    bytes: Some(version.bytes),
                    version: Some(Box::new(version)),
                }));
            }
        }
    }
    found
}

/// Copies by pack; and the locations that were asked for them.
pub(crate) type Remembered = (BTreeMap<PackId, Vec<Copy>>, BTreeSet<LocationId>);

/// What stood on locations that do not answer now, by what they showed when they were
/// last listed: of these nothing else is believed.
pub(crate) fn remembered(vault: &Vault, catalog: &Catalog, holdings: &Holdings) -> Result<Remembered> {
    let (mut away, mut listed): (BTreeMap<PackId, Vec<Copy>>, _) = (BTreeMap::new(), BTreeSet::new());
    for spot in vault.spots() {
        let here = vault.location(spot.location);
        let answers = here.is_some_and(|here| !holdings.silent.iter().any(|(name, _)| *name == here.name));
        if answers || !catalog.was_listed(spot.location)? {
            continue;
        }
        listed.insert(spot.location);
        for (pack, index) in catalog.shown(spot.location)? {
            away.entry(pack).or_default().push(Copy { index, spot });
        }
    }
    Ok((away, listed))
}

/// Why a copy could not be used.
enum Fault {
    /// It is missing, short or not what it should be.
    Wrong(String),
    /// Its location did not answer: that says nothing about it.
    Offline(String),
}

impl Fault {
    fn of(error: backends::BackendError) -> Self {
        let why = error.to_string();
        if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) { Self::Wrong(why) } else { Self::Offline(why) }
    }

    fn missing() -> Self {
        Self::Wrong("the object is missing or too short".to_owned())
    }
}

/// Which headers a fetcher accepts.
#[derive(Clone)]
pub enum Trust {
    /// Only headers signed under one of these certificates.
    Signed(BTreeMap<Hash, Arc<CertifiedKey>>),
    /// Any header: for finding the certificates themselves among bare shards.
    /// Nothing read this way is accepted before it was read again as `Signed`.
    NotYet,
}

/// Reads packs through their holdings.
pub struct Fetcher {
    /// Where the shards are.
    pub holdings: Holdings,
    trust: Trust,
    world: World,
    buffers: Buffers,
    headers: Mutex<BTreeMap<PackId, ParsedHeader>>,
    /// Older versions of the shards of packs that were short of good ones.
    older: Mutex<BTreeMap<PackId, Vec<Holding>>>,
    /// Merkle nodes that led from a leaf to the signed root, by pack, shard and location.
    nodes: Mutex<BTreeMap<(PackId, u8, LocationId), Bytes>>,
    bad: Mutex<Vec<BadShard>>,
    /// Hashes of headers that a verified record names.
    expected: Mutex<BTreeMap<PackId, Hash>>,
    latencies: Mutex<Latencies>,
}

impl Fetcher {
    /// A fetcher over these holdings.
    pub fn new(world: World, holdings: Holdings, trust: Trust) -> Self {
        Self {
            holdings,
            trust,
            world,
            buffers: Buffers::new(1),
            headers: Mutex::default(),
            older: Mutex::default(),
            nodes: Mutex::default(),
            bad: Mutex::default(),
            expected: Mutex::default(),
            latencies: Mutex::default(),
        }
    }

    /// Its surroundings.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The certificate a header was signed under.
    pub fn writer_of(&self, header: &ParsedHeader) -> Option<&Arc<CertifiedKey>> {
        match &self.trust {
            Trust::Signed(writers) => writers.get(&header.header().certificate),
            Trust::NotYet => None,
        }
    }

    /// Bad shards met so far, for read-repair and reports.
    pub fn bad(&self) -> Vec<BadShard> {
        lock(&self.bad).clone()
    }

    /// Packs whose header was read.
    pub fn packs_read(&self) -> BTreeSet<PackId> {
        lock(&self.headers).keys().copied().collect()
    }

    /// A pack's header, from the first copy that shows an acceptable one.
    pub async fn header(&self, pack: PackId) -> Result<ParsedHeader> {
        if let Some(header) = lock(&self.headers).get(&pack) {
            return Ok(header.clone());
        }
        let held = self.holdings.packs.get(&pack).cloned().unwrap_or_default();
        if let Some(header) = self.header_of(pack, &held).await {
            return Ok(header);
        }
        let older = self.older(pack).await;
        self.header_of(pack, &older).await.ok_or_else(|| self.not_enough(pack, 0, 1))
    }

    async fn header_of(&self, pack: PackId, held: &[Holding]) -> Option<ParsedHeader> {
        let mut held = held.to_vec();
        held.sort_by_key(|holding| lock(&self.latencies).is_slow(holding.location.id));
        let ask = async |holding: Holding| {
            let read = holding.read(0..HEADER_BYTES as u64).await;
            self.check_header(pack, &holding, read).map_err(|fault| self.blame(pack, &holding, fault)).ok()
        };
        let (_, header) = self.race(Portion::Leaves, 1, BTreeMap::new(), held, ask).await.pop_first()?;
        lock(&self.headers).insert(pack, header.clone());
        Some(header)
    }

    /// Older versions of a pack's shards: asked for once, when what is shown is not enough.
    async fn older(&self, pack: PackId) -> Vec<Holding> {
        if let Some(known) = lock(&self.older).get(&pack) {
            return known.clone();
        }
        let writers: BTreeSet<WriterId> = match &self.trust {
            Trust::Signed(writers) => writers.values().map(|key| key.subject()).collect(),
            Trust::NotYet => BTreeSet::new(),
        };
        let found = older_shards(&self.holdings.keepers, &writers, pack).await;
        lock(&self.older).insert(pack, found.clone());
        found
    }

    fn check_header(
        &self,
        pack: PackId,
        holding: &Holding,
        read: std::result::Result<Option<Bytes>, backends::BackendError>,
    ) -> std::result::Result<ParsedHeader, Fault> {
        let bytes = read.map_err(Fault::of)?.ok_or_else(Fault::missing)?;
        let parsed = ParsedHeader::parse(&bytes).map_err(|error| Fault::Wrong(error.to_string()))?;
        if parsed.pack() != pack || parsed.index() != holding.index {
            return Err(Fault::Wrong("another shard's bytes stand under this name".to_owned()));
        }
        let expected = lock(&self.expected).get(&pack).copied();
        if expected.is_some_and(|hash| hash != parsed.hash()) {
            return Err(Fault::Wrong("its header is not the one that was signed for".to_owned()));
        }
        match &self.trust {
            Trust::NotYet => Ok(parsed),
            // Whoever signed for this very header vouches for it.
            Trust::Signed(writers) if expected.is_some() && !writers.contains_key(&parsed.header().certificate) => {
                Ok(parsed)
            }
            Trust::Signed(writers) => {
                let verified = parsed.verify(|hash| writers.get(hash).map(AsRef::as_ref));
                verified.map(|header| (*header).clone()).map_err(|error| Fault::Wrong(error.to_string()))
            }
        }
    }

    /// Accepts of these packs only the headers a verified record names, whoever signed them.
    pub(crate) fn expect(&self, packs: &[PackRef]) {
        lock(&self.expected).extend(packs.iter().map(|pack| (pack.pack, pack.header)));
    }

    /// A pack's header as repair needs it: signed, whoever the fetcher trusts.
    pub async fn signed_header(&self, pack: PackId) -> Result<VerifiedHeader> {
        let header = self.header(pack).await?;
        let key = self.writer_of(&header).cloned();
        header
            .verify(|_| key.as_deref())
            .map_err(|error| OpsError::corrupt(format!("the header of pack {pack}"), error.to_string()))
    }

    fn blame(&self, pack: PackId, holding: &Holding, fault: Fault) {
        let (why, offline) = match fault {
            Fault::Wrong(why) => (why, false),
            Fault::Offline(why) => (why, true),
        };
        // Rubbish among older versions is nobody's to repair: the newest was named already.
        if holding.version.is_some() && !offline {
            return;
        }
        self.note(pack, holding, why, offline);
    }

    fn note(&self, pack: PackId, holding: &Holding, why: String, offline: bool) {
        let bad = BadShard {
            offline,
            pack,
            index: holding.index,
            location: holding.location.name.clone(),
            location_id: holding.location.id,
            why,
        };
        let mut noted = lock(&self.bad);
        // Met in every part that is read; said once.
        if !noted.contains(&bad) {
            noted.push(bad);
        }
    }

    /// A pack's body from any k good shards: data shards first.
    pub async fn body(&self, pack: PackId) -> Result<(ParsedHeader, Bytes)> {
        let header = self.header(pack).await?;
        let good = self.good_shards(&header).await?;
        let body = self.decoded(&header, good).await?;
        Ok((header, body))
    }

    /// k shards of a pack, each checked to its signed root: data shards first, others where
    /// one of these is no good or late.
    pub async fn good_shards(&self, header: &ParsedHeader) -> Result<BTreeMap<u8, GoodShard>> {
        let (pack, need) = (header.pack(), usize::from(header.coding().data_shards()));
        let ask = |holding: Holding| self.good_shard(header, holding);
        let mut good = self.race(Portion::Shard, need, BTreeMap::new(), self.in_order(header), ask).await;
        if good.len() < need {
            good = self.race(Portion::Shard, need, good, self.older(pack).await, ask).await;
        }
        if good.len() < need {
            return Err(self.not_enough(pack, good.len(), need));
        }
        Ok(good)
    }

    async fn good_shard(&self, header: &ParsedHeader, holding: Holding) -> Option<GoodShard> {
        let pack = header.pack();
        let fault = match holding.read(header.layout().payload()).await {
            Ok(Some(bytes)) => match self.admitted(header, holding.index, bytes).await {
                Ok(good) => {
                    self.note_older(pack, &holding);
                    return Some(good);
                }
                Err(why) => Fault::Wrong(why),
            },
            Ok(None) => Fault::missing(),
            Err(error) => Fault::of(error),
        };
        self.blame(pack, &holding, fault);
        None
    }

    fn note_older(&self, pack: PackId, holding: &Holding) {
        let Some(version) = &holding.version else { return };
        let why = format!(
            "its newest version was overwritten or deleted; version {} was used: holdfast vault repair --apply restores it",
            version.id
        );
        self.note(pack, holding, why, false);
    }

    /// All n shards of a pack, made from k good ones without a key. Their header must
    /// be the one a manifest signed.
    pub(crate) async fn all_shards(&self, pack: PackId, signed: Hash) -> Result<ShardSet> {
        let header = self.signed_header(pack).await?;
        let damaged = |why: String| OpsError::corrupt(format!("pack {}", pack.short()), why);
        if header.hash() != signed {
            return Err(damaged("the header shown is not the one the manifest signed".to_owned()));
        }
        let good = self.good_shards(&header).await?;
        let buffers = self.buffers.clone();
        let rebuilt = self.world.compute.run(move || {
            let good: Vec<GoodShard> = good.into_values().collect();
            vault_codec::repair(&header, &good, &buffers)
        });
        rebuilt.await.map_err(|error| damaged(error.to_string()))
    }

    async fn admitted(&self, header: &ParsedHeader, index: u8, bytes: Bytes) -> std::result::Result<GoodShard, String> {
        let header = header.clone();
        self.world.compute.run(move || header.admit(index, bytes).map_err(|error| error.to_string())).await
    }

    async fn decoded(&self, header: &ParsedHeader, good: BTreeMap<u8, GoodShard>) -> Result<Bytes> {
        let (header, buffers) = (header.clone(), self.buffers.clone());
        let pack = header.pack();
        let body = self.world.compute.run(move || {
            let good: Vec<GoodShard> = good.into_values().collect();
            vault_codec::assemble(&header, &good, &buffers)
        });
        body.await.map_err(|error| OpsError::corrupt(format!("pack {pack}"), error.to_string()))
    }

    /// A pack's copies by its own writer, data shards first; those of slow locations last.
    fn in_order(&self, header: &ParsedHeader) -> Vec<Holding> {
        let mut held = self.holdings.packs.get(&header.pack()).cloned().unwrap_or_default();
        held.retain(|holding| holding.may_be_of(header.h0().writer));
        let latencies = lock(&self.latencies);
        held.sort_by_key(|holding| (latencies.is_slow(holding.location.id), holding.index));
        held
    }

    /// Too few shards: lost if everybody answered, else only out of reach.
    fn not_enough(&self, pack: PackId, have: usize, need: usize) -> OpsError {
        let of_pack: Vec<BadShard> = lock(&self.bad).iter().filter(|bad| bad.pack == pack).cloned().collect();
        let mut silent: BTreeSet<String> = self.holdings.silent.iter().map(|(name, _)| name.clone()).collect();
        silent.extend(of_pack.iter().filter(|bad| bad.offline).map(|bad| bad.location.clone()));
        let bad: Vec<String> =
            of_pack.iter().map(|bad| format!("shard {} at {}: {}", bad.index, bad.location, bad.why)).collect();
        let bad = if bad.is_empty() { String::new() } else { format!(" ({})", bad.join("; ")) };
        if silent.is_empty() {
            return OpsError::Lost {
                what: format!(
                    "pack {} has {have} good shards of the {need} it needs, and every location answered{bad}: what \
                     stands in it alone is lost. If other copies of its shards exist in any folder, add it with: --from DIR",
                    pack.short()
                ),
            };
        }
        OpsError::Unreachable {
            what: format!(
                "pack {} has {have} good shards of the {need} it needs on the locations that answer{bad}. Nothing is \
                 known to be lost: bring back {} and run the same command again",
                pack.short(),
                silent.into_iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
