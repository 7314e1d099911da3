//! The power fails in the middle of whatever is being done, again and again:
//! `kill -9` of a run, an audit, a repair or the agent, at a random moment or at a
//! random named step, sometimes with the catalog gone as well; then the same
//! command once more.
//!
//! What must hold: the rerun ends well (no lock is left behind); every point that
//! was ever listed is listed and restores byte for byte, by an independent
//! program's word; when what is owed is paid, an audit that reads everything is
//! clean.
//!
//! `HOLDFAST_KILLS=1000` is the long form; `HOLDFAST_KILL_SEED` repeats one.
//! `kills_named.rs` takes the named steps one by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use stage::{Numbers, Place, Stage, Witness, files_below, number_from_env, rot, write_tree};
use test_servers::SeaweedFs;
use vault_ops::step::Step;

/// Kills after which a new vault is made, so that long forms do not grow slow.
const KILLS_PER_VAULT: u64 = 60;
/// Bytes of each of the files that change.
const FILE_BYTES: usize = 250_000;
const FILES: u64 = 6;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Run,
    Audit,
    Repair,
}

impl Deed {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Run => &["vault", "run", "tree"],
            Self::Audit => &["vault", "audit", "--full"],
            Self::Repair => &["vault", "repair", "--apply"],
        }
    }

    /// The areas of steps it comes by.
    fn areas(self) -> &'static [&'static str] {
        match self {
            Self::Run => &["backup", "commit", "place", "rebuild"],
            Self::Audit => &["audit"],
            Self::Repair => &["repair"],
        }
    }

    /// How it ends when nobody kills it. A run reuses what a killed one stored only in
    /// part; its debts are said.
    fn codes(self) -> &'static [i32] {
        match self {
            Self::Run => &[0, 3],
            Self::Audit => &[4],
            Self::Repair => &[0],
        }
    }
}

fn area(step: Step) -> &'static str {
    step.name().split_once('.').unwrap().0
}

/// A vault over four places, a tree, and what was told of it.
struct Scene<'a> {
    stage: Stage,
    witness: Witness,
    numbers: &'a mut Numbers,
    /// Folders whose files can be damaged: none where the places are buckets.
    folders: Vec<String>,
    /// How long each deed takes: a quarter of a second until it was seen.
    usual: BTreeMap<Deed, Duration>,
    hits: u64,
}

impl<'a> Scene<'a> {
    fn over(stage: Stage, places: &[Place], folders: &[&str], numbers: &'a mut Numbers) -> Self {
        stage.init_over(places, 1).ends(0);
        write_tree(&stage.path("tree"), 50_000, numbers);
        for number in 0..FILES {
            fs::write(stage.path("tree").join(format!("data-{number}")), numbers.bytes(FILE_BYTES)).unwrap();
        }
        stage.holdfast(&["vault", "run", "tree"]).ends(0);
        let mut witness = Witness::default();
        witness.look(&stage, "tree");
        let folders = folders.iter().map(|&name| name.to_owned()).collect();
        Self { stage, witness, numbers, folders, usual: BTreeMap::new(), hits: 0 }
    }

    fn over_folders(numbers: &'a mut Numbers) -> Self {
        let (stage, names) = (Stage::new(), ["p1", "p2", "p3", "p4"]);
        let places: Vec<Place> = names.iter().map(|name| Place::folder(&stage, name, &format!("d-{name}"))).collect();
        Self::over(stage, &places, &names, numbers)
    }

    fn change(&mut self) {
        for _ in 0..FILES / 2 {
            let name = format!("data-{}", self.numbers.below(FILES));
            fs::write(self.stage.path("tree").join(name), self.numbers.bytes(FILE_BYTES)).unwrap();
        }
    }

    /// A shard rots, or a shard and a manifest are gone.
    fn damage(&mut self) {
        let place = self.numbers.below(self.folders.len() as u64) as usize;
        let mut pick = |kind: &str| {
            let mut found = Vec::new();
            files_below(&self.stage.path(&self.folders[place]).join(kind), &mut found);
            found.sort();
            found.swap_remove(self.numbers.below(found.len() as u64) as usize)
        };
        rot(&pick("shards"));
        fs::remove_file(pick("manifests")).unwrap();
        let gone = pick("shards");
        fs::remove_file(gone).unwrap();
    }

    fn deed(&mut self) -> Deed {
        match self.numbers.below(10) {
            _ if self.folders.is_empty() => Deed::Run,
            0..=5 => Deed::Run,
            6 | 7 => Deed::Audit,
            _ => Deed::Repair,
        }
    }

    /// Starts a deed and kills it somewhere. True if it was under way.
    fn kill_somewhere(&mut self, deed: Deed) -> bool {
        let words = deed.words();
        if self.numbers.below(2) == 0 {
            let usual = self.usual.get(&deed).copied().unwrap_or(Duration::from_millis(250));
            let delay = usual.mul_f64(self.numbers.below(1_000) as f64 / 1_000.0);
            let running = self.stage.start(words);
            thread::sleep(delay);
            let killed = running.kill();
            println!("  after {delay:?}: {}", if killed { "killed" } else { "it had ended" });
            return killed;
        }
        let steps: Vec<Step> = Step::ALL.iter().copied().filter(|step| deed.areas().contains(&area(*step))).collect();
        let step = steps[self.numbers.below(steps.len() as u64) as usize];
        let at = format!("{step}:{}", 1 + self.numbers.below(4));
        let killed = self.stage.holdfast_in(words, &[("HOLDFAST_DIE_AT", &at)]).code == -9;
        println!("  at {at}: {}", if killed { "killed" } else { "not reached" });
        killed
    }

