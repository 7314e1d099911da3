//! A person makes a vault, backs up a folder, changes it, backs it up again, and
//! takes both states back; then types everything wrong that can be typed.
//!
//! What must hold: what comes back is what went in, to the last attribute; what
//! did not change is not stored twice; a refused command changes nothing and says
//! what to do; with `--json` every line of both streams is JSON.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Stage, assert_same_tree, copy_exactly, write_tree};

#[test]
fn two_states_of_a_tree_come_back_exactly() {
    let stage = Stage::new();
    let numbers = &mut Numbers(1);
    write_tree(&stage.path("tree"), 5_000_000, numbers);
    stage
        .holdfast(&["vault", "init", "--local", "vault"])
        .ends(0)
        .says("5 of 9 shards")
        .says("one disk failure loses everything")
        .says("keys split");

    let first = stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0);
    let point = &first.events("point")[0];
    assert!(point["full"] == true && point["unreadable"] == 0, "{}", first.shown());
    assert!(point["plain_bytes"].as_u64().unwrap() > 6_000_000, "{}", first.shown());
    stage.holdfast(&["vault", "status"]).ends(3).says("AT RISK").says("1 failure domain").says("key lies on this host");

    let again = stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0);
    let point = &again.events("point")[0];
    assert_eq!(point["new_bytes"], 0, "what did not change is stored: {}", again.shown());
    assert_eq!(point["packs_new"], 1, "one pack, for the point record: {}", again.shown());

    copy_exactly(&stage.path("tree"), &stage.path("before"));
    fs::write(stage.path("tree/later"), b"a second thought").unwrap();
    fs::remove_file(stage.path("tree/empty")).unwrap();
    fs::write(stage.path("tree/random"), numbers.bytes(300_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0).says("full");

    let list = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0);
    let points = list.events("point");
    assert_eq!(points.len(), 3, "{}", list.shown());
    stage.holdfast(&["vault", "restore", "--to", "now"]).ends(0).says("every byte checked");
    assert_same_tree(&stage.path("tree"), &stage.path("now/tree"));
    stage.holdfast(&["vault", "restore", "latest~1", "--to", "then"]).ends(0);
    assert_same_tree(&stage.path("before"), &stage.path("then/tree"));
    let id = format!("p-{}", &points[0]["point"].as_str().unwrap()[..6]);
    stage.holdfast(&["vault", "restore", &id, "--to", "by-id"]).ends(0).says(&id);
    assert_same_tree(&stage.path("before"), &stage.path("by-id/tree"));
    stage.holdfast(&["vault", "audit", "--full"]).ends(0).says("every challenge was answered rightly");
}

#[test]
fn a_refused_command_changes_nothing_and_says_what_to_do() {
    let stage = Stage::with_local_vault();
    fs::create_dir(stage.path("tree")).unwrap();
    fs::write(stage.path("tree/file"), b"mine").unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    stage.holdfast(&["vault", "restore", "--to", "tree"]).ends(2).says("not empty").says("nothing was written");
    assert_eq!(fs::read_dir(stage.path("tree")).unwrap().count(), 1);
    assert_eq!(fs::read(stage.path("tree/file")).unwrap(), b"mine");

    for unknown in ["p-000000", "latest~7"] {
        stage.holdfast(&["vault", "restore", unknown, "--to", "new"]).ends(10).says(unknown).says("vault snapshots");
    }
    stage.holdfast(&["vault", "restore", "yesterday", "--to", "new"]).ends(2).says("names no point");
    assert!(!stage.path("new").exists());

    stage.holdfast(&["vault", "run"]).ends(2).says("nothing to back up");
    stage.holdfast(&["vault", "run", "no-such-path"]).ends(2).says("no-such-path");
    stage.holdfast(&["vault", "run", "vault/p1"]).ends(2).says("excluded");
    stage.holdfast(&["--vault", "other", "vault", "status"]).ends(10).says("other").says("demo");
}

