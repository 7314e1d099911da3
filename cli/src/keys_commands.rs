//! `holdfast keys ..`: the plain flow. No secret is ever printed or taken from
//! the command line.

use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use keys::card::{self, Card, SplitPlan};
use keys::files::{MasterSeed, ReadKey};
use keys::first::{FirstKeys, KeyFolder};
use keys::hand::Hand;
use serde_json::json;

use crate::exit::{self, Failure, Outcome};
use crate::session::{Session, gather, host_name, read_key_of};

/// The folder given, or the vault's.
pub(crate) fn folder(session: &Session, given: Option<PathBuf>) -> Result<KeyFolder, Failure> {
    match given {
        Some(folder) => Ok(KeyFolder(folder)),
        None => {
            let (config, name) = session.vault_name()?;
            Ok(assembly::key_folder(&config, &name)?)
        }
    }
}

pub(crate) fn init(session: &Session, keys_dir: Option<PathBuf>) -> Outcome {
    let folder = folder(session, keys_dir)?;
    FirstKeys::draw(&mut session.world.rng(), &host_name(), session.world.now_ms())
        .save(&folder)
        .map_err(|error| Failure::new(exit::KEY, error.to_string()))?;
    session.output.say(format!("New keys in {}:", folder.path().display()));
    session.output.say("  master.seed   opens and signs everything: deal it onto cards, then remove it");
    session.output.say("  read.key      restores: keep it off the hosts that are backed up");
    session.output.say("  operator.key  admits writers and locations");
    session.output.say("  janitor.key   forgets and frees space; it reads no backup: keep it where the janitor runs");
    session.output.say("  writer.key    what the agent needs; it cannot read what it wrote");
    session.output.say("  vault.pub     public: what audits and repairs need");
    session
        .output
        .say("Next:  holdfast vault init, then: holdfast keys split --cards 5 --need 3 --cards-dir DIR --remove-seed");
    session.output.summary(exit::OK, json!({ "folder": folder.path().display().to_string() }));
    Ok(exit::OK)
}

/// What `keys split` asks for.
pub(crate) struct Split {
    pub(crate) cards: u8,
    pub(crate) need: u8,
    pub(crate) cards_dir: Option<PathBuf>,
    pub(crate) remove_seed: bool,
    pub(crate) keys_dir: Option<PathBuf>,
}

/// Deals the seed; every card is read back and every quorum's worth is tried
/// before anything is removed.
pub(crate) async fn split(session: &Session, split: Split) -> Outcome {
    let folder = folder(session, split.keys_dir.clone())?;
    let master: MasterSeed = assembly::load_key(&folder.master_seed()).map_err(|error| {
        Failure::new(
            exit::KEY,
            format!(
                "{error}. A seed that was dealt and removed is only on its cards; dealing anew from cards comes later"
            ),
        )
    })?;
    let Some(cards_dir) = split.cards_dir else {
        return Err(Failure::new(
            exit::USAGE,
            "say where the card files go: --cards-dir DIR. They are secret: one per holder",
        ));
    };
    let set = next_set(session, split.keys_dir.is_none()).await?;
    let plan =
        SplitPlan { vault: master.vault, generation: master.generation, set, need: split.need, total: split.cards };
    let cards = card::split(&master.seed, &plan, &mut session.world.rng())
        .map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    let paths = write_cards(&cards_dir, &cards, set)?;
    rehearse(&paths, split.need, &master)?;
    if split.keys_dir.is_none() {
        record_set(session, &master, set, split.need, &cards).await?;
    }
    for path in &paths {
        session.output.say(format!("card  {}", path.display()));
    }
    session.output.say(format!(
        "{} cards, any {} recover the key; every card was read back and the quorum rehearsed. Give each to another person.",
        split.cards, split.need
    ));
    if split.remove_seed {
        remove(&folder.master_seed())?;
        remove(&folder.read_key())?;
        session.output.say("The seed and the read key were removed from this host: it can write and no longer read.");
    } else {
        session.output.warn(
            "the seed is still on this host. Once the cards are with their holders, remove master.seed and read.key",
        );
    }
    session.output.summary(exit::OK, json!({ "cards": split.cards, "need": split.need, "set": set }));
    Ok(exit::OK)
}

