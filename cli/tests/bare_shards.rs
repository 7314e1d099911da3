//! Years later somebody finds a box of disks: files with meaningless names,
//! holiday pictures between them, one file cut short. Nobody has a configuration,
//! a catalog or a manifest; three people still have their cards.
//!
//! What must hold: any five shards of each pack, in any folder under any name,
//! restore every point, and the restore says that no chain vouches for its being
//! the newest; `import-orphans` shows a plan, changes nothing before `--apply`,
//! and brings everything home, from where it is audited and restored again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::path::Path;

use stage::{Numbers, Stage, assert_no_wrong_file, assert_same_tree, cards, files_below, write_tree};

fn stage_with_point() -> Stage {
    let stage = Stage::with_local_vault();
    write_tree(&stage.path("tree"), 1_500_000, &mut Numbers(4));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage.deal_cards();
    stage
}

/// Copies the shards of these folders into one, under random names.
fn box_up(stage: &Stage, folders: &[u32], to: &str, numbers: &mut Numbers) -> usize {
    fs::create_dir_all(stage.path(to).join("more/inside")).unwrap();
    let mut shards = Vec::new();
    for number in folders {
        shards.extend(stage.shards_in(&format!("vault/p{number}")));
    }
    for (at, shard) in shards.iter().enumerate() {
        let folder = if at % 3 == 0 { format!("{to}/more/inside") } else { to.to_owned() };
        fs::copy(shard, stage.path(&folder).join(format!("DSC{:016x}.jpg", numbers.next()))).unwrap();
    }
    shards.len()
}

/// Puts things between the shards that are none, or not whole.
fn litter(stage: &Stage, to: &str, numbers: &mut Numbers) {
    let write = |name: &str, bytes: &[u8]| fs::write(stage.path(to).join(name), bytes).unwrap();
    write("holiday.jpg", &numbers.bytes(30_000));
    write("nothing", b"");
    write("letter.txt", b"Dear finder, the green disk is the good one.");
    let whole = fs::read(&stage.shards_in("vault/p1")[0]).unwrap();
    write("cut short", &whole[..whole.len() - 5_000]);
    write("cut very short", &whole[..100]);
}

#[test]
fn shards_of_any_five_folders_are_enough() {
    let stage = stage_with_point();
    let numbers = &mut Numbers(5);
    for count in 5..=9 {
        let (to, folders) = (format!("box{count}"), numbers.choose(count, 9));
        println!("folders {folders:?}");
        box_up(&stage, &folders, &to, numbers);
        litter(&stage, &to, numbers);
        for scan in [&["--scan"][..], &[]] {
            let more = [cards(&[1, 3, 5]), vec!["--from".to_owned(), to.clone()]].concat();
            let arguments: Vec<&str> =
                ["--config", "none.toml", "vault", "restore", "--to", "out"].iter().chain(scan).copied().collect();
            let ran = stage.holdfast_with(&arguments, &more).ends(3);
            ran.says("the chain of manifests is not verified").says("cut short").says("every byte checked");
            assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
            fs::remove_dir_all(stage.path("out")).unwrap();
        }
    }
}

#[test]
fn shards_of_four_folders_are_not_and_it_says_so() {
    let stage = stage_with_point();
    box_up(&stage, &[2, 4, 6, 8], "box", &mut Numbers(6));
    let more = [cards(&[1, 2, 3]), vec!["--from".to_owned(), "box".to_owned()]].concat();
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &more).ends(5).says("--from");
    assert_no_wrong_file(&stage.path("tree"), &stage.path("out/tree"));
}

/// What `vault import-orphans` will find: everything but the records that say
/// which vault this is, taken out of all nine folders.
fn empty_the_vault(stage: &Stage, numbers: &mut Numbers) {
    fs::create_dir(stage.path("box")).unwrap();
    for number in 1..=9 {
        for kind in ["shards", "manifests"] {
            let folder = stage.path(&format!("vault/p{number}/{kind}"));
            let mut files = Vec::new();
            files_below(&folder, &mut files);
            for file in files {
                fs::rename(file, stage.path("box").join(format!("{:016x}", numbers.next()))).unwrap();
            }
            fs::remove_dir_all(folder).unwrap();
        }
    }
    stage.lose_catalog();
}

