//! The state of a vault in one look: what can be lost, what is missing, whether
//! the newest points are safe.
//!
//! What always holds: the verdict is the worst of its reasons; "stored",
//! "audited" and "restored" are never mixed; what could not be looked at is a
//! reason, not an omission.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::layout::LocationState;
use vault_format::{LocationId, PackId};

use crate::attendance::{self, Resting};
use crate::audit::COVERAGE_DEFAULT;
use crate::belief::Belief;
use crate::catalog::{Catalog, Failure, PackState, PointRow, ReadRow};
use crate::census::{self, AtLocation, Census};
use crate::error::Result;
use crate::fetch;
use crate::gc::{self, Trash};
use crate::hostile::{Hostile, hostile};
use crate::location::Location;
use crate::marks::Marks;
use crate::placement::{Patterns, Tolerance};
use crate::points::{remarks, unknown_writers};
use crate::records;
use crate::spool::{Spool, Stuck};
use crate::vault::Vault;
use crate::watch::{self, Close, HeadFinding};

/// A location that had so many objects wrong lately, and one in a hundred, is said
/// to be failing.
const CORRECTIONS_MAX: u64 = 8;

/// One location's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationLine {
    /// Its name.
    pub name: String,
    /// Its domain's number.
    pub domain: u16,
    /// Shards it should hold.
    pub shards: usize,
    /// Of them shown, and not in a size that no shard has, where it was looked at.
    pub shown: usize,
    /// Shards there whose size was looked at, of all it shows.
    pub sized: (usize, usize),
    /// Of those it should hold the ones that are not there: not shown, or while it is
    /// away not shown when it was last listed.
    pub owed: usize,
    /// Known to be wrong.
    pub bad: usize,
    /// Copies of signed records that are missing, or known to be wrong.
    pub records_bad: usize,
    /// When it last answered an audit rightly.
    pub audited_ms: Option<i64>,
    /// Leaves asked for by the last audit.
    pub audit_samples: u64,
    /// Leaves it keeps.
    pub leaves: u64,
    /// Of them those read within [`COVERAGE_DEFAULT`].
    pub covered: u64,
    /// Since when the shard waits to be read that waits longest.
    pub oldest_unread_ms: Option<i64>,
    /// Objects put right there, ever: all, and those that had been wrong.
    pub corrections: (u64, u64),
    /// Of those that had been wrong, within [`COVERAGE_DEFAULT`].
    pub corrections_lately: u64,
    /// Why it cannot be used now, if so.
    pub absent: Option<String>,
}

/// One source's newest point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Its name.
    pub source: String,
    /// End of the newest backup.
    pub last_point_ms: i64,
    /// Points known, without those in the trash.
    pub points: usize,
}

/// What waits in the spool of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolLine {
    /// Points.
    pub points: usize,
    /// Bytes, also of points that are being made.
    pub bytes: u64,
    /// Since when the oldest waits, if that is known.
    pub since_ms: Option<i64>,
    /// Of them those that could not be delivered when it was last tried.
    pub stuck: Vec<Stuck>,
}

/// Packs this host's catalog knows, by how far they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownPacks {
    /// A manifest names them.
    pub committed: usize,
    /// They stand at the locations, and no manifest names them yet.
    pub stored: usize,
    /// They are in the spool.
    pub spooled: usize,
}

/// A look at the whole vault.
#[derive(Debug)]
pub struct Status {
    /// What all packs together survive by what is shown and believed.
    pub tolerance: Tolerance,
    /// d, as declared.
    pub declared: u8,
    /// Committed packs.
    pub packs: usize,
    /// Each location.
    pub locations: Vec<LocationLine>,
    /// Packs this host's catalog knows.
    pub known: KnownPacks,
    /// Each source known to the catalog.
    pub sources: Vec<SourceLine>,
    /// Points that are not durable and wait on this host.
    pub spool: Option<SpoolLine>,
    /// What was forgotten and still takes room.
    pub trash: Trash,
    /// Locations that show an older, another or a frozen chain, and writers that are missed.
    pub heads: Vec<HeadFinding>,
    /// Locations that are away and may be.
    pub resting: Vec<Resting>,
    /// Why the verdict is not good; empty means it is.
    pub risks: Vec<String>,
    /// What a thief of the writer's credentials leaves.
    pub hostile: Hostile,
    /// Packs of which fewer than k shards are shown or believed.
    pub lost: Vec<(PackId, usize)>,
}

