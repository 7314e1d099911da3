//! Which layout counts.
//!
//! What always holds: a changed layout counts once it stands on a majority of the
//! domains of the layout before it and of its own; a location that does not answer,
//! or shows no layout at all, is believed to have it, so that a layout that counted
//! is never taken back because places are away or were wiped; a newer layout that
//! does not count yet is known, said, and its locations are read.

use std::collections::{BTreeMap, BTreeSet};

use keys::certificate::CertifiedKey;
use keys::revocation::{Position, Revocations};
use vault_format::envelope::RecordKind;
use vault_format::layout::{LayoutRecord, LocationState};
use vault_format::{Hash, LocationId};

use crate::placement::write_quorum;

/// A layout whose signature verified.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) record: LayoutRecord,
    pub(crate) hash: Hash,
    pub(crate) bytes: Vec<u8>,
}

/// What the locations show of the layouts.
pub(crate) struct Choice {
    /// The one that counts.
    pub(crate) layout: Signed,
    /// The one before it, if anybody shows it.
    pub(crate) previous: Option<LayoutRecord>,
    /// A newer one that does not count yet.
    pub(crate) newer: Option<Signed>,
    /// Which writers were listed when.
    pub(crate) listed: Listed,
}

/// When certificates were first listed, by all layouts that are shown and verify.
#[derive(Default)]
pub(crate) struct Listed {
    first: BTreeMap<Hash, u64>,
    /// The oldest layout that is shown: what was listed before it is not known.
    oldest: u64,
}

impl Listed {
    fn of(signed: &[Signed]) -> Self {
        let mut listed = Self { first: BTreeMap::new(), oldest: u64::MAX };
        for Signed { record, .. } in signed {
            listed.oldest = listed.oldest.min(record.epoch);
            for writer in &record.writers {
                let first = listed.first.entry(writer.certificate).or_insert(record.epoch);
                *first = (*first).min(record.epoch);
            }
        }
        listed
    }

    /// Whether a certificate was listed by then, or by the oldest layout that is shown.
    pub(crate) fn by(&self, certificate: &Hash, epoch: u64) -> bool {
        self.first.get(certificate).is_some_and(|first| *first <= epoch.max(self.oldest))
    }
}

/// Layouts each location shows, by location, if it shows any.
type Shown = BTreeMap<LocationId, BTreeSet<Hash>>;

/// What one location shows.
pub(crate) struct Here {
    /// Its id, by its name.
    pub(crate) named: LocationId,
    /// Its id, by its marker.
    pub(crate) marked: Option<LocationId>,
    /// All layout records it shows.
    pub(crate) layouts: Vec<Vec<u8>>,
}

/// Verifies what the locations show, and chooses. `None` without any layout.
pub(crate) fn of(operators: &[CertifiedKey], revoked: &Revocations, found: &[Here]) -> Option<Choice> {
    let mut signed: Vec<Signed> = Vec::new();
    // Every location holds a copy of the same few records: each is verified once.
    let distinct: BTreeSet<&Vec<u8>> = found.iter().flat_map(|here| &here.layouts).collect();
    for bytes in distinct {
        let verify = |operator: &CertifiedKey| {
            Some((operator.verify(bytes, RecordKind::Layout).ok()?, operator.certificate_hash()))
        };
        let Some((verified, by)) = operators.iter().find_map(verify) else { continue };
        let Ok(record) = verified.decode::<LayoutRecord>("layout record") else { continue };
        if !revoked.permits(&by, Position { epoch: record.epoch, sequence: 0 }) {
            continue;
        }
        signed.push(Signed { record, hash: verified.hash(), bytes: bytes.clone() });
    }
    let mut shown = Shown::new();
    for here in found {
        let known =
            signed.iter().any(|layout| layout.record.locations.iter().any(|placed| placed.location == here.named));
        let hashes: BTreeSet<Hash> = here.layouts.iter().map(|bytes| keys::record::hash(bytes)).collect();
        let has_any = signed.iter().any(|layout| hashes.contains(&layout.hash));
        if let Some(at) = if known { Some(here.named) } else { here.marked }
            && has_any
        {
            shown.entry(at).or_default().extend(hashes);
        }
    }
    choose(signed, &shown)
}

/// Chooses. `None` without any layout.
fn choose(mut signed: Vec<Signed>, shown: &Shown) -> Option<Choice> {
    signed.sort_by_key(|layout| (layout.record.epoch, layout.hash));
    let newest = signed.len().checked_sub(1)?;
    let listed = Listed::of(&signed);
    let before = |at: usize| signed.iter().position(|layout| layout.hash == signed[at].record.previous);
    let counts = |at: usize| {
        let old = before(at).is_none_or(|old| has_majority(&signed[old].record, signed[at].hash, shown));
        old && has_majority(&signed[at].record, signed[at].hash, shown)
    };
    // Without any that counts there is nothing better than the newest.
    let at = (0..signed.len()).rev().find(|&at| counts(at)).unwrap_or(newest);
    Some(Choice {
        previous: before(at).map(|old| signed[old].record.clone()),
        newer: (at < newest && signed[newest].record.epoch > signed[at].record.epoch).then(|| signed[newest].clone()),
        layout: signed.swap_remove(at),
        listed,
    })
}

