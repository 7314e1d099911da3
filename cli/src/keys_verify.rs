//! `holdfast keys verify-card` and `keys verify-transcript`: is this paper still good?
//!
//! What always holds: what could not be checked is said; one card tells nothing of the
//! seed, so "good" means that it reads, and that the vault record knows it.

use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use keys::SecretText;
use keys::ceremony::gathering::{Identity, KnownCards, Standing, identify};
use keys::ceremony::transcript::{self, TRANSCRIPT_BYTES_MAX};
use keys::files::VaultPublic;
use serde_json::json;

use crate::arguments::Reach;
use crate::card_checks;
use crate::cards::{self, at_hand};
use crate::ceremony_stop::Stop;
use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure, Outcome};
use crate::session::Session;

pub(crate) async fn card(session: &Session, card: Option<&Path>, from: &[String], reach: &Reach) -> Outcome {
    let known = at_hand(session, from, reach).await?;
    let text = text_of(session, card)?;
    let found = identify(text.expose_secret(), &known)
        .map_err(|error| Failure::new(exit::CARDS, format!("this card is not good: {error}")))?;
    let output = session.output;
    let set = found.set.map(|set| format!(" of set {set}")).unwrap_or_default();
    let vault = found.vault.map(|vault| format!(", vault {}", vault.short())).unwrap_or_default();
    output.say(format!("card {}{set}{vault}: the words read and their checksum holds", found.number));
    let (standing, exit) = match found.standing {
        Standing::Current => {
            output.say(format!(
                "the vault record knows it; its set is the newest, any {} cards of it are enough",
                found.need
            ));
            ("current", exit::OK)
        }
        Standing::Superseded => {
            output
                .warn("the vault record knows it, in a set that is not the newest: it still counts among its own set");
            ("superseded", exit::OK)
        }
        Standing::Former => {
            let generation = found.generation.map(|generation| format!(" (generation {})", generation.0));
            output.warn(format!(
                "it is a card of the former key{}: with its own set it opens what was sealed before the rotation, and \
                 nothing that was sealed since",
                generation.unwrap_or_default()
            ));
            ("former", exit::WARNINGS)
        }
        Standing::Unlisted => {
            output.warn(
                "no vault record at hand knows this card. A record may be older than the card: name more locations with \
                 --from. If all of them show the same, the card is forged, of another vault, or of a ceremony that was \
                 never committed",
            );
            ("unlisted", exit::WARNINGS)
        }
        Standing::NotHandedOut => {
            return Err(Failure::new(
                exit::CARDS,
                "the vault record knows no such card: it is altered, forged, or of a ceremony that was never committed. It \
                 will not be counted; the other holders should check theirs",
            ));
        }
        Standing::Elsewhere => {
            output.warn("the vault records at hand are of another vault: whether this card counts was not checked");
            ("elsewhere", exit::WARNINGS)
        }
        Standing::Unknown => {
            output.warn(
                "no vault record with cards is at hand: whether this card was handed out, and whether its set is the newest, \
                 was not checked. Name a location of the vault with --from",
            );
            ("unchecked", exit::WARNINGS)
        }
    };
    date(session, &found, &known)?;
    output.say("Not checked: the other cards. A set is proven by keys recover, or by a drill.");
    output.summary(exit, json!({ "card": found.number, "set": found.set, "standing": standing }));
    Ok(exit)
}

/// Notes when a card of this host's vault was checked, and says how its set stands.
fn date(session: &Session, found: &Identity, known: &[KnownCards]) -> Result<(), Failure> {
    // Cards of another vault that --from named are none of this host's.
    if let (Standing::Current | Standing::Superseded, Some(set), Ok((config, name))) =
        (found.standing, found.set, session.vault_name())
        && let Ok(public) = keys::files::load::<VaultPublic>(&assembly::key_folder(&config, &name)?.public())
        && found.vault == Some(public.vault)
    {
        let state = assembly::state_paths(&config, &name);
        card_checks::note(&state, set, [found.number], session.world.now_ms())
            .unwrap_or_else(|error| session.output.warn(format!("the date of this check was not kept: {error}")));
        let checks = card_checks::read(&state);
        let ours =
            known.iter().filter(|known| found.vault == Some(known.vault) && found.generation == Some(known.generation));
        for set in ours.flat_map(|known| &known.sets).filter(|known| known.number == set) {
            session.output.say(card_checks::set_text(set, &checks, session.world.now_ms()));
        }
    }
    Ok(())
}

/// The card's text, from its file or typed.
fn text_of(session: &Session, card: Option<&Path>) -> Result<SecretText, Failure> {
    match (card, Terminal::at_hand(session.output)) {
        (Some(path), _) => cards::text_of(path),
        (None, Some(terminal)) => {
            let stop = Stop::watch_typing(session.output);
            let typed = terminal.private(|| {
                terminal.say("Type the words of the card: four letters of each are enough; an empty line stops.");
                terminal.card()
            });
            let typed = typed.map_err(|failure| stop.failed(failure))?;
            typed.ok_or_else(|| Failure::new(exit::CARDS, "no card was typed"))
        }
        (None, None) => {
            Err(Failure::new(exit::CARDS, "no card was given and there is no terminal to type it: name its file"))
        }
    }
}

pub(crate) fn transcript(session: &Session, path: &Path, public: Option<PathBuf>) -> Outcome {
    let public = match public {
        Some(path) => path,
        None => {
            let (config, name) = session.vault_name()?;
            assembly::key_folder(&config, &name)?.public()
        }
    };
    let public: VaultPublic = keys::files::load(&public).map_err(|error| Failure::new(exit::KEY, error.to_string()))?;
    let reading = |error: std::io::Error| Failure::new(exit::USAGE, format!("reading {}: {error}", path.display()));
    if std::fs::metadata(path).map_err(reading)?.len() > TRANSCRIPT_BYTES_MAX {
        return Err(Failure::new(exit::USAGE, format!("{} is too long for a transcript", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(reading)?;
    let said = transcript::verify(&text, &public.root)
        .map_err(|fault| Failure::new(exit::DAMAGE, format!("{}: {fault}", path.display())))?;
    session.output.say(format!(
        "{}: signed by the root of vault {} (key check {}); set {}, {} cards",
        path.display(),
        said.vault.short(),
        public.root.check(),
        said.set,
        said.cards.len()
    ));
    session.output.say("Not checked: the initials on the paper, which are ink.");
    session.output.summary(exit::OK, json!({ "set": said.set, "cards": said.cards }));
    Ok(exit::OK)
}
