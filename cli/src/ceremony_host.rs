//! What a host looks like to somebody who is about to be shown a key.
//!
//! What always holds: what cannot be found out counts as nothing found; a ceremony is
//! not stopped by a file in /proc.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use config::{Config, Scheme};
use keys::card::Card;
use keys::ceremony::gathering::{Identity, KnownCards, Standing, identify};
use keys::ceremony::preflight::Facts;
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

/// No card's file is longer.
const CARD_BYTES_MAX: u64 = 64 << 10;

/// Looks. `cards` is the folder the card files go to, `known` what vault records say.
pub(crate) fn facts(cards: Option<&Path>, vault: Option<(&Config, &str)>, known: &[KnownCards]) -> Facts {
    let said = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    Facts {
        interfaces: interfaces(),
        swap: swap(&fs::read_to_string("/proc/swaps").unwrap_or_default()),
        core_dumps: core_dumps(),
        output_elsewhere: !std::io::stdout().is_terminal(),
        remote: said("SSH_CONNECTION") || said("SSH_TTY"),
        multiplexer: said("TMUX") || said("STY"),
        beside_cards: cards.zip(vault).map(|(cards, vault)| beside(cards, vault)).unwrap_or_default(),
        leftovers: cards.map(|cards| leftovers(cards, known)).unwrap_or_default(),
    }
}

fn interfaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut up: Vec<String> = entries
        .flatten()
        .filter(|entry| fs::read_to_string(entry.path().join("operstate")).is_ok_and(|state| state.trim() == "up"))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lo")
        .collect();
    up.sort();
    up
}

/// Swap areas that are a disk's: compressed memory is memory.
fn swap(text: &str) -> Vec<String> {
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| !name.starts_with("/dev/zram")).map(str::to_owned).collect()
}

/// A limit of zero does not hold where the kernel hands dumps to a program.
fn core_dumps() -> bool {
    let limited = getrlimit(Resource::Core).current == Some(0);
    let piped = fs::read_to_string("/proc/sys/kernel/core_pattern").is_ok_and(|pattern| pattern.starts_with('|'));
    let dumpable = !matches!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    dumpable && (!limited || piped)
}

/// The vault's local folders on the disk of this one.
fn beside(cards: &Path, (config, vault): (&Config, &str)) -> Vec<String> {
    let Some(device) = device(cards) else { return Vec::new() };
    let used = config.vaults.get(vault).into_iter().flat_map(|plan| &plan.locations);
    let mut names: Vec<String> = used
        .filter_map(|name| Some((name, config.locations.get(name)?)))
        .filter_map(|(name, location)| match &location.scheme {
            Scheme::File(folder) => Some((name, folder)),
            Scheme::S3 | Scheme::Google | Scheme::Azure => None,
        })
        .filter(|(_, folder)| self::device(folder.as_ref()) == Some(device))
        .map(|(name, _)| name.to_string())
        .collect();
    if names.len() > 3 {
        let more = names.len() - 3;
        names.truncate(3);
        names.push(format!("{more} more"));
    }
    names
}

/// The device of a path, or of the folder it will be made in.
fn device(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|above| fs::metadata(above).ok()).map(|found| found.dev())
}

/// Card files in the folder that no vault record knows, although one is at hand.
fn leftovers(folder: &Path, known: &[KnownCards]) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|found| found.is_file() && found.len() <= CARD_BYTES_MAX))
        .filter(|entry| {
            let text = fs::read_to_string(entry.path()).map(keys::SecretText::new);
            text.is_ok_and(|text| {
                let text = text.expose_secret();
                Card::looks_like(text) && identify(text, known).is_ok_and(|card| was_never_committed(&card, known))
            })
        })
        .map(|entry| entry.path().display().to_string())
        .collect();
    found.sort();
    found
}

fn was_never_committed(card: &Identity, known: &[KnownCards]) -> bool {
    let of_this_vault = || known.iter().any(|known| Some(known.vault) == card.vault);
    card.standing == Standing::NotHandedOut || (card.standing == Standing::Unknown && of_this_vault())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_on_disk_counts_and_compressed_memory_does_not() {
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        assert!(swap(head).is_empty());
        assert_eq!(swap(&format!("{head}/dev/zram0 partition 1 0 5\n/dev/sda2 partition 9 0 -2\n")), ["/dev/sda2"]);
    }
}
