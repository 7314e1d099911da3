//! The eight key files: what each role holds and nothing more. Bodies are specified
//! in FORMAT.md, "Key files".

use minicbor::{Decode, Encode};
use vault_format::certificate::Role;
use vault_format::{Blob, RecipientId, ScopeId, VaultId, WriterId};

use super::KeyFile;
use crate::certificate::{Authority, CertifiedKey};
use crate::data_key::LocalSecret;
use crate::dedup::{DedupKeys, DedupRoot, IdKey};
use crate::error::{KeysError, Result};
use crate::index_key::IndexKey;
use crate::kem::{RecipientPrivate, RecipientPublic};
use crate::seed::{Generation, Seed};
use crate::signature::{SigningKey, VerifyingKey};

/// The master seed on disk: after `keys init` and until the cards are dealt.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct MasterSeed {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The seed's generation.
    #[n(1)]
    pub generation: Generation,
    /// The seed.
    #[n(2)]
    pub seed: Seed,
}

impl KeyFile for MasterSeed {
    const ROLE: &'static str = "master seed";
    const NOTE: &'static str =
        "Secret. It opens and signs everything of this vault. Deal it onto cards, then delete it.";

    fn vault(&self) -> VaultId {
        self.vault
    }
}

/// What restores: the KEM keys of all generations.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct ReadKey {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The root whose signatures count.
    #[n(1)]
    pub root: VerifyingKey,
    /// Keys by generation, newest last.
    #[n(2)]
    pub generations: Vec<ReadGeneration>,
    /// The roots of the vault's line, the one in force first, once its record was read:
    /// not in the file.
    #[cbor(skip)]
    pub line: Vec<Authority>,
}

/// The KEM keys of one generation.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct ReadGeneration {
    /// Which.
    #[n(0)]
    pub generation: Generation,
    /// Opens packs and the reader's parts.
    #[n(1)]
    pub reader: RecipientPrivate,
    /// Opens the janitor's parts.
    #[n(2)]
    pub janitor: RecipientPrivate,
    /// Checks chunk ids, of any scope.
    #[n(3)]
    pub dedup: DedupRoot,
}

impl ReadKey {
    /// What a seed of one generation reads.
    pub fn from_seed(seed: &Seed, generation: Generation, vault: VaultId) -> Self {
        let (reader, janitor) = (seed.reader_key(generation), seed.janitor_key(generation));
        let root = seed.root_key(generation).verifying_key().clone();
        let dedup = seed.dedup_root(generation);
        let generations = vec![ReadGeneration { generation, reader, janitor, dedup }];
        Self { vault, root, generations, line: Vec::new() }
    }

    /// Keys that a scope's chunk ids may have been made with, newest generation
    /// first.
    pub fn id_keys(&self, scope: ScopeId) -> Vec<IdKey> {
        self.generations.iter().rev().map(|keys| keys.dedup.keys(scope).id_key).collect()
    }

    /// The reader's key of that id.
    pub fn reader(&self, id: &RecipientId) -> Option<&RecipientPrivate> {
        self.generations.iter().map(|keys| &keys.reader).find(|key| key.id() == *id)
    }

    /// The janitor's key of that id.
    pub fn janitor(&self, id: &RecipientId) -> Option<&RecipientPrivate> {
        self.generations.iter().map(|keys| &keys.janitor).find(|key| key.id() == *id)
    }

    /// The root to verify with.
    pub fn authority(&self) -> Authority {
        Authority::new(self.vault, self.root.clone())
    }

    /// Every root that may have signed what a point carries: its own, then the others
    /// of the vault's line. Once the line is known, a former one, its own too, vouches
    /// only for operators that the one in force knows.
    pub fn authorities(&self) -> Vec<Authority> {
        let (own, others): (Vec<Authority>, Vec<Authority>) =
            self.line.iter().cloned().partition(|authority| *authority.root() == self.root);
        if own.is_empty() { [self.authority()].into_iter().chain(others).collect() } else { [own, others].concat() }
    }
}

impl KeyFile for ReadKey {
    const ROLE: &'static str = "read key";
    const NOTE: &'static str = "Secret. It reads every backup of this vault. Keep it off the hosts that are backed up.";

