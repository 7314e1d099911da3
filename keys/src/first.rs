//! The keys of a new vault: one seed, and what the first host needs of it.
//!
//! What always holds: everything but the writer's local secret and the operator's
//! and writer's signing keys follows from the seed; each key is a file of its own,
//! so that a host holds only what its role needs.

use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use vault_format::certificate::Role;
use vault_format::{Blob, ScopeId, VaultId, WriterId};

use crate::certificate::{self, Request};
use crate::data_key::LocalSecret;
use crate::error::{FileFault, KeysError, Result};
use crate::files::{
    self, JanitorGeneration, JanitorKey, MasterSeed, OperatorKey, ReadKey, SealWith, VaultPublic, WriterKey,
};
use crate::seed::{Generation, Seed};
use crate::signature::SigningKey;

/// How long a first certificate is meant to last; after that readers warn.
pub(crate) const CERTIFICATE_MS: i64 = 10 * 365 * 24 * 3600 * 1000;

/// Where the key files of a vault lie.
#[derive(Clone, Debug)]
pub struct KeyFolder(pub PathBuf);

impl KeyFolder {
    /// The seed; belongs on cards, not on the host.
    pub fn master_seed(&self) -> PathBuf {
        self.0.join("master.seed")
    }

    /// The seed of a rotation that is not finished.
    pub fn next_seed(&self) -> PathBuf {
        self.0.join("master.seed.next")
    }

