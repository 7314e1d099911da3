//! Pins: points that no rule lets go.
//!
//! What always holds: the janitor's last word on any manifest of a point counts, and of
//! two at once the one that pins; without a word what its writer said when it made it.
//! What is pinned is not forgotten by rules or by name, and nothing of it is deleted,
//! also where it lies in the trash; a pin brings nothing back from there. A writer's key
//! signs no such word. See docs/decisions/0029.

use std::collections::BTreeMap;

use vault_format::tombstone::{Tombstone, TombstoneAction};
use vault_format::{Hash, PointId, WriterId};

use crate::catalog::Catalog;
use crate::error::{OpsError, Result};
use crate::forget::{self, PointLine};
use crate::heads::Position;
use crate::janitor::Janitor;
use crate::look::{self, Life, Time};
use crate::marks::{ManifestKey, Marks, manifest_key};
use crate::points::{PointName, point_text};
use crate::tombstones::{self, Draft, Written};
use crate::vault::Vault;

/// What tombstones say of pins, in the order in which they count.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    said: BTreeMap<ManifestKey, Word>,
}

/// The last word on a manifest, and its place in the order of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    at: usize,
    pinned: bool,
}

impl Pins {
    /// Heeds the next tombstone in the order in which they count.
    pub(crate) fn heed(&mut self, at: usize, body: &Tombstone) {
        let pinned = match body.action {
            TombstoneAction::Pin => true,
            TombstoneAction::Unpin => false,
            TombstoneAction::Trash | TombstoneAction::Restore | TombstoneAction::Sweep | TombstoneAction::Purge => {
                return;
            }
        };
        self.said.extend(body.manifests.iter().map(|named| (manifest_key(named), Word { at, pinned })));
    }

    /// The last word on a point with these manifests; none if nothing was ever said.
    pub fn last_word(&self, manifests: impl IntoIterator<Item = ManifestKey>) -> Option<bool> {
        let words = manifests.into_iter().filter_map(|manifest| self.said.get(&manifest));
        words.max().map(|word| word.pinned)
    }

    /// The last word on whatever manifest holds this place: for lists that know no hash.
    pub fn last_word_at(&self, writer: WriterId, position: Position) -> Option<bool> {
        let (from, to) = ((writer, position, Hash([0; 32])), (writer, position, Hash([0xff; 32])));
        self.said.range(from..=to).map(|(_, word)| word).max().map(|word| word.pinned)
    }
}

/// What was pinned or unpinned.
#[derive(Clone, Debug, Default)]
pub struct PinReport {
    /// Points this is new for.
    pub changed: Vec<PointLine>,
    /// Points that were as they shall be.
    pub already: Vec<PointLine>,
    /// Why other points may not have been seen.
    pub remarks: Vec<String>,
    /// What was written for it; nothing if nothing changed.
    pub written: Option<Written>,
}

/// Pins points: no rule and no name lets them go until they are unpinned.
pub async fn pin(vault: &Vault, catalog: &Catalog, janitor: &Janitor, names: &[PointName]) -> Result<PinReport> {
    let report = say(vault, catalog, janitor, names, true).await?;
    if report.written.is_some() {
        // Who forgot it at the same moment did not see the pin: it holds all the same.
        let vault = vault.reread().await;
        let lost: Vec<&PointLine> = report.changed.iter().filter(|line| is_marked(&vault.marks, line)).collect();
        if !lost.is_empty() {
            return Err(OpsError::Refused {
                what: format!(
                    "{} went into the trash at the same moment. It is pinned there, so nothing of it is deleted. Bring \
                     it back with: holdfast vault trash restore {}",
                    texts(&lost).join(", "),
                    point_text(lost[0].point)
                ),
            });
        }
    }
    Ok(report)
}

/// Unpins points: the rules decide again.
pub async fn unpin(vault: &Vault, catalog: &Catalog, janitor: &Janitor, names: &[PointName]) -> Result<PinReport> {
    say(vault, catalog, janitor, names, false).await
}

async fn say(
    vault: &Vault,
    catalog: &Catalog,
    janitor: &Janitor,
    names: &[PointName],
    pinned: bool,
) -> Result<PinReport> {
    let vault = janitor.enrol(vault).await?;
    let look = look::take(&vault, catalog, janitor, &Time::Host).await?;
    let live = forget::lines(&look, catalog, |life| life == Life::Live)?;
    let trash = forget::lines(&look, catalog, |life| life != Life::Live)?;
    let mut chosen: BTreeMap<PointId, PointLine> = BTreeMap::new();
    for name in names {
        let picked = pick(&live, &trash, name, pinned)?;
        chosen.insert(picked.point, picked.clone());
    }
    let (already, changed) = chosen.into_values().partition(|line| line.pinned == pinned);
    let mut report = PinReport { changed, already, remarks: look.stops.clone(), written: None };
    if !report.changed.is_empty() {
        let draft = Draft {
            action: if pinned { TombstoneAction::Pin } else { TombstoneAction::Unpin },
            manifests: report.changed.iter().flat_map(PointLine::manifests).collect(),
            packs: Vec::new(),
            grace_ms: 0,
            reason: "by its owner".to_owned(),
        };
        report.written = Some(tombstones::write(&look.vault.reread().await, janitor, draft).await?);
    }
    Ok(report)
}

