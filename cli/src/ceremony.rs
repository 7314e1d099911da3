//! `holdfast keys split` and `keys reshare`: the ceremony, with people at a terminal or
//! with files.
//!
//! What always holds: what may be committed comes out of [`keys::ceremony`] alone; the
//! vault hears of the new set in the last step, so that whoever is interrupted before it
//! finds everything as it was; card files that are left are named by whoever stops, or,
//! after a kill, by the next ceremony in the same folder.

use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use config::Config;
use keys::ceremony::gathering::{KnownCards, next_set};
use keys::ceremony::transcript::Transcript;
use keys::ceremony::{Dealt, Planned, Rehearsal, Rehearsed, Terms};
use keys::files::{MasterSeed, VaultPublic};
use keys::first::KeyFolder;
use keys::page::{PageFormat, page};
use keys::signature::KeyCheck;
use keys::{Generation, Seed};
use serde_json::json;
use vault_format::suite::Coding;
use vault_format::vault::CardSet;
use vault_format::{Hash, VaultId};
use vault_ops::OpsError;
use vault_ops::canary::{self, Cage};
use vault_ops::claims::cards_of;
use vault_ops::lease::Lease;
use vault_ops::placement::write_quorum;
use vault_ops::vault::{StatePaths, Vault};

use crate::card_checks;
use crate::cards::{self, Brought};
use crate::ceremony_end;
use crate::ceremony_host;
use crate::ceremony_stop::Stop;
use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure, Outcome};
use crate::output::time_text;
use crate::session::{Session, host_name, lease};

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

/// Where it is held: what this host has of the vault.
struct Room {
    folder: KeyFolder,
    config: Option<(Config, String)>,
    vault: Option<Vault>,
    /// Newest generation first.
    known: Vec<KnownCards>,
    terminal: Option<Terminal>,
    /// No other command changes the vault record from this host meanwhile.
    _lease: Option<Lease>,
}

impl Room {
    async fn enter(session: &Session, deal: &Deal) -> Result<Self, Failure> {
        let terminal = Terminal::at_hand(session.output).filter(|_| deal.cards_dir.is_none());
        if let Some(folder) = &deal.keys_dir {
            let folder = KeyFolder(folder.clone());
            return Ok(Self { folder, config: None, vault: None, known: Vec::new(), terminal, _lease: None });
        }
        let (config, name) = session.vault_name()?;
        let folder = assembly::key_folder(&config, &name)?;
        let lease = lease(&assembly::state_paths(&config, &name), &format!("keys {}", deal.kind))?;
        let vault = match assembly::open_vault(&config, &name, session.world.clone()).await {
            Ok(opened) => Some(opened.vault),
            Err(vault_ops::OpsError::NoVault { .. }) => None,
            // Without its public key a vault cannot be opened, and there is no seed to deal either.
            Err(error) => return Err(error.into()),
        };
        let known = match &vault {
            Some(vault) => cards_of(vault).await,
            None => Vec::new(),
        };
        Ok(Self { folder, config: Some((config, name)), vault, known, terminal, _lease: Some(lease) })
    }

    fn state(&self) -> Option<StatePaths> {
        self.config.as_ref().map(|(config, name)| assembly::state_paths(config, name))
    }

    /// Fingerprint of the root that the seed must have.
    fn root(&self) -> Option<Hash> {
        let public = || keys::files::load::<VaultPublic>(&self.folder.public()).ok();
        let in_force = self.vault.as_ref().map(|vault| vault.root.fingerprint());
        in_force.or_else(|| public().map(|public| public.root.fingerprint()))
    }

    /// Sets of the seed in force.
    fn sets(&self) -> impl Iterator<Item = &CardSet> {
        self.known.iter().filter(|known| Some(known.root) == self.root()).flat_map(|known| &known.sets)
    }
}

