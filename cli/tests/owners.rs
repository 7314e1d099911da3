//! A person moves to another machine, where the same people have other names and numbers.
//!
//! What must hold: what belonged to one belongs to the other after the restore, and nobody else's
//! changed hands; the same table counts for a plan, for a comparison and when the restore goes on after an
//! interruption; a table that cannot be kept to is refused before anything is written. Judged by
//! what the system says of the files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use stage::Stage;

/// Numbers that no host has a name for.
const STRANGER: u32 = 715_517;
const FRIEND: u32 = 715_518;
const SQUAD: u32 = 715_519;

/// Names and numbers of this host's users or groups that are not root's.
fn two_of(file: &str) -> [(String, u32); 2] {
    let text = fs::read_to_string(file).unwrap();
    let all = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields.first()?.to_string(), fields.get(2)?.parse().ok()?))
    });
    let mut others = all.filter(|(_, number): &(String, u32)| *number != 0);
    [others.next().unwrap(), others.next().unwrap()]
}

/// Owner, group and set-id bits of everything below a folder, itself included.
fn owners(folder: &Path) -> BTreeMap<String, (u32, u32, u32)> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let is = fs::symlink_metadata(&path).unwrap();
        if is.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        found.insert(name, (is.uid(), is.gid(), is.mode() & 0o6000));
    }
    found
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not root: no file can be given away");
    }
    root
}

#[test]
fn what_belonged_to_one_belongs_to_the_other() {
    if !is_root() {
        return;
    }
    let [(ann, ann_number), (bob, bob_number)] = two_of("/etc/passwd");
    let [(crew, crew_number), _] = two_of("/etc/group");
    let stage = Stage::with_local_vault();
    fs::create_dir_all(stage.path("tree/home/letters")).unwrap();
    for (name, user, group) in [
        ("home/letters/may", ann_number, 0),
        ("home/letters", ann_number, SQUAD),
        ("home/program", STRANGER, SQUAD),
        ("home/other", FRIEND, FRIEND),
        ("home/root's", 0, 0),
    ] {
        let path = stage.path("tree").join(name);
        if !path.exists() {
            fs::write(&path, name).unwrap();
        }
        chown(path, Some(user), Some(group)).unwrap();
    }
    fs::set_permissions(stage.path("tree/home/program"), fs::Permissions::from_mode(0o6755)).unwrap();
    symlink("letters", stage.path("tree/home/link")).unwrap();
    lchown(stage.path("tree/home/link"), Some(ann_number), Some(0)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    let number = |number: u32| number.to_string();
    let lines = [
        // By name to a name; by number to a number, and to a name; a name counts before its number.
        ["--map-user".to_owned(), format!("{ann}={bob}")],
        ["--map-user".to_owned(), format!("{}={}", number(ann_number), number(FRIEND))],
        ["--map-user".to_owned(), format!("{}={}", number(STRANGER), number(FRIEND))],
        ["--map-group".to_owned(), format!("{}={crew}", number(SQUAD))],
    ];
    let lines: Vec<String> = lines.concat();
    let expected: BTreeMap<String, (u32, u32, u32)> = [
        ("", 0, 0, 0),
        ("letters/may", bob_number, 0, 0),
        ("letters", bob_number, crew_number, 0),
        ("program", FRIEND, crew_number, 0o6000),
        ("other", FRIEND, FRIEND, 0),
        ("root's", 0, 0, 0),
        ("link", bob_number, 0, 0),
    ]
    .map(|(name, user, group, bits)| (name.to_owned(), (user, group, bits)))
    .into();
    for (to, owner) in [("one", "numbers"), ("two", "names")] {
        let restore = ["vault", "restore", "--to", to, "--verify", "--owner", owner];
        let plan = stage.holdfast_with(&[&restore[..], &["--dry-run"]].concat(), &lines).ends(0);
        plan.says("nothing was written").says(&format!("--map-user {ann_number}: nothing that was looked at"));
        assert!(!stage.path(to).exists());
        for turn in ["first", "again"] {
            stage.holdfast_with(&restore, &lines).ends(0).says("0 differ");
            assert_eq!(owners(&stage.path(to).join("tree/home")), expected, "{owner}, {turn}");
        }
    }
    // A folder of the point that the target itself becomes, over what somebody else made of it.
    let restore = ["vault", "restore", "latest:tree/home/letters", "--to", "three", "--overwrite", "always"];
    stage.holdfast(&["vault", "restore", "latest:tree/home/letters", "--to", "three"]).ends(0);
    assert_eq!(owners(&stage.path("three"))["may"], (ann_number, 0, 0));
    stage.holdfast_with(&restore, &lines).ends(0);
    assert_eq!(owners(&stage.path("three"))["may"], (bob_number, 0, 0));
    stage.holdfast_with(&["vault", "restore", "latest:tree/home/letters", "--to", "four"], &lines).ends(0);
    assert_eq!(owners(&stage.path("four"))[""], (bob_number, crew_number, 0));
}

#[test]
fn a_table_that_cannot_be_kept_to_is_refused_before_anything_is_written() {
    let stage = Stage::with_local_vault();
    fs::create_dir(stage.path("tree")).unwrap();
    fs::write(stage.path("tree/file"), "bytes").unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let restore = |more: &[&str]| {
        let ran = stage.holdfast(&[&["vault", "restore", "--to", "out"], more].concat()).ends(2);
        assert!(!stage.path("out").exists(), "{}", ran.shown());
        ran
    };
    for broken in ["ann", "=1", "1=", "1=4294967295"] {
        restore(&["--map-user", broken]);
    }
    restore(&["--map-user", "1=2", "--owner", "nobody"]).says("Leave out one or the other");
    if !is_root() {
        restore(&["--map-user", "1=2"]).says("only root can give files away");
        return;
    }
    restore(&["--map-user", "1=no-such-user"]).says("this host knows no user no-such-user (/etc/passwd)");
    restore(&["--map-group", "1=no-such-group", "--dry-run"]).says("no group no-such-group (/etc/group)");
    restore(&["--map-group", "1=2", "--map-group", "1=3"]).says("to two");

    stage.holdfast(&["vault", "run", "-", "--name", "stream", "--stdin-name", "dump"]).ends(0);
    restore(&["--map-user", "1=2", "--source", "stream"]).says("no tree of files");

    // The same as somebody who cannot give anything away.
    let mut left = vec![stage.path("")];
    while let Some(path) = left.pop() {
        chown(&path, Some(FRIEND), Some(FRIEND)).unwrap();
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    let program = stage.path("holdfast");
    fs::copy(env!("CARGO_BIN_EXE_holdfast"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let as_friend = |more: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["vault", "restore", "latest~1", "--to", "out"]).args(more).current_dir(stage.path(""));
        command.env("HOLDFAST_CONFIG", stage.config()).env("HOME", "/").uid(FRIEND).gid(FRIEND);
        let ran = command.output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    let (code, said) = as_friend(&["--map-user", "1=2"]);
    assert!(code == Some(2) && said.contains("only root can give files away"), "{code:?} {said}");
    assert!(!stage.path("out").exists());
    let (code, said) = as_friend(&[]);
    assert_eq!((code, fs::metadata(stage.path("out/tree/file")).unwrap().uid()), (Some(0), FRIEND), "{said}");
}
