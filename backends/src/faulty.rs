//! A store that fails as stores do, from a seed: for tests and for the seeded world.
//!
//! What always holds: with the same random numbers and the same order of calls the same
//! faults happen. No clock inside; what "slow" waits for is given by the caller. What was
//! injected is counted, so that a test can show that its weather was not fair.
//!
//! Every fault was seen in the field: a write that timed out and stands there all the same,
//! a write that was acknowledged and is gone, a listing that does not show the newest
//! object yet, an answer that ends early, a flipped bit, a full disk, a dead host.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use rand_core::Rng;

/// How often what goes wrong, per thousand requests; the default is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write fails and leaves nothing.
    pub put_error: u16,
    /// A write times out for the caller, and stands there.
    pub put_landed: u16,
    /// A write is acknowledged, and nothing stands there.
    pub put_vanishes: u16,
    /// A read fails.
    pub get_error: u16,
    /// A read gives the right length with one bit flipped.
    pub get_wrong: u16,
    /// A read ends early without an error.
    pub get_short: u16,
    /// A listing lacks at least the newest object.
    pub list_stale: u16,
    /// A delete fails and deletes nothing.
    pub delete_error: u16,
    /// A request awaits the [`Pause`] first.
    pub slow: u16,
}

/// How often it did go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "one counter per fault of `Faults`")]
pub struct Injected {
    pub put_error: u64,
    pub put_landed: u64,
    pub put_vanishes: u64,
    pub get_error: u64,
    pub get_wrong: u64,
    pub get_short: u64,
    pub list_stale: u64,
    pub delete_error: u64,
    pub slow: u64,
    /// Requests refused because the store was switched down.
    pub down: u64,
    /// Writes refused because the store was switched full.
    pub full: u64,
}

/// What a slow request waits for; a test with a paused clock gives a sleep.
pub type Pause = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A store with faults; clones share one state, so a test keeps a handle.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    weather: Arc<Weather>,
    pause: Pause,
}

struct Weather {
    down: AtomicBool,
    full: AtomicBool,
    state: Mutex<State>,
}

struct State {
    random: Box<dyn Rng + Send>,
    faults: Faults,
    injected: Injected,
    /// The newest objects, which a stale listing may not show yet.
    recent: VecDeque<Path>,
}

const RECENT_MAX: usize = 8;

impl Faulty {
    /// Fair weather until [`Faulty::set`].
    pub fn new(inner: Arc<dyn ObjectStore>, random: Box<dyn Rng + Send>) -> Self {
        let state = State { random, faults: Faults::default(), injected: Injected::default(), recent: VecDeque::new() };
        let weather = Weather { down: AtomicBool::new(false), full: AtomicBool::new(false), state: Mutex::new(state) };
        Self { inner, weather: Arc::new(weather), pause: Arc::new(|| Box::pin(tokio::task::yield_now())) }
    }

    /// What slow requests await; one turn of the scheduler by default.
    #[must_use]
    pub fn with_pause(mut self, pause: Pause) -> Self {
        self.pause = pause;
        self
    }

    /// Changes how often what goes wrong.
    pub fn set(&self, faults: Faults) {
        self.weather.state().faults = faults;
    }

    /// Every request is refused while down; nothing stored is lost.
    pub fn set_down(&self, down: bool) {
        self.weather.down.store(down, Ordering::SeqCst);
    }

    /// Writes are refused with "no space left" while full.
    pub fn set_full(&self, full: bool) {
        self.weather.full.store(full, Ordering::SeqCst);
    }

    /// What went wrong so far.
    pub fn injected(&self) -> Injected {
        self.weather.state().injected
    }

    /// What every request goes through first.
    async fn before(&self) -> Result<()> {
        self.weather.refuse_if_down()?;
        if self.weather.strikes(|f| f.slow, |i| &mut i.slow) {
            (self.pause)().await;
        }
        Ok(())
    }

    async fn before_write(&self) -> Result<()> {
        self.before().await?;
        self.weather.refuse_if_full()?;
        if self.weather.strikes(|f| f.put_error, |i| &mut i.put_error) {
            return Err(failed(io::ErrorKind::ConnectionReset, "injected: write failed"));
        }
        Ok(())
    }

    fn vanishes(&self) -> bool {
        self.weather.strikes(|f| f.put_vanishes, |i| &mut i.put_vanishes)
    }

    /// After a write that stands: the caller may still not learn of it.
    fn after_write(&self, location: &Path) -> Result<()> {
        self.weather.remember(location);
        if self.weather.strikes(|f| f.put_landed, |i| &mut i.put_landed) {
            return Err(failed(io::ErrorKind::TimedOut, "injected: timed out, but it landed"));
        }
        Ok(())
    }