/// Whether a layout stands, or may stand, on a majority of another's domains.
fn has_majority(of: &LayoutRecord, layout: Hash, shown: &Shown) -> bool {
    let mut domains: BTreeMap<u16, bool> = BTreeMap::new();
    for placed in of.locations.iter().filter(|placed| placed.state != LocationState::Retired) {
        let has = shown.get(&placed.location).is_none_or(|hashes| hashes.contains(&layout));
        *domains.entry(placed.domain).or_default() |= has;
    }
    domains.values().filter(|has| **has).count() >= write_quorum(domains.len())
}

#[cfg(test)]
mod tests {
    use vault_format::layout::{Attachment, LayoutLocation, LocationGrade};
    use vault_format::sealed::SealedBlob;

    use super::*;

    fn id(number: u8) -> LocationId {
        LocationId([number; 16])
    }

    /// Layout `epoch` over locations 0.., each a domain of its own.
    fn layout(epoch: u64, locations: &[(u8, LocationState)]) -> Signed {
        let locations = locations.iter().map(|&(number, state)| LayoutLocation {
            location: id(number),
            domain: number.into(),
            state,
            grade: LocationGrade::Overwritable,
            attached: Attachment::Always,
        });
        let hash = |epoch: u64| if epoch == 0 { Hash::default() } else { Hash([epoch as u8; 32]) };
        let record = LayoutRecord {
            epoch,
            previous: hash(epoch - 1),
            vault_record: Hash::default(),
            survive_domains: 1,
            locations: locations.collect(),
            writers: Vec::new(),
            names: SealedBlob {
                recipient: vault_format::RecipientId::default(),
                enc: vault_format::Blob(Vec::new()),
                ciphertext: vault_format::Blob(Vec::new()),
            },
            created_ms: 0,
        };
        Signed { record, hash: hash(epoch), bytes: Vec::new() }
    }

    fn active(count: u8) -> Vec<(u8, LocationState)> {
        (0..count).map(|number| (number, LocationState::Active)).collect()
    }

    /// Each location with the newest epoch it has; 0 means it shows none.
    fn chosen(layouts: &[Signed], newest_at: &[(u8, u64)]) -> (u64, Option<u64>) {
        let shown = newest_at
            .iter()
            .filter(|(_, epoch)| *epoch > 0)
            .map(|&(number, epoch)| (id(number), (1..=epoch).map(|epoch| Hash([epoch as u8; 32])).collect()));
        let choice = choose(layouts.to_vec(), &shown.collect()).unwrap();
        (choice.layout.record.epoch, choice.newer.map(|newer| newer.record.epoch))
    }

    #[test]
    fn a_layout_counts_on_a_majority_of_old_and_new() {
        let layouts = [layout(1, &active(4)), layout(2, &active(5))];
        let at = |epochs: [u64; 5]| -> Vec<(u8, u64)> { (0..5).zip(epochs).collect() };
        assert_eq!(chosen(&layouts, &at([1, 1, 1, 1, 2])), (1, Some(2)), "the new place alone");
        assert_eq!(chosen(&layouts, &at([2, 1, 1, 1, 2])), (1, Some(2)));
        assert_eq!(chosen(&layouts, &at([2, 2, 1, 1, 2])), (1, Some(2)), "three of the new five, two of the old four");
        assert_eq!(chosen(&layouts, &at([2, 2, 2, 1, 2])), (2, None));
        assert_eq!(chosen(&layouts, &at([2, 2, 2, 2, 2])), (2, None));
    }

    #[test]
    fn a_layout_that_counted_is_not_taken_back() {
        let layouts = [layout(1, &active(4)), layout(2, &active(5))];
        // It stood on 0, 1, 2 and 4. Whoever is away or wiped, it counts.
        for gone in 0..5_u8 {
            let left: Vec<(u8, u64)> =
                [(0, 2), (1, 2), (2, 2), (3, 1), (4, 2)].into_iter().filter(|(number, _)| *number != gone).collect();
            assert_eq!(chosen(&layouts, &left).0, 2, "without {gone}");
            let wiped: Vec<(u8, u64)> = left.iter().copied().chain([(gone, 0)]).collect();
            assert_eq!(chosen(&layouts, &wiped).0, 2, "{gone} wiped");
        }
    }

    #[test]
    fn retired_places_have_no_vote() {
        let mut retired = active(4);
        retired[3].1 = LocationState::Retired;
        let layouts = [layout(1, &active(4)), layout(2, &retired)];
        assert_eq!(chosen(&layouts, &[(0, 2), (1, 2), (2, 2), (3, 1)]), (2, None));
        assert_eq!(chosen(&layouts, &[(0, 2), (1, 2), (2, 1), (3, 1)]), (1, Some(2)), "two of the old four");
        assert_eq!(chosen(&layouts[..1], &[(0, 1)]), (1, None));
    }
}