/// One more than the vault's newest set; 1 where there is no vault yet.
async fn next_set(session: &Session, in_vault: bool) -> Result<u32, Failure> {
    if !in_vault {
        return Ok(1);
    }
    let (config, name) = session.vault_name()?;
    match assembly::open_vault(&config, &name, session.world.clone()).await {
        Ok(opened) => Ok(opened.vault.record.card_sets.iter().map(|set| set.number).max().unwrap_or(0) + 1),
        Err(vault_ops::OpsError::NoVault { .. }) => Ok(1),
        Err(error) => Err(error.into()),
    }
}

fn write_cards(folder: &Path, cards: &[Card], set: u32) -> Result<Vec<PathBuf>, Failure> {
    keys::files::create_folder(folder).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
    let mut paths = Vec::new();
    for card in cards {
        let path = folder.join(format!("card-set{set}-{}.txt", card.number()));
        keys::files::create_card(&path, card).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
        paths.push(path);
    }
    Ok(paths)
}

/// Reads every card back from its file and recovers the seed from two quorums:
/// the first cards and the last.
fn rehearse(paths: &[PathBuf], need: u8, master: &MasterSeed) -> Result<(), Failure> {
    let need = usize::from(need);
    for quorum in paths.windows(need) {
        let hand: Hand = gather(quorum, |_, _| {})?;
        let recovered = hand.recover().map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
        if recovered.seed.expose_secret() != master.seed.expose_secret() {
            return Err(Failure::new(
                exit::ERROR,
                "the cards do not give the seed back; they are useless, delete them",
            ));
        }
    }
    Ok(())
}

/// Writes the cards' hashes into the vault record, so that one bad card can be named.
async fn record_set(
    session: &Session,
    master: &MasterSeed,
    number: u32,
    need: u8,
    cards: &[Card],
) -> Result<(), Failure> {
    let (config, name) = session.vault_name()?;
    let opened = match assembly::open_vault(&config, &name, session.world.clone()).await {
        Ok(opened) => opened,
        Err(vault_ops::OpsError::NoVault { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let set = vault_format::vault::CardSet {
        number,
        need,
        cards: cards.iter().map(Card::hash).collect(),
        created_ms: session.world.now_ms(),
    };
    let root = master.seed.root_key(master.generation);
    vault_ops::amend::add_card_set(&opened.vault, &root, set).await?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = std::fs::remove_file(path);
    if removed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    removed.map_err(|error| {
        Failure::new(
            exit::ERROR,
            format!("removing {}: {error}. The cards are good; remove the file by hand", path.display()),
        )
    })
}

pub(crate) fn recover(session: &Session, cards: &[PathBuf], out: &Path) -> Outcome {
    let output = session.output;
    let hand = if cards.is_empty() {
        typed(session)?
    } else {
        gather(cards, |path, how| match how {
            Ok(progress) => output.say(format!("card {}: {progress}", path.display())),
            Err(why) => output.warn(format!("card {}: not counted: {why}", path.display())),
        })?
    };
    let key: ReadKey = read_key_of(hand)?;
    keys::files::create(out, &key).map_err(|error| Failure::new(exit::KEY, error.to_string()))?;
    output.say(format!(
        "key check {} ok: the read key of vault {} is in {}",
        key.root.check(),
        key.vault.short(),
        out.display()
    ));
    output.say("It reads every backup. Restore with --read-key, then delete it.");
    output.summary(exit::OK, json!({ "vault": key.vault.to_string(), "out": out.display().to_string() }));
    Ok(exit::OK)
}

/// Cards typed in, one line of words each; nothing is echoed.
fn typed(session: &Session) -> Result<Hand, Failure> {
    use std::io::IsTerminal;
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            exit::CARDS,
            "no cards were given and there is no terminal to type them: use --card FILE..",
        ));
    }
    let mut hand = Hand::new();
    loop {
        let progress = hand.progress();
        if progress.have >= progress.need {
            return Ok(hand);
        }
        let prompt = format!("words of card {} (not shown; empty line to stop): ", progress.have + 1);
        let text = rpassword::prompt_password(prompt).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
        if text.trim().is_empty() {
            let text = format!("{} good cards of the {} needed", progress.have, progress.need);
            return Err(Failure::new(exit::CARDS, text));
        }
        match hand.add_text(&text) {
            Ok(progress) => session.output.say(format!("ok, {} of {}", progress.have, progress.need)),
            Err(error) => session.output.warn(format!("not counted: {error}")),
        }
    }
}
