//! Marks: what all tombstones and fences say, read from every location.
//!
//! What always holds: a mark counts only with a janitor's or an operator's
//! signatures; every tombstone carries an epoch higher than all its signer had
//! seen, so what was said later counts, and of two things said at once the one
//! that keeps data; a reading is confirmed when enough domains answered in full
//! that no single one can hide a tombstone; an epoch counts as seen only if its
//! tombstone stands on a write quorum, so that every confirmed reading after it
//! shows it too. A hole in a janitor's chain stops garbage collection and nothing
//! else. See docs/decisions/0014.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use keys::certificate::CertifiedKey;
use vault_format::certificate::{Fence, Role};
use vault_format::envelope::RecordKind;
use vault_format::tombstone::{ManifestRef, Tombstone, TombstoneAction};
use vault_format::{Hash, LocationId, PackId, WriterId, names};

use crate::fences::{Fences, SignedFence};
use crate::heads::Position;
use crate::location::Location;
use crate::pins::Pins;
use crate::placement::{Spot, read_quorum, write_quorum};
use crate::vault::Vault;

/// Records read at once from one location.
const AT_ONCE: usize = 8;

/// A verified tombstone.
#[derive(Clone, Debug)]
pub struct SignedTombstone {
    /// Who signed it: the subject of a janitor's or an operator's certificate.
    pub janitor: WriterId,
    /// Hash of its envelope.
    pub hash: Hash,
    /// Its envelope.
    pub bytes: Vec<u8>,
    /// Its body.
    pub body: Tombstone,
    /// Domains that show it.
    pub domains: BTreeSet<u16>,
}

impl SignedTombstone {
    /// Its name on every location.
    pub fn name(&self) -> String {
        names::tombstone(self.janitor, self.body.sequence)
    }

    /// How long what it names stays, whatever clock looks.
    pub fn grace_ms(&self) -> i64 {
        self.body.delete_after_ms.saturating_sub(self.body.created_ms).max(0)
    }
}

/// What the tombstones say of a manifest or a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// In the trash (a manifest) or condemned (a pack).
    Trashed {
        /// Tombstones that put it there and still count, oldest first, by hash.
        by: Vec<Hash>,
        /// The owner said that the grace period need not be waited for.
        purged: bool,
    },
    /// Deleted, or being deleted.
    Swept,
}

/// A manifest by its place and hash.
pub type ManifestKey = (WriterId, Position, Hash);

/// All tombstones and fences that verified, and what they say.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// In the order in which they count.
    pub tombstones: Vec<SignedTombstone>,
    /// Writers' epochs that are closed.
    pub fences: Fences,
    /// Whether enough domains answered in full.
    pub confirmed: bool,
    /// Whether so many domains answered, by a location at least, that one of them shows
    /// whatever stands on a write quorum: a point is reported by no less. (What a domain
    /// has only at a location of it that is away is missed; whoever writes tombstones and
    /// fences writes them to every location that answers.)
    pub covered: bool,
    /// Locations that did not answer in full, and why.
    pub silent: Vec<(String, String)>,
    /// Why the tombstones cannot all be known: stops garbage collection.
    pub holes: Vec<String>,
    /// Objects under our names that nobody entitled signed.
    pub quarantined: Vec<String>,
    /// What they say of pins.
    pub pins: Pins,
    packs: BTreeMap<PackId, Mark>,
    manifests: BTreeMap<ManifestKey, Mark>,
    /// Places of swept manifests, with their hashes.
    swept: BTreeMap<(WriterId, Position), BTreeSet<Hash>>,
    write_quorum: usize,
    /// What was read before: records are immutable and need no second reading.
    read: BTreeMap<(LocationId, String), Arc<Record>>,
}

/// A record as one location shows it.
#[derive(Debug)]
enum Record {
    Tombstone(SignedTombstone),
    Fence(SignedFence),
    /// A revocation, which is no business of this module.
    Other,
    /// Neither; why, and whether a known janitor's name stands over it.
    Bad {
        why: String,
        known: bool,
    },
}

