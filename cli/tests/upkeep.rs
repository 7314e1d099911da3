//! A vault is looked after by people and by users who hold no key: places are
//! pulled, added, retired; audits and repairs run as nobody.
//!
//! What must hold: `status` names the place that is away and what to do; a user who
//! can read no key file audits and repairs; a place that is added is filled, one
//! that is retired is empty, and everything still restores.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use stage::{Numbers, Stage, assert_same_tree, cards, write_tree};

fn stage_with_point() -> Stage {
    let stage = Stage::with_local_vault();
    write_tree(&stage.path("tree"), 400_000, &mut Numbers(30));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage.deal_cards();
    stage
}

#[test]
fn status_names_the_place_that_was_pulled_and_the_fix() {
    let stage = stage_with_point();
    for place in 1..=9 {
        let (at, away) = (stage.path(&format!("vault/p{place}")), stage.path("pulled"));
        fs::rename(&at, &away).unwrap();
        let ran = stage.holdfast(&["vault", "status"]).ends(3);
        let named: Vec<&str> = ran.out.lines().filter(|line| line.contains("does not take part")).collect();
        assert_eq!(named.len(), 1, "one place, one line: {}", ran.shown());
        assert!(named[0].contains(&format!("p{place} does not take part")), "{}", ran.shown());
        assert!(named[0].contains(&format!("holdfast vault location replace p{place}")), "{}", ran.shown());
        stage.holdfast(&["vault", "audit", "--samples", "5"]).ends(3).says(&format!("p{place} does not answer"));
        fs::rename(&away, &at).unwrap();
        // A new disk in its place: empty, and refilled by the command that is named.
        if place % 4 == 1 {
            fs::rename(&at, &away).unwrap();
            fs::create_dir(&at).unwrap();
            let fix = "holdfast vault repair --apply";
            stage.holdfast(&["vault", "status"]).ends(3).says(&format!("p{place} is empty")).says(fix);
            stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
            fs::remove_dir_all(&away).unwrap();
        }
    }
    let ran = stage.holdfast(&["vault", "status"]);
    ran.never_says("does not take part").never_says("is empty").says("corrected");
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
}

/// nobody, on every system this runs on.
const NOBODY: u32 = 65_534;

fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_to_nobody(&entry.unwrap().path());
        }
    }
}

fn as_nobody(stage: &Stage, program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(stage.path(""))
        .env("HOLDFAST_CONFIG", stage.config())
        .env("HOME", "/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap()
}

#[test]
fn a_user_who_can_read_no_key_audits_and_repairs() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: nobody else can be played");
        return;
    }
    let stage = stage_with_point();
    let keys = stage.path("vault/keys");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for entry in fs::read_dir(&keys).unwrap() {
        mode(&entry.unwrap().path(), 0o600);
    }
    for folder in ["", "vault", "vault/keys"] {
        mode(&stage.path(folder), 0o755);
    }
    let public = fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path());
    let public: Vec<_> = public.filter(|path| path.to_string_lossy().contains("vault.pub")).collect();
    assert_eq!(public.len(), 1, "the public file is the one that all may read");
    mode(&public[0], 0o644);
    mode(&stage.config(), 0o644);
    // A program and a state of its own; the places belong to it.
    let program = stage.path("holdfast");
    fs::copy(env!("CARGO_BIN_EXE_holdfast"), &program).unwrap();
    mode(&program, 0o755);
    fs::create_dir(stage.path("keeper")).unwrap();
    let text = fs::read_to_string(stage.config()).unwrap();
    let old = text.lines().find(|line| line.starts_with("state = ")).unwrap();
    stage.change_config(old, &format!("state = \"{}\"", stage.text("keeper")));
    give_to_nobody(&stage.path("keeper"));
    for place in 1..=9 {
        give_to_nobody(&stage.path(&format!("vault/p{place}")));
    }
    for key in fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path()).filter(|path| *path != public[0]) {
        let read = as_nobody(&stage, Path::new("/bin/cat"), &[key.to_str().unwrap()]);
        assert!(!read.status.success(), "{} can be read: this test would show nothing", key.display());
    }

    let p3 = stage.path("vault/p3");
    fs::remove_dir_all(p3.join("shards")).unwrap();
    let run = |arguments: &[&str], code: i32| {
        let ran = as_nobody(&stage, &program, arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {said}");
        said
    };
    run(&["vault", "audit"], 4);
    assert!(run(&["vault", "repair", "--apply"], 0).contains("shards written"));
    run(&["vault", "audit", "--full"], 0);
    assert!(p3.join("shards").exists());
    // What would need a key says so.
    run(&["vault", "restore", "--to", "keeper/out"], 12);
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[1, 2, 4])).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

