//! Keys that an operator admits to a vault, and keys that it shuts out.
//!
//! What always holds: a certificate stands on a quorum before the layout that names it
//! is signed; who is admitted is listed beside the others, never in their place; a
//! revocation says up to where a key is believed, and what it signed before stays.

use std::collections::BTreeMap;

use keys::certificate::CertifiedKey;
use keys::files::OperatorKey;
use keys::revocation::Position;
use keys::signature::SigningKey;
use vault_format::certificate::{Certificate, Revocation, Role};
use vault_format::envelope::{Envelope, RecordKind};
use vault_format::layout::LayoutWriter;
use vault_format::{Blob, Hash, WriterId, names};

use crate::backup::check_domains;
use crate::commit;
use crate::error::{OpsError, Result};
use crate::heads::{Depth, chain};
use crate::points::remarks;
use crate::vault::Vault;

/// Who is owed a record, and why.
pub type Owed = BTreeMap<String, String>;

/// Serials that `keys init` gave may stand in no certificate that a location shows.
const FIRST_SERIALS: u64 = 2;

/// All certificates seen, by the hash of their envelopes.
pub fn certificates(vault: &Vault) -> BTreeMap<Hash, Certificate> {
    let body = |bytes: &Vec<u8>| {
        let envelope = Envelope::decode(bytes).ok()?;
        vault_format::decode::<Certificate>("certificate", &envelope.body).ok()
    };
    vault.certificates.iter().filter_map(|(hash, bytes)| Some((*hash, body(bytes)?))).collect()
}

/// A serial higher than that of every certificate seen.
pub fn next_serial(vault: &Vault) -> u64 {
    certificates(vault).values().map(|known| known.serial).max().unwrap_or(0).max(FIRST_SERIALS) + 1
}

/// Publishes a certificate that this operator issued; writers and migrators are listed
/// in a new layout.
pub async fn admit(vault: &Vault, operator: &OperatorKey, certificate: &Blob) -> Result<Owed> {
    check_domains(vault)?;
    let issuer = operator.certified().map_err(|error| OpsError::Key { what: error.to_string() })?;
    if !vault.record.operators.contains(&operator.certificate)
        || vault.revocations.is_revoked(&issuer.certificate_hash())
    {
        return Err(OpsError::Key {
            what:
                "this operator key is not certified in the vault record, or it was revoked; nothing was written. Use \
                   an operator key of this vault"
                    .to_owned(),
        });
    }
    let authority = keys::certificate::Authority::new(vault.id, vault.root.clone());
    let key = authority.holder(&issuer, &certificate.0).map_err(|error| OpsError::Key { what: error.to_string() })?;
    let name = names::certificate(key.certificate_hash());
    let mut owed: Owed = commit::publish(vault, &name, &certificate.0, None).await?.into_iter().collect();
    if matches!(key.role(), Role::Writer | Role::Migrator) {
        owed.extend(list(vault, operator, &key).await?);
    }
    Ok(owed)
}

/// Lists a writer in a new layout, unless it is.
async fn list(vault: &Vault, operator: &OperatorKey, key: &CertifiedKey) -> Result<Vec<(String, String)>> {
    let listed = LayoutWriter { writer: key.subject(), certificate: key.certificate_hash() };
    if vault.layout.writers.contains(&listed) {
        return Ok(Vec::new());
    }
    let mut layout = vault.layout.clone();
    // Names and addresses stay sealed as they are: no read key is needed.
    (layout.epoch, layout.previous, layout.vault_record) =
        (vault.layout.epoch + 1, vault.layout_hash, vault.record_hash);
    layout.writers.push(listed);
    layout.created_ms = vault.world.now_ms();
    let bytes = keys::record::sign(RecordKind::Layout, vault.id, &vault_format::encode(&layout), &operator.signing);
    commit::publish(vault, &names::layout(layout.epoch), &bytes, None).await
}

/// What a person may call a certificate: the first digits of its hash or of its
/// subject, or its name if only one has it.
pub fn find(vault: &Vault, wanted: &str) -> Result<(Hash, Certificate)> {
    let known = certificates(vault);
    let is_meant = |hash: &Hash, certificate: &Certificate| {
        let digits = wanted.to_ascii_lowercase();
        let by_digits = digits.len() >= 4
            && (hash.to_string().starts_with(&digits) || certificate.subject.to_string().starts_with(&digits));
        by_digits || certificate.name == wanted
    };
    let mut found: Vec<_> = known.into_iter().filter(|(hash, certificate)| is_meant(hash, certificate)).collect();
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(OpsError::Refused {
            what: format!("no certificate of this vault is called {wanted}; list them: holdfast keys status"),
        }),
        (Some(_), more) => Err(OpsError::Refused {
            what: format!(
                "{} certificates are called {wanted}; give the first digits of one: holdfast keys status",
                more + 1
            ),
        }),
    }
}

/// The last position that is believed if a key is revoked now and nothing else is
/// said: all that is seen of it. A writer's chain must be known to its end.
pub async fn last_seen(vault: &Vault, certificate: &Certificate) -> Result<Position> {
    match certificate.role {
        Role::Writer | Role::Migrator => {
            let chain = chain(vault, certificate.subject, Depth::Head).await?;
            if !chain.confirmed {
                return Err(OpsError::Unreachable {
                    what: remarks(&chain, certificate.subject).join("; ")
                        + ". Nothing was written: bring back the locations, or say the last good place with --last-good",
                });
            }
            let (epoch, sequence) = chain.head().map_or((0, 0), super::heads::SignedManifest::position);
            Ok(Position { epoch, sequence })
        }
        Role::Operator => {
            let issued = certificates(vault);
            let serials = issued.values().filter(|issued| issued.issuer == fingerprint(certificate));
            let sequence = serials.map(|issued| issued.serial).max().unwrap_or(0).max(FIRST_SERIALS);
            Ok(Position { epoch: vault.layout.epoch, sequence })
        }
        Role::Janitor => {
            let newest = vault.marks.newest_of(certificate.subject);
            let place = newest.map_or((0, 0), |newest| (newest.body.gc_epoch, newest.body.sequence));
            Ok(Position { epoch: place.0, sequence: place.1 })
        }
        Role::Auditor => Ok(Position { epoch: 0, sequence: 0 }),
    }
}

fn fingerprint(certificate: &Certificate) -> Hash {
    keys::hash::labelled(vault_format::labels::FINGERPRINT, &certificate.public_keys.0)
}

/// Publishes the end of the trust in a certificate: `by` an operator's key, or the
/// root's for an operator.
pub async fn revoke(
    vault: &Vault,
    by: &SigningKey,
    (certificate, subject): (Hash, WriterId),
    last: Position,
    reason: &str,
) -> Result<Owed> {
    check_domains(vault)?;
    let body = Revocation {
        certificate,
        subject,
        epoch: last.epoch,
        sequence: last.sequence,
        reason: reason.to_owned(),
        created_ms: vault.world.now_ms(),
    };
    let bytes = keys::record::sign(RecordKind::Revocation, vault.id, &vault_format::encode(&body), by);
    let name = names::revocation(keys::record::hash(&bytes));
    Ok(commit::publish(vault, &name, &bytes, None).await?.into_iter().collect())
}
