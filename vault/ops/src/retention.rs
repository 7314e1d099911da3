//! Which points are kept: rules over points, pure.
//!
//! What always holds: within one period the newest point is kept; rules only ever
//! keep, so more rules never keep less; `within` counts back from the newest point,
//! by the calendar; times are UTC. Whether a time can be believed is
//! `honest_times`'s business: a forged one never costs a good point. The rules mean
//! what they mean in the tools people come from; the cases of
//! `testdata/retention` hold.

use std::collections::BTreeSet;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How many of a kind are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// None by this rule.
    #[default]
    None,
    /// So many.
    Most(u32),
    /// All.
    All,
}

impl Count {
    fn is_open(self) -> bool {
        self != Self::None && self != Self::Most(0)
    }

    fn take(&mut self) {
        if let Self::Most(left) = self {
            *left = left.saturating_sub(1);
        }
    }
}

/// A span of the calendar: `1y2m3d4h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the number of these units")]
pub struct Span {
    pub years: u32,
    pub months: u32,
    pub days: u32,
    pub hours: u32,
}

impl Span {
    /// So far before a time. A day that the month has not runs over into the next.
    fn before(self, time_ms: i64) -> i64 {
        let (year, month, day) = civil(time_ms.div_euclid(DAY_MS));
        let months = (year - i64::from(self.years)) * 12 + (month - 1) - i64::from(self.months);
        let first = days_from_civil(months.div_euclid(12), months.rem_euclid(12) + 1, 1);
        let days = first + day - 1 - i64::from(self.days);
        days * DAY_MS + time_ms.rem_euclid(DAY_MS) - i64::from(self.hours) * HOUR_MS
    }
}

/// The rules of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the number, or the span, of points of that spacing")]
pub struct Keep {
    pub last: Count,
    pub hourly: Count,
    pub daily: Count,
    pub weekly: Count,
    pub monthly: Count,
    pub yearly: Count,
    /// All points so far back.
    pub within: Option<Span>,
    pub within_hourly: Option<Span>,
    pub within_daily: Option<Span>,
    pub within_weekly: Option<Span>,
    pub within_monthly: Option<Span>,
    pub within_yearly: Option<Span>,
    /// Points that have all tags of any of these sets.
    pub tags: Vec<Vec<String>>,
}

impl Keep {
    /// No rule: nothing would be kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A point as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// When, milliseconds since 1970.
    pub time_ms: i64,
    /// Its tags.
    pub tags: Vec<String>,
    /// Kept whatever the rules say.
    pub pinned: bool,
}

/// The spacing of a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Period {
    Each,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    /// A number that is the same for two times exactly if they lie in one period.
    fn of(self, time_ms: i64, at: usize) -> i64 {
        let days = time_ms.div_euclid(DAY_MS);
        let (year, month, _) = civil(days);
        match self {
            Self::Each => i64::try_from(at).unwrap_or(i64::MAX),
            Self::Hour => time_ms.div_euclid(HOUR_MS),
            Self::Day => days,
            // Day 0 was a Thursday; weeks begin on Mondays.
            Self::Week => (days + 3).div_euclid(7),
            Self::Month => year * 12 + month,
            Self::Year => year,
        }
    }
}

struct Bucket {
    period: Period,
    count: Count,
    /// Only points after this.
    after_ms: i64,
    last: Option<i64>,
}

/// Which points the rules keep: indices into `points`. The points may stand in any
/// order; of two at one time the later in the list is the newer.
pub fn kept(points: &[Dated], keep: &Keep) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((points[at].time_ms, at)));
    let Some(newest_ms) = order.first().map(|&at| points[at].time_ms) else { return BTreeSet::new() };
    let mut buckets = buckets(keep, newest_ms);
    let mut kept = BTreeSet::new();
    for (nth, &at) in order.iter().enumerate() {
        let point = &points[at];
        let tagged = keep.tags.iter().any(|set| set.iter().all(|tag| point.tags.contains(tag)));
        let within = keep.within.is_some_and(|span| point.time_ms > span.before(newest_ms));
        let mut stays = point.pinned || tagged || within;
        for bucket in &mut buckets {
            stays |= bucket.takes(point.time_ms, nth, nth + 1 == order.len());
        }
        if stays {
            kept.insert(at);
        }
    }
    kept
}

fn buckets(keep: &Keep, newest_ms: i64) -> Vec<Bucket> {
    let counted = [
        (Period::Each, keep.last),
        (Period::Hour, keep.hourly),
        (Period::Day, keep.daily),
        (Period::Week, keep.weekly),
        (Period::Month, keep.monthly),
        (Period::Year, keep.yearly),
    ];
    let within = [
        (Period::Hour, keep.within_hourly),
        (Period::Day, keep.within_daily),
        (Period::Week, keep.within_weekly),
        (Period::Month, keep.within_monthly),
        (Period::Year, keep.within_yearly),
    ];
    let counted = counted.map(|(period, count)| Bucket { period, count, after_ms: i64::MIN, last: None });
    let within = within.into_iter().filter_map(|(period, span)| {
        Some(Bucket { period, count: Count::All, after_ms: span?.before(newest_ms), last: None })
    });
    counted.into_iter().chain(within).collect()
}

