//! Points in the spool that can never be delivered: they are named, they stop nobody,
//! and what a person sets aside is moved, byte for byte, not deleted.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use vault_format::certificate::Revocation;
use vault_format::envelope::RecordKind;
use vault_format::tombstone::{Tombstone, TombstoneAction};
use vault_format::{Hash, encode, names};
use vault_ops::backup::Standing;
use vault_ops::heartbeat::{self, Beat};
use vault_ops::spool::{ASIDE, AsidePlan, Delivery, deliver, plan_aside, set_aside};
use vault_ops::status::{self, SpoolLine};
use world::{Lab, folder, names_of, random_bytes};

const DOMAINS: usize = 4;

/// A vault with one point at its locations and one that waits, made of the same bytes
/// or of others.
async fn lab(seed: u64, waiting: &[u8]) -> Lab {
    let mut lab = Lab::new(seed, (3, 5), 1, &[0, 1, 2, 3]).await;
    lab.spool = Some(Arc::new(InMemory::new()));
    vault_ops::spool::keep_records(&lab.open().await.unwrap()).await.unwrap();
    lab.backup(&old()).await.unwrap();
    lab.down = (0..DOMAINS).collect();
    assert_eq!(lab.backup(waiting).await.unwrap().standing(), Standing::Spooled);
    lab.down.clear();
    lab
}

fn old() -> Vec<u8> {
    random_bytes(16, 50_000)
}

async fn deliver_in(lab: &mut Lab) -> Delivery {
    let vault = lab.open().await.unwrap();
    deliver(&vault, &lab.writer(), &mut lab.catalog).await.unwrap()
}

/// Shards and manifests in the spool, or below a folder of it.
async fn lies(lab: &Lab, below: &str) -> BTreeMap<String, Vec<u8>> {
    let spool = lab.spool.as_ref().unwrap();
    let mut found = BTreeMap::new();
    for name in names_of(&**spool).await {
        let Some(short) = name.strip_prefix(below) else { continue };
        if short.starts_with("shards/") || short.starts_with("manifests/") {
            let bytes = spool.get(&Path::from(name.as_str())).await.unwrap().bytes().await.unwrap();
            found.insert(short.to_owned(), bytes.to_vec());
        }
    }
    found
}

async fn spool_line(lab: &Lab) -> Option<SpoolLine> {
    status::look(&lab.open().await.unwrap(), &lab.catalog).await.unwrap().spool
}

/// Heartbeats and backups go on, every one of them delivered at once, and what is stuck
/// stays as it was.
async fn nobody_waits(lab: &mut Lab) {
    let before = lies(lab, "").await;
    for turn in 0..2 {
        lab.world.clock.sleep(heartbeat::IDLE).await;
        let vault = lab.open().await.unwrap();
        let writer = lab.writer();
        let beat = heartbeat::beat(&vault, &writer, &mut lab.catalog, heartbeat::IDLE).await.unwrap();
        assert!(matches!(beat, Beat::Sent { .. }), "{beat:?}");
        let new = random_bytes(100 + turn, 60_000);
        let report = lab.backup(&new).await.unwrap();
        assert_eq!(report.standing(), Standing::Full, "{report:?}");
        assert!(lab.restore(0).await.unwrap() == new);
        let after = lies(lab, "").await;
        assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "a stuck point was touched");
    }
}

/// Sets aside what is stuck: everything in the spool, as it was.
async fn all_goes_aside(lab: &mut Lab) -> AsidePlan {
    let delivery = deliver_in(lab).await;
    assert_eq!(delivery.stuck.len(), 1, "{delivery:?}");
    let before = lies(lab, "").await;
    let vault = lab.open().await.unwrap();
    let plan = plan_aside(&vault, &lab.writer(), &delivery.stuck).await.unwrap();
    assert_eq!(lies(lab, "").await, before, "a plan changes nothing");
    assert!(plan.objects.iter().all(|name| before.contains_key(name)), "{plan:?}");
    assert_eq!(plan.objects.len(), before.len(), "{plan:?} of {:?}", before.keys());
    set_aside(&vault, &mut lab.catalog, &plan).await.unwrap();
    assert!(lies(lab, "").await.is_empty());
    assert_eq!(lies(lab, &format!("{ASIDE}/")).await, before, "moved, byte for byte");
    assert!(spool_line(lab).await.is_none());
    let delivery = deliver_in(lab).await;
    assert!(delivery.stuck.is_empty() && delivery.left == 0, "{delivery:?}");
    let vault = lab.open().await.unwrap();
    assert!(plan_aside(&vault, &lab.writer(), &[]).await.unwrap().objects.is_empty());
    plan
}

