//! What a vault promises, tried from the outside: every loss it says it
//! survives, and the smallest it does not.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use vault_ops::OpsError;
use vault_ops::audit::{AuditOptions, Outcome};
use world::{Lab, random_bytes};

fn subsets(of: usize, size: usize) -> Vec<Vec<usize>> {
    (0_u32..1 << of)
        .filter(|bits| bits.count_ones() as usize == size)
        .map(|bits| (0..of).filter(|at| bits >> at & 1 == 1).collect())
        .collect()
}

#[tokio::test]
async fn what_was_backed_up_comes_back_and_a_second_run_stores_only_what_is_new() {
    let mut lab = Lab::new(1, (5, 9), 0, &[0; 9]).await;
    let mut bytes = random_bytes(1, 3_000_000);
    let first = lab.backup(&bytes).await.unwrap();
    assert!(first.is_full() && first.packs_new > 0, "{first:?}");
    assert_eq!(lab.restore(0).await.unwrap(), bytes);
    let same = lab.backup(&bytes).await.unwrap();
    assert_eq!(same.statistics.new_bytes, 0, "an unchanged source stores only its point record");
    bytes.extend_from_slice(&random_bytes(2, 100_000));
    let more = lab.backup(&bytes).await.unwrap();
    assert!(more.statistics.new_bytes < 400_000, "{:?}", more.statistics);
    assert_eq!(lab.restore(0).await.unwrap(), bytes);
    assert_eq!(lab.restore(2).await.unwrap(), bytes[..3_000_000]);
}

