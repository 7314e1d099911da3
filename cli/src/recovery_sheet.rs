//! The recovery sheet: one SLIP-39 card that is enough alone, with all a person needs who
//! has nothing else, as text and as a page to print. And what is said where nobody wants one.
//!
//! What always holds: the sheet is read back from its file and gives the seed before it
//! counts; it is created for its owner alone and never overwrites; its card's hash stands
//! in the vault record.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use backends::disk::{RealDisk, place_file};
use config::Config;
use keys::card::{self, Card, SplitPlan};
use keys::ceremony::gathering::next_set;
use keys::files::MasterSeed;
use keys::first::KeyFolder;
use keys::hand::Hand;
use keys::page::{PageFormat, page_with};
use keys::{KeysError, SecretText};
use serde_json::json;
use vault_format::vault::CardSet;
use vault_ops::claims::cards_of;

use crate::arguments::CopyOfKey;
use crate::exit::{self, Failure, Outcome};
use crate::output::time_text;
use crate::passphrase::key_failure;
use crate::session::{Session, lease};

/// What is wrong with where the sheet is to go, before there is a vault.
pub(crate) fn check(copy: &CopyOfKey) -> Result<(), Failure> {
    let paper = copy.sheet.clone().map(|path| Paper { path, page: copy.page });
    paper.map_or(Ok(()), |paper| paper.beside().map(drop))
}

/// What became of the new key's copy, for the summary.
pub(crate) async fn after_init(
    session: &Session,
    config: &Config,
    name: &str,
    copy: &CopyOfKey,
) -> Result<&'static str, Failure> {
    let folder = assembly::key_folder(config, name)?;
    if copy.i_have_no_key_copy {
        say_none(session, &folder)?;
        return Ok("none");
    }
    let path = match &copy.sheet {
        Some(path) => Some(path.clone()),
        None if std::io::stdin().is_terminal() && !session.output.is_json() => ask_where()?,
        None => None,
    };
    let Some(path) = path else {
        session.output.warn(
            "no recovery sheet was made: the key is on this host only. Make one: holdfast keys sheet FILE, and print it",
        );
        return Ok("not made");
    };
    make(session, config, name, &Paper { path, page: copy.page }).await?;
    Ok("sheet")
}

/// Where a sheet is written.
pub(crate) struct Paper {
    /// The text.
    pub(crate) path: PathBuf,
    /// A page to print beside it.
    pub(crate) page: Option<PageFormat>,
}

impl Paper {
    /// The page beside the text, by its name; refused where it would be the text itself, or
    /// where something is there.
    fn beside(&self) -> Result<Option<(PathBuf, PageFormat)>, Failure> {
        let Some(format) = self.page else { return Ok(None) };
        let path = self.path.with_extension(format.extension());
        let why = if path == self.path {
            "is the name of its page; name the sheet otherwise, as in sheet.txt"
        } else if path.exists() {
            "exists already and is not overwritten; name the sheet otherwise"
        } else {
            return Ok(Some((path, format)));
        };
        Err(Failure::new(exit::USAGE, format!("{} {why}. Nothing was changed", path.display())))
    }
}

/// `holdfast keys sheet FILE`
pub(crate) async fn run(session: &Session, paper: Paper) -> Outcome {
    let (config, name) = session.vault_name()?;
    // It changes the vault record as a ceremony does.
    let _lease = lease(&assembly::state_paths(&config, &name), "keys sheet")?;
    make(session, &config, &name, &paper).await?;
    session.output.summary(exit::OK, json!({ "vault": name, "sheet": paper.path.display().to_string() }));
    Ok(exit::OK)
}

fn ask_where() -> Result<Option<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::new(exit::ERROR, error.to_string());
    print!("file for the recovery sheet, to be printed (a new one; empty: none now): ");
    std::io::stdout().flush().map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    let line = line.trim();
    Ok((!line.is_empty()).then(|| PathBuf::from(line)))
}

/// The word of whoever made the vault, or its newest seed, kept beside its keys: `vault
/// status` repeats it.
pub(crate) fn say_none(session: &Session, folder: &KeyFolder) -> Result<(), Failure> {
    let path = folder.no_key_copy();
    if path.exists() {
        // It was said of an earlier seed, and holds as it stands.
        return Ok(());
    }
    let text = format!(
        "{}: made with --i-have-no-key-copy. There is no copy of the vault key but the files of this folder.\n",
        time_text(session.world.now_ms())
    );
    let written = std::path::absolute(&path).and_then(|path| place_file(&RealDisk, &path, text.as_bytes()));
    written.map_err(|error| Failure::new(exit::ERROR, format!("writing {}: {error}", path.display())))
}

async fn make(session: &Session, config: &Config, name: &str, paper: &Paper) -> Result<(), Failure> {
    let (path, page) = (paper.path.as_path(), paper.beside()?);
    let folder = assembly::key_folder(config, name)?;
    let master: MasterSeed = session.key(&folder.master_seed()).map_err(|failure| {
        let text =
            format!("{}. A sheet is made from the seed; a seed that was dealt is only on its cards", failure.text);
        Failure { text, ..failure }
    })?;
    let opened = assembly::open_vault(config, name, session.world.clone()).await?;
    let set = next_set(&cards_of(&opened.vault).await);
    let (hashes, card) = write(session, (config, name), path, &master, set)?;
    if let Some((path, format)) = &page {
        let page = page_with(&card, &format!("recovery sheet of {name}"), &lines(config, name), *format);
        keys::files::create_text(path, &page).map_err(key_failure)?;
    }
    let root = master.seed.root_key(master.generation);
    let owed = vault_ops::amend::add_card_set(&opened.vault, &root, hashes).await.map_err(|error| {
        let failure = Failure::from(error);
        let text =
            format!("{} holds a good sheet, and the vault record does not know it: {}", path.display(), failure.text);
        Failure { text, ..failure }
    })?;
    for (location, why) in &owed {
        session.output.warn(format!(
            "the vault record that knows the sheet is owed to {location}: {why}. It is healed by: holdfast vault repair --apply"
        ));
    }
    // There is a copy now; whether it was said that there is none does not matter any more.
    let _ = std::fs::remove_file(folder.no_key_copy());
    let output = session.output;
    for path in [Some(path), page.as_ref().map(|(path, _)| path.as_path())].into_iter().flatten() {
        output.say(format!("recovery sheet  {}", path.display()));
    }
    output.say("It was read back and gives the key. Print it, keep it where this host is not, then delete the file:");
    output.say("whoever has it and reaches a location reads every backup.");
    let page = page.map(|(path, _)| path.display().to_string());
    output.event("sheet", json!({ "file": path.display().to_string(), "page": page, "set": set }));
    Ok(())
}

