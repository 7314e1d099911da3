//! Where moved chunks stand, and who is told.
//!
//! What always holds: only packs sealed for the newest reader count as new ones; what
//! any migrator of the scope committed is used again, and what this one stored; a
//! host is told of packs only when a manifest names them, and of all of them at the
//! start of each run, so that a killed one leaves nobody untold.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use keys::files::ReadKey;
use vault_format::body::{ChunkKind, IndexEntry};
use vault_format::certificate::Role;
use vault_format::manifest::PackRef;
use vault_format::{ChunkId, Hash, PackId, PointId, ScopeId, WriterId};

use super::plan::{Plan, fetcher, newest_reader};
use super::{Mover, Report};
use crate::catalog::{Catalog, PackRow, PackState};
use crate::commit;
use crate::error::{OpsError, Result};
use crate::fetch::list_shards;
use crate::heads::{Chain, Depth, chain};
use crate::marks::Marks;
use crate::placement::{survives, write_quorum};
use crate::points::point_text;
use crate::restore::chunk_index;
use crate::vault::Vault;

/// Where the chunks of the scope stand that were moved.
#[derive(Default)]
pub(super) struct Moved {
    pub(super) chunks: BTreeMap<ChunkId, PackId>,
    pub(super) packs: BTreeMap<PackId, Hash>,
    /// Named by a manifest of a migrator.
    pub(super) committed: BTreeSet<PackId>,
    /// What the host was not told yet.
    untold: BTreeMap<PackId, (PackRow, Vec<IndexEntry>)>,
}

impl Moved {
    pub(super) fn learn(&mut self, row: PackRow, index: Vec<IndexEntry>) {
        self.packs.insert(row.pack, row.header);
        let chunks = index.iter().filter(|entry| entry.kind != ChunkKind::PointRecord);
        self.chunks.extend(chunks.map(|entry| (entry.id, row.pack)));
        self.untold.insert(row.pack, (row, index));
    }

    /// From now on the writer of this host leans on the new packs: what it goes on
    /// needing would otherwise keep the old ones for ever.
    pub(super) fn tell(&mut self, host: Option<&mut Catalog>) -> Result<usize> {
        let Some(host) = host else { return Ok(0) };
        let mut told = 0;
        for pack in &self.committed {
            if let Some((row, index)) = self.untold.remove(pack) {
                host.add_pack(PackRow { state: PackState::Committed, ..row }, &index)?;
                told += 1;
            }
        }
        Ok(told)
    }
}

/// Tells a host of what was moved in its scope, by whichever host, so that its next
/// points lean on the new packs. Needs no migrator. Returns of how many packs it was
/// told that it did not know.
pub async fn teach(
    vault: &Vault,
    read: &ReadKey,
    scope: ScopeId,
    (host, plan): (&mut Catalog, &Plan),
) -> Result<usize> {
    let marks = vault.reread().await.marks;
    let mut moved = found(vault, read, (scope, None), &marks).await?;
    let known: Vec<PackId> = host.packs(PackState::Committed)?.into_iter().map(|row| row.pack).collect();
    moved.untold.retain(|pack, _| !known.contains(pack));
    let told = moved.tell(Some(host))?;
    follow(host, plan)?;
    Ok(told)
}

/// What was moved before: by the manifests of the scope's migrators, and by a run of
/// this one that died.
async fn found(
    vault: &Vault,
    read: &ReadKey,
    (scope, own): (ScopeId, Option<WriterId>),
    marks: &Marks,
) -> Result<Moved> {
    let newest = newest_reader(vault)?;
    let mut moved = Moved::default();
    let of_scope = vault.writers.values().filter(|key| key.role() == Role::Migrator && key.scope() == Some(scope));
    let migrators: BTreeSet<WriterId> = of_scope.map(|key| key.subject()).chain(own).collect();
    for &migrator in &migrators {
        let whole = chain(vault, migrator, Depth::Whole).await?;
        moved.committed.extend(whole.all().into_iter().flat_map(|one| &one.body.packs).map(|pack| pack.pack));
    }
    let holdings = list_shards(vault, &migrators).await;
    let fetcher = fetcher(vault, &holdings);
    for &pack in holdings.packs.keys() {
        let durable = survives(&holdings.copies(pack), vault.coding, vault.survive());
        if !durable || marks.is_condemned(pack) {
            continue;
        }
        // What cannot be read now is stored again.
        let Ok(header) = fetcher.signed_header(pack).await else { continue };
        let is_ours = Some(header.h0().writer) == own || moved.committed.contains(&pack);
        // After another rotation what was moved by the one before is old itself.
        if !is_ours || !header.h0().recipients.contains(&newest) {
            continue;
        }
        let reference = PackRef { pack, header: header.hash() };
        if let Ok((class, index)) = chunk_index(&fetcher, read, &reference).await {
            let row = PackRow { pack, header: reference.header, class, state: PackState::Stored };
            moved.learn(row, index);
        }
    }
    Ok(moved)
}

/// Successors of points that the host knows are points it knows.
fn follow(host: &mut Catalog, plan: &Plan) -> Result<()> {
    for follower in &plan.followers {
        if host.has_point(follower.original)? && !host.has_point(follower.row.part.point)? {
            host.commit_point(&follower.row, &[])?;
        }
    }
    Ok(())
}

impl Mover<'_> {
    /// What is there to go on with.
    pub(super) async fn found_again(&self, marks: &Marks) -> Result<Moved> {
        let who = (self.migrator.scope, Some(self.migrator.writer));
        found(self.vault, &self.read, who, marks).await
    }

    /// A run that died may have left a successor's manifest short of its quorum: it is
    /// completed before the original it stands for is let go.
    pub(super) async fn complete(&self, plan: &Plan, report: &mut Report) -> Result<()> {
        let vault = self.vault;
        let quorum = write_quorum(vault.domains().len());
        let owed: BTreeSet<PointId> = plan.succeeded.iter().map(|point| point.part.point).collect();
        let mut chains: BTreeMap<WriterId, Chain> = BTreeMap::new();
        for follower in plan.followers.iter().filter(|follower| owed.contains(&follower.original)) {
            let (writer, at) = (follower.row.writer, (follower.row.epoch, follower.row.sequence));
            let whole = match chains.entry(writer) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(chain(vault, writer, Depth::Whole).await?),
            };
            let manifest = whole.all().into_iter().find(|one| one.position() == at && one.hash == follower.manifest);
            let manifest = manifest.ok_or_else(|| OpsError::Unreachable {
                what: format!(
                    "the manifest of {}, which stands for {}, is not shown any more; nothing was put into the trash. Run \
                     the same command again when all locations answer",
                    point_text(follower.row.part.point),
                    point_text(follower.original)
                ),
            })?;
            if whole.seen.get(&at).is_none_or(|domains| domains.intersection(&vault.domains()).count() < quorum) {
                report.owed.extend(commit::publish(vault, &manifest.name(), &manifest.bytes, None).await?);
            }
        }
        Ok(())
    }

    /// Tells the host of all that a run before this one committed and may not have told.
    pub(super) fn tell_before(&mut self, moved: &mut Moved, plan: &Plan) -> Result<()> {
        moved.tell(self.host.as_deref_mut())?;
        self.host.as_deref_mut().map_or(Ok(()), |host| follow(host, plan))
    }
}