/// Reads tombstones and fences from every location that answers.
pub async fn read(vault: &Vault) -> Marks {
    let reads = vault.locations.iter().map(|location| read_location(vault, location));
    let outcomes = futures::future::join_all(reads).await;
    let mut marks = Marks { write_quorum: write_quorum(vault.domains().len()), ..Marks::default() };
    for gone in vault.absent.iter().filter(|gone| gone.unreachable) {
        marks.silent.push((gone.name.clone(), gone.why.clone()));
    }
    for (location, outcome) in vault.locations.iter().zip(outcomes) {
        let (records, why) = outcome;
        marks.read.extend(records.into_iter().map(|(name, record)| ((location.id, name), record)));
        if let Some(why) = why {
            marks.silent.push((location.name.clone(), why));
        }
    }
    let (answering, domains) = (answering_in_full(vault, &marks.silent).len(), vault.domains().len());
    marks.confirmed = answering >= read_quorum(domains);
    marks.covered = answering_at_all(vault, &marks.silent).len() + write_quorum(domains) > domains;
    marks.gather(vault);
    marks
}

/// Domains of which no location that takes part is silent: only these cannot hide
/// what was written to one of their locations.
pub(crate) fn answering_in_full(vault: &Vault, silent: &[(String, String)]) -> BTreeSet<u16> {
    let mut domains = vault.domains();
    for spot in vault.spots() {
        let here = vault.location(spot.location).filter(|location| !location.blank);
        if here.is_none_or(|location| silent.iter().any(|(name, _)| *name == location.name)) {
            domains.remove(&spot.domain);
        }
    }
    domains
}

/// Domains of which some location answers.
fn answering_at_all(vault: &Vault, silent: &[(String, String)]) -> BTreeSet<u16> {
    let answers = |spot: &Spot| {
        let here = vault.location(spot.location).filter(|location| !location.blank);
        here.is_some_and(|location| !silent.iter().any(|(name, _)| *name == location.name))
    };
    vault.spots().iter().filter(|spot| answers(spot)).map(|spot| spot.domain).collect()
}

type LocationRecords = (Vec<(String, Arc<Record>)>, Option<String>);

/// What a location shows; and why that may not be all, if so.
async fn read_location(vault: &Vault, location: &Location) -> LocationRecords {
    let mut listed = Vec::new();
    for folder in [names::TOMBSTONES, names::REVOCATIONS] {
        // Tombstones stand for ever: one that is hidden was hidden by a thief.
        match location.list_kept(folder).await {
            Ok((found, _)) => listed.extend(found.into_iter().map(|object| object.name)),
            Err(error) => return (Vec::new(), Some(error.to_string())),
        }
    }
    // What was no record of anybody known then may be one now.
    let is_good = |record: &Arc<Record>| !matches!(**record, Record::Bad { .. });
    let known = |name: &String| vault.marks.read.get(&(location.id, name.clone())).cloned().filter(is_good);
    let reads = futures::stream::iter(listed).map(|name| async {
        if let Some(record) = known(&name) {
            return (name, Ok(record));
        }
        let right = |bytes: &bytes::Bytes| !matches!(verify(vault, &name, bytes), Record::Bad { .. });
        let record = match location.read_right(&name, right).await {
            Ok(Some(bytes)) => Ok(Arc::new(verify(vault, &name, &bytes))),
            Ok(None) => Err(format!("{name}: listed but not there")),
            Err(error) => Err(error.to_string()),
        };
        (name, record)
    });
    let (mut records, mut why) = (Vec::new(), location.blank.then(|| "it is empty: not mounted, or a new disk".into()));
    for (name, outcome) in reads.buffered(AT_ONCE).collect::<Vec<_>>().await {
        match outcome {
            Ok(record) => records.push((name, record)),
            Err(error) => why = Some(error),
        }
    }
    (records, why)
}

fn verify(vault: &Vault, name: &str, bytes: &[u8]) -> Record {
    if name.starts_with(names::TOMBSTONES) { verify_tombstone(vault, name, bytes) } else { verify_fence(vault, bytes) }
}

