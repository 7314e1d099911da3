//! Rotation: a new seed for an old vault, and how trust and keys pass from one
//! generation to the next.
//!
//! What always holds: a new root counts only with the signature of the one before
//! it, back to the root that is trusted from outside; once a later root is known,
//! nothing an earlier one signs anew counts; where two roots claim to follow one,
//! neither is believed; the older generation's keys are sealed to the new one, so
//! that the new seed opens everything, and never the other way round. The keys
//! operators and writers sign with do not change: what they signed stays good.

use rand_core::CryptoRng;
use vault_format::certificate::{Revocation, Role};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::sealed::SealedField;
use vault_format::shard::Signatures;
use vault_format::suite::{ED25519_BYTES, SIGNATURES_BYTES};
use vault_format::vault::{CrossSignature, KemKey, KemRole, KeyHistoryEntry, VaultRecord};
use vault_format::{Blob, Hash, RecipientId, ScopeId, VaultId};

use crate::certificate::{self, Authority, CertifiedKey, Request};
use crate::dedup::{DedupRoot, IdKey};
use crate::error::{KeysError, Result};
use crate::files::{JanitorGeneration, JanitorKey, OperatorKey, ReadGeneration, ReadKey, WriterKey};
use crate::first::CERTIFICATE_MS;
use crate::kem::{RecipientPrivate, RecipientPublic};
use crate::labels;
use crate::record;
use crate::revocation::Revocations;
use crate::secret::{Secret, SecretBytes};
use crate::seed::{Generation, Seed};
use crate::signature::{SigningKey, VerifyingKey};
use crate::wrap;

/// The vault record in force, and the line of roots that leads to it.
pub struct InForce {
    /// The root that signed it.
    pub root: VerifyingKey,
    /// The roots before it that it vouches for, oldest first.
    pub former: Vec<VerifyingKey>,
    /// The record.
    pub record: VaultRecord,
    /// Hash of its envelope.
    pub hash: Hash,
    /// Its envelope.
    pub bytes: Vec<u8>,
}

/// Finds the vault record in force among all that are shown: of the newest root in
/// the line of `pinned`, the one of the highest epoch. `None` if there is none.
///
/// An error if two roots claim to follow one: whoever holds an old seed can sign such
/// a claim, so that somebody must say which is right, by the public file of it.
pub fn in_force<'a>(
    vault: VaultId,
    pinned: &VerifyingKey,
    shown: impl IntoIterator<Item = &'a Vec<u8>>,
) -> Result<Option<InForce>> {
    let mut counting: Vec<InForce> = shown.into_iter().filter_map(|bytes| counts(vault, pinned, bytes)).collect();
    let Some(tip) = counting.iter().max_by_key(|found| found.former.len()) else { return Ok(None) };
    let is_in_line = |found: &InForce| found.root == tip.root || tip.former.contains(&found.root);
    if !counting.iter().all(is_in_line) {
        return Err(KeysError::Roots {
            reason: "two keys claim to follow the one that is trusted here. Whoever holds the old seed can sign such a \
                     claim: bring the vault.pub of the rotation that was meant, and the key files made with it",
        });
    }
    let tip = tip.root.clone();
    counting.retain(|found| found.root == tip);
    Ok(counting.into_iter().max_by_key(|found| (found.record.epoch, found.hash)))
}

/// A record that its own root signed, if `pinned` is that root or leads to it.
fn counts(vault: VaultId, pinned: &VerifyingKey, bytes: &[u8]) -> Option<InForce> {
    let claimed = Envelope::decode(bytes).ok().filter(|found| found.kind == RecordKind::Vault)?;
    let record: VaultRecord = vault_format::decode("vault record", &claimed.body).ok()?;
    let root = VerifyingKey::from_slice(&record.root_public.0).ok()?;
    let verified = record::verify(bytes, RecordKind::Vault, vault, &root).ok()?;
    let former = line(&record);
    let trusted = root == *pinned || former.contains(pinned);
    trusted.then(|| InForce { root, former, record, hash: verified.hash(), bytes: bytes.to_vec() })
}

