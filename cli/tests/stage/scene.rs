//! A vault that programs die over, and how they die: at a named step.

use std::fs;

use vault_ops::step::Step;

use super::{Numbers, Place, Stage, Witness, files_below, number_from_env, rot, write_tree};

/// A vault over four domains that survives any one, what was told of it, and a tree.
pub struct Scene {
    pub stage: Stage,
    pub witness: Witness,
    pub numbers: Numbers,
}

/// Its places.
pub const PLACES: [&str; 4] = ["p1", "p2", "p3", "p4"];

impl Scene {
    /// Four folders, each a domain.
    pub fn places(stage: &Stage) -> Vec<Place> {
        PLACES.iter().map(|name| Place::folder(stage, name, &format!("domain-{name}"))).collect()
    }

    /// With one point; the seed may be given in `HOLDFAST_KILL_SEED`.
    pub fn new(seed_more: u64) -> Self {
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
    pub fn change(&mut self) {
        for name in ["random", "new"] {
            fs::write(self.stage.path("tree").join(name), self.numbers.bytes(150_000)).unwrap();
        }
    }

    /// What was there before is there now, and the newest point restores.
    pub fn stands(&mut self, place: &str, codes: &[i32]) {
        println!("  {place}");
        self.witness.look(&self.stage, "tree");
        let newest = self.witness.count();
        assert!(newest > 0);
        let out = self.stage.holdfast(&["vault", "restore", "--to", "out"]);
        assert!(codes.contains(&out.code), "{place}: {}", out.shown());
        fs::remove_dir_all(self.stage.path("out")).unwrap();
    }

    /// Everything is whole and every point restores.
    pub fn ends_well(&mut self) {
        self.stage.holdfast(&["vault", "audit", "--full"]).ends(0);
        self.witness.look(&self.stage, "tree");
        self.witness.all_restore(&self.stage);
    }

    /// A shard rots, another is gone, and so is a manifest.
    pub fn damage(&mut self) {
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
pub fn dies(stage: &Stage, step: Step, count: u64, arguments: &[&str], codes: &[i32]) -> bool {
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
pub fn turns(numbers: &mut Numbers) -> [u64; 2] {
    [1, 2 + numbers.below(6)]
}
