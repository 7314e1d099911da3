//! Every way to lose some of nine places, and every outage of four domains.
//!
//! What must hold: with five shards of each pack or more the real program restores
//! byte for byte, by an independent program's word, and brings home what places that
//! answer have lost; with fewer it writes no wrong byte and tells "lost" (5: everybody
//! answered) from "not reachable" (14). An outage changes what a run says exactly as
//! promised (0, 3 or 14), `status` names as many bearable losses as there are, and when
//! all is back, nothing is owed.
//!
//! Short form: a sample by seed. `HOLDFAST_LONG=1` tries all 512 subsets, twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use stage::{
    Numbers, Place, Stage, Witness, assert_no_wrong_file, files_below, number_from_env, tree_digest, write_tree,
};

/// Numbers of `1..=most` whose bit is set.
fn members(bits: u32, most: u32) -> Vec<u32> {
    (1..=most).filter(|at| bits >> (at - 1) & 1 == 1).collect()
}

/// Which of the 512 to try: all, or the corners and a sample.
fn chosen(numbers: &mut Numbers) -> BTreeSet<u32> {
    if std::env::var_os("HOLDFAST_LONG").is_some() {
        return (0..512).collect();
    }
    let drawn = (0..18).map(|_| numbers.below(512) as u32);
    [0, 0b1_1111, 0b1111, 0b1_1111_0000, 0b1_1110_0000, 511].into_iter().chain(drawn).collect()
}

/// What stands for "lost" in a subset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    /// The folder does not answer.
    Away,
    /// The folder answers and holds no shard.
    Emptied,
}

fn tear(stage: &Stage, number: u32, loss: Loss) {
    let (from, to) = both(stage, number, loss);
    fs::rename(from, to).unwrap();
}

/// Puts back what was torn out. What a restore mended meanwhile must be what had stood
/// there, byte for byte. Says how many shards that were.
fn mend(stage: &Stage, number: u32, loss: Loss) -> usize {
    let (from, to) = both(stage, number, loss);
    let mut mended = Vec::new();
    if loss == Loss::Emptied {
        files_below(&from, &mut mended);
        for file in &mended {
            let before = to.join(file.strip_prefix(&from).unwrap());
            assert!(fs::read(file).unwrap() == fs::read(before).unwrap(), "{} was mended wrongly", file.display());
        }
        let _ = fs::remove_dir_all(&from);
    }
    fs::rename(to, from).unwrap();
    mended.len()
}

fn both(stage: &Stage, number: u32, loss: Loss) -> (std::path::PathBuf, std::path::PathBuf) {
    let what = if loss == Loss::Away { format!("vault/p{number}") } else { format!("vault/p{number}/shards") };
    (stage.path(&what), stage.path(&format!("gone{number}")))
}

#[test]
fn every_subset_of_nine_shards() {
    let seed = number_from_env("HOLDFAST_KILL_SEED", 512);
    println!("seed {seed}");
    let stage = Stage::with_local_vault();
    write_tree(&stage.path("tree"), 300_000, &mut Numbers(seed));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let digest = tree_digest(&stage.path("tree"));
    let mut tally: BTreeMap<(Loss, i32), u32> = BTreeMap::new();
    for bits in chosen(&mut Numbers(seed)) {
        let left = members(bits, 9);
        let lost = members(!bits, 9);
        for loss in [Loss::Away, Loss::Emptied] {
            for &number in &lost {
                tear(&stage, number, loss);
            }
            let ran = stage.holdfast(&["vault", "restore", "--to", "out"]);
            let place = format!("left {left:?}, the others {loss:?}: {}", ran.shown());
            let wanted: &[i32] = match (left.len(), loss) {
                // Folders that are away may know of a newer point: one domain, so that is said at most.
                (5.., Loss::Away) => &[0, 3],
                (5.., Loss::Emptied) => &[0],
                (_, Loss::Away) => &[14],
                (_, Loss::Emptied) => &[5],
            };
            assert!(wanted.contains(&ran.code), "{place}");
            if left.len() >= 5 {
                assert_eq!(tree_digest(&stage.path("out/tree")), digest, "wrong bytes, {place}");
                fs::remove_dir_all(stage.path("out")).unwrap();
            } else {
                // What the shards that are left hold as it was, and nothing else. How much that is
                // hangs on which folders have the point's own leaves, anew in each run.
                assert_no_wrong_file(&stage.path("tree"), &stage.path("out/tree"));
                let _ = fs::remove_dir_all(stage.path("out"));
            }
            *tally.entry((loss, ran.code)).or_default() += 1;
            let mended: usize = lost.iter().map(|&number| mend(&stage, number, loss)).sum();
            // Everybody answers and enough is left: a restore brings the rest home again.
            let whole = loss == Loss::Emptied && left.len() >= 5;
            assert_eq!(mended > 0, whole && !lost.is_empty(), "{mended} shards were mended, {place}");
        }
    }
    println!("(kind of loss, exit code) -> subsets: {tally:?}");
}

