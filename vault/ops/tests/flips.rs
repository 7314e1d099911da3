//! One wrong byte in anything a vault stores. The restore is the same byte for
//! byte, and a full audit of the location names the object, or opening the vault
//! names the location. Never a wrong restore, never a panic.
//!
//! Short form: 2,400 flips and more. `HOLDFAST_FLIPS=20` makes it twenty times
//! longer.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use vault_format::names;
use vault_format::shard::{HEADER_BYTES, INDEX_AT, SIGNED_BYTES, SLOTS_AT, ShardLayout};
use vault_format::suite::Class;
use vault_ops::OpsError;
use vault_ops::audit::{AuditOptions, AuditReport, Outcome};
use vault_ops::vault::Vault;
use world::{Lab, Setup, below, draw, random_bytes, rng, scale};

const SEED: u64 = 0xf11b;

/// Where a flip falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    H0,
    H1,
    Signatures,
    Index,
    Payload,
    Nodes,
    Trailer,
    Manifest,
    VaultRecord,
    Layout,
    Certificate,
    Marker,
}

impl Kind {
    /// Each with its share of the short form.
    const ALL: [(Self, usize); 12] = [
        (Self::H0, 150),
        (Self::H1, 250),
        (Self::Signatures, 150),
        (Self::Index, 60),
        (Self::Payload, 400),
        (Self::Nodes, 200),
        (Self::Trailer, 150),
        (Self::Manifest, 300),
        (Self::VaultRecord, 250),
        (Self::Layout, 250),
        (Self::Certificate, 200),
        (Self::Marker, 80),
    ];

    fn folder(self) -> &'static str {
        match self {
            Self::H0 | Self::H1 | Self::Signatures | Self::Index | Self::Payload | Self::Nodes | Self::Trailer => {
                names::SHARDS
            }
            Self::Manifest => names::MANIFESTS,
            Self::VaultRecord => names::VAULT,
            Self::Layout => names::LAYOUT,
            Self::Certificate => names::CERTIFICATES,
            Self::Marker => names::MARKER,
        }
    }

    /// The bytes of an object that are of this kind.
    fn range(self, object: &[u8]) -> std::ops::Range<usize> {
        let layout = || {
            let class =
                Class::ALL.into_iter().find(|class| ShardLayout::new(*class).object_bytes() == object.len() as u64);
            ShardLayout::new(class.unwrap())
        };
        let part = |range: std::ops::Range<u64>| range.start as usize..range.end as usize;
        match self {
            Self::H0 => 0..SLOTS_AT,
            Self::H1 => SLOTS_AT..SIGNED_BYTES,
            Self::Signatures => SIGNED_BYTES..INDEX_AT,
            Self::Index => INDEX_AT..HEADER_BYTES,
            Self::Payload => part(layout().payload()),
            Self::Nodes => part(layout().nodes()),
            Self::Trailer => part(layout().trailer()),
            Self::Manifest | Self::VaultRecord | Self::Layout | Self::Certificate | Self::Marker => 0..object.len(),
        }
    }

    fn is_shard(self) -> bool {
        self.folder() == names::SHARDS
    }
}

/// Who says that something is wrong. The restore is right in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Notice {
    /// Opening the vault names the location as not belonging.
    Opening,
    /// The restore names the shard or the manifest, and so does an audit.
    RestoreAndAudit,
    /// A full audit names the object.
    Audit,
}

/// A vault of two points in a large and a small pack, over five domains.
async fn lab(seed: u64) -> (Lab, Vec<u8>, Vec<u8>) {
    let chunks = (256 << 10, 320 << 10, 512 << 10);
    let mut lab = Lab::build(seed, Setup { chunks, ..Setup::new((3, 5), 2, &[0, 1, 2, 3, 4]) }).await;
    let (first, second) = (random_bytes(seed, 300_000), random_bytes(seed + 1, 20_000));
    lab.backup(&first).await.unwrap();
    lab.backup(&second).await.unwrap();
    (lab, first, second)
}

