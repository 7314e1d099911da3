//! Manifests for imported points that have none, so that every host knows them and
//! garbage collection counts their packs as referenced.
//!
//! What always holds: this host's writer vouches, in its own chain, for what was
//! verified under the root and can be rebuilt whole; it does so behind every place
//! that anything found says it ever signed, under a new epoch if need be, so that a
//! manifest that turns up later finds its place free; each stands on a quorum before
//! the next is signed. The point record stays as it is: the manifest, of kind
//! `Successor`, names its hash.

use std::collections::BTreeSet;

use keys::files::WriterKey;
use vault_format::PackId;
use vault_format::manifest::{ManifestKind, PackRef};

use crate::backup::{check_domains, check_keys};
use crate::catalog::{Catalog, PointRow};
use crate::commit::{self, Commit};
use crate::condemned::{self, Halt};
use crate::error::{OpsError, Result};
use crate::heads::{self, Depth, Position, SignedManifest};
use crate::import::{ImportPlan, OrphanPoint, point_row};
use crate::points::point_text;
use crate::rebuild::{self, Next};
use crate::vault::Vault;

/// What was vouched for.
#[derive(Debug, Default)]
pub struct Reissued {
    /// Points, with their places in the chain.
    pub points: Vec<PointRow>,
    /// Locations that lack a manifest, and why.
    pub owed: Vec<(String, String)>,
}

/// Writes a manifest for each point of the plan that has none and is whole. `vault`
/// was opened after the shards came home.
pub async fn run(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog, plan: &ImportPlan) -> Result<Reissued> {
    let mut done = Reissued::default();
    if plan.unvouched().next().is_none() {
        return Ok(done);
    }
    check_keys(vault, keys)?;
    check_domains(vault)?;
    let next = condemned::next_place(vault, keys, catalog).await?.next;
    let seen = plan.seen.get(&keys.writer).copied().unwrap_or_default();
    let mut place = behind(seen, next);
    let mut committed = committed(vault).await?;
    let mut refused = Vec::new();
    for point in plan.unvouched() {
        let (row, manifest) = vouch(vault, keys, point, place, &committed)?;
        // What is condemned may go at any moment, and of what is swept a part may be gone
        // already: nothing new may lean on it.
        let marks = vault.reread().await.marks;
        if row.part.references.iter().any(|pack| marks.is_condemned(*pack)) {
            refused.push(point_text(row.part.point));
            continue;
        }
        done.owed.extend(commit::publish_manifest(vault, catalog, &manifest).await?);
        match condemned::check_standing(vault, &manifest, &row.part.references).await {
            Ok(()) => {}
            Err(Halt::Error(error)) => return Err(error),
            Err(Halt::Hit(_)) => {
                refused.push(point_text(row.part.point));
                place = behind(seen, condemned::next_place(vault, keys, catalog).await?.next);
                continue;
            }
        }
        rebuild::remember_head(catalog, manifest.position(), manifest.hash)?;
        committed.extend(row.part.references.iter().copied());
        done.points.push(row);
        place = Next::after(manifest.position(), manifest.hash);
    }
    // The packs of this writer are open for deduplication again.
    rebuild::catch_up(vault, keys, catalog).await?;
    for row in &done.points {
        let packs = row.part.references.clone();
        catalog.commit_point(row, &packs)?;
    }
    if refused.is_empty() { Ok(done) } else { Err(given_up(&refused)) }
}

fn given_up(points: &[String]) -> OpsError {
    OpsError::Refused {
        what: format!(
            "packs of {} are marked by garbage collection, or this host's chain was closed by it: no manifest vouches \
             for them; all others were vouched for. They stay in this host's catalog and their packs count as needed \
             there. Bring back what is still there with this catalog: holdfast vault gc --apply, then import again",
            points.join(", ")
        ),
    }
}

/// The next place, unless something was signed there or behind it already.
fn behind(seen: Position, next: Next) -> Next {
    if seen < next.position() { next } else { Next { epoch: seen.0 + 1, sequence: 1, previous: next.previous } }
}

/// Packs that a manifest names as first committed by it.
async fn committed(vault: &Vault) -> Result<BTreeSet<PackId>> {
    let mut packs = BTreeSet::new();
    for writer in vault.writer_ids() {
        let chain = heads::chain(vault, writer, Depth::Whole).await?;
        packs.extend(chain.all().into_iter().flat_map(|manifest| manifest.body.packs.iter().map(|pack| pack.pack)));
    }
    Ok(packs)
}

fn vouch(
    vault: &Vault,
    keys: &WriterKey,
    point: &OrphanPoint,
    place: Next,
    committed: &BTreeSet<PackId>,
) -> Result<(PointRow, SignedManifest)> {
    let record = &point.bare.found.record;
    let (epoch, sequence) = place.position();
    let row = PointRow { writer: keys.writer, epoch, sequence, ..point_row(&point.bare, true) };
    let own = PackRef { pack: point.bare.pack, header: point.bare.found.header };
    let packs: Vec<PackRef> =
        record.packs.iter().chain([&own]).filter(|pack| !committed.contains(&pack.pack)).cloned().collect();
    let body = commit::manifest(&Commit {
        vault,
        kind: ManifestKind::Successor,
        keys,
        place,
        record,
        record_hash: point.bare.found.hash,
        point_pack: point.bare.pack,
        part: &row.part,
        packs: &packs,
        pending: Vec::new(),
        // It says nothing new about what was seen: garbage collection waits.
        gc_epoch_seen: 0,
        pinned: false,
    })?;
    Ok((row, commit::sign(vault, keys, &body)?))
}

#[cfg(test)]
mod tests {
    use vault_format::Hash;

    use super::*;

    #[test]
    fn a_place_that_was_ever_signed_is_never_signed_again() {
        let place = |seen, (epoch, sequence)| {
            behind(seen, Next { epoch, sequence, previous: Hash([7; Hash::BYTES]) }).position()
        };
        assert_eq!(place((0, 0), (1, 1)), (1, 1), "nothing was seen");
        assert_eq!(place((1, 2), (1, 3)), (1, 3), "the chain is known to its end");
        assert_eq!(place((1, 3), (1, 3)), (2, 1));
        assert_eq!(place((4, 7), (1, 1)), (5, 1));
    }
}