#[test]
fn a_pack_that_is_missing_everywhere_is_found_without_a_key() {
    let stage = stage_with_point();
    let mut wanted: Option<String> = None;
    for place in 1..=9 {
        let mut waiting = vec![stage.path(&format!("vault/p{place}/shards"))];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let pack = path.file_stem().unwrap().to_string_lossy().into_owned();
            if *wanted.get_or_insert_with(|| pack.clone()) == pack {
                fs::remove_file(&path).unwrap();
            }
        }
    }
    stage.holdfast(&["vault", "status"]).ends(5).says("DATA LOST");
    let audit = stage.holdfast(&["--json", "vault", "audit"]).ends(5);
    let short = audit.events("short_pack");
    assert_eq!((short.len(), &short[0]["shards"]), (1, &serde_json::json!(0)));
    assert_eq!(short[0]["pack"], wanted.unwrap());
    assert_eq!(audit.last()["outcome"], "failed");
}

#[test]
fn a_place_is_added_and_another_retired() {
    let stage = stage_with_point();
    stage.holdfast(&["vault", "location", "add", "p10"]).ends(2).says("[location.p10]");
    stage.append_config(&format!(
        "\n[location.p10]\nurl = \"file://{}\"\ndomain = \"local\"\n",
        stage.text("vault/p10")
    ));
    stage.holdfast(&["vault", "location", "list"]).ends(0).says("vault location add p10");
    stage.holdfast(&["vault", "location", "add", "p10"]).ends(0).says("Nothing was changed").says("shards to write");
    assert!(!stage.path("vault/p10").exists(), "a plan makes no folder");
    stage.holdfast(&["vault", "location", "add", "p10", "--apply"]).ends(0).says("shards moved and read back");
    assert!(stage.path("vault/p10/shards").exists());
    stage.holdfast(&["vault", "location", "probe", "p10"]).ends(0).says("conditional put");
    stage.holdfast(&["vault", "location", "retire", "p1", "--apply"]).ends(0).says("p1 is retired");
    stage.holdfast(&["vault", "location", "list"]).ends(0).says("retired");
    stage.holdfast(&["vault", "location", "retire", "p99", "--apply"]).ends(2).says("location list");

    // Its section goes, and its folder too.
    let text = fs::read_to_string(stage.config()).unwrap();
    let (before, rest) = text.split_once("[location.p1]\n").unwrap();
    let (_, after) = rest.split_once("[location.p2]\n").unwrap();
    fs::write(stage.config(), format!("{before}[location.p2]\n{after}")).unwrap();
    fs::remove_dir_all(stage.path("vault/p1")).unwrap();
    let look = stage.holdfast(&["vault", "status"]);
    look.never_says("does not take part").never_says("lacks");
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[2, 3, 5])).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

#[test]
fn a_restore_mends_what_it_met() {
    let stage = stage_with_point();
    fs::remove_dir_all(stage.path("vault/p2/shards")).unwrap();
    let from: Vec<String> = (1..=9).map(|place| stage.text(&format!("vault/p{place}"))).collect();
    let mut bare: Vec<&str> = vec!["vault", "restore", "--to", "bare", "--from"];
    bare.extend(from.iter().map(String::as_str));
    stage.holdfast_with(&bare, &cards(&[1, 2, 3]));
    assert!(!stage.path("vault/p2/shards").exists(), "places given by hand are only read");
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[1, 2, 3])).ends(0).says("mended on the way");
    assert!(stage.path("vault/p2/shards").exists());
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
}
