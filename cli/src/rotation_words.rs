//! What a rotation says: what it does, what it revokes and what it does not.

use agent_daemon::assembly::Assembled;
use keys::seed::Generation;
use serde_json::json;

use crate::exit;
use crate::session::Session;

const REVOKED: [&str; 1] = [
    "What is sealed from now on opens with the new key only: the old cards and copies of the old read key do not open it.",
];

const NOT_REVOKED: [&str; 4] = [
    "Not revoked: the old cards, and copies of the old read key, still open everything that was sealed before. Keep the \
     old cards safe, or end it with: holdfast vault reencrypt --apply",
    "Not revoked: whoever copied the old seed itself can tell which guessed chunks the hosts store that wrote before, and \
     sees lengths and the names of points, no content. A new writer key ends that for a host: holdfast keys issue --role \
     writer",
    "Not revoked: keys of operators, writers and janitors go on, with new certificates where they need them. A stolen one \
     is shut out with: holdfast keys revoke",
    "Nothing changes at other hosts: they follow at their next run. A janitor on another machine needs a new file: \
     holdfast keys issue --role janitor",
];

/// What would be done.
pub(crate) fn tell_plan(session: &Session, opened: &Assembled, begun: bool) -> u8 {
    let output = session.output;
    if begun {
        output.warn("a rotation was begun and is not finished: --apply goes on with the same new seed");
    }
    output.say(format!("A new seed follows the one in force (key check {}).", opened.vault.root.check()));
    REVOKED.iter().chain(&NOT_REVOKED).for_each(|line| output.say(line));
    output
        .say("The new seed opens everything, old packs too. It will lie in the key folder until keys split deals it.");
    output
        .say("Before it comes into force its recovery sheet is written: one card that is enough alone, to be printed.");
    output.say(
        "Nothing was changed. Do it with: holdfast keys rotate --apply --sheet FILE (with the old cards: --card FILE..)",
    );
    let exit = if begun { exit::WARNINGS } else { exit::OK };
    output.summary(exit, json!({ "begun": begun, "applied": false }));
    exit
}

/// What was done.
pub(crate) fn tell_done(session: &Session, opened: &Assembled, generation: Generation, owed: usize) -> u8 {
    let output = session.output;
    output.say(format!(
        "Key generation {} is in force, key check {}. The new seed opens everything, old packs too.",
        generation.0,
        opened.vault.root.check()
    ));
    REVOKED.iter().chain(&NOT_REVOKED).for_each(|line| output.say(line));
    if opened.keys.former_seed(Generation(generation.0 - 1)).exists() {
        output.warn(format!(
            "the former seed was on this host and still is: {}. Once the new cards are dealt remove it",
            opened.keys.former_seed(Generation(generation.0 - 1)).display()
        ));
    }
    let has_none = opened.keys.no_key_copy().exists();
    output.warn(if has_none {
        "AT RISK: the new seed lies on this host only, and dies with it. Deal it now:  holdfast keys split --cards 5 \
         --need 3 --cards-dir DIR --remove-seed"
    } else {
        "the new seed lies on this host, and its recovery sheet as long as that file is here: print the sheet and take it \
         off this machine. Then deal the seed:  holdfast keys split --cards 5 --need 3 --cards-dir DIR --remove-seed"
    });
    output.summary(
        exit::WARNINGS,
        json!({ "generation": generation.0, "key_check": opened.vault.root.check().to_string(), "owed": owed,
                "copy": if has_none { "none" } else { "sheet" }, "applied": true }),
    );
    exit::WARNINGS
}
