//! `holdfast keys split` and `keys reshare`: the ceremony, with people at a terminal or
//! with files.
//!
//! What always holds: what may be committed comes out of [`keys::ceremony`] alone; the
//! vault hears of the new set in the last step, so that whoever is interrupted before it
//! finds everything as it was; card files that are left are named by whoever stops, or,
//! after a kill, by the next ceremony in the same folder.

use std::path::PathBuf;

use keys::Seed;
use keys::ceremony::gathering::next_set;
use keys::ceremony::transcript::Transcript;
use keys::ceremony::{Planned, Rehearsed, Terms};
use keys::page::PageFormat;
use serde_json::json;
use vault_ops::placement::write_quorum;

use crate::card_checks;
use crate::ceremony_canary::rehearse;
use crate::ceremony_cards::{hand_out, to_files};
use crate::ceremony_end;
use crate::ceremony_host;
use crate::ceremony_room::{Origin, Room, origin};
use crate::ceremony_stop::Stop;
use crate::exit::{self, Failure, Outcome};
use crate::output::time_text;
use crate::session::{Session, host_name};

/// What is asked for.
pub(crate) struct Deal {
    /// `split` or `reshare`.
    pub(crate) kind: &'static str,
    pub(crate) cards: u8,
    pub(crate) need: u8,
    pub(crate) cards_dir: Option<PathBuf>,
    pub(crate) page: Option<PageFormat>,
    pub(crate) holders: Vec<String>,
    pub(crate) transcript: Option<PathBuf>,
    /// Cards to take the seed from, where its file is gone.
    pub(crate) from: Vec<PathBuf>,
    pub(crate) remove_seed: bool,
    pub(crate) keys_dir: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, deal: Deal) -> Outcome {
    let stop = Stop::watch(session.output);
    let room = Room::enter(session, &deal).await?;
    if room.terminal.is_none() && deal.cards_dir.is_none() {
        return Err(Failure::new(
            exit::USAGE,
            "say where the card files go: --cards-dir DIR. They are secret: one per holder. (At a terminal, without it, \
             each card is shown to its holder alone.)",
        ));
    }
    let mut transcript = Transcript::new(deal.kind, &host_name());
    let mut note = |step: u8, what: &str| transcript.add(&time_text(session.world.now_ms()), step, what);
    refuse_occupied(&deal)?;
    refuse_removal(&deal, &room)?;
    preflight(session, &deal, &room, &mut note);
    let origin = origin(session, &deal, &room)?;
    let (seed, planned) = plan(session, &deal, &room, origin, &stop, &mut note)?;
    let dealt = planned.deal(seed, &mut session.world.rng()).map_err(|error| usage(&error))?;
    let (dealt, paths) = match (room.terminal, &deal.cards_dir) {
        (_, Some(folder)) => to_files(session, &deal, folder, dealt, &stop, &mut note)?,
        (Some(terminal), None) => {
            (hand_out(terminal, dealt, &mut note).map_err(|failure| stop.failed(failure))?, Vec::new())
        }
        (None, None) => return Err(Failure::new(exit::USAGE, "there is nowhere to put the cards: --cards-dir DIR")),
    };
    let rehearsed = rehearse(session, &room, dealt, &stop, &mut note).await?;
    let owed = commit(session, &room, &rehearsed, &stop, &mut note).await?;
    let terms = rehearsed.terms().clone();
    if let Some(state) = room.state() {
        let noted = card_checks::note(&state, terms.set, 1..=terms.total, session.world.now_ms());
        noted.unwrap_or_else(|error| session.output.warn(format!("the date of this check was not kept: {error}")));
    }
    for path in &paths {
        session.output.say(format!("card  {}", path.display()));
    }
    session.output.say(format!(
        "{} cards, any {} recover the key; every card was read back and the quorum rehearsed. Give each to another person.",
        deal.cards, deal.need
    ));
    say_of_older_sets(session, &room, terms.set);
    let mut exit = if owed { exit::WARNINGS } else { exit::OK };
    if let Some(path) = &deal.transcript
        && let Err(failure) = ceremony_end::write_transcript(session, path, &transcript, &rehearsed)
    {
        session.output.warn(failure.text);
        exit = exit::WARNINGS;
    }
    // Without a vault the set stands nowhere: the seed stays, and is not asked about.
    if room.vault.is_some() {
        ceremony_end::end_with_the_seed(session, &room.folder, room.terminal, deal.remove_seed)?;
    }
    session.output.summary(exit, json!({ "cards": deal.cards, "need": deal.need, "set": terms.set }));
    Ok(exit)
}

fn usage(error: &keys::CardError) -> Failure {
    Failure::new(exit::USAGE, error.to_string())
}

