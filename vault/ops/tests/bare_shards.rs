//! Shards alone, in any folders, under any names, among other people's files: with
//! the key they are enough for every point, and what nobody certified is not
//! accepted. Then the same shards are brought home into an emptied vault.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::SigningKey;
use keys::certificate::{Request, issue};
use keys::first::FirstKeys;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use vault_codec::{Buffers, Chunk, Compression, FrameEncoder, Packer, SealContext, ShardSet};
use vault_format::body::ChunkKind;
use vault_format::certificate::Role;
use vault_format::point::{PointRecord, Statistics};
use vault_format::shard::{HEADER_BYTES, SIGNED_BYTES};
use vault_format::suite::{Class, Coding};
use vault_format::tree::{ChunkRef, Content};
use vault_format::{Blob, names};
use vault_ops::OpsError;
use vault_ops::audit::{AuditOptions, Outcome};
use vault_ops::fetch::{Fetcher, Trust};
use vault_ops::import;
use vault_ops::location::Location;
use vault_ops::restore::open_point;
use vault_ops::scan::{BareVault, Scan, find_points, scan};
use vault_ops::world::Compute;
use world::{Lab, below, draw, folder, names_of, random_bytes, read_stream, rng, stream_reading, subsets};

const K: usize = 3;
const N: usize = 5;

/// A vault of 3 of 5 with two points of several packs.
async fn lab(seed: u64) -> (Lab, Vec<Vec<u8>>) {
    let mut lab = Lab::new(seed, (K as u8, N as u8), 0, &[0; 5]).await;
    let mut bytes = random_bytes(seed, 500_000);
    lab.backup(&bytes).await.unwrap();
    let older = bytes.clone();
    bytes.extend(random_bytes(seed + 1, 40_000));
    lab.backup(&bytes).await.unwrap();
    (lab, vec![older, bytes])
}

/// All shards of a vault: pack, index, bytes.
async fn shards(lab: &Lab) -> BTreeMap<String, BTreeMap<u8, Vec<u8>>> {
    let mut packs: BTreeMap<String, BTreeMap<u8, Vec<u8>>> = BTreeMap::new();
    for at in 0..lab.stores.len() {
        for name in lab.names(at).await {
            if let Some((_, pack, index)) = names::parse_shard(&name) {
                packs.entry(pack.to_string()).or_default().insert(index, lab.get(at, &name).await);
            }
        }
    }
    assert!(packs.values().all(|shards| shards.len() == N));
    packs
}

/// Folders of a person who has saved what could be saved.
struct Folders {
    stores: Vec<(String, Arc<InMemory>)>,
    rng: ChaCha20Rng,
}

impl Folders {
    fn new(seed: u64, count: usize) -> Self {
        let stores = (0..count).map(|at| (format!("folder {at}"), Arc::new(InMemory::new()))).collect();
        Self { stores, rng: rng(seed) }
    }

    /// Puts a file into some folder under a name that says nothing.
    async fn throw_in(&mut self, bytes: &[u8]) -> String {
        let at = below(&mut self.rng, self.stores.len());
        let name = match self.rng.next_u32() % 3 {
            0 => format!("{:016x}", self.rng.next_u64()),
            1 => format!("photos/{:x}/IMG {}.jpg", self.rng.next_u32(), self.rng.next_u32()),
            _ => format!("{:x}.tmp", self.rng.next_u64()),
        };
        self.stores[at].1.put(&Path::from(name.as_str()), bytes.to_vec().into()).await.unwrap();
        name
    }

    async fn throw_in_any_k(&mut self, lab: &Lab) {
        for shards in shards(lab).await.into_values() {
            for index in draw(&mut self.rng, N, K) {
                self.throw_in(&shards[&(index as u8)]).await;
            }
        }
    }

    fn locations(&self) -> Vec<Arc<Location>> {
        self.stores.iter().map(|(name, store)| folder(name, store)).collect()
    }

    async fn scan(&self) -> Scan {
        scan(&vault_ops::progress::Progress::default(), &self.locations()).await.unwrap()
    }
}