/// Distinct indices of each pack in these folders, by the names alone.
fn indices(stage: &Stage, folders: &[u32]) -> BTreeMap<String, BTreeSet<String>> {
    let mut packs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for number in folders {
        let mut files = Vec::new();
        files_below(&stage.path(&format!("p{number}/shards")), &mut files);
        for file in files {
            let name = Path::new(&file).file_name().unwrap().to_str().unwrap();
            let (pack, index) = name.rsplit_once('.').unwrap();
            packs.entry(pack.to_owned()).or_default().insert(index.to_owned());
        }
    }
    packs
}

/// Whether every pack that all four folders know has five indices in these.
fn enough(stage: &Stage, folders: &[u32]) -> bool {
    let here = indices(stage, folders);
    indices(stage, &[1, 2, 3, 4]).keys().all(|pack| here.get(pack).is_some_and(|found| found.len() >= 5))
}

#[test]
fn every_outage_of_four_domains() {
    let stage = Stage::new();
    let places: Vec<Place> = (1..=4).map(|n| Place::folder(&stage, &format!("p{n}"), &format!("domain-{n}"))).collect();
    stage.init_over(&places, 1).ends(0);
    let numbers = &mut Numbers(4);
    write_tree(&stage.path("tree"), 200_000, numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let mut witness = Witness::default();
    witness.look(&stage, "tree");
    promised_pairs(&stage);
    let mut begun = 0;
    for bits in 0..16 {
        let away = members(bits, 4);
        let here = members(!bits, 4);
        println!("away {away:?}");
        let restorable = enough(&stage, &here);
        let old: BTreeSet<String> = indices(&stage, &[1, 2, 3, 4]).into_keys().collect();
        for n in &away {
            fs::rename(stage.path(&format!("p{n}")), stage.path(&format!("gone{n}"))).unwrap();
        }

        // Before the run: what stood restores as the shards that are left allow.
        let ran = stage.holdfast(&["vault", "restore", "--to", "restored"]);
        let wanted: &[i32] = match (restorable, away.len()) {
            (true, 0 | 1) => &[0],
            (true, _) => &[3],
            // A pack that is short may be one that the newest point does without.
            (false, _) => &[3, 14],
        };
        assert!(wanted.contains(&ran.code), "away {away:?}, restorable: {restorable}: {}", ran.shown());
        if ran.code != 14 {
            assert_eq!(tree_digest(&stage.path("restored/tree")), tree_digest(&stage.path("tree")));
        }
        // A restore that ran into a pack it cannot read leaves what it had, and no wrong byte.
        assert_no_wrong_file(&stage.path("tree"), &stage.path("restored/tree"));
        if ran.code == 14 && stage.path("restored/tree").exists() {
            begun += 1;
            ran.says("NOT COMPLETE").says("same command").never_says("is lost");
        }
        let _ = fs::remove_dir_all(stage.path("restored"));

        // A run says what it can promise: all, all with debts, or nothing.
        fs::write(stage.path("tree/new"), numbers.bytes(200_000)).unwrap();
        let run = stage.holdfast(&["vault", "run", "tree"]).ends(match away.len() {
            0 => 0,
            1 => 3,
            _ => 14,
        });
        if away.len() == 1 {
            // And keeps it: of what it stored, any one more may go.
            run.says("with debts");
            for more in &here {
                let left: Vec<u32> = here.iter().copied().filter(|at| at != more).collect();
                let packs = indices(&stage, &left);
                let new = packs.iter().filter(|(pack, _)| !old.contains(*pack));
                assert!(new.clone().count() > 0, "away {away:?}");
                new.for_each(|(pack, found)| assert!(found.len() >= 5, "{pack} away {away:?}, and then {more}"));
            }
            witness.look(&stage, "tree");
        }
        for n in &away {
            fs::rename(stage.path(&format!("gone{n}")), stage.path(&format!("p{n}"))).unwrap();
        }

        // All is back: the same words again, what is owed is paid, and all is well.
        let again = stage.holdfast(&["vault", "run", "tree"]);
        assert!([0, 3].contains(&again.code), "{}", again.shown());
        stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
        stage.holdfast(&["vault", "audit", "--full"]).ends(0);
        witness.look(&stage, "tree");
        witness.newest_restores(&stage, "tree", &[0]);
    }
    println!("{begun} restores failed after they had begun to write");
    promised_pairs(&stage);
    witness.all_restore(&stage);
}

/// `status` promises "1 of 6 sets of 2": exactly so many pairs can be spared; nothing of
/// the kind if it is none.
fn promised_pairs(stage: &Stage) {
    let pairs = [[1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]];
    let spared = pairs.iter().filter(|left| enough(stage, &left[..])).count();
    let status = stage.holdfast(&["vault", "status"]).ends(3);
    let status = status.says("you can lose any 1 domain");
    match spared {
        0 => status.never_says("sets of"),
        some => status.says(&format!("and {some} of 6 sets of 2")),
    };
}