/// The roots before a record's own whose signatures lead to it without a gap, oldest
/// first: each signs the one after it, the last the record's.
pub(crate) fn line(record: &VaultRecord) -> Vec<VerifyingKey> {
    let mut former = Vec::new();
    let mut next = record.root_public.0.clone();
    for cross in record.predecessors.iter().rev() {
        let Ok(root) = VerifyingKey::from_slice(&cross.root_public.0) else { break };
        let Some(signatures) = signatures(&cross.signatures.0) else { break };
        if root.verify(labels::CROSS_SIGNATURE, &next, &signatures).is_err() {
            break;
        }
        next.clone_from(&cross.root_public.0);
        former.push(root);
    }
    former.reverse();
    former
}

fn signatures(bytes: &[u8]) -> Option<Signatures> {
    let (ed25519, ml_dsa) = bytes.split_at_checked(ED25519_BYTES)?;
    Some(Signatures { ed25519: ed25519.try_into().ok()?, ml_dsa: ml_dsa.try_into().ok()? })
}

/// What a rotation begins with.
pub struct Rotation<'a> {
    /// The vault.
    pub vault: VaultId,
    /// The seed in force.
    pub old: &'a Seed,
    /// Its generation.
    pub generation: Generation,
    /// The seed that follows.
    pub new: &'a Seed,
    /// The vault record in force.
    pub record: &'a VaultRecord,
    /// Hash of its envelope.
    pub record_hash: Hash,
    /// Operators that were revoked stay so, under their new certificates.
    pub revocations: &'a Revocations,
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
}

/// What brings a rotation into force, to be written in this order. Nothing of it is
/// secret; it is kept as it is until it stands, so that a run that goes on writes the
/// same bytes.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Rotated {
    /// The operators' certificates by the new root.
    #[n(0)]
    pub certificates: Vec<Blob>,
    /// Revocations of those that were revoked before.
    #[n(1)]
    pub revocations: Vec<Blob>,
    /// The vault record by the new root.
    #[n(2)]
    pub record: Blob,
}

impl Rotation<'_> {
    /// Signs and seals it all. Nothing is in force before the record stands.
    pub fn sign<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> Result<Rotated> {
        let old_root = self.old.root_key(self.generation);
        if self.record.root_public.0 != old_root.verifying_key().as_bytes()[..] {
            return Err(KeysError::Roots { reason: "the seed at hand is not the one in force" });
        }
        let next = Generation(self.generation.0 + 1);
        let new_root = self.new.root_key(next);
        let (reader, janitor) = (self.new.reader_key(next), self.new.janitor_key(next));
        let operators = self.operators(&old_root, &new_root)?;
        let revocations = operators.iter().filter_map(|(old, new)| self.revoked_again(old, new, &new_root)).collect();
        let certificates: Vec<Blob> = operators.into_iter().map(|(_, new)| Blob(new)).collect();
        let mut record = self.record.clone();
        record.epoch += 1;
        record.previous = self.record_hash;
        record.root_public = Blob(new_root.verifying_key().as_bytes().to_vec());
        for (role, key) in [(KemRole::Reader, &reader), (KemRole::Janitor, &janitor)] {
            record.recipients.push(KemKey { generation: next.0, role, public: Blob(key.public().as_bytes().to_vec()) });
        }
        record.key_history.extend(self.history(reader.public(), rng));
        record.operators.clone_from(&certificates);
        // A root's records list the cards of its own seed: those dealt before stand in its predecessors' records.
        record.card_sets = Vec::new();
        record.predecessors.push(cross(&old_root, &new_root));
        record.created_ms = self.now_ms;
        let bytes = vault_format::encode(&record);
        let record = record::sign(RecordKind::Vault, self.vault, &bytes, &new_root);
        Ok(Rotated { certificates, revocations, record: Blob(record) })
    }

    /// Each operator's certificate as it was, and a new one for the same keys.
    fn operators(&self, old_root: &SigningKey, new_root: &SigningKey) -> Result<Vec<(CertifiedKey, Vec<u8>)>> {
        let authority = Authority::new(self.vault, old_root.verifying_key().clone());
        let renew = |Blob(bytes): &Blob| {
            let old = authority.operator(bytes)?;
            let request = Request {
                role: Role::Operator,
                subject: old.subject(),
                public: old.public().clone(),
                kem_public: None,
                serial: old.serial(),
                not_before_ms: self.now_ms,
                not_after_ms: self.now_ms.saturating_add(CERTIFICATE_MS),
                scope: None,
                name: old.name().to_owned(),
            };
            let new = certificate::issue(new_root, self.vault, request)?;
            Ok((old, new))
        };
        self.record.operators.iter().map(renew).collect()
    }

    /// A revoked operator's new certificate ends where its old one did.
    fn revoked_again(&self, old: &CertifiedKey, new: &[u8], by: &SigningKey) -> Option<Blob> {
        let last = self.revocations.last_good(&old.certificate_hash())?;
        let body = Revocation {
            certificate: record::hash(new),
            subject: old.subject(),
            epoch: last.epoch,
            sequence: last.sequence,
            reason: "revoked before the rotation".to_owned(),
            created_ms: self.now_ms,
        };
        Some(Blob(record::sign(RecordKind::Revocation, self.vault, &vault_format::encode(&body), by)))
    }

    /// The old generation's keys, sealed to the new reader.
    fn history<R: CryptoRng + ?Sized>(&self, to: &RecipientPublic, rng: &mut R) -> [KeyHistoryEntry; 2] {
        let (reader, janitor) = (self.old.reader_key(self.generation), self.old.janitor_key(self.generation));
        let dedup = self.old.dedup_root(self.generation);
        let of_reader = SecretBytes::new([&reader.seed().expose_secret()[..], dedup.expose_secret()].concat());
        let mut entry = |role, key: &RecipientPrivate, plain: &[u8]| KeyHistoryEntry {
            generation: self.generation.0,
            role,
            recipient: key.id(),
            seed: wrap::seal_field(SealedField::KeyHistory, self.vault, to, plain, rng),
        };
        [
            entry(KemRole::Reader, &reader, of_reader.expose_secret()),
            entry(KemRole::Janitor, &janitor, janitor.seed().expose_secret()),
        ]
    }
}

