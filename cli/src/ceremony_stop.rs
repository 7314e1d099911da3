//! A ceremony that is stopped: what is left behind, and what it means.
//!
//! What always holds: whoever interrupts (Ctrl-C, a closed terminal, a stop of the
//! service) gets the screen cleared and every file named that a card was written to;
//! before the commit nothing counts, and that is said. A kill says nothing: then the
//! next ceremony names the files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

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
            text += &format!(
                ". Left behind: {}. Enough of them still give the key: destroy them with shred -u",
                cards.join(", ")
            );
        }
        if let Some(litter) = self.litter.as_ref().filter(|path| path.exists()) {
            text += &format!(". {} holds random data of the rehearsal and may be removed", litter.display());
        }
        text
    }
}

/// Watches for signals until it is dropped.
pub(crate) struct Stop {
    left: Arc<Mutex<Left>>,
    watch: JoinHandle<()>,
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
        let left = Left { nothing, cards: Vec::new(), litter: None, reached: Reached::Nothing };
        let left = Arc::new(Mutex::new(left));
        let watched = Arc::clone(&left);
        let watch = tokio::spawn(async move {
            let code = signalled().await;
            leave_private();
            let text = watched.lock().unwrap_or_else(PoisonError::into_inner).text();
            output.exit_error(code, &format!("interrupted. {text}"));
            std::process::exit(code.into());
        });
        Self { left, watch }
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
        self.watch.abort();
    }
}

/// Waits for a signal that ends programs; its exit code. One that cannot be watched
/// ends the program as it always does.
async fn signalled() -> u8 {
    let wait = |kind: SignalKind, code: u8| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
                code
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        code = wait(SignalKind::interrupt(), 130) => code,
        code = wait(SignalKind::terminate(), 143) => code,
        code = wait(SignalKind::hangup(), 129) => code,
    }
}
