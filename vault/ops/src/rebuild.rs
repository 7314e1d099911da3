//! Keeping the catalog in step with the vault, and making it anew.
//!
//! What always holds: what the catalog remembers of the head never goes back
//! silently; a catalog that is behind, or gone, is filled from the manifests and
//! the packs' index sections with the writer's keys alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::files::WriterKey;
use vault_codec::{BodyPart, ParsedHeader};
use vault_format::body::LOCATORS_BYTES;
use vault_format::manifest::{PackRef, WriterPart};
use vault_format::{Hash, LocationId, PackId, names};

use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::commit;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Holdings, Trust, list_shards};
use crate::heads::{Chain, Depth, Position, SignedManifest, chain};
use crate::location::Listed;
use crate::place::{Overwrite, write_shard};
use crate::placement::{Copy, home, survives};
use crate::progress::{Phase, Total};
use crate::step::Step;
use crate::vault::Vault;

/// The newest head: place and hash.
const HEAD: &str = "head";
/// Hash of the manifest this host showed to the locations last.
const SIGNED: &str = "head.signed";
/// Set while the remembered head was not written by this host's own memory.
const FOREIGN_HEAD: &str = "head.foreign";

/// Where the next manifest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) previous: Hash,
}

impl Next {
    /// Where a writer's first manifest goes.
    pub(crate) const FIRST: Self = Self { epoch: 1, sequence: 1, previous: Hash([0; Hash::BYTES]) };

    /// The place behind a manifest, in its epoch.
    pub(crate) fn after(position: Position, hash: Hash) -> Self {
        Self { epoch: position.0, sequence: position.1 + 1, previous: hash }
    }

    /// The first place of the epoch behind a manifest's.
    fn new_epoch(position: Position, hash: Hash) -> Self {
        Self { epoch: position.0 + 1, sequence: 1, previous: hash }
    }

    /// As a place.
    pub(crate) fn position(&self) -> Position {
        (self.epoch, self.sequence)
    }
}

/// Compares the vault's head with the remembered one and brings the catalog up
/// to date. A head that this host did not sign, or does not remember, was written
/// by another image of it: what follows goes into a new epoch, so that the two never
/// mean two things by one place. See docs/decisions/0016-heads-and-epochs.md. What
/// is remembered and stands behind a fence of these marks was not rolled back: the
/// chain goes on behind what counts, and `condemned::follow_fences` opens the epoch.
pub(crate) async fn follow_head(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog, head: &Chain) -> Result<Next> {
    let remembered = remembered_head(catalog)?;
    let is_fenced = |position: Position| !vault.marks.fences.permit(keys.writer, position);
    let reported = |manifest: &SignedManifest| remembered == Some((manifest.position(), manifest.hash));
    let newest = match (head.rivals.iter().find(|rival| reported(rival)).or(head.head()), remembered) {
        (Some(newest), _) => newest,
        (None, Some((position, _))) => return Err(rolled_back(position, head)),
        (None, None) if head.confirmed => return Ok(Next::FIRST),
        (None, None) => return Err(unsure(head)),
    };
    match remembered {
        Some(_) if reported(newest) => {}
        Some((position, _)) if newest.position() <= position && !is_fenced(position) => {
            return Err(rolled_back(position, head));
        }
        None if !head.confirmed => return Err(unsure(head)),
        Some(_) | None => {
            catch_up(vault, keys, catalog).await?;
        }
    }
    // A run that died may have left its manifest short of the quorum. What builds on
    // it must not stand safer than it does, so it is completed first.
    let (epoch, sequence) = newest.position();
    let name = vault_format::names::manifest(keys.writer, epoch, sequence);
    let completed = commit::publish(vault, &name, &newest.bytes, Some(Step::RebuildHeadWritten)).await;
    let next = match completed {
        Ok(_) if catalog.meta(FOREIGN_HEAD)?.is_none() => Ok(Next::after((epoch, sequence), newest.hash)),
        Ok(_) => Ok(Next::new_epoch((epoch, sequence), newest.hash)),
        // Two for one place, and neither can have its quorum any more: both go on behind it.
        Err(_) if !head.rivals.is_empty() && !reported(newest) => Ok(Next::new_epoch((epoch, sequence), newest.hash)),
        Err(error) => Err(error),
    }?;
    Ok(next)
}

