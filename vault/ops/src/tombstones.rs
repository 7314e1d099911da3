//! Writing tombstones: the one way anything of a vault is ever condemned.
//!
//! What always holds: a tombstone is written only from a confirmed reading without
//! holes, with an epoch higher than all that was seen; its signer's previous one
//! stands on a quorum first; it counts once it stands on a quorum itself.

use vault_format::PackId;
use vault_format::envelope::RecordKind;
use vault_format::tombstone::{ManifestRef, Tombstone, TombstoneAction};
use vault_format::{Hash, names};

use crate::commit;
use crate::error::{OpsError, Result};
use crate::heads::SignedManifest;
use crate::janitor::Janitor;
use crate::marks::Marks;
use crate::step::Step;
use crate::vault::Vault;

/// What a tombstone shall say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it does.
    pub action: TombstoneAction,
    /// Manifests it names.
    pub manifests: Vec<ManifestRef>,
    /// Packs it names.
    pub packs: Vec<PackId>,
    /// How long nothing named is deleted, milliseconds.
    pub grace_ms: i64,
    /// Why, for people.
    pub reason: String,
}

/// A tombstone that stands on a quorum.
#[derive(Clone, Debug)]
pub struct Written {
    /// Hash of its envelope.
    pub hash: Hash,
    /// Its epoch.
    pub gc_epoch: u64,
    /// Locations that did not take it, and why.
    pub owed: Vec<(String, String)>,
}

/// A manifest as tombstones name it.
pub fn manifest_ref(manifest: &SignedManifest) -> ManifestRef {
    let (epoch, sequence) = manifest.position();
    ManifestRef { writer: manifest.writer, epoch, sequence, manifest: manifest.hash }
}

/// Why tombstones cannot be trusted to be all there; an error unless they can.
pub fn check(marks: &Marks) -> Result<()> {
    if !marks.confirmed {
        let silent: Vec<String> = marks.silent.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        return Err(OpsError::Unreachable {
            what: format!(
                "too few domains answer to know all tombstones ({}); nothing was changed. Bring them back and run the \
                 same command again",
                silent.join("; ")
            ),
        });
    }
    if let Some(hole) = marks.holes.first() {
        return Err(OpsError::corrupt(
            "the record of what was deleted",
            format!(
                "{hole}. Backups and restores go on; nothing is forgotten or deleted until it is back. Copy it from a \
                 location that has it: holdfast vault repair --apply"
            ),
        ));
    }
    Ok(())
}

/// Signs a tombstone and writes it to every location. `vault.marks` must be fresh.
pub async fn write(vault: &Vault, janitor: &Janitor, draft: Draft) -> Result<Written> {
    let marks = &vault.marks;
    check(marks)?;
    let before = marks.newest_of(janitor.id());
    if let Some(before) = before.filter(|before| !marks.stands(before)) {
        // A run that died left it short of the quorum; what builds on it must not stand safer.
        // Two runs at once with one key can both have missed it at one place: then neither
        // gets it any more, and what follows may name either.
        let completed = commit::publish(vault, &before.name(), &before.bytes, None).await;
        if !marks.has_rivals(before) {
            completed?;
        }
    }
    let created_ms = vault.world.now_ms();
    let body = Tombstone {
        gc_epoch: marks.newest_epoch() + 1,
        sequence: before.map_or(1, |before| before.body.sequence + 1),
        previous: before.map_or(Hash::default(), |before| before.hash),
        action: draft.action,
        manifests: draft.manifests,
        packs: draft.packs,
        journals: Vec::new(),
        created_ms,
        delete_after_ms: created_ms.saturating_add(draft.grace_ms),
        reason: draft.reason,
    };
    let bytes = keys::record::sign(RecordKind::Tombstone, vault.id, &vault_format::encode(&body), janitor.signing());
    let name = names::tombstone(janitor.id(), body.sequence);
    let owed = commit::publish(vault, &name, &bytes, Some(Step::TombstoneWritten)).await?;
    vault.world.reached(Step::TombstoneStands);
    Ok(Written { hash: keys::record::hash(&bytes), gc_epoch: body.gc_epoch, owed })
}