fn verify_tombstone(vault: &Vault, name: &str, bytes: &[u8]) -> Record {
    let bad = |why: String, known| Record::Bad { why, known };
    let Some((janitor, sequence)) = names::parse_tombstone(name) else {
        return bad("its name is not a tombstone's".to_owned(), false);
    };
    let mut why = None;
    for key in vault.janitors.iter().filter(|key| key.subject() == janitor) {
        let verified = match key.verify(bytes, RecordKind::Tombstone) {
            Ok(verified) => verified,
            Err(error) => {
                why = Some(error.to_string());
                continue;
            }
        };
        let Ok(body) = verified.decode::<Tombstone>("tombstone") else {
            return bad(
                "its signed body is no tombstone: a newer version wrote it, or its signer errs".to_owned(),
                true,
            );
        };
        if body.sequence != sequence {
            return bad("it was signed for another place in its janitor's chain".to_owned(), true);
        }
        if !is_permitted(vault, key, &body) {
            return bad("its janitor's certificate was revoked before it".to_owned(), false);
        }
        let (hash, bytes) = (verified.hash(), bytes.to_vec());
        return Record::Tombstone(SignedTombstone { janitor, hash, bytes, body, domains: BTreeSet::new() });
    }
    let known = why.is_some();
    bad(why.unwrap_or_else(|| "no certificate of its janitor is known".to_owned()), known)
}

/// Whether a tombstone counts whose signer's key may be revoked. A janitor's epochs rise
/// with its sequence, so that neither may be behind what was good: the epoch alone is the
/// signer's word, and a thief dates it back.
fn is_permitted(vault: &Vault, key: &CertifiedKey, body: &Tombstone) -> bool {
    let at = keys::revocation::Position { epoch: body.gc_epoch, sequence: body.sequence };
    let Some(last) = vault.revocations.last_good(&key.certificate_hash()) else { return true };
    // An operator's position tells layouts and serials, which say little of tombstones.
    at <= last && (key.role() != Role::Janitor || at.sequence <= last.sequence)
}

/// A fence counts only while its signer does: its epoch is its signer's word, so that no
/// position tells an honest one from one that a thief dates back. What stands behind one
/// that counts no more counts again, and a janitor that is trusted fences anew.
fn verify_fence(vault: &Vault, bytes: &[u8]) -> Record {
    let mut revoked = false;
    for key in &vault.janitors {
        if let Ok(verified) = key.verify(bytes, RecordKind::Fence)
            && let Ok(body) = verified.decode::<Fence>("fence")
        {
            if vault.revocations.is_revoked(&key.certificate_hash()) {
                revoked = true;
                continue;
            }
            let (hash, bytes) = (verified.hash(), bytes.to_vec());
            return Record::Fence(SignedFence { hash, bytes, body, domains: BTreeSet::new() });
        }
    }
    if revoked {
        return Record::Bad { why: "a fence by a key that was revoked: it closes nothing".to_owned(), known: false };
    }
    Record::Other
}

impl Marks {
    /// Gathers what the locations showed into one view.
    fn gather(&mut self, vault: &Vault) {
        let mut tombstones: BTreeMap<Hash, SignedTombstone> = BTreeMap::new();
        let mut fences: BTreeMap<Hash, SignedFence> = BTreeMap::new();
        let mut bad: BTreeMap<&String, (String, bool, BTreeSet<u16>)> = BTreeMap::new();
        for ((location, name), record) in &self.read {
            let Some(location) = vault.location(*location) else { continue };
            match record.as_ref() {
                Record::Tombstone(signed) => {
                    let entry = tombstones.entry(signed.hash).or_insert_with(|| signed.clone());
                    entry.domains.insert(location.domain);
                }
                Record::Fence(signed) => {
                    let entry = fences.entry(signed.hash).or_insert_with(|| signed.clone());
                    entry.domains.insert(location.domain);
                }
                Record::Other => {}
                Record::Bad { why, known } => {
                    let why = format!("{name} at {}: {why}", location.name);
                    let entry = bad.entry(name).or_insert((why, false, BTreeSet::new()));
                    entry.1 |= *known;
                    entry.2.insert(location.domain);
                }
            }
        }
        self.tombstones = tombstones.into_values().collect();
        self.tombstones.sort_by_key(|signed| {
            (signed.body.gc_epoch, rank(signed.body.action), signed.janitor, signed.body.sequence, signed.hash)
        });
        self.fences = Fences::new(fences.into_values().collect(), self.write_quorum);
        let good: BTreeSet<String> = self.tombstones.iter().map(SignedTombstone::name).collect();
        let (answering, domains) = (answering_in_full(vault, &self.silent), vault.domains());
        for (name, (why, known, shown)) in bad {
            // On fewer domains than a quorum it is nothing that ever counted.
            let could_stand = domains.iter().filter(|domain| shown.contains(domain) || !answering.contains(domain));
            let holes = known && could_stand.count() >= self.write_quorum && !good.contains(name);
            if holes { &mut self.holes } else { &mut self.quarantined }.push(why);
        }
        self.set_rivals_aside(vault);
        self.find_gaps();
        for at in 0..self.tombstones.len() {
            let signed = self.tombstones[at].clone();
            self.pins.heed(at, &signed.body);
            self.apply(&signed);
        }
    }

