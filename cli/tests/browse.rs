//! A person looks for something in old points and takes out one file, on the real
//! program.
//!
//! What must hold: what is shown is what was backed up; a file that comes out is the
//! file, byte for byte; a host that only writes says which key to bring.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use stage::{Numbers, Stage, write_tree};

/// Runs a command whose standard output is bytes.
fn bytes_of(stage: &Stage, arguments: &[&str]) -> Output {
    let program = std::env::var_os("HOLDFAST_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast").into());
    let mut command = Command::new(program);
    command.current_dir(stage.path("")).env("HOLDFAST_CONFIG", stage.config()).env("HOME", stage.path(""));
    command.args(arguments).output().unwrap()
}

/// Every path below a folder, by a walk of its own.
fn names_below(root: &Path, below: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{below}/{name}");
        if entry.file_type().unwrap().is_dir() {
            names_below(&entry.path(), &path, found);
        }
        found.push(path);
    }
}

#[test]
fn what_is_listed_is_there_and_a_file_comes_out_alone() {
    let stage = Stage::with_local_vault();
    let numbers = &mut Numbers(7);
    write_tree(&stage.path("tree"), 3_000_000, numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    let listed = stage.holdfast(&["--json", "vault", "ls", "latest", "--recursive"]).ends(0);
    let mut names: Vec<String> = listed
        .events("entry")
        .iter()
        .filter(|entry| entry["path_b64"].is_null())
        .map(|entry| entry["path"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    let mut there = vec!["tree".to_owned()];
    names_below(&stage.path("tree"), "tree", &mut there);
    there.sort();
    assert_eq!(names, there);
    let odd: Vec<_> = listed
        .events("entry")
        .into_iter()
        .filter(|entry| entry["path_b64"] == "dHJlZS9jYWbpIGlzIG5vIFVURi04")
        .collect();
    assert_eq!(odd.len(), 1, "{}", listed.shown());
    assert_eq!(odd[0]["path"], "tree/caf\\xe9 is no UTF-8");

    stage
        .holdfast(&["vault", "ls", "latest:tree/sources"])
        .ends(0)
        .says("tree/sources/main.rs")
        .never_says("tree/random");
    stage.holdfast(&["vault", "ls", "-l", "latest:/tree"]).ends(0).says("-rwxr-xr-x").says("-> sources/main.rs");
    stage.holdfast(&["vault", "ls", "latest:tree/nowhere"]).ends(2).says("holds no tree/nowhere");
    stage.holdfast(&["vault", "ls", "latest:../tree"]).ends(2).says("without `..`");

    for file in ["tree/random", "tree/empty", "tree/zeros", "tree/sources/main.rs"] {
        let got = bytes_of(&stage, &["vault", "cat", &format!("latest:{file}")]);
        assert!(got.status.success() && got.stdout == fs::read(stage.path(file)).unwrap(), "{file}");
    }
    let got = bytes_of(&stage, &["--json", "vault", "dump", "latest:tree/program"]);
    assert_eq!(got.stdout, b"#!/bin/sh\n", "nothing but the file is on standard output");
    assert!(String::from_utf8(got.stderr).unwrap().contains("\"summary\""));
    stage.holdfast(&["vault", "cat", "latest:tree"]).ends(2).says("is a directory and not a file");
    stage.holdfast(&["vault", "cat", "latest"]).ends(2).says("not a file");

    stage.deal_cards();
    for command in [&["vault", "ls"][..], &["vault", "cat", "latest:tree/empty"]] {
        stage.holdfast(command).ends(12).says("no read key on this host").says("--read-key FILE");
    }
    let brought = stage::cards(&[1, 3, 5]);
    stage.holdfast_with(&["vault", "ls", "latest:tree/sources"], &brought).ends(0).says("tree/sources/main.rs");
}

#[test]
fn versions_are_found_and_changes_are_told() {
    let stage = Stage::with_local_vault();
    fs::create_dir_all(stage.path("tree/letters")).unwrap();
    fs::write(stage.path("tree/letters/may.txt"), b"dear").unwrap();
    fs::write(stage.path("tree/letters/june.txt"), b"sir").unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    fs::write(stage.path("tree/other"), b"x").unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    fs::write(stage.path("tree/letters/may.txt"), b"dear madam").unwrap();
    fs::remove_file(stage.path("tree/letters/june.txt")).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    let found = stage.holdfast(&["--json", "vault", "find", "*.txt"]).ends(0);
    let versions: Vec<(String, u64, usize)> = found
        .events("version")
        .iter()
        .map(|one| {
            let points = one["points"].as_array().unwrap().len();
            (one["path"].as_str().unwrap().to_owned(), one["size"].as_u64().unwrap(), points)
        })
        .collect();
    let wanted = [("tree/letters/june.txt", 3, 2), ("tree/letters/may.txt", 10, 1), ("tree/letters/may.txt", 4, 2)];
    assert_eq!(versions, wanted.map(|(path, size, points)| (path.to_owned(), size, points)), "{}", found.shown());
    // The newest comes first, and each point is named once.
    let list = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0);
    let newest = list.events("point").last().unwrap()["point"].clone();
    assert_eq!(found.events("version")[1]["points"][0]["point"], newest);
    stage.holdfast(&["vault", "find", "nothing*"]).ends(0).says("0 paths");
    stage.holdfast(&["vault", "find", ""]).ends(2).says("match nothing");

    let told = stage.holdfast(&["--json", "vault", "diff", "latest~1", "latest"]).ends(0);
    let changes: Vec<(&str, String)> = told
        .events("change")
        .iter()
        .filter(|one| one["change"] != "metadata")
        .map(|one| {
            let change = ["added", "removed", "content"].into_iter().find(|change| one["change"] == *change).unwrap();
            (change, one["path"].as_str().unwrap().to_owned())
        })
        .collect();
    let wanted = [("removed", "tree/letters/june.txt"), ("content", "tree/letters/may.txt")];
    assert_eq!(changes, wanted.map(|(change, path)| (change, path.to_owned())), "{}", told.shown());
    stage.holdfast(&["vault", "diff", "latest~2", "latest~1"]).ends(0).says("+ tree/other").says("1 added, 0 removed");
    stage.holdfast(&["vault", "diff", "latest", "latest"]).ends(0).says("0 added, 0 removed, 0 changed");
    let same = stage.holdfast(&["vault", "diff", "latest~2:tree/letters", "latest~1:tree/letters"]).ends(0);
    assert!(same.says("0 added, 0 removed, 0 changed").out.lines().count() == 1);
}

/// Two hosts name their chunks with keys of their own, so that what is listed does not
/// tell whether their files are equal.
#[test]
fn equal_bytes_of_two_hosts_are_joined_by_reading_them() {
    let stage = Stage::with_local_vault();
    write_tree(&stage.path("tree"), 200_000, &mut Numbers(13));
    stage.holdfast(&["keys", "issue", "--role", "writer", "--name", "second", "--out", "second.key"]).ends(0);
    stage.other_host("second");
    fs::rename(stage.path("second.key"), stage.path("second-keys/writer.key")).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage.on_host("second", &["vault", "run", "tree"]).ends(0);
    let find = |more: &[&str]| stage.holdfast(&[&["vault", "find", "/tree/random"], more].concat()).ends(0);
    find(&[]).says("1 paths, 2 versions in 2 points");
    find(&["--by-content"]).says("1 paths, 1 versions in 2 points").says("2 points of ");

    // Another byte, under the same size and time.
    let path = stage.path("tree/random");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    stage.on_host("second", &["vault", "run", "tree"]).ends(0);
    find(&[]).says("1 paths, 3 versions in 3 points");
    find(&["--by-content"]).says("1 paths, 2 versions in 3 points").says("2 points of ").says("1 point of ");
}

#[test]
fn a_part_is_restored_and_what_is_removed_was_shown_and_agreed_to() {
    let stage = Stage::with_local_vault();
    let numbers = &mut Numbers(11);
    write_tree(&stage.path("tree"), 400_000, numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    stage.holdfast(&["vault", "restore", "latest:tree/level-0", "--to", "deep", "--verify"]).ends(0).says("0 differ");
    stage::assert_same_tree(&stage.path("tree/level-0"), &stage.path("deep"));
    stage.holdfast(&["vault", "restore", "--include", "/tree/program", "--to", "one"]).ends(0);
    let mut one = Vec::new();
    names_below(&stage.path("one"), "", &mut one);
    assert_eq!(one, ["/tree/program", "/tree"]);
    stage.holdfast(&["vault", "restore", "latest:tree/random", "--to", "file"]).ends(0);
    assert_eq!(fs::read(stage.path("file/random")).unwrap(), fs::read(stage.path("tree/random")).unwrap());

    let dry = stage.holdfast(&["--json", "vault", "restore", "--to", "all", "--dry-run"]).ends(0);
    assert!(dry.last()["files"].as_u64().unwrap() > 20 && dry.last()["fits"] == true, "{}", dry.shown());
    assert!(!stage.path("all").exists());
    stage.holdfast(&["vault", "restore", "--to", "all"]).ends(0);
    fs::write(stage.path("all/tree/mine"), b"mine").unwrap();
    fs::write(stage.path("all/tree/program"), b"changed").unwrap();
    stage.holdfast(&["vault", "restore", "--to", "all", "--delete"]).ends(2).says("--overwrite");
    let delete = ["vault", "restore", "--to", "all", "--overwrite", "always", "--delete"];
    stage.holdfast(&delete).ends(2).says("tree/mine").says("nobody agreed").says("--yes");
    assert_eq!(fs::read(stage.path("all/tree/program")).unwrap(), b"changed", "nothing was written");
    let kept = ["vault", "restore", "--to", "all", "--overwrite", "never"];
    stage.holdfast(&kept).ends(0).says("kept as they were");
    assert_eq!(fs::read(stage.path("all/tree/program")).unwrap(), b"changed");
    let agreed: Vec<String> = delete.iter().map(|word| (*word).to_owned()).chain(["--yes".to_owned()]).collect();
    stage.holdfast_with(&[], &agreed).ends(0).says("removed: 1").says("replaced: 1").says("compared byte by byte");
    stage::assert_same_tree(&stage.path("tree"), &stage.path("all/tree"));
}

#[test]
fn a_wrong_byte_is_never_followed_by_success() {
    let stage = Stage::with_local_vault();
    let numbers = &mut Numbers(12);
    fs::create_dir(stage.path("tree")).unwrap();
    fs::write(stage.path("tree/random"), numbers.bytes(6_000_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let whole = fs::read(stage.path("tree/random")).unwrap();
    // More and more folders rot, until too few shards are good: first nobody notices, then it is said.
    let mut failures = 0;
    for folder in 1..=9 {
        stage.shards_in(&format!("vault/p{folder}")).iter().for_each(|shard| stage::rot(shard));
        let got = bytes_of(&stage, &["vault", "cat", "latest:tree/random"]);
        if got.status.success() {
            assert!(got.stdout == whole, "with {folder} rotten folders");
        } else {
            failures += 1;
            assert!(whole.starts_with(&got.stdout), "what came is right, with {folder} rotten folders");
            assert!(!got.stderr.is_empty());
        }
    }
    assert!(failures > 0, "with nine rotten folders something is lost");
}
