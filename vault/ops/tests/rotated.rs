//! The seed is rotated: what was sealed stays readable with the new one alone, what is
//! sealed from then on with the new one only; hosts that know nothing of it follow;
//! and whoever is killed on the way leaves a vault that one of the two seeds opens.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;

use keys::files::{MasterSeed, ReadKey, WriterKey};
use keys::rotation::{Rotated, Rotation};
use keys::seed::{Generation, Seed};
use vault_ops::audit::{self, AuditOptions, Outcome};
use vault_ops::catalog::RecordFailure;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::points::{self, PointList};
use vault_ops::repair::{self, Cause, RecordTask};
use vault_ops::restore::open_point;
use vault_ops::vault::{Expected, Vault};
use vault_ops::world::Compute;
use vault_ops::{amend, issue, rotate};
use world::stores::{Trip, Tripwire};
use world::yard::loaded;
use world::{Lab, random_bytes, read_stream, rng, scale};

const SEED: u64 = 0x207a;

fn next_seed(lab: &Lab, draw: u64) -> MasterSeed {
    let generation = Generation(lab.keys.master.generation.0 + 1);
    MasterSeed { vault: lab.keys.public.vault, generation, seed: Seed::random(&mut rng(draw)) }
}

fn signed(lab: &Lab, vault: &Vault, new: &MasterSeed) -> Rotated {
    let rotation = Rotation {
        vault: vault.id,
        old: &lab.keys.master.seed,
        generation: lab.keys.master.generation,
        new: &new.seed,
        record: &vault.record,
        record_hash: vault.record_hash,
        revocations: &vault.revocations,
        now_ms: lab.world.now_ms(),
    };
    rotation.sign(&mut lab.world.rng()).unwrap()
}

/// The writer's key as a host has it: its file is of the first generation.
fn followed(vault: &Vault, key: &WriterKey) -> Arc<WriterKey> {
    let mut key = Arc::into_inner(loaded(key)).unwrap();
    vault.follow(&mut key).unwrap();
    Arc::new(key)
}

fn read_key(master: &MasterSeed, vault: &Vault) -> Arc<ReadKey> {
    let mut key = ReadKey::from_seed(&master.seed, master.generation, master.vault);
    vault.complete(&mut key).unwrap();
    Arc::new(key)
}

/// All points that a key opens, oldest first, and what is said of the others.
async fn all_with(vault: &Vault, keys: &Arc<ReadKey>) -> (Vec<Vec<u8>>, PointList) {
    let list = points::list(vault, keys).await.unwrap();
    let mut bytes = Vec::new();
    for point in &list.points {
        let holdings = list_shards(vault, &vault.writer_ids()).await;
        let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
        let open =
            open_point(fetcher, Arc::clone(keys), Compute::Inline, point.pack, Some(point.record)).await.unwrap();
        bytes.push(read_stream(&open).await.unwrap());
    }
    (bytes, list)
}

