//! Manifests as the locations show them: heads and chains, verified.
//!
//! What always holds: a manifest counts only with its writer's signatures; the
//! newest is the highest (epoch, sequence) any location shows; a head is
//! confirmed when enough domains answered that one liar cannot hide a newer one.
//!
//! A run that died can leave its manifest on fewer domains than a quorum. If those
//! are away when the next run starts, a second manifest is signed for the same
//! place: these are rivals. What the next manifest builds on counts, or what stands
//! on more domains; the points of both are listed, since both have their packs.

use std::collections::{BTreeMap, BTreeSet};

use vault_format::certificate::Role;
use vault_format::envelope::RecordKind;
use vault_format::manifest::{Manifest, ManifestKind};
use vault_format::{Hash, LocationId, WriterId, names};

use crate::error::Result;
use crate::marks::Marks;
use crate::placement::read_quorum;
use crate::vault::Vault;

/// A verified manifest.
#[derive(Clone, Debug)]
pub struct SignedManifest {
    /// Who wrote it.
    pub writer: WriterId,
    /// Hash of its envelope.
    pub hash: Hash,
    /// Its envelope.
    pub bytes: Vec<u8>,
    /// Its body.
    pub body: Manifest,
}

impl SignedManifest {
    /// Its place in the chain.
    pub fn position(&self) -> Position {
        (self.body.epoch, self.body.sequence)
    }

    /// Its name at every location.
    pub fn name(&self) -> String {
        names::manifest(self.writer, self.body.epoch, self.body.sequence)
    }
}

/// A place in a writer's chain.
pub type Position = (u64, u64);

/// What the locations say of one writer.
#[derive(Debug, Default)]
pub struct Chain {
    /// Verified manifests by (epoch, sequence).
    pub manifests: BTreeMap<Position, SignedManifest>,
    /// Manifests signed for a place that another one holds.
    pub rivals: Vec<SignedManifest>,
    /// Names seen whose object could not be read or verified anywhere.
    pub unreadable: Vec<(Position, String)>,
    /// Of the unreadable ones: those that a location which lists them did not give
    /// now, so that nothing is known to be wrong with them.
    pub offline: BTreeSet<Position>,
    /// Positions behind a fence: they do not count.
    pub fenced: Vec<Position>,
    /// The manifests that stand there; read of a whole chain only.
    pub behind: Vec<SignedManifest>,
    /// Well signed, by a certificate that was revoked before their places: they do not
    /// count, and are unreadable for whoever asks for what counts.
    pub revoked: Vec<SignedManifest>,
    /// Positions whose predecessor is missing or has another hash, and no tombstone
    /// names what is missing.
    pub gaps: Vec<Position>,
    /// Whether enough domains answered.
    pub confirmed: bool,
    /// Domains that answered.
    pub answered: BTreeSet<u16>,
    /// Locations that did not answer, and why.
    pub silent: Vec<(String, String)>,
    /// Places whose object was deleted at that location, which keeps an older version.
    pub hidden: Vec<(Position, String)>,
    /// Domains each position was seen in.
    pub seen: BTreeMap<Position, BTreeSet<u16>>,
    /// The newest name each location that answered lists; `None` if it lists none.
    pub listed: BTreeMap<LocationId, Option<Position>>,
}

impl Chain {
    /// The newest manifest.
    pub fn head(&self) -> Option<&SignedManifest> {
        self.manifests.last_key_value().map(|(_, manifest)| manifest)
    }

    /// All manifests, rivals too, in the order of their places.
    pub fn all(&self) -> Vec<&SignedManifest> {
        let mut all: Vec<_> = self.rivals.iter().chain(self.manifests.values()).collect();
        all.sort_by_key(|manifest| manifest.position());
        all
    }
}

impl Chain {
    /// Reads what stands at a place behind a fence. What nobody ever signed is nothing.
    async fn look_behind(&mut self, vault: &Vault, writer: WriterId, position: Position, holders: &[usize]) {
        match read_place(&vault.unfenced(), writer, position, holders, None).await {
            Ok((manifest, rivals)) => self.behind.extend([manifest].into_iter().chain(rivals)),
            Err(unread) => {
                if unread.offline {
                    self.offline.insert(position);
                }
                self.revoked.extend(unread.revoked);
            }
        }
    }

