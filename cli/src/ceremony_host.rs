//! What a host looks like to somebody who is about to be shown a key.
//!
//! What always holds: what cannot be found out counts as nothing found; a ceremony is
//! not stopped by a file in /proc.

use std::fs;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use config::{Config, Scheme};
use keys::card::Card;
use keys::ceremony::gathering::{Identity, KnownCards, Standing, identify};
use keys::ceremony::preflight::Facts;
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

/// What files of a card end with.
pub(crate) const EXTENSIONS: [&str; 3] = ["txt", "html", "svg"];
/// No card's file and no page of one is longer.
const PAGE_BYTES_MAX: usize = 256 << 10;

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

/// Files of cards in the folder, and pages of them, that no vault record knows.
fn leftovers(folder: &Path, known: &[KnownCards]) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        // Regular files only: what a link or a pipe gives is not read.
        .filter(|entry| entry.metadata().is_ok_and(|found| found.is_file()))
        .filter(|entry| {
            let Ok(text) = read(&entry.path()) else { return false };
            match identify(text.expose_secret(), known).ok().filter(|_| Card::looks_like(text.expose_secret())) {
                Some(card) => was_never_committed(&card, known),
                // A page, or a file that a kill cut short: by its name, unless it is of another vault.
                None => set_of_name(&entry.file_name().to_string_lossy())
                    .is_some_and(|set| is_page_of_none(text.expose_secret(), set, known)),
            }
        })
        .map(|entry| entry.path().display().to_string())
        .collect();
    found.sort();
    found
}

/// As much of a file as any card or page has.
fn read(path: &Path) -> std::io::Result<keys::SecretText> {
    let mut bytes = Vec::with_capacity(PAGE_BYTES_MAX);
    fs::File::open(path)?.take(PAGE_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    let bytes = keys::SecretBytes::new(bytes);
    Ok(keys::SecretText::new(String::from_utf8_lossy(bytes.expose_secret()).into_owned()))
}

/// Whether no set of this number is known, and nothing in the text says that it is of
/// another vault than those at hand.
fn is_page_of_none(text: &str, set: u32, known: &[KnownCards]) -> bool {
    let is_known = known.iter().flat_map(|known| &known.sets).any(|known| known.number == set);
    let is_ours = !text.contains("key check") || known.iter().any(|known| text.contains(&known.vault.short()));
    !known.is_empty() && !is_known && is_ours
}

/// The set that a file's name says it is a card of: `card-set2-4.html`.
fn set_of_name(name: &str) -> Option<u32> {
    let (set, rest) = name.strip_prefix("card-set")?.split_once('-')?;
    let (number, extension) = rest.split_once('.')?;
    number.parse::<u8>().ok()?;
    EXTENSIONS.contains(&extension).then(|| set.parse().ok()).flatten()
}

fn was_never_committed(card: &Identity, known: &[KnownCards]) -> bool {
    let of_this_vault = || known.iter().any(|known| Some(known.vault) == card.vault);
    // A set newer than the record: this host's own look at the vault is no old record.
    let is_beyond = card.standing == Standing::Unlisted && of_this_vault();
    is_beyond || card.standing == Standing::NotHandedOut || (card.standing == Standing::Unknown && of_this_vault())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_halves_of_cards_are_named_by_their_set() {
        use vault_format::vault::CardSet;
        use vault_format::{Hash, VaultId};

        let folder = tempfile::tempdir().unwrap();
        for name in
            ["card-set1-1.txt", "card-set2-1.txt", "card-set2-1.html", "card-set2-3.svg", "card-set2-x.svg", "notes"]
        {
            fs::write(folder.path().join(name), "holdfast card\n\nvault: 3c").unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("card-set2-2.txt")).unwrap();
        let set = CardSet { number: 1, need: 1, cards: vec![Hash([1; 32])], created_ms: 0 };
        let known = KnownCards {
            vault: VaultId([0x3c; 16]),
            generation: keys::Generation(1),
            root: Hash([2; 32]),
            sets: vec![set],
        };
        let named = |known: &[KnownCards]| -> Vec<String> {
            let found = leftovers(folder.path(), known);
            found.iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
        };
        let of_two = ["card-set2-1.html", "card-set2-1.txt", "card-set2-3.svg"];
        assert_eq!(named(&[known]), of_two);
        assert!(named(&[]).is_empty());
    }

    #[test]
    fn swap_on_disk_counts_and_compressed_memory_does_not() {
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        assert!(swap(head).is_empty());
        assert_eq!(swap(&format!("{head}/dev/zram0 partition 1 0 5\n/dev/sda2 partition 9 0 -2\n")), ["/dev/sda2"]);
    }
}