    fn vault(&self) -> VaultId {
        self.vault
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        in_order(self.generations.iter().map(|keys| keys.generation))
    }
}

/// What admits hosts and signs layouts.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct OperatorKey {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The subject of its certificate.
    #[n(1)]
    pub subject: WriterId,
    /// Its signing keys.
    #[n(2)]
    pub signing: SigningKey,
    /// The root that certified it.
    #[n(3)]
    pub root: VerifyingKey,
    /// Its certificate's envelope.
    #[n(4)]
    pub certificate: Blob,
}

impl OperatorKey {
    /// Verifies its own certificate.
    pub fn certified(&self) -> Result<CertifiedKey> {
        let key = Authority::new(self.vault, self.root.clone()).operator(&self.certificate.0)?;
        belongs(key, self.subject, &self.signing, Role::Operator)
    }
}

impl KeyFile for OperatorKey {
    const ROLE: &'static str = "operator key";
    const NOTE: &'static str =
        "Secret. It admits hosts to this vault and decides where data lies. Keep it off the hosts that are backed up.";

    fn vault(&self) -> VaultId {
        self.vault
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        fits(self.certified())
    }
}

/// What an agent writes with. It reads nothing it sealed.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct WriterKey {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The writer.
    #[n(1)]
    pub writer: WriterId,
    /// Its signing keys.
    #[n(2)]
    pub signing: SigningKey,
    /// Its dedup scope.
    #[n(3)]
    pub scope: ScopeId,
    /// What names and cuts the scope's chunks.
    #[n(4)]
    pub dedup: DedupKeys,
    /// What it reads its own index with.
    #[n(5)]
    pub index: IndexKey,
    /// Its local secret, drawn when the file was made.
    #[n(6)]
    pub local: LocalSecret,
    /// Readers it seals for, newest generation last.
    #[n(7)]
    pub reader: Vec<RecipientPublic>,
    /// The janitor it seals for.
    #[n(8)]
    pub janitor: RecipientPublic,
    /// The root it trusts.
    #[n(9)]
    pub root: VerifyingKey,
    /// Its certificates: the operator's, then its own.
    #[n(10)]
    pub certificates: Vec<Blob>,
}

impl WriterKey {
    /// The root to verify with.
    pub fn authority(&self) -> Authority {
        Authority::new(self.vault, self.root.clone())
    }

    /// Verifies its own chain.
    pub fn certified(&self) -> Result<CertifiedKey> {
        self.certified_as(Role::Writer)
    }

    fn certified_as(&self, role: Role) -> Result<CertifiedKey> {
        let key = belongs(self.authority().chain(&self.certificates)?, self.writer, &self.signing, role)?;
        if key.scope() == Some(self.scope) {
            Ok(key)
        } else {
            Err(KeysError::Certificate { reason: "it is of another scope" })
        }
    }
}

impl KeyFile for WriterKey {
    const ROLE: &'static str = "writer key";
    const NOTE: &'static str = "Secret. It writes backups of one host and reads none.";

    fn vault(&self) -> VaultId {
        self.vault
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        if self.reader.is_empty() {
            return Err("it names no reader to seal for");
        }
        fits(self.certified())
    }
}

/// What seals old packs anew: a writer's keys under another role. Whoever runs it needs
/// a read key beside it.
#[derive(Encode, Decode)]
#[cbor(transparent)]
pub struct MigratorKey(#[n(0)] pub WriterKey);

impl MigratorKey {
    /// Verifies its own chain.
    pub fn certified(&self) -> Result<CertifiedKey> {
        self.0.certified_as(Role::Migrator)
    }
}

impl KeyFile for MigratorKey {
    const ROLE: &'static str = "migrator key";
    const NOTE: &'static str = "Secret. It signs what a re-encryption writes, and reads no backup by itself.";

    fn vault(&self) -> VaultId {
        self.0.vault
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        if self.0.reader.is_empty() {
            return Err("it names no reader to seal for");
        }
        fits(self.certified())
    }
}

/// What signs notes about audits. It opens nothing.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct AuditorKey {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The subject of its certificate.
    #[n(1)]
    pub subject: WriterId,
    /// Its signing keys.
    #[n(2)]
    pub signing: SigningKey,
    /// The root it trusts.
    #[n(3)]
    pub root: VerifyingKey,
    /// Its certificates: the operator's, then its own.
    #[n(4)]
    pub certificates: Vec<Blob>,
}

