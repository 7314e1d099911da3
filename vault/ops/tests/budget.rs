//! A memory budget, seen from outside: how large packs become, how far the source runs
//! ahead of locations that do not take what it yields, and what a restore keeps.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::{Faults, Faulty, Meter, Metered};
use futures::TryStreamExt;
use object_store::ObjectStore;
use tokio::sync::watch;
use vault_format::body::ChunkKind;
use vault_format::point::SourceKind;
use vault_format::shard::ShardLayout;
use vault_format::suite::Class;
use vault_ops::restore::OpenPoint;
use vault_ops::shelf::{Appetite, Shelf};
use vault_ops::source::{Reading, Sink, Source};
use vault_ops::vault::Vault;
use vault_ops::world::Compute;
use world::{Lab, Setup, random_bytes, read_stream, rng};

const MIB: usize = 1 << 20;
/// The least and a large one.
const BUDGETS: [usize; 2] = [64 * MIB, 1024 * MIB];
/// The body of the largest pack that 64 MiB have room for.
const PACK: usize = 5 * MIB;

async fn lab(seed: u64, class: Class) -> Lab {
    let setup = Setup { class_max: class as u8, ..Setup::new((5, 9), 0, &[0; 9]) };
    Lab::build(seed, setup).await
}

fn within(mut vault: Vault, memory: usize, compute: Compute) -> Vault {
    vault.world = vault.world.with_memory(memory);
    vault.world.compute = compute;
    vault
}

#[tokio::test]
async fn a_small_budget_makes_smaller_packs() {
    // More than the largest body: what is left over goes into smaller packs.
    let bytes = random_bytes(0x6d0, 22 * MIB);
    for (memory, class) in BUDGETS.into_iter().zip([Class::Leaves16, Class::Leaves64]) {
        let mut lab = lab(0x6d0, Class::Leaves64).await;
        let vault = within(lab.open().await.unwrap(), memory, Compute::Inline);
        lab.backup_in(&vault, &bytes).await.unwrap();
        let listed: Vec<_> = lab.stores[0].1.list(Some(&"shards".into())).try_collect().await.unwrap();
        let largest = listed.iter().map(|meta| meta.size).max();
        assert_eq!(largest, Some(ShardLayout::new(class).object_bytes()), "{} MiB", memory / MIB);
    }
}

/// Bytes, of which it is counted how many were taken; the first taking tells it.
struct Watched {
    bytes: Vec<u8>,
    taken: Arc<AtomicUsize>,
    begins: Box<dyn Fn() + Send>,
}

impl Read for Watched {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        (self.begins)();
        let at = self.taken.load(Ordering::SeqCst);
        let count = out.len().min(self.bytes.len() - at);
        out[..count].copy_from_slice(&self.bytes[at..at + count]);
        self.taken.store(at + count, Ordering::SeqCst);
        Ok(count)
    }
}

impl Source for Watched {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &'static str {
        "bytes"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let bytes = self.bytes.clone();
        let content = sink.write(ChunkKind::Data, self)?;
        Ok(world::stream_reading(content, &bytes))
    }
}

/// Locations that take nothing until the source was let run as far as it may.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_runs_ahead_by_as_many_packs_as_there_is_room_for() {
    const BYTES: usize = 12 * PACK;
    let mut ran = Vec::new();
    for memory in BUDGETS {
        let mut lab = lab(0x6d1, Class::Leaves16).await;
        let (open, opened) = watch::channel(false);
        let weather = std::sync::Mutex::new(Vec::new());
        let wrap = |_: usize, store: Arc<dyn ObjectStore>| -> Arc<dyn ObjectStore> {
            let opened = opened.clone();
            let wait = move || {
                let mut opened = opened.clone();
                async move { drop(opened.wait_for(|open| *open).await) }
            };
            let store = Faulty::new(store, Box::new(rng(1))).with_pause(Arc::new(move || Box::pin(wait())));
            weather.lock().unwrap().push(store.clone());
            Arc::new(store)
        };
        let vault = within(lab.open_through(wrap).await.unwrap(), memory, Compute::Threads);
        let weather = weather.into_inner().unwrap();
        let stuck = move || weather.iter().for_each(|store| store.set(Faults { slow: 1_000, ..Faults::default() }));
        let (bytes, taken) = (random_bytes(0x6d1, BYTES), Arc::new(AtomicUsize::new(0)));
        let source = Watched { bytes: bytes.clone(), taken: Arc::clone(&taken), begins: Box::new(stuck) };
        let looks_on = async {
            let (mut before, mut same) = (0, 0);
            while same < 10 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = taken.load(Ordering::SeqCst);
                same = if now == before && now > 0 { same + 1 } else { 0 };
                before = now;
            }
            open.send(true).unwrap();
            before
        };
        let (report, far) = futures::join!(lab.backup_source(&vault, Box::new(source)), looks_on);
        report.unwrap();
        println!("{} MiB: {far} bytes taken", memory / MIB);
        assert_eq!(taken.load(Ordering::SeqCst), BYTES);
        assert!(lab.restore(0).await.unwrap() == bytes);
        ran.push(far);
    }
    // One under way, one that waits, one that is full before the gate, and what is being cut and compressed.
    assert!(ran[0] <= 4 * PACK, "{ran:?}");
    // Two and two.
    assert!(ran[1] > ran[0] && ran[1] <= 10 * PACK, "{ran:?}");
}

#[tokio::test]
async fn a_restore_keeps_what_the_budget_allows_and_reads_the_rest_again() {
    const BYTES: usize = 6 * PACK;
    let mut lab = lab(0x6d2, Class::Leaves16).await;
    let bytes = random_bytes(0x6d2, BYTES);
    lab.backup(&bytes).await.unwrap();
    let mut again = Vec::new();
    for memory in BUDGETS {
        let meter = Arc::new(Meter::default());
        let wrap = |_: usize, store: Arc<dyn ObjectStore>| {
            Arc::new(Metered::new(store, Arc::clone(&meter))) as Arc<dyn ObjectStore>
        };
        let vault = within(lab.open_through(wrap).await.unwrap(), memory, Compute::Inline);
        let list = vault_ops::points::list(&vault, &lab.read_key()).await.unwrap();
        let chosen = list.points.last().unwrap();
        let holdings = vault_ops::fetch::list_shards(&vault, &vault.writer_ids()).await;
        let trust = vault_ops::fetch::Trust::Signed(vault.writers.clone());
        let fetcher = vault_ops::fetch::Fetcher::new(vault.world.clone(), holdings, trust);
        let shelf = Shelf::new(fetcher, lab.read_key(), Compute::Inline, Appetite::Packs);
        let point: OpenPoint = Arc::new(shelf).open(chosen.pack, Some(chosen.record)).await.unwrap();
        assert!(read_stream(&point).await.unwrap() == bytes);
        let before = meter.counts().bytes_down;
        assert!(read_stream(&point).await.unwrap() == bytes);
        again.push(usize::try_from(meter.counts().bytes_down - before).unwrap());
    }
    println!("read again: {again:?}");
    // 7.5 MiB of 30 stay.
    assert!(again[0] >= BYTES - 2 * PACK, "{again:?}");
    assert!(again[1] == 0, "all of it stays: {again:?}");
}
