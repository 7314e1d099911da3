//! Length of files, and marks of unfinished work.

use std::path::Path;

use house::{LONG_FILES, SOURCE_LINES_MAX};

use crate::{rust_files, text};

/// Where the unit tests begin, which stand last in a file.
fn tests_at(lines: &[&str]) -> Option<usize> {
    let opens_tests = |at: &usize| {
        let item = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        lines[*at] == "#[cfg(test)]" && item.is_some_and(|item| item.starts_with("mod "))
    };
    (0..lines.len()).find(opens_tests)
}

/// Lines before the unit tests, with their numbers.
fn source_lines(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let end = tests_at(&lines).unwrap_or(lines.len());
    (1..).zip(lines).take(end).collect()
}

/// Of these, the ones that are not comments.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    source_lines(text).into_iter().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether a file is part of a crate and not of its tests.
fn is_source(file: &str) -> bool {
    !Path::new(file)
        .components()
        .any(|part| ["tests", "benches", "examples"].iter().any(|test| part.as_os_str() == *test))
}

#[test]
fn no_source_file_is_too_long() {
    for file in rust_files().into_iter().filter(|file| is_source(file)) {
        let lines = source_lines(&text(&file)).len();
        let excepted = LONG_FILES.iter().any(|(long, _)| *long == file);
        assert!(lines <= SOURCE_LINES_MAX || excepted, "{file} has {lines} lines: is it still one noun?");
    }
}

/// Unit tests stand at the end of a file, or the length above would not count what follows them.
#[test]
fn unit_tests_stand_last() {
    for file in rust_files().into_iter().filter(|file| is_source(file)) {
        let text = text(&file);
        let lines: Vec<&str> = text.lines().collect();
        let Some(at) = tests_at(&lines) else { continue };
        let mut rest = lines[at..].iter().skip_while(|line| !line.starts_with("mod "));
        let inline = rest.next().is_some_and(|opening| opening.ends_with('{'));
        let mut after = rest.skip_while(|line| inline && **line != "}").skip(usize::from(inline));
        let follows = after.find(|line| !line.trim().is_empty());
        assert!(follows.is_none_or(|line| *line == "#[cfg(test)]"), "{file}: {follows:?} follows the tests");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ign", "ore"), concat!("FIX", "ME")];
    for file in rust_files() {
        let text = text(&file);
        for mark in marks {
            assert!(!text.contains(mark), "{file} contains {mark}");
        }
    }
}
