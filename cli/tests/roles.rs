//! Keys for a role, issued through the program and used on a machine that has nothing else
//! but the vault's public file.
//!
//! What must hold: each does its work there and no other's; whoever is revoked does
//! nothing more.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Stage, cards, rot, write_tree};

/// Issues a key on this host and brings it to a machine of its own.
fn issued(stage: &Stage, role: &str, key: &[String]) {
    let file = format!("{role}.key");
    stage
        .holdfast_with(&["keys", "issue", "--role", role, "--name", &format!("our {role}"), "--out", &file], key)
        .ends(0)
        .says(&format!("The {role} key \"our {role}\" is in"));
    stage.other_host(role);
    fs::rename(stage.path(&file), stage.path(&format!("{role}-keys/{file}"))).unwrap();
}

/// Ids of the points that the cards open, oldest first.
fn listed(stage: &Stage, key: &[String]) -> Vec<String> {
    let points = stage.holdfast_with(&["--json", "vault", "snapshots"], key).ends(0).events("point");
    points.iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect()
}

fn shards(stage: &Stage) -> usize {
    (1..=9).map(|place| stage.shards_in(&format!("vault/p{place}")).len()).sum()
}

#[test]
fn each_role_does_its_work_where_nothing_else_is() {
    let stage = Stage::with_local_vault();
    let mut numbers = Numbers(71);
    write_tree(&stage.path("tree"), 20_000, &mut numbers);
    for _ in 0..5 {
        fs::write(stage.path("tree/own"), numbers.bytes(300_000)).unwrap();
        stage.holdfast(&["vault", "run", "tree"]).ends(0);
    }
    stage.deal_cards();
    let key = cards(&[2, 3, 5]);
    an_auditor_audits(&stage, &key);
    a_janitor_collects(&stage, &key);
    an_operator_admits(&stage, &key);
}

fn an_auditor_audits(stage: &Stage, key: &[String]) {
    issued(stage, "auditor", key);
    stage.on_host("auditor", &["keys", "status"]).ends(0).says("auditor").says("our auditor");
    stage.on_host("auditor", &["vault", "audit", "--full"]).ends(0);
    let shard = stage.shards_in("vault/p3").remove(0);
    let good = fs::read(&shard).unwrap();
    rot(&shard);
    stage.on_host("auditor", &["vault", "audit", "--full"]).ends(4).says("p3");
    fs::write(&shard, good).unwrap();
    stage.on_host("auditor", &["vault", "audit", "--full"]).ends(0);
    let tree = stage.text("tree");
    for words in [&["vault", "run", &tree][..], &["vault", "restore", "--to", "none"], &["vault", "gc", "--apply"]] {
        stage.on_host("auditor", words).ends(12);
    }
}

fn a_janitor_collects(stage: &Stage, key: &[String]) {
    issued(stage, "janitor", key);
    let ids = listed(stage, key);
    let (before, second) = (shards(stage), ids[1].as_str());
    stage.on_host("janitor", &["vault", "forget", second, "--apply"]).ends(0);
    assert_eq!(listed(stage, key), [&ids[..1], &ids[2..]].concat());
    stage.on_host("janitor", &["vault", "trash", "purge", second, "--confirm", "demo"]).ends(0);
    stage.on_host("janitor", &["vault", "gc", "--apply"]).ends(0);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let swept = stage.on_host("janitor", &["--json", "vault", "gc", "--apply"]).ends(0);
    assert!(swept.last()["swept"].as_u64() > Some(0), "{}", swept.shown());
    assert!(shards(stage) < before + 9, "{} of {before}", shards(stage));
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.on_host("janitor", &["vault", "restore", "--to", "none"]).ends(12);

    // Revoked: what it let go stays gone, and nothing more goes by its word.
    stage.holdfast(&["keys", "revoke", "our janitor", "--apply"]).ends(0);
    let left = listed(stage, key);
    assert!(!left.contains(&ids[1]));
    stage.on_host("janitor", &["vault", "forget", &left[0], "--apply"]).ends(12).says("this key was revoked");
    stage.on_host("janitor", &["vault", "gc", "--apply"]).ends(12).says("this key was revoked");
    assert_eq!(listed(stage, key), left);
}

fn an_operator_admits(stage: &Stage, key: &[String]) {
    issued(stage, "operator", key);
    let issue = ["keys", "issue", "--role", "auditor", "--name", "by the second", "--out", "second-auditor.key"];
    stage.on_host("operator", &issue).ends(0);
    stage.holdfast(&["keys", "status"]).ends(0).says("our operator").says("by the second");
    stage.on_host("operator", &["keys", "revoke", "by the second", "--apply"]).ends(0);
    stage.holdfast(&["keys", "status"]).ends(0).says("revoked after");
    // The root alone revokes an operator.
    stage.holdfast(&["keys", "revoke", "our operator", "--apply"]).ends(12).says("only the root");
    stage.holdfast_with(&["keys", "revoke", "our operator", "--apply"], key).ends(0);
    let again = ["keys", "issue", "--role", "auditor", "--name", "too late", "--out", "late.key"];
    let refused = stage.on_host("operator", &again);
    assert_ne!(refused.code, 0, "{}", refused.shown());
    stage.holdfast(&["vault", "audit"]).ends(0);
}
