//! `holdfast keys recover`: the seed from cards, one at a time, and a read key from it.
//!
//! What always holds: the seed is never printed or written; a card that is not counted
//! moves no counter; nothing but cards is needed, and with the vault record at hand
//! (from the configuration's locations, or those of `--from`) a bad card is named when
//! it comes.

use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use keys::Generation;
use keys::ceremony::gathering::{Gathering, KnownCards};
use keys::files::ReadKey;
use keys::hand::{Confirmation, Recovered};
use serde_json::json;
use vault_format::VaultId;
use vault_ops::adopt::layout_names;
use vault_ops::claims::{cards_of, claims};
use vault_ops::vault::{Expected, Vault};

use crate::arguments::Reach;
use crate::ceremony_stop::Stop;
use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure, Outcome};
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
    let (known, silent) = claims(&given_candidates(from, reach).await?).await;
    for (name, why) in &silent {
        session.output.warn(format!("{name} does not answer: {why}"));
    }
    Ok(known)
}

pub(crate) async fn run(session: &Session, cards: &[PathBuf], out: &Path, from: &[String], reach: &Reach) -> Outcome {
    refuse_occupied(out)?;
    let known = at_hand(session, from, reach).await?;
    let recovered = recovered(session, cards, known.clone())?;
    let (generation, vault) = whose(&recovered).ok_or_else(bare_words)?;
    let key = ReadKey::from_seed(&recovered.seed, generation, vault);
    keys::files::create(out, &key).map_err(|error| Failure::new(exit::KEY, error.to_string()))?;
    let output = session.output;
    output.say(format!(
        "key check {} ok: the read key of vault {} is in {}",
        key.root.check(),
        key.vault.short(),
        out.display()
    ));
    output.say(format!("{} Restore with --read-key, then delete it.", what_it_opens(&known, vault, generation)));
    let elsewhere = if from.is_empty() { Vec::new() } else { other_places(session, &key, from, reach).await };
    for place in &elsewhere {
        output.say(format!("the vault also lies at: {place}"));
    }
    output.summary(
        exit::OK,
        json!({ "vault": key.vault.to_string(), "generation": generation.0, "out": out.display().to_string(), "elsewhere": elsewhere }),
    );
    Ok(exit::OK)
}

/// What the key of this generation opens, as far as the records at hand tell.
fn what_it_opens(known: &[KnownCards], vault: VaultId, generation: Generation) -> String {
    let newest = known.iter().filter(|known| known.vault == vault).map(|known| known.generation).max();
    match newest {
        Some(newest) if newest > generation => format!(
            "It is the former key (generation {}; the newest is {}): it opens what was sealed before the rotation, and \
             nothing that was sealed since.",
            generation.0, newest.0
        ),
        Some(_) => "It reads every backup.".to_owned(),
        None => "It reads every backup, unless the vault's key was rotated since these cards were dealt.".to_owned(),
    }
}

/// The read key from card files, or from cards that are typed now, for one run: it is
/// written nowhere.
pub(crate) async fn in_memory(
    session: &Session,
    cards: &[PathBuf],
    from: &[String],
    reach: &Reach,
) -> Result<ReadKey, Failure> {
    let known = at_hand(session, from, reach).await?;
    let recovered = recovered(session, cards, known)?;
    let (generation, vault) = whose(&recovered).ok_or_else(bare_words)?;
    Ok(ReadKey::from_seed(&recovered.seed, generation, vault))
}

/// Before people type a hundred words.
fn refuse_occupied(out: &Path) -> Result<(), Failure> {
    if !out.exists() {
        return Ok(());
    }
    let text = format!("{} exists already and is not overwritten. Name another file with --out", out.display());
    Err(Failure::new(exit::KEY, text))
}

/// Generation and vault of a seed: from the cards, or of the record whose root it is.
fn whose(recovered: &Recovered) -> Option<(Generation, VaultId)> {
    Some((recovered.generation?, recovered.vault?))
}

pub(crate) fn bare_words() -> Failure {
    Failure::new(
        exit::KEY,
        "these are bare words: they carry no vault id. Use the whole card text, at least of one card, or name a location of \
         the vault with --from",
    )
}

/// The seed from card files, or typed.
pub(crate) fn recovered(session: &Session, cards: &[PathBuf], known: Vec<KnownCards>) -> Result<Recovered, Failure> {
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

fn from_files(session: &Session, cards: &[PathBuf], gathering: &mut Gathering) -> Result<Recovered, Failure> {
    let mut problems = Vec::new();
    for path in cards {
        let text = std::fs::read_to_string(path)
            .map(keys::SecretText::new)
            .map_err(|error| Failure::new(exit::USAGE, format!("reading the card {}: {error}", path.display())))?;
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
        let problems =
            if problems.is_empty() { String::new() } else { format!(" Not counted: {}.", problems.join("; ")) };
        return Err(Failure::new(
            exit::CARDS,
            format!(
                "{} good cards of the {} needed.{problems} Bring more cards of the same set",
                progress.have, progress.need
            ),
        ));
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
            return Err(too_few(gathering));
        }
        let text = terminal.private(|| {
            terminal.say(format!("{at}: its words; an empty line stops"));
            terminal.card()
        })?;
        let Some(text) = text else { return Err(too_few(gathering)) };
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

fn too_few(gathering: &Gathering) -> Failure {
    let progress = gathering.progress();
    let text = format!("{} good cards of the {} needed", progress.have, progress.need);
    Failure::new(exit::CARDS, text)
}

/// Locations that the layout names and nobody gave, with their addresses.
async fn other_places(session: &Session, key: &ReadKey, from: &[String], reach: &Reach) -> Vec<String> {
    let expected = Expected { vault: Some(key.vault), root: key.root.clone() };
    let Ok(candidates) = given_candidates(from, reach).await else { return Vec::new() };
    let Ok(vault) = Vault::open(session.world.clone(), &expected, candidates).await else { return Vec::new() };
    elsewhere(&vault, key)
}

/// What the layout names beside the locations that are open.
pub(crate) fn elsewhere(vault: &Vault, key: &ReadKey) -> Vec<String> {
    let Ok(names) = layout_names(vault, key) else { return Vec::new() };
    let here = |named: &vault_format::layout::LocationName| vault.location(named.location).is_some();
    let others = names.locations.iter().filter(|named| !here(named));
    others.map(|named| format!("{} {} (domain {})", named.name, named.url, named.domain)).collect()
}
