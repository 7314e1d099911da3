//! Four of the nine folders are gone, and so are the configuration, the catalog
//! and the host: three people bring their cards. Then a fifth folder goes.
//!
//! What must hold: any five folders are enough, whichever they are; four are not,
//! and the program tells "lost" (exit 5: everybody answered) from "not reachable"
//! (exit 14: nothing is known to be lost); a wrong key is called a wrong key (12),
//! too few cards too few cards (13), and no card counts twice or in another's set.
//!
//! Short form: corner patterns and a dozen drawn from a seed. `HOLDFAST_LONG=1`
//! tries all 126.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Stage, assert_no_wrong_file, assert_same_tree, cards, write_tree};

fn stage_with_point() -> Stage {
    let stage = Stage::with_local_vault();
    write_tree(&stage.path("tree"), 600_000, &mut Numbers(2));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage.deal_cards();
    stage
}

/// `--from FOLDER..` for these of the nine.
fn from(folders: &[u32]) -> Vec<String> {
    let names = folders.iter().map(|number| format!("vault/p{number}"));
    std::iter::once("--from".to_owned()).chain(names).collect()
}

/// All ways to lose four of nine.
fn all_patterns() -> Vec<Vec<u32>> {
    let bits = (0_u32..1 << 9).filter(|bits| bits.count_ones() == 4);
    bits.map(|bits| (1..=9).filter(|at| bits >> (at - 1) & 1 == 1).collect()).collect()
}

fn patterns(numbers: &mut Numbers) -> Vec<Vec<u32>> {
    if std::env::var_os("HOLDFAST_LONG").is_some() {
        return all_patterns();
    }
    let corners = [[1, 2, 3, 4], [6, 7, 8, 9], [1, 3, 5, 7], [2, 4, 6, 8], [1, 2, 8, 9], [3, 4, 6, 7]];
    let drawn = (0..12).map(|_| numbers.choose(4, 9));
    corners.into_iter().map(Vec::from).chain(drawn).collect()
}

#[test]
fn any_five_folders_and_any_three_cards_are_enough() {
    assert_eq!(all_patterns().len(), 126);
    let stage = stage_with_point();
    fs::remove_file(stage.config()).unwrap();
    stage.lose_catalog();
    let seed = 3;
    println!("seed {seed}");
    let numbers = &mut Numbers(seed);
    for lost in patterns(numbers) {
        let left: Vec<u32> = (1..=9).filter(|number| !lost.contains(number)).collect();
        let holders = numbers.choose(3, 5);
        println!("lost {lost:?}, cards {holders:?}");
        for number in &lost {
            fs::rename(stage.path(&format!("vault/p{number}")), stage.path(&format!("gone{number}"))).unwrap();
        }
        let more = [from(&left), cards(&holders)].concat();
        stage.holdfast_with(&["vault", "restore", "latest", "--to", "out"], &more).ends(0);
        assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
        fs::remove_dir_all(stage.path("out")).unwrap();
        for number in &lost {
            fs::rename(stage.path(&format!("gone{number}")), stage.path(&format!("vault/p{number}"))).unwrap();
        }
    }
}