/// Another value than it has.
fn flip(bytes: &mut [u8], at: usize, rng: &mut ChaCha20Rng) {
    bytes[at] ^= 1 + (rng.next_u32() % 255) as u8;
}

/// Location, name and bytes of all objects in which there is a byte of a kind.
async fn objects(lab: &Lab, kind: Kind) -> Vec<(usize, String, Vec<u8>)> {
    let mut found = Vec::new();
    for location in 0..lab.stores.len() {
        for name in lab.names(location).await.into_iter().filter(|name| name.starts_with(kind.folder())) {
            let bytes = lab.get(location, &name).await;
            if !kind.range(&bytes).is_empty() {
                found.push((location, name, bytes));
            }
        }
    }
    assert!(found.len() >= lab.stores.len(), "{kind:?}");
    found
}

async fn audit(lab: &Lab, vault: &Vault, location: Option<&str>) -> AuditReport {
    let options = AuditOptions { samples: 1, location: location.map(str::to_owned), full: true };
    vault_ops::audit::run(vault, &lab.catalog, &options).await.unwrap()
}

/// Names of the objects an audit found wrong at a location.
fn named(report: &AuditReport, location: &str, vault: &Vault) -> BTreeSet<String> {
    let writer = *vault.writer_ids().first().unwrap();
    let shards = report.findings.iter().filter(|finding| finding.location == location);
    let records = report.records.iter().filter(|finding| finding.location == location);
    shards
        .map(|finding| names::shard(writer, finding.pack, finding.index))
        .chain(records.map(|finding| finding.name.clone()))
        .collect()
}

/// Flips `count` bytes of a kind, one at a time.
async fn flip_each(kind: Kind, count: usize) -> BTreeMap<Notice, usize> {
    let seed = SEED + 100 * kind as u64;
    let (lab, first, second) = lab(seed).await;
    let mut rng = rng(seed);
    let untouched = lab.open().await.unwrap();
    assert_eq!(audit(&lab, &untouched, None).await.worst(), Outcome::Ok);
    let objects = objects(&lab, kind).await;
    let mut tally = BTreeMap::new();
    for turn in 0..count {
        let (location, name, good) = &objects[below(&mut rng, objects.len())];
        let location = *location;
        let range = kind.range(good);
        let mut bad = good.clone();
        let at = range.start + below(&mut rng, range.len());
        flip(&mut bad, at, &mut rng);
        let place = format!(
            "seed {seed}, flip {turn}: {kind:?}, byte {at} of {name} at p{}, now {:#04x}",
            location + 1,
            bad[at]
        );
        lab.put(location, name, bad).await;

        let opened = if kind.is_shard() { None } else { Some(lab.open().await.expect(&place)) };
        let vault = opened.as_ref().unwrap_or(&untouched);
        let list = vault_ops::points::list(vault, &lab.read_key()).await.expect(&place);
        let (newest, bad_newest) = lab.restore_listed(vault, &list, 0).await.expect(&place);
        let (older, bad_older) = lab.restore_listed(vault, &list, 1).await.expect(&place);
        assert!(newest == second && older == first, "a wrong restore: {place}");

        let away = vault.absent.iter().any(|gone| gone.name == lab.stores[location].0);
        let notice = if away {
            Notice::Opening
        } else {
            let report = audit(&lab, vault, Some(&lab.stores[location].0)).await;
            assert_eq!(report.worst(), Outcome::Contained, "{place}");
            assert_eq!(named(&report, &lab.stores[location].0, vault), BTreeSet::from([name.clone()]), "{place}");
            let noticed = !bad_newest.is_empty() || !bad_older.is_empty() || !list.remarks.is_empty();
            if noticed { Notice::RestoreAndAudit } else { Notice::Audit }
        };
        *tally.entry(notice).or_insert(0) += 1;
        lab.put(location, name, good.clone()).await;
        for failure in lab.catalog.failures().unwrap() {
            lab.catalog.clear_failure(failure.location, failure.pack, failure.index).unwrap();
        }
    }
    tally
}

