//! People forget points by rules and by name, take them back, and free the room.
//!
//! What must hold: nothing goes without `--apply`, nothing by a rule that keeps nothing;
//! a forgotten point is gone from the lists and comes back whole; a purged one is
//! deleted only after every writer could have seen that, and what is left restores.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Ran, Stage, assert_same_tree, copy_exactly, write_tree};

/// A vault with so many points, each with its own large file, all kept beside it.
fn stage_with_points(points: usize) -> Stage {
    let stage = Stage::with_local_vault();
    let mut numbers = Numbers(14);
    write_tree(&stage.path("tree"), 100_000, &mut numbers);
    for point in 0..points {
        fs::write(stage.path("tree/own"), numbers.bytes(1_500_000)).unwrap();
        let tag = if point == 0 { "release" } else { "daily" };
        stage.holdfast(&["vault", "run", "tree", "--tag", tag]).ends(0);
        copy_exactly(&stage.path("tree"), &stage.path(&format!("was{point}")));
    }
    stage
}

/// Ids, oldest first.
fn listed(stage: &Stage) -> Vec<String> {
    let points = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0).events("point");
    points.iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect()
}

fn actions(ran: &Ran, action: &str) -> Vec<String> {
    let events = ran.events("point").into_iter().filter(|event| event["action"] == action);
    events.map(|event| event["point"].as_str().unwrap().to_owned()).collect()
}

fn shard_bytes(stage: &Stage) -> u64 {
    let shards = (1..=9).flat_map(|place| stage.shards_in(&format!("vault/p{place}")));
    shards.map(|shard| fs::metadata(shard).unwrap().len()).sum()
}

fn restores(stage: &Stage, id: &str, was: &str, code: i32) {
    let to = format!("out-{id}-{code}");
    stage.holdfast(&["vault", "restore", id, "--to", &to]).ends(code);
    assert_same_tree(&stage.path(was), &stage.path(&to).join("tree"));
    fs::remove_dir_all(stage.path(&to)).unwrap();
}

#[test]
fn points_are_forgotten_taken_back_and_freed() {
    let stage = stage_with_points(6);
    let ids = listed(&stage);
    assert_eq!(ids.len(), 6);
    rules_that_keep_nothing_are_refused(&stage);

    // The rule keeps one; the newest three and the tagged one stay all the same.
    let rule = ["--json", "vault", "forget", "--keep-last", "1", "--keep-tag", "release"];
    let plan = stage.holdfast(&rule).ends(0);
    assert_eq!(actions(&plan, "forget"), ids[1..3], "{}", plan.shown());
    assert_eq!(listed(&stage), ids, "a plan changes nothing");
    let done = stage.holdfast_with(&rule, &["--apply".to_owned()]).ends(0);
    assert_eq!(actions(&done, "forget"), ids[1..3], "{}", done.shown());
    assert_eq!(listed(&stage), [&ids[..1], &ids[3..]].concat());

    let trash = stage.holdfast(&["--json", "vault", "trash", "list"]).ends(0);
    assert_eq!(actions(&trash, "trash"), ids[1..3], "{}", trash.shown());
    let status = stage.holdfast(&["--json", "vault", "status"]);
    assert_eq!(status.last()["trash"]["points"], 2, "{}", status.shown());
    assert!(status.last()["trash"]["bytes"].as_u64() > Some(0), "{}", status.shown());
    stage.holdfast(&["vault", "status"]).says("trash: 2 points");

    // Out of the trash into a folder, with a word of warning; and back to the living.
    restores(&stage, &ids[1], "was1", 0);
    stage.holdfast(&["vault", "restore", &ids[1], "--to", "warned"]).says("is in the trash");
    stage.holdfast(&["vault", "trash", "restore", &ids[1]]).ends(0).says("is back");
    assert_eq!(listed(&stage), [&ids[..2], &ids[3..]].concat());

    purged_and_freed(&stage, &ids);
}

fn rules_that_keep_nothing_are_refused(stage: &Stage) {
    for rule in [
        &["--keep-last", "0"][..],
        &["--keep-daily", "0", "--keep-weekly", "0"],
        &["--keep-tag", ""],
        &["--keep-tag", "a,"],
        &["--keep-within", "30 days"],
        &["--keep-last", "-2"],
        &["--policy", "docs"],
        &[],
    ] {
        let words: Vec<String> = rule.iter().map(|&word| word.to_owned()).chain(["--apply".to_owned()]).collect();
        stage.holdfast_with(&["vault", "forget"], &words).ends(2);
    }
    stage.holdfast(&["vault", "forget", "--keep-last", "3", "p-abc"]).ends(2);
    stage.holdfast(&["vault", "trash", "purge", "p-abc", "--confirm", "other"]).ends(2).says("the vault's name is");
    // More than half takes the vault's name.
    let ids = listed(stage);
    let most: Vec<String> = ids.iter().take(4).cloned().chain(["--apply".to_owned()]).collect();
    stage.holdfast_with(&["vault", "forget"], &most).says("more than half").says("--confirm");
    assert_eq!(listed(stage), ids);
}