fn cross(old: &SigningKey, new: &SigningKey) -> CrossSignature {
    let signed = old.sign(labels::CROSS_SIGNATURE, new.verifying_key().as_bytes());
    let mut signatures = Vec::with_capacity(SIGNATURES_BYTES);
    signatures.extend_from_slice(&signed.ed25519);
    signatures.extend_from_slice(&signed.ml_dsa);
    CrossSignature { root_public: Blob(old.verifying_key().as_bytes().to_vec()), signatures: Blob(signatures) }
}

impl ReadKey {
    /// Takes the older generations out of a key history as far as the keys at hand open
    /// it. Returns how many it learned.
    pub fn learn(&mut self, history: &[KeyHistoryEntry]) -> Result<usize> {
        let learned = self.older(history)?;
        let count = learned.len();
        self.generations.extend(learned);
        self.generations.sort_by_key(|keys| keys.generation);
        Ok(count)
    }

    /// Keys that a scope's chunk ids may have been made with in the generations that
    /// only the history knows: a writer goes on with those it has, so the record that
    /// carries the history may itself be named by one of them.
    pub fn older_id_keys(&self, history: &[KeyHistoryEntry], scope: ScopeId) -> Result<Vec<IdKey>> {
        Ok(self.older(history)?.iter().map(|keys| keys.dedup.keys(scope).id_key).collect())
    }

    /// The generations of a history that are not at hand, each opened by the one after it.
    fn older(&self, history: &[KeyHistoryEntry]) -> Result<Vec<ReadGeneration>> {
        let mut numbers: Vec<u32> = history.iter().map(|entry| entry.generation).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.dedup();
        numbers.retain(|number| self.generations.iter().all(|keys| keys.generation.0 != *number));
        let mut found: Vec<ReadGeneration> = Vec::new();
        for number in numbers {
            let opened = {
                let of_found = |id: &RecipientId| found.iter().map(|keys| &keys.reader).find(|key| key.id() == *id);
                self.opened(history, number, |id| self.reader(id).or_else(|| of_found(id)))?
            };
            found.extend(opened);
        }
        Ok(found)
    }

