//! A new epoch of the layout: a location is added, retired or replaced, or its grade is
//! another than was recorded.
//!
//! What always holds: the operator signs it, and it names the hash of the one
//! before; every signed record stands on a majority of the new domains before the
//! layout is written anywhere, so that no head and no point is out of sight when
//! it counts; it counts on a majority of the old and of the new domains; nothing is
//! moved or deleted here. Doing it again goes on where it ended. See
//! docs/decisions/0020.

use std::collections::BTreeSet;
use std::sync::Arc;

use backends::Grade;
use keys::files::OperatorKey;
use vault_format::envelope::RecordKind;
use vault_format::layout::{Attachment, LayoutLocation, LayoutNames, LayoutRecord, LocationName, LocationState};
use vault_format::sealed::SealedField;
use vault_format::vault::KemRole;
use vault_format::{LocationId, names};

use crate::catalog::Catalog;
use crate::census;
use crate::create::{stored_grade, write_record};
use crate::error::{OpsError, Result};
use crate::location::{Location, Store};
use crate::placement::{Spot, can_survive, write_quorum};
use crate::records;
use crate::step::Step;
use crate::vault::{Vault, location_id};

/// A location as the configuration has it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub domain: String,
    /// Its address, without credentials.
    pub url: String,
    /// Endpoint of an S3-compatible store, or empty.
    pub endpoint: String,
    /// Region, or empty.
    pub region: String,
    /// Whether it may be away for long.
    pub attached: Attachment,
}

/// What shall change.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A location takes shards from now on.
    Add {
        /// Its name in the configuration.
        name: &'a str,
        /// As probed.
        grade: Grade,
    },
    /// A location takes no new shards and gives up those it has.
    Retire {
        /// Its name.
        name: &'a str,
    },
    /// One for the other.
    Replace {
        /// Retired.
        old: &'a str,
        /// Added.
        new: &'a str,
        /// The new one's, as probed.
        grade: Grade,
    },
    /// What a location keeps from a thief is another than was recorded.
    Grade {
        /// Its name.
        name: &'a str,
        /// As probed now.
        grade: Grade,
    },
    /// A retiring location holds nothing any more that is not elsewhere.
    Retired {
        /// Its name.
        name: &'a str,
    },
}

/// The layout after a change, not signed. `None` if it is so already.
pub fn changed(vault: &Vault, places: &[Place], change: Change<'_>) -> Result<Option<LayoutRecord>> {
    let mut next = vault.layout.clone();
    match change {
        Change::Add { name, grade } => add(vault, &mut next, places, name, grade)?,
        Change::Retire { name } => retire(vault, &mut next, name)?,
        Change::Replace { old, new, grade } => {
            add(vault, &mut next, places, new, grade)?;
            retire(vault, &mut next, old)?;
        }
        Change::Grade { name, grade } => entry(vault, &mut next, name)?.grade = stored_grade(grade),
        Change::Retired { name } => {
            let entry = entry(vault, &mut next, name)?;
            if entry.state == LocationState::Active {
                return Err(OpsError::Refused { what: format!("{name} is in use: retire it first") });
            }
            entry.state = LocationState::Retired;
        }
    }
    if next.locations == vault.layout.locations {
        return Ok(None);
    }
    let spots: Vec<Spot> = active(&next).map(|at| Spot { location: at.location, domain: at.domain }).collect();
    if !can_survive(&spots, vault.coding, vault.survive()) {
        return Err(OpsError::Refused {
            what: format!(
                "without it the vault could not survive the loss of any {} domain(s), as it declares; nothing was \
                 changed. Add another location first: holdfast vault location add NAME",
                vault.survive()
            ),
        });
    }
    next.epoch = vault.layout.epoch + 1;
    next.previous = vault.layout_hash;
    next.vault_record = vault.record_hash;
    next.created_ms = vault.world.now_ms();
    Ok(Some(next))
}

fn active(layout: &LayoutRecord) -> impl Iterator<Item = &LayoutLocation> {
    layout.locations.iter().filter(|placed| placed.state == LocationState::Active)
}

