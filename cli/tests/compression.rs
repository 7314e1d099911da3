//! The same tree, compressed harder and not at all.
//!
//! What must hold: what is stored gets smaller; chunks are known by their plain bytes, so
//! whatever level stored them, they are not stored again; what does not shrink stays as it
//! is at any level; the flag counts instead of the configuration; everything comes back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use serde_json::Value;
use stage::{Numbers, Stage, assert_same_tree};

/// Words in no order: compressible, and the harder one tries the more.
fn text(numbers: &mut Numbers, bytes: usize) -> Vec<u8> {
    let words = ["shard", "pack", "ledger", "ceremony", "domain", "quorum", "witness", "card", "vault", "seed", "leaf"];
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(words[numbers.below(words.len() as u64) as usize]);
        text.push(if numbers.below(9) == 0 { '\n' } else { ' ' });
    }
    text.into_bytes()
}

fn point(stage: &Stage, arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["--json", "vault", "run"].iter().chain(arguments).copied().collect();
    let ran = stage.holdfast(&all).ends(0);
    ran.events("point").pop().unwrap()
}

/// Bytes of the packs, before coding.
fn packed(point: &Value) -> u64 {
    number(point, "stored_bytes") * 5 / 9
}

fn number(point: &Value, name: &str) -> u64 {
    point[name].as_u64().unwrap_or_else(|| panic!("{name} in {point}"))
}

#[test]
fn harder_is_smaller_and_chunks_are_the_same_chunks() {
    let mut sizes = Vec::new();
    for level in ["off", "fast", "max"] {
        let (stage, mut numbers) = (Stage::with_local_vault(), Numbers(801));
        fs::create_dir(stage.path("tree")).unwrap();
        fs::write(stage.path("tree/words"), text(&mut numbers, 4 << 20)).unwrap();
        let first = point(&stage, &["tree", "--compression", level]);
        sizes.push(packed(&first));
        // All is read again, at every other level: nothing is stored twice.
        for other in ["fast", "off", "7", "better"] {
            let again = point(&stage, &["tree", "--force", "--compression", other]);
            assert_eq!(again["root_hash"], first["root_hash"], "{level}, then {other}");
            assert_eq!(number(&again, "new_bytes"), 0, "{level}, then {other}");
        }
        stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
        assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
    }
    assert!(sizes[0] >= 4 << 20, "off is off: {sizes:?}");
    assert!(sizes[1] * 2 < sizes[0] && sizes[2] * 10 < sizes[1] * 9, "{sizes:?}");
}

#[test]
fn noise_stays_as_it_is_and_the_flag_counts_before_the_configuration() {
    let (stage, mut numbers) = (Stage::with_local_vault(), Numbers(802));
    fs::create_dir(stage.path("noise")).unwrap();
    fs::write(stage.path("noise/bytes"), numbers.bytes(1 << 20)).unwrap();
    let hard = packed(&point(&stage, &["noise", "--compression", "max"]));
    assert!((1 << 20..3 << 19).contains(&hard), "{hard}");

    for name in ["one", "two"] {
        fs::create_dir(stage.path(name)).unwrap();
        fs::write(stage.path(name).join("words"), text(&mut numbers, 1 << 20)).unwrap();
        let path = stage.text(name);
        stage.append_config(&format!(
            "\n[source.{name}]\nkind = \"directory\"\npaths = [\"{path}\"]\ncompression = \"off\"\n"
        ));
    }
    assert!(packed(&point(&stage, &["one"])) >= 1 << 20, "the configuration says off");
    assert!(packed(&point(&stage, &["two", "--compression", "fast"])) < 3 << 18);
    stage.holdfast(&["vault", "run", "noise", "--compression", "best"]).ends(2).says("off, fast, better, max");
}
