//! People at a terminal: a key is dealt, the host is lost, three of five come back.
//!
//! What must hold: with nothing but what the holders wrote down and the places, the
//! backup is restored byte for byte, whatever was mistyped on the way; a ceremony that
//! is interrupted at any of its steps leaves the old state and names what it left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use stage::scene::{PLACES, Scene};
use stage::{
    Numbers, Person, Stage, assert_same_tree, files_below, number_from_env, scanned, write_tree, written_down,
};

const ONE_DEVICE: [(&str, &str); 1] = [("HOLDFAST_TEST_ONE_DEVICE", "1")];
const NAMES: [&str; 5] = ["Anna", "Ben", "Chloe", "Dora", "Emil"];

/// A vault over four places with one point, made the long way: keys first.
fn vault(seed: u64) -> Stage {
    println!("seed {seed}");
    let (stage, mut numbers) = (Stage::new(), Numbers(seed));
    stage.configure(&Scene::places(&stage), 1);
    stage.holdfast(&["keys", "init"]).ends(0);
    stage.holdfast_in(&["vault", "init"], &ONE_DEVICE).ends(0);
    write_tree(&stage.path("tree"), 60_000, &mut numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    stage
}

fn four_letters(words: &[String]) -> String {
    words.iter().map(|word| word[..4].to_uppercase()).collect::<Vec<_>>().join(" ")
}

/// Another word of the list that is not this one.
fn other(word: &str) -> &'static str {
    if word == "acid" { "acne" } else { "acid" }
}

/// Up to the first card: names, and the plan agreed to.
fn agree(person: &mut Person) {
    for name in NAMES {
        person.sees("Name of the holder of card");
        person.sees("): ");
        person.types(name);
    }
    person.sees("Go on with this plan? Type yes: ");
    person.types("yes");
}

/// The next card is shown and written down.
fn write_down(person: &mut Person) -> Vec<String> {
    person.sees("Press Enter: ");
    person.types("");
    let words = written_down(&person.sees("Then press Enter; the screen is cleared: "));
    person.types("");
    person.sees("word 1: ");
    words
}

/// A ceremony without a mistake; what the holders wrote down.
fn deal(stage: &Stage, kind: &str) -> Vec<Vec<String>> {
    let mut person = stage.person(&["keys", kind, "--cards", "5", "--need", "3", "--remove-seed"]);
    agree(&mut person);
    let mut paper = Vec::new();
    for _ in NAMES {
        let words = write_down(&mut person);
        person.types(&words.join(" "));
        person.sees("read back, ok");
        paper.push(words);
    }
    person.ends(0);
    paper
}

/// Restores with docs/reader from the four places and what three holders wrote down.
fn read_in_python(stage: &Stage, papers: [&Vec<String>; 3]) -> PathBuf {
    let reader = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reader");
    let installed = Command::new("sh").arg(reader.join("install.sh")).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let python = String::from_utf8(installed.stdout).unwrap();
    let mut command = Command::new(python.trim());
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(reader.join("reader.py"));
    command.arg("--shards").args(PLACES.map(|place| stage.path(place))).arg("--card");
    for (number, words) in papers.into_iter().enumerate() {
        let card = stage.path(&format!("paper-{number}.txt"));
        fs::write(&card, words.join(" ")).unwrap();
        command.arg(card);
    }
    let to = stage.path("in-python");
    let done = command.arg("--to").arg(&to).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
    to
}