async fn flip_kinds(kinds: &[Kind]) {
    for (kind, count) in Kind::ALL.into_iter().filter(|(kind, _)| kinds.contains(kind)) {
        let count = count * scale("HOLDFAST_FLIPS");
        let tally = flip_each(kind, count).await;
        println!("{kind:?}: {tally:?}");
        assert_eq!(tally.values().sum::<usize>(), count, "every flip is told");
        // No single byte keeps a location from being opened.
        assert!(!tally.contains_key(&Notice::Opening), "{kind:?}: {tally:?}");
    }
}

#[test]
fn the_short_form_is_of_two_thousand_flips() {
    assert!(Kind::ALL.iter().map(|(_, count)| count).sum::<usize>() >= 2_000);
    assert!(Kind::ALL.iter().zip(0..).all(|((kind, _), at)| *kind as usize == at));
}

#[tokio::test]
async fn every_flip_in_a_header_is_named_and_harmless() {
    flip_kinds(&[Kind::H0, Kind::H1, Kind::Signatures, Kind::Index]).await;
}

#[tokio::test]
async fn every_flip_in_a_payload_its_tree_or_trailer_is_named_and_harmless() {
    flip_kinds(&[Kind::Payload, Kind::Nodes, Kind::Trailer]).await;
}

#[tokio::test]
async fn every_flip_in_a_record_is_named_and_harmless() {
    flip_kinds(&[Kind::Manifest, Kind::VaultRecord]).await;
}

#[tokio::test]
async fn every_flip_in_a_layout_certificate_or_marker_is_named_and_harmless() {
    flip_kinds(&[Kind::Layout, Kind::Certificate, Kind::Marker]).await;
}

/// Damage larger than a byte.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Deleted,
    Emptied,
    Cut,
    Grown,
    /// By noise of the same length.
    Replaced,
    /// By another object of the vault, whole and signed, but not this one.
    Swapped,
}

impl Damage {
    const ALL: [Self; 6] = [Self::Deleted, Self::Emptied, Self::Cut, Self::Grown, Self::Replaced, Self::Swapped];

    fn of(self, good: &[u8], other: &[u8], rng: &mut ChaCha20Rng) -> Option<Vec<u8>> {
        match self {
            Self::Deleted => None,
            Self::Emptied => Some(Vec::new()),
            Self::Cut => Some(good[..below(rng, good.len())].to_vec()),
            Self::Grown => Some([good, &[0]].concat()),
            Self::Replaced => Some(random_bytes(rng.next_u64(), good.len())),
            Self::Swapped => Some(other.to_vec()),
        }
    }
}

#[tokio::test]
async fn objects_that_are_gone_cut_grown_or_swapped_are_named_and_harmless() {
    let seed = SEED + 8;
    let (lab, first, second) = lab(seed).await;
    let mut rng = rng(seed);
    for kind in [Kind::Payload, Kind::Manifest, Kind::VaultRecord, Kind::Layout, Kind::Certificate, Kind::Marker] {
        let objects = objects(&lab, kind).await;
        // Something of the same kind that is not the same; of what there is only one, another kind.
        let strangers = objects_like(&lab, kind, &objects).await;
        for damage in Damage::ALL {
            for _ in 0..3 * scale("HOLDFAST_FLIPS") {
                let lab = lab.fork(rng.next_u64());
                let (location, name, good) = &objects[below(&mut rng, objects.len())];
                let different: Vec<&Vec<u8>> = strangers.iter().filter(|other| *other != good).collect();
                let bad = damage.of(good, different[below(&mut rng, different.len())], &mut rng);
                let place = format!("seed {seed}: {name} at p{} {damage:?}", location + 1);
                match bad {
                    Some(bad) => lab.put(*location, name, bad).await,
                    None => lab.delete(*location, name).await,
                }
                let vault = lab.open().await.expect(&place);
                assert!(lab.restore_from(&vault, 0).await.expect(&place).0 == second, "a wrong restore: {place}");
                assert!(lab.restore_from(&vault, 1).await.expect(&place).0 == first, "a wrong restore: {place}");
                let here = &lab.stores[*location].0;
                if vault.absent.iter().any(|gone| gone.name == *here) {
                    assert_eq!(kind, Kind::Marker, "{place}");
                    continue;
                }
                let report = audit(&lab, &vault, Some(here)).await;
                assert_eq!(report.worst(), Outcome::Contained, "{place}");
                assert_eq!(named(&report, here, &vault), BTreeSet::from([name.clone()]), "{place}");
            }
        }
    }
}

