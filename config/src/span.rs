//! Spans of the calendar, as retention rules write them.

/// So far back: `1y2m3d4h`. A month is a month of the calendar, whatever its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the number of these units")]
pub struct Span {
    pub years: u32,
    pub months: u32,
    pub days: u32,
    pub hours: u32,
}

/// More of one unit than this is a mistake.
const MOST: u32 = 10_000;

impl Span {
    /// Reads `30d`, `1y2m3d4h`: `y`, `m` for months, `d`, `h`, each at most once,
    /// in any order.
    ///
    /// # Errors
    /// What is wrong, for a person, if it is something else or nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text)
            .ok_or_else(|| format!("a span is written like 30d or 1y6m (y, m for months, d, h); {text:?} is not"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut span = Self::default();
        let mut digits = String::new();
        for letter in text.trim().chars() {
            if letter.is_ascii_digit() {
                digits.push(letter);
                continue;
            }
            let unit = match letter {
                'y' => &mut span.years,
                'm' => &mut span.months,
                'd' => &mut span.days,
                'h' => &mut span.hours,
                _ => return None,
            };
            if *unit != 0 {
                return None;
            }
            *unit = digits.parse().ok().filter(|count| *count <= MOST)?;
            digits.clear();
        }
        (digits.is_empty() && span != Self::default()).then_some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_the_calendar() {
        let good = Span { years: 1, months: 2, days: 3, hours: 4 };
        assert_eq!(Span::parse("1y2m3d4h"), Ok(good));
        assert_eq!(Span::parse(" 4h3d2m1y "), Ok(good));
        assert_eq!(Span::parse("30d"), Ok(Span { days: 30, ..Span::default() }));
        for wrong in ["", "0d", "30", "d", "1d1d", "1w", "-1d", "10001d", "99999999999d", "1 d 2", "3x", "1d2"] {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
    }
}
