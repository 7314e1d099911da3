//! Delivering: what waits in the spool goes to the locations, oldest point first.
//!
//! What always holds: a point's manifest is shown to the locations only when every
//! pack it needs is durable(d) there; the bytes that are shown lie in the spool
//! before; a point leaves the spool only when its manifest stands on its quorum.
//! Where another image of this host took the place it was signed for, it is signed
//! again for the next one. A point that cannot be delivered, or that leans on what only
//! locations that are away have, stays and is named; it does not keep the later ones
//! back. Dying anywhere costs a repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keys::files::WriterKey;
use rand_core::Rng;
use vault_codec::ShardSet;
use vault_format::manifest::{Manifest, WriterPart};
use vault_format::{Hash, PackId, PointId, WriterId, names};

use super::aside::{self, Stuck};
use super::{Contents, Spool, note_waiting};
use crate::backup::check_domains;
use crate::catalog::{Catalog, PackState, PointRow};
use crate::commit;
use crate::condemned::{self, Halt, Hit};
use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Holdings, Trust, list_shards};
use crate::heads::{self, SignedManifest};
use crate::heal;
use crate::packing::not_durable;
use crate::place::{Debt, Overwrite, place, put_right, write_shard};
use crate::placement::{Copy, survives};
use crate::points::point_text;
use crate::progress::{Phase, Total};
use crate::rebuild::{self, Next};
use crate::step::Step;
use crate::vault::Vault;

/// Places tried for one manifest in one delivery, when another image of this host
/// writes at the same time.
const PLACES_MAX: usize = 6;

/// What a delivery did.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Points whose manifests now stand on their quorum.
    pub delivered: Vec<PointId>,
    /// Their shards that are not at home.
    pub debts: Vec<Debt>,
    /// Locations without their manifests, and why.
    pub manifest_owed: Vec<(String, String)>,
    /// Points that stay, each with its own reason.
    pub stuck: Vec<Stuck>,
    /// Points that are still in the spool, the stuck ones too.
    pub left: usize,
    /// Bytes that are.
    pub left_bytes: u64,
    /// Why the rest waits.
    pub why: Option<String>,
}

/// Delivers what can be delivered now. Whoever calls it holds the writer's lease.
pub async fn deliver(vault: &Vault, keys: &WriterKey, catalog: &mut Catalog) -> Result<Delivery> {
    let Some(spool) = &vault.spool else { return Ok(Delivery::default()) };
    let contents = spool.contents().await?;
    let mut delivery = Delivery::default();
    if contents.is_empty() {
        note_waiting(catalog, false, 0)?;
        aside::note(catalog, &[], true, &contents)?;
        return Ok(delivery);
    }
    let waiting = contents.holdings.packs.keys().map(|pack| contents.shard_bytes(*pack)).sum();
    vault.world.progress.begin_of(Phase::Delivering, Total::of_bytes(waiting));
    let (queue, unread) = queue(vault, keys, spool, &contents).await?;
    let keeps_loose = !unread.is_empty();
    delivery.stuck = unread;
    let packs = queue.iter().flat_map(|waiting| &waiting.manifest().body.packs);
    let headers = packs.map(|pack| (pack.pack, pack.header)).collect();
    let placed = BTreeMap::new();
    let mut run = Run { vault, keys, catalog, spool, contents, delivery: &mut delivery, headers, placed, keeps_loose };
    match run.all(queue).await {
        Ok(()) => {}
        Err(error @ (OpsError::Unreachable { .. } | OpsError::Backend(_) | OpsError::Full { .. })) => {
            delivery.why = Some(error.to_string());
        }
        Err(error) => return Err(error),
    }
    let left = spool.contents().await?;
    (delivery.left, delivery.left_bytes) = (left.manifests.len(), left.bytes);
    note_waiting(catalog, delivery.left > 0, vault.world.now_ms())?;
    aside::note(catalog, &delivery.stuck, delivery.why.is_none(), &left)?;
    let owed = delivery.manifest_owed.iter().filter_map(|(name, _)| vault.location_named(name));
    heal::owe(catalog, delivery.debts.iter().map(|debt| debt.location).chain(owed))?;
    Ok(delivery)
}

/// A point that waits, with every manifest that was signed for it.
pub(super) struct Waiting {
    pub(super) part: WriterPart,
    /// By place; the last is the one to be shown next.
    signed: Vec<SignedManifest>,
}

impl Waiting {
    fn manifest(&self) -> &SignedManifest {
        &self.signed[self.signed.len() - 1]
    }
}

