//! Requests and bounded answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Endpoint;
use crate::error::Error;

/// Answers that are not streams are smaller than this, also with ten thousand hits of text.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From one byte to the next; a whole snapshot may take as long as it takes.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// A snapshot of a large state is written and read back before the first byte of the answer.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_hours(1);

#[derive(Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    /// The same without a limit from byte to byte.
    patient: reqwest::Client,
    base: String,
    token: String,
}

/// What the headers of a piece of log say.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
}

/// Bytes as they arrive.
pub struct ByteStream {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
}

impl Stream for ByteStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(context)
    }
}

/// A piece of log as it arrives.
pub struct WalStream {
    /// Sequence of its first record; None if there is none after the one asked for.
    pub first: Option<u64>,
    /// Sequence of its last record.
    pub last: Option<u64>,
    pub(crate) stream: ByteStream,
}

impl Stream for WalStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(context)
    }
}

impl Transport {
    pub(crate) fn new(endpoint: &Endpoint, token: &str) -> Result<Self, Error> {
        let builder = || {
            let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
            match endpoint {
                Endpoint::Tcp(_) => builder,
                Endpoint::Unix(path) => builder.unix_socket(path.clone()),
            }
        };
        let base = match endpoint {
            Endpoint::Tcp(address) if address.contains("://") => address.trim_end_matches('/').to_owned(),
            Endpoint::Tcp(address) => format!("http://{address}"),
            Endpoint::Unix(_) => "http://kernel".to_owned(),
        };
        Ok(Transport {
            http: builder().read_timeout(READ_TIMEOUT).build()?,
            patient: builder().timeout(SNAPSHOT_TIMEOUT).build()?,
            base,
            token: token.to_owned(),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Error> {
        read(self.request(Method::GET, path).query(query).send().await?).await
    }

    pub(crate) async fn post_json<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        read(self.request(Method::POST, path).json(body).send().await?).await
    }

    pub(crate) async fn post_bytes<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, Error> {
        read(self.request(Method::POST, path).body(body).send().await?).await
    }

    pub(crate) async fn post_slow<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let url = format!("{}{path}", self.base);
        read(self.patient.post(url).bearer_auth(&self.token).send().await?).await
    }

    pub(crate) async fn stream(&self, path: &str, query: &[(&str, String)]) -> Result<(ByteStream, Said), Error> {
        let response = self.request(Method::GET, path).query(query).send().await?;
        let response = accepted(response).await?;
        let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse().ok();
        let said = Said { first: number("x-holdfast-first"), last: number("x-holdfast-last") };
        let inner = Box::pin(response.bytes_stream().map_err(Error::from));
        Ok((ByteStream { inner }, said))
    }
}

async fn accepted(response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = bounded(response, ANSWER_BYTES_MAX).await?;
    Err(Error::of_answer(status.as_u16(), &body))
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Error> {
    let body = bounded(accepted(response).await?, ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| Error::Corrupt { what: error.to_string() })
}

async fn bounded(response: Response, max_bytes: usize) -> Result<Vec<u8>, Error> {
    crate::collect(response.bytes_stream().map_err(Error::from), max_bytes).await
}