    /// What a revoked janitor's key signed for a place that another tombstone of it holds on
    /// a quorum was signed by whoever took the key.
    fn set_rivals_aside(&mut self, vault: &Vault) {
        let of = |janitor: WriterId| vault.janitors.iter().filter(move |key| key.subject() == janitor);
        let is_revoked = |key: &Arc<CertifiedKey>| vault.revocations.is_revoked(&key.certificate_hash());
        let standing: BTreeSet<String> =
            self.tombstones.iter().filter(|signed| self.stands(signed)).map(SignedTombstone::name).collect();
        let is_rival = |signed: &SignedTombstone| {
            signed.domains.len() < self.write_quorum
                && standing.contains(&signed.name())
                && of(signed.janitor).all(is_revoked)
        };
        let (aside, kept) = self.tombstones.drain(..).partition(is_rival);
        self.tombstones = kept;
        let aside: Vec<SignedTombstone> = aside;
        let why = |signed: &SignedTombstone| format!("{}: a rival by a key that was revoked", signed.name());
        self.quarantined.extend(aside.iter().map(why));
    }

    /// Sequences of a janitor are dense from 1 and each names one before it.
    fn find_gaps(&mut self) {
        let mut chains: BTreeMap<WriterId, BTreeMap<u64, Vec<&SignedTombstone>>> = BTreeMap::new();
        for signed in &self.tombstones {
            chains.entry(signed.janitor).or_default().entry(signed.body.sequence).or_default().push(signed);
        }
        let mut holes = Vec::new();
        for (janitor, chain) in chains {
            let mut before: Vec<Hash> = vec![Hash::default()];
            let mut next = 1;
            for (sequence, here) in chain {
                let follows = sequence == next && here.iter().all(|signed| before.contains(&signed.body.previous));
                if !follows {
                    holes.push(format!("the tombstone before {sequence} of janitor {} is missing", janitor.short()));
                }
                before = here.iter().map(|signed| signed.hash).collect();
                next = sequence + 1;
            }
        }
        self.holes.extend(holes);
    }

    fn apply(&mut self, signed: &SignedTombstone) {
        let (action, by) = (signed.body.action, signed.hash);
        for pack in &signed.body.packs {
            let mark = self.packs.remove(pack);
            if let Some(mark) = after(mark, action, by) {
                self.packs.insert(*pack, mark);
            }
        }
        for named in &signed.body.manifests {
            let key = manifest_key(named);
            let mark = self.manifests.remove(&key);
            if let Some(mark) = after(mark, action, by) {
                if mark == Mark::Swept {
                    self.swept.entry((key.0, key.1)).or_default().insert(key.2);
                }
                self.manifests.insert(key, mark);
            }
        }
    }

    /// The mark of a pack.
    pub fn pack(&self, pack: PackId) -> Option<&Mark> {
        self.packs.get(&pack)
    }

    /// The mark of a manifest.
    pub fn manifest(&self, writer: WriterId, position: Position, hash: Hash) -> Option<&Mark> {
        self.manifests.get(&(writer, position, hash))
    }

