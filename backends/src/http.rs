//! The HTTP client under the cloud stores, with answers that keep their meaning.
//!
//! `object_store` retries every 5xx and hides the server's error code in a text. This
//! layer sits below its retry loop and turns final answers into a typed [`Answer`], which
//! is not retried and which [`crate::classify`] finds again:
//!
//! - 501: the server does not know the request and never will (Backblaze B2 answers it to
//!   `If-None-Match`); the default loop would try ten times in three minutes.
//! - 404 with a code that speaks of the bucket, not of the object.
//! - 507, and any answer that speaks of a quota.
//! - 409 that means "someone else is writing it right now", not "it exists".
//! - every other 4xx, so that the operator reads `AccessDenied` and not a stack of texts.
//!
//! Untouched: success, 304, plain 404 and 412, real 409, 408 and 429 and the other 5xx,
//! all of which the library handles well.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};

use crate::Kind;

/// A server's final answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    status: u16,
    /// The server's own code, as in `NoSuchBucket`; empty when it gave none.
    code: String,
    message: String,
}

impl std::error::Error for Answer {}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl Answer {
    /// Reads the code and message of an S3 or Azure error body (XML in both); whatever
    /// else a server sends is kept as the message, cut to a line.
    pub(crate) fn parse(status: u16, body: &[u8]) -> Self {
        const MESSAGE_CHARS_MAX: usize = 300;
        let text = String::from_utf8_lossy(body);
        let element = |name: &str| {
            let start = text.find(&format!("<{name}>"))? + name.len() + 2;
            let end = start + text[start..].find(&format!("</{name}>"))?;
            Some(text[start..end].to_owned())
        };
        // A line of text, whatever a server says.
        let line = |text: String| -> String {
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect()
        };
        let code = line(element("Code").unwrap_or_default());
        let message = line(element("Message").unwrap_or_else(|| text.trim().to_owned()));
        Self { status, code, message }
    }

    pub(crate) fn kind(&self) -> Kind {
        if self.speaks_of_space() {
            return Kind::Full;
        }
        match (self.status, self.code.as_str()) {
            // Wrong until the configuration or the clock changes, although sent as 403.
            (_, "RequestTimeTooSkewed" | "AuthorizationHeaderMalformed") => Kind::Config,
            (401 | 403, _) => Kind::Denied,
            // A range behind the end: the object is shorter than what was stored.
            (416, _) => Kind::Corrupt,
            (408 | 409 | 425 | 429, _) => Kind::Unavailable,
            (400..=499 | 501, _) => Kind::Config,
            _ => Kind::Unavailable,
        }
    }

    pub(crate) fn is_unimplemented(&self) -> bool {
        self.status == 501 || self.code == "NotImplemented"
    }

    /// Not that a checksum was wrong, but that the header is not known: "Unsupported header
    /// 'x-amz-checksum-sha256' received for this API call."
    pub(crate) fn refuses_checksums(&self) -> bool {
        let unknown =
            self.status == 501 || ["NotImplemented", "InvalidArgument", "InvalidRequest"].contains(&&*self.code);
        unknown && self.message.to_ascii_lowercase().contains("x-amz-checksum")
    }

    /// S3-compatible servers differ in how they say it: AWS has no limit, MinIO says
    /// `XMinioStorageFull` and `XMinioAdminBucketQuotaExceeded`, Ceph `QuotaExceeded`,
    /// Backblaze 403 with "storage cap exceeded" in the message.
    fn speaks_of_space(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.status == 507
            || self.code.contains("QuotaExceeded")
            || self.code.contains("StorageFull")
            || self.code == "InsufficientStorage"
            || message.contains("storage cap exceeded")
    }

    fn concerns_the_bucket(&self) -> bool {
        ["NoSuchBucket", "ContainerNotFound", "ResourceNotFound"].contains(&self.code.as_str())
    }

    fn is_a_concurrent_write(&self) -> bool {
        ["ConditionalRequestConflict", "OperationAborted"].contains(&self.code.as_str())
    }

    /// Whether the library's handling of the status would lose what the answer says.
    fn is_final(&self) -> bool {
        match self.status {
            404 => self.concerns_the_bucket(),
            409 => self.is_a_concurrent_write(),
            408 | 412 | 429 => false,
            400..=499 | 501 | 507 => true,
            _ => self.speaks_of_space(),
        }
    }
}

/// Connects as the library does and puts [`Reading`] on top.
#[derive(Debug, Default)]
pub(crate) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Reading { client }))
    }
}

/// Reads failed answers and makes the final ones typed errors.
#[derive(Debug)]
struct Reading {
    client: HttpClient,
}

#[async_trait]
impl HttpService for Reading {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.client.execute(request).await?;
        let status = response.status();
        if !(status.is_client_error() || status.is_server_error()) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let answer = Answer::parse(status.as_u16(), &body);
        if answer.is_final() {
            // "Unknown" is the one kind that is never retried and says nothing false.
            return Err(HttpError::new(HttpErrorKind::Unknown, answer));
        }
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Answer {
        let body = format!("<Error><Code>{code}</Code><Message>said so</Message></Error>");
        Answer::parse(status, body.as_bytes())
    }

    #[test]
    fn answers_are_told_apart() {
        for (status, code, is_final, kind) in [
            (404, "NoSuchKey", false, Kind::Config),
            (404, "NoSuchBucket", true, Kind::Config),
            (403, "AccessDenied", true, Kind::Denied),
            (403, "RequestTimeTooSkewed", true, Kind::Config),
            (403, "QuotaExceeded", true, Kind::Full),
            (507, "", true, Kind::Full),
            (503, "XMinioStorageFull", true, Kind::Full),
            (416, "InvalidRange", true, Kind::Corrupt),
            (503, "SlowDown", false, Kind::Unavailable),
            (500, "InternalError", false, Kind::Unavailable),
            (501, "NotImplemented", true, Kind::Config),
            (409, "ConditionalRequestConflict", true, Kind::Unavailable),
            (409, "BucketNotEmpty", false, Kind::Unavailable),
            (412, "PreconditionFailed", false, Kind::Config),
            (429, "TooManyRequests", false, Kind::Unavailable),
        ] {
            let answer = answer(status, code);
            assert_eq!(answer.is_final(), is_final, "{answer}");
            if is_final {
                assert_eq!(answer.kind(), kind, "{answer}");
            }
        }
        assert!(answer(501, "").is_unimplemented());
        assert_eq!(answer(403, "AccessDenied").to_string(), "the server answered 403 AccessDenied: said so");
    }

    #[test]
    fn any_body_is_readable_text() {
        let answer = Answer::parse(400, b"<Code>Half</Code><Message>no end \x1b[31m");
        assert_eq!(answer.code, "Half");
        assert!(!answer.message.contains('\x1b'));
        assert!(Answer::parse(400, &[0xff; 10_000]).message.chars().count() <= 300);
        // Found by the fuzz target store-answer: the code went to the terminal as it came.
        let code = format!("<Code>\x1b[31m{}</Code>", "long".repeat(1_000));
        let answer = Answer::parse(400, code.as_bytes());
        assert!(!answer.code.contains('\x1b') && answer.code.len() <= 300);
    }
}
