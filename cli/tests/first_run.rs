//! A vault is made, and what becomes of its key: a sheet that alone gives everything back,
//! or the word that there is none; and a verdict that says so as long as the key is here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::os::unix::fs::PermissionsExt;

use stage::{Numbers, Stage, assert_same_tree, scanned, write_tree, written_down};

const KEY_HERE: &str = "The vault key lies on this host: it dies with it, and a thief can read. Print the recovery sheet, \
                        then: holdfast keys split";

/// The state of the key as `vault status` tells a program.
fn key_state(stage: &Stage) -> serde_json::Value {
    let ran = stage.holdfast(&["vault", "status", "--json"]);
    ran.last()["key"].clone()
}

#[test]
fn a_sheet_and_the_locations_give_everything_back() {
    let stage = Stage::new();
    stage
        .holdfast(&["vault", "init", "--local", "vault", "--sheet", "sheet.txt"])
        .ends(0)
        .says(KEY_HERE)
        .says("read back and gives the key");
    let mode = std::fs::metadata(stage.path("sheet.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let sheet = std::fs::read_to_string(stage.path("sheet.txt")).unwrap();
    assert!(sheet.contains(&format!("file://{}", stage.text("vault/p1"))), "it names the places: {sheet}");
    write_tree(&stage.path("tree"), 300_000, &mut Numbers(41));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    // It is there, and the verdict stays: the key is on this host all the same.
    stage.holdfast(&["vault", "status"]).ends(3).says("AT RISK").says(KEY_HERE).says("a sheet was made");
    let key = key_state(&stage);
    assert_eq!((&key["seed_here"], &key["sheets"], &key["said_none"]), (&true.into(), &1.into(), &false.into()));
    // A sheet is never written over anything.
    stage.holdfast(&["keys", "sheet", "sheet.txt"]).ends(12).says("exists already");
    assert_eq!(std::fs::read_to_string(stage.path("sheet.txt")).unwrap(), sheet);

    // Nothing is left but the sheet and enough locations.
    for gone in ["keys", "state", "p1", "p2", "p3", "p4"] {
        std::fs::remove_dir_all(stage.path("vault").join(gone)).unwrap();
    }
    std::fs::remove_file(stage.config()).unwrap();
    let mut words = vec!["vault", "restore", "--card", "sheet.txt", "--to", "out", "--from"];
    words.extend(["vault/p5", "vault/p6", "vault/p7", "vault/p8", "vault/p9"]);
    let restored = stage.holdfast(&words);
    assert!(restored.code == 0 || restored.code == 3, "{}", restored.shown());
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

/// As a page: every word with its number, where the vault lies, and a code that alone is
/// the card.
#[test]
fn a_sheet_is_a_page_too_and_its_code_gives_everything_back() {
    let stage = Stage::new();
    let init = ["vault", "init", "--local", "vault", "--sheet"];
    stage.holdfast(&[&init[..], &["sheet.html", "--page", "html"]].concat()).ends(2).says("name the sheet otherwise");
    assert!(!stage.path("vault").exists());
    stage.holdfast(&[&init[..], &["sheet.txt", "--page", "html"]].concat()).ends(0).says("sheet.html");
    write_tree(&stage.path("tree"), 100_000, &mut Numbers(42));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    std::fs::write(stage.path("second.svg"), "a drawing").unwrap();
    stage.holdfast(&["keys", "sheet", "second", "--page", "svg"]).ends(2).says("is not overwritten");
    assert!(!stage.path("second").exists(), "nothing was changed");
    std::fs::remove_file(stage.path("second.svg")).unwrap();
    stage.holdfast(&["keys", "sheet", "second", "--page", "svg"]).ends(0);

    for (text, page, set) in [("sheet.txt", "sheet.html", 1), ("second", "second.svg", 2)] {
        let mode = std::fs::metadata(stage.path(page)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let page = std::fs::read_to_string(stage.path(page)).unwrap();
        let words = written_down(&std::fs::read_to_string(stage.path(text)).unwrap());
        assert!(words.iter().all(|word| page.contains(&format!(">{word}</"))), "all words stand on the page");
        assert!(page.contains("The vault lies at:") && page.contains("holdfast vault restore --from"));
        let place = format!("file://{}", stage.text("vault/p9"));
        // The column of an SVG page cuts long lines.
        assert!(page.contains(&place[..30]) && (text == "second" || page.contains(&place)), "{page}");
        std::fs::write(stage.path("scanned.txt"), scanned(&page)).unwrap();
        stage.holdfast(&["keys", "verify-card", "scanned.txt"]).ends(0).says(&format!("of set {set}"));
        let out = format!("out{set}");
        let mut words = vec!["vault", "restore", "--card", "scanned.txt", "--to", &out, "--from"];
        words.extend(["vault/p5", "vault/p6", "vault/p7", "vault/p8", "vault/p9"]);
        let restored = stage.holdfast(&words);
        assert!(restored.code == 0 || restored.code == 3, "{}", restored.shown());
        assert_same_tree(&stage.path("tree"), &stage.path(&out).join("tree"));
    }
}

#[test]
fn whoever_says_that_there_is_no_copy_hears_it_again() {
    let stage = Stage::new();
    stage
        .holdfast(&["vault", "init", "--local", "vault", "--i-have-no-key-copy"])
        .ends(0)
        .never_says("no recovery sheet");
    stage.holdfast(&["vault", "status"]).ends(3).says(KEY_HERE).says("there is no copy of the vault key elsewhere");
    assert_eq!(key_state(&stage)["said_none"], true);
    stage.holdfast(&["keys", "sheet", "sheet.txt"]).ends(0);
    stage.holdfast(&["vault", "status"]).ends(3).says(KEY_HERE).never_says("there is no copy");
    assert_eq!(key_state(&stage)["said_none"], false);
    // Both at once are a contradiction.
    let both = ["vault", "init", "--local", "other", "--sheet", "s", "--i-have-no-key-copy"];
    stage.holdfast(&both).ends(2);
}

#[test]
fn a_script_that_says_nothing_is_warned_and_not_stopped() {
    let stage = Stage::with_local_vault();
    stage.holdfast(&["vault", "status"]).ends(3).says(KEY_HERE);
    let key = key_state(&stage);
    assert_eq!((&key["sheets"], &key["card_sets"], &key["seed_here"]), (&0.into(), &0.into(), &true.into()));
    stage.deal_cards();
    stage.holdfast(&["vault", "status"]).never_says(KEY_HERE);
    let key = key_state(&stage);
    assert_eq!((&key["card_sets"], &key["seed_here"]), (&1.into(), &false.into()));
    // There is nothing left here to make a sheet from.
    stage.holdfast(&["keys", "sheet", "sheet.txt"]).ends(12).says("only on its cards");
    assert!(!stage.path("sheet.txt").exists());
}
