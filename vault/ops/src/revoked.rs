//! Revocations as the locations show them: where the trust in certified keys ends.
//!
//! What always holds: only the root ends an operator's trust, an operator or the root
//! everybody else's; bytes that verify as neither revoke nothing and stay on their
//! location to be looked at.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys::certificate::{Authority, CertifiedKey};
use keys::revocation::Revocations;
use vault_format::Hash;
use vault_format::certificate::Role;

/// What the root says of operators: known before any layout or certificate is believed.
pub(crate) fn of_operators(authority: &Authority, operators: &[CertifiedKey], told: &BTreeSet<Vec<u8>>) -> Revocations {
    let mut revocations = Revocations::new();
    for bytes in told {
        for operator in operators {
            // What is no revocation of this operator says nothing about it.
            let _ = revocations.add(authority, None, operator, bytes);
        }
    }
    revocations
}

/// Whether a holder's certificate counts: its operator was not revoked before it was issued.
/// The holder of an operator's key chooses serials, so that for writers of a revoked one
/// `listed` decides: whether a layout of that epoch listed the certificate.
pub(crate) fn vouches(
    operators: &[CertifiedKey],
    revoked: &Revocations,
    key: &CertifiedKey,
    listed: impl Fn(&Hash, u64) -> bool,
) -> bool {
    let Some(operator) = operators.iter().find(|at| at.public().fingerprint() == key.issuer()) else { return true };
    let Some(last) = revoked.last_good(&operator.certificate_hash()) else { return true };
    let is_writer = matches!(key.role(), Role::Writer | Role::Migrator);
    revoked.permits_certificate(operator, key) && (!is_writer || listed(&key.certificate_hash(), last.epoch))
}

/// All that count, and their envelopes.
pub(crate) fn all<'a>(
    authority: &Authority,
    operators: &[CertifiedKey],
    holders: impl Iterator<Item = &'a Arc<CertifiedKey>> + Clone,
    told: &BTreeSet<Vec<u8>>,
) -> (Revocations, Vec<Vec<u8>>) {
    let (mut revocations, mut counted) = (Revocations::new(), Vec::new());
    for bytes in told {
        let mut of_root = |subject: &CertifiedKey| revocations.add(authority, None, subject, bytes).is_ok();
        let mut counts = operators.iter().any(&mut of_root) || holders.clone().any(|subject| of_root(subject));
        if !counts {
            for operator in operators {
                for subject in holders.clone() {
                    counts |= revocations.add(authority, Some(operator), subject, bytes).is_ok();
                }
            }
        }
        counted.extend(counts.then(|| bytes.clone()));
    }
    (revocations, counted)
}
