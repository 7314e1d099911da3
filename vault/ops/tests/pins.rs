//! Pins from outside: what is pinned outlives every rule, every grace and a rotation,
//! until its owner unpins it; nobody else can say either.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use vault_format::PointId;
use vault_format::envelope::RecordKind;
use vault_format::tombstone::{Tombstone, TombstoneAction};
use vault_format::{Hash, encode, names};
use vault_ops::forget::{self, ForgetPlan, Rule};
use vault_ops::janitor::Janitor;
use vault_ops::pins;
use vault_ops::points::PointName;
use vault_ops::retention::{Count, Keep};
use vault_ops::tombstones::{self, Draft, manifest_ref};
use vault_ops::{OpsError, trash};
use world::random_bytes;
use world::yard::{DAY_MS, Yard, assert_full, loaded, manifests};

fn named(id: PointId) -> [PointName; 1] {
    [PointName::parse(&id.to_string()).unwrap()]
}

impl Yard {
    async fn pin(&self, id: PointId, pinned: bool) -> vault_ops::Result<pins::PinReport> {
        let vault = self.open().await;
        if pinned {
            pins::pin(&vault, &self.catalog, &self.janitor, &named(id)).await
        } else {
            pins::unpin(&vault, &self.catalog, &self.janitor, &named(id)).await
        }
    }

    /// What `--keep-last 1` and nothing else would let go, the newest unprotected.
    async fn last_one(&self) -> ForgetPlan {
        let keep = Keep { last: Count::Most(1), ..Keep::default() };
        let rules = [Rule { source: None, writer: None, keep }];
        forget::plan(&self.open().await, &self.catalog, &self.janitor, &rules, 1).await.unwrap()
    }

    async fn listed(&self) -> (Vec<PointId>, Vec<PointId>) {
        let list = vault_ops::points::list(&self.open().await, &self.lab.read_key()).await.unwrap();
        (list.points.iter().map(|point| point.part.point).collect(), list.pinned.into_iter().collect())
    }
}

fn ids(lines: &[forget::PointLine]) -> Vec<PointId> {
    lines.iter().map(|line| line.point).collect()
}

#[tokio::test]
async fn a_pin_outlives_every_rule_and_an_unpin_lets_go() {
    let mut yard = Yard::new(0x91).await;
    let old = random_bytes(1, 300_000);
    let first = yard.backup(&old).await.point;
    for turn in 2..6 {
        yard.days(1).await;
        yard.backup(&random_bytes(turn, 60_000)).await;
    }
    assert_eq!(yard.last_one().await.forget.len(), 4);
    let done = yard.pin(first, true).await.unwrap();
    assert_eq!((done.changed.len(), done.already.len()), (1, 0));
    assert_eq!(yard.listed().await.1, [first]);
    // Again changes nothing, and writes nothing.
    let again = yard.pin(first, true).await.unwrap();
    assert!(again.written.is_none() && again.already.len() == 1);

    let plan = yard.last_one().await;
    assert!(!ids(&plan.forget).contains(&first) && plan.keep.iter().any(|line| line.point == first && line.pinned));
    forget::apply(&yard.open().await, &yard.janitor, &plan, 7 * DAY_MS, true).await.unwrap();
    for _ in 0..4 {
        yard.days(10).await;
        yard.backup(&random_bytes(9, 60_000)).await;
        yard.gc().await.unwrap();
    }
    let (points, pinned) = yard.listed().await;
    assert!(points[0] == first && pinned == [first]);
    yard.restores(points.len() - 1, &old).await;

    // By name it is refused, and the next command is said.
    let error = forget::plan_named(&yard.open().await, &yard.catalog, &yard.janitor, &named(first)).await.unwrap_err();
    assert!(matches!(error, OpsError::Refused { .. }) && error.to_string().contains("vault unpin p-"), "{error}");

    yard.pin(first, false).await.unwrap();
    assert!(yard.listed().await.1.is_empty());
    let plan = yard.last_one().await;
    assert!(ids(&plan.forget).contains(&first));
    forget::apply(&yard.open().await, &yard.janitor, &plan, 7 * DAY_MS, true).await.unwrap();
    let before = yard.shards().await;
    for _ in 0..4 {
        yard.days(10).await;
        yard.backup(&random_bytes(9, 60_000)).await;
        yard.gc().await.unwrap();
    }
    assert!(!yard.listed().await.0.contains(&first) && yard.shards().await < before);
    assert_full(&yard).await;
}