/// Bytes that could be taken for an object of a kind.
async fn objects_like(lab: &Lab, kind: Kind, objects: &[(usize, String, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut like: BTreeSet<Vec<u8>> = objects.iter().map(|(.., bytes)| bytes.clone()).collect();
    if like.len() == 1 {
        let folder = if kind == Kind::Layout { names::VAULT } else { names::LAYOUT };
        for (name, at) in copies(lab, folder).await {
            like.insert(lab.get(at[0], &name).await);
        }
    }
    like.into_iter().collect()
}

/// All objects under a folder's name, by the places where they stand.
async fn copies(lab: &Lab, folder: &str) -> BTreeMap<String, Vec<usize>> {
    let mut copies: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for location in 0..lab.stores.len() {
        for name in lab.names(location).await.into_iter().filter(|name| name.starts_with(folder)) {
            copies.entry(name).or_default().push(location);
        }
    }
    copies
}

async fn flip_anywhere(lab: &Lab, location: usize, name: &str, rng: &mut ChaCha20Rng) {
    let mut bytes = lab.get(location, name).await;
    let at = below(rng, bytes.len());
    flip(&mut bytes, at, rng);
    lab.put(location, name, bytes).await;
}

#[tokio::test]
async fn flips_in_n_less_k_shards_and_all_but_one_copy_of_each_record_at_once_are_named_and_harmless() {
    let seed = SEED + 9;
    let (lab, first, second) = lab(seed).await;
    let mut rng = rng(seed);
    for round in 0..30 * scale("HOLDFAST_FLIPS") {
        let lab = lab.fork(seed + round as u64);
        let mut flipped: Vec<BTreeSet<String>> = vec![BTreeSet::new(); lab.stores.len()];
        let shards = copies(&lab, names::SHARDS).await;
        let packs: BTreeSet<&str> = shards.keys().map(|name| name.rsplit_once('.').unwrap().0).collect();
        assert_eq!(packs.len(), 2);
        for pack in packs {
            for index in draw(&mut rng, 5, 2) {
                let name = format!("{pack}.{index:02}");
                let location = shards[&name][0];
                flip_anywhere(&lab, location, &name, &mut rng).await;
                flipped[location].insert(name);
            }
        }
        for folder in [names::MANIFESTS, names::VAULT, names::LAYOUT, names::CERTIFICATES] {
            for (name, at) in copies(&lab, folder).await {
                for location in draw(&mut rng, at.len(), at.len() - 1) {
                    flip_anywhere(&lab, at[location], &name, &mut rng).await;
                    flipped[at[location]].insert(name.clone());
                }
            }
        }
        let place = format!("seed {seed}, round {round}: {flipped:?}");
        let vault = lab.open().await.expect(&place);
        assert!(lab.restore_from(&vault, 0).await.expect(&place).0 == second, "a wrong restore: {place}");
        assert!(lab.restore_from(&vault, 1).await.expect(&place).0 == first, "a wrong restore: {place}");
        let report = audit(&lab, &vault, None).await;
        assert_eq!(report.worst(), Outcome::Contained, "{place}");
        for ((name, _), flipped) in lab.stores.iter().zip(&flipped) {
            assert_eq!(&named(&report, name, &vault), flipped, "{place}");
        }
        let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
        let done = vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
        assert!(done.failed.is_empty() && done.lost.is_empty(), "{place}: {done:?}");
        assert_eq!(done.shards.len() + done.records, flipped.iter().map(BTreeSet::len).sum::<usize>(), "{place}");
        assert_eq!(audit(&lab, &lab.open().await.unwrap(), None).await.worst(), Outcome::Ok, "{place}");
        assert!(vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn one_flipped_payload_too_many_is_an_error_that_names_them_and_the_other_point_restores() {
    let seed = SEED + 10;
    let (lab, first, second) = lab(seed).await;
    let mut rng = rng(seed);
    for round in 0..10 * scale("HOLDFAST_FLIPS") {
        let lab = lab.fork(seed + round as u64);
        let objects = objects(&lab, Kind::Payload).await;
        let back = round % 2;
        let small = objects.iter().map(|(.., bytes)| bytes.len()).min().unwrap();
        // The older point stands in the large pack.
        let pack: Vec<_> = objects.iter().filter(|(.., bytes)| (bytes.len() == small) == (back == 0)).collect();
        for &at in &draw(&mut rng, pack.len(), 3) {
            let (location, name, good) = pack[at];
            let (mut bad, range) = (good.clone(), Kind::Payload.range(good));
            // A ranged read would not see a flip in leaves it does not need.
            for leaf in range.clone().step_by(65_536) {
                let at = leaf + below(&mut rng, 65_536);
                flip(&mut bad, at, &mut rng);
            }
            lab.put(*location, name, bad).await;
        }
        let vault = lab.open().await.unwrap();
        let error = lab.restore_from(&vault, back).await.unwrap_err();
        assert!(matches!(&error, OpsError::Lost { what } if what.matches("root").count() >= 3), "{error}");
        let other = if back == 0 { &first } else { &second };
        assert_eq!(&lab.restore_from(&vault, 1 - back).await.unwrap().0, other);
        assert_eq!(audit(&lab, &vault, None).await.findings.len(), 3);
    }
}

#[tokio::test]
async fn a_record_wrong_in_every_copy_is_said_and_what_does_not_need_it_restores() {
    let seed = SEED + 11;
    let (lab, first, second) = lab(seed).await;
    let mut rng = rng(seed);
    let mut records = BTreeMap::new();
    for folder in [names::MANIFESTS, names::VAULT, names::LAYOUT, names::CERTIFICATES] {
        records.extend(copies(&lab, folder).await);
    }
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..6 * scale("HOLDFAST_FLIPS") {
        for (name, at) in &records {
            let lab = lab.fork(seed + round as u64);
            for &location in at {
                flip_anywhere(&lab, location, name, &mut rng).await;
            }
            let vault = match lab.open().await {
                Ok(vault) => vault,
                Err(OpsError::NoVault { .. }) if name.starts_with(names::VAULT) => {
                    *told.entry("no vault record").or_default() += 1;
                    continue;
                }
                Err(OpsError::Corrupt { what, .. }) if name.starts_with(names::LAYOUT) => {
                    assert!(what.contains("layout"), "{what}");
                    *told.entry("no layout record").or_default() += 1;
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            };
            let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
            for back in 0..list.points.len() {
                let bytes = lab.restore_listed(&vault, &list, back).await.unwrap().0;
                assert!(bytes == first || bytes == second, "a wrong restore: {name}");
            }
            let report = audit(&lab, &vault, None).await;
            if list.points.len() == 2 {
                // The operator's certificate stands in the vault record too.
                assert!(name.starts_with(names::CERTIFICATES), "{name}");
                assert_eq!(report.worst(), Outcome::Contained);
                *told.entry("known from elsewhere").or_default() += 1;
            } else {
                assert!(!list.remarks.is_empty(), "{name}");
                assert_eq!(report.worst(), Outcome::Failed, "{name}: {:?}, {:?}", report.records, list.remarks);
                *told.entry("said by list and audit").or_default() += 1;
            }
        }
    }
    let rounds = 6 * scale("HOLDFAST_FLIPS");
    let wanted =
        [("known from elsewhere", 1), ("no layout record", 1), ("no vault record", 1), ("said by list and audit", 3)];
    assert_eq!(told, wanted.map(|(what, times)| (what, times * rounds)).into());
}
