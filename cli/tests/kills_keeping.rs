//! The power fails while points wait, are delivered, are set aside; while a janitor
//! forgets, condemns, fences and sweeps; while shards move to a new place.
//!
//! What must hold, at every named step of these, after the kill and the same command
//! again: every point that counts is listed and restores byte for byte by an
//! independent program's word; what was to go is gone from every place, and what was
//! to be kept aside is there; an audit that reads everything is clean.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use stage::scene::{PLACES, Scene, dies, turns};
use stage::{assert_same_tree, files_below, rot};
use vault_ops::step::Step;

const SPOOL: &str = "vault/state/home/spool";
const DAY: Duration = Duration::from_hours(24);

fn steps(area: &'static str) -> impl Iterator<Item = Step> {
    let of = move |step: &Step| step.name().split_once('.').unwrap().0 == area;
    assert!(Step::ALL.iter().any(of), "there is no step in the area {area}");
    Step::ALL.iter().copied().filter(of)
}

fn go(scene: &Scene) {
    for place in PLACES {
        fs::rename(scene.stage.path(place), scene.stage.path(&format!("{place} is away"))).unwrap();
    }
}

fn come(scene: &Scene) {
    for place in PLACES {
        fs::rename(scene.stage.path(&format!("{place} is away")), scene.stage.path(place)).unwrap();
    }
}

/// Objects in the spool that wait, by name.
fn waiting(scene: &Scene) -> BTreeSet<String> {
    let (mut found, spool) = (Vec::new(), scene.stage.path(SPOOL));
    for kind in ["shards", "manifests"] {
        files_below(&spool.join(kind), &mut found);
    }
    found.iter().map(|file| file.strip_prefix(&spool).unwrap().display().to_string()).collect()
}