/// A live point by its name. What lies in the trash is named as such: unpinned there, it
/// could be gone the next moment, and a pin alone would not bring it back.
fn pick<'a>(live: &'a [PointLine], trash: &[PointLine], name: &PointName, pinned: bool) -> Result<&'a PointLine> {
    let ids = |lines: &[PointLine]| lines.iter().map(|line| line.point).collect::<Vec<PointId>>();
    let in_trash = ids(trash);
    match (name.pick(&ids(live)), name) {
        (Ok(at), _) => Ok(&live[at]),
        (Err(OpsError::NoPoint { what }), PointName::Prefix(_)) => Err(match name.pick(&in_trash) {
            Ok(at) => {
                let (point, verb) = (point_text(in_trash[at]), if pinned { "pin" } else { "unpin" });
                OpsError::Refused {
                    what: format!(
                        "{point} is in the trash; nothing was changed. Bring it back first: holdfast vault trash restore \
                         {point}, then: holdfast vault {verb} {point}"
                    ),
                }
            }
            Err(_) => OpsError::NoPoint { what },
        }),
        (Err(error), _) => Err(error),
    }
}

/// Whether any manifest of a point is in the trash, or gone.
fn is_marked(marks: &Marks, line: &PointLine) -> bool {
    line.manifests().iter().map(manifest_key).any(|(writer, at, hash)| marks.manifest(writer, at, hash).is_some())
}

/// Refuses to let go what is pinned, by the names of the points.
pub(crate) fn refuse_pinned<'a>(lines: impl IntoIterator<Item = &'a PointLine>, marks: &Marks) -> Result<()> {
    let is_pinned = |line: &&PointLine| {
        marks.pins.last_word(line.manifests().iter().map(manifest_key)).unwrap_or_default() || line.pinned
    };
    let pinned: Vec<&PointLine> = lines.into_iter().filter(is_pinned).collect();
    let (points, are, they) = match pinned.as_slice() {
        [] => return Ok(()),
        [_] => (texts(&pinned), "is", "it"),
        [..] => (texts(&pinned), "are", "they"),
    };
    Err(OpsError::Refused {
        what: format!(
            "{} {are} pinned; nothing was changed. If {they} shall go all the same: holdfast vault unpin {}, then the same \
             command again",
            points.join(", "),
            points.join(" ")
        ),
    })
}

fn texts(lines: &[&PointLine]) -> Vec<String> {
    lines.iter().map(|line| point_text(line.point)).collect()
}

#[cfg(test)]
mod tests {
    use vault_format::tombstone::ManifestRef;

    use super::*;

    fn body(action: TombstoneAction, sequences: &[u64]) -> Tombstone {
        let writer = WriterId([7; 16]);
        let named = |sequence: &u64| ManifestRef { writer, epoch: 1, sequence: *sequence, manifest: Hash([1; 32]) };
        Tombstone {
            gc_epoch: 1,
            sequence: 1,
            previous: Hash::default(),
            action,
            manifests: sequences.iter().map(named).collect(),
            packs: Vec::new(),
            journals: Vec::new(),
            created_ms: 0,
            delete_after_ms: 0,
            reason: String::new(),
        }
    }

    #[test]
    fn the_last_word_on_any_manifest_of_a_point_counts() {
        let key = |sequence| (WriterId([7; 16]), (1, sequence), Hash([1; 32]));
        let mut pins = Pins::default();
        assert_eq!(pins.last_word([key(1), key(2)]), None);
        pins.heed(0, &body(TombstoneAction::Pin, &[1]));
        pins.heed(1, &body(TombstoneAction::Trash, &[1, 2]));
        assert_eq!(pins.last_word([key(2), key(1)]), Some(true));
        pins.heed(2, &body(TombstoneAction::Unpin, &[2]));
        assert_eq!(pins.last_word([key(1), key(2)]), Some(false));
        assert_eq!((pins.last_word([key(1)]), pins.last_word([key(3)])), (Some(true), None));
        assert_eq!(pins.last_word_at(WriterId([7; 16]), (1, 2)), Some(false));
    }
}
