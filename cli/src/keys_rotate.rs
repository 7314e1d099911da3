//! `holdfast keys rotate`: a new seed. Prints what it does and what it does not do,
//! and acts only when told to.
//!
//! What always holds: the new seed is on the disk, and was read back, before any
//! location hears of it; what opens the vault before the run opens it after a run that
//! was killed anywhere; the same command finishes what was begun, with the same seed;
//! no key file is lost on the way: each is put over the old one whole.

use std::path::{Path, PathBuf};

use agent_daemon::assembly::{self, Assembled};
use clap::Args;
use keys::files::{self, JanitorGeneration, JanitorKey, MasterSeed, OperatorKey, ReadKey, VaultPublic, WriterKey};
use keys::first::KeyFolder;
use keys::rotation::{Rotated, Rotation};
use keys::seed::{Generation, Seed};
use serde_json::json;
use vault_ops::rotate;
use vault_ops::vault::Vault;

use crate::exit::{self, Failure, Outcome};
use crate::keys_issue::seed_at_hand;
use crate::session::{Session, lease};

/// `holdfast keys rotate ..`
#[derive(Args, Debug)]
pub(crate) struct RotateArguments {
    /// A card file of the seed in force [default: the seed itself, if it is on this host].
    #[arg(long = "card", value_name = "FILE")]
    cards: Vec<PathBuf>,
    /// Only say what would be done (the default).
    #[arg(long, conflicts_with = "apply")]
    plan: bool,
    /// Do it.
    #[arg(long)]
    apply: bool,
}

fn key_failure(error: &keys::KeysError) -> Failure {
    Failure::new(exit::KEY, error.to_string())
}

fn io_failure(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(exit::ERROR, format!("{what} {}: {error}", path.display()))
}

pub(crate) async fn run(session: &Session, arguments: &RotateArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "keys rotate")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let begun: Option<MasterSeed> =
        if opened.keys.next_seed().exists() { Some(session.key(&opened.keys.next_seed())?) } else { None };
    if !arguments.apply {
        return Ok(tell_plan(session, &opened, begun.is_some()));
    }
    let next = match begun {
        Some(next) => next,
        None => begin(session, &opened, arguments)?,
    };
    let owed = publish(session, &opened, arguments, &next).await?;
    for (location, why) in &owed {
        session.output.warn(format!(
            "the new vault record is owed to {location}: {why}. It is healed by: holdfast vault repair --apply"
        ));
    }
    // As everybody sees it from now on.
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    // The spool opens the vault where no location answers: under the root that is pinned next.
    if let Err(error) = vault_ops::spool::keep_records(&opened.vault).await {
        session.output.warn(format!("without locations this vault cannot be opened until the next run: {error}"));
    }
    settle(session, &opened.keys, &next, &opened.vault)?;
    Ok(tell_done(session, &opened, next.generation, owed.len()))
}

/// Draws the seed that follows, and writes it down.
fn begin(session: &Session, opened: &Assembled, arguments: &RotateArguments) -> Result<MasterSeed, Failure> {
    let (_, generation) = seed_in_force(session, opened, arguments)?;
    let next = MasterSeed {
        vault: opened.vault.id,
        generation: Generation(generation.0 + 1),
        seed: Seed::random(&mut session.world.rng()),
    };
    files::create(&opened.keys.next_seed(), &next).map_err(|error| key_failure(&error))?;
    session.key(&opened.keys.next_seed())
}

fn seed_in_force(
    session: &Session,
    opened: &Assembled,
    arguments: &RotateArguments,
) -> Result<(Seed, Generation), Failure> {
    let Some((seed, generation)) = seed_at_hand(session, &arguments.cards, &opened.keys)? else {
        return Err(Failure::new(
            exit::KEY,
            "the old key signs for the new one, and its seed is not on this host: bring its cards with --card FILE..",
        ));
    };
    if *seed.root_key(generation).verifying_key() != opened.vault.root {
        return Err(Failure::new(
            exit::KEY,
            format!(
                "this is not the seed in force (key check {}); nothing was changed. Bring the cards of the newest \
                 generation",
                opened.vault.root.check()
            ),
        ));
    }
    Ok((seed, generation))
}

/// Brings the new root into force, or completes what an earlier run began.
async fn publish(
    session: &Session,
    opened: &Assembled,
    arguments: &RotateArguments,
    next: &MasterSeed,
) -> Result<vault_ops::issue::Owed, Failure> {
    let (vault, path) = (&opened.vault, opened.keys.next_record());
    let is_in_force = *next.seed.root_key(next.generation).verifying_key() == vault.root;
    let kept = std::fs::read(&path).ok().and_then(|bytes| vault_format::decode::<Rotated>("rotation", &bytes).ok());
    // What is shown somewhere already is what must stand everywhere.
    let kept = kept.filter(|kept| {
        kept.record.0 == vault.record_bytes
            || rotate::record_of(kept).is_ok_and(|record| record.previous == vault.record_hash)
    });
    let rotated = match kept {
        Some(kept) => kept,
        None if is_in_force => Rotated {
            certificates: vault.record.operators.clone(),
            revocations: Vec::new(),
            record: vault_format::Blob(vault.record_bytes.clone()),
        },
        None => sign(session, opened, arguments, next)?,
    };
    check_opens(next, &rotated)?;
    Ok(rotate::publish(vault, &rotated).await?)
}