fn count(folder: &Path) -> usize {
    let mut files = Vec::new();
    files_below(folder, &mut files);
    files.len()
}

#[test]
fn orphans_come_home() {
    let stage = stage_with_point();
    let numbers = &mut Numbers(7);
    empty_the_vault(&stage, numbers);
    litter_without_shards(&stage, numbers);
    let before = (count(&stage.path("box")), count(&stage.path("vault")));
    let cards = cards(&[2, 3, 4]);

    let plan = stage.holdfast_with(&["vault", "import-orphans", "box", "--plan"], &cards).ends(0);
    plan.says("enough").says("point p-").says("Nothing was changed").never_says("TOO FEW");
    // The state folder was made anew: its catalog and lease are not the vault's.
    let after = (count(&stage.path("box")), count(&stage.path("vault")) - count(&stage.path("vault/state")));
    assert_eq!(after, before, "a plan changes nothing");

    stage.holdfast_with(&["vault", "import-orphans", "box", "--apply"], &cards).ends(0).says("imported");
    assert_eq!(count(&stage.path("box")), before.0, "what was found stays where it is");
    stage.holdfast(&["vault", "audit", "--full"]).ends(0).says("every challenge was answered rightly");
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
    stage.holdfast_with(&["vault", "import-orphans", "box", "--apply"], &cards).ends(0).says("0 shards");
    let again = stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0);
    assert_eq!(again.events("point")[0]["new_bytes"], 0, "what was imported is not stored again: {}", again.shown());
}

fn litter_without_shards(stage: &Stage, numbers: &mut Numbers) {
    fs::write(stage.path("box/holiday.jpg"), numbers.bytes(30_000)).unwrap();
    fs::write(stage.path("box/letter.txt"), b"Dear finder").unwrap();
}

/// Names a listing cannot show are said, and every object is counted.
#[test]
fn hostile_names_are_never_skipped_in_silence() {
    use std::os::unix::ffi::OsStrExt;
    let stage = stage_with_point();
    let shard = fs::read(&stage.shards_in("vault/p1")[0]).unwrap();
    fs::create_dir_all(stage.path("box/empty")).unwrap();
    let long = "x".repeat(250);
    for name in ["100%25.jpg", "a%20b [1]{2}", "tab\tand\nline", long.as_str(), "..hidden", "~"] {
        fs::write(stage.path("box").join(name), &shard).unwrap();
    }
    fs::write(stage.path("box/copy#1"), &shard).unwrap();
    fs::write(stage.path("box").join(std::ffi::OsStr::from_bytes(b"\xff\xfe.jpg")), &shard).unwrap();
    let plan = stage.holdfast_with(&["--json", "vault", "import-orphans", "box"], &cards(&[1, 2, 3])).ends(0);
    let (end, shown) = (plan.last(), plan.shown());
    let number = |name: &str| end[name].as_u64().unwrap();
    assert!(shown.contains("copy#1") && shown.matches("cannot be listed").count() == 3, "{shown}");
    assert_eq!(number("shards_found"), 1, "{shown}");
    assert_eq!(number("looked_at"), number("shards_found") + number("duplicates") + number("quarantined"), "{shown}");
    assert!(number("looked_at") >= 4, "{shown}");
}

#[test]
fn half_the_orphans_come_home_and_repair_does_the_rest() {
    let stage = stage_with_point();
    let numbers = &mut Numbers(8);
    // Five folders' shards survive in a box, all manifests at home.
    box_up(&stage, &[1, 2, 5, 7, 9], "box", numbers);
    litter(&stage, "box", numbers);
    for number in 1..=9 {
        fs::remove_dir_all(stage.path(&format!("vault/p{number}/shards"))).unwrap();
    }
    stage.holdfast(&["vault", "audit"]).ends(5);
    stage.holdfast(&["vault", "import-orphans", "box", "--apply"]).ends(3).says("quarantined").says("cut short");
    stage.holdfast(&["vault", "audit"]).ends(4).says("vault repair --apply");
    stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[1, 2, 3])).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}
