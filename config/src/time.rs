//! Durations and schedules, as people write them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// When something runs.
///
/// Systemd's calendar expressions ("Mon 04:00") come later as one more variant; until then
/// they are refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Once an hour.
    Hourly,
    /// Once a day.
    Daily,
    /// Once a week.
    Weekly,
    /// Once in thirty days.
    Monthly,
    /// So long after the last one began.
    Every(Duration),
}

impl Schedule {
    /// The time between two runs; later than this is overdue.
    pub fn interval(self) -> Duration {
        match self {
            Self::Hourly => Duration::from_hours(1),
            Self::Daily => Duration::from_hours(24),
            Self::Weekly => Duration::from_hours(7 * 24),
            Self::Monthly => Duration::from_hours(30 * 24),
            Self::Every(interval) => interval,
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "hourly" => Ok(Self::Hourly),
            "daily" => Ok(Self::Daily),
            "weekly" => Ok(Self::Weekly),
            "monthly" => Ok(Self::Monthly),
            other => match other.strip_prefix("every ") {
                Some(interval) => duration(interval).map(Self::Every),
                None => Err(format!(
                    "a schedule is hourly, daily, weekly, monthly or \"every 30s\" (any duration); calendar expressions are not supported yet, and {text:?} is none of these"
                )),
            },
        }
    }
}

/// A duration like `30s`, `5m`, `1h 30m`, `7 days`: positive, in units of fixed length.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("a duration is written like 30s, 5m, 1h30m or 7 days; {text:?} is not");
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(format!("months and years differ in length; write {text:?} in days"));
    }
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    match Duration::try_from(signed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("a duration is longer than nothing; {text:?} is not")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("30s", 30), ("5m", 300), ("1h30m", 5_400), ("1h 30m", 5_400), ("7 days", 604_800), ("2 weeks", 1_209_600)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        for bad in ["", "5", "-5s", "0s", "1 month", "soon", "5 parsecs", "999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn schedules() {
        assert_eq!(Schedule::parse("daily"), Ok(Schedule::Daily));
        let often = Schedule::parse("every 30s").unwrap();
        assert_eq!(often.interval(), Duration::from_secs(30));
        for bad in ["Mon 04:00", "*-*-* 04:00", "every", "every day", "30s", ""] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
        assert!(Schedule::parse("Mon 04:00").unwrap_err().contains("not supported yet"));
    }
}