impl AuditorKey {
    /// Verifies its own chain.
    pub fn certified(&self) -> Result<CertifiedKey> {
        let key = Authority::new(self.vault, self.root.clone()).chain(&self.certificates)?;
        belongs(key, self.subject, &self.signing, Role::Auditor)
    }
}

impl KeyFile for AuditorKey {
    const ROLE: &'static str = "auditor key";
    const NOTE: &'static str = "Secret. It signs what an audit found, and opens nothing.";

    fn vault(&self) -> VaultId {
        self.vault
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        fits(self.certified())
    }
}

/// What forgets, collects garbage and fences. It opens of a manifest what that takes
/// and reads no backup.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct JanitorKey {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The subject of its certificate; its tombstones stand under this id.
    #[n(1)]
    pub subject: WriterId,
    /// Its signing keys.
    #[n(2)]
    pub signing: SigningKey,
    /// Opens the janitor's parts of manifests, newest generation last.
    #[n(3)]
    pub generations: Vec<JanitorGeneration>,
    /// The root it trusts.
    #[n(4)]
    pub root: VerifyingKey,
    /// Its certificates: the operator's, then its own.
    #[n(5)]
    pub certificates: Vec<Blob>,
}

/// The janitor's KEM key of one generation.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct JanitorGeneration {
    /// Which.
    #[n(0)]
    pub generation: Generation,
    /// Opens the janitor's parts.
    #[n(1)]
    pub janitor: RecipientPrivate,
}

impl JanitorKey {
    /// Verifies its own chain.
    pub fn certified(&self) -> Result<CertifiedKey> {
        let key = Authority::new(self.vault, self.root.clone()).chain(&self.certificates)?;
        belongs(key, self.subject, &self.signing, Role::Janitor)
    }

    /// The KEM key of that id.
    pub fn janitor(&self, id: &RecipientId) -> Option<&RecipientPrivate> {
        self.generations.iter().map(|keys| &keys.janitor).find(|key| key.id() == *id)
    }
}

impl KeyFile for JanitorKey {
    const ROLE: &'static str = "janitor key";
    const NOTE: &'static str =
        "Secret. It decides what is deleted and reads no backup. Keep it off the hosts that are backed up.";

    fn vault(&self) -> VaultId {
        self.vault
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        in_order(self.generations.iter().map(|keys| keys.generation))?;
        fits(self.certified())
    }
}

/// `vault.pub`: what may be known to all.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct VaultPublic {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// The root whose signatures count.
    #[n(1)]
    pub root: VerifyingKey,
}

impl VaultPublic {
    /// The root to verify with.
    pub fn authority(&self) -> Authority {
        Authority::new(self.vault, self.root.clone())
    }
}

impl KeyFile for VaultPublic {
    const ROLE: &'static str = "vault public key";
    const NOTE: &'static str = "Not secret. It verifies what this vault's root signed.";
    const SECRET: bool = false;

    fn vault(&self) -> VaultId {
        self.vault
    }
}

/// A certificate of this subject, key and role.
fn belongs(key: CertifiedKey, subject: WriterId, signing: &SigningKey, role: Role) -> Result<CertifiedKey> {
    if key.subject() != subject || key.public() != signing.verifying_key() {
        return Err(KeysError::Certificate { reason: "it certifies another key" });
    }
    if key.role() == role { Ok(key) } else { Err(KeysError::Certificate { reason: "it is of another role" }) }
}

/// Whether a key file's chain holds, in the words for a file that does not fit together.
fn fits(certified: Result<CertifiedKey>) -> std::result::Result<(), &'static str> {
    certified.map(drop).map_err(|_| "its certificates do not belong to its keys")
}

/// Whether there are generations, each newer than the one before.
fn in_order(generations: impl Iterator<Item = Generation>) -> std::result::Result<(), &'static str> {
    let all: Vec<Generation> = generations.collect();
    if all.is_empty() {
        return Err("it holds no key");
    }
    if all.is_sorted_by(|before, after| before < after) { Ok(()) } else { Err("its generations are not in order") }
}
