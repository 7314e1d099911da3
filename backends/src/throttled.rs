//! A limit on bandwidth: what goes up to a store, and what comes down, no faster than so
//! many bytes a second.
//!
//! What always holds: in any stretch of time no more passes than the rate allows for it,
//! one second's worth more, and the one object under way; who came first goes first, so
//! that a large object waits its time and no small ones pass it for ever; what is given up
//! while it waits is not paid for. The clock comes from outside. Only the bytes of objects
//! are counted: requests, listings and the words around them are not.
//!
//! An object is handed to its store whole once it may pass, so a shard of 4 MiB goes at
//! the speed of the line and the next one waits for it: it is the mean that is kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

const NS_PER_MS: i128 = 1_000_000;
const NS_PER_SECOND: i128 = 1_000_000_000;
/// What may pass at once after a pause: the bytes of so much time.
const BURST_NS: i128 = NS_PER_SECOND;

/// The clock of a limit.
#[async_trait]
pub trait Ticks: Send + Sync {
    /// Milliseconds since any moment.
    fn now_ms(&self) -> i64;
    /// Waits.
    async fn sleep(&self, time: Duration);
}

/// A token bucket: a rate that many share. Without a rate everything passes.
#[derive(Debug, Default)]
pub struct Bucket(Mutex<Paid>);

#[derive(Debug, Default)]
struct Paid {
    /// Bytes a second; none for no limit.
    rate: Option<u64>,
    /// When all that was let in so far will be paid for.
    until_ns: i128,
    /// The clock when it was last looked at: wall clocks are set back.
    seen_ns: i128,
}

impl Bucket {
    /// Sets the rate, in bytes a second; none for no limit.
    pub fn set_rate(&self, rate: Option<u64>) {
        self.paid().rate = rate.map(|rate| rate.max(1));
    }

    /// The rate, in bytes a second.
    pub fn rate(&self) -> Option<u64> {
        self.paid().rate
    }

    fn paid(&self) -> MutexGuard<'_, Paid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets so many bytes in behind all that came before; after which wait they may pass,
    /// and what they cost.
    fn admit(&self, bytes: u64, now_ms: i64) -> (Duration, i128) {
        let mut paid = self.paid();
        let Some(rate) = paid.rate else { return (Duration::ZERO, 0) };
        let instant_ns = i128::from(now_ms) * NS_PER_MS;
        // A clock that was set back takes what is owed with it; one set forward pays no more than a pause.
        let back_ns = (paid.seen_ns - instant_ns).max(0);
        let until_ns = (paid.until_ns - back_ns).max(instant_ns - BURST_NS);
        let cost_ns = i128::from(bytes) * NS_PER_SECOND / i128::from(rate);
        paid.until_ns = until_ns + cost_ns;
        paid.seen_ns = instant_ns;
        let wait_ns = u64::try_from((paid.until_ns - instant_ns).max(0)).unwrap_or(u64::MAX);
        (Duration::from_nanos(wait_ns), cost_ns)
    }

    fn give_back(&self, cost_ns: i128) {
        self.paid().until_ns -= cost_ns;
    }
}

/// The limits of one process: of all it sends and fetches, and of each place. Clones share
/// them.
#[derive(Clone)]
pub struct Traffic {
    clock: Arc<dyn Ticks>,
    all: Way,
    places: Arc<Mutex<BTreeMap<String, Way>>>,
}

/// Up and down.
#[derive(Clone, Debug, Default)]
struct Way {
    up: Arc<Bucket>,
    down: Arc<Bucket>,
}

/// Bytes a second, up and down; none for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// What is written.
    pub upload: Option<u64>,
    /// What is read.
    pub download: Option<u64>,
}

impl Way {
    fn set(&self, rates: Rates) {
        self.up.set_rate(rates.upload);
        self.down.set_rate(rates.download);
    }
}

impl Traffic {
    /// No limits yet.
    pub fn new(clock: Arc<dyn Ticks>) -> Self {
        Self { clock, all: Way::default(), places: Arc::default() }
    }

    /// Limits all traffic together.
    pub fn limit(&self, rates: Rates) {
        self.all.set(rates);
    }

    /// What all traffic together is limited to.
    pub fn limits(&self) -> Rates {
        Rates { upload: self.all.up.rate(), download: self.all.down.rate() }
    }

    /// The store of a place behind the limits of all and its own. A place is known by its
    /// name: opened twice, it has one limit.
    pub fn throttle(&self, place: &str, own: Rates, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        let way = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(place.to_owned()).or_default().clone()
        };
        way.set(own);
        let gates = |all: &Arc<Bucket>, own: &Arc<Bucket>| Gate {
            buckets: [Arc::clone(all), Arc::clone(own)],
            clock: Arc::clone(&self.clock),
        };
        Arc::new(Throttled { up: gates(&self.all.up, &way.up), down: gates(&self.all.down, &way.down), inner: store })
    }
}

/// Every bucket that bytes have to pass.
#[derive(Clone)]
struct Gate {
    buckets: [Arc<Bucket>; 2],
    clock: Arc<dyn Ticks>,
}

