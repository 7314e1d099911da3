//! Watching heads: what each location shows of each writer's chain, against what it
//! showed before and what the others show.
//!
//! What always holds: a location that shows less than it once did, or other bytes
//! than the others, is named; what is remembered never goes back, and is written only
//! after all checks; a location that misses one write is not called a liar. One lying
//! location can withhold: this is how it is found. See docs/decisions/0016.

use std::collections::BTreeMap;

use vault_format::manifest::ManifestKind;
use vault_format::{WriterId, names};

use crate::catalog::Catalog;
use crate::error::Result;
use crate::heads::{self, Chain, Position};
use crate::location::Location;
use crate::vault::Vault;

/// A location that has been behind the others for so long did not only miss a write.
pub const FROZEN_MS: i64 = 60 * 60 * 1000;
/// A writer that sends heartbeats and has sent nothing for so long is missed.
pub const SILENT_MS: i64 = 26 * 60 * 60 * 1000;

/// What is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Odd {
    /// The location shows an older head than it once did.
    RolledBack,
    /// The location has shown nothing new for long, and others have.
    Frozen,
    /// The location shows another manifest for a place than the others.
    Forked,
    /// No location has shown anything new of a writer that lives.
    Silent,
}

impl Odd {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::RolledBack => "rolled-back",
            Self::Frozen => "frozen",
            Self::Forked => "forked",
            Self::Silent => "silent",
        }
    }
}

/// A head that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadFinding {
    /// What is odd.
    pub odd: Odd,
    /// Whose chain.
    pub writer: WriterId,
    /// The location that shows it; none if it is all of them.
    pub location: Option<String>,
    /// In words, with what to do.
    pub what: String,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// At the listings that were read anyway.
    Listings,
    /// Also at each location's copy of the newest manifest.
    Copies,
}

/// Looks at chains that were just read, and remembers what they showed.
pub async fn look(
    vault: &Vault,
    catalog: &Catalog,
    chains: &BTreeMap<WriterId, Chain>,
    close: Close,
) -> Result<Vec<HeadFinding>> {
    let mut findings = Vec::new();
    for (&writer, chain) in chains {
        let Some(head) = chain.head().map(heads::SignedManifest::position) else { continue };
        let watch = Watch { vault, catalog, writer, chain, head, now_ms: vault.world.now_ms() };
        for location in vault.locations.iter().filter(|location| !location.blank) {
            let Some(&listed) = chain.listed.get(&location.id) else { continue };
            // A name above the head that nobody could read is told as unreadable.
            let listed = listed.map(|listed| listed.min(head));
            match watch.rolled_back(location, listed)? {
                Some(finding) => findings.push(finding),
                None => findings.extend(watch.behind(location, listed)?),
            }
            if close == Close::Copies {
                findings.extend(watch.forked(location).await);
            }
        }
        findings.extend(watch.silent()?);
    }
    Ok(findings)
}

struct Watch<'a> {
    vault: &'a Vault,
    catalog: &'a Catalog,
    writer: WriterId,
    chain: &'a Chain,
    head: Position,
    now_ms: i64,
}

