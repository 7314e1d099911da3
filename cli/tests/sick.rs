//! Places that are ill in the ways real ones are: one answers after ten seconds,
//! one answers every second request with 500, one is full, one shows last week's
//! state.
//!
//! What must hold: a run either makes a point that survives what is declared, and
//! says what is owed (0 or 3), or says that it made none (14); audit calls silence
//! silence (3) and damage damage (4), never one the other; a restore gives the
//! right bytes or nothing; when the place is well again, repair makes all whole.
//!
//! The slow place waits 150 ms per request; `HOLDFAST_LONG=1` makes it ten seconds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::time::Duration;

use stage::{Numbers, Place, SmallDisk, Stage, Witness, copy_exactly, write_tree};
use test_servers::{Chaos, ChaosProxy, SeaweedFs};

/// Three folders and a bucket behind a line, over four domains, with one point.
struct Scene {
    stage: Stage,
    line: ChaosProxy,
    witness: Witness,
    numbers: Numbers,
    _server: SeaweedFs,
}

impl Scene {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let (stage, server) = (Stage::new(), SeaweedFs::start());
        let line = ChaosProxy::start(&server.endpoint, seed);
        let keys = (server.access.as_str(), server.secret.as_str());
        let mut places: Vec<Place> =
            (1..=3).map(|n| Place::folder(&stage, &format!("p{n}"), &format!("d{n}"))).collect();
        let bucket = format!("{}/holdfast", server.bucket);
        places.push(Place::bucket(&stage, "bucket", "provider", &bucket, &line.endpoint(), keys));
        stage.init_over(&places, 1).ends(0);
        let mut numbers = Numbers(seed);
        write_tree(&stage.path("tree"), 200_000, &mut numbers);
        stage.holdfast(&["vault", "run", "tree"]).ends(0);
        let mut witness = Witness::default();
        witness.look(&stage, "tree");
        Self { stage, line, witness, numbers, _server: server }
    }

    fn change(&mut self) {
        fs::write(self.stage.path("tree/new"), self.numbers.bytes(200_000)).unwrap();
    }

    /// A run, an audit, a repair and a restore while the place is ill. True if the
    /// run made its point.
    fn ill(&mut self) -> bool {
        self.change();
        let run = self.stage.holdfast(&["vault", "run", "tree"]);
        assert!([0, 3, 14].contains(&run.code), "{}", run.shown());
        assert!(run.code != 3 || run.out.contains("durable") || run.out.contains("full"), "{}", run.shown());
        let made = run.code != 14;
        if made {
            self.witness.look(&self.stage, "tree");
            self.witness.newest_restores(&self.stage, "tree", &[0, 3]);
        }
        let audit = self.stage.holdfast(&["vault", "audit"]);
        // 4 where shards are owed to it: they are missing there, which is said.
        assert!([0, 3, 4].contains(&audit.code), "{}", audit.shown());
        audit.never_says("beyond repair");
        let repair = self.stage.holdfast(&["vault", "repair", "--apply"]);
        assert!([0, 3, 14].contains(&repair.code), "{}", repair.shown());
        made
    }

    /// The place is well again: nothing is lost and nothing is owed.
    fn well_again(&mut self) {
        self.line.set(Chaos::default());
        let run = self.stage.holdfast(&["vault", "run", "tree"]);
        assert!([0, 3].contains(&run.code), "{}", run.shown());
        self.stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
        self.stage.holdfast(&["vault", "audit", "--full"]).ends(0);
        self.witness.look(&self.stage, "tree");
        self.witness.newest_restores(&self.stage, "tree", &[0]);
        self.witness.all_restore(&self.stage);
    }
}

#[test]
fn a_place_that_answers_slowly() {
    let mut scene = Scene::new(61);
    let long = std::env::var_os("HOLDFAST_LONG").is_some();
    let delay = if long { Duration::from_secs(10) } else { Duration::from_millis(150) };
    scene.line.set(Chaos { delay, ..Chaos::default() });
    // Slow is not away: everything comes home.
    let started = std::time::Instant::now();
    assert!(scene.ill());
    println!("all commands took {:?} with {delay:?} per request", started.elapsed());
    scene.line.set(Chaos::default());
    scene.stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    scene.well_again();
}

#[test]
fn a_place_that_answers_every_second_request_with_500() {
    let mut scene = Scene::new(62);
    scene.line.set(Chaos { broken_permille: 500, ..Chaos::default() });
    for _ in 0..2 {
        assert!(scene.ill(), "three of four places are well: a point must come to be");
    }
    assert!(scene.line.hurt() > 10, "the weather was fair");
    scene.well_again();
}

