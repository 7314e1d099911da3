//! Vaults: how packs are coded, and whether their locations can keep what is declared.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Result, Text};
use crate::raw::Word;
use crate::{Location, Name, SecretFrom, Upkeep, raw, size, time};

/// A vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// How many shards a pack has, and how many rebuild it.
    pub encoding: Encoding,
    /// The declared d: any so many domains may be lost.
    pub survive_domains: u8,
    /// Where this vault's public and writer keys are.
    pub keys: PathBuf,
    /// Where the passphrase of those that are sealed is.
    pub passphrase: Option<SecretFrom>,
    /// The largest pack class: leaves of 64 KiB per shard, one of 1, 4, 16, 64, 192.
    pub pack_leaves_max: u16,
    /// How long what is forgotten can be brought back; at least a day.
    pub trash: Duration,
    /// What is done to keep it whole.
    pub upkeep: Upkeep,
    /// Most bytes that wait on this host while too few locations answer.
    pub spool_max: u64,
    /// Its locations, in order of their names.
    pub locations: Vec<Name>,
}

/// Any `data` of `total` shards rebuild a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// k
    pub data: u8,
    /// n
    pub total: u8,
}

impl Encoding {
    /// The default, 5 of 9.
    pub const DEFAULT: Self = Self { data: 5, total: 9 };

    /// The encodings of which every subset of shards is tested, and plain copies.
    pub fn new(data: i64, total: i64) -> std::result::Result<Self, String> {
        const COPIES_MAX: u8 = 15;
        let numbers = (u8::try_from(data), u8::try_from(total));
        match numbers {
            (Ok(data), Ok(total)) if [(5, 9), (3, 5), (7, 15)].contains(&(data, total)) => Ok(Self { data, total }),
            (Ok(1), Ok(total)) if (1..=COPIES_MAX).contains(&total) => Ok(Self { data: 1, total }),
            _ => Err(format!(
                "{data} of {total} is not offered; use 5 of 9, 3 of 5, 7 of 15, or data = 1 with total = 1 to {COPIES_MAX} for plain copies"
            )),
        }
    }