fn purged_and_freed(stage: &Stage, ids: &[String]) {
    let full = shard_bytes(stage);
    // In its grace nothing is freed, however often it is asked for.
    stage.holdfast(&["vault", "gc", "--apply"]).ends(0).says("0 packs condemned");
    assert_eq!(shard_bytes(stage), full);

    stage.holdfast(&["vault", "trash", "purge", &ids[2], "--confirm", "demo"]).ends(0);
    let condemned = stage.holdfast(&["--json", "vault", "gc", "--apply"]).ends(0);
    assert!(condemned.last()["condemned"].as_u64() > Some(0), "{}", condemned.shown());
    // This host's writer has not seen it yet: whatever is condemned waits.
    let waits = stage.holdfast(&["--json", "vault", "gc", "--apply"]).ends(0);
    assert_eq!((&waits.last()["swept"], &waits.last()["deleted"]), (&0.into(), &0.into()), "{}", waits.shown());
    assert_eq!(shard_bytes(stage), full);

    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let before = shard_bytes(stage);
    let swept = stage.holdfast(&["--json", "vault", "gc", "--apply"]).ends(0);
    assert!(swept.last()["swept"].as_u64() > Some(0), "{}", swept.shown());
    // A point's own 1.5 MB, five ninths of it being data.
    assert!(shard_bytes(stage) + 2_000_000 < before, "{} of {before}: {}", shard_bytes(stage), swept.shown());

    let gone = stage.holdfast(&["vault", "trash", "restore", &ids[2]]);
    assert_ne!(gone.code, 0, "{}", gone.shown());
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast(&["vault", "repair", "--plan"]).ends(0).says("0 shards to write");
    for at in [0, 1, 3, 4, 5] {
        restores(stage, &ids[at], &format!("was{at}"), 0);
    }
    // The manifest goes after its packs; then there is nothing left to do.
    stage.holdfast(&["vault", "gc", "--apply"]).ends(0).says("0 swept").says("1 manifests removed");
    stage.holdfast(&["vault", "gc", "--apply"]).ends(0).says("0 swept").says("0 objects deleted");
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    assert_eq!(listed(stage).len(), 6);
}

/// What the policies say, in one command for a timer.
#[test]
fn the_janitor_goes_by_the_policies() {
    let stage = stage_with_points(5);
    stage.holdfast(&["janitor"]).ends(0).says("no policy says what to keep");
    stage.append_config(&format!(
        "\n[source.tree]\nkind = \"directory\"\npaths = [{:?}]\n\n[policy.tree]\nsource = \"tree\"\nschedule = \"daily\"\n\
         keep = {{ last = 2, tags = [\"release\"] }}\n",
        stage.path("tree").to_str().unwrap()
    ));
    let others = listed(&stage);
    for _ in 0..5 {
        fs::write(stage.path("tree/own"), Numbers(15).bytes(20_000)).unwrap();
        stage.holdfast(&["vault", "run", "tree"]).ends(0);
    }
    let all = listed(&stage);
    let run = stage.holdfast(&["--json", "janitor"]).ends(0);
    // Points of the path, which no policy names, are left alone; the newest three stay.
    assert_eq!(actions(&run, "forget"), all[5..7], "{}", run.shown());
    assert_eq!(listed(&stage), [&others[..], &all[7..]].concat());
    stage.holdfast(&["janitor"]).ends(0).says("0 to the trash");
}

/// A person pins a point, forgets in vain, and unpins it.
#[test]
fn a_pinned_point_stays_until_it_is_unpinned() {
    let stage = stage_with_points(4);
    fs::write(stage.path("tree/own"), Numbers(16).bytes(20_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree", "--pin"]).ends(0);
    let ids = listed(&stage);
    let pinned = |stage: &Stage| {
        let points = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0).events("point");
        let pinned = points.into_iter().filter(|point| point["pinned"] == true);
        pinned.map(|point| point["point"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(pinned(&stage), ids[4..], "--pin");
    stage.holdfast(&["vault", "pin", &ids[0], &ids[4]]).ends(0).says("pinned").says("1 of them were pinned before");
    assert_eq!(pinned(&stage), [ids[0].clone(), ids[4].clone()]);
    stage.holdfast(&["vault", "snapshots"]).ends(0).says("(pinned)");

    let rule = ["--json", "vault", "forget", "--keep-last", "1"];
    let plan = stage.holdfast(&rule).ends(0);
    assert_eq!(actions(&plan, "forget"), ids[1..2], "the newest three and the pinned stay: {}", plan.shown());
    let unpin = format!("vault unpin p-{}", &ids[0][..6]);
    stage.holdfast(&["vault", "forget", &ids[0], "--apply"]).ends(2).says("is pinned").says(&unpin);
    assert_eq!(listed(&stage), ids);

    // What is in the trash is brought back first.
    stage.holdfast(&["vault", "forget", &ids[1], "--apply"]).ends(0);
    stage.holdfast(&["vault", "pin", &ids[1]]).ends(2).says("vault trash restore p-");
    stage.holdfast(&["vault", "pin"]).ends(2);
    stage.holdfast(&["vault", "pin", "p-123456"]).ends(10);

    stage.holdfast(&["vault", "unpin", &ids[0], &ids[4]]).ends(0).says("vault forget --plan");
    assert!(pinned(&stage).is_empty());
    let plan = stage.holdfast(&rule).ends(0);
    assert_eq!(actions(&plan, "forget"), ids[..1], "{}", plan.shown());
    restores(&stage, &ids[0], "was0", 0);
}
