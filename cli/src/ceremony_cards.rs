//! Cards on their way to their holders, steps 3 and 4 of a ceremony: at a terminal, one
//! person after the other, or as files.
//!
//! What always holds: every card is read back before the next step; a file is never
//! written over, and whoever stops names those that are left.

use std::path::{Path, PathBuf};

use keys::ceremony::{Dealt, Terms};
use keys::page::page;

use crate::ceremony::Deal;
use crate::ceremony_host;
use crate::ceremony_stop::Stop;
use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure};
use crate::session::Session;

fn file_name(set: u32, number: u8, extension: &str) -> String {
    format!("card-set{set}-{number}.{extension}")
}

fn called(terms: &Terms, number: u8) -> String {
    let holder = &terms.holders[usize::from(number - 1)];
    let dash = if holder.is_empty() { "" } else { " for " };
    format!("card {number} of {}{dash}{holder}", terms.total)
}

/// Steps 3 and 4 with people: one holder at a time writes a card down and types it back.
pub(crate) fn hand_out(
    terminal: Terminal,
    mut dealt: Dealt,
    note: &mut impl FnMut(u8, &str),
) -> Result<Dealt, Failure> {
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
pub(crate) fn to_files(
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
