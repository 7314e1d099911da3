//! Asking several locations for as many answers as are needed.
//!
//! What always holds: nobody is asked for more than is needed, but where an answer was
//! no good, or takes longer than 19 of 20 answers of the same location did: then the next
//! in the order is asked too, and whoever is first counts. Who is late several times in
//! a row is asked last. Where everything runs on one thread nobody is late, so what a
//! seed plays does not hang on time; nor where a limit on bandwidth makes all wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use vault_format::LocationId;

use super::{Fetcher, lock};
use crate::world::Compute;

/// Answers of a location that are remembered.
const REMEMBERED: usize = 64;
/// With fewer of them nothing is said of what is usual.
const ENOUGH: usize = 8;
/// How long an answer may take where nothing is known yet.
const UNKNOWN: Duration = Duration::from_secs(1);
/// Nobody is late before this: a second request costs something, too.
const LATE_MIN: Duration = Duration::from_millis(20);
/// After so many lost races in a row a location is asked last.
const LOST_MAX: u8 = 3;

/// What is asked for: a whole shard takes longer than some leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Portion {
    /// All of a shard's payload.
    Shard,
    /// A few leaves.
    Leaves,
}

/// How long locations took.
#[derive(Default)]
pub(super) struct Latencies {
    answers: BTreeMap<(LocationId, Portion), VecDeque<Duration>>,
    lost: BTreeMap<LocationId, u8>,
}

impl Latencies {
    fn answered(&mut self, location: LocationId, portion: Portion, took: Duration) {
        self.lost.remove(&location);
        self.add(location, portion, took);
    }

    /// Somebody else was faster. What it would have taken is at least this.
    fn outrun(&mut self, location: LocationId, portion: Portion, so_far: Duration) {
        let lost = self.lost.entry(location).or_default();
        *lost = lost.saturating_add(1);
        self.add(location, portion, so_far);
    }

    fn add(&mut self, location: LocationId, portion: Portion, took: Duration) {
        let answers = self.answers.entry((location, portion)).or_default();
        if answers.len() == REMEMBERED {
            answers.pop_front();
        }
        answers.push_back(took);
    }

    /// The 95th percentile of what is remembered of a location.
    fn patience(&self, location: LocationId, portion: Portion) -> Duration {
        let Some(answers) = self.answers.get(&(location, portion)).filter(|answers| answers.len() >= ENOUGH) else {
            return UNKNOWN;
        };
        let mut sorted: Vec<Duration> = answers.iter().copied().collect();
        sorted.sort_unstable();
        sorted[(sorted.len() * 95).div_ceil(100) - 1].max(LATE_MIN)
    }

    /// Whether a location was late so often that others are asked before it.
    pub(super) fn is_slow(&self, location: LocationId) -> bool {
        self.lost.get(&location).is_some_and(|&lost| lost >= LOST_MAX)
    }
}

/// Somebody who can be asked for a shard.
pub(super) trait Contender {
    /// Which shard.
    fn index(&self) -> u8;
    /// Where.
    fn location(&self) -> LocationId;
}

/// Who was asked, and since when.
pub(super) struct Asked {
    index: u8,
    location: LocationId,
    since_ms: i64,
    patience: Duration,
    late: bool,
}