/// Without a memory of its own the writer must be sure of its newest manifest, or
/// it would write a second one beside it.
fn unsure(head: &Chain) -> OpsError {
    let silent: Vec<&str> = head.silent.iter().map(|(name, _)| name.as_str()).collect();
    OpsError::Unreachable {
        what: format!(
            "the local catalog is new and too few domains answer to know this writer's newest manifest; nothing was \
             written to them. Bring back {} and run the same command again",
            silent.join(", ")
        ),
    }
}

fn rolled_back(position: Position, head: &Chain) -> OpsError {
    let silent: Vec<&str> = head.silent.iter().map(|(name, _)| name.as_str()).collect();
    let what = format!(
        "this host remembers manifest {}.{} of its chain, and the locations that answer show only older ones",
        position.0, position.1
    );
    if silent.is_empty() {
        return OpsError::Corrupt {
            what: "the writer's chain".to_owned(),
            why: format!(
                "{what}: it was rolled back or forked. Nothing was written. If you restored the locations from a copy \
                 on purpose, delete the local catalog and run again"
            ),
        };
    }
    OpsError::Unreachable {
        what: format!("{what}. Nothing was written: bring back {} and run again", silent.join(", ")),
    }
}

pub(crate) fn remembered_head(catalog: &Catalog) -> Result<Option<(Position, Hash)>> {
    let Some(bytes) = catalog.meta(HEAD)? else { return Ok(None) };
    let read =
        |range: std::ops::Range<usize>| -> Option<u64> { Some(u64::from_le_bytes(bytes.get(range)?.try_into().ok()?)) };
    let parsed = || Some(((read(0..8)?, read(8..16)?), Hash::from_slice(bytes.get(16..)?)?));
    match parsed() {
        Some(head) => Ok(Some(head)),
        None => Err(OpsError::corrupt("the local catalog", "the remembered head is unreadable; delete the catalog")),
    }
}

/// Remembers a head of this host's own, once it stands on its quorum.
pub(crate) fn remember_head(catalog: &Catalog, position: Position, hash: Hash) -> Result<()> {
    note_head(catalog, position, hash)?;
    catalog.forget_meta(FOREIGN_HEAD)
}

/// Remembers a head after all checks.
fn note_head(catalog: &Catalog, (epoch, sequence): Position, hash: Hash) -> Result<()> {
    let mut bytes = Vec::with_capacity(48);
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&hash.0);
    catalog.set_meta(HEAD, &bytes)
}

/// Remembers what is about to be shown to the locations: a head that turns up after a
/// crash is known as this host's own.
pub(crate) fn remember_signed(catalog: &Catalog, hash: Hash) -> Result<()> {
    catalog.set_meta(SIGNED, &hash.0)
}

/// Remembers what each location that answers shows, and says what the others
/// showed when they last did. Home positions are no evidence: a location that was
/// away when a pack was written never had its shards.
pub(crate) fn remember_shown(
    vault: &Vault,
    catalog: &mut Catalog,
    holdings: &Holdings,
) -> Result<BTreeMap<PackId, Vec<Copy>>> {
    let mut shown: BTreeMap<LocationId, Vec<(PackId, u8)>> = BTreeMap::new();
    for &pack in holdings.packs.keys() {
        for copy in holdings.copies(pack) {
            shown.entry(copy.spot.location).or_default().push((pack, copy.index));
        }
    }
    let mut away: BTreeMap<PackId, Vec<Copy>> = BTreeMap::new();
    for spot in vault.spots() {
        let here = vault.location(spot.location);
        if here.is_some_and(|here| !holdings.silent.iter().any(|(name, _)| *name == here.name)) {
            catalog.remember_shown(spot.location, shown.get(&spot.location).map_or(&[], Vec::as_slice))?;
            catalog.listed(spot.location, vault.world.now_ms())?;
            continue;
        }
        for (pack, index) in catalog.shown(spot.location)? {
            away.entry(pack).or_default().push(Copy { index, spot });
        }
    }
    Ok(away)
}