#[test]
fn from_the_first_key_to_a_restore_by_three_people() {
    let stage = vault(number_from_env("HOLDFAST_CEREMONY_SEED", 4_001));
    let arguments = ["keys", "split", "--cards", "5", "--need", "3", "--transcript", "transcript.txt"];
    let mut person = stage.person(&arguments);
    person.sees("1/6 preflight");
    person.sees("2/6 plan");
    agree(&mut person);
    let mut paper: Vec<Vec<String>> = Vec::new();
    for number in 1..=5 {
        person.sees(&format!("3/6 card {number} of 5 for {}", NAMES[number - 1]));
        let words = write_down(&mut person);
        match number {
            1 => {
                // A word that is none: what stood before it is kept.
                person.types(&format!("{} xylophone {}", words[..4].join(" "), words[5..].join(" ")));
                person.sees("word 5, \"xylophone\", is not in the word list");
                person.sees("word 5: ");
                for line in words[4..].chunks(10) {
                    person.types(&line.join(" "));
                }
            }
            2 => {
                // The card of somebody else, then a look at the own one again.
                person.types(&four_letters(&paper[0]));
                person.sees("this is card 1; card 2 was asked for");
                person.sees("word 1: ");
                person.types("");
                assert_eq!(written_down(&person.sees("the screen is cleared: ")), words);
                person.types("");
                person.sees("word 1: ");
                person.types(&four_letters(&words));
            }
            3 => {
                // A wrong word of the list: the checksum names it, and it is mended.
                let mut wrong = words.clone();
                wrong[6] = other(&words[6]).to_owned();
                person.types(&wrong.join(" "));
                person.sees("it is word 7");
                person.sees("mend: ");
                person.types(&format!("7 {}", words[6]));
            }
            _ => person.types(&four_letters(&words)),
        }
        // Cleared, with what stood above it, before anybody else sees the screen.
        assert!(person.sees(&format!("4/6 card {number} of 5")).contains("\x1b[3J"));
        paper.push(words);
    }
    person.sees("5/6 rehearsed");
    person.sees("newest stored point");
    person.sees("6/6 committed");
    person.sees("Remove the seed and the read key from this host now? Type yes: ");
    person.types("yes");
    person.ends(0);
    assert!(!stage.path("vault/keys/master.seed").exists() && !stage.path("vault/keys/read.key").exists());

    let transcript = fs::read_to_string(stage.path("transcript.txt")).unwrap();
    assert!(NAMES.iter().all(|name| transcript.contains(name)) && transcript.contains("initials"));
    stage.holdfast(&["keys", "verify-transcript", "transcript.txt"]).ends(0).says("signed by the root");
    fs::write(stage.path("altered.txt"), transcript.replace("Emil", "Emma")).unwrap();
    stage.holdfast(&["keys", "verify-transcript", "altered.txt"]).ends(4).says("Do not believe it");
    let no_pair_of_words = |text: &str| {
        let said: Vec<&str> = text.split_whitespace().collect();
        let pairs = paper.iter().flat_map(|words| words.windows(2));
        pairs.filter(|pair| said.windows(2).any(|two| two[0] == pair[0] && two[1] == pair[1])).count() == 0
    };
    let mut kept = Vec::new();
    files_below(&stage.path("vault"), &mut kept);
    kept.push(stage.path("transcript.txt"));
    for path in kept {
        assert!(no_pair_of_words(&String::from_utf8_lossy(&fs::read(&path).unwrap())), "{}", path.display());
    }

    let mut person = stage.person(&["keys", "verify-card"]);
    person.sees("word 1: ");
    person.types(&four_letters(&paper[3]));
    assert!(person.ends(0).contains("its set is the newest"));

    // The host is gone: configuration, keys, state. Four places and paper are left.
    fs::remove_dir_all(stage.path("vault")).unwrap();
    fs::remove_file(stage.config()).unwrap();
    let foreign = deal(&vault(4_002), "split");
    let mut person = stage.person(&["keys", "recover", "--out", "r.key", "--from", "p1"]);
    let mut brings = |card: &[String], says: &str| {
        person.sees("Press Enter (or type stop): ");
        person.types("");
        person.sees("word 1: ");
        person.types(&four_letters(card));
        person.sees(says);
    };
    brings(&paper[1], "card 1/3  #2 set 1  ok");
    brings(&paper[1], "card 2/3  #2 again: same card, not counted");
    brings(&foreign[3], "not a card that was handed out");
    brings(&paper[3], "card 2/3  #4 set 1  ok");
    person.sees("Press Enter (or type stop): ");
    person.types("");
    person.sees("word 1: ");
    let mut wrong = paper[0].clone();
    wrong[19] = other(&wrong[19]).to_owned();
    person.types(&wrong.join(" "));
    person.sees("it is word 20");
    person.types(&format!("20 {}", paper[0][19]));
    person.sees("card 3/3  #1 set 1  ok");
    person.sees("key check");
    let shown = person.ends(0);
    assert!(shown.contains("the vault also lies at: p2"), "{shown}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(stage.path("r.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let from = [vec!["--from".to_owned()], PLACES.map(str::to_owned).to_vec()].concat();
    // Too few places: the layout says where the others are.
    let few = stage.holdfast(&["vault", "restore", "--read-key", "r.key", "--to", "few", "--from", "p1"]);
    assert!(few.code != 0, "{}", few.shown());
    few.says("The vault also lies at: p2 file://").says("p4 file://");
    stage.holdfast_with(&["vault", "restore", "--read-key", "r.key", "--to", "out"], &from).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));

    // The same point by a program of another language, from the places and the papers.
    let reader = read_in_python(&stage, [&paper[4], &paper[2], &paper[1]]);
    assert_same_tree(&stage.path("tree"), &reader.join("tree"));

    // The same with a key that no file ever held.
    fs::remove_file(stage.path("r.key")).unwrap();
    let mut person =
        stage.person(&[&["vault", "restore", "--type-cards", "--to", "again", "--from"], &PLACES[..]].concat());
    for card in [4, 0, 2] {
        person.sees("Press Enter (or type stop): ");
        person.types("");
        person.sees("word 1: ");
        person.types(&paper[card].join(" "));
    }
    person.ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("again/tree"));
}

