//! Sweeping: the only code that deletes what a vault stored.
//!
//! What always holds: a tombstone that stands on a quorum names what is deleted; at
//! most n-k shards of a pack go before a fresh look, so that a reference that
//! appears until then costs a repair and not a point; what stands on locations that
//! are away goes in a later run.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::certificate::Fence;
use vault_format::envelope::RecordKind;
use vault_format::tombstone::{ManifestRef, TombstoneAction};
use vault_format::{PackId, names};

use crate::catalog::Catalog;
use crate::commit;
use crate::error::{OpsError, Result};
use crate::fetch::{Holding, list_shards};
use crate::gc::GcReport;
use crate::janitor::Janitor;
use crate::look::{self, Head, Look, Time};
use crate::progress::{Phase, Total};
use crate::step::Step;
use crate::tombstones::{self, Draft};
use crate::vault::Vault;

/// What a sweep works with.
pub(crate) struct Sweeping<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) catalog: &'a Catalog,
    pub(crate) janitor: &'a Janitor,
    pub(crate) time: &'a Time,
}

impl Sweeping<'_> {
    async fn look(&self) -> Result<Look> {
        look::take(self.vault, self.catalog, self.janitor, self.time).await
    }

    /// Says that packs are gone, then makes it true.
    pub(crate) async fn sweep(&self, packs: &BTreeSet<PackId>, report: &mut GcReport) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        report.swept += packs.len();
        self.write(TombstoneAction::Sweep, Vec::new(), packs, "unreferenced, and its grace has passed").await?;
        self.delete_packs(packs, report).await
    }

    /// Deletes the shards of swept packs: first so many that each can still be
    /// rebuilt, then, after another look, the rest.
    pub(crate) async fn delete_packs(&self, packs: &BTreeSet<PackId>, report: &mut GcReport) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let packs = self.unwanted(packs, report).await?;
        let held = list_shards(self.vault, &self.vault.writer_ids()).await.packs;
        let held: BTreeMap<PackId, Vec<Holding>> = held.into_iter().filter(|(pack, _)| packs.contains(pack)).collect();
        let shards = held.values().map(Vec::len).sum();
        self.vault.world.progress.begin_of(Phase::Removing, Total::of_items(shards));
        let keeps = |held: &[Holding]| -> BTreeSet<u8> {
            let indices: BTreeSet<u8> = held.iter().map(|holding| holding.index).collect();
            indices.into_iter().take(self.vault.coding.data_shards().into()).collect()
        };
        for held in held.values() {
            let kept = keeps(held);
            delete(self.vault, held.iter().filter(|holding| !kept.contains(&holding.index)), report).await;
        }
        self.vault.world.reached(Step::SweepHalfDeleted);
        let packs = self.unwanted(&packs, report).await?;
        for (_, held) in held.iter().filter(|(pack, _)| packs.contains(pack)) {
            let kept = keeps(held);
            delete(self.vault, held.iter().filter(|holding| kept.contains(&holding.index)), report).await;
        }
        Ok(())
    }

    /// Looks again: what is referenced after all is brought back, by a tombstone
    /// first; the repair rebuilds what went.
    async fn unwanted(&self, packs: &BTreeSet<PackId>, report: &mut GcReport) -> Result<BTreeSet<PackId>> {
        let look = self.look().await?;
        if let Some(why) = look.stops.first() {
            return Err(OpsError::Unreachable {
                what: format!(
                    "{why}. The sweep was stopped half way; a later run finishes it: holdfast vault gc --apply"
                ),
            });
        }
        let back: BTreeSet<PackId> = packs.intersection(&look.referenced).copied().collect();
        if !back.is_empty() {
            self.write(TombstoneAction::Restore, Vec::new(), &back, "referenced while it was swept").await?;
            report.revived += back.len();
        }
        Ok(look.still_unwanted(packs))
    }

    async fn write(
        &self,
        action: TombstoneAction,
        manifests: Vec<ManifestRef>,
        packs: &BTreeSet<PackId>,
        reason: &str,
    ) -> Result<()> {
        let packs = packs.iter().copied().collect();
        let draft = Draft { action, manifests, packs, grace_ms: 0, reason: reason.to_owned() };
        tombstones::write(&self.vault.reread().await, self.janitor, draft).await.map(drop)
    }

    /// Names manifests as gone for ever, then deletes them; also those that earlier
    /// runs could not reach.
    pub(crate) async fn sweep_manifests(&self, manifests: Vec<ManifestRef>, report: &mut GcReport) -> Result<()> {
        if !manifests.is_empty() {
            report.manifests += manifests.len();
            self.write(TombstoneAction::Sweep, manifests, &BTreeSet::new(), "its point is gone").await?;
        }
        let vault = self.vault.reread().await;
        let (_, gone) = vault.marks.swept_on_quorum();
        for location in &vault.locations {
            let listed = match location.list(names::MANIFESTS).await {
                Ok(listed) => listed,
                Err(error) => {
                    report.failed.push(error.to_string());
                    continue;
                }
            };
            for object in listed {
                let Some((writer, epoch, sequence)) = names::parse_manifest(&object.name) else { continue };
                if !vault.marks.is_place_swept(writer, (epoch, sequence)) {
                    continue;
                }
                // A rival of the same place is not the one that was named.
                let Ok(Some(bytes)) = location.read(&object.name).await else { continue };
                if !gone.contains(&(writer, (epoch, sequence), keys::record::hash(&bytes))) {
                    continue;
                }
                match location.delete(&object.name).await {
                    Ok(()) => {
                        report.deleted += 1;
                        report.deleted_bytes += object.bytes;
                        vault.world.reached(Step::SweepManifestDeleted);
                    }
                    Err(error) => report.failed.push(error.to_string()),
                }
            }
        }
        Ok(())
    }
}