/// The janitor condemns the pack that the waiting point leans on.
async fn condemn(lab: &Lab) {
    let tombstone = Tombstone {
        gc_epoch: 1,
        sequence: 1,
        previous: Hash::default(),
        action: TombstoneAction::Trash,
        manifests: Vec::new(),
        packs: vec![lab.catalog.points().unwrap()[0].part.references[0]],
        journals: Vec::new(),
        created_ms: 0,
        delete_after_ms: 86_400_000,
        reason: String::new(),
    };
    let operator = lab.keys.operator.certified().unwrap();
    let vault = lab.keys.public.vault;
    let bytes = keys::record::sign(RecordKind::Tombstone, vault, &encode(&tombstone), &lab.keys.operator.signing);
    for at in 0..DOMAINS {
        lab.put(at, &names::tombstone(operator.subject(), 1), bytes.clone()).await;
    }
}

#[tokio::test]
async fn a_point_whose_packs_were_condemned_stops_nobody_and_goes_aside() {
    let mut lab = lab(1, &old()).await;
    condemn(&lab).await;
    let delivery = deliver_in(&mut lab).await;
    assert!(delivery.stuck[0].why.contains("condemned") && delivery.why.is_none(), "{delivery:?}");
    let line = spool_line(&lab).await.unwrap();
    assert_eq!((line.points, line.stuck.clone()), (1, delivery.stuck.clone()), "status says the same");
    assert!(line.stuck[0].point.is_some());
    nobody_waits(&mut lab).await;
    // A delivery that cannot try says nothing else of it.
    lab.down = (0..DOMAINS).collect();
    assert!(deliver_in(&mut lab).await.stuck.is_empty());
    assert_eq!(spool_line(&lab).await.unwrap().stuck, delivery.stuck);
    lab.down.clear();
    all_goes_aside(&mut lab).await;
    nobody_waits(&mut lab).await;
}

#[tokio::test]
async fn a_manifest_that_rotted_stops_nobody_and_its_shards_can_be_read_from_aside() {
    let text = random_bytes(17, 70_000);
    let mut lab = lab(2, &text).await;
    let spool = Arc::clone(lab.spool.as_ref().unwrap());
    let name = lies(&lab, "").await.into_keys().find(|name| name.starts_with("manifests/")).unwrap();
    let mut bytes = spool.get(&Path::from(name.as_str())).await.unwrap().bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    spool.put(&Path::from(name.as_str()), bytes.into()).await.unwrap();
    // With the locations away, too: nothing is written over it.
    lab.down = (0..DOMAINS).collect();
    let newer = random_bytes(18, 40_000);
    assert_eq!(lab.backup(&newer).await.unwrap().standing(), Standing::Spooled);
    lab.down.clear();
    let delivery = deliver_in(&mut lab).await;
    assert_eq!((delivery.delivered.len(), delivery.left), (1, 1), "{delivery:?}");
    assert!(lab.restore(0).await.unwrap() == newer);
    assert_eq!((delivery.stuck[0].point, &delivery.stuck[0].manifests), (None, &vec![name]));
    nobody_waits(&mut lab).await;
    let plan = all_goes_aside(&mut lab).await;
    assert!(!plan.packs.is_empty() && plan.bytes > 0, "{plan:?}");
    // What lies aside is a pile of bare shards: the point itself is all there.
    let aside: Arc<InMemory> = Arc::new(InMemory::new());
    for (name, bytes) in lies(&lab, &format!("{ASIDE}/")).await {
        aside.put(&Path::from(name.as_str()), bytes.into()).await.unwrap();
    }
    let found =
        vault_ops::scan::scan(&vault_ops::progress::Progress::default(), &[folder("aside", &aside)]).await.unwrap();
    let read = lab.read_key();
    let bare = vault_ops::scan::find_points(&lab.world, &found, read.vault, &read).await;
    assert_eq!(bare.points.len(), 1);
    let trust = vault_ops::fetch::Trust::Signed(bare.writers.clone());
    let fetcher = vault_ops::fetch::Fetcher::new(lab.world.clone(), bare.holdings.clone(), trust);
    let (compute, pack) = (lab.world.compute, bare.points[0].pack);
    let point = vault_ops::restore::open_point(fetcher, read, compute, pack, None).await.unwrap();
    assert!(world::read_stream(&point).await.unwrap() == text);
}

