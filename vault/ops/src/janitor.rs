//! The janitor: who signs tombstones and fences, and reads what retention and
//! garbage collection need of a manifest.
//!
//! What always holds: it opens the janitor's part of manifests and nothing else of
//! them; until a vault has a janitor of its own, its operator and a reader together
//! do the work.

use std::sync::Arc;

use keys::files::{JanitorKey, OperatorKey, ReadKey};
use keys::signature::SigningKey;
use vault_format::manifest::{JanitorPart, Manifest};
use vault_format::sealed::{SealedBlob, SealedField};
use vault_format::{VaultId, WriterId, names};

use crate::commit;
use crate::error::{OpsError, Result};
use crate::vault::Vault;

/// Keys that do the janitor's work.
#[derive(Clone)]
pub enum Janitor {
    /// A janitor of its own, possibly on another machine.
    Own(Arc<JanitorKey>),
    /// The operator signs; the reader's key file holds the janitor's KEM keys too.
    Operator {
        /// Signs.
        operator: Arc<OperatorKey>,
        /// Opens; without it only what needs no opening can be done.
        read: Option<Arc<ReadKey>>,
    },
}

impl Janitor {
    /// Whose chain its tombstones stand in.
    pub fn id(&self) -> WriterId {
        match self {
            Self::Own(key) => key.subject,
            Self::Operator { operator, .. } => operator.subject,
        }
    }

    /// The vault its keys belong to.
    pub fn vault(&self) -> VaultId {
        match self {
            Self::Own(key) => key.vault,
            Self::Operator { operator, .. } => operator.vault,
        }
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        match self {
            Self::Own(key) => &key.signing,
            Self::Operator { operator, .. } => &operator.signing,
        }
    }

    /// The vault with this janitor among its signers of tombstones: its certificate
    /// is published if no location shows it yet. One that was revoked is refused.
    pub async fn enrol(&self, vault: &Vault) -> Result<Vault> {
        if self.vault() != vault.id {
            return Err(OpsError::Key {
                what: "the janitor's key belongs to another vault; nothing was changed. Use this vault's key"
                    .to_owned(),
            });
        }
        let mut own = vault.janitors.iter().filter(|key| key.subject() == self.id()).peekable();
        let known = own.peek().is_some();
        if known && own.all(|key| vault.revocations.is_revoked(&key.certificate_hash())) {
            let what = "this key was revoked: what it signs counts nowhere. Nothing was changed; issue another: holdfast \
                        keys issue --role janitor --out FILE";
            return Err(OpsError::Key { what: what.to_owned() });
        }
        match self {
            Self::Own(_) | Self::Operator { .. } if known => Ok(vault.clone()),
            Self::Own(key) => {
                let certified = key.certified().map_err(|error| OpsError::Key { what: error.to_string() })?;
                let certificate = key.certificates.last().map(|own| own.0.clone()).unwrap_or_default();
                let name = names::certificate(certified.certificate_hash());
                commit::publish(vault, &name, &certificate, None).await?;
                Ok(vault.with_janitor(certified, certificate))
            }
            Self::Operator { .. } => Err(OpsError::Key {
                what: "the vault record does not name this operator's certificate; nothing was changed. Use the \
                       operator key this vault was made with"
                    .to_owned(),
            }),
        }
    }

    /// The janitor's part of a manifest; `None` if it has none, as a heartbeat.
    pub fn part(&self, vault: VaultId, manifest: &Manifest) -> Result<Option<JanitorPart>> {
        let Some(sealed) = &manifest.janitor else { return Ok(None) };
        let what = || format!("the janitor's part of manifest {}.{}", manifest.epoch, manifest.sequence);
        let plain = self.open(vault, sealed).map_err(|why| OpsError::Key { what: format!("{}: {why}", what()) })?;
        let part = vault_format::decode("janitor's part", plain.expose_secret());
        part.map(Some).map_err(|error| OpsError::format(what(), &error))
    }

    fn open(&self, vault: VaultId, sealed: &SealedBlob) -> std::result::Result<keys::secret::SecretBytes, String> {
        let key = match self {
            Self::Own(key) => key.janitor(&sealed.recipient),
            Self::Operator { read, .. } => {
                let read = read.as_ref().ok_or("it takes the janitor's key, or the read key, to open it")?;
                read.janitor(&sealed.recipient)
            }
        };
        let key = key.ok_or("it is sealed to a key generation the key at hand does not hold")?;
        keys::wrap::open_field(SealedField::ManifestJanitor, vault, key, sealed).map_err(|error| error.to_string())
    }
}