#[tokio::test]
async fn the_new_seed_opens_all_and_the_old_one_what_was_sealed_before() {
    let mut lab = Lab::new(SEED, (3, 5), 1, &[0, 1, 2, 3]).await;
    let old = random_bytes(1, 200_000);
    lab.backup(&old).await.unwrap();
    let vault = lab.open().await.unwrap();
    let new = next_seed(&lab, 2);
    assert!(rotate::publish(&vault, &signed(&lab, &vault, &new)).await.unwrap().is_empty());

    // Opened by who pins the old root: it follows.
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.record.epoch, vault.former.len()), (2, 1));
    assert_ne!(vault.root, lab.keys.public.root);
    // The writer's file still seals to the old generation: that is refused, and followed.
    let refused = lab.backup(&old).await.unwrap_err();
    assert!(refused.to_string().contains("seals to another reader key"), "{refused}");
    let writer = followed(&vault, &lab.keys.writer);
    let more = [&old[..], &random_bytes(3, 50_000)].concat();
    let report = lab.backup_as(&vault, Arc::clone(&writer), &more).await.unwrap();
    assert!(report.packs_reused > 0 && report.statistics.new_bytes < 120_000, "chunks are found again: {report:?}");

    let vault = lab.open().await.unwrap();
    let (bytes, list) = all_with(&vault, &read_key(&new, &vault)).await;
    assert!(bytes == [old.clone(), more.clone()] && list.remarks.is_empty(), "{:?}", list.remarks);
    // The old seed: its point, and a word about the other.
    let (bytes, list) = all_with(&vault, &read_key(&lab.keys.master, &vault)).await;
    assert!(bytes == [old.clone()]);
    assert!(list.remarks.iter().any(|remark| remark.contains("key generation")), "{:?}", list.remarks);
    // The new root, pinned, opens the vault as well.
    let expected = Expected { vault: None, root: vault.root.clone() };
    let candidates = lab.candidates();
    let pinned = Vault::open(lab.world.clone(), &expected, candidates).await.unwrap();
    assert_eq!((pinned.record_hash, pinned.former.len()), (vault.record_hash, 1));
    // A lost catalog is filled again across both generations.
    lab.forget_catalog();
    let again = lab.backup_as(&vault, writer, &more).await.unwrap();
    assert_eq!(again.statistics.new_bytes, 0, "{again:?}");
}

