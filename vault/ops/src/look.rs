//! One look at a vault as its janitor sees it: every manifest opened, what is
//! referenced, and why the look may not be whole.
//!
//! What always holds: a look that is not whole says so and nothing is deleted by
//! it; a point in the trash keeps its packs referenced until its grace has passed
//! by the locations' own clocks, and for ever while it is pinned; packs a writer's newest
//! manifest calls pending count as referenced.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::manifest::{JanitorPart, ManifestKind, PackRef};
use vault_format::{Hash, PackId, PointId, WriterId, names};

use crate::attendance;
use crate::catalog::Catalog;
use crate::clocks::Clocks;
use crate::error::Result;
use crate::heads::{Chain, Depth, Position, SignedManifest, chain};
use crate::janitor::Janitor;
use crate::marks::{Mark, SignedTombstone, answering_in_full};
use crate::placement::{read_quorum, write_quorum};
use crate::tombstones;
use crate::vault::Vault;

/// Whose time a look goes by.
#[derive(Clone, Debug)]
pub enum Time {
    /// This host's: for plans that are only shown.
    Host,
    /// The locations' own: whatever is deleted is deleted by these.
    Locations(Clocks),
}

impl Time {
    /// How long ago a tombstone was written.
    pub(crate) async fn age_ms(&self, vault: &Vault, signed: &SignedTombstone) -> i64 {
        match self {
            Self::Host => vault.world.now_ms().saturating_sub(signed.body.created_ms),
            Self::Locations(clocks) => clocks.age_ms(vault, &signed.name()).await,
        }
    }

    /// How long ago a manifest was written; zero for who cannot ask.
    pub(crate) async fn manifest_age_ms(&self, vault: &Vault, writer: WriterId, (epoch, sequence): Position) -> i64 {
        match self {
            Self::Host => 0,
            Self::Locations(clocks) => clocks.age_ms(vault, &names::manifest(writer, epoch, sequence)).await,
        }
    }

    /// Whether the grace of all these tombstones has passed.
    pub(crate) async fn has_passed(&self, vault: &Vault, by: &[Hash]) -> bool {
        for hash in by {
            let Some(signed) = vault.marks.tombstone(*hash) else { return false };
            if self.age_ms(vault, signed).await < signed.grace_ms() {
                return false;
            }
        }
        true
    }
}

/// Where a point stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It counts.
    Live,
    /// In the trash; it can be brought back.
    Trash,
    /// Its grace has passed, or its owner purged it.
    Expired {
        /// The latter.
        purged: bool,
    },
}

/// A manifest and what the janitor may read of it.
#[derive(Clone, Debug)]
pub struct Known {
    /// The manifest.
    pub manifest: SignedManifest,
    /// The janitor's part; none for a heartbeat.
    pub part: Option<JanitorPart>,
    /// Where it stands.
    pub life: Life,
}

/// A writer's newest manifest.
#[derive(Clone, Debug)]
pub struct Head {
    /// The writer.
    pub writer: WriterId,
    /// Its place.
    pub position: Position,
    /// Hash of its envelope.
    pub hash: Hash,
    /// The newest epoch its writer had seen.
    pub gc_epoch_seen: u64,
    /// Its epoch is closed: nobody waits for it.
    pub fenced: bool,
}

/// One look.
pub struct Look {
    /// The vault as it was then.
    pub vault: Vault,
    /// All manifests that count, by writer and place.
    pub known: Vec<Known>,
    /// Each writer that has manifests.
    pub heads: Vec<Head>,
    /// Manifests behind a fence that lost nothing, the newest of each epoch: their
    /// writers may have reported them before the fence stood. Each is a stop too.
    pub unsettled: Vec<Head>,
    /// Whether enough domains answered to know all tombstones, fences and manifests.
    pub confirmed: bool,
    /// Packs that must stay.
    pub referenced: BTreeSet<PackId>,
    /// Packs that only manifests of revoked certificates need, and nobody condemned yet.
    pub held_by_revoked: BTreeSet<PackId>,
    /// Packs any manifest first committed.
    pub committed: BTreeMap<PackId, WriterId>,
    /// Points that are pinned.
    pub pinned: BTreeSet<PointId>,
    /// Why the look is not whole: nothing may be deleted by it.
    pub stops: Vec<String>,
}

/// Looks.
pub async fn take(vault: &Vault, catalog: &Catalog, janitor: &Janitor, time: &Time) -> Result<Look> {
    attendance::require_any(vault).await?;
    let vault = vault.reread().await;
    let mut look = Look {
        known: Vec::new(),
        heads: Vec::new(),
        unsettled: Vec::new(),
        confirmed: true,
        referenced: BTreeSet::new(),
        held_by_revoked: BTreeSet::new(),
        committed: BTreeMap::new(),
        pinned: BTreeSet::new(),
        stops: Vec::new(),
        vault,
    };
    if let Err(error) = tombstones::check(&look.vault.marks) {
        look.confirmed = false;
        look.stops.push(error.to_string());
    }
    look.find_strangers().await;
    for writer in look.vault.writer_ids() {
        look.add_writer(janitor, time, writer).await?;
    }
    look.hold_pinned();
    for point in catalog.points()?.into_iter().filter(|point| !point.verified) {
        look.referenced.extend(point.part.references);
    }
    Ok(look)
}

