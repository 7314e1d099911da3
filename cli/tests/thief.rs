//! A thief takes the writer's credentials, overwrites every object and deletes half of
//! them, in every bucket.
//!
//! What must hold: on buckets with versions and with locks everything restores from the
//! older versions, `status` says that this is so and who would be left, and a repair makes
//! it whole; on a plain bucket it is lost, and the program says so (5) and not "no vault"
//! or "try again". What a doctor says of each bucket is what the thief then meets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use stage::{Numbers, Place, Stage, assert_same_tree, write_tree};
use test_servers::SeaweedFs;

/// A vault over three buckets, each its own domain.
fn vault_over(server: &SeaweedFs, buckets: [&str; 3], more: &str) -> Stage {
    let stage = Stage::new();
    let places = buckets.map(|bucket| {
        let (domain, at) = (format!("provider-{bucket}"), format!("{bucket}/holdfast"));
        let keys = (server.access.as_str(), server.secret.as_str());
        let mut place = Place::bucket(&stage, bucket, &domain, &at, &server.endpoint, keys);
        place.more.push_str(more);
        place
    });
    stage.init_over(&places, 1).ends(0);
    write_tree(&stage.path("tree"), 1_000_000, &mut Numbers(17));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage
}

#[test]
fn versions_and_locks_outlive_a_thief_and_a_plain_bucket_does_not() {
    let server = SeaweedFs::start();
    kept_by_versions(&server);
    kept_by_locks(&server);
    lost_without(&server);
}

fn kept_by_versions(server: &SeaweedFs) {
    let buckets = ["versioned-a", "versioned-b", "versioned-c"];
    for bucket in buckets {
        server.make_versioned_bucket(bucket);
    }
    let stage = vault_over(server, buckets, "");
    stage
        .holdfast(&["doctor", "--location", "versioned-a"])
        .ends(3)
        .says("keeps versions")
        .says("may delete older versions");
    for bucket in buckets {
        server.rob(bucket);
    }

    // All is read and found wrong, none of it is lost, and the repair makes it right.
    stage.holdfast(&["vault", "audit", "--full"]).ends(4);
    stage.holdfast(&["vault", "status"]).ends(3).says("older versions");
    let restored = stage.holdfast(&["vault", "restore", "--to", "out"]).ends(3).says("was used");
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
    assert!(!restored.out.contains("lost"), "{}", restored.shown());
    stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast(&["vault", "restore", "--to", "again"]).ends(0).never_says("was used");
    assert_same_tree(&stage.path("tree"), &stage.path("again/tree"));
}

fn kept_by_locks(server: &SeaweedFs) {
    let buckets = ["locked-a", "locked-b", "locked-c"];
    for bucket in buckets {
        server.make_lockable_bucket(bucket);
    }
    let stage = vault_over(server, buckets, "lock = \"30d\"\n");
    stage.holdfast(&["vault", "status"]).says("3 of 3 locations survive it (3 locked, 0 versioned): enough");
    // What was written is locked already: all of it is looked at, nothing is extended.
    stage.holdfast(&["vault", "lock", "extend"]).ends(0).says("locks for 30 days");
    stage.holdfast(&["vault", "lock", "extend", "--apply"]).ends(0).says("0 locks extended");
    stage.holdfast(&["vault", "lock", "extend"]).ends(0).says("0 of");
    let doctor = stage.holdfast(&["doctor", "--json"]).ends(3);
    let found = doctor.events("finding");
    let of_location = |name: &str| found.iter().filter(|line| line["subject"] == format!("location {name}")).count();
    assert!(buckets.iter().all(|bucket| of_location(bucket) > 0), "{}", doctor.shown());

    // A longer lock is wanted: now everything live is extended, and after that nothing is.
    let text = std::fs::read_to_string(stage.config()).unwrap();
    std::fs::write(stage.config(), text.replace("\"30d\"", "\"90d\"")).unwrap();
    stage.holdfast(&["vault", "lock", "extend", "--apply", "--most", "20"]).ends(3).says("left for the next time");
    stage.holdfast(&["vault", "lock", "extend", "--apply"]).ends(0).never_says(" 0 locks extended");
    stage.holdfast(&["vault", "lock", "extend"]).ends(0).says("0 of");

    for bucket in buckets {
        server.rob(bucket);
    }
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(3);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

fn lost_without(server: &SeaweedFs) {
    let buckets = ["plain-a", "plain-b", "plain-c"];
    for bucket in buckets {
        server.make_bucket(bucket);
    }
    let stage = vault_over(server, buckets, "");
    stage.holdfast(&["vault", "status"]).says("none of 3 locations survives it");
    for bucket in buckets {
        server.rob(bucket);
    }
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(5).says("is lost");
    stage.holdfast(&["vault", "status"]).ends(5).says("DATA LOST");
}

/// Locks are asked for later: the doctor sees that they hold, and once that is recorded the
/// vault counts on it. Recording it again changes nothing.
#[test]
fn a_grade_that_changed_is_written_into_the_layout() {
    let server = SeaweedFs::start();
    let buckets = ["later-a", "later-b", "later-c"];
    for bucket in buckets {
        server.make_lockable_bucket(bucket);
    }
    let stage = vault_over(&server, buckets, "");
    stage.holdfast(&["vault", "status"]).says("none of 3 locations survives it");
    let text = std::fs::read_to_string(stage.config()).unwrap();
    std::fs::write(stage.config(), text.replace("allow_http = true\n", "allow_http = true\nlock = \"30d\"\n")).unwrap();
    stage.holdfast(&["doctor", "--location", "later-a"]).says("better than recorded").says("--record");
    stage.holdfast(&["vault", "status"]).says("none of 3 locations survives it");
    let record = ["vault", "location", "probe", "later-a", "--record"];
    stage.holdfast(&record).ends(0).says("layout 2 records it as Locked");
    stage.holdfast(&["vault", "status"]).says("(1 locked, 0 versioned)");
    stage.holdfast(&record).ends(0).says("layout 2 records it so already");
    stage.holdfast(&["vault", "audit"]).ends(0);
}
