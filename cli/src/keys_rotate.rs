//! `holdfast keys rotate`: a new seed. Prints what it does and what it does not do,
//! and acts only when told to.
//!
//! What always holds: the new seed is on the disk, and was read back, before any
//! location hears of it; so is its recovery sheet, or somebody said that there is none;
//! what opens the vault before the run opens it after a run that was killed anywhere; the
//! same command finishes what was begun, with the same seed; no key file is lost on the
//! way: each is put over the old one whole.

use std::path::{Path, PathBuf};

use agent_daemon::assembly::{self, Assembled};
use clap::Args;
use config::Config;
use keys::ceremony::gathering::next_set;
use keys::files::{self, MasterSeed, ReadKey};
use keys::rotation::{Rotated, Rotation};
use keys::seed::{Generation, Seed};
use serde_json::json;
use vault_format::vault::{CardSet, KemRole};
use vault_ops::claims::cards_of;
use vault_ops::rotate;
use vault_ops::vault::Vault;

use crate::cards::seed_in_force;
use crate::exit::{self, Failure, Outcome};
use crate::passphrase::key_failure;
use crate::recovery_sheet;
use crate::rotation_files::{can_be_replaced, settle};
use crate::rotation_words::{tell_done, tell_plan};
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
    /// Write the recovery sheet of the new seed here before it comes into force: a secret, to be printed.
    #[arg(long, value_name = "FILE", requires = "apply")]
    sheet: Option<PathBuf>,
    /// Make no sheet: until the new cards are dealt, everything that is sealed from then on dies with this host.
    #[arg(long, requires = "apply", conflicts_with = "sheet")]
    i_have_no_key_copy: bool,
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
    can_be_replaced(&opened.keys)?;
    if let Some(next) = &begun {
        refuse_overtaken(&opened, next)?;
    }
    let is_known =
        opened.keys.next_record().exists() || begun.as_ref().is_some_and(|next| is_root(next, &opened.vault));
    check_copy(arguments, begun.is_some(), is_known)?;
    let next = match begun {
        Some(next) => next,
        None => begin(session, &opened, arguments).await?,
    };
    let sheet = copied(session, (&config, &name), &opened, arguments, &next).await?;
    let owed = publish(session, &opened, arguments, &next, sheet.as_ref()).await?;
    for (location, why) in &owed {
        session.output.warn(format!(
            "the new vault record is owed to {location}: {why}. It is healed by: holdfast vault repair --apply"
        ));
    }
    // As everybody sees it from now on.
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    refuse_other_root(&opened, &next)?;
    // The spool opens the vault where no location answers: under the root that is pinned next.
    if let Err(error) = vault_ops::spool::keep_records(&opened.vault).await {
        session.output.warn(format!("without locations this vault cannot be opened until the next run: {error}"));
    }
    settle(session, &opened.keys, &next, &opened.vault)?;
    if let Some(sheet) = sheet {
        name_sheet(&opened, &next, sheet).await?;
    }
    Ok(tell_done(session, &opened, next.generation, owed.len()))
}

fn is_root(master: &MasterSeed, vault: &Vault) -> bool {
    *master.seed.root_key(master.generation).verifying_key() == vault.root
}

/// The new seed in one place only would be the vault in one place only.
fn check_copy(arguments: &RotateArguments, begun: bool, is_known: bool) -> Result<(), Failure> {
    // What was signed was signed once there was a copy, or once it was said that there is none.
    if is_known || arguments.i_have_no_key_copy {
        return Ok(());
    }
    match &arguments.sheet {
        None => Err(Failure::new(
            exit::USAGE,
            "nothing was changed: once the new seed is in force everything new is sealed to it, and it would lie on this \
             host only. Say --sheet FILE, and its recovery sheet is written first: one card that is enough alone, to be \
             printed and taken off this machine. Without one: --i-have-no-key-copy",
        )),
        Some(path) if !begun && path.exists() => Err(Failure::new(
            exit::USAGE,
            format!("{} is there already; nothing was changed. Say a new file with --sheet", path.display()),
        )),
        Some(_) => Ok(()),
    }
}

