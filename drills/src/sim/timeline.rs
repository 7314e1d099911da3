//! Simulated time, and the executor that runs a future in it.
//!
//! What always holds: one future runs at a time, on the caller's thread; time
//! passes only when that future waits, and then jumps to the earliest moment
//! anything waits for; what waits for the same moment goes on in the order in
//! which it began to wait. So a run depends on its seed and on nothing else.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use vault_ops::world::Clock;

/// 2027-01-15: where every simulated world begins.
pub(super) const START_MS: i64 = 1_800_000_000_000;

/// The world's clock. True time only goes forward; what the machine under test
/// reads from its clock may be years off.
#[derive(Default)]
pub(super) struct Timeline {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// True time since the start.
    now_us: u64,
    /// What the local clock is wrong by.
    skew_ms: i64,
    waiting: BTreeMap<(u64, u64), Waker>,
    tickets: u64,
    crashed: bool,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended<T> {
    /// It came to its end.
    Done(T),
    /// The machine crashed: the future was dropped where it stood.
    Crashed,
    /// It waits for something that will never happen.
    Stuck,
}

impl Timeline {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True time since the start.
    pub(super) fn now_us(&self) -> u64 {
        self.inner().now_us
    }

    /// True wall time.
    pub(super) fn true_ms(&self) -> i64 {
        START_MS + (self.inner().now_us / 1000).cast_signed()
    }

    /// Lets true time pass up to `at_us`; nothing happens if it is past already.
    pub(super) fn pass_until(&self, at_us: u64) {
        let mut inner = self.inner();
        inner.now_us = inner.now_us.max(at_us);
    }

    /// The local clock jumps.
    pub(super) fn skew(&self, ms: i64) {
        let mut inner = self.inner();
        inner.skew_ms = inner.skew_ms.saturating_add(ms);
    }

    /// The local clock is right again.
    pub(super) fn set_right(&self) {
        self.inner().skew_ms = 0;
    }

    /// The machine under test stops here.
    pub(super) fn crash(&self) {
        self.inner().crashed = true;
    }

    /// The machine under test stops at this very line.
    pub(super) fn kill(&self) -> ! {
        self.crash();
        resume_unwind(Box::new(Killed))
    }

    /// Whether it stopped and the future it ran is being dropped.
    pub(super) fn is_crashed(&self) -> bool {
        self.inner().crashed
    }

    /// Waits in true time.
    pub(super) fn wait(self: &Arc<Self>, us: u64) -> Wait {
        Wait { timeline: Arc::clone(self), until: self.now_us().saturating_add(us), ticket: None }
    }

    /// Runs a future until it ends, the machine crashes, or nothing can go on.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> Ended<T> {
        self.inner().crashed = false;
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let ended = {
            let mut future = pin!(future);
            loop {
                if woken.0.swap(false, Ordering::SeqCst) {
                    match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
                        Ok(Poll::Ready(value)) => break Ended::Done(value),
                        Ok(Poll::Pending) => {}
                        Err(panic) if panic.is::<Killed>() => break Ended::Crashed,
                        Err(panic) => resume_unwind(panic),
                    }
                    if self.is_crashed() {
                        break Ended::Crashed;
                    }
                } else if !self.fire() {
                    break Ended::Stuck;
                }
            }
            // The future is dropped here, while `crashed` still says why.
        };
        let mut inner = self.inner();
        inner.waiting.clear();
        inner.crashed = false;
        ended
    }

    /// Goes to the next moment something waits for; false if nothing does.
    fn fire(&self) -> bool {
        let mut inner = self.inner();
        let Some(((at, _), waker)) = inner.waiting.pop_first() else { return false };
        inner.now_us = inner.now_us.max(at);
        drop(inner);
        waker.wake();
        true
    }
}

#[async_trait]
impl Clock for Sight {
    fn now_ms(&self) -> i64 {
        self.0.true_ms().saturating_add(self.0.inner().skew_ms)
    }

    async fn sleep(&self, time: Duration) {
        self.0.wait(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).await;
    }
}

/// The timeline as the machine under test sees it.
pub(super) struct Sight(pub(super) Arc<Timeline>);

/// What unwinds where the machine is killed between two requests.
struct Killed;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// See [`Timeline::wait`].
pub(super) struct Wait {
    timeline: Arc<Timeline>,
    until: u64,
    ticket: Option<u64>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let timeline = Arc::clone(&self.timeline);
        let mut inner = timeline.inner();
        if inner.now_us >= self.until {
            return Poll::Ready(());
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            inner.tickets += 1;
            inner.tickets
        });
        inner.waiting.insert((self.until, ticket), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.timeline.inner().waiting.remove(&(self.until, ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_only_while_everybody_waits_and_in_order() {
        let timeline = Arc::new(Timeline::default());
        let order = Mutex::new(Vec::new());
        let after = |us: u64| {
            let (timeline, order) = (&timeline, &order);
            async move {
                timeline.wait(us).await;
                order.lock().unwrap().push((us, timeline.now_us()));
            }
        };
        let ended = timeline.run(async {
            futures::future::join3(after(30), after(10), after(20)).await;
            assert_eq!(timeline.now_us(), 30);
        });
        assert_eq!(ended, Ended::Done(()));
        assert_eq!(*order.lock().unwrap(), [(10, 10), (20, 20), (30, 30)]);
    }

    #[test]
    fn a_crash_drops_the_future_and_a_hang_is_told() {
        let timeline = Arc::new(Timeline::default());
        let ended = timeline.run(async {
            timeline.wait(5).await;
            timeline.crash();
            std::future::pending::<()>().await;
        });
        assert_eq!(ended, Ended::Crashed);
        assert_eq!(timeline.run(std::future::pending::<()>()), Ended::Stuck);
        assert_eq!(timeline.run(timeline.wait(5)), Ended::Done(()), "and the next run starts clean");
    }

    #[test]
    fn the_local_clock_jumps_and_true_time_does_not() {
        let timeline = Arc::new(Timeline::default());
        let sight = Sight(Arc::clone(&timeline));
        timeline.skew(-86_400_000);
        assert_eq!((sight.now_ms(), timeline.true_ms()), (START_MS - 86_400_000, START_MS));
        timeline.set_right();
        assert_eq!(sight.now_ms(), START_MS);
    }
}