    async fn spoil(&self, result: GetResult) -> Result<GetResult> {
        let wrong = self.weather.strikes(|f| f.get_wrong, |i| &mut i.get_wrong);
        let short = self.weather.strikes(|f| f.get_short, |i| &mut i.get_short);
        if !(wrong || short) {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let attributes = result.attributes.clone();
        let extensions = result.extensions.clone();
        let mut bytes = BytesMut::from(result.bytes().await?.as_ref());
        if wrong && !bytes.is_empty() {
            let at = self.weather.below(bytes.len());
            bytes[at] ^= 1 << self.weather.below(8);
        }
        if short && !bytes.is_empty() {
            bytes.truncate(self.weather.below(bytes.len()));
        }
        let payload = stream::once(async move { Ok(bytes.freeze()) }).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes, extensions })
    }

    /// The names a listing hides: at least the newest, each older one by the toss of a coin.
    fn hidden(&self) -> Vec<Path> {
        if !self.weather.strikes(|f| f.list_stale, |i| &mut i.list_stale) {
            return Vec::new();
        }
        let recent = self.weather.state().recent.clone();
        let mut newest_first = recent.into_iter().rev();
        let mut hidden: Vec<Path> = newest_first.next().into_iter().collect();
        hidden.extend(newest_first.filter(|_| self.weather.below(2) == 0));
        hidden
    }

    fn listing(&self, inner: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        stream::once(async move {
            this.before().await?;
            let hidden = this.hidden();
            let shown = move |object: &ObjectMeta| !hidden.contains(&object.location);
            Ok::<_, Error>(inner.try_filter(move |object| std::future::ready(shown(object))))
        })
        .try_flatten()
        .boxed()
    }
}

impl Weather {
    fn state(&self) -> MutexGuard<'_, State> {
        // Counters and random numbers: a panicking test leaves nothing half done in them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_if_down(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            self.state().injected.down += 1;
            return Err(failed(io::ErrorKind::ConnectionRefused, "injected: down"));
        }
        Ok(())
    }

    fn refuse_if_full(&self) -> Result<()> {
        if self.full.load(Ordering::SeqCst) {
            self.state().injected.full += 1;
            return Err(failed(io::ErrorKind::StorageFull, "injected: no space left"));
        }
        Ok(())
    }

    fn strikes(&self, permille: impl Fn(&Faults) -> u16, counter: impl Fn(&mut Injected) -> &mut u64) -> bool {
        let mut state = self.state();
        let permille = u32::from(permille(&state.faults));
        // No draw without a chance: switching one fault on does not shift the others' draws
        // more than it must.
        let strikes = permille > 0 && state.random.next_u32() % 1_000 < permille;
        if strikes {
            *counter(&mut state.injected) += 1;
        }
        strikes
    }

    fn below(&self, bound: usize) -> usize {
        let draw = self.state().random.next_u64() % bound as u64;
        usize::try_from(draw).expect("below a usize")
    }

    fn remember(&self, location: &Path) {
        let recent = &mut self.state().recent;
        recent.push_back(location.clone());
        if recent.len() > RECENT_MAX {
            recent.pop_front();
        }
    }
}

fn failed(kind: io::ErrorKind, text: &'static str) -> Error {
    Error::Generic { store: "faulty", source: Box::new(io::Error::new(kind, text)) }
}