/// The copy of the new seed, before any location hears of it. The set that its sheet is.
async fn copied(
    session: &Session,
    vault: (&Config, &str),
    opened: &Assembled,
    arguments: &RotateArguments,
    next: &MasterSeed,
) -> Result<Option<CardSet>, Failure> {
    if arguments.i_have_no_key_copy {
        recovery_sheet::say_none(session, &opened.keys)?;
        return Ok(None);
    }
    let Some(path) = &arguments.sheet else { return Ok(None) };
    let set = next_set(&cards_of(&opened.vault).await);
    let sheet = recovery_sheet::of_next(session, vault, path, next, set)?;
    session.output.say(format!("recovery sheet of the new seed  {}", path.display()));
    session
        .output
        .say("It was read back and is enough alone. Print it, take it off this machine, then delete the file.");
    session.output.event("sheet", json!({ "file": path.display().to_string(), "set": sheet.number }));
    Ok(Some(sheet))
}

/// A sheet that was made when the record was signed already is named in the next one.
async fn name_sheet(opened: &Assembled, next: &MasterSeed, sheet: CardSet) -> Result<(), Failure> {
    // There is a copy now; whether it was said that there is none does not matter any more.
    let _ = std::fs::remove_file(opened.keys.no_key_copy());
    if opened.vault.record.card_sets.iter().any(|set| set.cards == sheet.cards) {
        return Ok(());
    }
    let root = next.seed.root_key(next.generation);
    vault_ops::amend::add_card_set(&opened.vault, &root, sheet).await?;
    Ok(())
}

/// A rotation that somebody else finished first cannot go on.
fn refuse_overtaken(opened: &Assembled, next: &MasterSeed) -> Result<(), Failure> {
    let (vault, keys) = (&opened.vault, &opened.keys);
    let readers = vault.record.recipients.iter().filter(|key| key.role == KemRole::Reader);
    let newest = readers.map(|key| key.generation).max().unwrap_or(1);
    if is_root(next, vault) || next.generation.0 == newest + 1 {
        return Ok(());
    }
    let (seed, to) = (keys.next_seed(), keys.former_seed(next.generation));
    let was_in_force = vault.former.contains(next.seed.root_key(next.generation).verifying_key());
    let (what, kept) = if was_in_force {
        ("it was in force, and it opens what was sealed under it: keep it until that is sealed anew", to)
    } else {
        ("it was never in force, and nothing is sealed to it", seed.with_file_name("unused.seed"))
    };
    Err(Failure::new(
        exit::KEY,
        format!(
            "another rotation is in force (generation {newest}, key check {}), and {} is of generation {}: {what}. Nothing \
             was changed. Move it to {}, remove {}, and rotate again if you still want to",
            vault.root.check(),
            seed.display(),
            next.generation.0,
            kept.display(),
            keys.next_record().display()
        ),
    ))
}

/// The key files follow this rotation and no other.
fn refuse_other_root(opened: &Assembled, next: &MasterSeed) -> Result<(), Failure> {
    if is_root(next, &opened.vault) {
        return Ok(());
    }
    Err(Failure::new(
        exit::KEY,
        format!(
            "the root in force now (key check {}) is not the one this rotation brought ({}): another host rotates at the \
             same time. No key file of this host was changed, and {} stays. Find out which rotation was meant, then run \
             the same command again",
            opened.vault.root.check(),
            next.seed.root_key(next.generation).verifying_key().check(),
            opened.keys.next_seed().display()
        ),
    ))
}

/// Draws the seed that follows, and writes it down.
async fn begin(session: &Session, opened: &Assembled, arguments: &RotateArguments) -> Result<MasterSeed, Failure> {
    let (_, generation) = old_seed(session, opened, arguments).await?;
    let next = MasterSeed {
        vault: opened.vault.id,
        generation: Generation(generation.0 + 1),
        seed: Seed::random(&mut session.world.rng()),
    };
    session.create_key_as(&opened.keys.next_seed(), &next, &opened.keys.master_seed())?;
    session.key(&opened.keys.next_seed())
}