/// Fills the catalog from the whole chain. Returns how many points it learned.
pub async fn catch_up(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog) -> Result<usize> {
    let whole = chain(vault, keys.writer, Depth::Whole).await?;
    let holdings = list_shards(vault, &[keys.writer].into()).await;
    let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
    let mut learned = 0;
    let packs = whole.all().into_iter().map(|manifest| manifest.body.packs.len()).sum();
    vault.world.progress.begin_of(Phase::Learning, Total::of_items(packs));
    for manifest in whole.all() {
        for pack in &manifest.body.packs {
            vault.world.progress.add_items(1);
            learn_pack(&fetcher, keys, catalog, pack).await?;
            vault.world.reached(Step::RebuildPackLearned);
        }
        learned += usize::from(learn_point(vault, keys, catalog, manifest)?);
        vault.world.reached(Step::RebuildPointLearned);
    }
    // Never back: what is remembered is how a rollback is noticed.
    if let Some(head) = whole.head()
        && remembered_head(catalog)?.is_none_or(|(position, _)| position < head.position())
    {
        if catalog.meta(SIGNED)?.is_some_and(|signed| signed == head.hash.0) {
            catalog.forget_meta(FOREIGN_HEAD)?;
        } else {
            catalog.set_meta(FOREIGN_HEAD, &[1])?;
        }
        note_head(catalog, head.position(), head.hash)?;
    }
    Ok(learned)
}

async fn learn_pack(fetcher: &Fetcher, keys: &WriterKey, catalog: &mut Catalog, pack: &PackRef) -> Result<()> {
    if catalog.pack(pack.pack)?.is_some_and(|row| row.state == PackState::Committed) {
        return Ok(());
    }
    // A pack that cannot be read now is only not used for deduplication.
    let Ok(header) = fetcher.header(pack.pack).await else { return Ok(()) };
    if header.hash() != pack.header {
        return Ok(());
    }
    learn_index(fetcher, keys, catalog, pack.pack, &header, PackState::Committed).await
}

/// Learns the packs of runs that died between storing and noting them: they stand
/// durable(d), they were written for a place behind `head`, and only their index
/// section says what they hold. Without it their chunks would be stored twice. What
/// the dead run did not bring home yet goes there now, as far as locations take it.
/// Returns how many there were. See docs/decisions/0012.
pub(crate) async fn find_unnoted(
    vault: &Vault,
    keys: &WriterKey,
    catalog: &mut Catalog,
    holdings: &mut Holdings,
    head: Option<Position>,
) -> Result<usize> {
    let folder = names::shards_of(keys.writer);
    let (mut unnoted, known) = (Vec::new(), catalog.pack_ids()?);
    for (&pack, held) in &holdings.packs {
        let is_own = held.iter().any(|holding| holding.name.starts_with(&folder));
        let stands = || survives(&holdings.copies(pack), vault.coding, vault.survive());
        if is_own && !known.contains(&pack) && stands() {
            unnoted.push(pack);
        }
    }
    if unnoted.is_empty() {
        return Ok(0);
    }
    let fetcher = Fetcher::new(vault.world.clone(), holdings.clone(), Trust::Signed(vault.writers.clone()));
    let mut found = 0;
    for pack in unnoted {
        let Ok(header) = fetcher.header(pack).await else { continue };
        // What is older was named by a manifest, or given up by one.
        if head.is_none_or(|head| (header.h0().epoch, header.h0().sequence) > head) {
            learn_index(&fetcher, keys, catalog, pack, &header, PackState::Stored).await?;
            if catalog.pack(pack)?.is_some() {
                found += 1;
                bring_home(vault, &fetcher, holdings, PackRef { pack, header: header.hash() }).await;
            }
        }
    }
    Ok(found)
}

