//! When each card was last checked, as far as this host saw it: `card-checks` in the
//! vault's state folder, a line per card: set, number, milliseconds since 1970.
//!
//! What always holds: it is a note for people. A line that makes no sense is skipped;
//! losing the file loses dates.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use backends::disk::{RealDisk, place_file};
use vault_format::vault::CardSet;
use vault_ops::vault::StatePaths;

use crate::output::ago_text;

/// Times by set and number.
pub(crate) type Checks = BTreeMap<(u32, u8), i64>;

fn path(state: &StatePaths) -> PathBuf {
    state.folder.join("card-checks")
}

/// What was noted so far.
pub(crate) fn read(state: &StatePaths) -> Checks {
    let text = std::fs::read_to_string(path(state)).unwrap_or_default();
    let parse = |line: &str| {
        let mut parts = line.split_whitespace();
        let key = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((key, parts.next()?.parse().ok()?))
    };
    text.lines().filter_map(parse).collect()
}

/// Notes that these cards of a set were good now.
pub(crate) fn note(
    state: &StatePaths,
    set: u32,
    numbers: impl IntoIterator<Item = u8>,
    now_ms: i64,
) -> std::io::Result<()> {
    let mut checks = read(state);
    checks.extend(numbers.into_iter().map(|number| ((set, number), now_ms)));
    let mut text = String::new();
    for ((set, number), ms) in checks {
        let _ = writeln!(text, "{set} {number} {ms}");
    }
    let path = path(state);
    // Written beside it and put in its place: a note, so the old one may go first.
    let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match std::fs::remove_file(&path) {
        Err(error) if !absent(&error) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    place_file(&RealDisk, &path, text.as_bytes())
}

/// A set for people: `set 2: 5 cards, need 3, all checked, the last 41 d ago`.
pub(crate) fn set_text(set: &CardSet, checks: &Checks, now_ms: i64) -> String {
    let total = set.cards.len();
    let times: Vec<i64> = (1..=total as u8).filter_map(|number| checks.get(&(set.number, number)).copied()).collect();
    let checked = match (times.iter().min(), times.len()) {
        (None, _) => "never checked from this host".to_owned(),
        (Some(oldest), checked) if checked == total => {
            format!("all checked, the longest ago {}", ago_text(now_ms, *oldest))
        }
        (Some(_), checked) => format!("{checked} of {total} checked from this host"),
    };
    format!("set {}: {total} cards, need {}, {checked}", set.number, set.need)
}