    /// Whether a point at this place is in the trash or gone, whichever manifest
    /// holds it: for lists that know no hash.
    pub fn is_place_marked(&self, writer: WriterId, position: Position) -> bool {
        let from = (writer, position, Hash([0; 32]));
        let to = (writer, position, Hash([0xff; 32]));
        self.manifests.range(from..=to).next().is_some()
    }

    /// All marked packs.
    pub fn packs(&self) -> impl Iterator<Item = (PackId, &Mark)> {
        self.packs.iter().map(|(pack, mark)| (*pack, mark))
    }

    /// All marked manifests.
    pub fn manifests(&self) -> impl Iterator<Item = (ManifestKey, &Mark)> {
        self.manifests.iter().map(|(key, mark)| (*key, mark))
    }

    /// Whether a pack must not be referenced by anything new: it is condemned or gone.
    pub fn is_condemned(&self, pack: PackId) -> bool {
        self.packs.contains_key(&pack)
    }

    /// Whether a pack is gone, or going: nobody misses its shards.
    pub fn is_swept(&self, pack: PackId) -> bool {
        self.packs.get(&pack) == Some(&Mark::Swept)
    }

    /// Whether a manifest is gone, or going.
    pub fn is_manifest_swept(&self, writer: WriterId, position: Position, hash: Hash) -> bool {
        self.swept.get(&(writer, position)).is_some_and(|hashes| hashes.contains(&hash))
    }

    /// Whether any manifest of this place is gone, or going.
    pub fn is_place_swept(&self, writer: WriterId, position: Position) -> bool {
        self.swept.contains_key(&(writer, position))
    }

    /// Whether a manifest of this writer with this hash is gone, or going.
    pub fn is_hash_swept(&self, writer: WriterId, hash: Hash) -> bool {
        let all = self.swept.range((writer, (0, 0))..=(writer, (u64::MAX, u64::MAX)));
        all.into_iter().any(|(_, hashes)| hashes.contains(&hash))
    }

    /// What tombstones that stand on a quorum swept: only this may be deleted. A sweep
    /// that reached fewer domains is heeded by whoever sees it, and not acted on.
    pub(crate) fn swept_on_quorum(&self) -> (BTreeSet<PackId>, BTreeSet<ManifestKey>) {
        let sweeps = self.tombstones.iter().filter(|signed| signed.body.action == TombstoneAction::Sweep);
        let (mut packs, mut manifests) = (BTreeSet::new(), BTreeSet::new());
        for signed in sweeps.filter(|signed| self.stands(signed)) {
            packs.extend(signed.body.packs.iter().copied());
            manifests.extend(signed.body.manifests.iter().map(manifest_key));
        }
        (packs, manifests)
    }

    /// Other tombstones for the same place of a janitor's chain: two that ran at once
    /// with one key wrote both.
    pub(crate) fn has_rivals(&self, signed: &SignedTombstone) -> bool {
        self.tombstones.iter().any(|other| other.name() == signed.name() && other.hash != signed.hash)
    }

    /// Whether the gap before a manifest is legal: tombstones name every manifest
    /// between the one before it that is there and it, and one of them is what it
    /// builds on.
    pub fn is_legal_gap(&self, writer: WriterId, before: Option<Position>, next: Position, previous: Hash) -> bool {
        let from = before.unwrap_or((0, 0));
        let swept = self.swept.range((writer, from)..(writer, next)).filter(|((_, at), _)| *at > from);
        let mut found = false;
        let mut expected: BTreeMap<u64, u64> = BTreeMap::from([(from.0, from.1 + 1)]);
        for ((_, (epoch, sequence)), hashes) in swept {
            let due = expected.entry(*epoch).or_insert(1);
            if *sequence != *due {
                return false;
            }
            *due += 1;
            found |= hashes.contains(&previous);
        }
        found && expected.get(&next.0).copied().unwrap_or(1) == next.1
    }

    /// The newest epoch any tombstone carries: what is written next carries one more.
    pub fn newest_epoch(&self) -> u64 {
        self.tombstones.last().map_or(0, |signed| signed.body.gc_epoch)
    }

