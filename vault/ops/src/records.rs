//! The small records every location keeps a copy of, and its marker: what should
//! stand there, and whether it does.
//!
//! What always holds: what should stand there comes from records that verified,
//! so no key is needed; a copy is right only if it is the same byte for byte; a second
//! record that is signed for the same name is neither right nor damage: it is said, and
//! nothing here lets anybody write over it.

use std::collections::BTreeMap;

use backends::BackendError;
use futures::StreamExt;
use keys::revocation::Position;
use rand_core::Rng;
use vault_format::envelope::RecordKind;
use vault_format::layout::LayoutRecord;
use vault_format::marker::Marker;
use vault_format::vault::VaultRecord;
use vault_format::{LocationId, names};

use crate::census::Census;
use crate::heads;
use crate::location::Location;
use crate::vault::Vault;

/// Where the records stand that belong everywhere.
const FOLDERS: [&str; 6] =
    [names::VAULT, names::LAYOUT, names::CERTIFICATES, names::MANIFESTS, names::TOMBSTONES, names::REVOCATIONS];
/// Records read at once.
const AT_ONCE: usize = 8;

/// The records without which no point of the vault is found: names and bytes.
pub(crate) fn founding(vault: &Vault) -> BTreeMap<String, Vec<u8>> {
    let certificates = vault.certificates.iter().map(|(hash, bytes)| (names::certificate(*hash), bytes.clone()));
    let revocations =
        vault.revocation_bytes.iter().map(|bytes| (names::revocation(keys::record::hash(bytes)), bytes.clone()));
    let record = (names::vault(vault.record.epoch), vault.record_bytes.clone());
    let layout = (names::layout(vault.layout.epoch), vault.layout_bytes.clone());
    certificates.chain(revocations).chain([record, layout]).collect()
}

/// Names and bytes of all records in force, the markers left out.
pub(crate) fn in_force(vault: &Vault, census: &Census) -> BTreeMap<String, Vec<u8>> {
    let mut records = founding(vault);
    records.extend(census.marks.records());
    for (writer, chain) in &census.chains {
        for (&(epoch, sequence), manifest) in &chain.manifests {
            records.insert(names::manifest(*writer, epoch, sequence), manifest.bytes.clone());
        }
    }
    records
}

/// A record that should exist and that no location shows whole.
pub(crate) struct Lost {
    pub(crate) name: String,
    /// How it is known, and what was seen.
    pub(crate) why: String,
    /// A location that may have it did not answer.
    pub(crate) offline: bool,
}

/// Records that should exist and that no location shows whole.
pub(crate) fn lost(vault: &Vault, census: &Census) -> Vec<Lost> {
    let unknown = vault.unknown_writers().into_iter().map(|(writer, certificate)| {
        let why =
            format!("the layout names it as the certificate of writer {}: its points cannot be seen", writer.short());
        Lost { name: names::certificate(certificate), why, offline: !vault.absent.is_empty() }
    });
    let manifests = census.chains.iter().flat_map(|(&writer, chain)| {
        let silent = !chain.silent.is_empty();
        let unreadable =
            chain.unreadable.iter().map(move |(at, why)| (*at, why.clone(), silent || chain.offline.contains(at)));
        let gaps = chain.gaps.iter().map(move |at| {
            let before = chain.unreadable.iter().map(|(position, _)| position).filter(|position| *position < at).max();
            let unread = before.is_some_and(|before| chain.offline.contains(before));
            (*at, "the manifest before it is missing".to_owned(), silent || unread)
        });
        unreadable.chain(gaps).map(move |((epoch, sequence), why, offline)| Lost {
            name: names::manifest(writer, epoch, sequence),
            why,
            offline,
        })
    });
    unknown.chain(manifests).collect()
}

/// The marker a location should carry.
pub(crate) fn marker(vault: &Vault, location: LocationId) -> (String, Vec<u8>) {
    (names::MARKER.to_owned(), Marker { vault: vault.id, location }.encode())
}

/// Names and sizes of the records a location shows, its marker among them.
pub(crate) async fn shown(location: &Location) -> Result<BTreeMap<String, u64>, BackendError> {
    let mut shown = BTreeMap::new();
    for folder in FOLDERS {
        shown.extend(location.list(folder).await?.into_iter().map(|object| (object.name, object.bytes)));
    }
    if let Some(marker) = location.read(names::MARKER).await? {
        shown.insert(names::MARKER.to_owned(), marker.len() as u64);
    }
    Ok(shown)
}

/// How many of these records a location does not list. One that does not answer is
/// told as such elsewhere.
pub(crate) async fn missing(location: &Location, wanted: &BTreeMap<String, Vec<u8>>) -> usize {
    let Ok(shown) = shown(location).await else { return 0 };
    wanted.keys().filter(|name| !shown.contains_key(*name)).count()
}

