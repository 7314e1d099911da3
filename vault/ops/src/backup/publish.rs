//! The end of a run: its manifest goes to the locations, or waits for them.
//!
//! What always holds: the manifest lies in the spool before any location sees it; it
//! goes straight to the locations only if nothing waits before it.

use vault_format::PackId;

use super::{Run, Spooled};
use crate::catalog::PointRow;
use crate::commit;
use crate::condemned::{Halt, check_standing};
use crate::error::{OpsError, Result};
use crate::heads::SignedManifest;
use crate::place::Debt;
use crate::rebuild;
use crate::spool;
use crate::step::Step;

/// How the manifest fared.
#[derive(Default)]
pub(super) struct End {
    pub(super) owed: Vec<(String, String)>,
    pub(super) debts: Vec<Debt>,
    pub(super) spooled: Option<Spooled>,
}

impl Run<'_> {
    /// Shows the manifest to the locations: at once if nothing waits before it and all
    /// its packs stand there, else through the spool. It lies in the spool before any
    /// location sees it, so that a run that dies here is finished by the next.
    pub(super) async fn publish(
        &mut self,
        row: &PointRow,
        manifest: &SignedManifest,
    ) -> std::result::Result<End, Halt> {
        if self.options.pinned {
            self.catalog.note_made_pinned(row.part.point)?;
        }
        let waits = |pack: &PackId| {
            self.stored.get(pack).map_or(self.waiting.has_pack(*pack, self.vault.coding), |stored| stored.spooled)
        };
        let straight =
            self.waiting.manifests.is_empty() && self.why_spooled().is_none() && !row.part.references.iter().any(waits);
        let Some(spool) = &self.vault.spool else {
            let owed = commit::publish_manifest(self.vault, self.catalog, manifest).await?;
            check_standing(self.vault, manifest, &row.part.references).await?;
            self.committed(row, manifest)?;
            return Ok(End { owed, ..End::default() });
        };
        let kept = spool.add_manifest(&manifest.name(), &manifest.bytes).await;
        match (kept, straight) {
            (Err(error), false) => return Err(OpsError::from(error).into()),
            // A full disk here is no reason to doubt the locations.
            (Err(error), true) => {
                self.notes.push(format!("the point did not wait on this host while it was published: {error}"));
            }
            (Ok(()), _) => self.vault.world.reached(Step::SpoolManifestKept),
        }
        if straight && let Ok(owed) = commit::publish_manifest(self.vault, self.catalog, manifest).await {
            match check_standing(self.vault, manifest, &row.part.references).await {
                Ok(()) => {
                    self.committed(row, manifest)?;
                    spool.remove(&[manifest.name()]).await?;
                    return Ok(End { owed, ..End::default() });
                }
                Err(Halt::Hit(hit)) => {
                    spool.remove(&[manifest.name()]).await?;
                    return Err(Halt::Hit(hit));
                }
                // It waits in the spool until that is known.
                Err(Halt::Error(error)) => self.notes.push(error.to_string()),
            }
        }
        let delivery = spool::deliver(self.vault, &self.sealing.keys, self.catalog).await?;
        let stuck =
            delivery.stuck.iter().find(|stuck| stuck.point == Some(row.part.point)).map(|stuck| stuck.why.clone());
        let delivered = delivery.delivered.contains(&row.part.point);
        self.delivered.extend(delivery.delivered.into_iter().filter(|point| *point != row.part.point));
        let why =
            stuck.or(self.why_spooled()).or(delivery.why).unwrap_or_else(|| "it could not be delivered".to_owned());
        let spooled = Spooled { why, points: delivery.left, bytes: delivery.left_bytes };
        Ok(End { owed: delivery.manifest_owed, debts: delivery.debts, spooled: (!delivered).then_some(spooled) })
    }

    fn committed(&mut self, row: &PointRow, manifest: &SignedManifest) -> Result<()> {
        let packs: Vec<PackId> = manifest.body.packs.iter().map(|pack| pack.pack).collect();
        self.vault.world.reached(Step::BackupBeforeRemember);
        self.catalog.commit_point(row, &packs)?;
        self.vault.world.reached(Step::BackupPointRemembered);
        rebuild::remember_head(self.catalog, manifest.position(), manifest.hash)?;
        self.vault.world.reached(Step::BackupHeadRemembered);
        Ok(())
    }
}