    /// One generation of the history; `None` if nothing at hand opens it.
    fn opened<'a>(
        &self,
        history: &[KeyHistoryEntry],
        number: u32,
        key: impl Fn(&RecipientId) -> Option<&'a RecipientPrivate>,
    ) -> Result<Option<ReadGeneration>> {
        let what = "an entry of the key history";
        let open = |role: KemRole| {
            let entry = history.iter().find(|entry| entry.generation == number && entry.role == role)?;
            let key = key(&entry.seed.recipient)?;
            Some(wrap::open_field(SealedField::KeyHistory, self.vault, key, &entry.seed).map(|plain| (entry, plain)))
        };
        let (Some(reader), Some(janitor)) = (open(KemRole::Reader), open(KemRole::Janitor)) else { return Ok(None) };
        let ((of_reader, reader), (of_janitor, janitor)) = (reader?, janitor?);
        let private = |bytes: &[u8], entry: &KeyHistoryEntry| {
            let seed = Secret::from_slice(bytes).ok_or(KeysError::InvalidKey { what })?;
            let key = RecipientPrivate::from_seed(seed);
            if key.id() == entry.recipient { Ok(key) } else { Err(KeysError::InvalidKey { what }) }
        };
        let (seed, dedup) = reader.expose_secret().split_at_checked(32).ok_or(KeysError::InvalidKey { what })?;
        Ok(Some(ReadGeneration {
            generation: Generation(number),
            reader: private(seed, of_reader)?,
            janitor: private(janitor.expose_secret(), of_janitor)?,
            dedup: DedupRoot::new(Secret::from_slice(dedup).ok_or(KeysError::InvalidKey { what })?),
        }))
    }
}

/// Public keys of a role in a vault record, newest generation last.
pub fn recipients(record: &VaultRecord, role: KemRole) -> Result<Vec<RecipientPublic>> {
    let keys = record.recipients.iter().filter(|key| key.role == role);
    keys.map(|key| RecipientPublic::from_slice(&key.public.0)).collect()
}

/// The certificate that a vault record holds for an operator's keys.
fn renewed(record: &VaultRecord, vault: VaultId, root: &VerifyingKey, operator: &VerifyingKey) -> Result<Blob> {
    let authority = Authority::new(vault, root.clone());
    let is_theirs = |bytes: &&Blob| authority.operator(&bytes.0).is_ok_and(|key| key.public() == operator);
    record.operators.iter().find(is_theirs).cloned().ok_or(KeysError::Roots {
        reason: "the vault record in force certifies no operator with the keys that certified this one",
    })
}

impl WriterKey {
    /// Follows the vault record in force, which `root` signed and whose line led there:
    /// its recipients, its root, its certificate for this writer's operator. Whoever
    /// calls has checked the line from [`WriterKey::root`]. Signing keys and what names
    /// and cuts chunks stay. Returns whether anything changed.
    pub fn follow(&mut self, root: &VerifyingKey, record: &VaultRecord) -> Result<bool> {
        if self.root == *root {
            return Ok(false);
        }
        let [operator, own] = &self.certificates[..] else {
            return Err(KeysError::Certificate { reason: "a chain is an operator's certificate and a holder's" });
        };
        let operator = self.authority().operator(&operator.0)?;
        let certificate = renewed(record, self.vault, root, operator.public())?;
        let readers = recipients(record, KemRole::Reader)?;
        let janitor = recipients(record, KemRole::Janitor)?.pop();
        let janitor = janitor.ok_or(KeysError::Roots { reason: "the vault record names no janitor to seal to" })?;
        self.certificates = vec![certificate, own.clone()];
        (self.root, self.reader, self.janitor) = (root.clone(), readers, janitor);
        Ok(true)
    }
}

impl OperatorKey {
    /// Likewise for an operator: the certificate for its keys by the root in force.
    pub fn follow(&mut self, root: &VerifyingKey, record: &VaultRecord) -> Result<bool> {
        if self.root == *root {
            return Ok(false);
        }
        self.certificate = renewed(record, self.vault, root, self.signing.verifying_key())?;
        self.root = root.clone();
        Ok(true)
    }
}

impl JanitorKey {
    /// Likewise for a janitor, with the KEM key of the new generation.
    pub fn follow(&mut self, root: &VerifyingKey, record: &VaultRecord, new: JanitorGeneration) -> Result<bool> {
        if self.root == *root {
            return Ok(false);
        }
        let [operator, own] = &self.certificates[..] else {
            return Err(KeysError::Certificate { reason: "a chain is an operator's certificate and a holder's" });
        };
        let operator = Authority::new(self.vault, self.root.clone()).operator(&operator.0)?;
        let certificate = renewed(record, self.vault, root, operator.public())?;
        self.certificates = vec![certificate, own.clone()];
        self.root = root.clone();
        self.generations.push(new);
        Ok(true)
    }
}