fn entry<'a>(vault: &Vault, layout: &'a mut LayoutRecord, name: &str) -> Result<&'a mut LayoutLocation> {
    let by_name = location_id(vault.id, name);
    let by_marker = vault.locations.iter().find(|location| location.name == name).map(|location| location.id);
    let id = by_marker.unwrap_or(by_name);
    layout.locations.iter_mut().find(|placed| placed.location == id).ok_or_else(|| OpsError::Refused {
        what: format!("the vault's layout has no location \"{name}\"; list them: holdfast vault location list"),
    })
}

fn add(vault: &Vault, next: &mut LayoutRecord, places: &[Place], name: &str, grade: Grade) -> Result<()> {
    let id = location_id(vault.id, name);
    let place = places.iter().find(|place| place.name == name).ok_or_else(|| OpsError::Refused {
        what: format!("the configuration has no location \"{name}\" in this vault; add a [location.{name}] to it"),
    })?;
    if let Some(known) = next.locations.iter_mut().find(|placed| placed.location == id) {
        known.state = LocationState::Active;
        return Ok(());
    }
    let same_domain = |placed: &&LayoutLocation| {
        let other = places.iter().find(|other| location_id(vault.id, &other.name) == placed.location);
        other.is_some_and(|other| other.domain == place.domain)
    };
    let domain = match next.locations.iter().find(same_domain) {
        Some(neighbour) => neighbour.domain,
        None => next.locations.iter().map(|placed| placed.domain + 1).max().unwrap_or(0),
    };
    next.locations.push(LayoutLocation {
        location: id,
        domain,
        state: LocationState::Active,
        grade: stored_grade(grade),
        attached: place.attached,
    });
    Ok(())
}

fn retire(vault: &Vault, next: &mut LayoutRecord, name: &str) -> Result<()> {
    let entry = entry(vault, next, name)?;
    if entry.state == LocationState::Active {
        entry.state = LocationState::Retiring;
    }
    Ok(())
}

/// The vault as it would be under a layout: for plans.
pub fn under(vault: &Vault, layout: &LayoutRecord, added: Vec<Location>) -> Vault {
    let mut after = vault.clone();
    after.previous = Some(std::mem::replace(&mut after.layout, layout.clone()));
    for location in added {
        if after.location(location.id).is_none() {
            after.locations.push(location);
        }
    }
    after
}

/// A location that is not in the layout yet, for writing its first records.
pub fn newcomer(vault: &Vault, layout: &LayoutRecord, name: &str, store: Store) -> Location {
    let id = location_id(vault.id, name);
    let domain = layout.locations.iter().find(|placed| placed.location == id).map_or(0, |placed| placed.domain);
    Location { id, name: name.to_owned(), domain, blank: false, store, versions: None, names: None }
}

/// An empty place, for plans with a location that is not there yet.
pub fn nowhere() -> Store {
    Arc::new(object_store::memory::InMemory::new())
}

/// Signs a layout. Names and addresses are sealed to the reader.
pub fn sign(
    vault: &Vault,
    vault_name: &str,
    operator: &OperatorKey,
    places: &[Place],
    mut layout: LayoutRecord,
) -> Result<Vec<u8>> {
    if !vault.record.operators.contains(&operator.certificate) {
        return Err(OpsError::Key {
            what: "this operator key is not certified in the vault record: it belongs to another vault".to_owned(),
        });
    }
    let newest = vault.record.recipients.iter().rfind(|key| key.role == KemRole::Reader);
    let reader = newest.and_then(|key| keys::kem::RecipientPublic::from_slice(&key.public.0).ok());
    let reader = reader.ok_or_else(|| OpsError::corrupt("the vault record", "it names no reader to seal names to"))?;
    let described = |placed: &LayoutLocation| {
        let place = places.iter().find(|place| location_id(vault.id, &place.name) == placed.location);
        let text = |of: fn(&Place) -> &String| place.map(of).cloned().unwrap_or_default();
        LocationName {
            location: placed.location,
            name: place.map_or_else(|| vault.location_name(placed.location), |place| place.name.clone()),
            url: text(|place| &place.url),
            endpoint: text(|place| &place.endpoint),
            region: text(|place| &place.region),
            domain: text(|place| &place.domain),
        }
    };
    let locations = layout.locations.iter().map(described).collect();
    let names = vault_format::encode(&LayoutNames { vault: vault_name.to_owned(), locations });
    layout.names = keys::wrap::seal_field(SealedField::LayoutNames, vault.id, &reader, &names, &mut vault.world.rng());
    Ok(keys::record::sign(RecordKind::Layout, vault.id, &vault_format::encode(&layout), &operator.signing))
}