#[tokio::test]
async fn what_a_revoked_key_signed_is_named_and_goes_aside() {
    let mut lab = lab(3, &random_bytes(19, 30_000)).await;
    let vault = lab.open().await.unwrap();
    let (certificate, key) = vault.writers.iter().next().unwrap();
    let body = Revocation {
        certificate: *certificate,
        subject: key.subject(),
        epoch: 1,
        sequence: 1,
        reason: "stolen".to_owned(),
        created_ms: lab.world.now_ms(),
    };
    let bytes = keys::record::sign(RecordKind::Revocation, vault.id, &encode(&body), &lab.keys.operator.signing);
    for at in 0..DOMAINS {
        lab.put(at, &names::revocation(keys::record::hash(&bytes)), bytes.clone()).await;
    }
    let delivery = deliver_in(&mut lab).await;
    assert!(delivery.stuck[0].why.contains("revoked"), "{delivery:?}");
    all_goes_aside(&mut lab).await;
}

#[tokio::test]
async fn what_another_point_needs_is_not_moved_with_a_stuck_one() {
    let text = random_bytes(20, 60_000);
    let mut lab = lab(4, &text).await;
    lab.down = (0..DOMAINS).collect();
    // A second point that waits, of the same packs.
    assert_eq!(lab.backup(&text).await.unwrap().standing(), Standing::Spooled);
    let manifests: Vec<String> =
        lies(&lab, "").await.into_keys().filter(|name| name.starts_with("manifests/")).collect();
    let spool = Arc::clone(lab.spool.as_ref().unwrap());
    spool.put(&Path::from(manifests[0].as_str()), vec![1, 2, 3].into()).await.unwrap();
    let delivery = deliver_in(&mut lab).await;
    let vault = lab.open().await.unwrap();
    let plan = plan_aside(&vault, &lab.writer(), &delivery.stuck).await.unwrap();
    assert_eq!(plan.objects.last(), Some(&manifests[0]), "the manifest goes last");
    set_aside(&vault, &mut lab.catalog, &plan).await.unwrap();
    lab.down.clear();
    let delivery = deliver_in(&mut lab).await;
    assert!(delivery.stuck.is_empty(), "{delivery:?}");
    // The second one leans on the packs that only the first one's manifest signed first.
    assert_eq!((delivery.delivered.len(), delivery.left), (1, 0), "{delivery:?}");
    assert!(lab.restore(0).await.unwrap() == text);
}

/// What a point leans on went from all but one of the locations that answer, and the
/// others may have the rest.
#[tokio::test]
async fn a_point_that_waits_for_a_location_does_not_keep_the_next_one_back() {
    let mut lab = lab(6, &old()).await;
    lab.down = (0..DOMAINS).collect();
    let new = random_bytes(60, 70_000);
    assert_eq!(lab.backup(&new).await.unwrap().standing(), Standing::Spooled);
    let leans_on = lab.catalog.points().unwrap()[0].part.references.clone();
    for at in [1, 2] {
        for name in lab.names(at).await {
            if leans_on.iter().any(|pack| name.starts_with("shards/") && name.contains(&pack.to_string())) {
                lab.delete(at, &name).await;
            }
        }
    }
    lab.down = [3].into();
    let delivery = deliver_in(&mut lab).await;
    assert_eq!(delivery.delivered.len(), 1, "{delivery:?}");
    assert!(delivery.stuck.is_empty() && delivery.left == 1, "{delivery:?}");
    assert!(delivery.why.is_some_and(|why| why.contains("of an earlier point")));
    assert!(lab.restore(0).await.unwrap() == new);
    lab.down.clear();
    let delivery = deliver_in(&mut lab).await;
    assert!(delivery.why.is_none(), "it is delivered, or known never to be: {delivery:?}");
    assert_eq!(delivery.delivered.len() + delivery.stuck.len(), 1, "{delivery:?}");
}
