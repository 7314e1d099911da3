//! The agent runs on a host that keeps neither seed nor read key; places go away and it
//! fills its spool; then somebody takes the disk.
//!
//! What must hold: the complete image (configuration, state, spool, catalog, key files, what
//! the agent said) has no key that opens any pack sealed before, and no name and no text of
//! a file; the program itself restores nothing with any file of it. The same search finds
//! the key when it is there. vault/ops/tests/disk_image.rs does the same over a thousand
//! packs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../vault/ops/tests/image/mod.rs"]
mod image;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};

use image::{Image, Wanted};
use keys::files::{MasterSeed, ReadKey};
use stage::{Numbers, Stage, files_below, write_tree};

const NAMES: [&str; 3] = ["a-name-nobody-may-read-5d1c", "the-letter-to-my-lawyer.odt", "Ünlesbar-77"];
const TEXTS: [&str; 2] = ["a sentence nobody may read, 93f1", "another one, kept very short: 7ab2"];

fn write_secrets(tree: &Path, round: usize) {
    for (at, name) in NAMES.iter().enumerate() {
        let folder = tree.join(format!("{name}.d"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), format!("{round} {}\n", TEXTS[at % TEXTS.len()].repeat(at + 1))).unwrap();
    }
}

/// What the agent wrote for one round, seen from outside.
fn wait_for_runs(agent: &mut stage::Running, text: &str, more: usize) {
    let wanted = agent.said().matches(text).count() + more;
    agent.wait_until(text, |said| said.matches(text).count() >= wanted);
}

fn move_places(stage: &Stage, away: bool) {
    for number in 1..=9 {
        let (home, gone) = (stage.path(&format!("vault/p{number}")), stage.path(&format!("gone/p{number}")));
        let (from, to) = if away { (home, gone) } else { (gone, home) };
        fs::rename(from, to).unwrap();
    }
}

/// A host whose agent wrote to its places and then to its spool; and the keys that were on
/// it before, which nobody but the test has.
fn host() -> (Stage, tempfile::TempDir) {
    let (stage, elsewhere) = (Stage::with_local_vault(), tempfile::tempdir().unwrap());
    for key in ["master.seed", "read.key"] {
        fs::copy(stage.path("vault/keys").join(key), elsewhere.path().join(key)).unwrap();
    }
    stage.deal_cards();
    fs::rename(stage.path("cards"), elsewhere.path().join("cards")).unwrap();
    fs::create_dir(stage.path("gone")).unwrap();
    write_tree(&stage.path("tree"), 2_000_000, &mut Numbers(51));
    write_secrets(&stage.path("tree"), 1);
    stage.change_config("survive_domains", "pack_leaves_max = 1\nsurvive_domains");
    stage.back_up_tree_every_second();
    let mut agent = stage.start(&["agent"]);
    agent.wait_for("docs -> demo: ok");
    for round in 0..4 {
        write_tree(&stage.path(&format!("tree/round{round}")), 200_000, &mut Numbers(60 + round));
        wait_for_runs(&mut agent, "docs -> demo: ok", 2);
    }
    move_places(&stage, true);
    write_tree(&stage.path("tree/later"), 1_000_000, &mut Numbers(52));
    write_secrets(&stage.path("tree/later"), 2);
    wait_for_runs(&mut agent, "docs -> demo", 2);
    agent.wait_until("a spooled point", |_| {
        let mut spooled = Vec::new();
        files_below(&stage.path("vault/state/demo/spool/manifests"), &mut spooled);
        !spooled.is_empty()
    });
    assert!(agent.kill(), "it was still running");
    (stage, elsewhere)
}

#[test]
fn the_disk_of_an_agent_opens_nothing_and_names_nothing() {
    let (stage, elsewhere) = host();
    let left = |path: &Path| ["tree", "gone"].iter().any(|name| path == stage.path(name));
    let mut image = Image::default();
    image.add_folder(&stage.path(""), &left);
    for part in ["holdfast.toml", "writer.key", "operator.key", "janitor.key", "catalog", "spool/shards", "agent.json"]
    {
        assert!(image.0.iter().any(|(name, _)| name.contains(part)), "{part} is not in the image");
    }

    let mut shards: Vec<PathBuf> = Vec::new();
    files_below(&stage.path("vault/state/demo/spool/shards"), &mut shards);
    let spooled = shards.len();
    for number in 1..=9 {
        files_below(&stage.path(&format!("gone/p{number}/shards")), &mut shards);
    }
    assert!(spooled > 0 && shards.len() > spooled, "{spooled} of {}", shards.len());
    let headers: Vec<Vec<u8>> = shards.iter().map(|path| fs::read(path).unwrap()[..8192].to_vec()).collect();
    let master: MasterSeed = keys::files::load(&elsewhere.path().join("master.seed")).unwrap();
    let read: ReadKey = keys::files::load(&elsewhere.path().join("read.key")).unwrap();
    let wanted = Wanted::of(&master, &read, &headers);
    println!("{} packs, {} bytes of image", wanted.packs, image.bytes());
    assert!(wanted.packs >= 10, "{} packs", wanted.packs);
    assert_eq!(wanted.find(&image), None);
    for text in NAMES.iter().chain(&TEXTS) {
        assert_eq!(image.find_text(text.as_bytes()), None, "{text}");
    }

    // The program itself, with every key file there is and with none.
    move_places(&stage, false);
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(12);
    for key in ["writer.key", "operator.key", "janitor.key", "vault.pub"] {
        stage.holdfast(&["vault", "restore", "--to", "out", "--read-key", &format!("vault/keys/{key}")]).ends(12);
    }
    assert!(!stage.path("out").exists(), "nothing was restored");
    let key = elsewhere.path().join("read.key");
    let restored = stage.holdfast(&["vault", "restore", "--to", "out", "--read-key", key.to_str().unwrap()]);
    assert!(restored.code == 0 || restored.code == 3, "the read key does it: {}", restored.shown());

    // The search finds what is there.
    image.add("read.key", fs::read(&key).unwrap());
    assert!(wanted.find(&image).unwrap().contains("the reader's KEM seed"));
    image.0.clear();
    image.add_folder(&stage.path("tree"), &|_| false);
    for text in NAMES.iter().chain(&TEXTS) {
        assert!(image.find_text(text.as_bytes()).is_some(), "{text}");
    }
}