/// Brings a signed layout into force. `added` are its locations that the vault does
/// not know yet. An error leaves a layout that may count later; the same command
/// goes on.
pub async fn publish(
    vault: &Vault,
    catalog: &Catalog,
    layout: &LayoutRecord,
    bytes: &[u8],
    added: &[Location],
) -> Result<()> {
    let census = census::take(vault, catalog).await?;
    let records = records::in_force(vault, &census);
    let everywhere: Vec<&Location> = vault.locations.iter().chain(added).collect();
    for location in added {
        refuse_occupied(vault, location).await?;
        let (name, marker) = records::marker(vault, location.id);
        write_record(location, &name, &marker).await?;
    }
    for location in &everywhere {
        // One that does not answer, or lacks some, is found by the count below.
        let Ok(shown) = records::shown(location).await else { continue };
        for (name, bytes) in records.iter().filter(|(name, _)| !shown.contains_key(*name)) {
            if write_record(location, name, bytes).await.is_err() {
                break;
            }
        }
    }
    let mut whole: BTreeSet<LocationId> = BTreeSet::new();
    for location in &everywhere {
        if let Ok(shown) = records::shown(location).await
            && records.keys().all(|name| shown.contains_key(name))
        {
            whole.insert(location.id);
        }
    }
    stands_on(vault, layout, &whole, "the signed records")?;
    let name = names::layout(layout.epoch);
    let mut written: BTreeSet<LocationId> = BTreeSet::new();
    for location in everywhere {
        if write_record(location, &name, bytes).await.is_ok() {
            written.insert(location.id);
            vault.world.reached(Step::LayoutLocationWritten);
        }
    }
    stands_on(vault, &vault.layout, &written, "the new layout")?;
    stands_on(vault, layout, &written, "the new layout")
}

async fn refuse_occupied(vault: &Vault, location: &Location) -> Result<()> {
    let (name, marker) = records::marker(vault, location.id);
    let there = location.read(&name).await?;
    let ours = there.as_ref().is_some_and(|bytes| *bytes == marker);
    let empty = there.is_none() && location.list_first(names::VAULT, 1).await?.is_empty();
    if ours || empty {
        return Ok(());
    }
    Err(OpsError::Refused {
        what: format!(
            "{} already holds a vault, or another location of this one; nothing was changed. Choose an empty location",
            location.name
        ),
    })
}

/// A majority of a layout's domains, and more than may be lost.
fn stands_on(vault: &Vault, layout: &LayoutRecord, at: &BTreeSet<LocationId>, what: &str) -> Result<()> {
    let in_use = || layout.locations.iter().filter(|placed| placed.state != LocationState::Retired);
    let all: BTreeSet<u16> = in_use().map(|placed| placed.domain).collect();
    let have: BTreeSet<u16> =
        in_use().filter(|placed| at.contains(&placed.location)).map(|placed| placed.domain).collect();
    let need = write_quorum(all.len()).max(usize::from(vault.survive()) + 1).min(all.len());
    if have.len() >= need {
        return Ok(());
    }
    Err(OpsError::Unreachable {
        what: format!(
            "{what} stand(s) on {} of the {need} domains of layout {} that must have it. No shard was moved; bring \
             back {} and run the same command again",
            have.len(),
            layout.epoch,
            crate::backup::absent_names(vault)
        ),
    })
}
