//! Keeping the catalog in step with the vault, and making it anew.
//!
//! What always holds: what the catalog remembers of the head never goes back
//! silently; a catalog that is behind, or gone, is filled from the manifests and
//! the packs' index sections with the writer's keys alone.

use std::collections::BTreeMap;

use keys::files::WriterKey;
use vault_codec::BodyPart;
use vault_format::body::LOCATORS_BYTES;
use vault_format::manifest::{PackRef, WriterPart};
use vault_format::{Hash, LocationId, PackId};

use crate::catalog::{Catalog, PackRow, PackState, PointRow};
use crate::commit;
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Holdings, Trust, list_shards};
use crate::heads::{Chain, Depth, Position, SignedManifest, chain};
use crate::placement::Copy;
use crate::step::Step;
use crate::vault::Vault;

const HEAD: &str = "head";

/// Where the next manifest goes.
pub(crate) struct Next {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) previous: Hash,
}

/// Compares the vault's head with the remembered one and brings the catalog up
/// to date.
pub(crate) async fn follow_head(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog, head: &Chain) -> Result<Next> {
    let remembered = remembered_head(catalog)?;
    let rival = head.rivals.iter().find(|rival| remembered == Some((rival.position(), rival.hash)));
    let newest = rival.or(head.head());
    let seen = newest.map(|manifest| (manifest.position(), manifest.hash));
    match (remembered, seen) {
        (Some((position, hash)), Some((seen, seen_hash))) if (position, hash) == (seen, seen_hash) => {}
        (Some((position, _)), seen) if seen.is_none_or(|(seen, _)| seen <= position) => {
            return Err(rolled_back(position, head));
        }
        (None, _) if !head.confirmed => return Err(unsure(head)),
        (_, None) => return Ok(Next { epoch: 1, sequence: 1, previous: Hash::default() }),
        (_, Some(_)) => {
            catch_up(vault, keys, catalog).await?;
        }
    }
    let Some(newest) = newest else {
        return Ok(Next { epoch: 1, sequence: 1, previous: Hash::default() });
    };
    let ((epoch, sequence), previous) = ((newest.body.epoch, newest.body.sequence), newest.hash);
    // A run that died may have left its manifest short of the quorum. What builds on
    // it must not stand safer than it does, so it is completed first.
    let name = vault_format::names::manifest(keys.writer, epoch, sequence);
    commit::publish(vault, &name, &newest.bytes, Some(Step::RebuildHeadWritten)).await?;
    Ok(Next { epoch, sequence: sequence + 1, previous })
}

/// Without a memory of its own the writer must be sure of its newest manifest, or
/// it would write a second one beside it.
fn unsure(head: &Chain) -> OpsError {
    let silent: Vec<&str> = head.silent.iter().map(|(name, _)| name.as_str()).collect();
    OpsError::Unreachable {
        what: format!(
            "the local catalog is new and too few domains answer to know this writer's newest manifest; nothing was \
             written. Bring back {} and run the same command again",
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

fn remembered_head(catalog: &Catalog) -> Result<Option<(Position, Hash)>> {
    let Some(bytes) = catalog.meta(HEAD)? else { return Ok(None) };
    let read =
        |range: std::ops::Range<usize>| -> Option<u64> { Some(u64::from_le_bytes(bytes.get(range)?.try_into().ok()?)) };
    let parsed = || Some(((read(0..8)?, read(8..16)?), Hash::from_slice(bytes.get(16..)?)?));
    match parsed() {
        Some(head) => Ok(Some(head)),
        None => Err(OpsError::corrupt("the local catalog", "the remembered head is unreadable; delete the catalog")),
    }
}

/// Remembers a head after all checks.
pub(crate) fn remember_head(catalog: &Catalog, epoch: u64, sequence: u64, hash: Hash) -> Result<()> {
    let mut bytes = Vec::with_capacity(48);
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&hash.0);
    catalog.set_meta(HEAD, &bytes)
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
    for manifest in whole.all() {
        for pack in &manifest.body.packs {
            learn_pack(&fetcher, keys, catalog, pack).await?;
            vault.world.reached(Step::RebuildPackLearned);
        }
        learned += usize::from(learn_point(vault, keys, catalog, manifest)?);
        vault.world.reached(Step::RebuildPointLearned);
    }
    // Never back: what is remembered is how a rollback is noticed.
    if let Some(head) = whole.head()
        && remembered_head(catalog)?.is_none_or(|(position, _)| position < (head.body.epoch, head.body.sequence))
    {
        remember_head(catalog, head.body.epoch, head.body.sequence, head.hash)?;
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
    let body_bytes = header.h0().class.body_bytes(header.coding().data_shards()) as u64;
    let Ok(tail) = fetcher.body_range(pack.pack, body_bytes - LOCATORS_BYTES as u64..body_bytes).await else {
        return Ok(());
    };
    let damaged = |error: vault_codec::CodecError| OpsError::corrupt(format!("pack {}", pack.pack), error.to_string());
    let tail = BodyPart { offset: body_bytes - LOCATORS_BYTES as u64, bytes: &tail };
    let range = vault_codec::index_range(&header, &keys.index, tail).map_err(damaged)?;
    let Ok(sealed) = fetcher.body_range(pack.pack, range.clone()).await else { return Ok(()) };
    let part = BodyPart { offset: range.start, bytes: &sealed };
    let index = vault_codec::open_index(&header, &keys.index, part).map_err(damaged)?;
    let row =
        PackRow { pack: pack.pack, header: pack.header, class: header.h0().class as u8, state: PackState::Committed };
    catalog.add_pack(row, &index)
}

fn learn_point(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog, manifest: &SignedManifest) -> Result<bool> {
    let (Some(own), Some(pack)) = (&manifest.body.own, manifest.body.point_pack) else { return Ok(false) };
    let at = || format!("manifest {}.{}", manifest.body.epoch, manifest.body.sequence);
    let plain = keys.index.open_own(vault.id, own).map_err(|error| OpsError::corrupt(at(), error.to_string()))?;
    let part: WriterPart =
        vault_format::decode("writer's part", plain.expose_secret()).map_err(|error| OpsError::format(at(), &error))?;
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
