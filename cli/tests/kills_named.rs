//! The power fails at the worst moment, whichever it is: the real program is
//! killed at every named step of its operations, and the same command is run
//! once more.
//!
//! What must hold, after the kill and after the rerun: every point that was ever
//! listed is listed, and the newest restores byte for byte by an independent
//! program's word; the rerun ends well; in the end an audit that reads everything
//! is clean and every point restores.
//!
//! A step is killed at when it is reached first, and once more later on. A step of
//! an area that has no story here fails the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::scene::{PLACES, Scene, dies, turns};
use stage::{Numbers, Stage, Witness, files_below, write_tree};
use vault_ops::step::Step;

/// What is being done when the program dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    Init,
    Cards,
    Run,
    Mend,
    Orphans,
    /// Told in `kills_keeping.rs`.
    Keeping,
}

fn story(step: Step) -> Story {
    match step.name().split_once('.').unwrap().0 {
        "create" => Story::Init,
        "amend" => Story::Cards,
        "backup" | "commit" | "place" | "rebuild" => Story::Run,
        "audit" | "repair" => Story::Mend,
        "import" => Story::Orphans,
        "spool" | "deliver" | "aside" | "tombstone" | "fence" | "sweep" | "layout" | "rebalance" => Story::Keeping,
        other => panic!("nothing is killed in the area {other}: add a story for {step}"),
    }
}

fn steps(of: Story) -> impl Iterator<Item = Step> {
    Step::ALL.iter().copied().filter(move |step| story(*step) == of)
}

#[test]
fn killed_at_every_step_of_a_run() {
    let mut scene = Scene::new(0);
    for step in steps(Story::Run) {
        for count in turns(&mut scene.numbers) {
            scene.change();
            let away = step == Step::PlaceShardHandedOver;
            let here = |scene: &Scene| scene.stage.path("p4");
            let gone = scene.stage.path("p4 is away");
            if away {
                fs::rename(here(&scene), &gone).unwrap();
            }
            if step.name().starts_with("rebuild.") {
                scene.stage.lose_catalog();
            }
            dies(&scene.stage, step, count, &["vault", "run", "tree"], &[0, 3]);
            scene.stands("after the kill", if away { &[0, 3] } else { &[0] });
            scene.stage.holdfast(&["vault", "run", "tree"]).ends(if away { 3 } else { 0 });
            scene.witness.look(&scene.stage, "tree");
            scene.witness.newest_restores(&scene.stage, "tree", if away { &[0, 3] } else { &[0] });
            if away {
                fs::rename(&gone, here(&scene)).unwrap();
                scene.stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
            }
        }
    }
    scene.ends_well();
}

#[test]
fn killed_at_every_step_of_an_audit_and_a_repair() {
    let mut scene = Scene::new(1);
    for step in steps(Story::Mend) {
        let auditing = step.name().starts_with("audit.");
        for count in turns(&mut scene.numbers) {
            scene.damage();
            let (command, code) = if auditing {
                (["vault", "audit", "--full"], 4)
            } else {
                scene.stage.holdfast(&["vault", "audit", "--full"]).ends(4);
                (["vault", "repair", "--apply"], 0)
            };
            dies(&scene.stage, step, count, &command, &[code]);
            scene.stands("after the kill", &[0, 3]);
            scene.stage.holdfast(&command).ends(code);
            if auditing {
                scene.stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
            }
            scene.stage.holdfast(&["vault", "audit", "--full"]).ends(0);
        }
    }
    scene.ends_well();
}

#[test]
fn killed_at_every_step_of_an_import() {
    let mut scene = Scene::new(2);
    for step in steps(Story::Orphans) {
        for count in turns(&mut scene.numbers) {
            fs::create_dir_all(scene.stage.path("box")).unwrap();
            for place in PLACES {
                stage::copy_exactly(&scene.stage.path(place), &scene.stage.path("box").join(place));
            }
            fs::remove_dir_all(scene.stage.path("p3/shards")).unwrap();
            fs::remove_dir_all(scene.stage.path("p2/manifests")).unwrap();
            scene.stage.lose_catalog();
            let command = ["vault", "import-orphans", "box", "--apply"];
            dies(&scene.stage, step, count, &command, &[0]);
            scene.stands("after the kill", &[0, 3]);
            scene.stage.holdfast(&command).ends(0);
            scene.stage.holdfast(&["vault", "audit", "--full"]).ends(0);
            fs::remove_dir_all(scene.stage.path("box")).unwrap();
        }
    }
    scene.ends_well();
}

#[test]
fn killed_at_every_step_of_making_a_vault() {
    for step in steps(Story::Init) {
        for count in 1..=PLACES.len() as u64 {
            let stage = Stage::new();
            // Writes the configuration, and nothing else: the program may not even start.
            stage.configure(&Scene::places(&stage), 1);
            assert!(dies(&stage, step, count, &["vault", "init"], &[]));
            let again = stage.holdfast_in(&["vault", "init"], &[("HOLDFAST_TEST_ONE_DEVICE", "1")]);
            // All records stood: the vault is made, and says so.
            again.ends(if count == PLACES.len() as u64 { 2 } else { 0 });
            write_tree(&stage.path("tree"), 50_000, &mut Numbers(count));
            stage.holdfast(&["vault", "run", "tree"]).ends(0);
            stage.holdfast(&["vault", "audit", "--full"]).ends(0);
            let mut witness = Witness::default();
            witness.look(&stage, "tree");
            witness.all_restore(&stage);
        }
    }
}

#[test]
fn killed_at_every_step_of_dealing_cards() {
    for step in steps(Story::Cards) {
        let mut scene = Scene::new(3);
        let command = |folder| ["keys", "split", "--cards", "5", "--need", "3", "--cards-dir", folder, "--remove-seed"];
        for (count, folder) in [(1, "first"), (3, "second")] {
            assert!(dies(&scene.stage, step, count, &command(folder), &[]));
            // The seed is removed last, so nothing is lost, and the cards are dealt anew.
            scene.stands("after the kill", &[0]);
        }
        scene.stage.holdfast(&command("third")).ends(0);
        let mut found = Vec::new();
        files_below(&scene.stage.path("third"), &mut found);
        found.sort();
        let cards: Vec<String> =
            found[1..4].iter().flat_map(|path| ["--card".to_owned(), path.display().to_string()]).collect();
        scene.stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards).ends(0);
        stage::assert_same_tree(&scene.stage.path("tree"), &scene.stage.path("out/tree"));
    }
}

#[test]
fn a_name_that_is_no_step_is_an_error() {
    let stage = Stage::new();
    stage.holdfast_in(&["vault", "status"], &[("HOLDFAST_DIE_AT", "backup.nowhere")]).ends(2).says("is no step");
}