async fn old_seed(
    session: &Session,
    opened: &Assembled,
    arguments: &RotateArguments,
) -> Result<(Seed, Generation), Failure> {
    seed_in_force(session, &arguments.cards, opened).await?.ok_or_else(|| {
        Failure::new(
            exit::KEY,
            "the old key signs for the new one, and its seed is not on this host: bring its cards with --card FILE..",
        )
    })
}

/// Brings the new root into force, or completes what an earlier run began.
async fn publish(
    session: &Session,
    opened: &Assembled,
    arguments: &RotateArguments,
    next: &MasterSeed,
    sheet: Option<&CardSet>,
) -> Result<vault_ops::issue::Owed, Failure> {
    let (vault, path) = (&opened.vault, opened.keys.next_record());
    let kept = std::fs::read(&path).ok().and_then(|bytes| vault_format::decode::<Rotated>("rotation", &bytes).ok());
    // What is shown somewhere already is what must stand everywhere.
    let kept = kept.filter(|kept| {
        kept.record.0 == vault.record_bytes
            || rotate::record_of(kept).is_ok_and(|record| record.previous == vault.record_hash)
    });
    let rotated = match kept {
        Some(kept) => kept,
        None if is_root(next, vault) => Rotated {
            certificates: vault.record.operators.clone(),
            revocations: Vec::new(),
            record: vault_format::Blob(vault.record_bytes.clone()),
        },
        None => sign(session, opened, arguments, next, sheet).await?,
    };
    let root = next.seed.root_key(next.generation);
    let rotated = match rotate::raised(vault, &rotated, &root).await? {
        None => rotated,
        Some(raised) => {
            keep(&path, &raised)?;
            session.output.warn(
                "another vault record has the number of this rotation's: it was written while a location that shows this \
                 one was away. The rotation takes the next number; what the other record changed (a card set, an \
                 operator) does not count and is to be done again",
            );
            raised
        }
    };
    check_opens(next, &rotated)?;
    Ok(rotate::publish(vault, &rotated).await?)
}

/// Signs, and keeps what was signed: a run that goes on writes the same bytes.
async fn sign(
    session: &Session,
    opened: &Assembled,
    arguments: &RotateArguments,
    next: &MasterSeed,
    sheet: Option<&CardSet>,
) -> Result<Rotated, Failure> {
    let (seed, generation) = old_seed(session, opened, arguments).await?;
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
    let mut rotated = rotation.sign(&mut session.world.rng()).map_err(key_failure)?;
    if let Some(sheet) = sheet {
        let root = next.seed.root_key(next.generation);
        rotated = rotate::resigned(vault, &rotated, &root, |record| record.card_sets.push(sheet.clone()))?;
    }
    keep(&opened.keys.next_record(), &rotated)?;
    Ok(rotated)
}

fn keep(path: &Path, rotated: &Rotated) -> Result<(), Failure> {
    files::replace_public(path, &vault_format::encode(rotated)).map_err(key_failure)
}

/// The new seed must open every generation the record names, before anybody seals to it.
fn check_opens(next: &MasterSeed, rotated: &Rotated) -> Result<(), Failure> {
    let record = rotate::record_of(rotated)?;
    let mut read = ReadKey::from_seed(&next.seed, next.generation, next.vault);
    read.learn(&record.key_history).map_err(key_failure)?;
    let has = |id: &vault_format::RecipientId| read.reader(id).is_some() || read.janitor(id).is_some();
    let ids = record.recipients.iter().map(|key| keys::RecipientPublic::from_slice(&key.public.0).map(|key| key.id()));
    for id in ids {
        if !has(&id.map_err(key_failure)?) {
            return Err(Failure::new(
                exit::KEY,
                "the new seed does not open every older generation; nothing was changed. Report this, and keep the old cards",
            ));
        }
    }
    Ok(())
}
