//! Upkeep of a vault: how often its locations are challenged, read and mended.

use std::time::Duration;

use toml::Spanned;

use crate::error::{Result, Text};
use crate::raw::Word;
use crate::{raw, size, time};

/// What is done to keep a vault whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// What an audit may cost; by default as many samples as find 1 % with 99 %.
    pub audit_budget: Option<AuditBudget>,
    /// From one audit of the agent to the next.
    pub audit_interval: Duration,
    /// Every shard is read once in this time.
    pub scrub_interval: Duration,
    /// Bytes a second that a scrub reads at most.
    pub scrub_bandwidth: Option<u64>,
    /// Whether the agent mends what it finds.
    pub repair: bool,
    /// From one look of the agent at what is missing to the next.
    pub repair_interval: Duration,
}

/// What an audit may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditBudget {
    /// Bytes read.
    Bytes(u64),
    /// Time taken.
    Time(Duration),
}

impl AuditBudget {
    /// Reads `2GiB` or `30m`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match (size::size(text), time::duration(text)) {
            (Ok(bytes), _) => Ok(Self::Bytes(bytes)),
            (_, Ok(time)) => Ok(Self::Time(time)),
            (Err(_), Err(_)) => Err(format!("a budget is a size or a time, as in 2GiB or 30m; {text:?} is neither")),
        }
    }
}

impl Upkeep {
    /// Audits once a day, everything read once in 90 days, repair on.
    pub const DEFAULT: Self = Self {
        audit_budget: None,
        audit_interval: Duration::from_hours(24),
        scrub_interval: Duration::from_hours(90 * 24),
        scrub_bandwidth: None,
        repair: true,
        repair_interval: Duration::from_hours(1),
    };

    pub(crate) fn check(text: Text<'_>, name: &Word, raw: &raw::Vault) -> Result<Self> {
        let key = |key: &str| format!("vault.{}.{key}", name.get_ref());
        let or = |field: &str, word: Option<&Spanned<String>>, default: Duration| match word {
            None => Ok(default),
            Some(word) => match time::duration(word.get_ref()) {
                Ok(time) => Ok(time),
                Err(what) => text.bad(&word.span(), key(field), what),
            },
        };
        let audit_budget = match &raw.audit_budget {
            None => None,
            Some(word) => match AuditBudget::parse(word.get_ref()) {
                Ok(budget) => Some(budget),
                Err(what) => return text.bad(&word.span(), key("audit_budget"), what),
            },
        };
        let scrub_bandwidth = size::limit(text, &key("scrub_bandwidth"), raw.scrub_bandwidth.as_ref())?;
        Ok(Self {
            audit_budget,
            audit_interval: or("audit_interval", raw.audit_interval.as_ref(), Self::DEFAULT.audit_interval)?,
            scrub_interval: or("scrub_interval", raw.scrub_interval.as_ref(), Self::DEFAULT.scrub_interval)?,
            scrub_bandwidth,
            repair: raw.repair.unwrap_or(Self::DEFAULT.repair),
            repair_interval: or("repair_interval", raw.repair_interval.as_ref(), Self::DEFAULT.repair_interval)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        assert_eq!(AuditBudget::parse("2GiB"), Ok(AuditBudget::Bytes(2 << 30)));
        assert_eq!(AuditBudget::parse("30m"), Ok(AuditBudget::Time(Duration::from_mins(30))));
        assert!(AuditBudget::parse("much").is_err() && AuditBudget::parse("0B").is_err());
    }
}
