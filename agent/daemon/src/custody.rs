//! Custody: where copies of a vault's key are, as far as this host can know.
//!
//! What always holds: a key on the host that is backed up is a risk, whatever else there
//! is: that copy dies with the host, and a thief has it. Cards and sheets are known from
//! the vault record, where their hashes stand; that somebody still has them is not known.

use keys::first::KeyFolder;
use vault_format::vault::VaultRecord;

/// What is known of a vault's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Custody {
    /// A master seed is a file here: the one in force, a next or a former one.
    pub seed_here: bool,
    /// The read key is.
    pub read_key_here: bool,
    /// Recovery sheets: sets of one card.
    pub sheets: usize,
    /// Sets of several cards.
    pub card_sets: usize,
    /// It was said that there is no copy.
    pub said_none: bool,
}

impl Custody {
    /// Looks at the key folder and the vault record.
    pub fn of(folder: &KeyFolder, record: &VaultRecord) -> Self {
        let sheets = record.card_sets.iter().filter(|set| set.need == 1).count();
        Self {
            seed_here: !folder.seeds_here().is_empty(),
            read_key_here: folder.read_key().exists(),
            sheets,
            card_sets: record.card_sets.len() - sheets,
            said_none: folder.no_key_copy().exists(),
        }
    }

    /// Whether a thief of this host can read, and its loss may lose the key.
    pub fn key_here(self) -> bool {
        self.seed_here || self.read_key_here
    }

    /// What can be lost by it, and what to do.
    pub fn risks(self) -> Vec<String> {
        let mut risks = Vec::new();
        if self.key_here() {
            let made = match (self.sheets, self.card_sets) {
                (0, 0) => "",
                (_, 0) => " (a sheet was made)",
                (_, _) => " (cards were dealt)",
            };
            risks.push(format!("{KEY_HERE}{made}"));
        }
        if self.said_none && self.sheets + self.card_sets == 0 {
            risks.push(
                "there is no copy of the vault key elsewhere, as was said when the vault was made: if this host dies, no \
                 backup can be read any more. Make one: holdfast keys sheet FILE"
                    .to_owned(),
            );
        }
        risks
    }
}

/// What is said as long as the key is on the host.
pub const KEY_HERE: &str = "The vault key lies on this host: it dies with it, and a thief can read. Print the recovery \
                            sheet, then: holdfast keys split";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_here_is_a_risk_whatever_else_there_is() {
        let none = Custody { seed_here: false, read_key_here: false, sheets: 0, card_sets: 0, said_none: false };
        assert!(none.risks().is_empty() && !none.key_here());
        for (sheets, card_sets) in [(0, 0), (1, 0), (1, 1)] {
            for (seed_here, read_key_here) in [(true, false), (false, true), (true, true)] {
                let here = Custody { seed_here, read_key_here, sheets, card_sets, said_none: false };
                assert!(here.key_here() && here.risks().len() == 1 && here.risks()[0].starts_with(KEY_HERE));
            }
        }
        let said = Custody { said_none: true, seed_here: true, ..none };
        assert_eq!(said.risks().len(), 2);
        assert_eq!(Custody { sheets: 1, ..said }.risks().len(), 1, "there is a copy by now");
    }
}