#[test]
fn a_configuration_is_missing_or_wrong() {
    let stage = Stage::new();
    for command in [&["vault", "status"][..], &["vault", "run", "."], &["vault", "snapshots"], &["agent"]] {
        stage.holdfast(command).ends(10).says("holdfast.toml").says("vault init --local");
    }
    stage.holdfast(&["vault", "init", "--local", "vault"]).ends(0);
    let good = fs::read_to_string(stage.config()).unwrap();
    let line = good.lines().position(|line| line.starts_with("survive_domains")).unwrap() + 1;
    fs::write(stage.config(), good.replace("survive_domains", "survive_domain")).unwrap();
    stage.holdfast(&["vault", "status"]).ends(2).says(&format!("line {line}")).says("survive_domain");
    fs::write(stage.config(), good.replace("p3\"", "p3")).unwrap();
    stage.holdfast(&["config", "check"]).ends(2).says("line ");
    fs::write(stage.config(), &good).unwrap();
    stage.holdfast(&["config", "check"]).ends(0).says("9 locations");

    stage.holdfast(&["vault", "init", "--local", "elsewhere"]).ends(2).says("nothing was changed");
    assert_eq!(fs::read_to_string(stage.config()).unwrap(), good);
    assert!(!stage.path("elsewhere").exists());
    stage.holdfast(&["--config", "second.toml", "vault", "init", "--local", "vault"]).ends(2);
    stage.holdfast(&["vault", "status"]).ends(3);
}

#[test]
fn domains_that_share_a_disk_are_refused() {
    let stage = Stage::new();
    let location =
        |name: &str| format!("[location.{name}]\nurl = \"file://{}\"\ndomain = \"{name}\"\n", stage.text(name));
    let text = format!(
        "version = 1\nstate = \"{0}/state\"\n[vault.home]\nencoding = {{ data = 1, total = 2 }}\nsurvive_domains = 1\n\
         keys = \"{0}/keys\"\n{1}{2}",
        stage.text("vault"),
        location("house"),
        location("office"),
    );
    fs::write(stage.config(), text).unwrap();
    stage.holdfast(&["vault", "init"]).ends(2).says("house").says("office").says("one device");
    stage.holdfast(&["vault", "status"]).ends(12);
}

#[test]
fn with_json_every_line_is_json() {
    let stage = Stage::with_local_vault();
    fs::create_dir(stage.path("tree")).unwrap();
    fs::write(stage.path("tree/file"), b"mine").unwrap();
    let check = |arguments: &[&str], code: i32| {
        let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        stage.holdfast(&all).ends(code).last()
    };
    check(&["vault", "run", "tree"], 0);
    check(&["-vv", "vault", "run", "tree"], 0);
    check(&["vault", "status"], 3);
    check(&["vault", "snapshots"], 0);
    check(&["vault", "audit"], 0);
    check(&["vault", "repair"], 0);
    check(&["vault", "repair", "--apply"], 0);
    check(&["vault", "import-orphans", "tree"], 0);
    check(&["vault", "restore", "--to", "out"], 0);
    check(&["keys", "status"], 3);
    check(&["keys", "split", "--cards", "3", "--need", "2", "--cards-dir", "cards"], 0);
    check(&["keys", "recover", "--card", "cards/card-set1-1.txt", "--card", "cards/card-set1-3.txt"], 0);
    check(&["config", "check"], 0);
    check(&["config", "show"], 0);
    check(&["vault", "restore", "--to", "out", "--dry-run"], 0);
    check(&["vault", "ls"], 0);
    check(&["vault", "find", "file"], 0);
    check(&["vault", "diff", "latest", "latest"], 0);
    // Failures, and words that are no command, must not surprise a parser either.
    check(&["vault", "restore", "--to", "tree"], 2);
    check(&["vault", "cat", "latest:none"], 2);
    check(&["vault", "restore"], 2);
    check(&["vault", "explode"], 2);
    check(&["keys", "recover", "--card", "cards/card-set1-1.txt", "--out", "k"], 13);
    check(&["kernel", "status", "--address", "127.0.0.1:1", "--token-file", "missing"], 1);
    check(&["--config", "none.toml", "vault", "status"], 10);
    check(&["--config", "none.toml", "agent"], 10);
}