/// What a store says about a write that it then loses.
fn acknowledged() -> PutResult {
    PutResult { e_tag: Some("\"vanished\"".to_owned()), version: None, extensions: object_store::Extensions::default() }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.weather.state();
        f.debug_struct("Faulty")
            .field("inner", &self.inner)
            .field("faults", &state.faults)
            .field("injected", &state.injected)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.before_write().await?;
        if self.vanishes() {
            return Ok(acknowledged());
        }
        let result = self.inner.put_opts(location, payload, opts).await?;
        self.after_write(location)?;
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.before_write().await?;
        let upload = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FaultyUpload { store: self.clone(), location: location.clone(), upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before().await?;
        if self.weather.strikes(|f| f.get_error, |i| &mut i.get_error) {
            return Err(failed(io::ErrorKind::ConnectionReset, "injected: read failed"));
        }
        let head = options.head;
        let result = self.inner.get_opts(location, options).await?;
        if head { Ok(result) } else { self.spoil(result).await }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut pieces = Vec::with_capacity(ranges.len());
        for range in ranges {
            pieces.push(self.get_range(location, range.clone()).await?);
        }
        Ok(pieces)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .and_then(move |location| {
                let this = this.clone();
                async move {
                    this.before().await?;
                    if this.weather.strikes(|f| f.delete_error, |i| &mut i.delete_error) {
                        return Err(failed(io::ErrorKind::ConnectionReset, "injected: delete failed"));
                    }
                    this.inner.delete(&location).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.before().await?;
        let hidden = self.hidden();
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.retain(|object| !hidden.contains(&object.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.before_write().await?;
        if self.vanishes() {
            return Ok(());
        }
        self.inner.copy_opts(from, to, options).await?;
        self.after_write(to)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.before_write().await?;
        self.inner.rename_opts(from, to, options).await?;
        self.after_write(to)
    }
}

#[derive(Debug)]
struct FaultyUpload {
    store: Faulty,
    location: Path,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.upload.put_part(data);
        let store = self.store.clone();
        Box::pin(async move {
            store.before_write().await?;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.before_write().await?;
        if self.store.vanishes() {
            self.upload.abort().await?;
            return Ok(acknowledged());
        }
        let result = self.upload.complete().await?;
        self.store.after_write(&self.location)?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, classify};
    use object_store::memory::InMemory;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    fn faulty(seed: u64) -> Faulty {
        let random = Box::new(ChaCha8Rng::seed_from_u64(seed));
        Faulty::new(Arc::new(InMemory::new()), random)
    }

    fn always(set: impl Fn(&mut Faults)) -> Faults {
        let mut faults = Faults::default();
        set(&mut faults);
        faults
    }

    async fn read(store: &Faulty, name: &Path) -> Result<Bytes> {
        store.get(name).await?.bytes().await
    }

    #[tokio::test]
    async fn writes_fail_land_or_vanish_as_asked() {
        let store = faulty(1);
        let name = Path::from("a");
        store.set(always(|f| f.put_error = 1_000));
        store.put(&name, "1".into()).await.unwrap_err();
        assert_eq!(classify(&read(&store, &name).await.unwrap_err()), Kind::NotFound);

        store.set(always(|f| f.put_vanishes = 1_000));
        store.put(&name, "2".into()).await.unwrap();
        assert_eq!(classify(&read(&store, &name).await.unwrap_err()), Kind::NotFound);

        store.set(always(|f| f.put_landed = 1_000));
        let lost = store.put(&name, "3".into()).await.unwrap_err();
        assert_eq!(classify(&lost), Kind::Unavailable);
        assert_eq!(read(&store, &name).await.unwrap(), "3");

        store.set(Faults::default());
        store.set_full(true);
        let full = store.put(&name, "4".into()).await.unwrap_err();
        assert_eq!(classify(&full), Kind::Full);
        assert_eq!(read(&store, &name).await.unwrap(), "3");
        store.set_full(false);

        store.set_down(true);
        assert_eq!(classify(&read(&store, &name).await.unwrap_err()), Kind::Unavailable);
        store.list(None).try_collect::<Vec<_>>().await.unwrap_err();
        store.set_down(false);
        assert_eq!(read(&store, &name).await.unwrap(), "3");

        let expected =
            Injected { put_error: 1, put_vanishes: 1, put_landed: 1, full: 1, down: 2, ..Injected::default() };
        assert_eq!(store.injected(), expected);
    }

    #[tokio::test]
    async fn reads_lie_as_asked() {
        let store = faulty(2);
        let name = Path::from("a");
        let good = Bytes::from(vec![7; 1_000]);
        store.put(&name, good.clone().into()).await.unwrap();
        store.set(always(|f| f.get_wrong = 1_000));
        let bad = read(&store, &name).await.unwrap();
        let flipped: u32 = good.iter().zip(&bad).map(|(g, b)| (g ^ b).count_ones()).sum();
        assert_eq!((bad.len(), flipped), (1_000, 1));
        store.set(always(|f| f.get_short = 1_000));
        assert!(read(&store, &name).await.unwrap().len() < 1_000);
        store.set(always(|f| f.list_stale = 1_000));
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert!(listed.is_empty());
        store.set(always(|f| f.delete_error = 1_000));
        store.delete(&name).await.unwrap_err();
        store.set(Faults::default());
        assert_eq!(read(&store, &name).await.unwrap(), good);
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_weather() {
        let weather = async |seed| {
            let store = faulty(seed);
            store.set(always(|f| (f.put_error, f.put_landed, f.slow) = (300, 300, 300)));
            let mut seen = Vec::new();
            for i in 0..200 {
                seen.push(store.put(&Path::from(format!("n{i}")), "x".into()).await.is_ok());
            }
            (seen, store.injected())
        };
        let (first, second) = (weather(3).await, weather(3).await);
        assert_eq!(first, second);
        assert_ne!(first.0, weather(4).await.0);
        assert!(first.1.slow > 20 && first.1.put_landed > 20, "{:?}", first.1);
    }
}