    /// The most shards that the worst `lost` of `domains` domains hold when spread evenly,
    /// which is the best there is.
    fn worst_loss(self, domains: u8, lost: u8) -> u8 {
        let (each, more) = (self.total / domains, self.total % domains);
        let lost = lost.min(domains);
        lost * each + lost.min(more)
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// 64 leaves are 4 MiB per shard; the largest class is by configuration only.
const PACK_LEAVES_MAX: u16 = 64;
const PACK_CLASSES: [u16; 5] = [1, 4, 16, 64, 192];
const TRASH: Duration = Duration::from_hours(7 * 24);
const SPOOL_MAX: u64 = 10 << 30;
/// Less than this holds no point worth keeping: one pack of the usual class has 20 MiB.
const SPOOL_MIN: u64 = 64 << 20;
const TRASH_MIN: Duration = Duration::from_hours(24);

impl Vault {
    pub(crate) fn check(
        text: Text<'_>,
        name: &Word,
        raw: &raw::Vault,
        keys: PathBuf,
        locations: Vec<Name>,
        all: &BTreeMap<Name, Location>,
    ) -> Result<Self> {
        let key = |key: &str| format!("vault.{}.{key}", name.get_ref());
        let encoding = match &raw.encoding {
            None => Encoding::DEFAULT,
            Some(spanned) => {
                let raw::Encoding { data, total } = *spanned.get_ref();
                match Encoding::new(data, total) {
                    Ok(encoding) => encoding,
                    Err(what) => return text.bad(&spanned.span(), key("encoding"), what),
                }
            }
        };
        let pack_leaves_max = match &raw.pack_leaves_max {
            None => PACK_LEAVES_MAX,
            Some(leaves) => match u16::try_from(*leaves.get_ref()) {
                Ok(class) if PACK_CLASSES.contains(&class) => class,
                _ => {
                    let what = "it is one of 1, 4, 16, 64, 192 (leaves of 64 KiB per shard)";
                    return text.bad(&leaves.span(), key("pack_leaves_max"), what);
                }
            },
        };
        let trash = match &raw.trash {
            None => TRASH,
            Some(word) => match time::duration(word.get_ref()) {
                Ok(trash) if trash >= TRASH_MIN => trash,
                Ok(_) => {
                    let what = "at least 24 hours: it is the time to notice a mistake";
                    return text.bad(&word.span(), key("trash"), what);
                }
                Err(what) => return text.bad(&word.span(), key("trash"), what),
            },
        };
        let spool_max = match &raw.spool_max {
            None => SPOOL_MAX,
            Some(word) => match size::size(word.get_ref()) {
                Ok(bytes) if bytes >= SPOOL_MIN => bytes,
                Ok(_) => return text.bad(&word.span(), key("spool_max"), "at least 64MiB: a few packs must fit"),
                Err(what) => return text.bad(&word.span(), key("spool_max"), what),
            },
        };
        let survive_domains = check_survival(text, name, raw, encoding, &locations, all)?;
        let upkeep = Upkeep::check(text, name, raw)?;
        let passphrase = raw.passphrase.as_ref();
        let passphrase = passphrase.map(|value| SecretFrom::check(text, &key("passphrase"), value)).transpose()?;
        Ok(Self { encoding, survive_domains, keys, passphrase, pack_leaves_max, trash, upkeep, spool_max, locations })
    }
}

/// Whether the domains there are can lose what is declared, at all.
fn check_survival(
    text: Text<'_>,
    name: &Word,
    raw: &raw::Vault,
    encoding: Encoding,
    locations: &[Name],
    all: &BTreeMap<Name, Location>,
) -> Result<u8> {
    let Encoding { data, total } = encoding;
    let key = format!("vault.{}.survive_domains", name.get_ref());
    let span = raw.survive_domains.as_ref().map_or(name.span(), toml::Spanned::span);
    let declared = raw.survive_domains.as_ref().map_or(1, |d| *d.get_ref());
    let Ok(lost) = u8::try_from(declared) else {
        return text.bad(&span, key, "it is the number of domains that may be lost: 0, 1, 2");
    };
    let mut domains: Vec<&str> = locations.iter().map(|l| all[l].domain.as_str()).collect();
    domains.sort_unstable();
    domains.dedup();
    // More domains than shards do not spread them any further.
    let count = u8::try_from(domains.len()).unwrap_or(u8::MAX).min(total);
    if count == 0 {
        let key = format!("vault.{}", name.get_ref());
        return text.bad(&name.span(), key, "it has no location; add at least one [location.NAME] with url and domain");
    }
    let left = total - encoding.worst_loss(count, lost);
    if lost > 0 && left < data {
        let what = format!(
            "losing {lost} of {} ({}) can leave {left} of {total} shards, and {data} are needed; add locations in other domains, or set survive_domains = {}",
            plural(domains.len(), "domain"),
            domains.join(", "),
            (0..lost).rev().find(|d| *d == 0 || total - encoding.worst_loss(count, *d) >= data).unwrap_or(0),
        );
        return text.bad(&span, key, what);
    }
    Ok(lost)
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to spread n shards over D domains, the slow way.
    fn best_survivors(total: u8, domains: u8, lost: u8) -> u8 {
        fn spread(total: u8, domains: u8, most: u8) -> Vec<Vec<u8>> {
            if domains == 0 {
                return if total == 0 { vec![vec![]] } else { vec![] };
            }
            (0..=most.min(total))
                .flat_map(|first| {
                    spread(total - first, domains - 1, first).into_iter().map(move |mut rest| {
                        rest.insert(0, first);
                        rest
                    })
                })
                .collect()
        }
        // Each is in falling order, so the worst loss is the first ones.
        let survivors = |counts: &Vec<u8>| counts.iter().skip(lost as usize).sum();
        spread(total, domains, total).iter().map(survivors).max().unwrap()
    }

    #[test]
    fn spreading_evenly_is_the_best_there_is() {
        for (data, total) in [(5, 9), (3, 5), (1, 3), (1, 1)] {
            let encoding = Encoding::new(data, total).unwrap();
            for domains in 1..=encoding.total.min(6) {
                for lost in 0..=domains {
                    let left = encoding.total - encoding.worst_loss(domains, lost);
                    let best = best_survivors(encoding.total, domains, lost);
                    assert_eq!(left, best, "{encoding:?} {domains} {lost}");
                }
            }
        }
    }

    #[test]
    fn encodings() {
        assert!(Encoding::new(5, 9).is_ok() && Encoding::new(1, 3).is_ok());
        for (data, total) in [(4, 6), (9, 5), (0, 9), (1, 0), (1, 16), (-5, 9), (5, 265)] {
            assert!(Encoding::new(data, total).is_err(), "{data} of {total}");
        }
    }
}
