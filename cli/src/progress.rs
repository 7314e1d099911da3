//! How far a command has come, for people who wait: one line on standard error that is
//! drawn again and again, or a line now and then for what is no terminal.
//!
//! What always holds: the line goes before anything else is printed, and is gone when
//! the work is; nothing is drawn where nobody looks; a total that is a guess is shown
//! with "~", and no guess is shown once more than that was done.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vault_ops::progress::{Progress, Seen};

use crate::output::{Output, bytes_text};

/// How often a line on a terminal is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// How often a plain line is printed.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// What the rate is taken over: long enough to be calm, short enough to notice a stall.
const RATE_WINDOW_MS: u64 = 10_000;
/// Before this a rate is noise.
const RATE_MS_MIN: u64 = 1_000;
/// Signs of the bar, and whether files are counted, as there is room: the time left is what people want.
const SHAPES: [(usize, bool); 4] = [(16, true), (16, false), (10, false), (0, false)];
/// Signs of a name; of a longer one its end is shown.
const LABEL_CHARS: usize = 20;
/// Where nobody says how wide the terminal is.
const COLUMNS: usize = 80;

/// A line stands on the terminal that is not ended.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// A bar on a terminal, nothing elsewhere.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// A line every few seconds.
    Plain,
    /// Nothing.
    None,
}

/// `auto`, `bar`, `plain` or `none`.
pub(crate) fn style(text: &str) -> Result<Style, String> {
    match text {
        "auto" => Ok(Style::Auto),
        "bar" => Ok(Style::Bar),
        "plain" => Ok(Style::Plain),
        "none" => Ok(Style::None),
        _ => Err("auto, bar, plain or none".to_owned()),
    }
}

impl Style {
    /// What is really shown, and where.
    fn settled(self, output: Output, is_terminal: bool) -> Self {
        match self {
            Self::Auto if output.is_json() || output.is_quiet() || !is_terminal => Self::None,
            Self::Auto => Self::Bar,
            // Both streams are for programs then.
            Self::Bar if output.is_json() => Self::Plain,
            Self::Bar | Self::Plain | Self::None => self,
        }
    }
}

