//! Points as a list: what can be restored, by whom it was made, when.
//!
//! What always holds: an unreadable or unverified manifest is shown as such, not
//! left out; the order is by time, then by place in the chain.

use std::collections::{BTreeMap, BTreeSet};

use keys::files::ReadKey;
use vault_format::manifest::{JanitorPart, Manifest, ManifestKind, ReaderPart};
use vault_format::sealed::SealedField;
use vault_format::{Hash, PackId, PointId, WriterId};

use crate::attendance;
use crate::error::{OpsError, Result};
use crate::heads::{Chain, Depth, chain};
use crate::marks::ManifestKey;
use crate::vault::Vault;

/// One point, as its manifest shows it.
#[derive(Clone, Debug)]
pub struct PointSummary {
    /// Who made it.
    pub writer: WriterId,
    /// Place in its chain.
    pub position: (u64, u64),
    /// Hash of its manifest.
    pub manifest: Hash,
    /// The pack with its record.
    pub pack: PackId,
    /// Hash of its record, as the manifest signed it.
    pub record: Hash,
    /// Names, times, counts.
    pub part: ReaderPart,
}

/// Points and what is odd about the chains.
#[derive(Debug, Default)]
pub struct PointList {
    /// Oldest first.
    pub points: Vec<PointSummary>,
    /// In the trash, oldest first: not in `points`, and restorable until they expire.
    pub trash: Vec<PointSummary>,
    /// Points of either that are pinned.
    pub pinned: BTreeSet<PointId>,
    /// What a person should know: unconfirmed heads, gaps, unreadable manifests.
    pub remarks: Vec<String>,
}

/// Lists all points of all writers with the read key.
pub async fn list(vault: &Vault, keys: &ReadKey) -> Result<PointList> {
    attendance::require_any(vault).await?;
    let vault = &vault.reread().await;
    let mut list = PointList { remarks: unknown_writers(vault), ..PointList::default() };
    let mut timed: Vec<(i64, PointSummary)> = Vec::new();
    let mut unopened = Vec::new();
    let mut manifests: BTreeMap<PointId, Manifests> = BTreeMap::new();
    for writer in vault.writer_ids() {
        let (mut at, mut floor_ms, mut latest_ms) = ((0, 0), i64::MIN, i64::MIN);
        let chain = chain(vault, writer, Depth::Whole).await?;
        list.remarks.extend(remarks(&chain, writer));
        for manifest in chain.all() {
            let (position, body) = (manifest.position(), &manifest.body);
            let (ManifestKind::Point | ManifestKind::Successor, Some(record), Some(pack), Some(sealed)) =
                (body.kind, body.point_record, body.point_pack, &body.reader)
            else {
                continue;
            };
            match open_part(vault, keys, sealed) {
                Ok(part) => {
                    let known = manifests.entry(part.point).or_default();
                    known.keys.push((writer, position, manifest.hash));
                    known.pinned_by_writer |= is_pinned_by_writer(vault, keys, body);
                    // A clock that was set back does not make a later point older than those before it;
                    // of rivals for one place the clock decides.
                    if position > at {
                        (at, floor_ms) = (position, latest_ms);
                    }
                    let time_ms = floor_ms.max(part.finished_ms);
                    latest_ms = latest_ms.max(time_ms);
                    timed.push((
                        time_ms,
                        PointSummary { writer, position, manifest: manifest.hash, pack, record, part },
                    ));
                }
                Err(why) => unopened.push(format!("manifest {}.{}: {why}", position.0, position.1)),
            }
        }
    }
    if timed.is_empty() && !unopened.is_empty() {
        return Err(OpsError::Key { what: unopened.join("; ") });
    }
    list.remarks.extend(unopened);
    timed.sort_by_key(|(time, point)| (*time, point.position));
    // A point that lost its place to another image of its host was signed twice.
    let newest: BTreeMap<PointId, (u64, u64)> =
        timed.iter().map(|(_, point)| (point.part.point, point.position)).fold(BTreeMap::new(), keep_newest);
    // One that was vouched for anew, and whose first manifest turned up later, too.
    let mut once = BTreeSet::new();
    timed.retain(|(_, point)| newest.get(&point.part.point) == Some(&point.position) && once.insert(point.part.point));
    let is_live = |point: &PointSummary| vault.marks.manifest(point.writer, point.position, point.manifest).is_none();
    let pinned = manifests
        .into_iter()
        .filter(|(_, known)| vault.marks.pins.last_word(known.keys.iter().copied()).unwrap_or(known.pinned_by_writer));
    list.pinned = pinned.map(|(point, _)| point).collect();
    (list.points, list.trash) = timed.into_iter().map(|(_, point)| point).partition(is_live);
    Ok(list)
}

/// What says whether a point is pinned.
#[derive(Default)]
struct Manifests {
    keys: Vec<ManifestKey>,
    pinned_by_writer: bool,
}

/// What the janitor's part says, which whoever reads everything can open too.
fn is_pinned_by_writer(vault: &Vault, keys: &ReadKey, manifest: &Manifest) -> bool {
    let part = manifest.janitor.as_ref().and_then(|sealed| {
        let key = keys.janitor(&sealed.recipient)?;
        let plain = keys::wrap::open_field(SealedField::ManifestJanitor, vault.id, key, sealed).ok()?;
        vault_format::decode::<JanitorPart>("janitor's part", plain.expose_secret()).ok()
    });
    part.is_some_and(|part| part.pinned)
}