/// Restores every point found, oldest first.
async fn restore_all(lab: &Lab, bare: &BareVault) -> Vec<Vec<u8>> {
    let mut restored = Vec::new();
    for point in &bare.points {
        let fetcher = Fetcher::new(lab.world.clone(), bare.holdings.clone(), Trust::Signed(bare.writers.clone()));
        let open = open_point(fetcher, lab.read_key(), Compute::Inline, point.pack, None).await.unwrap();
        restored.push(read_stream(&open).await.unwrap());
    }
    restored
}

#[tokio::test]
async fn any_k_shards_of_each_pack_are_enough() {
    let (lab, points) = lab(1).await;
    let all = shards(&lab).await;
    for (turn, indices) in subsets(N, K).into_iter().enumerate() {
        let mut folders = Folders::new(turn as u64, 3);
        for shards in all.values() {
            for &index in &indices {
                folders.throw_in(&shards[&(index as u8)]).await;
            }
        }
        let bare = find_points(&lab.world, &folders.scan().await, lab.keys.public.vault, &lab.read_key()).await;
        assert!(bare.unusable.is_empty(), "{:?}", bare.unusable);
        assert!(restore_all(&lab, &bare).await == points, "shards {indices:?}");
    }
}

#[tokio::test]
async fn one_shard_too_few_is_an_error_that_counts_them() {
    let (lab, _) = lab(2).await;
    let mut folders = Folders::new(2, 1);
    for shards in shards(&lab).await.into_values() {
        for bytes in shards.values().take(K - 1) {
            folders.throw_in(bytes).await;
        }
    }
    let bare = find_points(&lab.world, &folders.scan().await, lab.keys.public.vault, &lab.read_key()).await;
    assert!(bare.points.is_empty() && !bare.unusable.is_empty());
    for (_, why) in &bare.unusable {
        assert!(why.contains("2 good shards of the 3 it needs"), "{why}");
    }
}

/// Two vaults in the same folders, k good shards of each pack and beside them
/// damaged and cut ones, copies, and files of all kinds.
#[tokio::test]
async fn two_vaults_among_rubbish_are_told_apart_and_restore() {
    for seed in 10..14 {
        let ((one, points_one), (other, points_other)) = (lab(seed).await, lab(seed + 100).await);
        let mut folders = Folders::new(seed, 4);
        let mut cut = BTreeSet::new();
        for lab in [&one, &other] {
            for shards in shards(lab).await.into_values() {
                let good: BTreeSet<usize> = draw(&mut folders.rng, N, K).into_iter().collect();
                for (index, bytes) in shards {
                    if good.contains(&usize::from(index)) {
                        folders.throw_in(&bytes).await;
                        if index == 0 {
                            folders.throw_in(&bytes).await;
                        }
                        continue;
                    }
                    // Damage that the header survives: in the payload, or in the signatures.
                    let mut bad = bytes.clone();
                    let at = HEADER_BYTES + below(&mut folders.rng, 60_000);
                    bad[at] ^= 0x40;
                    folders.throw_in(&bad).await;
                    let mut bad = bytes.clone();
                    bad[SIGNED_BYTES + below(&mut folders.rng, 3_000)] ^= 0x40;
                    folders.throw_in(&bad).await;
                    // Damage that it does not.
                    let keep = 1 + below(&mut folders.rng, bytes.len() - 1);
                    let name = folders.throw_in(&bytes[..keep]).await;
                    if keep >= 8 {
                        cut.insert(name);
                    }
                }
            }
        }
        for foreign in [Vec::new(), b"HFSHARD".to_vec(), b"<html>".to_vec(), random_bytes(seed, 100_000)] {
            folders.throw_in(&foreign).await;
        }
        cut.insert(folders.throw_in(b"HFSHARD1 is how my novel begins").await);
        cut.insert(folders.throw_in(b"HFRECRD1 and so does its sequel").await);

        let found = folders.scan().await;
        assert_eq!(found.vaults.len(), 2);
        let quarantined: BTreeSet<String> = found.quarantined.iter().map(|file| file.name.clone()).collect();
        assert_eq!(quarantined, cut, "cut files are quarantined by name");
        assert!(found.quarantined.iter().all(|file| !file.why.is_empty() && file.folder.starts_with("folder")));
        assert!(found.foreign >= 4, "{} foreign", found.foreign);
        for (lab, points) in [(&one, &points_one), (&other, &points_other)] {
            let bare = find_points(&lab.world, &found, lab.keys.public.vault, &lab.read_key()).await;
            assert!(bare.unusable.is_empty(), "seed {seed}: {:?}", bare.unusable);
            assert!(restore_all(lab, &bare).await == *points, "seed {seed}");
        }
    }
}

