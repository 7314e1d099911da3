//! Cards that people bring, as files or typed: what every command does with them that
//! takes cards.
//!
//! What always holds: a card that is not counted moves no counter; cards are judged by
//! all vault records at hand, so that a false one is named when it comes; where no record
//! is at hand it is said that only the words speak; no seed and no word is printed.

use std::path::{Path, PathBuf};

use agent_daemon::assembly::{self, Assembled};
use keys::SecretText;
use keys::ceremony::gathering::{Gathering, KnownCards};
use keys::files::{MasterSeed, ReadKey};
use keys::hand::{Confirmation, Recovered};
use keys::seed::{Generation, Seed};
use vault_format::VaultId;
use vault_ops::claims::{cards_of, claims};
use vault_ops::vault::Candidate;

use crate::arguments::Reach;
use crate::ceremony_stop::Stop;
use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure};
use crate::given::given_candidates;
use crate::session::Session;

/// What vault records say of cards: from the locations given, else from the
/// configuration's vault, else nothing.
pub(crate) async fn at_hand(session: &Session, from: &[String], reach: &Reach) -> Result<Vec<KnownCards>, Failure> {
    if from.is_empty() && reach.locations.is_none() {
        let Ok((config, name)) = session.vault_name() else { return Ok(Vec::new()) };
        return Ok(match assembly::open_vault(&config, &name, session.world.clone()).await {
            Ok(opened) => cards_of(&opened.vault).await,
            Err(error) => {
                session.output.warn(format!("the vault record is not at hand: {error}"));
                Vec::new()
            }
        });
    }
    Ok(claimed(session, &given_candidates(from, reach).await?).await)
}

/// Likewise, from these locations.
pub(crate) async fn claimed(session: &Session, candidates: &[Candidate]) -> Vec<KnownCards> {
    let (known, silent) = claims(candidates).await;
    for (name, why) in &silent {
        session.output.warn(format!("{name} does not answer: {why}"));
    }
    known
}

/// A seed whose generation and vault are known.
pub(crate) struct Brought {
    pub(crate) seed: Seed,
    pub(crate) generation: Generation,
    pub(crate) vault: VaultId,
}

impl Brought {
    /// The read key it gives, written nowhere.
    pub(crate) fn read_key(&self) -> ReadKey {
        ReadKey::from_seed(&self.seed, self.generation, self.vault)
    }
}

/// The seed from card files, or from cards that are typed now where none are given.
pub(crate) fn brought(session: &Session, cards: &[PathBuf], known: Vec<KnownCards>) -> Result<Brought, Failure> {
    let Recovered { seed, generation, vault, .. } = recovered(session, cards, known)?;
    match (generation, vault) {
        (Some(generation), Some(vault)) => Ok(Brought { seed, generation, vault }),
        (None, _) | (_, None) => Err(Failure::new(
            exit::KEY,
            "these are bare words: they carry no vault id. Use the whole card text, at least of one card, or name a location \
             of the vault with --from",
        )),
    }
}

/// The seed in force of an open vault, from cards or from its key folder; `None` if it is
/// at neither. Another seed is refused.
pub(crate) async fn seed_in_force(
    session: &Session,
    cards: &[PathBuf],
    opened: &Assembled,
) -> Result<Option<(Seed, Generation)>, Failure> {
    let (seed, generation) = if !cards.is_empty() {
        let brought = brought(session, cards, cards_of(&opened.vault).await)?;
        (brought.seed, brought.generation)
    } else if opened.keys.master_seed().exists() {
        let master: MasterSeed = session.key(&opened.keys.master_seed())?;
        (master.seed, master.generation)
    } else {
        return Ok(None);
    };
    if *seed.root_key(generation).verifying_key() == opened.vault.root {
        return Ok(Some((seed, generation)));
    }
    let text = format!(
        "this is not the seed in force (key check {}); nothing was changed. Bring the cards of the newest generation",
        opened.vault.root.check()
    );
    Err(Failure::new(exit::KEY, text))
}

