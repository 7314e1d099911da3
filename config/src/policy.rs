//! Policies (what goes where and when, and how long it is kept) and drills.

use toml::Spanned;

use crate::error::{Result, Text};
use crate::raw::Word;
use crate::{Name, Schedule, Span, raw};

/// Source x vault x schedule x retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where to.
    pub vault: Name,
    /// What.
    pub source: Name,
    /// When.
    pub schedule: Schedule,
    /// Which points are kept; all of them when `None`.
    pub keep: Option<Keep>,
}

/// Which points are kept: so many of each spacing, all or one of each spacing so far
/// back from the newest, and all with certain tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the number, or the span, of points of that spacing")]
pub struct Keep {
    pub last: u32,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    pub within: Option<Span>,
    pub within_hourly: Option<Span>,
    pub within_daily: Option<Span>,
    pub within_weekly: Option<Span>,
    pub within_monthly: Option<Span>,
    pub within_yearly: Option<Span>,
    /// Points that have all tags of any of these sets.
    pub tags: Vec<Vec<String>>,
}

/// A rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// The disaster.
    pub scenario: Scenario,
    /// Locations that it takes away.
    pub drop: Vec<Name>,
    /// The vault that is restored.
    pub vault: Name,
    /// When; only by hand when `None`.
    pub schedule: Option<Schedule>,
}

/// The disasters that can be rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are what they do")]
pub enum Scenario {
    Sample,
    LocationLoss,
    BitRot,
    CatalogLoss,
    HostLoss,
    PointInTime,
    KernelProof,
    Postgres,
    Ransomware,
    Cards,
}

impl Scenario {
    const ALL: [(&'static str, Self); 10] = [
        ("sample", Self::Sample),
        ("location-loss", Self::LocationLoss),
        ("bit-rot", Self::BitRot),
        ("catalog-loss", Self::CatalogLoss),
        ("host-loss", Self::HostLoss),
        ("point-in-time", Self::PointInTime),
        ("kernel-proof", Self::KernelProof),
        ("postgres", Self::Postgres),
        ("ransomware", Self::Ransomware),
        ("cards", Self::Cards),
    ];

    /// The scenario of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, scenario)| *scenario)
    }
}

/// The names that policies and drills may use.
pub(crate) struct Names<'a> {
    pub(crate) vaults: Vec<&'a Name>,
    pub(crate) sources: Vec<&'a Name>,
}

impl Policy {
    pub(crate) fn check(text: Text<'_>, name: &Word, raw: &raw::Policy, names: &Names<'_>) -> Result<Self> {
        let key = |key: &str| format!("policy.{}.{key}", name.get_ref());
        let vault = named(text, name, &key("vault"), raw.vault.as_ref(), "vault", &names.vaults)?;
        let source = named(text, name, &key("source"), raw.source.as_ref(), "source", &names.sources)?;
        let Some(schedule) = schedule(text, &key("schedule"), raw.schedule.as_ref())? else {
            let what = "it is missing; as in schedule = \"daily\" or \"every 15m\"";
            return text.bad(&name.span(), key("schedule"), what);
        };
        let keep = raw.keep.as_ref().map(|keep| Keep::check(text, &key("keep"), keep));
        Ok(Self { vault, source, schedule, keep: keep.transpose()? })
    }
}

