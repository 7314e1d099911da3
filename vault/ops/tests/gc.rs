//! The trash and garbage collection from outside: what is forgotten comes back, what
//! is swept is gone everywhere, and nothing that counts is ever touched.

#![allow(clippy::unwrap_used, clippy::type_complexity, reason = "test code")]

mod world;

use vault_format::body::ChunkKind;
use vault_format::point::SourceKind;
use vault_format::tombstone::TombstoneAction;
use vault_ops::catalog::Catalog;
use vault_ops::janitor::Janitor;
use vault_ops::points::PointName;
use vault_ops::source::{PointReader, Reading, Sink, Source};
use vault_ops::tombstones::{self, Draft, manifest_ref};
use vault_ops::vault::Vault;
use vault_ops::{census, gc, trash};
use world::stores::{Trip, Tripwire};
use world::yard::{DAY_MS, Yard, assert_full, copy_dates, loaded, manifests, options};
use world::{Lab, random_bytes};

fn operator(lab: &Lab) -> Janitor {
    Janitor::Operator { operator: loaded(&lab.keys.operator), read: Some(lab.read_key()) }
}

fn draft(action: TombstoneAction) -> Draft {
    Draft { action, manifests: Vec::new(), packs: Vec::new(), grace_ms: 7 * DAY_MS, reason: "test".to_owned() }
}

#[tokio::test]
async fn marks_hide_points_and_packs_and_give_them_back() {
    let mut lab = Lab::new(1, (3, 5), 1, &[0, 1, 2]).await;
    lab.backup(&random_bytes(1, 300_000)).await.unwrap();
    lab.backup(&random_bytes(2, 300_000)).await.unwrap();
    let janitor = operator(&lab);
    let vault = lab.open().await.unwrap();
    let first = manifests(&vault, &lab).await.remove(0);
    let packs: Vec<_> = first.body.packs.iter().map(|pack| pack.pack).collect();

    let forget = Draft { manifests: vec![manifest_ref(&first)], ..draft(TombstoneAction::Trash) };
    let written = tombstones::write(&vault, &janitor, forget).await.unwrap();
    assert_eq!((written.gc_epoch, written.owed.len()), (1, 0));
    let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
    assert_eq!((list.points.len(), list.trash.len()), (1, 1));
    // What is in the trash is still there, whole.
    assert_eq!(
        lab.open_point(&vault, list.trash[0].pack, Some(list.trash[0].record)).await.unwrap().record().sequence,
        1
    );

    let vault = vault.reread().await;
    let sweep = Draft { packs: packs.clone(), manifests: vec![manifest_ref(&first)], ..draft(TombstoneAction::Sweep) };
    let written = tombstones::write(&vault, &janitor, sweep).await.unwrap();
    assert_eq!(written.gc_epoch, 2);
    let census = census::take(&vault, &lab.catalog).await.unwrap();
    assert!(packs.iter().all(|pack| !census.packs.contains_key(pack)));
    assert_eq!(census.packs.len(), census.holdings.packs.len() - packs.len());

    // Its manifest may go from every location without leaving a gap.
    let name = vault_format::names::manifest(first.writer, 1, 1);
    for at in 0..3 {
        lab.delete(at, &name).await;
    }
    let vault = lab.open().await.unwrap();
    assert_eq!(manifests(&vault, &lab).await.len(), 1);
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");

    // A location that was wiped of its tombstones gets them back from the others.
    for name in lab.names(1).await.into_iter().filter(|name| name.starts_with("tombstones/")) {
        lab.delete(1, &name).await;
    }
    let vault = lab.open().await.unwrap();
    let plan = vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap();
    assert_eq!(plan.records.len(), 2);
    vault_ops::repair::apply(&vault, &lab.catalog, &plan).await.unwrap();
    assert!(vault_ops::repair::plan(&vault, &lab.catalog).await.unwrap().is_empty());

    let vault = lab.open().await.unwrap();
    let restore = Draft { packs: packs.clone(), ..draft(TombstoneAction::Restore) };
    tombstones::write(&vault, &janitor, restore).await.unwrap();
    let vault = lab.open().await.unwrap();
    assert!(packs.iter().all(|pack| vault.marks.pack(*pack).is_none()));
}

#[tokio::test]
async fn a_missing_tombstone_and_a_silent_domain_stop_the_janitor_and_nobody_else() {
    let mut lab = Lab::new(2, (3, 5), 1, &[0, 1, 2]).await;
    lab.backup(&random_bytes(1, 100_000)).await.unwrap();
    let janitor = operator(&lab);
    for _ in 0..3 {
        let vault = lab.open().await.unwrap();
        tombstones::write(&vault, &janitor, draft(TombstoneAction::Trash)).await.unwrap();
    }
    lab.down = vec![2];
    let vault = lab.open().await.unwrap();
    assert!(tombstones::write(&vault, &janitor, draft(TombstoneAction::Trash)).await.is_err());
    lab.down.clear();
    let second = vault_format::names::tombstone(janitor.id(), 2);
    for at in 0..3 {
        lab.delete(at, &second).await;
    }
    let vault = lab.open().await.unwrap();
    assert_eq!(vault.marks.holes.len(), 1);
    assert_eq!(vault.marks.seen_epoch(), 0);
    let error = tombstones::write(&vault, &janitor, draft(TombstoneAction::Trash)).await.unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    lab.backup(&random_bytes(2, 100_000)).await.unwrap();
    assert_eq!(lab.restore(0).await.unwrap(), random_bytes(2, 100_000));
    // Junk under a tombstone's name of nobody we know is set aside.
    let junk = vault_format::names::tombstone(vault_format::WriterId([9; 16]), 1);
    lab.put(0, &junk, vec![1; 100]).await;
    let vault = lab.open().await.unwrap();
    assert_eq!((vault.marks.quarantined.len(), vault.marks.holes.len()), (1, 1));
}