#[tokio::test]
async fn the_key_of_another_vault_opens_nothing_and_is_named_as_the_reason() {
    let ((one, _), (other, _)) = (lab(20).await, lab(21).await);
    let mut folders = Folders::new(20, 2);
    folders.throw_in_any_k(&one).await;
    let bare = find_points(&one.world, &folders.scan().await, one.keys.public.vault, &other.read_key()).await;
    assert!(bare.points.is_empty());
    assert_eq!(bare.unusable.len(), shards(&one).await.len());
    for (_, why) in &bare.unusable {
        assert!(why.contains("key") && why.contains("of the vault this pack belongs to"), "{why}");
    }
}

/// What somebody makes who knows all that is public of `victim` (its vault, its
/// writer, the key to seal to, its certificates) and, like another writer of its
/// scope, the key of its chunk ids. The signature is their own.
fn forged_pack(
    victim: &Lab,
    forger: &FirstKeys,
    certificates: Vec<Blob>,
    vault_record: Vec<u8>,
    seed: u64,
) -> ShardSet {
    let mut rng = rng(seed);
    let (vault, writer) = (victim.keys.public.vault, victim.keys.writer.writer);
    let id_key = &victim.keys.writer.dedup.id_key;
    let bytes = random_bytes(seed, 20_000);
    let data = Chunk::new(id_key, ChunkKind::Data, &bytes);
    let content = Content { bytes: 20_000, depth: 0, chunks: vec![ChunkRef { id: data.id, bytes: 20_000 }] };
    let record = PointRecord {
        vault,
        writer,
        epoch: 1,
        sequence: 9,
        source: "bytes".to_owned(),
        host: "lab".to_owned(),
        started_ms: i64::MAX - 1,
        finished_ms: i64::MAX,
        root: stream_reading(content, &bytes).root,
        packs: Vec::new(),
        packs_more: None,
        previous: None,
        certificates: certificates.clone(),
        vault_record: Blob(vault_record),
        key_history: Vec::new(),
        tags: Vec::new(),
        statistics: Statistics {
            items: 1,
            changed: 1,
            unreadable: 0,
            plain_bytes: 20_000,
            new_bytes: 20_000,
            packed_bytes: 0,
        },
        successor_of: None,
    };
    let record = vault_format::encode(&record);
    let mut encoder = FrameEncoder::new(Compression::Never).unwrap();
    let mut packer = Packer::new(Coding::new(K as u8, N as u8).unwrap(), Class::Leaves64);
    assert!(packer.add(encoder.encode(&data).unwrap(), &mut rng).unwrap().is_none());
    let last = packer.finish_for_point(record.len()).last;
    let frame = encoder.encode(&Chunk::new(id_key, ChunkKind::PointRecord, &record)).unwrap();
    let sealing = SealContext {
        vault,
        writer,
        epoch: 1,
        sequence: 9,
        recipients: &victim.keys.writer.reader,
        index: &forger.writer.index,
        local: &forger.writer.local,
    };
    let buffers = Buffers::new(2);
    let certificate = keys::record::hash(&certificates[1].0);
    last.close(frame)
        .unwrap()
        .seal(&sealing, &buffers, &mut rng)
        .unwrap()
        .code(&forger.writer.signing, certificate, &buffers)
        .unwrap()
}

