//! Errors, by what the caller can do about them.
//!
//! What always holds: an answer that is not understood is [`Kind::Unavailable`], never
//! [`Kind::NotFound`]. "Not found" is what makes an audit count a shard as lost, so it is
//! said only when a store that works said it about this very object; a bucket that does
//! not exist answers 404 too and is a mistake in the configuration.

use std::error::Error as StdError;
use std::io;

use crate::folder::FolderGone;
use crate::http::Answer;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The store works and has no such object: look elsewhere, repair.
    NotFound,
    /// An object of that name is there, or a condition on it failed: compare, then go on.
    Exists,
    /// The credentials do not allow it: a person must change rights.
    Denied,
    /// Not now: down, unplugged, slow, overloaded. Try again later, or elsewhere.
    Unavailable,
    /// No space or quota left: place elsewhere, tell the operator.
    Full,
    /// The store has something that cannot be what was stored: it ends before the range
    /// that was asked for.
    Corrupt,
    /// Wrong URL, bucket, region, clock or a missing feature: the configuration must change.
    Config,
}

impl Kind {
    /// Whether the same request may succeed later without anyone's help.
    pub fn retryable(self) -> bool {
        self == Self::Unavailable
    }
}

/// A failure of a location. `what` names the operation and the object, `why` gives the
/// store's own reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the two fields are described above")]
pub enum BackendError {
    /// See [`Kind::NotFound`].
    #[error("{what}: not found ({why})")]
    NotFound { what: String, why: String },
    /// See [`Kind::Exists`].
    #[error("{what}: already there ({why})")]
    Exists { what: String, why: String },
    /// See [`Kind::Denied`].
    #[error("{what}: access denied ({why})")]
    Denied { what: String, why: String },
    /// See [`Kind::Unavailable`].
    #[error("{what}: not reachable now ({why})")]
    Unavailable { what: String, why: String },
    /// See [`Kind::Full`].
    #[error("{what}: no space left ({why})")]
    Full { what: String, why: String },
    /// See [`Kind::Corrupt`].
    #[error("{what}: damaged ({why})")]
    Corrupt { what: String, why: String },
    /// See [`Kind::Config`].
    #[error("{what}: {why}")]
    Config { what: String, why: String },
}

impl BackendError {
    /// An error of that kind.
    pub fn new(kind: Kind, what: impl Into<String>, why: impl Into<String>) -> Self {
        let (what, why) = (what.into(), why.into());
        match kind {
            Kind::NotFound => Self::NotFound { what, why },
            Kind::Exists => Self::Exists { what, why },
            Kind::Denied => Self::Denied { what, why },
            Kind::Unavailable => Self::Unavailable { what, why },
            Kind::Full => Self::Full { what, why },
            Kind::Corrupt => Self::Corrupt { what, why },
            Kind::Config => Self::Config { what, why },
        }
    }

    /// Names a store's error: `what` is the operation and object, as in "put x/y".
    pub fn from_store(what: impl Into<String>, error: &object_store::Error) -> Self {
        Self::new(classify(error), what, reason(error))
    }

    /// What the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Exists { .. } => Kind::Exists,
            Self::Denied { .. } => Kind::Denied,
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::Full { .. } => Kind::Full,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Config { .. } => Kind::Config,
        }
    }
}

/// What the caller can do about an error of the storage trait.
pub fn classify(error: &object_store::Error) -> Kind {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => Kind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => Kind::Exists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Kind::Denied,
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => Kind::Config,
        Error::Generic { .. } => classify_chain(error),
        // A task that panicked or was cancelled at shutdown, and what later versions add:
        // nothing is known about the object.
        Error::JoinError { .. } | _ => Kind::Unavailable,
    }
}

/// Whether the server said that it does not know this kind of request.
pub(crate) fn is_unimplemented(error: &object_store::Error) -> bool {
    find::<Answer>(error).is_some_and(Answer::is_unimplemented)
}

/// Whether the server said that it does not know checksums of uploads.
pub(crate) fn refuses_checksums(error: &object_store::Error) -> bool {
    find::<Answer>(error).is_some_and(Answer::refuses_checksums)
}

fn classify_chain(error: &object_store::Error) -> Kind {
    if let Some(answer) = find::<Answer>(error) {
        return answer.kind();
    }
    if find::<FolderGone>(error).is_some() {
        return Kind::Unavailable;
    }
    if let Some(error) = find::<io::Error>(error) {
        return classify_io(error);
    }
    // The library's folder and memory stores say this of a range behind the end, with a
    // private type; the contract suite holds the words. S3 answers 416.
    let mut words = causes(error).map(ToString::to_string);
    if words.any(|cause| cause.contains("but object was only")) {
        return Kind::Corrupt;
    }
    Kind::Unavailable
}

pub(crate) fn classify_io(error: &io::Error) -> Kind {
    use io::ErrorKind as Io;
    #[allow(clippy::wildcard_enum_match_arm, reason = "the system's list of errors is open")]
    match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Kind::Full,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => Kind::Denied,
        // A name the file system cannot hold will not fit tomorrow either.
        Io::InvalidFilename | Io::NotADirectory | Io::IsADirectory => Kind::Config,
        _ => Kind::Unavailable,
    }
}

/// The most telling line of an error: the server's or the system's own words.
fn reason(error: &object_store::Error) -> String {
    if let Some(answer) = find::<Answer>(error) {
        return answer.to_string();
    }
    if let Some(gone) = find::<FolderGone>(error) {
        return gone.to_string();
    }
    if let object_store::Error::Generic { source, .. } = error {
        return source.to_string();
    }
    error.to_string()
}

/// The first error of that type in the chain of causes.
fn find<E: StdError + 'static>(error: &object_store::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref::<E>())
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(source) }
    }

    #[test]
    fn the_systems_errors_are_told_apart() {
        for (errno, kind) in [
            (28, Kind::Full),         // ENOSPC
            (122, Kind::Full),        // EDQUOT
            (13, Kind::Denied),       // EACCES
            (30, Kind::Denied),       // EROFS
            (5, Kind::Unavailable),   // EIO
            (116, Kind::Unavailable), // ESTALE
            (36, Kind::Config),       // ENAMETOOLONG
        ] {
            let error = generic(io::Error::from_raw_os_error(errno));
            assert_eq!(classify(&error), kind, "errno {errno}");
        }
    }

    #[test]
    fn what_is_not_understood_is_unavailable_never_not_found() {
        let error = generic(io::Error::other("a new kind of trouble"));
        assert_eq!(classify(&error), Kind::Unavailable);
        assert!(Kind::Unavailable.retryable());
        let text = BackendError::from_store("get a/b", &error).to_string();
        assert_eq!(text, "get a/b: not reachable now (a new kind of trouble)");
    }

    #[test]
    fn every_kind_has_its_error() {
        for kind in
            [Kind::NotFound, Kind::Exists, Kind::Denied, Kind::Unavailable, Kind::Full, Kind::Corrupt, Kind::Config]
        {
            assert_eq!(BackendError::new(kind, "w", "y").kind(), kind);
        }
    }
}