impl Bucket {
    /// The oldest point counts as the end of a period that went before: with few
    /// points more is kept, not less.
    fn takes(&mut self, time_ms: i64, nth: usize, oldest: bool) -> bool {
        if !self.count.is_open() || time_ms <= self.after_ms {
            return false;
        }
        let period = Some(self.period.of(time_ms, nth));
        if period == self.last && !oldest {
            return false;
        }
        self.last = period;
        self.count.take();
        true
    }
}

/// A point of a chain, as its writer dates it and as the janitor saw it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// What the writer says.
    pub claimed_ms: i64,
    /// When this janitor saw it first.
    pub first_seen_ms: i64,
}

/// Times to bucket by, for the points of one chain in its order: the writer's, if
/// it does not go back along the chain and is at most a day ahead of the first
/// sight; else the first sight, but not after the next point whose time counts: a
/// janitor that is new here saw all points first today.
pub fn honest_times(chain: &[Claimed]) -> Vec<i64> {
    let mut floor_ms = i64::MIN;
    let counts: Vec<bool> = chain
        .iter()
        .map(|point| {
            let ahead = point.claimed_ms > point.first_seen_ms.saturating_add(DAY_MS);
            let counts = !ahead && point.claimed_ms >= floor_ms;
            if counts {
                floor_ms = point.claimed_ms;
            }
            counts
        })
        .collect();
    let mut next_ms = i64::MAX;
    let mut times = vec![0; chain.len()];
    for (at, point) in chain.iter().enumerate().rev() {
        if counts[at] {
            next_ms = point.claimed_ms;
        }
        times[at] = if counts[at] { point.claimed_ms } else { point.first_seen_ms.min(next_ms) };
    }
    times
}

/// Which points of a chain tell times that agree: a longest run that never goes back,
/// of those not ahead of their first sight. A janitor that comes late cannot tell the
/// near future from the truth, and one point that claims it makes all after it look as
/// if they went back: here it stands alone against them. What the rules keep of these
/// by their own times is kept too, so that it costs none of them.
pub fn agreeing(chain: &[Claimed]) -> Vec<bool> {
    // The last point of the best run of each length, and what each point follows.
    let (mut ends, mut follows): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), vec![None; chain.len()]);
    for (at, point) in chain.iter().enumerate() {
        if point.claimed_ms > point.first_seen_ms.saturating_add(DAY_MS) {
            continue;
        }
        let length = ends.partition_point(|&end| chain[end].claimed_ms <= point.claimed_ms);
        follows[at] = length.checked_sub(1).map(|before| ends[before]);
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut agree = vec![false; chain.len()];
    let mut at = ends.last().copied();
    while let Some(here) = at {
        agree[here] = true;
        at = follows[here];
    }
    agree
}

/// Year, month and day of a day counted from 1970-01-01 (proleptic Gregorian).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        for day in (-800_000..800_000).step_by(37) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
        }
    }

    #[test]
    fn spans_are_counted_by_the_calendar() {
        let at = |year, month, day| days_from_civil(year, month, day) * DAY_MS;
        let month = Span { months: 1, ..Span::default() };
        assert_eq!(month.before(at(2016, 1, 18)), at(2015, 12, 18));
        // September has no 31st.
        assert_eq!(month.before(at(2015, 10, 31)), at(2015, 10, 1));
    }

    #[test]
    fn the_empty_set_of_rules_keeps_only_what_is_pinned() {
        let point = |pinned| Dated { time_ms: 0, tags: Vec::new(), pinned };
        assert_eq!(kept(&[point(false), point(true)], &Keep::default()), BTreeSet::from([1]));
    }

    #[test]
    fn times_that_cannot_be_are_replaced_by_first_sights() {
        let claim = |claimed_ms, first_seen_ms| Claimed { claimed_ms, first_seen_ms };
        let year = 365 * DAY_MS;
        // The second claims to be of the far future, the third of the past.
        let chain = [claim(year, year), claim(90 * year, year + 5), claim(0, year + 9), claim(year + 10, year + 11)];
        assert_eq!(honest_times(&chain), [year, year + 5, year + 9, year + 10]);
        // A janitor that is new here: all are seen first today.
        let today = 99 * year;
        let chain = [claim(year, today), claim(990 * year, today), claim(0, today), claim(year + 10, today)];
        assert_eq!(honest_times(&chain), [year, year + 10, year + 10, year + 10]);
    }
}