/// Looks. Keyless.
pub async fn look(vault: &Vault, catalog: &Catalog) -> Result<Status> {
    let mut census = census::glance(vault, catalog).await?;
    let spots = vault.spots();
    let sized = sized(&census);
    note_cut(vault, catalog, &census, &sized)?;
    let failures = catalog.failures()?;
    let wanted = records::in_force(vault, &census);
    let record_failures = catalog.record_failures()?;
    let mut each = census.at_each(vault);
    let mut locations: Vec<LocationLine> = Vec::new();
    for location in &vault.locations {
        let AtLocation { expected, shown, kept } = each.remove(&location.id).unwrap_or_default();
        let line = LocationLine {
            domain: location.domain,
            shown,
            shards: expected.len(),
            owed: expected.len() - shown,
            sized: sized.get(&location.id).copied().unwrap_or_default(),
            bad: failures.iter().filter(|failure| failure.location == location.id).count(),
            records_bad: missing_records(vault, location, &wanted).await
                + record_failures.iter().filter(|failure| failure.location == location.id).count(),
            ..remembered(vault, catalog, location.id, &location.name)?
        };
        locations.push(with_coverage(line, vault, catalog, &census, location.id, &kept)?);
    }
    for gone in &vault.absent {
        let id = gone.spot.map(|spot| spot.location).unwrap_or_default();
        let expected = gone.spot.and_then(|spot| each.remove(&spot.location)).unwrap_or_default().expected;
        locations.push(LocationLine {
            domain: gone.spot.map_or(u16::MAX, |spot| spot.domain),
            shards: expected.len(),
            owed: owed_while_away(catalog, id, &expected)?,
            absent: Some(gone.why.clone()),
            ..remembered(vault, catalog, id, &gone.name)?
        });
    }
    // Shards known to be wrong are shown by their places and keep nothing.
    census.holdings.discount(&failures);
    let mut patterns = Patterns::default();
    let (away, listed) = fetch::remembered(vault, catalog, &census.holdings)?;
    let belief = Belief::new(&census.holdings, vault);
    for &pack in census.packs.keys() {
        let mut copies = belief.copies(pack);
        if !listed.is_empty() {
            // A location that is away keeps what it showed, and not what it was never given.
            let shown = census.holdings.copies(pack);
            copies.retain(|copy| shown.contains(copy) || !listed.contains(&copy.spot.location));
        }
        copies.extend(away.get(&pack).into_iter().flatten());
        patterns.add(&copies);
    }
    let (found, promise) = (patterns.tolerance(&spots, vault.coding), vault.promise());
    // What stands may be safer than what is stored next: then that is told.
    let worst = found.filter(|found| found.any_domains <= promise.any_domains).unwrap_or(promise);
    attendance::attend(vault, catalog)?;
    let resting: Vec<Resting> = attendance::resting(vault, catalog)?.into_values().collect();
    let may_be_away = |name: &str| resting.iter().any(|resting| resting.name == name);
    let mut risks = risks(vault, &locations, worst, may_be_away);
    risks.extend(unknown_writers(vault));
    risks.extend(moving(vault, &census));
    for (writer, chain) in &census.chains {
        let expected = !chain.silent.is_empty() && chain.silent.iter().all(|(name, _)| may_be_away(name));
        // Only who may be away is missed for certainty.
        let told = |remark: &String| !(expected && remark.contains("not confirmed"));
        risks.extend(remarks(chain, *writer).into_iter().filter(told));
    }
    census.look_older(vault).await;
    if !census.kept.is_empty() {
        risks.push(format!(
            "{} packs are whole only with older versions of their shards: somebody overwrote or deleted the newest. \
             Find out who holds the credentials, then: holdfast vault audit --full, holdfast vault repair --apply",
            census.kept.len()
        ));
    }
    let heads = watch::look(vault, catalog, &census.chains, Close::Copies).await?;
    risks.extend(heads.iter().map(|finding| finding.what.clone()));
    let mut lost = census.short(vault);
    lost.extend(named_by_nobody(vault, catalog, &census)?);
    let trash = gc::trash_bytes(&census);
    Ok(Status {
        tolerance: worst,
        declared: vault.survive(),
        packs: census.packs.len(),
        locations,
        known: known_packs(catalog)?,
        sources: sources(catalog, &census.marks)?,
        spool: match &vault.spool {
            Some(spool) => spool_line(spool, catalog).await?,
            None => None,
        },
        trash,
        heads,
        resting,
        risks,
        hostile: hostile(vault),
        lost,
    })
}

/// Of the shards of committed packs that each location shows: those whose size was looked
/// at, and all.
fn sized(census: &Census) -> BTreeMap<LocationId, (usize, usize)> {
    let mut sized: BTreeMap<LocationId, (usize, usize)> = BTreeMap::new();
    for holding in census.packs.keys().filter_map(|pack| census.holdings.packs.get(pack)).flatten() {
        let (looked_at, all) = sized.entry(holding.location.id).or_default();
        *looked_at += usize::from(holding.bytes.is_some());
        *all += 1;
    }
    sized
}

