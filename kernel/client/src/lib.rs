//! The kernel node's typed client.
//!
//! Writes travel as the kernel's own command bytes, so nothing is converted on the way: what a program
//! builds is what is logged, hashed and backed up. Snapshots and log are streams; everything else is small
//! and bounded. Errors say what the caller can do.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answers;
mod error;
mod transport;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use kernel_core::{Claim, Command, Id, Lineage, Name, Proof, Space};
use serde_json::json;

pub use answers::{CollectionInfo, Cursors, Found, Health, SnapshotInfo, StateProof, Written};
pub use error::Error;
pub use kernel_core as core;
use transport::Transport;
pub use transport::{ByteStream, WalStream};

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://HOST:PORT`, or `HOST:PORT`.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// A client of one node. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Makes a client; connects with the first request.
    pub fn new(endpoint: &Endpoint, token: &str) -> Result<Client, Error> {
        Ok(Client { transport: Transport::new(endpoint, token)? })
    }

    /// Reads a token file.
    pub fn read_token(path: &Path) -> Result<String, Error> {
        let read = std::fs::read_to_string(path);
        read.map(|text| text.trim_end().to_owned())
            .map_err(|error| Error::Refused { what: format!("cannot read the token file {}: {error}", path.display()) })
    }

    /// Is it there? Needs no token.
    pub async fn health(&self) -> Result<Health, Error> {
        self.transport.get("/v1/health", &[]).await
    }

    /// Where its state stands.
    pub async fn state(&self) -> Result<StateProof, Error> {
        self.transport.get("/v1/proof/state", &[]).await
    }

    /// Applies a command; answers once it is durable.
    pub async fn apply(&self, command: &Command) -> Result<Written, Error> {
        let bytes = command.encode().map_err(Error::of_kernel)?;
        self.transport.post_bytes("/v1/commands", bytes).await
    }

    /// The nearest records, nearest first.
    pub async fn search(
        &self,
        collection: &Name,
        query: &[f32],
        limit: u32,
        tag: Option<u64>,
    ) -> Result<Vec<Found>, Error> {
        let body = json!({ "vector": query, "limit": limit, "tag": tag, "with_metadata": true });
        let path = format!("/v1/collections/{collection}/search");
        let answer: answers::SearchAnswer = self.transport.post_json(&path, &body).await?;
        Ok(answer.hits)
    }

    /// A record, with the proof that it is in the state whose hash comes with it; None if it is not there.
    /// The proof is checked against the hash the node names: compare that with one you trust.
    pub async fn record(&self, collection: &Name, id: Id) -> Result<Option<kernel_core::Record>, Error> {
        let space = Space::Living(kernel_core::ThingType::Record, id);
        let (proof, state) = self.prove(&Claim { collection: collection.clone(), space }).await?;
        match proof.verify(&state).map_err(Error::of_kernel)? {
            kernel_core::Verdict::Present(kernel_core::Thing::Record(record)) => Ok(Some(record)),
            kernel_core::Verdict::Present(_) | kernel_core::Verdict::Absent => Ok(None),
            kernel_core::Verdict::NoCollection => Err(Error::NotFound { what: format!("no collection {collection}") }),
        }
    }

    /// A proof for a claim, and the state hash the node says it belongs to.
    pub async fn prove(&self, claim: &Claim) -> Result<(Proof, kernel_core::Hash), Error> {
        let Space::Living(thing, id) = claim.space else {
            return Err(Error::Refused { what: "the node proves living things only".to_owned() });
        };
        let path = format!("/v1/proof/{}/{}/{id}", thing.noun(), claim.collection);
        let answer: answers::ProofAnswer = self.transport.get(&path, &[]).await?;
        let proof = Proof::decode(&answer.proof).map_err(Error::of_kernel)?;
        if proof.claim() != claim {
            return Err(Error::Corrupt { what: "the node proved something else".to_owned() });
        }
        Ok((proof, answer.state_hash))
    }

    /// Makes a snapshot of the newest durable state, or names the one that is there.
    pub async fn make_snapshot(&self) -> Result<SnapshotInfo, Error> {
        self.transport.post_slow("/v1/snapshot").await
    }

    /// The snapshots that can be downloaded, oldest first.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, Error> {
        self.transport.get("/v1/snapshots", &[]).await
    }

    /// Downloads a snapshot. The stream ends with an error if the connection breaks before the end.
    pub async fn snapshot(&self, sequence: u64) -> Result<ByteStream, Error> {
        self.transport.stream(&format!("/v1/snapshots/{sequence}"), &[]).await.map(|(stream, _)| stream)
    }

    /// Whole log records after `after`, end to end: at least one if there is one, then as many as fit
    /// `max_bytes`, up to the newest durable one. With `wait_ms` it waits that long for the first.
    pub async fn wal(&self, lineage: Lineage, after: u64, max_bytes: u64, wait_ms: u64) -> Result<WalStream, Error> {
        let query = [
            ("after", after.to_string()),
            ("lineage", lineage.to_string()),
            ("max_bytes", max_bytes.to_string()),
            ("wait_ms", wait_ms.to_string()),
        ];
        let (stream, said) = self.transport.stream("/v1/wal", &query).await?;
        Ok(WalStream { first: said.first, last: said.last, stream })
    }

    /// How far the agent is.
    pub async fn cursors(&self) -> Result<Cursors, Error> {
        self.transport.get("/v1/cursors", &[]).await
    }

    /// Reports how far the agent is. Cursors only move forward.
    pub async fn set_cursors(&self, lineage: Lineage, durable_seq: u64, folded_seq: u64) -> Result<Cursors, Error> {
        let lineage = lineage.to_string();
        let body = json!({ "lineage": lineage, "durable_seq": durable_seq, "folded_seq": folded_seq });
        self.transport.post_json("/v1/cursors", &body).await
    }
}

/// Collects a stream into memory, refusing to grow beyond `max_bytes`.
pub async fn collect(stream: impl Stream<Item = Result<Bytes, Error>>, max_bytes: usize) -> Result<Vec<u8>, Error> {
    use futures::TryStreamExt;
    let add = |mut all: Vec<u8>, piece: Bytes| async move {
        if all.len() + piece.len() > max_bytes {
            return Err(Error::Refused { what: format!("the answer is longer than {max_bytes} bytes") });
        }
        all.extend_from_slice(&piece);
        Ok(all)
    };
    stream.try_fold(Vec::new(), add).await
}