/// Writes the shards of a pack that no manifest names yet and that do not stand at home.
/// One that cannot be written is owed, as the backup that uses the pack will say.
async fn bring_home(vault: &Vault, fetcher: &Fetcher, holdings: &mut Holdings, wanted: PackRef) {
    let shown = holdings.copies(wanted.pack);
    let mut owed = home(&vault.spots(), vault.coding, vault.survive(), wanted.pack);
    owed.retain(|copy| !shown.contains(copy));
    if owed.is_empty() {
        return;
    }
    let Ok(set) = fetcher.all_shards(wanted.pack, wanted.header).await else { return };
    for copy in owed {
        let Some(location) = vault.writable().find(|location| location.id == copy.spot.location) else { continue };
        if write_shard(vault, location, &set, copy.index, Overwrite::Never).await.is_ok() {
            let object = set.object(copy.index);
            let listed = Listed { name: object.name().to_owned(), bytes: object.object_bytes() as u64 };
            holdings.add(&Arc::new(location.clone()), listed);
        }
    }
}

async fn learn_index(
    fetcher: &Fetcher,
    keys: &WriterKey,
    catalog: &mut Catalog,
    pack: PackId,
    header: &ParsedHeader,
    state: PackState,
) -> Result<()> {
    let body_bytes = header.h0().class.body_bytes(header.coding().data_shards()) as u64;
    let Ok(tail) = fetcher.body_range(pack, body_bytes - LOCATORS_BYTES as u64..body_bytes).await else {
        return Ok(());
    };
    let damaged = |error: vault_codec::CodecError| OpsError::corrupt(format!("pack {pack}"), error.to_string());
    let tail = BodyPart { offset: body_bytes - LOCATORS_BYTES as u64, bytes: &tail };
    let range = vault_codec::index_range(header, &keys.index, tail).map_err(damaged)?;
    let Ok(sealed) = fetcher.body_range(pack, range.clone()).await else { return Ok(()) };
    let part = BodyPart { offset: range.start, bytes: &sealed };
    let index = vault_codec::open_index(header, &keys.index, part).map_err(damaged)?;
    let row = PackRow { pack, header: header.hash(), class: header.h0().class as u8, state };
    catalog.add_pack(row, &index)
}

fn learn_point(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog, manifest: &SignedManifest) -> Result<bool> {
    let (Some(_), Some(pack)) = (&manifest.body.own, manifest.body.point_pack) else { return Ok(false) };
    let part = own_part(vault, keys, manifest)?;
    if catalog.has_point(part.point)? {
        return Ok(false);
    }
    let row = PointRow {
        writer: manifest.writer,
        epoch: manifest.body.epoch,
        sequence: manifest.body.sequence,
        pack,
        part,
        verified: true,
    };
    let packs: Vec<_> = manifest.body.packs.iter().map(|pack| pack.pack).collect();
    catalog.commit_point(&row, &packs)?;
    Ok(true)
}

/// What this writer wrote into its manifest for itself.
pub(crate) fn own_part(vault: &Vault, keys: &WriterKey, manifest: &SignedManifest) -> Result<WriterPart> {
    let at = || format!("manifest {}.{}", manifest.body.epoch, manifest.body.sequence);
    let own = manifest.body.own.as_ref().ok_or_else(|| OpsError::corrupt(at(), "it has no part of its writer"))?;
    let plain = keys.index.open_own(vault.id, own).map_err(|error| OpsError::corrupt(at(), error.to_string()))?;
    vault_format::decode("writer's part", plain.expose_secret()).map_err(|error| OpsError::format(at(), &error))
}