#[tokio::test]
async fn what_is_forgotten_comes_back_and_then_goes_for_good() {
    let mut yard = Yard::new(10).await;
    let (one, two, three) = (random_bytes(1, 400_000), random_bytes(2, 400_000), random_bytes(3, 100_000));
    let first = yard.backup(&one).await.point;
    yard.backup(&two).await;
    yard.forget(&[first]).await;
    let vault = yard.open().await;
    let trash = trash::list(&vault, &yard.catalog, &yard.janitor).await.unwrap();
    assert_eq!((trash.len(), trash[0].line.point, trash[0].gone), (1, first, 0));
    // Within its grace nothing is even condemned.
    yard.days(6).await;
    let report = yard.gc().await.unwrap();
    assert_eq!((report.condemned, report.swept, report.deleted), (0, 0, 0));
    let name = PointName::parse(&first.to_string()).unwrap();
    trash::restore(&vault, &yard.catalog, &yard.janitor, &name).await.unwrap();
    yard.restores(1, &one).await;
    yard.backup(&two).await;
    let before = yard.shards().await;
    // Forgotten again, its grace passes: condemned, but no writer has seen that yet.
    yard.forget(&[first]).await;
    yard.days(8).await;
    let report = yard.gc().await.unwrap();
    assert!(report.condemned > 0 && report.swept == 0, "{report:?}");
    yard.days(2).await;
    let report = yard.gc().await.unwrap();
    assert_eq!((report.swept, report.waiting.len()), (0, 1), "{report:?}");
    assert_eq!(yard.shards().await, before);
    // The writer's next manifest saw it.
    yard.backup(&three).await;
    let report = yard.gc().await.unwrap();
    assert!(report.swept > 0 && report.deleted > 0 && report.failed.is_empty(), "{report:?}");
    yard.restores(2, &two).await;
    yard.restores(0, &three).await;
    assert_full(&yard).await;
    let vault = yard.open().await;
    assert!(trash::restore(&vault, &yard.catalog, &yard.janitor, &name).await.is_err());
    // Its manifest goes last, and nothing is left to do.
    let report = yard.gc().await.unwrap();
    assert_eq!((report.manifests, report.failed.len()), (1, 0), "{report:?}");
    let vault = yard.open().await;
    assert!(gc::plan(&vault, &yard.catalog, &yard.janitor, &options()).await.unwrap().is_empty());
    assert_full(&yard).await;
    yard.backup(&one).await;
    yard.restores(0, &one).await;
}

#[tokio::test]
async fn one_clock_that_jumps_shortens_no_grace() {
    let mut yard = Yard::new(11).await;
    let first = yard.backup(&random_bytes(1, 200_000)).await.point;
    yard.backup(&random_bytes(2, 200_000)).await;
    yard.forget(&[first]).await;
    yard.dates[1].0.fetch_add(4_000 * DAY_MS.unsigned_abs(), std::sync::atomic::Ordering::SeqCst);
    assert_eq!(yard.gc().await.unwrap().condemned, 0);
}

#[tokio::test]
async fn a_backup_that_reuses_a_condemned_pack_reads_its_source_again() {
    let mut yard = Yard::new(12).await;
    let (one, two) = (random_bytes(1, 400_000), random_bytes(2, 200_000));
    let first = yard.backup(&one).await.point;
    yard.backup(&two).await;
    yard.forget(&[first]).await;
    yard.days(8).await;
    // The run begins before the packs are condemned and commits after.
    let vault = yard.open().await;
    let source = Box::new(Meanwhile { bytes: one.clone(), yard: Some(yard.handle().await), reads: 0 });
    let report = yard.lab.backup_source(&vault, source).await.unwrap();
    assert_eq!(report.packs_reused, 0, "it must not lean on what was condemned");
    yard.days(2).await;
    let report = yard.gc().await.unwrap();
    assert!(report.swept > 0, "{report:?}");
    yard.restores(0, &one).await;
    assert_full(&yard).await;
}

/// A source during whose first reading the janitor condemns.
struct Meanwhile {
    bytes: Vec<u8>,
    yard: Option<(Vault, Janitor, Catalog, tempfile::TempDir)>,
    reads: usize,
}