fn keep_newest(
    mut newest: BTreeMap<PointId, (u64, u64)>,
    (point, position): (PointId, (u64, u64)),
) -> BTreeMap<PointId, (u64, u64)> {
    let known = newest.entry(point).or_insert(position);
    *known = position.max(*known);
    newest
}

fn open_part(
    vault: &Vault,
    keys: &ReadKey,
    sealed: &vault_format::sealed::SealedBlob,
) -> std::result::Result<ReaderPart, String> {
    let key = keys.reader(&sealed.recipient).ok_or("it is sealed to a key generation this read key does not hold")?;
    let plain = keys::wrap::open_field(SealedField::ManifestReader, vault.id, key, sealed)
        .map_err(|error| error.to_string())?;
    vault_format::decode("reader's part", plain.expose_secret()).map_err(|error| error.to_string())
}

/// Writers whose points cannot be seen, in words.
pub fn unknown_writers(vault: &Vault) -> Vec<String> {
    let unknown = vault.unknown_writers().into_iter();
    unknown
        .map(|(writer, certificate)| {
            format!(
                "writer {}: no location that answers shows its certificate {}, so its points cannot be verified and are \
                 not listed. They are still there: restore them with --from, or bring the certificate back with: \
                 holdfast vault import-orphans",
                writer.short(),
                certificate.short()
            )
        })
        .collect()
}

/// What is odd about a chain, in words.
pub fn remarks(chain: &Chain, writer: WriterId) -> Vec<String> {
    let writer = writer.short();
    let mut out = Vec::new();
    if !chain.confirmed {
        let silent: Vec<&str> = chain.silent.iter().map(|(name, _)| name.as_str()).collect();
        out.push(format!(
            "writer {writer}: newest seen, not confirmed: too few domains answer to rule out a newer point ({} silent)",
            if silent.is_empty() { "none".to_owned() } else { silent.join(", ") }
        ));
    }
    for (position, why) in &chain.unreadable {
        out.push(format!("writer {writer}: manifest {}.{} is unreadable: {why}", position.0, position.1));
    }
    for position in &chain.fenced {
        out.push(format!(
            "writer {writer}: manifest {}.{} stands behind a fence and does not count: its host was taken for dead. \
             Run holdfast vault gc --apply, which settles it, then back up again",
            position.0, position.1
        ));
    }
    for rival in &chain.rivals {
        let (epoch, sequence) = rival.position();
        out.push(format!(
            "writer {writer}: there are two manifests {epoch}.{sequence}: one is of a run that was interrupted. The \
             points of both are listed"
        ));
    }
    for (position, location) in &chain.hidden {
        out.push(format!(
            "writer {writer}: manifest {}.{} was deleted at {location}, which keeps an older version of it: holdfast \
             vault repair --plan",
            position.0, position.1
        ));
    }
    for position in &chain.gaps {
        out.push(format!("writer {writer}: the manifest before {}.{} is missing", position.0, position.1));
    }
    out
}

/// How a user names a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointName {
    /// The newest, or so many before it.
    Latest(usize),
    /// A prefix of the id, with or without `p-`.
    Prefix(String),
}

impl PointName {
    /// Reads `latest`, `latest~2`, `p-7f3a91` or `7f3a91`.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = || OpsError::Refused {
            what: format!("\"{text}\" names no point. Say latest, latest~2, or the id that `vault snapshots` prints"),
        };
        if text == "latest" {
            return Ok(Self::Latest(0));
        }
        if let Some(back) = text.strip_prefix("latest~") {
            return back.parse().map(Self::Latest).map_err(|_| refused());
        }
        let digits = text.strip_prefix("p-").unwrap_or(text).to_ascii_lowercase();
        let hex = !digits.is_empty() && digits.len() <= 32 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        if hex { Ok(Self::Prefix(digits)) } else { Err(refused()) }
    }

    /// Picks one of `ids`, oldest first.
    pub fn pick(&self, ids: &[PointId]) -> Result<usize> {
        let (found, wanted) = match self {
            Self::Latest(back) => (ids.len().checked_sub(back + 1), format!("latest~{back}")),
            Self::Prefix(prefix) => {
                let hits: Vec<usize> = (0..ids.len()).filter(|&at| ids[at].to_string().starts_with(prefix)).collect();
                if hits.len() > 1 {
                    return Err(OpsError::Refused {
                        what: format!("{} points begin with p-{prefix}; give more digits", hits.len()),
                    });
                }
                (hits.first().copied(), format!("p-{prefix}"))
            }
        };
        found.ok_or_else(|| OpsError::NoPoint {
            what: match (ids.len(), self) {
                (0, Self::Latest(0)) => "there is no point yet: no backup of this source was made".to_owned(),
                (0, Self::Latest(_) | Self::Prefix(_)) => {
                    format!("there is no point {wanted}: no backup of this source was made yet")
                }
                (points, _) => {
                    format!("there is no point {wanted} among the {points} here; list them: holdfast vault snapshots")
                }
            },
        })
    }
}

/// An id as people see it.
pub fn point_text(id: PointId) -> String {
    format!("p-{}", &id.to_string()[..6])
}