#[tokio::test]
async fn any_four_of_nine_locations_may_vanish_and_five_say_lost_or_unreachable() {
    let mut lab = Lab::new(2, (5, 9), 4, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
    let bytes = random_bytes(3, 700_000);
    lab.backup(&bytes).await.unwrap();
    for gone in subsets(9, 4) {
        lab.down.clone_from(&gone);
        assert_eq!(lab.restore(0).await.unwrap(), bytes, "without {gone:?}");
    }
    lab.down = vec![0, 2, 4, 6, 8];
    let error = lab.restore(0).await.unwrap_err();
    assert!(
        matches!(&error, OpsError::Unreachable { what } if what.contains("Nothing is known to be lost")),
        "{error}"
    );
    lab.down.clear();
    for at in [0, 2, 4, 6, 8] {
        for name in lab.names(at).await.into_iter().filter(|name| name.starts_with("shards/")) {
            lab.delete(at, &name).await;
        }
    }
    let error = lab.restore(0).await.unwrap_err();
    assert!(matches!(&error, OpsError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn every_shape_restores_from_its_smallest_sets() {
    for ((k, n), seed) in [((3_u8, 5_u8), 4), ((7, 15), 5), ((1, 3), 6)] {
        let domains: Vec<u8> = (0..n).collect();
        let mut lab = Lab::new(seed, (k, n), n - k, &domains).await;
        let bytes = random_bytes(seed, 600_000);
        lab.backup(&bytes).await.unwrap();
        let losses = subsets(n.into(), (n - k).into());
        let step = losses.len().div_ceil(40);
        for gone in losses.into_iter().step_by(step) {
            lab.down.clone_from(&gone);
            assert_eq!(lab.restore(0).await.unwrap(), bytes, "{k} of {n} without {gone:?}");
        }
    }
}

#[tokio::test]
async fn a_lost_catalog_costs_a_reread_never_an_upload() {
    let mut lab = Lab::new(7, (5, 9), 1, &[0, 0, 0, 1, 1, 2, 2, 3, 3]).await;
    let bytes = random_bytes(7, 2_000_000);
    lab.backup(&bytes).await.unwrap();
    lab.forget_catalog();
    let again = lab.backup(&bytes).await.unwrap();
    assert_eq!(again.statistics.new_bytes, 0);
    assert_eq!(again.manifest, (2, 2), "the chain goes on, in an epoch of its own, behind the heartbeat that opens it");
    assert_eq!(lab.catalog.points().unwrap().len(), 2);
}

#[tokio::test]
async fn a_location_down_during_a_backup_is_handed_over_and_said() {
    let mut lab = Lab::new(8, (5, 9), 1, &[0, 1, 2, 3]).await;
    lab.down = vec![2];
    let bytes = random_bytes(8, 900_000);
    let report = lab.backup(&bytes).await.unwrap();
    assert!(!report.is_full(), "never a silent ok");
    assert!(report.debts.iter().all(|debt| debt.kept_by.is_some()), "{:?}", report.debts);
    assert!(!report.manifest_owed.is_empty());
    for second in [0, 1, 3] {
        lab.down = vec![second];
        assert_eq!(lab.restore(0).await.unwrap(), bytes, "durable(1) held while p3 was down; then {second} went");
    }
    lab.down.clear();
    let vault = lab.open().await.unwrap();
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert!(!plan.shards.is_empty());
    let done = vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty() && done.lost.is_empty(), "{done:?}");
    assert!(vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap().is_empty());
}

#[tokio::test]
async fn too_few_domains_refuse_before_anything_is_written() {
    let mut lab = Lab::new(9, (5, 9), 1, &[0, 1, 2, 3]).await;
    lab.down = vec![0, 1];
    let error = lab.backup(&random_bytes(9, 100_000)).await.unwrap_err();
    assert!(matches!(&error, OpsError::Unreachable { what } if what.contains("nothing was written")), "{error}");
    assert!(lab.names(2).await.iter().all(|name| !name.starts_with("shards/")));
}

#[tokio::test]
async fn a_flipped_byte_is_found_by_an_audit_and_repaired_without_a_key() {
    let mut lab = Lab::new(10, (5, 9), 0, &[0; 9]).await;
    let bytes = random_bytes(10, 1_500_000);
    lab.backup(&bytes).await.unwrap();
    let name = lab.names(3).await.into_iter().find(|name| name.starts_with("shards/")).unwrap();
    let good = lab.get(3, &name).await;
    let mut bad = good.clone();
    bad[20_000] ^= 1;
    lab.put(3, &name, bad).await;
    let vault = lab.open().await.unwrap();
    let options = AuditOptions { samples: 10_000, location: None, full: false };
    let report = vault_ops::audit::run(&vault, &lab.catalog, &options).await.unwrap();
    assert_eq!(report.worst(), Outcome::Contained, "{:?}", report.findings);
    assert_eq!(report.findings.len(), 1);
    assert!(report.locations[3].full, "a wrong byte raises the location to a full scrub");
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert_eq!(plan.shards.len(), 1);
    vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert_eq!(lab.get(3, &name).await, good, "the same bytes as first written");
    let report = vault_ops::audit::run(&vault, &lab.catalog, &options).await.unwrap();
    assert_eq!(report.worst(), Outcome::Ok);
}

#[tokio::test]
async fn a_wiped_location_is_refilled_to_the_byte() {
    let mut lab = Lab::new(11, (5, 9), 1, &[0, 1, 2, 3]).await;
    lab.backup(&random_bytes(11, 800_000)).await.unwrap();
    let mut before = Vec::new();
    for name in lab.names(1).await {
        before.push((name.clone(), lab.get(1, &name).await));
    }
    lab.wipe(1).await;
    let vault = lab.open().await.unwrap();
    assert_eq!(vault.locations.len(), 4, "known by its name, though its marker is gone");
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    for (name, bytes) in before {
        assert_eq!(lab.get(1, &name).await, bytes, "{name}");
    }
}

#[tokio::test]
async fn a_rolled_back_chain_is_never_silent() {
    let mut lab = Lab::new(12, (5, 9), 0, &[0; 9]).await;
    lab.backup(&random_bytes(12, 100_000)).await.unwrap();
    lab.backup(&random_bytes(13, 100_000)).await.unwrap();
    for at in 0..9 {
        let newest = lab.names(at).await.into_iter().find(|name| name.starts_with("manifests/")).unwrap();
        lab.delete(at, &newest).await;
    }
    let error = lab.backup(&random_bytes(14, 100_000)).await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
}

#[tokio::test]
async fn a_truncated_manifest_on_one_location_changes_nothing() {
    let mut lab = Lab::new(15, (5, 9), 1, &[0, 1, 2, 3]).await;
    let bytes = random_bytes(15, 200_000);
    lab.backup(&bytes).await.unwrap();
    let name = lab.names(0).await.into_iter().find(|name| name.starts_with("manifests/")).unwrap();
    let whole = lab.get(0, &name).await;
    lab.put(0, &name, whole[..whole.len() / 2].to_vec()).await;
    assert_eq!(lab.restore(0).await.unwrap(), bytes);
    for at in 1..4 {
        lab.put(at, &name, whole[..whole.len() - 1].to_vec()).await;
    }
    let vault = lab.open().await.unwrap();
    let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
    assert!(list.points.is_empty());
    assert!(list.remarks.iter().any(|remark| remark.contains("unreadable")), "{:?}", list.remarks);
}

#[tokio::test]
async fn another_vaults_key_opens_nothing_and_says_so() {
    let mut lab = Lab::new(16, (5, 9), 0, &[0; 9]).await;
    lab.backup(&random_bytes(16, 100_000)).await.unwrap();
    let other = Lab::new(17, (5, 9), 0, &[0; 9]).await;
    let vault = lab.open().await.unwrap();
    let error = vault_ops::points::list(&vault, &other.read_key()).await.unwrap_err();
    assert!(matches!(error, OpsError::Key { .. }), "{error}");
}

#[tokio::test]
async fn records_left_on_one_location_only_are_copied_before_a_point_is_durable() {
    let mut lab = Lab::new(18, (5, 9), 1, &[0, 1, 2, 3]).await;
    for at in 1..4 {
        for name in lab.names(at).await.into_iter().filter(|name| name != "location") {
            lab.delete(at, &name).await;
        }
    }
    let look = vault_ops::status::look(&lab.open().await.unwrap(), &lab.catalog).await.unwrap();
    let lacking = look.risks.iter().filter(|risk| risk.contains("lacks 4 signed records"));
    assert_eq!(lacking.count(), 3, "{:?}", look.risks);
    let bytes = random_bytes(18, 100_000);
    lab.backup(&bytes).await.unwrap();
    for gone in 0..4 {
        lab.down = vec![gone];
        assert_eq!(lab.restore(0).await.unwrap(), bytes, "without p{}", gone + 1);
    }
}
