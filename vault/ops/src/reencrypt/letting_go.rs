//! The end of re-encryption: originals whose successors stand go into the trash.
//!
//! What always holds: of a pinned original the successor is pinned first; only then is
//! the original unpinned, and only then does it go, so that killed anywhere one of the
//! two is pinned and both are there.

use vault_format::PointId;
use vault_format::tombstone::{ManifestRef, TombstoneAction};

use super::{Mover, Plan, Report};
use crate::error::Result;
use crate::points::PointSummary;
use crate::tombstones::{self, Draft};

impl Mover<'_> {
    /// `followers` are the successors that stand, by what they follow.
    pub(super) async fn let_go(
        &self,
        originals: &[PointSummary],
        followers: &[(PointId, ManifestRef)],
        plan: &Plan,
        report: &mut Report,
    ) -> Result<()> {
        if originals.is_empty() {
            return Ok(());
        }
        let marks = self.janitor.enrol(self.vault).await?.reread().await.marks;
        let key = |point: &PointSummary| (point.writer, point.position, point.manifest);
        let live = |point: &&PointSummary| marks.manifest(point.writer, point.position, point.manifest).is_none();
        let live: Vec<&PointSummary> = originals.iter().filter(live).collect();
        if live.is_empty() {
            return Ok(());
        }
        let is_pinned = |point: &&&PointSummary| {
            plan.pinned.contains(&point.part.point) || marks.pins.last_word([key(point)]) == Some(true)
        };
        let pinned: Vec<&PointSummary> = live.iter().filter(is_pinned).copied().collect();
        if !pinned.is_empty() {
            let is_theirs = |(original, _): &&(PointId, ManifestRef)| pinned.iter().any(|p| p.part.point == *original);
            let successors = followers.iter().filter(is_theirs).map(|(_, successor)| successor.clone()).collect();
            self.say(TombstoneAction::Pin, successors, report).await?;
            self.say(TombstoneAction::Unpin, pinned.into_iter().map(named).collect(), report).await?;
        }
        report.trashed = live.len();
        self.say(TombstoneAction::Trash, live.into_iter().map(named).collect(), report).await
    }

    async fn say(&self, action: TombstoneAction, manifests: Vec<ManifestRef>, report: &mut Report) -> Result<()> {
        let vault = self.janitor.enrol(self.vault).await?.reread().await;
        let draft = Draft {
            action,
            manifests,
            packs: Vec::new(),
            grace_ms: self.grace_ms,
            reason: "sealed anew for a newer key".to_owned(),
        };
        let written = tombstones::write(&vault, self.janitor, draft).await?;
        report.owed.extend(written.owed);
        Ok(())
    }
}

fn named(point: &PointSummary) -> ManifestRef {
    let (epoch, sequence) = point.position;
    ManifestRef { writer: point.writer, epoch, sequence, manifest: point.manifest }
}
