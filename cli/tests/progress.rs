//! Somebody waits for a backup and for a restore, at a real terminal and away from one.
//!
//! What must hold: at a terminal one line says how far it is, while it goes on, and is
//! gone before anything else is printed; the total is a guess of the last point for a
//! backup and marked so, and the point's own for a restore; away from a terminal nothing
//! is drawn unless it was asked for, and with `--json` that is JSON, too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Stage, assert_same_tree, files_below, write_tree};

/// Takes the line away.
const GONE: &str = "\r\x1b[K";

/// Whether a line says that so much is done in a phase; how wide its bar is depends on the rest.
fn shows_all_done(shown: &str, phase: &str, percent: &str) -> bool {
    let is_it = |line: &str| line.contains(phase) && line.contains(&format!("  {percent}  "));
    shown.split('\r').any(is_it)
}

/// A source that gives `first` and no more before a file `go` is there, then the rest.
fn slow_source(stage: &Stage, numbers: &mut Numbers) {
    fs::write(stage.path("bytes"), numbers.bytes(4 << 20)).unwrap();
    let script = "head -c \"$(cat first)\" bytes; while ! test -e go; do sleep 0.05; done; \
                  tail -c +\"$(($(cat first) + 1))\" bytes";
    fs::write(stage.path("slow.sh"), script).unwrap();
    stage.append_config(&format!(
        "\n[source.slow]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"cd '{}' && sh slow.sh\"]\n",
        stage.text("")
    ));
}

#[test]
fn a_backup_at_a_terminal_shows_how_far_it_is_while_it_goes_on() {
    let (stage, mut numbers) = (Stage::with_local_vault(), Numbers(501));
    slow_source(&stage, &mut numbers);
    fs::write(stage.path("first"), (2 << 20).to_string()).unwrap();
    let mut person = stage.person(&["vault", "run", "slow"]);
    // It cannot end before we let it: what is seen here is seen under way.
    person.sees("slow  reading  2.00 MiB");
    person.sees("B/s");
    fs::write(stage.path("go"), "").unwrap();
    let shown = person.ends(0);
    assert!(!shown.contains('~') && !shown.contains("ETA"), "nobody knows the total of a first point: {shown:?}");
    let end = shown.find("ok  p-").unwrap();
    assert!(shown[..end].ends_with(GONE), "the line stands before the last word: {shown:?}");

    // The second time there is something to go by, and it is said to be a guess.
    fs::remove_file(stage.path("go")).unwrap();
    fs::write(stage.path("first"), (1 << 20).to_string()).unwrap();
    let mut person = stage.person(&["vault", "run", "slow"]);
    person.sees("slow  reading  [====>           ]  ~25%  1.00 MiB/~4.00 MiB");
    person.sees("ETA ~");
    fs::write(stage.path("go"), "").unwrap();
    let shown = person.ends(0);
    assert!(shows_all_done(&shown, "slow  committing", "~100%"), "{shown:?}");
}

