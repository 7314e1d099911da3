//! Certificates: root -> operator -> everyone else.
//!
//! What always holds: the root certifies operators and nothing else, an operator
//! certifies every other role and no operator; a certified key is accepted only
//! for the records its role may sign (table in FORMAT.md, "Certificates"). Time
//! warns and never refuses: an expired certificate must not stop a backup or a
//! restore. What a stolen key signed is cut off by a revocation, not by a date.

use vault_format::certificate::{Certificate, Role};
use vault_format::envelope::{JOURNAL_LABEL, RecordKind, SHARD_LABEL};
use vault_format::journal::JournalHeader;
use vault_format::shard::Header;
use vault_format::vault::VaultRecord;
use vault_format::{Blob, Hash, ScopeId, VaultId, WriterId, encode};

use crate::error::{KeysError, Result};
use crate::kem::RecipientPublic;
use crate::record::{self, VerifiedRecord};
use crate::signature::{SigningKey, VerifyingKey};

/// What an issuer decides about a new certificate.
pub struct Request {
    /// What it allows.
    pub role: Role,
    /// The subject: a writer id, or 16 bytes that name another role's holder.
    pub subject: WriterId,
    /// The subject's keys.
    pub public: VerifyingKey,
    /// The subject's KEM key, if it has one.
    pub kem_public: Option<RecipientPublic>,
    /// Higher than that of every certificate this issuer made before.
    pub serial: u64,
    /// Valid from, milliseconds since 1970.
    pub not_before_ms: i64,
    /// After this readers warn.
    pub not_after_ms: i64,
    /// A writer's dedup scope; every writer has one.
    pub scope: Option<ScopeId>,
    /// For people.
    pub name: String,
}

/// Issues a certificate; returns the stored bytes of its envelope.
pub fn issue(issuer: &SigningKey, vault: VaultId, request: Request) -> Result<Vec<u8>> {
    let certificate = Certificate {
        role: request.role,
        subject: request.subject,
        public_keys: Blob(request.public.as_bytes().to_vec()),
        kem_public: request.kem_public.map(|key| Blob(key.as_bytes().to_vec())),
        issuer: issuer.fingerprint(),
        serial: request.serial,
        not_before_ms: request.not_before_ms,
        not_after_ms: request.not_after_ms,
        scope: request.scope,
        name: request.name,
    };
    check(&certificate, issuer.fingerprint())?;
    Ok(record::sign(RecordKind::Certificate, vault, &encode(&certificate), issuer))
}

/// The rules that need no key: what no honest issuer writes.
fn check(certificate: &Certificate, issuer: Hash) -> Result<()> {
    let refuse = |reason| Err(KeysError::Certificate { reason });
    if certificate.issuer != issuer {
        return refuse("it names another issuer than the key that signed it");
    }
    if certificate.not_before_ms > certificate.not_after_ms {
        return refuse("it ends before it begins");
    }
    if certificate.role == Role::Writer && certificate.scope.is_none() {
        return refuse("it certifies a writer without a dedup scope");
    }
    Ok(())
}

/// A key and what it may sign, taken from a verified chain.
#[derive(Clone, Debug)]
pub struct CertifiedKey {
    vault: VaultId,
    body: Certificate,
    public: VerifyingKey,
    kem_public: Option<RecipientPublic>,
    hash: Hash,
}

impl CertifiedKey {
    fn read(bytes: &[u8], vault: VaultId, issuer: &VerifyingKey) -> Result<Self> {
        let record = record::verify(bytes, RecordKind::Certificate, vault, issuer)?;
        let body: Certificate = record.decode("certificate")?;
        check(&body, record.signer())?;
        let public = VerifyingKey::from_slice(&body.public_keys.0)?;
        if public == *issuer {
            return Err(KeysError::Certificate { reason: "its subject is its issuer" });
        }
        let kem_public = body.kem_public.as_ref().map(|key| RecipientPublic::from_slice(&key.0)).transpose()?;
        Ok(Self { vault, body, public, kem_public, hash: record.hash() })
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.body.role
    }

    /// The subject; a writer's id if the role is writer.
    pub fn subject(&self) -> WriterId {
        self.body.subject
    }

    /// The subject's keys.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// The subject's KEM key.
    pub fn kem_public(&self) -> Option<&RecipientPublic> {
        self.kem_public.as_ref()
    }

    /// Hash of the certificate's envelope: what shard headers and layouts carry.
    pub fn certificate_hash(&self) -> Hash {
        self.hash
    }

    /// Fingerprint of the issuer.
    pub fn issuer(&self) -> Hash {
        self.body.issuer
    }

    /// Serial number given by the issuer.
    pub fn serial(&self) -> u64 {
        self.body.serial
    }

    /// A writer's dedup scope.
    pub fn scope(&self) -> Option<ScopeId> {
        self.body.scope
    }

    /// Name for people.
    pub fn name(&self) -> &str {
        &self.body.name
    }

    /// After this readers warn, milliseconds since 1970.
    pub fn not_after_ms(&self) -> i64 {
        self.body.not_after_ms
    }