/// The newest manifest that waits in the spool, if one does. One that cannot be read or
/// believed waits for a person.
pub(crate) async fn last_waiting(vault: &Vault, keys: &WriterKey) -> Result<Option<SignedManifest>> {
    let Some(spool) = &vault.spool else { return Ok(None) };
    let contents = spool.contents().await?;
    for (_, position) in contents.manifests.iter().rev().filter(|(writer, _)| *writer == keys.writer) {
        match read(vault, keys, spool, *position).await {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(OpsError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The place itself, or where its name in the spool is taken the first one of a new
/// epoch: no waiting point's name is ever written over.
pub(crate) async fn clear_of_waiting(spool: &Spool, writer: WriterId, mut next: Next) -> Result<Next> {
    let waiting = spool.contents().await?.manifests;
    if waiting.contains(&(writer, next.position())) {
        let newest = waiting.into_iter().filter(|(of, _)| *of == writer).map(|(_, (epoch, _))| epoch).max();
        (next.epoch, next.sequence) = (newest.unwrap_or_default().max(next.epoch) + 1, 1);
    }
    Ok(next)
}

async fn read(
    vault: &Vault,
    keys: &WriterKey,
    spool: &Spool,
    (epoch, sequence): heads::Position,
) -> Result<SignedManifest> {
    let name = names::manifest(keys.writer, epoch, sequence);
    let at = || format!("{name} in the spool");
    let bytes = spool.read(&name).await?.ok_or_else(|| OpsError::corrupt(at(), "it vanished"))?;
    // Its place may stand behind a fence by now: it is signed again for another.
    heads::verify(&vault.unfenced(), keys.writer, (epoch, sequence), bytes.to_vec())
        .map_err(|why| OpsError::corrupt(at(), why))
}

/// Points in the order they were made; and manifests that cannot be read or believed.
pub(super) async fn queue(
    vault: &Vault,
    keys: &WriterKey,
    spool: &Spool,
    contents: &Contents,
) -> Result<(Vec<Waiting>, Vec<Stuck>)> {
    let (mut queue, mut unread): (Vec<Waiting>, Vec<Stuck>) = (Vec::new(), Vec::new());
    for &(writer, position) in &contents.manifests {
        let name = names::manifest(writer, position.0, position.1);
        let mut put_off = |why: String| unread.push(Stuck { point: None, manifests: vec![name.clone()], why });
        if writer != keys.writer {
            put_off(format!("it is of writer {}, whose key is not the one of this host", writer.short()));
            continue;
        }
        let opened = match read(vault, keys, spool, position).await {
            Ok(signed) => rebuild::own_part(vault, keys, &signed).map(|part| (part, signed)),
            Err(error) => Err(error),
        };
        let (part, signed) = match opened {
            Ok(opened) => opened,
            Err(OpsError::Corrupt { why, .. }) => {
                put_off(format!("its manifest cannot be believed: {why}. Back up the source again"));
                continue;
            }
            Err(error) => return Err(error),
        };
        match queue.iter_mut().find(|waiting| waiting.manifest().body.point_record == signed.body.point_record) {
            Some(waiting) => waiting.signed.push(signed),
            None => queue.push(Waiting { part, signed: vec![signed] }),
        }
    }
    Ok((queue, unread))
}

fn condemned_meanwhile(pack: PackId) -> OpsError {
    OpsError::Lost {
        what: format!(
            "pack {}, which this point needs, was condemned by garbage collection while the point waited. Back up the \
             source again; this point stays in the spool and is not counted",
            pack.short()
        ),
    }
}

struct Run<'a> {
    vault: &'a Vault,
    keys: &'a WriterKey,
    catalog: &'a mut Catalog,
    spool: &'a Spool,
    contents: Contents,
    delivery: &'a mut Delivery,
    /// Headers of packs that the waiting manifests commit first.
    headers: BTreeMap<PackId, Hash>,
    /// Copies of packs that are durable(d) at the locations.
    placed: BTreeMap<PackId, Vec<Copy>>,
    /// A manifest lies here that nobody can believe: what it needs is not known.
    keeps_loose: bool,
}

/// What the locations show, and what those that are away showed.
struct Shown {
    holdings: Holdings,
    away: BTreeMap<PackId, Vec<Copy>>,
}

impl Run<'_> {
    async fn all(&mut self, queue: Vec<Waiting>) -> Result<()> {
        check_domains(self.vault)?;
        let mut next = self.next_place().await?;
        let mut holdings = list_shards(self.vault, &BTreeSet::from([self.keys.writer])).await;
        let away = rebuild::remember_shown(self.vault, self.catalog, &holdings)?;
        holdings.discount(&self.catalog.failures()?);
        let shown = Shown { holdings, away };
        let mut needed: Vec<BTreeSet<PackId>> =
            queue.iter().map(|waiting| waiting.part.references.iter().copied().collect()).collect();
        for (at, waiting) in queue.into_iter().enumerate() {
            let point = waiting.part.point;
            let manifests: Vec<String> = waiting.signed.iter().map(SignedManifest::name).collect();
            match self.point(&mut next, waiting, &shown).await {
                Ok(None) => {
                    self.delivery.delivered.push(point);
                    needed[at].clear();
                    self.clean(&needed).await?;
                }
                Ok(Some(why)) => {
                    let why = format!("{} waits: {why}", point_text(point));
                    self.delivery.why.get_or_insert(why);
                }
                Err(OpsError::Lost { what }) => {
                    self.delivery.stuck.push(Stuck { point: Some(point), manifests, why: what });
                }
                Err(error) => return Err(error),
            }
        }
        self.loose(&needed.into_iter().flatten().collect(), &shown).await
    }

    async fn next_place(&mut self) -> Result<Next> {
        Ok(condemned::next_place(self.vault, self.keys, self.catalog).await?.next)
    }

    /// Delivers one point, or says why it has to wait for locations that are away.
    async fn point(&mut self, next: &mut Next, mut waiting: Waiting, shown: &Shown) -> Result<Option<String>> {
        let (standing, owed) = match self.stands_already(&waiting, next).await? {
            Some(found) => found,
            None => {
                for &pack in &waiting.part.references {
                    if let Some(why) = self.make_durable(pack, shown).await? {
                        return Ok(Some(why));
                    }
                }
                self.refuse_condemned(&waiting.part.references).await?;
                self.publish(next, &mut waiting).await?
            }
        };
        self.vault.world.reached(Step::DeliverManifestStands);
        self.check_standing(&standing, &waiting).await?;
        let (epoch, sequence) = standing.position();
        let row = PointRow {
            writer: self.keys.writer,
            epoch,
            sequence,
            pack: standing.body.point_pack.unwrap_or_default(),
            part: waiting.part.clone(),
            verified: true,
        };
        let packs: Vec<PackId> = standing.body.packs.iter().map(|pack| pack.pack).collect();
        self.catalog.commit_point(&row, &packs)?;
        if (epoch, sequence) >= next.position() {
            rebuild::remember_head(self.catalog, (epoch, sequence), standing.hash)?;
            *next = Next::after((epoch, sequence), standing.hash);
        }
        self.vault.world.reached(Step::DeliverPointRemembered);
        self.delivery.manifest_owed.extend(owed);
        let names: Vec<String> = waiting.signed.iter().map(SignedManifest::name).collect();
        self.spool.remove(&names).await?;
        self.vault.world.reached(Step::DeliverPointLeft);
        Ok(None)
    }

    /// What garbage collection condemned while a point waited may be deleted at any
    /// moment: nothing new may lean on it. Tombstones are read anew, just before.
    async fn refuse_condemned(&self, packs: &[PackId]) -> Result<()> {
        let marks = self.vault.reread().await.marks;
        match packs.iter().find(|&&pack| marks.is_condemned(pack)) {
            None => Ok(()),
            Some(pack) => Err(condemned_meanwhile(*pack)),
        }
    }

    /// Reads fences and tombstones once more, now that the manifest stands.
    async fn check_standing(&self, standing: &SignedManifest, waiting: &Waiting) -> Result<()> {
        match condemned::check_standing(self.vault, standing, &waiting.part.references).await {
            Ok(()) => Ok(()),
            Err(Halt::Error(error)) => Err(error),
            Err(Halt::Hit(Hit::Packs(packs))) => Err(condemned_meanwhile(packs.first().copied().unwrap_or_default())),
            Err(Halt::Hit(Hit::Fenced)) => Err(OpsError::Unreachable {
                what: "this host was taken for dead while it delivered; the point waits for the next delivery, under \
                       a new epoch"
                    .to_owned(),
            }),
        }
    }

    /// Whether one of its manifests was shown to the locations before, and stands on
    /// its quorum now: a delivery died before it could take note. What stands behind a
    /// fence counts for nobody.
    async fn stands_already(
        &self,
        waiting: &Waiting,
        next: &Next,
    ) -> Result<Option<(SignedManifest, Vec<(String, String)>)>> {
        let fences = &self.vault.reread().await.marks.fences;
        let before = waiting.signed.iter().filter(|signed| signed.position() < next.position());
        // What stands behind a fence counts for nobody.
        for signed in before.filter(|signed| !fences.warn(signed.writer, signed.position())) {
            let name = signed.name();
            let reads = futures::future::join_all(self.vault.locations.iter().map(|at| at.read(&name))).await;
            let shown =
                reads.into_iter().any(|read| read.is_ok_and(|there| there.is_some_and(|there| there == signed.bytes)));
            if shown && let Ok(owed) = commit::publish_manifest(self.vault, self.catalog, signed).await {
                return Ok(Some((signed.clone(), owed)));
            }
        }
        Ok(None)
    }

    /// Signs for the next place where needed, and writes the manifest; into the spool
    /// first. Whoever loses a place to another image of this host goes on behind it.
    async fn publish(
        &mut self,
        next: &mut Next,
        waiting: &mut Waiting,
    ) -> Result<(SignedManifest, Vec<(String, String)>)> {
        for _ in 0..PLACES_MAX {
            let last = &waiting.manifest().body;
            if ((last.epoch, last.sequence), last.previous) != (next.position(), next.previous) {
                *next = clear_of_waiting(self.spool, self.keys.writer, *next).await?;
                let signed = self.sign_again(waiting.manifest(), next)?;
                self.spool.add_manifest(&signed.name(), &signed.bytes).await?;
                self.vault.world.reached(Step::DeliverSignedAgain);
                waiting.signed.push(signed);
            }
            let signed = waiting.manifest().clone();
            match commit::publish_manifest(self.vault, self.catalog, &signed).await {
                Ok(owed) => return Ok((signed, owed)),
                Err(_) if self.is_taken(&signed).await => {}
                Err(error) => return Err(error),
            }
            // Two that write at the same moment shall not meet again at the next place.
            let wait = Duration::from_millis(self.vault.world.rng().next_u64() % 2_000);
            self.vault.world.clock.sleep(wait).await;
            *next = self.next_place().await?;
        }
        Err(OpsError::Unreachable {
            what:
                "another image of this host writes at the same time and took every place that was tried. The point is \
                   kept in the spool and delivered by itself; stop the other one, or give it a writer key of its own"
                    .to_owned(),
        })
    }

    fn sign_again(&self, manifest: &SignedManifest, next: &Next) -> Result<SignedManifest> {
        let body = Manifest {
            epoch: next.epoch,
            sequence: next.sequence,
            previous: next.previous,
            vault_record: self.vault.record_hash,
            layout: self.vault.layout_hash,
            ..manifest.body.clone()
        };
        commit::sign(self.vault, self.keys, &body)
    }

    /// Whether another manifest of this writer stands under its name.
    async fn is_taken(&self, signed: &SignedManifest) -> bool {
        let name = signed.name();
        let reads = futures::future::join_all(self.vault.locations.iter().map(|at| at.read(&name))).await;
        reads.into_iter().any(|read| {
            let Ok(Some(there)) = read else { return false };
            there != signed.bytes && heads::verify(self.vault, signed.writer, signed.position(), there.to_vec()).is_ok()
        })
    }

    /// A pack of a point to be delivered: from the spool, or from what is left of it, to
    /// the locations. What the spool holds was not read back there, whatever a listing
    /// shows: it is placed again, and what stands there already is compared. Some says
    /// what it waits for.
    async fn make_durable(&mut self, pack: PackId, shown: &Shown) -> Result<Option<String>> {
        let (coding, survive) = (self.vault.coding, self.vault.survive());
        if self.placed.contains_key(&pack) {
            return Ok(None);
        }
        let here = shown.holdings.copies(pack);
        let indices: BTreeSet<u8> = here.iter().map(|copy| copy.index).collect();
        let away = shown.away.get(&pack).cloned().unwrap_or_default();
        let known: Vec<Copy> = here.iter().copied().chain(away).collect();
        let waits = self.contents.has_pack(pack, coding);
        if !waits && survives(&known, coding, survive) {
            self.placed.insert(pack, known);
            return Ok(None);
        }
        // No manifest that stands names it yet, so that no repair rebuilds it.
        if waits || indices.len() >= usize::from(coding.data_shards()) {
            return self.place(pack, shown).await.map(|()| None);
        }
        let what = format!(
            "pack {} of an earlier point, which this one needs, is not durable at the locations: they show {} of the {} \
             shards it needs",
            pack.short(),
            indices.len(),
            coding.data_shards()
        );
        if shown.holdings.silent.is_empty() {
            return Err(OpsError::Lost {
                what: format!("{what}. Back up the source again; this point stays in the spool and is not counted"),
            });
        }
        Ok(Some(format!("{what}. Bring back the locations, or: holdfast vault repair --apply")))
    }

    /// What is wrong with a pack here concerns the points that need it, and no others.
    async fn place(&mut self, pack: PackId, shown: &Shown) -> Result<()> {
        let placed = self.place_all_shards(pack, shown).await;
        if let Err(OpsError::Corrupt { what, why }) = placed {
            let what = format!("{what} is damaged: {why}. Back up the source again; this point stays in the spool");
            return Err(OpsError::Lost { what });
        }
        placed
    }

    async fn place_all_shards(&mut self, pack: PackId, shown: &Shown) -> Result<()> {
        let header = match self.headers.get(&pack) {
            Some(header) => *header,
            None => self.catalog.pack(pack)?.map(|row| row.header).ok_or_else(|| {
                OpsError::corrupt(format!("pack {} of the spool", pack.short()), "no manifest that waits signs it")
            })?,
        };
        let held = |holdings: &Holdings| holdings.packs.get(&pack).cloned().unwrap_or_default();
        let mut both = Holdings { silent: shown.holdings.silent.clone(), ..Holdings::default() };
        both.packs.insert(pack, [held(&self.contents.holdings), held(&shown.holdings)].concat());
        let fetcher = Fetcher::new(self.vault.world.clone(), both, Trust::Signed(self.vault.writers.clone()));
        let set = fetcher.all_shards(pack, header).await?;
        self.replace_wrong(&set).await?;
        let mut placed = place(self.vault, &set).await;
        put_right(self.vault, &set, &mut placed).await;
        let copies: Vec<_> = placed.copies.iter().map(|copy| (copy.spot.location, copy.index)).collect();
        self.catalog.add_shown(pack, &copies)?;
        heal::note_wrong(self.vault, self.catalog, &placed.debts)?;
        if !survives(&placed.copies, self.vault.coding, self.vault.survive()) {
            return Err(not_durable(self.vault, &placed));
        }
        self.vault.world.reached(Step::DeliverPackPlaced);
        self.catalog.set_pack_state(pack, PackState::Stored)?;
        self.vault.world.progress.add_bytes(self.contents.shard_bytes(pack));
        self.delivery.debts.extend(placed.debts);
        self.placed.insert(pack, placed.copies);
        Ok(())
    }

    /// Writes over shards of a pack that were read and found wrong. No repair knows a pack
    /// that no manifest names.
    async fn replace_wrong(&self, set: &ShardSet) -> Result<()> {
        for failure in self.catalog.failures()?.into_iter().filter(|failure| failure.pack == set.pack()) {
            let at = self.vault.writable().find(|location| location.id == failure.location);
            let Some(at) = at else { continue };
            if write_shard(self.vault, at, set, failure.index, Overwrite::FailedVerification).await.is_ok() {
                self.catalog.clear_failure(failure.location, failure.pack, failure.index)?;
            }
        }
        Ok(())
    }

    /// Takes out packs that stand at the locations and that no waiting point needs.
    async fn clean(&self, needed: &[BTreeSet<PackId>]) -> Result<()> {
        let needed: BTreeSet<&PackId> = needed.iter().flatten().collect();
        let done = self.placed.keys().filter(|pack| !needed.contains(pack)).copied().collect();
        self.spool.remove_packs(&done).await
    }

    /// Packs of a run that died before its point was made: what the catalog knows is
    /// placed, so that the next run uses it; of the rest nobody knows.
    async fn loose(&mut self, needed: &BTreeSet<PackId>, shown: &Shown) -> Result<()> {
        if self.keeps_loose {
            return Ok(());
        }
        let contents = self.spool.contents().await?;
        let mut gone = BTreeSet::new();
        for &pack in contents.holdings.packs.keys().filter(|pack| !needed.contains(pack)) {
            let known = self.catalog.pack(pack)?.filter(|row| row.state == PackState::Spooled);
            if known.is_some() && contents.has_pack(pack, self.vault.coding) {
                match self.make_durable(pack, shown).await {
                    // No point needs it: the next run reads it from its source again.
                    Err(OpsError::Lost { .. }) => self.catalog.drop_pack(pack)?,
                    Err(error) => return Err(error),
                    Ok(Some(_)) => continue,
                    Ok(None) => {}
                }
            }
            gone.insert(pack);
        }
        self.spool.remove_packs(&gone).await
    }
}