/// Puts on record what a look at a share of the sizes found wrong: the next look takes
/// another share, and would forget it. A repair reads it, and writes over it.
fn note_cut(
    vault: &Vault,
    catalog: &Catalog,
    census: &Census,
    sized: &BTreeMap<LocationId, (usize, usize)>,
) -> Result<()> {
    let is_share = |location| sized.get(&location).is_some_and(|(looked_at, all)| looked_at < all);
    for (&pack, held) in census.holdings.packs.iter().filter(|(pack, _)| census.packs.contains_key(pack)) {
        for holding in held.iter().filter(|holding| holding.is_cut() && is_share(holding.location.id)) {
            let (location, index) = (holding.location.id, holding.index);
            let what = holding.cut_text().unwrap_or_default();
            catalog.add_failure(&Failure { location, pack, index, seen_ms: vault.world.now_ms(), what })?;
        }
    }
    Ok(())
}

/// What a location that is away is known not to have; one that was never listed from
/// here is believed to have all.
fn owed_while_away(catalog: &Catalog, id: LocationId, expected: &[(PackId, u8)]) -> Result<usize> {
    if !catalog.was_listed(id)? {
        return Ok(0);
    }
    let shown: BTreeSet<(PackId, u8)> = catalog.shown(id)?.into_iter().collect();
    Ok(expected.iter().filter(|copy| !shown.contains(copy)).count())
}

/// Packs of points this host made, with the shards left of them: no manifest names them
/// any more although every location answers, nobody swept them, and too few are left.
fn named_by_nobody(vault: &Vault, catalog: &Catalog, census: &Census) -> Result<Vec<(PackId, usize)>> {
    if !vault.absent.is_empty() || !census.holdings.silent.is_empty() {
        return Ok(Vec::new());
    }
    let rows = catalog.packs(PackState::Committed)?.into_iter().map(|row| row.pack);
    let unnamed = rows.filter(|pack| !census.packs.contains_key(pack) && !census.marks.is_swept(*pack));
    let left = unnamed.map(|pack| {
        let indices: BTreeSet<u8> = census.holdings.copies(pack).iter().map(|copy| copy.index).collect();
        (pack, indices.len())
    });
    Ok(left.filter(|(_, left)| *left < usize::from(vault.coding.data_shards())).collect())
}

/// A retired location is owed nothing.
async fn missing_records(vault: &Vault, location: &Location, wanted: &BTreeMap<String, Vec<u8>>) -> usize {
    if vault.state_of(location.id) == Some(LocationState::Retired) {
        return 0;
    }
    records::missing(location, wanted).await
}

/// A change of the layout that has not come to its end.
fn moving(vault: &Vault, census: &Census) -> Vec<String> {
    let mut risks = Vec::new();
    if let Some((newer, _)) = &vault.newer {
        risks.push(format!(
            "layout {} is signed and does not count yet: too few domains have it. Run the `holdfast vault location` \
             command that made it again, with --apply",
            newer.epoch
        ));
    }
    for placed in vault.layout.locations.iter().filter(|placed| placed.state == LocationState::Retiring) {
        let name = vault.location_name(placed.location);
        let left = census.kept_at(vault, placed.location).len();
        risks.push(format!(
            "{name} is being emptied ({left} shards there): holdfast vault location retire {name} --apply"
        ));
    }
    risks
}

/// What the catalog remembers of a location.
fn remembered(vault: &Vault, catalog: &Catalog, id: LocationId, name: &str) -> Result<LocationLine> {
    let last = catalog.audits(u32::MAX)?.into_iter().find(|row| row.location == id);
    Ok(LocationLine {
        name: name.to_owned(),
        domain: 0,
        shards: 0,
        shown: 0,
        sized: (0, 0),
        owed: 0,
        bad: 0,
        records_bad: 0,
        audited_ms: catalog.last_audit(id)?,
        audit_samples: last.map_or(0, |row| row.samples),
        leaves: 0,
        covered: 0,
        oldest_unread_ms: None,
        corrections: catalog.corrected(id, i64::MIN)?,
        corrections_lately: catalog.corrected(id, lately_ms(vault))?.1,
        absent: None,
    })
}

fn lately_ms(vault: &Vault) -> i64 {
    let window_ms = i64::try_from(COVERAGE_DEFAULT.as_millis()).unwrap_or(i64::MAX);
    vault.world.now_ms().saturating_sub(window_ms)
}