#[tokio::test]
async fn another_host_follows_without_a_new_key_file() {
    let mut lab = Lab::new(SEED + 1, (3, 5), 1, &[0, 1, 2, 3]).await;
    let vault = lab.open().await.unwrap();
    // Its certificate ended in 1980: that is said and stops nothing.
    let said = keys::issue::Said { now_ms: 1, ..issue_said(&lab, &vault, "second") };
    let from = keys::issue::ScopeFrom::Read(&lab.keys.read);
    let second = keys::issue::writer(&mut rng(5), &lab.keys.operator, &vault.record, from, &said).unwrap();
    issue::admit(&vault, &lab.keys.operator, &second.certificates[1]).await.unwrap();
    let vault = lab.open().await.unwrap();
    assert!(vault.writer(second.writer).unwrap().is_expired(lab.world.now_ms()));
    let (one, two) = (random_bytes(10, 80_000), random_bytes(11, 90_000));
    lab.backup_in(&vault, &one).await.unwrap();
    let first_catalog = std::mem::replace(&mut lab.catalog, other_catalog());
    lab.backup_as(&vault, loaded(&second), &two).await.unwrap();

    let new = next_seed(&lab, 6);
    rotate::publish(&vault, &signed(&lab, &vault, &new)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let three = random_bytes(12, 70_000);
    lab.backup_as(&vault, followed(&vault, &second), &three).await.unwrap();
    lab.catalog = first_catalog;
    lab.backup_as(&vault, followed(&vault, &lab.keys.writer), &one).await.unwrap();
    let vault = lab.open().await.unwrap();
    let (bytes, list) = all_with(&vault, &read_key(&new, &vault)).await;
    assert!(bytes == [one.clone(), two, three, one] && list.remarks.is_empty(), "{:?}", list.remarks);
    // Nothing is missing anywhere, for who holds no key.
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert!(plan.is_empty(), "{:?}", plan.shards);
}

fn issue_said(lab: &Lab, vault: &Vault, name: &str) -> keys::issue::Said {
    keys::issue::Said { name: name.to_owned(), serial: issue::next_serial(vault), now_ms: lab.world.now_ms() }
}

fn other_catalog() -> vault_ops::catalog::Catalog {
    let dir = tempfile::tempdir().unwrap().keep();
    vault_ops::catalog::Catalog::open(&dir.join("catalog")).unwrap()
}

/// Killed at every operation: whoever opens the vault then sees one generation whole,
/// and the same bytes written again bring the new one into force.
#[tokio::test]
async fn killed_anywhere_one_generation_stands_and_the_next_run_completes() {
    let mut base = Lab::new(SEED + 2, (3, 5), 1, &[0, 1, 2, 3]).await;
    let old = random_bytes(20, 60_000);
    base.backup(&old).await.unwrap();
    let vault = base.open().await.unwrap();
    let new = next_seed(&base, 21);
    let rotated = signed(&base, &vault, &new);
    let wire = Tripwire::never();
    let counted = base.fork(1).open_through(|_, store| wire.store(store)).await.unwrap();
    let first = wire.seen();
    rotate::publish(&counted, &rotated).await.unwrap();
    let last = wire.seen();
    assert!(last - first > 20, "{first} to {last}");
    let step = if scale("HOLDFAST_CRASHES") > 1 { 1 } else { 3 };
    let mut generations = [0, 0];
    for trip in [Trip::Fails, Trip::DiesBefore, Trip::DiesAfter] {
        for at in (first..last).step_by(step) {
            let place = format!("seed {:#x}, {trip:?} at operation {at} of {last}", SEED + 2);
            let mut crashed = base.fork(at as u64);
            let wire = Tripwire::new(at, trip);
            let tripped = crashed.open_through(|_, store| wire.store(store)).await.unwrap();
            let done = wire.run(rotate::publish(&tripped, &rotated)).await;
            let vault = crashed.open().await.unwrap();
            let is_new = vault.record.epoch == 2;
            assert!(is_new || !matches!(done, Some(Ok(_))), "{place}: reported and not in force");
            generations[usize::from(is_new)] += 1;
            // The old seed opens what it opened; the new one too, once it counts.
            let (bytes, _) = all_with(&vault, &read_key(&base.keys.master, &vault)).await;
            assert!(bytes == [old.clone()], "{place}");
            let seeds = if is_new { &new } else { &base.keys.master };
            // A host that runs now, whatever it sees, writes what the seed of that generation opens.
            let more = random_bytes(22, 50_000);
            crashed.backup_as(&vault, followed(&vault, &base.keys.writer), &more).await.unwrap();
            let vault = crashed.open().await.unwrap();
            let (bytes, _) = all_with(&vault, &read_key(seeds, &vault)).await;
            assert!(bytes == [old.clone(), more.clone()], "{place}");
            // The next run writes the same bytes: then the new seed opens it all.
            rotate::publish(&vault, &rotated).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            let vault = crashed.open().await.unwrap();
            let (bytes, _) = all_with(&vault, &read_key(&new, &vault)).await;
            assert!(vault.record.epoch == 2 && bytes == [old.clone(), more], "{place}");
        }
    }
    println!("old generation {} times, new {} times", generations[0], generations[1]);
    assert!(generations.iter().all(|&times| times > 3), "{generations:?}");
}

/// A second root with the old one's word: nobody is believed, and nothing is written.
#[tokio::test]
async fn two_rotations_from_one_seed_are_refused_not_chosen_from() {
    let mut lab = Lab::new(SEED + 3, (3, 5), 1, &[0, 1, 2, 3]).await;
    lab.backup(&random_bytes(30, 50_000)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let (ours, thiefs) = (next_seed(&lab, 31), next_seed(&lab, 32));
    rotate::publish(&vault, &signed(&lab, &vault, &ours)).await.unwrap();
    let forged = signed(&lab, &vault, &thiefs);
    lab.put(3, "vault/0000000000000000", forged.record.0.clone()).await;
    let refused = lab.open().await.err().unwrap();
    assert!(refused.to_string().contains("two keys claim to follow"), "{refused}");
    // Who pins the new root is not stopped.
    let root = ours.seed.root_key(ours.generation).verifying_key().clone();
    let expected = Expected { vault: Some(vault.id), root };
    let opened = Vault::open(lab.world.clone(), &expected, lab.candidates()).await.unwrap();
    assert_eq!(opened.record.epoch, 2);
}

/// A key was lost: what it signed up to a place stays, what it signs after that is nobody's.
#[tokio::test]
async fn a_revoked_writers_later_points_count_nowhere_and_its_earlier_ones_stay() {
    let mut lab = Lab::new(SEED + 4, (3, 5), 1, &[0, 1, 2, 3]).await;
    let vault = lab.open().await.unwrap();
    let said = issue_said(&lab, &vault, "second");
    let from = keys::issue::ScopeFrom::Shared(&lab.keys.writer);
    let second = keys::issue::writer(&mut rng(40), &lab.keys.operator, &vault.record, from, &said).unwrap();
    issue::admit(&vault, &lab.keys.operator, &second.certificates[1]).await.unwrap();
    let vault = lab.open().await.unwrap();
    issue::admit(&vault, &lab.keys.operator, &second.certificates[1]).await.unwrap();
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.layout.epoch, vault.layout.writers.len()), (2, 2), "once is enough");
    let (good, bad, ours) = (random_bytes(41, 60_000), random_bytes(42, 60_000), random_bytes(43, 60_000));
    let first_catalog = std::mem::replace(&mut lab.catalog, other_catalog());
    lab.backup_as(&vault, loaded(&second), &good).await.unwrap();
    lab.backup_as(&vault, loaded(&second), &bad).await.unwrap();

    let vault = lab.open().await.unwrap();
    let (hash, certificate) = issue::find(&vault, "second").unwrap();
    assert_eq!(certificate.subject, second.writer);
    let seen = issue::last_seen(&vault, &certificate).await.unwrap();
    assert_eq!((seen.epoch, seen.sequence), (1, 2), "without a word all that is seen stays");
    let until = keys::revocation::Position { epoch: 1, sequence: 1 };
    let by = &lab.keys.operator.signing;
    issue::revoke(&vault, by, (hash, certificate.subject), until, "lost").await.unwrap();
    let vault = lab.open().await.unwrap();
    let (bytes, list) = all_with(&vault, &lab.read_key()).await;
    assert!(bytes == [good.clone()]);
    assert!(list.remarks.iter().any(|remark| remark.contains("revoked")), "{:?}", list.remarks);
    let refused = lab.backup_as(&vault, loaded(&second), &ours).await.unwrap_err();
    assert!(refused.to_string().contains("was revoked"), "{refused}");
    // The other writer goes on, and so does it across a rotation.
    lab.catalog = first_catalog;
    let new = next_seed(&lab, 44);
    rotate::publish(&vault, &signed(&lab, &vault, &new)).await.unwrap();
    let vault = lab.open().await.unwrap();
    lab.backup_as(&vault, followed(&vault, &lab.keys.writer), &ours).await.unwrap();
    let vault = lab.open().await.unwrap();
    let (bytes, _) = all_with(&vault, &read_key(&new, &vault)).await;
    assert!(bytes == [good, ours], "the revocation holds under the new root");
}