/// Takes the line off the terminal, if one stands there: something else is printed.
pub(crate) fn make_way() {
    if DRAWN.swap(false, Ordering::SeqCst) {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

/// Standard error for whoever else prints there.
pub(crate) fn standard_error() -> std::io::Stderr {
    make_way();
    std::io::stderr()
}

/// Progress is shown as long as this lives.
pub(crate) struct Shown {
    ends: Option<Sender<()>>,
    drawing: Option<JoinHandle<()>>,
}

impl Shown {
    /// Shows what `progress` counts under `label`.
    pub(crate) fn begin(output: Output, style: Style, progress: &Progress, label: &str) -> Self {
        let style = style.settled(output, std::io::stderr().is_terminal());
        if style == Style::None {
            return Self { ends: None, drawing: None };
        }
        let (ends, ended) = channel::<()>();
        let (progress, label) = (progress.clone(), label.to_owned());
        let drawing = std::thread::spawn(move || {
            let began = Instant::now();
            let mut drawing = Drawing { output, style, label, pace: Pace::default(), said: None };
            loop {
                let now = began.elapsed();
                drawing.look(progress.seen(), now);
                match ended.recv_timeout(DRAW_EVERY) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            drawing.end(progress.seen(), began.elapsed());
        });
        Self { ends: Some(ends), drawing: Some(drawing) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        drop(self.ends.take());
        // A panic while drawing has said so itself, and spoils nothing else.
        let _ = self.drawing.take().map(JoinHandle::join);
    }
}

struct Drawing {
    output: Output,
    style: Style,
    label: String,
    pace: Pace,
    said: Option<Duration>,
}

impl Drawing {
    fn look(&mut self, seen: Seen, now: Duration) {
        self.pace.look(now, seen);
        if self.style == Style::Bar {
            self.draw(seen);
        } else if self.said.is_none_or(|said| now >= said + SAY_EVERY) {
            // The first look is at nothing.
            if self.said.replace(now).is_some() {
                self.say(seen);
            }
        }
    }

    /// The last word: what was done in all.
    fn end(&mut self, seen: Seen, now: Duration) {
        self.pace.look(now, seen);
        match self.style {
            Style::Bar => {
                self.draw(seen);
                make_way();
            }
            Style::Auto | Style::Plain | Style::None => self.say(seen),
        }
    }

    fn draw(&self, seen: Seen) {
        let line = bar_line(&self.label, seen, self.pace.figures(seen), columns() - 1);
        DRAWN.store(true, Ordering::SeqCst);
        let mut to = std::io::stderr();
        // A terminal that went away is no reason to stop.
        let _ = write!(to, "\r{line}\x1b[K").and_then(|()| to.flush());
    }

    fn say(&self, seen: Seen) {
        let figures = self.pace.figures(seen);
        if self.output.is_json() {
            self.output.beside_data().event("progress", fields(&self.label, seen, figures));
        } else {
            let _ = writeln!(std::io::stderr(), "{}", plain_line(&self.label, seen, figures));
        }
    }
}

fn columns() -> usize {
    let said = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if said == 0 { COLUMNS } else { said.max(2) }
}

/// How fast it goes, over the last seconds.
#[derive(Default)]
struct Pace {
    /// Milliseconds and bytes, the oldest first.
    looks: VecDeque<(u64, u64)>,
    round: u64,
}

/// What is reckoned from looks at counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    bytes_per_second: Option<u64>,
    seconds_left: Option<u64>,
}

impl Pace {
    fn look(&mut self, now: Duration, seen: Seen) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if seen.round != self.round {
            // It began at nothing, at the last look or after it.
            let began_ms = self.looks.back().map_or(now_ms, |(ms, _)| *ms);
            self.looks = VecDeque::from([(began_ms, 0)]);
            self.round = seen.round;
        }
        self.looks.push_back((now_ms, seen.bytes));
        // One look older than the window stays, or the rate would be of nothing.
        while self.looks.get(1).is_some_and(|(ms, _)| now_ms - ms >= RATE_WINDOW_MS) {
            self.looks.pop_front();
        }
    }

    fn figures(&self, seen: Seen) -> Figures {
        let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) else { return Figures::default() };
        let (took_ms, bytes) = (last.0 - first.0, last.1.saturating_sub(first.1));
        if took_ms < RATE_MS_MIN {
            return Figures::default();
        }
        let rate = bytes.saturating_mul(1000) / took_ms;
        let left = known_total(seen).map(|total| total.saturating_sub(seen.bytes));
        let seconds_left = left.filter(|_| rate > 0).map(|left| left.div_ceil(rate));
        Figures { bytes_per_second: Some(rate), seconds_left }
    }
}

/// The total, as long as it is worth something: not a guess that was passed.
fn known_total(seen: Seen) -> Option<u64> {
    seen.total.bytes.filter(|&total| total > 0 && !(seen.total.is_guess && seen.bytes > total))
}

/// Done of a total in per cent, never more than all of it.
fn percent(done: u64, total: u64) -> u64 {
    (u128::from(done.min(total)) * 100 / u128::from(total.max(1))) as u64
}

/// Parts of a line that both ways of showing have.
fn parts(seen: Seen, figures: Figures, with_files: bool) -> Vec<String> {
    let about = if seen.total.is_guess { "~" } else { "" };
    let files = || (with_files && seen.items > 0).then(|| format!("{} files", seen.items));
    let mut parts = Vec::new();
    match (known_total(seen), seen.total.items.filter(|_| seen.total.bytes.is_none())) {
        (Some(total), _) => {
            parts.push(format!("{about}{}%", percent(seen.bytes, total)));
            parts.push(format!("{}/{about}{}", bytes_text(seen.bytes), bytes_text(total)));
            parts.extend(files());
        }
        (None, Some(items)) => {
            parts.push(format!("{}%", percent(seen.items, items)));
            parts.push(format!("{} of {items}", seen.items));
            // Where no bytes are counted, none are done.
            parts.extend((seen.bytes > 0).then(|| bytes_text(seen.bytes)));
        }
        (None, None) => {
            parts.push(bytes_text(seen.bytes));
            parts.extend(files());
        }
    }
    if let Some(rate) = figures.bytes_per_second.filter(|_| seen.bytes > 0 || seen.total.items.is_none()) {
        parts.push(format!("{}/s", bytes_text(rate)));
    }
    if let Some(seconds) = figures.seconds_left {
        parts.push(format!("ETA {about}{}", clock_text(seconds)));
    }
    parts
}

/// One line of at most so many signs.
fn bar_line(label: &str, seen: Seen, figures: Figures, most: usize) -> String {
    let done = match (known_total(seen), seen.total.items.filter(|_| seen.total.bytes.is_none())) {
        (Some(total), _) => Some(percent(seen.bytes, total)),
        (None, Some(items)) => Some(percent(seen.items, items)),
        (None, None) => None,
    };
    let start = label.chars().count().saturating_sub(LABEL_CHARS);
    let name: String = label.chars().skip(start).collect();
    let dots = if start > 0 { ".." } else { "" };
    let shaped = |(width, with_files): (usize, bool)| {
        let bar = done.filter(|_| width > 0).map(|percent| {
            let full = width * percent as usize / 100;
            let head = if full < width { ">" } else { "" };
            format!("[{:<width$}]  ", "=".repeat(full) + head)
        });
        let figures = parts(seen, figures, with_files).join("  ");
        format!("{dots}{name}  {}  {}{figures}", seen.phase.name(), bar.unwrap_or_default())
    };
    let lines = SHAPES.map(shaped);
    let fitting = lines.iter().find(|line| line.chars().count() <= most).or(lines.last());
    fitting.map(|line| line.chars().take(most).collect()).unwrap_or_default()
}

fn plain_line(label: &str, seen: Seen, figures: Figures) -> String {
    format!("{label}: {} {}", seen.phase.name(), parts(seen, figures, true).join(", "))
}

fn fields(label: &str, seen: Seen, figures: Figures) -> Value {
    json!({
        "label": label, "phase": seen.phase.name(), "bytes": seen.bytes, "items": seen.items,
        "bytes_total": seen.total.bytes, "items_total": seen.total.items, "total_is_guess": seen.total.is_guess,
        "bytes_per_second": figures.bytes_per_second, "seconds_left": figures.seconds_left,
    })
}

/// `0:29`, `12:03`, `1:02:03`.
fn clock_text(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

#[cfg(test)]
mod tests {
    use vault_ops::progress::{Phase, Total};

    use super::*;

    fn seen(bytes: u64, total: Option<u64>, is_guess: bool) -> Seen {
        let total = Total { bytes: total, items: None, is_guess };
        Seen { phase: Phase::Reading, bytes, items: 3, total, round: 1 }
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_the_rest_follows_from_it() {
        let mut pace = Pace::default();
        // 1 MiB a second for a minute, then four times as much.
        let mut bytes = 0;
        for second in 0..=80_u64 {
            pace.look(Duration::from_secs(second), seen(bytes, None, false));
            if second == 0 {
                assert_eq!(pace.figures(seen(bytes, None, false)), Figures::default(), "one look is no rate");
            }
            if second == 59 {
                let figures = pace.figures(seen(bytes, Some(bytes + (10 << 20)), false));
                assert_eq!(figures, Figures { bytes_per_second: Some(1 << 20), seconds_left: Some(10) });
            }
            bytes += if second < 60 { 1 << 20 } else { 4 << 20 };
        }
        let figures = pace.figures(seen(bytes, Some(bytes), false));
        assert_eq!(figures, Figures { bytes_per_second: Some(4 << 20), seconds_left: Some(0) });
        // Another phase begins at nothing, at the last look at the latest.
        pace.look(Duration::from_secs(82), Seen { round: 2, ..seen(2 << 20, None, false) });
        let figures = pace.figures(seen(2 << 20, None, false));
        assert_eq!(figures, Figures { bytes_per_second: Some(1 << 20), seconds_left: None });
    }

    #[test]
    fn a_stall_has_no_end_in_sight() {
        let mut pace = Pace::default();
        for second in 0..=20 {
            pace.look(Duration::from_secs(second), seen(5, Some(10), false));
        }
        let figures = pace.figures(seen(5, Some(10), false));
        assert_eq!(figures, Figures { bytes_per_second: Some(0), seconds_left: None });
    }

    #[test]
    fn lines_say_what_is_known_and_mark_a_guess() {
        let figures = Figures { bytes_per_second: Some(1 << 20), seconds_left: Some(3_725) };
        let line = |most| bar_line("docs", seen(61 << 20, Some(100 << 20), false), figures, most);
        assert_eq!(
            line(100),
            "docs  reading  [=========>      ]  61%  61.0 MiB/100 MiB  3 files  1.00 MiB/s  ETA 1:02:05"
        );
        // In a narrow terminal the time left stays.
        assert_eq!(line(79), "docs  reading  [======>   ]  61%  61.0 MiB/100 MiB  1.00 MiB/s  ETA 1:02:05");
        assert_eq!(line(70), "docs  reading  61%  61.0 MiB/100 MiB  1.00 MiB/s  ETA 1:02:05");
        assert_eq!(line(9), "docs  rea");
        let line = plain_line("docs", seen(61 << 20, Some(100 << 20), true), Figures::default());
        assert_eq!(line, "docs: reading ~61%, 61.0 MiB/~100 MiB, 3 files");
        assert_eq!(plain_line("docs", seen(7, None, false), Figures::default()), "docs: reading 7 B, 3 files");
        let all = bar_line("docs", seen(8, Some(8), false), Figures::default(), 79);
        assert_eq!(all, "docs  reading  [================]  100%  8 B/8 B  3 files");
    }

    #[test]
    fn a_guess_that_was_passed_is_not_shown() {
        let line = plain_line("docs", seen(11, Some(10), true), Figures::default());
        assert_eq!(line, "docs: reading 11 B, 3 files");
        let line = plain_line("docs", seen(11, Some(10), false), Figures::default());
        assert_eq!(line, "docs: reading 100%, 11 B/10 B, 3 files");
    }

    #[test]
    fn where_bytes_are_not_known_before_the_items_are_counted() {
        let total = Total { bytes: None, items: Some(40), is_guess: false };
        let seen = Seen { phase: Phase::Auditing, bytes: 2048, items: 10, total, round: 1 };
        assert_eq!(plain_line("audit", seen, Figures::default()), "audit: auditing 25%, 10 of 40, 2.00 KiB");
    }

    #[test]
    fn nothing_is_drawn_where_nobody_looks() {
        let (plain, json, quiet) = (Output::new(false, false), Output::new(true, false), Output::new(false, true));
        assert_eq!(Style::Auto.settled(plain, true), Style::Bar);
        assert_eq!(Style::Auto.settled(plain, false), Style::None);
        assert_eq!(Style::Auto.settled(json, true), Style::None);
        assert_eq!(Style::Auto.settled(quiet, true), Style::None);
        assert_eq!(Style::Bar.settled(json, true), Style::Plain);
        assert_eq!(Style::Plain.settled(quiet, false), Style::Plain);
        assert_eq!(style("plain"), Ok(Style::Plain));
        assert!(style("loud").is_err());
    }
}