/// What must not be there yet: found out before anything is dealt.
fn refuse_occupied(deal: &Deal) -> Result<(), Failure> {
    match &deal.transcript {
        Some(path) if path.exists() => Err(Failure::new(
            exit::USAGE,
            format!("{} exists already and is not overwritten. Nothing was changed", path.display()),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Where no vault record can take the set, nothing proves later that cards were handed
/// out: the file stays until one does.
fn refuse_removal(deal: &Deal, room: &Room) -> Result<(), Failure> {
    if !deal.remove_seed || room.vault.is_some() {
        return Ok(());
    }
    let text = "--remove-seed needs a vault whose record takes the new cards, and there is none here. Nothing was changed. \
                Make the vault first (holdfast vault init), then deal without --keys-dir; or deal without --remove-seed";
    Err(Failure::new(exit::USAGE, text))
}

/// Step 1.
fn preflight(session: &Session, deal: &Deal, room: &Room, note: &mut impl FnMut(u8, &str)) {
    let config = room.config.as_ref().map(|(config, name)| (config, name.as_str()));
    let facts = ceremony_host::facts(deal.cards_dir.as_deref(), config, &room.known);
    let warnings = facts.warnings();
    session.output.say(format!("1/6 preflight: {} warnings", warnings.len()));
    for warning in &warnings {
        session.output.warn(warning);
        note(1, &format!("warned: {warning}"));
    }
    if warnings.is_empty() {
        note(1, "nothing to warn of");
    }
}

/// Step 2.
fn plan(
    session: &Session,
    deal: &Deal,
    room: &Room,
    origin: Origin,
    stop: &Stop,
    note: &mut impl FnMut(u8, &str),
) -> Result<(Seed, Planned), Failure> {
    let set = next_set(&room.known);
    let mut holders = deal.holders.clone();
    let Origin { seed, generation, vault, from } = origin;
    let terms = |holders| Terms { vault, generation, set, need: deal.need, total: deal.cards, holders };
    terms(holders.clone()).planned().map_err(|error| usage(&error))?;
    if let Some(vault) = &room.vault {
        let (have, need) = (vault.locations.iter().map(|at| at.domain), write_quorum(vault.domains().len()));
        let have = have.collect::<std::collections::BTreeSet<_>>().len();
        if have < need {
            let text = format!(
                "{have} of the vault's domains answer and the vault record needs {need}: the new cards could not be \
                 committed. Nothing was changed; bring back the locations and run it again"
            );
            return Err(Failure::new(exit::UNREACHABLE, text));
        }
    }
    let output = session.output;
    output.say("2/6 plan");
    let check = seed.root_key(generation).verifying_key().check();
    output.say(format!("  vault {}, generation {}, key check {check}, seed from {from}", vault.short(), generation.0));
    output.say(format!("  set {set}: {} cards, any {} of them read and sign everything", deal.cards, deal.need));
    for older in room.sets() {
        output.say(format!(
            "  set {} ({} cards, need {}) goes on working: new cards do not revoke old ones",
            older.number,
            older.cards.len(),
            older.need
        ));
    }
    match &deal.cards_dir {
        Some(folder) => output.say(format!("  each card becomes a file in {}", folder.display())),
        None => output.say("  each card is shown here to its holder alone, typed back, and cleared"),
    }
    if room.vault.is_none() {
        output.warn(
            "there is no vault record yet to take the hashes of the cards: a single bad card cannot be named later. Deal \
             anew with keys reshare once there is a vault",
        );
    }
    output.say("  nothing counts before step 6: stop at any time, and everything is as it was");
    if let Some(terminal) = room.terminal {
        if holders.is_empty() {
            for number in 1..=deal.cards {
                let asked = terminal.ask(&format!("Name of the holder of card {number} (Enter for none): "));
                holders.push(asked.map_err(|failure| stop.failed(failure))?);
            }
        }
        let agreed = terminal.agrees("Go on with this plan? Type yes: ");
        if !agreed.map_err(|failure| stop.failed(failure))? {
            return Err(Failure::new(exit::USAGE, "the plan was not agreed to. Nothing was changed"));
        }
    }
    note(2, &format!("set {set} planned: {} cards, need {}, seed from {from}", deal.cards, deal.need));
    Ok((seed, terms(holders).planned().map_err(|error| usage(&error))?))
}

/// Step 6: the hashes into the vault record. Nothing counted before. Says whether a
/// location is owed the record.
async fn commit(
    session: &Session,
    room: &Room,
    rehearsed: &Rehearsed,
    stop: &Stop,
    note: &mut impl FnMut(u8, &str),
) -> Result<bool, Failure> {
    let Some(vault) = &room.vault else {
        note(6, "no vault yet: nothing to commit to");
        stop.committed();
        return Ok(false);
    };
    stop.commits();
    let terms = rehearsed.terms();
    let signer = rehearsed.seed().root_key(terms.generation);
    let set = rehearsed.card_set(session.world.now_ms());
    let owed = vault_ops::amend::add_card_set(vault, &signer, set).await.map_err(|error| stop.failed(error.into()))?;
    stop.committed();
    note(6, &format!("the hashes of set {} stand in the vault record", terms.set));
    session.output.say(format!("6/6 committed: the vault record knows the cards of set {}", terms.set));
    for (location, why) in &owed {
        session.output.warn(format!(
            "the new vault record is owed to {location}: {why}. It is healed by: holdfast vault repair --apply"
        ));
    }
    Ok(!owed.is_empty())
}

fn say_of_older_sets(session: &Session, room: &Room, set: u32) {
    let older: Vec<String> = room.sets().map(|older| older.number.to_string()).collect();
    if !older.is_empty() {
        session.output.warn(format!(
            "the cards of set {} still work: set {set} does not revoke them. Cards that may be in wrong hands are answered \
             by a new seed: holdfast keys rotate",
            older.join(", ")
        ));
    }
}
