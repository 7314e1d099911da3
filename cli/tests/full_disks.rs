//! Disks that are full where it hurts: the target of a restore, the spool, the state.
//!
//! What must hold: a restore stops with the name of the file and the next step, leaves
//! nothing wrong under a whole name, and the same command goes on once there is room; a
//! backup that finds no room anywhere says that no point was made (14, or 1), loses
//! nothing that was stored, and goes on once there is room. A place that is full is one
//! place that failed: tests/sick.rs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stage::{Numbers, Place, SmallDisk, Stage, Witness, assert_same_tree, files_below, write_tree};

const PLACES: [&str; 3] = ["p1", "p2", "p3"];
const SPOOL: &str = "vault/state/home/spool";

/// A vault over three domains that survives any one, with one point of `tree`.
fn scene(seed: u64, bytes: usize) -> (Stage, Numbers, Witness) {
    println!("seed {seed}");
    let (stage, mut numbers) = (Stage::new(), Numbers(seed));
    let places: Vec<Place> = PLACES.iter().map(|name| Place::folder(&stage, name, name)).collect();
    stage.init_over(&places, 1).ends(0);
    write_tree(&stage.path("tree"), bytes, &mut numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let mut witness = Witness::default();
    witness.look(&stage, "tree");
    (stage, numbers, witness)
}

/// All that stands in the places.
fn stored(stage: &Stage) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = Vec::new();
    for place in PLACES {
        files_below(&stage.path(place), &mut files);
    }
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Everything of the first is in the second, as it was.
fn nothing_is_lost(before: &BTreeMap<PathBuf, Vec<u8>>, stage: &Stage) {
    let after = stored(stage);
    for (path, bytes) in before {
        assert!(after.get(path) == Some(bytes), "{} is gone or changed", path.display());
    }
}

fn move_all(stage: &Stage, away: bool) {
    for place in PLACES {
        let (here, there) = (stage.path(place), stage.path(&format!("{place} is away")));
        if away { fs::rename(here, there) } else { fs::rename(there, here) }.unwrap();
    }
}

/// Files below a target under whole names, each compared with the source.
fn whole_files(stage: &Stage, target: &Path) -> usize {
    let mut found = Vec::new();
    files_below(target, &mut found);
    for path in &found {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(!name.contains("incoming"), "half a file is left: {}", path.display());
        let of_source = stage.path("plain").join(path.strip_prefix(target.join("plain")).unwrap());
        assert!(fs::read(path).unwrap() == fs::read(&of_source).unwrap(), "{} is not whole", path.display());
    }
    found.len()
}

#[test]
fn a_restore_onto_a_full_disk_stops_and_goes_on_when_there_is_room() {
    let (stage, mut numbers, _) = scene(601, 10_000);
    fs::create_dir(stage.path("plain")).unwrap();
    for number in 0..24 {
        fs::write(stage.path(&format!("plain/large {number:02}")), numbers.bytes(200_000)).unwrap();
    }
    stage.holdfast(&["vault", "run", "plain"]).ends(0);
    let target = stage.path("out");
    let disk = SmallDisk::mount(&target, 2 << 20);
    // It is seen before anything is written.
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(2).says("bytes of room").says("Nothing was written");
    assert_eq!(whole_files(&stage, &target), 0);
    let restore = ["vault", "restore", "--to", "out", "--no-room-check"];
    let mut there = 0;
    for _ in 0..2 {
        let full = stage.holdfast(&restore).ends(1);
        full.says("plain/large ")
            .says("No space left")
            .says("make room there and run the same command again")
            .never_says("every byte checked");
        let now = whole_files(&stage, &target);
        assert!(now > 3 && now >= there, "{there} files were there, {now} are");
        there = now;
    }
    disk.resize(64 << 20);
    let done = stage.holdfast(&["--json", "vault", "restore", "--to", "out"]).ends(0).last();
    assert!(done["already"].as_u64().unwrap() >= there as u64, "{done}");
    assert_same_tree(&stage.path("plain"), &target.join("plain"));
}

/// A stream is one file: half of it under its name would be taken for all of it.
#[test]
fn half_a_stream_is_not_left_on_a_full_disk() {
    let (stage, mut numbers, _) = scene(602, 10_000);
    fs::write(stage.path("bytes"), numbers.bytes(3 << 20)).unwrap();
    stage.append_config(&format!(
        "\n[source.db]\nkind = \"command\"\ncommand = [\"cat\", \"{}\"]\n",
        stage.text("bytes")
    ));
    stage.holdfast(&["vault", "run", "db"]).ends(0);
    let disk = SmallDisk::mount(&stage.path("out"), 1 << 20);
    let restore = ["vault", "restore", "--source", "db", "--to", "out"];
    stage.holdfast(&restore).ends(1).says("writing out/db").says("No space left").says("make room there");
    assert_eq!(fs::read_dir(stage.path("out")).unwrap().count(), 0);
    disk.resize(64 << 20);
    stage.holdfast(&restore).ends(0);
    assert!(fs::read(stage.path("out/db")).unwrap() == fs::read(stage.path("bytes")).unwrap());
}

#[test]
fn a_spool_on_a_full_disk_takes_nothing_more_and_loses_nothing() {
    let (stage, mut numbers, mut witness) = scene(603, 50_000);
    // Bytes enough, and no more names to be given: only the write itself finds out.
    let disk = SmallDisk::mount(&stage.path(SPOOL), 8 << 30);
    // What opens the vault without its places is kept there.
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    witness.look(&stage, "tree");
    let before = stored(&stage);
    move_all(&stage, true);
    fs::write(stage.path("tree/new"), numbers.bytes(100_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(14).says("kept").says("not durable");
    let waiting = || {
        let mut files = Vec::new();
        files_below(&stage.path(SPOOL), &mut files);
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    stage::copy_exactly(&stage.path("tree"), &stage.path("then"));
    let kept = waiting();
    assert!(kept.len() > 3);
    disk.limit_names(Some(disk.names_used() + 2));
    fs::write(stage.path("tree/newer"), numbers.bytes(100_000)).unwrap();
    for _ in 0..2 {
        let full = stage.holdfast(&["vault", "run", "tree"]).ends(14);
        full.says("the spool on this host is full").says("No point was made").says("give the spool more room");
        assert!(waiting() == kept, "half of a point is left, or what waited was touched");
    }
    stage.holdfast(&["vault", "status"]).ends(3).says("1 points");
    disk.limit_names(None);
    stage.holdfast(&["vault", "run", "tree"]).ends(14).says("2 points");
    move_all(&stage, false);
    nothing_is_lost(&before, &stage);
    stage.holdfast(&["vault", "deliver"]).ends(0).says("2 points delivered");
    for (point, tree) in [("latest", "tree"), ("latest~1", "then")] {
        stage.holdfast(&["vault", "restore", point, "--to", point]).ends(0);
        assert_same_tree(&stage.path(tree), &stage.path(point).join("tree"));
    }
    witness.all_restore(&stage);
    drop(disk);
}

#[test]
fn a_state_folder_on_a_full_disk_fails_the_run_and_nothing_else() {
    let (stage, mut numbers, mut witness) = scene(604, 50_000);
    let folder = stage.path("vault/state/home");
    stage::copy_exactly(&folder, &stage.path("state"));
    let disk = SmallDisk::mount(&folder, 2 << 30);
    for entry in fs::read_dir(stage.path("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    witness.look(&stage, "tree");
    let before = stored(&stage);
    // It opens, and finds no room for what it has to note.
    disk.resize(disk.bytes_used() + (40 << 10));
    for number in 0..400 {
        fs::write(stage.path(&format!("tree/f{number}")), numbers.bytes(700)).unwrap();
    }
    let full = stage.holdfast(&["vault", "run", "tree"]);
    assert!([1, 14].contains(&full.code), "{}", full.shown());
    full.says("make room there and run the same command again").never_says("ok  p-");
    nothing_is_lost(&before, &stage);
    disk.resize(2 << 30);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    nothing_is_lost(&before, &stage);
    witness.look(&stage, "tree");
    witness.newest_restores(&stage, "tree", &[0]);
    witness.all_restore(&stage);
    drop(disk);
}