/// Signs, and keeps what was signed: a run that goes on writes the same bytes.
fn sign(
    session: &Session,
    opened: &Assembled,
    arguments: &RotateArguments,
    next: &MasterSeed,
) -> Result<Rotated, Failure> {
    let (seed, generation) = seed_in_force(session, opened, arguments)?;
    let vault = &opened.vault;
    let rotation = Rotation {
        vault: vault.id,
        old: &seed,
        generation,
        new: &next.seed,
        record: &vault.record,
        record_hash: vault.record_hash,
        revocations: &vault.revocations,
        now_ms: session.world.now_ms(),
    };
    let rotated = rotation.sign(&mut session.world.rng()).map_err(|error| key_failure(&error))?;
    let path = opened.keys.next_record();
    files::replace_public(&path, &vault_format::encode(&rotated)).map_err(|error| key_failure(&error))?;
    Ok(rotated)
}

/// The new seed must open every generation the record names, before anybody seals to it.
fn check_opens(next: &MasterSeed, rotated: &Rotated) -> Result<(), Failure> {
    let record = rotate::record_of(rotated)?;
    let mut read = ReadKey::from_seed(&next.seed, next.generation, next.vault);
    read.learn(&record.key_history).map_err(|error| key_failure(&error))?;
    let has = |id: &vault_format::RecipientId| read.reader(id).is_some() || read.janitor(id).is_some();
    let ids = record.recipients.iter().map(|key| keys::RecipientPublic::from_slice(&key.public.0).map(|key| key.id()));
    for id in ids {
        if !has(&id.map_err(|error| key_failure(&error))?) {
            return Err(Failure::new(
                exit::KEY,
                "the new seed does not open every older generation; nothing was changed. Report this, and keep the old cards",
            ));
        }
    }
    Ok(())
}

/// The key files of this host follow, each whole; the seeds last.
fn settle(session: &Session, folder: &KeyFolder, next: &MasterSeed, vault: &Vault) -> Result<(), Failure> {
    let fail = |error: keys::KeysError| key_failure(&error);
    if folder.writer_key().exists() {
        let mut key: WriterKey = session.key(&folder.writer_key())?;
        if vault.follow(&mut key)? {
            session.replace_key(&folder.writer_key(), &key)?;
        }
    }
    if folder.operator_key().exists() {
        let mut key: OperatorKey = session.key(&folder.operator_key())?;
        if vault.follow_operator(&mut key)? {
            session.replace_key(&folder.operator_key(), &key)?;
        }
    }
    if folder.janitor_key().exists() {
        let mut key: JanitorKey = session.key(&folder.janitor_key())?;
        let new = JanitorGeneration { generation: next.generation, janitor: next.seed.janitor_key(next.generation) };
        if key.follow(&vault.root, &vault.record, new).map_err(fail)? {
            session.replace_key(&folder.janitor_key(), &key)?;
        }
    }
    if folder.read_key().exists() {
        let there: ReadKey = session.key(&folder.read_key())?;
        if there.root != vault.root {
            let mut key = ReadKey::from_seed(&next.seed, next.generation, next.vault);
            vault.complete(&mut key)?;
            session.replace_key(&folder.read_key(), &key)?;
        }
    }
    let public = VaultPublic { vault: vault.id, root: vault.root.clone() };
    files::replace(&folder.public(), &public, None).map_err(fail)?;
    if folder.master_seed().exists() {
        let old: MasterSeed = session.key(&folder.master_seed())?;
        if old.generation < next.generation {
            rename(&folder.master_seed(), &folder.former_seed(old.generation))?;
        }
    }
    match std::fs::remove_file(folder.next_record()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io_failure("removing", &folder.next_record(), &error));
        }
        Ok(()) | Err(_) => {}
    }
    // Last: as long as it is there, the next run goes on with this rotation.
    if folder.next_seed().exists() {
        rename(&folder.next_seed(), &folder.master_seed())?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    let renamed = std::fs::rename(from, to).and_then(|()| {
        let folder = to.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    });
    renamed.map_err(|error| io_failure("renaming", from, &error))
}

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

fn tell_plan(session: &Session, opened: &Assembled, begun: bool) -> u8 {
    let output = session.output;
    if begun {
        output.warn("a rotation was begun and is not finished: --apply goes on with the same new seed");
    }
    output.say(format!("A new seed follows the one in force (key check {}).", opened.vault.root.check()));
    REVOKED.iter().chain(&NOT_REVOKED).for_each(|line| output.say(line));
    output
        .say("The new seed opens everything, old packs too. It will lie in the key folder until keys split deals it.");
    output.say("Nothing was changed. Do it with: holdfast keys rotate --apply (with the old cards: --card FILE..)");
    let exit = if begun { exit::WARNINGS } else { exit::OK };
    output.summary(exit, json!({ "begun": begun, "applied": false }));
    exit
}

fn tell_done(session: &Session, opened: &Assembled, generation: Generation, owed: usize) -> u8 {
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
    output.warn(
        "AT RISK: the new seed lies on this host only, and dies with it. Deal it now:  holdfast keys split --cards 5 \
         --need 3 --cards-dir DIR --remove-seed",
    );
    output.summary(
        exit::WARNINGS,
        json!({ "generation": generation.0, "key_check": opened.vault.root.check().to_string(), "owed": owed,
                "applied": true }),
    );
    exit::WARNINGS
}
