//! What can go wrong with a node, by what the caller can do about it.

use std::io;

/// The one error of the kernel node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command or question cannot be fulfilled as asked; nothing was changed.
    #[error(transparent)]
    Kernel(#[from] kernel_core::Error),
    /// Stored data is damaged. Nothing was written; the node does not open.
    #[error(
        "{file} is damaged at {place}: {what}. Nothing was changed; restore from the vault, or put back an undamaged copy of the file"
    )]
    Corrupt {
        /// Name within the data directory.
        file: String,
        /// Sequence or offset, in words.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The data directory is not one of ours, or not in a state we can open.
    #[error("cannot use this data directory: {what}")]
    BadDirectory {
        /// Why, and what to do.
        what: String,
    },
    /// Another process has the data directory open.
    #[error("the data directory {dir} is in use by another process; stop that node first")]
    Locked {
        /// Which.
        dir: String,
    },
    /// A setting this version cannot honour.
    #[error("{setting}: {what}")]
    Unsupported {
        /// Name of the setting.
        setting: &'static str,
        /// Why, and what to do instead.
        what: &'static str,
    },
    /// Another lineage, or a sequence that does not exist in this one.
    #[error("{what}")]
    Conflict {
        /// What disagrees.
        what: String,
    },
    /// It was here once and has been released.
    #[error("{what}")]
    Gone {
        /// What, and what to do.
        what: String,
    },
    /// The node cannot write any more, or is stopping. What was not acknowledged may or may not have happened.
    #[error("the node does not accept writes: {what}")]
    Unavailable {
        /// Why.
        what: String,
    },
    /// The operating system refused.
    #[error("{what} {name}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        name: String,
        /// Its answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, name: &str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what, name: name.to_owned(), source }
    }

    pub(crate) fn damaged_at(file: &str, sequence: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { file: file.to_owned(), place: format!("sequence {sequence}"), what: what.into() }
    }
}