/// A chain of certificates for the victim's vault and writer, under another root.
fn own_certificates(victim: &FirstKeys, forger: &FirstKeys) -> Vec<Blob> {
    let vault = victim.public.vault;
    let request = |role, subject, signing: &SigningKey| Request {
        role,
        subject,
        public: signing.verifying_key().clone(),
        kem_public: None,
        serial: 1,
        not_before_ms: 1,
        not_after_ms: i64::MAX,
        scope: (role == Role::Writer).then_some(forger.writer.scope),
        name: "lab".to_owned(),
    };
    let root = forger.master.seed.root_key(forger.master.generation);
    let operator = request(Role::Operator, forger.operator.subject, &forger.operator.signing);
    let writer = request(Role::Writer, victim.writer.writer, &forger.writer.signing);
    vec![Blob(issue(&root, vault, operator).unwrap()), Blob(issue(&forger.operator.signing, vault, writer).unwrap())]
}

/// The forger's shards are whole, are sealed to the right reader and carry the
/// right vault and writer.
#[tokio::test]
async fn packs_made_with_public_keys_alone_are_never_accepted() {
    let (lab, points) = lab(30).await;
    let forger = FirstKeys::draw(&mut rng(31), "forger", 1);
    let own = own_certificates(&lab.keys, &forger);
    for certificates in [own.clone(), lab.keys.writer.certificates.clone()] {
        let vault_record = lab.open().await.unwrap().record_bytes;
        let set = forged_pack(&lab, &forger, certificates, vault_record, 32);
        let mut folders = Folders::new(33, 2);
        folders.throw_in_any_k(&lab).await;
        let mut forged_names = BTreeSet::new();
        for object in set.objects() {
            forged_names.insert(folders.throw_in(&object.to_vec()).await);
        }
        let mut false_names = forged_names.clone();
        for Blob(bytes) in &own {
            false_names.insert(folders.throw_in(bytes).await);
        }
        let bare = find_points(&lab.world, &folders.scan().await, lab.keys.public.vault, &lab.read_key()).await;
        assert!(restore_all(&lab, &bare).await == points, "only what the true writer made");
        assert_eq!(bare.unusable.len(), 1);
        assert_eq!(bare.unusable[0].0, set.pack(), "{:?}", bare.unusable);
        assert!(bare.writers.values().all(|writer| writer.public() == lab.keys.writer.signing.verifying_key()));
        // Nor when asked for by name.
        let fetcher = Fetcher::new(lab.world.clone(), bare.holdings.clone(), Trust::Signed(bare.writers.clone()));
        assert!(open_point(fetcher, lab.read_key(), Compute::Inline, set.pack(), None).await.is_err());

        let vault = lab.open().await.unwrap();
        let plan = import::plan(&vault, Some(&lab.read_key()), &folders.locations()).await.unwrap();
        let quarantined: BTreeSet<String> = plan.quarantined.iter().map(|file| file.name.clone()).collect();
        assert_eq!(quarantined, false_names, "an import quarantines them by name");
        assert!(plan.packs.iter().all(|found| found.pack != set.pack()));
        assert_eq!((plan.shards(), plan.points.len()), (0, 2), "the vault has all of its own already");
    }
}

/// FORMAT.md, 15: the vault record in a point record must be the root's word, too. Here
/// the true writer signs all, and embeds what another root said, or nobody.
#[tokio::test]
async fn a_point_whose_vault_record_is_not_the_roots_is_refused() {
    let ((lab, points), (other, _)) = (lab(90).await, lab(91).await);
    let true_record = lab.open().await.unwrap().record_bytes;
    let mut flipped = true_record.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let certificates = || lab.keys.writer.certificates.clone();
    let good = forged_pack(&lab, &lab.keys, certificates(), true_record.clone(), 92);
    for (wrong, why) in [(other.open().await.unwrap().record_bytes, "vault"), (flipped, "signature"), (vec![], "")] {
        let set = forged_pack(&lab, &lab.keys, certificates(), wrong, 93);
        let mut folders = Folders::new(94, 1);
        folders.throw_in_any_k(&lab).await;
        for object in set.objects().chain(good.objects()) {
            folders.throw_in(&object.to_vec()).await;
        }
        let bare = find_points(&lab.world, &folders.scan().await, lab.keys.public.vault, &lab.read_key()).await;
        let packs: BTreeSet<_> = bare.points.iter().map(|point| point.pack).collect();
        assert_eq!(packs.len(), points.len() + 1, "the same pack with the root's record is a point");
        assert!(packs.contains(&good.pack()) && !packs.contains(&set.pack()));
        assert_eq!(bare.unusable.len(), 1, "{:?}", bare.unusable);
        assert!(bare.unusable[0].1.contains("the vault record in the point record"), "{}", bare.unusable[0].1);
        assert!(bare.unusable[0].1.contains(why), "{}", bare.unusable[0].1);
    }
}