/// The seed, and where it came from.
struct Origin {
    seed: Seed,
    generation: Generation,
    vault: VaultId,
    from: String,
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

fn file_name(set: u32, number: u8, extension: &str) -> String {
    format!("card-set{set}-{number}.{extension}")
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

/// The seed from its file, or from a quorum of cards where it is gone.
fn origin(session: &Session, deal: &Deal, room: &Room) -> Result<Origin, Failure> {
    let file = room.folder.master_seed();
    if deal.from.is_empty() && (file.exists() || room.terminal.is_none()) {
        let master: MasterSeed = session.key(&file).map_err(|error| {
            Failure::new(
                exit::KEY,
                format!(
                    "{}. A seed that was dealt and removed is only on its cards: bring enough of them with --card FILE..",
                    error.text
                ),
            )
        })?;
        let MasterSeed { vault, generation, seed } = master;
        return checked(room, Origin { seed, generation, vault, from: file.display().to_string() });
    }
    if deal.from.is_empty() {
        session.output.say("The seed is not on this host: bring enough cards of a set that was dealt before.");
    }
    let Brought { seed, generation, vault } = cards::brought(session, &deal.from, room.known.clone())?;
    checked(room, Origin { seed, generation, vault, from: "cards".to_owned() })
}

/// A seed of another vault or an older generation must not be dealt here.
fn checked(room: &Room, origin: Origin) -> Result<Origin, Failure> {
    let found = origin.seed.root_key(origin.generation).fingerprint();
    match room.root() {
        Some(wanted) if wanted != found => Err(Failure::new(
            exit::KEY,
            format!(
                "this seed has the key check {}, the vault's is {}: it is another vault's, or older than the newest rotation. \
                 Nothing was changed",
                KeyCheck::of(&found),
                KeyCheck::of(&wanted)
            ),
        )),
        Some(_) | None => Ok(origin),
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

fn called(terms: &Terms, number: u8) -> String {
    let holder = &terms.holders[usize::from(number - 1)];
    let dash = if holder.is_empty() { "" } else { " for " };
    format!("card {number} of {}{dash}{holder}", terms.total)
}

/// Steps 3 and 4 with people: one holder at a time writes a card down and types it back.
fn hand_out(terminal: Terminal, mut dealt: Dealt, note: &mut impl FnMut(u8, &str)) -> Result<Dealt, Failure> {
    for number in 1..=dealt.terms().total {
        let called = called(dealt.terms(), number);
        terminal.say(format!("3/6 {called}"));
        terminal.ask("  Only its holder may see the screen now. Press Enter: ")?;
        terminal.private(|| {
            show(terminal, &dealt, number)?;
            loop {
                terminal.say(format!("{called}: type the words back from the paper. Four letters of each are enough."));
                terminal.say("Enter alone shows the card again.");
                let Some(text) = terminal.card()? else {
                    show(terminal, &dealt, number)?;
                    continue;
                };
                match dealt.read_back(number, text.expose_secret()) {
                    Ok(()) => return Ok(()),
                    Err(fault) => terminal.say(format!("  not right: {fault}. Mend the paper and type it once more.")),
                }
            }
        })?;
        terminal.say(format!("4/6 {called}: read back, ok"));
        note(3, &format!("{called} shown to its holder and written down"));
        note(4, &format!("{called} typed back, every word right"));
    }
    Ok(dealt)
}

/// The card, until Enter is pressed.
fn show(terminal: Terminal, dealt: &Dealt, number: u8) -> Result<(), Failure> {
    terminal.show(&dealt.cards()[usize::from(number - 1)].to_text());
    terminal.ask("Write down everything above, with the numbers. Then press Enter; the screen is cleared: ")?;
    terminal.say("\x1b[2J\x1b[H");
    Ok(())
}

/// Steps 3 and 4 with files: each card written, and read back from the disk.
fn to_files(
    session: &Session,
    deal: &Deal,
    folder: &Path,
    mut dealt: Dealt,
    stop: &Stop,
    note: &mut impl FnMut(u8, &str),
) -> Result<(Dealt, Vec<PathBuf>), Failure> {
    let failed = |error: keys::KeysError| Failure::new(exit::ERROR, error.to_string());
    let terms = dealt.terms().clone();
    let there: Vec<String> = (1..=terms.total)
        .flat_map(|number| {
            ceremony_host::EXTENSIONS.map(|extension| folder.join(file_name(terms.set, number, extension)))
        })
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() {
        let text = format!(
            "{} exists already and is not overwritten: a ceremony that was interrupted may have left it. Its words still \
             are a share of the key: destroy it with shred -u, or choose another folder. Nothing was changed",
            there.join(", ")
        );
        return Err(Failure::new(exit::ERROR, text));
    }
    keys::files::create_folder(folder).map_err(failed)?;
    let mut paths = Vec::new();
    for (card, number) in dealt.cards().iter().zip(1..) {
        let path = folder.join(file_name(terms.set, number, "txt"));
        stop.leaves(&path);
        keys::files::create_card(&path, card).map_err(|error| stop.failed(failed(error)))?;
        paths.push(path);
        if let Some(format) = deal.page {
            let path = folder.join(file_name(terms.set, number, format.extension()));
            stop.leaves(&path);
            let page = page(card, &terms.holders[usize::from(number - 1)], format);
            keys::files::create_text(&path, &page).map_err(|error| stop.failed(failed(error)))?;
            paths.push(path);
        }
        note(3, &format!("{} written to a file", called(&terms, number)));
    }
    for number in 1..=terms.total {
        let path = folder.join(file_name(terms.set, number, "txt"));
        let text = std::fs::read_to_string(&path).map(keys::SecretText::new).map_err(|error| {
            stop.failed(Failure::new(exit::ERROR, format!("reading {} back: {error}", path.display())))
        })?;
        dealt.read_back(number, text.expose_secret()).map_err(|fault| {
            stop.failed(Failure::new(exit::ERROR, format!("{} did not come back as written: {fault}", path.display())))
        })?;
        note(4, &format!("{} read back from its file", called(&terms, number)));
    }
    session.output.say(format!("3/6 {} cards written   4/6 every card read back", terms.total));
    Ok((dealt, paths))
}

/// Step 5.
async fn rehearse(
    session: &Session,
    room: &Room,
    dealt: Dealt,
    stop: &Stop,
    note: &mut impl FnMut(u8, &str),
) -> Result<Rehearsed, Failure> {
    let refused = |error: keys::CardError| {
        stop.failed(Failure::new(exit::ERROR, format!("{error}. The new cards are useless: destroy them")))
    };
    let rehearsal = dealt.rehearse().map_err(refused)?;
    let sung = sing(session, room, &rehearsal, stop).await.map_err(|failure| stop.failed(failure))?;
    let (total, need) = sung.shards;
    let said = format!(
        "the read-back cards gave the seed; a canary pack was sealed into {total} shards and opened from {need} with its \
         read key"
    );
    session.output.say(format!("5/6 rehearsed: {said}"));
    note(5, &said);
    if let Some(vault) = &room.vault {
        let terms = rehearsal.terms();
        let mut read = keys::files::ReadKey::from_seed(rehearsal.seed(), terms.generation, terms.vault);
        // After a rotation the newest point may be of a generation before.
        vault.complete(&mut read).map_err(|error| stop.failed(error.into()))?;
        match canary::open_newest(vault, std::sync::Arc::new(read)).await {
            Ok(None) => note(5, "the vault holds no point yet"),
            Ok(Some(point)) => {
                let said = format!("the newest stored point, {}, was opened", vault_ops::points::point_text(point));
                session.output.say(format!("    {said}"));
                note(5, &said);
            }
            Err(error @ OpsError::Key { .. }) => return Err(stop.failed(error.into())),
            Err(error) => {
                session.output.warn(format!("the newest stored point was not opened in the rehearsal: {error}"));
                note(5, &format!("the newest stored point was not opened: {error}"));
            }
        }
    }
    rehearsal.opened(&sung.sealed, &sung.opened).map_err(refused)
}

/// The canary, in a folder of its own that is removed again.
async fn sing(session: &Session, room: &Room, rehearsal: &Rehearsal, stop: &Stop) -> Result<canary::Sung, Failure> {
    let Terms { vault, generation, .. } = *rehearsal.terms();
    let (reader, coding) = match &room.vault {
        Some(opened) => (canary::reader_of(opened, generation)?, opened.coding),
        None => {
            let coding = Coding::new(5, 9).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
            (rehearsal.seed().reader_key(generation).public().clone(), coding)
        }
    };
    let folder = std::env::temp_dir().join(format!("holdfast-canary-{}-{}", std::process::id(), rehearsal.terms().set));
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(exit::ERROR, format!("the canary could not be written to {}: {error}", folder.display()))
    };
    std::fs::create_dir(&folder).map_err(|error| failed(&error))?;
    stop.litters(&folder);
    let place = crate::given::one_folder(&folder).await;
    let sung = match &place {
        Ok(place) => {
            let cage = Cage { vault, coding, reader: &reader };
            canary::sing(&session.world, &cage, (rehearsal.seed(), generation), place).await.map_err(Failure::from)
        }
        Err(failure) => Err(failed(&failure.text)),
    };
    let removed = std::fs::remove_dir_all(&folder);
    let sung = sung?;
    removed.map_err(|error| failed(&error))?;
    stop.cleaned();
    Ok(sung)
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
