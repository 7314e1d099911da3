//! A ceremony that is stopped: what is left behind, and what it means.
//!
//! What always holds: whoever interrupts (Ctrl-C, Ctrl-\\, a closed terminal, a stop of
//! the service) gets the screen cleared and every file named that a card was written to;
//! before the commit nothing counts, and that is said. A kill says nothing: then the
//! next ceremony names the files. Ctrl-Z is not heard while it lasts: it would leave a
//! card on the screen.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ceremony_terminal::leave_private;
use crate::exit::Failure;
use crate::output::Output;

/// How far the vault heard of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Nothing,
    Commit,
    Committed,
}

struct Left {
    /// What it means that nothing was reached.
    nothing: &'static str,
    cards: Vec<PathBuf>,
    litter: Option<PathBuf>,
    reached: Reached,
    /// What is watched is over: signals do what they do to any program.
    over: bool,
}

impl Left {
    fn text(&self) -> String {
        let mut text = match self.reached {
            Reached::Nothing => self.nothing.to_owned(),
            Reached::Commit => {
                "The commit had begun: the vault may know the new cards or not, and older cards work as before. Run the \
                 ceremony again"
                    .to_owned()
            }
            Reached::Committed => return "The new cards count; a seed that is still on this host is there, too".to_owned(),
        };
        let cards: Vec<String> =
            self.cards.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
        if !cards.is_empty() {
            text.push_str(". Left behind: ");
            text.push_str(&cards.join(", "));
            text.push_str(". Enough of them still give the key: destroy them with shred -u");
        }
        if let Some(litter) = self.litter.as_ref().filter(|path| path.exists()) {
            text.push_str(". ");
            text.push_str(&litter.display().to_string());
            text.push_str(" holds random data of the rehearsal and may be removed");
        }
        text
    }
}

/// How many watch now: typing cards may be part of a ceremony, which goes on after it.
static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// Watches for signals until it is dropped.
pub(crate) struct Stop {
    left: Arc<Mutex<Left>>,
}

impl Stop {
    /// Over a ceremony.
    pub(crate) fn watch(output: Output) -> Self {
        Self::new(output, "Nothing was changed: the vault knows no new card, and older cards work as before")
    }

    /// Over somebody who types cards and changes nothing.
    pub(crate) fn watch_typing(output: Output) -> Self {
        Self::new(output, "Nothing was changed")
    }

    fn new(output: Output, nothing: &'static str) -> Self {
        let left = Left { nothing, cards: Vec::new(), litter: None, reached: Reached::Nothing, over: false };
        let left = Arc::new(Mutex::new(left));
        let watched = Arc::clone(&left);
        // Before anything is shown, not whenever the task comes to run.
        let signals = Signals::watched();
        WATCHING.fetch_add(1, Ordering::SeqCst);
        // It outlives what is watched: a signal that was once taken does nothing by itself any more.
        tokio::spawn(async move {
            let mut signals = signals;
            loop {
                let heard = signals.next().await;
                let left = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if left.over && WATCHING.load(Ordering::SeqCst) > 0 {
                    // Another one knows what is left behind.
                    continue;
                }
                match heard {
                    Heard::Pause if left.over => {
                        // Nobody is left to tell where this fails; the program just goes on.
                        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
                    }
                    Heard::Pause => {}
                    Heard::End(code) => {
                        leave_private();
                        if !left.over {
                            output.exit_error(code, &format!("interrupted. {}", left.text()));
                        }
                        std::process::exit(code.into());
                    }
                }
            }
        });
        Self { left }
    }

    fn with(&self, change: impl FnOnce(&mut Left)) {
        change(&mut self.left.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A file is about to hold a card.
    pub(crate) fn leaves(&self, path: &Path) {
        self.with(|left| left.cards.push(path.to_owned()));
    }

    /// A folder holds what is no secret.
    pub(crate) fn litters(&self, path: &Path) {
        self.with(|left| left.litter = Some(path.to_owned()));
    }

    pub(crate) fn cleaned(&self) {
        self.with(|left| left.litter = None);
    }

    /// From here on the vault may have heard of it.
    pub(crate) fn commits(&self) {
        self.with(|left| left.reached = Reached::Commit);
    }

    pub(crate) fn committed(&self) {
        self.with(|left| left.reached = Reached::Committed);
    }

    /// The failure with what is left behind.
    pub(crate) fn failed(&self, failure: Failure) -> Failure {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).text();
        Failure { text: format!("{}. {left}", failure.text.trim_end_matches('.')), ..failure }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.with(|left| left.over = true);
        WATCHING.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Heard {
    /// Ctrl-Z.
    Pause,
    /// To end, with this exit code.
    End(u8),
}

/// The signals a person or a system stops a program with. One that cannot be watched
/// does what it always does.
struct Signals {
    interrupt: Option<Signal>,
    quit: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
    pause: Option<Signal>,
}

impl Signals {
    fn watched() -> Self {
        let watch = |kind| signal(kind).ok();
        let pause = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
        Self {
            interrupt: watch(SignalKind::interrupt()),
            quit: watch(SignalKind::quit()),
            terminate: watch(SignalKind::terminate()),
            hangup: watch(SignalKind::hangup()),
            pause: watch(pause),
        }
    }

    async fn next(&mut self) -> Heard {
        async fn wait(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = wait(&mut self.interrupt) => Heard::End(130),
            () = wait(&mut self.quit) => Heard::End(131),
            () = wait(&mut self.terminate) => Heard::End(143),
            () = wait(&mut self.hangup) => Heard::End(129),
            () = wait(&mut self.pause) => Heard::Pause,
        }
    }
}