impl Keep {
    fn check(text: Text<'_>, key: &str, raw: &Spanned<raw::Keep>) -> Result<Self> {
        let (span, raw) = (raw.span(), raw.get_ref());
        let within =
            |field: &str, word: &Option<Word>| match word.as_ref().map(|word| (word, Span::parse(word.get_ref()))) {
                None => Ok(None),
                Some((_, Ok(span))) => Ok(Some(span)),
                Some((word, Err(what))) => text.bad(&word.span(), format!("{key}.{field}"), what),
            };
        let tags = raw.tags.iter().map(|word| match tag_set(word.get_ref()) {
            Ok(set) => Ok(set),
            Err(what) => text.bad(&word.span(), format!("{key}.tags"), what),
        });
        let keep = Self {
            last: raw.last,
            hourly: raw.hourly,
            daily: raw.daily,
            weekly: raw.weekly,
            monthly: raw.monthly,
            yearly: raw.yearly,
            within: within("within", &raw.within)?,
            within_hourly: within("within_hourly", &raw.within_hourly)?,
            within_daily: within("within_daily", &raw.within_daily)?,
            within_weekly: within("within_weekly", &raw.within_weekly)?,
            within_monthly: within("within_monthly", &raw.within_monthly)?,
            within_yearly: within("within_yearly", &raw.within_yearly)?,
            tags: tags.collect::<Result<_>>()?,
        };
        if keep == Self::default() {
            let what = "it would keep nothing; as in { daily = 14, weekly = 8 }, or remove it to keep everything";
            return text.bad(&span, key, what);
        }
        Ok(keep)
    }
}

/// Reads `release` or `release,signed`: tags a point must have all of. An empty one
/// would be every point, or none: it is refused.
pub fn tag_set(text: &str) -> std::result::Result<Vec<String>, String> {
    let set: Vec<String> = text.split(',').map(|tag| tag.trim().to_owned()).collect();
    if set.iter().any(String::is_empty) {
        return Err(format!("{text:?} has an empty tag; as in \"release\" or \"release,signed\""));
    }
    Ok(set)
}

impl Drill {
    pub(crate) fn check(
        text: Text<'_>,
        name: &Word,
        raw: &raw::Drill,
        names: &Names<'_>,
        locations_of: impl Fn(&Name) -> Vec<Name>,
    ) -> Result<Self> {
        let key = |key: &str| format!("drill.{}.{key}", name.get_ref());
        let vault = named(text, name, &key("vault"), raw.vault.as_ref(), "vault", &names.vaults)?;
        let scenario = raw.scenario.as_ref().and_then(|word| Scenario::named(word.get_ref()));
        let Some(scenario) = scenario else {
            let span = raw.scenario.as_ref().map_or(name.span(), Spanned::span);
            let known: Vec<&str> = Scenario::ALL.iter().map(|(name, _)| *name).collect();
            return text.bad(&span, key("scenario"), format!("it is one of {}", known.join(", ")));
        };
        let locations = locations_of(&vault);
        let of_vault: Vec<&Name> = locations.iter().collect();
        let drop = raw.drop.iter().map(|word| named(text, name, &key("drop"), Some(word), "location", &of_vault));
        let drop: Vec<Name> = drop.collect::<Result<_>>()?;
        if scenario == Scenario::LocationLoss && drop.is_empty() {
            let what = "name the locations that are lost: drop = [\"b2\"]";
            return text.bad(&name.span(), key("drop"), what);
        }
        Ok(Self { scenario, drop, vault, schedule: schedule(text, &key("schedule"), raw.schedule.as_ref())? })
    }
}

/// A name that must exist; the only one there is need not be written.
fn named(text: Text<'_>, section: &Word, key: &str, word: Option<&Word>, noun: &str, known: &[&Name]) -> Result<Name> {
    let all = || match known {
        [] => format!("there is no {noun} yet"),
        [only] => format!("there is {only}"),
        _ => {
            let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
            format!("there are {}", names.join(", "))
        }
    };
    match (word, known) {
        (None, [only]) if noun != "source" => Ok((*only).clone()),
        (None, _) => text.bad(&section.span(), key, format!("it is missing; {}", all())),
        (Some(word), _) => match known.iter().find(|name| name.as_str() == word.get_ref()) {
            Some(name) => Ok((*name).clone()),
            None => text.bad(&word.span(), key, format!("there is no {noun} {:?}; {}", word.get_ref(), all())),
        },
    }
}

fn schedule(text: Text<'_>, key: &str, word: Option<&Word>) -> Result<Option<Schedule>> {
    match word.map(|word| (word, Schedule::parse(word.get_ref()))) {
        None => Ok(None),
        Some((_, Ok(schedule))) => Ok(Some(schedule)),
        Some((word, Err(what))) => text.bad(&word.span(), key, what),
    }
}
