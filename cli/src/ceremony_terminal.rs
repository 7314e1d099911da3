//! The terminal of a ceremony: questions, cards shown to one person, words typed.
//!
//! What always holds: a card is shown on the terminal's second screen, which keeps no
//! lines above it and is cleared before it is left, also when the program is
//! interrupted; what is typed is read byte by byte into memory that is wiped. Words are
//! shown as they are typed: nobody types 33 words blind.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use keys::SecretText;
use keys::ceremony::entry::Entry;

use crate::exit::{self, Failure};
use crate::output::Output;

/// To the second screen, cleared.
const ENTER: &str = "\x1b[?1049h\x1b[2J\x1b[H";
/// Cleared, its scroll-back too, and back to the first.
const LEAVE: &str = "\x1b[2J\x1b[3J\x1b[H\x1b[?1049l";
/// Longest line that is read: what a terminal passes on at most.
const LINE_BYTES_MAX: usize = 4096;

/// Whether the second screen is up: for whoever is interrupted.
static PRIVATE: AtomicBool = AtomicBool::new(false);

/// A person at a terminal.
#[derive(Clone, Copy)]
pub(crate) struct Terminal(());

#[expect(clippy::unused_self, reason = "who has a Terminal knows that a person sits there")]
impl Terminal {
    /// The terminal, if a person sits at both ends of it.
    pub(crate) fn at_hand(output: Output) -> Option<Self> {
        let both = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        (both && !output.is_json()).then_some(Self(()))
    }

    pub(crate) fn say(self, line: impl AsRef<str>) {
        write(&format!("{}\n", line.as_ref()));
    }

    /// A card. Its text goes to the terminal as it is, through no buffer that stays.
    pub(crate) fn show(self, text: &SecretText) {
        write(text.expose_secret());
        write("\n");
    }

    /// One line of what is no secret.
    pub(crate) fn ask(self, prompt: &str) -> Result<String, Failure> {
        Ok(self.line(prompt)?.expose_secret().trim().to_owned())
    }

    /// `yes` or anything else.
    pub(crate) fn agrees(self, prompt: &str) -> Result<bool, Failure> {
        Ok(self.ask(prompt)?.eq_ignore_ascii_case("yes"))
    }

    /// Does something on the second screen.
    pub(crate) fn private<T>(self, show: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        /// Leaves the screen also where something panics.
        struct Leaves;
        impl Drop for Leaves {
            fn drop(&mut self) {
                leave_private();
            }
        }
        PRIVATE.store(true, Ordering::SeqCst);
        let _leaves = Leaves;
        write(ENTER);
        show()
    }

    /// One card, typed line by line; `None` if the first line was empty.
    pub(crate) fn card(self) -> Result<Option<SecretText>, Failure> {
        let mut entry = Entry::new();
        let mut full = false;
        loop {
            let prompt = if full { "mend: ".to_owned() } else { format!("word {}: ", entry.have() + 1) };
            let line = self.line(&prompt)?;
            if line.expose_secret().trim().is_empty() {
                if entry.have() == 0 {
                    return Ok(None);
                }
                if full {
                    (entry, full) = (Entry::new(), false);
                    self.say("  begin again with word 1");
                }
                continue;
            }
            if let Err(error) = entry.line(line.expose_secret()) {
                self.say(format!("  {error}. Go on from word {}", entry.have() + 1));
            }
            match entry.finished() {
                None => {}
                Some(Ok(text)) => return Ok(Some(text)),
                Some(Err(error)) => {
                    full = true;
                    self.say(format!(
                        "  {error}. Mend a word by its number, as in: 7 acid. An empty line begins again"
                    ));
                }
            }
        }
    }

    fn line(self, prompt: &str) -> Result<SecretText, Failure> {
        write(prompt);
        // As long as any line, so that it never grows and leaves a copy behind.
        let mut bytes = Vec::with_capacity(LINE_BYTES_MAX);
        let ended = loop {
            let mut byte = [0];
            match rustix::io::read(std::io::stdin(), &mut byte) {
                Ok(0) => break Some("the input ended".to_owned()),
                Ok(_) if byte[0] == b'\n' => break None,
                Ok(_) if bytes.len() < LINE_BYTES_MAX => bytes.push(byte[0]),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => break Some(format!("reading the terminal: {error}")),
            }
        };
        if let Some(why) = ended {
            drop(keys::SecretBytes::new(bytes));
            return Err(Failure::new(exit::ERROR, why));
        }
        // Letters of another encoding are no words of a card; what they are is said then.
        let text = String::from_utf8(bytes).unwrap_or_else(|error| {
            let lossy = String::from_utf8_lossy(error.as_bytes()).into_owned();
            drop(keys::SecretBytes::new(error.into_bytes()));
            lossy
        });
        Ok(SecretText::new(text))
    }
}

/// Clears the second screen if it is up.
pub(crate) fn leave_private() {
    if PRIVATE.swap(false, Ordering::SeqCst) {
        write(LEAVE);
    }
}

/// Past the library's line buffer, which would keep a copy.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.flush();
    let mut left = text.as_bytes();
    while !left.is_empty() {
        match rustix::io::write(&out, left) {
            Ok(written) => left = &left[written..],
            Err(rustix::io::Errno::INTR) => {}
            // A terminal that went away is noticed when it is read.
            Err(_) => return,
        }
    }
}