impl Look {
    /// A writer whose certificate is lost has manifests nobody can read: what they
    /// reference is unknown.
    async fn find_strangers(&mut self) {
        let mut strangers: BTreeSet<WriterId> = self.vault.unknown_writers().into_iter().map(|(id, _)| id).collect();
        let known = self.vault.writer_ids();
        let mut shown: BTreeMap<WriterId, BTreeSet<u16>> = BTreeMap::new();
        let mut silent = Vec::new();
        for location in &self.vault.locations {
            match location.list(names::MANIFESTS).await {
                Ok(listed) => {
                    let writers = listed.iter().filter_map(|object| names::parse_manifest(&object.name));
                    for (writer, ..) in writers.filter(|(writer, ..)| !known.contains(writer)) {
                        shown.entry(writer).or_default().insert(location.domain);
                    }
                }
                Err(error) => silent.push((location.name.clone(), error.to_string())),
            }
        }
        let could_stand = shown.into_iter().filter(|(_, domains)| self.could_stand(domains, &silent));
        strangers.extend(could_stand.map(|(writer, _)| writer));
        self.stops.extend(strangers.into_iter().map(|writer| {
            format!(
                "writer {} has manifests and no location that answers shows its certificate: what it needs is not \
                 known. Bring the certificate back with: holdfast vault import-orphans",
                writer.short()
            )
        }));
    }

    /// Whether what these domains show under a name may be what is left of a manifest
    /// that stood on a quorum. On fewer it was never reported, or it is junk.
    fn could_stand(&self, shown: &BTreeSet<u16>, silent: &[(String, String)]) -> bool {
        let answering = answering_in_full(&self.vault, silent);
        let domains = self.vault.domains();
        domains.iter().filter(|domain| shown.contains(domain) || !answering.contains(domain)).count()
            >= write_quorum(domains.len())
    }

    async fn add_writer(&mut self, janitor: &Janitor, time: &Time, writer: WriterId) -> Result<()> {
        let chain = chain(&self.vault, writer, Depth::Whole).await?;
        let domains = self.vault.domains().len();
        if answering_in_full(&self.vault, &chain.silent).len() < read_quorum(domains) {
            let silent: Vec<&str> = chain.silent.iter().map(|(name, _)| name.as_str()).collect();
            self.confirmed = false;
            self.stops.push(format!("too few domains answer to know all manifests ({} silent)", silent.join(", ")));
        }
        // What a revoked certificate signed counts for nobody and holds nothing up. Still
        // its packs stay until the owner says otherwise: revocation says who is not
        // believed, not what may be deleted. Once condemned they are not brought back.
        for manifest in &chain.revoked {
            let part = janitor.part(self.vault.id, &manifest.body).ok().flatten();
            let first = manifest.body.packs.iter().map(|pack| pack.pack);
            let named = first.chain(manifest.body.pending.iter().copied());
            let all = named.chain(part.into_iter().flat_map(|part| part.references));
            self.held_by_revoked.extend(all.filter(|pack| !self.vault.marks.is_condemned(*pack)));
        }
        let revoked: BTreeSet<Position> = chain.revoked.iter().map(SignedManifest::position).collect();
        let nobody = BTreeSet::new();
        for (position @ (epoch, sequence), why) in &chain.unreadable {
            let shown = chain.seen.get(position).unwrap_or(&nobody);
            let is_junk = !chain.offline.contains(position) && !self.could_stand(shown, &chain.silent);
            if is_junk || revoked.contains(position) {
                continue;
            }
            let writer = writer.short();
            self.stops.push(format!("manifest {epoch}.{sequence} of writer {writer} is unreadable: {why}"));
        }
        for (epoch, sequence) in &chain.gaps {
            let writer = writer.short();
            self.stops.push(format!("the manifest before {epoch}.{sequence} of writer {writer} is missing"));
        }
        if let Some(head) = chain.head() {
            self.referenced.extend(&head.body.pending);
            self.heads.push(Head {
                writer,
                position: head.position(),
                hash: head.hash,
                gc_epoch_seen: head.body.gc_epoch_seen,
                fenced: self.vault.marks.fences.closes(writer, head.body.epoch),
            });
        } else if !chain.fenced.is_empty() {
            self.stops.push(format!("writer {}: all its manifests stand behind a fence", writer.short()));
        }
        self.look_behind(janitor, writer, &chain);
        for manifest in chain.all() {
            self.add_manifest(janitor, time, manifest.clone()).await;
        }
        Ok(())
    }