/// A record that names an operator whom the root in force did not certify opens nowhere.
#[tokio::test]
async fn an_operator_of_a_former_root_is_not_named() {
    let lab = Lab::new(SEED + 5, (3, 5), 1, &[0, 1, 2, 3]).await;
    let vault = lab.open().await.unwrap();
    let of_the_first = (&lab.keys.master.seed, lab.keys.master.generation);
    let said = issue_said(&lab, &vault, "second");
    let operator = keys::issue::operator(&mut rng(50), vault.id, of_the_first, &said).unwrap();
    let new = next_seed(&lab, 51);
    rotate::publish(&vault, &signed(&lab, &vault, &new)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let root = new.seed.root_key(new.generation);
    let refused = amend::add_operator(&vault, &root, operator.certificate).await.unwrap_err();
    assert!(refused.to_string().contains("did not certify this operator"), "{refused}");
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.record.epoch, vault.record.operators.len()), (2, 1));

    let operator = keys::issue::operator(&mut rng(52), vault.id, (&new.seed, new.generation), &said).unwrap();
    amend::add_operator(&vault, &root, operator.certificate).await.unwrap();
    assert_eq!(lab.open().await.unwrap().record.operators.len(), 2);
}

/// A rotation wrote its record at one place and was killed; while that was away another
/// record took its number everywhere else. The run that goes on takes the next number.
#[tokio::test]
async fn a_number_that_two_records_claim_is_left_to_both() {
    let mut lab = Lab::new(SEED + 6, (3, 5), 1, &[0, 1, 2, 3]).await;
    let old = random_bytes(60, 50_000);
    lab.backup(&old).await.unwrap();
    let vault = lab.open().await.unwrap();
    let new = next_seed(&lab, 61);
    let rotated = signed(&lab, &vault, &new);
    let name = vault_format::names::vault(2);
    let set = vault_format::vault::CardSet { number: 1, need: 1, cards: Vec::new(), created_ms: 1 };
    let old_root = lab.keys.master.seed.root_key(lab.keys.master.generation);
    amend::add_card_set(&vault, &old_root, set).await.unwrap();
    lab.delete(0, &name).await;
    lab.put(0, &name, rotated.record.0.clone()).await;
    for certificate in &rotated.certificates {
        let name = vault_format::names::certificate(keys::record::hash(&certificate.0));
        lab.put(0, &name, certificate.0.clone()).await;
    }

    let vault = lab.open().await.unwrap();
    assert_eq!(vault.record_bytes, rotated.record.0, "it shows itself early, and counts");
    let lost = lab.get(1, &name).await;
    assert_ne!(lost, rotated.record.0);
    nothing_is_written_over(&mut lab, &vault, &name, &lost).await;
    assert!(rotate::publish(&vault, &rotated).await.is_err(), "its number is taken");
    let root = new.seed.root_key(new.generation);
    let raised = rotate::raised(&vault, &rotated, &root).await.unwrap().unwrap();
    assert!(rotate::publish(&vault, &raised).await.unwrap().is_empty());
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.record.epoch, &vault.record_bytes), (3, &raised.record.0));
    assert!(rotate::raised(&vault, &raised, &root).await.unwrap().is_none());
    // A backup completes what it finds, and everything opens.
    let more = random_bytes(62, 50_000);
    lab.backup_as(&vault, followed(&vault, &lab.keys.writer), &more).await.unwrap();
    let (bytes, _) = all_with(&lab.open().await.unwrap(), &read_key(&new, &vault)).await;
    assert!(bytes == [old, more]);
}

