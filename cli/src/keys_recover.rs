//! `holdfast keys recover`: the seed from cards, one at a time, and a read key from it.
//!
//! What always holds: the seed is never printed or written; a card that is not counted
//! moves no counter; nothing but cards is needed, and with the vault record at hand
//! (from the configuration's locations, or those of `--from`) a bad card is named when
//! it comes.

use std::path::{Path, PathBuf};

use keys::Generation;
use keys::ceremony::gathering::KnownCards;
use keys::files::ReadKey;
use serde_json::json;
use vault_format::VaultId;
use vault_ops::adopt::layout_names;
use vault_ops::vault::{Expected, Vault};

use crate::arguments::Reach;
use crate::cards;
use crate::exit::{self, Failure, Outcome};
use crate::given::given_candidates;
use crate::session::Session;

pub(crate) async fn run(session: &Session, files: &[PathBuf], out: &Path, from: &[String], reach: &Reach) -> Outcome {
    refuse_occupied(out)?;
    let known = cards::at_hand(session, from, reach).await?;
    let brought = cards::brought(session, files, known.clone())?;
    let (generation, vault) = (brought.generation, brought.vault);
    let key = brought.read_key();
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

/// Before people type a hundred words.
fn refuse_occupied(out: &Path) -> Result<(), Failure> {
    if !out.exists() {
        return Ok(());
    }
    let text = format!("{} exists already and is not overwritten. Name another file with --out", out.display());
    Err(Failure::new(exit::KEY, text))
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