/// Every byte of the places: what the vault is.
fn places(stage: &Stage) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = Vec::new();
    for place in PLACES {
        files_below(&stage.path(place), &mut files);
    }
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// What a person does to come to a step.
type Reach = fn(&mut Person);

/// How a ceremony is interrupted: keys pressed, or killed without a word.
const INTERRUPTIONS: [Option<&str>; 3] = [Some("\u{3}"), Some("\u{4}"), None];

#[test]
fn interrupted_at_any_step_the_old_state_stands() {
    let stage = vault(4_003);
    let before = places(&stage);
    let steps: [(&str, Reach); 6] = [
        ("the names", |person| drop(person.sees("Name of the holder of card 1"))),
        ("the plan", |person| {
            for _ in NAMES {
                person.sees("): ");
                person.types("");
            }
            person.sees("Go on with this plan? Type yes: ");
        }),
        ("before a card", |person| {
            agree(person);
            person.sees("Press Enter: ");
        }),
        ("a card on the screen", |person| {
            agree(person);
            person.sees("Press Enter: ");
            person.types("");
            person.sees("the screen is cleared: ");
        }),
        ("reading back", |person| {
            agree(person);
            drop(write_down(person));
        }),
        ("the second holder", |person| {
            agree(person);
            let words = write_down(person);
            person.types(&words.join(" "));
            person.sees("read back, ok");
            person.sees("Press Enter: ");
        }),
    ];
    for (at, (step, reach)) in steps.into_iter().enumerate() {
        // Each step in two of the three ways, each way at four steps.
        for keys in [INTERRUPTIONS[at % 3], INTERRUPTIONS[(at + 1) % 3]] {
            println!("  {step}: {keys:?}");
            let mut person = stage.person(&["keys", "split", "--cards", "5", "--need", "3"]);
            reach(&mut person);
            match keys {
                Some(keys) => person.presses(keys),
                None => person.kills_it(),
            }
            let (code, shown) = person.leaves();
            let wanted = match keys {
                Some("\u{3}") => 130,
                Some(_) => 1,
                None => -9,
            };
            assert_eq!(code, wanted, "{step}: {shown}");
            assert!(keys.is_none() || shown.contains("Nothing was changed"), "{shown}");
            assert!(stage.path("vault/keys/master.seed").exists(), "{step}");
            assert!(places(&stage) == before, "{step}: the vault was changed");
        }
    }

    // In files: the rehearsal fails, the commit is killed.
    let split = ["keys", "split", "--cards", "5", "--need", "3", "--cards-dir", "cards"];
    let failed = stage.holdfast_in(&split, &[("TMPDIR", "/nowhere")]).ends(1);
    let failed = failed.says("Nothing was changed").says("Left behind").says("card-set1-3.txt").says("shred -u");
    drop(failed);
    assert!(places(&stage) == before);
    stage.holdfast(&split).ends(1).says("left by a ceremony that did not end").says("exists already");
    assert!(places(&stage) == before);
    fs::remove_dir_all(stage.path("cards")).unwrap();
    stage.holdfast_in(&split, &[("HOLDFAST_DIE_AT", "amend.record-written:1")]).ends(-9);
    assert!(stage.path("vault/keys/master.seed").exists() && places(&stage) != before);
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
    fs::rename(stage.path("cards"), stage.path("killed")).unwrap();
    stage.holdfast(&split).ends(0).says("6/6 committed");

    // Nobody there to answer the last question is no: the cards count, the seed stays.
    let mut person = stage.person(&["keys", "split", "--cards", "1", "--need", "1", "--holder", "Anna"]);
    person.sees("Go on with this plan? Type yes: ");
    person.types("yes");
    let words = write_down(&mut person);
    person.types(&words.join(" "));
    person.sees("6/6 committed");
    person.sees("Remove the seed and the read key from this host now? Type yes: ");
    person.presses("\u{4}");
    let shown = person.ends(0);
    assert!(shown.contains("the seed is still on this host"), "{shown}");
    assert!(stage.path("vault/keys/master.seed").exists() && stage.path("vault/keys/read.key").exists());
}