#[test]
fn five_lost_folders_are_lost_only_if_they_answer() {
    let stage = stage_with_point();
    let everywhere = [from(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), cards(&[1, 2, 3])].concat();
    let restore = |more: &[String]| stage.holdfast_with(&["vault", "restore", "--to", "out"], more);

    // Gone: not there to be asked. One of the paths named may be missing, five not.
    for number in 1..=5 {
        fs::rename(stage.path(&format!("vault/p{number}")), stage.path(&format!("gone{number}"))).unwrap();
        if number < 5 {
            restore(&everywhere).ends(0);
            fs::remove_dir_all(stage.path("out")).unwrap();
        }
    }
    let configured = cards(&[1, 2, 3]);
    for more in [&everywhere, &configured, &[from(&[6, 7, 8, 9]), cards(&[1, 2, 3])].concat()] {
        restore(more).ends(14).says("Nothing is known to be lost").says("bring back").never_says("is lost");
        assert!(!stage.path("out/tree").exists());
    }
    stage.holdfast(&["vault", "status"]).ends(3).says("AT RISK").says("p5").never_says("DATA LOST");
    stage.holdfast(&["vault", "audit"]).ends(3);

    // There, and empty of shards: every location answers.
    for number in 1..=5 {
        fs::rename(stage.path(&format!("gone{number}")), stage.path(&format!("vault/p{number}"))).unwrap();
        fs::remove_dir_all(stage.path(&format!("vault/p{number}/shards"))).unwrap();
    }
    for more in [&everywhere, &configured] {
        restore(more).ends(5).says("is lost").never_says("Nothing is known to be lost");
        // What the four that are left hold as it was, and nothing else.
        assert_no_wrong_file(&stage.path("tree"), &stage.path("out/tree"));
        let _ = fs::remove_dir_all(stage.path("out"));
    }
    stage.holdfast(&["vault", "status"]).ends(5).says("DATA LOST");
    stage.holdfast(&["vault", "audit"]).ends(5).says("import-orphans");
    stage.holdfast(&["vault", "repair", "--apply"]).ends(5);
    // The source is still there: the next run stores what is lost anew.
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    restore(&configured).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

#[test]
fn a_run_leans_only_on_packs_that_can_be_read_now() {
    // Found while writing this story: with five folders away, a run took the old
    // packs for stored, and its point could not be restored.
    let stage = stage_with_point();
    for number in 1..=5 {
        fs::rename(stage.path(&format!("vault/p{number}")), stage.path(&format!("gone{number}"))).unwrap();
    }
    stage.holdfast(&["vault", "run", "tree"]).ends(3).says("with debts").says("is owed to p3");
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[2, 3, 5])).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