    /// Seeds that lie here: the one in force, one of a rotation that is not finished,
    /// former ones, what a killed run left half written.
    pub fn seeds_here(&self) -> Vec<PathBuf> {
        let mut here: Vec<PathBuf> = std::fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().trim_start_matches('.').starts_with("master.seed"))
            })
            .collect();
        here.sort();
        here
    }

    /// The vault record of a rotation that is not finished: public.
    pub fn next_record(&self) -> PathBuf {
        self.0.join("vault.record.next")
    }

    /// A former seed, kept after a rotation: it opens what was sealed before it.
    pub fn former_seed(&self, generation: Generation) -> PathBuf {
        self.0.join(format!("master.seed.{}", generation.0))
    }

    /// Opens everything; belongs on the host only while restoring.
    pub fn read_key(&self) -> PathBuf {
        self.0.join("read.key")
    }

    /// Certifies writers and signs layouts.
    pub fn operator_key(&self) -> PathBuf {
        self.0.join("operator.key")
    }

    /// Forgets and collects garbage; belongs where the janitor runs.
    pub fn janitor_key(&self) -> PathBuf {
        self.0.join("janitor.key")
    }

    /// What the agent needs.
    pub fn writer_key(&self) -> PathBuf {
        self.0.join("writer.key")
    }

    /// Public: the vault's id and the root's keys.
    pub fn public(&self) -> PathBuf {
        self.0.join("vault.pub")
    }

    /// Says that no copy of the key is elsewhere, if it is there.
    pub fn no_key_copy(&self) -> PathBuf {
        self.0.join("no-key-copy.txt")
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// All keys of a new vault.
pub struct FirstKeys {
    /// The seed.
    pub master: MasterSeed,
    /// The reader's keys.
    pub read: ReadKey,
    /// The operator's keys.
    pub operator: OperatorKey,
    /// The first writer's keys.
    pub writer: WriterKey,
    /// The janitor's keys.
    pub janitor: JanitorKey,
    /// What anybody may know.
    pub public: VaultPublic,
}

impl FirstKeys {
    /// Draws a seed and derives, draws and certifies the rest. `host` names the
    /// writer for people.
    pub fn draw<R: CryptoRng + ?Sized>(rng: &mut R, host: &str, now_ms: i64) -> Self {
        let generation = Generation::FIRST;
        let (mut vault, mut operator_id, mut writer) = (VaultId::default(), WriterId::default(), WriterId::default());
        rng.fill_bytes(&mut vault.0);
        rng.fill_bytes(&mut operator_id.0);
        rng.fill_bytes(&mut writer.0);
        let scope = ScopeId(writer.0);
        let seed = Seed::random(rng);
        let root = seed.root_key(generation);
        let (operator, writer_signing) = (SigningKey::random(rng), SigningKey::random(rng));
        let request = |role, subject, signing: &SigningKey, name: &str| Request {
            role,
            subject,
            public: signing.verifying_key().clone(),
            kem_public: None,
            serial: 1,
            not_before_ms: now_ms,
            not_after_ms: now_ms.saturating_add(CERTIFICATE_MS),
            scope: (role == Role::Writer).then_some(scope),
            name: name.to_owned(),
        };
        let issue = |issuer: &SigningKey, request| {
            Blob(certificate::issue(issuer, vault, request).expect("a first request's dates and scope agree"))
        };
        let operator_certificate = issue(&root, request(Role::Operator, operator_id, &operator, "operator"));
        let writer_certificate = issue(&operator, request(Role::Writer, writer, &writer_signing, host));
        let read = ReadKey::from_seed(&seed, generation, vault);
        let local = LocalSecret::random(rng);
        // Drawn last: what is drawn before it stays what it always was.
        let (mut janitor_id, janitor) = (WriterId::default(), SigningKey::random(rng));
        rng.fill_bytes(&mut janitor_id.0);
        let serial_two = |request: Request| Request { serial: 2, ..request };
        let janitor_certificate = issue(&operator, serial_two(request(Role::Janitor, janitor_id, &janitor, "janitor")));
        Self {
            janitor: JanitorKey {
                vault,
                subject: janitor_id,
                signing: janitor,
                generations: vec![JanitorGeneration { generation, janitor: seed.janitor_key(generation) }],
                root: root.verifying_key().clone(),
                certificates: vec![operator_certificate.clone(), janitor_certificate],
            },
            public: VaultPublic { vault, root: root.verifying_key().clone() },
            writer: WriterKey {
                vault,
                writer,
                signing: writer_signing,
                scope,
                dedup: seed.dedup_keys(generation, scope),
                index: seed.index_key(generation, writer),
                local,
                reader: vec![seed.reader_key(generation).public().clone()],
                janitor: seed.janitor_key(generation).public().clone(),
                root: root.verifying_key().clone(),
                certificates: vec![operator_certificate.clone(), writer_certificate],
            },
            operator: OperatorKey {
                vault,
                subject: operator_id,
                signing: operator,
                root: root.verifying_key().clone(),
                certificate: operator_certificate,
            },
            read,
            master: MasterSeed { vault, generation, seed },
        }
    }

    /// Writes each key to its file. Nothing is overwritten: a folder that holds a
    /// key of a vault already is refused before anything is written.
    pub fn save(&self, folder: &KeyFolder) -> Result<()> {
        self.save_as(folder, None)
    }

    /// The same with the operator's key sealed by a passphrase, if there is one.
    pub fn save_as(&self, folder: &KeyFolder, operator: Option<&SealWith<'_>>) -> Result<()> {
        let all = [
            folder.master_seed(),
            folder.read_key(),
            folder.operator_key(),
            folder.janitor_key(),
            folder.writer_key(),
            folder.public(),
        ];
        if let Some(there) = all.into_iter().find(|path| path.exists()) {
            return Err(KeysError::KeyFile { path: there, fault: FileFault::Exists });
        }
        files::create_folder(folder.path())?;
        files::create(&folder.master_seed(), &self.master)?;
        files::create(&folder.read_key(), &self.read)?;
        files::create_as(&folder.operator_key(), &self.operator, operator)?;
        files::create(&folder.janitor_key(), &self.janitor)?;
        files::create(&folder.writer_key(), &self.writer)?;
        files::create(&folder.public(), &self.public)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn what_is_drawn_fits_together_and_is_never_overwritten() {
        let keys = FirstKeys::draw(&mut ChaCha20Rng::from_seed([1; 32]), "host", 1_000);
        assert_eq!(keys.writer.certified().unwrap().role(), Role::Writer);
        assert_eq!(keys.writer.certified().unwrap().issuer(), keys.operator.signing.fingerprint());
        assert_eq!(keys.read.root, keys.public.root);

        let scratch = tempfile::tempdir().unwrap();
        let folder = KeyFolder(scratch.path().join("etc/keys"));
        keys.save(&folder).unwrap();
        let writer: WriterKey = files::load(&folder.writer_key()).unwrap();
        assert_eq!(writer.signing.fingerprint(), keys.writer.signing.fingerprint());
        let janitor: JanitorKey = files::load(&folder.janitor_key()).unwrap();
        assert_eq!(janitor.certified().unwrap().role(), Role::Janitor);
        assert!(janitor.janitor(&writer.janitor.id()).is_some() && janitor.janitor(&writer.reader[0].id()).is_none());
        let read: ReadKey = files::load(&folder.read_key()).unwrap();
        assert!(read.reader(&writer.reader[0].id()).is_some());

        std::fs::remove_file(folder.writer_key()).unwrap();
        let refused = FirstKeys::draw(&mut ChaCha20Rng::from_seed([2; 32]), "host", 1).save(&folder).unwrap_err();
        assert!(matches!(refused, KeysError::KeyFile { fault: FileFault::Exists, .. }));
        assert!(!folder.writer_key().exists(), "nothing of the second vault was written");
    }
}
