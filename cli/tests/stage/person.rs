//! A person at a terminal: the program runs in a pseudo-terminal of its own, which the
//! person reads and types into.
//!
//! What always holds: waiting is for text, never for time; the program's controlling
//! terminal is the person's, so that Ctrl-C and the end of input are the real ones.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::Stage;

/// Far above what any answer needs, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(150);

/// What stood on the screen so far, and whether more may come.
type Screen = Arc<(Mutex<(String, bool)>, Condvar)>;

/// Somebody who sits at a terminal in which a command runs.
pub struct Person {
    child: Child,
    command: String,
    keyboard: File,
    screen: Screen,
    /// How far the person has read.
    read: usize,
}

impl Stage {
    /// Starts a command in a terminal of its own.
    pub fn person(&self, arguments: &[&str]) -> Person {
        self.person_in(arguments, &[])
    }

    /// Likewise, with more environment.
    pub fn person_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Person {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(&name).unwrap();
        // It makes the terminal on standard input the controlling one, and becomes the program.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(super::process::program());
        self.at_home(&mut command);
        command.envs(environment.iter().copied()).args(arguments);
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
        let child = command.spawn().unwrap();
        drop(command);
        let keyboard = File::from(master);
        let screen: Screen = Arc::default();
        let (mut eyes, seen) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                // An error is the end: the other side is closed.
                let count = eyes.read(&mut bytes).unwrap_or(0);
                let mut state = seen.0.lock().unwrap();
                state.0.push_str(&String::from_utf8_lossy(&bytes[..count]));
                state.1 |= count == 0;
                seen.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Person { child, command: format!("holdfast {}", arguments.join(" ")), keyboard, screen, read: 0 }
    }
}

impl Person {
    /// Waits for this text behind what was read so far; returns everything up to its end.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.screen.0.lock().unwrap();
        loop {
            if let Some(at) = state.0[self.read..].find(text) {
                let end = self.read + at + text.len();
                let seen = state.0[self.read..end].to_owned();
                self.read = end;
                return seen;
            }
            assert!(!state.1, "{} ended without \"{text}\":\n{}", self.command, state.0);
            assert!(Instant::now() < deadline, "{} never shows \"{text}\":\n{}", self.command, state.0);
            state = self.screen.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Presses keys: `\u{3}` is Ctrl-C, `\u{4}` Ctrl-D.
    pub fn presses(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The program dies without a word.
    pub fn kills_it(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for the end; the exit code (minus a signal's number) and all that was shown.
    #[track_caller]
    pub fn leaves(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let shown = || self.screen.0.lock().unwrap().0.clone();
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.command, shown());
            thread::sleep(Duration::from_millis(5));
        };
        let mut state = self.screen.0.lock().unwrap();
        while !state.1 {
            assert!(Instant::now() < deadline, "the terminal of {} does not close", self.command);
            state = self.screen.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        (status.code().unwrap_or(-signal), state.0.clone())
    }

    /// Waits for the end, which must have this code; all that was shown.
    #[track_caller]
    pub fn ends(self, code: i32) -> String {
        let command = self.command.clone();
        let (found, shown) = self.leaves();
        assert_eq!(found, code, "{command}:\n{shown}");
        shown
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The 33 words of the last card on a piece of the screen, as somebody writes them down.
#[track_caller]
pub fn written_down(screen: &str) -> Vec<String> {
    let card = screen.rsplit("holdfast card").next().unwrap();
    let tokens: Vec<&str> = card.split_whitespace().collect();
    let words = (1..=33).map(|number: u32| {
        let is_it = |pair: &&[&str]| pair[0] == number.to_string() && pair[1].bytes().all(|b| b.is_ascii_lowercase());
        let found = tokens.windows(2).filter(is_it).rfind(|pair| pair[1] != "of");
        found.unwrap_or_else(|| panic!("there is no word {number} in:\n{card}"))[1].to_owned()
    });
    words.collect()
}
