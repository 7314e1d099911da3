//! What can go wrong with a request, by what the caller can do.

use serde::Deserialize;

/// The one error of the kernel client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or it broke off. A write may or may not have happened: read back, then retry.
    #[error("the kernel node cannot be reached: {what}")]
    Unreachable {
        /// Why.
        what: String,
    },
    /// The token is not the node's.
    #[error("the kernel node refuses the token: {what}")]
    Denied {
        /// What it says.
        what: String,
    },
    /// What the request names is not there.
    #[error("{what}")]
    NotFound {
        /// What the node says.
        what: String,
    },
    /// It collides with what is there, or belongs to another lineage. Nothing was changed.
    #[error("{what}")]
    Conflict {
        /// What the node says.
        what: String,
    },
    /// The request breaks a rule; correct it. Nothing was changed.
    #[error("{what}")]
    Refused {
        /// What the node says.
        what: String,
    },
    /// It was released: the chain is broken there. Take a new snapshot.
    #[error("{what}")]
    Gone {
        /// What the node says.
        what: String,
    },
    /// The node is there but cannot serve: stopping, failing disk. A write may or may not have happened.
    #[error("the kernel node cannot serve: {what}")]
    Unavailable {
        /// What it says.
        what: String,
    },
    /// The answer is not what a node of ours says.
    #[error("the kernel node's answer makes no sense: {what}")]
    Corrupt {
        /// Why.
        what: String,
    },
}

/// A refusal as the node writes it.
#[derive(Deserialize)]
struct Refusal {
    what: String,
    next: String,
}

impl Error {
    /// From the status and body of a refusal.
    pub(crate) fn of_answer(status: u16, body: &[u8]) -> Error {
        let what = serde_json::from_slice::<Refusal>(body).map_or_else(
            |_| format!("status {status} without a reason"),
            |refusal| format!("{} (next: {})", refusal.what, refusal.next),
        );
        match status {
            401 | 403 => Error::Denied { what },
            404 => Error::NotFound { what },
            409 => Error::Conflict { what },
            410 => Error::Gone { what },
            400..=499 => Error::Refused { what },
            _ => Error::Unavailable { what },
        }
    }

    /// From an error of our own kernel code about bytes or commands.
    #[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` wants")]
    pub(crate) fn of_kernel(error: kernel_core::Error) -> Error {
        let what = error.to_string();
        match error {
            kernel_core::Error::NotFound { .. } => Error::NotFound { what },
            kernel_core::Error::Conflict { .. } => Error::Conflict { what },
            kernel_core::Error::Refused(_) | kernel_core::Error::Item { .. } => Error::Refused { what },
            kernel_core::Error::Corrupt { .. } | kernel_core::Error::Unsupported { .. } => Error::Corrupt { what },
        }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        let mut what = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            what = format!("{what}: {inner}");
            cause = inner.source();
        }
        Error::Unreachable { what }
    }
}
