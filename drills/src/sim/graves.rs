//! What tombstones and fences say, by the format's text alone, and what a manifest
//! needs: the oracles' own account of what may be gone.
//!
//! What always holds: nothing here asks the program under test; a record counts as
//! soon as any location holds it as it was written, a fence once it stands on a
//! majority of the domains.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use vault_format::certificate::Fence;
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::manifest::{JanitorPart, Manifest};
use vault_format::sealed::SealedField;
use vault_format::tombstone::{Tombstone, TombstoneAction};
use vault_format::{Hash, PackId, PointId, WriterId, names};

use super::ledger::{Plan, is_right};
use super::machine::keys;
use super::sites::State;

/// A manifest's place.
type Place = (WriterId, u64, u64);

/// What is gone, or closed.
#[derive(Debug, Default)]
pub(super) struct Graves {
    /// Packs that a tombstone says are gone, and no later one brings back.
    pub(super) packs: BTreeSet<PackId>,
    /// Manifests likewise.
    manifests: BTreeSet<(Place, Hash)>,
    /// The last sequence of a closed epoch.
    closed: BTreeMap<(WriterId, u64), u64>,
    /// Names of tombstones and fences.
    pub(super) names: BTreeSet<Arc<str>>,
}

impl Graves {
    /// Reads all that stand.
    pub(super) fn read(plan: &Plan, state: &State) -> Self {
        let mut found: BTreeMap<(Arc<str>, Bytes), BTreeSet<usize>> = BTreeMap::new();
        for (site, &domain) in state.sites.iter().zip(&plan.domain) {
            for folder in [names::TOMBSTONES, names::REVOCATIONS] {
                let here = site
                    .objects
                    .range::<str, _>((Included(folder), Unbounded))
                    .take_while(|(name, _)| name.starts_with(folder));
                for (name, object) in here.filter(|(name, object)| is_right(state, site, name, &object.bytes)) {
                    found.entry((Arc::clone(name), object.bytes.clone())).or_default().insert(domain);
                }
            }
        }
        let mut graves = Self::default();
        let mut tombstones: Vec<Tombstone> = Vec::new();
        for ((name, bytes), domains) in found {
            let Ok(envelope) = Envelope::decode(&bytes) else { continue };
            if envelope.kind == RecordKind::Tombstone {
                tombstones.extend(vault_format::decode("tombstone", &envelope.body));
                graves.names.insert(name);
            } else if envelope.kind == RecordKind::Fence
                && let Ok(fence) = vault_format::decode::<Fence>("fence", &envelope.body)
            {
                graves.names.insert(name);
                if domains.len() * 2 > plan.domains {
                    let last = graves.closed.entry((fence.writer, fence.epoch)).or_insert(fence.sequence);
                    *last = (*last).max(fence.sequence);
                }
            }
        }
        // Of two said at once the one that keeps.
        tombstones.sort_by_key(|tombstone| (tombstone.gc_epoch, tombstone.action == TombstoneAction::Restore));
        for tombstone in tombstones {
            graves.bury(&tombstone);
        }
        graves
    }

    fn bury(&mut self, tombstone: &Tombstone) {
        let places = tombstone.manifests.iter().map(|of| ((of.writer, of.epoch, of.sequence), of.manifest));
        match tombstone.action {
            TombstoneAction::Sweep => {
                self.packs.extend(&tombstone.packs);
                self.manifests.extend(places);
            }
            TombstoneAction::Restore => {
                self.packs.retain(|pack| !tombstone.packs.contains(pack));
            }
            TombstoneAction::Trash | TombstoneAction::Purge | TombstoneAction::Pin | TombstoneAction::Unpin => {}
        }
    }

    /// Whether a manifest counts: it is not gone, and not behind a fence.
    pub(super) fn counts(&self, name: &str, bytes: &Bytes) -> bool {
        let Some((writer, epoch, sequence)) = names::parse_manifest(name) else { return false };
        if self.closed.get(&(writer, epoch)).is_some_and(|last| sequence > *last) {
            return false;
        }
        self.manifests.is_empty() || !self.is_gone(name, bytes)
    }

    /// Whether a tombstone names this manifest as gone.
    pub(super) fn is_gone(&self, name: &str, bytes: &Bytes) -> bool {
        let place = names::parse_manifest(name);
        place.is_some_and(|place| self.manifests.contains(&(place, keys::record::hash(bytes))))
    }
}

/// What each manifest needs, opened once.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// By name and number among those written under it.
    seen: BTreeMap<Arc<str>, usize>,
    /// By its bytes' hash: the point, and what it needs.
    by_hash: BTreeMap<Hash, (PointId, BTreeSet<PackId>)>,
    by_point: BTreeMap<PointId, BTreeSet<PackId>>,
}

impl Opened {
    /// Opens what was written since.
    fn open_new(&mut self, state: &State) {
        let written = state.written.range::<str, _>((Included(names::MANIFESTS), Unbounded));
        for (name, contents) in written.take_while(|(name, _)| name.starts_with(names::MANIFESTS)) {
            let seen = self.seen.entry(Arc::clone(name)).or_default();
            for bytes in &contents[*seen..] {
                if let Some((point, needs)) = open(bytes) {
                    self.by_point.entry(point).or_default().extend(&needs);
                    self.by_hash.insert(keys::record::hash(bytes), (point, needs));
                }
            }
            *seen = contents.len();
        }
    }

    /// What a point needs; none if no manifest of it was ever written.
    pub(super) fn needs(&mut self, state: &State, point: PointId) -> Option<BTreeSet<PackId>> {
        if !self.by_point.contains_key(&point) {
            self.open_new(state);
        }
        self.by_point.get(&point).cloned()
    }

    /// The point of a manifest, and what it needs; none if it has none.
    pub(super) fn of(&mut self, state: &State, manifest: &Bytes) -> Option<&(PointId, BTreeSet<PackId>)> {
        let hash = keys::record::hash(manifest);
        if !self.by_hash.contains_key(&hash) {
            self.open_new(state);
        }
        self.by_hash.get(&hash)
    }
}

fn open(manifest: &[u8]) -> Option<(PointId, BTreeSet<PackId>)> {
    let body: Manifest = vault_format::decode("manifest", &Envelope::decode(manifest).ok()?.body).ok()?;
    let sealed = body.janitor?;
    let key = keys().read.janitor(&sealed.recipient)?;
    let plain = keys::wrap::open_field(SealedField::ManifestJanitor, keys().public.vault, key, &sealed).ok()?;
    let part: JanitorPart = vault_format::decode("janitor's part", plain.expose_secret()).ok()?;
    Some((part.point, part.references.into_iter().collect()))
}

/// Packs that wait for a manifest, by any manifest's word.
pub(super) fn pending(manifest: &[u8]) -> Vec<PackId> {
    let body = Envelope::decode(manifest)
        .ok()
        .and_then(|envelope| vault_format::decode::<Manifest>("manifest", &envelope.body).ok());
    body.map(|body| body.pending).unwrap_or_default()
}