impl Fetcher {
    /// Asks contenders in their order until there are `need` answers of different shards;
    /// fewer come back if there are no more. Starts with the answers that are there.
    pub(super) async fn race<T, C, F>(
        &self,
        portion: Portion,
        need: usize,
        mut good: BTreeMap<u8, T>,
        contenders: Vec<C>,
        ask: impl Fn(C) -> F,
    ) -> BTreeMap<u8, T>
    where
        C: Contender,
        F: Future<Output = Option<T>>,
    {
        let mut waiting: VecDeque<C> = contenders.into();
        let mut asked: BTreeMap<usize, Asked> = BTreeMap::new();
        let mut running = FuturesUnordered::new();
        let mut number = 0;
        while good.len() < need {
            while asked.values().filter(|one| !one.late).count() + good.len() < need {
                let taken: BTreeSet<u8> = asked.values().map(|one| one.index).chain(good.keys().copied()).collect();
                let Some(at) = waiting.iter().position(|one| !taken.contains(&one.index())) else { break };
                let Some(next) = waiting.remove(at) else { break };
                number += 1;
                asked.insert(number, self.begin(&next, portion));
                let (answer, this) = (ask(next), number);
                running.push(async move { (this, answer.await) });
            }
            let answer = match self.next_late(&asked) {
                None => running.next().await,
                Some((first, left)) => match select(running.next(), self.world.clock.sleep(left)).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(_) => {
                        asked.entry(first).and_modify(|one| one.late = true);
                        continue;
                    }
                },
            };
            let Some((this, answer)) = answer else { break };
            if let Some(one) = asked.remove(&this) {
                self.answered(&one, portion);
                if let Some(answer) = answer {
                    good.insert(one.index, answer);
                }
            }
        }
        asked.values().filter(|one| one.late).for_each(|one| self.outrun(one, portion));
        good
    }

    /// Notes that somebody is asked now.
    pub(super) fn begin(&self, next: &impl Contender, portion: Portion) -> Asked {
        let location = next.location();
        let patience = lock(&self.latencies).patience(location, portion);
        Asked { index: next.index(), location, since_ms: self.world.now_ms(), patience, late: false }
    }

    /// Notes that it answered.
    pub(super) fn answered(&self, one: &Asked, portion: Portion) {
        lock(&self.latencies).answered(one.location, portion, self.since(one.since_ms));
    }

    /// Notes that somebody else was faster.
    pub(super) fn outrun(&self, one: &Asked, portion: Portion) {
        lock(&self.latencies).outrun(one.location, portion, self.since(one.since_ms));
    }

    /// Whether answers can be late: behind a limit of our own, all would be.
    fn hurries(&self) -> bool {
        self.world.compute == Compute::Threads && self.world.traffic.limits().download.is_none()
    }

    /// Ends when who was asked is late.
    pub(super) async fn late(&self, one: &Asked) {
        if !self.hurries() {
            std::future::pending::<()>().await;
        }
        self.world.clock.sleep(one.patience).await;
    }

    fn since(&self, since_ms: i64) -> Duration {
        Duration::from_millis(self.world.now_ms().saturating_sub(since_ms).max(0).unsigned_abs())
    }

    /// Who will be late first, and in how long.
    fn next_late(&self, asked: &BTreeMap<usize, Asked>) -> Option<(usize, Duration)> {
        if !self.hurries() {
            return None;
        }
        let left = |one: &Asked| one.patience.saturating_sub(self.since(one.since_ms));
        let waiting = asked.iter().filter(|(_, one)| !one.late);
        waiting.map(|(&number, one)| (number, left(one))).min_by_key(|&(_, left)| left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: LocationId = LocationId([1; 16]);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn patience_is_the_95th_percentile_of_the_last_answers() {
        let mut latencies = Latencies::default();
        for took in 1..ENOUGH as u64 {
            latencies.answered(HERE, Portion::Shard, ms(took));
        }
        assert_eq!(latencies.patience(HERE, Portion::Shard), UNKNOWN, "too few to tell");
        for took in 1..=100 {
            latencies.answered(HERE, Portion::Shard, ms(1_000 + took));
        }
        // The last 64 are 37 to 100: the 61st of them is 97.
        assert_eq!(latencies.patience(HERE, Portion::Shard), ms(1_097));
        assert_eq!(latencies.patience(HERE, Portion::Leaves), UNKNOWN, "another size, another time");
        (0..REMEMBERED).for_each(|_| latencies.answered(HERE, Portion::Shard, ms(1)));
        assert_eq!(latencies.patience(HERE, Portion::Shard), LATE_MIN);
    }

    #[test]
    fn who_loses_again_and_again_is_slow_until_it_answers() {
        let mut latencies = Latencies::default();
        for lost in 1..=LOST_MAX {
            latencies.outrun(HERE, Portion::Leaves, ms(5));
            assert_eq!(latencies.is_slow(HERE), lost == LOST_MAX);
        }
        latencies.answered(HERE, Portion::Shard, ms(5));
        assert!(!latencies.is_slow(HERE));
    }
}
