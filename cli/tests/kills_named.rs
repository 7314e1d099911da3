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

use stage::{Numbers, Place, Stage, Witness, files_below, number_from_env, rot, write_tree};
use vault_ops::step::Step;

/// What is being done when the program dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    Init,
    Cards,
    Run,
    Mend,
    Orphans,
}

fn story(step: Step) -> Story {
    match step.name().split_once('.').unwrap().0 {
        "create" => Story::Init,
        "amend" => Story::Cards,
        "backup" | "commit" | "place" | "rebuild" => Story::Run,
        "audit" | "repair" => Story::Mend,
        "import" => Story::Orphans,
        other => panic!("nothing is killed in the area {other}: add a story for {step}"),
    }
}

fn steps(of: Story) -> impl Iterator<Item = Step> {
    Step::ALL.iter().copied().filter(move |step| story(*step) == of)
}

/// A vault over four domains that survives any one, what was told of it, and a tree.
struct Scene {
    stage: Stage,
    witness: Witness,
    numbers: Numbers,
}

const PLACES: [&str; 4] = ["p1", "p2", "p3", "p4"];

impl Scene {
    fn places(stage: &Stage) -> Vec<Place> {
        PLACES.iter().map(|name| Place::folder(stage, name, &format!("domain-{name}"))).collect()
    }

    fn new(seed_more: u64) -> Self {
        let seed = number_from_env("HOLDFAST_KILL_SEED", 20_261_121) + seed_more;
        println!("seed {seed}");
        let (stage, mut numbers) = (Stage::new(), Numbers(seed));
        stage.init_over(&Self::places(&stage), 1).ends(0);
        write_tree(&stage.path("tree"), 100_000, &mut numbers);
        stage.holdfast(&["vault", "run", "tree"]).ends(0);
        let mut witness = Witness::default();
        witness.look(&stage, "tree");
        Self { stage, witness, numbers }
    }

    /// Something new to store.
    fn change(&mut self) {
        for name in ["random", "new"] {
            fs::write(self.stage.path("tree").join(name), self.numbers.bytes(150_000)).unwrap();
        }
    }

    /// What was there before is there now, and the newest point restores.
    fn stands(&mut self, place: &str, codes: &[i32]) {
        println!("  {place}");
        self.witness.look(&self.stage, "tree");
        let newest = self.witness.count();
        assert!(newest > 0);
        let out = self.stage.holdfast(&["vault", "restore", "--to", "out"]);
        assert!(codes.contains(&out.code), "{place}: {}", out.shown());
        fs::remove_dir_all(self.stage.path("out")).unwrap();
    }

    /// Everything is whole and every point restores.
    fn ends_well(&mut self) {
        self.stage.holdfast(&["vault", "audit", "--full"]).ends(0);
        self.witness.look(&self.stage, "tree");
        self.witness.all_restore(&self.stage);
    }

    /// A shard rots, another is gone, and so is a manifest.
    fn damage(&mut self) {
        let mut pick = |folder: &str, kind: &str| {
            let mut found = Vec::new();
            files_below(&self.stage.path(folder).join(kind), &mut found);
            found.sort();
            found.swap_remove(self.numbers.below(found.len() as u64) as usize)
        };
        rot(&pick("p1", "shards"));
        fs::remove_file(pick("p2", "shards")).unwrap();
        fs::remove_file(pick("p3", "manifests")).unwrap();
    }
}

/// Runs a command that dies at the step's `count`th time. At the first it must; at a
/// later one it may not come so far, and then has ended with one of these codes.
fn dies(stage: &Stage, step: Step, count: u64, arguments: &[&str], codes: &[i32]) -> bool {
    let at = format!("{step}:{count}");
    let environment = [("HOLDFAST_DIE_AT", at.as_str()), ("HOLDFAST_TEST_ONE_DEVICE", "1")];
    let ran = stage.holdfast_in(arguments, &environment);
    let died = ran.code == -9;
    let ended = count > 1 && codes.contains(&ran.code);
    assert!(died || ended, "HOLDFAST_DIE_AT={at}: {}", ran.shown());
    println!("{at}: {}", if died { "killed" } else { "not reached" });
    died
}

/// The first time, and one more drawn.
fn turns(numbers: &mut Numbers) -> [u64; 2] {
    [1, 2 + numbers.below(6)]
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
