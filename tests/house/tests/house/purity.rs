//! Pure crates name no clock, disk, network, environment or unordered map.

use house::{IMPURE_WORDS, PURE};

use crate::sources::code_lines;
use crate::{rust_files, text};

/// The first impure word in a line of code.
fn impure(line: &str) -> Option<&'static str> {
    let is_word = |word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let joined = |c: char| c.is_alphanumeric() || c == '_';
            let before = line[..at].chars().next_back().is_some_and(joined);
            let after = line[at + word.len()..].chars().next().is_some_and(joined);
            !before && !after
        })
    };
    IMPURE_WORDS.iter().copied().find(|word| is_word(word))
}

#[test]
fn pure_crates_name_nothing_impure() {
    for (folder, name) in PURE {
        let sources = format!("{folder}/src/");
        let mut files = 0;
        for file in rust_files().into_iter().filter(|file| file.starts_with(&sources)) {
            files += 1;
            for (number, line) in code_lines(&text(&file)) {
                assert_eq!(impure(line), None, "{name} is pure, but {file}:{number} says: {}", line.trim());
            }
        }
        assert!(files > 0, "{folder} has no sources");
    }
}

#[test]
fn words_are_found_whole_and_only_whole() {
    assert_eq!(impure("use std::collections::HashMap;"), Some("HashMap"));
    assert_eq!(impure("    let now = std::time::Instant::now();"), Some("Instant"));
    assert_eq!(impure("std::fs::read(path)"), Some("std::fs"));
    assert_eq!(impure("let instant = HashMapping::new();"), None);
}
