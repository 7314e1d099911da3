//! What a person or a program sees. Plain text on standard output, problems on
//! standard error; with `--json` both are pure JSON lines and the last line is
//! always a `summary` or an `exit_error`.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::progress::make_way;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Standard output is for something else: a file's bytes.
    aside: bool,
    run_id: u32,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, aside: false, run_id: std::process::id() }
    }

    /// The same with every line on standard error: standard output is for data.
    pub(crate) fn beside_data(self) -> Self {
        Self { aside: true, ..self }
    }

    /// Whether both streams are for programs.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether people are to see problems only.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// A line for people; programs get the events.
    pub(crate) fn say(self, line: impl AsRef<str>) {
        if !self.json && !self.quiet {
            self.print(line.as_ref());
        }
    }

    /// A line people see even with `--quiet`: a problem or a warning.
    pub(crate) fn warn(self, line: impl AsRef<str>) {
        if self.json {
            self.event("warning", json!({ "text": line.as_ref() }));
        } else {
            make_way();
            eprintln!("! {}", line.as_ref());
        }
    }

    /// An event for programs.
    pub(crate) fn event(self, kind: &str, fields: Value) {
        if self.json {
            self.print(&self.line(kind, fields).to_string());
        }
    }

    /// The last line of a run that ended as planned.
    pub(crate) fn summary(self, exit: u8, mut fields: Value) {
        if let Value::Object(fields) = &mut fields {
            fields.insert("exit".to_owned(), exit.into());
        }
        self.event("summary", fields);
    }

    /// The last line of a run that failed.
    pub(crate) fn exit_error(self, exit: u8, text: &str) {
        make_way();
        if self.json {
            eprintln!("{}", self.line("exit_error", json!({ "exit": exit, "text": text })));
        } else {
            eprintln!("error: {text}");
        }
    }

    fn print(self, line: &str) {
        make_way();
        // A reader that went away (head, less) ends the output, not the work.
        let _ = if self.aside { writeln!(std::io::stderr(), "{line}") } else { writeln!(std::io::stdout(), "{line}") };
    }

    fn line(self, kind: &str, fields: Value) -> Value {
        let mut line = Map::new();
        line.insert("type".to_owned(), kind.into());
        line.insert("schema".to_owned(), 1.into());
        line.insert("ts".to_owned(), jiff::Timestamp::now().to_string().into());
        line.insert("run_id".to_owned(), self.run_id.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        Value::Object(line)
    }
}

/// Bytes as people read them: three digits, binary units.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 100.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// How long ago, as people say it.
pub(crate) fn ago_text(now_ms: i64, then_ms: i64) -> String {
    let seconds = (now_ms - then_ms).max(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A time as people read it: UTC, to the second.
pub(crate) fn time_text(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown: Vec<String> = [0, 1023, 1024, 1_500_000, 20 << 20, 300 << 30].into_iter().map(bytes_text).collect();
        assert_eq!(shown, ["0 B", "1023 B", "1.00 KiB", "1.43 MiB", "20.0 MiB", "300 GiB"]);
    }
}