/// The seed from card files, or typed.
fn recovered(session: &Session, cards: &[PathBuf], known: Vec<KnownCards>) -> Result<Recovered, Failure> {
    let mut gathering = Gathering::new(known);
    let recovered = if cards.is_empty() {
        let Some(terminal) = Terminal::at_hand(session.output) else {
            return Err(Failure::new(
                exit::CARDS,
                "no cards were given and there is no terminal to type them: use --card FILE..",
            ));
        };
        say_what_speaks(session, &gathering);
        let stop = Stop::watch_typing(session.output);
        typed(terminal, &mut gathering).map_err(|failure| stop.failed(failure))?
    } else {
        say_what_speaks(session, &gathering);
        from_files(session, cards, &mut gathering)?
    };
    for number in &recovered.unfit {
        session.output.warn(format!("card {number} does not belong to this key: it is forged or damaged"));
    }
    if let (Some(set), Some(newest)) = (gathering.set(), gathering.newest_set())
        && set < newest
    {
        session.output.warn(format!("these are cards of set {set}; the newest is set {newest}. Both open the vault"));
    }
    if recovered.confirmed <= Confirmation::Digest {
        session.output.say("bare words: the digest inside them agrees; which vault they are of, they do not say");
    }
    Ok(recovered)
}

/// Without a record less can be said, and people should know.
fn say_what_speaks(session: &Session, gathering: &Gathering) {
    if !gathering.knows_cards() {
        session.output.say(
            "no vault record is at hand: only the words' checksums and the digest speak, and one bad card among enough \
             cannot be named",
        );
    }
}

/// The text of a card in a file.
pub(crate) fn text_of(path: &Path) -> Result<SecretText, Failure> {
    std::fs::read_to_string(path)
        .map(SecretText::new)
        .map_err(|error| Failure::new(exit::USAGE, format!("reading the card {}: {error}", path.display())))
}

fn from_files(session: &Session, cards: &[PathBuf], gathering: &mut Gathering) -> Result<Recovered, Failure> {
    let mut problems = Vec::new();
    for path in cards {
        let text = text_of(path)?;
        match gathering.add(text.expose_secret()) {
            Ok(counted) => {
                let set = counted.set.map(|set| format!(" set {set}")).unwrap_or_default();
                let (have, need) = (counted.progress.have, counted.progress.need);
                let (number, remark) = (counted.number, counted.remark());
                session.output.say(format!("card {have}/{need}  #{number}{set}  ok  {}{remark}", path.display()));
            }
            Err(refused) => {
                let next = gathering.progress();
                let at = format!("card {}/{}", (next.have + 1).min(next.need), next.need);
                session.output.warn(format!("{at}  {refused}  {}", path.display()));
                problems.push(format!("{}: {refused}", path.display()));
            }
        }
    }
    let progress = gathering.progress();
    if progress.have < progress.need {
        return Err(too_few(gathering, &problems));
    }
    gathering.recover().map_err(|error| Failure::new(exit::CARDS, error.to_string()))
}

/// One card after the other, each on a screen of its own, until there are enough that
/// fit together.
fn typed(terminal: Terminal, gathering: &mut Gathering) -> Result<Recovered, Failure> {
    terminal.say("Type the words of each card: four letters of each are enough, lines as you like.");
    loop {
        let progress = gathering.progress();
        let at = if progress.have == 0 {
            "card 1".to_owned()
        } else {
            format!("card {}/{}", progress.have + 1, progress.need.max(progress.have + 1))
        };
        let answer =
            terminal.ask(&format!("{at}: only its holder may see the screen now. Press Enter (or type stop): "))?;
        if answer.eq_ignore_ascii_case("stop") {
            return Err(too_few(gathering, &[]));
        }
        let text = terminal.private(|| {
            terminal.say(format!("{at}: its words; an empty line stops"));
            terminal.card()
        })?;
        let Some(text) = text else { return Err(too_few(gathering, &[])) };
        match gathering.add(text.expose_secret()) {
            Ok(counted) => {
                let set = counted.set.map(|set| format!(" set {set}")).unwrap_or_default();
                let (have, need) = (counted.progress.have, counted.progress.need);
                terminal.say(format!("card {have}/{need}  #{}{set}  ok{}", counted.number, counted.remark()));
            }
            Err(refused) => {
                terminal.say(format!("{at}  {refused}"));
                continue;
            }
        }
        let progress = gathering.progress();
        if progress.have < progress.need {
            continue;
        }
        match gathering.recover() {
            Ok(recovered) => return Ok(recovered),
            Err(error) => terminal.say(format!("{error}. One more card of the set may tell which one is wrong")),
        }
    }
}

/// With the cards that were not counted, and why.
fn too_few(gathering: &Gathering, problems: &[String]) -> Failure {
    let progress = gathering.progress();
    let problems = if problems.is_empty() { String::new() } else { format!(" Not counted: {}.", problems.join("; ")) };
    let text = format!(
        "{} good cards of the {} needed.{problems} Bring more cards of the same set",
        progress.have, progress.need
    );
    Failure::new(exit::CARDS, text)
}
