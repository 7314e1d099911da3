//! What the agent carries away: snapshots and log; and its reports of how far it is.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use kernel_core::{Hash, Lineage};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Door;
use super::answer::{Refusal, blocking, parse};
use super::json::Text;
use super::records::checked;
use crate::cursors::Cursors;
use crate::disk::DiskFile;
use crate::node::SnapshotInfo;

const PIECE_BYTES: usize = 256 << 10;
/// One answer of the log holds at most this much, however much was asked for.
const LOG_BYTES_MAX: usize = 64 << 20;
/// A long poll ends by then.
const WAIT_MS_MAX: u64 = 30_000;

/// Names of the headers that describe a piece of log.
pub(super) const FIRST_HEADER: &str = "x-holdfast-first";
pub(super) const LAST_HEADER: &str = "x-holdfast-last";
pub(super) const LINEAGE_HEADER: &str = "x-holdfast-lineage";

#[derive(Serialize)]
pub(super) struct SnapshotAnswer {
    name: String,
    sequence: u64,
    state_hash: Text<Hash>,
    lineage: Text<Lineage>,
    made_at: i64,
    bytes: u64,
}

impl From<SnapshotInfo> for SnapshotAnswer {
    fn from(info: SnapshotInfo) -> Self {
        let SnapshotInfo { name, sequence, state_hash, lineage, wall_ms, bytes } = info;
        SnapshotAnswer { name, sequence, state_hash: Text(state_hash), lineage: Text(lineage), made_at: wall_ms, bytes }
    }
}

/// POST /v1/snapshot
pub(super) async fn make_snapshot(State(door): State<Door>) -> Result<Json<SnapshotAnswer>, Refusal> {
    Ok(Json(door.node.snapshot().await?.into()))
}

/// GET /v1/snapshots
pub(super) async fn list_snapshots(State(door): State<Door>) -> Json<Vec<SnapshotAnswer>> {
    Json(door.node.snapshots().into_iter().map(SnapshotAnswer::from).collect())
}

/// GET /v1/snapshots/{sequence}
pub(super) async fn download_snapshot(
    State(door): State<Door>,
    Path(sequence): Path<u64>,
) -> Result<Response, Refusal> {
    let (info, file) = door.node.open_snapshot(sequence)?;
    let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, info.bytes.to_string())];
    Ok((headers, Body::from_stream(stream::try_unfold((file, 0), next_piece))).into_response())
}

type Progress = (Box<dyn DiskFile>, u64);

async fn next_piece((file, at): Progress) -> Result<Option<(Bytes, Progress)>, std::io::Error> {
    let read = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read_at(at, &mut piece)?;
        piece.truncate(read);
        Ok::<_, std::io::Error>((file, piece))
    });
    let (file, piece) = read.await.map_err(std::io::Error::other)??;
    if piece.is_empty() {
        return Ok(None);
    }
    let next = at + piece.len() as u64;
    Ok(Some((Bytes::from(piece), (file, next))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    after: u64,
    lineage: Option<Text<Lineage>>,
    max_bytes: Option<u64>,
    #[serde(default)]
    wait_ms: u64,
}

/// GET /v1/wal?after=S: whole records, as framed on disk, up to the newest durable one.
pub(super) async fn log(
    State(door): State<Door>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let query = checked(query)?;
    if query.wait_ms > 0 {
        wait(&door, query.after, query.wait_ms).await;
    }
    let bytes_max = usize::try_from(query.max_bytes.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(LOG_BYTES_MAX);
    let node = door.node.clone();
    let lineage = query.lineage.map(|lineage| lineage.0);
    let tail = blocking(move || Ok(node.log_after(lineage, query.after, bytes_max)?)).await?;
    let mut response = Body::from(tail.bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/octet-stream"));
    let own = door.node.published().at.lineage.to_string();
    let said = [
        (LINEAGE_HEADER, Some(own)),
        (FIRST_HEADER, tail.first.map(|first| first.to_string())),
        (LAST_HEADER, tail.last.map(|last| last.to_string())),
    ];
    for (header, value) in said {
        if let Some(value) = value.and_then(|value| value.parse().ok()) {
            headers.insert(header, value);
        }
    }
    Ok(response)
}

/// Waits for a record after `after`, for the node to stop, or for time to pass.
async fn wait(door: &Door, after: u64, wait_ms: u64) {
    let limit = Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
    let mut stopping: watch::Receiver<bool> = door.stopping.clone();
    let stop = async {
        // A closed channel is no reason to answer early: then only time ends the wait.
        if stopping.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(limit, door.node.published_after(after)) => {}
        () = stop => {}
    }
}

#[derive(Serialize)]
pub(super) struct CursorsAnswer {
    lineage: Text<Lineage>,
    attached: bool,
    durable_seq: u64,
    folded_seq: u64,
    chain_broken_at: u64,
}

fn cursors_answer(lineage: Lineage, cursors: Cursors) -> Json<CursorsAnswer> {
    let Cursors { attached, durable_seq, folded_seq, chain_broken_at } = cursors;
    Json(CursorsAnswer { lineage: Text(lineage), attached, durable_seq, folded_seq, chain_broken_at })
}

/// GET /v1/cursors
pub(super) async fn show_cursors(State(door): State<Door>) -> Json<CursorsAnswer> {
    cursors_answer(door.node.published().at.lineage, door.node.cursors())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CursorsBody {
    lineage: Text<Lineage>,
    durable_seq: u64,
    folded_seq: u64,
}

/// POST /v1/cursors
pub(super) async fn set_cursors(State(door): State<Door>, body: Bytes) -> Result<Json<CursorsAnswer>, Refusal> {
    let body: CursorsBody = parse(&body)?;
    let cursors = door.node.set_cursors(body.lineage.0, body.durable_seq, body.folded_seq).await?;
    Ok(cursors_answer(body.lineage.0, cursors))
}