    /// The newest epoch that every confirmed reading after this one shows too, with
    /// no hole before it: what a writer may say it has seen.
    pub fn seen_epoch(&self) -> u64 {
        if !self.confirmed || !self.holes.is_empty() {
            return 0;
        }
        let standing = self.tombstones.iter().filter(|signed| signed.domains.len() >= self.write_quorum);
        standing.map(|signed| signed.body.gc_epoch).max().unwrap_or(0)
    }

    /// Whether a tombstone stands on a write quorum of domains.
    pub fn stands(&self, signed: &SignedTombstone) -> bool {
        signed.domains.len() >= self.write_quorum
    }

    /// A tombstone by its hash.
    pub fn tombstone(&self, hash: Hash) -> Option<&SignedTombstone> {
        self.tombstones.iter().find(|signed| signed.hash == hash)
    }

    /// The newest of a janitor: what its next builds on.
    pub fn newest_of(&self, janitor: WriterId) -> Option<&SignedTombstone> {
        let own = self.tombstones.iter().filter(|signed| signed.janitor == janitor);
        own.max_by_key(|signed| (signed.body.sequence, signed.domains.len(), signed.hash))
    }

    /// Whether bytes are a tombstone that verified for the place of this name: a rival of
    /// the one known there, never to be overwritten.
    pub(crate) fn knows_as(&self, name: &str, bytes: &[u8]) -> bool {
        self.tombstone(keys::record::hash(bytes)).is_some_and(|signed| signed.name() == name)
    }

    /// The same marks with every fence in force that anybody shows.
    pub(crate) fn heeding(&self) -> Self {
        Self { fences: self.fences.heeded(), ..self.clone() }
    }

    /// The same marks with no fence in force: a janitor looks behind its fences.
    pub(crate) fn without_fences(&self) -> Self {
        Self { fences: Fences::default(), ..self.clone() }
    }

    /// Names and bytes of all records, for every location.
    pub(crate) fn records(&self) -> BTreeMap<String, Vec<u8>> {
        let mut by_name: BTreeMap<String, &SignedTombstone> = BTreeMap::new();
        for signed in &self.tombstones {
            let held = by_name.entry(signed.name()).or_insert(signed);
            if (signed.domains.len(), signed.hash) > (held.domains.len(), held.hash) {
                *held = signed;
            }
        }
        let fences = self.fences.all().iter().map(|fence| (names::revocation(fence.hash), fence.bytes.clone()));
        by_name.into_iter().map(|(name, signed)| (name, signed.bytes.clone())).chain(fences).collect()
    }
}

/// Of tombstones of one epoch, made at once, the one that keeps data comes last.
fn rank(action: TombstoneAction) -> u8 {
    match action {
        TombstoneAction::Trash => 0,
        TombstoneAction::Purge => 1,
        TombstoneAction::Sweep => 2,
        TombstoneAction::Restore => 3,
        TombstoneAction::Unpin => 4,
        TombstoneAction::Pin => 5,
    }
}

/// What a tombstone makes of a mark. A pin makes nothing of it: neither does it bring
/// anything out of the trash, nor does it go there.
fn after(mark: Option<Mark>, action: TombstoneAction, hash: Hash) -> Option<Mark> {
    let trashed = |purges: bool| match mark.clone() {
        Some(Mark::Swept) => Some(Mark::Swept),
        Some(Mark::Trashed { mut by, purged }) => {
            by.push(hash);
            Some(Mark::Trashed { by, purged: purged || purges })
        }
        None => Some(Mark::Trashed { by: vec![hash], purged: purges }),
    };
    match action {
        TombstoneAction::Restore => None,
        TombstoneAction::Sweep => Some(Mark::Swept),
        TombstoneAction::Trash => trashed(false),
        TombstoneAction::Purge => trashed(true),
        TombstoneAction::Pin | TombstoneAction::Unpin => mark,
    }
}

/// A manifest as a tombstone names it.
pub fn manifest_key(named: &ManifestRef) -> ManifestKey {
    (named.writer, (named.epoch, named.sequence), named.manifest)
}