#[test]
fn wrong_keys_and_too_few_cards_have_names() {
    let stage = stage_with_point();
    let other = stage_with_point();
    fs::create_dir(stage.path("theirs")).unwrap();
    for number in 1..=5 {
        let name = format!("card-set1-{number}.txt");
        fs::copy(other.path("cards").join(&name), stage.path("theirs").join(&name)).unwrap();
    }
    let their_card = |number: u32| ["--card".to_owned(), format!("theirs/card-set1-{number}.txt")];
    let theirs: Vec<String> = [1, 2, 3].into_iter().flat_map(their_card).collect();
    let try_it = |cards: &[String], from: &[String]| {
        stage.holdfast_with(&["vault", "restore", "--to", "out"], &[from, cards].concat())
    };
    let all = from(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for from in [&all[..], &[]] {
        try_it(&theirs, from).ends(12).says("another vault");
        try_it(&cards(&[1, 4]), from).ends(13).says("2 good cards of the 3 needed");
        try_it(&cards(&[1, 4, 1]), from).ends(13).says("2 good cards of the 3 needed").says("same card");
        let mixed = [cards(&[1, 4]), their_card(2).to_vec()].concat();
        try_it(&mixed, from).ends(13).says("2 good cards of the 3 needed").says("theirs/card-set1-2.txt");
    }
    try_it(&[], &all).ends(12).says("--card");
    assert!(!stage.path("out").exists(), "nothing is written before the key is right");
    // A bad card among enough good ones stops nothing.
    let enough = [cards(&[1, 1, 4]), their_card(2).to_vec(), cards(&[5])].concat();
    try_it(&enough, &all).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
    stage.holdfast_with(&["keys", "recover", "--out", "their.key"], &theirs).ends(0).never_says(&stage.text("vault"));
    stage.holdfast(&["vault", "restore", "--read-key", "their.key", "--to", "out2"]).ends(12).says("another vault");
}

/// A tree whose folder `old` lies in packs of its own, all but what came later; and these
/// packs' shards, by folder.
fn stage_with_old_and_new(old_files: usize) -> (Stage, Vec<std::path::PathBuf>) {
    let stage = Stage::with_local_vault();
    let mut numbers = Numbers(21);
    fs::create_dir_all(stage.path("tree/old")).unwrap();
    for file in 0..old_files {
        fs::write(stage.path(&format!("tree/old/{file}")), numbers.bytes(30_000)).unwrap();
    }
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let shards = (1..=9).flat_map(|place| stage.shards_in(&format!("vault/p{place}"))).collect();
    for file in 0..20 {
        fs::write(stage.path(&format!("tree/new-{file}")), numbers.bytes(30_000)).unwrap();
    }
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    (stage, shards)
}

fn index_of(shard: &std::path::Path) -> usize {
    shard.extension().unwrap().to_str().unwrap().parse().unwrap()
}

/// Five of nine shards of one pack are gone, and all other packs are whole.
#[test]
fn one_lost_pack_costs_what_lies_in_it_and_nothing_else() {
    let (stage, shards) = stage_with_old_and_new(1);
    fs::create_dir(stage.path("aside")).unwrap();
    let aside = |shard: &std::path::Path| stage.path("aside").join(shard.file_name().unwrap());
    let taken: Vec<_> = shards.into_iter().filter(|shard| index_of(shard) < 5).collect();
    for shard in &taken {
        fs::rename(shard, aside(shard)).unwrap();
    }
    let ran = stage.holdfast(&["--json", "vault", "restore", "--to", "out", "--verify"]).ends(5);
    let unread: Vec<_> = ran.events("unread").iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(unread, ["tree/old"], "its listing lies beside its file: {}", ran.shown());
    let last = ran.last();
    assert_eq!((&last["complete"], &last["unread"], &last["files"]), (&false.into(), &1.into(), &20.into()));
    assert_eq!((&last["verified"], &last["differs"]), (&20.into(), &0.into()), "{}", ran.shown());
    assert_eq!(assert_no_wrong_file(&stage.path("tree"), &stage.path("out/tree")).len(), 20);
    assert!(fs::read_dir(stage.path("out/tree/old")).unwrap().next().is_none());
    let ran = stage.holdfast(&["vault", "restore", "--to", "out"]).ends(5).says("NOT COMPLETE").says("is lost");
    ran.says("tree/old (a folder").never_says("tree root");
    stage.holdfast(&["vault", "restore", "--to", "new", "--dry-run"]).ends(5).says("tree/old (a folder");

    // They turn up again: the same command adds what is missing.
    for shard in &taken {
        fs::rename(aside(shard), shard).unwrap();
    }
    stage.holdfast(&["vault", "restore", "--to", "out", "--verify"]).ends(0).says("as recorded");
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

/// Only data shards hold bytes as they were: what those that are left hold is restored.
#[test]
fn of_a_lost_pack_what_is_left_is_restored() {
    let (stage, shards) = stage_with_old_and_new(40);
    // Four of five data shards stay, and nothing that could stand for the fifth.
    shards
        .iter()
        .filter(|shard| index_of(shard) > 4 || index_of(shard) == 1)
        .for_each(|shard| fs::remove_file(shard).unwrap());
    let ran = stage.holdfast(&["--json", "vault", "restore", "--to", "out"]).ends(5);
    let missing: Vec<_> = ran.events("unread").iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect();
    let there = assert_no_wrong_file(&stage.path("tree"), &stage.path("out/tree"));
    println!("{} of 60 files are there", there.len());
    assert_eq!(there.len() + missing.len(), 60, "{}", ran.shown());
    assert!(there.len() > 40 && !missing.is_empty() && missing.iter().all(|name| name.starts_with("tree/old/")));
    // Once more finds them there, and misses the same.
    let again = stage.holdfast(&["--json", "vault", "restore", "--to", "out"]).ends(5);
    assert_eq!((&again.last()["already"], again.events("unread").len()), (&there.len().into(), missing.len()));
}