/// Somebody who can write to a folder adds a shard of a true pack with a header of
/// their making.
#[tokio::test]
async fn a_forged_header_does_not_hide_the_true_ones_of_its_pack() {
    let (lab, points) = lab(40).await;
    let mut folders = Folders::new(40, 1);
    for shards in shards(&lab).await.into_values() {
        for index in draw(&mut folders.rng, N, K) {
            let bytes = &shards[&(index as u8)];
            folders.throw_in(bytes).await;
            for _ in 0..3 {
                let mut forged = bytes.clone();
                let at = SIGNED_BYTES + below(&mut folders.rng, 3_000);
                forged[at] ^= 1 << (folders.rng.next_u32() % 8);
                folders.throw_in(&forged).await;
            }
        }
    }
    let bare = find_points(&lab.world, &folders.scan().await, lab.keys.public.vault, &lab.read_key()).await;
    assert!(restore_all(&lab, &bare).await == points);
}

/// What an import may be given, and what is left of the vault.
#[derive(Clone, Copy, Debug)]
struct Case {
    manifests: bool,
    certificates_left: bool,
}

#[tokio::test]
async fn an_emptied_vault_is_filled_from_orphans_again() {
    for case in [(true, true), (true, false), (false, true), (false, false)] {
        let case = Case { manifests: case.0, certificates_left: case.1 };
        let (mut lab, points) = lab(50).await;
        let mut folders = Folders::new(51, 3);
        folders.throw_in_any_k(&lab).await;
        let cut = folders.throw_in(&b"HFSHARD1"[..]).await;
        for at in 0..lab.stores.len() {
            for name in lab.names(at).await {
                if case.manifests && at == 0 && name.starts_with(names::MANIFESTS) {
                    folders.throw_in(&lab.get(at, &name).await).await;
                }
                let certificate = name.starts_with(names::CERTIFICATES) && !case.certificates_left;
                if certificate || name.starts_with(names::SHARDS) || name.starts_with(names::MANIFESTS) {
                    lab.delete(at, &name).await;
                }
            }
        }
        lab.forget_catalog();

        let vault = lab.open().await.unwrap();
        let plan = import::plan(&vault, Some(&lab.read_key()), &folders.locations()).await.unwrap();
        assert_eq!(plan.points.iter().map(|point| point.has_manifest).collect::<Vec<_>>(), [case.manifests; 2]);
        assert!(plan.packs.iter().all(|found| (found.found, found.at_home, found.need) == (K, 0, K)));
        assert_eq!(plan.shards(), plan.packs.len() * K);
        assert_eq!(plan.quarantined.len(), 1);
        assert_eq!(plan.quarantined[0].name, cut, "{:?}", plan.quarantined);
        let done = import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
        assert!(done.failed.is_empty(), "{case:?}: {:?}", done.failed);
        assert_eq!((done.shards, done.points), (plan.packs.len() * K, 2));

        let vault = lab.open().await.unwrap();
        let options = AuditOptions { samples: 10, location: None, full: true };
        let report = vault_ops::audit::run(&vault, &lab.catalog, &options).await.unwrap();
        assert_eq!(report.packs, plan.packs.len(), "{case:?}: the imported packs are known");
        assert!(report.locations.iter().map(|line| line.ok).sum::<u64>() > 0);
        assert!(report.short.is_empty() && report.findings.iter().all(|finding| finding.what.contains("not there")));
        let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
        let done = vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
        assert!(done.failed.is_empty() && done.lost.is_empty(), "{case:?}: {done:?}");
        let report = vault_ops::audit::run(&vault, &lab.catalog, &options).await.unwrap();
        assert_eq!(report.worst(), Outcome::Ok, "{case:?}: {:?} {:?}", report.findings, report.records);
        assert_eq!(report.packs, vault_packs(&lab).await);

        let rows = lab.catalog.points().unwrap();
        assert_eq!(rows.iter().map(|row| row.verified).collect::<Vec<_>>(), [case.manifests; 2]);
        for (row, bytes) in rows.iter().zip(&points) {
            let point = lab.open_point(&vault, row.pack, None).await.unwrap();
            assert!(read_stream(&point).await.unwrap() == *bytes, "{case:?}");
        }
        if case.manifests {
            assert!([lab.restore(1).await.unwrap(), lab.restore(0).await.unwrap()] == points[..]);
        }
        // And the vault lives on.
        let more = random_bytes(52, 100_000);
        lab.backup(&more).await.unwrap();
        assert!(lab.restore(0).await.unwrap() == more);
    }
}