#[test]
fn a_restore_at_a_terminal_counts_to_the_points_own_total() {
    let (stage, mut numbers) = (Stage::with_local_vault(), Numbers(502));
    write_tree(&stage.path("tree"), 2_000_000, &mut numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let shown = stage.person(&["vault", "restore", "--to", "out"]).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
    assert!(shows_all_done(&shown, "restore  syncing", "100%"), "{shown:?}");
    assert!(!shown.contains('~'), "a restore knows: {shown:?}");
    let last = shown.rfind("restore  syncing").unwrap();
    assert!(shown[last..].contains(GONE), "{shown:?}");
    // What is there already is counted to the same end.
    let shown = stage.person(&["vault", "restore", "--to", "out", "--verify"]).ends(0);
    assert!(shows_all_done(&shown, "restore  verifying", "100%"), "{shown:?}");
    // Said off, and quiet: nothing.
    for word in ["--progress=none", "--quiet"] {
        let shown = stage.person(&["vault", "restore", "--to", "out", "--overwrite", "always", word]).ends(0);
        assert!(!shown.contains('\x1b') && !shown.contains('%'), "{word}: {shown:?}");
    }
    let shown = stage.person(&["vault", "audit"]).ends(0);
    assert!(shows_all_done(&shown, "audit  auditing", "100%"), "{shown:?}");
}

/// Whether the last word on a command's work says that all of it is done.
#[track_caller]
fn ends_with_all_done(shown: &str, phase: &str) {
    let line = shown.split('\r').rfind(|line| line.contains(phase)).unwrap_or_else(|| panic!("no {phase}: {shown:?}"));
    assert!(line.contains("  100%  "), "{phase}: {line:?} in {shown:?}");
}

#[test]
fn whatever_takes_long_says_how_far_it_is() {
    let (stage, mut numbers) = (Stage::with_local_vault(), Numbers(504));
    write_tree(&stage.path("tree"), 300_000, &mut numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    // Every place is away, and comes back: what waits is delivered, by its bytes.
    let places: Vec<String> = (1..=9).map(|number| format!("vault/p{number}")).collect();
    let away = |place: &String| stage.path(&format!("{place}-away"));
    for place in &places {
        fs::rename(stage.path(place), away(place)).unwrap();
    }
    fs::write(stage.path("tree/own"), numbers.bytes(1_500_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(14);
    let mut waiting = Vec::new();
    files_below(&stage.path("vault/state/demo/spool/shards"), &mut waiting);
    let bytes: u64 = waiting.iter().map(|shard| fs::metadata(shard).unwrap().len()).sum();
    for place in &places {
        fs::rename(away(place), stage.path(place)).unwrap();
    }
    let shown = stage.person(&["vault", "deliver"]).ends(0);
    ends_with_all_done(&shown, "deliver  delivering");
    let mib = format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20));
    assert!(shown.contains(&format!("  {mib}/{mib}")), "{mib} waited: {shown:?}");

    let shown = stage.person(&["vault", "find", "own"]).ends(0);
    ends_with_all_done(&shown, "find  searching");
    assert!(shown.contains("2 of 2"), "{shown:?}");

    // The point and what only it needs: condemned, seen by the writer, and deleted.
    let points = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0).events("point");
    let last = points.last().unwrap()["point"].as_str().unwrap().to_owned();
    stage.holdfast(&["vault", "forget", &last, "--apply", "--confirm", "demo"]).ends(0);
    stage.holdfast(&["vault", "trash", "purge", &last, "--confirm", "demo"]).ends(0);
    fs::remove_file(stage.path("tree/own")).unwrap();
    stage.holdfast(&["vault", "gc", "--apply", "--confirm", "demo"]).ends(0);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let count = || places.iter().map(|place| stage.shards_in(place).len()).sum::<usize>();
    let before = count();
    let shown = stage.person(&["vault", "gc", "--apply", "--confirm", "demo"]).ends(0);
    ends_with_all_done(&shown, "gc  removing");
    let gone = before - count();
    assert!(gone >= 9 && shown.contains(&format!("{gone} of {gone}  ")), "{gone} went: {shown:?}");

    // Bare shards, and everything sealed anew.
    let heap: Vec<&str> = places.iter().map(String::as_str).collect();
    let shown = stage
        .person(
            &[&["vault", "restore", "--to", "out", "--read-key", "vault/keys/read.key", "--scan", "--from"], &heap[..]]
                .concat(),
        )
        .ends(3);
    ends_with_all_done(&shown, "scan  scanning");
    stage.holdfast(&["keys", "rotate", "--apply", "--i-have-no-key-copy"]).ends(3);
    let shown = stage.person(&["vault", "reencrypt", "--apply"]).leaves().1;
    ends_with_all_done(&shown, "reencrypt  sealing");
}

#[test]
fn away_from_a_terminal_it_is_said_only_where_it_is_asked_for() {
    let (stage, mut numbers) = (Stage::with_local_vault(), Numbers(503));
    write_tree(&stage.path("tree"), 300_000, &mut numbers);
    let ran = stage.holdfast(&["vault", "run", "tree"]).ends(0);
    assert_eq!(ran.err, "", "{}", ran.shown());
    let ran = stage.holdfast(&["vault", "run", "tree", "--progress", "plain"]).ends(0);
    let last = ran.err.lines().next_back().unwrap();
    assert!(last.contains(": committing ~100%, ") && !ran.err.contains(['\r', '\x1b']), "{}", ran.shown());

    let ran = stage.holdfast(&["--json", "vault", "restore", "--to", "one"]).ends(0);
    assert!(ran.events("progress").is_empty(), "{}", ran.shown());
    let ran = stage.holdfast(&["--json", "--progress", "plain", "vault", "restore", "--to", "two"]).ends(0);
    let said = ran.events("progress").pop().unwrap();
    assert_eq!((&said["phase"], &said["bytes"]), (&"syncing".into(), &said["bytes_total"]), "{}", ran.shown());
    let files = ran.lines().into_iter().find(|line| line["type"] == "summary").unwrap()["files"].clone();
    assert_eq!((&said["items"], &said["total_is_guess"]), (&files, &false.into()), "{}", ran.shown());
    stage.holdfast(&["vault", "status", "--progress", "loud"]).ends(2).says("auto, bar, plain or none");
}