/// What is odd about a copy of a record.
pub(crate) enum Odd {
    /// It is not there.
    Missing,
    /// It has other bytes.
    Wrong(String),
    /// It is another record, signed for the same number.
    Second(String),
    /// It could not be read.
    Offline(String),
}

/// Compares a location's copies: all by their listed size, at most `most` of them,
/// chosen at random, by their bytes. Says how many it compared, and what is odd.
pub(crate) async fn compare(
    vault: &Vault,
    location: &Location,
    mut wanted: Vec<(String, Vec<u8>)>,
    most: usize,
) -> Result<(u64, Vec<(String, Odd)>), BackendError> {
    let shown = shown(location).await?;
    shuffle(&mut wanted, &mut vault.world.rng());
    let (mut read, mut odd) = (Vec::new(), Vec::new());
    for (name, bytes) in wanted {
        match shown.get(&name) {
            None => odd.push((name, Odd::Missing)),
            Some(&size) if size == bytes.len() as u64 && read.len() >= most => {}
            Some(_) => read.push((name, bytes)),
        }
    }
    let compared = (read.len() + odd.len()) as u64;
    let reads = futures::stream::iter(read)
        .map(|(name, bytes)| async move { (look(vault, location, &name, &bytes).await, name) })
        .buffered(AT_ONCE);
    let found: Vec<_> = reads.filter_map(|(found, name)| async { Some((name, found?)) }).collect().await;
    odd.extend(found);
    Ok((compared, odd))
}

async fn look(vault: &Vault, location: &Location, name: &str, bytes: &[u8]) -> Option<Odd> {
    match location.read(name).await {
        Ok(Some(found)) if found == bytes => None,
        Ok(Some(found)) if is_second(vault, name, &found) => Some(Odd::Second(second_text(name))),
        Ok(Some(found)) if is_rival(vault, name, &found) => None,
        Ok(Some(found)) if found.len() != bytes.len() => {
            Some(Odd::Wrong(format!("{} bytes where the signed record has {}", found.len(), bytes.len())))
        }
        Ok(Some(_)) => Some(Odd::Wrong("its bytes are not those of the signed record".to_owned())),
        Ok(None) => Some(Odd::Missing),
        Err(error) => Some(Odd::Offline(error.to_string())),
    }
}

/// Another record that is signed for the same name is not damage: a repair must never
/// write over it.
pub(crate) fn is_rival(vault: &Vault, name: &str, found: &[u8]) -> bool {
    if is_second(vault, name, found) || vault.marks.knows_as(name, found) {
        return true;
    }
    let place = names::parse_manifest(name);
    place.is_some_and(|(writer, epoch, sequence)| {
        heads::verify(vault, writer, (epoch, sequence), found.to_vec()).is_ok()
    })
}

/// Whether this is a vault record or a layout of the number in force, signed by who may
/// sign one. Two of one number come about where two hosts, or a run that was killed,
/// did not see each other's locations. The one in force is chosen the same by everybody;
/// what the other one changed was promised to somebody and is in no other place.
fn is_second(vault: &Vault, name: &str, found: &[u8]) -> bool {
    if name == names::vault(vault.record.epoch) && found != vault.record_bytes {
        let epoch = |bytes: &[u8]| {
            let verified = vault.authorities().iter().find_map(|root| root.vault_record(bytes).ok())?;
            verified.decode::<VaultRecord>("vault record").ok().map(|record| record.epoch)
        };
        return epoch(found) == Some(vault.record.epoch);
    }
    if name == names::layout(vault.layout.epoch) && found != vault.layout_bytes {
        let at = Position { epoch: vault.layout.epoch, sequence: 0 };
        let operators = vault.operators().unwrap_or_default();
        let in_time = operators.iter().filter(|key| vault.revocations.permits(&key.certificate_hash(), at));
        let verified = in_time.filter_map(|key| key.verify(found, RecordKind::Layout).ok());
        let mut layouts = verified.filter_map(|verified| verified.decode::<LayoutRecord>("layout record").ok());
        return layouts.any(|layout| layout.epoch == vault.layout.epoch);
    }
    false
}

fn second_text(name: &str) -> String {
    format!(
        "another {name} is signed for the number of the one in force, and does not count; it is kept. What it changed (a card \
         set, an operator, a location) is to be done again: the next change takes the number after both"
    )
}

/// Second records of the numbers in force, at locations that answer: the location, the
/// record's name, and what that means.
pub(crate) async fn seconds(vault: &Vault) -> Vec<(LocationId, String, String)> {
    let mut found = Vec::new();
    for location in &vault.locations {
        for name in [names::vault(vault.record.epoch), names::layout(vault.layout.epoch)] {
            if let Ok(Some(bytes)) = location.read(&name).await
                && is_second(vault, &name, &bytes)
            {
                let text = second_text(&name);
                found.push((location.id, name, text));
            }
        }
    }
    found
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, (rng.next_u64() % (last as u64 + 1)) as usize);
    }
}