    /// The first of an epoch names the last one before that its writer knew, which may
    /// be any earlier one, or none, or one that does not count or is gone; every other
    /// names the one before it.
    fn find_gaps(&self, marks: &Marks, writer: WriterId) -> Vec<Position> {
        let (mut before, mut previous) = (None, Hash::default());
        let uncounted = self.behind.iter().chain(&self.revoked).map(|manifest| manifest.hash);
        let mut earlier: BTreeSet<Hash> = uncounted.chain([previous]).collect();
        let mut gaps = Vec::new();
        for (&position, manifest) in &self.manifests {
            let named = manifest.body.previous;
            let opens_an_epoch = position.1 == 1 && (earlier.contains(&named) || marks.is_hash_swept(writer, named));
            if named != previous && !opens_an_epoch && !marks.is_legal_gap(writer, before, position, named) {
                gaps.push(position);
            }
            (before, previous) = (Some(position), manifest.hash);
            earlier.insert(previous);
        }
        gaps
    }
}

/// How much of a chain to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The newest only.
    Head,
    /// All of it.
    Whole,
}

/// Reads a writer's manifests from every reachable location.
pub async fn chain(vault: &Vault, writer: WriterId, depth: Depth) -> Result<Chain> {
    let mut chain = Chain::default();
    let mut holders: BTreeMap<Position, Vec<usize>> = BTreeMap::new();
    let folder = names::manifests_of(writer);
    let lists = futures::future::join_all(vault.locations.iter().map(|location| location.list_kept(&folder))).await;
    for (at, listed) in lists.into_iter().enumerate() {
        let location = &vault.locations[at];
        match listed {
            Ok((listed, hidden)) => {
                chain.answered.insert(location.domain);
                let newest = chain.listed.entry(location.id).or_default();
                for object in listed {
                    if let Some((_, epoch, sequence)) = names::parse_manifest(&object.name) {
                        if hidden.contains(&object.name) {
                            chain.hidden.push(((epoch, sequence), location.name.clone()));
                        } else {
                            *newest = (*newest).max(Some((epoch, sequence)));
                        }
                        holders.entry((epoch, sequence)).or_default().push(at);
                        chain.seen.entry((epoch, sequence)).or_default().insert(location.domain);
                    }
                }
            }
            Err(error) => chain.silent.push((location.name.clone(), error.to_string())),
        }
    }
    for gone in vault.absent.iter().filter(|gone| gone.unreachable) {
        chain.silent.push((gone.name.clone(), gone.why.clone()));
    }
    let domains = vault.domains();
    // A domain that is being emptied has no vote.
    chain.confirmed = chain.answered.intersection(&domains).count() >= read_quorum(domains.len());
    for (&position, at) in holders.iter().rev() {
        if !vault.marks.fences.permit(writer, position) {
            chain.fenced.push(position);
            if depth == Depth::Whole {
                chain.look_behind(vault, writer, position, at).await;
            }
            continue;
        }
        let named = chain.manifests.first_key_value().map(|(_, next)| next.body.previous);
        match read_place(vault, writer, position, at, named).await {
            Ok((manifest, rivals)) => {
                // A swept one still stands on a location that was away: it is nobody's any more.
                let swept = |found: &SignedManifest| vault.marks.is_manifest_swept(writer, position, found.hash);
                chain.rivals.extend(rivals.into_iter().filter(|rival| !swept(rival)));
                if swept(&manifest) {
                    continue;
                }
                chain.manifests.insert(position, manifest);
                if depth == Depth::Head {
                    break;
                }
            }
            Err(_) if vault.marks.is_place_swept(writer, position) => {}
            Err(unread) => {
                if unread.offline {
                    chain.offline.insert(position);
                }
                chain.revoked.extend(unread.revoked);
                chain.unreadable.push((position, unread.why));
            }
        }
    }
    // What was read of a place is told; what nobody could read is unreadable.
    chain.hidden.retain(|(position, _)| chain.manifests.contains_key(position));
    if depth == Depth::Whole {
        chain.gaps = chain.find_gaps(&vault.marks, writer);
    }
    Ok(chain)
}

/// Why a manifest could not be read anywhere.
struct Unread {
    why: String,
    /// Somebody who lists it did not answer.
    offline: bool,
    /// What would count if its certificate did.
    revoked: Vec<SignedManifest>,
}