/// The seed is typed and then nothing comes of it; another ceremony waits meanwhile.
fn interrupted_with_the_seed_on_cards_alone(stage: &Stage, reshare: &[&str], old: &[String]) {
    let before = places(stage);
    let words = |number: u32| {
        let card = fs::read_to_string(stage.path(&format!("old/card-set1-{number}.txt"))).unwrap();
        written_down(&card).join(" ")
    };
    for (keys, code) in [("\u{3}", 130), ("\u{1c}", 131), ("\u{4}", 1)] {
        let mut person = stage.person(&["keys", "reshare", "--cards", "5", "--need", "3"]);
        for number in [1, 3] {
            person.sees("Press Enter (or type stop): ");
            person.types("");
            person.sees("word 1: ");
            person.types(&words(number));
        }
        agree(&mut person);
        person.sees("Press Enter: ");
        person.types("");
        person.sees("the screen is cleared: ");
        stage.holdfast_with(reshare, old).ends(11);
        // Nor is a key file sealed meanwhile: a rotation would write it, too.
        let key = fs::read(stage.path("vault/keys/writer.key")).unwrap();
        for command in ["seal", "unseal"] {
            stage.holdfast(&["keys", command, "vault/keys/writer.key"]).ends(11).says("keys reshare");
        }
        assert!(fs::read(stage.path("vault/keys/writer.key")).unwrap() == key);
        // Ctrl-Z would leave the card there.
        person.presses("\u{1a}");
        person.presses(keys);
        let (left, shown) = person.leaves();
        assert!(left == code && shown.contains("Nothing was changed") && shown.contains("\x1b[3J"), "{left}: {shown}");
        assert!(places(stage) == before && !stage.path("new").exists());
    }
    let mut person = stage.person(&["keys", "verify-card"]);
    person.sees("word 1: ");
    person.types(&words(2)[..20]);
    person.presses("\u{1c}");
    let (left, shown) = person.leaves();
    assert!(left == 131 && shown.contains("\x1b[3J"), "{left}: {shown}");
    stage.holdfast_with(&["vault", "restore", "--to", "kept"], old).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("kept/tree"));
}