/// A point made pinned says so in its manifest; the janitor's word stands above that.
#[tokio::test]
async fn what_was_made_pinned_can_be_unpinned() {
    let mut yard = Yard::new(0x92).await;
    yard.lab.setup.pinned = true;
    let first = yard.backup(&random_bytes(1, 80_000)).await.point;
    yard.lab.setup.pinned = false;
    let second = yard.backup(&random_bytes(2, 80_000)).await.point;
    yard.backup(&random_bytes(3, 80_000)).await;
    assert_eq!((yard.listed().await.1, ids(&yard.last_one().await.forget)), (vec![first], vec![second]));
    yard.pin(first, false).await.unwrap();
    assert_eq!((yard.listed().await.1, ids(&yard.last_one().await.forget)), (vec![], vec![first, second]));
    yard.pin(first, true).await.unwrap();
    assert_eq!(yard.listed().await.1, [first]);
}

#[tokio::test]
async fn what_is_in_the_trash_is_brought_back_first() {
    let mut yard = Yard::new(0x93).await;
    let old = random_bytes(1, 200_000);
    let first = yard.backup(&old).await.point;
    yard.backup(&random_bytes(2, 60_000)).await;
    yard.forget(&[first]).await;
    for pinned in [true, false] {
        let error = yard.pin(first, pinned).await.unwrap_err();
        assert!(matches!(error, OpsError::Refused { .. }) && error.to_string().contains("trash restore p-"), "{error}");
    }
    let unknown = PointName::parse("abcdef0123456789abcdef0123456789").unwrap();
    let error = pins::pin(&yard.open().await, &yard.catalog, &yard.janitor, &[unknown]).await.unwrap_err();
    assert!(matches!(error, OpsError::NoPoint { .. }), "{error}");
    trash::restore(&yard.open().await, &yard.catalog, &yard.janitor, &named(first)[0]).await.unwrap();
    yard.pin(first, true).await.unwrap();
    yard.restores(1, &old).await;
}

/// Two janitors at once, neither sees the other: one forgets what the other pins. In
/// whatever order they are read, the point waits in the trash and nothing of it goes.
#[tokio::test]
async fn a_pin_and_a_trash_at_once_keep_the_data() {
    for pin_first in [true, false] {
        let mut yard = Yard::new(0x94).await;
        let old = random_bytes(1, 200_000);
        let first = yard.backup(&old).await.point;
        yard.backup(&random_bytes(2, 60_000)).await;
        let operator = Janitor::Operator { operator: loaded(&yard.lab.keys.operator), read: Some(yard.lab.read_key()) };
        let vault = yard.open().await;
        let manifest = manifest_ref(&manifests(&vault, &yard.lab).await[0]);
        let draft = |action| Draft {
            action,
            manifests: vec![manifest.clone()],
            packs: Vec::new(),
            grace_ms: 7 * DAY_MS,
            reason: "at once".to_owned(),
        };
        // Both from one reading of the marks: both carry the same epoch.
        let enrolled = yard.janitor.enrol(&vault).await.unwrap();
        let (pin, forgets) = (TombstoneAction::Pin, TombstoneAction::Purge);
        let (one, other) = if pin_first { (pin, forgets) } else { (forgets, pin) };
        let one = tombstones::write(&enrolled, &yard.janitor, draft(one)).await.unwrap();
        let other = tombstones::write(&vault, &operator, draft(other)).await.unwrap();
        assert_eq!(one.gc_epoch, other.gc_epoch);
        for _ in 0..4 {
            yard.days(10).await;
            yard.backup(&random_bytes(9, 60_000)).await;
            let report = yard.gc().await.unwrap();
            assert_eq!((report.condemned, report.swept, report.deleted, report.manifests), (0, 0, 0, 0));
        }
        // Neither is it purged before it was unpinned.
        let vault = yard.open().await;
        let error = trash::purge(&vault, &yard.catalog, &yard.janitor, &named(first)[0]).await.unwrap_err();
        assert!(error.to_string().contains("is pinned"), "{error}");
        let back = trash::restore(&vault, &yard.catalog, &yard.janitor, &named(first)[0]).await.unwrap();
        assert!(back.line.pinned);
        let (points, pinned) = yard.listed().await;
        assert_eq!((points[0], pinned), (first, vec![first]));
        yard.restores(points.len() - 1, &old).await;
        assert_full(&yard).await;
    }
}

