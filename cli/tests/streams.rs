//! A person pipes a dump into the vault, has a command of the configuration run, and
//! takes both back; then the command fails.
//!
//! What must hold: the bytes come back; a command that fails makes no point and says
//! its code and its last words.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::process::{Command, Stdio};

use stage::Stage;

/// What `seq 1 last` prints.
fn count_to(last: u32) -> String {
    let lines: Vec<String> = (1..=last).map(|number| number.to_string()).collect();
    lines.join("\n") + "\n"
}

/// `printf .. | holdfast ..`, by a shell, as a person types it.
fn piped(stage: &Stage, script: &str) -> (i32, String) {
    let done = Command::new("sh")
        .args(["-c", script])
        .env("HOLDFAST", env!("CARGO_BIN_EXE_holdfast"))
        .env("HOLDFAST_CONFIG", stage.config())
        .env("HOME", stage.path(""))
        .current_dir(stage.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn what_is_piped_in_comes_back() {
    let stage = Stage::with_local_vault();
    let (code, said) =
        piped(&stage, "seq 1 50000 | \"$HOLDFAST\" vault run - --name db --stdin-name dump.sql --tag nightly");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("db"), "{said}");
    stage.holdfast(&["vault", "snapshots"]).ends(0).says("db").says("nightly");
    stage.holdfast(&["vault", "restore", "--source", "db", "--to", "out"]).ends(0).says("dump.sql").says("as recorded");
    let expected = count_to(50_000);
    assert_eq!(fs::read_to_string(stage.path("out/dump.sql")).unwrap(), expected);
    let (code, said) = piped(&stage, "echo x | \"$HOLDFAST\" vault run - /etc");
    assert_eq!(code, 2, "{said}");
    let (code, said) = piped(&stage, "echo x | \"$HOLDFAST\" vault run - --stdin-name a/b");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("not the name of a file"), "{said}");
}

#[test]
fn a_command_that_fails_makes_no_point() {
    let stage = Stage::with_local_vault();
    stage.append_config(
        "\n[source.db]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"cat dump.sql; test -e fine || { echo no such table >&2; exit 4; }\"]\n",
    );
    fs::write(stage.path("dump.sql"), "a table\n").unwrap();
    stage.holdfast(&["vault", "run", "db"]).ends(1).says("code 4").says("no such table").says("no point was made");
    let points = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0).events("point").len();
    assert_eq!(points, 0);
    fs::write(stage.path("fine"), "").unwrap();
    stage.holdfast(&["vault", "run", "db"]).ends(0);
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
    assert_eq!(fs::read_to_string(stage.path("out/db")).unwrap(), "a table\n");
}