async fn delete(vault: &Vault, held: impl Iterator<Item = &Holding>, report: &mut GcReport) {
    for holding in held {
        match holding.location.delete(&holding.name).await {
            Ok(()) => {
                report.deleted += 1;
                let bytes = holding.bytes.unwrap_or_default();
                report.deleted_bytes += bytes;
                vault.world.progress.add_bytes(bytes);
                vault.world.reached(Step::SweepShardDeleted);
            }
            Err(error) => report.failed.push(error.to_string()),
        }
        vault.world.progress.add_items(1);
    }
}

/// Turns of looking behind fences. Each lets through all that stands there; more than
/// one is needed only for what appears meanwhile.
const TURNS_MAX: usize = 4;

/// Looks, and moves fences behind which a manifest stands that lost nothing: its
/// writer may have reported it before the fence stood. What is still unsettled in the
/// look that is returned stops whoever goes by it.
pub(crate) async fn settled_look(sweeping: &Sweeping<'_>, report: &mut GcReport) -> Result<Look> {
    for _ in 0..TURNS_MAX {
        let look = sweeping.look().await?;
        if look.unsettled.is_empty() || !look.confirmed {
            return Ok(look);
        }
        report.fenced += fence_at(&look.vault, sweeping.janitor, &look.unsettled).await?;
    }
    sweeping.look().await
}

/// Closes the epochs of writers behind these manifests. Whoever relies on it looks
/// behind first.
pub(crate) async fn fence_at(vault: &Vault, janitor: &Janitor, heads: &[Head]) -> Result<usize> {
    for head in heads {
        fence(vault, janitor, head).await?;
    }
    Ok(heads.len())
}

async fn fence(vault: &Vault, janitor: &Janitor, head: &Head) -> Result<()> {
    let body = Fence {
        writer: head.writer,
        epoch: head.position.0,
        sequence: head.position.1,
        manifest: head.hash,
        gc_epoch: vault.marks.newest_epoch(),
        created_ms: vault.world.now_ms(),
    };
    let bytes = keys::record::sign(RecordKind::Fence, vault.id, &vault_format::encode(&body), janitor.signing());
    let name = names::revocation(keys::record::hash(&bytes));
    commit::publish(vault, &name, &bytes, Some(Step::FenceWritten)).await.map(drop)
}