/// The catalog alone: the spool is no cache.
fn lose_catalog(scene: &Scene) {
    for entry in fs::read_dir(scene.stage.path("vault/state/home")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("catalog") {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn killed_while_a_point_is_put_into_the_spool() {
    let mut scene = Scene::new(10);
    for step in steps("spool") {
        for count in turns(&mut scene.numbers) {
            scene.change();
            go(&scene);
            dies(&scene.stage, step, count, &["vault", "run", "tree"], &[14]);
            // Nobody answers still: the same command keeps a point.
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(14).says("not durable: kept in the spool");
            come(&scene);
            scene.stage.holdfast(&["vault", "deliver"]).ends(0).says("delivered p-");
            assert!(waiting(&scene).is_empty());
            scene.stands("delivered", &[0]);
            scene.witness.newest_restores(&scene.stage, "tree", &[0]);
        }
    }
    scene.ends_well();
}

#[test]
fn killed_at_every_step_of_a_delivery() {
    let mut scene = Scene::new(11);
    for step in steps("deliver") {
        for count in turns(&mut scene.numbers) {
            scene.change();
            go(&scene);
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(14);
            if step == Step::DeliverSignedAgain {
                // Its host does not know any more where its chain was: a new epoch.
                lose_catalog(&scene);
            }
            come(&scene);
            dies(&scene.stage, step, count, &["vault", "deliver"], &[0]);
            scene.stands("after the kill", &[0]);
            scene.stage.holdfast(&["vault", "deliver"]).ends(0).says("nothing waits in the spool");
            assert!(waiting(&scene).is_empty());
            scene.witness.look(&scene.stage, "tree");
            scene.witness.newest_restores(&scene.stage, "tree", &[0]);
        }
    }
    scene.ends_well();
}

#[test]
fn killed_while_a_point_is_set_aside() {
    let mut scene = Scene::new(12);
    for step in steps("aside") {
        for count in turns(&mut scene.numbers) {
            scene.change();
            go(&scene);
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(14);
            come(&scene);
            let spool = scene.stage.path(SPOOL);
            let before = waiting(&scene);
            rot(&spool.join(before.iter().find(|name| name.starts_with("manifests/")).unwrap()));
            let bytes = |at: &Path| before.iter().map(|name| fs::read(at.join(name)).unwrap()).collect::<Vec<_>>();
            let kept = bytes(&spool);
            let command = ["vault", "deliver", "--set-aside", "--apply"];
            dies(&scene.stage, step, count, &command, &[3]);
            scene.stands("after the kill", &[0]);
            let again = scene.stage.holdfast(&command);
            assert!([0, 3].contains(&again.code), "{}", again.shown());
            assert!(waiting(&scene).is_empty(), "{}", again.shown());
            assert!(bytes(&spool.join("aside")) == kept, "not all of it is aside as it was");
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(0).says("full");
            scene.witness.look(&scene.stage, "tree");
            scene.witness.newest_restores(&scene.stage, "tree", &[0]);
        }
    }
    scene.ends_well();
}

/// Packs of which any place shows a shard.
fn packs(scene: &Scene) -> BTreeSet<String> {
    let shards = PLACES.iter().flat_map(|place| scene.stage.shards_in(place));
    shards.map(|file| file.file_name().unwrap().to_str().unwrap().rsplit_once('.').unwrap().0.to_owned()).collect()
}

/// A point of other files, which the witness is not told of, and the packs that are its own.
fn scrap(scene: &mut Scene) -> (String, BTreeSet<String>) {
    let before = packs(scene);
    fs::create_dir_all(scene.stage.path("scrap")).unwrap();
    fs::write(scene.stage.path("scrap/file"), scene.numbers.bytes(200_000)).unwrap();
    let run = scene.stage.holdfast(&["--json", "vault", "run", "scrap"]).ends(0);
    let point = run.events("point")[0]["point"].as_str().unwrap().to_owned();
    (point, &packs(scene) - &before)
}

fn forget(scene: &Scene, point: &str) {
    scene.stage.holdfast(&["vault", "forget", point, "--apply", "--confirm", "home"]).ends(0);
}

fn purge(scene: &Scene, point: &str) {
    scene.stage.holdfast(&["vault", "trash", "purge", point, "--confirm", "home"]).ends(0);
}

const GC: [&str; 5] = ["vault", "gc", "--apply", "--confirm", "home"];

/// The tree's points are all there, and its newest restores.
fn tree_stands(scene: &mut Scene) {
    scene.witness.look(&scene.stage, "tree");
    let source = scene.stage.text("tree");
    scene.stage.holdfast(&["vault", "restore", "--source", &source, "--to", "out"]).ends(0);
    assert_same_tree(&scene.stage.path("tree"), &scene.stage.path("out/tree"));
    fs::remove_dir_all(scene.stage.path("out")).unwrap();
}

/// Collects until what was the scrap's own is gone everywhere.
fn is_swept(scene: &mut Scene, own: &BTreeSet<String>) {
    for _ in 0..2 {
        scene.stage.holdfast(&["vault", "run", "tree"]).ends(0);
        scene.stage.holdfast(&GC).ends(0);
    }
    assert!(packs(scene).is_disjoint(own), "what was forgotten still takes room");
    tree_stands(scene);
}

#[test]
fn killed_while_a_point_is_forgotten() {
    let mut scene = Scene::new(13);
    for step in steps("tombstone") {
        for count in turns(&mut scene.numbers) {
            let (point, own) = scrap(&mut scene);
            let command = ["vault", "forget", &point, "--apply", "--confirm", "home"];
            dies(&scene.stage, step, count, &command, &[0]);
            // It stood already: there is no such point any more but in the trash.
            let again = scene.stage.holdfast(&command);
            assert!([0, 10].contains(&again.code), "{}", again.shown());
            tree_stands(&mut scene);
            scene.stage.holdfast(&["vault", "trash", "list"]).ends(0).says(&format!("p-{}", &point[..6]));
            // It may come back until it is swept, and go again.
            scene.stage.holdfast(&["vault", "trash", "restore", &point]).ends(0);
            scene.stage.holdfast(&["vault", "restore", &point, "--to", "out"]).ends(0);
            assert_same_tree(&scene.stage.path("scrap"), &scene.stage.path("out/scrap"));
            fs::remove_dir_all(scene.stage.path("out")).unwrap();
            forget(&scene, &point);
            purge(&scene, &point);
            scene.stage.holdfast(&GC).ends(0);
            is_swept(&mut scene, &own);
        }
    }
    scene.ends_well();
}

#[test]
fn killed_at_every_step_of_a_sweep() {
    let mut scene = Scene::new(14);
    for step in steps("sweep").chain(steps("tombstone")) {
        for count in turns(&mut scene.numbers) {
            let (point, own) = scrap(&mut scene);
            forget(&scene, &point);
            purge(&scene, &point);
            scene.stage.holdfast(&GC).ends(0);
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(0);
            if step == Step::SweepManifestDeleted {
                // Its packs go first.
                scene.stage.holdfast(&GC).ends(0);
            }
            dies(&scene.stage, step, count, &GC, &[0]);
            tree_stands(&mut scene);
            scene.stage.holdfast(&GC).ends(0);
            is_swept(&mut scene, &own);
        }
    }
    scene.ends_well();
}

/// Every manifest at every place looks as if it were written three weeks ago.
fn let_weeks_pass(scene: &Scene) {
    for place in PLACES {
        let mut found = Vec::new();
        files_below(&scene.stage.path(place).join("manifests"), &mut found);
        for file in found {
            fs::File::options().write(true).open(file).unwrap().set_modified(SystemTime::now() - 21 * DAY).unwrap();
        }
    }
}

#[test]
fn killed_while_a_silent_writer_is_fenced_and_comes_back() {
    let mut scene = Scene::new(15);
    for step in steps("fence") {
        for count in turns(&mut scene.numbers) {
            let (point, own) = scrap(&mut scene);
            forget(&scene, &point);
            purge(&scene, &point);
            scene.stage.holdfast(&GC).ends(0);
            let_weeks_pass(&scene);
            if step == Step::FenceWritten {
                dies(&scene.stage, step, count, &GC, &[0]);
                tree_stands(&mut scene);
                scene.stage.holdfast(&GC).ends(0);
            } else {
                scene.stage.holdfast(&GC).ends(0);
                scene.change();
                dies(&scene.stage, step, count, &["vault", "run", "tree"], &[0]);
            }
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(0);
            is_swept(&mut scene, &own);
        }
    }
    scene.ends_well();
}

#[test]
fn killed_while_shards_move_to_a_new_place() {
    for step in steps("layout").chain(steps("rebalance")) {
        for count in [1, 3] {
            let mut scene = Scene::new(16 + count);
            let url = scene.stage.text("p5");
            scene.stage.append_config(&format!("\n[location.p5]\nurl = \"file://{url}\"\ndomain = \"domain-p5\"\n"));
            let command = ["vault", "location", "add", "p5", "--apply"];
            let one_device = [("HOLDFAST_TEST_ONE_DEVICE", "1")];
            dies(&scene.stage, step, count, &command, &[0]);
            scene.stands("after the kill", &[0, 3]);
            scene.stage.holdfast_in(&command, &one_device).ends(0);
            assert!(!scene.stage.shards_in("p5").is_empty());
            scene.change();
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(0).says("full");
            scene.ends_well();
        }
    }
}

#[test]
fn every_area_of_steps_has_its_story() {
    let here = ["spool", "deliver", "aside", "tombstone", "fence", "sweep", "layout", "rebalance"];
    // Those of `kills_named.rs`.
    let there = ["create", "amend", "backup", "commit", "place", "rebuild", "audit", "repair", "import"];
    for step in Step::ALL {
        let area = step.name().split_once('.').unwrap().0;
        assert!(here.contains(&area) || there.contains(&area), "nothing is killed at {step}");
    }
}