    /// Whether `now_ms` lies outside the certificate's dates. A warning only.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        now_ms < self.body.not_before_ms || now_ms > self.body.not_after_ms
    }

    /// Verifies a record this key signed, if its role may sign that kind.
    pub fn verify(&self, bytes: &[u8], kind: RecordKind) -> Result<VerifiedRecord> {
        if !may_sign(self.role(), kind) {
            return Err(KeysError::Role { role: self.role(), action: kind.label() });
        }
        record::verify(bytes, kind, self.vault, &self.public)
    }

    /// Verifies the signatures of a shard header; the writer must be the subject.
    pub fn verify_shard(&self, header: &Header) -> Result<()> {
        let named = (header.h0.vault, header.h0.writer, header.certificate);
        self.check_sealer(SHARD_LABEL, named)?;
        self.public
            .verify(SHARD_LABEL, &header.signed_bytes(), &header.signatures)
            .map_err(|fault| KeysError::Signature { what: SHARD_LABEL, fault })
    }

    /// Verifies the signatures of a journal object's header.
    pub fn verify_journal(&self, header: &JournalHeader) -> Result<()> {
        self.check_sealer(JOURNAL_LABEL, (header.vault, header.writer, header.certificate))?;
        self.public
            .verify(JOURNAL_LABEL, &header.signed_bytes(), &header.signatures)
            .map_err(|fault| KeysError::Signature { what: JOURNAL_LABEL, fault })
    }

    /// What a sealed object names must be what this certificate says.
    fn check_sealer(&self, what: &'static str, named: (VaultId, WriterId, Hash)) -> Result<()> {
        let (vault, writer, certificate) = named;
        if !matches!(self.role(), Role::Writer | Role::Migrator) {
            return Err(KeysError::Role { role: self.role(), action: what });
        }
        if vault != self.vault {
            return Err(KeysError::Vault { what, expected: self.vault, found: vault });
        }
        if writer != self.body.subject || certificate != self.hash {
            return Err(KeysError::Certificate { reason: "the object names another writer or certificate" });
        }
        Ok(())
    }
}

/// Which records a role may sign. The root is no role: it signs vault records,
/// operators' certificates and revocations of operators.
pub fn may_sign(role: Role, kind: RecordKind) -> bool {
    match kind {
        RecordKind::Vault => false,
        RecordKind::Layout | RecordKind::Certificate | RecordKind::Revocation => role == Role::Operator,
        RecordKind::Manifest => matches!(role, Role::Writer | Role::Migrator),
        RecordKind::Tombstone | RecordKind::Fence => matches!(role, Role::Operator | Role::Janitor),
        RecordKind::Note => matches!(role, Role::Operator | Role::Auditor | Role::Janitor),
    }
}

/// The root of one vault: where every chain of trust begins.
#[derive(Clone, Debug)]
pub struct Authority {
    vault: VaultId,
    root: VerifyingKey,
    /// The only operators it certifies, if a later root has taken its place.
    operators: Option<Vec<VerifyingKey>>,
}

impl Authority {
    /// Trusts `root` for `vault`: derived from the seed, or pinned in a key file.
    pub fn new(vault: VaultId, root: VerifyingKey) -> Self {
        Self { vault, root, operators: None }
    }

    /// The same vault's root of before, where `self` is the root in force and `record`
    /// what it signed. Of the operators it certified those still count whose keys the
    /// record in force names too: a rotation certifies all of them anew, so any other
    /// is one that a holder of the old seed made up since.
    #[must_use]
    pub fn former(&self, root: VerifyingKey, record: &VaultRecord) -> Self {
        let named = record.operators.iter().filter_map(|Blob(bytes)| self.operator(bytes).ok());
        Self { vault: self.vault, root, operators: Some(named.map(|key| key.public).collect()) }
    }

    /// The vault.
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// The root's keys.
    pub fn root(&self) -> &VerifyingKey {
        &self.root
    }

    /// Verifies a vault record.
    pub fn vault_record(&self, bytes: &[u8]) -> Result<VerifiedRecord> {
        record::verify(bytes, RecordKind::Vault, self.vault, &self.root)
    }

    /// Verifies a revocation of an operator.
    pub fn revocation(&self, bytes: &[u8]) -> Result<VerifiedRecord> {
        record::verify(bytes, RecordKind::Revocation, self.vault, &self.root)
    }

    /// Verifies an operator's certificate.
    pub fn operator(&self, bytes: &[u8]) -> Result<CertifiedKey> {
        let key = CertifiedKey::read(bytes, self.vault, &self.root)?;
        if key.role() != Role::Operator {
            return Err(KeysError::Role { role: key.role(), action: "being certified by the root" });
        }
        if self.operators.as_ref().is_some_and(|operators| !operators.contains(&key.public)) {
            return Err(KeysError::Certificate {
                reason: "a former root issued it, and the vault record in force names no operator with this key",
            });
        }
        Ok(key)
    }

    /// Verifies a certificate issued by `operator`.
    pub fn holder(&self, operator: &CertifiedKey, bytes: &[u8]) -> Result<CertifiedKey> {
        if operator.role() != Role::Operator {
            return Err(KeysError::Role { role: operator.role(), action: "issuing certificates" });
        }
        let key = CertifiedKey::read(bytes, self.vault, &operator.public)?;
        if key.role() == Role::Operator {
            return Err(KeysError::Role { role: Role::Operator, action: "being certified by an operator" });
        }
        if key.public == self.root {
            return Err(KeysError::Certificate { reason: "its subject is the root" });
        }
        Ok(key)
    }

    /// Verifies a chain as point records and key files hold it: the operator's
    /// certificate, then the holder's.
    pub fn chain(&self, certificates: &[Blob]) -> Result<CertifiedKey> {
        let [operator, holder] = certificates else {
            return Err(KeysError::Certificate { reason: "a chain is an operator's certificate and a holder's" });
        };
        self.holder(&self.operator(&operator.0)?, &holder.0)
    }
}

#[cfg(test)]
mod tests;