#[test]
fn new_cards_from_old_ones_and_both_sets_open() {
    let stage = vault(4_004);
    // Nothing would know the cards: the seed is not given away for them.
    let nowhere =
        ["keys", "split", "--cards", "3", "--need", "2", "--cards-dir", "nowhere", "--keys-dir", "vault/keys"];
    stage
        .holdfast(&[&nowhere[..], &["--remove-seed"]].concat())
        .ends(2)
        .says("needs a vault")
        .says("Nothing was changed");
    assert!(stage.path("vault/keys/master.seed").exists() && !stage.path("nowhere").exists());
    stage.holdfast(&["keys", "split", "--cards", "3", "--need", "2", "--cards-dir", "old", "--remove-seed"]).ends(0);
    let old = ["--card", "old/card-set1-1.txt", "--card", "old/card-set1-3.txt"].map(str::to_owned);
    let reshare = ["keys", "reshare", "--cards", "5", "--need", "3", "--cards-dir", "new", "--page", "html"];
    interrupted_with_the_seed_on_cards_alone(&stage, &reshare, &old);
    stage.holdfast(&reshare).ends(12).says("--card");
    stage.holdfast_with(&reshare, &old[..2]).ends(13).says("1 good cards of the 2 needed");
    stage.holdfast_with(&reshare, &old).ends(0).says("set 1 still work").says("holdfast keys rotate");
    // Scanned from the page, it is the card.
    let page = fs::read_to_string(stage.path("new/card-set2-4.html")).unwrap();
    fs::write(stage.path("scanned.txt"), scanned(&page)).unwrap();
    stage.holdfast(&["keys", "verify-card", "scanned.txt"]).ends(0).says("card 4 of set 2").says("newest");
    stage.holdfast(&["keys", "verify-card", "new/card-set2-2.txt"]).ends(0).says("newest");
    stage.holdfast(&["keys", "verify-card", "old/card-set1-2.txt"]).ends(0).says("not the newest");
    stage.holdfast(&["--config", "none", "keys", "verify-card", "new/card-set2-2.txt"]).ends(3).says("was not checked");

    let card = |set: &str, number: u32| {
        let folder = if set == "1" { "old" } else { "new" };
        ["--card".to_owned(), format!("{folder}/card-set{set}-{number}.txt")]
    };
    let hand = |cards: &[(&str, u32)]| cards.iter().flat_map(|(set, number)| card(set, *number)).collect::<Vec<_>>();
    let recover =
        |out: &str, cards: &[(&str, u32)]| stage.holdfast_with(&["keys", "recover", "--out", out], &hand(cards));
    recover("1.key", &[("1", 2), ("1", 1)]).ends(0).says("the newest is set 2");
    recover("2.key", &[("2", 5), ("1", 2), ("2", 2), ("2", 5), ("2", 1)])
        .ends(0)
        .says("card 2/3  #2 set 1: old set, not counted")
        .says("card 3/3  #5 again: same card, not counted")
        .never_says("need 9");
    recover("3.key", &[("2", 5), ("1", 2), ("1", 3), ("2", 4)]).ends(13).says("2 good cards of the 3 needed");
    // Typed at a terminal, the old cards give the seed for new ones; then it is too late to stop.
    let mut person = stage.person(&["keys", "reshare", "--cards", "1", "--need", "1", "--holder", "Anna"]);
    for number in [1, 3] {
        let card = fs::read_to_string(stage.path(&format!("old/card-set1-{number}.txt"))).unwrap();
        person.sees("Press Enter (or type stop): ");
        person.types("");
        person.sees("word 1: ");
        person.types(&written_down(&card).join(" "));
    }
    person.sees("Go on with this plan? Type yes: ");
    person.types("yes");
    let sheet = write_down(&mut person);
    person.types(&sheet.join(" "));
    person.sees("6/6 committed: the vault record knows the cards of set 3");
    person.ends(0);
    let (one, two) = (fs::read(stage.path("1.key")).unwrap(), fs::read(stage.path("2.key")).unwrap());
    assert!(one == two, "two sets of one seed give two keys");
    assert!(!stage.path("3.key").exists());
}