async fn vault_packs(lab: &Lab) -> usize {
    let mut packs = BTreeSet::new();
    for (_, store) in &lab.stores {
        let names = names_of(store.as_ref() as &dyn ObjectStore).await;
        packs.extend(names.iter().filter_map(|name| Some(names::parse_shard(name)?.1)));
    }
    packs.len()
}

#[tokio::test]
async fn an_import_without_a_key_brings_shards_home_and_changes_nothing_that_stands() {
    let (mut lab, points) = lab(60).await;
    let mut folders = Folders::new(61, 2);
    folders.throw_in_any_k(&lab).await;
    let mut gone = 0;
    for at in 0..2 {
        for name in lab.names(at).await.into_iter().filter(|name| name.starts_with(names::SHARDS)) {
            lab.delete(at, &name).await;
            gone += 1;
        }
    }
    let before: Vec<Vec<String>> = [lab.names(2).await, lab.names(3).await, lab.names(4).await].into();
    let vault = lab.open().await.unwrap();
    let plan = import::plan(&vault, None, &folders.locations()).await.unwrap();
    assert!(plan.shards() > 0 && plan.shards() <= gone && plan.points.is_empty());
    let done = import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    assert!(done.failed.is_empty(), "{:?}", done.failed);
    assert_eq!(before, [lab.names(2).await, lab.names(3).await, lab.names(4).await]);
    assert!(lab.restore(0).await.unwrap() == points[1]);
    let vault = lab.open().await.unwrap();
    assert_eq!(
        import::plan(&vault, None, &folders.locations()).await.unwrap().shards(),
        0,
        "a second one has nothing to do"
    );
}

#[tokio::test]
async fn a_damaged_orphan_is_not_brought_home() {
    let (mut lab, points) = lab(70).await;
    let mut folders = Folders::new(71, 1);
    let name = lab.names(0).await.into_iter().find(|name| name.starts_with(names::SHARDS)).unwrap();
    let mut bytes = lab.get(0, &name).await;
    lab.delete(0, &name).await;
    bytes[HEADER_BYTES + 77] ^= 1;
    let orphan = folders.throw_in(&bytes).await;
    let vault = lab.open().await.unwrap();
    let plan = import::plan(&vault, None, &folders.locations()).await.unwrap();
    assert_eq!((plan.shards(), plan.quarantined.len()), (0, 1), "{:?}", plan.quarantined);
    assert!(
        plan.quarantined[0].name == orphan && plan.quarantined[0].why.contains("not the signed one"),
        "{:?}",
        plan.quarantined
    );
    let done = import::apply(&vault, &mut lab.catalog, &plan).await.unwrap();
    assert_eq!((done.shards, done.failed.len()), (0, 0));
    assert!(!lab.names(0).await.contains(&name));
    assert!(lab.restore(0).await.unwrap() == points[1]);
}

#[tokio::test]
async fn a_point_record_that_is_not_the_signed_one_is_refused() {
    let (lab, _) = lab(80).await;
    let vault = lab.open().await.unwrap();
    let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
    let error = lab.open_point(&vault, list.points[0].pack, Some(list.points[1].record)).await.err().unwrap();
    assert!(matches!(&error, OpsError::Corrupt { why, .. } if why.contains("the manifest signed")), "{error}");
}
