//! Revocations: where the trust in a certified key ends.
//!
//! What always holds: a revocation names the last good position, so what a key
//! signed before it was stolen stays valid; the earliest position of several
//! wins; an operator is revoked by the root only, everyone else by an operator
//! or the root. For an operator the position is (last good layout epoch, last
//! good serial of the certificates it issued).

use std::collections::BTreeMap;

use vault_format::Hash;
use vault_format::certificate::{Revocation, Role};
use vault_format::envelope::RecordKind;

use crate::certificate::{Authority, CertifiedKey};
use crate::error::{KeysError, Result};
use crate::record::VerifiedRecord;

/// A position in what a key signed: epoch, then sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// A writer's epoch; an operator's layout epoch.
    pub epoch: u64,
    /// A writer's sequence; the serial of an operator's certificate.
    pub sequence: u64,
}

/// All revocations known, by the certificate they end.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    last_good: BTreeMap<Hash, Position>,
}

impl Revocations {
    /// None known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a revocation of `subject`, signed by `operator` or, without one, by
    /// the root.
    pub fn add(
        &mut self,
        authority: &Authority,
        operator: Option<&CertifiedKey>,
        subject: &CertifiedKey,
        bytes: &[u8],
    ) -> Result<()> {
        let record = match operator {
            None => authority.revocation(bytes)?,
            Some(_) if subject.role() == Role::Operator => {
                return Err(KeysError::Role { role: Role::Operator, action: "revoking an operator" });
            }
            Some(operator) => operator.verify(bytes, RecordKind::Revocation)?,
        };
        self.note(subject, &record)
    }

    fn note(&mut self, subject: &CertifiedKey, record: &VerifiedRecord) -> Result<()> {
        let body: Revocation = record.decode("revocation")?;
        if body.certificate != subject.certificate_hash() || body.subject != subject.subject() {
            return Err(KeysError::Certificate { reason: "the revocation names another certificate" });
        }
        let position = Position { epoch: body.epoch, sequence: body.sequence };
        let known = self.last_good.entry(body.certificate).or_insert(position);
        *known = (*known).min(position);
        Ok(())
    }

    /// Whether what a certificate's key signed at `position` still counts.
    pub fn permits(&self, certificate: &Hash, position: Position) -> bool {
        self.last_good.get(certificate).is_none_or(|last| position <= *last)
    }

    /// Whether a certificate still counts, given its operator's.
    pub fn permits_certificate(&self, operator: &CertifiedKey, holder: &CertifiedKey) -> bool {
        let last = self.last_good.get(&operator.certificate_hash());
        last.is_none_or(|last| holder.serial() <= last.sequence)
    }

    /// Where the trust in a certificate ends, if it does.
    pub fn last_good(&self, certificate: &Hash) -> Option<Position> {
        self.last_good.get(certificate).copied()
    }

    /// Whether a certificate was revoked at all: such a key signs nothing new.
    pub fn is_revoked(&self, certificate: &Hash) -> bool {
        self.last_good.contains_key(certificate)
    }
}
