//! Keys for a role, certified by an operator (operators: by the root).
//!
//! What always holds: every key is drawn anew and stands in one file; a new writer has
//! a chain, a chunk scope and an index key of its own, unless somebody shares a scope
//! on purpose; nothing here needs the seed but an operator's certificate: adding a host
//! takes no holders. What a new writer names chunks with must follow from the vault's
//! dedup root, or no reader could check them.

use rand_core::CryptoRng;
use vault_format::certificate::Role;
use vault_format::vault::{KemRole, VaultRecord};
use vault_format::{Blob, ScopeId, VaultId, WriterId};

use crate::certificate::{self, Request};
use crate::data_key::LocalSecret;
use crate::dedup::{ChunkerSeed, DedupKeys, IdKey};
use crate::error::{KeysError, Result};
use crate::files::{AuditorKey, JanitorGeneration, JanitorKey, MigratorKey, OperatorKey, ReadKey, WriterKey};
use crate::first::CERTIFICATE_MS;
use crate::index_key::IndexKey;
use crate::kem::RecipientPrivate;
use crate::rotation::recipients;
use crate::secret::Secret;
use crate::seed::{Generation, Seed};
use crate::signature::SigningKey;

/// Where the keys of a new writer's scope come from.
#[derive(Clone, Copy)]
pub enum ScopeFrom<'a> {
    /// A scope of its own, from the seed.
    Seed(&'a Seed, Generation),
    /// A scope of its own, from the reader's newest dedup root.
    Read(&'a ReadKey),
    /// The scope of another writer: each finds the other's chunks, and can mislead it.
    Shared(&'a WriterKey),
}

/// What is said of the new key.
#[derive(Clone, Debug)]
pub struct Said {
    /// For people.
    pub name: String,
    /// Higher than that of every certificate its issuer made before.
    pub serial: u64,
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
}

fn id<R: CryptoRng + ?Sized>(rng: &mut R) -> WriterId {
    let mut id = WriterId::default();
    rng.fill_bytes(&mut id.0);
    id
}

fn certify(
    issuer: &SigningKey,
    vault: VaultId,
    role: Role,
    (subject, signing): (WriterId, &SigningKey),
    scope: Option<ScopeId>,
    said: &Said,
) -> Result<Blob> {
    let request = Request {
        role,
        subject,
        public: signing.verifying_key().clone(),
        kem_public: None,
        serial: said.serial,
        not_before_ms: said.now_ms,
        not_after_ms: said.now_ms.saturating_add(CERTIFICATE_MS),
        scope,
        name: said.name.clone(),
    };
    certificate::issue(issuer, vault, request).map(Blob)
}

fn copied(keys: &DedupKeys) -> DedupKeys {
    DedupKeys {
        id_key: IdKey::new(Secret::from_array(*keys.id_key.expose_secret())),
        chunker_seed: ChunkerSeed::new(Secret::from_array(keys.chunker_seed.expose_secret().to_le_bytes())),
    }
}

/// A writer for another host.
pub fn writer<R: CryptoRng + ?Sized>(
    rng: &mut R,
    operator: &OperatorKey,
    record: &VaultRecord,
    from: ScopeFrom<'_>,
    said: &Said,
) -> Result<WriterKey> {
    let writer = id(rng);
    let own = ScopeId(writer.0);
    let drawn = IndexKey::new(Secret::random(rng));
    let (scope, dedup, index) = match from {
        ScopeFrom::Seed(seed, generation) => {
            (own, seed.dedup_keys(generation, own), seed.index_key(generation, writer))
        }
        ScopeFrom::Read(read) => (own, newest(read)?.dedup.keys(own), drawn),
        ScopeFrom::Shared(other) => (other.scope, copied(&other.dedup), drawn),
    };
    sealing(rng, operator, record, Role::Writer, (writer, scope, dedup, index), said)
}

/// What re-encrypts the points of a scope. `dedup` are the keys its chunks are named with.
pub fn migrator<R: CryptoRng + ?Sized>(
    rng: &mut R,
    operator: &OperatorKey,
    record: &VaultRecord,
    read: &ReadKey,
    scope: ScopeId,
    said: &Said,
) -> Result<MigratorKey> {
    let writer = id(rng);
    let (dedup, index) = (newest(read)?.dedup.keys(scope), IndexKey::new(Secret::random(rng)));
    sealing(rng, operator, record, Role::Migrator, (writer, scope, dedup, index), said).map(MigratorKey)
}

fn newest(read: &ReadKey) -> Result<&crate::files::ReadGeneration> {
    read.generations.last().ok_or(KeysError::InvalidKey { what: "the read key" })
}

/// The keys of who seals packs.
fn sealing<R: CryptoRng + ?Sized>(
    rng: &mut R,
    operator: &OperatorKey,
    record: &VaultRecord,
    role: Role,
    (writer, scope, dedup, index): (WriterId, ScopeId, DedupKeys, IndexKey),
    said: &Said,
) -> Result<WriterKey> {
    let signing = SigningKey::random(rng);
    let own = certify(&operator.signing, operator.vault, role, (writer, &signing), Some(scope), said)?;
    let janitor = recipients(record, KemRole::Janitor)?.pop();
    Ok(WriterKey {
        vault: operator.vault,
        writer,
        signing,
        scope,
        dedup,
        index,
        local: LocalSecret::random(rng),
        reader: recipients(record, KemRole::Reader)?,
        janitor: janitor.ok_or(KeysError::InvalidKey { what: "the janitor's key in the vault record" })?,
        root: operator.root.clone(),
        certificates: vec![operator.certificate.clone(), own],
    })
}

/// What signs notes about audits.
pub fn auditor<R: CryptoRng + ?Sized>(rng: &mut R, operator: &OperatorKey, said: &Said) -> Result<AuditorKey> {
    let (subject, signing) = (id(rng), SigningKey::random(rng));
    let own = certify(&operator.signing, operator.vault, Role::Auditor, (subject, &signing), None, said)?;
    Ok(AuditorKey {
        vault: operator.vault,
        subject,
        signing,
        root: operator.root.clone(),
        certificates: vec![operator.certificate.clone(), own],
    })
}

/// A janitor for another machine, with the janitor's keys of all generations that the
/// read key holds.
pub fn janitor<R: CryptoRng + ?Sized>(
    rng: &mut R,
    operator: &OperatorKey,
    read: &ReadKey,
    said: &Said,
) -> Result<JanitorKey> {
    let (subject, signing) = (id(rng), SigningKey::random(rng));
    let own = certify(&operator.signing, operator.vault, Role::Janitor, (subject, &signing), None, said)?;
    let copy = |keys: &RecipientPrivate| RecipientPrivate::from_seed(Secret::from_array(*keys.seed().expose_secret()));
    let generations = read.generations.iter();
    Ok(JanitorKey {
        vault: operator.vault,
        subject,
        signing,
        generations: generations
            .map(|keys| JanitorGeneration { generation: keys.generation, janitor: copy(&keys.janitor) })
            .collect(),
        root: operator.root.clone(),
        certificates: vec![operator.certificate.clone(), own],
    })
}

/// A second operator, certified by the root: the seed itself is needed.
pub fn operator<R: CryptoRng + ?Sized>(
    rng: &mut R,
    vault: VaultId,
    (seed, generation): (&Seed, Generation),
    said: &Said,
) -> Result<OperatorKey> {
    let (subject, signing, root) = (id(rng), SigningKey::random(rng), seed.root_key(generation));
    let certificate = certify(&root, vault, Role::Operator, (subject, &signing), None, said)?;
    Ok(OperatorKey { vault, subject, signing, root: root.verifying_key().clone(), certificate })
}
