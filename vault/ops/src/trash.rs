//! The trash: what was forgotten and can be brought back, and what must not wait.
//!
//! What always holds: a point comes back only if all its packs are still there when
//! the tombstone that says so stands; a purge shortens the grace and nothing else:
//! its packs are condemned, looked for and swept like all others.

use std::collections::BTreeSet;

use vault_format::PackId;
use vault_format::tombstone::TombstoneAction;

use crate::catalog::Catalog;
use crate::error::{OpsError, Result};
use crate::forget::{self, PointLine};
use crate::janitor::Janitor;
use crate::look::{self, Life, Time};
use crate::marks::{Mark, Marks};
use crate::points::{PointName, point_text};
use crate::tombstones::{self, Draft, Written};
use crate::vault::Vault;

/// A point in the trash.
#[derive(Clone, Debug)]
pub struct TrashLine {
    /// The point.
    pub line: PointLine,
    /// Nothing of it is deleted before this, by the clock of who forgot it; the
    /// locations' own clocks decide. Never while it is pinned. Milliseconds since 1970.
    pub expires_ms: i64,
    /// Its owner said that nothing need be waited for.
    pub purged: bool,
    /// Packs of it that are gone: it cannot come back.
    pub gone: usize,
}

/// Everything in the trash, oldest point first.
pub async fn list(vault: &Vault, catalog: &Catalog, janitor: &Janitor) -> Result<Vec<TrashLine>> {
    let look = look::take(vault, catalog, janitor, &Time::Host).await?;
    let marks = &look.vault.marks;
    let lines = forget::lines(&look, catalog, |life| life != Life::Live)?;
    Ok(lines
        .into_iter()
        .filter_map(|line| {
            let trashed: Vec<_> = line
                .known()
                .iter()
                .filter_map(|known| {
                    let manifest = &known.manifest;
                    match marks.manifest(manifest.writer, manifest.position(), manifest.hash)? {
                        Mark::Trashed { by, purged } => Some((by, *purged)),
                        Mark::Swept => None,
                    }
                })
                .collect();
            let by = trashed.iter().flat_map(|(by, _)| by.iter());
            let until = by.filter_map(|hash| marks.tombstone(*hash)).map(|signed| signed.body.delete_after_ms);
            // None is left if all its manifests are swept.
            let expires_ms = until.max()?;
            let purged = trashed.iter().all(|(_, purged)| *purged);
            let gone = swept(marks, &line).len();
            Some(TrashLine { line, expires_ms, purged, gone })
        })
        .collect())
}

fn references(line: &PointLine) -> BTreeSet<PackId> {
    line.known().iter().filter_map(|known| known.part.as_ref()).flat_map(|part| part.references.clone()).collect()
}

fn swept(marks: &Marks, line: &PointLine) -> Vec<PackId> {
    references(line).into_iter().filter(|pack| marks.is_swept(*pack)).collect()
}

fn pick(lines: Vec<TrashLine>, name: &PointName) -> Result<TrashLine> {
    let ids: Vec<_> = lines.iter().map(|trash| trash.line.point).collect();
    let none = || OpsError::NoPoint {
        what: "there is no such point in the trash; list it with: holdfast vault trash list".to_owned(),
    };
    let at = match name {
        PointName::Prefix(prefix) if !ids.iter().any(|id| id.to_string().starts_with(prefix)) => return Err(none()),
        PointName::Prefix(_) => name.pick(&ids)?,
        PointName::Latest(_) => {
            return Err(OpsError::Refused {
                what: "name a point of the trash by the id that `vault trash list` prints".to_owned(),
            });
        }
    };
    lines.into_iter().nth(at).ok_or_else(none)
}

/// Brings a point back.
pub async fn restore(vault: &Vault, catalog: &Catalog, janitor: &Janitor, name: &PointName) -> Result<TrashLine> {
    let vault = janitor.enrol(vault).await?;
    let trash = pick(list(&vault, catalog, janitor).await?, name)?;
    let vault = vault.reread().await;
    let gone = |count: usize| OpsError::Lost {
        what: format!(
            "{} cannot come back: {count} of its packs were swept. List what can: holdfast vault trash list",
            point_text(trash.line.point)
        ),
    };
    let before = swept(&vault.marks, &trash.line);
    if !before.is_empty() {
        return Err(gone(before.len()));
    }
    let draft = Draft {
        action: TombstoneAction::Restore,
        manifests: trash.line.manifests(),
        packs: references(&trash.line).into_iter().filter(|pack| vault.marks.is_condemned(*pack)).collect(),
        grace_ms: 0,
        reason: "brought back by its owner".to_owned(),
    };
    tombstones::write(&vault, janitor, draft).await?;
    // A sweep that began before this tombstone stood has said so by now: each of the
    // two writes first and reads then, so at least one sees the other and gives way.
    let vault = vault.reread().await;
    let after = swept(&vault.marks, &trash.line);
    if after.is_empty() {
        return Ok(trash);
    }
    // It lost: what is half gone must not count as a point. Its grace has passed already.
    let draft = Draft {
        action: TombstoneAction::Trash,
        manifests: trash.line.manifests(),
        packs: Vec::new(),
        grace_ms: 0,
        reason: "it could not come back: packs of it were swept meanwhile".to_owned(),
    };
    tombstones::write(&vault, janitor, draft).await?;
    Err(gone(after.len()))
}

/// Lets a point expire now.
pub async fn purge(
    vault: &Vault,
    catalog: &Catalog,
    janitor: &Janitor,
    name: &PointName,
) -> Result<(TrashLine, Written)> {
    let vault = janitor.enrol(vault).await?;
    let trash = pick(list(&vault, catalog, janitor).await?, name)?;
    if trash.line.pinned {
        let point = point_text(trash.line.point);
        return Err(OpsError::Refused {
            what: format!(
                "{point} is pinned, so nothing of it is deleted; nothing was changed. If it shall go all the same: \
                 holdfast vault trash restore {point}, vault unpin {point}, vault forget {point} --apply, then this again"
            ),
        });
    }
    let draft = Draft {
        action: TombstoneAction::Purge,
        manifests: trash.line.manifests(),
        packs: Vec::new(),
        grace_ms: 0,
        reason: "purged by its owner".to_owned(),
    };
    let written = tombstones::write(&vault.reread().await, janitor, draft).await?;
    Ok((trash, written))
}
