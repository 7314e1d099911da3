//! No file names a machine it was made on or the host of a package registry: the project must build anywhere.

use crate::{files, top};

/// What may not be named, in pieces so that this file does not name it.
fn banned() -> Vec<String> {
    let pieces: &[&[&str]] = &[
        &["deb.", "debian.org"],
        &["pypi", ".org"],
        &["python", "hosted"],
        &["registry", ".npmjs"],
        &["static", ".crates.io"],
        &["index", ".crates.io"],
        &["proxy", ".golang.org"],
        &["/wo", "rk/"],
        &["/fa", "rm/"],
        &["/var/tmp/", "hf-"],
        &["/ro", "ot/"],
        &["/home/", "runner"],
    ];
    pieces.iter().map(|pieces| pieces.concat()).collect()
}

/// What is banned in a text: the name and its line.
fn named<'a>(text: &str, banned: &'a [String]) -> Option<(usize, &'a str)> {
    let found = |line: &str| banned.iter().find(|name| line.contains(name.as_str())).map(String::as_str);
    (1..).zip(text.lines()).find_map(|(number, line)| Some((number, found(line)?)))
}

#[test]
fn no_text_names_a_machine_or_a_registry() {
    let banned = banned();
    for file in files() {
        // Lock files name the registry's index by its public URL; cargo writes them.
        if file.ends_with("Cargo.lock") {
            continue;
        }
        let bytes = std::fs::read(top().join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let Ok(text) = String::from_utf8(bytes) else { continue };
        assert_eq!(named(&text, &banned), None, "{file}");
    }
}

#[test]
fn a_name_is_found() {
    let banned = banned();
    for name in &banned {
        assert_eq!(named(&format!("one\ntwo {name}x\n"), &banned), Some((2, name.as_str())));
    }
    assert_eq!(named("vault/format/src/lib.rs\n", &banned), None);
}