#[test]
fn a_bucket_that_is_full() {
    let mut scene = Scene::new(63);
    scene.line.set(Chaos { full: true, ..Chaos::default() });
    assert!(scene.ill(), "three of four places have room: a point must come to be");
    scene.change();
    let run = scene.stage.holdfast(&["vault", "run", "tree"]).ends(3);
    run.says("is owed to bucket").says("vault repair --apply");
    scene.stage.holdfast(&["vault", "repair", "--apply"]).ends(3).says("at bucket");
    scene.well_again();
}

#[test]
fn a_disk_that_is_full() {
    let stage = Stage::new();
    let disk = SmallDisk::mount(&stage.path("p4"), 1 << 20);
    let mut numbers = Numbers(64);
    let places: Vec<Place> = (1..=4).map(|n| Place::folder(&stage, &format!("p{n}"), &format!("d{n}"))).collect();
    stage.init_over(&places, 1).ends(0);
    write_tree(&stage.path("tree"), 100_000, &mut numbers);
    // Its two shards of the larger packs find no room at some point.
    let mut owed = 0;
    let mut witness = Witness::default();
    for turn in 0..4 {
        fs::write(stage.path("tree/new"), numbers.bytes(1_200_000)).unwrap();
        let run = stage.holdfast(&["vault", "run", "tree"]);
        assert!([0, 3].contains(&run.code), "turn {turn}: {}", run.shown());
        if run.code == 3 {
            owed += 1;
            run.says("is owed to p4").says("vault repair --apply");
        }
        witness.look(&stage, "tree");
        witness.newest_restores(&stage, "tree", &[0, 3]);
    }
    assert!(owed >= 2, "the disk was never full");
    stage.holdfast(&["vault", "repair", "--apply"]).ends(3).says("p4");
    disk.resize(64 << 20);
    stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    witness.look(&stage, "tree");
    witness.all_restore(&stage);
    drop(disk);
}

/// A folder restored from its own backup, a controller that lost its last writes,
/// or a provider that lies: it shows its state of two points ago.
#[test]
fn a_place_that_shows_an_old_state() {
    let stage = Stage::new();
    let mut numbers = Numbers(65);
    let places: Vec<Place> = (1..=4).map(|n| Place::folder(&stage, &format!("p{n}"), &format!("d{n}"))).collect();
    stage.init_over(&places, 1).ends(0);
    write_tree(&stage.path("tree"), 100_000, &mut numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let mut witness = Witness::default();
    witness.look(&stage, "tree");
    for number in 1..=4 {
        let (here, old) = (stage.path(&format!("p{number}")), stage.path(&format!("old{number}")));
        copy_exactly(&here, &old);
    }
    for _ in 0..2 {
        fs::write(stage.path("tree/new"), numbers.bytes(150_000)).unwrap();
        stage.holdfast(&["vault", "run", "tree"]).ends(0);
        witness.look(&stage, "tree");
    }
    for number in 1..=4 {
        let name = format!("p{number}");
        let (here, old) = (stage.path(&name), stage.path(&format!("old{number}")));
        fs::remove_dir_all(&here).unwrap();
        copy_exactly(&old, &here);
        // The others know better: nobody is fooled, and what is missing is named.
        witness.look(&stage, "tree");
        witness.newest_restores(&stage, "tree", &[0, 3]);
        stage.holdfast(&["vault", "status"]).ends(3).says(&name);
        stage.holdfast(&["vault", "audit"]).ends(4).says(&format!("at {name}"));
        fs::write(stage.path("tree/new"), numbers.bytes(150_000)).unwrap();
        let run = stage.holdfast(&["vault", "run", "tree"]);
        assert!([0, 3].contains(&run.code), "{}", run.shown());
        stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
        stage.holdfast(&["vault", "audit", "--full"]).ends(0);
        witness.look(&stage, "tree");
    }
    // All of them went back: that is no lapse of one place, and nothing is written.
    for number in 1..=4 {
        let (here, old) = (stage.path(&format!("p{number}")), stage.path(&format!("old{number}")));
        fs::rename(&here, stage.path(&format!("new{number}"))).unwrap();
        copy_exactly(&old, &here);
    }
    let before = stage.shards_in("p1").len();
    let run = stage.holdfast(&["vault", "run", "tree"]);
    assert_eq!(run.code, 1, "{}", run.shown());
    run.says("rolled back");
    assert_eq!(stage.shards_in("p1").len(), before, "nothing is written over a rollback");
    for number in 1..=4 {
        let here = stage.path(&format!("p{number}"));
        fs::remove_dir_all(&here).unwrap();
        fs::rename(stage.path(&format!("new{number}")), &here).unwrap();
    }
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    witness.look(&stage, "tree");
    witness.all_restore(&stage);
}
