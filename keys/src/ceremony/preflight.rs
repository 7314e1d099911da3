//! What is looked at before a key is shown to people.
//!
//! What always holds: nothing here stops a ceremony; it says what a watcher could use
//! and how to take it away, and the people decide. Facts come in as an argument.

/// What the host looks like.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Facts {
    /// Network interfaces that are up, without the loopback.
    pub interfaces: Vec<String>,
    /// Swap areas in use that are not compressed memory.
    pub swap: Vec<String>,
    /// A crash of this program would write its memory to disk.
    pub core_dumps: bool,
    /// Standard output is not a terminal.
    pub output_elsewhere: bool,
    /// The terminal is at the other end of a network connection.
    pub remote: bool,
    /// The terminal is inside a multiplexer that keeps what it showed.
    pub multiplexer: bool,
    /// Places of the vault that lie on the disk the card files go to.
    pub beside_cards: Vec<String>,
    /// Card files of sets no vault record knows, in the folder for the cards.
    pub leftovers: Vec<String>,
}

impl Facts {
    /// One sentence or two for each thing a watcher could use.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut warn = |is: bool, text: String| {
            if is {
                out.push(text);
            }
        };
        let up = self.interfaces.join(", ");
        warn(
            !up.is_empty(),
            format!("the network is up ({up}): who controls this host can send the cards away. Unplug it if you can"),
        );
        let swap = self.swap.join(", ");
        warn(
            !swap.is_empty(),
            format!("swap is on ({swap}): memory with the key may be written to disk. Run: swapoff -a"),
        );
        warn(
            self.core_dumps,
            "a crash of this program may write its memory to disk. Run: ulimit -c 0, and see coredump.conf".to_owned(),
        );
        warn(
            self.remote,
            "this terminal is reached over a network: the machine you sit at sees the cards, too".to_owned(),
        );
        warn(
            self.multiplexer,
            "this terminal is inside tmux or screen, which may keep what it showed: use a plain one".to_owned(),
        );
        warn(self.output_elsewhere, "standard output is not a terminal: no card is ever written to it".to_owned());
        let beside = self.beside_cards.join(", ");
        warn(
            !beside.is_empty(),
            format!(
                "the card files go to the disk that also holds {beside}: a thief of the disk has key and data, and its \
                 death takes both. Move the cards to their holders and destroy the files"
            ),
        );
        let left = self.leftovers.join(", ");
        warn(
            !left.is_empty(),
            format!(
                "left by a ceremony that did not end: {left}. No vault record knows them, and enough of them still give the \
                 key: destroy them with shred -u"
            ),
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_host_gives_no_warning_and_each_fact_gives_one() {
        assert!(Facts::default().warnings().is_empty());
        let one = || vec!["x".to_owned()];
        let facts = [
            Facts { interfaces: one(), ..Facts::default() },
            Facts { swap: one(), ..Facts::default() },
            Facts { core_dumps: true, ..Facts::default() },
            Facts { output_elsewhere: true, ..Facts::default() },
            Facts { remote: true, ..Facts::default() },
            Facts { multiplexer: true, ..Facts::default() },
            Facts { beside_cards: one(), ..Facts::default() },
            Facts { leftovers: one(), ..Facts::default() },
        ];
        let mut said: Vec<String> = facts.iter().flat_map(Facts::warnings).collect();
        assert_eq!(said.len(), facts.len());
        said.sort();
        said.dedup();
        assert_eq!(said.len(), facts.len(), "two facts give the same warning");
    }
}