/// What was let in and did not pass yet.
struct Waiting<'a> {
    gate: &'a Gate,
    costs_ns: [i128; 2],
    passed: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.passed {
            for (bucket, cost_ns) in self.gate.buckets.iter().zip(self.costs_ns) {
                bucket.give_back(cost_ns);
            }
        }
    }
}

impl Gate {
    /// Returns when so many bytes may pass.
    async fn pass(&self, bytes: u64) {
        let now_ms = self.clock.now_ms();
        let [all, own] = &self.buckets;
        let (first, second) = (all.admit(bytes, now_ms), own.admit(bytes, now_ms));
        let wait = first.0.max(second.0);
        let mut waiting = Waiting { gate: self, costs_ns: [first.1, second.1], passed: wait.is_zero() };
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
            waiting.passed = true;
        }
    }
}

/// A store behind a limit.
struct Throttled {
    inner: Arc<dyn ObjectStore>,
    up: Gate,
    down: Gate,
}

impl std::fmt::Debug for Throttled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttled").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Throttled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Throttled {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.up.pass(payload.content_length() as u64).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(ThrottledUpload { upload, up: self.up.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let mut result = self.inner.get_opts(location, options).await?;
        result.payload = match result.payload {
            _ if head => return Ok(result),
            GetResultPayload::Stream(stream) => {
                let down = self.down.clone();
                let paced = stream.then(move |piece| {
                    let down = down.clone();
                    async move {
                        if let Ok(piece) = &piece {
                            down.pass(piece.len() as u64).await;
                        }
                        piece
                    }
                });
                GetResultPayload::Stream(paced.boxed())
            }
            // An open file: what is read from it later is not seen, its length is.
            file @ GetResultPayload::File(..) => {
                self.down.pass(result.range.end - result.range.start).await;
                file
            }
        };
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.down.pass(ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()).await;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

struct ThrottledUpload {
    upload: Box<dyn MultipartUpload>,
    up: Gate,
}

impl std::fmt::Debug for ThrottledUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.upload.fmt(f)
    }
}