impl Watch<'_> {
    fn finding(&self, odd: Odd, location: Option<&Location>, what: String) -> HeadFinding {
        HeadFinding { odd, writer: self.writer, location: location.map(|location| location.name.clone()), what }
    }

    fn rolled_back(&self, location: &Location, listed: Option<Position>) -> Result<Option<HeadFinding>> {
        let Some(shown) = self.catalog.head_shown(location.id, self.writer)? else { return Ok(None) };
        if listed.is_some_and(|listed| listed >= shown.position)
            || shown.position > self.head && listed == Some(self.head)
        {
            return Ok(None);
        }
        let now = listed.map_or("no manifest".to_owned(), |at| format!("manifest {}.{} as the newest", at.0, at.1));
        let what = format!(
            "{} shows {now} of writer {}, and showed {}.{} before: it was rolled back, or hides what is newer. The other \
             locations are used; look at what happened there, then: holdfast vault repair --apply",
            location.name,
            self.writer.short(),
            shown.position.0,
            shown.position.1
        );
        Ok((shown.position > (0, 0)).then(|| self.finding(Odd::RolledBack, Some(location), what)))
    }

    fn behind(&self, location: &Location, listed: Option<Position>) -> Result<Option<HeadFinding>> {
        if let Some(listed) = listed {
            self.catalog.see_head(location.id, self.writer, listed, self.now_ms)?;
        }
        if listed == Some(self.head) {
            self.catalog.see_behind(location.id, self.writer, None)?;
            return Ok(None);
        }
        let before = self.catalog.head_shown(location.id, self.writer)?.and_then(|shown| shown.behind_ms);
        let since = before.unwrap_or(self.now_ms);
        if before.is_none() {
            self.catalog.see_behind(location.id, self.writer, Some(since))?;
        }
        let minutes = (self.now_ms - since) / 60_000;
        let newest = listed.map_or("nothing".to_owned(), |at| format!("nothing newer than {}.{}", at.0, at.1));
        let what = format!(
            "{} has shown {newest} of writer {} for {minutes} minutes, while others show {}.{}: it is frozen, or loses \
             writes: holdfast vault repair --apply",
            location.name,
            self.writer.short(),
            self.head.0,
            self.head.1
        );
        Ok((self.now_ms - since >= FROZEN_MS).then(|| self.finding(Odd::Frozen, Some(location), what)))
    }

    /// Whether this location's copy of the newest manifests is another one. Both are
    /// signed: it is of a run that was interrupted, of another image of the host, or
    /// kept by a location that shows it again.
    async fn forked(&self, location: &Location) -> Option<HeadFinding> {
        let places = self.chain.rivals.iter().map(heads::SignedManifest::position).chain([self.head]);
        for (epoch, sequence) in places.collect::<std::collections::BTreeSet<_>>().into_iter().rev() {
            let Some(counts) = self.chain.manifests.get(&(epoch, sequence)) else { continue };
            let name = names::manifest(self.writer, epoch, sequence);
            let Ok(Some(bytes)) = location.read(&name).await else { continue };
            let other = bytes != counts.bytes
                && heads::verify(self.vault, self.writer, (epoch, sequence), bytes.to_vec()).is_ok();
            if other {
                let what = format!(
                    "{} shows another manifest {epoch}.{sequence} of writer {} than the one that counts: a run was \
                     interrupted, two hosts write with one key, or the location shows again what lost its place. The \
                     points of both are listed",
                    location.name,
                    self.writer.short()
                );
                return Some(self.finding(Odd::Forked, Some(location), what));
            }
        }
        None
    }

    fn silent(&self) -> Result<Option<HeadFinding>> {
        self.catalog.see_newest(self.writer, self.head, self.now_ms)?;
        let Some((newest, at_ms)) = self.catalog.newest_head(self.writer)? else { return Ok(None) };
        let lives = self.chain.manifests.values().rev().any(|manifest| manifest.body.kind == ManifestKind::Heartbeat);
        let hours = (self.now_ms - at_ms) / 3_600_000;
        let what = format!(
            "no location has shown anything newer of writer {} than manifest {}.{} for {hours} hours, and it used to send \
             heartbeats: its host is off, or cut off, or every location that answers is frozen",
            self.writer.short(),
            newest.0,
            newest.1
        );
        let missed = lives && self.now_ms - at_ms >= SILENT_MS;
        Ok(missed.then(|| self.finding(Odd::Silent, None, what)))
    }
}

/// Remembers which locations took a manifest: they were read back.
pub(crate) fn took(
    vault: &Vault,
    catalog: &Catalog,
    manifest: &heads::SignedManifest,
    owed: &[(String, String)],
) -> Result<()> {
    let now_ms = vault.world.now_ms();
    for location in vault.writable().filter(|location| !owed.iter().any(|(name, _)| *name == location.name)) {
        catalog.see_head(location.id, manifest.writer, manifest.position(), now_ms)?;
    }
    catalog.see_newest(manifest.writer, manifest.position(), now_ms)
}