impl Source for Meanwhile {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &'static str {
        "bytes"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let content = sink.write(ChunkKind::Data, &mut &self.bytes[..])?;
        self.reads += 1;
        if self.reads == 1 {
            // On a thread of its own: this one is inside a runtime.
            let (vault, janitor, catalog, _dir) = self.yard.take().unwrap();
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(gc::apply(&vault, &catalog, &janitor, &options()))
            };
            assert!(std::thread::spawn(run).join().unwrap()?.condemned > 0);
        }
        Ok(world::stream_reading(content, &self.bytes))
    }
}

#[tokio::test]
async fn a_silent_writer_is_fenced_and_comes_back_under_a_new_epoch() {
    let mut yard = Yard::new(13).await;
    let (one, two) = (random_bytes(1, 200_000), random_bytes(2, 200_000));
    let first = yard.backup(&one).await.point;
    yard.backup(&two).await;
    yard.forget(&[first]).await;
    yard.days(8).await;
    assert!(yard.gc().await.unwrap().condemned > 0);
    yard.days(2).await;
    assert_eq!(yard.gc().await.unwrap().swept, 0);
    yard.days(14).await;
    let report = yard.gc().await.unwrap();
    assert!(report.fenced == 1 && report.swept > 0, "{report:?}");
    yard.restores(0, &two).await;
    let report = yard.backup(&one).await;
    assert_eq!(report.manifest, (2, 2), "after the heartbeat that opens the epoch");
    yard.restores(0, &one).await;
    yard.restores(1, &two).await;
    let next = yard.backup(&two).await;
    assert_eq!(next.manifest, (2, 3));
    assert_full(&yard).await;
    assert!(yard.gc().await.unwrap().failed.is_empty());
}

#[tokio::test]
async fn a_location_away_stops_the_sweep_and_later_loses_its_leftovers() {
    let mut yard = Yard::new(14).await;
    let two = random_bytes(2, 200_000);
    let first = yard.backup(&random_bytes(1, 200_000)).await.point;
    yard.backup(&two).await;
    yard.forget(&[first]).await;
    yard.days(8).await;
    yard.gc().await.unwrap();
    yard.backup(&random_bytes(3, 1000)).await;
    yard.days(2).await;
    yard.lab.down = vec![2];
    // With one of three domains away a tombstone may be hidden: nothing goes.
    assert!(yard.gc().await.is_err());
    yard.restores(1, &two).await;
    yard.lab.down.clear();
    // A copy of the third location from before the sweep comes back after it.
    let old: Vec<(String, Vec<u8>)> = {
        let mut old = Vec::new();
        for name in yard.lab.names(2).await {
            old.push((name.clone(), yard.lab.get(2, &name).await));
        }
        old
    };
    assert!(yard.gc().await.unwrap().swept > 0);
    let swept = yard.shards().await;
    for (name, bytes) in old {
        yard.lab.put(2, &name, bytes).await;
    }
    assert!(yard.shards().await > swept);
    let report = yard.gc().await.unwrap();
    assert!(report.deleted > 0, "{report:?}");
    assert_eq!(yard.shards().await, swept);
    yard.restores(1, &two).await;
    assert_full(&yard).await;
}

/// Ends the janitor at operations all over a run, before and after each was carried
/// out, and lets another finish: what counts always restores.
#[tokio::test]
async fn a_janitor_that_dies_anywhere_costs_nothing() {
    let mut yard = Yard::new(15).await;
    let two = random_bytes(2, 120_000);
    let first = yard.backup(&random_bytes(1, 120_000)).await.point;
    yard.backup(&two).await;
    yard.forget(&[first]).await;
    yard.days(8).await;
    for phase in 0..3 {
        // Condemning; sweeping; the manifest.
        if phase == 1 {
            yard.backup(&random_bytes(3, 1000)).await;
            yard.days(2).await;
        }
        let wire = Tripwire::never();
        let (dates, lab) = (copy_dates(&yard.dates), yard.lab.fork(100 + phase));
        let fork = yard.with(lab, dates);
        let vault = fork.open_through(|_, store| wire.store(store)).await;
        let opened = wire.seen();
        gc::apply(&vault, &fork.catalog, &fork.janitor, &options()).await.unwrap();
        let operations = wire.seen() - opened;
        assert!(operations > 20, "{operations}");
        let step = if world::scale("HOLDFAST_GC_CRASHES") > 1 { 1 } else { operations / 9 + 1 };
        for at in (0..operations).step_by(step) {
            for trip in [Trip::DiesBefore, Trip::DiesAfter, Trip::Fails] {
                let fork = yard.with(yard.lab.fork(at as u64), copy_dates(&yard.dates));
                let wire = Tripwire::new(opened + at, trip);
                let vault = fork.open_through(|_, store| wire.store(store)).await;
                let ended = wire.run(gc::apply(&vault, &fork.catalog, &fork.janitor, &options())).await;
                drop(ended);
                let back = usize::from(phase > 0);
                fork.restores(back, &two).await;
                let report = fork.gc().await.unwrap();
                assert!(report.failed.is_empty(), "{report:?}");
                fork.restores(back, &two).await;
                assert_full(&fork).await;
            }
        }
        yard.gc().await.unwrap();
    }
}
