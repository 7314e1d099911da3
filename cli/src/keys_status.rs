//! `holdfast keys status`: the keys of a vault, what of them lies on this host, and
//! what a thief of it could do.
//!
//! What always holds: no secret is read but to see that its file is whole; what the
//! vault says is shown only if it opened under the key this host trusts; a date that
//! has passed is said and stops nothing.

use std::path::PathBuf;

use agent_daemon::assembly::{self, Assembled};
use keys::ceremony::gathering::KnownCards;
use keys::first::KeyFolder;
use serde_json::{Value, json};
use vault_ops::claims::cards_of;
use vault_ops::issue;

use crate::card_checks;
use crate::exit::{self, Failure, Outcome};
use crate::keys_commands;
use crate::output::time_text;
use crate::session::Session;

pub(crate) async fn run(session: &Session, keys_dir: Option<PathBuf>) -> Outcome {
    let in_vault = keys_dir.is_none();
    let folder = keys_commands::folder(session, keys_dir)?;
    let mut exit = if here(session, &folder) { exit::WARNINGS } else { exit::OK };
    let mut summary = json!({});
    if in_vault {
        match open(session).await {
            Ok(opened) => {
                summary = of_vault(session, &opened).await;
                if summary["warnings"] != 0 {
                    exit = exit::WARNINGS;
                }
            }
            // Before `vault init` there is none; else what is on this host is all that can be said now.
            Err(failure) if failure.exit == exit::NO_VAULT => {}
            Err(failure) => {
                session.output.warn(format!("the vault's own record is not shown: {}", failure.text));
                exit = exit::WARNINGS;
            }
        }
    }
    session.output.summary(exit, summary);
    Ok(exit)
}

async fn open(session: &Session) -> Result<Assembled, Failure> {
    let (config, name) = session.vault_name()?;
    Ok(assembly::open_vault(&config, &name, session.world.clone()).await?)
}

/// What lies on this host. Whether it dies or is read with it.
fn here(session: &Session, folder: &KeyFolder) -> bool {
    let line = |name: &str, path: PathBuf, there: &str, gone: &str| {
        let here = path.exists();
        session.output.say(format!(
            "{name:<13} {:<8} {}",
            if here { "here" } else { "not here" },
            if here { there } else { gone }
        ));
        session.output.event("key", json!({ "name": name, "here": here }));
        here
    };
    let seed = line("master.seed", folder.master_seed(), "AT RISK: deal it onto cards and remove it", "good");
    let read =
        line("read.key", folder.read_key(), "a thief of this host can read all backups", "good: this host cannot read");
    let operator = line("operator.key", folder.operator_key(), "this host can admit writers", "");
    let janitor = line("janitor.key", folder.janitor_key(), "this host can forget and free space", "");
    let writer = line("writer.key", folder.writer_key(), "this host can back up", "this host cannot back up");
    line("vault.pub", folder.public(), "this host can audit and repair", "this host cannot audit");
    let mut former = false;
    for path in former_seeds(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        former |= line(
            &name,
            path,
            "a former seed: it opens what was sealed before. Remove it once the new cards are dealt",
            "",
        );
    }
    let begun = folder.next_seed().exists();
    if begun {
        session.output.warn("a rotation was begun and is not finished; go on with: holdfast keys rotate --apply");
    }
    thief(
        session,
        &[(seed || begun, SEED), (read && !seed, READ), (former && !seed && !read, FORMER)],
        &[(operator, OPERATOR), (janitor, JANITOR), (writer, WRITER)],
    );
    seed || read || begun || former
}

const SEED: &str = "read every backup, and become the vault's root: admit, revoke, rotate";
const READ: &str = "read every backup";
const FORMER: &str = "read what was sealed before the last rotation";
const OPERATOR: &str = "admit writers and janitors and move shards, until revoked by the root";
const JANITOR: &str = "forget points and let their packs go, with credentials that may delete; read none";
const WRITER: &str = "write backups in this host's name, see the names of its points and test guesses about what it stores, \
                      until revoked; read none";

fn thief(session: &Session, of_secrets: &[(bool, &str)], of_roles: &[(bool, &str)]) {
    let could: Vec<&str> = of_secrets.iter().chain(of_roles).filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    if could.is_empty() {
        session.output.say("A thief of this folder could do nothing with it.");
    } else {
        session.output.say(format!("A thief of this folder could: {}.", could.join("; ")));
    }
    session.output.event("thief", json!({ "could": could }));
}

