//! One vault over five domains: two buckets at a provider that honours conditional
//! writes, one of them behind a bad line; one bucket at a server that ignores
//! them; a disk in the house and one in the office. The line breaks, the server
//! burns, a byte rots.
//!
//! What must hold: `vault init` says what each place really does; a run with a
//! place away exits 3 and names every debt, never a silent ok; what was durable
//! restores without the place; repair pays the debts when it is back; damage in a
//! bucket is found (4) and mended; another machine needs only cards and addresses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Place, Stage, assert_same_tree, cards, write_tree};
use test_servers::{Chaos, ChaosProxy, JuiceFs, SeaweedFs};

/// All servers and the vault over them.
struct World {
    stage: Stage,
    weed: SeaweedFs,
    juice: JuiceFs,
    line: ChaosProxy,
}

impl World {
    fn new() -> Self {
        let stage = Stage::new();
        let (weed, juice) = (SeaweedFs::start(), JuiceFs::start());
        let line = ChaosProxy::start(&weed.endpoint, 1);
        weed.make_bucket("far");
        let keys = (weed.access.as_str(), weed.secret.as_str());
        let at_juice = format!("{}/holdfast", juice.bucket);
        let places = [
            Place::bucket(&stage, "near", "provider-a", &format!("{}/holdfast", weed.bucket), &weed.endpoint, keys),
            Place::bucket(&stage, "far", "provider-b", "far/deep/prefix", &line.endpoint(), keys),
            Place::bucket(&stage, "old", "provider-c", &at_juice, &juice.endpoint, (&juice.access, &juice.secret)),
            Place::folder(&stage, "house", "house"),
            Place::folder(&stage, "office", "office"),
        ];
        let init = stage.init_over(&places, 1).ends(0).says("you can lose any 2 domains");
        let told = |name: &str, what: &str| {
            let line = init.out.lines().find(|line| line.starts_with(name));
            assert!(line.is_some_and(|line| line.contains(what)), "{name} is not told {what}: {}", init.shown());
        };
        told("near", "conditional put Honoured");
        told("far", "conditional put Honoured");
        told("old", "conditional put Ignored");
        told("house", "conditional put Honoured");
        Self { stage, weed, juice, line }
    }

    #[track_caller]
    fn restore(&self, more: &[String], codes: &[i32]) {
        let ran = self.stage.holdfast_with(&["vault", "restore", "--to", "out"], more);
        assert!(codes.contains(&ran.code), "{}", ran.shown());
        assert_same_tree(&self.stage.path("tree"), &self.stage.path("out/tree"));
        fs::remove_dir_all(self.stage.path("out")).unwrap();
    }
}

#[test]
fn five_domains_of_folders_and_buckets() {
    let world = World::new();
    let stage = &world.stage;
    let numbers = &mut Numbers(9);
    write_tree(&stage.path("tree"), 3_000_000, numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0).says("full").says("you can lose any 2 domains");
    stage.holdfast(&["vault", "audit"]).ends(0);
    world.restore(&[], &[0]);

    // Before the line breaks: every shard is at home, so what rots is audited there.
    a_byte_rots(&world);
    the_line_breaks(&world, numbers);
    another_machine(&world);
    a_server_burns(&world, numbers);
}

/// A place is away while there is something new to store, and comes back.
fn the_line_breaks(world: &World, numbers: &mut Numbers) {
    let stage = &world.stage;
    world.line.set(Chaos { down: true, ..Chaos::default() });
    fs::write(stage.path("tree/while-away"), numbers.bytes(1_000_000)).unwrap();
    let run = stage.holdfast(&["vault", "run", "tree"]).ends(3);
    run.says("durable, with debts").says("is owed to far").says("kept by").says("vault repair --apply");
    let status = stage.holdfast(&["vault", "status"]).ends(3);
    status.says("AT RISK").says("far does not take part").never_says("DATA LOST");
    stage.holdfast(&["vault", "audit"]).ends(3).says("far does not answer");
    stage.holdfast(&["vault", "repair", "--apply"]).ends(3).says("nothing is planned for far");
    world.restore(&[], &[0]);

    world.line.set(Chaos::default());
    stage.holdfast(&["vault", "audit"]).ends(4).says("far");
    stage.holdfast(&["vault", "repair", "--plan"]).ends(4).says("at far: missing");
    let repair = stage.holdfast(&["--json", "vault", "repair", "--apply"]).ends(0);
    assert!(
        repair.last()["shards"].as_u64() > Some(0) && repair.last()["records"].as_u64() > Some(0),
        "{}",
        repair.shown()
    );
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast(&["vault", "repair"]).ends(0).says("0 shards to write, 0 records to copy");
}