#[async_trait]
impl MultipartUpload for ThrottledUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (up, bytes) = (self.up.clone(), data.content_length() as u64);
        let part = self.upload.put_part(data);
        async move {
            up.pass(bytes).await;
            part.await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// Long after any clock began: a new bucket has a second's worth.
    const START_MS: i64 = 1_000_000;

    /// A clock that only sleepers move: the test is exact and takes no time.
    struct Handmade(AtomicI64);

    impl Handmade {
        fn passed_ms(&self) -> i64 {
            self.now_ms() - START_MS
        }
    }

    #[async_trait]
    impl Ticks for Handmade {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }

        async fn sleep(&self, time: Duration) {
            self.0.fetch_add(i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap(), Ordering::Relaxed);
        }
    }

    fn bucket(rate: u64) -> Bucket {
        let bucket = Bucket::default();
        bucket.set_rate(Some(rate));
        bucket
    }

    fn ms(bucket: &Bucket, bytes: u64, now_ms: i64) -> u128 {
        bucket.admit(bytes, now_ms).0.as_millis()
    }

    #[test]
    fn a_second_of_bytes_passes_at_once_and_then_the_rate_holds() {
        let bucket = bucket(1_000);
        assert_eq!(ms(&bucket, 600, 5_000), 0);
        assert_eq!(ms(&bucket, 400, 5_000), 0);
        assert_eq!(ms(&bucket, 500, 5_000), 500);
        assert_eq!(ms(&bucket, 1, 5_000), 501, "behind what came before");
        assert_eq!(ms(&bucket, 0, 5_000), 501);
        // A pause is worth a second, however long it was.
        assert_eq!(ms(&bucket, 1_000, 1_000_000), 0);
        assert_eq!(ms(&bucket, 1_000, 1_000_000), 1_000);
    }

    #[test]
    fn an_object_larger_than_any_burst_passes_after_its_time_and_nothing_passes_it() {
        let bucket = bucket(1_000);
        assert_eq!(ms(&bucket, 10_000, START_MS), 9_000);
        assert_eq!(ms(&bucket, 1, START_MS), 9_001);
        assert_eq!(ms(&bucket, 1, START_MS + 9_001), 1);
    }

    #[test]
    fn without_a_rate_all_passes_and_a_clock_set_back_costs_nothing() {
        assert_eq!(Bucket::default().admit(u64::MAX, 0), (Duration::ZERO, 0));
        let bucket = bucket(1_000);
        assert_eq!(ms(&bucket, 3_000, 1_000_000), 2_000);
        assert_eq!(ms(&bucket, 1_000, 10), 3_000, "what was owed is owed, and no more");
        let largest = Bucket::default();
        largest.set_rate(Some(1));
        largest.admit(u64::MAX, i64::MAX);
    }

    /// Whatever asks when: what passed in any stretch of time is what the rate and one
    /// burst allow, and the object under way.
    #[test]
    fn no_stretch_of_time_sees_more_than_its_share() {
        for seed in 0..200 {
            let mut random = ChaCha20Rng::seed_from_u64(seed);
            let mut below = |most: u64| random.next_u64() % most;
            let rate = 1 + below(5_000);
            let bucket = bucket(rate);
            let (mut now_ms, mut passed) = (50_000_i64, Vec::new());
            for _ in 0..60 {
                now_ms += i64::try_from(below(700)).unwrap();
                let bytes = below(3_000);
                let wait_ns = i128::try_from(bucket.admit(bytes, now_ms).0.as_nanos()).unwrap();
                passed.push((i128::from(now_ms) * NS_PER_MS + wait_ns, bytes));
            }
            assert!(passed.is_sorted_by_key(|(at, _)| *at), "seed {seed}: somebody was passed");
            for first in 0..passed.len() {
                for last in first..passed.len() {
                    let bytes: u64 = passed[first..=last].iter().map(|(_, bytes)| bytes).sum();
                    let took_ns = passed[last].0 - passed[first].0;
                    let allowed = (took_ns + BURST_NS) * i128::from(rate) / NS_PER_SECOND + i128::from(passed[first].1);
                    // Costs are rounded down to a nanosecond each.
                    assert!(i128::from(bytes) <= allowed + 1, "seed {seed}: {bytes} bytes in {took_ns} ns");
                }
            }
        }
    }

    /// A store, its limits and the clock.
    fn limited(all: Rates, own: Rates) -> (Arc<dyn ObjectStore>, Traffic, Arc<Handmade>) {
        let clock = Arc::new(Handmade(AtomicI64::new(START_MS)));
        let traffic = Traffic::new(Arc::clone(&clock) as Arc<dyn Ticks>);
        traffic.limit(all);
        let store = traffic.throttle("place", own, Arc::new(InMemory::new()));
        (store, traffic, clock)
    }

    #[tokio::test]
    async fn what_is_written_and_read_takes_the_time_of_the_slower_limit() {
        let all = Rates { upload: Some(1_000), download: None };
        let own = Rates { upload: Some(500), download: Some(2_000) };
        let (store, traffic, clock) = limited(all, own);
        let name = Path::from("a");
        store.put(&name, vec![0; 5_000].into()).await.unwrap();
        assert_eq!(clock.passed_ms(), 9_000, "5,000 bytes at 500 a second, the first second's worth at once");
        assert_eq!(store.get(&name).await.unwrap().bytes().await.unwrap().len(), 5_000);
        assert_eq!(clock.passed_ms(), 9_000 + 1_500);
        store.get_ranges(&name, &[0..1_000, 4_000..5_000]).await.unwrap();
        assert_eq!(clock.passed_ms(), 10_500 + 1_000);
        store.head(&name).await.unwrap();
        let mut upload = store.put_multipart(&Path::from("b")).await.unwrap();
        upload.put_part(vec![0; 1_000].into()).await.unwrap();
        upload.complete().await.unwrap();
        // 2.5 s passed since the last byte went up: one of them counts.
        assert_eq!(clock.passed_ms(), 11_500 + 1_000);
        assert_eq!(traffic.limits(), all);
    }

    #[tokio::test]
    async fn places_share_the_limit_of_all_and_a_place_opened_twice_has_one() {
        let (first, traffic, clock) = limited(Rates { upload: Some(1_000), download: None }, Rates::default());
        let other = traffic.throttle("other", Rates::default(), Arc::new(InMemory::new()));
        first.put(&Path::from("a"), vec![0; 1_000].into()).await.unwrap();
        other.put(&Path::from("a"), vec![0; 1_000].into()).await.unwrap();
        assert_eq!(clock.passed_ms(), 1_000);
        traffic.limit(Rates::default());
        let rates = Rates { upload: Some(100), download: None };
        let one = traffic.throttle("same", rates, Arc::new(InMemory::new()));
        let two = traffic.throttle("same", rates, Arc::new(InMemory::new()));
        one.put(&Path::from("a"), vec![0; 100].into()).await.unwrap();
        two.put(&Path::from("a"), vec![0; 100].into()).await.unwrap();
        assert_eq!(clock.passed_ms(), 2_000);
    }

    /// Somebody else answered first: what was not fetched is not paid for.
    #[tokio::test]
    async fn what_is_given_up_is_not_paid_for() {
        struct Stuck;
        #[async_trait]
        impl Ticks for Stuck {
            fn now_ms(&self) -> i64 {
                START_MS
            }
            async fn sleep(&self, _: Duration) {
                std::future::pending::<()>().await;
            }
        }
        let traffic = Traffic::new(Arc::new(Stuck));
        traffic.limit(Rates { upload: Some(1_000), download: None });
        let store = traffic.throttle("place", Rates::default(), Arc::new(InMemory::new()));
        let large = Path::from("a");
        let put = store.put(&large, vec![0; 9_000].into());
        assert!(put.now_or_never().is_none(), "it waits");
        store.put(&Path::from("b"), vec![0; 1_000].into()).now_or_never().unwrap().unwrap();
    }
}