    /// What stands behind fences and lost nothing must count again before anything is
    /// deleted. What did lose something was not reported: its writer reads the fences
    /// once its manifest stands.
    fn look_behind(&mut self, janitor: &Janitor, writer: WriterId, chain: &Chain) {
        for (epoch, sequence) in chain.fenced.iter().filter(|position| chain.offline.contains(position)) {
            let writer = writer.short();
            self.stops.push(format!(
                "manifest {epoch}.{sequence} of writer {writer} stands behind its fence and cannot be read now"
            ));
        }
        let mut places: BTreeMap<Position, Vec<&SignedManifest>> = BTreeMap::new();
        for manifest in &chain.behind {
            places.entry(manifest.position()).or_default().push(manifest);
        }
        let (mut newest, mut broken) = (BTreeMap::new(), BTreeSet::new());
        for (position, manifests) in places {
            let whole = manifests.into_iter().find(|manifest| self.is_whole(janitor, manifest));
            match whole.filter(|_| !broken.contains(&position.0)) {
                Some(manifest) => drop(newest.insert(position.0, manifest)),
                None => drop(broken.insert(position.0)),
            }
        }
        for manifest in newest.into_values() {
            let position = manifest.position();
            self.stops.push(format!(
                "manifest {}.{} of writer {} stands behind its fence and nothing it needs is gone: it may have been \
                 reported, and must count again first",
                position.0,
                position.1,
                writer.short()
            ));
            let gc_epoch_seen = manifest.body.gc_epoch_seen;
            self.unsettled.push(Head { writer, position, hash: manifest.hash, gc_epoch_seen, fenced: true });
        }
    }

    fn is_whole(&mut self, janitor: &Janitor, manifest: &SignedManifest) -> bool {
        match janitor.part(self.vault.id, &manifest.body) {
            Ok(part) => {
                let references = part.map(|part| part.references).unwrap_or_default();
                !references.iter().any(|pack| self.vault.marks.is_swept(*pack))
            }
            Err(error) => {
                self.stops.push(error.to_string());
                false
            }
        }
    }

    async fn add_manifest(&mut self, janitor: &Janitor, time: &Time, manifest: SignedManifest) {
        let part = match janitor.part(self.vault.id, &manifest.body) {
            Ok(part) => part,
            Err(error) => {
                self.stops.push(error.to_string());
                None
            }
        };
        let (epoch, sequence) = manifest.position();
        if part.is_none() && manifest.body.kind != ManifestKind::Heartbeat {
            self.stops.push(format!("manifest {epoch}.{sequence} does not say what it references"));
        }
        let life = match self.vault.marks.manifest(manifest.writer, (epoch, sequence), manifest.hash) {
            None => Life::Live,
            Some(Mark::Trashed { purged: true, .. }) => Life::Expired { purged: true },
            Some(Mark::Trashed { by, purged: false }) if time.has_passed(&self.vault, by).await => {
                Life::Expired { purged: false }
            }
            Some(Mark::Trashed { .. }) => Life::Trash,
            // Not in the chain; if it is after all, it stands for nothing.
            Some(Mark::Swept) => Life::Expired { purged: false },
        };
        for PackRef { pack, .. } in &manifest.body.packs {
            self.committed.insert(*pack, manifest.writer);
        }
        if matches!(life, Life::Live | Life::Trash) {
            self.referenced.extend(part.iter().flat_map(|part| part.references.iter().copied()));
        }
        self.known.push(Known { manifest, part, life });
    }

    /// Finds what is pinned. In the trash it waits, whatever its grace and whoever purged
    /// it; what is half gone already is not given back.
    fn hold_pinned(&mut self) {
        let mut points: BTreeMap<PointId, Vec<usize>> = BTreeMap::new();
        for (at, known) in self.known.iter().enumerate() {
            if let Some(part) = &known.part {
                points.entry(part.point).or_default().push(at);
            }
        }
        let marks = &self.vault.marks;
        for (point, places) in points {
            let key = |at: &usize| {
                let manifest = &self.known[*at].manifest;
                (manifest.writer, manifest.position(), manifest.hash)
            };
            let by_writer = places.iter().any(|at| self.known[*at].part.as_ref().is_some_and(|part| part.pinned));
            if !marks.pins.last_word(places.iter().map(key)).unwrap_or(by_writer) {
                continue;
            }
            self.pinned.insert(point);
            for at in places {
                let known = &mut self.known[at];
                let references = known.part.iter().flat_map(|part| part.references.iter().copied());
                let is_whole = !references.clone().any(|pack| marks.is_swept(pack));
                if is_whole && matches!(known.life, Life::Expired { .. }) {
                    self.referenced.extend(references);
                    known.life = Life::Trash;
                }
            }
        }
    }

    /// Of these packs, those that may go now as far as this look can see.
    pub fn still_unwanted(&self, packs: &BTreeSet<PackId>) -> BTreeSet<PackId> {
        let unwanted = |pack: &&PackId| !self.referenced.contains(pack) && self.vault.marks.is_swept(**pack);
        packs.iter().filter(unwanted).copied().collect()
    }

    /// Whether a manifest is its writer's newest.
    pub fn is_head(&self, manifest: &SignedManifest) -> bool {
        self.heads.iter().any(|head| (head.writer, head.position) == (manifest.writer, manifest.position()))
    }
}