/// What all audits and scrubs together have read of what it keeps.
fn with_coverage(
    mut line: LocationLine,
    vault: &Vault,
    catalog: &Catalog,
    census: &Census,
    id: LocationId,
    kept: &[(PackId, u8)],
) -> Result<LocationLine> {
    let since_ms = lately_ms(vault);
    let (whole, single) = (catalog.reads(id)?, catalog.leaves_read(id, since_ms)?);
    for &(pack, index) in kept {
        let leaves = census.leaves(pack);
        let read = whole.get(&(pack, index));
        let recently = read.and_then(|read| read.whole_ms).is_some_and(|at_ms| at_ms >= since_ms);
        let some = single.get(&(pack, index)).copied().unwrap_or(0).min(leaves);
        line.leaves += leaves;
        line.covered += if recently { leaves } else { some };
        line.oldest_unread_ms = [line.oldest_unread_ms, read.map(ReadRow::since_ms)].into_iter().flatten().min();
    }
    Ok(line)
}

fn risks(
    vault: &Vault,
    locations: &[LocationLine],
    worst: Tolerance,
    may_be_away: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut risks = Vec::new();
    let domains = vault.domains().len();
    if worst.any_domains == 0 {
        risks.push(if domains == 1 {
            "1 failure domain: one disk failure loses everything. Add locations in other domains".to_owned()
        } else {
            "the loss of one domain may lose data".to_owned()
        });
    } else if worst.any_domains < vault.survive() {
        risks.push(format!("you can lose any {} domain(s); want {}", worst.any_domains, vault.survive()));
    }
    for line in locations {
        if line.absent.is_some() && may_be_away(&line.name) {
            continue;
        }
        if let Some(why) = &line.absent {
            let name = &line.name;
            risks.push(format!(
                "{name} does not take part: {why}. Bring it back: mount its disk, or look at network and credentials. If \
                 it is gone for good: holdfast vault location replace {name} NEW"
            ));
        } else if line.shown < line.shards {
            risks.push(format!(
                "{} lacks {} shards: holdfast vault repair --plan",
                line.name,
                line.shards - line.shown
            ));
        }
        if line.bad > 0 {
            risks.push(format!("{} holds {} wrong shards: holdfast vault repair --plan", line.name, line.bad));
        }
        if line.corrections_lately >= CORRECTIONS_MAX && line.corrections_lately * 100 > line.shards as u64 {
            risks.push(format!(
                "{0} had {1} objects wrong within 90 days, all put right: what it stands on may be failing. Replace it: \
                 holdfast vault location replace {0} NEW",
                line.name, line.corrections_lately
            ));
        }
        if line.records_bad > 0 {
            let (name, bad) = (&line.name, line.records_bad);
            risks.push(format!("{name} lacks {bad} signed records, or has them wrong: holdfast vault repair --plan"));
        }
    }
    risks
}

/// What waits in a spool; none if nothing does. Needs no location.
pub async fn spool_line(spool: &Spool, catalog: &Catalog) -> Result<Option<SpoolLine>> {
    let contents = spool.contents().await?;
    if contents.manifests.is_empty() {
        return Ok(None);
    }
    let since_ms = crate::spool::waiting_since(catalog)?;
    let there: BTreeSet<String> = contents.manifest_names().collect();
    let mut stuck = crate::spool::stuck(catalog)?;
    stuck.retain(|one| one.manifests.iter().any(|name| there.contains(name)));
    Ok(Some(SpoolLine { points: contents.manifests.len(), bytes: contents.bytes, since_ms, stuck }))
}

fn known_packs(catalog: &Catalog) -> Result<KnownPacks> {
    let count = |state| -> Result<usize> { Ok(catalog.packs(state)?.len()) };
    Ok(KnownPacks {
        committed: count(PackState::Committed)?,
        stored: count(PackState::Stored)?,
        spooled: count(PackState::Spooled)?,
    })
}

/// Points in the trash are not among those a source has.
fn sources(catalog: &Catalog, marks: &Marks) -> Result<Vec<SourceLine>> {
    let trashed: BTreeSet<_> = marks.manifests().map(|((writer, position, _), _)| (writer, position)).collect();
    let kept = |point: &PointRow| !trashed.contains(&(point.writer, (point.epoch, point.sequence)));
    let mut lines: Vec<SourceLine> = Vec::new();
    for point in catalog.points()?.into_iter().filter(kept) {
        match lines.iter_mut().find(|line| line.source == point.part.source) {
            Some(line) => {
                line.last_point_ms = point.part.finished_ms;
                line.points += 1;
            }
            None => lines.push(SourceLine {
                source: point.part.source.clone(),
                last_point_ms: point.part.finished_ms,
                points: 1,
            }),
        }
    }
    Ok(lines)
}