fn former_seeds(folder: &KeyFolder) -> Vec<PathBuf> {
    let is_former = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("master.seed.").is_some_and(|end| end.parse::<u32>().is_ok())
    };
    let listed = std::fs::read_dir(folder.path()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = listed.filter(is_former).collect();
    found.sort();
    found
}

/// Generation, certificates, cards.
async fn of_vault(session: &Session, opened: &Assembled) -> Value {
    let (vault, output) = (&opened.vault, session.output);
    let generation = vault.record.recipients.iter().map(|key| key.generation).max().unwrap_or(1);
    output.say(format!(
        "key generation {generation}, key check {}, vault record {}{}",
        vault.root.check(),
        vault.record.epoch,
        match vault.former.len() {
            0 => String::new(),
            count => format!("; {count} before it, opened by the newest through the key history"),
        }
    ));
    let mut warnings = behind(session, opened);
    warnings += certificates(session, opened);
    cards(session, opened).await;
    json!({ "generation": generation, "key_check": vault.root.check().to_string(), "record": vault.record.epoch,
            "warnings": warnings })
}

/// Key files that trust a former root: they follow, and should not have to.
fn behind(session: &Session, opened: &Assembled) -> usize {
    let public: Result<keys::files::VaultPublic, _> = keys::files::load(&opened.keys.public());
    if public.is_ok_and(|public| public.root != opened.vault.root) {
        session.output.warn(
            "this host's key files trust a former root key and follow the rotation by its signature. Bring the vault.pub of \
             the host that rotated, so that nobody with the old seed can lead this host elsewhere",
        );
        return 1;
    }
    0
}

fn certificates(session: &Session, opened: &Assembled) -> usize {
    let (vault, output, now) = (&opened.vault, session.output, session.world.now_ms());
    let in_force: Vec<_> = vault.record.operators.iter().map(|bytes| keys::record::hash(&bytes.0)).collect();
    let mut warnings = 0;
    for (hash, certificate) in issue::certificates(vault) {
        let is_operator = certificate.role == vault_format::certificate::Role::Operator;
        if is_operator && !in_force.contains(&hash) {
            // Of a former root; the same keys have a newer one.
            continue;
        }
        let revoked = vault.revocations.last_good(&hash);
        let expired = now > certificate.not_after_ms;
        warnings += usize::from(expired && revoked.is_none());
        let remark = match (revoked, expired) {
            (Some(last), _) => format!("  revoked after {}.{}", last.epoch, last.sequence),
            (None, true) => "  EXPIRED: it goes on working; issue a new one when you can".to_owned(),
            (None, false) => String::new(),
        };
        let role = format!("{:?}", certificate.role).to_lowercase();
        output.say(format!(
            "{role:<9} {:<8} {:<20} until {}  certificate {}{remark}",
            certificate.subject.short(),
            certificate.name,
            time_text(certificate.not_after_ms),
            hash.short()
        ));
        output.event(
            "certificate",
            json!({ "role": role, "subject": certificate.subject.to_string(), "name": certificate.name,
                    "not_after_ms": certificate.not_after_ms, "hash": hash.to_string(), "expired": expired,
                    "revoked": revoked.is_some() }),
        );
    }
    warnings
}

/// Sets of the key in force, and those of former keys, which open what was sealed before.
async fn cards(session: &Session, opened: &Assembled) {
    let (output, now) = (session.output, session.world.now_ms());
    let checks = card_checks::read(&opened.state);
    let known = cards_of(&opened.vault).await;
    let in_force = |known: &&KnownCards| known.root == opened.vault.root.fingerprint();
    if known.iter().filter(in_force).all(|known| known.sets.is_empty()) {
        let former = if known.iter().any(|known| !known.sets.is_empty()) { " of the key in force" } else { "" };
        output.say(format!(
            "no cards{former} were dealt: holdfast keys split --cards 5 --need 3 --cards-dir DIR --remove-seed"
        ));
    }
    for (of, set) in known.iter().flat_map(|of| of.sets.iter().map(move |set| (of, set))) {
        let generation = of.generation.0;
        let former = if in_force(&of) {
            String::new()
        } else {
            format!("; of the former key (generation {generation}): it opens what was sealed before the rotation")
        };
        let seen: Vec<i64> = checks.iter().filter(|((of, _), _)| *of == set.number).map(|(_, ms)| *ms).collect();
        let text = card_checks::set_text(set, &checks, now);
        output.say(format!("card {text}, dealt {}{former}", time_text(set.created_ms)));
        output.event(
            "card_set",
            json!({ "set": set.number, "generation": generation, "need": set.need, "cards": set.cards.len(), "dealt_ms": set.created_ms,
                    "verified": seen.len(), "last_verified_ms": seen.iter().max() }),
        );
    }
}