    fn one_kill(&mut self, number: u64) {
        let deed = self.deed();
        let no_catalog = deed == Deed::Run && self.numbers.below(6) == 0;
        println!("kill {number}: {deed:?}, catalog lost: {no_catalog}");
        match deed {
            Deed::Run => self.change(),
            Deed::Audit => self.damage(),
            Deed::Repair => {
                self.damage();
                self.stage.holdfast(&["vault", "audit", "--full"]).ends(4);
            }
        }
        self.hits += u64::from(self.kill_somewhere(deed));
        if no_catalog {
            self.stage.lose_catalog();
        }
        self.witness.look(&self.stage, "tree");
        let started = Instant::now();
        let again = self.stage.holdfast(deed.words());
        assert!(deed.codes().contains(&again.code), "{}", again.shown());
        self.usual.insert(deed, started.elapsed());
        if deed == Deed::Run {
            self.witness.look(&self.stage, "tree");
            self.witness.newest_restores(&self.stage, "tree", &[0]);
        } else {
            self.whole_again();
        }
    }

    /// Whatever is owed is paid, and everything is read.
    fn whole_again(&self) {
        self.stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
        self.stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    }

    fn ends_well(&mut self) {
        self.whole_again();
        self.witness.look(&self.stage, "tree");
        self.witness.all_restore(&self.stage);
        println!("{} points restored equal", self.witness.count());
    }
}

fn seed(of: u64) -> u64 {
    let seed = number_from_env("HOLDFAST_KILL_SEED", 20_261_121);
    println!("HOLDFAST_KILL_SEED={seed}");
    seed + of
}

/// So many percent of all kills.
fn share(percent: u64) -> u64 {
    (number_from_env("HOLDFAST_KILLS", 20) * percent).div_ceil(100)
}

/// Splits kills over several vaults; tells how many hit something under way.
fn over_vaults(kills: u64, mut one: impl FnMut(std::ops::Range<u64>) -> u64) {
    let mut hits = 0;
    for first in (0..kills).step_by(KILLS_PER_VAULT as usize) {
        hits += one(first..kills.min(first + KILLS_PER_VAULT));
    }
    println!("{hits} of {kills} kills hit a command under way");
    assert!(hits * 4 >= kills, "too few kills hit a command under way: nothing was tried");
}

#[test]
fn kill_9_over_folders() {
    let mut numbers = Numbers(seed(0));
    over_vaults(share(70), |kills| {
        let mut scene = Scene::over_folders(&mut numbers);
        kills.for_each(|number| scene.one_kill(number));
        scene.ends_well();
        scene.hits
    });
}

#[test]
fn kill_9_over_buckets_and_folders() {
    let server = SeaweedFs::start();
    let mut numbers = Numbers(seed(1));
    over_vaults(share(20), |kills| {
        let stage = Stage::new();
        let keys = (server.access.as_str(), server.secret.as_str());
        let bucket = |number: u32| {
            let (name, at) = (format!("b{number}"), format!("{}/vault-{}-{number}", server.bucket, kills.start));
            Place::bucket(&stage, &name, &format!("provider-{number}"), &at, &server.endpoint, keys)
        };
        let places = [bucket(1), bucket(2), Place::folder(&stage, "p3", "house"), bucket(4)];
        let mut scene = Scene::over(stage, &places, &[], &mut numbers);
        kills.for_each(|number| scene.one_kill(number));
        scene.ends_well();
        scene.hits
    });
}

#[test]
fn kill_9_of_the_agent() {
    let mut numbers = Numbers(seed(2));
    over_vaults(share(10), |kills| {
        let mut scene = Scene::over_folders(&mut numbers);
        scene.stage.append_config(&format!(
            "\n[source.docs]\nkind = \"directory\"\npaths = [\"{}\"]\n[policy.docs]\nsource = \"docs\"\nschedule = \"every 1s\"\n",
            scene.stage.text("tree")
        ));
        for number in kills {
            scene.change();
            println!("kill {number}: agent");
            let delay = Duration::from_millis(scene.numbers.below(600));
            let mut agent = scene.stage.start(&["agent"]);
            agent.wait_for("agent: 1 policies");
            thread::sleep(delay);
            scene.hits += u64::from(agent.kill());
            scene.witness.look(&scene.stage, "tree");
            let mut agent = scene.stage.start(&["agent"]);
            agent.wait_for("docs -> home: ok");
            agent.ask_to_stop();
            agent.end().ends(0);
            scene.witness.look(&scene.stage, "tree");
            scene.witness.newest_restores(&scene.stage, "tree", &[0]);
        }
        scene.ends_well();
        scene.hits
    });
}