/// Of two at once the one that pins, whichever was written first.
#[tokio::test]
async fn of_a_pin_and_an_unpin_at_once_the_pin_counts() {
    for pin_first in [true, false] {
        let mut yard = Yard::new(0x95).await;
        let first = yard.backup(&random_bytes(1, 80_000)).await.point;
        let operator = Janitor::Operator { operator: loaded(&yard.lab.keys.operator), read: Some(yard.lab.read_key()) };
        let vault = yard.janitor.enrol(&yard.open().await).await.unwrap();
        let manifest = manifest_ref(&manifests(&vault, &yard.lab).await[0]);
        for (janitor, pins) in [(&yard.janitor, pin_first), (&operator, !pin_first)] {
            let action = if pins { TombstoneAction::Pin } else { TombstoneAction::Unpin };
            let draft = Draft {
                action,
                manifests: vec![manifest.clone()],
                packs: Vec::new(),
                grace_ms: 0,
                reason: String::new(),
            };
            assert_eq!(tombstones::write(&vault, janitor, draft).await.unwrap().gc_epoch, 1);
        }
        assert_eq!(yard.listed().await.1, [first]);
        yard.pin(first, false).await.unwrap();
        assert!(yard.listed().await.1.is_empty());
    }
}

/// Who stole a writer's key can make pinned points, and neither pin nor unpin what is
/// there: such a word signed by it is nobody's.
#[tokio::test]
async fn a_stolen_writer_key_neither_pins_nor_unpins() {
    let mut yard = Yard::new(0x96).await;
    let pinned = yard.backup(&random_bytes(1, 80_000)).await.point;
    yard.backup(&random_bytes(2, 80_000)).await;
    yard.pin(pinned, true).await.unwrap();
    let vault = yard.open().await;
    let manifests = manifests(&vault, &yard.lab).await;
    let thief = yard.lab.writer();
    for (at, action) in [(0, TombstoneAction::Unpin), (1, TombstoneAction::Pin)] {
        let words = Tombstone {
            gc_epoch: 50 + at,
            sequence: 1 + at,
            previous: Hash::default(),
            action,
            manifests: vec![manifest_ref(&manifests[usize::try_from(at).unwrap()])],
            packs: Vec::new(),
            journals: Vec::new(),
            created_ms: 0,
            delete_after_ms: 0,
            reason: String::new(),
        };
        let bytes = keys::record::sign(RecordKind::Tombstone, vault.id, &encode(&words), &thief.signing);
        for location in 0..3 {
            // In its own name, and in the janitor's.
            yard.lab.put(location, &names::tombstone(thief.writer, 1 + at), bytes.clone()).await;
            yard.lab.put(location, &names::tombstone(yard.janitor.id(), 7 + at), bytes.clone()).await;
        }
    }
    let (points, now) = yard.listed().await;
    assert_eq!((points.len(), now), (2, vec![pinned]));
    // Twice over: its key is none of those that are asked about tombstones, and may sign none.
    let marks = yard.open().await.marks;
    let told = |why: &str| marks.quarantined.iter().filter(|line| line.contains(why)).count();
    assert!(told("no certificate of its janitor is known") > 0, "{:?}", marks.quarantined);
    assert_eq!(told("does not allow"), 0, "a writer's key was asked: {:?}", marks.quarantined);
    let may = keys::certificate::may_sign(vault_format::certificate::Role::Writer, RecordKind::Tombstone);
    assert!(!may, "the second wall");
}

/// What this build is for a later one, an older build is for this one: an action it does
/// not know may be what keeps data, so nothing is forgotten or deleted, and nothing else
/// stops.
#[tokio::test]
async fn an_action_that_is_not_known_stops_collection_and_nothing_else() {
    let mut yard = Yard::new(0x97).await;
    let first = yard.backup(&random_bytes(1, 80_000)).await.point;
    yard.backup(&random_bytes(2, 80_000)).await;
    yard.forget(&[first]).await;
    let vault = yard.open().await;
    let last = vault.marks.tombstones.last().unwrap();
    let next = Tombstone {
        gc_epoch: 2,
        sequence: 2,
        previous: last.hash,
        action: TombstoneAction::Unpin,
        ..last.body.clone()
    };
    let unknown = TombstoneAction::VARIANTS.last().unwrap().0 + 1;
    let body = encode(&next);
    // An array of ten: epoch and sequence are a byte each, then 34 of a hash, then the action.
    assert_eq!((body[3], body[37]), (0x58, TombstoneAction::Unpin as u8));
    let bytes = [&body[..37], &[unknown], &body[38..]].concat();
    let Janitor::Own(key) = &yard.janitor else { unreachable!() };
    let bytes = keys::record::sign(RecordKind::Tombstone, vault.id, &bytes, &key.signing);
    for location in 0..3 {
        yard.lab.put(location, &names::tombstone(key.subject, 2), bytes.clone()).await;
    }
    yard.days(20).await;
    let new = random_bytes(3, 90_000);
    yard.backup(&new).await;
    let shards = yard.shards().await;
    let error = yard.gc().await.unwrap_err();
    assert!(error.to_string().contains("a newer version wrote it"), "{error}");
    assert!(yard.pin(first, true).await.is_err());
    assert_eq!(yard.shards().await, shards);
    yard.restores(0, &new).await;
}
