//! The keys of a host that is admitted to a vault by its seed: after the old host is
//! gone, or to add one while the cards are together.
//!
//! What always holds: the host gets an identity of its own, so that the old one, if it
//! lives after all, never signs in the same chain; it gets a dedup scope that the seed
//! opens, so that what was stored is found again; the seed itself is in no file.

use rand_core::CryptoRng;
use vault_format::certificate::Role;
use vault_format::{Blob, ScopeId, VaultId, WriterId};

use crate::certificate::{self, Request};
use crate::data_key::LocalSecret;
use crate::error::Result;
use crate::files::{OperatorKey, WriterKey};
use crate::first::CERTIFICATE_MS;
use crate::kem::RecipientPublic;
use crate::seed::{Generation, Seed};
use crate::signature::SigningKey;

/// What the vault's records say that the new keys must agree with.
pub struct Admission {
    /// The vault.
    pub vault: VaultId,
    /// Generation of the seed.
    pub generation: Generation,
    /// Readers to seal for, newest generation last.
    pub readers: Vec<RecipientPublic>,
    /// The janitor to seal for.
    pub janitor: RecipientPublic,
    /// A scope to share with those who wrote before; none draws a new one.
    pub scope: Option<ScopeId>,
    /// Higher than the serial of every operator certificate the root issued.
    pub serial: u64,
    /// Names the host for people.
    pub host: String,
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
}

/// An operator certified by the root, and a writer certified by that operator.
pub struct HostKeys {
    /// Signs layouts.
    pub operator: OperatorKey,
    /// Writes backups.
    pub writer: WriterKey,
}

impl HostKeys {
    /// Draws and certifies both.
    pub fn draw<R: CryptoRng + ?Sized>(rng: &mut R, seed: &Seed, admission: Admission) -> Result<Self> {
        let Admission { vault, generation, readers, janitor, scope, serial, host, now_ms } = admission;
        let (mut operator_id, mut writer) = (WriterId::default(), WriterId::default());
        rng.fill_bytes(&mut operator_id.0);
        rng.fill_bytes(&mut writer.0);
        let scope = scope.unwrap_or(ScopeId(writer.0));
        let root = seed.root_key(generation);
        let (operator, signing) = (SigningKey::random(rng), SigningKey::random(rng));
        let request = |role, subject, public: &SigningKey, serial, name: &str| Request {
            role,
            subject,
            public: public.verifying_key().clone(),
            kem_public: None,
            serial,
            not_before_ms: now_ms,
            not_after_ms: now_ms.saturating_add(CERTIFICATE_MS),
            scope: (role == Role::Writer).then_some(scope),
            name: name.to_owned(),
        };
        let of_operator =
            certificate::issue(&root, vault, request(Role::Operator, operator_id, &operator, serial, "operator"))?;
        let of_writer = certificate::issue(&operator, vault, request(Role::Writer, writer, &signing, 1, &host))?;
        let (of_operator, of_writer) = (Blob(of_operator), Blob(of_writer));
        Ok(Self {
            writer: WriterKey {
                vault,
                writer,
                signing,
                scope,
                dedup: seed.dedup_keys(generation, scope),
                index: seed.index_key(generation, writer),
                local: LocalSecret::random(rng),
                reader: readers,
                janitor,
                root: root.verifying_key().clone(),
                certificates: vec![of_operator.clone(), of_writer],
            },
            operator: OperatorKey {
                vault,
                subject: operator_id,
                signing: operator,
                root: root.verifying_key().clone(),
                certificate: of_operator,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::first::FirstKeys;

    #[test]
    fn a_new_host_cuts_and_names_chunks_as_the_old_one_and_signs_as_itself() {
        let rng = &mut ChaCha20Rng::from_seed([4; 32]);
        let first = FirstKeys::draw(rng, "old", 1_000);
        let admission = Admission {
            vault: first.master.vault,
            generation: first.master.generation,
            readers: first.writer.reader.clone(),
            janitor: first.writer.janitor.clone(),
            scope: Some(first.writer.scope),
            serial: 2,
            host: "new".to_owned(),
            now_ms: 2_000,
        };
        let new = HostKeys::draw(rng, &first.master.seed, admission).unwrap();
        let certified = new.writer.certified().unwrap();
        assert_eq!((certified.role(), certified.scope()), (Role::Writer, Some(first.writer.scope)));
        assert_ne!(new.writer.writer, first.writer.writer);
        assert_eq!(new.operator.certified().unwrap().serial(), 2);
        assert_eq!(new.writer.dedup.id_key.chunk_id(b"x"), first.writer.dedup.id_key.chunk_id(b"x"));
        assert_eq!(new.writer.dedup.chunker_seed.expose_secret(), first.writer.dedup.chunker_seed.expose_secret());
    }
}