/// Deals one card that is enough alone to a new file, and reads it back. The set it is,
/// and the card.
fn write(
    session: &Session,
    (config, name): (&Config, &str),
    path: &Path,
    master: &MasterSeed,
    set: u32,
) -> Result<(CardSet, Card), Failure> {
    let plan = SplitPlan { vault: master.vault, generation: master.generation, set, need: 1, total: 1 };
    let cards =
        card::split(&master.seed, &plan, &mut session.world.rng()).map_err(|error| key_failure(error.into()))?;
    let card = cards.into_iter().next().ok_or_else(|| Failure::new(exit::ERROR, "no card was dealt"))?;
    keys::files::create_text(path, &text(config, name, &card)).map_err(key_failure)?;
    read_back(path, master)?;
    let set = CardSet { number: set, need: 1, cards: vec![card.hash()], created_ms: session.world.now_ms() };
    Ok((set, card))
}

/// The sheet of a seed that is not in force yet: a new file, or the one that a run which
/// was killed wrote.
pub(crate) fn of_next(
    session: &Session,
    (config, name): (&Config, &str),
    path: &Path,
    next: &MasterSeed,
    set: u32,
) -> Result<CardSet, Failure> {
    if !path.exists() {
        return write(session, (config, name), path, next, set).map(|(set, _)| set);
    }
    let other = |_| {
        let text = format!(
            "{} is there already and is not the sheet of the new seed; nothing was written to a location. Say another \
             file with --sheet",
            path.display()
        );
        Failure::new(exit::USAGE, text)
    };
    read_back(path, next).map_err(other)?;
    let text = std::fs::read_to_string(path).map(SecretText::new);
    let text = text.map_err(|error| Failure::new(exit::ERROR, format!("reading {}: {error}", path.display())))?;
    let card = Card::parse(text.expose_secret()).map_err(|error| key_failure(error.into()))?;
    let number = card.head().set;
    Ok(CardSet { number, need: 1, cards: vec![card.hash()], created_ms: session.world.now_ms() })
}

/// The sheet: lines of `#` for people, and a card as every tool here reads it.
fn text(config: &Config, name: &str, card: &Card) -> SecretText {
    let card = card.to_text();
    let lines = lines(config, name);
    let room: usize = lines.iter().map(|line| line.len() + 3).sum();
    let mut text = String::with_capacity(1024 + room + card.expose_secret().len());
    let title = format!("holdfast recovery sheet of the vault \"{name}\"");
    for line in [title, String::new()].iter().chain(&lines) {
        // Into memory that was reserved.
        let _ = writeln!(text, "# {line}");
    }
    text.push_str("# Typed from paper: everything from the line \"holdfast card\" on.\n# \n");
    text.push_str(card.expose_secret());
    SecretText::new(text)
}

/// What a person needs to know who has nothing else: where the vault lies, and what to do.
fn lines(config: &Config, name: &str) -> Vec<String> {
    let locations = config.vaults.get(name).into_iter().flat_map(|vault| config.locations_of(vault));
    let places = locations.map(|(name, location)| {
        let endpoint = location.endpoint.as_ref().map(|endpoint| format!(", endpoint {endpoint}")).unwrap_or_default();
        format!("  {name}: {}{endpoint}", location.url)
    });
    let before = [
        "Secret. Whoever has these words and reaches a location of the vault reads every backup.",
        "Print it, keep it where the host is not, delete the file.",
        "",
        "The vault lies at:",
    ];
    let after = [
        "",
        "To restore on any machine, from enough of these locations (or folders copied from them):",
        "  holdfast vault restore --from LOCATION.. --card THIS-FILE --to FOLDER",
        "where THIS-FILE is the text of this sheet, what its QR code holds, or the card typed from",
        "paper. The words are a SLIP-39 share that is enough alone; other tools for such words give",
        "the same key.",
        "",
    ];
    before.map(str::to_owned).into_iter().chain(places).chain(after.map(str::to_owned)).collect()
}

fn read_back(path: &Path, master: &MasterSeed) -> Result<(), Failure> {
    let useless = |why: String| {
        let text =
            format!("the sheet in {} does not give the key back ({why}): delete it, and make another", path.display());
        Failure::new(exit::ERROR, text)
    };
    let text = std::fs::read_to_string(path).map(SecretText::new).map_err(|error| useless(error.to_string()))?;
    let mut hand = Hand::new();
    hand.add_text(text.expose_secret()).map_err(|error| useless(error.to_string()))?;
    let recovered = hand.recover().map_err(|error| useless(KeysError::from(error).to_string()))?;
    if recovered.seed.expose_secret() == master.seed.expose_secret() {
        Ok(())
    } else {
        Err(useless("it gives another".to_owned()))
    }
}