fn a_byte_rots(world: &World) {
    let stage = &world.stage;
    world.weed.rot(&world.weed.bucket, "holdfast/shards/");
    stage.holdfast(&["vault", "audit", "--full"]).ends(4).says("at near").says("vault repair --apply");
    stage.holdfast(&["vault", "status"]).ends(3).says("near holds 1 wrong shard");
    stage.holdfast(&["vault", "repair", "--apply"]).ends(0).says("1 shards written and read back");
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    // With a warning, and mended by the restore, if the rotten shard was one of the five it read.
    world.weed.rot(&world.weed.bucket, "holdfast/shards/");
    world.restore(&[], &[0, 3]);
    // If it was not, only an audit finds it.
    stage.holdfast(&["vault", "audit", "--full"]);
    stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    world.restore(&[], &[0]);
}

/// No configuration, no catalog, no keys: cards and addresses. The folders came on
/// two disks, the buckets are reached with somebody's credentials.
fn another_machine(world: &World) {
    let stage = &world.stage;
    stage.deal_cards();
    let near = format!("s3://{}/holdfast", world.weed.bucket);
    let far = "s3://far/deep/prefix";
    let from = ["--from", &near, far, &stage.text("house"), &stage.text("office")].map(str::to_owned);
    let credentials = stage.text("near.credentials");
    let reach = ["--credentials", &credentials, "--endpoint", &world.weed.endpoint].map(str::to_owned);
    let more = [vec!["--config".to_owned(), "none.toml".to_owned()], cards(&[1, 2, 4]), from.into(), reach.into()];
    world.restore(&more.concat(), &[0]);
}

/// A server is gone for good, without a word.
fn a_server_burns(world: &World, numbers: &mut Numbers) {
    let stage = &world.stage;
    world.juice.kill();
    world.restore(&cards(&[2, 4, 5]), &[0]);
    fs::write(stage.path("tree/after-the-fire"), numbers.bytes(500_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(3).says("is owed to old");
    world.restore(&cards(&[1, 3, 5]), &[0]);
    // One more place away: the three left would survive one more loss, as declared,
    // but the two that are silent may know of a newer point.
    world.line.set(Chaos { down: true, ..Chaos::default() });
    world.restore(&cards(&[1, 2, 3]), &[3]);
    fs::write(stage.path("tree/two-away"), numbers.bytes(300_000)).unwrap();
    let run = stage.holdfast(&["vault", "run", "tree"]).ends(3);
    run.says("is owed to old").says("is owed to far");
    world.restore(&cards(&[3, 4, 5]), &[3]);
    // The two that are left after a third would not: no point is made, and it says so.
    fs::rename(stage.path("house"), stage.path("burnt-house")).unwrap();
    fs::write(stage.path("tree/too-late"), numbers.bytes(400_000)).unwrap();
    let before = points(stage);
    stage.holdfast(&["vault", "run", "tree"]).ends(14).says("to be durable").says("house");
    fs::rename(stage.path("burnt-house"), stage.path("house")).unwrap();
    assert_eq!(points(stage), before);
}

fn points(stage: &Stage) -> usize {
    let more = ["--json".to_owned(), "vault".to_owned(), "snapshots".to_owned()];
    stage.holdfast_with(&[], &[&more[..], &cards(&[1, 2, 3])].concat()).ends(0).events("point").len()
}
