//! The host is gone with its configuration, its keys and its catalog. What is left:
//! the places, somebody's credentials for them, and three of five cards. A new machine
//! takes the vault over.
//!
//! What must hold: every old point restores byte for byte; the new machine backs up
//! again and stores nothing that is stored already; the points of the old one stay
//! listed; no file is overwritten, and a run that was cut off is taken up again; where
//! two vaults lie together the right one must be named; a read key alone restores and
//! never writes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Place, Stage, assert_same_tree, cards, copy_exactly, write_tree};
use test_servers::SeaweedFs;

/// A vault with two points, the first kept in `tree-1`.
fn two_points(stage: &Stage, numbers: &mut Numbers) {
    write_tree(&stage.path("tree"), 800_000, numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    copy_exactly(&stage.path("tree"), &stage.path("tree-1"));
    fs::write(stage.path("tree/second"), numbers.bytes(300_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage.deal_cards();
}

/// Everything the host had.
fn the_host_burns(stage: &Stage) {
    fs::remove_file(stage.config()).unwrap();
    fs::remove_dir_all(stage.path("vault/keys")).unwrap();
    fs::remove_dir_all(stage.path("vault/state")).unwrap();
}

fn from(folders: impl IntoIterator<Item = u32>, base: &str) -> Vec<String> {
    let names = folders.into_iter().map(|number| format!("{base}/p{number}"));
    std::iter::once("--from".to_owned()).chain(names).collect()
}

#[track_caller]
fn restores(stage: &Stage, point: &str, like: &str, key: &[String]) {
    let ran = stage.holdfast_with(&["vault", "restore", point, "--to", "out"], key);
    assert!(ran.code == 0 || ran.code == 3, "{}", ran.shown());
    let restored = fs::read_dir(stage.path("out")).unwrap().next().unwrap().unwrap().path();
    assert_same_tree(&stage.path(like), &restored);
    fs::remove_dir_all(stage.path("out")).unwrap();
}

fn points(stage: &Stage, key: &[String]) -> usize {
    let list = [["--json", "vault", "snapshots"].map(str::to_owned).to_vec(), key.to_vec()].concat();
    stage.holdfast_with(&[], &list).ends(0).events("point").len()
}

#[test]
fn folders_and_cards_are_enough_to_go_on() {
    let stage = Stage::with_local_vault();
    let numbers = &mut Numbers(21);
    two_points(&stage, numbers);
    the_host_burns(&stage);
    let key = cards(&[1, 3, 5]);
    let more = [from(1..=9, "vault"), key.clone()].concat();

    // Two cards are too few, and nothing is written for them.
    let few = [from(1..=9, "vault"), cards(&[1, 3])].concat();
    stage.holdfast_with(&["vault", "init", "--adopt"], &few).ends(13);
    stage.holdfast_with(&["vault", "init", "--adopt"], &cards(&[1, 3, 5])).ends(2).says("--from");
    assert!(!stage.config().exists() && !stage.path("keys").exists());

    let adopted = stage.holdfast_with(&["vault", "init", "--adopt"], &more).ends(0);
    adopted.says("2 points").says("stays listed").says("Adopted vault \"demo\"");
    assert!(!stage.path("keys/read.key").exists() && !stage.path("keys/master.seed").exists());
    stage.holdfast(&["config", "check"]).ends(0);
    stage.holdfast(&["vault", "status"]).never_says("DATA LOST").says("tree");
    restores(&stage, "latest", "tree", &key);
    restores(&stage, "latest~1", "tree-1", &key);

    // It backs up, leans on what the old host stored, and both restore.
    let run = stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0);
    assert_eq!(run.events("point")[0]["new_bytes"], 0, "{}", run.shown());
    fs::write(stage.path("tree/third"), numbers.bytes(200_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    restores(&stage, "latest", "tree", &key);
    restores(&stage, "latest~3", "tree-1", &key);
    assert_eq!(points(&stage, &key), 4);
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);

    // A second time: the configuration stands. Without it: what is there is taken up.
    stage.holdfast_with(&["vault", "init", "--adopt"], &more).ends(2).says("nothing was changed");
    fs::remove_file(stage.config()).unwrap();
    stage.holdfast_with(&["vault", "init", "--adopt"], &more).ends(0).says("goes on as writer");
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    // Bare shards of it all, under any names, restore the newest point, too.
    fs::create_dir(stage.path("box")).unwrap();
    for folder in [2, 3, 5, 6, 8] {
        for shard in stage.shards_in(&format!("vault/p{folder}")) {
            fs::copy(shard, stage.path("box").join(format!("{:016x}", numbers.next()))).unwrap();
        }
    }
    let bare = [key.clone(), vec!["--from".to_owned(), "box".to_owned()]].concat();
    restores(&stage, "latest", "tree", &bare);
}

#[test]
fn a_missing_place_is_said_and_a_read_key_never_writes() {
    let stage = Stage::with_local_vault();
    two_points(&stage, &mut Numbers(22));
    the_host_burns(&stage);
    let recover = [vec!["keys".to_owned(), "recover".to_owned()], cards(&[2, 3, 4])].concat();
    stage.holdfast_with(&[], &recover).ends(0);
    fs::rename(stage.path("vault/p4"), stage.path("gone")).unwrap();
    let read = ["--read-key".to_owned(), "read.key".to_owned()].to_vec();
    let more = [vec!["--adopt".to_owned()], from([1, 2, 3, 5, 6, 7, 8, 9], "vault"), read.clone()].concat();
    let adopted = stage.holdfast_with(&["vault", "init", "--name", "saved"], &more).ends(3);
    adopted.says("does not back up").says("does not take part");
    let config = fs::read_to_string(stage.config()).unwrap();
    assert!(config.contains("[vault.saved]") && config.contains("# [location.p4]"), "{config}");
    restores(&stage, "latest", "tree", &read);
    stage.holdfast(&["vault", "run", "tree"]).ends(12);
    stage.holdfast(&["vault", "audit"]).never_says("DATA LOST");
}

#[test]
fn of_two_vaults_in_one_place_the_right_one_is_named() {
    let stage = Stage::with_local_vault();
    two_points(&stage, &mut Numbers(23));
    let other = Stage::with_local_vault();
    fs::rename(other.path("vault"), stage.path("other")).unwrap();
    the_host_burns(&stage);
    let both = [from(1..=9, "vault"), from(1..=3, "other")[1..].to_vec(), cards(&[1, 2, 3])].concat();
    let refused = stage.holdfast_with(&["vault", "init", "--adopt"], &both).ends(2);
    refused.says("several vaults").says("--name demo");
    assert!(!stage.config().exists() && !stage.path("keys").exists());
    stage
        .holdfast_with(&["vault", "init", "--adopt", "--name", "demo"], &both)
        .ends(3)
        .says("it belongs to another vault")
        .never_says("owed");
    restores(&stage, "latest", "tree", &cards(&[1, 2, 3]));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
}

#[test]
fn buckets_with_their_own_credentials_are_adopted() {
    let stage = Stage::new();
    let weed = SeaweedFs::start();
    weed.make_bucket("far");
    let keys = (weed.access.as_str(), weed.secret.as_str());
    let places = [
        Place::bucket(&stage, "near", "provider-a", &format!("{}/holdfast", weed.bucket), &weed.endpoint, keys),
        Place::bucket(&stage, "far", "provider-b", "far/deep/prefix", &weed.endpoint, keys),
        Place::folder(&stage, "house", "house"),
    ];
    stage.init_over(&places, 1).ends(0);
    let numbers = &mut Numbers(24);
    two_points(&stage, numbers);
    // Somebody kept a list of the places, not the configuration.
    let whole = fs::read_to_string(stage.config()).unwrap();
    fs::write(stage.path("places.toml"), &whole[whole.find("[location").unwrap()..]).unwrap();
    the_host_burns(&stage);
    let key = cards(&[2, 4, 5]);
    let locations = ["--locations".to_owned(), "places.toml".to_owned()].to_vec();
    let bare = [locations.clone(), key.clone()].concat();
    restores(&stage, "latest", "tree", &bare);
    stage
        .holdfast_with(&["vault", "init", "--adopt"], &bare)
        .ends(0)
        .says("Adopted vault \"home\"")
        .says("3 locations");
    restores(&stage, "latest~1", "tree-1", &key);
    fs::write(stage.path("tree/new"), numbers.bytes(100_000)).unwrap();
    let run = stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0);
    assert!(run.events("point")[0]["new_bytes"].as_u64().unwrap() <= 1_100_000, "{}", run.shown());
    restores(&stage, "latest", "tree", &key);
    restores(&stage, "latest~2", "tree-1", &key);
    stage.holdfast(&["vault", "audit"]).ends(0);
}
