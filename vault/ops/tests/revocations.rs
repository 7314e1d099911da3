//! Revocations: where the trust in a key ends, for layouts and certificates as for
//! manifests; and that the word reaches every location.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use keys::SigningKey;
use keys::certificate::{Request, issue};
use vault_format::certificate::{Revocation, Role};
use vault_format::envelope::RecordKind;
use vault_format::layout::LayoutRecord;
use vault_format::{Hash, WriterId, names};
use vault_ops::repair;
use world::{Lab, random_bytes, rng};

/// A lab whose operator key was stolen: the thief has published a layout that promises
/// nothing, and admitted a writer with this serial. Returns its certificate's hash.
async fn robbed(seed: u64, serial: u64) -> (Lab, Hash) {
    robbed_of(seed, Role::Writer, serial).await
}

/// Likewise, somebody of this role.
async fn robbed_of(seed: u64, role: Role, serial: u64) -> (Lab, Hash) {
    let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
    lab.backup(&random_bytes(seed, 50_000)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let operator = &lab.keys.operator.signing;
    let layout = LayoutRecord { epoch: 2, previous: vault.layout_hash, survive_domains: 0, ..vault.layout.clone() };
    let layout = keys::record::sign(RecordKind::Layout, vault.id, &vault_format::encode(&layout), operator);
    let thief = SigningKey::random(&mut rng(seed + 1));
    let request = Request {
        role,
        subject: WriterId([9; 16]),
        public: thief.verifying_key().clone(),
        kem_public: None,
        serial,
        not_before_ms: 1,
        not_after_ms: i64::MAX,
        scope: (role == Role::Writer).then_some(lab.keys.writer.scope),
        name: "thief".to_owned(),
    };
    let certificate = issue(operator, vault.id, request).unwrap();
    let hash = keys::record::hash(&certificate);
    for at in 0..5 {
        lab.put(at, &names::layout(2), layout.clone()).await;
        lab.put(at, &names::certificate(hash), certificate.clone()).await;
    }
    (lab, hash)
}

fn revocation(lab: &Lab, by: &SigningKey) -> (String, Vec<u8>) {
    let operator = lab.keys.operator.certified().unwrap();
    revocation_of(lab, by, (operator.certificate_hash(), operator.subject()), (1, 1))
}

fn revocation_of(
    lab: &Lab,
    by: &SigningKey,
    (certificate, subject): (Hash, WriterId),
    (epoch, sequence): (u64, u64),
) -> (String, Vec<u8>) {
    let body = Revocation {
        certificate,
        subject,
        epoch,
        sequence,
        reason: "stolen".to_owned(),
        created_ms: lab.world.now_ms(),
    };
    let bytes = keys::record::sign(RecordKind::Revocation, lab.keys.public.vault, &vault_format::encode(&body), by);
    (names::revocation(keys::record::hash(&bytes)), bytes)
}

#[tokio::test]
async fn a_revoked_operator_lays_out_and_admits_nothing_more() {
    let (mut lab, thief) = robbed(1, 2).await;
    let vault = lab.open().await.unwrap();
    assert!(vault.layout.epoch == 2 && vault.writers.contains_key(&thief), "until it is revoked it counts");

    // Nobody but the root revokes an operator.
    let (name, bytes) = revocation(&lab, &lab.keys.operator.signing);
    lab.put(0, &name, bytes).await;
    assert_eq!(lab.open().await.unwrap().layout.epoch, 2);

    let root = lab.keys.master.seed.root_key(lab.keys.master.generation);
    let (name, bytes) = revocation(&lab, &root);
    lab.put(2, &name, bytes.clone()).await;
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.layout.epoch, vault.survive()), (1, 1), "the layout before it counts again");
    assert!(!vault.writers.contains_key(&thief));
    assert!(vault.writer(lab.keys.writer.writer).is_some(), "what was signed before stays good");

    // A repair carries the word to every location, and the vault goes on.
    let plan = repair::plan(&vault, &lab.catalog).await.unwrap();
    let owed = plan.records.iter().filter(|task| task.name == name).count();
    assert_eq!(owed, 4, "all but the one that has it");
    repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    for at in 0..5 {
        assert_eq!(lab.get(at, &name).await, bytes);
    }
    let more = random_bytes(2, 60_000);
    lab.backup(&more).await.unwrap();
    assert!(lab.restore(0).await.unwrap() == more);
}

/// The thief chooses serials: one that is good counts only if a layout of before listed
/// the writer.
#[tokio::test]
async fn a_revoked_operator_admits_nobody_under_an_old_serial() {
    let (lab, thief) = robbed(3, 1).await;
    assert!(lab.open().await.unwrap().writers.contains_key(&thief));
    let root = lab.keys.master.seed.root_key(lab.keys.master.generation);
    let (name, bytes) = revocation(&lab, &root);
    lab.put(2, &name, bytes).await;
    let vault = lab.open().await.unwrap();
    assert!(!vault.writers.contains_key(&thief), "no layout of before names it");
    assert!(vault.writer(lab.keys.writer.writer).is_some(), "the first layout named this one");
}

/// Janitors stand in no layout: one that the thief of an operator's key certified under a
/// serial that is good counts until it is revoked by itself, which the root can do.
#[tokio::test]
async fn a_janitor_under_an_old_serial_is_ended_by_its_own_revocation() {
    let (lab, thief) = robbed_of(5, Role::Janitor, 1).await;
    let root = lab.keys.master.seed.root_key(lab.keys.master.generation);
    let counts = |vault: &vault_ops::vault::Vault| {
        let known = vault.janitors.iter().any(|key| key.certificate_hash() == thief);
        let last = keys::revocation::Position { epoch: 1, sequence: 1 };
        known && vault.revocations.permits(&thief, last)
    };
    let (name, bytes) = revocation(&lab, &root);
    lab.put(2, &name, bytes).await;
    assert!(counts(&lab.open().await.unwrap()), "as keys/FORMAT.md says");
    let (name, bytes) = revocation_of(&lab, &root, (thief, WriterId([9; 16])), (0, 0));
    lab.put(2, &name, bytes.clone()).await;
    let vault = lab.open().await.unwrap();
    assert!(!counts(&vault));
    let plan = repair::plan(&vault, &lab.catalog).await.unwrap();
    assert_eq!(plan.records.iter().filter(|task| task.name == name).count(), 4, "it is copied everywhere");
}
