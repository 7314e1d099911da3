//! What the operations take from outside: time, randomness, threads. They enter
//! here and nowhere else, so that a simulated world runs the same code.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backends::{Ticks, Traffic};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::progress::Progress;
use crate::step::Step;

/// Wall time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;
    /// Waits.
    async fn sleep(&self, time: Duration);
}

/// The world's clock for limits on bandwidth.
struct Ticking(Arc<dyn Clock>);

#[async_trait]
impl Ticks for Ticking {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }

    async fn sleep(&self, time: Duration) {
        self.0.sleep(time).await;
    }
}

/// Where processor-bound work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// On the caller's thread: deterministic.
    Inline,
    /// On tokio's blocking threads.
    Threads,
}

impl Compute {
    /// Runs `work`, returning its value.
    ///
    /// # Panics
    /// Passes on a panic of `work`.
    pub async fn run<T, F>(self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Inline => work(),
            Self::Threads => match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }

    /// Starts `work`; the caller is on a thread that may block, and asks for the value
    /// later.
    pub(crate) fn start<T, F>(self, work: F) -> Started<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Inline => Started::Done(work()),
            Self::Threads => Started::Thread(tokio::task::spawn_blocking(work)),
        }
    }

    /// How many pieces of work run at once.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::Inline => 1,
            Self::Threads => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Work that was started; see [`Compute::start`].
pub(crate) enum Started<T> {
    Done(T),
    Thread(tokio::task::JoinHandle<T>),
}

impl<T> Started<T> {
    /// Its value, once it is there.
    ///
    /// # Panics
    /// Passes on a panic of the work.
    pub(crate) fn wait(self) -> T {
        match self {
            Self::Done(value) => value,
            Self::Thread(thread) => match tokio::runtime::Handle::current().block_on(thread) {
                Ok(value) => value,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }
}

/// The memory budget that is used unless another is given, in bytes.
pub const MEMORY: usize = 256 << 20;

/// Told of every step that is reached.
pub type Observer = Arc<dyn Fn(Step) + Send + Sync>;

/// The operations' surroundings.
#[derive(Clone)]
pub struct World {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Where processor-bound work runs.
    pub compute: Compute,
    /// Bytes that one operation may take, about: what is on its way and what is kept.
    pub memory: usize,
    /// What of bandwidth the operations may use; by default all.
    pub traffic: Traffic,
    /// How far what is under way has come, for whoever looks.
    pub progress: Progress,
    entropy: Arc<Mutex<ChaCha20Rng>>,
    observer: Option<Observer>,
}

impl World {
    /// A world whose randomness all comes from `seed` (32 bytes from the
    /// operating system, or a test's seed).
    pub fn new(clock: Arc<dyn Clock>, compute: Compute, seed: [u8; 32]) -> Self {
        let entropy = Arc::new(Mutex::new(ChaCha20Rng::from_seed(seed)));
        let traffic = Traffic::new(Arc::new(Ticking(Arc::clone(&clock))));
        Self { clock, compute, memory: MEMORY, traffic, progress: Progress::default(), entropy, observer: None }
    }

    /// The same world with another memory budget.
    #[must_use]
    pub fn with_memory(self, bytes: usize) -> Self {
        Self { memory: bytes, ..self }
    }

    /// The same world, with somebody who is told of every step.
    #[must_use]
    pub fn observed_by(self, observer: Observer) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Says that a step was reached. Without an observer, nothing.
    pub fn reached(&self, step: Step) {
        if let Some(observer) = &self.observer {
            observer(step);
        }
    }

    /// An independent generator, seeded from the world's.
    pub fn rng(&self) -> ChaCha20Rng {
        let mut seed = [0; 32];
        let mut entropy = self.entropy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        entropy.fill_bytes(&mut seed);
        ChaCha20Rng::from_seed(seed)
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}
