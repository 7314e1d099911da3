//! A house burned, a provider closed. What is left is a heap: shard objects under names
//! that say nothing, of two vaults, some cut short, some rotten, in folders and on a
//! stick, between holiday pictures; and three of five cards. On a new machine the vault
//! is founded anew on places it never had.
//!
//! What must hold: every point of which enough is left restores byte for byte; per pack it
//! is said how many shards were found, what was set aside and what is lost; the new
//! machine backs up again and stores nothing twice; the heap stays as it was; a run that
//! was cut off is taken up again; nothing is written for a wrong card, a missing name or an
//! occupied place.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use stage::{Numbers, Place, Ran, Stage, assert_same_tree, cards, copy_exactly, files_below, write_tree};

const ONE_DEVICE: (&str, &str) = ("HOLDFAST_TEST_ONE_DEVICE", "1");

/// A vault of nine folders with two points, the first kept in `tree-1`.
fn two_points(stage: &Stage, numbers: &mut Numbers) {
    write_tree(&stage.path("tree"), 700_000, numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    copy_exactly(&stage.path("tree"), &stage.path("tree-1"));
    fs::write(stage.path("tree/second"), numbers.bytes(300_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage.deal_cards();
}

/// Shards, or other objects, of these folders go onto the heap; the vault is gone.
fn heap(stage: &Stage, folders: &[u32], kinds: &[&str], numbers: &mut Numbers) {
    fs::create_dir_all(stage.path("heap/stick")).unwrap();
    let mut found = Vec::new();
    for folder in folders {
        for kind in kinds {
            files_below(&stage.path(&format!("vault/p{folder}/{kind}")), &mut found);
        }
    }
    for (at, file) in found.iter().enumerate() {
        let to = if at % 3 == 0 { "heap/stick" } else { "heap" };
        fs::copy(file, stage.path(to).join(format!("IMG_{:016x}.jpg", numbers.next()))).unwrap();
    }
}

fn burn(stage: &Stage) {
    fs::remove_dir_all(stage.path("vault")).unwrap();
    fs::remove_file(stage.config()).unwrap();
}

/// Somebody else's shards, pictures, and shards of ours that are whole no more.
fn litter(stage: &Stage, other: &Stage, numbers: &mut Numbers) {
    let write = |name: &str, bytes: &[u8]| fs::write(stage.path("heap").join(name), bytes).unwrap();
    for folder in 1..=9 {
        for shard in other.shards_in(&format!("vault/p{folder}")) {
            write(&format!("{:016x}", numbers.next()), &fs::read(shard).unwrap());
        }
    }
    let whole = fs::read(&stage.shards_in("vault/p9")[0]).unwrap();
    write("cut short", &whole[..whole.len() - 7_000]);
    write("cut very short", &whole[..60]);
    let mut rotten = whole;
    let middle = rotten.len() / 2;
    rotten[middle] ^= 4;
    write("rotten", &rotten);
    write("holiday.jpg", &numbers.bytes(20_000));
    write("letter.txt", b"Dear finder");
}

/// Four places it never had, each a domain of its own.
fn new_places(stage: &Stage) {
    let mut text = String::new();
    for name in ["attic", "office", "bank", "friend"] {
        let Place { url, .. } = Place::folder(stage, name, name);
        writeln!(text, "[location.{name}]\nurl = \"{url}\"\ndomain = \"{name}\"").unwrap();
    }
    fs::write(stage.path("places.toml"), text).unwrap();
}

/// The command, and what is typed after it.
fn founds(stage: &Stage, more: &[&str], environment: &[(&str, &str)]) -> Ran {
    let cards = cards(&[1, 3, 5]);
    let mut all = vec!["vault", "init", "--adopt", "--scan", "heap", "--locations", "places.toml"];
    all.extend(cards.iter().map(String::as_str));
    all.extend(more);
    stage.holdfast_in(&all, &[&[ONE_DEVICE], environment].concat())
}

fn everything(stage: &Stage, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    files_below(&stage.path(folder), &mut files);
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[track_caller]
fn restores(stage: &Stage, point: &str, like: &str) {
    stage.holdfast_with(&["vault", "restore", point, "--to", "out"], &cards(&[2, 3, 4])).ends(0);
    let restored = fs::read_dir(stage.path("out")).unwrap().next().unwrap().unwrap().path();
    assert_same_tree(&stage.path(like), &restored);
    fs::remove_dir_all(stage.path("out")).unwrap();
}

#[test]
fn a_heap_of_shards_and_three_cards_are_enough_to_go_on() {
    let (stage, other) = (Stage::with_local_vault(), Stage::with_local_vault());
    let numbers = &mut Numbers(61);
    two_points(&stage, numbers);
    write_tree(&other.path("tree"), 100_000, numbers);
    other.holdfast(&["vault", "run", "tree"]).ends(0);
    heap(&stage, &[1, 2, 4, 6, 7, 8], &["shards"], numbers);
    litter(&stage, &other, numbers);
    burn(&stage);
    new_places(&stage);
    let before = everything(&stage, "heap");

    // No name, no place, no cards: said, and nothing is written.
    founds(&stage, &[], &[]).ends(2).says("--name").says("2 points");
    let few = [cards(&[1, 3]), vec!["--from".to_owned(), "attic".to_owned()]].concat();
    stage.holdfast_with(&["vault", "init", "--adopt", "--scan", "heap"], &few).ends(13);
    let no_place = cards(&[1, 2, 3]);
    stage.holdfast_with(&["vault", "init", "--adopt", "--scan", "heap"], &no_place).ends(2).says("--from");
    let inside = [cards(&[1, 2, 3]), vec!["--from".to_owned(), "heap/stick".to_owned()]].concat();
    let inside = stage.holdfast_with(&["vault", "init", "--adopt", "--name", "home", "--scan", "heap"], &inside);
    inside.ends(2).says("is looked through for shards");
    assert!(!stage.path("keys").exists() && !stage.path("attic").exists() && !stage.config().exists());

    let founded = founds(&stage, &["--name", "home"], &[]).ends(3);
    founded
        .says("Founded vault \"home\" (5 of 9 shards) anew on 4 locations: 2 of 2 points are whole")
        .says("you can lose any 1 domain")
        .says("6 shards here, 0 at home, 5 needed: enough")
        .says("cut short")
        .says("cut very short")
        .says("rotten")
        .says("belong to another vault")
        .never_says("TOO FEW");
    assert!(!stage.path("keys/read.key").exists() && !stage.path("keys/master.seed").exists());
    assert!(everything(&stage, "heap") == before, "the heap stays as it was");
    fs::remove_dir_all(stage.path("heap")).unwrap();

    stage.holdfast(&["config", "check"]).ends(0);
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast(&["vault", "status"]).never_says("DATA LOST").says("tree");
    restores(&stage, "latest", "tree");
    restores(&stage, "latest~1", "tree-1");
    let run = stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0);
    assert_eq!(run.events("point")[0]["new_bytes"], 0, "nothing is stored twice: {}", run.shown());
    fs::write(stage.path("tree/third"), numbers.bytes(200_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    restores(&stage, "latest", "tree");
    // A place burns again.
    fs::remove_dir_all(stage.path("bank")).unwrap();
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[1, 2, 3])).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
    // The configuration stands; nothing is founded over it.
    fs::create_dir(stage.path("heap")).unwrap();
    founds(&stage, &["--name", "home"], &[]).ends(2).says("nothing was changed");
}

#[test]
fn a_founding_that_was_killed_is_taken_up_again() {
    let (stage, other) = (Stage::with_local_vault(), Stage::with_local_vault());
    let numbers = &mut Numbers(62);
    two_points(&stage, numbers);
    heap(&stage, &[1, 2, 3, 4, 5], &["shards"], numbers);
    burn(&stage);
    new_places(&stage);
    for at in ["create.location-written:2", "import.shard-home:3", "commit.manifest-written:2", "repair.shard-done:4"] {
        let died = founds(&stage, &["--name", "home"], &[("HOLDFAST_DIE_AT", at)]);
        assert_eq!(died.code, -9, "{at}: {}", died.shown());
        assert!(!stage.config().exists(), "{at}: the configuration comes last");
    }
    founds(&stage, &["--name", "home"], &[]).ends(3).says("2 of 2 points are whole");
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    restores(&stage, "latest", "tree");
    restores(&stage, "latest~1", "tree-1");
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    // Another vault's place is not taken.
    fs::remove_file(stage.config()).unwrap();
    fs::remove_dir_all(stage.path("keys")).unwrap();
    fs::remove_dir_all(stage.path("attic")).unwrap();
    fs::rename(other.path("vault/p1"), stage.path("attic")).unwrap();
    let taken = everything(&stage, "attic");
    founds(&stage, &["--name", "home"], &[]).ends(2).says("another vault");
    assert!(everything(&stage, "attic") == taken, "nothing was written there");
}

#[test]
fn what_is_lost_is_said_and_the_rest_lives() {
    let stage = Stage::with_local_vault();
    let numbers = &mut Numbers(63);
    two_points(&stage, numbers);
    // Of what the second point added too few shards are left; the manifests are there.
    heap(&stage, &[1, 2, 3], &["shards", "manifests", "layout"], numbers);
    let newest = stage.holdfast_with(&["--json", "vault", "snapshots"], &cards(&[1, 2, 3])).ends(0);
    let older = newest.events("point").len();
    assert_eq!(older, 2);
    let mut of_pack: std::collections::BTreeMap<String, Vec<PathBuf>> = std::collections::BTreeMap::new();
    for folder in 4..=9 {
        for shard in stage.shards_in(&format!("vault/p{folder}")) {
            let pack = shard.file_stem().unwrap().to_str().unwrap().to_owned();
            of_pack.entry(pack).or_default().push(shard);
        }
    }
    let newest_pack = |packs: &std::collections::BTreeMap<String, Vec<PathBuf>>| {
        let age = |pack: &String| fs::metadata(&packs[pack][0]).unwrap().modified().unwrap();
        packs.keys().max_by_key(|pack| age(pack)).unwrap().clone()
    };
    let gone = newest_pack(&of_pack);
    for (_, shards) in of_pack.iter().filter(|(pack, _)| **pack != gone) {
        for shard in shards {
            fs::copy(shard, stage.path("heap").join(format!("{:016x}", numbers.next()))).unwrap();
        }
    }
    burn(&stage);
    new_places(&stage);
    // A layout lies on the heap: it tells the name.
    let founded = founds(&stage, &[], &[]).ends(5);
    founded.says("TOO FEW").says("vault \"demo\"").says("LOST").says("1 of 2 points").says("import-orphans");
    stage.holdfast_with(&["vault", "restore", "latest~1", "--to", "out"], &cards(&[1, 2, 3]));
    assert_same_tree(&stage.path("tree-1"), &stage.path("out/tree"));
    fs::remove_dir_all(stage.path("out")).unwrap();
    stage.holdfast(&["vault", "audit", "--full"]).ends(5);
    stage.holdfast(&["vault", "status"]).ends(5).says("DATA LOST");
    fs::write(stage.path("tree/third"), numbers.bytes(100_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]);
    restores(&stage, "latest", "tree");
}
