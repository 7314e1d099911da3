//! The program as its own process.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Stage;

/// Longest a command or a wait may take. Far above what any needs, so that a busy
/// machine fails no test.
const PATIENCE: Duration = Duration::from_secs(150);
/// The same in long forms.
const LONG_PATIENCE: Duration = Duration::from_secs(3_600);

/// A command that ended.
#[derive(Debug)]
pub struct Ran {
    /// What was typed.
    pub command: String,
    /// Its exit code; minus the signal's number if one killed it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.shown());
        self
    }

    /// Fails unless one of its streams contains the text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "it does not say \"{text}\": {}", self.shown());
        self
    }

    /// Fails if one of its streams contains the text.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        assert!(!self.out.contains(text) && !self.err.contains(text), "it says \"{text}\": {}", self.shown());
        self
    }

    /// Every line of both streams as JSON, standard output first.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| -> Value {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}: {}", self.shown()))
        };
        self.out.lines().chain(self.err.lines()).map(parse).collect()
    }

    /// The events of one kind.
    #[track_caller]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["type"] == kind).collect()
    }

    /// The last line that is no log, which must be a summary, or an error, with the exit code.
    #[track_caller]
    pub fn last(&self) -> Value {
        let mut told = self.lines().into_iter().filter(|line| line["level"].is_null());
        let last = told.next_back().unwrap_or_else(|| panic!("no line at all: {}", self.shown()));
        assert!(last["type"] == "summary" || last["type"] == "exit_error", "the last line is no end: {}", self.shown());
        assert_eq!(last["exit"], self.code, "the last line tells another code: {}", self.shown());
        assert_eq!(last["schema"], 1, "{}", self.shown());
        last
    }

    /// All there is to see, for a failed test.
    pub fn shown(&self) -> String {
        format!("\n$ {}\n{}{}(exit {})", self.command, self.out, self.err, self.code)
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
    command: String,
    out: PathBuf,
    err: PathBuf,
}

impl Stage {
    /// Runs a command to its end.
    pub fn holdfast(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).end()
    }

    /// Runs a command given as owned words too.
    pub fn holdfast_with(&self, arguments: &[&str], more: &[String]) -> Ran {
        let all: Vec<&str> = arguments.iter().copied().chain(more.iter().map(String::as_str)).collect();
        self.holdfast(&all)
    }

    /// Starts a command that stays.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_in(arguments, &[])
    }

    /// Runs a command with more environment.
    pub fn holdfast_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        self.start_in(arguments, environment).end()
    }

    /// On the stage, and with nothing of this machine's user.
    pub(super) fn at_home(&self, command: &mut Command) {
        command
            .current_dir(self.path(""))
            .env("HOLDFAST_CONFIG", self.config())
            .env("HOME", self.path(""))
            .env_remove("HOLDFAST_TEST_ONE_DEVICE")
            .env_remove("HOLDFAST_DIE_AT")
            .env_remove("RUST_LOG");
    }

    /// Runs a command that dies when it comes to a named step.
    pub fn start_killed(&self, arguments: &[&str], more: &[String], at: &str) -> Ran {
        let all: Vec<&str> = arguments.iter().copied().chain(more.iter().map(String::as_str)).collect();
        self.holdfast_in(&all, &[("HOLDFAST_DIE_AT", at)])
    }

    fn start_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let logs = self.path("output");
        fs::create_dir_all(&logs).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (logs.join(format!("{number}.out")), logs.join(format!("{number}.err")));
        let mut command = Command::new(program());
        self.at_home(&mut command);
        command
            .envs(environment.iter().copied())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), command: format!("holdfast {}", arguments.join(" ")), out, err }
    }
}

fn patience() -> Duration {
    if std::env::var_os("HOLDFAST_LONG").is_some() { LONG_PATIENCE } else { PATIENCE }
}

pub(super) fn program() -> std::ffi::OsString {
    std::env::var_os("HOLDFAST_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast").into())
}

impl Running {
    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far, on both streams.
    pub fn said(&self) -> String {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        read(&self.out) + &read(&self.err)
    }

    /// Waits until it has printed this text once more than `before` said.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |said| said.contains(text));
    }

    /// Waits until what it printed is as wanted.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + patience();
        while !wanted(&self.said()) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() || wanted(&self.said()),
                "{} ended without \"{what}\": {}",
                self.command,
                self.said()
            );
            assert!(Instant::now() < deadline, "{} never says \"{what}\": {}", self.command, self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL. True if it was still running.
    pub fn kill(mut self) -> bool {
        // Killing what has ended already is an error that changes nothing.
        let _ = self.child.kill();
        self.child.wait().unwrap().code().is_none()
    }

    /// SIGTERM.
    pub fn ask_to_stop(&self) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        let deadline = Instant::now() + patience();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end; so far: {}", self.command, self.said());
            thread::sleep(Duration::from_millis(2));
        };
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        let read = |path| String::from_utf8(fs::read(path).unwrap()).unwrap();
        Ran {
            command: self.command.clone(),
            code: status.code().unwrap_or(-signal),
            out: read(&self.out),
            err: read(&self.err),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