/// The manifest that holds a place, and its rivals. `named` is what the next one
/// builds on: if the first copy is that one, nobody else is asked.
async fn read_place(
    vault: &Vault,
    writer: WriterId,
    position: Position,
    holders: &[usize],
    named: Option<Hash>,
) -> std::result::Result<(SignedManifest, Vec<SignedManifest>), Unread> {
    if named.is_some() {
        let manifest = read_manifest(vault, writer, position, holders).await?;
        if Some(manifest.hash) == named {
            return Ok((manifest, Vec::new()));
        }
    }
    let name = names::manifest(writer, position.0, position.1);
    let right = |bytes: &bytes::Bytes| verify(vault, writer, position, bytes.to_vec()).is_ok();
    let reads = holders.iter().map(|&at| vault.locations[at].read_right(&name, right));
    let mut copies: BTreeMap<Vec<u8>, BTreeSet<u16>> = BTreeMap::new();
    let (mut why, mut offline) = (Vec::new(), false);
    for (read, &at) in futures::future::join_all(reads).await.into_iter().zip(holders) {
        let location = &vault.locations[at];
        match read {
            Ok(Some(bytes)) => {
                copies.entry(bytes.to_vec()).or_default().insert(location.domain);
            }
            Ok(None) => why.push(format!("{}: listed but not there", location.name)),
            Err(error) => {
                offline |= error.kind() != backends::Kind::Corrupt;
                why.push(error.to_string());
            }
        }
    }
    let (mut good, mut revoked) = (Vec::new(), Vec::new());
    for (bytes, domains) in copies {
        match judge(vault, writer, position, bytes) {
            Judged::Counts(manifest) => good.push((manifest, domains.len())),
            Judged::Revoked(manifest) => {
                why.push(REVOKED.to_owned());
                revoked.push(manifest);
            }
            Judged::Bad(reason) => why.push(reason),
        }
    }
    good.sort_by_key(|(manifest, domains)| (Some(manifest.hash) == named, *domains, manifest.hash));
    let (manifest, _) = good.pop().ok_or_else(|| Unread { why: why.join("; "), offline, revoked })?;
    Ok((manifest, good.into_iter().map(|(rival, _)| rival).collect()))
}

async fn read_manifest(
    vault: &Vault,
    writer: WriterId,
    (epoch, sequence): Position,
    holders: &[usize],
) -> std::result::Result<SignedManifest, Unread> {
    let name = names::manifest(writer, epoch, sequence);
    let (mut why, mut offline, mut revoked) = (Vec::new(), false, Vec::new());
    for &at in holders {
        let location = &vault.locations[at];
        let right = |bytes: &bytes::Bytes| verify(vault, writer, (epoch, sequence), bytes.to_vec()).is_ok();
        match location.read_right(&name, right).await {
            Ok(Some(bytes)) => match judge(vault, writer, (epoch, sequence), bytes.to_vec()) {
                Judged::Counts(manifest) => return Ok(manifest),
                Judged::Revoked(manifest) => {
                    why.push(format!("{}: {REVOKED}", location.name));
                    revoked.push(manifest);
                }
                Judged::Bad(reason) => why.push(format!("{}: {reason}", location.name)),
            },
            Ok(None) => why.push(format!("{}: listed but not there", location.name)),
            Err(error) => {
                offline |= error.kind() != backends::Kind::Corrupt;
                why.push(error.to_string());
            }
        }
    }
    Err(Unread { why: why.join("; "), offline, revoked })
}

/// What a manifest's bytes are worth.
enum Judged {
    Counts(SignedManifest),
    /// Signed by its writer, with a certificate that was revoked before this place.
    Revoked(SignedManifest),
    Bad(String),
}

const REVOKED: &str = "its certificate was revoked before this place in the chain";

/// Verifies a manifest's signatures, kind, place and certificate.
pub fn verify(
    vault: &Vault,
    writer: WriterId,
    position: Position,
    bytes: Vec<u8>,
) -> std::result::Result<SignedManifest, String> {
    match judge(vault, writer, position, bytes) {
        Judged::Counts(manifest) => Ok(manifest),
        Judged::Revoked(_) => Err(REVOKED.to_owned()),
        Judged::Bad(why) => Err(why),
    }
}

fn judge(vault: &Vault, writer: WriterId, position: Position, bytes: Vec<u8>) -> Judged {
    let mut why = "no certificate of this writer is known".to_owned();
    for key in vault.writers.values().filter(|key| key.subject() == writer) {
        let verified = match key.verify(&bytes, RecordKind::Manifest) {
            Ok(verified) => verified,
            Err(error) => {
                why = error.to_string();
                continue;
            }
        };
        let body: Manifest = match verified.decode("manifest") {
            Ok(body) => body,
            Err(error) => return Judged::Bad(error.to_string()),
        };
        if key.role() == Role::Migrator && body.kind == ManifestKind::Point {
            return Judged::Bad("a migrator signed it, and it is no successor of a point".to_owned());
        }
        if (body.epoch, body.sequence) != position {
            return Judged::Bad("it was signed for another place in the chain".to_owned());
        }
        if !vault.marks.fences.permit(writer, position) {
            return Judged::Bad("it stands behind a fence of its writer's epoch".to_owned());
        }
        let at = keys::revocation::Position { epoch: body.epoch, sequence: body.sequence };
        let permitted = vault.revocations.permits(&key.certificate_hash(), at);
        let manifest = SignedManifest { writer, hash: verified.hash(), bytes, body };
        return if permitted { Judged::Counts(manifest) } else { Judged::Revoked(manifest) };
    }
    Judged::Bad(why)
}
