//! Answers: JSON, and refusals that say what happened and what to do next.

use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// A refusal.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    /// A stable word for programs.
    error: &'static str,
    /// What happened, for people.
    what: String,
    /// What to do.
    next: &'static str,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, what: impl Into<String>, next: &'static str) -> Self {
        Refusal { status, error, what: what.into(), next }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the request does not carry this node's token",
            "send `Authorization: Bearer TOKEN` with the content of the node's token file",
        )
    }

    pub(super) fn bad_body(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_body", what, "correct the body; nothing was changed")
    }

    pub(super) fn bad_query(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", what, "correct the address; nothing was changed")
    }

    fn of_kernel(error: &kernel_core::Error, what: String) -> Self {
        match error {
            kernel_core::Error::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "not_found", what, "check the name or id; nothing was changed")
            }
            kernel_core::Error::Conflict { .. } => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                what,
                "nothing was changed; use another id, or say existing=replace or links=cascade if you mean it",
            ),
            kernel_core::Error::Refused(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", what, "correct the command; nothing was changed")
            }
            kernel_core::Error::Item { error, .. } => Self::of_kernel(error, what),
            kernel_core::Error::Corrupt { .. } | kernel_core::Error::Unsupported { .. } => Self::bad_body(what),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let what = error.to_string();
        match error {
            Error::Kernel(error) => Self::of_kernel(&error, what),
            Error::Conflict { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", what, "read GET /v1/proof/state and go on from there")
            }
            Error::Gone { .. } => Self::new(StatusCode::GONE, "gone", what, "POST /v1/snapshot and start from that"),
            Error::Unavailable { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                what,
                "restart the node, read back what is there, then retry",
            ),
            Error::Corrupt { .. }
            | Error::BadDirectory { .. }
            | Error::Locked { .. }
            | Error::Unsupported { .. }
            | Error::Io { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", what, "look at the node's log and its disk")
            }
        }
    }
}

impl From<kernel_core::Error> for Refusal {
    fn from(error: kernel_core::Error) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self)).into_response()
    }
}

/// Gives refusals that the framework words itself (a body over the limit, an address that is not UTF-8)
/// the shape of all others.
pub(super) async fn shape(response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !status.is_client_error() || is_json {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), 4_096).await.unwrap_or_default();
    let what = String::from_utf8_lossy(&text).into_owned();
    let next = "correct the request; nothing was changed";
    Refusal::new(status, "bad_request", what, next).into_response()
}

/// Parses a body; the error says where.
pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_body(error.to_string()))
}

/// Runs something that takes a while beside the async workers.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => {
            Err(Error::Unavailable { what: "the request was dropped while the node was stopping".to_owned() }.into())
        }
    }
}

pub(super) async fn no_such_route(uri: Uri) -> Refusal {
    let what = format!("there is nothing at {}", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, "no_such_route", what, "see kernel/node/API.md")
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let what = format!("{} does not answer {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", what, "see kernel/node/API.md")
}
