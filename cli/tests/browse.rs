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