/// The record that lost its number is no damage: an audit says it, a repair keeps it, also
/// one that has a failure of it on record.
async fn nothing_is_written_over(lab: &mut Lab, vault: &Vault, name: &str, lost: &[u8]) {
    let options = AuditOptions { samples: 0, location: None, full: true };
    let report = audit::run(vault, &lab.catalog, &options).await.unwrap();
    let told: Vec<_> = report.records.iter().filter(|finding| finding.name == name).collect();
    assert_eq!(told.len(), 3, "{:?}", report.records);
    assert!(told.iter().all(|finding| finding.outcome == Outcome::Unknown && finding.what.contains("it is kept")));
    assert!(lab.catalog.record_failures().unwrap().iter().all(|failure| failure.name != name));

    // As an earlier run may have noted it, before and after the plan was made.
    let note = |lab: &Lab| {
        for location in &vault.locations {
            let (seen_ms, what) = (lab.world.now_ms(), "its bytes are others".to_owned());
            let failure = RecordFailure { location: location.id, name: name.to_owned(), seen_ms, what };
            lab.catalog.add_record_failure(&failure).unwrap();
        }
    };
    note(lab);
    let mut plan = repair::plan(vault, &lab.catalog).await.unwrap();
    assert_eq!(plan.seconds.len(), 3, "{plan:?}");
    let at = |number: usize| vault.locations[number].id;
    plan.records.push(RecordTask {
        location: at(1),
        name: name.to_owned(),
        bytes: vault.record_bytes.clone(),
        cause: Cause::Wrong("its bytes are others".to_owned()),
    });
    let done = repair::apply(vault, &lab.catalog, &plan).await.unwrap();
    assert!(done.failed.iter().any(|why| why.contains("it is kept")), "{:?}", done.failed);
    for place in 1..4 {
        assert_eq!(lab.get(place, name).await, lost, "place {place}");
    }
}
