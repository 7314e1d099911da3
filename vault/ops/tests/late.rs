//! Locations that answer late: a restore asks the data shards first, and others only where
//! one of these takes longer than it usually does. Time here is virtual: it moves when
//! everybody waits.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{Counts, Faults, Faulty, Meter, Metered};
use object_store::ObjectStore;
use tokio::time::Instant;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::restore::OpenPoint;
use vault_ops::shelf::{Appetite, Shelf};
use vault_ops::vault::Vault;
use vault_ops::world::{Clock, Compute, World};
use world::{Lab, Setup, read_stream, rng};

const LOCATIONS: usize = 5;
const BYTES: usize = 9_000_000;
/// How long a slow location takes for every answer.
const SLOW: Duration = Duration::from_secs(100);

struct VirtualClock(Instant);

#[async_trait]
impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        1_800_000_000_000 + self.0.elapsed().as_millis() as i64
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

struct Scene {
    lab: Lab,
    bytes: Vec<u8>,
    meters: Vec<Arc<Meter>>,
    weather: Vec<Faulty>,
    vault: Vault,
}

impl Scene {
    async fn new(seed: u64) -> Self {
        println!("seed {seed}");
        // Packs of 768 KiB: a dozen of them.
        let setup = Setup { class_max: 1, ..Setup::new((3, 5), 1, &[0, 1, 2, 3, 4]) };
        let mut lab = Lab::build(seed, setup).await;
        let bytes = world::random_bytes(seed, BYTES);
        lab.backup(&bytes).await.unwrap();
        let meters: Vec<Arc<Meter>> = (0..LOCATIONS).map(|_| Arc::default()).collect();
        let weather = std::sync::Mutex::new(Vec::new());
        let wrap = |at: usize, store: Arc<dyn ObjectStore>| -> Arc<dyn ObjectStore> {
            let metered = Arc::new(Metered::new(store, Arc::clone(&meters[at])));
            let slow =
                Faulty::new(metered, Box::new(rng(seed))).with_pause(Arc::new(|| Box::pin(tokio::time::sleep(SLOW))));
            weather.lock().unwrap().push(slow.clone());
            Arc::new(slow)
        };
        let mut vault = lab.open_through(wrap).await.unwrap();
        vault.world = World::new(Arc::new(VirtualClock(Instant::now())), Compute::Threads, [7; 32]);
        let weather = weather.into_inner().unwrap();
        Self { lab, bytes, meters, weather, vault }
    }

    async fn open(&self, appetite: Appetite) -> OpenPoint {
        let list = vault_ops::points::list(&self.vault, &self.lab.read_key()).await.unwrap();
        let chosen = list.points.last().unwrap();
        let holdings = list_shards(&self.vault, &self.vault.writer_ids()).await;
        let fetcher = Fetcher::new(self.vault.world.clone(), holdings, Trust::Signed(self.vault.writers.clone()));
        let packs = Shelf::new(fetcher, self.lab.read_key(), Compute::Threads, appetite);
        Arc::new(packs).open(chosen.pack, Some(chosen.record)).await.unwrap()
    }

    fn slow_down(&self, location: usize) {
        self.weather[location].set(Faults { slow: 1_000, ..Faults::default() });
    }

    fn counts(&self) -> Counts {
        self.meters.iter().map(|meter| meter.counts()).fold(Counts::default(), |sum, one| Counts {
            gets: sum.gets + one.gets,
            bytes_down: sum.bytes_down + one.bytes_down,
            ..sum
        })
    }

    async fn read(&self, point: &OpenPoint) -> Duration {
        let begun = Instant::now();
        assert!(read_stream(point).await.unwrap() == self.bytes);
        begun.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_parity_while_the_data_shards_come_in_time() {
    let scene = Scene::new(81).await;
    let point = scene.open(Appetite::Packs).await;
    let before = scene.counts();
    scene.read(&point).await;
    let down = scene.counts().bytes_down - before.bytes_down;
    // Tables of contents, and what of the last pack is empty.
    assert!(down < BYTES as u64 * 13 / 10, "{down} bytes for {BYTES}");
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_done_without_and_who_is_late_again_and_again_is_asked_last() {
    for appetite in [Appetite::Packs, Appetite::Leaves] {
        for slow in 0..LOCATIONS {
            let scene = Scene::new(82).await;
            let point = scene.open(appetite).await;
            scene.slow_down(slow);
            let took = scene.read(&point).await;
            let asked = scene.weather[slow].injected().slow;
            println!("{appetite:?}, location {slow} slow: {took:?}, asked {asked} times");
            assert!(took < SLOW, "nobody waited for it");
            // A dozen packs of four requests each; eight are begun at once, before anybody lost.
            assert!(asked <= 20, "asked {asked} times");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_exactly_k_left_the_slow_ones_are_waited_for() {
    let scene = Scene::new(83).await;
    let point = scene.open(Appetite::Packs).await;
    (0..2).for_each(|down| scene.weather[down].set_down(true));
    scene.slow_down(3);
    assert!(scene.read(&point).await >= SLOW);
}
