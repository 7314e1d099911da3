//! SECURITY.md names tests; each of them must exist, and every threat must have one.

use std::collections::BTreeSet;

use crate::{text, top};

/// The threats that must have a row, by a word of it.
const THREATS: &[&str] =
    &["provider reads", "quantum", "compromised", "corruption", "shuts down", "ransomware", "lying provider", "stolen"];

/// Rows of the table of threats: threat, and the tests it names.
fn rows(text: &str) -> Vec<(String, Vec<String>)> {
    let table = text.lines().filter(|line| line.starts_with('|')).skip(2);
    table
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let named = cells.last().unwrap_or(&"").split('`').skip(1).step_by(2);
            (cells[0].to_owned(), named.map(str::to_owned).collect())
        })
        .collect()
}

/// Why a `path::name` is no test; `None` if it is one.
fn fault(named: &str) -> Option<String> {
    let Some((path, name)) = named.split_once("::") else { return Some(format!("{named} is no path::name")) };
    let Ok(source) = std::fs::read_to_string(top().join(path)) else { return Some(format!("{path} is not there")) };
    let lines: Vec<&str> = source.lines().collect();
    let head = format!("fn {name}(");
    let is_test = |at: usize| {
        lines[at.saturating_sub(4)..at].iter().any(|line| line.contains("test]") || line.contains("::test("))
    };
    let found = (0..lines.len()).any(|at| lines[at].contains(&head) && is_test(at));
    (!found).then(|| format!("{path} has no test {name}"))
}

#[test]
fn every_threat_has_a_row_and_every_test_it_names_exists() {
    let rows = rows(&text("SECURITY.md"));
    for threat in THREATS {
        assert!(rows.iter().any(|(row, _)| row.contains(threat)), "SECURITY.md has no row for: {threat}");
    }
    let mut named = BTreeSet::new();
    for (threat, tests) in rows {
        assert!(!tests.is_empty(), "no test stands against: {threat}");
        let faults: Vec<String> = tests.iter().filter_map(|test| fault(test)).collect();
        assert_eq!(faults, Vec::<String>::new(), "{threat}");
        named.extend(tests);
    }
    assert!(named.len() > 20, "only {} tests are named", named.len());
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    assert_eq!(fault("tests/house/tests/house/security.rs::a_test_that_is_not_there_is_noticed"), None);
    assert!(fault("tests/house/tests/house/security.rs::fault").is_some(), "a function is no test");
    assert!(fault("tests/house/tests/house/nothing.rs::x").is_some());
    assert!(fault("every_threat").is_some());
}
